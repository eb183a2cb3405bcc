package health

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/berth-dev/berth/runtime"
)

// Way is how a network probe gets to a container.
type Way string

// The ways, in the order of preference. The zero value: there is none.
const (
	// Direct: the probe names a host, which is asked from here.
	Direct Way = "direct"
	// ByHost: the container shares this machine's network.
	ByHost Way = "host"
	// ByAddress: the container's address on a network that this machine is part of.
	ByAddress Way = "address"
	// Published: a port of the engine's machine that leads to the container's.
	Published Way = "published"
	// ByHelper: a helper in the container's network namespace.
	ByHelper Way = "helper"
)

// Route is a chosen way, and why.
type Route struct {
	Way     Way    `json:"way,omitempty"`
	Address string `json:"address,omitempty"` // host:port to connect to, by the helper where there is one
	// Container is whose network namespace the helper joins.
	Container string `json:"container,omitempty"`
	Reason    string `json:"reason,omitempty"` // why this way, or why there is none
}

// Facts are what the choice of a route depends on.
type Facts struct {
	Container runtime.Container
	// Sharer is the container whose network Container shares (network_mode
	// service:x or container:x); nil where it shares none, or is not found.
	Sharer *runtime.Container
	// Local: the engine's containers and this process share one kernel and its
	// host network, so bridges can be reached. False for a remote engine, one in a
	// virtual machine (Docker Desktop), and a rootless one.
	Local bool
	// EngineHost is the name or address under which the engine's published ports
	// are reached; empty: this machine, which a virtual machine forwards to.
	EngineHost string
	// Drivers are the networks' drivers by name. A network that is missing counts
	// as a bridge.
	Drivers map[string]string
	// Listeners are the addresses listened on in the container's network
	// namespace, where that is known; see [ParseListeners].
	Listeners []netip.AddrPort
}

// Choose picks the way to a TCP port of a container. host is the probe's own,
// as in [HTTP]; port is 1 to 65535. Equal arguments give an equal route.
func Choose(f Facts, host string, port uint16) Route {
	loopback := isLoopback(host)
	if host != "" && !loopback {
		return Route{Way: Direct, Address: join(host, port), Reason: "the probe names the host"}
	}
	owner, why := f.owner()
	if owner == nil {
		return Route{Reason: why}
	}
	if !loopback {
		host = "127.0.0.1"
	}
	helper := Route{Way: ByHelper, Address: join(host, port), Container: owner.ID}
	if owner.NetworkMode == "host" {
		if f.Local {
			return Route{Way: ByHost, Address: join(host, port), Reason: "the container shares the host's network"}
		}
		helper.Reason = "the container shares the network of the engine's machine, which is not this one"
		return helper
	}
	switch {
	case loopback:
		helper.Reason = "the probe asks for the container's own loopback"
		return helper
	case loopbackOnly(f.Listeners, port):
		helper.Reason = fmt.Sprintf("port %d is listened on by the container's loopback only", port)
		return helper
	}
	return f.outside(owner, port, why, helper)
}

// Ways chooses the routes of all network probes. named holds the service's named
// ports; a name that is not there has no way, with a reason.
func (f Facts) Ways(probes Probes, named map[string]uint16) map[Role]Route {
	ways := map[Role]Route{}
	for _, r := range Roles() {
		p := probes.Of(r)
		if p == nil {
			continue
		}
		host, port, network := p.Where()
		if !network {
			continue
		}
		if number, ok := port.Resolve(named); ok {
			ways[r] = Choose(f, host, number)
		} else {
			ways[r] = Route{Reason: fmt.Sprintf("no port is named %q", port.Name)}
		}
	}
	return ways
}

// owner returns the container whose network namespace the probe is about, and
// what there is to say of that; nil when it is not known.
func (f Facts) owner() (c *runtime.Container, why string) {
	ref, shares := strings.CutPrefix(f.Container.NetworkMode, "container:")
	switch {
	case !shares:
		return &f.Container, ""
	case f.Sharer == nil:
		return nil, fmt.Sprintf("it shares the network of container %s, which is not there", short(ref))
	case !f.Sharer.State.Alive():
		return nil, fmt.Sprintf("it shares the network of %s, which is %s", f.Sharer.Name, f.Sharer.State)
	default:
		return f.Sharer, fmt.Sprintf(", whose network %s shares", f.Container.Name)
	}
}

// short cuts an ID to what people read.
func short(id string) string { return id[:min(12, len(id))] }

