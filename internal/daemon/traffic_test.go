package daemon

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/health"
	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/balance"
	"github.com/berth-dev/berth/internal/reconcile"
	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/runtime/fake"
)

// version is a command line that differs, so that replicas are replaced, one at a
// time in the order.
func version(n string, order stack.Order) func(*stack.Service) {
	return func(s *stack.Service) {
		s.Spec.Command = []string{n}
		s.Update = stack.DefaultUpdate()
		s.Update.Order, s.Update.Monitor = order, time.Minute
	}
}

// rolled are the rollout events of a stack, as "web updating 1/3".
func (s *sim) rolled(name string) []string {
	events, _, _, _ := s.d.loop(name).feed.since(0)
	var list []string
	for _, e := range events {
		if r := e.Rollout; e.Type == api.EventRollout {
			list = append(list, strings.TrimSpace(fmt.Sprintf("%s %s %d/%d %s", r.Service, r.State, r.Done, r.Total, r.Why)))
		}
	}
	return list
}

func TestRolloutIsToldReplicaByReplica(t *testing.T) {
	simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
		s.settled(s.up(shop(svc("web", 3, version("1", stack.StopFirst)))))
		before := len(s.rolled("shop"))
		s.settled(s.up(shop(svc("web", 3, version("2", stack.StopFirst)))))
		time.Sleep(2 * time.Minute) // its monitor time passes
		want := []string{"web updating 0/3", "web updating 1/3", "web updating 2/3", "web updating 3/3", "web completed 3/3"}
		if diff := cmp.Diff(want, s.rolled("shop")[before:]); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// Who waits until a stack is ready waits for the end of its rollouts; who waits
// until it is settled does not.
func TestReadyMeansTheRolloutHasEnded(t *testing.T) {
	simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
		s.settled(s.up(shop(svc("web", 2, version("1", stack.StopFirst)))))
		began := time.Now()
		acc := s.up(shop(svc("web", 2, version("2", stack.StopFirst))))
		s.settled(acc)
		if took := time.Since(began); took >= 2*time.Minute {
			t.Errorf("settled after %s, which is after the monitor times of the first and of the last replica", took)
		}
		if failed, err := s.await(acc, "ready", time.Hour); err != nil || len(failed) > 0 {
			t.Fatal(failed, err)
		}
		if took := time.Since(began); took < 2*time.Minute {
			t.Errorf("ready after %s, which is before these times have passed", took)
		}
		if r := s.rolloutOf("web"); r.Rollout == nil || r.Rollout.State != reconcile.RolloutCompleted {
			t.Errorf("the rollout is %+v", r.Rollout)
		}
	})
}

func (s *sim) rolloutOf(service string) api.RolloutStatus {
	s.t.Helper()
	all, err := s.d.rollouts(s.ctx, "shop")
	if err != nil {
		s.t.Fatal(err)
	}
	for _, r := range all.Services {
		if r.Service == service {
			return r
		}
	}
	s.t.Fatalf("no service %s in %+v", service, all)
	return api.RolloutStatus{}
}

// A rollout that somebody has paused never becomes ready by itself: who waits is
// told so.
func TestReadyDoesNotWaitForAPausedRollout(t *testing.T) {
	simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
		s.settled(s.up(shop(svc("web", 2, version("1", stack.StopFirst)))))
		if _, err := s.d.controlRollout(s.ctx, "shop", &api.RolloutRequest{Op: api.RolloutPause}); err != nil {
			t.Fatal(err)
		}
		acc := s.up(shop(svc("web", 2, version("2", stack.StopFirst))))
		failed, err := s.await(acc, "ready", time.Hour)
		want := []string{"service web: its rollout is paused by command; berth rollout resume web goes on"}
		if diff := cmp.Diff(want, failed); diff != "" || err != nil {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
	})
}

