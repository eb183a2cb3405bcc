package cli

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/internal/api"
)

func newStart(a *app) *cobra.Command {
	var wait bool
	var waitTimeout int
	cmd := &cobra.Command{
		Use:               "start [SERVICE...]",
		Short:             "Start services",
		ValidArgsFunction: a.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, until := cmd.Context(), untilSettled
			switch {
			case waitTimeout < 0:
				return errors.New("--wait-timeout is negative; use 0 for no limit")
			case waitTimeout > 0 && !wait:
				return errors.New("--wait-timeout needs --wait")
			case wait:
				until = untilReady
			}
			if waitTimeout > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, time.Duration(waitTimeout)*time.Second)
				defer cancel()
			}
			return a.act(ctx, api.ActionRequest{Op: actStart, Services: args}, until)
		},
	}
	cmd.Flags().BoolVar(&wait, "wait", false, "Wait for services to be running|healthy")
	cmd.Flags().IntVar(&waitTimeout, "wait-timeout", 0, "Maximum duration in seconds to wait for the project to be running|healthy")
	return cmd
}
