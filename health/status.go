package health

import (
	"fmt"
	"time"
)

// Outcome is what one probe came to.
type Outcome string

// The outcomes. The zero value is [Unknown]: the engine or this machine could
// not answer, which says nothing of the container and counts neither way.
const (
	Unknown Outcome = ""
	Success Outcome = "success"
	Failure Outcome = "failure"
)

// Result is one probe of a replica.
type Result struct {
	At      time.Time     `json:"at"`             // when it was sent
	Late    time.Duration `json:"late,omitempty"` // how long after its due time that was
	Took    time.Duration `json:"took"`
	Outcome Outcome       `json:"outcome,omitempty"`
	Output  string        `json:"output,omitempty"` // one printable line, at most 512 bytes
}

// Kept is how many results of a probe a status remembers.
const Kept = 5

// Phase is what a container does, as far as probing is concerned.
type Phase string

// The phases. Only a running container is probed.
const (
	Down    Phase = "down"    // does not run
	Running Phase = "running" // may be probed
	Frozen  Phase = "paused"
	Leaving Phase = "leaving" // is being stopped, restarted or replaced
)

// Track is the standing of one probe of one replica in one run of its container.
type Track struct {
	State  Outcome   `json:"state,omitempty"`
	Since  time.Time `json:"since,omitzero"`  // when State took its value
	Last   Outcome   `json:"last,omitempty"`  // of the results in a row
	Run    int       `json:"run,omitempty"`   // how many equal results in a row
	From   time.Time `json:"from,omitzero"`   // when the first of them was sent
	Passed time.Time `json:"passed,omitzero"` // the last success of this run of the container
	Due    time.Time `json:"due,omitzero"`    // when the next probe is sent; zero: none is
	// Tick is the next point of the schedule where Due is an early look before it;
	// zero: Due is that point. Early tells that the last probe sent was such a look.
	Tick  time.Time `json:"tick,omitzero"`
	Early bool      `json:"early,omitempty"`
	// Error is why the last tick had no result; empty once one has.
	Error string `json:"error,omitempty"`
	// Held is why a failure that reached its threshold is not acted on, and
	// HeldFrom since when.
	Held     string    `json:"held,omitempty"`
	HeldFrom time.Time `json:"heldFrom,omitzero"`
	Results  []Result  `json:"results,omitempty"` // the last [Kept], oldest first; never changed in place
}

// Status is what is known of one replica's probes. It is a value: [Status.Next]
// returns another and changes nothing. The zero value is a container that has
// not been seen.
type Status struct {
	Phase     Phase     `json:"phase,omitempty"`
	Started   time.Time `json:"started,omitzero"` // of the run that is judged, by the engine's clock
	Seed      uint32    `json:"seed,omitempty"`   // spreads the probes of replicas over time
	Startup   Track     `json:"startup,omitzero"`
	Readiness Track     `json:"readiness,omitzero"`
	Liveness  Track     `json:"liveness,omitzero"`
}

// Of returns the track of a role.
func (s Status) Of(r Role) Track { return *s.track(r) }

func (s *Status) track(r Role) *Track {
	switch r {
	case Startup:
		return &s.Startup
	case Readiness:
		return &s.Readiness
	default:
		return &s.Liveness
	}
}

// happening is a kind of event.
type happening int

const (
	evStarted happening = iota + 1
	evStopped
	evPaused
	evLeaving
	evResumed
	evTicked
	evChecked
	evGap
)

// Event is something that a status takes into account.
type Event struct {
	kind    happening
	role    Role
	started time.Time
	seed    uint32
	result  Result
	held    string
}

// Started says that the container was started at a time, by the engine's clock,
// and runs; everything known of earlier runs is forgotten. Replicas of different seeds
// are probed at different moments where the run was found, not begun.
func Started(at time.Time, seed uint32) Event {
	return Event{kind: evStarted, started: at, seed: seed}
}

// Stopped says that the container does not run.
func Stopped() Event { return Event{kind: evStopped} }

