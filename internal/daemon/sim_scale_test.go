package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	goruntime "runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-dev/berth/health"
	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/balance"
	"github.com/berth-dev/berth/internal/reconcile"
	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/runtime/fake"
	"github.com/berth-dev/berth/scaling"
	scalesim "github.com/berth-dev/berth/scaling/simulate"
	"github.com/berth-dev/berth/scaling/timetable"
	"github.com/berth-dev/berth/scaling/vertical"
)

// fakeMeter measures containers as a test says: those of a service share its load.
type fakeMeter struct {
	mu     sync.Mutex // protects all below
	blind  bool       // nothing can be sampled
	load   map[string]int64
	memory int64 // bytes that each container uses
	last   map[string]runtime.Stats
	value  func(ctx context.Context, src *stack.MetricSource, at *Metered) (int64, error)
}

// Stats counts on what the containers have used since they were last asked for.
func (m *fakeMeter) Stats(_ context.Context, containers []runtime.Container) map[string]runtime.Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.blind {
		return nil
	}
	found := map[string]runtime.Stats{}
	for i := range containers {
		c := &containers[i]
		id, err := runtime.ParseIdentity(c.Labels)
		if err != nil {
			continue
		}
		s := m.last[c.ID]
		if since := time.Since(s.Time); !s.Time.IsZero() {
			s.CPUNanos += uint64(int64(since) / 1000 * m.load[id.Service] / int64(len(containers)))
		}
		s.Time, s.OnlineCPUs, s.Memory = time.Now(), 8, uint64(m.memory)
		m.last[c.ID], found[c.ID] = s, s
	}
	return found
}

func (m *fakeMeter) Value(ctx context.Context, src *stack.MetricSource, at *Metered) (int64, error) {
	m.mu.Lock()
	value := m.value
	m.mu.Unlock()
	if value == nil {
		return 0, errors.New("nobody answers")
	}
	return value(ctx, src, at)
}

// carry is how many millicores a service has to do from now on.
func (m *fakeMeter) carry(service string, load int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.load[service] = load
}

func (m *fakeMeter) blindfold(blind bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.blind = blind
}

// calm is a balancer with no connections but those that a test says.
type calm struct {
	waiting func(balance.Key)

	mu     sync.Mutex // protects all below
	pools  map[balance.Key]balance.PoolStatus
	routes map[balance.Key]balance.Routing
}

func (*calm) Apply(context.Context, []balance.Frontend) []balance.FrontendStatus { return nil }

func (*calm) Seize(context.Context, balance.Key) bool { return true }

func (b *calm) Route(k balance.Key, to balance.Routing) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.routes[k] = to
	return nil
}

// leads is how many containers take connections for a service of the stack shop.
func (b *calm) leads(service string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.routes[balance.Key{Stack: "shop", Service: service}].Backends)
}

func (b *calm) Pool(k balance.Key) (balance.PoolStatus, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.pools[k], true
}

// wait has so many clients wait for a service of the stack shop.
func (b *calm) wait(service string, n int) {
	k := balance.Key{Stack: "shop", Service: service}
	b.mu.Lock()
	st := b.pools[k]
	st.Waiting = n
	b.pools[k] = st
	b.mu.Unlock()
	if n > 0 {
		b.waiting(k)
	}
}

// carry has so many connections open to a service of the stack shop, after so many
// more have come.
func (b *calm) carry(service string, open int, more uint64) {
	k := balance.Key{Stack: "shop", Service: service}
	b.mu.Lock()
	defer b.mu.Unlock()
	st := b.pools[k]
	st.Open, st.Connections = open, st.Connections+more
	b.pools[k] = st
}

// forget begins all counters anew, as a balancer does that takes over from none.
func (b *calm) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.pools)
}

// metered is simulate with a meter and a balancer.
func metered(t *testing.T, f func(t *testing.T, s *sim, m *fakeMeter, b *calm)) {
	t.Helper()
	simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
		m := &fakeMeter{load: map[string]int64{}, last: map[string]runtime.Stats{}}
		b := &calm{pools: map[balance.Key]balance.PoolStatus{}, routes: map[balance.Key]balance.Routing{}}
		s.meter = m
		s.balancing = func(waiting func(balance.Key), _ func(balance.Key, string)) Balancer {
			b.waiting = waiting
			return b
		}
		s.reboot()
		f(t, s, m, b)
	})
}

