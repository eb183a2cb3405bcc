package reconcile

import (
	"fmt"
	"slices"
	"strings"

	"github.com/berth-dev/berth/health"
	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
)

// updateRetry is how long an engine that did not take an in-place change is
// left alone before it is asked again, in seconds.
const updateRetry = 60

// replica decides about one wanted slot of a service.
func (v *view) replica(svc *stack.Service, slot int, cs []*member, want Want) {
	if want == WantAbsent || v.busy(ReplicaKey(svc.Name, slot), svc.Name, slot) {
		return
	}
	if v.yields(svc, slot, cs) {
		return
	}
	if want == WantStopped {
		v.stopped(svc, slot, cs)
		return
	}
	cur, olds := v.split(svc, cs)
	if cur == nil && v.staysBehind(svc, slot, olds) {
		svc = &v.d.Services[svc.Name].Base.Service
		cur, olds = v.split(svc, cs)
	}
	if want == WantRunning && v.sheds(svc, slot, olds) {
		return
	}
	switch {
	case cur == nil && len(olds) == 0:
		v.create(v.template(svc), slot, nil, v.absenceCause(svc, slot))
	case cur == nil:
		v.replace(svc, slot, v.servingOf(svc, olds), want)
	case len(olds) > 0:
		v.overlap(svc, slot, cur, olds, want)
	default:
		v.keep(svc, slot, cur, want)
	}
}

func (v *view) absenceCause(svc *stack.Service, slot int) string {
	if slot > svc.Replicas || (v.d.Services[svc.Name].Scale != nil && len(v.replicas[svc.Name]) > 0) {
		return fmt.Sprintf("scaled to %d", v.d.Replicas(svc))
	}
	return "no container"
}

// split finds the container that is as declared; the others, newest first, are
// its predecessors.
func (v *view) split(svc *stack.Service, cs []*member) (cur *member, olds []*member) {
	if len(cs) == 0 {
		return nil, nil
	}
	for _, c := range cs {
		if v.drift(svc, c) == "" && (cur == nil || betterOf(c, cur)) {
			cur = c
		}
	}
	for _, c := range cs {
		if c != cur {
			olds = append(olds, c)
		}
	}
	slices.SortStableFunc(olds, func(a, b *member) int { return b.Created.Compare(a.Created) })
	return cur, olds
}

// betterOf prefers the live one, then the newer.
func betterOf(a, b *member) bool {
	if a.State.Alive() != b.State.Alive() {
		return a.State.Alive()
	}
	return a.Created.After(b.Created)
}

// drift says why a container cannot stay; empty when it can.
func (v *view) drift(svc *stack.Service, c *member) string {
	if r := v.requests[c.ID]; r != nil && r.Op == runtime.OpRemove {
		return r.Cause
	}
	if c.State == runtime.Dead || c.State == runtime.Removing {
		return "the container is " + string(c.State)
	}
	if why := v.brokenStart(c); why != "" {
		return why
	}
	if l := v.places.leave[c.ID]; l.why != "" {
		return l.why
	}
	if why, due := v.recreation(svc, c); why != "" && !v.now.Before(due) {
		return why
	}
	if v.d.Services[svc.Name].KeepRevision {
		return v.standsInTheWay(svc, c)
	}
	if why := v.outdated(svc, c); why != "" {
		return why
	}
	return v.staleNamespace(svc, c)
}

// outdated says how a container differs from what its service declares now;
// empty: in nothing that needs another one.
func (v *view) outdated(svc *stack.Service, c *member) string {
	if c.id.Revision != svc.Revision {
		return v.revisionCause(svc, c.id.Revision)
	}
	if pin := v.pinned(svc); pin != "" && c.ImageID != "" && c.ImageID != pin {
		return "image " + svc.Spec.Image + " changed"
	}
	return v.publishDrift(svc, c)
}

// servingOf picks, of several predecessors, one that serves; else the newest.
func (v *view) servingOf(svc *stack.Service, olds []*member) *member {
	for _, c := range olds {
		if v.serves(svc, c) {
			return c
		}
	}
	return olds[0]
}

// pinned is the ID of the image a service's replicas run; empty when none was
// pinned, or when the pinned one is gone and the reference means another.
func (v *view) pinned(svc *stack.Service) string {
	st := v.d.Services[svc.Name]
	pin := st.ImageID
	if st.Base != nil && svc == &st.Base.Service {
		pin = st.Base.ImageID
	}
	if pin != "" && v.o.Images[svc.Spec.Image].ID != pin && v.o.Images[pin].ID == "" {
		return ""
	}
	return pin
}

