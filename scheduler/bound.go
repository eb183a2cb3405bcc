package scheduler

import "math/bits"

// bound says how much the members of a cell, or of a whole row of cells, may
// score at most, for one shape and one class, and how much one member scores.
type bound struct {
	policy *policy
	shape  *Shape
	alloc  amounts
	// exact: what the scores count is what is reserved, so that no feasible
	// member's use is cut off at the capacity.
	exact bool
	// ordered: along the rows the bound only falls.
	ordered bool

	needed [2]int64 // of cpu and memory, 0 where the class does not count it
	need   [2]int64 // the same in steps, rounded down
	closed [2]int64 // cells from this one on have no room
	weight [2]int64 // of cpu and memory in the resource scores
	other  int64    // of the other resources
	sum    int64
	apart  int64 // cpu less memory that the shape needs, in steps
	gain   int64 // the most that the balance may score
	paired bool  // there is a balance

	quick     bool // the members are scored by the following
	byAlloc   [2]divisor
	byProduct divisor // cpu times memory capacity
}

// steps is how many steps make a percent, and stepsACell a cell.
const (
	steps      = 1024
	stepsACell = steps / cellsAPercent
)

func (q *query) bound(cl *class) bound {
	alloc, s := cl.sample.alloc, q.shape
	b := bound{
		policy: q.policy, shape: s, alloc: alloc, closed: [2]int64{side, side},
		exact: cl.soft == 0 && s.need[cpu] == s.score[cpu] && s.need[memory] == s.score[memory],
	}
	for i := range b.needed {
		if cl.sample.counted[i] {
			b.needed[i] = s.need[i]
		}
	}
	for i, w := range q.policy.resources {
		if alloc[i] == 0 {
			continue
		}
		b.sum += w
		if i > memory {
			b.other += w
			continue
		}
		b.weight[i], b.need[i] = w, inSteps(s.score[i], alloc[i])
		if b.exact {
			b.closed[i] = side - b.need[i]/stepsACell
		}
	}
	if b.paired = alloc[cpu] > 0 && alloc[memory] > 0; b.paired {
		b.apart = b.need[cpu] - b.need[memory]
	}
	b.gain = 100
	if b.exact {
		b.gain = balanceGain(ceil(abs(b.apart)+2, 2*steps), 0)
	}
	w := &q.policy.weights
	b.ordered = b.exact && b.weight[cpu] == b.weight[memory] && (w[scoreLeast] == 0 || w[scoreMost] == 0)
	b.quick = b.exact && b.paired && cl.divides && b.other == 0 && b.sum > 0 && w[scoreRatio] == 0
	b.byAlloc, b.byProduct = cl.byAlloc, cl.byProduct
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

// row bounds all cells whose places add up to sum, without the balance. It is
// asked when ordered.
func (b *bound) row(sum int64) int64 {
	if b.sum == 0 {
		return 0
	}
	w, needs := &b.policy.weights, sum*stepsACell+b.need[0]+b.need[1]
	least := b.mean(b.weight[0] * (max(200*steps-needs, 0) / steps))
	most := b.mean(b.weight[0] * min((needs+2*stepsACell+2)/steps, 200))
	return w[scoreLeast]*least + w[scoreMost]*most + w[scoreRatio]*100
}

// cell bounds one cell, without the balance. Its members use at least c cells of
// the cpu and less than one more, and m of the memory.
func (b *bound) cell(c, m int64) int64 {
	if b.sum == 0 {
		return 0
	}
	w := &b.policy.weights
	total, atC, atM := w[scoreRatio]*100, c*stepsACell+b.need[0], m*stepsACell+b.need[1]
	if w[scoreLeast] > 0 {
		left := b.weight[0]*(max(100*steps-atC, 0)/steps) + b.weight[1]*(max(100*steps-atM, 0)/steps)
		total += w[scoreLeast] * b.mean(left)
	}
	if w[scoreMost] > 0 {
		used := b.weight[0]*min((atC+stepsACell)/steps, 100) + b.weight[1]*min((atM+stepsACell)/steps, 100)
		total += w[scoreMost] * b.mean(used)
	}
	return total
}

// mean is the weighted mean of the resources, of which sum is that of cpu and memory.
func (b *bound) mean(sum int64) int64 {
	if b.sum == 2 && b.other == 0 {
		return sum >> 1
	}
	return (sum + 100*b.other) / b.sum
}

// balance bounds the balance score of a cell by how many cells the cpu is ahead.
// The distance d between the used fractions of a member becomes d + e; the score
// falls with d where e is above zero, and rises with it where e is below.
func (b *bound) balance(ahead int64) int64 {
	if !b.paired {
		return balanceGain(100, 100)
	}
	low, high := (ahead-1)*stepsACell, (ahead+1)*stepsACell
	if !b.exact {
		return min(balanceGain(ceil(max(abs(low), abs(high)), 2*steps), 0), 100)
	}
	at := low
	if b.apart < 0 {
		at = high
	}
	return balanceGain((abs(at)-abs(at+b.apart)+2+2*steps-1)>>11, 0) // rounded up
}

// divisor divides by a number that stays the same, by multiplying. The rounding
// of the product is corrected, so that the quotient is exact.
type divisor struct {
	by      int64
	inverse float64
}

func newDivisor(by int64) divisor { return divisor{by, 1 / float64(by)} }

// quo is x/by rounded down, for x ≥ 0 and a quotient below 2^31.
func (d *divisor) quo(x int64) int64 {
	q := int64(float64(x) * d.inverse)
	if rest := x - q*d.by; rest < 0 {
		q--
	} else if rest >= d.by {
		q++
	}
	return q
}

// score is the sum of the scores of a leader that depend on its use alone.
func (b *bound) score(cl *class, l *leader) int64 {
	w, need := &b.policy.weights, &b.shape.score
	if !b.quick {
		return b.policy.score(&cl.members[l.member], need)
	}
	used, memoryUsed := l.cpu+need[cpu], l.memory+need[memory]
	total := int64(0)
	if w[scoreLeast] > 0 {
		total += w[scoreLeast] * b.mean(b.weight[0]*b.byAlloc[0].quo((b.alloc[cpu]-used)*100)+b.weight[1]*b.byAlloc[1].quo((b.alloc[memory]-memoryUsed)*100))
	}
	if w[scoreMost] > 0 {
		total += w[scoreMost] * b.mean(b.weight[0]*b.byAlloc[0].quo(used*100)+b.weight[1]*b.byAlloc[1].quo(memoryUsed*100))
	}
	if w[scoreBalanced] > 0 {
		product := b.byProduct.by
		with := 100 - b.byProduct.quo(50*abs(used*b.alloc[memory]-memoryUsed*b.alloc[cpu])+product-1)
		total += w[scoreBalanced] * balanceGain(with, l.without)
	}
	return total
}

// hasRoom says whether the leader's cpu and memory have room. It is asked when
// exact, so that what is used is within the capacity.
func (b *bound) hasRoom(l *leader) bool {
	return b.needed[cpu] <= b.alloc[cpu]-l.cpu && b.needed[memory] <= b.alloc[memory]-l.memory
}

// score is the sum of the scores that depend on the node's use alone.
func (p *policy) score(m *member, need *amounts) int64 {
	n, total := m.node, int64(0)
	for kind := scoreLeast; kind <= scoreRatio; kind++ {
		if w := p.weights[kind]; w > 0 {
			total += w * p.resourceScore(kind, &n.alloc, &n.scored, need)
		}
	}
	if w := p.weights[scoreBalanced]; w > 0 {
		total += w * m.balanced(need)
	}
	return total
}
