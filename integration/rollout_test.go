package integration

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
)

// load is a constant load of keep-alive and of one-shot connections on one page,
// half each, and what came of it.
type load struct {
	stop func()
	done sync.WaitGroup

	mu       sync.Mutex // protects all below
	answers  map[string]int
	failures []string
}

// clients is how many ask at once, and pace how long each rests between.
const (
	clients = 8
	pace    = 3 * time.Millisecond
)

// call puts a page under load until finish is called.
func (w *world) call(url string) *load {
	ctx, stop := context.WithCancel(w.t.Context())
	l := &load{stop: stop, answers: map[string]int{}}
	for i := range clients {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: i%2 == 0}, Timeout: 10 * time.Second}
		l.done.Go(func() {
			defer client.CloseIdleConnections()
			tick := time.NewTicker(pace)
			defer tick.Stop()
			for ctx.Err() == nil {
				l.note(ask(context.WithoutCancel(ctx), client, url))
				<-tick.C
			}
		})
	}
	w.t.Cleanup(stop)
	return l
}

func ask(ctx context.Context, client *http.Client, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	res, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d: %s", res.StatusCode, body)
	}
	version, _, _ := strings.Cut(string(body), " from ")
	return version, err
}

func (l *load) note(version string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.failures = append(l.failures, time.Now().Format("15:04:05.000 ")+err.Error())
		return
	}
	l.answers[version]++
}

// finish ends the load; every request must have been answered.
func (l *load) finish(t *testing.T) map[string]int {
	t.Helper()
	return l.finishBut(t, 0)
}

// finishBut ends the load; so many requests at most may have failed.
func (l *load) finishBut(t *testing.T, most int) map[string]int {
	t.Helper()
	l.stop()
	l.done.Wait()
	if n := len(l.failures); n > most {
		t.Errorf("%d requests failed, the first ones: %s", n, strings.Join(l.failures[:min(n, 5)], "; "))
	}
	t.Logf("answers: %v", l.answers)
	return l.answers
}

// soFar are the answers since the load began.
func (l *load) soFar() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.answers)
}

// rolled is the world of the rollout example.
type rolled struct {
	*world
	base    string   // the page's address
	service []string // the service that is brought up; none: those without a profile
	args    func(...string) []string
}

func newRolled(t *testing.T, profile string) *rolled {
	t.Helper()
	variable := map[string]string{"": "PORT", "canary": "CANARY_PORT", "bluegreen": "BLUEGREEN_PORT"}[profile]
	w, base, args := exampleWorld(t, "rollout", variable)
	r := &rolled{world: w, base: base, args: func(words ...string) []string {
		if profile == "" {
			return args(words...)
		}
		return args(append([]string{"--profile", profile}, words...)...)
	}}
	if profile != "" {
		r.service = []string{profile}
	}
	r.must(r.args("build")...)
	return r
}

// up declares a version, with a flaw if there is one.
func (r *rolled) up(version int, flaw string, words ...string) result {
	r.t.Helper()
	r.env = append(slices.Clone(r.env), "VERSION="+strconv.Itoa(version), "FLAW="+flaw)
	return r.berth(r.args(append(append([]string{"up", "-d"}, words...), r.service...)...)...)
}

func (r *rolled) mustUp(version int, words ...string) {
	r.t.Helper()
	if res := r.up(version, "", words...); res.code != 0 {
		r.t.Fatal(res)
	}
}

// only waits until nothing but one version answers.
func (r *rolled) only(version int) {
	r.t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	want := fmt.Sprintf("version %d", version)
	r.eventually(30*time.Second, func() error {
		for range 12 {
			got, err := ask(r.t.Context(), client, r.base)
			if err != nil {
				return err
			}
			if got != want {
				return fmt.Errorf("%q answers, not %q", got, want)
			}
		}
		return nil
	})
}

