package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/reconcile"
	"github.com/berth-dev/berth/scaling"
	scalesim "github.com/berth-dev/berth/scaling/simulate"
	"github.com/berth-dev/berth/scaling/vertical"
	"github.com/berth-dev/berth/scheduler"
)

func newAutoscaleStatus(a *app) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "status [OPTIONS] [SERVICE...]",
		Short: "Show how services are scaled, and why",
		Long: "Show for each service that is scaled, sized or at rest how many replicas it has and may have, what\n" +
			"decided last and why, what holds it back, and when the next decision is due.",
		ValidArgsFunction: a.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkFormat(format); err != nil {
				return fmt.Errorf("autoscale status: %w", err)
			}
			return a.autoscaleStatus(cmd.Context(), args, format)
		},
	}
	cmd.Flags().StringVar(&format, "format", "table", "Format the output. Values: [table | json]")
	return cmd
}

func (a *app) autoscaleStatus(ctx context.Context, services []string, format string) error {
	t, d, err := a.managed(ctx)
	if err != nil {
		return err
	}
	list, err := scalingNamed(ctx, d, t.Name, services)
	if err != nil {
		return err
	}
	if len(list) == 0 && format == "table" {
		_, err := fmt.Fprintf(a.env.Out, "stack %s: no service is scaled, sized or at rest\n", t.Name)
		return err
	}
	text, err := scalingText(list, format, time.Now())
	if err != nil {
		return err
	}
	_, err = io.WriteString(a.env.Out, text)
	return err
}

// scalingText is how services are scaled as a table with a line for each thing
// that is to be said of them, or as a line of JSON.
func scalingText(list []api.ServiceScaling, format string, now time.Time) (string, error) {
	if format == "json" {
		rows := slices.Clone(list)
		for i := range rows {
			rows[i].Recording = scalesim.Recording{} // autoscale record writes it
		}
		data, err := json.Marshal(rows)
		return string(data) + "\n", err
	}
	var out strings.Builder
	if err := scalingListing(now).print(&out, format, list); err != nil {
		return "", err
	}
	for i := range list {
		for _, note := range scalingNotes(&list[i], now) {
			fmt.Fprintf(&out, "%s: %s\n", sanitize(list[i].Service), sanitize(strings.Join(note[:], ": ")))
		}
	}
	return out.String(), nil
}

func scalingListing(now time.Time) *listing[api.ServiceScaling] {
	return &listing[api.ServiceScaling]{Columns: []column[api.ServiceScaling]{
		{"SERVICE", func(s api.ServiceScaling) string { return s.Service }},
		{"STATE", func(s api.ServiceScaling) string { return scalingState(&s) }},
		{"READY", func(s api.ServiceScaling) string { return fmt.Sprintf("%d/%d", s.Ready, s.Replicas) }},
		{"BOUNDS", func(s api.ServiceScaling) string { return boundsText(&s) }},
		{"METRIC", func(s api.ServiceScaling) string { return decidingText(s.Last) }},
		{"DECIDED", func(s api.ServiceScaling) string { return moment(decidedAt(s.Last), now) }},
		{"NEXT", func(s api.ServiceScaling) string { return moment(nextDecision(&s), now) }},
	}}
}

// scalingState is how the scaling of a service stands, in a word or two.
func scalingState(s *api.ServiceScaling) string {
	switch {
	case s.Rest != nil:
		return restText(s.Rest)
	case s.Max == 0:
		return "not scaled"
	case s.Paused:
		return "paused"
	case s.ByHand:
		return "held"
	case s.Last != nil && s.Last.Capped != "":
		return "capped"
	case s.Last == nil:
		return "waiting"
	}
	return "scaled"
}

// restText says how a service rests: "asleep (paused)".
func restText(r *reconcile.Rest) string { return "asleep " + restWord(r.Do) }

func boundsText(s *api.ServiceScaling) string {
	if s.Max == 0 {
		return "-"
	}
	return fmt.Sprintf("%d-%d", s.Min, s.Max)
}

// decidingText is what decided last, with its value and target: "cpu 93 %/70 %".
func decidingText(s *api.Scaling) string {
	switch {
	case s == nil:
		return "-"
	case s.ByConcurrency():
		return "concurrency " + decimal(s.Concurrency.Stable)
	case s.Decision == nil:
		return "-"
	}
	return metricText(s.Decision)
}

