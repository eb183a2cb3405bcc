package balance

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// bufferSize is how much is read at once: what a full socket on the loopback
// holds in one segment.
const bufferSize = 64 << 10

// carriers are what bytes are carried in. A connection has one only while it has
// bytes in hand, so there are as many as connections are busy at once.
type carriers struct {
	buffers sync.Pool // of *[bufferSize]byte
	pipes   pipes
}

func newCarriers() carriers {
	return carriers{buffers: sync.Pool{New: func() any { return new([bufferSize]byte) }}, pipes: newPipes()}
}

func (c *carriers) close() { c.pipes.close() }

// copy carries what comes from src to dst until src's end, for which it returns
// nil, and counts it.
func (c *carriers) copy(dst, src *net.TCPConn, count *atomic.Uint64) error {
	s := stream{carriers: c, dst: dst, count: count}
	from, err := src.SyscallConn()
	if err != nil {
		return err
	}
	read := s.read // made once: each making allocates
	for {
		if err := from.Read(read); err != nil {
			return err
		}
		if err := s.write(); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}

// stream is one way of a connection.
type stream struct {
	carriers *carriers
	dst      *net.TCPConn
	count    *atomic.Uint64

	buf *[bufferSize]byte // what was read, while it is not written
	n   int
	err error
}

// read is called when src may be readable. It takes a buffer only then, and gives
// it back before src is waited for.
func (s *stream) read(fd uintptr) bool {
	s.buf = s.carriers.buffers.Get().(*[bufferSize]byte)
	s.n, s.err = readOnce(int(fd), s.buf[:])
	if s.n > 0 {
		return true
	}
	s.giveBack()
	if s.err == nil {
		s.err = io.EOF
	}
	return !errors.Is(s.err, syscall.EAGAIN)
}

func (s *stream) giveBack() {
	s.carriers.buffers.Put(s.buf)
	s.buf = nil
}

func (s *stream) write() error {
	if s.buf == nil {
		return s.err
	}
	n, err := s.dst.Write(s.buf[:s.n])
	s.count.Add(uint64(n))
	s.giveBack()
	return err
}

func readOnce(fd int, p []byte) (int, error) {
	for {
		n, err := unix.Read(fd, p)
		if !errors.Is(err, syscall.EINTR) {
			return max(n, 0), err
		}
	}
}
