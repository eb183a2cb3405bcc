package reconcile

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/scheduler"
)

// perNode gives each node that suits a global service a slot of its own.
func (p *placer) perNode() {
	for _, svc := range p.v.order {
		if svc.Mode.PerNode() && p.v.d.Replicas(svc) > 0 && p.v.want(svc.Name) != WantAbsent {
			p.slots[svc.Name] = p.perNodeSlots(svc)
		}
	}
}

func (p *placer) perNodeSlots(svc *stack.Service) []int {
	taken := map[int]bool{}
	byNode := map[string]int{}
	for _, slot := range sortedKeys(p.v.replicas[svc.Name]) {
		taken[slot] = true
		for _, c := range p.v.replicas[svc.Name][slot] {
			if byNode[nodeOf(c)] == 0 {
				byNode[nodeOf(c)] = slot
			}
		}
	}
	var slots []int
	next := 1
	for i := range p.c.Nodes {
		n := &p.c.Nodes[i]
		slot := byNode[n.Name]
		if n.Down || n.Drain != nil || slot == 0 && (n.Closed || n.Cordoned) || p.sched.Excludes(p.shapes[svc.Name], n.Name) != "" {
			continue
		}
		if slot == 0 {
			for taken[next] {
				next++
			}
			slot, taken[next] = next, true
		}
		slots = append(slots, slot)
		p.node[ReplicaKey(svc.Name, slot)] = n.Name
	}
	slices.Sort(slots)
	return slots
}

// waiting is a replica whose next container needs a node.
type waiting struct {
	svc  *stack.Service
	slot int
	key  Key
	olds []*member
}

// pending chooses nodes for the replicas that need one, the most important first.
func (p *placer) pending() {
	var list []waiting
	for key, why := range p.c.Evict {
		p.evicted[key] = why
	}
	for _, svc := range p.v.order {
		if want := p.v.want(svc.Name); want == WantAbsent || want == WantStopped {
			continue
		}
		for _, slot := range p.v.allSlots(svc) {
			key := ReplicaKey(svc.Name, slot)
			cur, olds := p.v.split(svc, p.v.replicas[svc.Name][slot])
			if cur != nil {
				p.node[key] = nodeOf(cur)
			} else if p.evicted[key] == "" {
				list = append(list, waiting{svc, slot, key, olds})
			}
		}
	}
	slices.SortStableFunc(list, func(a, b waiting) int {
		return cmp.Compare(b.svc.Placement.Priority, a.svc.Placement.Priority)
	})
	for _, w := range list {
		p.choose(w)
	}
}

// choose finds a node for one replica: the one it must have or has asked for,
// that of the container it replaces, the best one, or one on which less
// important replicas make room.
func (p *placer) choose(w waiting) {
	shape := p.shapes[w.svc.Name]
	left := p.vacate(w)
	p.find(w, shape)
	for _, node := range left {
		if _, again := p.held[w.key][node]; !again {
			p.assign(w.key, shape, node) // until its container is gone
		}
	}
}

// vacate takes the places off that a replica is to leave, so that it does not
// stand in its own way, as with a spread. It returns their nodes.
func (p *placer) vacate(w waiting) []string {
	var left []string
	for _, old := range w.olds {
		node := nodeOf(old)
		if pl, held := p.held[w.key][node]; held && p.leave[old.ID].why != "" {
			p.sched.Release(pl)
			delete(p.held[w.key], node)
			delete(p.own, pl)
			left = append(left, node)
		}
	}
	return left
}

