package balance

import (
	"cmp"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
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
// nil, counts it and notes it. What comes in large pieces is spliced.
func (c *carriers) copy(dst, src *net.TCPConn, count *atomic.Uint64, notes notes) error {
	w := way{count: count, notes: notes, copier: copier{carriers: c}, splicer: splicer{pipes: &c.pipes}}
	var err error
	if w.from, err = src.SyscallConn(); err != nil {
		return err
	}
	if w.to, err = dst.SyscallConn(); err != nil {
		return err
	}
	read, write := w.copier.read, w.copier.write // made once, as the next two: each making allocates
	fill, empty := w.splicer.read, w.splicer.write
	for n := 0; ; {
		if n < bulk {
			n, err = w.copied(read, write)
		} else {
			n, err = w.spliced(fill, empty)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// bulk is the size of a piece, in bytes, from which on the next is spliced: below,
// copying is cheaper than the additional calls.
const bulk = 16 << 10

// way is one way of a connection.
type way struct {
	from, to syscall.RawConn
	count    *atomic.Uint64
	notes    notes
	copier   copier
	splicer  splicer
}

// notes is where the pieces of one way are noted.
type notes struct {
	*activity
	toClient bool
}

// write writes a piece that was read.
func (w *way) write(write func(uintptr) bool) error {
	piece := w.notes.begin(w.notes.toClient)
	defer w.notes.end(piece)
	return w.to.Write(write)
}

// copied carries one piece by a buffer, and returns its size.
func (w *way) copied(read, write func(uintptr) bool) (int, error) {
	c := &w.copier
	if err := w.from.Read(read); err != nil {
		return 0, err
	}
	if c.err != nil {
		return 0, c.err
	}
	err := w.write(write)
	w.count.Add(uint64(c.moved)) //nolint:gosec // never negative
	c.giveBack()
	return c.n, cmp.Or(err, c.err)
}

// copier copies what is in one socket to another. It has a buffer only while there
// is something in it.
type copier struct {
	carriers *carriers
	buf      *[bufferSize]byte // nil when nothing was read
	n        int               // bytes in the buffer
	moved    int               // bytes that were written
	err      error
}

// read is called when the source may be readable, and says whether something came
// of it.
func (c *copier) read(fd uintptr) bool {
	c.buf = c.carriers.buffers.Get().(*[bufferSize]byte)
	c.n, c.err = readOnce(int(fd), c.buf[:])
	c.moved = 0
	if c.n > 0 {
		return true
	}
	c.giveBack()
	if c.err == nil {
		c.err = io.EOF
	}
	return !errors.Is(c.err, syscall.EAGAIN)
}

// write is called when the destination may be writable, and says whether all is
// written, or the destination has failed.
func (c *copier) write(fd uintptr) bool {
	for c.moved < c.n {
		n, err := writeOnce(int(fd), c.buf[c.moved:c.n])
		if errors.Is(err, syscall.EAGAIN) {
			return false
		}
		if err != nil {
			c.err = err
			return true
		}
		c.moved += n
	}
	return true
}

func (c *copier) giveBack() {
	c.carriers.buffers.Put(c.buf)
	c.buf = nil
}
