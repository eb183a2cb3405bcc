package stack

import (
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/berth-dev/berth/runtime"
)

// mounts are volumes, tmpfs, volumes_from, configs and secrets.
func (t *translator) mounts(spec *runtime.Spec, c types.ServiceConfig) error {
	for _, v := range c.Volumes {
		spec.Mounts = append(spec.Mounts, t.mount(v, c.VolumeDriver))
	}
	for _, f := range c.Tmpfs {
		target, options, _ := strings.Cut(f, ":")
		spec.Mounts = append(spec.Mounts, runtime.Mount{Type: runtime.MountTmpfs, Target: target, TmpfsOptions: options})
	}
	for _, v := range c.VolumesFrom {
		if name, ok := strings.CutPrefix(v, types.ContainerPrefix); ok {
			spec.VolumesFrom = append(spec.VolumesFrom, name)
		} else {
			spec.VolumesFrom = append(spec.VolumesFrom, types.ServicePrefix+v)
		}
	}
	for i, ref := range c.Configs {
		def := t.project.Configs[ref.Source]
		f := fileRef{kind: kindConfig, ref: types.FileReferenceConfig(ref), def: types.FileObjectConfig(def), target: configTarget(ref.Source, ref.Target)}
		if err := t.file(spec, f, c.Name, "configs", strconv.Itoa(i)); err != nil {
			return err
		}
	}
	for i, ref := range c.Secrets {
		def := t.project.Secrets[ref.Source]
		f := fileRef{kind: kindSecret, ref: types.FileReferenceConfig(ref), def: types.FileObjectConfig(def), target: secretTarget(ref.Source, ref.Target)}
		if err := t.file(spec, f, c.Name, "secrets", strconv.Itoa(i)); err != nil {
			return err
		}
	}
	return nil
}

func (t *translator) mount(v types.ServiceVolumeConfig, driver string) runtime.Mount {
	m := runtime.Mount{
		Type: runtime.MountType(v.Type), Source: v.Source, Target: v.Target,
		ReadOnly: v.ReadOnly, Consistency: v.Consistency,
	}
	if m.Type == runtime.MountVolume {
		if v.Source != "" {
			vol := t.project.Volumes[v.Source]
			m.Source = vol.Name
		} else {
			m.Driver = driver
		}
	}
	if b := v.Bind; b != nil {
		m.Propagation, m.SELinux, m.Recursive = b.Propagation, b.SELinux, b.Recursive
		m.CreateSource = bool(b.CreateHostPath)
	}
	if o := v.Volume; o != nil {
		m.NoCopy, m.Subpath, m.Labels = o.NoCopy, o.Subpath, o.Labels
	}
	if o := v.Image; o != nil {
		m.Subpath = o.SubPath
	}
	if o := v.Tmpfs; o != nil {
		m.TmpfsSize, m.TmpfsMode = int64(o.Size), o.Mode
	}
	return m
}

func configTarget(source, target string) string {
	if target == "" {
		target = source
	}
	if path.IsAbs(target) {
		return target
	}
	return "/" + target
}

func secretTarget(source, target string) string {
	if target == "" {
		target = source
	}
	if path.IsAbs(target) {
		return target
	}
	return "/run/secrets/" + target
}

// The kinds of a fileRef, which its content's name in the store begins with.
const (
	kindConfig = "config"
	kindSecret = "secret"
)

// IsSecret reports whether a content of [Loaded.Contents] is a secret's, by its name.
func IsSecret(name string) bool { return strings.HasPrefix(name, kindSecret+"/") }

// fileRef is one use of a config or secret by a service.
type fileRef struct {
	kind   string // kindConfig or kindSecret
	ref    types.FileReferenceConfig
	def    types.FileObjectConfig
	target string
}

// owned reports whether the use asks for an owner or mode, which a bind mount cannot give.
func (f fileRef) owned() bool {
	return f.ref.UID != "" || f.ref.GID != "" || f.ref.Mode != nil
}

