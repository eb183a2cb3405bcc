// Package scheduler places replicas on virtual nodes.
//
// A [Cluster] holds nodes and what is placed on them. [Cluster.Register] checks a
// [Template], what every replica of a service asks, and returns its [Shape];
// [Cluster.Schedule] chooses a node for one more replica of a shape and places it
// there, [Cluster.Assign] records one that runs already, [Cluster.Release] takes
// one away. Filters say which nodes can take a replica, scores of 0 to 100 by the
// formulas of Kubernetes' default profile which of them should, with the weights
// of the [Policy]; the highest sum wins, and among equals the node that was added
// first. [Cluster.Explain] tells every filter's verdict on every node, every
// score, and why none will do.
//
// A choice is the one that a look at all nodes would make, without that look. Nodes
// that differ in nothing but in what is placed on them are a class; within it they
// are sorted by how much they are used and by how evenly, so that few of them need
// to be scored: the bounds say what the others can score at most. The first choice
// after a release begins with the node that was left. For a shape that is placed
// many times in a row a tree of the scores takes the place of the search.
// Where a template asks for something that single nodes decide in a way that has no
// index, all are looked at.
//
// The package does no input or output, reads no clock, starts no goroutine and
// calculates in integers alone: the same calls lead to the same placements on
// every machine. It depends on nothing but the standard library.
package scheduler
