package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/balance"
	"github.com/berth-dev/berth/internal/reconcile"
	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/runtime/fake"
)

// fakeBalancer is a balancer in virtual time. A container that is routed has a
// connection, which ends so long after it is routed no more as lasts says.
type fakeBalancer struct {
	t       *testing.T
	lasts   time.Duration
	drained func(balance.Key, string)

	mu      sync.Mutex // protects all below
	refuses string     // why it listens nowhere; empty: it listens
	fronts  map[balance.Frontend]bool
	closed  []string      // frontends that were closed
	seized  []balance.Key // by whose steps ports were to be freed
	pools   map[balance.Key]map[string]*carried
}

// carried is what the balancer knows of one container.
type carried struct {
	routed bool
	since  time.Time // not routed since
	was    bool      // routed ever
}

// Apply listens, and notes what it listened at before and does not any more.
func (b *fakeBalancer) Apply(_ context.Context, want []balance.Frontend) []balance.FrontendStatus {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := map[balance.Frontend]bool{}
	var list []balance.FrontendStatus
	for _, f := range want {
		s := balance.FrontendStatus{Frontend: f, Reason: b.refuses}
		if b.refuses == "" {
			s.Bound, now[f] = netip.AddrPortFrom(netip.IPv4Unspecified(), f.Port), true
		} else {
			s.Holder = &balance.Process{PID: 42, Command: "nginx"}
		}
		list = append(list, s)
	}
	for f := range b.fronts {
		if !now[f] {
			b.closed = append(b.closed, f.String())
		}
	}
	b.fronts = now
	return list
}

// Route takes containers in and out.
func (b *fakeBalancer) Route(pool balance.Key, to balance.Routing) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pools[pool] == nil {
		b.pools[pool] = map[string]*carried{}
	}
	for id, c := range b.pools[pool] {
		stays := slices.ContainsFunc(to.Backends, func(be balance.Backend) bool { return be.ID == id })
		if c.routed && !stays {
			c.routed, c.since = false, time.Now()
			time.AfterFunc(b.lasts, func() { b.drained(pool, id) })
		}
	}
	for _, be := range to.Backends {
		if b.pools[pool][be.ID] == nil {
			b.pools[pool][be.ID] = &carried{}
		}
		b.pools[pool][be.ID].routed, b.pools[pool][be.ID].was = true, true
	}
	return nil
}

// Seize notes for whom it waits for ports to be free.
func (b *fakeBalancer) Seize(_ context.Context, pool balance.Key) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seized = append(b.seized, pool)
	return true
}

// Pool tells of the containers it knows.
func (b *fakeBalancer) Pool(pool balance.Key) (balance.PoolStatus, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	st := balance.PoolStatus{Pool: pool}
	for _, id := range sortedKeys(b.pools[pool]) {
		c := b.pools[pool][id]
		be := balance.BackendStatus{ID: id, Routed: c.routed, UnroutedAt: c.since}
		if c.routed || time.Since(c.since) < b.lasts {
			be.Open = 1
		}
		st.Backends = append(st.Backends, be)
	}
	return st, b.pools[pool] != nil
}

// routes reports whether a container is routed, and for how long it has not been.
func (b *fakeBalancer) routes(id string) (routed bool, out time.Duration, known bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, pool := range b.pools {
		if c := pool[id]; c != nil && c.was {
			return c.routed, time.Since(c.since), true
		}
	}
	return false, 0, false
}

func (b *fakeBalancer) refuse(why string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refuses = why
}

// watch looks on at the engine's calls about the replicas of a service, and fails
// the test when fewer run than must, once that many did.
type watch struct {
	least int // that must run

	mu      sync.Mutex // protects all below
	off     bool
	reached bool
	runs    map[string]int // container ID to slot
	fewest  int
	wrong   []string
}

func (w *watch) see(call fake.Call) {
	id, err := runtime.ParseIdentity(call.Labels)
	if err != nil || id.Service != "web" || call.Err != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch call.Op {
	case "start", "unpause":
		w.runs[call.ID] = id.Slot
	case "stop", "kill", "remove", "pause":
		delete(w.runs, call.ID)
	}
	slots := map[int]bool{}
	for _, slot := range w.runs {
		slots[slot] = true
	}
	w.reached = w.reached || len(slots) >= w.least
	if w.reached && !w.off && len(slots) < w.least {
		w.wrong = append(w.wrong, fmt.Sprintf("after %s %d replicas run, and %d must", call, len(slots), w.least))
	}
	if w.reached && !w.off {
		w.fewest = min(w.fewest, len(slots))
	}
}

