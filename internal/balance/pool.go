package balance

import (
	"cmp"
	"context"
	"maps"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"time"
)

// client is somebody who wants a backend: an accepted connection, or a session.
type client interface {
	// source is the client's address.
	source() netip.Addr
	// at is the frontend by which it came.
	at() frontend
	// target is the port of a backend that it wants.
	target() Port
	// since is when it came.
	since() time.Time
	// serve takes the backend that was chosen, one of whose open connections it is
	// now, and returns at once. The pool's mutex is not held.
	serve(p *pool, be *backend)
	// refuse turns it away, and returns at once.
	refuse(RefusedReason)
}

// link is an open connection or session of a backend.
type link interface {
	cut()
}

// backend is one replica as its pool knows it. All but the counters is
// protected by the pool's mutex.
type backend struct {
	Backend    // as last given; not routed when it is gone
	unroutedAt time.Time
	gone       bool // the last Route did not name it
	open       int  // connections, those under way included
	links      map[link]struct{}

	failures   int       // connects failed in a row
	failedAt   time.Time // the last of them
	avoidUntil time.Time

	counters counters
}

// pool is the backends of a service, and who waits for one.
type pool struct {
	key Key
	b   *Balancer

	mu        sync.Mutex // protects all below
	chooser   chooser
	hold      Hold
	drainIdle time.Duration
	closing   bool       // a goroutine ends idle connections
	asked     bool       // the last Route said anything
	backends  []*backend // ordered by ID
	held      []client   // ordered by when they came
	expiry    *time.Timer
	closed    bool
	scratch   []candidate
	heldTotal uint64
	retries   uint64
	refused   map[RefusedReason]uint64
	former    Counters // of backends that are gone
	changed   chan struct{}
}

func newPool(b *Balancer, k Key) *pool {
	p := &pool{
		key: k, b: b, chooser: newChooser(rand.IntN), refused: map[RefusedReason]uint64{},
		changed: make(chan struct{}),
	}
	p.chooser.set("", nil)
	p.hold = Hold{}.withDefaults()
	return p
}

func (h Hold) withDefaults() Hold {
	return Hold{Limit: cmp.Or(h.Limit, DefaultHoldLimit), For: cmp.Or(max(h.For, 0), DefaultHoldFor)}
}

func (p *pool) find(id string) *backend {
	i, ok := slices.BinarySearchFunc(p.backends, id, func(be *backend, id string) int { return cmp.Compare(be.ID, id) })
	if !ok {
		return nil
	}
	return p.backends[i]
}

// proxied reports whether a proxy of the engine that leads to an address leads to
// a backend.
func (p *pool) proxied(at netip.Addr) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(p.backends, func(be *backend) bool { return !be.gone && slices.Contains(be.Proxied, at) })
}

// route makes the backends what they are said to be, and serves who waited.
func (p *pool) route(to Routing, now time.Time) {
	p.mu.Lock()
	p.chooser.set(to.Policy, to.Shares)
	p.hold, p.drainIdle = to.Hold.withDefaults(), to.DrainIdle
	p.asked = !reflect.DeepEqual(to, Routing{})
	named := map[string]bool{}
	for _, of := range to.Backends {
		named[of.ID] = true
		p.routeOne(of, now)
	}
	for _, be := range p.backends {
		if !named[be.ID] {
			be.unroute(now)
			be.gone = true
		}
	}
	p.forgetGone()
	p.watchIdleLocked()
	close(p.changed)
	p.changed = make(chan struct{})
	r := p.releaseLocked(now)
	p.mu.Unlock()
	p.release(r)
}

func (p *pool) routeOne(of Backend, now time.Time) {
	be := p.find(of.ID)
	if be == nil {
		be = &backend{Backend: Backend{ID: of.ID}, links: map[link]struct{}{}}
		i, _ := slices.BinarySearchFunc(p.backends, of.ID, func(be *backend, id string) int { return cmp.Compare(be.ID, id) })
		p.backends = slices.Insert(p.backends, i, be)
	}
	if !of.Routed {
		be.unroute(now)
	} else if !be.Routed || be.IP != of.IP || !maps.Equal(be.Addrs, of.Addrs) { // what failed is past
		be.unroutedAt, be.failures, be.avoidUntil = time.Time{}, 0, time.Time{}
	}
	be.Backend, be.gone = of, false
}

func (be *backend) unroute(now time.Time) {
	if be.Routed {
		be.Routed, be.unroutedAt = false, now
	}
}

// forgetGone drops the backends that are no longer named and have nothing open.
func (p *pool) forgetGone() {
	p.backends = slices.DeleteFunc(p.backends, func(be *backend) bool {
		forget := be.gone && be.open == 0
		if forget {
			p.former.add(be.counters.snapshot())
		}
		return forget
	})
}

