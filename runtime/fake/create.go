package fake

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/berth-dev/berth/runtime"
)

var validName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

// smallestMemory is the least memory limit the Docker Engine accepts, in bytes.
const smallestMemory = 6 << 20

// Create makes a container.
func (e *Engine) Create(ctx context.Context, name string, labels map[string]string, spec *runtime.Spec, contents map[string][]byte) (id string, err error) {
	err = e.call(ctx, "create", name, func(_ context.Context, call *Call) error {
		e.mu.Lock()
		defer e.mu.Unlock()
		call.Object, call.Labels = name, maps.Clone(labels)
		c, err := e.newContainer(name, labels, spec)
		if err != nil {
			return err
		}
		if err := c.writeFiles(spec.Files, contents, e); err != nil {
			return err
		}
		if err := e.mountLocked(c); err != nil {
			return err
		}
		call.ID, call.Changed, id = c.ID, true, c.ID
		e.containers[c.ID], e.names[name] = c, c
		e.containerEvent(c, "create")
		return nil
	})
	if err != nil {
		id = ""
	}
	return id, err
}

func (e *Engine) checkName(op, name string) error {
	if !validName.MatchString(name) {
		return fail(runtime.KindInvalid, op, name, "invalid container name, only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
	}
	if c := e.names[name]; c != nil {
		return fail(runtime.KindConflict, op, name, "the name is already in use by container %s", c.ID)
	}
	if e.ghosts[name] {
		return fail(runtime.KindConflict, op, name, "the name is already in use by container %s", newID())
	}
	return nil
}

func (e *Engine) checkLimits(op, name string, l runtime.Limits, r runtime.RestartPolicy) error {
	switch {
	case l.NanoCPUs > int64(e.opts.CPUs)*1e9:
		return fail(runtime.KindInvalid, op, name, "range of CPUs is from 0.01 to %d.00, as there are only %d available", e.opts.CPUs, e.opts.CPUs)
	case l.Memory != 0 && l.Memory < smallestMemory:
		return fail(runtime.KindInvalid, op, name, "minimum memory limit allowed is 6MB")
	case l.MemorySwap > 0 && l.MemorySwap < l.Memory:
		return fail(runtime.KindInvalid, op, name, "minimum memoryswap limit should be larger than the memory limit")
	case !slices.Contains([]string{"", "no", "always", "on-failure", "unless-stopped"}, r.Name):
		return fail(runtime.KindInvalid, op, name, "invalid restart policy %q", r.Name)
	case r.MaxRetries != 0 && r.Name != "on-failure":
		return fail(runtime.KindInvalid, op, name, "maximum retry count cannot be used with restart policy %q", r.Name)
	}
	return nil
}

// settled fills in what the Docker Engine does: swap as twice the memory, and a
// name for the policy that does nothing.
func settled(l runtime.Limits, r runtime.RestartPolicy) (runtime.Limits, runtime.RestartPolicy) {
	if l.Memory > 0 && l.MemorySwap == 0 {
		l.MemorySwap = 2 * l.Memory
	}
	r.Name = cmp.Or(r.Name, "no")
	return l, r
}

func (e *Engine) newContainer(name string, labels map[string]string, spec *runtime.Spec) (*container, error) {
	if err := e.checkLimits("create", name, spec.Limits, spec.Restart); err != nil {
		return nil, err
	}
	if _, ok := signalName(cmp.Or(spec.StopSignal, "TERM")); !ok {
		return nil, fail(runtime.KindInvalid, "create", name, "invalid stop signal %q", spec.StopSignal)
	}
	img := e.findImage(spec.Image)
	if img == nil {
		return nil, fail(runtime.KindNotFound, "create", name, "no such image: %s", spec.Image)
	}
	if err := e.checkName("create", name); err != nil {
		return nil, err
	}
	for i, a := range spec.Networks { // the first one is looked for at the start
		if i > 0 && e.lookupNetwork(a.Network) == nil {
			return nil, fail(runtime.KindNotFound, "create", name, "network %s not found", a.Network)
		}
	}
	all := maps.Clone(img.Labels)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, spec.Labels)
	maps.Copy(all, labels)
	c := &container{
		Container: runtime.Container{
			ID: newID(), Name: name, Labels: all, Image: spec.Image, ImageID: img.ID, Command: img.command(spec),
			State: runtime.Created, Created: e.nowLocked(), TTY: spec.TTY, StopSignal: cmp.Or(spec.StopSignal, img.StopSignal),
		},
		spec: spec, image: img, root: img.root.clone(), exited: make(chan struct{}), gone: make(chan struct{}),
	}
	c.Limits, c.Restart = settled(spec.Limits, spec.Restart)
	if identity, err := runtime.ParseIdentity(all); err == nil {
		c.DependsOn = identity.DependsOn
	}
	c.output.init()
	e.planNetworks(c)
	return c, nil
}

