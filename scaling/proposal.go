package scaling

import (
	"fmt"
	"math"
	"math/bits"
	"time"
)

// Kept is why a proposal is the present number.
type Kept string

// Why the present number is kept although a ratio was found.
const (
	KeptTolerance Kept = "within the tolerance"
	KeptTurned    Kept = "not so once missing and unready replicas are counted"
	KeptAgainst   Kept = "the count would move against the ratio"
)

// Proposal is the number that one metric asks for, and what that follows from.
type Proposal struct {
	Metric   string `json:"metric"`
	Source   Source `json:"source"`
	Replicas int    `json:"replicas"`
	Invalid  string `json:"invalid,omitempty"` // why there is none
	Kept     Kept   `json:"kept,omitempty"`
	// Now is the utilization in percent, the mean per replica, or the external
	// value; Target is what it should be.
	Now    int64 `json:"now"`
	Target int64 `json:"target"`
	// Percent says that both are in percent of the reservation.
	Percent bool    `json:"percent,omitempty"`
	Ratio   float64 `json:"ratio"`            // of Now and Target
	Filled  float64 `json:"filled,omitempty"` // the ratio with missing and unready replicas, where they count
	Need    float64 `json:"need"`             // replicas that would be enough, with parts of one
	Ready   int     `json:"ready"`            // replicas with a value, or for an external metric the ready ones
	Missing int     `json:"missing,omitempty"`
	Unready int     `json:"unready,omitempty"`
	Ignored int     `json:"ignored,omitempty"` // failed, or being removed
}

// measure turns one metric into a proposal.
func (s *settings) measure(m *Metric, in *Input, now time.Time) Proposal {
	p := Proposal{Metric: m.Name, Source: m.Source, Target: m.target(), Percent: m.Utilization != 0}
	if p.Target <= 0 {
		p.Invalid = "it has no target"
		return p
	}
	if m.Source == FromExternal {
		s.external(&p, m, in)
		return p
	}
	var t tally
	t.count(&p, m, in, now)
	if p.Invalid == "" {
		s.perReplica(&p, &t, in.Current)
	}
	return p
}

// sums are what is measured over some replicas.
type sums struct {
	usage, reserved int64
	count           int64
}

func (s sums) plus(o sums) sums {
	return sums{plus(s.usage, o.usage), plus(s.reserved, o.reserved), s.count + o.count}
}

// tally is what one metric finds over all replicas.
type tally struct {
	ready   sums
	missing sums // with what they count as where the ratio is below 1
	unready sums // using nothing
}

// count goes through the replicas once.
func (t *tally) count(p *Proposal, m *Metric, in *Input, now time.Time) {
	cpu := m.Source == FromResource && m.Name == CPU
	for i := range in.Replicas {
		r := &in.Replicas[i]
		if r.Phase != Pending && r.Phase != Running {
			p.Ignored++
			continue
		}
		sample := r.sample(m.Name)
		if m.Utilization != 0 && sample.Reservation <= 0 {
			p.Invalid = fmt.Sprintf("replica %s has no reservation of %s", r.Name, m.Name)
			return
		}
		one := sums{usage: sample.Value, reserved: sample.Reservation, count: 1}
		switch {
		case r.Phase == Pending, !sample.Missing && cpu && r.warming(&sample, now):
			one.usage = 0
			t.unready = t.unready.plus(one)
		case sample.Missing:
			one.usage = m.assumed(sample.Reservation)
			t.missing = t.missing.plus(one)
		default:
			t.ready = t.ready.plus(one)
		}
	}
	p.Ready, p.Missing, p.Unready = int(t.ready.count), int(t.missing.count), int(t.unready.count)
	if p.Ready == 0 {
		p.Invalid = "no ready replica has a value"
	}
}

// assumed is the use of a replica without a value where the others are below the
// target: all of its reservation, or as much as the target where that is more.
func (m *Metric) assumed(reserved int64) int64 {
	if m.Utilization == 0 {
		return m.AverageValue
	}
	return mulDiv(reserved, max(100, m.Utilization), 100)
}

// of is the figure that is compared with the target: floor(100·Σ usage / Σ
// reserved), or the mean cut to a whole number.
func (p *Proposal) of(s sums) int64 {
	if !p.Percent {
		return s.usage / s.count
	}
	return min(mulDiv(s.usage, 100, s.reserved), math.MaxInt32)
}