// metricText is the metric that a decision goes by.
func metricText(d *scaling.Decision) string {
	for _, p := range d.Proposals {
		if p.Metric == d.Metric {
			now, target := p.Texts()
			return p.Metric + " " + now + "/" + target
		}
	}
	return "-"
}

// decimal writes a number with at most one digit after the point.
func decimal(f float64) string { return strings.TrimSuffix(strconv.FormatFloat(f, 'f', 1, 64), ".0") }

func decidedAt(s *api.Scaling) time.Time {
	if s == nil {
		return time.Time{}
	}
	return s.At
}

// nextDecision is when it is decided again; zero: nobody knows.
func nextDecision(s *api.ServiceScaling) time.Time {
	switch {
	case s.Last == nil || s.Rest != nil:
		return time.Time{}
	case s.Last.Decision != nil:
		return s.Last.Decision.Next
	case s.Last.Concurrency != nil:
		return s.Last.Concurrency.Next
	}
	return time.Time{}
}

// scalingNotes are what is to be said of a service's scaling, each with a name.
func scalingNotes(s *api.ServiceScaling, now time.Time) [][2]string {
	var list [][2]string
	add := func(name, text string) {
		if text != "" {
			list = append(list, [2]string{name, text})
		}
	}
	if r := s.Rest; r != nil {
		add("asleep", r.Why+", since "+moment(r.Since, now))
	}
	if l := s.Last; l != nil {
		add("decided", l.Why())
		add("reasons", reasonsText(l))
		if s.Rest == nil { // else nothing is asked for
			for _, why := range l.Missing {
				add("missing", why)
			}
		}
		if s.Paused || s.ByHand { // it may be over since the decision
			add("held", l.Held)
		}
	}
	add("schedule", firingText(s, now))
	if s.Sizing != nil {
		add("sizing", sizingText(s.Sizing))
	}
	return list
}

// reasonsText are the reasons of a decision by their names.
func reasonsText(s *api.Scaling) string {
	var names []string
	if s.Decision != nil {
		names = reasonNames(s.Decision.Reasons)
	}
	if s.Concurrency != nil {
		for _, name := range reasonNames(s.Concurrency.Reasons) {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return strings.Join(names, ", ")
}

func reasonNames(reasons []scaling.Reason) []string {
	names := make([]string, len(reasons))
	for i, r := range reasons {
		names[i] = string(r)
	}
	return names
}

// firingText is the schedule that applies, and when the next one fires.
func firingText(s *api.ServiceScaling, now time.Time) string {
	f := &s.Firing
	var parts []string
	if !f.At.IsZero() {
		parts = append(parts, strings.TrimPrefix(f.String(), "schedule "))
	}
	if !f.Next.IsZero() {
		parts = append(parts, "next at "+moment(f.Next, now))
	}
	return strings.Join(parts, "; ")
}

// sizingText is what becomes of the limits of a service's replicas.
func sizingText(s *api.Sizing) string {
	samples := "1 sample"
	if n := s.Recommendation.Samples; n != 1 {
		samples = fmt.Sprintf("%d samples", n)
	}
	return fmt.Sprintf("%s, by %s: cpu %s; memory %s", s.Mode, samples,
		limitText(s.Change.CPU, s.Recommendation.CPU, func(v int64) string { return strconv.FormatInt(v, 10) + "m" }),
		limitText(s.Change.Memory, s.Recommendation.Memory, func(v int64) string { return scheduler.FormatAmount(scheduler.Memory, v) }))
}

// limitText is what becomes of one limit, and what is needed.
func limitText(c vertical.Step, r vertical.Range, quantity func(int64) string) string {
	upper := " or more" // nothing is known to be too much yet
	if r.Upper < math.MaxInt64 {
		upper = " to " + quantity(r.Upper)
	}
	needs := fmt.Sprintf("needs %s (%s%s)", quantity(r.Target), quantity(r.Lower), upper)
	switch c.From {
	case 0:
		return needs + ", has no limit"
	case c.To:
		return fmt.Sprintf("%s, limit %s stays: %s", needs, quantity(c.From), c.Reason)
	}
	return fmt.Sprintf("%s, limit %s to %s: %s", needs, quantity(c.From), quantity(c.To), c.Reason)
}
