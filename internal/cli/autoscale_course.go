package cli

import (
	"cmp"
	"fmt"
	"math"
	"slices"
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

// point is a moment of a run at which something was decided.
type point struct {
	at, next time.Time // next: of the decision after it
	from, to int       // replicas
	by       string    // what asked for the number
	reasons  []scaling.Reason
	load     float64 // in percent of the target; no number: it is not known
}

// points are the moments of a run, in order: what metrics and concurrency have
// decided at one of them is one.
func points(r *scalesim.Recording) []point {
	var list []point
	var metrics *scaling.Decision // the last by metrics
	steps, looks := r.Steps, r.Looks
	for len(steps)+len(looks) > 0 {
		var step *scalesim.Step
		if len(steps) > 0 && (len(looks) == 0 || !steps[0].Decision.At.After(looks[0].Decision.At)) {
			step, steps = &steps[0], steps[1:]
			metrics = &step.Decision
		}
		if len(looks) == 0 || step != nil && looks[0].Decision.At.After(step.Decision.At) {
			list = append(list, measuredPoint(metrics))
			continue
		}
		list = append(list, lookedPoint(&looks[0], metrics))
		looks = looks[1:]
	}
	return list
}

func measuredPoint(d *scaling.Decision) point {
	return point{at: d.At, next: d.Next, from: d.Current, to: d.Desired, by: metricText(d), reasons: d.Reasons, load: loadOf(d)}
}

// lookedPoint is a look at what is under way at once. The last decision by metrics
// goes on to count; nil: there is none.
func lookedPoint(l *scalesim.Look, metrics *scaling.Decision) point {
	d := &l.Decision
	mean := d.Stable
	if d.Panicking {
		mean = max(mean, d.Panic)
	}
	p := point{
		at: d.At, next: d.At.Add(time.Second), from: d.Current, to: d.Desired, reasons: d.Reasons,
		by:   scalesim.Concurrency + " " + decimal(mean) + "/" + decimal(l.Concurrency.Target),
		load: 100 * d.Last / (l.Concurrency.Target * float64(max(d.Ready, 1))),
	}
	if metrics == nil || len(metrics.Proposals) == 0 { // those of a schedule have ended
		return p
	}
	if metrics.Desired >= d.Desired {
		p.to, p.by, p.reasons = metrics.Desired, metricText(metrics), metrics.Reasons
	}
	if load := loadOf(metrics); load > p.load {
		p.load = load
	}
	return p
}

// changed are the points of a run that changed the number of replicas.
func (r *scalingRun) changed() []point {
	return slices.DeleteFunc(points(&r.Recording), func(p point) bool { return p.from == p.to })
}

// changesGrid is a line for each of the first changes.
func (r *scalingRun) changesGrid() *grid {
	g := &grid{head: []string{"TIME", "REPLICAS", "METRIC", "REASONS"}}
	all := r.changed()
	for _, p := range all[:min(len(all), maxChanges)] {
		g.add(plainCells(moment(p.at, r.from), fmt.Sprintf("%d to %d", p.from, p.to), p.by, strings.Join(reasonNames(p.reasons), ", "))...)
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
	load, replicas := course(&r.Recording)
	load.Name, replicas.Name = "load", "replicas"
	counts := plot.Panel{Title: "replicas", Whole: true, Series: []plot.Series{replicas}}
	if r.Without != nil {
		_, without := course(&r.unpredicted)
		counts.Series[0].Name, without.Name = "replicas with predict", "replicas without"
		counts.Series = append(counts.Series, without)
	}
	return &plot.Chart{
		Title: r.Service + ": load and replicas", From: r.from, To: r.to,
		Panels: []plot.Panel{{Title: "load, in % of the target", Unit: "%", Mark: 100, Series: []plot.Series{load}}, counts},
	}
}

// course is what was measured at every point, and the number that was decided on.
func course(r *scalesim.Recording) (load, replicas plot.Series) {
	for _, p := range points(r) {
		load.At, load.Values = append(load.At, p.at), append(load.Values, p.load)
		replicas.At, replicas.Values = append(replicas.At, p.at), append(replicas.Values, float64(p.to))
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
