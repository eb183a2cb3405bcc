package fake

import (
	"bytes"
	"cmp"
	"context"

	"io"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/berth-dev/berth/runtime"
)

// logLine is one line of a container's output, its newline included.
type logLine struct {
	time time.Time
	err  bool // stderr
	data []byte
}

// output is what a container has written. It needs the engine's mutex.
type output struct {
	lines   []logLine
	partial [2]logLine // of stdout and stderr: a line not ended yet
	sinks   map[*sink]bool
	changed chan struct{} // closed at the next change
}

// sink is somebody attached to a container.
type sink struct{ out, err *pipe }

func (s *sink) close() {
	_ = s.out.Close() // closing a pipe never fails
	_ = s.err.Close()
}

func (o *output) init() { o.sinks, o.changed = map[*sink]bool{}, make(chan struct{}) }

func (o *output) notify() {
	close(o.changed)
	o.changed = make(chan struct{})
}

func (o *output) write(b []byte, isErr bool, now time.Time) {
	for s := range o.sinks {
		w := s.out
		if isErr {
			w = s.err
		}
		_, _ = w.Write(b) // a closed one has left
	}
	part := &o.partial[0]
	if isErr {
		part = &o.partial[1]
	}
	for len(b) > 0 {
		line, rest, ended := bytes.Cut(b, []byte("\n"))
		if len(part.data) == 0 {
			*part = logLine{time: now, err: isErr}
		}
		part.data = append(part.data, line...)
		if ended {
			part.data = append(part.data, '\n')
			o.lines = append(o.lines, *part)
			*part = logLine{}
		}
		b = rest
	}
	o.notify()
}

// finish logs what was written without a newline, and lets everybody attached go.
func (o *output) finish(time.Time) {
	for i := range o.partial {
		if len(o.partial[i].data) > 0 {
			o.lines = append(o.lines, o.partial[i])
			o.partial[i] = logLine{}
		}
	}
	for s := range o.sinks {
		s.close()
	}
	clear(o.sinks)
	o.notify()
}

// writer is a stream of a container's main process.
type writer struct {
	p     *Process
	isErr bool
}

func (w writer) Write(b []byte) (int, error) {
	if !w.p.gate() {
		return 0, io.ErrClosedPipe
	}
	e := w.p.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	w.p.c.output.write(bytes.Clone(b), w.isErr && !w.p.c.TTY, e.nowLocked())
	return len(b), nil
}

func (e *Engine) connectStreams(c *container, p *Process) {
	p.Stdout, p.Stderr, p.tty = writer{p: p}, writer{p: p, isErr: true}, c.TTY
	if c.spec.StdinOpen {
		p.Stdin = c.input()
	}
}

// input is the container's stdin, kept open from the first attachment to the exit.
func (c *container) input() *pipe {
	if c.stdin == nil {
		c.stdin = newPipe()
	}
	return c.stdin
}

// Logs writes what the container has written, and with Follow what it writes until it ends.
func (e *Engine) Logs(ctx context.Context, id string, opts runtime.LogOptions, stdout, stderr io.Writer) error {
	return e.call(ctx, "logs", id, func(ctx context.Context, _ *Call) error {
		next := -1
		for {
			e.mu.Lock()
			c, err := e.get("logs", id)
			if err != nil {
				e.mu.Unlock()
				return err
			}
			if next < 0 {
				next = c.output.first(opts)
			}
			lines := c.output.lines[next:]
			next += len(lines)
			changed, gone, alive := c.output.changed, c.gone, c.proc != nil
			e.mu.Unlock()
			if err := writeLines(lines, opts, stdout, stderr); err != nil {
				return &runtime.Error{Kind: runtime.KindUnavailable, Op: "logs", Object: c.Name, Err: err}
			}
			if !opts.Follow || !alive {
				return nil
			}
			select {
			case <-changed:
			case <-gone:
				return nil
			case <-ctx.Done():
				return &runtime.Error{Kind: runtime.KindUnavailable, Op: "logs", Object: c.Name, Err: ctx.Err()}
			case <-e.closed:
				return nil
			}
		}
	})
}

