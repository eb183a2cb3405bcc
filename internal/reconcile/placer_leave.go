package reconcile

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/scheduler"
)

// displace finds the containers that must leave their nodes. A job that is done
// need not: it would be run a second time.
func (p *placer) displace() {
	for _, svc := range p.v.order {
		for _, cs := range p.v.replicas[svc.Name] {
			for _, c := range cs {
				if p.v.done(svc, c) {
					continue
				}
				if l := p.leaves(svc, c); l.why != "" {
					p.leave[c.ID] = l
					p.lookAt(l.until)
				}
			}
		}
	}
}

// lookAt has the stack looked at again at a time; zero: it need not be.
func (p *placer) lookAt(t time.Time) {
	if !t.IsZero() && (p.wake.IsZero() || t.Before(p.wake)) {
		p.wake = t
	}
}

// leaves says why one container must leave its node; empty when it may stay.
func (p *placer) leaves(svc *stack.Service, c *member) leave {
	name := nodeOf(c)
	n := p.nodes[name]
	r := p.v.requests[c.ID]
	switch {
	case n == nil:
		return leave{why: fmt.Sprintf("node %s is none of the stack's", name)}
	case n.Down:
		return leave{why: "node " + name + " failed", dead: true}
	case n.Drain != nil:
		l := leave{why: "node " + name + " is drained", until: n.Drain.Deadline}
		if !l.until.IsZero() && !p.v.now.Before(l.until) {
			l.forced, l.until = true, time.Time{}
			l.nowhere = ", its deadline has passed"
		}
		return l
	case p.c.Shed[ReplicaKey(svc.Name, c.id.Slot)].Container == c.ID:
		return leave{why: "evicted: " + p.c.Shed[ReplicaKey(svc.Name, c.id.Slot)].Why, forced: true}
	case r != nil && r.Op == RequestMove && r.Node != name:
		return leave{why: r.Cause, to: r.Node}
	}
	if why := expelled(&svc.Placement, &n.Node); why != "" {
		return leave{why: fmt.Sprintf("node %s %s", name, why)}
	}
	return leave{}
}

// expelled says why a node does not keep a replica that stands on it: a taint
// NoExecute, as Kubernetes has it, or a constraint that no longer holds, as Swarm
// has it. Any other rule counts when a node is chosen only.
func expelled(t *scheduler.Template, n *scheduler.Node) string {
	for _, taint := range n.Taints {
		if taint.Effect == scheduler.NoExecute && !scheduler.Tolerated(taint, t.Tolerate) {
			return "has the taint " + taint.String()
		}
	}
	for _, c := range t.Constraints {
		if !c.Matches(*n) {
			return "no longer meets " + c.String()
		}
	}
	return ""
}

// overflow finds what must leave nodes that have promised more than they have,
// as after a capacity was lowered: the least important replicas first, the
// youngest of equals. Every stack sees the same, and moves its own.
func (p *placer) overflow() {
	for i := range p.c.Nodes {
		name := p.c.Nodes[i].Name
		u, _ := p.sched.NodeUsage(name)
		over := excess(u)
		if over == "" {
			continue
		}
		for _, pl := range p.leastFirst(name) {
			if over == "" {
				break
			}
			r, _ := p.sched.Replica(pl)
			u.Used = u.Used.Minus(r.Shape.Template().Reservation)
			p.leaveFor(pl, name, over)
			over = excess(u)
		}
	}
}

// leastFirst are the placements on a node, the least important first and the
// youngest of equals.
func (p *placer) leastFirst(node string) []scheduler.Placement {
	var list []scheduler.Placement
	rank := map[scheduler.Placement]scheduler.Replica{}
	for pl, r := range p.sched.Placements(node) {
		list, rank[pl] = append(list, pl), r
	}
	slices.SortStableFunc(list, func(a, b scheduler.Placement) int {
		x, y := rank[a], rank[b]
		return cmp.Or(cmp.Compare(x.Shape.Priority(), y.Shape.Priority()), cmp.Compare(y.Order, x.Order))
	})
	return list
}

// leaveFor has a replica of the stack leave a node that is too full.
func (p *placer) leaveFor(pl scheduler.Placement, node, what string) {
	key, own := p.own[pl]
	if !own {
		return
	}
	for _, c := range p.members(key) {
		if nodeOf(c) == node && p.leave[c.ID].why == "" {
			p.leave[c.ID] = leave{why: fmt.Sprintf("node %s has promised more %s than it has", node, what)}
		}
	}
}

// excess names the resource of which a node has promised more than it has;
// empty: none.
func excess(u scheduler.Usage) string {
	room := u.Capacity.Minus(u.Reserved)
	over := func(capacity, used, room int64) bool { return capacity > 0 && used > room }
	switch {
	case over(u.Capacity.CPU, u.Used.CPU, room.CPU):
		return "CPU"
	case over(u.Capacity.Memory, u.Used.Memory, room.Memory):
		return "memory"
	case over(u.Capacity.Disk, u.Used.Disk, room.Disk):
		return "disk"
	case over(u.Capacity.Network, u.Used.Network, room.Network):
		return "network"
	}
	for _, name := range sortedKeys(u.Used.Generic) {
		if u.Used.Generic[name] > room.Generic[name] {
			return name
		}
	}
	return ""
}
