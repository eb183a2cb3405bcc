package reconcile

import (
	"fmt"
	"slices"
	"time"

	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
)

// createFails says why a replica's new container cannot be created; empty: it
// can, or the engine is in trouble that may pass.
func (v *view) createFails(svc *stack.Service, slot int) string {
	key := ReplicaKey(svc.Name, slot)
	f, failed := v.m.Failures[key]
	if !failed || f.Op != OpCreate || f.Revision != svc.Revision || f.Kind == runtime.KindUnavailable {
		return ""
	}
	if _, never := f.retryAt(); !never && f.Count <= passing {
		return ""
	}
	return fmt.Sprintf("%s: %s", key, f.Err)
}

// newFails says why a new container has failed: before it was ready for long
// enough, or so soon after its start that its revision is to blame.
func (v *view) newFails(svc *stack.Service, r *Rollout, p *SlotProgress, cur *member) string {
	end := v.now
	if cur.State == runtime.Exited {
		end = cur.Finished
	}
	proved := !p.Done.IsZero() && end.Sub(p.Started) > r.policy(svc).Monitor && v.aloneAlive(svc, cur)
	if proved || v.retries(p, cur) {
		return ""
	}
	key := ReplicaKey(svc.Name, cur.id.Slot)
	if f, ok := v.m.Failures[key]; ok && f.Revision == svc.Revision && (f.Op == OpCreate || f.Op == OpStart || f.Op == OpHook) {
		if _, never := f.retryAt(); never || f.Count > passing {
			return f.Err
		}
	}
	switch e := v.ended(key, cur); {
	case e == nil || e.Then == ThenAwait:
	case e.Then == ThenYield:
		return "" // its revision is not to blame
	default:
		return e.Why
	}
	if n, _ := v.attempts(key, svc.Revision, 0); n > 0 && v.m.Restarts[key][len(v.m.Restarts[key])-1].At.After(p.Began) {
		return fmt.Sprintf("exited and was restarted (%d)", n)
	}
	switch {
	case cur.State == runtime.Exited || cur.State == runtime.Restarting:
		return v.exitReason(cur) + ranFor(cur)
	case cur.RestartCount > 0:
		return fmt.Sprintf("exited and was restarted by the engine (%d)", cur.RestartCount)
	}
	_, failed := v.readiness(svc, cur)
	return failed
}

// ranFor says how long a container ran that has ended; empty: that is not known.
func ranFor(c *member) string {
	d := c.Finished.Sub(c.Started)
	switch {
	case c.State != runtime.Exited || c.Started.IsZero() || d < 0:
		return ""
	case d < 10*time.Second:
		return fmt.Sprintf(" after %.1f s", d.Seconds())
	default:
		return " after " + d.Round(time.Second).String()
	}
}

// aloneAlive reports whether no predecessor of a container lives any more.
func (v *view) aloneAlive(svc *stack.Service, cur *member) bool {
	return !slices.ContainsFunc(v.replicas[svc.Name][cur.id.Slot], func(c *member) bool { return c != cur && c.State.Alive() })
}

// retries reports whether a container has ended before its replica's turn began:
// it is started again, and what it did before does not count.
func (v *view) retries(p *SlotProgress, cur *member) bool {
	return cur.State == runtime.Exited && p.Failed == "" && !cur.Finished.After(p.Began)
}

// judge decides whether a rollout goes on.
func (v *view) judge(svc *stack.Service, r *Rollout) {
	st := v.d.Services[svc.Name]
	policy := r.policy(svc)
	if r.State != RolloutUpdating && st.Resumed.After(r.Changed) {
		v.resumeRollout(r)
	}
	done, failed := r.Counts()
	if r.State == RolloutUpdating {
		// A failure is told with what the replica wrote last, which must be read before
		// its container goes. That takes a moment, in which no other one is admitted.
		if why := v.troubled(svc, r, policy, done, failed); why != "" && !r.isUnquoted() {
			v.fail(svc, r, policy, why)
		}
	}
	if r.State == RolloutRolledBack {
		v.plan.RollBack[svc.Name] = r.Why // until it was done
	}
	v.promote(svc, r)
	if r.State == RolloutUpdating && done+failed >= r.Total && !v.anyOutdated(svc) {
		v.complete(svc, r, policy)
	}
}

// isUnquoted reports whether the last output of a failed replica is being read.
func (r *Rollout) isUnquoted() bool {
	for _, p := range r.Slots {
		if p.Unquoted != "" {
			return true
		}
	}
	return false
}

