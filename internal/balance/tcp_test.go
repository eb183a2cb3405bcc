package balance

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

func TestRoundRobinTakesBackendsInTurn(t *testing.T) {
	b := newBalancer(t, Config{})
	route(t, b, Routing{Backends: []Backend{serve(t, "a", nil).backend(), serve(t, "b", nil).backend(), serve(t, "c", nil).backend()}})
	addr := listen(t, b, TCP)
	var got []string
	for range 6 {
		got = append(got, askOnce(t, addr))
	}
	if want := []string{"a", "b", "c", "a", "b", "c"}; !slices.Equal(got, want) {
		t.Errorf("served by %v, want %v", got, want)
	}
}

func TestSharesAreKeptExactly(t *testing.T) {
	b := newBalancer(t, Config{})
	old, canary := serve(t, "old", nil).backend(), serve(t, "new", nil).backend()
	old.Group, canary.Group = "r1", "r2"
	route(t, b, Routing{Shares: map[string]int{"r1": 90, "r2": 10}, Backends: []Backend{old, canary}})
	addr := listen(t, b, TCP)
	got := map[string]int{}
	for range 100 {
		got[askOnce(t, addr)]++
	}
	if want := map[string]int{"old": 90, "new": 10}; !maps.Equal(got, want) {
		t.Errorf("connections %v, want %v", got, want)
	}
}

func TestUnroutedBackendKeepsWhatItHas(t *testing.T) {
	drained := make(chan string, 1)
	b := newBalancer(t, Config{Drained: func(_ Key, id string) { drained <- id }})
	first, second := serve(t, "a", nil), serve(t, "b", nil)
	route(t, b, Routing{Backends: []Backend{first.backend()}})
	addr := listen(t, b, TCP)
	conn := dial(t, addr)
	if name, err := ask(conn); name != "a" || err != nil {
		t.Fatal(name, err)
	}

	before := time.Now()
	leaving := first.backend()
	leaving.Routed = false
	route(t, b, Routing{Backends: []Backend{leaving, second.backend()}})
	for range 5 {
		if name := askOnce(t, addr); name != "b" {
			t.Errorf("a new connection went to %s", name)
		}
	}
	if name, err := ask(conn); name != "a" || err != nil {
		t.Errorf("the old connection broke: %s, %v", name, err)
	}
	s, ok := b.Backend(web, "a")
	if !ok || s.Routed || s.Open != 1 || s.Drained() || s.UnroutedAt.Before(before) {
		t.Errorf("status of the unrouted backend: %+v, %v", s, ok)
	}

	route(t, b, Routing{Backends: []Backend{second.backend()}}) // no longer named, still open
	if _, ok := b.Backend(web, "a"); !ok {
		t.Error("a backend with an open connection was forgotten")
	}
	total := poolStatus(t, b).Connections
	_ = conn.Close()
	if id := <-drained; id != "a" {
		t.Errorf("%s was drained", id)
	}
	if s, ok := b.Backend(web, "a"); ok {
		t.Errorf("a drained backend that is not named is still known: %+v", s)
	}
	if now := poolStatus(t, b).Connections; now != total {
		t.Errorf("the pool counted %d connections, and %d after it forgot a backend", total, now)
	}
}

func TestCutEndsWhatIsLeft(t *testing.T) {
	b := newBalancer(t, Config{})
	a := serve(t, "a", nil)
	route(t, b, Routing{Backends: []Backend{a.backend()}})
	conn := dial(t, listen(t, b, TCP))
	if _, err := ask(conn); err != nil {
		t.Fatal(err)
	}
	route(t, b, Routing{})
	if n := b.Cut(web, "a"); n != 1 {
		t.Errorf("cut %d connections, want 1", n)
	}
	if _, err := conn.Read(make([]byte, 1)); !isReset(err) {
		t.Errorf("the client saw %v, want a reset", err)
	}
	eventually(t, "nothing is open", func() bool { _, ok := b.Backend(web, "a"); return !ok })
}

