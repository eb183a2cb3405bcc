package reconcile

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
)

// prepared gives a service two pre_start steps: one for all, one per replica.
func prepared(s stack.Service) stack.Service {
	s.PreStart = []stack.Init{
		{Spec: runtime.Spec{Image: s.Spec.Image, Command: []string{"migrate"}}},
		{Spec: runtime.Spec{Image: s.Spec.Image, Command: []string{"warm"}}, PerReplica: true},
	}
	return s
}

// step adds the container of a pre_start step.
func (f *fixture) step(service, name string, state runtime.State, edits ...func(*runtime.Container)) *fixture {
	f.has(service, 1, state, append([]func(*runtime.Container){func(c *runtime.Container) {
		c.Name, c.ID = name, "id-"+name
		c.Labels[runtime.LabelInit], c.Labels[runtime.LabelOneOff] = "1", "true"
	}}, edits...)...)
	return f
}

func TestPreStart(t *testing.T) {
	cases := []struct {
		name string
		f    *fixture
		want string
	}{
		{
			"the first step runs once, others wait for it",
			shop(prepared(svc("web", 2))).has("web", 1, runtime.Created).has("web", 2, runtime.Created),
			`create web/1 shop-web-init-1 (pre_start step 1)
				hold web/2 shop-web-2 (waits for pre_start step 1, which web/1 runs)`,
		},
		{
			"is started", shop(prepared(svc("web", 1))).has("web", 1, runtime.Created).step("web", "shop-web-init-1", runtime.Created),
			`start web/1 shop-web-init-1 (pre_start step 1)`,
		},
		{
			"is waited for", shop(prepared(svc("web", 1))).has("web", 1, runtime.Created).step("web", "shop-web-init-1", runtime.Running),
			`hold web/1 shop-web-1 (waits for shop-web-init-1 to complete)`,
		},
		{
			"goes when it is done", shop(prepared(svc("web", 1))).has("web", 1, runtime.Created).step("web", "shop-web-init-1", runtime.Exited),
			`remove web/1 shop-web-init-1 (pre_start step 1 is done)`,
		},
		{
			"and the next one follows, for each replica",
			func() *fixture {
				f := shop(prepared(svc("web", 2))).has("web", 1, runtime.Created).has("web", 2, runtime.Created)
				f.m.Prepared = map[string]bool{"web@rev-web-1#1": true}
				return f
			}(),
			`create web/1 shop-web-1-init-2 (pre_start step 2)
				create web/2 shop-web-2-init-2 (pre_start step 2)`,
		},
		{
			"then the service starts",
			func() *fixture {
				f := shop(prepared(svc("web", 1))).has("web", 1, runtime.Created)
				f.m.Prepared = map[string]bool{"web@rev-web-1#1": true, "id-shop-web-1#2": true}
				return f
			}(),
			`start web/1 shop-web-1 (created, not started)`,
		},
		{
			"what fails holds the service, and is tried again later",
			shop(prepared(svc("web", 1))).has("web", 1, runtime.Created).step("web", "shop-web-init-1", runtime.Exited, exit(3, 2*time.Second)),
			`hold web/1 shop-web-1 (pre_start step 1 failed: exited (3))`,
		},
		{
			"from the beginning",
			shop(prepared(svc("web", 1))).has("web", 1, runtime.Created).step("web", "shop-web-init-1", runtime.Exited, exit(3, time.Minute)),
			`remove web/1 shop-web-init-1 (pre_start step 1 failed: exited (3); tried again)`,
		},
		{
			"a restart is not prepared again",
			shop(prepared(svc("web", 1))).has("web", 1, runtime.Running), "",
		},
		{
			"what is left over goes",
			shop(prepared(svc("web", 1))).has("web", 1, runtime.Running).step("web", "shop-web-init-1", runtime.Running),
			`remove container/shop-web-init-1 shop-web-init-1 (a pre_start step that nobody waits for)`,
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(lines(c.want), squeeze(c.f.plan().String())); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// The whole of it on paper, and on the way down nothing is left.
func TestPreStartToTheEnd(t *testing.T) {
	f := shop(prepared(svc("web", 1)))
	got := f.predicted()
	for _, want := range []string{"start web/1 shop-web-init-1 ", "remove web/1 shop-web-init-1 ", "start web/1 shop-web-1-init-2 ", "start web/1 shop-web-1 "} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	f = shop(prepared(svc("web", 1))).step("web", "shop-web-init-1", runtime.Running)
	f.d.Down = &Down{}
	if got := f.predicted(); !strings.Contains(got, "remove container/shop-web-init-1 ") {
		t.Errorf("a step's container stays behind:\n%s", got)
	}
}

// A step's foreign image is pulled, whatever the service's own comes from.
func TestAStepsOwnImageIsPulled(t *testing.T) {
	web := svc("web", 1)
	web.Build = &runtime.Build{}
	web.PreStart = []stack.Init{{Spec: runtime.Spec{Image: "tools:1"}}}
	f := shop(web).has("web", 1, runtime.Created)
	if p := f.plan(); len(p.Steps) != 1 || p.Steps[0].Op != OpPull || p.Steps[0].Name != "tools:1" {
		t.Errorf("plan:\n%s", p)
	}
}

// While a step's container is being made for one replica, another does not take over.
func TestOneReplicaRunsTheStepForAll(t *testing.T) {
	f := shop(prepared(svc("web", 2))).has("web", 1, runtime.Created).has("web", 2, runtime.Created)
	f.m.Begin(f.plan().Steps[0])
	want := lines(`hold web/1 shop-web-init-1 (create in progress)
		hold web/2 shop-web-2 (waits for pre_start step 1, which web/1 runs)`)
	if diff := cmp.Diff(want, squeeze(f.plan().String())); diff != "" {
		t.Error(diff)
	}
}
