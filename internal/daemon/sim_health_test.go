package daemon

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/health"
	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/reconcile"
	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/runtime/fake"
)

// checks are probes whose results a test sets, by role and container name.
type checks struct {
	mu     sync.Mutex // protects bad
	bad    map[string]bool
	name   func(container string) string
	output string // of those that fail
}

func (c *checks) Make(r health.Role, _ *health.Probe, t health.Target) health.Check {
	return func(context.Context) (health.Outcome, string) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.bad[string(r)+" "+c.name(t.Container)] {
			return health.Failure, t.Redact(c.output)
		}
		return health.Success, ""
	}
}

// set has the probe of a role of a container pass or fail from now on.
func (c *checks) set(role health.Role, container string, bad bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bad[string(role)+" "+container] = bad
}

// probing is simulate with probes whose results the test sets.
func probing(t *testing.T, f func(t *testing.T, s *sim, c *checks)) {
	t.Helper()
	probingOn(t, fake.Options{}, f)
}

// probingOn is probing on an engine with options.
func probingOn(t *testing.T, opts fake.Options, f func(t *testing.T, s *sim, c *checks)) {
	t.Helper()
	simulate(t, opts, func(t *testing.T, s *sim) {
		c := &checks{bad: map[string]bool{}, output: "told to fail"}
		c.name = func(id string) string {
			got, err := s.engine.Inspect(fake.ByHand(context.WithoutCancel(t.Context())), id)
			if err != nil {
				return ""
			}
			return got.Name
		}
		s.checks = c
		s.reboot()
		f(t, s, c)
	})
}

// probe gives a service a probe of a role, every second, that fails at the third time.
func probe(role health.Role, edits ...func(*health.Probe)) func(*stack.Service) {
	return func(s *stack.Service) {
		p := &health.Probe{TCP: &health.TCP{Port: health.Port{Number: 80}}, Period: time.Second}
		for _, edit := range edits {
			edit(p)
		}
		switch role {
		case health.Startup:
			s.Probes.Startup = p
		case health.Readiness:
			s.Probes.Readiness = p
		case health.Liveness:
			s.Probes.Liveness = p
		}
	}
}

func onFailure(a health.Action) func(*health.Probe) {
	return func(p *health.Probe) { p.OnFailure = a }
}

// ready reports whether a service's replica counts as ready.
func (s *sim) ready(service string, slot int) bool {
	s.t.Helper()
	st, err := s.d.status(s.ctx, "shop", true)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, r := range st.Replicas {
		if r.Service == service && r.Slot == slot {
			return r.Ready
		}
	}
	return false
}

func TestLivenessRestarts(t *testing.T) {
	probing(t, func(t *testing.T, s *sim, c *checks) {
		s.settled(s.up(shop(svc("web", 1, probe(health.Liveness)))))
		time.Sleep(10 * time.Second)
		first := s.get("shop-web-1").Started
		c.set(health.Liveness, "shop-web-1", true)
		time.Sleep(3500 * time.Millisecond) // threshold times period, and a little
		synctest.Wait()
		c.set(health.Liveness, "shop-web-1", false)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		got := s.get("shop-web-1")
		if got.State != runtime.Running || !got.Started.After(first) {
			t.Fatalf("not restarted: %s since %s\n%s", got.State, got.Started, s.plan("shop"))
		}
		if n := s.count(0, "create", ""); n != 1 {
			t.Errorf("a restart made %d containers", n)
		}
		s.oracle()
	})
}

// Fault 37: a crash loop slows down, and does so across the daemon's death.
func TestCrashLoopSlowsDown(t *testing.T) {
	probing(t, func(t *testing.T, s *sim, c *checks) {
		s.settled(s.up(shop(svc("web", 1, probe(health.Liveness)))))
		c.set(health.Liveness, "shop-web-1", true)
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		starts := s.count(0, "start", "")
		// At 0, 10, 20, 40, 80, 160 s, with 3 s to fail each time.
		if starts < 5 || starts > 8 {
			t.Errorf("%d starts within 5 minutes:\n%s", starts, strings.Join(s.calls(), "\n"))
		}
		s.reboot()
		before := s.now()
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := s.count(before, "start", ""); n > 1 {
			t.Errorf("a new daemon has forgotten the backoff: %d starts within a minute", n)
		}
		c.set(health.Liveness, "shop-web-1", false)
		time.Sleep(15 * time.Minute)
		synctest.Wait()
		if got := s.get("shop-web-1"); got.State != runtime.Running {
			t.Errorf("it does not come back: %s\n%s", got.State, s.plan("shop"))
		}
		s.oracle()
	})
}

