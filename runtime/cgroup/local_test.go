package cgroup

import (
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"github.com/berth-dev/berth/runtime"
)

const testOwner = "0123456789abcdef"

const mib = 1 << 20

var someLimits = runtime.NodeLimits{CPUs: 500, Memory: 256 * mib, Pids: 100}

func localOn(tr *tree) *local { return &local{tree: tr, driver: DriverCgroupfs, owner: testOwner} }

// wantText compares texts of several lines, blanks around lines aside.
func wantText(t *testing.T, got, want string) {
	t.Helper()
	var lines []string
	for line := range strings.Lines(strings.TrimSpace(want)) {
		lines = append(lines, strings.TrimSpace(line))
	}
	if want = strings.Join(lines, "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func ensure(t *testing.T, l *local, limits runtime.NodeLimits) report {
	t.Helper()
	r, err := l.ensure(t.Context(), "edge-1", limits)
	if err != nil {
		t.Fatal(err)
	}
	if r.Parent != "/berth/01234567/edge-1.node" {
		t.Errorf("parent %q", r.Parent)
	}
	return r
}

func TestEnsureOnV1(t *testing.T) {
	m, tr := newV1(t)
	l := localOn(tr)
	if r := ensure(t, l, someLimits); !r.Made || len(r.Missing) > 0 {
		t.Errorf("%+v", r)
	}
	wantText(t, m.written(), `
		cpu,cpuacct,cpuset/berth/cpuset.cpus=0-1
		cpu,cpuacct,cpuset/berth/cpuset.mems=0
		cpu,cpuacct,cpuset/berth/01234567/cpuset.cpus=0-1
		cpu,cpuacct,cpuset/berth/01234567/cpuset.mems=0
		cpu,cpuacct,cpuset/berth/01234567/edge-1.node/cpuset.cpus=0-1
		cpu,cpuacct,cpuset/berth/01234567/edge-1.node/cpuset.mems=0
		cpu,cpuacct,cpuset/berth/01234567/edge-1.node/cpu.cfs_quota_us=50000
		memory/berth/01234567/edge-1.node/memory.limit_in_bytes=268435456
		memory/berth/01234567/edge-1.node/memory.memsw.limit_in_bytes=268439552
		pids/berth/01234567/edge-1.node/pids.max=100`)
	if r := ensure(t, l, someLimits); r.Made || len(r.Drift) > 0 || m.written() != "" {
		t.Errorf("set once more: %+v", r)
	}

	// Each way up and down, in an order that the kernel takes.
	ensure(t, l, runtime.NodeLimits{CPUs: 5, Memory: 512 * mib})
	wantText(t, m.written(), `
		cpu,cpuacct,cpuset/berth/01234567/edge-1.node/cpu.cfs_quota_us=-1
		cpu,cpuacct,cpuset/berth/01234567/edge-1.node/cpu.cfs_period_us=1000000
		cpu,cpuacct,cpuset/berth/01234567/edge-1.node/cpu.cfs_quota_us=5000
		memory/berth/01234567/edge-1.node/memory.memsw.limit_in_bytes=536875008
		memory/berth/01234567/edge-1.node/memory.limit_in_bytes=536870912
		pids/berth/01234567/edge-1.node/pids.max=max`)
	ensure(t, l, runtime.NodeLimits{Memory: 100_000_000})
	wantText(t, m.written(), `
		cpu,cpuacct,cpuset/berth/01234567/edge-1.node/cpu.cfs_quota_us=-1
		cpu,cpuacct,cpuset/berth/01234567/edge-1.node/cpu.cfs_period_us=100000
		cpu,cpuacct,cpuset/berth/01234567/edge-1.node/cpu.cfs_quota_us=-1
		memory/berth/01234567/edge-1.node/memory.limit_in_bytes=99999744
		memory/berth/01234567/edge-1.node/memory.memsw.limit_in_bytes=100003840`)
}

func TestEnsureOnV2(t *testing.T) {
	m, tr := newV2(t)
	l := localOn(tr)
	if r := ensure(t, l, someLimits); !r.Made || len(r.Missing) > 0 {
		t.Errorf("%+v", r)
	}
	wantText(t, m.written(), `
		cgroup.subtree_control=+cpu +pids
		berth/cgroup.subtree_control=+cpu +memory +pids
		berth/01234567/cgroup.subtree_control=+cpu +memory +pids
		berth/01234567/edge-1.node/cgroup.subtree_control=+cpu +memory +pids
		berth/01234567/edge-1.node/cpu.max=50000 100000
		berth/01234567/edge-1.node/memory.max=268435456
		berth/01234567/edge-1.node/memory.swap.max=0
		berth/01234567/edge-1.node/pids.max=100`)
	if r := ensure(t, l, someLimits); r.Made || len(r.Drift) > 0 || m.written() != "" {
		t.Errorf("set once more: %+v", r)
	}
	ensure(t, l, runtime.NodeLimits{CPUs: 1})
	wantText(t, m.written(), `
		berth/01234567/edge-1.node/cpu.max=1000 1000000
		berth/01234567/edge-1.node/memory.max=max
		berth/01234567/edge-1.node/memory.swap.max=max
		berth/01234567/edge-1.node/pids.max=max`)
}

// What differs is told and set back, in each version.
func TestEnsureTellsDrift(t *testing.T) {
	for name, c := range map[string]struct {
		make  func(*testing.T) (*model, *tree)
		files map[string]string
		drift []string
	}{
		"v1": {newV1, map[string]string{
			"cpu,cpuacct,cpuset/berth/01234567/edge-1.node/cpu.cfs_quota_us": "-1",
			"memory/berth/01234567/edge-1.node/memory.memsw.limit_in_bytes":  "9223372036854771712",
			"memory/berth/01234567/edge-1.node/memory.limit_in_bytes":        "9223372036854771712",
			"pids/berth/01234567/edge-1.node/pids.max":                       "7",
		}, []string{
			"cpu.cfs_quota_us was unlimited and is 50000 again",
			"memory.limit_in_bytes was unlimited and is 268435456 again",
			"memory.memsw.limit_in_bytes was unlimited and is 268439552 again",
			"pids.max was 7 and is 100 again",
		}},
		"v2": {newV2, map[string]string{
			"berth/01234567/edge-1.node/cpu.max":         "max 100000",
			"berth/01234567/edge-1.node/memory.max":      "1073741824",
			"berth/01234567/edge-1.node/memory.swap.max": "max",
			"berth/01234567/edge-1.node/pids.max":        "max",
		}, []string{
			"cpu.max was max 100000 and is 50000 100000 again",
			"memory.max was 1073741824 and is 268435456 again",
			"memory.swap.max was unlimited and is 0 again",
			"pids.max was unlimited and is 100 again",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			m, tr := c.make(t)
			l := localOn(tr)
			ensure(t, l, someLimits)
			for file, content := range c.files {
				m.set(t, file, content+"\n")
			}
			if r := ensure(t, l, someLimits); r.Made || !slices.Equal(r.Drift, c.drift) {
				t.Errorf("drift: %q", r.Drift)
			}
			if r := ensure(t, l, someLimits); len(r.Drift) > 0 {
				t.Errorf("set back, and still %q", r.Drift)
			}
		})
	}
}

// A kernel without a controller, or without a file, leaves the limit out and says
// which; without a limit asked for nothing is missing.
func TestEnsureWithoutController(t *testing.T) {
	m, tr := newV1(t)
	delete(tr.of, pids)
	l := localOn(tr)
	if r := ensure(t, l, someLimits); !slices.Equal(r.Missing, []string{"pids"}) {
		t.Errorf("missing %v, want pids", r.Missing)
	}
	if r := ensure(t, l, runtime.NodeLimits{Memory: mib}); len(r.Missing) > 0 {
		t.Errorf("missing %v, and no such limit is asked for", r.Missing)
	}
	if got := m.holds(t, "memory/berth/01234567/edge-1.node/memory.limit_in_bytes"); got != "1048576" {
		t.Errorf("memory: %s", got)
	}

	m2, _ := newV2(t)
	m2.set(t, "cgroup.controllers", "memory pids\n")
	if r := ensure(t, localOn(m2.tree(t, "")), someLimits); !slices.Equal(r.Missing, []string{"cpus"}) {
		t.Errorf("missing %v, want cpus", r.Missing)
	}
}

func TestEnsureRefuses(t *testing.T) {
	m, tr := newV1(t)
	l := localOn(tr)
	node := "/berth/01234567/edge-1.node"
	for name, c := range map[string]struct {
		node   string
		limits runtime.NodeLimits
		before func()
		kind   runtime.Kind
		says   string
	}{
		"name":     {node: "../../etc", kind: runtime.KindInvalid, says: "the name must be"},
		"negative": {node: "edge-1", limits: runtime.NodeLimits{Memory: -1}, kind: runtime.KindInvalid, says: "negative"},
		"in use": {node: "edge-1", limits: runtime.NodeLimits{Memory: 64 * mib}, before: func() {
			m.set(t, "memory"+node+"/memory.usage_in_bytes", "104857600\n")
			m.set(t, "memory"+node+"/memory.stat", "total_inactive_file 20971520\n")
		}, kind: runtime.KindConflict, says: "its containers hold 83886080 bytes of memory, more than the limit of 67108864"},
		"a child's quota": {node: "edge-1", limits: runtime.NodeLimits{CPUs: 100}, before: func() {
			m.must(t, m.mkdir(filepath.Join(m.base, "cpu,cpuacct,cpuset"+node, "c")))
			m.set(t, "cpu,cpuacct,cpuset"+node+"/c/cpu.cfs_quota_us", "20000\n")
		}, kind: runtime.KindConflict, says: "may use more CPU than the node would have"},
	} {
		t.Run(name, func(t *testing.T) {
			ensure(t, l, runtime.NodeLimits{CPUs: 1000, Memory: 256 * mib})
			if c.before != nil {
				c.before()
			}
			m.writes = nil
			_, err := l.ensure(t.Context(), c.node, c.limits)
			if runtime.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %s: %s", err, c.kind, c.says)
			}
			if got := m.holds(t, "memory"+node+"/memory.limit_in_bytes"); got != "268435456" {
				t.Errorf("the limit is %s now", got)
			}
			m.set(t, "memory"+node+"/memory.usage_in_bytes", "0\n")
		})
	}
}

