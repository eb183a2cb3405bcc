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

// above is 1 where a is the higher one, else 0.
func above(a, b rank) int { return int(uint64(b-a) >> 63) } //nolint:gosec // the sign

// floor ranks below every node of the same score.
func (r rank) floor() rank { return r &^ math.MaxInt32 }

// later is a cell that may hold a better member than the best so far: how such a
// one may rank at most. Many of the bounds are equal to the best score, and then
// only an earlier node is better; as most of those cells hold none, they are looked
// into when all others are, the one with the earliest node first.
type later struct {
	most rank
	cell int64 // class, row and place among the cells of the row, of 32, 16 and 16 bits
}

// manyLater is how many cells are kept for later before they are looked into.
const manyLater = 64

// settle looks into the cells that were kept for later, after all searches.
func (q *query) settle(b *rank) {
	for q.highest(*b) > *b {
		q.lookInto(b)
	}
}

// raise looks into the cells that may hold a member of a higher score.
func (q *query) raise(b *rank) {
	for q.highest(*b).score() > b.score() {
		q.lookInto(b)
	}
}

// highest drops the cells that were kept but cannot hold a better member any
// more, puts the one that may have the best last, and returns how that ranks.
func (q *query) highest(b rank) rank {
	most, at, left := nothing, 0, 0
	for _, l := range q.later {
		q.later[left] = l
		if l.most > most {
			most, at = l.most, left
		}
		left += above(l.most, b)
	}
	if q.later = q.later[:left]; left == 0 {
		return nothing
	}
	q.later[at], q.later[left-1] = q.later[left-1], q.later[at]
	return most
}

// lookInto looks into the last of the cells that were kept.
func (q *query) lookInto(b *rank) {
	last := len(q.later) - 1
	l := q.later[last]
	q.later = q.later[:last]
	cl := q.classes[l.cell>>32]
	q.searchCell(cl, cl.rows[l.cell>>16&0xffff].leaders[l.cell&0xffff], l.most.score(), b)
}

// search finds the best feasible member of the class, if it is better than b, but
// for the cells that it leaves to [query.settle]. It goes through the rows only
// while their bound says that a better one may be there.
func (q *query) search(cl *class, b *rank) {
	if cl.rows == nil {
		for _, n := range cl.members {
			q.try(n, b)
		}
		return
	}
	bound := q.bound(cl.size)
	up := q.policy.weights[scoreMost] <= q.policy.weights[scoreLeast]
	row, step := 0, 1
	if !up {
		row, step = len(cl.rows)-1, -1
	}
	for row = nearest(cl.rowsUsed[:], row, up); row >= 0; row = nearest(cl.rowsUsed[:], row+step, up) {
		switch most := q.searchRow(bound, cl, row, *b); {
		case most < 0:
			return
		case most > b.score():
			q.raise(b)
		case len(q.later) > manyLater:
			q.settle(b)
		}
	}
}

// bound is that of the size for the choice in hand.
func (q *query) bound(z *size) *bound {
	if z.made != q.count {
		z.bound.prepare(q, z)
		z.made = q.count
	}
	return &z.bound
}

// searchRow keeps the cells of a row that may have a better member than b. It
// returns the most that one may score, or -1 when no later row can have one.
func (q *query) searchRow(bound *bound, cl *class, row int, b rank) int64 {
	fit := int64(math.MaxInt32) // more than any score
	low, high := bound.open(int64(row))
	if bound.ordered {
		fit = bound.row(int64(row))
		lacks := b.score() - fit // what the balance must score
		if lacks > bound.even*bound.gain {
			return -1
		}
		if bound.even > 1 {
			lacks = (lacks + bound.even - 1) / bound.even
		}
		if bound.even > 0 {
			first, last := bound.reach(lacks)
			low, high = max(low, first), min(high, last)
		}
	}
	from, to := cl.rows[row].between(low, high)
	if from >= to {
		return 0
	}
	return q.keep(bound, cl, row, from, to, fit, b)
}

// keep keeps those of the cells that may have a better member, and returns the
// most that one may score.
func (q *query) keep(bound *bound, cl *class, row, from, to int, fit int64, b rank) int64 {
	q.later = slices.Grow(q.later, to-from)
	all, cells := q.later[len(q.later):len(q.later)+to-from], cl.rows[row].cells[from:to]
	where := later{cell: int64(cl.id)<<32 + int64(row)<<16 + int64(from)}
	if bound.tight {
		kept, highest := bound.sift(cells, all, where, b)
		q.later = q.later[:len(q.later)+kept]
		return highest
	}
	highest := int64(0)
	for i := range cells {
		most := bound.cell(int64(row), &cells[i], fit)
		if where.most = ranked(most, cells[i].first); where.most > b {
			q.later = append(q.later, where)
			highest = max(highest, most)
		}
		where.cell++
	}
	return highest
}

// sift bounds cells by the least that is used in each, which is tighter than
// [bound.cell]. It puts into out those that may have a better member than b, and
// returns how many they are and the most that one may score. Choices spend most of
// their time here: it has no calls, and no branches that depend on a cell.
func (b *bound) sift(cells []cell, out []later, where later, best rank) (kept int, highest int64) {
	short, memoryShort, weight, memoryWeight := b.short[cpu], b.short[memory], b.weight[cpu], b.weight[memory]
	sum, least, even, apart := b.sum, b.least, b.even, b.apart
	for i := range cells {
		c := &cells[i]
		left, memoryLeft := short-int64(c.least[cpu]), memoryShort-int64(c.least[memory])
		fit := weight*(left>>grainBits) + memoryWeight*(memoryLeft>>grainBits)
		if sum == 2 { // the usual one
			fit >>= 1
		} else {
			fit /= sum
		}
		// As in [bound.balance].
		low := int64(c.place-evenPlace) * stepsACell
		lost, gone := up(max(-low, low+stepsACell)), up(max(low+apart-1, -low-stepsACell-apart-1, 0))
		most := least*fit + even*balanceGain(lost-gone, 0)
		most |= (left | memoryLeft) >> 63 // below zero where no leader has room
		where.most = ranked(most, c.first)
		out[kept] = where
		kept += above(where.most, best)
		highest = max(highest, most)
		where.cell++
	}
	return kept, highest
}

// searchCell looks at the leaders in a cell in their order.
func (q *query) searchCell(cl *class, leaders []leader, most int64, b *rank) {
	bound := q.bound(cl.size)
	for i := range leaders {
		l := &leaders[i]
		if ranked(most, l.index) <= *b {
			return
		}
		score := bound.rate(cl, l)
		switch {
		case ranked(score, l.index) <= *b: // nor does the rest of its group
		case bound.plain:
			*b = ranked(score, l.index)
		default:
			q.searchGroup(cl, l.member, score, b)
		}
	}
}

// searchGroup takes the first member of a group that is feasible. All of them score the same.
func (q *query) searchGroup(cl *class, i int32, score int64, b *rank) {
	for g := cl.members[i].group; i >= 0; i = g.after(i) {
		n := cl.members[i]
		r := ranked(score, n.index)
		if r <= *b {
			return
		}
		if q.fits(n) {
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
