package vertical

import (
	"fmt"
	"math"
	"time"
)

// The rules for samples, from aggregations_config.go and container.go of the
// reference.
const (
	leastWeight = 0.1            // of a sample of cpu
	interval    = 24 * time.Hour // in which a replica's peak of memory counts once
	remembered  = 8 * interval   // after that a replica that gives no samples is forgotten
	bumpLeast   = 100 << 20      // bytes that an out-of-memory kill asks for in addition
	bumpRatio   = 1.2            // or that many times as much
)

// History is what a service has used. It reads back from JSON as it was written;
// its size depends on the number of replicas, not on that of samples. The zero
// value is a service of which nothing is known. Samples change it in place.
type History struct {
	CPU    Histogram `json:"cpu,omitzero"`    // of cores
	Memory Histogram `json:"memory,omitzero"` // of peaks in bytes
	// First and Last are the times of the first and the last sample of cpu, and
	// Samples how many there were.
	First    time.Time           `json:"first,omitzero"`
	Last     time.Time           `json:"last,omitzero"`
	Samples  int                 `json:"samples,omitempty"`
	Replicas map[string]*Replica `json:"replicas,omitempty"`
}

// Replica is what is known of one replica's latest samples.
type Replica struct {
	CPUAt    time.Time `json:"cpuAt,omitzero"`
	MemoryAt time.Time `json:"memoryAt,omitzero"`
	// Until is the end of the interval that the peaks are of: what was measured, and
	// what an out-of-memory kill asks for.
	Until time.Time `json:"until,omitzero"`
	Peak  int64     `json:"peak,omitempty"`
	OOM   int64     `json:"oom,omitempty"`
}

// Check says what is wrong with a history that was read from somewhere.
func (h *History) Check() error {
	if err := h.CPU.check(cpuScale); err != nil {
		return fmt.Errorf("history of cpu: %w", err)
	}
	if err := h.Memory.check(memoryScale); err != nil {
		return fmt.Errorf("history of memory: %w", err)
	}
	for name, r := range h.Replicas {
		if r == nil {
			return fmt.Errorf("history of replica %s: is empty", name)
		}
	}
	return nil
}

func (h *History) replica(name string, at time.Time) *Replica {
	r := h.Replicas[name]
	if r == nil {
		if h.Replicas == nil {
			h.Replicas = map[string]*Replica{}
		}
		for other, o := range h.Replicas {
			if at.Sub(o.CPUAt) > remembered && at.Sub(o.MemoryAt) > remembered {
				delete(h.Replicas, other)
			}
		}
		r = &Replica{}
		h.Replicas[name] = r
	}
	return r
}

// AddCPU adds what a replica used over a while that began at a time, in
// millicores, and what it had reserved, which the sample is weighted with: after
// a raise the past counts less. It reports false, and changes nothing, for a
// negative value and one that is not later than the last, unless that is more than
// a day later: then the clock was wrong.
func (h *History) AddCPU(replica string, at time.Time, used, reserved int64) bool {
	r := h.replica(replica, at)
	if used < 0 || !at.After(r.CPUAt) && !setBack(r.CPUAt, at) {
		return false
	}
	r.CPUAt = at
	h.CPU.add(cpuScale, float64(used)/1000, max(float64(reserved)/1000, leastWeight), at)
	if h.First.IsZero() || at.Before(h.First) {
		h.First = at
	}
	if at.After(h.Last) {
		h.Last = at
	}
	h.Samples++
	return true
}

// AddMemory adds how many bytes a replica used at a time. Only the highest value
// of a day counts. It reports false, and changes nothing, for a negative value and
// one that is older than the last.
func (h *History) AddMemory(replica string, at time.Time, used int64) bool {
	r := h.replica(replica, at)
	if used < 0 || at.Before(r.MemoryAt) && !setBack(r.MemoryAt, at) {
		return false
	}
	h.peak(r, at, used, false)
	return true
}

// AddOOM adds that a replica was killed for want of memory at a time, when it had
// a limit of so many bytes: it needs a fifth more than that or than its peak, and
// at least 100 MiB more. It reports false for a kill of an interval that is over.
func (h *History) AddOOM(replica string, at time.Time, limit int64) bool {
	r := h.replica(replica, at)
	if begun := r.Until.Add(-interval); limit < 0 || at.Before(begun) && !setBack(begun, at) {
		return false
	}
	used := max(limit, r.Peak)
	needed := max(float64(used)+bumpLeast, float64(used)*bumpRatio)
	h.peak(r, at, whole(needed), true)
	return true
}

// peak replaces the replica's peak of the interval by a higher one, or begins an
// interval with it.
func (h *History) peak(r *Replica, at time.Time, used int64, oom bool) {
	r.MemoryAt = at
	if r.Until.IsZero() || setBack(r.Until.Add(-interval), at) {
		r.Until = at
	}
	if at.Before(r.Until) {
		old := max(r.Peak, r.OOM)
		if old == 0 || used <= old {
			return
		}
		h.Memory.subtract(memoryScale, float64(old), 1, r.Until)
	} else {
		r.Until = r.Until.Add(at.Sub(r.Until).Truncate(interval) + interval)
		r.Peak, r.OOM = 0, 0
	}
	h.Memory.add(memoryScale, float64(used), 1, r.Until)
	if oom {
		r.OOM = used
	} else {
		r.Peak = used
	}
}

// setBack reports whether a time is so long before another that the clock was set
// back in between: no sample comes that late.
func setBack(last, at time.Time) bool { return last.Sub(at) > interval }

// whole is a number as an integer, from 0 to the largest one.
func whole(x float64) int64 {
	if !(x > 0) {
		return 0
	}
	if x >= math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(x)
}
