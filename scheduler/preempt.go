package scheduler

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Preemption is a proposal to make room for a replica by stopping others of
// lower priority.
type Preemption struct {
	Node    string
	Victims []Placement // the most important first: by priority, then by earlier start
	Reason  string      // whom it displaces, or why that does not help
}

// sacrifice is what one node would lose for the replica.
type sacrifice struct {
	node    *node
	victims []int32 // slots, the most important first
	highest int     // priority of a victim
	sum     int64   // of the victims' priorities; those below zero count zero
	order   uint64  // start of the victim that started first among the highest
}

// Preempt proposes the node on which, and the replicas of lower priority by
// whose end, one more replica of the shape would get room. It changes nothing.
// It returns false, and the reason, when nobody has to make room or when that
// would not help.
//
// On each node all replicas of lower priority are taken as gone. If the filters
// then let the node pass, they are taken back one by one, the most important
// first, while it still passes; who cannot be taken back is a victim. Among the
// nodes the choice falls on the one with the lowest highest priority of a
// victim, then the lowest sum of their priorities, then the fewest, then the one
// whose most important victim started last, then by name: the rules of
// Kubernetes, without its disruption budgets.
func Preempt(c *Cluster, s *Shape) (Preemption, bool) {
	if s == nil || s.cluster != c {
		return Preemption{Reason: errForeignShape.Error()}, false
	}
	v := c.survey(s, map[int32]bool{})
	var best *sacrifice
	not := map[string]int{}
	for n := range c.each() {
		if v.feasible(n) {
			return Preemption{Reason: fmt.Sprintf("it fits on %s: nobody has to make room", n.Name)}, false
		}
		found, why := v.sacrificeOn(n, best)
		if why != "" {
			not[why]++
		}
		if found != nil && (best == nil || found.compare(best) < 0) {
			best = found
		}
	}
	if best == nil {
		return Preemption{Reason: noSacrifice(not)}, false
	}
	return c.proposal(best), true
}

// compare orders sacrifices, the smallest first.
func (a *sacrifice) compare(b *sacrifice) int {
	return cmp.Or(
		cmp.Compare(a.highest, b.highest),
		cmp.Compare(a.sum, b.sum),
		cmp.Compare(len(a.victims), len(b.victims)),
		cmp.Compare(b.order, a.order),
		strings.Compare(a.node.Name, b.node.Name),
	)
}

// sacrificeOn finds the victims on a node. It returns none, and why, when the
// node would not take the shape even without all that it may displace; and none
// without a reason once it is clear that the sacrifice is greater than the best.
func (v *survey) sacrificeOn(n *node, best *sacrifice) (*sacrifice, string) {
	lower := v.lower(n)
	if len(lower) == 0 {
		return nil, fmt.Sprintf("without a replica of priority below %d", v.shape.Priority())
	}
	for _, slot := range lower {
		v.lift(slot)
	}
	defer v.putBack(lower)
	if !v.feasible(n) {
		return nil, v.rejection(n).what + " even without those of lower priority"
	}
	found := &sacrifice{node: n}
	for _, slot := range lower {
		v.put(slot)
		if v.feasible(n) {
			continue
		}
		v.lift(slot)
		found.add(slot, &v.cluster.records[slot])
		if best != nil && (found.highest > best.highest || found.highest == best.highest && found.sum > best.sum) {
			return nil, ""
		}
	}
	return found, ""
}

// lower lists the placements on the node that the shape may displace, the most
// important first.
func (v *survey) lower(n *node) []int32 {
	records := v.cluster.records
	var lower []int32
	for _, slot := range n.slots {
		if records[slot].shape.Priority() < v.shape.Priority() {
			lower = append(lower, slot)
		}
	}
	slices.SortFunc(lower, func(a, b int32) int {
		return cmp.Or(
			cmp.Compare(records[b].shape.Priority(), records[a].shape.Priority()),
			cmp.Compare(records[a].order, records[b].order),
		)
	})
	return lower
}

// putBack takes those that are gone as standing again.
func (v *survey) putBack(slots []int32) {
	for _, slot := range slots {
		if v.gone[slot] {
			v.put(slot)
		}
	}
}

// add counts a victim; the most important comes first.
func (a *sacrifice) add(slot int32, r *record) {
	if len(a.victims) == 0 {
		a.highest, a.order = r.shape.Priority(), r.order
	}
	a.victims = append(a.victims, slot)
	a.sum += int64(max(r.shape.Priority(), 0))
}

func (c *Cluster) proposal(s *sacrifice) Preemption {
	p := Preemption{Node: s.node.Name}
	names := make([]string, 0, len(s.victims))
	for _, slot := range s.victims {
		p.Victims = append(p.Victims, c.handle(slot))
		r := &c.records[slot]
		names = append(names, fmt.Sprintf("%s (priority %d)", r.id, r.shape.Priority()))
	}
	const most = 3
	if more := len(names) - most; more > 0 {
		names = append(names[:most], fmt.Sprintf("%d more", more))
	}
	p.Reason = fmt.Sprintf("displaces %s on %s", listed(names), p.Node)
	return p
}

// noSacrifice sums up why no node can make room, the most frequent reason first.
func noSacrifice(not map[string]int) string {
	all := 0
	parts := slices.SortedFunc(maps.Keys(not), func(a, b string) int {
		return cmp.Or(cmp.Compare(not[b], not[a]), strings.Compare(a, b))
	})
	for i, why := range parts {
		all += not[why]
		parts[i] = fmt.Sprintf("%d %s", not[why], why)
	}
	if all == 0 {
		return "there is no node"
	}
	return fmt.Sprintf("nobody can make room: 0/%s: %s", nodes(all), strings.Join(parts, ", "))
}
