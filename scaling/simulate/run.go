package simulate

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/berth-dev/berth/scaling"
	"github.com/berth-dev/berth/scaling/forecast"
	"github.com/berth-dev/berth/scaling/timetable"
)

// maxDecisions bounds a run.
const maxDecisions = 1_000_000

// Model is the service that is simulated.
type Model struct {
	// Start is how many replicas there are at the beginning, all of them ready; 0:
	// what the trace says, or the policy's minimum.
	Start int
	// Delay is how long a new replica takes until it is ready, 0 or more.
	Delay time.Duration
	// CPU and Memory are what a replica has reserved, in millicores and bytes.
	CPU    int64
	Memory int64
	// Schedules change the policy by the time of the trace.
	Schedules timetable.Table
	// Concurrency decides too, once a second, by the trace's column of that name: what is
	// under way at once over all replicas. nil: only the metrics decide.
	Concurrency *scaling.Concurrency
	// Series learns from the run what is needed at which time, and has replicas ready
	// for what it expects. It is changed in place; nil: nothing is expected.
	Series *forecast.Series
}

// Step is one decision and everything that it followed from.
type Step struct {
	Policy   scaling.Policy   `json:"policy"`
	Input    scaling.Input    `json:"input"`
	Decision scaling.Decision `json:"decision"`
}

// Summary is what came of a run.
type Summary struct {
	Decisions int           `json:"decisions"`
	Changes   int           `json:"changes"` // decisions that changed the number
	Span      time.Duration `json:"span"`    // of the trace
	// ReplicaSeconds is how long replicas existed, added up, in seconds.
	ReplicaSeconds float64 `json:"replicaSeconds"`
	// Over is how long a metric was above its target, as when all replicas together
	// had more to do than their share, and Unserved how long there was something to do
	// and no replica ready.
	Over     time.Duration `json:"over"`
	Unserved time.Duration `json:"unserved"`
	Least    int           `json:"least"` // replicas at once
	Most     int           `json:"most"`
}

// Concurrency is the column of a trace that tells what is under way at once.
const Concurrency = "concurrency"

// lookEvery is how often it is looked at that.
const lookEvery = time.Second

// Run lets a policy follow a trace, with a decision every interval of the policy,
// the first at the time of the first row. What the policy scales by and the trace
// does not have is an error.
func Run(policy scaling.Policy, trace Trace, model Model) (Recording, Summary, error) {
	r := run{policy: policy, trace: trace, model: model, out: Recording{Steps: []Step{}}}
	if err := r.begin(); err != nil {
		return Recording{}, Summary{}, err
	}
	end := trace.Rows[len(trace.Rows)-1].At
	for next := r.now; r.now.Before(end); {
		if !r.now.Before(next) {
			r.decide()
			if next = r.due; model.Concurrency != nil {
				next = r.now.Add(lookEvery)
			}
		}
		r.pass(r.until(next, end))
	}
	r.sum.Span = end.Sub(trace.Rows[0].At)
	r.sum.Decisions = len(r.out.Steps) + len(r.out.Looks)
	return r.out, r.sum, nil
}

// run is a simulation under way.
type run struct {
	policy   scaling.Policy
	trace    Trace
	model    Model
	columns  []int // of the trace, by metric of the policy
	atOnce   int   // the column of what is under way at once
	now      time.Time
	row      int
	replicas []replica // oldest first
	state    scaling.State
	due      time.Time // when the metrics are measured next
	held     scaling.ConcurrencyState
	load     []scaling.Load
	out      Recording
	sum      Summary
}

type replica struct{ started, ready time.Time }

