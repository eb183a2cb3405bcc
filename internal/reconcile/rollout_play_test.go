package reconcile

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/berth-dev/berth/health"
	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
)

// fate is what becomes of containers after each of their starts. The zero value
// is ready at once and runs on.
type fate struct {
	ready  time.Duration // so long after its start it is ready; below 0: never
	exits  time.Duration // its process ends so long after its start, with 1; 0: never
	runs   int           // only so many runs end so; 0: all
	sick   time.Duration // its liveness probe fails from then on; 0: never
	flaps  time.Duration // it is ready and unready in turns of so long; 0: never
	steady time.Duration // until it is so old
	open   time.Duration // its connections last so long after it is routed no more
	create error         // it cannot be created
	start  error         // or not started
}

// readyAt reports whether a container is ready at an age.
func (f fate) readyAt(age time.Duration) bool {
	if f.ready < 0 || age < f.ready {
		return false
	}
	return f.flaps == 0 || age >= f.steady || (age-f.ready)/f.flaps%2 == 0
}

// next is the age at which something changes next; 0: nothing does.
func (f fate) next(age time.Duration) time.Duration {
	at := []time.Duration{f.ready, f.exits, f.sick, f.steady}
	if f.flaps > 0 && age < f.steady && age >= f.ready {
		at = append(at, age+f.flaps-(age-f.ready)%f.flaps)
	}
	at = slices.DeleteFunc(at, func(d time.Duration) bool { return d <= age })
	if len(at) == 0 {
		return 0
	}
	return slices.Min(at)
}

// failer is a test of any kind.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// play plays one service's rollout out in virtual time on paper: it carries out
// what plans say, as the daemon does, and notes it.
type play struct {
	*trial
	tb    failer
	begun time.Time
	fates map[string]fate          // by slot and revision ("2b"), or by revision ("b")
	acts  map[time.Duration]func() // what somebody does, and when
	runs  map[string]int           // by container ID
	lost  map[string]bool          // the answers of steps at these containers are lost
	plan  *Plan
	trace []string
	shown struct{ state, routes string }
	dull  int   // turns in a row that changed nothing
	mute  bool  // nothing is noted
	pull  error // of every pull
	least int   // how many replicas were ready at the fewest, and how many containers lived at the most
	most  int

	pick       func(Step) bool // which steps are carried out, and are begun again otherwise; nil: all
	obstructed bool            // no two containers of a replica can be there at once
}

// newPlay is a service "web" of n replicas, of revision "rev-a", that all run and
// are ready, updated as Docker Swarm does unless an edit says otherwise.
func newPlay(tb failer, n int, edits ...func(*stack.Service)) *play {
	web := svc("web", n)
	web.Revision, web.Update, web.RollBack = "rev-a", stack.DefaultUpdate(), stack.DefaultUpdate()
	web.Probes.Readiness = &health.Probe{TCP: &health.TCP{Port: health.Port{Number: 80}}}
	web.Probes.Liveness = web.Probes.Readiness
	web.Rollout.Deadline = stack.DefaultDeadline
	for _, edit := range edits {
		edit(&web)
	}
	f := shop(web)
	pub := newView(&f.d, &f.o, &f.m, t0).publishOf(&web)
	for slot := range n {
		f.has("web", slot+1, runtime.Running, func(c *runtime.Container) {
			id, _ := runtime.ParseIdentity(c.Labels)
			id.Publish = pub
			c.Labels = id.Labels()
		})
	}
	p := &play{
		trial: &trial{world: newWorld(&f.d, &f.o, &f.m), now: t0}, tb: tb, begun: t0,
		fates: map[string]fate{}, acts: map[time.Duration]func(){}, runs: map[string]int{}, lost: map[string]bool{},
	}
	p.d.Services = maps.Clone(p.d.Services)
	p.o.Backends, p.m.InFlight = map[string]Backend{}, map[Key]Step{}
	p.mute = true
	p.turns() // the balancer comes to know them
	p.mute, p.least, p.most = false, n, n
	return p
}

// web is the service as it is declared now.
func (p *play) web() *stack.Service { return p.d.Stack.Service("web") }

// up declares the service with another revision, as the daemon does.
func (p *play) up(letter string, edits ...func(*stack.Service)) {
	old, st := *p.web(), p.d.Services["web"]
	next := old
	next.Revision = "rev-" + letter
	for _, edit := range edits {
		edit(&next)
	}
	merged := *p.d.Stack
	merged.Services = []stack.Service{next}
	p.d.Stack = &merged
	if st.Base == nil {
		st.Base = &Base{Service: old, ImageID: st.ImageID}
	}
	if st.Base.Service.Revision == next.Revision {
		st.Base = nil
	}
	st.ChangedFrom, st.Changed, st.RolledBack = old.Revision, []string{"image"}, nil
	if p.m.Rollouts["web"].State == RolloutPaused {
		st.Resumed = p.now
	}
	p.d.Services["web"] = st
	p.m.Forgive()
}

