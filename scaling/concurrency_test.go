package scaling_test

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/berth-dev/berth/scaling"
)

// traffic is a service that gets one load value a second and is decided on every
// two; what is decided is ready at once.
type traffic struct {
	t        *testing.T
	policy   scaling.Concurrency
	state    scaling.ConcurrencyState
	load     []scaling.Load
	now      time.Time
	replicas int
	last     scaling.ConcurrencyDecision
}

func (r *traffic) run(seconds int, atOnce float64) {
	for i := range seconds {
		r.load = append(r.load, scaling.Load{At: r.now, AtOnce: atOnce})
		if i%2 == 0 {
			r.decide()
		}
		r.now = r.now.Add(time.Second)
	}
}

func (r *traffic) decide() {
	data, err := json.Marshal(r.state)
	if err != nil {
		r.t.Fatal(err)
	}
	var state scaling.ConcurrencyState
	if err := json.Unmarshal(data, &state); err != nil {
		r.t.Fatal(err)
	}
	r.last, r.state = r.policy.Decide(state, r.replicas, r.replicas, r.load, r.now)
	r.replicas = r.last.Desired
}

func TestConcurrencyStable(t *testing.T) {
	r := &traffic{t: t, now: noon, replicas: 1, policy: scaling.Concurrency{Target: 10, Max: 100, PanicFactor: 3}}
	r.run(120, 10)
	if r.replicas != 1 || r.last.Panicking {
		t.Fatalf("at the target: %v", r.last)
	}
	r.run(70, 19)
	if r.replicas != 2 || r.last.Panicking || r.last.Stable != 19 {
		t.Fatalf("a little above: %v", r.last)
	}
}

// A burst is answered within the short window, and the number does not fall until
// a stable window after it.
func TestConcurrencyPanic(t *testing.T) {
	r := &traffic{t: t, now: noon, replicas: 1, policy: scaling.Concurrency{Target: 10, Max: 100}}
	r.run(60, 5)
	r.run(7, 200)
	if !r.last.Panicking || r.replicas != 20 {
		t.Fatalf("after 7 s of a burst: %v", r.last)
	}
	r.run(1, 10)
	if r.replicas != 20 {
		t.Fatalf("fell in a panic: %v", r.last)
	}
	end := r.state.Panicked.Add(time.Minute)
	for r.now.Before(end) {
		r.run(2, 10)
		if r.replicas < 20 {
			t.Fatalf("fell %s before the end of the panic: %v", end.Sub(r.now), r.last)
		}
	}
	r.run(20, 10)
	if r.last.Panicking || r.replicas != 1 {
		t.Fatalf("after the panic: %v", r.last)
	}
}

// Shrinking halves at most, and growing is bounded by the rate.
func TestConcurrencyRates(t *testing.T) {
	policy := scaling.Concurrency{Target: 1, Max: 1000, UpRate: 3}
	state := scaling.ConcurrencyState{Decided: noon} // no panic at the start
	tests := []struct {
		ready  int
		atOnce float64
		want   int
	}{{8, 0.5, 4}, {9, 1, 4}, {2, 1, 1}, {4, 11, 11}, {4, 50, 12}, {1, 2.5, 3}}
	for _, tt := range tests {
		load := []scaling.Load{{At: noon.Add(-time.Minute), AtOnce: tt.atOnce}}
		if d, _ := policy.Decide(state, tt.ready, tt.ready, load, noon); d.Desired != tt.want {
			t.Errorf("%d ready, %v at once: got %v, want %d", tt.ready, tt.atOnce, d, tt.want)
		}
	}
}

