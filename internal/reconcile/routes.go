package reconcile

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
)

// Reach is how the balancer gets to the containers of an engine.
type Reach string

// The ways.
const (
	ReachDirect    Reach = ""          // by their addresses
	ReachPublished Reach = "published" // by a port of their own on this machine's loopback, as into a virtual machine
	ReachRemote    Reach = "remote"    // not at all: the engine's host is another machine
)

// Backend is what the balancer says of a container.
type Backend struct {
	Routed bool      `json:"routed,omitempty"` // new connections may go to it
	Since  time.Time `json:"since,omitzero"`   // when it was taken out; zero: never
	Open   int       `json:"open,omitempty"`   // connections that are still open
}

// Routing is what the balancer is to do for one service.
type Routing struct {
	Ports    []runtime.Port // what is listened on
	Balance  stack.Balance
	Backends []Route // that take new connections
}

// Route is a container that takes new connections.
type Route struct {
	Container string // ID
	Name      string
	Revision  string
	// Weight is the share of the containers of this revision together, in percent
	// of the new connections; 0: all containers of the service are alike.
	Weight int
}

// balanced reports whether the balancer holds a service's published ports.
func (v *view) balanced(svc *stack.Service) bool {
	is, known := v.balances[svc.Name]
	if !known {
		is = v.isBalanced(svc)
		v.balances[svc.Name] = is
	}
	return is
}

func (v *view) isBalanced(svc *stack.Service) bool {
	switch {
	case len(svc.Spec.Ports) == 0 || svc.Publish == stack.PublishDirect || v.o.Reach == ReachRemote || !ownNetwork(&svc.Spec):
		return false
	case svc.Publish == stack.PublishBalanced || svc.MayBalance():
		return true
	default:
		// Nobody stops listening because it is scaled below what the file says, to none too.
		return svc.FixedPort() && (max(v.d.Replicas(svc), svc.Replicas) > 1 || svc.Mode == stack.Replicated && v.wasBalanced(svc))
	}
}

// wasBalanced reports whether the balancer holds the ports of a container that is
// there: a service that was scaled to one does not change hands for that.
func (v *view) wasBalanced(svc *stack.Service) bool {
	for _, cs := range v.replicas[svc.Name] {
		if slices.ContainsFunc(cs, func(c *member) bool { return c.id.Publish == runtime.PublishBalanced }) {
			return true
		}
	}
	return false
}

// ownNetwork reports whether a container has an address of its own.
func ownNetwork(spec *runtime.Spec) bool {
	mode := spec.NetworkMode
	return mode != "host" && mode != "none" && !strings.HasPrefix(mode, "service:") && !strings.HasPrefix(mode, "container:")
}

// publishOf is what a service's containers say of their published ports.
func (v *view) publishOf(svc *stack.Service) string {
	switch {
	case len(svc.Spec.Ports) == 0:
		return ""
	case v.balanced(svc):
		return runtime.PublishBalanced
	}
	hash, known := v.portHashes[svc.Name]
	if !known {
		data, _ := json.Marshal(svc.Spec.Ports) // plain values
		sum := sha256.Sum256(data)
		hash = hex.EncodeToString(sum[:4])
		v.portHashes[svc.Name] = hash
	}
	return hash
}

// publishDrift says that a container's ports are held otherwise than they are to be.
func (v *view) publishDrift(svc *stack.Service, c *member) string {
	want := v.publishOf(svc)
	switch {
	case c.id.Publish == want:
		return ""
	case want == runtime.PublishBalanced:
		return "its published ports go over to the balancer"
	case c.id.Publish == runtime.PublishBalanced && want != "":
		return "its published ports go over to the engine"
	default:
		return "changed: ports"
	}
}

// standsInTheWay says that a container holds a port that the balancer is to listen
// at. It is replaced even where changed containers are kept: until it goes, none of
// the service's other replicas gets a connection.
func (v *view) standsInTheWay(svc *stack.Service, c *member) string {
	if !v.balanced(svc) {
		return ""
	}
	return v.publishDrift(svc, c)
}

