package reconcile

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
)

// trial is a world in which time passes.
type trial struct {
	*world
	now time.Time
}

// checkLive fails when two containers of one replica and revision live.
func (w *trial) checkLive(t *rapid.T) {
	live := map[string]string{}
	for _, c := range w.o.Containers {
		id, err := runtime.ParseIdentity(c.Labels)
		if err != nil || !c.State.Alive() {
			continue
		}
		key := fmt.Sprint(id.Service, "/", id.Slot, "@", id.Revision)
		if other, ok := live[key]; ok {
			t.Fatalf("%s and %s live at once for %s", other, c.Name, key)
		}
		live[key] = c.Name
	}
}

func drawStack(t *rapid.T) *fixture {
	n := rapid.IntRange(1, 5).Draw(t, "services")
	conditions := []stack.Condition{stack.Started, stack.Healthy, stack.Completed}
	var services []stack.Service
	var jobs []bool
	for i := range n {
		s := svc(fmt.Sprint("s", i), rapid.IntRange(0, 3).Draw(t, "replicas"))
		if rapid.IntRange(0, 2).Draw(t, "discovery") == 0 {
			s = discovered(s.Name, s.Replicas)
		}
		for j := range i {
			if rapid.Bool().Draw(t, "depends") {
				c := rapid.SampledFrom(conditions).Draw(t, "condition")
				if jobs[j] {
					c = stack.Completed
				}
				s.DependsOn = append(s.DependsOn, dep(services[j].Name, c))
			}
		}
		services = append(services, s)
		jobs = append(jobs, false)
	}
	// A service someone waits to complete is a job for all its dependants.
	for i := range services {
		for _, d := range services[i].DependsOn {
			if d.Condition == stack.Completed {
				for k := range services {
					for l := range services[k].DependsOn {
						if services[k].DependsOn[l].Service == d.Service {
							services[k].DependsOn[l].Condition = stack.Completed
						}
					}
				}
			}
		}
	}
	return shop(services...)
}

func drawContainers(t *rapid.T, f *fixture) {
	states := []runtime.State{runtime.Created, runtime.Running, runtime.Paused, runtime.Exited, runtime.Dead}
	for i := range f.d.Stack.Services {
		s := &f.d.Stack.Services[i]
		if rapid.IntRange(0, 3).Draw(t, "relay") == 0 {
			f.relayOf(s, rapid.SampledFrom(states).Draw(t, "state"))
		}
		if rapid.IntRange(0, 3).Draw(t, "old relay") == 0 {
			f.relayOf(s, rapid.SampledFrom(states).Draw(t, "state"), named("-old"), revision("rev-relay"))
		}
		for slot := range rapid.IntRange(0, 4).Draw(t, "containers") {
			edits := []func(*runtime.Container){checked(runtime.HealthHealthy)}
			if rapid.Bool().Draw(t, "old") {
				edits = append(edits, revision("rev-old"))
			}
			f.has(s.Name, slot+1, rapid.SampledFrom(states).Draw(t, "state"), edits...)
		}
	}
}

// TestPlansConverge: from any containers, to any wish, by legal steps only,
// without two live containers of one replica, to a plan that does nothing more.
func TestPlansConverge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := drawStack(t)
		drawContainers(t, f)
		wants := []Want{WantRunning, WantRunning, WantStopped, WantPaused, WantCreated, WantAbsent}
		for _, s := range f.d.Stack.Services {
			f.want(s.Name, rapid.SampledFrom(wants).Draw(t, "want"))
		}
		if rapid.Bool().Draw(t, "no network") {
			clear(f.o.Networks)
		}
		if rapid.IntRange(0, 9).Draw(t, "down") == 0 {
			f.d.Down = &Down{}
		}
		w := &trial{world: newWorld(&f.d, &f.o, &f.m), now: t0}
		w.settle(t, rapid.Bool().Draw(t, "one step a turn"))
		if f.d.Down == nil {
			w.checkWants(t)
		} else if len(w.o.Containers)+len(w.o.Networks) > 0 {
			t.Fatalf("left after down: %v %v", w.o.Containers, w.o.Networks)
		}
	})
}

func (w *trial) settle(t *rapid.T, oneStep bool) {
	for turn := 0; ; turn++ {
		w.now = w.now.Add(time.Second)
		w.endJobs(w.now)
		p := Decide(&w.d, &w.o, &w.m, w.now)
		if p.Empty() {
			if !p.Settled() && w.d.Down == nil {
				t.Fatalf("stuck:\n%s", p)
			}
			return
		}
		if turn > 200 {
			t.Fatalf("does not converge; last plan:\n%s", p)
		}
		for i, s := range p.Steps {
			if oneStep && i > 0 {
				break
			}
			if err := w.apply(s, w.now); err != nil {
				t.Fatalf("illegal step %v: %v", s, err)
			}
			w.m.Begin(s)
			w.m.End(s, nil, w.now)
			w.checkLive(t)
		}
	}
}

