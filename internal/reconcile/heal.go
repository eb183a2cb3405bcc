package reconcile

import (
	"fmt"
	"time"

	"github.com/berth-dev/berth/health"
	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
)

// After is what is to become of a container whose run Berth ended.
type After string

// What can become of it.
const (
	ThenRestart After = "restart" // started again, after the backoff
	ThenStay    After = "stay"    // left as it is until somebody starts it
	ThenAwait   After = "await"   // goes on once what it depends on is ready
	ThenWake    After = "wake"    // sleeps with its service, and is started when that wakes
	ThenYield   After = "yield"   // its successor takes over; started again where that one is not wanted any more
)

// Ended is why Berth ended, or froze, a run of a replica's container. What
// becomes of it is then Berth's to say, whatever the restart policy is. It is
// stored before the engine is asked, so that a crash in between loses nothing.
type Ended struct {
	Container string    `json:"container"` // ID
	Started   time.Time `json:"started"`   // of the run
	Why       string    `json:"why"`
	Then      After     `json:"then"`
}

// ended is why the present run of a container was ended or frozen; nil: it was not.
func (v *view) ended(key Key, c *member) *Ended {
	e, ok := v.m.Ended[key]
	if !ok || e.Container != c.ID || !e.Started.Equal(c.Started) {
		return nil
	}
	return &e
}

// status is what the probes of a container's present run have found.
func (v *view) status(c *member) (health.Status, bool) {
	st, ok := v.o.Probes[c.ID]
	return st, ok && st.Started.Equal(c.Started)
}

// verdict is what the failure of a running container's probes leads to: of its
// startup or liveness probe, or of the engine's healthcheck where x-berth.onUnhealthy
// says what then. The zero value: nothing.
func (v *view) verdict(svc *stack.Service, c *member) health.Verdict {
	if st, ok := v.status(c); ok {
		if verdict := st.Verdict(svc.Probes); verdict.Action.Do != "" {
			return verdict
		}
	}
	if do := svc.OnUnhealthy.Do; do == "" || c.State != runtime.Running || c.Health != runtime.HealthUnhealthy {
		return health.Verdict{}
	}
	why := "the healthcheck fails"
	if out := lastLine(c.HealthOutput); out != "" {
		why += ": " + out
	}
	return health.Verdict{Role: health.Liveness, Action: svc.OnUnhealthy, Since: c.Started, Reason: why}
}

// heal acts on what the probes of a running container have found. It reports
// whether that is all for this turn.
func (v *view) heal(svc *stack.Service, slot int, c *member) bool {
	verdict := v.verdict(svc, c)
	s := v.replicaStep(OpStop, svc, slot, c, verdict.Reason)
	ended := &Ended{Container: c.ID, Started: c.Started, Why: verdict.Reason}
	switch verdict.Action.Do {
	case health.Restart:
		s.Ends, ended.Then, s.Urgent = ended, ThenRestart, true
		s.Grace = v.grace(svc)
		if verdict.Grace > 0 {
			s.Grace = verdict.Grace
		}
		v.moves(svc.Name, Hold{Kind: HoldWaiting, Key: s.Key, Name: c.Name, Reason: "is being restarted: " + verdict.Reason})
	case health.Stop:
		s.Ends, ended.Then, s.Grace = ended, ThenStay, v.grace(svc)
	case health.Pause:
		s.Op, s.Ends, ended.Then = OpPause, ended, ThenStay
	case health.RunExec, health.Webhook:
		return v.act(s, verdict)
	case health.Nothing:
		v.hold(idle(s, verdict.Reason+"; onFailure: none"))
		return false
	default: // nothing failed; recreate is a drift
		return false
	}
	v.step(s)
	return true
}

func idle(s Step, reason string) Hold {
	return Hold{Kind: HoldIdle, Key: s.Key, Service: s.Service, Slot: s.Slot, Name: s.Name, Reason: reason}
}

// act carries out an action that leaves the container as it is, once for each failure.
func (v *view) act(s Step, verdict health.Verdict) bool {
	if v.m.Acted[s.Key].Equal(verdict.Since) {
		v.hold(idle(s, verdict.Reason+"; onFailure: "+string(verdict.Action.Do)+" was carried out"))
		return false
	}
	s.Op, s.Command, s.URL, s.Since = OpExec, verdict.Action.Command, "", verdict.Since
	if verdict.Action.Do == health.Webhook {
		s.Op, s.Command, s.URL = OpNotify, nil, verdict.Action.URL
	}
	return v.step(s)
}

// recreation says that a container is to be replaced since its probes fail, and
// from when on; empty: it is not.
func (v *view) recreation(svc *stack.Service, c *member) (string, time.Time) {
	verdict := v.verdict(svc, c)
	if verdict.Action.Do != health.Recreate {
		return "", time.Time{}
	}
	key := ReplicaKey(c.id.Service, c.id.Slot)
	return verdict.Reason, v.m.Backoff[key].Due(verdict.Since, v.now, 0)
}

