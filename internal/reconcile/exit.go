package reconcile

import (
	"fmt"
	"hash/fnv"
	"time"

	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/scheduler"
)

// exited decides about a container whose process has ended by itself. The
// engine's own restart policy is the engine's business; deploy.restart_policy
// is Berth's; without either it stays as it is.
func (v *view) exited(svc *stack.Service, slot int, c *member) bool {
	if v.resume(svc, slot, c) || v.tryAgain(svc, slot, c) {
		return true
	}
	h := Hold{
		Kind: HoldIdle, Key: ReplicaKey(svc.Name, slot), Service: svc.Name, Slot: slot, Name: c.Name,
		Reason: v.exitReason(c),
	}
	if f, failed := v.m.Failures[h.Key]; failed && f.Op == OpHook && f.Container == c.ID {
		h.Kind, h.Reason = HoldFailing, f.Err
	}
	switch {
	case v.jobs[svc.Name] && c.ExitCode == 0:
		h.Reason += "; the job is done"
	case svc.Restart == nil && c.Restart.Active():
		h.Reason += "; restart: " + c.Restart.Name + " leaves it so"
	case svc.Restart == nil:
		h.Reason += "; restart: no"
	case svc.Restart.Condition == "none":
		h.Reason += "; restart_policy: none"
	case svc.Restart.Condition == "on-failure" && c.ExitCode == 0:
		h.Reason += "; restart_policy: on-failure"
	default:
		return v.restartByPolicy(svc, slot, c, h)
	}
	v.hold(h)
	return true
}

// tryAgain starts a container of the new revision that had ended before its
// rollout was resumed, or began. It reports whether it is one.
func (v *view) tryAgain(svc *stack.Service, slot int, c *member) bool {
	r := v.rolling(svc)
	if r.Rollout == nil || r.State != RolloutUpdating || v.outdated(svc, c) != "" {
		return false
	}
	p, entered := r.Slots[slot]
	return entered && v.retries(&p, c) && v.start(svc, slot, c, "the rollout goes on")
}

func (v *view) exitReason(c *member) string {
	switch {
	case c.OOMKilled || v.o.OOMs[c.ID] > 0 && c.ExitCode == 137:
		return fmt.Sprintf("exited (%d), out of memory%s", c.ExitCode, v.oomAdvice(c))
	case c.Error != "":
		return fmt.Sprintf("exited (%d): %s", c.ExitCode, c.Error)
	default:
		return fmt.Sprintf("exited (%d)", c.ExitCode)
	}
}

// oomStep is what a suggested memory limit is rounded up to, in bytes.
const oomStep = 16 << 20

// oomAdvice says which limit was reached, how often that has happened, and what
// may help: half as much again.
func (v *view) oomAdvice(c *member) string {
	limit := c.Limits.Memory
	if limit == 0 {
		return "; its node or the machine has too little memory for it"
	}
	more := (limit*3/2 + oomStep - 1) / oomStep * oomStep
	often := ""
	if n := v.m.OOMs[ReplicaKey(c.id.Service, c.id.Slot)].Count; n > 1 {
		often = fmt.Sprintf(", for the %s time", ordinal(n))
	}
	return fmt.Sprintf(" at its limit of %s%s; try a limit of %s",
		scheduler.FormatAmount(scheduler.Memory, limit), often, scheduler.FormatAmount(scheduler.Memory, more))
}

// ordinal writes 2 as "2nd".
func ordinal(n int) string {
	suffix := "th"
	if n%100/10 != 1 {
		switch n % 10 {
		case 1:
			suffix = "st"
		case 2:
			suffix = "nd"
		case 3:
			suffix = "rd"
		}
	}
	return fmt.Sprint(n, suffix)
}

// OOM counts the runs of a replica that ended for want of memory.
type OOM struct {
	Count int       `json:"count"`
	Last  time.Time `json:"last"` // the end of the last of them
}

