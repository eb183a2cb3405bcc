package vertical

import (
	"cmp"
	"math"
	"time"
)

// DefaultLeastMemory is in bytes, and the one default that is not the reference's:
// its 250 MiB are there because a change restarts what is sized, and would be more
// than most containers of a developer's machine ever use. 16 MiB are above what the
// engine allows at least (6 MiB) and leave room for a shell or a probe's command
// beside a small program.
const DefaultLeastMemory = 16 << 20

// Options are how cautious a recommendation is. The zero value of each field is
// its default, which is that of the reference but for the least memory.
type Options struct {
	Target float64 `json:"target,omitempty"` // part of all use that fits, 0 to 1; 0.9
	Lower  float64 `json:"lower,omitempty"`  // 0.5
	Upper  float64 `json:"upper,omitempty"`  // 0.95
	Margin float64 `json:"margin,omitempty"` // added to all three; 0.15
	// Nothing less is ever recommended; 25 millicores and [DefaultLeastMemory].
	LeastCPU    int64 `json:"leastCpu,omitempty"`
	LeastMemory int64 `json:"leastMemory,omitempty"`
}

// Range is how much of a resource a replica needs. Less than Lower is too little,
// more than Upper is wasted.
type Range struct {
	Lower  int64 `json:"lower"`
	Target int64 `json:"target"`
	Upper  int64 `json:"upper"`
}

// Recommendation is how much of both resources a replica needs.
type Recommendation struct {
	CPU    Range `json:"cpu"`    // millicores
	Memory Range `json:"memory"` // bytes
	// Days is how much is known, in days of a sample a minute.
	Days    float64 `json:"days"`
	Samples int     `json:"samples"`
}

// Recommend says what a replica of the service needs. It reports false where
// nothing is known of one of the resources.
func (h *History) Recommend(o Options) (Recommendation, bool) {
	days := h.confidence()
	r := Recommendation{Days: days, Samples: h.Samples}
	r.CPU = o.estimate(&h.CPU, cpuScale, 1000, days, cmp.Or(o.LeastCPU, 25))
	r.Memory = o.estimate(&h.Memory, memoryScale, 1, days, cmp.Or(o.LeastMemory, DefaultLeastMemory))
	return r, len(h.CPU.Weights) > 0 && len(h.Memory.Weights) > 0
}

// confidence is in days, as getConfidence of the reference's estimator.go: the
// time between the first and the last sample, or the number of samples where they
// came less often than once a minute.
func (h *History) confidence() float64 {
	span := h.Last.Sub(h.First).Hours() / 24
	return min(span, float64(h.Samples)/float64(24*time.Hour/time.Minute))
}

// estimate multiplies the bounds so that little is known means that much is
// possible: the upper one by 1 + 1/days, the lower one by (1 + 0.001/days)⁻².
func (o Options) estimate(h *Histogram, s scale, unit, days float64, least int64) Range {
	margin := unit * (1 + cmp.Or(o.Margin, 0.15))
	at := func(part, factor float64) int64 {
		return max(whole(h.percentile(s, part)*margin*factor), least)
	}
	return Range{
		Lower:  at(cmp.Or(o.Lower, 0.5), math.Pow(1+0.001/days, -2)),
		Target: at(cmp.Or(o.Target, 0.9), 1),
		Upper:  at(cmp.Or(o.Upper, 0.95), 1+1/days),
	}
}
