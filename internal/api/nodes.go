package api

import (
	"time"

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
	// Parent is the cgroup whose limits are the node's capacity; empty, and
	// Unenforced says why, where capacity is accounting only.
	Parent     string `json:"parent,omitempty"`
	Unenforced string `json:"unenforced,omitempty"`
	// Pressure is what the node's cgroup tells of lack; nil where there is none.
	Pressure *NodePressure `json:"pressure,omitempty"`
}

// NodePressure is how near a node is to its limits, as its cgroup tells.
type NodePressure struct {
	Memory    int64     `json:"memory"`              // bytes in use
	OOMKills  int64     `json:"oomKills"`            // since the cgroup was made
	LastOOM   time.Time `json:"lastOom,omitzero"`    // when the daemon saw the last one
	Victim    string    `json:"victim,omitempty"`    // the container that it hit
	Throttled float64   `json:"throttled,omitempty"` // share of CPU periods in which it was held back, 0..1
	Pids      int64     `json:"pids,omitempty"`
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
}

// Move is one replica that changes its node.
type Move struct {
	Stack   string `json:"stack"`
	Service string `json:"service"`
	Slot    int    `json:"slot"`
	From    string `json:"from"`
	To      string `json:"to"`
	Cause   string `json:"cause"`
}

// Explained answers GET /v1/stacks/{stack}/explain/{service}?slot=N: one entry
// per replica, or the one asked for.
type Explained struct {
	Replicas []Explanation `json:"replicas"`
}

// Explanation is all that is known of why a replica is as it is.
type Explanation struct {
	Key       reconcile.Key      `json:"key"`
	Container string             `json:"container,omitempty"` // name
	State     runtime.State      `json:"state,omitempty"`
	Node      string             `json:"node,omitempty"`  // where it stands
	Hold      string             `json:"hold,omitempty"`  // why nothing is done now
	Steps     []reconcile.Step   `json:"steps,omitempty"` // what is done now
	Placement scheduler.Decision `json:"placement"`       // how it would be placed now, its own room free
}
