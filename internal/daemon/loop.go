package daemon

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/berth-dev/berth/health"
	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/reconcile"
	"github.com/berth-dev/berth/runtime"
)

// loop keeps one stack: observe, decide, execute, again.
type loop struct {
	d    *Daemon
	name string
	log  zerolog.Logger
	obs  *reconcile.Observer
	exec *reconcile.Executor
	feed *feed
	wake chan struct{} // capacity 1: many reasons, one turn

	mu       sync.Mutex    // protects all below
	record   record        // Desired is replaced, never changed
	unsaved  bool          // the record on disk is older than this one
	woken    bool          // and so it is of a wake, which need not be stored before its steps begin
	turn     atomic.Uint64 // counts the edits by commands; it may be read without the mutex
	observed *reconcile.Observed
	plan     *reconcile.Plan
	holds    map[reconcile.Key]string                // as last published
	last     time.Time                               // of the last turn
	waiting  []chan struct{}                         // those who ask for an observation that is still to begin
	claimed  []chan struct{}                         // those whose observation is under way
	closed   bool                                    // the stack is gone; a later up makes a new loop
	routed   map[string]bool                         // services the balancer knows; of the loop alone
	talks    talks                                   // with relays
	scaling  atomic.Bool                             // a look at the scaling is under way
	scaled   map[string]*scaled                      // by service; of the goroutine that scales alone
	shown    map[string]shown                        // by service: of the scaling
	finished []finished                              // steps that have ended since the last turn began
	probing  map[string]bool                         // what the prober knows of this stack
	ways     map[string]map[health.Role]health.Route // of the probes, by container ID
	told     map[string]health.Standing              // of the probes, as last published
	ooms     map[string]oomSeen                      // by container ID
	tails    map[string]lastOutput                   // of failed containers, by ID
}

// finished is a step that has ended and is still to be taken over.
type finished struct {
	step    reconcile.Step
	res     reconcile.Result
	err     error
	dropped bool // it was not carried out, or its failure is not its own
}

func newLoop(d *Daemon, name string, r *record) *loop {
	l := &loop{
		d: d, name: name, log: d.cfg.Log.With().Str("stack", name).Logger(),
		obs: reconcile.NewObserver(d.cfg.Engine, name), feed: newFeed(),
		wake: make(chan struct{}, 1), holds: map[reconcile.Key]string{}, talks: talks{of: map[string]*talk{}},
	}
	l.exec = &reconcile.Executor{Engine: d.cfg.Engine, Contents: d.contents.get, Progress: l.progress, Notify: callWebhook, Redact: l.redact, Relay: d.cfg.Relay}
	if r != nil {
		l.record = *r
		l.record.Desired.Owner = d.owner
	}
	l.record.Memory.Since = time.Now()
	l.wakeUp()
	return l
}

// wakeUp asks for a turn. It never blocks.
func (l *loop) wakeUp() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// run takes turns until ctx ends or the stack is gone.
func (l *loop) run(ctx context.Context) {
	timer := time.NewTimer(longestRest) // its first turn is asked for
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.wake:
		case <-timer.C:
		}
		next, gone := l.takeTurn(ctx)
		if gone {
			return
		}
		timer.Reset(next)
	}
}

// longestRest bounds how long a loop rests without any reason to turn.
const longestRest = time.Hour

// afterPanic is how long a loop rests after a mistake of the program's own.
const afterPanic = 30 * time.Second

// takeTurn is one turn. A panic in it ends neither the daemon nor the stack.
func (l *loop) takeTurn(ctx context.Context) (next time.Duration, gone bool) {
	defer func() {
		if p := recover(); p != nil {
			stack := debug.Stack()
			if p, ok := p.(*reconcile.Panic); ok {
				stack = p.Stack
			}
			l.log.Error().Str("panic", fmt.Sprint(p)).Bytes("stack_trace", stack).Msg("a turn failed; it is tried again")
			next, gone = afterPanic, false
		}
	}()
	if err := l.d.health.away(); err != nil {
		l.engineAway(err)
		return longestRest, false // woken when it is back
	}
	l.noticeGap()
	l.claim()
	l.takeOver()
	d, turn := l.desiredAt()
	if d == nil {
		return longestRest, false
	}
	if err := l.d.learnEngine(ctx); err != nil {
		return l.unobserved(ctx, err), false
	}
	obs, err := l.obs.Observe(ctx, d, time.Now())
	if err != nil {
		return l.unobserved(ctx, err), false
	}
	l.redactHealth(obs)
	return l.act(ctx, obs, turn)
}

