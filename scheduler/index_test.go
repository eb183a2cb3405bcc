package scheduler

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// The index chooses exactly the node that a full scan does, whatever the policy,
// the nodes, the templates and the order of calls.
func TestIndexChoosesWhatAFullScanDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, err := New(drawPolicy(t))
		if err != nil {
			t.Fatal(err)
		}
		capacities := rapid.SliceOfN(rapid.Custom(drawCapacity), 1, 3).Draw(t, "capacities")
		uniform := rapid.Bool().Draw(t, "uniform")
		nodes := rapid.IntRange(1, 120).Draw(t, "nodes")
		for i := range nodes {
			must(t, c.AddNode(drawNode(t, i, capacities, uniform)))
		}
		var shapes []*Shape
		var placed []Placement
		steps := rapid.IntRange(1, 60).Draw(t, "steps")
		for i := range steps {
			if len(shapes) == 0 || rapid.IntRange(0, 5).Draw(t, "new") == 0 {
				s, err := c.Register(drawTemplate(t))
				if err != nil {
					continue
				}
				shapes = append(shapes, s)
			}
			s := rapid.SampledFrom(shapes).Draw(t, "shape")
			switch rapid.IntRange(0, 9).Draw(t, "op") {
			case 0:
				n := drawNode(t, rapid.IntRange(0, nodes-1).Draw(t, "which"), capacities, uniform)
				must(t, c.SetNode(n))
			case 1:
				name := fmt.Sprintf("n%d", rapid.IntRange(0, nodes-1).Draw(t, "on"))
				p, err := c.Assign(s, name, fmt.Sprint(i))
				must(t, err)
				placed = append(placed, p)
			case 2, 3:
				if len(placed) > 0 {
					at := rapid.IntRange(0, len(placed)-1).Draw(t, "gone")
					c.Release(placed[at])
					placed = append(placed[:at], placed[at+1:]...)
				}
			default:
				for j := range rapid.IntRange(1, 20).Draw(t, "replicas") {
					wantScanned(t, c, s)
					p, ok := c.Schedule(s, fmt.Sprint(i, "/", j))
					if !ok {
						break
					}
					placed = append(placed, p)
				}
			}
		}
	})
}

func wantScanned(t *rapid.T, c *Cluster, s *Shape) {
	t.Helper()
	scanned, chosen := c.scan(s), c.choose(s)
	if scanned != chosen {
		t.Fatalf("%+v\nscan: %s\nindex: %s\n%+v", s.template, nameOf(scanned), nameOf(chosen), c.Explain(s))
	}
}

func nameOf(n *node) string {
	if n == nil {
		return "none"
	}
	return n.Name
}

