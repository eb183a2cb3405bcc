package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
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

// nodes is what the daemon knows of virtual nodes: those that stacks and
// commands have declared, what commands have made of them, and what stands on
// them. Loops plan one after the other on it, so that two stacks never promise
// the same room.
type nodes struct {
	placing sync.Mutex // held while a stack is planned and its places are taken

	mu       sync.Mutex // protects all below
	state    nodeState
	declared map[string]*stack.Stack     // by stack: whose Nodes count
	ledger   map[string]reconcile.Placed // by stack
	bounds   map[string]*bound           // by node
	engine   runtime.EngineInfo
	known    bool // the engine has told what it is
	bounded  bool // boundaries can be made at all
	changed  chan struct{}
}

// nodeState is what is stored of nodes beyond the stacks' declarations.
type nodeState struct {
	Added  []stack.Node          `json:"added,omitempty"` // by command, in their order
	Status map[string]nodeStatus `json:"status,omitempty"`
	// Bounded: boundaries were made, and may be left to clean up.
	Bounded bool `json:"bounded,omitempty"`
	// Overcommit: a node was added although the engine has less than all nodes
	// together may promise.
	Overcommit bool `json:"overcommit,omitempty"`
	// Short are the nodes that are short of memory.
	Short map[string]storedShortage `json:"short,omitempty"`
}

// nodeStatus is what commands have made of a node.
type nodeStatus struct {
	Cordoned bool             `json:"cordoned,omitempty"`
	Failed   bool             `json:"failed,omitempty"`
	Drain    *reconcile.Drain `json:"drain,omitempty"`
}

func newNodes(bounded bool) *nodes {
	return &nodes{
		declared: map[string]*stack.Stack{}, ledger: map[string]reconcile.Placed{}, bounds: map[string]*bound{},
		bounded: bounded, changed: make(chan struct{}, 1),
	}
}

// poke asks for a look at the boundaries.
func (n *nodes) poke() {
	select {
	case n.changed <- struct{}{}:
	default:
	}
}

// learn takes over what the engine says of itself.
func (n *nodes) learn(info runtime.EngineInfo) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.engine, n.known = info, true
}

// unlearn has the engine asked again what it is, and the boundaries made again.
func (n *nodes) unlearn() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.known = false
	for _, b := range n.bounds {
		b.failed = errUnlearned
	}
	n.poke()
}

// errUnlearned has a boundary looked at again.
var errUnlearned = errors.New("the engine was away")

func (n *nodes) learned() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.known
}

// declare takes over a stack's declaration; nil: the stack is gone.
func (n *nodes) declare(name string, s *stack.Stack) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if s == nil {
		delete(n.declared, name)
		delete(n.ledger, name)
	} else {
		n.declared[name] = s
	}
	n.forgetStatusLocked()
	n.poke()
}

// redeclare takes over the declarations that were stored. What commands have made
// of nodes is not judged by them: those of a stack that cannot be read may be missing.
func (n *nodes) redeclare(declared map[string]*stack.Stack) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.declared = declared
	n.poke()
}

// forgetStatusLocked drops what commands have made of nodes that are no more;
// n.mu is held.
func (n *nodes) forgetStatusLocked() {
	for name := range n.state.Status {
		if _, ok := n.findLocked(name); !ok && name != reconcile.LocalNode {
			delete(n.state.Status, name)
		}
	}
	for name := range n.state.Short {
		if _, ok := n.findLocked(name); !ok {
			delete(n.state.Short, name)
		}
	}
}

// findLocked returns a declared or added node; n.mu is held.
func (n *nodes) findLocked(name string) (stack.Node, bool) {
	is := func(node stack.Node) bool { return node.Name == name }
	if i := slices.IndexFunc(n.state.Added, is); i >= 0 {
		return n.state.Added[i], true
	}
	for _, s := range sortedKeys(n.declared) {
		list := n.declared[s].Nodes
		if i := slices.IndexFunc(list, is); i >= 0 {
			return list[i], true
		}
	}
	return stack.Node{}, false
}

