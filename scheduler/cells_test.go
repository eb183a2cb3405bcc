package scheduler

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// drawClass draws a cluster with one class that has cells, after some replicas
// came and went.
func drawClass(t *rapid.T) *Cluster {
	c, err := New(drawPolicy(t))
	must(t, err)
	capacity := Resources{
		CPU:    rapid.SampledFrom([]int64{7, 1000, 4000, 3999, 64_000}).Draw(t, "cpu"),
		Memory: rapid.SampledFrom([]int64{97, 1 << 30, 5_000_000_001, 1 << 45}).Draw(t, "memory"),
	}
	nodes := rapid.IntRange(smallClass+1, 60).Draw(t, "nodes")
	for i := range nodes {
		must(t, c.AddNode(Node{Name: fmt.Sprintf("n%d", i), Capacity: capacity}))
	}
	part := func(of int64) int64 { return of*rapid.Int64Range(1, 30).Draw(t, "percent")/100 + 1 }
	var placed []Placement
	for i := range rapid.IntRange(0, 200).Draw(t, "replicas") {
		s, err := c.Register(Template{Service: "s", Reservation: Resources{CPU: part(capacity.CPU), Memory: part(capacity.Memory)}})
		must(t, err)
		if i == 0 {
			c.choose(s) // makes the index
		}
		p, err := c.Assign(s, fmt.Sprintf("n%d", rapid.IntRange(0, nodes-1).Draw(t, "node")), "")
		must(t, err)
		if placed = append(placed, p); rapid.IntRange(0, 3).Draw(t, "gone") == 0 {
			at := rapid.IntRange(0, len(placed)-1).Draw(t, "which")
			c.Release(placed[at])
			placed = slices.Delete(placed, at, at+1)
		}
	}
	return c
}

// Every member is in the cell of its use, by its own or behind a leader before it,
// and a cell knows its first leader and its least use.
func TestCellsHoldEveryMember(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cl := drawClass(t).ready().classes[0]
		found := map[int32]bool{}
		for row := range cl.rows {
			r := &cl.rows[row]
			wantRow(t, r, cl.rowsUsed[row>>6]>>(row&63)&1 == 1)
			for i, c := range r.cells {
				all := r.leaders[i]
				least := all[0].use
				for _, l := range all {
					least = [2]share{min(least[cpu], l.use[cpu]), min(least[memory], l.use[memory])}
					for i := l.member; i >= 0; i = cl.members[l.member].group.after(i) {
						n := cl.members[i]
						if r, place := spot(n.use); int(r) != row || place != c.place || n.use != l.use || found[i] {
							t.Errorf("member %d of %v is behind %+v in row %d, place %d", i, n.use, l, row, c.place)
						}
						found[i] = true
					}
				}
				if c.least != [2]grain{least[cpu].grain(), least[memory].grain()} || c.first != all[0].index ||
					!slices.IsSortedFunc(all, func(a, b leader) int { return int(a.member - b.member) }) {
					t.Errorf("row %d: %+v %+v", row, c, all)
				}
			}
		}
		if len(found) != len(cl.members) {
			t.Errorf("%d of %d members are in cells", len(found), len(cl.members))
		}
	})
}

// wantRow wants the bits of a row to tell of all its cells, by place, and no others.
func wantRow(t *rapid.T, r *row, used bool) {
	if used != (len(r.cells) > 0) || len(r.leaders) != len(r.cells) {
		t.Errorf("%d cells, %d lists of leaders, used: %v", len(r.cells), len(r.leaders), used)
	}
	i := 0
	for place := range int32(placeCount) {
		if from, to := r.between(place, placeCount+5); from != i || to != len(r.cells) {
			t.Errorf("cells from %d on are %d to %d of %d, want from %d", place, from, to, len(r.cells), i)
		}
		if has := i < len(r.cells) && r.cells[i].place == place; r.has(place) != has {
			t.Errorf("a cell at %d: %v, want %v", place, !has, has)
		} else if has {
			i++
		}
		if from, to := r.between(-5, place); from != 0 || to != i {
			t.Errorf("cells up to %d are %d to %d, want up to %d", place, from, to, i)
		}
	}
}

// No leader scores more than its cell may, nor a cell more than its row, and what
// lies outside the open part of a row has no room.
func TestBoundsHold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawClass(t)
		cl := c.ready().classes[0]
		alloc := &cl.sample.alloc
		s, err := c.Register(Template{Service: "new", Reservation: Resources{
			CPU:    rapid.Int64Range(0, alloc[cpu]).Draw(t, "cpu"),
			Memory: rapid.Int64Range(0, alloc[memory]).Draw(t, "memory"),
		}})
		must(t, err)
		b := &bound{}
		b.prepare(&query{policy: &c.policy, shape: s}, cl.size)
		weight := c.policy.weights[scoreBalanced]
		for row := range cl.rows {
			low, high := b.open(int64(row))
			for i := range cl.rows[row].cells {
				in := &cl.rows[row].cells[i]
				fit, gain := int64(math.MaxInt32), b.falling(int64(in.place-evenPlace))
				if b.ordered {
					fit = b.row(int64(row))
				}
				most := b.cell(int64(row), in, fit)
				if b.ordered && (most > fit+weight*gain || gain > b.gain) {
					t.Errorf("row %d may score %d and %d of %d for balance, the cell %d", row, fit, gain, b.gain, most)
				}
				if b.tight {
					var kept [1]later
					if n, highest := b.sift([]cell{*in}, kept[:], later{cell: 7}, nothing); n > 0 && kept[0].most != ranked(highest, in.first) {
						t.Errorf("%+v is kept as %+v, and may score %d", in, kept, highest)
					}
					_, most = b.sift([]cell{*in}, kept[:], later{}, nothing)
				}
				for at := range int64(103) {
					if low, high := b.reach(at); (in.place >= low && in.place <= high) != (gain >= at) {
						t.Errorf("%d for balance is in reach from %d to %d, but cell %d may score %d", at, low, high, in.place, gain)
					}
				}
				for _, l := range cl.rows[row].leaders[i] {
					n := cl.members[l.member]
					if !s.fits(n) {
						continue
					}
					want := c.policy.score(n, &s.score)
					if got := b.rate(cl, &l); got != want {
						t.Errorf("%v: rated %d, want %d", n.scored, got, want)
					}
					if want > most || in.place < low || in.place > high {
						t.Errorf("%v scores %d in cell %d of row %d, which may score %d and is open from %d to %d", n.scored, want, in.place, row, most, low, high)
					}
				}
			}
		}
	})
}