// A good update, the daemon's death in the middle of one, and bad updates of every
// kind: no request fails, and a bad version goes back by itself, once.
func TestRollout(t *testing.T) {
	r := newRolled(t, "")
	r.mustUp(1, "--wait")
	r.only(1)
	t.Run("good", func(t *testing.T) {
		calls := r.call(r.base)
		r.mustUp(2, "--wait") // until it is what a bad one goes back to
		r.only(2)
		if got := calls.finish(t); got["version 1"] == 0 || got["version 2"] == 0 {
			t.Errorf("both versions should have answered: %v", got)
		}
	})
	for _, c := range []struct {
		flaw, why string
		lost      int // requests: those that a process which crashes was answering
	}{
		{"crash", "app: this version crashes at once", 0}, // what it wrote last
		{"late", "app: this version crashes after a while", clients},
	} {
		t.Run(c.flaw, func(t *testing.T) {
			calls := r.call(r.base)
			res := r.up(9, c.flaw, "--wait")
			if out := res.stderr + res.stdout; res.code == 0 || !strings.Contains(out, "exited (1) after ") || !strings.Contains(out, c.why) {
				t.Errorf("up should fail and say %q: %s", c.why, res)
			}
			r.only(2)
			calls.finishBut(t, c.lost)
			if back := strings.Count(r.daemonLog(), `"state":"rolling back"`); back == 0 {
				t.Error("the daemon's log does not tell of the roll-back")
			}
		})
	}
	t.Run("unready", func(t *testing.T) {
		calls := r.call(r.base)
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		r.env = append(slices.Clone(r.env), "VERSION=9", "FLAW=unready")
		cmd := r.command(ctx, r.args("up", "-d")...)
		_ = cmd.Run() // it waits for as long as it is let
		r.must(r.args("rollout", "undo", "-d")...)
		r.only(2)
		if got := calls.finish(t); got["version 9"] > 0 {
			t.Errorf("a version that is not ready answered: %v", got)
		}
	})
	t.Run("leak", func(t *testing.T) {
		if res := r.up(9, "leak", "--wait"); res.code == 0 || !strings.Contains(res.stderr+res.stdout, "out of memory") {
			t.Errorf("up should fail and say that memory ran out: %s", res)
		}
		r.only(2)
	})
}

// The daemon is killed in the middle of an update, at whatever it does: the next
// one takes the port again at once and goes on, and no replica is missing.
func TestRolloutSurvivesKills(t *testing.T) {
	r := newRolled(t, "")
	r.mustUp(1, "--wait")
	r.env = append(slices.Clone(r.env), "VERSION=2")
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		_ = r.command(ctx, r.args("up", "-d")...).Run()
		cancel()
		r.killDaemon(syscall.SIGKILL)
		if n := len(r.running3()); n < 3 {
			t.Errorf("%d replicas run, want at least 3", n)
		}
	}
	r.mustUp(2, "--wait")
	r.only(2)
	r.killDaemon(syscall.SIGKILL)
	began := time.Now()
	r.must(r.args("ps")...)
	r.mustUp(2)
	r.eventually(5*time.Second, func() error {
		_, err := ask(t.Context(), http.DefaultClient, r.base)
		return err
	})
	t.Logf("the page answers %s after the next command", time.Since(began).Round(time.Millisecond))
}

// running3 are the running replicas of web.
func (r *rolled) running3() []string {
	var names []string
	for _, c := range r.world.service("web") {
		if c.State == "running" {
			names = append(names, c.Names[0])
		}
	}
	return names
}

