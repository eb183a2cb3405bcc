package enginetest

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/berth-dev/berth/runtime"
)

func streamCases() map[string]func(*fixture) {
	return map[string]func(*fixture){
		"ExecCodeAndStreams":  caseExec,
		"ExecEnvironment":     caseExecEnvironment,
		"ExecStdin":           caseExecStdin,
		"ExecTTY":             caseExecTTY,
		"ExecDetached":        caseExecDetached,
		"ExecMissingCommand":  caseExecMissing,
		"AttachFromTheStart":  caseAttach,
		"AttachStdin":         caseAttachStdin,
		"AttachStdinAgain":    caseAttachStdinAgain,
		"LogsSelect":          caseLogs,
		"LogsTimestampsSince": caseLogsTimestamps,
		"LogsFollow":          caseLogsFollow,
		"LogsTTY":             caseLogsTTY,
		"Copy":                caseCopy,
	}
}

func caseExec(x *fixture) {
	id := x.start(x.spec("sleep"))
	code, out, errOut := x.exec(id, "print", "one", "err:two", "three")
	equal(x, "exit code", code, 0)
	equal(x, "stdout", out, "one\nthree\n")
	equal(x, "stderr", errOut, "two\n")
	code, _, _ = x.exec(id, "exit", "33")
	equal(x, "exit code", code, 33)
}

func caseExecEnvironment(x *fixture) {
	spec := x.spec("sleep")
	spec.Env, spec.WorkingDir, spec.Hostname = []string{"A=spec", "B=spec"}, "/etc", "berth-host"
	id := x.start(spec)
	run := func(want string, exec runtime.ExecSpec, args ...string) {
		x.Helper()
		exec.Command = append([]string{"/workload"}, args...)
		_, out, errOut := x.execWith(id, exec, "")
		equal(x, strings.Join(args, " "), out+errOut, want)
	}
	run("exec\nspec\n<unset>\n", runtime.ExecSpec{Env: []string{"A=exec"}}, "env", "A", "B", "C")
	run("0:0 /etc berth-host\n", runtime.ExecSpec{}, "whoami")
	run("1000:1000 /tmp berth-host\n", runtime.ExecSpec{User: "app", WorkingDir: "/tmp"}, "whoami")
	run("7:8 /etc berth-host\n", runtime.ExecSpec{User: "7:8"}, "whoami")
}

func caseExecStdin(x *fixture) {
	id := x.start(x.spec("sleep"))
	text := strings.Repeat("a line of input\n", 2000)
	code, out, errOut := x.execWith(id, runtime.ExecSpec{Command: []string{"/workload", "cat"}}, text)
	equal(x, "exit code", code, 0)
	equal(x, "stderr", errOut, "")
	if out != text {
		x.Fatalf("%d bytes came back of %d", len(out), len(text))
	}
}

func caseExecTTY(x *fixture) {
	id := x.start(x.spec("sleep"))
	resize := make(chan runtime.TTYSize, 1)
	resize <- runtime.TTYSize{Rows: 31, Cols: 97}
	out := newWatched("rows=31 cols=97")
	ctx, cancel := context.WithTimeout(x.Context(), patience)
	defer cancel()
	in, closeInput := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := x.e.Exec(ctx, id, runtime.ExecSpec{Command: []string{"/workload", "tty", "watch"}, TTY: true, Resize: resize}, runtime.Streams{In: in, Out: out})
		done <- err
	}()
	select {
	case <-out.seen:
	case err := <-done:
		x.Fatalf("ended with %v after writing %q", err, out.String())
	}
	if !strings.Contains(out.String(), "tty=true") {
		x.Fatalf("not a terminal: %q", out.String())
	}
	x.ok(x.e.Kill(x.Context(), id, ""))
	x.ok(closeInput.Close())
	if err := <-done; err != nil { // the container is gone: it may be told as an error or by an exit code
		x.Logf("exec in a killed container: %v", err)
	}
}

func caseExecDetached(x *fixture) {
	id := x.start(x.spec("sleep"))
	_, err := x.e.Exec(x.Context(), id, runtime.ExecSpec{Command: []string{"/workload", "writefile", "/tmp/done", "yes"}, Detach: true}, runtime.Streams{})
	x.ok(err)
	x.eventually(id, "seen writing", func(runtime.Container) bool {
		stat, err := x.e.StatPath(x.Context(), id, "/tmp/done")
		return err == nil && stat.Size == 3
	})
}

func caseExecMissing(x *fixture) {
	id := x.start(x.spec("sleep"))
	code, _, _ := x.execWith(id, runtime.ExecSpec{Command: []string{"/no/such/program"}}, "")
	if code != 126 && code != 127 {
		x.Fatalf("exit code %d, want 126 or 127", code)
	}
	_, err := x.e.Exec(x.Context(), id, runtime.ExecSpec{}, runtime.Streams{})
	x.refused(err, runtime.KindInvalid)
}

