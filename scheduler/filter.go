package scheduler

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// The names of the filters.
const (
	FilterReady        = "ready"        // the node is up, not cordoned and not running out of anything
	FilterTaints       = "taints"       // all taints are tolerated
	FilterPlatform     = "platform"     // operating system and architecture
	FilterConstraints  = "constraints"  // placement.constraints
	FilterNodeAffinity = "nodeAffinity" // node selector and required node terms
	FilterResources    = "resources"    // the reservation fits
	FilterPorts        = "ports"        // the host ports are free
	FilterMaxPerNode   = "maxPerNode"   // max_replicas_per_node
	FilterAffinity     = "affinity"     // near to what it must be near to
	FilterAnti         = "antiAffinity" // far from what it must be far from, and that from it
	FilterSpread       = "spread"       // within maxSkew
)

// filter rejects nodes. why is asked only about nodes that do not pass.
type filter struct {
	name string
	pass func(*survey, *node) bool
	why  func(*survey, *node) reason
}

// reason is why a filter rejects a node: what is the same for all nodes that
// lack the same, and detail what is this node's own.
type reason struct {
	what, detail string
	lacks        []lack // of resources
}

// lack is a resource of which a node has too little.
type lack struct {
	resource   string
	need, free int64
}

func (r reason) String() string {
	if r.detail == "" {
		return r.what
	}
	return r.what + " (" + r.detail + ")"
}

// filters lists the filters in the order in which they are asked.
var filters = []filter{
	{FilterReady, passesReady, whyReady},
	{FilterTaints, func(v *survey, n *node) bool { return v.shape.repelling(n) < 0 }, whyTaint},
	{FilterPlatform, func(v *survey, n *node) bool { return v.shape.fitsPlatform(n) }, whyPlatform},
	{FilterConstraints, func(v *survey, n *node) bool { return v.shape.lacking(n) < 0 }, whyConstraint},
	{FilterNodeAffinity, func(v *survey, n *node) bool { return v.shape.selects(n) }, whyNodeAffinity},
	{FilterResources, passesResources, whyResources},
	{FilterPorts, passesPorts, whyPorts},
	{FilterMaxPerNode, passesMaxPerNode, whyMaxPerNode},
	{FilterAffinity, func(v *survey, n *node) bool { return v.lonely(n) < 0 }, whyAffinity},
	{FilterAnti, passesAnti, whyAnti},
	{FilterSpread, func(v *survey, n *node) bool { return v.skewed(n) < 0 }, whySpread},
}

// feasible says whether every filter lets the node pass.
func (v *survey) feasible(n *node) bool {
	for i := range filters {
		if !filters[i].pass(v, n) {
			return false
		}
	}
	return true
}

func passesReady(v *survey, n *node) bool {
	return !n.Down && !n.Cordoned && (n.Short == "" || v.succeeds)
}

func whyReady(_ *survey, n *node) reason {
	if n.Down {
		return reason{what: "down"}
	}
	if n.Cordoned {
		return reason{what: "cordoned"}
	}
	return reason{what: "short of " + n.Short}
}

// repelling is the index of the first taint that keeps the shape off the node, or -1.
func (s *Shape) repelling(n *node) int {
	return slices.IndexFunc(n.Taints, func(t Taint) bool {
		return t.Effect != PreferNoSchedule && !Tolerated(t, s.template.Tolerate)
	})
}

func whyTaint(v *survey, n *node) reason {
	t := n.Taints[v.shape.repelling(n)]
	what := "taint " + t.label()
	if t.Effect == NoExecute {
		what += ":" + string(NoExecute)
	}
	return reason{what: what}
}

func (s *Shape) fitsPlatform(n *node) bool {
	t := &s.template
	return (t.OS == "" || n.OS == "" || strings.EqualFold(t.OS, n.OS)) &&
		(t.Arch == "" || n.Arch == "" || canonicalArch(t.Arch) == canonicalArch(n.Arch))
}

func whyPlatform(v *survey, n *node) reason {
	return reason{
		what:   "platform not " + platform(v.shape.template.OS, v.shape.template.Arch),
		detail: "node is " + platform(n.OS, n.Arch),
	}
}

func platform(os, arch string) string {
	switch {
	case os == "":
		return arch
	case arch == "":
		return os
	}
	return os + "/" + arch
}

// lacking is the index of the first constraint that the node does not satisfy, or -1.
func (s *Shape) lacking(n *node) int {
	return slices.IndexFunc(s.template.Constraints, func(c Constraint) bool { return !c.matches(n.Node) })
}

