package reconcile

import (
	"cmp"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
)

// containerName is the name a replica's container has in the end.
func (v *view) containerName(svc *stack.Service, slot int) string {
	if svc.ContainerName != "" {
		return svc.ContainerName
	}
	return runtime.ContainerName(v.d.Stack.Name, svc.Name, slot)
}

// identity is what the labels of a new container say.
func (v *view) identity(svc *stack.Service, slot int) runtime.Identity {
	id := runtime.Identity{
		Owner: v.d.Owner, Stack: v.d.Stack.Name, Service: svc.Name, Slot: slot, Revision: svc.Revision,
		WorkingDir: v.d.Stack.WorkingDir, ConfigFiles: v.d.Stack.ConfigFiles, EnvFiles: v.d.Stack.EnvFiles,
		Version: v.d.Version, ImageID: v.o.Images[svc.Spec.Image].ID, Publish: v.publishOf(svc),
	}
	if node := v.places.node[ReplicaKey(svc.Name, slot)]; node != LocalNode {
		id.Node = node
	}
	for _, dep := range svc.DependsOn {
		id.DependsOn = append(id.DependsOn, dep.Service+":"+string(dep.Condition)+":"+strconv.FormatBool(dep.Restart))
	}
	return id
}

// render turns a service's template into the spec of one replica: references
// resolved, templates expanded, the predecessor's anonymous volumes carried
// over. It says what is missing when a reference cannot be resolved yet.
func (v *view) render(svc *stack.Service, slot int, old *member) (*runtime.Spec, string) {
	spec := svc.Spec
	if why := v.resolveReferences(&spec); why != "" {
		return nil, why
	}
	if pin := v.pinned(svc); pin != "" && v.o.Images[spec.Image].ID != pin {
		spec.Image = pin // the tag means another image by now
	}
	spec.Ports = v.ports(svc)
	v.expandTemplates(&spec, svc, slot)
	spec.Limits = v.limitsOn(svc, v.places.node[ReplicaKey(svc.Name, slot)])
	spec.Fixed.CgroupParent = cmp.Or(spec.Fixed.CgroupParent, v.parent(svc, slot))
	name := v.containerName(svc, slot)
	spec.Networks = slices.Clone(spec.Networks)
	for i := range spec.Networks {
		at := &spec.Networks[i]
		if !slices.Contains(at.Aliases, name) {
			at.Aliases = append(slices.Clone(at.Aliases), name)
		}
	}
	if old != nil && !v.d.Services[svc.Name].RenewVolumes {
		spec.Mounts = carryVolumes(spec.Mounts, old.Mounts, v.o.Images[svc.Spec.Image].Volumes)
	}
	return &spec, ""
}

// carryVolumes keeps the data of a replaced container's anonymous volumes: the
// new one mounts them where it would have got an empty one.
func carryVolumes(mounts []runtime.Mount, old []runtime.MountPoint, declared []string) []runtime.Mount {
	mounts = slices.Clone(mounts)
	for _, o := range old {
		if o.Type != runtime.MountVolume || o.Name == "" {
			continue
		}
		i := slices.IndexFunc(mounts, func(m runtime.Mount) bool { return m.Target == o.Target })
		switch {
		case i >= 0 && mounts[i].Type == runtime.MountVolume && mounts[i].Source == "":
			mounts[i].Source = o.Name
		case i < 0 && slices.Contains(declared, o.Target):
			mounts = append(mounts, runtime.Mount{Type: runtime.MountVolume, Source: o.Name, Target: o.Target})
		}
	}
	return mounts
}

// resolveReferences replaces "service:<name>" by the container it means.
func (v *view) resolveReferences(spec *runtime.Spec) string {
	for _, mode := range []*string{&spec.NetworkMode, &spec.PidMode, &spec.IpcMode} {
		target, ok := strings.CutPrefix(*mode, "service:")
		if !ok {
			continue
		}
		c := v.namespaceOwner(target)
		if c == nil {
			return "waits for " + target + ", whose namespace it shares"
		}
		*mode = "container:" + c.ID
	}
	spec.VolumesFrom = slices.Clone(spec.VolumesFrom)
	for i, from := range spec.VolumesFrom {
		rest, ok := strings.CutPrefix(from, "service:")
		if !ok {
			continue
		}
		target, access, _ := strings.Cut(rest, ":")
		c := v.namespaceOwner(target)
		if c == nil {
			return "waits for " + target + ", whose volumes it mounts"
		}
		spec.VolumesFrom[i] = strings.TrimSuffix(c.ID+":"+access, ":")
	}
	return v.resolveLinks(spec)
}

// resolveLinks replaces "service:<name>:<alias>" by links to each replica.
func (v *view) resolveLinks(spec *runtime.Spec) string {
	var links []string
	for _, link := range spec.Links {
		rest, ok := strings.CutPrefix(link, "service:")
		if !ok {
			links = append(links, link)
			continue
		}
		target, alias, _ := strings.Cut(rest, ":")
		c := v.namespaceOwner(target)
		if svc := v.d.Stack.Service(target); svc != nil && svc.Discovery == stack.DiscoverReady {
			c = v.relayMember(target)
		}
		if c == nil {
			return "waits for " + target + ", which it links to"
		}
		links = append(links, c.Name+":"+alias)
	}
	spec.Links = links
	return ""
}

// templates are Swarm's placeholders, as {{.Task.Slot}}.
var templates = regexp.MustCompile(`\{\{\s*\.(Service\.Name|Task\.Slot|Task\.Name|Node\.Hostname)\s*\}\}`)

// expandTemplates fills Swarm's placeholders in environment, hostname and mounts.
func (v *view) expandTemplates(spec *runtime.Spec, svc *stack.Service, slot int) {
	values := map[string]string{
		"Service.Name":  svc.Name,
		"Task.Slot":     strconv.Itoa(slot),
		"Task.Name":     v.containerName(svc, slot),
		"Node.Hostname": cmp.Or(v.places.node[ReplicaKey(svc.Name, slot)], LocalNode),
	}
	expand := func(s string) string {
		if !strings.Contains(s, "{{") {
			return s
		}
		return templates.ReplaceAllStringFunc(s, func(t string) string { return values[templates.FindStringSubmatch(t)[1]] })
	}
	spec.Hostname = expand(spec.Hostname)
	spec.Env = slices.Clone(spec.Env)
	for i := range spec.Env {
		spec.Env[i] = expand(spec.Env[i])
	}
	spec.Mounts = slices.Clone(spec.Mounts)
	for i := range spec.Mounts {
		spec.Mounts[i].Source = expand(spec.Mounts[i].Source)
		spec.Mounts[i].Target = expand(spec.Mounts[i].Target)
	}
}
