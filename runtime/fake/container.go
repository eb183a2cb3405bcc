package fake

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/berth-dev/berth/runtime"
)

// container is a container of the engine. All of it needs the engine's mutex.
type container struct {
	runtime.Container // what is reported

	spec   *runtime.Spec
	image  *image
	root   *tree
	trees  []mountedTree
	wants  []runtime.Attachment // networks to join at start
	bound  []portKey
	proc   *Process // the main process; nil: none
	work   Workload
	execs  []*Process
	starts int

	blocked bool          // stopped through the API: the restart policy holds still
	backoff time.Duration // of the restart policy
	timer   *time.Timer   // of the next restart by the policy
	thawed  chan struct{} // closed when a paused container goes on; nil: not paused

	exited        chan struct{} // closed at the next exit
	gone          chan struct{} // closed when it is removed
	loseExit      bool
	stuckRemovals int
	stuck         bool // a removal has been tried

	stdin  *pipe
	output output
	check  *healthMonitor
}

func (c *container) cancelRestart() {
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
}

func (c *container) stopSignal() string {
	s, ok := signalName(cmp.Or(c.StopSignal, "TERM"))
	if !ok {
		return "TERM"
	}
	return s
}

// shortID is how many digits of an ID are enough.
const shortID = 12

// lookup finds a container by ID, name, or the beginning of an ID.
func (e *Engine) lookup(id string) *container {
	if c := e.containers[id]; c != nil {
		return c
	}
	if c := e.names[strings.TrimPrefix(id, "/")]; c != nil {
		return c
	}
	if len(id) < shortID {
		return nil
	}
	for full, c := range e.containers {
		if strings.HasPrefix(full, id) {
			return c
		}
	}
	return nil
}

func (e *Engine) get(op, id string) (*container, error) {
	if c := e.lookup(id); c != nil {
		return c, nil
	}
	return nil, fail(runtime.KindNotFound, op, id, "no such container")
}

// admit finds a container and asks the transition table whether op is legal.
func (e *Engine) admit(op runtime.Op, id string) (*container, error) {
	c, err := e.get(string(op), id)
	if err != nil {
		return nil, err
	}
	return c, runtime.CheckTransition(c.Name, c.State, op)
}

func (e *Engine) sortedContainers() []*container {
	return slices.SortedFunc(maps.Values(e.containers), func(a, b *container) int { return cmp.Compare(a.Name, b.Name) })
}

// Start starts a container; one that runs already is left alone.
func (e *Engine) Start(ctx context.Context, id string) error {
	return e.call(ctx, "start", id, func(_ context.Context, call *Call) error {
		e.mu.Lock()
		defer e.mu.Unlock()
		c, err := e.admit(runtime.OpStart, id)
		if err != nil || c.State.Alive() {
			return err
		}
		call.Changed = true
		return e.startLocked(c)
	})
}

// startLocked is a start asked for through the API: the restart policy begins anew.
func (e *Engine) startLocked(c *container) error {
	c.cancelRestart()
	c.blocked, c.backoff, c.RestartCount = false, 0, 0
	return e.launchLocked(c)
}

// launchLocked runs the main process. A failure leaves the state as it was and
// its reason in the record.
func (e *Engine) launchLocked(c *container) error {
	if c.State == runtime.Restarting {
		c.State = runtime.Exited
	}
	work := e.workload(c)
	if why := work.startError(c.Command); why != "" {
		c.Error, c.ExitCode = why, 127
		return fail(runtime.KindInvalid, "start", c.Name, "%s", why)
	}
	err := e.joinLocked(c)
	if err == nil {
		err = e.bindLocked(c)
	}
	if err != nil {
		e.leaveLocked(c)
		c.Error, c.ExitCode = reason(err), 128
		return err
	}
	p := e.newProcess(c)
	p.Args, p.Env, p.Dir, p.User = c.Command, c.environment(), c.workingDir(), cmp.Or(c.spec.User, c.image.User)
	c.work, c.proc, c.starts = work, p, c.starts+1
	started := e.nowLocked()
	if started.Equal(c.Started) || started.Equal(c.Finished) { // in virtual time nothing else takes any
		started = started.Add(1)
	}
	c.State, c.Started, c.PID, c.Error, c.ExitCode, c.OOMKilled = runtime.Running, started, p.pid, "", 0, false
	e.connectStreams(c, p)
	e.spawnLocked(func() { e.supervise(c, p, work.main()) })
	e.containerEvent(c, "start")
	e.startChecks(c)
	e.noteOverlaps(c)
	return nil
}

