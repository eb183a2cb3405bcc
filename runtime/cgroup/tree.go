package cgroup

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/berth-dev/berth/runtime"
)

// DefaultBase is where cgroups are mounted.
const DefaultBase = "/sys/fs/cgroup"

// kernel is what changes cgroups: a cgroup is a folder, a limit a file in it.
type kernel struct {
	mkdir func(dir string) error
	rmdir func(dir string) error
	write func(file, value string) error
}

func realKernel() kernel {
	return kernel{
		mkdir: func(dir string) error { return os.Mkdir(dir, 0o755) }, //nolint:gosec // as every cgroup
		rmdir: syscall.Rmdir,
		write: writeOnce,
	}
}

// writeOnce writes value by one call, as a cgroup's file wants it, into a file
// that is there.
func writeOnce(file, value string) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// tree is the cgroup file systems of a machine: one hierarchy on version 2, one
// per controller or few of them on version 1.
type tree struct {
	version int
	dirs    []string          // mount points of all hierarchies, sorted
	of      map[string]string // controller → mount point
	kernel  kernel
}

// findTree finds the hierarchies at or below base. mounts is a table as in
// /proc/self/mountinfo.
func findTree(base string, mounts io.Reader) (*tree, error) {
	t := &tree{version: 1, of: map[string]string{}, kernel: realKernel()}
	if words, err := os.ReadFile(filepath.Join(base, "cgroup.controllers")); err == nil {
		t.version, t.dirs = 2, []string{base}
		for _, c := range strings.Fields(string(words)) {
			t.of[c] = base
		}
		return t, nil
	}
	table, err := io.ReadAll(mounts)
	if err != nil {
		return nil, fmt.Errorf("read the table of mounts: %w", err)
	}
	for line := range strings.Lines(string(table)) {
		if err := t.addMount(base, line); err != nil {
			return nil, err
		}
	}
	if len(t.of) == 0 {
		return nil, fmt.Errorf("no cgroup controller is mounted below %s", base)
	}
	slices.Sort(t.dirs)
	return t, nil
}

// addMount takes in one line of the table of mounts: "… root mountpoint options
// [fields] - type source superoptions" (proc_pid_mountinfo(5)).
func (t *tree) addMount(base, line string) error {
	fields := strings.Fields(line)
	dash := slices.Index(fields, "-")
	if dash < 6 || len(fields) < dash+4 {
		return nil
	}
	root, point, kind := fields[3], fields[4], fields[dash+1]
	if kind != "cgroup" && kind != "cgroup2" || !strings.HasPrefix(point, base+"/") {
		return nil
	}
	if root != "/" {
		return fmt.Errorf("only the part %s of the cgroups is to be seen at %s", root, point)
	}
	t.dirs = append(t.dirs, point)
	if kind == "cgroup" {
		for c := range strings.SplitSeq(fields[dash+3], ",") {
			if !strings.Contains(c, "=") && c != "rw" && c != "ro" {
				t.of[c] = point
			}
		}
	}
	return nil
}

// limiting returns the mount points of the controllers that Berth uses, sorted.
func (t *tree) limiting() []string {
	var dirs []string
	for _, c := range []string{cpu, cpuacct, memory, pids} {
		if dir, ok := t.of[c]; ok && !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	slices.Sort(dirs)
	return dirs
}

// file is the path of a controller's file in the cgroup rel; empty when there is
// no such controller.
func (t *tree) file(controller, rel, name string) string {
	dir, ok := t.of[controller]
	if !ok {
		return ""
	}
	return filepath.Join(dir, rel, name)
}

// read returns what a controller's file holds; false when there is none.
func (t *tree) read(controller, rel, name string) (string, bool) {
	file := t.file(controller, rel, name)
	if file == "" {
		return "", false
	}
	b, err := os.ReadFile(file)
	return string(b), err == nil
}

// exists reports whether the cgroup rel is there in every hierarchy that limits;
// the one that only counts CPU time may lack it.
func (t *tree) exists(rel string) bool {
	for _, c := range []string{cpu, memory, pids} {
		dir, ok := t.of[c]
		if !ok {
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, rel)); err != nil {
			return false
		}
	}
	return true
}

// make makes the cgroup rel and those above it, and lets their controllers work
// below them. It returns what it made, the deepest first.
func (t *tree) make(rel string) (made []string, err error) {
	for _, dir := range t.limiting() {
		if err := t.delegate(dir); err != nil {
			return made, err
		}
		at := dir
		for part := range strings.SplitSeq(rel, "/") {
			at = filepath.Join(at, part)
			err := t.kernel.mkdir(at)
			switch {
			case err == nil:
				made = slices.Insert(made, 0, at)
			case !errors.Is(err, fs.ErrExist):
				return made, err
			}
			if err := errors.Join(t.initCpuset(at), t.delegate(at)); err != nil {
				return made, err
			}
		}
	}
	return made, nil
}

