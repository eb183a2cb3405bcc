package balance

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// keepAlive finds out within two minutes that the other side is gone, for one
// packet a minute and idle connection.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: 15 * time.Second, Count: 4}

// The pause after a failed accept, for want of descriptors or memory: doubled from
// the first to the most. Waiting clients stay in the kernel's queue.
const (
	acceptFirst = 5 * time.Millisecond
	acceptMost  = time.Second
)

// When every routed backend has failed a client, they are tried again after a
// pause: doubled each time, so many times, and no longer than connectWithin in all.
// For want of descriptors it is tried as often as that time allows.
const (
	retryFirst    = 50 * time.Millisecond
	retryRounds   = 4
	connectWithin = 10 * time.Second
)

// binding is for whom a frontend listens.
type binding struct {
	of   Frontend
	pool *pool
}

// tcpFrontend is an open TCP frontend.
type tcpFrontend struct {
	b       *Balancer
	ls      []*net.TCPListener // one, or more at a port that was shared
	bound   netip.AddrPort
	binding atomic.Pointer[binding]
	slots   chan struct{} // holds one for each open connection, and one for each listener to accept the next
	open    atomic.Int64
	starved atomic.Uint64  // accepts that failed
	done    chan struct{}  // closed: accept no more
	once    sync.Once      // closes done
	accepts sync.WaitGroup // the accepting goroutines
}

// newTCPFrontend accepts at one listener or more. It owns them.
func newTCPFrontend(b *Balancer, of Frontend, p *pool, ls ...*net.TCPListener) *tcpFrontend {
	f := &tcpFrontend{
		b: b, ls: ls, bound: unmapped(ls[0].Addr()), slots: make(chan struct{}, b.cfg.MaxOpen+len(ls)-1),
		done: make(chan struct{}),
	}
	f.bind(of, p)
	f.accepts.Add(len(ls))
	for _, l := range ls {
		b.running.Go(func() { f.accept(l) })
	}
	return f
}

// unmapped returns a socket's address, an IPv4 one as such.
func unmapped(a net.Addr) netip.AddrPort {
	var ap netip.AddrPort
	switch a := a.(type) {
	case *net.TCPAddr:
		ap = a.AddrPort()
	case *net.UDPAddr:
		ap = a.AddrPort()
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

func (f *tcpFrontend) bind(of Frontend, p *pool) { f.binding.Store(&binding{of: of, pool: p}) }

func (f *tcpFrontend) status() FrontendStatus {
	open := int(f.open.Load())
	return FrontendStatus{
		Frontend: f.binding.Load().of, Bound: f.bound,
		Open: open, Full: open >= f.b.cfg.MaxOpen, AcceptErrors: f.starved.Load(),
	}
}

func (f *tcpFrontend) stop() {
	f.once.Do(func() { close(f.done) })
	closeListeners(f.ls) // what is in the kernel's queue is reset, unless another process has the socket too
	f.accepts.Wait()
}

func (f *tcpFrontend) end() {}

func (f *tcpFrontend) files() ([]Handover, error) {
	var all []Handover
	for _, l := range f.ls {
		file, err := l.File()
		if err != nil {
			closeAll(all)
			return nil, err
		}
		all = append(all, Handover{Frontend: f.binding.Load().of, File: file})
	}
	return all, nil
}

// listensIn reports whether one of the listeners is of an address's family.
func listensIn(all []*net.TCPListener, host netip.Addr) bool {
	return slices.ContainsFunc(all, func(l *net.TCPListener) bool { return unmapped(l.Addr()).Addr().Is4() == host.Is4() })
}

// networkOf is the name by which package net knows TCP in an address's family.
func networkOf(host netip.Addr) string {
	if host.Is4() {
		return "tcp4"
	}
	return "tcp6"
}

func closeListeners(all []*net.TCPListener) {
	for _, l := range all {
		_ = l.Close() // nothing was written to it
	}
}

// accept takes clients at a listener until the frontend is stopped.
func (f *tcpFrontend) accept(l *net.TCPListener) {
	defer f.accepts.Done()
	var pause time.Duration
	for {
		select {
		case f.slots <- struct{}{}:
		case <-f.done:
			return
		}
		conn, err := l.AcceptTCP()
		if err == nil {
			pause = 0
			f.admit(conn)
			continue
		}
		<-f.slots
		if errors.Is(err, net.ErrClosed) {
			return
		}
		f.starved.Add(1)
		pause = min(max(2*pause, acceptFirst), acceptMost)
		if !f.pause(pause) {
			return
		}
	}
}

// pause waits, and says whether to go on.
func (f *tcpFrontend) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-f.done:
		return false
	}
}

func (f *tcpFrontend) admit(conn *net.TCPConn) {
	to := f.binding.Load()
	f.open.Add(1)
	f.b.tcpOpen.Add(1)
	f.b.running.Add(1) // until it has left: it may wait where no goroutine does
	now := time.Now()
	to.pool.admit(&tcpClient{
		f: f, conn: conn, came: now,
		from: unmapped(conn.RemoteAddr()).Addr(), wants: Port{Protocol: TCP, Number: to.of.Target},
	}, now)
}

