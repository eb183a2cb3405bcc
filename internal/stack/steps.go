package stack

import (
	"cmp"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/berth-dev/berth/runtime"
)

// stepConfig is a pre_start step as if it were a service of its own. The library
// has completed its keys by the service's; added here is what the service has
// under other keys: its mounts, but for anonymous volumes, the name of its built
// image, and its devices. A step that says how it is connected is not connected
// as the service is.
func stepConfig(p *types.Project, c types.ServiceConfig, h types.PreStartHook) types.ServiceConfig {
	s := types.ServiceConfig{Name: c.Name, ContainerSpec: h.ContainerSpec}
	s.Image = cmp.Or(s.Image, imageName(p, c))
	s.PullPolicy = stepPolicy(s, s.Image == imageName(p, c))
	if c.Deploy != nil {
		if r := c.Deploy.Resources.Reservations; r != nil {
			only := types.Resource{Devices: r.Devices}
			s.Deploy = &types.DeployConfig{Resources: types.Resources{Reservations: &only}}
		}
	}
	taken := map[string]bool{}
	for _, v := range s.Volumes {
		taken[path.Clean(v.Target)] = true
	}
	for _, f := range s.Tmpfs {
		target, _, _ := strings.Cut(f, ":")
		taken[path.Clean(target)] = true
	}
	s.Volumes = slices.Clone(s.Volumes)
	for _, v := range c.Volumes {
		anonymous := v.Type == types.VolumeTypeVolume && v.Source == ""
		if !anonymous && !taken[path.Clean(v.Target)] {
			s.Volumes = append(s.Volumes, v)
		}
	}
	switch {
	case c.NetworkMode == "" && s.NetworkMode != "":
		s.Networks = maps.Clone(s.Networks)
		maps.DeleteFunc(s.Networks, func(key string, _ *types.ServiceNetworkConfig) bool {
			_, inherited := c.Networks[key]
			return inherited
		})
	case c.NetworkMode == s.NetworkMode && len(s.Networks) > 0:
		s.NetworkMode = ""
	}
	return s
}

// stepPolicy is when a step's image is pulled. Only the service's own is built.
func stepPolicy(s types.ServiceConfig, own bool) string {
	switch {
	case s.PullPolicy == types.PullPolicyIfNotPresent:
		return types.PullPolicyMissing
	case s.PullPolicy == types.PullPolicyBuild && !own:
		return ""
	}
	return s.PullPolicy
}

// steps translates pre_start.
func (t *translator) steps(s *Service, c types.ServiceConfig) error {
	for i, h := range c.PreStart {
		at := *t
		at.below = []string{"pre_start", strconv.Itoa(i)}
		cfg := stepConfig(t.project, c, h)
		step := Init{PullPolicy: pullPolicy(cfg), PerReplica: h.PerReplica}
		if err := at.container(&step.Spec, cfg); err != nil {
			return err
		}
		step.Spec.Healthcheck = &runtime.Healthcheck{Disable: true} // nobody waits for it
		step.Spec.Limits = stepLimits(limits(cfg), limits(c))
		anonymize(&step.Spec, s)
		if slices.Equal(h.Command, c.Command) && slices.Equal(h.Entrypoint, c.Entrypoint) && step.Spec.Image == s.Spec.Image {
			t.warn("runs what the service itself runs, and has to end before the service starts; give it a command:", "services", c.Name, "pre_start", strconv.Itoa(i))
		}
		s.PreStart = append(s.PreStart, step)
	}
	return nil
}

// stepLimits are a step's own limits, and for the rest those that the service
// has by deploy.resources: what a node promises must hold for a step too.
func stepLimits(l, service runtime.Limits) runtime.Limits {
	l.NanoCPUs = cmp.Or(l.NanoCPUs, service.NanoCPUs)
	l.Memory = cmp.Or(l.Memory, service.Memory)
	l.MemoryReservation = cmp.Or(l.MemoryReservation, service.MemoryReservation)
	l.Pids = cmp.Or(l.Pids, service.Pids)
	if l.MemoryReservation > l.Memory && l.Memory > 0 {
		l.MemoryReservation = l.Memory
	}
	return l
}

// anonymize takes from a step the names and addresses that are its service's:
// nobody who asks for the service must get to a step, and no address is held twice.
func anonymize(spec *runtime.Spec, s *Service) {
	if spec.MacAddress == s.Spec.MacAddress {
		spec.MacAddress = ""
	}
	for i := range spec.Networks {
		a := &spec.Networks[i]
		a.Aliases = slices.DeleteFunc(a.Aliases, func(alias string) bool { return alias == s.Name })
		for _, own := range s.Spec.Networks {
			if own.Network == a.Network {
				forget(a, own)
			}
		}
		if len(a.Aliases) == 0 {
			a.Aliases = nil
		}
	}
}

// forget drops what an attachment has from the service's own.
func forget(a *runtime.Attachment, own runtime.Attachment) {
	a.Aliases = slices.DeleteFunc(a.Aliases, func(alias string) bool { return slices.Contains(own.Aliases, alias) })
	if a.IPv4 == own.IPv4 {
		a.IPv4 = ""
	}
	if a.IPv6 == own.IPv6 {
		a.IPv6 = ""
	}
	if a.MacAddress == own.MacAddress {
		a.MacAddress = ""
	}
	if slices.Equal(a.LinkLocal, own.LinkLocal) {
		a.LinkLocal = nil
	}
}

