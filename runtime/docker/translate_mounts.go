package docker

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"

	"github.com/berth-dev/berth/runtime"
)

// translateMounts sets the mounts of h. A bind that the mount form cannot
// express on this engine (SELinux labels; creation of the host directory before
// API 1.42) takes the older string form.
func translateMounts(h *container.HostConfig, s *runtime.Spec, labels map[string]string, t target) error {
	for i := range s.Mounts {
		m := &s.Mounts[i]
		if !path.IsAbs(m.Target) && m.Type != runtime.MountPipe {
			return fmt.Errorf("mount target %q is not an absolute path", m.Target)
		}
		switch {
		case m.Type == runtime.MountBind && needsBindString(m, t):
			bind, err := bindString(m)
			if err != nil {
				return err
			}
			h.Binds = append(h.Binds, bind)
		case m.Type == runtime.MountTmpfs && m.TmpfsOptions != "":
			if h.Tmpfs == nil {
				h.Tmpfs = map[string]string{}
			}
			h.Tmpfs[m.Target] = tmpfsOptions(m)
		default:
			out, err := translateMount(m, t)
			if err != nil {
				return err
			}
			h.Mounts = append(h.Mounts, out)
		}
	}
	h.Mounts = append(h.Mounts, fileVolumes(s, labels)...)
	return nil
}

func needsBindString(m *runtime.Mount, t target) bool {
	return m.SELinux != "" || (m.CreateSource && t.needs("1.42", "") != nil)
}

// bindString is source:target:options, which makes a missing host directory.
func bindString(m *runtime.Mount) (string, error) {
	if strings.Contains(m.Source, ":") || strings.Contains(m.Target, ":") {
		return "", fmt.Errorf("bind mount %s: a path with a colon cannot be combined with SELinux labels or the creation of the host directory", m.Target)
	}
	if m.Recursive != "" {
		return "", fmt.Errorf("bind mount %s: bind.recursive cannot be combined with SELinux labels or the creation of the host directory on this engine", m.Target)
	}
	opts := []string{"rw"}
	if m.ReadOnly {
		opts[0] = "ro"
	}
	for _, o := range []string{m.SELinux, m.Propagation, m.Consistency} {
		if o != "" {
			opts = append(opts, o)
		}
	}
	return m.Source + ":" + m.Target + ":" + strings.Join(opts, ","), nil
}

func tmpfsOptions(m *runtime.Mount) string {
	opts := []string{m.TmpfsOptions}
	if m.ReadOnly {
		opts = append(opts, "ro")
	}
	if m.TmpfsSize > 0 {
		opts = append(opts, fmt.Sprintf("size=%d", m.TmpfsSize))
	}
	if m.TmpfsMode != 0 {
		opts = append(opts, fmt.Sprintf("mode=%o", m.TmpfsMode))
	}
	return strings.Join(opts, ",")
}

func translateMount(m *runtime.Mount, t target) (mount.Mount, error) {
	out := mount.Mount{
		Type: mount.Type(m.Type), Source: m.Source, Target: m.Target, ReadOnly: m.ReadOnly,
		Consistency: mount.Consistency(m.Consistency),
	}
	at := "mount " + m.Target
	switch m.Type {
	case runtime.MountBind:
		bind, err := bindOptions(m, t)
		out.BindOptions = bind
		return out, err
	case runtime.MountVolume:
		if m.NoCopy || m.Subpath != "" || m.Driver != "" || len(m.DriverOpts) > 0 || len(m.Labels) > 0 {
			out.VolumeOptions = &mount.VolumeOptions{NoCopy: m.NoCopy, Labels: m.Labels, Subpath: m.Subpath}
		}
		if m.Driver != "" || len(m.DriverOpts) > 0 {
			out.VolumeOptions.DriverConfig = &mount.Driver{Name: m.Driver, Options: m.DriverOpts}
		}
		if m.Subpath != "" {
			return out, t.needs("1.45", at+": volume.subpath")
		}
	case runtime.MountTmpfs:
		if m.TmpfsSize > 0 || m.TmpfsMode != 0 {
			out.TmpfsOptions = &mount.TmpfsOptions{SizeBytes: m.TmpfsSize, Mode: fs.FileMode(m.TmpfsMode)}
		}
	case runtime.MountImage:
		if m.Subpath != "" {
			out.ImageOptions = &mount.ImageOptions{Subpath: m.Subpath}
		}
		return out, t.needs("1.48", at+": type image")
	case runtime.MountCluster:
		out.ClusterOptions = &mount.ClusterOptions{}
		return out, t.needs("1.42", at+": type cluster")
	case runtime.MountPipe:
	default:
		return out, fmt.Errorf("%s: type %q is not known", at, m.Type)
	}
	return out, nil
}

func bindOptions(m *runtime.Mount, t target) (*mount.BindOptions, error) {
	if m.Source == "" {
		return nil, fmt.Errorf("mount %s: a bind mount needs a source", m.Target)
	}
	o := mount.BindOptions{Propagation: mount.Propagation(m.Propagation), CreateMountpoint: m.CreateSource}
	var errs []error
	switch m.Recursive {
	case "", "enabled":
	case "disabled":
		o.NonRecursive = true
	case "writable":
		o.ReadOnlyNonRecursive = true
		errs = append(errs, t.needs("1.44", "mount "+m.Target+": bind.recursive writable"))
	case "readonly":
		o.ReadOnlyForceRecursive = true
		errs = append(errs, t.needs("1.44", "mount "+m.Target+": bind.recursive readonly"))
	default:
		errs = append(errs, fmt.Errorf("mount %s: bind.recursive %q is not enabled, disabled, writable or readonly", m.Target, m.Recursive))
	}
	if o == (mount.BindOptions{}) {
		return nil, errors.Join(errs...)
	}
	return &o, errors.Join(errs...)
}

// fileVolumes are anonymous volumes for the folders of configs and secrets in a
// container whose root file system is read-only: the engine lets nothing be
// written there, not even before the start.
func fileVolumes(s *runtime.Spec, labels map[string]string) []mount.Mount {
	if !s.ReadOnly {
		return nil
	}
	var dirs []string
	for _, f := range s.Files {
		dir := path.Dir(path.Clean(f.Target))
		if dir == "/" || slices.Contains(dirs, dir) || slices.ContainsFunc(s.Mounts, func(m runtime.Mount) bool { return within(dir, m.Target) }) {
			continue
		}
		dirs = append(dirs, dir)
	}
	slices.Sort(dirs)
	var out []mount.Mount
	for _, dir := range dirs {
		out = append(out, mount.Mount{
			Type: mount.TypeVolume, Target: dir,
			VolumeOptions: &mount.VolumeOptions{Labels: runtime.FileVolumeLabels(labels)},
		})
	}
	return out
}

// within reports whether path p is dir or below it.
func within(p, dir string) bool {
	dir = path.Clean(dir)
	return p == dir || strings.HasPrefix(p, strings.TrimSuffix(dir, "/")+"/")
}
