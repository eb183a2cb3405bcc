package main_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/berth-dev/berth/internal/testimage"
	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/runtime/docker"
)

// TestScript runs the built program: offline scripts against an engine that is
// not there, the others against the real one. Each script has a home, a state
// directory, a daemon and a project name of its own; a failed one leaves what
// the engine held of its stack in the test's log.
func TestScript(t *testing.T) {
	bin := build(t)
	engine, err := docker.Open(t.Context(), docker.Options{})
	if err != nil {
		t.Fatalf("the command line is tested against a real Docker engine: %v", err)
	}
	t.Cleanup(func() { _ = engine.Close() })
	testimage.Ensure(t, engine)
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		Setup:               func(env *testscript.Env) error { return setup(env, bin, engine) },
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"await":     await,
			"interrupt": interrupt,
		},
	})
}

// build compiles the program once for all scripts and returns its directory.
func build(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, "berth"), ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return dir
}

func setup(env *testscript.Env, bin string, engine *docker.Engine) error {
	// Socket paths are short: the work directory's may be too long for one.
	short, err := os.MkdirTemp("", "bcli")
	if err != nil {
		return err
	}
	var id [4]byte
	if _, err := rand.Read(id[:]); err != nil {
		return err
	}
	project := "bcli" + hex.EncodeToString(id[:])
	env.Setenv("PATH", bin+string(os.PathListSeparator)+env.Getenv("PATH"))
	env.Setenv("HOME", filepath.Join(short, "home"))
	env.Setenv("XDG_STATE_HOME", filepath.Join(short, "state"))
	env.Setenv("XDG_RUNTIME_DIR", filepath.Join(short, "run"))
	env.Setenv("COMPOSE_PROJECT_NAME", project)
	env.Setenv("PROJECT", project)
	env.Setenv("IMAGE", testimage.Ref)
	env.Setenv("TERM", "dumb")
	for _, d := range []string{"home", "state", "run"} {
		if err := os.Mkdir(filepath.Join(short, d), 0o700); err != nil {
			return err
		}
	}
	env.Defer(func() { cleanup(env, engine, project, short) })
	return nil
}

// cleanup takes the script's stack down, ends its daemon, and fails the test
// when something of the stack is left.
func cleanup(env *testscript.Env, engine *docker.Engine, project, short string) {
	t := env.T().(interface {
		testscript.T
		Logf(format string, args ...any)
	})
	defer func() { _ = os.RemoveAll(short) }()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	stopDaemon(short)
	filter := runtime.Filter{Labels: map[string]string{runtime.LabelComposeProject: project}}
	list, err := engine.List(ctx, filter)
	if err != nil {
		t.Fatal("list what is left: ", err)
	}
	for i := range list {
		t.Logf("left behind: %s is %s", list[i].Name, list[i].State)
		_ = engine.Remove(ctx, list[i].ID, true, true)
	}
	nets, _ := engine.ListNetworks(ctx, filter)
	for i := range nets {
		_ = engine.RemoveNetwork(ctx, nets[i].ID)
	}
	vols, _ := engine.ListVolumes(ctx, filter)
	for i := range vols {
		_ = engine.RemoveVolume(ctx, vols[i].Name)
	}
}

// stopDaemon ends the daemons whose state is in this script's directory, and
// waits until they are gone.
func stopDaemon(short string) {
	procs, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, p := range procs {
		data, err := os.ReadFile(p)
		if err != nil || !bytes.Contains(data, []byte("XDG_STATE_HOME="+filepath.Join(short, "state")+"\x00")) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(p)))
		if err != nil || pid == os.Getpid() {
			continue
		}
		_ = syscall.Kill(pid, syscall.SIGTERM)
		eventually(10*time.Second, func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) })
	}
}

// eventually polls until done says so, and reports whether it did in time.
func eventually(limit time.Duration, done func() bool) bool {
	end := time.Now().Add(limit)
	for !done() {
		if time.Now().After(end) {
			return false
		}
		<-time.After(20 * time.Millisecond)
	}
	return true
}

// await runs a program until it succeeds and prints a text: await TEXT PROGRAM ARGS...
func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: await TEXT PROGRAM [ARGS...]")
	}
	var out []byte
	ok := eventually(30*time.Second, func() bool {
		cmd := exec.Command(args[1], args[2:]...)
		cmd.Dir = ts.Getenv("WORK")
		cmd.Env = []string{}
		for _, name := range []string{"PATH", "HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR", "COMPOSE_PROJECT_NAME", "PROJECT", "IMAGE", "TERM"} {
			cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
		}
		var err error
		out, err = cmd.CombinedOutput()
		return err == nil && strings.Contains(string(out), args[0])
	})
	if !ok {
		ts.Fatalf("never saw %q in: %s", args[0], out)
	}
}

// interrupt sends an interrupt to a program started in the background whose
// command line holds the text: interrupt TEXT.
func interrupt(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: interrupt TEXT")
	}
	state := []byte("XDG_STATE_HOME=" + ts.Getenv("XDG_STATE_HOME") + "\x00")
	var sent bool
	procs, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range procs {
		environ, _ := os.ReadFile(filepath.Join(p, "environ"))
		cmdline, _ := os.ReadFile(filepath.Join(p, "cmdline"))
		text := strings.ReplaceAll(string(cmdline), "\x00", " ")
		if !bytes.Contains(environ, state) || !strings.Contains(text, args[0]) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(p))
		ts.Check(err)
		ts.Check(syscall.Kill(pid, syscall.SIGINT))
		sent = true
	}
	if !sent {
		ts.Fatalf("%s", fmt.Sprintf("no program of this script has %q on its command line", args[0]))
	}
}
