package reconcile

import (
	"fmt"

	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
)

// prepare runs the pre_start steps of a service before a container's first
// start: each in a container of its own, one after the other, and those that are
// not per replica once for the service and its revision. It reports whether
// there is something left to do, or to wait for, before the start.
func (v *view) prepare(svc *stack.Service, slot int, c *member) bool {
	if !c.Started.IsZero() {
		return false
	}
	for i := range svc.PreStart {
		if done := v.preparedKey(svc, c, i); !v.m.Prepared[done] {
			v.prepareStep(svc, slot, c, i, done)
			return true
		}
	}
	return false
}

// preparedKey names what a step that is done has prepared: a container, or all
// of a service's revision.
func (v *view) preparedKey(svc *stack.Service, c *member, i int) string {
	if svc.PreStart[i].PerReplica {
		return fmt.Sprintf("%s#%d", c.ID, i+1)
	}
	return fmt.Sprintf("%s@%s#%d", svc.Name, svc.Revision, i+1)
}

// initName is the name of a step's container.
func (v *view) initName(svc *stack.Service, slot, i int) string {
	if svc.PreStart[i].PerReplica {
		return fmt.Sprintf("%s-init-%d", v.containerName(svc, slot), i+1)
	}
	return fmt.Sprintf("%s-%s-init-%d", v.d.Stack.Name, svc.Name, i+1)
}

// prepareStep carries one step on.
func (v *view) prepareStep(svc *stack.Service, slot int, c *member, i int, done string) {
	key, name := ReplicaKey(svc.Name, slot), v.initName(svc, slot, i)
	h := Hold{Kind: HoldWaiting, Key: key, Service: svc.Name, Slot: slot, Name: c.Name}
	if other := v.preparer(name); other != 0 && other != slot {
		h.Reason = fmt.Sprintf("waits for pre_start step %d, which %s/%d runs", i+1, svc.Name, other)
		v.hold(h)
		v.moves(svc.Name, h)
		return
	}
	v.preparing[name] = slot
	step := v.inits[name]
	s := Step{Key: key, Service: svc.Name, Slot: slot, Name: name, Revision: svc.Revision, Cause: fmt.Sprintf("pre_start step %d", i+1)}
	if step != nil {
		s.Container = step.ID
	}
	switch {
	case step == nil:
		h = v.createInit(svc, slot, i, s, h)
	case step.id.Revision != svc.Revision:
		s.Op, s.Force, s.Volumes, s.Cause = OpRemove, true, true, "of another revision"
		v.step(s)
	case step.State == runtime.Created:
		s.Op = OpStart
		v.step(s)
	case step.State.Alive():
		h.Reason = fmt.Sprintf("waits for %s to complete", name)
		v.hold(h)
	case step.ExitCode == 0:
		s.Op, s.Volumes, s.Prepares, s.Cause = OpRemove, true, done, s.Cause+" is done"
		v.step(s)
	default:
		h = v.retryInit(step, s, h)
	}
	if h.Reason == "" {
		h.Reason = fmt.Sprintf("is prepared by %s", name)
	}
	v.moves(svc.Name, h)
}

// preparer is the slot that runs a step, in this turn or by one that is still
// under way; 0: none does.
func (v *view) preparer(name string) int {
	if slot := v.preparing[name]; slot != 0 {
		return slot
	}
	for _, s := range v.m.InFlight {
		if s.Name == name {
			return s.Slot
		}
	}
	return 0
}

// createInit makes a step's container, on the node of its replica.
func (v *view) createInit(svc *stack.Service, slot, i int, s Step, h Hold) Hold {
	spec := svc.PreStart[i].Spec
	why, kind := v.imageRef(v.providerOf(svc, spec.Image), spec.Image)
	if why == "" {
		why, kind = v.nameTaken(s.Name)
	}
	if why == "" {
		why, kind = v.resolveReferences(&spec), HoldWaiting
	}
	if why != "" {
		h.Kind, h.Reason = kind, why
		v.hold(h)
		return h
	}
	v.expandTemplates(&spec, svc, slot)
	if spec.Fixed.CgroupParent == "" {
		spec.Fixed.CgroupParent = v.parent(svc, slot)
	}
	id := v.identity(svc, slot)
	id.OneOff = true
	s.Op, s.Spec, s.Labels, s.Node = OpCreate, &spec, id.Labels(), id.Node
	s.Labels[runtime.LabelInit] = fmt.Sprint(i + 1)
	v.step(s)
	return h
}

// providerOf is the service that says how a step's image is come by: one that
// builds it, or the step itself where its image is none of the service's.
func (v *view) providerOf(svc *stack.Service, ref string) *stack.Service {
	for _, s := range v.d.Stack.StepImages(svc) {
		if s.Spec.Image == ref {
			return s
		}
	}
	return svc
}

// retryInit makes a failed step anew after a backoff; whoever waits for the
// stack hears of the failure.
func (v *view) retryInit(step *member, s Step, h Hold) Hold {
	h.Kind = HoldFailing
	h.Reason = fmt.Sprintf("%s failed: %s", s.Cause, v.exitReason(step))
	v.plan.Culprits = append(v.plan.Culprits, step.ID)
	if tail := v.o.Tails[step.ID]; tail != "" {
		h.Reason += "; its last output: " + tail
	}
	s.Op, s.Volumes, s.Heals, s.Finished = OpRemove, true, true, step.Finished
	s.Cause = h.Reason + "; tried again"
	wait := max(v.m.Backoff[s.Key].Wait(step.Finished, firstPullRetry), firstPullRetry)
	h.Until = step.Finished.Add(wait)
	if left := h.Until.Sub(v.now); left > 0 && left <= wait {
		v.hold(h)
		return h
	}
	v.step(s)
	return h
}

// sweepInits removes the containers of steps that nobody waits for: their
// service is not to run, or has none of that name any more.
func (v *view) sweepInits() {
	for _, name := range sortedKeys(v.inits) {
		c := v.inits[name]
		key := Key("container/" + name)
		if v.preparer(name) == 0 && !v.busy(key, "", 0) {
			v.takeAway(key, c, 0, "a pre_start step that nobody waits for", true)
		}
	}
}
