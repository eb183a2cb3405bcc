package health

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-dev/berth/runtime"
)

// scripted makes checks of a function and notes what was sent.
type scripted struct {
	run func(ctx context.Context, container string, r Role) (Outcome, string)

	mu   sync.Mutex // protects all below
	sent []time.Duration
	now  int
	most int
}

func (s *scripted) Make(r Role, _ *Probe, t Target) Check {
	return func(ctx context.Context) (Outcome, string) {
		s.mu.Lock()
		s.sent = append(s.sent, time.Since(bubble))
		s.now++
		s.most = max(s.most, s.now)
		s.mu.Unlock()
		defer func() { s.mu.Lock(); s.now--; s.mu.Unlock() }()
		return s.run(ctx, t.Container, r)
	}
}

func (s *scripted) times() []time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.sent)
}

// bubble is when every synctest bubble begins.
var bubble = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func passes(context.Context, string, Role) (Outcome, string) { return Success, "" }

// inBubble runs a prober in a bubble and ends it.
func inBubble(t *testing.T, cfg Config, body func(t *testing.T, p *Prober)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := New(cfg)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx) }()
		body(t, p)
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("run ended with %v", err)
		}
	})
}

// justStarted is a target that has just been started.
func justStarted(container string) Target {
	return Target{Container: container, State: runtime.Running, Started: time.Now()}
}

// pass lets time pass, and everything that it brings about happen.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func status1(t *testing.T, p *Prober, key string) Status {
	t.Helper()
	s, ok := p.Status(key)
	if !ok {
		t.Fatalf("%s is not known", key)
	}
	return s
}

func everySecond(change func(*Probe)) *Probe {
	return with(func(p *Probe) {
		p.Period = time.Second
		if change != nil {
			change(p)
		}
	})
}

// No drift: each tick is on the schedule, however long a probe takes, and no
// probe overlaps its predecessor.
func TestProberKeepsTheSchedule(t *testing.T) {
	s := &scripted{}
	took := []time.Duration{300 * time.Millisecond, 999 * time.Millisecond, 2500 * time.Millisecond, 0, 100 * time.Millisecond}
	n := 0
	s.run = func(context.Context, string, Role) (Outcome, string) {
		d := took[n%len(took)]
		n++
		time.Sleep(d)
		return Success, ""
	}
	inBubble(t, Config{Checks: s}, func(t *testing.T, p *Prober) {
		p.Set("a", justStarted("c"), Probes{Liveness: everySecond(nil)})
		pass(7500 * time.Millisecond)
		want := []float64{0, 1, 2, 4.5, 5, 6, 7} // seconds; one that is due meanwhile is sent at once
		got := s.times()
		if len(got) != len(want) || s.most != 1 {
			t.Fatalf("sent at %v, %d at once", got, s.most)
		}
		for i := range want {
			if got[i].Seconds() != want[i] {
				t.Errorf("probe %d sent at %v, want %vs", i, got[i], want[i])
			}
		}
	})
}

// No drift over ten minutes, whatever each probe takes.
func TestProberDoesNotDrift(t *testing.T) {
	s := &scripted{}
	s.run = func(context.Context, string, Role) (Outcome, string) {
		time.Sleep(7 * time.Millisecond)
		return Success, ""
	}
	inBubble(t, Config{Checks: s}, func(t *testing.T, p *Prober) {
		p.Set("a", justStarted("c"), Probes{Liveness: everySecond(nil)})
		pass(10*time.Minute + time.Millisecond)
		got := s.times()
		if last := got[len(got)-1]; len(got) != 601 || last != 10*time.Minute {
			t.Errorf("%d probes, the last at %v", len(got), last)
		}
	})
}

func TestProberSpreadsWhatItFinds(t *testing.T) {
	s := &scripted{run: passes}
	inBubble(t, Config{Checks: s}, func(t *testing.T, p *Prober) {
		for i := range 100 {
			target := justStarted(fmt.Sprint(i))
			target.Started = target.Started.Add(-time.Hour)
			p.Set(fmt.Sprintf("shop/api/%d", i), target, Probes{Liveness: everySecond(nil)})
		}
		pass(999 * time.Millisecond)
		first, most := 0, 0
		for i, at := range s.times() {
			if at > s.times()[first]+20*time.Millisecond {
				first = i
			}
			most = max(most, i-first+1)
		}
		if len(s.times()) < 90 || most > 20 {
			t.Errorf("%d sent in the first second, up to %d within 20 ms", len(s.times()), most)
		}
	})
}

