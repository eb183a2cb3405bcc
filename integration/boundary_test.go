package integration

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/berth-dev/berth/internal/testimage"
	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/runtime/cgroup"
	"github.com/berth-dev/berth/runtime/docker"
)

const mib = 1 << 20

// bounded is an installation with boundaries on the real engine.
type bounded struct {
	*cgroup.Boundaries
	t      *testing.T
	engine *docker.Engine
	info   runtime.EngineInfo
	owner  string
	image  string
}

// eachWay runs a test once with cgroups written directly and once by helpers.
func eachWay(t *testing.T, test func(t *testing.T, b *bounded)) {
	t.Helper()
	for name, helper := range map[string]bool{"direct": false, "helper": true} {
		t.Run(name, func(t *testing.T) { test(t, newBounded(t, helper)) })
	}
}

func newBounded(t *testing.T, helper bool) *bounded {
	t.Helper()
	engine, err := docker.Open(t.Context(), docker.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = engine.Close() })
	info, err := engine.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b := &bounded{t: t, engine: engine, info: info, owner: randomHex(t, 8), image: testimage.Ensure(t, engine)}
	t.Cleanup(b.nothingLeft)
	b.reopen(helper)
	return b
}

// reopen is what a new daemon does.
func (b *bounded) reopen(helper bool) {
	b.t.Helper()
	b.Boundaries = cgroup.Open(b.t.Context(), cgroup.Config{Owner: b.owner, Info: b.info, Engine: b.engine, Program: shared.binary, HelperOnly: helper})
	want := "written by the daemon"
	if helper {
		want = "written by a helper container"
	}
	if !strings.HasPrefix(b.How(), want) {
		b.t.Fatalf("boundaries are %s; want %s", b.How(), want)
	}
}

// nothingLeft fails when a helper or a cgroup stays.
func (b *bounded) nothingLeft() {
	ctx, cancel := lateContext(b.t)
	defer cancel()
	nodes, err := b.List(ctx)
	if err != nil {
		b.t.Error(err)
	}
	for _, n := range nodes {
		if err := b.Remove(ctx, n); err != nil {
			b.t.Error(err)
		}
	}
	left, _ := filepath.Glob("/sys/fs/cgroup/*/berth/" + b.owner[:8])
	also, _ := filepath.Glob("/sys/fs/cgroup/berth*/*" + b.owner[:8] + "*")
	if left = append(left, also...); len(left) > 0 {
		b.t.Errorf("cgroups are left: %s", left)
	}
	list, err := b.engine.List(ctx, runtime.Filter{Labels: runtime.HelperLabels(b.owner)})
	if err != nil || len(list) > 0 {
		b.t.Errorf("%d helpers are left, %v", len(list), err)
	}
	if err := b.engine.RemoveImage(ctx, cgroup.HelperImage, false); err != nil && !runtime.IsNotFound(err) && !runtime.IsConflict(err) {
		b.t.Errorf("the helper's image stays: %v", err)
	}
}

func (b *bounded) node(name string, l runtime.NodeLimits) string {
	b.t.Helper()
	got, err := b.Ensure(b.t.Context(), name, l)
	if err != nil {
		b.t.Fatal(err)
	}
	if !got.Enforced || got.Parent == "" || got.Why != "" || len(got.Drift) > 0 {
		b.t.Fatalf("the boundary of %s: %+v", name, got)
	}
	return got.Parent
}

// start runs the workload below a cgroup parent. It goes with the test.
func (b *bounded) start(parent string, change func(*runtime.Spec), args ...string) string {
	b.t.Helper()
	spec := &runtime.Spec{Image: b.image, Command: args, NetworkMode: "none", Fixed: runtime.Fixed{CgroupParent: parent}}
	if change != nil {
		change(spec)
	}
	id := b.createOn(b.engine, spec)
	if err := b.engine.Start(b.t.Context(), id); err != nil {
		b.t.Fatal(err)
	}
	return id
}

