package fake

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/berth-dev/berth/runtime"
)

// Program is what a process does. It returns its exit code, and soon after
// [Process.Killed] is closed, whatever it does.
type Program func(p *Process) int

// Process is a process in a container: its main one, or one of exec.
type Process struct {
	Args   []string
	Env    []string // KEY=value
	Dir    string
	User   string
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer

	engine  *Engine
	c       *container
	pid     int
	signals chan string
	killed  chan struct{}
	done    chan struct{}

	once   sync.Once // closes killed
	forced int       // exit code when killed; set before killed is closed

	// Protected by the engine's mutex.
	memory   int64     // bytes
	burning  time.Time // since when it uses one core; zero: it does not
	children uint64    // processes it has started
	tty      bool
	size     runtime.TTYSize
	resized  chan struct{} // capacity 1
}

func (e *Engine) newProcess(c *container) *Process {
	e.serial++
	return &Process{
		engine: e, c: c, pid: 1000 + e.serial, forced: -1, Stdin: strings.NewReader(""), Stdout: io.Discard, Stderr: io.Discard,
		signals: make(chan string, 16), resized: make(chan struct{}, 1), killed: make(chan struct{}), done: make(chan struct{}),
	}
}

// Signals delivers the signals sent to the process, KILL excepted, without the
// prefix SIG. One that nobody receives has no effect.
func (p *Process) Signals() <-chan string { return p.signals }

// Killed is closed when the process must end at once.
func (p *Process) Killed() <-chan struct{} { return p.killed }

// StopSignal is the signal that asks this container to stop.
func (p *Process) StopSignal() string { return p.c.stopSignal() }

// Sleep waits for d and reports whether the process still lives.
func (p *Process) Sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return p.gate()
	case <-p.killed:
		return false
	}
}

// Getenv returns the value of an environment variable, "" when it is not set.
func (p *Process) Getenv(key string) string {
	for _, kv := range slices.Backward(p.Env) {
		if v, ok := strings.CutPrefix(kv, key+"="); ok {
			return v
		}
	}
	return ""
}

// ReadFile reads a file of the container.
func (p *Process) ReadFile(name string) ([]byte, error) {
	p.engine.mu.Lock()
	defer p.engine.mu.Unlock()
	f, _ := p.c.find(name)
	if f == nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	if f.mode.IsDir() {
		return nil, &fs.PathError{Op: "read", Path: name, Err: errors.New("is a directory")}
	}
	return f.data, nil
}

// WriteFile writes a file of the container.
func (p *Process) WriteFile(name string, data []byte, mode fs.FileMode) error {
	p.engine.mu.Lock()
	defer p.engine.mu.Unlock()
	return p.c.write(name, &file{data: bytes.Clone(data), mode: mode, modTime: p.engine.nowLocked()})
}

// Remove removes a file of the container.
func (p *Process) Remove(name string) error {
	p.engine.mu.Lock()
	defer p.engine.mu.Unlock()
	m, rel := p.c.resolve(name)
	if m.tree.files[rel] == nil {
		return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
	}
	delete(m.tree.files, rel)
	return nil
}

// Alloc takes that much memory. Above the container's limit the kernel kills
// the process, and Alloc reports that it no longer lives.
func (p *Process) Alloc(bytes int64) bool {
	p.engine.mu.Lock()
	p.memory += bytes
	limit := p.c.Limits.Memory
	over := limit > 0 && p.memory > limit
	p.engine.mu.Unlock()
	if over {
		p.OOM()
	}
	return !over
}

// OOM kills the main process of the container as the kernel does when memory runs out.
func (p *Process) OOM() {
	p.engine.mu.Lock()
	defer p.engine.mu.Unlock()
	p.c.OOMKilled = true
	p.engine.containerEvent(p.c, "oom")
	if p.c.proc != nil {
		p.c.proc.kill()
	}
	p.kill()
}

// gate holds the process while its container is paused, and reports whether it lives.
func (p *Process) gate() bool {
	for {
		p.engine.mu.Lock()
		thawed := p.c.thawed
		p.engine.mu.Unlock()
		if thawed == nil {
			break
		}
		select {
		case <-thawed:
		case <-p.killed:
			return false
		}
	}
	select {
	case <-p.killed:
		return false
	default:
		return true
	}
}

func (p *Process) kill() { p.crash(137) }

// crash ends the process at once with that exit code.
func (p *Process) crash(code int) {
	p.once.Do(func() {
		p.forced = code
		close(p.killed)
	})
}

func (p *Process) signal(sig string) {
	if sig == "KILL" {
		p.kill()
		return
	}
	select {
	case p.signals <- sig:
	default: // nobody listens
	}
}

func (p *Process) isDone() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// run runs the program and returns the exit code the engine sees.
func (p *Process) run(program Program) int {
	code := program(p)
	p.gate()
	select {
	case <-p.killed:
		return p.forced
	default:
		return code
	}
}

// signalName returns the name without SIG of a signal given by name or number.
func signalName(s string) (string, bool) {
	s = strings.TrimPrefix(strings.ToUpper(s), "SIG")
	if s == "" {
		return "KILL", true
	}
	if n, err := strconv.Atoi(s); err == nil {
		s = map[int]string{1: "HUP", 2: "INT", 3: "QUIT", 6: "ABRT", 9: "KILL", 10: "USR1", 12: "USR2", 15: "TERM", 18: "CONT", 19: "STOP", 28: "WINCH"}[n]
	}
	known := []string{"HUP", "INT", "QUIT", "ABRT", "KILL", "USR1", "USR2", "TERM", "CONT", "STOP", "TSTP", "WINCH", "PIPE", "ALRM", "CHLD"}
	return s, slices.Contains(known, s)
}

// pipe is a stream of bytes without a bound; reading waits for more until it is closed.
type pipe struct {
	mu     sync.Mutex // protects buf, closed and wake
	buf    bytes.Buffer
	closed bool
	wake   chan struct{}
}

func newPipe() *pipe { return &pipe{wake: make(chan struct{})} }

func (p *pipe) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return 0, io.ErrClosedPipe
	}
	p.buf.Write(b)
	close(p.wake)
	p.wake = make(chan struct{})
	return len(b), nil
}

// Close ends the stream; what is in it can still be read.
func (p *pipe) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.closed = true
		close(p.wake)
	}
	return nil
}

func (p *pipe) Read(b []byte) (int, error) {
	for {
		p.mu.Lock()
		if p.buf.Len() > 0 {
			defer p.mu.Unlock()
			return p.buf.Read(b)
		}
		closed, wake := p.closed, p.wake
		p.mu.Unlock()
		if closed {
			return 0, io.EOF
		}
		<-wake
	}
}