func (r *run) begin() error {
	checked := r.policy
	if c := r.model.Concurrency; c != nil && checked.Min != nil && *checked.Min == 0 {
		checked.Min = nil // what is under way has a value without replicas
	}
	if errs := checked.Validate(); len(errs) > 0 {
		return fmt.Errorf("policy: %w", errors.Join(errs...))
	}
	if len(r.trace.Rows) == 0 {
		return errors.New("the trace has no rows")
	}
	if c := r.model.Concurrency; c != nil {
		if errs := c.Within(r.policy, nil).Validate(); len(errs) > 0 {
			return fmt.Errorf("concurrency: %w", errors.Join(errs...))
		}
		if r.atOnce = slices.Index(r.trace.Metrics, Concurrency); r.atOnce < 0 {
			return fmt.Errorf("the trace has no column %q, which the policy scales by", Concurrency)
		}
	} else if len(r.policy.Metrics) == 0 {
		r.policy.Metrics = []scaling.Metric{{Source: scaling.FromResource, Name: scaling.CPU, Utilization: scaling.DefaultUtilization}}
	}
	for _, m := range r.policy.Metrics {
		i := slices.Index(r.trace.Metrics, m.Name)
		if i < 0 {
			return fmt.Errorf("the trace has no column %q, which the policy scales by", m.Name)
		}
		if m.Utilization != 0 && r.reservation(m.Name) <= 0 {
			return fmt.Errorf("the model has no reservation of %s, which the policy's target is a part of", m.Name)
		}
		r.columns = append(r.columns, i)
	}
	first, last := r.trace.Rows[0], r.trace.Rows[len(r.trace.Rows)-1]
	interval := cmp.Or(r.policy.Interval, scaling.DefaultInterval)
	if r.model.Concurrency != nil {
		interval = lookEvery
	}
	if span := last.At.Sub(first.At); span/interval > maxDecisions {
		return fmt.Errorf("the trace spans %s, which is more than %d intervals of %s: give a longer interval", span, maxDecisions, interval)
	}
	r.now = first.At
	n := r.start(first)
	for range n {
		r.replicas = append(r.replicas, replica{first.At.Add(-time.Hour), first.At.Add(-time.Hour)})
	}
	r.sum.Least, r.sum.Most = n, n
	return nil
}

func (r *run) start(first Row) int {
	least := 1
	if r.policy.Min != nil {
		least = *r.policy.Min
	}
	switch {
	case r.model.Start > 0:
		return min(r.model.Start, scaling.MaxReplicas)
	case first.Replicas >= 0:
		return first.Replicas
	default:
		return least
	}
}

func (r *run) reservation(metric string) int64 {
	switch metric {
	case scaling.CPU:
		return r.model.CPU
	case scaling.Memory:
		return r.model.Memory
	default:
		return 0
	}
}

func (r *run) ready() int64 {
	n := int64(0)
	for _, rep := range r.replicas {
		if !rep.ready.After(r.now) {
			n++
		}
	}
	return n
}

// decide asks the policy and does what it says at once. Metrics are measured when
// they are due; between that their last number counts.
func (r *run) decide() {
	policy, n, scheduled := r.policy, len(r.replicas), (*int)(nil)
	if firing, ok := r.model.Schedules.Active(r.now); ok {
		policy, scheduled = firing.Apply(policy), firing.Schedule.Min
	}
	asks := len(policy.Metrics) > 0 || policy.Fixed != nil
	if asks && !r.now.Before(r.due) {
		r.byMetrics(policy)
	}
	if steps := r.out.Steps; asks {
		n = steps[len(steps)-1].Decision.Desired
	}
	if r.model.Concurrency != nil && policy.Fixed == nil {
		d := r.byConcurrency(r.model.Concurrency.Within(policy, scheduled))
		if !asks {
			n = d.Desired
		} else {
			n = d.Beside(n, policy)
		}
	}
	r.scale(n)
}

// byMetrics decides by what the trace has of the metrics.
func (r *run) byMetrics(policy scaling.Policy) {
	in := r.input()
	if s := r.model.Series; s != nil {
		in.Forecast = s.At(r.now.Add(cmp.Or(policy.Interval, scaling.DefaultInterval)), r.now).Replicas()
	}
	d, state := scaling.Decide(policy, r.state, in, r.now)
	r.out.Steps = append(r.out.Steps, Step{policy, in, d})
	r.state, r.due = state, d.Next
	if need, known := d.Need(); known && r.model.Series != nil {
		r.model.Series.Observe(r.now, need)
	}
}

