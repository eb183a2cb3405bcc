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

// places is what one turn has decided about nodes: where the next container of
// each replica goes, and which containers have to leave theirs.
type places struct {
	node    map[Key]string   // of a replica's next or present container
	refused map[Key]Hold     // replicas that no node takes, and why
	leave   map[string]leave // by container ID
	evicted map[Key]string   // replicas that make room for more important ones, and why
	slots   map[string][]int // of services with one replica per node
	placed  Placed
	wake    time.Time // when the next deadline of a drain passes; zero: none does
}

// leave says why a container cannot stay on its node.
type leave struct {
	why string
	// dead: the node has failed, so the container is killed at once. forced: the
	// deadline of a drain has passed, or the node runs out of memory, so no regard
	// is paid to availability.
	dead, forced bool
	nowhere      string    // added to why where it is forced and no node takes the replica
	until        time.Time // the deadline that is still to come; zero: none
	to           string    // the node it is asked to move to; empty: any
}

// yields takes a replica away whose node has failed, that no node takes when it is
// forced to leave its own, or that makes room for a more important one. It
// reports whether it did, or holds the replica.
func (v *view) yields(svc *stack.Service, slot int, cs []*member) bool {
	key := ReplicaKey(svc.Name, slot)
	for _, c := range cs {
		switch l := v.places.leave[c.ID]; {
		case l.dead:
			v.moves(svc.Name, Hold{Kind: HoldWaiting, Key: key, Name: c.Name, Reason: "is taken off a failed node"})
			v.takeAway(key, c, 0, l.why, false)
			return true
		case l.forced && v.places.refused[key].Kind == HoldFailing:
			v.takeAway(key, c, v.grace(svc), l.why+l.nowhere, false)
			return true
		}
	}
	why := v.places.evicted[key]
	if why == "" {
		return false
	}
	if len(cs) > 0 {
		v.takeAway(key, cs[0], v.grace(svc), why, false)
		return true
	}
	h := Hold{Kind: HoldWaiting, Key: key, Service: svc.Name, Slot: slot, Name: v.containerName(svc, slot), Reason: why}
	v.hold(h)
	v.moves(svc.Name, h)
	return true
}

// noNode says why a replica's container cannot be created on any node now;
// empty when it can.
func (v *view) noNode(key Key) (string, HoldKind) {
	if h, refused := v.places.refused[key]; refused {
		return h.Reason, h.Kind
	}
	if n := v.nodeNamed(v.places.node[key]); n != nil && n.Pending != "" {
		return fmt.Sprintf("waits for node %s: %s", n.Name, n.Pending), HoldWaiting
	}
	return "", ""
}

// nodeNamed returns a node of the cluster, or nil.
func (v *view) nodeNamed(name string) *Node {
	if v.o.Cluster == nil {
		return nil
	}
	for i := range v.o.Cluster.Nodes {
		if n := &v.o.Cluster.Nodes[i]; n.Name == name {
			return n
		}
	}
	return nil
}

// parent is the cgroup under which a replica's container runs; empty: the engine's own.
func (v *view) parent(svc *stack.Service, slot int) string {
	if n := v.nodeNamed(v.places.node[ReplicaKey(svc.Name, slot)]); n != nil {
		return n.Parent
	}
	return ""
}

// limitsOn are a service's limits on a node. A CPU limit beyond the node's own is
// no ceiling, and an engine on cgroup v1 refuses it.
func (v *view) limitsOn(svc *stack.Service, name string) runtime.Limits {
	l := v.d.Services[svc.Name].limits(svc.Spec.Limits)
	n := v.nodeNamed(name)
	if n == nil || n.Parent == "" || n.Capacity.CPU == 0 || svc.Spec.Fixed.CgroupParent != "" {
		return l
	}
	most := n.Capacity.CPU * 1_000_000 // a millicore in nanocores
	l.NanoCPUs = min(l.NanoCPUs, most)
	if l.CPUQuota > 0 {
		period := cmp.Or(l.CPUPeriod, 100_000)
		l.CPUQuota = min(l.CPUQuota, n.Capacity.CPU*period/1000)
	}
	return l
}

// mayMove reports whether a replica may change its node now: one replica of a
// service at a time, and only while all others are ready, until a drain's
// deadline has passed. One that keeps failing is not waited for where the move
// leaves as many ready as before, or as many as must be. What does not change its
// node may always be replaced.
func (v *view) mayMove(svc *stack.Service, slot int, old *member) bool {
	l := v.places.leave[old.ID]
	if l.why == "" || l.forced || !old.State.Alive() {
		return true
	}
	if _, refused := v.places.refused[ReplicaKey(svc.Name, slot)]; refused {
		return true // it only says so
	}
	if other := v.onMove[svc.Name]; other != 0 {
		return v.waitToMove(svc, slot, old, l, fmt.Sprintf("%s/%d moves first", svc.Name, other))
	}
	for _, other := range v.slotsOf(svc) {
		if other == slot {
			continue
		}
		if _, busy := v.m.InFlight[ReplicaKey(svc.Name, other)]; busy {
			return v.waitToMove(svc, slot, old, l, fmt.Sprintf("%s/%d is being changed", svc.Name, other))
		}
		if !v.standsWell(svc, v.replicas[svc.Name][other]) && !v.passesOver(svc, slot, other, old) {
			return v.waitToMove(svc, slot, old, l, fmt.Sprintf("waits until %s/%d is ready", svc.Name, other))
		}
	}
	v.onMove[svc.Name] = slot
	return true
}

