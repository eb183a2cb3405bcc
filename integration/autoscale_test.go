package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-dev/berth/internal/api"
)

// scaling is what the daemon says of the example's one scaled service.
func (w *world) scaling(args func(...string) []string) (s api.ServiceScaling, err error) {
	w.t.Helper()
	res := w.berth(args("autoscale", "status", "--format", "json")...)
	var all []api.ServiceScaling
	if err := json.Unmarshal([]byte(res.stdout), &all); err != nil {
		return s, fmt.Errorf("%w: %s", err, res)
	}
	if len(all) != 1 {
		return s, fmt.Errorf("%d services: %s", len(all), res)
	}
	return all[0], nil
}

// burn keeps a page busy with so many clients until the returned function is called.
func (w *world) burn(url string, clients int) (stop func()) {
	ctx, cancel := context.WithCancel(w.t.Context())
	var wg sync.WaitGroup
	for range clients {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
		wg.Go(func() {
			for ctx.Err() == nil {
				_, _ = ask(ctx, client, url) // it is the load that counts
			}
		})
	}
	return func() { cancel(); wg.Wait() }
}

// Under load the service gets more replicas, after it fewer, then it is put to
// rest, and the next connection wakes it; what was decided can be decided again.
func TestAutoscale(t *testing.T) {
	w, base, args := exampleWorld(t, "autoscale", "PORT")
	w.must(args("build")...)
	w.must(args("up", "-d", "--wait")...)
	stop := w.burn(base, 4)
	w.eventually(90*time.Second, func() error {
		s, err := w.scaling(args)
		if err != nil || s.Ready < 3 {
			return fmt.Errorf("%d replicas are ready, want 3 or more (%v)", s.Ready, err) //nolint:errorlint // there may be none
		}
		return nil
	})
	record := w.must(args("autoscale", "record")...)
	stop()
	w.eventually(120*time.Second, func() error {
		s, err := w.scaling(args)
		if err != nil || s.Replicas != 1 || s.Rest == nil {
			return fmt.Errorf("%d replicas, at rest: %v, want 1 at rest (%v)", s.Replicas, s.Rest, err) //nolint:errorlint // there may be none
		}
		return nil
	})
	w.eventually(30*time.Second, func() error {
		list := w.service("web")
		if len(list) != 1 || list[0].State != "paused" {
			return fmt.Errorf("there are %d containers, want one that is paused", len(list))
		}
		return nil
	})

	client := &http.Client{Timeout: 10 * time.Second}
	began := time.Now()
	if _, err := ask(t.Context(), client, base); err != nil {
		t.Errorf("nobody was woken: %v", err)
	}
	t.Logf("woken and answered within %s", time.Since(began).Round(time.Millisecond))

	file := filepath.Join(w.base, "run.json")
	if err := os.WriteFile(file, []byte(record.stdout), 0o600); err != nil {
		t.Fatal(err)
	}
	again := w.must(args("autoscale", "simulate", "--recording", file)...)
	if !strings.Contains(again.stdout, "all the same") {
		t.Errorf("the recorded decisions are not decided again: %s", again)
	}
}

// A stack is put to sleep and woken by hand, and a number given by hand holds the
// autoscaler.
func TestSleepAndHeldScale(t *testing.T) {
	w, base, args := exampleWorld(t, "autoscale", "PORT")
	w.must(args("build")...)
	w.must(args("up", "-d", "--wait")...)
	w.must(args("scale", "web=2")...)
	s, err := w.scaling(args)
	if err != nil || !s.ByHand || s.Replicas != 2 {
		t.Errorf("after scale web=2: %+v, %v", s, err)
	}
	w.must(args("sleep")...)
	w.eventually(30*time.Second, func() error {
		for _, c := range w.service("web") {
			if c.State != "paused" {
				return fmt.Errorf("%s is %s", c.Names[0], c.State)
			}
		}
		return nil
	})
	w.must(args("wake")...)
	w.fetched(base)
	w.must(args("autoscale", "resume")...)
	w.eventually(30*time.Second, func() error {
		s, err := w.scaling(args)
		if err != nil || s.ByHand {
			return fmt.Errorf("still held (%v)", err) //nolint:errorlint // there may be none
		}
		return nil
	})
}

// Limits that do not fit are changed in place: the container is the same one, in
// the same run, and its cgroup has the new limit.
func TestResizedInPlace(t *testing.T) {
	w := newWorld(t, "")
	w.compose(`
services:
  web:
    image: IMAGE
    command: ["sleep"]
    mem_limit: 32m
    cpus: 0.25
    x-berth:
      resources: {mode: auto, min: {memory: 48M, cpus: 0.5}, max: {memory: 64M, cpus: 0.5}}
`)
	w.must("up", "-d", "--wait")
	before := w.inspect(w.one("web").ID)
	const memory, cpus = 48 << 20, 500_000_000
	w.eventually(60*time.Second, func() error {
		now := w.inspect(before.ID)
		if now.HostConfig.Memory != memory || now.HostConfig.NanoCPUs != cpus {
			return fmt.Errorf("the limits are %d bytes and %d nanocores, want %d and %d", now.HostConfig.Memory, now.HostConfig.NanoCPUs, int64(memory), int64(cpus))
		}
		return nil
	})
	after := w.inspect(before.ID)
	if after.State.StartedAt != before.State.StartedAt || after.RestartCount != 0 {
		t.Errorf("it was restarted: %s, then %s", before.State.StartedAt, after.State.StartedAt)
	}
	if plan := w.berth("plan"); plan.code != 0 {
		t.Errorf("the file's own limits should not be a change: %s", plan)
	}
	explained := w.must("explain", "web").stdout
	if !strings.Contains(explained, "48M") {
		t.Errorf("explain does not tell of the size: %s", explained)
	}
}
