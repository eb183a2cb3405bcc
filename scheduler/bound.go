package scheduler

import "math"

// bound says how much the members of a cell, or of a whole row of cells, may
// score at most, for one shape and one class, and how much one member scores.
type bound struct {
	policy *policy
	shape  *Shape
	class  *class
	// exact: what the scores count is what is reserved, so that no feasible
	// member's use is cut off at the capacity.
	exact bool
	// ordered: along the rows the bound only falls.
	ordered bool
	paired  bool // there is a balance

	need   [2]int64 // of cpu and memory, in steps, rounded down
	room   [2]int64 // twice what a member may use of each, in steps, where exact
	weight [2]int64 // of cpu and memory in the resource scores
	other  int64    // of the other resources
	sum    int64
	gain   int64 // the most that the balance may score

	// What the balance gains, in steps, is base and within 0 and width what a
	// place times slope is beyond start: see [bound.falling].
	apart, slope, start, width, base int64

	quick bool     // the members are scored by the following, which share.go says is exact
	plain bool     // and having room for cpu and memory is all that the shape asks of a node
	full  [2]share // less what the shape needs
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
func (b *bound) prepare(q *query, cl *class) {
	alloc, s := &cl.sample.alloc, q.shape
	*b = bound{
		policy: q.policy, shape: s, class: cl, paired: alloc[cpu] > 0 && alloc[memory] > 0,
		exact: cl.soft == 0 && s.need[cpu] == s.score[cpu] && s.need[memory] == s.score[memory],
	}
	for i, w := range q.policy.resources {
		if alloc[i] > 0 {
			b.sum += w
		}
	}
	b.other = b.sum
	var needs [2]share
	for i := range needs {
		if alloc[i] > 0 {
			b.weight[i] = q.policy.resources[i]
		}
		b.other -= b.weight[i]
		needs[i] = shareOf(s.score[i], alloc[i])
		b.need[i] = int64(needs[i] >> (percentBits - stepBits))
		b.room[i] = 2 * (100*steps - b.need[i])
		b.full[i] = without(s.need[i], alloc[i])
	}
	b.ahead = needs[cpu] - needs[memory]
	b.weighBalance()
	w := &q.policy.weights
	b.ordered = b.exact && b.weight[cpu] == b.weight[memory] && (w[scoreLeast] == 0 || w[scoreMost] == 0)
	b.quick = b.exact && b.paired && separable(alloc[cpu], alloc[memory]) && b.other == 0 && b.sum > 0 && w[scoreRatio] == 0
	b.plain = b.quick && !q.perNode && s.need[disk] == 0 && s.need[network] == 0
}

// weighBalance prepares to bound the balance.
func (b *bound) weighBalance() {
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

// cell bounds one cell of a row, from the bounds of all of the row and of the
// balance; it is below zero where no leader in the cell has room.
func (b *bound) cell(row int64, c *cell, fit, gain int64) int64 {
	ahead, w := int64(c.ahead), &b.policy.weights
	if !b.quick {
		return min(fit, b.fit(row, ahead)) + w[scoreBalanced]*b.balance(ahead, gain)
	}
	left, memoryLeft := b.full[cpu]-c.least[cpu], b.full[memory]-c.least[memory]
	if left|memoryLeft < 0 {
		return -1
	}
	if w[scoreMost] == 0 {
		fit = min(fit, w[scoreLeast]*b.mean(b.weight[0]*left.whole()+b.weight[1]*memoryLeft.whole()))
	} else {
		fit = min(fit, b.fit(row, ahead))
	}
	return fit + w[scoreBalanced]*b.balance(ahead, gain)
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
		return math.MinInt32, math.MaxInt32
	}
	both := row * stepsARow
	return int32((both-b.room[1])>>(stepBits-cellBits)) - 1, int32((b.room[0] - both) >> (stepBits - cellBits)) //nolint:gosec // a few percent hundred
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

// balance bounds the same more tightly, by the rounding of the balance before and after.
func (b *bound) balance(ahead, falling int64) int64 {
	low, high := ahead*stepsACell, (ahead+1)*stepsACell
	lost := up(max(-low, high)) // the most that the balance can be below the best
	left := int64(0)            // the least that it is then below
	if b.exact {
		left = up(max(low+b.apart-1, -high-b.apart-1, 0))
	}
	return min(falling, balanceGain(lost-left, 0))
}

// up is half of so many steps in percent, rounded up.
func up(v int64) int64 { return (v + 2*steps - 1) >> (stepBits + 1) }

// rate is the sum of the scores of a leader that depend on its use alone. Where
// it is known to have no room, ok is false.
func (b *bound) rate(l *leader) (score int64, ok bool) {
	if !b.quick {
		return b.policy.score(b.class.members[l.member].node, &b.shape.score), true
	}
	left, memoryLeft := b.full[cpu]-l.use[cpu], b.full[memory]-l.use[memory]
	if left|memoryLeft < 0 {
		return 0, false
	}
	w := &b.policy.weights
	if w[scoreLeast] > 0 {
		score += w[scoreLeast] * b.mean(b.weight[0]*left.whole()+b.weight[1]*memoryLeft.whole())
	}
	if w[scoreMost] > 0 {
		score += w[scoreMost] * b.mean(b.weight[0]*left.rest()+b.weight[1]*memoryLeft.rest())
	}
	if w[scoreBalanced] > 0 {
		ahead := l.use[cpu] - l.use[memory]
		score += w[scoreBalanced] * balanceGain((ahead+b.ahead).balance(), ahead.balance())
	}
	return score, true
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
