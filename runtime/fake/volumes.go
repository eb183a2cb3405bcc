package fake

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/berth-dev/berth/runtime"
)

type volume struct {
	runtime.Volume
	tree      *tree
	anonymous bool
}

func (v *volume) copy() runtime.Volume {
	c := v.Volume
	c.Labels, c.DriverOpts = maps.Clone(c.Labels), maps.Clone(c.DriverOpts)
	return c
}

func (e *Engine) newVolume(spec *runtime.VolumeSpec) *volume {
	v := &volume{tree: newTree(), Volume: runtime.Volume{
		Name: spec.Name, Driver: cmp.Or(spec.Driver, "local"), Mountpoint: "/var/lib/docker/volumes/" + spec.Name + "/_data",
		Created: e.nowLocked(), Labels: maps.Clone(spec.Labels), DriverOpts: maps.Clone(spec.DriverOpts),
	}}
	e.volumes[v.Name] = v
	e.emitLocked("volume", "create", v.Name, v.Name, map[string]string{"driver": v.Driver})
	return v
}

// EnsureVolume makes the volume, or finds it.
func (e *Engine) EnsureVolume(ctx context.Context, spec *runtime.VolumeSpec) (found runtime.Volume, err error) {
	err = e.call(ctx, "ensure-volume", spec.Name, func(_ context.Context, call *Call) error {
		e.mu.Lock()
		defer e.mu.Unlock()
		call.Labels = maps.Clone(spec.Labels)
		if !validName.MatchString(spec.Name) {
			return fail(runtime.KindInvalid, "create volume", spec.Name, "invalid volume name, only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
		}
		v := e.volumes[spec.Name]
		if v != nil && v.Labels[runtime.LabelStack] != spec.Labels[runtime.LabelStack] {
			return fail(runtime.KindConflict, "create volume", spec.Name, "a volume of that name exists and belongs to somebody else")
		}
		if v == nil {
			v = e.newVolume(spec)
			call.Changed = true
		}
		found = v.copy()
		return nil
	})
	return found, err
}

func (e *Engine) getVolume(op, name string) (*volume, error) {
	if v := e.volumes[name]; v != nil {
		return v, nil
	}
	return nil, fail(runtime.KindNotFound, op, name, "no such volume")
}

// Volume finds a volume.
func (e *Engine) Volume(ctx context.Context, name string) (found runtime.Volume, err error) {
	err = e.call(ctx, "volume", name, func(context.Context, *Call) error {
		e.mu.Lock()
		defer e.mu.Unlock()
		v, err := e.getVolume("inspect volume", name)
		if err == nil {
			found = v.copy()
		}
		return err
	})
	return found, err
}

// ListVolumes returns the volumes that match, sorted by name.
func (e *Engine) ListVolumes(ctx context.Context, filter runtime.Filter) (found []runtime.Volume, err error) {
	err = e.call(ctx, "list-volumes", "", func(context.Context, *Call) error {
		e.mu.Lock()
		defer e.mu.Unlock()
		for _, name := range slices.Sorted(maps.Keys(e.volumes)) {
			if v := e.volumes[name]; matches(filter, v.Labels) {
				found = append(found, v.copy())
			}
		}
		return nil
	})
	return found, err
}

// RemoveVolume removes a volume that no container mounts.
func (e *Engine) RemoveVolume(ctx context.Context, name string) error {
	return e.call(ctx, "remove-volume", name, func(_ context.Context, call *Call) error {
		e.mu.Lock()
		defer e.mu.Unlock()
		if _, err := e.getVolume("remove volume", name); err != nil {
			return err
		}
		if users := e.users(name); len(users) > 0 {
			return fail(runtime.KindConflict, "remove volume", name, "it is in use by %s", strings.Join(users, ", "))
		}
		delete(e.volumes, name)
		call.Changed = true
		e.emitLocked("volume", "destroy", name, name, nil)
		return nil
	})
}

// users are the names of the containers that mount the volume.
func (e *Engine) users(name string) []string {
	var users []string
	for _, c := range e.sortedContainers() {
		if slices.ContainsFunc(c.Mounts, func(m runtime.MountPoint) bool { return m.Name == name }) {
			users = append(users, c.Name)
		}
	}
	return users
}
