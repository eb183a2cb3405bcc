package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// model is a cgroup file system below a temporary folder that keeps the kernel's
// rules as far as they matter here.
type model struct {
	base    string
	version int
	writes  []string // "file=value", below base, since the last look
}

var v1Files = map[string]map[string]string{
	"cpu":        {quotaV1: "-1", periodV1: "100000", "cpu.stat": "nr_periods 0\nnr_throttled 0\nthrottled_time 0\n"},
	"cpuacct":    {"cpuacct.usage": "0"},
	"cpuset":     {"cpuset.cpus": "", "cpuset.mems": ""},
	"memory":     {memoryV1: "9223372036854771712", memswV1: "9223372036854771712", "memory.use_hierarchy": "1", "memory.usage_in_bytes": "0", "memory.stat": "", "memory.failcnt": "0", "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n"},
	"pids":       {pidsMax: "max", "pids.current": "0", "pids.events": "max 0\n"},
	"devices":    {},
	"hugetlb":    {},
	"perf_event": {},
}

var v2Files = map[string]map[string]string{
	"cpu":    {cpuV2: "max 100000"},
	"memory": {memoryV2: "max", swapV2: "max", "memory.current": "0", "memory.events": "max 0\noom_kill 0\n", "memory.events.local": "oom 0\n", "memory.stat": ""},
	"pids":   {pidsMax: "max", "pids.current": "0", "pids.events": "max 0\n"},
}

// newV1 makes a version 1 with cpu, cpuacct and cpuset in one hierarchy, as many
// distributions have cpu and cpuacct.
func newV1(t *testing.T) (*model, *tree) {
	t.Helper()
	m := &model{base: t.TempDir(), version: 1}
	var mounts strings.Builder
	for _, h := range []string{"cpu,cpuacct,cpuset", "memory", "pids", "devices"} {
		dir := filepath.Join(m.base, h)
		m.must(t, os.Mkdir(dir, 0o755))
		m.must(t, m.fill(dir))
		fmt.Fprintf(&mounts, "32 31 0:29 / %s rw,relatime shared:9 - cgroup cgroup rw,%s\n", dir, h)
	}
	m.must(t, os.WriteFile(filepath.Join(m.base, "cpu,cpuacct,cpuset/cpuset.cpus"), []byte("0-1\n"), 0o600))
	m.must(t, os.WriteFile(filepath.Join(m.base, "cpu,cpuacct,cpuset/cpuset.mems"), []byte("0\n"), 0o600))
	unified := filepath.Join(m.base, "unified")
	m.must(t, os.Mkdir(unified, 0o755))
	fmt.Fprintf(&mounts, "33 31 0:30 / %s rw - cgroup2 cgroup2 rw\n34 23 0:5 / /proc rw - proc proc rw\n", unified)
	return m, m.tree(t, mounts.String())
}

func newV2(t *testing.T) (*model, *tree) {
	t.Helper()
	m := &model{base: t.TempDir(), version: 2}
	m.must(t, os.WriteFile(filepath.Join(m.base, "cgroup.controllers"), []byte("cpuset cpu io memory pids\n"), 0o600))
	m.must(t, os.WriteFile(filepath.Join(m.base, "cgroup.subtree_control"), []byte("memory\n"), 0o600))
	return m, m.tree(t, "")
}

func (m *model) must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (m *model) tree(t *testing.T, mounts string) *tree {
	t.Helper()
	tr, err := findTree(m.base, strings.NewReader(mounts))
	m.must(t, err)
	tr.kernel = kernel{mkdir: m.mkdir, rmdir: m.rmdir, write: m.write}
	return tr
}

func (m *model) mkdir(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	return m.fill(dir)
}

