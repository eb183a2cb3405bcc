package fake

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/berth-dev/berth/runtime"
)

// Image is what an image brings along: its configuration and what its
// containers do when nothing else is scripted.
type Image struct {
	ID          string // default: derived from the rest
	Entrypoint  []string
	Command     []string // default: {"/run"} when there is no entrypoint either
	Env         []string
	WorkingDir  string
	User        string
	StopSignal  string
	Volumes     []string // declared mount points
	Exposed     []string // "80/tcp"
	Healthcheck *runtime.Healthcheck
	Labels      map[string]string
	Files       map[string]string // contents by absolute path
	Dirs        []string          // empty directories
	Size        int64             // bytes
	Workload    Workload          `json:"-"`
}

type image struct {
	Image
	tags []string
	root *tree
}

// reference adds what a reference leaves out: the tag, and nothing of the default registry.
func reference(ref string) string {
	ref = strings.TrimPrefix(strings.TrimPrefix(ref, "docker.io/"), "library/")
	if strings.Contains(ref, "@") || strings.HasPrefix(ref, "sha256:") {
		return ref
	}
	if i := strings.LastIndex(ref, "/"); !strings.Contains(ref[i+1:], ":") {
		return ref + ":latest"
	}
	return ref
}

func (e *Engine) findImage(ref string) *image {
	for _, img := range e.images {
		if slices.Contains(img.tags, reference(ref)) {
			return img
		}
	}
	if _, digest, ok := strings.Cut(ref, "@"); ok {
		ref = digest
	}
	bare := strings.TrimPrefix(ref, "sha256:")
	for id, img := range e.images {
		if len(bare) >= 12 && strings.HasPrefix(strings.TrimPrefix(id, "sha256:"), bare) {
			return img
		}
	}
	return nil
}

// AddImage puts an image under that reference and returns its ID. A reference
// that is taken moves to the new image.
func (e *Engine) AddImage(ref string, cfg Image) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.addImage(ref, cfg).ID
}

// AddRemote puts an image into the registry from which Pull fetches.
func (e *Engine) AddRemote(ref string, cfg Image) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.remote[reference(ref)] = cfg
}

func (e *Engine) addImage(ref string, cfg Image) *image {
	if len(cfg.Entrypoint) == 0 && len(cfg.Command) == 0 {
		cfg.Command = []string{"/run"}
	}
	if cfg.ID == "" {
		b, _ := json.Marshal(cfg) // strings, numbers and maps of them always marshal
		sum := sha256.Sum256(append(b, ref...))
		cfg.ID = "sha256:" + hex.EncodeToString(sum[:])
	}
	img := &image{Image: cfg, root: newTree()}
	if old := e.images[cfg.ID]; old != nil {
		img.tags = old.tags
	}
	for _, dir := range cfg.Dirs {
		img.root.mkdirs(dir, time.Time{})
	}
	for name, data := range cfg.Files {
		img.root.put(name, &file{data: []byte(data), mode: fs.FileMode(0o755)})
	}
	e.images[cfg.ID] = img
	e.tagLocked(img, ref)
	return img
}

func (e *Engine) tagLocked(img *image, ref string) {
	ref = reference(ref)
	for _, other := range e.images {
		other.tags = slices.DeleteFunc(other.tags, func(t string) bool { return t == ref })
	}
	img.tags = append(img.tags, ref)
	slices.Sort(img.tags)
}

// command is what a container of the image runs.
func (i *image) command(spec *runtime.Spec) []string {
	entry, cmd := i.Entrypoint, spec.Command
	if spec.Entrypoint != nil {
		entry = spec.Entrypoint
	} else if cmd == nil {
		cmd = i.Command
	}
	return slices.Concat(entry, cmd)
}

func (e *Engine) getImage(op, ref string) (*image, error) {
	if img := e.findImage(ref); img != nil {
		return img, nil
	}
	return nil, fail(runtime.KindNotFound, op, ref, "no such image")
}

