package scheduler

import (
	"fmt"
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
		for row, cells := range cl.rows {
			if used := cl.rowsUsed[row>>6]>>(row&63)&1 == 1; used != (len(cells) > 0) {
				t.Errorf("row %d has %d cells and is used: %v", row, len(cells), used)
			}
			for _, c := range cells {
				least := c.leaders[0].use
				for _, l := range c.leaders {
					least = [2]share{min(least[cpu], l.use[cpu]), min(least[memory], l.use[memory])}
					for i := l.member; i >= 0; i = cl.members[l.member].group.after(i) {
						m := &cl.members[i]
						if r, ahead := m.place(); int(r) != row || ahead != c.ahead || m.use != l.use || found[i] {
							t.Errorf("member %d of %v is behind %+v in row %d, cell %d", i, m.use, l, row, c.ahead)
						}
						found[i] = true
					}
				}
				if c.least != least || c.first != c.leaders[0].index || !slices.IsSortedFunc(c.leaders, func(a, b leader) int { return int(a.member - b.member) }) {
					t.Errorf("row %d: %+v", row, c)
				}
			}
		}
		if len(found) != len(cl.members) {
			t.Errorf("%d of %d members are in cells", len(found), len(cl.members))
		}
	})
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
		q := &query{policy: &c.policy, shape: s}
		b := q.bound(cl)
		weight := c.policy.weights[scoreBalanced]
		for row, cells := range cl.rows {
			low, high := b.open(int64(row))
			for i := range cells {
				in := &cells[i]
				fit, gain := int64(1<<40), b.falling(int64(in.ahead))
				if b.ordered {
					fit = b.row(int64(row))
				}
				most := b.cell(int64(row), in, fit, gain)
				if b.ordered && (most > fit+weight*gain || gain > b.gain) {
					t.Errorf("row %d may score %d and %d of %d for balance, the cell %d", row, fit, gain, b.gain, most)
				}
				for _, l := range in.leaders {
					n := cl.members[l.member].node
					if !s.fits(n) {
						continue
					}
					want := c.policy.score(n, &s.score)
					if got, ok := b.rate(&l); !ok || got != want {
						t.Errorf("%v: rated %d, %v, want %d", n.scored, got, ok, want)
					}
					if want > most || in.ahead < low || in.ahead > high {
						t.Errorf("%v scores %d in cell %d of row %d, which may score %d and is open from %d to %d", n.scored, want, in.ahead, row, most, low, high)
					}
				}
			}
		}
	})
}