// delegate hands the controllers that a cgroup of version 2 has on to those below it.
func (t *tree) delegate(dir string) error {
	if t.version != 2 {
		return nil
	}
	have, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "cgroup.subtree_control")
	on, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var add []string
	for _, c := range []string{cpu, memory, pids} {
		if slices.Contains(strings.Fields(string(have)), c) && !slices.Contains(strings.Fields(string(on)), c) {
			add = append(add, "+"+c)
		}
	}
	if len(add) == 0 {
		return nil
	}
	return t.kernel.write(file, strings.Join(add, " "))
}

// initCpuset fills in the CPUs and memory nodes of a new cgroup where the
// controller is mounted together with one that limits: without them no process
// can enter it.
func (t *tree) initCpuset(dir string) error {
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		own, err := os.ReadFile(filepath.Join(dir, name))
		if t.version != 1 || err != nil || strings.TrimSpace(string(own)) != "" {
			continue
		}
		above, err := os.ReadFile(filepath.Join(filepath.Dir(dir), name))
		if err != nil {
			return err
		}
		if err := t.kernel.write(filepath.Join(dir, name), strings.TrimSpace(string(above))); err != nil {
			return err
		}
	}
	return nil
}

// children returns the names of the cgroups right below rel in any of the
// hierarchies, sorted. A cgroup that is not there has none.
func children(hierarchies []string, rel string) ([]string, error) {
	var names []string
	for _, dir := range hierarchies {
		entries, err := os.ReadDir(filepath.Join(dir, rel))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, e := range entries {
			if e.IsDir() {
				names = append(names, e.Name())
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// occupied returns the processes in the cgroup rel and below it, by the part of
// the path that names the container; "" are those in rel itself.
func (t *tree) occupied(rel string) (map[string]int, error) {
	in := map[string]int{}
	for _, dir := range t.dirs {
		counts := map[string]int{}
		at := filepath.Join(dir, rel)
		err := walkGroups(at, func(group string) error {
			b, err := os.ReadFile(filepath.Join(group, "cgroup.procs"))
			if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.EOPNOTSUPP) {
				return err
			}
			below, err := filepath.Rel(at, group)
			if err != nil {
				return err
			}
			first, _, _ := strings.Cut(strings.TrimPrefix(below, "."), "/")
			if n := len(strings.Fields(string(b))); n > 0 {
				counts[first] += n
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		for name, n := range counts {
			in[name] = max(in[name], n) // one process is in every hierarchy
		}
	}
	return in, nil
}

// remove removes the cgroup rel and what is below it from every hierarchy. One
// that is not there is removed already.
func (t *tree) remove(rel string) error {
	for _, dir := range t.dirs {
		var groups []string
		err := walkGroups(filepath.Join(dir, rel), func(group string) error {
			groups = append(groups, group)
			return nil
		})
		if err != nil {
			return err
		}
		for _, g := range slices.Backward(groups) {
			if err := t.kernel.rmdir(g); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("remove %s: %w", g, err)
			}
		}
	}
	return nil
}

// tidy removes the cgroups above rel that hold nothing any more.
func (t *tree) tidy(rel string) {
	for above := path.Dir(rel); above != "."; above = path.Dir(above) {
		for _, dir := range t.dirs {
			_ = t.kernel.rmdir(filepath.Join(dir, above)) // one that is in use stays
		}
	}
}

// walkGroups calls fn for a cgroup and all below it, each before those below it.
// What goes away meanwhile is passed over.
func walkGroups(dir string, fn func(group string) error) error {
	return filepath.WalkDir(dir, func(at string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENODEV):
			return nil
		case err != nil:
			return err
		case !e.IsDir():
			return nil
		}
		return fn(at)
	})
}

// refused turns an error of the kernel about a cgroup into one of the four kinds.
func refused(op, node string, err error) error {
	if err == nil {
		return nil
	}
	var ours *runtime.Error
	if errors.As(err, &ours) {
		return err
	}
	kind := runtime.KindUnavailable
	switch {
	case errors.Is(err, syscall.EBUSY), errors.Is(err, syscall.ENOTEMPTY):
		kind = runtime.KindConflict
	case errors.Is(err, syscall.EINVAL), errors.Is(err, syscall.ERANGE):
		kind = runtime.KindInvalid
	}
	return &runtime.Error{Kind: kind, Op: op, Object: node, Err: err}
}
