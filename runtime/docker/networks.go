package docker

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/network"

	"github.com/berth-dev/berth/runtime"
)

// EnsureNetwork creates a network and returns its ID. One of that name that
// belongs to the same stack is returned as it is; any other is a Conflict.
func (e *Engine) EnsureNetwork(ctx context.Context, spec *runtime.NetworkSpec) (string, error) {
	const op = "create network"
	c := e.api()
	opts, err := networkOptions(spec, target{api: c.version})
	if err != nil {
		return "", refuse(runtime.KindInvalid, op, spec.Name, "%w", err)
	}
	call, cancel := e.change(ctx)
	defer cancel()
	res, err := c.NetworkCreate(call, spec.Name, opts)
	switch {
	case err == nil && res.Warning != "":
		e.warn(op + " " + spec.Name + ": " + clean(res.Warning))
		fallthrough
	case err == nil:
		return res.ID, nil
	case !errdefs.IsConflict(err) && !outcomeUnknown(err):
		return "", e.fail(op, spec.Name, err)
	}
	have, lookErr := e.Network(context.WithoutCancel(ctx), spec.Name)
	if lookErr != nil {
		return "", e.fail(op, spec.Name, err)
	}
	if !sameStack(have.Labels, spec.Labels) {
		return "", refuse(runtime.KindConflict, op, spec.Name,
			"a network of that name exists and is not this stack's (%s): remove it, or declare it external", stackOf(have.Labels))
	}
	return have.ID, nil
}

// sameStack reports whether an object carries the stack, and where one is
// wanted the owner, of the wanted labels.
func sameStack(have, want map[string]string) bool {
	return have[runtime.LabelStack] == want[runtime.LabelStack] &&
		(want[runtime.LabelOwner] == "" || have[runtime.LabelOwner] == want[runtime.LabelOwner])
}

func stackOf(labels map[string]string) string {
	if s := labels[runtime.LabelStack]; s != "" {
		return "it belongs to stack " + s
	}
	if s := labels[runtime.LabelComposeProject]; s != "" {
		return "it belongs to the Compose project " + s
	}
	return "it carries no stack's label"
}

// Network finds a network by name or ID.
func (e *Engine) Network(ctx context.Context, name string) (runtime.Network, error) {
	in, err := e.network(ctx, "inspect network", name)
	if err != nil {
		return runtime.Network{}, err
	}
	return networkOf(in), nil
}

func (e *Engine) network(ctx context.Context, op, name string) (network.Inspect, error) {
	call, cancel := e.query(ctx)
	defer cancel()
	in, err := e.api().NetworkInspect(call, name, network.InspectOptions{})
	return in, e.fail(op, name, err)
}

// ListNetworks returns the networks that match, sorted by name. Which
// containers are attached is told by [Engine.Network] only.
func (e *Engine) ListNetworks(ctx context.Context, filter runtime.Filter) ([]runtime.Network, error) {
	call, cancel := e.query(ctx)
	defer cancel()
	in, err := e.api().NetworkList(call, network.ListOptions{Filters: labelFilter(filter)})
	if err != nil {
		return nil, e.fail("list", "networks", err)
	}
	out := make([]runtime.Network, len(in))
	for i := range in {
		out[i] = networkOf(in[i])
	}
	slices.SortFunc(out, func(a, b runtime.Network) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	return out, nil
}

// RemoveNetwork removes a network. Where the engine still holds endpoints it
// waits for a bounded time and disconnects those of stopped containers of the
// network's own stack. A live container on it is a Conflict that names it.
func (e *Engine) RemoveNetwork(ctx context.Context, id string) error {
	const op = "remove network"
	call, cancel := e.change(ctx)
	defer cancel()
	err := e.api().NetworkRemove(call, id)
	if err == nil || !strings.Contains(err.Error(), "active endpoints") {
		return e.fail(op, id, err)
	}
	call, cancel = context.WithTimeout(ctx, e.timeouts.Gone)
	defer cancel()
	stuck := "endpoints"
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		in, lookErr := e.network(call, op, id)
		if runtime.IsNotFound(lookErr) {
			return nil
		}
		if lookErr == nil {
			if stuck, err = e.releaseEndpoints(call, &in); err != nil {
				return err
			}
		}
		err = e.api().NetworkRemove(call, id)
		if err == nil || errdefs.IsNotFound(err) {
			return nil
		}
		if !pause(call, wait) {
			break
		}
	}
	if ctx.Err() != nil {
		return e.fail(op, id, ctx.Err())
	}
	return refuse(runtime.KindConflict, op, id, "the engine still holds %s after %s", stuck, e.timeouts.Gone)
}

// releaseEndpoints disconnects what may be disconnected and names the rest. An
// error says that a live container uses the network.
func (e *Engine) releaseEndpoints(ctx context.Context, in *network.Inspect) (stuck string, err error) {
	var rest []string
	for _, key := range sortedKeys(in.Containers) {
		name := in.Containers[key].Name
		c, err := e.Inspect(ctx, key)
		switch {
		case runtime.IsNotFound(err):
			// The container is gone and only its endpoint is left. It can only be the
			// engine's leftover; on a network of ours nobody misses it.
			if in.Labels[runtime.LabelOwner] == "" {
				rest = append(rest, name)
				continue
			}
		case err != nil:
			rest = append(rest, name)
			continue
		case c.State.Alive():
			return "", refuse(runtime.KindConflict, "remove network", in.Name, "container %s uses it", c.Name)
		case in.Labels[runtime.LabelOwner] == "" || !sameStack(c.Labels, in.Labels):
			rest = append(rest, c.Name)
			continue
		}
		if err := e.api().NetworkDisconnect(ctx, in.ID, name, true); err != nil && !errdefs.IsNotFound(err) {
			rest = append(rest, name)
		}
	}
	if len(rest) == 0 {
		return "endpoints that it does not name", nil
	}
	return fmt.Sprintf("the endpoints of %s", strings.Join(rest, ", ")), nil
}

// Connect attaches a container to a network; one that is attached is left as it is.
func (e *Engine) Connect(ctx context.Context, net, container string, at runtime.Attachment) error {
	const op = "connect"
	c := e.api()
	t := target{api: c.version}
	for _, need := range []struct {
		used     bool
		v, field string
	}{
		{at.Interface != "", "1.48", "interface_name"},
		{at.Gateway != 0, "1.48", "gw_priority"},
		{at.MacAddress != "", "1.44", "mac_address"},
	} {
		if need.used {
			if err := t.needs(need.v, need.field+" on network "+net); err != nil {
				return refuse(runtime.KindInvalid, op, container, "%w", err)
			}
		}
	}
	call, cancel := e.change(ctx)
	defer cancel()
	err := c.NetworkConnect(call, net, container, translateAttachment(at))
	if err != nil && alreadyConnected(err) {
		return nil
	}
	return e.fail(op, container, err)
}

// Disconnect detaches a container from a network; one that is not attached is
// left as it is.
func (e *Engine) Disconnect(ctx context.Context, net, container string, force bool) error {
	call, cancel := e.change(ctx)
	defer cancel()
	err := e.api().NetworkDisconnect(call, net, container, force)
	if err != nil && strings.Contains(err.Error(), "is not connected to") {
		return nil
	}
	return e.fail("disconnect", container, err)
}