func reason(err error) string {
	_, after, ok := strings.Cut(err.Error(), ": ")
	if !ok {
		return err.Error()
	}
	return after
}

// workload is what is scripted for the container.
func (e *Engine) workload(c *container) Workload {
	id, _ := runtime.ParseIdentity(c.Labels) // without an identity name and image count
	for _, key := range []string{c.Name, id.Stack + "/" + id.Service, id.Service, c.Image} {
		if w, ok := e.scripts[key]; ok {
			return w.nth(c.starts)
		}
	}
	return c.image.Workload.nth(c.starts)
}

// supervise runs the main process to its end.
func (e *Engine) supervise(c *container, p *Process, program Program) {
	code := p.run(program)
	e.mu.Lock()
	defer e.mu.Unlock()
	close(p.done)
	for _, x := range c.execs {
		x.kill()
	}
	p.forced = code
	if !c.loseExit {
		e.finishLocked(c, p)
	}
}

// finishLocked is the engine noticing that the main process has ended.
func (e *Engine) finishLocked(c *container, p *Process) {
	if c.proc != p {
		return
	}
	c.proc, c.PID, c.ExitCode, c.Finished = nil, 0, p.forced, e.nowLocked()
	if c.Finished.Equal(c.Started.Add(-1)) {
		c.Finished = c.Started
	}
	c.State = runtime.Exited
	if c.thawed != nil {
		close(c.thawed)
		c.thawed = nil
	}
	e.stopChecks(c)
	e.leaveLocked(c)
	c.output.finish(e.nowLocked())
	if c.stdin != nil {
		_ = c.stdin.Close() // closing a pipe never fails
		c.stdin = nil       // the next run has its own
	}
	close(c.exited)
	c.exited = make(chan struct{})
	e.containerEvent(c, "die", "exitCode", fmt.Sprint(c.ExitCode))
	e.scheduleRestart(c)
}

// The engine's restart policy, as Docker Engine carries it out.
const (
	firstDelay  = 100 * time.Millisecond
	longestWait = time.Minute
	stableAfter = 10 * time.Second
)

func (e *Engine) scheduleRestart(c *container) {
	again := c.Restart.Name == "always" || c.Restart.Name == "unless-stopped" ||
		(c.Restart.Name == "on-failure" && c.ExitCode != 0 && (c.Restart.MaxRetries == 0 || c.RestartCount < c.Restart.MaxRetries))
	if !again || c.blocked || e.down || e.ended {
		return
	}
	if c.Finished.Sub(c.Started) >= stableAfter {
		c.backoff = 0
	}
	c.backoff = min(max(firstDelay, 2*c.backoff), longestWait)
	c.RestartCount++
	c.State = runtime.Restarting
	var timer *time.Timer
	timer = time.AfterFunc(c.backoff, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		if c.timer == timer && !e.ended && !e.down {
			c.timer = nil
			if e.launchLocked(c) != nil {
				e.containerEvent(c, "die", "exitCode", fmt.Sprint(c.ExitCode))
				c.Finished = e.nowLocked()
				c.Started = c.Finished
				e.scheduleRestart(c)
			}
		}
	})
	c.timer = timer
}

// Stop sends the stop signal, waits grace and kills. The engine carries it out
// even when the caller goes away meanwhile.
func (e *Engine) Stop(ctx context.Context, id, signal string, grace time.Duration) error {
	return e.call(ctx, "stop", id, func(ctx context.Context, call *Call) error {
		e.mu.Lock()
		defer e.mu.Unlock()
		c, err := e.admit(runtime.OpStop, id)
		if err != nil || !c.State.Alive() {
			return err
		}
		call.Changed = true
		return e.awaitLocked(ctx, "stop", c, func() error { return e.stopLocked("stop", c, signal, grace) })
	})
}

