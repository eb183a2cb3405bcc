package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/berth-dev/berth/internal/client"
	"github.com/berth-dev/berth/internal/dirs"
	"github.com/berth-dev/berth/runtime/docker"
)

// parallels are the numbers of parallel calls the floor is tried with.
var parallels = []int{4, 8}

const large = `services:
  web:
    image: berth-bench:latest
    deploy:
      replicas: %d
`

// floor measures one run of the floor with each number of parallel calls and
// returns the faster creation and the faster removal.
func (b *bench) floor(ctx context.Context, prefix string, grow func(*group, int) error) (up, down time.Duration, err error) {
	for _, p := range parallels {
		g, err := b.raw.group(ctx, prefix, b.image)
		if err != nil {
			return 0, 0, err
		}
		u, err := timed(func() error { return grow(g, p) })
		if err != nil {
			return 0, 0, err
		}
		d, err := timed(func() error { return g.remove(ctx, p) })
		if err != nil {
			return 0, 0, err
		}
		if up == 0 || u < up {
			up = u
		}
		if down == 0 || d < down {
			down = d
		}
	}
	return up, down, nil
}

// up measures up and down of one large service, and the commands that find
// nothing to do while it runs.
func (b *bench) up(ctx context.Context) error {
	dir, err := b.stack("bench-up", fmt.Sprintf(large, b.opts.replicas))
	if err != nil {
		return err
	}
	var floorUp, floorDown, up, down, noop, ps []time.Duration
	if _, err := b.berth(ctx, dir, "ls"); err != nil { // the daemon is started on demand
		return err
	}
	for range b.opts.runs {
		u, d, err := b.floor(ctx, "floor-up", func(g *group, p int) error { return g.grow(ctx, b.opts.replicas, p) })
		if err != nil {
			return err
		}
		floorUp, floorDown = append(floorUp, u), append(floorDown, d)
		for _, step := range []struct {
			into *[]time.Duration
			args []string
		}{
			{&up, []string{"up", "-d"}},
			{&noop, []string{"up", "-d"}}, {&noop, []string{"up", "-d"}}, {&noop, []string{"up", "-d"}},
			{&ps, []string{"ps"}}, {&ps, []string{"ps"}}, {&ps, []string{"ps"}},
			{&down, []string{"down", "-t", "0"}},
		} {
			took, err := b.berth(ctx, dir, step.args...)
			if err != nil {
				return err
			}
			*step.into = append(*step.into, took)
		}
	}
	n := b.opts.replicas
	b.compare(fmt.Sprintf("up -d, %d replicas", n), floorUp, up, 1.10)
	b.compare(fmt.Sprintf("down -t 0, %d replicas", n), floorDown, down, 1.15)
	b.figure(fmt.Sprintf("up -d, nothing to do, %d replicas", n), millis(median(noop)), "≤ 50 ms")
	b.figure(fmt.Sprintf("ps, %d replicas", n), millis(median(ps)), "≤ 50 ms")
	return nil
}

func millis(d time.Duration) string { return fmt.Sprintf("%d ms", d.Milliseconds()) }

// scale measures growing a service that runs.
func (b *bench) scale(ctx context.Context) error { //nolint:gocognit // one measurement, read from top to bottom
	const first = 10
	dir, err := b.stack("bench-scale", fmt.Sprintf(large, first))
	if err != nil {
		return err
	}
	var floor, scale []time.Duration
	for range b.opts.runs {
		var best time.Duration
		for _, p := range parallels {
			g, err := b.raw.group(ctx, "floor-scale", b.image)
			if err != nil {
				return err
			}
			if err := g.grow(ctx, first, p); err != nil {
				return err
			}
			took, err := timed(func() error { return g.grow(ctx, b.opts.replicas-first, p) })
			if err != nil {
				return err
			}
			if best == 0 || took < best {
				best = took
			}
			if err := g.remove(ctx, p); err != nil {
				return err
			}
		}
		floor = append(floor, best)
		if _, err := b.berth(ctx, dir, "up", "-d"); err != nil {
			return err
		}
		took, err := b.berth(ctx, dir, "scale", fmt.Sprintf("web=%d", b.opts.replicas))
		if err != nil {
			return err
		}
		scale = append(scale, took)
		if _, err := b.berth(ctx, dir, "down", "-t", "0"); err != nil {
			return err
		}
	}
	b.compare(fmt.Sprintf("scale %d → %d", first, b.opts.replicas), floor, scale, 1.10)
	return nil
}

