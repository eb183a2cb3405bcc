package reconcile

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/berth-dev/berth/health"
	"github.com/berth-dev/berth/runtime"
)

// predictedTurns bounds a prediction; a plan that has not settled by then is
// shown as far as it came.
const predictedTurns = 1000

// Predict plays plans out on paper until nothing more is to be done, and
// returns all their steps in order, with the holds of the last one. It assumes
// that every step succeeds, that what starts becomes healthy, that jobs end with
// success, and that the boundaries of nodes are made. It is pure: what it is given is not changed.
func Predict(d *Desired, o *Observed, m *Memory, now time.Time) *Plan {
	w := newWorld(d, o, m)
	all := &Plan{}
	for range predictedTurns {
		p := Decide(&w.d, &w.o, &w.m, now)
		all.Stack, all.Holds, all.Orphans, all.Gone = p.Stack, p.Holds, p.Orphans, p.Gone
		if len(all.Warnings) == 0 {
			all.Warnings = p.Warnings
		}
		if all.Wake.IsZero() {
			all.Wake = p.Wake
		}
		w.m.Rollouts = p.Rollouts
		if p.Empty() && !w.heal() && !w.endJobs(now) {
			if !p.Next.After(now) {
				break
			}
			now = p.Next
		}
		for _, s := range p.Steps {
			if err := w.apply(s, now); err != nil {
				all.Holds = append(all.Holds, Hold{Kind: HoldFailing, Key: s.Key, Name: s.Name, Reason: err.Error()})
				return all
			}
			all.Steps = append(all.Steps, s)
		}
		w.d.Forget(p)
		now = now.Add(time.Millisecond)
	}
	return all
}

// world carries steps out on a copy of what was observed, by the transition
// table alone.
type world struct {
	d    Desired
	o    Observed
	m    Memory
	made int
}

func newWorld(d *Desired, o *Observed, m *Memory) *world {
	w := &world{d: *d, o: *o, m: Memory{EngineDown: m.EngineDown, EngineUp: m.EngineUp, Restarts: m.Restarts, Updated: maps.Clone(m.Updated), Made: maps.Clone(m.Made)}}
	w.m.Rollouts, w.o.Backends = m.Rollouts, nil
	w.o.Relays, w.o.Carried = nil, nil
	w.m.Healed, w.m.Prepared = maps.Clone(m.Healed), maps.Clone(m.Prepared)
	w.m.Backoff, w.m.Ended, w.m.Acted, w.m.Hooked = maps.Clone(m.Backoff), maps.Clone(m.Ended), maps.Clone(m.Acted), maps.Clone(m.Hooked)
	w.o.Probes = copyMap(o.Probes)
	w.d.Requests, w.d.OneOffs = slices.Clone(d.Requests), slices.Clone(d.OneOffs)
	w.o.Containers = slices.Clone(o.Containers)
	w.o.Cluster = o.Cluster.withoutPending()
	w.o.Networks, w.o.Volumes, w.o.Images = copyMap(o.Networks), copyMap(o.Volumes), copyMap(o.Images)
	return w
}

func copyMap[V any](m map[string]V) map[string]V {
	c := make(map[string]V, len(m))
	maps.Copy(c, m)
	return c
}

// apply carries out one step; an illegal one is an error.
func (w *world) apply(s Step, now time.Time) error {
	switch s.Op {
	case OpCreate:
		return w.create(s, now)
	case OpNetCreate:
		w.o.Networks[s.Name] = runtime.Network{ID: w.newID(), Name: s.Name, Labels: s.Network.Labels}
	case OpNetRemove:
		delete(w.o.Networks, s.Name)
	case OpVolCreate:
		w.o.Volumes[s.Name] = runtime.Volume{Name: s.Name, Labels: s.Volume.Labels}
	case OpVolRemove:
		delete(w.o.Volumes, s.Name)
	case OpPull, OpBuild:
		w.o.Images[s.Name] = ImageState{ID: "sha256:" + s.Name}
	case OpHook, OpExec, OpNotify:
		w.m.End(s, nil, now)
	default:
		return w.move(s, now)
	}
	return nil
}

func (w *world) newID() string {
	w.made++
	return fmt.Sprint("predicted-", w.made)
}