// awaitLocked runs f, which needs the mutex and may let it go meanwhile, in the
// background, and waits for it without the mutex.
func (e *Engine) awaitLocked(ctx context.Context, op string, c *container, f func() error) error {
	done := make(chan error, 1)
	e.spawnLocked(func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		done <- f()
	})
	e.mu.Unlock()
	defer e.mu.Lock()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return &runtime.Error{Kind: runtime.KindUnavailable, Op: op, Object: c.Name, Err: ctx.Err()}
	case <-e.closed:
		return fail(runtime.KindUnavailable, op, c.Name, "the engine was closed")
	}
}

// stopLocked ends the main process. It lets go of the mutex while it waits.
func (e *Engine) stopLocked(op string, c *container, signal string, grace time.Duration) error {
	sig, ok := signalName(cmp.Or(signal, c.stopSignal()))
	if !ok {
		return fail(runtime.KindInvalid, op, c.Name, "unknown signal %q", signal)
	}
	c.blocked = true
	p := c.proc
	if p == nil { // between two runs of the restart policy
		c.cancelRestart()
		if c.State == runtime.Restarting {
			c.State = runtime.Exited
			e.containerEvent(c, op)
		}
		return nil
	}
	e.containerEvent(c, "kill", "signal", sig)
	p.signal(sig)
	e.thaw(c)
	e.mu.Unlock()
	if grace > 0 {
		t := time.NewTimer(grace)
		select {
		case <-p.done:
		case <-t.C:
		}
		t.Stop()
	}
	e.mu.Lock()
	if !p.isDone() {
		e.containerEvent(c, "kill", "signal", "KILL")
		p.kill()
		e.mu.Unlock()
		<-p.done
		e.mu.Lock()
	}
	e.finishLocked(c, p)
	e.containerEvent(c, "stop")
	return nil
}

func (e *Engine) thaw(c *container) {
	if c.thawed != nil {
		close(c.thawed)
		c.thawed = nil
	}
}

// Kill sends a signal. With one that ends the process it returns once the
// process has ended.
func (e *Engine) Kill(ctx context.Context, id, signal string) error {
	return e.call(ctx, "kill", id, func(ctx context.Context, call *Call) error {
		sig, ok := signalName(signal)
		e.mu.Lock()
		defer e.mu.Unlock()
		c, err := e.admit(runtime.OpKill, id)
		if err != nil {
			return err
		}
		if !ok {
			return fail(runtime.KindInvalid, "kill", c.Name, "unknown signal %q", signal)
		}
		call.Changed = true
		p := c.proc
		if p == nil {
			return e.stopLocked("kill", c, sig, 0) // between two runs of the restart policy
		}
		e.containerEvent(c, "kill", "signal", sig)
		if sig == "KILL" || sig == c.stopSignal() {
			c.blocked = true
			e.thaw(c)
		}
		p.signal(sig)
		if sig != "KILL" {
			return nil
		}
		return e.awaitLocked(ctx, "kill", c, func() error {
			e.mu.Unlock()
			<-p.done
			e.mu.Lock()
			e.finishLocked(c, p)
			return nil
		})
	})
}

// Restart stops a container that runs, and starts it.
func (e *Engine) Restart(ctx context.Context, id, signal string, grace time.Duration) error {
	return e.call(ctx, "restart", id, func(ctx context.Context, call *Call) error {
		e.mu.Lock()
		defer e.mu.Unlock()
		c, err := e.admit(runtime.OpRestart, id)
		if err != nil {
			return err
		}
		call.Changed = true
		return e.awaitLocked(ctx, "restart", c, func() error {
			if err := e.stopLocked("restart", c, signal, grace); err != nil {
				return err
			}
			if e.containers[c.ID] != c || c.State == runtime.Running {
				return nil // somebody else was faster
			}
			if err := e.startLocked(c); err != nil {
				return err
			}
			e.containerEvent(c, "restart")
			return nil
		})
	})
}