// Paused says that the container is frozen, and not probed.
func Paused() Event { return Event{kind: evPaused} }

// Left says that a step is under way that stops, restarts or replaces the
// container; it is not probed.
func Left() Event { return Event{kind: evLeaving} }

// Resumed says that the same run goes on after [Paused] or [Left].
func Resumed() Event { return Event{kind: evResumed} }

// Ticked says that the due probe of a role is sent.
func Ticked(r Role) Event { return Event{kind: evTicked, role: r} }

// Checked says that a probe of the run that was started at a time has ended. held, where
// not empty, is why a failure must not be acted on now; it is of no consequence
// for readiness.
func Checked(r Role, started time.Time, res Result, held string) Event {
	return Event{kind: evChecked, role: r, started: started, result: res, held: held}
}

// Gap says that this process did not run for a while, so results before and
// after are not in a row, and what was due meanwhile is not caught up.
func Gap() Event { return Event{kind: evGap} }

// Next returns the status after an event.
func (s Status) Next(spec Probes, ev Event, now time.Time) Status {
	switch ev.kind {
	case evStarted:
		return begin(spec, ev, now)
	case evStopped:
		return s.stopped(spec, now)
	case evPaused:
		return s.unprobed(Frozen)
	case evLeaving:
		return s.unprobed(Leaving)
	case evResumed:
		return s.resumed(spec, now)
	case evTicked:
		return s.ticked(spec, ev.role, now)
	case evChecked:
		return s.checked(spec, ev, now)
	case evGap:
		return s.gap(spec, now)
	default:
		return s
	}
}

// initial is a role's result before any probe, as in Kubernetes.
func initial(r Role) Outcome {
	switch r {
	case Readiness:
		return Failure
	case Liveness:
		return Success
	default:
		return Unknown
	}
}

func begin(spec Probes, ev Event, now time.Time) Status {
	s := Status{Phase: Running, Started: ev.started, Seed: ev.seed}
	for _, r := range Roles() {
		if spec.Of(r) != nil {
			*s.track(r) = Track{State: initial(r), Since: now}
		}
	}
	s.arm(spec, now)
	if now.Sub(s.Started) > fresh {
		s.spread(spec, now)
	}
	return s
}

// arm gives a due time to every probe that runs now and has none: at once, but
// not before the initial delay since the container's start is over. The
// engine's clock is trusted no further than that delay.
func (s *Status) arm(spec Probes, now time.Time) {
	for _, r := range Roles() {
		if t := s.track(r); t.Due.IsZero() && s.probed(spec, r) {
			t.Due = now.Add(max(0, spec.Of(r).InitialDelay-max(0, now.Sub(s.Started))))
		}
	}
}

// fresh is how long after its start a container counts as started just now.
const fresh = time.Second

// spread moves what is due now to the replica's own moment, for many replicas
// are found at once: by a daemon that has started, or after a gap.
func (s *Status) spread(spec Probes, now time.Time) {
	for _, r := range Roles() {
		if t := s.track(r); !t.Due.IsZero() && !t.Due.After(now) {
			t.Due = now.Add(s.jitter(r, spec.Of(r)))
		}
	}
}

// jitter is a replica's own moment for a role within one period, and within one
// second so that nobody waits long for the first result.
func (s *Status) jitter(r Role, p *Probe) time.Duration {
	h := s.Seed
	for _, c := range []byte(r) {
		h = (h ^ uint32(c)) * 16777619 // FNV-1a
	}
	span := min(p.withDefaults().Period, time.Second)
	return time.Duration(uint64(h) * uint64(span) >> 32) //nolint:gosec // below span, which is positive
}

// probed reports whether a role's probe runs now: in a running container, once
// its startup has passed, and not after a result that ends the run.
func (s *Status) probed(spec Probes, r Role) bool {
	p := spec.Of(r)
	if p == nil || s.Phase != Running {
		return false
	}
	if r == Startup {
		return s.Startup.State != Success && !s.settled(spec, r)
	}
	return (spec.Startup == nil || s.Startup.State == Success) && !s.settled(spec, r)
}

