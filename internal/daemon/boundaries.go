package daemon

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/reconcile"
	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
)

// Boundaries make virtual nodes real: a cgroup for each, whose limits are the
// node's capacity.
type Boundaries interface {
	// Ensure makes a node's boundary, or sets it right again.
	Ensure(ctx context.Context, node string, limits runtime.NodeLimits) (runtime.Boundary, error)
	// Remove takes the boundary of a node away; one in use is a Conflict.
	Remove(ctx context.Context, node string) error
	// List names the nodes that have a boundary.
	List(ctx context.Context) ([]string, error)
	Pressure(ctx context.Context, node string) (runtime.Pressure, error)
}

// bound is what is known of one node's boundary.
type bound struct {
	limits   runtime.NodeLimits
	made     runtime.Boundary
	failed   error // the last try to make it
	pressure *runtime.Pressure
	oom      *api.NodeOOM
	short    shortage
	shed     map[string]map[reconcile.Key]reconcile.Shed // by stack, while it is short; never changed, but replaced
}

// limitsOf are what a node's boundary enforces.
func limitsOf(n stack.Node) runtime.NodeLimits {
	return runtime.NodeLimits{CPUs: n.Capacity.CPU, Memory: n.Capacity.Memory, Pids: n.Pids}
}

// boundaryTimeout bounds each call about a boundary.
const boundaryTimeout = 30 * time.Second

// boundaries opens them for the engine that is there now. Nothing is opened
// before a node needs it, or while there is nothing to clean up.
func (d *Daemon) boundaries(ctx context.Context) (Boundaries, error) {
	if !d.nodes.needsBoundaries() {
		return nil, nil
	}
	if err := d.learnEngine(ctx); err != nil {
		return nil, err
	}
	info := d.nodes.engineInfo()
	if d.bounds == nil || d.boundsOf != info.ID {
		if err := d.nodes.edit(d.store.saveNodes, func(st *nodeState) error { st.Bounded = true; return nil }); err != nil {
			return nil, err
		}
		d.bounds, d.boundsOf = d.cfg.Boundaries(ctx, info, d.owner), info.ID
	}
	return d.bounds, nil
}

// needsBoundaries reports whether there is a node, or was one.
func (n *nodes) needsBoundaries() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.state.Bounded || len(n.allLocked()) > 0
}

func (n *nodes) engineInfo() runtime.EngineInfo {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.engine
}

// keepBoundaries makes the boundaries of all nodes, sets them right again when
// somebody else has changed them, and takes away those of nodes that are no
// more, until ctx ends.
func (d *Daemon) keepBoundaries(ctx context.Context) {
	timer := time.NewTicker(d.cfg.Resync)
	defer timer.Stop()
	look := time.NewTimer(d.cfg.Resync)
	defer look.Stop()
	for {
		again := false
		select {
		case <-ctx.Done():
			return
		case <-d.nodes.changed:
		case <-timer.C:
			again = true
		case <-look.C:
			look.Reset(d.untilLook(d.lookAtPressure(ctx)))
			continue
		}
		if d.health.away() != nil {
			continue
		}
		b, err := d.boundaries(ctx)
		if err != nil {
			d.cfg.Log.Warn().Err(err).Msg("boundaries of nodes cannot be made now; it is tried again")
		}
		if b == nil {
			continue
		}
		if d.ensureBoundaries(ctx, b, again) {
			d.wakeAll()
		}
		d.dropBoundaries(ctx, b)
		d.readPressure(ctx, b)
		look.Reset(d.untilLook(0))
	}
}

// lookAtPressure reads what the nodes' cgroups tell, and says how long that took.
func (d *Daemon) lookAtPressure(ctx context.Context) time.Duration {
	if d.bounds == nil || d.health.away() != nil {
		return 0
	}
	begun := time.Now()
	d.readPressure(ctx, d.bounds)
	return time.Since(begun)
}

// wakeAll asks every loop for a turn.
func (d *Daemon) wakeAll() {
	for _, l := range d.all() {
		l.wakeUp()
	}
}

// needed are the nodes that need a boundary.
func (n *nodes) needed() []stack.Node {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.allLocked()
}

// ensureBoundaries makes what is missing, and with again looks at all. It
// reports whether a loop may go on because of it.
func (d *Daemon) ensureBoundaries(ctx context.Context, b Boundaries, again bool) bool {
	news := false
	for _, node := range d.nodes.needed() {
		limits := limitsOf(node)
		old := d.nodes.bound(node.Name)
		if old != nil && old.limits == limits && old.failed == nil && !again {
			continue
		}
		call, cancel := context.WithTimeout(ctx, boundaryTimeout)
		made, err := b.Ensure(call, node.Name, limits)
		cancel()
		if ctx.Err() != nil {
			return false
		}
		if err != nil {
			made.Enforced, made.Why = false, err.Error()
		}
		d.logBoundary(node.Name, old, made, err)
		news = d.nodes.bind(node.Name, limits, made, err) || news
	}
	return news
}

func (d *Daemon) logBoundary(node string, old *bound, made runtime.Boundary, err error) {
	switch {
	case err != nil && (old == nil || old.failed == nil):
		d.cfg.Log.Error().Err(err).Str("node", node).Msg("the node's boundary cannot be made; its capacity is only accounted for")
	case len(made.Drift) > 0:
		d.cfg.Log.Warn().Str("node", node).Str("drift", strings.Join(made.Drift, "; ")).Msg("the node's boundary was changed by somebody else; it was set right")
	case err == nil && !made.Enforced && (old == nil || old.made.Why != made.Why):
		d.cfg.Log.Warn().Str("node", node).Str("cause", made.Why).Msg("the node's capacity is not enforced")
	}
}