// ports are what the engine publishes of a container.
func (v *view) ports(svc *stack.Service) []runtime.Port {
	if !v.balanced(svc) {
		return svc.Spec.Ports
	}
	if v.o.Reach != ReachPublished {
		return nil
	}
	var own []runtime.Port
	for _, p := range svc.Spec.Ports {
		own = append(own, runtime.Port{Target: p.Target, Protocol: p.Protocol, HostIP: "127.0.0.1"})
	}
	return slices.CompactFunc(own, func(a, b runtime.Port) bool { return a == b })
}

// drains takes a container out of the balancer before its run ends, and lets its
// connections finish. It returns the hold that says so; nil: it may end now.
func (v *view) drains(s Step) *Hold {
	svc := v.d.Stack.Service(s.Service)
	if svc == nil || s.Container == "" || !ends(s.Op) || !v.balanced(svc) && !v.relayed(svc) {
		return nil
	}
	v.leaving[s.Container] = true
	polite := v.d.Down == nil && v.want(svc.Name) == WantRunning && s.Grace > 0 && !s.Urgent
	if !polite {
		return nil
	}
	b, known := v.backend(s.Container)
	h := Hold{Kind: HoldWaiting, Key: s.Key, Service: s.Service, Slot: s.Slot, Name: s.Name}
	due := b.Since.Add(svc.Balance.Drain)
	switch {
	case v.relayDue(svc):
		h.Reason, h.Until = "the relay is to know of it first: "+s.Cause, v.now.Add(relayLook)
	case !known:
		return nil
	case b.Routed && v.o.Carried[s.Container].Routed:
		h.Reason, h.Until = "is taken out of the relay: "+s.Cause, v.now.Add(relayLook)
	case b.Routed:
		h.Reason, h.Until = "is taken out of the balancer: "+s.Cause, v.now
	case b.Open > 0 && v.now.Before(due) && due.Sub(v.now) <= svc.Balance.Drain:
		h.Reason, h.Until = fmt.Sprintf("%s may finish until %s: %s", openConnections(b.Open), due.Format(time.TimeOnly), s.Cause), due
	default:
		return nil
	}
	return &h
}

func openConnections(n int) string {
	if n == 1 {
		return "1 open connection"
	}
	return fmt.Sprintf("%d open connections", n)
}

// route tells the balancer what to do for a service.
func (v *view) route(svc *stack.Service) {
	if want := v.d.Services[svc.Name].Want; !v.balanced(svc) || want != WantRunning && want != WantPaused && want != WantCreated {
		return
	}
	v.plan.Routes[svc.Name] = v.routing(svc, v.gotTo)
	v.tellUnbound(svc)
}

// gotTo reports whether the balancer gets to a container: also to one whose ports
// the engine still holds, unless they are the only way to it.
func (v *view) gotTo(c *member) bool {
	return c.id.Publish == runtime.PublishBalanced || v.o.Reach == ReachDirect
}

// routing are the containers of a service that take new connections, and their
// shares: those that serve, and while there are none those that are being woken.
func (v *view) routing(svc *stack.Service, may func(*member) bool) Routing {
	r := v.routed(svc, func(c *member) bool { return may(c) && v.takesNew(svc, c) })
	if len(r.Backends) == 0 {
		r = v.routed(svc, func(c *member) bool { return may(c) && v.thaws(svc, c) })
	}
	return r
}

func (v *view) routed(svc *stack.Service, takes func(*member) bool) Routing {
	r := Routing{Ports: svc.Spec.Ports, Balance: svc.Balance}
	share := v.rolling(svc).share(svc)
	for _, slot := range sortedKeys(v.replicas[svc.Name]) {
		for _, c := range v.replicas[svc.Name][slot] {
			if !takes(c) {
				continue
			}
			to := Route{Container: c.ID, Name: c.Name, Revision: c.id.Revision}
			if share > 0 {
				to.Weight = 100 - share
				if c.id.Revision == svc.Revision {
					to.Weight = share
				}
			}
			r.Backends = append(r.Backends, to)
		}
	}
	return r
}

