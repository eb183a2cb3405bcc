package docker

import (
	"context"
	"errors"
	"io"
	"strconv"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/stdcopy"

	"github.com/berth-dev/berth/runtime"
)

// Logs writes a container's output to the two writers, which may be one. With
// a TTY all of it is stdout. With Follow it returns when the container has
// ended or ctx does.
func (e *Engine) Logs(ctx context.Context, id string, opts runtime.LogOptions, stdout, stderr io.Writer) error {
	const op = "read the log of"
	c, err := e.inspect(ctx, op, id)
	if err != nil {
		return err
	}
	if !opts.Follow {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, e.timeouts.Transfer)
		defer cancel()
	}
	ctx, opened, cancel := e.opening(ctx)
	defer cancel()
	body, err := e.api().ContainerLogs(ctx, id, logsOptions(opts))
	if err := opened(err); err != nil {
		return e.fail(op, c.Name, err)
	}
	defer body.Close()
	return e.fail(op, c.Name, demux(ctx, c.TTY, body, stdout, stderr))
}

func logsOptions(o runtime.LogOptions) container.LogsOptions {
	out := container.LogsOptions{
		ShowStdout: o.Stdout, ShowStderr: o.Stderr, Timestamps: o.Timestamps, Follow: o.Follow,
		Since: timestamp(o.Since), Until: timestamp(o.Until), Tail: "all",
	}
	if o.Tail >= 0 {
		out.Tail = strconv.Itoa(o.Tail)
	}
	return out
}

func timestamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Format(time.RFC3339Nano)
}

// demux copies a container's output: raw with a TTY, else in the engine's
// frames of two streams. A nil writer takes and forgets.
func demux(ctx context.Context, tty bool, r io.Reader, stdout, stderr io.Writer) error {
	if stdout == nil {
		stdout = io.Discard
	}
	if stderr == nil {
		stderr = io.Discard
	}
	var err error
	if tty {
		_, err = io.Copy(stdout, r)
	} else {
		_, err = stdcopy.StdCopy(stdout, stderr, r)
	}
	if err != nil && ctx.Err() != nil {
		return ctx.Err() // the broken read is only its consequence
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