// Issue: "A failing liveness probe is acted on within failureThreshold × period
// + 50 ms", wherever in the period it begins to fail.
func TestFailureIsActedOnInTime(t *testing.T) {
	for _, after := range []time.Duration{0, time.Millisecond, 500 * time.Millisecond, 999 * time.Millisecond} {
		var failing atomic.Bool
		var told chan time.Time // of the bubble
		s := &scripted{}
		s.run = func(context.Context, string, Role) (Outcome, string) {
			if failing.Load() {
				return Failure, "refused"
			}
			return Success, ""
		}
		cfg := Config{Checks: s, Notify: func(string) { told <- time.Now() }}
		inBubble(t, cfg, func(t *testing.T, p *Prober) {
			told = make(chan time.Time, 10)
			spec := Probes{Liveness: everySecond(nil)}
			p.Set("a", justStarted("c"), spec)
			pass(3*time.Second + after)
			<-told // the start
			failing.Store(true)
			began := time.Now()
			v := Verdict{}
			for v.Role == "" {
				<-told
				v = status1(t, p, "a").Verdict(spec)
			}
			if took := time.Since(began); took > 3*time.Second+50*time.Millisecond || v.Reason != "liveness probe failed 3 times in a row: refused" {
				t.Errorf("acted on after %v: %+v", took, v)
			}
			sent := len(s.times())
			if pass(time.Minute); len(s.times()) != sent {
				t.Error("probed on after the failure")
			}
			p.Set("a", justStarted("c"), spec)
			if pass(10 * time.Millisecond); len(s.times()) != sent+1 {
				t.Error("not probed after the new start")
			}
		})
	}
}

func TestStartupThenTheOthersAtOnce(t *testing.T) {
	s := &scripted{}
	s.run = func(_ context.Context, _ string, r Role) (Outcome, string) {
		if r == Startup && time.Since(bubble) < 2500*time.Millisecond {
			return Failure, "not yet"
		}
		return Success, ""
	}
	inBubble(t, Config{Checks: s}, func(t *testing.T, p *Prober) {
		spec := Probes{Startup: everySecond(func(p *Probe) { p.FailureThreshold = 30 }), Readiness: probe(), Liveness: probe()}
		p.Set("a", justStarted("c"), spec)
		pass(2400 * time.Millisecond)
		if why := status1(t, p, "a").Why(spec); why != "startup probe failed 3 times in a row: not yet" {
			t.Fatalf("sent %v, %q", s.times(), why)
		}
		pass(time.Second)
		st := status1(t, p, "a")
		if !st.Ready(spec) || st.Readiness.Passed.Sub(st.Startup.Passed) > slack || len(st.Liveness.Results) != 1 {
			t.Errorf("after the startup passed: %+v", st)
		}
	})
}

// One that has not been ready yet is looked at between its ticks too, the less often
// the longer it takes: it need not wait for a tick. Its schedule and its thresholds are
// of the ticks alone.
func TestLooksSoonerUntilItHasPassed(t *testing.T) {
	ask := map[string]*Probe{"tcp": {TCP: &TCP{Port: Port{Number: 80}}}, "exec": {Exec: &Exec{Command: []string{"true"}}}}
	for _, c := range []struct {
		name, kind string
		role       Role
		opens      time.Duration // when it begins to pass
		from, to   time.Duration // between which it is ready
	}{
		{"readiness", "tcp", Readiness, 150 * time.Millisecond, 150 * time.Millisecond, 210 * time.Millisecond},
		{"startup", "tcp", Startup, 2 * time.Second, 2 * time.Second, 2520 * time.Millisecond},
		{"slowly", "tcp", Readiness, 9 * time.Second, 9 * time.Second, 10 * time.Second},
		{"a command", "exec", Readiness, 150 * time.Millisecond, 10 * time.Second, 10 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &scripted{}
			s.run = func(context.Context, string, Role) (Outcome, string) {
				if time.Since(bubble) < c.opens {
					return Failure, "not yet"
				}
				return Success, ""
			}
			inBubble(t, Config{Checks: s}, func(t *testing.T, p *Prober) {
				spec := only(c.role, ask[c.kind])
				p.Set("a", justStarted("c"), spec)
				pass(32 * time.Second)
				tr := status1(t, p, "a").Of(c.role)
				if ready := tr.Since.Sub(bubble); tr.State != Success || ready < c.from || ready > c.to+slack {
					t.Errorf("ready after %s, want %s to %s; sent %v", ready, c.from, c.to, s.times())
				}
				if n := len(s.times()); n > 40 {
					t.Errorf("sent %d probes in 32 s", n)
				}
				if c.role != Readiness {
					return
				}
				for _, want := range []time.Duration{10 * time.Second, 20 * time.Second, 30 * time.Second} {
					if !slices.Contains(s.times(), want) {
						t.Errorf("none was sent at %s: %v", want, s.times())
					}
				}
			})
		})
	}
}

