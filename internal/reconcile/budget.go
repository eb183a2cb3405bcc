package reconcile

import (
	"fmt"
	"slices"
	"time"

	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
)

// startsFirst reports whether the successor of a container starts before that
// one stops: the rollout says so, or the service can spare none on the way to
// another node, and nothing stands against it. Two containers
// cannot hold one fixed host port, and a lone replica does not share its named
// volume with its successor.
func (v *view) startsFirst(svc *stack.Service, slot int, old *member) bool {
	r := v.rolling(svc)
	if !old.State.Alive() || v.overlapObstacle(svc) != "" {
		return false
	}
	if l := v.places.leave[old.ID]; l.why != "" {
		spare := r.under() || v.missingBeside(svc, slot) < max(r.down, 1) // else it must not be missing too
		return (r.surge > 0 || !spare) && !l.forced
	}
	return r.first[slot] || r.surge > 0 && r.down == 0
}

// takesOver reports whether a new container serves well enough for its
// predecessor to stop.
func (v *view) takesOver(svc *stack.Service, slot int, cur *member) bool {
	if !v.serves(svc, cur) {
		return false
	}
	r := v.rolling(svc)
	if r.Rollout == nil {
		return true
	}
	p, known := r.Slots[slot]
	switch {
	case !known:
		return true
	case p.Failed != "" || p.Done.IsZero() || r.whole && !r.allDone():
		return false
	default:
		return !v.keepsLast(svc, slot, cur.Name, HoldIdle) // nobody need wait for the end of the watch
	}
}

// awaits holds a replica whose successor does not take over yet, so that nobody
// takes the update for done.
func (v *view) awaits(svc *stack.Service, slot int, cur, old *member) {
	h := Hold{
		Kind: HoldWaiting, Key: ReplicaKey(svc.Name, slot), Service: svc.Name, Slot: slot, Name: cur.Name,
		Reason: "is to be ready before " + old.Name + " stops",
	}
	if r := v.rolling(svc); r.Rollout != nil && r.Slots[slot].Failed != "" {
		h.Kind, h.Reason = HoldIdle, fmt.Sprintf("has failed, so %s serves on: %s", old.Name, r.Slots[slot].Failed)
		if r.State == RolloutPaused {
			h.Kind, h.Reason = v.whyWaits(svc, r)
		}
	}
	v.hold(h)
}

// keepsLast keeps the last container of the old revision that serves (of a
// rollout that goes over as a whole, all of them) until one of the new ones was
// watched for as long as the policy says and is well: there would be nothing left
// when the revision fails within that time. What is gone back to was good before,
// and where failures stop nothing there is nothing to find out. It reports
// whether it did, and holds the replica then.
func (v *view) keepsLast(svc *stack.Service, slot int, name string, kind HoldKind) bool {
	r := v.rolling(svc)
	if r.Rollout == nil || r.RollBack || r.Idle || r.policy.Action == stack.ContinueOnFailure || r.down >= r.wanted || !v.servesOld(svc, slot) {
		return false
	}
	if r.olds > 1 && !r.whole {
		r.olds--
		return false
	}
	h := Hold{
		Kind: kind, Key: ReplicaKey(svc.Name, slot), Service: svc.Name, Slot: slot, Name: name,
		Reason: "the last container of the old revision stays until a new one is ready",
	}
	due, coming := r.watchedAt(slot)
	switch wait := due.Sub(v.now); {
	case due.IsZero() && coming:
	case wait <= 0 || wait > r.policy.Monitor:
		return false
	default:
		h.Reason, h.Until = "the last container of the old revision stays while the new one is watched, until "+due.Format(time.TimeOnly), due
	}
	v.hold(h)
	if kind == HoldWaiting {
		v.moves(svc.Name, h)
	}
	return true
}

// watchedAt is when the first of the new containers that are well has been
// watched for as long as the policy says; zero: none is well. coming: that of
// another replica than the one given is still to be.
func (r *rolling) watchedAt(but int) (at time.Time, coming bool) {
	for slot, p := range r.Slots {
		due := p.Started.Add(r.policy.Monitor)
		switch {
		case p.Failed != "":
		case p.Done.IsZero():
			coming = coming || slot != but
		case at.IsZero() || due.Before(at):
			at = due
		}
	}
	return at, coming
}

// servesOld reports whether a replica has a container of another revision that serves.
func (v *view) servesOld(svc *stack.Service, slot int) bool {
	return slices.ContainsFunc(v.replicas[svc.Name][slot], func(c *member) bool {
		return v.outdated(svc, c) != "" && v.serves(svc, c)
	})
}

