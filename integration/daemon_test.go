package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const threeReplicas = `
services:
  web:
    image: IMAGE
    command: [sleep]
    deploy: {replicas: 3}
    stop_grace_period: 2s
  api:
    image: IMAGE
    command: [sleep]
    depends_on: [web]
`

var threeRunning = map[string]int{"web": 3, "api": 1}

// Faults 1 and 2: the daemon dies right after a container was created. The next
// one adopts it, creates no second one and starts it once.
func TestKilledBetweenCreateAndStart(t *testing.T) {
	for _, n := range []int{1, 2, 3, 4} {
		t.Run(fmt.Sprintf("create %d", n), func(t *testing.T) {
			w := newWorld(t, "")
			w.compose(threeReplicas)
			seen := w.watchProject()
			w.killDuring([]string{"up", "-d"}, seen, "a container created", func(x *watch) bool { return x.count["create"] >= n })
			w.must("up", "-d", "--wait")
			if err := w.running(threeRunning); err != nil {
				t.Error(err)
			}
			if created := seen.saw("create", ""); created != 4 {
				t.Errorf("%d containers were created for 4 replicas", created)
			}
			for _, c := range w.containers() {
				if starts := seen.saw("start", c.ID); starts != 1 {
					t.Errorf("%s was started %d times", c.Names[0], starts)
				}
			}
			w.must("down")
			w.nothingLeft()
		})
	}
}

// The next daemon goes on by itself: nobody has to say up again.
func TestNextDaemonGoesOn(t *testing.T) {
	w := newWorld(t, "")
	w.compose(threeReplicas)
	seen := w.watchProject()
	w.killDuring([]string{"up", "-d"}, seen, "the first start", func(x *watch) bool { return x.count["start"] >= 1 })
	w.startDaemon()
	w.eventually(30*time.Second, func() error { return w.running(threeRunning) })
	w.must("down")
	w.nothingLeft()
}

// startDaemon runs berth serve in the background until the test's end.
func (w *world) startDaemon() {
	w.t.Helper()
	ctx, stop := context.WithCancel(context.WithoutCancel(w.t.Context()))
	cmd := w.command(ctx, "serve")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = cmd.Wait()
	}()
	w.t.Cleanup(func() {
		stop()
		<-done
		if w.t.Failed() {
			w.t.Logf("berth serve said:\n%s", &out)
		}
	})
	w.eventually(10*time.Second, func() error {
		if w.daemonPID() == 0 {
			return errors.New("berth serve does not run")
		}
		return nil
	})
}

// A kill on the way down leaves a stack that goes on going down.
func TestKilledOnTheWayDown(t *testing.T) {
	w := newWorld(t, "")
	w.compose(threeReplicas)
	seen := w.watchProject()
	for _, action := range []string{"die", "destroy"} {
		w.must("up", "-d", "--wait")
		before := seen.saw(action, "")
		w.killDuring([]string{"down"}, seen, action, func(x *watch) bool { return x.count[action] > before })
		w.startDaemon()
		w.eventually(60*time.Second, func() error {
			left, err := w.leftovers(t.Context(), true)
			if err == nil && len(left) > 0 {
				err = fmt.Errorf("still there: %v", left)
			}
			return err
		})
		w.killDaemon(syscall.SIGKILL)
	}
}

// Fault 5: there is never a second daemon, and a lock file alone is no daemon.
func TestOneDaemon(t *testing.T) {
	w := newWorld(t, "")
	w.compose(threeReplicas)
	w.must("up", "-d", "--wait")
	first := w.daemonPID()
	w.fails([]string{"serve"}, "already")
	if w.daemonPID() != first {
		t.Error("the first daemon is gone")
	}
	before := w.started()
	w.killDaemon(syscall.SIGKILL)
	w.must("up", "-d")
	if w.daemonPID() == 0 {
		t.Error("the dead daemon's lock file kept the next one away")
	}
	if after := w.started(); after != before {
		t.Errorf("containers were touched by the daemon's death:\n%s\n%s", before, after)
	}
	w.must("down")
	w.nothingLeft()
}

// started tells every container of the project and when it was started.
func (w *world) started() string {
	w.t.Helper()
	var lines []string
	for _, c := range w.containers() {
		lines = append(lines, c.ID[:12]+" "+w.inspect(c.ID).State.StartedAt)
	}
	return strings.Join(lines, "\n")
}

// Ending the daemon in any way stops no container.
func TestDaemonsEndStopsNothing(t *testing.T) {
	w := newWorld(t, "")
	w.compose(threeReplicas)
	w.must("up", "-d", "--wait")
	before := w.started()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		w.killDaemon(sig)
		if after := w.started(); after != before {
			t.Errorf("%s: containers changed:\n%s\n%s", sig, before, after)
		}
		w.must("up", "-d")
	}
	w.must("down")
	w.nothingLeft()
}