// An early look that fails brings nobody nearer to a threshold.
func TestEarlyFailuresDoNotCount(t *testing.T) {
	s := &scripted{run: func(context.Context, string, Role) (Outcome, string) { return Failure, "not yet" }}
	inBubble(t, Config{Checks: s}, func(t *testing.T, p *Prober) {
		spec := only(Startup, &Probe{TCP: &TCP{Port: Port{Number: 80}}, Period: 2 * time.Second, FailureThreshold: 3})
		p.Set("a", justStarted("c"), spec)
		pass(3900 * time.Millisecond)
		if st := status1(t, p, "a"); st.Startup.Run != 2 || st.Verdict(spec).Role != "" || len(st.Startup.Results) != 2 {
			t.Errorf("before the third tick, with %d probes sent: %+v", len(s.times()), st.Startup)
		}
		pass(200 * time.Millisecond)
		if st := status1(t, p, "a"); st.Startup.Run != 3 || st.Verdict(spec).Role != Startup {
			t.Errorf("after the third tick: %+v", st.Startup)
		}
		n := len(s.times())
		if pass(time.Minute); len(s.times()) != n {
			t.Errorf("probed after it had failed: %v", s.times())
		}
	})
}

// §2: "A prober error is not a result: it is dropped, up to 3 tries a tick."
func TestNoResultIsTriedThreeTimes(t *testing.T) {
	s := &scripted{run: func(context.Context, string, Role) (Outcome, string) { return Unknown, "engine is away" }}
	inBubble(t, Config{Checks: s}, func(t *testing.T, p *Prober) {
		spec := Probes{Liveness: everySecond(nil), Readiness: everySecond(nil)}
		p.Set("a", justStarted("c"), spec)
		pass(10500 * time.Millisecond)
		st := status1(t, p, "a")
		if len(s.times()) != 2*11*3 {
			t.Errorf("%d tries in 11 ticks of 2 probes", len(s.times()))
		}
		if st.Verdict(spec).Role != "" || st.Liveness.Error != "engine is away" || len(st.Liveness.Results) != 0 {
			t.Errorf("liveness %+v", st.Liveness)
		}
		if why := st.Why(spec); why != "readiness probe has no result: engine is away" {
			t.Errorf("why %q", why)
		}
	})
}

// Fault 15: an engine that takes 5 s a call for 100 containers fails no probe,
// keeps its bound, and does not delay the network probes.
func TestSlowEngineFailsNothing(t *testing.T) {
	engine, network := 0, 0
	var mu sync.Mutex
	s := &scripted{}
	s.run = func(_ context.Context, container string, _ Role) (Outcome, string) {
		mu.Lock()
		defer mu.Unlock()
		if container[0] == 'n' {
			network++
			return Success, ""
		}
		engine++
		most := engine
		mu.Unlock()
		time.Sleep(5 * time.Second)
		mu.Lock()
		engine--
		if most > DefaultEngineInFlight {
			t.Errorf("%d engine calls at once", most)
		}
		return Unknown, ""
	}
	// what the real check of a command makes of such an engine
	checks := &mixed{engine: &Checkers{Exec: slowEngine{s}}, network: s}
	inBubble(t, Config{Checks: checks}, func(t *testing.T, p *Prober) {
		command := everySecond(func(p *Probe) { p.TCP, p.Exec = nil, &Exec{Command: []string{"true"}} })
		for i := range 100 {
			p.Set(fmt.Sprintf("e%d", i), justStarted(fmt.Sprintf("e%d", i)), Probes{Liveness: command})
		}
		p.Set("n", justStarted("n"), Probes{Liveness: everySecond(nil)})
		pass(5*time.Minute + 500*time.Millisecond)
		for i := range 100 {
			if st := status1(t, p, fmt.Sprintf("e%d", i)); st.Liveness.State != Success || st.Liveness.Run != 0 {
				t.Fatalf("replica %d: %+v", i, st.Liveness)
			}
		}
		mu.Lock()
		defer mu.Unlock()
		if network != 301 {
			t.Errorf("%d network probes in 300 s", network)
		}
	})
}