// autoscaled scales a service to 6 replicas at most by cpu, of which each is to use
// the half of the 100 millicores that it is promised.
func autoscaled(edits ...func(*stack.Autoscale)) func(*stack.Service) {
	return func(s *stack.Service) {
		s.Placement.Reservation.CPU = 100
		s.Autoscale = &stack.Autoscale{
			Policy:  scaling.Policy{Max: 6, Metrics: []scaling.Metric{{Source: scaling.FromResource, Name: scaling.CPU, Utilization: 50}}},
			Sources: []stack.MetricSource{{Kind: stack.MetricCPU}},
		}
		for _, edit := range edits {
			edit(s.Autoscale)
		}
	}
}

// scaledTo is how a service is scaled.
func (s *sim) scaledTo(service string) api.ServiceScaling {
	s.t.Helper()
	all, err := s.d.autoscaling(s.ctx, "shop")
	if err != nil {
		s.t.Fatal(err)
	}
	for _, one := range all.Services {
		if one.Service == service {
			return one
		}
	}
	s.t.Fatalf("service %s is not scaled: %+v", service, all)
	return api.ServiceScaling{}
}

// counts fails the test unless so many replicas of a service are wanted and ready.
func (s *sim) counts(service string, n int, when string) {
	s.t.Helper()
	if got := s.scaledTo(service); got.Replicas != n || got.Ready != n {
		s.t.Errorf("%s: %d replicas of %s are wanted and %d ready, not %d: %s", when, got.Replicas, service, got.Ready, n, lastWhy(got))
	}
}

func lastWhy(s api.ServiceScaling) string {
	if s.Last == nil {
		return "nothing was decided"
	}
	return s.Last.Why() + " " + s.Last.Held
}

// scaleEvents are what this daemon has told of the numbers of replicas.
func (s *sim) scaleEvents() []api.Event {
	events, _, _, _ := s.d.loop("shop").feed.since(0)
	return slices.DeleteFunc(slices.Clone(events), func(e api.Event) bool { return e.Type != api.EventScale })
}

// control pauses and resumes, puts to sleep and wakes.
func (s *sim) control(op string, edits ...func(*api.AutoscaleRequest)) {
	s.t.Helper()
	req := &api.AutoscaleRequest{Op: op}
	for _, edit := range edits {
		edit(req)
	}
	_, err := s.d.controlScaling(s.ctx, "shop", req)
	s.must(err)
	synctest.Wait()
}

// replays fails the test unless the decisions of a service can be made again.
func (s *sim) replays(service string) {
	s.t.Helper()
	data, err := json.Marshal(s.scaledTo(service).Recording)
	s.must(err)
	var r scalesim.Recording
	s.must(json.Unmarshal(data, &r))
	if r.Empty() {
		s.t.Errorf("no decision about %s is recorded", service)
	}
	if err := scalesim.Replay(r); err != nil {
		s.t.Errorf("the decisions about %s cannot be made again: %v", service, err)
	}
}

func TestScalesByLoad(t *testing.T) {
	metered(t, func(_ *testing.T, s *sim, m *fakeMeter, _ *calm) {
		m.carry("web", 40)
		s.settled(s.up(shop(svc("db", 1), svc("web", 1, autoscaled()))))
		pass(2 * time.Minute)
		s.counts("web", 1, "with little to do")
		m.carry("web", 200)
		pass(2 * time.Minute)
		s.counts("web", 4, "with much to do")
		m.carry("web", 1000)
		pass(2 * time.Minute)
		s.counts("web", 6, "with more than it may do")
		m.carry("web", 60)
		pass(4 * time.Minute)
		s.counts("web", 6, "within the window")
		pass(3 * time.Minute)
		s.counts("web", 2, "after the window")
		s.replays("web")
		s.oracle()
		s.replays("web")
	})
}

// What is decided by what is under way at once can be made again, too: from the first
// decision on, once the oldest are forgotten, and by the next daemon.
func TestConcurrencyCanBeMadeAgain(t *testing.T) {
	metered(t, func(t *testing.T, s *sim, m *fakeMeter, b *calm) {
		m.carry("web", 120)
		s.settled(s.up(shop(svc("web", 1, published, autoscaled(func(a *stack.Autoscale) {
			a.Concurrency = &scaling.Concurrency{Target: 10, Stable: 20 * time.Second}
		})))))
		for _, open := range []int{0, 7, 55, 31, 0, 12, 3, 90, 0} {
			b.carry("web", open, 0)
			pass(47 * time.Second)
			s.replays("web")
		}
		if r := s.scaledTo("web").Recording; len(r.Looks) != keptLooks || r.Concurrency.Decided.IsZero() || len(r.Steps) < 10 {
			t.Errorf("%d looks are kept, the state before them is %+v; and %d steps", len(r.Looks), r.Concurrency, len(r.Steps))
		}
		s.counts("web", 3, "by cpu, with nothing open")
		s.control(api.AutoscalePause)
		b.carry("web", 42, 0)
		pass(30 * time.Second)
		s.replays("web")
		s.control(api.AutoscaleResume)
		pass(5 * time.Second)
		s.counts("web", 5, "by what is open")
		s.replays("web")
		s.reboot()
		b.carry("web", 25, 0)
		pass(30 * time.Second)
		s.replays("web")
	})
}

