package reconcile

import (
	"testing"

	"github.com/berth-dev/berth/runtime"
)

// A signal for a container of run goes to it once, and to no replica.
func TestSignalForAOneOff(t *testing.T) {
	f := shop(svc("web", 1)).has("web", 1, runtime.Running)
	f.d.OneOffs = []OneOff{{Service: "web", Number: 1, Name: "shop-web-run-x", Container: "id-run", Start: true}}
	f.o.Containers = append(f.o.Containers, runtime.Container{
		ID: "id-run", Name: "shop-web-run-x", State: runtime.Running, Started: t0,
		Labels: runtime.Identity{Owner: owner, Stack: "shop", Service: "web", Slot: 1, OneOff: true}.Labels(),
	})
	f.d.Requests = []Request{{Op: runtime.OpKill, Container: "id-run", Started: t0, Signal: "SIGINT", Cause: "killed by command"}}
	plan := Decide(&f.d, &f.o, &f.m, t0)
	if len(plan.Steps) != 1 {
		t.Fatalf("planned:\n%swant one step", plan)
	}
	s := plan.Steps[0]
	if s.Op != OpKill || s.Container != "id-run" || s.Signal != "SIGINT" || s.Key != "web/run-1" {
		t.Errorf("planned %+v", s)
	}
	if !f.d.Done(s, Result{Container: "id-run"}) || len(f.d.Requests) != 0 {
		t.Error("a signal that was sent is sent again")
	}
	if plan := Decide(&f.d, &f.o, &f.m, t0); !plan.Empty() {
		t.Errorf("planned more:\n%s", plan)
	}
}
