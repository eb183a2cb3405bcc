package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/scheduler"
)

func newNodeInspect(a *app) *cobra.Command {
	var pretty bool
	cmd := &cobra.Command{
		Use:               "inspect [OPTIONS] NODE [NODE...]",
		Short:             "Display detailed information on virtual nodes, as JSON",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeNodes,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.nodeInspect(cmd.Context(), args, pretty) },
	}
	cmd.Flags().BoolVar(&pretty, "pretty", false, "Print the information in a human friendly format")
	return cmd
}

func (a *app) nodeInspect(ctx context.Context, names []string, pretty bool) error {
	d, err := a.connect(ctx)
	if err != nil {
		return err
	}
	nodes, err := nodesNamed(ctx, d, names)
	if err != nil {
		return err
	}
	if !pretty {
		return a.printJSON(nodes)
	}
	out := bufio.NewWriter(a.env.Out)
	for i := range nodes {
		if i > 0 {
			_, _ = fmt.Fprintln(out) // Flush reports errors
		}
		describeNode(out, &nodes[i], time.Now())
	}
	return out.Flush()
}

// printJSON prints a value as indented JSON.
func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.env.Out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// describeNode writes all that is known of a node. Errors are the buffer's to
// report.
func describeNode(w *bufio.Writer, n *api.Node, now time.Time) {
	t := tableWriter(w)
	for _, line := range nodeFacts(n, now) {
		writeCells(t, line[:])
	}
	_ = t.Flush()
	_, _ = fmt.Fprintln(w)
	writeResources(w, n)
	if len(n.Replicas) > 0 {
		_, _ = fmt.Fprintln(w)
		writeResidents(w, n, now)
	}
}

// nodeFacts are the lines of a description that have something to say.
func nodeFacts(n *api.Node, now time.Time) [][2]string {
	facts := [][2]string{
		{"Name:", n.Name}, {"Status:", drainText(n, now)}, {"Declared by:", strings.Join(n.Declared, ", ")},
		{"Labels:", joinLabels(n.Labels)}, {"Taints:", taintsText(n.Taints)}, {"Platform:", strings.Trim(n.OS+"/"+n.Arch, "/")},
		{"Boundary:", boundaryText(n)}, {"Cgroup:", n.Boundary.Parent}, {"CPU wait:", throttledText(n.Pressure)},
		{"OOM kills:", oomText(n, now)}, {"Short of memory:", shortageText(n, now)},
	}
	if n.Shortage != nil {
		for _, e := range n.Shortage.Evicted {
			facts = append(facts, [2]string{"Evicted:", fmt.Sprintf("%s, %s: %s", e.Replica, ago(e.At, now), e.Why)})
		}
	}
	for _, d := range n.Boundary.Drift {
		facts = append(facts, [2]string{"Drift:", d})
	}
	kept := facts[:0]
	for _, f := range facts {
		if f[1] != "" {
			kept = append(kept, f)
		}
	}
	return kept
}

// drainText is a node's status, and since and until when it is being emptied.
func drainText(n *api.Node, now time.Time) string {
	text := nodeStatus(n, now)
	if n.Drain == nil {
		return text
	}
	text += " for " + units.HumanDuration(max(0, now.Sub(n.Drain.Since)))
	switch left := n.Drain.Deadline.Sub(now); {
	case n.Drain.Deadline.IsZero():
	case left <= 0:
		text += ", its deadline has passed"
	default:
		text += ", deadline in " + units.HumanDuration(left)
	}
	return text
}

// throttledText says for how much of the time processes had to wait for the CPU.
func throttledText(p *runtime.Pressure) string {
	if p == nil || p.Periods == 0 {
		return ""
	}
	return fmt.Sprintf("%d of %d periods, %s in all", p.ThrottledPeriods, p.Periods, p.Throttled.Round(time.Millisecond))
}

func oomText(n *api.Node, now time.Time) string {
	var text string
	if p := n.Pressure; p != nil && p.OOMKills > 0 {
		text = fmt.Sprintf("%d, %d of them at the node's limit", p.OOMKills, p.NodeOOMs)
	}
	if n.OOM == nil {
		return text
	}
	who, limit := n.OOM.Container, "its own limit"
	if who == "" {
		who = "a container"
	}
	if n.OOM.ByNode {
		limit = "the node's limit"
	}
	last := fmt.Sprintf("last %s: %s, at %s", ago(n.OOM.At, now), who, limit)
	if text == "" {
		return last
	}
	return text + "; " + last
}

// shortageText says for how long a node has been short of memory, and since when
// it is not any more.
func shortageText(n *api.Node, now time.Time) string {
	if n.Shortage == nil {
		return ""
	}
	text := "for " + units.HumanDuration(max(0, now.Sub(n.Shortage.Since)))
	if !n.Shortage.Relieved.IsZero() {
		text += "; enough since " + n.Shortage.Relieved.Format(time.TimeOnly) + ", replicas are placed here again when that has lasted"
	}
	return text
}

// writeResources writes the table of what is promised, can be promised and is used.
func writeResources(w io.Writer, n *api.Node) {
	t := tableWriter(w)
	writeCells(t, []string{"RESOURCE", "PROMISED", "CAPACITY", "SHARE", "IN USE"})
	for _, u := range uses(&n.Node.Node, n.Promised) {
		used := ""
		if u.resource == scheduler.Memory && n.Pressure != nil {
			used = scheduler.FormatAmount(scheduler.Memory, n.Pressure.Memory)
		}
		writeCells(t, []string{u.resource, u.promisedText(), u.capacityText(), u.share(), used})
	}
	if n.Pids > 0 {
		used := ""
		if n.Pressure != nil {
			used = strconv.FormatInt(n.Pressure.Pids, 10)
		}
		writeCells(t, []string{"pids", "", strconv.FormatInt(n.Pids, 10), "", used})
	}
	_ = t.Flush()
}

// writeResidents writes the table of the replicas that stand on a node.
func writeResidents(w io.Writer, n *api.Node, now time.Time) {
	t := tableWriter(w)
	writeCells(t, []string{"REPLICA", "CPU", "MEMORY", "PRIORITY", "STARTED", "CONTAINER"})
	for i := range n.Replicas {
		r := &n.Replicas[i]
		var want scheduler.Template
		if r.Template != nil {
			want = *r.Template
		}
		started, container := "", "to come"
		if !r.Started.IsZero() {
			started = ago(r.Started, now)
		}
		if r.Container != "" {
			container = shortID(r.Container)
		}
		writeCells(t, []string{
			residentName(r), scheduler.FormatAmount(scheduler.CPU, want.Reservation.CPU),
			scheduler.FormatAmount(scheduler.Memory, want.Reservation.Memory), strconv.Itoa(want.Priority), started, container,
		})
	}
	_ = t.Flush()
}