// desired is the present wish; nil before the first declaration.
func (l *loop) desired() *reconcile.Desired {
	d, _ := l.desiredAt()
	return d
}

// desiredAt is the present wish and the number of the edit that made it.
func (l *loop) desiredAt() (*reconcile.Desired, uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.record.Desired, l.turn.Load()
}

// knownTurn is a turn that this loop can reach. One that it has not heard of is
// of the daemon before, which had stored it before it told anybody: it is part
// of what this one began with.
func (l *loop) knownTurn(turn uint64) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return min(turn, l.turn.Load())
}

// noticeGap looks at everything anew when the process was held up longer than
// events can be trusted for: it was stopped, or the machine slept.
func (l *loop) noticeGap() {
	now := time.Now()
	l.mu.Lock()
	gap := now.Round(0).Sub(l.last.Round(0))
	known := !l.last.IsZero()
	l.last = now
	l.mu.Unlock()
	if known && (gap > 3*l.d.cfg.Resync || gap < -time.Second) {
		l.obs.Distrust()
	}
}

// unobserved decides what to do when the engine could not be asked.
func (l *loop) unobserved(ctx context.Context, err error) time.Duration {
	if ctx.Err() != nil {
		return longestRest
	}
	if l.d.engineLost(ctx) {
		l.engineAway(err)
		return longestRest
	}
	l.log.Warn().Err(err).Msg("cannot observe the stack; tried again")
	return time.Second
}

// engineAway tells followers why nothing goes on.
func (l *loop) engineAway(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.claimed, l.waiting = append(l.claimed, l.waiting...), nil
	l.releaseLocked()
	l.feed.conclude(outcome{turn: l.turn.Load(), settled: true, failed: []finding{{text: "the engine is down: " + err.Error()}}})
}

// act decides on what was observed for the edit turn and launches the steps.
func (l *loop) act(ctx context.Context, obs *reconcile.Observed, turn uint64) (time.Duration, bool) {
	now := time.Now()
	l.mu.Lock()
	if l.turn.Load() != turn {
		l.observed = l.d.withCluster(obs, l.record.Desired.Stack)
		// A command came in between, and may name what was not looked at. It has
		// asked for another turn.
		l.releaseLocked()
		l.mu.Unlock()
		return longestRest, false
	}
	l.record.Memory.EngineDown, l.record.Memory.EngineUp = l.d.health.window()
	plan, wake := l.decideLocked(obs, now)
	back := l.rollLocked(plan, now)
	if back {
		plan.Steps = nil // they were planned for what has failed
		l.wakeUp()
	}
	l.forgetLocked(l.record.Desired, plan)
	for _, s := range plan.Steps {
		l.record.Memory.Begin(s)
		l.unsaved = l.unsaved || s.Ends != nil || s.Prepares != "" // what follows must not depend on this daemon
	}
	l.tailLocked(ctx, plan, l.observed)
	l.saveIfDueLocked()
	o := l.outcomeLocked(plan, turn)
	o.settled = o.settled && !back
	l.releaseLocked()
	rest := l.restLocked(plan, now)
	seen := l.observed
	l.mu.Unlock()

	for _, name := range wake {
		if other := l.d.loop(name); other != nil {
			other.wakeUp()
		}
	}
	l.pauseProbes(plan)
	l.route(ctx, plan, seen)
	l.relay(ctx, plan, seen)
	l.publishHolds(plan)
	if plan.Gone {
		gone, err := l.d.forget(l, turn)
		if err != nil {
			l.log.Error().Err(err).Msg("the stack is gone, but its state cannot be removed")
			return time.Second, false
		}
		if !gone {
			return 0, false // it was declared again meanwhile
		}
		l.unprobe()
		l.unbalance(ctx)
		l.feed.conclude(o)
		l.log.Info().Msg("the stack is gone")
		l.d.running.Go(func() { l.d.removeOrphans(ctx) })
		return 0, true
	}
	for _, s := range plan.Steps {
		l.d.running.Go(func() { l.carryOut(ctx, s, turn) })
	}
	l.saveWake()
	l.feed.conclude(o)
	return rest, false
}

