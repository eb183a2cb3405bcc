package reconcile

import (
	"strings"
	"testing"
	"time"

	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
)

// A change behind a dependency that is still being checked is part of the
// prediction: "nothing to do" would be wrong.
func TestPredictLooksBeyondAHealthcheck(t *testing.T) {
	f := shop(svc("db", 1), svc("web", 1, dep("db", stack.Healthy))).
		has("db", 1, runtime.Running, checked(runtime.HealthStarting)).
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

// A daemon that dies between a container's creation and the writing of its
// files leaves one that must not start without them.
func TestUnfinishedCreationIsMadeAnew(t *testing.T) {
	web := svc("web", 1)
	web.Spec.Files = []runtime.File{{Name: "secret", Target: "/run/secrets/secret"}}
	f := shop(web).has("web", 1, runtime.Created)
	if got := squeeze(f.plan().String()); got != "remove web/1 shop-web-1 (its creation was interrupted, so files or networks may be missing)" {
		t.Errorf("after a crash:\n%s", got)
	}
	f.m.Create(Result{Container: "id-shop-web-1", Adopted: true})
	if f.plan().Steps[0].Op != OpRemove {
		t.Error("a container that was only found counts as made")
	}
	f.m.Create(Result{Container: "id-shop-web-1"})
	if f.plan().Steps[0].Op != OpStart {
		t.Errorf("a creation that was seen through is not started:\n%s", f.plan())
	}
	plain := shop(svc("web", 1)).has("web", 1, runtime.Created)
	if plain.plan().Steps[0].Op != OpStart {
		t.Error("a container that lacks nothing is not adopted")
	}
}

// A failed job that its policy tries again has not failed its dependants yet.
func TestDependantsWaitForAJobsNextTry(t *testing.T) {
	job := svc("job", 1)
	job.Restart = &stack.RestartPolicy{Condition: "on-failure", Delay: 10 * time.Second, MaxAttempts: 1}
	f := shop(job, svc("web", 1, dep("job", stack.Completed))).has("job", 1, runtime.Exited, exit(1, time.Second)).has("web", 1, runtime.Created)
	hold := func() Hold {
		for _, h := range f.plan().Holds {
			if h.Service == "web" {
				return h
			}
		}
		t.Fatalf("nothing holds web:\n%s", f.plan())
		return Hold{}
	}
	if h := hold(); h.Kind != HoldWaiting || !strings.Contains(h.Reason, "tries again") {
		t.Errorf("before the last try: %s, %s", h.Kind, h.Reason)
	}
	f.m.Restarts = map[Key][]Restart{"job/1": {{At: t0.Add(-time.Minute), Revision: job.Revision}}}
	if h := hold(); h.Kind != HoldFailing {
		t.Errorf("after the last try: %s, %s", h.Kind, h.Reason)
	}
}
