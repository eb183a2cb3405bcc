package reconcile

import (
	"fmt"

	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
)

// Readiness is how far one wanted replica has come.
type Readiness struct {
	Key       Key
	Service   string
	Slot      int
	Container *runtime.Container // nil: none yet
	Ready     bool
	Probed    bool // by Berth's own probes
	// Serves: Container does, be it the wanted one or one that is to be replaced.
	Serves bool
	// Failed says why it will not become ready by itself; empty while it may.
	Failed string
	// Why says what its probes have to say; empty: nothing.
	Why string
	// Beside are the other containers of the replica, which it is rid of in time.
	Beside []Standing
}

// Standing is how one container of a replica stands.
type Standing struct {
	Container *runtime.Container
	Serves    bool
	Why       string // what its probes have to say
}

// ReadinessOf tells, for every wanted replica in order, whether it is ready: it
// runs, its hooks have run, its probes pass, and where there is no readiness
// probe so does the engine's healthcheck, if there is one. A job is ready once it
// has ended with 0.
func ReadinessOf(d *Desired, o *Observed, m *Memory) []Readiness {
	if d.Stack == nil || d.Down != nil {
		return nil
	}
	v := newView(d, o, m, m.EngineUp)
	var all []Readiness
	for _, svc := range v.order {
		if v.want(svc.Name) != WantRunning {
			continue
		}
		for _, slot := range v.slotsOf(svc) {
			all = append(all, v.readinessOf(svc, slot))
		}
	}
	return all
}

func (v *view) readinessOf(svc *stack.Service, slot int) Readiness {
	r := Readiness{Key: ReplicaKey(svc.Name, slot), Service: svc.Name, Slot: slot, Probed: !svc.Probes.Empty()}
	shown, olds := v.split(svc, v.replicas[svc.Name][slot])
	switch {
	case shown != nil:
		r.Ready, r.Failed = v.readiness(svc, shown)
	case len(olds) > 0:
		shown, olds = olds[0], olds[1:] // not what is wanted
	default:
		return r
	}
	if r.Failed != "" {
		r.Failed = quoted(r.Failed, v.o.LastLines[shown.ID])
	}
	r.Container, r.Serves, r.Why = shown.Container, v.serves(svc, shown), v.whyUnready(svc, shown)
	for _, c := range olds {
		r.Beside = append(r.Beside, Standing{Container: c.Container, Serves: v.serves(svc, c), Why: v.whyUnready(svc, c)})
	}
	return r
}

// readiness tells of one container whether it is ready and why it has failed.
func (v *view) readiness(svc *stack.Service, c *member) (ready bool, failed string) {
	job := v.jobs[svc.Name]
	checked := svc.Probes.Readiness == nil // by the engine
	switch {
	case c.State == runtime.Running && checked && c.Health == runtime.HealthUnhealthy:
		return false, "is unhealthy"
	case c.State == runtime.Running:
		healthy := !checked || c.Health == runtime.HealthNone || c.Health == runtime.HealthHealthy
		return !job && healthy && v.probesPass(svc, c) && v.hooksRun(svc, c), ""
	case c.State == runtime.Exited && job && c.ExitCode == 0:
		return true, ""
	case c.State == runtime.Exited && v.willReturn(svc, c):
		return false, ""
	case c.State == runtime.Exited || c.State == runtime.Dead:
		return false, v.exitReason(c)
	default:
		return false, ""
	}
}

// probesPass reports whether a running container's own probes let it serve.
func (v *view) probesPass(svc *stack.Service, c *member) bool {
	if svc.Probes.Empty() {
		return true
	}
	st, known := v.status(c)
	return known && st.Ready(svc.Probes)
}

// willReturn reports whether Berth itself starts an exited container again.
func (v *view) willReturn(svc *stack.Service, c *member) bool {
	e := v.ended(ReplicaKey(svc.Name, c.id.Slot), c)
	return e != nil && e.Then != ThenStay
}

// whyUnready is what a container's probes have to say.
func (v *view) whyUnready(svc *stack.Service, c *member) string {
	if c.State != runtime.Running {
		return ""
	}
	if st, known := v.status(c); known && st.Why(svc.Probes) != "" {
		return st.Why(svc.Probes)
	}
	if n := v.o.OOMs[c.ID]; n > 0 {
		return fmt.Sprintf("a process in it was killed for want of memory (%d)%s", n, v.oomAdvice(c))
	}
	return ""
}

// Jobs are the services that are meant to end: deploy.mode says so, or others
// wait for them to complete.
func Jobs(s *stack.Stack) map[string]bool {
	jobs := map[string]bool{}
	for i := range s.Services {
		if s.Services[i].Mode.Job() {
			jobs[s.Services[i].Name] = true
		}
		for _, dep := range s.Services[i].DependsOn {
			if dep.Condition == stack.Completed {
				jobs[dep.Service] = true
			}
		}
	}
	return jobs
}