func TestRefusedConnectIsTriedElsewhere(t *testing.T) {
	b := newBalancer(t, Config{})
	good := serve(t, "good", nil)
	route(t, b, Routing{Backends: []Backend{refusing(t, "bad1"), refusing(t, "bad2"), good.backend()}})
	addr := listen(t, b, TCP)
	for range 20 {
		if name := askOnce(t, addr); name != "good" {
			t.Fatalf("served by %s", name)
		}
	}
	s := poolStatus(t, b)
	if s.FailedConnects < 2 || s.FailedConnects > 6 {
		t.Errorf("%d failed connects: each bad backend is to be tried once, and then avoided", s.FailedConnects)
	}
	if s.Retries < 2 || s.Connections != 20 || len(s.Refused) > 0 {
		t.Errorf("pool %+v", s)
	}
	bad, _ := b.Backend(web, "bad1")
	if bad.Failures == 0 || bad.AvoidedUntil.IsZero() {
		t.Errorf("a backend that refuses is not avoided: %+v", bad)
	}
}

func TestOnlyBackendIsNeverAvoided(t *testing.T) {
	b := newBalancer(t, Config{})
	bad, start := refusingUntil(t, "a")
	route(t, b, Routing{Backends: []Backend{bad}})
	addr := listen(t, b, TCP)
	if err := fate(addr); !isReset(err) {
		t.Fatalf("the client saw %v, want a reset", err)
	}
	if s := poolStatus(t, b); s.Refused[RefusedUnreachable] != 1 || s.Open != 0 {
		t.Errorf("pool %+v", s)
	}
	start()
	if name := askOnce(t, addr); name != "a" { // at once, though it has failed just now
		t.Errorf("served by %s", name)
	}
	if s, _ := b.Backend(web, "a"); s.Failures != 0 {
		t.Errorf("it accepted, and is still avoided: %+v", s)
	}
}

// A client that finds its backend refusing is served when another is routed.
func TestRouteServesWhoIsBeingRetried(t *testing.T) {
	b := newBalancer(t, Config{})
	route(t, b, Routing{Backends: []Backend{refusing(t, "bad")}})
	conn := dial(t, listen(t, b, TCP))
	eventually(t, "the connect has failed", func() bool { return poolStatus(t, b).FailedConnects > 0 })
	route(t, b, Routing{Backends: []Backend{serve(t, "good", nil).backend()}})
	if name, err := ask(conn); name != "good" || err != nil {
		t.Errorf("served by %q, %v", name, err)
	}
}

func TestHeldConnectionsAreServedInOrder(t *testing.T) {
	var told atomic.Int32
	b := newBalancer(t, Config{Waiting: func(k Key) {
		if k == web {
			told.Add(1)
		}
	}})
	addr := listen(t, b, TCP)
	const n = 10
	var conns []*net.TCPConn
	for i := range n {
		conn := dial(t, addr)
		if _, err := conn.Write([]byte{byte(i)}); err != nil { // before there is a backend
			t.Fatal(err)
		}
		conns = append(conns, conn)
		eventually(t, "the client waits", func() bool { return poolStatus(t, b).Waiting == i+1 })
	}
	if told.Load() != 1 {
		t.Errorf("told %d times that somebody waits, want once", told.Load())
	}
	if s := poolStatus(t, b); s.WaitingSince.IsZero() || s.Held != n {
		t.Errorf("pool %+v", s)
	}

	// Backends in turn show the order.
	var backends []Backend
	for i := range n {
		name := string(rune('a' + i))
		backends = append(backends, serve(t, name, func(c *net.TCPConn) {
			first := make([]byte, 1)
			_, _ = io.ReadFull(c, first)
			_, _ = c.Write([]byte{first[0], name[0]})
		}).backend())
	}
	route(t, b, Routing{Backends: backends})
	for i, conn := range conns {
		got, err := io.ReadAll(conn)
		if want := []byte{byte(i), byte('a' + i)}; err != nil || !bytes.Equal(got, want) {
			t.Errorf("client %d got %v, %v; want %v", i, got, err, want)
		}
	}
	if s := poolStatus(t, b); s.Waiting != 0 || !s.WaitingSince.IsZero() {
		t.Errorf("pool %+v", s)
	}
}

