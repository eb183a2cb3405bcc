package integration

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"

	"github.com/berth-dev/berth/internal/daemon"
	"github.com/berth-dev/berth/internal/testimage"
)

// A program that ignores SIGTERM is killed after its probe's own grace, not its
// service's, and restarts at once, then after 10 s, then after 20 s.
func TestLivenessGraceAndBackoff(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	w.compose(`
services:
  deaf:
    image: IMAGE
    command: [ignoreterm]
    stop_grace_period: 1m
    x-berth: {probes: {liveness: {tcp: {port: 9}, period: 1s, failureThreshold: 1, terminationGracePeriod: 1s}}}
`)
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	// As they come: the engine remembers few events, whosever they are.
	messages, broken := w.raw.Events(ctx, events.ListOptions{Filters: w.byProject()})
	w.must("up", "-d")
	const starts = 4
	var asked, died, started []time.Time
	for len(started) < starts {
		select {
		case m := <-messages:
			at := time.Unix(0, m.TimeNano)
			switch {
			case m.Action == events.ActionStart:
				started = append(started, at)
			case m.Action == events.ActionDie:
				died = append(died, at)
			case m.Action == events.ActionKill && m.Actor.Attributes["signal"] == "15":
				asked = append(asked, at)
			}
		case err := <-broken:
			t.Fatalf("%d starts of %d: %v", len(started), starts, err)
		}
	}
	if len(died) < starts-1 || len(asked) < starts-1 {
		t.Fatalf("%d stops and %d ends before %d starts", len(asked), len(died), starts)
	}
	const slow = 6 * time.Second // what a busy machine may add
	within := func(what string, got, want time.Duration) {
		t.Helper()
		if got < want || got > want+slow {
			t.Errorf("%s took %s, not %s", what, got.Round(time.Millisecond), want)
		}
	}
	for i, wait := range []time.Duration{0, 10 * time.Second, 20 * time.Second} {
		within(fmt.Sprintf("grace %d", i+1), died[i].Sub(asked[i]), time.Second)
		within(fmt.Sprintf("the wait before restart %d", i+1), started[i+1].Sub(died[i]), wait)
	}
	w.eventually(10*time.Second, func() error {
		if causes := strings.Join(w.steps("start", "deaf/1"), "\n"); !strings.Contains(causes, "restart 3") {
			return fmt.Errorf("the starts have the causes:\n%s", causes)
		}
		return nil
	})
}

// A restart by a probe takes along who asks for it, and a container that was
// killed comes back.
func TestRestartsSpreadAndKillsHeal(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	w.compose(`
services:
  db:
    image: IMAGE
    command: [serve]
    x-berth: {probes: {
      readiness: {http: {path: /healthz, port: 8080}, period: 1s, timeout: 5s},
      liveness: {http: {path: /healthz, port: 8080}, period: 1s, timeout: 5s, failureThreshold: 2}}}
  web:
    image: IMAGE
    command: [sleep]
    depends_on: {db: {condition: service_healthy, restart: true}}
  other:
    image: IMAGE
    command: [sleep]
    depends_on: {db: {condition: service_healthy}}
    deploy: {restart_policy: {condition: any, delay: 1s}}
`)
	w.must("up", "-d", "--wait")
	db, web, other := w.one("db").ID, w.one("web").ID, w.one("other").ID
	startedAt := func(id string) string { return w.inspect(id).State.StartedAt }
	restarted := func(id, before string) {
		t.Helper()
		w.eventually(40*time.Second, func() error {
			if c := w.inspect(id); !c.State.Running || c.State.StartedAt == before {
				return fmt.Errorf("%s has not been started anew: %s since %s", c.Name, c.State.Status, c.State.StartedAt)
			}
			return nil
		})
	}
	dbBefore, webBefore, otherBefore := startedAt(db), startedAt(web), startedAt(other)
	post(t, "http://"+w.address(db)+":8080/fail")
	restarted(db, dbBefore)
	restarted(web, webBefore)
	w.eventually(10*time.Second, func() error {
		if causes := strings.Join(w.steps("start", "db/1"), "\n"); !strings.Contains(causes, "liveness probe failed 2 times in a row: 503") {
			return fmt.Errorf("db was started for:\n%s", causes)
		}
		return nil
	})
	if got := startedAt(other); got != otherBefore {
		t.Error("a dependant that did not ask for it was restarted")
	}
	if err := w.raw.ContainerKill(t.Context(), other, "KILL"); err != nil {
		t.Fatal(err)
	}
	restarted(other, otherBefore)
	w.must("down", "-v")
	w.nothingLeft()
}

// address is where a container listens on the project's network.
func (w *world) address(id string) string {
	w.t.Helper()
	for _, n := range w.inspect(id).NetworkSettings.Networks {
		if n.IPAddress != "" {
			return n.IPAddress
		}
	}
	w.t.Fatalf("container %s has no address", id)
	return ""
}

