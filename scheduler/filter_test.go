package scheduler_test

import (
	"strings"
	"testing"

	"github.com/berth-dev/berth/scheduler"
)

const mib = 1 << 20

// Three nodes in two zones, of which one is for databases; what stands on them
// is set up by each case.
func threeNodes() []scheduler.Node {
	size := scheduler.Resources{CPU: 1000, Memory: 256 * mib, Generic: map[string]int64{"gpu": 1}}
	return []scheduler.Node{
		{Name: "edge-1", Capacity: size, Labels: map[string]string{"zone": "a", "size": "3"}, OS: "linux", Arch: "amd64"},
		{Name: "edge-2", Capacity: size, Labels: map[string]string{"zone": "b", "size": "7"}, OS: "linux", Arch: "aarch64", EngineLabels: map[string]string{"disk": "ssd"}},
		{Name: "edge-3", Capacity: size, Taints: []scheduler.Taint{{Key: "dedicated", Value: "db", Effect: scheduler.NoSchedule}}, OS: "linux", Arch: "amd64"},
	}
}

func term(key string, services ...string) []scheduler.ServiceTerm {
	return []scheduler.ServiceTerm{{Services: services, TopologyKey: key}}
}

func need(key string, op scheduler.Operator, values ...string) []scheduler.Requirement {
	return []scheduler.Requirement{{Key: key, Operator: op, Values: values}}
}

