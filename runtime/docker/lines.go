package docker

import (
	"bytes"
	"context"
	"errors"
	"io"
	"time"

	"github.com/docker/docker/api/types/container"
)

// longestLine is how much of a line is kept, in bytes; the rest is dropped.
const longestLine = 64 << 10

// errEnough ends the reading of a log whose reader has seen enough.
var errEnough = errors.New("enough")

// ReadLines calls line with each line that a container wrote at or after since,
// by the engine's clock, until line returns false, there are no more, or ctx
// ends. at is when the line began. The text has no line end, is cut at 64 KiB and
// valid during the call. Without a TTY the lines of the two streams are kept
// apart; with one, a line of more than 16 KiB may hold the engine's own time
// stamps, which cannot be told from its text.
func (e *Engine) ReadLines(ctx context.Context, id string, since time.Time, line func(at time.Time, text []byte) bool) error {
	const op = "read the log of"
	c, err := e.inspect(ctx, op, id)
	if err != nil {
		return err
	}
	ctx, opened, cancel := e.opening(ctx)
	defer cancel()
	body, err := e.api().ContainerLogs(ctx, id, container.LogsOptions{
		ShowStdout: true, ShowStderr: true, Timestamps: true, Since: timestamp(since), Tail: "all",
	})
	if err := opened(err); err != nil {
		return e.fail(op, c.Name, err)
	}
	defer func() { _ = body.Close() }() // it served
	err = splitLog(ctx, c.TTY, body, since, line)
	return e.fail(op, c.Name, err)
}

// splitLog calls line with the lines of a log with time stamps.
func splitLog(ctx context.Context, tty bool, r io.Reader, since time.Time, line func(time.Time, []byte) bool) error {
	one, two := &lineWriter{since: since, line: line}, &lineWriter{since: since, line: line}
	one.raw = tty
	err := demux(ctx, tty, r, one, two)
	if err == nil {
		err = errors.Join(one.flush(), two.flush())
	}
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// lineWriter puts lines together. What it is given begins with a time stamp at
// each line, and, unless it is raw, at each write: the engine sends a long line
// in parts, and stamps each.
type lineWriter struct {
	raw   bool
	since time.Time
	line  func(at time.Time, text []byte) bool
	text  []byte
	at    time.Time
	begun bool // text is the beginning of a line, stamped at
}

func (w *lineWriter) Write(p []byte) (int, error) {
	n := len(p)
	if w.begun && !w.raw {
		_, p = cutStamp(p)
	}
	for len(p) > 0 {
		part, rest, whole := bytes.Cut(p, []byte("\n"))
		w.text = append(w.text, part[:min(len(part), max(0, longestLine-len(w.text)))]...)
		w.begun = true
		if p = rest; !whole {
			break
		}
		if err := w.flush(); err != nil {
			return 0, err
		}
	}
	w.stamp()
	return n, nil
}

// stamp takes the time off a line that was only begun, so that the stamps of its
// other parts can be taken off as well.
func (w *lineWriter) stamp() {
	if w.raw || !w.begun || !w.at.IsZero() {
		return
	}
	w.at, w.text = cutStamp(w.text)
}

// flush passes a line on.
func (w *lineWriter) flush() error {
	if !w.begun {
		return nil
	}
	at, text := w.at, w.text
	if at.IsZero() {
		at, text = cutStamp(text)
	}
	w.text, w.at, w.begun = w.text[:0], time.Time{}, false
	if at.Before(w.since) {
		return nil
	}
	if !w.line(at, bytes.TrimSuffix(text, []byte("\r"))) {
		return errEnough
	}
	return nil
}

// cutStamp takes the time off the beginning of a line; zero and the whole line
// where there is none.
func cutStamp(p []byte) (time.Time, []byte) {
	stamp, text, ok := bytes.Cut(p, []byte(" "))
	if !ok || len(stamp) > len(time.RFC3339Nano)+5 {
		return time.Time{}, p
	}
	at, err := time.Parse(time.RFC3339Nano, string(stamp))
	if err != nil {
		return time.Time{}, p
	}
	return at, text
}
