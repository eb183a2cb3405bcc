package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/docker/docker/api/types/build"
	"github.com/docker/docker/api/types/container"

	"github.com/berth-dev/berth/runtime"
)

// Build builds an image with the engine's classic builder and returns its ID.
// A directory is sent as a tar archive without what .dockerignore excludes; a
// Git or HTTP address is fetched by the engine.
func (e *Engine) Build(ctx context.Context, b *runtime.Build, progress func(runtime.Progress)) (string, error) {
	const op = "build"
	object := redact(b.Context)
	if len(b.Tags) > 0 {
		object = b.Tags[0]
	}
	opts := buildOptions(b)
	maps.Copy(opts.BuildArgs, e.proxies(opts.BuildArgs))
	var body io.Reader
	if remoteContext(b.Context) {
		if b.DockerfileInline != "" {
			return "", refuse(runtime.KindInvalid, op, object, "dockerfile_inline cannot be combined with the remote context %s", redact(b.Context))
		}
		opts.RemoteContext, opts.Dockerfile = b.Context, b.Dockerfile
	} else {
		src, err := openContext(b)
		if err != nil {
			return "", refuse(runtime.KindInvalid, op, object, "%w", err)
		}
		opts.Dockerfile = src.dockerfile
		r := src.stream()
		defer r.Close()
		body = r
	}
	opts.AuthConfigs = e.allAuth(ctx)
	call, cancel := context.WithTimeout(ctx, e.timeouts.Transfer)
	defer cancel()
	resp, err := e.api().ImageBuild(call, body, opts)
	if err != nil {
		return "", e.fail(op, object, packError(err))
	}
	defer resp.Body.Close()
	var id string
	err = readProgress(resp.Body, progress, func(aux json.RawMessage) {
		var built struct{ ID string }
		if json.Unmarshal(aux, &built) == nil && built.ID != "" {
			id = built.ID
		}
	})
	switch {
	case err != nil:
		return "", e.fail(op, object, buildError(err))
	case id == "":
		return "", refuse(runtime.KindUnavailable, op, object, "the engine reported no image")
	}
	return id, nil
}

// buildOptions is everything but the context. It is pure.
func buildOptions(b *runtime.Build) build.ImageBuildOptions {
	opts := build.ImageBuildOptions{
		Version: build.BuilderV1, Tags: b.Tags, NoCache: b.NoCache, PullParent: b.Pull, Remove: true, ForceRemove: true,
		Isolation: container.Isolation(b.Isolation), Memory: b.MemoryBytes, NetworkMode: b.Network, ShmSize: b.ShmSize,
		Ulimits: ulimits(b.Ulimits), Labels: b.Labels, CacheFrom: b.CacheFrom, ExtraHosts: b.ExtraHosts,
		Target: b.Target, Platform: b.Platform, BuildArgs: map[string]*string{},
	}
	for k, v := range b.Args {
		opts.BuildArgs[k] = &v
	}
	for _, k := range b.UnsetArgs {
		if _, set := opts.BuildArgs[k]; !set {
			opts.BuildArgs[k] = nil
		}
	}
	return opts
}

var remoteForm = regexp.MustCompile(`^(?:https?://|git://|ssh://|git@|github\.com/)`)

// remoteContext reports whether a context is an address that the engine fetches.
func remoteContext(context string) bool { return remoteForm.MatchString(context) }

// buildError is what a build step's failure means: the Dockerfile or the
// program it runs is at fault, unless the text says otherwise.
func buildError(err error) error {
	if kindByText(strings.ToLower(err.Error())) != "" || unreachable(err) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return &runtime.Error{Kind: runtime.KindInvalid, Err: errors.New(clean(err.Error()))}
}

// packError prefers why the context could not be packed over the broken
// connection that follows from it.
func packError(err error) error {
	var p *packFailure
	if errors.As(err, &p) {
		return &runtime.Error{Kind: runtime.KindInvalid, Err: p}
	}
	return err
}

type packFailure struct{ err error }

func (p *packFailure) Error() string { return p.err.Error() }
func (p *packFailure) Unwrap() error { return p.err }

// contextSource is a directory to be sent as build context.
type contextSource struct {
	dir        string
	dockerfile string            // its name inside the archive
	extra      map[string]string // files that are not in the directory: name to content
	ignore     *ignoreRules
}

// openContext reads what decides about the archive: the Dockerfile when it is
// not part of the directory, and the ignore file.
func openContext(b *runtime.Build) (*contextSource, error) {
	fi, err := os.Stat(b.Context)
	if err != nil {
		return nil, fmt.Errorf("build context: %w", err)
	}
	if !fi.IsDir() {
		return nil, fmt.Errorf("build context %s is not a directory", b.Context)
	}
	src := &contextSource{dir: b.Context, extra: map[string]string{}}
	ignoreFile, err := src.placeDockerfile(b)
	if err != nil {
		return nil, err
	}
	src.ignore, err = readIgnore(ignoreFile, filepath.Join(b.Context, ".dockerignore"))
	return src, err
}

// outsideName is what a Dockerfile is called that is not in the context.
const outsideName = ".berth.Dockerfile"

// placeDockerfile decides where the Dockerfile stands in the archive, and names
// the ignore file that belongs to it alone.
func (c *contextSource) placeDockerfile(b *runtime.Build) (ignoreFile string, err error) {
	if b.DockerfileInline != "" {
		if b.Dockerfile != "" {
			return "", errors.New("dockerfile and dockerfile_inline cannot both be given")
		}
		c.dockerfile, c.extra[outsideName] = outsideName, b.DockerfileInline
		return "", nil
	}
	file := b.Dockerfile
	if file == "" {
		file = "Dockerfile"
	}
	if !filepath.IsAbs(file) {
		file = filepath.Join(c.dir, file)
	}
	fi, err := os.Stat(file)
	if err != nil {
		return "", fmt.Errorf("dockerfile: %w", err)
	}
	if !fi.Mode().IsRegular() {
		return "", fmt.Errorf("dockerfile %s is not a regular file", file)
	}
	abs, err := filepath.Abs(c.dir)
	if err != nil {
		return "", err
	}
	absFile, err := filepath.Abs(file)
	if err != nil {
		return "", err
	}
	if rel, err := filepath.Rel(abs, absFile); err == nil && filepath.IsLocal(rel) {
		c.dockerfile = filepath.ToSlash(rel)
		return file + ".dockerignore", nil
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("dockerfile: %w", err)
	}
	c.dockerfile, c.extra[outsideName] = outsideName, string(content)
	return file + ".dockerignore", nil
}