// What is not measured never makes a service smaller.
func TestMissingMetricsScaleNothingDown(t *testing.T) {
	metered(t, func(t *testing.T, s *sim, m *fakeMeter, _ *calm) {
		m.carry("web", 200)
		s.settled(s.up(shop(svc("web", 1, autoscaled()))))
		pass(3 * time.Minute)
		s.counts("web", 4, "with much to do")
		m.blindfold(true)
		m.carry("web", 10)
		pass(time.Hour)
		s.counts("web", 4, "while nothing can be measured")
		if last := s.scaledTo("web").Last; last.Decision == nil || last.Decision.Reasons[len(last.Decision.Reasons)-1] != scaling.MetricsInvalid {
			t.Errorf("decided %+v, want that too little is known", last.Decision)
		} else if want := []string{"cpu of web/1, web/2, web/3 and 1 more: what it uses could not be read"}; !slices.Equal(last.Missing, want) {
			t.Errorf("what is missing is told as %q, want %q", last.Missing, want)
		}
		if n := len(slices.DeleteFunc(s.scaleEvents(), func(e api.Event) bool { return !e.Scaling.Blind() })); n != 1 {
			t.Errorf("told %d times that nothing can be measured, want once", n)
		}
		m.blindfold(false)
		pass(10 * time.Minute)
		s.counts("web", 1, "once it can")
		s.replays("web")
		s.oracle()
	})
}

// A value that hangs holds up no other service, and no other replica.
func TestHangingMetric(t *testing.T) {
	metered(t, func(t *testing.T, s *sim, m *fakeMeter, _ *calm) {
		m.value = func(ctx context.Context, _ *stack.MetricSource, at *Metered) (int64, error) {
			if at.Container.Name != "shop-jobs-1" {
				return 20_000, nil
			}
			<-ctx.Done()
			return 0, errors.New("it did not answer in time")
		}
		m.carry("web", 200)
		s.settled(s.up(shop(svc("web", 1, autoscaled()), svc("jobs", 2, autoscaled(func(a *stack.Autoscale) {
			a.Policy.Metrics = []scaling.Metric{{Source: scaling.FromReplicas, Name: "waiting", AverageValue: 5000}}
			a.Sources = []stack.MetricSource{{Kind: stack.MetricPrometheus, Port: health.Port{Number: 80}, Metric: "waiting"}}
		})))))
		pass(2 * time.Minute)
		s.counts("web", 4, "beside one that hangs")
		got := s.scaledTo("jobs")
		if got.Replicas <= 2 || len(got.Last.Missing) != 1 || !strings.Contains(got.Last.Missing[0], "waiting of jobs/1: it did not answer in time") {
			t.Errorf("%d replicas of jobs, missing %q, want more by the others, and why one is not counted", got.Replicas, got.Last.Missing)
		}
		s.replays("jobs")
	})
}

// lookAt has the loop look at its scaling at another time, as if the clock had
// jumped there.
func (s *sim) lookAt(now time.Time) {
	s.t.Helper()
	synctest.Wait()
	l := s.d.loop("shop")
	if !l.scaling.CompareAndSwap(false, true) {
		s.t.Fatal("a look is under way")
	}
	l.scale(s.ctx, now)
	l.scaling.Store(false)
	synctest.Wait()
}

// Fault 34: the clock jumps and comes back. What is decided by what is measured
// stays, and the next decision does not wait for as long as the jump.
func TestClockJumpsWhileScaling(t *testing.T) {
	for _, jump := range []time.Duration{time.Hour, -time.Hour, -20000 * 24 * time.Hour} {
		t.Run(jump.String(), func(t *testing.T) {
			metered(t, func(_ *testing.T, s *sim, m *fakeMeter, _ *calm) {
				m.carry("web", 140)
				s.settled(s.up(shop(svc("web", 1, autoscaled()))))
				pass(3 * time.Minute)
				s.counts("web", 3, "before the jump")
				s.lookAt(time.Now().Add(jump).Round(0))
				pass(10 * time.Minute)
				s.counts("web", 3, "after it")
				m.carry("web", 240)
				pass(time.Minute)
				s.counts("web", 5, "with more to do")
				s.oracle()
			})
		})
	}
}

