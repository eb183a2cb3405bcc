package scaling_test

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/scaling"
)

// noon is the time of the first decision of a test.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// replicas reads one replica per word, which is the value of a metric or "-" for
// none, followed by: u has never been ready, n is not ready now, h was started a
// minute ago and became ready after its sample, p pending, f failed, d being
// removed. Each has a reservation of 1000, or what follows a slash.
func replicas(metric, words string) []scaling.Replica {
	var all []scaling.Replica
	for i, word := range strings.Fields(words) {
		word, reserved, found := strings.Cut(word, "/")
		if !found {
			reserved = "1000"
		}
		value := strings.TrimRight(word, "unhpfd")
		r := scaling.Replica{
			Name: strconv.Itoa(i + 1), Phase: scaling.Running, Ready: true, WasReady: true,
			Started: noon.Add(-time.Hour), ReadyChanged: noon.Add(-50 * time.Minute),
		}
		s := scaling.Sample{Metric: metric, Reservation: number(reserved), At: noon.Add(-10 * time.Second), Window: 30 * time.Second}
		if s.Missing = value == "-"; !s.Missing {
			s.Value = number(value)
		}
		switch strings.TrimPrefix(word, value) {
		case "u":
			r.Ready, r.WasReady = false, false
		case "n":
			r.Ready = false
		case "h":
			r.Started, r.ReadyChanged = noon.Add(-time.Minute), noon.Add(-20*time.Second)
		case "p":
			r.Phase, r.Ready, r.Started = scaling.Pending, false, time.Time{}
		case "f":
			r.Phase, r.Ready = scaling.Failed, false
		case "d":
			r.Phase = scaling.Removing
		}
		r.Samples = []scaling.Sample{s}
		all = append(all, r)
	}
	return all
}

func number(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		panic(err)
	}
	return n
}

// free is a behavior that stands in the way of nothing, so that the number decided
// is the number proposed.
func free() *scaling.Behavior {
	lots := []scaling.Limit{{Unit: scaling.Replicas, Value: 10_000, Period: time.Second}}
	return &scaling.Behavior{
		Up:   scaling.Rules{Window: new(time.Duration(0)), Limits: lots},
		Down: scaling.Rules{Window: new(time.Duration(0)), Limits: lots},
	}
}

// The figures of most cases are those of Kubernetes' replica_calculator_test.go.
func TestProposalPerReplica(t *testing.T) {
	cpu := func(target int64) scaling.Metric {
		return scaling.Metric{Source: scaling.FromResource, Name: scaling.CPU, Utilization: target}
	}
	plain := func(target int64) scaling.Metric {
		return scaling.Metric{Source: scaling.FromReplicas, Name: "qps", AverageValue: target}
	}
	const tolerance, turned, against = scaling.KeptTolerance, scaling.KeptTurned, scaling.KeptAgainst
	tests := []struct {
		name     string
		metric   scaling.Metric
		current  int
		replicas string
		now      int64 // the figure found
		want     int
		kept     scaling.Kept
	}{
		{"up", cpu(30), 3, "300 500 700", 50, 5, ""},
		{"up, the unready use nothing", cpu(30), 3, "300u 500 700", 60, 4, ""},
		{"up, what was started just now uses nothing", cpu(30), 3, "300h 500 700", 60, 4, ""},
		{"up, but not with the unready", cpu(30), 3, "400 500u 700u", 40, 3, turned},
		{"up a little, but not with a pending one", cpu(50), 5, "580 580 580 580 580 0p", 58, 5, turned},
		{"up, pending replicas use nothing", cpu(30), 3, "600 600 0p", 60, 4, ""},
		{"failed ones are not there", cpu(30), 2, "500 700 900f 900f", 60, 4, ""},
		{"those being removed are not there", cpu(30), 2, "500 700 0d", 60, 4, ""},
		{"down", cpu(50), 5, "100 300 500 250 250", 28, 3, ""},
		{"down, the unready stay out", cpu(50), 5, "100 300 500 250u 250u", 30, 2, ""},
		{"not ready now, but was once", cpu(50), 3, "100n 100 100", 10, 1, ""},
		{"a mean of sums, not of ratios", cpu(50), 2, "900/1000 0/9000", 9, 1, ""},
		{"percent are cut", cpu(80), 3, "895 895 896", 89, 4, ""},
		{"within", cpu(100), 3, "1010/900 1030/1000 1020/1100", 102, 3, tolerance},
		{"the upper border", cpu(80), 10, strings.Repeat("880 ", 10), 88, 10, tolerance},
		{"above it", cpu(80), 10, strings.Repeat("890 ", 10), 89, 12, ""},
		{"the lower border", cpu(80), 10, strings.Repeat("720 ", 10), 72, 10, tolerance},
		{"below it", cpu(80), 10, strings.Repeat("719 ", 10), 71, 9, ""},
		{"down, the missing use all", cpu(100), 4, "400 95 - -", 24, 3, ""},
		{"down, the missing use the target above 100 %", cpu(200), 4, "100 100 - -", 10, 3, ""},
		{"at the target with missing ones", cpu(100), 2, "1000 -", 100, 2, tolerance},
		{"up, the missing use nothing", cpu(100), 2, "1900 -", 190, 2, turned},
		{"down, but not with the missing", cpu(50), 4, "100 100 - -", 10, 4, turned},
		{"down less", cpu(100), 2, "600 -", 60, 2, ""},
		{"unready and missing, up", cpu(50), 3, "100u 2000 -", 200, 4, ""},
		{"unready and missing, down", cpu(50), 4, "100u 100 100 -", 10, 3, ""},
		{"unready and missing, within", cpu(50), 3, "100u 450 -", 45, 3, tolerance},
		{"more replicas than wanted, moving against", cpu(50), 2, "400 400 400 400 -", 40, 2, turned},
		{"fewer wanted than counted", cpu(100), 2, "500 500 500 500 -", 50, 2, against},
		{"more wanted than there are", cpu(50), 6, "900 900 -", 90, 6, against},
		{"nothing used", cpu(80), 3, "0 0 0", 0, 0, ""},

		{"mean", plain(15000), 3, "20000 10000 30000", 20000, 4, ""},
		{"readiness is of no matter to other than cpu", plain(15000), 3, "50000u 10000 30000h", 30000, 6, ""},
		{"pending is", plain(15000), 3, "50000 10000 0p", 30000, 4, ""},
		{"mean down", plain(20000), 5, "12000 12000 12000 12000 12000", 12000, 3, ""},
		{"mean down, missing ones are at the target", plain(10000), 4, "1000 1000 1000 -", 1000, 2, ""},
		{"mean up, missing ones have nothing", plain(10000), 3, "20000 20000 -", 20000, 4, ""},
		{"mean at the target with missing ones", plain(10000), 3, "10000 10000 -", 10000, 3, tolerance},
		{"a mean is cut", plain(1), 3, "1 2 2", 1, 3, tolerance},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			policy := scaling.Policy{Min: new(1), Max: 100, Metrics: []scaling.Metric{tt.metric}, Behavior: free()}
			in := scaling.Input{Current: tt.current, Replicas: replicas(tt.metric.Name, tt.replicas)}
			d, _ := scaling.Decide(policy, scaling.State{}, in, noon)
			p := d.Proposals[0]
			if p.Replicas != tt.want || p.Now != tt.now || p.Kept != tt.kept || p.Invalid != "" {
				t.Errorf("got %+v, want %d of %d %s", p, tt.want, tt.now, tt.kept)
			}
			if want := max(tt.want, 1); d.Desired != want {
				t.Errorf("decided %d, want %d: %v", d.Desired, want, d)
			}
		})
	}
}

