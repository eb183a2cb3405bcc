package cli

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/reconcile"
)

func newRolloutHistory(a *app) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:               "history [OPTIONS]",
		Short:             "List the kept revisions of the stack, oldest first, and what each has changed",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkFormat(format); err != nil {
				return fmt.Errorf("rollout history: %w", err)
			}
			return a.rolloutHistory(cmd.Context(), format)
		},
	}
	cmd.Flags().StringVar(&format, "format", "table", "Format the output. Values: [table | json]")
	return cmd
}

func (a *app) rolloutHistory(ctx context.Context, format string) error {
	t, d, err := a.managed(ctx)
	if err != nil {
		return err
	}
	list, err := d.Revisions(ctx, t.Name)
	if err != nil {
		return err
	}
	return historyListing(list, time.Now()).print(a.env.Out, format, list)
}

func historyListing(list []api.Revision, now time.Time) *listing[api.Revision] {
	return &listing[api.Revision]{Array: true, Columns: []column[api.Revision]{
		{"REVISION", func(r api.Revision) string { return strconv.Itoa(r.Number) }},
		{"DECLARED", func(r api.Revision) string { return moment(r.At, now) }},
		{"CAUSE", func(r api.Revision) string { return ellipsis(cmp.Or(r.Cause, "up"), reasonLength) }},
		{"CHANGES", func(r api.Revision) string {
			if r.Number == list[0].Number {
				return "(the oldest that is kept)"
			}
			return changesText(r.Changes)
		}},
	}}
}

// shownChanges is how many changes a line of the history names.
const shownChanges = 3

// changesText names the first of the keys that have changed.
func changesText(changes []reconcile.Change) string {
	if len(changes) == 0 {
		return "none"
	}
	var names []string
	for _, c := range changes[:min(len(changes), shownChanges)] {
		names = append(names, c.Path)
	}
	text := strings.Join(names, ", ")
	if more := len(changes) - shownChanges; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

func newRolloutDiff(a *app) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "diff [OPTIONS] [FROM [TO]]",
		Short: "Show what differs between two revisions, key by key",
		Long: "Show what differs between two kept revisions, key by key: between the last two, between FROM and\n" +
			"the newest, or between FROM and TO. Of environment variables and command lines it tells that they\n" +
			"differ, but not their values, as these may be secret.",
		Args: cobra.MaximumNArgs(2),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, text string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 2 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return a.completeRevisions(cmd, args, text)
		},
		RunE: func(cmd *cobra.Command, args []string) error { return a.rolloutDiff(cmd.Context(), args, format) },
	}
	cmd.Flags().StringVar(&format, "format", "text", "Format of the output (text|json)")
	return cmd
}

// The revisions that diff compares when none is named, as the daemon counts them.
const (
	newestRevision   = 0
	previousRevision = -1
)

func (a *app) rolloutDiff(ctx context.Context, args []string, format string) error {
	if err := checkTextFormat("rollout diff", format); err != nil {
		return err
	}
	revisions := []int{previousRevision, newestRevision}
	for i, arg := range args {
		var err error
		if revisions[i], err = parseRevision("rollout diff", arg); err != nil {
			return err
		}
	}
	t, d, err := a.managed(ctx)
	if err != nil {
		return err
	}
	diff, err := d.RevisionDiff(ctx, t.Name, revisions[0], revisions[1])
	if err != nil {
		return err
	}
	if format == "json" {
		return a.printJSON(diff)
	}
	return a.printDiff(&diff)
}

func (a *app) printDiff(diff *api.RevisionDiff) error {
	out := bufio.NewWriter(a.env.Out) // Flush reports errors
	if len(diff.Changes) == 0 {
		_, _ = fmt.Fprintf(out, "revisions %d and %d do not differ\n", diff.From, diff.To)
		return out.Flush()
	}
	_, _ = fmt.Fprintf(out, "--- revision %d\n+++ revision %d\n", diff.From, diff.To)
	for _, c := range diff.Changes {
		for _, line := range changeLines(c) {
			_, _ = fmt.Fprintln(out, sanitize(line))
		}
	}
	return out.Flush()
}

// changeLines are a change as its lines: what was, and what is.
func changeLines(c reconcile.Change) []string {
	if c.Hidden {
		return []string{"~ " + c.Path + ": differs"}
	}
	var lines []string
	if c.Before != "" {
		lines = append(lines, "- "+c.Path+": "+c.Before)
	}
	if c.After != "" {
		lines = append(lines, "+ "+c.Path+": "+c.After)
	}
	if len(lines) == 0 {
		lines = []string{"~ " + c.Path + ": an empty value came or went"}
	}
	return lines
}
