package inside

import (
	"net"
	"os"
	"testing"
)

// The cost of a connection by entering a network namespace (this process's own,
// whose entry costs the same) beside that of a plain one.
func BenchmarkDial(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = l.Close() }() // it served
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.Close() // it served
		}
	}()
	to, err := target(l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	b.Run("plain", func(b *testing.B) {
		for b.Loop() {
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			_ = c.Close() // it served
		}
	})
	b.Run("entered", func(b *testing.B) {
		if os.Geteuid() != 0 {
			b.Skip("only root may enter a namespace")
		}
		for b.Loop() {
			ns, err := os.Open("/proc/self/ns/net")
			if err != nil {
				b.Fatal(err)
			}
			fd, err := socketIn(ns, to)
			if err != nil {
				b.Fatal(err)
			}
			_ = ns.Close() // it served
			c, err := connect(b.Context(), fd, to)
			if err != nil {
				b.Fatal(err)
			}
			_ = c.Close() // it served
		}
	})
}