// While a successor starts, the old container still serves, and is told so.
func TestOldContainersServeDuringARollout(t *testing.T) {
	probing(t, func(t *testing.T, s *sim, c *checks) {
		s.settled(s.up(shop(svc("web", 2, version("1", stack.StartFirst), probe(health.Readiness)))))
		s.rest()
		old := s.get("shop-web-1").ID
		c.name = func(id string) string { // of the new ones, none becomes ready
			got, err := s.engine.Inspect(fake.ByHand(context.WithoutCancel(t.Context())), id)
			if err != nil || len(got.Command) == 0 {
				return ""
			}
			return got.Command[0]
		}
		c.set(health.Readiness, "2", true)
		s.up(shop(svc("web", 2, version("2", stack.StartFirst), probe(health.Readiness))))
		s.rest()
		st, err := s.d.status(s.ctx, "shop", true)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range append(st.Replicas, st.Beside...) {
			which := "new"
			if strings.Join(r.Container.Command, "") == "1" {
				which = "old"
			}
			got = append(got, fmt.Sprintf("%d %s ready=%t serves=%t", r.Slot, which, r.Ready, r.Serves))
		}
		want := []string{"1 new ready=false serves=false", "2 old ready=false serves=true", "1 old ready=false serves=true"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s\n%s", diff, s.plan("shop"))
		}
		if st.Beside[0].Container.ID != old {
			t.Errorf("beside is %s, want %s", st.Beside[0].Container.ID, old)
		}
	})
}