// allLocked returns every declared and added node once: those added by command
// first, then those of the stacks by name; n.mu is held.
func (n *nodes) allLocked() []stack.Node {
	list := slices.Clone(n.state.Added)
	seen := map[string]bool{}
	for _, node := range list {
		seen[node.Name] = true
	}
	for _, s := range sortedKeys(n.declared) {
		for _, node := range n.declared[s].Nodes {
			if !seen[node.Name] {
				seen[node.Name] = true
				list = append(list, node)
			}
		}
	}
	return list
}

// cluster is what a plan of the stack may know of the nodes: those that it
// declares itself and those added by command, or, where there are neither, the
// engine as one node.
func (n *nodes) cluster(s *stack.Stack) *reconcile.Cluster {
	n.mu.Lock()
	defer n.mu.Unlock()
	c := &reconcile.Cluster{Policy: s.Scheduling, Shed: n.shedLocked(s.Name)}
	c.Policy.SharedPorts = true
	own := slices.Clone(s.Nodes)
	for _, node := range n.state.Added {
		if !slices.ContainsFunc(own, func(o stack.Node) bool { return o.Name == node.Name }) {
			own = append(own, node)
		}
	}
	for _, node := range own {
		c.Nodes = append(c.Nodes, n.nodeLocked(node))
	}
	if len(s.Nodes) == 0 {
		local := n.localLocked()
		local.Closed = len(own) > 0
		c.Nodes = append(c.Nodes, local)
	}
	for _, name := range sortedKeys(n.ledger) {
		if name != s.Name {
			c.Others = append(c.Others, n.ledger[name].Residents...)
		}
		for key, why := range n.ledger[name].Evict[s.Name] {
			if c.Evict == nil {
				c.Evict = map[reconcile.Key]string{}
			}
			c.Evict[key] = why
		}
	}
	return c
}

// nodeLocked is a node with what commands and its boundary make of it; n.mu is held.
func (n *nodes) nodeLocked(node stack.Node) reconcile.Node {
	out := reconcile.Node{Node: node.Node}
	out.OS, out.Arch = cmp.Or(out.OS, n.engine.OS), cmp.Or(out.Arch, n.engine.Arch)
	st := n.state.Status[node.Name]
	out.Cordoned, out.Down, out.Drain = out.Cordoned || st.Cordoned, out.Down || st.Failed, st.Drain
	if !n.bounded || node.Name == reconcile.LocalNode {
		return out
	}
	b := n.bounds[node.Name]
	if b == nil || b.limits != limitsOf(node) {
		out.Pending = "its boundary is being made"
		return out
	}
	out.Parent = b.made.Parent
	if !b.short.since.IsZero() {
		out.Short = "memory"
	}
	return out
}

// localLocked is the node that stands for the engine itself: what other nodes
// may promise is not promised by it; n.mu is held.
func (n *nodes) localLocked() reconcile.Node {
	capacity := scheduler.Resources{CPU: int64(n.engine.CPUs) * 1000, Memory: n.engine.Memory}
	var taken scheduler.Resources
	for _, node := range n.allLocked() {
		taken.CPU += node.Capacity.CPU
		taken.Memory += node.Capacity.Memory
	}
	taken.CPU, taken.Memory = min(taken.CPU, capacity.CPU), min(taken.Memory, capacity.Memory)
	return n.nodeLocked(stack.Node{Node: scheduler.Node{Name: reconcile.LocalNode, Capacity: capacity, Reserved: taken}})
}