// mixed makes checks of commands and of the network.
type mixed struct{ engine, network Maker }

func (m *mixed) Make(r Role, p *Probe, t Target) Check {
	if p.Exec != nil {
		return m.engine.Make(r, p, t)
	}
	return m.network.Make(r, p, t)
}

// slowEngine does not get to start a command in time.
type slowEngine struct{ s *scripted }

func (e slowEngine) Exec(ctx context.Context, container string, _ []string, _ Limit) (int, []byte, error) {
	call, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, _ = e.s.run(call, container, Liveness)
	return 0, nil, fmt.Errorf("exec %s: %w", container, context.DeadlineExceeded)
}

// A probe that waits for a place does not spend its own time.
func TestTimeBeginsWhenSent(t *testing.T) {
	s := &scripted{}
	s.run = func(ctx context.Context, _ string, _ Role) (Outcome, string) {
		ctx, cancel := context.WithTimeoutCause(ctx, time.Second, tooLate(time.Second))
		defer cancel()
		select {
		case <-time.After(900 * time.Millisecond):
			return Success, ""
		case <-ctx.Done():
			return failed(ctx, ctx.Err())
		}
	}
	inBubble(t, Config{Checks: s, InFlight: 2}, func(t *testing.T, p *Prober) {
		for i := range 10 {
			p.Set(fmt.Sprint(i), justStarted(fmt.Sprint(i)), Probes{Liveness: everySecond(nil)})
		}
		pass(time.Minute)
		if s.most != 2 {
			t.Errorf("%d in flight", s.most)
		}
		for i := range 10 {
			tr := status1(t, p, fmt.Sprint(i)).Liveness
			if tr.Last != Success || len(tr.Results) < Kept {
				t.Errorf("replica %d: %+v", i, tr)
			}
		}
	})
}

// A probe that waits for a place is not sent any more once its container is
// paused, restarted or forgotten, or after a gap.
func TestWaitingProbesAreCalledOff(t *testing.T) {
	target := func(change func(*Target)) Target {
		next := justStarted("b")
		change(&next)
		return next
	}
	for name, c := range map[string]struct {
		do   func(p *Prober, spec Probes)
		want int // probes of b afterwards
	}{
		"nothing":   {func(*Prober, Probes) {}, 1},
		"paused":    {func(p *Prober, _ Probes) { p.Pause("b") }, 0},
		"removed":   {func(p *Prober, _ Probes) { p.Remove("b") }, 0},
		"ended":     {func(p *Prober, spec Probes) { p.Set("b", target(func(t *Target) { t.State = runtime.Exited }), spec) }, 0},
		"restarted": {func(p *Prober, spec Probes) { p.Set("b", target(func(*Target) {}), spec) }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			var sent atomic.Int64
			s := &scripted{run: func(_ context.Context, container string, _ Role) (Outcome, string) {
				if container == "a" {
					time.Sleep(5 * time.Second)
				} else {
					sent.Add(1)
				}
				return Success, ""
			}}
			inBubble(t, Config{Checks: s, InFlight: 1}, func(t *testing.T, p *Prober) {
				spec := Probes{Liveness: with(func(p *Probe) { p.Period = time.Minute })}
				p.Set("a", justStarted("a"), spec)
				pass(time.Second)
				p.Set("b", justStarted("b"), spec)
				pass(time.Second)
				c.do(p, spec)
				pass(10 * time.Second)
				if got := int(sent.Load()); got != c.want {
					t.Errorf("%d probes sent, want %d", got, c.want)
				}
			})
		})
	}
}

// Fault 33: a timeout that this process itself came too late for is no failure.
func TestStarvedProberBlamesNobody(t *testing.T) {
	s := &scripted{run: func(context.Context, string, Role) (Outcome, string) {
		time.Sleep(time.Second + starved + time.Millisecond)
		return Failure, "timed out after 1s"
	}}
	inBubble(t, Config{Checks: s}, func(t *testing.T, p *Prober) {
		spec := Probes{Liveness: everySecond(nil)}
		p.Set("a", justStarted("c"), spec)
		pass(time.Minute)
		st := status1(t, p, "a")
		if st.Verdict(spec).Role != "" || st.Liveness.Error != "this process had no processor for 501ms" {
			t.Errorf("liveness %+v", st.Liveness)
		}
	})
}

