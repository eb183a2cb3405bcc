package stack

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/berth-dev/berth/runtime"
)

// translator turns a project into a Stack. It reads the contents of configs
// and secrets that are written into containers; all else is pure.
type translator struct {
	*loading
	project  *types.Project
	contents map[string][]byte
	digests  map[string]string // of the file contents that are part of a revision
	secrets  map[string]bool   // the host files that are mounted as secrets
	networks map[string]Network
	volumes  map[string]Volume
	below    []string // where in a service the container stands that is translated; nil: its own
}

// failIn is an error about a key of the container that is translated.
func (t *translator) failIn(err error, service string, path ...string) error {
	return t.fail(err, slices.Concat([]string{"services", service}, t.below, path)...)
}

func newTranslator(l *loading, p *types.Project) *translator {
	return &translator{
		loading: l, project: p, contents: map[string][]byte{}, digests: map[string]string{}, secrets: map[string]bool{},
		networks: map[string]Network{}, volumes: map[string]Volume{},
	}
}

func (t *translator) stack() (*Stack, error) {
	p := t.project
	s := &Stack{
		Name:        p.Name,
		WorkingDir:  t.dir,
		ConfigFiles: slices.Clone(t.files),
		EnvFiles:    slices.Clone(t.envFiles),
		Profiles:    slices.Sorted(slices.Values(p.Profiles)),
		Inactive:    p.DisabledServiceNames(),
	}
	slices.Sort(s.Inactive)
	used := inUse(p)
	if t.opts.AllResources {
		used = p
	}
	for _, key := range slices.Sorted(maps.Keys(used.Networks)) {
		n := t.network(key, used.Networks[key])
		t.networks[key] = n
		s.Networks = append(s.Networks, n)
	}
	for _, key := range slices.Sorted(maps.Keys(used.Volumes)) {
		v := t.volume(key, used.Volumes[key])
		t.volumes[key] = v
		s.Volumes = append(s.Volumes, v)
	}
	for _, name := range slices.Sorted(maps.Keys(p.Services)) {
		svc, err := t.service(p.Services[name])
		if err != nil {
			return nil, err
		}
		s.Services = append(s.Services, svc)
	}
	s.SecretFiles = slices.Sorted(maps.Keys(t.secrets))
	if err := t.nodes(s); err != nil {
		return nil, err
	}
	if t.opts.NoConsistency {
		return s, nil
	}
	return s, t.checkPlacement(s)
}

func (t *translator) network(key string, c types.NetworkConfig) Network {
	n := Network{Key: key, External: bool(c.External), Spec: runtime.NetworkSpec{
		Name:       c.Name,
		Driver:     c.Driver,
		DriverOpts: c.DriverOpts,
		Internal:   c.Internal,
		Attachable: c.Attachable,
		EnableIPv4: c.EnableIPv4,
		EnableIPv6: c.EnableIPv6,
		Labels:     c.Labels,
		IPAM:       ipam(c.Ipam),
	}}
	if !n.External {
		n.Revision = hash(n.Spec)
	}
	return n
}

func ipam(c types.IPAMConfig) *runtime.IPAM {
	if c.Driver == "" && len(c.Config) == 0 && len(c.Options) == 0 {
		return nil
	}
	out := &runtime.IPAM{Driver: c.Driver, Options: c.Options}
	for _, p := range c.Config {
		if p != nil {
			out.Pools = append(out.Pools, runtime.IPPool{Subnet: p.Subnet, IPRange: p.IPRange, Gateway: p.Gateway, Aux: p.AuxiliaryAddresses})
		}
	}
	return out
}

func (t *translator) volume(key string, c types.VolumeConfig) Volume {
	v := Volume{Key: key, External: bool(c.External), Spec: runtime.VolumeSpec{
		Name:       c.Name,
		Driver:     c.Driver,
		DriverOpts: c.DriverOpts,
		Labels:     c.Labels,
	}}
	if !v.External {
		v.Revision = hash(v.Spec)
	}
	return v
}

