package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/stack"
)

func newScale(a *app) *cobra.Command {
	var noDeps bool
	cmd := &cobra.Command{
		Use:   "scale [SERVICE=REPLICAS...]",
		Short: "Scale services",
		Args:  cobra.MinimumNArgs(1),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			names := a.serviceNames(cmd.Context(), args)
			for i := range names {
				names[i] += "="
			}
			return names, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
		},
		RunE: func(cmd *cobra.Command, args []string) error { return a.scale(cmd.Context(), args, noDeps) },
	}
	cmd.Flags().BoolVar(&noDeps, "no-deps", false, "Don't start linked services")
	return cmd
}

// scale changes how many replicas services have. With a file at hand it is
// declared again, as Compose does, so that a scaled service that was never up comes up.
func (a *app) scale(ctx context.Context, pairs []string, noDeps bool) error {
	scale, err := parseScale(nil, pairs)
	if err != nil {
		return err
	}
	names := slices.Sorted(maps.Keys(scale))
	t, err := a.resolve(ctx, names...)
	if err != nil {
		return err
	}
	if t.Loaded == nil {
		err = a.actOn(ctx, t, api.ActionRequest{Op: actScale, Services: names, Scale: scale, NoDeps: noDeps}, untilSettled)
	} else {
		o := upOptions{detach: true}
		o.scale, o.noDeps = pairs, noDeps
		o.noRecreate, o.cause = true, "scale "+strings.Join(pairs, " ")
		err = a.up(ctx, names, &o)
	}
	if err == nil && !a.global.dryRun {
		a.noteHeld(ctx, t, names)
	}
	return err
}

// noteHeld says that a number given by hand holds the autoscaling of services.
func (a *app) noteHeld(ctx context.Context, t target, services []string) {
	if a.global.progress == "quiet" {
		return
	}
	var declared *stack.Stack
	if t.Loaded != nil {
		declared = t.Loaded.Stack
	} else if known := a.knownStatus(ctx, t.Name); known != nil && known.Desired != nil {
		declared = known.Desired.Stack
	}
	for _, name := range services {
		if declared == nil || declared.Service(name) == nil || declared.Service(name).Autoscale == nil {
			continue
		}
		_, _ = fmt.Fprintf(a.env.Err, "note: autoscaling of %s is held until berth autoscale resume %[1]s, or the next up\n", sanitize(name)) // a note that cannot be shown is no failure
	}
}
