package health

import (
	"cmp"
	"container/heap"
	"context"
	"fmt"
	"hash/fnv"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/berth-dev/berth/runtime"
)

// Target is what a replica is made of now.
type Target struct {
	Container string // the engine's ID
	Started   time.Time
	State     runtime.State
	// Leaving: a step is under way that stops, restarts or replaces it.
	Leaving bool
	// Routes are the ways of the network probes, by role.
	Routes map[Role]Route
	// Redact takes out of a command's output what nobody may see; nil: nothing.
	Redact func(text string) string
}

// Maker makes the check of a probe; [Checkers] is the one for real containers.
type Maker interface {
	Make(r Role, p *Probe, t Target) Check
}

// Config configures a [Prober]. Zero values are defaults.
type Config struct {
	Checks Maker
	// Notify is called with a replica whose status has changed in a way that
	// matters (see [Status.Differs]). Calls come one at a time, from a goroutine of
	// the prober's; changes during a call are reported once after it. It tells
	// nothing but that it is time to ask for the status.
	Notify func(replica string)
	// InFlight bounds the network probes that run at once, EngineInFlight those
	// that ask the engine (exec, docker, log). Defaults 512 and 8.
	InFlight       int
	EngineInFlight int
	// Gap is how late the prober must be to take it that the whole process or
	// machine was asleep. Default 5 s.
	Gap time.Duration
	// Mass says when failures are held.
	Mass Mass
}

// The defaults of a [Config].
const (
	DefaultInFlight       = 512
	DefaultEngineInFlight = 8
	DefaultGap            = 5 * time.Second
)

// tries is how often a probe without a result is sent in one tick, as in Kubernetes.
const tries = 3

// starved is how long after its timeout a network probe may end and still count.
// A later end means that this process did not get to read an answer in time.
const starved = 500 * time.Millisecond

// heartbeat is how often a prober with anything to do looks at the clock.
const heartbeat = time.Second

// slack is the least time between two looks at what is due. Probes that are due
// closer together are sent together, which takes half the processor time of
// sending each by itself: caches and processor stay awake.
const slack = 20 * time.Millisecond

// Prober sends the probes of all replicas of this machine, each at its time, and
// keeps their statuses. Its methods may be called by many goroutines.
type Prober struct {
	cfg  Config
	kick chan struct{} // capacity 1: something is due earlier than was thought
	tell chan struct{} // capacity 1: somebody is to be notified
	free [2]chan struct{}
	work chan flight  // to a worker that waits
	idle atomic.Int64 // workers that wait

	mu       sync.Mutex // protects all below
	replicas map[string]*replica
	queue    taskQueue
	flying   int       // tasks in flight
	beat     time.Time // when the clock was last looked at; zero: nothing was due since
	wake     time.Time // when the loop looks again by itself; zero: it is awake
	changed  map[string]bool
	order    []string // the keys of changed, first come first
}

// replica is what the prober knows of one replica.
type replica struct {
	key    string
	target Target
	probes Probes
	status Status
	tasks  []*task
}

// task is one probe of a replica's, for as long as neither changes.
type task struct {
	r       *replica
	role    Role
	check   Check
	period  time.Duration
	timeout time.Duration
	engine  bool      // it asks the engine
	flying  bool      // a probe has been sent, or waits for a place
	since   int       // counts the gaps: results from before one are dropped
	due     time.Time // zero: it is not in the queue
	place   int       // in the queue; -1: not there
	dropped bool
	cancel  context.CancelFunc // ends the probe in flight
}

// New returns a prober with nothing to do. It starts no goroutine: see [Prober.Run].
func New(cfg Config) *Prober {
	cfg.InFlight = cmp.Or(cfg.InFlight, DefaultInFlight)
	cfg.EngineInFlight = cmp.Or(cfg.EngineInFlight, DefaultEngineInFlight)
	cfg.Gap = cmp.Or(cfg.Gap, DefaultGap)
	cfg.Mass = cfg.Mass.withDefaults()
	return &Prober{
		cfg: cfg, kick: make(chan struct{}, 1), tell: make(chan struct{}, 1),
		free:     [2]chan struct{}{make(chan struct{}, cfg.InFlight), make(chan struct{}, cfg.EngineInFlight)},
		work:     make(chan flight),
		replicas: map[string]*replica{}, changed: map[string]bool{},
	}
}