// A resource's plain value follows the rules of cpu too, and those of memory do
// not know readiness.
func TestProposalOfAResourceValue(t *testing.T) {
	tests := []struct {
		metric scaling.Metric
		want   int
	}{
		{scaling.Metric{Source: scaling.FromResource, Name: scaling.CPU, AverageValue: 300}, 4},
		{scaling.Metric{Source: scaling.FromResource, Name: scaling.Memory, AverageValue: 300}, 5},
		{scaling.Metric{Source: scaling.FromResource, Name: scaling.Memory, Utilization: 30}, 5},
	}
	for _, tt := range tests {
		policy := scaling.Policy{Max: 100, Metrics: []scaling.Metric{tt.metric}, Behavior: free()}
		in := scaling.Input{Current: 3, Replicas: replicas(tt.metric.Name, "300u 500 700")}
		if d, _ := scaling.Decide(policy, scaling.State{}, in, noon); d.Desired != tt.want {
			t.Errorf("%+v: got %v, want %d", tt.metric, d, tt.want)
		}
	}
}

// Whether the use of cpu of a replica counts.
func TestWarming(t *testing.T) {
	ago := func(d time.Duration) time.Time { return noon.Add(-d) }
	const window = 30 * time.Second
	tests := []struct {
		name    string
		replica scaling.Replica
		sampled time.Time
		unready bool
	}{
		{"start unknown", scaling.Replica{Ready: true, WasReady: true}, noon, true},
		{"young and ready for a window", scaling.Replica{Started: ago(time.Minute), Ready: true, ReadyChanged: ago(40 * time.Second)}, ago(10 * time.Second), false},
		{"young and sampled too early", scaling.Replica{Started: ago(time.Minute), Ready: true, ReadyChanged: ago(40 * time.Second)}, ago(10*time.Second + 1), true},
		{"young and not ready", scaling.Replica{Started: ago(time.Minute), WasReady: true, ReadyChanged: ago(50 * time.Second)}, noon, true},
		{"one moment before the end of the first five minutes", scaling.Replica{Started: ago(5*time.Minute - 1), WasReady: true, ReadyChanged: ago(4 * time.Minute)}, noon, true},
		{"at their end", scaling.Replica{Started: ago(5 * time.Minute), WasReady: true, ReadyChanged: ago(4 * time.Minute)}, noon, false},
		{"never ready", scaling.Replica{Started: ago(time.Hour), ReadyChanged: ago(time.Hour)}, noon, true},
		{"started in the future", scaling.Replica{Started: ago(-time.Hour), Ready: true, ReadyChanged: ago(time.Hour)}, noon, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.replica.Phase = scaling.Running
			tt.replica.Samples = []scaling.Sample{{Metric: scaling.CPU, Value: 100, Reservation: 100, At: tt.sampled, Window: window}}
			in := scaling.Input{Current: 2, Replicas: append(replicas(scaling.CPU, "10"), tt.replica)}
			d, _ := scaling.Decide(scaling.Policy{Max: 9}, scaling.State{}, in, noon)
			if got := d.Proposals[0].Unready == 1; got != tt.unready {
				t.Errorf("unready: %v, want %v", got, tt.unready)
			}
		})
	}
}

