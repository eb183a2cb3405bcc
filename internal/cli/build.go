package cli

import (
	"context"
	"fmt"
	"maps"
	"strings"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/internal/stack"
)

// buildOptions are the flags of build.
type buildOptions struct {
	args     []string
	noCache  bool
	pull     bool
	push     bool
	quiet    bool
	withDeps bool
	memory   string
}

func newBuild(a *app) *cobra.Command {
	var o buildOptions
	cmd := &cobra.Command{
		Use:               "build [OPTIONS] [SERVICE...]",
		Short:             "Build or rebuild services",
		ValidArgsFunction: a.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			for flag, why := range buildKitOnly() {
				if cmd.Flags().Changed(flag) {
					return fmt.Errorf("build: --%s is not supported: %s", flag, why)
				}
			}
			return a.build(cmd.Context(), args, o)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.args, "build-arg", nil, "Set build-time variables for services")
	f.BoolVar(&o.noCache, "no-cache", false, "Do not use cache when building the image")
	f.BoolVar(&o.pull, "pull", false, "Always attempt to pull a newer version of the image")
	f.BoolVar(&o.push, "push", false, "Push service images")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "Suppress the build output")
	f.BoolVar(&o.withDeps, "with-dependencies", false, "Also build dependencies (transitively)")
	f.StringVarP(&o.memory, "memory", "m", "", "Set memory limit for the build container")
	f.String("builder", "", "Set builder to use (not supported)")
	f.String("ssh", "", "Set SSH authentications used when building service images (not supported)")
	f.Bool("check", false, "Check build configuration (not supported)")
	f.Bool("print", false, "Print equivalent bake file (not supported)")
	f.String("provenance", "", "Add a provenance attestation (not supported)")
	f.String("sbom", "", "Add a SBOM attestation (not supported)")
	f.Lookup("provenance").NoOptDefVal = "true"
	f.Lookup("sbom").NoOptDefVal = "true"
	return cmd
}

// buildKitOnly are the flags of Compose that need a BuildKit client, and why they are refused.
func buildKitOnly() map[string]string {
	const buildKit = "images are built by the engine's own builder, without BuildKit"
	return map[string]string{
		"builder": buildKit, "ssh": buildKit + "; copy what the build needs into its context", "check": buildKit,
		"print": "there is no bake file", "provenance": buildKit, "sbom": buildKit,
	}
}

// build builds the images of the services that have a build section.
func (a *app) build(ctx context.Context, names []string, o buildOptions) error {
	_, services, err := a.chooseServices(ctx, names, o.withDeps)
	if err != nil {
		return err
	}
	var builds []*stack.Service
	var refs []string
	for _, s := range services {
		if s.Build == nil {
			continue
		}
		changed, err := a.buildWith(s, o)
		if err != nil {
			return err
		}
		builds, refs = append(builds, changed), append(refs, imageTags(s)...)
	}
	if len(builds) == 0 {
		a.note("no services to build")
		return nil
	}
	if a.global.dryRun {
		return printLines(a.env.Out, builds, func(s *stack.Service) string {
			return fmt.Sprintf("build %s: %s", s.Name, strings.Join(imageTags(s), ", "))
		})
	}
	engine, err := a.openEngine(ctx)
	if err != nil {
		return err
	}
	if err := a.buildImages(ctx, engine, builds, o.quiet); err != nil || !o.push {
		return err
	}
	ui := progress(quietProgress{})
	if !o.quiet {
		ui = a.progress("Pushing")
	}
	defer ui.Stop()
	return a.pushAll(ctx, refs, false, ui)
}

// buildWith is the service with the flags applied to its build.
func (a *app) buildWith(s *stack.Service, o buildOptions) (*stack.Service, error) {
	changed, build := *s, *s.Build
	build.NoCache = build.NoCache || o.noCache
	build.Pull = build.Pull || o.pull
	if o.memory != "" {
		n, err := units.RAMInBytes(o.memory)
		if err != nil || n <= 0 {
			return nil, fmt.Errorf("build: --memory %q is not a size; use one such as 512m", o.memory)
		}
		build.MemoryBytes = n
	}
	build.Args = maps.Clone(build.Args)
	if build.Args == nil {
		build.Args = map[string]string{}
	}
	for _, kv := range o.args {
		k, v, given := strings.Cut(kv, "=")
		if k == "" {
			return nil, fmt.Errorf("build: --build-arg %q: not of the form NAME=value", kv)
		}
		if !given {
			if v, given = a.env.lookup(k); !given {
				continue
			}
		}
		build.Args[k] = v
	}
	changed.Build = &build
	return &changed, nil
}
