package cli

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/reconcile"
	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/scaling"
	scalesim "github.com/berth-dev/berth/scaling/simulate"
	"github.com/berth-dev/berth/scaling/timetable"
	"github.com/berth-dev/berth/scaling/vertical"
)

// recordedWeb are decisions about a service under a load that rises.
func recordedWeb() scalesim.Recording {
	var rec scalesim.Recording
	policy := scaling.Policy{Max: 4, Interval: 5 * time.Second, Metrics: []scaling.Metric{{Source: scaling.FromResource, Name: scaling.CPU, Utilization: 70}}}
	var state scaling.State
	n := 1
	for i, cpu := range []int64{50, 60, 190, 120, 80, 50, 40} {
		at := noon().Add(time.Duration(i) * 5 * time.Second)
		in := scaling.Input{Current: n}
		for slot := 1; slot <= n; slot++ {
			in.Replicas = append(in.Replicas, scaling.Replica{
				Name: string(reconcile.ReplicaKey("web", slot)), Phase: scaling.Running, Ready: true, WasReady: true,
				Started: noon().Add(-time.Hour), ReadyChanged: noon().Add(-time.Hour),
				Samples: []scaling.Sample{{Metric: scaling.CPU, Value: cpu, Reservation: 100, At: at, Window: 5 * time.Second}},
			})
		}
		var d scaling.Decision
		d, state = scaling.Decide(policy, state, in, at)
		rec.Steps = append(rec.Steps, scalesim.Step{Policy: policy, Input: in, Decision: d})
		n = d.Desired
	}
	return rec
}

// manyScalings are services that are scaled in all the ways there are.
func manyScalings() []api.ServiceScaling {
	rec := recordedWeb()
	last := &rec.Steps[len(rec.Steps)-1].Decision
	decided := func(d *scaling.Decision) *api.Scaling {
		return &api.Scaling{Service: "web", At: d.At, Current: d.Current, Desired: d.Desired, Decision: d}
	}
	now := decided(last)
	now.Missing = []string{"cpu of web/4: it is measured from now on"}
	held := decided(last)
	held.Held = "scaled by hand; berth autoscale resume, or the next up, goes on"
	capped := decided(&rec.Steps[2].Decision)
	capped.Capped = "no node takes capped/3: 0/1 nodes: 1 insufficient memory"
	return []api.ServiceScaling{
		{Service: "busy", Replicas: 6, Ready: 6, Min: 1, Max: 9, Last: &api.Scaling{At: noon(), Current: 4, Desired: 6, Concurrency: &scaling.ConcurrencyDecision{
			At: noon(), Next: noon().Add(time.Second), Current: 4, Ready: 4, Last: 31, Stable: 29.25, Panic: 40, Panicking: true, Proposed: 6, Desired: 6, Reasons: []scaling.Reason{scaling.Panicking},
		}}},
		{Service: "capped", Replicas: 1, Ready: 1, Min: 1, Max: 4, Last: capped},
		{Service: "hand", Replicas: 5, Ready: 5, Min: 1, Max: 4, ByHand: true, Last: held},
		{Service: "new", Replicas: 1, Min: 1, Max: 4, Paused: true},
		{Service: "night", Replicas: 2, Ready: 2, Min: 2, Max: 4, Last: &api.Scaling{At: noon(), Current: 2, Desired: 2}, Firing: timetable.Firing{
			Schedule: timetable.Schedule{Name: "1", Cron: "0 8 * * *", Min: new(2)}, At: noon().Add(-4 * time.Hour), Next: noon().Add(20 * time.Hour),
		}},
		{Service: "rest", Replicas: 1, Min: 1, Max: 2, Rest: &reconcile.Rest{Do: scaling.IdlePause, Why: "not used for 20s", Since: noon()}},
		{Service: "sized", Replicas: 1, Ready: 1, Sizing: &api.Sizing{
			Mode: "auto", Recommendation: vertical.Recommendation{CPU: vertical.Range{Lower: 100, Target: 250, Upper: 400}, Memory: vertical.Range{Lower: 30 << 20, Target: 64 << 20, Upper: math.MaxInt64}, Samples: 42},
			Change: vertical.Change{CPU: vertical.Step{From: 1000, To: 250, Reason: "above the 400m that could be needed"}, Memory: vertical.Step{From: 64 << 20, To: 64 << 20, Reason: "64M is not below 30M, and too little is known to say what is too much"}},
		}},
		{Service: "web", Replicas: last.Desired, Ready: 3, Min: 1, Max: 4, Last: now, Recording: rec},
	}
}

