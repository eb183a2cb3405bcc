package integration

import (
	"bytes"
	"context"
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

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/volume"
	"github.com/docker/docker/client"

	"github.com/berth-dev/berth/internal/testimage"
	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/runtime/docker"
)

// shared is what TestMain prepares once.
var shared struct {
	binary string // berth, built from this tree
	repo   string // the repository's root
}

func TestMain(m *testing.M) {
	code, err := runTests(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "integration:", err)
		code = 1
	}
	os.Exit(code)
}

func runTests(m *testing.M) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	repo, err := filepath.Abs("..")
	if err != nil {
		return 0, err
	}
	shared.repo = repo
	dir, err := os.MkdirTemp("", "berth-it-bin")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	shared.binary = filepath.Join(dir, "berth")
	build := exec.CommandContext(ctx, "go", "build", "-o", shared.binary, "./cmd/berth")
	build.Dir = repo
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("build berth: %w\n%s", err, out)
	}
	// The reaper is an image of a registry; what tests make is removed by label.
	if err := os.Setenv("TESTCONTAINERS_RYUK_DISABLED", "true"); err != nil {
		return 0, err
	}
	c, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		return 0, fmt.Errorf("open Docker: %w", err)
	}
	defer func() { _ = c.Close() }()
	if _, err := c.Ping(ctx); err != nil {
		return 0, fmt.Errorf("these tests need a Docker engine, and none answers: %w", err)
	}
	return m.Run(), nil
}

// world is one test's surroundings: folders, environment, project.
type world struct {
	t       *testing.T
	dir     string // the project's folder, where commands run
	base    string // everything of this test
	project string
	prefix  []string // global flags that name the project, where its file does not
	env     []string
	raw     *client.Client // the engine, past berth
}

// newWorld makes surroundings on the engine that DOCKER_HOST names, or on host
// when it is not empty.
func newWorld(t *testing.T, host string) *world {
	t.Helper()
	// Short, since a socket's path has at most 108 bytes.
	base, err := os.MkdirTemp("", "bi")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, base: base, dir: filepath.Join(base, "p"), project: "it" + filepath.Base(base)[2:]}
	for _, d := range []string{"p", "run", "state", "config", "cache", "home"} {
		if err := os.Mkdir(filepath.Join(base, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	w.env = []string{
		"PATH=" + os.Getenv("PATH"), "TERM=dumb", "HOME=" + filepath.Join(base, "home"),
		"XDG_RUNTIME_DIR=" + filepath.Join(base, "run"), "XDG_STATE_HOME=" + filepath.Join(base, "state"),
		"XDG_CONFIG_HOME=" + filepath.Join(base, "config"), "XDG_CACHE_HOME=" + filepath.Join(base, "cache"),
	}
	opts := []client.Opt{client.FromEnv, client.WithAPIVersionNegotiation()}
	if host == "" {
		host = os.Getenv("DOCKER_HOST")
	}
	if host != "" {
		w.env = append(w.env, "DOCKER_HOST="+host)
		opts = append(opts, client.WithHost(host))
	}
	w.raw, err = client.NewClientWithOpts(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.cleanUp)
	return w
}

// setenv adds a variable to the environment of later commands.
func (w *world) setenv(name, value string) { w.env = append(w.env, name+"="+value) }

// write makes a file of the project.
func (w *world) write(name, content string) {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// compose writes the project's file. IMAGE and PROGRAM stand for the test
// image and the program in it.
func (w *world) compose(content string) {
	w.t.Helper()
	w.write("compose.yaml", strings.NewReplacer("IMAGE", w.image(), "PROGRAM", testimage.Program).Replace("name: "+w.project+"\n"+content))
}

// image is the test image, made where it is missing.
func (w *world) image() string {
	w.t.Helper()
	engine, err := docker.Open(w.t.Context(), docker.Options{Host: w.raw.DaemonHost()})
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = engine.Close() }()
	return testimage.Ensure(w.t, engine)
}

// result is how a command ended.
type result struct {
	args           []string
	stdout, stderr string
	code           int
	took           time.Duration
}

func (r result) String() string {
	return fmt.Sprintf("berth %s: exit code %d after %s\n%s%s", strings.Join(r.args, " "), r.code, r.took.Round(time.Millisecond), r.stdout, r.stderr)
}

const commandTime = 3 * time.Minute

// berth runs a command in the project's folder and returns how it ended.
func (w *world) berth(args ...string) result {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), commandTime)
	defer cancel()
	cmd := w.command(ctx, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	begin := time.Now()
	err := cmd.Run()
	if ctx.Err() != nil {
		w.t.Fatalf("berth %s did not end within %s:\n%s%s", strings.Join(args, " "), commandTime, &stdout, &stderr)
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		w.t.Fatalf("run berth: %v", err)
	}
	return result{args, stdout.String(), stderr.String(), cmd.ProcessState.ExitCode(), time.Since(begin)}
}

// command prepares a command of the project.
func (w *world) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, shared.binary, args...)
	cmd.Dir = w.dir
	cmd.Env = w.env
	// A daemon started on the way keeps no pipe of ours open for long.
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// must runs a command that has to succeed.
func (w *world) must(args ...string) result {
	w.t.Helper()
	r := w.berth(args...)
	if r.code != 0 {
		w.t.Fatalf("%s", r)
	}
	return r
}

