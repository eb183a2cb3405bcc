package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/berth-dev/berth/internal/testimage"
	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/runtime/cgroup"
	"github.com/berth-dev/berth/runtime/docker"
	"github.com/berth-dev/berth/runtime/inside"
)

// standing is what explain tells of a replica's probes.
type standing struct {
	Replicas []struct {
		Key    string
		Probes struct {
			Startup, Readiness, Liveness struct {
				State   string
				Results []struct{ Outcome, Output string }
			}
		}
		Routes map[string]struct{ Way, Reason string }
	}
}

// awaitProbes waits until explain tells of a replica what ok wants.
func awaitProbes(t *testing.T, w *world, replica string, ok func(standing) bool) standing {
	t.Helper()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(90 * time.Second)
	for {
		r := w.berth("explain", replica, "--format", "json")
		var s standing
		if err := json.Unmarshal([]byte(r.stdout), &s); err == nil && len(s.Replicas) == 1 && ok(s) {
			return s
		}
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("the probes of %s did not come to what is expected:\n%s", replica, r)
		}
	}
}

// Every kind of probe reaches a program on a network, one that shares another's,
// and one that listens on its loopback only.
func TestProbesReachRealContainers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	w.compose(`
services:
  web:
    image: IMAGE
    command: [serve]
    x-berth: {probes: {
      startup: {log: {pattern: "^listening on 8080$"}, period: 1s, failureThreshold: 60},
      readiness: {http: {path: /healthz, port: 8080}, period: 1s, timeout: 5s},
      liveness: {grpc: {port: 8080}, period: 1s, timeout: 5s, failureThreshold: 60}}}
  local:
    image: IMAGE
    command: [serve, "127.0.0.1:9090"]
    x-berth: {probes: {
      readiness: {http: {path: /healthz, port: 9090}, period: 1s, timeout: 5s},
      liveness: {tcp: {port: 9090}, period: 1s, timeout: 5s, failureThreshold: 60}}}
  alone:
    image: IMAGE
    command: [serve]
    network_mode: none
    x-berth: {probes: {
      readiness: {tcp: {port: 8080}, period: 1s, timeout: 5s},
      liveness: {exec: {command: [PROGRAM, get, "http://127.0.0.1:8080/healthz"]}, period: 1s, timeout: 10s, failureThreshold: 60}}}
  side:
    image: IMAGE
    command: [sleep]
    network_mode: service:local
    x-berth: {probes: {
      readiness: {grpc: {port: 9090}, period: 1s, timeout: 5s}}}
`)
	if r := w.berth("up", "-d", "--wait"); r.code != 0 {
		t.Fatal(r)
	}
	for replica, way := range map[string]string{"web/1": "address", "local/1": "helper", "alone/1": "helper", "side/1": "helper"} {
		s := awaitProbes(t, w, replica, func(s standing) bool {
			p := s.Replicas[0].Probes
			return p.Readiness.State == "success" && (replica == "side/1" || p.Liveness.State == "success")
		})
		if got := s.Replicas[0].Routes["readiness"]; got.Way != way {
			t.Errorf("%s is reached by %q (%s), not by %q", replica, got.Way, got.Reason, way)
		}
	}
}

// A command that hangs, prints without end and has children, one of which left its
// session and its parent, is cut off at its time; nothing of it is left, and the
// container is as before.
func TestProbeCommandIsCutOffWithItsTree(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	w.compose("services: {idle: {image: IMAGE, command: [sleep]}}\n")
	if r := w.berth("up", "-d"); r.code != 0 {
		t.Fatal(r)
	}
	engine, id := openEngine(t, w), w.one("idle").ID
	before := processCount(t, engine, id)
	begin := time.Now()
	ran, err := engine.RunBounded(t.Context(), id, []string{testimage.Program, "flood"}, bounds(2*time.Second))
	took := time.Since(begin)
	if err != nil || !ran.TimedOut || ran.KillErr != nil {
		t.Fatalf("RunBounded: %+v, %v", ran, err)
	}
	if len(ran.Output) != keptOutput || !strings.HasPrefix(string(ran.Output), "flood flood") {
		t.Errorf("%d bytes of output are kept, not the first %d", len(ran.Output), keptOutput)
	}
	if took < 2*time.Second {
		t.Errorf("cut off after %s, before its time", took)
	}
	if after := processCount(t, engine, id); after != before {
		t.Errorf("%d processes in the container, %d before the command", after, before)
	}
	t.Logf("a limit of 2 s was kept within %s", took.Round(time.Millisecond))

	// A caller who gives up leaves nothing behind either.
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	if _, err := engine.RunBounded(ctx, id, []string{testimage.Program, "flood"}, bounds(time.Minute)); err == nil {
		t.Error("a call that was given up has no error")
	}
	if after := processCount(t, engine, id); after != before {
		t.Errorf("%d processes in the container after a call that was given up, %d before", after, before)
	}
}

