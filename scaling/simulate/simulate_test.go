package simulate_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/berth-dev/berth/scaling"
	"github.com/berth-dev/berth/scaling/forecast"
	"github.com/berth-dev/berth/scaling/simulate"
	"github.com/berth-dev/berth/scaling/timetable"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func parse(t *testing.T, csv string) simulate.Trace {
	t.Helper()
	trace, err := simulate.ParseCSV(strings.NewReader(csv))
	if err != nil {
		t.Fatal(err)
	}
	return trace
}

var cpu50 = scaling.Policy{Max: 10, Metrics: []scaling.Metric{{Source: scaling.FromResource, Name: scaling.CPU, Utilization: 50}}}

func TestParseCSV(t *testing.T) {
	trace := parse(t, "time, cpu, queue, replicas, memory\n2026-03-01T13:00:00+01:00,1500,2.5,3,1e6\n1772366460.5,0,0,0,0\n")
	want := simulate.Trace{Metrics: []string{"cpu", "queue", "memory"}, Rows: []simulate.Row{
		{At: noon, Values: []int64{1500, 2500, 1_000_000}, Replicas: 3},
		{At: noon.Add(time.Minute + time.Second/2), Values: []int64{0, 0, 0}},
	}}
	if diff := cmp.Diff(want, trace); diff != "" {
		t.Error(diff)
	}
}

func TestParseCSVFaults(t *testing.T) {
	tests := []struct{ csv, want string }{
		{"", "read the first line of the trace: EOF"},
		{"cpu,time\n", `the first line of the trace names its columns: give "time" and at least one metric`},
		{"time,replicas\n", `the first line of the trace names its columns: give "time" and at least one metric`},
		{"time,cpu,cpu\n", `column "cpu" of the trace is declared twice or has no name`},
		{"time,cpu\n", "the trace has fewer than 2 rows: nothing happens in it"},
		{"time,cpu\n0,1\n", "the trace has fewer than 2 rows: nothing happens in it"},
		{"time,cpu\n0,1\n0,1\n", "line 3: the time is not later than that of the row before"},
		{"time,cpu\nnoon,1\n", `line 2: time: "noon": give one like 2026-03-01T12:00:00Z, or seconds`},
		{"time,cpu\nNaN,1\n", `line 2: time: "NaN": give one like 2026-03-01T12:00:00Z, or seconds`},
		{"time,cpu\n0,-1\n", `line 2: cpu: "-1": give a number that is not below 0`},
		{"time,cpu\n0,NaN\n", `line 2: cpu: "NaN": give a number that is not below 0`},
		{"time,queue\n0,1e18\n", `line 2: queue: "1e18": give a number that is not below 0`},
		{"time,cpu,replicas\n0,1,-1\n", `line 2: replicas: "-1": give 0 to 10000`},
		{"time,cpu\n0\n", "read the trace: record on line 2: wrong number of fields"},
	}
	for _, tt := range tests {
		if _, err := simulate.ParseCSV(strings.NewReader(tt.csv)); err == nil || err.Error() != tt.want {
			t.Errorf("%q: got %v, want %s", tt.csv, err, tt.want)
		}
	}
}

// One step of load: the decisions and the sums, worked out by hand.
func TestRunByHand(t *testing.T) {
	trace := parse(t, "time,cpu,replicas\n0,400,1\n60,2000,1\n120,400,1\n600,0,1\n")
	rec, sum, err := simulate.Run(cpu50, trace, simulate.Model{Delay: 20 * time.Second, CPU: 1000})
	if err != nil {
		t.Fatal(err)
	}
	// At 60 s: 200 % of one replica asks for 4, which is as far as one may grow. They
	// are ready at 80 s, and are as many as are needed until 120 s; 5 minutes after
	// the last decision that said so the number falls to what is needed then.
	at := map[int]int{0: 1, 45: 1, 60: 4, 75: 4, 120: 4, 390: 4, 405: 1, 585: 1}
	for _, s := range rec.Steps {
		second := int(s.Decision.At.Sub(trace.Rows[0].At).Seconds())
		if want, ok := at[second]; ok && s.Decision.Desired != want {
			t.Errorf("at %d s: got %v, want %d", second, s.Decision, want)
		}
	}
	want := simulate.Summary{
		Decisions: 40, Changes: 2, Span: 10 * time.Minute, Least: 1, Most: 4,
		ReplicaSeconds: 60*1 + 345*4 + 195*1, Over: 20 * time.Second,
	}
	if sum != want {
		t.Errorf("got  %+v\nwant %+v", sum, want)
	}
}

