package integration

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/client"
)

// ownEngine is a second Docker engine, of the test's own.
type ownEngine struct {
	t    *testing.T
	dir  string
	host string
	cmd  *exec.Cmd
	out  *lockedBuffer
	done chan struct{}
}

type lockedBuffer struct {
	mu sync.Mutex // protects b
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// newEngine starts a dockerd with folders, socket and network namespace of its
// own, so that it shares nothing with the first: without the namespace, an engine
// that is told to have no bridge would remove the other's docker0.
func newEngine(t *testing.T) *ownEngine {
	t.Helper()
	if _, err := exec.LookPath("dockerd"); err != nil {
		t.Fatalf("this test starts an engine of its own: %v", err)
	}
	if os.Getuid() != 0 {
		t.Fatal("this test starts an engine of its own, which only root can")
	}
	dir, err := os.MkdirTemp("", "bd")
	if err != nil {
		t.Fatal(err)
	}
	e := &ownEngine{t: t, dir: dir, host: "unix://" + filepath.Join(dir, "d.sock"), out: &lockedBuffer{}}
	t.Cleanup(e.cleanUp)
	e.start()
	return e
}

func (e *ownEngine) start() {
	e.t.Helper()
	id := filepath.Base(e.dir)
	e.cmd = exec.Command("dockerd", "--host", e.host, "--data-root", filepath.Join(e.dir, "data"), "--exec-root", filepath.Join(e.dir, "exec"),
		"--pidfile", filepath.Join(e.dir, "pid"), "--bridge", "none", "--iptables=false", "--ip6tables=false", "--storage-driver", "vfs",
		"--containerd-namespace", id, "--containerd-plugins-namespace", id+"-plugins", "--cgroup-parent", id, "--config-file", filepath.Join(e.dir, "none.json"))
	e.cmd.Stdout, e.cmd.Stderr = e.out, e.out
	e.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if err := os.WriteFile(filepath.Join(e.dir, "none.json"), []byte("{}"), 0o600); err != nil {
		e.t.Fatal(err)
	}
	if err := e.cmd.Start(); err != nil {
		e.t.Fatalf("start an engine: %v", err)
	}
	e.done = make(chan struct{})
	go func(cmd *exec.Cmd, done chan struct{}) {
		defer close(done)
		_ = cmd.Wait()
	}(e.cmd, e.done)
	c, err := client.NewClientWithOpts(client.WithHost(e.host), client.WithAPIVersionNegotiation())
	if err != nil {
		e.t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	deadline := time.NewTimer(60 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err = c.Ping(e.t.Context()); err == nil {
			return
		}
		select {
		case <-e.done:
			e.t.Fatalf("the engine ended at once:\n%s", e.out)
		case <-deadline.C:
			e.t.Fatalf("the engine does not answer: %v\n%s", err, e.out)
		case <-tick.C:
		}
	}
}

// stop ends the engine; its containers end with it.
func (e *ownEngine) stop() {
	if err := e.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		e.t.Logf("stop the engine: %v", err)
	}
	select {
	case <-e.done:
	case <-time.After(60 * time.Second):
		_ = e.cmd.Process.Kill()
		<-e.done
	}
}

func (e *ownEngine) cleanUp() {
	if e.cmd != nil && e.done != nil {
		e.stop()
	}
	if e.t.Failed() {
		lines := strings.Split(e.out.String(), "\n")
		e.t.Logf("the engine's last words:\n%s", strings.Join(lines[max(0, len(lines)-15):], "\n"))
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err == nil {
		for line := range strings.Lines(string(mounts)) {
			if at := strings.Fields(line); len(at) > 1 && strings.HasPrefix(at[1], e.dir+"/") {
				_ = syscall.Unmount(at[1], syscall.MNT_DETACH)
			}
		}
	}
	groups, _ := filepath.Glob("/sys/fs/cgroup/*/" + filepath.Base(e.dir))
	for _, g := range append(groups, "/sys/fs/cgroup/"+filepath.Base(e.dir)) {
		_ = os.Remove(g)
	}
	if err := os.RemoveAll(e.dir); err != nil {
		e.t.Errorf("clean up the engine: %v", err)
	}
}

// Fault 9: the engine stops, and its containers with it. The daemon stays, says
// so, counts no crash, and brings everything back once the engine is there again.
func TestEngineStopsAndComesBack(t *testing.T) {
	engine := newEngine(t)
	w := newWorld(t, engine.host)
	w.compose(`
services:
  web:
    image: IMAGE
    command: [sleep]
    network_mode: none
    deploy:
      replicas: 3
      restart_policy: {condition: any, delay: 5s, max_attempts: 1}
`)
	w.must("up", "-d", "--wait")
	daemon := w.daemonPID()
	engine.stop()
	w.fails([]string{"ps"}, "Docker")
	r := w.berth("up", "-d", "--dry-run")
	if r.code == 0 {
		t.Errorf("up says nothing of an engine that is down: %s", r)
	}
	if w.daemonPID() != daemon {
		t.Error("the daemon ended with the engine")
	}
	engine.start()
	seen := w.watchProject()
	w.eventually(60*time.Second, func() error { return w.running(map[string]int{"web": 3}) })
	if w.daemonPID() != daemon {
		t.Error("the daemon was replaced")
	}
	if n := seen.saw("create", ""); n != 0 {
		t.Errorf("%d containers were made anew, and the old ones were there", n)
	}
	w.must("down")
	w.nothingLeft()
}

// proxy stands between berth and the engine, and can cut or mute the stream of
// events.
type proxy struct {
	host string

	mu      sync.Mutex // protects what follows
	streams []net.Conn // that carry events
	mute    bool       // new streams of events get nothing
}

func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	dir, err := os.MkdirTemp("", "bx")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "p.sock"))
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{host: "unix://" + filepath.Join(dir, "p.sock")}
	var handlers sync.WaitGroup
	handlers.Add(1)
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	go func() {
		defer handlers.Done()
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			handlers.Add(1)
			go func() {
				defer handlers.Done()
				p.pass(ctx, conn, strings.TrimPrefix(target, "unix://"))
			}()
		}
	}()
	t.Cleanup(func() {
		stop()
		_ = l.Close()
		handlers.Wait()
		_ = os.RemoveAll(dir)
	})
	return p
}