func TestProposalOfAnExternalMetric(t *testing.T) {
	value := scaling.Metric{Source: scaling.FromExternal, Name: "queue", Value: 15_000}
	average := scaling.Metric{Source: scaling.FromExternal, Name: "queue", AverageValue: 5_000}
	tests := []struct {
		name     string
		metric   scaling.Metric
		current  int
		replicas string
		value    int64
		want     int
	}{
		{"value up", value, 3, "0 0 0", 20_000, 4},
		{"value down", value, 5, "0 0 0 0 0", 9_000, 3},
		{"value counts the ready ones", value, 3, "0 0 0u", 20_000, 3},
		{"value counts no failed ones", value, 2, "0 0 0f", 30_000, 4},
		{"value within", value, 3, "0 0 0", 16_500, 3},
		{"value from zero", value, 0, "", 20_000, 2},
		{"value, but no replicas yet", value, 3, "", 90_000, 3},
		{"value stays zero", value, 0, "", 0, 0},
		{"value from zero has no tolerance", value, 0, "", 1, 1},
		{"value to zero", value, 3, "0 0 0", 0, 0},
		{"average up", average, 3, "0 0 0", 20_000, 4},
		{"average within", average, 3, "0 0 0", 16_500, 3},
		{"average needs no replicas", average, 3, "", 21_000, 5},
		{"average from zero", average, 0, "", 11_000, 3},
		{"average stays zero", average, 0, "", 0, 0},
		{"average to zero", average, 4, "0 0 0 0", 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			policy := scaling.Policy{Min: new(0), Max: 100, Metrics: []scaling.Metric{tt.metric}, Behavior: free()}
			in := scaling.Input{
				Current: tt.current, Replicas: replicas("x", tt.replicas),
				External: []scaling.External{{Metric: "queue", Value: tt.value}},
			}
			if d, _ := scaling.Decide(policy, scaling.State{}, in, noon); d.Desired != tt.want {
				t.Errorf("got %v, want %d", d, tt.want)
			}
		})
	}
}

// The largest proposal wins. What is not known never makes the service smaller.
func TestSeveralMetrics(t *testing.T) {
	policy := scaling.Policy{Max: 100, Behavior: free(), Metrics: []scaling.Metric{
		{Source: scaling.FromResource, Name: scaling.CPU, Utilization: 50},
		{Source: scaling.FromExternal, Name: "queue", AverageValue: 1000},
		{Source: scaling.FromExternal, Name: "jobs", AverageValue: 1000},
	}}
	queue := func(v int64) scaling.External { return scaling.External{Metric: "queue", Value: v} }
	jobs := func(v int64) scaling.External { return scaling.External{Metric: "jobs", Value: v} }
	broken := scaling.External{Metric: "jobs", Unavailable: "connection refused"}
	tests := []struct {
		name     string
		cpu      string
		external []scaling.External
		want     int
		metric   string
		last     scaling.Reason
	}{
		{"the largest", "1000 1000 1000", []scaling.External{queue(9_000), jobs(8_000)}, 9, "queue", scaling.DesiredWithinRange},
		{"the first of equals", "1000 1000 1000", []scaling.External{queue(6_000), jobs(6_000)}, 6, scaling.CPU, scaling.DesiredWithinRange},
		{"all down", "100 100 100", []scaling.External{queue(2_000), jobs(1_000)}, 2, "queue", scaling.DesiredWithinRange},
		{"one is invalid, the rest go up", "1000 1000 1000", []scaling.External{queue(2_000), broken}, 6, scaling.CPU, scaling.DesiredWithinRange},
		{"one is invalid, the rest stay", "500 500 500", []scaling.External{queue(2_000), broken}, 3, scaling.CPU, scaling.DesiredWithinRange},
		{"one is invalid, the rest go down", "100 100 100", []scaling.External{queue(2_000), broken}, 3, "", scaling.MetricsInvalid},
		{"one has no replicas to go by", "", []scaling.External{queue(9_000), jobs(1_000)}, 9, "queue", scaling.DesiredWithinRange},
		{"all are invalid", "- - -", []scaling.External{broken}, 3, "", scaling.MetricsInvalid},
		{"no reservation", "1000 1000/0 1000", []scaling.External{queue(1_000), jobs(0)}, 3, "", scaling.MetricsInvalid},
		{"a value below zero", "500 500 500", []scaling.External{queue(-1), jobs(9_000)}, 9, "jobs", scaling.DesiredWithinRange},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := scaling.Input{Current: 3, Replicas: replicas(scaling.CPU, tt.cpu), External: tt.external}
			d, s := scaling.Decide(policy, scaling.State{}, in, noon)
			if d.Desired != tt.want || d.Metric != tt.metric || d.Reasons[len(d.Reasons)-1] != tt.last {
				t.Errorf("got %+v, want %d by %q: %s", d, tt.want, tt.metric, tt.last)
			}
			if invalid := tt.last == scaling.MetricsInvalid; invalid && len(s.Recommendations) > 1 {
				t.Errorf("recommended without knowing: %v", s.Recommendations)
			}
		})
	}
}

// What is out of range comes back at once, and zero by hand is left alone.
func TestRangeBeforeMetrics(t *testing.T) {
	tests := []struct {
		name          string
		least, most   int
		current, want int
		reason        scaling.Reason
	}{
		{"above", 2, 5, 90, 5, scaling.TooManyReplicas},
		{"below", 4, 5, 1, 4, scaling.TooFewReplicas},
		{"zero by hand", 1, 5, 0, 0, scaling.ScalingDisabled},
		{"negative", 1, 5, -3, 0, scaling.ScalingDisabled},
		{"a minimum above the maximum", 9, 5, 5, 5, scaling.MetricsInvalid},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d, s := scaling.Decide(scaling.Policy{Min: &tt.least, Max: tt.most}, scaling.State{}, scaling.Input{Current: tt.current}, noon)
			if d.Desired != tt.want || !slices.Equal(d.Reasons, []scaling.Reason{tt.reason}) {
				t.Errorf("got %+v, want %d: %s", d, tt.want, tt.reason)
			}
			if change := tt.want - max(tt.current, 0); change != 0 && (len(s.Events) != 0) {
				t.Errorf("an event is kept that no limit asks for: %v", s.Events)
			}
		})
	}
}

