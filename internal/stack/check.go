package stack

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/berth-dev/berth/scheduler"
)

// check refuses projects whose parts do not fit together. The library has a
// check of its own; this one knows the lines and what to do about each.
func (l *loading) check(p *types.Project) error {
	c := checker{loading: l, project: p}
	for _, name := range slices.Sorted(maps.Keys(p.Services)) {
		if err := c.service(p.Services[name]); err != nil {
			return err
		}
	}
	for _, f := range []func() error{c.objects, c.containerNames, c.hostPorts, c.cycles} {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

type checker struct {
	*loading
	project *types.Project
	below   []string // where in a service the container stands that is checked; nil: its own
}

func (c *checker) service(s types.ServiceConfig) error {
	for _, f := range []func(types.ServiceConfig) error{
		c.grammar, c.image, c.pull, c.build, c.scale, c.mode, c.updates, c.networking, c.references, c.dependencies, c.health, c.targets, c.duplicated, c.memory, c.reserved, c.hooks,
	} {
		if err := f(s); err != nil {
			return err
		}
	}
	return nil
}

// bad is an error about a key of a service, given with dots.
func (c *checker) bad(s types.ServiceConfig, key, format string, args ...any) error {
	var path []string
	if key != "" {
		path = strings.Split(key, ".")
	}
	return c.badAt(s, path, format, args...)
}

func (c *checker) badAt(s types.ServiceConfig, path []string, format string, args ...any) error {
	return c.fail(fmt.Errorf(format, args...), slices.Concat([]string{"services", s.Name}, c.below, path)...)
}

func (c *checker) image(s types.ServiceConfig) error {
	if s.Image == "" && s.Build == nil && s.Provider == nil {
		return c.bad(s, "", "has neither image: nor build:; give one of them")
	}
	if s.Provider != nil {
		return nil
	}
	name := imageName(c.project, s)
	if err := checkImage(name); err != nil {
		if s.Image == "" {
			return c.bad(s, "build", "the image built would be called %q: %w; name it with image:", clip(name), err)
		}
		return c.bad(s, "image", "%q: %w", clip(name), err)
	}
	return nil
}

// pull wants an age for pull_policy: refresh as every_ takes it.
func (c *checker) pull(s types.ServiceConfig) error {
	if s.PullRefreshAfter != "" && !matches("^([0-9]+[wdhms])+$", s.PullRefreshAfter) {
		return c.bad(s, "pull_refresh_after", "%q is not an age such as 12h or 1d12h", clip(s.PullRefreshAfter))
	}
	return nil
}

func (c *checker) build(s types.ServiceConfig) error {
	b := s.Build
	if b == nil {
		return nil
	}
	if b.DockerfileInline != "" && b.Dockerfile != "" {
		return c.bad(s, "build", "dockerfile: and dockerfile_inline: exclude each other; keep one")
	}
	for _, tag := range b.Tags {
		if err := checkImage(tag); err != nil {
			return c.bad(s, "build.tags", "%q: %w", clip(tag), err)
		}
	}
	if len(b.Platforms) > 0 && s.Platform != "" && !slices.Contains(b.Platforms, s.Platform) {
		return c.bad(s, "build.platforms", "does not contain the service's own platform %q", clip(s.Platform))
	}
	return nil
}

func (c *checker) scale(s types.ServiceConfig) error {
	key, n := "deploy.replicas", s.GetScale()
	if s.Scale != nil {
		key = "scale"
		if s.Deploy != nil && s.Deploy.Replicas != nil && *s.Deploy.Replicas != *s.Scale {
			return c.bad(s, "scale", "is %d but deploy.replicas is %d; keep one of them", *s.Scale, *s.Deploy.Replicas)
		}
	}
	switch {
	case n < 0 || n > maxReplicas:
		return c.bad(s, key, "%d is not between 0 and %d", n, maxReplicas)
	case n > 1 && s.ContainerName != "":
		return c.bad(s, key, "is %d but container_name: gives one name: two containers cannot share it; drop container_name: or set 1", n)
	}
	return nil
}

// maxReplicas bounds what a typing error can ask for.
const maxReplicas = 100_000

func (c *checker) networking(s types.ServiceConfig) error {
	mode := s.NetworkMode
	if mode == "" {
		return nil
	}
	if len(s.Networks) > 0 {
		return c.bad(s, "network_mode", "and networks: exclude each other; keep one")
	}
	shared := strings.HasPrefix(mode, types.ServicePrefix) || strings.HasPrefix(mode, types.ContainerPrefix)
	switch {
	case shared && len(s.Ports) > 0:
		return c.bad(s, "ports", "cannot be published with network_mode: %s; publish them on the service whose network it is", clip(mode))
	case (mode == "host" || mode == "none") && len(s.Ports) > 0:
		c.warn("has no effect with network_mode: "+mode, "services", s.Name, "ports")
	}
	return nil
}

// references are the networks, volumes, configs and secrets a service names.
func (c *checker) references(s types.ServiceConfig) error {
	undefined := func(kind, section, key, name string, have []string) error {
		hint := ""
		if near := nearest(name, have); near != "" {
			hint = "; did you mean " + near + "?"
		}
		return c.bad(s, key, "the %s %q is not defined under %s:%s", kind, clip(name), section, hint)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Networks)) {
		if _, ok := c.project.Networks[name]; !ok {
			return undefined("network", "networks", "networks."+name, name, c.project.NetworkNames())
		}
	}
	for i, v := range s.Volumes {
		if _, ok := c.project.Volumes[v.Source]; !ok && v.Type == types.VolumeTypeVolume && v.Source != "" {
			return undefined("volume", "volumes", "volumes."+strconv.Itoa(i), v.Source, c.project.VolumeNames())
		}
	}
	for i, ref := range s.Configs {
		if _, ok := c.project.Configs[ref.Source]; !ok {
			return undefined("config", "configs", "configs."+strconv.Itoa(i), ref.Source, c.project.ConfigNames())
		}
	}
	secrets := slices.Clone(s.Secrets)
	if s.Build != nil {
		secrets = append(secrets, s.Build.Secrets...)
	}
	for _, ref := range secrets {
		if _, ok := c.project.Secrets[ref.Source]; !ok {
			return undefined("secret", "secrets", "secrets", ref.Source, c.project.SecretNames())
		}
	}
	return nil
}

func (c *checker) dependencies(s types.ServiceConfig) error {
	for _, name := range slices.Sorted(maps.Keys(s.DependsOn)) {
		d := s.DependsOn[name]
		if _, ok := c.project.Services[name]; ok {
			continue
		}
		other, inactive := c.project.DisabledServices[name]
		switch {
		case inactive && !d.Required:
		case inactive:
			return c.bad(s, "depends_on."+name, "the service %q is in the inactive profile %s: activate it with --profile, or set required: false", name, listNames(other.Profiles))
		default:
			if _, job := c.project.AllJobs()[name]; job {
				return c.bad(s, "depends_on."+name, "%q is a job; a service can depend on services only", name)
			}
			return c.bad(s, "depends_on."+name, "the service %q is not defined; the file has %s", clip(name), listNames(c.project.ServiceNames()))
		}
	}
	return nil
}

func (c *checker) health(s types.ServiceConfig) error {
	if s.HealthCheck == nil || len(s.HealthCheck.Test) == 0 {
		return nil
	}
	switch test := s.HealthCheck.Test; {
	case test[0] == "NONE":
	case test[0] != "CMD" && test[0] != "CMD-SHELL":
		return c.bad(s, "healthcheck.test", "a list must begin with CMD, CMD-SHELL or NONE, not %q", clip(test[0]))
	case len(test) == 1:
		return c.bad(s, "healthcheck.test", "has no command behind %s", test[0])
	}
	return nil
}

// targets are the places inside the container: absolute, and each used once.
func (c *checker) targets(s types.ServiceConfig) error {
	used := map[string]string{}
	add := func(key, target string) error {
		if !path.IsAbs(target) && !filepath.IsAbs(target) && !windowsPath(target) {
			return c.bad(s, key, "the path %q inside the container is not absolute", clip(target))
		}
		target = path.Clean(target)
		if first, ok := used[target]; ok {
			return c.bad(s, key, "%q is mounted on already by %s", clip(target), first)
		}
		used[target] = key
		return nil
	}
	for i, v := range s.Volumes {
		if err := add("volumes."+strconv.Itoa(i), v.Target); err != nil {
			return err
		}
	}
	for i, f := range s.Tmpfs {
		target, _, _ := strings.Cut(f, ":")
		if err := add("tmpfs."+strconv.Itoa(i), target); err != nil {
			return err
		}
	}
	return nil
}

func windowsPath(s string) bool {
	return len(s) > 2 && s[1] == ':' && (s[2] == '\\' || s[2] == '/') || strings.HasPrefix(s, `\\`)
}

// duplicated are limits given by an old key and by deploy.resources with different values.
func (c *checker) duplicated(s types.ServiceConfig) error {
	if s.Deploy == nil {
		return nil
	}
	if r := s.Deploy.Resources.Limits; r != nil {
		switch {
		case s.CPUS != 0 && r.NanoCPUs != 0 && r.NanoCPUs.Value() != s.CPUS:
			return c.bad(s, "cpus", "and deploy.resources.limits.cpus differ; keep one")
		case s.MemLimit != 0 && r.MemoryBytes != 0 && r.MemoryBytes != s.MemLimit:
			return c.bad(s, "mem_limit", "and deploy.resources.limits.memory differ; keep one")
		case s.PidsLimit != 0 && r.Pids != 0 && r.Pids != s.PidsLimit:
			return c.bad(s, "pids_limit", "and deploy.resources.limits.pids differ; keep one")
		}
	}
	if r := s.Deploy.Resources.Reservations; r != nil && s.MemReservation != 0 && r.MemoryBytes != 0 && r.MemoryBytes != s.MemReservation {
		return c.bad(s, "mem_reservation", "and deploy.resources.reservations.memory differ; keep one")
	}
	if p := s.Deploy.RestartPolicy; p != nil && !slices.Contains([]string{"", "any", "on-failure", "none"}, p.Condition) {
		return c.bad(s, "deploy.restart_policy.condition", "%q is not one of any, on-failure, none", clip(p.Condition))
	}
	return nil
}

// memory wants limits that an engine accepts together.
func (c *checker) memory(s types.ServiceConfig) error {
	l := limits(s)
	switch {
	case l.Memory <= 0:
	case l.MemorySwap > 0 && l.MemorySwap < l.Memory:
		return c.bad(s, "memswap_limit", "is less than the memory limit; it counts memory and swap together")
	case l.MemoryReservation > l.Memory:
		return c.bad(s, reservedMemoryKey(s), "reserves %s, more than the service's limit of %s; lower it or raise the limit",
			scheduler.FormatAmount(scheduler.Memory, l.MemoryReservation), scheduler.FormatAmount(scheduler.Memory, l.Memory))
	}
	return nil
}

// reservedMemoryKey is the key that the memory reservation comes from.
func reservedMemoryKey(s types.ServiceConfig) string {
	if s.Deploy != nil && s.Deploy.Resources.Reservations != nil && s.Deploy.Resources.Reservations.MemoryBytes != 0 {
		return "deploy.resources.reservations.memory"
	}
	return "mem_reservation"
}

// objects checks networks, volumes, configs and secrets.
func (c *checker) objects() error {
	p := c.project
	for _, key := range slices.Sorted(maps.Keys(p.Networks)) {
		if err := checkObjectName(p.Networks[key].Name); err != nil {
			return c.fail(err, "networks", key, "name")
		}
	}
	for _, key := range slices.Sorted(maps.Keys(p.Volumes)) {
		v := p.Volumes[key]
		if err := checkObjectName(v.Name); err != nil {
			return c.fail(err, "volumes", key, "name")
		}
		if bool(v.External) && (v.Driver != "" || len(v.DriverOpts) > 0 || len(v.Labels) > 0) {
			return c.fail(errors.New("is external: it exists already, so driver:, driver_opts: and labels: cannot be given"), "volumes", key)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(p.Configs)) {
		if err := checkContentSource(types.FileObjectConfig(p.Configs[key]), true); err != nil {
			return c.fail(err, "configs", key)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(p.Secrets)) {
		if err := checkContentSource(types.FileObjectConfig(p.Secrets[key]), false); err != nil {
			return c.fail(err, "secrets", key)
		}
	}
	return nil
}

// checkContentSource wants exactly one place the content comes from.
func checkContentSource(f types.FileObjectConfig, inline bool) error {
	if bool(f.External) || f.Driver != "" {
		return nil
	}
	n := 0
	for _, given := range []bool{f.File != "", f.Environment != "", inline && f.Content != "" && f.Environment == ""} {
		if given {
			n++
		}
	}
	names := "file: or environment:"
	if inline {
		names = "file:, environment: or content:"
	}
	if n == 0 {
		return fmt.Errorf("says nowhere what it holds; give one of %s", names)
	}
	if n > 1 {
		return fmt.Errorf("has its content from two places; keep one of %s", names)
	}
	return nil
}

func (c *checker) containerNames() error {
	used := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(c.project.Services)) {
		s := c.project.Services[name]
		if s.ContainerName == "" {
			continue
		}
		if first, ok := used[s.ContainerName]; ok {
			return c.bad(s, "container_name", "%q is the container of service %q too (%s); names are unique on an engine, so change one",
				clip(s.ContainerName), first, c.position("services", first, "container_name"))
		}
		used[s.ContainerName] = name
	}
	return nil
}

// binding is one host port that a service takes for itself.
type binding struct {
	service string
	ip      string
	port    int
	proto   string
}

// overlaps reports whether the two cannot be held at the same time.
func (b binding) overlaps(o binding) bool {
	if b.port != o.port || b.proto != o.proto {
		return false
	}
	return b.ip == o.ip || wildcard(b.ip) && family(o.ip, b.ip) || wildcard(o.ip) && family(b.ip, o.ip)
}

func wildcard(ip string) bool { return ip == "" || ip == "0.0.0.0" || ip == "::" }

// family reports whether an address is of the family a wildcard covers; "" covers both.
func family(ip, wild string) bool {
	return wild == "" || ip == "" || strings.Contains(ip, ":") == (wild == "::")
}

// hostPorts refuses a fixed host port that two holders would need.
func (c *checker) hostPorts() error {
	taken := map[int][]binding{}
	for _, name := range slices.Sorted(maps.Keys(c.project.Services)) {
		s := c.project.Services[name]
		if s.NetworkMode == "host" || s.NetworkMode == "none" {
			continue
		}
		for i, p := range s.Ports {
			b, fixed, err := c.binding(s, i, p)
			if err != nil {
				return err
			}
			if !fixed {
				continue
			}
			for _, o := range taken[b.port] {
				if b.overlaps(o) {
					return c.portConflict(s, b, o)
				}
			}
			taken[b.port] = append(taken[b.port], b)
		}
	}
	return nil
}

// binding is the host port that a service publishes for itself, if it is a
// fixed one and not for the engine to choose.
func (c *checker) binding(s types.ServiceConfig, index int, p types.ServicePortConfig) (b binding, fixed bool, err error) {
	at := "ports." + strconv.Itoa(index)
	if p.HostIP != "" && net.ParseIP(p.HostIP) == nil {
		return b, false, c.bad(s, at, "%q is not an IP address", clip(p.HostIP))
	}
	first, last, err := portRange(p.Published)
	if err != nil {
		return b, false, c.bad(s, "ports", "%w", err)
	}
	if first == 0 || first != last {
		return b, false, nil
	}
	b = binding{service: s.Name, ip: p.HostIP, port: first, proto: strings.ToLower(p.Protocol)}
	return b, true, c.shared(s, b)
}

// shared refuses a fixed host port that several replicas would need where no
// balancer can hold it for them.
func (c *checker) shared(s types.ServiceConfig, b binding) error {
	n := s.GetScale()
	if n <= 1 {
		return nil
	}
	var why string
	instead := "leave the host port out, or have one replica"
	if last := b.port + n - 1; last <= math.MaxUint16 {
		instead = fmt.Sprintf("give a range such as %d-%d, ", b.port, last) + instead
	}
	switch {
	case slices.ContainsFunc(s.Ports, func(p types.ServicePortConfig) bool { return strings.EqualFold(p.Protocol, "sctp") }):
		why = ", as the balancer takes no service with sctp ports"
	case publishOf(s) == PublishDirect:
		why, instead = " with publish: direct", "drop publish: direct, "+instead
	default:
		return nil
	}
	return c.bad(s, "ports", "the host port %d can be held by one container%s, but the service %q has %d replicas: %s", b.port, why, s.Name, n, instead)
}

func (c *checker) portConflict(s types.ServiceConfig, b, o binding) error {
	if b.service == o.service {
		return c.bad(s, "ports", "the host port %d/%s is published twice; drop one of the two", b.port, b.proto)
	}
	return c.bad(s, "ports", "the host port %d/%s is published by service %q too (%s); change one of them",
		b.port, b.proto, o.service, c.position("services", o.service, "ports"))
}

// cycles refuses services that wait for each other.
func (c *checker) cycles() error {
	const visiting, done = 1, 2
	state := map[string]int{}
	var trail []string
	var visit func(name string) error
	visit = func(name string) error {
		switch state[name] {
		case done:
			return nil
		case visiting:
			loop := append(trail[slices.Index(trail, name):], name)
			return c.fail(fmt.Errorf("dependency cycle: %s; none of them could ever start", strings.Join(loop, " → ")), "services", name, "depends_on")
		}
		state[name] = visiting
		trail = append(trail, name)
		s := c.project.Services[name]
		for _, d := range slices.Sorted(maps.Keys(s.DependsOn)) {
			if _, ok := c.project.Services[d]; !ok {
				continue
			}
			if err := visit(d); err != nil {
				return err
			}
		}
		trail = trail[:len(trail)-1]
		state[name] = done
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(c.project.Services)) {
		if err := visit(name); err != nil {
			return err
		}
	}
	return nil
}
