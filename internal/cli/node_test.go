package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/reconcile"
	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/scheduler"
)

var update = flag.Bool("update", false, "write the golden files anew")

// nodeBench is a bench whose daemon knows three nodes.
func nodeBench(t *testing.T) *bench {
	t.Helper()
	b := newBench(t, twoServices)
	b.daemon.nodes = threeNodes()
	return b
}

// golden compares text with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s:\n%s\nwant:\n%s", name, got, want)
	}
}

func TestNodeTable(t *testing.T) {
	var out strings.Builder
	if err := nodeListing(noon()).print(&out, "table", threeNodes()); err != nil {
		t.Fatal(err)
	}
	golden(t, "node-ls.txt", out.String())
}

func TestNodeDescription(t *testing.T) {
	var out strings.Builder
	w := bufio.NewWriter(&out)
	for _, n := range threeNodes() {
		describeNode(w, &n, noon())
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	golden(t, "node-inspect.txt", out.String())
}

func TestNodeJSONIsTheDaemons(t *testing.T) {
	for _, args := range [][]string{{"node", "ls", "--format", "json"}, {"node", "inspect", "edge-1", "edge-2", "local", "edge-1"}} {
		b := nodeBench(t)
		if code := b.run(args...); code != 0 {
			t.Fatalf("%v: exit code %d: %s", args, code, b.err.String())
		}
		var got []api.Node
		if err := json.Unmarshal([]byte(b.out.String()), &got); err != nil || len(got) != 3 {
			t.Fatalf("%v: %d nodes (%v) in %s", args, len(got), err, b.out.String())
		}
		if n := got[1]; n.Name != "edge-2" || n.Capacity.CPU != 500 || n.Taints[0].Value != "db" || n.Replicas[0].Service != "db" || n.Drain == nil {
			t.Errorf("%v: the second node is %+v", args, n)
		}
	}
}

func TestNodeLsQuiet(t *testing.T) {
	b := nodeBench(t)
	if code := b.run("node", "ls", "-q"); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	b.wantOut("edge-1\nedge-2\nlocal\n")
}

func TestNodeAdd(t *testing.T) {
	b := nodeBench(t)
	code := b.run("node", "add", "edge-3", "--cpus", "0.25", "--memory", "128M", "--network", "10M", "--pids", "50", "--resource", "gpu=2",
		"--label", "zone=c", "--taint", "dedicated=db:NoExecute", "--overcommit")
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, b.err.String())
	}
	b.wantInErr(" Node edge-3  Added  cpu 0.25, memory 128M, network 10M, gpu 2\n")
	req := b.daemon.added[0]
	want := scheduler.Resources{CPU: 250, Memory: 128 << 20, Network: 10_000_000, Generic: map[string]int64{"gpu": 2}}
	n := req.Node
	if !req.Overcommit || n.Pids != 50 || n.Labels["zone"] != "c" || n.Taints[0].String() != "dedicated=db:NoExecute" {
		t.Errorf("the daemon was asked for %+v", req)
	}
	if got := n.Capacity; got.CPU != want.CPU || got.Memory != want.Memory || got.Network != want.Network || got.Generic["gpu"] != 2 {
		t.Errorf("capacity %+v, want %+v", got, want)
	}
}

