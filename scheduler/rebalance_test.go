package scheduler_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/berth-dev/berth/scheduler"
)

func rebalance(t rapid.TB, w *world, r scheduler.Rebalancing) scheduler.Rebalanced {
	t.Helper()
	got, err := scheduler.Rebalance(w.Cluster, r)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// carryOut makes the moves one by one and checks each at its place: that it goes
// from where the replica is to where every filter lets it go, and that nothing
// is overcommitted by it.
func carryOut(t rapid.TB, w *world, moves []scheduler.Move) {
	t.Helper()
	seen := map[string]bool{}
	for i, m := range moves {
		r, ok := w.Replica(w.placed[m.ID])
		if !ok || r.Node != m.From || m.From == m.To {
			t.Fatalf("move %d takes %s from %s to %s, but it is on %s", i, m.ID, m.From, m.To, r.Node)
		}
		if seen[m.ID] {
			t.Fatalf("move %d: %s moves twice", i, m.ID)
		}
		seen[m.ID] = true
		w.Release(w.placed[m.ID])
		if why := w.Rejects(r.Shape, m.To); why != "" {
			t.Fatalf("move %d: %s does not fit on %s: %s", i, m.ID, m.To, why)
		}
		w.assign(t, r.Shape, m.To, m.ID)
		if u, _ := w.NodeUsage(m.To); u.Used.CPU > u.Capacity.CPU && r.Shape.Template().Reservation.CPU > 0 {
			t.Fatalf("move %d overcommits %s: %+v", i, m.To, u)
		}
	}
}

// What holds for both goals, over worlds that use every filter.
func TestRebalanceHoldsItsPromises(t *testing.T) {
	for _, goal := range []scheduler.Goal{scheduler.GoalBalance, scheduler.GoalConsolidate} {
		t.Run(string(goal), func(t *testing.T) {
			moved, gaveUp, runs := 0, 0, 0
			rapid.Check(t, func(t *rapid.T) {
				p := drawPolicy(t)
				w := drawWorld(t, p)
				r := scheduler.Rebalancing{
					Goal:    goal,
					Budget:  scheduler.Budget{Moves: rapid.IntRange(0, 5).Draw(t, "moves"), Percent: rapid.SampledFrom([]int{0, 0, 20, 50}).Draw(t, "percent")},
					MinGain: rapid.SampledFrom([]int64{0, 1, 20_000}).Draw(t, "least"),
					Fixed: func(r scheduler.Replica) string {
						if strings.HasSuffix(r.ID, "7") {
							return "it ends in 7"
						}
						return ""
					},
				}
				got := rebalance(t, w, r)
				runs++
				moved += len(got.Moves)
				if strings.HasPrefix(got.Reason, "no set of moves") {
					gaveUp++
				}
				checkRebalanced(t, w, r, got)
				after := w.copied(t, p)
				carryOut(t, after, got.Moves)
				again := rebalance(t, after, r)
				if diff := cmp.Diff(got.After, again.Before); diff != "" {
					t.Fatalf("figures (-promised +carried out):\n%s", diff)
				}
				if !strings.Contains(got.Reason, "budget") && len(again.Moves) > 0 {
					t.Fatalf("after %v a second one moves %v", got.Moves, again.Moves)
				}
			})
			t.Logf("%d moves in %d runs, %d gave up", moved, runs, gaveUp)
			if moved == 0 || gaveUp*20 > runs {
				t.Error("nothing ever moved, or too often nothing was found to move")
			}
		})
	}
}

func checkRebalanced(t *rapid.T, w *world, r scheduler.Rebalancing, got scheduler.Rebalanced) {
	total := len(w.replicas())
	if r.Budget.Moves > 0 && len(got.Moves) > r.Budget.Moves || r.Budget.Percent > 0 && len(got.Moves)*100 > r.Budget.Percent*total {
		t.Fatalf("%d of %d replicas move, beyond %+v", len(got.Moves), total, r.Budget)
	}
	gain := int64(0)
	emptied := map[string]bool{}
	for _, m := range got.Moves {
		if strings.HasSuffix(m.ID, "7") {
			t.Fatalf("%s is fixed and moves", m.ID)
		}
		if n, _ := w.Node(m.From); n.Down {
			t.Fatalf("%s moves away from a node that is down", m.ID)
		}
		if r.Goal == scheduler.GoalBalance && m.Gain < max(r.MinGain, 1) {
			t.Fatalf("%s gains only %d", m.ID, m.Gain)
		}
		gain += m.Gain
		emptied[m.From] = true
	}
	if r.Goal == scheduler.GoalBalance {
		if got.Before.SquaredUse-got.After.SquaredUse != gain {
			t.Fatalf("%+v to %+v is not a gain of %d", got.Before, got.After, gain)
		}
		return
	}
	checkEmptied(t, w, got, emptied)
}

// checkEmptied wants every node that gives to end empty and to receive nothing,
// and every node that receives to have held something before.
func checkEmptied(t *rapid.T, w *world, got scheduler.Rebalanced, emptied map[string]bool) {
	gave := map[string]int{}
	for _, m := range got.Moves {
		gave[m.From]++
		if u, _ := w.NodeUsage(m.To); emptied[m.To] || u.Replicas == 0 {
			t.Fatalf("%s goes to %s, which is emptied or was empty", m.ID, m.To)
		}
	}
	for name, n := range gave {
		if u, _ := w.NodeUsage(name); u.Replicas != n {
			t.Fatalf("%s gives %d of %d replicas", name, n, u.Replicas)
		}
	}
	if got.Before.InUse-got.After.InUse != len(emptied) {
		t.Fatalf("%+v to %+v, but %d nodes are emptied", got.Before, got.After, len(emptied))
	}
}

// evenly is how many replicas each node holds, in the order of the nodes.
func (w *world) evenly() []int {
	var all []int
	for _, n := range w.Nodes() {
		u, _ := w.NodeUsage(n.Name)
		all = append(all, u.Replicas)
	}
	return all
}

func TestBalance(t *testing.T) {
	big := node("b", 30)
	tests := []struct {
		name   string
		nodes  []scheduler.Node
		on     map[string]int // replicas of a tenth of 1000 millicores, by node
		budget scheduler.Budget
		want   []int // replicas by node
		reason string
	}{
		{name: "to equal counts", nodes: []scheduler.Node{node("a", 10), node("b", 10), node("c", 10)}, on: map[string]int{"a": 9}, want: []int{3, 3, 3}},
		{name: "to equal shares of unequal nodes", nodes: []scheduler.Node{node("a", 10), big}, on: map[string]int{"a": 8}, want: []int{2, 6}},
		{name: "no further than the budget", nodes: []scheduler.Node{node("a", 10), node("b", 10)}, on: map[string]int{"a": 8}, budget: scheduler.Budget{Percent: 30}, want: []int{6, 2}, reason: "the budget of 2 moves is used up"},
		{name: "nothing for a swap of unequals", nodes: []scheduler.Node{node("a", 10), node("b", 10)}, on: map[string]int{"a": 5, "b": 4}, want: []int{5, 4}, reason: "no move would lower the squared use by 500 millionths of a node"},
		{name: "nothing to cordoned nodes", nodes: []scheduler.Node{node("a", 10), {Name: "b", Capacity: node("b", 10).Capacity, Cordoned: true}}, on: map[string]int{"a": 5}, want: []int{5, 0}, reason: "no move would lower the squared use by 500 millionths of a node"},
		{name: "nothing from nodes that are down", nodes: []scheduler.Node{{Name: "a", Capacity: node("a", 10).Capacity, Down: true}, node("b", 10)}, on: map[string]int{"a": 5}, want: []int{5, 0}, reason: "no move would lower the squared use by 500 millionths of a node"},
		{name: "a budget that allows none", nodes: []scheduler.Node{node("a", 10), node("b", 10)}, on: map[string]int{"a": 4}, budget: scheduler.Budget{Percent: 20}, want: []int{4, 0}, reason: "the budget allows no move of 4 replicas"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, scheduler.Policy{}, tt.nodes...)
			s := w.register(t, size("web", 0, 1))
			for _, n := range tt.nodes {
				for i := range tt.on[n.Name] {
					w.assign(t, s, n.Name, fmt.Sprintf("web/%s%d", n.Name, i))
				}
			}
			got := rebalance(t, w, scheduler.Rebalancing{Budget: tt.budget})
			carryOut(t, w, got.Moves)
			if diff := cmp.Diff(tt.want, w.evenly()); diff != "" || got.Reason != tt.reason {
				t.Errorf("reason %q, want %q; replicas by node (-want +got):\n%s", got.Reason, tt.reason, diff)
			}
		})
	}
}

