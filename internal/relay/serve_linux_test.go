package relay

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-dev/berth/internal/balance"
)

// running is a relay whose replicas are at addresses of the loopback network.
type running struct {
	t       *testing.T
	port    uint16
	in      *io.PipeWriter
	stop    context.CancelFunc
	ended   chan error
	reports chan Report // those that nobody wants are dropped
}

// patience bounds what a test waits for.
const patience = 10 * time.Second

// start has a relay listen at a port of 127.0.0.1 for replicas that have the port target.
func start(t *testing.T, port, target uint16) *running {
	t.Helper()
	in, feed := io.Pipe()
	answers, out := io.Pipe()
	ctx, stop := context.WithCancel(t.Context())
	r := &running{t: t, port: port, in: feed, stop: stop, ended: make(chan error, 1), reports: make(chan Report, 100)}
	var ports []balance.Frontend
	for _, protocol := range []balance.Protocol{balance.TCP, balance.UDP} {
		ports = append(ports, balance.Frontend{Key: pool(), Protocol: protocol, Host: netip.MustParseAddr("127.0.0.1"), Port: port, Target: target})
	}
	go func() { r.ended <- serve(ctx, ports, in, out) }()
	var reading sync.WaitGroup
	reading.Go(func() { _, _ = io.Copy(&Lines{Each: r.took}, answers) })
	t.Cleanup(func() {
		stop()
		if err := <-r.ended; err != nil {
			t.Errorf("the relay ended: %v", err)
		}
		_ = out.Close() // a pipe never fails
		reading.Wait()
	})
	return r
}

func (r *running) took(line []byte) {
	rep, err := ParseReport(line)
	if err != nil {
		r.t.Errorf("the relay wrote %q: %v", line, err)
		return
	}
	select {
	case r.reports <- rep:
	default:
	}
}

// order orders, and returns the first report that is as it is to be.
func (r *running) order(o Order, is func(Report) bool) Report {
	r.t.Helper()
	line, err := Line(o)
	if err == nil {
		_, err = r.in.Write(line)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return r.until(func(rep Report) bool { return rep.ID == o.ID && is(rep) })
}

func (r *running) until(is func(Report) bool) Report {
	r.t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case rep := <-r.reports:
			if is(rep) {
				return rep
			}
		case <-timeout:
			r.t.Fatal("no such report came")
		}
	}
}

func anyReport(Report) bool { return true }

// ask connects by the relay and returns what answers.
func (r *running) ask() string {
	r.t.Helper()
	d := net.Dialer{Timeout: patience}
	c, err := d.DialContext(r.t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", r.port))
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	answer, err := io.ReadAll(c)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(answer)
}

// replica answers each connection, and each datagram, with its address, at a port
// of an address of the loopback network of its own.
func replica(t *testing.T, ip string, port uint16) Backend {
	t.Helper()
	at := fmt.Sprintf("%s:%d", ip, port)
	l, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	p, err := net.ListenPacket("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, ip) // a client that is gone fails its own test
			_ = c.Close()
		}
	})
	serving.Go(func() {
		buf := make([]byte, 16)
		for {
			_, from, err := p.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = p.WriteTo([]byte(ip), from) // as above
		}
	})
	t.Cleanup(func() {
		_, _ = l.Close(), p.Close()
		serving.Wait()
	})
	return Backend{ID: ip, IP: netip.MustParseAddr(ip)}
}

// freePort is a port that is free for both protocols on 127.0.0.1.
func freePort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return netip.MustParseAddrPort(l.Addr().String()).Port()
}

func to(id uint64, backends ...Backend) Order {
	return Order{ID: id, Routing: Routing{Backends: backends}}
}