func TestBadNodeCommandsSayOneClearThing(t *testing.T) {
	tests := []struct {
		args []string
		want string
	}{
		{[]string{"node", "lst"}, `berth: node: unknown command "lst"; see berth node --help`},
		{[]string{"node", "add", "a/b", "--cpus", "1"}, `berth: node add: "a/b" is no name for a node; use at most 63 letters, digits and . _ -, a letter or digit first`},
		{[]string{"node", "add", ""}, `berth: node add: "" is no name for a node; use at most 63 letters, digits and . _ -, a letter or digit first`},
		{[]string{"node", "ls", "--format", "yaml"}, `berth: --format "yaml" is unknown; use table or json`},
		{[]string{"node", "cordon", "edge-1", "edge-9"}, "berth: no such node: edge-9 (there is edge-1, edge-2, local)"},
		{[]string{"node", "drain", "edge-9"}, "berth: no such node: edge-9 (there is edge-1, edge-2, local)"},
		{[]string{"node", "inspect", "edge\x1b[2J"}, `berth: no such node: edge\x1b[2J (there is edge-1, edge-2, local)`},
		{[]string{"node", "drain", "edge-1", "--deadline", "-5s"}, "berth: node drain: --deadline -5s is not above zero; leave it out for none"},
		{[]string{"node", "drain", "edge-1", "-d", "--wait"}, "berth: node drain: --detach and --wait are incompatible"},
		{[]string{"rebalance", "--goal", "speed"}, `berth: rebalance: --goal "speed" is unknown; use balance or consolidate`},
		{[]string{"rebalance", "--budget", "some"}, `berth: rebalance: --budget "some" is neither a number of moves such as 5 nor a share of the replicas such as 20%`},
		{[]string{"rebalance", "--budget", "0"}, `berth: rebalance: --budget "0" is neither a number of moves such as 5 nor a share of the replicas such as 20%`},
		{[]string{"rebalance", "--budget", ""}, `berth: rebalance: --budget "" is neither a number of moves such as 5 nor a share of the replicas such as 20%`},
		{[]string{"rebalance", "--budget", "101%"}, `berth: rebalance: --budget "101%" is neither a number of moves such as 5 nor a share of the replicas such as 20%`},
		{[]string{"explain", "web/0"}, `berth: explain "web/0": not of the form SERVICE or SERVICE/SLOT, slots count from 1`},
		{[]string{"explain", "/1"}, `berth: explain "/1": no service is named`},
		{[]string{"explain", "cat"}, "berth: no such service: cat (the file has db, web)"},
		{[]string{"explain", "web", "--format", "xml"}, `berth: explain: --format "xml" is unknown; use text or json`},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			b := nodeBench(t)
			if code := b.run(tt.args...); code != 1 {
				t.Errorf("exit code %d, want 1", code)
			}
			if got := strings.TrimSuffix(b.err.String(), "\n"); got != tt.want {
				t.Errorf("standard error:\n%s\nwant:\n%s", got, tt.want)
			}
			if len(b.daemon.asked) > 0 || b.out.String() != "" {
				t.Errorf("the daemon was asked for %v, printed: %s", b.daemon.asked, b.out.String())
			}
		})
	}
}

func TestNodeAddRefusesBadCapacities(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string // in the one line of standard error
	}{
		{[]string{"--cpus", "0", "--memory", "1G"}, "--cpus"},
		{[]string{"--cpus", "-1", "--memory", "1G"}, "--cpus"},
		{[]string{"--cpus", "1", "--memory", "lots"}, "--memory"},
		{[]string{"--cpus", "1", "--memory", "1G", "--label", "zone"}, "--label"},
		{[]string{"--cpus", "1", "--memory", "1G", "--taint", "a=b"}, "--taint"},
		{[]string{"--cpus", "1", "--memory", "1G", "--taint", "a=b:Never"}, "--taint"},
		{[]string{"--cpus", "1", "--memory", "1G", "--resource", "gpu=two"}, "--resource"},
	} {
		b := nodeBench(t)
		if code := b.run(append([]string{"node", "add", "edge-3"}, tt.args...)...); code != 1 {
			t.Errorf("%v: exit code %d, want 1", tt.args, code)
		}
		got := b.err.String()
		if !strings.HasPrefix(got, "berth: node add: ") || !strings.Contains(got, tt.want) || strings.Count(got, "\n") != 1 {
			t.Errorf("%v: standard error: %s", tt.args, got)
		}
		if len(b.daemon.added) > 0 {
			t.Errorf("%v: the daemon was asked", tt.args)
		}
	}
}

