package stack

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/berth-dev/berth/scheduler"
)

const (
	// localNode is what the part of the engine is called that no node takes.
	localNode = "local"
	// minNodeMemory is the least memory an engine starts a container with.
	minNodeMemory = 6 << 20
	// maxNodeFile is the largest file of nodes that is parsed, in bytes.
	maxNodeFile = 32 << 20
	// maxNodeValues bounds the YAML nodes of such a file: some 30 for each node
	// of a cluster of ten thousand, and room.
	maxNodeValues = 1_000_000
)

// nodeList reads virtual nodes, in the order of their declaration.
func nodeList(list setting) ([]Node, error) {
	var out []Node
	seen := map[string]int{}
	for i, s := range list.list() {
		n, err := node(s)
		if err != nil {
			return nil, err
		}
		name := s.get("name")
		if first, ok := seen[strings.ToLower(n.Name)]; ok {
			return nil, name.fail("the node %q is declared twice; the first is nodes.%d: rename or drop one", n.Name, first)
		}
		seen[strings.ToLower(n.Name)] = i
		out = append(out, n)
	}
	return out, nil
}

// node reads one virtual node.
func node(s setting) (Node, error) {
	n := Node{Node: scheduler.Node{Name: s.get("name").text()}}
	if strings.EqualFold(n.Name, localNode) {
		return n, s.get("name").fail("%q is the engine itself, beside the nodes; choose another name", n.Name)
	}
	for _, part := range []struct {
		key, resource string
		amount        *int64
	}{
		{"cpus", scheduler.CPU, &n.Capacity.CPU}, {"memory", scheduler.Memory, &n.Capacity.Memory},
		{"disk", scheduler.Disk, &n.Capacity.Disk}, {"network", scheduler.Network, &n.Capacity.Network},
	} {
		var err error
		if *part.amount, err = s.get(part.key).amount(part.resource); err != nil {
			return n, err
		}
	}
	if m := s.get("memory"); m.given() && n.Capacity.Memory < minNodeMemory {
		return n, m.fail("is %s; a node needs at least 6M, since no container starts with less", clip(m.text()))
	}
	pids, err := s.get("pids").integer(0)
	if err != nil {
		return n, err
	}
	n.Pids = int64(pids)
	if n.Capacity.Generic, err = pieces(s.get("resources")); err != nil {
		return n, err
	}
	if n.Labels, err = s.get("labels").labels(); err != nil {
		return n, err
	}
	n.Taints, err = taints(s.get("taints"))
	return n, err
}

// pieces reads generic resources by name.
func pieces(s setting) (map[string]int64, error) {
	var out map[string]int64
	for _, p := range s.parts() {
		if err := checkResourceName(p.key()); err != nil {
			return nil, p.fail("%w", err)
		}
		n, err := p.amount(p.key())
		if err != nil {
			return nil, err
		}
		if out == nil {
			out = map[string]int64{}
		}
		out[p.key()] = n
	}
	return out, nil
}

// checkResourceName wants a name that is a word and not one of the resources
// that every node counts.
func checkResourceName(name string) error {
	switch name {
	case scheduler.CPU, "cpus", scheduler.Memory, scheduler.Disk, scheduler.Network:
		return fmt.Errorf("%q is no generic resource; it has a key of its own", name)
	}
	return checkWord(name)
}

func taints(s setting) ([]scheduler.Taint, error) {
	var out []scheduler.Taint
	for _, e := range s.list() {
		t, err := taint(e.text())
		if err != nil {
			return nil, e.fail("%w", err)
		}
		if slices.ContainsFunc(out, func(o scheduler.Taint) bool { return o.Key == t.Key && o.Effect == t.Effect }) {
			return nil, e.fail("a taint %s:%s stands in the list already", t.Key, t.Effect)
		}
		out = append(out, t)
	}
	return out, nil
}

func taint(text string) (scheduler.Taint, error) {
	if err := checkRule(text); err != nil {
		return scheduler.Taint{}, err
	}
	t, err := scheduler.ParseTaint(text)
	if err != nil {
		return t, err
	}
	return t, checkLabel(t.Key, t.Value)
}

// checkRule wants a text that is short and printable enough for a message:
// what it means is for others to check.
func checkRule(s string) error {
	switch {
	case s == "":
		return errors.New("is empty")
	case len(s) > 2*maxName:
		return fmt.Errorf("is longer than %d bytes", 2*maxName)
	case strings.IndexFunc(s, invisible) >= 0:
		return fmt.Errorf("%q holds a control character", clip(s))
	}
	return nil
}