func whyConstraint(v *survey, n *node) reason {
	c := v.shape.template.Constraints[v.shape.lacking(n)]
	if !c.Known() {
		return reason{what: "constraint " + c.String(), detail: c.Key + " is no property of nodes"}
	}
	return reason{what: "constraint " + c.String()}
}

// selects says whether the node selector and one required term match the node.
func (s *Shape) selects(n *node) bool {
	t := &s.template
	if slices.ContainsFunc(t.NodeSelector, func(r Requirement) bool { return !r.matches(n.Node) }) {
		return false
	}
	return len(t.NodeRequired) == 0 || slices.ContainsFunc(t.NodeRequired, func(term NodeTerm) bool { return term.matches(n.Node) })
}

// Matches says whether the node satisfies the requirement.
func (r Requirement) Matches(n Node) bool { return r.matches(&n) }

func (r *Requirement) matches(n *Node) bool {
	value, found := n.label(r.Key)
	if r.Key == "" {
		value, found = n.Name, true
	}
	switch r.Operator {
	case In:
		return found && slices.Contains(r.Values, value)
	case NotIn:
		return !found || !slices.Contains(r.Values, value)
	case Exists:
		return found
	case DoesNotExist:
		return !found
	case Gt, Lt:
		return found && r.compares(value)
	}
	return false
}

// compares carries out Gt and Lt.
func (r *Requirement) compares(value string) bool {
	have, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return false
	}
	want, err := strconv.ParseInt(r.Values[0], 10, 64)
	return err == nil && (r.Operator == Gt && have > want || r.Operator == Lt && have < want)
}

func (t *NodeTerm) matches(n *Node) bool {
	for i := range t.Requirements {
		if !t.Requirements[i].matches(n) {
			return false
		}
	}
	return len(t.Requirements) > 0
}

func (r Requirement) String() string {
	text := keyName(r.Key) + " " + string(r.Operator)
	if len(r.Values) > 0 {
		text += " " + strings.Join(r.Values, ",")
	}
	return text
}

func whyNodeAffinity(v *survey, n *node) reason {
	for _, r := range v.shape.template.NodeSelector {
		if !r.matches(n.Node) {
			return reason{what: "node selector " + r.String()}
		}
	}
	return reason{what: "required node affinity"}
}

// free is what the node still can promise; below zero when it promised too much.
func (v *survey) free(n *node, resource int) int64 {
	free := n.alloc[resource] - n.used[resource]
	for slot := range v.gone {
		if r := &v.cluster.records[slot]; r.node == n.index {
			free += r.shape.need[resource]
		}
	}
	return free
}

func (v *survey) freeGeneric(n *node, name string) int64 {
	free := n.Capacity.Generic[name] - n.Reserved.Generic[name] - n.generic[name]
	for slot := range v.gone {
		if r := &v.cluster.records[slot]; r.node == n.index {
			free += r.shape.template.Reservation.Generic[name]
		}
	}
	return free
}

func passesResources(v *survey, n *node) bool {
	need := &v.shape.need
	for i := range need {
		if need[i] > 0 && n.counted[i] && need[i] > v.free(n, i) {
			return false
		}
	}
	for _, g := range v.shape.generic {
		if g.amount > v.freeGeneric(n, g.name) {
			return false
		}
	}
	return true
}

// lacks lists the resources of which the node has too little.
func (v *survey) lacks(n *node) []lack {
	var all []lack
	for i, need := range v.shape.need {
		if free := v.free(n, i); need > 0 && n.counted[i] && need > free {
			all = append(all, lack{resourceNames[i], need, max(free, 0)})
		}
	}
	for _, g := range v.shape.generic {
		if free := v.freeGeneric(n, g.name); g.amount > free {
			all = append(all, lack{g.name, g.amount, max(free, 0)})
		}
	}
	return all
}

func whyResources(v *survey, n *node) reason {
	all := v.lacks(n)
	names, needs, frees := make([]string, len(all)), make([]string, len(all)), make([]string, len(all))
	for i, l := range all {
		names[i], needs[i], frees[i] = l.resource, FormatAmount(l.resource, l.need), FormatAmount(l.resource, l.free)
	}
	return reason{
		what:   "insufficient " + listed(names),
		detail: "needs " + listed(needs) + ", " + listed(frees) + " free",
		lacks:  all,
	}
}

// listed joins words as a sentence does.
func listed(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " and " + words[len(words)-1]
}

// holder is the placement on the node that holds a port which conflicts, or -1.
func (v *survey) holder(n *node, p HostPort) int32 {
	for _, h := range n.ports {
		if p.conflicts(h.port) && !v.gone[h.by] {
			return h.by
		}
	}
	return -1
}

