package reconcile

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/health"
	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/scaling"
)

// probed gives a service a readiness and a liveness probe.
func probed(s stack.Service, onFailure health.Action) stack.Service {
	s.Probes.Readiness = &health.Probe{TCP: &health.TCP{Port: health.Port{Number: 80}}}
	s.Probes.Liveness = &health.Probe{TCP: &health.TCP{Port: health.Port{Number: 80}}, OnFailure: onFailure}
	return s
}

// found sets what the probes of a container have found.
func (f *fixture) found(service string, slot int, readiness, liveness health.Outcome) *fixture {
	id := "id-" + runtime.ContainerName("shop", service, slot)
	track := func(o health.Outcome) health.Track {
		res := health.Result{At: t0, Outcome: o, Output: "connection refused"}
		return health.Track{State: o, Last: o, Run: 3, Since: t0.Add(-time.Second), Results: []health.Result{res}}
	}
	for i := range f.o.Containers {
		if c := &f.o.Containers[i]; c.ID == id {
			if f.o.Probes == nil {
				f.o.Probes = map[string]health.Status{}
			}
			f.o.Probes[id] = health.Status{Phase: health.Running, Started: c.Started, Readiness: track(readiness), Liveness: track(liveness)}
		}
	}
	return f
}

// endedBy says that Berth has ended the run of a container.
func (f *fixture) endedBy(service string, slot int, then After) *fixture {
	for i := range f.o.Containers {
		if c := &f.o.Containers[i]; c.Name == runtime.ContainerName("shop", service, slot) {
			f.m.Ended = map[Key]Ended{ReplicaKey(service, slot): {Container: c.ID, Started: c.Started, Why: "liveness failed", Then: then}}
		}
	}
	return f
}

