package balance

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Config configures a [Balancer]. Zero values are defaults.
type Config struct {
	// MaxOpen bounds the open connections of each TCP frontend, waiting ones
	// included. When there are as many, it accepts no more: clients wait in the
	// kernel's queue. Each takes two file descriptors. Default [DefaultMaxOpen], or
	// less where this process may not have as many descriptors.
	MaxOpen int
	// MaxSessions bounds the sessions of each UDP frontend; datagrams of further
	// clients are dropped. Default [DefaultMaxSessions].
	MaxSessions int
	// Connect is how long a backend has to accept a connection before another
	// is tried. Default [DefaultConnect].
	Connect time.Duration
	// UDPIdle is how long a UDP session lasts without a datagram either way.
	// Default [DefaultUDPIdle].
	UDPIdle time.Duration
	// Waiting is called when a client begins to wait in a pool where none did:
	// no backend is routed. Drained is called when a backend that is not routed
	// has lost its last connection. Both are called by the goroutine that carries
	// connections, with no lock held, and must return at once; they tell nothing
	// but that it is time to look.
	Waiting func(Key)
	Drained func(pool Key, backend string)
}

// The defaults of a [Config].
const (
	DefaultMaxOpen     = 16384
	DefaultMaxSessions = 4096
	// DefaultConnect lets a lost SYN be sent again once (after 1 s, RFC 6298).
	DefaultConnect = 3 * time.Second
	// DefaultUDPIdle is that of Envoy's UDP proxy (udp_proxy, idle_timeout).
	DefaultUDPIdle = time.Minute
)

// Balancer listens, and carries connections to backends. Its methods may be called
// by many goroutines.
type Balancer struct {
	cfg      Config
	carriers carriers
	dialer   dialer
	// connecting ends when the balancer has closed: no connect outlives it.
	connecting context.Context
	stop       context.CancelFunc
	running    sync.WaitGroup // of everything that carries or accepts
	tcpOpen    atomic.Int64   // TCP connections that were accepted and have not ended

	applying sync.Mutex             // held while frontends are opened and closed; protects seized
	seized   map[Frontend]*families // by slot: what was taken of ports that are not free as a whole yet

	mu       sync.Mutex // protects all below
	pools    map[Key]*pool
	open     map[Frontend]frontend   // by slot
	adopted  map[Frontend][]Handover // by slot: sockets not asked for yet
	asked    []FrontendStatus        // as of the last Apply
	released bool                    // exported or closed: it opens nothing any more
	stopped  []frontend              // when it was
}

// frontend is an open one.
type frontend interface {
	// bind says for which pool and port it is from now on.
	bind(of Frontend, p *pool)
	status() FrontendStatus
	// files returns other descriptors of its sockets.
	files() ([]Handover, error)
	// stop ends listening; what it carries goes on. It waits until nothing is
	// accepted any more.
	stop()
	// end gives up the socket as far as stop has left it open for replies.
	end()
}

// New returns a balancer that listens at nothing. It starts no goroutine. The end
// of ctx makes connects to backends fail; [Balancer.Close] is what ends it well.
func New(ctx context.Context, cfg Config) *Balancer {
	cfg.MaxOpen = cmp.Or(max(cfg.MaxOpen, 0), defaultMaxOpen())
	cfg.MaxSessions = cmp.Or(max(cfg.MaxSessions, 0), DefaultMaxSessions)
	cfg.Connect = cmp.Or(max(cfg.Connect, 0), DefaultConnect)
	cfg.UDPIdle = cmp.Or(max(cfg.UDPIdle, 0), DefaultUDPIdle)
	b := &Balancer{
		cfg: cfg, carriers: newCarriers(), dialer: dialer{timeout: cfg.Connect},
		pools: map[Key]*pool{}, open: map[Frontend]frontend{}, adopted: map[Frontend][]Handover{}, seized: map[Frontend]*families{},
	}
	b.connecting, b.stop = context.WithCancel(ctx)
	return b
}

// descriptorsSpared are for all but connections.
const descriptorsSpared = 256