// tcpClient is an accepted connection. Nothing is read of it before its backend
// has accepted too.
type tcpClient struct {
	f     *tcpFrontend
	conn  *net.TCPConn
	came  time.Time
	from  netip.Addr
	wants Port
}

func (c *tcpClient) source() netip.Addr { return c.from }
func (c *tcpClient) target() Port       { return c.wants }
func (c *tcpClient) since() time.Time   { return c.came }
func (c *tcpClient) at() frontend       { return c.f }

func (c *tcpClient) serve(p *pool, be *backend) {
	c.f.b.running.Go(func() { c.connect(p, be) })
}

// refuse resets the connection, by which the client learns that it was not served.
func (c *tcpClient) refuse(RefusedReason) {
	abort(c.conn)
	c.left()
}

// left gives its place to another client.
func (c *tcpClient) left() {
	<-c.f.slots
	c.f.open.Add(-1)
	c.f.b.tcpOpen.Add(-1)
	c.f.b.running.Done()
}

// abort closes a connection by a reset.
func abort(conn *net.TCPConn) {
	_ = conn.SetLinger(0) // else it is closed in the ordinary way
	_ = conn.Close()
}

// connect finds a backend that accepts, beginning with be, and carries the
// connection there. When no backend is routed any more, the client waits again.
func (c *tcpClient) connect(p *pool, be *backend) {
	until := time.Now().Add(connectWithin)
	for round := 0; ; round++ {
		starved := false
		var tried []*backend
		for be != nil {
			err := c.try(p, be)
			if err == nil {
				return
			}
			starved = starved || ours(err)
			tried = append(tried, be)
			be = p.another(c, tried, time.Now())
		}
		routed, changed := p.routedFor(c.wants)
		if routed {
			if round >= retryRounds && !starved || time.Now().After(until) || c.f.b.connecting.Err() != nil {
				p.refuse(c, RefusedUnreachable)
				return
			}
			pause(c.f.b.connecting, retryFirst<<min(round, retryRounds), changed)
			be = p.another(c, nil, time.Now())
		}
		if be == nil {
			p.admit(c, time.Now())
			return
		}
	}
}

// errUnrouted says that a backend was unrouted while it was being connected to.
var errUnrouted = errors.New("it was unrouted")

// try connects to one backend, and carries the connection there if it accepts.
func (c *tcpClient) try(p *pool, be *backend) error {
	began := time.Now()
	server, err := c.dial(p, be)
	now := time.Now()
	if err != nil {
		p.failed(be, began, now, !ours(err) && c.f.b.connecting.Err() == nil)
		return err
	}
	r := newRelay(c, p, be, server)
	if !p.connected(be, r, now.Sub(began)) {
		abort(server)
		return errUnrouted
	}
	r.start()
	return nil
}

func (c *tcpClient) dial(p *pool, be *backend) (*net.TCPConn, error) {
	return c.f.b.dialer.dial(c.f.b.connecting, p.addr(be, c.wants))
}

// ours says that a connect failed for want of something that is this machine's: the
// backend was not even asked.
func ours(err error) bool {
	for _, e := range []error{unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM, unix.EADDRNOTAVAIL, unix.EADDRINUSE} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// relay carries a connection's bytes both ways.
type relay struct {
	c      *tcpClient
	p      *pool
	be     *backend
	server *net.TCPConn
	ways   atomic.Int32 // that are not at their end yet
	active activity
}

func newRelay(c *tcpClient, p *pool, be *backend, server *net.TCPConn) *relay {
	r := &relay{c: c, p: p, be: be, server: server}
	r.ways.Store(2)
	r.active.began = c.came
	r.active.end(r.active.begin(true)) // nothing was asked yet
	return r
}

// start begins to carry. The goroutines are new ones: their stacks stay as small
// as copying needs, while that of the goroutine that connected has grown.
func (r *relay) start() {
	running := &r.c.f.b.running
	running.Go(func() { r.carry(r.server, r.c.conn, &r.be.counters.in, false) })
	running.Go(func() { r.carry(r.c.conn, r.server, &r.be.counters.out, true) })
}

// carry copies one way to its end. An end is passed on as an end, so that the
// other way goes on; a failure as a reset.
func (r *relay) carry(dst, src *net.TCPConn, count *atomic.Uint64, toClient bool) {
	if err := r.c.f.b.carriers.copy(dst, src, count, notes{&r.active, toClient}); err != nil {
		r.cut()
	} else {
		_ = dst.CloseWrite() // if it was reset, the other way finds out
	}
	if r.ways.Add(-1) > 0 {
		return
	}
	_ = r.c.conn.Close()
	_ = r.server.Close()
	r.c.left()
	r.p.ended(r.be, r)
}

func (r *relay) cut() {
	abort(r.c.conn)
	abort(r.server)
}
