package scheduler

import (
	"cmp"
	"slices"
)

// Request asks for one replica.
type Request struct {
	Shape *Shape
	ID    string
}

// Batch is how many requests were placed together.
type Batch struct {
	Placements []Placement // by request; the zero value where no node took it
	Unplaced   int         // how many that are
	InUse      int         // nodes that hold replicas now
	// UnplacedInOrder and InUseInOrder are what would have come of placing the
	// requests one by one in the order given: the gain is the difference.
	UnplacedInOrder int
	InUseInOrder    int
}

// ScheduleBatch places many replicas at once: those of higher priority first,
// among equals the larger ones, by dominant share, for what is large is hard to
// place when the nodes are nearly full. Where that leaves more of them without a
// node than the order given, or with a policy that packs uses more nodes, the
// order given is followed.
func ScheduleBatch(c *Cluster, requests []Request) Batch {
	given := make([]int, len(requests))
	for i := range given {
		given[i] = i
	}
	inOrder := c.scheduleIn(given, requests)
	c.releaseAll(inOrder.Placements)
	out := c.scheduleIn(c.bySize(requests), requests)
	if c.worse(out, inOrder) {
		c.releaseAll(out.Placements)
		out = c.scheduleIn(given, requests)
	}
	out.UnplacedInOrder, out.InUseInOrder = inOrder.Unplaced, inOrder.InUse
	return out
}

func (c *Cluster) worse(a, b Batch) bool {
	packs := c.policy.weights[scoreMost]+c.policy.weights[scoreRatio] > c.policy.weights[scoreLeast]
	return a.Unplaced > b.Unplaced || packs && a.Unplaced == b.Unplaced && a.InUse > b.InUse
}

// bySize is the order in which the requests are placed best.
func (c *Cluster) bySize(requests []Request) []int {
	var total [resourceKinds]uint64
	for n := range c.each() {
		for k, alloc := range n.alloc {
			if !n.Down {
				total[k] += uint64(max(alloc, 0))
			}
		}
	}
	sizes, order := map[*Shape]int64{}, make([]int, len(requests))
	for i, r := range requests {
		order[i] = i
		if _, ok := sizes[r.Shape]; !ok && r.Shape != nil {
			sizes[r.Shape] = r.Shape.dominant(total)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int {
		s, t := requests[a].Shape, requests[b].Shape
		if s == nil || t == nil {
			return 0 // neither is placed
		}
		return cmp.Or(cmp.Compare(t.Priority(), s.Priority()), cmp.Compare(sizes[t], sizes[s]))
	})
	return order
}

func (c *Cluster) scheduleIn(order []int, requests []Request) Batch {
	out := Batch{Placements: make([]Placement, len(requests))}
	for _, i := range order {
		p, ok := c.Schedule(requests[i].Shape, requests[i].ID)
		if !ok {
			out.Unplaced++
		}
		out.Placements[i] = p
	}
	for n := range c.each() {
		if len(n.slots) > 0 {
			out.InUse++
		}
	}
	return out
}

// releaseAll takes the placements away, the latest first.
func (c *Cluster) releaseAll(placements []Placement) {
	for _, p := range slices.Backward(placements) {
		c.Release(p)
	}
}
