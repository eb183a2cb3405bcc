package enginetest

import (
	"testing"
	"time"

	"github.com/berth-dev/berth/runtime"
)

// runTransitions checks every cell of the transition table. The operations that
// a state refuses share one container, as they must not change it; each of
// those it allows has its own.
func runTransitions(t *testing.T, h Harness) {
	t.Helper()
	refused := map[runtime.State][]runtime.Op{}
	for cell, outcome := range runtime.Transitions() {
		switch {
		case h.Stage == nil && (cell.From == runtime.Removing || cell.From == runtime.Dead):
			if h.NotStaged[cell.From] == "" {
				t.Errorf("state %s can neither be staged nor is it said why", cell.From)
			}
		case !outcome.OK():
			refused[cell.From] = append(refused[cell.From], cell.Op)
		default:
			t.Run(string(cell.From)+"/"+string(cell.Op), func(t *testing.T) {
				h.run(t, func(x *fixture) { x.allowed(cell.From, cell.Op, outcome.To) })
			})
		}
	}
	for _, from := range runtime.States() {
		if ops := refused[from]; len(ops) > 0 {
			t.Run(string(from)+"/refusals", func(t *testing.T) {
				h.run(t, func(x *fixture) { x.refuses(from, ops) })
			})
		}
	}
	for s, why := range h.NotStaged {
		t.Logf("state %s is not staged on this engine: %s", s, why)
	}
}

// stage makes a container in that state and returns its ID and name.
func (x *fixture) stage(s runtime.State) (id, name string) {
	x.Helper()
	spec := x.spec("sleep")
	switch s {
	case runtime.Created, runtime.Removed, runtime.Removing, runtime.Dead:
		id = x.create(spec)
	case runtime.Exited:
		id = x.start(spec)
		x.ok(x.e.Kill(x.Context(), id, ""))
		x.becomes(id, runtime.Exited)
	case runtime.Running:
		id = x.start(spec)
	case runtime.Paused:
		id = x.start(spec)
		x.ok(x.e.Pause(x.Context(), id))
	case runtime.Restarting:
		spec = x.spec("exit", "3")
		spec.Restart.Name = "always"
		id = x.start(spec)
		x.restarting(id)
	}
	c := x.inspect(id)
	if s == runtime.Removed {
		x.ok(x.e.Remove(x.Context(), id, true, false))
		return id, c.Name
	}
	if s == runtime.Removing || s == runtime.Dead {
		x.h.Stage(x.T, x.e, id, s)
		c = x.inspect(id)
	}
	if s != runtime.Restarting { // which does not last
		equal(x, "staged state", c.State, s)
	}
	return id, c.Name
}

// manyRestarts is how often a container must have been restarted for its next
// restart to be at least 800 ms away when the last run has just ended.
const manyRestarts = 4

// restarting waits until the container is between two runs of its policy. A
// slow machine may see it run again before the next call is made: the checks
// that follow allow for that.
func (x *fixture) restarting(id string) {
	x.Helper()
	x.eventually(id, "restarting for a while", func(c runtime.Container) bool {
		return c.State == runtime.Restarting && c.RestartCount >= manyRestarts
	})
}

// do carries out an operation as plainly as it can be.
func (x *fixture) do(op runtime.Op, id, name string) (newID string, err error) {
	ctx := x.Context()
	switch op {
	case runtime.OpCreate:
		return x.e.Create(ctx, name, x.labels(), x.spec("sleep"), nil)
	case runtime.OpStart:
		return id, x.e.Start(ctx, id)
	case runtime.OpStop:
		return id, x.e.Stop(ctx, id, "", 10*time.Second)
	case runtime.OpKill:
		return id, x.e.Kill(ctx, id, "")
	case runtime.OpRestart:
		return id, x.e.Restart(ctx, id, "", 10*time.Second)
	case runtime.OpPause:
		return id, x.e.Pause(ctx, id)
	case runtime.OpUnpause:
		return id, x.e.Unpause(ctx, id)
	case runtime.OpUpdate:
		return id, x.e.Update(ctx, id, runtime.Limits{Memory: 64 << 20}, runtime.RestartPolicy{Name: "always"})
	case runtime.OpRemove:
		return id, x.e.Remove(ctx, id, true, false)
	}
	x.Fatalf("unknown operation %q", op)
	return "", nil
}

func (x *fixture) allowed(from runtime.State, op runtime.Op, to runtime.State) {
	x.Helper()
	id, name := x.stage(from)
	before, _ := x.e.Inspect(x.Context(), id) // zero when it is gone
	id, err := x.do(op, id, name)
	x.ok(err)
	if to == runtime.Removed {
		_, err := x.e.Inspect(x.Context(), id)
		x.refused(err, runtime.KindNotFound)
		return
	}
	if from == runtime.Restarting { // goes on by itself: the present state may be the next one already
		x.afterRestarting(id, op, to, before)
		return
	}
	c := x.eventually(id, string(to), func(c runtime.Container) bool { return c.State == to })
	switch op {
	case runtime.OpUpdate:
		equal(x, "memory limit", c.Limits.Memory, int64(64<<20))
		equal(x, "restart policy", c.Restart.Name, "always")
	case runtime.OpStart, runtime.OpUnpause:
		if from != runtime.Created && from != runtime.Exited {
			equal(x, "process", c.PID, before.PID)
		}
	case runtime.OpRestart:
		if from == runtime.Running && c.PID == before.PID {
			x.Fatalf("the process %d was not replaced", c.PID)
		}
	case runtime.OpKill:
		equal(x, "exit code", c.ExitCode, 137)
	case runtime.OpCreate, runtime.OpStop, runtime.OpPause, runtime.OpRemove: // the state says it all
	}
}

func (x *fixture) afterRestarting(id string, op runtime.Op, to runtime.State, before runtime.Container) {
	x.Helper()
	switch op {
	case runtime.OpRestart: // counts anew; the process ends at once, as before
		x.eventually(id, "started anew", func(c runtime.Container) bool {
			return c.Started.After(before.Started) && c.RestartCount < before.RestartCount
		})
	case runtime.OpStart, runtime.OpUpdate: // the policy goes on where it was
		x.eventually(id, string(to)+" again", func(c runtime.Container) bool {
			return c.State == to && c.RestartCount > before.RestartCount
		})
	default:
		c := x.becomes(id, to)
		if c.ExitCode != 3 && (op != runtime.OpKill || c.ExitCode != 137) {
			x.Fatalf("exit code %d", c.ExitCode)
		}
	}
}

func (x *fixture) refuses(from runtime.State, ops []runtime.Op) {
	x.Helper()
	id, name := x.stage(from)
	for _, op := range ops {
		_, err := x.do(op, id, name)
		for tries := 0; err == nil && from == runtime.Restarting && op == runtime.OpPause && tries < 20; tries++ {
			x.ok(x.e.Unpause(x.Context(), id)) // it was just running: once more
			x.restarting(id)
			_, err = x.do(op, id, name)
		}
		if err == nil {
			x.Fatalf("%s a container in state %s: no error", op, from)
		}
		x.refused(err, runtime.Transition(from, op).Kind)
		if from == runtime.Removed || from == runtime.Restarting {
			continue
		}
		if c := x.inspect(id); c.State != from {
			x.Fatalf("a refused %s moved the container from %s to %s", op, from, c.State)
		}
	}
}
