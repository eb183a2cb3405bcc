package vertical

import (
	"fmt"
	"math"
	"strconv"
)

// UseMargin is how much above its present use a limit stays: 15 %.
const UseMargin = 0.15

// Amounts are so much of both resources. What 0 means is said where they are
// used.
type Amounts struct {
	CPU    int64 `json:"cpu,omitempty"`    // millicores
	Memory int64 `json:"memory,omitempty"` // bytes
}

// Bounds are what a limit may be. 0: no bound.
type Bounds struct {
	Min Amounts `json:"min,omitzero"`
	Max Amounts `json:"max,omitzero"`
}

// Change is what becomes of the limits of a replica.
type Change struct {
	CPU    Step `json:"cpu"`
	Memory Step `json:"memory"`
}

// Step is what becomes of one limit, and why. From and To are equal where it is
// kept.
type Step struct {
	From   int64  `json:"from"`
	To     int64  `json:"to"`
	Reason string `json:"reason"`
}

// Changes reports whether any limit becomes another.
func (c Change) Changes() bool { return c.CPU.From != c.CPU.To || c.Memory.From != c.Memory.To }

// Apply says what limits a replica gets that has some and uses so much now. A
// limit that is 0 is none and stays none. A limit that the recommendation finds
// neither too small nor wasteful stays. No limit is set outside of the bounds or
// below what is used, with a margin of [UseMargin]; where both cannot be, it is
// not lowered.
func Apply(r Recommendation, b Bounds, limits, used Amounts) Change {
	return Change{
		CPU:    apply(r.CPU, b.Min.CPU, b.Max.CPU, limits.CPU, used.CPU, millicores),
		Memory: apply(r.Memory, b.Min.Memory, b.Max.Memory, limits.Memory, used.Memory, mebibytes),
	}
}

func millicores(v int64) string { return strconv.FormatInt(v, 10) + "m" }

// mebibytes is an amount of memory as a Compose file has it: "64M".
func mebibytes(v int64) string {
	return strconv.FormatFloat(math.Round(float64(v)*10/(1<<20))/10, 'f', -1, 64) + "M"
}

func apply(r Range, least, most, limit, used int64, text func(int64) string) Step {
	keep := func(format string, args ...any) Step {
		return Step{limit, limit, fmt.Sprintf(format, args...)}
	}
	if limit == 0 {
		return keep("it has no limit")
	}
	within := func(v int64) int64 {
		if most > 0 {
			v = min(v, most)
		}
		return max(v, least)
	}
	lower, upper := within(r.Lower), within(r.Upper)
	switch {
	case limit < lower || limit > upper:
	case upper == math.MaxInt64:
		return keep("%s is not below %s, and too little is known to say what is too much", text(limit), text(lower))
	default:
		return keep("%s is between %s and %s", text(limit), text(lower), text(upper))
	}
	need := whole(float64(max(used, 0)) * (1 + UseMargin))
	to := within(max(r.Target, need))
	switch {
	case to < limit && to < need:
		return keep("%s are used, too much for the maximum of %s", text(used), text(most))
	case to == limit && to == within(r.Target):
		return keep("%s is the bound", text(limit))
	case to == limit:
		return keep("%s are used", text(used))
	case limit < lower:
		return Step{limit, to, fmt.Sprintf("below the %s that are needed", text(lower))}
	default:
		return Step{limit, to, fmt.Sprintf("above the %s that could be needed", text(upper))}
	}
}
