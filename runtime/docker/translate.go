package docker

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/strslice"
	"github.com/docker/docker/api/types/versions"
	"github.com/docker/go-connections/nat"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-dev/berth/runtime"
)

// target is what a translation must know of the engine.
type target struct {
	api      string // the negotiated API version
	cgroupV2 bool
	systemd  bool // the cgroup driver
}

// creation is everything that a container's creation hands to the engine.
type creation struct {
	Config     *container.Config
	Host       *container.HostConfig
	Networking *network.NetworkingConfig
	Platform   *ocispec.Platform `json:",omitempty"`
	// Connect are the networks an old engine takes only after the creation.
	Connect []connection `json:",omitempty"`
}

type connection struct {
	Network  string
	Settings *network.EndpointSettings
}

// needs is an error unless the engine's API version is v or newer.
func (t target) needs(v, field string) error {
	if versions.LessThan(t.api, v) {
		return fmt.Errorf("%s needs Engine API %s; this engine speaks %s", field, v, t.api)
	}
	return nil
}

// translate says how a container is created. It is pure. An error names the
// field that the engine cannot carry out.
func translate(spec *runtime.Spec, labels map[string]string, t target) (creation, error) {
	if err := checkSupport(spec, t); err != nil {
		return creation{}, err
	}
	var c creation
	var err error
	if c.Platform, err = parsePlatform(spec.Platform); err != nil {
		return creation{}, err
	}
	exposed, bindings, err := translatePorts(spec.Ports, spec.Expose)
	if err != nil {
		return creation{}, err
	}
	if c.Config, err = translateConfig(spec, labels); err != nil {
		return creation{}, err
	}
	c.Config.ExposedPorts = exposed
	c.Host = translateHost(spec)
	c.Host.PortBindings = bindings
	if err := translateMounts(c.Host, spec, labels, t); err != nil {
		return creation{}, err
	}
	return c, translateNetworks(&c, spec, t)
}

// checkSupport refuses what the engine would drop without a word.
func checkSupport(s *runtime.Spec, t target) error {
	var errs []error
	need := func(used bool, v, field string) {
		if used {
			errs = append(errs, t.needs(v, field))
		}
	}
	refuse := func(used bool, why string) {
		if used {
			errs = append(errs, errors.New(why))
		}
	}
	need(s.Platform != "", "1.41", "platform")
	need(s.CgroupNS != "", "1.41", "cgroup namespace mode")
	need(len(s.Annotation) > 0, "1.43", "annotations")
	need(s.Healthcheck != nil && s.Healthcheck.StartInterval > 0, "1.44", "healthcheck start_interval")
	for i, at := range s.Networks {
		need(at.Interface != "", "1.48", fmt.Sprintf("interface_name on network %s", at.Network))
		need(at.Gateway != 0, "1.48", fmt.Sprintf("gw_priority on network %s", at.Network))
		need(at.MacAddress != "" && i > 0, "1.44", fmt.Sprintf("mac_address on network %s", at.Network))
	}
	refuse(t.cgroupV2 && s.Fixed.MemorySwappiness != nil, "mem_swappiness does not exist on cgroup v2")
	refuse(t.cgroupV2 && s.Fixed.OomKillDisable, "oom_kill_disable does not exist on cgroup v2")
	refuse(t.cgroupV2 && (s.Limits.CPURTPeriod != 0 || s.Limits.CPURTRuntime != 0), "cpu_rt_period and cpu_rt_runtime do not exist on cgroup v2")
	refuse(t.systemd && s.Fixed.CgroupParent != "" && !strings.HasSuffix(s.Fixed.CgroupParent, ".slice"),
		fmt.Sprintf("cgroup_parent %q must be the name of a slice, such as berth.slice, with the systemd cgroup driver", s.Fixed.CgroupParent))
	for _, opt := range s.SecurityOpt {
		profile, ok := cutAny(opt, "seccomp=", "seccomp:")
		refuse(ok && profile != "unconfined" && profile != "builtin" && !strings.HasPrefix(profile, "{"),
			fmt.Sprintf("security_opt seccomp must hold the profile itself, not the file name %q", profile))
	}
	return errors.Join(errs...)
}

func cutAny(s string, prefixes ...string) (string, bool) {
	for _, p := range prefixes {
		if rest, ok := strings.CutPrefix(s, p); ok {
			return rest, true
		}
	}
	return "", false
}

func parsePlatform(s string) (*ocispec.Platform, error) {
	if s == "" {
		return nil, nil //nolint:nilnil // no platform is an answer
	}
	parts := strings.Split(s, "/")
	if len(parts) < 2 || len(parts) > 3 || slices.Contains(parts, "") {
		return nil, fmt.Errorf("platform %q is not of the form os/arch[/variant]", s)
	}
	p := &ocispec.Platform{OS: parts[0], Architecture: parts[1]}
	if len(parts) == 3 {
		p.Variant = parts[2]
	}
	return p, nil
}

