package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/reconcile"
	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/runtime/fake"
)

// hand is the context of what somebody does to the engine by hand.
func (s *sim) hand() context.Context { return fake.ByHand(s.t.Context()) }

func (s *sim) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// pass lets virtual time pass.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// Fault 4: the state file is torn while the daemon is dead. Whatever is left of
// it, the last good one is taken, and the next up works.
func TestTornState(t *testing.T) {
	for _, keep := range []float64{0, 0.01, 0.3, 0.7, 0.999} {
		t.Run(fmt.Sprint(keep), func(t *testing.T) {
			simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
				s.settled(s.up(shop(svc("web", 3))))
				acc, err := s.d.act(s.ctx, "shop", &api.ActionRequest{Op: "restart"}) // rewrites the file
				s.must(err)
				s.settled(acc)
				pass(time.Minute)
				s.die()
				<-s.gone
				path := s.d.store.path("shop")
				data, err := os.ReadFile(path)
				s.must(err)
				s.must(os.WriteFile(path, data[:int(float64(len(data))*keep)], 0o600))
				before := s.list()
				s.boot()
				pass(5 * time.Minute)
				if n := s.count(0, "remove", ""); n > 0 || s.list() != before {
					t.Errorf("a torn file cost containers: %s, before %s", s.list(), before)
				}
				if !strings.Contains(s.log.String(), "damaged") {
					t.Error("the log does not say that the file is damaged")
				}
				s.settled(s.up(shop(svc("web", 3))))
				s.oracle()
			})
		})
	}
}

// Fault 4, worse: neither the file nor the one before it can be read. The stack
// is not touched, and up says so unless it is told to declare it anew.
func TestStateBeyondRepair(t *testing.T) {
	simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
		s.settled(s.up(shop(svc("web", 2))))
		s.die()
		<-s.gone
		for _, path := range []string{s.d.store.path("shop"), s.d.store.path("shop") + ".prev"} {
			s.must(os.WriteFile(path, []byte("{"), 0o600))
		}
		before := s.list()
		s.boot()
		calls := s.now()
		pass(5 * time.Minute)
		_, err := s.d.up(s.ctx, &api.UpRequest{Stack: shop(svc("web", 1))})
		if err == nil || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("up on a stack whose state cannot be read: %v", err)
		}
		if s.now() > calls || s.list() != before {
			t.Errorf("a stack that cannot be read was changed: %s, before %s", s.list(), before)
		}
		s.settled(s.up(shop(svc("web", 2)), func(r *api.UpRequest) { r.Adopt = true }))
		s.oracle()
		if s.list() != before {
			t.Errorf("declaring it anew changed %s to %s", before, s.list())
		}
	})
}

// Fault 6: all state is deleted while containers run. The next daemon removes
// nothing, and takes the containers over when it is told to.
func TestStateDeleted(t *testing.T) {
	simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
		s.settled(s.up(shop(svc("web", 2), svc("db", 1, mounts("shop_data")))))
		s.die()
		<-s.gone
		s.must(os.RemoveAll(s.dirs.State))
		before, calls := s.list(), s.now()
		s.boot()
		pass(5 * time.Minute)
		if s.now() > calls || s.list() != before {
			t.Fatalf("containers were touched: %s, before %s", s.list(), before)
		}
		_, err := s.d.up(s.ctx, &api.UpRequest{Stack: shop(svc("web", 2), svc("db", 1, mounts("shop_data")))})
		if err != nil && !strings.Contains(err.Error(), "--adopt") {
			t.Errorf("up does not offer to adopt: %v", err)
		}
		s.settled(s.up(shop(svc("web", 2), svc("db", 1, mounts("shop_data"))), func(r *api.UpRequest) { r.Adopt = true }))
		pass(time.Minute)
		if s.list() != before {
			t.Errorf("adopting changed %s to %s", before, s.list())
		}
		if n := s.count(calls, "remove", "") + s.count(calls, "create", ""); n > 0 {
			t.Errorf("adopting replaced containers:\n%s", strings.Join(s.calls()[calls:], "\n"))
		}
	})
}

// Fault 6: only the stack's file is deleted. The stack is shown as lost, left
// alone, and taken up again by up.
func TestStackFileDeleted(t *testing.T) {
	simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
		s.settled(s.up(shop(svc("web", 2))))
		s.die()
		<-s.gone
		s.must(os.RemoveAll(filepath.Dir(s.d.store.path("shop"))))
		calls, before := s.now(), s.list()
		s.boot()
		pass(5 * time.Minute)
		if list := s.d.stacks(); len(list) != 1 || !list[0].Lost {
			t.Errorf("stacks are %+v, want shop as lost", list)
		}
		if s.now() > calls {
			t.Errorf("a lost stack was touched:\n%s", strings.Join(s.calls()[calls:], "\n"))
		}
		s.settled(s.up(shop(svc("web", 2))))
		s.oracle()
		if s.list() != before || s.now() > calls {
			t.Errorf("up changed %s to %s", before, s.list())
		}
	})
}

