package daemon

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/reconcile"
	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/runtime/fake"
	"github.com/berth-dev/berth/scheduler"
)

// edge is a node of half a core and so many MiB.
func edge(name string, memory int64) stack.Node {
	return stack.Node{Node: scheduler.Node{Name: name, Capacity: scheduler.Resources{CPU: 500, Memory: memory << 20}}}
}

// onNodes has a stack declare nodes.
func onNodes(st *stack.Stack, nodes ...stack.Node) *stack.Stack {
	st.Nodes = nodes
	for i := range st.Services {
		st.Services[i].Placement.Stack, st.Services[i].Placement.Service = st.Name, st.Services[i].Name
	}
	return st
}

func reserves(memory int64) func(*stack.Service) {
	return func(s *stack.Service) { s.Placement.Reservation.Memory = memory << 20 }
}

func priority(p int) func(*stack.Service) {
	return func(s *stack.Service) { s.Placement.Priority = p }
}

// called gives a stack another name.
func called(name string, st *stack.Stack) *stack.Stack {
	st.Name = name
	st.Networks, st.Volumes = nil, nil
	for i := range st.Services {
		st.Services[i].Spec.Networks = nil
		st.Services[i].Placement.Stack = name
	}
	return st
}

// where is "container@node" of every container that lives, sorted by name.
func (s *sim) where() string {
	s.t.Helper()
	all, err := s.engine.List(fake.ByHand(s.t.Context()), runtime.Filter{})
	if err != nil {
		s.t.Fatal(err)
	}
	var parts []string
	for i := range all {
		if all[i].State.Alive() {
			parts = append(parts, all[i].Name+"@"+all[i].Labels[runtime.LabelNode])
		}
	}
	return strings.Join(parts, " ")
}

// node carries out an action on a node and lets everything come to rest.
func (s *sim) node(name, action string, deadline time.Duration) {
	s.t.Helper()
	_, err := s.d.changeNode(s.ctx, name, func() error {
		return s.d.nodes.act(s.d.store.saveNodes, name, action, &api.NodeAction{Deadline: deadline}, time.Now())
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.rest()
}

// rest lets whatever is under way come to an end.
func (s *sim) rest() {
	time.Sleep(2 * time.Minute)
	synctest.Wait()
}

func (s *sim) expect(where string) {
	s.t.Helper()
	if got := s.where(); got != where {
		s.t.Errorf("there is\n%s\nwanted\n%s\nplan:\n%s", got, where, s.plan("shop"))
	}
}

func TestNodesLive(t *testing.T) {
	simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
		s.settled(s.up(onNodes(shop(svc("web", 2, reserves(100))), edge("edge-1", 256), edge("edge-2", 256), edge("edge-3", 256))))
		s.expect("shop-web-1@edge-1 shop-web-2@edge-2")

		s.node("edge-1", "drain", 0)
		s.expect("shop-web-1@edge-3 shop-web-2@edge-2")
		if n, _ := s.d.nodes.node("edge-1"); n.Status != "drained" {
			t.Errorf("an emptied node is %s", n.Status)
		}
		s.reboot() // what commands have made of nodes outlives the daemon
		s.rest()
		s.node("edge-2", "fail", 0)
		s.expect("shop-web-1@edge-3 shop-web-2@edge-3")
		s.node("edge-1", "uncordon", 0)
		s.node("edge-2", "recover", 0)
		s.expect("shop-web-1@edge-3 shop-web-2@edge-3") // nothing moves by itself
		s.oracle()
	})
}

func TestTwoStacksShareANode(t *testing.T) {
	simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
		s.settled(s.up(onNodes(shop(svc("web", 1, reserves(200))), edge("edge-1", 256))))
		second := called("second", onNodes(shop(svc("web", 1, reserves(200))), edge("edge-1", 256)))
		failed := s.settle(s.up(second))
		if len(failed) != 1 || !strings.Contains(failed[0], "0/1 node: 1 insufficient memory (needs 200M, 56M free on edge-1)") {
			t.Errorf("a full node is taken, or not explained: %q", failed)
		}
		if _, err := s.d.down(s.ctx, "shop", reconcile.Down{Volumes: true}); err != nil {
			t.Fatal(err)
		}
		s.rest()
		s.expect("second-web-1@edge-1") // as soon as there is room
		s.oracle()
	})
}