func scalingBench(t *testing.T) *bench {
	t.Helper()
	b := rolloutBench(t)
	b.daemon.scaling = &api.Autoscaling{Services: manyScalings()}
	return b
}

func TestAutoscaleStatusTellsAll(t *testing.T) {
	text, err := scalingText(manyScalings(), "table", noon().Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "autoscale-status.txt", text)
}

func TestAutoscaleStatusOfNothing(t *testing.T) {
	b := scalingBench(t)
	b.daemon.scaling = &api.Autoscaling{}
	if code := b.run("autoscale", "status"); code != 0 || b.out.String() != "stack shop: no service is scaled, sized or at rest\n" {
		t.Errorf("exit code %d, %q", code, b.out.String())
	}
}

func TestAutoscaleStatusJSON(t *testing.T) {
	b := scalingBench(t)
	if code := b.run("autoscale", "status", "--format", "json", "web", "rest"); code != 0 {
		t.Fatalf("exit code %d: %s", code, b.err.String())
	}
	var got []api.ServiceScaling
	if err := json.Unmarshal([]byte(b.out.String()), &got); err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0].Service != "web" || got[0].Last.Decision.Metric != scaling.CPU || got[1].Rest.Do != scaling.IdlePause {
		t.Errorf("got %+v", got)
	}
	if len(got[0].Recording.Steps) > 0 {
		t.Error("the whole recording is part of the status")
	}
}

func TestAutoscaleErrors(t *testing.T) {
	for _, c := range []struct {
		args string
		want string
	}{
		{"autoscale status nothing", "berth: service nothing of stack shop is not scaled, sized or at rest (busy, capped, hand, new, night, rest, sized, web)\n"},
		{"autoscale pause web db", "berth: service db of stack shop is not scaled, sized or at rest (busy, capped, hand, new, night, rest, sized, web)\n"},
		{"autoscale status --format yaml", "berth: autoscale status: --format \"yaml\" is unknown; use table or json\n"},
		{"autoscale stop", "berth: autoscale: unknown command \"stop\"; see berth autoscale --help\n"},
		{"autoscale record rest", "berth: autoscale record: nothing has been decided by metrics or concurrency in stack shop yet; berth autoscale status says what is decided, and when\n"},
		{"sleep nothing", "berth: no such service: nothing (the file has api, db, web)\n"},
	} {
		b := scalingBench(t)
		if code := b.run(strings.Fields(c.args)...); code != 1 {
			t.Errorf("%s: exit code %d, want 1", c.args, code)
		}
		if got := b.err.String(); got != c.want {
			t.Errorf("%s: standard error %q, want %q", c.args, got, c.want)
		}
		if len(b.daemon.scaled) > 0 {
			t.Errorf("%s: changed all the same: %q", c.args, b.daemon.scaled)
		}
	}
}

func TestAutoscaleOfAnUnknownStack(t *testing.T) {
	for _, args := range []string{"status", "pause", "record"} {
		b := rolloutBench(t)
		if code := b.run("autoscale", args); code != 1 {
			t.Errorf("%s: exit code %d, want 1", args, code)
		}
		b.wantInErr("berth: find shop: no such stack; berth ls shows those there are\n")
	}
}

func TestAutoscaleControls(t *testing.T) {
	b := scalingBench(t)
	for _, args := range [][]string{{"autoscale", "pause"}, {"autoscale", "resume", "web"}, {"sleep"}, {"sleep", "--stop", "web", "api"}, {"wake", "web"}} {
		if code := b.run(append([]string{"--progress", "plain"}, args...)...); code != 0 {
			t.Fatalf("%v: exit code %d: %s", args, code, b.err.String())
		}
	}
	if diff := cmp.Diff([]string{"pause", "resume  web", "sleep pause", "sleep stop web,api", "wake  web"}, b.daemon.scaled); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{untilSettled, untilSettled, untilSettled}, b.daemon.untils); diff != "" {
		t.Error("sleep and wake do not wait for what they ask for: ", diff)
	}
	b.wantInErr(" Service new  Paused\n")
	b.wantInErr(" Service web  Resumed\n")
	if strings.Contains(b.err.String(), "sized") {
		t.Errorf("what is not scaled was paused:\n%s", b.err.String())
	}
}

