package scheduler

import "math/bits"

// The formulas of the resource scores, each 0..100, as Kubernetes has them but
// in integers throughout: no machine's way of rounding can change a choice. Each
// takes what would be used with the replica in place and what the node can
// promise, which is above zero.

// leastAllocated is the percentage that is left, rounded down.
func leastAllocated(used, alloc int64) int64 {
	if used > alloc {
		return 0
	}
	return (alloc - used) * 100 / alloc
}

// mostAllocated is the percentage that is used, rounded down, and at most 100.
func mostAllocated(used, alloc int64) int64 {
	return min(used, alloc) * 100 / alloc
}

// onLine is the score of a resource on the line through the points.
func onLine(line []RatioPoint, used, alloc int64) int64 {
	percent := mostAllocated(used, alloc)
	from := line[0]
	for _, at := range line {
		if percent > at.Utilization {
			from = at
			continue
		}
		if at == from {
			return at.Score
		}
		return from.Score + (at.Score-from.Score)*(percent-from.Utilization)/(at.Utilization-from.Utilization)
	}
	return line[len(line)-1].Score
}

// balance is how evenly two resources are used: int((1 − std)·100), where std,
// the standard deviation of the two used fractions, is half their distance. A
// fraction counts as 1 at most. It is 100 for equal fractions and 50 for 0 and 1.
//
// It rounds the exact value down, where Kubernetes rounds a float64 down.
func balance(usedA, allocA, usedB, allocB int64) int64 {
	usedA, usedB = min(usedA, allocA), min(usedB, allocB)
	// (1 − |a/A − b/B| / 2)·100 = 100 − 50·|a·B − b·A| / (A·B)
	leftHi, leftLo := bits.Mul64(uint64(usedA), uint64(allocB))    //nolint:gosec // amounts are not negative
	rightHi, rightLo := bits.Mul64(uint64(usedB), uint64(allocA))  //nolint:gosec // amounts are not negative
	wholeHi, wholeLo := bits.Mul64(uint64(allocA), uint64(allocB)) //nolint:gosec // amounts are not negative
	if leftHi < rightHi || leftHi == rightHi && leftLo < rightLo {
		leftHi, leftLo, rightHi, rightLo = rightHi, rightLo, leftHi, leftLo
	}
	apartLo, borrow := bits.Sub64(leftLo, rightLo, 0)
	apartHi, _ := bits.Sub64(leftHi, rightHi, borrow)
	return 100 - ceilOfFifty(apartHi, apartLo, wholeHi, wholeLo)
}

// ceilOfFifty is 50·apart/whole rounded up, for apart ≤ whole < 2^80, both of 128 bits.
func ceilOfFifty(apartHi, apartLo, wholeHi, wholeLo uint64) int64 {
	hi, lo := bits.Mul64(apartLo, 50)
	if hi|apartHi|wholeHi == 0 && lo <= 1<<63 && wholeLo < 1<<63 {
		return int64((lo + wholeLo - 1) / wholeLo) //nolint:gosec // at most 50
	}
	hi += apartHi * 50
	low, high := uint64(0), uint64(50) // the smallest q with q·whole ≥ 50·apart
	for low < high {
		q := (low + high) / 2
		qHi, qLo := bits.Mul64(wholeLo, q)
		qHi += wholeHi * q
		if qHi > hi || qHi == hi && qLo >= lo {
			high = q
		} else {
			low = q + 1
		}
	}
	return int64(low)
}

// balanceGain scores how the balance changes: 75 when it stays, 100 when it
// becomes perfect from the worst, 50 for the reverse.
func balanceGain(with, without int64) int64 {
	return 50 + (50+with-without)>>1 // a sum that is not negative
}

// normalise maps a value between 0 and most to 0..100, or the reverse.
func normalise(value, most int64, reverse bool) int64 {
	if most == 0 {
		if reverse {
			return 100
		}
		return value
	}
	score := 100 * value / most
	if reverse {
		return 100 - score
	}
	return score
}

// lnScale is the unit of [ln]: 2^-30.
const lnScale = 30

// ln is the natural logarithm of n ≥ 1 in units of 2^-30, exact to a few units.
// With n = m·2^k, 1 ≤ m < 2, it is k·ln 2 + 2·artanh((m−1)/(m+1)), whose series
// converges fast.
func ln(n int64) int64 {
	const one, ln2 = int64(1) << lnScale, int64(744261118) // ln 2 · 2^30
	k := int64(bits.Len64(uint64(n)) - 1)                  //nolint:gosec // n ≥ 1
	m := n << (lnScale - k)
	if k > lnScale {
		m = n >> (k - lnScale)
	}
	z := (m - one) << lnScale / (m + one)
	square := z * z >> lnScale
	sum := int64(0)
	for power, i := z, int64(1); power > 0; i += 2 {
		sum += power / i
		power = power * square >> lnScale
	}
	return k*ln2 + 2*sum
}

// spreadScore is the raw topology score of one rule, to be rounded after all
// rules are added: count·ln(domains+2) + (maxSkew−1), in units of 2^-30.
func spreadScore(count, domains, maxSkew int64) int64 {
	return count*ln(domains+2) + (maxSkew-1)<<lnScale
}

// rounded is a value in units of 2^-30 as the nearest integer.
func rounded(v int64) int64 { return (v + 1<<(lnScale-1)) >> lnScale }
