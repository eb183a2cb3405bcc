package scheduler

import "math"

// scorer fills in one component of the score, 0..100, of every feasible node.
type scorer func(v *survey, nodes []*node, out []int64)

var scorers = [scoreKinds]scorer{
	scoreLeast:           perNode(func(v *survey, n *node) int64 { return v.resourceScore(n, scoreLeast) }),
	scoreMost:            perNode(func(v *survey, n *node) int64 { return v.resourceScore(n, scoreMost) }),
	scoreRatio:           perNode(func(v *survey, n *node) int64 { return v.resourceScore(n, scoreRatio) }),
	scoreBalanced:        perNode(func(v *survey, n *node) int64 { return n.balanced(&v.shape.score) }),
	scorePreference:      scoreByPreference,
	scoreNodeAffinity:    scoreByNodeAffinity,
	scoreServiceAffinity: scoreByServiceAffinity,
	scoreTaints:          scoreByTaints,
	scoreTopology:        scoreByTopology,
}

// perNode is a scorer that looks at each node alone.
func perNode(score func(*survey, *node) int64) scorer {
	return func(v *survey, nodes []*node, out []int64) {
		for i, n := range nodes {
			out[i] = score(v, n)
		}
	}
}

// resourceScore is the weighted mean of the kind's formula over the resources
// that the node counts: rounded down, but to the nearest for the ratio, where a
// resource that scores 0 does not count, as in Kubernetes.
func (v *survey) resourceScore(n *node, kind int) int64 {
	return v.cluster.policy.resourceScore(kind, &n.alloc, &n.scored, &v.shape.score)
}

func (p *policy) resourceScore(kind int, alloc, used, need *amounts) int64 {
	var sum, weight int64
	for i, w := range p.resources {
		if w == 0 || alloc[i] == 0 {
			continue
		}
		score := p.oneResource(kind, used[i]+need[i], alloc[i])
		if kind == scoreRatio && score == 0 {
			continue
		}
		sum += score * w
		weight += w
	}
	switch {
	case weight == 0:
		return 0
	case kind == scoreRatio:
		return (2*sum + weight) / (2 * weight)
	}
	return sum / weight
}

func (p *policy) oneResource(kind int, used, alloc int64) int64 {
	switch kind {
	case scoreLeast:
		return leastAllocated(used, alloc)
	case scoreMost:
		return mostAllocated(used, alloc)
	}
	return onLine(p.ratio, used, alloc)
}

// balanced scores how a replica changes the balance of cpu and memory. Where the
// node counts only one of them there is nothing to balance.
func (n *node) balanced(need *amounts) int64 {
	if n.alloc[cpu] == 0 || n.alloc[memory] == 0 {
		return balanceGain(100, 100)
	}
	without := balance(n.scored[cpu], n.alloc[cpu], n.scored[memory], n.alloc[memory])
	with := balance(n.scored[cpu]+need[cpu], n.alloc[cpu], n.scored[memory]+need[memory], n.alloc[memory])
	return balanceGain(with, without)
}

// scoreByPreference carries out placement.preferences as Swarm does: at each
// level the branch with the fewest replicas of the service comes first, among
// the branches of the same parent that have a feasible node. A node's score is
// the share of levels, from the first on, at which it is in such a branch.
func scoreByPreference(v *survey, nodes []*node, out []int64) {
	keys := v.shape.template.Preferences
	alive := make([]bool, len(nodes))
	for i := range alive {
		alive[i] = true
	}
	for level := range keys {
		fewest := map[string]int{} // by parent
		for _, n := range nodes {
			parent, count := n.path(keys[:level]), v.branches[level][n.path(keys[:level+1])]
			if least, ok := fewest[parent]; !ok || count < least {
				fewest[parent] = count
			}
		}
		for i, n := range nodes {
			alive[i] = alive[i] && v.branches[level][n.path(keys[:level+1])] == fewest[n.path(keys[:level])]
			if alive[i] {
				out[i] = int64(100 * (level + 1) / len(keys))
			}
		}
	}
}

// scoreByNodeAffinity sums the weights of the preferred terms that match, and
// relates them to the best node's.
func scoreByNodeAffinity(v *survey, nodes []*node, out []int64) {
	most := int64(0)
	for i, n := range nodes {
		out[i] = v.shape.nodeLiking(n)
		most = max(most, out[i])
	}
	for i := range out {
		out[i] = normalise(out[i], most, false)
	}
}

func (s *Shape) nodeLiking(n *node) int64 {
	sum := int64(0)
	for i := range s.template.NodePrefer {
		if s.template.NodePrefer[i].matches(n.Node) {
			sum += int64(s.template.NodePrefer[i].Weight)
		}
	}
	return sum
}

