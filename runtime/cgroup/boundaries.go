package cgroup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/berth-dev/berth/runtime"
)

// Config says whose boundaries are kept, and on which engine.
type Config struct {
	// Owner is the id of this installation.
	Owner string
	// Info is what the engine says of itself; see [Engine] for Engine.
	Info   runtime.EngineInfo
	Engine Engine
	// Program is a static Linux program that calls [Serve] when its first argument
	// is [HelperCommand]: Berth itself. Empty: there is no helper.
	Program string
	// Base is where cgroups are mounted; empty: [DefaultBase].
	Base string
	// HelperOnly has the helper do everything, also where it would not be needed.
	HelperOnly bool
}

// way is how cgroups are changed: by this process or by a helper.
type way interface {
	ensure(ctx context.Context, node string, limits runtime.NodeLimits) (report, error)
	remove(ctx context.Context, node string) error
	list(ctx context.Context) ([]string, error)
	pressure(ctx context.Context, node string) (runtime.Pressure, error)
}

// Boundaries keeps the boundaries of the virtual nodes of one installation. It is
// safe for concurrent use; two calls for one node should not overlap.
type Boundaries struct {
	cfg Config

	mu   sync.Mutex // protects what follows
	way  way        // nil: none works
	how  string     // in words; why none works
	lost bool       // none works since the engine did not answer: it is tried again
	last map[string]runtime.NodeLimits
	seen map[string][]runtime.ContainerPressure // by node: kills that were seen, by container
}

// Open finds out how boundaries can be made on the engine. It never fails: where
// nothing works, boundaries are not enforced and say why. An engine that does not
// answer is asked again by each [Boundaries.Ensure].
func Open(ctx context.Context, cfg Config) *Boundaries {
	cfg.Base = cmp.Or(cfg.Base, DefaultBase)
	b := &Boundaries{cfg: cfg, last: map[string]runtime.NodeLimits{}, seen: map[string][]runtime.ContainerPressure{}}
	b.open(ctx)
	return b
}

func (b *Boundaries) open(ctx context.Context) {
	w, how, lost := find(ctx, &b.cfg)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.way, b.how, b.lost = w, how, lost
}

// find returns the way that works, and how that is in words; or nil and why none
// does, and whether that may change by itself.
func find(ctx context.Context, cfg *Config) (w way, how string, lost bool) {
	if _, err := placeOfOwner(cfg.Info.CgroupDriver, cfg.Owner); err != nil {
		return nil, bare(err), false
	}
	direct := errors.New("the helper is asked for")
	if !cfg.HelperOnly {
		var l *local
		if l, direct = openLocal(ctx, cfg); direct == nil {
			return l, "written by the daemon", false
		}
	}
	h, err := openHelper(ctx, cfg)
	if err == nil {
		return h, "written by a helper container, since the daemon may not: " + bare(direct), false
	}
	why := fmt.Sprintf("the daemon may not write the engine's cgroups (%s) and a helper container cannot (%s)", bare(direct), bare(err))
	return nil, why, silent(err)
}

// silent reports whether err says that the engine did not answer.
func silent(err error) bool {
	var ours *runtime.Error
	return errors.As(err, &ours) && ours.Kind == runtime.KindUnavailable
}

// current is the way there is; nil and why not.
func (b *Boundaries) current() (way, string, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.way, b.how, b.lost
}

// How says in words how boundaries are made, for people who look into it.
func (b *Boundaries) How() string {
	w, how, _ := b.current()
	if w == nil {
		return "not enforced: " + how
	}
	return how
}

