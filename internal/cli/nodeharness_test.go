package cli

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/reconcile"
	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/scheduler"
)

// scriptedNodes is the part of the daemon that knows the nodes: it records what
// it is asked, and answers with what the test has given it.
type scriptedNodes struct {
	nodeMu    sync.Mutex // protects all below
	nodes     []api.Node
	asked     []string // "drain edge-1", in order
	added     []*api.NodeRequest
	drains    []time.Duration             // deadlines
	refusals  map[string]error            // by what is asked
	onLook    func(look int, n *api.Node) // changes a node that is looked at for the look-th time
	looks     int                         //
	explained map[string]*api.Explained   // by "stack/service/slot"
	rebalance func(api.Rebalance) *api.Rebalanced
}

func (s *scriptedNodes) ask(what string) error {
	s.asked = append(s.asked, what)
	return s.refusals[what]
}

func (s *scriptedNodes) Nodes(context.Context) ([]api.Node, error) {
	s.nodeMu.Lock()
	defer s.nodeMu.Unlock()
	return slices.Clone(s.nodes), nil
}

func (s *scriptedNodes) Node(_ context.Context, name string) (api.Node, error) {
	s.nodeMu.Lock()
	defer s.nodeMu.Unlock()
	n := s.find(name)
	if n == nil {
		return api.Node{}, &runtime.Error{Kind: runtime.KindNotFound, Op: "find node", Object: name, Err: errors.New("no such node")}
	}
	s.looks++
	if s.onLook != nil {
		s.onLook(s.looks, n)
	}
	return *n, nil
}

func (s *scriptedNodes) find(name string) *api.Node {
	for i := range s.nodes {
		if s.nodes[i].Name == name {
			return &s.nodes[i]
		}
	}
	return nil
}

func (s *scriptedNodes) AddNode(_ context.Context, req *api.NodeRequest) (api.Node, error) {
	s.nodeMu.Lock()
	defer s.nodeMu.Unlock()
	s.added = append(s.added, req)
	return api.Node{Node: req.Node, Status: nodeReady}, s.ask("add " + req.Node.Name)
}

func (s *scriptedNodes) RemoveNode(_ context.Context, name string) error {
	s.nodeMu.Lock()
	defer s.nodeMu.Unlock()
	return s.ask("rm " + name)
}

func (s *scriptedNodes) ActOnNode(_ context.Context, name, action string, req api.NodeAction) (api.Node, error) {
	s.nodeMu.Lock()
	defer s.nodeMu.Unlock()
	if err := s.ask(action + " " + name); err != nil {
		return api.Node{}, err
	}
	n := s.find(name)
	if action == nodeDrain {
		s.drains = append(s.drains, req.Deadline)
		n.Drain, n.Status = &reconcile.Drain{Since: noon()}, "draining"
	}
	return *n, nil
}

func (s *scriptedNodes) Rebalance(_ context.Context, req api.Rebalance) (*api.Rebalanced, error) {
	s.nodeMu.Lock()
	defer s.nodeMu.Unlock()
	return s.rebalance(req), s.ask(strings.Join([]string{"rebalance", req.Goal, req.Budget}, " "))
}

func (s *scriptedNodes) Explain(_ context.Context, stack, service string, slot int) (*api.Explained, error) {
	s.nodeMu.Lock()
	defer s.nodeMu.Unlock()
	key := stack + "/" + string(reconcile.ReplicaKey(service, slot))
	if e := s.explained[key]; e != nil {
		return e, nil
	}
	return nil, &runtime.Error{Kind: runtime.KindNotFound, Op: "explain", Object: key, Err: errors.New("there is no such replica")}
}

// threeNodes are two nodes of zones with replicas, one of them short of memory,
// and the engine itself.
func threeNodes() []api.Node {
	web := &scheduler.Template{Stack: "shop", Service: "web", Priority: 10, Reservation: scheduler.Resources{CPU: 100, Memory: 32 << 20}}
	db := &scheduler.Template{Stack: "shop", Service: "db", Reservation: scheduler.Resources{CPU: 200, Memory: 64 << 20, Generic: map[string]int64{"gpu": 1}}}
	node := func(name, zone string, taints ...scheduler.Taint) stack.Node {
		return stack.Node{Pids: 200, Node: scheduler.Node{
			Name: name, Labels: map[string]string{"zone": zone}, Taints: taints, OS: "linux", Arch: "amd64",
			Capacity: scheduler.Resources{CPU: 500, Memory: 256 << 20, Disk: 1 << 30, Network: 100_000_000, Generic: map[string]int64{"gpu": 2}},
		}}
	}
	return []api.Node{
		{
			Node: node("edge-1", "a"), Status: nodeReady, Declared: []string{"shop"},
			Promised: scheduler.Resources{CPU: 200, Memory: 64 << 20},
			Replicas: []reconcile.Resident{
				{Stack: "shop", Service: "web", Slot: 1, Node: "edge-1", Container: "0123456789abcdef", Started: noon().Add(-2 * time.Hour), Template: web},
				{Stack: "shop", Service: "web", Slot: 3, Node: "edge-1", Template: web},
			},
			Boundary: runtime.Boundary{Parent: "/berth/edge-1", Enforced: true},
			Pressure: &runtime.Pressure{
				Memory: 41 << 20, MemoryLimit: 256 << 20, OOMKills: 3, NodeOOMs: 2, Periods: 900, ThrottledPeriods: 12, Throttled: 340 * time.Millisecond, Pids: 9,
			},
			OOM: &api.NodeOOM{At: noon().Add(-2 * time.Minute), Container: "shop-web-1", ByNode: true},
			Shortage: &api.NodeShortage{
				Since: noon().Add(-3 * time.Minute), Relieved: noon().Add(-time.Minute),
				Evicted: []api.Evicted{{Replica: "shop/batch/2", At: noon().Add(-3 * time.Minute), Why: "node edge-1 is short of memory (250 of 256 MiB in use)"}},
			},
		},
		{
			Node: node("edge-2", "b", scheduler.Taint{Key: "dedicated", Value: "db", Effect: scheduler.NoSchedule}), Status: "draining", Declared: []string{"shop"},
			Promised: db.Reservation, Drain: &reconcile.Drain{Since: noon().Add(-10 * time.Second), Deadline: noon().Add(20 * time.Second)},
			Replicas: []reconcile.Resident{{Stack: "shop", Service: "db", Slot: 1, Node: "edge-2", Container: "fedcba9876543210", Started: noon().Add(-time.Hour), Template: db}},
			Boundary: runtime.Boundary{Why: "the cgroup tree is read-only here; run berth serve as root"},
		},
		{
			Node: stack.Node{Node: scheduler.Node{
				Name: reconcile.LocalNode, Capacity: scheduler.Resources{CPU: 2000, Memory: 8 << 30}, Reserved: scheduler.Resources{CPU: 1000, Memory: 512 << 20},
			}},
			Status: nodeReady, Boundary: runtime.Boundary{Why: "it is the engine itself"},
		},
	}
}