// Faults 33 and 35: when most replicas begin to fail together, liveness is held,
// readiness is not; a common fault that lasts is acted on in the end.
func TestMassFailureIsHeld(t *testing.T) {
	failing := 0
	var mu sync.Mutex
	s := &scripted{run: func(_ context.Context, container string, _ Role) (Outcome, string) {
		mu.Lock()
		defer mu.Unlock()
		var n int
		_, _ = fmt.Sscan(container, &n)
		if n < failing {
			return Failure, "timed out"
		}
		return Success, ""
	}}
	fail := func(n int) { mu.Lock(); failing = n; mu.Unlock() }
	spec := Probes{Liveness: everySecond(nil), Readiness: everySecond(nil)}
	verdicts := func(t *testing.T, p *Prober) (liveness, ready int) {
		for i := range 10 {
			st := status1(t, p, fmt.Sprint(i))
			if st.Verdict(spec).Role != "" {
				liveness++
			}
			if st.Ready(spec) {
				ready++
			}
		}
		return liveness, ready
	}
	begin := func(p *Prober) {
		fail(0)
		for i := range 10 {
			p.Set(fmt.Sprint(i), justStarted(fmt.Sprint(i)), spec)
		}
		pass(5500 * time.Millisecond)
	}
	inBubble(t, Config{Checks: s}, func(t *testing.T, p *Prober) {
		begin(p)
		fail(5)
		if pass(5 * time.Second); true {
			if l, r := verdicts(t, p); l != 5 || r != 5 {
				t.Errorf("5 of 10 failing: %d verdicts, %d ready", l, r)
			}
		}
	})
	inBubble(t, Config{Checks: s}, func(t *testing.T, p *Prober) {
		begin(p)
		fail(6)
		pass(30 * time.Second)
		if l, r := verdicts(t, p); l != 0 || r != 4 {
			t.Errorf("6 of 10 failing: %d verdicts, %d ready", l, r)
		}
		want := "held: 6 of 10 replicas of this machine began to fail within 30s, so the machine is suspected; for 2m0s at most"
		if st := status1(t, p, "0"); st.Liveness.Held != want {
			t.Errorf("held %q", st.Liveness.Held)
		}
		fail(0)
		pass(3 * time.Second)
		if l, r := verdicts(t, p); l != 0 || r != 10 || status1(t, p, "0").Liveness.Held != "" {
			t.Errorf("all recovered: %d verdicts, %d ready", l, r)
		}
		fail(10)
		pass(2 * time.Minute)
		if l, _ := verdicts(t, p); l != 0 {
			t.Errorf("all failing: %d verdicts within the hold", l)
		}
		pass(10 * time.Second)
		if l, _ := verdicts(t, p); l != 10 {
			t.Errorf("all failing: %d verdicts after the hold", l)
		}
	})
}

// Faults 7 and 35: after the process or the machine was asleep nothing that
// failed before or meanwhile is acted on.
func TestGapOfTheProcess(t *testing.T) {
	s := &scripted{run: func(ctx context.Context, _ string, _ Role) (Outcome, string) {
		if time.Since(bubble) < 3*time.Second {
			return Success, ""
		}
		<-ctx.Done()
		time.Sleep(10 * time.Millisecond)
		return Failure, "timed out"
	}}
	c := &timed{s}
	inBubble(t, Config{Checks: c}, func(t *testing.T, p *Prober) {
		spec := Probes{Liveness: everySecond(nil)}
		p.Set("a", justStarted("c"), spec)
		pass(5500 * time.Millisecond) // two failures, a third probe in flight
		if st := status1(t, p, "a"); st.Liveness.Run != 2 {
			t.Errorf("before: %+v", st.Liveness)
		}
		p.mu.Lock()
		p.look(time.Now().Add(8 * time.Hour))
		p.beat = time.Now()
		p.mu.Unlock()
		if st := status1(t, p, "a"); st.Liveness.Run != 0 || st.Liveness.Due.Before(time.Now()) {
			t.Errorf("after: %+v", st.Liveness)
		}
		pass(700 * time.Millisecond)
		if st := status1(t, p, "a"); st.Liveness.Run != 0 {
			t.Errorf("the probe that was in flight during the gap counted: %+v", st.Liveness)
		}
	})
}

