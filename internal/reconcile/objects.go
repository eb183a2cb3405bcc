package reconcile

import (
	"fmt"
	"slices"

	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
)

// netState is what a turn has found out about one network.
type netState int

const (
	netUnknown netState = iota // not a network of the stack
	netReady
	netComing // a step or hold of this turn is about it
	netStale  // to be made anew; its containers leave it first
)

// networks plans the stack's networks.
func (v *view) networks() {
	for i := range v.d.Stack.Networks {
		n := &v.d.Stack.Networks[i]
		v.nets[n.Spec.Name] = v.network(n)
	}
}

func (v *view) network(n *stack.Network) netState {
	name := n.Spec.Name
	s := Step{Op: OpNetCreate, Key: Key("network/" + name), Name: name, Revision: n.Revision}
	have, exists := v.o.Networks[name]
	switch {
	case v.busy(s.Key, "", 0):
		return netComing
	case n.External && exists:
		return netReady
	case n.External:
		v.hold(Hold{Kind: HoldFailing, Key: s.Key, Name: name, Reason: "external network not found; create it: docker network create " + name})
		return netComing
	case !exists:
		s.Cause = "no network"
		s.Network = v.networkSpec(n)
		v.step(s)
		return netComing
	case !v.owns(have.Labels):
		if v.d.Adopt {
			return netReady
		}
		v.hold(Hold{Kind: HoldFailing, Key: s.Key, Name: name, Reason: "a network of this name was not made by Berth; declare it external, remove it, or run up --adopt"})
		return netComing
	case have.Labels[runtime.LabelRevision] == n.Revision:
		return netReady
	}
	return v.remakeNetwork(s, have)
}

// remakeNetwork removes a network that the file has changed, once no container
// runs on it.
func (v *view) remakeNetwork(s Step, have runtime.Network) netState {
	for i := range v.o.Containers {
		c := &v.o.Containers[i]
		if c.State.Alive() && slices.ContainsFunc(c.Networks, func(e runtime.Endpoint) bool { return e.Network == s.Name }) {
			v.hold(Hold{Kind: HoldWaiting, Key: s.Key, Name: s.Name, Reason: "changed; is made anew once " + c.Name + " has left it"})
			return netStale
		}
	}
	s.Op, s.Container, s.Cause = OpNetRemove, have.ID, "changed since revision "+short(have.Labels[runtime.LabelRevision])
	v.step(s)
	return netStale
}

// owns reports whether labels say that this installation made the object for
// this stack.
func (v *view) owns(labels map[string]string) bool {
	return labels[runtime.LabelOwner] == v.d.Owner && labels[runtime.LabelStack] == v.d.Stack.Name &&
		labels[runtime.LabelSchema] == runtime.Schema
}

func (v *view) networkSpec(n *stack.Network) *runtime.NetworkSpec {
	spec := n.Spec
	spec.Labels = mergeLabels(n.Spec.Labels,
		runtime.ObjectLabels(v.d.Owner, v.d.Stack.Name, runtime.LabelComposeNetwork, n.Key, n.Revision, v.d.Version))
	return &spec
}

// volumes plans the stack's named volumes. A volume is never made anew: what
// is in it is the user's.
func (v *view) volumes() {
	for i := range v.d.Stack.Volumes {
		vol := &v.d.Stack.Volumes[i]
		name := vol.Spec.Name
		key := Key("volume/" + name)
		have, exists := v.o.Volumes[name]
		switch {
		case v.busy(key, "", 0):
		case !exists && vol.External:
			v.hold(Hold{Kind: HoldFailing, Key: key, Name: name, Reason: "external volume not found; create it: docker volume create " + name})
		case !exists:
			v.step(Step{Op: OpVolCreate, Key: key, Name: name, Cause: "no volume", Revision: vol.Revision, Volume: v.volumeSpec(vol)})
		case vol.External:
		case !v.owns(have.Labels):
			if !v.d.Adopt {
				v.warn("volume %s was not made by Berth for this stack: it is used as it is and never removed; declare it external to say so", name)
			}
		case have.Labels[runtime.LabelRevision] != vol.Revision:
			v.warn("volume %s differs from the file and is kept as it is; to make it anew, save its data and run down -v", name)
		}
	}
}

func (v *view) volumeSpec(vol *stack.Volume) *runtime.VolumeSpec {
	spec := vol.Spec
	spec.Labels = mergeLabels(vol.Spec.Labels,
		runtime.ObjectLabels(v.d.Owner, v.d.Stack.Name, runtime.LabelComposeVolume, vol.Key, vol.Revision, v.d.Version))
	return &spec
}

func (v *view) warn(format string, args ...any) {
	v.plan.Warnings = append(v.plan.Warnings, fmt.Sprintf(format, args...))
}

