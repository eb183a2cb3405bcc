package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/client"
	"github.com/docker/go-connections/nat"
	"golang.org/x/sync/errgroup"
)

// benchLabel marks what the floor makes.
const benchLabel = "berth-bench"

// rawEngine is the floor: the Engine API with nothing in between.
type rawEngine struct{ api *client.Client }

func openRaw(ctx context.Context) (*rawEngine, error) {
	api, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		return nil, err
	}
	_, err = api.Ping(ctx)
	return &rawEngine{api: api}, err
}

// importImage makes an image that holds some static programs, and runs the first.
func (r *rawEngine) importImage(ctx context.Context, ref string, programs ...string) error {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, p := range programs {
		if err := addProgram(w, p); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	runs := fmt.Sprintf("CMD [%q]", "/"+filepath.Base(programs[0]))
	res, err := r.api.ImageImport(ctx, image.ImportSource{Source: &buf, SourceName: "-"}, ref, image.ImportOptions{Changes: []string{runs}})
	if err != nil {
		return err
	}
	defer func() { _ = res.Close() }()
	_, err = io.Copy(io.Discard, res)
	return err
}

func addProgram(w *tar.Writer, program string) error {
	data, err := os.ReadFile(program) // #nosec G304 -- built a moment ago
	if err != nil {
		return err
	}
	if err := w.WriteHeader(&tar.Header{Name: filepath.Base(program), Mode: 0o755, Size: int64(len(data))}); err != nil {
		return err
	}
	_, err = w.Write(data)
	return err
}

// group is a set of containers on one network, as the floor makes them.
type group struct {
	raw     *rawEngine
	prefix  string
	image   string
	command []string // nil: the image's
	ports   nat.PortMap
	network string
	ids     []string
}

func (r *rawEngine) group(ctx context.Context, prefix, img string) (*group, error) {
	_, err := r.api.NetworkCreate(ctx, prefix+"_default", network.CreateOptions{Driver: "bridge", Labels: map[string]string{benchLabel: prefix}})
	return &group{raw: r, prefix: prefix, image: img, network: prefix + "_default"}, err
}

// grow creates n more containers, each started as soon as it exists.
func (g *group) grow(ctx context.Context, n, parallel int) error {
	first := len(g.ids)
	g.ids = append(g.ids, make([]string, n)...)
	eg, ctx := errgroup.WithContext(ctx)
	eg.SetLimit(parallel)
	for i := first; i < first+n; i++ {
		eg.Go(func() error {
			var err error
			if g.ids[i], err = g.create(ctx, i); err != nil {
				return err
			}
			return g.raw.api.ContainerStart(ctx, g.ids[i], container.StartOptions{})
		})
	}
	return eg.Wait()
}

func (g *group) create(ctx context.Context, i int) (string, error) {
	return g.createNamed(ctx, fmt.Sprintf("%s-%d", g.prefix, i+1))
}

func (g *group) createNamed(ctx context.Context, name string) (string, error) {
	exposed := nat.PortSet{}
	for p := range g.ports {
		exposed[p] = struct{}{}
	}
	res, err := g.raw.api.ContainerCreate(ctx,
		&container.Config{Image: g.image, Cmd: g.command, ExposedPorts: exposed, Labels: map[string]string{benchLabel: g.prefix}},
		&container.HostConfig{NetworkMode: container.NetworkMode(g.network), PortBindings: g.ports},
		&network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{g.network: {Aliases: []string{"web"}}}},
		nil, name)
	return res.ID, err
}

// layers creates all containers and starts them layer after layer.
func (g *group) layers(ctx context.Context, depth, width, parallel int) error {
	g.ids = make([]string, depth*width)
	if err := each(ctx, len(g.ids), parallel, func(ctx context.Context, i int) (err error) {
		g.ids[i], err = g.create(ctx, i)
		return err
	}); err != nil {
		return err
	}
	for layer := range depth {
		if err := each(ctx, width, parallel, func(ctx context.Context, i int) error {
			return g.raw.api.ContainerStart(ctx, g.ids[layer*width+i], container.StartOptions{})
		}); err != nil {
			return err
		}
	}
	return nil
}

// remove force-removes all containers and the network.
func (g *group) remove(ctx context.Context, parallel int) error {
	err := each(ctx, len(g.ids), parallel, func(ctx context.Context, i int) error {
		if g.ids[i] == "" {
			return nil
		}
		return g.raw.api.ContainerRemove(ctx, g.ids[i], container.RemoveOptions{Force: true})
	})
	return errors.Join(err, g.raw.api.NetworkRemove(ctx, g.network))
}

func each(ctx context.Context, n, parallel int, fn func(context.Context, int) error) error {
	eg, ctx := errgroup.WithContext(ctx)
	eg.SetLimit(parallel)
	for i := range n {
		eg.Go(func() error { return fn(ctx, i) })
	}
	return eg.Wait()
}

// list asks for a stack's containers.
func (r *rawEngine) list(ctx context.Context, stack string) error {
	_, err := r.api.ContainerList(ctx, container.ListOptions{All: true, Filters: ofStack(stack)})
	return err
}

// close removes what an interrupted floor has left, and the image.
func (r *rawEngine) close(ctx context.Context, img string) error {
	errs := []error{r.removeContainers(ctx)}
	networks, err := r.api.NetworkList(ctx, network.ListOptions{Filters: ofTheFloor()})
	errs = append(errs, err)
	for i := range networks {
		errs = append(errs, r.api.NetworkRemove(ctx, networks[i].ID))
	}
	_, err = r.api.ImageRemove(ctx, img, image.RemoveOptions{})
	return errors.Join(append(errs, err, r.api.Close())...)
}

// removeContainers removes until nothing is left: the engine may still be about
// calls that were cut off.
func (r *rawEngine) removeContainers(ctx context.Context) error {
	for {
		left, err := r.api.ContainerList(ctx, container.ListOptions{All: true, Filters: ofTheFloor()})
		if err != nil || len(left) == 0 {
			return err
		}
		for i := range left {
			_ = r.api.ContainerRemove(ctx, left[i].ID, container.RemoveOptions{Force: true}) // the next list tells
		}
		if err := sleep(ctx, time.Second); err != nil {
			return fmt.Errorf("%d containers of the floor are left: %w", len(left), err)
		}
	}
}

func ofStack(name string) filters.Args {
	return filters.NewArgs(filters.Arg("label", "com.docker.compose.project="+name))
}

func ofTheFloor() filters.Args { return filters.NewArgs(filters.Arg("label", benchLabel)) }

// timed measures fn.
func timed(fn func() error) (time.Duration, error) {
	begin := time.Now()
	err := fn()
	return time.Since(begin), err
}
