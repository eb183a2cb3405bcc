package docker

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"
	"time"
)

// framed is one message as the engine sends it: a header of the stream (1, 2) and
// the length, and the message.
func framed(stream byte, text string) string {
	var head [8]byte
	head[0] = stream
	binary.BigEndian.PutUint32(head[4:], uint32(len(text)))
	return string(head[:]) + text
}

const (
	stampA = "2026-01-02T03:04:05.000000001Z "
	stampB = "2026-01-02T03:04:06.5Z "
)

func TestSplitLog(t *testing.T) {
	long := strings.Repeat("x", longestLine+100)
	cases := map[string]struct {
		tty   bool
		input string
		since time.Time
		most  int // lines wanted; 0: all
		want  []string
	}{
		"two streams":             {input: framed(1, stampA+"one\n") + framed(2, stampB+"two\n"), want: []string{"1:one", "6:two"}},
		"parts of a long line":    {input: framed(1, stampA+"be") + framed(2, stampB+"x\n") + framed(1, stampB+"gun\n"), want: []string{"6:x", "1:begun"}},
		"no end of the last line": {input: framed(1, stampA+"last"), want: []string{"1:last"}},
		"an empty line":           {input: framed(1, stampA+"\n"), want: []string{"1:"}},
		"a terminal's":            {tty: true, input: stampA + "one\r\n" + stampB + "two\r\n", want: []string{"1:one", "6:two"}},
		"before since":            {input: framed(1, stampA+"old\n") + framed(1, stampB+"new\n"), since: time.Date(2026, 1, 2, 3, 4, 6, 0, time.UTC), want: []string{"6:new"}},
		"enough":                  {input: framed(1, stampA+"one\n") + framed(1, stampB+"two\n"), most: 1, want: []string{"1:one"}},
		"too long":                {input: framed(1, stampA+long+"\n"), want: []string{"1:" + long[:longestLine-len(stampA)]}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var got []string
			err := splitLog(t.Context(), c.tty, bytes.NewReader([]byte(c.input)), c.since, func(at time.Time, text []byte) bool {
				mark := "6:"
				if at.Nanosecond() == 1 {
					mark = "1:"
				}
				got = append(got, mark+string(text))
				return len(got) != c.most
			})
			if err != nil || !slices.Equal(got, c.want) {
				t.Errorf("got %.200q, %v; want %.200q", got, err, c.want)
			}
		})
	}
}

// The reader of a log keeps a bounded line, however long the container's is.
func TestLineWriterIsBounded(t *testing.T) {
	w := &lineWriter{line: func(time.Time, []byte) bool { return true }}
	part := []byte(stampA + strings.Repeat("x", 16<<10))
	for range 1000 {
		if _, err := w.Write(part); err != nil {
			t.Fatal(err)
		}
	}
	if len(w.text) > longestLine || cap(w.text) > 4*longestLine {
		t.Errorf("%d bytes are kept in %d", len(w.text), cap(w.text))
	}
}

func TestBeginningKeepsTheFirstBytes(t *testing.T) {
	b := &beginning{room: 5}
	for _, s := range []string{"abc", "def", "ghi"} {
		if n, err := b.Write([]byte(s)); n != 3 || err != nil {
			t.Fatalf("Write: %d, %v", n, err)
		}
	}
	if got := string(b.bytes()); got != "abcde" {
		t.Errorf("kept %q", got)
	}
}
