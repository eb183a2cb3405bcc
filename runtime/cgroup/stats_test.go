package cgroup

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/runtime"
)

// The files are as a kernel writes them for a node that two containers press.
func TestPressureOnV1(t *testing.T) {
	m, tr := newV1(t)
	l := localOn(tr)
	ensure(t, l, someLimits)
	const node = "/berth/01234567/edge-1.node/"
	m.set(t, "memory"+node+"memory.usage_in_bytes", "134217728\n")
	m.set(t, "memory"+node+"memory.stat", "cache 52428800\nrss 80000000\ninactive_file 1024\ntotal_inactive_file 34217728\n")
	m.set(t, "memory"+node+"memory.failcnt", "19\n")
	m.set(t, "memory"+node+"memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n")
	m.set(t, "memory"+node+"c1/memory.usage_in_bytes", "50000000\n")
	m.set(t, "memory"+node+"c1/memory.stat", "total_inactive_file 10000000\n")
	m.set(t, "memory"+node+"c1/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
	m.set(t, "memory"+node+"c1/inner/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n")
	m.set(t, "memory"+node+"c0/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n")
	m.set(t, "pids"+node+"pids.current", "12\n")
	m.set(t, "pids"+node+"c1/pids.current", "11\n")
	m.set(t, "pids"+node+"c1/pids.events", "max 5\n")
	m.set(t, "cpu,cpuacct,cpuset"+node+"cpuacct.usage", "1234567890\n")
	m.set(t, "cpu,cpuacct,cpuset"+node+"cpu.stat", "nr_periods 40\nnr_throttled 30\nthrottled_time 2500000000\n")
	m.set(t, "devices"+node+"left/cgroup.procs", "") // a leftover that uses nothing

	got, err := l.pressure(t.Context(), "edge-1")
	if err != nil {
		t.Fatal(err)
	}
	want := runtime.Pressure{
		Memory: 100_000_000, MemoryLimit: 256 * mib, MemoryHits: 19, OOMKills: 3, CPUNanos: 1_234_567_890, Periods: 40,
		ThrottledPeriods: 30, Throttled: 2500 * time.Millisecond, Pids: 12, PidsLimit: 100, PidsRefused: 5,
		Containers: []runtime.ContainerPressure{{ID: "c0"}, {ID: "c1", Memory: 40_000_000, Pids: 11, OOMKills: 3}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestPressureOnV2(t *testing.T) {
	m, tr := newV2(t)
	l := localOn(tr)
	ensure(t, l, someLimits)
	const node = "berth/01234567/edge-1.node/"
	m.set(t, node+"memory.current", "134217728\n")
	m.set(t, node+"memory.stat", "anon 80000000\nfile 52428800\ninactive_file 34217728\n")
	m.set(t, node+"memory.events", "low 0\nhigh 0\nmax 19\noom 3\noom_kill 3\noom_group_kill 0\n")
	m.set(t, node+"memory.events.local", "low 0\nhigh 0\nmax 19\noom 2\noom_kill 0\noom_group_kill 0\n")
	m.set(t, node+"docker-c1.scope/memory.current", "40000000\n")
	m.set(t, node+"docker-c1.scope/memory.events", "low 0\nhigh 0\nmax 0\noom 0\noom_kill 2\n")
	m.set(t, node+"docker-c1.scope/pids.current", "11\n")
	m.set(t, node+"pids.current", "12\n")
	m.set(t, node+"pids.events", "max 5\n")
	m.set(t, node+"cpu.stat", "usage_usec 1234567\nuser_usec 1000000\nsystem_usec 234567\nnr_periods 40\nnr_throttled 30\nthrottled_usec 2500000\n")

	got, err := l.pressure(t.Context(), "edge-1")
	if err != nil {
		t.Fatal(err)
	}
	want := runtime.Pressure{
		Memory: 100_000_000, MemoryLimit: 256 * mib, MemoryHits: 19, OOMKills: 3, NodeOOMs: 2, CPUNanos: 1_234_567_000, Periods: 40,
		ThrottledPeriods: 30, Throttled: 2500 * time.Millisecond, Pids: 12, PidsLimit: 100, PidsRefused: 5,
		Containers: []runtime.ContainerPressure{{ID: "c1", Memory: 40_000_000, Pids: 11, OOMKills: 2}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestPressureOfNothing(t *testing.T) {
	_, tr := newV2(t)
	if _, err := localOn(tr).pressure(t.Context(), "edge-1"); !runtime.IsNotFound(err) {
		t.Errorf("got %v", err)
	}
}

func TestLimitsAsTheKernelWritesThem(t *testing.T) {
	for content, want := range map[string]string{
		"max\n": "max", "-1\n": "max", "9223372036854771712\n": "max", "9223372036854775807": "max", "0\n": "0", "50000 100000\n": "50000 100000", "max 100000": "max 100000", " 7 ": "7",
	} {
		if got := normal(content); got != want {
			t.Errorf("%q: %q, want %q", content, got, want)
		}
	}
}

func TestFindTree(t *testing.T) {
	m, tr := newV1(t)
	if tr.version != 1 || len(tr.dirs) != 5 || len(tr.limiting()) != 3 || tr.of["devices"] != m.base+"/devices" {
		t.Errorf("%+v", tr)
	}
	if _, known := tr.of["rw"]; known {
		t.Error("a mount option is taken for a controller")
	}
	_, tr = newV2(t)
	if tr.version != 2 || len(tr.dirs) != 1 || !slices.Contains(tr.limiting(), tr.dirs[0]) {
		t.Errorf("%+v", tr)
	}
}