// createOn makes a container that goes with the test.
func (b *bounded) createOn(engine *docker.Engine, spec *runtime.Spec) string {
	b.t.Helper()
	id, err := engine.Create(b.t.Context(), "bnd-"+randomHex(b.t, 6), map[string]string{"berth.test": b.owner}, spec, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		ctx, cancel := lateContext(b.t)
		defer cancel()
		if err := engine.Remove(ctx, id, true, true); err != nil && !runtime.IsNotFound(err) {
			b.t.Error(err)
		}
	})
	return id
}

// lateContext is for what is done after a test's own context has ended.
func lateContext(t *testing.T) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
}

func randomHex(t *testing.T, n int) string {
	t.Helper()
	b := make([]byte, n)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(b)
}

func (b *bounded) gone(ctx context.Context, ids ...string) {
	b.t.Helper()
	for _, id := range ids {
		if err := b.engine.Remove(ctx, id, true, true); err != nil && !runtime.IsNotFound(err) {
			b.t.Error(err)
		}
	}
}

func (b *bounded) wait(id string) int {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 30*time.Second)
	defer cancel()
	s, err := b.engine.Wait(ctx, id)
	if err != nil {
		b.t.Fatal(err)
	}
	return s.Code
}

// says waits until a container has written text.
func (b *bounded) says(id, text string) {
	b.t.Helper()
	b.eventually(func() error {
		if out := b.output(id); !strings.Contains(out, text) {
			return fmt.Errorf("it wrote %q", out)
		}
		return nil
	})
}

func (b *bounded) output(id string) string {
	b.t.Helper()
	var out bytes.Buffer
	if err := b.engine.Logs(b.t.Context(), id, runtime.LogOptions{Tail: -1, Stdout: true, Stderr: true}, &out, &out); err != nil {
		b.t.Fatal(err)
	}
	return out.String()
}

func (b *bounded) eventually(check func() error) {
	b.t.Helper()
	var err error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		if err = check(); err == nil {
			return
		}
		<-time.After(50 * time.Millisecond)
	}
	b.t.Fatal(err)
}

// unharmed fails when a container does not run on as it did.
func (b *bounded) unharmed(id string, since time.Time) {
	b.t.Helper()
	c, err := b.engine.Inspect(b.t.Context(), id)
	if err != nil {
		b.t.Fatal(err)
	}
	if c.State != runtime.Running || c.RestartCount != 0 || !c.Started.Equal(since) {
		b.t.Errorf("%s is %s, restarted %d times, started %s instead of %s", c.Name, c.State, c.RestartCount, c.Started, since)
	}
}

func (b *bounded) started(id string) time.Time {
	b.t.Helper()
	c, err := b.engine.Inspect(b.t.Context(), id)
	if err != nil {
		b.t.Fatal(err)
	}
	return c.Started
}

func (b *bounded) pressure(node string) runtime.Pressure {
	b.t.Helper()
	p, err := b.Pressure(b.t.Context(), node)
	if err != nil {
		b.t.Fatal(err)
	}
	return p
}

// file is a node's file on the host.
func (b *bounded) file(controller, parent, v1, v2 string) string {
	if b.info.CgroupVersion == 2 {
		return filepath.Join("/sys/fs/cgroup", parent, v2)
	}
	return filepath.Join("/sys/fs/cgroup", controller, parent, v1)
}

