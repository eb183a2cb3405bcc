package stack

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/berth-dev/berth/scheduler"
)

// nodes reads what x-berth says at the top level: the virtual nodes, how
// replicas are placed on them, and how many revisions are kept.
func (t *translator) nodes(s *Stack) error {
	ext, err := newSetting(t.project.Extensions[extensionKey], "project", t.fail, extensionKey)
	if err != nil {
		return err
	}
	if s.Nodes, err = nodeList(ext.get("nodes")); err != nil {
		return err
	}
	if len(t.opts.Nodes) > 0 {
		s.Nodes = slices.Clone(t.opts.Nodes)
	}
	s.Overcommit = ext.get("overcommit").flag()
	if s.Revisions, err = ext.get("revisions").integer(0); err != nil {
		return err
	}
	s.Scheduling, err = policy(ext)
	return err
}

// policy is how nodes are scored. All nodes are parts of one engine, so a host
// port that is held on one of them is held on all.
func policy(ext setting) (scheduler.Policy, error) {
	p := scheduler.Policy{Strategy: scheduler.Strategy(ext.get("strategy").text()), SharedPorts: true}
	weights := ext.get("weights")
	if !weights.given() {
		return p, nil
	}
	if p.Strategy != "" {
		return p, weights.fail("and strategy: exclude each other; keep one")
	}
	p.Weights = map[string]int{}
	total := 0
	for _, w := range weights.parts() {
		n, err := w.integer(0)
		if err != nil {
			return p, err
		}
		p.Weights[w.key()] = n
		total += n
	}
	if total == 0 {
		return p, weights.fail("no score has a weight above 0; give one, or drop weights:")
	}
	return p, nil
}

// mode is deploy.mode.
func mode(c types.ServiceConfig) Mode {
	if c.Deploy == nil || c.Deploy.Mode == "replicated" {
		return Replicated
	}
	return Mode(c.Deploy.Mode)
}

// placement is what the scheduler must know of a service's replicas.
func (t *translator) placement(c types.ServiceConfig, s *Service, ext setting) (scheduler.Template, error) {
	p := scheduler.Template{Stack: t.project.Name, Service: c.Name, Ports: heldPorts(s)}
	p.OS, p.Arch = platform(c.Platform)
	var err error
	if p.Priority, err = ext.get("priority").integer(0); err != nil {
		return p, err
	}
	if p.Reservation, err = t.reservation(c, ext.get("reservations")); err != nil {
		return p, err
	}
	if err := t.deployed(&p, c); err != nil {
		return p, err
	}
	for _, part := range []func(*scheduler.Template, setting) error{nodeTerms, serviceTerms, tolerations, spread} {
		if err := part(&p, ext); err != nil {
			return p, err
		}
	}
	return p, nil
}

// reservation is what each replica must have promised. The older mem_reservation
// counts like deploy.resources.reservations.memory, as both are the engine's soft limit.
func (t *translator) reservation(c types.ServiceConfig, ext setting) (scheduler.Resources, error) {
	r := scheduler.Resources{Memory: limits(c).MemoryReservation}
	var err error
	if r.Disk, err = ext.get("disk").amount(scheduler.Disk); err != nil {
		return r, err
	}
	if r.Network, err = ext.get("network").amount(scheduler.Network); err != nil {
		return r, err
	}
	if r.Memory < 0 || r.Memory > scheduler.MaxAmount {
		most := scheduler.FormatAmount(scheduler.Memory, scheduler.MaxAmount)
		path := append([]string{"services", c.Name}, strings.Split(reservedMemoryKey(c), ".")...)
		return r, t.fail(fmt.Errorf("is not between 0 and %s", most), path...)
	}
	if c.Deploy == nil || c.Deploy.Resources.Reservations == nil {
		return r, nil
	}
	at := []string{"services", c.Name, "deploy", "resources", "reservations"}
	reserved := c.Deploy.Resources.Reservations
	if cores := reserved.NanoCPUs.Value(); cores != 0 {
		// The library keeps a float32; its shortest text is what the file says.
		if r.CPU, err = parseAmount(scheduler.CPU, strconv.FormatFloat(float64(cores), 'f', -1, 32)); err != nil {
			return r, t.fail(err, append(at, "cpus")...)
		}
	}
	r.Generic, err = t.generic(reserved.GenericResources, append(at, "generic_resources"))
	return r, err
}

