package reconcile

import (
	"slices"
	"time"

	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
)

// down takes the whole stack away: containers, dependants first, then networks,
// then the volumes that were asked for.
func (v *view) down() {
	left := v.downContainers()
	for _, service := range sortedKeys(v.relays) {
		left = v.endRelays(service, "stack goes down") || left
	}
	left = v.downOneOffs() || left
	v.sweepInits()
	left = left || len(v.inits) > 0
	before := len(v.plan.Steps) + len(v.plan.Holds)
	v.orphans(v.d.Down.RemoveOrphans, v.d.Down.Grace)
	left = left || len(v.plan.Steps)+len(v.plan.Holds) > before
	if left {
		return
	}
	if v.sweep() || v.downNetworks() {
		return
	}
	if v.d.Down.Volumes && v.downVolumes() {
		return
	}
	v.plan.Gone = true
}

// downContainers takes the replicas away and reports whether any is left.
func (v *view) downContainers() bool {
	left := false
	for _, svc := range slices.Backward(v.order) {
		for _, slot := range sortedKeys(v.replicas[svc.Name]) {
			left = true
			key := ReplicaKey(svc.Name, slot)
			c := v.replicas[svc.Name][slot][0]
			if v.busy(key, svc.Name, slot) || v.waitsForDependents(c, key) {
				continue
			}
			v.takeAway(key, c, v.downGrace(svc), "stack goes down", v.d.Down.Volumes)
		}
	}
	return left
}

func (v *view) downGrace(svc *stack.Service) time.Duration {
	if v.d.Down.Grace != nil {
		return *v.d.Down.Grace
	}
	return svc.Spec.Grace()
}

// downOneOffs takes the containers of run away.
func (v *view) downOneOffs() bool {
	left := false
	grace := runtime.DefaultStopGrace
	if v.d.Down.Grace != nil {
		grace = *v.d.Down.Grace
	}
	for _, name := range sortedKeys(v.oneoffs) {
		for _, c := range v.oneoffs[name] {
			left = true
			if key := oneOffKey(name, c.id.Slot); !v.busy(key, "", 0) {
				v.takeAway(key, c, grace, "stack goes down", v.d.Down.Volumes)
			}
		}
	}
	return left
}

// takesAway reports whether a network or volume goes down with the stack: it was
// made for it here, or was taken over with it.
func (v *view) takesAway(labels map[string]string) bool {
	return v.owns(labels) || v.d.Adopt && labels[runtime.LabelComposeProject] == v.d.Stack.Name
}

// downNetworks removes the stack's own networks and reports whether any is left.
func (v *view) downNetworks() bool {
	left := false
	for _, name := range sortedKeys(v.o.Networks) {
		n := v.o.Networks[name]
		if !v.takesAway(n.Labels) {
			continue
		}
		left = true
		s := Step{Op: OpNetRemove, Key: Key("network/" + name), Name: name, Container: n.ID, Cause: "stack goes down"}
		if !v.busy(s.Key, "", 0) {
			v.step(s)
		}
	}
	return left
}

// downVolumes removes the stack's own volumes and reports whether any is left.
func (v *view) downVolumes() bool {
	left := false
	for i := range v.d.Stack.Volumes {
		vol := &v.d.Stack.Volumes[i]
		have, exists := v.o.Volumes[vol.Spec.Name]
		if !exists || vol.External || !v.takesAway(have.Labels) {
			continue
		}
		left = true
		s := Step{Op: OpVolRemove, Key: Key("volume/" + have.Name), Name: have.Name, Cause: "asked for with -v"}
		if !v.busy(s.Key, "", 0) {
			v.step(s)
		}
	}
	return left
}