// pass carries bytes both ways; a connection that asks for events is remembered.
func (p *proxy) pass(ctx context.Context, conn net.Conn, target string) {
	defer func() { _ = conn.Close() }()
	engine, err := net.Dial("unix", target)
	if err != nil {
		return
	}
	defer func() { _ = engine.Close() }()
	stop := context.AfterFunc(ctx, func() {
		_ = conn.Close()
		_ = engine.Close()
	})
	defer stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(conn, engine)
		_ = conn.Close()
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := conn.Read(buf)
		if n > 0 {
			if bytes.Contains(buf[:n], []byte("/events?")) && p.holdBack(conn) {
				break // neither passed on nor answered
			}
			if _, err := engine.Write(buf[:n]); err != nil {
				break
			}
		}
		if err != nil {
			break
		}
	}
	if p.isMuted(conn) {
		<-ctx.Done()
	}
	_ = engine.Close()
	<-done
}

func (p *proxy) holdBack(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.streams = append(p.streams, conn)
	return p.mute
}

func (p *proxy) isMuted(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.streams {
		if s == conn {
			return p.mute
		}
	}
	return false
}

// cut ends the streams of events; with mute the next ones stay silent.
func (p *proxy) cut(mute bool) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mute = mute
	n := len(p.streams)
	for _, s := range p.streams {
		_ = s.Close()
	}
	p.streams = nil
	return n
}

// Fault 16: events are cut, or never come. A lost event costs time, not
// correctness.
func TestEventsCutOrSilent(t *testing.T) {
	target := os.Getenv("DOCKER_HOST")
	if target == "" {
		target = "unix:///var/run/docker.sock"
	}
	if !strings.HasPrefix(target, "unix://") {
		t.Fatalf("this test stands between berth and a socket of the engine, not %s", target)
	}
	p := newProxy(t, target)
	w := newWorld(t, p.host)
	w.compose(threeReplicas)
	seen := w.watchDirectly(target)
	w.must("up", "-d", "--wait")
	for i, mute := range []bool{false, true} {
		if p.cut(mute) == 0 {
			t.Fatal("the daemon listens to no events")
		}
		victim := w.service("web")[0]
		if err := w.raw.ContainerRemove(t.Context(), victim.ID, forced()); err != nil {
			t.Fatal(err)
		}
		w.eventually(90*time.Second, func() error { return w.running(threeRunning) })
		if n := seen.saw("create", ""); n != 5+i {
			t.Errorf("%d containers were created, want %d", n, 5+i)
		}
	}
	p.cut(false)
	w.must("down")
	w.nothingLeft()
}

// watchDirectly follows events past the proxy.
func (w *world) watchDirectly(host string) *watch {
	w.t.Helper()
	through := w.raw
	direct, err := client.NewClientWithOpts(client.WithHost(host), client.WithAPIVersionNegotiation())
	if err != nil {
		w.t.Fatal(err)
	}
	w.raw = direct
	_ = through.Close()
	return w.watchProject()
}

// Bad surroundings are one clear line, and cost nothing.
func TestUnreachableEngine(t *testing.T) {
	w := newWorld(t, "unix:///nowhere/docker.sock")
	w.write("compose.yaml", "name: "+w.project+"\nservices: {web: {image: nothing}}\n")
	for _, args := range [][]string{{"ps"}, {"up", "-d"}} {
		r := w.fails(args, "/nowhere/docker.sock")
		if lines := strings.Count(strings.TrimSpace(r.stderr), "\n"); lines > 2 {
			t.Errorf("not one clear line: %s", r)
		}
	}
}
