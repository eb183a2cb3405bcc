package inside

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	goruntime "runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Dial connects to a TCP address from within the network namespace of a process
// of a container; container is its whole ID. [ErrGone]: the process is not that
// container's. The connection's use is bounded by its own deadlines; connecting
// by ctx.
func Dial(ctx context.Context, container string, pid int, address string) (net.Conn, error) {
	to, err := target(address)
	if err != nil {
		return nil, err
	}
	fail := func(err error) error {
		return &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(to), Err: err}
	}
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if errors.Is(err, os.ErrNotExist) {
		return nil, ErrGone
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = ns.Close() }() // it served
	if !belongs(pid, container) {
		return nil, ErrGone // whose place another may have taken meanwhile
	}
	fd, err := socketIn(ns, to)
	if err != nil {
		return nil, err
	}
	conn, err := connect(ctx, fd, to)
	if err != nil {
		return nil, fail(err)
	}
	return conn, nil
}

// target reads host:port; localhost is the IPv4 loopback.
func target(address string) (netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(address)
	if err == nil && host == "localhost" {
		address = net.JoinHostPort("127.0.0.1", port)
	}
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return to, fmt.Errorf("%q is no address with a port: %w", address, err)
	}
	return netip.AddrPortFrom(to.Addr().Unmap(), to.Port()), nil
}

// socketIn makes a socket in a network namespace, where it stays whatever thread
// uses it.
func socketIn(ns *os.File, to netip.AddrPort) (int, error) {
	type made struct {
		fd  int
		err error
	}
	done := make(chan made, 1)
	go func() {
		// A thread that cannot return is never unlocked, and ends with the goroutine.
		goruntime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			goruntime.UnlockOSThread()
			done <- made{-1, err}
			return
		}
		defer func() { _ = home.Close() }() // it served
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			goruntime.UnlockOSThread()
			done <- made{-1, os.NewSyscallError("setns", err)}
			return
		}
		family := unix.AF_INET
		if to.Addr().Is6() {
			family = unix.AF_INET6
		}
		fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			goruntime.UnlockOSThread()
		}
		done <- made{fd, os.NewSyscallError("socket", err)}
	}()
	m := <-done
	return m.fd, m.err
}

// connect connects a socket, which it takes over, and keeps no thread waiting.
func connect(ctx context.Context, fd int, to netip.AddrPort) (net.Conn, error) {
	err := unix.Connect(fd, sockaddr(to))
	if err != nil && !errors.Is(err, unix.EINPROGRESS) {
		_ = unix.Close(fd) // never used
		return nil, os.NewSyscallError("connect", err)
	}
	f := os.NewFile(uintptr(fd), "socket")
	defer func() { _ = f.Close() }() // the connection has a copy of its own
	stop := context.AfterFunc(ctx, func() { _ = f.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	var failed error
	waiting := raw.Write(func(fd uintptr) bool {
		var done bool
		done, failed = connected(int(fd))
		return done
	})
	if err := errors.Join(failed, waiting); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, err
	}
	return net.FileConn(f)
}

// connected reports whether connecting has come to an end, and which.
func connected(fd int) (bool, error) {
	code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return true, os.NewSyscallError("getsockopt", err)
	}
	if errno := syscall.Errno(code); errno != 0 {
		return true, os.NewSyscallError("connect", errno)
	}
	_, err = unix.Getpeername(fd)
	return err == nil, nil
}

func sockaddr(to netip.AddrPort) unix.Sockaddr {
	if to.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
}
