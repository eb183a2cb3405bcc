package balance

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The ports from which connects go out when the kernel finds none: those that it takes
// by default (ip_local_port_range).
const (
	portsFrom = 32768
	portsMany = 60999 - portsFrom + 1
	// portTries bounds the ports that are tried for one connect.
	portTries = 64
)

// dialer connects to backends.
//
// A client that closes first has the balancer close first towards the backend, and
// that leaves the port in TIME_WAIT for a minute. The kernel takes such a port for a
// new connection to the same address only on the loopback (tcp_tw_reuse), so that a
// backend would be out of reach after some 28,000 connections within that minute.
// It does take one that is asked for by its number, and is safe with that: by
// timestamps old segments are told from new ones (RFC 6191).
type dialer struct {
	timeout time.Duration
	next    atomic.Uint32 // port to ask for
}

// dial connects to a backend, from a port of the kernel's choice if it finds one.
func (d *dialer) dial(ctx context.Context, to netip.AddrPort) (*net.TCPConn, error) {
	conn, err := d.dialFrom(ctx, to, 0)
	for try := 0; try < portTries && noPort(err); try++ {
		conn, err = d.dialFrom(ctx, to, portsFrom+int(d.next.Add(1)%portsMany))
	}
	return conn, err
}

// noPort says that a connect failed for its port on this side.
func noPort(err error) bool {
	return errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EADDRINUSE)
}

func (d *dialer) dialFrom(ctx context.Context, to netip.AddrPort, port int) (*net.TCPConn, error) {
	with := net.Dialer{Timeout: d.timeout, KeepAliveConfig: keepAlive, Control: reuse}
	if port != 0 {
		with.LocalAddr = &net.TCPAddr{Port: port}
	}
	conn, err := with.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// reuse lets a port be asked for that only connections in TIME_WAIT have; these must
// have been made with it too.
func reuse(_, _ string, c syscall.RawConn) error {
	var set error
	err := c.Control(func(fd uintptr) {
		set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	})
	return errors.Join(err, set)
}