// brokenStarts is how often the engine may fail inside while it starts a
// container before that one is given up and made anew.
const brokenStarts = 5

// brokenStart says that the engine cannot start a container although nothing is
// wrong with the request: an engine that went down at the wrong moment leaves
// such ones. It is given up once: its successor is tried for as long as it takes.
func (v *view) brokenStart(c *member) string {
	f, ok := v.m.Failures[ReplicaKey(c.id.Service, c.id.Slot)]
	if !ok || f.Container != c.ID || f.Op != OpStart || f.Kind != runtime.KindUnavailable || f.Here < brokenStarts || c.State.Alive() {
		return ""
	}
	if len(v.replicas[c.id.Service][c.id.Slot]) > 1 {
		return ""
	}
	return "the engine cannot start it: " + f.Err
}

func (v *view) revisionCause(svc *stack.Service, from string) string {
	st := v.d.Services[svc.Name]
	switch {
	case from == "":
		return "made by Docker Compose, adopted"
	case from == st.ChangedFrom && len(st.Changed) > 0:
		return "changed: " + strings.Join(st.Changed, ", ")
	default:
		return "changed since revision " + short(from)
	}
}

func short(revision string) string { return revision[:min(8, len(revision))] }

// staleNamespace says whether a container shares the namespace of one that was
// replaced meanwhile.
func (v *view) staleNamespace(svc *stack.Service, c *member) string {
	target, ok := strings.CutPrefix(svc.Spec.NetworkMode, "service:")
	if !ok || c.NetworkMode == "" {
		return ""
	}
	id, ok := strings.CutPrefix(c.NetworkMode, "container:")
	if !ok {
		return ""
	}
	for _, s := range sortedKeys(v.replicas[target]) {
		for _, t := range v.replicas[target][s] {
			if t.ID == id {
				return ""
			}
		}
	}
	if v.namespaceOwner(target) == nil {
		return "" // nothing to move to yet
	}
	return "shares the network of " + target + ", which was replaced"
}

// namespaceOwner is the container of a service whose namespaces others join:
// that of its lowest slot.
func (v *view) namespaceOwner(service string) *member {
	svc := v.d.Stack.Service(service)
	if svc == nil {
		return nil
	}
	for _, slot := range sortedKeys(v.replicas[service]) {
		if cur, _ := v.split(svc, v.replicas[service][slot]); cur != nil {
			return cur
		}
	}
	return nil
}

// create makes a replica's container, as soon as all that it needs is there.
// old is the container it replaces, if any.
func (v *view) create(svc *stack.Service, slot int, old *member, cause string) {
	key := ReplicaKey(svc.Name, slot)
	name := v.containerName(svc, slot)
	h := Hold{Kind: HoldWaiting, Key: key, Service: svc.Name, Slot: slot, Name: name}
	why, kind := v.blocked(svc)
	if why == "" {
		why, kind = v.nameTaken(name)
	}
	var spec *runtime.Spec
	if why == "" {
		why, kind = v.noNode(key)
	}
	if why == "" {
		spec, why = v.render(svc, slot, old)
		kind = HoldWaiting
	}
	if why != "" {
		h.Kind, h.Reason = kind, why
		v.hold(h)
		v.moves(svc.Name, h)
		return
	}
	id := v.identity(svc, slot)
	s := Step{
		Op: OpCreate, Key: key, Service: svc.Name, Slot: slot, Cause: cause, Node: id.Node,
		Revision: svc.Revision, Spec: spec, Labels: id.Labels(),
	}
	if old != nil {
		if verdict := v.verdict(svc, old); verdict.Action.Do == health.Recreate {
			s.Heals, s.Finished = true, verdict.Since
		}
	}
	s.Name = v.freeName(s, name)
	v.moves(svc.Name, Hold{Kind: HoldWaiting, Key: key, Name: s.Name, Reason: "is being created"})
	if !v.step(s) {
		v.moves(svc.Name, v.plan.Holds[len(v.plan.Holds)-1])
	}
}

// nameTaken says when a container that is not ours holds a replica's name.
func (v *view) nameTaken(name string) (string, HoldKind) {
	c := v.byName[name]
	if c == nil || !slices.Contains(v.strangers, c) {
		return "", ""
	}
	return "the name is held by a container that this Berth did not create; remove or rename it, or run up --adopt", HoldFailing
}

