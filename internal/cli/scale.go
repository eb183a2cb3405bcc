package cli

import (
	"context"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/internal/api"
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
		return a.actOn(ctx, t, api.ActionRequest{Op: actScale, Services: names, Scale: scale, NoDeps: noDeps}, untilSettled)
	}
	o := upOptions{detach: true}
	o.scale, o.noDeps = pairs, noDeps
	o.noRecreate = true
	return a.up(ctx, names, &o)
}