// checkWants compares what is left with what was wanted. A service that waits
// for a dependency somebody stopped is left as it was.
func (w *trial) checkWants(t *rapid.T) {
	held := map[string]bool{}
	for _, h := range Decide(&w.d, &w.o, &w.m, w.now).Holds {
		held[h.Service] = held[h.Service] || h.Kind == HoldFailing
	}
	for i := range w.d.Stack.Services {
		s := &w.d.Stack.Services[i]
		want := w.d.Services[s.Name].Want
		if held[s.Name] {
			continue
		}
		slots := map[int]int{}
		var relays []runtime.Container
		for _, c := range w.o.Containers {
			id, _ := runtime.ParseIdentity(c.Labels)
			if id.Service != s.Name {
				continue
			}
			if c.Labels[runtime.LabelRelay] != "" {
				relays = append(relays, c)
				continue
			}
			slots[id.Slot]++
			if want == WantStopped && c.State.Alive() || want == WantAbsent {
				t.Fatalf("%s is %s, wanted %s", c.Name, c.State, want)
			}
			if want == WantRunning && c.State == runtime.Paused {
				t.Fatalf("%s is paused, wanted running", c.Name)
			}
			if (want == WantRunning || want == WantCreated) && id.Revision != s.Revision {
				t.Fatalf("%s is still of revision %s", c.Name, id.Revision)
			}
		}
		if (want == WantRunning || want == WantCreated) && len(slots) != s.Replicas {
			t.Fatalf("%s has slots %v, wanted %d", s.Name, slots, s.Replicas)
		}
		checkRelays(t, s, want, relays)
		for slot, n := range slots {
			if want != WantStopped && n > 1 {
				t.Fatalf("%s/%d has %d containers", s.Name, slot, n)
			}
		}
	}
}

// checkRelays compares the relays of a service with what was wanted.
func checkRelays(t *rapid.T, s *stack.Service, want Want, relays []runtime.Container) {
	switch {
	case s.Discovery != stack.DiscoverReady || want == WantAbsent:
		if len(relays) > 0 {
			t.Fatalf("%s is left, wanted none", relays[0].Name)
		}
	case want == WantStopped:
		for _, c := range relays {
			if c.State.Alive() {
				t.Fatalf("%s is %s, wanted stopped", c.Name, c.State)
			}
		}
	case len(relays) != 1 || want != WantCreated && relays[0].State != runtime.Running:
		t.Fatalf("the relays of %s are %v, wanted %s", s.Name, relays, want)
	}
}

// BenchmarkDecide plans a stack of 1,000 running replicas.
func BenchmarkDecide(b *testing.B) {
	var services []stack.Service
	for i := range 20 {
		services = append(services, svc(fmt.Sprintf("s%02d", i), 50))
	}
	f := shop(services...)
	for _, s := range services {
		for slot := range 50 {
			f.has(s.Name, slot+1, runtime.Running)
		}
	}
	for b.Loop() {
		if p := f.plan(); !p.Empty() {
			b.Fatal(p)
		}
	}
}

func TestPredictPlaysAnUpOut(t *testing.T) {
	f := shop(svc("db", 1), svc("job", 1, dep("db", stack.Healthy)), svc("web", 2, dep("job", stack.Completed)))
	clear(f.o.Networks)
	delete(f.o.Images, "web:1")
	want := squeeze(`create network network/shop_default shop_default (no network)
		pull image/web:1 web:1 (image missing)
		create db/1 shop-db-1 (no container)
		create job/1 shop-job-1 (no container)
		create web/1 shop-web-1 (no container)
		create web/2 shop-web-2 (no container)
		start db/1 shop-db-1 (created, not started)
		start job/1 shop-job-1 (created, not started)
		start web/1 shop-web-1 (created, not started)
		start web/2 shop-web-2 (created, not started)
		hold job/1 shop-job-1 (exited (0); the job is done)`)
	got := Predict(&f.d, &f.o, &f.m, t0)
	if diff := cmp.Diff(want, squeeze(got.String())); diff != "" {
		t.Errorf("prediction (-want +got):\n%s", diff)
	}
	if len(f.o.Networks) != 0 || len(f.o.Containers) != 0 {
		t.Error("the prediction changed what was observed")
	}
}
