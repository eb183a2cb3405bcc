package scaling

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"
)

// The defaults of a [Concurrency], which are those of Knative.
const (
	DefaultStable      = 60 * time.Second
	DefaultPanicFactor = 2.0
	DefaultUpRate      = 1000.0
	DefaultDownRate    = 2.0
	DefaultGrace       = 30 * time.Second
)

// Concurrency scales a service by how much of its work is under way at once. It
// follows a rise within seconds and a fall within a minute. The zero value of
// each field but Target and Max is its default.
type Concurrency struct {
	Target float64 `json:"target"` // requests or connections at once per replica, above 0
	Min    *int    `json:"min,omitempty"`
	Max    int     `json:"max"`
	// Stable is the window of the mean that counts; 60 s. Panic is the short window
	// that a burst is seen in; a tenth of that.
	Stable time.Duration `json:"stable,omitempty"`
	Panic  time.Duration `json:"panic,omitempty"`
	// PanicFactor is how many times the ready replicas the short window must ask for
	// to begin a panic, in which the number does not fall; 1 to 10, by default 2.
	PanicFactor float64 `json:"panicFactor,omitempty"`
	// UpRate and DownRate are by how many times the ready replicas one decision may
	// grow and shrink; above 1, by default 1000 and 2.
	UpRate   float64 `json:"upRate,omitempty"`
	DownRate float64 `json:"downRate,omitempty"`
	// Grace is how long the last replica is kept when nothing is under way any more;
	// 30 s. [Concurrency.Min] is 0 for it to go at all.
	Grace time.Duration `json:"grace,omitempty"`
}

// Within is c with the bounds of a policy as its schedules have changed it. scheduled
// is the least that one of them asks for; nil: none does, and c's own stays. The
// policy's own least is another: it is never 0 where metrics could not start the
// service again, but whoever comes does.
func (c Concurrency) Within(p Policy, scheduled *int) Concurrency {
	c.Max = p.Max
	if scheduled != nil {
		least := *scheduled
		c.Min = &least
	}
	return c
}

// Beside is how many replicas are wanted where metrics ask for some too: the larger
// number, but none where d says none and the policy's metrics never do.
func (d *ConcurrencyDecision) Beside(metrics int, p Policy) int {
	if never := p.Min == nil || *p.Min > 0; d.Desired == 0 && never {
		return 0
	}
	return max(d.Desired, metrics)
}

// KeptLoad bounds the loads that decisions are made by: ten minutes of one a second.
const KeptLoad = 600

// RecentLoad is what is kept of some loads, from the oldest to the newest.
func RecentLoad(load []Load) []Load { return load[max(0, len(load)-KeptLoad):] }

// Load is how much was under way over all replicas, from a time on.
type Load struct {
	At     time.Time `json:"at"`
	AtOnce float64   `json:"atOnce"` // 0 or more, with what waits for a replica
}

// ConcurrencyState is what a decision needs to know of earlier ones. It reads
// back from JSON as it was written; the zero value is a service of which nothing
// has been decided.
type ConcurrencyState struct {
	Decided time.Time `json:"decided,omitzero"`
	// Panicked is when the short window last asked for so much; zero: no panic.
	Panicked time.Time `json:"panicked,omitzero"`
	Most     int       `json:"most,omitempty"` // the largest number of this panic
	Zero     time.Time `json:"zero,omitzero"`  // since when nothing is under way
}

// The reasons of a [ConcurrencyDecision], beside those of a [Decision].
const (
	Panicking Reason = "Panicking" // a burst: the number only rises
	InGrace   Reason = "InGrace"   // nothing is under way, but not for long enough
)

