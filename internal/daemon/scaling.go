package daemon

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/berth-dev/berth/health"
	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/balance"
	"github.com/berth-dev/berth/internal/reconcile"
	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/scaling"
	"github.com/berth-dev/berth/scaling/forecast"
	scalesim "github.com/berth-dev/berth/scaling/simulate"
	"github.com/berth-dev/berth/scaling/timetable"
	"github.com/berth-dev/berth/scaling/vertical"
)

// Meter measures containers for the autoscaler.
type Meter interface {
	// Stats reads the counters of running containers, by ID. Those that cannot be
	// read are missing.
	Stats(ctx context.Context, containers []runtime.Container) map[string]runtime.Stats
	// Value asks for one value of a source that is asked, in thousandths: of a page, a
	// command or an address. at is the container that is asked; nil: a webhook.
	Value(ctx context.Context, src *stack.MetricSource, at *Metered) (int64, error)
}

// Metered is a container that is asked for a metric.
type Metered struct {
	Container *runtime.Container
	Route     health.Route // the way to its page, where it is asked for one
}

// scaleTick is how often it is looked whether a service is in use and whether a
// decision is due.
const scaleTick = time.Second

// keptDecisions is how many decisions of a service by its metrics are remembered, and
// keptLooks how many by what is under way at once.
const (
	keptDecisions = 60
	keptLooks     = 300
)

// scaled is what is remembered of the scaling of one service. It is of the look
// that has set looking; what has a name in JSON is stored, and what others may see
// of it is a [shown].
type scaled struct {
	looking atomic.Bool

	State   scaling.State     `json:"state,omitzero"`
	History *vertical.History `json:"history,omitempty"`
	Series  *forecast.Series  `json:"series,omitempty"`
	Resized time.Time         `json:"resized,omitzero"` // when its limits were last looked at

	// These begin anew with each daemon: what was stored would be from before the last
	// use.
	used        time.Time // when somebody last used it
	concurrency scaling.ConcurrencyState

	begun    scaling.State // before the first of steps
	steps    []scalesim.Step
	last     *api.Scaling // never changed once it is here
	due      time.Time
	sizeDue  time.Time
	rested   bool                     // it did not run when it was last looked at, or not fully
	stats    map[string]runtime.Stats // of the last measurement, by container ID
	sized    map[string]runtime.Stats // the same, of the last look at sizes
	ready    map[string]readyFact
	load     []scaling.Load           // what concurrency follows from
	fresh    []scaling.Load           // of load, since the last of looks
	undone   scaling.ConcurrencyState // before the first of looks
	looks    []scalesim.Look
	pool     balance.PoolStatus // as last looked at
	counters balance.PoolStatus // at the last decision
	counted  time.Time
	ooms     map[string]time.Time
}

// shown is what others may see of a service's scaling.
type shown struct {
	last      *api.Scaling
	recording scalesim.Recording
	sizing    *api.Sizing
}

// readyFact is since when a container's run is ready, or is not.
type readyFact struct {
	started time.Time
	ready   bool
	was     bool
	since   time.Time
}

// scaleAll looks after the number, the rest and the size of all services that ask
// for it, until ctx ends.
func (d *Daemon) scaleAll(ctx context.Context) {
	ticker := time.NewTicker(scaleTick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if d.health.away() != nil {
			continue
		}
		for _, l := range d.all() {
			if !l.scales() || !l.scaling.CompareAndSwap(false, true) {
				continue // its last look still begins
			}
			d.running.Go(func() {
				defer l.scaling.Store(false)
				l.scale(ctx, time.Now())
			})
		}
	}
}

// scales reports whether a stack has a service whose number or size is decided.
func (l *loop) scales() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.record.Desired
	if d == nil || d.Stack == nil || d.Down != nil || d.Lost || l.observed == nil || l.plan == nil {
		return false
	}
	return slices.ContainsFunc(d.Stack.Services, func(s stack.Service) bool { return s.Autoscale != nil || s.Vertical != nil })
}