// timed gives each check a second.
type timed struct{ s *scripted }

func (m *timed) Make(r Role, p *Probe, t Target) Check {
	return within(p.withDefaults().Timeout, m.s.Make(r, p, t))
}

func TestAsleep(t *testing.T) {
	now := time.Now()
	limit := 6 * time.Second
	for _, c := range []struct {
		name string
		last time.Time
		want bool
	}{
		{"awake", now.Add(-time.Second), false},
		{"a late look", now.Add(-5 * time.Second), false},
		{"stopped: both clocks went on", now.Add(-10 * time.Minute), true},
		{"suspended: the wall clock went on", now.Round(0).Add(-8 * time.Hour), true},
		{"the clock was set back", now.Round(0).Add(time.Hour), false},
	} {
		if got := asleep(c.last, now, limit); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// Paused, stopping and restarting containers are not probed, and what was in
// flight is ended.
func TestProberFollowsTheContainer(t *testing.T) {
	var hang atomic.Bool
	var ended atomic.Int64
	s := &scripted{}
	s.run = func(ctx context.Context, _ string, _ Role) (Outcome, string) {
		if hang.Load() {
			<-ctx.Done()
			ended.Add(1)
		}
		return Success, ""
	}
	inBubble(t, Config{Checks: s}, func(t *testing.T, p *Prober) {
		spec := Probes{Readiness: everySecond(nil)}
		target := justStarted("c")
		expect := func(phase Phase, ready bool, sent int) {
			t.Helper()
			before := len(s.times())
			pass(2500 * time.Millisecond)
			st := status1(t, p, "a")
			if n := len(s.times()) - before; st.Phase != phase || st.Ready(spec) != ready || n != sent {
				t.Errorf("%s, ready %v, %d probes; want %s, %v, %d", st.Phase, st.Ready(spec), n, phase, ready, sent)
			}
		}
		target.State = runtime.Created
		p.Set("a", target, spec)
		expect(Down, false, 0)
		target.State, target.Started = runtime.Running, time.Now()
		p.Set("a", target, spec)
		expect(Running, true, 3)
		target.State = runtime.Paused
		p.Set("a", target, spec)
		p.Set("a", target, spec)
		expect(Frozen, false, 0)
		target.State = runtime.Running
		p.Set("a", target, spec)
		expect(Running, true, 3)
		hang.Store(true)
		pass(time.Second)
		p.Pause("a")
		expect(Leaving, false, 0)
		if ended.Load() != 1 {
			t.Errorf("%d probes in flight were ended", ended.Load())
		}
		hang.Store(false)
		target.Leaving = true
		p.Set("a", target, spec)
		expect(Leaving, false, 0)
		target.State, target.Leaving = runtime.Exited, false
		p.Set("a", target, spec)
		expect(Down, false, 0)
		target.State, target.Started = runtime.Running, time.Now()
		p.Set("a", target, spec)
		expect(Running, true, 3)
		target.State = runtime.Restarting
		p.Set("a", target, spec)
		expect(Down, false, 0)
		p.Remove("a")
		if _, ok := p.Status("a"); ok {
			t.Error("a removed replica is known")
		}
		p.Remove("a")
		p.Pause("a")
	})
}

// What was in flight before a pause does not count after it.
func TestResultFromBeforeAPauseIsDropped(t *testing.T) {
	var hang atomic.Bool
	s := &scripted{run: func(ctx context.Context, _ string, _ Role) (Outcome, string) {
		if hang.Swap(false) {
			<-ctx.Done()
			return Failure, "cut off"
		}
		return Success, ""
	}}
	inBubble(t, Config{Checks: s}, func(t *testing.T, p *Prober) {
		spec := Probes{Liveness: everySecond(func(p *Probe) { p.FailureThreshold = 1 })}
		target := justStarted("c")
		p.Set("a", target, spec)
		pass(500 * time.Millisecond)
		hang.Store(true)
		pass(time.Second)
		p.Pause("a")
		p.Set("a", target, spec) // the step did not come about
		pass(3 * time.Second)
		if st := status1(t, p, "a"); st.Verdict(spec).Role != "" || st.Liveness.Last != Success {
			t.Errorf("liveness %+v", st.Liveness)
		}
	})
}

// Setting the same again changes nothing; other probes and other routes do.
func TestSetIsLevelTriggered(t *testing.T) {
	s := &scripted{run: passes}
	inBubble(t, Config{Checks: s}, func(t *testing.T, p *Prober) {
		spec := Probes{Readiness: everySecond(nil)}
		target := justStarted("c")
		for range 5 {
			p.Set("a", target, spec.Clone())
			pass(500 * time.Millisecond)
		}
		if got := len(s.times()); got != 3 || !status1(t, p, "a").Ready(spec) {
			t.Errorf("%d probes in 2.5 s", got)
		}
		target.Routes = map[Role]Route{Readiness: {Way: ByAddress}}
		p.Set("a", target, spec)
		if !status1(t, p, "a").Ready(spec) {
			t.Error("another route took readiness away")
		}
		pass(time.Second)
		if got := len(s.times()); got != 4 {
			t.Errorf("%d probes after another route", got)
		}
		spec.Readiness.SuccessThreshold = 2
		p.Set("a", target, spec)
		if st := status1(t, p, "a"); st.Ready(spec) || len(st.Readiness.Results) != 0 {
			t.Error("other probes kept the old status")
		}
	})
}

func TestNotifyCoalesces(t *testing.T) {
	s := &scripted{}
	n := 0
	s.run = func(context.Context, string, Role) (Outcome, string) {
		n++
		return []Outcome{Failure, Success}[n%2], "" // it has passed before it fails
	}
	var calls []time.Duration
	cfg := Config{Checks: s, Notify: func(key string) {
		if key != "a" {
			t.Errorf("told of %q", key)
		}
		calls = append(calls, time.Since(bubble))
		time.Sleep(5500 * time.Millisecond)
	}}
	inBubble(t, cfg, func(t *testing.T, p *Prober) {
		p.Set("a", justStarted("c"), Probes{Readiness: everySecond(func(p *Probe) { p.FailureThreshold = 1 })})
		pass(20 * time.Second)
		if len(calls) != 4 || len(s.times()) != 21 {
			t.Errorf("told at %v of %d results", calls, len(s.times()))
		}
		p.Remove("a")
		pass(10 * time.Second)
	})
}

func TestMassHold(t *testing.T) {
	passed := func(from time.Time, last Outcome) Status {
		return Status{Phase: Running, Liveness: Track{State: Success, Passed: t0, Last: last, Run: 1, From: from}}
	}
	fails, well := passed(sec(100), Failure), passed(sec(0), Success)
	early, paused, never := passed(sec(10), Failure), passed(sec(100), Failure), passed(sec(100), Failure)
	paused.Phase = Frozen
	never.Liveness.Passed = time.Time{}
	many := func(n int, s Status) []Status { return slices.Repeat([]Status{s}, n) }
	for name, c := range map[string]struct {
		others []Status
		held   bool
	}{
		"alone":                      {nil, false},
		"three of three":             {many(2, fails), false},
		"four of four":               {many(3, fails), true},
		"four of eight":              {append(many(3, fails), many(4, well)...), false},
		"five of nine":               {append(many(4, fails), many(4, well)...), true},
		"not at the same time":       {many(9, early), false},
		"paused ones do not count":   {append(many(3, fails), many(9, paused)...), true},
		"new ones do not count":      {append(many(3, fails), many(9, never)...), true},
		"new ones alone do not":      {many(9, never), false},
		"in the dozen most are well": {append(many(4, fails), many(9, well)...), false},
	} {
		all := append([]Status{fails}, c.others...)
		seq := func(yield func(*Status) bool) {
			for i := range all {
				if !yield(&all[i]) {
					return
				}
			}
		}
		m := Mass{}.withDefaults()
		first := all[0] // the failure that is asked about may be the first in a row
		all[0].Liveness.Last = Success
		if why := m.hold(seq, &all[0], Liveness, sec(100), sec(103)); (why != "") != c.held {
			t.Errorf("%s, at the first failure: %q", name, why)
		}
		all[0] = first
		if why := m.hold(seq, &all[0], Liveness, sec(100), sec(103)); (why != "") != c.held {
			t.Errorf("%s: %q", name, why)
		}
		all[0].Liveness.HeldFrom = sec(103)
		if why := m.hold(seq, &all[0], Liveness, sec(100), sec(103).Add(m.Longest)); why != "" {
			t.Errorf("%s: still held after %v", name, m.Longest)
		}
	}
}
