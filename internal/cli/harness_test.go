package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/client"
	"github.com/berth-dev/berth/internal/reconcile"
	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/runtime/fake"
)

// bench is a command line with a folder, an engine in memory and a daemon that
// carries out at once what it is asked.
type bench struct {
	t       *testing.T
	dir     string
	engine  *fake.Engine
	daemon  *scriptedDaemon
	in      string
	signals chan os.Signal
	environ []string
	offline bool // neither engine nor daemon may be asked
	out     lockedBuffer
	err     lockedBuffer
}

func newBench(t *testing.T, compose string) *bench {
	t.Helper()
	b := &bench{t: t, dir: t.TempDir(), engine: fake.New(fake.Options{}), signals: make(chan os.Signal, 4)}
	b.environ = []string{"HOME=" + b.dir, "TERM=xterm"}
	if compose != "" {
		if err := os.WriteFile(filepath.Join(b.dir, "compose.yaml"), []byte(compose), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b.engine.AddImage("app", fake.Image{})
	b.daemon = &scriptedDaemon{engine: b.engine, created: map[string]bool{}}
	t.Cleanup(func() { _ = b.engine.Close() })
	return b
}

// run executes a command line and returns its exit code.
func (b *bench) run(args ...string) int {
	b.t.Helper()
	return b.runContext(b.t.Context(), args...)
}

func (b *bench) runContext(ctx context.Context, args ...string) int {
	a := &app{
		env: &Env{
			Args: args, Environ: b.environ, WorkingDir: b.dir, In: strings.NewReader(b.in), Out: &b.out, Err: &b.err, Version: "v1.2.3",
			Signals: func() (<-chan os.Signal, func()) { return b.signals, func() {} },
			Engine:  func(context.Context) (Engine, error) { return keepOpen{b.engine}, nil },
		},
	}
	a.connect = func(context.Context) (daemon, error) { return b.daemon, nil }
	a.find = a.connect
	if b.offline {
		a.env.Engine = func(context.Context) (Engine, error) { return nil, errors.New("the engine was asked") }
		a.connect = func(context.Context) (daemon, error) { return nil, errors.New("the daemon was asked") }
		a.find = a.connect
	}
	return a.run(ctx)
}

func (b *bench) interrupt() { b.signals <- syscall.SIGINT }

func (b *bench) wantOut(want string) {
	b.t.Helper()
	if got := b.out.String(); got != want {
		b.t.Errorf("standard output:\n%s\nwant:\n%s", got, want)
	}
}

func (b *bench) wantInErr(want string) {
	b.t.Helper()
	if got := b.err.String(); !strings.Contains(got, want) {
		b.t.Errorf("standard error lacks %q:\n%s", want, got)
	}
}

func (b *bench) wantInOut(want string) {
	b.t.Helper()
	if got := b.out.String(); !strings.Contains(got, want) {
		b.t.Errorf("standard output lacks %q:\n%s", want, got)
	}
}

// keepOpen keeps the engine for the next command of the test.
type keepOpen struct{ *fake.Engine }

func (keepOpen) Close() error { return nil }

// lockedBuffer may be written by several goroutines.
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

// scriptedDaemon records what it is asked and carries it out on the engine
// while the client follows.
type scriptedDaemon struct {
	scriptedNodes
	scriptedRollouts
	scriptedScaling
	engine *fake.Engine

	mu      sync.Mutex // protects all below
	ups     []*api.UpRequest
	downs   []api.DownRequest
	acts    []api.ActionRequest
	ones    []*api.OneOffRequest
	removed []string
	known   *api.Status
	pending func(ctx context.Context, emit func(api.Event)) // what the next Follow carries out
	failed  []string                                        // of the next end
	orphans []string                                        // of every end
	untils  []string
	plan    *reconcile.Plan
	unknown bool // the stack
	status  *api.Status
	created map[string]bool
	stack   *stack.Stack
}

func (d *scriptedDaemon) Info(context.Context) (api.DaemonInfo, error) { return api.DaemonInfo{}, nil }

func (d *scriptedDaemon) Up(ctx context.Context, req *api.UpRequest) (api.Accepted, error) {
	if missing := d.missing(ctx, req); len(missing) > 0 {
		return api.Accepted{Stack: req.Stack.Name, MissingImages: missing}, nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ups = append(d.ups, req)
	d.stack = req.Stack
	d.pending = func(ctx context.Context, emit func(api.Event)) {
		services, _ := withDependencies(req.Stack, req.Services, req.NoDeps)
		for _, svc := range services {
			d.bringUp(ctx, req, svc, emit)
		}
	}
	return api.Accepted{Stack: req.Stack.Name, Turn: 1}, nil
}

// missing are the images that a request wants to be there and that are not.
func (d *scriptedDaemon) missing(ctx context.Context, req *api.UpRequest) []string {
	services, _ := withDependencies(req.Stack, req.Services, req.NoDeps)
	var list []string
	for _, svc := range services {
		if _, err := d.engine.Image(ctx, svc.Spec.Image); err != nil && req.NeedImages {
			list = append(list, svc.Spec.Image)
		}
	}
	return list
}

func (d *scriptedDaemon) bringUp(ctx context.Context, req *api.UpRequest, svc *stack.Service, emit func(api.Event)) {
	n := svc.Replicas
	if s, ok := req.Scale[svc.Name]; ok {
		n = s
	}
	for slot := 1; slot <= n; slot++ {
		d.bringUpOne(ctx, req, svc, slot, emit)
	}
}

func (d *scriptedDaemon) bringUpOne(ctx context.Context, req *api.UpRequest, svc *stack.Service, slot int, emit func(api.Event)) {
	name := runtime.ContainerName(req.Stack.Name, svc.Name, slot)
	do := func(op reconcile.Op, f func() error) {
		step := &reconcile.Step{Op: op, Key: reconcile.ReplicaKey(svc.Name, slot), Name: name, Service: svc.Name, Slot: slot}
		emit(api.Event{Type: api.EventStep, Phase: "begin", Step: step})
		e := api.Event{Type: api.EventStep, Phase: "done", Step: step}
		if err := f(); err != nil && ctx.Err() == nil {
			e.Phase, e.Err = "failed", err.Error()
		}
		emit(e)
	}
	if !d.created[name] {
		d.created[name] = true
		do(reconcile.OpCreate, func() error {
			id := runtime.Identity{Stack: req.Stack.Name, Service: svc.Name, Slot: slot}
			_, err := d.engine.Create(ctx, name, id.Labels(), &runtime.Spec{Image: "app", Restart: svc.Spec.Restart}, nil)
			return err
		})
	}
	c, err := d.engine.Inspect(ctx, name)
	if err == nil && !c.State.Alive() && !req.NoStart {
		do(reconcile.OpStart, func() error { return d.engine.Start(ctx, name) })
	}
}

func (d *scriptedDaemon) Plan(context.Context, *api.UpRequest) (*reconcile.Plan, error) {
	return d.plan, nil
}

func (d *scriptedDaemon) Down(_ context.Context, name string, req api.DownRequest) (api.Accepted, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.unknown {
		return api.Accepted{}, &runtime.Error{Kind: runtime.KindNotFound, Op: "down", Object: name, Err: errors.New("no such stack")}
	}
	d.downs = append(d.downs, req)
	return api.Accepted{Stack: name, Turn: 2}, nil
}

func (d *scriptedDaemon) Act(ctx context.Context, name string, req api.ActionRequest) (api.Accepted, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.acts = append(d.acts, req)
	switch req.Op {
	case actStop:
		d.pending = func(ctx context.Context, _ func(api.Event)) { d.each(ctx, name, req.Services, d.stop) }
	case actKill:
		if req.OneOff != "" {
			return api.Accepted{Stack: name, Turn: 3}, d.engine.Kill(ctx, req.OneOff, req.Signal)
		}
		d.each(ctx, name, req.Services, func(ctx context.Context, id string) error { return d.engine.Kill(ctx, id, "") })
	}
	return api.Accepted{Stack: name, Turn: 3}, nil
}

func (d *scriptedDaemon) stop(ctx context.Context, id string) error {
	return d.engine.Stop(ctx, id, "", runtime.DefaultStopGrace)
}

func (d *scriptedDaemon) each(ctx context.Context, name string, services []string, do func(context.Context, string) error) {
	list, _ := d.engine.List(ctx, runtime.Filter{Labels: map[string]string{runtime.LabelComposeProject: name}})
	var wg sync.WaitGroup
	for i := range list {
		if c := &list[i]; c.State.Alive() && (len(services) == 0 || slices.Contains(services, serviceOf(c))) {
			wg.Go(func() { _ = do(ctx, c.ID) })
		}
	}
	wg.Wait()
}

func (d *scriptedDaemon) Known(context.Context, string) (*api.Status, error) {
	if d.known == nil {
		return nil, errors.New("the daemon does not know it")
	}
	return d.known, nil
}

func (d *scriptedDaemon) Status(context.Context, string) (*api.Status, error) {
	if d.status == nil {
		return &api.Status{}, nil
	}
	return d.status, nil
}

func (d *scriptedDaemon) Follow(ctx context.Context, name string, opts client.FollowOptions, fn func(api.Event) error) error {
	d.mu.Lock()
	do, failed := d.pending, d.failed
	d.pending, d.failed = nil, nil
	d.untils = append(d.untils, opts.Until)
	d.mu.Unlock()
	var err error
	if do != nil {
		do(ctx, func(e api.Event) {
			if err == nil {
				err = fn(e)
			}
		})
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return err
	}
	return fn(api.Event{Type: api.EventSettled, Stack: name, Failed: failed, Orphans: d.orphans})
}

func (d *scriptedDaemon) CreateOneOff(ctx context.Context, name string, req *api.OneOffRequest) (api.OneOffCreated, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ones = append(d.ones, req)
	one := req.OneOff
	if one.Name == "" {
		one.Name = fmt.Sprintf("%s-%s-run-%d", name, one.Service, len(d.ones))
	}
	id := runtime.Identity{Stack: name, Service: one.Service, Slot: len(d.ones), OneOff: true}
	spec := one.Spec
	spec.Networks, spec.NetworkMode = nil, "none"
	cid, err := d.engine.Create(ctx, one.Name, id.Labels(), &spec, nil)
	return api.OneOffCreated{Name: one.Name, Container: cid}, err
}

func (d *scriptedDaemon) StartOneOff(ctx context.Context, _, name string) error {
	return d.engine.Start(ctx, name)
}

func (d *scriptedDaemon) RemoveOneOff(ctx context.Context, _, name string, _ *time.Duration) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.removed = append(d.removed, name)
	return d.engine.Remove(ctx, name, true, true)
}