// scale begins a look at each such service but those whose last look still
// measures: one whose metrics take their time holds up no other.
func (l *loop) scale(ctx context.Context, now time.Time) {
	l.mu.Lock()
	d, obs, plan := l.record.Desired, l.observed, l.plan
	facts := reconcile.ReadinessOf(d, obs, &l.record.Memory)
	l.mu.Unlock()
	for i := range d.Stack.Services {
		svc := &d.Stack.Services[i]
		if svc.Autoscale == nil && svc.Vertical == nil {
			continue
		}
		s := l.scaledOf(svc.Name)
		if !s.looking.CompareAndSwap(false, true) {
			continue
		}
		look := scaleLook{l: l, d: d, svc: svc, obs: obs, plan: plan, now: now, s: s}
		for _, f := range facts {
			if f.Service == svc.Name {
				look.facts = append(look.facts, f)
			}
		}
		l.d.running.Go(func() {
			defer s.looking.Store(false)
			look.take(ctx)
		})
	}
}

// scaledOf is what is remembered of a service, as the daemon before stored it at
// first. What cannot be read is forgotten. What was stored may be older than the
// last decision, so that the number found counts as recommended just now.
func (l *loop) scaledOf(service string) *scaled {
	if s := l.scaled[service]; s != nil {
		return s
	}
	l.mu.Lock()
	stored := l.record.Scaling[service]
	l.mu.Unlock()
	s := &scaled{}
	if len(stored) > 0 && json.Unmarshal(stored, s) != nil {
		s = &scaled{}
	}
	s.State.Decided = time.Time{}
	if l.scaled == nil {
		l.scaled = map[string]*scaled{}
	}
	l.scaled[service] = s
	return s
}

// publish shows and stores what has become of a service's scaling. What is stored
// reaches the disk with the next state that must.
func (l *loop) publish(service string, s *scaled, edit func(*shown)) {
	data, err := json.Marshal(s)
	recording := scalesim.Recording{State: s.begun, Steps: slices.Clone(s.steps), Concurrency: s.undone, Looks: slices.Clone(s.looks)}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.record.Scaling = maps.Clone(l.record.Scaling)
		if l.record.Scaling == nil {
			l.record.Scaling = map[string]json.RawMessage{}
		}
		l.record.Scaling[service] = data
	}
	if l.shown == nil {
		l.shown = map[string]shown{}
	}
	now := l.shown[service]
	now.recording = recording
	edit(&now)
	l.shown[service] = now
}

// scaleLook is one look at one service. All but its outcome is of the goroutine
// that takes it.
type scaleLook struct {
	l     *loop
	d     *reconcile.Desired
	svc   *stack.Service
	obs   *reconcile.Observed
	plan  *reconcile.Plan
	facts []reconcile.Readiness
	now   time.Time
	s     *scaled
}

func (k *scaleLook) state() reconcile.ServiceState { return k.d.Services[k.svc.Name] }

// take looks whether the service is in use, and decides what is due.
func (k *scaleLook) take(ctx context.Context) {
	k.watchRest()
	if k.state().Want != reconcile.WantRunning {
		return
	}
	k.watchReady()
	k.watchPool()
	if k.svc.Autoscale != nil {
		k.rest()
		if k.state().Rest == nil && k.isDue() {
			k.decide(ctx)
		}
	}
	if k.svc.Vertical != nil && !k.now.Before(k.s.sizeDue) {
		k.size(ctx)
	}
}

// watchReady notes since when each container is ready.
func (k *scaleLook) watchReady() {
	next := map[string]readyFact{}
	for _, f := range k.facts {
		if f.Container == nil {
			continue
		}
		old, known := k.s.ready[f.Container.ID]
		if !known || !old.started.Equal(f.Container.Started) {
			old = readyFact{started: f.Container.Started, since: k.now}
		}
		if old.ready != f.Ready {
			old.ready, old.since = f.Ready, k.now
		}
		old.was = old.was || f.Ready
		next[f.Container.ID] = old
	}
	k.s.ready = next
}