// Each case says what the filter says of edge-1, edge-2 and edge-3; "" passes.
func TestFilters(t *testing.T) {
	constraint := func(s string) []scheduler.Constraint {
		c, err := scheduler.ParseConstraint(s)
		if err != nil {
			t.Fatal(err)
		}
		return []scheduler.Constraint{c}
	}
	for _, c := range []struct {
		name     string
		filter   string
		template scheduler.Template
		placed   map[string]scheduler.Template // by node
		nodes    func([]scheduler.Node)
		want     [3]string
	}{
		{name: "a node that is cordoned or down", filter: scheduler.FilterReady, nodes: func(n []scheduler.Node) { n[0].Cordoned, n[1].Down = true, true }, want: [3]string{"cordoned", "down", ""}},
		{name: "a node that runs out of memory", filter: scheduler.FilterReady, nodes: func(n []scheduler.Node) { n[0].Short, n[1].Short, n[1].Cordoned = "memory", "memory", true }, want: [3]string{"short of memory", "cordoned", ""}},
		{name: "a taint", filter: scheduler.FilterTaints, want: [3]string{"", "", "taint dedicated=db"}},
		{name: "a taint tolerated", filter: scheduler.FilterTaints, template: scheduler.Template{Tolerate: []scheduler.Toleration{{Key: "dedicated", Value: "db"}}}},
		{name: "another value tolerated", filter: scheduler.FilterTaints, template: scheduler.Template{Tolerate: []scheduler.Toleration{{Key: "dedicated", Value: "web"}}}, want: [3]string{"", "", "taint dedicated=db"}},
		{name: "another effect tolerated", filter: scheduler.FilterTaints, template: scheduler.Template{Tolerate: []scheduler.Toleration{{Key: "dedicated", Exists: true, Effect: scheduler.NoExecute}}}, want: [3]string{"", "", "taint dedicated=db"}},
		{name: "a platform by another name", filter: scheduler.FilterPlatform, template: scheduler.Template{OS: "linux", Arch: "arm64"}, want: [3]string{"platform not linux/arm64 (node is linux/amd64)", "", "platform not linux/arm64 (node is linux/amd64)"}},
		{name: "a constraint, without regard to case", filter: scheduler.FilterConstraints, template: scheduler.Template{Constraints: constraint("node.labels.zone == A")}, want: [3]string{"", "constraint node.labels.zone == A", "constraint node.labels.zone == A"}},
		{name: "a missing label is empty", filter: scheduler.FilterConstraints, template: scheduler.Template{Constraints: constraint("node.labels.zone != a")}, want: [3]string{"constraint node.labels.zone != a", "", ""}},
		{name: "a constraint on the name", filter: scheduler.FilterConstraints, template: scheduler.Template{Constraints: constraint("node.hostname==edge-2")}, want: [3]string{"constraint node.hostname == edge-2", "", "constraint node.hostname == edge-2"}},
		{name: "a constraint on the engine", filter: scheduler.FilterConstraints, template: scheduler.Template{Constraints: constraint("engine.labels.disk == ssd")}, want: [3]string{"constraint engine.labels.disk == ssd", "", "constraint engine.labels.disk == ssd"}},
		{name: "an unknown key never matches", filter: scheduler.FilterConstraints, template: scheduler.Template{Constraints: constraint("node.colour != red")}, want: [3]string{"constraint node.colour != red (node.colour is no property of nodes)", "constraint node.colour != red (node.colour is no property of nodes)", "constraint node.colour != red (node.colour is no property of nodes)"}},
		{name: "a node selector", filter: scheduler.FilterNodeAffinity, template: scheduler.Template{NodeSelector: need("size", scheduler.Gt, "3")}, want: [3]string{"node selector size Gt 3", "", "node selector size Gt 3"}},
		{name: "not in, with a missing label", filter: scheduler.FilterNodeAffinity, template: scheduler.Template{NodeSelector: need("zone", scheduler.NotIn, "a")}, want: [3]string{"node selector zone NotIn a", "", ""}},
		{name: "one of the required terms", filter: scheduler.FilterNodeAffinity, template: scheduler.Template{NodeRequired: []scheduler.NodeTerm{{Requirements: need("size", scheduler.Lt, "5")}, {Requirements: need("zone", scheduler.DoesNotExist)}}}, want: [3]string{"", "required node affinity", ""}},
		{name: "memory and pieces", filter: scheduler.FilterResources, template: scheduler.Template{Reservation: scheduler.Resources{Memory: 200 * mib, Generic: map[string]int64{"gpu": 1}}},
			placed: map[string]scheduler.Template{"edge-1": {Service: "db", Reservation: scheduler.Resources{Memory: 160 * mib}}, "edge-2": {Service: "ml", Reservation: scheduler.Resources{Generic: map[string]int64{"gpu": 1}}}},
			want:   [3]string{"insufficient memory (needs 200M, 96M free)", "insufficient gpu (needs 1, 0 free)", ""}},
		{name: "what a node does not count always fits", filter: scheduler.FilterResources, template: scheduler.Template{Reservation: scheduler.Resources{Disk: 1 << 40}}},
		{name: "a host port", filter: scheduler.FilterPorts, template: scheduler.Template{Ports: []scheduler.HostPort{{Port: 80}, {Port: 53, Protocol: "udp"}}},
			placed: map[string]scheduler.Template{"edge-1": {Service: "db", Ports: []scheduler.HostPort{{IP: "127.0.0.1", Port: 80}}}, "edge-2": {Service: "dns", Ports: []scheduler.HostPort{{Port: 53}}}},
			want:   [3]string{"host port 80/tcp taken (by db/1 on edge-1)", "", ""}},
		{name: "replicas on one node", filter: scheduler.FilterMaxPerNode, template: scheduler.Template{MaxPerNode: 1}, placed: map[string]scheduler.Template{"edge-2": {Service: "web"}, "edge-1": {Service: "db"}}, want: [3]string{"", "max_replicas_per_node 1 reached", ""}},
		{name: "near to another service", filter: scheduler.FilterAffinity, template: scheduler.Template{Affinity: term("zone", "db")}, placed: map[string]scheduler.Template{"edge-2": {Service: "db"}}, want: [3]string{"no db in its zone", "", "no label zone"}},
		{name: "near to another stack's service", filter: scheduler.FilterAffinity, template: scheduler.Template{Affinity: term("", "db")}, placed: map[string]scheduler.Template{"edge-2": {Stack: "other", Service: "db"}}, want: [3]string{"no db on the node", "no db on the node", "no db on the node"}},
		{name: "the first one near to itself", filter: scheduler.FilterAffinity, template: scheduler.Template{Affinity: term("zone", "web")}, want: [3]string{"", "", "no label zone"}},
		{name: "the next one near to itself", filter: scheduler.FilterAffinity, template: scheduler.Template{Affinity: term("zone", "web")}, placed: map[string]scheduler.Template{"edge-1": {Service: "web"}}, want: [3]string{"", "no web in its zone", "no label zone"}},
		{name: "far from another service", filter: scheduler.FilterAnti, template: scheduler.Template{Anti: term("zone", "db")}, placed: map[string]scheduler.Template{"edge-1": {Service: "db"}}, want: [3]string{"antiAffinity to db in its zone", "", ""}},
		{name: "another service far from this one", filter: scheduler.FilterAnti, placed: map[string]scheduler.Template{"edge-2": {Service: "db", Anti: term("", "web")}}, want: [3]string{"", "antiAffinity of a replica on the node", ""}},
		{name: "spread: 1 in a, 0 in b", filter: scheduler.FilterSpread, template: scheduler.Template{Spread: []scheduler.SpreadRule{{TopologyKey: "zone", MaxSkew: 1}}}, placed: map[string]scheduler.Template{"edge-1": {Service: "web"}}, want: [3]string{"spread over zone beyond maxSkew 1 (1 in a, fewest 0)", "", "no label zone"}},
		{name: "spread: a domain that the selector excludes does not count", filter: scheduler.FilterSpread, template: scheduler.Template{NodeSelector: need("zone", scheduler.In, "a"), Spread: []scheduler.SpreadRule{{TopologyKey: "zone", MaxSkew: 1}}}, placed: map[string]scheduler.Template{"edge-1": {Service: "web"}}, want: [3]string{"", "", "no label zone"}},
		{name: "spread: fewer domains than asked", filter: scheduler.FilterSpread, template: scheduler.Template{Spread: []scheduler.SpreadRule{{TopologyKey: "zone", MaxSkew: 1, MinDomains: 3}}}, placed: map[string]scheduler.Template{"edge-1": {Service: "web"}, "edge-2": {Service: "web"}}, want: [3]string{"spread over zone beyond maxSkew 1 (1 in a, fewest 0)", "spread over zone beyond maxSkew 1 (1 in b, fewest 0)", "no label zone"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			nodes := threeNodes()
			if c.nodes != nil {
				c.nodes(nodes)
			}
			w := newWorld(t, scheduler.Policy{}, nodes...)
			for node, tmpl := range c.placed {
				if tmpl.Stack == "" {
					tmpl.Stack = "shop"
				}
				w.assign(t, w.register(t, tmpl), node, tmpl.Service+"/1")
			}
			c.template.Stack, c.template.Service = "shop", "web"
			d := w.Explain(w.register(t, c.template))
			for i, v := range d.Verdicts {
				if got := reasonOf(v, c.filter); got != c.want[i] {
					t.Errorf("%s: %s says %q, want %q", v.Node, c.filter, got, c.want[i])
				}
			}
		})
	}
}

