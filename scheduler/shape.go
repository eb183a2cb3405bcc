package scheduler

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Shape is a template as one cluster knows it: checked, and ready to be placed
// many times. Equal templates share one shape.
//
// What every choice reads stands here, and apart what few do: among many shapes
// each line of memory that has to be fetched counts.
type Shape struct {
	cluster *Cluster
	view    *view   // of the index; nil: not looked up yet
	need    amounts // what the filters ask for
	lean    bool    // it asks for no host ports and no generic resources
	lone    bool    // it is lean, nothing in the plan looks at replicas, and the service has no tallies
	placed  int     // replicas
	score   amounts // what the scores count: see [scoredNeed]
	service *service
	*details
}

// details is the rest of a shape.
type details struct {
	plan     plan // of the index
	generic  []genericNeed
	profile  string // see [Template.profile]
	template Template
}

// service is what the cluster knows of one service of one stack.
type service struct {
	shapes []*Shape
	feeds  []*tally // of the index, that count its replicas
	felt   []watch  // terms of other shapes that name it

	stack, name string
}

type serviceKey struct{ stack, name string }

type genericNeed struct {
	name   string
	amount int64
}

// Template returns the template that the shape was made of.
func (s *Shape) Template() Template { return s.template }

// Priority returns the template's priority.
func (s *Shape) Priority() int { return s.template.Priority }

// Requests that are missing count as much as this in the scores, so that
// replicas that ask for nothing are spread too. The filters do not count it.
const (
	missingCPU    = 100       // millicores
	missingMemory = 200 << 20 // bytes
)

func scoredNeed(need amounts) amounts {
	if need[cpu] == 0 {
		need[cpu] = missingCPU
	}
	if need[memory] == 0 {
		need[memory] = missingMemory
	}
	return need
}

// Register checks the template and makes it known to the cluster. The error
// names the service and the part of the template that cannot be.
func (c *Cluster) Register(t Template) (*Shape, error) {
	t = t.clean()
	if err := t.check(); err != nil {
		return nil, fmt.Errorf("service %s: %w", t.name(), err)
	}
	key, err := json.Marshal(t)
	if err != nil {
		return nil, fmt.Errorf("service %s: %w", t.name(), err)
	}
	if s, ok := c.shapes[string(key)]; ok {
		return s, nil
	}
	s := &Shape{cluster: c, service: c.service(t.Stack, t.Service), need: t.Reservation.amounts(), details: &details{template: t}}
	s.service.shapes = append(s.service.shapes, s)
	s.score = scoredNeed(s.need)
	for _, name := range slices.Sorted(maps.Keys(t.Reservation.Generic)) {
		if v := t.Reservation.Generic[name]; v > 0 {
			s.generic = append(s.generic, genericNeed{name, v})
		}
	}
	s.lean = len(s.generic)+len(t.Ports) == 0
	s.profile = s.template.profile()
	c.shapes[string(key)] = s
	c.known = append(c.known, s)
	if c.mention(s); c.index != nil {
		c.adopt(s, true)
	}
	return s, nil
}

func (c *Cluster) service(stack, name string) *service {
	key := serviceKey{stack, name}
	s, ok := c.services[key]
	if !ok {
		s = &service{stack: stack, name: name}
		c.services[key] = s
	}
	return s
}

func (t Template) name() string {
	if t.Stack == "" {
		return t.Service
	}
	return t.Stack + "/" + t.Service
}

// clean returns a copy of the template that shares nothing with it, with topology keys and
// protocols in their one spelling.
func (t Template) clean() Template {
	t.Reservation.Generic = maps.Clone(t.Reservation.Generic)
	t.Ports = slices.Clone(t.Ports)
	for i := range t.Ports {
		t.Ports[i] = t.Ports[i].clean()
	}
	t.Tolerate, t.Constraints = slices.Clone(t.Tolerate), slices.Clone(t.Constraints)
	t.NodeSelector = cleanRequirements(t.NodeSelector)
	t.NodeRequired, t.NodePrefer = cleanNodeTerms(t.NodeRequired), cleanNodeTerms(t.NodePrefer)
	t.Preferences = slices.Clone(t.Preferences)
	for i := range t.Preferences {
		t.Preferences[i] = topologyKey(t.Preferences[i])
	}
	t.Affinity, t.AffinityLike = cleanTerms(t.Affinity), cleanTerms(t.AffinityLike)
	t.Anti, t.AntiLike = cleanTerms(t.Anti), cleanTerms(t.AntiLike)
	t.Spread = slices.Clone(t.Spread)
	for i := range t.Spread {
		t.Spread[i].TopologyKey = topologyKey(t.Spread[i].TopologyKey)
	}
	return t
}

