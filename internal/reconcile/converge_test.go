package reconcile

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
)

// world carries steps out on an Observed by the transition table alone.
type world struct {
	*fixture
	now  time.Time
	next int
}

// apply carries out one step; an illegal one is the planner's mistake.
func (w *world) apply(s Step) error {
	switch s.Op {
	case OpCreate:
		return w.create(s)
	case OpNetCreate:
		w.o.Networks[s.Name] = runtime.Network{ID: fmt.Sprint("net-", w.next), Name: s.Name, Labels: s.Network.Labels}
		w.next++
	case OpNetRemove:
		delete(w.o.Networks, s.Name)
	case OpVolCreate:
		w.o.Volumes[s.Name] = runtime.Volume{Name: s.Name, Labels: s.Volume.Labels}
	case OpVolRemove:
		delete(w.o.Volumes, s.Name)
	case OpPull:
		w.o.Images[s.Name] = ImageState{ID: "sha256:" + s.Name}
	default:
		return w.move(s)
	}
	return nil
}

func (w *world) create(s Step) error {
	for _, c := range w.o.Containers {
		if c.Name == s.Name {
			return fmt.Errorf("create: the name %s is taken", s.Name)
		}
	}
	w.next++
	w.o.Containers = append(w.o.Containers, runtime.Container{
		ID: fmt.Sprint("made-", w.next), Name: s.Name, Labels: s.Labels, State: runtime.Created, Created: w.now,
		ImageID: w.o.Images[s.Spec.Image].ID, Limits: s.Spec.Limits, Restart: s.Spec.Restart,
	})
	slices.SortFunc(w.o.Containers, func(a, b runtime.Container) int { return cmpString(a.Name, b.Name) })
	return nil
}

func cmpString(a, b string) int {
	if a < b {
		return -1
	}
	return 1
}

func (w *world) move(s Step) error {
	i := slices.IndexFunc(w.o.Containers, func(c runtime.Container) bool { return c.ID == s.Container })
	if i < 0 {
		return fmt.Errorf("%s: no container %s", s.Op, s.Container)
	}
	c := &w.o.Containers[i]
	switch s.Op {
	case OpRename:
		c.Name = s.NewName
		return nil
	case OpRemove:
		if s.Force {
			c.State = runtime.Exited
		}
	}
	if err := runtime.CheckTransition(c.Name, c.State, runtime.Op(s.Op)); err != nil {
		return err
	}
	was := c.State
	c.State = runtime.Transition(c.State, runtime.Op(s.Op)).To
	switch {
	case c.State == runtime.Removed:
		w.o.Containers = slices.Delete(w.o.Containers, i, i+1)
	case s.Op == OpStart || s.Op == OpRestart:
		c.Started, c.ExitCode = w.now, 0
		if w.d.Stack.Service(s.Service) != nil && Jobs(w.d.Stack)[s.Service] {
			c.State, c.Finished = runtime.Exited, w.now // a job ends at once
		}
		c.Health = runtime.HealthHealthy
	case s.Op == OpUpdate:
		c.Limits, c.Restart = s.Limits, s.Restart
	case was.Alive() && !c.State.Alive():
		c.Finished = w.now
	}
	return nil
}

// checkLive fails when two containers of one replica and revision live.
func (w *world) checkLive(t *rapid.T) {
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
		for slot := range rapid.IntRange(0, 4).Draw(t, "containers") {
			edits := []func(*runtime.Container){health(runtime.HealthHealthy)}
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
		w := &world{fixture: f, now: t0}
		w.settle(t, rapid.Bool().Draw(t, "one step a turn"))
		if f.d.Down == nil {
			w.checkWants(t)
		} else if len(f.o.Containers)+len(f.o.Networks) > 0 {
			t.Fatalf("left after down: %v %v", f.o.Containers, f.o.Networks)
		}
	})
}

func (w *world) settle(t *rapid.T, oneStep bool) {
	for turn := 0; ; turn++ {
		w.now = w.now.Add(time.Second)
		w.endJobs()
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
			if err := w.apply(s); err != nil {
				t.Fatalf("illegal step %v: %v", s, err)
			}
			w.m.Begin(s)
			w.m.End(s, nil, w.now)
			w.checkLive(t)
		}
	}
}

// endJobs has the jobs that run exit with 0.
func (w *world) endJobs() {
	jobs := Jobs(w.d.Stack)
	for i := range w.o.Containers {
		c := &w.o.Containers[i]
		if id, err := runtime.ParseIdentity(c.Labels); err == nil && jobs[id.Service] && c.State == runtime.Running {
			c.State, c.Finished = runtime.Exited, w.now
		}
	}
}

// checkWants compares what is left with what was wanted. A service that waits
// for a dependency somebody stopped is left as it was.
func (w *world) checkWants(t *rapid.T) {
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
		for _, c := range w.o.Containers {
			id, _ := runtime.ParseIdentity(c.Labels)
			if id.Service != s.Name {
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
		for slot, n := range slots {
			if want != WantStopped && n > 1 {
				t.Fatalf("%s/%d has %d containers", s.Name, slot, n)
			}
		}
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
