package balance

import (
	"bytes"
	"io"
	"net"
	"testing"
)

// withoutPipes is a balancer that has to copy all.
func withoutPipes(t *testing.T) *Balancer {
	b := newBalancer(t, Config{})
	b.carriers.pipes.used.Store(pipesMost)
	return b
}

// What a slow reader has not taken yet is held up in the middle of a buffer too.
func TestSlowReaderWithoutPipes(t *testing.T) { slowReader(t, withoutPipes(t)) }

// When no pipe is to be had, bytes are copied instead.
func TestBytesAreCarriedWithoutPipes(t *testing.T) {
	b := withoutPipes(t)
	s := serve(t, "a", func(c *net.TCPConn) { _, _ = io.Copy(c, c) })
	route(t, b, Routing{Backends: []Backend{s.backend()}})
	conn := dial(t, listen(t, b, TCP))
	sent := bytes.Repeat([]byte("0123456789abcdef"), 128<<10)
	go func() {
		_, _ = conn.Write(sent)
		_ = conn.CloseWrite()
	}()
	if got, err := io.ReadAll(conn); err != nil || !bytes.Equal(got, sent) {
		t.Errorf("of %d bytes %d came back, or other ones (%v)", len(sent), len(got), err)
	}
	if used := b.carriers.pipes.used.Load(); used != pipesMost {
		t.Errorf("%d pipes are in use, and were %d", used, pipesMost)
	}
}

// A connection that is quiet, or has ended, has no pipe; one that was cut in the
// middle leaves none behind.
func TestPipesAreGivenBack(t *testing.T) {
	b := newBalancer(t, Config{})
	s := serve(t, "a", func(c *net.TCPConn) {
		_, _ = c.Write(make([]byte, 64<<20)) // more than fits anywhere
	})
	route(t, b, Routing{Backends: []Backend{s.backend()}})
	conn := dial(t, listen(t, b, TCP))
	if _, err := io.CopyN(io.Discard, conn, 4<<20); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a pipe is full", func() bool { return b.carriers.pipes.used.Load() == 1 })
	b.Cut(web, "a")
	eventually(t, "it is given back", func() bool { return b.carriers.pipes.used.Load() == 0 })

	quiet := serve(t, "b", func(c *net.TCPConn) {
		_, _ = c.Write(make([]byte, 4<<20))
		_, _ = c.Read(make([]byte, 1))
	})
	route(t, b, Routing{Backends: []Backend{quiet.backend()}})
	conn = dial(t, b.Status()[0].Bound)
	if _, err := io.CopyN(io.Discard, conn, 4<<20); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a quiet connection has none", func() bool { return b.carriers.pipes.used.Load() == 0 })
}
