package scheduler

import (
	"errors"
	"fmt"
	"iter"
	"slices"
)

// Cluster is a set of nodes and the replicas that are placed on them. It decides
// alone by what it was told, in the order in which it was told, so that the same
// calls lead to the same placements everywhere. It is not safe for concurrent use.
type Cluster struct {
	policy   policy
	nodes    []*node // by index; nil where a node was removed
	byName   map[string]*node
	shapes   map[string]*Shape
	services map[serviceKey]*service

	known []*Shape       // all shapes, in the order in which they were registered
	keys  []string       // sorted: the labels that they mention
	index *index         // nil: to be made anew at the next choice
	held  map[uint16]int // placements that hold a host port

	records []record // of placements, by slot
	free    []int32  // records that hold none, the latest last
	order   uint64   // of the latest start
}

// node is a node with what is placed on it. What every placement changes stands
// first, and how the node is declared apart: see [Shape].
type node struct {
	used   amounts // what is promised
	scored amounts // the same as the scores count it
	alloc  amounts // what can be promised

	slots []int32 // of its placements, in the order of their start

	use    [2]share // of cpu and memory, as the scores count it: of the index, as the following
	class  *class   // when the index is up to date
	group  *group   // nil: no other member of the class uses exactly as much
	member int32    // which of the class
	index  int32    // of the cluster

	counted [resourceKinds]bool
	soft    bool // the scores count more than is reserved
	late    bool // it has changed since the class followed

	generic map[string]int64
	ports   []heldPort
	*Node
}

// heldPort is a host port and the placement that holds it.
type heldPort struct {
	port HostPort
	by   int32
}

// record is one placement.
type record struct {
	shape      *Shape
	id         string
	order      uint64
	node       int32  // -1: the record is free
	generation uint32 // tells a placement from the ones that had its slot before
}

// Placement is a handle on one placed replica. The zero value is none.
type Placement struct {
	slot       int32
	generation uint32
}

// Replica is what was placed.
type Replica struct {
	ID    string // as it was given
	Shape *Shape
	Node  string
	Order uint64 // of the starts: a later one is greater
}

// New returns a cluster without nodes. It refuses a policy with a strategy or
// weights that do not exist.
func New(p Policy) (*Cluster, error) {
	compiled, err := p.compile()
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	return &Cluster{
		policy: compiled,
		held:   map[uint16]int{},
		byName: map[string]*node{}, shapes: map[string]*Shape{}, services: map[serviceKey]*service{},
	}, nil
}

// AddNode adds a node at the end. It refuses a name that is taken and sizes that
// cannot be.
func (c *Cluster) AddNode(n Node) error {
	if err := n.check(); err != nil {
		return err
	}
	if _, ok := c.byName[n.Name]; ok {
		return fmt.Errorf("node %s is declared already", n.Name)
	}
	added := &node{index: int32(len(c.nodes))} //nolint:gosec // bounded by memory
	added.declare(n)
	c.nodes = append(c.nodes, added)
	c.byName[n.Name] = added
	c.index = nil
	return nil
}

// declare sets what the node is, and leaves what is placed on it.
func (n *node) declare(as Node) {
	as = as.clone()
	n.Node = &as
	capacity, reserved := as.Capacity.amounts(), as.Reserved.amounts()
	for i := range capacity {
		n.counted[i] = capacity[i] > 0
		n.alloc[i] = capacity[i] - reserved[i]
	}
}

// SetNode declares a node that exists anew: its size, labels, taints and state.
// What is placed on it stays, even if it does not fit any more.
func (c *Cluster) SetNode(n Node) error {
	if err := n.check(); err != nil {
		return err
	}
	known, err := c.named(n.Name)
	if err != nil {
		return err
	}
	known.declare(n)
	c.index = nil
	return nil
}

// RemoveNode removes a node on which nothing is placed.
func (c *Cluster) RemoveNode(name string) error {
	n, err := c.named(name)
	if err != nil {
		return err
	}
	if len(n.slots) > 0 {
		return fmt.Errorf("node %s holds %d replicas: drain it first", name, len(n.slots))
	}
	c.nodes[n.index] = nil
	delete(c.byName, name)
	c.index = nil
	return nil
}

func (c *Cluster) named(name string) (*node, error) {
	n, ok := c.byName[name]
	if !ok {
		return nil, fmt.Errorf("node %s does not exist", name)
	}
	return n, nil
}

// Node returns the node of that name.
func (c *Cluster) Node(name string) (Node, bool) {
	n, ok := c.byName[name]
	if !ok {
		return Node{}, false
	}
	return n.clone(), true
}