// rest has it look away: the replicas are to go.
func (w *watch) rest() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.off = true
}

// check fails the test when something was wrong.
func (w *watch) check(t *testing.T) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, text := range w.wrong {
		t.Error(text)
	}
}

// rolls is a version of a service, updated as Docker Swarm does with edits.
func rolls(n string, edits ...func(*stack.Update)) func(*stack.Service) {
	return func(s *stack.Service) {
		s.Spec.Command = []string{n}
		s.Update, s.RollBack = stack.DefaultUpdate(), stack.DefaultUpdate()
		s.Rollout.Deadline = stack.DefaultDeadline
		for _, edit := range edits {
			edit(&s.Update)
		}
	}
}

func rollsBack(u *stack.Update)   { u.Action = stack.RollBackOnFailure }
func startsFirst(u *stack.Update) { u.Order = stack.StartFirst }
func image(ref string) func(*stack.Service) {
	return func(s *stack.Service) { s.Spec.Image = ref }
}

// commands are the command lines of the replicas that run, sorted by name.
func (s *sim) commands() string {
	s.t.Helper()
	all, err := s.engine.List(fake.ByHand(s.t.Context()), runtime.Filter{})
	if err != nil {
		s.t.Fatal(err)
	}
	var parts []string
	for i := range all {
		if all[i].State.Alive() {
			parts = append(parts, all[i].Name+"="+strings.Join(s.get(all[i].Name).Command, " "))
		}
	}
	return strings.Join(parts, " ")
}

// watched is simulate with a watch over the service web and a balancer.
func watched(t *testing.T, opts fake.Options, least int, f func(t *testing.T, s *sim, w *watch)) {
	t.Helper()
	w := &watch{least: least, runs: map[string]int{}, fewest: 99}
	seen := opts.OnCall
	opts.OnCall = func(n int, c fake.Call) {
		w.see(c)
		if seen != nil {
			seen(n, c)
		}
	}
	simulate(t, opts, func(t *testing.T, s *sim) {
		f(t, s, w)
		w.check(t)
	})
}

// rolling is the life of a stack of three replicas that is updated stop-first,
// start-first, and taken back.
func rolling(w *watch) story {
	up := func(edit func(*stack.Service)) func(s *sim) (api.Accepted, error) {
		return func(s *sim) (api.Accepted, error) {
			return s.d.up(s.ctx, &api.UpRequest{Stack: shop(svc("web", 3, edit))})
		}
	}
	return story{
		up(rolls("1")), up(rolls("2")), up(rolls("3", startsFirst)),
		func(s *sim) (api.Accepted, error) { return s.d.undo(s.ctx, "shop", &api.UndoRequest{To: 1}) },
		func(s *sim) (api.Accepted, error) {
			w.rest()
			return s.d.down(s.ctx, "shop", reconcile.Down{Volumes: true})
		},
	}
}

// overlapping is an engine on which two containers of one replica may live at
// once, since a rollout starts the new one first.
func overlapping(o fake.Options) fake.Options {
	o.AllowOverlap = func(string, string) bool { return true }
	return o
}

func rollingCalls(t *testing.T) int {
	n := 0
	watched(t, overlapping(fake.Options{}), 2, func(_ *testing.T, s *sim, w *watch) {
		rolling(w).play(s)
		s.awaitGone()
		n = s.now()
	})
	return n
}

// Fault 3: the daemon is killed after the effect of every call of three rollouts.
// The next one goes on where it was, and two of three replicas run all the time.
func TestKillAfterEveryCallOfARollout(t *testing.T) {
	total := rollingCalls(t)
	for k := 1; k <= total && !t.Failed(); k++ {
		t.Run(fmt.Sprint(k), func(t *testing.T) {
			var s *sim
			opts := overlapping(fake.Options{OnCall: func(n int, _ fake.Call) {
				if n == k {
					s.die()
				}
			}})
			watched(t, opts, 2, func(t *testing.T, it *sim, w *watch) {
				s = it
				tale := rolling(w)
				tale[:len(tale)-1].play(s)
				if s.insist("alive: ", func() error { return s.ctx.Err() }); !t.Failed() {
					s.oracle()
				}
				if got := s.commands(); !t.Failed() && got != "shop-web-1=1 shop-web-2=1 shop-web-3=1" {
					t.Errorf("in the end there is %s", got)
				}
				tale[len(tale)-1:].play(s)
				s.awaitGone()
				s.nothingLeft()
			})
		})
	}
}