// generic are the named resources that each replica must have promised.
func (t *translator) generic(list []types.GenericResource, at []string) (map[string]int64, error) {
	out := map[string]int64{}
	for i, g := range list {
		at := append(slices.Clone(at), strconv.Itoa(i))
		d := g.DiscreteResourceSpec
		if d == nil {
			return nil, t.fail(errors.New("says nothing; write discrete_resource_spec: {kind: gpu, value: 1}"), at...)
		}
		if err := checkResourceName(d.Kind); err != nil {
			return nil, t.fail(fmt.Errorf("the kind: %w", err), at...)
		}
		if d.Value <= 0 || d.Value > scheduler.MaxAmount {
			return nil, t.fail(fmt.Errorf("reserves %d of %q; give a value: from 1 on", d.Value, d.Kind), at...)
		}
		if out[d.Kind] != 0 {
			return nil, t.fail(fmt.Errorf("reserves %q a second time; keep one", d.Kind), at...)
		}
		out[d.Kind] = d.Value
	}
	if len(out) == 0 {
		return nil, nil
	}
	return out, nil
}

// deployed reads deploy.placement.
func (t *translator) deployed(p *scheduler.Template, c types.ServiceConfig) error {
	if c.Deploy == nil {
		return nil
	}
	at := []string{"services", c.Name, "deploy", "placement"}
	for i, text := range c.Deploy.Placement.Constraints {
		con, err := constraint(text)
		if err != nil {
			return t.fail(err, append(at, "constraints", strconv.Itoa(i))...)
		}
		p.Constraints = append(p.Constraints, con)
	}
	for i, pref := range c.Deploy.Placement.Preferences {
		label, err := preference(pref.Spread)
		if err != nil {
			return t.fail(err, append(at, "preferences", strconv.Itoa(i))...)
		}
		p.Preferences = append(p.Preferences, label)
	}
	n := c.Deploy.Placement.MaxReplicas
	if n > maxReplicas {
		return t.fail(fmt.Errorf("%d is not between 0 and %d", n, maxReplicas), append(at, "max_replicas_per_node")...)
	}
	p.MaxPerNode = int(n)
	return nil
}

func constraint(text string) (scheduler.Constraint, error) {
	if err := checkRule(text); err != nil {
		return scheduler.Constraint{}, err
	}
	c, err := scheduler.ParseConstraint(text)
	if err != nil {
		return c, fmt.Errorf("%w; write node.labels.zone == a or node.labels.zone != a", err)
	}
	return c, nil
}

// preference is the label that spread: names, with engine.labels. in front
// where it is one of the engine's.
func preference(text string) (string, error) {
	if err := checkRule(text); err != nil {
		return "", err
	}
	for prefix, keep := range map[string]string{"node.labels.": "", "engine.labels.": "engine.labels."} {
		if len(text) > len(prefix) && strings.EqualFold(text[:len(prefix)], prefix) {
			label := text[len(prefix):]
			return keep + label, checkLabel(label, "")
		}
	}
	return "", fmt.Errorf("%q is not a label to spread over; write spread: node.labels.zone", clip(text))
}

// nodeTerms reads nodeSelector and affinity.nodes.
func nodeTerms(p *scheduler.Template, ext setting) error {
	var err error
	if p.NodeSelector, err = labelRequirements(ext.get("nodeSelector")); err != nil {
		return err
	}
	nodes := ext.get("affinity").get("nodes")
	if p.NodeRequired, err = nodeTermList(nodes.get("required"), false); err != nil {
		return err
	}
	p.NodePrefer, err = nodeTermList(nodes.get("preferred"), true)
	return err
}

