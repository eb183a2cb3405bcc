package scheduler

import (
	"errors"
	"fmt"
	"strings"
)

// Constraint is one of placement.constraints: "node.labels.zone == a".
type Constraint struct {
	Key    string `json:"key"` // node.id, node.hostname, node.role, node.platform.os|arch, node.labels.X, engine.labels.X
	Negate bool   `json:"negate,omitempty"`
	Value  string `json:"value"`
}

func (c Constraint) String() string {
	op := "=="
	if c.Negate {
		op = "!="
	}
	return fmt.Sprintf("%s %s %s", c.Key, op, c.Value)
}

// ParseConstraint reads "key == value" or "key != value", as Swarm does: the key
// is made of letters, digits, dots, dashes and underscores, begins with a letter
// or an underscore and has at least two characters; the value is not empty and
// holds none of the characters that Swarm forbids. A key that names nothing is
// no error here, it never matches; [Constraint.Known] tells.
func ParseConstraint(s string) (Constraint, error) {
	c, err := parseConstraint(s)
	if err != nil {
		return Constraint{}, fmt.Errorf("constraint %q: %w", s, err)
	}
	return c, nil
}

func parseConstraint(s string) (Constraint, error) {
	equal, differ := strings.Index(s, "=="), strings.Index(s, "!=")
	if equal < 0 && differ < 0 {
		return Constraint{}, errors.New("it has neither == nor !=")
	}
	at, negate := equal, false
	if equal < 0 || differ >= 0 && differ < equal {
		at, negate = differ, true
	}
	c := Constraint{Key: strings.TrimSpace(s[:at]), Negate: negate, Value: strings.TrimSpace(s[at+2:])}
	if !validKey(c.Key) {
		return Constraint{}, fmt.Errorf("%q is not a key", c.Key)
	}
	if !validValue(c.Value) {
		return Constraint{}, fmt.Errorf("%q is not a value", c.Value)
	}
	return c, nil
}

func validKey(key string) bool {
	for i, r := range key {
		if !isLetter(r) && r != '_' && (i == 0 || !isDigit(r) && r != '-' && r != '.') {
			return false
		}
	}
	return len(key) >= 2
}

func validValue(value string) bool {
	for _, r := range value {
		if !isLetter(r) && !isDigit(r) && !strings.ContainsRune(":-_ \t.*()?+[]\\^$|/", r) {
			return false
		}
	}
	return value != ""
}

func isLetter(r rune) bool { return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' }

func isDigit(r rune) bool { return '0' <= r && r <= '9' }

const (
	nodeLabels   = "node.labels."
	engineLabels = "engine.labels."
)

// Known says whether the key names a property of nodes. A constraint on any
// other key never matches, == and != alike.
func (c Constraint) Known() bool {
	_, known := c.property(&Node{})
	return known
}

// property is the node's value of the constraint's key.
func (c Constraint) property(n *Node) (value string, known bool) {
	switch strings.ToLower(c.Key) {
	case "node.id", "node.hostname":
		return n.Name, true
	case "node.role":
		return n.role(), true
	case "node.platform.os":
		return n.OS, true
	case "node.platform.arch":
		return canonicalArch(n.Arch), true
	}
	if label, ok := cutPrefixFold(c.Key, nodeLabels); ok && label != "" {
		return n.Labels[label], true
	}
	if label, ok := cutPrefixFold(c.Key, engineLabels); ok && label != "" {
		return n.EngineLabels[label], true
	}
	return "", false
}

// Matches says whether the node satisfies the constraint. Values are compared
// without regard to case; a label that the node lacks is "".
func (c Constraint) Matches(n Node) bool { return c.matches(&n) }

func (c Constraint) matches(n *Node) bool {
	value, known := c.property(n)
	if !known {
		return false
	}
	want := c.Value
	if strings.EqualFold(c.Key, "node.platform.arch") {
		want = canonicalArch(want)
	}
	return strings.EqualFold(value, want) != c.Negate
}

func (n *Node) role() string {
	if n.Role == "" {
		return "manager"
	}
	return n.Role
}

// label is the node's value of a label: one of its own, or after
// "engine.labels." one of its engine's.
func (n *Node) label(key string) (string, bool) {
	if name, ok := strings.CutPrefix(key, engineLabels); ok {
		v, found := n.EngineLabels[name]
		return v, found
	}
	v, found := n.Labels[key]
	return v, found
}

func cutPrefixFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return s[len(prefix):], true
}

// canonicalArch is the name that images use for an architecture.
func canonicalArch(arch string) string {
	switch a := strings.ToLower(arch); a {
	case "x86_64", "x86-64":
		return "amd64"
	case "aarch64":
		return "arm64"
	case "i386", "i686":
		return "386"
	case "armhf", "armel", "armv7l":
		return "arm"
	default:
		return a
	}
}
