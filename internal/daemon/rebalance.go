package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/reconcile"
	"github.com/berth-dev/berth/scheduler"
)

func (d *Daemon) handleRebalance(r *http.Request, req *api.Rebalance) (any, error) {
	return d.rebalance(r.Context(), req)
}

// rebalance finds moves that even out or empty nodes, and has the stacks carry
// them out: each move is a request to replace one container by one on another
// node, so that order, readiness and availability count as in any other change.
func (d *Daemon) rebalance(ctx context.Context, req *api.Rebalance) (*api.Rebalanced, error) {
	if err := d.settleNodes(ctx); err != nil {
		return nil, err
	}
	r := &rebalancing{out: &api.Rebalanced{}, moves: map[string][]reconcile.Request{}}
	if err := r.begin(req); err != nil {
		return nil, err
	}
	for _, g := range d.nodes.groups() {
		if r.spent {
			break
		}
		if err := r.group(g); err != nil {
			return nil, err
		}
	}
	if req.Plan {
		return r.out, nil
	}
	var errs []error
	for _, name := range sortedKeys(r.moves) {
		if l := d.loop(name); l != nil {
			turn, err := l.edit(func(before *reconcile.Desired) (*reconcile.Desired, error) {
				return before.WithRequests(r.moves[name]), nil
			}, nil)
			errs = append(errs, err)
			r.out.Accepted = append(r.out.Accepted, api.Accepted{Stack: name, Turn: turn})
		}
	}
	return r.out, errors.Join(errs...)
}

// rebalancing is one rebalance over all groups of nodes.
type rebalancing struct {
	goal   scheduler.Goal
	budget scheduler.Budget // what is left of it
	spent  bool
	out    *api.Rebalanced
	moves  map[string][]reconcile.Request // by stack
}

func (r *rebalancing) begin(req *api.Rebalance) error {
	r.goal = scheduler.Goal(cmp.Or(req.Goal, string(scheduler.GoalBalance)))
	switch r.goal {
	case scheduler.GoalBalance:
		r.out.Figure = "squared use"
	case scheduler.GoalConsolidate:
		r.out.Figure = "nodes in use"
	default:
		return invalid("rebalance", "nodes", fmt.Sprintf("goal %q is neither balance nor consolidate", req.Goal))
	}
	var err error
	if r.budget, err = scheduler.ParseBudget(req.Budget); err != nil {
		return invalid("rebalance", "nodes", err.Error())
	}
	return nil
}

// nodeGroup are nodes that the same stacks may use, and what stands on them.
type nodeGroup struct {
	nodes     []reconcile.Node
	stacks    []string
	residents []reconcile.Resident
}

// groups sorts the stacks by the nodes on which they may stand: replicas move
// among the nodes of their stack only.
func (n *nodes) groups() []*nodeGroup {
	n.mu.Lock()
	declared := sortedKeys(n.declared)
	n.mu.Unlock()
	var list []*nodeGroup
	by := map[string]*nodeGroup{}
	for _, name := range declared {
		n.mu.Lock()
		s := n.declared[name]
		own := n.ledger[name].Residents
		n.mu.Unlock()
		if s == nil {
			continue
		}
		c := n.cluster(s)
		key := nodeNames(c.Nodes)
		g := by[key]
		if g == nil {
			g = &nodeGroup{nodes: c.Nodes, residents: c.Others}
			by[key] = g
			list = append(list, g)
		}
		if len(g.stacks) == 0 {
			g.residents = append(slices.Clone(own), g.residents...)
		}
		g.stacks = append(g.stacks, name)
	}
	return list
}

func nodeNames(list []reconcile.Node) string {
	var names []string
	for i := range list {
		names = append(names, list[i].Name)
	}
	return strings.Join(names, " ")
}

// group rebalances one group.
func (r *rebalancing) group(g *nodeGroup) error {
	c, standing, err := g.cluster()
	if err != nil {
		return err
	}
	found, err := scheduler.Rebalance(c, scheduler.Rebalancing{
		Goal: r.goal, Budget: r.budget, Fixed: func(rep scheduler.Replica) string { return g.fixed(standing[rep.ID]) },
	})
	if err != nil {
		return invalid("rebalance", "nodes "+nodeNames(g.nodes), err.Error())
	}
	for _, m := range found.Moves {
		r.move(standing[m.ID], m)
	}
	for _, f := range found.Fixed {
		r.out.Fixed = append(r.out.Fixed, f.ID+" stays on "+f.Node+": "+f.Reason)
	}
	if found.Reason != "" {
		r.out.Reasons = append(r.out.Reasons, found.Reason)
	}
	r.out.Before += r.figure(found.Before)
	r.out.After += r.figure(found.After)
	if r.budget.Moves > 0 {
		r.budget.Moves -= len(found.Moves)
		r.spent = r.budget.Moves <= 0
	}
	return nil
}

// figure is what the goal is measured by.
func (r *rebalancing) figure(f scheduler.Figures) float64 {
	if r.goal == scheduler.GoalConsolidate {
		return float64(f.InUse)
	}
	return float64(f.SquaredUse) / 1e6
}

func (r *rebalancing) move(res *reconcile.Resident, m scheduler.Move) {
	r.out.Moves = append(r.out.Moves, api.Move{
		Stack: res.Stack, Service: res.Service, Slot: res.Slot, From: m.From, To: m.To, Cause: m.Cause, Gain: m.Gain,
	})
	r.moves[res.Stack] = append(r.moves[res.Stack], reconcile.Request{
		Op: reconcile.RequestMove, Container: res.Container, Node: m.To, Cause: "rebalance: " + m.Cause,
	})
}

// cluster is the scheduler's picture of a group, and its residents by their id.
func (g *nodeGroup) cluster() (*scheduler.Cluster, map[string]*reconcile.Resident, error) {
	c, err := scheduler.New(scheduler.Policy{SharedPorts: true})
	if err != nil {
		return nil, nil, err
	}
	for i := range g.nodes {
		node := g.nodes[i].Node
		node.Cordoned = node.Cordoned || g.nodes[i].Closed || g.nodes[i].Drain != nil
		if err := c.AddNode(node); err != nil {
			return nil, nil, err
		}
	}
	standing := map[string]*reconcile.Resident{}
	for i := range g.residents {
		res := &g.residents[i]
		if _, here := c.Node(res.Node); !here {
			continue
		}
		id := fmt.Sprintf("%s/%s", res.Stack, reconcile.ReplicaKey(res.Service, res.Slot))
		shape, err := c.Register(*res.Template)
		if err != nil {
			return nil, nil, err
		}
		if _, err := c.Assign(shape, res.Node, id); err != nil {
			return nil, nil, err
		}
		if standing[id] != nil {
			res.Fixed = "it is being changed" // it stands on two nodes
		}
		standing[id] = res
	}
	return c, standing, nil
}

// fixed says why a replica must stay where it is.
func (g *nodeGroup) fixed(res *reconcile.Resident) string {
	switch {
	case res.Fixed != "":
		return res.Fixed
	case res.Container == "":
		return "it is being placed"
	case !slices.Contains(g.stacks, res.Stack):
		return "its stack may use other nodes"
	default:
		return ""
	}
}