// Fault 6: a lost stack goes down only when it is told to, and wholly.
func TestLostStackGoesDown(t *testing.T) {
	simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
		s.settled(s.up(shop(svc("web", 2), svc("db", 1))))
		s.die()
		<-s.gone
		s.must(os.RemoveAll(filepath.Dir(s.d.store.path("shop"))))
		s.boot()
		acc, err := s.d.down(s.ctx, "shop", reconcile.Down{})
		s.must(err)
		s.settled(acc)
		pass(time.Minute)
		if left := s.engine.Leftovers(func(kind, _ string, _ map[string]string) bool { return kind == "volume" }); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	})
}

// Fault 7: the process was stopped for ten minutes, and missed what happened.
// Nothing is started or stopped before everything was looked at again.
func TestStoppedProcess(t *testing.T) {
	simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
		s.settled(s.up(shop(svc("web", 3, policy(stack.RestartPolicy{Condition: "any", Delay: time.Second})))))
		s.engine.FaultEvents(fake.DropEvents)
		s.must(s.engine.Restart(s.hand(), "shop-web-1", "", 0))
		s.must(s.engine.Remove(s.hand(), "shop-web-2", false, true))
		l, calls := s.d.loop("shop"), s.now()
		l.mu.Lock()
		l.last = time.Now().Add(-10 * time.Minute)
		l.mu.Unlock()
		l.wakeUp()
		pass(10 * time.Second)
		if n := s.count(calls, "create", "shop-web-2"); n != 1 || s.now() != calls+2 {
			t.Errorf("want web-2 made anew and nothing else:\n%s", strings.Join(s.calls()[calls:], "\n"))
		}
		s.engine.FaultEvents(nil)
		s.oracle()
	})
}

// Faults 9 and 11: the engine stops and takes its containers along. The daemon
// says so, asks now and then, and counts no failure; once the engine is back
// what Berth is to restart is restarted once, side by side but not all at once.
func TestEngineStops(t *testing.T) {
	simulate(t, fake.Options{Latency: map[string]time.Duration{"start": 300 * time.Millisecond}}, func(t *testing.T, s *sim) {
		s.settled(s.up(shop(
			svc("api", 8, policy(stack.RestartPolicy{Condition: "on-failure", Delay: 5 * time.Second, MaxAttempts: 1})),
			svc("db", 1, engineRestarts("always")), svc("once", 1),
		)))
		calls := s.now()
		s.engine.Down(true)
		pass(10 * time.Minute)
		if s.now() != calls {
			t.Errorf("a stopped engine was asked for changes:\n%s", strings.Join(s.calls()[calls:], "\n"))
		}
		if _, err := s.d.up(s.ctx, &api.UpRequest{Stack: shop(svc("api", 1))}); !runtime.IsUnavailable(err) {
			t.Errorf("up while the engine is down: %v, want Unavailable", err)
		}
		if s.d.health.away() == nil {
			t.Error("the daemon does not know that the engine is down")
		}
		s.engine.Up()
		pass(30 * time.Second)
		if n := s.count(calls, "start", ""); n != 8 {
			t.Errorf("%d starts after the engine came back, want one of each api:\n%s", n, strings.Join(s.calls()[calls:], "\n"))
		}
		l := s.d.loop("shop")
		l.mu.Lock()
		if n := len(l.record.Memory.Restarts); n > 0 {
			t.Errorf("the engine's fault counts as restarts: %v", l.record.Memory.Restarts)
		}
		l.mu.Unlock()
		if !strings.Contains(s.list(), "shop-api-8=running") || !strings.Contains(s.list(), "shop-db-1=running") {
			t.Errorf("not all runs again: %s", s.list())
		}
		s.oracle()
	})
}

// Fault 9, without an end of the containers: nothing at all is done to them.
func TestEngineRestartsLive(t *testing.T) {
	simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
		s.settled(s.up(shop(svc("web", 3))))
		calls := s.now()
		s.engine.Down(false)
		pass(time.Minute)
		s.engine.Up()
		pass(time.Minute)
		if s.now() != calls {
			t.Errorf("containers that run on were changed:\n%s", strings.Join(s.calls()[calls:], "\n"))
		}
		s.oracle()
	})
}

