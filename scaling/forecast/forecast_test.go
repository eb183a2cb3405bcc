package forecast_test

import (
	"encoding/json"
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/berth-dev/berth/scaling/forecast"
)

var midnight = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

const day = 24 * time.Hour

// office is a service that is used from 9 to 17, and by a twentieth more each day.
func office(at time.Time) float64 {
	days := at.Sub(midnight).Hours() / 24
	if h := at.Hour(); h < 9 || h >= 17 {
		return 2
	}
	return 10 * math.Pow(1.05, math.Floor(days))
}

func watch(s *forecast.Series, from time.Time, during time.Duration, value func(time.Time) float64) {
	for at := from; at.Before(from.Add(during)); at = at.Add(time.Minute) {
		s.Observe(at, value(at))
	}
}

// The rise at nine is expected before it comes, about as high as it is.
func TestForecastSeesTheMorning(t *testing.T) {
	var s forecast.Series
	watch(&s, midnight, 5*day+8*time.Hour+45*time.Minute, office)
	now := midnight.Add(5*day + 8*time.Hour + 45*time.Minute)
	f := s.At(now.Add(20*time.Minute), now)
	if want := office(now.Add(20 * time.Minute)); f.Reason != "" || f.Value < 0.8*want || f.Value > 1.1*want {
		t.Errorf("got %+v, want about %v", f, want)
	}
	if quiet := s.At(now.Add(10*time.Minute), now); quiet.Reason != "" || quiet.Value > 5 {
		t.Errorf("got %+v before the rise", quiet)
	}
	if n := f.Replicas(); n != int(math.Ceil(f.Value)) {
		t.Errorf("%v are %d replicas", f.Value, n)
	}
	// The most of all slots until then.
	now = midnight.Add(5*day + 16*time.Hour)
	watch(&s, midnight.Add(5*day+8*time.Hour+45*time.Minute), 7*time.Hour+15*time.Minute, office)
	if f := s.At(now.Add(4*time.Hour), now); f.Value < 10 {
		t.Errorf("got %+v for the evening, and until then the day is as busy as ever", f)
	}
}

func TestForecastKnowsItsLimits(t *testing.T) {
	tests := []struct {
		name   string
		days   time.Duration
		value  func(time.Time) float64
		ahead  time.Duration
		reason string
	}{
		{"too early", 2*day - time.Hour, office, time.Hour, "two seasons have not been seen yet"},
		{"early enough", 2*day + time.Hour, office, time.Hour, ""},
		{"too far", 3 * day, office, day + time.Hour, "the time is not within the season that comes"},
		{"one slot too far", 3 * day, office, day - 15*time.Minute, "the time is not within the season that comes"},
		{"just near enough", 3 * day, office, day - 16*time.Minute, ""},
		{"the past", 3 * day, office, -time.Hour, "the time is not within the season that comes"},
		{"nothing like it", 4 * day, func(at time.Time) float64 {
			return 100 * float64(uint32(at.Unix()/900*2654435761)>>31) // 0 or 100 in no order
		}, time.Hour, "forecasts were far off of late"},
		{"nothing at all", 3 * day, func(time.Time) float64 { return 0 }, time.Hour, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var s forecast.Series
			watch(&s, midnight, tt.days, tt.value)
			now := midnight.Add(tt.days)
			f := s.At(now.Add(tt.ahead), now)
			if f.Reason != tt.reason || (f.Reason != "") && f.Replicas() != 0 {
				t.Errorf("got %+v, want %q", f, tt.reason)
			}
		})
	}
}

// What is not known of a few hours does not spoil the rest; a longer gap does, and
// so does a clock that is set far back.
func TestForecastGaps(t *testing.T) {
	var s forecast.Series
	watch(&s, midnight, 4*day, office)
	watch(&s, midnight.Add(4*day+12*time.Hour), 12*time.Hour, office)
	now := midnight.Add(5*day + 8*time.Hour + 50*time.Minute)
	watch(&s, midnight.Add(5*day), 8*time.Hour+50*time.Minute, office)
	if f := s.At(now.Add(30*time.Minute), now); f.Reason != "" || f.Value < 10 || f.Value > 20 {
		t.Errorf("after twelve hours: %+v", f)
	}
	before := clone(t, &s)
	s.Observe(now.Add(-time.Hour), 1000) // an hour late, or the clock was set back
	s.Observe(now, math.NaN())
	s.Observe(now, math.Inf(1))
	s.Observe(now, -1)
	if !reflect.DeepEqual(before, &s) {
		t.Errorf("a value that says nothing was taken")
	}
	for _, jump := range []time.Duration{2 * day, -2 * day, -50 * 365 * day} {
		s := clone(t, &s)
		s.Observe(now.Add(jump), 1)
		if f := s.At(now.Add(jump+time.Hour), now.Add(jump)); f.Reason == "" || s.Slots != 0 {
			t.Errorf("after %s: %+v", jump, f)
		}
	}
}

func clone(t *testing.T, s *forecast.Series) *forecast.Series {
	t.Helper()
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	if len(data) > 4096 {
		t.Errorf("takes %d bytes", len(data))
	}
	var back forecast.Series
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(s, &back) {
		t.Errorf("got %+v, want %+v", back, s)
	}
	return &back
}

func FuzzSeries(f *testing.F) {
	f.Add([]byte(`{}`), int64(0), 1.0)
	f.Add([]byte(`{"slot":1,"season":9223372036854775807,"slots":9999,"course":[1,2],"level":1e308,"trend":1e308}`), int64(1<<40), 1e308)
	f.Add([]byte(`{"slot":-1,"season":-1,"course":[0]}`), int64(-1<<40), 0.0)
	f.Fuzz(func(t *testing.T, data []byte, seconds int64, value float64) {
		var s forecast.Series
		if json.Unmarshal(data, &s) != nil {
			return
		}
		at := midnight.Add(time.Duration(seconds%(1<<20)) * time.Second)
		s.Observe(at, value)
		s.Observe(at.Add(time.Hour), value)
		if got := s.At(at.Add(2*time.Hour), at.Add(time.Hour)); got.Reason == "" && (got.Value < 0 || got.Replicas() < 0) {
			t.Fatalf("got %+v", got)
		}
	})
}

func BenchmarkObserve(b *testing.B) {
	var s forecast.Series
	watch(&s, midnight, 3*day, office)
	at := midnight.Add(3 * day)
	for b.Loop() {
		at = at.Add(15 * time.Second)
		s.Observe(at, 5)
	}
}
