package cli

import (
	"github.com/spf13/cobra"
)

// lifecycleCommands are the commands that edit desired state.
func lifecycleCommands(a *app) []*cobra.Command {
	return []*cobra.Command{
		newUp(a), newDown(a), newCreate(a), newStart(a), newStop(a), newRestart(a), newKill(a), newPause(a),
		newUnpause(a), newRm(a), newScale(a), newRun(a), newWait(a), newPlan(a), newServe(a), newVersion(a),
		newNode(a), newRebalance(a), newRollout(a), newAutoscale(a), newSleep(a), newWake(a),
	}
}
