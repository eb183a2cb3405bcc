package cli

import (
	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/internal/api"
)

func newRestart(a *app) *cobra.Command {
	var timeout int
	var noDeps bool
	cmd := &cobra.Command{
		Use:               "restart [OPTIONS] [SERVICE...]",
		Short:             "Restart service containers",
		ValidArgsFunction: a.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := grace(timeout, cmd.Flags().Changed("timeout"))
			if err != nil {
				return err
			}
			return a.act(cmd.Context(), api.ActionRequest{Op: actRestart, Services: args, Timeout: d, NoDeps: noDeps}, untilSettled)
		},
	}
	cmd.Flags().IntVarP(&timeout, "timeout", "t", 0, "Specify a shutdown timeout in seconds")
	cmd.Flags().BoolVar(&noDeps, "no-deps", false, "Don't restart dependent services")
	return cmd
}
