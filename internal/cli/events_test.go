package cli

import (
	"testing"
	"time"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/reconcile"
)

func TestWhatTheDaemonDecidesIsAnEvent(t *testing.T) {
	at := time.Date(2026, 1, 2, 10, 0, 0, 0, time.UTC)
	cases := map[string]struct {
		e    api.Event
		want string
	}{
		"a probe that fails": {
			api.Event{Type: api.EventProbe, Probe: &api.Probed{Key: "web/1", Service: "web", Container: "shop-web-1", Why: "readiness probe failed"}},
			"2026-01-02 10:00:00.000000 berth unready web/1 (name=shop-web-1, why=readiness probe failed)",
		},
		"a probe that passes": {
			api.Event{Type: api.EventProbe, Probe: &api.Probed{Key: "web/1", Service: "web", Container: "shop-web-1", Ready: true}},
			"2026-01-02 10:00:00.000000 berth ready web/1 (name=shop-web-1)",
		},
		"a step that is done": {
			api.Event{Type: api.EventStep, Phase: "done", Step: &reconcile.Step{Op: reconcile.OpCreate, Key: "web/1", Name: "shop-web-1", Node: "edge-1", Cause: "no container"}},
			"2026-01-02 10:00:00.000000 berth create done web/1 (cause=no container, name=shop-web-1, node=edge-1)",
		},
		"a step that failed": {
			api.Event{Type: api.EventStep, Phase: "failed", Err: "no space", Step: &reconcile.Step{Op: reconcile.OpStart, Key: "web/1", Name: "shop-web-1", Cause: "x"}},
			"2026-01-02 10:00:00.000000 berth start failed web/1 (cause=x, error=no space, name=shop-web-1)",
		},
		"a reason to wait": {
			api.Event{Type: api.EventHold, Hold: &reconcile.Hold{Key: "web/2", Name: "shop-web-2", Reason: "0/1 node"}},
			"2026-01-02 10:00:00.000000 berth hold web/2 (name=shop-web-2, reason=0/1 node)",
		},
		"a step that begins is none": {api.Event{Type: api.EventStep, Phase: "begin", Step: &reconcile.Step{}}, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			action, id, service, attributes := daemonEventOf(&c.e)
			got := ""
			if action != "" {
				var err error
				if got, err = daemonEventText(at, action, id, service, attributes, false); err != nil {
					t.Fatal(err)
				}
			}
			if got != c.want {
				t.Errorf("%q, not %q", got, c.want)
			}
		})
	}
}
