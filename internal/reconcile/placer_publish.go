package reconcile

import (
	"time"

	"github.com/berth-dev/berth/internal/stack"
)

// publish tells the cluster what stands where: the containers there are, and
// those to come.
func (p *placer) publish() {
	for _, svc := range p.v.order {
		for _, slot := range sortedKeys(p.v.replicas[svc.Name]) {
			p.publishReplica(svc, slot)
		}
		for _, slot := range p.v.allSlots(svc) {
			if p.v.replicas[svc.Name][slot] == nil {
				p.publishReplica(svc, slot)
			}
		}
	}
	p.placed.Refused, p.placed.Refusals = len(p.refused), p.refused
}

func (p *placer) publishReplica(svc *stack.Service, slot int) {
	key := ReplicaKey(svc.Name, slot)
	seen := map[string]bool{}
	add := func(node, container string, started time.Time) {
		if node == "" || seen[node] {
			return
		}
		seen[node] = true
		p.placed.Residents = append(p.placed.Residents, Resident{
			Stack: p.v.d.Stack.Name, Service: svc.Name, Slot: slot, Node: node, Container: container, Started: started,
			Template: p.asks[svc.Name], Fixed: p.fixed(svc, key),
		})
	}
	for _, c := range p.v.replicas[svc.Name][slot] {
		if !p.v.done(svc, c) {
			add(nodeOf(c), c.ID, c.Started)
		}
	}
	if cur, _ := p.v.split(svc, p.v.replicas[svc.Name][slot]); cur == nil || !p.v.done(svc, cur) {
		add(p.node[key], "", time.Time{})
	}
	for _, node := range sortedKeys(p.held[key]) {
		add(node, "", time.Time{}) // a place that is kept for it
	}
}

// fixed says why a rebalance must leave a replica where it is.
func (p *placer) fixed(svc *stack.Service, key Key) string {
	_, busy := p.v.m.InFlight[key]
	switch {
	case svc.Mode.PerNode():
		return "the service has one replica on each node"
	case p.v.jobs[svc.Name]:
		return "it is a job"
	case p.v.want(svc.Name) != WantRunning:
		return "it is " + string(p.v.want(svc.Name))
	case busy || len(p.members(key)) != 1:
		return "it is being changed"
	default:
		return ""
	}
}
