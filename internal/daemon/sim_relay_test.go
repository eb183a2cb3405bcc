package daemon

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-dev/berth/health"
	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/balance"
	"github.com/berth-dev/berth/internal/reconcile"
	"github.com/berth-dev/berth/internal/relay"
	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/runtime/fake"
)

// relays are the programs of relays, which listen at nothing: they obey orders and
// report, and a test says how many connections are open.
type relays struct {
	mu   sync.Mutex // protects all below, and every program
	last *relayProgram
	open map[string]int
	mute bool // nothing is reported
}

// relayProgram is one of them.
type relayProgram struct {
	of    *relays
	order relay.Order
	known map[string]bool // the replicas it was ever told of: routed or not
	out   io.Writer
	args  []string
}

// main is the program in the container.
func (r *relays) main(p *fake.Process) int {
	one := &relayProgram{of: r, known: map[string]bool{}, out: p.Stdout, args: p.Args}
	r.mu.Lock()
	r.last = one
	r.mu.Unlock()
	go func() { _, _ = io.Copy(&relay.Lines{Each: one.obey}, p.Stdin) }() // ends with the process
	select {
	case <-p.Killed():
		return 137
	case <-p.Signals():
		return 0
	}
}

func (p *relayProgram) obey(line []byte) {
	o, err := relay.ParseOrder(line)
	if err != nil {
		return
	}
	p.of.mu.Lock()
	defer p.of.mu.Unlock()
	p.order = o
	for id := range p.known {
		p.known[id] = false
	}
	for _, be := range o.Routing.Backends {
		p.known[be.ID] = true
	}
	p.reportLocked()
}

func (p *relayProgram) reportLocked() {
	rep := relay.Report{ID: p.order.ID}
	for _, id := range sortedKeys(p.known) {
		if p.known[id] || p.of.open[id] > 0 {
			rep.Backends = append(rep.Backends, relay.Carried{ID: id, Routed: p.known[id], Open: p.of.open[id]})
		}
	}
	if line, err := relay.Line(rep); err == nil && !p.of.mute {
		_, _ = p.out.Write(line) // a container that is gone takes nothing
	}
}

// opened sets how many connections a container has.
func (r *relays) opened(id string, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open == nil {
		r.open = map[string]int{}
	}
	r.open[id] = n
	r.last.reportLocked()
}