// fails runs a command that has to fail and to say each of the words.
func (w *world) fails(args []string, words ...string) result {
	w.t.Helper()
	r := w.berth(args...)
	if r.code == 0 {
		w.t.Fatalf("succeeded, and had to fail: %s", r)
	}
	for _, word := range words {
		if !strings.Contains(r.stderr+r.stdout, word) {
			w.t.Errorf("no %q in what it says: %s", word, r)
		}
	}
	return r
}

// eventually waits until what returns nil, for at most limit; what is asked
// anew every 50 ms, and its last error is the failure.
func (w *world) eventually(limit time.Duration, what func() error) {
	w.t.Helper()
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := what()
		if err == nil {
			return
		}
		select {
		case <-deadline.C:
			w.t.Fatalf("not within %s: %v", limit, err)
		case <-tick.C:
		}
	}
}

// daemonPID finds this world's daemon among the processes: 0 when none runs.
func (w *world) daemonPID() int {
	w.t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		w.t.Fatalf("look for the daemon: %v", err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		line, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err != nil || !strings.Contains(string(line), "\x00serve") {
			continue
		}
		env, err := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		if err == nil && strings.Contains(string(env), "XDG_RUNTIME_DIR="+filepath.Join(w.base, "run")+"\x00") && !zombie(pid) {
			return pid
		}
	}
	return 0
}

func zombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(after, "Z")
}

// killDaemon ends the daemon with the signal, and waits until it is gone.
func (w *world) killDaemon(sig syscall.Signal) {
	w.t.Helper()
	pid := w.daemonPID()
	if pid == 0 {
		w.t.Fatal("no daemon runs")
	}
	w.signalDaemon(pid, sig)
	w.eventually(10*time.Second, func() error {
		if w.daemonPID() != 0 {
			return errors.New("the daemon still runs")
		}
		return nil
	})
}

func (w *world) signalDaemon(pid int, sig syscall.Signal) {
	w.t.Helper()
	if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		w.t.Fatalf("signal the daemon: %v", err)
	}
}

// byProject selects what carries the project's label.
func (w *world) byProject() filters.Args {
	return filters.NewArgs(filters.Arg("label", runtime.LabelComposeProject+"="+w.project))
}

// killDuring runs a command and kills the daemon with SIGKILL as soon as cond
// holds; how the command ends is its own affair, but it ends.
func (w *world) killDuring(args []string, seen *watch, what string, cond func(*watch) bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), commandTime)
	defer cancel()
	cmd := w.command(ctx, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	seen.wait(commandTime, what+" during berth "+strings.Join(args, " "), cond)
	if pid := w.daemonPID(); pid != 0 {
		w.signalDaemon(pid, syscall.SIGKILL)
	} else {
		w.t.Errorf("no daemon to kill at %s", what)
	}
	_ = cmd.Wait()
	if ctx.Err() != nil {
		w.t.Fatalf("berth %s hung after its daemon was killed:\n%s", strings.Join(args, " "), &out)
	}
}

func forced() container.RemoveOptions { return container.RemoveOptions{Force: true} }

// containers lists the project's containers, stopped ones too.
func (w *world) containers() []container.Summary {
	w.t.Helper()
	list, err := w.raw.ContainerList(w.t.Context(), container.ListOptions{All: true, Filters: w.byProject()})
	if err != nil {
		w.t.Fatalf("list containers: %v", err)
	}
	return list
}

// service lists the containers of one service.
func (w *world) service(name string) []container.Summary {
	w.t.Helper()
	var of []container.Summary
	for _, c := range w.containers() {
		if c.Labels[runtime.LabelComposeService] == name {
			of = append(of, c)
		}
	}
	return of
}