func (n *nodes) bound(name string) *bound {
	n.mu.Lock()
	defer n.mu.Unlock()
	if b := n.bounds[name]; b != nil {
		c := *b
		return &c
	}
	return nil
}

// bind records a boundary and reports whether plans may change by it.
func (n *nodes) bind(name string, limits runtime.NodeLimits, made runtime.Boundary, err error) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	b := n.bounds[name]
	if b == nil {
		b = n.state.Short[name].bound()
		n.bounds[name] = b
	}
	news := b.limits != limits || b.made.Parent != made.Parent
	b.limits, b.made, b.failed = limits, made, err
	return news
}

// dropBoundaries takes away the boundaries of nodes that are no more, once they
// are empty.
func (d *Daemon) dropBoundaries(ctx context.Context, b Boundaries) {
	keep := map[string]bool{}
	for _, node := range d.nodes.needed() {
		keep[node.Name] = true
	}
	call, cancel := context.WithTimeout(ctx, boundaryTimeout)
	defer cancel()
	have, err := b.List(call)
	if err != nil {
		return // asked again later
	}
	left := len(have)
	for _, name := range have {
		if keep[name] {
			continue
		}
		if err := b.Remove(call, name); err != nil {
			if !runtime.IsConflict(err) {
				d.cfg.Log.Warn().Err(err).Str("node", name).Msg("the boundary of a node that is no more cannot be removed; it is tried again")
			}
			continue
		}
		d.nodes.unbind(name)
		left--
	}
	if left == 0 {
		d.unbounded()
	}
}

// unbounded notes that nothing is left to clean up. When that cannot be stored
// the next daemon looks once more.
func (d *Daemon) unbounded() {
	err := d.nodes.edit(d.store.saveNodes, func(st *nodeState) error {
		if !st.Bounded || len(d.nodes.allLocked()) > 0 {
			return errUnchanged
		}
		st.Bounded = false
		return nil
	})
	if err != nil && !errors.Is(err, errUnchanged) {
		d.cfg.Log.Warn().Err(err).Msg("the state of the nodes cannot be stored")
	}
}

// errUnchanged ends an edit that has nothing to change.
var errUnchanged = errors.New("nothing to change")

func (n *nodes) unbind(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.bounds, name)
}

// readPressure takes over what the nodes' cgroups tell, and names whom a lack of
// memory has hit.
func (d *Daemon) readPressure(ctx context.Context, b Boundaries) {
	for _, node := range d.nodes.needed() {
		known := d.nodes.bound(node.Name)
		if known == nil || known.made.Parent == "" {
			continue
		}
		call, cancel := context.WithTimeout(ctx, boundaryTimeout)
		p, err := b.Pressure(call, node.Name)
		cancel()
		if err != nil {
			continue // asked again later
		}
		oom := d.outOfMemory(known.pressure, &p)
		if oom != nil {
			d.cfg.Log.Warn().Str("node", node.Name).Str("container", oom.Container).Bool("byNode", oom.ByNode).Msg("a process was killed for want of memory")
		}
		d.nodes.press(node.Name, &p, oom)
		d.relieve(node.Name, &p, time.Now())
	}
}

func (n *nodes) press(name string, p *runtime.Pressure, oom *api.NodeOOM) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if b := n.bounds[name]; b != nil {
		b.pressure = p
		if oom != nil {
			b.oom = oom
		}
	}
}

// outOfMemory finds what was killed between two looks; nil: nothing.
func (d *Daemon) outOfMemory(before, after *runtime.Pressure) *api.NodeOOM {
	var was int64
	if before != nil {
		was = before.OOMKills
	}
	if before == nil || after.OOMKills <= was {
		return nil
	}
	oom := &api.NodeOOM{At: time.Now(), ByNode: after.NodeOOMs > before.NodeOOMs}
	for i := range after.Containers {
		c := &after.Containers[i]
		if old, _ := before.OOMKilled(c.ID); c.OOMKills > old {
			oom.Container = d.containerName(c.ID)
			oom.ByNode = c.NodeOOMs > 0
		}
	}
	return oom
}

// containerName is the name of a container that some stack has; its ID where
// none has it.
func (d *Daemon) containerName(id string) string {
	for _, l := range d.all() {
		if name := l.nameOf(id); name != "" {
			return name
		}
	}
	return id
}

func (l *loop) nameOf(id string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.observed == nil {
		return ""
	}
	for i := range l.observed.Containers {
		if l.observed.Containers[i].ID == id {
			return l.observed.Containers[i].Name
		}
	}
	return ""
}

// lackOfMemory reports whether an event tells of a kill for want of memory.
func lackOfMemory(ev runtime.Event) bool {
	return ev.Type == "container" && (ev.Action == "oom" || ev.Action == "die" && ev.Labels["exitCode"] == "137")
}

// pressureReason says that a node's memory limit was reached and whom it hit, for
// a replica that was killed there; empty when it was not.
func (n *nodes) pressureReason(c *runtime.Container, node string) string {
	b := n.bound(node)
	if b == nil || b.pressure == nil {
		return ""
	}
	if _, byNode := b.pressure.OOMKilled(c.ID); byNode > 0 && node != reconcile.LocalNode {
		return fmt.Sprintf("killed when node %s ran out of memory (%d MiB); give the node more memory or the service a limit below it", node, b.limits.Memory>>20)
	}
	return ""
}
