package daemon

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/runtime/fake"
)

// measured has every container of a service use so many MiB on its node, read
// anew at each look.
func (s *sim) measured(use func(service string) int64) {
	b := &boundaries{made: map[string]runtime.NodeLimits{}, used: func(node string) runtime.Pressure {
		var p runtime.Pressure
		all, err := s.engine.List(fake.ByHand(context.Background()), runtime.Filter{})
		if err != nil {
			s.t.Error(err)
		}
		for i := range all {
			id, err := runtime.ParseIdentity(all[i].Labels)
			if err != nil || id.Node != node || !all[i].State.Alive() {
				continue
			}
			bytes := use(id.Service) << 20
			p.Memory += bytes
			p.Containers = append(p.Containers, runtime.ContainerPressure{ID: all[i].ID, Memory: bytes})
		}
		return p
	}}
	s.boundaries = func(context.Context, runtime.EngineInfo, string) Boundaries { return b }
	s.reboot()
}

// wait lets virtual time pass.
func (s *sim) wait(d time.Duration) {
	time.Sleep(d)
}

func TestANodeShortOfMemoryShedsOneReplicaAtATime(t *testing.T) {
	simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
		var grown atomic.Bool
		s.measured(func(service string) int64 {
			if service == "web" && grown.Load() {
				return 85
			}
			return 40
		})
		s.settled(s.up(onNodes(shop(svc("web", 2, reserves(50)), svc("db", 1, reserves(60), priority(5))),
			edge("edge-1", 200))))
		s.expect("shop-db-1@edge-1 shop-web-1@edge-1 shop-web-2@edge-1")
		s.rest()
		s.expect("shop-db-1@edge-1 shop-web-1@edge-1 shop-web-2@edge-1") // 60%
		grown.Store(true)
		s.wait(9 * time.Second)
		s.expect("shop-db-1@edge-1 shop-web-1@edge-1 shop-web-2@edge-1") // 105%, not for long
		s.wait(25 * time.Second)
		s.expect("shop-db-1@edge-1 shop-web-1@edge-1") // 62%, which is enough
		s.rest()
		s.expect("shop-db-1@edge-1 shop-web-1@edge-1")
		if plan := s.plan("shop"); !strings.Contains(plan, "evicted: node edge-1 is short of memory") || !strings.Contains(plan, "1 short of memory") {
			t.Errorf("the plan does not say why web/2 waits:\n%s", plan)
		}
		n, err := s.d.nodes.node("edge-1")
		if err != nil || n.Shortage == nil || len(n.Shortage.Evicted) != 1 || n.Shortage.Evicted[0].Replica != "shop/web/2" || n.Shortage.Relieved.IsZero() {
			t.Errorf("the node tells of %+v, %v", n.Shortage, err)
		}
		grown.Store(false)
		s.wait(openAfter)
		s.rest()
		s.expect("shop-db-1@edge-1 shop-web-1@edge-1 shop-web-2@edge-1")
		if n, _ := s.d.nodes.node("edge-1"); n.Shortage != nil {
			t.Errorf("the node still tells of %+v", n.Shortage)
		}
	})
}

func TestAnEvictedReplicaGoesToAnotherNode(t *testing.T) {
	simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
		var use atomic.Int64
		s.measured(func(service string) int64 {
			if service == "web" {
				return use.Load()
			}
			return 10
		})
		on := func(nodes ...stack.Node) *stack.Stack {
			return onNodes(shop(svc("db", 1, reserves(20)), svc("web", 2, reserves(20))), nodes...)
		}
		s.settled(s.up(on(edge("edge-1", 200))))
		s.settled(s.up(on(edge("edge-1", 200), edge("edge-2", 400))))
		s.expect("shop-db-1@edge-1 shop-web-1@edge-1 shop-web-2@edge-1")
		use.Store(150)
		s.rest()
		s.expect("shop-db-1@edge-1 shop-web-1@edge-1 shop-web-2@edge-2")
		if log := s.log.String(); strings.Count(log, "a replica is evicted") != 1 {
			t.Errorf("evicted other than once:\n%s", log)
		}
		s.oracle()
	})
}

