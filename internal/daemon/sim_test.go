package daemon

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"github.com/berth-dev/berth/health"
	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/dirs"
	"github.com/berth-dev/berth/internal/reconcile"
	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/runtime/fake"
)

// sim is a machine in virtual time: an engine in memory, and one daemon after
// another on the same folders.
type sim struct {
	t      *testing.T
	engine *fake.Engine
	dirs   dirs.Dirs

	d    *Daemon
	ctx  context.Context // ends when the daemon is killed
	kill context.CancelFunc
	gone chan struct{} // closed once the daemon has ended
	dead *atomic.Bool  // a killed daemon writes nothing any more
	full atomic.Bool   // the disk takes nothing
	log  *syncBuffer

	meter      Meter                                                        // nil: nothing is measured
	balancing  Balancing                                                    // nil: there is none
	checks     health.Maker                                                 // nil: there are no results
	relay      func(context.Context) (string, []string, error)              // nil: there is no program for relays
	boundaries func(context.Context, runtime.EngineInfo, string) Boundaries // nil: none can be made
	newer      NewerImage                                                   // nil: an image is followed by itself
}

// simulate runs a test in a bubble, with a daemon that runs. The engine holds the image "app".
func simulate(t *testing.T, opts fake.Options, f func(t *testing.T, s *sim)) {
	t.Helper()
	folder := dirs.Dirs{State: t.TempDir(), Runtime: t.TempDir() + "/run"}
	synctest.Test(t, func(t *testing.T) {
		s := &sim{t: t, dirs: folder, log: &syncBuffer{}}
		s.engine = fake.New(opts)
		defer func() { _ = s.engine.Close() }()
		s.engine.AddImage("app", fake.Image{})
		s.boot()
		defer s.end()
		f(t, s)
		if t.Failed() {
			t.Logf("calls:\n%s\nlog:\n%s", lastLines(strings.Join(s.calls(), "\n")), lastLines(s.log.String()))
		}
	})
}

// lastLines cuts what a failed test shows to what a person reads.
func lastLines(text string) string {
	lines := strings.Split(text, "\n")
	return strings.Join(lines[max(0, len(lines)-200):], "\n")
}

