package reconcile

import (
	"strings"
	"testing"

	"github.com/berth-dev/berth/runtime"
)

// A container that holds the host port itself is replaced once the balancer is to
// hold it, even where changed containers are kept, as scale has it: the replicas
// beside it would get no connection.
func TestPortGoesOverThoughContainersAreKept(t *testing.T) {
	s := svc("web", 1)
	s.Spec.Ports = []runtime.Port{{Target: 80, Published: "8080", Protocol: "tcp"}}
	f := shop(s).has("web", 1, runtime.Running)
	holder := &f.o.Containers[0]
	labels := runtime.Identity{
		Owner: owner, Stack: "shop", Service: "web", Slot: 1, Revision: s.Revision,
		Publish: newView(&f.d, &f.o, &f.m, t0).publishOf(&s),
	}
	holder.Labels = labels.Labels()
	if got := f.plan().String(); got != "" {
		t.Fatalf("a single replica that holds its port stays, plan:\n%s", got)
	}
	three := 3
	f.d.Services["web"] = ServiceState{Want: WantRunning, Scale: &three, KeepRevision: true}
	if got := squeeze(f.plan().String()); !strings.Contains(got, "create web/1 shop-web-1-rev-web- (its published ports go over to the balancer)") {
		t.Errorf("the holder of the port is not replaced, plan:\n%s", got)
	}
	labels.Revision, labels.Publish = "rev-older", runtime.PublishBalanced
	holder.Labels = labels.Labels()
	if got := f.plan().String(); strings.Contains(got, "web/1") {
		t.Errorf("a changed container that does not stand in the way is kept, plan:\n%s", got)
	}
}
