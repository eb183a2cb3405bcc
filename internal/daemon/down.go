package daemon

import (
	"context"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/reconcile"
	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
)

// takeDown takes a stack, or some services of it, away. One that is forgotten,
// since it went down before, is taken up again by the file that comes along
// when something of it is left, such as its volumes.
func (d *Daemon) takeDown(ctx context.Context, name string, req *api.DownRequest) (api.Accepted, error) {
	if req.Stack != nil && req.Stack.Name != name {
		return api.Accepted{}, invalid("take down", name, "the request brings another stack")
	}
	acc, err := d.down(ctx, name, req.Down)
	if !runtime.IsNotFound(err) || req.Stack == nil || len(req.Services) > 0 {
		return acc, err
	}
	obs, lookErr := d.observe(ctx, name, req.Stack)
	if lookErr != nil {
		return acc, lookErr
	}
	if !d.leaves(obs, req) {
		return acc, err
	}
	wish := &reconcile.Desired{Stack: req.Stack, Owner: d.owner, Version: d.cfg.Version, Services: map[string]reconcile.ServiceState{}}
	return d.accept(req.Stack, nil, func(before *reconcile.Desired) (*reconcile.Desired, error) {
		if before != nil {
			wish = before // declared meanwhile
		}
		return goDown(wish, req.Down)
	})
}

// leaves reports whether anything of ours that a down takes away is there.
func (d *Daemon) leaves(obs *reconcile.Observed, req *api.DownRequest) bool {
	mine := func(labels map[string]string) bool {
		return labels[runtime.LabelOwner] == d.owner && labels[runtime.LabelStack] == req.Stack.Name
	}
	for i := range obs.Containers {
		if mine(obs.Containers[i].Labels) {
			return true
		}
	}
	for _, n := range obs.Networks {
		if mine(n.Labels) {
			return true
		}
	}
	for _, v := range obs.Volumes {
		if req.Volumes && mine(v.Labels) && declares(req.Stack, v.Name) {
			return true
		}
	}
	return false
}

// declares reports whether a volume is one of the stack's own.
func declares(s *stack.Stack, volume string) bool {
	for i := range s.Volumes {
		if s.Volumes[i].Spec.Name == volume {
			return !s.Volumes[i].External
		}
	}
	return false
}
