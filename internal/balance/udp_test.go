package balance

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
)

// serveUDP answers each datagram with the server's name and the datagram.
func serveUDP(t testing.TB, name string) Backend {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			_, _ = conn.WriteToUDPAddrPort(fmt.Appendf(nil, "%s %s", name, buf[:n]), from)
		}
	})
	t.Cleanup(func() { _ = conn.Close(); wg.Wait() })
	return backendAt(name, conn.LocalAddr().(*net.UDPAddr).AddrPort())
}

func dialUDP(t testing.TB, addr netip.AddrPort) *net.UDPConn {
	t.Helper()
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(addr))
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func askUDP(t testing.TB, conn *net.UDPConn, what string) string {
	t.Helper()
	if _, err := conn.Write([]byte(what)); err != nil {
		t.Fatal(err)
	}
	return hearUDP(t, conn)
}

func hearUDP(t testing.TB, conn *net.UDPConn) string {
	t.Helper()
	buf := make([]byte, 2048)
	n, err := conn.Read(buf) // connected: only what comes from the frontend's address
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

func TestUDPSessionStaysWithItsBackend(t *testing.T) {
	b := newBalancer(t, Config{})
	first, second := serveUDP(t, "a"), serveUDP(t, "b")
	route(t, b, Routing{Backends: []Backend{first, second}})
	addr := listen(t, b, UDP)
	one, two := dialUDP(t, addr), dialUDP(t, addr)
	for i := range 3 {
		if got, want := askUDP(t, one, fmt.Sprint(i)), fmt.Sprintf("a %d", i); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if got, want := askUDP(t, two, fmt.Sprint(i)), fmt.Sprintf("b %d", i); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	eventually(t, "everything is counted", func() bool {
		s := poolStatus(t, b)
		return s.Open == 2 && s.Connections == 2 && s.BytesIn == 6 && s.BytesOut == 18
	})

	first.Routed = false
	route(t, b, Routing{Backends: []Backend{first, second}})
	if got := askUDP(t, one, "x"); got != "a x" {
		t.Errorf("an open session moved: %q", got)
	}
	if n := b.Cut(web, "a"); n != 1 {
		t.Errorf("cut %d sessions", n)
	}
	eventually(t, "it is drained", func() bool { s, _ := b.Backend(web, "a"); return s.Drained() })
	if got := askUDP(t, one, "y"); got != "b y" {
		t.Errorf("after the cut: %q", got)
	}
}

func TestUDPCarriesEmptyDatagrams(t *testing.T) {
	b := newBalancer(t, Config{})
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	route(t, b, Routing{Backends: []Backend{backendAt("a", conn.LocalAddr().(*net.UDPAddr).AddrPort())}})
	client := dialUDP(t, listen(t, b, UDP))
	if _, err := client.Write(nil); err != nil {
		t.Fatal(err)
	}
	n, from, err := conn.ReadFromUDPAddrPort(make([]byte, 8))
	if n != 0 || err != nil {
		t.Fatalf("the backend got %d bytes, %v", n, err)
	}
	for _, answer := range []string{"", "after"} {
		if _, err := conn.WriteToUDPAddrPort([]byte(answer), from); err != nil {
			t.Fatal(err)
		}
		if got := hearUDP(t, client); got != answer {
			t.Errorf("got %q, want %q", got, answer)
		}
	}
}

func TestUDPSessionEndsWhenIdle(t *testing.T) {
	const idle = 200 * time.Millisecond
	b := newBalancer(t, Config{UDPIdle: idle})
	route(t, b, Routing{Backends: []Backend{serveUDP(t, "a")}})
	conn := dialUDP(t, listen(t, b, UDP))
	began, gap := time.Now(), time.Duration(0)
	last := began
	for time.Since(began) < 2*idle { // busy for longer than the time
		now := time.Now()
		last, gap = now, max(gap, now.Sub(last))
		askUDP(t, conn, "x")
	}
	gap = max(gap, time.Since(last))
	if s := poolStatus(t, b); gap < idle && (s.Connections != 1 || s.Open != 1) {
		t.Errorf("a session without a gap of more than %v ended: %+v", gap, s)
	}
	eventually(t, "it ended", func() bool { return poolStatus(t, b).Open == 0 && b.Status()[0].Open == 0 })
	if took := time.Since(last); took < idle {
		t.Errorf("it ended after %v of quiet", took)
	}
	if got := askUDP(t, conn, "y"); got != "a y" {
		t.Errorf("got %q", got)
	}
}

// refusingUDP returns a backend whose port is held, and refuses all: by a socket that
// hears another peer alone.
func refusingUDP(t testing.TB, id string) Backend {
	t.Helper()
	conn, err := net.DialUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return backendAt(id, conn.LocalAddr().(*net.UDPAddr).AddrPort())
}

func TestUDPDatagramsWaitForABackend(t *testing.T) {
	waiting := make(chan Key, 1)
	b := newBalancer(t, Config{Waiting: func(k Key) { waiting <- k }})
	conn := dialUDP(t, listen(t, b, UDP))
	for i := range pendingMost + 4 { // more than are kept
		if _, err := fmt.Fprint(conn, i); err != nil {
			t.Fatal(err)
		}
	}
	if k := <-waiting; k != web {
		t.Errorf("waiting in %s", k)
	}
	eventually(t, "all have been read", func() bool { return udpSession(b).kept() == pendingMost })
	route(t, b, Routing{Backends: []Backend{serveUDP(t, "a")}})
	for i := range pendingMost {
		if got, want := hearUDP(t, conn), fmt.Sprintf("a %d", i); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// udpSession returns the only session of the only frontend.
func udpSession(b *Balancer) *session {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, f := range b.open {
		u := f.(*udpFrontend)
		u.mu.Lock()
		defer u.mu.Unlock()
		for _, s := range u.sessions {
			return s
		}
	}
	return &session{}
}

func (s *session) kept() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.pending)
}

// A datagram that finds nobody says so by the next one: that is sent elsewhere.
func TestUDPRefusedGoesElsewhere(t *testing.T) {
	b := newBalancer(t, Config{})
	route(t, b, Routing{Backends: []Backend{refusingUDP(t, "a"), serveUDP(t, "b")}})
	conn := dialUDP(t, listen(t, b, UDP))
	if _, err := conn.Write([]byte("lost")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the refusal is noticed", func() bool { s, _ := b.Backend(web, "a"); return s.Failures == 1 && s.Open == 0 })
	for range 3 {
		if got := askUDP(t, conn, "x"); got != "b x" {
			t.Errorf("got %q", got)
		}
	}
}

func TestUDPSessionsAreLimited(t *testing.T) {
	b := newBalancer(t, Config{MaxSessions: 2})
	route(t, b, Routing{Backends: []Backend{serveUDP(t, "a")}})
	addr := listen(t, b, UDP)
	askUDP(t, dialUDP(t, addr), "1")
	askUDP(t, dialUDP(t, addr), "2")
	if _, err := dialUDP(t, addr).Write([]byte("3")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the third is dropped", func() bool { return poolStatus(t, b).Refused[RefusedSessions] == 1 })
	if s := b.Status()[0]; !s.Full || s.Open != 2 {
		t.Errorf("status %+v", s)
	}
}

// A frontend of all addresses answers from the one that the client sent to.
func TestUDPAnswersFromTheAddressThatWasAsked(t *testing.T) {
	b := newBalancer(t, Config{})
	route(t, b, Routing{Backends: []Backend{serveUDP(t, "a")}})
	for _, host := range []netip.Addr{{}, netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		s := b.Apply(t.Context(), []Frontend{{Key: web, Protocol: UDP, Host: host, Target: 80}})
		if !s[0].Listening() {
			t.Fatalf("host %v: %s", host, s[0].Reason)
		}
		for _, at := range []string{"127.0.0.1", "127.0.0.7", "::1"} {
			addr := netip.MustParseAddr(at)
			if host.IsValid() && host.Is4() != addr.Is4() {
				continue
			}
			conn := dialUDP(t, netip.AddrPortFrom(addr, s[0].Bound.Port()))
			if got := askUDP(t, conn, at); got != "a "+at {
				t.Errorf("host %v, asked at %s: %q", host, at, got)
			}
		}
	}
}

func TestUDPFrontendThatIsNotAskedForIsClosed(t *testing.T) {
	b := newBalancer(t, Config{})
	route(t, b, Routing{Backends: []Backend{serveUDP(t, "a")}})
	addr := listen(t, b, UDP)
	conn := dialUDP(t, addr)
	askUDP(t, conn, "x")
	b.Apply(t.Context(), nil)
	eventually(t, "its session ended", func() bool { return poolStatus(t, b).Open == 0 })
	l, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
	if err != nil {
		t.Fatalf("the port is not free: %v", err)
	}
	_ = l.Close()
}

func TestUnknownProtocolIsToldOf(t *testing.T) {
	b := newBalancer(t, Config{})
	s := b.Apply(t.Context(), []Frontend{{Key: web, Protocol: "sctp", Target: 80}, {Key: web, Protocol: TCP}})
	if !strings.Contains(s[0].Reason, "sctp") || !strings.Contains(s[1].Reason, "target port") {
		t.Errorf("status %+v", s)
	}
}
