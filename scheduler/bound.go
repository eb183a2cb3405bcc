package scheduler

// size is what the classes of one capacity have in common.
type size struct {
	alloc  amounts
	weight [2]int64 // of cpu and memory in the resource scores
	other  int64    // of the other resources
	sum    int64
	paired bool // there is a balance
	simple bool // the scores are those that shares tell exactly
	soft   int  // nodes of which the scores count more than is reserved

	bound bound  // of the choice in hand, once it is made
	made  uint64 // for which choice it was
}

func newSize(p *policy, alloc amounts) *size {
	z := &size{alloc: alloc, paired: alloc[cpu] > 0 && alloc[memory] > 0}
	for i, w := range p.resources {
		if alloc[i] > 0 {
			z.sum += w
		}
	}
	z.other = z.sum
	for i := range z.weight {
		if alloc[i] > 0 {
			z.weight[i] = p.resources[i]
		}
		z.other -= z.weight[i]
	}
	z.simple = z.paired && separable(alloc[cpu], alloc[memory]) && z.other == 0 && z.sum > 0 && p.weights[scoreRatio] == 0
	return z
}

// bound says how much the members of a cell, or of a whole row of cells, may
// score at most, for one shape and the classes of one size, and how much one
// member scores.
type bound struct {
	*size
	policy *policy
	shape  *Shape
	// exact: what the scores count is what is reserved, so that no feasible
	// member's use is cut off at the capacity.
	exact bool
	// ordered: along the rows the bound only falls.
	ordered bool

	need [2]int64 // of cpu and memory, in steps, rounded down
	room [2]int64 // twice what a member may use of each, in steps, where exact
	gain int64    // the most that the balance may score

	least, even int64 // the weights of the room that is left, and of the balance

	// What the balance gains, in steps, is base and within 0 and width what a
	// place times slope is beyond start: see [bound.falling].
	apart, slope, start, width, base int64

	quick bool     // the members are scored by the following, which share.go says is exact
	plain bool     // and having room for cpu and memory is all that the shape asks of a node
	tight bool     // and the cells are bounded by the least that is used in them
	full  [2]share // less what the shape needs
	short [2]int64 // the same in grains, rounded up
	ahead share    // cpu less memory that the shape needs
}

// steps is how many steps make a percent, stepsARow a row and stepsACell a cell.
const (
	stepBits   = 10
	steps      = 1 << stepBits
	stepsARow  = 2 * steps >> rowBits // of cpu and memory together
	stepsACell = steps >> cellBits
)

// prepare makes the bound for the shape of the query.
func (b *bound) prepare(q *query, z *size) {
	s, w := q.shape, &q.policy.weights
	b.size, b.policy, b.shape = z, q.policy, s
	b.exact = z.soft == 0 && s.need[cpu] == s.score[cpu] && s.need[memory] == s.score[memory]
	var needs [2]share
	for i := range needs {
		needs[i] = shareOf(s.score[i], z.alloc[i])
		b.need[i] = int64(needs[i] >> (percentBits - stepBits))
		b.room[i] = 2 * (100*steps - b.need[i])
		b.full[i] = 100*aPercent - needs[i]
		if s.score[i] > z.alloc[i] {
			b.full[i] = -1
		}
		b.short[i] = int64((b.full[i] + 1<<shortBits - 1) >> shortBits)
	}
	b.ahead = needs[cpu] - needs[memory]
	b.least, b.even = w[scoreLeast], w[scoreBalanced]
	b.weighBalance()
	b.ordered = b.exact && z.weight[cpu] == z.weight[memory] && (w[scoreLeast] == 0 || w[scoreMost] == 0)
	b.quick = b.exact && z.simple
	b.tight = b.quick && w[scoreMost] == 0
	b.plain = b.quick && !q.perNode && s.need[disk] == 0 && s.need[network] == 0
}

// weighBalance prepares to bound the balance.
func (b *bound) weighBalance() {
	b.apart, b.slope, b.start, b.width, b.base = 0, 0, 0, 0, 0
	switch {
	case !b.paired: // it stays as it is
	case !b.exact:
		b.base = 100 * steps
	default:
		b.apart = b.need[cpu] - b.need[memory]
		b.width, b.base = 2*abs(b.apart), 2-abs(b.apart)
		b.slope = -2 * stepsACell
		if b.apart < 0 {
			b.slope, b.start = 2*stepsACell, 2*stepsACell
		}
	}
	b.gain = balanceGain(up(b.width+b.base), 0)
}

func abs(v int64) int64 { return max(v, -v) }

// row bounds all cells of a row, without the balance. It is asked when ordered.
func (b *bound) row(row int64) int64 {
	if b.sum == 0 {
		return 0
	}
	w, needs := &b.policy.weights, row*stepsARow+b.need[0]+b.need[1]
	least := b.mean(b.weight[0] * (max(200*steps-needs, 0) >> stepBits))
	most := b.mean(b.weight[0] * min((needs+stepsARow+slack)>>stepBits, 200))
	return w[scoreLeast]*least + w[scoreMost]*most + w[scoreRatio]*100
}

// slack is for the rounding of shares and needs to steps.
const slack = 4