func must(t *rapid.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func drawPolicy(t *rapid.T) Policy {
	p := Policy{SharedPorts: rapid.IntRange(0, 4).Draw(t, "sharedPorts") == 0}
	if rapid.IntRange(0, 2).Draw(t, "custom") > 0 {
		p.Strategy = rapid.SampledFrom([]Strategy{"", StrategySpread, StrategyBinpack, StrategyBalanced}).Draw(t, "strategy")
		return p
	}
	p.Weights = map[string]int{LeastAllocated: 1}
	for _, name := range scoreNames {
		if rapid.Bool().Draw(t, name) {
			p.Weights[name] = rapid.IntRange(0, 5).Draw(t, "weight")
		}
	}
	if rapid.IntRange(0, 2).Draw(t, "resources") == 0 {
		p.Resources = map[string]int{CPU: rapid.IntRange(1, 3).Draw(t, "w"), Memory: rapid.IntRange(0, 3).Draw(t, "w"), Disk: rapid.IntRange(0, 2).Draw(t, "w")}
	}
	if p.Weights[LeastAllocated] == 0 {
		p.Weights[LeastAllocated] = 1
	}
	return p
}

func drawCapacity(t *rapid.T) Resources {
	r := Resources{
		CPU:    rapid.SampledFrom([]int64{0, 7, 1000, 4000, 3999}).Draw(t, "cpu"),
		Memory: rapid.SampledFrom([]int64{0, 97, 1 << 30, 8 << 30, 5_000_000_001}).Draw(t, "memory"),
		Disk:   rapid.SampledFrom([]int64{0, 0, 1000}).Draw(t, "disk"),
	}
	if rapid.IntRange(0, 3).Draw(t, "gpu") == 0 {
		r.Generic = map[string]int64{"gpu": 2}
	}
	return r
}

func drawNode(t *rapid.T, i int, capacities []Resources, uniform bool) Node {
	n := Node{Name: fmt.Sprintf("n%d", i), Capacity: capacities[0]}
	if uniform {
		return n
	}
	n.Capacity = capacities[i%len(capacities)]
	if n.Capacity.CPU > 10 && rapid.IntRange(0, 5).Draw(t, "reserved") == 0 {
		n.Reserved.CPU = 10
	}
	n.Labels = map[string]string{}
	if z := rapid.IntRange(0, 5).Draw(t, "zone"); z < 4 {
		n.Labels["zone"] = fmt.Sprint(z % 3)
	}
	if rapid.IntRange(0, 3).Draw(t, "rack") > 0 {
		n.Labels["rack"] = fmt.Sprint(i % 5)
	}
	if rapid.IntRange(0, 9).Draw(t, "taint") == 0 {
		n.Taints = []Taint{{Key: "dedicated", Value: "db", Effect: rapid.SampledFrom([]Effect{NoSchedule, PreferNoSchedule, NoExecute}).Draw(t, "effect")}}
	}
	n.Cordoned = rapid.IntRange(0, 15).Draw(t, "cordoned") == 0
	n.Short = rapid.SampledFrom([]string{"", "", "", "", "", "", "memory"}).Draw(t, "short")
	n.Down = rapid.IntRange(0, 15).Draw(t, "down") == 0
	return n
}

var (
	drawKey     = rapid.SampledFrom([]string{"zone", "zone", "rack", ""})
	drawService = rapid.SampledFrom([]string{"a", "b", "c"})
)

func drawTerms(t *rapid.T, what string) []ServiceTerm {
	if rapid.IntRange(0, 5).Draw(t, what) > 0 {
		return nil
	}
	return []ServiceTerm{{
		Services:    rapid.SliceOfN(drawService, 1, 2).Draw(t, "services"),
		TopologyKey: drawKey.Draw(t, "key"), Weight: rapid.IntRange(1, 100).Draw(t, "weight"),
	}}
}

func drawTemplate(t *rapid.T) Template {
	tmpl := Template{Stack: "s", Service: drawService.Draw(t, "service")}
	tmpl.Reservation.CPU = rapid.SampledFrom([]int64{0, 1, 10, 100, 333}).Draw(t, "cpu")
	tmpl.Reservation.Memory = rapid.SampledFrom([]int64{0, 3, 64 << 20, 100_000_000}).Draw(t, "memory")
	if rapid.IntRange(0, 2).Draw(t, "plain") == 0 {
		return tmpl
	}
	tmpl.Reservation.Disk = rapid.SampledFrom([]int64{0, 0, 100}).Draw(t, "disk")
	if rapid.IntRange(0, 9).Draw(t, "gpu") == 0 {
		tmpl.Reservation.Generic = map[string]int64{"gpu": 1}
	}
	tmpl.Affinity, tmpl.AffinityLike = drawTerms(t, "near"), drawTerms(t, "like")
	tmpl.Anti, tmpl.AntiLike = drawTerms(t, "far"), drawTerms(t, "dislike")
	if rapid.IntRange(0, 3).Draw(t, "spread") == 0 {
		tmpl.Spread = []SpreadRule{{TopologyKey: drawKey.Draw(t, "key"), MaxSkew: rapid.IntRange(1, 3).Draw(t, "skew"), Prefer: rapid.Bool().Draw(t, "prefer")}}
		if !tmpl.Spread[0].Prefer {
			tmpl.Spread[0].MinDomains = rapid.IntRange(0, 4).Draw(t, "domains")
		}
	}
	if rapid.IntRange(0, 5).Draw(t, "preferences") == 0 {
		tmpl.Preferences = []string{"zone", "rack"}
	}
	if rapid.IntRange(0, 9).Draw(t, "constraint") == 0 {
		tmpl.Constraints = []Constraint{rapid.SampledFrom([]Constraint{
			{Key: "node.labels.zone", Value: "1"}, {Key: "node.labels.zone", Value: "1", Negate: true}, {Key: "node.hostname", Value: "n1", Negate: true},
		}).Draw(t, "constraint")}
	}
	if rapid.IntRange(0, 5).Draw(t, "prefer") == 0 {
		tmpl.NodePrefer = []NodeTerm{{Weight: 10, Requirements: []Requirement{{Key: "rack", Operator: In, Values: []string{"1", "2"}}}}}
	}
	if rapid.IntRange(0, 9).Draw(t, "most") == 0 {
		tmpl.MaxPerNode = rapid.IntRange(1, 2).Draw(t, "max")
	}
	if rapid.IntRange(0, 9).Draw(t, "port") == 0 {
		tmpl.Ports = []HostPort{{Port: 80}}
	}
	if rapid.IntRange(0, 5).Draw(t, "tolerate") == 0 {
		tmpl.Tolerate = []Toleration{{Key: "dedicated", Exists: true}}
	}
	return tmpl
}

// The first choice after a release knows how the node that was left ranks, if it
// takes the shape; the next does not.
func TestTheNodeThatWasLeftIsAskedOnce(t *testing.T) {
	c, err := New(Policy{})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b"} {
		if err := c.AddNode(Node{Name: name, Capacity: Resources{CPU: 1000, Memory: 1 << 30}}); err != nil {
			t.Fatal(err)
		}
	}
	small, err := c.Register(Template{Service: "small", Reservation: Resources{CPU: 500, Memory: 1 << 29}})
	if err != nil {
		t.Fatal(err)
	}
	large, err := c.Register(Template{Service: "large", Reservation: Resources{CPU: 2000, Memory: 1 << 29}})
	if err != nil {
		t.Fatal(err)
	}
	var placed []Placement
	for p, ok := c.Schedule(small, ""); ok; p, ok = c.Schedule(small, "") {
		placed = append(placed, p)
	}
	q := &c.ready().query
	ask := func(s *Shape) rank {
		q.shape, q.alike, q.perNode = s, true, false
		return q.left(c.index.view(s))
	}
	c.Release(placed[0])
	if got := ask(large); got != nothing {
		t.Errorf("the node that was left has no room for %+v, and ranks %d", large.need, got)
	}
	n := c.nodes[c.records[placed[1].slot-1].node]
	c.Release(placed[1])
	if got, want := ask(small), ranked(c.policy.score(n, &small.score), n.index); got != want {
		t.Errorf("%s was left: it ranks %d, want %d", n.Name, got, want)
	}
	if got := ask(small); got != nothing {
		t.Errorf("%s was asked before, and ranks %d once more", n.Name, got)
	}
}
