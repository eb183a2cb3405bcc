package fake

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/berth-dev/berth/runtime"
)

type network struct {
	runtime.Network
	predefined bool
	pool       int // number of the default pool it took; -1: none
	subnet     netip.Prefix
	last       uint32 // last address given out, counted from the subnet's first
}

func (e *Engine) lookupNetwork(name string) *network {
	if n := e.networks[name]; n != nil {
		return n
	}
	for _, n := range e.networks {
		if n.Name == name {
			return n
		}
	}
	return nil
}

// joinLocked gives a starting container its place in its networks.
func (e *Engine) joinLocked(c *container) error {
	if name, ok := strings.CutPrefix(c.NetworkMode, "container:"); ok {
		other, err := e.get("start", name)
		if err != nil {
			return err
		}
		if !other.State.Alive() {
			return fail(runtime.KindConflict, "start", c.Name, "cannot join the network of container %s, which does not run", name)
		}
		return nil
	}
	c.Networks = nil
	for _, a := range c.wants {
		n := e.lookupNetwork(a.Network)
		if n == nil {
			return fail(runtime.KindNotFound, "start", c.Name, "network %s not found", a.Network)
		}
		e.attach(c, n, a)
	}
	return nil
}

// attach makes an endpoint of a container that runs.
func (e *Engine) attach(c *container, n *network, a runtime.Attachment) {
	n.last++
	ip := cmp.Or(a.IPv4, n.address(n.last+1))
	at := runtime.Endpoint{Network: n.Name, NetworkID: n.ID, Aliases: slices.Clone(a.Aliases)}
	if n.Name != "host" && n.Name != "none" {
		at.IPv4, at.Gateway, at.Mac = ip, n.address(1), cmp.Or(a.MacAddress, fmt.Sprintf("02:42:ac:%02x:%02x:%02x", n.last>>16&255, n.last>>8&255, n.last&255))
		at.IPv6 = a.IPv6
	}
	c.Networks = append(c.Networks, at)
	c.sortNetworks()
	n.Containers = append(n.Containers, c.ID)
	slices.Sort(n.Containers)
	e.emitLocked("network", "connect", n.ID, n.Name, map[string]string{"container": c.ID, "name": n.Name, "type": n.Driver})
}

// address is the network's n-th address, counted from its first.
func (n *network) address(host uint32) string {
	base := netip.MustParseAddr("172.17.0.0").As4()
	if n.subnet.IsValid() {
		first := n.subnet.Masked().Addr()
		if !first.Is4() {
			return first.Next().String()
		}
		base = first.As4()
	} else {
		base[1] += uint8(max(n.pool, 0) % 100)
	}
	binary.BigEndian.PutUint32(base[:], binary.BigEndian.Uint32(base[:])+host)
	return netip.AddrFrom4(base).String()
}

// leaveLocked takes a container that stops off the host's ports and its networks.
func (e *Engine) leaveLocked(c *container) {
	for _, key := range c.bound {
		delete(e.ports, key)
	}
	c.bound, c.Ports = nil, nil
	for i, at := range c.Networks {
		if n := e.networks[at.NetworkID]; n != nil && slices.Contains(n.Containers, c.ID) {
			e.detach(c, n)
		}
		c.Networks[i] = runtime.Endpoint{Network: at.Network, NetworkID: at.NetworkID, Aliases: at.Aliases}
	}
}

func (e *Engine) detach(c *container, n *network) {
	n.Containers = slices.DeleteFunc(n.Containers, func(id string) bool { return id == c.ID })
	e.emitLocked("network", "disconnect", n.ID, n.Name, map[string]string{"container": c.ID, "name": n.Name, "type": n.Driver})
}

// EnsureNetwork makes the network, or finds it.
func (e *Engine) EnsureNetwork(ctx context.Context, spec *runtime.NetworkSpec) (id string, err error) {
	err = e.call(ctx, "ensure-network", spec.Name, func(_ context.Context, call *Call) error {
		e.mu.Lock()
		defer e.mu.Unlock()
		call.Labels = maps.Clone(spec.Labels)
		if spec.Name == "" {
			return fail(runtime.KindInvalid, "create network", "", "the name must not be empty")
		}
		if n := e.lookupNetwork(spec.Name); n != nil {
			if n.predefined || n.Labels[runtime.LabelStack] != spec.Labels[runtime.LabelStack] {
				return fail(runtime.KindConflict, "create network", spec.Name, "a network of that name exists and belongs to somebody else")
			}
			id = n.ID
			return nil
		}
		n, err := e.newNetwork(spec)
		if err != nil {
			return err
		}
		id, call.Changed = n.ID, true
		e.emitLocked("network", "create", n.ID, n.Name, map[string]string{"name": n.Name, "type": n.Driver})
		return nil
	})
	if err != nil {
		id = ""
	}
	return id, err
}

