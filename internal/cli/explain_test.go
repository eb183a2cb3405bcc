package cli

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/reconcile"
	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/scheduler"
)

// explainedWeb are a replica that stands well, one that would stand better
// elsewhere, and one that no node takes.
func explainedWeb() *api.Explained {
	filters := func(rejected map[string]string) []scheduler.FilterVerdict {
		var list []scheduler.FilterVerdict
		for _, name := range []string{"ready", "taints", "resources", "ports"} {
			list = append(list, scheduler.FilterVerdict{Filter: name, Reason: rejected[name]})
		}
		return list
	}
	scores := func(least, balanced int64) []scheduler.Score {
		return []scheduler.Score{{Name: scheduler.LeastAllocated, Value: least, Weight: 1}, {Name: scheduler.BalancedAllocation, Value: balanced, Weight: 1}}
	}
	fits := func(node string, least, balanced int64) scheduler.Verdict {
		return scheduler.Verdict{Node: node, Filters: filters(nil), Score: least + balanced, Scores: scores(least, balanced)}
	}
	tainted := scheduler.Verdict{
		Node: "edge-2", Filter: "taints", Reason: "taint dedicated=db",
		Filters: filters(map[string]string{"taints": "taint dedicated=db", "resources": "insufficient memory (needs 128M, 96M free)"}),
	}
	full := scheduler.Verdict{
		Node: "edge-1", Filter: "resources", Reason: "insufficient memory (needs 128M, 64M free)",
		Filters: filters(map[string]string{"resources": "insufficient memory (needs 128M, 64M free)"}),
	}
	return &api.Explained{Replicas: []api.Explanation{
		{
			Key: "web/1", Container: "shop-web-1", State: runtime.Running, Node: "edge-1",
			Placement: scheduler.Decision{
				Node: "edge-1", Reason: "the emptiest of 2 nodes that take it",
				Verdicts: []scheduler.Verdict{tainted, fits("edge-3", 62, 99), fits("edge-1", 72, 99)},
			},
		},
		{
			Key: "web/2", Node: "edge-1", Container: "shop-web-2", State: runtime.Exited, Pressure: "killed for want of memory on edge-1",
			Hold:  "restarts in 2s",
			Steps: []reconcile.Step{{Op: reconcile.OpStart, Key: "web/2", Name: "shop-web-2", Node: "edge-1", Cause: "it has exited with 137"}},
			Placement: scheduler.Decision{
				Node: "edge-3", Reason: "the emptiest of 1 node that takes it", Verdicts: []scheduler.Verdict{full, fits("edge-3", 62, 99)},
			},
		},
		{
			Key: "web/3", Hold: "0/2 nodes: 1 insufficient memory (needs 128M, 64M free on edge-1), 1 taint dedicated=db",
			Placement: scheduler.Decision{
				Reason: "0/2 nodes: 1 insufficient memory (needs 128M, 64M free on edge-1), 1 taint dedicated=db",
				Hint:   "64M more memory on edge-1", Verdicts: []scheduler.Verdict{full, {Node: "edge-2", Filter: "taints", Reason: "taint dedicated=db"}},
			},
		},
	}}
}

func explainBench(t *testing.T) *bench {
	t.Helper()
	b := nodeBench(t)
	all := explainedWeb()
	b.daemon.explained = map[string]*api.Explained{"shop/web/0": all, "shop/web/3": {Replicas: all.Replicas[2:]}}
	return b
}

func TestExplainText(t *testing.T) {
	b := explainBench(t)
	if code := b.run("explain", "web"); code != 0 {
		t.Fatalf("exit code %d: %s", code, b.err.String())
	}
	golden(t, "explain.txt", b.out.String())
}

func TestExplainOnATerminalIsDrawn(t *testing.T) {
	b := explainBench(t)
	if code := b.run("--ansi", "always", "explain", "web/3"); code != 0 {
		t.Fatalf("exit code %d: %s", code, b.err.String())
	}
	golden(t, "explain-drawn.txt", b.out.String())
}

func TestExplainJSON(t *testing.T) {
	b := explainBench(t)
	if code := b.run("explain", "--format", "json", "web/3", "web"); code != 0 {
		t.Fatalf("exit code %d: %s", code, b.err.String())
	}
	var got api.Explained
	if err := json.Unmarshal([]byte(b.out.String()), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Replicas) != 4 || got.Replicas[0].Key != "web/3" || got.Replicas[1].Key != "web/1" || got.Replicas[1].Placement.Verdicts[2].Score != 171 {
		t.Errorf("got %+v", got)
	}
}

