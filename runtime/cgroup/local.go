package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/berth-dev/berth/runtime"
)

// report is what came of setting a node's limits.
type report struct {
	Parent  string   `json:"parent"`
	Made    bool     `json:"made,omitempty"`    // the cgroup was not there
	Drift   []string `json:"drift,omitempty"`   // what differed, and what it is now
	Missing []string `json:"missing,omitempty"` // limits that this kernel cannot carry, sorted
}

// local changes the cgroups that this process sees.
type local struct {
	tree   *tree
	driver string
	owner  string
	slices slicer  // with the systemd driver
	log    *oomLog // nil: the kernel's log cannot be read
}

// slicer is the manager of slices: only it may make a slice and set its limits,
// or it would set them back.
type slicer interface {
	// set makes the slice where it is missing and sets its limits.
	set(ctx context.Context, slice string, l runtime.NodeLimits) error
	// remove ends the slice; one that is not there is removed already.
	remove(ctx context.Context, slice string) error
	// root is the path of the manager's own cgroup without a leading slash; empty
	// for that of the system.
	root() string
}

// place returns where a node's cgroup is in this tree.
func (l *local) place(node string) (place, error) {
	p, err := placeOf(l.driver, l.owner, node)
	if err == nil && l.slices != nil {
		p.rel = filepath.Join(l.slices.root(), p.rel)
	}
	return p, err
}

const opEnsure = "set the limits of node"

func (l *local) ensure(ctx context.Context, node string, limits runtime.NodeLimits) (report, error) {
	p, err := l.place(node)
	if err != nil {
		return report{}, err
	}
	if limits.CPUs < 0 || limits.Memory < 0 || limits.Pids < 0 {
		return report{}, invalid(opEnsure, node, "a limit is negative; 0 means none")
	}
	r := report{Parent: p.parent, Made: !l.tree.exists(p.rel)}
	if err := l.fits(p.rel, node, limits); err != nil {
		return r, err
	}
	set := l.write
	if l.slices != nil {
		set = l.viaSlice
	}
	r.Drift, r.Missing, err = set(ctx, p, limits)
	return r, refused(opEnsure, node, err)
}

// fits refuses a memory limit below what the node's containers hold: setting it
// would kill some of them on cgroup v2, and fail on v1.
func (l *local) fits(rel, node string, limits runtime.NodeLimits) error {
	now := l.tree.limitOf(memory, rel, l.tree.names().limit)
	used := l.tree.memoryInUse(rel)
	if limits.Memory == 0 || used <= limits.Memory || now == limits.Memory {
		return nil
	}
	return &runtime.Error{Kind: runtime.KindConflict, Op: opEnsure, Object: node,
		Err: fmt.Errorf("its containers hold %d bytes of memory, more than the limit of %d; move or stop some of them first", used, limits.Memory)}
}

// write makes the cgroup and writes its limits. A cgroup that was made and cannot
// be limited is removed again.
func (l *local) write(_ context.Context, p place, limits runtime.NodeLimits) (drift, missing []string, err error) {
	made, err := l.tree.make(p.rel)
	if err == nil {
		var todo []change
		todo, drift, missing = changes(l.tree.version, l.current(p.rel), limits)
		err = l.carryOut(p.rel, todo)
	}
	if err != nil {
		for _, dir := range made {
			err = errors.Join(err, ignoreGone(l.tree.kernel.rmdir(dir)))
		}
		return nil, nil, err
	}
	return drift, missing, nil
}

// current is what the files of the cgroup rel that limit a node hold.
func (l *local) current(rel string) map[string]string {
	m := map[string]string{}
	for _, s := range settings(l.tree.version, runtime.NodeLimits{}) {
		if content, ok := l.tree.read(s.controller, rel, s.file); ok {
			m[s.file] = content
		}
	}
	return m
}

func (l *local) carryOut(rel string, todo []change) error {
	for _, c := range todo {
		err := l.tree.kernel.write(l.tree.file(c.controller, rel, c.file), c.spelled())
		if err == nil || c.optional && (errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, fs.ErrNotExist)) {
			continue
		}
		if c.file == quotaV1 && errors.Is(err, syscall.EINVAL) {
			return &runtime.Error{Kind: runtime.KindConflict, Op: opEnsure, Object: filepath.Base(rel),
				Err: errors.New("a container in it may use more CPU than the node would have, which cgroup v1 does not allow; lower its limit or move it first")}
		}
		return fmt.Errorf("write %s to %s: %w", c.spelled(), c.file, err)
	}
	return nil
}

// viaSlice has the manager of slices set the limits, and looks whether they are.
func (l *local) viaSlice(ctx context.Context, p place, limits runtime.NodeLimits) (drift, missing []string, err error) {
	existed := l.tree.exists(p.rel)
	todo, drift, missing := changes(l.tree.version, l.current(p.rel), limits)
	if existed && len(todo) == 0 {
		return nil, missing, nil
	}
	// Memory plus swap, which systemd does not know, is never below memory.
	if c := l.unmanaged(p.rel, limits); len(c) > 0 && number(c[0].value) > number(c[0].was) {
		if err := l.carryOut(p.rel, c); err != nil {
			return nil, nil, err
		}
	}
	if err := l.slices.set(ctx, p.parent, limits); err != nil {
		return nil, nil, err
	}
	if err := l.carryOut(p.rel, l.unmanaged(p.rel, limits)); err != nil {
		return nil, nil, err
	}
	todo, _, missing = changes(l.tree.version, l.current(p.rel), limits)
	if len(todo) > 0 {
		return nil, nil, fmt.Errorf("systemd has set the limits of %s, and %s holds %s instead of %s", p.parent, todo[0].file, todo[0].was, todo[0].value)
	}
	return drift, missing, nil
}