// Fault 35: the machine sleeps through several firings of a schedule. Only the last
// of them counts, and once.
func TestSleepingThroughSchedules(t *testing.T) {
	two, four := 2, 4
	metered(t, func(t *testing.T, s *sim, m *fakeMeter, _ *calm) {
		m.carry("web", 40)
		s.settled(s.up(shop(svc("web", 1, autoscaled(func(a *stack.Autoscale) {
			a.Schedules = []timetable.Schedule{{Name: "odd", Cron: "0 1-23/2 * * *", Replicas: &two}, {Name: "even", Cron: "0 */2 * * *", Replicas: &four}}
		})))))
		pass(90 * time.Minute) // it is half past one, in a bubble that begins at midnight
		s.counts("web", 2, "in an odd hour")
		s.die()
		<-s.gone
		time.Sleep(9 * time.Hour)
		s.boot()
		pass(2 * time.Minute)
		s.counts("web", 4, "in an even hour")
		if last := s.scaledTo("web").Last; !strings.Contains(last.Schedule, "even") {
			t.Errorf("by the schedule %q", last.Schedule)
		}
		if scaled := len(s.scaleEvents()); scaled != 1 {
			t.Errorf("scaled %d times after the sleep, want once", scaled)
		}
	})
}

// The daemon dies after a decision, at each of the calls that carry it out.
func TestDeathBetweenDecisionAndEffect(t *testing.T) {
	for _, op := range []string{"create", "start"} {
		t.Run(op, func(t *testing.T) {
			metered(t, func(_ *testing.T, s *sim, m *fakeMeter, _ *calm) {
				m.carry("web", 40)
				s.settled(s.up(shop(svc("web", 1, autoscaled()))))
				pass(2 * time.Minute)
				died := false
				s.engine.Inject(fake.Fault{Times: 1, Match: func(c fake.Call) bool {
					if c.Op == op && !died {
						died = true
						s.die()
					}
					return false
				}})
				m.carry("web", 140)
				<-s.gone
				m.blindfold(true) // so that the next daemon knows nothing but what was stored
				s.boot()
				pass(2 * time.Minute)
				s.counts("web", 3, "after the daemon's death")
				s.oracle()
			})
		})
	}
}

// A replica that never becomes ready is no reason for ever more of them.
func TestReplicaThatNeverGetsReady(t *testing.T) {
	metered(t, func(t *testing.T, s *sim, m *fakeMeter, _ *calm) {
		c := &checks{bad: map[string]bool{}, output: "told to fail"}
		c.name = func(id string) string {
			got, err := s.engine.Inspect(s.hand(), id)
			if err != nil {
				return ""
			}
			return got.Name
		}
		s.checks = c
		s.reboot()
		for slot := 2; slot <= 6; slot++ {
			c.set(health.Readiness, fmt.Sprintf("shop-web-%d", slot), true)
		}
		m.carry("web", 90)
		s.settled(s.up(shop(svc("web", 1, autoscaled(), probe(health.Readiness)))))
		pass(20 * time.Minute)
		if got := s.scaledTo("web"); got.Replicas != 2 || got.Ready != 1 {
			t.Errorf("%d replicas, %d ready, want 2 and 1: %s", got.Replicas, got.Ready, lastWhy(got))
		}
		s.replays("web")
	})
}

// Where no node takes another replica the number does not grow on, and it is said
// why.
func TestNoPlaceCapsTheNumber(t *testing.T) {
	metered(t, func(t *testing.T, s *sim, m *fakeMeter, _ *calm) {
		m.carry("web", 2000)
		s.up(onNodes(shop(svc("web", 1, reserves(100), autoscaled(func(a *stack.Autoscale) { a.Policy.Max = 50 }))), edge("edge-1", 256)))
		pass(5 * time.Minute)
		first := s.scaledTo("web")
		pass(20 * time.Minute)
		got := s.scaledTo("web")
		if got.Replicas != first.Replicas || got.Replicas >= 10 || got.Ready != 2 {
			t.Errorf("%d replicas are wanted, then %d, and %d ready; want no more than at first, and 2", first.Replicas, got.Replicas, got.Ready)
		}
		if !strings.Contains(got.Last.Capped, "no node takes web/") || !strings.Contains(got.Last.Why(), "memory") {
			t.Errorf("it does not say why: %q", got.Last.Why())
		}
	})
}

// byHand scales web as somebody does by a command.
func (s *sim) byHand(n int) {
	s.t.Helper()
	acc, err := s.d.act(s.ctx, "shop", &api.ActionRequest{Op: "scale", Scale: map[string]int{"web": n}})
	s.must(err)
	s.settled(acc)
}