func reasonOf(v scheduler.Verdict, filter string) string {
	for _, f := range v.Filters {
		if f.Filter == filter {
			return f.Reason
		}
	}
	return "filter " + filter + " was not asked"
}

func TestPortsOfOneHost(t *testing.T) {
	w := newWorld(t, scheduler.Policy{SharedPorts: true}, threeNodes()...)
	web := scheduler.Template{Stack: "shop", Service: "web", Ports: []scheduler.HostPort{{Port: 80}}}
	w.assign(t, w.register(t, web), "edge-3", "web/1")
	d := w.Why(w.register(t, web))
	if want := "0/3 nodes: 2 host port 80/tcp taken (by web/1 on edge-3), 1 taint dedicated=db"; d.Reason != want {
		t.Errorf("got  %s\nwant %s", d.Reason, want)
	}
}

func TestWhyNotAndHint(t *testing.T) {
	for _, c := range []struct {
		name         string
		template     scheduler.Template
		nodes        func([]scheduler.Node)
		used         int64 // memory on edge-1
		reason, hint string
	}{
		{"reserve less", scheduler.Template{Reservation: scheduler.Resources{Memory: 128 * mib}}, func(n []scheduler.Node) { n[1].Capacity.Memory = 64 * mib }, 160 * mib,
			"0/3 nodes: 2 insufficient memory (needs 128M, 96M free on edge-1), 1 taint dedicated=db", "tolerate the taint dedicated=db:NoSchedule of edge-3"},
		{"no taint in the way", scheduler.Template{Reservation: scheduler.Resources{Memory: 128 * mib}}, func(n []scheduler.Node) { n[1].Capacity.Memory, n[2].Capacity.Memory = 64*mib, mib }, 160 * mib,
			"0/3 nodes: 2 insufficient memory (needs 128M, 96M free on edge-1), 1 taint dedicated=db", "reserve 96M of memory instead of 128M, or raise that of edge-1 by 32M"},
		{"larger than any", scheduler.Template{Reservation: scheduler.Resources{Memory: 2 << 30}}, nil, 0,
			"0/3 nodes: 2 insufficient memory (needs 2G, 256M free on edge-1), 1 taint dedicated=db", "memory 2G is larger than any node: the largest is edge-1 with 256M; reserve less or add a larger node"},
		{"uncordon", scheduler.Template{}, func(n []scheduler.Node) { n[0].Cordoned, n[1].Cordoned = true, true }, 0,
			"0/3 nodes: 2 cordoned, 1 taint dedicated=db", "uncordon node edge-1"},
		{"no way out of a lack", scheduler.Template{}, func(n []scheduler.Node) { n[0].Short, n[1].Short = "memory", "memory" }, 0,
			"0/3 nodes: 2 short of memory, 1 taint dedicated=db", "tolerate the taint dedicated=db:NoSchedule of edge-3"},
		{"a constraint", scheduler.Template{Constraints: []scheduler.Constraint{{Key: "node.labels.zone", Value: "z"}}}, nil, 0,
			"0/3 nodes: 2 constraint node.labels.zone == z, 1 taint dedicated=db", "drop the constraint node.labels.zone == z, or add a node that satisfies it"},
	} {
		t.Run(c.name, func(t *testing.T) {
			nodes := threeNodes()
			if c.nodes != nil {
				c.nodes(nodes)
			}
			w := newWorld(t, scheduler.Policy{}, nodes...)
			if c.used > 0 {
				w.assign(t, w.register(t, scheduler.Template{Stack: "shop", Service: "db", Reservation: scheduler.Resources{Memory: c.used}}), "edge-1", "db/1")
			}
			c.template.Stack, c.template.Service = "shop", "web"
			d := w.Why(w.register(t, c.template))
			if d.Reason != c.reason || d.Hint != c.hint {
				t.Errorf("got  %s\n     %s\nwant %s\n     %s", d.Reason, d.Hint, c.reason, c.hint)
			}
		})
	}
}

