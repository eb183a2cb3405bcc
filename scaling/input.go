package scaling

import "time"

// Phase is where a replica stands, as far as scaling is concerned.
type Phase string

// The phases. What has failed or is being removed is not counted at all.
const (
	Pending  Phase = "pending" // is not running yet: waits for a place, an image or its turn
	Running  Phase = "running"
	Failed   Phase = "failed"
	Removing Phase = "removing"
)

// Input is everything that is measured for one decision.
type Input struct {
	Current  int        `json:"current"` // how many replicas are wanted now
	Replicas []Replica  `json:"replicas,omitempty"`
	External []External `json:"external,omitempty"`
	// Forecast is how many replicas are expected to be needed by the time that a new
	// one would be ready. It only ever raises the number; 0: nothing is expected.
	Forecast int `json:"forecast,omitempty"`
}

// Replica is one that exists.
type Replica struct {
	Name  string `json:"name,omitempty"` // for the explanation only
	Phase Phase  `json:"phase"`
	Ready bool   `json:"ready,omitempty"`
	// ReadyChanged is when Ready took its value in this run of the container.
	ReadyChanged time.Time `json:"readyChanged,omitzero"`
	// WasReady says that it is ready or has been in this run of the container.
	WasReady bool      `json:"wasReady,omitempty"`
	Started  time.Time `json:"started,omitzero"` // zero: is not known
	Samples  []Sample  `json:"samples,omitempty"`
}

// Sample is what was measured of one replica for one metric. A replica with no
// sample for a metric is taken as one whose sample is Missing.
type Sample struct {
	Metric string `json:"metric"`
	// Missing says that there is no value: it could not be had, or it is too old.
	Missing bool `json:"missing,omitempty"`
	// Value is in the unit of the metric; one below 0 is taken as missing.
	Value int64 `json:"value,omitempty"`
	// Reservation is what the replica is promised of a resource, in the same unit. It
	// is given for a missing value too; utilization cannot be told without it.
	Reservation int64         `json:"reservation,omitempty"`
	At          time.Time     `json:"at,omitzero"`      // when the measurement ended
	Window      time.Duration `json:"window,omitempty"` // and how long it took
}

// External is the value of an external metric.
type External struct {
	Metric string `json:"metric"`
	Value  int64  `json:"value,omitempty"` // thousandths, 0 or more
	// Unavailable is why there is no value.
	Unavailable string `json:"unavailable,omitempty"`
}

// sample returns the sample of a metric, which may be missing.
func (r *Replica) sample(metric string) Sample {
	for i := range r.Samples {
		if s := &r.Samples[i]; s.Metric == metric {
			if s.Value < 0 {
				return Sample{Metric: metric, Missing: true, Reservation: s.Reservation}
			}
			return *s
		}
	}
	return Sample{Metric: metric, Missing: true}
}

// warming reports whether the use of cpu says nothing of the load yet, for it is
// that of a start.
func (r *Replica) warming(s *Sample, now time.Time) bool {
	if r.Started.IsZero() {
		return true
	}
	if now.Sub(r.Started) < cpuInitialization {
		return !r.Ready || s.At.Before(r.ReadyChanged.Add(s.Window))
	}
	return !r.Ready && !r.WasReady
}
