package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/stack"
)

// createOptions are the flags that up and create share.
type createOptions struct {
	images        imageOptions
	forceRecreate bool
	noRecreate    bool
	recreateDeps  bool
	renewVolumes  bool
	noDeps        bool
	removeOrphans bool
	scale         []string
	timeout       int
	timeoutGiven  bool
	adopt         bool
	yes           bool
	denyElevated  bool
	cause         string // of the revision that it makes, where it is no up
}

func (o *createOptions) register(f *pflag.FlagSet) {
	f.BoolVar(&o.images.Build, "build", false, "Build images before starting containers")
	f.BoolVar(&o.images.NoBuild, "no-build", false, "Don't build an image, even if it's missing")
	f.StringVar(&o.images.Pull, "pull", "policy", `Pull image before running ("always"|"missing"|"never"|"build")`)
	f.BoolVar(&o.images.QuietPull, "quiet-pull", false, "Pull without printing progress information")
	f.BoolVar(&o.forceRecreate, "force-recreate", false, "Recreate containers even if their configuration and image haven't changed")
	f.BoolVar(&o.noRecreate, "no-recreate", false, "If containers already exist, don't recreate them. Incompatible with --force-recreate.")
	f.BoolVar(&o.removeOrphans, "remove-orphans", false, "Remove containers for services not defined in the Compose file")
	f.StringArrayVar(&o.scale, "scale", nil, "Scale SERVICE to NUM instances. Overrides the `scale` setting in the Compose file if present.")
	f.BoolVarP(&o.yes, "yes", "y", false, `Assume "yes" as answer to all prompts (berth up asks nothing)`)
	o.registerDeny(f)
	f.BoolVar(&o.adopt, "adopt", false, "Take over containers, networks and volumes of this name that Docker Compose or another installation made")
}

func (o *createOptions) registerDeny(f *pflag.FlagSet) {
	f.BoolVar(&o.denyElevated, "deny-elevated", false, "Refuse services that ask for more than an ordinary container gets, such as privileged or the engine's socket (also BERTH_DENY_ELEVATED=true)")
}

// complete takes what no flag says from the environment, and refuses flags that exclude each other.
func (o *createOptions) complete(cmd *cobra.Command, env *Env) error {
	o.timeoutGiven = cmd.Flags().Changed("timeout")
	if !cmd.Flags().Changed("remove-orphans") {
		o.removeOrphans = env.enabled("COMPOSE_REMOVE_ORPHANS")
	}
	if err := o.images.check(); err != nil {
		return err
	}
	switch {
	case o.forceRecreate && o.noRecreate:
		return errors.New("--force-recreate and --no-recreate are incompatible")
	case o.renewVolumes && o.noRecreate:
		return errors.New("--no-recreate and --renew-anon-volumes are incompatible")
	case o.recreateDeps && o.noRecreate:
		return errors.New("--always-recreate-deps and --no-recreate are incompatible")
	case o.removeOrphans && env.enabled("COMPOSE_IGNORE_ORPHANS"):
		return errors.New("COMPOSE_IGNORE_ORPHANS and --remove-orphans are incompatible")
	}
	return nil
}

// request turns the flags into what the daemon is asked.
func (o *createOptions) request(loaded *stack.Loaded, services []string) (*api.UpRequest, error) {
	if len(loaded.Stack.Services) == 0 {
		return nil, fmt.Errorf("stack %s: no service is active; name one, or enable a profile with --profile", loaded.Stack.Name)
	}
	scale, err := parseScale(loaded.Stack, o.scale)
	if err != nil {
		return nil, err
	}
	timeout, err := grace(o.timeout, o.timeoutGiven)
	if err != nil {
		return nil, err
	}
	return &api.UpRequest{
		Stack:            loaded.Stack,
		Contents:         loaded.Contents,
		Services:         services,
		NoDeps:           o.noDeps,
		ForceRecreate:    o.forceRecreate,
		RecreateDeps:     o.recreateDeps,
		NoRecreate:       o.noRecreate,
		RenewAnonVolumes: o.renewVolumes,
		RemoveOrphans:    o.removeOrphans,
		Scale:            scale,
		Timeout:          timeout,
		Adopt:            o.adopt,
		Cause:            o.cause,
	}, nil
}

