package cli

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"
)

func newServe(a *app) *cobra.Command {
	var o ServeOptions
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the daemon in the foreground",
		Long: "Run the daemon that keeps stacks as they are declared, in the foreground.\n\n" +
			"Commands that need it start it in the background: serve is for service managers and for looking at its log.\n" +
			"Its end never stops a container. docs/daemon.md has a unit for systemd.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !slices.Contains([]string{"console", "json"}, o.LogFormat) {
				return fmt.Errorf("--log-format %q is unknown; use console or json", o.LogFormat)
			}
			if !slices.Contains([]string{"debug", "info", "warn", "error"}, o.LogLevel) {
				return fmt.Errorf("--log-level %q is unknown; use debug, info, warn or error", o.LogLevel)
			}
			return a.env.Serve(cmd.Context(), o)
		},
	}
	cmd.Flags().StringVar(&o.LogFormat, "log-format", "console", "Format of the log (console|json)")
	cmd.Flags().StringVar(&o.LogLevel, "log-level", "info", "Least level that is logged (debug|info|warn|error)")
	cmd.Flags().DurationVar(&o.Linger, "linger", 0, "How long, at its end, it waits for the next daemon to take over its published ports")
	cmd.Flags().BoolVar(&o.Replace, "replace", false, "End the daemon that runs and take its place, its published ports included")
	return cmd
}
