package reconcile

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
)

// Decide plans one turn for one stack: the steps that are legal now, and a
// hold with its reason for everything else that differs from what is desired.
// It is pure: equal arguments give an equal plan, and none of them is changed.
func Decide(d *Desired, o *Observed, m *Memory, now time.Time) *Plan {
	v := newView(d, o, m, now)
	switch {
	case d.Lost:
		v.lost()
	case d.Down != nil:
		v.down()
	default:
		v.networks()
		v.volumes()
		for _, svc := range v.order {
			v.service(svc)
		}
		v.sweepInits()
		v.sweepRelays()
		v.oneOffs()
		v.orphans(d.RemoveOrphans, nil)
		v.sweep()
	}
	v.forgetRequests()
	v.plan.Placed = v.places.placed
	v.plan.Wake, v.plan.Next = v.wake(), v.soonest
	return v.plan
}

// view is what one turn knows: the arguments of [Decide], indexed, and the
// plan as far as it has come.
type view struct {
	d    *Desired
	o    *Observed
	m    *Memory
	now  time.Time
	plan *Plan

	order      []*stack.Service // dependencies first
	dependents map[string][]string
	jobs       map[string]bool              // services others wait to complete
	replicas   map[string]map[int][]*member // ours, by service and slot
	oneoffs    map[string][]*member         // ours, by service
	inits      map[string]*member           // ours, of pre_start steps, by name
	relays     map[string][]*member         // ours, by service
	preparing  map[string]int               // by name of such a container: the slot that runs it
	strangers  []*runtime.Container         // carry the stack's label, but are not ours
	unexplored []*member                    // ours, of services the file does not have
	byName     map[string]*runtime.Container
	requests   map[string]*Request // by container, those that still hold

	pulling map[string]bool     // image references that a step or hold of this turn is about
	nets    map[string]netState // by the engine's name
	places  *places             // which node everything stands on
	onMove  map[string]int      // by service: the slot that may change its node in this turn
	moving  map[string]Hold     // services with a start still to come, and the hold that says why

	slots      map[string][]int    // by service, as far as they were asked for
	rollouts   map[string]*rolling // by service, as far as they were asked for
	balances   map[string]bool     // by service: the balancer holds its ports
	portHashes map[string]string
	leaving    map[string]bool // container IDs: they take no connections any more
	soonest    time.Time       // when a rollout goes on by itself; zero: none does
}

// member is one of our containers with its identity.
type member struct {
	*runtime.Container
	id runtime.Identity
}

func newView(d *Desired, o *Observed, m *Memory, now time.Time) *view {
	if d.Stack == nil {
		bare := *d
		bare.Stack = &stack.Stack{}
		d = &bare
	}
	v := &view{
		d: d, o: o, m: m, now: now,
		plan:     &Plan{Rollouts: map[string]Rollout{}, RollBack: map[string]string{}, Routes: map[string]Routing{}, Relayed: map[string]Relayed{}},
		rollouts: map[string]*rolling{}, slots: map[string][]int{},
		balances: map[string]bool{}, portHashes: map[string]string{}, leaving: map[string]bool{},
		dependents: map[string][]string{},
		replicas:   map[string]map[int][]*member{},
		oneoffs:    map[string][]*member{},
		relays:     map[string][]*member{},
		inits:      map[string]*member{}, preparing: map[string]int{},
		byName:   make(map[string]*runtime.Container, len(o.Containers)),
		requests: map[string]*Request{},
		pulling:  map[string]bool{},
		nets:     map[string]netState{},
		moving:   map[string]Hold{},
		onMove:   map[string]int{},
	}
	v.plan.Stack = d.Stack.Name
	v.jobs = Jobs(d.Stack)
	v.order = startOrder(d.Stack)
	for _, svc := range v.order {
		for _, dep := range svc.DependsOn {
			v.dependents[dep.Service] = append(v.dependents[dep.Service], svc.Name)
		}
	}
	for i := range o.Containers {
		v.index(&o.Containers[i])
	}
	for i := range d.Requests {
		if r := &d.Requests[i]; v.holds(r) {
			v.requests[r.Container] = r
		}
	}
	v.place()
	return v
}

