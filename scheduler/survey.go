package scheduler

import (
	"math"
	"slices"
)

// survey is what the nodes and everything placed on them mean for one shape. It
// is made by looking at all of them, and so is the measure of the index.
type survey struct {
	cluster *Cluster
	shape   *Shape
	gone    map[int32]bool // placements to be taken as released
	// succeeds: it is about the successor of a replica, in its place.
	succeeds bool

	near     []counts          // per required affinity: replicas by domain
	far      []counts          // per required anti-affinity
	repelled weighed           // where the anti-affinity of replicas keeps the shape away
	liked    weighed           // the preferences of both sides
	spread   []spreadCount     // per rule
	branches []map[string]int  // per level of the preferences: replicas by path
	kin      map[*Shape]*terms // how placed shapes relate to this one
}

// counts are numbers of replicas by domain.
type counts map[string]int

func (c counts) any() bool { return len(c) > 0 }

// weighed sums weights by topology key and domain.
type weighed map[string]map[string]int64

func (w weighed) add(key, domain string, weight int64) {
	if w[key] == nil {
		w[key] = map[string]int64{}
	}
	w[key][domain] += weight
}

// spreadCount is what a spread rule looks at.
type spreadCount struct {
	rule    SpreadRule
	domains counts // of the nodes that count; 0 where none is placed
	least   int    // the global minimum
}

// terms is how one placed shape relates to the surveyed one.
type terms struct {
	near, far []int    // which terms of the surveyed shape name it
	same      bool     // of the same service
	repels    []string // keys of its anti-affinity that names the surveyed service
	likes     []liking // preferences of either side
}

type liking struct {
	key    string
	weight int64
}

// hardAffinityWeight is what a placed replica's required affinity counts as a preference.
const hardAffinityWeight = 1

// domain is the node's value of a topology key, if it has one.
func (n *node) domain(key string) (string, bool) {
	if key == "" {
		return n.Name, true
	}
	return n.label(key)
}

// survey looks at every node and placement, but for those that are gone.
func (c *Cluster) survey(s *Shape, gone map[int32]bool) *survey {
	v := &survey{cluster: c, shape: s, gone: gone}
	t := &s.template
	v.near, v.far = make([]counts, len(t.Affinity)), make([]counts, len(t.Anti))
	v.repelled, v.liked, v.kin = weighed{}, weighed{}, map[*Shape]*terms{}
	for i := range v.near {
		v.near[i] = counts{}
	}
	for i := range v.far {
		v.far[i] = counts{}
	}
	v.branches = make([]map[string]int, len(t.Preferences))
	for i := range v.branches {
		v.branches[i] = map[string]int{}
	}
	for _, r := range t.Spread {
		v.spread = append(v.spread, spreadCount{rule: r, domains: counts{}})
	}
	for n := range c.each() {
		v.look(n)
	}
	for i := range v.spread {
		v.spread[i].setLeast()
	}
	return v
}

// look counts what is placed on one node.
func (v *survey) look(n *node) {
	own := 0
	for _, slot := range n.slots {
		if v.gone[slot] {
			continue
		}
		t := v.related(v.cluster.records[slot].shape)
		if t.same {
			own++
		}
		v.count(n, t)
	}
	if own > 0 {
		for level := range v.branches {
			v.branches[level][n.path(v.shape.template.Preferences[:level+1])] += own
		}
	}
	v.countSpread(n, own)
}

// count adds what one placed replica is to the terms.
func (v *survey) count(n *node, t *terms) {
	for _, i := range t.near {
		if d, ok := n.domain(v.shape.template.Affinity[i].TopologyKey); ok {
			v.near[i][d]++
		}
	}
	for _, i := range t.far {
		if d, ok := n.domain(v.shape.template.Anti[i].TopologyKey); ok {
			v.far[i][d]++
		}
	}
	for _, key := range t.repels {
		if d, ok := n.domain(key); ok {
			v.repelled.add(key, d, 1)
		}
	}
	for _, l := range t.likes {
		if d, ok := n.domain(l.key); ok {
			v.liked.add(l.key, d, l.weight)
		}
	}
}