// outside is the way to a port that is listened on by an address others reach.
func (f Facts) outside(owner *runtime.Container, port uint16, of string, helper Route) Route {
	addr, network, none := f.address(owner)
	if none == "" {
		return Route{Way: ByAddress, Address: netip.AddrPortFrom(addr, port).String(),
			Reason: fmt.Sprintf("address of %s on network %s%s", owner.Name, network, of)}
	}
	if p := published(owner, port); p != nil {
		return Route{Way: Published, Address: join(f.publishedHost(p.HostIP), p.HostPort),
			Reason: fmt.Sprintf("published port %d leads to port %d; %s", p.HostPort, port, none)}
	}
	helper.Reason = none + ", and port " + strconv.Itoa(int(port)) + " is not published"
	return helper
}

// address returns the first address that this machine reaches, IPv4 before
// IPv6, or why there is none.
func (f Facts) address(c *runtime.Container) (addr netip.Addr, network, none string) {
	if !f.Local {
		return addr, "", "the engine's networks are not this machine's"
	}
	none = "the container is on no network"
	for _, v6 := range []bool{false, true} {
		for _, e := range c.Networks {
			if d := f.Drivers[e.Network]; !reachable(d) {
				none = fmt.Sprintf("this machine is not part of network %s (%s)", e.Network, d)
				continue
			}
			text := e.IPv4
			if v6 {
				text = e.IPv6
			}
			if a, err := netip.ParseAddr(text); err == nil && !a.IsLinkLocalUnicast() {
				return a, e.Network, ""
			}
		}
	}
	return addr, "", none
}

// reachable reports whether the host is part of a driver's networks. Of those
// that come with the engine only the bridge is: macvlan and ipvlan keep the
// host out, an overlay is not attached to it.
func reachable(driver string) bool { return driver == "" || driver == "bridge" || driver == "nat" }

// published returns the lowest published TCP port that leads to port; nil: none.
func published(c *runtime.Container, port uint16) *runtime.BoundPort {
	var best *runtime.BoundPort
	for i := range c.Ports {
		p := &c.Ports[i]
		if p.Target == port && p.HostPort != 0 && (p.Protocol == "" || p.Protocol == "tcp") && (best == nil || p.HostPort < best.HostPort) {
			best = p
		}
	}
	return best
}

// publishedHost is where a port bound to hostIP is reached from here.
func (f Facts) publishedHost(hostIP string) string {
	a, err := netip.ParseAddr(hostIP)
	if err == nil && !a.IsUnspecified() && (f.EngineHost == "" || !a.IsLoopback()) {
		return hostIP
	}
	if f.EngineHost != "" {
		return f.EngineHost
	}
	if err == nil && a.Is6() && !a.Is4In6() {
		return "::1"
	}
	return "127.0.0.1"
}

func join(host string, port uint16) string {
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}

func isLoopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback() || strings.EqualFold(host, "localhost")
}

// loopbackOnly reports whether port is listened on, and by loopback addresses only.
func loopbackOnly(listeners []netip.AddrPort, port uint16) bool {
	found := false
	for _, l := range listeners {
		if l.Port() != port {
			continue
		}
		if !l.Addr().Unmap().IsLoopback() {
			return false
		}
		found = true
	}
	return found
}

// mostListeners bounds what [ParseListeners] returns.
const mostListeners = 4096

// ParseListeners reads a table of sockets as Linux prints it in
// /proc/<pid>/net/tcp and tcp6 (proc(5)) and returns the addresses listened on.
// A line that is not understood is an error.
func ParseListeners(r io.Reader) ([]netip.AddrPort, error) {
	var out []netip.AddrPort
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan() && len(out) < mostListeners; n++ {
		fields := strings.Fields(lines.Text())
		if n == 1 || len(fields) == 0 {
			continue // the heading
		}
		if len(fields) < 4 {
			return nil, fmt.Errorf("read table of sockets: line %d has %d fields, not 4 or more", n, len(fields))
		}
		const listening = "0A"
		if fields[3] != listening {
			continue
		}
		a, err := parseSocket(fields[1])
		if err != nil {
			return nil, fmt.Errorf("read table of sockets: line %d: %w", n, err)
		}
		out = append(out, a)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read table of sockets: %w", err)
	}
	return out, nil
}

// parseSocket reads "0100007F:1F90": an address of 32-bit words in the byte
// order of the machine, little-endian on all that Docker runs on but s390x.
func parseSocket(s string) (netip.AddrPort, error) {
	host, port, ok := strings.Cut(s, ":")
	b, err := hex.DecodeString(host)
	if !ok || err != nil || len(b) != 4 && len(b) != 16 {
		return netip.AddrPort{}, fmt.Errorf("%q is no address", s)
	}
	p, err := strconv.ParseUint(port, 16, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%q has no port: %w", s, err)
	}
	for i := 0; i < len(b); i += 4 {
		b[i], b[i+1], b[i+2], b[i+3] = b[i+3], b[i+2], b[i+1], b[i]
	}
	a, _ := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(a, uint16(p)), nil
}
