package daemon

import (
	"slices"
	"testing"
	"time"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/reconcile"
	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
)

// page is a stack of a page in a version, and of a worker beside it.
func page(version string) *stack.Stack {
	return &stack.Stack{Name: "shop", Services: []stack.Service{
		{Name: "web", Replicas: 1, Revision: "web-" + version, Spec: runtime.Spec{Image: "app", Command: []string{version}}},
		{Name: "worker", Replicas: 1, Revision: "worker-1", Spec: runtime.Spec{Image: "app"}},
	}}
}

// declared is a loop whose stack was declared in each of the versions.
func declared(services map[string]reconcile.ServiceState, versions ...string) *loop {
	l := &loop{name: "shop"}
	for _, v := range versions {
		l.record.Desired = &reconcile.Desired{Stack: page(v), Services: services}
		l.record.declare(l.record.Desired, time.Unix(1, 0), "")
	}
	return l
}

func running(scale *int) reconcile.ServiceState {
	return reconcile.ServiceState{Want: reconcile.WantRunning, Scale: scale}
}

// An undo after an automatic roll-back goes past the revision that failed, which
// would fail again.
func TestUndoSkipsWhatFailed(t *testing.T) {
	l := declared(map[string]reconcile.ServiceState{"web": running(nil), "worker": running(nil)}, "1", "2", "bad")
	l.record.Desired = &reconcile.Desired{Stack: page("2"), Services: l.record.Desired.Services}
	l.record.declare(l.record.Desired, time.Unix(2, 0), rollBackCause+"web: exited (1)")
	up, cause, err := l.undoRequest(&api.UndoRequest{})
	if err != nil || cause != "undo to 1" || up.Stack.Service("web").Revision != "web-1" {
		t.Errorf("%q, %v; want an undo to 1", cause, err)
	}
	if _, cause, err = l.undoRequest(&api.UndoRequest{To: 3}); err != nil || cause != "undo to 3" {
		t.Errorf("%q, %v; want an undo to 3, since it was asked for", cause, err)
	}
}

// An undo of a whole stack leaves alone what nobody wants, and how many replicas
// there are.
func TestUndoTakesWhatRuns(t *testing.T) {
	five := 5
	l := declared(map[string]reconcile.ServiceState{"web": running(&five)}, "1", "2")
	up, _, err := l.undoRequest(&api.UndoRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(up.Services, []string{"web"}) || !up.NoDeps || up.Scale["web"] != 5 {
		t.Errorf("services %v, without their dependencies %t, scaled to %v", up.Services, up.NoDeps, up.Scale)
	}
	if _, _, err = l.undoRequest(&api.UndoRequest{Services: []string{"nosuch"}}); err == nil || err.Error() != "undo nosuch: no such service in stack shop" {
		t.Errorf("undo of a service that is not there: %v", err)
	}
}

// A scale in the middle of an update, which declares the file once more with
// --no-recreate, does not end the update; an up without it ends the keeping.
func TestScaleDoesNotEndAnUpdate(t *testing.T) {
	before := &reconcile.Desired{Stack: page("2"), Services: map[string]reconcile.ServiceState{"web": running(nil), "worker": running(nil)}}
	for _, c := range []struct {
		name             string
		kept, noRecreate bool
		version          string
		wantKept         bool
	}{
		{name: "unchanged", noRecreate: true, version: "2"},
		{name: "changed", noRecreate: true, version: "3", wantKept: true},
		{name: "kept before", kept: true, noRecreate: true, version: "2", wantKept: true},
		{name: "up after it", kept: true, version: "2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			st := before.Services["web"]
			st.KeepRevision = c.kept
			before.Services["web"] = st
			req := &api.UpRequest{Stack: page(c.version), NoRecreate: c.noRecreate}
			if got := newDeclaring(before, req, &reconcile.Observed{}, "", "").desired().Services["web"].KeepRevision; got != c.wantKept {
				t.Errorf("changed containers are kept: %t, want %t", got, c.wantKept)
			}
		})
	}
}

// Whether a service with a fixed host port can be scaled depends on who holds it.
func TestScaleWithAFixedPort(t *testing.T) {
	for _, c := range []struct {
		name    string
		publish stack.Publish
		reach   reconcile.Reach
		wrong   bool
	}{
		{name: "the balancer takes it"},
		{name: "direct", publish: stack.PublishDirect, wrong: true},
		{name: "engine on another machine", reach: reconcile.ReachRemote, wrong: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			st := page("1")
			st.Services[0].Publish = c.publish
			st.Services[0].Spec.Ports = []runtime.Port{{Target: 80, Published: "8080", Protocol: "tcp"}}
			before := &reconcile.Desired{Stack: st, Services: map[string]reconcile.ServiceState{"web": running(nil)}}
			next, err := act(before, &reconcile.Observed{Reach: c.reach}, &api.ActionRequest{Op: "scale", Scale: map[string]int{"web": 3}})
			if (err != nil) != c.wrong {
				t.Fatalf("error %v, want one: %t", err, c.wrong)
			}
			if err == nil && next.Replicas(&st.Services[0]) != 3 {
				t.Errorf("%d replicas are wanted, want 3", next.Replicas(&st.Services[0]))
			}
		})
	}
}