// one returns the service's only container.
func (w *world) one(name string) container.Summary {
	w.t.Helper()
	of := w.service(name)
	if len(of) != 1 {
		w.t.Fatalf("service %s has %d containers, not one", name, len(of))
	}
	return of[0]
}

// running is nil when every named service has that many running containers, and
// no other one.
func (w *world) running(want map[string]int) error {
	for name, n := range want {
		of := w.service(name)
		up := 0
		for _, c := range of {
			if c.State == "running" {
				up++
			}
		}
		if up != n || len(of) != n {
			return fmt.Errorf("service %s: %d running of %d containers, want %d", name, up, len(of), n)
		}
	}
	return nil
}

// inspect returns the record of a container.
func (w *world) inspect(id string) container.InspectResponse {
	w.t.Helper()
	c, err := w.raw.ContainerInspect(w.t.Context(), id)
	if err != nil {
		w.t.Fatalf("inspect %s: %v", id, err)
	}
	return c
}

// leftovers names what is there of the project.
func (w *world) leftovers(ctx context.Context, withVolumes bool) ([]string, error) {
	var left []string
	list, err := w.raw.ContainerList(ctx, container.ListOptions{All: true, Filters: w.byProject()})
	if err != nil {
		return nil, err
	}
	for _, c := range list {
		left = append(left, "container "+strings.Join(c.Names, ","))
	}
	nets, err := w.raw.NetworkList(ctx, network.ListOptions{Filters: w.byProject()})
	if err != nil {
		return nil, err
	}
	for _, n := range nets {
		left = append(left, "network "+n.Name)
	}
	if withVolumes {
		vols, err := w.raw.VolumeList(ctx, volume.ListOptions{Filters: w.byProject()})
		if err != nil {
			return nil, err
		}
		for _, v := range vols.Volumes {
			left = append(left, "volume "+v.Name)
		}
	}
	return left, nil
}

// nothingLeft fails when anything of the project is there, or the state still
// names it.
func (w *world) nothingLeft() {
	w.t.Helper()
	left, err := w.leftovers(w.t.Context(), true)
	if err != nil {
		w.t.Fatal(err)
	}
	if len(left) > 0 {
		w.t.Errorf("left behind: %s", strings.Join(left, ", "))
	}
	if r := w.must("ls", "-a", "-q"); strings.Contains(r.stdout, w.project) {
		w.t.Errorf("the stack is still known: %s", r.stdout)
	}
}

// maxDaemons is more than the daemons of one world: one that was replaced may
// still let its connections finish.
const maxDaemons = 100

// cleanUp leaves artefacts when the test failed, ends the daemon and removes
// what is left of the project.
func (w *world) cleanUp() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.t.Context()), 2*time.Minute)
	defer cancel()
	if w.t.Failed() {
		w.artefacts(ctx)
	}
	for range maxDaemons {
		pid := w.daemonPID()
		if pid == 0 {
			break
		}
		w.signalDaemon(pid, syscall.SIGCONT)
		w.signalDaemon(pid, syscall.SIGKILL)
	}
	w.removeProject(ctx)
	_ = w.raw.Close()
	if err := os.RemoveAll(w.base); err != nil {
		w.t.Errorf("clean up: %v", err)
	}
}

func (w *world) removeProject(ctx context.Context) {
	list, err := w.raw.ContainerList(ctx, container.ListOptions{All: true, Filters: w.byProject()})
	if err != nil {
		w.t.Logf("clean up: %v", err) // an engine of the test's own may be gone
		return
	}
	for _, c := range list {
		if err := w.raw.ContainerRemove(ctx, c.ID, container.RemoveOptions{Force: true, RemoveVolumes: true}); err != nil {
			w.t.Logf("clean up: %v", err)
		}
	}
	if nets, err := w.raw.NetworkList(ctx, network.ListOptions{Filters: w.byProject()}); err == nil {
		for _, n := range nets {
			if err := w.raw.NetworkRemove(ctx, n.ID); err != nil {
				w.t.Logf("clean up: %v", err)
			}
		}
	}
	if vols, err := w.raw.VolumeList(ctx, volume.ListOptions{Filters: w.byProject()}); err == nil {
		for _, v := range vols.Volumes {
			if err := w.raw.VolumeRemove(ctx, v.Name, true); err != nil {
				w.t.Logf("clean up: %v", err)
			}
		}
	}
}
