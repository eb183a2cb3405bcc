package balance

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// share listens at a port beside the engine's proxies that hold it for a
// container which is a backend of the pool: a service that was published by the
// engine goes over to the balancer without a moment at which nobody listens.
//
// For each socket of such a proxy another one is bound to the same address, and
// both form one group (SO_REUSEPORT, socket(7)), of which the kernel is told to
// choose ours for every new connection. What the proxy carries goes on. When it
// ends, its socket leaves the group and ours stay; should this process end first,
// the proxy is alone again. It needs Linux 5.6 or newer (pidfd_getfd(2)), the
// proxy's user and leave to trace it, which root has. An error says why the port
// cannot be shared: it is taken once it is free, then.
func share(ctx context.Context, f Frontend, p *pool) ([]*net.TCPListener, error) {
	held := proxySockets("/proc", f, p)
	if len(held) == 0 {
		return nil, errors.New("no proxy of the engine holds it for a backend")
	}
	var ours []*net.TCPListener
	for _, h := range held {
		l, err := h.beside(ctx)
		if err != nil {
			closeListeners(ours)
			return nil, err
		}
		ours = append(ours, l)
	}
	if !f.Host.IsValid() {
		ours = append(ours, otherFamilies(ctx, f.Port, ours)...)
	}
	return ours, nil
}

// heldSocket is a listening socket of another process.
type heldSocket struct {
	pid, fd int
}

// proxySockets finds the sockets at which the engine's proxies listen at f's port
// for a backend of the pool.
func proxySockets(proc string, f Frontend, p *pool) []heldSocket {
	inodes := inodesAt(f)
	entries, _ := os.ReadDir(proc) // what cannot be read cannot be shared
	var held []heldSocket
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || !isProxyFor(filepath.Join(proc, e.Name()), f, p) {
			continue
		}
		for _, fd := range openOf(filepath.Join(proc, e.Name(), "fd"), inodes) {
			held = append(held, heldSocket{pid: pid, fd: fd})
		}
	}
	return held
}

// proxyName is the program that the engine runs for each published port.
const proxyName = "docker-proxy"

// isProxyFor reports whether a process is the engine's proxy of a port that leads
// to a backend of the pool.
func isProxyFor(dir string, f Frontend, p *pool) bool {
	line, err := os.ReadFile(filepath.Join(dir, "cmdline"))
	if err != nil {
		return false
	}
	args := strings.Split(strings.TrimRight(string(line), "\x00"), "\x00")
	if filepath.Base(args[0]) != proxyName {
		return false
	}
	said := map[string]string{}
	for i := 1; i+1 < len(args); i++ {
		said[strings.TrimLeft(args[i], "-")] = args[i+1]
	}
	ip, err := netip.ParseAddr(said["container-ip"])
	return err == nil && said["proto"] == string(f.Protocol) && said["host-port"] == strconv.Itoa(int(f.Port)) && p.proxied(ip)
}

// beside returns a listener at the same address as another process's, to which all new
// connections go from now on.
func (h heldSocket) beside(ctx context.Context) (*net.TCPListener, error) {
	theirs, err := h.duplicate()
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(theirs) }()
	network, address, err := addressOf(theirs)
	if err != nil {
		return nil, err
	}
	if err := unix.SetsockoptInt(theirs, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return nil, fmt.Errorf("share the socket of process %d: %w", h.pid, err)
	}
	l, err := listenShared(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("listen beside process %d: %w", h.pid, err)
	}
	if err := preferSecond(l); err != nil {
		return nil, errors.Join(fmt.Errorf("be preferred to process %d: %w", h.pid, err), l.Close())
	}
	return l, nil
}

// duplicate returns a descriptor of another process's socket.
func (h heldSocket) duplicate() (int, error) {
	process, err := unix.PidfdOpen(h.pid, 0)
	if err != nil {
		return 0, fmt.Errorf("open process %d: %w", h.pid, err)
	}
	defer func() { _ = unix.Close(process) }()
	fd, err := unix.PidfdGetfd(process, h.fd, 0)
	if err != nil {
		return 0, fmt.Errorf("get the socket of process %d: %w", h.pid, err)
	}
	return fd, nil
}

// addressOf says where a TCP socket listens, in words of package net.
func addressOf(fd int) (network, address string, err error) {
	name, err := unix.Getsockname(fd)
	if err != nil {
		return "", "", err
	}
	switch at := name.(type) {
	case *unix.SockaddrInet4:
		return "tcp4", netip.AddrPortFrom(netip.AddrFrom4(at.Addr), uint16(at.Port)).String(), nil //nolint:gosec // a port
	case *unix.SockaddrInet6:
		only, err := unix.GetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)
		if network = "tcp6"; only == 0 {
			network = "tcp"
		}
		return network, netip.AddrPortFrom(netip.AddrFrom16(at.Addr), uint16(at.Port)).String(), err //nolint:gosec // a port
	default:
		return "", "", errors.New("it is not a TCP socket")
	}
}

// listenShared listens at an address that others listen at who share it.
func listenShared(ctx context.Context, network, address string) (*net.TCPListener, error) {
	lc := net.ListenConfig{KeepAliveConfig: keepAlive, Control: func(_, _ string, raw syscall.RawConn) error {
		return onSocket(raw, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
	}}
	lc.SetMultipathTCP(false) // such a socket takes no program, and its group is another one
	l, err := lc.Listen(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil
}

// preferSecond has the kernel give every new connection to the second socket of a
// listener's group, which is the listener: the proxy's own is the first. When that
// one is gone there is no second, and the kernel chooses as it does without a program.
func preferSecond(l *net.TCPListener) error {
	raw, err := l.SyscallConn()
	if err != nil {
		return err
	}
	second := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 1}
	return onSocket(raw, func(fd int) error {
		return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF, &unix.SockFprog{Len: 1, Filter: &second})
	})
}

func onSocket(raw syscall.RawConn, do func(fd int) error) error {
	var done error
	err := raw.Control(func(fd uintptr) { done = do(int(fd)) }) // #nosec G115 -- a descriptor
	return errors.Join(err, done)
}

// otherFamilies listens at a port's addresses of the families in which no proxy
// does: an engine without IPv6 has none for that. It is no loss where that fails,
// on a machine without it.
func otherFamilies(ctx context.Context, port uint16, ours []*net.TCPListener) []*net.TCPListener {
	var more []*net.TCPListener
	for _, host := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		if listensIn(ours, host) {
			continue
		}
		if l, err := listenShared(ctx, networkOf(host), netip.AddrPortFrom(host, port).String()); err == nil {
			more = append(more, l)
		}
	}
	return more
}
