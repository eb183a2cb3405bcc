package docker

import (
	"context"

	"github.com/docker/docker/api/types/container"

	"github.com/berth-dev/berth/runtime"
)

// Attach connects to a container's main process until it ends or the user
// detaches. The container need not run yet: opts.Ready is closed once nothing
// it writes can be missed, and is closed too when Attach fails.
func (e *Engine) Attach(ctx context.Context, id string, opts runtime.AttachOptions, streams runtime.Streams) error {
	const op = "attach to"
	ready := func() {
		if opts.Ready != nil {
			close(opts.Ready)
			opts.Ready = nil
		}
	}
	defer ready()
	call, cancel := e.query(ctx)
	defer cancel()
	in, err := e.api().ContainerInspect(call, id)
	if err != nil {
		return e.fail(op, id, err)
	}
	c := containerOf(in)
	if c.State == runtime.Paused || c.State == runtime.Restarting {
		return refuse(runtime.KindConflict, op, c.Name, "not possible while the container is %s", c.State)
	}
	if opts.NoStdin || !in.Config.OpenStdin {
		streams.In = nil
	}
	conn, err := e.api().ContainerAttach(ctx, id, container.AttachOptions{
		Stream: true, Stdin: streams.In != nil, Stdout: true, Stderr: true, Logs: opts.Logs, DetachKeys: opts.DetachKeys,
	})
	if err != nil {
		return e.fail(op, c.Name, err)
	}
	ready()
	resize := func(ctx context.Context, s runtime.TTYSize) error {
		return e.api().ContainerResize(ctx, id, container.ResizeOptions{Height: s.Rows, Width: s.Cols})
	}
	closeInput := in.Config.StdinOnce && !c.TTY
	return e.fail(op, c.Name, e.converse(ctx, conn, c.TTY, closeInput, streams, sizes{more: opts.Resize}, resize))
}