// Set says what a replica is now. It may be called as often as one looks: what
// has not changed stays as it is. A new start of the container, and other
// probes, begin a new status.
func (p *Prober) Set(key string, t Target, probes Probes) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.replicas[key]
	if r == nil {
		r = &replica{key: key}
		p.replicas[key] = r
	}
	old := r.target
	r.target = t
	remake := false
	if !reflect.DeepEqual(r.probes, probes) || r.status.Phase == "" || old.Container != t.Container || !old.Started.Equal(t.Started) {
		r.probes, r.status, remake = probes.Clone(), Status{}, true
	}
	if remake || !reflect.DeepEqual(old.Routes, t.Routes) {
		p.remake(r)
	}
	p.follow(r, now)
}

// Pause stops probing a replica at once, before a step that stops, restarts or
// replaces its container. The next [Prober.Set] says how it goes on.
func (p *Prober) Pause(key string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r := p.replicas[key]; r != nil && !r.target.Leaving {
		r.target.Leaving = true
		p.follow(r, time.Now())
	}
}

// Remove forgets a replica. Its probes in flight end soon, with nobody to tell.
func (p *Prober) Remove(key string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r := p.replicas[key]; r != nil {
		p.drop(r)
		delete(p.replicas, key)
	}
}

// Status returns what is known of a replica; ok is false for one that was never
// set, or is removed.
func (p *Prober) Status(key string) (s Status, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.replicas[key]
	if r == nil {
		return Status{}, false
	}
	return r.status, true
}

// Run sends what is due until ctx ends, and returns when nothing is in flight.
// A prober runs once.
func (p *Prober) Run(ctx context.Context) error {
	var flying sync.WaitGroup
	defer flying.Wait()
	flying.Go(func() { p.notify(ctx) })
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		case <-p.kick:
		}
		due, wait := p.take(time.Now())
		for _, f := range due {
			select {
			case p.work <- f:
			default:
				flying.Go(func() { p.serve(ctx, f) })
			}
		}
		timer.Reset(wait)
	}
}

// keepWorkers is how many goroutines wait for the next probe. Reusing them saves
// growing a new one's stack for every probe.
const keepWorkers = 64

// serve carries out one probe, and then others while there are some.
func (p *Prober) serve(ctx context.Context, f flight) {
	for {
		p.fly(ctx, f)
		if p.idle.Add(1) > keepWorkers {
			p.idle.Add(-1)
			return
		}
		select {
		case f = <-p.work:
			p.idle.Add(-1)
		case <-ctx.Done():
			return
		}
	}
}

// longestRest is how long the loop rests when there is nothing to do.
const longestRest = time.Hour

// take returns what is due at now, and how long there is nothing after it.
func (p *Prober) take(now time.Time) (due []flight, wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wake = time.Time{}
	defer func() { p.wake = now.Add(wait) }()
	if len(p.queue) == 0 && p.flying == 0 {
		p.beat = time.Time{}
		return nil, longestRest
	}
	p.look(now)
	for len(p.queue) > 0 && !p.queue[0].due.After(now) {
		t := p.queue[0]
		due = append(due, flight{task: t, due: t.due, since: t.since, started: t.r.target.Started})
		t.flying = true
		p.flying++
		p.apply(t.r, Ticked(t.role), now)
	}
	if len(p.queue) == 0 {
		return due, heartbeat
	}
	return due, min(heartbeat, max(slack, p.queue[0].due.Sub(now)))
}