func (e *Engine) newNetwork(spec *runtime.NetworkSpec) (*network, error) {
	n := &network{pool: -1, Network: runtime.Network{
		ID: newID(), Name: spec.Name, Driver: cmp.Or(spec.Driver, "bridge"), Scope: "local", Internal: spec.Internal, Labels: maps.Clone(spec.Labels),
	}}
	if spec.IPAM != nil && len(spec.IPAM.Pools) > 0 && spec.IPAM.Pools[0].Subnet != "" {
		subnet, err := netip.ParsePrefix(spec.IPAM.Pools[0].Subnet)
		if err != nil {
			return nil, fail(runtime.KindInvalid, "create network", spec.Name, "invalid subnet: %w", err)
		}
		for _, other := range e.networks {
			if other.subnet.IsValid() && other.subnet.Overlaps(subnet) {
				return nil, fail(runtime.KindConflict, "create network", spec.Name, "the subnet %s overlaps with that of network %s", subnet, other.Name)
			}
		}
		n.subnet = subnet
	} else {
		used := map[int]bool{}
		for _, other := range e.networks {
			used[other.pool] = true
		}
		for n.pool = 0; used[n.pool]; n.pool++ {
		}
		if n.pool >= e.opts.AddressPools {
			return nil, fail(runtime.KindUnavailable, "create network", spec.Name, "all predefined address pools have been fully subnetted")
		}
	}
	e.networks[n.ID] = n
	return n, nil
}

// Network finds a network by name or ID.
func (e *Engine) Network(ctx context.Context, name string) (found runtime.Network, err error) {
	err = e.call(ctx, "network", name, func(context.Context, *Call) error {
		e.mu.Lock()
		defer e.mu.Unlock()
		n, err := e.getNetwork("inspect network", name)
		if err == nil {
			found = n.copy()
		}
		return err
	})
	return found, err
}

func (n *network) copy() runtime.Network {
	c := n.Network
	c.Labels = maps.Clone(c.Labels)
	c.Containers = slices.Clone(c.Containers)
	return c
}

func (e *Engine) getNetwork(op, name string) (*network, error) {
	if n := e.lookupNetwork(name); n != nil {
		return n, nil
	}
	return nil, fail(runtime.KindNotFound, op, name, "no such network")
}

// ListNetworks returns the networks that match, sorted by name.
func (e *Engine) ListNetworks(ctx context.Context, filter runtime.Filter) (found []runtime.Network, err error) {
	err = e.call(ctx, "list-networks", "", func(context.Context, *Call) error {
		e.mu.Lock()
		defer e.mu.Unlock()
		for _, n := range e.networks {
			if matches(filter, n.Labels) {
				shallow := n.copy()
				shallow.Containers = nil // a list call does not tell
				found = append(found, shallow)
			}
		}
		slices.SortFunc(found, func(a, b runtime.Network) int { return cmp.Compare(a.Name, b.Name) })
		return nil
	})
	return found, err
}

// RemoveNetwork removes a network that nothing alive is attached to.
func (e *Engine) RemoveNetwork(ctx context.Context, id string) error {
	return e.call(ctx, "remove-network", id, func(_ context.Context, call *Call) error {
		e.mu.Lock()
		defer e.mu.Unlock()
		n, err := e.getNetwork("remove network", id)
		switch {
		case err != nil:
			return err
		case n.predefined:
			return fail(runtime.KindConflict, "remove network", n.Name, "it is predefined and cannot be removed")
		case len(n.Containers) > 0:
			return fail(runtime.KindConflict, "remove network", n.Name, "it has active endpoints: %s", e.containerNames(n.Containers))
		}
		delete(e.networks, n.ID)
		call.Changed = true
		e.emitLocked("network", "destroy", n.ID, n.Name, map[string]string{"name": n.Name, "type": n.Driver})
		return nil
	})
}

func (e *Engine) containerNames(ids []string) string {
	var names []string
	for _, id := range ids {
		if c := e.containers[id]; c != nil {
			names = append(names, c.Name)
		}
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// Connect joins a container to a network; one that is attached is left as it is.
func (e *Engine) Connect(ctx context.Context, network, container string, at runtime.Attachment) error {
	return e.call(ctx, "connect", network, func(_ context.Context, call *Call) error {
		e.mu.Lock()
		defer e.mu.Unlock()
		n, err := e.getNetwork("connect to network", network)
		if err != nil {
			return err
		}
		c, err := e.get("connect", container)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(c.wants, func(a runtime.Attachment) bool { return a.Network == n.Name || a.Network == n.ID }) {
			return nil
		}
		call.Changed = true
		at.Network = n.Name
		c.wants = append(c.wants, at)
		if c.State.Alive() && c.proc != nil {
			e.attach(c, n, at)
			return nil
		}
		c.Networks = append(c.Networks, runtime.Endpoint{Network: n.Name, NetworkID: n.ID, Aliases: slices.Clone(at.Aliases)})
		c.sortNetworks()
		return nil
	})
}

// Disconnect takes a container off a network.
func (e *Engine) Disconnect(ctx context.Context, network, container string, force bool) error {
	return e.call(ctx, "disconnect", network, func(_ context.Context, call *Call) error {
		e.mu.Lock()
		defer e.mu.Unlock()
		n, err := e.getNetwork("disconnect from network", network)
		if err != nil {
			return err
		}
		c, err := e.get("disconnect", container)
		if err != nil {
			if force {
				return nil
			}
			return err
		}
		before := len(c.wants)
		c.wants = slices.DeleteFunc(c.wants, func(a runtime.Attachment) bool { return a.Network == n.Name || a.Network == n.ID })
		if len(c.wants) == before {
			return fail(runtime.KindConflict, "disconnect", c.Name, "it is not attached to network %s", n.Name)
		}
		call.Changed = true
		c.Networks = slices.DeleteFunc(c.Networks, func(at runtime.Endpoint) bool { return at.Network == n.Name })
		if slices.Contains(n.Containers, c.ID) {
			e.detach(c, n)
		}
		return nil
	})
}