func TestHoldLimits(t *testing.T) {
	b := newBalancer(t, Config{})
	route(t, b, Routing{Hold: Hold{Limit: 2, For: 200 * time.Millisecond}})
	addr := listen(t, b, TCP)
	began := time.Now()
	conns := []*net.TCPConn{dial(t, addr), dial(t, addr)}
	eventually(t, "both wait", func() bool { return poolStatus(t, b).Waiting == 2 })
	if err := fate(addr); !isReset(err) {
		t.Errorf("the third saw %v, want a reset", err)
	}
	for _, conn := range conns {
		if _, err := conn.Read(make([]byte, 1)); !isReset(err) {
			t.Errorf("one that waited saw %v, want a reset", err)
		}
	}
	if took := time.Since(began); took < 200*time.Millisecond {
		t.Errorf("it waited %v only", took)
	}
	want := map[RefusedReason]uint64{RefusedHoldLimit: 1, RefusedHoldTime: 2}
	if s := poolStatus(t, b); !maps.Equal(s.Refused, want) || s.Waiting != 0 {
		t.Errorf("refused %v, want %v", s.Refused, want)
	}

	route(t, b, Routing{Hold: Hold{Limit: -1}})
	if err := fate(addr); !isReset(err) {
		t.Errorf("with nobody held the client saw %v, want a reset", err)
	}
}

// fate connects, and returns how that ends for a client that says nothing.
func fate(addr netip.AddrPort) error {
	conn, err := net.Dial("tcp", addr.String())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	_, err = conn.Read(make([]byte, 1))
	return err
}

func TestHalfClose(t *testing.T) {
	b := newBalancer(t, Config{})
	s := serve(t, "a", func(c *net.TCPConn) {
		all, _ := io.ReadAll(c) // until the client has ended its way
		_, _ = c.Write(bytes.ToUpper(all))
	})
	route(t, b, Routing{Backends: []Backend{s.backend()}})
	conn := dial(t, listen(t, b, TCP))
	if _, err := io.WriteString(conn, "hello"); err != nil {
		t.Fatal(err)
	}
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); string(got) != "HELLO" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	eventually(t, "the connection has ended", func() bool { return poolStatus(t, b).Open == 0 })
	if s := poolStatus(t, b); s.BytesIn != 5 || s.BytesOut != 5 {
		t.Errorf("counted %d bytes in, %d out", s.BytesIn, s.BytesOut)
	}
}

// The backend ends its way first, and the client goes on sending.
func TestHalfCloseOfTheBackend(t *testing.T) {
	b := newBalancer(t, Config{})
	got := make(chan string, 1)
	s := serve(t, "a", func(c *net.TCPConn) {
		_, _ = io.WriteString(c, "hi")
		_ = c.CloseWrite()
		all, _ := io.ReadAll(c)
		got <- string(all)
	})
	route(t, b, Routing{Backends: []Backend{s.backend()}})
	conn := dial(t, listen(t, b, TCP))
	if all, err := io.ReadAll(conn); string(all) != "hi" || err != nil {
		t.Fatalf("%q, %v", all, err)
	}
	_, _ = io.WriteString(conn, "more")
	_ = conn.CloseWrite()
	if all := <-got; all != "more" {
		t.Errorf("the backend got %q", all)
	}
}

func TestResetIsPassedOn(t *testing.T) {
	t.Run("of the backend", func(t *testing.T) {
		b := newBalancer(t, Config{})
		s := serve(t, "a", func(c *net.TCPConn) {
			_, _ = c.Read(make([]byte, 1))
			_ = c.SetLinger(0)
		})
		route(t, b, Routing{Backends: []Backend{s.backend()}})
		conn := dial(t, listen(t, b, TCP))
		_, _ = io.WriteString(conn, "x")
		if _, err := conn.Read(make([]byte, 1)); !isReset(err) {
			t.Errorf("the client saw %v, want a reset", err)
		}
	})
	t.Run("of the client", func(t *testing.T) {
		b := newBalancer(t, Config{})
		saw := make(chan error, 1)
		s := serve(t, "a", func(c *net.TCPConn) {
			_, _ = c.Write([]byte("x"))
			_, err := c.Read(make([]byte, 1))
			saw <- err
		})
		route(t, b, Routing{Backends: []Backend{s.backend()}})
		conn := dial(t, listen(t, b, TCP))
		_, _ = conn.Read(make([]byte, 1))
		_ = conn.SetLinger(0)
		_ = conn.Close()
		if err := <-saw; !isReset(err) {
			t.Errorf("the backend saw %v, want a reset", err)
		}
	})
}

