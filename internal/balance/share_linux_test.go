package balance

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// asProxy makes this program the engine's proxy, by its name and its arguments.
const asProxy = "proxy"

// beProxy listens where its arguments say and carries connections to the address
// that they name, until its input ends.
func beProxy() error {
	arg := func(name string) string {
		for i, a := range os.Args {
			if a == "-"+name && i+1 < len(os.Args) {
				return os.Args[i+1]
			}
		}
		return ""
	}
	network := "tcp4"
	if strings.Contains(arg("host-ip"), ":") {
		network = "tcp6"
	}
	l, err := net.Listen(network, net.JoinHostPort(arg("host-ip"), arg("host-port")))
	if err != nil {
		return err
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _ = proxyTo(net.JoinHostPort(arg("container-ip"), arg("container-port")), conn) }()
		}
	}()
	if err := json.NewEncoder(os.Stdout).Encode(report{Addr: unmapped(l.Addr())}); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func proxyTo(address string, client net.Conn) error {
	defer func() { _ = client.Close() }()
	server, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", address)
	if err != nil {
		return err
	}
	defer func() { _ = server.Close() }()
	go func() { _, _ = io.Copy(server, client) }()
	_, err = io.Copy(client, server)
	return err
}

// proxy is a process that looks like the engine's proxy of a port.
type proxy struct {
	addr netip.AddrPort
	end  func() // returns when it has ended
}

// startProxy starts one that is called name, at a port of hostIP, 0: any, in
// front of a server.
func startProxy(t *testing.T, name, hostIP string, port uint16, to netip.AddrPort) proxy {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), name)
	if err := os.Symlink(self, program); err != nil {
		t.Fatal(err)
	}
	if port == 0 {
		port = freePort(t)
	}
	cmd := exec.CommandContext(t.Context(), program, "-proto", "tcp", "-host-ip", hostIP, "-host-port", strconv.Itoa(int(port)),
		"-container-ip", to.Addr().String(), "-container-port", strconv.Itoa(int(to.Port())))
	cmd.Env = append(os.Environ(), childEnv+"="+asProxy)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end := func() { _, _ = in.Close(), cmd.Wait() }
	t.Cleanup(end)
	var r report
	if err := json.NewDecoder(out).Decode(&r); err != nil {
		t.Fatal(err)
	}
	return proxy{addr: r.Addr, end: end}
}

// proxied is a server that also proxies lead to.
func (s *server) proxied() Backend {
	be := s.backend()
	be.Proxied = []netip.Addr{s.addr().Addr()}
	return be
}

// A port that the engine's proxies hold for a backend goes over while they are
// there: from then on they get no new connection and keep those they have, and
// when they end nobody notices.
func TestShareWithTheEnginesProxy(t *testing.T) {
	for _, c := range []struct {
		name  string
		hosts []string // at which a proxy listens
		host  string   // at which the frontend does; empty: at all
		ask   []string // where clients ask
	}{
		{"both families", []string{"0.0.0.0", "::"}, "", []string{"127.0.0.1", "::1"}},
		{"an engine without IPv6", []string{"0.0.0.0"}, "", []string{"127.0.0.1", "::1"}},
		{"a host address", []string{"127.0.0.1"}, "127.0.0.1", []string{"127.0.0.1"}},
		{"a host address of IPv6", []string{"::1"}, "::1", []string{"::1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			old, next := serve(t, "old", nil), serve(t, "next", nil)
			var port uint16
			var proxies []proxy
			for _, host := range c.hosts {
				p := startProxy(t, proxyName, host, port, old.addr())
				port = p.addr.Port()
				proxies = append(proxies, p)
			}
			before := dial(t, proxies[0].client())
			if name, err := ask(before); name != "old" || err != nil {
				t.Fatalf("the proxy does not work: %q, %v", name, err)
			}
			b := newBalancer(t, Config{})
			route(t, b, Routing{Backends: []Backend{old.proxied()}})
			f := Frontend{Key: web, Protocol: TCP, Port: port, Target: 80}
			if c.host != "" {
				f.Host = netip.MustParseAddr(c.host)
			}
			if s := b.Apply(t.Context(), []Frontend{f})[0]; !s.Listening() {
				t.Fatalf("the port is not shared: %s", s.Reason)
			}
			route(t, b, Routing{Backends: []Backend{next.backend()}})
			everywhere := func(when string) {
				t.Helper()
				for _, host := range c.ask {
					for range 20 {
						at := netip.AddrPortFrom(netip.MustParseAddr(host), port)
						if name, err := ask(dial(t, at)); name != "next" || err != nil {
							t.Fatalf("%s, a new connection to %s got %q, %v", when, at, name, err)
						}
					}
				}
			}
			everywhere("beside the proxies")
			if name, err := ask(before); name != "old" || err != nil {
				t.Errorf("a connection of the proxy got %q, %v", name, err)
			}
			calls := callAll(t, proxies[0].client())
			for _, p := range proxies {
				p.end()
			}
			everywhere("without the proxies")
			if n, err := calls(); err != nil || n == 0 {
				t.Errorf("of %d connections while the proxies ended one failed: %v", n, err)
			}
		})
	}
}