// freeName returns the replica's own name, or, while another container holds
// it or a creation under it failed, one with the revision and a try as suffix.
func (v *view) freeName(s Step, name string) string {
	f, failed := v.m.Failures[s.Key]
	failed = failed && f.Op == OpCreate && f.Kind == runtime.KindConflict && f.Revision == s.Revision
	holder := v.byName[name]
	if holder == nil && !failed {
		return name
	}
	try := 1
	if failed {
		try = f.Count
	}
	for ; ; try++ {
		free := name + "-" + short(s.Revision)
		if try > 1 {
			free += fmt.Sprint("-", try)
		}
		if v.byName[free] == nil {
			return free
		}
	}
}

// stuckRemovals is how often a removal may fail before the replica's next
// container is made under another name, beside the one that does not go.
const stuckRemovals = 3

// stuck reports whether a replica's old container does not go although its
// removal was tried often enough.
func (v *view) stuck(key Key) bool {
	f, ok := v.m.Failures[key]
	return ok && f.Op == OpRemove && f.Count >= stuckRemovals
}

// replace prepares the successor of a container that is not as declared: it is
// created beside the old one, which is stopped only once that has succeeded.
func (v *view) replace(svc *stack.Service, slot int, old *member, want Want) {
	key := ReplicaKey(svc.Name, slot)
	cause := v.drift(svc, old)
	if (old.State == runtime.Dead || old.State == runtime.Removing) && !v.stuck(key) {
		v.moves(svc.Name, Hold{Kind: HoldWaiting, Key: key, Name: old.Name, Reason: "is being replaced"})
		v.takeAway(key, old, v.grace(svc), cause, false)
		return
	}
	if want == WantRunning && old.State.Alive() {
		if ok := v.dependenciesMet(svc, slot, old.Name); !ok {
			return
		}
	}
	if !v.mayMove(svc, slot, old) {
		return
	}
	if want == WantRunning && !v.mayReplace(svc, slot, old) {
		v.keep(svc, slot, old, want)
		return
	}
	if net := v.staleNetwork(svc); net != "" && old.State.Alive() {
		v.moves(svc.Name, Hold{Kind: HoldWaiting, Key: key, Name: old.Name, Reason: "is being replaced"})
		v.step(v.stopStep(svc, slot, old, "network "+net+" changed"))
		return
	}
	v.create(svc, slot, old, cause+v.stopFirstNote(svc, slot))
}

// overlap carries a replacement on: the old container stops, the new one
// starts, the old one goes, and the new one takes its name.
func (v *view) overlap(svc *stack.Service, slot int, cur *member, olds []*member, want Want) {
	cause := "replaced"
	if why := v.drift(svc, olds[0]); why != "" {
		cause = "replaced: " + why
	}
	first := want == WantRunning && slices.ContainsFunc(olds, func(old *member) bool { return v.startsFirst(svc, slot, old) })
	held := len(v.plan.Holds)
	if first && !v.takesOver(svc, slot, cur) {
		watched := len(v.plan.Holds) > held // the old one only stays for a while
		planned := len(v.plan.Steps) + len(v.plan.Holds)
		v.keep(svc, slot, cur, want)
		if watched {
			return
		}
		v.moves(svc.Name, Hold{Kind: HoldWaiting, Key: ReplicaKey(svc.Name, slot), Name: cur.Name, Reason: "is to be ready before " + olds[0].Name + " stops"})
		if len(v.plan.Steps)+len(v.plan.Holds) == planned {
			v.awaits(svc, slot, cur, olds[0])
		}
		return
	}
	for _, old := range olds {
		if old.State.Alive() {
			if want == WantRunning && (v.stopsShort(svc, slot, cur, old) || !v.mayLose(svc, slot, old)) {
				return
			}
			v.moves(svc.Name, Hold{Kind: HoldWaiting, Key: ReplicaKey(svc.Name, slot), Name: cur.Name, Reason: "is replacing " + old.Name})
			s := v.stopStep(svc, slot, old, cause)
			if want == WantRunning && v.ended(s.Key, cur) == nil { // else it is the one that yielded, and comes back
				s.Ends = &Ended{Container: old.ID, Started: old.Started, Why: cause, Then: ThenYield}
			}
			v.step(s)
			return
		}
	}
	if want == WantRunning && cur.State == runtime.Created {
		v.keep(svc, slot, cur, want)
		return
	}
	v.takeAway(ReplicaKey(svc.Name, slot), olds[len(olds)-1], 0, cause, v.d.Services[svc.Name].RenewVolumes)
}