// watchRest counts the end of a rest, by whom or by what it may be, as a use: what
// was woken does not go back to rest before it is idle for as long again.
func (k *scaleLook) watchRest() {
	rests := k.state().Rest != nil || k.state().Want != reconcile.WantRunning
	if k.s.rested && !rests {
		k.s.used = k.now
		// What was measured before the rest would be spread over all of it.
		k.s.stats, k.s.sized, k.s.counted = nil, nil, time.Time{}
	}
	k.s.rested = rests
}

// brief is how much counts as under way at once where connections came and went
// between two looks: next to nothing, but a service that is asked now and then is
// not one that nobody uses.
const brief = 0.001

// watchPool notes what the balancer says of the service's use.
func (k *scaleLook) watchPool() {
	pool, known := k.l.pool(k.svc.Name)
	used := pool.Open > 0 || pool.Waiting > 0 || pool.Connections > k.s.pool.Connections
	if used || k.s.used.IsZero() || k.s.used.After(k.now) {
		k.s.used = k.now
	}
	if known && k.svc.Autoscale != nil && k.svc.Autoscale.Concurrency != nil {
		atOnce := float64(pool.Open + pool.Waiting)
		if pool.Connections > k.s.pool.Connections {
			atOnce = max(atOnce, brief)
		}
		now := scaling.Load{At: k.now.Round(0), AtOnce: atOnce}
		k.s.load = slices.Clone(scaling.RecentLoad(append(k.s.load, now)))
		k.s.fresh = slices.Clone(scaling.RecentLoad(append(k.s.fresh, now)))
	}
	k.s.pool = pool
}

// pool is what the balancer, and the service's relays, say of its use.
func (l *loop) pool(service string) (pool balance.PoolStatus, known bool) {
	if b := l.d.balancing.b; b != nil {
		pool, known = b.Pool(balance.Key{Stack: l.name, Service: service})
	}
	relayed := l.talks.pooled(service, &pool)
	return pool, relayed || known
}

// rest puts the service to rest when nobody has used it for long enough, and
// wakes it when somebody does.
func (k *scaleLook) rest() {
	idle := k.svc.Autoscale.Idle
	if idle == nil {
		return
	}
	dec := idle.Decide(scaling.Activity{
		Last: k.s.used, Open: k.s.pool.Open, Waiting: k.s.pool.Waiting > 0, Busy: k.busy(),
	}, k.now)
	resting := k.state().Rest != nil
	if dec.Rest == resting || k.state().AutoHeld || k.state().Scale != nil {
		return
	}
	if !dec.Rest && dec.Idle > 0 && k.state().Rest.Do != scaling.IdleThrottle {
		return // asleep by command, and nobody has come
	}
	k.apply(dec.Reason, func(st *reconcile.ServiceState) {
		st.Rest = nil
		if dec.Rest {
			st.Rest = &reconcile.Rest{Do: dec.Do, Why: dec.Reason, Since: k.now}
			least := max(1, valueOr(k.svc.Autoscale.Policy.Min, 1)) // it comes back with no more
			if k.d.Replicas(k.svc) > least {
				st.Auto = &least
			}
		}
	})
}

// busy is why the service must not rest although nobody is connected.
func (k *scaleLook) busy() string {
	if r := k.plan.Rollouts[k.svc.Name]; r.State == reconcile.RolloutUpdating {
		return "it is being rolled out"
	}
	if k.state().Rest != nil {
		return ""
	}
	for _, f := range k.facts {
		if !f.Ready {
			return string(f.Key) + " is not ready"
		}
	}
	return ""
}

// isDue reports whether it is time to decide the number: what is under way at once
// is looked at each time, since its windows move.
func (k *scaleLook) isDue() bool { return k.svc.Autoscale.Concurrency != nil || k.measureDue() }