func TestExplainOfAnUnknownReplica(t *testing.T) {
	b := explainBench(t)
	if code := b.run("explain", "web/7"); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	if got, want := b.err.String(), "berth: explain shop/web/7: there is no such replica\n"; got != want {
		t.Errorf("standard error %q, want %q", got, want)
	}
}

// balanced is what a rebalance of two stacks comes to.
func balanced(api.Rebalance) *api.Rebalanced {
	return &api.Rebalanced{
		Figure: "squared use", Before: 1.25, After: 0.81254,
		Moves: []api.Move{
			{Stack: "shop", Service: "web", Slot: 2, From: "edge-1", To: "edge-3", Cause: "edge-1 is used most", Gain: 300_000},
			{Stack: "blog", Service: "api", Slot: 1, From: "edge-1", To: "edge-2"},
			{Stack: "shop", Service: "web", Slot: 4, From: "edge-1", To: "edge-2"},
		},
		Fixed:   []string{"shop/db/1 stays on edge-1: it is a job"},
		Reasons: []string{"the budget is spent"},
	}
}

const balancedText = `move           shop/web/2   edge-1 -> edge-3  (edge-1 is used most; gain 0.3)
move           blog/api/1   edge-1 -> edge-2
move           shop/web/4   edge-1 -> edge-2
keep           shop/db/1 stays on edge-1: it is a job
squared use: 1.25 -> 0.813
the budget is spent
`

func TestRebalanceFollowsEveryStack(t *testing.T) {
	b := nodeBench(t)
	b.daemon.rebalance = balanced
	b.daemon.failed = []string{"start shop-web-2: no space left on device"}
	if code := b.run("rebalance", "--budget", "3"); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	b.wantOut(balancedText)
	b.wantInErr("berth: start shop-web-2: no space left on device\n")
	if got := strings.Join(b.daemon.asked, ";"); got != "rebalance balance 3" {
		t.Errorf("asked for %s", got)
	}
	if len(b.daemon.untils) != 2 || b.daemon.untils[1] != untilSettled {
		t.Errorf("followed until %q, want two stacks until settled", b.daemon.untils)
	}
}

func TestRebalancePlan(t *testing.T) {
	for _, args := range [][]string{{"rebalance", "--plan", "--goal", "consolidate"}, {"--dry-run", "rebalance", "--goal", "consolidate"}} {
		b := nodeBench(t)
		b.daemon.rebalance = func(req api.Rebalance) *api.Rebalanced {
			if !req.Plan {
				t.Error("the moves were asked for, not their plan")
			}
			return balanced(req)
		}
		if code := b.run(args...); code != exitChanges {
			t.Errorf("%v: exit code %d, want %d", args, code, exitChanges)
		}
		b.wantOut(balancedText)
		if len(b.daemon.untils) > 0 || b.daemon.asked[0] != "rebalance consolidate " {
			t.Errorf("%v: asked for %v, followed %v", args, b.daemon.asked, b.daemon.untils)
		}
	}
}

func TestRebalanceWithNothingToMove(t *testing.T) {
	b := nodeBench(t)
	b.daemon.rebalance = func(api.Rebalance) *api.Rebalanced {
		return &api.Rebalanced{Figure: "squared use", Before: 0.5, After: 0.5, Reasons: []string{"no move lowers it"}}
	}
	if code := b.run("rebalance"); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	b.wantOut("nothing to move; squared use: 0.5\nno move lowers it\n")
	b = nodeBench(t)
	b.daemon.rebalance = func(api.Rebalance) *api.Rebalanced {
		return &api.Rebalanced{Figure: "nodes in use", Before: 3, After: 3}
	}
	b.daemon.refusals = map[string]error{"rebalance balance ": errors.New("rebalance: a node is down")}
	if code := b.run("rebalance", "--format", "json"); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	b.wantOut("")
	b.wantInErr("berth: rebalance: a node is down\n")
}

func TestRebalanceInterruptedGoesOn(t *testing.T) {
	b := nodeBench(t)
	b.daemon.rebalance = balanced
	ctx, stop := context.WithCancel(t.Context())
	b.daemon.pending = func(context.Context, func(api.Event)) { stop() }
	if code := b.runContext(ctx, "rebalance"); code != 130 {
		t.Errorf("exit code %d, want 130", code)
	}
	if got, want := b.err.String(), "berth: interrupted; the daemon goes on with the moves\n"; got != want {
		t.Errorf("standard error %q, want %q", got, want)
	}
}