func TestAnotherStacksReplicaMakesRoom(t *testing.T) {
	simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
		s.settled(s.up(onNodes(shop(svc("web", 1, reserves(200))), edge("edge-1", 256))))
		s.settled(s.up(called("second", onNodes(shop(svc("db", 1, reserves(200), priority(10))), edge("edge-1", 256)))))
		s.rest()
		s.expect("second-db-1@edge-1")
		if p := s.plan("shop"); !strings.Contains(p, "insufficient memory") {
			t.Errorf("the displaced replica does not say why it waits:\n%s", p)
		}
		if n := s.count(0, "kill", ""); n > 0 {
			t.Error("it was killed, not stopped with grace")
		}
		s.oracle()
	})
}

func TestNodesThatCannotBe(t *testing.T) {
	simulate(t, fake.Options{CPUs: 2, Memory: 1 << 30}, func(t *testing.T, s *sim) {
		s.settled(s.up(onNodes(shop(svc("web", 1)), edge("edge-1", 256))))
		refused := func(what string, err error, words ...string) {
			t.Helper()
			if err == nil {
				t.Errorf("%s: not refused", what)
				return
			}
			for _, w := range words {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%s: %q is not in: %v", what, w, err)
				}
			}
		}
		_, err := s.d.up(s.ctx, &api.UpRequest{Stack: called("second", onNodes(shop(svc("web", 1)), edge("edge-1", 128)))})
		refused("a node declared differently", err, "edge-1", "stack shop")
		_, err = s.d.up(s.ctx, &api.UpRequest{Stack: called("second", onNodes(shop(svc("web", 1)), edge("edge-2", 900)))})
		refused("more memory than there is", err, "edge-1, edge-2", "1156 MiB", "1024 MiB", "overcommit")
		over := called("second", onNodes(shop(svc("web", 1)), edge("edge-2", 900)))
		over.Overcommit = true
		s.settled(s.up(over))

		add := func(n stack.Node, overcommit bool) error {
			return s.d.nodes.add(s.d.store.saveNodes, &api.NodeRequest{Node: n, Overcommit: overcommit})
		}
		refused("a name that is taken", add(edge("edge-1", 256), true), "edge-1", "already")
		refused("the engine's own name", add(edge("local", 256), true), "local")
		refused("too large", add(edge("edge-9", 2000), false), "edge-9", "--overcommit")
		refused("removal of a declared node", s.d.removeNode(s.ctx, "edge-1"), "stack shop")
		refused("removal of nothing", s.d.removeNode(s.ctx, "edge-7"), "edge-7")
		refused("an action on nothing", s.d.nodes.act(s.d.store.saveNodes, "edge-7", "drain", &api.NodeAction{}, time.Now()), "edge-7")
		refused("a failed engine", s.d.nodes.act(s.d.store.saveNodes, "local", "fail", &api.NodeAction{}, time.Now()), "engine itself")
	})
}

func TestNodesByCommand(t *testing.T) {
	simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
		plain := shop(svc("web", 1, reserves(100)))
		s.settled(s.up(plain))
		s.expect("shop-web-1@")
		add := &api.NodeRequest{Node: edge("edge-1", 256)}
		if _, err := s.d.changeNode(s.ctx, "edge-1", func() error { return s.d.nodes.add(s.d.store.saveNodes, add) }); err != nil {
			t.Fatal(err)
		}
		s.rest()
		s.expect("shop-web-1@") // it stays where it is; what is new goes to the node
		if _, err := s.d.act(s.ctx, "shop", &api.ActionRequest{Op: "scale", Scale: map[string]int{"web": 2}}); err != nil {
			t.Fatal(err)
		}
		s.rest()
		s.expect("shop-web-1@ shop-web-2@edge-1")
		err := s.d.removeNode(s.ctx, "edge-1")
		if !runtime.IsConflict(err) || !strings.Contains(err.Error(), "shop/web/2 is on it") {
			t.Errorf("a node in use: %v", err)
		}
		s.node("edge-1", "drain", 0)
		s.oracle()
	})
}

// boundaries pretend to make cgroups.
type boundaries struct {
	mu   sync.Mutex // protects all below
	made map[string]runtime.NodeLimits
	fail error
	used func(node string) runtime.Pressure // nil: nothing is
}