// planNetworks records what the container will join.
func (e *Engine) planNetworks(c *container) {
	c.wants = slices.Clone(c.spec.Networks)
	c.NetworkMode = c.spec.NetworkMode
	if c.NetworkMode == "" && len(c.wants) > 0 {
		c.NetworkMode = c.wants[0].Network
	}
	if len(c.wants) == 0 && !strings.HasPrefix(c.NetworkMode, "container:") {
		c.wants = []runtime.Attachment{{Network: cmp.Or(c.NetworkMode, "bridge")}}
	}
	c.NetworkMode = cmp.Or(c.NetworkMode, "default")
	for _, a := range c.wants {
		c.Networks = append(c.Networks, runtime.Endpoint{Network: a.Network, Aliases: slices.Clone(a.Aliases)})
	}
	c.sortNetworks()
}

func (c *container) sortNetworks() {
	slices.SortFunc(c.Networks, func(a, b runtime.Endpoint) int { return cmp.Compare(a.Network, b.Network) })
}

// environment is the image's and the container's variables.
func (c *container) environment() []string {
	env := slices.Clone(c.image.Env)
	for _, kv := range c.spec.Env {
		key, _, set := strings.Cut(kv, "=")
		env = slices.DeleteFunc(env, func(have string) bool { return strings.HasPrefix(have, key+"=") })
		if set {
			env = append(env, kv)
		}
	}
	host := cmp.Or(c.spec.Hostname, c.ID[:12])
	base := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOSTNAME=" + host}
	return append(base, env...)
}

func (c *container) workingDir() string { return cmp.Or(c.spec.WorkingDir, c.image.WorkingDir, "/") }

func (c *container) writeFiles(files []runtime.File, contents map[string][]byte, e *Engine) error {
	for _, dir := range []string{"/dev", "/etc", "/proc", "/sys"} {
		c.root.mkdirs(dir, e.nowLocked())
	}
	for _, f := range files {
		data, ok := contents[f.Name]
		if !ok {
			return fail(runtime.KindInvalid, "create", c.Name, "no content given for file %s", f.Name)
		}
		if !strings.HasPrefix(f.Target, "/") {
			return fail(runtime.KindInvalid, "create", c.Name, "the target %q of file %s is not an absolute path", f.Target, f.Name)
		}
		c.root.put(f.Target, &file{
			data: bytes.Clone(data), mode: fs.FileMode(cmp.Or(f.Mode, 0o444)), uid: f.UID, gid: f.GID, modTime: e.nowLocked(),
		})
	}
	return nil
}

// mountLocked makes the volumes the container needs and mounts them.
func (e *Engine) mountLocked(c *container) error {
	mounts := slices.Clone(c.spec.Mounts)
	for _, from := range c.spec.VolumesFrom {
		name, mode, _ := strings.Cut(from, ":")
		other, err := e.get("create", name)
		if err != nil {
			return err
		}
		for _, m := range other.Mounts {
			mounts = append(mounts, runtime.Mount{Type: m.Type, Source: cmp.Or(m.Name, m.Source), Target: m.Target, ReadOnly: m.ReadOnly || mode == "ro"})
		}
	}
	for _, target := range c.image.Volumes {
		if !slices.ContainsFunc(mounts, func(m runtime.Mount) bool { return clean(m.Target) == clean(target) }) {
			mounts = append(mounts, runtime.Mount{Type: runtime.MountVolume, Target: target})
		}
	}
	for _, m := range mounts {
		e.mountOne(c, m)
	}
	slices.SortFunc(c.Mounts, func(a, b runtime.MountPoint) int { return cmp.Compare(a.Target, b.Target) })
	return nil
}

func (e *Engine) mountOne(c *container, m runtime.Mount) {
	point := runtime.MountPoint{Type: m.Type, Source: m.Source, Target: m.Target, ReadOnly: m.ReadOnly}
	t := newTree()
	if m.Type == runtime.MountVolume {
		v := e.volumes[m.Source]
		if v == nil {
			v = e.newVolume(&runtime.VolumeSpec{Name: cmp.Or(m.Source, newID()), Driver: m.Driver, DriverOpts: m.DriverOpts, Labels: m.Labels})
			v.anonymous = m.Source == ""
		}
		if len(v.tree.files) == 1 && !m.NoCopy { // a new volume begins with what the image has there
			for _, q := range c.root.under(clean(m.Target)) {
				if rel := strings.TrimPrefix(q, clean(m.Target)); rel != "" {
					v.tree.put(rel, c.root.files[q])
				}
			}
		}
		point.Name, point.Source, t = v.Name, v.Mountpoint, v.tree
	}
	c.Mounts = append(c.Mounts, point)
	c.trees = append(c.trees, mountedTree{target: clean(m.Target), tree: t, readOnly: m.ReadOnly})
}

