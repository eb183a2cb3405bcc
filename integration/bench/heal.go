package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/pkg/stdcopy"
)

// restarting has one replica for each kill: the second restart of the same one
// would wait for the crash-loop backoff.
const restarting = `services:
  web:
    image: berth-bench:latest
    deploy:
      replicas: %d
      restart_policy: {condition: any, delay: 0s}
`

// revival is how long a killed container took to run again.
type revival struct {
	whole time.Duration // from the call that killed it to its start event
	after time.Duration // from its die event to its start event
}

// heal measures how soon a killed replica runs again. The floor waits for the
// die event, as anybody must, and starts its container by a raw call.
func (b *bench) heal(ctx context.Context) error {
	n := b.opts.kills
	dir, err := b.stack(ctx, "bench-heal", fmt.Sprintf(restarting, n))
	if err != nil {
		return err
	}
	if _, err := b.berth(ctx, dir, "up", "-d"); err != nil {
		return err
	}
	ids, err := b.raw.containers(ctx, "bench-heal")
	if err != nil {
		return err
	}
	if len(ids) != n {
		return fmt.Errorf("up -d has left %d containers, not %d", len(ids), n)
	}
	g, err := b.raw.group(ctx, "floor-heal", b.image)
	if err != nil {
		return err
	}
	if err := g.grow(ctx, 1, 1); err != nil {
		return err
	}
	var floor, berth, engine []revival
	var unmeasured error // the engine's own policy: its container's process cannot be killed from here
	for _, id := range ids {
		if err := b.raw.revive(ctx, &floor, g.ids[0], b.raw.kill, b.raw.start); err != nil {
			return fmt.Errorf("floor: %w", err)
		}
		if err := b.raw.revive(ctx, &berth, id, b.raw.kill, nil); err != nil {
			return fmt.Errorf("berth: %w", err)
		}
		if unmeasured == nil {
			unmeasured = g.reviveAlways(ctx, &engine)
		}
	}
	b.compare("killed replica runs again", wholes(floor), wholes(berth), 1.25)
	b.compareOnly("  of it after the die event", afters(floor), afters(berth))
	if unmeasured != nil {
		b.print(row{name: "  engine's own restart: always", floor: "–", berth: "not measured", ratio: "–", target: "–", runs: unmeasured.Error()})
	} else {
		b.compareOnly("  engine's own restart: always", wholes(floor), wholes(engine))
	}
	if err := g.remove(ctx, 1); err != nil {
		return err
	}
	_, err = b.berth(ctx, dir, "down", "-t", "0")
	return err
}

// compareOnly prints a comparison that has no target.
func (b *bench) compareOnly(name string, floor, other []time.Duration) {
	f, d := median(floor), median(other)
	b.print(row{
		name: name, floor: seconds(f), berth: seconds(d), ratio: fmt.Sprintf("%.2f", d.Seconds()/f.Seconds()),
		target: "–", runs: fmt.Sprint(len(other)),
	})
}

func wholes(list []revival) []time.Duration {
	out := make([]time.Duration, len(list))
	for i, r := range list {
		out[i] = r.whole
	}
	return out
}

func afters(list []revival) []time.Duration {
	out := make([]time.Duration, len(list))
	for i, r := range list {
		out[i] = r.after
	}
	return out
}

// revive kills a container, calls again once it has died (nil: somebody else
// starts it), waits for its start, and adds what it took to the series.
func (r *rawEngine) revive(ctx context.Context, series *[]revival, id string, kill, again func(context.Context, string) error) error {
	if err := sleep(ctx, quiet); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, longestRevival)
	defer cancel()
	w := r.watch(ctx, id)
	errs := make(chan error, 2)
	begin := time.Now()
	go func() { errs <- kill(ctx, id) }()
	if _, err := w.next(ctx, events.ActionDie, errs); err != nil {
		return err
	}
	died := time.Now()
	if again != nil {
		go func() { errs <- again(ctx, id) }()
	}
	if _, err := w.next(ctx, events.ActionStart, errs); err != nil {
		return err
	}
	started := time.Now()
	*series = append(*series, revival{whole: started.Sub(begin), after: started.Sub(died)})
	return nil
}

