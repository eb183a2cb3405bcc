// Package daemon keeps stacks as they are declared: one loop per stack turns
// desired and observed state into steps and carries them out, woken by
// commands, engine events, ended steps and timers.
//
// Invariants:
//   - it may end at any instant; whatever it was doing is continued by the next
//     one from the engine's labels and the stored desired state;
//   - its end never stops a container;
//   - a desired state is a value: an edit makes a new one and stores it before
//     it counts, so a command that fails has changed nothing;
//   - no lock is held across a call to the engine;
//   - an unreadable state file is never taken for an empty one.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	goruntime "runtime"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/berth-dev/berth/health"
	"github.com/berth-dev/berth/internal/dirs"
	"github.com/berth-dev/berth/internal/reconcile"
	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
)

// Engine is what the daemon needs of an engine beyond its loops.
type Engine interface {
	reconcile.Engine
	Ping(ctx context.Context) error
	Info(ctx context.Context) (runtime.EngineInfo, error)
	Events(ctx context.Context, since time.Time, filter runtime.Filter) <-chan runtime.Event
	Attach(ctx context.Context, id string, opts runtime.AttachOptions, streams runtime.Streams) error
	Logs(ctx context.Context, id string, opts runtime.LogOptions, stdout, stderr io.Writer) error
}

// Config says how a daemon runs. Engine and Dirs are needed; the zero value of
// the rest is a default.
type Config struct {
	Engine  Engine
	Dirs    dirs.Dirs
	Version string
	// Build identifies the binary, and Background tells that a command started
	// it; see api.DaemonInfo.
	Build      string
	Background bool
	Log        zerolog.Logger
	// Probing says how probes reach containers.
	Probing Probing
	// Boundaries opens what enforces the capacities of virtual nodes on an engine,
	// for the owner of their cgroups; nil: they are only accounted for. It is
	// called when the first node needs it, and again for another engine.
	Boundaries func(ctx context.Context, info runtime.EngineInfo, owner string) Boundaries
	// Orphans removes what installations that are gone have left; nil: that stays.
	// It is called when the daemon starts and when a stack has gone.
	Orphans Orphans
	// Balancing makes the balancer that holds published ports of services with
	// more than one replica; nil: there is none, and the engine publishes all ports.
	Balancing Balancing
	// Meter measures containers for the autoscaler; nil: nothing is measured.
	Meter Meter
	// NewerImage names the image that follows a service's; nil: it is the same one.
	NewerImage NewerImage
	// Relay returns an image that holds the program of relays and what
	// starts it there; nil: there is none, and no service can be discovered by
	// readiness.
	Relay func(ctx context.Context) (image string, entrypoint []string, err error)
	// LocalEngine: the engine publishes ports on this very machine, so a port can
	// be tried before it is promised.
	LocalEngine bool
	// Resync is how often everything is looked at again although no event said
	// so; default 1 minute, jittered.
	Resync time.Duration
	// Parallel is the number of CPUs by which calls to the engine are bounded;
	// default: this machine's.
	Parallel int
}

// Daemon runs the loops of all stacks of one user and engine.
type Daemon struct {
	cfg       Config
	store     *store
	contents  *contents
	gates     *gates
	owner     string
	started   time.Time
	health    *engineHealth
	nodes     *nodes
	balancing *balancing
	prober    *health.Prober // nil: nothing can be probed
	autoheal  *autohealer
	bounds    Boundaries // nil: none were needed yet; of keepBoundaries alone
	boundsOf  string     // the engine's id

	mu     sync.Mutex // protects loops and unread
	loops  map[string]*loop
	ended  map[string]*loop // of stacks that are gone, for those who still follow them
	unread map[string]error // stacks whose files cannot be read, and why

	proc    string         // where the kernel tells of processes; a seam for tests
	running sync.WaitGroup // the loops and their steps
	ctx     context.Context
}

// New prepares a daemon: it makes its folders and its owner id, and reads the
// stored stacks. It starts nothing.
func New(cfg Config) (*Daemon, error) {
	if cfg.Resync == 0 {
		cfg.Resync = time.Minute
	}
	if cfg.Parallel == 0 {
		cfg.Parallel = goruntime.NumCPU()
	}
	if err := cfg.Dirs.Create(); err != nil {
		return nil, err
	}
	d := &Daemon{
		cfg: cfg, store: newStore(cfg.Dirs.State), contents: &contents{dir: cfg.Dirs.Runtime},
		proc: "/proc", gates: newGates(cfg.Parallel), loops: map[string]*loop{}, ended: map[string]*loop{}, unread: map[string]error{},
		health: newEngineHealth(), nodes: newNodes(cfg.Boundaries != nil), balancing: newBalancing(cfg.Balancing),
	}
	d.prober, d.autoheal = d.newProber(), newAutohealer(d)
	var err error
	if d.owner, err = d.store.owner(); err != nil {
		return nil, err
	}
	if err := d.readNodes(); err != nil {
		return nil, err
	}
	return d, d.readStacks()
}