func (opts *logSelection) wants(l logLine) bool {
	return (l.err && opts.Stderr || !l.err && opts.Stdout) &&
		(opts.Since.IsZero() || !l.time.Before(opts.Since)) && (opts.Until.IsZero() || !l.time.After(opts.Until))
}

type logSelection runtime.LogOptions

// first is the index of the first line that the options ask for.
func (o *output) first(opts runtime.LogOptions) int {
	if opts.Tail < 0 {
		return 0
	}
	sel, left := logSelection(opts), opts.Tail
	for i := len(o.lines); i > 0; i-- {
		if left == 0 {
			return i
		}
		if sel.wants(o.lines[i-1]) {
			left--
		}
	}
	return 0
}

func writeLines(lines []logLine, opts runtime.LogOptions, stdout, stderr io.Writer) error {
	sel := logSelection(opts)
	for _, l := range lines {
		if !sel.wants(l) {
			continue
		}
		w := stdout
		if l.err {
			w = stderr
		}
		if w == nil {
			continue
		}
		data := l.data
		if opts.Timestamps {
			data = append([]byte(l.time.UTC().Format(time.RFC3339Nano)+" "), data...)
		}
		if _, err := w.Write(data); err != nil {
			return err
		}
	}
	return nil
}

// gatedWriter passes writes on until it is shut, so that nothing is written
// after the call it belongs to has returned.
type gatedWriter struct {
	mu   sync.Mutex // protects w
	w    io.Writer
	shut bool
}

func (g *gatedWriter) Write(b []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut {
		return 0, io.ErrClosedPipe
	}
	if g.w == nil {
		return len(b), nil
	}
	return g.w.Write(b)
}

func (g *gatedWriter) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = true
}

// Exec runs a command in a running container.
func (e *Engine) Exec(ctx context.Context, id string, spec runtime.ExecSpec, streams runtime.Streams) (code int, err error) {
	err = e.call(ctx, "exec", id, func(ctx context.Context, call *Call) error {
		out, errOut := &gatedWriter{w: streams.Out}, &gatedWriter{w: streams.Err}
		defer out.close()
		defer errOut.close()
		p, done, err := e.startExec(id, spec, streams.In, out, errOut)
		if err != nil {
			return err
		}
		call.Changed = true
		if spec.Detach {
			return nil
		}
		for {
			select {
			case code = <-done:
				return nil
			case size, ok := <-spec.Resize:
				if !ok {
					spec.Resize = nil
				}
				p.resize(size)
			case <-ctx.Done(): // the command runs on, as on a real engine
				return &runtime.Error{Kind: runtime.KindUnavailable, Op: "exec", Object: id, Err: ctx.Err()}
			case <-e.closed:
				return fail(runtime.KindUnavailable, "exec", id, "the engine was closed")
			}
		}
	})
	return code, err
}

func (e *Engine) startExec(id string, spec runtime.ExecSpec, in io.Reader, out, errOut io.Writer) (*Process, <-chan int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c, err := e.get("exec", id)
	if err != nil {
		return nil, nil, err
	}
	if c.State != runtime.Running || c.proc == nil || c.proc.isDone() {
		return nil, nil, fail(runtime.KindConflict, "exec", c.Name, "not possible while the container is %s", c.State)
	}
	if len(spec.Command) == 0 {
		return nil, nil, fail(runtime.KindInvalid, "exec", c.Name, "no command")
	}
	program := c.work.exec()
	if !c.work.has(spec.Command[0]) {
		program = missingCommand
	}
	p := e.newProcess(c)
	p.Args, p.Env = spec.Command, slices.Concat(c.environment(), spec.Env)
	p.Dir, p.User = cmp.Or(spec.WorkingDir, c.workingDir()), cmp.Or(spec.User, c.spec.User, c.image.User)
	p.Stdout, p.Stderr = out, errOut
	if spec.TTY {
		p.Stderr, p.tty = out, true
	}
	if in != nil {
		p.Stdin = feed(in, p)
	}
	c.execs = append(c.execs, p)
	done := make(chan int, 1)
	line := strings.Join(spec.Command, " ")
	e.containerEvent(c, "exec_create: "+line)
	e.containerEvent(c, "exec_start: "+line)
	e.spawnLocked(func() {
		code := p.run(program)
		e.endExec(c, p)
		e.mu.Lock()
		e.containerEvent(c, "exec_die", "exitCode", strconv.Itoa(code))
		e.mu.Unlock()
		done <- code
	})
	return p, done, nil
}