// chain measures 20 services in a dependency chain five deep.
func (b *bench) chain(ctx context.Context) error {
	const depth, width = 5, 4
	var y strings.Builder
	y.WriteString("services:\n")
	for layer := range depth {
		for i := range width {
			fmt.Fprintf(&y, "  s%d-%d:\n    image: berth-bench:latest\n", layer, i)
			if layer == 0 {
				continue
			}
			y.WriteString("    depends_on:\n")
			for j := range width {
				fmt.Fprintf(&y, "      - s%d-%d\n", layer-1, j)
			}
		}
	}
	dir, err := b.stack("bench-chain", y.String())
	if err != nil {
		return err
	}
	var floor, up []time.Duration
	for range b.opts.runs {
		f, _, err := b.floor(ctx, "floor-chain", func(g *group, p int) error { return g.layers(ctx, depth, width, p) })
		if err != nil {
			return err
		}
		took, err := b.berth(ctx, dir, "up", "-d")
		if err != nil {
			return err
		}
		floor, up = append(floor, f), append(up, took)
		if _, err := b.berth(ctx, dir, "down", "-t", "0"); err != nil {
			return err
		}
	}
	b.compare(fmt.Sprintf("up -d, %d services, depth %d", depth*width, depth), floor, up, 1.15)
	return nil
}

// idle measures what the daemon costs while 100 replicas run and nothing happens.
func (b *bench) idle(ctx context.Context) error {
	const n = 100
	dir, err := b.stack("bench-idle", fmt.Sprintf(large, n))
	if err != nil {
		return err
	}
	if _, err := b.berth(ctx, dir, "up", "-d"); err != nil {
		return err
	}
	pid, err := b.daemonPID(ctx)
	if err != nil {
		return err
	}
	before, err := cpuTime(pid)
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(b.opts.idle):
	}
	after, err := cpuTime(pid)
	if err != nil {
		return err
	}
	rss, err := residentBytes(pid)
	if err != nil {
		return err
	}
	b.figure(fmt.Sprintf("daemon resident, %d replicas", n), fmt.Sprintf("%.1f MB", float64(rss)/1e6), "≤ 40 MB")
	b.figure(fmt.Sprintf("daemon idle CPU, %d replicas", n), fmt.Sprintf("%.2f %% of a core", 100*(after-before).Seconds()/b.opts.idle.Seconds()), "≤ 0.5 %")
	_, err = b.berth(ctx, dir, "down", "-t", "0")
	return err
}

// daemonPID asks the run's daemon who it is.
func (b *bench) daemonPID(ctx context.Context) (int, error) {
	host, _, err := docker.Endpoint(os.Getenv)
	if err != nil {
		return 0, err
	}
	folders, err := dirs.For(b.getenv, host)
	if err != nil {
		return 0, err
	}
	info, err := client.New(folders.Socket()).Info(ctx)
	return info.PID, err
}

// getenv reads the environment the command line is run in.
func (b *bench) getenv(key string) string {
	for _, kv := range slices.Backward(b.env) {
		if k, v, _ := strings.Cut(kv, "="); k == key {
			return v
		}
	}
	return ""
}

// stopDaemon ends the run's own daemon, if one was started.
func (b *bench) stopDaemon(ctx context.Context) error {
	if b.env == nil {
		return nil
	}
	pid, err := b.daemonPID(ctx)
	if err != nil {
		return nil //nolint:nilerr // none runs
	}
	return syscall.Kill(pid, syscall.SIGTERM)
}

// cpuTime is the CPU time a process has used (proc(5), fields 14 and 15 of
// stat, in ticks of 10 ms).
func cpuTime(pid int) (time.Duration, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat: too short", pid)
	}
	var ticks int64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}

// residentBytes is a process's resident memory (proc(5), statm).
func residentBytes(pid int) (int64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(data))
	if len(fields) < 2 {
		return 0, fmt.Errorf("/proc/%d/statm: too short", pid)
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}

// plan runs the planner's own benchmark.
func (b *bench) plan(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "BenchmarkDecide$", "./internal/reconcile")
	data, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, data)
	}
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) >= 4 && strings.HasPrefix(f[0], "BenchmarkDecide") {
			ns, err := strconv.ParseFloat(f[2], 64)
			if err != nil {
				return err
			}
			b.figure("planning 1,000 replicas", fmt.Sprintf("%.2f ms", ns/1e6), "≤ 5 ms")
			return nil
		}
	}
	return fmt.Errorf("no benchmark result in:\n%s", data)
}