// Pause freezes a container.
func (e *Engine) Pause(ctx context.Context, id string) error {
	return e.call(ctx, "pause", id, func(_ context.Context, call *Call) error {
		e.mu.Lock()
		defer e.mu.Unlock()
		c, err := e.admit(runtime.OpPause, id)
		if err != nil {
			return err
		}
		call.Changed = true
		c.State, c.thawed = runtime.Paused, make(chan struct{})
		e.stopChecks(c)
		e.containerEvent(c, "pause")
		return nil
	})
}

// Unpause lets a frozen container go on.
func (e *Engine) Unpause(ctx context.Context, id string) error {
	return e.call(ctx, "unpause", id, func(_ context.Context, call *Call) error {
		e.mu.Lock()
		defer e.mu.Unlock()
		c, err := e.admit(runtime.OpUnpause, id)
		if err != nil {
			return err
		}
		call.Changed = true
		c.State = runtime.Running
		e.thaw(c)
		if h := c.healthcheck(); h != nil {
			e.monitor(c, h)
		}
		e.containerEvent(c, "unpause")
		return nil
	})
}

// Update changes limits and restart policy in place.
func (e *Engine) Update(ctx context.Context, id string, limits runtime.Limits, restart runtime.RestartPolicy) error {
	return e.call(ctx, "update", id, func(_ context.Context, call *Call) error {
		e.mu.Lock()
		defer e.mu.Unlock()
		c, err := e.admit(runtime.OpUpdate, id)
		if err != nil {
			return err
		}
		if err := e.checkLimits("update", c.Name, limits, restart); err != nil {
			return err
		}
		call.Changed = c.Limits != limits || c.Restart != restart
		c.Limits, c.Restart = settled(limits, restart)
		e.containerEvent(c, "update")
		return nil
	})
}

// Rename gives a container another name.
func (e *Engine) Rename(ctx context.Context, id, name string) error {
	return e.call(ctx, "rename", id, func(_ context.Context, call *Call) error {
		e.mu.Lock()
		defer e.mu.Unlock()
		c, err := e.get("rename", id)
		if err != nil {
			return err
		}
		if name == c.Name {
			return nil
		}
		if err := e.checkName("rename", name); err != nil {
			return err
		}
		old := c.Name
		delete(e.names, old)
		c.Name, e.names[name] = name, c
		call.Changed = true
		e.containerEvent(c, "rename", "oldName", "/"+old)
		return nil
	})
}

// Remove removes a container; force kills it first.
func (e *Engine) Remove(ctx context.Context, id string, volumes, force bool) error {
	return e.call(ctx, "remove", id, func(ctx context.Context, call *Call) error {
		e.mu.Lock()
		defer e.mu.Unlock()
		c, err := e.get("remove", id)
		if err != nil {
			return err
		}
		if c.stuckRemovals > 0 {
			c.stuckRemovals, c.stuck = c.stuckRemovals-1, true
			if c.proc == nil {
				c.State = runtime.Removing
			}
			return fail(runtime.KindUnavailable, "remove", c.Name, "still there: removal of the container is already in progress")
		}
		if !force && !c.stuck {
			if err := runtime.CheckTransition(c.Name, c.State, runtime.OpRemove); err != nil {
				return err
			}
		}
		call.Changed = true
		return e.awaitLocked(ctx, "remove", c, func() error {
			if c.State.Alive() {
				if err := e.stopLocked("kill", c, "KILL", 0); err != nil {
					return err
				}
			}
			e.discardLocked(c, volumes)
			return nil
		})
	})
}

// discardLocked takes a container that does not run out of the world.
func (e *Engine) discardLocked(c *container, volumes bool) {
	if e.containers[c.ID] != c {
		return
	}
	delete(e.containers, c.ID)
	delete(e.names, c.Name)
	c.State = runtime.Removed
	close(c.gone)
	e.containerEvent(c, "destroy")
	if !volumes {
		return
	}
	for _, m := range c.Mounts {
		if v := e.volumes[m.Name]; v != nil && v.anonymous && len(e.users(m.Name)) == 0 {
			delete(e.volumes, m.Name)
			e.emitLocked("volume", "destroy", m.Name, m.Name, nil)
		}
	}
}