// Each case gives one score of edge-1, edge-2 and edge-3, worked out by hand.
func TestScores(t *testing.T) {
	prefer := func(weight int, key string, op scheduler.Operator, values ...string) scheduler.NodeTerm {
		return scheduler.NodeTerm{Weight: weight, Requirements: need(key, op, values...)}
	}
	like := func(weight int, key string, services ...string) []scheduler.ServiceTerm {
		return []scheduler.ServiceTerm{{Services: services, TopologyKey: key, Weight: weight}}
	}
	quarter := scheduler.Resources{CPU: 250, Memory: 64 * mib}
	tainted := func(n []scheduler.Node) {
		n[2].Taints = []scheduler.Taint{{Key: "a", Effect: scheduler.PreferNoSchedule}, {Key: "b", Effect: scheduler.PreferNoSchedule}}
		n[1].Taints = n[2].Taints[:1]
	}
	for _, c := range []struct {
		name     string
		template scheduler.Template
		placed   map[string]scheduler.Template
		nodes    func([]scheduler.Node)
		want     [3]int64
	}{
		{scheduler.LeastAllocated, scheduler.Template{Reservation: quarter}, map[string]scheduler.Template{"edge-1": {Service: "db", Reservation: scheduler.Resources{CPU: 500, Memory: 1 * mib}}}, nil,
			[3]int64{49, 75, 75}}, // (25 + int(191/256·100) = 74)/2
		{scheduler.LeastAllocated, scheduler.Template{}, nil, nil, [3]int64{55, 55, 55}}, // missing: 100m and 200M: (90 + 21)/2
		{scheduler.MostAllocated, scheduler.Template{Reservation: quarter}, map[string]scheduler.Template{"edge-2": {Service: "db", Reservation: scheduler.Resources{CPU: 500, Memory: 64 * mib}}}, nil,
			[3]int64{25, 62, 25}}, // (75 + 50)/2
		{scheduler.BalancedAllocation, scheduler.Template{Reservation: scheduler.Resources{CPU: 500, Memory: 64 * mib}}, map[string]scheduler.Template{"edge-1": {Service: "db", Reservation: scheduler.Resources{CPU: 1, Memory: 128 * mib}}}, nil,
			[3]int64{81, 68, 68}}, // edge-1: |0.501-0.75| -> 87, |0.001-0.5| -> 75: 50+62/2; else |0.5-0.25| -> 87, 100: 50+37/2
		{scheduler.NodeAffinity, scheduler.Template{NodePrefer: []scheduler.NodeTerm{prefer(10, "zone", scheduler.In, "a"), prefer(30, "size", scheduler.Exists)}}, nil, nil,
			[3]int64{100, 75, 0}},
		{scheduler.Taints, scheduler.Template{}, nil, tainted, [3]int64{100, 50, 0}},
		{scheduler.Taints, scheduler.Template{Tolerate: []scheduler.Toleration{{Key: "a", Exists: true}}}, nil, tainted, [3]int64{100, 100, 0}},
		{scheduler.ServiceAffinity, scheduler.Template{AffinityLike: like(40, "zone", "db"), AntiLike: like(20, "", "web")}, map[string]scheduler.Template{"edge-1": {Service: "db"}, "edge-2": {Service: "web"}}, nil,
			[3]int64{100, 0, 33}}, // 40, -20, 0
		{scheduler.ServiceAffinity, scheduler.Template{}, map[string]scheduler.Template{"edge-1": {Service: "db", AntiLike: like(3, "zone", "web")}, "edge-2": {Service: "cache", Affinity: term("", "web")}}, nil,
			[3]int64{0, 100, 75}}, // -3, 1, 0
		{scheduler.TopologySpread, scheduler.Template{Spread: []scheduler.SpreadRule{{TopologyKey: "zone", MaxSkew: 1, Prefer: true}}}, map[string]scheduler.Template{"edge-1": {Service: "web"}}, nil,
			[3]int64{0, 100, 0}}, // ln 4 = 1 rounded and 0; edge-3 has no zone
		{scheduler.SpreadPreference, scheduler.Template{Preferences: []string{"zone"}}, map[string]scheduler.Template{"edge-1": {Service: "web"}}, nil,
			[3]int64{0, 100, 100}}, // no zone is a branch too
		{scheduler.RequestedToCapacityRatio, scheduler.Template{Reservation: scheduler.Resources{CPU: 255, Memory: 64 * mib}}, nil, nil, [3]int64{25, 25, 25}},
	} {
		t.Run(c.name, func(t *testing.T) {
			nodes := threeNodes()
			nodes[2].Taints = nil
			if c.nodes != nil {
				c.nodes(nodes)
			}
			w := newWorld(t, scheduler.Policy{Weights: map[string]int{c.name: 1}}, nodes...)
			for node, tmpl := range c.placed {
				tmpl.Stack = "shop"
				w.assign(t, w.register(t, tmpl), node, tmpl.Service+"/1")
			}
			c.template.Stack, c.template.Service = "shop", "web"
			for i, v := range w.Explain(w.register(t, c.template)).Verdicts {
				if v.Filter != "" || v.Score != c.want[i] {
					t.Errorf("%s: %d (%s), want %d", v.Node, v.Score, v.Reason, c.want[i])
				}
			}
		})
	}
}

