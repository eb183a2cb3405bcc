package reconcile

import (
	"slices"
	"time"

	"github.com/berth-dev/berth/health"
	"github.com/berth-dev/berth/internal/stack"
)

// serves reports whether a container is ready and no step is ending its run.
func (v *view) serves(svc *stack.Service, c *member) bool {
	if s, busy := v.m.InFlight[ReplicaKey(svc.Name, c.id.Slot)]; busy && s.Container == c.ID && ends(s.Op) {
		return false
	}
	return (v.isReady(svc, c) || v.trusted(svc, c)) && !v.doomed(svc, c)
}

// doomed reports whether this turn ends or freezes a container's run since its
// probes fail.
func (v *view) doomed(svc *stack.Service, c *member) bool {
	switch v.verdict(svc, c).Action.Do {
	case health.Restart, health.Stop, health.Pause, health.Recreate:
		return true
	default:
		return false
	}
}

// trusted reports whether a container served for all that is known: its probes
// have no results yet because the daemon has only just begun.
func (v *view) trusted(svc *stack.Service, c *member) bool {
	return v.unjudged(svc, c) && c.Started.Before(v.m.Since)
}

// ends reports whether an operation ends or freezes a container's run.
func ends(op Op) bool {
	switch op {
	case OpStop, OpKill, OpRestart, OpRemove, OpPause:
		return true
	default:
		return false
	}
}

// bounds fills in how many replicas may be replaced at a time: by x-berth.rollout
// where that says it, else by parallelism and order.
func (v *view) bounds(svc *stack.Service, r *rolling) {
	var given bool
	if r.surge, r.down, given = svc.Rollout.Bounds(r.wanted); !given {
		at := r.policy.Parallelism
		if at == 0 {
			at = max(r.wanted, 1)
		}
		r.surge, r.down = 0, at
		if r.policy.Order == stack.StartFirst {
			r.surge, r.down = at, 0
		}
	}
	if r.surge > 0 && r.obstacle != "" {
		r.surge, r.down = 0, max(r.down, r.surge)
	} else if r.surge == 0 {
		r.obstacle = "" // it was not asked for
	}
	r.whole = r.surge >= r.wanted && r.wanted > 1 && r.Rollout != nil && r.canary(svc) == nil
	switch {
	case svc.Rollout.MinReady != nil:
		r.minReady = *svc.Rollout.MinReady
	case (r.surge > 0 || r.down < r.wanted) && svc.Probes.Empty() && !v.checkedByEngine(svc):
		r.minReady = unprobedReady
	}
}

// unprobedReady is how long a new container must run before it counts as ready when
// nothing else tells that it serves: long enough for one that crashes at once.
const unprobedReady = time.Second

// checkedByEngine reports whether the engine checks a service's containers.
func (v *view) checkedByEngine(svc *stack.Service) bool {
	if h := svc.Spec.Healthcheck; h != nil {
		return !h.Disable
	}
	return v.o.Images[svc.Spec.Image].HasCheck
}

// admit chooses the replicas that may be replaced now. Those that do not serve
// come first: to replace them takes nothing away.
func (v *view) admit(svc *stack.Service, r *rolling) {
	slices.SortStableFunc(r.pending, func(a, b pendingSlot) int {
		switch {
		case a.serves == b.serves:
			return a.slot - b.slot
		case a.serves:
			return 1
		default:
			return -1
		}
	})
	surging, stopping := v.underWay(svc, r)
	if r.Rollout != nil && !r.goesOn(v.d.Services[svc.Name]) {
		return
	}
	room := v.cap(svc, r) - r.taken
	idle := !v.anyServes(svc) && (r.Rollout == nil || r.Idle)
	for _, p := range r.pending {
		switch {
		case room <= 0:
			return
		case idle:
			// nothing to keep up: all at once
		case r.surge > surging && p.old.State.Alive():
			r.first[p.slot] = true
			surging++
		case r.down > stopping && (!p.serves || r.lost < r.down):
			stopping++
		case r.down == 0 && !p.old.State.Alive() && r.surge > surging:
			surging++
		default:
			continue
		}
		r.enter(p.slot, v.now)
		r.taken++
		room--
	}
}

// enter notes that a replica may be replaced, and in which order that is done.
func (r *rolling) enter(slot int, now time.Time) {
	r.admitted[slot] = true
	if r.Rollout == nil {
		return
	}
	p, known := r.Slots[slot]
	if !known {
		p.Began = now
	}
	p.First = r.first[slot]
	r.Slots[slot] = p
}

// anyServes reports whether any replica of a service serves.
func (v *view) anyServes(svc *stack.Service) bool { return v.any(svc, v.serves) }

// underWay counts the replicas whose replacement has begun and holds a place, by
// their order.
func (v *view) underWay(svc *stack.Service, r *rolling) (surging, stopping int) {
	for _, slot := range v.slotsOf(svc) {
		cur, olds := v.split(svc, v.replicas[svc.Name][slot])
		var p SlotProgress
		var known bool
		if r.Rollout != nil {
			p, known = r.Slots[slot]
		}
		if cur != nil {
			r.taken++
		}
		if p.First {
			r.first[slot] = true // whatever becomes of the new container
		}
		switch {
		case cur == nil && !known || p.Failed != "" || !p.Done.IsZero() && !v.now.Before(p.Done.Add(r.policy.Delay)):
			continue
		case !known && len(olds) == 0:
			continue
		case cur == nil && len(olds) > 0:
			continue // it is pending again
		}
		if !p.Done.IsZero() {
			v.lookAt(p.Done.Add(r.policy.Delay))
		}
		if first := p.First || !known && r.surge > 0; first {
			r.first[slot] = true
			surging++
		} else {
			stopping++
		}
	}
	return surging, stopping
}

// goesOn reports whether further replicas are replaced now.
func (r *rolling) goesOn(st ServiceState) bool {
	return r.State == RolloutUpdating && !st.Held && !r.unquoted
}

// minReady is how long a new container of a service must be ready.
func (v *view) minReady(svc *stack.Service) time.Duration {
	r := rolling{policy: svc.Update, obstacle: v.overlapObstacle(svc), wanted: len(v.slotsOf(svc))}
	v.bounds(svc, &r)
	return r.minReady
}
