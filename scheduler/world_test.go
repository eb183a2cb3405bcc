package scheduler_test

import (
	"fmt"

	"pgregory.net/rapid"

	"github.com/berth-dev/berth/scheduler"
)

// world is a cluster with what is placed on it, by ID.
type world struct {
	*scheduler.Cluster
	shapes []*scheduler.Shape
	placed map[string]scheduler.Placement
}

func newWorld(t rapid.TB, p scheduler.Policy, nodes ...scheduler.Node) *world {
	t.Helper()
	c, err := scheduler.New(p)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{Cluster: c, placed: map[string]scheduler.Placement{}}
	for _, n := range nodes {
		if err := c.AddNode(n); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func (w *world) register(t rapid.TB, tmpl scheduler.Template) *scheduler.Shape {
	t.Helper()
	s, err := w.Register(tmpl)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (w *world) assign(t rapid.TB, s *scheduler.Shape, node, id string) {
	t.Helper()
	p, err := w.Assign(s, node, id)
	if err != nil {
		t.Fatal(err)
	}
	w.placed[id] = p
}

// replicas lists what is placed, node by node, in the order of the starts.
func (w *world) replicas() []scheduler.Replica {
	var all []scheduler.Replica
	for _, n := range w.Nodes() {
		for _, r := range w.Placements(n.Name) {
			all = append(all, r)
		}
	}
	return all
}

// copied is an equal cluster of its own; the placements keep their order on each node.
func (w *world) copied(t rapid.TB, p scheduler.Policy) *world {
	t.Helper()
	out := newWorld(t, p, w.Nodes()...)
	for _, s := range w.shapes {
		out.shapes = append(out.shapes, out.register(t, s.Template()))
	}
	for _, r := range w.replicas() {
		out.assign(t, out.register(t, r.Shape.Template()), r.Node, r.ID)
	}
	return out
}

// drawWorld draws a small cluster that uses every filter. What is placed obeys
// the filters, but for a few replicas that were put where they did not fit.
func drawWorld(t *rapid.T, p scheduler.Policy) *world {
	w := newWorld(t, p)
	for i := range rapid.SampledFrom([]int{1, 2, 3, 4, 5, 6, 7, 8}).Draw(t, "nodes") {
		n := scheduler.Node{
			Name:     fmt.Sprintf("node-%d", i),
			Labels:   map[string]string{"zone": rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "zone")},
			Cordoned: rapid.IntRange(0, 9).Draw(t, "cordoned") == 0,
			Down:     rapid.IntRange(0, 19).Draw(t, "down") == 0,
			Short:    rapid.SampledFrom([]string{"", "", "", "", "", "", "", "", "memory"}).Draw(t, "short"),
			Capacity: scheduler.Resources{
				CPU:    rapid.Int64Range(1, 4).Draw(t, "cpu") * 1000,
				Memory: rapid.Int64Range(1, 4).Draw(t, "memory") << 30,
			},
		}
		if rapid.IntRange(0, 5).Draw(t, "tainted") == 0 {
			n.Taints = []scheduler.Taint{{Key: "dedicated", Value: "db", Effect: scheduler.NoSchedule}}
		}
		if err := w.AddNode(n); err != nil {
			t.Fatal(err)
		}
	}
	for i := range rapid.IntRange(1, 5).Draw(t, "services") {
		w.shapes = append(w.shapes, w.register(t, drawTemplate(t, fmt.Sprintf("svc-%d", i))))
	}
	for i := range 4 * rapid.IntRange(0, 15).Draw(t, "replicas, by four") {
		s := rapid.SampledFrom(w.shapes).Draw(t, "shape")
		id := fmt.Sprintf("%s/%d", s.Template().Service, i)
		node := rapid.SampledFrom(w.Nodes()).Draw(t, "node").Name
		if w.Rejects(s, node) == "" || rapid.IntRange(0, 19).Draw(t, "misplaced") == 0 {
			w.assign(t, s, node, id)
		}
	}
	return w
}

func drawTemplate(t *rapid.T, name string) scheduler.Template {
	tmpl := scheduler.Template{
		Stack: "shop", Service: name,
		Priority: rapid.IntRange(-1, 3).Draw(t, "priority"),
		Reservation: scheduler.Resources{
			CPU:    rapid.Int64Range(0, 15).Draw(t, "cpu") * 100,
			Memory: rapid.Int64Range(0, 15).Draw(t, "memory") * 100 << 20,
		},
	}
	other := []string{fmt.Sprintf("svc-%d", rapid.IntRange(0, 4).Draw(t, "other"))}
	key := rapid.SampledFrom([]string{"", "zone"}).Draw(t, "key")
	switch rapid.IntRange(0, 9).Draw(t, "extra") {
	case 0:
		tmpl.Anti = []scheduler.ServiceTerm{{Services: other, TopologyKey: key}}
	case 1:
		tmpl.Affinity = []scheduler.ServiceTerm{{Services: other, TopologyKey: key}}
	case 2:
		tmpl.Spread = []scheduler.SpreadRule{{TopologyKey: key, MaxSkew: rapid.IntRange(1, 2).Draw(t, "skew")}}
	case 3:
		tmpl.MaxPerNode = rapid.IntRange(1, 2).Draw(t, "perNode")
	case 4:
		tmpl.Ports = []scheduler.HostPort{{Port: uint16(rapid.IntRange(80, 82).Draw(t, "port"))}}
	case 5:
		tmpl.Tolerate = []scheduler.Toleration{{Key: "dedicated", Exists: true}}
	}
	return tmpl
}

func drawPolicy(t *rapid.T) scheduler.Policy {
	return scheduler.Policy{
		Strategy:    rapid.SampledFrom([]scheduler.Strategy{scheduler.StrategySpread, scheduler.StrategyBinpack}).Draw(t, "strategy"),
		SharedPorts: rapid.Bool().Draw(t, "sharedPorts"),
	}
}

// size is a template of that many hundred millicores and mebibytes.
func size(service string, priority int, hundreds int64) scheduler.Template {
	return scheduler.Template{
		Stack: "shop", Service: service, Priority: priority,
		Reservation: scheduler.Resources{CPU: hundreds * 100, Memory: hundreds * 100 << 20},
	}
}

// node is a node of that many hundred millicores and mebibytes.
func node(name string, hundreds int64) scheduler.Node {
	return scheduler.Node{Name: name, Capacity: scheduler.Resources{CPU: hundreds * 100, Memory: hundreds * 100 << 20}}
}