// LoadNodes reads virtual nodes from a file: a list of nodes, a mapping with
// nodes: and overcommit:, or a Compose file with x-berth.nodes, in YAML or JSON.
// Variables are not replaced. An error names file and line.
func LoadNodes(path string) (nodes []Node, overcommit bool, err error) {
	data, err := readRegular(path, maxNodeFile)
	if err != nil {
		return nil, false, fmt.Errorf("%s: %w", path, err)
	}
	src := &source{name: path, path: path, content: data}
	root, err := src.parseNodes()
	if err != nil {
		return nil, false, err
	}
	s, err := src.nodeSetting(root)
	if err != nil {
		return nil, false, err
	}
	list := s
	if root.Kind != yaml.SequenceNode {
		list = s.get("nodes")
	}
	if nodes, err = nodeList(list); err != nil {
		return nil, false, err
	}
	if len(nodes) == 0 {
		return nil, false, fmt.Errorf("%s: there are no nodes in it; give nodes: at least one", path)
	}
	return nodes, s.get("overcommit").flag(), nil
}

// parseNodes reads the one document of a file of nodes.
func (s *source) parseNodes() (*yaml.Node, error) {
	roots, err := s.documents(maxNodeValues)
	if err != nil {
		return nil, err
	}
	switch {
	case len(roots) == 0:
		return nil, fmt.Errorf("%s: the file is empty", s.name)
	case len(roots) > 1:
		return nil, fmt.Errorf("%s: a second document begins here; a file of nodes has one", Position{s.name, roots[1].Line})
	case roots[0].Kind == yaml.ScalarNode:
		return nil, fmt.Errorf("%s: a file of nodes is a list of nodes or a mapping with nodes:; this is %s", Position{s.name, roots[0].Line}, article(kindName(roots[0])))
	}
	s.docs = roots
	return roots[0], nil
}

// nodeSetting checks a file of nodes, in any of its forms, against the schema.
func (s *source) nodeSetting(root *yaml.Node) (setting, error) {
	out := setting{failure: s.failure}
	def := "nodesFile"
	if root.Kind == yaml.SequenceNode {
		def = "nodeList"
	} else if ext := child(root, extensionKey); ext != nil {
		def, root, out.path = "project", resolved(ext), []string{extensionKey}
	}
	rules, err := berthRules()
	if err != nil {
		return out, err
	}
	v := &validator{source: s, root: rules, settled: true, lenient: true}
	if err := v.check(rules.defs[def], root, out.path); err != nil {
		return out, err
	}
	if err := root.Decode(&out.value); err != nil {
		return out, s.yamlError(err)
	}
	return out, nil
}

// failure is an error about a place in this file alone.
func (s *source) failure(err error, path ...string) error {
	n, _ := descend(s.docs[0], path)
	pos := Position{s.name, n.Line}
	if len(path) == 0 {
		return fmt.Errorf("%s: %w", pos, err)
	}
	return fmt.Errorf("%s: %s: %w", pos, clip(strings.Join(path, ".")), err)
}

// NodeFlags are the parts of a node as berth node add takes them: texts in the
// grammar of x-berth.nodes. Empty ones are not given.
type NodeFlags struct {
	Name      string
	CPUs      string
	Memory    string
	Disk      string
	Network   string
	Pids      string
	Resources []string // name=pieces
	Labels    []string // key=value
	Taints    []string // key=value:Effect
}

// ParseNode reads a node from a command line. An error begins with the name of
// the flag.
func ParseNode(f NodeFlags) (Node, error) {
	m := map[string]any{"name": f.Name}
	for key, text := range map[string]string{"cpus": f.CPUs, "memory": f.Memory, "disk": f.Disk, "network": f.Network, "pids": f.Pids} {
		if text != "" {
			m[key] = text
		}
	}
	var err error
	if m["resources"], err = pairs("--resource", f.Resources); err != nil {
		return Node{}, err
	}
	if m["labels"], err = pairs("--label", f.Labels); err != nil {
		return Node{}, err
	}
	list := make([]any, len(f.Taints))
	for i, t := range f.Taints {
		list[i] = t
	}
	m["taints"] = list
	s, err := newSetting(m, "node", flagFailure)
	if err != nil {
		return Node{}, err
	}
	return node(s)
}

// pairs reads key=value texts, none twice.
func pairs(flag string, list []string) (map[string]any, error) {
	out := map[string]any{}
	for _, kv := range list {
		k, v, ok := strings.Cut(kv, "=")
		if !ok || k == "" {
			return nil, fmt.Errorf("%s: %q is not key=value", flag, clip(kv))
		}
		if _, twice := out[k]; twice {
			return nil, fmt.Errorf("%s: %q is given twice", flag, clip(k))
		}
		out[k] = v
	}
	return out, nil
}

// flagFailure names the flag that a part of a node comes from.
func flagFailure(err error, path ...string) error {
	if len(path) == 0 {
		return err
	}
	switch path[0] {
	case "name":
		return fmt.Errorf("the node's name: %w", err)
	case "resources", "labels":
		return fmt.Errorf("--%s %s: %w", strings.TrimSuffix(path[0], "s"), clip(strings.Join(path[1:], ".")), err)
	case "taints":
		return fmt.Errorf("--taint: %w", err)
	}
	return fmt.Errorf("--%s: %w", path[0], err)
}