// file mounts a config or secret read-only, or has its content written into
// the container where it comes from no file or needs an owner or mode.
func (t *translator) file(spec *runtime.Spec, f fileRef, service string, at ...string) error {
	if bool(f.def.External) {
		return t.fail(fmt.Errorf("the %s %q is external: a plain engine keeps no %ss; use file: or environment: instead", f.kind, f.ref.Source, f.kind), f.kind+"s", f.ref.Source)
	}
	if f.def.Driver != "" || f.def.TemplateDriver != "" {
		return t.fail(fmt.Errorf("the %s %q names a driver: a plain engine has none; use file: or environment: instead", f.kind, f.ref.Source), f.kind+"s", f.ref.Source)
	}
	if f.def.File != "" && !f.owned() {
		if err := t.sourceFile(f); err != nil {
			return err
		}
		if f.kind == kindSecret {
			t.secrets[f.def.File] = true
		}
		spec.Mounts = append(spec.Mounts, runtime.Mount{Type: runtime.MountBind, Source: f.def.File, Target: f.target, ReadOnly: true})
		return nil
	}
	content, err := t.content(f)
	if err != nil {
		return err
	}
	uid, err := parseID(f.ref.UID)
	if err != nil {
		return t.failIn(err, service, append(at, "uid")...)
	}
	gid, err := parseID(f.ref.GID)
	if err != nil {
		return t.failIn(err, service, append(at, "gid")...)
	}
	file := runtime.File{Name: t.store(f, content), Target: f.target, UID: uid, GID: gid}
	if f.ref.Mode != nil {
		if *f.ref.Mode < 0 || *f.ref.Mode > 0o7777 {
			return t.failIn(fmt.Errorf("the mode %#o is not between 0 and 07777", int64(*f.ref.Mode)), service, append(at, "mode")...)
		}
		file.Mode = uint32(*f.ref.Mode)
	}
	spec.Files = append(spec.Files, file)
	return nil
}

// sourceFile checks the host file behind a bind mount and notes its digest:
// new content is a new revision.
func (t *translator) sourceFile(f fileRef) error {
	if t.opts.NamesOnly {
		return nil
	}
	st, err := os.Stat(f.def.File)
	if err == nil {
		err = checkRegular(st, 0)
	} else {
		err = plainPathError(err)
	}
	if err == nil && st.Size() <= maxContentFile {
		var data []byte
		if data, err = readRegular(f.def.File, maxContentFile); err == nil {
			t.digests[f.def.File] = digest(data)
		}
	} else if err == nil {
		// Too large to read on each run: size and time stand for the content.
		t.digests[f.def.File] = hash([]int64{st.Size(), st.ModTime().UnixNano()})
	}
	if err != nil {
		return t.fail(fmt.Errorf("%s: %w", f.def.File, err), f.kind+"s", f.ref.Source, "file")
	}
	return nil
}

// content is what a config or secret holds.
func (t *translator) content(f fileRef) ([]byte, error) {
	switch {
	case t.opts.NamesOnly:
		return nil, nil
	case f.def.File != "":
		data, err := readRegular(f.def.File, maxContentFile)
		if err != nil {
			return nil, t.fail(fmt.Errorf("%s: %w", f.def.File, err), f.kind+"s", f.ref.Source, "file")
		}
		return data, nil
	case f.def.Environment != "":
		v, ok := t.env[f.def.Environment]
		if !ok {
			return nil, t.fail(fmt.Errorf("the variable %s, which holds the %s, is not set", f.def.Environment, f.kind), f.kind+"s", f.ref.Source, "environment")
		}
		return []byte(v), nil
	}
	return []byte(f.def.Content), nil
}

// store keeps a content under a name that says nothing of it and changes with it.
func (t *translator) store(f fileRef, content []byte) string {
	name := f.kind + "/" + f.ref.Source + "@" + hash([]any{t.project.Name, f.kind, f.ref.Source, content})
	t.contents[name] = content
	return name
}

func parseID(s string) (int, error) {
	if s == "" {
		return 0, nil
	}
	id, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return 0, fmt.Errorf("%q is not a numeric ID", clip(s))
	}
	return int(id), nil
}
