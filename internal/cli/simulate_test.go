package cli

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/reconcile"
	"github.com/berth-dev/berth/internal/stack"
)

// crowd is a file of 20 services with 50 replicas each, half of them spread over
// zones, and one of 100 nodes in three zones and sizes.
func crowd() (compose, nodes string) {
	var c, n strings.Builder
	c.WriteString("name: crowd\nservices:\n")
	for i := range 20 {
		fmt.Fprintf(&c, "  s%d:\n    image: app\n    deploy:\n      replicas: 50\n", i)
		fmt.Fprintf(&c, "      resources: {reservations: {cpus: \"0.%02d\", memory: %dM}}\n", 5+i%7, 32+8*(i%9))
		if i%2 == 0 {
			c.WriteString("    x-berth: {spread: [{topologyKey: zone, maxSkew: 1}]}\n")
		}
	}
	for i := range 100 {
		fmt.Fprintf(&n, "- {name: n%d, cpus: %d, memory: %dG, labels: {zone: z%d}}\n", i, 1+i%3, 1+i%2, i%3)
	}
	return c.String(), n.String()
}

func BenchmarkSimulateCrowd(b *testing.B) {
	compose, nodes := crowd()
	dir := b.TempDir()
	for name, text := range map[string]string{"compose.yaml": compose, "nodes.yaml": nodes} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		var out, errs lockedBuffer
		a := &app{env: &Env{Args: []string{"simulate", "--nodes", "nodes.yaml"}, WorkingDir: dir, Out: &out, Err: &errs}}
		if code := a.run(b.Context()); code != 0 {
			b.Fatalf("exit code %d: %s", code, errs.String())
		}
	}
}

const zones = `name: shop
x-berth:
  nodes:
    - {name: edge-1, cpus: 0.5, memory: 256M, disk: 1G, network: 100M, labels: {zone: a}}
    - {name: edge-2, cpus: 0.5, memory: 256M, labels: {zone: b}, taints: ["dedicated=db:NoSchedule"]}
    - {name: edge-3, cpus: 0.5, memory: 256M, labels: {zone: b}}
services:
  agent:
    image: app
    deploy: {mode: global}
  db:
    image: app
    deploy: {resources: {reservations: {cpus: "0.3", memory: 128M}}}
    x-berth:
      tolerations: ["dedicated=db:NoSchedule"]
      nodeSelector: {zone: b}
      priority: 10
  web:
    image: app
    depends_on: [db]
    deploy:
      replicas: 5
      resources: {reservations: {cpus: "0.2", memory: 64M}}
`

// simulateBench is a bench without an engine and a daemon.
func simulateBench(t *testing.T, compose string) *bench {
	t.Helper()
	b := newBench(t, compose)
	b.offline = true
	return b
}

func TestSimulateText(t *testing.T) {
	b := simulateBench(t, zones)
	if code := b.run("simulate"); code != 1 {
		t.Errorf("exit code %d, want 1: a replica fits nowhere", code)
	}
	golden(t, "simulate.txt", b.out.String())
	if got, want := b.err.String(), "berth: simulate: 1 of 8 replicas cannot be placed\n"; got != want {
		t.Errorf("standard error %q, want %q", got, want)
	}
}

func TestSimulateOnNodesOfAFile(t *testing.T) {
	b := simulateBench(t, zones)
	nodes := "nodes:\n  - {name: big, cpus: 4, memory: 8G, labels: {zone: b}}\n"
	if err := os.WriteFile(filepath.Join(b.dir, "nodes.yaml"), []byte(nodes), 0o600); err != nil {
		t.Fatal(err)
	}
	if code := b.run("simulate", "-f", "compose.yaml", "--nodes", "nodes.yaml", "--scale", "web=1", "--format", "json"); code != 0 {
		t.Fatalf("exit code %d: %s", code, b.err.String())
	}
	var got simulated
	if err := json.Unmarshal([]byte(b.out.String()), &got); err != nil {
		t.Fatal(err)
	}
	want := []placement{{"agent", 1, "big", ""}, {"db", 1, "big", ""}, {"web", 1, "big", ""}}
	if !slices.Equal(got.Replicas, want) || got.Stack != "shop" {
		t.Errorf("placed %+v, want %+v", got.Replicas, want)
	}
	if n := got.Nodes[0]; n.Replicas != 3 || n.Promised.CPU != 500 || n.Promised.Memory != 192<<20 || n.Capacity.CPU != 4000 {
		t.Errorf("the node is %+v", n)
	}
}

func TestSimulateOfOneServiceTakesItsDependencies(t *testing.T) {
	b := simulateBench(t, zones)
	if code := b.run("simulate", "--scale", "web=1", "web"); code != 0 {
		t.Fatalf("exit code %d: %s", code, b.err.String())
	}
	b.wantInOut("REPLICA   NODE\ndb/1      edge-2\nweb/1     edge-1\n\n")
}

