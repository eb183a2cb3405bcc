package cli

import (
	"context"
	"slices"
	"sync"

	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/internal/stack"
)

// pushOptions are the flags of push.
type pushOptions struct {
	quiet          bool
	includeDeps    bool
	ignoreFailures bool
}

func newPush(a *app) *cobra.Command {
	var o pushOptions
	cmd := &cobra.Command{
		Use:               "push [OPTIONS] [SERVICE...]",
		Short:             "Push service images",
		ValidArgsFunction: a.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.push(cmd.Context(), args, o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.ignoreFailures, "ignore-push-failures", false, "Push what it can and ignores images with push failures")
	f.BoolVar(&o.includeDeps, "include-deps", false, "Also push images of services declared as dependencies")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "Push without printing progress information")
	return cmd
}

// push sends the images that are built here to their registries.
func (a *app) push(ctx context.Context, names []string, o pushOptions) error {
	loaded, services, err := a.chooseServices(ctx, names, o.includeDeps)
	if err != nil {
		return err
	}
	ui := progress(quietProgress{})
	if !o.quiet {
		ui = a.progress("Pushing")
	}
	defer ui.Stop()
	var refs []string
	for _, s := range services {
		if s.Build == nil || loaded.Project.Services[s.Name].Image == "" {
			ui.Event(progressEvent{ID: "Service " + s.Name, Text: "Skipped", State: progressDone})
			continue
		}
		refs = append(refs, imageTags(s)...)
	}
	slices.Sort(refs)
	refs = slices.Compact(refs)
	if a.global.dryRun {
		for _, ref := range refs {
			ui.Event(progressEvent{ID: "Image " + ref, Text: "Would be pushed", State: progressDone})
		}
		return nil
	}
	return a.pushAll(ctx, refs, o.ignoreFailures, ui)
}

// imageTags are the names that a service's build gives its image.
func imageTags(s *stack.Service) []string {
	if len(s.Build.Tags) > 0 {
		return s.Build.Tags
	}
	return []string{s.Spec.Image}
}

func (a *app) pushAll(ctx context.Context, refs []string, ignoreFailures bool, ui progress) error {
	if len(refs) == 0 {
		return nil
	}
	engine, err := a.openEngine(ctx)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var failed []error
	err = inParallel(ctx, a.global.parallel, refs, func(ctx context.Context, ref string) error {
		err := pushImage(ctx, engine, ref, ui)
		if err != nil && ignoreFailures && ctx.Err() == nil {
			mu.Lock()
			defer mu.Unlock()
			failed = append(failed, err)
			return nil
		}
		return err
	})
	ui.Stop()
	for _, err := range failed {
		a.note(err.Error())
	}
	return err
}
