package scheduler

import "math/bits"

// share is which part of a capacity something is, at most all of it, in units of
// 2^-56 percent, rounded down. Scores come from shares without a division, and are
// exact all the same: what two shares together leave comes out too high by less
// than two units, which is less than what parts any amount of a resource, which is
// at most [MaxAmount], from the next whole percent.
type share int64

// Dividing by a percent is shifting by percentBits.
const (
	percentBits = 56
	aPercent    = share(1) << percentBits
)

// shareOf is used/alloc; of nothing it is 0.
func shareOf(used, alloc int64) share {
	switch {
	case alloc == 0:
		return 0
	case used >= alloc:
		return 100 * aPercent
	}
	hi, lo := bits.Mul64(uint64(used), 100*uint64(aPercent)) //nolint:gosec // not negative
	quo, _ := bits.Div64(hi, lo, uint64(alloc))              //nolint:gosec // not negative; used < alloc
	return share(quo)                                        //nolint:gosec // below 100 percent
}

// grain is a share in units of 2^-24 percent, rounded down: short, for what need
// not be exact.
type grain int32

// grainBits and shortBits are what parts a grain from a percent and from a share.
const (
	grainBits = 24
	shortBits = percentBits - grainBits
)

func (s share) grain() grain { return grain(s >> shortBits) } //nolint:gosec // at most 100 percent, below 2^31

// whole is the whole percent of a share that is not negative.
func (s share) whole() int64 { return int64(s >> percentBits) }

// rest is how many whole percent are used when so much is left, which may be too
// high by less than two units.
func (s share) rest() int64 { return 100 - int64((s+aPercent-3)>>percentBits) }

// balance is [balance] of two shares that are so far apart, or by less than two
// units more or less. It is exact where the capacities are separable.
func (s share) balance() int64 {
	return 100 - int64((max(s, -s)+2*aPercent-3)>>(percentBits+1))
}

// separable says whether shares of two capacities tell every two amounts of them
// apart: 50·|a·B − b·A| / (A·B) is a whole number or at least 1/(A·B) off one,
// and the difference of two shares is off by less than four units.
func separable(a, b int64) bool {
	hi, lo := bits.Mul64(uint64(a), uint64(b)) //nolint:gosec // not negative
	return hi == 0 && lo < 1<<(percentBits-1)
}
