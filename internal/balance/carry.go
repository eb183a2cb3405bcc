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
	from, err := src.SyscallConn()
	if err != nil {
		return err
	}
	r := reader{carriers: c}
	read := r.read // made once: each making allocates
	for {
		if err := from.Read(read); err != nil {
			return err
		}
		if errors.Is(r.err, io.EOF) {
			return nil
		}
		if r.err != nil {
			return r.err
		}
		n, err := dst.Write(r.buf[:r.n])
		count.Add(uint64(n))
		r.giveBack()
		if err != nil {
			return err
		}
	}
}

// reader reads from a socket, into a buffer that it takes only when there is
// something to read.
type reader struct {
	carriers *carriers
	buf      *[bufferSize]byte // nil when nothing was read
	n        int
	err      error
}

// read is called when the socket may be readable, and says whether something came
// of it.
func (r *reader) read(fd uintptr) bool {
	r.buf = r.carriers.buffers.Get().(*[bufferSize]byte)
	r.n, r.err = readOnce(int(fd), r.buf[:])
	if r.n > 0 {
		return true
	}
	r.giveBack()
	if r.err == nil {
		r.err = io.EOF
	}
	return !errors.Is(r.err, syscall.EAGAIN)
}

func (r *reader) giveBack() {
	r.carriers.buffers.Put(r.buf)
	r.buf = nil
}

func readOnce(fd int, p []byte) (int, error) {
	for {
		n, err := unix.Read(fd, p)
		if !errors.Is(err, syscall.EINTR) {
			return max(n, 0), err
		}
	}
}