// The daemon dies between the stop and the start of a restart.
func TestDeathInTheMiddleOfARestart(t *testing.T) {
	probing(t, func(t *testing.T, s *sim, c *checks) {
		s.settled(s.up(shop(svc("web", 1, probe(health.Liveness), engineRestarts("unless-stopped")))))
		time.Sleep(5 * time.Second)
		died := false
		s.engine.Inject(fake.Fault{Times: 1, Match: func(call fake.Call) bool {
			if call.Op == "start" && !died {
				died = true
				s.die()
			}
			return false
		}})
		c.set(health.Liveness, "shop-web-1", true)
		<-s.gone
		c.set(health.Liveness, "shop-web-1", false)
		s.boot()
		s.rest()
		if got := s.get("shop-web-1"); got.State != runtime.Running {
			t.Errorf("%s after the daemon's death\n%s", got.State, s.plan("shop"))
		}
		s.oracle()
	})
}

func TestReadinessGates(t *testing.T) {
	probing(t, func(t *testing.T, s *sim, c *checks) {
		c.set(health.Readiness, "shop-db-1", true)
		st := shop(svc("db", 1, probe(health.Readiness)), svc("web", 1, after("db", stack.Healthy)))
		st.Services[1].WhileUnready = stack.PauseUnready
		s.up(st)
		s.rest()
		if got := s.list(); got != "shop-db-1=running shop-web-1=created" {
			t.Errorf("before it is ready: %s", got)
		}
		c.set(health.Readiness, "shop-db-1", false)
		s.rest()
		if got := s.list(); got != "shop-db-1=running shop-web-1=running" || !s.ready("db", 1) {
			t.Errorf("once it is ready: %s", got)
		}
		c.set(health.Readiness, "shop-db-1", true)
		s.rest()
		if got := s.list(); got != "shop-db-1=running shop-web-1=paused" || s.ready("db", 1) {
			t.Errorf("while it is not: %s", got)
		}
		s.reboot()
		s.rest()
		c.set(health.Readiness, "shop-db-1", false)
		s.rest()
		if got := s.list(); got != "shop-db-1=running shop-web-1=running" {
			t.Errorf("when it is again: %s\n%s", got, s.plan("shop"))
		}
		s.oracle()
	})
}

func TestStartupFailureRestarts(t *testing.T) {
	probing(t, func(t *testing.T, s *sim, c *checks) {
		c.set(health.Startup, "shop-web-1", true)
		s.up(shop(svc("web", 1, probe(health.Startup))))
		time.Sleep(8 * time.Second)
		synctest.Wait()
		if n := s.count(0, "start", ""); n != 2 || s.ready("web", 1) {
			t.Errorf("%d starts, ready %t", n, s.ready("web", 1))
		}
		c.set(health.Startup, "shop-web-1", false)
		s.rest()
		if !s.ready("web", 1) {
			t.Errorf("not ready:\n%s", s.plan("shop"))
		}
	})
}

func TestOtherActions(t *testing.T) {
	cases := map[string]struct {
		action health.Action
		want   string
	}{
		"stop":     {health.Action{Do: health.Stop}, "shop-web-1=exited"},
		"pause":    {health.Action{Do: health.Pause}, "shop-web-1=paused"},
		"recreate": {health.Action{Do: health.Recreate}, "shop-web-1=running"},
		"none":     {health.Action{Do: health.Nothing}, "shop-web-1=running"},
		"exec":     {health.Action{Do: health.RunExec, Command: []string{"dump"}}, "shop-web-1=running"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			probing(t, func(t *testing.T, s *sim, k *checks) {
				s.settled(s.up(shop(svc("web", 1, probe(health.Liveness, onFailure(c.action))))))
				time.Sleep(5 * time.Second)
				id := s.get("shop-web-1").ID
				k.set(health.Liveness, "shop-web-1", true)
				time.Sleep(3500 * time.Millisecond)
				synctest.Wait()
				k.set(health.Liveness, "shop-web-1", false)
				s.rest()
				if got := s.list(); got != c.want {
					t.Errorf("%s, not %s\n%s", got, c.want, s.plan("shop"))
				}
				if renewed := s.get("shop-web-1").ID != id; renewed != (name == "recreate") {
					t.Errorf("a new container: %t", renewed)
				}
				if n := s.count(0, "exec", ""); (n == 1) != (name == "exec") {
					t.Errorf("%d commands were run", n)
				}
				if _, err := s.d.act(s.ctx, "shop", &api.ActionRequest{Op: "restart"}); err != nil {
					t.Fatal(err)
				}
				s.rest()
				if got := s.list(); got != "shop-web-1=running" {
					t.Errorf("after a restart by hand: %s\n%s", got, s.plan("shop"))
				}
				s.oracle()
			})
		})
	}
}

