package reconcile

import (
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
	// Failed says why it will not become ready by itself; empty while it may.
	Failed string
}

// ReadinessOf tells, for every wanted replica in order, whether it is ready: it
// runs, and the engine's healthcheck, where there is one, passes; a job that
// others wait to complete is ready once it has ended with 0.
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
			cur, olds := v.split(svc, v.replicas[svc.Name][slot])
			r := Readiness{Key: ReplicaKey(svc.Name, slot), Service: svc.Name, Slot: slot}
			if cur == nil && len(olds) > 0 {
				r.Container = olds[0].Container // shown, but not what is wanted
			}
			if cur != nil {
				r.Container = cur.Container
				r.Ready, r.Failed = readiness(cur.Container, v.jobs[svc.Name])
			}
			all = append(all, r)
		}
	}
	return all
}

// readiness tells of one container whether it is ready and why it has failed.
func readiness(c *runtime.Container, job bool) (ready bool, failed string) {
	m := &member{Container: c}
	switch {
	case c.State == runtime.Running && c.Health == runtime.HealthUnhealthy:
		return false, "is unhealthy"
	case c.State == runtime.Running:
		return !job && (c.Health == runtime.HealthNone || c.Health == runtime.HealthHealthy), ""
	case c.State == runtime.Exited && job && c.ExitCode == 0:
		return true, ""
	case c.State == runtime.Exited || c.State == runtime.Dead:
		return false, exitReason(m)
	default:
		return false, ""
	}
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
