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
// The package does no input or output, reads no clock, starts no goroutine and
// calculates in integers alone: the same calls lead to the same placements on
// every machine. It depends on nothing but the standard library.
package scheduler