// Prune removes the stopped containers that match. A filter without a label is
// Invalid, as it would remove what is not the caller's.
func (e *Engine) Prune(ctx context.Context, filter runtime.Filter) (ids []string, err error) {
	err = e.call(ctx, "prune", "", func(_ context.Context, call *Call) error {
		if len(filter.Labels) == 0 {
			return fail(runtime.KindInvalid, "prune", "containers", "the filter names no label")
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		for _, c := range e.sortedContainers() {
			stopped := c.State == runtime.Created || c.State == runtime.Exited || c.State == runtime.Dead
			if stopped && matches(filter, c.Labels) {
				e.discardLocked(c, false)
				ids = append(ids, c.ID)
			}
		}
		call.Changed = len(ids) > 0
		return nil
	})
	slices.Sort(ids)
	return ids, err
}

// Inspect returns all that is known of a container.
func (e *Engine) Inspect(ctx context.Context, id string) (record runtime.Container, err error) {
	err = e.call(ctx, "inspect", id, func(context.Context, *Call) error {
		e.mu.Lock()
		defer e.mu.Unlock()
		c, err := e.get("inspect", id)
		if err == nil {
			record = c.Clone()
		}
		return err
	})
	return record, err
}

// List returns the containers that match, with what a list call tells.
func (e *Engine) List(ctx context.Context, filter runtime.Filter) (records []runtime.Container, err error) {
	err = e.call(ctx, "list", "", func(context.Context, *Call) error {
		e.mu.Lock()
		defer e.mu.Unlock()
		for _, c := range e.sortedContainers() {
			if matches(filter, c.Labels) {
				r := c.shallow(e.nowLocked())
				if filter.Size {
					r.SizeRW, r.SizeRootFs = c.sizes()
				}
				records = append(records, r)
			}
		}
		return nil
	})
	return records, err
}

// sizes are the bytes the container has written and all it sees of its own file system.
func (c *container) sizes() (written, all int64) {
	for p, f := range c.root.files {
		all += int64(len(f.data))
		if c.image.root.files[p] != f {
			written += int64(len(f.data))
		}
	}
	return written, all
}

// shallow is what a list call tells of a container.
func (c *container) shallow(now time.Time) runtime.Container {
	full := c.Clone()
	r := runtime.Container{
		ID: full.ID, Name: full.Name, Labels: full.Labels, Image: full.Image, ImageID: full.ImageID, Command: full.Command,
		State: full.State, Created: full.Created.Truncate(time.Second), Ports: full.Ports, Mounts: full.Mounts,
		Networks: full.Networks, NetworkMode: full.NetworkMode, DependsOn: full.DependsOn,
	}
	// The status line mentions one or the other.
	if c.State == runtime.Running || c.State == runtime.Paused {
		r.Health = full.Health
	}
	if c.State == runtime.Exited || c.State == runtime.Restarting {
		r.ExitCode = full.ExitCode
	}
	r.Status = statusLine(&full, now)
	return r
}

// Wait returns once the main process has ended.
func (e *Engine) Wait(ctx context.Context, id string) (status runtime.ExitStatus, err error) {
	err = e.call(ctx, "wait", id, func(ctx context.Context, _ *Call) error {
		e.mu.Lock()
		c, err := e.get("wait", id)
		if err != nil {
			e.mu.Unlock()
			return err
		}
		alive, exited := c.State.Alive(), c.exited
		status = runtime.ExitStatus{Code: c.ExitCode, Error: c.Error}
		e.mu.Unlock()
		if !alive {
			return nil
		}
		select {
		case <-exited:
		case <-ctx.Done():
			return &runtime.Error{Kind: runtime.KindUnavailable, Op: "wait", Object: c.Name, Err: ctx.Err()}
		case <-e.closed:
			return fail(runtime.KindUnavailable, "wait", c.Name, "the engine was closed")
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		status = runtime.ExitStatus{Code: c.ExitCode, Error: c.Error}
		return nil
	})
	return status, err
}