// portKey is a port of the host.
type portKey struct {
	ip       string // "" is every address
	port     uint16
	protocol string
}

func (k portKey) String() string {
	return fmt.Sprintf("%s:%d/%s", cmp.Or(k.ip, "0.0.0.0"), k.port, k.protocol)
}

// overlaps reports whether two holders of a port are in each other's way.
func (k portKey) overlaps(l portKey) bool {
	return k.port == l.port && k.protocol == l.protocol && (k.ip == "" || l.ip == "" || k.ip == l.ip)
}

func newPortKey(ip string, port uint16, protocol string) portKey {
	if ip == "0.0.0.0" || ip == "::" {
		ip = ""
	}
	return portKey{ip: ip, port: port, protocol: cmp.Or(protocol, "tcp")}
}

// HoldPort has a foreign process listen on a port of the host, or let go of it.
func (e *Engine) HoldPort(port uint16, protocol string, hold bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	key := newPortKey("", port, protocol)
	if hold {
		e.ports[key] = "a foreign process"
	} else {
		delete(e.ports, key)
	}
}

func (e *Engine) portHolder(key portKey) string {
	for k, holder := range e.ports {
		if k.overlaps(key) {
			return holder
		}
	}
	return ""
}

// exposed are the ports that the image and the spec mention.
func (c *container) exposed() []runtime.BoundPort {
	var out []runtime.BoundPort
	for _, s := range slices.Concat(c.image.Exposed, c.spec.Expose) {
		number, protocol, _ := strings.Cut(s, "/")
		if n, err := strconv.ParseUint(number, 10, 16); err == nil {
			out = append(out, runtime.BoundPort{Target: uint16(n), Protocol: cmp.Or(protocol, "tcp")})
		}
	}
	return sortPorts(out)
}

func sortPorts(ports []runtime.BoundPort) []runtime.BoundPort {
	slices.SortFunc(ports, func(a, b runtime.BoundPort) int {
		return cmp.Or(cmp.Compare(a.Target, b.Target), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.HostIP, b.HostIP), cmp.Compare(a.HostPort, b.HostPort))
	})
	return slices.Compact(ports)
}

// bindLocked publishes the container's ports on the host.
func (e *Engine) bindLocked(c *container) error {
	bound := c.exposed()
	for _, p := range c.spec.Ports {
		key, err := e.choosePort(c, p)
		if err != nil {
			return err
		}
		e.ports[key] = "container " + c.Name
		c.bound = append(c.bound, key)
		bound = slices.DeleteFunc(bound, func(b runtime.BoundPort) bool {
			return b.Target == p.Target && b.Protocol == key.protocol && b.HostPort == 0
		})
		bound = append(bound, runtime.BoundPort{Target: p.Target, Protocol: key.protocol, HostIP: cmp.Or(key.ip, "0.0.0.0"), HostPort: key.port})
	}
	c.Ports = sortPorts(bound)
	return nil
}

func (e *Engine) choosePort(c *container, p runtime.Port) (portKey, error) {
	if p.Published == "" || p.Published == "0" {
		for range 1 << 15 {
			e.lastPort = max(32768, e.lastPort+1)
			if key := newPortKey(p.HostIP, e.lastPort, p.Protocol); e.portHolder(key) == "" {
				return key, nil
			}
		}
		return portKey{}, fail(runtime.KindConflict, "start", c.Name, "all ports are allocated")
	}
	from, to, isRange := strings.Cut(p.Published, "-")
	if !isRange {
		to = from
	}
	low, err := strconv.ParseUint(from, 10, 16)
	high, err2 := strconv.ParseUint(to, 10, 16)
	if err != nil || err2 != nil || low > high {
		return portKey{}, fail(runtime.KindInvalid, "start", c.Name, "invalid published port %q", p.Published)
	}
	key := newPortKey(p.HostIP, uint16(low), p.Protocol)
	for range high - low + 1 {
		if e.portHolder(key) == "" {
			return key, nil
		}
		key.port++
	}
	key.port = uint16(low)
	return portKey{}, fail(runtime.KindConflict, "start", c.Name, "bind for %s failed: the port is already allocated to %s", key, e.portHolder(key))
}