// A number of zero that was decided ends with what decided it; one by hand stays.
func TestEmptiedComesBack(t *testing.T) {
	fixed := scaling.Policy{Max: 5, Fixed: new(0)}
	policy := scaling.Policy{Min: new(2), Max: 5}
	d, state := scaling.Decide(fixed, scaling.State{}, scaling.Input{Current: 4}, noon)
	if d.Desired != 0 || d.String() != "4 to 0: the number is fixed" {
		t.Fatalf("got %v", d)
	}
	_, state = scaling.Decide(fixed, clone(t, state), scaling.Input{Current: 0}, noon.Add(time.Minute))
	if d, state = scaling.Decide(policy, state, scaling.Input{Current: 0}, noon.Add(time.Hour)); d.Desired != 2 {
		t.Errorf("got %v", d)
	}
	if d, _ = scaling.Decide(policy, state, scaling.Input{Current: 0}, noon.Add(2*time.Hour)); d.Desired != 0 {
		t.Errorf("scaled to 0 by hand, but got %v", d)
	}
}

// run is a service whose queue asks for a number of replicas.
type run struct {
	t      *testing.T
	policy scaling.Policy
	state  scaling.State
	now    time.Time
	at     int
	last   scaling.Decision
	long   bool // too long to look at every state
}

func newRun(t *testing.T, b *scaling.Behavior, least, most, at int) *run {
	return &run{t: t, now: noon, at: at, policy: scaling.Policy{
		Min: &least, Max: most, Behavior: b, Metrics: []scaling.Metric{{Source: scaling.FromExternal, Name: "queue", AverageValue: 1000}},
		Tolerance: scaling.Tolerance{Up: new(0.0), Down: new(0.0)},
	}}
}

// ask lets the metric ask for n and returns what is decided.
func (r *run) ask(n int) int {
	r.t.Helper()
	in := scaling.Input{Current: r.at, External: []scaling.External{{Metric: "queue", Value: int64(n) * 1000}}}
	if r.long {
		r.last, r.state = scaling.Decide(r.policy, r.state, in, r.now)
		r.at = r.last.Desired
		return r.at
	}
	before := clone(r.t, r.state)
	d, next := scaling.Decide(r.policy, r.state, in, r.now)
	if diff := cmp.Diff(before, r.state); diff != "" {
		r.t.Errorf("the state given was changed: %s", diff)
	}
	if diff := cmp.Diff(next, clone(r.t, next)); diff != "" {
		r.t.Errorf("the state is not read back as it was written: %s", diff)
	}
	r.state, r.at, r.last = next, d.Desired, d
	return d.Desired
}

func (r *run) pass(d time.Duration) { r.now = r.now.Add(d) }

