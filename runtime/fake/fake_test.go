package fake_test

import (
	"bytes"
	"cmp"
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/runtime/enginetest"
	"github.com/berth-dev/berth/runtime/fake"
)

var _ enginetest.Engine = (*fake.Engine)(nil)

// inBubble runs a test in virtual time on an engine that holds one image, "app".
func inBubble(t *testing.T, opts fake.Options, f func(t *testing.T, e *fake.Engine)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		e := fake.New(opts)
		defer e.Close()
		e.AddImage("app", fake.Image{})
		f(t, e)
	})
}

func create(t *testing.T, e *fake.Engine, name string, spec runtime.Spec) string {
	t.Helper()
	if spec.Image == "" {
		spec.Image = "app"
	}
	id, err := e.Create(t.Context(), name, nil, &spec, nil)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func start(t *testing.T, e *fake.Engine, name string, spec runtime.Spec) string {
	t.Helper()
	id := create(t, e, name, spec)
	if err := e.Start(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	return id
}

func inspect(t *testing.T, e *fake.Engine, id string) runtime.Container {
	t.Helper()
	c, err := e.Inspect(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// record follows the events of containers; the function it returns ends that
// and lists the actions.
func record(t *testing.T, e *fake.Engine) func() string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var actions []string
	done := make(chan struct{})
	events := e.Events(ctx, time.Time{}, runtime.Filter{})
	go func() {
		defer close(done)
		for ev := range events {
			if ev.Type == "container" || ev.Type == "resync" {
				actions = append(actions, cmp.Or(ev.Action, ev.Type))
			}
		}
	}()
	return func() string {
		synctest.Wait()
		cancel()
		<-done
		return strings.Join(actions, ", ")
	}
}

func TestRestartPolicyBacksOff(t *testing.T) {
	inBubble(t, fake.Options{}, func(t *testing.T, e *fake.Engine) {
		e.Script("web-1", fake.Exit(0, 1))
		begin := time.Now()
		id := start(t, e, "web-1", runtime.Spec{Restart: runtime.RestartPolicy{Name: "always"}})
		// 100 ms, 200 ms, … 51.2 s, then 60 s each.
		var sum time.Duration
		for i, d := 0, 100*time.Millisecond; i < 12; i, d = i+1, min(2*d, time.Minute) {
			synctest.Wait()
			c := inspect(t, e, id)
			if c.State != runtime.Restarting || c.RestartCount != i+1 {
				t.Fatalf("restart %d: got %s after %d restarts", i, c.State, c.RestartCount)
			}
			sum += d
			time.Sleep(time.Until(begin.Add(sum)))
		}
	})
}

func TestRestartPolicyResetsAfterStableRun(t *testing.T) {
	inBubble(t, fake.Options{}, func(t *testing.T, e *fake.Engine) {
		e.Script("web-1", fake.Exit(10*time.Second, 0))
		id := start(t, e, "web-1", runtime.Spec{Restart: runtime.RestartPolicy{Name: "unless-stopped"}})
		time.Sleep(3*(10*time.Second+100*time.Millisecond) + time.Millisecond)
		c := inspect(t, e, id)
		if c.State != runtime.Running || c.RestartCount != 3 || c.Uptime(time.Now()) != time.Millisecond {
			t.Fatalf("got %s after %d restarts, up %s", c.State, c.RestartCount, c.Uptime(time.Now()))
		}
		if err := e.Stop(t.Context(), id, "", time.Second); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if c := inspect(t, e, id); c.State != runtime.Exited {
			t.Fatalf("a stopped container was restarted: %s", c.State)
		}
	})
}

func TestRestartPolicyOnFailure(t *testing.T) {
	inBubble(t, fake.Options{}, func(t *testing.T, e *fake.Engine) {
		e.Script("web-1", fake.Exit(0, 3))
		id := start(t, e, "web-1", runtime.Spec{Restart: runtime.RestartPolicy{Name: "on-failure", MaxRetries: 2}})
		time.Sleep(time.Hour)
		if c := inspect(t, e, id); c.State != runtime.Exited || c.RestartCount != 2 || c.ExitCode != 3 {
			t.Fatalf("got %s after %d restarts, exit code %d", c.State, c.RestartCount, c.ExitCode)
		}
	})
}

func TestHealthFollowsScript(t *testing.T) {
	inBubble(t, fake.Options{}, func(t *testing.T, e *fake.Engine) {
		e.Script("web-1", fake.Workload{Health: fake.HealthyAfter(4 * time.Second)})
		events := record(t, e)
		check := &runtime.Healthcheck{Test: []string{"CMD", "true"}, Interval: time.Second, Retries: 2}
		id := start(t, e, "web-1", runtime.Spec{Healthcheck: check})
		want := []struct {
			after  time.Duration
			status runtime.Health
		}{{500 * time.Millisecond, runtime.HealthStarting}, {2 * time.Second, runtime.HealthUnhealthy}, {2 * time.Second, runtime.HealthHealthy}}
		for _, w := range want {
			time.Sleep(w.after)
			if c := inspect(t, e, id); c.Health != w.status {
				t.Fatalf("%s later: health %q, want %q", w.after, c.Health, w.status)
			}
		}
		if got := events(); got != "create, start, health_status: unhealthy, health_status: healthy" {
			t.Fatalf("events: %s", got)
		}
	})
}

func TestStopWaitsGraceThenKills(t *testing.T) {
	inBubble(t, fake.Options{}, func(t *testing.T, e *fake.Engine) {
		e.Script("web-1", fake.Workload{IgnoreTerm: true})
		id := start(t, e, "web-1", runtime.Spec{})
		begin := time.Now()
		if err := e.Stop(t.Context(), id, "", 7*time.Second); err != nil {
			t.Fatal(err)
		}
		if c := inspect(t, e, id); c.ExitCode != 137 || time.Since(begin) != 7*time.Second {
			t.Fatalf("exit code %d after %s", c.ExitCode, time.Since(begin))
		}
	})
}

func TestLogsFollowEndsAtExit(t *testing.T) {
	inBubble(t, fake.Options{}, func(t *testing.T, e *fake.Engine) {
		e.Script("web-1", fake.Workload{Output: []string{"one", "two", "three"}, Errors: []string{"bad"}, Exits: true, After: time.Minute})
		id := start(t, e, "web-1", runtime.Spec{})
		var out, errOut bytes.Buffer
		err := e.Logs(t.Context(), id, runtime.LogOptions{Follow: true, Tail: 3, Stdout: true, Stderr: true}, &out, &errOut)
		if err != nil || strings.TrimPrefix(out.String(), "one\n") != "two\nthree\n" || errOut.String() != "bad\n" {
			t.Fatalf("got %q and %q, %v", out.String(), errOut.String(), err)
		}
	})
}