// The last replica goes after a stable window and the grace, and comes back with
// the first request.
func TestConcurrencyZero(t *testing.T) {
	r := &traffic{t: t, now: noon, replicas: 1, policy: scaling.Concurrency{Target: 10, Min: new(0), Max: 100}}
	r.run(60, 4)
	idle := r.now
	for r.replicas > 0 && r.now.Before(idle.Add(time.Hour)) {
		r.run(2, 0)
	}
	if took := r.now.Sub(idle); took < 90*time.Second || took > 95*time.Second {
		t.Errorf("rested after %s, want a minute and a half", took)
	}
	r.run(60, 0)
	if r.replicas != 0 || slices.Contains(r.last.Reasons, scaling.InGrace) {
		t.Errorf("did not stay at rest: %v", r.last)
	}
	r.load = append(r.load, scaling.Load{At: r.now, AtOnce: 1})
	if r.decide(); r.replicas != 1 {
		t.Errorf("the first request did not wake it: %v", r.last)
	}
	r.policy.Min = nil
	r.replicas = 1
	if r.run(300, 0); r.replicas != 1 || !slices.Contains(r.last.Reasons, scaling.TooFewReplicas) {
		t.Errorf("rested below the minimum: %v", r.last)
	}
}

// Work in between begins the wait for rest anew.
func TestConcurrencyGraceBeginsAnew(t *testing.T) {
	r := &traffic{t: t, now: noon, replicas: 1, policy: scaling.Concurrency{Target: 10, Min: new(0), Max: 100}}
	r.run(60, 4)
	r.run(80, 0)
	if r.replicas != 1 || !slices.Contains(r.last.Reasons, scaling.InGrace) {
		t.Fatalf("not in its grace: %v", r.last)
	}
	r.run(2, 4)
	idle := r.now
	for r.replicas > 0 && r.now.Before(idle.Add(time.Hour)) {
		r.run(2, 0)
	}
	if took := r.now.Sub(idle); took < 90*time.Second || took > 95*time.Second {
		t.Errorf("rested after %s, want a minute and a half", took)
	}
}

// What was woken by somebody whom no sample has seen is kept for its grace.
func TestConcurrencyGraceAfterAWake(t *testing.T) {
	r := &traffic{t: t, now: noon, replicas: 1, policy: scaling.Concurrency{Target: 10, Min: new(0), Max: 100}}
	if r.run(600, 0); r.replicas != 0 {
		t.Fatalf("not at rest: %v", r.last)
	}
	r.replicas = 1
	if r.run(28, 0); r.replicas != 1 {
		t.Errorf("gone within the grace: %v", r.last)
	}
	if r.run(10, 0); r.replicas != 0 {
		t.Errorf("kept after the grace: %v", r.last)
	}
}

// The borders of a panic: it begins at the factor, ends after the stable window,
// and asks for the larger of both means.
func TestConcurrencyPanicBorders(t *testing.T) {
	policy := scaling.Concurrency{Target: 10, Max: 100}
	at := func(s int) time.Time { return noon.Add(time.Duration(s) * time.Second) }
	quiet := scaling.ConcurrencyState{Decided: noon}
	for _, tt := range []struct {
		atOnce float64
		want   bool
	}{{30, false}, {40, true}} { // 3 and 4 replicas for 2
		d, _ := policy.Decide(quiet, 2, 2, []scaling.Load{{At: at(-60), AtOnce: tt.atOnce}}, noon)
		if d.Panicking != tt.want {
			t.Errorf("%v at once: %v", tt.atOnce, d)
		}
	}
	for _, tt := range []struct {
		ago  time.Duration
		want bool
	}{{time.Minute, true}, {time.Minute + 1, false}} {
		s := scaling.ConcurrencyState{Decided: noon, Panicked: noon.Add(-tt.ago), Most: 2}
		if d, _ := policy.Decide(s, 2, 2, []scaling.Load{{At: at(-60), AtOnce: 10}}, noon); d.Panicking != tt.want {
			t.Errorf("%s after: %v", tt.ago, d)
		}
	}
	s := scaling.ConcurrencyState{Decided: noon, Panicked: noon, Most: 2}
	if d, _ := policy.Decide(s, 2, 2, []scaling.Load{{At: at(-60), AtOnce: 90}, {At: at(-6), AtOnce: 10}}, noon); d.Desired != 9 {
		t.Errorf("the stable mean asks for 9, but got %v", d)
	}
}

