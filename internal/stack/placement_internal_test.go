package stack

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/berth-dev/berth/scheduler"
)

// TestScoresAreTheSchedulers keeps the schema's weights equal to what the scheduler scores by.
func TestScoresAreTheSchedulers(t *testing.T) {
	root, err := berthRules()
	if err != nil {
		t.Fatal(err)
	}
	got := (&validator{root: root}).known(root.defs["project"].properties["weights"])
	want := scheduler.ScoreNames()
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the schema has %v, the scheduler %v", got, want)
	}
}

// TestPublishedSchemaIsDescribed wants a description of each key of placement and
// of scaling.
func TestPublishedSchemaIsDescribed(t *testing.T) {
	var doc struct {
		Defs map[string]any `json:"$defs"`
	}
	if err := json.Unmarshal(berthSchema, &doc); err != nil {
		t.Fatal(err)
	}
	for _, def := range []string{"node", "nodesFile", "serviceTerm", "preferredServiceTerm", "nodeTerm", "preferredNodeTerm", "affinity", "antiAffinity", "toleration", "spread", "amounts", "target", "metric", "direction", "autoscale"} {
		d, ok := doc.Defs[def].(map[string]any)
		if !ok {
			t.Fatalf("there is no %s", def)
		}
		described(t, d, def)
	}
	project, _ := doc.Defs["project"].(map[string]any)
	described(t, project, "project")
}

func described(t *testing.T, schema map[string]any, path string) {
	if schema["$ref"] != nil {
		return
	}
	if schema["description"] == nil {
		t.Errorf("%s has no description", path)
	}
	properties, _ := schema["properties"].(map[string]any)
	for name, p := range properties {
		p, _ := p.(map[string]any)
		described(t, p, path+"."+name)
	}
}

func TestParseAmount(t *testing.T) {
	for _, c := range []struct {
		resource, text string
		want           int64
	}{
		{scheduler.CPU, "0.5", 500}, {scheduler.CPU, "0.3", 300}, {scheduler.CPU, "2", 2000}, {scheduler.CPU, "0.0005", 1}, {scheduler.CPU, "1e6", 1_000_000_000},
		{scheduler.Memory, "256M", 256 << 20}, {scheduler.Memory, "256mb", 256 << 20}, {scheduler.Memory, "1.5g", 3 << 29}, {scheduler.Memory, "7", 7}, {scheduler.Disk, "1P", 1 << 50},
		{scheduler.Network, "100M", 100_000_000}, {scheduler.Network, "100Mbit", 100_000_000}, {scheduler.Network, "2.5g", 2_500_000_000}, {scheduler.Network, "1500", 1500},
		{scheduler.Network, "64 kbit", 64_000}, {scheduler.Network, "1T", 1_000_000_000_000}, {scheduler.Network, "9bit", 9},
		{"gpu", "3", 3},
	} {
		if got, err := parseAmount(c.resource, c.text); err != nil || got != c.want {
			t.Errorf("%s %s: %d, %v, want %d", c.resource, c.text, got, err, c.want)
		}
	}
	for _, c := range [][2]string{
		{scheduler.CPU, ""}, {scheduler.CPU, "-0.5"}, {scheduler.CPU, "NaN"}, {scheduler.CPU, "Inf"}, {scheduler.CPU, "1000001"}, {scheduler.CPU, "0.0004"},
		{scheduler.Memory, "-5"}, {scheduler.Memory, "1.1P"}, {scheduler.Memory, "9223372036854775807"}, {scheduler.Memory, "9e30"}, {scheduler.Memory, "M"},
		{scheduler.Network, ""}, {scheduler.Network, "M"}, {scheduler.Network, "bit"}, {scheduler.Network, "1B"}, {scheduler.Network, "1Mi"}, {scheduler.Network, "-1M"},
		{scheduler.Network, "NaN"}, {scheduler.Network, "infbit"}, {scheduler.Network, "2e3T"}, {scheduler.Network, "0"}, {scheduler.Network, "100MBps"},
		{"gpu", "1.5"}, {"gpu", "0"}, {"gpu", "-1"},
	} {
		if got, err := parseAmount(c[0], c[1]); err == nil {
			t.Errorf("%s %q is read as %d", c[0], c[1], got)
		}
	}
}

