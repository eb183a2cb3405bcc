package cli

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
)

// maxLogLine bounds a line that is held back until it is complete: a container
// that never ends a line is shown in pieces of this many bytes.
const maxLogLine = 64 << 10

// logMuxOptions say how lines are printed.
type logMuxOptions struct {
	Color  bool // of the prefixes, and colours of containers pass
	Prefix bool // "web-1  | " before each line
	// Raw lets everything pass that the container writes; only for a single
	// container without a prefix.
	Raw bool
}

// logMux prints the output of many containers interleaved line by line, each
// line behind its container's name, the names aligned and coloured. A line is
// never torn by another. What would control the terminal is escaped, except
// colours: a container cannot forge lines of another.
type logMux struct {
	opts logMuxOptions

	mu    sync.Mutex // protects all below, and the order of lines
	out   io.Writer
	err   io.Writer
	width int
	names map[string]string // colour by name
}

func newLogMux(out, errw io.Writer, opts logMuxOptions) *logMux {
	return &logMux{opts: opts, out: out, err: errw, names: make(map[string]string)}
}

// palette are the SGR codes of prefixes, in the order names appear.
func palette() []string {
	return []string{"36", "33", "32", "35", "34", "96", "93", "92", "95", "94"}
}

// Register makes name known, so that the prefixes align from the first line on.
func (m *logMux) Register(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.registerLocked(name)
}

func (m *logMux) registerLocked(name string) string {
	code, ok := m.names[name]
	if !ok {
		p := palette()
		code = p[len(m.names)%len(p)]
		m.names[name] = code
		m.width = max(m.width, len(name)+1)
	}
	return code
}

// Names returns the names that are known, sorted.
func (m *logMux) Names() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.names))
}

// Writers returns the writers of a container's two streams. Close prints what
// is left without a line's end; it never fails.
func (m *logMux) Writers(name string) (stdout, stderr io.WriteCloser) {
	m.Register(name)
	return &lineWriter{mux: m, name: name, to: m.out}, &lineWriter{mux: m, name: name, to: m.err}
}

// Status prints a line about a container, such as "web-1 exited with code 0".
func (m *logMux) Status(name, text string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	line := sanitize(name) + " " + sanitize(text)
	if m.opts.Color {
		line = paint(m.registerLocked(name), line)
	}
	_, _ = io.WriteString(m.out, line+"\n") // a closed terminal ends the command elsewhere
}

func (m *logMux) line(w io.Writer, name string, text []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var b strings.Builder
	if m.opts.Prefix {
		prefix := fmt.Sprintf("%-*s | ", m.width, sanitize(name))
		if m.opts.Color {
			prefix = paint(m.registerLocked(name), prefix)
		}
		b.WriteString(prefix)
	}
	if m.opts.Raw {
		b.Write(text)
	} else {
		s, coloured := sanitizeLog(strings.TrimSuffix(string(text), "\r"), m.opts.Color)
		b.WriteString(s)
		if coloured {
			b.WriteString("\x1b[0m")
		}
	}
	b.WriteByte('\n')
	_, err := io.WriteString(w, b.String())
	return err
}

func paint(code, s string) string { return "\x1b[" + code + "m" + s + "\x1b[0m" }

// lineWriter cuts a stream into lines.
type lineWriter struct {
	mux  *logMux
	name string
	to   io.Writer
	mu   sync.Mutex // protects buf
	buf  []byte
}

func (w *lineWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := len(p)
	for {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			break
		}
		line := p[:i]
		if len(w.buf) > 0 {
			line = append(w.buf, line...)
		}
		if err := w.mux.line(w.to, w.name, line); err != nil {
			return 0, err
		}
		w.buf, p = w.buf[:0], p[i+1:]
	}
	w.buf = append(w.buf, p...)
	for len(w.buf) >= maxLogLine {
		if err := w.mux.line(w.to, w.name, w.buf[:maxLogLine]); err != nil {
			return 0, err
		}
		w.buf = append(w.buf[:0], w.buf[maxLogLine:]...)
	}
	return n, nil
}

// Close prints what is left of an unfinished line.
func (w *lineWriter) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.buf) == 0 {
		return nil
	}
	err := w.mux.line(w.to, w.name, w.buf)
	w.buf = nil
	return err
}