// index sorts one container into the view.
func (v *view) index(c *runtime.Container) {
	v.byName[c.Name] = c
	id, ok := v.identify(c)
	if !ok {
		v.strangers = append(v.strangers, c)
		return
	}
	mem := &member{Container: c, id: id}
	switch {
	case c.Labels[runtime.LabelRelay] != "":
		v.relays[id.Service] = append(v.relays[id.Service], mem)
	case c.Labels[runtime.LabelInit] != "":
		v.inits[c.Name] = mem
	case id.OneOff:
		v.oneoffs[id.Service] = append(v.oneoffs[id.Service], mem)
	case v.d.Stack.Service(id.Service) != nil:
		if v.replicas[id.Service] == nil {
			v.replicas[id.Service] = map[int][]*member{}
		}
		v.replicas[id.Service][id.Slot] = append(v.replicas[id.Service][id.Slot], mem)
	default:
		v.unexplored = append(v.unexplored, mem)
	}
}

// identify tells whose a container is. It is ours when it carries our owner's
// identity for this stack, or when the stack was told to adopt what carries its
// name. Labels of an unknown schema are never ours.
func (v *view) identify(c *runtime.Container) (runtime.Identity, bool) {
	id, err := runtime.ParseIdentity(c.Labels)
	if err == nil {
		return id, id.Owner == v.d.Owner || v.d.Adopt
	}
	if !v.d.Adopt || c.Labels[runtime.LabelSchema] != "" {
		return runtime.Identity{}, false
	}
	return composeIdentity(c.Labels)
}

// holds reports whether a request is still to be carried out: its container is
// in the run in which it was seen.
func (v *view) holds(r *Request) bool {
	for i := range v.o.Containers {
		c := &v.o.Containers[i]
		if c.ID != r.Container {
			continue
		}
		switch r.Op {
		case runtime.OpRemove:
			return true
		case RequestMove:
			return c.Labels[runtime.LabelNode] != r.Node
		case runtime.OpKill:
			return c.State.Alive() && c.Started.Equal(r.Started)
		case runtime.OpStart:
			return !c.State.Alive() && c.Started.Equal(r.Started)
		default:
			return c.Started.Equal(r.Started)
		}
	}
	return false
}

// forgetRequests lists the requests that are done with.
func (v *view) forgetRequests() {
	for i := range v.d.Requests {
		r := &v.d.Requests[i]
		if v.requests[r.Container] != r {
			v.plan.Satisfied = append(v.plan.Satisfied, i)
		}
	}
}

// startOrder returns the services, dependencies before dependants, names
// breaking ties. A cycle, which loading refuses, is broken by name.
func startOrder(s *stack.Stack) []*stack.Service {
	order := make([]*stack.Service, 0, len(s.Services))
	seen := map[string]bool{}
	var visit func(svc *stack.Service)
	visit = func(svc *stack.Service) {
		if svc == nil || seen[svc.Name] {
			return
		}
		seen[svc.Name] = true
		for _, dep := range svc.DependsOn {
			visit(s.Service(dep.Service))
		}
		order = append(order, svc)
	}
	for i := range s.Services {
		visit(&s.Services[i])
	}
	return order
}

// step adds s to the plan unless something holds its target back. It reports
// whether the step was added.
func (v *view) step(s Step) bool {
	if why, unknown := v.o.Unknown[s.Container]; unknown && s.Container != "" {
		v.hold(Hold{
			Kind: HoldFailing, Key: s.Key, Service: s.Service, Slot: s.Slot, Name: s.Name,
			Reason: "the engine does not answer about this container: " + why,
		})
		return false
	}
	if h := v.m.holdback(s, v.now); h != nil {
		v.hold(*h)
		return false
	}
	if h := v.drains(s); h != nil {
		v.hold(*h)
		return false
	}
	v.plan.Steps = append(v.plan.Steps, v.prepared(s))
	return true
}

