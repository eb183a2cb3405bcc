package stack

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/berth-dev/berth/scheduler"
)

// modes are the values of deploy.mode.
var modes = []string{"replicated", string(Global), string(ReplicatedJob), string(GlobalJob)}

// mode wants a known deploy.mode, and none of the keys that contradict it. As
// with docker stack deploy, the nodes alone count the replicas of a global service.
func (c *checker) mode(s types.ServiceConfig) error {
	m := mode(s)
	if m != Replicated && !slices.Contains(modes, string(m)) {
		return c.bad(s, "deploy.mode", "%q is not one of %s", clip(string(m)), strings.Join(modes, ", "))
	}
	const onePerNode = "cannot be given with mode: %s, which runs one replica on each node; drop it, or use mode: replicated"
	switch {
	case m.PerNode() && s.Scale != nil:
		return c.bad(s, "scale", onePerNode, m)
	case m.PerNode() && s.Deploy.Replicas != nil:
		return c.bad(s, "deploy.replicas", onePerNode, m)
	case m.PerNode() && s.Deploy.Placement.MaxReplicas > 0:
		return c.bad(s, "deploy.placement.max_replicas_per_node", onePerNode, m)
	case m.Job() && s.Deploy.UpdateConfig != nil:
		return c.bad(s, "deploy.update_config", "cannot be given with mode: %s: a changed job is run again, not updated; drop it", m)
	}
	return nil
}

// reserved wants reservations that the service's own limits leave room for.
func (c *checker) reserved(s types.ServiceConfig) error {
	if s.Deploy == nil || s.Deploy.Resources.Reservations == nil {
		return nil
	}
	cores, limit := s.Deploy.Resources.Reservations.NanoCPUs, limits(s).NanoCPUs
	if cores < 0 {
		return c.bad(s, "deploy.resources.reservations.cpus", "is less than 0")
	}
	if reserved := nanoCPUs(float32(cores)); limit > 0 && reserved > limit {
		return c.bad(s, "deploy.resources.reservations.cpus", "reserves %s, more than the service's limit of %s; lower it or raise the limit",
			formatCores(reserved/1_000_000), formatCores(limit/1_000_000))
	}
	return nil
}

// checkPlacement refuses what no node of the stack could ever take, and warns
// of what none of them takes now.
func (l *loading) checkPlacement(s *Stack) error {
	l.includedNodes()
	for i := range s.Services {
		c := placement{loading: l, stack: s, service: &s.Services[i], template: &s.Services[i].Placement}
		for _, f := range []func() error{c.size, c.limits, c.oncePerEngine, c.named, c.contradicting, c.rejected} {
			if err := f(); err != nil {
				return err
			}
		}
		c.labels()
	}
	return l.affinityCycle(s)
}

// includedNodes warns of nodes in files that others include: they are not part
// of the project, as with all of Compose's own top-level extensions.
func (l *loading) includedNodes() {
	for _, src := range l.sources {
		n := src.find(extensionKey)
		if n == nil || !src.included || !src.whole {
			continue
		}
		w := Warning{Position: Position{src.name, n.Line}, Path: extensionKey, Message: "has no effect in an included file; move it to the file that includes this one"}
		l.warnings[w] = true
	}
}

// placement checks where the replicas of one service can stand.
type placement struct {
	*loading
	stack    *Stack
	service  *Service
	template *scheduler.Template
}

// bad is an error about a key of the service, given with dots.
func (c *placement) bad(key, format string, args ...any) error {
	return c.fail(fmt.Errorf(format, args...), c.path(key)...)
}

func (c *placement) path(key string) []string {
	path := []string{"services", c.service.Name}
	if key != "" {
		path = append(path, strings.Split(key, ".")...)
	}
	return path
}

// reservedKeys says where each resource is reserved.
var reservedKeys = map[string]string{
	scheduler.CPU:     "deploy.resources.reservations.cpus",
	scheduler.Memory:  "deploy.resources.reservations.memory",
	scheduler.Disk:    "x-berth.reservations.disk",
	scheduler.Network: "x-berth.reservations.network",
}