// passesOver reports whether a replica may move although another one is not ready:
// that one keeps failing, so that there is no telling when it will be, and the
// move takes away nothing that must be there. In a rollout the replicas that fail
// are its own matter.
func (v *view) passesOver(svc *stack.Service, slot, other int, old *member) bool {
	cs := v.replicas[svc.Name][other]
	if v.rolling(svc).under() || len(cs) != 1 || !v.keepsFailing(svc, other, cs[0], v.drainedSince(old)) {
		return false
	}
	return !v.serves(svc, old) || v.overlapObstacle(svc) == "" || v.missingBeside(svc, slot) < max(v.rolling(svc).down, 1)
}

// drainedSince is when the drain of a container's node began; zero: it is not drained.
func (v *view) drainedSince(c *member) time.Time {
	if n := v.nodeNamed(nodeOf(c)); n != nil && n.Drain != nil {
		return n.Drain.Since
	}
	return time.Time{}
}

// keepsFailing reports whether a container does not serve since it has ended, or
// was started again after it had, or has not become ready for long although it was
// started before a time.
func (v *view) keepsFailing(svc *stack.Service, slot int, c *member, since time.Time) bool {
	restarts, _ := v.attempts(ReplicaKey(svc.Name, slot), c.id.Revision, 0)
	switch {
	case v.serves(svc, c):
		return false
	case c.State == runtime.Exited || c.State == runtime.Restarting || restarts > 0 || c.RestartCount > 0:
		return true
	case c.State != runtime.Running || !c.Started.Before(since) || svc.Probes.Startup != nil || c.Health == runtime.HealthStarting:
		return false // it is still to become ready, for all that is known
	}
	due := c.Started.Add(longUnready)
	if wait := due.Sub(v.now); wait > 0 && wait <= longUnready {
		v.lookAt(due)
		return false
	}
	return true
}

// longUnready is how long a container that runs must not have been ready for
// nobody to wait any longer for it to become so.
const longUnready = time.Minute

// missingBeside counts the replicas of a service but one that do not serve.
func (v *view) missingBeside(svc *stack.Service, slot int) int {
	n := 0
	for _, other := range v.rolling(svc).missing {
		if other != slot {
			n++
		}
	}
	return n
}

// standsWell reports whether a replica serves and is not on the move itself.
func (v *view) standsWell(svc *stack.Service, cs []*member) bool {
	leaves := func(c *member) bool { return v.places.leave[c.ID].why != "" }
	serves := func(c *member) bool { return v.serves(svc, c) }
	return slices.ContainsFunc(cs, serves) && (len(cs) == 1 || !slices.ContainsFunc(cs, leaves))
}

func (v *view) waitToMove(svc *stack.Service, slot int, old *member, l leave, why string) bool {
	v.hold(Hold{
		Kind: HoldWaiting, Key: ReplicaKey(svc.Name, slot), Service: svc.Name, Slot: slot, Name: old.Name,
		Reason: l.why + "; " + why,
	})
	return false
}

// isReady reports whether a container serves.
func (v *view) isReady(svc *stack.Service, c *member) bool {
	ready, _ := v.readiness(svc, c)
	return ready
}

// overlapObstacle says why two containers of one replica cannot run at once;
// empty when they can.
func (v *view) overlapObstacle(svc *stack.Service) string {
	for _, p := range v.ports(svc) {
		if p.Published != "" && p.Published != "0" && !strings.Contains(p.Published, "-") {
			return "it holds host port " + p.Published
		}
	}
	if len(v.slotsOf(svc)) > 1 {
		return ""
	}
	for _, m := range svc.Spec.Mounts {
		if m.Type == "volume" && m.Source != "" {
			return "it is a single replica with volume " + m.Source
		}
	}
	return ""
}

// done reports whether a container holds no room: it is a job that has
// succeeded, or its service was stopped.
func (v *view) done(svc *stack.Service, c *member) bool {
	if v.want(svc.Name) == WantStopped && !c.State.Alive() {
		return true
	}
	return v.jobs[svc.Name] && c.State == runtime.Exited && c.ExitCode == 0 && c.id.Revision == svc.Revision
}
