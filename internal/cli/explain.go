package cli

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/scheduler"
)

func newExplain(a *app) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "explain [OPTIONS] SERVICE[/SLOT]...",
		Short: "Show why replicas stand where they do, or nowhere",
		Long: "Show how a service's rollout stands, where it is published, what the balancer carries to its\n" +
			"containers, and how it is scaled, with the last decisions and what was measured for them; and for each\n" +
			"of its replicas, or for one of them, where it stands and what it waits for, and how it would be placed\n" +
			"now: what every filter says of every node, each score, the winner and why.",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeServices,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.explain(cmd.Context(), args, format) },
	}
	cmd.Flags().StringVar(&format, "format", "text", "Format of the output (text|json)")
	return cmd
}

// wanted is what an argument SERVICE[/SLOT] means; slot 0: all replicas.
type wanted struct {
	service string
	slot    int
}

func parseReplica(verb, text string) (wanted, error) {
	service, number, one := strings.Cut(text, "/")
	w := wanted{service: service}
	if one {
		n, err := strconv.Atoi(number)
		if err != nil || n < 1 {
			return w, fmt.Errorf("%s %q: not of the form SERVICE or SERVICE/SLOT, slots count from 1", verb, text)
		}
		w.slot = n
	}
	if service == "" {
		return w, fmt.Errorf("%s %q: no service is named", verb, text)
	}
	return w, nil
}

func (a *app) explain(ctx context.Context, args []string, format string) error {
	if err := checkTextFormat("explain", format); err != nil {
		return err
	}
	replicas := make([]wanted, len(args))
	services := make([]string, len(args))
	for i, arg := range args {
		var err error
		if replicas[i], err = parseReplica("explain", arg); err != nil {
			return err
		}
		services[i] = replicas[i].service
	}
	t, err := a.resolve(ctx, services...)
	if err != nil {
		return err
	}
	if err := t.mustDeclare(services); err != nil {
		return err
	}
	d, err := a.connect(ctx)
	if err != nil {
		return err
	}
	all := api.Explained{Replicas: []api.Explanation{}}
	for _, r := range replicas {
		e, err := d.Explain(ctx, t.Name, r.service, r.slot)
		if err != nil {
			return err
		}
		all.Services = append(all.Services, e.Services...)
		all.Replicas = append(all.Replicas, e.Replicas...)
	}
	if format == "json" {
		return a.printJSON(all)
	}
	return a.printExplained(&all)
}

// checkTextFormat refuses the formats of commands that print text or JSON.
func checkTextFormat(verb, format string) error {
	if format != "text" && format != "json" {
		return fmt.Errorf("%s: --format %q is unknown; use text or json", verb, format)
	}
	return nil
}

// mustDeclare fails when the file, where it was read, lacks one of the services.
func (t target) mustDeclare(services []string) error {
	for _, s := range services {
		if t.Loaded == nil || t.declares(s) {
			continue
		}
		return fmt.Errorf("no such service: %s (the file has %s)", s, strings.Join(serviceList(t.Loaded.Stack), ", "))
	}
	return nil
}

func (a *app) printExplained(all *api.Explained) error {
	out := bufio.NewWriter(a.env.Out)
	for i := range all.Services {
		if err := a.printService(out, &all.Services[i], time.Now()); err != nil {
			return err
		}
	}
	list := all.Replicas
	for i := range list {
		if i > 0 {
			_, _ = fmt.Fprintln(out) // Flush reports errors
		}
		e := &list[i]
		_, _ = fmt.Fprintln(out, sanitize(stands(e)))
		for _, line := range because(e) {
			_, _ = fmt.Fprintf(out, "  %-10s %s\n", line[0]+":", sanitize(line[1]))
		}
		for _, line := range healthOf(e) {
			_, _ = fmt.Fprintf(out, "  %-10s %s\n", line[0]+":", sanitize(line[1]))
		}
		if err := a.printDecision(out, &e.Placement); err != nil {
			return err
		}
	}
	return out.Flush()
}

// stands says where a replica is now.
func stands(e *api.Explanation) string {
	text := string(e.Key)
	switch {
	case e.Container == "" && e.Node == "":
		return text + " stands nowhere"
	case e.Container == "":
		return text + " is to come to " + e.Node
	case e.Node == "":
		text += " is " + e.Container
	default:
		text += " stands on " + e.Node + " as " + e.Container
	}
	if e.State != "" {
		text += ", " + string(e.State)
	}
	return text
}

// because are the reasons for a replica's state: what is done, what it waits
// for, and what the scheduler would decide now.
func because(e *api.Explanation) [][2]string {
	var lines [][2]string
	for i := range e.Steps {
		lines = append(lines, [2]string{"now", strings.Join(strings.Fields(e.Steps[i].String()), " ")})
	}
	held, placed := e.Hold, e.Placement.Reason
	if held == placed || held == placed+"; "+e.Placement.Hint {
		held = "" // the next lines say it
	}
	if n := e.Placement.Node; n != "" && n != e.Node {
		placed = n + ", " + placed
	}
	for _, l := range [][2]string{{"held", held}, {"pressure", e.Pressure}, {placedWord(e), placed}, {"hint", e.Placement.Hint}} {
		if l[1] != "" {
			lines = append(lines, l)
		}
	}
	return lines
}

