package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/reconcile"
)

// drainLook is how often a node that is being emptied is looked at.
const drainLook = 250 * time.Millisecond

func newNodeDrain(a *app) *cobra.Command {
	var deadline time.Duration
	var detach, wait bool
	cmd := &cobra.Command{
		Use:   "drain [OPTIONS] NODE [NODE...]",
		Short: "Empty virtual nodes: their replicas move to others",
		Long: "Empty virtual nodes: they accept no more replicas, and those they have move to others, one at a\n" +
			"time per service and only while the service's other replicas are ready. The command returns once\n" +
			"the nodes are empty. After the deadline the replicas that are left are taken away all the same.\n" +
			"berth node uncordon ends a drain and opens the node again.",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeNodes,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case cmd.Flags().Changed("deadline") && deadline <= 0:
				return fmt.Errorf("node drain: --deadline %s is not above zero; leave it out for none", deadline)
			case detach && wait:
				return errors.New("node drain: --detach and --wait are incompatible")
			}
			return a.nodeDrain(cmd.Context(), args, deadline, detach)
		},
	}
	f := cmd.Flags()
	f.DurationVar(&deadline, "deadline", 0, "Take away what is left after this time, such as 30s (default none)")
	f.BoolVarP(&detach, "detach", "d", false, "Return at once; the daemon goes on with it")
	f.BoolVar(&wait, "wait", false, "Return once the nodes are empty (the default)")
	return cmd
}

func (a *app) nodeDrain(ctx context.Context, names []string, deadline time.Duration, detach bool) error {
	d, err := a.connect(ctx)
	if err != nil {
		return err
	}
	nodes, err := nodesNamed(ctx, d, names)
	if err != nil {
		return err
	}
	if a.global.dryRun {
		return a.dryNodes(nodeDrain, nodes)
	}
	ui := a.progress("Running")
	defer ui.Stop()
	// All of them accept nothing more before the first is emptied: no replica
	// moves twice.
	var errs []error
	var waits []*drainWait
	for i := range nodes {
		after, err := d.ActOnNode(ctx, nodes[i].Name, nodeDrain, api.NodeAction{Deadline: deadline})
		if err != nil {
			errs = append(errs, err)
			continue
		}
		w := &drainWait{ui: ui, name: after.Name, forced: deadline > 0}
		w.see(&after, nil)
		waits = append(waits, w)
	}
	if !detach {
		errs = append(errs, awaitDrains(ctx, d, waits))
	}
	return errors.Join(errs...)
}

// awaitDrains looks at nodes until each of them is empty or cannot become so.
func awaitDrains(ctx context.Context, d daemon, waits []*drainWait) error {
	tick := time.NewTicker(drainLook)
	defer tick.Stop()
	var errs []error
	for {
		waits = slices.DeleteFunc(waits, func(w *drainWait) bool {
			over, err := w.look(ctx, d)
			if ctx.Err() != nil {
				return false // which is told below
			}
			errs = append(errs, err)
			return over
		})
		if len(waits) == 0 {
			return errors.Join(errs...)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			names := make([]string, len(waits))
			for i, w := range waits {
				names[i] = w.name
			}
			list := strings.Join(names, " ")
			errs = append(errs, fmt.Errorf("interrupted; the daemon goes on draining %s, berth node uncordon %s ends it", list, list))
			return &ExitError{Code: 130, Err: errors.Join(errs...)}
		}
	}
}

// drainWait is what was seen of a node that is being emptied.
type drainWait struct {
	ui     progress
	name   string
	forced bool              // it has a deadline, so it ends in any case
	left   map[string]string // replicas that are still there, and what they wait for
	over   bool
	stuck  bool // at the last look
}