// Nodes returns the nodes in the order of their index: that in which they were added.
func (c *Cluster) Nodes() []Node {
	all := make([]Node, 0, len(c.byName))
	for n := range c.each() {
		all = append(all, n.clone())
	}
	return all
}

func (c *Cluster) each() iter.Seq[*node] {
	return func(yield func(*node) bool) {
		for _, n := range c.nodes {
			if n != nil && !yield(n) {
				return
			}
		}
	}
}

var errForeignShape = errors.New("the shape is of another cluster")

// Schedule chooses the node for one more replica of the shape and places it
// there. It returns false when no node takes it; [Cluster.Explain] says why.
func (c *Cluster) Schedule(s *Shape, id string) (Placement, bool) {
	n := c.choose(s)
	if n == nil {
		return Placement{}, false
	}
	return c.place(s, n, id), true
}

// Choose returns the node on which one more replica of the shape would be placed.
func (c *Cluster) Choose(s *Shape) (name string, ok bool) {
	n := c.choose(s)
	if n == nil {
		return "", false
	}
	return n.Name, true
}

func (c *Cluster) choose(s *Shape) *node {
	if s == nil || s.cluster != c {
		return nil
	}
	if n, ok := c.chooseFast(s); ok {
		return n
	}
	return c.scan(s)
}

// portsTaken says whether a host port that the shape needs is held anywhere.
func (c *Cluster) portsTaken(s *Shape) bool {
	for _, p := range s.template.Ports {
		if c.held[p.Port] == 0 {
			continue
		}
		for n := range c.each() {
			if slices.ContainsFunc(n.ports, func(h heldPort) bool { return p.conflicts(h.port) }) {
				return true
			}
		}
	}
	return false
}

// Assign places a replica on the named node as a fact: it runs there, whether
// it fits or not.
func (c *Cluster) Assign(s *Shape, nodeName, id string) (Placement, error) {
	n, err := c.named(nodeName)
	if err != nil {
		return Placement{}, fmt.Errorf("assign %s: %w", id, err)
	}
	if s == nil || s.cluster != c {
		return Placement{}, fmt.Errorf("assign %s: %w", id, errForeignShape)
	}
	if err := n.countable(s); err != nil {
		return Placement{}, fmt.Errorf("assign %s: %w", id, err)
	}
	return c.place(s, n, id), nil
}

// maxSum bounds what is used of one resource on one node.
const maxSum = 1 << 62

// countable refuses sums that an integer cannot hold.
func (n *node) countable(s *Shape) error {
	for i, v := range s.score {
		if n.scored[i] > maxSum-v {
			return fmt.Errorf("node %s: the sum of %s would be beyond all measure", n.Name, resourceNames[i])
		}
	}
	return nil
}

// Release takes a placed replica away. It returns false when the placement is
// not, or no longer, of this cluster.
func (c *Cluster) Release(p Placement) bool {
	slot, ok := c.slot(p)
	if !ok {
		return false
	}
	r := &c.records[slot]
	if c.index != nil {
		c.index.query.freed = c.nodes[r.node]
	}
	c.unlink(slot)
	*r = record{node: -1, generation: r.generation}
	c.free = append(c.free, slot)
	return true
}

// Move takes a placed replica to the named node, where it is then the one that
// started last. Like [Cluster.Assign] it does not ask whether it fits.
func (c *Cluster) Move(p Placement, nodeName string) error {
	slot, ok := c.slot(p)
	if !ok {
		return errors.New("move: the placement was released")
	}
	id := c.records[slot].id
	n, err := c.named(nodeName)
	if err != nil {
		return fmt.Errorf("move %s: %w", id, err)
	}
	if err := n.countable(c.records[slot].shape); err != nil {
		return fmt.Errorf("move %s: %w", id, err)
	}
	c.unlink(slot)
	c.link(slot, n)
	return nil
}

// slot is the record of a placement that stands.
func (c *Cluster) slot(p Placement) (int32, bool) {
	slot := p.slot - 1
	if slot < 0 || int(slot) >= len(c.records) {
		return 0, false
	}
	r := &c.records[slot]
	return slot, r.node >= 0 && r.generation == p.generation
}

func (c *Cluster) handle(slot int32) Placement {
	return Placement{slot: slot + 1, generation: c.records[slot].generation}
}

// Replica returns what a placement placed.
func (c *Cluster) Replica(p Placement) (Replica, bool) {
	slot, ok := c.slot(p)
	if !ok {
		return Replica{}, false
	}
	return c.replica(slot), true
}

