package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/docker/docker/api/types/container"

	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/runtime/docker"
	"github.com/berth-dev/berth/runtime/peer"
	"github.com/berth-dev/berth/runtime/usage"
)

// meterFor is how long each way of measuring is watched, a sample of each replica a
// second.
const meterFor = 20 * time.Second

// meter measures what it costs to measure many replicas once a second: by their
// cgroups, and by the engine's streams of statistics, where the engine's own part
// is counted too.
func (b *bench) meter(ctx context.Context) (err error) {
	n := b.opts.idlers
	g, err := b.raw.group(ctx, "floor-meter", b.image)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, g.remove(context.WithoutCancel(ctx), parallels[len(parallels)-1]))
	}()
	if err := g.grow(ctx, n, parallels[0]); err != nil {
		return err
	}
	engine, err := docker.Open(ctx, docker.Options{})
	if err != nil {
		return err
	}
	defer func() { _ = engine.Close() }()
	all := make([]runtime.Container, n)
	for i, id := range g.ids {
		if all[i], err = engine.Inspect(ctx, id); err != nil {
			return err
		}
	}
	if err := sleep(ctx, calm); err != nil {
		return err
	}
	ours, err := meterByCgroups(ctx, all)
	if err != nil {
		return err
	}
	theirs, engines, err := b.raw.meterByStreams(ctx, g.ids)
	if err != nil {
		return err
	}
	b.figure(fmt.Sprintf("%d replicas measured each second", n), percent(ours), "≤ 2 %")
	b.figure("  by the engine's streams, the reader", percent(theirs), "–")
	if engines >= 0 {
		b.figure("  by the engine's streams, the engine", percent(engines), "–")
	}
	return nil
}

func percent(cpu time.Duration) string {
	return fmt.Sprintf("%.2f %% of a core", 100*cpu.Seconds()/meterFor.Seconds())
}

// meterByCgroups is the CPU time that this process takes to sample all containers.
func meterByCgroups(ctx context.Context, all []runtime.Container) (time.Duration, error) {
	reader := usage.New(usage.Config{}) // with no engine to ask
	defer func() { _ = reader.Close() }()
	if got := len(reader.Stats(ctx, all)); got != len(all) { // opens what is kept open
		return 0, fmt.Errorf("%d of %d containers can be read here; the engine is asked for the rest", got, len(all))
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	before := ownTime()
	for range int(meterFor / time.Second) {
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-tick.C:
		}
		if got := len(reader.Stats(ctx, all)); got != len(all) {
			return 0, fmt.Errorf("%d of %d containers could be read", got, len(all))
		}
	}
	return ownTime() - before, nil
}

// meterByStreams is the CPU time that this process and the engine's take while the
// engine streams the statistics of all containers; the engine's is negative where
// its process is not to be seen.
func (r *rawEngine) meterByStreams(ctx context.Context, ids []string) (own, engine time.Duration, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var samples atomic.Int64
	var streams sync.WaitGroup
	for _, id := range ids {
		s, err := r.api.ContainerStats(ctx, id, true)
		if err != nil {
			return 0, 0, err
		}
		streams.Go(func() {
			defer func() { _ = s.Body.Close() }()
			for dec := json.NewDecoder(s.Body); ; samples.Add(1) {
				var v container.StatsResponse
				if dec.Decode(&v) != nil {
					_, _ = io.Copy(io.Discard, s.Body)
					return // it ends with the measurement
				}
			}
		})
	}
	defer streams.Wait()
	defer cancel()
	if err := sleep(ctx, calm); err != nil {
		return 0, 0, err
	}
	before, theirs := ownTime(), r.engineTime()
	seen := samples.Load()
	if err := sleep(ctx, meterFor); err != nil {
		return 0, 0, err
	}
	own, engine = ownTime()-before, r.engineTime()-theirs
	if theirs < 0 {
		engine = -1
	}
	if got := samples.Load() - seen; got == 0 {
		return 0, 0, errors.New("the engine sent no statistics")
	}
	return own, engine, nil
}

// engineTime is the CPU time of the engine's process; negative: it is not to be
// seen here.
func (r *rawEngine) engineTime() time.Duration {
	socket, local := strings.CutPrefix(r.api.DaemonHost(), "unix://")
	if !local {
		return -1
	}
	pid, err := peer.Listener(socket)
	if err != nil || pid == 0 {
		return -1
	}
	took, err := cpuTime(pid)
	if err != nil {
		return -1
	}
	return took
}

// ownTime is the CPU time of this process.
func ownTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
