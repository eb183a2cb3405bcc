package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gofrs/flock"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/dirs"
)

// The test's own binary plays the daemon when this variable says how.
const playEnv = "BERTH_TEST_PLAYS_DAEMON"

func TestMain(m *testing.M) {
	if how := os.Getenv(playEnv); how != "" {
		os.Exit(play(how))
	}
	os.Exit(m.Run())
}

// play is a daemon that keeps the rules of the real one: one lock, one socket,
// an answer to /info, and an end on SIGTERM. how is its build and what is wrong
// with it.
func play(how string) int {
	build, fault, _ := strings.Cut(how, "!")
	if fault == "broken" {
		for i := range 5 {
			fmt.Fprintln(os.Stderr, "line", i)
		}
		return 3
	}
	folders := dirs.Dirs{State: os.Getenv("STATE"), Runtime: os.Getenv("RUN")}
	lock := flock.New(folders.Lock())
	if held, err := lock.TryLock(); err != nil || !held {
		fmt.Fprintln(os.Stderr, "a daemon is running already")
		return 1
	}
	note("started " + build)
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	if fault == "mute" {
		<-terminated
		return 0
	}
	_ = os.Remove(folders.Socket())
	l, err := net.Listen("unix", folders.Socket())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	go func() {
		_ = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { // #nosec G114 -- a test's own
			_ = json.NewEncoder(w).Encode(api.DaemonInfo{Build: build, PID: os.Getpid(), Background: os.Getenv(BackgroundEnv) != ""})
		}))
	}()
	<-terminated
	_ = l.Close()
	if fault == "slow to end" {
		<-time.After(300 * time.Millisecond) // the socket is gone, the lock is not
	}
	note("ended " + build)
	return 0
}

// note adds a line to the record of what daemons did.
func note(text string) {
	f, err := os.OpenFile(os.Getenv("RECORD"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return
	}
	_, _ = fmt.Fprintln(f, text)
	_ = f.Close()
}

// place is where one test's daemons live.
type place struct {
	t    *testing.T
	dirs dirs.Dirs
	base string
}

func newPlace(t *testing.T) *place {
	base, err := os.MkdirTemp("", "bc") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	p := &place{t: t, base: base, dirs: dirs.Dirs{State: filepath.Join(base, "state"), Runtime: filepath.Join(base, "run", "x")}}
	t.Cleanup(func() {
		if c, info, err := p.starter("").find(context.WithoutCancel(t.Context())); c != nil && err == nil {
			_ = syscall.Kill(info.PID, syscall.SIGTERM)
		}
		_ = os.RemoveAll(base)
	})
	return p
}

// starter starts daemons that play how: a build, or a build, "!" and a fault.
func (p *place) starter(how string) *Starter {
	build, _, _ := strings.Cut(how, "!")
	program, err := os.Executable()
	if err != nil {
		p.t.Fatal(err)
	}
	return &Starter{
		Dirs: p.dirs, Program: program, Build: build, Patience: 10 * time.Second,
		Environ: append(os.Environ(), playEnv+"="+how, "STATE="+p.dirs.State, "RUN="+p.dirs.Runtime, "RECORD="+p.record()),
	}
}

func (p *place) record() string { return filepath.Join(p.base, "record") }

// did is what daemons did so far.
func (p *place) did() []string {
	data, err := os.ReadFile(p.record())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		p.t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(data)), "\n")
}

