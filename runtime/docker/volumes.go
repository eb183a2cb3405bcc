package docker

import (
	"cmp"
	"context"
	"slices"

	"github.com/docker/docker/api/types/volume"

	"github.com/berth-dev/berth/runtime"
)

// EnsureVolume creates a volume, or returns the one of that name when it
// belongs to the same stack; any other is a Conflict. It is one call: the engine
// answers with the volume that exists.
func (e *Engine) EnsureVolume(ctx context.Context, spec *runtime.VolumeSpec) (runtime.Volume, error) {
	const op = "create volume"
	call, cancel := e.change(ctx)
	defer cancel()
	v, err := e.api().VolumeCreate(call, volume.CreateOptions{
		Name: spec.Name, Driver: spec.Driver, DriverOpts: spec.DriverOpts, Labels: spec.Labels,
	})
	if err != nil {
		return runtime.Volume{}, e.fail(op, spec.Name, err)
	}
	if !sameStack(v.Labels, spec.Labels) {
		return runtime.Volume{}, refuse(runtime.KindConflict, op, spec.Name,
			"a volume of that name exists and is not this stack's (%s): declare it external, or give it another name", stackOf(v.Labels))
	}
	return volumeOf(&v), nil
}

// Volume finds a volume by name.
func (e *Engine) Volume(ctx context.Context, name string) (runtime.Volume, error) {
	call, cancel := e.query(ctx)
	defer cancel()
	v, err := e.api().VolumeInspect(call, name)
	if err != nil {
		return runtime.Volume{}, e.fail("inspect volume", name, err)
	}
	return volumeOf(&v), nil
}

// ListVolumes returns the volumes that match, sorted by name.
func (e *Engine) ListVolumes(ctx context.Context, filter runtime.Filter) ([]runtime.Volume, error) {
	call, cancel := e.query(ctx)
	defer cancel()
	list, err := e.api().VolumeList(call, volume.ListOptions{Filters: labelFilter(filter)})
	if err != nil {
		return nil, e.fail("list", "volumes", err)
	}
	out := make([]runtime.Volume, 0, len(list.Volumes))
	for _, v := range list.Volumes {
		out = append(out, volumeOf(v))
	}
	slices.SortFunc(out, func(a, b runtime.Volume) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

// RemoveVolume removes a volume; one in use is a Conflict.
func (e *Engine) RemoveVolume(ctx context.Context, name string) error {
	call, cancel := e.change(ctx)
	defer cancel()
	return e.fail("remove volume", name, e.api().VolumeRemove(call, name, false))
}
