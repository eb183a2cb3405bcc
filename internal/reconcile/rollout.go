package reconcile

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/berth-dev/berth/health"
	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
)

// RolloutState is how a rollout stands.
type RolloutState string

// The states of a rollout.
const (
	RolloutUpdating   RolloutState = "updating"
	RolloutPaused     RolloutState = "paused"       // until somebody resumes it
	RolloutRolledBack RolloutState = "rolling back" // its service goes back to its last good revision
	RolloutCompleted  RolloutState = "completed"
)

// Rollout is how far the replacement of a service's replicas by those of another
// revision has come.
type Rollout struct {
	Target   string       `json:"target"` // the revision and the image that the replicas get
	From     string       `json:"from"`   // the revision that the first of them had
	State    RolloutState `json:"state"`
	Why      string       `json:"why,omitempty"` // of a pause or a way back
	Began    time.Time    `json:"began"`
	Progress time.Time    `json:"progress"`           // when it last came further
	Changed  time.Time    `json:"changed,omitzero"`   // of State
	RollBack bool         `json:"rollBack,omitempty"` // it is itself the way back
	// Straight: it has no canary, since it goes to a revision that was good before.
	Straight bool `json:"straight,omitempty"`
	// Idle: nothing of the service served when it began, so there is nothing to keep up.
	Idle bool `json:"idle,omitempty"`
	// Slots are the replicas that are, or were, replaced.
	Slots map[int]SlotProgress `json:"slots"`
	// Total is how many of the wanted replicas were, or are to be, replaced.
	Total int `json:"total"`
	// Kept of Of replicas had the new revision when the rollout stopped: while it
	// does not go on, replicas that are added keep that share. Of is 0 while it does.
	Kept int `json:"kept,omitempty"`
	Of   int `json:"of,omitempty"`
	// Step is the canary's step, from 0; Reached is when its share was reached.
	Step    int       `json:"step,omitempty"`
	Reached time.Time `json:"reached,omitzero"`
}

// SlotProgress is how far the replacement of one replica has come.
type SlotProgress struct {
	Began time.Time `json:"began"`
	// Started is when the new container was started first: from then on it is watched.
	Started time.Time `json:"started,omitzero"`
	First   bool      `json:"first,omitempty"` // the new container starts before the old one stops
	Ready   time.Time `json:"ready,omitzero"`  // since when the new container is ready
	Done    time.Time `json:"done,omitzero"`   // it was ready for long enough
	Failed  string    `json:"failed,omitempty"`
}

// Active reports whether a rollout is still to come to its end.
func (r *Rollout) Active() bool { return r.State == RolloutUpdating || r.State == RolloutPaused }

// Counts are the replicas that are done and those that have failed.
func (r *Rollout) Counts() (done, failed int) {
	for _, s := range r.Slots {
		switch {
		case s.Failed != "":
			failed++
		case !s.Done.IsZero():
			done++
		}
	}
	return done, failed
}

// canary are the steps in which a service is rolled out; nil: there are none, or
// none is under way. What goes back is not tried out first.
func (r *Rollout) canary(svc *stack.Service) *stack.Canary {
	if r == nil || r.RollBack || r.Straight {
		return nil
	}
	return svc.Rollout.Canary
}

// policy is how a service's replicas are replaced by this rollout.
func (r *Rollout) policy(svc *stack.Service) stack.Update {
	if r.RollBack {
		return svc.RollBack
	}
	return svc.Update
}

// proved reports whether a new container has counted as done, or need not before
// others may: what is gone back to was good before, and where failures stop
// nothing there is nothing to find out.
func (r *Rollout) proved(policy stack.Update) bool {
	if r.RollBack || r.Idle || policy.Action == stack.ContinueOnFailure {
		return true
	}
	for _, p := range r.Slots {
		if !p.Done.IsZero() && p.Failed == "" {
			return true
		}
	}
	return false
}

// clone is a copy that can be changed.
func (r Rollout) clone() *Rollout {
	r.Slots = maps.Clone(r.Slots)
	if r.Slots == nil {
		r.Slots = map[int]SlotProgress{}
	}
	return &r
}

// rolling is what one turn knows of the replacement of a service's replicas.
type rolling struct {
	*Rollout // nil: none is under way

	policy      stack.Update
	surge, down int           // how many replicas may be replaced start-first, and stop-first, at a time
	minReady    time.Duration // of a new container
	whole       bool          // traffic goes over at once, when all new containers are ready
	obstacle    string        // why no replica is replaced start-first although it was asked for
	first       map[int]bool  // replicas that are replaced start-first
	admitted    map[int]bool  // replicas that may be replaced now
	missing     []int         // replicas of which no container serves
	short       int           // how many of them others are still to be kept for
	lost        int           // those that have not failed by the update, and those that will be missing after this turn
	wanted      int
	taken       int // replicas that have, or are to get, the new revision
	olds        int // replicas that a container of the old revision still serves, and will after this turn
	pending     []pendingSlot
}

