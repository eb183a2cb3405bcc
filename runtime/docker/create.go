package docker

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"errors"
	"path"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"

	"github.com/berth-dev/berth/runtime"
)

// Create makes a container in state created, connects the networks the engine
// could not take at once and writes spec's files. It costs one call where there
// are neither. What was made is removed again when a later part fails.
//
// When the outcome of the creation is unknown, since the engine failed inside
// or the connection broke, the container is looked for by its name, and taken
// when all its labels are the wanted ones.
func (e *Engine) Create(ctx context.Context, name string, labels map[string]string, spec *runtime.Spec, contents map[string][]byte) (string, error) {
	host, err := e.hostFacts(ctx)
	if err != nil {
		return "", err
	}
	c := e.api()
	t := target{api: c.version, cgroupV2: host.cgroupV2, systemd: host.systemd}
	made, err := translate(spec, labels, t)
	if err != nil {
		return "", refuse(runtime.KindInvalid, "create", name, "%w", err)
	}
	made.Config.Env = e.withProxies(made.Config.Env)
	files, err := fileArchives(spec, contents)
	if err != nil {
		return "", refuse(runtime.KindInvalid, "create", name, "%w", err)
	}
	id, err := e.create(ctx, c, name, &made)
	if err != nil {
		return "", err
	}
	if err := e.furnish(ctx, id, name, &made, files); err != nil {
		call, cancel := e.cleanup(ctx)
		defer cancel()
		if undo := e.Remove(call, id, true, true); undo != nil && !runtime.IsNotFound(undo) {
			err = errors.Join(err, undo)
		}
		return "", err
	}
	return id, nil
}

func (e *Engine) create(ctx context.Context, c *conn, name string, made *creation) (string, error) {
	call, cancel := e.change(ctx)
	defer cancel()
	res, err := c.ContainerCreate(call, made.Config, made.Host, made.Networking, made.Platform, name)
	if err == nil {
		for _, w := range res.Warnings {
			e.warn("create " + name + ": " + clean(w))
		}
		return res.ID, nil
	}
	if outcomeUnknown(err) {
		if id := e.findCreated(ctx, name, made.Config.Labels); id != "" {
			return id, nil
		}
	}
	if errdefs.IsNotFound(err) && strings.Contains(strings.ToLower(err.Error()), "no such image") {
		return "", refuse(runtime.KindNotFound, "create", name, "image %s is not on this engine", made.Config.Image)
	}
	return "", e.fail("create", name, err)
}

// findCreated returns the ID of the container of that name when it was made
// with exactly these labels and never started, else "".
func (e *Engine) findCreated(ctx context.Context, name string, labels map[string]string) string {
	call, cancel := context.WithTimeout(context.WithoutCancel(ctx), e.timeouts.Query)
	defer cancel()
	have, err := e.api().ContainerInspect(call, name)
	if err != nil || have.Config == nil || have.State == nil || have.State.Status != container.StateCreated {
		return ""
	}
	for k, v := range labels {
		if have.Config.Labels[k] != v {
			return ""
		}
	}
	return have.ID
}

// furnish connects further networks and writes the files.
func (e *Engine) furnish(ctx context.Context, id, name string, made *creation, files map[string][]byte) error {
	for _, n := range made.Connect {
		call, cancel := e.change(ctx)
		err := e.api().NetworkConnect(call, n.Network, id, n.Settings)
		cancel()
		if err != nil && !alreadyConnected(err) {
			return e.fail("connect to network "+n.Network, name, err)
		}
	}
	for _, dir := range sortedKeys(files) {
		call, cancel := context.WithTimeout(ctx, e.timeouts.Transfer)
		err := e.api().CopyToContainer(call, id, dir, bytes.NewReader(files[dir]), container.CopyToContainerOptions{})
		cancel()
		if err != nil {
			return e.fail("write files into", name, err)
		}
	}
	return nil
}

func alreadyConnected(err error) bool {
	return strings.Contains(err.Error(), "already exists in network")
}

const fileModeDefault = 0o444

// fileArchives packs the contents of a container's files, by the directory
// into which each archive is extracted. Every file must have its content: a
// container never starts with half its secrets.
func fileArchives(spec *runtime.Spec, contents map[string][]byte) (map[string][]byte, error) {
	byDir := map[string][]runtime.File{}
	for _, f := range spec.Files {
		dir := fileRoot(spec, f)
		byDir[dir] = append(byDir[dir], f)
	}
	out := map[string][]byte{}
	for _, dir := range sortedKeys(byDir) {
		archive, err := fileArchive(dir, byDir[dir], contents)
		if err != nil {
			return nil, err
		}
		out[dir] = archive
	}
	return out, nil
}

// fileRoot is the directory a file's archive is extracted into: the root, or
// the mount the file lies in when the root file system is read-only.
func fileRoot(spec *runtime.Spec, f runtime.File) string {
	if !spec.ReadOnly {
		return "/"
	}
	target, root := path.Clean(f.Target), ""
	for _, m := range spec.Mounts {
		if dir := path.Clean(m.Target); within(path.Dir(target), dir) && len(dir) > len(root) {
			root = dir
		}
	}
	if root == "" {
		return path.Dir(target) // translateMounts has put a volume there
	}
	return root
}

func fileArchive(dir string, files []runtime.File, contents map[string][]byte) ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range files {
		content, ok := contents[f.Name]
		if !ok {
			return nil, errors.New("the content of " + f.Name + " is missing")
		}
		name := strings.TrimPrefix(strings.TrimPrefix(path.Clean(f.Target), dir), "/")
		h := &tar.Header{
			Typeflag: tar.TypeReg, Name: name, Size: int64(len(content)),
			Mode: int64(cmp.Or(f.Mode, fileModeDefault)), Uid: f.UID, Gid: f.GID, Format: tar.FormatPAX,
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(content); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}