func clone(t *testing.T, s scaling.State) scaling.State {
	t.Helper()
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var out scaling.State
	if err := json.Unmarshal(data, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// script runs "ask n → want" lines, 15 seconds apart.
func (r *run) script(steps ...[2]int) {
	r.t.Helper()
	for i, s := range steps {
		if got := r.ask(s[0]); got != s[1] {
			r.t.Errorf("step %d at %s: asked for %d, got %d, want %d: %v", i, r.now.Sub(noon), s[0], got, s[1], r.last)
		}
		r.pass(15 * time.Second)
	}
}

func TestWithoutBehavior(t *testing.T) {
	newRun(t, nil, 1, 100, 1).script([2]int{50, 4}, [2]int{50, 8}, [2]int{50, 16}, [2]int{50, 32}, [2]int{50, 50})
	r := newRun(t, nil, 1, 100, 10)
	for range 20 { // of 15 s: the present number holds for 5 minutes after the start
		if got := r.ask(2); got != 10 || !slices.Contains(r.last.Reasons, scaling.ScaleDownStabilized) {
			t.Fatalf("%s: %v", r.now.Sub(noon), r.last)
		}
		r.pass(15 * time.Second)
	}
	r.script([2]int{2, 2})
}

func TestDefaultBehavior(t *testing.T) {
	b := &scaling.Behavior{}
	r := newRun(t, b, 1, 100, 1)
	r.script([2]int{50, 5}) // 4 more, not 100 %
	if !slices.Equal(r.last.Reasons, []scaling.Reason{scaling.ScaleUpLimit}) || r.last.Limit != 5 {
		t.Errorf("got %+v", r.last)
	}
	r.script([2]int{50, 10}, [2]int{50, 20}, [2]int{50, 40}, [2]int{50, 50}) // 100 %
	if !slices.Equal(r.last.Reasons, []scaling.Reason{scaling.DesiredWithinRange}) {
		t.Errorf("got %+v", r.last)
	}
	r.script([2]int{5, 50})
	if !slices.Equal(r.last.Reasons, []scaling.Reason{scaling.ScaleDownStabilized, scaling.DesiredWithinRange}) {
		t.Errorf("got %+v", r.last)
	}
}

func TestStabilization(t *testing.T) {
	b := free()
	b.Up.Window, b.Down.Window = new(60*time.Second), new(30*time.Second)
	r := newRun(t, b, 1, 100, 5)
	r.ask(5)
	r.pass(2 * time.Minute) // the windows are empty, and the gap makes the present number count
	r.script(
		[2]int{8, 5}, [2]int{9, 5}, [2]int{7, 5}, [2]int{9, 5}, // the 5 of the start
		[2]int{9, 7}, // lowest of the last minute: 8 9 7 9
		[2]int{9, 7}, [2]int{9, 9},
		[2]int{3, 9}, [2]int{3, 3}, // the 9 of 30 s before is out of the window
	)
	// Between both: the present number stays.
	r = newRun(t, b, 1, 100, 5)
	r.script([2]int{5, 5}, [2]int{2, 5}, [2]int{9, 5})
	if !slices.Contains(r.last.Reasons, scaling.ScaleUpStabilized) {
		t.Errorf("got %+v", r.last)
	}
}

// A window's border is outside of it.
func TestStabilizationBorder(t *testing.T) {
	for _, tt := range []struct {
		after time.Duration
		want  int
	}{{30*time.Second - 1, 10}, {30 * time.Second, 2}} {
		b := free()
		b.Down.Window = new(30 * time.Second)
		r := newRun(t, b, 1, 100, 10)
		r.ask(10)
		r.pass(tt.after)
		if got := r.ask(2); got != tt.want {
			t.Errorf("%s later: got %d, want %d", tt.after, got, tt.want)
		}
	}
}

func TestLimits(t *testing.T) {
	limit := func(u scaling.Unit, v int, s int) scaling.Limit {
		return scaling.Limit{Unit: u, Value: v, Period: time.Duration(s) * time.Second}
	}
	const num, pct = scaling.Replicas, scaling.Percent
	tests := []struct {
		name   string
		up     scaling.Rules
		down   scaling.Rules
		at     int
		script [][2]int
		reason scaling.Reason // of the last step
	}{
		{"replicas a minute", scaling.Rules{Limits: []scaling.Limit{limit(num, 4, 60)}}, scaling.Rules{}, 10,
			[][2]int{{50, 14}, {50, 14}, {50, 14}, {50, 14}, {50, 18}}, scaling.ScaleUpLimit},
		{"several steps of a period add up", scaling.Rules{Limits: []scaling.Limit{limit(num, 4, 60)}}, scaling.Rules{}, 10,
			[][2]int{{11, 11}, {13, 13}, {50, 14}, {50, 14}, {50, 15}}, scaling.ScaleUpLimit},
		{"percent round up", scaling.Rules{Limits: []scaling.Limit{limit(pct, 10, 15)}}, scaling.Rules{}, 1,
			[][2]int{{50, 2}, {50, 3}, {50, 4}}, scaling.ScaleUpLimit},
		{"percent as the floating point has it", scaling.Rules{Limits: []scaling.Limit{limit(pct, 10, 15)}}, scaling.Rules{}, 100,
			[][2]int{{200, 111}}, scaling.ScaleUpLimit},
		{"percent of the number at the beginning", scaling.Rules{Limits: []scaling.Limit{limit(pct, 50, 60)}}, scaling.Rules{}, 10,
			[][2]int{{12, 12}, {50, 15}, {50, 15}, {50, 15}, {50, 18}}, scaling.ScaleUpLimit},
		{"the larger of two", scaling.Rules{Limits: []scaling.Limit{limit(num, 1, 15), limit(pct, 100, 15)}}, scaling.Rules{}, 10,
			[][2]int{{50, 20}}, scaling.ScaleUpLimit},
		{"the smaller of two", scaling.Rules{Select: scaling.SelectMin, Limits: []scaling.Limit{limit(num, 1, 15), limit(pct, 100, 15)}}, scaling.Rules{}, 10,
			[][2]int{{50, 11}}, scaling.ScaleUpLimit},
		{"no way up", scaling.Rules{Select: scaling.SelectDisabled}, scaling.Rules{}, 10,
			[][2]int{{50, 10}}, scaling.ScaleUpLimit},
		{"the maximum", scaling.Rules{Limits: []scaling.Limit{limit(num, 500, 15)}}, scaling.Rules{}, 10,
			[][2]int{{500, 200}}, scaling.TooManyReplicas},
		{"the maximum at the limit", scaling.Rules{Limits: []scaling.Limit{limit(num, 190, 15)}}, scaling.Rules{}, 10,
			[][2]int{{500, 200}}, scaling.TooManyReplicas},

		{"down by replicas", scaling.Rules{}, scaling.Rules{Limits: []scaling.Limit{limit(num, 4, 60)}}, 50,
			[][2]int{{5, 46}, {5, 46}, {5, 46}, {5, 46}, {5, 42}}, scaling.ScaleDownLimit},
		{"down by percent is cut", scaling.Rules{}, scaling.Rules{Limits: []scaling.Limit{limit(pct, 10, 15)}}, 15,
			[][2]int{{5, 13}, {5, 11}}, scaling.ScaleDownLimit},
		{"down, the larger change", scaling.Rules{}, scaling.Rules{Limits: []scaling.Limit{limit(num, 1, 15), limit(pct, 50, 15)}}, 50,
			[][2]int{{5, 25}}, scaling.ScaleDownLimit},
		{"down, the smaller change", scaling.Rules{}, scaling.Rules{Select: scaling.SelectMin, Limits: []scaling.Limit{limit(num, 1, 15), limit(pct, 50, 15)}}, 50,
			[][2]int{{5, 49}}, scaling.ScaleDownLimit},
		{"no way down", scaling.Rules{}, scaling.Rules{Select: scaling.SelectDisabled}, 50,
			[][2]int{{5, 50}}, scaling.ScaleDownLimit},
		{"the minimum", scaling.Rules{}, scaling.Rules{}, 50, [][2]int{{1, 3}}, scaling.TooFewReplicas},
		{"each of two periods has its own beginning", scaling.Rules{Limits: []scaling.Limit{limit(num, 2, 15), limit(num, 3, 60)}}, scaling.Rules{}, 10,
			[][2]int{{50, 13}, {50, 15}, {50, 17}, {50, 19}, {50, 21}}, scaling.ScaleUpLimit},
		{"both directions count", scaling.Rules{Limits: []scaling.Limit{limit(num, 4, 60)}}, scaling.Rules{}, 10,
			[][2]int{{14, 14}, {10, 10}, {50, 14}}, scaling.ScaleUpLimit},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.down.Window = new(time.Duration(0))
			r := newRun(t, &scaling.Behavior{Up: tt.up, Down: tt.down}, 3, 200, tt.at)
			r.policy.Min = new(min(3, tt.at))
			r.script(tt.script...)
			if got := r.last.Reasons; !slices.Equal(got, []scaling.Reason{tt.reason}) {
				t.Errorf("got %v, want %v", got, tt.reason)
			}
		})
	}
}