// A start in the middle of things does not shrink what is there.
func TestConcurrencyStart(t *testing.T) {
	r := &traffic{t: t, now: noon, replicas: 8, policy: scaling.Concurrency{Target: 10, Max: 100}}
	if r.run(60, 10); r.replicas != 8 {
		t.Errorf("shrank at the start: %v", r.last)
	}
	if r.run(20, 10); r.replicas != 1 {
		t.Errorf("never shrank: %v", r.last)
	}
}

// Without fresh figures nothing changes, and the clock may jump.
func TestConcurrencyUnknown(t *testing.T) {
	policy := scaling.Concurrency{Target: 10, Max: 100}
	old := []scaling.Load{{At: noon.Add(-61 * time.Second), AtOnce: 500}}
	junk := []scaling.Load{{At: noon, AtOnce: math.NaN()}, {At: noon, AtOnce: math.Inf(1)}, {At: noon, AtOnce: -1}, {At: noon.Add(time.Hour), AtOnce: 500}}
	for name, load := range map[string][]scaling.Load{"none": nil, "old": old, "junk": junk} {
		d, _ := policy.Decide(scaling.ConcurrencyState{}, 7, 5, load, noon)
		if d.Desired != 7 || !slices.Equal(d.Reasons, []scaling.Reason{scaling.MetricsInvalid}) {
			t.Errorf("%s: got %v", name, d)
		}
	}
	future := scaling.ConcurrencyState{Decided: noon.Add(time.Hour), Panicked: noon.Add(time.Hour), Most: 9}
	load := []scaling.Load{{At: noon.Add(-time.Minute), AtOnce: 10}}
	d, s := policy.Decide(future, 9, 9, load, noon)
	if d.Desired != 9 || s.Panicked.After(noon) {
		t.Errorf("a panic of the future: %v %+v", d, s)
	}
	load[0].At = noon.Add(time.Minute)
	if d, _ = policy.Decide(s, 9, 9, load, noon.Add(61*time.Second)); d.Desired != 4 {
		t.Errorf("the panic did not end: %v", d)
	}
}

// The mean counts each value for as long as it held.
func TestConcurrencyMean(t *testing.T) {
	at := func(s int) time.Time { return noon.Add(time.Duration(s) * time.Second) }
	tests := []struct {
		load          []scaling.Load
		stable, burst float64
	}{
		{[]scaling.Load{{at(-60), 6}}, 6, 6},
		{[]scaling.Load{{at(-60), 0}, {at(-30), 6}}, 3, 6},
		{[]scaling.Load{{at(-900), 100}, {at(-60), 0}, {at(-3), 6}}, 0.3, 3},
		{[]scaling.Load{{at(-90), 2}, {at(-6), 8}}, 2.6, 8},
		{[]scaling.Load{{at(-10), 4}, {at(0), 100}}, 4, 4},
		{[]scaling.Load{{at(0), 5}}, 5, 5},
		{[]scaling.Load{{at(-10), 4}, {at(-5), math.NaN()}, {at(-2), 10}}, 5.2, 6},
	}
	for i, tt := range tests {
		d, _ := scaling.Concurrency{Target: 1, Max: 10}.Decide(scaling.ConcurrencyState{}, 1, 1, tt.load, noon)
		if math.Abs(d.Stable-tt.stable) > 1e-9 || math.Abs(d.Panic-tt.burst) > 1e-9 {
			t.Errorf("%d: got %v and %v, want %v and %v", i, d.Stable, d.Panic, tt.stable, tt.burst)
		}
	}
}

