package cli

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/reconcile"
)

func TestSanitizeLog(t *testing.T) {
	tests := []struct {
		name, in, colors, plain string
	}{
		{"text", "plain\ttext", "plain\ttext", "plain\ttext"},
		{"unicode", "grüße 日本 🚢", "grüße 日本 🚢", "grüße 日本 🚢"},
		{"colour", "\x1b[1;31mred\x1b[0m", "\x1b[1;31mred\x1b[0m", "red"},
		{"colour with colons", "\x1b[38:2:1:2:3mx", "\x1b[38:2:1:2:3mx", "x"},
		{"cursor", "\x1b[2A\x1b[Kx", `\x1b[2A\x1b[Kx`, `\x1b[2A\x1b[Kx`},
		{"title", "\x1b]0;owned\x07", `\x1b]0;owned\x07`, `\x1b]0;owned\x07`},
		{"return", "a\rb", `a\rb`, `a\rb`},
		{"backspace and bell", "a\b\a", `a\x08\x07`, `a\x08\x07`},
		{"c1", "a\u009bb", `a\u009bb`, `a\u009bb`},
		{"bidi", "a\u202eb", `a\u202eb`, `a\u202eb`},
		{"not utf-8", "a\xffb", `a\xffb`, `a\xffb`},
		{"unfinished", "a\x1b[31", `a\x1b[31`, `a\x1b[31`},
		{"nul", "a\x00b", `a\x00b`, `a\x00b`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, _ := sanitizeLog(tt.in, true); got != tt.colors {
				t.Errorf("with colours %q, want %q", got, tt.colors)
			}
			if got, _ := sanitizeLog(tt.in, false); got != tt.plain {
				t.Errorf("without %q, want %q", got, tt.plain)
			}
		})
	}
}

func FuzzSanitizeLetsNoControlPass(f *testing.F) {
	f.Add("a\x1b[31mb\x1b[2Jc\r\n\x9b")
	f.Fuzz(func(t *testing.T, s string) {
		for _, r := range sanitize(s) {
			if r < ' ' && r != '\t' || r >= 0x7f && r < 0xa0 {
				t.Errorf("%q lets %q pass", s, r)
			}
		}
		got, _ := sanitizeLog(s, true)
		for i := strings.IndexByte(got, 0x1b); i >= 0; i = strings.IndexByte(got, 0x1b) {
			seq := sgr(got[i:])
			if seq == "" {
				t.Fatalf("%q lets %q pass", s, got[i:])
			}
			got = got[:i] + got[i+len(seq):]
		}
	})
}

