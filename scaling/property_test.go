package scaling_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/berth-dev/berth/scaling"
)

func drawRules(t *rapid.T, name string) scaling.Rules {
	var r scaling.Rules
	if rapid.Bool().Draw(t, name+" has a window") {
		r.Window = new(time.Duration(5*rapid.IntRange(0, 120).Draw(t, name+" window")) * time.Second)
	}
	r.Select = rapid.SampledFrom([]scaling.Select{"", scaling.SelectMax, scaling.SelectMin, scaling.SelectDisabled}).Draw(t, name+" select")
	for i := range rapid.IntRange(0, 3).Draw(t, name+" limits") {
		r.Limits = append(r.Limits, scaling.Limit{
			Unit:   rapid.SampledFrom([]scaling.Unit{scaling.Replicas, scaling.Percent}).Draw(t, fmt.Sprint(name, " unit ", i)),
			Value:  rapid.IntRange(1, 200).Draw(t, fmt.Sprint(name, " value ", i)),
			Period: time.Duration(5*rapid.IntRange(1, 60).Draw(t, fmt.Sprint(name, " period ", i))) * time.Second,
		})
	}
	return r
}

func drawPolicy(t *rapid.T) scaling.Policy {
	p := scaling.Policy{
		Max: rapid.IntRange(1, 50).Draw(t, "max"),
		Metrics: []scaling.Metric{
			{Source: scaling.FromResource, Name: scaling.CPU, Utilization: rapid.Int64Range(1, 300).Draw(t, "utilization")},
			{Source: scaling.FromExternal, Name: "queue", AverageValue: rapid.Int64Range(1, 5000).Draw(t, "queue target")},
		},
		Tolerance: scaling.Tolerance{Up: new(rapid.SampledFrom([]float64{0, 0.1, 0.1, 0.5}).Draw(t, "up")), Down: new(rapid.SampledFrom([]float64{0, 0.1, 0.1, 0.5}).Draw(t, "down"))},
	}
	p.Min = new(rapid.IntRange(0, p.Max).Draw(t, "min"))
	if rapid.Bool().Draw(t, "has a behavior") {
		p.Behavior = &scaling.Behavior{Up: drawRules(t, "up"), Down: drawRules(t, "down")}
	}
	return p
}

// oneIn is true once in a while.
func oneIn(t *rapid.T, n int, label string) bool { return rapid.IntRange(1, n).Draw(t, label) == 1 }

func drawInput(t *rapid.T, now time.Time, current int) scaling.Input {
	in := scaling.Input{Current: current}
	if !oneIn(t, 8, "queue is not known") {
		in.External = []scaling.External{{Metric: "queue", Value: rapid.Int64Range(-1, 20_000).Draw(t, "queue")}}
	}
	most := rapid.Int64Range(0, 3000).Draw(t, "use at most")
	for i := range rapid.IntRange(0, 12).Draw(t, "replicas") {
		d := func(s string) string { return fmt.Sprint(s, " of ", i) }
		r := scaling.Replica{
			Phase: scaling.Running, Ready: !oneIn(t, 5, d("not ready")), WasReady: rapid.Bool().Draw(t, d("was ready")),
			Started: now.Add(-time.Duration(rapid.IntRange(-100, 1000).Draw(t, d("age"))) * time.Second),
			Samples: []scaling.Sample{{
				Metric: scaling.CPU, Missing: oneIn(t, 5, d("missing")), At: now,
				Value: rapid.Int64Range(-1, most).Draw(t, d("value")), Reservation: rapid.SampledFrom([]int64{1000, 1000, 500}).Draw(t, d("reservation")),
			}},
		}
		if oneIn(t, 4, d("not running")) {
			r.Phase = rapid.SampledFrom([]scaling.Phase{scaling.Pending, scaling.Failed, scaling.Removing}).Draw(t, d("phase"))
		}
		if oneIn(t, 100, d("no reservation")) {
			r.Samples[0].Reservation = 0
		}
		in.Replicas = append(in.Replicas, r)
	}
	return in
}

