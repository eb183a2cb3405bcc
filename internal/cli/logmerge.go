package cli

import (
	"bytes"
	"context"
	"io"
	"sync"
	"time"

	"github.com/berth-dev/berth/runtime"
)

// The bounds of a merge.
const (
	// mergeMost is how many logs are read at once, each over a connection of its
	// own; further containers follow after them.
	mergeMost = 256
	// mergeAhead is how many lines of a container are kept until it is their turn.
	mergeAhead = 16
	// engineLine is where the engine cuts a long line. It stamps each part (moby
	// daemon/logger/copier.go).
	engineLine = 16 << 10
	// longestStamp bounds a time stamp as the engine writes it, in bytes.
	longestStamp = len(time.RFC3339Nano)
)

// stamped is a line of a container's output.
type stamped struct {
	at    time.Time
	stamp string // at, as the engine wrote it
	text  []byte
}

// logSource is a container whose output is being read.
type logSource struct {
	name  string
	lines chan stamped // closed at the end
	err   error        // of reading; set before lines is closed
	next  stamped      // the first that has not been printed
}

// merge prints what containers have written in the order in which they wrote it.
// The lines of one container stay in their order, whatever its clock did. It
// returns the errors of those that could not be read.
func (l *logFollower) merge(ctx context.Context, list []runtime.Container) []error {
	var failed []error
	for len(list) > 0 && ctx.Err() == nil {
		n := min(len(list), mergeMost)
		failed = append(failed, l.mergeSome(ctx, list[:n])...)
		list = list[n:]
	}
	return failed
}

func (l *logFollower) mergeSome(ctx context.Context, list []runtime.Container) []error {
	work, cancel := context.WithCancel(ctx)
	var readers sync.WaitGroup
	defer readers.Wait()
	defer cancel()
	sources := make([]*logSource, len(list))
	for i := range list {
		s := &logSource{name: shortName(&list[i]), lines: make(chan stamped, mergeAhead)}
		sources[i] = s
		readers.Go(func() { l.fill(work, s, list[i].ID) })
	}
	if err := l.print(sources); err != nil {
		return []error{err}
	}
	var failed []error
	for _, s := range sources {
		if s.err != nil {
			failed = append(failed, s.err) // such as a log driver that cannot be read; the others can
		}
	}
	return failed
}

// print takes the oldest line of all until there are no more. Of equal times the
// source that comes first is first.
func (l *logFollower) print(sources []*logSource) error {
	var open []*logSource
	for _, s := range sources {
		if s.advance() {
			open = append(open, s)
		}
	}
	for len(open) > 0 {
		first := 0
		for i, s := range open {
			if s.next.at.Before(open[first].next.at) {
				first = i
			}
		}
		s := open[first]
		text := s.next.text
		if l.opts.Timestamps && s.next.stamp != "" {
			text = append([]byte(s.next.stamp+" "), text...)
		}
		if err := l.mux.line(l.mux.out, s.name, text); err != nil {
			return err
		}
		if !s.advance() {
			open = append(open[:first], open[first+1:]...)
		}
	}
	return nil
}

// advance waits for the next line; false: there is none.
func (s *logSource) advance() bool {
	before := s.next.at
	line, ok := <-s.lines
	if line.at.Before(before) {
		line.at = before // it stays behind the line before it
	}
	s.next = line
	return ok
}

// fill reads a container's output. One that is gone has none.
func (l *logFollower) fill(ctx context.Context, s *logSource, id string) {
	defer close(s.lines)
	opts := l.opts
	opts.Timestamps = true
	send := func(line stamped) error {
		select {
		case s.lines <- line:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	out, errw := &stampReader{line: send}, &stampReader{line: send}
	err := l.a.engine.Logs(ctx, id, opts, out, errw)
	for _, w := range []*stampReader{out, errw} {
		if ended := w.flush(); err == nil {
			err = ended
		}
	}
	if !runtime.IsNotFound(err) {
		s.err = err
	}
}

// stampReader cuts a stream with time stamps into lines. A stamp stands at the
// beginning of each line and of each part of a long one. Lines longer than
// [maxLogLine] are passed on in pieces.
type stampReader struct {
	line  func(stamped) error
	now   stamped // the line that has begun
	begun bool
	read  int    // bytes of the line so far
	head  []byte // what may be a stamp, and is not whole yet
	due   bool   // a stamp may follow: set at the beginning of a part
}

var _ io.Writer = (*stampReader)(nil)

// Write takes more of the stream.
func (w *stampReader) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		var err error
		switch {
		case !w.begun && !w.due:
			w.due = true
		case w.due:
			p = w.takeStamp(p)
		default:
			p, err = w.takeText(p)
		}
		if err != nil {
			return 0, err
		}
	}
	return n, nil
}

// takeStamp takes a stamp off p, as far as it is there. What is none is text.
func (w *stampReader) takeStamp(p []byte) []byte {
	room := longestStamp + 1 - len(w.head)
	i := bytes.IndexAny(p[:min(len(p), room)], " \n")
	if i < 0 && len(p) < room {
		w.head = append(w.head, p...)
		return nil
	}
	whole := p
	if len(w.head) > 0 {
		whole = append(w.head, p...)
	}
	at, stamp := cutStamp(whole)
	if !w.begun {
		w.now.at, w.now.stamp = at, stamp
	}
	w.head, w.due, w.begun = nil, false, true
	if stamp != "" {
		return whole[len(stamp)+1:]
	}
	return whole
}

// cutStamp is the stamp that p begins with; empty where it begins with none.
func cutStamp(p []byte) (at time.Time, stamp string) {
	i := bytes.IndexByte(p[:min(len(p), longestStamp+1)], ' ')
	if i < 0 {
		return time.Time{}, ""
	}
	at, err := time.Parse(time.RFC3339Nano, string(p[:i]))
	if err != nil {
		return time.Time{}, ""
	}
	return at, string(p[:i])
}

// takeText takes text off p up to the end of the line or of the engine's part.
func (w *stampReader) takeText(p []byte) ([]byte, error) {
	part := engineLine - w.read%engineLine
	if i := bytes.IndexByte(p, '\n'); i >= 0 && i <= part {
		w.now.text = append(w.now.text, p[:i]...)
		return p[i+1:], w.flush()
	}
	k := min(len(p), part)
	w.now.text = append(w.now.text, p[:k]...)
	w.read += k
	w.due = w.read%engineLine == 0
	if len(w.now.text) < maxLogLine {
		return p[k:], nil
	}
	piece := w.now
	w.now.text = nil
	return p[k:], w.line(piece)
}

// flush passes on what has begun.
func (w *stampReader) flush() error {
	line, begun := w.now, w.begun
	line.text = append(line.text, w.head...)
	pieces := w.read >= maxLogLine // the line was passed on in pieces already
	*w = stampReader{line: w.line}
	if !begun && len(line.text) == 0 || pieces && len(line.text) == 0 {
		return nil
	}
	return w.line(line)
}
