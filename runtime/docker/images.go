package docker

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"

	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/pkg/jsonmessage"

	"github.com/berth-dev/berth/runtime"
)

// Image tells about a local image, found by reference or ID.
func (e *Engine) Image(ctx context.Context, ref string) (runtime.Image, error) {
	call, cancel := e.query(ctx)
	defer cancel()
	in, err := e.api().ImageInspect(call, ref)
	if err != nil {
		return runtime.Image{}, e.fail("inspect image", ref, err)
	}
	return imageOf(in), nil
}

// Pull fetches an image from its registry, with the credentials of the Docker
// configuration.
func (e *Engine) Pull(ctx context.Context, ref string, opts runtime.PullOptions) error {
	const op = "pull"
	auth, err := e.registryAuth(ctx, ref)
	if err != nil {
		return refuse(runtime.KindInvalid, op, ref, "%w", err)
	}
	call, cancel := context.WithTimeout(ctx, e.timeouts.Transfer)
	defer cancel()
	body, err := e.api().ImagePull(call, ref, image.PullOptions{RegistryAuth: auth, Platform: opts.Platform})
	if err != nil {
		return e.fail(op, ref, err)
	}
	defer body.Close()
	return e.fail(op, ref, readProgress(body, opts.Progress, nil))
}

// Push sends an image to its registry.
func (e *Engine) Push(ctx context.Context, ref string, progress func(runtime.Progress)) error {
	const op = "push"
	auth, err := e.registryAuth(ctx, ref)
	if err != nil {
		return refuse(runtime.KindInvalid, op, ref, "%w", err)
	}
	if auth == "" {
		auth = "e30=" // the engine wants the header: {}
	}
	call, cancel := context.WithTimeout(ctx, e.timeouts.Transfer)
	defer cancel()
	body, err := e.api().ImagePush(call, ref, image.PushOptions{RegistryAuth: auth})
	if err != nil {
		return e.fail(op, ref, err)
	}
	defer body.Close()
	return e.fail(op, ref, readProgress(body, progress, nil))
}

// Tag gives an image a further name.
func (e *Engine) Tag(ctx context.Context, source, target string) error {
	call, cancel := e.change(ctx)
	defer cancel()
	return e.fail("tag image", source, e.api().ImageTag(call, source, target))
}

// RemoveImage removes an image, or only the name when it has others. One that a
// container uses is a Conflict unless force.
func (e *Engine) RemoveImage(ctx context.Context, ref string, force bool) error {
	call, cancel := e.change(ctx)
	defer cancel()
	_, err := e.api().ImageRemove(call, ref, image.RemoveOptions{Force: force, PruneChildren: true})
	return e.fail("remove image", ref, err)
}

// readProgress reads the engine's progress messages to the end and returns the
// error one of them carries. aux is called with what messages carry beside.
func readProgress(r io.Reader, progress func(runtime.Progress), aux func(json.RawMessage)) error {
	dec := json.NewDecoder(r)
	for {
		var m jsonmessage.JSONMessage
		err := dec.Decode(&m)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case m.Error != nil:
			return errors.New(m.Error.Message)
		case m.Aux != nil && aux != nil:
			aux(*m.Aux)
		}
		if progress == nil {
			continue
		}
		if p, ok := progressOf(&m); ok {
			progress(p)
		}
	}
}

func progressOf(m *jsonmessage.JSONMessage) (runtime.Progress, bool) {
	p := runtime.Progress{ID: m.ID, Status: m.Status}
	if m.Stream != "" {
		p.Status = strings.TrimRight(m.Stream, "\r\n")
	}
	if m.Progress != nil {
		p.Current, p.Total = m.Progress.Current, m.Progress.Total
	}
	return p, p.Status != ""
}
