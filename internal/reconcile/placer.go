package reconcile

import (
	"cmp"
	"slices"
	"strings"

	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/scheduler"
)

// placer fills in places by means of a scheduler that knows all nodes and what
// stands on them.
type placer struct {
	*places
	v      *view
	c      *Cluster
	nodes  map[string]*Node
	sched  *scheduler.Cluster
	asks   map[string]*scheduler.Template         // of own services
	shapes map[string]*scheduler.Shape            // the same, as the scheduler knows them
	held   map[Key]map[string]scheduler.Placement // own replicas, by node
	own    map[scheduler.Placement]Key            // the same, the other way round
	others map[scheduler.Placement]*Resident      // of other stacks
}

// place decides where everything stands. Without a cluster, as in a plan that
// knows of no nodes, nothing is decided and every replica goes where the engine
// puts it.
func (v *view) place() {
	v.places = &places{}
	if v.o.Cluster == nil || v.d.Stack == nil {
		return
	}
	p := newPlacer(v)
	p.displace()
	if p.simple() {
		p.everywhereLocal()
		return
	}
	if err := p.build(); err != nil {
		p.refuseAll(err)
		return
	}
	p.overflow()
	p.perNode()
	p.pending()
	p.publish()
}

func newPlacer(v *view) *placer {
	p := &placer{
		places: v.places, v: v, c: v.o.Cluster, nodes: map[string]*Node{},
		asks: map[string]*scheduler.Template{}, shapes: map[string]*scheduler.Shape{}, held: map[Key]map[string]scheduler.Placement{},
		others: map[scheduler.Placement]*Resident{}, own: map[scheduler.Placement]Key{},
	}
	p.node, p.refused, p.leave = map[Key]string{}, map[Key]Hold{}, map[string]leave{}
	p.evicted, p.slots = map[Key]string{}, map[string][]int{}
	for i := range p.c.Nodes {
		p.nodes[p.c.Nodes[i].Name] = &p.c.Nodes[i]
	}
	for _, svc := range v.order {
		t := svc.Placement
		t.Stack, t.Service = v.d.Stack.Name, svc.Name
		if v.balanced(svc) {
			t.Ports = nil
		}
		p.asks[svc.Name] = &t
	}
	return p
}

// simple reports whether there is nothing to decide: one node, the engine
// itself, of which nothing is asked.
func (p *placer) simple() bool {
	if len(p.c.Nodes) != 1 || p.c.Nodes[0].Name != LocalNode || len(p.c.Evict) > 0 {
		return false
	}
	for _, svc := range p.v.order {
		if demanding(svc) {
			return false
		}
	}
	return true
}

// demanding reports whether a service asks anything of its node.
func demanding(svc *stack.Service) bool {
	t := &svc.Placement
	r := t.Reservation
	return svc.Mode.PerNode() || r.CPU != 0 || r.Memory != 0 || r.Disk != 0 || r.Network != 0 || len(r.Generic) > 0 ||
		len(t.Ports)+len(t.Constraints)+len(t.NodeSelector)+len(t.NodeRequired)+len(t.Affinity)+len(t.Anti) > 0 ||
		t.MaxPerNode != 0 || t.OS != "" || t.Arch != ""
}

// everywhereLocal places everything on the one node there is.
func (p *placer) everywhereLocal() {
	for _, svc := range p.v.order {
		for slot := range p.v.replicas[svc.Name] {
			p.node[ReplicaKey(svc.Name, slot)] = LocalNode
		}
		for _, slot := range p.v.allSlots(svc) {
			p.node[ReplicaKey(svc.Name, slot)] = LocalNode
		}
	}
	p.publish()
}

// refuseAll holds every replica that has no container: nothing can be placed.
func (p *placer) refuseAll(err error) {
	for _, svc := range p.v.order {
		for _, slot := range p.v.allSlots(svc) {
			if len(p.v.replicas[svc.Name][slot]) == 0 {
				p.refuse(waiting{svc: svc, slot: slot, key: ReplicaKey(svc.Name, slot)}, HoldFailing, "cannot be placed: "+err.Error())
			}
		}
	}
	p.publish()
}

// build makes the scheduler's picture: all nodes, and everything that stands on
// them, in the order in which it started.
func (p *placer) build() error {
	var err error
	if p.sched, err = scheduler.New(p.c.Policy); err != nil {
		return err
	}
	for i := range p.c.Nodes {
		n := p.c.Nodes[i].Node
		n.Cordoned = n.Cordoned || p.c.Nodes[i].Closed || p.c.Nodes[i].Drain != nil
		if err := p.sched.AddNode(n); err != nil {
			return err
		}
	}
	for _, svc := range p.v.order {
		if p.shapes[svc.Name], err = p.sched.Register(*p.asks[svc.Name]); err != nil {
			return err
		}
	}
	standing := append(p.ownStanding(), p.c.Others...)
	order := make([]*Resident, len(standing))
	for i := range standing {
		order[i] = &standing[i]
	}
	slices.SortFunc(order, inOrderOfStart)
	for _, r := range order {
		p.charge(r)
	}
	return nil
}

// inOrderOfStart sorts replicas by their start, then by name.
func inOrderOfStart(a, b *Resident) int {
	if c := a.Started.Compare(b.Started); c != 0 {
		return c
	}
	if c := strings.Compare(a.Stack, b.Stack); c != 0 {
		return c
	}
	if c := strings.Compare(a.Service, b.Service); c != 0 {
		return c
	}
	return cmp.Or(cmp.Compare(a.Slot, b.Slot), strings.Compare(a.Node, b.Node))
}

// ownStanding are the stack's own replicas that hold room: what has ended for
// good holds none.
func (p *placer) ownStanding() []Resident {
	var list []Resident
	for _, svc := range p.v.order {
		for slot, cs := range p.v.replicas[svc.Name] {
			for _, c := range cs {
				if !p.v.done(svc, c) {
					list = append(list, Resident{
						Stack: p.v.d.Stack.Name, Service: svc.Name, Slot: slot, Node: nodeOf(c), Started: c.Started, Template: p.asks[svc.Name],
					})
				}
			}
		}
	}
	return list
}

// charge takes the room of one replica. Of its containers on one node it counts once.
func (p *placer) charge(r *Resident) {
	if p.nodes[r.Node] == nil || r.Template == nil {
		return
	}
	if r.Stack == p.v.d.Stack.Name {
		if _, twice := p.held[r.key()][r.Node]; !twice {
			p.assign(r.key(), p.shapes[r.Service], r.Node)
		}
		return
	}
	shape, err := p.sched.Register(*r.Template)
	if err != nil {
		return // its own stack says so
	}
	if pl, err := p.sched.Assign(shape, r.Node, r.id()); err == nil {
		p.others[pl] = r
	}
}

// assign has a replica of the stack stand on a node.
func (p *placer) assign(key Key, shape *scheduler.Shape, node string) {
	if pl, err := p.sched.Assign(shape, node, p.v.d.Stack.Name+"/"+string(key)); err == nil {
		p.hold(key, node, pl)
	}
}

func (p *placer) hold(key Key, node string, pl scheduler.Placement) {
	if p.held[key] == nil {
		p.held[key] = map[string]scheduler.Placement{}
	}
	p.held[key][node], p.own[pl] = pl, key
}

func (p *placer) members(key Key) []*member {
	service, slot := key.replica()
	return p.v.replicas[service][slot]
}

// nodeOf is the node on which a container stands.
func nodeOf(c *member) string { return cmp.Or(c.id.Node, LocalNode) }