// settled reports whether a role has failed in a way that ends the run, after
// which the prober holds still until the next start.
func (s *Status) settled(spec Probes, r Role) bool {
	return r.Ends() && s.track(r).State == Failure && spec.Of(r).OnFailure.ends()
}

// restart begins counting anew.
func (t *Track) restart() {
	t.Last, t.Run, t.From = Unknown, 0, time.Time{}
	t.Held, t.HeldFrom = "", time.Time{}
}

// rest sends no further probe.
func (t *Track) rest() { t.Due, t.Tick, t.Early = time.Time{}, time.Time{}, false }

func (t *Track) set(o Outcome, now time.Time) {
	if t.State != o {
		t.State, t.Since = o, now
	}
}

// stopped: a container that does not run fails every probe.
func (s Status) stopped(spec Probes, now time.Time) Status {
	s.Phase = Down
	for _, r := range Roles() {
		if spec.Of(r) != nil {
			t := s.track(r)
			t.restart()
			t.set(Failure, now)
			t.rest()
		}
	}
	return s
}

// unprobed keeps every result and sends no probe.
func (s Status) unprobed(p Phase) Status {
	if s.Phase == "" || s.Phase == Down {
		return s // there is no run to interrupt
	}
	s.Phase = p
	for _, r := range Roles() {
		s.track(r).rest()
	}
	return s
}

// resumed counts anew. A probe whose failure had paused the container begins
// again, or the container would be paused at once.
func (s Status) resumed(spec Probes, now time.Time) Status {
	if s.Phase != Frozen && s.Phase != Leaving {
		return s
	}
	s.Phase = Running
	for _, r := range Roles() {
		p, t := spec.Of(r), s.track(r)
		if p == nil {
			continue
		}
		t.restart()
		if s.settled(spec, r) && p.OnFailure.Do == Pause {
			t.set(initial(r), now)
		}
	}
	s.arm(spec, now)
	return s
}

// ticked moves the due time to the next point of the schedule after now, which an
// early look leaves where it is.
func (s Status) ticked(spec Probes, r Role, now time.Time) Status {
	p, t := spec.Of(r), s.track(r)
	if p == nil || t.Due.IsZero() {
		return s
	}
	if t.Early = !t.Tick.IsZero(); t.Early {
		t.Due, t.Tick = t.Tick, time.Time{}
		return s
	}
	period := p.withDefaults().Period
	late := max(0, now.Sub(t.Due))
	t.Due = t.Due.Add(late - late%period + period)
	return s
}

// gap counts anew and spreads what became due meanwhile.
func (s Status) gap(spec Probes, now time.Time) Status {
	for _, r := range Roles() {
		s.track(r).restart()
	}
	s.spread(spec, now)
	return s
}

func (s Status) checked(spec Probes, ev Event, now time.Time) Status {
	r, res := ev.role, ev.result
	if !s.probed(spec, r) || !ev.started.Equal(s.Started) {
		return s // of another run, or of no interest any more
	}
	t := s.track(r)
	if res.Outcome == Unknown {
		t.Error = res.Output
		return s
	}
	t.Error = ""
	if !t.Early || res.Outcome == Success { // an early failure is no news, and no part of any threshold
		t.count(res)
		s.judge(spec, r, ev.held, now)
	}
	s.hurry(spec, r, now)
	return s
}

// earliest is the least time between two early looks.
const earliest = 20 * time.Millisecond

// hurry has a container looked at sooner than its schedule says that has not passed
// a startup or readiness probe in this run yet: who waits for it should not wait for
// a whole period because the first probe came a moment too soon. Each look comes
// after a quarter of the time that has gone by since the first, and costs neither the
// engine anything nor more than a connection.
func (s *Status) hurry(spec Probes, r Role, now time.Time) {
	t := s.track(r)
	_, _, network := spec.Of(r).Where()
	if r == Liveness || !network || !t.Passed.IsZero() || t.Last != Failure || !t.Tick.IsZero() {
		return
	}
	if at := now.Add(max(earliest, now.Sub(t.From)/4)); at.Before(t.Due) {
		t.Due, t.Tick = at, t.Due
	}
}

