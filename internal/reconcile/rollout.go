package reconcile

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/berth-dev/berth/internal/stack"
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
	// Unquoted is the container whose last line of output is still to be added to
	// Failed.
	Unquoted string `json:"unquoted,omitempty"`
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
	unquoted    bool // what a failed replica wrote last is still being read
}

// pendingSlot is a replica whose container is to be replaced.
type pendingSlot struct {
	slot   int
	old    *member
	serves bool
}

// under reports whether a rollout is under way, or has stopped half-way: which
// replicas of it may fail is its policy's matter. One that has stopped with nothing
// left of the old revision is as good as none.
func (r *rolling) under() bool {
	return r.Rollout != nil && (r.State != RolloutPaused || r.olds > 0)
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
	r.unquoted = next.isUnquoted()
	v.judge(svc, next)
	v.noteShare(svc, next)
	v.plan.Rollouts[svc.Name] = *next
	if next.State == RolloutCompleted {
		v.settled(svc)
		return nil
	}
	return next
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
		v.quote(svc, &p)
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

func (v *view) advanceSlot(svc *stack.Service, r *Rollout, p *SlotProgress, cur *member) {
	if p.Started.IsZero() {
		p.Started = cur.Started
	}
	if why := v.newFails(svc, r, p, cur); why != "" && p.Failed == "" {
		p.Failed = fmt.Sprintf("%s: %s", cur.Name, why)
		if v.o.LastLines != nil {
			p.Unquoted = cur.ID
		}
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

// quote adds to a replica's failure what its container wrote last, once that was
// read; a container that is gone has nothing to add.
func (v *view) quote(svc *stack.Service, p *SlotProgress) {
	if p.Unquoted == "" {
		return
	}
	line, known := v.o.LastLines[p.Unquoted]
	if !known && v.any(svc, func(_ *stack.Service, c *member) bool { return c.ID == p.Unquoted }) {
		v.plan.Culprits = append(v.plan.Culprits, p.Unquoted)
		v.hold(Hold{ // what the failure leads to is still to come
			Kind: HoldWaiting, Key: Key("rollout/" + svc.Name), Service: svc.Name, Name: svc.Name,
			Reason: "waits for the last output of " + p.Failed,
		})
		return
	}
	p.Failed, p.Unquoted = quoted(p.Failed, line), ""
}

// quoted is a reason with the last line of output, if there is one.
func quoted(why, line string) string {
	if line == "" {
		return why
	}
	return why + ": " + line
}

// lookAt has the stack looked at again at a time.
func (v *view) lookAt(t time.Time) {
	if v.soonest.IsZero() || t.Before(v.soonest) {
		v.soonest = t
	}
}
