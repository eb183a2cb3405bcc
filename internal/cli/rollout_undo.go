package cli

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/internal/api"
)

func newRolloutUndo(a *app) *cobra.Command {
	var to string
	var detach, wait bool
	cmd := &cobra.Command{
		Use:   "undo [OPTIONS] [SERVICE...]",
		Short: "Declare an earlier revision anew, of the stack or of some services",
		Long: "Declare an earlier revision of the stack anew, or of the services that are named: the one before,\n" +
			"or another that berth rollout history lists. Their replicas are replaced as after any other change,\n" +
			"by the images that they had then. The command returns once that is done.",
		Example:           "  berth rollout undo\n  berth rollout undo --to 3 web",
		ValidArgsFunction: a.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			req := api.UndoRequest{Services: args}
			if cmd.Flags().Changed("to") {
				n, err := parseRevision("rollout undo", to)
				if err != nil {
					return err
				}
				req.To = n
			}
			if detach && wait {
				return errors.New("rollout undo: --detach and --wait are incompatible")
			}
			return a.rolloutUndo(cmd.Context(), req, detach, wait)
		},
	}
	f := cmd.Flags()
	f.StringVar(&to, "to", "", "Number of the revision (default the one before)")
	f.BoolVarP(&detach, "detach", "d", false, "Return at once; the daemon goes on with it")
	f.BoolVar(&wait, "wait", false, "Return once the rollout is completed, its monitor time included")
	_ = cmd.RegisterFlagCompletionFunc("to", a.completeRevisions) // it fails for a flag that is not there
	return cmd
}

func (a *app) rolloutUndo(ctx context.Context, req api.UndoRequest, detach, wait bool) error {
	t, d, err := a.managed(ctx)
	if err != nil {
		return err
	}
	if a.global.dryRun {
		plan, err := d.PlanUndo(ctx, t.Name, req)
		if err != nil {
			return err
		}
		return a.printPlan(plan, nil, "text")
	}
	acc, err := d.Undo(ctx, t.Name, req)
	switch {
	case err != nil:
		return err
	case detach:
		for _, w := range acc.Warnings {
			a.note(w)
		}
		return nil
	case wait:
		return a.follow(ctx, d, acc, untilReady)
	}
	return a.follow(ctx, d, acc, untilSettled)
}
