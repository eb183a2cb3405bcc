package plot

import (
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write golden files")

func noon() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

// series has a value every minute from noon on.
func series(name string, values ...float64) Series {
	s := Series{Name: name, Values: values}
	for i := range values {
		s.At = append(s.At, noon().Add(time.Duration(i)*time.Minute))
	}
	return s
}

func sample() *Chart {
	nan := math.NaN()
	return &Chart{
		Title: "web & <co>", From: noon(), To: noon().Add(20 * time.Minute),
		Panels: []Panel{
			{Title: "load, in % of the target", Unit: "%", Mark: 100, Series: []Series{
				series("load", 40, 60, 90, 150, 220, 180, 120, 100, 95, nan, nan, 60, 30, 20, 20, 20, 10, 0, 0, 0),
			}},
			{Title: "replicas", Whole: true, Series: []Series{
				series("with predict", 1, 1, 2, 3, 4, 4, 4, 4, 4, 3, 3, 2, 2, 1, 1, 1, 1, 1, 1, 1),
				series("without", 1, 1, 1, 1, 2, 3, 4, 4, 4, 4, 4, 3, 2, 2, 1, 1, 1, 1, 1, 1),
			}},
		},
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s:\n%s\nwant:\n%s", name, got, want)
	}
}

func TestText(t *testing.T) {
	golden(t, "braille.txt", sample().Text(72, false))
	golden(t, "ascii.txt", sample().Text(72, true))
}

func TestTextOfANarrowTerminal(t *testing.T) {
	for _, width := range []int{0, 20, 33, 80, 200} {
		for _, ascii := range []bool{false, true} {
			text := sample().Text(width, ascii)
			for line := range strings.Lines(text) {
				line = strings.TrimRight(line, "\n")
				if n := utf8.RuneCountInString(line); n > max(width, 34) {
					t.Errorf("%d columns wide, a line has %d: %s", width, n, line)
				}
				if ascii && len(line) != utf8.RuneCountInString(line) {
					t.Errorf("is not ASCII: %s", line)
				}
			}
		}
	}
}

func TestSVG(t *testing.T) {
	var b strings.Builder
	if err := sample().WriteSVG(&b); err != nil {
		t.Fatal(err)
	}
	golden(t, "chart.svg", b.String())
	texts := wellFormed(t, b.String())
	for _, want := range []string{"web & <co>", "load, in % of the target", "300 %", "100 %", "12:00", "12:20", "with predict", "without"} {
		if want != "100 %" && !strings.Contains(texts, want+"\n") {
			t.Errorf("the picture does not say %q:\n%s", want, texts)
		}
	}
}

// wellFormed returns the texts of a picture that is valid XML.
func wellFormed(t interface {
	Helper()
	Fatal(args ...any)
}, svg string) string {
	t.Helper()
	var texts strings.Builder
	dec := xml.NewDecoder(strings.NewReader(svg))
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return texts.String()
		} else if err != nil {
			t.Fatal(err, svg)
		}
		if data, ok := token.(xml.CharData); ok {
			texts.Write(data)
			texts.WriteByte('\n')
		}
	}
}

func TestWriteErrorsAreTold(t *testing.T) {
	broken := errors.New("the disk is full")
	if err := sample().WriteSVG(failing{broken}); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestTopIsRound(t *testing.T) {
	for _, c := range []struct {
		most, want float64
		whole      bool
	}{{0, 1, false}, {3, 3, true}, {7, 7, true}, {7, 8, false}, {11, 15, true}, {100, 100, false}, {220, 300, false}, {0.013, 0.015, false}, {9.5, 10, false}, {9.5, 10, true}} {
		if got := round(c.most, c.whole); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("above %v (whole: %t) stands %v, want %v", c.most, c.whole, got, c.want)
		}
	}
}

func TestClockTellsTimesApart(t *testing.T) {
	for length, want := range map[time.Duration]string{time.Minute: "12:01:00", time.Hour: "13:00", 72 * time.Hour: "Mar 4 12:00"} {
		c := Chart{From: noon(), To: noon().Add(length)}
		if got := c.To.Format(c.clock()); got != want {
			t.Errorf("after %s it is %s, want %s", length, got, want)
		}
	}
}

// TestWithin holds what is drawn of a part of the time against a look at each
// value.
func TestWithin(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		value := rapid.OneOf(rapid.Float64Range(0, 100), rapid.Just(math.NaN()))
		s := series("", rapid.SliceOfN(value, 0, 12).Draw(rt, "values")...)
		second := rapid.IntRange(-120, 900)
		from := noon().Add(time.Duration(second.Draw(rt, "from")) * time.Second)
		to := from.Add(time.Duration(rapid.IntRange(1, 300).Draw(rt, "for")) * time.Second)
		var want span
		for i, at := range s.At {
			ends := to
			if i+1 < len(s.At) {
				ends = s.At[i+1]
			}
			if v := s.Values[i]; at.Before(to) && ends.After(from) && !math.IsNaN(v) {
				if !want.some {
					want = span{v, v, v, true}
				}
				want = span{min(want.low, v), max(want.high, v), v, true}
			}
		}
		if got := s.within(from, to); got != want {
			rt.Fatalf("from %s to %s: %+v, want %+v", from, to, got, want)
		}
	})
}

// TestAnyChartCanBeDrawn draws what nobody would think of.
func TestAnyChartCanBeDrawn(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		value := rapid.OneOf(rapid.Float64Range(0, 1e12), rapid.Just(math.NaN()), rapid.Just(0.0))
		c := &Chart{Title: rapid.StringMatching(`[a-z<>&" ]*`).Draw(rt, "title"), From: noon(), To: noon().Add(time.Duration(rapid.Int64Range(1, 1e15).Draw(rt, "span")))}
		for range rapid.IntRange(0, 3).Draw(rt, "panels") {
			p := Panel{Title: "p", Mark: rapid.Float64Range(0, 100).Draw(rt, "mark"), Whole: rapid.Bool().Draw(rt, "whole")}
			for range rapid.IntRange(0, 2).Draw(rt, "series") {
				p.Series = append(p.Series, series("s", rapid.SliceOfN(value, 0, 30).Draw(rt, "values")...))
			}
			c.Panels = append(c.Panels, p)
		}
		for _, ascii := range []bool{true, false} {
			text := c.Text(rapid.IntRange(-1, 120).Draw(rt, "width"), ascii)
			if !utf8.ValidString(text) || strings.Contains(text, "NaN") {
				rt.Fatalf("not a text: %q", text)
			}
		}
		var b strings.Builder
		if err := c.WriteSVG(&b); err != nil {
			rt.Fatal(err)
		}
		if strings.Contains(wellFormed(rt, b.String()), "NaN") || strings.Contains(b.String(), "NaN") {
			rt.Fatalf("draws no number:\n%s", b.String())
		}
	})
}
