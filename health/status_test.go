package health

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// t0 is when the containers of these tests are started.
var t0 = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func sec(s float64) time.Time { return t0.Add(time.Duration(s * float64(time.Second))) }

// all are probes with every number given.
func everyProbe() Probes {
	return Probes{
		Startup:   with(func(p *Probe) { p.Period, p.FailureThreshold, p.Grace = time.Second, 3, 7*time.Second }),
		Readiness: with(func(p *Probe) { p.Period, p.FailureThreshold, p.SuccessThreshold = 2*time.Second, 2, 2 }),
		Liveness:  with(func(p *Probe) { p.Period, p.FailureThreshold, p.InitialDelay = 5*time.Second, 3, 4*time.Second }),
	}
}

// story walks a status through events, one each second from t0+1s on.
type story struct {
	s    Status
	spec Probes
	now  time.Time
}

func begun(spec Probes) *story {
	return &story{spec: spec, now: t0, s: Status{}.Next(spec, Started(t0, 1), t0)}
}

func (y *story) at(ev Event, now time.Time) *story {
	y.s, y.now = y.s.Next(y.spec, ev, now), now
	return y
}

func (y *story) then(ev Event) *story { return y.at(ev, y.now.Add(time.Second)) }

// sees gives results of a role: + passes, - fails, ? has none, h fails and is held.
func (y *story) sees(r Role, results string) *story {
	for _, c := range results {
		o := map[rune]Outcome{'+': Success, '-': Failure, 'h': Failure, '?': Unknown}[c]
		held := map[rune]string{'h': "too many fail"}[c]
		now := y.now.Add(time.Second)
		y.at(Checked(r, y.s.Started, Result{At: now, Outcome: o, Output: "because"}, held), now)
	}
	return y
}

func only(r Role, p *Probe) Probes {
	switch r {
	case Startup:
		return Probes{Startup: p}
	case Readiness:
		return Probes{Readiness: p}
	default:
		return Probes{Liveness: p}
	}
}

// §2: "Initial result by role: readiness = failure, liveness = success, startup
// = unknown."
func TestInitialResults(t *testing.T) {
	s := begun(everyProbe()).s
	if s.Startup.State != Unknown || s.Readiness.State != Failure || s.Liveness.State != Success {
		t.Errorf("initial results %q %q %q", s.Startup.State, s.Readiness.State, s.Liveness.State)
	}
	if s.Ready(everyProbe()) || s.Verdict(everyProbe()).Role != "" {
		t.Errorf("ready %v, verdict %+v before any probe", s.Ready(everyProbe()), s.Verdict(everyProbe()))
	}
	for r, want := range map[Role]bool{Startup: false, Readiness: false, Liveness: true} {
		if got := begun(only(r, probe())).s.Ready(only(r, probe())); got != want {
			t.Errorf("with a %s probe alone: ready %v, want %v", r, got, want)
		}
	}
	if !begun(Probes{}).s.Ready(Probes{}) {
		t.Error("a running container without probes is not ready")
	}
}

// §2: "Count equal results in a row; the status changes only when the run
// reaches its threshold." and "A prober error is not a result".
func TestThresholds(t *testing.T) {
	ready := with(func(p *Probe) { p.SuccessThreshold, p.FailureThreshold = 2, 3 })
	live := with(func(p *Probe) { p.FailureThreshold = 3 })
	start := with(func(p *Probe) { p.FailureThreshold = 4 })
	for _, c := range []struct {
		role    Role
		p       *Probe
		results string
		want    Outcome
	}{
		{Readiness, ready, "", Failure},
		{Readiness, ready, "+", Failure},
		{Readiness, ready, "++", Success},
		{Readiness, ready, "+-+", Failure},
		{Readiness, ready, "+-++", Success},
		{Readiness, ready, "++--", Success},
		{Readiness, ready, "++--+--", Success},
		{Readiness, ready, "++---", Failure},
		{Readiness, ready, "++---+", Failure},
		{Readiness, ready, "++---++", Success},
		{Readiness, ready, "+?+", Success}, // an error does not break a run
		{Readiness, ready, "++-?-?-", Failure},
		{Readiness, ready, "++-????????", Success}, // and does not lengthen one
		{Liveness, live, "--", Success},
		{Liveness, live, "---", Failure},
		{Liveness, live, "--+--", Success},
		{Liveness, live, "--?-", Failure},
		{Liveness, live, "---+", Failure}, // it holds still
		{Startup, start, "---", Unknown},
		{Startup, start, "----", Failure},
		{Startup, start, "----+", Failure}, // it holds still
		{Startup, start, "---+", Success},
		{Startup, start, "+----", Success}, // it never runs again
		{Startup, start, "????????", Unknown},
	} {
		s := begun(only(c.role, c.p)).sees(c.role, c.results).s
		if got := s.Of(c.role).State; got != c.want {
			t.Errorf("%s after %q is %q, want %q", c.role, c.results, got, c.want)
		}
	}
}

