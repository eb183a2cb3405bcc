package runtime

import "time"

// NodeLimits are what the containers of a virtual node may use together. Zero
// means no limit; a negative value is never valid.
type NodeLimits struct {
	CPUs   int64 `json:"cpus,omitempty"`   // millicores; 1000 is one core
	Memory int64 `json:"memory,omitempty"` // bytes of memory; swap is not to be used beside it
	Pids   int64 `json:"pids,omitempty"`   // processes and threads
}

// Boundary is what holds a virtual node's containers within its capacity: a
// cgroup under which they run.
type Boundary struct {
	// Parent is the cgroup parent that a container of the node is created with:
	// a path for an engine with the cgroupfs driver, the name of a slice for one
	// with the systemd driver. Empty: there is none, and the engine's default is
	// to be used.
	Parent string `json:"parent,omitempty"`
	// Enforced says that every limit asked for is in force.
	Enforced bool `json:"enforced"`
	// Why says what is not enforced and why, and how that can be changed; empty
	// when all is.
	Why string `json:"why,omitempty"`
	// Drift is what somebody else had changed since the limits were last set, and
	// what it was reset to, one sentence each.
	Drift []string `json:"drift,omitempty"`
}

// Pressure is how near a virtual node is to its limits. Counters begin when the
// node's cgroup is made.
type Pressure struct {
	Memory      int64 `json:"memory"`                // bytes in use, without inactive file cache
	MemoryLimit int64 `json:"memoryLimit,omitempty"` // bytes; 0: none
	// MemoryHits is how often a process had to wait for memory, since the node's
	// limit was reached; it counts before anything is killed.
	MemoryHits int64 `json:"memoryHits,omitempty"`
	// OOMKills is how many processes in the node were killed for want of memory,
	// be it the node's limit or a container's own that was reached.
	OOMKills int64 `json:"oomKills,omitempty"`
	// NodeOOMs is how many of them were killed since the node's limit was reached.
	NodeOOMs int64 `json:"nodeOoms,omitempty"`

	CPUNanos         int64         `json:"cpuNanos"` // CPU time used, in nanoseconds
	Periods          int64         `json:"periods,omitempty"`
	ThrottledPeriods int64         `json:"throttledPeriods,omitempty"` // of them, those in which the quota was used up
	Throttled        time.Duration `json:"throttled,omitempty"`        // time that processes had to wait for the next period

	Pids        int64 `json:"pids"`
	PidsLimit   int64 `json:"pidsLimit,omitempty"`   // 0: none
	PidsRefused int64 `json:"pidsRefused,omitempty"` // forks that failed at the limit

	// Containers are those whose cgroup is in the node, and those that are gone
	// but had a process killed for want of memory; sorted by ID.
	Containers []ContainerPressure `json:"containers,omitempty"`
}

// ContainerPressure is one container's part in its node's [Pressure].
type ContainerPressure struct {
	ID     string `json:"id"`
	Gone   bool   `json:"gone,omitempty"` // its cgroup is no more: it does not run
	Memory int64  `json:"memory"`         // bytes in use, without inactive file cache
	Pids   int64  `json:"pids"`
	// OOMKills is how many of its processes were killed for want of memory, and
	// NodeOOMs how many of them since its node's limit was reached, not its own.
	OOMKills int64 `json:"oomKills,omitempty"`
	NodeOOMs int64 `json:"nodeOoms,omitempty"`
}

// OOMKilled is how many processes of a container were killed for want of memory,
// and how many of them since its node's limit was reached. It is what the kernel
// says: the engine's own flag is not set by every engine.
func (p *Pressure) OOMKilled(id string) (all, byNode int64) {
	for i := range p.Containers {
		if c := &p.Containers[i]; c.ID == id {
			return c.OOMKills, c.NodeOOMs
		}
	}
	return 0, 0
}
