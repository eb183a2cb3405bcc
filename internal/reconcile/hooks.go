package reconcile

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
)

// hookTime bounds one command that is run in a container on its start or for a
// failed probe.
const hookTime = 10 * time.Minute

// afterStart runs the commands of a container's start, in order. One that fails
// stops the container, as the Compose specification has it.
func (x *Executor) afterStart(ctx context.Context, s Step) error {
	for _, h := range s.Hooks {
		if err := x.command(ctx, s, h); err != nil {
			if runtime.IsUnavailable(err) {
				return err // it is tried again, the container runs on
			}
			return errors.Join(err, gone(x.Engine.Stop(ctx, s.Container, "", s.Grace)))
		}
	}
	return nil
}

// beforeStop runs the commands that precede a container's stop. One that fails
// holds the stop back, as the Compose specification has it; one that takes longer
// than the container's grace is left behind.
func (x *Executor) beforeStop(ctx context.Context, s Step) error {
	if len(s.Hooks) == 0 || s.Grace <= 0 {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, s.Grace)
	defer cancel()
	for _, h := range s.Hooks {
		err := x.command(limited, s, h)
		switch {
		case limited.Err() != nil && ctx.Err() == nil:
			return nil
		case runtime.IsNotFound(err) || runtime.IsConflict(err):
			return nil // it does not run any more
		case err != nil:
			return err
		}
	}
	return nil
}

// command runs one command in a container. It is an error of kind Invalid when
// it exits with anything but 0.
func (x *Executor) command(ctx context.Context, s Step, h stack.Hook) error {
	ctx, cancel := context.WithTimeout(ctx, hookTime)
	defer cancel()
	var out tail
	spec := runtime.ExecSpec{Command: h.Command, Env: h.Env, User: h.User, WorkingDir: h.WorkingDir, Privileged: h.Privileged}
	code, err := x.Engine.Exec(ctx, s.Container, spec, runtime.Streams{Out: &out, Err: &out})
	if err != nil {
		return err
	}
	if code != 0 {
		why := fmt.Sprintf("%s: %s exited with %d", s.Cause, h.Command[0], code)
		if last := lastLine(x.redact(out.String())); last != "" {
			why += ": " + last
		}
		return &runtime.Error{Kind: runtime.KindInvalid, Op: string(s.Op), Object: s.Name, Err: errors.New(why)}
	}
	return nil
}

func (x *Executor) redact(text string) string {
	if x.Redact == nil {
		return text
	}
	return x.Redact(text)
}

func (x *Executor) notify(ctx context.Context, name string, s Step) error {
	if x.Notify == nil {
		return &runtime.Error{Kind: runtime.KindInvalid, Op: string(s.Op), Object: s.Name, Err: errors.New("nobody can be told from here")}
	}
	return x.Notify(ctx, name, s)
}

// tail keeps the end of what is written to it.
type tail struct{ kept []byte }

// tailSize is how much a tail keeps, in bytes.
const tailSize = 4 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p...)
	if over := len(t.kept) - tailSize; over > 0 {
		t.kept = append(t.kept[:0], t.kept[over:]...)
	}
	return len(p), nil
}

func (t *tail) String() string { return strings.ToValidUTF8(string(t.kept), "\uFFFD") }