// hooks translates post_start and pre_stop. A variable that has no value
// anywhere is left out.
func hooks(list []types.ServiceHook) []Hook {
	var out []Hook
	for _, h := range list {
		env := maps.Clone(h.Environment)
		maps.DeleteFunc(env, func(_ string, v *string) bool { return v == nil })
		hook := Hook{Command: h.Command, User: h.User, Privileged: h.Privileged, WorkingDir: h.WorkingDir}
		if len(env) > 0 {
			hook.Env = environment(env)
		}
		out = append(out, hook)
	}
	return out
}

// resolveHooks gives a variable of post_start and pre_stop without a value that
// of the environment, as the library does for a service's own.
func (l *loading) resolveHooks(p *types.Project) {
	for _, s := range p.Services {
		for _, list := range [][]types.ServiceHook{s.PostStart, s.PreStop} {
			for i := range list {
				list[i].Environment = list[i].Environment.Resolve(l.lookup)
			}
		}
	}
}

// completeSteps gives the keys of pre_start steps the defaults that the library
// gives those of services only: a bind mount's source is created, and a request
// for GPUs is for all of them.
func completeSteps(model map[string]any) {
	services, _ := model["services"].(map[string]any)
	for _, s := range services {
		service, _ := s.(map[string]any)
		steps, _ := service["pre_start"].([]any)
		for _, h := range steps {
			step, _ := h.(map[string]any)
			for _, v := range maplist(step["volumes"]) {
				if bind, ok := v["bind"].(map[string]any); ok {
					setDefault(bind, "create_host_path", true)
				} else if v["type"] == types.VolumeTypeBind {
					v["bind"] = map[string]any{"create_host_path": true}
				}
			}
			for _, g := range maplist(step["gpus"]) {
				if g["device_ids"] == nil {
					setDefault(g, "count", "all")
				}
			}
		}
	}
}

// maplist are the mappings in a list.
func maplist(list any) []map[string]any {
	all, _ := list.([]any)
	out := make([]map[string]any, 0, len(all))
	for _, e := range all {
		if m, ok := e.(map[string]any); ok {
			out = append(out, m)
		}
	}
	return out
}

func setDefault(m map[string]any, key string, value any) {
	if m[key] == nil {
		m[key] = value
	}
}

// hooks checks the commands around a service's life, and each step before it as
// a container of its own.
func (c *checker) hooks(s types.ServiceConfig) error {
	for _, part := range []struct {
		key  string
		list []types.ServiceHook
	}{{"post_start", s.PostStart}, {"pre_stop", s.PreStop}} {
		for i, h := range part.list {
			at := checker{loading: c.loading, project: c.project, below: []string{part.key, strconv.Itoa(i)}}
			if err := at.hook(s.Name, h); err != nil {
				return err
			}
		}
	}
	for i, h := range s.PreStart {
		at := checker{loading: c.loading, project: c.project, below: []string{"pre_start", strconv.Itoa(i)}}
		cfg := stepConfig(c.project, s, h)
		for _, f := range []func(types.ServiceConfig) error{at.grammar, at.image, at.pull, at.networking, at.references, at.targets, at.memory} {
			if err := f(cfg); err != nil {
				return err
			}
		}
		if err := at.stepReferences(cfg, s); err != nil {
			return err
		}
	}
	return nil
}

// hook checks a command that is run in the service's container.
func (c *checker) hook(service string, h types.ServiceHook) error {
	s := types.ServiceConfig{Name: service}
	if len(h.Command) == 0 || h.Command[0] == "" {
		return c.bad(s, "command", "is empty; give a command such as [/bin/sh, -c, …]")
	}
	s.Command, s.User, s.WorkingDir, s.Environment = h.Command, h.User, h.WorkingDir, h.Environment
	return c.grammar(s)
}

// stepReferences wants the services that a step uses to be there before it.
func (c *checker) stepReferences(step, s types.ServiceConfig) error {
	uses := []struct{ key, service string }{}
	for _, part := range []struct{ key, mode string }{{"network_mode", step.NetworkMode}, {"pid", step.Pid}, {"ipc", step.Ipc}} {
		if name, ok := strings.CutPrefix(part.mode, types.ServicePrefix); ok {
			uses = append(uses, struct{ key, service string }{part.key, name})
		}
	}
	for _, from := range step.VolumesFrom {
		if !strings.HasPrefix(from, types.ContainerPrefix) {
			name, _, _ := strings.Cut(from, ":")
			uses = append(uses, struct{ key, service string }{"volumes_from", name})
		}
	}
	for _, u := range uses {
		if u.service == s.Name {
			return c.bad(step, u.key, "means the service itself, which has not started by then; drop it")
		}
		if _, ok := s.DependsOn[u.service]; !ok {
			return c.bad(step, u.key, "uses the service %q, which may not be there yet; add it to depends_on: of %q", clip(u.service), s.Name)
		}
	}
	return nil
}

// inUse is the project without what no active service uses. The library does not
// count what only a step before the start uses.
func inUse(p *types.Project) *types.Project {
	out := p.WithoutUnnecessaryResources()
	for _, s := range p.Services {
		for _, h := range s.PreStart {
			for key := range h.Networks {
				keep(out.Networks, p.Networks, key)
			}
			for _, v := range h.Volumes {
				keep(out.Volumes, p.Volumes, v.Source)
			}
			for _, f := range h.Configs {
				keep(out.Configs, p.Configs, f.Source)
			}
			for _, f := range h.Secrets {
				keep(out.Secrets, p.Secrets, f.Source)
			}
		}
	}
	return out
}

// keep takes over an entry that there is.
func keep[V any, M ~map[string]V](to, from M, key string) {
	if v, ok := from[key]; ok {
		to[key] = v
	}
}