// measureDue reports whether it is time to measure, at the look that is the nearest
// to it: an interval is not longer by the little that a look comes too early. A
// clock that was set back does not put it off.
func (k *scaleLook) measureDue() bool {
	return !k.now.Add(scaleTick/2).Before(k.s.due) || k.s.due.Sub(k.now) > 2*k.interval()
}

func (k *scaleLook) interval() time.Duration {
	return cmp.Or(k.svc.Autoscale.Policy.Interval, scaling.DefaultInterval)
}

// policyOf is a service's policy as its schedules change it at a time, and the
// schedule that does; nil: none.
func policyOf(a *stack.Autoscale, now time.Time) (scaling.Policy, *timetable.Firing) {
	table, errs := timetable.Parse(a.Schedules)
	if len(errs) > 0 {
		return a.Policy, nil // they were checked when they were loaded
	}
	firing, ok := table.Active(now)
	if !ok {
		return a.Policy, nil
	}
	return firing.Apply(a.Policy), &firing
}

// scheduledLeast is how few replicas the schedule asks for that is in force; nil: it
// does not say, or there is none.
func scheduledLeast(firing *timetable.Firing) *int {
	if firing == nil {
		return nil
	}
	return firing.Schedule.Min
}

// leastOf is how few replicas a service may have by its policy of the moment.
func leastOf(a *stack.Autoscale, policy *scaling.Policy, firing *timetable.Firing) int {
	least := valueOr(policy.Min, 1)
	if a.Concurrency != nil {
		least = min(least, valueOr(a.Concurrency.Within(*policy, scheduledLeast(firing)).Min, 1))
	}
	return least
}

// decide decides the number of replicas and carries it out. Metrics are asked when
// they are due; in between only what is under way at once can change the number.
func (k *scaleLook) decide(ctx context.Context) {
	policy, firing := policyOf(k.svc.Autoscale, k.now)
	concurrency := k.svc.Autoscale.Concurrency
	if len(policy.Metrics) == 0 && policy.Fixed == nil && concurrency == nil {
		n := min(max(k.d.Replicas(k.svc), valueOr(policy.Min, 1)), policy.Max) // nothing is measured: the bounds decide
		policy.Fixed = &n
	}
	in := scaling.Input{Current: k.d.Replicas(k.svc)}
	out := &api.Scaling{Service: k.svc.Name, At: k.now, Current: in.Current, Desired: in.Current, Held: k.held()}
	if firing != nil {
		out.Schedule = firing.String()
	}
	switch asks := len(policy.Metrics) > 0 || policy.Fixed != nil; {
	case asks && k.measureDue():
		k.byMetrics(ctx, policy, &in, out)
	case asks && k.s.last != nil:
		out.Decision, out.Missing = k.s.last.Decision, k.s.last.Missing
	}
	if out.Decision != nil {
		out.Desired = out.Decision.Desired
	}
	if concurrency != nil && policy.Fixed == nil {
		k.byConcurrency(*concurrency, &policy, firing, out)
	}
	out.Desired = k.capped(out.Desired, in.Current, out)
	k.l.decided(k.svc.Name, k.s, out)
	if desired := out.Desired; out.Held == "" && desired != in.Current {
		k.apply(out.Why(), func(st *reconcile.ServiceState) { st.Auto = &desired })
	}
}

// held is why a decision is not carried out; empty: it is.
func (k *scaleLook) held() string {
	switch st := k.state(); {
	case st.AutoHeld:
		return "paused; berth autoscale resume goes on"
	case st.Scale != nil:
		return "scaled by hand; berth autoscale resume, or the next up, goes on"
	default:
		return ""
	}
}

// byMetrics decides by what is measured of the replicas.
func (k *scaleLook) byMetrics(ctx context.Context, policy scaling.Policy, in *scaling.Input, out *api.Scaling) {
	k.measure(ctx, in, out)
	if k.svc.Autoscale.Season > 0 {
		in.Forecast = k.expected()
	}
	before := k.s.State
	dec, next := scaling.Decide(policy, before, *in, k.now)
	k.s.due = dec.Next
	out.Decision = &dec
	if k.svc.Autoscale.Season > 0 {
		k.observe(&dec)
	}
	if out.Held != "" {
		return // what is not carried out is not remembered as a change
	}
	k.s.State = next
	k.s.remember(before, scalesim.Step{Policy: policy, Input: *in, Decision: dec})
}