// countSpread adds a node's replicas of the service to the rules for which the
// node counts: those that its own labels let the service use.
func (v *survey) countSpread(n *node, own int) {
	if len(v.spread) == 0 || !v.shape.eligible(n) {
		return
	}
	for i := range v.spread {
		r := &v.spread[i]
		if v.shape.spreadsOver(n, r.rule.Prefer) {
			d, _ := n.domain(r.rule.TopologyKey)
			r.domains[d] += own
		}
	}
}

// eligible says whether the node counts when the service is spread: it is up,
// and nothing that the service asks of labels and platform excludes it. Taints
// and cordons do not matter here.
func (s *Shape) eligible(n *node) bool {
	return !n.Down && s.fitsPlatform(n) && s.lacking(n) < 0 && s.selects(n)
}

// spreadsOver says whether the node has the labels of all rules of the kind.
func (s *Shape) spreadsOver(n *node, prefer bool) bool {
	return !slices.ContainsFunc(s.template.Spread, func(r SpreadRule) bool {
		_, ok := n.domain(r.TopologyKey)
		return r.Prefer == prefer && !ok
	})
}

func (r *spreadCount) setLeast() {
	r.least = math.MaxInt
	for _, n := range r.domains {
		r.least = min(r.least, n)
	}
	if len(r.domains) < max(r.rule.MinDomains, 1) {
		r.least = 0
	}
}

// path is the node's branch of the preferences. Nodes without a label form the
// branch of the empty value.
func (n *node) path(keys []string) string {
	path := make([]byte, 0, 32)
	for _, key := range keys {
		value, _ := n.domain(key)
		path = append(append(path, value...), 0)
	}
	return string(path)
}

// related finds how a placed shape relates to the surveyed one.
func (v *survey) related(placed *Shape) *terms {
	if t, ok := v.kin[placed]; ok {
		return t
	}
	t := v.shape.related(placed)
	v.kin[placed] = t
	return t
}

func (s *Shape) related(placed *Shape) *terms {
	t := &terms{same: placed.service == s.service}
	mine, its := &s.template, &placed.template
	t.near, t.far = naming(s, mine.Affinity, placed), naming(s, mine.Anti, placed)
	for _, i := range naming(placed, its.Anti, s) {
		t.repels = append(t.repels, its.Anti[i].TopologyKey)
	}
	for _, i := range naming(s, mine.AffinityLike, placed) {
		t.like(mine.AffinityLike[i].TopologyKey, mine.AffinityLike[i].Weight)
	}
	for _, i := range naming(s, mine.AntiLike, placed) {
		t.like(mine.AntiLike[i].TopologyKey, -mine.AntiLike[i].Weight)
	}
	for _, i := range naming(placed, its.AffinityLike, s) {
		t.like(its.AffinityLike[i].TopologyKey, its.AffinityLike[i].Weight)
	}
	for _, i := range naming(placed, its.AntiLike, s) {
		t.like(its.AntiLike[i].TopologyKey, -its.AntiLike[i].Weight)
	}
	for _, i := range naming(placed, its.Affinity, s) {
		t.like(its.Affinity[i].TopologyKey, hardAffinityWeight)
	}
	return t
}

func (t *terms) like(key string, weight int) {
	t.likes = append(t.likes, liking{key, int64(weight)})
}

// naming returns which terms of the holder name the other's service.
func naming(holder *Shape, terms []ServiceTerm, other *Shape) []int {
	if holder.service.stack != other.service.stack {
		return nil
	}
	var which []int
	for i, t := range terms {
		if slices.Contains(t.Services, other.service.name) {
			which = append(which, i)
		}
	}
	return which
}