// anyOutdated reports whether a replica is still to be replaced.
func (v *view) anyOutdated(svc *stack.Service) bool {
	for _, slot := range v.slotsOf(svc) {
		if cur, olds := v.split(svc, v.replicas[svc.Name][slot]); cur == nil && len(olds) > 0 {
			return true
		}
	}
	return false
}

// resumeRollout has a rollout go on although replicas had failed, and looks at these
// anew: they may be well by now.
func (v *view) resumeRollout(r *Rollout) {
	r.State, r.Why, r.Changed, r.Progress = RolloutUpdating, "", v.now, v.now
	for slot, p := range r.Slots {
		if p.Failed != "" {
			r.Slots[slot] = SlotProgress{Began: v.now, First: p.First}
		}
	}
	v.lookAt(v.now)
}

// troubled says why a rollout must not go on as it does; empty: it may.
func (v *view) troubled(svc *stack.Service, r *Rollout, policy stack.Update, done, failed int) string {
	if failed > 0 && policy.Action != stack.ContinueOnFailure && float64(failed) > policy.MaxFailureRatio*float64(r.Total) {
		return fmt.Sprintf("%d of %d replicas failed: %s", failed, r.Total, r.firstFailure())
	}
	deadline := svc.Rollout.Deadline
	if done+failed >= r.Total || deadline == 0 || v.d.Services[svc.Name].Held || !r.Reached.IsZero() {
		return ""
	}
	if due := v.standsSince(svc, r).Add(deadline); v.now.Before(due) {
		v.lookAt(due)
		return ""
	}
	why := fmt.Sprintf("no further replica was ready within %s", deadline)
	if slot, say := v.standstill(svc, r); say != "" {
		why += fmt.Sprintf(": %s: %s", slot, say)
	}
	if policy.Action == stack.ContinueOnFailure {
		v.giveUp(svc, r, why)
		return ""
	}
	return why
}

// standsSince is when a rollout last came further, or last could: time in which
// it was held, or in which nobody carried it out, does not count.
func (v *view) standsSince(svc *stack.Service, r *Rollout) time.Time {
	at := []time.Time{r.Progress, v.d.Services[svc.Name].Resumed, v.m.EngineUp, v.m.Since}
	return slices.MaxFunc(at, time.Time.Compare)
}

// standstill says why the first replica that is under way is not ready.
func (v *view) standstill(svc *stack.Service, r *Rollout) (name, why string) {
	for _, slot := range sortedKeys(r.Slots) {
		if p := r.Slots[slot]; !p.Done.IsZero() || p.Failed != "" {
			continue
		}
		key := ReplicaKey(svc.Name, slot)
		name, why = string(key), v.m.Failures[key].Err
		cur, _ := v.split(svc, v.replicas[svc.Name][slot])
		switch {
		case cur != nil && v.whyUnready(svc, cur) != "":
			return cur.Name, v.whyUnready(svc, cur)
		case cur == nil && why == "":
			why, _ = v.blocked(svc)
		}
		if why != "" {
			return name, why
		}
	}
	return "", ""
}

// giveUp counts the replicas that others wait for as failed, so that these have
// their turn.
func (v *view) giveUp(svc *stack.Service, r *Rollout, why string) {
	for _, slot := range v.slotsOf(svc) {
		cs := v.replicas[svc.Name][slot]
		cur, _ := v.split(svc, cs)
		p, entered := r.Slots[slot]
		serves := slices.ContainsFunc(cs, func(c *member) bool { return v.serves(svc, c) })
		if p.Failed == "" && (entered && p.Done.IsZero() || cur != nil && !serves) {
			p.Failed = why
			r.Slots[slot] = p
		}
	}
	r.Progress = v.now
}

func (r *Rollout) firstFailure() string {
	for _, slot := range sortedKeys(r.Slots) {
		if r.Slots[slot].Failed != "" {
			return r.Slots[slot].Failed
		}
	}
	return ""
}

// fail does what the policy says about a rollout that has failed. A way back is
// never gone back from.
func (v *view) fail(svc *stack.Service, r *Rollout, policy stack.Update, why string) {
	r.Why, r.Changed, r.State = why, v.now, RolloutPaused
	st := v.d.Services[svc.Name]
	back := policy.Action == stack.RollBackOnFailure || v.d.Atomic
	if back && !r.RollBack && (st.Base != nil || st.Added && v.d.Atomic) {
		r.State = RolloutRolledBack
	}
}

// complete ends a rollout once its last replica was watched for long enough.
func (v *view) complete(svc *stack.Service, r *Rollout, policy stack.Update) {
	if r.Step < r.canarySteps(svc) {
		return
	}
	if due := r.Progress.Add(policy.Monitor); v.now.Before(due) {
		v.lookAt(due)
		return
	}
	r.State, r.Changed = RolloutCompleted, v.now
}
