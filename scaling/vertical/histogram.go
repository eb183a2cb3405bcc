package vertical

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// The shape of the histograms, from aggregations_config.go of the reference.
const (
	growth   = 1.05           // of each bucket over the one before
	halfLife = 24 * time.Hour // in which a sample loses half its weight
	// epsilon is a weight that counts as none.
	epsilon = 0.0001
	// maxDecay is how many half lives a sample may be after the time that weights
	// refer to before they are made to refer to a later one.
	maxDecay = 100
)

// scale is how values fall into buckets: bucket n is first·growthⁿ wide.
type scale struct {
	first float64 // width of bucket 0
	count int     // of buckets; the last has no upper end
}

// cpuScale is in cores up to 1000, memoryScale in bytes up to 10¹².
var (
	cpuScale    = newScale(0.01, 1000)
	memoryScale = newScale(1e7, 1e12)
)

func newScale(first, most float64) scale {
	return scale{first, int(math.Ceil(math.Log(most*(growth-1)/first+1)/math.Log(growth))) + 1}
}

func (s scale) bucket(v float64) int {
	if v < s.first {
		return 0
	}
	n := math.Log(v*(growth-1)/s.first+1) / math.Log(growth)
	return int(min(n, float64(s.count-1)))
}

// start is the lower end of a bucket: first·(growthⁿ − 1)/(growth − 1).
func (s scale) start(n int) float64 {
	return s.first * (math.Pow(growth, float64(n)) - 1) / (growth - 1)
}

// Histogram is how much weight fell into which bucket.
type Histogram struct {
	// Reference is the time that the weights refer to, a multiple of a day.
	Reference time.Time `json:"reference,omitzero"`
	First     int       `json:"first,omitempty"`   // bucket of the first weight
	Weights   []float64 `json:"weights,omitempty"` // the first and the last are not 0
}

// factor is how much more a sample of a time weighs than one of the reference. A
// reference that is as far in the future comes of a clock that was wrong, and
// nothing that was measured by it counts.
func (h *Histogram) factor(at time.Time) float64 {
	if age := float64(at.Sub(h.Reference)) / float64(halfLife); math.Abs(age) > maxDecay {
		if age < 0 {
			h.First, h.Weights = 0, nil
		}
		h.refer(at.Round(halfLife))
	}
	return math.Exp2(float64(at.Sub(h.Reference)) / float64(halfLife))
}

// refer makes the weights refer to another time.
func (h *Histogram) refer(to time.Time) {
	factor := math.Exp2(-math.Round(float64(to.Sub(h.Reference)) / float64(halfLife)))
	for i := range h.Weights {
		h.Weights[i] *= factor
	}
	h.Reference = to
	h.trim()
}

// add lets a value of a time count with a weight.
func (h *Histogram) add(s scale, value, weight float64, at time.Time) {
	weight *= h.factor(at)
	n := s.bucket(value)
	if len(h.Weights) == 0 {
		h.First = n
	}
	for ; n < h.First; h.First-- {
		h.Weights = append([]float64{0}, h.Weights...)
	}
	for len(h.Weights) <= n-h.First {
		h.Weights = append(h.Weights, 0)
	}
	h.Weights[n-h.First] += weight
	h.trim()
}

// subtract takes back what add was given.
func (h *Histogram) subtract(s scale, value, weight float64, at time.Time) {
	weight *= h.factor(at)
	n := s.bucket(value) - h.First
	if n < 0 || n >= len(h.Weights) {
		return
	}
	if h.Weights[n] -= weight; h.Weights[n] < epsilon {
		h.Weights[n] = 0
	}
	h.trim()
}

// trim drops what counts as nothing at both ends.
func (h *Histogram) trim() {
	for len(h.Weights) > 0 && h.Weights[0] < epsilon {
		h.Weights = h.Weights[1:]
		h.First++
	}
	for len(h.Weights) > 0 && h.Weights[len(h.Weights)-1] < epsilon {
		h.Weights = h.Weights[:len(h.Weights)-1]
	}
	if len(h.Weights) == 0 {
		h.First, h.Weights = 0, nil
	}
}

// percentile is the upper end of the bucket at which a part of the weight is
// reached, 0 to 1; 0 where there is none. The last bucket has no upper end, so it
// gives its lower one.
func (h *Histogram) percentile(s scale, part float64) float64 {
	if len(h.Weights) == 0 {
		return 0
	}
	total := 0.0
	for _, w := range h.Weights {
		total += w
	}
	n, sum := 0, h.Weights[0]
	for sum < part*total && n < len(h.Weights)-1 {
		n++
		sum += h.Weights[n]
	}
	return s.start(min(h.First+n+1, s.count-1))
}

// check refuses what add cannot have made.
func (h *Histogram) check(s scale) error {
	if h.First < 0 || h.First+len(h.Weights) > s.count {
		return fmt.Errorf("%d weights from bucket %d on do not fit into %d buckets", len(h.Weights), h.First, s.count)
	}
	for _, w := range h.Weights {
		if !(w >= 0) || math.IsInf(w, 0) {
			return errors.New("a weight is not a number or below 0")
		}
	}
	return nil
}