// §2: "Until startup has succeeded only the startup probe runs; then it never
// runs again."
func TestStartupGatesTheOthers(t *testing.T) {
	y := begun(everyProbe())
	if s := y.s; s.Startup.Due.IsZero() || !s.Readiness.Due.IsZero() || !s.Liveness.Due.IsZero() {
		t.Fatalf("due at the start: %v %v %v", s.Startup.Due, s.Readiness.Due, s.Liveness.Due)
	}
	y.sees(Readiness, "++").sees(Liveness, "---")
	if s := y.s; s.Readiness.Run != 0 || s.Liveness.Run != 0 {
		t.Fatal("results counted before the startup had passed")
	}
	y.sees(Startup, "--")
	if !y.s.Readiness.Due.IsZero() {
		t.Fatal("readiness is due while the startup fails")
	}
	y = begun(everyProbe()).at(Ticked(Startup), sec(0)).at(Checked(Startup, t0, Result{At: sec(0.1), Outcome: Success}, ""), sec(0.2))
	s := y.s
	if !s.Startup.Due.IsZero() {
		t.Error("startup is probed again after it has passed")
	}
	if !s.Readiness.Due.Equal(sec(0.2)) {
		t.Errorf("readiness is due at %v, want at once", s.Readiness.Due)
	}
	if !s.Liveness.Due.Equal(sec(4)) {
		t.Errorf("liveness is due at %v, want after its initial delay", s.Liveness.Due)
	}
}

// §2: "No probe before initialDelay from the container's start."
func TestInitialDelay(t *testing.T) {
	p := only(Liveness, with(func(p *Probe) { p.InitialDelay, p.Period = 4*time.Second, 5*time.Second }))
	for _, c := range []struct {
		name     string
		now      time.Time
		from, to float64 // seconds after now
	}{
		{"seen at once", sec(0), 4, 4},
		{"seen late", sec(1.5), 2.5, 2.5},
		{"found a while after: spread", sec(4.5), 0, 1},
		{"seen much later: spread", sec(3600), 0, 1},
		{"the engine's clock is ahead", sec(-3600), 4, 4},
	} {
		s := Status{}.Next(p, Started(t0, 12345), c.now)
		if got := s.Liveness.Due.Sub(c.now).Seconds(); got < c.from || got > c.to {
			t.Errorf("%s: due after %vs, want %v to %v", c.name, got, c.from, c.to)
		}
	}
}

// The next tick is from the schedule, not from the end of the probe.
func TestTicksKeepTheSchedule(t *testing.T) {
	p := only(Liveness, with(func(p *Probe) { p.Period = 5 * time.Second }))
	for _, c := range []struct{ at, want float64 }{
		{0, 5}, {0.3, 5}, {4.999, 5}, {5, 10}, {5.1, 10}, {23, 25}, {25, 30},
	} {
		y := begun(p).at(Ticked(Liveness), sec(c.at))
		if got := y.s.Liveness.Due; !got.Equal(sec(c.want)) {
			t.Errorf("sent at %vs: the next is due at %v, want %v", c.at, got.Sub(t0), c.want)
		}
	}
	y := begun(only(Readiness, probe())).at(Ticked(Liveness), sec(1))
	if !y.s.Liveness.Due.IsZero() {
		t.Error("a probe that is not there became due")
	}
}

