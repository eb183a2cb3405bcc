package scheduler

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Explain says of every node what each filter says and how each score values
// it, which node wins and why; and when no node takes one more replica of the
// shape, what keeps it off and the smallest change that would let it in.
func (c *Cluster) Explain(s *Shape) Decision {
	if s == nil || s.cluster != c {
		return Decision{Reason: errForeignShape.Error()}
	}
	v := c.survey(s, nil)
	ranked := v.rank()
	var d Decision
	i := 0
	for n := range c.each() {
		verdict := v.verdict(n)
		if verdict.Filter == "" {
			verdict.Score, verdict.Scores = ranked.total[i], ranked.scores(i, &c.policy)
			i++
		}
		d.Verdicts = append(d.Verdicts, verdict)
	}
	if best := ranked.best(); best >= 0 {
		d.Node, d.Reason = ranked.nodes[best].Name, ranked.reason(best, len(c.byName))
		return d
	}
	d.Reason, d.Hint = v.whyNot(), v.hint()
	return d
}

// Why says in short why no node takes one more replica of the shape: the reason
// with counts and the hint, without the verdicts. When a node does, it names it.
func (c *Cluster) Why(s *Shape) Decision {
	d := c.Explain(s)
	d.Verdicts = nil
	return d
}

// verdict asks every filter about a node.
func (v *survey) verdict(n *node) Verdict {
	out := Verdict{Node: n.Name}
	for _, f := range filters {
		said := FilterVerdict{Filter: f.name}
		if !f.pass(v, n) {
			said.Reason = f.why(v, n).String()
			if out.Filter == "" {
				out.Filter, out.Reason = f.name, said.Reason
			}
		}
		out.Filters = append(out.Filters, said)
	}
	return out
}

// scores lists the components of the i-th node's score that have a weight.
func (r *ranking) scores(i int, p *policy) []Score {
	var all []Score
	for kind, weight := range p.weights {
		if weight > 0 {
			all = append(all, Score{Name: scoreNames[kind], Value: r.parts[kind][i], Weight: int(weight)})
		}
	}
	return all
}

// reason says why the best node wins.
func (r *ranking) reason(best, all int) string {
	if len(r.nodes) == 1 {
		return fmt.Sprintf("the only feasible of %s", nodes(all))
	}
	equals := 0
	for _, score := range r.total {
		if score == r.total[best] {
			equals++
		}
	}
	of := nodes(all)
	if len(r.nodes) < all {
		of = fmt.Sprintf("%d feasible of %s", len(r.nodes), of)
	}
	if equals > 1 {
		return fmt.Sprintf("first of %d that score highest, %d, among %s", equals, r.total[best], of)
	}
	return fmt.Sprintf("highest score, %d, among %s", r.total[best], of)
}

func nodes(n int) string {
	if n == 1 {
		return "1 node"
	}
	return fmt.Sprintf("%d nodes", n)
}

// alike is the nodes that are rejected for the same reason.
type alike struct {
	reason
	node  string // with most of what is lacking
	count int
	same  bool // all have the same detail
}

// whyNot counts the reasons, each node's first, most frequent first.
func (v *survey) whyNot() string {
	var groups []*alike
	by := map[string]*alike{}
	all := 0
	for n := range v.cluster.each() {
		all++
		r := v.rejection(n)
		g := by[r.what]
		if g == nil {
			g = &alike{reason: r, node: n.Name, same: true}
			by[r.what] = g
			groups = append(groups, g)
		}
		g.join(r, n.Name)
	}
	slices.SortStableFunc(groups, func(a, b *alike) int {
		return cmp.Or(cmp.Compare(b.count, a.count), cmp.Compare(a.what, b.what))
	})
	parts := make([]string, len(groups))
	for i, g := range groups {
		parts[i] = g.String()
	}
	if all == 0 {
		return "there is no node"
	}
	return fmt.Sprintf("0/%s: %s", nodes(all), strings.Join(parts, ", "))
}

// rejection is the reason of the first filter that rejects the node.
func (v *survey) rejection(n *node) reason {
	for _, f := range filters {
		if !f.pass(v, n) {
			return f.why(v, n)
		}
	}
	return reason{}
}

func (g *alike) join(r reason, node string) {
	g.count++
	g.same = g.same && r.detail == g.detail
	if len(r.lacks) > 0 && r.lacks[0].free > g.lacks[0].free {
		g.reason, g.node = r, node
	}
}

func (g *alike) String() string {
	text := fmt.Sprintf("%d %s", g.count, g.what)
	switch {
	case len(g.lacks) > 0:
		return fmt.Sprintf("%s (%s on %s)", text, g.detail, g.node)
	case g.detail != "" && g.same:
		return fmt.Sprintf("%s (%s)", text, g.detail)
	}
	return text
}