// Image finds a local image.
func (e *Engine) Image(ctx context.Context, ref string) (found runtime.Image, err error) {
	err = e.call(ctx, "image", ref, func(context.Context, *Call) error {
		e.mu.Lock()
		defer e.mu.Unlock()
		img, err := e.getImage("inspect image", ref)
		if err != nil {
			return err
		}
		found = runtime.Image{
			ID: img.ID, Tags: slices.Clone(img.tags), Size: img.Size, OS: "linux", Arch: "amd64", Platform: "linux/amd64",
			Volumes: slices.Clone(img.Volumes), Exposed: slices.Clone(img.Exposed), HasCheck: img.Healthcheck != nil, Labels: maps.Clone(img.Labels),
		}
		return nil
	})
	return found, err
}

// Pull fetches an image that was put into the registry with [Engine.AddRemote].
func (e *Engine) Pull(ctx context.Context, ref string, opts runtime.PullOptions) error {
	err := e.call(ctx, "pull", ref, func(_ context.Context, call *Call) error {
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.offline {
			return fail(runtime.KindUnavailable, "pull", ref, "the registry cannot be reached: no such host")
		}
		cfg, ok := e.remote[reference(ref)]
		if host := registry(ref); !ok && host != "" && !e.knowsRegistry(host) {
			return fail(runtime.KindUnavailable, "pull", ref, "the registry %s cannot be reached: connection refused", host)
		}
		if !ok {
			return fail(runtime.KindNotFound, "pull", ref, "not known to the registry, or it needs a login")
		}
		img := e.addImage(ref, cfg)
		call.Changed = true
		e.emitLocked("image", "pull", img.ID, reference(ref), map[string]string{"name": ref})
		return nil
	})
	if err == nil && opts.Progress != nil {
		opts.Progress(runtime.Progress{Status: "Pulling from " + ref})
		opts.Progress(runtime.Progress{Status: "Status: Downloaded newer image for " + reference(ref)})
	}
	return err
}

// registry is the host that a reference names, "" for the default one.
func registry(ref string) string {
	host, _, ok := strings.Cut(ref, "/")
	if ok && (strings.ContainsAny(host, ".:") || host == "localhost") && host != "docker.io" {
		return host
	}
	return ""
}

// knowsRegistry reports whether an image was put into the registry at host.
func (e *Engine) knowsRegistry(host string) bool {
	for ref := range e.remote {
		if registry(ref) == host {
			return true
		}
	}
	return false
}

// Push puts a local image into the registry.
func (e *Engine) Push(ctx context.Context, ref string, progress func(runtime.Progress)) error {
	err := e.call(ctx, "push", ref, func(_ context.Context, call *Call) error {
		e.mu.Lock()
		defer e.mu.Unlock()
		img, err := e.getImage("push", ref)
		if err != nil {
			return err
		}
		if e.offline {
			return fail(runtime.KindUnavailable, "push", ref, "the registry cannot be reached: no such host")
		}
		e.remote[reference(ref)] = img.Image
		call.Changed = true
		return nil
	})
	if err == nil && progress != nil {
		progress(runtime.Progress{Status: "The push refers to repository " + ref})
	}
	return err
}

