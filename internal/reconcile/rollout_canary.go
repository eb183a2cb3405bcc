package reconcile

import (
	"time"

	"github.com/berth-dev/berth/internal/stack"
)

// canary are the steps in which a service is rolled out; nil: there are none, or
// none is under way. What goes back is not tried out first.
func (r *Rollout) canary(svc *stack.Service) *stack.Canary {
	if r == nil || r.RollBack || r.Straight {
		return nil
	}
	return svc.Rollout.Canary
}

// cap is how many replicas may have the new revision: of a canary, its share.
func (v *view) cap(svc *stack.Service, r *rolling) int {
	if r.canary(svc) == nil {
		return r.wanted
	}
	return v.shareAt(svc, r.Step)
}

// wasGood reports whether a service is declared as it was before: by an undo, or
// while some of its replicas were not replaced yet.
func (v *view) wasGood(svc *stack.Service) bool {
	st := v.d.Services[svc.Name]
	if st.Undone || st.Base != nil {
		return st.Undone
	}
	for _, slot := range v.slotsOf(svc) {
		if cur, _ := v.split(svc, v.replicas[svc.Name][slot]); cur != nil {
			return true
		}
	}
	return false
}

// promote takes a canary to its next step when its time has come, or when somebody
// says so. A replica whose failure the policy tolerates is not waited for, as long
// as another is well; only a person goes on with none that is.
func (v *view) promote(svc *stack.Service, r *Rollout) {
	c := r.canary(svc)
	if c == nil || r.Step >= len(c.Steps) {
		r.Reached = time.Time{} // there is none any more
		return
	}
	if r.State != RolloutUpdating {
		return
	}
	if !v.anyOutdated(svc) {
		r.Step, r.Reached = len(c.Steps), time.Time{} // there is nothing left to wait with
		return
	}
	if done, failed := v.renewed(svc, r); done+failed < v.shareAt(svc, r.Step) {
		return
	}
	resumed := !r.Reached.IsZero() && v.d.Services[svc.Name].Resumed.After(r.Reached)
	if v.canaryFails(svc, r) {
		if !resumed {
			return
		}
		v.resumeRollout(r) // whoever says so has seen what failed
	}
	if r.Reached.IsZero() {
		r.Reached = v.now
	}
	due := r.Reached.Add(c.Hold)
	if !resumed && (c.Hold == 0 || v.now.Before(due)) {
		if c.Hold > 0 {
			v.lookAt(due)
		}
		return
	}
	r.Step, r.Reached, r.Progress = r.Step+1, time.Time{}, v.now
	v.promote(svc, r) // the next step's share may be there already, and its time begins
}

// shareAt is how many replicas have the new revision at a step of a canary: one at
// least, and all after the last.
func (v *view) shareAt(svc *stack.Service, step int) int {
	wanted := len(v.slotsOf(svc))
	if c := svc.Rollout.Canary; c != nil && step < len(c.Steps) {
		return min(wanted, max(1, c.Steps[step].Of(wanted, true)))
	}
	return wanted
}

// renewed counts the replicas that have the new revision and need no further
// watching, those that had it before the rollout began too, and those that failed.
func (v *view) renewed(svc *stack.Service, r *Rollout) (done, failed int) {
	for _, slot := range v.slotsOf(svc) {
		cur, _ := v.split(svc, v.replicas[svc.Name][slot])
		switch p, entered := r.Slots[slot]; {
		case p.Failed != "":
			failed++
		case cur != nil && (!entered || !p.Done.IsZero()):
			done++
		}
	}
	return done, failed
}

// canaryFails reports whether all of a canary's replicas have failed, which the
// policy tolerates so far.
func (v *view) canaryFails(svc *stack.Service, r *Rollout) bool {
	done, failed := v.renewed(svc, r)
	return done == 0 && failed > 0 && r.policy(svc).Action != stack.ContinueOnFailure
}

// skipSteps takes a canary past the steps whose share there is already, as when a
// canary is undone.
func (v *view) skipSteps(svc *stack.Service, r *Rollout, outdated int) {
	have := len(v.slotsOf(svc)) - outdated
	for c := svc.Rollout.Canary; c != nil && r.Step < len(c.Steps) && v.shareAt(svc, r.Step) <= have; {
		r.Step++
	}
}

func (r *Rollout) canarySteps(svc *stack.Service) int {
	if c := r.canary(svc); c != nil {
		return len(c.Steps)
	}
	return 0
}