// portRetry is how soon a port that could not be listened at is tried again.
const portRetry = time.Second

// tellUnbound says that the balancer cannot listen at a service's ports. While a
// container of the service still publishes them itself, that is a matter of time.
func (v *view) tellUnbound(svc *stack.Service) {
	why := v.o.Unbound[svc.Name]
	if why == "" {
		return
	}
	h := Hold{
		Kind: HoldFailing, Key: Key("port/" + svc.Name), Service: svc.Name, Name: svc.Name, Reason: why,
		Until: v.now.Add(portRetry),
	}
	for _, cs := range v.replicas[svc.Name] {
		for _, c := range cs {
			if c.id.Publish != runtime.PublishBalanced && v.stillHolds(c) {
				h.Kind, h.Reason = HoldWaiting, "waits for "+c.Name+" to give the published ports up"
			}
		}
	}
	v.hold(h)
}

// PortRelease is how long the engine may take to let go of the ports of a
// container that has ended.
const PortRelease = 5 * time.Second

// stillHolds reports whether the engine may still listen for a container.
func (v *view) stillHolds(c *member) bool {
	return c.State.Alive() || v.now.Before(c.Finished.Add(PortRelease))
}

// takesNew reports whether a container takes new connections.
func (v *view) takesNew(svc *stack.Service, c *member) bool {
	if v.leaving[c.ID] {
		return false
	}
	roll := v.rolling(svc)
	if roll.whole && !roll.allDone() {
		return v.carries(svc, roll, c)
	}
	if roll.whole && v.outdated(svc, c) != "" {
		return false
	}
	return v.serves(svc, c)
}

// thaws reports whether a paused container is being unpaused, and is ready as soon as
// it runs. It can be connected to already: the kernel accepts for a frozen process, which
// finds the connection, and what was sent, when it goes on. So who waits for it does
// not wait until everybody has heard that it runs.
func (v *view) thaws(svc *stack.Service, c *member) bool {
	if c.State != runtime.Paused || v.leaving[c.ID] || v.requests[c.ID] != nil || v.outdated(svc, c) != "" || !v.hooksRun(svc, c) {
		return false
	}
	if svc.Probes.Readiness == nil && c.Health != runtime.HealthNone && c.Health != runtime.HealthHealthy {
		return false
	}
	unpauses := func(s Step) bool { return s.Op == OpUnpause && s.Container == c.ID }
	if !unpauses(v.m.InFlight[ReplicaKey(svc.Name, c.id.Slot)]) && !slices.ContainsFunc(v.plan.Steps, unpauses) {
		return false
	}
	st, known := v.status(c)
	return svc.Probes.Empty() || known && st.ReadyOnceResumed(svc.Probes)
}

// carries reports whether a container takes connections while traffic has not gone
// over as a whole yet: the old ones do, unless some that were there before the
// rollout began are as declared, since it goes back to these.
func (v *view) carries(svc *stack.Service, roll *rolling, c *member) bool {
	before := func(svc *stack.Service, c *member) bool {
		return v.outdated(svc, c) == "" && c.Started.Before(roll.Began) && v.serves(svc, c)
	}
	if v.any(svc, before) {
		return before(svc, c)
	}
	return v.outdated(svc, c) != "" && v.serves(svc, c)
}

// allDone reports whether every replica has its new container.
func (r *rolling) allDone() bool {
	done, _ := r.Counts()
	return done >= r.Total
}

// share is the share of new connections that a canary takes, in percent; 0: it
// is no canary.
func (r *rolling) share(svc *stack.Service) int {
	c := r.canary(svc)
	if c == nil || r.Step >= len(c.Steps) || r.wanted == 0 {
		return 0
	}
	step := c.Steps[r.Step]
	if step.IsShare {
		return step.Percent
	}
	return min(100, step.Count*100/r.wanted)
}