func mergeLabels(user, ours map[string]string) map[string]string {
	m := make(map[string]string, len(user)+len(ours))
	for k, val := range user {
		m[k] = val
	}
	for k, val := range ours {
		m[k] = val
	}
	return m
}

// sweep removes the volumes that held the configs and secrets of containers that
// are gone, and reports whether any is left. They are the engine's own making for
// a read-only container, hold nothing of the user's, and must not outlive it.
func (v *view) sweep() bool {
	left := false
	for _, name := range sortedKeys(v.o.Volumes) {
		vol := v.o.Volumes[name]
		if vol.Labels[runtime.LabelFiles] == "" || !v.owns(vol.Labels) || v.mounted(name) || v.creating() {
			continue
		}
		s := Step{Op: OpVolRemove, Key: Key("volume/" + name), Name: name, Cause: "its container is gone"}
		if v.d.Down == nil && v.m.holdback(s, v.now) != nil {
			continue // it is tried again; nothing waits for it
		}
		left = true
		if !v.busy(s.Key, "", 0) {
			v.step(s)
		}
	}
	return left
}

// mounted reports whether a container of the stack has a volume.
func (v *view) mounted(volume string) bool {
	return slices.ContainsFunc(v.o.Containers, func(c runtime.Container) bool {
		return slices.ContainsFunc(c.Mounts, func(m runtime.MountPoint) bool { return m.Name == volume })
	})
}

// creating reports whether a creation is in flight, whose volumes are not
// known yet.
func (v *view) creating() bool {
	for _, s := range v.m.InFlight {
		if s.Op == OpCreate {
			return true
		}
	}
	return false
}

// blocked says what a new container of a service still lacks: its image, a
// network or a volume. It plans the image where that is missing.
func (v *view) blocked(svc *stack.Service) (string, HoldKind) {
	if why, kind := v.image(svc); why != "" {
		return why, kind
	}
	if why, kind := v.blockedNetwork(svc.Spec.Networks); why != "" {
		return why, kind
	}
	for _, mnt := range svc.Spec.Mounts {
		if mnt.Type != runtime.MountVolume || mnt.Source == "" {
			continue
		}
		if _, exists := v.o.Volumes[mnt.Source]; !exists && v.declaresVolume(mnt.Source) {
			return "waits for volume " + mnt.Source, v.kindOf(Key("volume/" + mnt.Source))
		}
	}
	return "", ""
}

// blockedNetwork says which network a new container still lacks.
func (v *view) blockedNetwork(list []runtime.Attachment) (string, HoldKind) {
	for _, at := range list {
		if st := v.nets[at.Network]; st == netComing || st == netStale {
			return "waits for network " + at.Network, v.kindOf(Key("network/" + at.Network))
		}
	}
	return "", ""
}

func (v *view) declaresVolume(name string) bool {
	return slices.ContainsFunc(v.d.Stack.Volumes, func(vol stack.Volume) bool { return vol.Spec.Name == name })
}

// kindOf is the kind of the hold that stands for key in this turn: what waits
// for something that fails is failing too.
func (v *view) kindOf(key Key) HoldKind {
	for i := range v.plan.Holds {
		if v.plan.Holds[i].Key == key {
			return v.plan.Holds[i].Kind
		}
	}
	return HoldWaiting
}

// staleNetwork names a network of the service that is to be made anew.
func (v *view) staleNetwork(svc *stack.Service) string {
	for _, at := range svc.Spec.Networks {
		if v.nets[at.Network] == netStale {
			return at.Network
		}
	}
	return ""
}

// image says why a service's image is not there, and plans to fetch or build
// it, once for all services that use it.
func (v *view) image(svc *stack.Service) (string, HoldKind) {
	if pin := v.d.Services[svc.Name].ImageID; pin != "" && v.o.Images[pin].ID != "" {
		return "", ""
	}
	return v.imageRef(svc, svc.Spec.Image)
}

// imageRef is image for one reference.
func (v *view) imageRef(svc *stack.Service, ref string) (string, HoldKind) {
	key := Key("image/" + ref)
	if v.o.Images[ref].ID != "" {
		return "", ""
	}
	if !v.pulling[ref] {
		v.pulling[ref] = true
		v.fetch(svc, key, ref)
	}
	return "waits for image " + ref, v.kindOf(key)
}

func (v *view) fetch(svc *stack.Service, key Key, ref string) {
	s := Step{Op: OpPull, Key: key, Name: ref, Cause: "image missing"}
	switch {
	case v.busy(key, "", 0):
		return
	case svc.Build != nil:
		s.Op, s.Build = OpBuild, svc.Build
	case svc.PullPolicy == "never":
		v.hold(Hold{Kind: HoldFailing, Key: key, Name: ref, Reason: "image missing, and pull_policy: never forbids to fetch it"})
		return
	}
	v.step(s)
}
