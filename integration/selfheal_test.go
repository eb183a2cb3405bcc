package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/api/types/events"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/testimage"
)

// sick is the world of the selfheal example.
type sick struct {
	*world
	args func(...string) []string
}

func newSick(t *testing.T) *sick {
	t.Helper()
	w, _, args := exampleWorld(t, "selfheal", "UNUSED")
	s := &sick{world: w, args: args}
	s.must(args("build")...)
	s.must(args("up", "-d", "--wait")...)
	return s
}

// tell has a replica of api misbehave.
func (s *sick) tell(slot int, words ...string) {
	s.t.Helper()
	r := s.berth(s.args(append([]string{"exec", "--index", fmt.Sprint(slot), "api", "/app", "tell", "http://127.0.0.1:8080"}, words...)...)...)
	if r.code != 0 && words[0] != "exit" { // who tells it to exit may end with it
		s.t.Fatal(r)
	}
}

// row is what ps says of one container.
type row struct {
	Name, State, Ready, Reason string
	Restarts                   int
}

func (s *sick) ps(name string) row {
	s.t.Helper()
	r := s.must(s.args("ps", "-a", "--no-trunc", "--format", "json")...)
	for line := range strings.Lines(r.stdout) {
		var got row
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			s.t.Fatalf("%v: %s", err, line)
		}
		if strings.HasSuffix(got.Name, name) {
			return got
		}
	}
	s.t.Fatalf("no %s in ps: %s", name, r)
	return row{}
}

// becomes waits until ps says of a container what it should.
func (s *sick) becomes(name string, what string, ok func(row) bool) row {
	s.t.Helper()
	var got row
	s.eventually(40*time.Second, func() error {
		if got = s.ps(name); !ok(got) {
			return fmt.Errorf("%s is not %s: %+v", name, what, got)
		}
		return nil
	})
	return got
}

func isReady(r row) bool { return r.Ready == "yes" && r.State == "running" }

// explained is what explain says of a replica.
func (s *sick) explained(replica string) api.Explanation {
	s.t.Helper()
	var all api.Explained
	r := s.must(s.args("explain", replica, "--format", "json")...)
	if err := json.Unmarshal([]byte(r.stdout), &all); err != nil || len(all.Replicas) != 1 {
		s.t.Fatalf("%d replicas, %v: %s", len(all.Replicas), err, r)
	}
	return all.Replicas[0]
}

// steps are the causes of the daemon's steps on a replica, as its log has them.
func (w *world) steps(op, replica string) []string {
	w.t.Helper()
	var causes []string
	for line := range strings.Lines(w.daemonLog()) {
		var e struct{ Op, Replica, Cause, Message string }
		if json.Unmarshal([]byte(line), &e) == nil && e.Message == "step" && e.Op == op && e.Replica == replica {
			causes = append(causes, e.Cause)
		}
	}
	return causes
}

// daemonLog is all that the world's daemons have written.
func (w *world) daemonLog() string {
	w.t.Helper()
	var all strings.Builder
	_ = filepath.WalkDir(filepath.Join(w.base, "state"), func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() || filepath.Ext(path) != ".log" {
			return nil //nolint:nilerr // what cannot be read says nothing
		}
		data, err := os.ReadFile(path)
		all.Write(data)
		return err
	})
	return all.String()
}

// happened counts the engine's events of the project since a moment, as
// "<action> <container's name>".
func (w *world) happened(since time.Time) map[string]int {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
	defer cancel()
	messages, failed := w.raw.Events(ctx, events.ListOptions{
		Since: strconv.FormatInt(since.Unix(), 10), Until: strconv.FormatInt(time.Now().Unix()+1, 10), Filters: w.byProject(),
	})
	counts := map[string]int{}
	for {
		select {
		case m := <-messages:
			counts[string(m.Action)+" "+m.Actor.Attributes["name"]]++
		case err := <-failed:
			if err != nil && !errors.Is(err, io.EOF) {
				w.t.Fatalf("read the engine's events: %v", err)
			}
			return counts
		}
	}
}

func (s *sick) stepSays(op, replica string, words ...string) {
	s.t.Helper()
	s.eventually(40*time.Second, func() error {
		all := strings.Join(s.steps(op, replica), "\n")
		for _, w := range words {
			if !strings.Contains(all, w) {
				return fmt.Errorf("no %s of %s says %q:\n%s", op, replica, w, all)
			}
		}
		return nil
	})
}

