package cli

import (
	"cmp"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/berth-dev/berth/internal/plot"
	"github.com/berth-dev/berth/scaling"
	scalesim "github.com/berth-dev/berth/scaling/simulate"
)

// Bounds of what is printed of a run.
const (
	maxChanges   = 40 // rows
	defaultWidth = 80 // columns of a plot outside of a terminal
	mostWidth    = 160
)

// changes is how many decisions changed the number of replicas.
func (r *scalingRun) changes() int {
	n := 0
	for i := range r.Steps {
		if d := &r.Steps[i].Decision; d.Desired != d.Current {
			n++
		}
	}
	return n
}

// changesGrid is a line for each of the first changes.
func (r *scalingRun) changesGrid() *grid {
	g := &grid{head: []string{"TIME", "REPLICAS", "METRIC", "REASONS"}}
	for i := range r.Steps {
		d := &r.Steps[i].Decision
		if d.Desired == d.Current {
			continue
		}
		if len(g.rows) == maxChanges {
			break
		}
		g.add(plainCells(moment(d.At, r.from), replicasChange(d), metricText(d), strings.Join(reasonNames(d.Reasons), ", "))...)
	}
	return g
}

// summaryGrid is what came of a run; where there is one without predict, both.
func (r *scalingRun) summaryGrid() *grid {
	g := &grid{head: []string{"SUMMARY", "VALUE"}}
	all := []*scalesim.Summary{&r.Summary}
	if r.Without != nil {
		g.head = []string{"SUMMARY", "WITH PREDICT", "WITHOUT"}
		all = append(all, r.Without)
	}
	for _, line := range []struct {
		name string
		text func(*scalesim.Summary) string
	}{
		{"decisions", func(s *scalesim.Summary) string { return strconv.Itoa(s.Decisions) }},
		{"changes", func(s *scalesim.Summary) string { return strconv.Itoa(s.Changes) }},
		{"replicas", func(s *scalesim.Summary) string { return fmt.Sprintf("%d to %d", s.Least, s.Most) }},
		{"replica-seconds", func(s *scalesim.Summary) string { return strconv.FormatFloat(s.ReplicaSeconds, 'f', 0, 64) }},
		{"over target", func(s *scalesim.Summary) string { return shareText(s.Over, s.Span) }},
		{"unserved", func(s *scalesim.Summary) string { return shareText(s.Unserved, s.Span) }},
	} {
		row := []cell{{text: line.name}}
		for _, s := range all {
			row = append(row, cell{text: line.text(s)})
		}
		g.add(row...)
	}
	return g
}

// shareText is a time and its part of the whole: "1m30s of 1h0m0s, 2.5 %".
func shareText(d, of time.Duration) string {
	return fmt.Sprintf("%s of %s, %s %%", d, of, decimal(100*d.Seconds()/of.Seconds()))
}

// chart is the course of a run: how its load compares with the target, and how
// many replicas there are.
func (r *scalingRun) chart() *plot.Chart {
	load, replicas := course(r.Steps)
	load.Name, replicas.Name = "load", "replicas"
	counts := plot.Panel{Title: "replicas", Whole: true, Series: []plot.Series{replicas}}
	if r.Without != nil {
		_, without := course(r.unpredicted)
		counts.Series[0].Name, without.Name = "replicas with predict", "replicas without"
		counts.Series = append(counts.Series, without)
	}
	return &plot.Chart{
		Title: r.Service + ": load and replicas", From: r.from, To: r.to,
		Panels: []plot.Panel{{Title: "load, in % of the target", Unit: "%", Mark: 100, Series: []plot.Series{load}}, counts},
	}
}

// course is what every step has measured, and the number it has decided on.
func course(steps []scalesim.Step) (load, replicas plot.Series) {
	for i := range steps {
		d := &steps[i].Decision
		load.At, load.Values = append(load.At, d.At), append(load.Values, loadOf(d))
		replicas.At, replicas.Values = append(replicas.At, d.At), append(replicas.Values, float64(d.Desired))
	}
	return load, replicas
}

// loadOf is the metric that is farthest above its target, in percent of that; no
// number where none tells anything.
func loadOf(d *scaling.Decision) float64 {
	most := math.NaN()
	for _, p := range d.Proposals {
		if p.Invalid == "" && !(100*p.Ratio <= most) {
			most = 100 * p.Ratio
		}
	}
	return most
}

// plotWidth is how many columns a plot has.
func (a *app) plotWidth() int {
	width, _ := terminalSize(a.env.Out)
	return min(cmp.Or(width, defaultWidth), mostWidth)
}

// isUTF8 reports whether the environment's locale has more than ASCII.
func (a *app) isUTF8() bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v, _ := a.env.lookup(name); v != "" {
			v = strings.ToUpper(v)
			return strings.Contains(v, "UTF-8") || strings.Contains(v, "UTF8")
		}
	}
	return false
}
