package scheduler

import "math/bits"

// bound says how much the members of a cell, or of a whole row of cells, may
// score at most, for one shape and one class. A cell's members use c to below
// c+1 percent of their cpu, and as much of the memory.
type bound struct {
	policy *policy
	// ordered: along the rows the bound only falls, and no member's score is cut
	// off at the capacity.
	ordered bool

	up     [2]int64 // percent that the shape needs, rounded up
	closed [2]int64 // cells from this percent on have no room; none: percents
	weight [2]int64 // of cpu and memory in the resource scores
	other  int64    // of the other resources
	sum    int64
	apart  int64 // cpu percent less memory percent that the shape needs, in steps
	exact  bool  // fractions are not cut off
	paired bool  // there is a balance
	gain   int64 // the most that the balance may score
}

// steps is how many steps make a percent.
const steps = 1024

func (q *query) bound(cl *class) bound {
	alloc, s := &cl.sample.alloc, q.shape
	hard := cl.soft == 0 && s.need[cpu] == s.score[cpu] && s.need[memory] == s.score[memory]
	b := bound{policy: q.policy, exact: hard, closed: [2]int64{percents, percents}}
	for i := range resourceKinds {
		if alloc[i] == 0 {
			continue
		}
		w := q.policy.resources[i]
		b.sum += w
		if i > memory {
			b.other += w
			continue
		}
		b.weight[i], b.up[i] = w, percentUp(s.score[i], alloc[i])
		if hard {
			b.closed[i] = percents - b.up[i]
		}
	}
	if b.paired = alloc[cpu] > 0 && alloc[memory] > 0; b.paired {
		b.apart = inSteps(s.score[cpu], alloc[cpu]) - inSteps(s.score[memory], alloc[memory])
	}
	b.gain = balanceGain(ceil(abs(b.apart)+2, 2*steps), 0) // without clamping, moved by that much
	if !hard {
		b.gain = 100
	}
	w := &q.policy.weights
	b.ordered = hard && b.weight[cpu] == b.weight[memory] && (w[scoreLeast] == 0 || w[scoreMost] == 0)
	return b
}

// inSteps is used/alloc, at most 1, in steps, rounded down.
func inSteps(used, alloc int64) int64 {
	if used >= alloc {
		return 100 * steps
	}
	hi, lo := bits.Mul64(uint64(used), 100*steps) //nolint:gosec // not negative
	quo, _ := bits.Div64(hi, lo, uint64(alloc))   //nolint:gosec // not negative; used < alloc
	return int64(quo)                             //nolint:gosec // below 100·steps
}

func abs(v int64) int64 { return max(v, -v) }

// ceil is a/b rounded up, for b > 0.
func ceil(a, b int64) int64 {
	if a > 0 {
		return (a + b - 1) / b
	}
	return a / b
}

// row bounds all cells whose percents add up to sum. It is asked when ordered.
func (b *bound) row(sum int64) int64 {
	w, total := &b.policy.weights, int64(0)
	if b.sum > 0 {
		needs := sum + b.up[0] + b.up[1]
		least := (b.weight[0]*(200-needs) + 100*b.other) / b.sum
		most := (b.weight[0]*min(needs, 200) + 100*b.other) / b.sum
		total = w[scoreLeast]*max(least, 0) + w[scoreMost]*most + w[scoreRatio]*100
	}
	return total + w[scoreBalanced]*b.gain
}

// noRoom is below the score of a [best] without a node.
const noRoom = -2

// cell bounds one cell; noRoom where no member has room.
func (b *bound) cell(c, m int64) int64 {
	if c >= b.closed[0] || m >= b.closed[1] {
		return noRoom
	}
	w, total := &b.policy.weights, int64(0)
	if b.sum > 0 {
		if w[scoreLeast] > 0 {
			left := b.weight[0]*max(100-c-b.up[0], 0) + b.weight[1]*max(100-m-b.up[1], 0)
			total += w[scoreLeast] * ((left + 100*b.other) / b.sum)
		}
		if w[scoreMost] > 0 {
			used := b.weight[0]*min(c+b.up[0], 100) + b.weight[1]*min(m+b.up[1], 100)
			total += w[scoreMost] * ((used + 100*b.other) / b.sum)
		}
		total += w[scoreRatio] * 100
	}
	if w[scoreBalanced] > 0 {
		total += w[scoreBalanced] * b.balance(c, m)
	}
	return total
}

// balance bounds the balance score. The distance d between the used fractions of
// a member becomes d + e; the score falls with d where e is above zero, and rises
// with it where e is below.
func (b *bound) balance(c, m int64) int64 {
	if !b.paired {
		return balanceGain(100, 100)
	}
	low, high := (c-m-1)*steps, (c-m+1)*steps
	if !b.exact {
		return balanceGain(ceil(max(abs(low), abs(high)), 2*steps), 0)
	}
	at := low
	if b.apart < 0 {
		at = high
	}
	gain := ceil(abs(at)-abs(at+b.apart)+2, 2*steps)
	return balanceGain(gain, 0)
}
