package docker

import (
	"context"
	"math"
	"regexp"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"

	"github.com/berth-dev/berth/runtime"
)

// Start starts a container; one that runs already is left as it is. A port that
// is taken is a Conflict, a command that cannot be run Invalid.
func (e *Engine) Start(ctx context.Context, id string) error {
	call, cancel := e.change(ctx)
	defer cancel()
	err := e.api().ContainerStart(call, id, container.StartOptions{})
	return e.fail("start", id, err)
}

// Stop stops a container and returns once it has ended; one that does not run
// is left as it is. Grace is rounded up to whole seconds.
func (e *Engine) Stop(ctx context.Context, id, signal string, grace time.Duration) error {
	seconds := wholeSeconds(grace)
	call, cancel := context.WithTimeout(ctx, time.Duration(seconds)*time.Second+e.timeouts.Margin)
	defer cancel()
	if signal != "" && !e.api().atLeast("1.42") {
		return e.stopWith(call, id, signal, seconds)
	}
	return e.fail("stop", id, e.api().ContainerStop(call, id, container.StopOptions{Signal: signal, Timeout: &seconds}))
}

// stopWith stops with a signal of the caller's on an engine whose stop knows
// only the container's own: send the signal, wait, and let the engine's stop
// end what is left and keep its restart policy from starting it again.
func (e *Engine) stopWith(ctx context.Context, id, signal string, seconds int) error {
	err := e.api().ContainerKill(ctx, id, signal)
	switch {
	case errdefs.IsConflict(err): // it does not run
	case err != nil:
		return e.fail("stop", id, err)
	default:
		grace, cancel := context.WithTimeout(ctx, time.Duration(seconds)*time.Second)
		_, _ = e.Wait(grace, id) // an error means the time is over; of others the stop below tells
		cancel()
	}
	now := 0
	return e.fail("stop", id, e.api().ContainerStop(ctx, id, container.StopOptions{Timeout: &now}))
}

// wholeSeconds rounds a grace period up, within what the engine takes.
func wholeSeconds(d time.Duration) int {
	if d <= 0 {
		return 0
	}
	return int(min(math.Ceil(d.Seconds()), math.MaxInt32))
}

// Kill sends a signal, KILL when it is empty. A container that does not run is
// a Conflict.
func (e *Engine) Kill(ctx context.Context, id, signal string) error {
	call, cancel := e.change(ctx)
	defer cancel()
	if signal == "" {
		signal = "KILL"
	}
	return e.fail("kill", id, e.api().ContainerKill(call, id, signal))
}

// Restart stops and starts a container. A paused one is a Conflict: the engine
// would lose its frozen process.
func (e *Engine) Restart(ctx context.Context, id, signal string, grace time.Duration) error {
	if err := e.legal(ctx, id, runtime.OpRestart); err != nil {
		return err
	}
	if signal != "" && !e.api().atLeast("1.42") {
		if err := e.Stop(ctx, id, signal, grace); err != nil {
			return err
		}
		return e.Start(ctx, id)
	}
	seconds := wholeSeconds(grace)
	call, cancel := context.WithTimeout(ctx, time.Duration(seconds)*time.Second+e.timeouts.Margin+e.timeouts.Change)
	defer cancel()
	return e.fail("restart", id, e.api().ContainerRestart(call, id, container.StopOptions{Signal: signal, Timeout: &seconds}))
}

// Pause freezes a running container.
func (e *Engine) Pause(ctx context.Context, id string) error {
	call, cancel := e.change(ctx)
	defer cancel()
	return e.fail("pause", id, e.api().ContainerPause(call, id))
}

// Unpause thaws a paused container; one that is not paused is Invalid, without
// asking the engine, which would answer with an internal error.
func (e *Engine) Unpause(ctx context.Context, id string) error {
	if err := e.legal(ctx, id, runtime.OpUnpause); err != nil {
		return err
	}
	call, cancel := e.change(ctx)
	defer cancel()
	return e.fail("unpause", id, e.api().ContainerUnpause(call, id))
}

// legal asks the transition table whether op is possible in the container's
// present state.
func (e *Engine) legal(ctx context.Context, id string, op runtime.Op) error {
	c, err := e.inspect(ctx, string(op), id)
	if err != nil {
		return err
	}
	return runtime.CheckTransition(c.Name, c.State, op)
}

// Update changes limits and restart policy in place. A zero limit lifts what
// was set; one that cannot be lifted in place is Invalid.
func (e *Engine) Update(ctx context.Context, id string, limits runtime.Limits, restart runtime.RestartPolicy) error {
	host, err := e.hostFacts(ctx)
	if err != nil {
		return err
	}
	call, cancel := e.change(ctx)
	defer cancel()
	have, err := e.api().ContainerInspect(call, id)
	if err != nil {
		return e.fail("update", id, err)
	}
	c := containerOf(have)
	if err := runtime.CheckTransition(c.Name, c.State, runtime.OpUpdate); err != nil {
		return err
	}
	up, err := updateConfig(have.HostConfig, limits, restart, host)
	if err != nil {
		return refuse(runtime.KindInvalid, "update", c.Name, "%w", err)
	}
	res, err := e.api().ContainerUpdate(call, id, up)
	for _, w := range res.Warnings {
		e.warn("update " + c.Name + ": " + clean(w))
	}
	return e.fail("update", c.Name, err)
}

