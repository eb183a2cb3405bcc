package balance

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// What a session keeps while its backend is not known: so many datagrams, of so
// many bytes in all. Further ones are dropped, as a full socket does.
const (
	pendingMost  = 16
	pendingBytes = 64 << 10
)

// udpFrontend is an open UDP frontend.
type udpFrontend struct {
	b        *Balancer
	conn     *net.UDPConn
	bound    netip.AddrPort
	binding  atomic.Pointer[binding]
	stopping atomic.Bool
	exited   chan struct{} // closed: the reading goroutine has ended

	mu       sync.Mutex // protects all below
	sessions map[flow]*session
	ended    bool
}

// flow is what tells one session from another.
type flow struct {
	client netip.AddrPort
	local  netip.Addr // what the client sent to, where the frontend has many addresses
}

func newUDPFrontend(b *Balancer, of Frontend, p *pool, conn *net.UDPConn) (*udpFrontend, error) {
	f := &udpFrontend{
		b: b, conn: conn, bound: unmapped(conn.LocalAddr()),
		exited: make(chan struct{}), sessions: map[flow]*session{},
	}
	f.bind(of, p)
	if f.bound.Addr().IsUnspecified() {
		if err := tellLocal(conn); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	b.running.Go(f.read)
	return f, nil
}

func (f *udpFrontend) bind(of Frontend, p *pool) { f.binding.Store(&binding{of: of, pool: p}) }

func (f *udpFrontend) status() FrontendStatus {
	f.mu.Lock()
	defer f.mu.Unlock()
	return FrontendStatus{
		Frontend: f.binding.Load().of, Bound: f.bound,
		Open: len(f.sessions), Full: len(f.sessions) >= f.b.cfg.MaxSessions,
	}
}

func (f *udpFrontend) files() ([]Handover, error) {
	file, err := f.conn.File()
	if err != nil {
		return nil, err
	}
	return []Handover{{Frontend: f.binding.Load().of, File: file}}, nil
}

// stop reads no more datagrams. The socket stays, for replies.
func (f *udpFrontend) stop() {
	f.stopping.Store(true)
	_ = f.conn.SetReadDeadline(time.Unix(1, 0)) // fails only when it is closed
	<-f.exited
}

func (f *udpFrontend) end() {
	f.mu.Lock()
	f.ended = true
	var all []*session
	for _, s := range f.sessions {
		all = append(all, s)
	}
	f.mu.Unlock()
	for _, s := range all {
		s.cut()
	}
	_ = f.conn.Close()
}

// read takes datagrams until the frontend is stopped.
func (f *udpFrontend) read() {
	defer close(f.exited)
	buf, oob := make([]byte, bufferSize), make([]byte, localSpace)
	for !f.stopping.Load() {
		n, oobn, _, from, err := f.conn.ReadMsgUDPAddrPort(buf, oob)
		switch {
		case err == nil:
			at := flow{client: netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), local: localOf(oob[:oobn])}
			f.take(at, buf[:n], time.Now())
		case errors.Is(err, net.ErrClosed):
			return
		}
		// Any other error is of one datagram, or of one that was sent before.
	}
}

// take gives a datagram to its session, which it may begin.
func (f *udpFrontend) take(at flow, data []byte, now time.Time) {
	s := f.session(at)
	if s != nil && s.send(data, now) {
		return
	}
	to := f.binding.Load()
	s = f.begin(at, to, now)
	if s == nil {
		to.pool.count(RefusedSessions)
		return
	}
	s.send(data, now)
	to.pool.admit(s, now)
}

func (f *udpFrontend) session(at flow) *session {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sessions[at]
}

// begin makes a session; nil when there are too many.
func (f *udpFrontend) begin(at flow, to *binding, now time.Time) *session {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended || len(f.sessions) >= f.b.cfg.MaxSessions {
		return nil
	}
	s := &session{
		f: f, flow: at, came: now, wants: Port{Protocol: UDP, Number: to.of.Target},
		control: fromLocal(at.local),
	}
	f.sessions[at] = s
	f.b.running.Add(1) // until it has left: it may wait where no goroutine does
	return s
}

// session is the datagrams between one client and its backend.
type session struct {
	f       *udpFrontend
	flow    flow
	control []byte // makes replies come from where the client sent to
	came    time.Time
	wants   Port
	last    atomic.Int64 // ns after came: the last datagram either way

	mu      sync.Mutex // protects all below
	pending [][]byte   // while there is no backend
	bytes   int        // of pending
	server  *net.UDPConn
	over    bool
	refused bool           // the backend said that nobody listens
	counted *atomic.Uint64 // bytes from the client, once there is a backend
}

func (s *session) source() netip.Addr { return s.flow.client.Addr() }
func (s *session) target() Port       { return s.wants }
func (s *session) since() time.Time   { return s.came }
func (s *session) at() frontend       { return s.f }

func (s *session) serve(p *pool, be *backend) {
	s.f.b.running.Go(func() { s.connect(p, be) })
}

