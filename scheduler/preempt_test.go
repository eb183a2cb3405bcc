package scheduler_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/berth-dev/berth/scheduler"
)

// standing is one replica of a preemption table: its node, service, priority and
// size in hundreds; its start is its place in the list.
type standing struct {
	node, service string
	priority      int
	hundreds      int64
}

func TestPreemptChoosesNodeAndVictims(t *testing.T) {
	three := []scheduler.Node{node("a", 10), node("b", 10), node("c", 10)}
	tests := []struct {
		name     string
		nodes    []scheduler.Node
		standing []standing
		want     string   // node
		victims  []string // the most important first
		reason   string
	}{
		{
			name:     "lowest highest priority, though more victims",
			nodes:    three,
			standing: []standing{{"a", "a", 5, 10}, {"b", "b1", 4, 5}, {"b", "b2", 4, 5}, {"c", "c", 6, 10}},
			want:     "b", victims: []string{"b1", "b2"},
			reason: "displaces b1 (priority 4) and b2 (priority 4) on b",
		},
		{
			name:     "then lowest sum, though more victims",
			nodes:    three,
			standing: []standing{{"a", "a1", 5, 5}, {"a", "a2", 4, 5}, {"b", "b1", 5, 4}, {"b", "b2", 1, 3}, {"b", "b3", 1, 3}, {"c", "c", 9, 10}},
			want:     "b", victims: []string{"b1", "b2", "b3"},
			reason: "displaces b1 (priority 5), b2 (priority 1) and b3 (priority 1) on b",
		},
		{
			name:     "then fewest victims; below zero is no merit",
			nodes:    three[:2],
			standing: []standing{{"a", "a1", 2, 5}, {"a", "a2", -7, 5}, {"b", "b", 2, 10}},
			want:     "b", victims: []string{"b"},
			reason: "displaces b (priority 2) on b",
		},
		{
			name:     "then the latest start of the highest",
			nodes:    three,
			standing: []standing{{"a", "a", 2, 10}, {"c", "c", 2, 10}, {"b", "b", 2, 10}},
			want:     "b", victims: []string{"b"},
			reason: "displaces b (priority 2) on b",
		},
		{
			name:     "the most important are reprieved first",
			nodes:    three[:1],
			standing: []standing{{"a", "low", 1, 3}, {"a", "high", 3, 2}, {"a", "mid", 2, 2}, {"a", "later", 3, 3}},
			want:     "a", victims: []string{"later", "mid", "low"},
			reason: "displaces later (priority 3), mid (priority 2) and low (priority 1) on a",
		},
		{
			name:     "a small one is reprieved after a large one is not",
			nodes:    three[:1],
			standing: []standing{{"a", "large", 3, 9}, {"a", "small", 1, 1}},
			want:     "a", victims: []string{"large"},
			reason: "displaces large (priority 3) on a",
		},
		{
			name:     "equal and higher priority stay",
			nodes:    three[:2],
			standing: []standing{{"a", "a", 10, 10}, {"b", "b1", 11, 5}, {"b", "b2", 0, 1}, {"b", "b3", 12, 4}},
			reason:   "nobody can make room: 0/2 nodes: 1 insufficient cpu and memory even without those of lower priority, 1 without a replica of priority below 10",
		},
		{
			name:     "room that is there already",
			nodes:    three[:2],
			standing: []standing{{"a", "a", 1, 10}},
			reason:   "it fits on b: nobody has to make room",
		},
		{name: "no node", reason: "there is no node"},
		{
			name:     "many victims are summed up",
			nodes:    three[:1],
			standing: []standing{{"a", "1", 0, 2}, {"a", "2", 0, 2}, {"a", "3", 0, 2}, {"a", "4", 0, 2}, {"a", "5", 0, 2}},
			want:     "a", victims: []string{"2", "3", "4", "5"},
			reason: "displaces 2 (priority 0), 3 (priority 0), 4 (priority 0) and 1 more on a",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, scheduler.Policy{}, tt.nodes...)
			for _, r := range tt.standing {
				w.assign(t, w.register(t, size(r.service, r.priority, r.hundreds)), r.node, r.service)
			}
			got, ok := scheduler.Preempt(w.Cluster, w.register(t, size("urgent", 10, 8)))
			if got.Node != tt.want || ok != (tt.want != "") || got.Reason != tt.reason {
				t.Errorf("got %q %v %q\nwant %q %q", got.Node, ok, got.Reason, tt.want, tt.reason)
			}
			if diff := cmp.Diff(tt.victims, w.ids(got.Victims)); diff != "" {
				t.Errorf("victims (-want +got):\n%s", diff)
			}
		})
	}
}

