package cli

import (
	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/internal/api"
)

func newStop(a *app) *cobra.Command {
	var timeout int
	cmd := &cobra.Command{
		Use:               "stop [OPTIONS] [SERVICE...]",
		Short:             "Stop services",
		ValidArgsFunction: a.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := grace(timeout, cmd.Flags().Changed("timeout"))
			if err != nil {
				return err
			}
			return a.act(cmd.Context(), api.ActionRequest{Op: actStop, Services: args, Timeout: d}, untilSettled)
		},
	}
	cmd.Flags().IntVarP(&timeout, "timeout", "t", 0, "Specify a shutdown timeout in seconds")
	return cmd
}