// remember keeps a decision with what it follows from, and the state before the
// first that is kept, so that all of them can be made again.
func (s *scaled) remember(before scaling.State, step scalesim.Step) {
	if len(s.steps) == 0 {
		s.begun = before
	}
	s.steps = append(s.steps, step)
	for len(s.steps) > keptDecisions {
		first := &s.steps[0]
		_, s.begun = scaling.Decide(first.Policy, s.begun, first.Input, first.Decision.At)
		s.steps = slices.Clone(s.steps[1:])
	}
}

// rememberLook does the same for a decision by what is under way at once. The state
// is still that before it.
func (s *scaled) rememberLook(look scalesim.Look) {
	if len(s.looks) == 0 {
		s.undone = s.concurrency
	}
	s.looks, s.fresh = append(s.looks, look), nil
	for len(s.looks) > keptLooks {
		_, state, load := s.looks[0].After(s.undone, nil)
		s.undone, s.looks = state, slices.Clone(s.looks[1:])
		s.looks[0].Load = scaling.RecentLoad(append(load, s.looks[0].Load...))
	}
}

// byConcurrency decides by what is under way at once; where metrics decide too, the
// larger number counts, but none where it says none and the metrics never do.
func (k *scaleLook) byConcurrency(c scaling.Concurrency, policy *scaling.Policy, firing *timetable.Firing, out *api.Scaling) {
	c = c.Within(*policy, scheduledLeast(firing))
	ready := 0
	for _, f := range k.facts {
		if f.Ready {
			ready++
		}
	}
	// By the time of the clock alone, so that it comes out the same when it was read back.
	dec, next := c.Decide(k.s.concurrency, out.Current, ready, k.s.load, k.now.Round(0))
	if out.Held == "" {
		k.s.rememberLook(scalesim.Look{Concurrency: c, Load: k.s.fresh, Decision: dec})
		k.s.concurrency = next
	}
	out.Concurrency = &dec
	if out.Desired = dec.Desired; out.Decision != nil {
		out.Desired = dec.Beside(out.Decision.Desired, *policy)
	}
}

// capped keeps a number from growing while no node takes the replicas there are,
// and says so for as long as the service would have them.
func (k *scaleLook) capped(desired, current int, out *api.Scaling) int {
	if desired < current {
		return desired
	}
	for _, key := range sortedKeys(k.plan.Placed.Refusals) {
		h := k.plan.Placed.Refusals[key]
		if h.Service == k.svc.Name {
			out.Capped = fmt.Sprintf("no node takes %s: %s", key, h.Reason)
			return current
		}
	}
	return desired
}

// decided remembers a decision, and tells of it when it changes something.
func (l *loop) decided(service string, s *scaled, out *api.Scaling) {
	changed := s.last == nil || s.last.Desired != out.Desired || s.last.Held != out.Held || s.last.Capped != out.Capped
	blinded := s.last != nil && out.Blind() && !s.last.Blind()
	s.last = out
	l.publish(service, s, func(now *shown) { now.last = out })
	if changed && (out.Desired != out.Current || out.Capped != "") || blinded {
		l.feed.publish(api.Event{Time: out.At, Type: api.EventScale, Stack: l.name, Scaling: out})
		l.log.Info().Str("service", service).Int("from", out.Current).Int("to", out.Desired).Str("cause", out.Why()).Str("held", out.Held).Msg("autoscale")
	}
}