// take records what a plan of the stack has placed. It returns the stacks that
// must be planned anew: those whose replicas make room, and those that wait for
// room when some was given back.
func (n *nodes) take(name string, placed reconcile.Placed) []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	before := n.ledger[name]
	n.ledger[name] = placed
	if !slices.EqualFunc(standing(before), standing(placed), func(a, b string) bool { return a == b }) {
		n.poke()
	}
	wake := map[string]bool{}
	for _, p := range []reconcile.Placed{before, placed} {
		for other, keys := range p.Evict {
			if !maps.Equal(before.Evict[other], keys) || !maps.Equal(placed.Evict[other], keys) {
				wake[other] = true
			}
		}
	}
	if freed(before, placed) {
		for other, p := range n.ledger {
			if p.Refused > 0 && other != name {
				wake[other] = true
			}
		}
	}
	return sortedKeys(wake)
}

// standing are the nodes on which a stack's replicas stand.
func standing(p reconcile.Placed) []string {
	set := map[string]bool{}
	for i := range p.Residents {
		set[p.Residents[i].Node] = true
	}
	return sortedKeys(set)
}

// freed reports whether a stack has given room back.
func freed(before, after reconcile.Placed) bool {
	type place struct {
		service string
		slot    int
		node    string
	}
	have := map[place]bool{}
	for i := range after.Residents {
		r := &after.Residents[i]
		have[place{r.Service, r.Slot, r.Node}] = true
	}
	return slices.ContainsFunc(before.Residents, func(r reconcile.Resident) bool {
		return !have[place{r.Service, r.Slot, r.Node}]
	})
}

// check refuses a declaration that disagrees with another one's nodes, or that
// promises more than the engine has.
func (n *nodes) check(s *stack.Stack) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, node := range s.Nodes {
		if err := n.agreesLocked(node, s.Name); err != nil {
			return err
		}
	}
	if s.Overcommit || n.state.Overcommit || !n.known || len(s.Nodes) == 0 {
		return nil
	}
	all := slices.Clone(s.Nodes)
	for _, node := range n.allLocked() {
		if !slices.ContainsFunc(all, func(o stack.Node) bool { return o.Name == node.Name }) {
			all = append(all, node)
		}
	}
	return n.fitsLocked(all, "x-berth.overcommit: true")
}

// agreesLocked refuses a node that another stack or a command declares
// differently; n.mu is held.
func (n *nodes) agreesLocked(node stack.Node, by string) error {
	for _, other := range n.state.Added {
		if other.Name == node.Name && !reflect.DeepEqual(other, node) {
			return invalid("declare node", node.Name, "berth node add has made it with other values; berth node rm it, or give it the same ones")
		}
	}
	for _, name := range sortedKeys(n.declared) {
		for _, other := range n.declared[name].Nodes {
			if name != by && other.Name == node.Name && !reflect.DeepEqual(other, node) {
				return invalid("declare node", node.Name, "stack "+name+" declares it with other values; give both the same, or another name")
			}
		}
	}
	return nil
}

// fitsLocked refuses nodes that together are larger than the engine; n.mu is held.
func (n *nodes) fitsLocked(all []stack.Node, remedy string) error {
	var sum scheduler.Resources
	var names []string
	for _, node := range all {
		sum.CPU += node.Capacity.CPU
		sum.Memory += node.Capacity.Memory
		names = append(names, node.Name)
	}
	slices.Sort(names)
	who := strings.Join(names, ", ")
	switch {
	case sum.CPU > int64(n.engine.CPUs)*1000:
		return invalid("declare nodes", who, fmt.Sprintf("together they have %s CPUs, the engine has %d; make them smaller or set %s", cores(sum.CPU), n.engine.CPUs, remedy))
	case sum.Memory > n.engine.Memory:
		return invalid("declare nodes", who, fmt.Sprintf("together they have %d MiB of memory, the engine has %d MiB; make them smaller or set %s", sum.Memory>>20, n.engine.Memory>>20, remedy))
	}
	return nil
}

// cores prints millicores as cores: "0.5".
func cores(milli int64) string {
	return strings.TrimRight(strings.TrimRight(fmt.Sprintf("%d.%03d", milli/1000, milli%1000), "0"), ".")
}