// TestAmountsAreReadAsWritten: what the scheduler's messages show can be
// written into a file, and means as much up to the digit it is cut at.
func TestAmountsAreReadAsWritten(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		resource := rapid.SampledFrom([]string{scheduler.CPU, scheduler.Memory, scheduler.Disk, scheduler.Network, "gpu"}).Draw(rt, "resource")
		most := int64(scheduler.MaxAmount)
		if resource == scheduler.CPU {
			most = scheduler.MaxCPU
		}
		n := rapid.Int64Range(1, most).Draw(rt, "n")
		text := scheduler.FormatAmount(resource, n)
		if resource == scheduler.Network && strings.HasSuffix(text, "P") {
			rt.Skip("there is no unit of 1000 T in files")
		}
		got, err := parseAmount(resource, text)
		if err != nil {
			rt.Fatalf("%d of %s is written %q: %v", n, resource, text, err)
		}
		exact := resource == scheduler.CPU || resource == "gpu"
		if exact && got != n || got > n+1 || got < n-n/10-1 {
			rt.Fatalf("%d of %s is written %q and read as %d", n, resource, text, got)
		}
	})
}

// TestCyclesAreTheSchedulers: without dependencies the same stacks are refused
// as by the scheduler, and the cycle that is named is one.
func TestCyclesAreTheSchedulers(t *testing.T) {
	names := []string{"a", "b", "c", "d", "e"}
	rapid.Check(t, func(rt *rapid.T) {
		s := &Stack{Name: "s"}
		var templates []scheduler.Template
		for _, name := range names {
			p := scheduler.Template{Stack: "s", Service: name}
			for range rapid.IntRange(0, 2).Draw(rt, "terms") {
				near := rapid.SliceOfNDistinct(rapid.SampledFrom(names), 1, 2, rapid.ID).Draw(rt, "near")
				p.Affinity = append(p.Affinity, scheduler.ServiceTerm{Services: near})
			}
			s.Services = append(s.Services, Service{Name: name, Placement: p})
			templates = append(templates, p)
		}
		l := &loading{}
		err, want := l.affinityCycle(s), scheduler.CheckAffinity(templates)
		if (err == nil) != (want == nil) {
			rt.Fatalf("we say %v, the scheduler %v", err, want)
		}
		if err == nil {
			return
		}
		_, text, _ := strings.Cut(err.Error(), "depends_on: ")
		text, _, _ = strings.Cut(text, ";")
		trail := strings.Split(text, " → ")
		if len(trail) < 3 || trail[0] != trail[len(trail)-1] {
			rt.Fatalf("no cycle: %v", err)
		}
		for i := range trail[1:] {
			from, to := s.Service(trail[i]), trail[i+1]
			if !slices.ContainsFunc(from.Placement.Affinity, func(t scheduler.ServiceTerm) bool {
				return slices.Contains(t.Services, to) && !slices.Contains(t.Services, from.Name)
			}) {
				rt.Fatalf("%s does not need %s: %v", from.Name, to, err)
			}
		}
	})
}

// TestSizeIsTheSchedulers: a replica is refused by its size exactly where no
// empty node of a cluster would take it.
func TestSizeIsTheSchedulers(t *testing.T) {
	amount := rapid.Int64Range(0, 4)
	resources := func(rt *rapid.T, label string) scheduler.Resources {
		r := scheduler.Resources{
			CPU: amount.Draw(rt, label+" cpu"), Memory: amount.Draw(rt, label+" memory"),
			Disk: amount.Draw(rt, label+" disk"), Network: amount.Draw(rt, label+" network"),
		}
		if n := amount.Draw(rt, label+" gpu"); n > 0 {
			r.Generic = map[string]int64{"gpu": n}
		}
		return r
	}
	rapid.Check(t, func(rt *rapid.T) {
		svc := Service{Name: "web", Placement: scheduler.Template{Stack: "s", Service: "web", Reservation: resources(rt, "need")}}
		s := &Stack{Services: []Service{svc}}
		c, err := scheduler.New(scheduler.Policy{})
		if err != nil {
			rt.Fatal(err)
		}
		for i := range rapid.IntRange(1, 3).Draw(rt, "nodes") {
			n := scheduler.Node{Name: fmt.Sprint("n", i), Capacity: resources(rt, fmt.Sprint("node ", i))}
			s.Nodes = append(s.Nodes, Node{Node: n})
			if err := c.AddNode(n); err != nil {
				rt.Fatal(err)
			}
		}
		shape, err := c.Register(svc.Placement)
		if err != nil {
			rt.Fatal(err)
		}
		fits := slices.ContainsFunc(s.Nodes, func(n Node) bool { return c.Rejects(shape, n.Name) == "" })
		check := placement{loading: &loading{}, stack: s, service: &svc, template: &svc.Placement}
		if err := check.size(); (err == nil) != fits {
			rt.Fatalf("we say %v, the scheduler fits: %v", err, fits)
		}
	})
}