// missingCommand is what becomes of a command that does not exist.
func missingCommand(p *Process) int {
	p.errorf("exec: %q: executable file not found in $PATH\n", p.Args[0])
	return 127
}

// feed copies the caller's input to a pipe of the process, which can be closed
// when the caller's reader cannot.
func feed(in io.Reader, p *Process) io.Reader {
	stdin := newPipe()
	go func() { // ends with the caller's reader
		_, _ = io.Copy(stdin, in)
		_ = stdin.Close()
	}()
	p.engine.spawnLocked(func() {
		select {
		case <-p.killed:
		case <-p.done:
		}
		_ = stdin.Close()
	})
	return stdin
}

func (p *Process) resize(size runtime.TTYSize) {
	p.engine.mu.Lock()
	defer p.engine.mu.Unlock()
	p.size = size
	select {
	case p.resized <- struct{}{}:
	default:
	}
}

// Size is the size of the process's terminal, as last set.
func (p *Process) Size() runtime.TTYSize {
	p.engine.mu.Lock()
	defer p.engine.mu.Unlock()
	return p.size
}

// Attach connects to the main process until it ends or the user detaches.
func (e *Engine) Attach(ctx context.Context, id string, opts runtime.AttachOptions, streams runtime.Streams) error {
	return e.call(ctx, "attach", id, func(ctx context.Context, _ *Call) error {
		c, s, exited, err := e.addSink(id, opts)
		if err != nil {
			return err
		}
		var copies sync.WaitGroup
		copies.Go(func() { drain(streams.Out, s.out) })
		copies.Go(func() { drain(streams.Err, s.err) })
		defer copies.Wait()
		defer e.dropSink(c, s)
		detached := make(chan struct{})
		if streams.In != nil && !opts.NoStdin && c.spec.StdinOpen {
			e.mu.Lock()
			stdin := c.input()
			e.mu.Unlock()
			go func() { // ends with the caller's reader
				if forward(stdin, streams.In, detachKeys(opts.DetachKeys, c.TTY)) {
					close(detached)
				} else if c.spec.StdinOnce {
					_ = stdin.Close() // closing a pipe never fails
				}
			}()
		}
		if opts.Ready != nil {
			close(opts.Ready)
		}
		for {
			select {
			case <-exited:
				return nil
			case <-detached:
				return nil
			case size, ok := <-opts.Resize:
				if !ok {
					opts.Resize = nil
				}
				e.resizeMain(c, size)
			case <-ctx.Done():
				return &runtime.Error{Kind: runtime.KindUnavailable, Op: "attach", Object: c.Name, Err: ctx.Err()}
			case <-e.closed:
				return nil
			}
		}
	})
}

func (e *Engine) resizeMain(c *container, size runtime.TTYSize) {
	e.mu.Lock()
	p := c.proc
	e.mu.Unlock()
	if p != nil {
		p.resize(size)
	}
}

func (e *Engine) addSink(id string, opts runtime.AttachOptions) (*container, *sink, <-chan struct{}, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c, err := e.get("attach", id)
	if err != nil {
		return nil, nil, nil, err
	}
	if c.State == runtime.Paused || c.State == runtime.Restarting {
		return nil, nil, nil, fail(runtime.KindConflict, "attach", c.Name, "not possible while the container is %s", c.State)
	}
	s := &sink{out: newPipe(), err: newPipe()}
	if opts.Logs {
		for _, l := range c.output.lines {
			w := s.out
			if l.err {
				w = s.err
			}
			_, _ = w.Write(l.data) // a new pipe takes everything
		}
	}
	c.output.sinks[s] = true
	return c, s, c.exited, nil
}

func (e *Engine) dropSink(c *container, s *sink) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(c.output.sinks, s)
	s.close()
}

func drain(w io.Writer, p *pipe) {
	if w == nil {
		w = io.Discard
	}
	if _, err := io.Copy(w, p); err != nil {
		_, _ = io.Copy(io.Discard, p) // nobody reads any more
	}
}