// edit changes what commands have made of the service.
func (p *play) edit(f func(st *ServiceState)) {
	st := p.d.Services["web"]
	f(&st)
	p.d.Services["web"] = st
}

func (p *play) scale(n int) { p.edit(func(st *ServiceState) { st.Scale = &n }) }
func (p *play) hold()       { p.edit(func(st *ServiceState) { st.Held = true }) }
func (p *play) resume()     { p.edit(func(st *ServiceState) { st.Held, st.Resumed = false, p.now }) }

// nodes has the containers stand on nodes, in turns.
func (p *play) nodes(names ...string) {
	p.o.Cluster = &Cluster{}
	for _, name := range names {
		p.o.Cluster.Nodes = append(p.o.Cluster.Nodes, node(name, 1000, 1024))
	}
	for i := range p.o.Containers {
		at(names[i%len(names)])(&p.o.Containers[i])
	}
}

func (p *play) node(name string) *Node {
	i := slices.IndexFunc(p.o.Cluster.Nodes, func(n Node) bool { return n.Name == name })
	if i < 0 {
		return nil
	}
	return &p.o.Cluster.Nodes[i]
}

// count notes how few were ready and how many lived.
func (p *play) count() {
	p.least = min(p.least, p.ready())
	p.most = max(p.most, len(strings.Fields(p.revisions())))
}

// at has something done at a time after the beginning.
func (p *play) at(after time.Duration, do func()) { p.acts[after] = do }

// short names a container by slot and revision: "2b".
func shortName(c *runtime.Container) string {
	id, err := runtime.ParseIdentity(c.Labels)
	if err != nil {
		return c.Name
	}
	return fmt.Sprint(id.Slot, strings.TrimPrefix(id.Revision, "rev-"))
}

func (p *play) fate(c *runtime.Container) fate {
	name := shortName(c)
	if f, ok := p.fates[name]; ok {
		return f
	}
	return p.fates[strings.TrimLeft(name, "0123456789")]
}

func (p *play) container(id string) *runtime.Container {
	i := slices.IndexFunc(p.o.Containers, func(c runtime.Container) bool { return c.ID == id })
	if i < 0 {
		return nil
	}
	return &p.o.Containers[i]
}

// note adds to the trace, a line for each second.
func (p *play) note(format string, args ...any) {
	if p.mute {
		return
	}
	text := fmt.Sprintf(format, args...)
	stamp := p.now.Sub(p.begun).Truncate(time.Second).String()
	if n := len(p.trace); n > 0 && strings.HasPrefix(p.trace[n-1], stamp+" ") {
		p.trace[n-1] += ", " + text
		return
	}
	p.trace = append(p.trace, stamp+" "+text)
}

// run plays on until a time after the beginning, or until nothing is to come.
func (p *play) run(until time.Duration) {
	p.tb.Helper()
	for {
		p.turns()
		at := p.next()
		if at.IsZero() || at.After(p.begun.Add(until)) {
			p.now = p.begun.Add(until)
			return
		}
		p.now = at
		p.live()
		for _, after := range sortedKeys(p.acts) {
			if !p.begun.Add(after).After(p.now) {
				do := p.acts[after]
				delete(p.acts, after)
				do()
			}
		}
	}
}

// next is when something happens next; zero: never.
func (p *play) next() time.Time {
	var at []time.Time
	if w := p.plan.Wake; !w.IsZero() {
		at = append(at, w)
	}
	for after := range p.acts {
		at = append(at, p.begun.Add(after))
	}
	for i := range p.o.Containers {
		c := &p.o.Containers[i]
		if d := p.fate(c).next(p.now.Sub(c.Started)); c.State == runtime.Running && d > 0 {
			at = append(at, c.Started.Add(d))
		}
		if b, ok := p.o.Backends[c.ID]; ok && b.Open > 0 && !b.Since.IsZero() {
			at = append(at, b.Since.Add(p.fate(c).open))
		}
	}
	if len(at) == 0 {
		return time.Time{}
	}
	first := slices.MinFunc(at, time.Time.Compare)
	if first.After(p.now) {
		p.dull = 0
		return first
	}
	if p.dull++; p.dull > 5 {
		p.tb.Fatalf("it is looked at again and again, for nothing:\n%s\n%s", strings.Join(p.trace, "\n"), p.plan)
	}
	return p.now.Add(10 * time.Millisecond)
}

