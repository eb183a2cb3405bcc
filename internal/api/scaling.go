package api

import (
	"cmp"
	"slices"
	"time"

	"github.com/berth-dev/berth/internal/reconcile"
	"github.com/berth-dev/berth/scaling"
	"github.com/berth-dev/berth/scaling/simulate"
	"github.com/berth-dev/berth/scaling/timetable"
	"github.com/berth-dev/berth/scaling/vertical"
)

// Scaling is the last decision about the number of a service's replicas, and
// what it follows from.
type Scaling struct {
	Service  string    `json:"service"`
	At       time.Time `json:"at"`
	Current  int       `json:"current"`
	Desired  int       `json:"desired"`
	Held     string    `json:"held,omitempty"`     // why it is not carried out; empty: it is
	Capped   string    `json:"capped,omitempty"`   // why it is no larger
	Schedule string    `json:"schedule,omitempty"` // that applies
	// Missing tells why replicas that run have no value of a metric, each of the
	// first few reasons once.
	Missing []string `json:"missing,omitempty"`
	// Decision is by the metrics, Concurrency by what is under way at once; nil: not
	// by that.
	Decision    *scaling.Decision            `json:"decision,omitempty"`
	Concurrency *scaling.ConcurrencyDecision `json:"concurrency,omitempty"`
}

// Why is the decision in one sentence.
func (s *Scaling) Why() string {
	switch {
	case s.Capped != "":
		return s.Capped
	case s.ByConcurrency():
		return s.Concurrency.String()
	case s.Decision == nil:
		return cmp.Or(s.Schedule, "nothing is measured")
	case s.Schedule != "" && slices.Contains(s.Decision.Reasons, scaling.NumberFixed):
		return s.Decision.String() + " by " + s.Schedule
	default:
		return s.Decision.String()
	}
}

// ByConcurrency reports whether what is under way at once decided, and not the
// metrics: it asks for more, or for none.
func (s *Scaling) ByConcurrency() bool {
	return s.Concurrency != nil && (s.Decision == nil || s.Decision.Desired < s.Concurrency.Desired ||
		s.Desired == 0 && s.Concurrency.Desired == 0)
}

// Blind reports whether too little is known of the metrics for the number to change.
func (s *Scaling) Blind() bool {
	return s.Decision != nil && slices.Contains(s.Decision.Reasons, scaling.MetricsInvalid)
}

// Sizing is what a service's replicas need, and what is made of it.
type Sizing struct {
	Service        string                  `json:"service"`
	At             time.Time               `json:"at"`
	Mode           string                  `json:"mode"` // recommend or auto
	Recommendation vertical.Recommendation `json:"recommendation"`
	Limits         vertical.Amounts        `json:"limits"` // now; 0: none
	Used           vertical.Amounts        `json:"used"`   // at most by one replica, of late
	Change         vertical.Change         `json:"change"`
}

// Autoscaling answers GET /v1/stacks/{stack}/autoscale.
type Autoscaling struct {
	Services []ServiceScaling `json:"services"` // those that are scaled, sized or at rest, sorted by name
}

// ServiceScaling is how one service is scaled.
type ServiceScaling struct {
	Service  string          `json:"service"`
	Replicas int             `json:"replicas"` // wanted
	Ready    int             `json:"ready"`
	Min      int             `json:"min"`
	Max      int             `json:"max"`
	Paused   bool            `json:"paused,omitempty"` // by command
	ByHand   bool            `json:"byHand,omitempty"` // scaled by hand
	Rest     *reconcile.Rest `json:"rest,omitempty"`   // nil: it does not rest
	// Firing is the schedule that applies, and when the next one fires; zero: none.
	Firing timetable.Firing `json:"firing,omitzero"`
	Last   *Scaling         `json:"last,omitempty"`
	Sizing *Sizing          `json:"sizing,omitempty"`
	// Recording are the last decisions with all that they follow from, so that they
	// can be made again.
	Recording simulate.Recording `json:"recording,omitzero"`
}

// The operations of an [AutoscaleRequest].
const (
	AutoscalePause  = "pause"
	AutoscaleResume = "resume"
	AutoscaleSleep  = "sleep"
	AutoscaleWake   = "wake"
)

// AutoscaleRequest is the body of POST /v1/stacks/{stack}/autoscale.
type AutoscaleRequest struct {
	Op       string   `json:"op"`
	Services []string `json:"services,omitempty"` // empty: all
	// Do is how services sleep: stop or pause (the default).
	Do scaling.IdleAction `json:"do,omitempty"`
}