// What is sent comes out, whatever its size and pace, both ways at once.
func TestBytesAreCarriedWhole(t *testing.T) {
	b := newBalancer(t, Config{})
	s := serve(t, "a", func(c *net.TCPConn) { _, _ = io.Copy(c, c) })
	route(t, b, Routing{Backends: []Backend{s.backend()}})
	addr := listen(t, b, TCP)
	for _, size := range []int{0, 1, bufferSize - 1, bufferSize, bufferSize + 1, 8 << 20} {
		sent := make([]byte, size)
		rng := rand.NewChaCha8([32]byte{byte(size)})
		_, _ = rng.Read(sent)
		conn := dial(t, addr)
		go func() {
			_, _ = conn.Write(sent)
			_ = conn.CloseWrite()
		}()
		if got, err := io.ReadAll(conn); err != nil || !bytes.Equal(got, sent) {
			t.Errorf("of %d bytes %d came back (%v), or other ones", size, len(got), err)
		}
		_ = conn.Close()
	}
}

func TestSlowReader(t *testing.T) { slowReader(t, newBalancer(t, Config{})) }

// slowReader tests that a reader which is slower than its sender loses nothing.
func slowReader(t *testing.T, b *Balancer) {
	t.Helper()
	const size = 16 << 20
	s := serve(t, "a", func(c *net.TCPConn) {
		chunk := bytes.Repeat([]byte("0123456789abcdef"), 4096)
		for n := 0; n < size; n += len(chunk) {
			if _, err := c.Write(chunk); err != nil {
				return
			}
		}
	})
	route(t, b, Routing{Backends: []Backend{s.backend()}})
	conn := dial(t, listen(t, b, TCP))
	// It reads only once what can be underway is full.
	var last uint64
	eventually(t, "the sender is held up", func() bool {
		now := poolStatus(t, b).BytesOut
		full := now > 0 && now == last
		last = now
		return full
	})
	n, at := 0, make([]byte, 3000)
	for {
		k, err := conn.Read(at)
		for i := range k {
			if at[i] != "0123456789abcdef"[(n+i)%16] {
				t.Fatalf("byte %d is wrong", n+i)
			}
		}
		n += k
		if err != nil {
			break
		}
	}
	if n != size {
		t.Errorf("%d of %d bytes came", n, size)
	}
}

func TestListenerStaysWhateverBecomesOfBackends(t *testing.T) {
	b := newBalancer(t, Config{})
	addr := listen(t, b, TCP)
	for i := range 3 {
		s := serve(t, "a", nil)
		route(t, b, Routing{Backends: []Backend{s.backend()}})
		if name := askOnce(t, addr); name != "a" {
			t.Fatalf("round %d: served by %s", i, name)
		}
		route(t, b, Routing{})
		if s := b.Status(); len(s) != 1 || s[0].Bound != addr {
			t.Errorf("round %d: status %+v", i, s)
		}
		s.close()
	}
}

