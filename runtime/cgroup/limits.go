package cgroup

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/berth-dev/berth/runtime"
)

// The controllers that carry a node's limits, and the one that counts its CPU
// time on cgroup v1.
const (
	cpu     = "cpu"
	cpuacct = "cpuacct"
	memory  = "memory"
	pids    = "pids"
)

const (
	quotaV1  = "cpu.cfs_quota_us"
	periodV1 = "cpu.cfs_period_us"
	memoryV1 = "memory.limit_in_bytes"
	memswV1  = "memory.memsw.limit_in_bytes"
	cpuV2    = "cpu.max"
	memoryV2 = "memory.max"
	swapV2   = "memory.swap.max"
	pidsMax  = "pids.max"
)

// unlimited is how a limit that is not there is written here; the kernel's own
// words for it are "max", -1 and numbers near the largest.
const unlimited = "max"

// setting is one file of a node's cgroup and what is to stand in it.
type setting struct {
	controller string
	file       string
	value      string
	limit      string // what it carries, in the user's words
	optional   bool   // a kernel may lack the file without the limit being void
}

// bandwidth returns how much CPU time, in microseconds, a number of millicores is
// in which period. The kernel takes no quota below 1 ms, nor a period above 1 s,
// so a very small share has the longest period: every share from 1 on is exact.
func bandwidth(millicores int64) (quota, period int64) {
	if period = 100_000; millicores < 10 {
		period = 1_000_000
	}
	return millicores * period / 1000, period
}

// settings returns what a node's limits are in the files of a cgroup version, in
// the order in which they are written. Memory is rounded down to whole pages, as
// the kernel does. A node has no swap beside its memory; on version 1, where the
// limit is one of memory plus swap, one page is left, since the kernel counts how
// often a limit is reached for that of memory only.
func settings(version int, l runtime.NodeLimits) []setting {
	quota, period := unlimited, int64(100_000)
	if l.CPUs > 0 {
		var q int64
		q, period = bandwidth(l.CPUs)
		quota = strconv.FormatInt(q, 10)
	}
	mem, swap, both := unlimited, unlimited, unlimited
	if page := int64(os.Getpagesize()); l.Memory > 0 {
		whole := l.Memory / page * page
		mem, swap, both = strconv.FormatInt(whole, 10), "0", strconv.FormatInt(whole+page, 10)
	}
	proc := unlimited
	if l.Pids > 0 {
		proc = strconv.FormatInt(l.Pids, 10)
	}
	if version == 2 {
		return []setting{
			{controller: cpu, file: cpuV2, value: fmt.Sprintf("%s %d", quota, period), limit: "cpus"},
			{controller: memory, file: memoryV2, value: mem, limit: "memory"},
			{controller: memory, file: swapV2, value: swap, limit: "memory", optional: true},
			{controller: pids, file: pidsMax, value: proc, limit: "pids"},
		}
	}
	return []setting{
		{controller: cpu, file: periodV1, value: strconv.FormatInt(period, 10), limit: "cpus"},
		{controller: cpu, file: quotaV1, value: quota, limit: "cpus"},
		{controller: memory, file: "memory.use_hierarchy", value: "1", limit: "memory", optional: true},
		{controller: memory, file: memoryV1, value: mem, limit: "memory"},
		{controller: memory, file: memswV1, value: both, limit: "memory", optional: true},
		{controller: pids, file: pidsMax, value: proc, limit: "pids"},
	}
}

// asked reports whether l limits what a setting carries.
func asked(l runtime.NodeLimits, limit string) bool {
	switch limit {
	case "cpus":
		return l.CPUs > 0
	case "memory":
		return l.Memory > 0
	default:
		return l.Pids > 0
	}
}

// change is one file that must be written.
type change struct {
	setting
	was string
}

// changes returns what must be written, in an order that the kernel takes, where
// current is what the files hold now; a file that is not in it does not exist.
// drift says in words what differs. missing are the limits that l asks for and no
// file can carry, sorted.
func changes(version int, current map[string]string, l runtime.NodeLimits) (todo []change, drift, missing []string) {
	for _, s := range settings(version, l) {
		was, ok := current[s.file]
		switch {
		case !ok && !s.optional && asked(l, s.limit) && !slices.Contains(missing, s.limit):
			missing = append(missing, s.limit)
		case ok && normal(was) != s.value:
			c := change{s, normal(was)}
			todo, drift = append(todo, c), append(drift, c.String())
		}
	}
	slices.Sort(missing)
	return inOrder(todo, current), drift, missing
}

// inOrder puts changes of cgroup v1 into an order that the kernel takes. Memory
// plus swap is never below memory: it goes first when both rise. A period is
// checked against the quota beside it and those below, so the quota is lifted
// while the period changes.
func inOrder(todo []change, current map[string]string) []change {
	mem, memsw := indexOf(todo, memoryV1), indexOf(todo, memswV1)
	if mem >= 0 && memsw >= 0 && number(todo[mem].value) > number(todo[memsw].was) {
		todo[mem], todo[memsw] = todo[memsw], todo[mem]
	}
	i := indexOf(todo, periodV1)
	if was := normal(current[quotaV1]); i >= 0 && was != unlimited {
		lift := change{setting{controller: cpu, file: quotaV1, value: unlimited, limit: "cpus"}, was}
		todo = slices.Insert(todo, i, lift)
		if indexOf(todo[i+1:], quotaV1) < 0 { // the quota itself does not change
			lift.value, lift.was = was, unlimited
			todo = slices.Insert(todo, i+2, lift)
		}
	}
	return todo
}

func indexOf(todo []change, file string) int {
	return slices.IndexFunc(todo, func(c change) bool { return c.file == file })
}

// normal writes what a file holds as [settings] would: one space between words,
// and each form of "no limit" as max.
func normal(content string) string {
	words := strings.Fields(content)
	for i, w := range words {
		if number(w) == math.MaxInt64 {
			words[i] = unlimited
		}
	}
	return strings.Join(words, " ")
}

// number reads a limit; one that is none, and what cannot be read, is the
// largest number. The kernel rounds "no limit" to a page below 2^63.
func number(word string) int64 {
	n, err := strconv.ParseInt(strings.TrimSpace(word), 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64-(1<<20) {
		return math.MaxInt64
	}
	return n
}

// spelled is a value as the file wants it.
func (s setting) spelled() string {
	if s.value == unlimited && (s.file == quotaV1 || s.file == memoryV1 || s.file == memswV1) {
		return "-1"
	}
	return s.value
}

func (c change) String() string {
	was, is := c.was, c.value
	if was == unlimited {
		was = "unlimited"
	}
	if is == unlimited {
		is = "unlimited"
	}
	return fmt.Sprintf("%s was %s and is %s again", c.file, was, is)
}
