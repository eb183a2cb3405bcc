package cli

import "github.com/spf13/cobra"

// lifecycleCommands are the commands that edit desired state.
func lifecycleCommands(a *app) []*cobra.Command {
	return nil
}