// What somebody scaled by hand stays until it is resumed or declared again, and
// goes on from there.
func TestScaledByHand(t *testing.T) {
	ends := map[string]func(s *sim, st *stack.Stack){
		"resume": func(s *sim, _ *stack.Stack) { s.control(api.AutoscaleResume) },
		"up":     func(s *sim, st *stack.Stack) { s.settled(s.up(st)) },
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			metered(t, func(t *testing.T, s *sim, m *fakeMeter, _ *calm) {
				m.carry("web", 40)
				st := shop(svc("web", 1, autoscaled()))
				s.settled(s.up(st))
				pass(10 * time.Minute)
				s.byHand(5)
				pass(time.Hour)
				s.counts("web", 5, "by hand")
				if got := s.scaledTo("web"); !got.ByHand || !strings.Contains(got.Last.Held, "scaled by hand") {
					t.Errorf("it does not say that it is held: %+v", got.Last)
				}
				s.reboot()
				pass(10 * time.Minute)
				s.counts("web", 5, "with another daemon")
				end(s, st)
				pass(2 * time.Minute)
				s.counts("web", 5, "within the window")
				pass(10 * time.Minute)
				s.counts("web", 1, "after it")
				s.replays("web")
				s.oracle()
			})
		})
	}
}

func TestPausedAutoscaling(t *testing.T) {
	metered(t, func(t *testing.T, s *sim, m *fakeMeter, _ *calm) {
		m.carry("web", 40)
		s.settled(s.up(shop(svc("web", 1, autoscaled()))))
		s.control(api.AutoscalePause)
		m.carry("web", 200)
		pass(10 * time.Minute)
		s.counts("web", 1, "paused")
		if got := s.scaledTo("web"); got.Last.Desired != 4 || !strings.Contains(got.Last.Held, "paused") {
			t.Errorf("it does not tell what it would do: %+v", got.Last)
		}
		s.control(api.AutoscaleResume)
		pass(time.Minute)
		s.counts("web", 4, "resumed")
		s.replays("web")
	})
}

// A command that comes while it is measured is not undone by what was decided
// before it.
func TestCommandDuringAMeasurement(t *testing.T) {
	metered(t, func(_ *testing.T, s *sim, m *fakeMeter, _ *calm) {
		asked, answer := make(chan struct{}), make(chan struct{})
		var once sync.Once
		m.value = func(ctx context.Context, _ *stack.MetricSource, _ *Metered) (int64, error) {
			once.Do(func() { close(asked) })
			select {
			case <-answer:
			case <-ctx.Done():
			}
			return 100_000, nil
		}
		s.settled(s.up(shop(svc("web", 1, autoscaled(func(a *stack.Autoscale) {
			a.Policy.Metrics = []scaling.Metric{{Source: scaling.FromExternal, Name: "queue", AverageValue: 1000}}
			a.Sources = []stack.MetricSource{{Kind: stack.MetricWebhook, URL: "http://queue"}}
		})))))
		<-asked
		s.control(api.AutoscalePause)
		close(answer)
		pass(5 * time.Minute)
		s.counts("web", 1, "paused while it was measured")
	})
}

// idles puts a service to rest after five minutes.
func idles(do scaling.IdleAction) func(*stack.Autoscale) {
	return func(a *stack.Autoscale) { a.Idle = &scaling.Idle{After: 5 * time.Minute, Do: do} }
}

// A service that nobody uses rests, and wakes with all that it depends on when
// somebody comes.
func TestIdleServicesRestAndWake(t *testing.T) {
	want := map[scaling.IdleAction]string{
		scaling.IdleStop:  "shop-db-1=exited shop-web-1=exited",
		scaling.IdlePause: "shop-db-1=paused shop-web-1=paused",
		// a throttled one runs on
		scaling.IdleThrottle: "shop-db-1=running shop-web-1=running",
	}
	for do, rests := range want {
		t.Run(string(do), func(t *testing.T) {
			metered(t, func(t *testing.T, s *sim, m *fakeMeter, b *calm) {
				m.carry("web", 20)
				s.settled(s.up(shop(svc("db", 1, autoscaled(idles(do))), svc("web", 1, autoscaled(idles(do)), after("db", stack.Started)))))
				runs := "shop-db-1=running shop-web-1=running"
				pass(4 * time.Minute)
				if got := s.list(); got != runs || s.scaledTo("web").Rest != nil {
					t.Errorf("before its time: %s", got)
				}
				pass(2 * time.Minute)
				if got := s.list(); got != rests || s.scaledTo("web").Rest == nil || s.scaledTo("db").Rest == nil {
					t.Errorf("idle: %s, want %s\n%s", got, rests, s.plan("shop"))
				}
				if cpus := s.get("shop-web-1").Limits.NanoCPUs; (do == scaling.IdleThrottle) != (cpus > 0) {
					t.Errorf("idle: limited to %d nanocores", cpus)
				}
				s.reboot()
				pass(10 * time.Minute)
				if got := s.list(); got != rests {
					t.Errorf("with another daemon: %s, want %s", got, rests)
				}
				b.wait("web", 1)
				pass(5 * time.Second)
				b.wait("web", 0)
				pass(3 * time.Minute)
				if got := s.list(); got != runs || s.scaledTo("web").Rest != nil || s.scaledTo("db").Rest != nil {
					t.Errorf("woken: %s\n%s", got, s.plan("shop"))
				}
				if cpus := s.get("shop-web-1").Limits.NanoCPUs; cpus != 0 {
					t.Errorf("woken: limited to %d nanocores", cpus)
				}
				pass(3 * time.Minute)
				if got := s.list(); got != rests {
					t.Errorf("idle again: %s, want %s", got, rests)
				}
				s.oracle()
			})
		})
	}
}