// From nothing: what has to be done waits until the first replica is ready.
func TestRunFromZero(t *testing.T) {
	policy := scaling.Policy{Min: new(0), Max: 10, Metrics: []scaling.Metric{{Source: scaling.FromExternal, Name: "queue", AverageValue: 1000}}}
	trace := parse(t, "time,queue\n0,0\n100,3\n200,0\n1000,0\n")
	_, sum, err := simulate.Run(policy, trace, simulate.Model{Delay: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	// The decision of 105 s is the first to see the queue, and its replicas are ready
	// at 135 s. The decisions from 105 to 195 s ask for 3, the last of them holds them
	// until 495 s.
	want := simulate.Summary{
		Decisions: 67, Changes: 2, Span: 1000 * time.Second, Most: 3,
		ReplicaSeconds: 3 * (495 - 105), Over: 35 * time.Second, Unserved: 35 * time.Second,
	}
	if sum != want {
		t.Errorf("got  %+v\nwant %+v", sum, want)
	}
}

// A metric that has one target for the whole service, and one by replica.
func TestRunOtherMetrics(t *testing.T) {
	policy := scaling.Policy{Max: 10, Metrics: []scaling.Metric{
		{Source: scaling.FromExternal, Name: "latency", Value: 2000},
		{Source: scaling.FromReplicas, Name: "open", AverageValue: 10_000},
		{Source: scaling.FromResource, Name: scaling.Memory, AverageValue: 100},
	}}
	trace := parse(t, "time,latency,open,memory\n0,2,40,100\n30,4,40,100\n60,2,40,500\n90,2,40,500\n")
	rec, sum, err := simulate.Run(policy, trace, simulate.Model{Start: 4})
	if err != nil {
		t.Fatal(err)
	}
	var got []int
	for _, s := range rec.Steps {
		got = append(got, s.Decision.Desired)
	}
	if want := []int{4, 4, 8, 10, 10, 10}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if sum.Over != 30*time.Second {
		t.Errorf("over for %s", sum.Over)
	}
}

func TestRunFaults(t *testing.T) {
	trace := parse(t, "time,queue\n0,0\n100,3\n")
	long := parse(t, "time,cpu\n0,0\n16000000,3\n")
	tests := []struct {
		policy scaling.Policy
		trace  simulate.Trace
		model  simulate.Model
		want   string
	}{
		{scaling.Policy{}, trace, simulate.Model{}, "policy: max: is 0: give 1 to 10000"},
		{cpu50, simulate.Trace{}, simulate.Model{}, "the trace has no rows"},
		{scaling.Policy{Max: 3}, trace, simulate.Model{}, `the trace has no column "cpu", which the policy scales by`},
		{cpu50, long, simulate.Model{}, "the model has no reservation of cpu, which the policy's target is a part of"},
		{cpu50, long, simulate.Model{CPU: 1}, "the trace spans 4444h26m40s, which is more than 1000000 intervals of 15s: give a longer interval"},
	}
	for _, tt := range tests {
		if _, _, err := simulate.Run(tt.policy, tt.trace, tt.model); err == nil || err.Error() != tt.want {
			t.Errorf("got %v, want %s", err, tt.want)
		}
	}
}

// What a run decided is decided again from its recording, and a decision that was
// not made is found.
func TestReplay(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var csv strings.Builder
		csv.WriteString("time,cpu\n")
		for i := range rapid.IntRange(2, 20).Draw(rt, "rows") {
			fmt.Fprintf(&csv, "%d,%d\n", i*60, rapid.IntRange(0, 8000).Draw(rt, fmt.Sprint("cpu ", i)))
		}
		policy := cpu50
		if rapid.Bool().Draw(rt, "has a behavior") {
			policy.Behavior = &scaling.Behavior{Down: scaling.Rules{Window: new(time.Minute)}}
		}
		rec, sum, err := simulate.Run(policy, parse(t, csv.String()), simulate.Model{CPU: 1000, Delay: time.Duration(rapid.IntRange(0, 90).Draw(rt, "delay")) * time.Second})
		if err != nil {
			rt.Fatal(err)
		}
		if sum.Least < 1 || sum.Most > 10 || sum.ReplicaSeconds < sum.Span.Seconds()*float64(sum.Least) || sum.ReplicaSeconds > sum.Span.Seconds()*float64(sum.Most) || sum.Over > sum.Span {
			rt.Fatalf("sums that cannot be: %+v", sum)
		}
		data, err := json.Marshal(rec)
		if err != nil {
			rt.Fatal(err)
		}
		var recording simulate.Recording
		if err := json.Unmarshal(data, &recording); err != nil {
			rt.Fatal(err)
		}
		if err := simulate.Replay(recording); err != nil {
			rt.Fatal(err)
		}
		i := rapid.IntRange(0, len(rec.Steps)-1).Draw(rt, "forged")
		recording.Steps[i].Decision.Desired++
		if err := simulate.Replay(recording); err == nil || !strings.HasPrefix(err.Error(), fmt.Sprintf("step %d: ", i)) {
			rt.Fatalf("step %d was forged, but got %v", i, err)
		}
	})
}

