package scheduler

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

// index lets a cluster choose exactly what a full scan would, without one. It
// holds the nodes by [class], and for what the affinity, spread and limits of
// the registered shapes look at, a [tally]. It is made at the first choice after
// the nodes or the labels that templates mention have changed, and then follows
// every placement.
type index struct {
	classes []*class
	views   map[string]*view
	domains map[string]*partition
	tallies map[string]*tally

	query query // of the choice in hand; kept for its slices

	hot    hot
	late   []*node // that have changed since their classes followed
	latest *Shape  // that was chosen for
	streak int     // choices for it in a row, up to the making of the tree
}

// tally counts replicas by class, and where it is looked at node by node, by node.
type tally struct {
	total   int
	byClass []int32
	byNode  map[int32]int32 // nil: not wanted
}

func (t *tally) count(n *node, by int) {
	t.total += by
	t.byClass[n.class.id] += int32(by) //nolint:gosec // 1 or -1
	if t.byNode == nil {
		return
	}
	if left := t.byNode[n.index] + int32(by); left == 0 { //nolint:gosec // 1 or -1
		delete(t.byNode, n.index)
	} else {
		t.byNode[n.index] = left
	}
}

// partition maps classes to the domains of a key: -1 where the label is missing.
type partition struct {
	of    []int32 // by class
	count int
}

// view is the classes that the static filters of some shapes let pass.
type view struct {
	classes  []viewed
	eligible []bool // by class: counts for spread
	flat     bool   // the static scores are the same for all

	guesses [sizes * sizes]rank // by the size of the shape: what the latest choice scored
}

// guess is what was chosen for the latest shape that needs about as much.
func (v *view) guess(s *Shape) *rank {
	alloc := &v.classes[0].sample.alloc
	size := func(kind int) int64 {
		return min(int64(shareOf(s.score[kind], alloc[kind])>>percentBits), sizes-1)
	}
	return &v.guesses[size(cpu)*sizes+size(memory)]
}

// sizes is how many percent of a node a guess tells apart for each of cpu and memory.
const sizes = 32

type viewed struct {
	*class
	taints, liking int64 // raw scores
}

// profile names what a template asks of a node's own properties. Shapes with one
// profile share a view.
func (t *Template) profile() string {
	if t.OS == "" && t.Arch == "" && len(t.Tolerate)+len(t.Constraints)+len(t.NodeSelector)+len(t.NodeRequired)+len(t.NodePrefer) == 0 {
		return ""
	}
	key, _ := json.Marshal(Template{ // of strings and numbers: it cannot fail
		OS: t.OS, Arch: t.Arch, Tolerate: t.Tolerate, Constraints: t.Constraints,
		NodeSelector: t.NodeSelector, NodeRequired: t.NodeRequired, NodePrefer: t.NodePrefer,
	})
	return string(key)
}

// mentions lists the labels on which the template depends, with "engine.labels."
// before those of the engine; the empty one is the node's name.
func (t *Template) mentions() []string {
	var keys []string
	for _, c := range t.Constraints {
		switch {
		case strings.EqualFold(c.Key, "node.id"), strings.EqualFold(c.Key, "node.hostname"):
			keys = append(keys, "")
		default:
			if label, ok := cutPrefixFold(c.Key, nodeLabels); ok {
				keys = append(keys, label)
			} else if label, ok := cutPrefixFold(c.Key, engineLabels); ok {
				keys = append(keys, engineLabels+label)
			}
		}
	}
	keys = mentioned(keys, t.NodeSelector)
	for _, term := range slices.Concat(t.NodeRequired, t.NodePrefer) {
		keys = mentioned(keys, term.Requirements)
	}
	return keys
}

func mentioned(keys []string, all []Requirement) []string {
	for _, r := range all {
		keys = append(keys, r.Key)
	}
	return keys
}

// topologies lists the topology keys of the template.
func (t *Template) topologies() []string {
	keys := slices.Clone(t.Preferences)
	for _, term := range slices.Concat(t.Affinity, t.AffinityLike, t.Anti, t.AntiLike) {
		keys = append(keys, term.TopologyKey)
	}
	for _, r := range t.Spread {
		keys = append(keys, r.TopologyKey)
	}
	return keys
}

// mention makes the shape's labels part of the classes. Where they are new, the
// index has to be made again.
func (c *Cluster) mention(s *Shape) {
	for _, key := range append(s.template.mentions(), s.template.topologies()...) {
		at, known := slices.BinarySearch(c.keys, key)
		if key != "" && !known {
			c.keys = slices.Insert(c.keys, at, key)
			c.index = nil
		}
	}
}

