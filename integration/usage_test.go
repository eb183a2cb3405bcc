package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/berth-dev/berth/internal/testimage"
	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/runtime/docker"
	"github.com/berth-dev/berth/runtime/usage"
	"github.com/berth-dev/berth/scaling"
)

// sampled starts a container that computes, and returns what the engine says of it.
func sampled(t *testing.T, engine *docker.Engine, spec *runtime.Spec) runtime.Container {
	t.Helper()
	spec.Image, spec.Command = testimage.Ensure(t, engine), []string{"burn"}
	name := fmt.Sprintf("berth-usage-%d-%d", os.Getpid(), time.Now().UnixNano())
	id, err := engine.Create(t.Context(), name, map[string]string{"dev.berth.test": "usage"}, spec, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := lateContext(t)
		defer cancel()
		if err := engine.Remove(ctx, id, true, true); err != nil {
			t.Errorf("%s is left: %v", name, err)
		}
	})
	if err := engine.Start(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	c, err := engine.Inspect(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// What is read of the kernel is what the engine says: each of its counters lies
// between what was read before and after.
func TestUsageIsTheEngines(t *testing.T) {
	engine, err := docker.Open(t.Context(), docker.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = engine.Close() }()
	cases := map[string]*runtime.Spec{
		"plain":             {},
		"limited":           {Limits: runtime.Limits{Memory: 64 << 20}},
		"below a parent":    {Fixed: runtime.Fixed{CgroupParent: ownParent(t, engine)}},
		"machine's network": {NetworkMode: "host"},
	}
	for name, spec := range cases {
		t.Run(name, func(t *testing.T) {
			c := sampled(t, engine, spec)
			reader := usage.New(usage.Config{}) // with no engine to ask
			defer func() { _ = reader.Close() }()
			read := func() runtime.Stats {
				s, ok := reader.Stats(t.Context(), []runtime.Container{c})[c.ID]
				if !ok {
					t.Fatal("it cannot be read")
				}
				return s
			}
			first := read()
			for {
				before, said := read(), runtime.Stats{}
				if err := engine.Stats(t.Context(), c.ID, false, func(s runtime.Stats) bool { said = s; return false }); err != nil {
					t.Fatal(err)
				}
				after := read()
				within(t, before, said, after)
				if u, err := scaling.UsageBetween(first, after); err == nil && u.Window > time.Second {
					if u.CPU < 50 {
						t.Errorf("%d millicores of a container that computes without end", u.CPU)
					}
					return
				}
			}
		})
	}
}

// ownParent is a cgroup that containers may be put below, and that goes with the
// test: systemd ends an empty slice by itself.
func ownParent(t *testing.T, engine *docker.Engine) string {
	t.Helper()
	info, err := engine.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("berth-usage-%d", os.Getpid())
	if info.CgroupDriver == "systemd" {
		return name + ".slice"
	}
	t.Cleanup(func() {
		for _, pattern := range []string{"/sys/fs/cgroup/*/", "/sys/fs/cgroup/"} {
			left, _ := filepath.Glob(pattern + name)
			for _, dir := range left {
				if err := os.Remove(dir); err != nil {
					t.Errorf("a cgroup is left: %v", err)
				}
			}
		}
	})
	return "/" + name
}

// within fails the test unless a sample of the engine's lies between two others.
func within(t *testing.T, before, said, after runtime.Stats) {
	t.Helper()
	for _, n := range []struct {
		name                string
		before, said, after uint64
	}{
		{"CPU time", before.CPUNanos, said.CPUNanos, after.CPUNanos},
		{"machine's CPU time", before.SystemNanos, said.SystemNanos, after.SystemNanos},
		{"received", before.NetRx, said.NetRx, after.NetRx},
		{"sent", before.NetTx, said.NetTx, after.NetTx},
		{"read", before.BlkRead, said.BlkRead, after.BlkRead},
		{"written", before.BlkWrite, said.BlkWrite, after.BlkWrite},
	} {
		if n.said < n.before || n.said > n.after {
			t.Errorf("%s: the engine says %d, read %d before and %d after", n.name, n.said, n.before, n.after)
		}
	}
	if said.MemoryLimit != after.MemoryLimit || said.OnlineCPUs != after.OnlineCPUs {
		t.Errorf("memory limit %d and %d CPUs; the engine says %d and %d", after.MemoryLimit, after.OnlineCPUs, said.MemoryLimit, said.OnlineCPUs)
	}
	const slack = 1 << 20 // it goes up and down between the samples
	if said.Memory+slack < min(before.Memory, after.Memory) || said.Memory > max(before.Memory, after.Memory)+slack {
		t.Errorf("memory: the engine says %d, read %d before and %d after", said.Memory, before.Memory, after.Memory)
	}
}
