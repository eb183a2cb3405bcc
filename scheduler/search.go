package scheduler

import (
	"math"
	"slices"
)

// rank orders nodes: a higher score comes first, and among equals the lower
// index. It is the score, which is below 2^31, and below it what the index leaves
// of 2^31-1, at least 1.
type rank int64

// nothing ranks below every node.
const nothing rank = 0

func ranked(score int64, index int32) rank {
	return rank(score<<32 | int64(math.MaxInt32-index))
}

func (r rank) score() int64 { return int64(r >> 32) }
func (r rank) index() int32 { return math.MaxInt32 - int32(r&math.MaxInt32) }

// floor ranks below every node of the same score.
func (r rank) floor() rank { return r &^ math.MaxInt32 }

// later is a cell of which the bound is the best score so far. Only an earlier
// node in it would be better. As such cells abound, those with the earliest nodes
// are looked into first, and most of the others then need not be.
type later struct {
	cell  *cell
	bound *bound // of its class
	most  rank
}

// manyLater is how many cells are kept for later before they are looked into.
const manyLater = 64

// settle looks into the cells that were kept for later, after all searches.
func (q *query) settle(b *rank) {
	q.lookInto(b)
	q.bounds = q.bounds[:0]
}

func (q *query) lookInto(b *rank) {
	for len(q.later) > 0 {
		most := nothing
		for i := range q.later {
			most = max(most, q.later[i].most)
		}
		if most <= *b {
			break
		}
		top, last := 0, len(q.later)-1
		for q.later[top].most != most {
			top++
		}
		l := q.later[top]
		q.later[top] = q.later[last]
		q.later = q.later[:last]
		q.searchCell(l.bound, l.cell, l.most.score(), b)
	}
	q.later = q.later[:0]
}

// search finds the best feasible member of the class, if it is better than b, but
// for the cells that it leaves to [query.settle]. It looks into cells only while
// their bound says that a better one may be there.
func (q *query) search(cl *class, b *rank) {
	cl.catchUp()
	if cl.rows == nil {
		for i := range cl.members {
			q.try(&cl.members[i], b)
		}
		return
	}
	bound := q.bound(cl)
	up := q.policy.weights[scoreMost] <= q.policy.weights[scoreLeast]
	row, step := 0, 1
	if !up {
		row, step = len(cl.rows)-1, -1
	}
	for row = nearest(cl.rowsUsed[:], row, up); row >= 0; row = nearest(cl.rowsUsed[:], row+step, up) {
		if !q.searchRow(bound, row, b) {
			return
		}
	}
}

// bound makes the bound of the class.
func (q *query) bound(cl *class) *bound {
	if len(q.bounds) == cap(q.bounds) {
		q.bounds = slices.Grow(q.bounds, len(q.bounds)+8)
	}
	q.bounds = q.bounds[:len(q.bounds)+1]
	b := &q.bounds[len(q.bounds)-1]
	b.prepare(q, cl)
	return b
}

// searchRow looks into the cells of a row, those first in which the balance can
// gain most. It returns false when no later row can have a better member.
func (q *query) searchRow(bound *bound, row int, b *rank) bool {
	weight := q.policy.weights[scoreBalanced]
	low, high := bound.open(int64(row))
	cells := within(bound.class.rows[row], low, high)
	if len(cells) == 0 {
		return true
	}
	fit := int64(math.MaxInt32) // more than any score
	if bound.ordered {
		if fit = bound.row(int64(row)); fit+weight*bound.gain < b.score() {
			return false
		}
	}
	i, step := 0, 1
	if bound.apart < 0 {
		i, step = len(cells)-1, -1
	}
	for ; i >= 0 && i < len(cells); i += step {
		c := &cells[i]
		gain := bound.falling(int64(c.ahead))
		if fit+weight*gain < b.score() {
			return true
		}
		most := bound.cell(int64(row), c, fit, gain)
		switch r := ranked(most, c.first); {
		case r <= *b:
		case most > b.score():
			q.searchCell(bound, c, most, b)
		default:
			q.keep(bound, c, r, b)
		}
	}
	return true
}

// keep leaves a cell for later.
func (q *query) keep(bound *bound, c *cell, most rank, b *rank) {
	if len(q.later) == manyLater {
		q.lookInto(b)
	}
	q.later = append(q.later, later{c, bound, most})
}

// searchCell looks at the leaders in a cell in their order.
func (q *query) searchCell(bound *bound, in *cell, most int64, b *rank) {
	for i := range in.leaders {
		l := &in.leaders[i]
		if ranked(most, l.index) <= *b {
			return
		}
		score, ok := bound.rate(l)
		switch {
		case !ok || ranked(score, l.index) <= *b: // nor does the rest of its group
		case bound.plain:
			*b = ranked(score, l.index)
		default:
			q.searchGroup(bound.class, l.member, score, b)
		}
	}
}

// searchGroup takes the first member of a group that is feasible. All of them score the same.
func (q *query) searchGroup(cl *class, i int32, score int64, b *rank) {
	for g := cl.members[i].group; i >= 0; i = g.after(i) {
		m := &cl.members[i]
		r := ranked(score, m.index)
		if r <= *b {
			return
		}
		if q.fits(m.node) {
			*b = r
			return
		}
	}
}

// after is the next member of the group, which may be of one alone.
func (g *group) after(i int32) int32 {
	if g == nil {
		return -1
	}
	return g.members.next(i + 1)
}
