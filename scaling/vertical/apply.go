package vertical

import "fmt"

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
		CPU:    apply(r.CPU, b.Min.CPU, b.Max.CPU, limits.CPU, used.CPU, "m"),
		Memory: apply(r.Memory, b.Min.Memory, b.Max.Memory, limits.Memory, used.Memory, " bytes"),
	}
}

func apply(r Range, least, most, limit, used int64, unit string) Step {
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
	if limit >= lower && limit <= upper {
		return keep("%d%s is between %d and %d", limit, unit, lower, upper)
	}
	need := whole(float64(max(used, 0)) * (1 + UseMargin))
	to := within(max(r.Target, need))
	switch {
	case to < limit && to < need:
		return keep("%d%s are used, too much for the maximum of %d", used, unit, most)
	case to == limit && to == within(r.Target):
		return keep("%d%s is the bound", limit, unit)
	case to == limit:
		return keep("%d%s are used", used, unit)
	case limit < lower:
		return Step{limit, to, fmt.Sprintf("below the %d%s that are needed", lower, unit)}
	default:
		return Step{limit, to, fmt.Sprintf("above the %d%s that could be needed", upper, unit)}
	}
}