func labelRequirements(s setting) ([]scheduler.Requirement, error) {
	labels, err := s.labels()
	var out []scheduler.Requirement
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		out = append(out, scheduler.Requirement{Key: k, Operator: scheduler.In, Values: []string{labels[k]}})
	}
	return out, err
}

func nodeTermList(list setting, weighed bool) ([]scheduler.NodeTerm, error) {
	var out []scheduler.NodeTerm
	for _, s := range list.list() {
		var t scheduler.NodeTerm
		var err error
		if t.Requirements, err = labelRequirements(s.get("labels")); err != nil {
			return nil, err
		}
		for _, e := range s.get("expressions").list() {
			r, err := requirement(e)
			if err != nil {
				return nil, err
			}
			t.Requirements = append(t.Requirements, r)
		}
		if len(t.Requirements) == 0 {
			return nil, s.fail("matches no node; give labels: or expressions:")
		}
		if weighed {
			if t.Weight, err = s.get("weight").integer(1); err != nil {
				return nil, err
			}
		}
		out = append(out, t)
	}
	return out, nil
}

// requirement reads one expression; the number of its values depends on the operator.
func requirement(s setting) (scheduler.Requirement, error) {
	r := scheduler.Requirement{
		Key:      s.get("key").text(),
		Operator: scheduler.Operator(s.get("operator").text()),
		Values:   s.get("values").texts(),
	}
	if err := checkLabel(r.Key, ""); err != nil {
		return r, s.get("key").fail("%w", err)
	}
	for i, v := range r.Values {
		if err := checkLabel(r.Key, v); err != nil {
			return r, s.get("values").list()[i].fail("%w", err)
		}
	}
	values := s.get("values")
	switch r.Operator {
	case scheduler.In, scheduler.NotIn:
		if len(r.Values) == 0 {
			return r, s.fail("the operator %s needs at least one of values:", r.Operator)
		}
	case scheduler.Exists, scheduler.DoesNotExist:
		if len(r.Values) > 0 {
			return r, values.fail("the operator %s takes no values", r.Operator)
		}
	case scheduler.Gt, scheduler.Lt:
		if len(r.Values) != 1 {
			return r, s.fail("the operator %s needs one of values:, a whole number", r.Operator)
		}
		if _, err := strconv.ParseInt(r.Values[0], 10, 64); err != nil {
			return r, values.fail("the operator %s compares whole numbers; %q is none", r.Operator, clip(r.Values[0]))
		}
	}
	return r, nil
}

// serviceTerms reads the services to be near to and far from.
func serviceTerms(p *scheduler.Template, ext setting) error {
	for _, part := range []struct {
		key     string
		weighed bool
		terms   *[]scheduler.ServiceTerm
	}{
		{"affinity", false, &p.Affinity}, {"affinity", true, &p.AffinityLike},
		{"antiAffinity", false, &p.Anti}, {"antiAffinity", true, &p.AntiLike},
	} {
		list := ext.get(part.key).get("required")
		if part.weighed {
			list = ext.get(part.key).get("preferred")
		}
		for _, s := range list.list() {
			t := scheduler.ServiceTerm{Services: s.get("services").texts()}
			var err error
			if t.TopologyKey, err = topologyKey(s.get("topologyKey")); err != nil {
				return err
			}
			if part.weighed {
				if t.Weight, err = s.get("weight").integer(1); err != nil {
					return err
				}
			}
			*part.terms = append(*part.terms, t)
		}
	}
	return nil
}

// topologyKey is a node label, or "" for the node itself. A label may be written
// as constraints write it.
func topologyKey(s setting) (string, error) {
	text := s.text()
	switch text {
	case "node", "node.hostname", "node.id":
		return "", nil
	case "":
		if s.given() {
			return "", s.fail("is empty; name a node label, or node for the node itself")
		}
		return "", nil
	}
	key := strings.TrimPrefix(text, "node.labels.")
	if err := checkLabel(key, ""); err != nil {
		return "", s.fail("%w", err)
	}
	return key, nil
}

