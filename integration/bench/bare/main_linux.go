// Command bare is the least that a relay outside the kernel can do, and so the most
// that one can carry: a single thread with one loop over epoll, which splices what is
// small as well as what is large. It has no features: no limits, no counters, no
// second try; whatever goes wrong ends it.
//
//	bare 127.0.0.1:8080 172.18.0.2:7000 172.18.0.3:7000
package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	goruntime "runtime"

	"golang.org/x/sys/unix"
)

const (
	pipeSize = 1 << 20 // bytes, that are asked for
	backlog  = 64      // connections that the kernel keeps until they are accepted
	// both ways in which a socket becomes ready, each told once.
	both = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLET
)

func main() {
	fmt.Fprintln(os.Stderr, "bare:", run(os.Args[1:])) // which ends by an error alone
	os.Exit(1)
}

// relay is the loop's state; all of it belongs to one thread.
type relay struct {
	epoll, listener int
	to              []unix.SockaddrInet4
	accepted        int
	ways            map[int]*way // by the socket that is read
}

// way is one way of a connection.
type way struct {
	from, to int
	r, w     int // its pipe
	held     int // bytes in the pipe
	back     *way
	ended    bool
}

func run(addresses []string) error {
	if len(addresses) < 2 {
		return errors.New("give the address to listen at, and those to carry to")
	}
	all := make([]unix.SockaddrInet4, len(addresses))
	for i, a := range addresses {
		ap, err := netip.ParseAddrPort(a)
		if err != nil || !ap.Addr().Is4() {
			return fmt.Errorf("%s: give an IPv4 address and a port: %w", a, err)
		}
		all[i] = unix.SockaddrInet4{Port: int(ap.Port()), Addr: ap.Addr().As4()}
	}
	r, err := listen(&all[0])
	if err != nil {
		return err
	}
	r.to = all[1:]
	goruntime.LockOSThread()
	return r.loop()
}

func listen(at *unix.SockaddrInet4) (*relay, error) {
	r := &relay{ways: map[int]*way{}}
	var err error
	if r.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, err
	}
	if r.listener, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return nil, err
	}
	if err := unix.SetsockoptInt(r.listener, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return nil, err
	}
	if err := unix.Bind(r.listener, at); err != nil {
		return nil, err
	}
	if err := unix.Listen(r.listener, backlog); err != nil {
		return nil, err
	}
	return r, r.watch(r.listener, unix.EPOLLIN)
}

func (r *relay) watch(fd int, events uint32) error {
	return unix.EpollCtl(r.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)}) //nolint:gosec // a descriptor
}

func (r *relay) loop() error {
	events := make([]unix.EpollEvent, 64)
	for {
		n, err := unix.EpollWait(r.epoll, events, -1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		for _, e := range events[:max(n, 0)] {
			if int(e.Fd) == r.listener {
				if err := r.accept(); err != nil {
					return err
				}
				continue
			}
			r.ready(r.ways[int(e.Fd)], e.Events)
		}
	}
}

// ready carries what an event allows, and closes a connection both ways of which
// have ended.
func (r *relay) ready(w *way, events uint32) {
	if w == nil {
		return // its connection was closed by an event before
	}
	if events&^unix.EPOLLOUT != 0 {
		w.move()
	}
	if events&^unix.EPOLLIN != 0 && w.back.held > 0 {
		w.back.move()
	}
	if !w.ended || !w.back.ended {
		return
	}
	for _, w := range []*way{w, w.back} {
		delete(r.ways, w.from)
		for _, fd := range []int{w.from, w.r, w.w} {
			_ = unix.Close(fd)
		}
	}
}

// move carries one way as far as it goes now.
func (w *way) move() {
	for !w.ended {
		if w.held == 0 {
			n, err := splice(w.from, w.w, pipeSize)
			if errors.Is(err, unix.EAGAIN) {
				return
			}
			if n == 0 || err != nil {
				w.ended = true
				_ = unix.Shutdown(w.to, unix.SHUT_WR)
				return
			}
			w.held = n
		}
		n, err := splice(w.r, w.to, w.held)
		if errors.Is(err, unix.EAGAIN) {
			return
		}
		w.ended = err != nil
		w.held -= n
	}
}

// splice makes its call without Go's scheduler, as one in C would.
func splice(from, to, most int) (int, error) {
	n, _, err := unix.RawSyscall6(unix.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(most), unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
	if err != 0 {
		return 0, err
	}
	return int(n), nil
}

// accept connects the next client to the next server.
func (r *relay) accept() error {
	client, _, err := unix.Accept4(r.listener, unix.SOCK_CLOEXEC)
	if err != nil {
		return err
	}
	server, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := unix.Connect(server, &r.to[r.accepted%len(r.to)]); err != nil {
		return err
	}
	r.accepted++
	up, err := newWay(client, server)
	if err != nil {
		return err
	}
	down, err := newWay(server, client)
	if err != nil {
		return err
	}
	up.back, down.back = down, up
	r.ways[client], r.ways[server] = up, down
	return errors.Join(r.watch(client, both), r.watch(server, both))
}

func newWay(from, to int) (*way, error) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, err
	}
	_, _ = unix.FcntlInt(uintptr(pipe[0]), unix.F_SETPIPE_SZ, pipeSize) // else it is smaller
	w := &way{from: from, to: to, r: pipe[0], w: pipe[1]}
	return w, errors.Join(unix.SetNonblock(from, true), unix.SetsockoptInt(from, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1))
}