// Fault 10: the engine is away, and what happens meanwhile is told to nobody.
func TestEventsLostWhileTheEngineIsAway(t *testing.T) {
	simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
		s.settled(s.up(shop(svc("web", 2, policy(stack.RestartPolicy{Condition: "any", Delay: time.Second})))))
		s.engine.FaultEvents(fake.DropEvents)
		s.must(s.engine.Kill(s.hand(), "shop-web-2", "KILL"))
		s.engine.FaultEvents(nil)
		s.engine.Down(false)
		pass(time.Minute)
		s.engine.Up()
		pass(10 * time.Second)
		if c := s.get("shop-web-2"); c.State != runtime.Running {
			t.Errorf("web-2 is %s after the engine is back", c.State)
		}
		s.oracle()
	})
}

// Fault 12: limits and the engine's restart policy are changed from outside:
// that is drift, and is set back. A service with a policy of Berth's has none
// of the engine's, so that never both act.
func TestPolicyChangedFromOutside(t *testing.T) {
	simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
		s.settled(s.up(shop(
			svc("ours", 1, policy(stack.RestartPolicy{Condition: "any", Delay: time.Second})), svc("theirs", 1, engineRestarts("always")),
		)))
		always := runtime.RestartPolicy{Name: "always"}
		s.must(s.engine.Update(s.hand(), "shop-ours-1", runtime.Limits{}, always))
		s.must(s.engine.Update(s.hand(), "shop-theirs-1", runtime.Limits{Memory: 64 << 20, MemorySwap: 128 << 20}, always))
		pass(10 * time.Second)
		if c := s.get("shop-ours-1"); c.Restart.Active() {
			t.Errorf("the engine restarts what Berth restarts: %+v", c.Restart)
		}
		if c := s.get("shop-theirs-1"); c.Limits.Memory != 0 || c.Restart != always {
			t.Errorf("drift was not set back: %+v %+v", c.Limits, c.Restart)
		}
		s.must(s.engine.Kill(s.hand(), "shop-ours-1", "KILL"))
		pass(10 * time.Second)
		if n := s.count(0, "start", "shop-ours-1"); n != 2 {
			t.Errorf("%d starts, want the first and one restart", n)
		}
		s.oracle()
	})
}

// Fault 14: the engine does not answer about one container. It is unknown and
// left alone; all others are looked after.
func TestOneContainerHangs(t *testing.T) {
	simulate(t, fake.Options{Deadline: 30 * time.Second}, func(t *testing.T, s *sim) {
		anew := policy(stack.RestartPolicy{Condition: "any", Delay: time.Second})
		s.settled(s.up(shop(svc("web", 3, anew))))
		heal := s.engine.Inject(fake.Fault{Op: "inspect", Object: "shop-web-1", Hang: true})
		calls := s.now()
		s.must(s.engine.Kill(s.hand(), "shop-web-1", "KILL"))
		s.must(s.engine.Kill(s.hand(), "shop-web-2", "KILL"))
		pass(10 * time.Minute)
		if c := s.get("shop-web-2"); c.State != runtime.Running {
			t.Errorf("web-2 waits for web-1: %s\n%s", c.State, s.plan("shop"))
		}
		if n := s.count(calls, "start", "shop-web-1"); n > 0 {
			t.Errorf("a container of which nothing is known was started %d times", n)
		}
		heal()
		pass(3 * time.Minute)
		if n := s.count(calls, "start", "shop-web-1"); n != 1 {
			t.Errorf("web-1 was started %d times after it answered again, want once", n)
		}
		s.oracle()
	})
}

// Fault 15: each call takes seconds. As many starts run side by side as are
// allowed, none is lost and none is made twice.
func TestSlowEngine(t *testing.T) {
	slow := map[string]time.Duration{"create": 2 * time.Second, "start": 5 * time.Second, "inspect": time.Second, "list": 2 * time.Second}
	simulate(t, fake.Options{Latency: slow, AddressPools: 31}, func(t *testing.T, s *sim) {
		begin := time.Now()
		s.settled(s.up(shop(svc("web", 60))))
		took := time.Since(begin)
		// 60 creates and 60 starts, 4 side by side of either.
		if floor := 60 / 4 * 5 * time.Second; took < floor || took > floor*3/2 {
			t.Errorf("60 replicas took %s, want about %s", took, floor)
		}
		if n := s.count(0, "create", "") + s.count(0, "start", ""); n != 120 {
			t.Errorf("%d calls for 60 replicas, want 120", n)
		}
		s.oracle()
	})
}

// An urgent start passes a queue of ordinary ones.
func TestCrashPassesTheQueue(t *testing.T) {
	simulate(t, fake.Options{Latency: map[string]time.Duration{"start": 2 * time.Second}}, func(t *testing.T, s *sim) {
		s.settled(s.up(shop(svc("db", 1, policy(stack.RestartPolicy{Condition: "any"})))))
		s.up(shop(svc("db", 1, policy(stack.RestartPolicy{Condition: "any"})), svc("web", 40)))
		pass(5 * time.Second)
		s.must(s.engine.Kill(s.hand(), "shop-db-1", "KILL"))
		pass(6 * time.Second)
		if c := s.get("shop-db-1"); c.State != runtime.Running {
			t.Errorf("the crashed db waits behind 40 ordinary starts: %s\n%s", c.State, s.plan("shop"))
		}
	})
}