func (b *boundaries) Ensure(_ context.Context, node string, l runtime.NodeLimits) (runtime.Boundary, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail != nil {
		return runtime.Boundary{}, b.fail
	}
	b.made[node] = l
	return runtime.Boundary{Parent: "/berth/" + node, Enforced: true}, nil
}

func (b *boundaries) Remove(_ context.Context, node string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.made, node)
	return nil
}

func (b *boundaries) List(context.Context) ([]string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return sortedKeys(b.made), nil
}

func (b *boundaries) Pressure(_ context.Context, node string) (runtime.Pressure, error) {
	if b.used == nil {
		return runtime.Pressure{}, nil
	}
	p := b.used(node)
	b.mu.Lock()
	defer b.mu.Unlock()
	p.MemoryLimit = b.made[node].Memory
	return p, nil
}

func (b *boundaries) setFail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fail = err
}

func TestBoundariesComeFirstAndGoLast(t *testing.T) {
	simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
		b := &boundaries{made: map[string]runtime.NodeLimits{}, fail: errors.New("read-only file system")}
		s.boundaries = func(context.Context, runtime.EngineInfo, string) Boundaries { return b }
		s.reboot()
		s.settled(s.up(onNodes(shop(svc("web", 1, reserves(100))), edge("edge-1", 256))))
		if n, _ := s.d.nodes.node("edge-1"); n.Boundary.Enforced || !strings.Contains(n.Boundary.Why, "read-only") {
			t.Errorf("a boundary that cannot be made is shown as %+v", n.Boundary)
		}
		b.setFail(nil)
		s.rest()
		if n, _ := s.d.nodes.node("edge-1"); !n.Boundary.Enforced {
			t.Errorf("it was not tried again: %+v", n.Boundary)
		}
		if _, err := s.d.act(s.ctx, "shop", &api.ActionRequest{Op: "scale", Scale: map[string]int{"web": 2}}); err != nil {
			t.Fatal(err)
		}
		s.rest()
		if _, err := s.d.down(s.ctx, "shop", reconcile.Down{Volumes: true}); err != nil {
			t.Fatal(err)
		}
		s.rest()
		if left, _ := b.List(s.ctx); len(left) > 0 {
			t.Errorf("boundaries of nodes that are no more: %v", left)
		}
		s.nothingLeft()
	})
}

// nodeLife is the life of a stack on nodes that come and go.
func nodeLife() story {
	small := func() *stack.Stack {
		return onNodes(shop(svc("web", 2, reserves(100)), svc("db", 1, reserves(150), priority(5))),
			edge("edge-1", 256), edge("edge-2", 256), edge("edge-3", 256))
	}
	act := func(name, action string) func(s *sim) (api.Accepted, error) {
		return func(s *sim) (api.Accepted, error) {
			_, err := s.d.changeNode(s.ctx, name, func() error {
				return s.d.nodes.act(s.d.store.saveNodes, name, action, &api.NodeAction{}, time.Now())
			})
			if err == nil {
				s.rest()
				err = s.ctx.Err()
			}
			return api.Accepted{Stack: "shop"}, err
		}
	}
	return story{
		func(s *sim) (api.Accepted, error) { return s.d.up(s.ctx, &api.UpRequest{Stack: small()}) },
		act("edge-1", "drain"),
		act("edge-1", "uncordon"),
		act("edge-2", "fail"),
		act("edge-2", "recover"),
		func(s *sim) (api.Accepted, error) { return s.d.down(s.ctx, "shop", reconcile.Down{Volumes: true}) },
	}
}

// The daemon is killed after every call while nodes are drained and fail: the
// next one takes the story to the same end, and no node ever promises more than
// it has.
func TestKillAfterEveryCallOnNodes(t *testing.T) {
	total := 0
	simulate(t, fake.Options{}, func(_ *testing.T, s *sim) {
		nodeLife().play(s)
		s.awaitGone()
		s.nothingLeft()
		total = s.now()
	})
	if !t.Failed() {
		killAfterEvery(t, total, nodeLife, func(*fake.Engine) {})
	}
}

