package scaling

import (
	"fmt"
	"time"
)

// IdleAction is what happens to a service that nobody uses.
type IdleAction string

// The actions.
const (
	IdleStop     IdleAction = "stop"     // its replicas are stopped, and started by the next connection
	IdlePause    IdleAction = "pause"    // its processes are frozen; memory stays
	IdleThrottle IdleAction = "throttle" // it gets little cpu
)

// Idle says when a service that nobody uses is put to rest, and how.
type Idle struct {
	After time.Duration `json:"after"` // above 0; since the last activity
	Do    IdleAction    `json:"do"`
}

// Validate returns everything that is wrong, each with the path of the field.
func (i Idle) Validate() []error {
	var errs faults
	errs.check(i.After > 0, "after: is %s: give more than 0", i.After)
	switch i.Do {
	case IdleStop, IdlePause, IdleThrottle:
	default:
		errs.check(false, "do: is %q: give %s, %s or %s", i.Do, IdleStop, IdlePause, IdleThrottle)
	}
	return errs
}

// Activity is what is known of a service's use.
type Activity struct {
	// Last is the end of the last connection or request, or when the service was
	// started if there was none since. Zero: nothing is known.
	Last time.Time `json:"last,omitzero"`
	Open int       `json:"open,omitempty"` // connections or requests that are under way
	// Waiting says that somebody waits for the service to be woken.
	Waiting bool `json:"waiting,omitempty"`
	// Busy is why the service must not rest whatever its connections do: a rollout,
	// a replica that is starting, somebody's terminal. Empty: nothing.
	Busy string `json:"busy,omitempty"`
}

// IdleDecision says whether a service is to rest.
type IdleDecision struct {
	Rest   bool          `json:"rest"`
	Do     IdleAction    `json:"do,omitempty"`  // where it rests
	Idle   time.Duration `json:"idle"`          // how long nobody has used it; 0 or more
	Next   time.Time     `json:"next,omitzero"` // when to look again; zero: at the next change of the activity
	Reason string        `json:"reason"`
}

// Decide says whether the service rests now. A last activity in the future, as
// after the clock was set back, counts as one just now.
func (i Idle) Decide(a Activity, now time.Time) IdleDecision {
	last := earlier(a.Last, now)
	d := IdleDecision{Idle: now.Sub(last)}
	switch {
	case a.Last.IsZero():
		return IdleDecision{Reason: "nothing is known of its use"}
	case a.Waiting:
		d.Idle, d.Reason = 0, "somebody waits for it"
	case a.Open > 0:
		d.Idle, d.Reason = 0, fmt.Sprintf("in use: %d open", a.Open)
	case a.Busy != "":
		d.Reason = a.Busy
	case d.Idle < i.After:
		d.Next = last.Add(i.After)
		d.Reason = fmt.Sprintf("not used for %s, rests after %s", d.Idle.Truncate(time.Second), i.After)
	default:
		d.Rest, d.Do = true, i.Do
		d.Reason = fmt.Sprintf("not used for %s", d.Idle.Truncate(time.Second))
	}
	return d
}