func (s *session) refuse(RefusedReason) { s.leave() }

// leave forgets the session: the client's next datagram begins another.
func (s *session) leave() {
	s.mu.Lock()
	s.over, s.pending = true, nil
	s.mu.Unlock()
	s.f.mu.Lock()
	if s.f.sessions[s.flow] == s {
		delete(s.f.sessions, s.flow)
	}
	s.f.mu.Unlock()
	s.f.b.running.Done()
}

// cut ends the session as soon as it can.
func (s *session) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	if s.server != nil {
		_ = s.server.Close()
	}
}

// send passes a datagram of the client's on, or keeps it until it can be. It is
// false when the session is over, or turns out to be: then the datagram was not sent.
func (s *session) send(data []byte, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return false
	}
	s.touch(now)
	if s.server == nil {
		if len(s.pending) < pendingMost && s.bytes+len(data) <= pendingBytes {
			s.pending = append(s.pending, append([]byte(nil), data...))
			s.bytes += len(data)
		}
		return true
	}
	_, err := s.server.Write(data)
	switch {
	case err == nil:
		s.counted.Add(uint64(len(data)))
	case errors.Is(err, syscall.ECONNREFUSED): // what was sent before found nobody
		s.refused = true
		fallthrough
	case errors.Is(err, net.ErrClosed):
		s.over = true
		_ = s.server.SetReadDeadline(time.Unix(1, 0)) // wakes who waits for replies
		return false
	}
	return true // another failure is as good as a lost datagram
}

func (s *session) touch(now time.Time) { s.last.Store(int64(now.Sub(s.came))) }

// idleUntil is when the session has been idle for long enough.
func (s *session) idleUntil() time.Time {
	return s.came.Add(time.Duration(s.last.Load())).Add(s.f.b.cfg.UDPIdle)
}

// connect opens a socket toward a backend, beginning with be. Nothing is sent by
// that, so it fails for reasons of this machine alone, or for want of a route.
func (s *session) connect(p *pool, be *backend) {
	var tried []*backend
	for be != nil {
		began := time.Now()
		d := net.Dialer{Timeout: s.f.b.cfg.Connect}
		conn, err := d.DialContext(s.f.b.connecting, "udp", p.addr(be, s.wants).String())
		if err != nil {
			p.failed(be, began, time.Now(), !ours(err))
		} else if p.joined(be, s) {
			be.counters.connections.Add(1)
			s.open(p, be, conn.(*net.UDPConn))
			return
		} else {
			_ = conn.Close()
		}
		tried = append(tried, be)
		be = p.another(s, tried, time.Now())
	}
	if routed, _ := p.routedFor(s.wants); !routed && s.f.b.connecting.Err() == nil {
		p.admit(s, time.Now())
		return
	}
	p.refuse(s, RefusedUnreachable)
}

// open sends what has waited, and begins to carry replies. The goroutine is a new
// one, with a small stack.
func (s *session) open(p *pool, be *backend, conn *net.UDPConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.server, s.counted = conn, &be.counters.in
	for _, data := range s.pending {
		if _, err := conn.Write(data); err == nil {
			s.counted.Add(uint64(len(data)))
		}
	}
	s.pending = nil
	if s.over { // it was cut meanwhile
		_ = conn.Close()
	}
	s.f.b.running.Go(func() { s.replies(p, be, conn) })
}

// replies carries the backend's datagrams to the client until the session is over.
func (s *session) replies(p *pool, be *backend, conn *net.UDPConn) {
	err := s.carry(p, be, conn)
	_ = conn.Close()
	if over, refused := s.state(); refused || !over && errors.Is(err, syscall.ECONNREFUSED) {
		p.blame(be, s.came, time.Now())
	}
	s.leave()
	p.ended(be, s)
}

func (s *session) state() (over, refused bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.over, s.refused
}

func (s *session) carry(p *pool, be *backend, conn *net.UDPConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	r := copier{carriers: &s.f.b.carriers}
	read := r.read
	for first := true; ; {
		_ = conn.SetReadDeadline(s.idleUntil()) // fails only when it is closed
		if over, _ := s.state(); over {
			return nil
		}
		err := raw.Read(read)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) && time.Now().Before(s.idleUntil()):
			continue
		case err != nil:
			return err
		case r.err != nil && !errors.Is(r.err, io.EOF): // an empty datagram reads as an end
			return r.err
		}
		if first {
			first = false
			p.accepted(be)
		}
		s.reply(be, &r)
	}
}

// reply passes a datagram of the backend's on.
func (s *session) reply(be *backend, r *copier) {
	s.touch(time.Now())
	var data []byte
	if r.buf != nil {
		data = r.buf[:r.n]
		defer r.giveBack()
	}
	if _, _, err := s.f.conn.WriteMsgUDPAddrPort(data, s.control, s.flow.client); err == nil {
		be.counters.out.Add(uint64(len(data)))
	}
}