// Rename gives a container another name; a taken one is a Conflict.
func (e *Engine) Rename(ctx context.Context, id, name string) error {
	if id == "" || name == "" {
		return refuse(runtime.KindInvalid, "rename", id, "%w", errNoName)
	}
	call, cancel := e.change(ctx)
	defer cancel()
	err := e.api().ContainerRename(call, id, name)
	if err != nil && strings.Contains(err.Error(), "same name as its current name") {
		return nil
	}
	return e.fail("rename", id, err)
}

// Remove removes a container and returns once it is gone. A live one is a
// Conflict unless force kills it first; one that does not exist is NotFound.
// With volumes its anonymous ones go too, those included that it took over from
// a container before it, which the engine takes for named ones.
func (e *Engine) Remove(ctx context.Context, id string, volumes, force bool) error {
	var anonymous []string
	if volumes {
		anonymous = e.anonymousVolumes(ctx, id)
	}
	if err := e.remove(ctx, id, container.RemoveOptions{RemoveVolumes: volumes, Force: force}); err != nil {
		return err
	}
	for _, name := range anonymous {
		if err := e.RemoveVolume(ctx, name); err != nil && !runtime.IsNotFound(err) && !runtime.IsConflict(err) {
			e.warn("an anonymous volume of a removed container is left: " + err.Error())
		}
	}
	return nil
}

func (e *Engine) remove(ctx context.Context, id string, opts container.RemoveOptions) error {
	call, cancel := e.change(ctx)
	defer cancel()
	err := e.api().ContainerRemove(call, id, opts)
	if err == nil {
		return nil
	}
	if !removalStuck(err) {
		return e.fail("remove", id, err)
	}
	return e.awaitGone(ctx, id, opts, err)
}

// engineMadeName is the form of the names that the engine itself gives to volumes.
var engineMadeName = regexp.MustCompile(`^[0-9a-f]{64}$`)

// anonymousVolumes are the container's volumes that nobody has named or
// labelled; none when the engine does not tell.
func (e *Engine) anonymousVolumes(ctx context.Context, id string) []string {
	c, err := e.Inspect(ctx, id)
	if err != nil {
		return nil // the removal says what is wrong
	}
	var names []string
	for _, m := range c.Mounts {
		if m.Type != runtime.MountVolume || !engineMadeName.MatchString(m.Name) {
			continue
		}
		v, err := e.Volume(ctx, m.Name)
		if err != nil {
			continue
		}
		if _, marked := v.Labels["com.docker.volume.anonymous"]; len(v.Labels) == 0 || (marked && len(v.Labels) == 1) {
			names = append(names, m.Name)
		}
	}
	return names
}

// removalStuck reports whether a failed removal may still come about: it is
// under way already, or something of the container is held for a moment.
func removalStuck(err error) bool {
	text := strings.ToLower(err.Error())
	for _, s := range []string{"already in progress", "device or resource busy", "driver \"", "unable to remove filesystem", "failed to remove root filesystem", "container dead", "is dead"} {
		if strings.Contains(text, s) {
			return true
		}
	}
	return errdefs.IsInternal(err)
}

// awaitGone waits, for a bounded time, until a container whose removal was
// accepted or hung is gone, and asks again when the engine has left it dead.
func (e *Engine) awaitGone(ctx context.Context, id string, opts container.RemoveOptions, first error) error {
	call, cancel := context.WithTimeout(ctx, e.timeouts.Gone)
	defer cancel()
	for wait := 50 * time.Millisecond; pause(call, wait); wait = min(2*wait, time.Second) {
		have, err := e.api().ContainerInspect(call, id)
		if errdefs.IsNotFound(err) {
			return nil
		}
		if err != nil || have.State == nil || have.State.Status == container.StateRemoving {
			continue
		}
		err = e.api().ContainerRemove(call, id, opts)
		switch {
		case err == nil || errdefs.IsNotFound(err):
			return nil
		case !removalStuck(err):
			return e.fail("remove", id, err)
		case call.Err() == nil:
			first = err
		}
	}
	if ctx.Err() != nil {
		return e.fail("remove", id, ctx.Err())
	}
	return &runtime.Error{
		Kind: runtime.KindUnavailable, Op: "remove", Object: id,
		Err: &message{text: "still there after " + e.timeouts.Gone.String() + ": " + clean(first.Error()), cause: first},
	}
}

// Prune removes the stopped containers that match and returns their IDs. A
// filter without a label is Invalid: it would remove what is not Berth's.
func (e *Engine) Prune(ctx context.Context, filter runtime.Filter) ([]string, error) {
	if len(filter.Labels) == 0 {
		return nil, refuse(runtime.KindInvalid, "prune", "", "the filter names no label")
	}
	call, cancel := e.change(ctx)
	defer cancel()
	report, err := e.api().ContainersPrune(call, labelFilter(filter))
	if err != nil {
		return nil, e.fail("prune", "containers", err)
	}
	return report.ContainersDeleted, nil
}

// labelFilter asks the engine for objects by label.
func labelFilter(f runtime.Filter) filters.Args {
	args := filters.NewArgs()
	for k, v := range f.Labels {
		if v == "" {
			args.Add("label", k)
		} else {
			args.Add("label", k+"="+v)
		}
	}
	return args
}
