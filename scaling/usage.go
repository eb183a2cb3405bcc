package scaling

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/berth-dev/berth/runtime"
)

// Usage is what a container used between two samples.
type Usage struct {
	At     time.Time     `json:"at"` // of the later sample
	Window time.Duration `json:"window"`
	CPU    int64         `json:"cpu"`    // millicores, rounded up
	Memory int64         `json:"memory"` // bytes of the working set, at the end
	// Bytes in a second.
	NetRx    int64 `json:"netRx"`
	NetTx    int64 `json:"netTx"`
	BlkRead  int64 `json:"blkRead"`
	BlkWrite int64 `json:"blkWrite"`
}

// Why two samples give no usage.
var (
	// ErrCountersReset is of a container that was started anew between two samples.
	ErrCountersReset = errors.New("the counters began anew: the container was restarted")
	// ErrNoTimePassed is of samples that are one, or in the wrong order on a machine
	// that does not count its own time.
	ErrNoTimePassed = errors.New("no time passed between the samples")
)

// UsageBetween returns what a container used between two samples of it. How long
// that was is taken from the machine's own count of CPU time where the engine
// gives it, which a change of the clock does not touch.
func UsageBetween(prev, cur runtime.Stats) (Usage, error) {
	if cur.CPUNanos < prev.CPUNanos {
		return Usage{}, ErrCountersReset
	}
	window := elapsed(prev, cur)
	if window <= 0 {
		return Usage{}, fmt.Errorf("%w: %s and %s", ErrNoTimePassed, prev.Time.Format(time.RFC3339Nano), cur.Time.Format(time.RFC3339Nano))
	}
	u := Usage{At: cur.Time, Window: window, Memory: whole(float64(cur.Memory))}
	u.CPU = whole(math.Ceil(float64(cur.CPUNanos-prev.CPUNanos) * 1000 / float64(window)))
	if cur.OnlineCPUs > 0 {
		u.CPU = min(u.CPU, int64(cur.OnlineCPUs)*1000)
	}
	u.NetRx = perSecond(prev.NetRx, cur.NetRx, window)
	u.NetTx = perSecond(prev.NetTx, cur.NetTx, window)
	u.BlkRead = perSecond(prev.BlkRead, cur.BlkRead, window)
	u.BlkWrite = perSecond(prev.BlkWrite, cur.BlkWrite, window)
	return u, nil
}

func elapsed(prev, cur runtime.Stats) time.Duration {
	if prev.SystemNanos > 0 && cur.SystemNanos > prev.SystemNanos && cur.OnlineCPUs > 0 {
		return time.Duration(whole(float64(cur.SystemNanos-prev.SystemNanos) / float64(cur.OnlineCPUs)))
	}
	return cur.Time.Sub(prev.Time)
}

// perSecond is 0 where a counter went back: a network was left, or a device is
// gone.
func perSecond(prev, cur uint64, window time.Duration) int64 {
	if cur < prev {
		return 0
	}
	return whole(math.Round(float64(cur-prev) / window.Seconds()))
}

// whole is a number that is not negative as an integer, at most the largest one.
func whole(x float64) int64 {
	if x >= math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(x)
}

// WorkingSet is the memory of a container that cannot be taken back without
// harm: what it uses without the file cache that was not touched of late.
func WorkingSet(usage, inactiveFile uint64) uint64 {
	return usage - min(inactiveFile, usage)
}

// Sample is the usage as a sample of a resource, [CPU] or [Memory]. The
// reservation is in the same unit.
func (u Usage) Sample(resource string, reservation int64) Sample {
	s := Sample{Metric: resource, Value: u.CPU, Reservation: reservation, At: u.At, Window: u.Window}
	if resource == Memory {
		s.Value = u.Memory
	}
	return s
}