// ConcurrencyDecision is how many replicas a service is to have, and why.
type ConcurrencyDecision struct {
	At        time.Time `json:"at"`
	Next      time.Time `json:"next,omitzero"` // when the number can change without a new sample; zero: never
	Current   int       `json:"current"`
	Ready     int       `json:"ready"`
	Last      float64   `json:"last"`   // what is under way now
	Stable    float64   `json:"stable"` // mean of what was under way over the windows
	Panic     float64   `json:"panic"`
	Panicking bool      `json:"panicking,omitempty"`
	Proposed  int       `json:"proposed"` // what the windows ask for, within the rates
	Desired   int       `json:"desired"`
	Reasons   []Reason  `json:"reasons"`
}

func (d *ConcurrencyDecision) because(r Reason) { d.Reasons = append(d.Reasons, r) }

// Validate returns everything that is wrong, each with the path of the field.
func (c Concurrency) Validate() []error {
	var errs faults
	c, least := c.resolved()
	errs.check(c.Target > 0 && !math.IsInf(c.Target, 0), "target: is %v: give more than 0", c.Target)
	errs.check(c.Max >= 1 && c.Max <= MaxReplicas, "max: is %d: give 1 to %d", c.Max, MaxReplicas)
	errs.check(least >= 0 && least <= max(c.Max, 1), "min: is %d: give 0 to max", least)
	errs.check(c.Stable >= time.Second && c.Stable <= MaxWindow, "stable: is %s: give 1s to %s", c.Stable, MaxWindow)
	errs.check(c.Panic > 0 && c.Panic <= c.Stable, "panic: is %s: give up to the stable window", c.Panic)
	errs.check(c.PanicFactor >= 1 && c.PanicFactor <= 10, "panicFactor: is %v: give 1 to 10", c.PanicFactor)
	errs.check(c.UpRate > 1, "upRate: is %v: give more than 1", c.UpRate)
	errs.check(c.DownRate > 1, "downRate: is %v: give more than 1", c.DownRate)
	errs.check(c.Grace >= 0 && c.Grace <= MaxWindow, "grace: is %s: give up to %s", c.Grace, MaxWindow)
	return errs
}

// resolved fills in the defaults.
func (c Concurrency) resolved() (Concurrency, int) {
	c.Stable = cmp.Or(c.Stable, DefaultStable)
	c.Panic = cmp.Or(c.Panic, c.Stable/10)
	c.PanicFactor = cmp.Or(c.PanicFactor, DefaultPanicFactor)
	c.UpRate = cmp.Or(c.UpRate, DefaultUpRate)
	c.DownRate = cmp.Or(c.DownRate, DefaultDownRate)
	c.Grace = cmp.Or(c.Grace, DefaultGrace)
	return c, defaulted(c.Min, 1)
}

// Decide says how many replicas the service is to have. current is how many are
// wanted now, ready how many can take work. The load is given from the oldest to
// the newest; each value holds until the next, and values that are no number or
// below 0 are left out. It is as Knative decides (pkg/autoscaler/scaling), with
// two more rules: where the newest load is older than the stable window nothing
// changes, and while anything is under way there is a replica.
func (c Concurrency) Decide(s ConcurrencyState, current, ready int, load []Load, now time.Time) (ConcurrencyDecision, ConcurrencyState) {
	c, least := c.resolved()
	current, ready = max(current, 0), max(ready, 0)
	d := ConcurrencyDecision{At: now, Current: current, Ready: ready}
	s = s.settled(ready, now)
	last, known := newest(load, now, c.Stable)
	if !known {
		d.Proposed, d.Desired = current, current
		d.because(MetricsInvalid)
		return d, s
	}
	d.Last, d.Stable, d.Panic = last, mean(load, now, c.Stable, last), mean(load, now, c.Panic, last)
	n := c.rest(&d, &s, c.propose(&d, &s))
	c.bound(&d, n, least)
	return d, s
}

// settled takes what lies in the future as now. A service that is met with more
// than one replica is met in a panic: until the windows are full it must not
// shrink.
func (s ConcurrencyState) settled(ready int, now time.Time) ConcurrencyState {
	if s.Decided.IsZero() && ready > 1 {
		s.Panicked, s.Most = now, ready
	}
	s.Decided, s.Panicked, s.Zero = now, earlier(s.Panicked, now), earlier(s.Zero, now)
	return s
}