// Tolerances of the two directions are apart, and 0 is one.
func TestTolerancePerDirection(t *testing.T) {
	tests := []struct {
		up, down *float64
		value    int64
		want     int
	}{
		{nil, nil, 110_000, 100}, {nil, nil, 110_001, 111}, {nil, nil, 90_000, 100}, {nil, nil, 89_999, 90},
		{new(0.5), nil, 150_000, 100}, {new(0.5), nil, 150_001, 151}, {new(0.5), nil, 89_000, 89},
		{nil, new(0.5), 50_000, 100}, {nil, new(0.5), 49_000, 49}, {nil, new(0.5), 111_000, 111},
		{new(0.0), new(0.0), 100_000, 100}, {new(0.0), new(0.0), 100_001, 101}, {new(0.0), new(0.0), 99_000, 99},
	}
	for _, tt := range tests {
		r := newRun(t, free(), 1, 1000, 100)
		r.policy.Tolerance = scaling.Tolerance{Up: tt.up, Down: tt.down}
		in := scaling.Input{Current: 100, External: []scaling.External{{Metric: "queue", Value: tt.value}}}
		if d, _ := scaling.Decide(r.policy, scaling.State{}, in, noon); d.Desired != tt.want {
			t.Errorf("%d: got %v, want %d", tt.value, d, tt.want)
		}
	}
}

// Clocks jump, and what was remembered still holds.
func TestClockJumps(t *testing.T) {
	for _, jump := range []time.Duration{time.Hour, -time.Hour, -56 * 365 * 24 * time.Hour} {
		t.Run(jump.String(), func(t *testing.T) {
			b := &scaling.Behavior{Up: scaling.Rules{Limits: []scaling.Limit{{Unit: scaling.Replicas, Value: 2, Period: time.Minute}}}}
			r := newRun(t, b, 1, 100, 10)
			r.script([2]int{50, 12})
			r.pass(jump)
			r.script([2]int{3, 12}) // the window holds it
			if jump < 0 {
				r.script([2]int{50, 12}) // and so does the limit
			}
			for range 20 {
				r.ask(3)
				r.pass(15 * time.Second)
			}
			if got := r.ask(3); got != 3 {
				t.Errorf("held for more than a window after the jump: %v", r.last)
			}
			for _, rec := range r.state.Recommendations {
				if rec.At.After(r.now) {
					t.Errorf("remembers the future: %v", rec)
				}
			}
		})
	}
}

// However long it runs, a state stays small and exact.
func TestStateIsBounded(t *testing.T) {
	b := free()
	b.Up.Window, b.Down.Window = new(time.Hour), new(time.Hour)
	b.Up.Limits[0].Period = 30 * time.Minute
	r := newRun(t, b, 1, 10_000, 1)
	r.long = true
	r.policy.Tolerance = scaling.Tolerance{Up: new(0.0), Down: new(0.0)}
	for i := range 5_000 {
		r.ask(1 + i*7919%9_999)
		r.at = 1 + i%2 // somebody else changes it all the time
		r.pass(100 * time.Millisecond)
	}
	if n := len(r.state.Recommendations); n > 512 {
		t.Errorf("remembers %d recommendations", n)
	}
}

// Of too many events the oldest are added up, so that the limit still knows the
// number at the beginning of the period.
func TestEventsAreBounded(t *testing.T) {
	b := free()
	b.Up.Limits = []scaling.Limit{{Unit: scaling.Replicas, Value: 1000, Period: 30 * time.Minute}}
	r := newRun(t, b, 1, 10_000, 100)
	r.long = true
	for i := 1; i <= 1000; i++ { // one more every second
		if got := r.ask(100 + i); got != 100+i {
			t.Fatalf("got %d, want %d: %v", got, 100+i, r.last)
		}
		r.pass(time.Second)
	}
	if n := len(r.state.Events); n > 512 {
		t.Errorf("remembers %d events", n)
	}
	if got := r.ask(5000); got != 1100 {
		t.Errorf("the period began with 100 and 1000 may be added, but got %d", got)
	}
}

// Figures that no machine has neither overflow nor leave the range.
func TestLargestFigures(t *testing.T) {
	const most = math.MaxInt64
	policy := scaling.Policy{Max: 100, Behavior: free()}
	in := scaling.Input{Current: 3, Replicas: replicas(scaling.CPU, fmt.Sprintf("%d/1 %d/1 %d/1", most, most, most))}
	if d, _ := scaling.Decide(policy, scaling.State{}, in, noon); d.Desired != 100 || d.Proposals[0].Now != math.MaxInt32 {
		t.Errorf("got %+v", d)
	}
	in.Replicas = replicas(scaling.CPU, fmt.Sprintf("%d/%d %d/%d %d/%d", most, most, most, most, most, most))
	if d, _ := scaling.Decide(policy, scaling.State{}, in, noon); d.Proposals[0].Now != 100 {
		t.Errorf("got %+v", d)
	}
}

