package cli

import (
	"context"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/internal/api"
)

func newNodeLs(a *app) *cobra.Command {
	var quiet bool
	var format string
	cmd := &cobra.Command{
		Use:               "ls [OPTIONS]",
		Aliases:           []string{"list"},
		Short:             "List virtual nodes, what they promise and what they can",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return a.nodeLs(cmd.Context(), quiet, format) },
	}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "Only display names")
	cmd.Flags().StringVar(&format, "format", "table", "Format the output. Values: [table | json]")
	return cmd
}

func (a *app) nodeLs(ctx context.Context, quiet bool, format string) error {
	if err := checkFormat(format); err != nil {
		return err
	}
	d, err := a.connect(ctx)
	if err != nil {
		return err
	}
	nodes, err := d.Nodes(ctx)
	if err != nil {
		return err
	}
	if quiet {
		return printLines(a.env.Out, nodes, func(n api.Node) string { return sanitize(n.Name) })
	}
	return nodeListing(time.Now()).print(a.env.Out, format, nodes)
}

func nodeListing(now time.Time) *listing[api.Node] {
	return &listing[api.Node]{Array: true, Columns: []column[api.Node]{
		{"NAME", func(n api.Node) string { return n.Name }},
		{"STATUS", func(n api.Node) string { return nodeStatus(&n, now) }},
		{"CPU", func(n api.Node) string { return uses(&n.Node.Node, n.Promised)[0].String() }},
		{"MEMORY", func(n api.Node) string { return uses(&n.Node.Node, n.Promised)[1].String() }},
		{"REPLICAS", func(n api.Node) string { return strconv.Itoa(len(n.Replicas)) }},
		{"LABELS", func(n api.Node) string { return joinLabels(n.Labels) }},
		{"TAINTS", func(n api.Node) string { return taintsText(n.Taints) }},
		{"BOUNDARY", func(n api.Node) string { return boundaryText(&n) }},
	}}
}

// pressedFor is how long after a kill for want of memory a node is shown to be
// short of it.
const pressedFor = 5 * time.Minute

// nodeStatus is a node's status, and whether it is, or was lately, short of memory.
func nodeStatus(n *api.Node, now time.Time) string {
	if n.Shortage != nil || n.OOM != nil && n.OOM.ByNode && now.Sub(n.OOM.At) < pressedFor {
		return n.Status + " (memory pressure)"
	}
	return n.Status
}
