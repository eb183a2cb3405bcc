package scheduler

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"
)

// draft is a copy of a cluster in which a rebalance tries its moves.
type draft struct {
	*Cluster
	minGain int64
	items   []item    // by slot
	weight  []amounts // by node: its size against the mean, in thousandths
	cost    []amounts // by node: what each resource adds to the squared use
	moves   []Move    // made so far

	shapes map[*Shape]*outlook
	bound  []*survey // of the shapes for which other nodes matter
}

// item is one replica of a draft.
type item struct {
	placement Placement // in the cluster that was copied
	origin    int32     // node
	fixed     string    // why it may not move
	moved     bool
	size      int64 // of what all nodes have of it, its largest part, in 2^-40
}

// outlook is what a draft knows of a shape.
type outlook struct {
	*survey
	ordinal int32 // by first appearance
	size    int64
	// bound: other nodes than the target matter to its filters.
	bound bool
	// lifted: the replica itself would be in its own way.
	lifted bool
	needed bool // others must be near to it
}

func newDraft(c *Cluster, fixed func(Replica) string, minGain int64) *draft {
	d := &draft{
		Cluster: &Cluster{policy: c.policy, byName: map[string]*node{}},
		minGain: minGain, shapes: map[*Shape]*outlook{},
	}
	for _, n := range c.nodes {
		var copied *node
		if n != nil {
			copied = &node{Node: n.Node, index: n.index, counted: n.counted, alloc: n.alloc}
			d.byName[n.Name] = copied
		}
		d.nodes = append(d.nodes, copied)
	}
	d.weigh()
	for n := range c.each() {
		for _, slot := range n.slots {
			it := item{placement: c.handle(slot), origin: n.index}
			if fixed != nil {
				it.fixed = fixed(c.replica(slot))
			}
			d.items = append(d.items, it)
			d.place(c.records[slot].shape, d.nodes[n.index], c.records[slot].id)
		}
	}
	d.look()
	return d
}

// weigh sets the weights of the nodes that are not down.
func (d *draft) weigh() {
	d.weight, d.cost = make([]amounts, len(d.nodes)), make([]amounts, len(d.nodes))
	total, count := d.total()
	for n := range d.each() {
		for k, alloc := range n.alloc {
			if alloc > 0 && !n.Down {
				hi, lo := bits.Mul64(uint64(alloc), 1000*uint64(count[k])) //nolint:gosec // not negative
				q, _ := bits.Div64(hi, lo, total[k])                       // below 1000·count
				d.weight[n.index][k] = int64(q)                            //nolint:gosec // see above
			}
		}
	}
}

// total sums up, over the nodes that are not down, what each resource has, and
// counts the nodes that have any.
func (d *draft) total() (sum [resourceKinds]uint64, count amounts) {
	for n := range d.each() {
		for k, alloc := range n.alloc {
			if alloc > 0 && !n.Down {
				sum[k] += uint64(alloc)
				count[k]++
			}
		}
	}
	return sum, count
}

// look sets what must be known of each shape and node once all is placed.
func (d *draft) look() {
	total, _ := d.total()
	repelled, needed := map[serviceKey]bool{}, map[serviceKey]bool{}
	var shapes []*Shape
	for slot := range d.items {
		s := d.records[slot].shape
		if d.shapes[s] == nil {
			d.shapes[s] = &outlook{ordinal: int32(len(d.shapes)), size: s.dominant(total)} //nolint:gosec // bounded by memory
			shapes = append(shapes, s)
			s.naming(s.template.Anti, repelled)
			s.naming(s.template.Affinity, needed)
		}
		d.items[slot].size = d.shapes[s].size
	}
	for _, s := range shapes {
		o := d.shapes[s]
		key := serviceKey{s.service.stack, s.service.name}
		t := &s.template
		o.needed = needed[key]
		o.bound = repelled[key] || o.needed || len(t.Affinity)+len(t.Anti)+len(t.Spread) > 0
		o.lifted = o.bound || len(t.Ports) > 0
		if !o.bound {
			o.survey = &survey{cluster: d.Cluster, shape: s, gone: map[int32]bool{}, repelled: weighed{}, kin: map[*Shape]*terms{}}
			continue
		}
		o.survey = d.survey(s, map[int32]bool{})
		d.bound = append(d.bound, o.survey)
	}
	for n := range d.each() {
		d.reckon(n)
	}
}

// naming marks the services that the terms name.
func (s *Shape) naming(terms []ServiceTerm, marked map[serviceKey]bool) {
	for _, t := range terms {
		for _, name := range t.Services {
			marked[serviceKey{s.service.stack, name}] = true
		}
	}
}

// dominant is the largest share that the shape asks for of what all nodes
// together have of a resource, in 2^-40: its dominant share.
func (s *Shape) dominant(total [resourceKinds]uint64) int64 {
	most := uint64(0)
	for k, need := range s.need {
		if need > 0 && uint64(need) < total[k] {
			hi, lo := bits.Mul64(uint64(need), 1<<40)
			q, _ := bits.Div64(hi, lo, total[k])
			most = max(most, q)
		} else if need > 0 && total[k] > 0 {
			most = 1 << 40
		}
	}
	return int64(most)
}

// reckon sets what a node adds to the squared use.
func (d *draft) reckon(n *node) {
	for k := range n.alloc {
		d.cost[n.index][k] = d.term(n, k, n.scored[k])
	}
}

// million is the unit of fractions: a part is so many millionths.
const million = 1_000_000

// maxFraction bounds the used fraction: a node may be used a thousand times over.
const maxFraction = 1000 * million