func (p HostPort) clean() HostPort {
	if p.Protocol = strings.ToLower(p.Protocol); p.Protocol == "" {
		p.Protocol = "tcp"
	}
	if p.IP == "0.0.0.0" || p.IP == "::" {
		p.IP = ""
	}
	return p
}

func (p HostPort) String() string {
	text := strconv.Itoa(int(p.Port)) + "/" + p.Protocol
	if p.IP != "" {
		return p.IP + ":" + text
	}
	return text
}

// conflicts says whether both ports cannot be held at once.
func (p HostPort) conflicts(q HostPort) bool {
	return p.Port == q.Port && p.Protocol == q.Protocol && (p.IP == q.IP || p.IP == "" || q.IP == "")
}

func cleanRequirements(all []Requirement) []Requirement {
	all = slices.Clone(all)
	for i := range all {
		if all[i].Key != "node" { // a label may have this name
			all[i].Key = topologyKey(all[i].Key)
		}
		all[i].Values = slices.Clone(all[i].Values)
	}
	return all
}

func cleanNodeTerms(terms []NodeTerm) []NodeTerm {
	terms = slices.Clone(terms)
	for i := range terms {
		terms[i].Requirements = cleanRequirements(terms[i].Requirements)
	}
	return terms
}

func cleanTerms(terms []ServiceTerm) []ServiceTerm {
	terms = slices.Clone(terms)
	for i := range terms {
		terms[i].Services = slices.Compact(slices.Sorted(slices.Values(terms[i].Services)))
		terms[i].TopologyKey = topologyKey(terms[i].TopologyKey)
	}
	return terms
}

// topologyKey is the one spelling of a key: empty for the node itself, else the
// label's name without the "node.labels." of the constraints.
func topologyKey(key string) string {
	switch strings.ToLower(key) {
	case "node", "node.hostname", "node.id":
		return ""
	}
	if label, ok := cutPrefixFold(key, nodeLabels); ok {
		return label
	}
	if label, ok := cutPrefixFold(key, engineLabels); ok {
		return engineLabels + label
	}
	return key
}

// keyName is a topology key in messages.
func keyName(key string) string {
	if key == "" {
		return "node"
	}
	return key
}

// check returns the first thing in the template that cannot be.
func (t Template) check() error {
	if t.Service == "" {
		return errors.New("a template has no service")
	}
	if err := t.Reservation.check(); err != nil {
		return fmt.Errorf("reservation: %w", err)
	}
	if t.MaxPerNode < 0 {
		return fmt.Errorf("max_replicas_per_node is %d: it must not be negative", t.MaxPerNode)
	}
	for _, tol := range t.Tolerate {
		if err := tol.check(); err != nil {
			return err
		}
	}
	for _, check := range []func() error{t.checkPorts, t.checkNodeTerms, t.checkServiceTerms, t.checkSpread} {
		if err := check(); err != nil {
			return err
		}
	}
	return t.checkContradictions()
}

func (t Template) checkPorts() error {
	for i, p := range t.Ports {
		if p.Port == 0 {
			return errors.New("host port 0 is no port")
		}
		if slices.ContainsFunc(t.Ports[:i], p.conflicts) {
			return fmt.Errorf("host port %s is named twice", p)
		}
	}
	return nil
}

func (t Template) checkNodeTerms() error {
	if err := checkRequirements(t.NodeSelector); err != nil {
		return fmt.Errorf("nodeSelector: %w", err)
	}
	for _, term := range t.NodeRequired {
		if err := checkRequirements(term.Requirements); err != nil {
			return fmt.Errorf("required node affinity: %w", err)
		}
	}
	for _, term := range t.NodePrefer {
		if err := checkRequirements(term.Requirements); err != nil {
			return fmt.Errorf("preferred node affinity: %w", err)
		}
		if err := checkWeight(term.Weight); err != nil {
			return fmt.Errorf("preferred node affinity: %w", err)
		}
	}
	return nil
}

func checkRequirements(all []Requirement) error {
	for _, r := range all {
		if err := r.check(); err != nil {
			return fmt.Errorf("label %s: %w", keyName(r.Key), err)
		}
	}
	return nil
}