// quiet is a rest before each measurement: the engine is done with the last one.
const quiet = 500 * time.Millisecond

// longestRevival bounds one measurement.
const longestRevival = time.Minute

func (r *rawEngine) kill(ctx context.Context, id string) error {
	return r.api.ContainerKill(ctx, id, "KILL")
}

func (r *rawEngine) start(ctx context.Context, id string) error {
	return r.api.ContainerStart(ctx, id, container.StartOptions{})
}

// reviveAlways measures the engine's restart policy with a container that lives
// for this once: its waits double with each restart. A kill by the Engine API
// would count as the user's wish that it stays down, so its process is killed.
func (g *group) reviveAlways(ctx context.Context, series *[]revival) error {
	api := g.raw.api
	res, err := api.ContainerCreate(ctx,
		&container.Config{Image: g.image, Labels: map[string]string{benchLabel: g.prefix}},
		&container.HostConfig{
			NetworkMode:   container.NetworkMode(g.network),
			RestartPolicy: container.RestartPolicy{Name: container.RestartPolicyAlways},
		}, nil, nil, g.prefix+"-always")
	if err != nil {
		return err
	}
	err = g.raw.start(ctx, res.ID)
	if err == nil {
		err = g.raw.revive(ctx, series, res.ID, g.raw.killProcess, nil)
	}
	return errors.Join(err, api.ContainerRemove(ctx, res.ID, container.RemoveOptions{Force: true}))
}

// killProcess kills a container's first process past the engine.
func (r *rawEngine) killProcess(ctx context.Context, id string) error {
	c, err := r.api.ContainerInspect(ctx, id)
	if err != nil {
		return err
	}
	if c.State == nil || c.State.Pid <= 0 {
		return errors.New("the container has no process")
	}
	return syscall.Kill(c.State.Pid, syscall.SIGKILL)
}

// containers are the IDs of a stack's containers, in no order.
func (r *rawEngine) containers(ctx context.Context, stack string) ([]string, error) {
	list, err := r.api.ContainerList(ctx, container.ListOptions{Filters: ofStack(stack)})
	ids := make([]string, len(list))
	for i := range list {
		ids[i] = list[i].ID
	}
	return ids, err
}

// watcher follows one container's events.
type watcher struct {
	messages <-chan events.Message
	errs     <-chan error
}

// watch follows a container from now on, until ctx ends.
func (r *rawEngine) watch(ctx context.Context, id string) watcher {
	messages, errs := r.api.Events(ctx, events.ListOptions{Filters: filters.NewArgs(filters.Arg("type", "container"), filters.Arg("container", id))})
	return watcher{messages: messages, errs: errs}
}

// next is the next event with an action. An error that comes in by calls ends
// the wait; nil there does not.
func (w watcher) next(ctx context.Context, action events.Action, calls <-chan error) (events.Message, error) {
	for {
		select {
		case <-ctx.Done():
			return events.Message{}, fmt.Errorf("waiting for the event %s: %w", action, ctx.Err())
		case err := <-w.errs:
			return events.Message{}, fmt.Errorf("waiting for the event %s: %w", action, err)
		case err := <-calls:
			if err != nil {
				return events.Message{}, err
			}
		case m := <-w.messages:
			if m.Action == action {
				return m, nil
			}
		}
	}
}

// The liveness probe that is measured.
const (
	probePeriod    = time.Second
	probeThreshold = 3
	probeAllowance = 50 * time.Millisecond // the target
)

const probed = `services:
  web:
    image: berth-bench:latest
    command: ["/sleeper", ":7000"]
    deploy:
      replicas: %d
    x-berth:
      probes:
        liveness: {tcp: {port: 7000}, period: %s, failureThreshold: %d}
`

