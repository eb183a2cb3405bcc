package reconcile

import (
	"slices"
	"time"

	"github.com/berth-dev/berth/scheduler"
)

// Cluster is what a stack's plan knows of the virtual nodes: those its replicas
// may stand on, and what replicas of other stacks hold of them.
type Cluster struct {
	Nodes  []Node           `json:"nodes"` // in the order of their declaration
	Others []Resident       `json:"others,omitempty"`
	Policy scheduler.Policy `json:"policy,omitzero"`
	// Evict are replicas of this stack that make room for a more important one of
	// another stack, and why.
	Evict map[Key]string `json:"evict,omitempty"`
	// Shed are replicas of this stack that were told to leave a node which runs out
	// of memory, for as long as it does.
	Shed map[Key]Shed `json:"shed,omitempty"`
}

// Shed says which container of a replica is to leave its node, and why. It stops
// with its grace, whatever that does to its service's availability.
type Shed struct {
	Container string    `json:"container"` // its ID; the replica's next one may stand anywhere else
	Node      string    `json:"node"`
	Why       string    `json:"why"`
	At        time.Time `json:"at"`
}

// Node is one virtual node as a plan sees it.
type Node struct {
	scheduler.Node
	// Parent is the cgroup under which the node's containers run; empty: they run
	// where the engine puts them.
	Parent string `json:"parent,omitempty"`
	// Pending says why no container can be created on it yet, such as a boundary
	// that is still to be made.
	Pending string `json:"pending,omitempty"`
	Drain   *Drain `json:"drain,omitempty"` // set while it is to be emptied
	// Closed: nothing new is placed here for this stack; what stands here stays.
	Closed bool `json:"closed,omitempty"`
}

// withoutPending is the cluster once all its nodes can be used.
func (c *Cluster) withoutPending() *Cluster {
	if c == nil {
		return nil
	}
	ready := *c
	ready.Nodes = slices.Clone(c.Nodes)
	for i := range ready.Nodes {
		ready.Nodes[i].Pending = ""
	}
	return &ready
}

// Drain says that a node is to be emptied.
type Drain struct {
	Since time.Time `json:"since"`
	// Deadline is when the replicas that are still there are taken away without
	// regard to their services' availability; zero: never.
	Deadline time.Time `json:"deadline,omitzero"`
}

// Resident is one replica on a node, or on its way there.
type Resident struct {
	Stack   string `json:"stack"`
	Service string `json:"service"`
	Slot    int    `json:"slot"`
	Node    string `json:"node"`
	// Container is the ID of the one that stands there; empty: it is still to come.
	Container string              `json:"container,omitempty"`
	Started   time.Time           `json:"started,omitzero"` // zero: it does not run yet
	Template  *scheduler.Template `json:"template"`
	// Fixed says why a rebalance must not move it; empty: it may.
	Fixed string `json:"fixed,omitempty"`
}

// key is the replica's key in its stack.
func (r *Resident) key() Key { return ReplicaKey(r.Service, r.Slot) }

// id names the replica among those of all stacks.
func (r *Resident) id() string { return r.Stack + "/" + string(r.key()) }

// RequestMove is the request to replace a container by one on another node.
const RequestMove = "move"

// Placed is what a plan has decided about nodes: it is the cluster's business,
// not the engine's.
type Placed struct {
	// Residents are the stack's own replicas, those to come included.
	Residents []Resident
	// Evict are the replicas of other stacks that are to make room, by stack.
	Evict map[string]map[Key]string
	// Refused is how many replicas no node takes.
	Refused int
	// Refusals are the holds of these replicas.
	Refusals map[Key]Hold
}

// LocalNode is the name of the node that stands for the whole engine.
const LocalNode = "local"