// What was put to sleep by command sleeps until it is woken, and does not go back
// to sleep at once.
func TestSleepAndWake(t *testing.T) {
	metered(t, func(t *testing.T, s *sim, _ *fakeMeter, _ *calm) {
		s.settled(s.up(shop(svc("db", 1), svc("web", 2, autoscaled(idles(scaling.IdlePause))))))
		pass(time.Minute)
		s.control(api.AutoscaleSleep, func(r *api.AutoscaleRequest) { r.Services, r.Do = []string{"web"}, scaling.IdleStop })
		pass(time.Hour)
		if got := s.list(); got != "shop-db-1=running shop-web-1=exited shop-web-2=exited" {
			t.Errorf("asleep: %s", got)
		}
		s.control(api.AutoscaleWake)
		pass(4 * time.Minute)
		if got := s.list(); got != "shop-db-1=running shop-web-1=running shop-web-2=running" {
			t.Errorf("woken: %s\n%s", got, s.plan("shop"))
		}
		pass(2 * time.Minute)
		if got := s.list(); got != "shop-db-1=running shop-web-1=paused" {
			t.Errorf("idle again: %s\n%s", got, s.plan("shop"))
		}
		s.oracle()
	})
}

// What was frozen and ended with the engine is started when its service wakes, even
// where its restart policy would leave it.
func TestWakeAfterTheEngineWasAway(t *testing.T) {
	metered(t, func(t *testing.T, s *sim, _ *fakeMeter, _ *calm) {
		s.settled(s.up(shop(svc("web", 1))))
		s.control(api.AutoscaleSleep)
		pass(time.Minute)
		s.engine.Down(true)
		pass(time.Minute)
		s.engine.Up()
		pass(2 * time.Minute)
		if got := s.list(); got != "shop-web-1=exited" {
			t.Fatalf("after the engine was away: %s", got)
		}
		s.control(api.AutoscaleWake)
		pass(time.Minute)
		if got := s.list(); got != "shop-web-1=running" {
			t.Errorf("woken: %s\n%s", got, s.plan("shop"))
		}
		s.oracle()
	})
}

// published has a service's port held by the balancer.
func published(s *stack.Service) {
	s.Publish = stack.PublishBalanced
	s.Spec.Ports = []runtime.Port{{Target: 80, Published: "8080", Protocol: "tcp"}}
}

// Who waits for a frozen service waits neither for the disk nor for the engine's answer:
// it is connected while the container is being unpaused, and what was woken is stored
// after that has begun.
func TestAWakeWaitsForNothing(t *testing.T) {
	metered(t, func(t *testing.T, s *sim, _ *fakeMeter, b *calm) {
		s.settled(s.up(shop(svc("web", 1, published))))
		s.control(api.AutoscaleSleep)
		pass(time.Minute)
		if got := s.list(); got != "shop-web-1=paused" || b.leads("web") != 0 {
			t.Fatalf("asleep: %s, %d take connections", got, b.leads("web"))
		}
		var begun atomic.Bool
		s.engine.Inject(fake.Fault{Times: 1, Delay: time.Second, Match: func(c fake.Call) bool {
			begun.Store(begun.Load() || c.Op == "unpause")
			return c.Op == "unpause"
		}})
		put := s.d.store.write
		s.d.store.write = func(path string, data []byte) error {
			for tries := 0; !begun.Load() && tries < 1_000_000; tries++ {
				goruntime.Gosched()
			}
			if !begun.Load() {
				t.Error("the wake waits until it is stored")
			}
			return put(path, data)
		}
		b.wait("web", 1)
		pass(100 * time.Millisecond)
		if got := s.list(); got != "shop-web-1=paused" || b.leads("web") != 1 {
			t.Errorf("while it is unpaused: %s, %d take connections, want 1", got, b.leads("web"))
		}
		b.wait("web", 0)
		pass(time.Minute)
		if got := s.list(); got != "shop-web-1=running" || b.leads("web") != 1 {
			t.Errorf("woken: %s, %d take connections\n%s", got, b.leads("web"), s.plan("shop"))
		}
		s.reboot()
		pass(time.Minute)
		if got := s.list(); got != "shop-web-1=running" {
			t.Errorf("with another daemon: %s", got)
		}
		s.oracle()
	})
}

