package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
)

// imageOptions say how the images of an up, create or run come about.
type imageOptions struct {
	Build     bool   // build even when there is an image
	NoBuild   bool   // never build
	Pull      string // --pull: always, missing, never, build; empty or "policy": each service's own
	QuietPull bool
	// QuietBuild shows nothing of a build, unless it fails.
	QuietBuild bool
}

// check refuses a --pull that means nothing.
func (o imageOptions) check() error {
	if o.Build && o.NoBuild {
		return errors.New("--build and --no-build are incompatible")
	}
	if o.Pull != "" && !slices.Contains([]string{"policy", "always", "missing", "never", "build"}, o.Pull) {
		return fmt.Errorf("--pull %q is unknown; use always, missing, never or build", o.Pull)
	}
	return nil
}

// imageAction is what has to be done for an image.
type imageAction string

const (
	imageNone  imageAction = ""
	imagePull  imageAction = "pull"
	imageBuild imageAction = "build"
)

// declare asks the daemon for an up, with its images there. Where it is enough
// that they are there, the daemon, which has looked at them, is asked at once,
// and they are fetched only when it misses some.
func (a *app) declare(ctx context.Context, d daemon, req *api.UpRequest, opts imageOptions) (api.Accepted, error) {
	services, err := withDependencies(req.Stack, req.Services, req.NoDeps)
	if err != nil {
		return api.Accepted{}, err
	}
	services = withSteps(req.Stack, services)
	if presenceSuffices(services, opts) {
		ask := *req
		ask.NeedImages = true
		acc, err := d.Up(ctx, &ask)
		if err != nil || len(acc.MissingImages) == 0 {
			return acc, err
		}
	}
	if err := a.ensureImages(ctx, services, opts); err != nil {
		return api.Accepted{}, err
	}
	return d.Up(ctx, req)
}

// presenceSuffices reports whether nothing has to be done for images that are
// there, whatever their age.
func presenceSuffices(services []*stack.Service, opts imageOptions) bool {
	for _, s := range services {
		if action, err := decideImage(s, runtime.Image{}, true, opts, time.Now()); err != nil || action != imageNone {
			return false
		}
	}
	return true
}

// ensureImages pulls or builds what the services need and the engine lacks.
// services are those meant, dependencies included. An error leaves the stack
// unchanged: images come before everything else.
func (a *app) ensureImages(ctx context.Context, services []*stack.Service, opts imageOptions) error {
	if len(services) == 0 {
		return nil
	}
	engine, err := a.openEngine(ctx)
	if err != nil {
		return err
	}
	have, err := a.localImages(ctx, engine, services)
	if err != nil {
		return err
	}
	return a.fetchImages(ctx, engine, services, have, opts)
}