// size wants a node that is large enough for one replica.
func (c *placement) size() error {
	if len(c.stack.Nodes) == 0 {
		return nil
	}
	var short []string // of any node, the resource that is short
	for i := range c.stack.Nodes {
		name := lacks(c.template.Reservation, c.stack.Nodes[i].Capacity)
		if name == "" {
			return nil
		}
		short = append(short, name)
	}
	for _, name := range short {
		need := amountOf(c.template.Reservation, name)
		largest, most := largestNode(c.stack.Nodes, name)
		if need <= most {
			continue
		}
		return c.bad(c.reservedKey(name), "each replica reserves %s %s, more than any node has: the largest, %s, has %s",
			scheduler.FormatAmount(name, need), name, largest, scheduler.FormatAmount(name, most))
	}
	return c.bad("deploy.resources.reservations", "no node is large enough for a replica in all resources at once: %s lacks %s",
		c.stack.Nodes[0].Name, short[0])
}

// reservedKey is where the service reserves a resource.
func (c *placement) reservedKey(resource string) string {
	switch key := reservedKeys[resource]; {
	case resource == scheduler.Memory:
		return c.present(key, "mem_reservation")
	case key != "":
		return key
	}
	return "deploy.resources.reservations.generic_resources"
}

// lacks names the first resource of which an empty node has too little, or "".
func lacks(need, have scheduler.Resources) string {
	for _, name := range []string{scheduler.CPU, scheduler.Memory, scheduler.Disk, scheduler.Network} {
		if most := amountOf(have, name); most > 0 && amountOf(need, name) > most {
			return name
		}
	}
	for _, name := range slices.Sorted(maps.Keys(need.Generic)) {
		if need.Generic[name] > have.Generic[name] {
			return name
		}
	}
	return ""
}

// amountOf is the amount of a resource by name.
func amountOf(r scheduler.Resources, name string) int64 {
	switch name {
	case scheduler.CPU:
		return r.CPU
	case scheduler.Memory:
		return r.Memory
	case scheduler.Disk:
		return r.Disk
	case scheduler.Network:
		return r.Network
	}
	return r.Generic[name]
}

// largestNode is the first node with the most of a resource; one that does not
// count it has no end of it.
func largestNode(nodes []Node, resource string) (name string, most int64) {
	most = -1
	for i := range nodes {
		n := amountOf(nodes[i].Capacity, resource)
		if _, counted := reservedKeys[resource]; counted && n == 0 {
			n = scheduler.MaxAmount
		}
		if n > most {
			name, most = nodes[i].Name, n
		}
	}
	return name, most
}

// limits wants a node as large as the service's limits: a limit above its node
// could never be reached.
func (c *placement) limits() error {
	if len(c.stack.Nodes) == 0 {
		return nil
	}
	l := c.service.Spec.Limits
	for _, part := range []struct {
		resource string
		keys     []string
		limit    int64
	}{
		{scheduler.CPU, []string{"deploy.resources.limits.cpus", "cpus"}, l.NanoCPUs / 1_000_000},
		{scheduler.Memory, []string{"deploy.resources.limits.memory", "mem_limit"}, l.Memory},
	} {
		largest, most := largestNode(c.stack.Nodes, part.resource)
		if part.limit > most {
			return c.bad(c.present(part.keys...), "the limit of %s %s is more than any node has: the largest, %s, has %s; lower the limit",
				scheduler.FormatAmount(part.resource, part.limit), part.resource, largest, scheduler.FormatAmount(part.resource, most))
		}
	}
	largest, most := "", int64(0)
	for i := range c.stack.Nodes {
		n := c.stack.Nodes[i].Pids
		if n == 0 {
			return nil
		}
		if n > most {
			largest, most = c.stack.Nodes[i].Name, n
		}
	}
	if l.Pids > most {
		return c.bad(c.present("deploy.resources.limits.pids", "pids_limit"), "the limit of %d pids is more than any node has: the largest, %s, has %d; lower the limit", l.Pids, largest, most)
	}
	return nil
}

// present is the first of the keys that the files have.
func (c *placement) present(keys ...string) string {
	for _, key := range keys {
		for _, src := range c.sources {
			if src.find(c.path(key)...) != nil {
				return key
			}
		}
	}
	return keys[0]
}

