package scaling_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/berth-dev/berth/scaling"
)

// oracle decides as slowly and plainly as the rules are written down: it fills
// values in one by one and remembers everything.
type oracle struct {
	policy  scaling.Policy
	asked   []scaling.Recommendation
	changes []scaling.Event
}

func (o *oracle) decide(in scaling.Input, now time.Time) int {
	if len(o.asked) == 0 {
		o.asked = append(o.asked, scaling.Recommendation{At: now, Replicas: in.Current})
	}
	n := o.number(in, now)
	if n != in.Current {
		o.changes = append(o.changes, scaling.Event{At: now, Change: n - in.Current})
	}
	return n
}

func (o *oracle) number(in scaling.Input, now time.Time) int {
	switch current := in.Current; {
	case current == 0 && *o.policy.Min > 0:
		return 0
	case current > o.policy.Max:
		return o.policy.Max
	case current < *o.policy.Min:
		return *o.policy.Min
	}
	most, invalid := -1, false
	for _, m := range o.policy.Metrics {
		n, ok := o.metric(m, in, now)
		if invalid = invalid || !ok; ok {
			most = max(most, n)
		}
	}
	if most < 0 || invalid && most < in.Current {
		return in.Current
	}
	n := o.limited(o.stable(most, in.Current, now), in.Current, now)
	o.asked = append(o.asked, scaling.Recommendation{At: now, Replicas: most})
	return min(max(n, *o.policy.Min), o.policy.Max)
}

func (o *oracle) within(r float64) bool {
	return 1-*o.policy.Tolerance.Down <= r && r <= 1+*o.policy.Tolerance.Up
}

func (o *oracle) metric(m scaling.Metric, in scaling.Input, now time.Time) (int, bool) {
	if m.Source == scaling.FromExternal {
		for _, e := range in.External {
			if e.Metric != m.Name || e.Value < 0 {
				continue
			}
			if in.Current > 0 && o.within(float64(e.Value)/(float64(m.AverageValue)*float64(in.Current))) {
				return in.Current, true
			}
			return int(math.Ceil(float64(e.Value) / float64(m.AverageValue))), true
		}
		return 0, false
	}
	var usage, reserved []int64
	var missing, unready []int64 // their reservations
	for _, r := range in.Replicas {
		s := r.Samples[0]
		switch {
		case r.Phase == scaling.Failed || r.Phase == scaling.Removing:
			continue
		case s.Reservation <= 0:
			return 0, false
		case r.Phase == scaling.Pending:
			unready = append(unready, s.Reservation)
		case s.Missing || s.Value < 0:
			missing = append(missing, s.Reservation)
		case now.Before(r.Started.Add(5*time.Minute)) && (!r.Ready || s.At.Before(r.ReadyChanged.Add(s.Window))),
			!now.Before(r.Started.Add(5*time.Minute)) && !r.Ready && !r.WasReady:
			unready = append(unready, s.Reservation)
		default:
			usage, reserved = append(usage, s.Value), append(reserved, s.Reservation)
		}
	}
	if len(usage) == 0 {
		return 0, false
	}
	ratio := percent(usage, reserved) / float64(m.Utilization)
	switch {
	case o.within(ratio):
		return in.Current, true
	case len(missing) == 0 && (len(unready) == 0 || ratio <= 1):
		return int(math.Ceil(ratio * float64(len(usage)))), true
	}
	for _, r := range missing {
		reserved = append(reserved, r)
		if ratio < 1 {
			usage = append(usage, r*max(100, m.Utilization)/100)
		} else {
			usage = append(usage, 0)
		}
	}
	for _, r := range unready {
		if ratio > 1 {
			usage, reserved = append(usage, 0), append(reserved, r)
		}
	}
	filled := percent(usage, reserved) / float64(m.Utilization)
	n := int(math.Ceil(filled * float64(len(usage))))
	if o.within(filled) || (filled > 1) != (ratio > 1) || filled < 1 && n > in.Current || filled > 1 && n < in.Current {
		return in.Current, true
	}
	return n, true
}

