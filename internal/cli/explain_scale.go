package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/scaling"
)

// explainedDecisions is how many decisions explain shows.
const explainedDecisions = 5

// printScaling prints how a service is scaled: what holds now, the last decisions,
// and what the last one was made from. The caller's Flush reports errors.
func (a *app) printScaling(w io.Writer, s *api.ServiceScaling, now time.Time) error {
	line := func(name, text string) { _, _ = fmt.Fprintf(w, "  %-10s %s\n", name+":", sanitize(text)) }
	line("scaling", scalingLine(s, now))
	for _, note := range scalingNotes(s, now) {
		line(note[0], note[1])
	}
	steps := s.Recording.Steps
	if len(steps) == 0 {
		return nil
	}
	_, _ = fmt.Fprintln(w)
	g := &grid{head: []string{"DECIDED", "REPLICAS", "METRIC", "REASONS"}}
	for _, step := range slices.Backward(steps[max(0, len(steps)-explainedDecisions):]) {
		d := &step.Decision
		g.add(plainCells(moment(d.At, now), replicasChange(d), metricsText(d), strings.Join(reasonNames(d.Reasons), ", "))...)
	}
	if err := a.printGrid(w, g); err != nil {
		return err
	}
	inputs := inputGrid(&steps[len(steps)-1].Input)
	if len(inputs.rows) == 0 {
		return nil
	}
	_, _ = fmt.Fprintln(w)
	return a.printGrid(w, inputs)
}

// scalingLine is how the scaling of a service stands, in one line.
func scalingLine(s *api.ServiceScaling, now time.Time) string {
	text := fmt.Sprintf("%s, %d/%d ready", scalingState(s), s.Ready, s.Replicas)
	if s.Max > 0 {
		text += ", bounds " + boundsText(s)
	}
	if next := nextDecision(s); !next.IsZero() {
		text += ", next decision " + moment(next, now)
	}
	return text
}

func replicasChange(d *scaling.Decision) string {
	if d.Desired == d.Current {
		return fmt.Sprintf("keep %d", d.Current)
	}
	return fmt.Sprintf("%d to %d", d.Current, d.Desired)
}

// metricsText is what every metric asks for.
func metricsText(d *scaling.Decision) string {
	parts := make([]string, len(d.Proposals))
	for i, p := range d.Proposals {
		now, target := p.Texts()
		switch {
		case p.Invalid != "":
			parts[i] = p.Metric + " unknown"
		default:
			parts[i] = fmt.Sprintf("%s %s/%s asks for %d", p.Metric, now, target, p.Replicas)
		}
	}
	if len(parts) == 0 {
		return "-"
	}
	return strings.Join(parts, "; ")
}

// inputGrid is what was measured for a decision.
func inputGrid(in *scaling.Input) *grid {
	g := &grid{head: []string{"REPLICA", "PHASE", "READY", "MEASURED"}}
	for i := range in.Replicas {
		r := &in.Replicas[i]
		var parts []string
		for _, s := range r.Samples {
			parts = append(parts, sampleText(s))
		}
		ready := cell{"no", toneBad}
		if r.Ready {
			ready = cell{"yes", toneGood}
		}
		g.add(cell{text: r.Name}, cell{text: string(r.Phase)}, ready, cell{text: strings.Join(parts, "; ")})
	}
	for _, e := range in.External {
		text := "unavailable: " + e.Unavailable
		if e.Unavailable == "" {
			text = e.Metric + " " + thousandths(e.Value)
		}
		g.add(plainCells("(all)", "-", "-", text)...)
	}
	if in.Forecast > 0 {
		g.add(plainCells("(forecast)", "-", "-", fmt.Sprintf("%d will be needed", in.Forecast))...)
	}
	return g
}

// sampleText is one measurement of a replica: "cpu 93m of 100m over 5s".
func sampleText(s scaling.Sample) string {
	if s.Missing {
		return s.Metric + " has no value"
	}
	quantity := thousandths
	switch s.Metric {
	case scaling.CPU:
		quantity = func(v int64) string { return fmt.Sprintf("%dm", v) }
	case scaling.Memory:
		quantity = humanBytes
	}
	text := s.Metric + " " + quantity(s.Value)
	if s.Reservation > 0 {
		text += " of " + quantity(s.Reservation)
	}
	if s.Window > 0 {
		text += " over " + s.Window.Round(100*time.Millisecond).String()
	}
	return text
}

// thousandths writes what is counted in them.
func thousandths(v int64) string { return decimal(float64(v) / 1000) }
