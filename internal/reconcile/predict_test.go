package reconcile

import (
	"strings"
	"testing"

	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
)

// A change behind a dependency that is still being checked is part of the
// prediction: "nothing to do" would be wrong.
func TestPredictLooksBeyondAHealthcheck(t *testing.T) {
	f := shop(svc("db", 1), svc("web", 1, dep("db", stack.Healthy))).
		has("db", 1, runtime.Running, health(runtime.HealthStarting)).
		has("web", 1, runtime.Running, revision("rev-old"))
	p := Predict(&f.d, &f.o, &f.m, t0)
	if got := squeeze(p.String()); !strings.Contains(got, "start web/1 shop-web-1-rev-web-") || strings.Contains(got, "db") {
		t.Errorf("the prediction is not web's replacement alone:\n%s", got)
	}
	if f.o.Containers[0].Health != runtime.HealthStarting {
		t.Error("what was observed was changed")
	}
}

// What was taken over goes down with the stack.
func TestDownTakesAwayWhatWasAdopted(t *testing.T) {
	f := shop(svc("web", 1))
	n := f.o.Networks["shop_default"]
	n.Labels[runtime.LabelOwner] = "owner-2"
	f.d.Down = &Down{}
	if p := f.plan(); len(p.Steps) != 0 {
		t.Errorf("a network of another installation is removed:\n%s", p)
	}
	f.d.Adopt = true
	if p := f.plan(); len(p.Steps) != 1 || p.Steps[0].Op != OpNetRemove {
		t.Errorf("an adopted network stays:\n%s", p)
	}
}