// prepared adds to a step what its container's present run makes of it.
func (v *view) prepared(s Step) Step {
	c := v.byName[s.Name]
	if c == nil || c.ID != s.Container {
		return s
	}
	switch s.Op {
	case OpStart:
		s.Finished = c.Finished
	case OpStop, OpRestart:
		if svc := v.d.Stack.Service(s.Service); svc != nil && c.State == runtime.Running {
			s.Hooks = svc.PreStop
		}
	default: // nothing else depends on the run
	}
	return s
}

// hold adds a reason not to act.
func (v *view) hold(h Hold) { v.plan.Holds = append(v.plan.Holds, h) }

// busy holds a target that a step is in flight for, and reports whether it is.
func (v *view) busy(key Key, svc string, slot int) bool {
	s, ok := v.m.InFlight[key]
	if !ok {
		return false
	}
	h := Hold{Kind: HoldWaiting, Key: key, Service: svc, Slot: slot, Name: s.Name, Reason: string(s.Op) + " in progress"}
	v.hold(h)
	if svc != "" {
		v.moves(svc, h)
	}
	return true
}

// moves notes that a service has a start still to come.
func (v *view) moves(svc string, h Hold) {
	if old, ok := v.moving[svc]; !ok || (old.Kind != HoldFailing && h.Kind == HoldFailing) {
		v.moving[svc] = h
	}
}

// wake is the earliest time at which a hold wants to be looked at again.
func (v *view) wake() time.Time {
	at := v.places.wake
	if !v.soonest.IsZero() && (at.IsZero() || v.soonest.Before(at)) {
		at = v.soonest
	}
	for i := range v.plan.Holds {
		if u := v.plan.Holds[i].Until; !u.IsZero() && (at.IsZero() || u.Before(at)) {
			at = u
		}
	}
	return at
}

// service decides about all replicas of one service.
func (v *view) service(svc *stack.Service) {
	want := v.want(svc.Name)
	wanted := v.slotsOf(svc)
	slots := v.replicas[svc.Name]
	v.rolling(svc)
	v.relay(svc)
	for _, slot := range wanted {
		v.replica(svc, slot, slots[slot], want)
	}
	spare := v.warmSlots(svc)
	for _, slot := range spare {
		v.warm(svc, slot, slots[slot])
	}
	for _, slot := range sortedKeys(slots) {
		if !slices.Contains(wanted, slot) && !slices.Contains(spare, slot) || want == WantAbsent {
			v.retire(svc, slot, slots[slot])
		}
	}
	v.route(svc)
	v.relayRoute(svc)
	v.tellRolledBack(svc)
}

// tellRolledBack says that a service stands on an earlier revision than the one
// that was declared last.
func (v *view) tellRolledBack(svc *stack.Service) {
	back := v.d.Services[svc.Name].RolledBack
	if back == nil {
		return
	}
	h := Hold{
		Kind: HoldFailing, Key: Key("rollout/" + svc.Name), Service: svc.Name, Name: svc.Name,
		Reason: "rolled back: " + back.Why,
	}
	if back.Seen {
		h.Kind = HoldIdle
	}
	v.hold(h)
}

func (v *view) want(service string) Want { return v.d.Services[service].want() }

// retire takes a replica away that is no longer wanted.
func (v *view) retire(svc *stack.Service, slot int, cs []*member) {
	key := ReplicaKey(svc.Name, slot)
	if len(cs) == 0 || v.busy(key, svc.Name, slot) {
		return
	}
	cause := fmt.Sprintf("scaled to %d", v.d.Replicas(svc))
	if l := v.places.leave[cs[0].ID]; svc.Mode.PerNode() && l.why != "" {
		cause = l.why
	}
	if v.want(svc.Name) == WantAbsent {
		cause = "removed by command"
		if v.waitsForDependents(cs[0], key) {
			return
		}
	}
	if v.keptFor(svc, slot, cs) {
		return
	}
	v.takeAway(key, cs[0], v.grace(svc), cause, v.d.Services[svc.Name].RenewVolumes)
}