func TestRebalance(t *testing.T) {
	simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
		s.settled(s.up(onNodes(shop(svc("web", 4, reserves(50))), edge("edge-1", 256), edge("edge-2", 256))))
		s.node("edge-2", "drain", 0)
		s.node("edge-2", "uncordon", 0)
		s.expect("shop-web-1@edge-1 shop-web-2@edge-1 shop-web-3@edge-1 shop-web-4@edge-1")
		ask := func(req api.Rebalance) *api.Rebalanced {
			t.Helper()
			out, err := s.d.rebalance(s.ctx, &req)
			if err != nil {
				t.Fatal(err)
			}
			s.rest()
			return out
		}
		if out := ask(api.Rebalance{Plan: true}); len(out.Moves) != 2 || out.After >= out.Before {
			t.Errorf("proposed: %+v", out)
		}
		s.expect("shop-web-1@edge-1 shop-web-2@edge-1 shop-web-3@edge-1 shop-web-4@edge-1") // only told
		if out := ask(api.Rebalance{Budget: "1"}); len(out.Moves) != 1 {
			t.Errorf("a budget of one: %+v", out)
		}
		ask(api.Rebalance{})
		if out := ask(api.Rebalance{}); len(out.Moves) != 0 {
			t.Errorf("a second rebalance moves %+v", out.Moves)
		}
		n, _ := s.d.nodes.node("edge-2")
		if len(n.Replicas) != 2 {
			t.Errorf("edge-2 has %d of 4 replicas", len(n.Replicas))
		}
		ask(api.Rebalance{Goal: "consolidate"})
		all := s.d.nodes.list()
		if a, b := len(all[0].Replicas), len(all[1].Replicas); a*b != 0 || a+b != 4 {
			t.Errorf("consolidated to %d and %d", a, b)
		}
		if _, err := s.d.rebalance(s.ctx, &api.Rebalance{Goal: "tidy"}); err == nil || !strings.Contains(err.Error(), "tidy") {
			t.Errorf("an unknown goal: %v", err)
		}
		if _, err := s.d.rebalance(s.ctx, &api.Rebalance{Budget: "half"}); err == nil || !strings.Contains(err.Error(), "half") {
			t.Errorf("a bad budget: %v", err)
		}
		s.oracle()
	})
}

// A replica that crashes again and again does not keep a node from being drained:
// those that serve move one at a time, and none of them is missing meanwhile.
func TestDrainBesideACrashingReplica(t *testing.T) {
	for name, lasts := range map[string]time.Duration{"from the beginning": 100 * time.Millisecond, "later": time.Minute} {
		t.Run(name, func(t *testing.T) { drainBesideACrashingReplica(t, lasts) })
	}
}

func drainBesideACrashingReplica(t *testing.T, lasts time.Duration) {
	simulate(t, overlapping(fake.Options{}), func(t *testing.T, s *sim) {
		s.engine.Script("shop-web-2", fake.Exit(lasts, 1))
		restarts := func(v *stack.Service) {
			v.Restart = &stack.RestartPolicy{Condition: "any", Delay: time.Hour}
			v.Update = stack.DefaultUpdate()
		}
		s.up(onNodes(shop(svc("web", 3, reserves(50), restarts)), edge("edge-1", 256), edge("edge-2", 256), edge("edge-3", 256)))
		s.rest()
		s.expect("shop-web-1@edge-1 shop-web-3@edge-3")
		fewest, over := 9, make(chan struct{})
		watch, stop := context.WithCancel(s.ctx)
		go func() {
			defer close(over)
			for watch.Err() == nil {
				up := s.where()
				fewest = min(fewest, strings.Count(up, "shop-web-1")+strings.Count(up, "shop-web-3"))
				time.Sleep(10 * time.Millisecond)
			}
		}()
		s.node("edge-1", "drain", 0)
		stop()
		<-over
		if got := s.where(); strings.Contains(got, "edge-1") || !strings.Contains(got, "shop-web-1@") || !strings.Contains(got, "shop-web-3@") {
			t.Errorf("after the drain there is %s\n%s", got, s.plan("shop"))
		}
		if n, _ := s.d.nodes.node("edge-1"); n.Status != "drained" {
			t.Errorf("the node is %s", n.Status)
		}
		if fewest < 2 {
			t.Errorf("only %d of the two that serve were there at once", fewest)
		}
	})
}
