package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/internal/api"
)

// The goals of rebalance.
const (
	goalBalance     = "balance"
	goalConsolidate = "consolidate"
)

func newRebalance(a *app) *cobra.Command {
	var req api.Rebalance
	var format string
	cmd := &cobra.Command{
		Use:   "rebalance [OPTIONS]",
		Short: "Move replicas to even out, or to empty, virtual nodes",
		Long: "Move replicas between virtual nodes, of all stacks: with the goal balance so that the nodes are used\n" +
			"alike, with consolidate so that as many nodes as possible are empty. Each replica moves at most once,\n" +
			"one of a service at a time, as any change of it. A second rebalance right after moves nothing.\n\n" +
			"With --plan, the exit code is 0 when nothing would move, 2 when something would, and 1 after an error.",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			req.Plan = req.Plan || a.global.dryRun
			if cmd.Flags().Changed("budget") {
				if err := checkBudget(req.Budget); err != nil {
					return err
				}
			}
			return a.rebalance(cmd.Context(), req, format)
		},
	}
	f := cmd.Flags()
	f.StringVar(&req.Goal, "goal", goalBalance, "What to reach (balance|consolidate)")
	f.StringVar(&req.Budget, "budget", "", "How many replicas may move: a number such as 5, or a share such as 20% (default: as many as it takes)")
	f.BoolVar(&req.Plan, "plan", false, "Show the moves only")
	f.StringVar(&format, "format", "text", "Format of the moves (text|json)")
	_ = cmd.RegisterFlagCompletionFunc("goal", cobra.FixedCompletions([]string{goalBalance, goalConsolidate}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (a *app) rebalance(ctx context.Context, req api.Rebalance, format string) error {
	if req.Goal != goalBalance && req.Goal != goalConsolidate {
		return fmt.Errorf("rebalance: --goal %q is unknown; use %s or %s", req.Goal, goalBalance, goalConsolidate)
	}
	if err := checkTextFormat("rebalance", format); err != nil {
		return err
	}
	d, err := a.connect(ctx)
	if err != nil {
		return err
	}
	out, err := d.Rebalance(ctx, req)
	if err != nil {
		return err
	}
	if out.Moves == nil {
		out.Moves = []api.Move{}
	}
	if err := a.printMoves(out, format); err != nil {
		return err
	}
	switch {
	case len(out.Moves) == 0:
		return nil
	case req.Plan:
		return &ExitError{Code: exitChanges}
	}
	return a.followMoves(ctx, d, out)
}

// checkBudget wants a number of moves from 1 on, or a share from 1 % to 100 %.
func checkBudget(budget string) error {
	number, share := strings.CutSuffix(budget, "%")
	n, err := strconv.Atoi(number)
	if err != nil || n < 1 || share && n > 100 {
		return fmt.Errorf("rebalance: --budget %q is neither a number of moves such as 5 nor a share of the replicas such as 20%%", budget)
	}
	return nil
}

func (a *app) printMoves(out *api.Rebalanced, format string) error {
	if format == "json" {
		return a.printJSON(out)
	}
	w := bufio.NewWriter(a.env.Out)
	for _, m := range out.Moves {
		_, _ = fmt.Fprintln(w, sanitize(moveText(m))) // Flush reports errors
	}
	for _, f := range out.Fixed {
		_, _ = fmt.Fprintf(w, "%-14s %s\n", "keep", sanitize(f))
	}
	if len(out.Moves) == 0 {
		_, _ = fmt.Fprintf(w, "nothing to move; %s: %s\n", sanitize(out.Figure), figure(out.Before))
	} else {
		_, _ = fmt.Fprintf(w, "%s: %s -> %s\n", sanitize(out.Figure), figure(out.Before), figure(out.After))
	}
	for _, why := range out.Reasons {
		_, _ = fmt.Fprintln(w, sanitize(why))
	}
	return w.Flush()
}

// gainUnit is how much of [api.Move.Gain] is one in the figure of a balance.
const gainUnit = 1e6

// moveText is a move as a plan's line.
func moveText(m api.Move) string {
	text := fmt.Sprintf("%-14s %-12s %s -> %s", "move", fmt.Sprintf("%s/%s/%d", m.Stack, m.Service, m.Slot), m.From, m.To)
	var why []string
	if m.Cause != "" {
		why = append(why, m.Cause)
	}
	if m.Gain > 0 {
		why = append(why, "gain "+figure(float64(m.Gain)/gainUnit))
	}
	if len(why) > 0 {
		text += "  (" + strings.Join(why, "; ") + ")"
	}
	return text
}

// figure writes a number with at most three digits after the point.
func figure(v float64) string {
	text := strconv.FormatFloat(v, 'f', 3, 64)
	return strings.TrimRight(strings.TrimRight(text, "0"), ".")
}

// followMoves shows how the stacks carry the moves out, until all of them are settled.
func (a *app) followMoves(ctx context.Context, d daemon, out *api.Rebalanced) error {
	ui := a.progress("Running")
	defer ui.Stop()
	var errs []error
	for _, acc := range accepted(out) {
		err := a.followWith(ctx, d, acc, untilSettled, func(e api.Event) error {
			showEvent(ui, e)
			return nil
		})
		if ctx.Err() != nil {
			return &ExitError{Code: 130, Err: errors.New("interrupted; the daemon goes on with the moves")}
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// accepted is from where on each stack is to be followed.
func accepted(out *api.Rebalanced) []api.Accepted {
	if len(out.Accepted) > 0 {
		return out.Accepted
	}
	var list []api.Accepted
	for _, m := range out.Moves {
		if !slices.ContainsFunc(list, func(acc api.Accepted) bool { return acc.Stack == m.Stack }) {
			list = append(list, api.Accepted{Stack: m.Stack})
		}
	}
	return list
}