func (c *Cluster) replica(slot int32) Replica {
	r := &c.records[slot]
	return Replica{ID: r.id, Shape: r.shape, Node: c.nodes[r.node].Name, Order: r.order}
}

// Placements yields what is placed on the named node in the order in which it
// started. The cluster must not be changed meanwhile.
func (c *Cluster) Placements(nodeName string) iter.Seq2[Placement, Replica] {
	return func(yield func(Placement, Replica) bool) {
		n, ok := c.byName[nodeName]
		if !ok {
			return
		}
		for _, slot := range n.slots {
			if !yield(c.handle(slot), c.replica(slot)) {
				return
			}
		}
	}
}

// FitsWithout says whether the named node would take one more replica of the
// shape if these placements were gone. Nothing is changed.
func (c *Cluster) FitsWithout(s *Shape, nodeName string, gone ...Placement) bool {
	n, ok := c.byName[nodeName]
	if !ok || s == nil || s.cluster != c {
		return false
	}
	slots := make(map[int32]bool, len(gone))
	for _, p := range gone {
		if slot, ok := c.slot(p); ok {
			slots[slot] = true
		}
	}
	v := &survey{cluster: c, shape: s, gone: slots}
	if !passesResources(v, n) { // the usual answer, without a look at the other nodes
		return false
	}
	return c.survey(s, slots).feasible(n)
}

// place records a new placement.
func (c *Cluster) place(s *Shape, n *node, id string) Placement {
	slot := c.freeSlot()
	r := &c.records[slot]
	r.shape, r.id = s, id
	r.generation++
	c.link(slot, n)
	return Placement{slot: slot + 1, generation: r.generation}
}

// freeSlot is a record that holds no placement.
func (c *Cluster) freeSlot() int32 {
	if last := len(c.free) - 1; last >= 0 {
		slot := c.free[last]
		c.free = c.free[:last]
		return slot
	}
	if len(c.records) == cap(c.records) {
		c.records = slices.Grow(c.records, max(len(c.records), 64)) // append grows by a quarter: many copies
	}
	c.records = append(c.records, record{})
	return int32(len(c.records) - 1) //nolint:gosec // bounded by memory
}

// usualSlots is how many placements a node can list at first: a line of memory.
const usualSlots = 16

// link joins a record to a node as the one that started last there.
func (c *Cluster) link(slot int32, n *node) {
	r := &c.records[slot]
	c.order++
	r.order, r.node = c.order, n.index
	if n.slots == nil {
		n.slots = make([]int32, 0, usualSlots)
	}
	n.slots = append(n.slots, slot)
	n.add(r.shape, slot)
	c.counted(n, r.shape, 1)
}

// counted follows one replica more or less on the node.
func (c *Cluster) counted(n *node, s *Shape, by int) {
	if c.held == nil {
		return // a draft, which shares its shapes with a cluster
	}
	s.placed += by
	if !s.lean {
		for _, p := range s.template.Ports {
			c.held[p.Port] += by
		}
	}
	c.follow(n, s, by)
}

// unlink takes a record off its node.
func (c *Cluster) unlink(slot int32) {
	r := &c.records[slot]
	n := c.nodes[r.node]
	at := slices.Index(n.slots, slot)
	n.slots = slices.Delete(n.slots, at, at+1)
	n.remove(r.shape, slot)
	c.counted(n, r.shape, -1)
}

// add counts one more replica on the node.
func (n *node) add(s *Shape, slot int32) {
	for i := range n.used {
		n.used[i] += s.need[i]
		n.scored[i] += s.score[i]
	}
	if s.lean {
		return
	}
	for _, g := range s.generic {
		if n.generic == nil {
			n.generic = map[string]int64{}
		}
		n.generic[g.name] += g.amount
	}
	for _, p := range s.template.Ports {
		n.ports = append(n.ports, heldPort{p, slot})
	}
}

// remove is the reverse of add.
func (n *node) remove(s *Shape, slot int32) {
	for i := range n.used {
		n.used[i] -= s.need[i]
		n.scored[i] -= s.score[i]
	}
	if s.lean {
		return
	}
	for _, g := range s.generic {
		if n.generic[g.name] -= g.amount; n.generic[g.name] == 0 {
			delete(n.generic, g.name)
		}
	}
	if len(s.template.Ports) > 0 {
		n.ports = slices.DeleteFunc(n.ports, func(h heldPort) bool { return h.by == slot })
	}
}