func TestApplyChangesOnlyWhatDiffers(t *testing.T) {
	b := newBalancer(t, Config{})
	route(t, b, Routing{Backends: []Backend{serve(t, "a", nil).backend()}})
	host := netip.MustParseAddr("127.0.0.1")
	fixed := Frontend{Key: web, Protocol: TCP, Host: host, Port: freePort(t), Target: 80}
	other := Frontend{Key: web, Protocol: TCP, Host: host, Port: freePort(t), Target: 80}
	twice := fixed
	twice.Service = "api"
	s := b.Apply(t.Context(), []Frontend{fixed, twice, other})
	if !s[0].Listening() || s[1].Listening() || !s[2].Listening() {
		t.Fatalf("status %+v", s)
	}
	if !strings.Contains(s[1].Reason, "shop/web") {
		t.Errorf("reason %q does not name who has the port", s[1].Reason)
	}
	conn := dial(t, s[0].Bound)
	if _, err := ask(conn); err != nil {
		t.Fatal(err)
	}

	s = b.Apply(t.Context(), []Frontend{other}) // the first is closed, its connection is not
	if len(s) != 1 || !s[0].Listening() {
		t.Fatalf("status %+v", s)
	}
	if c, err := net.Dial("tcp", netip.AddrPortFrom(host, fixed.Port).String()); err == nil {
		_ = c.Close()
		t.Error("a frontend that is not asked for is still open")
	}
	if name, err := ask(conn); name != "a" || err != nil {
		t.Errorf("its connection broke: %q, %v", name, err)
	}

	// Another pool takes the port over while it is open.
	api := Key{Stack: "shop", Service: "api"}
	if err := b.Route(api, Routing{Backends: []Backend{serve(t, "api", nil).backend()}}); err != nil {
		t.Fatal(err)
	}
	other.Key = api
	if s = b.Apply(t.Context(), []Frontend{other}); !s[0].Listening() || s[0].Key != api {
		t.Fatalf("status %+v", s)
	}
	if name := askOnce(t, s[0].Bound); name != "api" {
		t.Errorf("served by %s", name)
	}
}

func freePort(t testing.TB) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).AddrPort().Port()
}