// Build makes an image whose ID is derived from what it is built of.
func (e *Engine) Build(ctx context.Context, build *runtime.Build, progress func(runtime.Progress)) (id string, err error) {
	object := strings.Join(build.Tags, " ")
	err = e.call(ctx, "build", object, func(_ context.Context, call *Call) error {
		dockerfile, err := readDockerfile(build)
		if err != nil {
			return fail(runtime.KindInvalid, "build", object, "read the Dockerfile: %w", err)
		}
		if bad := unknownInstruction(dockerfile); bad != "" {
			return fail(runtime.KindInvalid, "build", object, "dockerfile parse error: unknown instruction: %s", bad)
		}
		var cfg Image
		if e.opts.OnBuild != nil {
			if cfg, err = e.opts.OnBuild(build); err != nil {
				return fail(runtime.KindInvalid, "build", object, "%w", err)
			}
		}
		if cfg.ID == "" {
			b, _ := json.Marshal(build) // plain values always marshal
			sum := sha256.Sum256(append(b, dockerfile...))
			cfg.ID = "sha256:" + hex.EncodeToString(sum[:])
		}
		labels := maps.Clone(build.Labels)
		if labels == nil {
			labels = map[string]string{}
		}
		maps.Copy(labels, cfg.Labels)
		cfg.Labels = labels
		e.mu.Lock()
		defer e.mu.Unlock()
		for _, tag := range build.Tags {
			e.addImage(tag, cfg)
		}
		if len(build.Tags) == 0 {
			e.images[cfg.ID] = &image{Image: cfg, root: newTree()}
		}
		id, call.Changed = cfg.ID, true
		return nil
	})
	if err != nil {
		return "", err
	}
	if progress != nil {
		progress(runtime.Progress{Status: "Successfully built " + strings.TrimPrefix(id, "sha256:")[:12]})
	}
	return id, nil
}

func readDockerfile(build *runtime.Build) ([]byte, error) {
	if build.DockerfileInline != "" || strings.Contains(build.Context, "://") {
		return []byte(build.DockerfileInline), nil
	}
	name := cmp.Or(build.Dockerfile, "Dockerfile")
	if !filepath.IsAbs(name) {
		name = filepath.Join(build.Context, name)
	}
	return os.ReadFile(name)
}

var instructions = []string{
	"ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "MAINTAINER", "ONBUILD", "RUN",
	"SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
}

// unknownInstruction is the first word of a Dockerfile's line that is none.
func unknownInstruction(dockerfile []byte) string {
	continued := false
	for line := range strings.Lines(string(dockerfile)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		word, _, _ := strings.Cut(line, " ")
		if !continued && !slices.Contains(instructions, strings.ToUpper(word)) {
			return word
		}
		continued = strings.HasSuffix(line, "\\")
	}
	return ""
}

// Tag gives an image another reference.
func (e *Engine) Tag(ctx context.Context, source, target string) error {
	return e.call(ctx, "tag", source, func(_ context.Context, call *Call) error {
		e.mu.Lock()
		defer e.mu.Unlock()
		img, err := e.getImage("tag", source)
		if err != nil {
			return err
		}
		call.Changed = !slices.Contains(img.tags, reference(target))
		e.tagLocked(img, target)
		e.emitLocked("image", "tag", img.ID, reference(target), map[string]string{"name": reference(target)})
		return nil
	})
}

// RemoveImage takes a reference away, and with the last one the image.
func (e *Engine) RemoveImage(ctx context.Context, ref string, force bool) error {
	return e.call(ctx, "remove-image", ref, func(_ context.Context, call *Call) error {
		e.mu.Lock()
		defer e.mu.Unlock()
		img, err := e.getImage("remove image", ref)
		if err != nil {
			return err
		}
		left := slices.DeleteFunc(slices.Clone(img.tags), func(t string) bool { return t == reference(ref) })
		byID := len(left) == len(img.tags)
		if byID && len(left) > 1 && !force {
			return fail(runtime.KindConflict, "remove image", ref, "it has several references: %s", strings.Join(left, ", "))
		}
		if byID || len(left) == 0 {
			for _, c := range e.sortedContainers() {
				if c.image == img && (!force || c.State.Alive()) {
					return fail(runtime.KindConflict, "remove image", ref, "it is in use by container %s", c.Name)
				}
			}
			delete(e.images, img.ID)
			left = nil
			e.emitLocked("image", "delete", img.ID, img.ID, map[string]string{"name": img.ID})
		}
		img.tags = left
		call.Changed = true
		e.emitLocked("image", "untag", img.ID, ref, map[string]string{"name": ref})
		return nil
	})
}
