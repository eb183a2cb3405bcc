package fake

import (
	"fmt"
	"slices"
	"time"
)

// Workload is what the main process of a container does. The zero value runs
// until it is asked to stop, and then exits with code 0.
type Workload struct {
	Output []string // lines it prints to stdout when it starts
	Errors []string // lines it prints to stderr when it starts

	Exits bool          // it ends by itself,
	After time.Duration // this long after its start,
	Code  int           // with this exit code

	OOMAfter time.Duration // the kernel kills it for its memory after so long; 0: never

	IgnoreTerm bool          // no signal but KILL ends it
	StopTakes  time.Duration // how long it goes on after it was asked to stop
	StopCode   int           // its exit code then

	// Health is the result of the container's healthcheck when the process has
	// run for up. Nil: that of the check's command under Exec, or success.
	Health func(up time.Duration) bool
	// Exec answers exec and the healthcheck's command. Nil: it succeeds and prints nothing.
	Exec Program
	// Main replaces all of the above but Health and Exec.
	Main Program
	// StartError says why the engine cannot start the command. The container
	// then stays as it was, with exit code 127.
	StartError string
	// Binaries are the commands that exist; nil: all do. Any other cannot be started.
	Binaries []string

	CPU    float64 // cores in use
	Memory uint64  // bytes in use

	// Starts scripts the first, second, … start of the container, each with a
	// workload of its own; the last one holds from then on.
	Starts []Workload
}

// Exit is a workload that ends with code after that time.
func Exit(after time.Duration, code int) Workload {
	return Workload{Exits: true, After: after, Code: code}
}

// HealthyAfter is for [Workload.Health]: it fails until the process has run for d.
func HealthyAfter(d time.Duration) func(time.Duration) bool {
	return func(up time.Duration) bool { return up >= d }
}

// Flapping is for [Workload.Health]: it succeeds and fails in turn, each for period.
func Flapping(period time.Duration) func(time.Duration) bool {
	return func(up time.Duration) bool { return up/period%2 == 0 }
}

// Unhealthy is for [Workload.Health]: it always fails.
func Unhealthy(time.Duration) bool { return false }

// nth returns the workload of the n-th start, from 0 on.
func (w Workload) nth(n int) Workload {
	if len(w.Starts) == 0 {
		return w
	}
	return w.Starts[min(n, len(w.Starts)-1)].nth(n)
}

// startError says why the command cannot be started, "" when it can.
func (w Workload) startError(args []string) string {
	switch {
	case w.StartError != "":
		return w.StartError
	case len(args) == 0:
		return "no command specified"
	case !w.has(args[0]):
		return fmt.Sprintf("exec: %q: executable file not found in $PATH", args[0])
	}
	return ""
}

// has reports whether a command exists.
func (w Workload) has(command string) bool {
	return w.Binaries == nil || slices.Contains(w.Binaries, command)
}

func (w Workload) main() Program {
	if w.Main != nil {
		return w.Main
	}
	return w.run
}

func (w Workload) exec() Program {
	if w.Exec != nil {
		return w.Exec
	}
	return func(*Process) int { return 0 }
}

// run is the scripted process.
func (w Workload) run(p *Process) int {
	for _, line := range w.Output {
		_, _ = fmt.Fprintln(p.Stdout, line)
	}
	for _, line := range w.Errors {
		_, _ = fmt.Fprintln(p.Stderr, line)
	}
	var exit, oom <-chan time.Time
	if w.Exits {
		t := time.NewTimer(w.After)
		defer t.Stop()
		exit = t.C
	}
	if w.OOMAfter > 0 {
		t := time.NewTimer(w.OOMAfter)
		defer t.Stop()
		oom = t.C
	}
	for {
		select {
		case <-p.killed:
			return 137
		case <-exit:
			return w.Code
		case <-oom:
			p.OOM()
		case sig := <-p.signals:
			if w.IgnoreTerm || !p.ends(sig) {
				continue
			}
			if !p.gate() || !p.Sleep(w.StopTakes) {
				return 137
			}
			return w.StopCode
		}
	}
}

// ends reports whether a signal asks a well-behaved process to end.
func (p *Process) ends(sig string) bool {
	return sig == p.StopSignal() || slices.Contains([]string{"TERM", "INT", "QUIT", "HUP", "ABRT"}, sig)
}