// count adds a result to those in a row.
func (t *Track) count(res Result) {
	if res.Outcome != t.Last {
		t.restart()
		t.Last, t.From = res.Outcome, res.At
	}
	t.Run++
	if res.Outcome == Success {
		t.Passed = res.At
	}
	keep := t.Results[max(0, len(t.Results)-Kept+1):]
	t.Results = append(append(make([]Result, 0, Kept), keep...), res)
}

// judge changes a role's state once its results in a row reach the threshold.
func (s *Status) judge(spec Probes, r Role, held string, now time.Time) {
	p, t := spec.Of(r), s.track(r)
	if t.Last == t.State || t.Run < p.threshold(t.Last) {
		return
	}
	if t.Last == Failure && r.Ends() && held != "" {
		if t.HeldFrom.IsZero() {
			t.HeldFrom = now
		}
		t.Held = held
		return
	}
	t.Held, t.HeldFrom = "", time.Time{}
	t.set(t.Last, now)
	if !s.probed(spec, r) {
		t.rest()
	}
	s.arm(spec, now) // what this startup was waited for
}

// threshold is how many results of a kind in a row make a state.
func (p *Probe) threshold(o Outcome) int {
	if o == Success {
		return p.withDefaults().SuccessThreshold
	}
	return p.withDefaults().FailureThreshold
}

// wouldFail reports whether one more failure of a role makes it fail, so that
// it is worth asking whether to hold it.
func (s Status) wouldFail(spec Probes, r Role) bool {
	t := s.track(r)
	if !s.probed(spec, r) || t.State == Failure || t.Early {
		return false
	}
	run := 1
	if t.Last == Failure {
		run += t.Run
	}
	return run >= spec.Of(r).threshold(Failure)
}

// NextDue returns the role that is probed next and when. ok is false when none
// is, until another event.
func (s Status) NextDue() (r Role, at time.Time, ok bool) {
	for _, role := range Roles() {
		if due := s.track(role).Due; !due.IsZero() && (!ok || due.Before(at)) {
			r, at, ok = role, due, true
		}
	}
	return r, at, ok
}

// Ready reports whether the replica may have traffic: it runs, its startup has
// passed, and so does its readiness. A probe that is not there passes.
func (s Status) Ready(spec Probes) bool {
	return s.Phase == Running &&
		(spec.Startup == nil || s.Startup.State == Success) &&
		(spec.Readiness == nil || s.Readiness.State == Success)
}

// ReadyOnceResumed reports whether the replica, which is paused, is ready as soon as its
// run goes on.
func (s Status) ReadyOnceResumed(spec Probes) bool {
	return s.Phase == Frozen && s.resumed(spec, s.Started).Ready(spec)
}

// ReadySince returns since when the replica has been ready; zero: it is not.
func (s Status) ReadySince(spec Probes) time.Time {
	if !s.Ready(spec) {
		return time.Time{}
	}
	since := s.Started
	for _, r := range []Role{Startup, Readiness} {
		if t := s.track(r); spec.Of(r) != nil && t.Since.After(since) {
			since = t.Since
		}
	}
	return since
}

// Verdict is what a failed probe leads to. The zero value: nothing.
type Verdict struct {
	Role   Role          `json:"role,omitempty"`
	Action Action        `json:"action,omitzero"`
	Grace  time.Duration `json:"grace,omitempty"` // 0: the container's own
	// Since tells one failure from the next: an action that does not end the run
	// is due once for each.
	Since  time.Time `json:"since,omitzero"`
	Reason string    `json:"reason,omitempty"`
}

