package cli

import (
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/term"

	"github.com/berth-dev/berth/runtime"
)

// session connects the user's terminal, or pipe, to a process in a container.
type session struct {
	Streams runtime.Streams
	Resize  <-chan runtime.TTYSize // nil without a TTY
	close   func()
}

// Close gives the terminal back as it was. It may be called twice.
func (s *session) Close() { s.close() }

// openSession prepares the standard streams for a process in a container. With
// tty the terminal passes every key on, Ctrl-C too, and its size is told, now
// and whenever it changes. stdin: input is connected.
func (a *app) openSession(tty, stdin bool) (*session, error) {
	s := &session{Streams: runtime.Streams{Out: a.env.Out, Err: a.env.Err}, close: func() {}}
	if stdin {
		s.Streams.In = a.env.In
	}
	if !tty {
		return s, nil
	}
	s.Streams.Err = nil // a TTY has one stream
	stopSize := a.watchSize(s)
	s.close = stopSize
	f, ok := a.env.In.(*os.File)
	if !stdin || !ok || !isTerminal(f) {
		return s, nil
	}
	fd := int(f.Fd())
	state, err := term.MakeRaw(fd)
	if err != nil {
		stopSize()
		return nil, fmt.Errorf("switch the terminal to raw input: %w; use -T to run without a TTY", err)
	}
	var once sync.Once
	s.close = func() {
		once.Do(func() {
			stopSize()
			_ = term.Restore(fd, state) // nothing could be done about it
		})
	}
	return s, nil
}

// watchSize sends the terminal's size, now and when it changes.
func (a *app) watchSize(s *session) (stop func()) {
	sizes := make(chan runtime.TTYSize, 1)
	s.Resize = sizes
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, syscall.SIGWINCH)
	quit := make(chan struct{})
	var done sync.WaitGroup
	send := func() {
		w, h := terminalSize(a.env.Out)
		if w <= 0 || h <= 0 {
			return
		}
		select {
		case <-sizes: // an older size that nobody took
		default:
		}
		sizes <- runtime.TTYSize{Rows: uint(h), Cols: uint(w)}
	}
	send()
	done.Go(func() {
		for {
			select {
			case <-changed:
				send()
			case <-quit:
				return
			}
		}
	})
	var once sync.Once
	return func() {
		once.Do(func() {
			signal.Stop(changed)
			close(quit)
			done.Wait()
		})
	}
}