// perReplica is GetResourceReplicas and calcPlainMetricReplicas of Kubernetes'
// pkg/controller/podautoscaler/replica_calculator.go, where usage exactly at the
// target fills nothing in.
func (s *settings) perReplica(p *Proposal, t *tally, current int) {
	p.Now = p.of(t.ready)
	p.Ratio = float64(p.Now) / float64(p.Target)
	p.Need = p.Ratio * float64(p.Ready)
	if s.tolerated(p.Ratio) {
		p.keep(KeptTolerance, current)
		return
	}
	if p.Missing == 0 && (p.Unready == 0 || p.Ratio <= 1) {
		p.Replicas = ceil(p.Ratio * float64(p.Ready))
		return
	}
	filled := t.ready.plus(t.fill(p.Ratio))
	p.Filled = float64(p.of(filled)) / float64(p.Target)
	n := ceil(p.Filled * float64(filled.count))
	switch {
	case s.tolerated(p.Filled), p.Ratio < 1 && p.Filled > 1, p.Ratio > 1 && p.Filled < 1:
		p.keep(KeptTurned, current)
	case p.Filled < 1 && n > current, p.Filled > 1 && n < current:
		p.keep(KeptAgainst, current)
	default:
		p.Replicas = n
	}
}

// fill is what is assumed against the direction of the change, so that it is
// smaller rather than larger than it should be.
func (t *tally) fill(ratio float64) sums {
	if ratio < 1 {
		return t.missing
	}
	idle := t.missing
	idle.usage = 0
	return idle.plus(t.unready)
}

func (p *Proposal) keep(why Kept, current int) { p.Kept, p.Replicas = why, current }

// tolerated reports whether a ratio is near enough to 1; the borders are.
func (s *settings) tolerated(ratio float64) bool {
	return 1-s.tolDown <= ratio && ratio <= 1+s.tolUp
}

// external is the value of the whole service. With no replicas wanted there is no
// present state to keep, so the tolerance does not count.
func (s *settings) external(p *Proposal, m *Metric, in *Input) {
	if p.Now, p.Invalid = in.external(m.Name); p.Invalid != "" {
		return
	}
	p.Ready, p.Unready, p.Ignored = in.readiness()
	per := p.Target
	if m.AverageValue != 0 {
		per = mulDiv(p.Target, max(int64(in.Current), 1), 1)
	}
	p.Ratio = float64(p.Now) / float64(per)
	p.Need = float64(p.Now) / float64(p.Target)
	if m.AverageValue == 0 && in.Current > 0 {
		p.Need *= float64(p.Ready)
	}
	switch {
	case in.Current > 0 && s.tolerated(p.Ratio):
		p.keep(KeptTolerance, in.Current)
	case m.AverageValue == 0 && in.Current > 0 && len(in.Replicas) == 0:
		p.Invalid = "there are no replicas yet"
	default:
		p.Replicas = ceil(p.Need)
	}
}

// external returns the value of a metric, or why there is none.
func (in *Input) external(metric string) (int64, string) {
	for i := range in.External {
		e := &in.External[i]
		switch {
		case e.Metric != metric:
		case e.Unavailable != "":
			return 0, e.Unavailable
		case e.Value < 0:
			return 0, "its value is below 0"
		default:
			return e.Value, ""
		}
	}
	return 0, "it has no value"
}

func (in *Input) readiness() (ready, unready, ignored int) {
	for i := range in.Replicas {
		switch r := &in.Replicas[i]; {
		case r.Phase == Running && r.Ready:
			ready++
		case r.Phase == Running, r.Phase == Pending:
			unready++
		default:
			ignored++
		}
	}
	return ready, unready, ignored
}

// plus is the sum of two numbers that are not negative, at most the largest one.
func plus(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// mulDiv is floor(a·b/c) of numbers that are not negative, at most the largest
// one.
func mulDiv(a, b, c int64) int64 {
	hi, lo := bits.Mul64(uint64(a), uint64(b)) //nolint:gosec // not negative
	if hi >= uint64(c) {                       //nolint:gosec // positive
		return math.MaxInt64
	}
	q, _ := bits.Div64(hi, lo, uint64(c)) //nolint:gosec // positive
	return int64(min(q, math.MaxInt64))
}

// ceil is the next whole number of replicas, at most what 32 bits hold.
func ceil(x float64) int {
	if !(x > 0) {
		return 0
	}
	return int(min(math.Ceil(x), math.MaxInt32))
}