func (t *translator) service(c types.ServiceConfig) (Service, error) {
	s := Service{
		Name:          c.Name,
		PullPolicy:    pullPolicy(c),
		ContainerName: c.ContainerName,
		Mode:          mode(c),
		Update:        DefaultUpdate(),
		RollBack:      DefaultUpdate(),
		Rollout:       Rollout{Deadline: DefaultDeadline},
		Balance:       Balance{Hold: DefaultHold, MaxHeld: DefaultMaxHeld, Drain: DefaultDrain, DrainIdle: DefaultIdle},
		Replicas:      c.GetScale(),
		DependsOn:     dependencies(c),
		Develop:       c.Develop != nil,
	}
	if err := t.container(&s.Spec, c); err != nil {
		return s, err
	}
	if c.Deploy != nil {
		s.Update, s.RollBack = updateOf(c.Deploy.UpdateConfig), updateOf(c.Deploy.RollbackConfig)
		s.Labels = c.Deploy.Labels
	}
	spec := &s.Spec
	spec.Limits = limits(c)
	s.Restart, spec.Restart = t.restart(c)
	if c.Build != nil {
		s.Build = build(t.project, c)
		spec.Image = imageName(t.project, c)
	}
	s.PostStart, s.PreStop = hooks(c.PostStart), hooks(c.PreStop)
	if err := t.steps(&s, c); err != nil {
		return s, err
	}
	ext, err := newSetting(c.Extensions[extensionKey], "service", t.fail, "services", c.Name, extensionKey)
	if err != nil {
		return s, err
	}
	if err := t.discovery(&s, c, ext.get("discovery")); err != nil {
		return s, err
	}
	s.Revision = t.revision(&s)
	if err := t.health(&s, c, ext); err != nil {
		return s, err
	}
	if err := t.rollout(&s, c, ext.get("rollout")); err != nil {
		return s, err
	}
	if err := t.published(&s, c, ext); err != nil {
		return s, err
	}
	if err := t.imageUpdate(&s, c, ext.get("imageUpdate")); err != nil {
		return s, err
	}
	if err := t.scaled(&s, c, ext); err != nil {
		return s, err
	}
	s.Placement, err = t.placement(c, &s, ext)
	return s, err
}

// container is what a service and a step before its start have in common.
func (t *translator) container(spec *runtime.Spec, c types.ServiceConfig) error {
	t.process(spec, c)
	t.host(spec, c)
	for _, part := range []func(*runtime.Spec, types.ServiceConfig) error{t.connections, t.mounts, t.security} {
		if err := part(spec, c); err != nil {
			return err
		}
	}
	spec.Fixed = t.fixed(c)
	spec.Devices, spec.DeviceRequests = devices(c)
	spec.CgroupRules = c.DeviceCgroupRules
	return nil
}

// pullPolicy writes refresh with its age as every_<age>; without one the image
// is always out of date.
func pullPolicy(c types.ServiceConfig) string {
	switch {
	case c.PullPolicy != types.PullPolicyRefresh:
		return c.PullPolicy
	case c.PullRefreshAfter != "":
		return "every_" + c.PullRefreshAfter
	}
	return types.PullPolicyAlways
}

// imageName is the service's image, or the name its build gets.
func imageName(p *types.Project, c types.ServiceConfig) string {
	if c.Image != "" {
		return c.Image
	}
	return p.Name + "-" + c.Name
}

// dependencies are depends_on and what links, volumes_from and shared
// namespaces imply, which the library has added to it.
func dependencies(c types.ServiceConfig) []Dependency {
	var out []Dependency
	for _, name := range slices.Sorted(maps.Keys(c.DependsOn)) {
		d := c.DependsOn[name]
		cond := Condition(d.Condition)
		if cond == "" {
			cond = Started
		}
		out = append(out, Dependency{Service: name, Condition: cond, Required: d.Required, Restart: d.Restart})
	}
	return out
}

// process is what runs in the container and how it is stopped.
func (t *translator) process(spec *runtime.Spec, c types.ServiceConfig) {
	spec.Image = c.Image
	spec.Platform = c.Platform
	spec.Entrypoint = c.Entrypoint
	spec.Command = c.Command
	spec.Env = environment(c.Environment)
	spec.WorkingDir = c.WorkingDir
	spec.User = c.User
	spec.GroupAdd = c.GroupAdd
	spec.Labels = c.Labels
	spec.Annotation = c.Annotations
	spec.Healthcheck = healthcheck(c.HealthCheck)
	spec.StopSignal = c.StopSignal
	spec.StopGrace = duration(c.StopGracePeriod)
	spec.Init = c.Init
	spec.TTY = c.Tty
	spec.StdinOpen = c.StdinOpen
	spec.Attach = c.Attach
	spec.Logging = logging(c)
	spec.Runtime = c.Runtime
	spec.Isolation = c.Isolation
}

// environment lists the variables by name; one without a value unsets the image's.
func environment(m types.MappingWithEquals) []string {
	out := make([]string, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if v := m[k]; v != nil {
			out = append(out, k+"="+*v)
		} else {
			out = append(out, k)
		}
	}
	return slices.Clip(out)
}