func (w *world) create(s Step, now time.Time) error {
	if slices.ContainsFunc(w.o.Containers, func(c runtime.Container) bool { return c.Name == s.Name }) {
		return fmt.Errorf("create %s: the name is taken", s.Name)
	}
	w.o.Containers = append(w.o.Containers, runtime.Container{
		ID: w.newID(), Name: s.Name, Labels: s.Labels, State: runtime.Created, Created: now,
		ImageID: w.o.Images[s.Spec.Image].ID, Limits: s.Spec.Limits, Restart: s.Spec.Restart, NetworkMode: s.Spec.NetworkMode,
	})
	slices.SortFunc(w.o.Containers, func(a, b runtime.Container) int { return strings.Compare(a.Name, b.Name) })
	res := Result{Container: fmt.Sprint("predicted-", w.made)}
	w.m.Create(res)
	w.d.Done(s, res)
	return nil
}

// move carries out an operation of the lifecycle.
func (w *world) move(s Step, now time.Time) error {
	i := slices.IndexFunc(w.o.Containers, func(c runtime.Container) bool { return c.ID == s.Container })
	if i < 0 {
		return fmt.Errorf("%s %s: no such container", s.Op, s.Name)
	}
	c := &w.o.Containers[i]
	if s.Op == OpRename {
		c.Name = s.NewName
		return nil
	}
	if s.Op == OpRemove && s.Force {
		c.State = runtime.Exited
	}
	if err := runtime.CheckTransition(c.Name, c.State, runtime.Op(s.Op)); err != nil {
		return err
	}
	if s.Ends != nil || s.Prepares != "" {
		w.m.Begin(s)
		delete(w.m.InFlight, s.Key)
	}
	was := c.State
	c.State = runtime.Transition(c.State, runtime.Op(s.Op)).To
	switch {
	case c.State == runtime.Removed:
		w.o.Containers = slices.Delete(w.o.Containers, i, i+1)
	case s.Op == OpStart || s.Op == OpRestart:
		c.Started, c.ExitCode, c.Health = now, 0, runtime.HealthHealthy
	case s.Op == OpUpdate:
		c.Limits, c.Restart = s.Limits, s.Restart
	case was.Alive() && !c.State.Alive():
		c.Finished = now
	}
	w.d.Done(s, Result{Container: s.Container})
	return nil
}

// heal has every container that is being checked pass, and reports whether any did.
func (w *world) heal() bool {
	healed := w.passProbes()
	for i := range w.o.Containers {
		if c := &w.o.Containers[i]; c.State == runtime.Running && c.Health == runtime.HealthStarting {
			c.Health, healed = runtime.HealthHealthy, true
		}
	}
	return healed
}

// passProbes has every probe of a running container pass, and reports whether
// any had not.
func (w *world) passProbes() bool {
	passed := false
	for i := range w.o.Containers {
		c := &w.o.Containers[i]
		id, err := runtime.ParseIdentity(c.Labels)
		if err != nil || c.State != runtime.Running || w.d.Stack == nil || id.OneOff {
			continue
		}
		svc := w.d.Stack.Service(id.Service)
		if svc == nil || svc.Probes.Empty() {
			continue
		}
		if st, known := w.o.Probes[c.ID]; known && st.Started.Equal(c.Started) && st.Ready(svc.Probes) {
			continue
		}
		good := health.Track{State: health.Success, Since: c.Started}
		w.o.Probes[c.ID] = health.Status{Phase: health.Running, Started: c.Started, Startup: good, Readiness: good, Liveness: good}
		passed = true
	}
	return passed
}

// endJobs has every job that runs end with success, and reports whether any did.
func (w *world) endJobs(now time.Time) bool {
	ended := false
	jobs := map[string]bool{}
	if w.d.Stack != nil {
		jobs = Jobs(w.d.Stack)
	}
	for i := range w.o.Containers {
		c := &w.o.Containers[i]
		id, err := runtime.ParseIdentity(c.Labels)
		if err == nil && (jobs[id.Service] && c.Labels[runtime.LabelRelay] == "" || c.Labels[runtime.LabelInit] != "") && c.State == runtime.Running {
			c.State, c.ExitCode, c.Finished, ended = runtime.Exited, 0, now, true
		}
	}
	return ended
}