// find is choose for a replica that stands nowhere.
func (p *placer) find(w waiting, shape *scheduler.Shape) {
	if p.moved(w, shape) || p.preferred(w, shape) {
		return
	}
	if !w.svc.Mode.PerNode() {
		if pl, ok := p.sched.Schedule(shape, p.v.d.Stack.Name+"/"+string(w.key)); ok {
			r, _ := p.sched.Replica(pl)
			p.hold(w.key, r.Node, pl)
			p.node[w.key] = r.Node
			return
		}
	}
	if p.preempt(w, shape) {
		return
	}
	d := p.sched.Why(shape)
	reason := d.Reason
	if d.Hint != "" {
		reason += "; " + d.Hint
	}
	if shed, ok := p.c.Shed[w.key]; ok {
		reason = fmt.Sprintf("evicted: %s; %s", shed.Why, reason)
	}
	p.refuse(w, HoldFailing, reason)
}

func (p *placer) refuse(w waiting, kind HoldKind, reason string) {
	delete(p.node, w.key)
	p.refused[w.key] = Hold{
		Kind: kind, Key: w.key, Service: w.svc.Name, Slot: w.slot, Name: p.v.containerName(w.svc, w.slot), Reason: reason,
	}
}

// moved carries out a request to move, if the node it names still takes the
// replica; else the request is dropped and the replica stays. It reports whether
// there was one.
func (p *placer) moved(w waiting, shape *scheduler.Shape) bool {
	for _, old := range w.olds {
		to := p.leave[old.ID].to
		if to == "" {
			continue
		}
		if !p.tryNode(w, shape, to) {
			delete(p.leave, old.ID)
			delete(p.v.requests, old.ID)
			p.node[w.key] = nodeOf(old)
		}
		return true
	}
	return false
}

// preferred tries the nodes that come before any choice.
func (p *placer) preferred(w waiting, shape *scheduler.Shape) bool {
	var names []string
	if w.svc.Mode.PerNode() {
		names = []string{p.node[w.key]}
	}
	for _, old := range w.olds {
		if p.leave[old.ID].why == "" && !w.svc.Mode.PerNode() {
			names = append(names, nodeOf(old))
		}
	}
	for _, name := range names {
		if p.tryNode(w, shape, name) {
			return true
		}
	}
	return false
}

// tryNode places a replica on a named node, in the room of its own old
// container there, if it fits.
func (p *placer) tryNode(w waiting, shape *scheduler.Shape, node string) bool {
	old, held := p.held[w.key][node]
	if held {
		p.sched.Release(old)
		delete(p.held[w.key], node)
		delete(p.own, old)
	}
	reject := p.sched.Rejects
	if held {
		reject = p.sched.RejectsSuccessor
	}
	fits := reject(shape, node) == ""
	if fits || held {
		p.assign(w.key, shape, node)
	}
	if fits {
		p.node[w.key] = node
	}
	return fits
}

// preempt makes room for a replica by taking less important ones away. Its own
// place is taken at once, so that nobody else gets it meanwhile.
func (p *placer) preempt(w waiting, shape *scheduler.Shape) bool {
	pre, ok := scheduler.Preempt(p.sched, shape)
	if !ok || w.svc.Mode.PerNode() && pre.Node != p.node[w.key] {
		return false
	}
	why := fmt.Sprintf("makes room for %s/%s (priority %d) on node %s", p.v.d.Stack.Name, w.key, w.svc.Placement.Priority, pre.Node)
	var names []string
	for _, victim := range pre.Victims {
		r, _ := p.sched.Replica(victim)
		names = append(names, r.ID)
		if other := p.others[victim]; other != nil {
			p.evictOther(other.Stack, other.key(), why)
		} else {
			p.evicted[p.own[victim]] = why
		}
		p.sched.Release(victim)
	}
	p.assign(w.key, shape, pre.Node)
	p.refuse(w, HoldWaiting, fmt.Sprintf("waits for the room on node %s that %s of lower priority gives up", pre.Node, strings.Join(names, ", ")))
	return true
}

func (p *placer) evictOther(stack string, key Key, why string) {
	if p.placed.Evict == nil {
		p.placed.Evict = map[string]map[Key]string{}
	}
	if p.placed.Evict[stack] == nil {
		p.placed.Evict[stack] = map[Key]string{}
	}
	p.placed.Evict[stack][key] = why
}