func TestWebhook(t *testing.T) {
	var mu sync.Mutex
	var got map[string]any
	status := http.StatusOK
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		_ = json.NewDecoder(r.Body).Decode(&got)
		w.WriteHeader(status)
	}))
	defer srv.Close()
	step := reconcile.Step{Op: reconcile.OpNotify, Service: "web", Slot: 1, Name: "shop-web-1", Cause: "liveness failed", URL: srv.URL + "/token-123"}
	if err := callWebhook(t.Context(), "shop", step); err != nil || got["container"] != "shop-web-1" || got["reason"] != "liveness failed" {
		t.Errorf("told %v: %v", got, err)
	}
	mu.Lock()
	status = http.StatusTeapot
	mu.Unlock()
	err := callWebhook(t.Context(), "shop", step)
	if !runtime.IsUnavailable(err) || !strings.Contains(err.Error(), "418") || strings.Contains(err.Error(), "token-123") {
		t.Errorf("a refusal: %v", err)
	}
	srv.Close()
	if err := callWebhook(t.Context(), "shop", step); err == nil || strings.Contains(err.Error(), "token-123") {
		t.Errorf("nobody there: %v", err)
	}
}

// A dependant that waits in vain tells what its dependency said last.
func TestDependantsNameTheRootCause(t *testing.T) {
	simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
		s.engine.Script("shop/db", fake.Workload{Output: []string{"FATAL: no space left"}, Exits: true, After: time.Second, Code: 3})
		s.up(shop(svc("db", 1), svc("web", 1, after("db", stack.Healthy))))
		s.rest()
		if p := s.plan("shop"); !strings.Contains(p, "exited (3) before it was healthy; its last output: FATAL: no space left") {
			t.Errorf("plan:\n%s", p)
		}
	})
}

// A foreign container that asks for it is restarted when it is unhealthy, slower
// each time; one that does not ask is left alone.
func TestAutoheal(t *testing.T) {
	simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
		ctx := fake.ByHand(t.Context())
		spec := &runtime.Spec{Image: "app", Healthcheck: &runtime.Healthcheck{Test: []string{"CMD", "check"}, Interval: time.Second, Timeout: time.Second, Retries: 2}}
		s.engine.Script("app", fake.Workload{Health: func(time.Duration) bool { return false }})
		for name, labels := range map[string]map[string]string{"sick-one": {LabelAutoheal: "true"}, "sick-two": {}} {
			id, err := s.engine.Create(ctx, name, labels, spec, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.engine.Start(ctx, id); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if n := s.count(0, "restart", ""); n < 4 || n > 8 {
			t.Errorf("%d restarts within 5 minutes:\n%s", n, strings.Join(s.calls(), "\n"))
		}
		for _, call := range s.engine.Calls() {
			if call.Op == "restart" && !strings.Contains(call.Object, s.get("sick-one").ID) && call.Object != "sick-one" {
				t.Errorf("restarted %s", call.Object)
			}
		}
	})
}

// told are the probe events of a stack, as "replica ready" or "replica: why not".
func (s *sim) told(stack string) []string {
	s.t.Helper()
	events, _, _, _ := s.d.loop(stack).feed.since(0)
	var out []string
	for _, e := range events {
		switch {
		case e.Probe == nil:
		case e.Probe.Ready:
			out = append(out, strings.TrimSpace(string(e.Probe.Key)+" ready "+e.Probe.Why))
		default:
			out = append(out, string(e.Probe.Key)+": "+e.Probe.Why)
		}
	}
	return out
}

// What is known already is not told again: a failing liveness changes nothing of
// a replica that is unready by its readiness, nor its recovery of one that is ready.
func TestProbeEventsTellNothingTwice(t *testing.T) {
	probing(t, func(t *testing.T, s *sim, c *checks) {
		none := onFailure(health.Action{Do: health.Nothing})
		s.settled(s.up(shop(svc("web", 1, probe(health.Readiness), probe(health.Liveness, none)))))
		s.rest()
		before := len(s.told("shop"))
		fail := func(role health.Role, bad bool) {
			c.set(role, "shop-web-1", bad)
			time.Sleep(5 * time.Second)
			synctest.Wait()
		}
		fail(health.Readiness, true)
		fail(health.Liveness, true)
		fail(health.Liveness, false)
		fail(health.Readiness, false)
		fail(health.Liveness, true)
		fail(health.Liveness, false)
		got := s.told("shop")[before:]
		want := []string{"web/1: readiness probe failed 3 times in a row: told to fail", "web/1 ready"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// A restart is told as what it is: each reason once.
func TestProbeEventsOfARestart(t *testing.T) {
	probing(t, func(t *testing.T, s *sim, c *checks) {
		s.settled(s.up(shop(svc("web", 1, probe(health.Readiness), probe(health.Liveness)))))
		s.rest()
		before := len(s.told("shop"))
		c.set(health.Liveness, "shop-web-1", true)
		time.Sleep(3500 * time.Millisecond)
		synctest.Wait()
		c.set(health.Liveness, "shop-web-1", false)
		s.rest()
		// A turn may or may not fall between the beginning of the stop and its end.
		got := slices.DeleteFunc(s.told("shop")[before:], func(e string) bool { return e == "web/1: being stopped" })
		want := []string{"web/1: does not run", "web/1: readiness probe has not been answered yet", "web/1 ready"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}