// The number is within the range whatever the load, and more load is never fewer
// replicas.
func TestConcurrencyProperties(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		policy := scaling.Concurrency{Target: rapid.Float64Range(0.1, 100).Draw(rt, "target"), Max: rapid.IntRange(1, 50).Draw(rt, "max")}
		policy.Min = new(rapid.IntRange(0, policy.Max).Draw(rt, "min"))
		var state scaling.ConcurrencyState
		var low, high []scaling.Load
		n, now := rapid.IntRange(0, 50).Draw(rt, "replicas"), noon
		for i := range 10 {
			l := rapid.Float64Range(0, 1000).Draw(rt, fmt.Sprint("load ", i))
			low = append(low, scaling.Load{At: now, AtOnce: l})
			high = append(high, scaling.Load{At: now, AtOnce: l + rapid.Float64Range(0, 100).Draw(rt, fmt.Sprint("more ", i))})
			d, next := policy.Decide(state, n, n, low, now)
			more, _ := policy.Decide(state, n, n, high, now)
			if d.Desired < *policy.Min || d.Desired > policy.Max {
				rt.Fatalf("outside of %d to %d: %v", *policy.Min, policy.Max, d)
			}
			if more.Desired < d.Desired {
				rt.Fatalf("more load, fewer replicas: %v; %v", d, more)
			}
			n, state = d.Desired, next
			now = now.Add(time.Duration(rapid.IntRange(0, 30).Draw(rt, fmt.Sprint("passes ", i))) * time.Second)
		}
	})
}

func FuzzConcurrency(f *testing.F) {
	f.Add(math.NaN(), math.Inf(1), 1e308, -1.0, int64(-1), 5)
	f.Add(1e-300, 1e308, 1e308, 0.0, int64(math.MaxInt64), -7)
	f.Fuzz(func(t *testing.T, target, a, b, rate float64, ns int64, n int) {
		policy := scaling.Concurrency{Target: target, Max: n % 100, UpRate: rate, DownRate: a, PanicFactor: b,
			Stable: time.Duration(ns), Panic: time.Duration(-ns), Grace: time.Duration(ns)}
		load := []scaling.Load{{At: noon.Add(-time.Minute), AtOnce: a}, {At: noon.Add(time.Duration(ns)), AtOnce: b}, {At: noon, AtOnce: b}}
		d, _ := policy.Decide(scaling.ConcurrencyState{Panicked: noon.Add(time.Duration(ns)), Most: n}, n, n, load, noon)
		invalid := slices.Equal(d.Reasons, []scaling.Reason{scaling.MetricsInvalid})
		if most := max(n%100, 1); d.Desired < 0 || !invalid && d.Desired > most || d.String() == "" {
			t.Fatalf("outside of 0 to %d: %+v", most, d)
		}
	})
}

func TestConcurrencyValidate(t *testing.T) {
	tests := []struct {
		policy scaling.Concurrency
		want   string
	}{
		{scaling.Concurrency{Target: 1, Max: 1}, "[]"},
		{scaling.Concurrency{Max: 1}, "[target: is 0: give more than 0]"},
		{scaling.Concurrency{Target: math.Inf(1), Max: 1}, "[target: is +Inf: give more than 0]"},
		{scaling.Concurrency{Target: 1}, "[max: is 0: give 1 to 10000]"},
		{scaling.Concurrency{Target: 1, Max: 1, Min: new(2)}, "[min: is 2: give 0 to max]"},
		{scaling.Concurrency{Target: 1, Max: 1, Stable: 2 * time.Hour}, "[stable: is 2h0m0s: give 1s to 1h0m0s]"},
		{scaling.Concurrency{Target: 1, Max: 1, Panic: time.Hour}, "[panic: is 1h0m0s: give up to the stable window]"},
		{scaling.Concurrency{Target: 1, Max: 1, PanicFactor: 11}, "[panicFactor: is 11: give 1 to 10]"},
		{scaling.Concurrency{Target: 1, Max: 1, UpRate: 1}, "[upRate: is 1: give more than 1]"},
		{scaling.Concurrency{Target: 1, Max: 1, DownRate: 0.5}, "[downRate: is 0.5: give more than 1]"},
		{scaling.Concurrency{Target: 1, Max: 1, Grace: -1}, "[grace: is -1ns: give up to 1h0m0s]"},
	}
	for _, tt := range tests {
		if got := fmt.Sprint(tt.policy.Validate()); got != tt.want {
			t.Errorf("got %s, want %s", got, tt.want)
		}
	}
}