// §2: "After a liveness failure or a settled startup result the prober holds
// still until the container has been started anew", and "A new start of the
// container resets all of it".
func TestHoldsStillUntilTheNextStart(t *testing.T) {
	for _, do := range []Do{"", Restart, Recreate, Stop, Pause} {
		spec := everyProbe()
		spec.Liveness.OnFailure.Do, spec.Startup.OnFailure.Do = do, do
		y := begun(spec).sees(Startup, "+").sees(Readiness, "++").sees(Liveness, "---")
		if !y.s.Liveness.Due.IsZero() {
			t.Errorf("%q: liveness is due after it has failed", do)
		}
		if y.s.Readiness.Due.IsZero() {
			t.Errorf("%q: readiness is not probed any more", do)
		}
		y = begun(spec).sees(Startup, "---")
		if _, at, ok := y.s.NextDue(); ok {
			t.Errorf("%q: something is due at %v after the startup has failed", do, at)
		}
		y.at(Started(sec(30), 1), sec(30))
		if want := begun(spec).s.Startup; y.s.Startup.State != want.State || y.s.Startup.Run != 0 || len(y.s.Startup.Results) != 0 || !y.s.Startup.Due.Equal(sec(30)) {
			t.Errorf("%q: after a new start the startup is %+v", do, y.s.Startup)
		}
	}
	for _, do := range []Do{Nothing, RunExec, Webhook} {
		spec := everyProbe()
		spec.Liveness.OnFailure.Do, spec.Startup.OnFailure.Do = do, do
		y := begun(spec).sees(Startup, "---")
		if y.s.Startup.State != Failure || y.s.Startup.Due.IsZero() {
			t.Errorf("%s: a failed startup is not probed on", do)
		}
		if y.sees(Startup, "+"); y.s.Startup.State != Success || y.s.Liveness.Due.IsZero() {
			t.Errorf("%s: a startup that passes late is %+v", do, y.s.Startup)
		}
		if y.sees(Liveness, "---"); y.s.Liveness.State != Failure || y.s.Liveness.Due.IsZero() {
			t.Errorf("%s: a failed liveness is not probed on", do)
		}
		if y.sees(Liveness, "+"); y.s.Liveness.State != Success || y.s.Verdict(spec).Role != "" {
			t.Errorf("%s: liveness that recovers is %+v", do, y.s.Liveness)
		}
	}
}

// Results of an earlier run of the container are not this one's.
func TestResultsOfAnotherRunAreDropped(t *testing.T) {
	spec := only(Liveness, with(func(p *Probe) { p.FailureThreshold = 1 }))
	y := begun(spec).at(Started(sec(10), 1), sec(10)).at(Checked(Liveness, t0, Result{Outcome: Failure}, ""), sec(10.5))
	if y.s.Liveness.State != Success || y.s.Liveness.Run != 0 {
		t.Errorf("liveness %+v", y.s.Liveness)
	}
}

// §2: "A container that does not run = failure."
func TestStoppedContainerFails(t *testing.T) {
	y := begun(everyProbe()).sees(Startup, "+").sees(Readiness, "++").then(Stopped())
	for _, r := range Roles() {
		if got := y.s.Of(r).State; got != Failure {
			t.Errorf("%s of a stopped container is %q", r, got)
		}
	}
	if _, _, due := y.s.NextDue(); due || y.s.Ready(everyProbe()) || y.s.Verdict(everyProbe()).Role != "" {
		t.Errorf("a stopped container is ready, probed or acted on: %+v", y.s)
	}
	if y.sees(Readiness, "++").s.Readiness.State != Failure {
		t.Error("a late result counted for a stopped container")
	}
	if y.s.Startup = (Track{}); begun(Probes{}).then(Stopped()).s.Ready(Probes{}) {
		t.Error("a stopped container without probes is ready")
	}
}

