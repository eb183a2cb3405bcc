package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/internal/api"
)

// nodeActions are the commands that say something of nodes and wait for nothing.
func nodeActions(a *app) []*cobra.Command {
	var list []*cobra.Command
	for _, c := range []struct{ action, done, short string }{
		{nodeCordon, "Cordoned", "Have virtual nodes accept no more replicas"},
		{nodeUncordon, "Uncordoned", "Have cordoned or drained virtual nodes accept replicas again"},
		{nodeFail, "Failed", "Behave as if virtual nodes had died: their containers are killed and replaced on others"},
		{nodeRecover, "Recovered", "Have failed virtual nodes back"},
	} {
		list = append(list, a.nodeCommand(c.action, c.short, func(ctx context.Context, d daemon, n *api.Node) (progressEvent, error) {
			after, err := d.ActOnNode(ctx, n.Name, c.action, api.NodeAction{})
			e := progressEvent{Text: c.done, State: progressDone}
			if len(after.Replicas) > 0 {
				e.Detail = replicasText(len(after.Replicas))
			}
			return e, err
		}))
	}
	return list
}

func newNodeRm(a *app) *cobra.Command {
	cmd := a.nodeCommand("rm", "Remove virtual nodes that berth node add has made and that are empty",
		func(ctx context.Context, d daemon, n *api.Node) (progressEvent, error) {
			return progressEvent{Text: "Removed", State: progressDone}, d.RemoveNode(ctx, n.Name)
		})
	cmd.Aliases = []string{"remove"}
	return cmd
}

// nodeCommand is a command that does one thing to each node it is given. What
// fails for one does not keep it from the others.
func (a *app) nodeCommand(verb, short string, do func(context.Context, daemon, *api.Node) (progressEvent, error)) *cobra.Command {
	return &cobra.Command{
		Use:               verb + " NODE [NODE...]",
		Short:             short,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeNodes,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.eachNode(cmd.Context(), verb, args, do)
		},
	}
}

func (a *app) eachNode(ctx context.Context, verb string, names []string, do func(context.Context, daemon, *api.Node) (progressEvent, error)) error {
	d, err := a.connect(ctx)
	if err != nil {
		return err
	}
	nodes, err := nodesNamed(ctx, d, names)
	if err != nil {
		return err
	}
	if a.global.dryRun {
		return a.dryNodes(verb, nodes)
	}
	ui := a.progress("Running")
	defer ui.Stop()
	var errs []error
	for i := range nodes {
		e, err := do(ctx, d, &nodes[i])
		if err != nil {
			errs = append(errs, err)
			continue
		}
		e.ID = nodeID(nodes[i].Name)
		ui.Event(e)
	}
	return errors.Join(errs...)
}

// dryNodes prints what a command would do, as a plan's lines.
func (a *app) dryNodes(verb string, nodes []api.Node) error {
	for i := range nodes {
		n := &nodes[i]
		why := "it is " + n.Status
		if len(n.Replicas) > 0 {
			why += " with " + residentNames(n)
		}
		if err := a.wouldDo(verb, n.Name, why); err != nil {
			return err
		}
	}
	return nil
}

// residentNames names all replicas on a node.
func residentNames(n *api.Node) string {
	list := make([]string, len(n.Replicas))
	for i := range n.Replicas {
		list[i] = residentName(&n.Replicas[i])
	}
	return strings.Join(list, ", ")
}

func replicasText(n int) string {
	if n == 1 {
		return "1 replica"
	}
	return fmt.Sprintf("%d replicas", n)
}
