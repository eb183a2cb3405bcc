package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/reconcile"
)

// rolloutLook is how often rollouts are looked at that are watched.
const rolloutLook = 500 * time.Millisecond

func newRolloutStatus(a *app) *cobra.Command {
	var watch bool
	var format string
	cmd := &cobra.Command{
		Use:   "status [OPTIONS] [SERVICE...]",
		Short: "Show how far rollouts have come, and what they wait for",
		Long: "Show for each service how far the replacement of its replicas has come, why it was paused or\n" +
			"taken back, and what its replicas wait for.\n\n" +
			"With --watch every change is shown until no rollout goes on by itself any more. The exit code is\n" +
			"then 1 when one of them was paused because of failures, or taken back.",
		ValidArgsFunction: a.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkFormat(format); err != nil {
				return fmt.Errorf("rollout status: %w", err)
			}
			return a.rolloutStatus(cmd.Context(), args, watch, format)
		},
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "Show changes until the rollouts have ended")
	cmd.Flags().StringVar(&format, "format", "table", "Format the output. Values: [table | json]")
	return cmd
}

func (a *app) rolloutStatus(ctx context.Context, services []string, watch bool, format string) error {
	t, d, err := a.managed(ctx)
	if err != nil {
		return err
	}
	look := func() ([]rolloutRow, error) {
		list, err := rolloutsNamed(ctx, d, t.Name, services)
		return rolloutRows(list), err
	}
	if watch {
		return a.watchRollouts(ctx, format, look)
	}
	rows, err := look()
	if err != nil {
		return err
	}
	text, err := rolloutText(rows, format, time.Now())
	if err != nil {
		return err
	}
	_, err = io.WriteString(a.env.Out, text)
	return err
}

// watchRollouts shows the rollouts whenever they have changed, until none of
// them goes on by itself.
func (a *app) watchRollouts(ctx context.Context, format string, look func() ([]rolloutRow, error)) error {
	screen := liveTable(printedTable{a.env.Out})
	if format != "json" {
		screen = a.liveTable()
	}
	defer screen.Stop()
	tick := time.NewTicker(rolloutLook)
	defer tick.Stop()
	last := ""
	for {
		rows, err := look()
		if err != nil {
			if ctx.Err() != nil {
				return &ExitError{Code: 130}
			}
			return err
		}
		text, err := rolloutText(rows, format, time.Now())
		if err != nil {
			return err
		}
		if text != last {
			last = text
			if err := screen.Show(text); err != nil {
				return err
			}
		}
		if !slices.ContainsFunc(rows, func(r rolloutRow) bool { return r.goesOn }) {
			return failedRollouts(rows)
		}
		select {
		case <-ctx.Done():
			return &ExitError{Code: 130}
		case <-tick.C:
		}
	}
}

// failedRollouts says which rollouts have failed, and why.
func failedRollouts(rows []rolloutRow) error {
	var errs []error
	for i := range rows {
		if r := &rows[i]; r.failed {
			errs = append(errs, errors.New(sanitize(fmt.Sprintf("service %s: %s: %s", r.Service, r.State, r.Why))))
		}
	}
	return errors.Join(errs...)
}

// rolloutRow is one service as rollout status prints it.
type rolloutRow struct {
	Service  string         `json:"service"`
	State    string         `json:"state"`
	Why      string         `json:"why,omitempty"` // of a pause because of failures, or a way back
	Revision string         `json:"revision"`
	Replicas int            `json:"replicas"`         // wanted
	Replaced int            `json:"replaced"`         // those that are ready with the revision
	Failed   int            `json:"failed,omitempty"` // those that are not, and will not be
	Total    int            `json:"total"`            // those that are, or were, to be replaced
	Began    time.Time      `json:"began,omitzero"`
	Progress time.Time      `json:"progress,omitzero"` // when it last came further
	Canary   *canaryRow     `json:"canary,omitempty"`
	From     string         `json:"rolledBackFrom,omitempty"` // the revision that had failed
	Waits    []string       `json:"waits,omitempty"`
	Slots    map[int]string `json:"slots,omitempty"` // how the replacement of each replica stands

	goesOn, failed bool
}

// canaryRow is the step at which a canary stands.
type canaryRow struct {
	Step  int       `json:"step"` // from 1
	Steps int       `json:"steps"`
	Until time.Time `json:"until,omitzero"` // zero: its share is not reached yet, or it waits for somebody to resume it
	// Resume: its share is reached, and it goes on when somebody resumes it.
	Resume bool `json:"resume,omitempty"`
}

func rolloutRows(list []api.RolloutStatus) []rolloutRow {
	rows := make([]rolloutRow, len(list))
	for i := range list {
		rows[i] = newRolloutRow(&list[i])
	}
	return rows
}

