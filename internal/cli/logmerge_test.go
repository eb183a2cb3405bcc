package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/runtime/fake"
)

// What containers have written comes out in the order in which they wrote it.
func TestLogsMergesByTime(t *testing.T) {
	readBubble(t, func(t *testing.T, b *bench) {
		b.start("web", 1, "print", "one", "sleep:2s", "three", "err:four", "sleep:2s", "six")
		time.Sleep(time.Second)
		b.start("db", 1, "print", "two", "sleep:2s", "five", "sleep:2s", "seven")
		time.Sleep(time.Minute)
		if code := b.run("logs"); code != 0 {
			t.Fatalf("exit code %d: %s", code, b.err.String())
		}
		b.wantOut("web-1  | one\ndb-1   | two\nweb-1  | three\nweb-1  | four\ndb-1   | five\nweb-1  | six\ndb-1   | seven\n")
		b.reset()
		if code := b.run("logs", "-t", "--tail", "1"); code != 0 {
			t.Fatalf("exit code %d: %s", code, b.err.String())
		}
		b.wantOut("web-1  | 2000-01-01T00:00:04Z six\ndb-1   | 2000-01-01T00:00:05Z seven\n")
	})
}

// A log that cannot be read is named; the others are shown.
func TestLogsShowsWhatCanBeRead(t *testing.T) {
	readBubble(t, func(t *testing.T, b *bench) {
		b.finish("db", 1, "print", "two")
		b.finish("web", 1, "print", "one")
		b.engine.Inject(fake.Fault{Op: "logs", Object: "shop-web-1", Times: 1, Kind: runtime.KindUnavailable, Err: errors.New("no such driver")})
		if code := b.run("logs"); code != 1 {
			t.Errorf("exit code %d", code)
		}
		b.wantOut("db-1   | two\n")
		if !strings.Contains(b.err.String(), "no such driver") {
			t.Errorf("standard error: %s", b.err.String())
		}
	})
}

// engineLog is what the engine sends of lines, in writes of its own: each part of
// a long line with a stamp. With raw it is one stream, without borders.
func engineLog(lines []stamped, raw bool) [][]byte {
	var writes [][]byte
	for _, l := range lines {
		text := append(bytes.Clone(l.text), '\n')
		for {
			n := len(text)
			if n > engineLine+1 || n > engineLine && text[engineLine] != '\n' {
				n = engineLine
			}
			writes = append(writes, append([]byte(l.stamp+" "), text[:n]...))
			if text = text[n:]; len(text) == 0 {
				break
			}
		}
	}
	if raw {
		return [][]byte{bytes.Join(writes, nil)}
	}
	return writes
}

// cut divides writes anew, as a network does with what has no borders.
func cut(t *rapid.T, writes [][]byte) [][]byte {
	var out [][]byte
	for _, w := range writes {
		for len(w) > 0 {
			n := rapid.IntRange(1, len(w)).Draw(t, "write")
			out, w = append(out, w[:n]), w[n:]
		}
	}
	return out
}

// However the engine's stream is divided, the lines come out as they were written.
func TestStampReader(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	rapid.Check(t, func(t *rapid.T) {
		var lines []stamped
		for i := range rapid.IntRange(0, 6).Draw(t, "lines") {
			size := rapid.SampledFrom([]int{0, 1, 30, 40, engineLine - 1, engineLine, engineLine + 1, 2 * engineLine, maxLogLine - 1, maxLogLine, maxLogLine + 7}).Draw(t, "size")
			when := at.Add(time.Duration(i) * 1001 * time.Millisecond)
			text := bytes.Repeat([]byte{byte('a' + i)}, size)
			if size == 40 {
				text = []byte("2020-01-01T00:00:00Z is a time as well")
			}
			lines = append(lines, stamped{when, when.Format(time.RFC3339Nano), text})
		}
		raw := rapid.Bool().Draw(t, "raw")
		var got []stamped
		r := &stampReader{line: func(s stamped) error {
			if n := len(got); n > 0 && got[n-1].at.Equal(s.at) { // a further piece
				got[n-1].text = append(got[n-1].text, s.text...)
			} else {
				got = append(got, s)
			}
			return nil
		}}
		for _, p := range cut(t, engineLog(lines, raw)) {
			if n, err := r.Write(p); n != len(p) || err != nil {
				t.Fatalf("Write: %d of %d, %v", n, len(p), err)
			}
		}
		if err := r.flush(); err != nil {
			t.Fatal(err)
		}
		if len(got) != len(lines) {
			t.Fatalf("%d lines of %d", len(got), len(lines))
		}
		for i := range got {
			if !got[i].at.Equal(lines[i].at) || got[i].stamp != lines[i].stamp || !bytes.Equal(got[i].text, lines[i].text) {
				t.Fatalf("line %d: %s %.50q (%d), want %s %.50q (%d)", i, got[i].stamp, got[i].text, len(got[i].text), lines[i].stamp, lines[i].text, len(lines[i].text))
			}
		}
	})
}

