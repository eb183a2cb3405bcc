package main

import (
	"context"
	"errors"
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

// parallels are the numbers of parallel calls the floor is tried with. The
// first run finds the best of them, which the others then use.
var parallels = []int{4, 8}

const large = `services:
  web:
    image: berth-bench:latest
    deploy:
      replicas: %d
`

// floor is a series of runs of the raw engine.
type floor struct {
	prefix string
	first  int // containers that are there before the clock runs
	grow   func(context.Context, *group, int) error

	parallel int // the best so far; 0: still to be found
	up, down []time.Duration
}

// measureFloor adds one run to the series: the growth and the removal.
func (b *bench) measureFloor(ctx context.Context, f *floor) error {
	tries := parallels
	if f.parallel > 0 {
		tries = []int{f.parallel}
	}
	var up, down time.Duration
	for _, p := range tries {
		u, d, err := b.floorOnce(ctx, f, p)
		if err != nil {
			return err
		}
		if up == 0 || u < up {
			up, f.parallel = u, p
		}
		if down == 0 || d < down {
			down = d
		}
	}
	f.up, f.down = append(f.up, up), append(f.down, down)
	return nil
}

func (b *bench) floorOnce(ctx context.Context, f *floor, parallel int) (up, down time.Duration, err error) {
	g, err := b.raw.group(ctx, f.prefix, b.image)
	if err != nil {
		return 0, 0, err
	}
	if err := g.grow(ctx, f.first, parallel); err != nil {
		return 0, 0, err
	}
	if up, err = timed(func() error { return f.grow(ctx, g, parallel) }); err != nil {
		return 0, 0, err
	}
	down, err = timed(func() error { return g.remove(ctx, parallel) })
	return up, down, err
}

// up measures up and down of one large service.
func (b *bench) up(ctx context.Context) error {
	n := b.opts.replicas
	dir, err := b.stack(ctx, "bench-up", fmt.Sprintf(large, n))
	if err != nil {
		return err
	}
	f := &floor{prefix: "floor-up", grow: func(ctx context.Context, g *group, p int) error { return g.grow(ctx, n, p) }}
	var up, down []time.Duration
	if err := b.repeat(func() error {
		if err := b.measureFloor(ctx, f); err != nil {
			return err
		}
		return errors.Join(b.add(ctx, &up, dir, "up", "-d"), b.add(ctx, &down, dir, "down", "-t", "0"))
	}); err != nil {
		return err
	}
	if b.wants("up") {
		b.compare(fmt.Sprintf("up -d, %d replicas", n), f.up, up, 1.10)
	}
	if b.wants("down") {
		b.compare(fmt.Sprintf("down -t 0, %d replicas", n), f.down, down, 1.15)
	}
	return nil
}

// add runs a command and adds its time to a series.
func (b *bench) add(ctx context.Context, series *[]time.Duration, dir string, args ...string) error {
	took, err := b.berth(ctx, dir, args...)
	*series = append(*series, took)
	return err
}

// commands measures the commands that find nothing to do, each as a whole
// process. The floor is the engine's answer to the one list that each asks for.
func (b *bench) commands(ctx context.Context) error {
	n := b.opts.replicas
	dir, err := b.stack(ctx, "bench-up", fmt.Sprintf(large, n))
	if err != nil {
		return err
	}
	if _, err := b.berth(ctx, dir, "up", "-d"); err != nil {
		return err
	}
	rows := []struct {
		name, text string
		args       []string
		times      []time.Duration
	}{
		{name: "noop", text: "up -d, nothing to do, %d replicas", args: []string{"up", "-d"}},
		{name: "ps", text: "ps, %d replicas", args: []string{"ps"}},
	}
	var lists []time.Duration
	for range b.opts.commands {
		took, err := timed(func() error { return b.raw.list(ctx, "bench-up") })
		if err != nil {
			return err
		}
		lists = append(lists, took)
		for i := range rows {
			if err := b.add(ctx, &rows[i].times, dir, rows[i].args...); err != nil {
				return err
			}
		}
	}
	for _, r := range rows {
		if b.wants(r.name) {
			b.print(row{
				name: fmt.Sprintf(r.text, n), floor: millis(median(lists)), berth: millis(median(r.times)), ratio: "–",
				target: "≤ 50 ms", runs: fmt.Sprint(len(r.times)),
			})
		}
	}
	_, err = b.berth(ctx, dir, "down", "-t", "0")
	return err
}

// scale measures growing a service that runs, to five times its size.
func (b *bench) scale(ctx context.Context) error {
	n := b.opts.replicas
	first := max(1, n/5)
	dir, err := b.stack(ctx, "bench-scale", fmt.Sprintf(large, first))
	if err != nil {
		return err
	}
	f := &floor{prefix: "floor-scale", first: first, grow: func(ctx context.Context, g *group, p int) error { return g.grow(ctx, n-first, p) }}
	var scale []time.Duration
	if err := b.repeat(func() error {
		if err := b.measureFloor(ctx, f); err != nil {
			return err
		}
		if _, err := b.berth(ctx, dir, "up", "-d"); err != nil {
			return err
		}
		if err := b.add(ctx, &scale, dir, "scale", fmt.Sprintf("web=%d", n)); err != nil {
			return err
		}
		_, err := b.berth(ctx, dir, "down", "-t", "0")
		return err
	}); err != nil {
		return err
	}
	b.compare(fmt.Sprintf("scale %d → %d", first, n), f.up, scale, 1.10)
	return nil
}

// chain measures 20 services in a dependency chain five deep.
func (b *bench) chain(ctx context.Context) error {
	const depth, width = 5, 4
	dir, err := b.stack(ctx, "bench-chain", chainFile(depth, width))
	if err != nil {
		return err
	}
	f := &floor{prefix: "floor-chain", grow: func(ctx context.Context, g *group, p int) error { return g.layers(ctx, depth, width, p) }}
	var up []time.Duration
	if err := b.repeat(func() error {
		if err := b.measureFloor(ctx, f); err != nil {
			return err
		}
		if err := b.add(ctx, &up, dir, "up", "-d"); err != nil {
			return err
		}
		_, err := b.berth(ctx, dir, "down", "-t", "0")
		return err
	}); err != nil {
		return err
	}
	b.compare(fmt.Sprintf("up -d, %d services, depth %d", depth*width, depth), f.up, up, 1.15)
	return nil
}

// chainFile is a Compose file of depth layers, each service of which depends on
// all of the layer before.
func chainFile(depth, width int) string {
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
	return y.String()
}

// calm is how long the daemon may settle before its idleness is measured.
const calm = 5 * time.Second

// idle measures what the daemon costs while many replicas run and nothing happens.
func (b *bench) idle(ctx context.Context) error {
	n := b.opts.idlers
	dir, err := b.stack(ctx, "bench-idle", fmt.Sprintf(large, n))
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
	if err := sleep(ctx, calm); err != nil {
		return err
	}
	before, err := cpuTime(pid)
	if err != nil {
		return err
	}
	if err := sleep(ctx, b.opts.idle); err != nil {
		return err
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

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// daemon is the run's daemon, whether or not it runs.
func (b *bench) daemon() (*client.Client, error) {
	host, _, err := docker.Endpoint(os.Getenv)
	if err != nil {
		return nil, err
	}
	folders, err := dirs.For(b.getenv, host)
	if err != nil {
		return nil, err
	}
	return client.New(folders.Socket()), nil
}

// daemonPID asks the run's daemon who it is.
func (b *bench) daemonPID(ctx context.Context) (int, error) {
	daemon, err := b.daemon()
	if err != nil {
		return 0, err
	}
	info, err := daemon.Info(ctx)
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

// plan measures one turn in which there is nothing to do.
func (b *bench) plan(ctx context.Context) error {
	return b.turn(ctx, "planning 1,000 replicas", "BenchmarkDecide", "≤ 5 ms")
}

// rollplan measures one turn in the middle of a rollout.
func (b *bench) rollplan(ctx context.Context) error {
	return b.turn(ctx, "planning a rollout of 1,000 replicas", "BenchmarkDecideRollout", "≤ 10 ms")
}

// turn runs a benchmark of the planner's own.
func (b *bench) turn(ctx context.Context, name, benchmark, target string) error {
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "^"+benchmark+"$", "-count", strconv.Itoa(b.opts.runs), "./internal/reconcile") // #nosec G204 -- fixed arguments and a number
	data, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, data)
	}
	times, err := benchmarked(string(data))
	if err != nil {
		return err
	}
	b.print(row{name: name, floor: "–", berth: fmt.Sprintf("%.2f ms", medianOf(times)/1e6), ratio: "–", target: target, runs: strconv.Itoa(len(times))})
	return nil
}

// benchmarked are the results in what go test prints of one benchmark, in
// nanoseconds; at least one.
func benchmarked(output string) ([]float64, error) {
	var times []float64
	for line := range strings.Lines(output) {
		f := strings.Fields(line)
		if len(f) < 4 || !strings.HasPrefix(f[0], "Benchmark") {
			continue
		}
		ns, err := strconv.ParseFloat(f[2], 64)
		if err != nil {
			return nil, err
		}
		times = append(times, ns)
	}
	if len(times) == 0 {
		return nil, fmt.Errorf("no benchmark result in:\n%s", output)
	}
	return times, nil
}
