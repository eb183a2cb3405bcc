package cli

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/reconcile"
	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/scheduler"
)

// simulateOptions are the flags of simulate.
type simulateOptions struct {
	files   []string
	nodes   string
	scale   []string
	explain string
	format  string
}

func newSimulate(a *app) *cobra.Command {
	var o simulateOptions
	cmd := &cobra.Command{
		Use:   "simulate [OPTIONS] [SERVICE...]",
		Short: "Show where replicas would be placed on given nodes, without an engine",
		Long: "Show on which virtual node each replica of a Compose file would be placed, which ones fit nowhere and\n" +
			"why, and how full the nodes are then. Neither an engine nor a daemon is asked.\n\n" +
			"The exit code is 0 when everything fits and 1 when something does not.",
		Example:           "  berth simulate -f compose.yaml --nodes nodes.yaml --explain web/2",
		ValidArgsFunction: a.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			a.global.files = append(a.global.files, o.files...)
			return a.simulate(cmd.Context(), args, &o)
		},
	}
	f := cmd.Flags()
	f.StringArrayVarP(&o.files, "file", "f", nil, "Compose configuration files")
	f.StringVar(&o.nodes, "nodes", "", "File of nodes: a list, or x-berth.nodes of a Compose file (default: those of the Compose file)")
	f.StringArrayVar(&o.scale, "scale", nil, "Scale SERVICE to NUM instances. Overrides the scale setting in the Compose file")
	f.StringVar(&o.explain, "explain", "", "Show what every filter and score says of SERVICE[/SLOT] once all is placed")
	f.StringVar(&o.format, "format", "text", "Format of the output (text|json)")
	return cmd
}

func (a *app) simulate(ctx context.Context, services []string, o *simulateOptions) error {
	if err := checkTextFormat("simulate", o.format); err != nil {
		return err
	}
	s, err := a.simulated(ctx, services, o)
	if err != nil {
		return err
	}
	if o.explain != "" {
		return a.explainSimulated(s, o)
	}
	out := s.outcome()
	if o.format == "json" {
		err = a.printJSON(out)
	} else {
		err = a.printSimulated(out)
	}
	if err == nil && len(out.refused()) > 0 {
		err = fmt.Errorf("simulate: %d of %s cannot be placed", len(out.refused()), replicasText(len(out.Replicas)))
	}
	return err
}

// simulated reads what is to be placed where, and places it.
func (a *app) simulated(ctx context.Context, services []string, o *simulateOptions) (*simulation, error) {
	loaded, err := a.load(ctx, services...)
	if err != nil {
		return nil, err
	}
	a.warn(loaded)
	included, err := withDependencies(loaded.Stack, services, false)
	if err != nil {
		return nil, err
	}
	scale, err := parseScale(loaded.Stack, o.scale)
	if err != nil {
		return nil, err
	}
	nodes := loaded.Stack.Nodes
	if o.nodes != "" {
		if nodes, _, err = stack.LoadNodes(a.inFolder(o.nodes)); err != nil {
			return nil, err
		}
	}
	if len(nodes) == 0 {
		return nil, errors.New("simulate: there are no nodes; name a file of them with --nodes, or declare them under x-berth.nodes")
	}
	return newSimulation(loaded.Stack, included, nodes, scale), nil
}

// inFolder is a path as the user means it.
func (a *app) inFolder(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(a.env.WorkingDir, path)
}

// simulation is a stack that was declared on empty nodes, and what the planner
// has made of it in its first turn: it is the very code that places replicas in
// an up.
type simulation struct {
	desired  *reconcile.Desired // with a state for the services that are asked for
	observed *reconcile.Observed
	placed   reconcile.Placed
}

// simulated time stands still: no replica is younger than another.
var simulationStart = time.Unix(0, 0)

func newSimulation(s *stack.Stack, services []*stack.Service, nodes []stack.Node, scale map[string]int) *simulation {
	sim := &simulation{
		desired:  &reconcile.Desired{Stack: s, Services: map[string]reconcile.ServiceState{}},
		observed: &reconcile.Observed{Cluster: &reconcile.Cluster{Policy: s.Scheduling}},
	}
	for i := range nodes {
		sim.observed.Cluster.Nodes = append(sim.observed.Cluster.Nodes, reconcile.Node{Node: nodes[i].Node})
	}
	for _, svc := range services {
		st := reconcile.ServiceState{Want: reconcile.WantRunning}
		if n, ok := scale[svc.Name]; ok {
			st.Scale = &n
		}
		sim.desired.Services[svc.Name] = st
	}
	sim.placed = reconcile.Decide(sim.desired, sim.observed, &reconcile.Memory{}, simulationStart).Placed
	return sim
}

// placement is where one replica stands, or why it stands nowhere.
type placement struct {
	Service string `json:"service"`
	Slot    int    `json:"slot"`
	Node    string `json:"node,omitempty"`
	Reason  string `json:"reason,omitempty"` // why no node takes it, and what would help
}

func (p *placement) key() string { return string(reconcile.ReplicaKey(p.Service, p.Slot)) }

// fullness is how much of a node is promised.
type fullness struct {
	Name     string              `json:"name"`
	Capacity scheduler.Resources `json:"capacity"`
	Reserved scheduler.Resources `json:"reserved,omitzero"`
	Promised scheduler.Resources `json:"promised"`
	Replicas int                 `json:"replicas"`
}

// simulated is what a simulation comes to.
type simulated struct {
	Stack    string      `json:"stack"`
	Replicas []placement `json:"replicas"` // by service and slot
	Nodes    []fullness  `json:"nodes"`    // in the order of their declaration
}

