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

// Relayed is a service's relays, and where they lead.
type Relayed struct {
	Relays  []string // IDs of containers that run
	Routing Routing
}

// RelayState is what a relay says of itself.
type RelayState struct {
	Obeys   bool   `json:"obeys,omitempty"`   // it has done what it was told last
	Deaf    bool   `json:"deaf,omitempty"`    // it has long not done so: nothing waits for it
	Trouble string `json:"trouble,omitempty"` // what it cannot do
}

// What a relay's container may use, and how soon one that ended at once is started
// again.
const (
	relayMemory = 128 << 20 // bytes; a relay bounds its connections to fit
	relayPids   = 256
	relayUser   = "65534:65534" // nobody
	relayRest   = time.Second
	relayBrief  = 10 * time.Second
)

// relayFormat is the version of how a relay is started and spoken to: another one
// makes all relays anew.
const relayFormat = 1

func relayKey(service string) Key { return Key(service + "/relay") }

func (v *view) relayName(service string) string { return v.d.Stack.Name + "-" + service + "-relay" }

// relayed reports whether a service has a relay, or keeps the one it has: a
// service that gives its relay up does so once all its replicas have its names.
func (v *view) relayed(svc *stack.Service) bool {
	if svc.Discovery == stack.DiscoverReady || len(v.relays[svc.Name]) == 0 {
		return svc.Discovery == stack.DiscoverReady
	}
	for _, cs := range v.replicas[svc.Name] {
		if slices.ContainsFunc(cs, func(c *member) bool { return c.State.Alive() && c.id.Revision != svc.Revision }) {
			return true
		}
	}
	return false
}

// relay decides about the relay of one service: the container whose address the
// service's names lead to. A changed one is made beside the old one, which goes
// once the new one does what it is told.
func (v *view) relay(svc *stack.Service) {
	want := v.want(svc.Name)
	if want == WantAbsent || !v.relayed(svc) {
		v.endRelays(svc.Name, "the service has no relay")
		return
	}
	key := relayKey(svc.Name)
	if s, busy := v.m.InFlight[key]; busy {
		v.holdRelay(svc, Hold{Kind: HoldWaiting, Name: s.Name, Reason: string(s.Op) + " in progress"})
		return
	}
	spec, revision := v.relaySpec(svc)
	cur, olds := v.splitRelays(svc, revision)
	switch {
	case want == WantStopped:
		v.stopRelays(svc)
	case cur == nil && len(olds) > 0 && v.staleNetwork(svc) != "":
		v.takeAway(key, olds[0], 0, "network "+v.staleNetwork(svc)+" changed", true)
	case cur != nil && want == WantCreated && len(olds) > 0:
		v.takeAway(key, olds[len(olds)-1], 0, "replaced by "+cur.Name, true)
	case cur == nil:
		v.createRelay(svc, spec, revision, olds)
	case cur.State != runtime.Running:
		v.startRelay(svc, cur, want)
	default:
		v.keepRelay(svc, cur, olds)
	}
}

// splitRelays finds the relay that is as it is to be; the others, newest first,
// are its predecessors. A service that gives its relay up keeps the newest as it is.
func (v *view) splitRelays(svc *stack.Service, revision string) (cur *member, olds []*member) {
	list := slices.Clone(v.relays[svc.Name])
	slices.SortStableFunc(list, func(a, b *member) int { return b.Created.Compare(a.Created) })
	for _, c := range list {
		is := c.id.Revision == revision || svc.Discovery != stack.DiscoverReady
		if is && (cur == nil || !cur.State.Alive() && c.State.Alive()) {
			cur = c
		}
	}
	return cur, slices.DeleteFunc(list, func(c *member) bool { return c == cur })
}

// relaySpec is the container of a service's relay, but for the program, and the
// hash of all that only a new one can change.
func (v *view) relaySpec(svc *stack.Service) (*runtime.Spec, string) {
	spec := &runtime.Spec{
		Command: []string{}, StdinOpen: true, User: relayUser, ReadOnly: true,
		CapDrop: []string{"ALL"}, SecurityOpt: []string{"no-new-privileges"},
		// So that it needs no right to listen at a port below 1024.
		Sysctls: map[string]string{"net.ipv4.ip_unprivileged_port_start": "0"},
		Logging: &runtime.Logging{Driver: "none"}, Restart: runtime.RestartPolicy{Name: "no"},
		Limits: runtime.Limits{Memory: relayMemory, Pids: relayPids}, Networks: svc.Names,
	}
	for _, p := range svc.Reachable() {
		spec.Command = append(spec.Command, fmt.Sprintf("%d/%s", p.Target, p.Protocol))
	}
	id := struct {
		Format   int
		Spec     *runtime.Spec
		Networks []string // their revisions
	}{Format: relayFormat, Spec: spec}
	for _, at := range svc.Names {
		id.Networks = append(id.Networks, v.networkRevision(at.Network))
	}
	data, _ := json.Marshal(id) // plain values
	sum := sha256.Sum256(data)
	return spec, hex.EncodeToString(sum[:8])
}

