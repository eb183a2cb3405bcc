package balance

import (
	"sync/atomic"
	"time"
)

// RefusedReason says why a client was turned away.
type RefusedReason string

// The reasons.
const (
	// RefusedHoldLimit: no backend was routed, and too many waited already.
	RefusedHoldLimit RefusedReason = "hold limit"
	// RefusedHoldTime: no backend was routed for as long as a client waits.
	RefusedHoldTime RefusedReason = "hold time"
	// RefusedUnreachable: every routed backend failed the connect, more than once.
	RefusedUnreachable RefusedReason = "unreachable"
	// RefusedSessions: a UDP frontend had as many sessions as it may.
	RefusedSessions RefusedReason = "sessions"
	// RefusedClosed: the frontend or the balancer was closed while it waited.
	RefusedClosed RefusedReason = "closed"
)

// Counters count what has happened since the balancer began; they only grow.
type Counters struct {
	Connections    uint64 `json:"connections"`    // clients given to a backend that accepted
	FailedConnects uint64 `json:"failedConnects"` // connects that a backend refused or did not answer
	BytesIn        uint64 `json:"bytesIn"`        // from clients
	BytesOut       uint64 `json:"bytesOut"`       // to clients
	// Latency is how long the connects that succeeded took.
	Latency Histogram `json:"latency"`
}

func (c *Counters) add(o Counters) {
	c.Connections += o.Connections
	c.FailedConnects += o.FailedConnects
	c.BytesIn += o.BytesIn
	c.BytesOut += o.BytesOut
	c.Latency = c.Latency.Plus(o.Latency)
}

// counters are the [Counters] that many goroutines count in.
type counters struct {
	connections, failed, in, out atomic.Uint64
	latency                      histogram
}

func (c *counters) snapshot() Counters {
	return Counters{
		Connections: c.connections.Load(), FailedConnects: c.failed.Load(),
		BytesIn: c.in.Load(), BytesOut: c.out.Load(),
		Latency: c.latency.snapshot(),
	}
}

// LatencyBounds returns the upper bounds of a [Histogram]'s buckets, inclusive. One
// more bucket has none.
func LatencyBounds() []time.Duration {
	bounds := make([]time.Duration, len(bucketMicros))
	for i, us := range bucketMicros {
		bounds[i] = time.Duration(us) * time.Microsecond
	}
	return bounds
}

// bucketMicros are the bounds in µs: 50 µs to 5 s by 1, 2, 5.
var bucketMicros = [...]int64{
	50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000,
	100_000, 200_000, 500_000, 1_000_000, 2_000_000, 5_000_000,
}

// Histogram counts durations by bucket.
type Histogram struct {
	Counts [len(bucketMicros) + 1]uint64 `json:"counts"` // of [LatencyBounds], and above
	Sum    time.Duration                 `json:"sum"`
}

// Count returns how many durations there are.
func (h Histogram) Count() uint64 {
	var n uint64
	for _, c := range h.Counts {
		n += c
	}
	return n
}

// Plus returns the durations of both.
func (h Histogram) Plus(o Histogram) Histogram {
	for i, c := range o.Counts {
		h.Counts[i] += c
	}
	h.Sum += o.Sum
	return h
}

// Minus returns the durations that came after an earlier snapshot of the same histogram.
func (h Histogram) Minus(earlier Histogram) Histogram {
	for i, c := range earlier.Counts {
		h.Counts[i] -= c
	}
	h.Sum -= earlier.Sum
	return h
}

// Quantile estimates the duration that a share q (0 to 1) of all does not exceed:
// within a bucket, durations are taken to be spread evenly (as Prometheus'
// histogram_quantile does). Above the last bound it is the last bound; 0 when
// there is none.
func (h Histogram) Quantile(q float64) time.Duration {
	rank := q * float64(h.Count())
	below, seen := int64(0), 0.0
	for i, us := range bucketMicros {
		n := float64(h.Counts[i])
		if n > 0 && seen+n >= rank {
			part := (rank - seen) / n
			return time.Duration((float64(below) + part*float64(us-below)) * float64(time.Microsecond))
		}
		seen += n
		below = us
	}
	if seen == float64(h.Count()) {
		return 0
	}
	return time.Duration(below) * time.Microsecond
}

type histogram struct {
	counts [len(bucketMicros) + 1]atomic.Uint64
	sum    atomic.Int64
}

func (h *histogram) observe(d time.Duration) {
	i := 0
	for i < len(bucketMicros) && d.Microseconds() > bucketMicros[i] {
		i++
	}
	h.counts[i].Add(1)
	h.sum.Add(int64(d))
}

func (h *histogram) snapshot() Histogram {
	var s Histogram
	for i := range h.counts {
		s.Counts[i] = h.counts[i].Load()
	}
	s.Sum = time.Duration(h.sum.Load())
	return s
}
