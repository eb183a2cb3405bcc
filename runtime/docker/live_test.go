package docker

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/berth-dev/berth/internal/testimage"
	"github.com/berth-dev/berth/runtime"
)

// These tests say what real Docker does beyond the contract suite.

const prefix = "berthdocker-"

func labels(t *testing.T) map[string]string {
	t.Helper()
	return map[string]string{runtime.LabelSchema: runtime.Schema, runtime.LabelOwner: "test-owner", runtime.LabelStack: uniqueName(t)}
}

func uniqueName(t *testing.T) string {
	t.Helper()
	name := strings.NewReplacer("/", "-", "_", "-", "=", "-").Replace(strings.ToLower(t.Name()))
	return prefix + name + "-" + strconv.FormatInt(time.Now().UnixNano()%1e9, 36)
}

// create makes a container that goes with the test.
func create(t *testing.T, e *Engine, spec *runtime.Spec, contents map[string][]byte) string {
	t.Helper()
	if spec.Image == "" {
		spec.Image = testimage.Ensure(t, e)
	}
	if spec.NetworkMode == "" && len(spec.Networks) == 0 {
		spec.NetworkMode = "none" // starts quickest
	}
	id, err := e.Create(t.Context(), uniqueName(t), labels(t), spec, contents)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeLate(t, e, id) })
	return id
}

func removeLate(t *testing.T, e *Engine, id string) {
	t.Helper()
	ctx, cancel := lateContext(t)
	defer cancel()
	if err := e.Remove(ctx, id, true, true); err != nil && !runtime.IsNotFound(err) {
		t.Errorf("left behind: %v", err)
	}
}