func TestTiesGoToTheFirstNode(t *testing.T) {
	w := newWorld(t, scheduler.Policy{}, threeNodes()...)
	if node, ok := w.Choose(w.register(t, scheduler.Template{Service: "web"})); !ok || node != "edge-1" {
		t.Errorf("got %s", node)
	}
}

func TestRefusals(t *testing.T) {
	bad := func(edit func(*scheduler.Template)) scheduler.Template {
		tmpl := scheduler.Template{Service: "web"}
		edit(&tmpl)
		return tmpl
	}
	w := newWorld(t, scheduler.Policy{}, threeNodes()...)
	register := func(tmpl scheduler.Template) error { _, err := w.Register(tmpl); return err }
	policy := func(p scheduler.Policy) error { _, err := scheduler.New(p); return err }
	w.assign(t, w.register(t, scheduler.Template{Service: "db"}), "edge-1", "db/1")
	for _, c := range []struct {
		err  error
		says string
	}{
		{policy(scheduler.Policy{Strategy: "random"}), `strategy "random"`},
		{policy(scheduler.Policy{Weights: map[string]int{"luck": 1}}), `"luck"`},
		{policy(scheduler.Policy{Weights: map[string]int{scheduler.Taints: -1}}), "taints is -1"},
		{w.AddNode(scheduler.Node{Name: "edge-1"}), "edge-1 is declared already"},
		{w.AddNode(scheduler.Node{Name: "x", Capacity: scheduler.Resources{CPU: -1}}), "cpu is -1"},
		{w.AddNode(scheduler.Node{Name: "x", Capacity: scheduler.Resources{Memory: 1 << 60}}), "node x: capacity: memory"},
		{w.AddNode(scheduler.Node{Name: "x", Reserved: scheduler.Resources{CPU: 1}}), "reserved cpu"},
		{w.AddNode(scheduler.Node{Name: "x", Taints: []scheduler.Taint{{Key: "k", Effect: "Never"}}}), `"Never"`},
		{w.SetNode(scheduler.Node{Name: "x"}), "node x does not exist"},
		{w.RemoveNode("edge-1"), "holds 1 replicas"},
		{register(bad(func(t *scheduler.Template) { t.NodeSelector = need("zone", "Like", "a") })), `operator "Like"`},
		{register(bad(func(t *scheduler.Template) { t.NodeSelector = need("size", scheduler.Gt, "big") })), "whole number"},
		{register(bad(func(t *scheduler.Template) { t.Affinity, t.Anti = term("zone", "db"), term("zone", "db") })), "no node can satisfy both"},
		{register(bad(func(t *scheduler.Template) { t.Spread = []scheduler.SpreadRule{{TopologyKey: "zone"}} })), "maxSkew is 0"},
		{scheduler.CheckAffinity([]scheduler.Template{{Service: "a", Affinity: term("", "b")}, {Service: "b", Affinity: term("zone", "a")}, {Service: "c"}}), "services a, b"},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.says) {
			t.Errorf("got %v, want something with %q", c.err, c.says)
		}
	}
	if err := scheduler.CheckAffinity([]scheduler.Template{{Service: "a", Affinity: term("", "a")}, {Service: "b", Affinity: term("", "a")}}); err != nil {
		t.Error(err)
	}
}