func TestAutoscaleDryRuns(t *testing.T) {
	b := scalingBench(t)
	for _, args := range []string{"autoscale pause web", "sleep --stop", "wake web api"} {
		if code := b.run(append([]string{"--dry-run"}, strings.Fields(args)...)...); code != 0 {
			t.Errorf("%s: exit code %d: %s", args, code, b.err.String())
		}
	}
	if len(b.daemon.scaled) > 0 {
		t.Errorf("a dry run has asked for %q", b.daemon.scaled)
	}
	b.wantOut("pause          web          (it is scaled)\nsleep          all services (stopped)\nwake           web, api\n")
}

func TestAutoscaleRecordIsReplayed(t *testing.T) {
	b := scalingBench(t)
	if code := b.run("autoscale", "record"); code != 0 {
		t.Fatalf("exit code %d: %s", code, b.err.String())
	}
	write(t, b.dir, "run.json", b.out.String())
	replaying := offlineBench(t, "")
	replaying.dir = b.dir
	if code := replaying.run("autoscale", "simulate", "--recording", "run.json"); code != 0 {
		t.Fatalf("exit code %d: %s", code, replaying.err.String())
	}
	golden(t, "autoscale-replay.txt", replaying.out.String())
}

func TestExplainTellsOfScaling(t *testing.T) {
	b := scalingBench(t)
	a := &app{env: &Env{Out: &b.out}}
	for _, s := range manyScalings() {
		if s.Service != "web" && s.Service != "rest" && s.Service != "hand" {
			continue
		}
		plain := manyRollouts().Services[1]
		plain.Service = s.Service
		if err := a.printService(&b.out, &api.ExplainedService{Rollout: plain, Scaling: &s}, noon().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	golden(t, "explain-scale.txt", b.out.String())
}

func TestExplainTellsOfEveryInput(t *testing.T) {
	g := inputGrid(&scaling.Input{
		Forecast: 3,
		Replicas: []scaling.Replica{{Name: "web/1", Phase: scaling.Pending, Samples: []scaling.Sample{
			{Metric: scaling.Memory, Value: 12_500_000}, {Metric: "connections", Value: 2500}, {Metric: scaling.CPU, Missing: true},
		}}},
		External: []scaling.External{{Metric: "webhook", Value: 12_000}, {Metric: "webhook #2", Unavailable: "it does not answer"}},
	})
	var out strings.Builder
	if err := (&app{env: &Env{}}).printGrid(&out, g); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"web/1", "pending", "memory 12.5MB; connections 2.5; cpu has no value", "webhook 12", "unavailable: it does not answer", "3 will be needed"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("lacks %q:\n%s", want, out.String())
		}
	}
}

func TestEventsOfScaling(t *testing.T) {
	b := rolloutBench(t)
	a := &app{env: &Env{Out: &b.out}}
	d := &recordedWeb().Steps[2].Decision
	e := &api.Event{Time: noon(), Type: api.EventScale, Scaling: &api.Scaling{Service: "web", Current: d.Current, Desired: d.Desired, Decision: d, Held: "paused"}}
	for _, services := range [][]string{{"web"}, {"db"}} {
		if err := a.printDaemonEvent(e, services, false); err != nil {
			t.Fatal(err)
		}
	}
	b.wantOut("2026-03-01 12:00:00.000000 berth scale scale/web (from=1, held=paused, name=web, to=3, why=1 to 3: cpu is at 190 % of the reservation, target 70 %, over 1 measured, asks for 3)\n")
}

// asleep is a stack whose web is stopped because nobody uses it.
func asleep(b *bench) *api.Status {
	b.t.Helper()
	if code := b.run("up", "-d", "web", "db"); code != 0 {
		b.t.Fatal(b.err.String())
	}
	if err := b.engine.Stop(b.t.Context(), "shop-web-1", "", 0); err != nil {
		b.t.Fatal(err)
	}
	return &api.Status{Desired: &reconcile.Desired{Stack: &stack.Stack{Name: "shop"}, Services: map[string]reconcile.ServiceState{
		"web": {Want: reconcile.WantRunning, Rest: &reconcile.Rest{Do: scaling.IdleStop, Why: "not used for 20s", Since: noon()}},
	}}}
}

