package balance

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
)

// A port that only connections in TIME_WAIT have is used again, to the same address.
func TestPortInTimeWaitIsUsedAgain(t *testing.T) {
	s := serve(t, "a", nil)
	var d dialer
	call := func(port int) (int, error) {
		conn, err := d.dialFrom(t.Context(), s.addr(), port)
		if err != nil {
			return 0, err
		}
		if name, err := ask(conn); name != "a" || err != nil {
			t.Fatalf("%q, %v", name, err)
		}
		_ = conn.CloseWrite() // first: the wait is on this side
		_, _ = io.ReadAll(conn)
		return conn.LocalAddr().(*net.TCPAddr).Port, conn.Close()
	}
	var failed error
	for range 10 { // any program of the machine may have the same port for another connection
		port, err := call(0)
		if err != nil {
			t.Fatal(err)
		}
		if _, failed = call(port); failed == nil {
			return
		}
	}
	t.Errorf("no port is used again: %v", failed)
}

func TestPortOfAnOpenConnectionIsNot(t *testing.T) {
	s := serve(t, "a", nil)
	var d dialer
	open, err := d.dialFrom(t.Context(), s.addr(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = open.Close() }()
	again, err := d.dialFrom(t.Context(), s.addr(), open.LocalAddr().(*net.TCPAddr).Port)
	if err == nil {
		_ = again.Close()
	}
	if !noPort(err) || !ours(err) {
		t.Errorf("error %v: it is to be one of the port, for which no backend is to blame", err)
	}
}

func TestDialTellsWhatTheBackendDid(t *testing.T) {
	be := refusing(t, "a")
	var d dialer
	_, err := d.dial(t.Context(), be.addr(Port{TCP, 80}))
	if !errors.Is(err, syscall.ECONNREFUSED) || ours(err) {
		t.Errorf("error %v, want a refusal", err)
	}
	if _, err := d.dial(t.Context(), netip.AddrPort{}); err == nil {
		t.Error("it connected to nowhere")
	}
}
