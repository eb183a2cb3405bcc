package reconcile

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

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
		for slot := 1; slot <= p.v.d.Replicas(svc); slot++ {
			p.node[ReplicaKey(svc.Name, slot)] = LocalNode
		}
	}
	p.publish()
}

// nodeOf is the node on which a container stands.
func nodeOf(c *member) string { return cmp.Or(c.id.Node, LocalNode) }

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
		}
		return l
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

// refuseAll holds every replica that has no container: nothing can be placed.
func (p *placer) refuseAll(err error) {
	for _, svc := range p.v.order {
		for _, slot := range p.v.slotsOf(svc) {
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

func (p *placer) members(key Key) []*member {
	service, slot := key.replica()
	return p.v.replicas[service][slot]
}

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
		for _, slot := range p.v.slotsOf(svc) {
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
	fits := p.sched.Rejects(shape, node) == ""
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

// publish tells the cluster what stands where: the containers there are, and
// those to come.
func (p *placer) publish() {
	for _, svc := range p.v.order {
		for _, slot := range sortedKeys(p.v.replicas[svc.Name]) {
			p.publishReplica(svc, slot)
		}
		for _, slot := range p.v.slotsOf(svc) {
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