func (v *view) networkRevision(name string) string {
	for i := range v.d.Stack.Networks {
		if n := &v.d.Stack.Networks[i]; n.Spec.Name == name {
			return n.Revision
		}
	}
	return ""
}

// relayStep is a step for a relay.
func relayStep(op Op, svc *stack.Service, c *member, cause string) Step {
	s := Step{Op: op, Key: relayKey(svc.Name), Service: svc.Name, Cause: cause}
	if c != nil {
		s.Name, s.Container, s.Revision = c.Name, c.ID, c.id.Revision
	}
	return s
}

// createRelay makes a relay, beside its predecessors if there are any.
func (v *view) createRelay(svc *stack.Service, spec *runtime.Spec, revision string, olds []*member) {
	name := v.relayName(svc.Name)
	why, kind := v.blockedNetwork(svc.Names)
	if why == "" {
		why, kind = v.nameTaken(name)
	}
	if why != "" {
		v.holdRelay(svc, Hold{Kind: kind, Name: name, Reason: why})
		return
	}
	id := runtime.Identity{
		Owner: v.d.Owner, Stack: v.d.Stack.Name, Service: svc.Name, Slot: 1, Revision: revision, OneOff: true,
		WorkingDir: v.d.Stack.WorkingDir, ConfigFiles: v.d.Stack.ConfigFiles, EnvFiles: v.d.Stack.EnvFiles, Version: v.d.Version,
	}
	s := relayStep(OpCreate, svc, nil, "leads to ready replicas")
	if len(olds) > 0 {
		s.Cause = "its ports, names or networks changed"
	}
	s.Revision, s.Spec, s.Labels = revision, spec, id.Labels()
	s.Labels[runtime.LabelRelay] = svc.Name
	s.Name = v.freeName(s, name)
	v.awaitRelay(svc, s, "is being created")
}

// startRelay starts a relay that does not run, unless it is not to.
func (v *view) startRelay(svc *stack.Service, c *member, want Want) {
	switch {
	case c.State == runtime.Paused:
		v.awaitRelay(svc, relayStep(OpUnpause, svc, c, "is to run"), "is being resumed")
	case c.State == runtime.Dead || c.State == runtime.Removing:
		v.takeAway(relayKey(svc.Name), c, 0, "the container is "+string(c.State), true)
	case c.State == runtime.Created && c.Started.IsZero() && !v.m.Made[c.ID] && len(svc.Names) > 1:
		v.takeAway(relayKey(svc.Name), c, 0, "its creation was interrupted, so networks may be missing", true)
	case want == WantCreated:
	default:
		v.restartRelay(svc, c)
	}
}

// restartRelay starts a relay; one that ended soon after its last start rests first.
func (v *view) restartRelay(svc *stack.Service, c *member) {
	due := c.Finished.Add(relayRest)
	if c.Ran() > 0 && c.Ran() < relayBrief && v.now.Before(due) && due.Sub(v.now) <= relayRest {
		v.holdRelay(svc, Hold{Kind: HoldFailing, Name: c.Name, Reason: v.exitReason(c) + "; it is started again", Until: due})
		return
	}
	v.awaitRelay(svc, relayStep(OpStart, svc, c, "is to run"), "is being started")
}

// keepRelay looks after a relay that runs: its predecessors go once it does what
// it is told, and it takes the name.
func (v *view) keepRelay(svc *stack.Service, c *member, olds []*member) {
	state, told := v.o.Relays[c.ID]
	if state.Trouble != "" {
		v.hold(Hold{Kind: HoldFailing, Key: relayKey(svc.Name), Service: svc.Name, Name: c.Name, Reason: state.Trouble})
	}
	name := v.relayName(svc.Name)
	switch {
	case len(olds) > 0 && v.o.Relays != nil && (!told || !state.Obeys):
		v.hold(Hold{Kind: HoldWaiting, Key: relayKey(svc.Name), Service: svc.Name, Name: c.Name, Reason: "is to know the ready replicas before " + olds[0].Name + " goes"})
	case len(olds) > 0:
		v.takeAway(relayKey(svc.Name), olds[len(olds)-1], 0, "replaced by "+c.Name, true)
	case c.Name != name && strings.HasPrefix(c.Name, name+"-") && v.byName[name] == nil:
		s := relayStep(OpRename, svc, c, "its predecessor is gone")
		s.NewName = name
		if v.m.holdback(s, v.now) == nil { // the name is only a convenience
			v.step(s)
		}
	}
}

