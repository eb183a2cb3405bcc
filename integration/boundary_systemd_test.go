package integration

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/berth-dev/berth/internal/testimage"
	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/runtime/cgroup"
	"github.com/berth-dev/berth/runtime/docker"
)

// systemdHost is a container in which systemd is init and an engine with the
// systemd cgroup driver runs: a machine as most are.
type systemdHost struct {
	outer *docker.Engine
	id    string
	pid   int
	bounded
}

// bootSystemd starts it out of the programs of this machine.
func bootSystemd(t *testing.T) *systemdHost {
	t.Helper()
	for _, program := range []string{"/lib/systemd/systemd", "/usr/bin/systemctl"} {
		if _, err := os.Stat(program); err != nil {
			t.Fatalf("this test boots systemd in a container out of this machine's programs: %v", err)
		}
	}
	outer, err := docker.Open(t.Context(), docker.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = outer.Close() })
	share, err := os.MkdirTemp("", "bsd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(share) })
	if err := os.WriteFile(filepath.Join(share, "default.target"), []byte("[Unit]\nDescription=Nothing but slices\nDefaultDependencies=no\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h := &systemdHost{outer: outer, bounded: bounded{t: t, owner: randomHex(t, 8)}}
	spec := &runtime.Spec{
		Image: testimage.Ensure(t, outer), NetworkMode: "none", CgroupNS: "private", Entrypoint: []string{"/bin/sh", "-c"},
		Command: []string{"for m in /sys/fs/cgroup /sys/fs/cgroup/*/; do mount -o remount,bind,rw $m 2>/dev/null; done; exec /lib/systemd/systemd --system --log-target=console"},
		Env:     []string{"container=docker", "SYSTEMD_UNIT_PATH=/run/systemd/system.control:/run/systemd/transient:/share", "SYSTEMD_GENERATOR_PATH=/none", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"},
		CapAdd:  []string{"SYS_ADMIN", "NET_ADMIN", "SYSLOG"}, SecurityOpt: []string{"seccomp=unconfined", "apparmor=unconfined", "label=disable"},
		Devices: []runtime.Device{{Source: "/dev/kmsg", Permissions: "r"}},
		Mounts:  []runtime.Mount{{Type: runtime.MountBind, Source: share, Target: "/share"}},
	}
	for _, dir := range []string{"/usr", "/lib", "/lib64", "/bin", "/sbin"} {
		spec.Mounts = append(spec.Mounts, runtime.Mount{Type: runtime.MountBind, Source: dir, Target: dir, ReadOnly: true})
	}
	for _, dir := range []string{"/run", "/tmp", "/var"} {
		spec.Mounts = append(spec.Mounts, runtime.Mount{Type: runtime.MountTmpfs, Target: dir, TmpfsOptions: "exec"})
	}
	h.id = h.createOn(outer, spec)
	if err := outer.Start(t.Context(), h.id); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			var out bytes.Buffer
			ctx, cancel := lateContext(t)
			defer cancel()
			_ = outer.Logs(ctx, h.id, runtime.LogOptions{Tail: 30, Stdout: true, Stderr: true}, &out, &out)
			t.Logf("systemd's last words:\n%s", &out)
		}
	})
	c, err := outer.Inspect(t.Context(), h.id)
	if err != nil {
		t.Fatal(err)
	}
	h.pid = c.PID
	h.eventually(func() error {
		out, code := h.exec("systemctl", "is-system-running")
		if s := strings.TrimSpace(out); s != "running" && s != "degraded" {
			return fmt.Errorf("systemd is %s (exit code %d)", s, code)
		}
		return nil
	})
	h.startEngine(share)
	return h
}