// decideLocked plans a turn and takes the places that the plan gives: no other
// stack takes room meanwhile. It returns the stacks that must look again because
// of it. l.mu is held.
func (l *loop) decideLocked(obs *reconcile.Observed, now time.Time) (plan *reconcile.Plan, wake []string) {
	n := l.d.nodes
	n.placing.Lock()
	defer n.placing.Unlock()
	l.observed = l.d.withCluster(obs, l.record.Desired.Stack)
	l.wakeRestingLocked()
	l.probeLocked(l.observed)
	l.balanceLocked(l.observed)
	l.relayedLocked(l.observed, now)
	l.observed.Tails, l.observed.LastLines = l.tailsLocked()
	l.observed.OOMs = l.oomsLocked()
	l.unsaved = l.record.Memory.NoteOOMs(l.observed) || l.unsaved
	l.plan = reconcile.Decide(l.record.Desired, l.observed, &l.record.Memory, now)
	return l.plan, n.take(l.name, l.plan.Placed)
}

// forgetLocked drops the requests and one-offs that are done with; l.mu is held.
func (l *loop) forgetLocked(d *reconcile.Desired, plan *reconcile.Plan) {
	if len(plan.Satisfied)+len(plan.DoneOneOffs) == 0 {
		return
	}
	next := *d
	next.Requests, next.OneOffs = slices.Clone(d.Requests), slices.Clone(d.OneOffs)
	next.Forget(plan)
	l.record.Desired = &next
	l.unsaved = true
}

// saveIfDueLocked stores what the loop itself has changed; a disk that takes
// nothing is tried again at the next turn. l.mu is held.
func (l *loop) saveIfDueLocked() {
	if !l.unsaved || l.record.Desired.Lost {
		return
	}
	if err := l.d.store.save(l.name, &l.record); err != nil {
		l.log.Error().Err(err).Msg("the state cannot be stored; it is tried again")
		return
	}
	l.unsaved, l.woken = false, false
}

// saveWake stores that services were woken, unless it is stored already.
func (l *loop) saveWake() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.woken {
		l.unsaved = true
		l.saveIfDueLocked()
	}
}

// retrySave is how often an unsaved state is tried to be stored.
const retrySave = 5 * time.Second

// restLocked is how long the loop may rest after a plan; l.mu is held.
func (l *loop) restLocked(plan *reconcile.Plan, now time.Time) time.Duration {
	rest := longestRest
	for _, at := range []time.Time{plan.Wake, l.obs.NextLook()} {
		if !at.IsZero() {
			rest = min(rest, at.Sub(now))
		}
	}
	if l.unsaved {
		rest = min(rest, retrySave)
	}
	return max(rest, 10*time.Millisecond)
}

// outcomeLocked sums a plan up for followers; l.mu is held.
func (l *loop) outcomeLocked(plan *reconcile.Plan, turn uint64) outcome {
	o := outcome{turn: turn, gone: plan.Gone, orphans: plan.Orphans, settled: plan.Settled() && len(l.record.Memory.InFlight) == 0, unready: map[string]bool{}}
	for _, h := range plan.Holds {
		if h.Kind == reconcile.HoldFailing {
			o.failed = append(o.failed, finding{h.Service, complaint(h)})
		}
	}
	if !o.settled {
		return o
	}
	for _, name := range sortedKeys(plan.Rollouts) {
		if r := plan.Rollouts[name]; r.State == reconcile.RolloutUpdating {
			o.unready[name] = true
			if why := l.restsLocked(name, &r); why != "" {
				o.notReady = append(o.notReady, finding{name, fmt.Sprintf("service %s: %s; berth rollout resume %s goes on", name, why, name)})
			}
		}
	}
	for _, r := range reconcile.ReadinessOf(l.record.Desired, l.observed, &l.record.Memory) {
		if !r.Ready {
			o.unready[r.Service] = true
		}
		if r.Failed != "" {
			o.notReady = append(o.notReady, finding{r.Service, fmt.Sprintf("%s: %s", r.Container.Name, r.Failed)})
		}
	}
	return o
}