// Fault 13: every call of a rollout fails once, or is carried out and its answer
// is lost. The outcome is looked up before anything is tried again.
func TestEveryCallOfARolloutFailsOnce(t *testing.T) {
	total := rollingCalls(t)
	changes := []string{"create", "start", "stop", "rename", "remove"}
	for name, fault := range map[string]fake.Fault{
		"error": {Kind: runtime.KindUnavailable, Err: errors.New("500 internal server error")},
		"lost":  {Lost: true},
	} {
		for k := 0; k < total && !t.Failed(); k++ {
			t.Run(fmt.Sprint(name, k+1), func(t *testing.T) {
				watched(t, overlapping(fake.Options{}), 2, func(_ *testing.T, s *sim, w *watch) {
					f := fault
					f.Skip, f.Times = k, 1
					f.Match = func(c fake.Call) bool { return slices.Contains(changes, c.Op) }
					s.engine.Inject(f)
					tale := rolling(w)
					tale[:len(tale)-1].play(s)
					pass(2 * time.Minute) // a name is given back at the next full look
					s.oracle()
					tale[len(tale)-1:].play(s)
					s.awaitGone()
					s.nothingLeft()
				})
			})
		}
	}
}

// Fault 15: each call takes seconds. A rollout keeps its budget all the same.
func TestRolloutOnASlowEngine(t *testing.T) {
	slow := map[string]time.Duration{"create": 2 * time.Second, "start": 5 * time.Second, "stop": 4 * time.Second, "inspect": time.Second, "list": 2 * time.Second}
	watched(t, fake.Options{Latency: slow}, 5, func(t *testing.T, s *sim, _ *watch) {
		s.settled(s.up(shop(svc("web", 6, rolls("1")))))
		s.settled(s.up(shop(svc("web", 6, rolls("2")))))
		if got := s.commands(); strings.Count(got, "=2") != 6 {
			t.Errorf("there is %s", got)
		}
		pass(time.Minute)
		s.oracle()
	})
}

// Faults 19 and 36: an old container ignores the stop signal, and its removal does
// not come to an end at first.
func TestRolloutOfStubbornContainers(t *testing.T) {
	watched(t, fake.Options{}, 2, func(t *testing.T, s *sim, _ *watch) {
		s.engine.Script("app", fake.Workload{IgnoreTerm: true})
		s.settled(s.up(shop(svc("web", 3, rolls("1")))))
		s.engine.StickRemoval("shop-web-2", 3)
		began := time.Now()
		acc := s.up(shop(svc("web", 3, rolls("2"))))
		if _, err := s.await(acc, "settled", time.Hour); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < 30*time.Second {
			t.Errorf("three containers that ignore the signal went within %s, want 10 s each", took)
		}
		pass(10 * time.Minute)
		if r := s.rolloutOf("web"); r.Rollout.State != reconcile.RolloutCompleted || s.commands() != "shop-web-1=2 shop-web-2=2 shop-web-3=2" {
			t.Errorf("the rollout is %+v, there is %s", r.Rollout, s.commands())
		}
		s.oracle()
	})
}

// Fault 22: the new image is not there. The old revision keeps running, and the
// reason stands in the status; what the policy says happens once.
func TestRolloutWithoutAnImage(t *testing.T) {
	watched(t, fake.Options{}, 3, func(t *testing.T, s *sim, _ *watch) {
		s.settled(s.up(shop(svc("web", 3, rolls("1")))))
		before := s.now()
		s.engine.SetOffline(true)
		acc := s.up(shop(svc("web", 3, rolls("2", rollsBack), image("app:2"))))
		if failed := strings.Join(s.settle(acc), "; "); !strings.Contains(failed, "app:2") {
			t.Errorf("up says %q", failed)
		}
		pass(30 * time.Minute)
		back := s.rolloutOf("web").RolledBack
		if back == nil || !strings.Contains(back.Why, "app:2") {
			t.Errorf("rolled back: %+v, want the image named", back)
		}
		for _, c := range s.engine.Calls()[before:] {
			if c.Op != "pull" {
				t.Errorf("%s although there is no image", c)
			}
		}
		s.oracle()
	})
}