// A valid policy is carried out whatever is measured and however the clock jumps:
// the number ends within the range, or is 0 because it was; nothing that is not
// known makes the service smaller; and a state that went through JSON decides the
// same.
func TestDecideHoldsTheRange(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		policy := drawPolicy(rt)
		if errs := policy.Validate(); len(errs) > 0 {
			rt.Fatalf("drew an invalid policy: %v", errs)
		}
		state, now := scaling.State{}, noon
		current := rapid.IntRange(0, 60).Draw(rt, "current")
		for range rapid.IntRange(1, 12).Draw(rt, "decisions") {
			in := drawInput(rt, now, current)
			d, next := scaling.Decide(policy, state, in, now)
			again, _ := scaling.Decide(policy, clone(t, state), in, now)
			if d.Desired != again.Desired || d.String() != again.String() {
				rt.Fatalf("%v, but after JSON %v", d, again)
			}
			if disabled := current == 0 && *policy.Min > 0; !disabled && (d.Desired < *policy.Min || d.Desired > policy.Max) {
				rt.Fatalf("outside of %d to %d: %v", *policy.Min, policy.Max, d)
			}
			invalid := false
			for _, p := range d.Proposals {
				invalid = invalid || p.Invalid != ""
			}
			if invalid && d.Desired < current && d.Proposed < current {
				rt.Fatalf("fewer although something is not known: %v", d)
			}
			if age := now.Sub(next.Decided); age != 0 {
				rt.Fatalf("the state is %s old", age)
			}
			state, current = next, d.Desired
			now = now.Add(time.Duration(rapid.IntRange(-900, 900).Draw(rt, "passes")) * time.Second)
		}
	})
}

// More use never means fewer replicas, as long as which replicas have a value is
// the same.
func TestDecideIsMonotonic(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		policy := drawPolicy(rt)
		policy.Metrics = policy.Metrics[:1]
		policy.Min = new(max(*policy.Min, 1))
		n := rapid.IntRange(1, min(12, policy.Max)).Draw(rt, "replicas")
		low, high := scaling.Input{Current: n}, scaling.Input{Current: n}
		for i := range n {
			r := scaling.Replica{Phase: scaling.Running, Ready: true, WasReady: true, Started: noon.Add(-time.Hour)}
			v := rapid.Int64Range(0, 3000).Draw(rt, fmt.Sprint("value ", i))
			r.Samples = []scaling.Sample{{Metric: scaling.CPU, Value: v, Reservation: 1000, At: noon}}
			low.Replicas = append(low.Replicas, r)
			r.Samples = []scaling.Sample{{Metric: scaling.CPU, Value: v + rapid.Int64Range(0, 3000).Draw(rt, fmt.Sprint("more ", i)), Reservation: 1000, At: noon}}
			high.Replicas = append(high.Replicas, r)
		}
		a, _ := scaling.Decide(policy, scaling.State{}, low, noon)
		b, _ := scaling.Decide(policy, scaling.State{}, high, noon)
		if a.Desired > b.Desired {
			rt.Fatalf("more use, fewer replicas: %v; %v", a, b)
		}
	})
}

// A forecast raises the number or leaves it.
func TestForecastOnlyRaises(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		policy := drawPolicy(rt)
		in := drawInput(rt, noon, rapid.IntRange(0, 60).Draw(rt, "current"))
		without, state := scaling.Decide(policy, scaling.State{}, in, noon)
		in.Forecast = rapid.IntRange(0, 100).Draw(rt, "forecast")
		with, _ := scaling.Decide(policy, scaling.State{}, in, noon)
		if with.Desired < without.Desired || with.Desired > max(policy.Max, without.Desired) {
			rt.Fatalf("without %v, with %d expected %v", without, in.Forecast, with)
		}
		in.Current = without.Desired
		without, _ = scaling.Decide(policy, state, in, noon.Add(time.Minute))
		in.Forecast = math.MaxInt
		if with, _ = scaling.Decide(policy, state, in, noon.Add(time.Minute)); with.Desired < without.Desired {
			rt.Fatalf("later: without %v, with %v", without, with)
		}
	})
}

// Use that stays within the tolerance never changes the number, whatever the order.
func TestNoFlipWithinTolerance(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 20).Draw(rt, "replicas")
		policy := scaling.Policy{Max: 50, Behavior: free(), Metrics: []scaling.Metric{{Source: scaling.FromResource, Name: scaling.CPU, Utilization: 80}}}
		state, now := scaling.State{}, noon
		for range 10 {
			in := scaling.Input{Current: n}
			for i := range n {
				in.Replicas = append(in.Replicas, scaling.Replica{
					Phase: scaling.Running, Ready: true, WasReady: true, Started: noon.Add(-time.Hour),
					Samples: []scaling.Sample{{Metric: scaling.CPU, Value: rapid.Int64Range(720, 880).Draw(rt, fmt.Sprint("value ", i)), Reservation: 1000, At: now}},
				})
			}
			var d scaling.Decision
			if d, state = scaling.Decide(policy, state, in, now); d.Desired != n {
				rt.Fatalf("%v", d)
			}
			now = now.Add(15 * time.Second)
		}
	})
}