func (s *simulated) refused() []placement {
	var list []placement
	for _, p := range s.Replicas {
		if p.Node == "" {
			list = append(list, p)
		}
	}
	return list
}

func (s *simulation) outcome() *simulated {
	out := &simulated{Stack: s.desired.Stack.Name, Replicas: []placement{}}
	at := map[string]int{}
	for i, n := range s.observed.Cluster.Nodes {
		at[n.Name] = i
		out.Nodes = append(out.Nodes, fullness{Name: n.Name, Capacity: n.Capacity, Reserved: n.Reserved})
	}
	for i := range s.placed.Residents {
		r := &s.placed.Residents[i]
		if _, asked := s.desired.Services[r.Service]; !asked {
			continue
		}
		out.Replicas = append(out.Replicas, placement{Service: r.Service, Slot: r.Slot, Node: r.Node})
		n := &out.Nodes[at[r.Node]]
		n.Replicas++
		n.Promised = n.Promised.Plus(r.Template.Reservation)
	}
	for _, h := range s.placed.Refusals {
		out.Replicas = append(out.Replicas, placement{Service: h.Service, Slot: h.Slot, Reason: h.Reason})
	}
	slices.SortFunc(out.Replicas, func(a, b placement) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Slot, b.Slot))
	})
	return out
}

// explain tells why the replicas of a service stand where they do, all others
// being in their places.
func (s *simulation) explain(w wanted) []api.Explanation {
	settled := *s.observed
	for i := range s.placed.Residents {
		settled.Containers = append(settled.Containers, s.container(&s.placed.Residents[i]))
	}
	var list []api.Explanation
	for _, e := range reconcile.Explain(s.desired, &settled, &reconcile.Memory{}, simulationStart, w.service) {
		if w.slot != 0 && w.slot != e.Slot {
			continue
		}
		out := api.Explanation{Key: e.Key, Node: e.Node, Placement: e.Decision}
		if h, refused := s.placed.Refusals[e.Key]; refused {
			out.Node, out.Hold = "", h.Reason
		}
		list = append(list, out)
	}
	return list
}

// container is one that a replica would have come to.
func (s *simulation) container(r *reconcile.Resident) runtime.Container {
	id := runtime.Identity{Stack: r.Stack, Service: r.Service, Slot: r.Slot, Node: r.Node, Revision: s.desired.Stack.Service(r.Service).Revision}
	name := runtime.ContainerName(r.Stack, r.Service, r.Slot)
	return runtime.Container{ID: name, Name: name, Labels: id.Labels(), State: runtime.Running, Started: simulationStart}
}

func (a *app) explainSimulated(s *simulation, o *simulateOptions) error {
	w, err := parseReplica("--explain", o.explain)
	if err != nil {
		return err
	}
	list := s.explain(w)
	if len(list) == 0 {
		return fmt.Errorf("simulate: there is no replica %s; the file has the services %s", o.explain, strings.Join(serviceList(s.desired.Stack), ", "))
	}
	if o.format == "json" {
		return a.printJSON(api.Explained{Replicas: list})
	}
	return a.printExplained(&api.Explained{Replicas: list})
}

func (a *app) printSimulated(s *simulated) error {
	w := bufio.NewWriter(a.env.Out)
	places := &grid{head: []string{"REPLICA", "NODE"}}
	for i := range s.Replicas {
		p := &s.Replicas[i]
		where := cell{text: p.Node}
		if p.Node == "" {
			where = cell{"none", toneBad}
		}
		places.add(cell{text: p.key()}, where)
	}
	if err := a.printGrid(w, places); err != nil {
		return err
	}
	_, _ = fmt.Fprintln(w) // Flush reports errors
	if err := a.printGrid(w, fullnessGrid(s.Nodes)); err != nil {
		return err
	}
	refused := s.refused()
	if len(refused) > 0 {
		_, _ = fmt.Fprintln(w)
	}
	for i := range refused {
		_, _ = fmt.Fprintf(w, "%s fits nowhere: %s\n", refused[i].key(), sanitize(refused[i].Reason))
	}
	return w.Flush()
}

// fullnessGrid is a line a node with what is promised of each resource that any
// of them counts, and one of their sums.
func fullnessGrid(nodes []fullness) *grid {
	g := &grid{head: []string{"NODE"}}
	all := fullness{Name: "all"}
	for i := range nodes {
		all.Capacity, all.Reserved = all.Capacity.Plus(nodes[i].Capacity), all.Reserved.Plus(nodes[i].Reserved)
		all.Promised, all.Replicas = all.Promised.Plus(nodes[i].Promised), all.Replicas+nodes[i].Replicas
	}
	var names []string
	for _, u := range all.uses() {
		names = append(names, u.resource)
		g.head = append(g.head, strings.ToUpper(u.resource))
	}
	g.head = append(g.head, "REPLICAS")
	for i := range nodes {
		g.add(nodes[i].cells(names)...)
	}
	if len(nodes) > 1 {
		g.add(all.cells(names)...)
	}
	return g
}

func (f *fullness) uses() []nodeUse {
	return uses(&scheduler.Node{Capacity: f.Capacity, Reserved: f.Reserved}, f.Promised)
}

func (f *fullness) cells(resources []string) []cell {
	row := []cell{{text: f.Name}}
	all := f.uses()
	for _, name := range resources {
		text := "-"
		if i := slices.IndexFunc(all, func(u nodeUse) bool { return u.resource == name }); i >= 0 {
			text = strings.TrimRight(all[i].String()+"  "+all[i].share(), " ")
		}
		row = append(row, cell{text: text})
	}
	return append(row, cell{text: strconv.Itoa(f.Replicas)})
}