// byConcurrency decides by what the trace has under way at once.
func (r *run) byConcurrency(c scaling.Concurrency) *scaling.ConcurrencyDecision {
	now := scaling.Load{At: r.now, AtOnce: float64(r.underWay()) / 1000}
	r.load = scaling.RecentLoad(append(r.load, now))
	d, next := c.Decide(r.held, len(r.replicas), int(r.ready()), r.load, r.now)
	r.held = next
	r.out.Looks = append(r.out.Looks, Look{Concurrency: c, Load: []scaling.Load{now}, Decision: d})
	return &d
}

// underWay is what is under way at once, in thousandths.
func (r *run) underWay() int64 { return r.trace.Rows[r.row].Values[r.atOnce] }

// scale makes the number of replicas what was decided.
func (r *run) scale(n int) {
	if n != len(r.replicas) {
		r.sum.Changes++
	}
	for len(r.replicas) < n {
		r.replicas = append(r.replicas, replica{r.now, r.now.Add(max(r.model.Delay, 0))})
	}
	r.replicas = r.replicas[:n] // the newest go first
	r.sum.Least, r.sum.Most = min(r.sum.Least, n), max(r.sum.Most, n)
}

// input is what would be measured now.
func (r *run) input() scaling.Input {
	in := scaling.Input{Current: len(r.replicas)}
	ready := r.ready()
	for i, rep := range r.replicas {
		in.Replicas = append(in.Replicas, r.measured(i, rep, ready))
	}
	for i, m := range r.policy.Metrics {
		if m.Source == scaling.FromExternal {
			in.External = append(in.External, scaling.External{Metric: m.Name, Value: r.value(i)})
		}
	}
	return in
}

func (r *run) measured(i int, rep replica, ready int64) scaling.Replica {
	out := scaling.Replica{Name: fmt.Sprint(i + 1), Phase: scaling.Running, Started: rep.started, ReadyChanged: rep.started}
	if !rep.ready.After(r.now) {
		out.Ready, out.WasReady, out.ReadyChanged = true, true, rep.ready
	}
	for k, m := range r.policy.Metrics {
		if m.Source == scaling.FromExternal {
			continue
		}
		s := scaling.Sample{Metric: m.Name, Reservation: r.reservation(m.Name), At: r.now}
		if out.Ready {
			s.Value = r.value(k) / ready
		}
		out.Samples = append(out.Samples, s)
	}
	return out
}

// value is the value of a metric of the policy over the whole service.
func (r *run) value(metric int) int64 {
	return r.trace.Rows[r.row].Values[r.columns[metric]]
}

// until is when anything changes next.
func (r *run) until(tick, end time.Time) time.Time {
	next := end
	for _, at := range []time.Time{tick, r.trace.Rows[r.row+1].At} {
		if at.Before(next) {
			next = at
		}
	}
	for _, rep := range r.replicas {
		if rep.ready.After(r.now) && rep.ready.Before(next) {
			next = rep.ready
		}
	}
	return next
}

// pass lets the time pass, in which nothing changes.
func (r *run) pass(to time.Time) {
	span := to.Sub(r.now)
	r.sum.ReplicaSeconds += span.Seconds() * float64(len(r.replicas))
	ready := r.ready()
	over, work := false, false
	for i, m := range r.policy.Metrics {
		v := r.value(i)
		work = work || v > 0
		over = over || r.over(m, v, ready)
	}
	if c := r.model.Concurrency; c != nil {
		v := r.underWay()
		work = work || v > 0
		over = over || float64(v) > 1000*c.Target*float64(ready)
	}
	if over {
		r.sum.Over += span
	}
	if work && ready == 0 {
		r.sum.Unserved += span
	}
	r.now = to
	if r.row+1 < len(r.trace.Rows) && !to.Before(r.trace.Rows[r.row+1].At) {
		r.row++
	}
}

// over reports whether a value over all replicas is more than their targets
// together.
func (r *run) over(m scaling.Metric, v, ready int64) bool {
	switch {
	case m.Value != 0:
		return v > m.Value
	case m.Utilization != 0:
		return float64(v)*100 > float64(m.Utilization)*float64(r.reservation(m.Name))*float64(ready)
	default:
		return float64(v) > float64(m.AverageValue)*float64(ready)
	}
}
