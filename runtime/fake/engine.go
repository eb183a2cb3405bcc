package fake

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/berth-dev/berth/runtime"
)

// Options configures an engine. The zero value is a machine with 4 cores and
// 8 GiB that answers at once.
type Options struct {
	CPUs         int           // default 4
	Memory       int64         // bytes; default 8 GiB
	AddressPools int           // networks that fit into the default pools, the bridge included; default 31
	Deadline     time.Duration // of every call that does not follow something; default 60 s
	// Latency is how long a call of that name takes before it has its effect,
	// such as {"start": 200 * time.Millisecond}.
	Latency map[string]time.Duration
	// OnCall is called after the effect of every mutating call and before its
	// answer, with the call's number from 1 on. A simulation kills the daemon
	// here by cancelling the caller's context: the answer is then lost.
	OnCall func(n int, call Call)
	// OnBuild says what an image build makes. Nil: an image that runs forever.
	OnBuild func(build *runtime.Build) (Image, error)
	// AllowOverlap reports where two live containers may share a slot. Nil: nowhere.
	AllowOverlap func(stack, service string) bool
}

// Call is one call of an engine.
type Call struct {
	N       int               // number among the mutating calls, from 1; 0: it only looks
	Op      string            // the method's name in lower case, words joined by dashes
	Object  string            // name of the container, image, network or volume
	ID      string            // of the container, where it is known
	Labels  map[string]string // of the object, where it is known
	Time    time.Time
	Changed bool  // it changed something
	Err     error // what it had as an effect; an answer lost on the way is not an error
}

// String reads "start shop-web-1".
func (c Call) String() string { return strings.TrimSpace(c.Op + " " + c.Object) }

// Engine is an engine in memory. Make it with [New].
type Engine struct {
	opts Options

	background sync.WaitGroup // every goroutine that Close waits for
	closed     chan struct{}

	mu         sync.Mutex // protects everything below
	ended      bool
	skew       time.Duration
	id         string
	serial     int
	containers map[string]*container // by ID
	names      map[string]*container
	ghosts     map[string]bool // names held by nothing that can be found
	images     map[string]*image
	remote     map[string]Image
	offline    bool
	networks   map[string]*network // by ID
	volumes    map[string]*volume
	ports      map[portKey]string // holder
	scripts    map[string]Workload
	lastPort   uint16
	calls      []Call
	faults     []*Fault
	down       bool
	history    []runtime.Event
	subs       map[*subscription]bool
	eventFault func(runtime.Event) []runtime.Event
	overlaps   []Overlap
}

// New returns an engine that holds nothing but the networks bridge, host and none.
func New(opts Options) *Engine {
	opts.CPUs = cmp.Or(opts.CPUs, 4)
	opts.Memory = cmp.Or(opts.Memory, 8<<30)
	opts.AddressPools = cmp.Or(opts.AddressPools, 31)
	opts.Deadline = cmp.Or(opts.Deadline, time.Minute)
	e := &Engine{
		opts: opts, closed: make(chan struct{}), id: newID(), lastPort: 32767,
		containers: map[string]*container{}, names: map[string]*container{}, ghosts: map[string]bool{},
		images: map[string]*image{}, remote: map[string]Image{},
		networks: map[string]*network{}, volumes: map[string]*volume{},
		ports: map[portKey]string{}, scripts: map[string]Workload{}, subs: map[*subscription]bool{},
	}
	for i, name := range []string{"bridge", "host", "none"} {
		n := &network{Network: runtime.Network{ID: newID(), Name: name, Driver: cmp.Or(map[string]string{"none": "null"}[name], name), Scope: "local"}, predefined: true, pool: -1}
		if i == 0 {
			n.pool = 0
		}
		e.networks[n.ID] = n
	}
	return e
}

// Close kills every workload, ends every subscription and waits for all
// goroutines of the engine. Calls made afterwards are Unavailable.
func (e *Engine) Close() error {
	e.mu.Lock()
	if !e.ended {
		e.ended = true
		close(e.closed)
		for _, c := range e.containers {
			c.blocked = true
			c.cancelRestart()
			if c.proc != nil {
				c.proc.kill()
			}
		}
	}
	e.mu.Unlock()
	e.background.Wait()
	return nil
}

// spawn starts a goroutine that Close waits for. It needs the mutex, so that
// none starts once Close has begun to wait.
func (e *Engine) spawnLocked(f func()) {
	if e.ended {
		return
	}
	e.background.Add(1)
	go func() {
		defer e.background.Done()
		f()
	}()
}

// Script says what the main process of matching containers does. The key is a
// container's name, "stack/service", a service's name, or an image reference;
// the first of these that is scripted counts. It holds from the next start on.
func (e *Engine) Script(key string, w Workload) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.scripts[key] = w
}

// ShiftClock moves the engine's wall clock, as seen in its timestamps.
func (e *Engine) ShiftClock(by time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.skew += by
}

// Calls returns the mutating calls made so far, in their order, without those by hand.
func (e *Engine) Calls() []Call {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.calls)
}

// Info describes the machine that the engine pretends to be.
func (e *Engine) Info(ctx context.Context) (info runtime.EngineInfo, err error) {
	err = e.call(ctx, "info", "", func(context.Context, *Call) error {
		info = runtime.EngineInfo{
			ID: e.id, Version: "20.10.24", APIVersion: "1.41", OS: "linux", Arch: "amd64", KernelVersion: "6.1.0",
			CPUs: e.opts.CPUs, Memory: e.opts.Memory, CgroupVersion: 1, CgroupDriver: "cgroupfs",
			Host: "fake://" + e.id[:12], Runtimes: []string{"runc"},
		}
		return nil
	})
	return info, err
}