// Leaving out what no window can be governed by changes no decision.
func TestForgettingIsExact(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		up, down := rapid.IntRange(0, 20).Draw(rt, "up"), rapid.IntRange(0, 20).Draw(rt, "down")
		b := free()
		b.Up.Window, b.Down.Window = new(time.Duration(up)*time.Second), new(time.Duration(down)*time.Second)
		r := newRun(t, b, 1, 1000, 10)
		asked := []int{10} // one a second; the number at the beginning counts
		for range 40 {
			n := rapid.IntRange(1, 20).Draw(rt, "asked")
			low, high := n, n
			for i := range asked {
				age := min(len(asked)-i, len(asked)-1)
				if age < up {
					low = min(low, asked[i])
				}
				if age < down {
					high = max(high, asked[i])
				}
			}
			want := min(max(r.at, low), high)
			if got := r.ask(n); got != want {
				rt.Fatalf("got %d, want %d: %v after %v", got, want, r.last, asked)
			}
			asked = append(asked, n)
			r.pass(time.Second)
		}
	})
}

// Any figures at all give a number within the range, and no panic.
func FuzzDecide(f *testing.F) {
	f.Add(int64(80), int64(math.MaxInt64), int64(1), int64(0), math.NaN(), 3, make([]byte, 64))
	f.Add(int64(1), int64(math.MinInt64), int64(math.MaxInt64), int64(math.MaxInt64), math.Inf(1), math.MaxInt, []byte{255, 255, 255, 255, 255, 255, 255, 127})
	f.Add(int64(math.MaxInt64), int64(-1), int64(-1), int64(math.MinInt64), -1.0, -5, []byte{})
	f.Fuzz(func(t *testing.T, utilization, value, average, seconds int64, tolerance float64, current int, raw []byte) {
		policy := scaling.Policy{
			Min: new(int(value % 64)), Max: int(average % 64), Interval: time.Duration(seconds),
			Metrics: []scaling.Metric{
				{Source: scaling.FromResource, Name: scaling.CPU, Utilization: utilization},
				{Source: scaling.FromReplicas, Name: scaling.CPU, AverageValue: average},
				{Source: scaling.FromExternal, Name: scaling.CPU, Value: value},
				{Source: scaling.FromExternal, Name: scaling.CPU, AverageValue: average},
			},
			Behavior: &scaling.Behavior{
				Up:   scaling.Rules{Window: new(time.Duration(seconds)), Limits: []scaling.Limit{{Unit: scaling.Percent, Value: current, Period: time.Duration(seconds)}}},
				Down: scaling.Rules{Window: new(time.Duration(-seconds)), Limits: []scaling.Limit{{Unit: scaling.Replicas, Value: current, Period: time.Duration(value)}}},
			},
			Tolerance: scaling.Tolerance{Up: &tolerance, Down: &tolerance},
		}
		in := scaling.Input{Current: current, External: []scaling.External{{Metric: scaling.CPU, Value: value}}}
		for ; len(raw) >= 9; raw = raw[9:] {
			v := int64(binary.LittleEndian.Uint64(raw))
			in.Replicas = append(in.Replicas, scaling.Replica{
				Phase: []scaling.Phase{scaling.Running, scaling.Pending, scaling.Failed, "x"}[raw[8]%4], Ready: raw[8]&4 > 0, WasReady: true,
				Started: noon.Add(time.Duration(v)),
				Samples: []scaling.Sample{{Metric: scaling.CPU, Value: v, Reservation: v ^ average, At: noon.Add(-time.Duration(v)), Window: time.Duration(v)}},
			})
		}
		state := scaling.State{Decided: noon.Add(time.Duration(value)),
			Recommendations: []scaling.Recommendation{{At: noon.Add(time.Duration(seconds)), Replicas: current}},
			Events:          []scaling.Event{{At: noon.Add(time.Duration(-seconds)), Change: current}, {At: noon, Change: -current}}}
		for range 3 {
			var d scaling.Decision
			d, state = scaling.Decide(policy, state, in, noon)
			most := min(max(policy.Max, 1), scaling.MaxReplicas)
			if d.Desired < 0 || d.Desired > most || d.String() == "" {
				t.Fatalf("outside of 0 to %d: %+v", most, d)
			}
			in.Current = d.Desired
		}
	})
}