// pendingSlot is a replica whose container is to be replaced.
type pendingSlot struct {
	slot   int
	old    *member
	serves bool
}

// rolling returns what this turn knows of a service's rollout.
func (v *view) rolling(svc *stack.Service) *rolling {
	if r, ok := v.rollouts[svc.Name]; ok {
		return r
	}
	r := &rolling{first: map[int]bool{}, admitted: map[int]bool{}, policy: svc.Update}
	v.rollouts[svc.Name] = r
	v.survey(svc, r)
	if v.want(svc.Name) == WantRunning {
		r.Rollout = v.nextRollout(svc, r)
	} else if old, known := v.m.Rollouts[svc.Name]; known {
		v.plan.Rollouts[svc.Name] = old // goes on when the service runs again
	}
	if r.Rollout != nil {
		r.policy = r.Rollout.policy(svc)
	}
	r.countLost()
	v.bounds(svc, r)
	v.admit(svc, r)
	return r
}

// survey counts what serves, and finds what is to be replaced.
func (v *view) survey(svc *stack.Service, r *rolling) {
	slots := v.slotsOf(svc)
	r.wanted = len(slots)
	for _, slot := range slots {
		cs := v.replicas[svc.Name][slot]
		serves := slices.ContainsFunc(cs, func(c *member) bool { return v.serves(svc, c) })
		if !serves {
			r.missing = append(r.missing, slot)
		}
		if v.servesOld(svc, slot) {
			r.olds++
		}
		if cur, olds := v.split(svc, cs); cur == nil && len(olds) > 0 {
			r.pending = append(r.pending, pendingSlot{slot: slot, old: v.servingOf(svc, olds), serves: serves})
		}
	}
	r.obstacle = v.overlapObstacle(svc)
}

// countLost counts what is missing. What has failed by the update was counted
// when it did, and its policy allows for it.
func (r *rolling) countLost() {
	r.short = len(r.missing)
	for _, slot := range r.missing {
		if r.Rollout == nil || r.Slots[slot].Failed == "" {
			r.lost++
		}
	}
}

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

// goesOn reports whether further replicas are replaced.
func (r *rolling) goesOn(st ServiceState) bool { return r.State == RolloutUpdating && !st.Held }

// cap is how many replicas may have the new revision: of a canary, its share.
func (v *view) cap(svc *stack.Service, r *rolling) int {
	if r.canary(svc) == nil {
		return r.wanted
	}
	return v.shareAt(svc, r.Step)
}

// target names what a service's replicas are to be.
func (v *view) target(svc *stack.Service) string {
	return svc.Revision + "@" + v.pinned(svc) + "@" + v.publishOf(svc)
}