// localImages asks for each image once; one that is missing has no entry.
func (a *app) localImages(ctx context.Context, engine Engine, services []*stack.Service) (map[string]runtime.Image, error) {
	var refs []string
	for _, s := range services {
		if !slices.Contains(refs, s.Spec.Image) {
			refs = append(refs, s.Spec.Image)
		}
	}
	var mu sync.Mutex
	have := make(map[string]runtime.Image, len(refs))
	err := inParallel(ctx, 8, refs, func(ctx context.Context, ref string) error {
		img, err := engine.Image(ctx, ref)
		if err != nil {
			if runtime.IsNotFound(err) {
				return nil
			}
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		have[ref] = img
		return nil
	})
	return have, err
}

// fetchImages decides for each image once and carries it out, builds after pulls.
func (a *app) fetchImages(ctx context.Context, engine Engine, services []*stack.Service, have map[string]runtime.Image, opts imageOptions) error {
	seen := make(map[string]bool)
	var pulls, builds []*stack.Service
	for _, s := range services {
		img, present := have[s.Spec.Image]
		action, err := decideImage(s, img, present, opts, time.Now())
		if err != nil {
			return err
		}
		key := string(action) + " " + s.Spec.Image
		if action == imageNone || seen[key] {
			continue
		}
		seen[key] = true
		if action == imagePull {
			pulls = append(pulls, s)
		} else {
			builds = append(builds, s)
		}
	}
	if err := a.pullImages(ctx, engine, pulls, have, opts.QuietPull); err != nil {
		return err
	}
	return a.buildImages(ctx, engine, builds, opts.QuietBuild)
}

// decideImage says what has to be done for a service's image.
func decideImage(s *stack.Service, img runtime.Image, present bool, opts imageOptions, now time.Time) (imageAction, error) {
	policy := s.PullPolicy
	if opts.Pull != "" && opts.Pull != "policy" {
		policy = opts.Pull
	}
	canBuild := s.Build != nil && !opts.NoBuild
	if s.Build != nil && opts.Build {
		return imageBuild, nil
	}
	switch policy {
	case "always":
		if s.Build == nil {
			return imagePull, nil
		}
	case "build":
		if canBuild {
			return imageBuild, nil
		}
	case "never":
		if !present && !canBuild {
			return imageNone, fmt.Errorf("service %s: image %s is not on the engine and the pull policy is never; pull, build or load it first", s.Name, s.Spec.Image)
		}
	default:
		if age, ok := refreshAge(policy); ok && present && s.Build == nil && now.Sub(img.Created) > age {
			return imagePull, nil
		}
	}
	switch {
	case present:
		return imageNone, nil
	case canBuild:
		return imageBuild, nil
	case s.Build != nil:
		return imageNone, fmt.Errorf("service %s: image %s is not on the engine and --no-build forbids to build it; leave --no-build out, or load the image", s.Name, s.Spec.Image)
	}
	return imagePull, nil
}

// refreshAge reads the pull policies that depend on an image's age.
func refreshAge(policy string) (time.Duration, bool) {
	const day = 24 * time.Hour
	switch policy {
	case "daily":
		return day, true
	case "weekly":
		return 7 * day, true
	}
	text, ok := strings.CutPrefix(policy, "every_")
	if !ok {
		return 0, false
	}
	var total time.Duration
	for text != "" {
		n := strings.IndexFunc(text, func(r rune) bool { return r < '0' || r > '9' })
		if n <= 0 {
			return 0, false
		}
		var count int
		if _, err := fmt.Sscanf(text[:n], "%d", &count); err != nil {
			return 0, false
		}
		units := map[byte]time.Duration{'w': 7 * day, 'd': day, 'h': time.Hour, 'm': time.Minute, 's': time.Second}
		unit, known := units[text[n]]
		if !known {
			return 0, false
		}
		total += time.Duration(count) * unit
		text = text[n+1:]
	}
	return total, total > 0
}

func (a *app) pullImages(ctx context.Context, engine Engine, services []*stack.Service, have map[string]runtime.Image, quiet bool) error {
	if len(services) == 0 {
		return nil
	}
	ui := progress(quietProgress{})
	if !quiet {
		ui = a.progress("Pulling")
	}
	defer ui.Stop()
	return inParallel(ctx, a.global.parallel, services, func(ctx context.Context, s *stack.Service) error {
		err := pullImage(ctx, engine, s.Spec.Image, s.Spec.Platform, ui)
		if _, present := have[s.Spec.Image]; err != nil && present && refreshes(s.PullPolicy) && ctx.Err() == nil {
			ui.Event(progressEvent{ID: "Image " + s.Spec.Image, Text: "Kept", Detail: err.Error(), State: progressWarning})
			return nil
		}
		return err
	})
}

// refreshes reports whether a policy renews an image that is there.
func refreshes(policy string) bool {
	_, ok := refreshAge(policy)
	return ok
}

// pullImage pulls one image and shows its layers.
func pullImage(ctx context.Context, engine Engine, ref, platform string, ui progress) error {
	id := "Image " + ref
	ui.Event(progressEvent{ID: id, Text: "Pulling"})
	err := engine.Pull(ctx, ref, runtime.PullOptions{Platform: platform, Progress: func(p runtime.Progress) {
		if p.ID != "" {
			ui.Event(progressEvent{ID: p.ID, Parent: id, Text: p.Status, Current: p.Current, Total: p.Total})
		}
	}})
	if err != nil {
		ui.Event(progressEvent{ID: id, Text: "Error", State: progressError})
		return err
	}
	ui.Event(progressEvent{ID: id, Text: "Pulled", State: progressDone})
	return nil
}

func (a *app) buildImages(ctx context.Context, engine Engine, services []*stack.Service, quiet bool) error {
	if len(services) == 0 {
		return nil
	}
	ui := progress(&quietBuild{w: a.env.Err})
	if !quiet && a.progressMode() != "quiet" {
		ui = a.progress("Building")
	}
	defer ui.Stop()
	return inParallel(ctx, a.global.parallel, services, func(ctx context.Context, s *stack.Service) error {
		return buildImage(ctx, engine, s.Name, s.Build, ui)
	})
}

// buildImage builds one service's image and shows what the build tells.
func buildImage(ctx context.Context, engine Engine, service string, build *runtime.Build, ui progress) error {
	id := "Image " + service
	if len(build.Tags) > 0 {
		id = "Image " + build.Tags[0]
	}
	ui.Event(progressEvent{ID: id, Text: "Building"})
	_, err := engine.Build(ctx, build, func(p runtime.Progress) {
		if line := strings.TrimSpace(p.Status); line != "" && p.Total == 0 {
			ui.Event(progressEvent{ID: id, Log: line})
		}
	})
	if err != nil {
		ui.Event(progressEvent{ID: id, Text: "Error", State: progressError})
		return fmt.Errorf("service %s: %w", service, err)
	}
	ui.Event(progressEvent{ID: id, Text: "Built", State: progressDone})
	return nil
}

// inParallel calls do for each item, at most limit at a time (negative: all).
// The first error ends the rest and is returned once every call has ended.
func inParallel[T any](ctx context.Context, limit int, items []T, do func(context.Context, T) error) error {
	if limit <= 0 || limit > len(items) {
		limit = len(items)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	slots := make(chan struct{}, max(limit, 1))
	var wg sync.WaitGroup
	for _, item := range items {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := do(ctx, item); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// withDependencies returns the named services of s, none meaning all, and what
// they depend on, in the file's order.
func withDependencies(s *stack.Stack, names []string, noDeps bool) ([]*stack.Service, error) {
	wanted := make(map[string]bool)
	var add func(name string)
	add = func(name string) {
		svc := s.Service(name)
		if svc == nil || wanted[name] {
			return
		}
		wanted[name] = true
		if noDeps {
			return
		}
		for _, d := range svc.DependsOn {
			add(d.Service)
		}
	}
	for _, n := range names {
		if s.Service(n) == nil {
			return nil, fmt.Errorf("no such service: %s; the file has %s", n, strings.Join(serviceList(s), ", "))
		}
		add(n)
	}
	var list []*stack.Service
	for i := range s.Services {
		if len(names) == 0 || wanted[s.Services[i].Name] {
			list = append(list, &s.Services[i])
		}
	}
	return list, nil
}

// withSteps adds to services what stands for the images of their pre_start steps.
func withSteps(s *stack.Stack, services []*stack.Service) []*stack.Service {
	out := slices.Clone(services)
	for _, svc := range services {
		out = append(out, s.StepImages(svc)...)
	}
	return out
}

func serviceList(s *stack.Stack) []string {
	names := make([]string, len(s.Services))
	for i := range s.Services {
		names[i] = s.Services[i].Name
	}
	return names
}
