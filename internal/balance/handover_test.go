package balance

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// unixPair returns two ends of a Unix socket.
func unixPair(t testing.TB) (a, b *net.UnixConn) {
	t.Helper()
	dir, err := os.MkdirTemp("", "balance")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	at := &net.UnixAddr{Name: filepath.Join(dir, "s"), Net: "unix"}
	l, err := net.ListenUnix("unix", at)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if a, err = net.DialUnix("unix", nil, at); err != nil {
		t.Fatal(err)
	}
	if b, err = l.AcceptUnix(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = a.Close(), b.Close() })
	return a, b
}

// pass has sockets sent over a Unix socket, and returns what is received.
func pass(t testing.TB, all []Handover) []Handover {
	t.Helper()
	from, to := unixPair(t)
	sent := make(chan error, 1)
	go func() { sent <- SendListeners(from, all, time.Now().Add(10*time.Second)) }()
	got, err := ReceiveListeners(to, time.Now().Add(10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	closeAll(all)
	return got
}

func TestHandover(t *testing.T) {
	old, next := newBalancer(t, Config{}), newBalancer(t, Config{})
	a, u := serve(t, "a", nil), serveUDP(t, "u")
	both := a.backend()
	both.Addrs[Port{UDP, 80}] = u.Addrs[Port{UDP, 80}]
	route(t, old, Routing{Backends: []Backend{both}})
	desired := []Frontend{
		{Key: web, Protocol: TCP, Host: netip.MustParseAddr("127.0.0.1"), Target: 80},
		{Key: web, Protocol: UDP, Target: 80},
	}
	s := old.Apply(t.Context(), desired)
	tcp, udp := s[0].Bound, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), s[1].Bound.Port())
	conn := dial(t, tcp)
	if _, err := ask(conn); err != nil {
		t.Fatal(err)
	}
	session := dialUDP(t, udp)
	askUDP(t, session, "x")

	out, err := old.Export()
	if err != nil || len(out) != 2 {
		t.Fatalf("exported %d, %v", len(out), err)
	}
	between := dial(t, tcp) // nobody accepts now: the kernel keeps it
	if name, err := ask(conn); name != "a" || err != nil {
		t.Errorf("an open connection broke: %q, %v", name, err)
	}
	if s := old.Apply(t.Context(), desired); s[0].Listening() || !strings.Contains(s[0].Reason, "handed") {
		t.Errorf("the old one still listens: %+v", s)
	}

	next.Adopt(pass(t, out))
	route(t, next, Routing{Backends: []Backend{serve(t, "b", nil).backend()}})
	if s := next.Apply(t.Context(), desired); s[0].Bound != tcp || s[1].Bound.Port() != udp.Port() {
		t.Fatalf("the sockets were not taken over: %+v", s)
	}
	if name, err := ask(between); name != "b" || err != nil {
		t.Errorf("who connected meanwhile got %q, %v", name, err)
	}
	if name, err := ask(conn); name != "a" || err != nil {
		t.Errorf("an old connection broke: %q, %v", name, err)
	}
	route(t, next, Routing{Backends: []Backend{u}})
	if got := askUDP(t, session, "y"); got != "u y" {
		t.Errorf("the session got %q", got)
	}

	_ = conn.Close()
	if err := old.Drain(t.Context()); err != nil {
		t.Error(err)
	}
}

// More sockets than go with one message.
func TestHandoverOfManySockets(t *testing.T) {
	b := newBalancer(t, Config{})
	var desired []Frontend
	for i := range 2*socketsMost + 3 {
		desired = append(desired, Frontend{Key: web, Protocol: TCP, Host: netip.MustParseAddr("127.0.0.1"), Target: uint16(i + 1)})
	}
	bound := map[Frontend]netip.AddrPort{}
	for _, s := range b.Apply(t.Context(), desired) {
		bound[s.Frontend] = s.Bound
	}
	out, err := b.Export()
	if err != nil {
		t.Fatal(err)
	}
	next := newBalancer(t, Config{})
	next.Adopt(pass(t, out))
	for _, s := range next.Apply(t.Context(), desired) {
		if s.Bound != bound[s.Frontend] {
			t.Errorf("target %d listens at %v, and was at %v", s.Target, s.Bound, bound[s.Frontend])
		}
	}
}

func TestAdoptedSocketThatIsNotAskedForIsClosed(t *testing.T) {
	old, next := newBalancer(t, Config{}), newBalancer(t, Config{})
	addr := listen(t, old, TCP)
	out, err := old.Export()
	if err != nil {
		t.Fatal(err)
	}
	next.Adopt(pass(t, out))
	next.Apply(t.Context(), nil)
	l, err := net.Listen("tcp", addr.String())
	if err != nil {
		t.Fatalf("the port is not free: %v", err)
	}
	_ = l.Close()
}

func TestHandoverOfNothing(t *testing.T) {
	if got := pass(t, nil); len(got) != 0 {
		t.Errorf("received %+v", got)
	}
}

// Whatever comes instead of a header is an error, and leaves no descriptor open.
func TestReceiveRefusesWhatIsNotAHandover(t *testing.T) {
	headed := func(text string) []byte {
		return append(binary.BigEndian.AppendUint32(nil, uint32(len(text))), text...)
	}
	for name, sent := range map[string][]byte{
		"nothing":           nil,
		"half a length":     {0, 0},
		"half a header":     headed(`{"format":1}`)[:9],
		"no JSON":           headed("hello"),
		"another format":    headed(`{"format":2}`),
		"too long":          binary.BigEndian.AppendUint32(nil, headerMost+1),
		"no descriptor":     headed(`{"format":1,"frontends":[{"protocol":"tcp","host":"","port":1}]}`),
		"more of nothing":   headed(`{"format":1,"more":true}`),
		"a bad address":     headed(`{"format":1,"frontends":[{"host":"x"}]}`),
		"more, and the end": headed(`{"format":1,"more":true,"frontends":[]}`),
	} {
		from, to := unixPair(t)
		_, _ = from.Write(sent)
		_ = from.Close()
		if got, err := ReceiveListeners(to, time.Now().Add(10*time.Second)); err == nil {
			t.Errorf("%s: received %+v", name, got)
		}
	}
}

func TestReceiveGivesUpAtItsDeadline(t *testing.T) {
	_, to := unixPair(t)
	if _, err := ReceiveListeners(to, time.Now().Add(-time.Second)); err == nil {
		t.Error("it received what nobody sent")
	}
}

func FuzzReadHeader(f *testing.F) {
	text, _ := json.Marshal(header{Format: handoverFormat, Frontends: []Frontend{{Key: web, Protocol: UDP, Port: 53, Target: 53}}})
	f.Add(text, uint32(len(text)))
	f.Add([]byte("{}"), uint32(2))
	f.Add([]byte{}, uint32(headerMost+1))
	f.Fuzz(func(t *testing.T, text []byte, length uint32) {
		h, err := readHeader(bytes.NewReader(text), length)
		if err != nil {
			return
		}
		again, err := json.Marshal(h)
		if err != nil {
			t.Fatal(err)
		}
		back, err := readHeader(io.MultiReader(bytes.NewReader(again), strings.NewReader("rest")), uint32(len(again)))
		if err != nil || len(back.Frontends) != len(h.Frontends) {
			t.Errorf("%s does not read back: %v", again, err)
		}
	})
}