// cell bounds one cell of a row, from the bound of all of the row without the
// balance.
func (b *bound) cell(row int64, c *cell, fit int64) int64 {
	ahead := int64(c.place - evenPlace)
	return min(fit, b.fit(row, ahead)) + b.policy.weights[scoreBalanced]*min(b.falling(ahead), b.balance(ahead))
}

// fit bounds one cell, without the balance.
func (b *bound) fit(row, ahead int64) int64 {
	if b.sum == 0 {
		return 0
	}
	w := &b.policy.weights
	total := w[scoreRatio] * 100
	both, apart := row*stepsARow, ahead*stepsACell // the sum of cpu and memory, and their difference, at least
	if w[scoreLeast] > 0 {
		atC, atM := max(both+apart, 0)/2+b.need[0], max(both-apart-stepsACell, 0)/2+b.need[1]
		left := b.weight[0]*(max(100*steps-atC, 0)>>stepBits) + b.weight[1]*(max(100*steps-atM, 0)>>stepBits)
		total += w[scoreLeast] * b.mean(left)
	}
	if w[scoreMost] > 0 {
		atC, atM := (both+apart+stepsARow+stepsACell)/2+b.need[0], (both-apart+stepsARow)/2+b.need[1]
		used := b.weight[0]*min((atC+slack)>>stepBits, 100) + b.weight[1]*min((atM+slack)>>stepBits, 100)
		total += w[scoreMost] * b.mean(used)
	}
	return total
}

// open is the first and the last place in a row where a member may have room.
func (b *bound) open(row int64) (low, high int32) {
	if !b.exact {
		return 0, placeCount - 1
	}
	both := row * stepsARow
	return evenPlace - 1 + int32((both-b.room[1])>>(stepBits-cellBits)), evenPlace + int32((b.room[0]-both)>>(stepBits-cellBits)) //nolint:gosec // a few hundred
}

// mean is the weighted mean of the resources, of which sum is that of cpu and memory.
func (b *bound) mean(sum int64) int64 {
	if b.sum == 2 && b.other == 0 {
		return sum >> 1
	}
	return (sum + 100*b.other) / b.sum
}

// falling bounds the balance score of a cell by how far its cpu is ahead. The
// distance d between the used fractions of a member becomes d + e, and the score
// grows with |d| − |d + e|: from −|e| where the replica makes the distance larger
// to |e| where it makes it smaller, and linearly between.
func (b *bound) falling(ahead int64) int64 {
	return balanceGain(up(min(max(ahead*b.slope+b.start, 0), b.width)+b.base), 0)
}

// balance bounds the same by the rounding of the balance before and after.
func (b *bound) balance(ahead int64) int64 {
	low := ahead * stepsACell
	high := low + stepsACell
	lost := up(max(-low, high)) // the most that the balance can be below the best
	left := int64(0)            // the least that it is then below
	if b.exact {
		left = up(max(low+b.apart-1, -high-b.apart-1, 0))
	}
	return balanceGain(lost-left, 0)
}

// reach is the first and the last place at which the balance may score so much.
func (b *bound) reach(gain int64) (low, high int32) {
	// What [bound.falling] rounds and clips must be at least so much before.
	y := (2*gain-150)<<(stepBits+1) - 2*steps + 1 - b.base
	switch {
	case y <= 0:
		return 0, placeCount - 1
	case y > b.width:
		return 0, -1
	case b.apart < 0:
		return evenPlace + int32((y-b.start+b.slope-1)>>(stepBits+1-cellBits)), placeCount - 1 //nolint:gosec // a few hundred
	}
	return 0, evenPlace + int32((b.start-y)>>(stepBits+1-cellBits)) //nolint:gosec // a few hundred
}

// up is half of so many steps in percent, rounded up.
func up(v int64) int64 { return (v + 2*steps - 1) >> (stepBits + 1) }

// rate is the sum of the scores of a leader that depend on its use alone. Where
// it is known to have no room, it is below zero.
func (b *bound) rate(cl *class, l *leader) int64 {
	if !b.quick {
		return b.policy.score(cl.members[l.member], &b.shape.score)
	}
	left, memoryLeft := b.full[cpu]-l.use[cpu], b.full[memory]-l.use[memory]
	score := b.least * b.mean(b.weight[0]*left.whole()+b.weight[1]*memoryLeft.whole())
	if most := b.policy.weights[scoreMost]; most > 0 {
		score += most * b.mean(b.weight[0]*left.rest()+b.weight[1]*memoryLeft.rest())
	}
	ahead := l.use[cpu] - l.use[memory]
	score += b.even * balanceGain((ahead+b.ahead).balance(), ahead.balance())
	return score | int64(left|memoryLeft)>>63
}

// score is the sum of the scores that depend on the node's use alone.
func (p *policy) score(n *node, need *amounts) int64 {
	total := int64(0)
	for kind := scoreLeast; kind <= scoreRatio; kind++ {
		if w := p.weights[kind]; w > 0 {
			total += w * p.resourceScore(kind, &n.alloc, &n.scored, need)
		}
	}
	if w := p.weights[scoreBalanced]; w > 0 {
		total += w * n.balanced(need)
	}
	return total
}