func FuzzParseCSV(f *testing.F) {
	f.Add("time,cpu,replicas\n0,1,1\n1e3,2e3,2\n")
	f.Add("time,cpu\n2026-03-01T12:00:00Z,NaN\n")
	f.Add("time,\"c\npu\"\n-5e10,1\n5e10,1e300\n")
	f.Fuzz(func(t *testing.T, text string) {
		trace, err := simulate.ParseCSV(strings.NewReader(text))
		if err != nil {
			return
		}
		policy := scaling.Policy{Max: 5, Interval: time.Hour, Metrics: []scaling.Metric{{Source: scaling.FromReplicas, Name: trace.Metrics[0], AverageValue: 1}}}
		last := trace.Rows[len(trace.Rows)-1].At
		if last.Sub(trace.Rows[0].At) > 1000*time.Hour {
			return
		}
		rec, _, err := simulate.Run(policy, trace, simulate.Model{})
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range rec.Steps {
			if s.Decision.Desired < 0 || s.Decision.Desired > 5 {
				t.Fatalf("got %v", s.Decision)
			}
		}
	})
}

func TestSchedulesChangeThePolicy(t *testing.T) {
	table, errs := timetable.Parse([]timetable.Schedule{
		{Name: "1", Cron: "0 8 * * *", TimeZone: "UTC", Min: new(1)}, {Name: "2", Cron: "1 12 * * *", TimeZone: "UTC", Min: new(3)},
	})
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	trace := parse(t, "time,cpu\n2026-03-01T12:00:00Z,10\n2026-03-01T12:02:00Z,10\n")
	rec, sum, err := simulate.Run(cpu50, trace, simulate.Model{CPU: 100, Schedules: table})
	if err != nil || sum.Least != 1 || sum.Most != 3 || sum.Changes != 1 {
		t.Fatalf("%+v, %v", sum, err)
	}
	for _, s := range rec.Steps {
		if fired := !s.Decision.At.Before(noon.Add(time.Minute)); fired != (s.Decision.Min == 3) {
			t.Errorf("at %s the minimum is %d", s.Decision.At, s.Decision.Min)
		}
	}
	if err := simulate.Replay(rec); err != nil {
		t.Error(err)
	}
}

// TestSeriesExpects: what came twice at the same time is expected the third time,
// so that the service is over its target for less long.
func TestSeriesExpects(t *testing.T) {
	var csv strings.Builder
	csv.WriteString("time,cpu\n")
	for i := range 6 * 8 { // a quarter of an hour each, of two hours
		fmt.Fprintf(&csv, "%d,%d\n", i*900, []int{30, 30, 30, 30, 150, 190, 190, 150}[i%8])
	}
	policy := cpu50
	policy.Interval = 5 * time.Minute
	run := func(series *forecast.Series) (simulate.Recording, simulate.Summary) {
		rec, sum, err := simulate.Run(policy, parse(t, csv.String()), simulate.Model{CPU: 100, Delay: time.Minute, Series: series})
		if err != nil {
			t.Fatal(err)
		}
		return rec, sum
	}
	rec, with := run(&forecast.Series{Season: 2 * time.Hour})
	_, without := run(nil)
	if with.Over >= without.Over || with.ReplicaSeconds < without.ReplicaSeconds {
		t.Errorf("expecting %+v, not expecting %+v", with, without)
	}
	for _, s := range rec.Steps {
		if s.Decision.At.Before(time.Unix(4*3600, 0)) && s.Input.Forecast > 0 {
			t.Fatalf("something is expected before it came twice, at %s", s.Decision.At)
		}
	}
}

