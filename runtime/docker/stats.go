package docker

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"

	"github.com/docker/docker/api/types/container"

	"github.com/berth-dev/berth/runtime"
)

// Stats calls fn with samples until fn returns false, ctx ends or the container
// stops. Without stream it is called once. A container that does not run is a
// Conflict.
func (e *Engine) Stats(ctx context.Context, id string, stream bool, fn func(runtime.Stats) bool) error {
	const op = "sample"
	if !stream {
		var cancel context.CancelFunc
		ctx, cancel = e.query(ctx)
		defer cancel()
	}
	read := e.api().ContainerStatsOneShot // answers at once: it takes no second sample
	if stream || !e.api().atLeast("1.41") {
		read = func(ctx context.Context, id string) (container.StatsResponseReader, error) {
			return e.api().ContainerStats(ctx, id, stream)
		}
	}
	ctx, opened, cancel := e.opening(ctx)
	defer cancel()
	r, err := read(ctx, id)
	if err := opened(err); err != nil {
		return e.fail(op, id, err)
	}
	defer r.Body.Close()
	dec := json.NewDecoder(r.Body)
	for n := 0; ; n++ {
		var s container.StatsResponse
		switch err := dec.Decode(&s); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && ctx.Err() != nil:
			return e.fail(op, id, ctx.Err())
		case err != nil:
			return e.fail(op, id, err)
		}
		if !ran(&s) {
			if n == 0 {
				return refuse(runtime.KindConflict, op, id, "it does not run")
			}
			return nil
		}
		if !fn(sample(&s)) || !stream {
			return nil
		}
	}
}

// ran reports whether a sample is of a running container: of others the engine
// sends zeroes.
func ran(s *container.StatsResponse) bool {
	return !s.Read.IsZero() && (s.CPUStats.CPUUsage.TotalUsage > 0 || s.PidsStats.Current > 0 || s.MemoryStats.Usage > 0 || s.NumProcs > 0)
}

// sample reads one answer of the engine. It is pure.
func sample(s *container.StatsResponse) runtime.Stats {
	out := runtime.Stats{
		Time:        s.Read,
		CPUNanos:    s.CPUStats.CPUUsage.TotalUsage,
		SystemNanos: s.CPUStats.SystemUsage,
		OnlineCPUs:  int(s.CPUStats.OnlineCPUs),
		Memory:      memoryInUse(&s.MemoryStats),
		MemoryLimit: s.MemoryStats.Limit,
		Pids:        s.PidsStats.Current,
	}
	if out.OnlineCPUs == 0 {
		out.OnlineCPUs = len(s.CPUStats.CPUUsage.PercpuUsage)
	}
	for _, n := range s.Networks {
		out.NetRx += n.RxBytes
		out.NetTx += n.TxBytes
	}
	for _, b := range s.BlkioStats.IoServiceBytesRecursive {
		switch strings.ToLower(b.Op) { // cgroup v1 writes "Read", v2 "read"
		case "read":
			out.BlkRead += b.Value
		case "write":
			out.BlkWrite += b.Value
		}
	}
	return out
}

// memoryInUse is the usage without the file cache the kernel would give up
// first. The counter is hierarchical on cgroup v1 and named otherwise on v2.
func memoryInUse(m *container.MemoryStats) uint64 {
	cache, v1 := m.Stats["total_inactive_file"]
	if !v1 {
		cache = m.Stats["inactive_file"]
	}
	if cache >= m.Usage {
		return m.Usage
	}
	return m.Usage - cache
}
