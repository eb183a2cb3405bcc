package scaling

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"
)

// Limits of what a policy may ask for; those of windows and periods are
// Kubernetes' own.
const (
	MaxReplicas = 10_000           // of one service
	MaxWindow   = time.Hour        // of stabilization
	MaxPeriod   = 30 * time.Minute // of a limit
)

// The defaults, which are those of Kubernetes.
const (
	DefaultInterval    = 15 * time.Second
	DefaultTolerance   = 0.1
	DefaultUtilization = 80 // percent of the reservation of cpu
	DefaultDownWindow  = 5 * time.Minute
)

// cpuInitialization is how long after its start a replica's use of cpu is
// counted only while it is ready.
const cpuInitialization = 5 * time.Minute

// Source is what a metric measures.
type Source string

// The sources.
const (
	FromResource Source = "resource" // what a replica uses of cpu or memory
	FromReplicas Source = "replicas" // anything else that each replica has its own value of
	FromExternal Source = "external" // one value for the whole service, as the length of a queue
)

// The resources by name.
const (
	CPU    = "cpu"
	Memory = "memory"
)

// Metric is a figure and the value that it should have. Exactly one target is
// set. Quantities are millicores of cpu, bytes of memory and thousandths of
// anything else, as Kubernetes counts them.
type Metric struct {
	Source Source `json:"source"`
	Name   string `json:"name"` // [CPU] or [Memory] of a resource
	// Utilization is the target in percent of the reservation, summed over the
	// replicas; of a resource only.
	Utilization int64 `json:"utilization,omitempty"`
	// AverageValue is the target per replica; of an external metric it divides the
	// total.
	AverageValue int64 `json:"averageValue,omitempty"`
	// Value is the target for the one value of an external metric.
	Value int64 `json:"value,omitempty"`
}

func (m Metric) target() int64 { return cmp.Or(m.Utilization, m.AverageValue, m.Value) }

// Policy says how many replicas a service has. The zero value of each field but
// Max is its default.
type Policy struct {
	Min     *int     `json:"min,omitempty"`     // 0 to Max; 1
	Max     int      `json:"max"`               // 1 to [MaxReplicas]
	Metrics []Metric `json:"metrics,omitempty"` // cpu at 80 % of the reservation
	// Fixed is the number of replicas, 0 to [MaxReplicas], whatever is measured. It
	// is how a [Schedule] or a person overrules the rest.
	Fixed *int `json:"fixed,omitempty"`
	// Behavior tells how fast the number may change. Without one, it doubles at most
	// (or rises to 4), the down window is 5 minutes, and nothing else limits it.
	Behavior  *Behavior     `json:"behavior,omitempty"`
	Tolerance Tolerance     `json:"tolerance,omitzero"`
	Interval  time.Duration `json:"interval,omitempty"` // between decisions; 15 s
}

// Tolerance is by which part of the target a metric may miss it without
// consequence, both ends included: 0 to 1, by default 0.1.
type Tolerance struct {
	Up   *float64 `json:"up,omitempty"`
	Down *float64 `json:"down,omitempty"`
}

// Behavior says how fast the number may change in each direction.
type Behavior struct {
	Up   Rules `json:"up,omitzero"`
	Down Rules `json:"down,omitzero"`
}

// Rules limit the change in one direction. The zero value of each field is its
// default.
type Rules struct {
	// Window is the stabilization window, 0 to [MaxWindow]: the number rises only to
	// the lowest recommendation of the window and falls only to the highest. By
	// default 0 up and 5 minutes down.
	Window *time.Duration `json:"window,omitempty"`
	// Limits are by default 4 replicas or 100 % in 15 s up, and 100 % in 15 s down.
	Limits []Limit `json:"limits,omitempty"`
	Select Select  `json:"select,omitempty"` // among the limits; [SelectMax]
}

// Select says which of several limits holds.
type Select string