func tolerations(p *scheduler.Template, ext setting) error {
	for _, s := range ext.get("tolerations").list() {
		t, err := toleration(s)
		if err != nil {
			return err
		}
		p.Tolerate = append(p.Tolerate, t)
	}
	return nil
}

// toleration reads "key=value:Effect" or the mapping of Kubernetes.
func toleration(s setting) (scheduler.Toleration, error) {
	if s.isText() {
		if err := checkRule(s.text()); err != nil {
			return scheduler.Toleration{}, s.fail("%w", err)
		}
		t, err := scheduler.ParseToleration(s.text())
		if err == nil && t.Key != "" {
			err = checkLabel(t.Key, t.Value)
		}
		if err != nil {
			return t, s.fail("%w", err)
		}
		return t, nil
	}
	t := scheduler.Toleration{
		Key:    s.get("key").text(),
		Exists: s.get("operator").text() == "Exists",
		Value:  s.get("value").text(),
		Effect: scheduler.Effect(s.get("effect").text()),
	}
	switch {
	case t.Key == "" && !t.Exists:
		return t, s.fail("has no key:; with operator: Exists it would be every taint")
	case t.Exists && s.get("value").given():
		return t, s.get("value").fail("has no meaning with operator: Exists, which takes any value; drop one of them")
	case t.Key == "":
		return t, nil
	}
	if err := checkLabel(t.Key, t.Value); err != nil {
		return t, s.fail("%w", err)
	}
	return t, nil
}

// spread reads the rules of even distribution.
func spread(p *scheduler.Template, ext setting) error {
	for _, s := range ext.get("spread").list() {
		r := scheduler.SpreadRule{Prefer: s.get("whenUnsatisfiable").text() == "schedule"}
		var err error
		if r.TopologyKey, err = topologyKey(s.get("topologyKey")); err != nil {
			return err
		}
		if r.MaxSkew, err = s.get("maxSkew").integer(1); err != nil {
			return err
		}
		if r.MinDomains, err = s.get("minDomains").integer(0); err != nil {
			return err
		}
		if r.Prefer && r.MinDomains > 0 {
			return s.get("minDomains").fail("has no meaning with whenUnsatisfiable: schedule; drop one of them")
		}
		if slices.ContainsFunc(p.Spread, func(o scheduler.SpreadRule) bool { return o.TopologyKey == r.TopologyKey && o.Prefer == r.Prefer }) {
			return s.fail("a rule for the same topologyKey stands in the list already; keep one")
		}
		p.Spread = append(p.Spread, r)
	}
	return nil
}

// heldPorts are the fixed host ports that each replica holds by itself. Of a
// range the engine chooses one, so no place is held beforehand; and what the
// balancer holds, no replica does.
func heldPorts(s *Service) []scheduler.HostPort {
	if !ownNetwork(s.Spec.NetworkMode) || s.MayBalance() {
		return nil
	}
	var out []scheduler.HostPort
	for _, p := range s.Spec.Ports {
		port := fixedPort(p.Published)
		if port == 0 {
			continue
		}
		h := scheduler.HostPort{IP: p.HostIP, Port: port, Protocol: p.Protocol}
		if h.Protocol == "tcp" {
			h.Protocol = ""
		}
		out = append(out, h)
	}
	slices.SortFunc(out, func(a, b scheduler.HostPort) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.IP, b.IP))
	})
	return out
}

// platform takes "linux/arm64/v8" apart; the variant does not choose a node. A
// single word is an operating system or, as engines read it, an architecture.
func platform(s string) (os, arch string) {
	os, arch, both := strings.Cut(strings.ToLower(s), "/")
	if !both && !slices.Contains([]string{"", "linux", "windows", "darwin", "freebsd"}, os) {
		return "", os
	}
	arch, _, _ = strings.Cut(arch, "/")
	return os, arch
}