// Each way in which the example's service can fail ends in its recovery, for the
// expected reason.
func TestSelfheal(t *testing.T) {
	s := newSick(t)
	name := s.project + "-api-1"
	id := s.inspect(name).ID
	if got := s.ps(name); !isReady(got) || got.Restarts != 0 {
		t.Fatalf("after up --wait: %+v", got)
	}

	// Readiness moves it out of service and never restarts it; the client rests
	// only while none is ready.
	s.tell(1, "unready")
	s.becomes(name, "unready", func(r row) bool {
		return r.Ready == "no" && strings.Contains(r.Reason, "readiness probe failed") && strings.Contains(r.Reason, "503")
	})
	if got := s.ps("client-1"); got.State != "running" {
		t.Errorf("the client rests although api/2 is ready: %+v", got)
	}
	s.tell(2, "unready")
	s.becomes("client-1", "paused", func(r row) bool { return r.State == "paused" && strings.Contains(r.Reason, "api is not ready") })
	s.tell(2, "ready")
	s.becomes("client-1", "running", func(r row) bool { return r.State == "running" })
	s.tell(1, "ready")
	s.becomes(name, "ready", isReady)
	if got := s.inspect(name); got.ID != id || got.RestartCount != 0 || s.ps(name).Restarts != 0 {
		t.Error("an unready replica was restarted")
	}

	// A hang ends in a stop with grace and a start of the same container.
	s.tell(1, "hang")
	s.stepSays("stop", "api/1", "liveness probe failed 3 times in a row: timed out after 1s")
	s.stepSays("start", "api/1", "liveness probe failed", "restart 1")
	s.becomes(name, "ready", isReady)
	if got := s.inspect(name); got.ID != id {
		t.Error("a restart made another container")
	}

	// Out of memory, on another replica, whose backoff is still its own.
	s.tell(2, "leak")
	s.stepSays("start", "api/2", "out of memory at its limit of 48M; try a limit of 80M")
	s.becomes(s.project+"-api-2", "ready", isReady)

	// The second failure in a row waits, and says until when; so does the next daemon.
	s.tell(2, "exit", "3")
	waits := func() error {
		if h := s.explained("api/2").Hold; !strings.Contains(h, "exited (3)") || !strings.Contains(h, "restarts at") {
			return fmt.Errorf("api/2 waits for %q", h)
		}
		return nil
	}
	s.eventually(10*time.Second, waits)
	s.killDaemon(syscall.SIGKILL)
	s.eventually(10*time.Second, waits)
	s.becomes(s.project+"-api-2", "ready", isReady)
	if got := s.explained("api/2"); got.Backoff.Restarts != 2 {
		t.Errorf("the backoff has counted %d restarts", got.Backoff.Restarts)
	}
	if got := s.explained("api/1"); got.Probes == nil || got.Routes["liveness"].Way == "" {
		t.Errorf("explain tells nothing of the probes: %+v", got)
	}
	s.must(s.args("down", "-v")...)
	s.nothingLeft()
}

// The daemon dies while a restart is between its stop and its start.
func TestDaemonKilledInTheMiddleOfARestart(t *testing.T) {
	s := newSick(t)
	seen := s.watchProject()
	name := s.project + "-api-1"
	c := s.inspect(name)
	before := c.State.StartedAt
	s.tell(1, "hang")
	seen.wait(30*time.Second, "the end of a replica that hangs", func(x *watch) bool { return x.byID[c.ID]["die"] > 0 })
	s.killDaemon(syscall.SIGKILL)
	s.startDaemon()
	s.becomes(name, "ready", isReady)
	if got := s.inspect(name); got.State.StartedAt == before {
		t.Error("it was not started anew")
	}
	s.must(s.args("down", "-v")...)
	s.nothingLeft()
}

// Steps before the start, hooks after it and before the stop, and a hook that fails.
func TestHooks(t *testing.T) {
	w := newWorld(t, "")
	w.compose(`
services:
  web:
    image: IMAGE
    command: [sleep]
    volumes: ["data:/data"]
    stop_grace_period: 5s
    deploy: {replicas: 2}
    pre_start:
      - {command: [print, once]}
      - {command: [print, each], per_replica: true}
    post_start:
      - {command: [PROGRAM, print, started]}
    pre_stop:
      - {command: [PROGRAM, print, stopping]}
  bad:
    image: IMAGE
    command: [sleep]
    profiles: [bad]
    post_start:
      - {command: [PROGRAM, exit, "3"]}
volumes: {data: {}}
`)
	begin := time.Now()
	w.must("up", "-d", "--wait")
	once := func(action, name string) {
		t.Helper()
		if n := w.happened(begin)[action+" "+name]; n != 1 {
			t.Errorf("%s of %s: %d times", action, name, n)
		}
	}
	once("start", w.project+"-web-init-1")
	for slot := 1; slot <= 2; slot++ {
		once("start", fmt.Sprintf("%s-web-%d-init-2", w.project, slot))
		once("exec_start: "+testimage.Program+" print started", fmt.Sprintf("%s-web-%d", w.project, slot))
	}
	if n := len(w.containers()); n != 2 {
		t.Errorf("%d containers are left of two replicas and their steps", n)
	}
	w.must("stop")
	once("exec_start: "+testimage.Program+" print stopping", w.project+"-web-1")
	w.fails([]string{"--profile", "bad", "up", "-d", "bad"}, "post_start", "exited with 3")
	if c := w.one("bad"); c.State != "exited" {
		t.Errorf("a container whose hook failed is %s", c.State)
	}
	w.must("--profile", "bad", "down", "-v")
	w.nothingLeft()
}