// watched is a writer that tells when a text has been written to it.
type watched struct {
	text string
	seen chan struct{}

	mu  sync.Mutex // protects buf
	buf bytes.Buffer
	hit bool
}

func newWatched(text string) *watched { return &watched{text: text, seen: make(chan struct{})} }

func (w *watched) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf.Write(b)
	if !w.hit && strings.Contains(w.buf.String(), w.text) {
		w.hit = true
		close(w.seen)
	}
	return len(b), nil
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.String()
}

func caseAttach(x *fixture) {
	id := x.create(x.spec("print", "first", "err:second", "third"))
	var out, errOut bytes.Buffer
	ready, done := make(chan struct{}), make(chan error, 1)
	ctx, cancel := context.WithTimeout(x.Context(), patience)
	defer cancel()
	go func() {
		done <- x.e.Attach(ctx, id, runtime.AttachOptions{NoStdin: true, Ready: ready}, runtime.Streams{Out: &out, Err: &errOut})
	}()
	select {
	case <-ready:
	case err := <-done:
		x.Fatalf("ended before it was ready: %v", err)
	}
	x.ok(x.e.Start(x.Context(), id))
	x.ok(<-done)
	equal(x, "stdout", out.String(), "first\nthird\n")
	equal(x, "stderr", errOut.String(), "second\n")
}

func caseAttachStdin(x *fixture) {
	spec := x.spec("cat")
	spec.StdinOpen, spec.StdinOnce = true, true
	id := x.create(spec)
	var out bytes.Buffer
	ready, done := make(chan struct{}), make(chan error, 1)
	ctx, cancel := context.WithTimeout(x.Context(), patience)
	defer cancel()
	go func() {
		streams := runtime.Streams{In: strings.NewReader("through the pipe\n"), Out: &out, Err: io.Discard}
		done <- x.e.Attach(ctx, id, runtime.AttachOptions{Ready: ready}, streams)
	}()
	<-ready
	x.ok(x.e.Start(x.Context(), id))
	x.ok(<-done)
	equal(x, "stdout", out.String(), "through the pipe\n")
	equal(x, "exit code", x.wait(id).Code, 0)
}

// caseAttachStdinAgain: who is attached may go, and another one come, and the
// process reads on; a process that is started anew reads what comes from then on.
func caseAttachStdinAgain(x *fixture) {
	spec := x.spec("cat")
	spec.StdinOpen = true
	spec.Logging = &runtime.Logging{Driver: "none"}
	id := x.start(spec)
	x.echoes(id, "one")
	x.echoes(id, "two")
	x.ok(x.e.Kill(x.Context(), id, ""))
	x.wait(id)
	x.ok(x.e.Start(x.Context(), id))
	x.echoes(id, "three")
}

// echoes attaches to a process that repeats what it reads, and leaves it.
func (x *fixture) echoes(id, text string) {
	x.Helper()
	ctx, cancel := context.WithTimeout(x.Context(), patience)
	defer cancel()
	in, typed := io.Pipe()
	out, done := newWatched(text+"\n"), make(chan error, 1)
	go func() {
		done <- x.e.Attach(ctx, id, runtime.AttachOptions{}, runtime.Streams{In: in, Out: out, Err: io.Discard})
	}()
	_, err := io.WriteString(typed, text+"\n")
	x.ok(err)
	select {
	case <-out.seen:
	case err := <-done:
		x.Fatalf("ended with %v after writing %q", err, out)
	}
	cancel()
	<-done //nolint:errcheck // given up: the error says so or not
	x.ok(typed.Close())
	equal(x, "state", x.inspect(id).State, runtime.Running)
}

func (x *fixture) logs(id string, opts runtime.LogOptions) (stdout, stderr string) {
	x.Helper()
	var out, errOut bytes.Buffer
	ctx, cancel := context.WithTimeout(x.Context(), patience)
	defer cancel()
	x.ok(x.e.Logs(ctx, id, opts, &out, &errOut))
	return out.String(), errOut.String()
}

func caseLogs(x *fixture) {
	id := x.runToEnd(x.spec("print", "one", "err:bad", "two", "three"))
	all := runtime.LogOptions{Tail: -1, Stdout: true, Stderr: true}
	out, errOut := x.logs(id, all)
	equal(x, "stdout", out, "one\ntwo\nthree\n")
	equal(x, "stderr", errOut, "bad\n")
	out, errOut = x.logs(id, runtime.LogOptions{Tail: -1, Stderr: true})
	equal(x, "stdout not asked for", out, "")
	equal(x, "stderr", errOut, "bad\n")
	tail := all
	tail.Tail = 1
	// The order between the two streams is not kept: each is read by itself.
	out, _ = x.logs(x.runToEnd(x.spec("print", "one", "two", "three")), tail)
	equal(x, "last line", out, "three\n")
	tail.Tail = 0
	out, errOut = x.logs(id, tail)
	equal(x, "no line", out+errOut, "")
	all.Follow = true
	out, _ = x.logs(id, all)
	equal(x, "followed after the end", out, "one\ntwo\nthree\n")
	out, errOut = x.logs(x.create(x.spec("sleep")), all)
	equal(x, "output of one never started", out+errOut, "")
}