// ready makes the index if there is none.
func (c *Cluster) ready() *index {
	if c.index != nil {
		return c.index
	}
	x := &index{views: map[string]*view{}, domains: map[string]*partition{}, tallies: map[string]*tally{}}
	c.index = x
	byKey, sizes := map[string]*class{}, map[amounts]*size{}
	for n := range c.each() {
		key := n.classKey(c.keys)
		cl := byKey[key]
		if cl == nil {
			if sizes[n.alloc] == nil {
				sizes[n.alloc] = newSize(&c.policy, n.alloc)
			}
			cl = &class{
				id: int32(len(x.classes)), sample: n, size: sizes[n.alloc], //nolint:gosec // bounded by memory
				more: c.policy.resources[disk]+c.policy.resources[network] > 0,
			}
			byKey[key] = cl
			x.classes = append(x.classes, cl)
		}
		cl.add(n)
	}
	for _, cl := range x.classes {
		cl.fill()
	}
	x.query.classes = x.classes
	for _, s := range c.services {
		s.feeds, s.felt = nil, nil
	}
	for _, s := range c.known {
		c.adopt(s, false)
	}
	for n := range c.each() {
		for _, slot := range n.slots {
			c.records[slot].shape.count(n, 1)
		}
	}
	return x
}

// classKey is what the nodes of a class have in common.
func (n *node) classKey(keys []string) string {
	b := make([]byte, 0, 128)
	for i, v := range n.alloc {
		b = strconv.AppendInt(b, v, 36)
		b = strconv.AppendBool(append(b, ' '), n.counted[i])
	}
	b = strconv.AppendBool(b, n.Down)
	b = strconv.AppendBool(b, n.closed())
	for _, text := range []string{n.OS, n.Arch, n.Role} {
		b = strconv.AppendQuote(b, text)
	}
	for _, t := range n.Taints {
		b = append(strconv.AppendQuote(b, t.String()), 't')
	}
	for _, key := range keys {
		if value, ok := n.label(key); ok {
			b = strconv.AppendQuote(append(b, 'l'), value)
		} else {
			b = append(b, 'm')
		}
	}
	return string(b)
}

// follow keeps the index up to date with one replica more or less on the node.
func (c *Cluster) follow(n *node, s *Shape, by int) {
	if c.index == nil {
		return
	}
	s.count(n, by)
	x := c.index
	if x.hot.shape == nil {
		n.class.changed(n)
		return
	}
	x.hot.changed(n)
	if !n.late {
		n.late = true
		x.late = append(x.late, n)
	}
}

// catchUp lets the classes follow what changed while the tree chose.
func (x *index) catchUp() {
	for _, n := range x.late {
		n.late = false
		n.class.changed(n)
	}
	x.late = x.late[:0]
}

func (s *Shape) count(n *node, by int) {
	if s.lone {
		return
	}
	for _, t := range s.service.feeds {
		t.count(n, by)
	}
	for _, t := range s.plan.holds {
		t.count(n, by)
	}
}

// view returns the classes that the shape's static filters let pass.
func (x *index) view(s *Shape) *view {
	if s.view != nil {
		return s.view
	}
	if v, ok := x.views[s.profile]; ok {
		s.view = v
		return v
	}
	v := &view{eligible: make([]bool, len(x.classes)), flat: true}
	for _, cl := range x.classes {
		n := cl.sample
		v.eligible[cl.id] = s.eligible(n)
		if !v.eligible[cl.id] || n.closed() || s.repelling(n) >= 0 {
			continue
		}
		v.classes = append(v.classes, viewed{cl, s.softTaints(n), s.nodeLiking(n)})
		first := v.classes[0]
		v.flat = v.flat && first.taints == s.softTaints(n) && first.liking == s.nodeLiking(n)
	}
	x.views[s.profile], s.view = v, v
	return v
}

// partition returns the domains of a key.
func (x *index) partition(key string) *partition {
	if p, ok := x.domains[key]; ok {
		return p
	}
	p := &partition{of: make([]int32, len(x.classes))}
	ids := map[string]int32{}
	for i, cl := range x.classes {
		value, ok := cl.sample.label(key)
		if !ok {
			p.of[i] = -1
			continue
		}
		id, known := ids[value]
		if !known {
			id = int32(len(ids)) //nolint:gosec // at most as many as classes
			ids[value] = id
		}
		p.of[i] = id
	}
	p.count = len(ids)
	x.domains[key] = p
	return p
}