// Fault 16: events are dropped, doubled or swapped. A lost one costs a resync
// at most.
func TestFaultyEvents(t *testing.T) {
	for name, f := range map[string]func(runtime.Event) []runtime.Event{
		"dropped": fake.DropEvents, "doubled": fake.DuplicateEvents, "swapped": fake.SwapEvents(),
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
				s.engine.FaultEvents(f)
				s.settled(s.up(shop(svc("web", 3))))
				calls := s.now()
				s.must(s.engine.Remove(s.hand(), "shop-web-2", false, true))
				pass(75 * time.Second)
				if c := s.get("shop-web-2"); c.State != runtime.Running {
					t.Errorf("web-2 is %s after a resync", c.State)
				}
				if s.now() != calls+2 {
					t.Errorf("want one create and one start:\n%s", strings.Join(s.calls()[calls:], "\n"))
				}
				s.oracle()
			})
		})
	}
}

// Fault 17: what is done to containers by hand.
func TestByHand(t *testing.T) {
	simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
		s.settled(s.up(shop(svc("plain", 2), svc("kept", 1, policy(stack.RestartPolicy{Condition: "any", Delay: time.Second})))))
		calls := s.now()
		s.must(s.engine.Remove(s.hand(), "shop-plain-1", false, true))
		pass(time.Second)
		if s.count(calls, "create", "shop-plain-1") != 1 || s.count(calls, "start", "shop-plain-1") != 1 {
			t.Errorf("a removed container is not replaced once:\n%s", strings.Join(s.calls()[calls:], "\n"))
		}
		calls = s.now()
		s.must(s.engine.Stop(s.hand(), "shop-plain-2", "", time.Second))
		s.must(s.engine.Stop(s.hand(), "shop-kept-1", "", time.Second))
		pass(10 * time.Second)
		if s.count(calls, "start", "shop-plain-2") != 0 || s.count(calls, "start", "shop-kept-1") != 1 {
			t.Errorf("the policy does not decide what becomes of stopped containers:\n%s", strings.Join(s.calls()[calls:], "\n"))
		}
		calls = s.now()
		s.must(s.engine.Rename(s.hand(), "shop-kept-1", "renamed"))
		s.oracle()
		acc, err := s.d.down(s.ctx, "shop", reconcile.Down{Volumes: true})
		s.must(err)
		s.settled(acc)
		s.nothingLeft()
		if s.count(calls, "create", "") != 0 {
			t.Error("a renamed container was taken for a missing one")
		}
	})
}

// Fault 19: a removal does not come to an end at first, or a container is dead.
func TestStuckRemoval(t *testing.T) {
	simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
		s.settled(s.up(shop(svc("web", 2))))
		s.must(s.engine.Stop(s.hand(), "shop-web-2", "", 0))
		pass(time.Second)
		s.engine.SetState("shop-web-2", runtime.Dead)
		s.engine.StickRemoval("shop-web-1", 3)
		acc := s.up(shop(svc("web", 2, env("VERSION=2"))))
		if _, err := s.await(acc, "settled", time.Hour); err != nil {
			t.Fatal(err)
		}
		pass(10 * time.Minute)
		s.oracle()
		if got := s.list(); got != "shop-web-1=running shop-web-2=running" {
			t.Errorf("after stuck removals: %s\n%s", got, s.plan("shop"))
		}
	})
}

// Fault 20: a name is held by the ghost of a failed creation: another is taken,
// without an endless loop.
func TestGhostName(t *testing.T) {
	simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
		s.engine.GhostName("shop-web-1")
		acc := s.up(shop(svc("web", 2)))
		if _, err := s.await(acc, "settled", time.Hour); err != nil {
			t.Fatal(err)
		}
		pass(10 * time.Minute)
		if n := s.count(0, "create", ""); n > 6 {
			t.Errorf("%d creations for two replicas:\n%s", n, strings.Join(s.calls(), "\n"))
		}
		if got := s.list(); strings.Count(got, "=running") != 2 {
			t.Errorf("containers are %s\n%s", got, s.plan("shop"))
		}
	})
}