// forward copies input to stdin and reports whether the user detached.
func forward(stdin *pipe, in io.Reader, keys []byte) (detached bool) {
	buf := make([]byte, 4096)
	matched := 0
	for {
		n, err := in.Read(buf)
		for _, b := range buf[:n] {
			if len(keys) > 0 && b == keys[matched] {
				if matched++; matched == len(keys) {
					return true
				}
				continue
			}
			_, _ = stdin.Write(append(bytes.Clone(keys[:matched]), b)) // a process that ended reads nothing
			matched = 0
		}
		if err != nil {
			return false
		}
	}
}

// detachKeys are the bytes that detach from a terminal.
func detachKeys(s string, tty bool) []byte {
	if !tty {
		return nil
	}
	var keys []byte
	for key := range strings.SplitSeq(cmp.Or(s, "ctrl-p,ctrl-q"), ",") {
		if name, ok := strings.CutPrefix(key, "ctrl-"); ok && len(name) == 1 {
			keys = append(keys, name[0]&0x1f)
		} else {
			keys = append(keys, key...)
		}
	}
	return keys
}

// Stats calls fn with samples, one a second.
func (e *Engine) Stats(ctx context.Context, id string, stream bool, fn func(runtime.Stats) bool) error {
	return e.call(ctx, "stats", id, func(ctx context.Context, _ *Call) error {
		for {
			e.mu.Lock()
			c, err := e.get("stats", id)
			if err != nil {
				e.mu.Unlock()
				return err
			}
			sample, exited, alive := e.sample(c), c.exited, c.State == runtime.Running || c.State == runtime.Paused
			e.mu.Unlock()
			if !alive {
				return fail(runtime.KindConflict, "stats", c.Name, "not possible while the container is %s", c.State)
			}
			if !fn(sample) || !stream {
				return nil
			}
			t := time.NewTimer(time.Second)
			select {
			case <-t.C:
			case <-exited:
				t.Stop()
				return nil
			case <-ctx.Done():
				t.Stop()
				return &runtime.Error{Kind: runtime.KindUnavailable, Op: "stats", Object: c.Name, Err: ctx.Err()}
			case <-e.closed:
				t.Stop()
				return nil
			}
		}
	})
}

// sample is the use of a container now. The use that a workload declares is even over its run.
func (e *Engine) sample(c *container) runtime.Stats {
	now := e.nowLocked()
	s := runtime.Stats{Time: now, OnlineCPUs: e.opts.CPUs, MemoryLimit: unsigned(e.opts.Memory)}
	s.SystemNanos = unsigned(now.UnixNano()) * unsigned(int64(e.opts.CPUs))
	if c.Limits.Memory > 0 {
		s.MemoryLimit = unsigned(c.Limits.Memory)
	}
	if c.proc == nil {
		return s
	}
	s.CPUNanos = uint64(c.work.CPU * float64(c.Uptime(now)))
	if from := c.proc.burning; !from.IsZero() {
		s.CPUNanos += unsigned(int64(now.Sub(from)))
	}
	s.Memory = c.work.Memory + unsigned(c.proc.memory)
	s.Pids = 1 + uint64(len(c.execs)) + c.proc.children
	return s
}

// unsigned is n, and 0 for what is below it.
func unsigned(n int64) uint64 { return uint64(max(0, n)) }

// Top lists the processes of a container.
func (e *Engine) Top(ctx context.Context, id string, psArgs []string) (table runtime.Processes, err error) {
	err = e.call(ctx, "top", id, func(context.Context, *Call) error {
		e.mu.Lock()
		defer e.mu.Unlock()
		c, err := e.get("top", id)
		if err != nil {
			return err
		}
		if c.proc == nil {
			return fail(runtime.KindConflict, "top", c.Name, "not possible while the container is %s", c.State)
		}
		table.Titles = []string{"UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"}
		if len(psArgs) > 0 && slices.Contains(psArgs, "-o") {
			table.Titles = strings.Split(psArgs[len(psArgs)-1], ",")
		}
		for _, p := range append([]*Process{c.proc}, c.execs...) {
			table.Rows = append(table.Rows, p.row(table.Titles, c))
		}
		return nil
	})
	return table, err
}

