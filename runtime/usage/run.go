package usage

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/berth-dev/berth/runtime"
)

// run is where the counters of one run of a container are.
type run struct {
	pid     int
	started time.Time
	used    time.Time // when it was last sampled

	cpu    counter
	memory counter
	cache  counter // of which memory is what the kernel gives up first
	limit  file
	block  file
	pids   file
	net    string // empty: its network is the machine's
}

// file is a file of the kernel's that is read again and again. One that the kernel
// does not have has no path, and reads as empty.
type file struct {
	path string
	keep bool     // it is left open
	open *os.File // nil: to be opened
}

// counter is a number in a file: the whole of it, or that of a key.
type counter struct {
	file
	key  string
	unit uint64 // what one of it is
}

func (o *run) files() []*file {
	return []*file{&o.cpu.file, &o.memory.file, &o.cache.file, &o.limit, &o.block, &o.pids}
}

// close closes what is open, and returns how many files might have been.
func (o *run) close() (kept int) {
	for _, f := range o.files() {
		if f.keep {
			kept++
		}
		f.close()
	}
	return kept
}

func (f *file) close() {
	if f.open != nil {
		_ = f.open.Close() // it was only read
		f.open = nil
	}
}

// errNotHere says that a container's counters are not to be seen by this process.
var errNotHere = errors.New("its cgroups are not to be seen here")

// find finds the counters of a container's present run.
func (l *look) find(c *runtime.Container) (*run, error) {
	proc := l.r.path(fmt.Sprintf("proc/%d", c.PID))
	content, err := os.ReadFile(filepath.Join(proc, "cgroup"))
	if err != nil {
		return nil, err
	}
	g := groups{l: l, of: cgroupsOf(string(content), c.ID)}
	cpu, secondCPU := g.at("cpuacct")
	memory, secondMemory := g.at("memory")
	if cpu == "" || memory == "" {
		return nil, errNotHere
	}
	one := &run{pid: c.PID, started: c.Started}
	if c.NetworkMode != "host" {
		one.net = filepath.Join(proc, "net", "dev")
	}
	one.cpu = counter{file: in(cpu, "cpuacct.usage"), unit: 1}
	if secondCPU {
		one.cpu = counter{file: in(cpu, "cpu.stat"), key: "usage_usec", unit: 1000}
	}
	one.memory = counter{file: in(memory, "memory.usage_in_bytes"), unit: 1}
	one.cache = counter{file: in(memory, "memory.stat"), key: "total_inactive_file", unit: 1}
	one.limit = in(memory, "memory.limit_in_bytes")
	if secondMemory {
		one.memory.file, one.cache.key, one.limit = in(memory, "memory.current"), "inactive_file", in(memory, "memory.max")
	}
	dir, second := g.at("blkio")
	one.block = first(dir, blockFiles(second)...)
	dir, _ = g.at("pids")
	one.pids = first(dir, "pids.current")
	return one, nil
}

// groups are the cgroups of one container.
type groups struct {
	l  *look
	of map[string]string // by controller
}

// at is the folder of a controller, and whether it is of version 2; empty: there is
// none to be seen. A machine with both versions has each controller in one of them.
func (g groups) at(controller string) (dir string, second bool) {
	h, known := g.l.r.mounted[controller]
	if !known || g.of[controller] == "" {
		controller, second = unified, true
		h = g.l.r.mounted[unified]
	}
	if g.of[controller] == "" {
		return "", second
	}
	if dir = h.dir(g.of[controller]); dir != "" {
		dir = g.l.r.path(dir)
	}
	return dir, second
}

// blockFiles are the files that tell what block devices moved, the best first.
// Those of the throttling layer count everything; those of a scheduler only what
// went through it.
func blockFiles(second bool) []string {
	if second {
		return []string{"io.stat"}
	}
	return []string{"blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_service_bytes", "blkio.io_service_bytes_recursive"}
}

func in(dir, name string) file { return file{path: filepath.Join(dir, name)} }

// first is the first of some files that is there; without a path: none is.
func first(dir string, names ...string) file {
	if dir == "" {
		return file{}
	}
	for _, name := range names {
		f := in(dir, name)
		if _, err := os.Stat(f.path); err == nil {
			return f
		}
	}
	return file{}
}

// read samples a run.
func (l *look) read(one *run) (s runtime.Stats, err error) {
	one.used = time.Now()
	s.Time = one.used
	if one.net != "" { // before the cgroups: while they are there the process is the container's
		content, err := l.content(&file{path: one.net})
		if err != nil {
			return s, err
		}
		s.NetRx, s.NetTx = network(content)
	}
	if s.CPUNanos, err = l.count(&one.cpu); err != nil {
		return s, err
	}
	if s.Memory, s.MemoryLimit, err = l.memory(one); err != nil {
		return s, err
	}
	content, err := l.content(&one.block)
	if err != nil {
		return s, err
	}
	s.BlkRead, s.BlkWrite = moved(content)
	if content, err = l.content(&one.pids); err != nil {
		return s, err
	}
	s.Pids = value64(content)
	s.SystemNanos, s.OnlineCPUs, err = l.machine()
	return s, err
}

// memory is the memory that a run uses and may use, in bytes.
func (l *look) memory(one *run) (used, most uint64, err error) {
	if used, err = l.count(&one.memory); err != nil {
		return 0, 0, err
	}
	cache, err := l.count(&one.cache)
	if err != nil {
		return 0, 0, err
	}
	content, err := l.content(&one.limit)
	return used - min(cache, used), limit(content, l.r.memory), err
}

// machine is the CPU time of the machine, read once in a look.
func (l *look) machine() (nanos uint64, cpus int, err error) {
	if l.cpus == 0 {
		content, err := l.content(&file{path: l.r.path("proc/stat")})
		if err != nil {
			return 0, 0, err
		}
		l.nanos, l.cpus = machine(content)
	}
	return l.nanos, l.cpus, nil
}

func (l *look) count(c *counter) (uint64, error) {
	content, err := l.content(&c.file)
	if err != nil {
		return 0, err
	}
	n, ok := number(content)
	if c.key != "" {
		n, ok = keyed(content, c.key)
	}
	if !ok {
		return 0, fmt.Errorf("read %s: it does not give %s", c.path, c.key)
	}
	return n * c.unit, nil
}

// content is what a file holds now, valid until the next one is read.
func (l *look) content(f *file) ([]byte, error) {
	if f.path == "" {
		return nil, nil
	}
	if f.open == nil {
		var err error
		if f.open, err = os.Open(f.path); err != nil {
			return nil, err
		}
	}
	if !f.keep {
		defer f.close()
	}
	if l.buf == nil {
		l.buf = make([]byte, 16<<10)
	}
	n := 0
	for {
		if n == len(l.buf) {
			l.buf = append(l.buf, make([]byte, len(l.buf))...)
		}
		m, err := f.open.ReadAt(l.buf[n:], int64(n))
		n += m
		if errors.Is(err, io.EOF) {
			return l.buf[:n], nil
		}
		if err != nil {
			return nil, err
		}
	}
}