// look notices when the process or the machine has been asleep: then whatever
// failed meanwhile says nothing of the containers.
func (p *Prober) look(now time.Time) {
	last := p.beat
	p.beat = now
	if last.IsZero() || !asleep(last, now, p.cfg.Gap+heartbeat) {
		return
	}
	for _, r := range p.replicas {
		for _, t := range r.tasks {
			t.since++
		}
		p.apply(r, Gap(), now)
	}
}

// asleep reports whether more than limit has passed between two looks at the
// clock, by the monotonic clock, which counts while a process is stopped, or
// by the wall clock, which counts while a machine is suspended as well. A wall
// clock that is set forward looks the same, and does no harm.
func asleep(last, now time.Time, limit time.Duration) bool {
	return now.Sub(last) > limit || now.Round(0).Sub(last.Round(0)) > limit
}

// flight is one tick of a task.
type flight struct {
	task    *task
	due     time.Time
	since   int
	started time.Time
}

// fly waits for a place, sends the probe, and takes its result.
func (p *Prober) fly(ctx context.Context, f flight) {
	free := p.free[0]
	if f.task.engine {
		free = p.free[1]
	}
	select {
	case free <- struct{}{}:
		defer func() { <-free }()
	case <-ctx.Done():
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if !p.board(f, cancel) {
		return
	}
	p.land(f, p.send(ctx, f))
}

// board takes note of how a probe is ended early; false: nobody waits for it any more.
func (p *Prober) board(f flight, cancel context.CancelFunc) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := f.task
	if t.dropped || f.since != t.since || !t.r.status.probed(t.r.probes, t.role) {
		p.landed(t)
		return false
	}
	t.cancel = cancel
	return true
}

// send carries a probe out, and again at once while it has no result, as long as
// its period lasts.
func (p *Prober) send(ctx context.Context, f flight) Result {
	first := time.Now()
	for n := 1; ; n++ {
		sent := time.Now()
		outcome, text := f.task.check(ctx)
		took := time.Since(sent)
		if outcome == Failure && !f.task.engine && took > f.task.timeout+starved {
			outcome, text = Unknown, fmt.Sprintf("this process had no processor for %s", (took-f.task.timeout).Round(time.Millisecond))
		}
		res := Result{At: sent, Late: max(0, first.Sub(f.due)), Took: took, Outcome: outcome, Output: text}
		if outcome != Unknown || n == tries || ctx.Err() != nil || time.Since(first) >= f.task.period {
			return res
		}
	}
}

// land takes a result.
func (p *Prober) land(f flight, res Result) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	t := f.task
	p.look(now)
	p.landed(t)
	if t.dropped || f.since != t.since {
		return
	}
	held := ""
	if res.Outcome == Failure && t.role.Ends() && t.r.status.wouldFail(t.r.probes, t.role) {
		held = p.held(t, res, now)
	}
	p.apply(t.r, Checked(t.role, f.started, res, held), now)
}

// landed makes a task ready for its next tick. One that became due meanwhile is
// sent at once. The caller holds the mutex.
func (p *Prober) landed(t *task) {
	t.flying, t.cancel = false, nil
	p.flying--
	p.schedule(t)
}

// held says why a failure is not to be acted on; empty: it is. The caller holds
// the mutex.
func (p *Prober) held(t *task, res Result, now time.Time) string {
	from := res.At
	if tr := t.r.status.track(t.role); tr.Last == Failure {
		from = tr.From
	}
	all := func(yield func(*Status) bool) {
		for _, r := range p.replicas {
			if !yield(&r.status) {
				return
			}
		}
	}
	return p.cfg.Mass.hold(all, &t.r.status, t.role, from, now)
}

// apply changes a replica's status, its places in the queue, and notes who must
// know. The caller holds the mutex.
func (p *Prober) apply(r *replica, ev Event, now time.Time) {
	old := r.status
	r.status = old.Next(r.probes, ev, now)
	for _, t := range r.tasks {
		p.schedule(t)
	}
	if !r.status.Differs(old) || p.changed[r.key] || p.cfg.Notify == nil {
		return
	}
	p.changed[r.key] = true
	p.order = append(p.order, r.key)
	poke(p.tell)
}