// Paused, stopping and restarting containers are not probed.
func TestUnprobedPhases(t *testing.T) {
	for name, ev := range map[string]Event{"paused": Paused(), "being stopped": Left()} {
		y := begun(everyProbe()).sees(Startup, "+").sees(Readiness, "++").sees(Liveness, "--")
		if !y.s.Ready(everyProbe()) {
			t.Fatal("not ready before")
		}
		y.then(ev)
		if _, _, due := y.s.NextDue(); due || y.s.Ready(everyProbe()) || y.s.Why(everyProbe()) != name {
			t.Errorf("%s: due %v, ready %v, %q", name, due, y.s.Ready(everyProbe()), y.s.Why(everyProbe()))
		}
		if y.sees(Liveness, "-"); y.s.Liveness.State != Success {
			t.Errorf("%s: a result counted", name)
		}
		y.then(Resumed())
		if !y.s.Ready(everyProbe()) || !y.s.Liveness.Due.Equal(y.now) {
			t.Errorf("%s and resumed: ready %v, liveness due %v at %v", name, y.s.Ready(everyProbe()), y.s.Liveness.Due, y.now)
		}
		if y.sees(Liveness, "--"); y.s.Liveness.State != Success {
			t.Errorf("%s and resumed: failures before and after count together", name)
		}
		if !y.s.Startup.Due.IsZero() {
			t.Errorf("%s and resumed: the startup is probed again", name)
		}
	}
	if y := begun(everyProbe()).then(Resumed()); y.s.Startup.Due != begun(everyProbe()).s.Startup.Due {
		t.Error("resuming what runs changed it")
	}
}