// restsLocked says why a rollout goes on only when somebody says so; empty: it
// goes on by itself. l.mu is held.
func (l *loop) restsLocked(service string, r *reconcile.Rollout) string {
	d := l.record.Desired
	if done, failed := r.Counts(); done+failed >= r.Total {
		return "" // only its monitor time is waited for
	}
	if d.Services[service].Held {
		return "its rollout is paused by command"
	}
	svc := d.Stack.Service(service)
	if svc == nil || svc.Rollout.Canary == nil || svc.Rollout.Canary.Hold > 0 || r.RollBack || r.Reached.IsZero() {
		return ""
	}
	return fmt.Sprintf("its rollout waits at step %d of %d of the canary", r.Step+1, len(svc.Rollout.Canary.Steps))
}

// complaint says a failing hold in one line that names its object once.
func complaint(h reconcile.Hold) string {
	name := h.Name
	switch kind, _, _ := strings.Cut(string(h.Key), "/"); {
	case name == "":
		name = string(h.Key)
	case kind == "rollout" || kind == "port":
		name = "service " + name
	}
	if strings.Contains(h.Reason, name) {
		return h.Reason
	}
	return name + ": " + h.Reason
}

// claim promises the observation that begins now to whoever has asked by now.
func (l *loop) claim() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.claimed, l.waiting = append(l.claimed, l.waiting...), nil
}

// releaseLocked lets go on whoever the observation was promised to; l.mu is held.
func (l *loop) releaseLocked() {
	for _, ch := range l.claimed {
		close(ch)
	}
	l.claimed = nil
}

// publishHolds tells followers of reasons that are new.
func (l *loop) publishHolds(plan *reconcile.Plan) {
	seen := make(map[reconcile.Key]string, len(plan.Holds))
	for i := range plan.Holds {
		h := &plan.Holds[i]
		seen[h.Key] = h.Reason
		if l.holds[h.Key] == h.Reason || strings.HasSuffix(h.Reason, " in progress") {
			continue
		}
		l.feed.publish(api.Event{Time: time.Now(), Type: api.EventHold, Stack: l.name, Hold: h})
		if h.Kind == reconcile.HoldFailing {
			l.log.Warn().Str("replica", string(h.Key)).Str("cause", h.Reason).Msg("hold")
		}
	}
	l.holds = seen
}

// carryOut executes one step when its turn has come, and wakes the loop.
func (l *loop) carryOut(ctx context.Context, s reconcile.Step, turn uint64) {
	defer l.wakeUp()
	gate := l.d.gates.of(s.Op)
	if err := gate.enter(ctx, s.Urgent); err != nil {
		l.drop(s)
		return
	}
	defer gate.leave()
	if !l.current(turn) {
		l.drop(s) // a command came in between: the next plan knows better
		return
	}
	begin := time.Now()
	l.tell(s, "begin", 0, nil)
	seized := l.seize(ctx, s)
	res, err := l.execute(ctx, s)
	seized()
	l.ended(ctx, s, res, err, time.Since(begin))
}

// execute carries out one step. A panic in it is that step's failure.
func (l *loop) execute(ctx context.Context, s reconcile.Step) (res reconcile.Result, err error) {
	defer func() {
		if p := recover(); p != nil {
			l.log.Error().Str("panic", fmt.Sprint(p)).Bytes("stack_trace", debug.Stack()).Msg("a step failed; it is tried again")
			res = reconcile.Result{Container: s.Container}
			err = &runtime.Error{Kind: runtime.KindUnavailable, Op: string(s.Op), Object: s.Name, Err: errors.New("a mistake in Berth; the daemon's log has it")}
		}
	}()
	return l.exec.Execute(ctx, l.name, s)
}

// current reports whether no command has edited the stack since a turn. It does not
// wait for a state that is being stored.
func (l *loop) current(turn uint64) bool { return l.turn.Load() == turn }

// drop hands back a step that was not carried out.
func (l *loop) drop(s reconcile.Step) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.finished = append(l.finished, finished{step: s, dropped: true})
}

// ended hands back a step that was carried out. The loop takes it over when its
// next turn begins: until what it led to has been observed, it is in flight.
func (l *loop) ended(ctx context.Context, s reconcile.Step, res reconcile.Result, err error, took time.Duration) {
	// The daemon ends, and the next one looks for itself; or the engine is away, or
	// one that is too old has taken its place, which is not the step's fault.
	dropped := ctx.Err() != nil
	if runtime.IsUnavailable(err) || runtime.IsInvalid(err) {
		begin := time.Now().Add(-took)
		dropped = dropped || l.d.engineLost(ctx) || l.d.health.awaySince(begin)
	}
	if err == nil {
		l.d.health.answered(time.Now())
	}
	l.log.Info().Str("op", string(s.Op)).Str("replica", string(s.Key)).Str("cause", s.Cause).Dur("dur", took).Err(err).Msg("step")
	phase := "done"
	if err != nil {
		phase = "failed"
	}
	l.tell(s, phase, took, err) // before it counts, so that nobody hears of the end first
	l.mu.Lock()
	defer l.mu.Unlock()
	l.finished = append(l.finished, finished{step: s, res: res, err: err, dropped: dropped})
}

