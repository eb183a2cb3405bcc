package cgroup

import (
	"errors"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/berth-dev/berth/runtime"
)

// DefaultKernelLog is the kernel's log. A container that loses its main process
// loses its cgroup too, and on cgroup v1 the count of kills with it: then only
// the log tells which container was hit, and whose limit it was.
const DefaultKernelLog = "/dev/kmsg"

// A record of the log has at most 8 KiB; the ring holds a few thousand of them.
const (
	recordBytes = 8 << 10
	maxRecords  = 1 << 17 // read at once, at most
	maxVictims  = 4096    // containers remembered
)

// victim is a container that lost a process for want of memory, and the cgroup
// whose limit was reached, by their paths.
type victim struct{ limited, group string }

// parseOOM reads the line that the kernel writes for each kill, such as
// "oom-kill:constraint=CONSTRAINT_MEMCG,…,oom_memcg=/a,task_memcg=/a/b,task=…",
// out of a record "priority,sequence,time,flags;text" (dump_oom_victim in
// mm/oom_kill.c, Documentation/ABI/testing/dev-kmsg).
func parseOOM(record string) (victim, bool) {
	_, text, ok := strings.Cut(record, ";")
	if !ok || !strings.HasPrefix(text, "oom-kill:") {
		return victim{}, false
	}
	text, _, _ = strings.Cut(text, "\n")
	limited, found := between(text, ",oom_memcg=", ",task_memcg=")
	group, ok := between(text, ",task_memcg=", ",task=")
	if !ok || !found { // the whole machine was out of memory
		limited = ""
	}
	return victim{unescape(limited), unescape(group)}, ok
}

func between(s, begin, end string) (string, bool) {
	_, rest, ok := strings.Cut(s, begin)
	if !ok {
		return "", false
	}
	part, _, ok := strings.Cut(rest, end)
	return part, ok
}

// oomLog counts the kills that the kernel's log tells of.
type oomLog struct {
	next func([]byte) (int, error) // reads the next record; EAGAIN: there is none yet

	mu    sync.Mutex // protects what follows
	count map[victim]int64
	order []victim // as they came first
}

// openOOMLog opens the kernel's log at its oldest record.
func openOOMLog(file string) (*oomLog, error) {
	fd, err := syscall.Open(file, syscall.O_RDONLY|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return newOOMLog(func(b []byte) (int, error) { return syscall.Read(fd, b) }), nil
}

func newOOMLog(next func([]byte) (int, error)) *oomLog {
	return &oomLog{next: next, count: map[victim]int64{}}
}

// followLocked reads what the log holds by now. Records that were overwritten
// unread are lost (EPIPE); the next read goes on behind them.
func (l *oomLog) followLocked() {
	buf := make([]byte, recordBytes)
	for range maxRecords {
		n, err := l.next(buf)
		if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || n <= 0 {
			return
		}
		if v, ok := parseOOM(string(buf[:n])); ok && strings.Contains(v.group, "/"+top) {
			l.noteLocked(v)
		}
	}
}

func (l *oomLog) noteLocked(v victim) {
	if l.count[v]++; l.count[v] > 1 {
		return
	}
	if l.order = append(l.order, v); len(l.order) > maxVictims {
		delete(l.count, l.order[0])
		l.order = slices.Delete(l.order, 0, 1)
	}
}

// addTo adds to a node's pressure what the log tells of the containers in its
// cgroup rel. The log names cgroups from the machine's root, which need not be
// what this process sees as root.
func (l *oomLog) addTo(p *runtime.Pressure, rel string) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.followLocked()
	found := map[string]runtime.ContainerPressure{}
	for v, n := range l.count {
		_, below, ok := strings.Cut(v.group+"/", "/"+rel+"/")
		if !ok || below == "" {
			continue
		}
		group, _, _ := strings.Cut(below, "/")
		c := found[group]
		c.ID = containerOf(group)
		c.OOMKills += n
		if v.limited != "" && !strings.Contains(v.limited+"/", "/"+path.Join(rel, group)+"/") {
			c.NodeOOMs += n // the limit of something above the container
		}
		found[group] = c
	}
	for _, c := range found {
		addKills(p, c)
	}
	sortContainers(p.Containers)
	sumKills(p)
}

// addKills takes over a container's kills where more of them are known than p says.
func addKills(p *runtime.Pressure, c runtime.ContainerPressure) {
	i := slices.IndexFunc(p.Containers, func(have runtime.ContainerPressure) bool { return have.ID == c.ID })
	if i < 0 {
		p.Containers = append(p.Containers, runtime.ContainerPressure{ID: c.ID, Gone: true, OOMKills: c.OOMKills, NodeOOMs: c.NodeOOMs})
		return
	}
	have := &p.Containers[i]
	have.OOMKills, have.NodeOOMs = max(have.OOMKills, c.OOMKills), max(have.NodeOOMs, c.NodeOOMs)
}

// sumKills has the node's counts be no less than those of its containers.
func sumKills(p *runtime.Pressure) {
	var all, byNode int64
	for i := range p.Containers {
		all += p.Containers[i].OOMKills
		byNode += p.Containers[i].NodeOOMs
	}
	p.OOMKills, p.NodeOOMs = max(p.OOMKills, all), max(p.NodeOOMs, byNode)
}