// One that is paused is as ready as it was, once it goes on.
func TestReadyOnceResumed(t *testing.T) {
	spec := everyProbe()
	passed := begun(spec).sees(Startup, "+").sees(Readiness, "++")
	for _, c := range []struct {
		name string
		s    Status
		want bool
	}{
		{"runs", passed.s, false},
		{"frozen", passed.s.Next(spec, Paused(), passed.now), true},
		{"frozen before it was ready", begun(spec).sees(Startup, "+").then(Paused()).s, false},
		{"frozen once it was no longer ready", begun(spec).sees(Startup, "+").sees(Readiness, "++--").then(Paused()).s, false},
		{"stopped", passed.s.Next(spec, Stopped(), passed.now), false},
	} {
		if got := c.s.ReadyOnceResumed(spec); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// A container that its probe has paused is not paused again as soon as somebody
// unpauses it.
func TestUnpausedByHandStartsOver(t *testing.T) {
	spec := only(Liveness, with(func(p *Probe) { p.OnFailure.Do = Pause }))
	y := begun(spec).sees(Liveness, "---")
	if v := y.s.Verdict(spec); v.Action.Do != Pause {
		t.Fatalf("verdict %+v", v)
	}
	y.then(Paused()).then(Resumed())
	if v := y.s.Verdict(spec); v.Role != "" || y.s.Liveness.Due.IsZero() {
		t.Errorf("after the unpause: verdict %+v, due %v", v, y.s.Liveness.Due)
	}
	spec = only(Liveness, probe()) // one that restarts keeps its verdict
	y = begun(spec).sees(Liveness, "---").then(Left()).then(Resumed())
	if v := y.s.Verdict(spec); v.Action.Do != Restart || !y.s.Liveness.Due.IsZero() {
		t.Errorf("after a restart that did not come about: verdict %+v", v)
	}
}

// §2: "readiness moves the replica in and out of the balancer and never
// restarts; liveness and startup failures restart with grace."
func TestVerdicts(t *testing.T) {
	spec := everyProbe()
	ready := begun(spec).sees(Startup, "+").sees(Readiness, "++")
	if !ready.s.Ready(spec) || !ready.s.ReadySince(spec).Equal(ready.now) {
		t.Fatalf("ready %v since %v", ready.s.Ready(spec), ready.s.ReadySince(spec))
	}
	ready.sees(Readiness, "--")
	if ready.s.Ready(spec) || !ready.s.ReadySince(spec).IsZero() || ready.s.Verdict(spec).Role != "" {
		t.Errorf("unready: ready %v, verdict %+v", ready.s.Ready(spec), ready.s.Verdict(spec))
	}
	v := begun(spec).sees(Startup, "---").s.Verdict(spec)
	want := Verdict{Role: Startup, Action: Action{Do: Restart}, Grace: 7 * time.Second, Since: sec(3), Reason: "startup probe failed 3 times in a row: because"}
	if !reflect.DeepEqual(v, want) {
		t.Errorf("verdict %+v, want %+v", v, want)
	}
	spec.Liveness.OnFailure = Action{Do: Webhook, URL: "http://x/"}
	v = begun(spec).sees(Startup, "+").sees(Liveness, "---").s.Verdict(spec)
	if v.Role != Liveness || v.Action.URL != "http://x/" || v.Grace != 0 {
		t.Errorf("verdict %+v", v)
	}
}

// A held failure is not acted on until it is no longer held.
func TestHeldFailures(t *testing.T) {
	spec := Probes{Liveness: probe(), Readiness: probe()}
	y := begun(spec).sees(Liveness, "--hh")
	tr := y.s.Liveness
	if tr.State != Success || tr.Held != "too many fail" || !tr.HeldFrom.Equal(sec(3)) || tr.Run != 4 {
		t.Fatalf("held: %+v", tr)
	}
	if y.s.Verdict(spec).Role != "" {
		t.Error("a held failure has a verdict")
	}
	if y.sees(Liveness, "-"); y.s.Liveness.State != Failure || y.s.Liveness.Held != "" {
		t.Errorf("no longer held: %+v", y.s.Liveness)
	}
	y = begun(spec).sees(Liveness, "--h+")
	if tr := y.s.Liveness; tr.State != Success || tr.Held != "" || !tr.HeldFrom.IsZero() {
		t.Errorf("recovered: %+v", tr)
	}
	if y = begun(spec).sees(Readiness, "+hhh"); y.s.Readiness.State != Failure {
		t.Error("readiness was held")
	}
	if y = begun(spec).sees(Liveness, "hh"); y.s.Liveness.Held != "" {
		t.Error("held below the threshold")
	}
}

// Faults 7 and 35: results before and after a gap are not in a row.
func TestGapCountsAnew(t *testing.T) {
	spec := Probes{Liveness: probe(), Readiness: probe()}
	y := begun(spec).sees(Readiness, "+").sees(Liveness, "--").at(Gap(), sec(8*3600))
	if wait := y.s.Liveness.Due.Sub(y.now); wait < 0 || wait > time.Second {
		t.Errorf("the first probe after the gap is due after %v", wait)
	}
	if !y.s.Ready(spec) {
		t.Error("the gap took readiness away")
	}
	if y.sees(Liveness, "--"); y.s.Verdict(spec).Role != "" {
		t.Error("failures before and after the gap count together")
	}
	if y.sees(Liveness, "-"); y.s.Verdict(spec).Role != Liveness {
		t.Error("three failures after the gap do not count")
	}
	if y.at(Gap(), sec(9*3600)); y.s.Verdict(spec).Role != Liveness || !y.s.Liveness.Due.IsZero() {
		t.Error("the gap revived a failed liveness")
	}
}

// A clock that jumps moves no probe further away than its own period: the due
// times carry the monotonic clock.
func TestDueTimesAreMonotonic(t *testing.T) {
	now := time.Now()
	s := Status{}.Next(only(Liveness, with(func(p *Probe) { p.InitialDelay = time.Minute })), Started(now.Round(0).Add(-time.Second), 1), now)
	s = s.Next(only(Liveness, probe()), Ticked(Liveness), now.Add(2*time.Minute))
	if !strings.Contains(s.Liveness.Due.String(), "m=+") {
		t.Errorf("due %v has no monotonic reading", s.Liveness.Due)
	}
}

func TestResultsAreBounded(t *testing.T) {
	spec := only(Readiness, probe())
	y := begun(spec)
	before := y.s
	y.sees(Readiness, "-+-+-+-+")
	tr := y.s.Readiness
	if len(tr.Results) != Kept || !tr.Results[Kept-1].At.Equal(y.now) || !tr.Results[0].At.Equal(y.now.Add(-(Kept-1)*time.Second)) {
		t.Errorf("results %+v", tr.Results)
	}
	if len(before.Readiness.Results) != 0 {
		t.Error("the old value changed")
	}
	old := y.s.Readiness.Results
	first := old[0]
	if y.sees(Readiness, "-"); old[0] != first {
		t.Error("a result was changed in place")
	}
}

func TestWhy(t *testing.T) {
	spec := everyProbe()
	for _, c := range []struct {
		y    *story
		want string
	}{
		{&story{}, "does not run"},
		{begun(spec), "startup probe has not been answered yet"},
		{begun(spec).sees(Startup, "--"), "startup probe failed 2 times in a row: because"},
		{begun(spec).sees(Startup, "-?"), "startup probe has no result: because"},
		{begun(spec).sees(Startup, "--h"), "too many fail"},
		{begun(spec).sees(Startup, "+"), "readiness probe has not been answered yet"},
		{begun(spec).sees(Startup, "+").sees(Readiness, "+"), "readiness probe has passed 1 of 2 times in a row"},
		{begun(spec).sees(Startup, "+").sees(Readiness, "-"), "readiness probe failed: because"},
		{begun(spec).sees(Startup, "+").sees(Readiness, "++"), ""},
		{begun(spec).sees(Startup, "+").sees(Readiness, "++").sees(Liveness, "--h"), "too many fail"},
		{begun(spec).then(Stopped()), "does not run"},
	} {
		if got := c.y.s.Why(spec); got != c.want {
			t.Errorf("why %q, want %q", got, c.want)
		}
	}
}

func TestAResultEndsAnError(t *testing.T) {
	spec := only(Readiness, probe())
	y := begun(spec).sees(Readiness, "?")
	if y.s.Readiness.Error != "because" {
		t.Errorf("error %q", y.s.Readiness.Error)
	}
	for _, results := range []string{"+", "-"} {
		if y.sees(Readiness, "?"+results); y.s.Readiness.Error != "" {
			t.Errorf("after %q: error %q", results, y.s.Readiness.Error)
		}
	}
}

// TestFirstAnswerIsNews: a replica that was taken for ready until its probe had
// answered is looked at anew with the first answer, also where that changes no state.
func TestFirstAnswerIsNews(t *testing.T) {
	y := begun(only(Readiness, with(func(p *Probe) { p.Period, p.FailureThreshold = time.Second, 3 })))
	for i, news := range []bool{true, false, false} {
		old := y.s
		if y.sees(Readiness, "-"); y.s.Differs(old) != news {
			t.Errorf("failure %d is news: %t, want %t", i+1, !news, news)
		}
	}
	if old := y.s; !y.sees(Readiness, "+").s.Differs(old) {
		t.Error("a success after failures is no news")
	}
}

func TestNextDue(t *testing.T) {
	y := begun(everyProbe())
	if r, at, ok := y.s.NextDue(); r != Startup || !at.Equal(t0) || !ok {
		t.Errorf("next %s at %v %v", r, at, ok)
	}
	y.sees(Startup, "+").at(Ticked(Readiness), sec(1))
	if r, at, _ := y.s.NextDue(); r != Readiness || !at.Equal(sec(3)) {
		t.Errorf("next %s at %v", r, at.Sub(t0))
	}
	y.at(Ticked(Readiness), sec(3.5))
	if r, at, _ := y.s.NextDue(); r != Liveness || !at.Equal(sec(4)) {
		t.Errorf("next %s at %v", r, at.Sub(t0))
	}
	if _, _, ok := (Status{}).NextDue(); ok {
		t.Error("something of nothing is due")
	}
}

func TestStatusReadsBack(t *testing.T) {
	s := begun(everyProbe()).sees(Startup, "-?+").sees(Liveness, "--h").s
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var got Status
	if err := json.Unmarshal(b, &got); err != nil || !reflect.DeepEqual(got, s) {
		t.Errorf("%s read back as %+v (%v)", b, got, err)
	}
}

func TestSeedsSpread(t *testing.T) {
	const n, buckets = 1000, 10
	var count [buckets]int
	p := only(Liveness, with(func(p *Probe) { p.Period = time.Second }))
	for i := range n {
		s := Status{}.Next(p, Started(t0, seed("shop/api/"+string(rune('a'+i%26))+time.Duration(i).String())), sec(3600))
		count[int(s.Liveness.Due.Sub(sec(3600))*buckets/time.Second)]++
	}
	for i, c := range count {
		if c < n/buckets/2 || c > n/buckets*2 {
			t.Errorf("bucket %d holds %d of %d: %v", i, c, n, count)
		}
	}
}

// Fault 39: a readiness that flaps is never ready for long.
func TestFlappingIsNeverReadyForLong(t *testing.T) {
	spec := only(Readiness, with(func(p *Probe) { p.FailureThreshold = 1 }))
	y := begun(spec)
	for range 10 {
		if y.sees(Readiness, "+"); !y.s.ReadySince(spec).Equal(y.now) {
			t.Fatalf("ready since %v at %v", y.s.ReadySince(spec), y.now)
		}
		if y.sees(Readiness, "-"); y.s.Ready(spec) {
			t.Fatal("still ready")
		}
	}
	if y.sees(Readiness, "+++"); !y.s.ReadySince(spec).Equal(y.now.Add(-2 * time.Second)) {
		t.Errorf("ready since %v at %v", y.s.ReadySince(spec), y.now)
	}
}

// A tick leads to the next point of the same schedule, at most one period away.
func TestTickProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		period := time.Duration(rapid.Int64Range(int64(time.Second), int64(time.Hour)).Draw(t, "period"))
		spec := only(Liveness, with(func(p *Probe) { p.Period = period }))
		s := begun(spec).s
		now := t0
		for range rapid.IntRange(1, 20).Draw(t, "ticks") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(3*time.Hour)).Draw(t, "pass")))
			old := s.Liveness.Due
			s = s.Next(spec, Ticked(Liveness), now)
			due := s.Liveness.Due
			if due.Sub(old)%period != 0 || !due.After(old) || due.Sub(now) > period && old.Before(now) || !due.After(now) {
				t.Fatalf("period %v: at %v the tick of %v leads to %v", period, now, old, due)
			}
		}
	})
}

