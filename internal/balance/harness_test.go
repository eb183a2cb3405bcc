package balance

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var web = Key{Stack: "shop", Service: "web"}

// eventually waits until cond holds.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(10 * time.Second)
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("it never came to this: %s", what)
		}
	}
}

// server is a backend that answers each line with its name.
type server struct {
	name string
	l    *net.TCPListener
	wg   sync.WaitGroup

	mu    sync.Mutex // protects conns
	conns map[*net.TCPConn]struct{}
}

func serve(t testing.TB, name string, handle func(*net.TCPConn)) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveBy(t, name, l.(*net.TCPListener), handle)
}

func serveBy(t testing.TB, name string, l *net.TCPListener, handle func(*net.TCPConn)) *server {
	t.Helper()
	s := &server{name: name, l: l, conns: map[*net.TCPConn]struct{}{}}
	if handle == nil {
		handle = s.answer
	}
	s.wg.Go(func() {
		for {
			conn, err := s.l.AcceptTCP()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns[conn] = struct{}{}
			s.mu.Unlock()
			s.wg.Go(func() {
				handle(conn)
				_ = conn.Close()
				s.mu.Lock()
				delete(s.conns, conn)
				s.mu.Unlock()
			})
		}
	})
	t.Cleanup(s.close)
	return s
}

func (s *server) close() {
	_ = s.l.Close()
	s.mu.Lock()
	for c := range s.conns {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// answer answers each line with the server's name and the line.
func (s *server) answer(conn *net.TCPConn) {
	r := bufio.NewReader(conn)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		if _, err := fmt.Fprintf(conn, "%s %s", s.name, line); err != nil {
			return
		}
	}
}

func (s *server) addr() netip.AddrPort { return s.l.Addr().(*net.TCPAddr).AddrPort() }

func (s *server) backend() Backend { return backendAt(s.name, s.addr()) }

func backendAt(id string, addr netip.AddrPort) Backend {
	return Backend{ID: id, Routed: true, Addrs: map[Port]netip.AddrPort{{TCP, 80}: addr, {UDP, 80}: addr}}
}

// refusing returns a backend where nobody listens.
func refusing(t testing.TB, id string) Backend {
	t.Helper()
	be, _ := refusingUntil(t, id)
	return be
}

// refusingUntil returns a backend where nobody listens until a server is started.
// Its port is held meanwhile, so that nobody else can be there.
func refusingUntil(t testing.TB, id string) (be Backend, start func()) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), id)
	t.Cleanup(func() { _ = file.Close() })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(sa.(*unix.SockaddrInet4).Port))
	return backendAt(id, addr), func() {
		if err := unix.Listen(fd, 16); err != nil {
			t.Fatal(err)
		}
		l, err := net.FileListener(file)
		if err != nil {
			t.Fatal(err)
		}
		serveBy(t, id, l.(*net.TCPListener), nil)
	}
}

func newBalancer(t testing.TB, cfg Config) *Balancer {
	t.Helper()
	b := New(t.Context(), cfg)
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = b.Close(ctx) // cuts what the test has left open
	})
	return b
}

// listen opens one frontend of the pool web and returns where it is.
func listen(t testing.TB, b *Balancer, p Protocol) netip.AddrPort {
	t.Helper()
	s := b.Apply(t.Context(), []Frontend{{Key: web, Protocol: p, Host: netip.MustParseAddr("127.0.0.1"), Target: 80}})
	if !s[0].Listening() {
		t.Fatalf("not listening: %s", s[0].Reason)
	}
	return s[0].Bound
}

func route(t testing.TB, b *Balancer, r Routing) {
	t.Helper()
	if err := b.Route(web, r); err != nil {
		t.Fatal(err)
	}
}

func dial(t testing.TB, addr netip.AddrPort) *net.TCPConn {
	t.Helper()
	conn, err := dialOnce(addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// ask sends a line and returns who answered.
func ask(conn net.Conn) (string, error) {
	if _, err := io.WriteString(conn, "x\n"); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	name, ok := strings.CutSuffix(line, " x\n")
	if err == nil && !ok {
		err = fmt.Errorf("answer %q", line)
	}
	return name, err
}

// askOnce connects, asks and closes.
func askOnce(t testing.TB, addr netip.AddrPort) string {
	t.Helper()
	conn := dial(t, addr)
	name, err := ask(conn)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	return name
}

func dialOnce(addr netip.AddrPort) (*net.TCPConn, error) {
	conn, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(addr))
	if err != nil {
		return nil, err
	}
	return conn, conn.SetDeadline(time.Now().Add(20 * time.Second))
}

func poolStatus(t testing.TB, b *Balancer) PoolStatus {
	t.Helper()
	s, ok := b.Pool(web)
	if !ok {
		t.Fatal("no pool")
	}
	return s
}

func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET)
}