func (r Requirement) check() error {
	switch r.Operator {
	case In, NotIn:
		if len(r.Values) == 0 {
			return fmt.Errorf("operator %s needs at least one value", r.Operator)
		}
	case Exists, DoesNotExist:
		if len(r.Values) > 0 {
			return fmt.Errorf("operator %s takes no value", r.Operator)
		}
	case Gt, Lt:
		if len(r.Values) != 1 {
			return fmt.Errorf("operator %s takes one whole number", r.Operator)
		}
		if _, err := strconv.ParseInt(r.Values[0], 10, 64); err != nil {
			return fmt.Errorf("operator %s takes a whole number, not %q", r.Operator, r.Values[0])
		}
	default:
		return fmt.Errorf("operator %q is none of %s, %s, %s, %s, %s and %s", string(r.Operator), In, NotIn, Exists, DoesNotExist, Gt, Lt)
	}
	return nil
}

func checkWeight(w int) error {
	if w < 1 || w > 100 {
		return fmt.Errorf("weight %d is not within 1 to 100", w)
	}
	return nil
}

func (t Template) checkServiceTerms() error {
	for _, kind := range []struct {
		name   string
		terms  []ServiceTerm
		weighs bool
	}{
		{"affinity", t.Affinity, false}, {"antiAffinity", t.Anti, false},
		{"preferred affinity", t.AffinityLike, true}, {"preferred antiAffinity", t.AntiLike, true},
	} {
		for _, term := range kind.terms {
			if len(term.Services) == 0 {
				return fmt.Errorf("%s names no service", kind.name)
			}
			if kind.weighs {
				if err := checkWeight(term.Weight); err != nil {
					return fmt.Errorf("%s: %w", kind.name, err)
				}
			}
		}
	}
	return nil
}

func (t Template) checkSpread() error {
	for i, r := range t.Spread {
		if r.MaxSkew < 1 {
			return fmt.Errorf("spread over %s: maxSkew is %d: it must be at least 1", keyName(r.TopologyKey), r.MaxSkew)
		}
		if r.MinDomains < 0 {
			return fmt.Errorf("spread over %s: minDomains is %d: it must not be negative", keyName(r.TopologyKey), r.MinDomains)
		}
		if r.MinDomains > 0 && r.Prefer {
			return fmt.Errorf("spread over %s: minDomains has no meaning for a rule that only prefers", keyName(r.TopologyKey))
		}
		if slices.ContainsFunc(t.Spread[:i], func(o SpreadRule) bool { return o.TopologyKey == r.TopologyKey && o.Prefer == r.Prefer }) {
			return fmt.Errorf("spread over %s is named twice", keyName(r.TopologyKey))
		}
	}
	return nil
}

// checkContradictions refuses a template that asks to be near to services and,
// by the same key, near to none of them.
func (t Template) checkContradictions() error {
	for _, near := range t.Affinity {
		for _, far := range t.Anti {
			if near.TopologyKey == far.TopologyKey && subset(near.Services, far.Services) {
				return fmt.Errorf("affinity and antiAffinity by %s both name %s: no node can satisfy both", keyName(near.TopologyKey), strings.Join(near.Services, ", "))
			}
		}
	}
	return nil
}

func subset(a, of []string) bool {
	return !slices.ContainsFunc(a, func(s string) bool { return !slices.Contains(of, s) })
}

// CheckAffinity returns an error when the required affinities of the templates
// go in a circle, so that none of the services in it could ever be the first to
// be placed. A service that asks to be near to itself is no circle, its first
// replica may go anywhere; nor is a term that names another service that can be
// placed. Services that are not among the templates count as placed.
func CheckAffinity(templates []Template) error {
	open := map[serviceKey]Template{}
	for _, t := range templates {
		open[serviceKey{t.Stack, t.Service}] = t
	}
	for progress := true; progress; {
		progress = false
		for key, t := range open {
			if !t.waits(open) {
				delete(open, key)
				progress = true
			}
		}
	}
	if len(open) == 0 {
		return nil
	}
	names := make([]string, 0, len(open))
	for _, t := range open {
		names = append(names, t.name())
	}
	slices.Sort(names)
	return fmt.Errorf("services %s: each needs another of them on its node or domain first, so none can be placed: drop one required affinity", strings.Join(names, ", "))
}

// waits says whether a required affinity names only other services that are open.
func (t Template) waits(open map[serviceKey]Template) bool {
	return slices.ContainsFunc(t.Affinity, func(term ServiceTerm) bool {
		return !slices.ContainsFunc(term.Services, func(name string) bool {
			_, waiting := open[serviceKey{t.Stack, name}]
			return !waiting || name == t.Service
		})
	})
}