// Fault 20: a name is held by somebody else's container: a clear error, and the
// container is not touched.
func TestForeignName(t *testing.T) {
	simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
		spec := runtime.Spec{Image: "app"}
		id, err := s.engine.Create(s.hand(), "shop-web-2", map[string]string{"mine": "yes"}, &spec, nil)
		s.must(err)
		s.must(s.engine.Start(s.hand(), id))
		before := s.list()
		_, err = s.d.up(s.ctx, &api.UpRequest{Stack: shop(svc("web", 2))})
		if err == nil || !strings.Contains(err.Error(), "shop-web-2") {
			t.Errorf("up: %v, want an error that names the container", err)
		}
		pass(time.Minute)
		if s.now() > 0 || s.list() != before {
			t.Errorf("something was changed: %s", strings.Join(s.calls(), "\n"))
		}
		if names, _ := s.d.store.names(); len(names) > 0 {
			t.Errorf("the refused stack is stored: %v", names)
		}
	})
}

// Fault 45: a foreign container carries our labels, with another owner.
func TestSpoofedLabels(t *testing.T) {
	simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
		s.settled(s.up(shop(svc("web", 1))))
		spec := runtime.Spec{Image: "app"}
		labels := runtime.Identity{Owner: "somebody else", Stack: "shop", Service: "web", Slot: 2, Revision: "x"}.Labels()
		id, err := s.engine.Create(s.hand(), "spoof", labels, &spec, nil)
		s.must(err)
		s.must(s.engine.Start(s.hand(), id))
		pass(5 * time.Minute)
		acc, err := s.d.down(s.ctx, "shop", reconcile.Down{Volumes: true, RemoveOrphans: true})
		s.must(err)
		if _, err := s.await(acc, "settled", time.Hour); err != nil {
			t.Error(err)
		}
		pass(time.Minute)
		if c := s.get("spoof"); c.State != runtime.Running {
			t.Errorf("a foreign container is %s", c.State)
		}
	})
}

// Fault 22: an image is missing and no registry answers. The old revision keeps
// running, the pull is tried again with backoff, and its success is enough.
func TestMissingImage(t *testing.T) {
	simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
		s.settled(s.up(shop(svc("web", 2))))
		s.engine.SetOffline(true)
		s.engine.AddRemote("app:2", fake.Image{})
		failed := s.settle(s.up(shop(svc("web", 2, func(v *stack.Service) { v.Spec.Image = "app:2" }))))
		if len(failed) == 0 || !strings.Contains(failed[0], "app:2") {
			t.Errorf("what failed is %q, want the image named", failed)
		}
		pass(time.Hour)
		if n := s.count(0, "pull", ""); n < 12 || n > 20 {
			t.Errorf("%d pulls in an hour, want a backoff from 10 s to 5 min", n)
		}
		if got := s.list(); got != "shop-web-1=running shop-web-2=running" {
			t.Errorf("the old revision did not keep running: %s", got)
		}
		s.engine.SetOffline(false)
		pass(6 * time.Minute)
		if c := s.get("shop-web-2"); c.Image != "app:2" || c.State != runtime.Running {
			t.Errorf("after the registry is back web-2 runs %s and is %s", c.Image, c.State)
		}
		s.oracle()
	})
}

// Fault 27: the disk is full. A command is refused and nothing is changed; what
// runs is kept running, and with room again all goes on by itself.
func TestFullDisk(t *testing.T) {
	simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
		kept := svc("web", 2, policy(stack.RestartPolicy{Condition: "any", Delay: time.Second}))
		s.settled(s.up(shop(kept)))
		s.full.Store(true)
		calls := s.now()
		_, err := s.d.up(s.ctx, &api.UpRequest{Stack: shop(svc("web", 5))})
		if err == nil || !strings.Contains(err.Error(), "no space") || !strings.Contains(err.Error(), "nothing was changed") {
			t.Errorf("up on a full disk: %v", err)
		}
		pass(time.Minute)
		if s.now() > calls {
			t.Errorf("a refused up changed something:\n%s", strings.Join(s.calls()[calls:], "\n"))
		}
		s.must(s.engine.Kill(s.hand(), "shop-web-1", "KILL"))
		pass(10 * time.Second)
		if c := s.get("shop-web-1"); c.State != runtime.Running {
			t.Errorf("on a full disk web-1 is %s", c.State)
		}
		s.full.Store(false)
		pass(time.Minute)
		stored, _, err := s.d.store.load("shop")
		s.must(err)
		if len(stored.Memory.Restarts["web/1"]) != 1 {
			t.Errorf("the restart was not stored once there was room: %v", stored.Memory.Restarts)
		}
		s.oracle()
	})
}