func TestLogMuxAlignsAndNeverTearsLines(t *testing.T) {
	var out bytes.Buffer
	m := newLogMux(&out, &out, logMuxOptions{Prefix: true})
	web, _ := m.Writers("web-1")
	db, dbErr := m.Writers("database-1")
	for _, part := range []string{"a", "b\nc", "\r\n"} {
		if _, err := web.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
		if _, err := db.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := dbErr.Write([]byte("oops\n")); err != nil {
		t.Fatal(err)
	}
	m.Status("web-1", "exited with code 0")
	_ = db.Close()
	want := "web-1       | ab\nweb-1       | c\ndatabase-1  | oops\nweb-1 exited with code 0\ndatabase-1  | xxx\n"
	if out.String() != want {
		t.Errorf("got:\n%swant:\n%s", out.String(), want)
	}
}

func TestLogMuxBoundsALineWithoutEnd(t *testing.T) {
	var out bytes.Buffer
	m := newLogMux(&out, &out, logMuxOptions{})
	w, _ := m.Writers("web-1")
	for range 3 * maxLogLine / 1024 {
		if _, err := w.Write(bytes.Repeat([]byte("x"), 1024)); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Count(out.String(), "\n"); got != 3 {
		t.Errorf("%d lines, want 3", got)
	}
}

func TestLogMuxColours(t *testing.T) {
	var out bytes.Buffer
	m := newLogMux(&out, &out, logMuxOptions{Prefix: true, Color: true})
	w, _ := m.Writers("web-1")
	_, _ = w.Write([]byte("\x1b[31mred\nplain\n"))
	want := "\x1b[36mweb-1  | \x1b[0m\x1b[31mred\x1b[0m\n\x1b[36mweb-1  | \x1b[0mplain\n"
	if out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

type row struct {
	Name  string
	Count int
}

func testListing(array bool) *listing[row] {
	return &listing[row]{
		Array:  array,
		Titles: map[string]string{"Count": "HOW MANY"},
		Columns: []column[row]{
			{"NAME", func(r row) string { return r.Name }},
			{"HOW MANY", func(r row) string { return strings.Repeat("*", r.Count) }},
		},
	}
}

func TestListingFormats(t *testing.T) {
	rows := []row{{"web", 2}, {"a\x1b[2Jb", 1}}
	tests := []struct{ format, want string }{
		{"", "NAME        HOW MANY\nweb         **\na\\x1b[2Jb   *\n"},
		{"json", "{\"Name\":\"web\",\"Count\":2}\n{\"Name\":\"a\\u001b[2Jb\",\"Count\":1}\n"},
		{"{{.Name | upper}}:{{.Count}}", "WEB:2\nA\x1b[2JB:1\n"},
		{`table {{.Name}}\t{{.Count}}`, "NAME      HOW MANY\nweb       2\na\x1b[2Jb    1\n"},
	}
	for _, tt := range tests {
		var out bytes.Buffer
		if err := testListing(false).print(&out, tt.format, rows); err != nil {
			t.Errorf("%s: %v", tt.format, err)
		}
		if out.String() != tt.want {
			t.Errorf("%s:\n%q\nwant:\n%q", tt.format, out.String(), tt.want)
		}
	}
	var out bytes.Buffer
	if err := testListing(true).print(&out, "json", rows[:1]); err != nil || out.String() != "[{\"Name\":\"web\",\"Count\":2}]\n" {
		t.Errorf("array: %q, %v", out.String(), err)
	}
	for _, bad := range []string{"{{.Nope}}", "{{", "xml{{"} {
		if err := testListing(false).print(&out, bad, rows); err == nil || !strings.HasPrefix(err.Error(), "--format") {
			t.Errorf("%s: error %v", bad, err)
		}
	}
}

func TestPlainProgressPrintsChangesOnce(t *testing.T) {
	var out bytes.Buffer
	p := &plainProgress{w: &out, last: map[string]string{}}
	for _, e := range []progressEvent{
		{ID: "Container a", Text: "Creating"},
		{ID: "Container a", Text: "Creating"},
		{ID: "Container a", Text: "Created", State: progressDone},
		{ID: "layer", Parent: "Image x", Text: "Downloading", Current: 1, Total: 10},
		{ID: "layer", Parent: "Image x", Text: "Downloading", Current: 5, Total: 10},
		{ID: "Container b", Text: "Error", Detail: "port\r80 is taken", State: progressError},
		{ID: "Image y", Log: "step 1\x1b[2J"},
	} {
		p.Event(e)
	}
	want := " Container a  Creating\n Container a  Created\n Image x layer  Downloading\n Container b  Error  port\\r80 is taken\n Image y | step 1\\x1b[2J\n"
	if out.String() != want {
		t.Errorf("got:\n%swant:\n%s", out.String(), want)
	}
}

func TestJSONProgress(t *testing.T) {
	var out bytes.Buffer
	p := &jsonProgress{w: &out}
	p.Event(progressEvent{ID: "Image x", Text: "Pulling", Current: 5, Total: 10})
	want := `{"id":"Image x","status":"Working","text":"Pulling","current":5,"total":10,"percent":50}` + "\n"
	if out.String() != want {
		t.Errorf("got %s want %s", out.String(), want)
	}
}

func TestLivePicture(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	m := &liveModel{board: newBoard("Running"), width: 72, height: 10, now: now.Add(1500 * time.Millisecond)}
	m.board.apply(progressEvent{ID: "Container shop-db-1", Text: "Starting"}, now)
	m.board.apply(progressEvent{ID: "Container shop-db-1", Text: "Started", State: progressDone}, now.Add(300*time.Millisecond))
	m.board.apply(progressEvent{ID: "Container shop-web-1", Text: "Waiting", Detail: "for db to be healthy"}, now)
	m.board.apply(progressEvent{ID: "l1", Parent: "Image x", Text: "Downloading", Current: 1_500_000, Total: 3_000_000}, now)
	m.board.apply(progressEvent{ID: "Image x", Text: "Pulling"}, now)
	got := stripColours(m.render())
	want := "[+] Running 1/3\n" +
		" ✔ Container shop-db-1   Started                          0.3s\n" +
		" ⠋ Container shop-web-1  Waiting  for db to be healthy    1.5s\n" +
		" ⠋ Image x               Pulling  1.5MB / 3MB             1.5s\n"
	for _, line := range strings.Split(want, "\n") {
		if !strings.Contains(squeeze(got), squeeze(line)) {
			t.Errorf("the picture lacks %q:\n%s", line, got)
		}
	}
	for line := range strings.Lines(got) {
		if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > 72 {
			t.Errorf("line of %d columns on a terminal of 72: %q", n, line)
		}
	}
}

func TestLivePictureFitsTheTerminal(t *testing.T) {
	now := time.Now()
	m := &liveModel{board: newBoard("Running"), width: 40, height: 10, now: now}
	for i := range 30 {
		m.board.apply(progressEvent{ID: "Container " + strings.Repeat("x", i), Text: "Started", State: progressDone}, now)
	}
	m.board.apply(progressEvent{ID: "Container slow", Text: "Starting"}, now)
	got := stripColours(m.render())
	if n := strings.Count(got, "\n"); n > 10 {
		t.Errorf("%d lines on a terminal of 10", n)
	}
	if !strings.Contains(got, "Container slow") || !strings.Contains(got, "and 24 more") {
		t.Errorf("the picture hides what is at work:\n%s", got)
	}
}

func TestLiveProgressStopsAndLeavesThePicture(t *testing.T) {
	var out lockedBuffer
	p := newLiveProgress(&app{env: &Env{Err: &out, Environ: []string{"TERM=xterm"}}}, "Running")
	p.Stop() // nothing was shown, so nothing is drawn
	p = newLiveProgress(&app{env: &Env{Err: &out, Environ: []string{"TERM=xterm"}}}, "Running")
	showEvent(p, api.Event{Type: api.EventStep, Phase: "failed", Err: "no space", Step: &reconcile.Step{Op: reconcile.OpCreate, Key: "web/1", Name: "shop-web-1"}})
	p.Stop()
	p.Event(progressEvent{ID: "late", Text: "ignored"})
	p.Stop()
	if got := out.String(); !strings.Contains(got, "shop-web-1") || !strings.Contains(got, "no space") || strings.Contains(got, "late") {
		t.Errorf("left %q", got)
	}
}

func TestInParallelStopsAtTheFirstError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		why := &ExitError{Code: 9}
		err := inParallel(t.Context(), 2, []int{1, 2, 3, 4}, func(ctx context.Context, n int) error {
			if n == 2 {
				return why
			}
			<-ctx.Done()
			return nil
		})
		if err != why { //nolint:errorlint // the very error is meant
			t.Errorf("got %v", err)
		}
	})
}

func squeeze(s string) string { return strings.Join(strings.Fields(s), " ") }

func stripColours(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		if s[0] == 0x1b {
			if seq := sgr(s); seq != "" {
				s = s[len(seq):]
				continue
			}
		}
		b.WriteByte(s[0])
		s = s[1:]
	}
	return b.String()
}