// leads are the addresses that the last relay leads to.
func (r *relays) leads() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []string
	for _, be := range r.last.order.Routing.Backends {
		list = append(list, be.IP.String())
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

// ready makes a service's name lead to ready replicas.
func ready(s *stack.Service) {
	s.Discovery = stack.DiscoverReady
	s.Names = []runtime.Attachment{{Network: "shop_default", Aliases: []string{s.Name}}}
	s.Spec.Networks = []runtime.Attachment{{Network: "shop_default"}}
	s.Spec.Expose = []string{"80/tcp"}
	s.Balance = stack.Balance{Drain: 30 * time.Second, MaxHeld: 7, Hold: time.Minute}
}

// relaying is probing with relays.
func relaying(t *testing.T, f func(t *testing.T, s *sim, c *checks, r *relays)) {
	t.Helper()
	probing(t, func(t *testing.T, s *sim, c *checks) {
		r := &relays{}
		s.engine.AddImage("berth", fake.Image{Workload: fake.Workload{Main: r.main}})
		s.relay = func(context.Context) (string, []string, error) {
			return "berth", []string{"/berth", relay.Command}, nil
		}
		s.reboot()
		f(t, s, c, r)
	})
}

// addresses are those of the replicas of web, in order.
func (s *sim) addresses(slots ...int) string {
	s.t.Helper()
	var list []string
	for _, slot := range slots {
		list = append(list, s.get(fmt.Sprintf("shop-web-%d", slot)).Networks[0].IPv4)
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

// TestRelayLeadsToReadyReplicas follows a relay from the first up over replicas
// that become unready, a daemon that dies, a relay that dies, and down.
func TestRelayLeadsToReadyReplicas(t *testing.T) {
	relaying(t, func(t *testing.T, s *sim, c *checks, r *relays) {
		leads := func(when string, slots ...int) {
			t.Helper()
			if got, want := r.leads(), s.addresses(slots...); got != want {
				t.Errorf("%s the relay leads to %q, want %q\n%s", when, got, want, s.plan("shop"))
			}
		}
		s.settled(s.up(shop(svc("app", 1, after("web", stack.Started)), svc("web", 2, ready, probe(health.Readiness)))))
		pass(5 * time.Second)
		leads("at first", 1, 2)
		if got := fmt.Sprint(r.last.args); got != "[/berth relay 80/tcp]" {
			t.Errorf("it was started as %s", got)
		}
		if got := r.last.order.Routing; got.HeldMost != 7 || got.HeldFor != time.Minute {
			t.Errorf("clients wait by %+v", got)
		}
		if app, web := s.get("shop-app-1"), s.get("shop-web-relay"); app.Started.Before(web.Started) {
			t.Error("a dependant was started before the relay")
		}
		c.set(health.Readiness, "shop-web-1", true)
		pass(10 * time.Second)
		leads("while web-1 is not ready", 2)
		c.set(health.Readiness, "shop-web-2", true)
		pass(10 * time.Second)
		leads("while none is ready")
		s.reboot()
		c.set(health.Readiness, "shop-web-1", false)
		pass(10 * time.Second)
		leads("after the daemon's death", 1)
		c.set(health.Readiness, "shop-web-2", false)
		calls := s.now()
		s.must(s.engine.Kill(s.hand(), "shop-web-relay", "KILL"))
		pass(15 * time.Second)
		leads("after its own death", 1, 2)
		if n := s.count(calls, "start", "shop-web-relay"); n != 1 {
			t.Errorf("it was started %d times", n)
		}
		s.oracle()
		acc, err := s.d.down(s.ctx, "shop", reconcile.Down{Volumes: true})
		s.must(err)
		s.settled(acc)
		s.nothingLeft()
	})
}

// TestReplicaLeavesRelayFirst: a replica is stopped only once its relay has said
// that it gives it no more connections, and those that it has are finished.
func TestReplicaLeavesRelayFirst(t *testing.T) {
	relaying(t, func(t *testing.T, s *sim, _ *checks, r *relays) {
		s.settled(s.up(shop(svc("web", 2, ready))))
		pass(5 * time.Second)
		second := s.get("shop-web-2").ID
		r.opened(second, 1)
		one := 1
		s.up(shop(svc("web", 2, ready)), func(req *api.UpRequest) { req.Scale = map[string]int{"web": one} })
		pass(10 * time.Second)
		if got := s.get("shop-web-2").State; got != runtime.Running || r.leads() != s.addresses(1) {
			t.Errorf("with a connection that is open web-2 is %s, and the relay leads to %q\n%s", got, r.leads(), s.plan("shop"))
		}
		r.opened(second, 0)
		pass(time.Second)
		if got := s.list(); strings.Contains(got, "shop-web-2=") {
			t.Errorf("after its last connection: %s\n%s", got, s.plan("shop"))
		}
		s.oracle()
	})
}

// TestRelayCountsAsUse: what a relay carries, and who waits there, counts for the
// service as what the balancer carries does; only what a plan may depend on wakes.
func TestRelayCountsAsUse(t *testing.T) {
	woken := 0
	one := newTalk("id", "web", func() { woken++ }, time.Now())
	all := &talks{of: map[string]*talk{"id": one}}
	hear := func(r relay.Report, news bool) {
		t.Helper()
		before := woken
		line, err := relay.Line(r)
		if err != nil {
			t.Fatal(err)
		}
		one.hear(line)
		if (woken > before) != news {
			t.Errorf("%+v is news: %t, want %t", r, !news, news)
		}
	}
	hear(relay.Report{ID: 1, Waiting: 2, Carries: 5, Backends: []relay.Carried{{ID: "a", Routed: true, Open: 3}}}, true)
	pool := balance.PoolStatus{Open: 10, Waiting: 1}
	if !all.pooled("web", &pool) || pool.Open != 13 || pool.Waiting != 3 || pool.Connections != 5 {
		t.Errorf("the use of web is %+v", pool)
	}
	if pool = (balance.PoolStatus{}); all.pooled("app", &pool) || pool.Open != 0 {
		t.Errorf("the use of app is %+v", pool)
	}
	hear(relay.Report{ID: 1, Waiting: 1, Carries: 6, Backends: []relay.Carried{{ID: "a", Routed: true, Open: 4}}}, false)
	hear(relay.Report{ID: 1, Carries: 7, Backends: []relay.Carried{{ID: "a", Routed: true, Open: 4}}}, true)
	hear(relay.Report{ID: 2, Carries: 7, Backends: []relay.Carried{{ID: "a", Open: 4}}}, true)
	hear(relay.Report{ID: 2, Carries: 7, Backends: []relay.Carried{{ID: "a", Open: 2}}}, false)
	hear(relay.Report{ID: 2, Carries: 7}, true)
	hear(relay.Report{ID: 2, Carries: 7, Trouble: "no port"}, true)
}

// TestDeafRelay: a relay that does not do what it is told keeps no replica from
// being replaced.
func TestDeafRelay(t *testing.T) {
	relaying(t, func(t *testing.T, s *sim, _ *checks, r *relays) {
		s.settled(s.up(shop(svc("web", 2, ready))))
		pass(5 * time.Second)
		r.mu.Lock()
		r.mute = true
		r.mu.Unlock()
		s.settled(s.up(shop(svc("web", 2, ready, env("A=b")))))
		pass(time.Minute)
		if got := r.leads(); got != s.addresses(1, 2) || strings.Contains(got, "invalid") {
			t.Errorf("the relay leads to %q, want %q", got, s.addresses(1, 2))
		}
		s.oracle()
	})
}

// TestRelayIsReplaced: a relay whose ports change is followed by one that knows
// the replicas before it serves alone, across the daemon's death at any call.
func TestRelayIsReplaced(t *testing.T) {
	more := func(s *stack.Service) { s.Spec.Expose = append(s.Spec.Expose, "81/tcp") }
	for crash := range 6 {
		relaying(t, func(t *testing.T, s *sim, _ *checks, r *relays) {
			s.settled(s.up(shop(svc("web", 1, ready))))
			pass(5 * time.Second)
			first, calls := s.get("shop-web-relay").ID, s.now()
			acc := s.up(shop(svc("web", 1, ready, more)))
			for s.now() < calls+crash {
				pass(10 * time.Millisecond)
			}
			if crash > 0 {
				s.reboot()
			} else {
				s.settled(acc)
			}
			pass(time.Minute)
			got := s.get("shop-web-relay")
			if got.ID == first || !slices.Contains(got.Command, "81/tcp") || r.leads() != s.addresses(1) {
				t.Errorf("crash after call %d: the relay runs %v and leads to %q, want %q\n%s", crash, got.Command, r.leads(), s.addresses(1), s.plan("shop"))
			}
			s.oracle()
		})
	}
}

// TestNoRelay: where Berth has no program for relays, up says so.
func TestNoRelay(t *testing.T) {
	simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
		failed := s.settle(s.up(shop(svc("web", 1, ready))))
		if text := strings.Join(failed, "; "); !strings.Contains(text, "shop-web-relay") || !strings.Contains(text, "x-berth.discovery: dns") {
			t.Errorf("up says %q", text)
		}
	})
}
