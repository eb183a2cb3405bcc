// Package forecast expects that today goes as the days before did: it learns how
// much of a service is needed at which time of the day, and how that grows, and
// says what will be needed in a while.
//
// A forecast is for [scaling.Input.Forecast]: it may have replicas ready before
// they are needed, and never takes one away. One that was far off of late is not
// given at all.
//
// [scaling.Input.Forecast]: https://pkg.go.dev/github.com/berth-dev/berth/scaling#Input
package forecast

import (
	"cmp"
	"math"
	"time"
)

// The smoothing of level, trend and season, and how fast the trend fades with the
// distance: Holt and Winters' additive method with the damped trend of Gardner and
// McKenzie (1985).
const (
	alpha = 0.3
	beta  = 0.05
	gamma = 0.5
	phi   = 0.9
)

// maxSlots bounds a season.
const maxSlots = 2016 // of five minutes in a week

// tooFarOff is the mean error, as a part of the mean value, from which on a
// forecast says nothing.
const tooFarOff = 0.5

// Series is what was needed, and what is expected to be. It reads back from JSON
// as it was written. Observing changes it in place. The zero value has a season
// of a day in slots of 15 minutes, and knows nothing.
type Series struct {
	Season time.Duration `json:"season,omitempty"` // after which it goes the same again; at most 2016 slots
	Slot   time.Duration `json:"slot,omitempty"`   // that has one value, the mean

	Begin time.Time `json:"begin,omitzero"` // of the slot that is being filled
	Sum   float64   `json:"sum,omitempty"`
	Count int       `json:"count,omitempty"`

	Level  float64   `json:"level,omitempty"`
	Trend  float64   `json:"trend,omitempty"`  // by slot
	Course []float64 `json:"course,omitempty"` // by slot of the season: the value, and after the first season what it is above the level
	Slots  int       `json:"slots,omitempty"`  // how many are over
	Off    float64   `json:"off,omitempty"`    // mean error of forecasts one slot ahead, as it was of late
}

func (s *Series) shape() (slot time.Duration, n int) {
	slot = max(cmp.Or(s.Slot, 15*time.Minute), time.Second)
	season := cmp.Or(s.Season, 24*time.Hour)
	return slot, int(min(max(season/slot, 1), maxSlots))
}

// Observe adds a value of a time, 0 or more. Values come in the order of time; one
// of a slot that is over is left out. After a gap of a season and more, or when
// the clock was set back as far, everything is learnt anew.
func (s *Series) Observe(at time.Time, value float64) {
	if !(value >= 0) || value > math.MaxFloat32 {
		return
	}
	slot, n := s.shape()
	begin := at.Truncate(slot)
	season := slot * time.Duration(n)
	if gap := begin.Sub(s.Begin); s.Begin.IsZero() || gap >= season || gap <= -season || len(s.Course) > n {
		*s = Series{Season: s.Season, Slot: s.Slot, Begin: begin}
	}
	if begin.Before(s.Begin) {
		return
	}
	if begin.After(s.Begin) {
		s.close(n, slot)
		for s.Begin = s.Begin.Add(slot); s.Begin.Before(begin); s.Begin = s.Begin.Add(slot) {
			s.miss(n, slot)
		}
		s.Sum, s.Count = 0, 0
	}
	s.Sum, s.Count = s.Sum+value, s.Count+1
}

// close learns from the slot that is over.
func (s *Series) close(n int, slot time.Duration) {
	s.learn(s.Sum/float64(max(s.Count, 1)), n, slot)
}

// miss lets a slot without a value go as expected, or as the one before.
func (s *Series) miss(n int, slot time.Duration) {
	value := s.Level
	if s.Slots >= n {
		value = s.ahead(0, n, slot)
	} else if len(s.Course) > 0 {
		value = s.Course[s.index(s.Begin.Add(-slot), n, slot)]
	}
	s.learn(value, n, slot)
}

func (s *Series) learn(value float64, n int, slot time.Duration) {
	if len(s.Course) < n {
		s.Course = append(s.Course, make([]float64, n-len(s.Course))...)
	}
	i := s.index(s.Begin, n, slot)
	s.Slots++
	if s.Slots <= n {
		s.Course[i] = value
		if s.Slots == n {
			s.found()
		}
		return
	}
	off := math.Abs(value - s.ahead(0, n, slot))
	if s.Slots == n+1 {
		s.Off = off
	}
	s.Off += (off - s.Off) / float64(min(s.Slots-n, n))
	before := s.Level
	s.Level = alpha*(value-s.Course[i]) + (1-alpha)*(before+phi*s.Trend)
	s.Trend = beta*(s.Level-before) + (1-beta)*phi*s.Trend
	s.Course[i] = gamma*(value-s.Level) + (1-gamma)*s.Course[i]
}

// found splits the first season into its mean and the course around it.
func (s *Series) found() {
	for _, v := range s.Course {
		s.Level += v / float64(len(s.Course))
	}
	for i := range s.Course {
		s.Course[i] -= s.Level
	}
}

func (s *Series) index(at time.Time, n int, slot time.Duration) int {
	i := at.UnixNano() / int64(slot) % int64(n)
	return int((i + int64(n)) % int64(n))
}

// ahead is what is expected of the slot that many after the one that is being
// filled.
func (s *Series) ahead(slots, n int, slot time.Duration) float64 {
	fade, trend := 1.0, 0.0
	for range slots + 1 {
		fade *= phi
		trend += fade * s.Trend
	}
	i := s.index(s.Begin.Add(time.Duration(slots)*slot), n, slot)
	return max(s.Level+trend+s.Course[i], 0)
}

// Forecast is what is expected of a time.
type Forecast struct {
	At    time.Time `json:"at"`
	Value float64   `json:"value"` // 0 or more
	Off   float64   `json:"off"`   // how far forecasts were off of late, on average
	// Reason is why there is none; empty: there is one.
	Reason string `json:"reason,omitempty"`
}

// At returns what is expected of a time within the season that comes: the most of
// any slot from now until then, for what is needed in between counts too.
func (s *Series) At(at, now time.Time) Forecast {
	f := Forecast{At: at, Off: s.Off}
	slot, n := s.shape()
	from, to := s.after(now, slot), s.after(at, slot)
	switch {
	case s.Slots < 2*n || len(s.Course) != n:
		f.Reason = "two seasons have not been seen yet"
	case to < 0 || from < 0 || to >= n:
		f.Reason = "the time is not within the season that comes"
	case s.Off > tooFarOff*max(s.Level, 0):
		f.Reason = "forecasts were far off of late"
	default:
		for i := min(from, to); i <= to; i++ {
			f.Value = max(f.Value, s.ahead(i, n, slot))
		}
	}
	return f
}

// after is how many slots a time is after the one that is being filled.
func (s *Series) after(t time.Time, slot time.Duration) int {
	return int(math.Floor(float64(t.Sub(s.Begin)) / float64(slot)))
}

// Replicas is the forecast as a number of replicas, where the values are how many
// are needed, in parts of one too; 0 where there is no forecast.
func (f Forecast) Replicas() int {
	if f.Reason != "" {
		return 0
	}
	return int(math.Ceil(min(f.Value, math.MaxInt32)))
}
