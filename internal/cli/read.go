package cli

import "github.com/spf13/cobra"

// readCommands are the commands that look, or move bytes and images.
func readCommands(a *app) []*cobra.Command {
	return nil
}