// taken finds a port that the shape needs and that is held, and by which placement.
func (v *survey) taken(n *node) (HostPort, int32) {
	for _, p := range v.shape.template.Ports {
		if by := v.holder(n, p); by >= 0 {
			return p, by
		}
		if !v.cluster.policy.sharedPorts {
			continue
		}
		for other := range v.cluster.each() {
			if by := v.holder(other, p); by >= 0 {
				return p, by
			}
		}
	}
	return HostPort{}, -1
}

func passesPorts(v *survey, n *node) bool {
	if len(v.shape.template.Ports) == 0 {
		return true
	}
	_, by := v.taken(n)
	return by < 0
}

func whyPorts(v *survey, n *node) reason {
	p, by := v.taken(n)
	r := v.cluster.replica(by)
	return reason{what: "host port " + p.String() + " taken", detail: "by " + r.ID + " on " + r.Node}
}

// own counts the replicas of the shape's service on the node.
func (v *survey) own(n *node) int {
	count := 0
	for _, slot := range n.slots {
		if v.cluster.records[slot].shape.service == v.shape.service && !v.gone[slot] {
			count++
		}
	}
	return count
}

func passesMaxPerNode(v *survey, n *node) bool {
	most := v.shape.template.MaxPerNode
	return most == 0 || v.own(n) < most
}

func whyMaxPerNode(v *survey, _ *node) reason {
	return reason{what: fmt.Sprintf("max_replicas_per_node %d reached", v.shape.template.MaxPerNode)}
}

// lonely is the index of the first required affinity that the node does not
// satisfy, or -1. Where no replica that the term names stands anywhere, and the
// shape's own service is one that it names, the first replica may go to any node
// that has the label.
func (v *survey) lonely(n *node) int {
	for i, term := range v.shape.template.Affinity {
		d, ok := n.domain(term.TopologyKey)
		if !ok || v.near[i][d] == 0 && !v.first(i) {
			return i
		}
	}
	return -1
}

func (v *survey) first(i int) bool {
	return !v.near[i].any() && slices.Contains(v.shape.template.Affinity[i].Services, v.shape.service.name)
}

func whyAffinity(v *survey, n *node) reason {
	term := v.shape.template.Affinity[v.lonely(n)]
	if _, ok := n.domain(term.TopologyKey); !ok {
		return reason{what: "no label " + term.TopologyKey}
	}
	return reason{what: "no " + strings.Join(term.Services, " or ") + where(term.TopologyKey)}
}

// where says in which domain something is.
func where(key string) string {
	if key == "" {
		return " on the node"
	}
	return " in its " + key
}

// crowded is the index of the first required anti-affinity that the node violates, or -1.
func (v *survey) crowded(n *node) int {
	for i, term := range v.shape.template.Anti {
		if d, ok := n.domain(term.TopologyKey); ok && v.far[i][d] > 0 {
			return i
		}
	}
	return -1
}

// unwanted says whether a placed replica keeps the shape off the node, and by which key.
func (v *survey) unwanted(n *node) (key string, yes bool) {
	for k, domains := range v.repelled {
		if d, ok := n.domain(k); ok && domains[d] > 0 && (!yes || k < key) {
			key, yes = k, true
		}
	}
	return key, yes
}

func passesAnti(v *survey, n *node) bool {
	if v.crowded(n) >= 0 {
		return false
	}
	_, unwanted := v.unwanted(n)
	return !unwanted
}

func whyAnti(v *survey, n *node) reason {
	if i := v.crowded(n); i >= 0 {
		term := v.shape.template.Anti[i]
		return reason{what: "antiAffinity to " + strings.Join(term.Services, ", ") + where(term.TopologyKey)}
	}
	key, _ := v.unwanted(n)
	return reason{what: "antiAffinity of a replica" + where(key)}
}

// skewed is the index of the first spread rule that the node violates, or -1.
func (v *survey) skewed(n *node) int {
	return slices.IndexFunc(v.spread, func(r spreadCount) bool {
		if r.rule.Prefer {
			return false
		}
		d, ok := n.domain(r.rule.TopologyKey)
		return !ok || r.domains[d]+1-r.least > r.rule.MaxSkew
	})
}

func whySpread(v *survey, n *node) reason {
	r := v.spread[v.skewed(n)]
	d, ok := n.domain(r.rule.TopologyKey)
	if !ok {
		return reason{what: "no label " + r.rule.TopologyKey}
	}
	return reason{
		what:   fmt.Sprintf("spread over %s beyond maxSkew %d", keyName(r.rule.TopologyKey), r.rule.MaxSkew),
		detail: fmt.Sprintf("%d in %s, fewest %d", r.domains[d], d, r.least),
	}
}
