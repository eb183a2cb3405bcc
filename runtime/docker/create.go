package docker

import (
	"archive/tar"
	"bytes"
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
	files, err := fileArchive(spec.Files, contents)
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
func (e *Engine) furnish(ctx context.Context, id, name string, made *creation, files []byte) error {
	for _, n := range made.Connect {
		call, cancel := e.change(ctx)
		err := e.api().NetworkConnect(call, n.Network, id, n.Settings)
		cancel()
		if err != nil && !alreadyConnected(err) {
			return e.fail("connect to network "+n.Network, name, err)
		}
	}
	if len(files) == 0 {
		return nil
	}
	call, cancel := context.WithTimeout(ctx, e.timeouts.Transfer)
	defer cancel()
	err := e.api().CopyToContainer(call, id, "/", bytes.NewReader(files), container.CopyToContainerOptions{})
	return e.fail("write files into", name, err)
}

func alreadyConnected(err error) bool {
	return strings.Contains(err.Error(), "already exists in network")
}

const fileModeDefault = 0o444

// fileArchive packs the contents of files; nil when there are none. Every file
// must have its content: a container never starts with half its secrets.
func fileArchive(files []runtime.File, contents map[string][]byte) ([]byte, error) {
	if len(files) == 0 {
		return nil, nil
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range files {
		content, ok := contents[f.Name]
		if !ok {
			return nil, errors.New("the content of " + f.Name + " is missing")
		}
		mode := int64(f.Mode)
		if mode == 0 {
			mode = fileModeDefault
		}
		h := &tar.Header{
			Typeflag: tar.TypeReg, Name: strings.TrimPrefix(path.Clean(f.Target), "/"), Size: int64(len(content)),
			Mode: mode, Uid: f.UID, Gid: f.GID, Format: tar.FormatPAX,
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