// client is where a client on this machine connects.
func (p proxy) client() netip.AddrPort {
	if !p.addr.Addr().IsUnspecified() {
		return p.addr
	}
	if p.addr.Addr().Is4() {
		return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), p.addr.Port())
	}
	return netip.AddrPortFrom(netip.IPv6Loopback(), p.addr.Port())
}

// callAll connects one time after the other until the returned function is
// called, which returns how many there were, and the first error.
func callAll(t *testing.T, at netip.AddrPort) func() (int, error) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	n, first := 0, make(chan struct{})
	go func() {
		var failed error
		for ctx.Err() == nil && failed == nil {
			failed = callOnce(at)
			if n++; n == 1 {
				close(first)
			}
		}
		ended <- failed
	}()
	<-first
	return func() (int, error) {
		stop()
		err := <-ended
		return n, err
	}
}

func callOnce(at netip.AddrPort) error {
	conn, err := net.DialTimeout("tcp", at.String(), 5*time.Second)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(conn, "hello"); err != nil {
		return err
	}
	_, err = bufio.NewReader(conn).ReadString('\n')
	return err
}

// A balancer that ends first leaves the proxy as it was, and another one can take
// the port over again; sockets that were shared are handed over like all others.
func TestSharedPortOutlivesBalancers(t *testing.T) {
	old := serve(t, "old", nil)
	p := startProxy(t, proxyName, "0.0.0.0", 0, old.addr())
	f := Frontend{Key: web, Protocol: TCP, Port: p.addr.Port(), Target: 80}
	share := func() *Balancer {
		b := newBalancer(t, Config{})
		route(t, b, Routing{Backends: []Backend{old.proxied()}})
		if s := b.Apply(t.Context(), []Frontend{f})[0]; !s.Listening() {
			t.Fatalf("the port is not shared: %s", s.Reason)
		}
		return b
	}
	answers := func(want, when string) {
		t.Helper()
		if name, err := ask(dial(t, p.client())); name != want || err != nil {
			t.Fatalf("%s: got %q, %v, want %q", when, name, err, want)
		}
	}
	first := share()
	if err := first.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	answers("old", "the balancer has ended")

	second := share()
	out, err := second.Export()
	if err != nil {
		t.Fatal(err)
	}
	third := newBalancer(t, Config{})
	third.Adopt(pass(t, out))
	route(t, third, Routing{Backends: []Backend{serve(t, "next", nil).backend()}})
	if s := third.Apply(t.Context(), []Frontend{f})[0]; !s.Listening() {
		t.Fatalf("the sockets were not taken over: %s", s.Reason)
	}
	answers("next", "the sockets were handed over")
	p.end()
	answers("next", "the proxy has ended")
}

// Only the engine's proxy is shared with, and only one that leads to a backend.
func TestShareWithNobodyElse(t *testing.T) {
	old := serve(t, "old", nil)
	for _, c := range []struct {
		name, program string
		be            Backend
	}{
		{"another program", "nginx", old.proxied()},
		{"a proxy of something else", proxyName, old.backend()},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := startProxy(t, c.program, "127.0.0.1", 0, old.addr())
			b := newBalancer(t, Config{})
			route(t, b, Routing{Backends: []Backend{c.be}})
			s := b.Apply(t.Context(), []Frontend{{Key: web, Protocol: TCP, Host: p.addr.Addr(), Port: p.addr.Port(), Target: 80}})[0]
			if s.Listening() || s.Holder == nil {
				t.Errorf("the port was taken from a stranger: %+v", s)
			}
		})
	}
}