// Ping reports whether the engine answers.
func (e *Engine) Ping(ctx context.Context) error {
	return e.call(ctx, "ping", "", func(context.Context, *Call) error { return nil })
}

func (e *Engine) nowLocked() time.Time { return time.Now().Add(e.skew) }

type byHand struct{}

// ByHand returns a context for what somebody does to the engine by hand: such
// calls meet no injected fault and no latency, and are not counted.
func ByHand(ctx context.Context) context.Context { return context.WithValue(ctx, byHand{}, true) }

// mutating are the operations that change something.
var mutating = []string{
	"create", "start", "stop", "kill", "restart", "pause", "unpause", "update", "rename", "remove", "prune",
	"exec", "copy-to", "pull", "push", "build", "tag", "remove-image",
	"ensure-network", "remove-network", "connect", "disconnect", "ensure-volume", "remove-volume",
}

// following are the operations that last as long as what they follow.
var following = []string{"wait", "stats", "logs", "exec", "attach", "stop", "restart", "pull", "push", "build"}

// call is the frame of every engine call: deadline, latency, injected faults,
// the effect, the log and the hook.
func (e *Engine) call(ctx context.Context, op, object string, effect func(context.Context, *Call) error) error {
	call := Call{Op: op, Object: object}
	e.describe(&call)
	if !slices.Contains(following, op) {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, e.opts.Deadline)
		defer cancel()
	}
	if ctx.Value(byHand{}) != nil {
		return e.answer(ctx, call, effect(ctx, &call))
	}
	f := e.fault(call)
	err := e.before(ctx, call, f)
	if err == nil {
		err = effect(ctx, &call)
	}
	call.Err = err
	if slices.Contains(mutating, op) {
		call.N = e.log(call)
		if e.opts.OnCall != nil {
			e.opts.OnCall(call.N, call)
		}
	}
	if err == nil && f.HangAfter {
		return e.hang(ctx, call)
	}
	if err == nil && f.Lost {
		return fail(runtime.KindUnavailable, op, call.Object, "the connection was reset before the engine answered")
	}
	return e.answer(ctx, call, err)
}

// answer is what the caller gets to hear: nothing once it has gone away.
func (e *Engine) answer(ctx context.Context, call Call, err error) error {
	if ctx.Err() != nil && runtime.KindOf(err) != runtime.KindUnavailable {
		return &runtime.Error{Kind: runtime.KindUnavailable, Op: call.Op, Object: call.Object, Err: ctx.Err()}
	}
	return err
}

// before waits and fails as the fault and the engine's condition demand.
func (e *Engine) before(ctx context.Context, call Call, f Fault) error {
	if err := e.reachable(ctx, call); err != nil {
		return err
	}
	if err := sleep(ctx, e.opts.Latency[call.Op]+f.Delay); err != nil {
		return &runtime.Error{Kind: runtime.KindUnavailable, Op: call.Op, Object: call.Object, Err: err}
	}
	if f.Hang {
		return e.hang(ctx, call)
	}
	if f.Kind != "" {
		return &runtime.Error{Kind: f.Kind, Op: call.Op, Object: call.Object, Err: cmp.Or(f.Err, errInjected)}
	}
	return e.reachable(ctx, call)
}

var errInjected = errors.New("injected fault")

func (e *Engine) reachable(ctx context.Context, call Call) error {
	if err := ctx.Err(); err != nil {
		return &runtime.Error{Kind: runtime.KindUnavailable, Op: call.Op, Object: call.Object, Err: err}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.down || e.ended {
		return fail(runtime.KindUnavailable, call.Op, call.Object, "cannot connect to the engine; is it running?")
	}
	return nil
}

// hang waits until the caller gives up, or the engine's own deadline.
func (e *Engine) hang(ctx context.Context, call Call) error {
	err := sleep(ctx, e.opts.Deadline)
	if err == nil {
		err = context.DeadlineExceeded
	}
	return &runtime.Error{Kind: runtime.KindUnavailable, Op: call.Op, Object: call.Object, Err: err}
}

// describe fills in what is known of the call's object before its effect.
func (e *Engine) describe(call *Call) {
	e.mu.Lock()
	defer e.mu.Unlock()
	call.Time = e.nowLocked()
	switch call.Op {
	case "image", "pull", "push", "build", "tag", "remove-image":
	case "ensure-network", "network", "remove-network", "connect", "disconnect":
		if n := e.lookupNetwork(call.Object); n != nil {
			call.Object, call.Labels = n.Name, n.Labels
		}
	case "ensure-volume", "volume", "remove-volume":
		if v := e.volumes[call.Object]; v != nil {
			call.Labels = v.Labels
		}
	default:
		if c := e.lookup(call.Object); c != nil {
			call.Object, call.ID, call.Labels = c.Name, c.ID, c.Labels
		}
	}
}

func (e *Engine) log(call Call) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	call.N = len(e.calls) + 1
	e.calls = append(e.calls, call)
	return call.N
}

// sleep waits for d; it returns the context's error when that ends first.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func fail(kind runtime.Kind, op, object, format string, args ...any) error {
	return &runtime.Error{Kind: kind, Op: op, Object: object, Err: fmt.Errorf(format, args...)}
}

// newID returns 64 random hexadecimal digits.
func newID() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails: it crashes the program instead
	return hex.EncodeToString(b)
}

// matches reports whether labels satisfy the filter.
func matches(f runtime.Filter, labels map[string]string) bool {
	for k, want := range f.Labels {
		if v, ok := labels[k]; !ok || (want != "" && v != want) {
			return false
		}
	}
	return true
}