// Verdict returns what the failure of the replica's startup or liveness leads
// to. A container that does not run, is paused, or is being stopped, has none.
func (s Status) Verdict(spec Probes) Verdict {
	if s.Phase != Running {
		return Verdict{}
	}
	for _, r := range []Role{Startup, Liveness} {
		p, t := spec.Of(r), s.track(r)
		if p == nil || t.State != Failure {
			continue
		}
		a := p.OnFailure
		if a.Do == "" {
			a.Do = Restart
		}
		return Verdict{Role: r, Action: a, Grace: p.Grace, Since: t.Since, Reason: s.failed(r)}
	}
	return Verdict{}
}

// failed says that and how a role failed.
func (s *Status) failed(r Role) string {
	t := s.track(r)
	text := fmt.Sprintf("%s probe failed", r)
	if t.Last == Failure && t.Run > 1 {
		text += fmt.Sprintf(" %d times in a row", t.Run)
	}
	if n := len(t.Results); n > 0 && t.Results[n-1].Outcome == Failure && t.Results[n-1].Output != "" {
		text += ": " + t.Results[n-1].Output
	}
	return text
}

// Standing is where a replica stands for those who are told of it: two statuses
// with the same one are no news. The zero value is one that was never seen.
type Standing struct {
	Ready  bool
	Phase  Phase
	Role   Role // of the probe that is the reason; empty: none is
	Reason Reason
}

// Reason is why a replica is not ready, or why a failure is not acted on.
type Reason string

// The reasons that a probe can be. The zero value is none.
const (
	Unasked  Reason = "unasked" // it has not been answered yet
	NoResult Reason = "no result"
	Held     Reason = "held" // its failure is not acted on
	Failing  Reason = "failing"
	Passing  Reason = "passing" // but not often enough in a row
)

// Standing returns where the replica stands.
func (s Status) Standing(spec Probes) Standing {
	st := Standing{Ready: s.Ready(spec), Phase: s.Phase}
	switch {
	case s.Phase != Running:
	case spec.Startup != nil && s.Startup.State != Success:
		st.Role, st.Reason = Startup, s.Startup.reason()
	case spec.Readiness != nil && s.Readiness.State != Success:
		st.Role, st.Reason = Readiness, s.Readiness.reason()
	case s.Liveness.Held != "":
		st.Role, st.Reason = Liveness, Held
	}
	return st
}

// reason is why a probe has not passed.
func (t *Track) reason() Reason {
	switch {
	case t.Error != "":
		return NoResult
	case t.Held != "":
		return Held
	case t.Last == Success:
		return Passing
	case len(t.Results) > 0:
		return Failing
	default:
		return Unasked
	}
}

// Why says why the replica is not ready, and of a ready one why a failure is not
// acted on; empty when there is nothing to say.
func (s Status) Why(spec Probes) string {
	st := s.Standing(spec)
	switch st.Phase {
	case Running:
	case Frozen:
		return "paused"
	case Leaving:
		return "being stopped"
	default:
		return "does not run"
	}
	t := s.track(st.Role)
	switch st.Reason {
	case NoResult:
		return fmt.Sprintf("%s probe has no result: %s", st.Role, t.Error)
	case Held:
		return t.Held
	case Passing:
		return fmt.Sprintf("%s probe has passed %d of %d times in a row", st.Role, t.Run, spec.Of(st.Role).threshold(Success))
	case Failing:
		return s.failed(st.Role)
	case Unasked:
		return fmt.Sprintf("%s probe has not been answered yet", st.Role)
	default:
		return ""
	}
}

// Differs reports whether anybody but a reader of results cares about the
// change from old to s: its phase, a state, a reason, or that a probe has been
// answered at all.
func (s Status) Differs(old Status) bool {
	if s.Phase != old.Phase || !s.Started.Equal(old.Started) {
		return true
	}
	for _, r := range Roles() {
		a, b := s.track(r), old.track(r)
		if len(a.Results) > 0 && len(b.Results) == 0 {
			return true // until then it may count as it did for whoever probed before
		}
		if a.State != b.State || (a.Held == "") != (b.Held == "") || (a.Error == "") != (b.Error == "") {
			return true
		}
	}
	return false
}
