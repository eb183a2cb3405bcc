package docker

import (
	"cmp"
	"context"
	"slices"

	"github.com/docker/docker/api/types/container"

	"github.com/berth-dev/berth/runtime"
)

// Inspect tells everything of one container.
func (e *Engine) Inspect(ctx context.Context, id string) (runtime.Container, error) {
	return e.inspect(ctx, "inspect", id)
}

func (e *Engine) inspect(ctx context.Context, op, id string) (runtime.Container, error) {
	call, cancel := e.query(ctx)
	defer cancel()
	in, err := e.api().ContainerInspect(call, id)
	if err != nil {
		return runtime.Container{}, e.fail(op, id, err)
	}
	return containerOf(in), nil
}

// List returns the containers that match, in every state, sorted by name. It
// is one call; exit codes and health are read from the engine's status text.
func (e *Engine) List(ctx context.Context, filter runtime.Filter) ([]runtime.Container, error) {
	call, cancel := e.query(ctx)
	defer cancel()
	in, err := e.api().ContainerList(call, container.ListOptions{All: true, Size: filter.Size, Filters: labelFilter(filter)})
	if err != nil {
		return nil, e.fail("list", "containers", err)
	}
	out := make([]runtime.Container, len(in))
	for i := range in {
		out[i] = containerOfSummary(in[i])
	}
	slices.SortFunc(out, func(a, b runtime.Container) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	return out, nil
}

// Wait returns once the container's process has ended, or at once when it does
// not run.
func (e *Engine) Wait(ctx context.Context, id string) (runtime.ExitStatus, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done, failed := e.api().ContainerWait(ctx, id, container.WaitConditionNotRunning)
	select {
	case r := <-done:
		s := runtime.ExitStatus{Code: int(r.StatusCode)}
		if r.Error != nil {
			s.Error = clean(r.Error.Message)
		}
		return s, nil
	case err := <-failed:
		return runtime.ExitStatus{}, e.fail("wait for", id, err)
	}
}

// Top lists the processes of a running container; without arguments as ps -ef.
func (e *Engine) Top(ctx context.Context, id string, psArgs []string) (runtime.Processes, error) {
	call, cancel := e.query(ctx)
	defer cancel()
	top, err := e.api().ContainerTop(call, id, psArgs)
	if err != nil {
		return runtime.Processes{}, e.fail("list the processes of", id, err)
	}
	return runtime.Processes{Titles: top.Titles, Rows: top.Processes}, nil
}