func TestPsAndLsTellWhoSleeps(t *testing.T) {
	b := rolloutBench(t)
	status := asleep(b)
	if code := b.run("ps", "--format", "table {{.Name}} {{.State}} {{.Reason}}"); code != 0 || strings.Contains(b.out.String(), "shop-web-1") {
		t.Errorf("exit code %d: what is stopped for good is shown:\n%s", code, b.out.String())
	}
	b.daemon.known = status
	if code := b.run("ps", "--format", "{{.Name}} {{.State}} {{.Reason}}"); code != 0 {
		t.Fatal(b.err.String())
	}
	b.wantInOut("shop-web-1 exited asleep (stopped): not used for 20s\n")
	b.wantInOut("shop-db-1 running \n")
	if code := b.run("ls"); code != 0 {
		t.Fatal(b.err.String())
	}
	b.wantInOut("asleep(1), running(1)")
	b.daemon.known = nil
	rows := stackRows([]runtime.Container{{State: runtime.Paused, Labels: map[string]string{runtime.LabelComposeProject: "shop"}}}, func(*runtime.Container) bool { return false })
	if len(rows) != 1 || rows[0].Status != "paused(1)" {
		t.Errorf("what is paused by command is shown as %+v", rows)
	}
}

// A replica that is paused to be there at once says so, and no other one does.
func TestPsTellsWhoIsKeptWarm(t *testing.T) {
	known := &api.Status{
		Replicas: []api.Replica{{Service: "web", Slot: 1, Container: runtime.Container{ID: "wanted"}}},
		Desired:  &reconcile.Desired{Stack: &stack.Stack{Name: "shop", Services: []stack.Service{{Name: "db"}, {Name: "web", Warm: 1}}}},
	}
	const warm = "kept warm until more replicas are wanted"
	for _, c := range []struct{ service, id, state, want string }{
		{"web", "spare", "paused", warm},
		{"web", "spare", "running", ""}, // it is still to become ready
		{"web", "wanted", "paused", ""},
		{"db", "spare", "paused", ""},
		{"gone", "spare", "paused", ""},
	} {
		r := psRow{Service: c.service, State: c.state}
		if r.tell(known, c.id, true); r.Reason != c.want {
			t.Errorf("%+v: the reason is %q", c, r.Reason)
		}
	}
}

// What was held and has gone on since is not held.
func TestStatusForgetsWhatNoLongerHolds(t *testing.T) {
	s := api.ServiceScaling{Max: 3, Last: &api.Scaling{Held: "scaled by hand", Missing: []string{"cpu of web/1: why"}}}
	told := func(name string) bool {
		return slices.ContainsFunc(scalingNotes(&s, noon()), func(note [2]string) bool { return note[0] == name })
	}
	if told("held") || !told("missing") {
		t.Error("goes on: it is said that it is held, or not what is missing")
	}
	s.ByHand, s.Rest = true, &reconcile.Rest{}
	if !told("held") || told("missing") {
		t.Error("by hand and at rest: it is not said that it is held, or what was missing before")
	}
}

func TestScaleTellsThatAutoscalingIsHeld(t *testing.T) {
	const note = "note: autoscaling of web is held until berth autoscale resume web, or the next up\n"
	compose := "name: shop\nservices:\n  db: {image: app}\n  web: {image: app, x-berth: {autoscale: {max: 4, metrics: [{cpu: {averageValue: 1}}]}}}\n"
	for _, c := range []struct {
		args string
		want int // notes
	}{{"scale web=2 db=1", 1}, {"scale db=2", 0}, {"--dry-run scale web=2", 0}, {"--progress quiet scale web=2", 0}} {
		b := newBench(t, compose)
		b.daemon.plan = &reconcile.Plan{}
		if code := b.run(strings.Fields(c.args)...); code != 0 {
			t.Errorf("%s: exit code %d: %s", c.args, code, b.err.String())
		}
		if got := strings.Count(b.err.String(), note); got != c.want || strings.Count(b.err.String(), "note:") != c.want {
			t.Errorf("%s: %d notes, want %d:\n%s", c.args, got, c.want, b.err.String())
		}
	}
	b := newBench(t, "")
	b.daemon.known = &api.Status{Desired: &reconcile.Desired{Stack: &stack.Stack{Name: "shop", Services: []stack.Service{{Name: "web", Autoscale: &stack.Autoscale{}}}}}}
	if code := b.run("-p", "shop", "scale", "web=2"); code != 0 {
		t.Fatal(b.err.String())
	}
	b.wantInErr(note)
}