// What cannot be limited does not stay half made.
func TestEnsureLeavesNothingHalfMade(t *testing.T) {
	for _, make := range []func(*testing.T) (*model, *tree){newV1, newV2} {
		m, tr := make(t)
		tr.kernel.write = func(file, value string) error {
			if path.Base(file) == pidsMax {
				return syscall.EIO
			}
			return m.write(file, value)
		}
		_, err := localOn(tr).ensure(t.Context(), "edge-1", someLimits)
		if runtime.KindOf(err) != runtime.KindUnavailable || !strings.Contains(err.Error(), "set the limits of node edge-1: write 100 to pids.max: input/output error") {
			t.Errorf("got %v", err)
		}
		if left := m.groups(t); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	}
}

func TestWritable(t *testing.T) {
	m, tr := newV1(t)
	if err := localOn(tr).writable(); err != nil || len(m.groups(t)) > 0 {
		t.Errorf("%v, left %v", err, m.groups(t))
	}
	tr.kernel.mkdir = func(string) error { return syscall.EROFS }
	if err := localOn(tr).writable(); err == nil {
		t.Error("a file system that is read-only is writable")
	}
}

func TestRemoveAndList(t *testing.T) {
	for name, newTree := range map[string]func(*testing.T) (*model, *tree){"v1": newV1, "v2": newV2} {
		t.Run(name, func(t *testing.T) {
			m, tr := newTree(t)
			l := localOn(tr)
			for _, n := range []string{"b", "a", "tasks"} {
				if _, err := l.ensure(t.Context(), n, someLimits); err != nil {
					t.Fatal(err)
				}
			}
			hierarchy, other := "memory/", "devices/"
			if name == "v2" {
				hierarchy, other = "", ""
			}
			// The engine makes cgroups in every hierarchy, and others may be beside ours.
			for _, dir := range []string{other + "berth/01234567/a.node/c1/sub", hierarchy + "berth/01234567/a.node/c1", hierarchy + "berth/ffffffff/x.node", hierarchy + "berth/01234567/foreign"} {
				at := m.base
				for part := range strings.SplitSeq(dir, "/") {
					at = filepath.Join(at, part)
					if err := m.mkdir(at); err != nil && !strings.Contains(err.Error(), "exists") {
						t.Fatal(err)
					}
				}
			}
			if got, err := l.list(t.Context()); err != nil || !slices.Equal(got, []string{"a", "b", "tasks"}) {
				t.Errorf("nodes %v, %v", got, err)
			}

			procs := hierarchy + "berth/01234567/a.node/c1/cgroup.procs"
			m.set(t, procs, "17\n18\n")
			err := l.remove(t.Context(), "a")
			if !runtime.IsConflict(err) || err.Error() != "remove the cgroup of node a: it holds 2 processes of container c1" {
				t.Errorf("got %v", err)
			}
			m.set(t, procs, "")
			for _, n := range []string{"a", "b", "tasks", "a"} {
				if err := l.remove(t.Context(), n); err != nil {
					t.Error(err)
				}
			}
			left := m.groups(t)
			left = slices.DeleteFunc(left, func(g string) bool {
				return strings.HasSuffix(g, "/ffffffff") || strings.HasSuffix(g, "/x.node") || strings.HasSuffix(g, "/foreign")
			})
			for _, g := range left {
				if strings.Contains(g, ".node") {
					t.Errorf("left: %s", g)
				}
			}
			if got := m.holds(t, hierarchy+"berth/ffffffff/x.node/cgroup.procs"); got != "" {
				t.Error("what is another installation's was touched")
			}
		})
	}
}