// translateConfig is the part of a container that does not depend on the machine.
func translateConfig(s *runtime.Spec, labels map[string]string) (*container.Config, error) {
	attach := s.Attach == nil || *s.Attach
	c := &container.Config{
		Hostname:     s.Hostname,
		Domainname:   s.Domainname,
		User:         s.User,
		AttachStdout: attach,
		AttachStderr: attach,
		AttachStdin:  s.StdinOpen && s.StdinOnce,
		Tty:          s.TTY,
		OpenStdin:    s.StdinOpen,
		StdinOnce:    s.StdinOpen && s.StdinOnce,
		Env:          s.Env,
		Cmd:          strslice.StrSlice(s.Command),
		Entrypoint:   strslice.StrSlice(s.Entrypoint),
		Image:        s.Image,
		WorkingDir:   s.WorkingDir,
		Labels:       map[string]string{},
		StopSignal:   s.StopSignal,
	}
	maps.Copy(c.Labels, s.Labels)
	maps.Copy(c.Labels, labels)
	if s.StopGrace > 0 {
		seconds := wholeSeconds(s.StopGrace)
		c.StopTimeout = &seconds
	}
	if h := s.Healthcheck; h != nil {
		c.Healthcheck = &container.HealthConfig{
			Test: h.Test, Interval: h.Interval, Timeout: h.Timeout, StartPeriod: h.StartPeriod,
			StartInterval: h.StartInterval, Retries: h.Retries,
		}
		if h.Disable {
			c.Healthcheck = &container.HealthConfig{Test: []string{"NONE"}}
		}
	}
	for _, f := range s.Files {
		if !path.IsAbs(f.Target) || path.Clean(f.Target) == "/" {
			return nil, fmt.Errorf("target %q of %s is not an absolute path of a file", f.Target, f.Name)
		}
	}
	return c, nil
}

// translateHost is the part of a container that depends on the machine, but
// for mounts, ports and networks.
func translateHost(s *runtime.Spec) *container.HostConfig {
	h := &container.HostConfig{
		Annotations:    s.Annotation,
		RestartPolicy:  restartPolicy(s.Restart),
		VolumesFrom:    s.VolumesFrom,
		CapAdd:         s.CapAdd,
		CapDrop:        s.CapDrop,
		CgroupnsMode:   container.CgroupnsMode(s.CgroupNS),
		DNS:            s.DNS,
		DNSOptions:     s.DNSOptions,
		DNSSearch:      s.DNSSearch,
		ExtraHosts:     s.ExtraHosts,
		GroupAdd:       s.GroupAdd,
		IpcMode:        container.IpcMode(s.IpcMode),
		OomScoreAdj:    s.OomScoreAdj,
		PidMode:        container.PidMode(s.PidMode),
		Privileged:     s.Privileged,
		ReadonlyRootfs: s.ReadOnly,
		StorageOpt:     s.StorageOpt,
		UTSMode:        container.UTSMode(s.UTSMode),
		UsernsMode:     container.UsernsMode(s.UsernsMode),
		ShmSize:        s.Fixed.ShmSize,
		Sysctls:        s.Sysctls,
		Runtime:        s.Runtime,
		Isolation:      container.Isolation(s.Isolation),
		Resources:      resources(s),
		Init:           s.Init,
	}
	for _, opt := range s.SecurityOpt {
		if opt == "systempaths=unconfined" { // not an option of the engine: it takes empty lists of paths
			h.MaskedPaths, h.ReadonlyPaths = []string{}, []string{}
			continue
		}
		h.SecurityOpt = append(h.SecurityOpt, opt)
	}
	if l := s.Logging; l != nil {
		h.LogConfig = container.LogConfig{Type: l.Driver, Config: l.Options}
	}
	return h
}

func restartPolicy(p runtime.RestartPolicy) container.RestartPolicy {
	if !p.Active() {
		return container.RestartPolicy{Name: container.RestartPolicyDisabled}
	}
	out := container.RestartPolicy{Name: container.RestartPolicyMode(p.Name)}
	if p.Name == string(container.RestartPolicyOnFailure) {
		out.MaximumRetryCount = p.MaxRetries
	}
	return out
}

// translatePorts returns what is exposed and where it is published.
func translatePorts(ports []runtime.Port, expose []string) (nat.PortSet, nat.PortMap, error) {
	exposed, bindings := nat.PortSet{}, nat.PortMap{}
	for _, e := range expose {
		list, err := nat.ParsePortSpec(e)
		if err != nil || strings.Contains(e, ":") {
			return nil, nil, fmt.Errorf("exposed port %q is not of the form port[-port][/protocol]", e)
		}
		for _, m := range list {
			exposed[m.Port] = struct{}{}
		}
	}
	for _, p := range ports {
		proto := p.Protocol
		if proto == "" {
			proto = "tcp"
		}
		if p.Target == 0 {
			return nil, nil, errors.New("a published port has no target")
		}
		if p.HostIP != "" && !validIP(p.HostIP) {
			return nil, nil, fmt.Errorf("host address %q of port %d is not an IP address", p.HostIP, p.Target)
		}
		if p.Published != "" {
			if _, _, err := nat.ParsePortRangeToInt(p.Published); err != nil {
				return nil, nil, fmt.Errorf("published port %q is not a port or range of ports", p.Published)
			}
		}
		port := nat.Port(fmt.Sprintf("%d/%s", p.Target, proto))
		exposed[port] = struct{}{}
		bindings[port] = append(bindings[port], nat.PortBinding{HostIP: p.HostIP, HostPort: p.Published})
	}
	return exposed, bindings, nil
}