// Faults 24 and 26: a container without a limit of its own outgrows its node, and
// is killed inside it. The other node notices nothing, nor does its neighbour.
func TestNodeMemoryStaysInside(t *testing.T) {
	eachWay(t, func(t *testing.T, b *bounded) {
		limits := runtime.NodeLimits{CPUs: 1000, Memory: 128 * mib, Pids: 100}
		a, other := b.node("edge-1", limits), b.node("edge-2", limits)
		calm := b.start(other, nil, "alloc", strconv.Itoa(32*mib))
		small := b.start(a, nil, "sleep")
		b.says(calm, "allocated")
		b.says(small, "sleeping")
		calmSince, smallSince := b.started(calm), b.started(small)

		hog := b.start(a, nil, "alloc", strconv.Itoa(300*mib))
		if code := b.wait(hog); code != 137 {
			t.Fatalf("300 MiB in a node of 128 MiB: exit code %d, want 137", code)
		}
		b.unharmed(calm, calmSince)
		b.unharmed(small, smallSince)

		p := b.pressure("edge-1")
		if p.OOMKills != 1 || p.NodeOOMs != 1 || p.MemoryHits == 0 || p.MemoryLimit != 128*mib {
			t.Errorf("the node's pressure: %+v", p)
		}
		if all, byNode := p.OOMKilled(hog); all != 1 || byNode != 1 {
			t.Errorf("the container that was hit: %d kills, %d by its node, of %+v", all, byNode, p.Containers)
		}
		if all, _ := p.OOMKilled(small); all != 0 {
			t.Errorf("its neighbour is said to be hit: %+v", p.Containers)
		}
		if q := b.pressure("edge-2"); q.OOMKills != 0 || q.Memory < 32*mib || q.Memory > 128*mib || len(q.Containers) != 1 || q.Containers[0].ID != calm {
			t.Errorf("the other node's pressure: %+v", q)
		}

		// A container's own limit is not its node's.
		own := b.start(a, func(s *runtime.Spec) { s.Limits.Memory = 32 * mib }, "alloc", strconv.Itoa(64*mib))
		if code := b.wait(own); code != 137 {
			t.Fatalf("exit code %d, want 137", code)
		}
		p = b.pressure("edge-1")
		if all, byNode := p.OOMKilled(own); all != 1 || byNode != 0 || p.OOMKills != 2 || p.NodeOOMs != 1 {
			t.Errorf("killed for its own limit: %d kills, %d by its node; %+v", all, byNode, p)
		}
		b.gone(t.Context(), hog, own, small, calm)
	})
}

// Two containers that would use a core each get a fifth of one together, however
// much of the machine is free.
func TestNodeCPUIsShared(t *testing.T) {
	b := newBounded(t, false)
	parent := b.node("fifth", runtime.NodeLimits{CPUs: 200})
	one, two := b.start(parent, nil, "burn"), b.start(parent, nil, "burn")
	b.says(one, "burning")
	b.says(two, "burning")
	b.eventually(func() error { // a machine that has no fifth to spare throttles nothing
		begin, before := time.Now(), b.pressure("fifth")
		<-time.After(4 * time.Second)
		after, took := b.pressure("fifth"), time.Since(begin)
		used := time.Duration(after.CPUNanos - before.CPUNanos)
		share := used.Seconds() / took.Seconds()
		t.Logf("%.3f CPUs of 0.2 over %s, throttled in %d of %d periods", share, took.Round(time.Millisecond), after.ThrottledPeriods-before.ThrottledPeriods, after.Periods-before.Periods)
		if share > 0.24 {
			t.Errorf("two burners used %.3f CPUs of a node with 0.2", share)
		}
		if share < 0.1 || after.ThrottledPeriods <= before.ThrottledPeriods || after.Throttled <= before.Throttled {
			return fmt.Errorf("they used %.3f CPUs, and nothing tells of throttling: %+v", share, after)
		}
		return nil
	})
	b.gone(t.Context(), one, two)
}

// The node's limit of processes holds for its containers together.
func TestNodePidsAreShared(t *testing.T) {
	b := newBounded(t, false)
	free := b.start(b.node("many", runtime.NodeLimits{}), nil, "spawn", "12")
	b.says(free, "spawned 12")

	parent := b.node("few", runtime.NodeLimits{Pids: 24})
	calm := b.start(parent, nil, "sleep")
	b.says(calm, "sleeping")
	since := b.started(calm)
	greedy := b.start(parent, nil, "spawn", "12")
	if code := b.wait(greedy); code == 0 || strings.Contains(b.output(greedy), "spawned") {
		t.Errorf("twelve programs of some threads each in a node of 24: exit code %d, %s", code, b.output(greedy))
	}
	// A count that outlives the attempt: that of a container which runs on.
	var out bytes.Buffer
	code, err := b.engine.Exec(t.Context(), calm, runtime.ExecSpec{Command: []string{testimage.Program, "spawn", "12"}}, runtime.Streams{Out: &out, Err: &out})
	if err != nil || code == 0 {
		t.Errorf("a program of the other container: exit code %d, %v: %s", code, err, &out)
	}
	if p := b.pressure("few"); p.PidsRefused == 0 || p.PidsLimit != 24 || p.Pids == 0 || p.Pids > 24 {
		t.Errorf("the node's pressure: %+v", p)
	}
	b.unharmed(calm, since)
	b.gone(t.Context(), free, greedy, calm)
}

