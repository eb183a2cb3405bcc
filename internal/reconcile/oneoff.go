package reconcile

import (
	"fmt"
	"time"

	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
)

func oneOffKey(service string, number int) Key {
	return Key(fmt.Sprintf("%s/run-%d", service, number))
}

// oneOffs plans the containers of run: each is created once, started when its
// client has attached, and removed when that was asked for.
func (v *view) oneOffs() {
	for i := range v.d.OneOffs {
		one := &v.d.OneOffs[i]
		key := oneOffKey(one.Service, one.Number)
		if v.busy(key, "", 0) {
			continue
		}
		c := v.oneOffContainer(one)
		switch {
		case c == nil && (one.Container != "" || one.Remove):
			v.plan.DoneOneOffs = append(v.plan.DoneOneOffs, i)
		case c == nil:
			v.createOneOff(one, key)
		default:
			v.keepOneOff(one, key, c)
		}
	}
}

func (v *view) oneOffContainer(one *OneOff) *member {
	for _, c := range v.oneoffs[one.Service] {
		if c.id.Slot == one.Number {
			return c
		}
	}
	return nil
}

func (v *view) createOneOff(one *OneOff, key Key) {
	h := Hold{Kind: HoldWaiting, Key: key, Name: one.Name}
	svc := v.d.Stack.Service(one.Service)
	if svc == nil {
		h.Kind, h.Reason = HoldFailing, "the stack has no service "+one.Service
		v.hold(h)
		return
	}
	spec := one.Spec
	why, kind := v.blocked(svc)
	if why == "" {
		why, kind = v.resolveReferences(&spec), HoldWaiting
	}
	if why != "" {
		h.Kind, h.Reason = kind, why
		v.hold(h)
		return
	}
	v.expandTemplates(&spec, svc, one.Number)
	id := v.identity(svc, one.Number)
	id.OneOff = true
	v.step(Step{
		Op: OpCreate, Key: key, Service: one.Service, Slot: one.Number, Name: one.Name, Cause: "asked for by run",
		Revision: svc.Revision, Spec: &spec, Labels: id.Labels(),
	})
}

func (v *view) keepOneOff(one *OneOff, key Key, c *member) {
	s := Step{
		Op: OpStart, Key: key, Service: one.Service, Slot: one.Number, Name: c.Name, Container: c.ID,
		Cause: "asked for by run", Revision: c.id.Revision,
	}
	switch {
	case one.Remove:
		v.takeAway(key, c, v.oneOffGrace(one), "run has ended", true)
	case v.requests[c.ID] != nil && v.requests[c.ID].Op == runtime.OpKill:
		s.Op, s.Cause, s.Signal = OpKill, v.requests[c.ID].Cause, v.requests[c.ID].Signal
		v.step(s)
	case c.State == runtime.Created && one.Start:
		if svc := v.d.Stack.Service(one.Service); svc == nil || v.oneOffMayStart(svc, key, c.Name) {
			v.step(s)
		}
	case c.State == runtime.Exited && one.AutoRemove && one.Start:
		v.takeAway(key, c, 0, "run has ended", true)
	}
}

// oneOffMayStart holds a one-off until its service's dependencies are met.
func (v *view) oneOffMayStart(svc *stack.Service, key Key, name string) bool {
	for _, dep := range svc.DependsOn {
		if kind, why := v.dependency(dep); why != "" && (dep.Required || kind != HoldFailing) {
			v.hold(Hold{Kind: kind, Key: key, Name: name, Reason: why})
			return false
		}
	}
	return true
}

func (v *view) oneOffGrace(one *OneOff) time.Duration {
	if one.Grace != nil {
		return *one.Grace
	}
	if svc := v.d.Stack.Service(one.Service); svc != nil {
		return v.grace(svc)
	}
	return runtime.DefaultStopGrace
}
