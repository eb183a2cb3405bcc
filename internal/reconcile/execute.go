package reconcile

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
)

// Writer is what the executor needs of an engine: the calls that change it.
type Writer interface {
	containerWriter
	objectWriter
	Exec(ctx context.Context, id string, spec runtime.ExecSpec, streams runtime.Streams) (int, error)
}

type containerWriter interface {
	Create(ctx context.Context, name string, labels map[string]string, spec *runtime.Spec, contents map[string][]byte) (string, error)
	Start(ctx context.Context, id string) error
	Stop(ctx context.Context, id, signal string, grace time.Duration) error
	Kill(ctx context.Context, id, signal string) error
	Restart(ctx context.Context, id, signal string, grace time.Duration) error
	Pause(ctx context.Context, id string) error
	Unpause(ctx context.Context, id string) error
	Update(ctx context.Context, id string, limits runtime.Limits, restart runtime.RestartPolicy) error
	Rename(ctx context.Context, id, name string) error
	Remove(ctx context.Context, id string, volumes, force bool) error
	Inspect(ctx context.Context, id string) (runtime.Container, error)
}

type objectWriter interface {
	Pull(ctx context.Context, ref string, opts runtime.PullOptions) error
	Build(ctx context.Context, build *runtime.Build, progress func(runtime.Progress)) (string, error)
	EnsureNetwork(ctx context.Context, spec *runtime.NetworkSpec) (string, error)
	RemoveNetwork(ctx context.Context, id string) error
	EnsureVolume(ctx context.Context, spec *runtime.VolumeSpec) (runtime.Volume, error)
	RemoveVolume(ctx context.Context, name string) error
}

// Executor carries out steps. It is the only code of Berth that changes
// containers, networks and volumes.
type Executor struct {
	Engine Writer
	// Contents returns the content of a stack's config or secret by
	// runtime.File.Name; an error holds the container's creation back.
	Contents func(stack, name string) ([]byte, error)
	// Notify tells an address outside that a probe has failed; nil: it cannot.
	Notify func(ctx context.Context, stack string, s Step) error
	// Redact takes out of a command's output what nobody may see; nil: nothing.
	Redact func(text string) string
	// Relay returns an image that holds the program of relays, made where it is
	// missing, and what starts it; the ports follow as arguments. nil: there is none.
	Relay func(ctx context.Context) (image string, entrypoint []string, err error)
	// Progress is told how long steps (pull, build) come along; nil: nobody.
	Progress func(Step, runtime.Progress)
}

// Result is what a step has led to.
type Result struct {
	Container string // ID of the container it was about; of the new one after a creation
	Adopted   bool   // a creation found the container already there
}

// Execute makes the one engine call of a step. Every step is idempotent: what
// is found done already is a success.
func (x *Executor) Execute(ctx context.Context, name string, s Step) (Result, error) {
	res := Result{Container: s.Container}
	var err error
	switch s.Op {
	case OpCreate:
		return x.create(ctx, name, s)
	case OpStart:
		err = x.Engine.Start(ctx, s.Container)
	case OpStop:
		if err = x.beforeStop(ctx, s); err == nil {
			err = gone(x.Engine.Stop(ctx, s.Container, s.Signal, s.Grace))
		}
	case OpKill:
		err = notRunning(x.Engine.Kill(ctx, s.Container, s.Signal))
	case OpRestart:
		if err = x.beforeStop(ctx, s); err == nil {
			err = x.Engine.Restart(ctx, s.Container, s.Signal, s.Grace)
		}
	case OpPause:
		err = x.Engine.Pause(ctx, s.Container)
	case OpUnpause:
		err = x.Engine.Unpause(ctx, s.Container)
	case OpUpdate:
		err = x.Engine.Update(ctx, s.Container, s.Limits, s.Restart)
	case OpRename:
		err = x.Engine.Rename(ctx, s.Container, s.NewName)
	case OpRemove:
		err = gone(x.Engine.Remove(ctx, s.Container, s.Volumes, s.Force))
	case OpHook:
		err = x.afterStart(ctx, s)
	case OpExec:
		err = x.command(ctx, s, stack.Hook{Command: s.Command})
	case OpNotify:
		err = x.notify(ctx, name, s)
	default:
		err = x.object(ctx, s)
	}
	return res, err
}