// The choices.
const (
	SelectMax      Select = "max" // the one that allows the largest change
	SelectMin      Select = "min" // the one that allows the smallest
	SelectDisabled Select = "disabled"
)

// Unit is what a limit counts in.
type Unit string

// The units.
const (
	Replicas Unit = "replicas"
	Percent  Unit = "percent" // of the number at the beginning of the period
)

// Limit is by how much the number may change within a period.
type Limit struct {
	Unit   Unit          `json:"unit"`
	Value  int           `json:"value"`  // above 0
	Period time.Duration `json:"period"` // above 0, at most [MaxPeriod]
}

// String is the limit as "4 replicas/15s".
func (l Limit) String() string {
	if l.Unit == Percent {
		return fmt.Sprintf("%d %%/%s", l.Value, l.Period)
	}
	return fmt.Sprintf("%d replicas/%s", l.Value, l.Period)
}

// Validate returns everything that is wrong with the policy, each with the path of
// the field.
func (p Policy) Validate() []error {
	var errs faults
	least := defaulted(p.Min, 1)
	errs.check(p.Max >= 1 && p.Max <= MaxReplicas, "max: is %d: give 1 to %d", p.Max, MaxReplicas)
	errs.check(least >= 0 && least <= max(p.Max, 1), "min: is %d: give 0 to max", least)
	fixed := defaulted(p.Fixed, 0)
	errs.check(fixed >= 0 && fixed <= MaxReplicas, "fixed: is %d: give 0 to %d", fixed, MaxReplicas)
	errs.check(p.Interval >= 0 && p.Interval <= MaxWindow, "interval: is %s: give up to %s", p.Interval, MaxWindow)
	errs.tolerance("tolerance.up", p.Tolerance.Up)
	errs.tolerance("tolerance.down", p.Tolerance.Down)
	if p.Behavior != nil {
		errs.rules("behavior.up", p.Behavior.Up)
		errs.rules("behavior.down", p.Behavior.Down)
	}
	names := map[string]bool{}
	for i, m := range p.Metrics {
		errs.metric(fmt.Sprintf("metrics[%d]", i), m)
		errs.check(!names[m.Name], "metrics[%d].name: %q is declared twice: each metric needs a name of its own", i, m.Name)
		names[m.Name] = true
	}
	errs.check(least > 0 || p.hasExternal(),
		"min: is 0, but no metric has a value without replicas: add an external metric, or give a min of 1")
	return errs
}

func (p Policy) hasExternal() bool {
	return slices.ContainsFunc(p.Metrics, func(m Metric) bool { return m.Source == FromExternal })
}

// faults are what is wrong with a policy.
type faults []error

func (f *faults) check(ok bool, format string, args ...any) {
	if !ok {
		*f = append(*f, fmt.Errorf(format, args...))
	}
}

func (f *faults) tolerance(path string, t *float64) {
	v := defaulted(t, DefaultTolerance)
	f.check(v >= 0 && v <= 1, "%s: is %v: give 0 to 1", path, v)
}

func (f *faults) metric(path string, m Metric) {
	f.check(m.Name != "", "%s.name: is missing", path)
	set := 0
	for _, t := range []int64{m.Utilization, m.AverageValue, m.Value} {
		f.check(t >= 0, "%s: has a target of %d: targets are above 0", path, t)
		if t != 0 {
			set++
		}
	}
	f.check(set == 1, "%s: has %d targets: give one", path, set)
	switch m.Source {
	case FromResource:
		f.check(m.Name == CPU || m.Name == Memory, "%s.name: %q is no resource: give %s or %s", path, m.Name, CPU, Memory)
		f.check(m.Value == 0, "%s.value: is for external metrics: give utilization or averageValue", path)
		f.check(m.Utilization <= math.MaxInt32, "%s.utilization: is %d: it is in percent", path, m.Utilization)
	case FromReplicas:
		f.check(m.Value == 0 && m.Utilization == 0, "%s: a metric of each replica has an averageValue and no other target", path)
	case FromExternal:
		f.check(m.Utilization == 0, "%s.utilization: an external metric has no reservation: give value or averageValue", path)
	default:
		f.check(false, "%s.source: is %q: give %s, %s or %s", path, m.Source, FromResource, FromReplicas, FromExternal)
	}
}

