package cli

import "github.com/spf13/cobra"

// readCommands are the commands that look, or move bytes and images.
func readCommands(a *app) []*cobra.Command {
	return []*cobra.Command{
		newPs(a), newLs(a), newLogs(a), newEvents(a), newExec(a), newAttach(a), newCp(a), newPort(a), newTop(a),
		newStats(a), newImages(a), newPull(a), newPush(a), newBuild(a), newConfig(a), newVolumes(a),
		newExplain(a), newSimulate(a),
	}
}

const formatHelp = `Format output using a custom template:
'table':            Print output in table format with column headers (default)
'table TEMPLATE':   Print output in table format using the given Go template
'json':             Print in JSON format
'TEMPLATE':         Print output using the given Go template`