func (v *view) stopStep(svc *stack.Service, slot int, c *member, cause string) Step {
	return Step{
		Op: OpStop, Key: ReplicaKey(svc.Name, slot), Service: svc.Name, Slot: slot, Name: c.Name, Container: c.ID,
		Cause: cause, Revision: c.id.Revision, Grace: v.grace(svc),
	}
}

// stopped brings a replica to rest, dependants first.
func (v *view) stopped(svc *stack.Service, slot int, cs []*member) {
	key := ReplicaKey(svc.Name, slot)
	for _, c := range cs {
		if !c.State.Alive() {
			continue
		}
		if r := v.requests[c.ID]; r != nil && r.Op == runtime.OpKill {
			v.kill(svc, slot, c, r)
			return
		}
		if !v.waitsForDependents(c, key) {
			s := v.stopStep(svc, slot, c, v.restCause(svc, "stopped by command"))
			if v.d.Services[svc.Name].Rest != nil {
				s.Ends = &Ended{Container: c.ID, Started: c.Started, Why: s.Cause, Then: ThenWake}
			}
			v.step(s)
		}
		return
	}
}

// restCause is why a service's replicas are not to run.
func (v *view) restCause(svc *stack.Service, otherwise string) string {
	if rest := v.d.Services[svc.Name].Rest; rest != nil {
		return rest.Why
	}
	return otherwise
}

// keep looks after a container that is as declared.
func (v *view) keep(svc *stack.Service, slot int, c *member, want Want) {
	if r := v.requests[c.ID]; r != nil && v.request(svc, slot, c, r) {
		return
	}
	if want != WantCreated && v.move(svc, slot, c, want) {
		return
	}
	if want == WantRunning && c.State == runtime.Running && (v.hooked(svc, slot, c) || v.heal(svc, slot, c) || v.follow(svc, slot, c)) {
		return
	}
	if v.rename(svc, slot, c) {
		return
	}
	v.update(svc, slot, c)
}

// move brings a container to the wanted state. It reports whether a step or a
// reason not to take one was found, so that nothing else is done in this turn.
func (v *view) move(svc *stack.Service, slot int, c *member, want Want) bool {
	s := v.replicaStep(OpStart, svc, slot, c, "")
	switch c.State {
	case runtime.Created:
		return v.start(svc, slot, c, "created, not started")
	case runtime.Running:
		if want == WantPaused {
			s.Op, s.Cause = OpPause, v.restCause(svc, "paused by command")
			v.step(s)
			return true
		}
		return false
	case runtime.Paused:
		if want == WantRunning {
			if v.resume(svc, slot, c) {
				return true
			}
			s.Op, s.Cause = OpUnpause, "is to run"
			v.step(s)
			return true
		}
		return false
	case runtime.Restarting:
		v.hold(Hold{
			Kind: HoldIdle, Key: s.Key, Service: svc.Name, Slot: slot, Name: c.Name,
			Reason: fmt.Sprintf("exited (%d), the engine restarts it by policy %s, %d restarts so far", c.ExitCode, c.Restart.Name, c.RestartCount),
		})
		return true
	case runtime.Exited:
		return v.exited(svc, slot, c)
	default:
		return false
	}
}

func (v *view) replicaStep(op Op, svc *stack.Service, slot int, c *member, cause string) Step {
	return Step{
		Op: op, Key: ReplicaKey(svc.Name, slot), Service: svc.Name, Slot: slot, Name: c.Name, Container: c.ID,
		Cause: cause, Revision: c.id.Revision,
	}
}

// start starts a container once its dependencies allow it.
func (v *view) start(svc *stack.Service, slot int, c *member, cause string) bool {
	if v.unfinished(svc, c) {
		key := ReplicaKey(svc.Name, slot)
		v.takeAway(key, c, 0, "its creation was interrupted, so files or networks may be missing", true)
		v.moves(svc.Name, Hold{Kind: HoldWaiting, Key: key, Name: c.Name, Reason: "is made anew"})
		return true
	}
	if !v.dependenciesMet(svc, slot, c.Name) || v.prepare(svc, slot, c) {
		return true
	}
	s := v.replicaStep(OpStart, svc, slot, c, cause)
	if v.step(s) {
		v.moves(svc.Name, Hold{Kind: HoldWaiting, Key: s.Key, Name: c.Name, Reason: "is being started"})
	} else {
		v.moves(svc.Name, v.plan.Holds[len(v.plan.Holds)-1])
	}
	return true
}