// pick chooses a backend for a client among the routed ones, and counts the client
// as open there. Those that were tried already are left out; those that are
// avoided are chosen only when there is no other. It is nil when none is left.
func (p *pool) pick(c client, tried []*backend, now time.Time) *backend {
	fresh := p.candidates(c.target(), tried, func(be *backend) bool { return !now.Before(be.avoidUntil) })
	if len(fresh) == 0 {
		fresh = p.candidates(c.target(), tried, func(*backend) bool { return true })
	}
	if len(fresh) == 0 {
		return nil
	}
	be := p.backends[p.chooser.choose(fresh, c.source()).at]
	be.open++
	if be.failures > 0 { // one client tries whether it is well again
		be.avoidUntil = now.Add(p.b.cfg.Connect)
	}
	return be
}

func (p *pool) candidates(target Port, tried []*backend, is func(*backend) bool) []candidate {
	p.scratch = p.scratch[:0]
	for i, be := range p.backends {
		if be.Routed && is(be) && be.addr(target).IsValid() && !slices.Contains(tried, be) {
			p.scratch = append(p.scratch, candidate{id: be.ID, group: be.Group, open: be.open, at: i})
		}
	}
	return p.scratch
}

// admit gives a client to a backend, lets it wait, or turns it away.
func (p *pool) admit(c client, now time.Time) {
	p.mu.Lock()
	be := p.pick(c, nil, now)
	first, refused := false, RefusedReason("")
	if be == nil {
		first, refused = p.wait(c, now)
	}
	p.mu.Unlock()
	switch {
	case be != nil:
		c.serve(p, be)
	case refused != "":
		c.refuse(refused)
	case first && p.b.cfg.Waiting != nil:
		p.b.cfg.Waiting(p.key)
	}
}

// wait puts a client among those that wait, in the order in which they came.
func (p *pool) wait(c client, now time.Time) (first bool, refused RefusedReason) {
	switch {
	case p.closed:
		refused = RefusedClosed
	case len(p.held) >= p.hold.Limit: // never less than a negative limit
		refused = RefusedHoldLimit
	}
	if refused != "" {
		p.refused[refused]++
		return false, refused
	}
	i := len(p.held)
	for i > 0 && c.since().Before(p.held[i-1].since()) {
		i--
	}
	p.held = slices.Insert(p.held, i, c)
	p.heldTotal++
	if i == 0 {
		p.schedule(now)
	}
	return len(p.held) == 1, ""
}

// schedule sets the timer to when the first that waits has waited long enough.
func (p *pool) schedule(now time.Time) {
	if p.expiry != nil {
		p.expiry.Stop()
		p.expiry = nil
	}
	if len(p.held) > 0 {
		p.expiry = time.AfterFunc(p.held[0].since().Add(p.hold.For).Sub(now), p.expire)
	}
}

// released is who no longer waits.
type released struct {
	served []client
	by     []*backend // for each of served
	late   []client   // have waited long enough
}

// releaseLocked takes those out of the queue for whom there is a backend, or who
// have waited long enough.
func (p *pool) releaseLocked(now time.Time) (r released) {
	p.held = slices.DeleteFunc(p.held, func(c client) bool {
		if be := p.pick(c, nil, now); be != nil {
			r.served, r.by = append(r.served, c), append(r.by, be)
			return true
		}
		if now.Sub(c.since()) < p.hold.For {
			return false
		}
		r.late = append(r.late, c)
		return true
	})
	if len(r.late) > 0 {
		p.refused[RefusedHoldTime] += uint64(len(r.late))
	}
	p.schedule(now)
	return r
}

// release serves those for whom there is a backend, and turns away who waited long
// enough. The mutex is not held.
func (p *pool) release(r released) {
	for i, c := range r.served {
		c.serve(p, r.by[i])
	}
	for _, c := range r.late {
		c.refuse(RefusedHoldTime)
	}
}

// expire is called when the first that waits has waited long enough.
func (p *pool) expire() {
	p.mu.Lock()
	r := p.releaseLocked(time.Now())
	p.mu.Unlock()
	p.release(r)
}

// connected notes which connection is open at a backend that accepted; see joined.
func (p *pool) connected(be *backend, l link, took time.Duration) (ok bool) {
	if !p.joined(be, l) {
		return false
	}
	p.accepted(be)
	be.counters.connections.Add(1)
	be.counters.latency.observe(took)
	return true
}

// joined notes which connection is open at a backend. It is not ok when the
// backend was unrouted meanwhile: then it is not to be used, and the client no
// longer counts as open there.
func (p *pool) joined(be *backend, l link) (ok bool) {
	p.mu.Lock()
	if be.Routed {
		be.links[l] = struct{}{}
		p.mu.Unlock()
		return true
	}
	be.open--
	drained := p.drainedLocked(be)
	p.mu.Unlock()
	p.tellDrained(drained)
	return false
}