func (w *world) ids(ps []scheduler.Placement) []string {
	var ids []string
	for _, p := range ps {
		r, _ := w.Replica(p)
		ids = append(ids, r.ID)
	}
	return ids
}

func TestPreemptFreesPortsAndNeighbours(t *testing.T) {
	web := size("web", 0, 1)
	web.Ports = []scheduler.HostPort{{Port: 80}}
	loner := size("loner", 0, 1)
	loner.Anti = []scheduler.ServiceTerm{{Services: []string{"urgent"}}}
	w := newWorld(t, scheduler.Policy{}, node("a", 10))
	w.assign(t, w.register(t, web), "a", "web/1")
	w.assign(t, w.register(t, loner), "a", "loner/1")
	w.assign(t, w.register(t, size("quiet", 0, 1)), "a", "quiet/1")
	urgent := size("urgent", 1, 1)
	urgent.Ports = web.Ports
	got, ok := scheduler.Preempt(w.Cluster, w.register(t, urgent))
	if want := []string{"web/1", "loner/1"}; !ok || !slices.Equal(w.ids(got.Victims), want) {
		t.Errorf("victims are %v (%s), want %v", w.ids(got.Victims), got.Reason, want)
	}
}

func TestPreemptRefusesAForeignShape(t *testing.T) {
	w, other := newWorld(t, scheduler.Policy{}, node("a", 10)), newWorld(t, scheduler.Policy{})
	got, ok := scheduler.Preempt(w.Cluster, other.register(t, size("urgent", 1, 1)))
	if ok || !strings.Contains(got.Reason, "another cluster") {
		t.Errorf("got %+v %v, want the reason", got, ok)
	}
}

// Nobody of equal or higher priority is a victim; without the victims the
// replica fits; with any single one of them back it does not; and when nothing
// is proposed, no node would take it even without all of lower priority.
func TestPreemptTakesNoMoreThanItNeeds(t *testing.T) {
	proposed := 0
	rapid.Check(t, func(t *rapid.T) {
		p := drawPolicy(t)
		w := drawWorld(t, p)
		tmpl := drawTemplate(t, "urgent")
		tmpl.Priority = rapid.IntRange(0, 4).Draw(t, "urgency")
		tmpl.Reservation = scheduler.Resources{CPU: rapid.Int64Range(1, 4).Draw(t, "size") * 1000}
		urgent := w.register(t, tmpl)
		before := w.replicas()
		got, ok := scheduler.Preempt(w.Cluster, urgent)
		if diff := cmp.Diff(before, w.replicas(), cmp.Comparer(func(a, b *scheduler.Shape) bool { return a == b })); diff != "" {
			t.Fatalf("the cluster was changed:\n%s", diff)
		}
		if !ok {
			checkNothingHelps(t, w, p, urgent)
			return
		}
		proposed++
		checkVictims(t, w, p, urgent, got)
	})
	if proposed == 0 {
		t.Error("nothing was ever proposed")
	}
}

func checkVictims(t *rapid.T, w *world, p scheduler.Policy, urgent *scheduler.Shape, got scheduler.Preemption) {
	victims := w.ids(got.Victims)
	for _, v := range got.Victims {
		if r, _ := w.Replica(v); r.Shape.Priority() >= urgent.Priority() || r.Node != got.Node {
			t.Fatalf("%s of priority %d on %s is no victim for priority %d on %s", r.ID, r.Shape.Priority(), r.Node, urgent.Priority(), got.Node)
		}
	}
	without := func(ids []string) string {
		c := w.copied(t, p)
		for _, id := range ids {
			c.Release(c.placed[id])
		}
		return c.Rejects(c.register(t, urgent.Template()), got.Node)
	}
	if why := without(victims); why != "" {
		t.Fatalf("without %v it does not fit on %s: %s", victims, got.Node, why)
	}
	for i := range victims {
		if fewer := slices.Delete(slices.Clone(victims), i, i+1); without(fewer) == "" {
			t.Fatalf("%s need not go: without %v it fits on %s", victims[i], fewer, got.Node)
		}
	}
}

// checkNothingHelps wants that the replica fits somewhere as things are, or on
// no node even without all of lower priority there.
func checkNothingHelps(t *rapid.T, w *world, p scheduler.Policy, urgent *scheduler.Shape) {
	if _, ok := w.Choose(urgent); ok {
		return
	}
	for _, n := range w.Nodes() {
		c := w.copied(t, p)
		for _, r := range c.replicas() {
			if r.Node == n.Name && r.Shape.Priority() < urgent.Priority() {
				c.Release(c.placed[r.ID])
			}
		}
		if c.Rejects(c.register(t, urgent.Template()), n.Name) == "" {
			t.Fatalf("%s would have room for it", n.Name)
		}
	}
}
