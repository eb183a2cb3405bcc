package scheduler

import (
	"math"
)

// query is one choice in hand.
type query struct {
	policy *policy
	shape  *Shape

	alike      bool     // nothing of the following
	perNode    bool     // one of the following looks at single nodes
	near, far  []*tally // by node: must have, must not have
	felt       []*watch // what placed replicas want of the shape
	candidates []candidate

	classes []*class // by id
	freed   *node    // that a replica left since the latest choice
	count   uint64   // of the choices, to tell whose bound a size has
	later   []later
}

// candidate is the best node of a class, with what the class scores.
type candidate struct {
	viewed
	best     rank
	liking2  int64 // raw service affinity
	crowding int64 // raw topology score
	total    int64
	topped   bool // still in the fewest branch
}

// chooseFast chooses by the index; ok is false where only a full scan can tell.
func (c *Cluster) chooseFast(s *Shape) (chosen *node, ok bool) {
	x := c.ready()
	if !s.lone && s.plan.scan {
		return nil, false
	}
	q := &x.query
	q.policy, q.shape = &c.policy, s
	q.count++
	if !q.feel() {
		return nil, false
	}
	if c.policy.sharedPorts && !s.lean && c.portsTaken(s) {
		return nil, true
	}
	view := x.view(s)
	if x.repeats(c, view) {
		return c.at(x.hot.first()), true
	}
	x.catchUp()
	if q.sum(); view.flat && !q.compares() {
		return c.at(q.first(view)), true
	}
	return c.at(q.among(view)), true
}

// at is the node that was found, if any.
func (c *Cluster) at(found rank) *node {
	if found == nothing {
		return nil
	}
	return c.nodes[found.index()]
}

// first chooses among classes that score the same but for the use of their nodes.
// It first looks only for what scores at least as much as the latest choice for
// a shape of that size, which is nearly always there, and passes over the rest;
// or, when a replica has just left a node, for what is better than that node.
func (q *query) first(v *view) rank {
	if len(v.classes) == 0 {
		return nothing
	}
	guess, b := v.guess(q.shape), q.left(v)
	if b == nothing {
		b = *guess
	}
	if q.over(v, &b); b == *guess && b > nothing { // a guess is not the rank of a node
		b = nothing
		q.over(v, &b)
	}
	*guess = max(b-1<<32, nothing).floor()
	return b
}

// left is how the node ranks that a replica left latest, for the first choice
// after that: on a full cluster hardly another has room. It ranks as nothing where
// it does not take the shape.
func (q *query) left(v *view) rank {
	n, b := q.freed, nothing
	if q.freed = nil; n == nil {
		return nothing
	}
	for _, cl := range v.classes {
		if cl.class == n.class && q.admits(cl.class) {
			q.try(n, &b)
		}
	}
	return b
}

// over searches all classes.
func (q *query) over(v *view, b *rank) {
	for _, cl := range v.classes {
		if q.admits(cl.class) {
			q.search(cl.class, b)
		}
	}
	q.settle(b)
}

// feel gathers what looks at single nodes and what placed replicas want. It
// returns false where that has no index.
func (q *query) feel() bool {
	q.near, q.far, q.felt = q.near[:0], q.far[:0], q.felt[:0]
	if q.shape.lone {
		q.perNode, q.alike = false, true
		return true
	}
	p := &q.shape.plan
	q.alike = false
	for i := range p.near {
		if w := &p.near[i]; w.domains == nil && (!w.self || w.tally.total > 0) {
			q.near = append(q.near, w.tally)
		}
	}
	for i := range p.far {
		if w := &p.far[i]; w.domains == nil {
			q.far = append(q.far, w.tally)
		}
	}
	for i := range q.shape.service.felt {
		w := &q.shape.service.felt[i]
		switch {
		case w.tally.total == 0:
		case w.domains != nil:
			q.felt = append(q.felt, w)
		case w.repels:
			q.far = append(q.far, w.tally)
		case q.policy.weights[scoreServiceAffinity] > 0:
			return false
		}
	}
	q.perNode = len(q.near)+len(q.far)+len(q.shape.template.Ports)+len(q.shape.generic) > 0 || p.own != nil
	return !q.likesNodes()
}