// accepted notes that a backend is well.
func (p *pool) accepted(be *backend) {
	p.mu.Lock()
	defer p.mu.Unlock()
	be.failures, be.avoidUntil = 0, time.Time{}
}

// failed notes that a backend did not accept a connect that began at began. A
// failure for which the backend is not to blame does not make it avoided.
func (p *pool) failed(be *backend, began, now time.Time, blame bool) {
	if blame {
		p.blame(be, began, now)
	}
	p.mu.Lock()
	be.open--
	drained := p.drainedLocked(be)
	p.mu.Unlock()
	p.tellDrained(drained)
}

// blame makes a backend avoided that failed what began at began. Of connects that
// were under way together, one counts.
func (p *pool) blame(be *backend, began, now time.Time) {
	be.counters.failed.Add(1)
	p.mu.Lock()
	defer p.mu.Unlock()
	if began.Before(be.failedAt) {
		return
	}
	be.failures++
	be.failedAt = now
	be.avoidUntil = now.Add(avoidFor(be.failures))
}

// ended notes that a connection of a backend is no longer open.
func (p *pool) ended(be *backend, l link) {
	p.mu.Lock()
	delete(be.links, l)
	be.open--
	drained := p.drainedLocked(be)
	p.mu.Unlock()
	p.tellDrained(drained)
}

// drainedLocked returns a backend's name when it is drained, and forgets it when it is
// gone too.
func (p *pool) drainedLocked(be *backend) string {
	if be.Routed || be.open > 0 {
		return ""
	}
	p.forgetGone()
	return be.ID
}

func (p *pool) tellDrained(id string) {
	if id != "" && p.b.cfg.Drained != nil {
		p.b.cfg.Drained(p.key, id)
	}
}

// another chooses a backend that was not tried yet.
func (p *pool) another(c client, tried []*backend, now time.Time) *backend {
	p.mu.Lock()
	defer p.mu.Unlock()
	be := p.pick(c, tried, now)
	if be != nil {
		p.retries++
	}
	return be
}

// refuse turns a client away that no backend accepts.
func (p *pool) refuse(c client, why RefusedReason) {
	p.count(why)
	c.refuse(why)
}

// count counts a client that was turned away.
func (p *pool) count(why RefusedReason) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refused[why]++
}

// turnAway turns away who waits and came by a frontend that is no more.
func (p *pool) turnAway(f frontend) {
	p.mu.Lock()
	var away []client
	p.held = slices.DeleteFunc(p.held, func(c client) bool {
		if c.at() == f {
			away = append(away, c)
			p.refused[RefusedClosed]++
		}
		return c.at() == f
	})
	p.schedule(time.Now())
	p.mu.Unlock()
	for _, c := range away {
		c.refuse(RefusedClosed)
	}
}

// routedFor says whether any backend is routed for a port, and when to look again
// if not.
func (p *pool) routedFor(target Port) (routed bool, changed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.candidates(target, nil, func(*backend) bool { return true })) > 0, p.changed
}

// pause waits before the backends are tried once more, less when they change.
func pause(ctx context.Context, d time.Duration, changed <-chan struct{}) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-changed:
	case <-ctx.Done():
	}
}

// addr returns where a backend serves a port.
func (p *pool) addr(be *backend, target Port) netip.AddrPort {
	p.mu.Lock()
	defer p.mu.Unlock()
	return be.addr(target)
}

// cut ends what a backend has open.
func (p *pool) cut(id string) int {
	p.mu.Lock()
	var links []link
	if be := p.find(id); be != nil {
		links = slices.Collect(maps.Keys(be.links))
	}
	p.mu.Unlock()
	for _, l := range links {
		l.cut()
	}
	return len(links)
}

// shut turns away all who wait, and everyone who would from now on.
func (p *pool) shut() {
	p.mu.Lock()
	held := p.held
	p.held, p.closed = nil, true
	if len(held) > 0 {
		p.refused[RefusedClosed] += uint64(len(held))
	}
	p.schedule(time.Time{})
	p.mu.Unlock()
	for _, c := range held {
		c.refuse(RefusedClosed)
	}
}

// end ends what all backends have open, and everything that would open from now on.
func (p *pool) end() {
	p.mu.Lock()
	var ids []string
	for _, be := range p.backends {
		be.Routed = false
		ids = append(ids, be.ID)
	}
	p.mu.Unlock()
	for _, id := range ids {
		p.cut(id)
	}
}

// empty says that it has nothing to do.
func (p *pool) empty() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.asked && len(p.backends) == 0 && len(p.held) == 0
}
