package stack

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"

	"github.com/berth-dev/berth/runtime"
)

// identity is what the revision of a service is the hash of: all that only a
// new container can change.
type identity struct {
	Spec          runtime.Spec
	ContainerName string
	Networks      []string   // their revisions, in the order of Spec.Networks
	Volumes       []string   // theirs, in the order of Spec.Mounts
	Contents      []string   // digests of what is mounted from files
	PreStart      []identity `json:",omitempty"` // the steps that prepare the container
	PerReplica    bool       `json:",omitempty"` // of a step
}

// revision hashes a service. Limits, the engine's restart policy, replicas and
// dependencies change in place and stay out; so does how the image is built,
// since a new image is noticed by its ID. Probes and the hooks that run in the
// container stay out, as nothing of them is in the container. Mode and placement
// stay out too: what they change is where a replica stands, which the planner
// compares with where it may stand, so that a replica whose node still suits it
// is kept. So do the published ports, which a service may hand over to the
// balancer: the planner compares what a container publishes with what it is to.
// What is said of updates and of the balancer is in no container at all.
func (t *translator) revision(s *Service) string {
	id := t.identity(&s.Spec)
	id.ContainerName = s.ContainerName
	for i := range s.PreStart {
		step := t.identity(&s.PreStart[i].Spec)
		step.PerReplica = s.PreStart[i].PerReplica
		id.PreStart = append(id.PreStart, step)
	}
	return hash(id)
}

// identity is what a new container of a spec is made from.
func (t *translator) identity(spec *runtime.Spec) identity {
	id := identity{Spec: *spec}
	id.Spec.Limits = runtime.Limits{}
	id.Spec.Restart = runtime.RestartPolicy{}
	id.Spec.Attach = nil
	id.Spec.Ports = nil
	networks := map[string]string{}
	for _, n := range t.networks {
		networks[n.Spec.Name] = n.Revision
	}
	for _, a := range spec.Networks {
		id.Networks = append(id.Networks, networks[a.Network])
	}
	volumes := map[string]string{}
	for _, v := range t.volumes {
		volumes[v.Spec.Name] = v.Revision
	}
	for _, m := range spec.Mounts {
		switch m.Type {
		case runtime.MountVolume:
			id.Volumes = append(id.Volumes, volumes[m.Source])
		case runtime.MountBind:
			if d := t.digests[m.Source]; d != "" {
				id.Contents = append(id.Contents, d)
			}
		case runtime.MountTmpfs, runtime.MountImage, runtime.MountPipe, runtime.MountCluster:
		}
	}
	return id
}

// hash is 16 hex digits of the SHA-256 of a value's JSON, in which maps are
// sorted and fields in the order of their type.
func hash(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		// Plain values of our own types always marshal.
		panic("stack: " + err.Error())
	}
	return digest(data)
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:8])
}