// likesNodes says whether the shape prefers or avoids nodes by what is on them.
func (q *query) likesNodes() bool {
	if q.policy.weights[scoreServiceAffinity] == 0 {
		return false
	}
	for i := range q.shape.plan.likes {
		if w := &q.shape.plan.likes[i]; w.domains == nil && w.tally.total > 0 {
			return true
		}
	}
	return false
}

// compares says whether other replicas give classes different scores.
func (q *query) compares() bool {
	if q.alike {
		return false
	}
	p := &q.shape.plan
	for _, w := range q.felt {
		if w.weight != 0 {
			return true
		}
	}
	for i := range p.spread {
		if p.spread[i].rule.Prefer {
			return true
		}
	}
	return len(p.likes)+len(p.levels) > 0
}

// among chooses among classes that differ in more than the use of their nodes.
func (q *query) among(v *view) rank {
	q.candidates = q.candidates[:0]
	for _, cl := range v.classes {
		if !q.admits(cl.class) {
			continue
		}
		b := nothing
		q.search(cl.class, &b)
		if q.settle(&b); b > nothing {
			q.candidates = append(q.candidates, candidate{viewed: cl, best: b})
		}
	}
	q.weigh()
	chosen := nothing
	for i := range q.candidates {
		c := &q.candidates[i]
		chosen = max(chosen, ranked(c.total, c.best.index()))
	}
	return chosen
}

// sum adds up what the terms look at by domain.
func (q *query) sum() {
	if q.alike {
		return
	}
	p := &q.shape.plan
	for _, all := range [][]watch{p.near, p.far, p.likes, p.levels} {
		for i := range all {
			if all[i].domains != nil {
				all[i].sum()
			}
		}
	}
	for _, w := range q.felt {
		w.sum()
	}
	for i := range p.spread {
		p.spread[i].sum()
	}
}

// sum adds up a spread rule and finds the smallest count.
func (r *spreadPlan) sum() {
	r.watch.sum()
	r.least = math.MaxInt32
	for _, d := range r.domains.of {
		if d >= 0 {
			r.least = min(r.least, r.sums[d])
		}
	}
	if r.count < max(r.rule.MinDomains, 1) {
		r.least = 0
	}
}

// at is the sum of the class's domain; ok is false where it is in none.
func (w *watch) at(cl *class) (sum int32, ok bool) {
	if d := w.domains.of[cl.id]; d >= 0 {
		return w.sums[d], true
	}
	return 0, false
}

// admits asks the filters that decide on whole classes.
func (q *query) admits(cl *class) bool {
	if q.alike {
		return true
	}
	p := &q.shape.plan
	for i := range p.near {
		w := &p.near[i]
		if w.domains == nil {
			continue
		}
		if n, ok := w.at(cl); !ok || n == 0 && (!w.self || w.total > 0) {
			return false
		}
	}
	for i := range p.far {
		if w := &p.far[i]; w.domains != nil && w.present(cl) {
			return false
		}
	}
	for _, w := range q.felt {
		if w.repels && w.present(cl) {
			return false
		}
	}
	for i := range p.spread {
		r := &p.spread[i]
		if r.rule.Prefer {
			continue
		}
		if n, ok := r.at(cl); !ok || int(n+1-r.least) > r.rule.MaxSkew {
			return false
		}
	}
	return true
}

func (w *watch) present(cl *class) bool {
	n, ok := w.at(cl)
	return ok && n > 0
}

// weigh scores the candidates. Each stands for all feasible nodes of its class,
// so that the scores that relate nodes to each other come out as among all.
func (q *query) weigh() {
	all, weights := q.candidates, &q.policy.weights
	var taints, liking int64
	least, most := int64(math.MaxInt64), int64(math.MinInt64)
	for i := range all {
		c := &all[i]
		c.liking2 = q.affinity(c.class)
		taints, liking = max(taints, c.taints), max(liking, c.liking)
		least, most = min(least, c.liking2), max(most, c.liking2)
	}
	for i := range all {
		c := &all[i]
		c.total = c.best.score() +
			weights[scoreTaints]*normalise(c.taints, taints, true) +
			weights[scoreNodeAffinity]*normalise(c.liking, liking, false) +
			weights[scoreServiceAffinity]*between(c.liking2, least, most)
	}
	if weights[scoreTopology] > 0 {
		q.weighTopology(weights[scoreTopology])
	}
	if weights[scorePreference] > 0 {
		q.weighPreferences(weights[scorePreference])
	}
}

