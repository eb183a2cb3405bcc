package reconcile

import (
	"testing"
	"time"

	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
)

// A bad canary is taken back by an undo, or by declaring what was before: at once,
// and without its share of the connections turning over.
func TestCanaryTakenBack(t *testing.T) {
	s := svc("web", 4)
	s.Publish = stack.PublishBalanced
	s.Spec.Ports = []runtime.Port{{Target: 80, Published: "8080", Protocol: "tcp"}}
	s.Rollout = stack.Rollout{Canary: &stack.Canary{Steps: []stack.Share{{IsShare: true, Percent: 25}}, Hold: time.Hour}}
	f := shop(s)
	for slot := 1; slot <= 4; slot++ {
		f.has("web", slot, runtime.Running)
		id := runtime.Identity{Owner: owner, Stack: "shop", Service: "web", Slot: slot, Revision: s.Revision, Publish: runtime.PublishBalanced}
		if slot == 1 {
			id.Revision = "rev-bad"
		}
		f.o.Containers[slot-1].Labels = id.Labels()
	}
	p := f.plan()
	if got := squeeze(p.String()); got != "create web/1 shop-web-1-rev-web- (changed since revision rev-bad)" {
		t.Errorf("plan:\n%s", got)
	}
	if r := p.Rollouts["web"]; !r.Straight {
		t.Error("the way back has canary steps")
	}
	for _, b := range p.Routes["web"].Backends {
		if b.Weight != 0 {
			t.Errorf("%s has a share of %d %%", b.Name, b.Weight)
		}
	}
	f.d.Services["web"] = ServiceState{Want: WantRunning, Undone: true, Base: &Base{Service: s}}
	for i := range f.o.Containers {
		f.o.Containers[i].Labels[runtime.LabelRevision] = "rev-bad"
	}
	if r := f.plan().Rollouts["web"]; !r.Straight {
		t.Error("an undo has canary steps")
	}
	f.d.Services["web"] = ServiceState{Want: WantRunning, Base: &Base{Service: s}}
	if r := f.plan().Rollouts["web"]; r.Straight {
		t.Error("what is new has no canary steps")
	}
}

// A canary that is no longer declared, which is no change of the revision, does not
// hold its rollout.
func TestCanaryDropped(t *testing.T) {
	s := svc("web", 2)
	s.Update.Parallelism, s.Rollout = 1, stack.Rollout{Deadline: time.Minute}
	f := shop(s).has("web", 1, runtime.Running, revision("rev-old")).has("web", 2, runtime.Running, revision("rev-old"))
	r := f.plan().Rollouts["web"]
	r.Reached = t0
	f.m.Rollouts = map[string]Rollout{"web": r}
	p := f.plan()
	if got := squeeze(p.String()); got != "create web/1 shop-web-1-rev-web- (changed since revision rev-old)\nhold web/2 shop-web-2 (waits for its turn: 1 at a time)" {
		t.Errorf("plan:\n%s", got)
	}
	if r := p.Rollouts["web"]; !r.Reached.IsZero() {
		t.Error("the canary's step is still there")
	}
}