// Nothing is gained by evicting the only replica of a node; and each eviction has
// its time.
func TestEvictionsEndAndKeepTheirDistance(t *testing.T) {
	simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
		s.measured(func(string) int64 { return 199 })
		s.settled(s.up(onNodes(shop(svc("web", 4, reserves(10))), edge("edge-1", 200))))
		alive := func() int { return strings.Count(s.where(), "@edge-1") }
		left := []string{fmt.Sprint(alive())}
		for range 12 {
			s.wait(15 * time.Second)
			if n := fmt.Sprint(alive()); n != left[len(left)-1] {
				left = append(left, n)
			}
		}
		if got := strings.Join(left, " "); got != "4 3 2 1" {
			t.Errorf("replicas on the node: %s, want 4 3 2 1", got)
		}
		s.wait(10 * time.Minute)
		if alive() != 1 {
			t.Errorf("%d replicas are left, want 1", alive())
		}
	})
}

// What is known of a node's lack of memory outlives the daemon: the replica that
// had to leave is not placed there again before the node has had its time, the
// reason is still told, and the next eviction keeps its distance.
func TestShortageOutlivesTheDaemon(t *testing.T) {
	simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
		var grown atomic.Bool
		s.measured(func(service string) int64 {
			if service == "web" && grown.Load() {
				return 85
			}
			return 40
		})
		s.settled(s.up(onNodes(shop(svc("web", 2, reserves(50)), svc("db", 1, reserves(60), priority(5))),
			edge("edge-1", 200))))
		grown.Store(true)
		s.wait(35 * time.Second)
		s.expect("shop-db-1@edge-1 shop-web-1@edge-1")
		before, err := s.d.nodes.node("edge-1")
		s.must(err)
		s.reboot()
		s.wait(time.Minute)
		s.expect("shop-db-1@edge-1 shop-web-1@edge-1")
		if plan := s.plan("shop"); !strings.Contains(plan, "evicted: node edge-1 is short of memory") || !strings.Contains(plan, "1 short of memory") {
			t.Errorf("the plan does not say why web/2 waits:\n%s", plan)
		}
		n, err := s.d.nodes.node("edge-1")
		if err != nil || n.Shortage == nil || !n.Shortage.Since.Equal(before.Shortage.Since) || len(n.Shortage.Evicted) != 1 {
			t.Errorf("the node tells of %+v, %v, and told of %+v", n.Shortage, err, before.Shortage)
		}
		grown.Store(false)
		s.wait(openAfter + time.Minute)
		s.expect("shop-db-1@edge-1 shop-web-1@edge-1 shop-web-2@edge-1")
		s.reboot()
		s.wait(time.Minute)
		if n, _ := s.d.nodes.node("edge-1"); n.Shortage != nil {
			t.Errorf("the next daemon still tells of %+v", n.Shortage)
		}
	})
}

// What commands have made of the nodes of one stack outlives the daemon, whichever
// other stacks have nodes of their own.
func TestNodeStatusOfEveryStackOutlivesTheDaemon(t *testing.T) {
	simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
		for _, name := range []string{"alpha", "beta"} {
			st := shop(svc("web", 1))
			st.Name, st.Networks[0].Spec.Name, st.Volumes[0].Spec.Name = name, name+"_default", name+"_data"
			st.Services[0].Spec.Networks = []runtime.Attachment{{Network: name + "_default"}}
			st = onNodes(st, edge(name+"-1", 200))
			s.settled(s.up(st))
		}
		for _, node := range []string{"alpha-1", "beta-1"} {
			s.node(node, "cordon", 0)
		}
		s.reboot()
		for _, node := range []string{"alpha-1", "beta-1"} {
			if n, err := s.d.nodes.node(node); err != nil || !n.Cordoned {
				t.Errorf("node %s is not cordoned any more: %+v, %v", node, n, err)
			}
		}
	})
}
