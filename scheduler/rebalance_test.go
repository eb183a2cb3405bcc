package scheduler_test

import (
	"fmt"
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
			if moved == 0 {
				t.Error("nothing ever moved")
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

var _ = fmt.Sprint