func TestSimulateExplains(t *testing.T) {
	b := simulateBench(t, zones)
	if code := b.run("simulate", "--explain", "web/5"); code != 0 {
		t.Fatalf("exit code %d: %s", code, b.err.String())
	}
	golden(t, "simulate-explain.txt", b.out.String())
	b = simulateBench(t, zones)
	if code := b.run("simulate", "--explain", "web", "--format", "json"); code != 0 {
		t.Fatalf("exit code %d: %s", code, b.err.String())
	}
	var got api.Explained
	if err := json.Unmarshal([]byte(b.out.String()), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Replicas) != 5 || got.Replicas[0].Node != "edge-1" || len(got.Replicas[0].Placement.Verdicts) != 3 {
		t.Errorf("explained %+v", got.Replicas)
	}
}

func TestSimulateSaysWhatIsWrong(t *testing.T) {
	tests := []struct {
		name, compose, nodes string
		args                 []string
		want                 string
	}{
		{"no nodes", twoServices, "", nil, "berth: simulate: there are no nodes; name a file of them with --nodes, or declare them under x-berth.nodes\n"},
		{"no file", zones, "", []string{"--nodes", "none.yaml"}, "none.yaml"},
		{"bad capacity", zones, "- {name: a, cpus: -1}\n", []string{"--nodes", "nodes.yaml"}, "nodes.yaml:1: 0.cpus: "},
		{"twice", zones, "- {name: a, cpus: 1}\n- {name: a, cpus: 2}\n", []string{"--nodes", "nodes.yaml"}, `the node "a" is declared twice`},
		{"unknown service", zones, "", []string{"--explain", "cat"}, "berth: simulate: there is no replica cat; the file has the services agent, db, web\n"},
		{"unknown replica", zones, "", []string{"--explain", "web/6"}, "berth: simulate: there is no replica web/6; the file has the services agent, db, web\n"},
		{"bad replica", zones, "", []string{"--explain", "web/x"}, `berth: --explain "web/x": not of the form SERVICE or SERVICE/SLOT, slots count from 1` + "\n"},
		{"bad scale", zones, "", []string{"--scale", "web=many"}, `berth: scale "web=many": not of the form SERVICE=NUMBER` + "\n"},
		{"format", zones, "", []string{"--format", "table"}, `berth: simulate: --format "table" is unknown; use text or json` + "\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := simulateBench(t, tt.compose)
			if err := os.WriteFile(filepath.Join(b.dir, "nodes.yaml"), []byte(tt.nodes), 0o600); err != nil {
				t.Fatal(err)
			}
			if code := b.run(append([]string{"simulate"}, tt.args...)...); code != 1 {
				t.Errorf("exit code %d, want 1", code)
			}
			if got := b.err.String(); !strings.Contains(got, tt.want) || strings.Count(got, "\n") != 1 {
				t.Errorf("standard error:\n%s\nwant one line with:\n%s", got, tt.want)
			}
			b.wantOut("")
		})
	}
}

// TestSimulateSaysWhatUpDoes plays an up out to its end and compares.
func TestSimulateSaysWhatUpDoes(t *testing.T) {
	compose, nodes := crowd()
	for name, text := range map[string]string{"zones": zones, "crowd": compose + "x-berth:\n  nodes:\n" + indent(nodes)} {
		b := simulateBench(t, text)
		loaded, err := stack.Load(t.Context(), stack.LoadOptions{WorkingDir: b.dir})
		if err != nil {
			t.Fatal(err)
		}
		all, err := withDependencies(loaded.Stack, nil, false)
		if err != nil {
			t.Fatal(err)
		}
		sim := newSimulation(loaded.Stack, all, loaded.Stack.Nodes, nil)
		want := map[string]string{}
		for _, p := range sim.outcome().Replicas {
			want[p.key()] = p.Node
		}
		world := *sim.observed
		world.Images = map[string]reconcile.ImageState{"app": {ID: "sha256:app"}}
		plan := reconcile.Predict(sim.desired, &world, &reconcile.Memory{}, noon())
		got := map[string]string{}
		for _, s := range plan.Steps {
			if s.Op == reconcile.OpCreate {
				got[string(s.Key)] = s.Node
			}
		}
		for _, h := range plan.Holds {
			if h.Kind == reconcile.HoldFailing {
				got[string(h.Key)] = ""
			}
		}
		if len(want) == 0 || !maps.Equal(got, want) {
			t.Errorf("%s: up places\n%v\nsimulate\n%v", name, got, want)
		}
	}
}

func indent(text string) string {
	return "    " + strings.TrimSuffix(strings.ReplaceAll(text, "\n", "\n    "), "    ")
}
