package scaling

import (
	"math"
	"time"
)

// Decide says how many replicas a service is to have. It changes nothing of what
// it is given; the state that it returns holds for the next decision if this one
// is carried out.
//
// The rules are those of the Kubernetes HorizontalPodAutoscaler (autoscaling/v2,
// pkg/controller/podautoscaler), number for number, with these exceptions:
//   - without a [Behavior] the recommendations of the down window hold the number
//     but do not raise it above what is asked for now;
//   - an external average is compared with the wanted number of replicas, not with
//     that which exists;
//   - whether a replica has ever been ready is known, and not guessed from how long
//     after its start it last changed;
//   - a service that a decision has brought to 0 comes back when the minimum is
//     above that; only one that was scaled to 0 by hand is left alone.
func Decide(policy Policy, state State, in Input, now time.Time) (Decision, State) {
	var set settings
	set.resolve(&policy)
	in.Current = max(in.Current, 0)
	next := state.settled(&set, in.Current, now)
	d := Decision{At: now, Next: now.Add(set.interval), Current: in.Current, Min: set.min, Max: set.max}
	set.decide(&d, &next, &in)
	next.Emptied = d.Desired == 0 && (d.Current > 0 || state.Emptied)
	if d.Desired != d.Current && set.longest > 0 {
		next.changed(d.Desired-d.Current, now)
	}
	return d, next
}

func (s *settings) decide(d *Decision, state *State, in *Input) {
	switch {
	case s.fixed != nil:
		d.all(min(max(*s.fixed, 0), MaxReplicas), NumberFixed)
	case in.Current == 0 && s.min > 0 && !state.Emptied:
		d.all(0, ScalingDisabled)
	case in.Current > s.max:
		d.all(s.max, TooManyReplicas)
	case in.Current < s.min:
		d.all(s.min, TooFewReplicas)
	default:
		s.byMetrics(d, state, in)
	}
}

// byMetrics asks the metrics and then limits the change.
func (s *settings) byMetrics(d *Decision, state *State, in *Input) {
	d.Proposals = make([]Proposal, len(s.metrics))
	invalid := 0
	for i := range s.metrics {
		p := s.measure(&s.metrics[i], in, d.At)
		d.Proposals[i] = p
		if p.Invalid != "" {
			invalid++
		} else if d.Metric == "" || p.Replicas > d.Proposed {
			d.Metric, d.Proposed = p.Metric, p.Replicas
		}
	}
	if invalid == len(s.metrics) || invalid > 0 && d.Proposed < in.Current {
		d.Metric = ""
		d.all(in.Current, MetricsInvalid)
		return
	}
	if in.Forecast > d.Proposed {
		d.Proposed, d.Metric = in.Forecast, ""
		d.because(RaisedByForecast)
	}
	s.stabilize(d, state)
	s.limit(d, state)
}

// stabilize keeps the present number as far as the recommendations of both
// windows and the new one allow.
func (s *settings) stabilize(d *Decision, state *State) {
	up, down := d.Proposed, d.Proposed
	for _, r := range state.Recommendations {
		age := d.At.Sub(r.At)
		if age < s.upWindow {
			up = min(up, r.Replicas)
		}
		if age < s.downWindow {
			down = max(down, r.Replicas)
		}
	}
	state.recommended(d.Proposed, d.At)
	d.Stabilized = min(max(d.Current, up), down)
	switch {
	case d.Stabilized == d.Proposed:
	case d.Proposed >= d.Current:
		d.because(ScaleUpStabilized)
	default:
		d.because(ScaleDownStabilized)
	}
}

// limit holds the change to what the limits and the policy's ends allow.
func (s *settings) limit(d *Decision, state *State) {
	d.Desired = d.Stabilized
	reason := DesiredWithinRange
	switch {
	case d.Stabilized > d.Current:
		bound := max(s.upLimit(d, state), d.Current)
		if d.Limit = bound; d.Stabilized > min(bound, s.max) {
			d.Desired, reason = min(bound, s.max), TooManyReplicas
			if bound < s.max {
				reason = ScaleUpLimit
			}
		}
	case d.Stabilized < d.Current:
		bound := min(s.downLimit(d, state), d.Current)
		if d.Limit = bound; d.Stabilized < max(bound, s.min) {
			d.Desired, reason = max(bound, s.min), TooFewReplicas
			if bound > s.min {
				reason = ScaleDownLimit
			}
		}
	}
	d.because(reason)
}

// upLimit is the number that the limits let the service grow to.
func (s *settings) upLimit(d *Decision, state *State) int {
	switch {
	case s.doubles:
		return max(2*d.Current, 4)
	case s.up.Select == SelectDisabled:
		return d.Current
	case s.up.Select == SelectMin:
		least := math.MaxInt32
		for _, l := range s.up.Limits {
			least = min(least, l.up(state.start(d.Current, l.Period, d.At)))
		}
		return least
	default:
		most := 0
		for _, l := range s.up.Limits {
			most = max(most, l.up(state.start(d.Current, l.Period, d.At)))
		}
		return most
	}
}

// downLimit is the number that the limits let the service shrink to.
func (s *settings) downLimit(d *Decision, state *State) int {
	switch {
	case s.doubles:
		return 0
	case s.down.Select == SelectDisabled:
		return d.Current
	case s.down.Select == SelectMin:
		most := 0
		for _, l := range s.down.Limits {
			most = max(most, l.down(state.start(d.Current, l.Period, d.At)))
		}
		return most
	default:
		least := math.MaxInt32
		for _, l := range s.down.Limits {
			least = min(least, l.down(state.start(d.Current, l.Period, d.At)))
		}
		return least
	}
}

// up is computed with binary fractions, as Kubernetes does it: 10 % of 100
// replicas is a hair above 110, and so 111.
func (l Limit) up(start int) int {
	if l.Unit == Percent {
		return ceil(float64(start) * (1 + float64(l.Value)/100))
	}
	return min(start+l.Value, math.MaxInt32)
}

func (l Limit) down(start int) int {
	if l.Unit == Percent {
		return int(float64(start) * (1 - float64(l.Value)/100))
	}
	return start - l.Value
}
