package balance

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// echo answers each message of a size with one of another.
func echo(request, response int) func(*net.TCPConn) {
	return func(c *net.TCPConn) {
		in, out := make([]byte, request), make([]byte, response)
		for {
			if _, err := io.ReadFull(c, in); err != nil {
				return
			}
			if _, err := c.Write(out); err != nil {
				return
			}
		}
	}
}

// paths runs a benchmark directly to a server, and through a balancer.
func paths(b *testing.B, handle func(*net.TCPConn), run func(*testing.B, netip.AddrPort)) {
	s := serve(b, "a", handle)
	b.Run("direct", func(b *testing.B) { run(b, s.addr()) })
	b.Run("balanced", func(b *testing.B) {
		bal := newBalancer(b, Config{})
		route(b, bal, Routing{Backends: []Backend{s.backend()}})
		run(b, listen(b, bal, TCP))
	})
}

// BenchmarkLatency measures a request and its answer of 100 bytes each on an open
// connection; p50 is the median.
func BenchmarkLatency(b *testing.B) {
	paths(b, echo(100, 100), func(b *testing.B, addr netip.AddrPort) {
		conn := dial(b, addr)
		buf := make([]byte, 100)
		var took []time.Duration
		for b.Loop() {
			began := time.Now()
			if _, err := conn.Write(buf); err != nil {
				b.Fatal(err)
			}
			if _, err := io.ReadFull(conn, buf); err != nil {
				b.Fatal(err)
			}
			took = append(took, time.Since(began))
		}
		slices.Sort(took)
		b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1000, "p50-µs")
		b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds())/1000, "p99-µs")
	})
}

// BenchmarkResponses measures answers of 64 KiB to requests of 100 bytes, on some
// connections at once.
func BenchmarkResponses(b *testing.B) {
	for _, conns := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("conns=%d", conns), func(b *testing.B) {
			paths(b, echo(100, 64<<10), func(b *testing.B, addr netip.AddrPort) {
				b.SetBytes(64 << 10)
				b.SetParallelism((conns + 1) / 2)
				b.RunParallel(func(pb *testing.PB) {
					conn := dial(b, addr)
					defer func() { _ = conn.Close() }()
					buf := make([]byte, 64<<10)
					for pb.Next() {
						if _, err := conn.Write(buf[:100]); err != nil {
							b.Error(err)
							return
						}
						if _, err := io.ReadFull(conn, buf); err != nil {
							b.Error(err)
							return
						}
					}
				})
			})
		})
	}
}

// BenchmarkStream measures one long answer.
func BenchmarkStream(b *testing.B) {
	source := func(c *net.TCPConn) {
		out := make([]byte, 256<<10)
		for {
			if _, err := c.Write(out); err != nil {
				return
			}
		}
	}
	paths(b, source, func(b *testing.B, addr netip.AddrPort) {
		conn := dial(b, addr)
		buf := make([]byte, 256<<10)
		b.SetBytes(int64(len(buf)))
		for b.Loop() {
			if _, err := io.ReadFull(conn, buf); err != nil {
				b.Fatal(err)
			}
		}
		_ = conn.Close()
	})
}

// BenchmarkConnect measures a connection with one request and its answer.
func BenchmarkConnect(b *testing.B) {
	paths(b, echo(100, 100), func(b *testing.B, addr netip.AddrPort) {
		buf := make([]byte, 100)
		var d net.Dialer
		for b.Loop() {
			conn, err := d.DialContext(context.Background(), "tcp", addr.String())
			if err != nil {
				b.Fatal(err)
			}
			_, _ = conn.Write(buf)
			if _, err := io.ReadFull(conn, buf); err != nil {
				b.Fatal(err)
			}
			_ = conn.Close()
		}
	})
}
