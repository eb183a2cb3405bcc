package docker

import (
	"cmp"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/system"
	"github.com/docker/docker/api/types/volume"
	"github.com/docker/go-connections/nat"

	"github.com/berth-dev/berth/runtime"
)

const healthOutputMax = 4 << 10 // bytes

// containerOf reads an inspection.
func containerOf(in container.InspectResponse) runtime.Container {
	var c runtime.Container
	if b := in.ContainerJSONBase; b != nil {
		c.ID, c.Name = b.ID, strings.TrimPrefix(b.Name, "/")
		c.ImageID = b.Image
		c.Command = append([]string{b.Path}, b.Args...)
		c.Created = parseTime(b.Created)
		c.RestartCount = b.RestartCount
		c.SizeRW, c.SizeRootFs = deref(b.SizeRw), deref(b.SizeRootFs)
		setState(&c, b.State)
		setHost(&c, b.HostConfig)
	}
	if conf := in.Config; conf != nil {
		c.Labels, c.Image, c.TTY, c.StopSignal = conf.Labels, conf.Image, conf.Tty, conf.StopSignal
		c.DependsOn = dependsOn(conf.Labels)
	}
	c.Mounts = mountsOf(in.Mounts)
	if n := in.NetworkSettings; n != nil {
		c.Networks = endpointsOf(n.Networks)
		c.Ports = portsOf(n.Ports)
	}
	return c
}

func setState(c *runtime.Container, s *container.State) {
	if s == nil {
		return
	}
	c.State = runtime.State(s.Status)
	if s.Paused { // a paused container is reported as running too
		c.State = runtime.Paused
	}
	c.Started, c.Finished = parseTime(s.StartedAt), parseTime(s.FinishedAt)
	c.ExitCode, c.OOMKilled, c.Error, c.PID = s.ExitCode, s.OOMKilled, clean(s.Error), s.Pid
	if s.Health == nil || s.Health.Status == container.NoHealthcheck {
		return
	}
	c.Health = runtime.Health(s.Health.Status)
	if n := len(s.Health.Log); n > 0 && s.Health.Log[n-1] != nil {
		out := strings.TrimSpace(s.Health.Log[n-1].Output)
		c.HealthOutput = out[:min(len(out), healthOutputMax)]
	}
}

func setHost(c *runtime.Container, h *container.HostConfig) {
	if h == nil {
		return
	}
	c.AutoRemove = h.AutoRemove
	c.Limits = limitsOf(h.Resources)
	c.Restart = runtime.RestartPolicy{Name: string(h.RestartPolicy.Name), MaxRetries: h.RestartPolicy.MaximumRetryCount}
	c.NetworkMode = string(h.NetworkMode)
}

// containerOfSummary reads one line of a list.
func containerOfSummary(s container.Summary) runtime.Container {
	c := runtime.Container{
		ID:          s.ID,
		Name:        ownName(s.Names),
		Labels:      s.Labels,
		Image:       s.Image,
		ImageID:     s.ImageID,
		Command:     strings.Fields(s.Command),
		State:       runtime.State(s.State),
		Status:      s.Status,
		Created:     time.Unix(s.Created, 0).UTC(),
		NetworkMode: s.HostConfig.NetworkMode,
		SizeRW:      s.SizeRw,
		SizeRootFs:  s.SizeRootFs,
		Mounts:      mountsOf(s.Mounts),
		DependsOn:   dependsOn(s.Labels),
	}
	c.Health, c.ExitCode = parseStatus(s.Status)
	if s.NetworkSettings != nil {
		c.Networks = endpointsOf(s.NetworkSettings.Networks)
	}
	for _, p := range s.Ports {
		c.Ports = append(c.Ports, runtime.BoundPort{Target: p.PrivatePort, Protocol: p.Type, HostIP: p.IP, HostPort: p.PublicPort})
	}
	sortPorts(c.Ports)
	return c
}

// ownName picks the container's own name among those that links give it.
func ownName(names []string) string {
	for _, n := range names {
		if n = strings.TrimPrefix(n, "/"); !strings.Contains(n, "/") {
			return n
		}
	}
	return ""
}

var exitedStatus = regexp.MustCompile(`^(?:Exited|Restarting) \((\d+)\)`)

// parseStatus reads what the engine writes for people: "Up 2 minutes
// (healthy)", "Up 1 second (health: starting)", "Exited (137) 2 hours ago".
func parseStatus(status string) (health runtime.Health, exitCode int) {
	switch {
	case strings.Contains(status, "(unhealthy)"):
		health = runtime.HealthUnhealthy
	case strings.Contains(status, "(healthy)"):
		health = runtime.HealthHealthy
	case strings.Contains(status, "(health: starting)"):
		health = runtime.HealthStarting
	}
	if m := exitedStatus.FindStringSubmatch(status); m != nil {
		exitCode, _ = strconv.Atoi(m[1]) // digits only
	}
	return health, exitCode
}

func dependsOn(labels map[string]string) []string {
	if s := labels[runtime.LabelComposeDepends]; s != "" {
		return strings.Split(s, ",")
	}
	return nil
}

