package scheduler

import (
	"cmp"
	"slices"
)

// nodeTree finds the node to which a replica adds least to the squared use,
// without a look at most of the others. The growth of a square rises with the
// use it starts from; so no node of a branch adds less than a node of that size
// with the least use that there is of each resource anywhere on the branch.
type nodeTree struct {
	draft    *draft
	branches []branch
	roots    []int32 // one for each size of node
	leaf     []int32 // by node; -1: it cannot receive
	moves    int     // since the tree was made
}

// branch is some nodes of one size.
type branch struct {
	nodes []*node
	up    int32 // -1: a root
	down  int32 // the first of two branches that follow each other; -1: a leaf
	least amounts
	cost  amounts // what that use adds to the squared use
}

// leafSize is how many nodes a leaf has at most.
const leafSize = 8

// tree parts the nodes that can receive, so that those on a branch are used alike.
func (d *draft) tree() *nodeTree {
	t := &nodeTree{draft: d, leaf: make([]int32, len(d.nodes))}
	t.grow()
	return t
}

// grow makes the tree anew.
func (t *nodeTree) grow() {
	t.branches, t.roots, t.moves = t.branches[:0], t.roots[:0], 0
	var open []*node
	for n := range t.draft.each() {
		t.leaf[n.index] = -1
		if !n.Down && !n.closed() {
			open = append(open, n)
		}
	}
	slices.SortStableFunc(open, func(a, b *node) int { return slices.Compare(a.alloc[:], b.alloc[:]) })
	for len(open) > 0 {
		size := open[0].alloc
		end := slices.IndexFunc(open, func(n *node) bool { return n.alloc != size })
		if end < 0 {
			end = len(open)
		}
		root := int32(len(t.branches)) //nolint:gosec // bounded by memory
		t.roots = append(t.roots, root)
		t.branches = append(t.branches, branch{nodes: open[:end], up: -1})
		t.part(root)
		open = open[end:]
	}
}

// part splits a branch in two, by the resource of which the use differs most,
// until no branch has more nodes than a leaf.
func (t *nodeTree) part(at int32) {
	nodes := t.branches[at].nodes
	if len(nodes) <= leafSize {
		t.branches[at].down = -1
		for _, n := range nodes {
			t.leaf[n.index] = at
		}
		t.look(at)
		return
	}
	k := widest(nodes)
	slices.SortFunc(nodes, func(a, b *node) int {
		return cmp.Or(cmp.Compare(a.scored[k], b.scored[k]), cmp.Compare(a.index, b.index))
	})
	down, half := int32(len(t.branches)), len(nodes)/2 //nolint:gosec // bounded by memory
	t.branches[at].down = down
	t.branches = append(t.branches, branch{nodes: nodes[:half], up: at}, branch{nodes: nodes[half:], up: at})
	t.part(down)
	t.part(down + 1)
	t.look(at)
}

// widest is the resource of which the nodes, all of one size, use the most
// different fractions.
func widest(nodes []*node) (most int) {
	width := uint64(0)
	for k, alloc := range nodes[0].alloc {
		if alloc == 0 {
			continue
		}
		least, greatest := nodes[0].scored[k], nodes[0].scored[k]
		for _, n := range nodes[1:] {
			least, greatest = min(least, n.scored[k]), max(greatest, n.scored[k])
		}
		if w := fraction(greatest-least, alloc); w > width {
			most, width = k, w
		}
	}
	return most
}

// look sets the least use of a branch from its nodes or the branches below.
func (t *nodeTree) look(at int32) {
	b := &t.branches[at]
	if b.down < 0 {
		b.least = b.nodes[0].scored
		for _, n := range b.nodes[1:] {
			b.least = least(b.least, n.scored)
		}
	} else {
		b.least = least(t.branches[b.down].least, t.branches[b.down+1].least)
	}
	for k, used := range b.least {
		b.cost[k] = t.draft.term(b.nodes[0], k, used)
	}
}

func least(a, b amounts) amounts {
	for k := range a {
		a[k] = min(a[k], b[k])
	}
	return a
}

// refresh follows a move between two nodes. Now and then it parts the nodes
// anew, when moves have made unlike what was alike.
func (t *nodeTree) refresh(from, to int32) {
	if t.moves++; t.moves > len(t.draft.nodes)/4 {
		t.grow()
		return
	}
	for _, index := range []int32{from, to} {
		for at := t.leaf[index]; at >= 0; at = t.branches[at].up {
			t.look(at)
		}
	}
}

// search is one search of the tree.
type search struct {
	*nodeTree
	shape *Shape
	from  int32 // the node that does not count
	fits  func(*node) bool
	best  *node
	most  int64 // that the replica may add; of the best node, what it adds
}

// all goes through what may be better than the best so far.
func (s *search) all() {
	for _, root := range s.roots {
		s.branch(root, s.promise(root))
	}
}

// promise is what a replica adds at least on a branch, but for what the terms
// are rounded: by no more than the slack.
type promise struct{ added, slack int64 }

func (s *search) branch(at int32, p promise) {
	// As long as there is none, no node that gains enough may be missed. Later on
	// a gain of some millionths is not worth the search.
	if s.best == nil && p.added-p.slack > s.most || s.best != nil && p.added >= s.most {
		return
	}
	down := s.branches[at].down
	if down < 0 {
		s.look(s.branches[at].nodes)
		return
	}
	first, second := down, down+1
	p, q := s.promise(first), s.promise(second)
	if q.added < p.added {
		first, second, p, q = second, first, q, p
	}
	s.branch(first, p)
	s.branch(second, q)
}

func (s *search) look(nodes []*node) {
	for _, n := range nodes {
		added := s.draft.added(n, s.shape)
		if added > s.most || added == s.most && s.best != nil || n.index == s.from || !s.fits(n) {
			continue
		}
		s.best, s.most = n, added
	}
}

func (s *search) promise(at int32) (p promise) {
	b := &s.branches[at]
	n := b.nodes[0]
	for k, need := range s.shape.score {
		w := s.draft.weight[n.index][k]
		if need == 0 || w == 0 {
			continue
		}
		used := b.least[k]
		p.added += s.draft.term(n, k, used+need) - b.cost[k]
		p.slack += 2 * (w/1000 + 1) * (2*(used+need)/n.alloc[k] + 4)
	}
	return p
}

// bestPlace finds the node on which the replica lowers the squared use most, to
// a few millionths; nil when it gains less than it must on every node.
func (t *nodeTree) bestPlace(slot int32) (*node, int64) {
	d := t.draft
	r := &d.records[slot]
	relief := d.relief(d.nodes[r.node], r.shape)
	s := search{nodeTree: t, shape: r.shape, from: r.node, most: relief - d.minGain}
	if s.most < 0 {
		return nil, 0
	}
	d.asking(slot, func(fits func(*node) bool) {
		s.fits = fits
		s.all()
	})
	return s.best, relief - s.most
}
