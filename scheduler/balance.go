package scheduler

import (
	"cmp"
	"container/heap"
	"fmt"
	"maps"
	"slices"
)

// balance proposes the moves of greatest gain, those of lower priority first.
//
// A replica that has moved does not move again. If one would gain by that, since
// moves after its own changed what is best for it, its move is taken back, the
// others are made again, and the search goes on: it then goes to its best place
// at once. What comes of it is kept only if nobody at all would still gain.
func (p *planner) balance(d *draft) (*draft, string) {
	// Enough for every case met in tests, where one round nearly always suffices.
	const rounds = 20
	for range rounds {
		if p.improve(d) {
			return d, p.spent()
		}
		again := d.restless()
		if len(again) == 0 {
			return d, ""
		}
		d = p.redo(d, again)
	}
	return p.draft(), "no set of moves was found after which nobody would gain by moving again: set a greater least gain"
}

// improve makes moves until none gains enough. It returns true when the budget
// ended it.
func (p *planner) improve(d *draft) bool {
	tree := d.tree()
	priorities := map[int]bool{}
	for slot := range d.items {
		priorities[d.records[slot].shape.Priority()] = true
	}
	for moved := true; moved; {
		moved = false
		for _, priority := range slices.Sorted(maps.Keys(priorities)) {
			before := len(d.moves)
			for more := true; more; {
				made := len(d.moves)
				if d.pass(tree, priority, p.budget) {
					return true
				}
				more = len(d.moves) > made
			}
			moved = moved || len(d.moves) > before
		}
	}
	return false
}

// redo makes the moves again in a fresh draft without those of some replicas,
// and without those that are then not valid or gain too little.
func (p *planner) redo(old *draft, without map[Placement]bool) *draft {
	d := p.draft()
	slots := make(map[Placement]int32, len(d.items))
	for slot := range d.items {
		slots[d.items[slot].placement] = int32(slot)
	}
	for _, m := range old.moves {
		slot, to := slots[m.Placement], d.byName[m.To]
		if without[m.Placement] || !d.fits(slot, to) {
			continue
		}
		if gain := d.gain(slot, to); gain >= d.minGain {
			d.moveForBalance(slot, to, gain)
		}
	}
	return d
}

// gain is by how much it lowers the squared use to take the replica to the node.
func (d *draft) gain(slot int32, to *node) int64 {
	r := &d.records[slot]
	return d.relief(d.nodes[r.node], r.shape) - d.added(to, r.shape)
}

func (d *draft) moveForBalance(slot int32, to *node, gain int64) {
	from := d.nodes[d.records[slot].node]
	was, is := from.level(), to.level()
	d.move(slot, to, gain, "")
	d.moves[len(d.moves)-1].Cause = fmt.Sprintf("use of %s falls from %s to %s, that of %s rises from %s to %s",
		from.Name, percent(was), percent(from.level()), to.Name, percent(is), percent(to.level()))
}

// restless lists the replicas that have moved and would gain by moving again.
func (d *draft) restless() map[Placement]bool {
	tree := d.tree()
	again := map[Placement]bool{}
	for slot := range d.items {
		it := &d.items[slot]
		if !it.moved {
			continue
		}
		if to, _ := tree.bestPlace(int32(slot)); to != nil {
			again[it.placement] = true
		}
	}
	return again
}

// bunch is replicas of one shape on one node: each gains the same by moving.
type bunch struct {
	slots   []int32 // the one to move first is last
	ordinal int32
	node    int32
	gain    int64
	to      *node
}

// bunches is a heap, the greatest gain first.
type bunches []*bunch

func (b bunches) Len() int           { return len(b) }
func (b bunches) Less(i, j int) bool { return b[i].compare(b[j]) < 0 }
func (b bunches) Swap(i, j int)      { b[i], b[j] = b[j], b[i] }
func (b *bunches) Push(x any)        { *b = append(*b, x.(*bunch)) }
func (b *bunches) Pop() any {
	old := *b
	last := old[len(old)-1]
	*b = old[:len(old)-1]
	return last
}

func (b *bunch) compare(o *bunch) int {
	return cmp.Or(cmp.Compare(o.gain, b.gain), cmp.Compare(b.node, o.node), cmp.Compare(b.ordinal, o.ordinal))
}

// pass makes the moves of one priority, about the greatest gain first, until the
// gains that were known at its start are used up. Each move lowers the gains of
// many others a little, so a bunch is not put back for losing less than an eighth. It returns true when the budget
// forbids a move.
func (d *draft) pass(tree *nodeTree, priority, budget int) bool {
	h := d.bunches(priority)
	h = slices.DeleteFunc(h, func(b *bunch) bool { return !d.value(tree, b) })
	heap.Init(&h)
	for len(h) > 0 {
		b := h[0]
		known := b.gain
		if !d.value(tree, b) {
			heap.Pop(&h)
			continue
		}
		heap.Fix(&h, 0)
		if h[0] != b && b.gain < known-known/8 {
			continue
		}
		if len(d.moves) >= budget {
			return true
		}
		d.take(tree, b)
		if len(b.slots) == 0 || !d.value(tree, b) {
			heap.Remove(&h, slices.Index(h, b))
			continue
		}
		heap.Fix(&h, slices.Index(h, b))
	}
	return false
}

// take moves the next replica of the bunch.
func (d *draft) take(tree *nodeTree, b *bunch) {
	slot := b.slots[len(b.slots)-1]
	b.slots = b.slots[:len(b.slots)-1]
	d.moveForBalance(slot, b.to, b.gain)
	tree.refresh(b.node, b.to.index)
}

// bunches gathers the replicas of one priority that may move and have not.
func (d *draft) bunches(priority int) bunches {
	var all bunches
	for n := range d.each() {
		if n.Down {
			continue
		}
		here := map[int32]*bunch{}
		for _, slot := range n.slots {
			s := d.records[slot].shape
			if s.Priority() != priority || d.items[slot].fixed != "" || d.items[slot].moved {
				continue
			}
			o := d.shapes[s]
			b := here[o.ordinal]
			if b == nil {
				b = &bunch{ordinal: o.ordinal, node: n.index}
				here[o.ordinal] = b
				all = append(all, b)
			}
			b.slots = append(b.slots, slot)
		}
	}
	return all
}

// value finds where the next replica of the bunch gains most. It returns false
// when that is too little everywhere.
func (d *draft) value(tree *nodeTree, b *bunch) bool {
	b.to, b.gain = tree.bestPlace(b.slots[len(b.slots)-1])
	return b.to != nil
}
