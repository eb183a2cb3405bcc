package usage

import (
	"bytes"
	"math"
	"strconv"
	"strings"
)

// number reads a file of one number; false: it holds none.
func number(content []byte) (uint64, bool) {
	n, rest, ok := digits(bytes.TrimSpace(content))
	return n, ok && len(rest) == 0
}

// limit reads a file of one limit, which "max" says is none; 0: there is none, or
// it is more than the machine has.
func limit(content []byte, machine uint64) uint64 {
	n, ok := number(content)
	if !ok || machine > 0 && n > machine {
		return machine
	}
	return n
}

// digits reads the number that b begins with.
func digits(b []byte) (n uint64, rest []byte, ok bool) {
	i := 0
	for ; i < len(b) && b[i] >= '0' && b[i] <= '9'; i++ {
		d := uint64(b[i] - '0')
		if n > (math.MaxUint64-d)/10 {
			return 0, nil, false
		}
		n = n*10 + d
	}
	return n, b[i:], i > 0
}

// keyed is the number of a key in a file of lines "key number"; false: there is no
// such line.
func keyed(content []byte, key string) (uint64, bool) {
	for line := range bytes.Lines(content) {
		rest, ok := bytes.CutPrefix(line, []byte(key))
		if ok && len(rest) > 0 && rest[0] == ' ' {
			return number(rest[1:])
		}
	}
	return 0, false
}

// moved adds up what all block devices have read and written, in bytes. A line is
// "8:0 Read 4096" on version 1, and "8:0 rbytes=4096 wbytes=0 …" on version 2.
func moved(content []byte) (read, written uint64) {
	for line := range bytes.Lines(content) {
		device, rest, _ := bytes.Cut(bytes.TrimSpace(line), []byte(" "))
		if !bytes.Contains(device, []byte(":")) {
			continue // the total
		}
		for len(rest) > 0 {
			var word []byte
			word, rest, _ = bytes.Cut(rest, []byte(" "))
			switch key, value, pair := bytes.Cut(word, []byte("=")); {
			case pair && string(key) == "rbytes":
				read += value64(value)
			case pair && string(key) == "wbytes":
				written += value64(value)
			case string(word) == "Read":
				read += value64(rest)
			case string(word) == "Write":
				written += value64(rest)
			}
		}
	}
	return read, written
}

// value64 is the number that b is; 0: it is none.
func value64(b []byte) uint64 {
	n, _ := number(b)
	return n
}

// The columns of /proc/net/dev after an interface's name (net/core/net-procfs.c).
const (
	columnReceived = 0
	columnSent     = 8
)

// network adds up what all interfaces but the loopback have received and sent, in
// bytes.
func network(content []byte) (received, sent uint64) {
	for line := range bytes.Lines(content) {
		name, rest, ok := bytes.Cut(line, []byte(":"))
		if !ok || string(bytes.TrimSpace(name)) == "lo" {
			continue // a heading, or of no concern
		}
		for column := 0; column <= columnSent; column++ {
			var n uint64
			if n, rest, ok = digits(bytes.TrimLeft(rest, " \t")); !ok {
				break
			}
			switch column {
			case columnReceived:
				received += n
			case columnSent:
				sent += n
			}
		}
	}
	return received, sent
}

// tick is the unit of /proc/stat, USER_HZ, in nanoseconds: a hundredth of a second
// on every architecture that engines run on.
const tick = 10_000_000

// machineFields are how many times of the line "cpu" make up the machine's: user,
// nice, system, idle, iowait, irq and softirq, as the engine counts them.
const machineFields = 7

// machine reads /proc/stat: the CPU time of the machine in nanoseconds, idle time
// included, and how many CPUs are online.
func machine(content []byte) (nanos uint64, cpus int) {
	for line := range bytes.Lines(content) {
		rest, ok := bytes.CutPrefix(line, []byte("cpu"))
		if !ok {
			break // they come first
		}
		if !bytes.HasPrefix(rest, []byte(" ")) {
			cpus++
			continue
		}
		for range machineFields {
			var n uint64
			if n, rest, ok = digits(bytes.TrimLeft(rest, " ")); !ok {
				break
			}
			nanos += n * tick
		}
	}
	return nanos, cpus
}

// memoryTotal reads /proc/meminfo: the machine's memory in bytes; 0: it does not say.
func memoryTotal(content []byte) uint64 {
	for line := range bytes.Lines(content) {
		if rest, ok := bytes.CutPrefix(line, []byte("MemTotal:")); ok {
			n, _, _ := digits(bytes.TrimLeft(rest, " "))
			return n << 10
		}
	}
	return 0
}

// unified is the name of version 2 among the controllers' hierarchies.
const unified = ""

// hierarchy is a mounted hierarchy of cgroups.
type hierarchy struct {
	root  string // what of it is mounted
	mount string // where
}

// dir is where a cgroup of the hierarchy is; empty: it is not mounted.
func (h hierarchy) dir(cgroup string) string {
	below, ok := strings.CutPrefix(cgroup, strings.TrimSuffix(h.root, "/"))
	if !ok || h.mount == "" || below != "" && below[0] != '/' || strings.HasPrefix(below, "/..") {
		return ""
	}
	return h.mount + below
}

// hierarchies reads /proc/self/mountinfo: the hierarchies by controller, and that
// of version 2 by the name [unified]. Of one that is mounted several times the
// mount counts that shows most of it.
func hierarchies(content string) map[string]hierarchy {
	found := map[string]hierarchy{}
	for line := range strings.Lines(content) {
		before, after, ok := strings.Cut(line, " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		const root, mount = 3, 4
		if !ok || len(left) <= mount || len(right) < 3 {
			continue
		}
		h := hierarchy{root: unescape(left[root]), mount: unescape(left[mount])}
		switch right[0] {
		case "cgroup2":
			widen(found, unified, h)
		case "cgroup":
			for controller := range strings.SplitSeq(right[2], ",") {
				if controller != unified {
					widen(found, controller, h)
				}
			}
		}
	}
	return found
}

func widen(found map[string]hierarchy, name string, h hierarchy) {
	if old, known := found[name]; !known || len(h.root) < len(old.root) {
		found[name] = h
	}
}

// unescape undoes what the kernel does to blanks in a path (\040 and the like).
func unescape(path string) string {
	if !strings.Contains(path, `\`) {
		return path
	}
	var b strings.Builder
	for i := 0; i < len(path); i++ {
		if path[i] == '\\' && i+4 <= len(path) {
			if n, err := strconv.ParseUint(path[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(path[i])
	}
	return b.String()
}

// cgroupsOf reads /proc/<pid>/cgroup: the cgroups of a container by controller,
// that of version 2 by the name [unified]. A process that has moved into a cgroup
// below its container's is of that; one that is of no cgroup of the container is
// left out.
func cgroupsOf(content, container string) map[string]string {
	found := map[string]string{}
	for line := range strings.Lines(content) {
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(parts) != 3 {
			continue
		}
		at := strings.LastIndex(parts[2], container)
		if at < 0 {
			continue
		}
		group := parts[2]
		if below := strings.IndexByte(group[at:], '/'); below >= 0 {
			group = group[:at+below]
		}
		for controller := range strings.SplitSeq(parts[1], ",") {
			found[controller] = group
		}
	}
	return found
}
