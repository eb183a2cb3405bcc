package cli

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/stack"
)

func newNodeAdd(a *app) *cobra.Command {
	var flags stack.NodeFlags
	var overcommit bool
	cmd := &cobra.Command{
		Use:   "add [OPTIONS] NODE",
		Short: "Add a virtual node, for the stacks of this engine",
		Example: "  berth node add edge-1 --cpus 0.5 --memory 256M --label zone=a\n" +
			"  berth node add db-1 --cpus 2 --memory 4G --taint dedicated=db:NoSchedule",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			flags.Name = args[0]
			return a.nodeAdd(cmd.Context(), flags, overcommit)
		},
	}
	f := cmd.Flags()
	f.StringVar(&flags.CPUs, "cpus", "", "CPUs that its replicas may be promised and may use together, such as 0.5")
	f.StringVarP(&flags.Memory, "memory", "m", "", "Memory, such as 256M")
	f.StringVar(&flags.Disk, "disk", "", "Disk that its replicas may be promised, such as 10G")
	f.StringVar(&flags.Network, "network", "", "Bits per second that its replicas may be promised, such as 100M")
	f.StringVar(&flags.Pids, "pids", "", "Processes and threads that its containers may have together")
	f.StringArrayVar(&flags.Resources, "resource", nil, "Pieces of another resource (NAME=PIECES)")
	f.StringArrayVar(&flags.Labels, "label", nil, "Label (KEY=VALUE)")
	f.StringArrayVar(&flags.Taints, "taint", nil, "Taint (KEY=VALUE:NoSchedule|PreferNoSchedule|NoExecute)")
	f.BoolVar(&overcommit, "overcommit", false, "Let all nodes together promise more than the engine has")
	return cmd
}

// nodeName is what a node may be called.
var nodeName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}$`)

func (a *app) nodeAdd(ctx context.Context, flags stack.NodeFlags, overcommit bool) error {
	if !nodeName.MatchString(flags.Name) {
		return fmt.Errorf("node add: %q is no name for a node; use at most 63 letters, digits and . _ -, a letter or digit first", ellipsis(flags.Name, 80))
	}
	n, err := stack.ParseNode(flags)
	if err != nil {
		return fmt.Errorf("node add: %w", err)
	}
	if a.global.dryRun {
		return a.wouldDo("add", n.Name, sizeOf(&n))
	}
	d, err := a.connect(ctx)
	if err != nil {
		return err
	}
	added, err := d.AddNode(ctx, &api.NodeRequest{Node: n, Overcommit: overcommit})
	if err != nil {
		return err
	}
	ui := a.progress("Running")
	defer ui.Stop()
	ui.Event(progressEvent{ID: nodeID(n.Name), Text: "Added", Detail: sizeOf(&added.Node), State: progressDone})
	return nil
}

// sizeOf lists what a node can promise: "cpu 0.5, memory 256M".
func sizeOf(n *stack.Node) string {
	var parts []string
	for _, u := range uses(&n.Node, n.Reserved) {
		if u.counted {
			parts = append(parts, u.resource+" "+u.capacityText())
		}
	}
	if len(parts) == 0 {
		return "no limits"
	}
	return strings.Join(parts, ", ")
}

// wouldDo prints what a command on a node would do, as a plan's line.
func (a *app) wouldDo(op, node, why string) error {
	_, err := fmt.Fprintf(a.env.Out, "%-14s %-12s %s\n", op, "node", sanitize(node)+"  ("+sanitize(why)+")")
	return err
}

// nodeID names a node in progress.
func nodeID(name string) string { return "Node " + name }