func TestPublishedPortsAreToldAsTheEngineTellsThem(t *testing.T) {
	front := balance.Frontend{Key: balance.Key{Stack: "shop", Service: "web"}, Protocol: balance.TCP, Port: 8090, Target: 8080}
	local := front
	local.Host = netip.MustParseAddr("127.0.0.1")
	for _, c := range []struct {
		name string
		s    balance.FrontendStatus
		want api.Published
	}{
		{
			"both families", balance.FrontendStatus{Frontend: front, Bound: netip.MustParseAddrPort("[::]:8090"), Open: 2},
			api.Published{
				Service: "web", Protocol: "tcp", Port: 8090, Target: 8080, Open: 2,
				Bound: []runtime.BoundPort{{HostIP: "0.0.0.0", HostPort: 8090, Target: 8080, Protocol: "tcp"}, {HostIP: "::", HostPort: 8090, Target: 8080, Protocol: "tcp"}},
			},
		},
		{
			"one address", balance.FrontendStatus{Frontend: local, Bound: netip.MustParseAddrPort("127.0.0.1:8090")},
			api.Published{
				Service: "web", Protocol: "tcp", Host: "127.0.0.1", Port: 8090, Target: 8080,
				Bound: []runtime.BoundPort{{HostIP: "127.0.0.1", HostPort: 8090, Target: 8080, Protocol: "tcp"}},
			},
		},
		{
			"held by another", balance.FrontendStatus{Frontend: front, Reason: "address already in use", Holder: &balance.Process{PID: 812, Command: "nginx"}},
			api.Published{Service: "web", Protocol: "tcp", Port: 8090, Target: 8080, Reason: "address already in use", Holder: "nginx (process 812)"},
		},
	} {
		if diff := cmp.Diff(c.want, publishedAs(&c.s)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

// fakePools is a balancer that carries nothing: it tells of one pool.
type fakePools struct{ pool balance.PoolStatus }

func (fakePools) Seize(context.Context, balance.Key) bool { return true }

func (fakePools) Apply(context.Context, []balance.Frontend) []balance.FrontendStatus { return nil }
func (fakePools) Route(balance.Key, balance.Routing) error                           { return nil }
func (p fakePools) Pool(k balance.Key) (balance.PoolStatus, bool) {
	return p.pool, k == p.pool.Pool
}

func TestTrafficNamesTheContainers(t *testing.T) {
	simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
		s.settled(s.up(shop(svc("web", 2))))
		id := s.get("shop-web-2").ID
		s.end() // nobody else looks at the balancer
		s.d.balancing.b = fakePools{balance.PoolStatus{
			Pool: balance.Key{Stack: "shop", Service: "web"}, Policy: balance.RoundRobin, Open: 3, Retries: 1,
			Refused:  map[balance.RefusedReason]uint64{balance.RefusedHoldTime: 4},
			Counters: balance.Counters{Connections: 9, FailedConnects: 2, BytesIn: 10, BytesOut: 20},
			Backends: []balance.BackendStatus{{ID: "gone", Open: 1}, {ID: id, Routed: true, Open: 2, Counters: balance.Counters{Connections: 5}}},
		}}
		l := s.d.loop("shop")
		l.mu.Lock()
		defer l.mu.Unlock()
		want := &api.Traffic{
			Policy: "round-robin", Routed: 1, Open: 3, Retries: 1, Refused: map[string]uint64{"hold time": 4},
			Flow:     api.Flow{Connections: 9, FailedConnects: 2, BytesIn: 10, BytesOut: 20},
			Backends: []api.Backend{{Container: "gone", Open: 1}, {Container: "shop-web-2", Slot: 2, Routed: true, Open: 2, Flow: api.Flow{Connections: 5}}},
		}
		if diff := cmp.Diff(want, l.trafficLocked("web", 0)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if one := l.trafficLocked("web", 1); len(one.Backends) != 0 || one.Routed != 1 || one.Open != 3 {
			t.Errorf("of replica 1: %+v", one)
		}
		if none := l.trafficLocked("db", 0); none != nil {
			t.Errorf("of a service that is not balanced: %+v", none)
		}
	})
}

// What goes back of itself does not count as a revision to go back to.
func TestUndoPassesOverWhatWasRolledBack(t *testing.T) {
	simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
		s.engine.AddImage("bad", fake.Image{})
		s.engine.Script("bad", fake.Exit(time.Second, 1))
		take := func(n, image string) []string {
			return s.settle(s.up(shop(svc("web", 2, version(n, stack.StartFirst), func(svc *stack.Service) {
				svc.Spec.Image = image
				svc.Update.Action = stack.RollBackOnFailure
			}))))
		}
		for _, n := range []string{"1", "2"} {
			if failed := take(n, "app"); len(failed) > 0 {
				t.Fatal(failed)
			}
			time.Sleep(2 * time.Minute)
		}
		failed := take("3", "bad")
		if len(failed) != 1 || !strings.HasPrefix(failed[0], "service web: rolled back: 1 of 2 replicas failed: ") {
			t.Fatalf("failed with %q", failed)
		}
		acc, err := s.d.undo(s.ctx, "shop", &api.UndoRequest{})
		if err != nil {
			t.Fatal(err)
		}
		s.settled(acc)
		if got := s.get("shop-web-1").Command; strings.Join(got, "") != "1" {
			t.Errorf("web runs revision %q, want that of the first up", got)
		}
	})
}

// A container that was stopped for a successor that does not work is started
// again when the service goes back, whatever its restart policy is.
func TestRollBackStartsWhatWasStopped(t *testing.T) {
	simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
		s.engine.AddImage("bad", fake.Image{})
		s.engine.Script("bad", fake.Exit(0, 1))
		roll := func(image string) func(*stack.Service) {
			return func(svc *stack.Service) {
				svc.Spec.Image = image
				svc.Update.Action = stack.RollBackOnFailure
			}
		}
		s.settled(s.up(shop(svc("web", 3, version("1", stack.StopFirst), roll("app")))))
		time.Sleep(2 * time.Minute)
		if failed := s.settle(s.up(shop(svc("web", 3, version("2", stack.StopFirst), roll("bad"))))); len(failed) != 1 {
			t.Fatalf("failed with %q", failed)
		}
		if got, want := s.list(), "shop-web-1=running shop-web-2=running shop-web-3=running"; got != want {
			t.Errorf("there is %s, want %s; the plan is\n%s", got, want, s.plan("shop"))
		}
		s.oracle()
	})
}
