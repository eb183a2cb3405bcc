package scheduler

import "fmt"

// Node is a virtual node: a capacity with a name, labels and taints.
type Node struct {
	Name     string            `json:"name"`
	Capacity Resources         `json:"capacity"`
	Reserved Resources         `json:"reserved,omitzero"` // of the capacity, what is never promised to a replica
	Labels   map[string]string `json:"labels,omitempty"`
	Taints   []Taint           `json:"taints,omitempty"`
	// EngineLabels, OS and Arch are of the engine that runs the node's
	// containers; constraints and platforms are checked against them.
	EngineLabels map[string]string `json:"engineLabels,omitempty"`
	OS           string            `json:"os,omitempty"`
	Arch         string            `json:"arch,omitempty"`

	Cordoned bool `json:"cordoned,omitempty"` // accepts no more replicas
	Down     bool `json:"down,omitempty"`     // failed: runs none
}

// Effect is what a taint does to replicas that do not tolerate it.
type Effect string

// The effects of taints, as Kubernetes has them.
const (
	NoSchedule       Effect = "NoSchedule"       // not placed here
	PreferNoSchedule Effect = "PreferNoSchedule" // placed here last
	NoExecute        Effect = "NoExecute"        // not placed here, and taken away from here
)

// Taint repels the replicas that do not tolerate it.
type Taint struct {
	Key    string `json:"key"`
	Value  string `json:"value,omitempty"`
	Effect Effect `json:"effect"`
}

func (t Taint) String() string {
	if t.Value == "" {
		return fmt.Sprintf("%s:%s", t.Key, t.Effect)
	}
	return fmt.Sprintf("%s=%s:%s", t.Key, t.Value, t.Effect)
}

// Toleration lets a replica stand on a node in spite of a taint. The zero value
// of each field matches every taint in that field; Exists says that any value
// will do.
type Toleration struct {
	Key    string `json:"key,omitempty"`
	Exists bool   `json:"exists,omitempty"`
	Value  string `json:"value,omitempty"`
	Effect Effect `json:"effect,omitempty"`
}