func duration(d *types.Duration) time.Duration {
	if d == nil {
		return 0
	}
	return time.Duration(*d)
}

func healthcheck(c *types.HealthCheckConfig) *runtime.Healthcheck {
	if c == nil {
		return nil
	}
	if c.Disable || len(c.Test) == 1 && c.Test[0] == "NONE" {
		return &runtime.Healthcheck{Disable: true}
	}
	h := &runtime.Healthcheck{
		Test:          c.Test,
		Interval:      duration(c.Interval),
		Timeout:       duration(c.Timeout),
		StartPeriod:   duration(c.StartPeriod),
		StartInterval: duration(c.StartInterval),
	}
	if c.Retries != nil {
		h.Retries = int(min(*c.Retries, math.MaxInt32))
	}
	return h
}

func logging(c types.ServiceConfig) *runtime.Logging {
	switch {
	case c.Logging != nil:
		return &runtime.Logging{Driver: c.Logging.Driver, Options: c.Logging.Options}
	case c.LogDriver != "" || len(c.LogOpt) > 0:
		return &runtime.Logging{Driver: c.LogDriver, Options: c.LogOpt}
	}
	return nil
}

// host is the container's view of its machine: names, resolvers, namespaces.
func (t *translator) host(spec *runtime.Spec, c types.ServiceConfig) {
	spec.Hostname = c.Hostname
	spec.Domainname = c.DomainName
	spec.ExtraHosts = slices.Sorted(slices.Values(c.ExtraHosts.AsList(":")))
	spec.DNS = c.DNS
	spec.DNSOptions = c.DNSOpts
	spec.DNSSearch = c.DNSSearch
	spec.PidMode = namespace(c.Pid)
	spec.IpcMode = namespace(c.Ipc)
	spec.UTSMode = c.Uts
	spec.UsernsMode = c.UserNSMode
	spec.CgroupNS = c.Cgroup
	spec.Sysctls = c.Sysctls
	spec.StorageOpt = c.StorageOpt
	spec.OomScoreAdj = int(c.OomScoreAdj)
}

// namespace keeps "service:x" as it stands; the executor resolves it.
func namespace(mode string) string { return mode }

// connections are networks, ports and links.
func (t *translator) connections(spec *runtime.Spec, c types.ServiceConfig) error {
	spec.NetworkMode = namespace(c.NetworkMode)
	spec.MacAddress = c.MacAddress
	for _, key := range c.NetworksByPriority() {
		spec.Networks = append(spec.Networks, t.attachment(c, key))
	}
	if len(spec.Networks) == 0 && spec.NetworkMode == "" {
		spec.NetworkMode = "none"
	}
	var err error
	if spec.Ports, err = ports(c.Ports); err != nil {
		return t.failIn(err, c.Name, "ports")
	}
	if spec.Expose, err = expose(c.Expose); err != nil {
		return t.failIn(err, c.Name, "expose")
	}
	for _, link := range c.Links {
		name, alias, ok := strings.Cut(link, ":")
		if !ok {
			alias = name
		}
		spec.Links = append(spec.Links, types.ServicePrefix+name+":"+alias)
	}
	for _, link := range c.ExternalLinks {
		name, alias, ok := strings.Cut(link, ":")
		if !ok {
			alias = name
		}
		spec.Links = append(spec.Links, name+":"+alias)
	}
	return nil
}

// attachment joins a service to a network. Its aliases are the service's name
// and its own; the container's name is added for each replica.
func (t *translator) attachment(c types.ServiceConfig, key string) runtime.Attachment {
	a := runtime.Attachment{Network: t.project.Networks[key].Name}
	n := c.Networks[key]
	if n.ServiceNameAliasEnabled() {
		a.Aliases = []string{c.Name}
	}
	if n == nil {
		return a
	}
	for _, alias := range n.Aliases {
		if !slices.Contains(a.Aliases, alias) {
			a.Aliases = append(a.Aliases, alias)
		}
	}
	a.IPv4, a.IPv6 = n.Ipv4Address, n.Ipv6Address
	a.LinkLocal = n.LinkLocalIPs
	a.MacAddress = n.MacAddress
	a.Interface = n.InterfaceName
	a.Gateway = n.GatewayPriority
	a.DriverOpts = n.DriverOpts
	return a
}

