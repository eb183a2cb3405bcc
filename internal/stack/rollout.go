package stack

import (
	"slices"
	"strconv"
	"time"

	"github.com/berth-dev/berth/runtime"
)

// Order says which of two containers of one replica goes first when the one
// replaces the other.
type Order string

// The orders of deploy.update_config.order.
const (
	StopFirst  Order = "" // the old one stops before the new one starts
	StartFirst Order = "start-first"
)

// FailureAction says what follows when too many replicas of a new revision fail.
type FailureAction string

// The actions of deploy.update_config.failure_action.
const (
	PauseOnFailure    FailureAction = "" // no further replica is replaced until somebody says so
	ContinueOnFailure FailureAction = "continue"
	RollBackOnFailure FailureAction = "rollback" // the service goes back to its last good revision
)

// Update says how replicas are replaced by those of another revision: Compose's
// deploy.update_config and deploy.rollback_config.
type Update struct {
	Parallelism     int           `json:"parallelism"`               // replicas replaced at a time; 0: all
	Delay           time.Duration `json:"delay,omitempty"`           // after each replica
	Monitor         time.Duration `json:"monitor"`                   // a replica that fails so soon after its start counts as failed
	MaxFailureRatio float64       `json:"maxFailureRatio,omitempty"` // of the replicas to be replaced, 0 to 1; more is a failed update
	Action          FailureAction `json:"failureAction,omitempty"`   // of a roll-back never RollBackOnFailure
	Order           Order         `json:"order,omitempty"`
}

// Defaults of update_config and rollback_config, those of Docker Swarm
// (https://docs.docker.com/reference/cli/docker/service/update/).
const (
	DefaultParallelism = 1
	DefaultMonitor     = 5 * time.Second
)

// DefaultUpdate is how a service is updated that says nothing about it.
func DefaultUpdate() Update {
	return Update{Parallelism: DefaultParallelism, Monitor: DefaultMonitor}
}

// Share is a number of replicas: a count, or a percentage of those wanted.
type Share struct {
	Count   int  `json:"count,omitempty"`   // 0 or more
	Percent int  `json:"percent,omitempty"` // where IsShare: 0 to 100, of maxSurge to 1000
	IsShare bool `json:"isShare,omitempty"` // Percent counts, not Count
}

// Of is the share of n replicas, a percentage rounded up or down.
func (s Share) Of(n int, up bool) int {
	if !s.IsShare {
		return s.Count
	}
	if up {
		return (n*s.Percent + 99) / 100
	}
	return n * s.Percent / 100
}

func (s Share) String() string {
	if s.IsShare {
		return strconv.Itoa(s.Percent) + "%"
	}
	return strconv.Itoa(s.Count)
}

// Rollout is what x-berth.rollout adds to update_config. With Surge or
// Unavailable it takes the place of parallelism and order.
type Rollout struct {
	// Surge and Unavailable are how many replicas may be there beyond those
	// wanted, and how many of those wanted may be missing. Both nil: parallelism
	// and order decide. One nil: its default, 25 %.
	Surge       *Share `json:"maxSurge,omitempty"`
	Unavailable *Share `json:"maxUnavailable,omitempty"`
	// MinReady is how long a new replica must be ready without a break before it
	// counts; nil: not given.
	MinReady *time.Duration `json:"minReady,omitempty"`
	// Deadline is how long an update may stand still before it counts as failed.
	Deadline time.Duration `json:"progressDeadline"`
	Canary   *Canary       `json:"canary,omitempty"`
}

// DefaultDeadline is the default of x-berth.rollout.progressDeadline, that of a
// Kubernetes Deployment (progressDeadlineSeconds).
const DefaultDeadline = 10 * time.Minute

// defaultShare is the default of maxSurge and maxUnavailable, that of a
// Kubernetes Deployment.
var defaultShare = Share{Percent: 25, IsShare: true}

