package reconcile

import (
	"strings"
	"testing"

	"github.com/berth-dev/berth/health"
	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
)

// frozenAs gives a container what its probes said before it was paused.
func (f *fixture) frozenAs(service string, slot int, readiness health.Outcome) *fixture {
	f.found(service, slot, readiness, health.Success)
	id := "id-" + runtime.ContainerName("shop", service, slot)
	st := f.o.Probes[id]
	st.Phase = health.Frozen
	f.o.Probes[id] = st
	return f
}

// unpauses has the step in flight that unpauses a replica.
func (f *fixture) unpauses(service string, slot int) *fixture {
	key, name := ReplicaKey(service, slot), runtime.ContainerName("shop", service, slot)
	f.m.InFlight = map[Key]Step{key: {Op: OpUnpause, Key: key, Service: service, Slot: slot, Name: name, Container: "id-" + name}}
	return f
}

// A paused replica takes connections from when it is being unpaused, if it will be
// ready then and nobody else serves.
func TestWhoIsWokenTakesConnections(t *testing.T) {
	balanced := func(c *runtime.Container) { c.Labels[runtime.LabelPublish] = runtime.PublishBalanced }
	web := func(replicas int, edits ...func(*stack.Service)) *fixture {
		s := svc("web", replicas)
		s.Publish = stack.PublishBalanced
		s.Spec.Ports = []runtime.Port{{Target: 80, Published: "8080", Protocol: "tcp"}}
		for _, edit := range edits {
			edit(&s)
		}
		return shop(s)
	}
	ready := func(s *stack.Service) { *s = probed(*s, health.Action{}) }
	paused := func(f *fixture) *fixture { return f.has("web", 1, runtime.Paused, balanced) }
	cases := []struct {
		name string
		f    *fixture
		want string // the containers that take connections
	}{
		{"it is unpaused in this turn", paused(web(1)), "shop-web-1"},
		{"the step is under way", paused(web(1)).unpauses("web", 1), "shop-web-1"},
		{"it is to stay paused", paused(web(1)).want("web", WantPaused), ""},
		{"it was ready", paused(web(1, ready)).frozenAs("web", 1, health.Success), "shop-web-1"},
		{"it was not ready", paused(web(1, ready)).frozenAs("web", 1, health.Failure), ""},
		{"nobody knows whether it was", paused(web(1, ready)), ""},
		{"the engine called it unhealthy", web(1).has("web", 1, runtime.Paused, balanced, checked(runtime.HealthUnhealthy)), ""},
		{"another one serves", paused(web(2)).has("web", 2, runtime.Running, balanced), "shop-web-2"},
		{"all are woken", paused(web(2)).has("web", 2, runtime.Paused, balanced), "shop-web-1 shop-web-2"},
		{"it was frozen by a probe", paused(web(1)).endedBy("web", 1, ThenStay), ""},
		{"it is to be replaced", web(1).has("web", 1, runtime.Paused, balanced, revision("rev-old")), ""},
		{"it is restarted as well", paused(web(1)).edited(func(f *fixture) {
			f.d.Requests = []Request{{Op: runtime.OpRestart, Container: "id-shop-web-1", Started: f.o.Containers[0].Started}}
		}), ""},
		{"another step is under way", paused(web(1)).unpauses("web", 1).edited(func(f *fixture) {
			s := f.m.InFlight["web/1"]
			s.Op = OpStop
			f.m.InFlight["web/1"] = s
		}), ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := c.f.plan()
			var names []string
			for _, b := range p.Routes["web"].Backends {
				names = append(names, b.Name)
			}
			if got := strings.Join(names, " "); got != c.want {
				t.Errorf("connections go to %q, want %q; the plan is\n%s", got, c.want, p)
			}
		})
	}
}

// A service of several replicas that is scaled down by hand, to none too, is still
// listened for, and so is one that has been scaled up as long as it has a container.
func TestScalingStopsNoListening(t *testing.T) {
	balanced := func(c *runtime.Container) { c.Labels[runtime.LabelPublish] = runtime.PublishBalanced }
	for _, c := range []struct {
		name             string
		declared, scaled int
		has              bool // a container whose port the balancer holds
		want             bool
	}{
		{"to none of three", 3, 0, false, true},
		{"to one of three", 3, 1, false, true},
		{"to three of one", 1, 3, false, true},
		{"back to one", 1, 1, true, true},
		{"never more than one", 1, 1, false, false},
		{"to none of one", 1, 0, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := svc("web", c.declared)
			s.Spec.Ports = []runtime.Port{{Target: 80, Published: "8080", Protocol: "tcp"}}
			f := shop(s)
			if c.has {
				f.has("web", 1, runtime.Running, balanced)
			}
			f.d.Services["web"] = ServiceState{Want: WantRunning, Scale: &c.scaled}
			p := f.plan()
			if _, listens := p.Routes["web"]; listens != c.want {
				t.Errorf("listened for: %t, want %t; plan:\n%s", listens, c.want, p)
			}
		})
	}
}