// live has happen to containers what is their fate.
func (p *play) live() {
	for i := range p.o.Containers {
		c := &p.o.Containers[i]
		f := p.fate(c)
		if c.State == runtime.Running && f.exits > 0 && !p.now.Before(c.Started.Add(f.exits)) && (f.runs == 0 || p.runs[c.ID] <= f.runs) {
			c.State, c.ExitCode, c.Finished = runtime.Exited, 1, c.Started.Add(f.exits)
			p.note("%s exits", shortName(c))
			p.count()
		}
	}
}

// observe fills in what probes and the balancer say.
func (p *play) observe() {
	p.o.Probes = map[string]health.Status{}
	for i := range p.o.Containers {
		c := &p.o.Containers[i]
		if c.State != runtime.Running || p.web().Probes.Empty() {
			continue
		}
		f, age := p.fate(c), p.now.Sub(c.Started)
		p.o.Probes[c.ID] = health.Status{
			Phase: health.Running, Started: c.Started,
			Readiness: p.track(c, f.readyAt(age)), Liveness: p.track(c, f.sick == 0 || age < f.sick),
		}
	}
	for id, b := range p.o.Backends {
		c := p.container(id)
		if c == nil {
			delete(p.o.Backends, id)
			continue
		}
		b.Open = 0
		if open := p.fate(c).open; open > 0 && (b.Routed || p.now.Before(b.Since.Add(open))) {
			b.Open = 2
		}
		p.o.Backends[id] = b
	}
}

func (p *play) track(c *runtime.Container, good bool) health.Track {
	outcome := health.Failure
	if good {
		outcome = health.Success
	}
	since := c.Started
	if before, ok := p.o.Probes[c.ID]; ok && before.Readiness.State == outcome {
		since = before.Readiness.Since
	}
	return health.Track{State: outcome, Last: outcome, Run: 3, Since: since, Results: []health.Result{{At: p.now, Outcome: outcome, Output: "connection refused"}}}
}

// turns takes turns until nothing more is done at this time.
func (p *play) turns() {
	p.tb.Helper()
	for n := 0; ; n++ {
		if n > 200 {
			p.tb.Fatalf("it does not come to rest:\n%s\n%s", strings.Join(p.trace, "\n"), p.plan)
		}
		if !p.turn() {
			return
		}
		p.dull = 0
		p.now = p.now.Add(time.Millisecond)
	}
}

// turn takes one turn, and reports whether anything was done.
func (p *play) turn() bool {
	p.tb.Helper()
	p.observe()
	p.plan = Decide(&p.d, &p.o, &p.m, p.now)
	if p.takeOver(p.plan) {
		return true
	}
	for _, s := range p.plan.Steps {
		if p.pick == nil || p.pick(s) {
			p.carryOut(s)
		}
	}
	p.d.Forget(p.plan)
	return p.routeBy(p.plan) || len(p.plan.Steps) > 0
}

// takeOver does with a plan's rollouts what the daemon does, and reports whether
// the service goes back.
func (p *play) takeOver(plan *Plan) bool {
	p.m.Rollouts = plan.Rollouts
	if r, ok := plan.Rollouts["web"]; ok {
		state := string(r.State)
		if r.Why != "" {
			state += ": " + r.Why
		}
		if r.Step > 0 && r.State == RolloutUpdating {
			state += fmt.Sprint(" step ", r.Step+1)
		}
		if state != p.shown.state {
			p.shown.state = state
			p.note("=> %s", state)
		}
	}
	if next := p.d.Settle(plan.Settle); next != nil {
		p.d = *next
	}
	next := p.d.GoBack(plan.RollBack, p.now)
	if next == nil {
		return false
	}
	p.d = *next
	return true
}

// carryOut applies a step, or has it fail as its container's fate is.
func (p *play) carryOut(s Step) {
	p.tb.Helper()
	c := p.container(s.Container)
	if s.Op == OpCreate {
		c = &runtime.Container{Labels: s.Labels}
	}
	name := s.Name
	var err error
	if c != nil {
		f := p.fate(c)
		name = shortName(c)
		switch s.Op {
		case OpCreate:
			err = f.create
		case OpStart:
			err = f.start
		default: // always succeeds
		}
	}
	if s.Op == OpPull {
		err = p.pull
	}
	p.m.Begin(s)
	if !p.failsAnyway(s, c) {
		before := p.ready()
		defer func() { p.checkBudget(s, before) }()
	}
	switch {
	case err != nil:
		p.note("%s %s fails", s.Op, name)
	case s.Op == OpRename:
	default:
		p.note("%s %s", s.Op, name)
	}
	if err == nil {
		if bad := p.apply(s, p.now); bad != nil {
			p.tb.Fatalf("illegal step %v: %v\n%s", s, bad, strings.Join(p.trace, "\n"))
		}
		p.carriedOut(s)
		p.count()
		p.checkLive()
	}
	p.m.End(s, err, p.now)
	if err == nil && p.lost[s.Container] {
		delete(p.lost, s.Container)
		p.m.End(s, errLost, p.now)
	}
}

