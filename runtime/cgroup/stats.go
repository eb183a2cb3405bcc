package cgroup

import (
	"cmp"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/berth-dev/berth/runtime"
)

// keyed reads a file of lines "key value" (cgroup-v2, "flat keyed").
func keyed(content string) map[string]int64 {
	m := map[string]int64{}
	for line := range strings.Lines(content) {
		key, val, ok := strings.Cut(strings.TrimSpace(line), " ")
		if n, err := strconv.ParseInt(val, 10, 64); ok && err == nil {
			m[key] = n
		}
	}
	return m
}

// keyedFile reads such a file of a cgroup; empty when it is not there.
func (t *tree) keyedFile(controller, rel, name string) map[string]int64 {
	content, _ := t.read(controller, rel, name)
	return keyed(content)
}

// count reads a file of one number; 0 when it is not there.
func (t *tree) count(controller, rel, name string) int64 {
	content, _ := t.read(controller, rel, name)
	n, err := strconv.ParseInt(strings.TrimSpace(content), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// limitOf reads a file of one limit; 0 for none.
func (t *tree) limitOf(controller, rel, name string) int64 {
	content, ok := t.read(controller, rel, name)
	if n := number(content); ok && n != math.MaxInt64 {
		return n
	}
	return 0
}

// names of the files that differ between the versions.
type fileNames struct {
	memory, cache, limit string
	cpu, throttled       string
	cpuUnit              int64 // nanoseconds of one unit in cpu.stat
}

func (t *tree) names() fileNames {
	if t.version == 2 {
		return fileNames{memory: "memory.current", cache: "inactive_file", limit: memoryV2, cpu: cpu, throttled: "throttled_usec", cpuUnit: 1000}
	}
	return fileNames{memory: "memory.usage_in_bytes", cache: "total_inactive_file", limit: memoryV1, cpu: cpu, throttled: "throttled_time", cpuUnit: 1}
}

// memoryInUse is the bytes in use without the file cache that the kernel gives up first.
func (t *tree) memoryInUse(rel string) int64 {
	n := t.names()
	used := t.count(memory, rel, n.memory)
	return max(0, used-t.keyedFile(memory, rel, "memory.stat")[n.cache])
}

// pressure reads a node's counters, but for what the kernel's log tells.
func (t *tree) pressure(rel string) (runtime.Pressure, error) {
	n := t.names()
	stat := t.keyedFile(cpu, rel, "cpu.stat")
	p := runtime.Pressure{
		Memory: t.memoryInUse(rel), MemoryLimit: t.limitOf(memory, rel, n.limit),
		Periods: stat["nr_periods"], ThrottledPeriods: stat["nr_throttled"], Throttled: time.Duration(stat[n.throttled] * n.cpuUnit),
		Pids: t.count(pids, rel, "pids.current"), PidsLimit: t.limitOf(pids, rel, pidsMax),
	}
	if t.version == 2 {
		events := t.keyedFile(memory, rel, "memory.events")
		p.MemoryHits, p.OOMKills = events["max"], events["oom_kill"]
		p.NodeOOMs = t.keyedFile(memory, rel, "memory.events.local")["oom"]
		p.CPUNanos, p.PidsRefused = stat["usage_usec"]*1000, t.keyedFile(pids, rel, "pids.events")["max"]
	} else {
		p.MemoryHits = t.count(memory, rel, "memory.failcnt")
		p.CPUNanos = t.count(cpuacct, rel, "cpuacct.usage")
		p.PidsRefused = t.sum(pids, rel, "pids.events", "max")
		p.OOMKills = t.keyedFile(memory, rel, "memory.oom_control")["oom_kill"]
	}
	groups, err := children(t.limiting(), rel)
	if err != nil {
		return p, err
	}
	for _, g := range groups {
		c := t.containerPressure(g, path.Join(rel, g))
		p.Containers = append(p.Containers, c)
		if t.version == 1 {
			p.OOMKills += c.OOMKills
		}
	}
	sortContainers(p.Containers)
	return p, nil
}

func (t *tree) containerPressure(group, rel string) runtime.ContainerPressure {
	c := runtime.ContainerPressure{ID: containerOf(group), Memory: t.memoryInUse(rel), Pids: t.count(pids, rel, "pids.current")}
	if t.version == 2 {
		c.OOMKills = t.keyedFile(memory, rel, "memory.events")["oom_kill"]
	} else {
		c.OOMKills = t.sum(memory, rel, "memory.oom_control", "oom_kill")
	}
	return c
}

// sum adds up a counter that version 1 keeps for each cgroup by itself.
func (t *tree) sum(controller, rel, name, key string) int64 {
	var n int64
	dir := t.file(controller, rel, "")
	if dir == "" {
		return 0
	}
	_ = walkGroups(dir, func(group string) error { // what cannot be read counts nothing
		below := strings.TrimPrefix(group, t.of[controller])
		n += t.keyedFile(controller, below, name)[key]
		return nil
	})
	return n
}

func sortContainers(list []runtime.ContainerPressure) {
	slices.SortFunc(list, func(a, b runtime.ContainerPressure) int { return cmp.Compare(a.ID, b.ID) })
}