// fraction is used/alloc in millionths, rounded down, for alloc above zero.
func fraction(used, alloc int64) uint64 {
	if used <= 0 {
		return 0
	}
	if used/1000 >= alloc {
		return maxFraction
	}
	hi, lo := bits.Mul64(uint64(used), million)
	q, _ := bits.Div64(hi, lo, uint64(alloc)) //nolint:gosec // above zero
	return q
}

// term is what the node adds to the squared use if so much of the resource is
// used: weight · (used/alloc)², in millionths.
func (d *draft) term(n *node, k int, used int64) int64 {
	w := d.weight[n.index][k]
	if w == 0 {
		return 0
	}
	f := fraction(used, n.alloc[k])
	hi, lo := bits.Mul64(uint64(w), f*f) //nolint:gosec // not negative
	if hi == 0 {
		return int64(lo / (1000 * million)) //nolint:gosec // far below 2^63
	}
	q, _ := bits.Div64(hi, lo, 1000*million) // w is below 2^33, f·f at most 10^18
	return int64(q)                          //nolint:gosec // see above
}

// added is by how much the squared use grows if the node takes one more of the shape.
func (d *draft) added(n *node, s *Shape) (sum int64) {
	for k, need := range s.score {
		if need > 0 && d.weight[n.index][k] > 0 {
			sum += d.term(n, k, n.scored[k]+need) - d.cost[n.index][k]
		}
	}
	return sum
}

// relief is by how much it shrinks if the node loses one of the shape.
func (d *draft) relief(n *node, s *Shape) (sum int64) {
	for k, need := range s.score {
		if need > 0 && d.weight[n.index][k] > 0 {
			sum += d.cost[n.index][k] - d.term(n, k, n.scored[k]-need)
		}
	}
	return sum
}

// level is how far a node is used, the mean over its resources, in millionths.
func (n *node) level() int64 {
	var sum, count uint64
	for k, alloc := range n.alloc {
		if alloc > 0 {
			sum += fraction(n.scored[k], alloc)
			count++
		}
	}
	return int64(sum / max(count, 1)) //nolint:gosec // bounded by maxFraction
}

func (d *draft) figures() (f Figures) {
	for n := range d.each() {
		if n.Down {
			continue
		}
		for _, v := range d.cost[n.index] {
			f.SquaredUse += v
		}
		if len(n.slots) > 0 {
			f.InUse++
		}
	}
	return f
}

func (d *draft) fixed() []FixedReplica {
	var all []FixedReplica
	for slot, it := range d.items {
		if it.fixed != "" {
			r := &d.records[slot]
			all = append(all, FixedReplica{ID: r.id, Node: d.nodes[r.node].Name, Reason: it.fixed})
		}
	}
	return all
}

// asking calls f while the filters see the replica as gone from where it stands.
func (d *draft) asking(slot int32, f func(fits func(*node) bool)) {
	r := &d.records[slot]
	o := d.shapes[r.shape]
	if o.lifted {
		o.lift(slot)
		defer o.put(slot)
	}
	f(func(n *node) bool { return o.feasible(n) && (!o.needed || !d.strands(slot, n)) })
}

// fits says whether the filters let the replica go to the node.
func (d *draft) fits(slot int32, n *node) (ok bool) {
	d.asking(slot, func(fits func(*node) bool) { ok = fits(n) })
	return ok
}

// strands says whether somebody who must be near to the replica would have
// nobody to be near to once it is on the node.
func (d *draft) strands(slot int32, to *node) bool {
	r := &d.records[slot]
	from := d.nodes[r.node]
	return slices.ContainsFunc(d.bound, func(v *survey) bool {
		for _, i := range v.related(r.shape).near {
			key := v.shape.template.Affinity[i].TopologyKey
			d1, ok := from.domain(key)
			d2, _ := to.domain(key)
			// The survey of the replica's own shape has it lifted already.
			others := v.near[i][d1]
			if !v.gone[slot] {
				others--
			}
			if ok && d1 != d2 && others == 0 && d.hosts(v.shape, key, d1, slot) {
				return true
			}
		}
		return false
	})
}

// hosts says whether a replica of the shape other than the given one stands in the domain.
func (d *draft) hosts(s *Shape, key, domain string, but int32) bool {
	for n := range d.each() {
		if has, ok := n.domain(key); !ok || has != domain {
			continue
		}
		for _, slot := range n.slots {
			if slot != but && d.records[slot].shape == s {
				return true
			}
		}
	}
	return false
}

// shift moves a replica to another node.
func (d *draft) shift(slot int32, to *node) {
	r := &d.records[slot]
	from := d.nodes[r.node]
	d.unlink(slot)
	d.link(slot, to)
	for _, v := range d.bound {
		v.shift(from, r.shape, -1)
		v.shift(to, r.shape, 1)
	}
	d.reckon(from)
	d.reckon(to)
}

// move makes and records a move.
func (d *draft) move(slot int32, to *node, gain int64, cause string) {
	r := &d.records[slot]
	d.moves = append(d.moves, Move{
		Placement: d.items[slot].placement, ID: r.id, From: d.nodes[r.node].Name, To: to.Name, Cause: cause, Gain: gain,
	})
	d.items[slot].moved = true
	d.shift(slot, to)
}

// compare orders the replicas of a node for their moves: those of lower priority
// first, then the larger ones, which are harder to place, then by ID.
func (d *draft) compare(a, b int32) int {
	return cmp.Or(
		cmp.Compare(d.records[a].shape.Priority(), d.records[b].shape.Priority()),
		cmp.Compare(d.items[b].size, d.items[a].size),
		cmp.Compare(d.records[a].id, d.records[b].id),
		cmp.Compare(a, b),
	)
}

// percent writes millionths as whole percent.
func percent(v int64) string { return fmt.Sprintf("%d%%", v/(million/100)) }