func post(t *testing.T, url string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close() // it served
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("POST %s: %s", url, resp.Status)
	}
}

// A container that nobody's file names is restarted for its label when the engine
// calls it unhealthy; the same without the label is left alone.
func TestAutohealOfForeignContainers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	w.compose("services: {idle: {image: IMAGE, command: [sleep]}}\n")
	w.must("up", "-d") // the daemon runs
	sick := w.unhealthy("sick", map[string]string{daemon.LabelAutoheal: "true"})
	plain := w.unhealthy("plain", nil)
	before, untouched := w.inspect(sick).State.StartedAt, w.inspect(plain).State.StartedAt
	w.eventually(40*time.Second, func() error {
		if c := w.inspect(sick); c.State.StartedAt == before {
			return fmt.Errorf("it is %s and still runs since %s", c.State.Health.Status, before)
		}
		if !strings.Contains(w.daemonLog(), "unhealthy, and labelled "+daemon.LabelAutoheal) {
			return errors.New("the daemon's log does not say so")
		}
		return nil
	})
	w.eventually(20*time.Second, func() error {
		if c := w.inspect(plain); c.State.Health.Status != container.Unhealthy {
			return fmt.Errorf("%s is %s", c.Name, c.State.Health.Status)
		}
		return nil
	})
	if got := w.inspect(plain).State.StartedAt; got != untouched {
		t.Error("a container without the label was restarted")
	}
}

// unhealthy starts a container that is unhealthy at once, past berth.
func (w *world) unhealthy(name string, labels map[string]string) string {
	w.t.Helper()
	made, err := w.raw.ContainerCreate(w.t.Context(), &container.Config{
		Image: w.image(), Cmd: []string{"sleep"}, Labels: labels,
		Healthcheck: &container.HealthConfig{
			Test: []string{"CMD", testimage.Program, "exit", "1"}, Interval: time.Second, Timeout: 10 * time.Second, Retries: 1,
		},
	}, nil, nil, nil, w.project+"-"+name)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(w.t.Context()), 30*time.Second)
		defer cancel()
		if err := w.raw.ContainerRemove(ctx, made.ID, forced()); err != nil {
			w.t.Errorf("clean up: %v", err)
		}
	})
	if err := w.raw.ContainerStart(w.t.Context(), made.ID, container.StartOptions{}); err != nil {
		w.t.Fatal(err)
	}
	return made.ID
}

// A wrong probe is told with file and line, and nothing is made, no daemon either.
func TestWrongProbesStartNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	for name, c := range map[string]struct{ probe, want string }{
		"no kind":              {"liveness: {period: 1s}", "services.web.x-berth.probes.liveness"},
		"two kinds":            {"liveness: {tcp: {port: 1}, exec: {command: [a]}}", "services.web.x-berth.probes.liveness"},
		"a key that is none":   {"liveness: {tcp: {port: 1}, perriod: 1s}", `unknown key "perriod"`},
		"no port":              {"readiness: {http: {path: /}}", "services.web.x-berth.probes.readiness.http"},
		"a port too large":     {"readiness: {tcp: {port: 70000}}", "services.web.x-berth.probes.readiness.tcp.port"},
		"a port by no name":    {"readiness: {tcp: {port: web}}", "services.web.x-berth.probes.readiness.tcp.port"},
		"too often":            {"liveness: {tcp: {port: 1}, period: 10ms}", "10ms is too short"},
		"a negative timeout":   {"liveness: {tcp: {port: 1}, timeout: -1s}", "services.web.x-berth.probes.liveness.timeout"},
		"threshold":            {"liveness: {tcp: {port: 1}, successThreshold: 2}", "services.web.x-berth.probes.liveness.successThreshold"},
		"grace of readiness":   {"readiness: {tcp: {port: 1}, terminationGracePeriod: 1s}", "services.web.x-berth.probes.readiness.terminationGracePeriod"},
		"a pattern that is no": {"startup: {log: {pattern: '['}}", "services.web.x-berth.probes.startup.log"},
		"an unknown action":    {"liveness: {tcp: {port: 1}, onFailure: explode}", "services.web.x-berth.probes.liveness.onFailure"},
	} {
		w.compose("services:\n  web:\n    image: IMAGE\n    x-berth:\n      probes:\n        " + c.probe + "\n")
		r := w.fails([]string{"up", "-d"}, "compose.yaml:7: ", c.want)
		if r.code != 1 {
			t.Errorf("%s: exit code %d: %s", name, r.code, r)
		}
	}
	left, err := w.leftovers(t.Context(), true)
	if err != nil || len(left) > 0 {
		t.Errorf("made all the same: %v, %v", left, err)
	}
	if pid := w.daemonPID(); pid != 0 {
		t.Errorf("daemon %d runs for nothing", pid)
	}
}