// propose is what the windows ask for, and whether there is a panic.
func (c *Concurrency) propose(d *ConcurrencyDecision, s *ConcurrencyState) int {
	ready := float64(max(d.Ready, 1))
	up, down := math.Ceil(c.UpRate*ready), math.Floor(ready/c.DownRate)
	stable, burst := math.Ceil(d.Stable/c.Target), math.Ceil(d.Panic/c.Target)
	d.Proposed = ceil(min(max(stable, down), up))
	switch {
	case burst/ready >= c.PanicFactor:
		s.Panicked = d.At
	case !s.Panicked.IsZero() && d.At.Sub(s.Panicked) > c.Stable:
		s.Panicked, s.Most = time.Time{}, 0
	}
	if s.Panicked.IsZero() {
		return d.Proposed
	}
	d.Panicking = true
	d.because(Panicking)
	d.Next = s.Panicked.Add(c.Stable + 1)
	d.Proposed = max(d.Proposed, ceil(min(max(burst, down), up)))
	s.Most = max(s.Most, d.Proposed)
	return s.Most
}

// rest keeps the last replica for a while when nothing is under way. What is keeps
// one in any case, or wakes one.
func (c *Concurrency) rest(d *ConcurrencyDecision, s *ConcurrencyState, n int) int {
	if d.Last > 0 {
		n = max(n, 1)
	}
	if d.Last > 0 || d.Stable > 0 || d.Panicking || d.Current == 0 {
		s.Zero = time.Time{} // also what is woken is kept for as long
		return n
	}
	if s.Zero.IsZero() {
		s.Zero = d.At
	}
	if end := s.Zero.Add(c.Grace); n == 0 && d.Current > 0 && d.At.Before(end) {
		d.Next = end
		d.because(InGrace)
		return 1
	}
	return n
}

func (c *Concurrency) bound(d *ConcurrencyDecision, n, least int) {
	most := min(max(c.Max, 1), MaxReplicas)
	d.Desired = min(max(n, least, 0), most)
	switch {
	case n > most:
		d.because(TooManyReplicas)
	case n < least:
		d.because(TooFewReplicas)
	default:
		d.because(DesiredWithinRange)
	}
}

// newest returns the last value that has come, if it is not older than the window.
func newest(load []Load, now time.Time, window time.Duration) (float64, bool) {
	for _, l := range slices.Backward(load) {
		if l.valid(now) {
			return l.AtOnce, now.Sub(l.At) <= window
		}
	}
	return 0, false
}

func (l Load) valid(now time.Time) bool {
	return l.AtOnce >= 0 && !math.IsInf(l.AtOnce, 0) && !l.At.After(now)
}

// mean is the mean over time of the load in the window that ends now, or from the
// first value on where that is later.
func mean(load []Load, now time.Time, window time.Duration, last float64) float64 {
	from, until := now.Add(-window), now
	var sum, span float64
	for _, l := range slices.Backward(load) {
		if !l.valid(until) {
			continue
		}
		since := l.At
		if since.Before(from) {
			since = from
		}
		held := until.Sub(since).Seconds()
		sum, span, until = sum+l.AtOnce*held, span+held, since
		if !since.After(from) {
			break
		}
	}
	if span == 0 {
		return last
	}
	return sum / span
}

// String is the decision in a sentence.
func (d ConcurrencyDecision) String() string {
	text := fmt.Sprintf("%d to %d: ", d.Current, d.Desired)
	if d.Current == d.Desired {
		text = fmt.Sprintf("keep %d: ", d.Current)
	}
	text += fmt.Sprintf("%.3g at once over the stable window, %.3g over the short one, %d ready", d.Stable, d.Panic, d.Ready)
	for _, r := range d.Reasons {
		if r != DesiredWithinRange {
			text += ", " + string(r)
		}
	}
	return text
}
