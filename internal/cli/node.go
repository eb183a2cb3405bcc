package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/reconcile"
	"github.com/berth-dev/berth/scheduler"
)

// The actions of POST /v1/nodes/{node}/{action}.
const (
	nodeCordon   = "cordon"
	nodeUncordon = "uncordon"
	nodeDrain    = "drain"
	nodeFail     = "fail"
	nodeRecover  = "recover"
)

// The states of a node that the commands ask about.
const (
	nodeReady   = "ready"
	nodeDrained = "drained"
)

func newNode(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "node COMMAND",
		Short: "Manage virtual nodes",
		Long: "Manage virtual nodes: the parts of the engine, each with a capacity, labels and taints,\n" +
			"that replicas are placed on. Stacks declare them under x-berth.nodes, or berth node add does.",
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return fmt.Errorf("node: unknown command %q; see berth node --help", args[0])
		},
	}
	cmd.AddCommand(newNodeLs(a), newNodeInspect(a), newNodeAdd(a), newNodeRm(a), newNodeDrain(a))
	cmd.AddCommand(nodeActions(a)...)
	return cmd
}

// completeNodes completes the names of nodes, as far as a daemon that runs knows them.
func (a *app) completeNodes(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	const directive = cobra.ShellCompDirectiveNoFileComp
	d, err := a.find(cmd.Context())
	if d == nil || err != nil {
		return nil, directive
	}
	nodes, err := d.Nodes(cmd.Context())
	if err != nil {
		return nil, directive
	}
	var names []string
	for i := range nodes {
		if !slices.Contains(args, nodes[i].Name) {
			names = append(names, nodes[i].Name)
		}
	}
	return names, directive
}

// nodesNamed returns the nodes of these names, each once, in their order. A name
// that no node has is an error, before anything is done to the others.
func nodesNamed(ctx context.Context, d daemon, names []string) ([]api.Node, error) {
	all, err := d.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	var known []string
	for i := range all {
		known = append(known, all[i].Name)
	}
	var list []api.Node
	for i, name := range names {
		at := slices.Index(known, name)
		switch {
		case at < 0:
			slices.Sort(known)
			return nil, fmt.Errorf("no such node: %s (there is %s)", sanitize(name), strings.Join(known, ", "))
		case !slices.Contains(names[:i], name):
			list = append(list, all[at])
		}
	}
	return list, nil
}

// nodeUse is one resource of a node as people read it.
type nodeUse struct {
	resource           string
	promised, capacity int64
	counted            bool // the node counts it at all
}

func (u nodeUse) promisedText() string { return scheduler.FormatAmount(u.resource, u.promised) }

// capacityText is "-" for what the node does not count.
func (u nodeUse) capacityText() string {
	if !u.counted {
		return "-"
	}
	return scheduler.FormatAmount(u.resource, u.capacity)
}

func (u nodeUse) String() string { return u.promisedText() + "/" + u.capacityText() }

// share is the part that is promised, as "60%"; empty for what is not counted.
func (u nodeUse) share() string {
	if u.capacity <= 0 {
		return ""
	}
	return strconv.FormatInt(u.promised*100/u.capacity, 10) + "%"
}

// uses lists a node's resources: cpu and memory always, the others where the
// node counts them or a replica asks for them.
func uses(n *scheduler.Node, promised scheduler.Resources) []nodeUse {
	list := []nodeUse{
		{resource: scheduler.CPU, promised: promised.CPU, capacity: n.Capacity.CPU - n.Reserved.CPU, counted: n.Capacity.CPU > 0},
		{resource: scheduler.Memory, promised: promised.Memory, capacity: n.Capacity.Memory - n.Reserved.Memory, counted: n.Capacity.Memory > 0},
	}
	for _, u := range []nodeUse{
		{resource: scheduler.Disk, promised: promised.Disk, capacity: n.Capacity.Disk - n.Reserved.Disk, counted: n.Capacity.Disk > 0},
		{resource: scheduler.Network, promised: promised.Network, capacity: n.Capacity.Network - n.Reserved.Network, counted: n.Capacity.Network > 0},
	} {
		if u.counted || u.promised > 0 {
			list = append(list, u)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(n.Capacity.Generic)) {
		list = append(list, nodeUse{
			resource: name, promised: promised.Generic[name], counted: true,
			capacity: n.Capacity.Generic[name] - n.Reserved.Generic[name],
		})
	}
	return list
}

// boundaryText says whether the kernel holds a node's containers within its capacity.
func boundaryText(n *api.Node) string {
	switch {
	case n.Boundary.Enforced:
		return "enforced"
	case n.Boundary.Why == "":
		return "not enforced"
	}
	return "not enforced: " + n.Boundary.Why
}

func taintsText(taints []scheduler.Taint) string {
	list := make([]string, len(taints))
	for i := range taints {
		list[i] = taints[i].String()
	}
	return strings.Join(list, ", ")
}

// residentName names a replica of any stack: "shop/web/1".
func residentName(r *reconcile.Resident) string {
	return r.Stack + "/" + string(reconcile.ReplicaKey(r.Service, r.Slot))
}
