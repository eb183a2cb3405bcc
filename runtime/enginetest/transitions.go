package enginetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/berth-dev/berth/runtime"
)

// runTransitions checks every cell of the transition table. The operations that
// leave a state as it is, because they are refused or have nothing to change,
// share one container; each of those that lead elsewhere has its own.
func runTransitions(t *testing.T, h Harness) {
	t.Helper()
	still := map[runtime.State][]runtime.Op{}
	for cell, outcome := range runtime.Transitions() {
		switch {
		case h.Stage == nil && (cell.From == runtime.Removing || cell.From == runtime.Dead):
			if h.NotStaged[cell.From] == "" {
				t.Errorf("state %s can neither be staged nor is it said why", cell.From)
			}
		case !outcome.OK() || (outcome.To == cell.From && cell.Op != runtime.OpRestart):
			still[cell.From] = append(still[cell.From], cell.Op)
		default:
			t.Run(fmt.Sprintf("Transition/%s/%s", cell.From, cell.Op), func(t *testing.T) {
				h.run(t, func(x *fixture) { x.moves(cell.From, cell.Op, outcome.To) })
			})
		}
	}
	for _, from := range runtime.States() {
		if ops := still[from]; len(ops) > 0 {
			t.Run(fmt.Sprintf("Transition/%s/stays", from), func(t *testing.T) {
				h.run(t, func(x *fixture) { x.stays(from, ops) })
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
// restart to be at least 400 ms away when the last run has just ended.
const manyRestarts = 3

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

// moves checks an operation that leads to another state, or to another process.
func (x *fixture) moves(from runtime.State, op runtime.Op, to runtime.State) {
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
	if from == runtime.Restarting && op == runtime.OpRestart { // it counts anew, and the process ends at once as before
		x.eventually(id, "started anew", func(c runtime.Container) bool {
			return c.Started.After(before.Started) && c.RestartCount < before.RestartCount
		})
		return
	}
	c := x.becomes(id, to)
	switch {
	case op == runtime.OpUnpause:
		equal(x, "process", c.PID, before.PID)
	case op == runtime.OpRestart && from == runtime.Running && c.PID == before.PID:
		x.Fatalf("the process %d was not replaced", c.PID)
	case from == runtime.Restarting && c.ExitCode != 3 && (op != runtime.OpKill || c.ExitCode != 137):
		x.Fatalf("exit code %d", c.ExitCode)
	case op == runtime.OpKill && from != runtime.Restarting:
		equal(x, "exit code", c.ExitCode, 137)
	}
}

// stays checks operations that leave the state as it is, one after the other.
func (x *fixture) stays(from runtime.State, ops []runtime.Op) {
	x.Helper()
	id, name := x.stage(from)
	for _, op := range ops {
		before, _ := x.e.Inspect(x.Context(), id) // zero when it is gone
		_, err := x.do(op, id, name)
		for tries := 0; err == nil && from == runtime.Restarting && op == runtime.OpPause && tries < 20; tries++ {
			x.ok(x.e.Unpause(x.Context(), id)) // it was just running: once more
			x.restarting(id)
			_, err = x.do(op, id, name)
		}
		if got, want := runtime.KindOf(err), runtime.Transition(from, op).Kind; got != want {
			x.Fatalf("%s a container in state %s: error %v of kind %q, want kind %q", op, from, err, got, want)
		}
		if err != nil {
			x.refused(err, runtime.KindOf(err))
		}
		x.unchanged(id, from, op, before)
	}
}

// unchanged checks that a container is still in its state, with its process.
func (x *fixture) unchanged(id string, from runtime.State, op runtime.Op, before runtime.Container) {
	x.Helper()
	if from == runtime.Removed {
		_, err := x.e.Inspect(x.Context(), id)
		x.refused(err, runtime.KindNotFound)
		return
	}
	c := x.inspect(id)
	if runtime.Transition(from, op).OK() && op == runtime.OpUpdate {
		equal(x, "memory limit", c.Limits.Memory, int64(64<<20))
		equal(x, "restart policy", c.Restart.Name, "always")
	}
	if from == runtime.Restarting { // the policy goes on where it was
		x.eventually(id, "restarting again", func(c runtime.Container) bool {
			return c.State == from && c.RestartCount >= max(before.RestartCount, manyRestarts)
		})
		return
	}
	if c.State != from || c.PID != before.PID || !c.Started.Equal(before.Started) {
		x.Fatalf("%s moved the container from %s with PID %d to %s with PID %d", op, from, before.PID, c.State, c.PID)
	}
}