// oncePerEngine refuses a global service that needs, for each replica, what one
// engine has once.
func (c *placement) oncePerEngine() error {
	t := c.template
	if !c.service.Mode.PerNode() || len(c.stack.Nodes) < 2 {
		return nil
	}
	if len(t.Constraints)+len(t.NodeSelector)+len(t.NodeRequired) > 0 {
		return nil // they may leave one node
	}
	if c.service.ContainerName != "" {
		return c.bad("container_name", "gives one name, but mode: %s runs a replica on each of %d nodes, and names are unique on an engine; drop container_name:", c.service.Mode, len(c.stack.Nodes))
	}
	if len(t.Ports) > 0 {
		return c.bad("ports", "the host port %d can be held by one container, but mode: %s runs a replica on each of %d nodes of one engine; leave the host port out, constrain the service to one node, or let the balancer hold it with x-berth.publish: balanced",
			t.Ports[0].Port, c.service.Mode, len(c.stack.Nodes))
	}
	return nil
}

// termLists are the service's terms about other services, with their keys.
func (c *placement) termLists() []termList {
	t := c.template
	return []termList{
		{"x-berth.affinity.required", t.Affinity, true}, {"x-berth.affinity.preferred", t.AffinityLike, false},
		{"x-berth.antiAffinity.required", t.Anti, false}, {"x-berth.antiAffinity.preferred", t.AntiLike, false},
	}
}

type termList struct {
	key   string
	terms []scheduler.ServiceTerm
	needs bool // without a replica of the service that is named nothing is placed
}

// named wants the services of affinity terms to exist.
func (c *placement) named() error {
	for _, list := range c.termLists() {
		for i, term := range list.terms {
			active := false
			for _, name := range term.Services {
				active = active || c.stack.Service(name) != nil
				if c.stack.Service(name) == nil && !slices.Contains(c.stack.Inactive, name) {
					return c.undefined(list.key+"."+strconv.Itoa(i)+".services", name)
				}
			}
			if list.needs && !active {
				return c.bad(list.key+"."+strconv.Itoa(i)+".services", "%s is in an inactive profile, so no node has a replica to be near to: activate it with --profile, or use preferred:",
					listNames(term.Services))
			}
		}
	}
	return nil
}

func (c *placement) undefined(key, name string) error {
	var known []string
	for i := range c.stack.Services {
		known = append(known, c.stack.Services[i].Name)
	}
	if near := nearest(name, known); near != "" {
		return c.bad(key, "the service %q is not defined; did you mean %s?", clip(name), near)
	}
	return c.bad(key, "the service %q is not defined; the file has %s", clip(name), listNames(known))
}

// contradicting refuses required affinity to services that required
// anti-affinity forbids by the same key.
func (c *placement) contradicting() error {
	for i, near := range c.template.Affinity {
		for _, far := range c.template.Anti {
			if near.TopologyKey == far.TopologyKey && subset(near.Services, far.Services) {
				return c.bad("x-berth.affinity.required."+strconv.Itoa(i), "and antiAffinity.required both name %s by the same topologyKey, %s: no node can satisfy both; drop one",
					listNames(near.Services), keyName(near.TopologyKey))
			}
		}
	}
	return nil
}

// rejected refuses required affinity to a service that does not bear this one
// in the same domain. Where the other service has no replica yet nothing may be
// placed, and once it has one it keeps this service away.
func (c *placement) rejected() error {
	for i, near := range c.template.Affinity {
		for _, name := range near.Services {
			other := c.stack.Service(name)
			if other == nil || len(near.Services) > 1 {
				continue
			}
			for _, far := range other.Placement.Anti {
				if far.TopologyKey == near.TopologyKey && slices.Contains(far.Services, c.service.Name) && name != c.service.Name {
					return c.bad("x-berth.affinity.required."+strconv.Itoa(i), "wants to be near to %s, whose antiAffinity.required keeps %s away by the same topologyKey, %s; drop one of the two",
						name, c.service.Name, keyName(near.TopologyKey))
				}
			}
		}
	}
	return nil
}

func subset(a, of []string) bool {
	return !slices.ContainsFunc(a, func(s string) bool { return !slices.Contains(of, s) })
}

// keyName is a topology key for messages.
func keyName(key string) string {
	if key == "" {
		return "node"
	}
	return key
}