// Fault 40: a node fails while it is drained while a rollout runs. Each slot has
// one owner, and of four replicas never more than the two on the failed node and
// the one that is replaced are missing.
func TestNodeFailsWhileDrainedDuringARollout(t *testing.T) {
	watched(t, fake.Options{}, 2, func(t *testing.T, s *sim, w *watch) {
		nodes := []stack.Node{edge("edge-1", 256), edge("edge-2", 256), edge("edge-3", 256)}
		st := func(n string) *stack.Stack {
			return onNodes(shop(svc("web", 4, reserves(50), rolls(n, func(u *stack.Update) { u.Delay = 10 * time.Second }))), nodes...)
		}
		s.settled(s.up(st("1")))
		s.up(st("2"))
		pass(12 * time.Second)
		act := func(name, action string) {
			_, err := s.d.changeNode(s.ctx, name, func() error {
				return s.d.nodes.act(s.d.store.saveNodes, name, action, &api.NodeAction{}, time.Now())
			})
			s.must(err)
		}
		act("edge-1", "drain")
		pass(3 * time.Second)
		act("edge-1", "fail")
		pass(5 * time.Minute)
		if got := s.commands(); strings.Count(got, "=2") != 4 || strings.Contains(s.where(), "edge-1") {
			t.Errorf("there is %s, %s\n%s", got, s.where(), s.plan("shop"))
		}
		if w.fewest < 2 {
			t.Errorf("only %d of 4 ran", w.fewest)
		}
		s.oracle()
	})
}

// A revision that fails within its monitor time is taken back once: the old one
// serves on, the reason is told, and it is remembered over the daemon's death.
func TestFailedRolloutGoesBackOnce(t *testing.T) {
	for name, w := range map[string]fake.Workload{
		"crashes at once":           fake.Exit(0, 3),
		"crashes within the watch":  fake.Exit(4*time.Second, 3),
		"fills its memory":          {OOMAfter: 2 * time.Second},
		"cannot be started":         {StartError: "exec: no such file"},
		"crashes, and is restarted": fake.Exit(time.Second, 3),
	} {
		t.Run(name, func(t *testing.T) {
			watched(t, fake.Options{}, 2, func(t *testing.T, s *sim, _ *watch) {
				restarts := func(v *stack.Service) {
					if name == "crashes, and is restarted" {
						v.Restart = &stack.RestartPolicy{Condition: "any", Delay: time.Second}
					}
				}
				s.engine.AddImage("app:2", fake.Image{})
				s.settled(s.up(shop(svc("web", 3, rolls("1", rollsBack), restarts))))
				s.engine.Script("app:2", w)
				failed := s.settle(s.up(shop(svc("web", 3, rolls("2", rollsBack), image("app:2"), restarts))))
				pass(time.Minute)
				s.reboot()
				pass(10 * time.Minute)
				if got := s.commands(); got != "shop-web-1=1 shop-web-2=1 shop-web-3=1" {
					t.Errorf("there is %s\n%s", got, s.plan("shop"))
				}
				back := s.rolloutOf("web").RolledBack
				if back == nil || !strings.Contains(back.Why, "1 of 3 replicas failed") {
					t.Errorf("rolled back: %+v; up said %q", back, failed)
				}
				if n := len(s.rolled("shop")); n == 0 && back == nil {
					t.Error("nothing is told")
				}
				l := s.d.loop("shop")
				l.mu.Lock()
				causes := len(l.record.Revisions)
				l.mu.Unlock()
				if causes != 3 {
					t.Errorf("%d revisions are kept, want the two and the way back", causes)
				}
				s.oracle()
			})
		})
	}
}

