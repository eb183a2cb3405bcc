package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
)

// pullOptions are the flags of pull.
type pullOptions struct {
	quiet           bool
	includeDeps     bool
	ignoreFailures  bool
	ignoreBuildable bool
	policy          string
}

func newPull(a *app) *cobra.Command {
	var o pullOptions
	cmd := &cobra.Command{
		Use:               "pull [OPTIONS] [SERVICE...]",
		Short:             "Pull service images",
		ValidArgsFunction: a.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.pull(cmd.Context(), args, o)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.quiet, "quiet", "q", false, "Pull without printing progress information")
	f.BoolVar(&o.includeDeps, "include-deps", false, "Also pull services declared as dependencies")
	f.BoolVar(&o.ignoreFailures, "ignore-pull-failures", false, "Pull what it can and ignores images with pull failures")
	f.BoolVar(&o.ignoreBuildable, "ignore-buildable", false, "Ignore images that can be built")
	f.StringVar(&o.policy, "policy", "", `Apply pull policy ("missing"|"always")`)
	return cmd
}

// chooseServices reads the file and returns the named services, all when none
// is named, and with deps what they depend on.
func (a *app) chooseServices(ctx context.Context, names []string, deps bool) (*stack.Loaded, []*stack.Service, error) {
	loaded, err := a.load(ctx, names...)
	if err != nil {
		return nil, nil, err
	}
	a.warn(loaded)
	list, err := withDependencies(loaded.Stack, names, !deps)
	return loaded, list, err
}

// pull fetches the images of services.
func (a *app) pull(ctx context.Context, names []string, o pullOptions) error {
	if !slices.Contains([]string{"", "missing", "always"}, o.policy) {
		return fmt.Errorf("--policy %q is unknown; use missing or always", o.policy)
	}
	loaded, services, err := a.chooseServices(ctx, names, o.includeDeps)
	if err != nil {
		return err
	}
	engine, err := a.openEngine(ctx)
	if err != nil {
		return err
	}
	services = withSteps(loaded.Stack, services)
	have, err := a.localImages(ctx, engine, services)
	if err != nil {
		return err
	}
	ui := progress(quietProgress{})
	if !o.quiet {
		ui = a.progress("Pulling")
	}
	defer ui.Stop()
	var wanted []*stack.Service
	by := map[string]string{}
	for _, s := range services {
		declared := loaded.Project.Services[s.Name]
		image, policy := declared.Image, declared.PullPolicy
		if s != loaded.Stack.Service(s.Name) { // stands for the image of a pre_start step
			image, policy = s.Spec.Image, s.PullPolicy
		}
		_, present := have[s.Spec.Image]
		why := o.skip(s, image, policy, present, by[s.Spec.Image])
		if why != "" {
			ui.Event(progressEvent{ID: "Service " + s.Name, Text: "Skipped", Detail: why, State: progressDone})
			continue
		}
		by[s.Spec.Image] = s.Name
		wanted = append(wanted, s)
	}
	if a.global.dryRun {
		for _, s := range wanted {
			ui.Event(progressEvent{ID: "Image " + s.Spec.Image, Text: "Would be pulled", State: progressDone})
		}
		return nil
	}
	return a.pullWanted(ctx, engine, wanted, o, ui)
}

// skip says why a service's image is not pulled; empty: it is.
func (o pullOptions) skip(s *stack.Service, image, policy string, present bool, already string) string {
	if o.policy != "" {
		policy = o.policy
	}
	switch {
	case image == "":
		return "No image to be pulled"
	case policy == "never" || policy == "build":
		return "The pull policy is " + policy
	case (policy == "missing" || policy == "if_not_present") && present && !movesByItself(image):
		return "Image is already present locally"
	case s.Build != nil && o.ignoreBuildable:
		return "Image can be built"
	case already != "":
		return "Image is already being pulled by " + already
	}
	return ""
}

// movesByItself reports whether an image's tag is latest, said or not: what it
// stands for changes all the time.
func movesByItself(ref string) bool {
	_, tag := splitReference(ref)
	return tag == "latest"
}

// pullWanted pulls images. One that can be built instead may fail.
func (a *app) pullWanted(ctx context.Context, engine Engine, services []*stack.Service, o pullOptions, ui progress) error {
	var mu sync.Mutex
	var mustBuild []string
	var failed []error
	err := inParallel(ctx, a.global.parallel, services, func(ctx context.Context, s *stack.Service) error {
		err := pullImage(ctx, engine, s.Spec.Image, s.Spec.Platform, ui)
		if err == nil || ctx.Err() != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		if s.Build != nil {
			mustBuild = append(mustBuild, s.Name)
		} else if !o.ignoreFailures {
			return err // what can be neither pulled nor built ends it
		}
		failed = append(failed, err)
		return nil
	})
	ui.Stop()
	if len(mustBuild) > 0 {
		slices.Sort(mustBuild)
		a.note("some service images must be built from source by running: berth build " + strings.Join(mustBuild, " "))
	}
	switch {
	case err != nil:
		return err
	case o.ignoreFailures:
		for _, err := range failed {
			a.note(err.Error())
		}
		return nil
	}
	return errors.Join(failed...)
}

// pushImage pushes one image and shows its layers.
func pushImage(ctx context.Context, engine Engine, ref string, ui progress) error {
	id := "Image " + ref
	ui.Event(progressEvent{ID: id, Text: "Pushing"})
	err := engine.Push(ctx, ref, func(p runtime.Progress) {
		if p.ID != "" {
			ui.Event(progressEvent{ID: p.ID, Parent: id, Text: p.Status, Current: p.Current, Total: p.Total})
		}
	})
	if err != nil {
		ui.Event(progressEvent{ID: id, Text: "Error", State: progressError})
		return err
	}
	ui.Event(progressEvent{ID: id, Text: "Pushed", State: progressDone})
	return nil
}