// startEngine starts the engine in it, and opens that from outside.
func (h *systemdHost) startEngine(share string) {
	h.t.Helper()
	_, err := h.outer.Exec(h.t.Context(), h.id, runtime.ExecSpec{Detach: true, Command: []string{
		"dockerd", "--host", "unix:///share/d.sock", "--data-root", "/var/d", "--exec-root", "/run/e", "--pidfile", "/run/p", "--bridge", "none",
		"--iptables=false", "--ip6tables=false", "--storage-driver", "vfs", "--exec-opt", "native.cgroupdriver=systemd",
	}}, runtime.Streams{})
	if err != nil {
		h.t.Fatal(err)
	}
	host := "unix://" + filepath.Join(share, "d.sock")
	h.eventually(func() error {
		h.engine, err = docker.Open(h.t.Context(), docker.Options{Host: host})
		return err
	})
	h.t.Cleanup(func() { _ = h.engine.Close() })
	if h.info, err = h.engine.Info(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
	if h.info.CgroupDriver != cgroup.DriverSystemd {
		h.t.Fatalf("the engine's cgroup driver is %s", h.info.CgroupDriver)
	}
	h.image = testimage.Ensure(h.t, h.engine)
}

// exec runs a program in it.
func (h *systemdHost) exec(args ...string) (output string, code int) {
	h.t.Helper()
	var out bytes.Buffer
	code, err := h.outer.Exec(h.t.Context(), h.id, runtime.ExecSpec{Command: args}, runtime.Streams{Out: &out, Err: &out})
	if err != nil {
		h.t.Fatalf("%v: %v", args, err)
	}
	return out.String(), code
}

func (h *systemdHost) systemctl(args ...string) {
	h.t.Helper()
	if out, code := h.exec(append([]string{"systemctl"}, args...)...); code != 0 {
		h.t.Fatalf("systemctl %v: exit code %d: %s", args, code, out)
	}
}

// slice is a file of a node's slice, seen from outside.
func (h *systemdHost) slice(controller, node, name string) string {
	owner := h.owner[:8]
	rel := filepath.Join("berth.slice", "berth-"+owner+".slice", "berth-"+owner+"-"+node+".slice", name)
	if h.info.CgroupVersion == 2 {
		controller = ""
	}
	return filepath.Join("/proc", strconv.Itoa(h.pid), "root/sys/fs/cgroup", controller, rel)
}

func (h *systemdHost) holds(file, want string) {
	h.t.Helper()
	if b, err := os.ReadFile(file); err != nil || strings.TrimSpace(string(b)) != want {
		h.t.Errorf("%s holds %q, want %s, %v", file, b, want, err)
	}
}

// On a machine of systemd the node is a slice, and systemd knows its limits: they
// outlive a reload of its units, and what is changed by hand or by systemctl comes
// back. The engine is in a container, so the helper does it, as it would behind
// any other wall.
func TestBoundaryOnSystemd(t *testing.T) {
	h := bootSystemd(t)
	h.Boundaries = cgroup.Open(t.Context(), cgroup.Config{Owner: h.owner, Info: h.info, Engine: h.engine, Program: shared.binary})
	if want := "written by a helper container, since the daemon may not: the engine is in another cgroup namespace"; !strings.HasPrefix(h.How(), want) {
		t.Fatalf("boundaries are %s; want %s", h.How(), want)
	}
	limits := runtime.NodeLimits{CPUs: 500, Memory: 128 * mib, Pids: 100}
	parent, slice := h.node("edge-1", limits), "berth-"+h.owner[:8]+`-edge\x2d1.slice`
	if parent != slice {
		t.Errorf("the parent is %s, want %s", parent, slice)
	}

	small := h.start(parent, nil, "sleep")
	h.says(small, "sleeping")
	since := h.started(small)
	hog := h.start(parent, nil, "alloc", strconv.Itoa(300*mib))
	if code := h.wait(hog); code != 137 {
		t.Fatalf("300 MiB in a node of 128 MiB: exit code %d, want 137", code)
	}
	h.unharmed(small, since)
	p := h.pressure("edge-1")
	if all, byNode := p.OOMKilled(hog); all != 1 || byNode != 1 || p.OOMKills != 1 || p.MemoryLimit != 128*mib || p.MemoryHits == 0 {
		t.Errorf("the node's pressure: %+v", p)
	}
	if all, _ := p.OOMKilled(small); all != 0 {
		t.Errorf("its neighbour is said to be hit: %+v", p.Containers)
	}

	file := h.slice("pids", `edge\x2d1`, "pids.max")
	h.systemctl("daemon-reload")
	h.holds(file, "100")
	for what, change := range map[string]func(){
		"by hand":      func() { h.byHand(file, "7") },
		"by systemctl": func() { h.systemctl("set-property", "--runtime", slice, "TasksMax=7") },
	} {
		change()
		got, err := h.Ensure(t.Context(), "edge-1", limits)
		if err != nil || !slices.Equal(got.Drift, []string{"pids.max was 7 and is 100 again"}) {
			t.Errorf("changed %s: %+v, %v", what, got, err)
		}
		h.systemctl("daemon-reload")
		h.holds(file, "100")
	}
	// Up and down, below 1 % of a CPU, and to no limit at all.
	for _, l := range []runtime.NodeLimits{{CPUs: 1000, Memory: 256 * mib}, {CPUs: 5, Memory: 64 * mib, Pids: 30}, {}, limits} {
		h.node("edge-1", l)
	}
	h.unharmed(small, since)
	if err := h.Remove(t.Context(), "edge-1"); !runtime.IsConflict(err) {
		t.Errorf("removed with a container in it: %v", err)
	}
	h.unharmed(small, since)

	h.gone(t.Context(), small, hog)
	h.node("edge-2", limits)
	second := h.slice("pids", `edge\x2d2`, "")
	h.removeByHand(second)
	got, err := h.Ensure(t.Context(), "edge-2", limits)
	if err != nil || !slices.Equal(got.Drift, []string{"the cgroup had been removed and is there again"}) {
		t.Errorf("removed by hand: %+v, %v", got, err)
	}
	h.holds(filepath.Join(second, "pids.max"), "100")
	if nodes, err := h.List(t.Context()); err != nil || !slices.Equal(nodes, []string{"edge-1", "edge-2"}) {
		t.Errorf("the nodes with a slice: %v, %v", nodes, err)
	}
	for _, n := range []string{"edge-1", "edge-2", "edge-1"} {
		if err := h.Remove(t.Context(), n); err != nil {
			t.Error(err)
		}
	}
	if out, _ := h.exec("systemctl", "list-units", "--all", "--plain", "--no-legend", "berth-*"); strings.TrimSpace(out) != "" {
		t.Errorf("systemd still knows %s", out)
	}
	if list, err := h.engine.List(t.Context(), runtime.Filter{}); err != nil || len(list) > 0 {
		t.Errorf("%d containers are left, %v", len(list), err)
	}
}