// affinity is the class's raw service affinity.
func (q *query) affinity(cl *class) int64 {
	sum := int64(0)
	for i := range q.shape.plan.likes {
		if w := &q.shape.plan.likes[i]; w.domains != nil {
			n, _ := w.at(cl)
			sum += w.weight * int64(n)
		}
	}
	for _, w := range q.felt {
		n, _ := w.at(cl)
		sum += w.weight * int64(n)
	}
	return sum
}

func (q *query) weighTopology(weight int64) {
	rules := q.shape.plan.spread
	prefers := false
	for i := range q.candidates {
		q.candidates[i].crowding = -1
	}
	for i := range rules {
		r := &rules[i]
		if !r.rule.Prefer {
			continue
		}
		prefers = true
		size := q.domains(r)
		for j := range q.candidates {
			if n, ok := r.at(q.candidates[j].class); ok {
				c := &q.candidates[j]
				c.crowding = max(c.crowding, 0) + spreadScore(int64(n), size, int64(r.rule.MaxSkew))
			}
		}
	}
	if !prefers {
		return
	}
	least, most := int64(math.MaxInt64), int64(0)
	for i := range q.candidates {
		if c := &q.candidates[i]; c.crowding >= 0 {
			c.crowding = rounded(c.crowding)
			least, most = min(least, c.crowding), max(most, c.crowding)
		}
	}
	for i := range q.candidates {
		q.candidates[i].total += weight * reversed(q.candidates[i].crowding, least, most)
	}
}

// domains counts the rule's domains among the candidates.
func (q *query) domains(r *spreadPlan) int64 {
	count := int64(0)
	for i := range q.candidates {
		d := r.domains.of[q.candidates[i].id]
		first := d >= 0
		for j := 0; j < i && first; j++ {
			first = r.domains.of[q.candidates[j].id] != d
		}
		if first {
			count++
		}
	}
	return count
}

func (q *query) weighPreferences(weight int64) {
	levels := q.shape.plan.levels
	for i := range q.candidates {
		q.candidates[i].topped = true
	}
	value := int64(0)
	for level := range levels {
		w := &levels[level]
		share := int64(100 * (level + 1) / len(levels))
		for i := range q.candidates {
			c := &q.candidates[i]
			c.topped = c.topped && q.fewest(w, c.class)
			if c.topped {
				c.total += weight * (share - value)
			}
		}
		value = share
	}
}

// fewest says whether no candidate's branch under the same parent has fewer.
func (q *query) fewest(w *watch, cl *class) bool {
	mine := w.domains.of[cl.id]
	for i := range q.candidates {
		other := w.domains.of[q.candidates[i].id]
		if w.parents[other] == w.parents[mine] && w.sums[other] < w.sums[mine] {
			return false
		}
	}
	return true
}

// try scores a member, if it is feasible.
func (q *query) try(n *node, b *rank) {
	if q.fits(n) {
		*b = max(*b, ranked(q.policy.score(n, &q.shape.score), n.index))
	}
}

func (q *query) fits(n *node) bool {
	return q.shape.fits(n) && (!q.perNode || q.fitsMore(n))
}

// fits says whether the node has room for the shape, but for generic resources.
func (s *Shape) fits(n *node) bool {
	need := &s.need
	for i := range need {
		if need[i] > n.alloc[i]-n.used[i] && need[i] > 0 && n.counted[i] {
			return false
		}
	}
	return true
}

// fitsMore asks the filters that look at what is on the node.
func (q *query) fitsMore(n *node) bool {
	t := &q.shape.template
	for _, g := range q.shape.generic {
		if g.amount > n.genericAlloc(g.name)-n.generic[g.name] {
			return false
		}
	}
	for _, p := range t.Ports {
		for _, h := range n.ports {
			if p.conflicts(h.port) {
				return false
			}
		}
	}
	if own := q.shape.plan.own; own != nil && int(own.byNode[n.index]) >= t.MaxPerNode {
		return false
	}
	for _, near := range q.near {
		if near.byNode[n.index] == 0 {
			return false
		}
	}
	for _, far := range q.far {
		if far.byNode[n.index] > 0 {
			return false
		}
	}
	return true
}