var errLost = &runtime.Error{Kind: runtime.KindUnavailable, Op: "do", Object: "it", Err: errors.New("connection reset")}

// carriedOut has a run's fate begin.
func (p *play) carriedOut(s Step) {
	if c := p.container(s.Container); c != nil && (s.Op == OpStart || s.Op == OpRestart) {
		c.Health = runtime.HealthNone
		p.runs[c.ID]++
	}
}

// routeBy has the balancer do what a plan says, and reports whether that is news.
func (p *play) routeBy(plan *Plan) bool {
	routed := map[string]Route{}
	var names []string
	for _, r := range plan.Routes["web"].Backends {
		routed[r.Container] = r
		name := shortName(p.container(r.Container))
		if r.Weight > 0 {
			name += fmt.Sprint(":", r.Weight)
		}
		names = append(names, name)
	}
	slices.Sort(names)
	news := false
	for id := range routed {
		if b, known := p.o.Backends[id]; !known || !b.Routed {
			p.o.Backends[id], news = Backend{Routed: true}, true
		}
	}
	for id, b := range p.o.Backends {
		if _, ok := routed[id]; !ok && b.Routed {
			b.Routed, b.Since, news = false, p.now, true
			p.o.Backends[id] = b
		}
	}
	if _, balanced := plan.Routes["web"]; balanced {
		if text := cmp.Or(strings.Join(names, " "), "none"); text != p.shown.routes {
			p.shown.routes = text
			p.note("routes [%s]", text)
		}
	}
	return news
}

// failsAnyway reports whether a step ends what has failed: a container whose probes
// fail, or whose node does.
func (p *play) failsAnyway(s Step, c *runtime.Container) bool {
	if c == nil {
		return false
	}
	if f := p.fate(c); f.sick > 0 && p.now.Sub(c.Started) >= f.sick {
		return true
	}
	if p.o.Cluster == nil {
		return s.Ends != nil && s.Ends.Then != ThenYield
	}
	n := p.node(c.Labels[runtime.LabelNode])
	return s.Ends != nil && s.Ends.Then != ThenYield || n != nil && n.Down
}

// checkBudget fails the test when a step has left fewer replicas ready than may be.
func (p *play) checkBudget(s Step, before int) {
	p.tb.Helper()
	least := p.d.Replicas(p.web()) - p.mayMiss()
	if after := p.ready(); after < before && after < least {
		p.tb.Fatalf("%v leaves %d replicas ready, and %d must be:\n%s", s, after, least, strings.Join(p.trace, "\n"))
	}
}

// checkLive fails the test when two containers of one replica and revision live.
// Only one that changes its node may be there twice, where the successor starts first.
func (p *play) checkLive() {
	p.tb.Helper()
	live := map[string]bool{}
	for i := range p.o.Containers {
		c := &p.o.Containers[i]
		who := shortName(c) + " on " + c.Labels[runtime.LabelNode]
		if c.State.Alive() && live[who] {
			p.tb.Fatalf("%s lives twice\n%s", who, strings.Join(p.trace, "\n"))
		}
		live[who] = live[who] || c.State.Alive()
	}
}

// mayMiss is how many replicas may be missing: so many as are replaced stop-first
// at a time, and those whose failure the policy tolerates.
func (p *play) mayMiss() int {
	svc, r := p.web(), p.rollout()
	n := p.d.Replicas(svc)
	policy := svc.Update
	if r.RollBack {
		policy = svc.RollBack
	}
	at := cmp.Or(policy.Parallelism, n)
	surge, down, given := svc.Rollout.Bounds(n)
	if !given {
		surge, down = 0, at
		if policy.Order == stack.StartFirst {
			surge, down = at, 0
		}
	}
	if p.obstructed && n == 1 {
		down = max(down, surge)
	}
	if _, failed := r.Counts(); policy.Action == stack.ContinueOnFailure || float64(failed) <= policy.MaxFailureRatio*float64(r.Total) {
		down += failed
	}
	return down
}

// ready counts the slots, up to those wanted, of which a container serves.
func (p *play) ready() int {
	p.observe()
	v := newView(&p.d, &p.o, &p.m, p.now)
	n := 0
	for _, cs := range v.replicas["web"] {
		if slices.ContainsFunc(cs, func(c *member) bool { return v.isReady(p.web(), c) }) {
			n++
		}
	}
	return min(n, p.d.Replicas(p.web()))
}

// rollout is how the service's rollout stands.
func (p *play) rollout() Rollout { return p.m.Rollouts["web"] }

// revisions lists what lives, as "1a 2b".
func (p *play) revisions() string {
	var names []string
	for i := range p.o.Containers {
		if p.o.Containers[i].State.Alive() {
			names = append(names, shortName(&p.o.Containers[i]))
		}
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}