// apply edits what a decision has made of a service, and stores it. A command that
// came while it was measured counts for more: then the next look decides anew.
func (k *scaleLook) apply(why string, edit func(*reconcile.ServiceState)) {
	l := k.l
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.record.Desired
	if l.closed || d == nil || d.Down != nil || d.Stack.Service(k.svc.Name) == nil || !sameScaling(k.state(), d.Services[k.svc.Name]) {
		return
	}
	l.editLocked(k.svc.Name, edit)
	l.log.Info().Str("service", k.svc.Name).Str("cause", why).Msg("scaled")
	l.wakeUp()
}

// sameScaling reports whether a service's scaling is as it was.
func sameScaling(a, b reconcile.ServiceState) bool {
	return a.Want == b.Want && a.AutoHeld == b.AutoHeld && (a.Rest == nil) == (b.Rest == nil) &&
		valueOr(a.Scale, -1) == valueOr(b.Scale, -1) && valueOr(a.Auto, -1) == valueOr(b.Auto, -1)
}

// editLocked changes the state of one service, and stores it; l.mu is held.
func (l *loop) editLocked(service string, edit func(*reconcile.ServiceState)) {
	l.changeLocked(service, edit)
	l.unsaved = true
	l.saveIfDueLocked()
}

// changeLocked changes the state of one service; l.mu is held.
func (l *loop) changeLocked(service string, edit func(*reconcile.ServiceState)) {
	next := *l.record.Desired
	next.Services = maps.Clone(next.Services)
	st := next.Services[service]
	edit(&st)
	next.Services[service] = st
	l.record.Desired = &next
}

// wakeRestingLocked wakes the services that somebody waits for, with all that they
// depend on; l.mu is held.
func (l *loop) wakeRestingLocked() {
	d := l.record.Desired
	if d == nil || d.Stack == nil || d.Down != nil {
		return
	}
	called := map[string]bool{}
	for i := range d.Stack.Services {
		svc := &d.Stack.Services[i]
		st := d.Services[svc.Name]
		if st.Rest == nil && (svc.Autoscale == nil || d.Replicas(svc) > 0) || st.Want != reconcile.WantRunning {
			continue
		}
		if pool, known := l.pool(svc.Name); known && pool.Waiting > 0 {
			called[svc.Name] = true
		}
	}
	if len(called) == 0 {
		return
	}
	for name := range withDependencies(d.Stack, called) {
		l.wakeLocked(name, called[name])
	}
}

// wakeLocked ends the rest of one service; l.mu is held. It is stored once the steps
// that wake it are under way: somebody waits, and a daemon that ends before finds a
// service that rests and is woken by whoever comes next.
func (l *loop) wakeLocked(service string, called bool) {
	svc, st := l.record.Desired.Stack.Service(service), l.record.Desired.Services[service]
	none := called && svc.Autoscale != nil && l.record.Desired.Replicas(svc) == 0 && st.Scale == nil
	if st.Rest == nil && !none {
		return
	}
	if st.Rest != nil {
		l.record.Desired = l.record.Desired.WithRequests(startsOf(l.record.Desired, l.observed, service))
	}
	l.changeLocked(service, func(st *reconcile.ServiceState) {
		st.Rest = nil
		if none {
			one := max(1, valueOr(svc.Autoscale.Policy.Min, 1))
			st.Auto = &one
		}
	})
	l.woken = true
	l.log.Info().Str("service", service).Msg("woken by a connection")
}

// startsOf are the starts of a service's containers that have ended while it rested
// and that nothing else starts again, such as frozen ones that ended with the engine.
// Those that were stopped to rest come back by themselves ([reconcile.ThenWake]).
func startsOf(d *reconcile.Desired, obs *reconcile.Observed, service string) []reconcile.Request {
	var list []reconcile.Request
	if obs == nil {
		return nil
	}
	for _, c := range ours(obs, d) {
		if c.id.Service == service && !c.id.OneOff && c.State == runtime.Exited {
			list = append(list, request(runtime.OpStart, c, "is woken"))
		}
	}
	return list
}

func valueOr(n *int, otherwise int) int {
	if n == nil {
		return otherwise
	}
	return *n
}