// nextRollout is how a service's rollout stands now; nil: there is none.
func (v *view) nextRollout(svc *stack.Service, r *rolling) *Rollout {
	st := v.d.Services[svc.Name]
	old, known := v.m.Rollouts[svc.Name]
	next := old.clone()
	target := v.target(svc)
	outdated := v.outdatedSlots(svc, r)
	switch {
	case known && old.Target == target && old.State != RolloutCompleted:
	case (len(outdated) > 0 || old.Target != target && (st.Added || known && v.halfway(svc))) && !v.jobs[svc.Name]:
		next = &Rollout{
			Target: target, State: RolloutUpdating, Began: v.now, Progress: v.now,
			Changed: v.now, RollBack: st.RolledBack != nil, Straight: v.wasGood(svc), Idle: !v.anyServes(svc), Slots: map[int]SlotProgress{},
		}
		if len(outdated) > 0 {
			next.From = outdated[0].old.id.Revision
			v.skipSteps(svc, next, len(outdated))
		}
	default:
		v.settled(svc)
		if known && old.Target == target {
			v.plan.Rollouts[svc.Name] = old // how it ended
		}
		return nil
	}
	v.advance(svc, next, outdated)
	v.judge(svc, next)
	v.noteShare(svc, next)
	v.plan.Rollouts[svc.Name] = *next
	if next.State == RolloutCompleted {
		v.settled(svc)
		return nil
	}
	return next
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

// halfway reports whether a replica has a container as declared beside another one:
// the declaration went back while it was being replaced.
func (v *view) halfway(svc *stack.Service) bool {
	for _, slot := range v.slotsOf(svc) {
		if cur, olds := v.split(svc, v.replicas[svc.Name][slot]); cur != nil && len(olds) > 0 {
			return true
		}
	}
	return false
}

// settled has what a service would go back to forgotten: its revision is good.
func (v *view) settled(svc *stack.Service) {
	if st := v.d.Services[svc.Name]; st.Base != nil || st.Added {
		v.plan.Settle = append(v.plan.Settle, svc.Name)
	}
}

// outdatedSlots are the pending replicas that have another revision.
func (v *view) outdatedSlots(svc *stack.Service, r *rolling) []pendingSlot {
	var list []pendingSlot
	for _, p := range r.pending {
		if v.outdated(svc, p.old) != "" {
			list = append(list, p)
		}
	}
	return list
}

// advance takes over what has become of the replicas since the last turn.
func (v *view) advance(svc *stack.Service, r *Rollout, outdated []pendingSlot) {
	wanted := v.slotsOf(svc)
	added := v.d.Services[svc.Name].Added
	maps.DeleteFunc(r.Slots, func(slot int, _ SlotProgress) bool { return !slices.Contains(wanted, slot) })
	for _, slot := range wanted {
		cur, olds := v.split(svc, v.replicas[svc.Name][slot])
		p, entered := r.Slots[slot]
		switch {
		case cur == nil && entered && p.Failed == "":
			p.Failed = v.createFails(svc, slot)
		case cur == nil || !entered && len(olds) == 0 && !added:
			continue
		case !entered:
			p = SlotProgress{Began: v.now}
			fallthrough
		default:
			v.advanceSlot(svc, r, &p, cur)
		}
		r.Slots[slot] = p
	}
	r.Total = len(r.Slots)
	for _, p := range outdated {
		if _, entered := r.Slots[p.slot]; !entered {
			r.Total++
		}
	}
	if added {
		r.Total = max(r.Total, len(wanted))
	}
}

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

func (v *view) advanceSlot(svc *stack.Service, r *Rollout, p *SlotProgress, cur *member) {
	if p.Started.IsZero() {
		p.Started = cur.Started
	}
	if why := v.newFails(svc, r, p, cur); why != "" && p.Failed == "" {
		p.Failed = fmt.Sprintf("%s: %s", cur.Name, why)
	}
	switch {
	case !p.Done.IsZero():
		return
	case !v.serves(svc, cur):
		p.Ready = time.Time{}
		return
	case p.Ready.IsZero():
		p.Ready = v.now
		if r.Began.Equal(v.now) {
			p.Ready = cur.Started // it was there before
		}
	}
	longest := v.minReady(svc)
	due := p.Ready.Add(longest)
	if wait := due.Sub(v.now); wait > 0 && wait <= longest {
		v.lookAt(due)
		return
	}
	p.Done, r.Progress = v.now, v.now
}

// minReady is how long a new container of a service must be ready.
func (v *view) minReady(svc *stack.Service) time.Duration {
	r := rolling{policy: svc.Update, obstacle: v.overlapObstacle(svc), wanted: len(v.slotsOf(svc))}
	v.bounds(svc, &r)
	return r.minReady
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
		return v.exitReason(cur)
	case cur.RestartCount > 0:
		return fmt.Sprintf("exited and was restarted by the engine (%d)", cur.RestartCount)
	}
	_, failed := v.readiness(svc, cur)
	return failed
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
		r.resume(v.now)
	}
	done, failed := r.Counts()
	if r.State == RolloutUpdating {
		if why := v.troubled(svc, r, policy, done, failed); why != "" {
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

// anyOutdated reports whether a replica is still to be replaced.
func (v *view) anyOutdated(svc *stack.Service) bool {
	for _, slot := range v.slotsOf(svc) {
		if cur, olds := v.split(svc, v.replicas[svc.Name][slot]); cur == nil && len(olds) > 0 {
			return true
		}
	}
	return false
}

// resume has a rollout go on although it had failed.
func (r *Rollout) resume(now time.Time) {
	r.State, r.Why, r.Changed, r.Progress = RolloutUpdating, "", now, now
	for slot, p := range r.Slots {
		if p.Failed != "" {
			r.Slots[slot] = SlotProgress{Began: now, First: p.First}
		}
	}
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

// promote takes a canary to its next step when its time has come. A replica whose
// failure the policy tolerates is not waited for, as long as another is well.
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
	done, failed := v.renewed(svc, r)
	if done+failed < v.shareAt(svc, r.Step) || done == 0 && failed > 0 && r.policy(svc).Action != stack.ContinueOnFailure {
		return
	}
	if r.Reached.IsZero() {
		r.Reached = v.now
	}
	resumed := v.d.Services[svc.Name].Resumed.After(r.Reached)
	due := r.Reached.Add(c.Hold)
	if !resumed && (c.Hold == 0 || v.now.Before(due)) {
		if c.Hold > 0 {
			v.lookAt(due)
		}
		return
	}
	r.Step, r.Reached, r.Progress = r.Step+1, time.Time{}, v.now
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

// skipSteps takes a canary past the steps whose share there is already, as when a
// canary is undone.
func (v *view) skipSteps(svc *stack.Service, r *Rollout, outdated int) {
	have := len(v.slotsOf(svc)) - outdated
	for c := svc.Rollout.Canary; c != nil && r.Step < len(c.Steps) && v.shareAt(svc, r.Step) <= have; {
		r.Step++
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

func (r *Rollout) canarySteps(svc *stack.Service) int {
	if c := r.canary(svc); c != nil {
		return len(c.Steps)
	}
	return 0
}

// lookAt has the stack looked at again at a time.
func (v *view) lookAt(t time.Time) {
	if v.soonest.IsZero() || t.Before(v.soonest) {
		v.soonest = t
	}
}