// A wake that fails leads nobody to a frozen container for longer than it is tried.
func TestAWakeThatFails(t *testing.T) {
	metered(t, func(t *testing.T, s *sim, _ *fakeMeter, b *calm) {
		s.settled(s.up(shop(svc("web", 1, published))))
		s.control(api.AutoscaleSleep)
		pass(time.Minute)
		mend := s.engine.Inject(fake.Fault{Op: "unpause", Kind: runtime.KindUnavailable, Err: errors.New("the freezer is stuck")})
		b.wait("web", 1)
		pass(100 * time.Millisecond)
		if n := b.leads("web"); n != 0 || !strings.Contains(s.plan("shop"), "the freezer is stuck") {
			t.Errorf("%d take connections, want none:\n%s", n, s.plan("shop"))
		}
		mend()
		pass(time.Minute)
		if got := s.list(); got != "shop-web-1=running" || b.leads("web") != 1 {
			t.Errorf("once it can be unpaused: %s, %d take connections\n%s", got, b.leads("web"), s.plan("shop"))
		}
		b.wait("web", 0)
		s.oracle()
	})
}

// The daemon dies between a wake and its storing: the service rests, and whoever comes
// next wakes it.
func TestDeathBetweenWakeAndStore(t *testing.T) {
	metered(t, func(t *testing.T, s *sim, _ *fakeMeter, b *calm) {
		s.settled(s.up(shop(svc("web", 1, published))))
		s.control(api.AutoscaleSleep)
		pass(time.Minute)
		put := s.d.store.write
		s.d.store.write = func(path string, data []byte) error {
			for s.list() != "shop-web-1=running" { // in a moment: it is being unpaused
				goruntime.Gosched()
			}
			s.die()
			return put(path, data)
		}
		b.wait("web", 1)
		<-s.gone
		b.wait("web", 0)
		s.boot()
		pass(time.Minute)
		if got := s.list(); got != "shop-web-1=paused" {
			t.Errorf("with another daemon: %s\n%s", got, s.plan("shop"))
		}
		b.wait("web", 1)
		pass(time.Minute)
		if got := s.list(); got != "shop-web-1=running" {
			t.Errorf("woken again: %s\n%s", got, s.plan("shop"))
		}
		b.wait("web", 0)
		s.oracle()
	})
}

// A look at the scaling that comes a little too early counts as due: the next one is
// a whole tick later.
func TestDecisionsKeepTheInterval(t *testing.T) {
	metered(t, func(t *testing.T, s *sim, m *fakeMeter, _ *calm) {
		m.carry("web", 40)
		s.settled(s.up(shop(svc("web", 1, autoscaled(func(a *stack.Autoscale) { a.Policy.Interval = 2 * time.Second })))))
		pass(10 * time.Second)
		last := s.scaledTo("web").Last.At
		pass(time.Until(last.Add(2*time.Second - 20*time.Millisecond)))
		s.lookAt(time.Now())
		if at := s.scaledTo("web").Last.At; !at.After(last) {
			t.Errorf("20 ms before it is due nothing is decided: last at %s, now %s", at, time.Now())
		}
	})
}

// A command that says what becomes of a service ends its rest.
func TestCommandsEndARest(t *testing.T) {
	for op, want := range map[string]string{
		"start": "shop-web-1=running", "restart": "shop-web-1=running", "unpause": "shop-web-1=running",
		"stop": "shop-web-1=exited", "scale": "shop-web-1=running shop-web-2=running",
	} {
		t.Run(op, func(t *testing.T) {
			metered(t, func(t *testing.T, s *sim, _ *fakeMeter, _ *calm) {
				s.settled(s.up(shop(svc("web", 1))))
				s.control(api.AutoscaleSleep)
				pass(time.Minute)
				req := &api.ActionRequest{Op: op}
				if op == "scale" {
					req.Scale = map[string]int{"web": 2}
				}
				acc, err := s.d.act(s.ctx, "shop", req)
				if err != nil {
					t.Fatal(err)
				}
				s.settled(acc)
				if got := s.list(); got != want {
					t.Errorf("%s\n%s", got, s.plan("shop"))
				}
				if all, err := s.d.autoscaling(s.ctx, "shop"); err != nil || len(all.Services) > 0 {
					t.Errorf("it still rests: %+v, %v", all, err)
				}
				s.oracle()
			})
		})
	}
}