func TestProbesAreActedOn(t *testing.T) {
	const ok, bad = health.Success, health.Failure
	living := func(whileUnready stack.WhileUnready) *fixture {
		web := svc("web", 1, dep("db", stack.Healthy))
		web.WhileUnready = whileUnready
		return shop(probed(svc("db", 1), health.Action{}), web).has("db", 1, runtime.Running)
	}
	cases := []struct {
		name string
		f    *fixture
		want string
	}{
		{"all is well", shop(probed(svc("web", 1), health.Action{})).has("web", 1, runtime.Running).found("web", 1, ok, ok), ""},
		{"not ready is not restarted", shop(probed(svc("web", 1), health.Action{})).has("web", 1, runtime.Running).found("web", 1, bad, ok), ""},
		{
			"a failed liveness stops the run first", shop(probed(svc("web", 1), health.Action{})).has("web", 1, runtime.Running).found("web", 1, bad, bad),
			`stop web/1 shop-web-1 (liveness probe failed 3 times in a row: connection refused)`,
		},
		{
			"and starts it again at once the first time",
			shop(probed(svc("web", 1), health.Action{})).has("web", 1, runtime.Exited, exit(137, 0)).endedBy("web", 1, ThenRestart),
			`start web/1 shop-web-1 (liveness failed; restart 1)`,
		},
		{
			"what was stopped for a successor that is not wanted any more starts again",
			shop(svc("web", 1)).has("web", 1, runtime.Exited, exit(137, 0)).endedBy("web", 1, ThenYield),
			`start web/1 shop-web-1 (its successor is not wanted any more)`,
		},
		{
			"what was stopped to sleep starts again when its service wakes",
			shop(svc("web", 1)).has("web", 1, runtime.Exited, exit(0, 0)).endedBy("web", 1, ThenWake),
			`start web/1 shop-web-1 (its service is awake again)`,
		},
		{
			"whatever the restart policy is",
			func() *fixture {
				web := probed(svc("web", 1), health.Action{})
				web.Restart = &stack.RestartPolicy{Condition: "none"}
				return shop(web).has("web", 1, runtime.Exited, exit(0, 0)).endedBy("web", 1, ThenRestart)
			}(),
			`start web/1 shop-web-1 (liveness failed; restart 1)`,
		},
		{
			"and later after the backoff",
			func() *fixture {
				f := shop(probed(svc("web", 1), health.Action{})).has("web", 1, runtime.Exited, exit(137, 3*time.Second)).endedBy("web", 1, ThenRestart)
				f.m.Backoff = map[Key]health.Backoff{"web/1": {Restarts: 2, Last: t0.Add(-time.Minute)}}
				return f
			}(),
			`hold web/1 shop-web-1 (liveness failed; restarts at 10:00:17)`,
		},
		{
			"an end in another run is not this one's",
			func() *fixture {
				f := shop(svc("web", 1)).has("web", 1, runtime.Exited, exit(1, time.Minute)).endedBy("web", 1, ThenRestart)
				e := f.m.Ended["web/1"]
				e.Started = t0.Add(-time.Hour)
				f.m.Ended["web/1"] = e
				return f
			}(),
			`hold web/1 shop-web-1 (exited (1); restart: no)`,
		},
		{
			"recreate replaces", shop(probed(svc("web", 1), health.Action{Do: health.Recreate})).has("web", 1, runtime.Running).found("web", 1, bad, bad),
			`create web/1 shop-web-1-rev-web- (liveness probe failed 3 times in a row: connection refused)`,
		},
		{
			"stop stops", shop(probed(svc("web", 1), health.Action{Do: health.Stop})).has("web", 1, runtime.Running).found("web", 1, bad, bad),
			`stop web/1 shop-web-1 (liveness probe failed 3 times in a row: connection refused)`,
		},
		{
			"for good", shop(probed(svc("web", 1), health.Action{Do: health.Stop})).has("web", 1, runtime.Exited, exit(0, 0)).endedBy("web", 1, ThenStay),
			`hold web/1 shop-web-1 (stopped: liveness failed; start it to try again)`,
		},
		{
			"pause pauses", shop(probed(svc("web", 1), health.Action{Do: health.Pause})).has("web", 1, runtime.Running).found("web", 1, bad, bad),
			`pause web/1 shop-web-1 (liveness probe failed 3 times in a row: connection refused)`,
		},
		{
			"and is left so", shop(probed(svc("web", 1), health.Action{Do: health.Pause})).has("web", 1, runtime.Paused).endedBy("web", 1, ThenStay),
			`hold web/1 shop-web-1 (paused: liveness failed; start it to try again)`,
		},
		{
			"exec runs a command", shop(probed(svc("web", 1), health.Action{Do: health.RunExec, Command: []string{"dump"}})).has("web", 1, runtime.Running).found("web", 1, bad, bad),
			`exec web/1 shop-web-1 (liveness probe failed 3 times in a row: connection refused)`,
		},
		{
			"once for each failure",
			func() *fixture {
				f := shop(probed(svc("web", 1), health.Action{Do: health.Webhook, URL: "http://x"})).has("web", 1, runtime.Running).found("web", 1, bad, bad)
				f.m.Acted = map[Key]time.Time{"web/1": t0.Add(-time.Second)}
				return f
			}(),
			`hold web/1 shop-web-1 (liveness probe failed 3 times in a row: connection refused; onFailure: webhook was carried out)`,
		},
		{
			"the engine's healthcheck can be liveness",
			func() *fixture {
				web := svc("web", 1)
				web.OnUnhealthy = health.Action{Do: health.Restart}
				return shop(web).has("web", 1, runtime.Running, checked(runtime.HealthUnhealthy), func(c *runtime.Container) { c.HealthOutput = "down" })
			}(),
			`stop web/1 shop-web-1 (the healthcheck fails: down)`,
		},
		{
			"readiness holds dependants",
			shop(probed(svc("db", 1), health.Action{}), svc("web", 1, dep("db", stack.Healthy))).
				has("db", 1, runtime.Running).has("web", 1, runtime.Created).found("db", 1, bad, ok),
			`hold web/1 shop-web-1 (waits for shop-db-1 to be ready: readiness probe failed 3 times in a row: connection refused)`,
		},
		{
			"and lets them go",
			shop(probed(svc("db", 1), health.Action{}), svc("web", 1, dep("db", stack.Healthy))).
				has("db", 1, runtime.Running).has("web", 1, runtime.Created).found("db", 1, ok, ok),
			`start web/1 shop-web-1 (created, not started)`,
		},
		{
			"a dependency that is restarted is waited for",
			shop(probed(svc("db", 1), health.Action{}), svc("web", 1, dep("db", stack.Healthy))).
				has("db", 1, runtime.Exited, exit(137, 0)).has("web", 1, runtime.Created).endedBy("db", 1, ThenRestart),
			`start db/1 shop-db-1 (liveness failed; restart 1)
				hold web/1 shop-web-1 (waits for db: shop-db-1 is being restarted: liveness failed)`,
		},
		{"a dependant runs on by default", living(stack.Keep).has("web", 1, runtime.Running).found("db", 1, bad, ok), ""},
		{"or is paused", living(stack.PauseUnready).has("web", 1, runtime.Running).found("db", 1, bad, ok), `pause web/1 shop-web-1 (db is not ready)`},
		{"or stopped", living(stack.StopUnready).has("web", 1, runtime.Running).found("db", 1, bad, ok), `stop web/1 shop-web-1 (db is not ready)`},
		{"but not before anything is known", living(stack.PauseUnready).has("web", 1, runtime.Running), ""},
		{
			"rests while it is so", living(stack.PauseUnready).has("web", 1, runtime.Paused).found("db", 1, bad, ok).endedBy("web", 1, ThenAwait),
			`hold web/1 shop-web-1 (paused while db is not ready)`,
		},
		{
			"and goes on", living(stack.PauseUnready).has("web", 1, runtime.Paused).found("db", 1, ok, ok).endedBy("web", 1, ThenAwait),
			`unpause web/1 shop-web-1 (what it depends on is ready again)`,
		},
		{
			"not before it is known to be ready", living(stack.PauseUnready).has("web", 1, runtime.Paused).endedBy("web", 1, ThenAwait),
			`hold web/1 shop-web-1 (paused while db is not ready)`,
		},
		{
			"from a stop too", living(stack.StopUnready).has("web", 1, runtime.Exited, exit(0, 0)).found("db", 1, ok, ok).endedBy("web", 1, ThenAwait),
			`start web/1 shop-web-1 (what it depends on is ready again)`,
		},
		{
			"restart: true restarts with it",
			func() *fixture {
				d := dep("db", stack.Started)
				d.Restart = true
				return shop(svc("db", 1), svc("web", 1, d)).has("db", 1, runtime.Running, since(time.Minute)).has("web", 1, runtime.Running)
			}(),
			`restart web/1 shop-web-1 (db was restarted or replaced)`,
		},
		{
			"but not for a replica that was only added",
			func() *fixture {
				d := dep("db", stack.Started)
				d.Restart = true
				return shop(svc("db", 2), svc("web", 1, d)).has("db", 1, runtime.Running, since(time.Hour)).
					has("db", 2, runtime.Running, since(time.Minute)).has("web", 1, runtime.Running)
			}(),
			"",
		},
		{
			"hooks run once after the start",
			func() *fixture {
				web := svc("web", 1)
				web.PostStart = []stack.Hook{{Command: []string{"warm"}}}
				return shop(web).has("web", 1, runtime.Running)
			}(),
			`hook web/1 shop-web-1 (post_start)`,
		},
		{
			"a hook that failed is the reason",
			func() *fixture {
				web := svc("web", 1)
				web.PostStart = []stack.Hook{{Command: []string{"warm"}}}
				f := shop(web).has("web", 1, runtime.Exited, exit(143, time.Second))
				f.m.Failures = map[Key]Failure{"web/1": {Op: OpHook, Kind: runtime.KindInvalid, Err: "hook shop-web-1: warm exited with 3", Container: "id-shop-web-1"}}
				return f
			}(),
			`hold web/1 shop-web-1 (hook shop-web-1: warm exited with 3; restart: no)`,
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(lines(c.want), squeeze(c.f.plan().String())); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A dependency that does not come in time is told as a failure, and still waited for.
func TestDependencyDeadline(t *testing.T) {
	web := svc("web", 1, dep("db", stack.Healthy))
	web.DependencyDeadline = time.Minute
	f := shop(probed(svc("db", 1), health.Action{}), web).has("db", 1, runtime.Running).
		has("web", 1, runtime.Created, func(c *runtime.Container) { c.Created = t0.Add(-30 * time.Second) }).
		found("db", 1, health.Failure, health.Success)
	if h := f.plan().Holds[0]; h.Kind != HoldWaiting || !h.Until.Equal(t0.Add(30*time.Second)) {
		t.Errorf("before: %s until %s", h.Kind, h.Until)
	}
	f.o.Containers[1].Created = t0.Add(-time.Minute)
	if h := f.plan().Holds[0]; h.Kind != HoldFailing || !strings.HasSuffix(h.Reason, "not reached within 1m0s") {
		t.Errorf("after: %s %s", h.Kind, h.Reason)
	}
	f.found("db", 1, health.Success, health.Success)
	if p := f.plan(); len(p.Steps) != 1 || p.Steps[0].Op != OpStart {
		t.Errorf("a dependency that comes late:\n%s", p)
	}
}

// What failed tells why by its last output.
func TestRootCauseIsNamed(t *testing.T) {
	f := shop(svc("db", 1), svc("web", 1, dep("db", stack.Healthy))).
		has("db", 1, runtime.Exited, exit(1, time.Minute)).has("web", 1, runtime.Created)
	p := f.plan()
	if len(p.Culprits) != 1 || p.Culprits[0] != "id-shop-db-1" {
		t.Fatalf("culprits %v", p.Culprits)
	}
	f.o.Tails = map[string]string{"id-shop-db-1": "FATAL: no space left on device"}
	if got := f.plan().String(); !strings.Contains(got, "exited (1) before it was healthy; its last output: FATAL: no space left on device") {
		t.Error(got)
	}
}

// The end of a run is remembered before the engine is asked, and the start that
// follows slows the next one down.
func TestMemoryOfHealing(t *testing.T) {
	var m Memory
	stop := Step{Op: OpStop, Key: "web/1", Ends: &Ended{Container: "c", Started: t0, Why: "liveness failed", Then: ThenRestart}}
	m.Begin(stop)
	if m.Ended["web/1"].Then != ThenRestart {
		t.Fatal("not remembered before the stop")
	}
	m.End(stop, nil, t0)
	start := Step{Op: OpStart, Key: "web/1", Heals: true, Finished: t0}
	m.End(start, nil, t0)
	if m.Backoff["web/1"].Restarts != 1 {
		t.Errorf("after one restart: %+v", m.Backoff)
	}
	m.End(Step{Op: OpHook, Key: "web/1", Container: "c", Since: t0}, nil, t0)
	if !m.Hooked["c"].Equal(t0) {
		t.Error("hooks are run again")
	}
	m.End(Step{Op: OpRemove, Key: "web/1", Container: "c"}, nil, t0)
	if len(m.Hooked) > 0 {
		t.Error("the hooks of a removed container are remembered for ever")
	}
}

// hookEngine answers exec with an exit code for each command.
type hookEngine struct {
	Writer
	codes map[string]int
	calls []string
}

func (e *hookEngine) Exec(_ context.Context, _ string, spec runtime.ExecSpec, s runtime.Streams) (int, error) {
	e.calls = append(e.calls, spec.Command[0])
	if spec.Command[0] == "away" {
		return 0, &runtime.Error{Kind: runtime.KindUnavailable, Op: "exec", Err: errors.New("the engine is away")}
	}
	_, _ = s.Out.Write([]byte("some output\nlast words\n"))
	return e.codes[spec.Command[0]], nil
}

func (e *hookEngine) Stop(context.Context, string, string, time.Duration) error {
	e.calls = append(e.calls, "STOP")
	return nil
}

func TestHooks(t *testing.T) {
	hooks := func(names ...string) []stack.Hook {
		var list []stack.Hook
		for _, n := range names {
			list = append(list, stack.Hook{Command: []string{n}})
		}
		return list
	}
	cases := []struct {
		name  string
		step  Step
		calls string
		fails string
	}{
		{"after the start, in order", Step{Op: OpHook, Cause: "post_start", Hooks: hooks("one", "two")}, "one two", ""},
		{"one that fails stops the container", Step{Op: OpHook, Cause: "post_start", Hooks: hooks("bad", "two")}, "bad STOP", "bad exited with 3: last words"},
		{"an engine that is away is no failure of the hook", Step{Op: OpHook, Hooks: hooks("away")}, "away", "the engine is away"},
		{"before the stop", Step{Op: OpStop, Hooks: hooks("one"), Grace: time.Second}, "one STOP", ""},
		{"one that fails holds the stop back", Step{Op: OpStop, Cause: "stopped by command", Hooks: hooks("bad"), Grace: time.Second}, "bad", "bad exited with 3"},
		{"without grace there is no time for any", Step{Op: OpStop, Hooks: hooks("one")}, "STOP", ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			e := &hookEngine{codes: map[string]int{"bad": 3}}
			x := &Executor{Engine: e}
			_, err := x.Execute(t.Context(), "shop", c.step)
			if got := strings.Join(e.calls, " "); got != c.calls {
				t.Errorf("calls %q, not %q", got, c.calls)
			}
			if c.fails == "" && err != nil || c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails)) {
				t.Errorf("error %v, wanted %q", err, c.fails)
			}
		})
	}
}

// TestWhatSleepsIsRemembered: what is stopped to sleep is known to be ended by
// Berth, and what is stopped by command is not, for that waits for a start.
func TestWhatSleepsIsRemembered(t *testing.T) {
	for _, rests := range []bool{true, false} {
		f := shop(svc("web", 1)).has("web", 1, runtime.Running)
		st := f.d.Services["web"]
		st.Want = WantStopped
		if rests {
			st.Want, st.Rest = WantRunning, &Rest{Do: scaling.IdleStop, Why: "not used for 5m0s", Since: t0}
		}
		f.d.Services["web"] = st
		steps := Decide(&f.d, &f.o, &f.m, t0).Steps
		if len(steps) != 1 || steps[0].Op != OpStop {
			t.Fatalf("rests: %t: the steps are %+v", rests, steps)
		}
		if e := steps[0].Ends; rests != (e != nil && e.Then == ThenWake && e.Why == "not used for 5m0s") {
			t.Errorf("rests: %t: it is remembered as %+v", rests, e)
		}
	}
}