// TestRelay: a client that comes before any replica waits for one; orders take
// effect before they are reported; the end of whoever orders ends nothing; a line
// that was cut off, or that makes no sense, changes nothing.
func TestRelay(t *testing.T) {
	port, target := freePort(t), freePort(t)
	one, two := replica(t, "127.0.0.2", target), replica(t, "127.0.0.3", target)
	r := start(t, port, target)
	r.until(func(rep Report) bool { return rep.Trouble == "" })
	early := make(chan string)
	go func() { early <- r.ask() }()
	r.until(func(rep Report) bool { return rep.Waiting == 1 })
	r.order(to(1, one), anyReport)
	if got := <-early; got != one.ID {
		t.Errorf("who waited was answered by %q", got)
	}
	r.order(to(2, two), func(rep Report) bool { // the other one is drained, or was already
		return len(rep.Backends) == 1 && rep.Backends[0] == Carried{ID: two.ID, Routed: true}
	})
	for range 10 {
		if got := r.ask(); got != two.ID {
			t.Errorf("answered by %q, which is given no new connections", got)
		}
	}
	if got := r.datagram(); got != two.ID {
		t.Errorf("a datagram was answered by %q", got)
	}
	r.refuses("{\"id\":3,\"rou", "{\"id\":4,\"routing\":{\"policy\":\"none\"}}")
	r.order(to(5, one), func(rep Report) bool { return rep.Trouble == "" })
	_ = r.in.Close() // whoever orders is gone; a pipe never fails
	for range 10 {
		if got := r.ask(); got != one.ID {
			t.Errorf("after the end of the orders %q answers", got)
		}
	}
}

// refuses sends lines that are to change nothing.
func (r *running) refuses(lines ...string) {
	r.t.Helper()
	for _, line := range lines {
		if _, err := io.WriteString(r.in, line+"\n"); err != nil {
			r.t.Fatal(err)
		}
		rep := r.until(func(rep Report) bool { return rep.Trouble != "" })
		if len(rep.Backends) != 1 || !rep.Backends[0].Routed || rep.ID != 2 {
			r.t.Errorf("after %q: %+v", line, rep)
		}
	}
}

// datagram sends one by the relay and returns the answer.
func (r *running) datagram() string {
	r.t.Helper()
	var d net.Dialer
	c, err := d.DialContext(r.t.Context(), "udp", fmt.Sprintf("127.0.0.1:%d", r.port))
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(patience)) // of an open connection it never fails
	buf := make([]byte, 64)
	if _, err = c.Write([]byte("?")); err == nil {
		var n int
		n, err = c.Read(buf)
		buf = buf[:n]
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return string(buf)
}

// TestOpenConnectionsAreTold: a replica that is given no more connections is told
// of until its last one has ended.
func TestOpenConnectionsAreTold(t *testing.T) {
	port, target := freePort(t), freePort(t)
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.2:%d", target))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	r := start(t, port, target)
	be := Backend{ID: "old", IP: netip.MustParseAddr("127.0.0.2")}
	r.order(to(1, be), anyReport)
	var d net.Dialer
	c, err := d.DialContext(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	r.until(func(rep Report) bool { return rep.ID == 1 && rep.Carries == 1 && rep.Backends[0].Open == 1 }) // unasked
	r.order(to(2), func(rep Report) bool { return len(rep.Backends) == 1 && rep.Backends[0] == Carried{ID: "old", Open: 1} })
	_, _ = c.Close(), server.Close()
	r.until(func(rep Report) bool { return rep.ID == 2 && len(rep.Backends) == 0 })
}

// TestPortIsTaken: a port that cannot be listened at is told of, and listened at
// once it is free.
func TestPortIsTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := netip.MustParseAddrPort(l.Addr().String()).Port()
	r := start(t, port, freePort(t))
	rep := r.until(func(rep Report) bool { return rep.Trouble != "" })
	if want := fmt.Sprintf("port 127.0.0.1:%d/tcp cannot be listened at: ", port); !strings.Contains(rep.Trouble, want) {
		t.Errorf("the trouble is %q", rep.Trouble)
	}
	_ = l.Close() // it was open
	r.until(func(rep Report) bool { return rep.Trouble == "" })
}

// TestNobodyReads: that nobody takes the reports holds up neither orders nor
// connections.
func TestNobodyReads(t *testing.T) {
	port, target := freePort(t), freePort(t)
	one, two := replica(t, "127.0.0.2", target), replica(t, "127.0.0.3", target)
	in, feed := io.Pipe()
	deaf, out := io.Pipe()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	ports := []balance.Frontend{{Key: pool(), Protocol: balance.TCP, Host: netip.MustParseAddr("127.0.0.1"), Port: port, Target: target}}
	go func() { ended <- serve(ctx, ports, in, out) }()
	for id := range uint64(100) {
		line, err := Line(to(id, one, two))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := feed.Write(line); err != nil {
			t.Fatal(err)
		}
	}
	r := &running{t: t, port: port}
	seen := map[string]bool{}
	for range 10 {
		seen[r.ask()] = true
	}
	if !seen[one.ID] || !seen[two.ID] {
		t.Errorf("answered by %v", seen)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	_ = deaf.Close() // a pipe never fails
}
