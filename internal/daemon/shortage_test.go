package daemon

import (
	"strings"
	"testing"
	"time"

	"github.com/berth-dev/berth/internal/reconcile"
	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/scheduler"
)

var midday = time.Date(2024, 5, 1, 12, 0, 0, 0, time.UTC)

func TestShortageOfANode(t *testing.T) {
	type look struct {
		at      time.Duration // after midday
		percent int64
		short   bool
		evicts  bool
	}
	const s, m = time.Second, time.Minute
	for _, c := range []struct {
		name  string
		looks []look
	}{
		{"it has to last", []look{{0, 95, false, false}, {9 * s, 99, false, false}, {10 * s, 95, true, true}}},
		{"a moment below begins anew", []look{{0, 96, false, false}, {8 * s, 94, false, false}, {12 * s, 96, false, false}, {20 * s, 96, false, false}, {22 * s, 96, true, true}}},
		{"it ends at less than nine tenths, not before", []look{{0, 95, false, false}, {10 * s, 95, true, true}, {20 * s, 90, true, true}, {30 * s, 89, true, false}}},
		{"replicas come back later", []look{{0, 95, false, false}, {10 * s, 95, true, true}, {20 * s, 50, true, false}, {50 * s, 50, true, false}, {5*m + 19*s, 50, true, false}, {5*m + 20*s, 50, true, false}}},
		{"a rise while it is closed", []look{{0, 95, false, false}, {10 * s, 95, true, true}, {20 * s, 50, true, false}, {30 * s, 92, true, true}}},
		{"what was before a gap does not count", []look{{0, 95, false, false}, {2 * m, 95, false, false}, {2*m + 10*s, 95, true, true}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var now shortage
			for _, l := range c.looks {
				at := midday.Add(l.at)
				now = now.next(l.percent*10, 1000, at)
				if short := !now.since.IsZero(); short != l.short || now.evicts(at) != l.evicts {
					t.Errorf("after %v at %d%%: short %v, evicts %v; want %v, %v", l.at, l.percent, short, now.evicts(at), l.short, l.evicts)
				}
			}
		})
	}
}

func TestShortageEnds(t *testing.T) {
	var now shortage
	at := midday
	look := func(used int64, after time.Duration) shortage {
		at = at.Add(after)
		now = now.next(used, 1000, at)
		return now
	}
	look(950, 0)
	if look(950, shortFor).since.IsZero() {
		t.Fatal("it is not short")
	}
	now.evicted = at
	if look(950, apart-time.Second).evicts(at) {
		t.Error("two replicas within the time between evictions")
	}
	if !look(950, time.Second).evicts(at) {
		t.Error("no second replica although the first was not enough")
	}
	look(800, time.Second)
	for end := at.Add(openAfter); at.Before(end.Add(-time.Second)); {
		if look(800, time.Second).since.IsZero() {
			t.Fatalf("open %s too early", end.Sub(at))
		}
	}
	if !look(800, time.Second).since.IsZero() {
		t.Error("it is still closed")
	}
	if got := look(950, time.Second).next(950, 0, at.Add(time.Hour)); got != (shortage{}) {
		t.Errorf("without a limit there is %+v", got)
	}
}

// runs is a replica "stack/service/slot" that uses and has reserved so many MiB.
func runs(name string, used, reserved int64, priority int, age time.Duration) candidate {
	stack, rest, _ := strings.Cut(name, "/")
	service, _, _ := strings.Cut(rest, "/")
	return candidate{used: used << 20, Resident: reconcile.Resident{
		Stack: stack, Service: service, Slot: int(name[len(name)-1] - '0'), Node: "edge-1", Started: midday.Add(-age),
		Template: &scheduler.Template{Reservation: scheduler.Resources{Memory: reserved << 20}, Priority: priority},
	}}
}

func TestWhoLeavesFirst(t *testing.T) {
	const h = time.Hour
	for _, c := range []struct {
		name string
		on   []candidate
		want string // "": nobody
	}{
		{"nobody from an empty node", nil, ""},
		{"nobody who has the node to himself", []candidate{runs("a/x/1", 250, 0, 0, h)}, ""},
		{"above the reservation before within, whatever the priority", []candidate{runs("a/x/1", 90, 100, 0, h), runs("a/y/1", 101, 100, 9, h)}, "a/y/1"},
		{"exactly the reservation is within it", []candidate{runs("a/x/1", 100, 100, 0, h), runs("a/y/1", 1, 0, 9, h)}, "a/y/1"},
		{"then the lower priority", []candidate{runs("a/x/1", 200, 10, 5, h), runs("a/y/1", 20, 10, 4, h)}, "a/y/1"},
		{"then who exceeds by more", []candidate{runs("a/x/1", 90, 80, 0, h), runs("a/y/1", 40, 20, 0, h), runs("a/z/1", 15, 0, 0, h)}, "a/y/1"},
		{"all within: the lower priority", []candidate{runs("a/x/1", 10, 100, 1, h), runs("a/y/1", 10, 100, 0, h)}, "a/y/1"},
		{"all within: who is nearest to it", []candidate{runs("a/x/1", 10, 100, 0, h), runs("a/y/1", 95, 100, 0, h)}, "a/y/1"},
		{"of equals the youngest", []candidate{runs("a/x/1", 20, 10, 0, h), runs("b/x/1", 20, 10, 0, time.Minute), runs("c/x/1", 20, 10, 0, 2*h)}, "b/x/1"},
		{"of twins the highest slot", []candidate{runs("b/x/2", 20, 10, 0, h), runs("b/x/1", 20, 10, 0, h), runs("c/a/1", 20, 10, 0, h)}, "b/x/2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for turn := range max(len(c.on), 1) {
				got := ""
				list := append(c.on[min(turn, len(c.on)):len(c.on):len(c.on)], c.on[:min(turn, len(c.on))]...)
				if v, ok := victim(list); ok {
					got = v.Stack + "/" + string(reconcile.ReplicaKey(v.Service, v.Slot))
				}
				if got != c.want {
					t.Errorf("turned by %d: %q, want %q", turn, got, c.want)
				}
			}
		})
	}
}

// What does not run there, what uses nothing and what is no replica cannot leave.
func TestCandidates(t *testing.T) {
	on := func(container string) reconcile.Resident {
		r := runs("a/x/1", 0, 0, 0, 0).Resident
		r.Container = container
		return r
	}
	p := &runtime.Pressure{Containers: []runtime.ContainerPressure{
		{ID: "here", Memory: 5}, {ID: "gone", Memory: 5, Gone: true}, {ID: "idle"}, {ID: "foreign", Memory: 5},
	}}
	list := candidates([]reconcile.Resident{on("here"), on("gone"), on("idle"), on(""), on("elsewhere")}, p)
	if len(list) != 1 || list[0].Container != "here" || list[0].used != 5 {
		t.Errorf("%+v", list)
	}
}