// schedule puts a task in the queue where its due time belongs. One that has
// none, is in flight or is dropped is not there. The caller holds the mutex.
func (p *Prober) schedule(t *task) {
	due := t.r.status.track(t.role).Due
	if t.flying || t.dropped {
		due = time.Time{}
	}
	if t.due.Equal(due) {
		return
	}
	switch t.due = due; {
	case due.IsZero():
		heap.Remove(&p.queue, t.place)
	case t.place >= 0:
		heap.Fix(&p.queue, t.place)
	default:
		heap.Push(&p.queue, t)
	}
	if t.place == 0 && due.Before(p.wake) {
		poke(p.kick)
	}
}

// follow brings a replica's status to where its target is. The caller holds the mutex.
func (p *Prober) follow(r *replica, now time.Time) {
	switch want := phase(r.target); {
	case want == Down:
		if r.status.Phase != Down {
			p.apply(r, Stopped(), now)
			p.halt(r)
		}
	case r.status.Phase == "" || r.status.Phase == Down:
		p.apply(r, Started(r.target.Started, seed(r.key)), now)
		p.follow(r, now)
	case want == Running:
		if r.status.Phase != Running {
			p.apply(r, Resumed(), now)
		}
	case want != r.status.Phase:
		p.apply(r, map[Phase]Event{Frozen: Paused(), Leaving: Left()}[want], now)
		p.halt(r)
	}
}

// phase is how a target counts.
func phase(t Target) Phase {
	switch {
	case t.Leaving && t.State.Alive():
		return Leaving
	case t.State == runtime.Running:
		return Running
	case t.State == runtime.Paused:
		return Frozen
	default:
		return Down
	}
}

// seed is a replica's own, the same in every process.
func seed(key string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(key)) // never fails
	return h.Sum32()
}

// remake makes a replica's tasks anew. The caller holds the mutex.
func (p *Prober) remake(r *replica) {
	p.drop(r)
	r.tasks = nil
	for _, role := range Roles() {
		probe := r.probes.Of(role)
		if probe == nil {
			continue
		}
		full := probe.withDefaults()
		t := &task{r: r, role: role, place: -1, period: full.Period, timeout: full.Timeout, check: p.cfg.Checks.Make(role, probe, r.target)}
		_, _, network := probe.Where()
		t.engine = !network
		r.tasks = append(r.tasks, t)
		p.schedule(t)
	}
}

// drop takes a replica's tasks away for good.
func (p *Prober) drop(r *replica) {
	p.halt(r)
	for _, t := range r.tasks {
		t.dropped = true
		p.schedule(t)
	}
}

// halt ends a replica's probes in flight, whose results would be of no use.
func (p *Prober) halt(r *replica) {
	for _, t := range r.tasks {
		t.since++
		if t.cancel != nil {
			t.cancel()
		}
	}
}

// notify reports changed replicas until ctx ends.
func (p *Prober) notify(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.tell:
		}
		for key, ok := p.next(); ok && ctx.Err() == nil; key, ok = p.next() {
			p.cfg.Notify(key)
		}
	}
}

// next takes the replica that has waited longest to be reported.
func (p *Prober) next() (key string, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.order) == 0 {
		return "", false
	}
	key, p.order = p.order[0], p.order[1:]
	delete(p.changed, key)
	return key, true
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// taskQueue is a heap of tasks by due time.
type taskQueue []*task

func (q taskQueue) Len() int           { return len(q) }
func (q taskQueue) Less(i, j int) bool { return q[i].due.Before(q[j].due) }
func (q taskQueue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = i, j
}

// Push adds a task at the end.
func (q *taskQueue) Push(x any) {
	t, _ := x.(*task)
	t.place = len(*q)
	*q = append(*q, t)
}

// Pop takes the last task away.
func (q *taskQueue) Pop() any {
	old := *q
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	t.place = -1
	return t
}