func TestNodeActions(t *testing.T) {
	for _, tt := range []struct{ verb, want string }{
		{"cordon", " Node edge-1  Cordoned  2 replicas\n Node local  Cordoned\n"},
		{"uncordon", " Node edge-1  Uncordoned  2 replicas\n Node local  Uncordoned\n"},
		{"fail", " Node edge-1  Failed  2 replicas\n Node local  Failed\n"},
		{"recover", " Node edge-1  Recovered  2 replicas\n Node local  Recovered\n"},
		{"rm", " Node edge-1  Removed\n Node local  Removed\n"},
	} {
		b := nodeBench(t)
		if code := b.run("node", tt.verb, "edge-1", "local"); code != 0 {
			t.Errorf("%s: exit code %d: %s", tt.verb, code, b.err.String())
		}
		if got := b.err.String(); got != tt.want {
			t.Errorf("%s:\n%s\nwant:\n%s", tt.verb, got, tt.want)
		}
		if want := []string{tt.verb + " edge-1", tt.verb + " local"}; !slices.Equal(b.daemon.asked, want) {
			t.Errorf("%s: asked for %v", tt.verb, b.daemon.asked)
		}
	}
}

func TestNodeRmOfAnOccupiedNodeDoesTheOthers(t *testing.T) {
	b := nodeBench(t)
	b.daemon.refusals = map[string]error{"rm edge-1": &runtime.Error{
		Kind: runtime.KindConflict, Op: "remove node", Object: "edge-1", Err: errors.New("shop/web/1, shop/web/3 are on it; drain it first"),
	}}
	if code := b.run("node", "rm", "edge-1", "edge-2"); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	if got, want := b.err.String(), " Node edge-2  Removed\nberth: remove node edge-1: shop/web/1, shop/web/3 are on it; drain it first\n"; got != want {
		t.Errorf("standard error:\n%s\nwant:\n%s", got, want)
	}
}

func TestNodeDryRunChangesNothing(t *testing.T) {
	b := nodeBench(t)
	for _, args := range [][]string{{"fail", "edge-1"}, {"drain", "edge-2"}, {"rm", "local"}, {"add", "edge-3", "--cpus", "1", "--memory", "1G"}} {
		if code := b.run(append([]string{"--dry-run", "node"}, args...)...); code != 0 {
			t.Errorf("%v: exit code %d: %s", args, code, b.err.String())
		}
	}
	b.wantOut(`fail           node         edge-1  (it is ready with shop/web/1, shop/web/3)
drain          node         edge-2  (it is draining with shop/db/1)
rm             node         local  (it is ready)
add            node         edge-3  (cpu 1, memory 1G)
`)
	if len(b.daemon.asked) > 0 {
		t.Errorf("the daemon was asked for %v", b.daemon.asked)
	}
}

func TestNodeDrainShowsWhatMovesUntilTheNodeIsEmpty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := nodeBench(t)
		b.daemon.status = &api.Status{Plan: &reconcile.Plan{Holds: []reconcile.Hold{
			{Kind: reconcile.HoldWaiting, Key: "web/3", Reason: "is to leave edge-1, which is drained; web/1 moves first"},
		}}}
		b.daemon.onLook = func(look int, n *api.Node) {
			if look == 3 || look == 5 {
				n.Replicas = n.Replicas[1:]
			}
		}
		if code := b.run("node", "drain", "edge-1", "--deadline", "30s"); code != 0 {
			t.Errorf("exit code %d, want 0", code)
		}
		want := ` Replica shop/web/1  Moving
 Replica shop/web/3  Moving
 Node edge-1  Draining  2 replicas left
 Replica shop/web/3  Moving  is to leave edge-1, which is drained; web/1 moves first
 Replica shop/web/1  Moved
 Node edge-1  Draining  1 replica left
 Replica shop/web/3  Moved
 Node edge-1  Drained
`
		if got := b.err.String(); got != want {
			t.Errorf("standard error:\n%s\nwant:\n%s", got, want)
		}
		if !slices.Equal(b.daemon.drains, []time.Duration{30 * time.Second}) {
			t.Errorf("deadlines %v", b.daemon.drains)
		}
	})
}

