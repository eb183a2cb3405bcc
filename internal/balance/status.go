package balance

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// BackendStatus is a backend as it is.
type BackendStatus struct {
	ID     string `json:"id"`
	Group  string `json:"group,omitempty"`
	Routed bool   `json:"routed"`
	// UnroutedAt is since when it has been given no new connection. Zero while
	// it is routed, and when it never was.
	UnroutedAt time.Time `json:"unroutedAt,omitzero"`
	// Open counts the connections and sessions that it has, connects under way
	// included: requests in flight, where each takes a connection.
	Open int `json:"open"`
	// AvoidedUntil is until when others are preferred, after Failures connects in a
	// row. Zero when it is not avoided.
	AvoidedUntil time.Time `json:"avoidedUntil,omitzero"`
	Failures     int       `json:"failures,omitempty"`
	Counters
}

// Drained says that it has no connection and is given none.
func (s BackendStatus) Drained() bool { return !s.Routed && s.Open == 0 }

// PoolStatus is a pool as it is.
type PoolStatus struct {
	Pool   Key    `json:"pool"`
	Policy Policy `json:"policy"`
	Open   int    `json:"open"` // connections and sessions of all its backends
	// Waiting counts the clients that wait for a backend, since WaitingSince.
	Waiting      int       `json:"waiting"`
	WaitingSince time.Time `json:"waitingSince,omitzero"`
	Held         uint64    `json:"held"`    // clients that ever waited for a backend
	Retries      uint64    `json:"retries"` // connects that were tried on another backend
	// Refused counts the clients that were turned away.
	Refused  map[RefusedReason]uint64 `json:"refused,omitempty"`
	Counters                          // of all its backends, former ones included
	Backends []BackendStatus          `json:"backends"` // ordered by ID
}

// Snapshot is everything at one time.
type Snapshot struct {
	Frontends []FrontendStatus `json:"frontends"` // as last asked for
	Pools     []PoolStatus     `json:"pools"`     // ordered by key
}

// Snapshot returns the state of all frontends and pools.
func (b *Balancer) Snapshot() Snapshot {
	s := Snapshot{Frontends: b.Status()}
	for _, p := range b.listPools() {
		s.Pools = append(s.Pools, p.status())
	}
	return s
}

// Pool returns the state of a pool; not ok when there is none.
func (b *Balancer) Pool(k Key) (s PoolStatus, ok bool) {
	p := b.pool(k)
	if p == nil {
		return PoolStatus{}, false
	}
	return p.status(), true
}

// Backend returns the state of a backend of a pool. It is not ok when the last
// [Balancer.Route] did not name it and it has no connection any more.
func (b *Balancer) Backend(k Key, id string) (s BackendStatus, ok bool) {
	p := b.pool(k)
	if p == nil {
		return BackendStatus{}, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	be := p.find(id)
	if be == nil {
		return BackendStatus{}, false
	}
	return be.status(), true
}

func (b *Balancer) pool(k Key) *pool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.pools[k]
}

func (b *Balancer) listPools() []*pool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.SortedFunc(maps.Values(b.pools), func(x, y *pool) int {
		return cmp.Or(cmp.Compare(x.key.Stack, y.key.Stack), cmp.Compare(x.key.Service, y.key.Service))
	})
}

func (p *pool) status() PoolStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := PoolStatus{
		Pool: p.key, Policy: p.chooser.policy, Waiting: len(p.held), Held: p.heldTotal, Retries: p.retries,
		Refused: maps.Clone(p.refused), Counters: p.former, Backends: make([]BackendStatus, 0, len(p.backends)),
	}
	if len(p.held) > 0 {
		s.WaitingSince = p.held[0].since()
	}
	for _, be := range p.backends {
		of := be.status()
		s.Open += of.Open
		s.add(of.Counters)
		s.Backends = append(s.Backends, of)
	}
	return s
}

func (be *backend) status() BackendStatus {
	return BackendStatus{
		ID: be.ID, Group: be.Group, Routed: be.Routed, UnroutedAt: be.unroutedAt, Open: be.open,
		AvoidedUntil: be.avoidUntil, Failures: be.failures, Counters: be.counters.snapshot(),
	}
}
