package reconcile

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/berth-dev/berth/health"
	"github.com/berth-dev/berth/runtime"
)

// Memory is what the loop remembers between turns: facts that the engine does
// not tell. What has a name in JSON is stored; the rest may be lost without harm.
// The zero value is ready to use.
type Memory struct {
	// Restarts are the times Berth restarted a replica by its restart policy.
	Restarts map[Key][]Restart `json:"restarts,omitempty"`
	// Backoff slows the restarts of a replica down that fails again and again.
	Backoff map[Key]health.Backoff `json:"backoff,omitempty"`
	// Healed counts the restarts of a replica by Berth, for whatever reason.
	Healed map[Key]int `json:"healed,omitempty"`
	// Ended is why Berth ended or froze the last run of a replica's container.
	Ended map[Key]Ended `json:"ended,omitempty"`
	// Acted is the failure for which a probe's exec or webhook was carried out last.
	Acted map[Key]time.Time `json:"acted,omitempty"`
	// Hooked is the start of a container, by its ID, for which its hooks were run.
	Hooked map[string]time.Time `json:"hooked,omitempty"`
	// OOMs count the runs of a replica that ended for want of memory.
	OOMs map[Key]OOM `json:"ooms,omitempty"`
	// Prepared are the pre_start steps that are done: by container, or by service
	// and revision.
	Prepared map[string]bool `json:"prepared,omitempty"`
	// Rollouts are how far the replacements of services' replicas have come.
	Rollouts map[string]Rollout `json:"rollouts,omitempty"`
	// Since is when this daemon began: what ran before was routed by the one before.
	Since time.Time `json:"-"`
	// Failures are the steps that failed last, by what they act on.
	Failures map[Key]Failure `json:"-"`
	// InFlight are the steps being carried out, by what they act on.
	InFlight map[Key]Step `json:"-"`
	// Updated are the limits that were last set on a container, by its ID: an
	// engine that does not report them back is not asked in a loop.
	Updated map[string]Updated `json:"-"`
	// Made are the containers whose creation was seen through, until they are removed.
	Made map[string]bool `json:"-"`
	// EngineDown and EngineUp bound the last time the engine was away: a
	// container that ended in between did not fail by itself.
	EngineDown time.Time `json:"engineDown,omitzero"`
	EngineUp   time.Time `json:"engineUp,omitzero"`
}

// RestartsOf is how often Berth has restarted a replica.
func (m *Memory) RestartsOf(key Key) int { return max(len(m.Restarts[key]), m.Healed[key]) }

// Restart is one restart by Berth; a new revision starts a new count.
type Restart struct {
	At       time.Time `json:"at"`
	Revision string    `json:"revision"`
}

// Failure is the memory of a failed step: it holds its target back.
type Failure struct {
	Op       Op
	Kind     runtime.Kind
	Err      string
	Count    int
	At       time.Time // of the last one
	Revision string    // that failed: a new one is tried at once
	// Container is the ID of the one it was about, and Here how often in a row it
	// has failed for that one; Count goes on over all of a replica's containers.
	Container string
	Here      int
}

// Updated is the memory of an in-place change.
type Updated struct {
	Limits  runtime.Limits
	Restart runtime.RestartPolicy
	At      time.Time
}

// Begin records that a step is being carried out.
func (m *Memory) Begin(s Step) {
	if m.InFlight == nil {
		m.InFlight = map[Key]Step{}
	}
	m.InFlight[s.Key] = s
	if s.Prepares != "" {
		if m.Prepared == nil {
			m.Prepared = map[string]bool{}
		}
		m.Prepared[s.Prepares] = true
	}
	if s.Ends != nil {
		if m.Ended == nil {
			m.Ended = map[Key]Ended{}
		}
		m.Ended[s.Key] = *s.Ends
	}
}

// maxRestarts bounds the remembered restarts of one replica.
const maxRestarts = 100