// readNodes takes over what commands had made of nodes. Without that nothing
// can be placed, so a file that cannot be read keeps the daemon from starting.
func (d *Daemon) readNodes() error {
	st, note, err := d.store.loadNodes()
	if err != nil {
		return fmt.Errorf("%w; repair or remove the file", err)
	}
	if note != "" {
		d.cfg.Log.Warn().Msg(note)
	}
	d.nodes.state = st
	d.nodes.poke()
	return nil
}

// readStacks makes a loop for every stored stack. A file that cannot be read
// keeps its stack from being acted on, and nothing else.
func (d *Daemon) readStacks() error {
	names, err := d.store.names()
	if err != nil {
		return err
	}
	declared := map[string]*stack.Stack{}
	for _, name := range names {
		r, note, err := d.store.load(name)
		if err != nil {
			d.cfg.Log.Error().Err(err).Str("stack", name).Msg("the stack's state cannot be read; nothing is done to it until it is declared again")
			d.unread[name] = err
			continue
		}
		if note != "" {
			d.cfg.Log.Warn().Str("stack", name).Msg(note)
		}
		d.health.remember(r.Memory.EngineDown, r.Memory.EngineUp)
		d.loops[name] = newLoop(d, name, r)
		declared[name] = r.Desired.Stack
	}
	d.nodes.redeclare(declared)
	return nil
}

// Run serves the API on listener and keeps the stacks until ctx ends. It ends
// without touching a container.
func (d *Daemon) Run(ctx context.Context, listener net.Listener) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	d.ctx = ctx
	d.started = time.Now()
	d.restore(ctx)
	d.running.Go(func() { d.passWakes(ctx) })
	d.mu.Lock()
	for _, l := range d.loops {
		d.launchLocked(l)
	}
	d.mu.Unlock()
	d.running.Go(func() { d.watch(ctx) })
	d.running.Go(func() { d.resync(ctx) })
	d.running.Go(func() { d.autoheal.run(ctx) })
	d.running.Go(func() { d.updateImages(ctx) })
	d.running.Go(func() { d.scaleAll(ctx) })
	if d.prober != nil {
		d.running.Go(func() { d.probeAll(ctx) })
	}
	d.running.Go(func() { d.removeOrphans(ctx) })
	if d.cfg.Boundaries != nil {
		d.running.Go(func() { d.keepBoundaries(ctx) })
	}
	err := d.serve(ctx, listener)
	stop()
	d.running.Wait()
	return err
}

// launchLocked starts a loop; d.mu is held.
func (d *Daemon) launchLocked(l *loop) {
	d.running.Go(func() { l.run(d.ctx) })
}

// loop returns a stack's loop, or nil.
func (d *Daemon) loop(name string) *loop {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.loops[name]
}

// ensureLoop returns a stack's loop and makes one when there is none.
func (d *Daemon) ensureLoop(name string) *loop {
	d.mu.Lock()
	defer d.mu.Unlock()
	if l := d.loops[name]; l != nil {
		return l
	}
	l := newLoop(d, name, nil)
	d.loops[name] = l
	d.launchLocked(l)
	return l
}

// keptEnded bounds the stacks whose end is remembered.
const keptEnded = 64

// followed returns the loop whose events a client wants: a stack's present one,
// or that of a stack that has just gone, whose end it has not heard of yet.
func (d *Daemon) followed(ctx context.Context, name string) (*loop, error) {
	l, err := d.known(ctx, name)
	if !runtime.IsNotFound(err) {
		return l, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if l := d.ended[name]; l != nil {
		return l, nil
	}
	return nil, err
}

// forget drops a stack that is gone, unless a command has edited it since the
// turn that found it so. It reports whether it did.
func (d *Daemon) forget(l *loop, turn uint64) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.turn.Load() != turn {
		return false, nil
	}
	if err := d.store.remove(l.name); err != nil {
		return false, err
	}
	l.closed = true
	d.nodes.declare(l.name, nil)
	l.claimed, l.waiting = append(l.claimed, l.waiting...), nil // no other turn will answer them
	l.releaseLocked()
	delete(d.loops, l.name)
	if len(d.ended) >= keptEnded {
		clear(d.ended)
	}
	d.ended[l.name] = l
	return true, d.contents.drop(l.name)
}

// all returns the loops of all stacks, sorted by name.
func (d *Daemon) all() []*loop {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := make([]*loop, 0, len(d.loops))
	for _, name := range sortedNames(d.loops) {
		list = append(list, d.loops[name])
	}
	return list
}

// Listen takes the daemon's lock and its socket. Release lets go of both; a
// daemon that runs already is an [ErrRunning].
func Listen(folders dirs.Dirs) (l net.Listener, release func() error, err error) {
	if err := folders.Create(); err != nil {
		return nil, nil, err
	}
	unlock, err := acquire(folders.Lock())
	if err != nil {
		return nil, nil, err
	}
	socket := folders.Socket()
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, nil, errors.Join(err, unlock())
	}
	l, err = listenPrivate(socket)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("listen on %s: %w", socket, err), unlock())
	}
	return l, func() error { return errors.Join(ignoreClosed(l.Close()), unlock()) }, nil
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
