package cli

import (
	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/internal/api"
)

func newKill(a *app) *cobra.Command {
	req := api.ActionRequest{Op: actKill}
	cmd := &cobra.Command{
		Use:               "kill [OPTIONS] [SERVICE...]",
		Short:             "Force stop service containers",
		ValidArgsFunction: a.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkSignal(req.Signal); err != nil {
				return err
			}
			req.Services = args
			return a.act(cmd.Context(), req, untilSettled)
		},
	}
	cmd.Flags().StringVarP(&req.Signal, "signal", "s", "SIGKILL", "SIGNAL to send to the container")
	cmd.Flags().BoolVar(&req.RemoveOrphans, "remove-orphans", false, "Remove containers for services not defined in the Compose file")
	return cmd
}
