package scheduler

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Node is a virtual node: a capacity with a name, labels and taints.
type Node struct {
	Name     string            `json:"name"`
	Capacity Resources         `json:"capacity"`
	Reserved Resources         `json:"reserved,omitzero"` // of the capacity, what is never promised to a replica
	Labels   map[string]string `json:"labels,omitempty"`
	Taints   []Taint           `json:"taints,omitempty"`
	// EngineLabels, OS and Arch are of the engine that runs the node's
	// containers; constraints and platforms are checked against them. An empty
	// OS or Arch is unknown and fits every replica.
	EngineLabels map[string]string `json:"engineLabels,omitempty"`
	OS           string            `json:"os,omitempty"`
	Arch         string            `json:"arch,omitempty"`
	Role         string            `json:"role,omitempty"` // what node.role is; empty: manager, as the only node of a swarm is

	Cordoned bool `json:"cordoned,omitempty"` // accepts no more replicas
	Down     bool `json:"down,omitempty"`     // failed: runs none
	// Short names what the node is running out of, such as "memory": until that is
	// over it accepts no more replicas, but for the successors of its own.
	Short string `json:"short,omitempty"`
}

// closed reports whether the node, which may be up, accepts no more replicas.
func (n *Node) closed() bool { return n.Cordoned || n.Short != "" }

// clone returns a copy that shares nothing with the node.
func (n Node) clone() Node {
	n.Capacity, n.Reserved = n.Capacity.clone(), n.Reserved.clone()
	n.Labels, n.EngineLabels = maps.Clone(n.Labels), maps.Clone(n.EngineLabels)
	n.Taints = slices.Clone(n.Taints)
	return n
}

// check returns what is wrong with the node's declaration.
func (n Node) check() error {
	if n.Name == "" {
		return errors.New("a node has no name")
	}
	if err := n.Capacity.check(); err != nil {
		return fmt.Errorf("node %s: capacity: %w", n.Name, err)
	}
	if err := n.Reserved.check(); err != nil {
		return fmt.Errorf("node %s: reserved: %w", n.Name, err)
	}
	capacity, reserved := n.Capacity.amounts(), n.Reserved.amounts()
	for i := range capacity {
		if reserved[i] > capacity[i] {
			return n.reservesMore(resourceNames[i], reserved[i], capacity[i])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(n.Reserved.Generic)) {
		if n.Reserved.Generic[name] > n.Capacity.Generic[name] {
			return n.reservesMore(name, n.Reserved.Generic[name], n.Capacity.Generic[name])
		}
	}
	for _, t := range n.Taints {
		if err := t.check(); err != nil {
			return fmt.Errorf("node %s: %w", n.Name, err)
		}
	}
	return nil
}

func (n Node) reservesMore(resource string, reserved, capacity int64) error {
	return fmt.Errorf("node %s: reserved %s is %s, more than the node's %s",
		n.Name, resource, FormatAmount(resource, reserved), FormatAmount(resource, capacity))
}

// Effect is what a taint does to replicas that do not tolerate it.
type Effect string

// The effects of taints, as Kubernetes has them.
const (
	NoSchedule       Effect = "NoSchedule"       // not placed here
	PreferNoSchedule Effect = "PreferNoSchedule" // placed here last
	NoExecute        Effect = "NoExecute"        // not placed here, and taken away from here
)

func (e Effect) check() error {
	switch e {
	case NoSchedule, PreferNoSchedule, NoExecute:
		return nil
	}
	return fmt.Errorf("effect %q is none of %s, %s and %s", string(e), NoSchedule, PreferNoSchedule, NoExecute)
}

// Taint repels the replicas that do not tolerate it.
type Taint struct {
	Key    string `json:"key"`
	Value  string `json:"value,omitempty"`
	Effect Effect `json:"effect"`
}

func (t Taint) String() string { return fmt.Sprintf("%s:%s", t.label(), t.Effect) }

// label is the taint without its effect.
func (t Taint) label() string {
	if t.Value == "" {
		return t.Key
	}
	return t.Key + "=" + t.Value
}

func (t Taint) check() error {
	if t.Key == "" {
		return errors.New("a taint has no key")
	}
	if err := t.Effect.check(); err != nil {
		return fmt.Errorf("taint %s: %w", t.label(), err)
	}
	return nil
}

// ParseTaint reads "key=value:Effect" or "key:Effect".
func ParseTaint(s string) (Taint, error) {
	label, effect, ok := cutLast(s, ":")
	if !ok {
		return Taint{}, fmt.Errorf("taint %q has no effect: write key=value:%s", s, NoSchedule)
	}
	key, value, _ := strings.Cut(label, "=")
	t := Taint{Key: strings.TrimSpace(key), Value: strings.TrimSpace(value), Effect: Effect(strings.TrimSpace(effect))}
	if err := t.check(); err != nil {
		return Taint{}, fmt.Errorf("taint %q: %w", s, err)
	}
	return t, nil
}

// Toleration lets a replica stand on a node in spite of a taint. An empty key
// is every key with any value, and an empty effect every effect. With Exists any
// value of the key will do, without it only Value, empty being a value too.
type Toleration struct {
	Key    string `json:"key,omitempty"`
	Exists bool   `json:"exists,omitempty"`
	Value  string `json:"value,omitempty"`
	Effect Effect `json:"effect,omitempty"`
}

func (t Toleration) String() string {
	var b strings.Builder
	switch {
	case t.Key == "":
		b.WriteByte('*')
	case t.Exists:
		b.WriteString(t.Key)
	default:
		b.WriteString(t.Key + "=" + t.Value)
	}
	if t.Effect != "" {
		b.WriteString(":" + string(t.Effect))
	}
	return b.String()
}

func (t Toleration) check() error {
	if t.Effect == "" {
		return nil
	}
	if err := t.Effect.check(); err != nil {
		return fmt.Errorf("toleration %s: %w", t, err)
	}
	return nil
}

// tolerates says whether the toleration covers the taint.
func (t Toleration) tolerates(taint Taint) bool {
	if t.Effect != "" && t.Effect != taint.Effect {
		return false
	}
	if t.Key == "" {
		return true
	}
	return t.Key == taint.Key && (t.Exists || t.Value == taint.Value)
}

// Tolerated says whether one of the tolerations covers the taint.
func Tolerated(taint Taint, by []Toleration) bool {
	return slices.ContainsFunc(by, func(t Toleration) bool { return t.tolerates(taint) })
}

// ParseToleration reads "key=value:Effect" (that value), "key:Effect" (any
// value) or "*" (every taint); without an effect it covers all effects.
func ParseToleration(s string) (Toleration, error) {
	label, effect, _ := cutLast(s, ":")
	key, value, hasValue := strings.Cut(label, "=")
	t := Toleration{Key: strings.TrimSpace(key), Value: strings.TrimSpace(value), Effect: Effect(strings.TrimSpace(effect))}
	switch {
	case t.Key == "*" && !hasValue:
		t.Key = ""
	case t.Key == "":
		return Toleration{}, fmt.Errorf("toleration %q has no key: write key, key=value or *", s)
	default:
		t.Exists = !hasValue
	}
	if err := t.check(); err != nil {
		return Toleration{}, fmt.Errorf("toleration %q: %w", s, err)
	}
	return t, nil
}

// cutLast is [strings.Cut] at the last separator.
func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