// Fault 28: thousands of failing calls leave no goroutine behind.
func TestNoLeakOverManyFailures(t *testing.T) {
	simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
		s.settled(s.up(shop(svc("web", 40))))
		heal := s.engine.Inject(fake.Fault{Op: "start", Kind: runtime.KindUnavailable, Err: errors.New("fork: resource temporarily unavailable")})
		acc, err := s.d.act(s.ctx, "shop", &api.ActionRequest{Op: "stop"})
		s.must(err)
		s.settled(acc)
		_, err = s.d.act(s.ctx, "shop", &api.ActionRequest{Op: "start"})
		s.must(err)
		pass(time.Minute)
		before, calls := goruntime.NumGoroutine(), s.now()
		pass(4*time.Hour + 10*time.Minute)
		if n := s.count(calls, "start", ""); n < 9000 || n > 12000 {
			t.Errorf("%d failing starts, want a bounded backoff", n)
		}
		if n := goruntime.NumGoroutine(); n > before+5 {
			t.Errorf("%d goroutines before, %d after", before, n)
		}
		heal()
		pass(2 * time.Minute)
		if got := s.list(); strings.Count(got, "=running") != 40 {
			t.Errorf("it did not recover: %s", got)
		}
		s.oracle()
	})
}

// Fault 29: a port is held by a foreign process: the start fails, says so, and
// is tried again until it succeeds.
func TestPortTaken(t *testing.T) {
	simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
		s.engine.HoldPort(8080, "tcp", true)
		failed := s.settle(s.up(shop(svc("web", 1, port("8080")), svc("db", 1))))
		if len(failed) != 1 || !strings.Contains(failed[0], "8080") {
			t.Errorf("what failed is %q, want the port named", failed)
		}
		pass(10 * time.Minute)
		if n := s.count(0, "start", "shop-web-1"); n < 5 || n > 30 {
			t.Errorf("%d tries in ten minutes", n)
		}
		s.engine.HoldPort(8080, "tcp", false)
		pass(2 * time.Minute)
		if c := s.get("shop-web-1"); c.State != runtime.Running {
			t.Errorf("with the port free again web-1 is %s", c.State)
		}
		s.oracle()
	})
}

// Fault 29: a port is published by another container: up is refused.
func TestPortOfAnotherContainer(t *testing.T) {
	simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
		spec := runtime.Spec{Image: "app", Ports: []runtime.Port{{Target: 80, Published: "8080", Protocol: "tcp"}}}
		id, err := s.engine.Create(s.hand(), "other", nil, &spec, nil)
		s.must(err)
		s.must(s.engine.Start(s.hand(), id))
		_, err = s.d.up(s.ctx, &api.UpRequest{Stack: shop(svc("web", 1, port("8080")))})
		if err == nil || !strings.Contains(err.Error(), "8080") || !strings.Contains(err.Error(), "other") {
			t.Errorf("up: %v, want an error that names port and container", err)
		}
		if s.now() > 0 {
			t.Errorf("a refused up changed something: %s", strings.Join(s.calls(), "\n"))
		}
	})
}

// Fault 30: there is no subnet left. It is said, and with one free all goes on.
func TestNoSubnetLeft(t *testing.T) {
	simulate(t, fake.Options{AddressPools: 2}, func(t *testing.T, s *sim) {
		id, err := s.engine.EnsureNetwork(s.hand(), &runtime.NetworkSpec{Name: "theirs"})
		s.must(err)
		failed := s.settle(s.up(shop(svc("web", 2))))
		if len(failed) == 0 || !strings.Contains(strings.Join(failed, " "), "address pools") {
			t.Errorf("what failed is %q", failed)
		}
		s.must(s.engine.RemoveNetwork(s.hand(), id))
		pass(2 * time.Minute)
		if got := s.list(); got != "shop-web-1=running shop-web-2=running" {
			t.Errorf("with a subnet free again: %s", got)
		}
		s.oracle()
	})
}

// Fault 31: somebody else's container is on the stack's network when it goes
// down. That one is not touched; once it is gone the network goes too.
func TestNetworkInUse(t *testing.T) {
	simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
		s.settled(s.up(shop(svc("web", 1))))
		spec := runtime.Spec{Image: "app", Networks: []runtime.Attachment{{Network: "shop_default"}}}
		id, err := s.engine.Create(s.hand(), "guest", nil, &spec, nil)
		s.must(err)
		s.must(s.engine.Start(s.hand(), id))
		acc, err := s.d.down(s.ctx, "shop", reconcile.Down{Volumes: true})
		s.must(err)
		if failed := s.settle(acc); len(failed) == 0 || !strings.Contains(failed[0], "guest") {
			t.Errorf("what failed is %q, want the guest named", failed)
		}
		if c := s.get("guest"); c.State != runtime.Running {
			t.Errorf("the guest is %s", c.State)
		}
		s.must(s.engine.Remove(s.hand(), "guest", false, true))
		pass(2 * time.Minute)
		s.nothingLeft()
	})
}

