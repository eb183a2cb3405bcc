package cli

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

func newVersion(a *app) *cobra.Command {
	var format string
	var short bool
	cmd := &cobra.Command{
		Use:   "version [OPTIONS]",
		Short: "Show the Berth version information",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			switch {
			case short:
				_, err := fmt.Fprintln(a.env.Out, strings.TrimPrefix(a.env.Version, "v"))
				return err
			case format == "json":
				return json.NewEncoder(a.env.Out).Encode(struct {
					Version string `json:"version"`
				}{a.env.Version})
			case format == "" || format == "pretty":
				_, err := fmt.Fprintln(a.env.Out, "Berth version", a.env.Version)
				return err
			}
			return fmt.Errorf("version: --format %q is unknown; use pretty or json", format)
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", "Format the output. Values: [pretty | json]. (Default: pretty)")
	cmd.Flags().BoolVar(&short, "short", false, "Shows only Berth's version number")
	return cmd
}
