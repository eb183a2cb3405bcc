package scheduler

// hot finds the best node for one shape that is placed many times in a row. It
// is a tree of scores: a leaf for each node, in their order, and on every branch
// the highest score below. A placement changes one leaf and some of the branches
// above it, and the best node is a walk down; the groups and cells of the classes
// need not follow before another shape is chosen for.
type hot struct {
	shape  *Shape // nil: there is none
	policy *policy
	passes []bool  // by class: its nodes pass the static filters
	leaves int     // a power of two, at least the number of nodes
	most   []int64 // by branch, the root is 1, those below i are 2i and 2i+1; -1: no node takes the shape
}

// hotAfter is how many choices for one shape in a row are worth the tree, which
// asks every node once.
func hotAfter(nodes int) int { return 8 + nodes/32 }

// repeats says whether the choice in hand is made by the tree, which it makes
// when that is due.
func (x *index) repeats(c *Cluster, v *view) bool {
	q, h := &x.query, &x.hot
	if alone := q.alone(v); !alone || q.shape != x.latest {
		x.latest, x.streak, h.shape = q.shape, 0, nil
		return false
	}
	if h.shape == nil {
		if x.streak++; x.streak < hotAfter(len(c.nodes)) {
			return false
		}
		h.grow(c, q, v)
	}
	return true
}

// alone says whether the choice depends on the nodes' use and static filters alone.
func (q *query) alone(v *view) bool {
	if q.alike {
		return v.flat
	}
	p := &q.shape.plan
	return v.flat && !q.perNode && len(q.felt)+len(p.near)+len(p.far)+len(p.likes)+len(p.spread)+len(p.levels) == 0
}

// grow makes the tree for the shape of the query.
func (h *hot) grow(c *Cluster, q *query, v *view) {
	h.shape, h.policy = q.shape, q.policy
	h.passes = make([]bool, len(v.eligible))
	for _, cl := range v.classes {
		h.passes[cl.id] = true
	}
	for h.leaves = 1; h.leaves < len(c.nodes); {
		h.leaves *= 2
	}
	if len(h.most) != 2*h.leaves {
		h.most = make([]int64, 2*h.leaves)
	}
	for i := range h.leaves {
		h.most[h.leaves+i] = -1
		if i < len(c.nodes) && c.nodes[i] != nil {
			h.most[h.leaves+i] = h.score(c.nodes[i])
		}
	}
	for i := h.leaves - 1; i > 0; i-- {
		h.most[i] = max(h.most[2*i], h.most[2*i+1])
	}
}

// score is what a full scan gives the node, but for what is the same for all; -1
// where it does not take the shape.
func (h *hot) score(n *node) int64 {
	if !h.passes[n.class.id] || !h.shape.fits(n) {
		return -1
	}
	return h.policy.score(n, &h.shape.score)
}

// changed follows a change of what is placed on the node.
func (h *hot) changed(n *node) {
	i := h.leaves + int(n.index)
	h.most[i] = h.score(n)
	for i /= 2; i > 0; i /= 2 {
		most := max(h.most[2*i], h.most[2*i+1])
		if most == h.most[i] {
			return
		}
		h.most[i] = most
	}
}

// first is the first node with the highest score.
func (h *hot) first() rank {
	if h.most[1] < 0 {
		return nothing
	}
	i := 1
	for i < h.leaves {
		most := h.most[i]
		if i *= 2; h.most[i] != most {
			i++
		}
	}
	return ranked(h.most[1], int32(i-h.leaves)) //nolint:gosec // bounded by memory
}