// connect connects and returns the daemon's own word on who it is.
func (p *place) connect(s *Starter) api.DaemonInfo {
	p.t.Helper()
	c, err := s.Connect(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	info, err := c.Info(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	return info
}

// Many commands at once start one daemon, and all of them reach it.
func TestStartRace(t *testing.T) {
	p := newPlace(t)
	pids := make([]int, 8)
	var wg sync.WaitGroup
	for i := range pids {
		wg.Go(func() {
			c, err := p.starter("one").Connect(t.Context())
			if err != nil {
				t.Errorf("command %d: %v", i, err)
				return
			}
			info, err := c.Info(t.Context())
			if err != nil {
				t.Errorf("command %d: %v", i, err)
			}
			pids[i] = info.PID
		})
	}
	wg.Wait()
	if one := slices.Compact(slices.Clone(pids)); len(one) != 1 || one[0] == 0 {
		t.Errorf("the commands reached the processes %v, want one", pids)
	}
	if did := p.did(); !slices.Equal(did, []string{"started one"}) {
		t.Errorf("daemons: %q, want one to be started", did)
	}
}

// A daemon that a command of another build started is replaced, once it has
// ended altogether.
func TestReplacement(t *testing.T) {
	for _, old := range []string{"old", "old!slow to end"} {
		t.Run(old, func(t *testing.T) {
			p := newPlace(t)
			first := p.connect(p.starter(old))
			second := p.connect(p.starter("new"))
			if first.Build != "old" || second.Build != "new" || first.PID == second.PID {
				t.Errorf("reached %+v, then %+v", first, second)
			}
			if did, want := p.did(), []string{"started old", "ended old", "started new"}; !slices.Equal(did, want) {
				t.Errorf("daemons: %q, want %q", did, want)
			}
			if again := p.connect(p.starter("new")); again.PID != second.PID {
				t.Errorf("the same build replaced process %d by %d", second.PID, again.PID)
			}
		})
	}
}

// A daemon that a person started stays, whatever its build.
func TestForegroundDaemonStays(t *testing.T) {
	p := newPlace(t)
	if err := p.dirs.Create(); err != nil {
		t.Fatal(err)
	}
	old := p.starter("old")
	cmd := startProcess(t, old)
	var found *Client
	if err := old.poll(t.Context(), func() (done bool, err error) {
		found, err = old.Find(t.Context())
		return found != nil, err
	}); err != nil {
		t.Fatal(err)
	}
	if info := p.connect(p.starter("new")); info.PID != cmd {
		t.Errorf("reached process %d, want %d", info.PID, cmd)
	}
}

// A daemon that is to be the next ends the one that runs, whoever started it, and
// no command starts another in between.
func TestSupersede(t *testing.T) {
	p := newPlace(t)
	release, err := p.starter("next").Supersede(t.Context())
	if err != nil {
		t.Fatalf("where none runs: %v", err)
	}
	release()
	first := p.connect(p.starter("old"))
	if release, err = p.starter("next").Supersede(t.Context()); err != nil {
		t.Fatal(err)
	}
	connected := make(chan error, 1)
	go func() {
		_, err := p.starter("hasty").Connect(t.Context())
		connected <- err
	}()
	next := p.starter("next")
	pid := startProcess(t, next)
	if err := next.poll(t.Context(), func() (bool, error) {
		c, err := next.Find(t.Context())
		return c != nil, err
	}); err != nil {
		t.Fatal(err)
	}
	release()
	if err := <-connected; err != nil {
		t.Errorf("a command that came meanwhile: %v", err)
	}
	if info := p.connect(p.starter("hasty")); info.PID != pid || info.PID == first.PID {
		t.Errorf("process %d serves, want %d", info.PID, pid)
	}
	if did, want := p.did(), []string{"started old", "ended old", "started next"}; !slices.Equal(did, want) {
		t.Errorf("daemons: %q, want %q", did, want)
	}
}

// startProcess plays a daemon in the foreground.
func startProcess(t *testing.T, s *Starter) int {
	t.Helper()
	proc, err := os.StartProcess(s.Program, []string{s.Program, "serve"}, &os.ProcAttr{Env: s.Environ, Files: []*os.File{nil, nil, os.Stderr}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = proc.Signal(syscall.SIGTERM)
		_, _ = proc.Wait()
	})
	return proc.Pid
}

// What a daemon that was killed has left, its socket and its lock's file, is no
// daemon.
func TestStaleSocket(t *testing.T) {
	p := newPlace(t)
	first := p.connect(p.starter("one"))
	if err := syscall.Kill(first.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s := p.starter("one")
	if err := s.poll(t.Context(), func() (bool, error) { return !s.locked(), nil }); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(p.dirs.Socket()); err != nil {
		t.Fatalf("the killed daemon left no socket: %v", err)
	}
	if c, err := s.Find(t.Context()); c != nil || err != nil {
		t.Errorf("Find on a stale socket: %v, %v; want nothing", c, err)
	}
	if second := p.connect(s); second.PID == first.PID {
		t.Errorf("reached the dead process %d", second.PID)
	}
}

// A daemon that does not come up is an error that says what it said last, and
// is not in the way of the next try.
func TestDoesNotComeUp(t *testing.T) {
	p := newPlace(t)
	_, err := p.starter("one!broken").Connect(t.Context())
	if err == nil {
		t.Fatal("connected to a daemon that ended")
	}
	for _, want := range []string{"start the daemon", "exit status 3", "line 2; line 3; line 4"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q: %v", want, err)
		}
	}
	if strings.Contains(err.Error(), "line 1") {
		t.Errorf("the error has more than the last lines: %v", err)
	}
	if info := p.connect(p.starter("one")); info.Build != "one" {
		t.Errorf("after a daemon that failed: %+v", info)
	}
}

// A daemon that neither answers nor ends is waited for no longer than patience,
// and named to the next command.
func TestMuteDaemon(t *testing.T) {
	p := newPlace(t)
	s := p.starter("one!mute")
	s.Patience = 500 * time.Millisecond
	_, err := s.Connect(t.Context())
	if err == nil || !strings.Contains(err.Error(), "does not answer within 500ms") || !strings.Contains(err.Error(), p.dirs.Log()) {
		t.Errorf("error %v, want that it does not answer and where its log is", err)
	}
	pid := p.processOf("one!mute")
	_, err = s.Connect(t.Context())
	if err == nil || !strings.Contains(err.Error(), p.dirs.Lock()) {
		t.Errorf("error %v, want the lock that is held", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Connect(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that the command was ended", err)
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if info := p.connect(p.starter("one")); info.Build != "one" {
		t.Errorf("after the mute daemon: %+v", info)
	}
}

// processOf finds the daemon that plays how in this place.
func (p *place) processOf(how string) int {
	p.t.Helper()
	list, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, file := range list {
		data, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(data), playEnv+"="+how+"\x00") || !strings.Contains(string(data), "STATE="+p.dirs.State+"\x00") {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
			return pid
		}
	}
	p.t.Skip("no /proc to find the process in")
	return 0
}

// An engine that is not ready keeps a daemon from being started, but not a
// running one from being reached.
func TestReady(t *testing.T) {
	p := newPlace(t)
	away := errors.New("the engine is away")
	s := p.starter("one")
	s.Ready = func(context.Context) error { return away }
	if _, err := s.Connect(t.Context()); !errors.Is(err, away) {
		t.Errorf("error %v, want that of the engine", err)
	}
	if _, err := os.Stat(p.dirs.State); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("folders were made for a daemon that was not started: %v", err)
	}
	first := p.connect(p.starter("one"))
	if again := p.connect(s); again.PID != first.PID {
		t.Errorf("reached %d, want %d", again.PID, first.PID)
	}
}
