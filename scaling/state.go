package scaling

import "time"

// maxRemembered bounds a state. A window of an hour holds 240 decisions at the
// default interval.
const maxRemembered = 512

// State is what a decision needs to know of earlier ones. It is a value that is
// read back from JSON as it was written; the zero value is a service of which
// nothing has been decided. Times that are found to be in the future, because
// the clock was set back, count as now.
type State struct {
	Decided time.Time `json:"decided,omitzero"` // the last time
	// Recommendations are what the metrics asked for, oldest first. Those that no
	// window can be governed by any more are left out.
	Recommendations []Recommendation `json:"recommendations,omitempty"`
	Events          []Event          `json:"events,omitempty"` // oldest first
	// Emptied says that it was a decision that brought the service to 0, and nobody's
	// hand.
	Emptied bool `json:"emptied,omitempty"`
}

// Recommendation is what the metrics once asked for.
type Recommendation struct {
	At       time.Time `json:"at"`
	Replicas int       `json:"replicas"`
}

// Event is a change of the number that was decided.
type Event struct {
	At     time.Time `json:"at"`
	Change int       `json:"change"` // how many more; below 0: fewer
}

// settled is the state without what is too old to matter. At the first decision
// and after a gap the present number counts as recommended, as in Kubernetes
// after a start of its controller: nobody knows what was measured before.
func (s State) settled(set *settings, current int, now time.Time) State {
	fresh := s.Decided.IsZero() || now.Sub(s.Decided) > set.forget
	out := State{Decided: now, Emptied: s.Emptied}
	out.Recommendations = make([]Recommendation, 0, min(len(s.Recommendations), maxRemembered)+2)
	window := max(set.upWindow, set.downWindow)
	for _, r := range s.Recommendations {
		r.At = earlier(r.At, now)
		if now.Sub(r.At) < window {
			out.Recommendations = append(out.Recommendations, r)
		}
	}
	for _, e := range s.Events {
		e.At = earlier(e.At, now)
		if now.Sub(e.At) < set.longest {
			out.Events = append(out.Events, e)
		}
	}
	if fresh {
		out.recommended(current, now)
	}
	return out
}

func earlier(t, now time.Time) time.Time {
	if t.After(now) {
		return now
	}
	return t
}

// recommended appends a recommendation and drops those that are followed by one
// at least as high and one at least as low: no minimum and no maximum over a
// window depends on them.
func (s *State) recommended(n int, now time.Time) {
	all := append(s.Recommendations, Recommendation{At: now, Replicas: n})
	kept, low, high := len(all)-1, n, n
	for i := len(all) - 2; i >= 0; i-- {
		if r := all[i].Replicas; r < low || r > high {
			low, high = min(low, r), max(high, r)
			kept--
			all[kept] = all[i]
		}
	}
	all = all[max(kept, len(all)-maxRemembered):]
	s.Recommendations = all
}

// changed remembers an event. Where there are too many, the two oldest become one
// of the later time, so that nothing is allowed too early.
func (s *State) changed(by int, now time.Time) {
	s.Events = append(s.Events, Event{At: now, Change: by})
	for len(s.Events) > maxRemembered {
		s.Events[1].Change += s.Events[0].Change
		s.Events = s.Events[1:]
	}
}

// at the beginning of a period the number was the present one without what was
// added since, and with what was removed.
func (s *State) start(current int, period time.Duration, now time.Time) int {
	for _, e := range s.Events {
		if now.Sub(e.At) < period {
			current -= e.Change
		}
	}
	return current
}