func TestBalanceTellsMoves(t *testing.T) {
	w := newWorld(t, scheduler.Policy{}, node("a", 10), node("b", 10))
	w.assign(t, w.register(t, size("db", 5, 4)), "a", "db/1")
	w.assign(t, w.register(t, size("web", 0, 4)), "a", "web/1")
	got := rebalance(t, w, scheduler.Rebalancing{Fixed: func(r scheduler.Replica) string {
		if r.ID == "db/1" {
			return "it has a volume"
		}
		return ""
	}})
	// Twice, for cpu and memory: 0.8² is 640,000 millionths, twice 0.4² half of it.
	want := scheduler.Rebalanced{
		Moves: []scheduler.Move{{
			ID: "web/1", From: "a", To: "b", Gain: 640_000,
			Cause: "use of a falls from 80% to 40%, that of b rises from 0% to 40%",
		}},
		Fixed:  []scheduler.FixedReplica{{ID: "db/1", Node: "a", Reason: "it has a volume"}},
		Before: scheduler.Figures{SquaredUse: 1_280_000, InUse: 1},
		After:  scheduler.Figures{SquaredUse: 640_000, InUse: 2},
	}
	got.Moves[0].Placement = scheduler.Placement{}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(scheduler.Placement{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestBalanceMovesLowPriorityFirst(t *testing.T) {
	w := newWorld(t, scheduler.Policy{}, node("a", 10), node("b", 10))
	w.assign(t, w.register(t, size("high", 9, 4)), "a", "high/1")
	w.assign(t, w.register(t, size("low", 1, 3)), "a", "low/1")
	w.assign(t, w.register(t, size("mid", 5, 3)), "a", "mid/1")
	got := rebalance(t, w, scheduler.Rebalancing{Budget: scheduler.Budget{Moves: 1}})
	if len(got.Moves) != 1 || got.Moves[0].ID != "low/1" {
		t.Errorf("moves are %v, want the one of lowest priority", got.Moves)
	}
}

// Who must be near to a replica is not left behind by it.
func TestBalanceStrandsNobody(t *testing.T) {
	w := newWorld(t, scheduler.Policy{}, node("a", 10), node("b", 10))
	cache := w.register(t, size("cache", 0, 4))
	web := size("web", 0, 4)
	web.Affinity = []scheduler.ServiceTerm{{Services: []string{"cache"}}}
	w.assign(t, cache, "a", "cache/1")
	w.assign(t, w.register(t, web), "a", "web/1")
	if got := rebalance(t, w, scheduler.Rebalancing{}); len(got.Moves) > 0 {
		t.Errorf("moves are %v, want none: each needs the other", got.Moves)
	}
	w.assign(t, cache, "a", "cache/2")
	if got := rebalance(t, w, scheduler.Rebalancing{}); len(got.Moves) == 0 {
		t.Error("no move, but one cache is to spare")
	}
}

func TestConsolidate(t *testing.T) {
	four := []scheduler.Node{node("a", 10), node("b", 10), node("c", 10), node("d", 10)}
	tests := []struct {
		name   string
		on     map[string]int // replicas of a tenth, by node
		budget scheduler.Budget
		fixed  string
		want   []int
		reason string
	}{
		{name: "the emptiest goes to the fullest", on: map[string]int{"a": 6, "b": 1, "c": 7}, want: []int{6, 0, 8, 0}},
		{name: "as many as can be", on: map[string]int{"a": 2, "b": 3, "c": 2, "d": 3}, want: []int{0, 10, 0, 0}},
		{name: "as a whole or not at all", on: map[string]int{"a": 6, "b": 7, "c": 8}, want: []int{6, 7, 8, 0}, reason: "no node can be emptied"},
		{name: "within the budget", on: map[string]int{"a": 2, "b": 3, "c": 9, "d": 9}, budget: scheduler.Budget{Moves: 4}, want: []int{0, 3, 10, 10}, reason: "the budget of 4 moves empties no more nodes"},
		{name: "not what may not move", on: map[string]int{"a": 1, "b": 2}, fixed: "web/a0", want: []int{3, 0, 0, 0}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, scheduler.Policy{}, four...)
			s := w.register(t, size("web", 0, 1))
			for _, n := range four {
				for i := range tt.on[n.Name] {
					w.assign(t, s, n.Name, fmt.Sprintf("web/%s%d", n.Name, i))
				}
			}
			got := rebalance(t, w, scheduler.Rebalancing{
				Goal: scheduler.GoalConsolidate, Budget: tt.budget,
				Fixed: func(r scheduler.Replica) string { return map[bool]string{true: "fixed"}[r.ID == tt.fixed] },
			})
			carryOut(t, w, got.Moves)
			if diff := cmp.Diff(tt.want, w.evenly()); diff != "" || got.Reason != tt.reason {
				t.Errorf("reason %q, want %q; replicas by node (-want +got):\n%s", got.Reason, tt.reason, diff)
			}
		})
	}
}

func TestParseBudget(t *testing.T) {
	for text, want := range map[string]scheduler.Budget{"": {}, "5": {Moves: 5}, "20%": {Percent: 20}, "100%": {Percent: 100}} {
		if got, err := scheduler.ParseBudget(text); err != nil || got != want {
			t.Errorf("budget %q is %+v, %v; want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"0", "-1", "x", "%", "101%", "1.5", "5 %"} {
		if got, err := scheduler.ParseBudget(text); err == nil {
			t.Errorf("budget %q is %+v, want an error", text, got)
		}
	}
}

func TestRebalanceRefusesWhatCannotBe(t *testing.T) {
	w := newWorld(t, scheduler.Policy{})
	for want, r := range map[string]scheduler.Rebalancing{
		"goal":   {Goal: "tidy"},
		"least":  {MinGain: -1},
		"budget": {Budget: scheduler.Budget{Moves: -1}},
	} {
		if _, err := scheduler.Rebalance(w.Cluster, r); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want one that names the %s", err, want)
		}
	}
}

// crowd is a cluster in which the first nodes are full and the last are empty.
func crowd(b *testing.B, nodes, replicas int) *world {
	rng := rand.New(rand.NewPCG(1, 2))
	w := newWorld(b, scheduler.Policy{Strategy: scheduler.StrategyBinpack})
	for i := range nodes {
		if err := w.AddNode(node(fmt.Sprintf("node-%05d", i), 100)); err != nil {
			b.Fatal(err)
		}
	}
	var shapes []*scheduler.Shape
	for i := range 20 {
		t := size(fmt.Sprintf("svc-%d", i), i%3, 1+rng.Int64N(9))
		t.Reservation.Memory = (1 + rng.Int64N(9)) * 100 << 20
		shapes = append(shapes, w.register(b, t))
	}
	for i := range replicas {
		if _, ok := w.Schedule(shapes[rng.IntN(len(shapes))], fmt.Sprintf("r/%d", i)); !ok {
			b.Fatal("the nodes are too small")
		}
	}
	return w
}

// BenchmarkRebalance proposes moves for a cluster that was packed tight, or, to
// consolidate, for one that was balanced before.
func BenchmarkRebalance(b *testing.B) {
	for _, size := range []struct{ nodes, replicas int }{{100, 1_000}, {10_000, 100_000}} {
		w := crowd(b, size.nodes, size.replicas)
		for _, r := range []scheduler.Rebalancing{
			{Goal: scheduler.GoalBalance, Budget: scheduler.Budget{Percent: 20}},
			{Goal: scheduler.GoalBalance},
			{Goal: scheduler.GoalConsolidate},
		} {
			b.Run(fmt.Sprintf("%s/nodes=%d/replicas=%d/budget=%d%%", r.Goal, size.nodes, size.replicas, r.Budget.Percent), func(b *testing.B) {
				var got scheduler.Rebalanced
				for b.Loop() {
					got = rebalance(b, w, r)
				}
				b.ReportMetric(float64(len(got.Moves)), "moves")
			})
			if r.Goal == scheduler.GoalBalance && r.Budget.Percent == 0 {
				for _, m := range rebalance(b, w, r).Moves {
					if err := w.Move(m.Placement, m.To); err != nil {
						b.Fatal(err)
					}
				}
			}
		}
	}
}