// labels warns of constraints and labels that no node of the files has: nodes
// that are added by command may have them.
func (c *placement) labels() {
	at := "deploy.placement.constraints."
	for i, con := range c.template.Constraints {
		switch {
		case !con.Known():
			c.warn(fmt.Sprintf("%q can never match: no property of a node is called %s, so no replica is placed", con, clip(con.Key)), c.path(at+strconv.Itoa(i))...)
		case c.settledByLabels(con) && !slices.ContainsFunc(c.stack.Nodes, func(n Node) bool { return con.Matches(n.Node) }):
			c.warn(fmt.Sprintf("%q matches none of the nodes declared here", con), c.path(at+strconv.Itoa(i))...)
		}
	}
	for i, label := range c.template.Preferences {
		c.wantLabel(label, "deploy.placement.preferences."+strconv.Itoa(i))
	}
	for _, r := range c.template.NodeSelector {
		c.wantLabel(r.Key, "x-berth.nodeSelector")
	}
	for i, term := range c.template.NodeRequired {
		for _, r := range term.Requirements {
			if r.Operator != scheduler.NotIn && r.Operator != scheduler.DoesNotExist {
				c.wantLabel(r.Key, "x-berth.affinity.nodes.required."+strconv.Itoa(i))
			}
		}
	}
	for _, list := range c.termLists() {
		for i, term := range list.terms {
			c.wantLabel(term.TopologyKey, list.key+"."+strconv.Itoa(i))
		}
	}
	for i, rule := range c.template.Spread {
		c.wantLabel(rule.TopologyKey, "x-berth.spread."+strconv.Itoa(i))
	}
}

// settledByLabels reports whether the nodes' declarations tell if a constraint
// holds: the engine's labels and platform are not known yet.
func (c *placement) settledByLabels(con scheduler.Constraint) bool {
	key := strings.ToLower(con.Key)
	return len(c.stack.Nodes) > 0 && !strings.HasPrefix(key, "engine.") && !strings.HasPrefix(key, "node.platform.")
}

// wantLabel warns of a label that no node has.
func (c *placement) wantLabel(label, key string) {
	if label == "" || len(c.stack.Nodes) == 0 || strings.HasPrefix(label, "engine.labels.") {
		return
	}
	if !slices.ContainsFunc(c.stack.Nodes, func(n Node) bool { _, ok := n.Labels[label]; return ok }) {
		c.warn(fmt.Sprintf("none of the nodes declared here has the label %s", clip(label)), c.path(key)...)
	}
}

// affinityCycle refuses services of which each has to wait for another one of
// them: by required affinity, which wants a replica of the other to stand
// already, or by depends_on. What can be placed first is taken away until
// nothing more can; what is left waits for ever. A service that is to be near
// to itself waits for nothing, its first replica may stand anywhere.
func (l *loading) affinityCycle(s *Stack) error {
	waiting := map[string]*Service{}
	for i := range s.Services {
		waiting[s.Services[i].Name] = &s.Services[i]
	}
	for progress := true; progress; {
		progress = false
		for name, svc := range waiting {
			if _, ok := waitsFor(svc, waiting); !ok {
				delete(waiting, name)
				progress = true
			}
		}
	}
	if len(waiting) == 0 {
		return nil
	}
	name := slices.Sorted(maps.Keys(waiting))[0]
	var trail []string
	for !slices.Contains(trail, name) {
		trail = append(trail, name)
		name, _ = waitsFor(waiting[name], waiting)
	}
	trail = trail[slices.Index(trail, name):]
	// Begin with a service that has an affinity: depends_on alone goes in no circle here.
	at := slices.IndexFunc(trail, func(name string) bool { return len(waiting[name].Placement.Affinity) > 0 })
	trail = slices.Concat(trail[at:], trail[:at])
	name = trail[0]
	key := []string{"services", name, extensionKey, "affinity", "required"}
	return l.fail(fmt.Errorf("cycle of required affinity and depends_on: %s; each waits for the next to be placed, so none could ever start: drop one of them, or use preferred: instead",
		strings.Join(append(trail, name), " → ")), key...)
}

// waitsFor is a service that has to be placed before this one and cannot be.
func waitsFor(s *Service, waiting map[string]*Service) (string, bool) {
	for _, term := range s.Placement.Affinity {
		free := func(name string) bool { return waiting[name] == nil || name == s.Name }
		if !slices.ContainsFunc(term.Services, free) {
			return slices.Min(term.Services), true
		}
	}
	for _, d := range s.DependsOn {
		if waiting[d.Service] != nil {
			return d.Service, true
		}
	}
	return "", false
}

// formatCores writes millicores as CPUs.
func formatCores(millis int64) string { return scheduler.FormatAmount(scheduler.CPU, millis) }
