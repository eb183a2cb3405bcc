package balance

import (
	"cmp"
	"errors"
	"io"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// pipesMost bounds the pipes in use at once: each takes two descriptors. With
	// pipeSize it is what a user without privileges has of the kernel
	// (pipe-user-pages-soft of pipe(7)). Further connections copy by buffers.
	pipesMost = 64
	// pipesKept is how many are kept for the next use.
	pipesKept = 16
	// pipeSize is asked for, in bytes: the most that a process without privileges
	// may have (pipe-max-size). A stream takes half the processor time by it that it
	// takes by 64 KiB, or by buffers.
	pipeSize = 1 << 20
)

// pipes are what bytes are spliced through: they go from socket to socket without
// being copied.
type pipes struct {
	free chan pipe
	used *atomic.Int64
}

// pipe is one of them; the zero value is none.
type pipe struct{ r, w int }

func newPipes() pipes { return pipes{free: make(chan pipe, pipesKept), used: new(atomic.Int64)} }

// close closes the pipes that are kept. None is in use any more.
func (p *pipes) close() {
	for {
		select {
		case one := <-p.free:
			one.close()
		default:
			return
		}
	}
}

func (p pipe) close() { _, _ = unix.Close(p.r), unix.Close(p.w) }

// take returns an empty pipe; not ok when there are enough in use.
func (p *pipes) take() (one pipe, ok bool) {
	if p.used.Add(1) > pipesMost {
		p.used.Add(-1)
		return pipe{}, false
	}
	select {
	case one = <-p.free:
		return one, true
	default:
	}
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		p.used.Add(-1)
		return pipe{}, false
	}
	_, _ = unix.FcntlInt(uintptr(fds[0]), unix.F_SETPIPE_SZ, pipeSize) // else it is smaller
	return pipe{r: fds[0], w: fds[1]}, true
}

// give takes a pipe back. One that is not empty is of no further use.
func (p *pipes) give(one pipe, empty bool) {
	p.used.Add(-1)
	if !empty {
		one.close()
		return
	}
	select {
	case p.free <- one:
	default:
		one.close()
	}
}

// splicer moves what is in one socket to another. Like a [copier] it has a pipe only
// while there is something in it.
type splicer struct {
	pipes *pipes
	pipe  pipe
	n     int // bytes in the pipe
	moved int // bytes that have left it
	err   error
}

// errNoPipe says that bytes are to be copied instead.
var errNoPipe = errors.New("no pipe is free")

// read is called when the source may be readable.
func (s *splicer) read(fd uintptr) bool {
	var ok bool
	if s.pipe, ok = s.pipes.take(); !ok {
		s.n, s.err = 0, errNoPipe
		return true
	}
	s.n, s.err = splice(int(fd), s.pipe.w, pipeSize)
	s.moved = 0
	if s.n == 0 {
		s.pipes.give(s.pipe, true)
	}
	return !errors.Is(s.err, syscall.EAGAIN)
}

// write is called when the destination may be writable, and says whether the pipe is
// empty, or the destination has failed.
func (s *splicer) write(fd uintptr) bool {
	for s.moved < s.n {
		n, err := splice(s.pipe.r, int(fd), s.n-s.moved)
		if errors.Is(err, syscall.EAGAIN) {
			return false
		}
		if err != nil {
			s.err = err
			return true
		}
		s.moved += n
	}
	return true
}

// spliced carries one piece by a pipe, and returns its size; 0 when the next is to
// be copied.
func (w *way) spliced(fill, empty func(uintptr) bool) (int, error) {
	s := &w.splicer
	if err := w.from.Read(fill); err != nil {
		return 0, err
	}
	switch {
	case errors.Is(s.err, errNoPipe), errors.Is(s.err, syscall.EINVAL): // none was taken, or it cannot be done
		return 0, nil
	case s.err != nil:
		return 0, s.err
	case s.n == 0:
		return 0, io.EOF
	}
	err := w.write(empty)
	w.count.Add(uint64(s.moved)) //nolint:gosec // never negative
	s.pipes.give(s.pipe, s.moved == s.n)
	return s.n, cmp.Or(err, s.err)
}