func TestFailedBindIsTriedAgain(t *testing.T) {
	b := newBalancer(t, Config{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u, err := net.ListenPacket("udp", "[::]:0")
	if err != nil {
		t.Fatal(err)
	}
	tcp, udp := unmapped(l.Addr()), unmapped(u.LocalAddr())
	desired := []Frontend{
		{Key: web, Protocol: TCP, Host: tcp.Addr(), Port: tcp.Port(), Target: 80},
		{Key: web, Protocol: UDP, Port: udp.Port(), Target: 80},
	}
	for _, s := range b.Apply(t.Context(), desired) {
		if s.Listening() || s.Reason == "" {
			t.Fatalf("status %+v", s)
		}
		if goruntime.GOOS == "linux" && (s.Holder == nil || s.Holder.PID != os.Getpid() || !strings.Contains(s.Holder.Command, "balance.test")) {
			t.Errorf("it is this process that holds %s, not %+v", s.Frontend, s.Holder)
		}
	}
	_, _ = l.Close(), u.Close()
	for _, s := range b.Apply(t.Context(), desired) {
		if !s.Listening() || s.Reason != "" {
			t.Errorf("status %+v", s)
		}
	}
}

func TestReasonSaysWhatToDo(t *testing.T) {
	for err, want := range map[error]string{
		syscall.EADDRINUSE:    "publish another port",
		syscall.EACCES:        "1024 or above",
		syscall.EADDRNOTAVAIL: "does not have the address",
		errors.New("odd"):     "odd",
	} {
		if why := unboundReason(err); !strings.Contains(why, want) {
			t.Errorf("%v: %q", err, why)
		}
	}
}

func TestFullFrontendAcceptsNoMore(t *testing.T) {
	b := newBalancer(t, Config{MaxOpen: 2})
	route(t, b, Routing{Backends: []Backend{serve(t, "a", nil).backend()}})
	addr := listen(t, b, TCP)
	first, second, third := dial(t, addr), dial(t, addr), dial(t, addr)
	for _, conn := range []*net.TCPConn{first, second} {
		if _, err := ask(conn); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := io.WriteString(third, "x\n"); err != nil { // into the kernel's queue
		t.Fatal(err)
	}
	if s := b.Status()[0]; !s.Full || s.Open != 2 {
		t.Errorf("status %+v", s)
	}
	if s := poolStatus(t, b); s.Open != 2 {
		t.Errorf("%d are open", s.Open)
	}
	_ = first.Close()
	if got, err := io.ReadAll(io.LimitReader(third, 4)); string(got) != "a x\n" || err != nil {
		t.Errorf("the third got %q, %v", got, err)
	}
}

func TestCloseLetsConnectionsEnd(t *testing.T) {
	b := New(t.Context(), Config{})
	route(t, b, Routing{Backends: []Backend{serve(t, "a", nil).backend()}})
	addr := listen(t, b, TCP)
	conn := dial(t, addr)
	if _, err := ask(conn); err != nil {
		t.Fatal(err)
	}
	closed := make(chan error, 1)
	go func() { closed <- b.Close(t.Context()) }()
	eventually(t, "nobody listens", func() bool {
		c, err := net.Dial("tcp", addr.String())
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	if name, err := ask(conn); name != "a" || err != nil {
		t.Errorf("an open connection broke: %q, %v", name, err)
	}
	_ = conn.Close()
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

func TestWhoWaitsIsTurnedAwayWithTheFrontend(t *testing.T) {
	for name, end := range map[string]func(*Balancer) error{
		"not asked for": func(b *Balancer) error { b.Apply(t.Context(), nil); return nil },
		"closed":        func(b *Balancer) error { return b.Close(t.Context()) },
	} {
		b := newBalancer(t, Config{})
		route(t, b, Routing{Policy: RoundRobin}) // keeps the pool
		conn := dial(t, listen(t, b, TCP))
		eventually(t, "the client waits", func() bool { return poolStatus(t, b).Waiting == 1 })
		if err := end(b); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := conn.Read(make([]byte, 1)); !isReset(err) {
			t.Errorf("%s: the client saw %v, want a reset", name, err)
		}
		if s := poolStatus(t, b); s.Waiting != 0 || s.Refused[RefusedClosed] != 1 {
			t.Errorf("%s: pool %+v", name, s)
		}
	}
}

// The frontend of no address in particular is reached by both families.
func TestFrontendOfAllAddresses(t *testing.T) {
	b := newBalancer(t, Config{})
	route(t, b, Routing{Backends: []Backend{serve(t, "a", nil).backend()}})
	s := b.Apply(t.Context(), []Frontend{{Key: web, Protocol: TCP, Target: 80}})
	if !s[0].Listening() {
		t.Fatal(s[0].Reason)
	}
	for _, host := range []string{"127.0.0.1", "::1"} {
		if name := askOnce(t, netip.AddrPortFrom(netip.MustParseAddr(host), s[0].Bound.Port())); name != "a" {
			t.Errorf("at %s served by %s", host, name)
		}
	}
}

func TestBackendAddress(t *testing.T) {
	ip, elsewhere := netip.MustParseAddr("10.0.0.2"), netip.MustParseAddrPort("127.0.0.1:4000")
	be := Backend{IP: ip, Addrs: map[Port]netip.AddrPort{{TCP, 80}: elsewhere}}
	for port, want := range map[Port]netip.AddrPort{
		{TCP, 80}: elsewhere,
		{UDP, 80}: netip.AddrPortFrom(ip, 80),
		{TCP, 81}: netip.AddrPortFrom(ip, 81),
	} {
		if got := be.addr(port); got != want {
			t.Errorf("%v is at %v, want %v", port, got, want)
		}
	}
	if got := (Backend{}).addr(Port{TCP, 80}); got.IsValid() {
		t.Errorf("a backend without an address is at %v", got)
	}
}

// A backend that cannot be reached by a port is not given its connections.
func TestBackendWithoutThePortIsLeftOut(t *testing.T) {
	b := newBalancer(t, Config{})
	route(t, b, Routing{Backends: []Backend{{ID: "none", Routed: true}, serve(t, "a", nil).backend()}})
	addr := listen(t, b, TCP)
	for range 3 {
		if name := askOnce(t, addr); name != "a" {
			t.Errorf("served by %s", name)
		}
	}
}

func TestCloseCutsWhatIsLeft(t *testing.T) {
	b := New(t.Context(), Config{})
	route(t, b, Routing{Backends: []Backend{serve(t, "a", nil).backend()}})
	conn := dial(t, listen(t, b, TCP))
	if _, err := ask(conn); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Close(ctx); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "1 connection") {
		t.Errorf("error %v", err)
	}
	if _, err := conn.Read(make([]byte, 1)); !isReset(err) {
		t.Errorf("the client saw %v, want a reset", err)
	}
}

// A port that is let go of is taken within milliseconds, without an Apply; what is
// no longer asked for is not.
func TestSeize(t *testing.T) {
	b := newBalancer(t, Config{})
	route(t, b, Routing{Backends: []Backend{serve(t, "a", nil).backend()}})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := unmapped(l.Addr())
	f := Frontend{Key: web, Protocol: TCP, Host: at.Addr(), Port: at.Port(), Target: 80}
	if s := b.Apply(t.Context(), []Frontend{f})[0]; s.Listening() {
		t.Fatalf("a port that is held was listened at: %+v", s)
	}
	seized := make(chan bool, 1)
	go func() { seized <- b.Seize(t.Context(), web) }()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if !<-seized || !b.Status()[0].Listening() {
		t.Fatalf("the port was not taken: %+v", b.Status())
	}
	if name := askOnce(t, at); name != "a" {
		t.Errorf("served by %q", name)
	}

	b.Apply(t.Context(), nil)
	if !b.Seize(t.Context(), web) {
		t.Error("it waits for a port that nobody asks for")
	}
	l, err = net.Listen("tcp", at.String())
	if err != nil {
		t.Fatalf("a port that nobody asks for was taken: %v", err)
	}
	defer func() { _ = l.Close() }()
	b.Apply(t.Context(), []Frontend{f})
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if b.Seize(ctx, web) {
		t.Error("it says that it has a port which another one holds")
	}
}

// Of a port that is let go of for one family after the other, each is taken at
// once: who connects is not refused, but waits until the port is free as a whole.
func TestSeizeByFamily(t *testing.T) {
	b := newBalancer(t, Config{})
	route(t, b, Routing{Backends: []Backend{serve(t, "a", nil).backend()}})
	port := freePort(t)
	hold := func(network, host string) net.Listener {
		l, err := net.Listen(network, net.JoinHostPort(host, strconv.Itoa(int(port))))
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	four, six := hold("tcp4", "0.0.0.0"), hold("tcp6", "::")
	f := Frontend{Key: web, Protocol: TCP, Port: port, Target: 80}
	if s := b.Apply(t.Context(), []Frontend{f})[0]; s.Listening() {
		t.Fatalf("a port that is held was listened at: %+v", s)
	}
	seized := make(chan bool, 1)
	go func() { seized <- b.Seize(t.Context(), web) }()
	_ = four.Close()
	at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)
	var early net.Conn
	eventually(t, "somebody listens again", func() bool {
		conn, err := net.Dial("tcp", at.String())
		early = conn
		return err == nil
	})
	defer func() { _ = early.Close() }()
	if s := b.Apply(t.Context(), []Frontend{f})[0]; s.Listening() {
		t.Errorf("it listens though half of the port is held: %+v", s)
	}
	_ = six.Close()
	if !<-seized || !b.Status()[0].Listening() {
		t.Fatalf("the port was not taken: %+v", b.Status())
	}
	if name, err := ask(early.(*net.TCPConn)); name != "a" || err != nil {
		t.Errorf("who came early got %q, %v", name, err)
	}
	for _, host := range []string{"127.0.0.1", "::1"} {
		if name := askOnce(t, netip.AddrPortFrom(netip.MustParseAddr(host), port)); name != "a" {
			t.Errorf("at %s served by %q", host, name)
		}
	}

	// What is not free in time is given up as a whole.
	b.Apply(t.Context(), nil)
	six = hold("tcp6", "::")
	defer func() { _ = six.Close() }()
	b.Apply(t.Context(), []Frontend{f})
	ctx, stop := context.WithCancel(t.Context())
	go func() { seized <- b.Seize(ctx, web) }()
	eventually(t, "half of it is taken", func() bool {
		conn, err := net.Dial("tcp", at.String())
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	stop()
	if <-seized {
		t.Error("it says that it has a port of which another one holds half")
	}
	_ = hold("tcp4", "0.0.0.0").Close() // it was given up
}