// takeAway stops a container and then removes it. Without grace both are one
// call of the engine.
func (v *view) takeAway(key Key, c *member, grace time.Duration, cause string, volumes bool) bool {
	s := Step{
		Op: OpRemove, Key: key, Service: c.id.Service, Slot: c.id.Slot, Name: c.Name, Container: c.ID,
		Cause: cause, Revision: c.id.Revision, Volumes: volumes,
	}
	switch {
	case c.State.Alive() && grace > 0:
		s.Op, s.Grace, s.Volumes = OpStop, grace, false
	case c.State.Alive() || c.State == runtime.Dead || c.State == runtime.Removing:
		s.Force = true // a removal that is under way is waited for, or begun again
	}
	return v.step(s)
}

// waitsForDependents holds a stop until every dependant of the service that is
// on its way down too has stopped.
func (v *view) waitsForDependents(c *member, key Key) bool {
	svc := c.id.Service
	for _, dep := range v.dependents[svc] {
		if want := v.want(dep); v.d.Down == nil && want != WantStopped && want != WantAbsent {
			continue // it stays: nothing to wait for
		}
		for _, s := range sortedKeys(v.replicas[dep]) {
			for _, other := range v.replicas[dep][s] {
				if other.State.Alive() {
					v.hold(Hold{
						Kind: HoldWaiting, Key: key, Service: svc, Slot: c.id.Slot, Name: c.Name,
						Reason: "stops after " + other.Name + ", which depends on it",
					})
					return true
				}
			}
		}
	}
	return false
}

// grace is how long a service's replicas have to stop.
func (v *view) grace(svc *stack.Service) time.Duration {
	if g := v.d.Services[svc.Name].Grace; g != nil {
		return *g
	}
	return svc.Spec.Grace()
}

// sortedKeys returns a map's keys in order.
func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// lost reports a stack that was rebuilt from labels: it is only shown.
func (v *view) lost() {
	for i := range v.o.Containers {
		c := &v.o.Containers[i]
		v.hold(Hold{
			Kind: HoldIdle, Key: Key("container/" + c.Name), Name: c.Name,
			Reason: "its stack's file was lost; run up to take it over or down to remove it",
		})
	}
}

// orphans reports what carries the stack's name and no service explains, and
// takes away what is ours of it when asked. grace nil means the default.
func (v *view) orphans(remove bool, grace *time.Duration) {
	g := runtime.DefaultStopGrace
	if grace != nil {
		g = *grace
	}
	for _, c := range v.unexplored {
		key := Key("container/" + c.Name)
		inactive := slices.Contains(v.d.Stack.Inactive, c.id.Service)
		switch {
		case remove && !v.busy(key, "", 0):
			v.takeAway(key, c, g, "orphan: no service "+c.id.Service+" in the stack", false)
		case !remove && !inactive:
			v.plan.Orphans = append(v.plan.Orphans, c.Name)
		}
	}
	for _, c := range v.strangers {
		v.plan.Orphans = append(v.plan.Orphans, c.Name)
	}
	slices.Sort(v.plan.Orphans)
}

// composeIdentity reads the identity of a container that Docker Compose made.
func composeIdentity(labels map[string]string) (runtime.Identity, bool) {
	id := runtime.Identity{
		Stack:   labels[runtime.LabelComposeProject],
		Service: labels[runtime.LabelComposeService],
		OneOff:  strings.EqualFold(labels[runtime.LabelComposeOneOff], "true"),
	}
	_, err := fmt.Sscanf(labels[runtime.LabelComposeNumber], "%d", &id.Slot)
	return id, err == nil && id.Stack != "" && id.Service != "" && id.Slot > 0
}