// takeOver settles the steps that have ended, before the engine is looked at.
func (l *loop) takeOver() {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := l.finished
	l.finished = nil
	for _, f := range list {
		l.obs.Done(f.step, f.res, f.err)
		if f.dropped {
			delete(l.record.Memory.InFlight, f.step.Key)
			continue
		}
		l.record.Memory.End(f.step, f.err, time.Now())
		if f.err == nil {
			if f.step.Op == reconcile.OpCreate {
				l.record.Memory.Create(f.res)
			}
			l.doneLocked(f.step, f.res)
		}
	}
	l.saveIfDueLocked()
}

// doneLocked edits and stores what a successful step settles; l.mu is held.
func (l *loop) doneLocked(s reconcile.Step, res reconcile.Result) {
	next := *l.record.Desired
	next.Requests, next.OneOffs = slices.Clone(next.Requests), slices.Clone(next.OneOffs)
	if next.Done(s, res) {
		l.record.Desired = &next
		l.unsaved = true
	}
	if s.Policy || s.Heals || s.Op == reconcile.OpHook || s.Op == reconcile.OpExec || s.Op == reconcile.OpNotify {
		l.unsaved = true // it counts
	}
}

// tell publishes a step's phase.
func (l *loop) tell(s reconcile.Step, phase string, took time.Duration, err error) {
	e := api.Event{Time: time.Now(), Type: api.EventStep, Stack: l.name, Phase: phase, Step: told(s), Dur: took}
	if err != nil {
		e.Err = err.Error()
	}
	l.feed.publish(e)
}

// progress publishes how a long step comes along.
func (l *loop) progress(s reconcile.Step, p runtime.Progress) {
	status := p.Status
	if p.ID != "" {
		status = p.ID + ": " + status
	}
	l.feed.publish(api.Event{Time: time.Now(), Type: api.EventStep, Stack: l.name, Phase: "progress", Step: told(s), Status: status})
}

// told is a step as events carry it: without what only its execution needs, so
// that remembered events stay small.
func told(s reconcile.Step) *reconcile.Step {
	s.Spec, s.Labels, s.Network, s.Volume, s.Build = nil, nil, nil, nil, nil
	return &s
}

// concerns reports whether an event about an image, network or volume can be
// about this stack.
func (l *loop) concerns(ev runtime.Event) bool {
	if ev.Type != "network" && ev.Type != "volume" {
		return true
	}
	if strings.HasPrefix(ev.Name, l.name+"_") || ev.Name == "" {
		return true
	}
	d := l.desired()
	if d == nil || d.Stack == nil {
		return false
	}
	for i := range d.Stack.Networks {
		if d.Stack.Networks[i].Spec.Name == ev.Name {
			return true
		}
	}
	for i := range d.Stack.Volumes {
		if d.Stack.Volumes[i].Spec.Name == ev.Name {
			return true
		}
	}
	return false
}

// lookNow has the stack observed afresh and waits for it.
func (l *loop) lookNow(ctx context.Context) (*reconcile.Observed, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, soon, errSlowEngine)
	defer cancel()
	ch := make(chan struct{})
	l.mu.Lock()
	if l.closed { // nothing of it is left, and nobody looks any more
		defer l.mu.Unlock()
		return l.observed, nil
	}
	l.waiting = append(l.waiting, ch)
	l.mu.Unlock()
	l.obs.MarkAll()
	l.wakeUp()
	select {
	case <-ch:
	case <-ctx.Done():
		return nil, &runtime.Error{Kind: runtime.KindUnavailable, Op: "look at", Object: "stack " + l.name, Err: context.Cause(ctx)}
	}
	if err := l.d.health.away(); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.observed, nil
}

// errSlowEngine says that the engine could not be asked in time.
var errSlowEngine = errors.New("the engine did not tell in time what there is; the daemon's log says why")