// list describes all nodes, the local one included where it counts.
func (n *nodes) list() []api.Node {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []api.Node
	for _, node := range n.allLocked() {
		out = append(out, n.describeLocked(node))
	}
	local := n.describeLocked(stack.Node{Node: n.localLocked().Node})
	if len(out) == 0 || len(local.Replicas) > 0 {
		out = append(out, local)
	}
	return out
}

// describeLocked is all that is known of one node; n.mu is held.
func (n *nodes) describeLocked(node stack.Node) api.Node {
	seen := n.nodeLocked(node)
	node.Node = seen.Node
	out := api.Node{Node: node, Drain: seen.Drain, Boundary: runtime.Boundary{Why: "boundaries cannot be made here"}}
	for _, s := range sortedKeys(n.declared) {
		if slices.ContainsFunc(n.declared[s].Nodes, func(o stack.Node) bool { return o.Name == node.Name }) {
			out.Declared = append(out.Declared, s)
		}
	}
	for _, s := range sortedKeys(n.ledger) {
		for _, r := range n.ledger[s].Residents {
			if r.Node == node.Name {
				out.Replicas = append(out.Replicas, r)
				out.Promised = out.Promised.Plus(r.Template.Reservation)
			}
		}
	}
	out.Status = status(seen, len(out.Replicas))
	switch b := n.bounds[node.Name]; {
	case node.Name == reconcile.LocalNode:
		out.Boundary.Why = "it is the engine itself"
	case b != nil:
		out.Boundary, out.Pressure, out.OOM = b.made, b.pressure, b.oom
		out.Shortage = b.shortage()
	case n.bounded:
		out.Boundary.Why = seen.Pending
	}
	return out
}

func status(n reconcile.Node, residents int) string {
	switch {
	case n.Down:
		return "not ready"
	case n.Drain != nil && residents == 0:
		return "drained"
	case n.Drain != nil:
		return "draining"
	case n.Cordoned:
		return "cordoned"
	default:
		return "ready"
	}
}

// node describes one node.
func (n *nodes) node(name string) (api.Node, error) {
	all := n.list()
	if i := slices.IndexFunc(all, func(o api.Node) bool { return o.Name == name }); i >= 0 {
		return all[i], nil
	}
	var names []string
	for i := range all {
		names = append(names, all[i].Name)
	}
	return api.Node{}, notFound("find node", name, "there is "+strings.Join(names, ", "))
}

// edit changes the stored state by fn, stores it, and only then lets it count.
func (n *nodes) edit(save func(nodeState) error, fn func(*nodeState) error) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	next := n.state
	next.Added, next.Status, next.Short = slices.Clone(next.Added), maps.Clone(next.Status), maps.Clone(next.Short)
	if next.Status == nil {
		next.Status = map[string]nodeStatus{}
	}
	if err := fn(&next); err != nil {
		return err
	}
	if err := save(next); err != nil {
		return err
	}
	n.state = next
	n.poke()
	return nil
}

// add declares a node by command.
func (n *nodes) add(save func(nodeState) error, req *api.NodeRequest) error {
	return n.edit(save, func(st *nodeState) error {
		node := req.Node
		if node.Name == reconcile.LocalNode {
			return invalid("add node", node.Name, "the name stands for the engine itself")
		}
		if old, ok := n.findLocked(node.Name); ok {
			if reflect.DeepEqual(old, node) {
				return invalid("add node", node.Name, "there is such a node already")
			}
			return invalid("add node", node.Name, "there is one with other values already; remove it first")
		}
		st.Added = append(st.Added, node)
		st.Overcommit = st.Overcommit || req.Overcommit
		if st.Overcommit {
			return nil
		}
		return n.fitsLocked(append(n.allLocked(), node), "--overcommit")
	})
}