// Of an atomic up, the failure of one service takes all of them back, and what was
// new with it goes.
func TestAtomicUpGoesBackAsAWhole(t *testing.T) {
	simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
		s.settled(s.up(shop(svc("api", 2, rolls("1")), svc("web", 2, rolls("1")))))
		s.engine.AddImage("app:2", fake.Image{})
		s.engine.Script("app:2", fake.Exit(2*time.Second, 3))
		next := shop(svc("api", 2, rolls("2")), svc("cache", 1, rolls("1")), svc("web", 2, rolls("2"), image("app:2")))
		failed := s.settle(s.up(next, func(r *api.UpRequest) { r.Atomic = true }))
		pass(5 * time.Minute)
		if got := s.commands(); got != "shop-api-1=1 shop-api-2=1 shop-web-1=1 shop-web-2=1" {
			t.Errorf("there is %s\n%s", got, s.plan("shop"))
		}
		if len(failed) == 0 && s.rolloutOf("web").RolledBack == nil {
			t.Error("nothing tells of the failure")
		}
		s.oracle()
	})
}

// The last revisions of a stack are kept, ten unless it says otherwise, and an
// undo makes an earlier one the newest.
func TestRevisionsAndUndo(t *testing.T) {
	simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
		for n := 1; n <= 12; n++ {
			s.settled(s.up(shop(svc("web", 1, rolls(fmt.Sprint(n))))))
			pass(time.Minute)
		}
		s.reboot()
		pass(time.Minute)
		list, err := s.d.history(s.ctx, "shop")
		s.must(err)
		if len(list) != 10 || list[0].Number != 3 || list[9].Number != 12 {
			t.Fatalf("%d revisions are kept, the first is %d", len(list), list[0].Number)
		}
		acc, err := s.d.undo(s.ctx, "shop", &api.UndoRequest{})
		s.must(err)
		s.settled(acc)
		if got := s.commands(); got != "shop-web-1=11" {
			t.Errorf("undone, there is %s", got)
		}
		pass(time.Minute)
		acc, err = s.d.undo(s.ctx, "shop", &api.UndoRequest{To: 5})
		s.must(err)
		s.settled(acc)
		pass(time.Minute)
		list, err = s.d.history(s.ctx, "shop")
		s.must(err)
		if last := list[len(list)-1]; s.commands() != "shop-web-1=5" || last.Number != 14 || last.Cause != "undo to 5" {
			t.Errorf("there is %s by revision %d (%s)", s.commands(), last.Number, last.Cause)
		}
		if _, err := s.d.undo(s.ctx, "shop", &api.UndoRequest{To: 1}); !runtime.IsNotFound(err) {
			t.Errorf("undo to a revision that is not kept: %v", err)
		}
		s.oracle()
	})
}

// The history says what asked for each revision. What changes only how many
// replicas run makes none.
func TestHistoryTellsCauses(t *testing.T) {
	simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
		scales := func(words string, n int) func(*api.UpRequest) {
			return func(r *api.UpRequest) {
				r.Cause, r.Scale, r.NoRecreate = words, map[string]int{"web": n}, true
			}
		}
		s.settled(s.up(shop(svc("web", 1, rolls("1")))))
		s.settled(s.up(shop(svc("web", 1, rolls("2"))), scales("scale web=5", 5)))
		s.settled(s.up(shop(svc("web", 1, rolls("2"))), scales("scale web=3", 3)))
		s.settled(s.up(shop(svc("web", 1, rolls("3"))), func(r *api.UpRequest) { r.Cause = "scale\x1b[1m\nweb=4" }))
		acc, err := s.d.undo(s.ctx, "shop", &api.UndoRequest{To: 1})
		s.must(err)
		s.settled(acc)
		list, err := s.d.history(s.ctx, "shop")
		s.must(err)
		var causes []string
		for _, r := range list {
			causes = append(causes, r.Cause)
		}
		want := []string{"", "scale web=5", "scale [1m | web=4", "undo to 1"}
		if !slices.Equal(causes, want) {
			t.Errorf("the causes are %q, want %q", causes, want)
		}
	})
}

