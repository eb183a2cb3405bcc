package reconcile

import (
	"time"

	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/scheduler"
)

// Explanation is why a replica stands where it does, or why it stands nowhere.
type Explanation struct {
	Key       Key
	Slot      int
	Container *runtime.Container // nil: none yet
	Node      string             // where it stands, or will; empty: no node takes it
	// Decision is how it would be placed now, if its own room were free and all
	// else as it is.
	Decision scheduler.Decision
}

// Explain tells for each replica of a service, in the order of their slots, what
// every filter and score says of every node. It is pure. A service that the
// stack does not have gives nothing.
func Explain(d *Desired, o *Observed, m *Memory, now time.Time, service string) []Explanation {
	v := newView(d, o, m, now)
	svc := v.d.Stack.Service(service)
	if svc == nil || v.o.Cluster == nil {
		return nil
	}
	decided := v.places
	v.places = &places{}
	p := newPlacer(v)
	if err := p.build(); err != nil {
		return []Explanation{{Key: Key(service), Decision: scheduler.Decision{Reason: err.Error()}}}
	}
	shape := p.shapes[service]
	v.places = decided
	var out []Explanation
	for _, slot := range v.slotsOf(svc) {
		key := ReplicaKey(service, slot)
		for _, pl := range p.held[key] {
			p.sched.Release(pl)
		}
		e := Explanation{Key: key, Slot: slot, Node: decided.node[key], Decision: p.sched.Explain(shape)}
		for _, node := range sortedKeys(p.held[key]) {
			p.assign(key, shape, node)
		}
		cur, olds := v.split(svc, v.replicas[service][slot])
		switch {
		case cur != nil:
			e.Container = cur.Container
		case len(olds) > 0:
			e.Container = olds[0].Container
		}
		out = append(out, e)
	}
	return out
}