func percent(usage, reserved []int64) float64 {
	var u, r int64
	for i := range usage {
		u, r = u+usage[i], r+reserved[i]
	}
	return float64(u * 100 / r)
}

func (o *oracle) stable(n, current int, now time.Time) int {
	up, down := n, n
	upWindow, downWindow := time.Duration(0), 300*time.Second
	if b := o.policy.Behavior; b != nil && b.Up.Window != nil {
		upWindow = *b.Up.Window
	}
	if b := o.policy.Behavior; b != nil && b.Down.Window != nil {
		downWindow = *b.Down.Window
	}
	for _, a := range o.asked {
		if a.At.Add(upWindow).After(now) {
			up = min(up, a.Replicas)
		}
		if a.At.Add(downWindow).After(now) {
			down = max(down, a.Replicas)
		}
	}
	return min(max(current, up), down)
}

func (o *oracle) limited(n, current int, now time.Time) int {
	if o.policy.Behavior == nil {
		return min(n, max(2*current, 4))
	}
	up, down := o.policy.Behavior.Up, o.policy.Behavior.Down
	if len(up.Limits) == 0 {
		up.Limits = []scaling.Limit{{Unit: scaling.Replicas, Value: 4, Period: 15 * time.Second}, {Unit: scaling.Percent, Value: 100, Period: 15 * time.Second}}
	}
	if len(down.Limits) == 0 {
		down.Limits = []scaling.Limit{{Unit: scaling.Percent, Value: 100, Period: 15 * time.Second}}
	}
	if n > current {
		return min(n, max(o.bound(up, 1, current, now), current))
	}
	return max(n, min(o.bound(down, -1, current, now), current))
}

// bound is the largest or the smallest of the changes that the limits allow, in
// one direction.
func (o *oracle) bound(r scaling.Rules, sign, current int, now time.Time) int {
	if r.Select == scaling.SelectDisabled {
		return current
	}
	var best int
	for i, l := range r.Limits {
		start := current
		for _, c := range o.changes {
			if c.At.Add(l.Period).After(now) {
				start -= c.Change
			}
		}
		to := start + sign*l.Value
		if l.Unit == scaling.Percent && sign > 0 {
			to = int(math.Ceil(float64(start) * (1 + float64(l.Value)/100)))
		} else if l.Unit == scaling.Percent {
			to = int(float64(start) * (1 - float64(l.Value)/100))
		}
		larger := (to-best)*sign > 0
		if i == 0 || larger == (r.Select != scaling.SelectMin) {
			best = to
		}
	}
	return best
}

// Over a whole run, with replicas of every kind, metrics that fail and any
// behavior, what is decided is what the plain rules say.
func TestDecideAgainstOracle(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		policy := drawPolicy(rt)
		policy.Min = new(max(*policy.Min, 1)) // what happens at 0 is told by its own tests
		if oneIn(rt, 2, "only cpu") {
			policy.Metrics = policy.Metrics[:1]
		}
		policy.Interval = time.Minute // no gap is longer than what is remembered
		o := oracle{policy: policy}
		var state scaling.State
		now, current := noon, rapid.IntRange(0, 60).Draw(rt, "current")
		for i := range rapid.IntRange(1, 25).Draw(rt, "decisions") {
			in := drawInput(rt, now, current)
			for k := range in.Replicas {
				in.Replicas[k].ReadyChanged = in.Replicas[k].Started.Add(time.Minute)
				in.Replicas[k].Samples[0].Window = 30 * time.Second
			}
			d, next := scaling.Decide(policy, state, in, now)
			if want := o.decide(in, now); d.Desired != want {
				rt.Fatalf("decision %d: got %v, want %d: %+v", i, d, want, d)
			}
			state, current = next, d.Desired
			if rapid.IntRange(0, 9).Draw(rt, fmt.Sprint("hand ", i)) == 0 {
				current = rapid.IntRange(0, 60).Draw(rt, fmt.Sprint("by hand ", i))
			}
			now = now.Add(time.Duration(5*rapid.IntRange(1, 12).Draw(rt, fmt.Sprint("passes ", i))) * time.Second)
		}
	})
}