// The boundary is what a container itself sees.
func TestBoundaryFromInside(t *testing.T) {
	eachWay(t, func(t *testing.T, b *bounded) {
		parent := b.node("edge-1", runtime.NodeLimits{CPUs: 250, Memory: 96 * mib, Pids: 77})
		look := func(args ...string) string {
			t.Helper()
			id := b.start(parent, func(s *runtime.Spec) {
				s.CgroupNS = "host"
				s.Mounts = []runtime.Mount{{Type: runtime.MountBind, Source: "/sys/fs/cgroup", Target: "/host", ReadOnly: true}}
			}, args...)
			if code := b.wait(id); code != 0 {
				t.Fatalf("%v: exit code %d: %s", args, code, b.output(id))
			}
			return b.output(id)
		}
		for line := range strings.Lines(look("readfile", "/proc/self/cgroup")) {
			if path := strings.SplitN(line, ":", 3)[2]; !strings.HasPrefix(path, parent+"/") && !strings.Contains(path, parent) {
				t.Errorf("the container is not below %s: %s", parent, line)
			}
		}
		for file, want := range map[string]string{
			b.file("memory", parent, "memory.limit_in_bytes", "memory.max"): strconv.Itoa(96 * mib),
			b.file("pids", parent, "pids.max", "pids.max"):                  "77",
			b.file("cpu", parent, "cpu.cfs_quota_us", "cpu.max"):            "25000",
		} {
			got := look("readfile", "/host/"+strings.TrimPrefix(file, "/sys/fs/cgroup/"))
			if strings.Fields(got)[0] != want {
				t.Errorf("%s holds %s, want %s", file, strings.TrimSpace(got), want)
			}
		}
	})
}