func mountsOf(in []container.MountPoint) []runtime.MountPoint {
	var out []runtime.MountPoint
	for _, m := range in {
		out = append(out, runtime.MountPoint{
			Type: runtime.MountType(m.Type), Name: m.Name, Source: m.Source, Target: m.Destination, ReadOnly: !m.RW,
		})
	}
	slices.SortFunc(out, func(a, b runtime.MountPoint) int { return cmp.Compare(a.Target, b.Target) })
	return out
}

func endpointsOf(in map[string]*network.EndpointSettings) []runtime.Endpoint {
	var out []runtime.Endpoint
	for name, e := range in {
		if e == nil {
			continue
		}
		aliases := slices.Clone(e.Aliases)
		slices.Sort(aliases)
		out = append(out, runtime.Endpoint{
			Network: name, NetworkID: e.NetworkID, IPv4: e.IPAddress, IPv6: e.GlobalIPv6Address,
			Gateway: e.Gateway, Mac: e.MacAddress, Aliases: slices.Compact(aliases),
		})
	}
	slices.SortFunc(out, func(a, b runtime.Endpoint) int { return cmp.Compare(a.Network, b.Network) })
	return out
}

func portsOf(in nat.PortMap) []runtime.BoundPort {
	var out []runtime.BoundPort
	for port, bindings := range in {
		target := uint16(port.Int()) //nolint:gosec // the engine's ports are 16 bits
		if len(bindings) == 0 {
			out = append(out, runtime.BoundPort{Target: target, Protocol: port.Proto()})
		}
		for _, b := range bindings {
			host, _ := strconv.ParseUint(b.HostPort, 10, 16) // empty: not published
			out = append(out, runtime.BoundPort{Target: target, Protocol: port.Proto(), HostIP: b.HostIP, HostPort: uint16(host)})
		}
	}
	sortPorts(out)
	return out
}

func sortPorts(ports []runtime.BoundPort) {
	slices.SortFunc(ports, func(a, b runtime.BoundPort) int {
		return cmp.Or(cmp.Compare(a.Target, b.Target), cmp.Compare(a.Protocol, b.Protocol),
			cmp.Compare(a.HostPort, b.HostPort), cmp.Compare(a.HostIP, b.HostIP))
	})
}

// parseTime reads an engine's timestamp; "never" is the zero time.
func parseTime(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || t.Year() <= 1 {
		return time.Time{}
	}
	return t.UTC()
}

func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

// imageOf reads an image's inspection.
func imageOf(in image.InspectResponse) runtime.Image {
	img := runtime.Image{
		ID: in.ID, Created: parseTime(in.Created), Size: in.Size, OS: in.Os, Arch: in.Architecture, Variant: in.Variant,
		Platform: platformString(in.Os, in.Architecture, in.Variant),
	}
	img.Tags, img.Digests = slices.Sorted(slices.Values(in.RepoTags)), slices.Sorted(slices.Values(in.RepoDigests))
	if c := in.Config; c != nil {
		img.Labels = c.Labels
		img.Volumes = sortedKeys(c.Volumes)
		img.Exposed = sortedKeys(c.ExposedPorts)
		img.HasCheck = c.Healthcheck != nil && len(c.Healthcheck.Test) > 0 && c.Healthcheck.Test[0] != "NONE"
	}
	return img
}

func platformString(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), "/")
}

func sortedKeys[V any](m map[string]V) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// networkOf reads a network; containers are those attached and running.
func networkOf(in network.Inspect) runtime.Network {
	return runtime.Network{
		ID: in.ID, Name: in.Name, Driver: in.Driver, Scope: in.Scope, Internal: in.Internal, Labels: in.Labels,
		Containers: sortedKeys(in.Containers),
	}
}

func volumeOf(in *volume.Volume) runtime.Volume {
	return runtime.Volume{
		Name: in.Name, Driver: in.Driver, Mountpoint: in.Mountpoint, Created: parseTime(in.CreatedAt),
		Labels: in.Labels, DriverOpts: in.Options,
	}
}

// engineInfo reads what the engine says of itself.
func engineInfo(in system.Info, host, api string) runtime.EngineInfo {
	info := runtime.EngineInfo{
		ID: in.ID, Version: in.ServerVersion, APIVersion: api, OS: in.OSType, Arch: in.Architecture,
		KernelVersion: in.KernelVersion, CPUs: in.NCPU, Memory: in.MemTotal, CgroupDriver: in.CgroupDriver,
		Host: host, Runtimes: sortedKeys(in.Runtimes), Warnings: slices.Clone(in.Warnings),
	}
	info.CgroupVersion, _ = strconv.Atoi(in.CgroupVersion) // empty on engines that do not tell: 0
	for _, opt := range in.SecurityOptions {
		if opt == "name=rootless" || strings.HasPrefix(opt, "name=rootless,") {
			info.Rootless = true
		}
	}
	slices.Sort(info.Warnings)
	return info
}

// validIP reports whether s is an IP address.
func validIP(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}