// Whatever limits follow each other, the kernel refuses none of the writes, and in
// the end the files say what is asked for.
func TestAnyLimitsFollowAnyLimits(t *testing.T) {
	_, v1 := newV1(t)
	_, v2 := newV2(t)
	rapid.Check(t, func(rt *rapid.T) { // each case goes on where the last one ended
		limits := runtime.NodeLimits{
			CPUs:   rapid.SampledFrom([]int64{0, 1, 2, 9, 10, 11, 500, 64_000}).Draw(rt, "cpus"),
			Memory: rapid.OneOf(rapid.Just(int64(0)), rapid.Int64Range(1<<20, 1<<40)).Draw(rt, "memory"),
			Pids:   rapid.Int64Range(0, 1<<22).Draw(rt, "pids"),
		}
		for _, tr := range []*tree{v1, v2} {
			l := localOn(tr)
			if _, err := l.ensure(t.Context(), "n", limits); err != nil {
				rt.Fatalf("%+v: %v", limits, err)
			}
			p, err := l.place("n")
			if err != nil {
				rt.Fatal(err)
			}
			if todo, _, missing := changes(tr.version, l.current(p.rel), limits); len(todo)+len(missing) > 0 {
				rt.Fatalf("%+v: still to do: %v, missing: %v", limits, todo, missing)
			}
		}
	})
}