func (p *Process) row(titles []string, c *container) []string {
	known := map[string]string{
		"UID": cmp.Or(p.User, "root"), "USER": cmp.Or(p.User, "root"), "PID": strconv.Itoa(p.pid), "PPID": "1", "C": "0",
		"STIME": c.Started.UTC().Format("15:04"), "TTY": "?", "TIME": "00:00:00", "CMD": strings.Join(p.Args, " "), "COMMAND": strings.Join(p.Args, " "),
	}
	var row []string
	for _, t := range titles {
		row = append(row, known[strings.ToUpper(t)])
	}
	return row
}

// CopyTo extracts a tar archive into a directory of the container.
func (e *Engine) CopyTo(ctx context.Context, id, dir string, archive io.Reader, keepOwner bool) error {
	return e.call(ctx, "copy-to", id, func(_ context.Context, call *Call) error {
		data, err := io.ReadAll(archive)
		if err != nil {
			return fail(runtime.KindInvalid, "copy to", id, "read the archive: %w", err)
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		c, err := e.get("copy to", id)
		if err != nil {
			return err
		}
		f, at := c.find(dir)
		switch {
		case f == nil:
			return fail(runtime.KindNotFound, "copy to", c.Name, "no such directory: %s", dir)
		case !f.mode.IsDir():
			return fail(runtime.KindInvalid, "copy to", c.Name, "%s is not a directory", dir)
		}
		if err := c.extract(at, data, keepOwner); err != nil {
			return fail(runtime.KindInvalid, "copy to", c.Name, "extract into %s: %w", dir, err)
		}
		call.Changed = true
		e.containerEvent(c, "extract-to-dir", "path", dir)
		return nil
	})
}

// CopyFrom returns a tar archive of a path in the container.
func (e *Engine) CopyFrom(ctx context.Context, id, name string) (archive io.ReadCloser, stat runtime.PathStat, err error) {
	err = e.call(ctx, "copy-from", id, func(context.Context, *Call) error {
		e.mu.Lock()
		defer e.mu.Unlock()
		c, at, st, err := e.statLocked("copy from", id, name)
		if err != nil {
			return err
		}
		data, err := c.archive(at)
		if err != nil {
			return fail(runtime.KindInvalid, "copy from", c.Name, "archive %s: %w", name, err)
		}
		archive, stat = io.NopCloser(bytes.NewReader(data)), st
		e.containerEvent(c, "archive-path", "path", name)
		return nil
	})
	if err != nil {
		return nil, runtime.PathStat{}, err
	}
	return archive, stat, nil
}

// StatPath describes a path in the container.
func (e *Engine) StatPath(ctx context.Context, id, name string) (stat runtime.PathStat, err error) {
	err = e.call(ctx, "stat-path", id, func(context.Context, *Call) error {
		e.mu.Lock()
		defer e.mu.Unlock()
		_, _, stat, err = e.statLocked("stat", id, name)
		return err
	})
	return stat, err
}

func (e *Engine) statLocked(op, id, name string) (*container, string, runtime.PathStat, error) {
	c, err := e.get(op, id)
	if err != nil {
		return nil, "", runtime.PathStat{}, err
	}
	m, rel := c.resolve(name)
	f := m.tree.files[rel]
	if f == nil {
		return nil, "", runtime.PathStat{}, fail(runtime.KindNotFound, op, c.Name, "no such file or directory: %s", name)
	}
	return c, clean(name), f.stat(path.Base(clean(name))), nil
}

// WriteVolume puts a file into a volume, as a container would.
func (e *Engine) WriteVolume(name, file string, data []byte) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	v, err := e.getVolume("write volume", name)
	if err != nil {
		return err
	}
	v.tree.put(file, newFile(data, e.nowLocked()))
	return nil
}

// ReadVolume returns the files of a volume by their absolute path in it.
func (e *Engine) ReadVolume(name string) (map[string]string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	v, err := e.getVolume("read volume", name)
	if err != nil {
		return nil, err
	}
	files := map[string]string{}
	for _, p := range slices.Sorted(maps.Keys(v.tree.files)) {
		if f := v.tree.files[p]; f.mode.IsRegular() {
			files[p] = string(f.data)
		}
	}
	return files, nil
}