// Fault 31: a thousand times up and down leave nothing.
func TestManyUpsAndDowns(t *testing.T) {
	simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
		before := 0
		for i := range 1000 {
			s.settled(s.up(shop(svc("web", 1, mounts("shop_data")))))
			acc, err := s.d.down(s.ctx, "shop", reconcile.Down{Volumes: i%2 == 0})
			s.must(err)
			s.settled(acc)
			if i == 10 {
				before = goruntime.NumGoroutine()
			}
		}
		synctest.Wait()
		if n := goruntime.NumGoroutine(); n > before+5 {
			t.Errorf("%d goroutines after 10 rounds, %d after 1000", before, n)
		}
		if left := s.engine.Leftovers(nil); !slices.Equal(left, []string{"volume shop_data"}) {
			t.Errorf("left behind: %v, want the volume that nobody asked to remove", left)
		}
	})
}

// Fault 34: the engine's clock jumps. What is due is done, once, and no wait
// lasts as long as the jump.
func TestClockJumps(t *testing.T) {
	for _, jump := range []time.Duration{time.Hour, -time.Hour, -20000 * 24 * time.Hour} {
		t.Run(jump.String(), func(t *testing.T) {
			simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
				s.settled(s.up(shop(svc("web", 3, policy(stack.RestartPolicy{Condition: "any", Delay: 5 * time.Second, MaxAttempts: 5, Window: time.Minute})))))
				s.engine.ShiftClock(jump)
				calls := s.now()
				pass(5 * time.Minute)
				if s.now() > calls {
					t.Errorf("the clock's jump caused\n%s", strings.Join(s.calls()[calls:], "\n"))
				}
				s.must(s.engine.Kill(s.hand(), "shop-web-1", "KILL"))
				pass(15 * time.Second)
				if n := s.count(calls, "start", ""); n != 1 {
					t.Errorf("%d starts after one exit", n)
				}
				s.oracle()
			})
		})
	}
}

// Fault 36: a process ignores its stop signal: it is killed after its grace,
// not earlier and not later, and its end during the grace is no failure.
func TestIgnoresStopSignal(t *testing.T) {
	simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
		s.engine.Script("shop/deaf", fake.Workload{IgnoreTerm: true})
		s.engine.Script("shop/slow", fake.Workload{StopTakes: 7 * time.Second, StopCode: 1})
		anew := policy(stack.RestartPolicy{Condition: "any", Delay: time.Second})
		s.settled(s.up(shop(svc("deaf", 1, anew), svc("slow", 1, anew))))
		begin, calls := time.Now(), s.now()
		acc, err := s.d.act(s.ctx, "shop", &api.ActionRequest{Op: "stop"})
		s.must(err)
		s.settled(acc)
		if took := time.Since(begin); took != 10*time.Second {
			t.Errorf("the stop took %s, want the grace of 10s", took)
		}
		deaf, slow := s.get("shop-deaf-1"), s.get("shop-slow-1")
		if deaf.ExitCode != 137 || slow.ExitCode != 1 || slow.Finished.Sub(begin) != 7*time.Second {
			t.Errorf("deaf exited %d, slow %d after %s", deaf.ExitCode, slow.ExitCode, slow.Finished.Sub(begin))
		}
		pass(time.Minute)
		if n := s.count(calls, "start", ""); n > 0 {
			t.Errorf("what was stopped was started %d times", n)
		}
		s.oracle()
	})
}

// Fault 37: the number of restarts outlives the daemon.
func TestRestartsAreRemembered(t *testing.T) {
	simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
		s.engine.Script("shop/web", fake.Exit(2*time.Second, 1))
		s.up(shop(svc("web", 1, policy(stack.RestartPolicy{Condition: "on-failure", Delay: 5 * time.Second, MaxAttempts: 3}))))
		for range 4 {
			pass(6 * time.Second)
			s.reboot()
		}
		pass(10 * time.Minute)
		if n := s.count(0, "start", "shop-web-1"); n != 4 {
			t.Errorf("%d starts, want the first and max_attempts: 3 more", n)
		}
		if !strings.Contains(s.plan("shop"), "max_attempts") {
			t.Errorf("the plan does not say why it stays so:\n%s", s.plan("shop"))
		}
	})
}

