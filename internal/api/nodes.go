package api

import (
	"time"

	"github.com/berth-dev/berth/health"
	"github.com/berth-dev/berth/internal/reconcile"
	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/scheduler"
)

// Node is one virtual node of GET /v1/nodes and GET /v1/nodes/{node}.
type Node struct {
	stack.Node
	Status   string               `json:"status"`             // "ready", "cordoned", "draining", "drained", "not ready"
	Declared []string             `json:"declared,omitempty"` // by these stacks; none: by command, or it is the local node
	Promised scheduler.Resources  `json:"promised"`           // to replicas, those to come included
	Replicas []reconcile.Resident `json:"replicas,omitempty"`
	Drain    *reconcile.Drain     `json:"drain,omitempty"`
	// Boundary is what enforces the capacity, or why nothing does.
	Boundary runtime.Boundary `json:"boundary"`
	// Pressure is what the node's cgroup tells of lack; nil where there is none.
	Pressure *runtime.Pressure `json:"pressure,omitempty"`
	// OOM is the last kill for want of memory that the daemon saw here.
	OOM *NodeOOM `json:"oom,omitempty"`
	// Shortage is set while the node is short of memory.
	Shortage *NodeShortage `json:"shortage,omitempty"`
}

// NodeShortage is a lack of memory, and the replicas that had to leave for it.
type NodeShortage struct {
	Since    time.Time `json:"since"`
	Relieved time.Time `json:"relieved,omitzero"` // since when there is enough again; the node takes no replica for a while yet
	Evicted  []Evicted `json:"evicted,omitempty"` // in order of time; a replica that was evicted twice with the last one
}

// Evicted is a replica that had to leave its node.
type Evicted struct {
	Replica string    `json:"replica"` // stack/service/slot
	At      time.Time `json:"at"`
	Why     string    `json:"why"`
}

// NodeOOM is a process that was killed for want of memory.
type NodeOOM struct {
	At        time.Time `json:"at"`                  // when the daemon saw it
	Container string    `json:"container,omitempty"` // the name of the one it hit; empty: not known
	ByNode    bool      `json:"byNode"`              // the node's limit was reached, not the container's own
}

// NodeRequest is the body of POST /v1/nodes, which adds a node.
type NodeRequest struct {
	Node       stack.Node `json:"node"`
	Overcommit bool       `json:"overcommit,omitempty"` // the nodes together may promise more than the engine has
}

// NodeAction is the body of POST /v1/nodes/{node}/{cordon|uncordon|drain|fail|recover}.
type NodeAction struct {
	Deadline time.Duration `json:"deadline,omitempty"` // of a drain; 0: none
}

// Rebalance is the body of POST /v1/rebalance.
type Rebalance struct {
	Goal   string `json:"goal"`           // "balance" or "consolidate"
	Budget string `json:"budget"`         // "5" moves, or "20%" of the replicas
	Plan   bool   `json:"plan,omitempty"` // only tell
}

// Rebalanced answers it.
type Rebalanced struct {
	Moves  []Move   `json:"moves"`
	Fixed  []string `json:"fixed,omitempty"` // replicas that stay, and why
	Before float64  `json:"before"`          // the goal's figure before and after: what it is says Figure
	After  float64  `json:"after"`
	Figure string   `json:"figure"`
	// Reasons say why there is no move, or why there are no more.
	Reasons []string `json:"reasons,omitempty"`
	// Accepted says from which turn on each stack carries its moves out; none for
	// what is only told.
	Accepted []Accepted `json:"accepted,omitempty"`
}

// Move is one replica that changes its node.
type Move struct {
	Stack   string `json:"stack"`
	Service string `json:"service"`
	Slot    int    `json:"slot"`
	From    string `json:"from"`
	To      string `json:"to"`
	Cause   string `json:"cause"`
	// Gain is by how much the move lowers the squared use, in millionths of a
	// fully used node.
	Gain int64 `json:"gain,omitempty"`
}

// Explained answers GET /v1/stacks/{stack}/explain/{service}?slot=N: one entry
// per replica, or the one asked for.
type Explained struct {
	Services []ExplainedService `json:"services,omitempty"` // of the replicas
	Replicas []Explanation      `json:"replicas"`
}

// ExplainedService is what the replicas of a service have in common.
type ExplainedService struct {
	Labels    map[string]string `json:"labels,omitempty"` // deploy.labels
	Rollout   RolloutStatus     `json:"rollout"`
	Published []Published       `json:"published,omitempty"` // by the balancer
	// Traffic is nil where the balancer does nothing for the service. Where one
	// replica was asked for, it has the containers of that one alone.
	Traffic *Traffic `json:"traffic,omitempty"`
	// Scaling is nil where the service is neither scaled nor sized and does not rest.
	Scaling *ServiceScaling `json:"scaling,omitempty"`
}

// Explanation is all that is known of why a replica is as it is.
type Explanation struct {
	Key       reconcile.Key `json:"key"`
	Container string        `json:"container,omitempty"` // name
	State     runtime.State `json:"state,omitempty"`
	Node      string        `json:"node,omitempty"` // where it stands
	// Pressure says that it was killed for want of memory on its node.
	Pressure string           `json:"pressure,omitempty"`
	Hold     string           `json:"hold,omitempty"`  // why nothing is done now
	Steps    []reconcile.Step `json:"steps,omitempty"` // what is done now
	// Probes are what its probes have found, and the ways by which they reach it.
	Probes *health.Status               `json:"probes,omitempty"`
	Routes map[health.Role]health.Route `json:"routes,omitempty"`
	// Restarts are those by Berth, and Backoff what slows the next one down.
	Restarts  int                `json:"restarts,omitempty"`
	Backoff   health.Backoff     `json:"backoff,omitzero"`
	Placement scheduler.Decision `json:"placement"` // how it would be placed now, its own room free
}