func newRolloutRow(s *api.RolloutStatus) rolloutRow {
	row := rolloutRow{Service: s.Service, State: rolloutState(s), Revision: s.Revision, Replicas: s.Replicas, Waits: s.Holds}
	if back := s.RolledBack; back != nil {
		row.From, row.Why, row.failed = back.From, back.Why, !back.Seen
	}
	r := s.Rollout
	if r == nil {
		return row
	}
	row.Replaced, row.Failed = r.Counts()
	row.Total, row.Began, row.Progress = r.Total, r.Began, r.Progress
	row.Why = cmp.Or(r.Why, row.Why)
	row.Canary = canaryOf(s)
	row.Slots = slotStates(r)
	row.failed = row.failed || r.State == reconcile.RolloutPaused
	row.goesOn = r.State == reconcile.RolloutRolledBack ||
		r.State == reconcile.RolloutUpdating && !s.Held && (row.Canary == nil || !row.Canary.Resume)
	return row
}

// slotStates say how the replacement of each replica stands.
func slotStates(r *reconcile.Rollout) map[int]string {
	states := make(map[int]string, len(r.Slots))
	for slot, p := range r.Slots {
		switch {
		case p.Failed != "":
			states[slot] = "failed: " + p.Failed
		case !p.Done.IsZero():
			states[slot] = "replaced"
		case !p.Ready.IsZero():
			states[slot] = "ready"
		default:
			states[slot] = "under way"
		}
	}
	return states
}

// canaryOf is the step at which a rollout's canary stands; nil: it has none, or
// is past it.
func canaryOf(s *api.RolloutStatus) *canaryRow {
	r := s.Rollout
	if s.CanarySteps == 0 || r.RollBack || r.State != reconcile.RolloutUpdating || r.Step >= s.CanarySteps {
		return nil
	}
	c := &canaryRow{Step: r.Step + 1, Steps: s.CanarySteps}
	switch {
	case r.Reached.IsZero():
	case s.CanaryHold == 0:
		c.Resume = true
	default:
		c.Until = r.Reached.Add(s.CanaryHold)
	}
	return c
}

// rolloutState is how a service's rollout stands, in a word or two.
func rolloutState(s *api.RolloutStatus) string {
	r := s.Rollout
	switch {
	case s.Held && (r == nil || r.State == reconcile.RolloutUpdating || r.State == reconcile.RolloutCompleted):
		return "paused by command"
	case r != nil && r.RollBack && r.State == reconcile.RolloutUpdating:
		return string(reconcile.RolloutRolledBack)
	case s.RolledBack != nil && (r == nil || r.State == reconcile.RolloutCompleted):
		return "rolled back"
	case r == nil:
		return "idle"
	}
	return string(r.State)
}

// rolloutText is the rollouts as a table with a line for each thing that they
// wait for, or as a line of JSON.
func rolloutText(rows []rolloutRow, format string, now time.Time) (string, error) {
	if format == "json" {
		data, err := json.Marshal(rows)
		return string(data) + "\n", err
	}
	var out strings.Builder
	if err := rolloutListing(now).print(&out, format, rows); err != nil {
		return "", err
	}
	for i := range rows {
		for _, note := range rows[i].notes(now) {
			fmt.Fprintf(&out, "%s: %s\n", sanitize(rows[i].Service), sanitize(note))
		}
	}
	return out.String(), nil
}

func rolloutListing(now time.Time) *listing[rolloutRow] {
	return &listing[rolloutRow]{Columns: []column[rolloutRow]{
		{"SERVICE", func(r rolloutRow) string { return r.Service }},
		{"STATE", func(r rolloutRow) string { return r.State }},
		{"REVISION", func(r rolloutRow) string { return shortID(r.Revision) }},
		{"REPLACED", func(r rolloutRow) string { return r.replacedText() }},
		{"FAILED", func(r rolloutRow) string { return strconv.Itoa(r.Failed) }},
		{"PROGRESS", func(r rolloutRow) string { return moment(r.Progress, now) }},
	}}
}

func (r *rolloutRow) replacedText() string {
	if r.Began.IsZero() {
		return "-"
	}
	return fmt.Sprintf("%d/%d", r.Replaced, r.Total)
}

// notes say why a rollout stands as it does, and what it waits for.
func (r *rolloutRow) notes(now time.Time) []string {
	var list []string
	if r.Why != "" {
		list = append(list, r.State+": "+r.Why)
	}
	if c := r.Canary; c != nil {
		text := fmt.Sprintf("canary step %d of %d", c.Step, c.Steps)
		switch {
		case c.Resume:
			text += "; berth rollout resume " + r.Service + " goes on"
		case !c.Until.IsZero():
			text += " until " + moment(c.Until, now)
		}
		list = append(list, text)
	}
	return append(list, r.Waits...)
}

// moment is the time of day, with the date where that is another one; "-" for none.
func moment(t, now time.Time) string {
	t = t.In(now.Location())
	switch {
	case t.IsZero():
		return "-"
	case t.YearDay() == now.YearDay() && t.Year() == now.Year():
		return t.Format(time.TimeOnly)
	}
	return t.Format(time.DateTime)
}