// A command that could not be ended can be ended later.
func TestProbeCommandIsEndedLater(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	w.compose("services: {idle: {image: IMAGE, command: [sleep]}}\n")
	w.must("up", "-d")
	engine, id := openEngine(t, w), w.one("idle").ID
	before := processCount(t, engine, id)
	b, refused := bounds(time.Second), errors.New("not now")
	end := b.Kill
	b.Kill = func(ctx context.Context, container string, pid int, marker string) error {
		if refused != nil {
			return refused
		}
		return end(ctx, container, pid, marker)
	}
	ran, err := engine.RunBounded(t.Context(), id, []string{testimage.Program, "sleep"}, b)
	if err != nil || !ran.TimedOut || !errors.Is(ran.KillErr, refused) || ran.End == nil {
		t.Fatalf("RunBounded: %+v, %v", ran, err)
	}
	if err := ran.End(t.Context()); !errors.Is(err, refused) || processCount(t, engine, id) == before {
		t.Errorf("it is said to be gone: %v", err)
	}
	refused = nil
	if err := ran.End(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := processCount(t, engine, id); after != before {
		t.Errorf("%d processes in the container, %d before the command", after, before)
	}
}

// Exit codes and output come back, and the engine keeps no object of a command
// that has ended.
func TestProbeCommandsDoNotPileUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	w.compose("services: {idle: {image: IMAGE, command: [sleep]}}\n")
	if r := w.berth("up", "-d"); r.code != 0 {
		t.Fatal(r)
	}
	engine, id := openEngine(t, w), w.one("idle").ID
	const times = 200
	begin := time.Now()
	for i := range times {
		code := fmt.Sprint(i % 3)
		ran, err := engine.RunBounded(t.Context(), id, []string{testimage.Program, "exit", code}, bounds(30*time.Second))
		if err != nil || ran.TimedOut || fmt.Sprint(ran.Code) != code {
			t.Fatalf("command %d, to end with %s: %+v, %v", i, code, ran, err)
		}
	}
	t.Logf("%s for each command", (time.Since(begin) / times).Round(time.Microsecond))
	in, err := w.raw.ContainerInspect(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if len(in.ExecIDs) != 0 {
		t.Errorf("the engine still has %d commands of the container", len(in.ExecIDs))
	}
	ran, err := engine.RunBounded(t.Context(), id, []string{"/no/such/program"}, bounds(30*time.Second))
	if err == nil && ran.Code != 126 && ran.Code != 127 || err != nil && !runtime.IsInvalid(err) {
		t.Errorf("a program that is not there: %+v, %v", ran, err)
	}
}

const keptOutput = 10 << 10

func bounds(limit time.Duration) docker.Bounds {
	return docker.Bounds{Time: limit, Output: keptOutput, Kill: func(ctx context.Context, container string, pid int, marker string) error {
		return inside.Kill(ctx, container, pid, docker.MarkerEnv+"="+marker)
	}}
}

func openEngine(t *testing.T, w *world) *docker.Engine {
	t.Helper()
	engine, err := docker.Open(t.Context(), docker.Options{Host: w.raw.DaemonHost()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = engine.Close() })
	return engine
}

func processCount(t *testing.T, engine *docker.Engine, id string) int {
	t.Helper()
	top, err := engine.Top(t.Context(), id, nil)
	if err != nil {
		t.Fatal(err)
	}
	return len(top.Rows)
}

// Where the daemon may not enter, a helper container does: it connects to a
// loopback, tells who refuses, ends a command with its tree, and goes with the
// container.
func TestProbeHelperContainer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	w.compose("services: {local: {image: IMAGE, command: [serve, \"127.0.0.1:9090\"], network_mode: none}}\n")
	if r := w.berth("up", "-d"); r.code != 0 {
		t.Fatal(r)
	}
	engine, id := openEngine(t, w), w.one("local").ID
	h := &inside.Helpers{Engine: engine, Image: func(ctx context.Context) (string, error) { return cgroup.Image(ctx, engine, shared.binary) }}
	h.SetOwner(w.project)
	t.Cleanup(func() { _ = h.Close(context.WithoutCancel(t.Context())) })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
		return h.Dial(ctx, id, address)
	}}}
	for range 3 {
		begin := time.Now()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:9090/healthz", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		t.Logf("%d after %s", resp.StatusCode, time.Since(begin).Round(time.Millisecond))
	}
	var ours *runtime.Error
	if _, err := h.Dial(ctx, id, "127.0.0.1:9"); err == nil || errors.As(err, &ours) || !strings.Contains(err.Error(), "refused") {
		t.Errorf("a port that nobody listens at: %v", err)
	}
	before := processCount(t, engine, id)
	b := bounds(2 * time.Second)
	b.Kill = func(ctx context.Context, container string, _ int, marker string) error {
		return h.Kill(ctx, container, docker.MarkerEnv+"="+marker)
	}
	ran, err := engine.RunBounded(ctx, id, []string{testimage.Program, "flood"}, b)
	if err != nil || !ran.TimedOut || ran.KillErr != nil {
		t.Fatalf("RunBounded: %+v, %v", ran, err)
	}
	if after := processCount(t, engine, id); after != before {
		t.Errorf("%d processes in the container, %d before the command", after, before)
	}
	w.must("stop")
	w.eventually(time.Minute, func() error {
		list, err := engine.List(t.Context(), runtime.Filter{Labels: runtime.HelperLabels(w.project)})
		if err == nil && len(list) > 0 {
			err = fmt.Errorf("helper %s is still there", list[0].Name)
		}
		return err
	})
}