// NoteOOMs counts the runs that ended for want of memory and were not counted
// yet. It reports whether there was one.
func (m *Memory) NoteOOMs(o *Observed) bool {
	news := false
	for i := range o.Containers {
		c := &o.Containers[i]
		id, err := runtime.ParseIdentity(c.Labels)
		if err != nil || id.OneOff || !c.OOMKilled && o.OOMs[c.ID] == 0 || c.Finished.IsZero() || c.State.Alive() {
			continue
		}
		key := ReplicaKey(id.Service, id.Slot)
		if old := m.OOMs[key]; !c.Finished.Equal(old.Last) {
			if m.OOMs == nil {
				m.OOMs = map[Key]OOM{}
			}
			m.OOMs[key], news = OOM{Count: old.Count + 1, Last: c.Finished}, true
		}
	}
	return news
}

// restartByPolicy carries out deploy.restart_policy: after delay, and at most
// max_attempts times among the restarts younger than window (all restarts
// without one). A new revision starts counting anew, and an exit caused by the
// engine going away neither waits nor counts.
func (v *view) restartByPolicy(svc *stack.Service, slot int, c *member, h Hold) bool {
	p := svc.Restart
	s := v.replicaStep(OpStart, svc, slot, c, "")
	s.Urgent, s.Policy = true, true
	if v.endedWithEngine(c) {
		s.Policy, s.Cause = false, "ended with the engine"
		return v.at(s, h, v.m.EngineUp.Add(spread(s.Key)), maxSpread)
	}
	count, oldest := v.attempts(s.Key, c.id.Revision, p.Window)
	if p.MaxAttempts > 0 && count >= p.MaxAttempts {
		h.Kind = HoldFailing
		h.Reason += fmt.Sprintf("; %d restarts, max_attempts: %d", count, p.MaxAttempts)
		if p.Window > 0 {
			h.Reason += fmt.Sprintf(" within %s", p.Window)
			h.Until = oldest.Add(p.Window)
		}
		v.hold(h)
		return true
	}
	s.Cause = fmt.Sprintf("%s, restart %d by restart_policy", v.exitReason(c), count+1)
	if p.MaxAttempts > 0 {
		s.Cause = fmt.Sprintf("%s, restart %d of %d by restart_policy", v.exitReason(c), count+1, p.MaxAttempts)
	}
	wait := v.m.Backoff[s.Key].Wait(c.Finished, p.Delay)
	return v.at(s, h, c.Finished.Add(wait), wait)
}

// at takes step s at a time, and holds until then. A wait longer than longest
// means that the clock was set back: the step is due then, rather than when the
// old time returns.
func (v *view) at(s Step, h Hold, due time.Time, longest time.Duration) bool {
	if wait := due.Sub(v.now); wait > 0 && wait <= longest {
		h.Reason += "; restarts at " + due.Format(time.TimeOnly)
		h.Until = due
		v.hold(h)
		return true
	}
	v.step(s)
	return true
}

// attempts counts the restarts of a replica in one revision that are younger
// than window, and tells when the oldest of them was.
func (v *view) attempts(key Key, revision string, window time.Duration) (count int, oldest time.Time) {
	for _, r := range v.m.Restarts[key] {
		if r.Revision != revision || (window > 0 && v.now.Sub(r.At) >= window) {
			continue
		}
		if count == 0 {
			oldest = r.At
		}
		count++
	}
	return count, oldest
}

// engineSlack is how far from the engine's absence an exit time may lie and
// still be put down to it: the engine sets it when it comes back.
const engineSlack = 5 * time.Second

// endedWithEngine reports whether a container ended because the engine did.
func (v *view) endedWithEngine(c *member) bool {
	if v.m.EngineUp.IsZero() || v.m.EngineDown.IsZero() {
		return false
	}
	return !c.Finished.Before(v.m.EngineDown.Add(-engineSlack)) && !c.Finished.After(v.m.EngineUp.Add(engineSlack))
}

// maxSpread bounds spread.
const maxSpread = 2 * time.Second

// spread gives each replica its own moment within two seconds, so that not all
// of a stack starts at once when the engine is back.
func spread(key Key) time.Duration {
	f := fnv.New32a()
	_, _ = f.Write([]byte(key))
	return time.Duration(f.Sum32()) * time.Millisecond % maxSpread
}