// unmanaged is what systemd has no property for on cgroup v1: memory plus swap.
func (l *local) unmanaged(rel string, limits runtime.NodeLimits) []change {
	if l.tree.version != 1 {
		return nil
	}
	todo, _, _ := changes(1, l.current(rel), limits)
	return slices.DeleteFunc(todo, func(c change) bool { return c.file != memswV1 })
}

const opRemove = "remove the cgroup of node"

func (l *local) remove(ctx context.Context, node string) error {
	p, err := l.place(node)
	if err != nil {
		return err
	}
	in, err := l.tree.occupied(p.rel)
	if err != nil {
		return refused(opRemove, node, err)
	}
	if len(in) > 0 {
		return &runtime.Error{Kind: runtime.KindConflict, Op: opRemove, Object: node, Err: errors.New("it holds " + whatIsIn(in))}
	}
	if l.slices != nil {
		if err := l.slices.remove(ctx, p.parent); err != nil {
			return refused(opRemove, node, err)
		}
	}
	if err := l.tree.remove(p.rel); err != nil {
		return refused(opRemove, node, err)
	}
	if l.slices == nil {
		l.tree.tidy(p.rel)
		return nil
	}
	return l.removeOwner(ctx, node)
}

// removeOwner ends the slice of an installation with its last node's. That of all
// installations stays: ending it would end those of the others.
func (l *local) removeOwner(ctx context.Context, node string) error {
	above, err := placeOfOwner(l.driver, l.owner)
	if err != nil {
		return err
	}
	below, err := children(l.tree.dirs, filepath.Join(l.slices.root(), above.rel))
	if err != nil || len(below) > 0 {
		return refused(opRemove, node, err)
	}
	return refused(opRemove, node, l.slices.remove(ctx, above.parent))
}

// whatIsIn says "2 processes of container 0123456789ab" for each.
func whatIsIn(in map[string]int) string {
	var parts []string
	for group, n := range in {
		text := strconv.Itoa(n) + " processes"
		if n == 1 {
			text = "1 process"
		}
		if id := containerOf(group); id != "" {
			text += " of container " + id[:min(len(id), 12)]
		}
		parts = append(parts, text)
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}

// list returns the nodes that have a cgroup, sorted.
func (l *local) list(context.Context) ([]string, error) {
	above, err := placeOfOwner(l.driver, l.owner)
	if err != nil {
		return nil, err
	}
	if l.slices != nil {
		above.rel = filepath.Join(l.slices.root(), above.rel)
	}
	names, err := children(l.tree.dirs, above.rel)
	if err != nil {
		return nil, refused("list the cgroups of nodes", "", err)
	}
	var nodes []string
	for _, name := range names {
		if node, ok := nodeOf(l.driver, l.owner, name); ok {
			nodes = append(nodes, node)
		}
	}
	slices.Sort(nodes)
	return nodes, nil
}

const opRead = "read the cgroup of node"

func noCgroup(node string) error {
	return &runtime.Error{Kind: runtime.KindNotFound, Op: opRead, Object: node, Err: errors.New("there is none")}
}

func (l *local) pressure(_ context.Context, node string) (runtime.Pressure, error) {
	p, err := l.place(node)
	if err != nil {
		return runtime.Pressure{}, err
	}
	if !l.tree.exists(p.rel) {
		return runtime.Pressure{}, noCgroup(node)
	}
	out, err := l.tree.pressure(p.rel)
	if err != nil {
		return out, refused(opRead, node, err)
	}
	l.log.addTo(&out, p.rel)
	return out, nil
}

// pressures are those of every node that has a cgroup.
func (l *local) pressures(ctx context.Context) (map[string]runtime.Pressure, error) {
	nodes, err := l.list(ctx)
	if err != nil {
		return nil, err
	}
	all := map[string]runtime.Pressure{}
	for _, node := range nodes {
		p, err := l.pressure(ctx, node)
		if runtime.IsNotFound(err) {
			continue // half of it was removed
		}
		if err != nil {
			return nil, err
		}
		all[node] = p
	}
	return all, nil
}

// writable tries whether cgroups can be made here, and says why not. Nothing of
// it stays.
func (l *local) writable() error {
	above, err := placeOfOwner(DriverCgroupfs, l.owner)
	if err != nil {
		return err
	}
	made, err := l.tree.make(above.rel)
	for _, dir := range made {
		err = errors.Join(err, ignoreUsed(l.tree.kernel.rmdir(dir)))
	}
	return err
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// ignoreUsed forgives that somebody else began to use a cgroup meanwhile.
func ignoreUsed(err error) error {
	if errors.Is(err, syscall.EBUSY) || errors.Is(err, syscall.ENOTEMPTY) {
		return nil
	}
	return ignoreGone(err)
}