// Bounds returns how many of n replicas may be there beyond those wanted, and how
// many may be missing. The surge is rounded up and the unavailable down; where
// both are none, one may be missing, as a Kubernetes Deployment has it
// (ResolveFenceposts). ok is false where the rollout gives neither.
func (r *Rollout) Bounds(n int) (surge, unavailable int, ok bool) {
	if r.Surge == nil && r.Unavailable == nil {
		return 0, 0, false
	}
	s, u := defaultShare, defaultShare
	if r.Surge != nil {
		s = *r.Surge
	}
	if r.Unavailable != nil {
		u = *r.Unavailable
	}
	surge, unavailable = s.Of(n, true), u.Of(n, false)
	if surge == 0 && unavailable == 0 {
		unavailable = 1
	}
	return surge, unavailable, true
}

// Canary sends a growing share of a service to its new revision.
type Canary struct {
	Steps []Share       `json:"steps"`          // at least one, in rising order; all counts or all percentages
	Hold  time.Duration `json:"hold,omitempty"` // how long each step lasts; 0: until somebody resumes the rollout
}

// Publish says who holds a service's published ports.
type Publish string

// The values of x-berth.publish.
const (
	PublishAuto     Publish = ""         // the balancer where two replicas would need one fixed host port
	PublishDirect   Publish = "direct"   // the engine, as in Compose
	PublishBalanced Publish = "balanced" // Berth's balancer
)

// FixedPort reports whether the service publishes a single host port that two
// containers cannot hold at once, but the balancer can for them. It takes all
// ports of a service or none, so one of sctp, which it does not speak, leaves
// them all with the engine.
func (s *Service) FixedPort() bool {
	fixed := func(p runtime.Port) bool { return fixedPort(p.Published) != 0 }
	return slices.ContainsFunc(s.Spec.Ports, fixed) && !slices.ContainsFunc(s.Spec.Ports, unbalanceable)
}

// MayBalance reports whether the balancer is to hold the service's ports by what
// the file says: two of its containers may be there at once, and both would need
// one host port; or the number of replicas follows the connections, or they wake
// it. A service that is scaled up later comes to be balanced as well.
func (s *Service) MayBalance() bool {
	switch {
	case s.Publish == PublishDirect || len(s.Spec.Ports) == 0 || !ownNetwork(s.Spec.NetworkMode):
		return false
	case s.Publish == PublishBalanced, s.Autoscale != nil && s.Autoscale.ByBalancer():
		return true
	}
	return s.FixedPort() && s.mayOverlap()
}

// mayOverlap reports whether two replicas of the service, or two containers of
// one replica, may be there at once on one node.
func (s *Service) mayOverlap() bool {
	surge, _, _ := s.Rollout.Bounds(max(s.Replicas, 1))
	return s.Replicas > 1 || surge > 0 || s.Rollout.Canary != nil || s.Warm > 0 || s.Autoscale != nil && s.Autoscale.Most() > 1 ||
		s.Update.Order == StartFirst || s.RollBack.Order == StartFirst
}

// Balance says how the balancer treats a service's published ports.
type Balance struct {
	Policy  string        `json:"policy,omitempty"` // "": round-robin; least-connections, random-two, source-hash
	Hold    time.Duration `json:"hold"`             // how long a connection waits while no replica is ready
	MaxHeld int           `json:"maxHeld"`          // connections that may wait at a time
	Drain   time.Duration `json:"drain"`            // how long open connections may finish before their replica is stopped
	// DrainIdle is after which quiet a connection that has had its answer is ended
	// while its replica drains; 0: it is left to its client until Drain is over.
	DrainIdle time.Duration `json:"drainIdle"`
}

// Defaults of x-berth.balance and x-berth.drain.
const (
	DefaultHold    = 10 * time.Second
	DefaultMaxHeld = 1024
	DefaultDrain   = 10 * time.Second
	DefaultIdle    = time.Second
)

// Discovery is what a service's name resolves to inside its networks.
type Discovery string

// The values of x-berth.discovery.
const (
	DiscoverAll   Discovery = ""      // all its containers, by the engine's DNS, as in Compose
	DiscoverReady Discovery = "ready" // an address of the balancer, which leads to ready replicas only
)

// ImageUpdate has a service's image looked for on a schedule, and rolled out
// when it has changed.
type ImageUpdate struct {
	Schedule string `json:"schedule"` // cron expression, in UTC
	Policy   string `json:"policy"`   // digest, patch or minor: what the tag names now, a higher third number, a higher second or third one
}