func TestSentences(t *testing.T) {
	cpu := []scaling.Metric{{Source: scaling.FromResource, Name: scaling.CPU, Utilization: 50}}
	tests := []struct {
		policy scaling.Policy
		in     scaling.Input
		want   string
	}{
		{scaling.Policy{Max: 9, Metrics: cpu}, scaling.Input{Current: 3, Replicas: replicas(scaling.CPU, "900 900 900")},
			"3 to 6: cpu is at 90 % of the reservation, target 50 %, over 3 measured, asks for 6"},
		{scaling.Policy{Max: 90, Metrics: cpu}, scaling.Input{Current: 3, Replicas: replicas(scaling.CPU, "3000 3000 3000")},
			"3 to 6: cpu is at 300 % of the reservation, target 50 %, over 3 measured, asks for 18; the limits of growth allow 6 now"},
		{scaling.Policy{Max: 4, Metrics: cpu}, scaling.Input{Current: 3, Replicas: replicas(scaling.CPU, "3000 3000 - 0p")},
			"3 to 4: cpu is at 300 % of the reservation, target 50 %, over 2 measured, 1 without a value, 1 unready, asks for 12; the maximum is 4"},
		{scaling.Policy{Max: 9, Metrics: cpu}, scaling.Input{Current: 3, Replicas: replicas(scaling.CPU, "100 100 100")},
			"keep 3: cpu is at 10 % of the reservation, target 50 %, over 3 measured, asks for 1; more was asked for within the down window, so 3"},
		{scaling.Policy{Max: 9, Metrics: cpu}, scaling.Input{Current: 1, Replicas: replicas(scaling.CPU, "520")},
			"keep 1: cpu is at 52 % of the reservation, target 50 %, over 1 measured, within the tolerance"},
		{scaling.Policy{Max: 9, Metrics: cpu}, scaling.Input{Current: 1, Replicas: replicas(scaling.CPU, "520/0")},
			"keep 1: cpu tells nothing: replica 1 has no reservation of cpu; nothing changes while that is not known"},
		{scaling.Policy{Max: 9, Metrics: cpu}, scaling.Input{},
			"keep 0: scaled to 0 although the minimum is 1, which turns autoscaling off: scale to 1 or more to turn it on"},
		{scaling.Policy{Max: 9, Metrics: []scaling.Metric{{Source: scaling.FromResource, Name: scaling.Memory, AverageValue: 64 << 20}}},
			scaling.Input{Current: 1, Replicas: replicas(scaling.Memory, "100663296")},
			"1 to 2: memory is at 96MiB, target 64MiB, over 1 measured, asks for 2"},
		{scaling.Policy{Max: 9, Metrics: []scaling.Metric{{Source: scaling.FromResource, Name: scaling.Memory, AverageValue: 1024}}},
			scaling.Input{Current: 1, Replicas: replicas(scaling.Memory, "2000")},
			"1 to 2: memory is at 2000B, target 1024B, over 1 measured, asks for 2"},
		{scaling.Policy{Max: 9, Metrics: []scaling.Metric{{Source: scaling.FromResource, Name: scaling.CPU, AverageValue: 250}}},
			scaling.Input{Current: 2, Replicas: append(replicas(scaling.CPU, "600"), scaling.Replica{Phase: scaling.Running})},
			"2 to 3: cpu is at 600m, target 250m, over 1 measured, 1 without a value, asks for 3"},
		{scaling.Policy{Max: 9, Metrics: []scaling.Metric{{Source: scaling.FromExternal, Name: "queue", AverageValue: 2500}}},
			scaling.Input{Current: 1, External: []scaling.External{{Metric: "queue", Value: 5001}}},
			"1 to 3: queue is at 5.001, target 2.5, asks for 3"},
		{scaling.Policy{Max: 9, Metrics: cpu}, scaling.Input{Current: 3, Replicas: replicas(scaling.CPU, "500 500 500"), Forecast: 5},
			"3 to 5: 5 are expected to be needed"},
	}
	for _, tt := range tests {
		if d, _ := scaling.Decide(tt.policy, scaling.State{}, tt.in, noon); d.String() != tt.want {
			t.Errorf("got  %s\nwant %s", d, tt.want)
		}
	}
}

// What would be needed is told without tolerance, rounding and range.
func TestNeed(t *testing.T) {
	policy := scaling.Policy{Max: 2, Metrics: []scaling.Metric{
		{Source: scaling.FromResource, Name: scaling.CPU, Utilization: 50},
		{Source: scaling.FromExternal, Name: "queue", AverageValue: 2000},
		{Source: scaling.FromExternal, Name: "jobs", Value: 2000},
	}}
	for _, tt := range []struct {
		cpu         string
		queue, jobs int64
		want        float64
	}{{"540 540", 0, 0, 2.16}, {"100 100", 9_000, 0, 4.5}, {"100 100", 0, 5_000, 5}} {
		in := scaling.Input{Current: 2, Replicas: replicas(scaling.CPU, tt.cpu), External: []scaling.External{{Metric: "queue", Value: tt.queue}, {Metric: "jobs", Value: tt.jobs}}}
		d, _ := scaling.Decide(policy, scaling.State{}, in, noon)
		if got, ok := d.Need(); !ok || math.Abs(got-tt.want) > 1e-9 {
			t.Errorf("%+v: got %v %v", tt, got, ok)
		}
	}
	for _, in := range []scaling.Input{{Current: 2}, {Current: 9}} {
		d, _ := scaling.Decide(policy, scaling.State{}, in, noon)
		if got, ok := d.Need(); ok {
			t.Errorf("nothing is known, but got %v", got)
		}
	}
}