func defaultMaxOpen() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Cur > 2*DefaultMaxOpen+descriptorsSpared {
		return DefaultMaxOpen
	}
	return max(int(limit.Cur)-descriptorsSpared, descriptorsSpared) / 2
}

// Route says where a pool's new connections go: the whole truth, as often as one
// looks. A backend that it does not name, or names as not routed, is given none
// from when it returns, and keeps those it has. Clients that waited are served in
// the order in which they came. A pool for which no frontend stands is forgotten,
// with its counters, by the zero Routing. An error says that r makes no sense;
// nothing has changed then.
func (b *Balancer) Route(k Key, r Routing) error {
	if err := r.check(); err != nil {
		return fmt.Errorf("route %s: %w", k, err)
	}
	b.mu.Lock()
	p := b.poolLocked(k)
	b.mu.Unlock()
	p.route(r, time.Now())
	b.forgetPools()
	return nil
}

func (b *Balancer) poolLocked(k Key) *pool {
	p := b.pools[k]
	if p == nil {
		p = newPool(b, k)
		b.pools[k] = p
	}
	return p
}

// Cut ends the connections and sessions that a backend has, however well they
// are, and returns how many. A client notices a reset. Unroute the backend first,
// or new ones follow.
func (b *Balancer) Cut(k Key, backend string) int {
	p := b.pool(k)
	if p == nil || backend == "" {
		return 0
	}
	return p.cut(backend)
}

// Apply listens at the desired frontends, and at no other: the whole truth, as
// often as one looks. What is desired and open stays open, though it may be for
// another pool from now on. What cannot be listened at is in the returned
// statuses, with the reason, and is tried again by the next Apply. The statuses
// are in the order of desired.
func (b *Balancer) Apply(ctx context.Context, desired []Frontend) []FrontendStatus {
	b.applying.Lock()
	defer b.applying.Unlock()
	wanted := map[Frontend]Frontend{} // by slot, the first that asks
	for _, f := range desired {
		if _, ok := wanted[f.slot()]; !ok {
			wanted[f.slot()] = f
		}
	}
	b.closeOthers(wanted)
	asked := make([]FrontendStatus, len(desired))
	for i, f := range desired {
		if first := wanted[f.slot()]; first != f {
			asked[i] = FrontendStatus{Frontend: f, Reason: fmt.Sprintf("%s is already asked for by %s: give one of them another port", f, first.Key)}
			continue
		}
		asked[i] = b.ensure(ctx, f)
	}
	b.dropAdopted()
	b.mu.Lock()
	b.asked = slices.Clone(asked)
	b.mu.Unlock()
	b.forgetPools()
	return asked
}

// closeOthers closes what is open and not wanted, before anything is opened: the
// port may be wanted at another address.
func (b *Balancer) closeOthers(wanted map[Frontend]Frontend) {
	b.mu.Lock()
	var stop []frontend
	for slot, f := range b.open {
		if _, ok := wanted[slot]; !ok {
			stop = append(stop, f)
			delete(b.open, slot)
		}
	}
	b.mu.Unlock()
	pools := b.listPools()
	for _, f := range stop {
		f.stop()
		for _, p := range pools {
			p.turnAway(f)
		}
		f.end()
	}
}

// ensure listens at one frontend.
func (b *Balancer) ensure(ctx context.Context, f Frontend) FrontendStatus {
	if err := f.check(); err != nil {
		return FrontendStatus{Frontend: f, Reason: err.Error()}
	}
	b.mu.Lock()
	p := b.poolLocked(f.Key)
	have, released := b.open[f.slot()], b.released
	adopted, inherited := b.adopted[f.slot()]
	delete(b.adopted, f.slot())
	b.mu.Unlock()
	switch {
	case released:
		return FrontendStatus{Frontend: f, Reason: "this balancer has handed its sockets over, or was closed"}
	case have != nil:
		have.bind(f, p)
		return have.status()
	case inherited:
		if opened, err := b.inherit(f, p, adopted); err == nil {
			return b.keep(f, opened)
		}
	}
	if b.seized[f.slot()] != nil {
		opened, err := b.seizeOne(ctx, f, p)
		if err != nil {
			return unbound(f, err)
		}
		return b.keep(f, opened)
	}
	opened, err := b.listen(ctx, f, p)
	if errors.Is(err, syscall.EADDRINUSE) && f.Protocol == TCP {
		if ls, err := share(ctx, f, p); err == nil {
			return b.keep(f, newTCPFrontend(b, f, p, ls...))
		}
	}
	if err != nil {
		return unbound(f, err)
	}
	return b.keep(f, opened)
}