func ports(list []types.ServicePortConfig) ([]runtime.Port, error) {
	var out []runtime.Port
	for _, p := range list {
		if p.Target == 0 || p.Target > math.MaxUint16 {
			return nil, fmt.Errorf("the container's port %d is not between 1 and 65535", p.Target)
		}
		if _, _, err := portRange(p.Published); err != nil {
			return nil, err
		}
		proto := strings.ToLower(p.Protocol)
		switch proto {
		case "", "tcp", "udp", "sctp":
		default:
			return nil, fmt.Errorf("the protocol %q is not tcp, udp or sctp", clip(p.Protocol))
		}
		out = append(out, runtime.Port{Target: uint16(p.Target), Published: p.Published, HostIP: p.HostIP, Protocol: proto})
	}
	// Their order means nothing, so it must not make a new revision.
	slices.SortFunc(out, func(a, b runtime.Port) int {
		return cmp.Or(cmp.Compare(a.Target, b.Target), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Published, b.Published), cmp.Compare(a.HostIP, b.HostIP))
	})
	return out, nil
}

// portRange reads "", "80" or "8000-8010"; an empty one is 0, 0.
func portRange(s string) (first, last int, err error) {
	if s == "" {
		return 0, 0, nil
	}
	lo, hi, isRange := strings.Cut(s, "-")
	if first, err = strconv.Atoi(lo); err == nil {
		last = first
		if isRange {
			last, err = strconv.Atoi(hi)
		}
	}
	if err != nil || first < 0 || last > math.MaxUint16 || first > last {
		return 0, 0, fmt.Errorf("the published port %q is not a port or range between 1 and 65535", clip(s))
	}
	return first, last, nil
}

// expose normalises "80", "80/udp" and ranges to "80/tcp".
func expose(list []string) ([]string, error) {
	var out []string
	for _, e := range list {
		port, proto, ok := strings.Cut(e, "/")
		if !ok {
			proto = "tcp"
		}
		first, last, err := portRange(port)
		if err != nil || first == 0 {
			return nil, fmt.Errorf("%q is not a port or range between 1 and 65535", clip(e))
		}
		for p := first; p <= last; p++ {
			out = append(out, strconv.Itoa(p)+"/"+proto)
		}
	}
	return out, nil
}

// restart gives each restart key its own meaning: restart: is the engine's,
// deploy.restart_policy is Berth's and turns the engine's off. A job's replicas
// are always restarted by Berth, which knows that one that exited with 0 is done.
func (t *translator) restart(c types.ServiceConfig) (*RestartPolicy, runtime.RestartPolicy) {
	if c.Deploy == nil || c.Deploy.RestartPolicy == nil {
		if mode(c).Job() {
			return t.jobPolicy(c), runtime.RestartPolicy{Name: "no"}
		}
		return nil, enginePolicy(c.Restart)
	}
	if c.Restart != "" {
		t.warn("deploy.restart_policy is given too and wins; this has no effect", "services", c.Name, "restart")
	}
	p := c.Deploy.RestartPolicy
	out := &RestartPolicy{Condition: p.Condition, Delay: defaultRestartDelay, Window: duration(p.Window)}
	switch {
	case mode(c).Job() && out.Condition != "none": // as Swarm reads any for a job
		out.Condition = "on-failure"
	case out.Condition == "":
		out.Condition = "any"
	}
	if p.Delay != nil {
		out.Delay = time.Duration(*p.Delay)
	}
	if p.MaxAttempts != nil {
		out.MaxAttempts = int(min(*p.MaxAttempts, math.MaxInt32))
	}
	return out, runtime.RestartPolicy{Name: "no"}
}

// jobPolicy is restart: of a job. Without it a failed replica is run again, as
// Swarm does.
func (t *translator) jobPolicy(c types.ServiceConfig) *RestartPolicy {
	engine := enginePolicy(c.Restart)
	out := &RestartPolicy{Condition: "on-failure", Delay: defaultRestartDelay, MaxAttempts: engine.MaxRetries}
	switch engine.Name {
	case "no":
		out.Condition = "none"
	case "always", "unless-stopped":
		t.warn("means on-failure for a job: a replica that exited with 0 is done", "services", c.Name, "restart")
	}
	return out
}

// defaultRestartDelay is what the Compose specification waits between restarts.
const defaultRestartDelay = 5 * time.Second

func enginePolicy(s string) runtime.RestartPolicy {
	name, count, _ := strings.Cut(s, ":")
	n, _ := strconv.Atoi(count)
	return runtime.RestartPolicy{Name: name, MaxRetries: n}
}