// End records how a step ended at now: a failure holds its target back, a
// success clears the failure of the same operation.
func (m *Memory) End(s Step, err error, now time.Time) {
	delete(m.InFlight, s.Key)
	if err != nil {
		m.fail(s, err, now)
		return
	}
	if f, ok := m.Failures[s.Key]; ok && (f.Op == s.Op || s.Op == OpRemove) {
		delete(m.Failures, s.Key)
	}
	if s.Policy || s.Heals {
		if m.Backoff == nil {
			m.Backoff = map[Key]health.Backoff{}
		}
		m.Backoff[s.Key] = m.Backoff[s.Key].Restarted(s.Finished, now)
		if m.Healed == nil {
			m.Healed = map[Key]int{}
		}
		m.Healed[s.Key]++
	}
	switch {
	case s.Op == OpHook:
		if m.Hooked == nil {
			m.Hooked = map[string]time.Time{}
		}
		m.Hooked[s.Container] = s.Since
	case s.Op == OpExec || s.Op == OpNotify:
		if m.Acted == nil {
			m.Acted = map[Key]time.Time{}
		}
		m.Acted[s.Key] = s.Since
	case s.Policy:
		if m.Restarts == nil {
			m.Restarts = map[Key][]Restart{}
		}
		list := append(m.Restarts[s.Key], Restart{At: now, Revision: s.Revision})
		m.Restarts[s.Key] = slices.Clone(list[max(0, len(list)-maxRestarts):])
	case s.Op == OpUpdate:
		if m.Updated == nil {
			m.Updated = map[string]Updated{}
		}
		m.Updated[s.Container] = Updated{Limits: s.Limits, Restart: s.Restart, At: now}
	case s.Op == OpRemove:
		delete(m.Updated, s.Container)
		delete(m.Made, s.Container)
		delete(m.Hooked, s.Container)
		m.unprepare(s.Container)
	}
}

// unprepare forgets what was prepared for a container that is gone.
func (m *Memory) unprepare(container string) {
	for key := range m.Prepared {
		if id, _, _ := strings.Cut(key, "#"); id == container {
			delete(m.Prepared, key)
		}
	}
}

// Create records that a container was made with all that belongs to it. A
// container that was only found to be there is not.
func (m *Memory) Create(res Result) {
	if res.Container == "" || res.Adopted {
		return
	}
	if m.Made == nil {
		m.Made = map[string]bool{}
	}
	m.Made[res.Container] = true
}

func (m *Memory) fail(s Step, err error, now time.Time) {
	if m.Failures == nil {
		m.Failures = map[Key]Failure{}
	}
	count, here := 1, 1
	if f, ok := m.Failures[s.Key]; ok && f.Op == s.Op && f.Revision == s.Revision {
		count = f.Count + 1
		if f.Container == s.Container {
			here = f.Here + 1
		}
	}
	m.Failures[s.Key] = Failure{
		Op: s.Op, Kind: runtime.KindOf(err), Err: err.Error(), Count: count, At: now, Revision: s.Revision,
		Container: s.Container, Here: here,
	}
}

// Forgive forgets all failures: a command has just asked for another try.
func (m *Memory) Forgive() { clear(m.Failures) }

// backoff bounds: the first wait after a failure, doubled to the last.
const (
	firstRetry     = 500 * time.Millisecond
	lastRetry      = time.Minute
	firstPullRetry = 10 * time.Second
	lastPullRetry  = 5 * time.Minute
)

// retryAt returns when a failed step may be tried again; never reports that it
// may not, because the request itself is wrong.
func (f *Failure) retryAt() (at time.Time, never bool) {
	if f.Kind == runtime.KindInvalid {
		return time.Time{}, true
	}
	first, last := firstRetry, lastRetry
	if f.Op == OpPull || f.Op == OpBuild {
		first, last = firstPullRetry, lastPullRetry
	}
	wait := first
	for i := 1; i < f.Count && wait < last; i++ {
		wait *= 2
	}
	return f.At.Add(min(wait, last)), false
}

// passing is how many failures in a row of an engine that did not answer are
// taken for a passing trouble: whoever waits for the stack goes on waiting.
const passing = 2

// holdback returns the hold that a remembered failure puts before step s, or
// nil when it may be tried now. A clock that was set back does not prolong it.
func (m *Memory) holdback(s Step, now time.Time) *Hold {
	f, ok := m.Failures[s.Key]
	if !ok || f.Op != s.Op || f.Revision != s.Revision {
		return nil
	}
	h := Hold{Kind: HoldFailing, Key: s.Key, Service: s.Service, Slot: s.Slot, Name: s.Name, Reason: f.Err}
	at, never := f.retryAt()
	if never {
		return &h
	}
	if !now.Before(at) || now.Before(f.At.Add(-time.Second)) {
		return nil
	}
	if f.Kind == runtime.KindUnavailable && f.Count <= passing && f.Op != OpPull && f.Op != OpBuild {
		h.Kind = HoldWaiting
	}
	h.Until = at
	h.Reason = fmt.Sprintf("%s; try %d follows at %s", f.Err, f.Count+1, at.Format(time.TimeOnly))
	return &h
}