// unfinished reports whether a container that never ran may lack what is added
// after its creation: its files, and all networks but the first. Who created it
// and saw that through remembers it; after a crash in between nobody does.
func (v *view) unfinished(svc *stack.Service, c *member) bool {
	return c.State == runtime.Created && c.Started.IsZero() && !v.m.Made[c.ID] &&
		(len(svc.Spec.Files) > 0 || len(svc.Spec.Networks) > 1)
}

// request carries out a one-time operation on a container.
func (v *view) request(svc *stack.Service, slot int, c *member, r *Request) bool {
	switch r.Op {
	case runtime.OpKill:
		v.kill(svc, slot, c, r)
		return true
	case runtime.OpStart:
		return v.start(svc, slot, c, r.Cause)
	case runtime.OpRestart:
		return v.restart(svc, slot, c, r)
	default:
		return false
	}
}

func (v *view) kill(svc *stack.Service, slot int, c *member, r *Request) {
	s := v.replicaStep(OpKill, svc, slot, c, r.Cause)
	s.Signal = r.Signal
	v.step(s)
}

func (v *view) restart(svc *stack.Service, slot int, c *member, r *Request) bool {
	if !c.State.Alive() {
		return v.start(svc, slot, c, r.Cause)
	}
	for _, dep := range svc.DependsOn {
		if h, moving := v.moving[dep.Service]; moving {
			v.hold(Hold{
				Kind: h.Kind, Key: ReplicaKey(svc.Name, slot), Service: svc.Name, Slot: slot, Name: c.Name,
				Reason: "restarts after " + h.Name + ", which " + h.Reason, Until: h.Until,
			})
			return true
		}
	}
	s := v.replicaStep(OpRestart, svc, slot, c, r.Cause)
	if c.State == runtime.Paused {
		s.Op, s.Cause = OpUnpause, r.Cause
	}
	s.Signal, s.Grace = r.Signal, v.grace(svc)
	if r.Grace != nil {
		s.Grace = *r.Grace
	}
	v.moves(svc.Name, Hold{Kind: HoldWaiting, Key: s.Key, Name: c.Name, Reason: "is being restarted"})
	v.step(s)
	return true
}

// rename gives a successor the replica's own name once that is free.
func (v *view) rename(svc *stack.Service, slot int, c *member) bool {
	name := v.containerName(svc, slot)
	suffixed := strings.HasPrefix(c.Name, name+"-"+short(c.id.Revision))
	if !suffixed || v.byName[name] != nil {
		return false // renamed by hand, or still held: it stays ours by its labels
	}
	s := v.replicaStep(OpRename, svc, slot, c, "its predecessor is gone")
	s.NewName = name
	if v.m.holdback(s, v.now) != nil {
		return false // the name is only a convenience
	}
	return v.step(s)
}

// update changes limits and the engine's restart policy in place.
func (v *view) update(svc *stack.Service, slot int, c *member) {
	if !runtime.Transition(c.State, runtime.OpUpdate).OK() {
		return
	}
	limits := v.limitsOn(svc, nodeOf(c))
	changed := limitsDiff(limits, c.Limits)
	if normalPolicy(svc.Spec.Restart) != normalPolicy(c.Restart) {
		changed = append(changed, "restart")
	}
	if len(changed) == 0 {
		return
	}
	s := v.replicaStep(OpUpdate, svc, slot, c, "changed: "+strings.Join(changed, ", "))
	s.Limits, s.Restart = limits, svc.Spec.Restart
	if u, ok := v.m.Updated[c.ID]; ok && u.Limits == s.Limits && u.Restart == s.Restart {
		if age := v.now.Sub(u.At).Seconds(); age >= 0 && age < updateRetry {
			v.hold(Hold{
				Kind: HoldIdle, Key: s.Key, Service: svc.Name, Slot: slot, Name: c.Name,
				Reason: "the engine did not take over " + strings.Join(changed, ", "),
			})
			return
		}
	}
	v.step(s)
}
