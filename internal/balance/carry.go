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
// nil, and counts it. What comes in large pieces is spliced.
// note is called after each piece.
func (c *carriers) copy(dst, src *net.TCPConn, count *atomic.Uint64, note func()) error {
	w := way{dst: dst, count: count, reader: reader{carriers: c}, splicer: splicer{pipes: &c.pipes}}
	var err error
	if w.from, err = src.SyscallConn(); err != nil {
		return err
	}
	if w.to, err = dst.SyscallConn(); err != nil {
		return err
	}
	read, splice, write := w.reader.read, w.splicer.read, w.splicer.write // made once: each making allocates
	for n := 0; ; {
		if n < bulk {
			n, err = w.buffered(read)
		} else {
			n, err = w.spliced(splice, write)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		note()
	}
}

// bulk is the size of a piece, in bytes, from which on the next is spliced: below,
// copying is cheaper than the additional calls.
const bulk = 16 << 10

// way is one way of a connection.
type way struct {
	dst      *net.TCPConn
	from, to syscall.RawConn
	count    *atomic.Uint64
	reader   reader
	splicer  splicer
}

// buffered carries one piece by a buffer, and returns its size.
func (w *way) buffered(read func(uintptr) bool) (int, error) {
	if err := w.from.Read(read); err != nil {
		return 0, err
	}
	if w.reader.err != nil {
		return 0, w.reader.err
	}
	n, err := w.dst.Write(w.reader.buf[:w.reader.n])
	w.count.Add(uint64(n)) //nolint:gosec // never negative
	w.reader.giveBack()
	return n, err
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