func (b *Balancer) keep(f Frontend, opened frontend) FrontendStatus {
	b.mu.Lock()
	b.open[f.slot()] = opened
	b.mu.Unlock()
	return opened.status()
}

// Status returns the frontends as last asked for, and as they are now.
func (b *Balancer) Status() []FrontendStatus {
	b.mu.Lock()
	all := slices.Clone(b.asked)
	open := maps.Clone(b.open)
	b.mu.Unlock()
	for i, s := range all {
		if f := open[s.slot()]; f != nil && s.Listening() {
			all[i] = f.status()
		}
	}
	return all
}

// forgetPools drops the pools that nothing leads to and that lead nowhere.
func (b *Balancer) forgetPools() {
	b.mu.Lock()
	defer b.mu.Unlock()
	used := map[Key]bool{}
	for _, f := range b.open {
		used[f.status().Key] = true
	}
	for k, p := range b.pools {
		if !used[k] && p.empty() {
			delete(b.pools, k)
		}
	}
}

// Drain waits until no TCP connection is open or waits, or ctx ends. It is meant
// to follow [Balancer.Export]; while a frontend listens, new connections may come.
// UDP sessions are not waited for, for they end by being idle alone.
func (b *Balancer) Drain(ctx context.Context) error {
	t := time.NewTicker(drainLook)
	defer t.Stop()
	for {
		open := b.tcpOpen.Load()
		if open == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("drain the balancer: %d connections are still open: %w", open, ctx.Err())
		case <-t.C:
		}
	}
}

// drainLook is how often Drain looks whether connections are left.
const drainLook = 20 * time.Millisecond

// Close stops listening, turns away who waits, and lets open connections go on until
// ctx ends; then it cuts them. UDP sessions are not waited for. When it returns, no goroutine and no descriptor is
// left. The error says how many connections were cut.
func (b *Balancer) Close(ctx context.Context) error {
	b.applying.Lock()
	defer b.applying.Unlock()
	b.stopAll()
	pools := b.listPools()
	for _, p := range pools {
		p.shut()
	}
	_ = b.Drain(ctx) // what is left is counted below
	b.stop()
	cut := b.tcpOpen.Load()
	for _, p := range pools {
		p.end()
	}
	b.endAll()
	b.dropAdopted()
	b.running.Wait()
	b.carriers.close()
	if cut > 0 {
		return fmt.Errorf("close the balancer: %d connections were still open and were cut: %w", cut, context.Cause(ctx))
	}
	return nil
}

// stopAll stops all frontends.
func (b *Balancer) stopAll() {
	b.mu.Lock()
	b.released = true
	for _, f := range b.open {
		b.stopped = append(b.stopped, f)
	}
	clear(b.open)
	stopped := slices.Clone(b.stopped)
	b.mu.Unlock()
	for _, f := range stopped {
		f.stop()
	}
}

func (b *Balancer) endAll() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, f := range b.stopped {
		f.end()
	}
}

// listen opens a frontend's socket.
func (b *Balancer) listen(ctx context.Context, f Frontend, p *pool) (frontend, error) {
	lc := net.ListenConfig{KeepAliveConfig: keepAlive}
	if f.Protocol == UDP {
		c, err := lc.ListenPacket(ctx, f.network(), f.address())
		if err != nil {
			return nil, err
		}
		return newUDPFrontend(b, f, p, c.(*net.UDPConn))
	}
	l, err := lc.Listen(ctx, f.network(), f.address())
	if err != nil {
		return nil, err
	}
	return newTCPFrontend(b, f, p, l.(*net.TCPListener)), nil
}
