package balance

import (
	"fmt"
	"net/netip"
	"time"
)

// Policy is how a backend is chosen for a connection among those of a group.
type Policy string

// The policies. The zero value is [RoundRobin].
const (
	// RoundRobin takes the backends in turn, by name.
	RoundRobin Policy = "round-robin"
	// LeastConnections takes the backend with the fewest open connections; among
	// equals, in turn.
	LeastConnections Policy = "least-connections"
	// RandomTwo looks at two backends at random and takes the one with fewer open
	// connections (the power of two choices, Mitzenmacher 2001).
	RandomTwo Policy = "random-two"
	// SourceHash takes the same backend for the same client address as long as
	// the backend is routed. A backend that joins or leaves moves only its own
	// share of the clients (rendezvous hashing, Thaler and Ravishankar 1998).
	// Shares of groups hold for client addresses then, not for connections.
	SourceHash Policy = "source-hash"
)

// Port is a port of a container.
type Port struct {
	Protocol Protocol
	Number   uint16
}

// Backend is one replica of a pool, or what leads to it.
type Backend struct {
	// ID names it in its pool: a container, or a replica.
	ID string
	// Group is what it has its share of connections with, such as its revision.
	Group string
	// IP is where each frontend's target port is found.
	IP netip.Addr
	// Addrs are the ports that are found elsewhere than at IP. With neither a
	// backend is not used for that port's connections.
	Addrs map[Port]netip.AddrPort
	// Proxied are the addresses at which a proxy of the engine may lead to it, so
	// that a port which such a proxy holds is taken over while it does.
	Proxied []netip.Addr
	// Routed says whether it is given new connections.
	Routed bool
}

// addr returns where the backend serves a port; not valid where it does not.
func (b Backend) addr(p Port) netip.AddrPort {
	if a, ok := b.Addrs[p]; ok {
		return a
	}
	if !b.IP.IsValid() {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(b.IP, p.Number)
}

// Hold bounds what waits while a pool has no routed backend. Zero values are defaults.
type Hold struct {
	// Limit is how many connections (TCP) and sessions (UDP) wait at most; the
	// next is refused. Negative: none waits. Default [DefaultHoldLimit].
	Limit int
	// For is how long each waits at most. Default [DefaultHoldFor].
	For time.Duration
}

// The defaults of a [Hold]. A minute is long enough for a container to be started and
// to become ready, and most clients give up by then.
const (
	DefaultHoldLimit = 1024
	DefaultHoldFor   = time.Minute
)

// Routing says where a pool's connections go.
type Routing struct {
	Policy Policy
	// Shares of new connections by group, in any unit: 10 and 90, or 1 and 9. They
	// are kept exactly, as evenly spread as can be. Without shares groups do not
	// matter. A group without a share gets connections only when no other has a
	// backend, and the share of a group without backends goes to the others.
	Shares   map[string]int
	Hold     Hold
	Backends []Backend
	// DrainIdle ends a connection to a backend that is no longer routed once nothing
	// was carried for so long after an answer, as on a connection that a client keeps
	// for later requests. One on which an answer is still to come goes on. 0: none is
	// ended.
	DrainIdle time.Duration
}

// maxShare bounds a share, so that sums cannot overflow.
const maxShare = 1_000_000

func (r Routing) check() error {
	switch r.Policy {
	case "", RoundRobin, LeastConnections, RandomTwo, SourceHash:
	default:
		return fmt.Errorf("policy %q is not known: use %s, %s, %s or %s", r.Policy, RoundRobin, LeastConnections, RandomTwo, SourceHash)
	}
	if r.DrainIdle < 0 {
		return fmt.Errorf("DrainIdle is %s: use 0 or more", r.DrainIdle)
	}
	for group, share := range r.Shares {
		if share < 0 || share > maxShare {
			return fmt.Errorf("the share of group %q is %d: use 0 to %d", group, share, maxShare)
		}
	}
	seen := map[string]bool{}
	for _, be := range r.Backends {
		if be.ID == "" || seen[be.ID] {
			return fmt.Errorf("backend %q: each needs a name of its own", be.ID)
		}
		seen[be.ID] = true
	}
	return nil
}
