package runtime

import (
	"io"
	"time"
)

// Filter selects objects by label: every entry must match. An empty value
// asks only that the label exists.
type Filter struct {
	Labels map[string]string
	// Size asks a list of containers for their sizes too; it is slow.
	Size bool
}

// Event is something that happened to an object of the engine. It never
// carries a decision: it marks what must be looked at again.
type Event struct {
	Time   time.Time         `json:"time"`
	Type   string            `json:"type"`   // "container", "network", "volume" or "image"
	Action string            `json:"action"` // the engine's word: "start", "die", "health_status: healthy", …
	ID     string            `json:"id"`
	Name   string            `json:"name,omitempty"`
	Labels map[string]string `json:"labels,omitempty"` // of a container; other attributes included
}

// LogOptions selects what is read of a container's output.
type LogOptions struct {
	Follow     bool
	Tail       int // lines from the end; negative: all
	Since      time.Time
	Until      time.Time
	Timestamps bool
	Stdout     bool
	Stderr     bool
}

// Streams connects a command's standard streams. A nil field is not connected.
type Streams struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer
}

// TTYSize is a terminal's size in characters.
type TTYSize struct{ Rows, Cols uint }

// ExecSpec is a command run inside a running container.
type ExecSpec struct {
	Command    []string
	Env        []string
	User       string
	WorkingDir string
	Privileged bool
	TTY        bool
	Detach     bool           // start it and return at once
	DetachKeys string         // the key sequence that detaches; empty: the engine's
	Resize     <-chan TTYSize // nil: the terminal never changes
}

// AttachOptions connects to a container's main process.
type AttachOptions struct {
	Logs       bool // replay what was written before
	NoStdin    bool
	DetachKeys string
	Resize     <-chan TTYSize
	// Ready is closed once the connection stands, so that the container may be
	// started without losing output. Nil: nobody waits.
	Ready chan<- struct{}
}

// ExitStatus is how a container's main process ended.
type ExitStatus struct {
	Code  int
	Error string // set when the engine could not run or wait for it
}

// Processes is the table of a container's processes, as ps prints it.
type Processes struct {
	Titles []string   `json:"titles"`
	Rows   [][]string `json:"rows"`
}

// PathStat describes a file inside a container.
type PathStat struct {
	Name       string
	Size       int64
	Mode       uint32 // fs.FileMode bits
	ModTime    time.Time
	LinkTarget string
}

// Stats is one sample of a container's use, cumulative where the kernel
// counts. A rate needs two samples.
type Stats struct {
	Time        time.Time `json:"time"`
	CPUNanos    uint64    `json:"cpuNanos"`    // CPU time used since the start
	SystemNanos uint64    `json:"systemNanos"` // CPU time of the whole machine
	OnlineCPUs  int       `json:"onlineCpus"`
	Memory      uint64    `json:"memory"`      // bytes in use, without inactive file cache
	MemoryLimit uint64    `json:"memoryLimit"` // bytes; the machine's where none is set
	NetRx       uint64    `json:"netRx"`       // bytes
	NetTx       uint64    `json:"netTx"`
	BlkRead     uint64    `json:"blkRead"`
	BlkWrite    uint64    `json:"blkWrite"`
	Pids        uint64    `json:"pids"`
}

// CPUPercent is the CPU use between two samples of one container, 100 for each
// core, as docker stats computes it; 0 when the samples do not allow it.
func CPUPercent(prev, cur Stats) float64 {
	if cur.CPUNanos <= prev.CPUNanos || cur.SystemNanos <= prev.SystemNanos {
		return 0
	}
	cpus := max(cur.OnlineCPUs, 1)
	return float64(cur.CPUNanos-prev.CPUNanos) / float64(cur.SystemNanos-prev.SystemNanos) * float64(cpus) * 100
}