// A decision reads back from JSON as it was written.
func TestDecisionJSON(t *testing.T) {
	d, _ := scaling.Decide(scaling.Policy{Max: 9}, scaling.State{}, scaling.Input{Current: 3, Replicas: replicas(scaling.CPU, "900 - 900 100f 100u")}, noon)
	data, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	var back scaling.Decision
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(d, back) {
		t.Errorf("got %+v, want %+v", back, d)
	}
}

func TestPolicyValidate(t *testing.T) {
	queue := scaling.Metric{Source: scaling.FromExternal, Name: "queue", Value: 1}
	tests := []struct {
		policy scaling.Policy
		want   string
	}{
		{scaling.Policy{Max: 3}, ""},
		{scaling.Policy{Min: new(0), Max: 3, Metrics: []scaling.Metric{queue}}, ""},
		{scaling.Policy{}, "max: is 0: give 1 to 10000"},
		{scaling.Policy{Max: 10_001}, "max: is 10001: give 1 to 10000"},
		{scaling.Policy{Min: new(4), Max: 3}, "min: is 4: give 0 to max"},
		{scaling.Policy{Min: new(0), Max: 3}, "min: is 0, but no metric has a value without replicas: add an external metric, or give a min of 1"},
		{scaling.Policy{Min: new(0), Max: 3, Metrics: []scaling.Metric{{Source: scaling.FromReplicas, Name: "open", AverageValue: 1}}}, "min: is 0, but no metric has a value without replicas: add an external metric, or give a min of 1"},
		{scaling.Policy{Max: 3, Fixed: new(-1)}, "fixed: is -1: give 0 to 10000"},
		{scaling.Policy{Max: 3, Interval: -1}, "interval: is -1ns: give up to 1h0m0s"},
		{scaling.Policy{Max: 3, Tolerance: scaling.Tolerance{Up: new(1.5)}}, "tolerance.up: is 1.5: give 0 to 1"},
		{scaling.Policy{Max: 3, Tolerance: scaling.Tolerance{Down: new(-0.5)}}, "tolerance.down: is -0.5: give 0 to 1"},
		{scaling.Policy{Max: 3, Metrics: []scaling.Metric{queue, queue}}, `metrics[1].name: "queue" is declared twice: each metric needs a name of its own`},
		{scaling.Policy{Max: 3, Metrics: []scaling.Metric{{Source: "x", Name: "q", Value: 1}}}, `metrics[0].source: is "x": give resource, replicas or external`},
		{scaling.Policy{Max: 3, Metrics: []scaling.Metric{{Source: scaling.FromExternal, Name: "q"}}}, "metrics[0]: has 0 targets: give one"},
		{scaling.Policy{Max: 3, Metrics: []scaling.Metric{{Source: scaling.FromExternal, Value: 1}}}, "metrics[0].name: is missing"},
		{scaling.Policy{Max: 3, Metrics: []scaling.Metric{{Source: scaling.FromExternal, Name: "q", Value: -1}}}, "metrics[0]: has a target of -1: targets are above 0"},
		{scaling.Policy{Max: 3, Metrics: []scaling.Metric{{Source: scaling.FromExternal, Name: "q", Utilization: 1}}}, "metrics[0].utilization: an external metric has no reservation: give value or averageValue"},
		{scaling.Policy{Max: 3, Metrics: []scaling.Metric{{Source: scaling.FromResource, Name: "disk", Utilization: 1}}}, `metrics[0].name: "disk" is no resource: give cpu or memory`},
		{scaling.Policy{Max: 3, Metrics: []scaling.Metric{{Source: scaling.FromResource, Name: "cpu", Value: 1}}}, "metrics[0].value: is for external metrics: give utilization or averageValue"},
		{scaling.Policy{Max: 3, Metrics: []scaling.Metric{{Source: scaling.FromReplicas, Name: "q", Value: 1}}}, "metrics[0]: a metric of each replica has an averageValue and no other target"},
		{scaling.Policy{Max: 3, Behavior: &scaling.Behavior{Up: scaling.Rules{Window: new(2 * time.Hour)}}}, "behavior.up.window: is 2h0m0s: give 0 to 1h0m0s"},
		{scaling.Policy{Max: 3, Behavior: &scaling.Behavior{Down: scaling.Rules{Select: "most"}}}, `behavior.down.select: is "most": give max, min or disabled`},
		{scaling.Policy{Max: 3, Behavior: &scaling.Behavior{Down: scaling.Rules{Limits: []scaling.Limit{{Unit: "pods", Value: 1, Period: time.Second}}}}}, `behavior.down.limits[0].unit: is "pods": give replicas or percent`},
		{scaling.Policy{Max: 3, Behavior: &scaling.Behavior{Up: scaling.Rules{Limits: []scaling.Limit{{Unit: scaling.Percent, Period: time.Second}}}}}, "behavior.up.limits[0].value: is 0: give more than 0"},
		{scaling.Policy{Max: 3, Behavior: &scaling.Behavior{Up: scaling.Rules{Limits: []scaling.Limit{{Unit: scaling.Percent, Value: 1}}}}}, "behavior.up.limits[0].period: is 0s: give up to 30m0s"},
	}
	for _, tt := range tests {
		if got := fmt.Sprint(tt.policy.Validate()); got != "["+tt.want+"]" {
			t.Errorf("%+v:\ngot  %s\nwant [%s]", tt.policy, got, tt.want)
		}
	}
}