// Whatever happens: a probe is due only in a running container, liveness and
// readiness only after the startup, nothing after a failure that ends the run;
// who is ready runs; a state differs from its initial value only by a run of
// results; and equal arguments give equal values.
func TestStatusProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		spec := everyProbe()
		for _, r := range Roles() {
			p := spec.Of(r)
			p.FailureThreshold = rapid.IntRange(1, 4).Draw(t, "failures")
			if r.Ends() {
				p.OnFailure.Do = rapid.SampledFrom([]Do{"", Restart, Pause, Nothing}).Draw(t, "do")
			}
		}
		now, s := t0, Status{}
		for range rapid.IntRange(1, 60).Draw(t, "events") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(20*time.Second)).Draw(t, "pass")))
			ev := drawEvent(t, s, now)
			next := s.Next(spec, ev, now)
			if again := s.Next(spec, ev, now); !reflect.DeepEqual(next, again) {
				t.Fatalf("%+v and %+v of the same", next, again)
			}
			s = next
			checkStatus(t, spec, s)
		}
	})
}

func drawEvent(t *rapid.T, s Status, now time.Time) Event {
	r := rapid.SampledFrom(Roles()).Draw(t, "role")
	held := rapid.SampledFrom([]string{"", "", "", "held"}).Draw(t, "held")
	o := rapid.SampledFrom([]Outcome{Success, Failure, Failure, Unknown}).Draw(t, "outcome")
	result := Checked(r, s.Started, Result{At: now, Outcome: o}, held)
	return rapid.SampledFrom([]Event{
		result, result, result, result, Ticked(r), Ticked(r), Started(now, 7), Stopped(), Paused(), Left(), Resumed(), Gap(),
	}).Draw(t, "event")
}

func checkStatus(t *rapid.T, spec Probes, s Status) {
	if s.Ready(spec) && s.Phase != Running {
		t.Fatalf("ready and %s", s.Phase)
	}
	for _, r := range Roles() {
		tr := s.Of(r)
		if tr.Due.IsZero() == s.probed(spec, r) {
			t.Fatalf("%s is due %v, but probed is %v: %+v", r, tr.Due, s.probed(spec, r), s)
		}
		if r != Startup && !tr.Due.IsZero() && s.Startup.State != Success {
			t.Fatalf("%s is due before the startup", r)
		}
		if len(tr.Results) > Kept {
			t.Fatalf("%d results", len(tr.Results))
		}
		if s.Phase == Running && tr.State != initial(r) && len(tr.Results) == 0 && s.Phase != Down {
			t.Fatalf("%s is %q without a result", r, tr.State)
		}
	}
}