// resume decides about a container whose run Berth ended. It reports whether it
// was one.
func (v *view) resume(svc *stack.Service, slot int, c *member) bool {
	key := ReplicaKey(svc.Name, slot)
	e := v.ended(key, c)
	if e == nil {
		return false
	}
	s := v.replicaStep(OpStart, svc, slot, c, e.Why)
	if c.State == runtime.Paused {
		s.Op = OpUnpause
	}
	switch e.Then {
	case ThenRestart:
		b := v.m.Backoff[key]
		s.Heals, s.Urgent = true, true
		s.Cause = fmt.Sprintf("%s; restart %d", e.Why, b.Restarts+1)
		h := idle(s, e.Why)
		v.moves(svc.Name, Hold{Kind: HoldWaiting, Key: key, Name: c.Name, Reason: "is being restarted: " + e.Why})
		wait := b.Wait(c.Finished, 0)
		return v.at(s, h, c.Finished.Add(wait), wait)
	case ThenAwait:
		if why := v.unready(svc, v.isReady); why != "" {
			h := idle(s, fmt.Sprintf("%s while %s", frozen(c.State), why))
			v.hold(h)
			return true
		}
		s.Cause = "what it depends on is ready again"
		v.step(s)
		return true
	case ThenWake:
		return v.start(svc, slot, c, "its service is awake again")
	case ThenYield:
		s.Cause = "its successor is not wanted any more"
		v.moves(svc.Name, Hold{Kind: HoldWaiting, Key: key, Name: c.Name, Reason: "is being started again"})
		v.step(s)
		return true
	default:
		v.hold(idle(s, fmt.Sprintf("%s: %s; start it to try again", frozen(c.State), e.Why)))
		return true
	}
}

func frozen(s runtime.State) string {
	if s == runtime.Paused {
		return "paused"
	}
	return "stopped"
}

// follow keeps a running container in step with what its service depends on: it
// rests while that is not ready, where the service says so, and restarts with it.
// It reports whether there was something to do.
func (v *view) follow(svc *stack.Service, slot int, c *member) bool {
	if svc.WhileUnready != stack.Keep {
		if why := v.unready(svc, v.notUnready); why != "" {
			s := v.replicaStep(OpPause, svc, slot, c, why)
			s.Ends = &Ended{Container: c.ID, Started: c.Started, Why: why, Then: ThenAwait}
			if svc.WhileUnready == stack.StopUnready {
				s.Op, s.Grace = OpStop, v.grace(svc)
			}
			v.step(s)
			return true
		}
	}
	for _, dep := range svc.DependsOn {
		if !dep.Restart || !v.restartedSince(dep.Service, c.Started) {
			continue
		}
		if kind, why := v.dependency(dep); why != "" {
			v.hold(Hold{Kind: kind, Key: ReplicaKey(svc.Name, slot), Service: svc.Name, Slot: slot, Name: c.Name, Reason: "restarts with " + dep.Service + "; " + why})
			return true
		}
		s := v.replicaStep(OpRestart, svc, slot, c, dep.Service+" was restarted or replaced")
		s.Grace = v.grace(svc)
		v.moves(svc.Name, Hold{Kind: HoldWaiting, Key: s.Key, Name: c.Name, Reason: "is being restarted"})
		v.step(s)
		return true
	}
	return false
}

// unready says which dependency with condition service_healthy has no replica
// that passes; empty: none.
func (v *view) unready(svc *stack.Service, passes func(*stack.Service, *member) bool) string {
	for _, dep := range svc.DependsOn {
		target := v.d.Stack.Service(dep.Service)
		if dep.Condition != stack.Healthy || target == nil || v.want(dep.Service) == WantAbsent || len(v.slotsOf(target)) == 0 {
			continue
		}
		if !v.any(target, passes) {
			return dep.Service + " is not ready"
		}
	}
	return ""
}

// any reports whether a container of the service passes.
func (v *view) any(svc *stack.Service, passes func(*stack.Service, *member) bool) bool {
	for _, cs := range v.replicas[svc.Name] {
		for _, c := range cs {
			if passes(svc, c) {
				return true
			}
		}
	}
	return false
}

// notUnready reports whether a container is ready, or nothing is known against it.
func (v *view) notUnready(svc *stack.Service, c *member) bool {
	return v.isReady(svc, c) || v.unjudged(svc, c)
}

// unjudged reports whether a running container's probes have had no result yet,
// as right after the daemon's start: nothing is known against it.
func (v *view) unjudged(svc *stack.Service, c *member) bool {
	if svc.Probes.Empty() || c.State != runtime.Running {
		return false
	}
	st, known := v.status(c)
	return !known || len(st.Startup.Results)+len(st.Readiness.Results)+len(st.Liveness.Results) == 0
}

// restartedSince reports whether every running replica of a service has been
// started after a moment: it was restarted or replaced as a whole. A replica
// that was only added leaves an older one.
func (v *view) restartedSince(service string, moment time.Time) bool {
	all := false
	for _, cs := range v.replicas[service] {
		for _, c := range cs {
			if c.State.Alive() && !c.Started.After(moment) {
				return false
			}
			all = all || c.State.Alive()
		}
	}
	return all
}

// hooked runs the hooks of a container's start, each start once. It reports
// whether they are still to be run.
func (v *view) hooked(svc *stack.Service, slot int, c *member) bool {
	if v.hooksRun(svc, c) {
		return false
	}
	s := v.replicaStep(OpHook, svc, slot, c, "post_start")
	s.Hooks, s.Since, s.Grace = svc.PostStart, c.Started, v.grace(svc)
	v.moves(svc.Name, Hold{Kind: HoldWaiting, Key: s.Key, Name: c.Name, Reason: "its post_start hooks run"})
	if !v.step(s) {
		v.moves(svc.Name, v.plan.Holds[len(v.plan.Holds)-1])
	}
	return true
}

// hooksRun reports whether the hooks of a container's present start were run.
func (v *view) hooksRun(svc *stack.Service, c *member) bool {
	return len(svc.PostStart) == 0 || v.m.Hooked[c.ID].Equal(c.Started)
}