// mayReplace reports whether a replica may be replaced now; if not, it holds it
// with the reason. A container whose node it must leave was judged by mayMove, and
// jobs have nothing to keep up.
func (v *view) mayReplace(svc *stack.Service, slot int, old *member) bool {
	if v.jobs[svc.Name] || v.places.leave[old.ID].why != "" {
		return true
	}
	r := v.rolling(svc)
	if r.admitted[slot] {
		return true
	}
	h := Hold{Kind: HoldWaiting, Key: ReplicaKey(svc.Name, slot), Service: svc.Name, Slot: slot, Name: old.Name}
	h.Kind, h.Reason = v.whyWaits(svc, r)
	h.Rollout = h.Kind == HoldIdle
	v.hold(h)
	if h.Kind == HoldWaiting {
		v.moves(svc.Name, Hold{Kind: h.Kind, Key: h.Key, Name: h.Name, Reason: "is to be replaced"})
	}
	return false
}

// whyWaits says why a replica is not replaced yet.
func (v *view) whyWaits(svc *stack.Service, r *rolling) (HoldKind, string) {
	if r.Rollout != nil {
		switch {
		case r.State == RolloutPaused:
			return HoldFailing, fmt.Sprintf("the rollout is paused: %s; berth rollout resume %s goes on, undo goes back", r.Why, svc.Name)
		case r.State == RolloutRolledBack:
			return HoldWaiting, "the service is rolled back: " + r.Why
		case v.d.Services[svc.Name].Held:
			return HoldIdle, "the rollout is paused by command; berth rollout resume " + svc.Name + " goes on"
		case !r.Reached.IsZero():
			return HoldIdle, v.canaryWaits(svc, r)
		}
	}
	if r.lost >= r.down && r.down > 0 && r.surge == 0 {
		return HoldWaiting, fmt.Sprintf("waits: %d of %d replicas are not ready, and %d may be", r.lost, r.wanted, r.down)
	}
	return HoldWaiting, fmt.Sprintf("waits for its turn: %d at a time", r.surge+r.down)
}

// canaryWaits says how long a canary's step lasts.
func (v *view) canaryWaits(svc *stack.Service, r *rolling) string {
	c := svc.Rollout.Canary
	where := fmt.Sprintf("canary step %d of %d", r.Step+1, len(c.Steps))
	if v.canaryFails(svc, r.Rollout) {
		return fmt.Sprintf("%s has failed: %s; berth rollout resume %s goes on all the same", where, r.firstFailure(), svc.Name)
	}
	if c.Hold == 0 {
		return where + "; berth rollout resume " + svc.Name + " goes on"
	}
	return fmt.Sprintf("%s until %s", where, r.Reached.Add(c.Hold).Format("15:04:05"))
}

// mayLose reports whether a container that is being replaced may stop now
// although its successor does not serve yet: no more replicas may be missing than
// the service allows. If not, it holds the replica.
func (v *view) mayLose(svc *stack.Service, slot int, old *member) bool {
	r := v.rolling(svc)
	if !v.serves(svc, old) || v.servesBeside(svc, slot, old) || v.places.leave[old.ID].forced {
		return true
	}
	if r.lost < max(r.down, 1) {
		if r.wanted > 1 && v.keepsLast(svc, slot, old.Name, HoldWaiting) {
			return false
		}
		r.lost++
		return true
	}
	v.hold(Hold{
		Kind: HoldWaiting, Key: ReplicaKey(svc.Name, slot), Service: svc.Name, Slot: slot, Name: old.Name,
		Reason: fmt.Sprintf("waits: %d of %d replicas are not ready, and %d may be", r.lost, r.wanted, max(r.down, 1)),
	})
	return false
}

// stopsShort keeps a container that serves when its rollout has stopped for
// failures before its successor was started, and reports whether it did.
func (v *view) stopsShort(svc *stack.Service, slot int, cur, old *member) bool {
	r := v.rolling(svc)
	if r.Rollout == nil || r.State != RolloutPaused || cur.State != runtime.Created || !v.serves(svc, old) {
		return false
	}
	h := Hold{Key: ReplicaKey(svc.Name, slot), Service: svc.Name, Slot: slot, Name: old.Name}
	h.Kind, h.Reason = v.whyWaits(svc, r)
	v.hold(h)
	return true
}

// servesBeside reports whether another container of a replica serves.
func (v *view) servesBeside(svc *stack.Service, slot int, old *member) bool {
	for _, c := range v.replicas[svc.Name][slot] {
		if c != old && v.serves(svc, c) {
			return true
		}
	}
	return false
}