// Ensure makes the boundary of a node, or sets its limits back to l. A limit of
// memory below what the node's containers hold, or on cgroup v1 a CPU quota below
// that of one of them, is a Conflict that has changed nothing. Where boundaries
// cannot be made the result says so, and the error is nil.
func (b *Boundaries) Ensure(ctx context.Context, node string, l runtime.NodeLimits) (runtime.Boundary, error) {
	w, why, lost := b.current()
	if w == nil && lost {
		b.open(ctx)
		w, why, _ = b.current()
	}
	if w == nil {
		return runtime.Boundary{Why: why}, nil
	}
	r, err := w.ensure(ctx, node, l)
	if err != nil {
		return runtime.Boundary{Parent: r.Parent, Why: bare(err)}, err
	}
	b.mu.Lock()
	last, known := b.last[node]
	b.last[node] = l
	b.mu.Unlock()
	out := runtime.Boundary{Parent: r.Parent, Enforced: len(r.Missing) == 0, Drift: drift(r, known, known && last != l)}
	if !out.Enforced {
		out.Why = "the engine's machine has no cgroup controller for " + strings.Join(r.Missing, ", ")
	}
	return out, nil
}

// drift tells what somebody else had changed: not what a new cgroup begins with,
// nor what follows from new limits.
func drift(r report, known, changed bool) []string {
	switch {
	case r.Made && known:
		return []string{"the cgroup had been removed and is there again"}
	case r.Made, changed:
		return nil
	}
	return r.Drift
}

// Remove removes the boundary of a node that is no more. It is a Conflict while a
// process lives in it; one that is not there is removed already.
func (b *Boundaries) Remove(ctx context.Context, node string) error {
	w, _, _ := b.current()
	if w == nil {
		return nil
	}
	if err := w.remove(ctx, node); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.last, node)
	delete(b.seen, node)
	return nil
}

// List returns the nodes of this installation that have a boundary, sorted:
// those of removed nodes among them are to be removed.
func (b *Boundaries) List(ctx context.Context) ([]string, error) {
	w, _, _ := b.current()
	if w == nil {
		return nil, nil
	}
	return w.list(ctx)
}

// Pressure tells how near a node is to its limits, and which containers were hit
// when it reached them. It is NotFound where there is no boundary.
func (b *Boundaries) Pressure(ctx context.Context, node string) (runtime.Pressure, error) {
	w, why, _ := b.current()
	if w == nil {
		return runtime.Pressure{}, &runtime.Error{Kind: runtime.KindNotFound, Op: opRead, Object: node, Err: errors.New(why)}
	}
	p, err := w.pressure(ctx, node)
	if err != nil {
		return p, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.seen[node] {
		addKills(&p, c)
	}
	sortContainers(p.Containers)
	sumKills(&p)
	b.seen[node] = hit(p.Containers)
	return p, nil
}

// maxGone is how many containers that are gone are remembered for a node.
const maxGone = 256

// hit returns the containers that lost a process, at most those that run and
// maxGone others.
func hit(list []runtime.ContainerPressure) []runtime.ContainerPressure {
	gone := 0
	return slices.DeleteFunc(slices.Clone(list), func(c runtime.ContainerPressure) bool {
		if c.Gone {
			gone++
		}
		return c.OOMKills == 0 || c.Gone && gone > maxGone
	})
}

// bare is an error's text without what failed on which object, where it stands
// beside that already.
func bare(err error) string {
	var ours *runtime.Error
	if errors.As(err, &ours) && ours.Err != nil {
		return ours.Err.Error()
	}
	return err.Error()
}

// openLocal returns a way to change cgroups from this process, or why there is none.
func openLocal(ctx context.Context, cfg *Config) (*local, error) {
	mounts, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer func() { _ = mounts.Close() }()
	t, err := findTree(cfg.Base, mounts)
	if err != nil {
		return nil, err
	}
	if v := cfg.Info.CgroupVersion; v != 0 && v != t.version {
		return nil, fmt.Errorf("the engine has cgroup v%d and this machine v%d", v, t.version)
	}
	if err := sameTree(ctx, cfg, t); err != nil {
		return nil, err
	}
	return newLocal(ctx, t, cfg.Info.CgroupDriver, cfg.Owner, cfg.Info.Rootless, DefaultKernelLog)
}

func newLocal(ctx context.Context, t *tree, driver, owner string, rootless bool, kernelLog string) (*local, error) {
	l := &local{tree: t, driver: driver, owner: owner}
	l.log, _ = openOOMLog(kernelLog) // without it the counters must do
	if driver != DriverSystemd {
		return l, l.writable()
	}
	var err error
	l.slices, err = openSlices(ctx, rootless)
	return l, err
}