func placedWord(e *api.Explanation) string {
	switch e.Placement.Node {
	case "":
		return "no node"
	case e.Node:
		return "why"
	}
	return "best now"
}

// printDecision prints what scores and filters say of every node.
func (a *app) printDecision(w io.Writer, d *scheduler.Decision) error {
	if len(d.Verdicts) == 0 {
		return nil
	}
	verdicts := slices.Clone(d.Verdicts)
	slices.SortStableFunc(verdicts, func(x, y scheduler.Verdict) int {
		return cmp.Or(cmp.Compare(rank(&x, d.Node), rank(&y, d.Node)), cmp.Compare(y.Score, x.Score))
	})
	_, _ = fmt.Fprintln(w) // the last print reports errors
	scores, zero := scoreGrid(verdicts, d.Node)
	if err := a.printGrid(w, scores); err != nil {
		return err
	}
	if len(zero) > 0 {
		_, _ = fmt.Fprintf(w, "no node scores by %s\n", strings.Join(zero, ", "))
	}
	filters, passed := filterGrid(verdicts)
	_, _ = fmt.Fprintln(w)
	if len(filters.rows) > 0 {
		if err := a.printGrid(w, filters); err != nil {
			return err
		}
	}
	if len(passed) > 0 {
		_, _ = fmt.Fprintf(w, "every node passes %s\n", strings.Join(passed, ", "))
	}
	return nil
}

// rank orders the nodes: the winner, those that would do, those that are rejected.
func rank(v *scheduler.Verdict, winner string) int {
	switch {
	case v.Node == winner:
		return 0
	case v.Filter == "":
		return 1
	}
	return 2
}

// scoreGrid is a line a node with its score and the parts of it, and the scores
// that are 0 on every node.
func scoreGrid(verdicts []scheduler.Verdict, winner string) (g *grid, zero []string) {
	g = &grid{head: []string{"NODE", "VERDICT", "SCORE"}}
	counts := map[string]bool{}
	var all []scheduler.Score
	for i := range verdicts {
		for _, s := range verdicts[i].Scores {
			if !slices.ContainsFunc(all, func(o scheduler.Score) bool { return o.Name == s.Name }) {
				all = append(all, s)
			}
			counts[s.Name] = counts[s.Name] || s.Value != 0
		}
	}
	var shown []string
	for _, s := range all {
		if !counts[s.Name] {
			zero = append(zero, s.Name)
			continue
		}
		shown = append(shown, s.Name)
		g.head = append(g.head, fmt.Sprintf("%s ×%d", s.Name, s.Weight))
	}
	for i := range verdicts {
		g.add(scoreRow(&verdicts[i], winner, shown)...)
	}
	return g, zero
}

func scoreRow(v *scheduler.Verdict, winner string, names []string) []cell {
	row := plainCells(v.Node, "fits", strconv.FormatInt(v.Score, 10))
	switch {
	case v.Filter != "":
		row[1], row[2] = cell{"rejected", toneBad}, cell{text: "-"}
	case v.Node == winner:
		row[1] = cell{"chosen", toneGood}
	}
	for _, name := range names {
		text := "-"
		if i := slices.IndexFunc(v.Scores, func(s scheduler.Score) bool { return s.Name == name }); i >= 0 {
			text = strconv.FormatInt(v.Scores[i].Value, 10)
		}
		row = append(row, cell{text: text})
	}
	return row
}

// filterGrid is a line for each rejection, a node's own below each other, and
// the filters that every node passes.
func filterGrid(verdicts []scheduler.Verdict) (g *grid, passed []string) {
	g = &grid{head: []string{"NODE", "FILTER", "WHY NOT"}}
	rejects := map[string]bool{}
	var names []string
	for i := range verdicts {
		v := &verdicts[i]
		for _, f := range filtersOf(v) {
			if !slices.Contains(names, f.Filter) {
				names = append(names, f.Filter)
			}
			if f.Reason != "" {
				rejects[f.Filter] = true
				g.add(cell{text: v.Node}, cell{text: f.Filter}, cell{f.Reason, toneBad})
			}
		}
	}
	for _, name := range names {
		if !rejects[name] {
			passed = append(passed, name)
		}
	}
	return g, passed
}

// filtersOf is what every filter says, or the first that rejects where no more
// was told.
func filtersOf(v *scheduler.Verdict) []scheduler.FilterVerdict {
	if len(v.Filters) == 0 && v.Filter != "" {
		return []scheduler.FilterVerdict{{Filter: v.Filter, Reason: v.Reason}}
	}
	return v.Filters
}