// fill makes the files of a cgroup.
func (m *model) fill(dir string) error {
	files := map[string]string{"cgroup.procs": ""}
	if m.version == 2 {
		on, err := os.ReadFile(filepath.Join(filepath.Dir(dir), "cgroup.subtree_control"))
		if err != nil {
			return err
		}
		files["cgroup.controllers"], files["cgroup.subtree_control"], files["cpu.stat"] = string(on), "", "usage_usec 0\n"
		for _, c := range strings.Fields(string(on)) {
			for name, content := range v2Files[c] {
				files[name] = content
			}
		}
	} else {
		files["tasks"] = ""
		for c := range strings.SplitSeq(strings.Split(strings.TrimPrefix(dir, m.base+"/"), "/")[0], ",") {
			for name, content := range v1Files[c] {
				files[name] = content
			}
		}
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (m *model) rmdir(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			return syscall.EBUSY
		}
	}
	if procs, err := os.ReadFile(filepath.Join(dir, "cgroup.procs")); err != nil || len(procs) > 0 {
		return errors.Join(err, syscall.EBUSY)
	}
	return os.RemoveAll(dir)
}

func (m *model) write(file, value string) error {
	if _, err := os.Stat(file); err != nil {
		return err
	}
	m.writes = append(m.writes, strings.TrimPrefix(file, m.base+"/")+"="+value)
	dir, name := filepath.Split(file)
	stored := value
	switch name {
	case "cgroup.subtree_control":
		on, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		words := strings.Fields(string(on))
		for _, w := range strings.Fields(value) {
			words = append(words, strings.TrimPrefix(w, "+"))
		}
		slices.Sort(words)
		stored = strings.Join(slices.Compact(words), " ")
	case memoryV1, memswV1:
		n := m.number(value)
		if n != math.MaxInt64 {
			n -= n % int64(os.Getpagesize())
		}
		limit, both := m.read(dir+memoryV1), m.read(dir+memswV1)
		if name == memoryV1 {
			limit = n
		} else {
			both = n
		}
		if limit > both {
			return syscall.EINVAL
		}
		stored = strconv.FormatInt(min(n, 9223372036854771712), 10)
	case quotaV1, periodV1:
		quota, period := m.read(dir+quotaV1), m.read(dir+periodV1)
		if name == quotaV1 {
			quota = m.number(value)
		} else {
			period = m.number(value)
		}
		if err := m.bandwidthFits(dir, quota, period); err != nil {
			return err
		}
	}
	return os.WriteFile(file, []byte(stored+"\n"), 0o600)
}

// bandwidthFits keeps the rules of tg_set_cfs_bandwidth and tg_cfs_schedulable_down
// in kernel/sched/core.c: 1 ms at least, a period of 1 s at most, and no more for a
// child than for its parent.
func (m *model) bandwidthFits(dir string, quota, period int64) error {
	if quota < 1000 || period < 1000 || period > 1_000_000 {
		return syscall.EINVAL
	}
	children, err := filepath.Glob(filepath.Join(dir, "*", quotaV1))
	if err != nil || quota == math.MaxInt64 {
		return err
	}
	for _, c := range children {
		childQuota, childPeriod := m.read(c), m.read(filepath.Join(filepath.Dir(c), periodV1))
		if childQuota != math.MaxInt64 && childQuota*period > quota*childPeriod {
			return syscall.EINVAL
		}
	}
	return nil
}

func (m *model) read(file string) int64 {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	return m.number(string(b))
}

// number is the model's own reading of a number: negative means none.
func (m *model) number(text string) int64 {
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil || n < 0 || n >= 9223372036854771712 {
		return math.MaxInt64
	}
	return n
}

// written returns what was written since the last call.
func (m *model) written() string {
	out := strings.Join(m.writes, "\n")
	m.writes = nil
	return out
}

// set writes a file as something else than Berth does.
func (m *model) set(t *testing.T, file, content string) {
	t.Helper()
	path := filepath.Join(m.base, file)
	m.must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	m.must(t, os.WriteFile(path, []byte(content), 0o600))
}

func (m *model) holds(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(m.base, file))
	m.must(t, err)
	return strings.TrimSpace(string(b))
}

// groups are all cgroups but the roots of hierarchies.
func (m *model) groups(t *testing.T) []string {
	t.Helper()
	var out []string
	m.must(t, filepath.WalkDir(m.base, func(path string, e fs.DirEntry, err error) error {
		rel := strings.TrimPrefix(path, m.base+"/")
		if err == nil && e.IsDir() && path != m.base && (m.version == 2 || strings.Contains(rel, "/")) {
			out = append(out, rel)
		}
		return err
	}))
	return out
}