// stopFirstNote says why a replica is not replaced start-first although it was
// asked for.
func (v *view) stopFirstNote(svc *stack.Service, slot int) string {
	if r := v.rolling(svc); r.obstacle != "" && !r.first[slot] {
		return "; stop-first: " + r.obstacle
	}
	return ""
}

// template is what a new replica of a service is made from: while a rollout is
// paused, or a canary, the replicas that are added keep its share.
func (v *view) template(svc *stack.Service) *stack.Service {
	st := v.d.Services[svc.Name]
	if st.Base == nil || v.want(svc.Name) != WantRunning {
		return svc
	}
	r := v.rolling(svc)
	if r.Rollout == nil || r.RollBack {
		return svc
	}
	share := v.cap(svc, r)
	if !r.goesOn(st) {
		share = r.keptShare()
	}
	if r.taken < share {
		r.taken++
		return svc
	}
	return &st.Base.Service
}

// noteShare notes, when a rollout stops, how many replicas have the new revision.
func (v *view) noteShare(svc *stack.Service, r *Rollout) {
	switch {
	case r.State == RolloutUpdating && !v.d.Services[svc.Name].Held:
		r.Kept, r.Of = 0, 0
	case r.Of == 0:
		for _, slot := range v.slotsOf(svc) {
			cs := v.replicas[svc.Name][slot]
			if len(cs) > 0 {
				r.Of++
			}
			if cur, _ := v.split(svc, cs); cur != nil {
				r.Kept++
			}
		}
	}
}

// keptShare is how many of the wanted replicas have the new revision when the
// share that it had when the rollout stopped is kept, rounded down.
func (r *rolling) keptShare() int {
	if r.Of == 0 {
		return r.wanted
	}
	return r.Kept * r.wanted / r.Of
}

// keptFor holds a replica that is no longer wanted, but serves, while one that is
// wanted does not: a rollout that has stopped half-way leaves such ones, and to
// scale down must not take the good ones away. It reports whether it did.
func (v *view) keptFor(svc *stack.Service, slot int, cs []*member) bool {
	if v.want(svc.Name) != WantRunning || svc.Mode.PerNode() || v.jobs[svc.Name] {
		return false
	}
	r := v.rolling(svc)
	serves := slices.ContainsFunc(cs, func(c *member) bool { return v.serves(svc, c) && v.places.leave[c.ID].why == "" })
	if r.Rollout == nil || r.short == 0 || !serves {
		return false
	}
	r.short--
	h := Hold{
		Kind: HoldWaiting, Key: ReplicaKey(svc.Name, slot), Service: svc.Name, Slot: slot, Name: cs[0].Name,
		Reason: fmt.Sprintf("is kept, though the service is scaled to %d, until all of these are ready", r.wanted),
	}
	if r.State == RolloutPaused {
		h.Kind = HoldFailing
		h.Reason += "; the rollout is paused: " + r.Why
	}
	v.hold(h)
	return true
}

// staysBehind reports whether a replica that must leave its node moves as it is:
// its turn to get the new revision has not come, or that one has not proved good yet.
func (v *view) staysBehind(svc *stack.Service, slot int, olds []*member) bool {
	base := v.d.Services[svc.Name].Base
	r := v.rolling(svc)
	if base == nil || r.Rollout == nil || r.admitted[slot] || v.want(svc.Name) != WantRunning {
		return false
	}
	if r.goesOn(v.d.Services[svc.Name]) && r.proved(r.policy) && r.taken < v.cap(svc, r) {
		return false // it gets there with its new revision
	}
	leaves := slices.ContainsFunc(olds, func(c *member) bool { return v.places.leave[c.ID].why != "" })
	return leaves && !slices.ContainsFunc(olds, func(c *member) bool { return c.id.Revision != base.Service.Revision })
}

// sheds takes away a predecessor that does not serve beside one that does: what a
// superseded rollout has left, so that no more are there at once than may be. It
// reports whether it did.
func (v *view) sheds(svc *stack.Service, slot int, olds []*member) bool {
	r := v.rolling(svc)
	if len(olds) < 2 || r.Rollout == nil || !r.goesOn(v.d.Services[svc.Name]) {
		return false
	}
	i := slices.IndexFunc(olds, func(c *member) bool { return c.State.Alive() && !v.serves(svc, c) })
	if i < 0 || !slices.ContainsFunc(olds, func(c *member) bool { return v.serves(svc, c) }) {
		return false
	}
	v.moves(svc.Name, Hold{Kind: HoldWaiting, Key: ReplicaKey(svc.Name, slot), Name: olds[i].Name, Reason: "is superseded"})
	return v.step(v.stopStep(svc, slot, olds[i], "superseded: "+v.drift(svc, olds[i])))
}
