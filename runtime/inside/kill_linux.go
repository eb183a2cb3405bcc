package inside

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Kill ends a process of a container with all that came of it: its children, what
// is of its session, and whatever has entry ("NAME=value") in its environment and
// what came of that. pid may be 0, then the environment alone tells. Only
// processes whose cgroup is the container's are touched. It returns once none is
// left, or says what is.
func Kill(ctx context.Context, container string, pid int, entry string) error {
	return kill(ctx, pid, entry, func(p int) bool { return belongs(p, container) })
}

// kill looks for processes and ends them until there are none: one may fork while
// it is looked for.
func kill(ctx context.Context, pid int, entry string, ours func(int) bool) error {
	if pid != 0 && !ours(pid) {
		pid = 0
	}
	var last error
	for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		found, err := family(pid, entry, ours)
		if err != nil {
			return err
		}
		if len(found) == 0 {
			return nil
		}
		for _, p := range found {
			if err := end(p, ours); err != nil {
				last = err
			}
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return errors.Join(fmt.Errorf("%d processes are left", len(found)), last)
		case <-t.C:
		}
	}
}

// end kills one process by a handle that no other can take the place of.
func end(pid int, ours func(int) bool) error {
	p, err := os.FindProcess(pid)
	if err != nil {
		return nil // it is gone
	}
	defer func() { _ = p.Release() }() // it served
	if !ours(pid) {
		return nil
	}
	if err := p.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// proc is what is known of a process.
type proc struct {
	pid, parent, session int
	marked               bool
}

// family returns the live processes that came of pid, are of its session, or are
// marked, and what came of them.
func family(pid int, entry string, ours func(int) bool) ([]int, error) {
	all, err := processes(entry, ours)
	if err != nil {
		return nil, err
	}
	in := map[int]bool{}
	for _, p := range all {
		in[p.pid] = p.marked || pid != 0 && (p.pid == pid || p.session == pid)
	}
	for grown := true; grown; {
		grown = false
		for _, p := range all {
			if !in[p.pid] && in[p.parent] {
				in[p.pid], grown = true, true
			}
		}
	}
	var out []int
	for _, p := range all {
		if in[p.pid] {
			out = append(out, p.pid)
		}
	}
	return out, nil
}

// processes are the live processes of a container, without those that only wait
// to be reaped.
func processes(entry string, ours func(int) bool) ([]proc, error) {
	names, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var out []proc
	for _, n := range names {
		pid, err := strconv.Atoi(n.Name())
		if err != nil || pid == os.Getpid() || !ours(pid) {
			continue
		}
		b, err := os.ReadFile("/proc/" + n.Name() + "/stat")
		if err != nil {
			continue // it is gone
		}
		p, ok := parseStat(string(b))
		if !ok {
			continue
		}
		p.pid, p.marked = pid, marked(n.Name(), entry)
		out = append(out, p)
	}
	return out, nil
}

// parseStat reads the parent and the session out of /proc/<pid>/stat (proc(5));
// ok is false for a zombie. The name in brackets may hold anything.
func parseStat(s string) (p proc, ok bool) {
	fields := strings.Fields(s[strings.LastIndexByte(s, ')')+1:])
	if len(fields) < 4 || fields[0] == "Z" || fields[0] == "X" {
		return proc{}, false
	}
	parent, err := strconv.Atoi(fields[1])
	if err != nil {
		return proc{}, false
	}
	session, err := strconv.Atoi(fields[3])
	return proc{parent: parent, session: session}, err == nil
}

// marked reports whether a process has an entry in its environment.
func marked(pid, entry string) bool {
	b, err := os.ReadFile("/proc/" + pid + "/environ")
	return err == nil && bytes.Contains(append([]byte{0}, b...), []byte("\x00"+entry+"\x00"))
}

// killMarked ends what has an entry, among all processes that are to be seen.
func killMarked(ctx context.Context, entry string) error {
	const most = 15 * time.Second
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	return kill(ctx, 0, entry, func(int) bool { return true })
}