// Fault 7: the daemon is stopped for a while, as a laptop's sleep or a debugger
// does it. Reading goes on without it, a command waits for it, and once it goes
// on it makes up for what happened meanwhile, and for nothing else.
func TestStoppedDaemon(t *testing.T) {
	w := newWorld(t, "")
	w.compose(strings.Replace(threeReplicas, "replicas: 3", "replicas: 3, restart_policy: {condition: any, delay: 0s}", 1))
	w.must("up", "-d", "--wait")
	pid := w.daemonPID()
	w.signalDaemon(pid, syscall.SIGSTOP)
	defer func() { _ = syscall.Kill(pid, syscall.SIGCONT) }()
	before := w.startTimes()
	gone, killed := w.service("web")[0].ID, w.service("web")[1].ID
	if err := w.raw.ContainerRemove(t.Context(), gone, forced()); err != nil {
		t.Fatal(err)
	}
	if err := w.raw.ContainerKill(t.Context(), killed, "KILL"); err != nil {
		t.Fatal(err)
	}
	if r := w.must("ps", "-a", "--format", "{{.State}}"); strings.Count(r.stdout, "running") != 2 {
		t.Errorf("ps without the daemon shows: %s", r)
	}
	ctx, cancel := context.WithTimeout(t.Context(), commandTime)
	defer cancel()
	plan := w.command(ctx, "plan")
	var out bytes.Buffer
	plan.Stdout, plan.Stderr = &out, &out
	if err := plan.Start(); err != nil {
		t.Fatal(err)
	}
	planned := make(chan struct{})
	go func() {
		defer close(planned)
		_ = plan.Wait() // its exit code is looked at below
	}()
	select {
	case <-planned:
		t.Fatalf("a stopped daemon has planned (exit code %d): %s", plan.ProcessState.ExitCode(), &out)
	case <-time.After(3 * time.Second):
	}
	w.signalDaemon(pid, syscall.SIGCONT)
	<-planned
	if code := plan.ProcessState.ExitCode(); code != 0 && code != 2 {
		t.Errorf("the plan that had to wait ended with code %d: %s", code, &out)
	}
	w.eventually(30*time.Second, func() error { return w.running(threeRunning) })
	if w.daemonPID() != pid {
		t.Error("another daemon runs")
	}
	after := w.startTimes()
	for id, at := range before {
		if id != gone && id != killed && after[id] != at {
			t.Errorf("%s was touched: started %s, then %s", id, at, after[id])
		}
	}
	w.must("down")
	w.nothingLeft()
}

// startTimes tells when each container of the project was last started.
func (w *world) startTimes() map[string]string {
	w.t.Helper()
	times := map[string]string{}
	for _, c := range w.containers() {
		times[c.ID] = w.inspect(c.ID).State.StartedAt
	}
	return times
}

// Fault 6: the state is deleted while containers run. The daemon takes nothing
// away, and up takes the stack over again.
func TestLostState(t *testing.T) {
	w := newWorld(t, "")
	w.compose(threeReplicas)
	w.must("up", "-d", "--wait")
	before := w.started()
	w.killDaemon(syscall.SIGKILL)
	w.emptyState()
	w.must("ls", "-a")
	w.startDaemon()
	w.must("ps") // a look through the new daemon's eyes
	r := w.berth("plan")
	for line := range strings.Lines(r.stdout) {
		if op, _, _ := strings.Cut(line, " "); op == "remove" || op == "stop" || op == "kill" {
			t.Errorf("the plan would take running containers away: %s", r)
		}
	}
	if after := w.started(); after != before {
		t.Errorf("containers changed with the state:\n%s\n%s", before, after)
	}
	w.fails([]string{"up", "-d"}, "--adopt") // they may be somebody else's by now
	w.must("up", "-d", "--adopt")
	if after := w.started(); after != before {
		t.Errorf("taking the stack over replaced containers:\n%s\n%s", before, after)
	}
	w.must("down")
	w.nothingLeft()
}

func (w *world) emptyState() {
	w.t.Helper()
	entries, err := os.ReadDir(filepath.Join(w.base, "state"))
	if err != nil {
		w.t.Fatal(err)
	}
	if len(entries) == 0 {
		w.t.Fatal("there is no state to lose")
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(w.base, "state", e.Name())); err != nil {
			w.t.Fatal(err)
		}
	}
}

// Fault 4: a state file cut off anywhere is not taken for an empty one.
func TestTornStateFile(t *testing.T) {
	w := newWorld(t, "")
	w.compose(threeReplicas)
	w.must("up", "-d", "--wait")
	before := w.started()
	var file string
	_ = filepath.WalkDir(filepath.Join(w.base, "state"), func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && strings.Contains(d.Name(), w.project) {
			file = path
		}
		return nil
	})
	if file == "" {
		t.Fatal("no state file has the stack's name")
	}
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{0, 1, len(whole) / 2, len(whole) - 2} {
		w.killDaemon(syscall.SIGKILL)
		if err := os.WriteFile(file, whole[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		r := w.berth("up", "-d")
		if after := w.started(); after != before {
			t.Fatalf("a state file of %d bytes cost containers:\n%s\n%s\n%s", size, before, after, r)
		}
		if w.daemonPID() == 0 {
			t.Fatalf("no daemon runs on a state file of %d bytes: %s", size, r)
		}
		if r.code == 0 {
			continue // an earlier state was whole
		}
		if !strings.Contains(r.stderr, "--adopt") {
			t.Errorf("up says no way out of a state file of %d bytes: %s", size, r)
		}
		w.must("up", "-d", "--adopt")
		if after := w.started(); after != before {
			t.Fatalf("declaring the stack anew cost containers:\n%s\n%s", before, after)
		}
	}
	w.must("down")
	w.nothingLeft()
}

// Fault 41: the socket and its folder are the owner's alone.
func TestSocketIsTheOwnersAlone(t *testing.T) {
	w := newWorld(t, "")
	w.compose(threeReplicas)
	w.must("up", "-d")
	found := false
	err := filepath.WalkDir(filepath.Join(w.base, "run"), func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode().Type() == os.ModeSocket {
			found = true
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %s", path, info.Mode())
		}
		return nil
	})
	if err != nil || !found {
		t.Errorf("no socket under XDG_RUNTIME_DIR (%v)", err)
	}
	w.must("down")
}