func start(t *testing.T, e *Engine, spec *runtime.Spec, contents map[string][]byte) string {
	t.Helper()
	id := create(t, e, spec, contents)
	if err := e.Start(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	return id
}

// output runs a container to its end and returns what it wrote.
func output(t *testing.T, e *Engine, spec *runtime.Spec, contents map[string][]byte) string {
	t.Helper()
	id := start(t, e, spec, contents)
	status, err := e.Wait(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := e.Logs(t.Context(), id, runtime.LogOptions{Tail: -1, Stdout: true, Stderr: true}, &out, &out); err != nil {
		t.Fatal(err)
	}
	if status.Code != 0 {
		t.Fatalf("exit code %d: %s", status.Code, out.String())
	}
	return out.String()
}

func execOutput(t *testing.T, e *Engine, id string, command ...string) string {
	t.Helper()
	var out bytes.Buffer
	code, err := e.Exec(t.Context(), id, runtime.ExecSpec{Command: command}, runtime.Streams{Out: &out, Err: &out})
	if err != nil || code != 0 {
		t.Fatalf("%v: exit %d, %v: %s", command, code, err, out.String())
	}
	return out.String()
}

func wantKind(t *testing.T, err error, kind runtime.Kind, parts ...string) {
	t.Helper()
	if runtime.KindOf(err) != kind {
		t.Fatalf("%v: kind %q, want %q", err, runtime.KindOf(err), kind)
	}
	for _, noise := range []string{"Error response from daemon", "OCI runtime", "\n"} {
		if strings.Contains(err.Error(), noise) {
			t.Errorf("%q holds %q", err, noise)
		}
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("%q does not say %q", err, p)
		}
	}
}

func TestInfo(t *testing.T) {
	e := open(t)
	info, err := e.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if info.CPUs < 1 || info.Memory <= 0 || info.APIVersion == "" || info.Host == "" || info.CgroupVersion == 0 || info.CgroupDriver == "" {
		t.Errorf("incomplete: %+v", info)
	}
	if err := e.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestImageIsBuiltOnce(t *testing.T) {
	e := open(t)
	ref := testimage.Ensure(t, e)
	img, err := e.Image(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	again := testimage.Ensure(t, e)
	if img2, err := e.Image(t.Context(), again); err != nil || img2.ID != img.ID {
		t.Errorf("built twice: %v %v, %v", img.ID, img2.ID, err)
	}
	_, err = e.Image(t.Context(), "berth-no-such-image:1")
	wantKind(t, err, runtime.KindNotFound, "berth-no-such-image:1")
}

func TestCreateFaults(t *testing.T) {
	e := open(t)
	image := testimage.Ensure(t, e)
	_, err := e.Create(t.Context(), uniqueName(t), labels(t), &runtime.Spec{Image: "berth-no-such-image:1"}, nil)
	wantKind(t, err, runtime.KindNotFound, "image berth-no-such-image:1 is not on this engine")

	id := create(t, e, &runtime.Spec{Image: image}, nil)
	c, err := e.Inspect(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	_, err = e.Create(t.Context(), c.Name, labels(t), &runtime.Spec{Image: image}, nil)
	wantKind(t, err, runtime.KindConflict, c.Name)

	_, err = e.Create(t.Context(), uniqueName(t), nil, &runtime.Spec{Image: image, Limits: runtime.Limits{NanoCPUs: 4096e9}}, nil)
	wantKind(t, err, runtime.KindInvalid)
	_, err = e.Create(t.Context(), uniqueName(t), nil, &runtime.Spec{Image: image, Healthcheck: &runtime.Healthcheck{StartInterval: time.Second}}, nil)
	if !e.api().atLeast("1.44") {
		wantKind(t, err, runtime.KindInvalid, "healthcheck start_interval needs Engine API 1.44")
	}
	name := uniqueName(t)
	_, err = e.Create(t.Context(), name, nil, &runtime.Spec{Image: image, Files: []runtime.File{{Name: "s", Target: "/x/s"}}}, nil)
	wantKind(t, err, runtime.KindInvalid, "content of s is missing")
	_, err = e.Inspect(t.Context(), name)
	wantKind(t, err, runtime.KindNotFound)

	// A creation that fails half way leaves nothing.
	name = uniqueName(t)
	_, err = e.Create(t.Context(), name, nil, &runtime.Spec{Image: image, Files: []runtime.File{{Name: "s", Target: "/workload/s"}}}, map[string][]byte{"s": nil})
	wantKind(t, err, runtime.KindInvalid, name, "workload")
	_, err = e.Inspect(t.Context(), name)
	wantKind(t, err, runtime.KindNotFound)

	// The engine looks for a network only when the container starts.
	bad := create(t, e, &runtime.Spec{Networks: []runtime.Attachment{{Network: "berth-no-such-network"}}}, nil)
	wantKind(t, e.Start(t.Context(), bad), runtime.KindNotFound, "berth-no-such-network")
	bad = create(t, e, &runtime.Spec{Image: image, Entrypoint: []string{"/nope"}}, nil)
	wantKind(t, e.Start(t.Context(), bad), runtime.KindInvalid, "/nope")
	_, err = e.Create(t.Context(), uniqueName(t), labels(t), &runtime.Spec{Image: image, Mounts: []runtime.Mount{{Type: runtime.MountVolume, Target: "/workload/x"}}}, nil)
	wantKind(t, err, runtime.KindInvalid, "not a directory")
	_, err = e.Create(t.Context(), uniqueName(t), nil, &runtime.Spec{Image: image, Mounts: []runtime.Mount{{Type: runtime.MountBind, Source: "/berth/no/such/dir", Target: "/x"}}}, nil)
	wantKind(t, err, runtime.KindInvalid, "/berth/no/such/dir")
}

func TestFiles(t *testing.T) {
	e := open(t)
	for _, readOnly := range []bool{false, true} {
		t.Run(fmt.Sprintf("read-only=%t", readOnly), func(t *testing.T) {
			out := output(t, e, &runtime.Spec{
				ReadOnly: readOnly,
				User:     "1000",
				Command:  []string{"stat", "/run/secrets/token", "/etc/app/conf.d/app.conf"},
				Files: []runtime.File{
					{Name: "token", Target: "/run/secrets/token", UID: 1000, GID: 7, Mode: 0o400},
					{Name: "conf", Target: "/etc/app/conf.d/app.conf"},
				},
			}, map[string][]byte{"token": []byte("s3cret"), "conf": []byte("x=1\n")})
			want := "/run/secrets/token 0400 1000:7 6\n/etc/app/conf.d/app.conf 0444 0:0 4\n"
			if out != want {
				t.Errorf("got %q, want %q", out, want)
			}
		})
	}
}

func TestLimits(t *testing.T) {
	e := open(t)
	info, err := e.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	all := runtime.Limits{
		NanoCPUs: 5e8, CPUShares: 512, CPUSetCPUs: "0", Memory: 64 << 20, MemoryReservation: 32 << 20, Pids: 50,
	}
	id := start(t, e, &runtime.Spec{Command: []string{"sleep"}, Limits: all, Restart: runtime.RestartPolicy{Name: "no"}}, nil)
	check := func(want runtime.Limits) {
		t.Helper()
		c, err := e.Inspect(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if want.MemorySwap == 0 {
			c.Limits.MemorySwap = 0 // the engine's own choice
		}
		if c.Limits != want {
			t.Errorf("limits %+v, want %+v", c.Limits, want)
		}
		if got, limit := readCgroup(t, e, id, info.CgroupVersion), want.Memory; limit == 0 && got < info.Memory || limit != 0 && got != limit {
			t.Errorf("the kernel limits memory to %d, want %d", got, limit)
		}
	}
	check(all)
	steps := []runtime.Limits{
		{NanoCPUs: 1e9, CPUShares: 256, CPUSetCPUs: "0", Memory: 256 << 20, MemoryReservation: 16 << 20, Pids: 60},
		{NanoCPUs: 2e8, Memory: 32 << 20, Pids: 60},
		{},
		{Memory: 48 << 20, MemorySwap: 48 << 20},
		{},
		all,
		all,
	}
	for i, want := range steps {
		if err := e.Update(t.Context(), id, want, runtime.RestartPolicy{}); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		check(want)
	}
	if err := e.Update(t.Context(), id, runtime.Limits{}, runtime.RestartPolicy{Name: "on-failure", MaxRetries: 3}); err != nil {
		t.Fatal(err)
	}
	c, err := e.Inspect(t.Context(), id)
	if err != nil || c.Restart != (runtime.RestartPolicy{Name: "on-failure", MaxRetries: 3}) {
		t.Errorf("restart policy %+v, %v", c.Restart, err)
	}
	// What was lifted survives a restart of the container.
	if err := e.Restart(t.Context(), id, "", time.Second); err != nil {
		t.Fatal(err)
	}
	check(runtime.Limits{})
	var s runtime.Stats
	if err := e.Stats(t.Context(), id, false, func(x runtime.Stats) bool { s = x; return false }); err != nil {
		t.Fatal(err)
	}
	if s.MemoryLimit != uint64(info.Memory) {
		t.Errorf("memory limit %d, want the machine's %d ", s.MemoryLimit, info.Memory)
	}
	if s.Memory == 0 || s.SystemNanos == 0 || s.OnlineCPUs == 0 || s.Pids == 0 {
		t.Errorf("empty sample: %+v", s)
	}
}

// readCgroup is the memory limit that the kernel holds for a container.
func readCgroup(t *testing.T, e *Engine, id string, version int) int64 {
	t.Helper()
	file := "/sys/fs/cgroup/memory/memory.limit_in_bytes"
	if version == 2 {
		file = "/sys/fs/cgroup/memory.max"
	}
	text := strings.TrimSpace(execOutput(t, e, id, "/workload", "readfile", file))
	if text == "max" {
		return math.MaxInt64
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func freePort(t *testing.T) (port string, l net.Listener) {
	t.Helper()
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	_, port, err = net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port, l
}

// A start that fails since the port is taken leaves no endpoint in the network,
// and succeeds once the port is free.
func TestPortTaken(t *testing.T) {
	e := open(t)
	ctx := t.Context()
	l := labels(t)
	netName := uniqueName(t)
	netID, err := e.EnsureNetwork(ctx, &runtime.NetworkSpec{Name: netName, Labels: l})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		late, cancel := lateContext(t)
		defer cancel()
		if err := e.RemoveNetwork(late, netID); err != nil && !runtime.IsNotFound(err) {
			t.Error(err)
		}
	})
	other := uniqueName(t)
	otherID, err := e.EnsureNetwork(ctx, &runtime.NetworkSpec{Name: other, Labels: l})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		late, cancel := lateContext(t)
		defer cancel()
		if err := e.RemoveNetwork(late, otherID); err != nil && !runtime.IsNotFound(err) {
			t.Error(err)
		}
	})
	port, held := freePort(t)
	spec := func() *runtime.Spec {
		return &runtime.Spec{
			Command:  []string{"serve", "8080"},
			Networks: []runtime.Attachment{{Network: netName, Aliases: []string{"web"}}, {Network: other}},
			Ports:    []runtime.Port{{Target: 8080, Published: port}},
		}
	}
	a := create(t, e, spec(), nil)
	b := create(t, e, spec(), nil)
	assertTaken := func(err error) {
		t.Helper()
		wantKind(t, err, runtime.KindConflict, "port", port, "already")
		for _, name := range []string{netName, other} {
			n, err := e.Network(ctx, name)
			if err != nil {
				t.Fatal(err)
			}
			if slices.ContainsFunc(n.Containers, func(c string) bool { return c == a || c == b }) && !strings.Contains(err2s(e, a), "running") {
				t.Errorf("network %s still holds %v", name, n.Containers)
			}
		}
	}
	assertTaken(e.Start(ctx, a))
	assertTaken(e.Start(ctx, a))
	_ = held.Close()
	eventually(t, func() error { return e.Start(ctx, a) })
	wantKind(t, e.Start(ctx, b), runtime.KindConflict, "port", port)
	n, err := e.Network(ctx, netName)
	if err != nil || !slices.Equal(n.Containers, []string{a}) {
		t.Errorf("network holds %v, want only %s: %v", n.Containers, a, err)
	}
	if err := e.Stop(ctx, a, "", 0); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error { return e.Start(ctx, b) })
}

func err2s(e *Engine, id string) string {
	c, err := e.Inspect(context.Background(), id)
	if err != nil {
		return err.Error()
	}
	return string(c.State)
}

// eventually repeats f until it succeeds, for at most ten seconds.
func eventually(t *testing.T, f func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for {
		err := f()
		if err == nil {
			return
		}
		if !pause(ctx, 20*time.Millisecond) {
			t.Fatalf("still not so: %v", err)
		}
	}
}

func TestRemoveNetwork(t *testing.T) {
	e := open(t)
	ctx := t.Context()
	l := labels(t)
	name := uniqueName(t)
	id, err := e.EnsureNetwork(ctx, &runtime.NetworkSpec{Name: name, Labels: l})
	if err != nil {
		t.Fatal(err)
	}
	if again, err := e.EnsureNetwork(ctx, &runtime.NetworkSpec{Name: name, Labels: l}); err != nil || again != id {
		t.Errorf("%s, %v", again, err)
	}
	_, err = e.EnsureNetwork(ctx, &runtime.NetworkSpec{Name: name, Labels: labels(t)})
	wantKind(t, err, runtime.KindConflict, "belongs to stack")
	c := start(t, e, &runtime.Spec{Command: []string{"sleep"}, Networks: []runtime.Attachment{{Network: name}}}, nil)
	wantKind(t, e.RemoveNetwork(ctx, id), runtime.KindConflict, "uses it")
	if err := e.Kill(ctx, c, ""); err != nil {
		t.Fatal(err)
	}
	if err := e.RemoveNetwork(ctx, id); err != nil {
		t.Fatal(err)
	}
	wantKind(t, e.RemoveNetwork(ctx, id), runtime.KindNotFound)
}

func TestOverlappingNetwork(t *testing.T) {
	e := open(t)
	ipam := &runtime.IPAM{Pools: []runtime.IPPool{{Subnet: "10.213.77.0/28"}}}
	id, err := e.EnsureNetwork(t.Context(), &runtime.NetworkSpec{Name: uniqueName(t), Labels: labels(t), IPAM: ipam})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = e.RemoveNetwork(t.Context(), id) }()
	_, err = e.EnsureNetwork(t.Context(), &runtime.NetworkSpec{Name: uniqueName(t), Labels: labels(t), IPAM: ipam})
	wantKind(t, err, runtime.KindConflict, "overlaps")
}

func TestStopWithSignal(t *testing.T) {
	e := open(t)
	id := start(t, e, &runtime.Spec{Command: []string{"sleep"}, Restart: runtime.RestartPolicy{Name: "always"}}, nil)
	if err := e.Stop(t.Context(), id, "INT", 5*time.Second); err != nil {
		t.Fatal(err)
	}
	c, err := e.Inspect(t.Context(), id)
	if err != nil || c.State != runtime.Exited {
		t.Errorf("%s, %v", c.State, err)
	}
	if err := e.Stop(t.Context(), id, "INT", time.Second); err != nil {
		t.Errorf("a second stop: %v", err)
	}
}

func TestExecAndAttach(t *testing.T) {
	e := open(t)
	ctx := t.Context()
	id := start(t, e, &runtime.Spec{Command: []string{"sleep"}}, nil)
	if got := execOutput(t, e, id, "/workload", "whoami"); !strings.HasPrefix(got, "0:0 / ") {
		t.Errorf("whoami: %q", got)
	}
	var out, errs bytes.Buffer
	code, err := e.Exec(ctx, id, runtime.ExecSpec{Command: []string{"/workload", "cat"}}, runtime.Streams{In: strings.NewReader("hello"), Out: &out, Err: &errs})
	if err != nil || code != 0 || out.String() != "hello" {
		t.Errorf("cat: %d %v %q %q", code, err, out.String(), errs.String())
	}
	out.Reset()
	code, err = e.Exec(ctx, id, runtime.ExecSpec{Command: []string{"/workload", "print", "a", "err:b"}}, runtime.Streams{Out: &out, Err: &errs})
	if err != nil || code != 0 || out.String() != "a\n" || errs.String() != "b\n" {
		t.Errorf("print: %d %v %q %q", code, err, out.String(), errs.String())
	}
	code, err = e.Exec(ctx, id, runtime.ExecSpec{Command: []string{"/workload", "exit", "42"}}, runtime.Streams{})
	if err != nil || code != 42 {
		t.Errorf("exit: %d %v", code, err)
	}
	code, err = e.Exec(ctx, id, runtime.ExecSpec{Command: []string{"/nope"}}, runtime.Streams{})
	if err != nil || code != 127 && code != 126 {
		t.Errorf("no such program: %d %v", code, err)
	}
	out.Reset()
	size := make(chan runtime.TTYSize, 1)
	size <- runtime.TTYSize{Rows: 33, Cols: 111}
	code, err = e.Exec(ctx, id, runtime.ExecSpec{Command: []string{"/workload", "tty", "watch"}, TTY: true, Resize: size}, runtime.Streams{
		Out: until(&out, "rows=33 cols=111", func() { execOutput(t, e, id, "/workload", "env"); killTTY(t, e, id) }),
	})
	if err != nil || code != 0 || !strings.Contains(out.String(), "tty=true") {
		t.Errorf("tty: %d %v %q", code, err, out.String())
	}
	if _, err := e.Exec(ctx, id, runtime.ExecSpec{Command: []string{"/workload", "writefile", "/tmp/x/detached", "1"}, Detach: true}, runtime.Streams{}); err != nil {
		t.Error(err)
	}
	eventually(t, func() error { _, err := e.StatPath(ctx, id, "/tmp/x/detached"); return err })
}

// until calls done once what was written holds text.
func until(w *bytes.Buffer, text string, done func()) io.Writer {
	called := false
	return writerFunc(func(p []byte) (int, error) {
		n, err := w.Write(p)
		if !called && strings.Contains(w.String(), text) {
			called = true
			done()
		}
		return n, err
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// killTTY ends the program that watches the terminal.
func killTTY(t *testing.T, e *Engine, id string) {
	t.Helper()
	execOutput(t, e, id, "/workload", "signal", "TERM", "tty")
}

func TestCopy(t *testing.T) {
	e := open(t)
	ctx := t.Context()
	id := create(t, e, &runtime.Spec{Command: []string{"sleep"}}, nil)
	archive := func() *bytes.Buffer {
		var buf bytes.Buffer
		w := tar.NewWriter(&buf)
		_ = w.WriteHeader(&tar.Header{Name: "f", Typeflag: tar.TypeReg, Size: 2, Mode: 0o640, Uid: 1000, Gid: 1000})
		_, _ = w.Write([]byte("hi"))
		_ = w.Close()
		return &buf
	}
	if err := e.CopyTo(ctx, id, "/tmp", archive(), false); err != nil {
		t.Fatal(err)
	}
	if err := e.CopyTo(ctx, id, "/home/app", archive(), true); err != nil {
		t.Fatal(err)
	}
	wantKind(t, e.CopyTo(ctx, id, "/no/such", archive(), true), runtime.KindNotFound)
	wantKind(t, e.CopyTo(ctx, id, "/tmp", strings.NewReader("this is not an archive, but it is long enough"+strings.Repeat("x", 1024)), false), runtime.KindInvalid)
	if err := e.Start(ctx, id); err != nil {
		t.Fatal(err)
	}
	got := execOutput(t, e, id, "/workload", "stat", "/tmp/f", "/home/app/f")
	if want := "/tmp/f 0640 0:0 2\n/home/app/f 0640 1000:1000 2\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	r, st, err := e.CopyFrom(ctx, id, "/tmp/f")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if st.Name != "f" || st.Size != 2 {
		t.Errorf("%+v", st)
	}
	tr := tar.NewReader(r)
	h, err := tr.Next()
	if err != nil || h.Name != "f" {
		t.Fatal(h, err)
	}
	if b, err := io.ReadAll(tr); err != nil || string(b) != "hi" {
		t.Errorf("%q %v", b, err)
	}
	_, err = e.StatPath(ctx, id, "/no/such")
	wantKind(t, err, runtime.KindNotFound)
}

func TestEvents(t *testing.T) {
	e := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	l := labels(t)
	events := e.Events(ctx, time.Time{}, runtime.Filter{Labels: l})
	id, err := e.Create(ctx, uniqueName(t), l, &runtime.Spec{Image: testimage.Ensure(t, e), Command: []string{"exit", "3"}, NetworkMode: "none"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeLate(t, e, id) })
	if err := e.Start(ctx, id); err != nil {
		t.Fatal(err)
	}
	var seen []string
	timeout := time.After(20 * time.Second)
	for !slices.Contains(seen, "die") {
		select {
		case ev := <-events:
			if ev.ID != id || ev.Type != "container" || ev.Time.IsZero() {
				t.Errorf("%+v", ev)
			}
			seen = append(seen, ev.Action)
		case <-timeout:
			t.Fatalf("only %v", seen)
		}
	}
	if !slices.Equal(seen, []string{"create", "start", "die"}) {
		t.Errorf("%v", seen)
	}
	cancel()
	for range events {
	}
}

func TestBuildFaults(t *testing.T) {
	e := open(t)
	dir := t.TempDir()
	_, err := e.Build(t.Context(), &runtime.Build{Context: dir, DockerfileInline: "FROM scratch\nNOPE x\n"}, nil)
	wantKind(t, err, runtime.KindInvalid, "NOPE")
	_, err = e.Build(t.Context(), &runtime.Build{Context: dir, DockerfileInline: "FROM scratch\nCOPY nope /\n"}, nil)
	wantKind(t, err, runtime.KindInvalid, "nope")
	_, err = e.Build(t.Context(), &runtime.Build{Context: dir}, nil)
	wantKind(t, err, runtime.KindInvalid, "Dockerfile")
	_, err = e.Build(t.Context(), &runtime.Build{Context: dir + "/nope"}, nil)
	wantKind(t, err, runtime.KindInvalid, "nope")
}

func TestUnreachable(t *testing.T) {
	_, err := Open(t.Context(), Options{Host: "unix:///tmp/berth-no-such.sock"})
	wantKind(t, err, runtime.KindUnavailable, "cannot reach the Docker engine at unix:///tmp/berth-no-such.sock")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = Open(ctx, Options{})
	if !errors.Is(err, context.Canceled) || runtime.IsUnavailable(err) {
		t.Errorf("%v", err)
	}
}