// Fault 32: limits changed or cgroups removed by hand come back while containers
// run, and it is said.
func TestBoundaryHeals(t *testing.T) {
	eachWay(t, func(t *testing.T, b *bounded) {
		limits := runtime.NodeLimits{CPUs: 500, Memory: 64 * mib, Pids: 50}
		parent := b.node("edge-1", limits)
		id := b.start(parent, nil, "sleep")
		b.says(id, "sleeping")
		since := b.started(id)

		b.byHand(b.file("pids", parent, "pids.max", "pids.max"), "max")
		if b.info.CgroupVersion == 1 {
			b.byHand(b.file("memory", parent, "memory.memsw.limit_in_bytes", ""), "-1")
		}
		b.byHand(b.file("memory", parent, "memory.limit_in_bytes", "memory.max"), strconv.Itoa(512*mib))
		b.byHand(b.file("cpu", parent, "cpu.cfs_quota_us", "cpu.max"), "80000")
		got, err := b.Ensure(t.Context(), "edge-1", limits)
		if err != nil {
			t.Fatal(err)
		}
		said := strings.Join(got.Drift, "\n")
		for _, want := range []string{"pids.max was unlimited and is 50 again", "was 536870912 and is 67108864 again", "was 80000"} {
			if !strings.Contains(said, want) {
				t.Errorf("%q does not say %q", said, want)
			}
		}
		b.node("edge-1", limits) // in order again
		b.unharmed(id, since)

		// New limits are no drift.
		b.node("edge-1", runtime.NodeLimits{CPUs: 2000, Memory: 256 * mib})
		b.node("edge-1", runtime.NodeLimits{CPUs: 10, Memory: 100 * mib, Pids: 40})
		b.node("edge-1", runtime.NodeLimits{CPUs: 1, Memory: 100 * mib, Pids: 40})
		b.node("edge-1", limits)
		b.unharmed(id, since)

		if b.info.CgroupVersion == 1 {
			c, err := b.engine.Inspect(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			b.byHand("/sys/fs/cgroup/pids/cgroup.procs", strconv.Itoa(c.PID))
			b.removeByHand(filepath.Join("/sys/fs/cgroup/pids", parent, id))
			b.removeByHand(filepath.Join("/sys/fs/cgroup/pids", parent))
			got, err = b.Ensure(t.Context(), "edge-1", limits)
			if err != nil || !slices.Equal(got.Drift, []string{"the cgroup had been removed and is there again"}) {
				t.Errorf("removed by hand: %+v, %v", got, err)
			}
			if text, err := os.ReadFile(b.file("pids", parent, "pids.max", "")); err != nil || strings.TrimSpace(string(text)) != "50" {
				t.Errorf("pids.max holds %s, %v", text, err)
			}
			b.unharmed(id, since)
		}
		b.gone(t.Context(), id)
	})
}

func (b *bounded) byHand(file, value string) {
	b.t.Helper()
	if err := os.WriteFile(file, []byte(value), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bounded) removeByHand(dir string) {
	b.t.Helper()
	b.eventually(func() error { return os.Remove(dir) })
}

// A limit that does not fit what runs is refused, and nothing is killed.
func TestBoundaryKillsNothing(t *testing.T) {
	eachWay(t, func(t *testing.T, b *bounded) {
		limits := runtime.NodeLimits{CPUs: 1000, Memory: 256 * mib}
		parent := b.node("edge-1", limits)
		id := b.start(parent, func(s *runtime.Spec) { s.Limits.NanoCPUs = 8e8 }, "alloc", strconv.Itoa(100*mib))
		b.says(id, "allocated")
		since := b.started(id)
		_, err := b.Ensure(t.Context(), "edge-1", runtime.NodeLimits{CPUs: 1000, Memory: 64 * mib})
		if !runtime.IsConflict(err) || !strings.Contains(err.Error(), "set the limits of node edge-1: its containers hold") {
			t.Errorf("64 MiB for what holds 100: %v", err)
		}
		if b.info.CgroupVersion == 1 {
			_, err = b.Ensure(t.Context(), "edge-1", runtime.NodeLimits{CPUs: 500, Memory: 256 * mib})
			if !runtime.IsConflict(err) || !strings.Contains(err.Error(), "may use more CPU") {
				t.Errorf("0.5 CPUs for what may use 0.8: %v", err)
			}
		}
		b.unharmed(id, since)
		if err := b.Remove(t.Context(), "edge-1"); !runtime.IsConflict(err) || !strings.Contains(err.Error(), "of container "+id[:12]) {
			t.Errorf("removed with a container in it: %v", err)
		}
		b.unharmed(id, since)
		b.gone(t.Context(), id)
	})
}

// The cgroup of a removed node goes, with what others left in it, and List tells
// a later daemon of it.
func TestBoundaryIsRemoved(t *testing.T) {
	eachWay(t, func(t *testing.T, b *bounded) {
		parent := b.node("edge-1", runtime.NodeLimits{Memory: 64 * mib})
		b.node("tasks", runtime.NodeLimits{Memory: 64 * mib}) // the name of a file in every cgroup of v1
		if code := b.wait(b.start(parent, nil, "exit", "0")); code != 0 {
			t.Fatalf("exit code %d", code)
		}
		if err := os.Mkdir(filepath.Dir(b.file("memory", parent, "left/x", "left/x")), 0o755); err != nil {
			t.Fatal(err)
		}
		b.reopen(strings.Contains(b.How(), "helper"))
		if nodes, err := b.List(t.Context()); err != nil || !slices.Equal(nodes, []string{"edge-1", "tasks"}) {
			t.Errorf("the nodes with a cgroup: %v, %v", nodes, err)
		}
		for _, n := range []string{"edge-1", "tasks", "edge-1", "never"} {
			if err := b.Remove(t.Context(), n); err != nil {
				t.Error(err)
			}
		}
		left, _ := filepath.Glob("/sys/fs/cgroup/*" + parent)
		if nodes, err := b.List(t.Context()); err != nil || len(nodes) > 0 || len(left) > 0 {
			t.Errorf("left: %v, %v, %v", nodes, left, err)
		}
		if _, err := b.Pressure(t.Context(), "edge-1"); !runtime.IsNotFound(err) {
			t.Errorf("the pressure of a removed node: %v", err)
		}
	})
}