func TestParse(t *testing.T) {
	for _, s := range []string{"node.labels.zone", "=a", "k==", "1k==a", "a b == c", "k=~v"} {
		if c, err := scheduler.ParseConstraint(s); err == nil {
			t.Errorf("constraint %q: got %v", s, c)
		}
	}
	for _, s := range []string{"dedicated=db:NoSchedule", "gone:NoExecute"} {
		if taint, err := scheduler.ParseTaint(s); err != nil || taint.String() != s {
			t.Errorf("taint %q: got %v, %v", s, taint, err)
		}
	}
	for _, s := range []string{"dedicated=db", ":NoSchedule", "k=v:Never"} {
		if taint, err := scheduler.ParseTaint(s); err == nil {
			t.Errorf("taint %q: got %v", s, taint)
		}
	}
	for _, s := range []string{"dedicated=db:NoSchedule", "gone", "*", "*:NoExecute", "k="} {
		if tol, err := scheduler.ParseToleration(s); err != nil || tol.String() != s {
			t.Errorf("toleration %q: got %v, %v", s, tol, err)
		}
	}
}

func FuzzParseConstraint(f *testing.F) {
	for _, s := range []string{"node.labels.zone == a", "node.role!=manager", "engine.labels.os==x.*", "a==b!=c", "!==="} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := scheduler.ParseConstraint(s)
		if err != nil {
			return
		}
		if again, err := scheduler.ParseConstraint(c.String()); err != nil || again != c {
			t.Errorf("%q: %v, then %v, %v", s, c, again, err)
		}
	})
}