// freePort is a port of this machine that nobody holds.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", ":0") // #nosec G102 -- any free port
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// carrying is watched with a balancer, and a daemon that uses it.
func carrying(t *testing.T, least int, f func(t *testing.T, s *sim, b *fakeBalancer, w *watch)) {
	t.Helper()
	b := &fakeBalancer{t: t, fronts: map[balance.Frontend]bool{}, pools: map[balance.Key]map[string]*carried{}}
	var early []string
	opts := overlapping(fake.Options{OnCall: func(_ int, c fake.Call) {
		if c.Op != "stop" || c.Err != nil {
			return
		}
		routed, out, known := b.routes(c.ID)
		if known && (routed || out < min(b.lasts, 10*time.Second)) {
			early = append(early, fmt.Sprintf("%s is stopped while it is routed (%t), or %s after", c.Object, routed, out))
		}
	}})
	watched(t, opts, least, func(t *testing.T, s *sim, w *watch) {
		s.balancing = func(_ func(balance.Key), drained func(balance.Key, string)) Balancer {
			b.drained = drained
			return b
		}
		s.reboot()
		f(t, s, b, w)
		for _, text := range early {
			t.Error(text)
		}
		if len(b.closed) > 0 {
			t.Errorf("frontends were closed: %v", b.closed)
		}
	})
}

func drains(s *stack.Service) { s.Balance.Drain = 10 * time.Second }

// Before a container stops it is taken out of the balancer, and its connections may
// finish; neither a rollout nor scaling closes the port.
func TestConnectionsOutliveRollouts(t *testing.T) {
	for name, lasts := range map[string]time.Duration{"none": 0, "short": 4 * time.Second, "for ever": time.Hour} {
		t.Run(name, func(t *testing.T) {
			where := freePort(t)
			carrying(t, 2, func(t *testing.T, s *sim, b *fakeBalancer, w *watch) {
				b.lasts = lasts
				st := func(n string, edits ...func(*stack.Update)) *stack.Stack {
					return shop(svc("web", 3, port(where), drains, rolls(n, edits...)))
				}
				s.settled(s.up(st("1")))
				pass(time.Minute)
				s.settled(s.up(st("2")))
				pass(time.Minute)
				s.settled(s.up(st("3", startsFirst)))
				pass(time.Minute)
				scaled := st("3", startsFirst)
				scaled.Services[0].Replicas = 5
				s.settled(s.up(scaled))
				pass(time.Minute)
				scaled = st("3", startsFirst)
				scaled.Services[0].Replicas = 2
				s.settled(s.up(scaled))
				pass(2 * time.Minute)
				if got := s.commands(); strings.Count(got, "=3") != 2 {
					t.Errorf("there is %s\n%s", got, s.plan("shop"))
				}
				s.oracle()
				w.rest()
			})
		})
	}
}

// Fault 29: another process holds the port. The reason names it, what runs goes on
// running, and the port is tried again.
func TestBalancedPortTaken(t *testing.T) {
	where := freePort(t)
	carrying(t, 2, func(t *testing.T, s *sim, b *fakeBalancer, _ *watch) {
		b.refuse("address already in use")
		failed := strings.Join(s.settle(s.up(shop(svc("web", 2, port(where), drains, rolls("1"))))), "; ")
		if !strings.Contains(failed, where) || !strings.Contains(failed, "process 42 (nginx) holds it") {
			t.Errorf("up says %q", failed)
		}
		b.refuse("")
		pass(10 * time.Second)
		if p := s.plan("shop"); strings.Contains(p, "cannot be listened at") {
			t.Errorf("with the port free again:\n%s", p)
		}
		s.oracle()
	})
}

// A port that the engine holds for a single replica goes over when that is scaled
// up: the one that has it stops once the others are ready, and the balancer waits
// for the port from before that on.
func TestPortIsSeized(t *testing.T) {
	where := freePort(t)
	carrying(t, 1, func(t *testing.T, s *sim, b *fakeBalancer, _ *watch) {
		single := func(n int) *stack.Stack {
			return shop(svc("web", n, port(where), func(v *stack.Service) { v.Update = stack.DefaultUpdate() }))
		}
		s.settled(s.up(single(1)))
		b.refuse("address already in use")
		s.up(single(3))
		pass(time.Minute)
		b.refuse("")
		pass(time.Minute)
		want := balance.Key{Stack: "shop", Service: "web"}
		if len(b.seized) == 0 || b.seized[0] != want {
			t.Errorf("the balancer waits for the ports of %v, want %v", b.seized, want)
		}
		if p := s.plan("shop"); strings.Contains(p, "published ports") {
			t.Errorf("the port has not gone over:\n%s", p)
		}
		s.oracle()
	})
}
