package scheduler

import (
	"cmp"
	"fmt"
	"slices"
	"sort"
)

// consolidate proposes which nodes to empty.
//
// The search may take a replica further, from a node that received it and is
// then emptied itself; in the proposal it goes to the last place at once, for
// nodes that are not emptied only fill up. Where the filters do not let it, the
// node is kept and the search begins anew.
func (p *planner) consolidate(d *draft) (*draft, string) {
	// Each round keeps one more node. Few are ever needed: only rules that look
	// beyond the node can forbid what the search found possible.
	const rounds = 50
	kept := map[int32]bool{}
	for range rounds {
		emptied, cut := d.empty(p.budget, kept)
		done, refused := p.direct(d, emptied)
		if refused >= 0 {
			kept[refused] = true
			d = p.draft()
			continue
		}
		if cut {
			return done, fmt.Sprintf("the budget of %s empties no more nodes", plural(p.budget, "move"))
		}
		if len(kept) > 0 && p.unsettled(done) {
			break
		}
		return done, ""
	}
	return p.draft(), "no set of moves was found after which no node could be emptied"
}

// unsettled says whether another consolidation would find something to do.
func (p *planner) unsettled(done *draft) bool {
	next := newDraft(done.Cluster, p.Fixed, p.MinGain)
	emptied, _ := next.empty(len(next.items), nil)
	return len(emptied) > 0
}

// direct makes the moves from where each replica was at first to where it is in
// the draft, in a fresh one. It returns the node that cannot be emptied so, or -1.
func (p *planner) direct(d *draft, emptied []int32) (done *draft, refused int32) {
	done = p.draft()
	for _, index := range emptied {
		from := done.nodes[index]
		cause := fmt.Sprintf("empties %s (%s)", from.Name, plural(len(from.slots), "replica"))
		for _, slot := range done.listed(from) {
			to := done.nodes[d.records[slot].node]
			if !done.fits(slot, to) {
				return nil, index
			}
			done.move(slot, to, 0, cause)
		}
	}
	return done, -1
}

// listed is what is placed on the node, in the order in which it moves.
func (d *draft) listed(n *node) []int32 {
	all := slices.Clone(n.slots)
	slices.SortFunc(all, d.compare)
	return all
}

// empty empties nodes, the emptiest first, until no more can be; but for those
// that are kept. It returns them in order, and whether the budget forbade one.
func (d *draft) empty(budget int, kept map[int32]bool) (emptied []int32, cut bool) {
	l := d.ladder()
	spent := 0
	for found := true; found; {
		found, cut = false, false
		received := map[int32]bool{}
		for _, n := range d.donors(kept) {
			// What has received waits for the next round, when the use of all is known.
			if received[n.index] {
				continue
			}
			moves := d.own(n)
			if spent+moves > budget {
				cut = true
				continue
			}
			if !d.clear(l, n, received) {
				continue
			}
			spent += moves
			emptied = append(emptied, n.index)
			found = true
		}
	}
	return emptied, cut
}

// own counts the replicas that the node had at first.
func (d *draft) own(n *node) (count int) {
	for _, slot := range n.slots {
		if d.items[slot].origin == n.index {
			count++
		}
	}
	return count
}

// donors lists the nodes that may be emptied, the emptiest first.
func (d *draft) donors(kept map[int32]bool) []*node {
	var all []*node
	for n := range d.each() {
		if len(n.slots) > 0 && !n.Down && !kept[n.index] && !d.holdsFixed(n) {
			all = append(all, n)
		}
	}
	levels := make(map[*node]int64, len(all))
	for _, n := range all {
		levels[n] = n.level()
	}
	slices.SortStableFunc(all, func(a, b *node) int {
		return cmp.Or(cmp.Compare(levels[a], levels[b]), cmp.Compare(len(a.slots), len(b.slots)))
	})
	return all
}

func (d *draft) holdsFixed(n *node) bool {
	for _, slot := range n.slots {
		if d.items[slot].fixed != "" {
			return true
		}
	}
	return false
}

// clear takes all replicas of the node elsewhere, each to the fullest node that
// takes it and holds replicas already; or none of them.
func (d *draft) clear(l *ladder, n *node, received map[int32]bool) bool {
	all := d.listed(n)
	to := make([]*node, 0, len(all))
	for _, slot := range all {
		target := d.fullest(l, slot)
		if target == nil {
			for i := range to {
				l.shift(all[i], n)
			}
			return false
		}
		l.shift(slot, target)
		to = append(to, target)
	}
	for _, t := range to {
		received[t.index] = true
	}
	return true
}

// fullest is the fullest node but its own that takes the replica and is in use.
func (d *draft) fullest(l *ladder, slot int32) (found *node) {
	r := &d.records[slot]
	d.asking(slot, func(fits func(*node) bool) {
		for _, index := range l.order {
			n := d.nodes[index]
			if index != r.node && len(n.slots) > 0 && n.hasRoom(r.shape) && fits(n) {
				found = n
				return
			}
		}
	})
	return found
}

// hasRoom is a quick look at the counted resources before all filters are asked.
func (n *node) hasRoom(s *Shape) bool {
	for k, need := range s.need {
		if need > 0 && n.counted[k] && n.used[k] > n.alloc[k]-need {
			return false
		}
	}
	return true
}

// ladder keeps the nodes of a draft that can receive in order, the fullest first.
type ladder struct {
	draft *draft
	order []int32
	level []int64 // by node; -1: not on the ladder
}

func (d *draft) ladder() *ladder {
	l := &ladder{draft: d, level: make([]int64, len(d.nodes))}
	for i := range l.level {
		l.level[i] = -1
	}
	for n := range d.each() {
		if !n.Down && !n.closed() {
			l.level[n.index] = n.level()
			l.order = append(l.order, n.index)
		}
	}
	slices.SortFunc(l.order, l.compare)
	return l
}

func (l *ladder) compare(a, b int32) int {
	return cmp.Or(cmp.Compare(l.level[b], l.level[a]), cmp.Compare(a, b))
}

// shift moves a replica and keeps the order.
func (l *ladder) shift(slot int32, to *node) {
	from := l.draft.nodes[l.draft.records[slot].node]
	l.draft.shift(slot, to)
	l.set(from)
	l.set(to)
}

// set puts a node where it now belongs.
func (l *ladder) set(n *node) {
	if l.level[n.index] < 0 {
		return
	}
	at := l.find(n.index)
	l.order = slices.Delete(l.order, at, at+1)
	l.level[n.index] = n.level()
	l.order = slices.Insert(l.order, l.find(n.index), n.index)
}

// find is where the node is, or belongs.
func (l *ladder) find(index int32) int {
	return sort.Search(len(l.order), func(i int) bool { return l.compare(l.order[i], index) >= 0 })
}