// Where no single change is enough, the hint names all that one node needs, as
// little as possible.
func TestHintOfSeveralChanges(t *testing.T) {
	zone := scheduler.SpreadRule{TopologyKey: "zone", MaxSkew: 1}
	for _, c := range []struct {
		name     string
		template scheduler.Template
		nodes    func([]scheduler.Node)
		hint     string
	}{
		{"a taint and an uneven spread", scheduler.Template{Spread: []scheduler.SpreadRule{zone}}, func(n []scheduler.Node) {
			n[0].Taints = n[2].Taints
			n[1].Labels["zone"], n[1].Down = "a", true // whether its zone is full then cannot be told
			n[2].Labels = map[string]string{"zone": "c"}
			n[2].Cordoned, n[2].Short = true, "memory" // nothing helps there at once
		}, "tolerate the taint dedicated=db:NoSchedule of edge-1 and raise maxSkew over zone from 1 to 2"},
		{"a taint and too little room", scheduler.Template{Reservation: scheduler.Resources{Memory: 128 * mib}}, func(n []scheduler.Node) {
			n[0].Short, n[1].Short = "memory", "memory"
			n[2].Reserved.Memory = n[2].Capacity.Memory - 100*mib
		}, "tolerate the taint dedicated=db:NoSchedule of edge-3 and reserve 100M of memory instead of 128M, or raise that of edge-3 by 28M"},
		{"a spread over nodes that do not count", scheduler.Template{Spread: []scheduler.SpreadRule{zone}}, func(n []scheduler.Node) {
			for i := range n {
				n[i].Labels, n[i].Down = map[string]string{"zone": "a"}, true
			}
		}, "recover node edge-1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			nodes := threeNodes()
			c.nodes(nodes)
			w := newWorld(t, scheduler.Policy{}, nodes...)
			c.template.Stack, c.template.Service = "shop", "web"
			shape := w.register(t, c.template)
			w.assign(t, shape, "edge-1", "web/1")
			if d := w.Why(shape); d.Node != "" || d.Hint != c.hint {
				t.Errorf("got  %s (%s)\nwant %s", d.Hint, d.Reason, c.hint)
			}
		})
	}
}