// stopRelays brings the relays of a service to rest.
func (v *view) stopRelays(svc *stack.Service) {
	for _, c := range v.relays[svc.Name] {
		if c.State.Alive() && !v.waitsForDependents(c, relayKey(svc.Name)) {
			v.step(relayStep(OpStop, svc, c, "stopped by command"))
			return
		}
	}
}

// endRelays takes the relays of a service away, one after the other, and reports
// whether there was any.
func (v *view) endRelays(service, cause string) bool {
	list := v.relays[service]
	if len(list) == 0 {
		return false
	}
	if key := relayKey(service); !v.busy(key, "", 0) && !v.waitsForDependents(list[0], key) {
		v.takeAway(key, list[0], 0, cause, true)
	}
	return true
}

// sweepRelays takes the relays away whose service the stack does not have; those
// of a profile that is not active are left, as its replicas are.
func (v *view) sweepRelays() {
	for _, service := range sortedKeys(v.relays) {
		if v.d.Stack.Service(service) == nil && !slices.Contains(v.d.Stack.Inactive, service) {
			v.endRelays(service, "no service "+service+" in the stack")
		}
	}
}

// awaitRelay plans a step after which the relay is nearer to serving. Who depends
// on the service waits for that.
func (v *view) awaitRelay(svc *stack.Service, s Step, reason string) {
	h := Hold{Kind: HoldWaiting, Key: s.Key, Name: s.Name, Reason: reason}
	if !v.step(s) {
		h = v.plan.Holds[len(v.plan.Holds)-1]
	}
	v.relayMoves(svc, h)
}

// holdRelay says why a relay does not come nearer to serving.
func (v *view) holdRelay(svc *stack.Service, h Hold) {
	h.Key, h.Service = relayKey(svc.Name), svc.Name
	v.hold(h)
	v.relayMoves(svc, h)
}

// relayMoves has the service's dependants wait while none of its relays runs.
func (v *view) relayMoves(svc *stack.Service, h Hold) {
	if len(v.servingRelays(svc)) == 0 {
		v.moves(svc.Name, h)
	}
}

// servingRelays are the IDs of a service's relays that run.
func (v *view) servingRelays(svc *stack.Service) []string {
	var ids []string
	for _, c := range v.relays[svc.Name] {
		if c.State == runtime.Running {
			ids = append(ids, c.ID)
		}
	}
	return ids
}

// relayMember is a relay of a service that runs, or is to; nil: none.
func (v *view) relayMember(service string) *member {
	var found *member
	for _, c := range v.relays[service] {
		if found == nil || !found.State.Alive() && c.State.Alive() {
			found = c
		}
	}
	return found
}

// relayRoute tells a service's relays where to lead.
func (v *view) relayRoute(svc *stack.Service) {
	if ids := v.servingRelays(svc); len(ids) > 0 && v.relayed(svc) {
		r := v.routing(svc, func(*member) bool { return true })
		r.Ports = nil // it has its own
		v.plan.Relayed[svc.Name] = Relayed{Relays: ids, Routing: r}
	}
}

// relayLook is how soon it is looked again whether a relay has done what it was
// told; mostly it says so by itself before.
const relayLook = 100 * time.Millisecond

// relayDue reports whether a relay of the service is yet to do what it was told,
// as it is after the daemon's start.
func (v *view) relayDue(svc *stack.Service) bool {
	return slices.ContainsFunc(v.servingRelays(svc), func(id string) bool {
		s, told := v.o.Relays[id]
		return told && !s.Obeys && !s.Deaf
	})
}

// backend is what the balancer and the relays say of a container together.
func (v *view) backend(id string) (b Backend, known bool) {
	b, known = v.o.Backends[id]
	r, relayed := v.o.Carried[id]
	b.Routed, b.Open = b.Routed || r.Routed, b.Open+r.Open
	if r.Since.After(b.Since) {
		b.Since = r.Since
	}
	return b, known || relayed
}
