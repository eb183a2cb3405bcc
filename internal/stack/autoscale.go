package stack

import (
	"slices"
	"time"

	"github.com/berth-dev/berth/health"
	"github.com/berth-dev/berth/scaling"
	"github.com/berth-dev/berth/scaling/timetable"
	"github.com/berth-dev/berth/scaling/vertical"
)

// Autoscale is x-berth.autoscale: how many replicas a service has, by what is
// measured, by the clock and by whether anybody uses it. While it is in use it has
// at least Policy.Min of them; a service that rests by Idle has none that runs.
type Autoscale struct {
	// Policy decides by its metrics. It has no metrics where nothing is measured:
	// then only its bounds, the schedules, and Concurrency decide. [scaling.Decide]
	// would take cpu for it.
	Policy  scaling.Policy `json:"policy"`
	Sources []MetricSource `json:"sources,omitempty"` // where the values of Policy.Metrics come from, in the same order
	// Schedules are valid as [timetable.Parse] has it.
	Schedules []timetable.Schedule `json:"schedules,omitempty"`
	Idle      *scaling.Idle        `json:"idle,omitempty"`
	// Concurrency decides too: the larger number counts, and none where it says none,
	// which it does only where the file has a minimum of 0.
	Concurrency *scaling.Concurrency `json:"concurrency,omitempty"`
	// Season is after which time the load is expected to come again, a whole number
	// of slots of package forecast; 0: nothing is expected.
	Season time.Duration `json:"season,omitempty"`
}

// MetricKind is what a metric measures.
type MetricKind string

// The kinds of x-berth.autoscale.metrics, and what one unit of their value is:
// [scaling.Metric] counts thousandths of it, but millicores of cpu and whole bytes
// of memory.
const (
	MetricCPU            MetricKind = "cpu"            // a core
	MetricMemory         MetricKind = "memory"         // a byte of the working set
	MetricNetworkIn      MetricKind = "networkIn"      // a byte in a second
	MetricNetworkOut     MetricKind = "networkOut"     // a byte in a second
	MetricBlockRead      MetricKind = "blockRead"      // a byte in a second
	MetricBlockWrite     MetricKind = "blockWrite"     // a byte in a second
	MetricConnections    MetricKind = "connections"    // an open connection through the balancer
	MetricRequests       MetricKind = "requests"       // a connection that is open or waits for a replica
	MetricConnectionRate MetricKind = "connectionRate" // a new connection in a second
	MetricLatency        MetricKind = "latency"        // a second until a replica has taken a connection, in the mean
	MetricPrometheus     MetricKind = "prometheus"     // of a page that the replicas serve
	MetricExec           MetricKind = "exec"           // printed by a command in a replica
	MetricWebhook        MetricKind = "webhook"        // answered by an address, for the whole service
)

// Balanced reports whether the balancer measures it.
func (k MetricKind) Balanced() bool {
	switch k {
	case MetricConnections, MetricRequests, MetricConnectionRate, MetricLatency:
		return true
	case MetricCPU, MetricMemory, MetricNetworkIn, MetricNetworkOut, MetricBlockRead, MetricBlockWrite,
		MetricPrometheus, MetricExec, MetricWebhook:
	}
	return false
}

// asked reports whether a metric is asked for by a text of the user's, so that
// there may be several of the kind.
func (k MetricKind) asked() bool {
	return k == MetricPrometheus || k == MetricExec || k == MetricWebhook
}

// MetricSource is where the value of a metric comes from. Those of
// [scaling.FromReplicas] are asked of each replica. Of the others of a kind that
// is asked in replicas any ready one is asked; the balancer's count for the whole
// service.
type MetricSource struct {
	Kind MetricKind `json:"kind"`
	// Port, Path, Metric and Labels are of a page in the format of Prometheus: the
	// sum of the samples of that name that have those labels.
	Port   health.Port       `json:"port,omitzero"`
	Path   string            `json:"path,omitempty"`
	Metric string            `json:"metric,omitempty"`
	Labels map[string]string `json:"labels,omitempty"`
	// Command prints the value as a number and nothing else.
	Command []string `json:"command,omitempty"`
	// URL answers a GET with the value as a number and nothing else.
	URL string `json:"url,omitempty"`
}

// Most is how many replicas the service may come to have by the file alone.
func (a *Autoscale) Most() int {
	most := a.Policy.Max
	for _, s := range a.Schedules {
		for _, n := range []*int{s.Min, s.Max, s.Replicas} {
			if n != nil {
				most = max(most, *n)
			}
		}
	}
	return most
}

// ByBalancer reports whether the connections through the balancer are counted: by
// a metric, by Concurrency, or by Idle, which also wakes the service with them.
func (a *Autoscale) ByBalancer() bool {
	return a.Idle != nil || a.Concurrency != nil ||
		slices.ContainsFunc(a.Sources, func(s MetricSource) bool { return s.Kind.Balanced() })
}

// VerticalMode is what is done with recommended limits.
type VerticalMode string

// The modes of x-berth.resources.
const (
	Recommend VerticalMode = "recommend" // they are shown
	Resize    VerticalMode = "auto"      // they are set, in place
)

// Vertical is x-berth.resources: the limits of a service's replicas by what they
// use.
type Vertical struct {
	Mode   VerticalMode    `json:"mode"`
	Bounds vertical.Bounds `json:"bounds,omitzero"`
}