// However little is used, a limit is not lowered below what the replica is promised,
// which the engine would refuse, nor below what the file says; else to little.
func TestResizesToWhatIsLeast(t *testing.T) {
	const mib = 1 << 20
	for name, c := range map[string]struct {
		edit   func(*stack.Service)
		memory int64
		cpus   int64
	}{
		"nothing said": {func(*stack.Service) {}, vertical.DefaultLeastMemory, 25_000_000},
		"promised": {func(s *stack.Service) {
			s.Placement.Reservation.CPU, s.Placement.Reservation.Memory = 200, 96*mib
		}, 96 * mib, 200_000_000},
		"reserved of the engine alone": {func(s *stack.Service) { s.Spec.Limits.MemoryReservation = 48 * mib }, 48 * mib, 25_000_000},
		"a minimum": {func(s *stack.Service) {
			s.Vertical.Bounds.Min = vertical.Amounts{CPU: 50, Memory: 24 * mib}
		}, 24 * mib, 50_000_000},
		"a low minimum": {func(s *stack.Service) {
			s.Vertical.Bounds.Min = vertical.Amounts{CPU: 15, Memory: 12 * mib}
		}, 12 * mib, 15_000_000},
	} {
		t.Run(name, func(t *testing.T) {
			metered(t, func(t *testing.T, s *sim, m *fakeMeter, _ *calm) {
				m.memory = 2 * mib
				m.carry("web", 1)
				s.settled(s.up(shop(svc("web", 1, func(svc *stack.Service) {
					svc.Spec.Limits = runtime.Limits{NanoCPUs: 4e9, Memory: 4 << 30}
					svc.Vertical = &stack.Vertical{Mode: stack.Resize}
					c.edit(svc)
				}))))
				pass(4 * time.Hour)
				if got := s.get("shop-web-1").Limits; got.Memory != c.memory || got.NanoCPUs != c.cpus {
					t.Errorf("limits are %d bytes and %d nanocores, want %d and %d: %+v", got.Memory, got.NanoCPUs, c.memory, c.cpus, s.scaledTo("web").Sizing)
				}
			})
		})
	}
}

// Limits that are too large are lowered in place, and never below what is used.
func TestResizesInPlace(t *testing.T) {
	const use, limit = 300 << 20, 4 << 30
	metered(t, func(t *testing.T, s *sim, m *fakeMeter, _ *calm) {
		m.memory = use
		m.carry("web", 50)
		s.settled(s.up(shop(svc("web", 1, func(svc *stack.Service) {
			svc.Spec.Limits = runtime.Limits{NanoCPUs: 4e9, Memory: limit}
			svc.Vertical = &stack.Vertical{Mode: stack.Resize}
		}))))
		first, least := s.get("shop-web-1"), int64(limit)
		for range 12 {
			pass(time.Hour)
			least = min(least, s.get("shop-web-1").Limits.Memory)
		}
		got := s.get("shop-web-1")
		if got.Limits.Memory >= limit/2 || got.Limits.NanoCPUs >= 2e9 || got.Limits.NanoCPUs < 50e6 {
			t.Errorf("limits are %d bytes and %d nanocores after half a day: %+v", got.Limits.Memory, got.Limits.NanoCPUs, s.scaledTo("web").Sizing)
		}
		if least < use {
			t.Errorf("%d bytes were allowed of %d in use", least, use)
		}
		if got.ID != first.ID || !got.Started.Equal(first.Started) {
			t.Error("it was replaced or restarted")
		}
	})
}

// An up that says nothing of the number keeps what the autoscaler has decided.
func TestUpKeepsTheNumber(t *testing.T) {
	metered(t, func(t *testing.T, s *sim, m *fakeMeter, _ *calm) {
		m.carry("web", 200)
		st := shop(svc("web", 1, autoscaled()))
		s.settled(s.up(st))
		pass(3 * time.Minute)
		calls := s.now()
		s.settled(s.up(st))
		pass(time.Minute)
		s.counts("web", 4, "after another up")
		if n := s.now(); n != calls {
			t.Errorf("the up changed something:\n%s", strings.Join(s.calls()[calls:], "\n"))
		}
		if got := s.d.loop("shop").desired().Services["web"]; got.Want != reconcile.WantRunning || valueOr(got.Auto, 0) != 4 {
			t.Errorf("kept: %+v", got)
		}
	})
}