func caseLogsTimestamps(x *fixture) {
	id := x.runToEnd(x.spec("print", "early", "sleep:1200ms", "late"))
	opts := runtime.LogOptions{Tail: -1, Stdout: true, Stderr: true, Timestamps: true}
	out, _ := x.logs(id, opts)
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	equal(x, "number of lines", len(lines), 2)
	var times []time.Time
	for _, line := range lines {
		stamp, _, _ := strings.Cut(line, " ")
		t, err := time.Parse(time.RFC3339Nano, stamp)
		x.ok(err)
		times = append(times, t)
	}
	c := x.inspect(id)
	if times[0].Before(c.Created) || times[1].Sub(times[0]) < time.Second {
		x.Fatalf("written at %v", times)
	}
	opts.Timestamps, opts.Since = false, times[0].Add(500*time.Millisecond)
	out, _ = x.logs(id, opts)
	equal(x, "since", out, "late\n")
	opts.Since, opts.Until = time.Time{}, times[0].Add(500*time.Millisecond)
	out, _ = x.logs(id, opts)
	equal(x, "until", out, "early\n")
}

func caseLogsFollow(x *fixture) {
	id := x.start(x.spec("tick", "50ms"))
	out := newWatched("tick 3\n")
	done := make(chan error, 1)
	go func() {
		done <- x.e.Logs(x.Context(), id, runtime.LogOptions{Follow: true, Tail: -1, Stdout: true, Stderr: true}, out, io.Discard)
	}()
	<-out.seen
	x.ok(x.e.Stop(x.Context(), id, "", 10*time.Second))
	x.ok(<-done)
	if !strings.HasPrefix(out.String(), "tick 1\ntick 2\ntick 3\n") {
		x.Fatalf("got %q", out.String())
	}
	id = x.start(x.spec("sleep"))
	ctx, cancel := context.WithTimeout(x.Context(), 200*time.Millisecond)
	defer cancel()
	err := x.e.Logs(ctx, id, runtime.LogOptions{Follow: true, Tail: -1, Stdout: true}, io.Discard, io.Discard)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		x.Fatalf("given up: %v", err)
	}
}

func caseLogsTTY(x *fixture) {
	spec := x.spec("print", "one", "err:two")
	spec.TTY = true
	out, errOut := x.output(x.runToEnd(spec))
	equal(x, "stdout", strings.ReplaceAll(out, "\r", ""), "one\ntwo\n")
	equal(x, "stderr", errOut, "")
}

// tarOf is an archive of one file, owned by 1000:1000.
func tarOf(name, content string) io.Reader {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	// Writing to a buffer does not fail.
	_ = w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(content)), Mode: 0o640, Uid: 1000, Gid: 1000, ModTime: time.Unix(1e9, 0)})
	_, _ = io.WriteString(w, content)
	_ = w.Close()
	return &buf
}

func caseCopy(x *fixture) {
	ctx, id := x.Context(), x.create(x.spec("readfile", "/tmp/in"))
	x.ok(x.e.CopyTo(ctx, id, "/tmp", tarOf("in", "copied"), true))
	stat, err := x.e.StatPath(ctx, id, "/tmp/in")
	x.ok(err)
	equal(x, "name", stat.Name, "in")
	equal(x, "size", stat.Size, 6)
	equal(x, "mode", stat.Mode, 0o640)
	archive, stat, err := x.e.CopyFrom(ctx, id, "/tmp/in")
	x.ok(err)
	defer archive.Close()
	equal(x, "name", stat.Name, "in")
	r := tar.NewReader(archive)
	h, err := r.Next()
	x.ok(err)
	content, err := io.ReadAll(r)
	x.ok(err)
	equal(x, "name in the archive", h.Name, "in")
	equal(x, "content", string(content), "copied")
	x.ok(x.e.Start(ctx, id))
	x.wait(id)
	out, _ := x.output(id)
	equal(x, "output", out, "copied")
	_, err = x.e.StatPath(ctx, id, "/tmp/no/such")
	x.refused(err, runtime.KindNotFound)
	_, _, err = x.e.CopyFrom(ctx, id, "/tmp/no/such")
	x.refused(err, runtime.KindNotFound)
	x.refused(x.e.CopyTo(ctx, id, "/no/such/dir", tarOf("in", "x"), false), runtime.KindNotFound)
	x.refused(x.e.CopyTo(ctx, id, "/tmp/in", tarOf("in", "x"), false), runtime.KindInvalid)
	stat, err = x.e.StatPath(ctx, id, "/tmp")
	x.ok(err)
	if stat.Mode&(1<<31) == 0 {
		x.Fatalf("/tmp is not shown as a directory: mode %o", stat.Mode)
	}
}