// parseScale reads SERVICE=NUM pairs.
func parseScale(s *stack.Stack, pairs []string) (map[string]int, error) {
	if len(pairs) == 0 {
		return nil, nil
	}
	scale := make(map[string]int, len(pairs))
	for _, p := range pairs {
		name, number, ok := strings.Cut(p, "=")
		n, err := strconv.Atoi(number)
		if !ok || err != nil || n < 0 {
			return nil, fmt.Errorf("scale %q: not of the form SERVICE=NUMBER", p)
		}
		if s != nil && s.Service(name) == nil {
			return nil, fmt.Errorf("scale %q: no such service: %s; the file has %s", p, name, strings.Join(serviceList(s), ", "))
		}
		scale[name] = n
	}
	return scale, nil
}

// prepare reads the project and makes sure of its images: what a foreground up
// and run do before they ask the daemon for anything.
func (a *app) prepare(ctx context.Context, services []string, o *createOptions) (*stack.Loaded, *api.UpRequest, error) {
	loaded, req, err := a.prepareRequest(ctx, services, o)
	if err != nil || a.global.dryRun {
		return loaded, req, err
	}
	needed, err := withDependencies(loaded.Stack, services, o.noDeps)
	if err != nil {
		return nil, nil, err
	}
	return loaded, req, a.ensureImages(ctx, withSteps(loaded.Stack, needed), o.images)
}

// prepareRequest reads the project and turns it into what the daemon is asked.
func (a *app) prepareRequest(ctx context.Context, services []string, o *createOptions) (*stack.Loaded, *api.UpRequest, error) {
	loaded, err := a.load(ctx, services...)
	if err != nil {
		return nil, nil, err
	}
	a.warn(loaded)
	req, err := o.request(loaded, services)
	if err != nil {
		return nil, nil, err
	}
	if o.denyElevated || a.env.enabled("BERTH_DENY_ELEVATED") {
		included, err := withDependencies(loaded.Stack, services, o.noDeps)
		if err != nil {
			return nil, nil, err
		}
		if err := denyElevated(loaded.Stack.Name, elevations(loaded.Stack, included)); err != nil {
			return nil, nil, err
		}
	}
	a.tellOrphans.Store(!o.removeOrphans)
	return loaded, req, nil
}

// dryRun prints what a request would change.
func (a *app) dryRun(ctx context.Context, req *api.UpRequest) error {
	d, err := a.connect(ctx)
	if err != nil {
		return err
	}
	plan, err := d.Plan(ctx, req)
	if err != nil {
		return err
	}
	included, err := withDependencies(req.Stack, req.Services, req.NoDeps)
	if err != nil {
		return err
	}
	return a.printPlan(plan, elevations(req.Stack, included), "text")
}

func newCreate(a *app) *cobra.Command {
	var o createOptions
	cmd := &cobra.Command{
		Use:   "create [OPTIONS] [SERVICE...]",
		Short: "Creates containers for a service",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.complete(cmd, a.env); err != nil {
				return err
			}
			return a.create(cmd.Context(), args, &o)
		},
		ValidArgsFunction: a.completeServices,
	}
	o.register(cmd.Flags())
	return cmd
}

func (a *app) create(ctx context.Context, services []string, o *createOptions) error {
	_, req, err := a.prepareRequest(ctx, services, o)
	if err != nil {
		return err
	}
	req.NoStart, req.Cause = true, "create"
	if a.global.dryRun {
		return a.dryRun(ctx, req)
	}
	d, err := a.connect(ctx)
	if err != nil {
		return err
	}
	acc, err := a.declare(ctx, d, req, o.images)
	if err != nil {
		return err
	}
	return a.follow(ctx, d, acc, untilSettled)
}

// completeServices completes the names of the file's services.
func (a *app) completeServices(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return a.serviceNames(cmd.Context(), args), cobra.ShellCompDirectiveNoFileComp
}
