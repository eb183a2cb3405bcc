package docker

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/container"

	"github.com/berth-dev/berth/runtime"
)

// Exec runs a command in a running container and returns its exit code; 126
// and 127 say that it could not be run. Detached, it returns 0 at once. When
// ctx ends it returns, but the engine has no way to end the command.
//
// A goroutine reads streams.In until it ends, which may be after Exec returned:
// a read that blocks cannot be taken back.
func (e *Engine) Exec(ctx context.Context, id string, spec runtime.ExecSpec, streams runtime.Streams) (int, error) {
	const op = "exec in"
	if len(spec.Command) == 0 {
		return 0, refuse(runtime.KindInvalid, op, id, "no command")
	}
	size := initialSize(spec)
	call, cancel := e.change(ctx)
	defer cancel()
	c := e.api()
	made, err := c.ContainerExecCreate(call, id, execOptions(spec, streams, size))
	if err != nil {
		return 0, e.fail(op, id, err)
	}
	start := container.ExecStartOptions{Tty: spec.TTY, Detach: spec.Detach}
	if c.atLeast("1.42") {
		start.ConsoleSize = size
	}
	if spec.Detach {
		return 0, e.fail(op, id, c.ContainerExecStart(call, made.ID, start))
	}
	conn, err := c.ContainerExecAttach(ctx, made.ID, start)
	if err != nil {
		return 0, e.fail(op, id, err)
	}
	resize := func(ctx context.Context, s runtime.TTYSize) error {
		return c.ContainerExecResize(ctx, made.ID, container.ResizeOptions{Height: s.Rows, Width: s.Cols})
	}
	if err := e.converse(ctx, conn, spec.TTY, !spec.TTY, streams, first(size, spec.Resize), resize); err != nil {
		return 0, e.fail(op, id, err)
	}
	code, err := e.execCode(ctx, c, made.ID, spec.TTY && streams.In != nil)
	return code, e.fail(op, id, err)
}

func execOptions(spec runtime.ExecSpec, streams runtime.Streams, size *[2]uint) container.ExecOptions {
	return container.ExecOptions{
		User: spec.User, Privileged: spec.Privileged, Tty: spec.TTY, ConsoleSize: size, DetachKeys: spec.DetachKeys,
		AttachStdin: streams.In != nil && !spec.Detach, AttachStdout: !spec.Detach, AttachStderr: !spec.Detach,
		Env: spec.Env, WorkingDir: spec.WorkingDir, Cmd: spec.Command,
	}
}

// initialSize takes the terminal's size where it is already told, so that the
// command sees it from its first instant.
func initialSize(spec runtime.ExecSpec) *[2]uint {
	if !spec.TTY || spec.Resize == nil {
		return nil
	}
	select {
	case s, ok := <-spec.Resize:
		if ok {
			return &[2]uint{s.Rows, s.Cols}
		}
	default:
	}
	return nil
}

// sizes is a terminal's changing size; start is one already known.
type sizes struct {
	start *runtime.TTYSize
	more  <-chan runtime.TTYSize
}

func first(size *[2]uint, more <-chan runtime.TTYSize) sizes {
	s := sizes{more: more}
	if size != nil {
		s.start = &runtime.TTYSize{Rows: size[0], Cols: size[1]}
	}
	return s
}

// execCode asks for the exit code. The output can end a moment before the
// command does; one that was detached from goes on, and then the code is 0.
func (e *Engine) execCode(ctx context.Context, c *conn, execID string, detachable bool) (int, error) {
	const detachedAfter = 2 * time.Second
	waited := time.Duration(0)
	for wait := 2 * time.Millisecond; ; wait = min(2*wait, 250*time.Millisecond) {
		call, cancel := e.query(ctx)
		in, err := c.ContainerExecInspect(call, execID)
		cancel()
		switch {
		case err != nil:
			return 0, err
		case !in.Running:
			return in.ExitCode, nil
		case detachable && waited > detachedAfter:
			return 0, nil
		case !pause(ctx, wait):
			return 0, ctx.Err()
		}
		waited += wait
	}
}

// converse moves bytes between streams and a hijacked connection until the
// output ends. closeInput tells the other side when the input has ended; it
// must not be set where the engine would then drop the output as well.
func (e *Engine) converse(ctx context.Context, conn types.HijackedResponse, tty, closeInput bool, s runtime.Streams, size sizes, resize func(context.Context, runtime.TTYSize) error) error {
	defer conn.Close()
	stop := context.AfterFunc(ctx, conn.Close)
	defer stop()
	during, done := context.WithCancel(ctx)
	var resizer sync.WaitGroup
	defer resizer.Wait()
	defer done()
	if tty && (size.start != nil || size.more != nil) {
		resizer.Go(func() { e.follow(during, size, resize) })
	}
	if s.In != nil {
		go func() { // ends with s.In or with the connection
			_, _ = io.Copy(conn.Conn, s.In) // a broken connection ends the output too, which is reported
			if closeInput {
				_ = conn.CloseWrite()
			}
		}()
	}
	return demux(ctx, tty, conn.Reader, s.Out, s.Err)
}

// follow passes a terminal's sizes on until ctx ends. The first may come before
// the process exists and is tried again for a moment.
func (e *Engine) follow(ctx context.Context, size sizes, resize func(context.Context, runtime.TTYSize) error) {
	set := func(s runtime.TTYSize) {
		if s.Rows == 0 || s.Cols == 0 {
			return
		}
		for wait := 10 * time.Millisecond; wait < time.Second; wait *= 2 {
			call, cancel := e.query(ctx)
			err := resize(call, s)
			cancel()
			if err == nil || !pause(ctx, wait) {
				return
			}
		}
	}
	if size.start != nil {
		set(*size.start)
	}
	for {
		select {
		case <-ctx.Done():
			return
		case s, ok := <-size.more:
			if !ok {
				return
			}
			set(s)
		}
	}
}