func TestNodeDrainDetached(t *testing.T) {
	b := nodeBench(t)
	if code := b.run("node", "drain", "-d", "edge-1", "local"); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	b.wantInErr(" Node edge-1  Draining  2 replicas left\n Node local  Drained\n")
	if b.daemon.looks != 0 {
		t.Errorf("looked %d times", b.daemon.looks)
	}
}

func TestNodeDrainEndsWhereNothingCanMove(t *testing.T) {
	refused := reconcile.Hold{Kind: reconcile.HoldFailing, Key: "db/1", Reason: "0/2 nodes: 2 insufficient memory (needs 64M, 32M free on edge-1)"}
	for _, tt := range []struct {
		name   string
		hold   reconcile.Hold
		want   reconcile.Want // of the service
		onLook func(look int, n *api.Node)
		told   string
		looks  int
	}{
		{
			"no node takes it", refused, reconcile.WantRunning, nil,
			"berth: node edge-2: 1 replica cannot move; the daemon goes on trying, berth node uncordon edge-2 ends the drain\n" +
				"berth: shop/db/1: 0/2 nodes: 2 insufficient memory (needs 64M, 32M free on edge-1)\n", 2,
		},
		{
			"it is stopped", reconcile.Hold{}, reconcile.WantStopped, nil,
			"berth: node edge-2: 1 replica cannot move; the daemon goes on trying, berth node uncordon edge-2 ends the drain\n" +
				"berth: shop/db/1: is stopped and stays; berth -p shop rm db removes it\n", 2,
		},
		{
			"uncordoned meanwhile", reconcile.Hold{}, reconcile.WantRunning, func(look int, n *api.Node) {
				if look == 4 {
					n.Drain, n.Status = nil, nodeReady
				}
			}, "berth: node edge-2: the drain was ended by another command, it is ready\n", 4,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := nodeBench(t)
				b.daemon.status = &api.Status{
					Plan:    &reconcile.Plan{Holds: []reconcile.Hold{tt.hold}},
					Desired: &reconcile.Desired{Services: map[string]reconcile.ServiceState{"db": {Want: tt.want}}},
				}
				b.daemon.onLook = tt.onLook
				if code := b.run("node", "drain", "edge-2"); code != 1 {
					t.Errorf("exit code %d, want 1", code)
				}
				if got := b.err.String(); !strings.HasSuffix(got, tt.told) {
					t.Errorf("standard error:\n%s\nwant at its end:\n%s", got, tt.told)
				}
				if b.daemon.looks != tt.looks {
					t.Errorf("looked %d times, want %d", b.daemon.looks, tt.looks)
				}
			})
		})
	}
}

func TestNodeDrainInterruptedGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := nodeBench(t)
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		if code := b.runContext(ctx, "node", "drain", "edge-1", "edge-2"); code != 130 {
			t.Errorf("exit code %d, want 130", code)
		}
		b.wantInErr("berth: interrupted; the daemon goes on draining edge-1 edge-2, berth node uncordon edge-1 edge-2 ends it\n")
	})
}

func TestCompletionOfNodeNames(t *testing.T) {
	b := nodeBench(t)
	b.run("__complete", "node", "drain", "edge-1", "")
	b.wantOut("edge-2\nlocal\n:4\n")
	b = nodeBench(t)
	b.run("__complete", "node", "un")
	b.wantInOut("uncordon\tHave cordoned or drained")
}

func TestPsShowsNodesOnlyWhereTheyWereDeclared(t *testing.T) {
	rows := func(node string) []psRow {
		c := psSample()[0]
		if node != "" {
			c.Labels[runtime.LabelNode] = node
		}
		return []psRow{newPsRow(&c, true, noon())}
	}
	for node, want := range map[string]bool{"": false, reconcile.LocalNode: false, "edge-1": true} {
		var out strings.Builder
		list := rows(node)
		if err := psListing(list).print(&out, "table", list); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(out.String(), " NODE "); got != want {
			t.Errorf("on node %q: a node column %v, want %v:\n%s", node, got, want, out.String())
		}
		if want && !strings.Contains(out.String(), " web       edge-1    3 hours ago") {
			t.Errorf("the node is not beside its service:\n%s", out.String())
		}
	}
}