// look asks once how far the node is, and reports whether the wait is over: the
// node is empty, or an error says why it does not become so.
func (w *drainWait) look(ctx context.Context, d daemon) (bool, error) {
	if w.over {
		return true, nil
	}
	n, err := d.Node(ctx, w.name)
	if err != nil {
		return true, err
	}
	if n.Drain == nil {
		return true, fmt.Errorf("node %s: the drain was ended by another command, it is %s", w.name, n.Status)
	}
	holds, err := holdsOf(ctx, d, n.Replicas)
	if err != nil {
		return true, err
	}
	w.see(&n, holds)
	if w.over || w.forced {
		return w.over, nil
	}
	before := w.stuck
	why := refusals(&n, holds)
	w.stuck = len(why) > 0
	if !before || !w.stuck {
		return false, nil // what is seen first may be from before the drain
	}
	return true, fmt.Errorf("node %s: %s cannot move; the daemon goes on trying, berth node uncordon %s ends the drain\n%s",
		w.name, replicasText(len(why)), w.name, strings.Join(why, "\n"))
}

// see shows what has changed on the node.
func (w *drainWait) see(n *api.Node, holds map[string]reconcile.Hold) {
	left := map[string]string{}
	for i := range n.Replicas {
		left[residentName(&n.Replicas[i])] = holds[residentName(&n.Replicas[i])].Reason
	}
	for _, name := range slices.Sorted(maps.Keys(left)) {
		w.ui.Event(progressEvent{ID: "Replica " + name, Text: "Moving", Detail: left[name]})
	}
	for _, name := range slices.Sorted(maps.Keys(w.left)) {
		if _, there := left[name]; !there {
			w.ui.Event(progressEvent{ID: "Replica " + name, Text: "Moved", State: progressDone})
		}
	}
	w.left = left
	if w.over = len(left) == 0; w.over {
		w.ui.Event(progressEvent{ID: nodeID(w.name), Text: "Drained", State: progressDone})
		return
	}
	w.ui.Event(progressEvent{ID: nodeID(w.name), Text: "Draining", Detail: replicasText(len(left)) + " left"})
}

// refusals says of each replica that is left why no other node takes it; none
// while one of them may still move by itself.
func refusals(n *api.Node, holds map[string]reconcile.Hold) []string {
	var why []string
	for i := range n.Replicas {
		name := residentName(&n.Replicas[i])
		h := holds[name]
		if h.Kind != reconcile.HoldFailing || !h.Until.IsZero() {
			return nil
		}
		why = append(why, sanitize(name+": "+h.Reason))
	}
	return why
}

// holdsOf are the holds of replicas, by their names with the stack.
func holdsOf(ctx context.Context, d daemon, residents []reconcile.Resident) (map[string]reconcile.Hold, error) {
	holds := map[string]reconcile.Hold{}
	stacks := map[string]*api.Status{}
	for i := range residents {
		r := &residents[i]
		st := stacks[r.Stack]
		if st == nil {
			var err error
			if st, err = d.Status(ctx, r.Stack); err != nil {
				return nil, err
			}
			stacks[r.Stack] = st
		}
		if h, held := holdOf(st, r); held {
			holds[residentName(r)] = h
		}
	}
	return holds, nil
}

// holdOf is what keeps a replica where it is: a hold of the plan, or that its
// service is stopped, so that nothing is to be done with it.
func holdOf(st *api.Status, r *reconcile.Resident) (reconcile.Hold, bool) {
	key := reconcile.ReplicaKey(r.Service, r.Slot)
	about := func(s reconcile.Step) bool { return s.Key == key }
	switch {
	case st.Plan == nil:
		return reconcile.Hold{}, false
	case slices.ContainsFunc(st.Plan.Steps, about) || slices.ContainsFunc(st.InFlight, about):
		return reconcile.Hold{}, false
	}
	for _, h := range st.Plan.Holds {
		if h.Key == key {
			return h, true
		}
	}
	if st.Desired != nil && st.Desired.Services[r.Service].Want == reconcile.WantStopped {
		return reconcile.Hold{
			Kind: reconcile.HoldFailing, Key: key,
			Reason: fmt.Sprintf("is stopped and stays; berth -p %s rm %s removes it", r.Stack, r.Service),
		}, true
	}
	return reconcile.Hold{}, false
}