// remove takes a node away that a command has made and that is empty.
func (n *nodes) remove(save func(nodeState) error, name string) error {
	return n.edit(save, func(st *nodeState) error {
		i := slices.IndexFunc(st.Added, func(o stack.Node) bool { return o.Name == name })
		if i < 0 {
			if by := n.describeLocked(stack.Node{Node: scheduler.Node{Name: name}}).Declared; len(by) > 0 {
				return invalid("remove node", name, "stack "+strings.Join(by, ", ")+" declares it; remove it from the file and run up")
			}
			return notFound("find node", name, "no such node; berth node ls shows those there are")
		}
		if residents := n.describeLocked(st.Added[i]).Replicas; len(residents) > 0 {
			return &runtime.Error{Kind: runtime.KindConflict, Op: "remove node", Object: name, Err: errors.New(names(residents) + " on it; drain it first")}
		}
		st.Added = slices.Delete(st.Added, i, i+1)
		if len(st.Added) == 0 {
			st.Overcommit = false
		}
		delete(st.Status, name)
		return nil
	})
}

// names lists residents for a message: "shop/web/1, shop/web/2 and 3 more are".
func names(residents []reconcile.Resident) string {
	const shown = 3
	var list []string
	for i := range residents {
		if i == shown {
			break
		}
		r := &residents[i]
		list = append(list, fmt.Sprintf("%s/%s/%d", r.Stack, r.Service, r.Slot))
	}
	text := strings.Join(list, ", ")
	switch more := len(residents) - len(list); {
	case more > 0:
		return fmt.Sprintf("%s and %d more are", text, more)
	case len(list) == 1:
		return text + " is"
	default:
		return text + " are"
	}
}

// nodeActions are what commands do to a node.
var nodeActions = map[string]func(st *nodeStatus, req *api.NodeAction, now time.Time){
	"cordon":   func(st *nodeStatus, _ *api.NodeAction, _ time.Time) { st.Cordoned = true },
	"uncordon": func(st *nodeStatus, _ *api.NodeAction, _ time.Time) { st.Cordoned, st.Drain = false, nil },
	"drain": func(st *nodeStatus, req *api.NodeAction, now time.Time) {
		st.Drain = &reconcile.Drain{Since: now}
		if req.Deadline > 0 {
			st.Drain.Deadline = now.Add(req.Deadline)
		}
	},
	"fail":    func(st *nodeStatus, _ *api.NodeAction, _ time.Time) { st.Failed = true },
	"recover": func(st *nodeStatus, _ *api.NodeAction, _ time.Time) { *st = nodeStatus{} },
}

// act changes what commands have made of a node.
func (n *nodes) act(save func(nodeState) error, name, action string, req *api.NodeAction, now time.Time) error {
	do, known := nodeActions[action]
	if !known {
		return invalid("act on node", name, fmt.Sprintf("unknown action %q", action))
	}
	if req.Deadline < 0 {
		return invalid(action+" node", name, "the deadline must not be negative")
	}
	return n.edit(save, func(st *nodeState) error {
		if _, ok := n.findLocked(name); !ok {
			if name == reconcile.LocalNode {
				return invalid(action+" node", name, "it is the engine itself; declare nodes with x-berth.nodes or berth node add")
			}
			return notFound("find node", name, "no such node; berth node ls shows those there are")
		}
		s := st.Status[name]
		do(&s, req, now)
		st.Status[name] = s
		if s == (nodeStatus{}) {
			delete(st.Status, name)
		}
		return nil
	})
}

// learnEngine asks the engine once what it is.
func (d *Daemon) learnEngine(ctx context.Context) error {
	if d.nodes.learned() {
		return nil
	}
	info, err := d.cfg.Engine.Info(ctx)
	if err != nil {
		return err
	}
	d.nodes.learn(info)
	return nil
}

// withCluster adds to what was observed of a stack what is known of the nodes.
func (d *Daemon) withCluster(obs *reconcile.Observed, s *stack.Stack) *reconcile.Observed {
	if s == nil {
		return obs
	}
	with := *obs
	with.Cluster, with.Reach = d.nodes.cluster(s), d.reach()
	return &with
}