// object carries out a step on an image, network or volume.
func (x *Executor) object(ctx context.Context, s Step) error {
	progress := func(p runtime.Progress) {
		if x.Progress != nil {
			x.Progress(s, p)
		}
	}
	switch s.Op {
	case OpPull:
		return x.Engine.Pull(ctx, s.Name, runtime.PullOptions{Progress: progress})
	case OpBuild:
		_, err := x.Engine.Build(ctx, s.Build, progress)
		return err
	case OpNetCreate:
		_, err := x.Engine.EnsureNetwork(ctx, s.Network)
		return err
	case OpNetRemove:
		return gone(x.Engine.RemoveNetwork(ctx, s.Container))
	case OpVolCreate:
		_, err := x.Engine.EnsureVolume(ctx, s.Volume)
		return err
	case OpVolRemove:
		return gone(x.Engine.RemoveVolume(ctx, s.Name))
	default:
		return &runtime.Error{Kind: runtime.KindInvalid, Op: string(s.Op), Object: s.Name, Err: fmt.Errorf("unknown operation")}
	}
}

// create makes a container, or adopts the one that holds the name when it
// embodies the same replica in the same revision.
func (x *Executor) create(ctx context.Context, name string, s Step) (Result, error) {
	if s.Labels[runtime.LabelRelay] != "" {
		if err := x.program(ctx, &s); err != nil {
			return Result{}, err
		}
	}
	contents := make(map[string][]byte, len(s.Spec.Files))
	for _, f := range s.Spec.Files {
		data, err := x.Contents(name, f.Name)
		if err != nil {
			return Result{}, &runtime.Error{Kind: runtime.KindUnavailable, Op: "create", Object: s.Name, Err: err}
		}
		contents[f.Name] = data
	}
	id, err := x.Engine.Create(ctx, s.Name, s.Labels, s.Spec, contents)
	if !runtime.IsConflict(err) {
		return Result{Container: id}, err
	}
	return x.adopt(ctx, s, err)
}

// program gives the container of a relay its program, which Berth brings along.
func (x *Executor) program(ctx context.Context, s *Step) error {
	if x.Relay == nil {
		return &runtime.Error{Kind: runtime.KindInvalid, Op: "create", Object: s.Name, Err: errNoRelay}
	}
	image, entrypoint, err := x.Relay(ctx)
	if err != nil {
		return &runtime.Error{Kind: runtime.KindUnavailable, Op: "create", Object: s.Name, Err: fmt.Errorf("the image of the relay: %w", err)}
	}
	spec := *s.Spec
	spec.Image, spec.Entrypoint = image, entrypoint
	s.Spec = &spec
	return nil
}

// errNoRelay says that there is no program that relays.
var errNoRelay = errors.New("this Berth brings no relay along; use x-berth.discovery: dns")

func (x *Executor) adopt(ctx context.Context, s Step, conflict error) (Result, error) {
	c, err := x.Engine.Inspect(ctx, s.Name)
	if err != nil {
		return Result{}, conflict // the name's holder cannot be seen: another name is tried next
	}
	have, err := runtime.ParseIdentity(c.Labels)
	want, wantErr := runtime.ParseIdentity(s.Labels)
	switch {
	case err == nil && wantErr == nil && have.Same(want):
		return Result{Container: c.ID, Adopted: true}, nil
	case err == nil && have.Owner == want.Owner:
		return Result{}, conflict
	default:
		return Result{}, &runtime.Error{
			Kind: runtime.KindInvalid, Op: "create", Object: s.Name,
			Err: fmt.Errorf("the name is held by container %s, which this Berth did not create; remove or rename it, or run up --adopt", short(c.ID)),
		}
	}
}

// gone takes "not found" for the success of an operation that ends a container.
func gone(err error) error {
	if runtime.IsNotFound(err) {
		return nil
	}
	return err
}

// notRunning takes "does not run" for the success of a kill.
func notRunning(err error) error {
	if runtime.IsConflict(err) {
		return nil
	}
	return gone(err)
}