// A daemon of another build takes over: the listening sockets are handed over, so
// that no request fails.
func TestDaemonReplacedUnderLoad(t *testing.T) {
	r := newRolled(t, "")
	r.mustUp(1, "--wait")
	r.only(1)
	calls := r.call(r.base)
	r.eventually(10*time.Second, func() error {
		if calls.soFar()["version 1"] < 100 {
			return fmt.Errorf("only %v so far", calls.soFar())
		}
		return nil
	})
	other := filepath.Join(t.TempDir(), "berth")
	copyFile(t, shared.binary, other)
	cmd := exec.CommandContext(t.Context(), other, r.args("up", "-d")...)
	cmd.Env, cmd.Dir = r.env, r.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	r.eventually(5*time.Second, func() error {
		if !strings.Contains(r.daemonLog(), "were handed over") {
			return errors.New("the daemon's log does not tell that it handed its ports over")
		}
		return nil
	})
	answered := calls.soFar()["version 1"]
	r.eventually(10*time.Second, func() error {
		if calls.soFar()["version 1"] < answered+200 {
			return fmt.Errorf("only %v so far", calls.soFar())
		}
		return nil
	})
	calls.finish(t)
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, data, 0o700) // #nosec G306 -- a program
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A canary takes its share of new connections, is promoted, and takes all.
func TestCanary(t *testing.T) {
	r := newRolled(t, "canary")
	r.mustUp(1, "--wait")
	r.only(1)
	r.mustUp(2) // returns once the first step is reached
	calls := r.call(r.base)
	r.eventually(10*time.Second, func() error {
		if got := calls.soFar(); got["version 2"] < 50 {
			return fmt.Errorf("too few so far: %v", got)
		}
		return nil
	})
	before := calls.soFar()
	if share := float64(before["version 2"]) / float64(before["version 1"]+before["version 2"]); share < 0.1 || share > 0.4 {
		t.Errorf("the canary took %.0f %% of the requests, want about 25 %%", 100*share)
	}
	r.must(r.args("rollout", "resume", "canary")...)
	r.must(r.args("rollout", "resume", "canary")...)
	r.eventually(40*time.Second, func() error {
		res := r.berth(r.args("rollout", "status")...)
		if !strings.Contains(res.stdout, "completed") {
			return fmt.Errorf("not completed: %s", res)
		}
		return nil
	})
	r.only(2)
	calls.finish(t)
}

// Blue-green: traffic goes over at once, and never both versions answer in turn.
func TestBlueGreen(t *testing.T) {
	r := newRolled(t, "bluegreen")
	r.mustUp(1, "--wait")
	r.only(1)
	calls := r.call(r.base)
	r.mustUp(2)
	r.only(2)
	calls.finish(t)
	r.eventually(20*time.Second, func() error { // the old ones stay while the new ones are watched
		if n := len(r.world.service("bluegreen")); n != 4 {
			return fmt.Errorf("%d containers are left, want 4", n)
		}
		return nil
	})
}

// A port that another process holds: up names the process and changes nothing; a
// port that is taken later is told, and taken again once it is free.
func TestBalancedPortTaken(t *testing.T) {
	r := newRolled(t, "")
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "0.0.0.0:"+strings.TrimPrefix(portOf(r.base), ":"))
	if err != nil {
		t.Fatal(err)
	}
	res := r.up(1, "")
	if res.code == 0 || !strings.Contains(res.stderr, "listens on it already") {
		t.Errorf("up should fail and say who holds the port: %s", res)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	r.mustUp(1, "--wait")
	r.only(1)
}

// grownPage is a page with one replica, whose port the engine publishes.
const grownPage = `services:
  web:
    image: ${REF}
    command: ["serve"]
    ports: ["${PORT}:8080"]
    x-berth: {probes: {readiness: {http: {path: /readyz, port: 8080}, period: 1s}}}
`

// A single replica's port goes over from the engine to the balancer when it is
// scaled up, and stays there when it is scaled down: nobody is refused. Where the
// engine's proxy cannot be taken over, for want of rights, those are who come while
// its container stops.
func TestScaleUnderLoad(t *testing.T) {
	r := newFaulty(t, grownPage)
	r.must("up", "-d", "--wait")
	if ports := r.one("web").Ports; len(ports) == 0 || strconv.Itoa(int(ports[0].PublicPort)) != portOf(r.base) {
		t.Fatalf("the engine does not publish the port of a single replica: %v", ports)
	}
	calls := r.call(r.base)
	r.must("scale", "web=3")
	r.eventually(30*time.Second, func() error {
		for _, c := range r.world.service("web") {
			if i := slices.IndexFunc(c.Ports, func(p container.Port) bool { return p.PublicPort != 0 }); i >= 0 {
				return fmt.Errorf("the engine still publishes port %d of %v", c.Ports[i].PublicPort, c.Names)
			}
		}
		return r.running(map[string]int{"web": 3})
	})
	r.must("scale", "web=1")
	r.eventually(30*time.Second, func() error { return r.running(map[string]int{"web": 1}) })
	if os.Getuid() == 0 {
		calls.finish(t)
	} else {
		calls.finishBut(t, 1000) // about a second's worth
	}
}

func portOf(base string) string {
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(base, "http://"))
	return port
}
