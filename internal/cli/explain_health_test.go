package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/health"
	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/runtime"
)

func TestExplainTellsOfProbes(t *testing.T) {
	at := time.Date(2026, 1, 2, 10, 0, 0, 0, time.Local)
	e := &api.Explanation{
		Probes: &health.Status{
			Readiness: health.Track{State: health.Failure, Since: at, Results: []health.Result{
				{Outcome: health.Success, Took: time.Millisecond},
				{Outcome: health.Failure, Took: 2 * time.Millisecond, Output: "503 Service Unavailable"},
			}},
			Liveness: health.Track{State: health.Success, Since: at, Held: "most probes of this machine fail"},
		},
		Routes: map[health.Role]health.Route{
			health.Readiness: {Way: health.ByAddress, Address: "172.18.0.2:8080", Reason: "its address on shop_default"},
			health.Liveness:  {Reason: "it has no network"},
		},
		Restarts: 2, Backoff: health.Backoff{Restarts: 2, Last: at},
	}
	want := [][2]string{
		{"readiness", "fails since 10:00:00; last: ok 1ms, failed (503 Service Unavailable) 2ms; asked by address at 172.18.0.2:8080 (its address on shop_default)"},
		{"liveness", "passes since 10:00:00; not acted on: most probes of this machine fail; no way to it: it has no network"},
		{"restarts", "2 by Berth, the last at 10:00:00; if it ends again soon, the next waits 20s"},
	}
	if diff := cmp.Diff(want, healthOf(e)); diff != "" {
		t.Error(diff)
	}
	if got := healthOf(&api.Explanation{}); got != nil {
		t.Errorf("of a replica without probes: %v", got)
	}
}

func TestPsShowsWhatTheDaemonKnows(t *testing.T) {
	rows := []psRow{{Name: "shop-web-1", Node: "local"}, {Name: "shop-db-1", Node: "local"}}
	known := &api.Status{Replicas: []api.Replica{
		{Container: containerWithID("a"), Probed: true, Reason: "readiness probe failed 3 times in a row: " + strings.Repeat("x", 100), Restarts: 2},
		{Container: containerWithID("b")},
	}}
	rows[0].tell(known, "a", true)
	rows[1].tell(known, "b", true)
	rows[1].tell(nil, "b", true)
	var out bytes.Buffer
	if err := psListing(rows).print(&out, "table", rows); err != nil {
		t.Fatal(err)
	}
	title, _, _ := strings.Cut(out.String(), "\n")
	if got := strings.Join(strings.Fields(title), " "); got != "NAME IMAGE COMMAND SERVICE CREATED STATUS READY RESTARTS PORTS REASON" {
		t.Errorf("columns: %s", got)
	}
	if !strings.Contains(out.String(), "readiness probe failed 3 times in a row: xx") || strings.Contains(out.String(), strings.Repeat("x", 60)) {
		t.Errorf("the reason is missing or not cut:\n%s", out.String())
	}
}

func containerWithID(id string) runtime.Container { return runtime.Container{ID: id} }