// liveness measures how late a failing liveness probe is acted on: the event of
// the stop signal, against the moment at which the probe that reaches the
// threshold is due. That is a period stricter than threshold × period after the
// first failing one. The moment follows from the connections that came before:
// a probe keeps to its period. One replica after the other stops listening, each
// once, and all times are of the engine's machine.
func (b *bench) liveness(ctx context.Context) error {
	n := b.opts.hangs
	dir, err := b.stack(ctx, "bench-liveness", fmt.Sprintf(probed, n, probePeriod, probeThreshold))
	if err != nil {
		return err
	}
	if _, err := b.berth(ctx, dir, "up", "-d"); err != nil {
		return err
	}
	ids, err := b.raw.containers(ctx, "bench-liveness")
	if err != nil {
		return err
	}
	if err := sleep(ctx, 4*probePeriod); err != nil { // some of them pass
		return err
	}
	var late []time.Duration
	for _, id := range ids {
		d, err := b.raw.lateness(ctx, id)
		if err != nil {
			return err
		}
		late = append(late, d)
	}
	b.print(row{
		name: fmt.Sprintf("failing liveness acted on, %d × %s", probeThreshold, probePeriod), floor: "–",
		berth: millis(median(late)) + " late", ratio: "–", target: "≤ " + strconv.FormatInt(probeAllowance.Milliseconds(), 10) + " ms",
		runs: fmt.Sprintf("%d (worst %s)", len(late), millis(slices.Max(late))),
	})
	_, err = b.berth(ctx, dir, "down", "-t", "0")
	return err
}

// lateness has a container stop listening and returns how long after the probe
// that reached the threshold was due it was told to end. It returns once the
// container runs again.
func (r *rawEngine) lateness(ctx context.Context, id string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, longestRevival)
	defer cancel()
	w := r.watch(ctx, id)
	if err := r.api.ContainerKill(ctx, id, "USR1"); err != nil {
		return 0, err
	}
	var stopped time.Time
	for stopped.IsZero() {
		m, err := w.next(ctx, events.ActionKill, nil)
		if err != nil {
			return 0, err
		}
		if m.Actor.Attributes["signal"] == strconv.Itoa(int(syscall.SIGTERM)) {
			stopped = time.Unix(0, m.TimeNano)
		}
	}
	if _, err := w.next(ctx, events.ActionStart, nil); err != nil {
		return 0, err
	}
	came, err := r.connections(ctx, id, stopped)
	if err != nil {
		return 0, err
	}
	return stopped.Sub(lastDue(came, probePeriod).Add(probeThreshold * probePeriod)), nil
}

// lastDue is when the last of some probes was due: a multiple of the period
// after each other one, and not after it came.
func lastDue(came []time.Time, period time.Duration) time.Time {
	last := came[len(came)-1]
	due := last
	for _, at := range came {
		if d := at.Add(last.Sub(at).Round(period)); d.Before(due) {
			due = d
		}
	}
	return due
}

// connections are when the workload was connected to before a time, in order;
// at least one.
func (r *rawEngine) connections(ctx context.Context, id string, before time.Time) ([]time.Time, error) {
	logs, err := r.api.ContainerLogs(ctx, id, container.LogsOptions{ShowStdout: true})
	if err != nil {
		return nil, err
	}
	defer func() { _ = logs.Close() }()
	var out, rest bytes.Buffer
	if _, err := stdcopy.StdCopy(&out, &rest, logs); err != nil {
		return nil, err
	}
	var came []time.Time
	for s := bufio.NewScanner(&out); s.Scan(); {
		ns, err := strconv.ParseInt(strings.TrimSpace(s.Text()), 10, 64)
		if err != nil {
			return nil, err
		}
		if at := time.Unix(0, ns); at.Before(before) {
			came = append(came, at)
		}
	}
	if len(came) == 0 {
		return nil, errors.New("the workload was never probed before it was stopped")
	}
	return came, nil
}
