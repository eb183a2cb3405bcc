package scheduler

import (
	"slices"
	"strings"
)

// plan is what the index keeps of a shape: which tallies its terms look at.
type plan struct {
	scan bool // something depends on single nodes in a way that has no index

	near, far []watch // required affinity and anti-affinity
	likes     []watch // preferred ones, with their weights
	spread    []spreadPlan
	levels    []watch  // of the preferences: domains are branches
	own       *tally   // of the service by node, for max_replicas_per_node
	holds     []*tally // that count the replicas of this shape, for its own terms
}

// watch is a tally seen by the domains of a key.
type watch struct {
	tally  *tally
	key    string
	weight int64
	self   bool // the term names the shape's own service
	repels bool // required anti-affinity of the other side

	domains *partition // nil: each node is a domain
	sums    []int32    // by domain, of the choice in hand
	total   int32      // sum of sums
	parents []int32    // of preferences: the branch above, by branch
}

// spreadPlan is a spread rule: a watch over the classes that count.
type spreadPlan struct {
	watch
	rule  SpreadRule
	least int32
	count int // of domains that count
}

// sum adds up the tally by domain.
func (w *watch) sum() {
	clear(w.sums)
	w.total = 0
	for class, n := range w.tally.byClass {
		if d := w.domains.of[class]; d >= 0 {
			w.sums[d] += n
			w.total += n
		}
	}
}

func (x *index) watch(t *tally, key string) watch {
	w := watch{tally: t, key: key}
	if key != "" {
		w.domains = x.partition(key)
		w.sums = make([]int32, w.domains.count)
	}
	return w
}

// adopt makes the plan of a shape and the tallies that it needs. With walk, new
// tallies are counted at once by looking at all placements.
func (c *Cluster) adopt(s *Shape, walk bool) {
	t, p, x := &s.template, &s.plan, c.index
	*p, s.view = plan{}, nil
	p.scan = slices.Contains(t.mentions(), "") || slices.Contains(t.Preferences, "")
	selector := func(term ServiceTerm) watch {
		w := x.watch(c.selector(s, term.Services, term.TopologyKey == "", walk), term.TopologyKey)
		w.self = slices.Contains(term.Services, s.service.name)
		return w
	}
	for _, term := range t.Affinity {
		p.near = append(p.near, selector(term))
		c.hold(s, term, watch{weight: hardAffinityWeight})
	}
	for _, term := range t.Anti {
		p.far = append(p.far, selector(term))
		c.hold(s, term, watch{repels: true})
	}
	like := func(terms []ServiceTerm, sign int64) {
		for _, term := range terms {
			w := selector(term)
			w.weight = sign * int64(term.Weight)
			p.likes = append(p.likes, w)
			c.hold(s, term, watch{weight: w.weight})
		}
	}
	like(t.AffinityLike, 1)
	like(t.AntiLike, -1)
	if t.MaxPerNode > 0 {
		p.own = c.selector(s, []string{s.service.name}, true, walk)
	}
	if len(t.Spread)+len(t.Preferences) > 0 && !p.scan {
		c.adoptSpread(s, c.selector(s, []string{s.service.name}, false, walk))
	}
	s.lone = s.lean && p.bare() && len(s.service.felt)+len(s.service.feeds) == 0
}

// bare says whether the plan looks at nothing.
func (p *plan) bare() bool {
	return !p.scan && p.own == nil && len(p.near)+len(p.far)+len(p.likes)+len(p.spread)+len(p.levels)+len(p.holds) == 0
}

// adoptSpread plans the spread rules and the preferences.
func (c *Cluster) adoptSpread(s *Shape, own *tally) {
	p, x := &s.plan, c.index
	for _, r := range s.template.Spread {
		if r.TopologyKey == "" {
			p.scan = true
			return
		}
		all := x.partition(r.TopologyKey)
		counted := &partition{of: slices.Clone(all.of), count: all.count}
		seen := map[int32]bool{}
		for i, cl := range x.classes {
			if !s.eligible(cl.sample) || !s.spreadsOver(cl.sample, r.Prefer) {
				counted.of[i] = -1
			} else {
				seen[counted.of[i]] = true
			}
		}
		p.spread = append(p.spread, spreadPlan{
			watch: watch{tally: own, key: r.TopologyKey, domains: counted, sums: make([]int32, all.count)},
			rule:  r, count: len(seen),
		})
	}
	for level := range s.template.Preferences {
		p.levels = append(p.levels, x.branches(own, s.template.Preferences[:level+1]))
	}
}

// branches watches the branches at one level of the preferences.
func (x *index) branches(own *tally, keys []string) watch {
	w := watch{tally: own, domains: &partition{of: make([]int32, len(x.classes))}}
	ids, above := map[string]int32{}, map[string]int32{}
	for i, cl := range x.classes {
		path, parent := cl.sample.path(keys), cl.sample.path(keys[:len(keys)-1])
		if _, ok := above[parent]; !ok {
			above[parent] = int32(len(above)) //nolint:gosec // at most as many as classes
		}
		id, ok := ids[path]
		if !ok {
			id = int32(len(ids)) //nolint:gosec // at most as many as classes
			ids[path] = id
			w.parents = append(w.parents, above[parent])
		}
		w.domains.of[i] = id
	}
	w.domains.count = len(ids)
	w.sums = make([]int32, len(ids))
	return w
}

// selector is the tally of all replicas of some services of the shape's stack.
func (c *Cluster) selector(s *Shape, services []string, byNode, walk bool) *tally {
	key := s.service.stack + "\x00" + strings.Join(services, "\x00")
	if byNode {
		key += "\x00\x00"
	}
	if t, ok := c.index.tallies[key]; ok {
		return t
	}
	t := c.index.tally(byNode)
	c.index.tallies[key] = t
	placed := 0
	for _, name := range services {
		named := c.service(s.service.stack, name)
		named.feeds = append(named.feeds, t)
		for _, of := range named.shapes {
			of.lone = false
			placed += of.placed
		}
	}
	if walk && placed > 0 {
		c.recount(t, func(r *Shape) bool { return slices.Contains(r.service.feeds, t) })
	}
	return t
}

func (x *index) tally(byNode bool) *tally {
	t := &tally{byClass: make([]int32, len(x.classes))}
	if byNode {
		t.byNode = map[int32]int32{}
	}
	return t
}

// recount counts the placed replicas that belong to a new tally.
func (c *Cluster) recount(t *tally, belongs func(*Shape) bool) {
	for n := range c.each() {
		for _, slot := range n.slots {
			if belongs(c.records[slot].shape) {
				t.count(n, 1)
			}
		}
	}
}

// hold makes the tally of the shape's own replicas that carry a term, which the
// services it names feel. Nothing of a new shape is placed yet.
func (c *Cluster) hold(s *Shape, term ServiceTerm, as watch) {
	t := c.index.tally(term.TopologyKey == "")
	w := c.index.watch(t, term.TopologyKey)
	w.weight, w.repels = as.weight, as.repels
	s.plan.holds = append(s.plan.holds, t)
	for _, name := range term.Services {
		named := c.service(s.service.stack, name)
		named.felt = append(named.felt, w)
		for _, of := range named.shapes {
			of.lone = false
		}
	}
}