// scoreByTaints counts the taints PreferNoSchedule that are not tolerated: none is best.
func scoreByTaints(v *survey, nodes []*node, out []int64) {
	most := int64(0)
	for i, n := range nodes {
		out[i] = v.shape.softTaints(n)
		most = max(most, out[i])
	}
	for i := range out {
		out[i] = normalise(out[i], most, true)
	}
}

func (s *Shape) softTaints(n *node) int64 {
	count := int64(0)
	for _, t := range n.Taints {
		if t.Effect == PreferNoSchedule && !Tolerated(t, s.template.Tolerate) {
			count++
		}
	}
	return count
}

// scoreByServiceAffinity sums the weights of the preferences of both sides, and
// maps the smallest sum to 0 and the largest to 100.
func scoreByServiceAffinity(v *survey, nodes []*node, out []int64) {
	least, most := int64(math.MaxInt64), int64(math.MinInt64)
	for i, n := range nodes {
		out[i] = v.liking(n)
		least, most = min(least, out[i]), max(most, out[i])
	}
	for i := range out {
		out[i] = between(out[i], least, most)
	}
}

// between maps least..most to 0..100; it is 0 where they are equal.
func between(value, least, most int64) int64 {
	if most == least {
		return 0
	}
	return 100 * (value - least) / (most - least)
}

func (v *survey) liking(n *node) int64 {
	sum := int64(0)
	for key, domains := range v.liked {
		if d, ok := n.domain(key); ok {
			sum += domains[d]
		}
	}
	return sum
}

// scoreByTopology scores the spread rules that only prefer: the fewer replicas
// in the node's domains, the better. Nodes that lack a label of a rule score 0.
func scoreByTopology(v *survey, nodes []*node, out []int64) {
	sizes := v.domainSizes(nodes)
	if len(sizes) == 0 {
		return
	}
	least, most := int64(math.MaxInt64), int64(0)
	for i, n := range nodes {
		if out[i] = v.crowding(n, sizes); out[i] >= 0 {
			least, most = min(least, out[i]), max(most, out[i])
		}
	}
	for i := range out {
		out[i] = reversed(out[i], least, most)
	}
}

// reversed maps a raw topology score to 0..100, low to high; below 0 is none.
func reversed(value, least, most int64) int64 {
	switch {
	case value < 0:
		return 0
	case most == 0:
		return 100
	}
	return 100 * (most + least - value) / most
}

// domainSizes is, for each rule that only prefers, the number of domains among
// the nodes that have the labels of all of them.
func (v *survey) domainSizes(nodes []*node) map[int]int64 {
	sizes := map[int]int64{}
	for i, r := range v.spread {
		if !r.rule.Prefer {
			continue
		}
		seen := map[string]bool{}
		for _, n := range nodes {
			if v.shape.spreadsOver(n, true) {
				d, _ := n.domain(r.rule.TopologyKey)
				seen[d] = true
			}
		}
		sizes[i] = int64(len(seen))
	}
	return sizes
}

// crowding is the raw topology score of a node, or -1 where it lacks a label.
func (v *survey) crowding(n *node, sizes map[int]int64) int64 {
	if !v.shape.spreadsOver(n, true) {
		return -1
	}
	sum := int64(0)
	for i, r := range v.spread {
		if r.rule.Prefer {
			d, _ := n.domain(r.rule.TopologyKey)
			sum += spreadScore(int64(r.domains[d]), sizes[i], int64(r.rule.MaxSkew))
		}
	}
	return rounded(sum)
}

// ranking is the feasible nodes with their scores.
type ranking struct {
	nodes []*node
	parts [scoreKinds][]int64
	total []int64
}

// rank scores every feasible node.
func (v *survey) rank() ranking {
	var r ranking
	for n := range v.cluster.each() {
		if v.feasible(n) {
			r.nodes = append(r.nodes, n)
		}
	}
	r.total = make([]int64, len(r.nodes))
	for kind, weight := range v.cluster.policy.weights {
		if weight == 0 {
			continue
		}
		part := make([]int64, len(r.nodes))
		scorers[kind](v, r.nodes, part)
		for i := range part {
			r.total[i] += weight * part[i]
		}
		r.parts[kind] = part
	}
	return r
}

// best is the index of the node with the highest score, the first among equals; -1: none.
func (r *ranking) best() int {
	best := -1
	for i, score := range r.total {
		if best < 0 || score > r.total[best] {
			best = i
		}
	}
	return best
}

// Scan chooses as [Cluster.Choose] does, but by looking at every node and every
// placement: it is the measure of the index, and slow.
func (c *Cluster) Scan(s *Shape) (name string, ok bool) {
	if s == nil || s.cluster != c {
		return "", false
	}
	n := c.scan(s)
	if n == nil {
		return "", false
	}
	return n.Name, true
}

// scan chooses a node by looking at all of them.
func (c *Cluster) scan(s *Shape) *node {
	ranked := c.survey(s, nil).rank()
	if i := ranked.best(); i >= 0 {
		return ranked.nodes[i]
	}
	return nil
}
