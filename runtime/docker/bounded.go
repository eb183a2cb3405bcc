package docker

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"sync"
	"time"

	"github.com/docker/docker/api/types/container"

	"github.com/berth-dev/berth/runtime"
)

// MarkerEnv is the variable by which the processes of a bounded command are told
// from all others in the container, whatever has become of their parents.
const MarkerEnv = "BERTH_PROBE"

// Bounds limit a command in a container.
type Bounds struct {
	Time   time.Duration // from when the command runs
	Output int           // bytes kept of what it writes; the rest is read and dropped
	// Kill ends the command with all its children. pid is the command's main
	// process in the engine's PID namespace, 0 where the engine has not told;
	// marker is the value of [MarkerEnv] in its environment.
	Kill func(ctx context.Context, container string, pid int, marker string) error
}

// Ran is how a bounded command ended.
type Ran struct {
	Code     int
	Output   []byte // the beginning of both streams
	TimedOut bool   // it ran for longer than allowed, and Kill was called
	KillErr  error  // of Kill, whyever it was called: the command may still run
	// End calls Kill again; nil where KillErr is.
	End func(ctx context.Context) error
}

// The steps of a bounded command.
const (
	firstLook = 50 * time.Millisecond  // until the engine is asked whether it runs
	nextLook  = 250 * time.Millisecond // from one such question to the next
	drainTime = 500 * time.Millisecond // for its output to end after it did
	killTime  = 20 * time.Second       // for Kill
)

// RunBounded runs a command in a running container. Its time begins when the
// engine says that it runs, so a slow engine takes none of it. It is killed with
// its children when that has passed, and when ctx ends. An error says that it did
// not run, or that its end is not known; then Ran.KillErr says whether it may
// still run.
func (e *Engine) RunBounded(ctx context.Context, id string, argv []string, b Bounds) (Ran, error) {
	const op = "run a probe in"
	if len(argv) == 0 {
		return Ran{}, refuse(runtime.KindInvalid, op, id, "no command")
	}
	marker, err := newMarker()
	if err != nil {
		return Ran{}, e.fail(op, id, err)
	}
	c := e.api()
	call, cancel := e.change(ctx)
	defer cancel()
	made, err := c.ContainerExecCreate(call, id, container.ExecOptions{
		AttachStdout: true, AttachStderr: true, Cmd: argv, Env: []string{MarkerEnv + "=" + marker},
	})
	if err != nil {
		return Ran{}, e.fail(op, id, err)
	}
	conn, err := c.ContainerExecAttach(call, made.ID, container.ExecAttachOptions{})
	if err != nil {
		return Ran{}, e.fail(op, id, err)
	}
	out := &beginning{room: b.Output}
	r := &command{engine: e, conn: c, container: id, exec: made.ID, marker: marker, limit: b, output: make(chan struct{})}
	go func() { // ends with the connection
		defer close(r.output)
		_ = demux(ctx, false, conn.Reader, out, out) // how the command ended is asked for
	}()
	ran, err := r.wait(ctx)
	conn.Close()
	ran.Output = out.bytes()
	return ran, e.fail(op, id, err)
}

func newMarker() (string, error) {
	var b [12]byte
	_, err := rand.Read(b[:])
	return hex.EncodeToString(b[:]), err
}

// command is a bounded command under way.
type command struct {
	engine    *Engine
	conn      *conn
	container string
	exec      string
	marker    string
	limit     Bounds
	output    chan struct{} // closed when its output has ended
	pid       int           // 0: the engine has not told yet
}

// wait returns when the command has ended or was killed. Most commands end before
// the first look, so that they cost one question only.
func (r *command) wait(ctx context.Context) (Ran, error) {
	every := firstLook
	look := time.NewTimer(every)
	defer look.Stop()
	var late <-chan time.Time
	output, silent := r.output, false
	for {
		select {
		case <-output:
			output, silent, every = nil, true, time.Millisecond
		case <-late:
			ran := r.abandon(ctx)
			ran.TimedOut = true
			return ran, nil
		case <-ctx.Done():
			return r.abandon(ctx), ctx.Err()
		case <-look.C:
		}
		in, err := r.inspect(ctx)
		switch {
		case err != nil && ctx.Err() == nil && late == nil:
			return r.abandon(ctx), err // whether it runs, and since when, cannot be told
		case err != nil: // its time goes on
		case !in.Running && (silent || in.Pid > 0 || in.ExitCode != 0):
			r.drain(output) // a child may hold it open for ever
			return Ran{Code: in.ExitCode}, nil
		case in.Pid > 0 && late == nil:
			r.pid = in.Pid
			timer := time.NewTimer(r.limit.Time)
			defer timer.Stop()
			late = timer.C
		}
		every = min(2*every, nextLook)
		look.Reset(every)
	}
}

func (r *command) inspect(ctx context.Context) (container.ExecInspect, error) {
	call, cancel := r.engine.query(ctx)
	defer cancel()
	return r.conn.ContainerExecInspect(call, r.exec)
}

// abandon ends the command and its children, also when ctx has ended.
func (r *command) abandon(ctx context.Context) Ran {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), killTime)
	defer cancel()
	err := r.kill(ctx, r.pid)
	if err == nil {
		return Ran{}
	}
	// Later its PID may be another process's: the marker alone tells then.
	return Ran{KillErr: err, End: func(ctx context.Context) error { return r.kill(ctx, 0) }}
}

func (r *command) kill(ctx context.Context, pid int) error {
	if r.limit.Kill == nil {
		return errNoKill
	}
	return r.limit.Kill(ctx, r.container, pid, r.marker)
}

var errNoKill = errors.New("there is no way to end a command in a container")

// drain waits a moment for the rest of the output; nil: it has ended.
func (r *command) drain(output <-chan struct{}) {
	if output == nil {
		return
	}
	t := time.NewTimer(drainTime)
	defer t.Stop()
	select {
	case <-output:
	case <-t.C:
	}
}

// beginning keeps the first bytes written to it and drops the rest.
type beginning struct {
	mu   sync.Mutex
	room int
	kept []byte
}

func (b *beginning) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := min(len(p), b.room)
	b.kept = append(b.kept, p[:n]...)
	b.room -= n
	return len(p), nil
}

func (b *beginning) bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]byte(nil), b.kept...)
}
