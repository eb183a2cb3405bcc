package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"
)

const (
	swarmService = "berth-bench-rollout"
	versionLabel = benchLabel + ".version"
	swarmLook    = 20 * time.Millisecond
	swarmMost    = 3 * time.Minute // one update
)

// swarm measures Swarm's own rolling update of the same image on the same engine.
// Nothing asks its replicas: they have neither a port nor a healthcheck, so that
// Swarm takes each for ready that has been started.
func (b *bench) swarm(ctx context.Context) error {
	bridged, err := b.raw.hasNetwork(ctx, swarmBridge)
	if err != nil {
		return err
	}
	reason, err := b.raw.startSwarm(ctx)
	if err != nil {
		return err
	}
	if reason != "" {
		b.print(row{name: "  Swarm's rolling update", floor: "–", berth: "not measured", ratio: "–", target: "–", runs: reason})
		return nil
	}
	return errors.Join(b.swarmOrders(ctx), b.raw.leaveSwarm(ctx, bridged))
}

// swarmOrders measures the updates of one service in both orders.
func (b *bench) swarmOrders(ctx context.Context) error {
	orders := []string{swarm.UpdateOrderStartFirst, swarm.UpdateOrderStopFirst}
	if _, err := b.raw.api.ServiceCreate(ctx, b.swarmSpec(orders[0], 0), swarm.ServiceCreateOptions{}); err != nil {
		return err
	}
	if err := b.raw.swarmHas(ctx, 0); err != nil {
		return err
	}
	version := 0
	for _, order := range orders {
		var times []time.Duration
		if err := b.repeat(func() error {
			version++
			took, err := b.swarmUpdate(ctx, order, version)
			times = append(times, took)
			return err
		}); err != nil {
			return err
		}
		b.print(row{
			name: "  Swarm's rolling update, " + order, floor: seconds(median(times)), berth: "–",
			ratio: "–", target: "–", runs: fmt.Sprint(len(times)),
		})
	}
	return nil
}

// swarmUpdate is one update, from its call until only what is new runs.
func (b *bench) swarmUpdate(ctx context.Context, order string, version int) (time.Duration, error) {
	now, _, err := b.raw.api.ServiceInspectWithRaw(ctx, swarmService, swarm.ServiceInspectOptions{})
	if err != nil {
		return 0, err
	}
	return timed(func() error {
		if _, err := b.raw.api.ServiceUpdate(ctx, now.ID, now.Version, b.swarmSpec(order, version), swarm.ServiceUpdateOptions{}); err != nil {
			return err
		}
		return b.raw.swarmHas(ctx, version)
	})
}

// startSwarm makes the engine a swarm of its own. A reason says why it was left as it is.
func (r *rawEngine) startSwarm(ctx context.Context) (reason string, err error) {
	info, err := r.api.Info(ctx)
	if err != nil {
		return "", err
	}
	if info.Swarm.LocalNodeState != swarm.LocalNodeStateInactive {
		return "the engine is in a swarm already", nil
	}
	_, err = r.api.SwarmInit(ctx, swarm.InitRequest{ListenAddr: "127.0.0.1:2377", AdvertiseAddr: "127.0.0.1"})
	if err != nil {
		return "no swarm can be made: " + err.Error(), nil //nolint:nilerr // told in the table
	}
	return "", nil
}

// swarmBridge is the network that the engine makes for its swarm, and leaves behind.
const swarmBridge = "docker_gwbridge"

func (r *rawEngine) hasNetwork(ctx context.Context, name string) (bool, error) {
	_, err := r.api.NetworkInspect(ctx, name, network.InspectOptions{})
	if errdefs.IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}

// leaveSwarm ends the swarm that startSwarm has made, after an interrupt too, and
// removes its bridge unless it was there before.
func (r *rawEngine) leaveSwarm(ctx context.Context, bridged bool) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	err := r.api.ServiceRemove(ctx, swarmService)
	for left := 1; err == nil && left > 0; {
		if left, _, err = r.swarmContainers(ctx, true, ""); err == nil && left > 0 {
			err = sleep(ctx, swarmLook)
		}
	}
	err = errors.Join(err, r.api.SwarmLeave(ctx, true))
	if !bridged {
		err = errors.Join(err, r.api.NetworkRemove(ctx, swarmBridge))
	}
	return err
}

func (b *bench) swarmSpec(order string, version int) swarm.ServiceSpec {
	replicas := uint64(rolled)
	spec := swarm.ServiceSpec{
		Annotations: swarm.Annotations{Name: swarmService},
		TaskTemplate: swarm.TaskSpec{ContainerSpec: &swarm.ContainerSpec{
			Image: b.image, Command: []string{"/page"}, Env: []string{fmt.Sprintf("VERSION=%d", version)},
			Labels: map[string]string{versionLabel: fmt.Sprint(version)},
		}},
		Mode: swarm.ServiceMode{Replicated: &swarm.ReplicatedService{Replicas: &replicas}},
	}
	spec.UpdateConfig = &swarm.UpdateConfig{Parallelism: abreast, Order: order, Monitor: time.Millisecond}
	return spec
}

// swarmHas waits until all replicas are of a version and no other one runs.
func (r *rawEngine) swarmHas(ctx context.Context, version int) error {
	ctx, cancel := context.WithTimeout(ctx, swarmMost)
	defer cancel()
	for {
		all, of, err := r.swarmContainers(ctx, false, fmt.Sprint(version))
		if err != nil || all == rolled && of == rolled {
			return err
		}
		if err := sleep(ctx, swarmLook); err != nil {
			return fmt.Errorf("%d containers run, %d of them of version %d: %w", all, of, version, err)
		}
	}
}

// swarmContainers counts the service's containers, stopped ones too or only those
// that run, and those of a version.
func (r *rawEngine) swarmContainers(ctx context.Context, stopped bool, version string) (all, of int, err error) {
	list, err := r.api.ContainerList(ctx, container.ListOptions{
		All: stopped, Filters: filters.NewArgs(filters.Arg("label", "com.docker.swarm.service.name="+swarmService)),
	})
	for i := range list {
		if list[i].Labels[versionLabel] == version {
			of++
		}
	}
	return len(list), of, err
}