// What holds no stamps, and what ends without a line's end, is shown as it is, in
// pieces where it is too long.
func TestStampReaderKeepsWhatIsOdd(t *testing.T) {
	for name, c := range map[string]struct {
		in   string
		want []string
	}{
		"nothing":        {"", nil},
		"no stamps":      {"one\n\ntwo words\n", []string{"|one", "|", "|two words"}},
		"no end":         {"2026-01-02T03:04:05Z one", []string{"2026-01-02T03:04:05Z|one"}},
		"half a stamp":   {"2026-01-02T03", []string{"|2026-01-02T03"}},
		"empty line":     {"2026-01-02T03:04:05.5Z \n", []string{"2026-01-02T03:04:05.5Z|"}},
		"another zone":   {"2026-01-02T03:04:05.123456789+02:00 x\n", []string{"2026-01-02T03:04:05.123456789+02:00|x"}},
		"no time at all": {"2026-13-02T03:04:05Z x\n", []string{"|2026-13-02T03:04:05Z x"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			r := &stampReader{line: func(s stamped) error { got = append(got, s.stamp+"|"+string(s.text)); return nil }}
			for _, b := range []byte(c.in) {
				if _, err := r.Write([]byte{b}); err != nil {
					t.Fatal(err)
				}
			}
			if err := r.flush(); err != nil {
				t.Fatal(err)
			}
			if fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

// A container whose clock was set back keeps its own order, and holds up nobody.
func TestMergeKeepsTheOrderOfAContainer(t *testing.T) {
	var out bytes.Buffer
	l := &logFollower{mux: newLogMux(&out, &out, logMuxOptions{Prefix: true})}
	source := func(name string, seconds ...int) *logSource {
		l.mux.Register(name)
		s := &logSource{name: name, lines: make(chan stamped, len(seconds))}
		for _, n := range seconds {
			s.lines <- stamped{at: time.Unix(int64(n), 0), text: fmt.Append(nil, n)}
		}
		close(s.lines)
		return s
	}
	if err := l.print([]*logSource{source("a", 1, 9, 2, 3), source("b", 4, 9, 10), source("c")}); err != nil {
		t.Fatal(err)
	}
	if want := "a  | 1\nb  | 4\na  | 9\na  | 2\na  | 3\nb  | 9\nb  | 10\n"; out.String() != want {
		t.Errorf("%s\nwant\n%s", &out, want)
	}
}

// A reader that goes away ends every log that is being read.
func TestMergeEndsWithItsReader(t *testing.T) {
	b := readBench(t)
	for i := range 3 {
		b.finish("web", i+1, "print", strings.Repeat("x\n", 200))
	}
	gone := errors.New("the pipe is closed")
	l := &logFollower{a: &app{engine: b.engine}, mux: newLogMux(failing{gone}, failing{gone}, logMuxOptions{}), opts: runtime.LogOptions{Tail: -1, Stdout: true, Stderr: true}}
	list, err := b.engine.List(t.Context(), runtime.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	if failed := l.merge(t.Context(), list); len(failed) != 1 || !errors.Is(failed[0], gone) {
		t.Errorf("%v", failed)
	}
}

// failing takes nothing.
type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func FuzzStampReader(f *testing.F) {
	f.Add([]byte("2026-01-02T03:04:05Z one\ntwo"), uint8(3))
	f.Add(bytes.Repeat([]byte("x"), engineLine), uint8(200))
	f.Fuzz(func(t *testing.T, in []byte, step uint8) {
		var size, stamps int
		r := &stampReader{line: func(s stamped) error {
			size += len(s.text)
			if s.stamp != "" {
				stamps += len(s.stamp) + 1
			}
			return nil
		}}
		for p := in; len(p) > 0; {
			n := min(len(p), int(step)+1)
			if _, err := r.Write(p[:n]); err != nil {
				t.Fatal(err)
			}
			p = p[n:]
		}
		_ = r.flush() // it never fails here
		ends := bytes.Count(in, []byte("\n"))
		if size+ends > len(in) || len(in) < engineLine && size+stamps+ends < len(in) {
			t.Errorf("%d bytes of text, %d of stamps and %d ends of %d bytes", size, stamps, ends, len(in))
		}
	})
}

// BenchmarkMerge prints lines of ten containers in the order of their times.
func BenchmarkMerge(b *testing.B) {
	const containers = 10
	line := []byte("2026-01-02T03:04:05.123456789Z " + strings.Repeat("x", 100) + "\n")
	b.SetBytes(int64(len(line)) * containers)
	l := &logFollower{mux: newLogMux(io.Discard, io.Discard, logMuxOptions{Prefix: true})}
	sources := make([]*logSource, containers)
	for i := range sources {
		s := &logSource{name: fmt.Sprint("web-", i), lines: make(chan stamped, mergeAhead)}
		sources[i] = s
		go func() {
			defer close(s.lines)
			r := &stampReader{line: func(l stamped) error { s.lines <- l; return nil }}
			for range b.N {
				_, _ = r.Write(line) // the channel takes everything
			}
		}()
	}
	if err := l.print(sources); err != nil {
		b.Fatal(err)
	}
}