// boot starts a daemon on the folders.
func (s *sim) boot() {
	s.t.Helper()
	dead := &atomic.Bool{}
	d, err := New(Config{
		Engine: s.engine, Dirs: s.dirs, Version: "test", Parallel: 2,
		Log: zerolog.New(s.log).With().Timestamp().Logger(), Boundaries: s.boundaries, Relay: s.relay,
		Probing: Probing{Checks: s.checks, Local: true}, NewerImage: s.newer, Balancing: s.balancing, Meter: s.meter, LocalEngine: s.balancing != nil,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	d.store.write = func(path string, data []byte) error {
		switch {
		case dead.Load():
			return errors.New("this daemon was killed")
		case s.full.Load():
			return errNoSpace
		}
		return replaceQuickly(path, data)
	}
	s.d, s.dead, s.gone = d, dead, make(chan struct{})
	s.ctx, s.kill = context.WithCancel(s.t.Context())
	go func(ctx context.Context, gone chan struct{}) {
		defer close(gone)
		l := newDeafListener()
		if err := d.Run(ctx, l); err != nil && ctx.Err() == nil {
			s.t.Errorf("the daemon ended: %v", err)
		}
	}(s.ctx, s.gone)
	synctest.Wait()
}

// replaceQuickly is replaceFile without waiting for the disk: no power fails here.
func replaceQuickly(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return err
	}
	if err := keepPrevious(path); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// die is kill -9: no answer reaches the daemon any more, and it stores nothing.
// It may be called from within an engine call.
func (s *sim) die() {
	s.dead.Store(true)
	s.kill()
}

// end waits until the daemon is gone.
func (s *sim) end() {
	s.kill()
	<-s.gone
}

// reboot kills the daemon, if it lives, and starts another.
func (s *sim) reboot() {
	s.t.Helper()
	s.die()
	<-s.gone
	s.boot()
}

// up declares a stack and fails the test when that is refused.
func (s *sim) up(st *stack.Stack, edits ...func(*api.UpRequest)) api.Accepted {
	s.t.Helper()
	req := &api.UpRequest{Stack: st}
	for _, edit := range edits {
		edit(req)
	}
	acc, err := s.d.up(s.ctx, req)
	if err != nil {
		s.t.Fatalf("up: %v", err)
	}
	return acc
}

// settle waits until the stack has come to rest, and returns what failed.
func (s *sim) settle(acc api.Accepted) []string {
	s.t.Helper()
	failed, err := s.await(acc, "settled", time.Hour)
	if err != nil {
		s.t.Fatal(err)
	}
	return failed
}

// settled is settle where nothing may fail.
func (s *sim) settled(acc api.Accepted) {
	s.t.Helper()
	if failed := s.settle(acc); len(failed) > 0 {
		s.t.Fatalf("not reached: %s", strings.Join(failed, "; "))
	}
}

// await follows a stack as a client does, until an end or until the daemon dies.
func (s *sim) await(acc api.Accepted, until string, limit time.Duration) ([]string, error) {
	l := s.d.loop(acc.Stack)
	if l == nil {
		return nil, nil // gone
	}
	ctx, cancel := context.WithTimeout(s.ctx, limit)
	defer cancel()
	at, about := l.feed.position(acc.Turn), l.feed.about(acc.Turn)
	for {
		_, next, o, more := l.feed.since(at)
		at = next
		if done, failed := o.reached(acc.Turn, until, about); done {
			return failed, nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			if s.ctx.Err() != nil {
				return nil, errKilled
			}
			return nil, fmt.Errorf("stack %s was not %s after %s; the plan was\n%s", acc.Stack, until, limit, s.plan(acc.Stack))
		}
	}
}

var errKilled = errors.New("the daemon was killed")

func (s *sim) plan(name string) string {
	l := s.d.loop(name)
	if l == nil {
		return "no loop"
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.plan == nil {
		return "no plan"
	}
	return l.plan.String()
}

// calls lists what changed something at the engine, or tried to.
func (s *sim) calls() []string {
	var lines []string
	for _, c := range s.engine.Calls() {
		line := fmt.Sprintf("%s %s", c.Time.Format("15:04:05.000"), c)
		if c.Err != nil {
			line += ": " + c.Err.Error()
		}
		lines = append(lines, line)
	}
	return lines
}

// count counts the calls of an operation on an object (empty: any) from a call on.
func (s *sim) count(from int, op, object string) int {
	n := 0
	for _, c := range s.engine.Calls()[from:] {
		if c.Op == op && (object == "" || c.Object == object) {
			n++
		}
	}
	return n
}

// now is the number of calls made so far.
func (s *sim) now() int { return len(s.engine.Calls()) }

// get inspects a container by its name.
func (s *sim) get(name string) runtime.Container {
	s.t.Helper()
	c, err := s.engine.Inspect(fake.ByHand(s.t.Context()), name)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// list is "name=state" of every container, sorted.
func (s *sim) list() string {
	s.t.Helper()
	all, err := s.engine.List(fake.ByHand(s.t.Context()), runtime.Filter{})
	if err != nil {
		s.t.Fatal(err)
	}
	var parts []string
	for i := range all {
		parts = append(parts, all[i].Name+"="+string(all[i].State))
	}
	return strings.Join(parts, " ")
}

// oracle is what must hold after every fault, once it has stopped and the loop
// has settled: desired is observed, no two containers ever lived for one slot,
// nothing is without an owner, the stored state reads back, and nothing more is
// changed by itself.
func (s *sim) oracle() {
	s.t.Helper()
	if n := len(s.engine.Overlaps()); n > 0 {
		s.t.Errorf("two containers lived for one slot: %v", s.engine.Overlaps())
	}
	left := s.engine.Leftovers(func(kind, _ string, labels map[string]string) bool {
		return kind == "port" || labels[runtime.LabelOwner] == s.d.owner && s.d.loop(labels[runtime.LabelStack]) != nil
	})
	if len(left) > 0 {
		s.t.Errorf("nobody owns %s", strings.Join(left, ", "))
	}
	before := s.now()
	time.Sleep(5 * time.Minute) // several resyncs
	synctest.Wait()
	if n := s.now(); n > before {
		s.t.Errorf("the settled daemon went on:\n%s", strings.Join(s.calls()[before:], "\n"))
	}
	for _, l := range s.d.all() {
		s.agrees(l)
	}
	for _, n := range s.d.nodes.list() {
		if c := n.Capacity; c.CPU > 0 && n.Promised.CPU > c.CPU || c.Memory > 0 && n.Promised.Memory > c.Memory {
			s.t.Errorf("node %s has promised %+v of %+v", n.Name, n.Promised, c)
		}
	}
}

// agrees fails the test when a stack is not as desired, or not as stored.
func (s *sim) agrees(l *loop) {
	s.t.Helper()
	l.mu.Lock()
	r := l.record
	l.mu.Unlock()
	obs, err := reconcile.NewObserver(s.engine, l.name).Observe(fake.ByHand(s.t.Context()), r.Desired, time.Now())
	if err != nil {
		s.t.Fatal(err)
	}
	obs = s.d.withCluster(obs, r.Desired.Stack)
	if p := reconcile.Decide(r.Desired, obs, &reconcile.Memory{Restarts: r.Memory.Restarts}, time.Now()); !p.Settled() {
		s.t.Errorf("stack %s is not as desired:\n%s", l.name, p)
	}
	stored, note, err := s.d.store.load(l.name)
	if err != nil || note != "" {
		s.t.Errorf("the stored state of %s does not read back: %s %v", l.name, note, err)
		return
	}
	want, _ := json.Marshal(r.Desired)
	have, _ := json.Marshal(stored.Desired)
	if diff := cmp.Diff(string(want), string(have)); diff != "" {
		s.t.Errorf("the stored state of %s differs (-kept +stored):\n%s", l.name, diff)
	}
}

// nothingLeft fails the test unless engine and state are as before the first up.
func (s *sim) nothingLeft() {
	s.t.Helper()
	if left := s.engine.Leftovers(nil); len(left) > 0 {
		s.t.Errorf("left behind: %s", strings.Join(left, ", "))
	}
	if names, err := s.d.store.names(); err != nil || len(names) > 0 {
		s.t.Errorf("state is left of %v (%v)", names, err)
	}
}

// svc is a service of the image "app" on the stack's network.
func svc(name string, replicas int, edits ...func(*stack.Service)) stack.Service {
	s := stack.Service{
		Name: name, Replicas: replicas,
		Spec: runtime.Spec{Image: "app", StopGrace: 10 * time.Second, Networks: []runtime.Attachment{{Network: "shop_default", Aliases: []string{name}}}},
	}
	for _, edit := range edits {
		edit(&s)
	}
	return s
}

func after(name string, c stack.Condition) func(*stack.Service) {
	return func(s *stack.Service) {
		s.DependsOn = append(s.DependsOn, stack.Dependency{Service: name, Condition: c, Required: true})
	}
}

func checked(s *stack.Service) {
	s.Spec.Healthcheck = &runtime.Healthcheck{Test: []string{"CMD", "check"}, Interval: 2 * time.Second, Timeout: time.Second, Retries: 3}
}

func env(kv string) func(*stack.Service) {
	return func(s *stack.Service) { s.Spec.Env = append(s.Spec.Env, kv) }
}

func port(published string) func(*stack.Service) {
	return func(s *stack.Service) {
		s.Spec.Ports = append(s.Spec.Ports, runtime.Port{Target: 80, Published: published, Protocol: "tcp"})
	}
}

func policy(p stack.RestartPolicy) func(*stack.Service) {
	return func(s *stack.Service) { s.Restart = &p }
}

func engineRestarts(name string) func(*stack.Service) {
	return func(s *stack.Service) { s.Spec.Restart.Name = name }
}

func mounts(volume string) func(*stack.Service) {
	return func(s *stack.Service) {
		s.Spec.Mounts = append(s.Spec.Mounts, runtime.Mount{Type: runtime.MountVolume, Source: volume, Target: "/data"})
	}
}

// shop is a stack of the services, with a network and a volume.
func shop(services ...stack.Service) *stack.Stack {
	st := &stack.Stack{
		Name: "shop", WorkingDir: "/shop", ConfigFiles: []string{"/shop/compose.yaml"}, Services: services,
		Networks: []stack.Network{{Key: "default", Revision: "net-1", Spec: runtime.NetworkSpec{Name: "shop_default"}}},
		Volumes:  []stack.Volume{{Key: "data", Revision: "vol-1", Spec: runtime.VolumeSpec{Name: "shop_data"}}},
	}
	slices.SortFunc(st.Services, func(a, b stack.Service) int { return strings.Compare(a.Name, b.Name) })
	for i := range st.Services {
		spec := st.Services[i].Spec
		spec.Limits, spec.Restart, spec.StopGrace = runtime.Limits{}, runtime.RestartPolicy{}, 0
		data, _ := json.Marshal(spec)
		sum := sha256.Sum256(data)
		st.Services[i].Revision = hex.EncodeToString(sum[:])
	}
	return st
}

// deafListener is a listener that nobody reaches: simulations call the daemon itself.
type deafListener struct {
	once sync.Once
	done chan struct{}
}

func newDeafListener() *deafListener { return &deafListener{done: make(chan struct{})} }

func (l *deafListener) Accept() (net.Conn, error) {
	<-l.done
	return nil, net.ErrClosed
}

func (l *deafListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *deafListener) Addr() net.Addr { return &net.UnixAddr{Name: "deaf", Net: "unix"} }

// syncBuffer is a log that several goroutines write.
type syncBuffer struct {
	mu  sync.Mutex // protects buf
	buf strings.Builder
}

var _ io.Writer = (*syncBuffer)(nil)

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