func (f *faults) rules(path string, r Rules) {
	w := defaulted(r.Window, 0)
	f.check(w >= 0 && w <= MaxWindow, "%s.window: is %s: give 0 to %s", path, w, MaxWindow)
	switch r.Select {
	case "", SelectMax, SelectMin, SelectDisabled:
	default:
		f.check(false, "%s.select: is %q: give %s, %s or %s", path, r.Select, SelectMax, SelectMin, SelectDisabled)
	}
	for i, l := range r.Limits {
		at := fmt.Sprintf("%s.limits[%d]", path, i)
		f.check(l.Unit == Replicas || l.Unit == Percent, "%s.unit: is %q: give %s or %s", at, l.Unit, Replicas, Percent)
		f.check(l.Value > 0 && l.Value <= math.MaxInt32, "%s.value: is %d: give more than 0", at, l.Value)
		f.check(l.Period > 0 && l.Period <= MaxPeriod, "%s.period: is %s: give up to %s", at, l.Period, MaxPeriod)
	}
}

// defaulted is what an optional field stands for.
func defaulted[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}

// What holds where a policy says nothing.
var (
	defaultMetrics = []Metric{{Source: FromResource, Name: CPU, Utilization: DefaultUtilization}}
	defaultUp      = []Limit{{Replicas, 4, 15 * time.Second}, {Percent, 100, 15 * time.Second}}
	defaultDown    = []Limit{{Percent, 100, 15 * time.Second}}
)

// settings are a policy with its defaults filled in.
type settings struct {
	min, max        int
	fixed           *int
	metrics         []Metric
	up, down        Rules
	doubles         bool // there is no behavior: at most twice the number, or 4
	upWindow        time.Duration
	downWindow      time.Duration
	tolUp, tolDown  float64
	interval        time.Duration
	longest, forget time.Duration // period of a limit; the gap after which a state says nothing
}

// resolve fills in the defaults. What [Policy.Validate] refuses is brought into
// range.
func (s *settings) resolve(p *Policy) {
	s.max = min(max(p.Max, 1), MaxReplicas)
	s.min = min(max(defaulted(p.Min, 1), 0), s.max)
	s.fixed = p.Fixed
	s.interval = cmp.Or(max(p.Interval, 0), DefaultInterval)
	s.tolUp, s.tolDown = fraction(p.Tolerance.Up), fraction(p.Tolerance.Down)
	if s.metrics = p.Metrics; len(s.metrics) == 0 {
		s.metrics = defaultMetrics
	}
	if s.doubles = p.Behavior == nil; !s.doubles {
		s.up, s.down = p.Behavior.Up, p.Behavior.Down
	}
	s.upWindow = within(defaulted(s.up.Window, 0), MaxWindow)
	s.downWindow = within(defaulted(s.down.Window, DefaultDownWindow), MaxWindow)
	s.forget = max(s.upWindow, s.downWindow) + 2*s.interval
	if s.doubles {
		return
	}
	if len(s.up.Limits) == 0 {
		s.up.Limits = defaultUp
	}
	if len(s.down.Limits) == 0 {
		s.down.Limits = defaultDown
	}
	for _, rules := range [...]*Rules{&s.up, &s.down} {
		for _, l := range rules.Limits {
			s.longest = max(s.longest, within(l.Period, MaxPeriod))
		}
	}
}

// within is a length of time that is neither negative nor longer than most.
func within(d, most time.Duration) time.Duration { return min(max(d, 0), most) }

// fraction is a tolerance that is a number between 0 and 1 whatever was given.
func fraction(t *float64) float64 {
	v := defaulted(t, DefaultTolerance)
	if !(v >= 0) { // not a number either
		return DefaultTolerance
	}
	return min(v, 1)
}