// A burst of connections without a metric: looked at each second, by Knative's rules,
// and what was decided can be made again.
func TestRunByConcurrency(t *testing.T) {
	trace := parse(t, "time,concurrency\n0,0\n10,50\n40,0\n200,0\n")
	model := simulate.Model{Delay: 5 * time.Second, Concurrency: &scaling.Concurrency{Target: 10, Min: new(0)}}
	rec, sum, err := simulate.Run(scaling.Policy{Min: new(0), Max: 20}, trace, model)
	if err != nil {
		t.Fatal(err)
	}
	if len(rec.Steps) > 0 || len(rec.Looks) != 200 || sum.Decisions != 200 {
		t.Errorf("%d decisions by metrics and %d looks in 200 s", len(rec.Steps), len(rec.Looks))
	}
	// Without a replica, with nothing under way, there is none until somebody comes; the
	// short window of 6 s asks for all of 5 at the sixth second of the burst, and more
	// never; 60 s after the last of it none is needed any more, and the last one goes
	// half a minute later.
	first, most, last := -1, -1, -1
	for i, l := range rec.Looks {
		switch d := l.Decision; {
		case d.Desired == 1 && d.Current == 0:
			first = i
		case d.Desired == 5 && most < 0:
			most = i
		case d.Desired == 0 && d.Current > 0 && i > 10:
			last = i
		}
	}
	if first != 10 || most < 13 || most > 16 || sum.Most != 5 || last < 125 || last > 135 {
		t.Errorf("the first at %d s, all at %d s, %d at most, none at %d s; %+v", first, most, sum.Most, last, sum)
	}
	if sum.Unserved != 5*time.Second || sum.Over < 5*time.Second || sum.Over > 15*time.Second {
		t.Errorf("got %+v", sum)
	}
	replayed(t, rec)
}

// Where metrics decide as well the larger number counts.
func TestRunByConcurrencyAndMetrics(t *testing.T) {
	trace := parse(t, "time,cpu,concurrency\n0,900,0\n60,900,80\n120,900,0\n600,900,0\n")
	model := simulate.Model{CPU: 1000, Concurrency: &scaling.Concurrency{Target: 10}}
	rec, sum, err := simulate.Run(cpu50, trace, model)
	if err != nil {
		t.Fatal(err)
	}
	if sum.Least != 1 || sum.Most != 8 || len(rec.Steps) != 40 || len(rec.Looks) != 600 {
		t.Errorf("got %+v of %d decisions by metrics and %d looks", sum, len(rec.Steps), len(rec.Looks))
	}
	if end := rec.Looks[len(rec.Looks)-1].Decision; end.Current != 2 || end.Desired != 1 {
		t.Errorf("in the end the metrics have not kept 2: %v", end)
	}
	replayed(t, rec)
	if _, _, err := simulate.Run(cpu50, parse(t, "time,cpu\n0,1\n60,1\n"), model); err == nil || err.Error() != `the trace has no column "concurrency", which the policy scales by` {
		t.Errorf("without the column: %v", err)
	}
}

// replayed fails the test unless a recording, and each end of it, can be made again
// after it was written and read, and one that was forged cannot.
func replayed(t *testing.T, rec simulate.Recording) {
	t.Helper()
	data, err := json.Marshal(rec)
	if err != nil {
		t.Fatal(err)
	}
	var read simulate.Recording
	if err := json.Unmarshal(data, &read); err != nil {
		t.Fatal(err)
	}
	if err := simulate.Replay(read); err != nil {
		t.Error(err)
	}
	i := len(read.Looks) / 2
	read.Looks[i].Decision.Desired++
	if err := simulate.Replay(read); err == nil || !strings.HasPrefix(err.Error(), fmt.Sprintf("look %d: recorded ", i)) {
		t.Errorf("a forged look %d is found as %v", i, err)
	}
}