// A panic in one stack's turn ends neither the daemon nor its other stacks.
func TestPanicIsContained(t *testing.T) {
	simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
		anew := policy(stack.RestartPolicy{Condition: "any", Delay: time.Second})
		s.settled(s.up(shop(svc("web", 1, anew))))
		other := shop(svc("app", 1, anew))
		other.Name, other.Volumes = "other", nil
		other.Networks[0].Spec.Name, other.Services[0].Spec.Networks[0].Network = "other_default", "other_default"
		s.settled(s.up(other))
		heal := s.engine.Inject(fake.Fault{Match: func(c fake.Call) bool {
			if c.Op == "list" && c.Object == "" || c.Op == "start" && c.Object == "shop-web-1" {
				panic("a mistake")
			}
			return false
		}})
		calls := s.now()
		s.must(s.engine.Kill(s.hand(), "shop-web-1", "KILL")) // the step that follows panics
		pass(3 * time.Second)
		s.d.loop("shop").obs.MarkAll() // and so does the next look
		s.d.loop("shop").wakeUp()
		pass(time.Second)
		if n := strings.Count(s.log.String(), `"panic":"a mistake"`); n < 2 {
			t.Fatalf("%d panics were caused, want one in a step and one in a turn", n)
		}
		s.must(s.engine.Kill(s.hand(), "other-app-1", "KILL"))
		pass(2 * time.Second)
		if c := s.get("other-app-1"); c.State != runtime.Running {
			t.Errorf("the other stack is not kept: %s", c.State)
		}
		heal()
		pass(2 * time.Minute)
		if s.count(calls, "start", "shop-web-1") != 1 {
			t.Errorf("web-1 was not started once after the mistake:\n%s", strings.Join(s.calls()[calls:], "\n"))
		}
		s.oracle()
	})
}

// Fault 8: a newer version wrote the state. It is refused, with the file
// untouched, whatever is asked for.
func TestNewerState(t *testing.T) {
	simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
		s.settled(s.up(shop(svc("web", 2))))
		s.die()
		<-s.gone
		path := s.d.store.path("shop")
		newer := []byte(`{"schema":99,"state":{"from":"the future"}}`)
		s.must(os.WriteFile(path, newer, 0o600))
		s.boot()
		before, calls := s.list(), s.now()
		pass(5 * time.Minute)
		_, upErr := s.d.up(s.ctx, &api.UpRequest{Stack: shop(svc("web", 1)), Adopt: true})
		_, downErr := s.d.down(s.ctx, "shop", reconcile.Down{})
		_, actErr := s.d.act(s.ctx, "shop", &api.ActionRequest{Op: "stop"})
		for _, err := range []error{upErr, downErr, actErr} {
			if err == nil || !strings.Contains(err.Error(), "newer version") {
				t.Errorf("a stack of a newer version: %v", err)
			}
		}
		pass(time.Minute)
		if data, err := os.ReadFile(path); err != nil || string(data) != string(newer) {
			t.Errorf("the newer file was touched: %s %v", data, err)
		}
		if s.list() != before || s.now() > calls {
			t.Errorf("containers were touched: %s, before %s", s.list(), before)
		}
	})
}

// What a later declaration names for the first time is looked up before it is
// decided about.
func TestLaterDeclarationNamesExternals(t *testing.T) {
	simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
		s.settled(s.up(shop(svc("web", 1))))
		_, err := s.engine.EnsureNetwork(s.hand(), &runtime.NetworkSpec{Name: "theirs"})
		s.must(err)
		_, err = s.engine.EnsureVolume(s.hand(), &runtime.VolumeSpec{Name: "their-data"})
		s.must(err)
		s.engine.AddImage("tool", fake.Image{})
		calls := s.now()
		st := shop(svc("web", 1), svc("tool", 1, mounts("their-data"), func(v *stack.Service) {
			v.Spec.Image = "tool"
			v.Spec.Networks = []runtime.Attachment{{Network: "theirs"}}
		}))
		st.Networks = append(st.Networks, stack.Network{Key: "theirs", External: true, Spec: runtime.NetworkSpec{Name: "theirs"}})
		st.Volumes = append(st.Volumes, stack.Volume{Key: "their-data", External: true, Spec: runtime.VolumeSpec{Name: "their-data"}})
		s.settled(s.up(st))
		if s.now() != calls+2 {
			t.Errorf("want one create and one start:\n%s", strings.Join(s.calls()[calls:], "\n"))
		}
		pass(2 * time.Minute)
		if s.now() != calls+2 {
			t.Errorf("it went on:\n%s", strings.Join(s.calls()[calls:], "\n"))
		}
		acc, err := s.d.down(s.ctx, "shop", reconcile.Down{Volumes: true})
		s.must(err)
		s.settled(acc)
		if left := s.engine.Leftovers(nil); !slices.Equal(left, []string{"network theirs", "volume their-data"}) {
			t.Errorf("left are %v, want what was external", left)
		}
	})
}

// An external network or volume that does not exist refuses the declaration.
func TestMissingExternals(t *testing.T) {
	simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
		st := shop(svc("web", 1))
		st.Networks = append(st.Networks, stack.Network{Key: "n", External: true, Spec: runtime.NetworkSpec{Name: "nowhere"}})
		_, err := s.d.up(s.ctx, &api.UpRequest{Stack: st})
		if err == nil || !strings.Contains(err.Error(), "nowhere") {
			t.Errorf("up: %v, want an error that names the network", err)
		}
		if s.now() > 0 {
			t.Errorf("a refused up changed something: %s", strings.Join(s.calls(), "\n"))
		}
	})
}
