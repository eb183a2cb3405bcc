package meter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/berth-dev/berth/health"
	"github.com/berth-dev/berth/internal/stack"
)

const page = `# HELP jobs_waiting Jobs in the queue.
# TYPE jobs_waiting gauge
jobs_waiting{queue="mail",prio="high"} 3
jobs_waiting{queue="mail",prio="low"} 4.5
jobs_waiting{queue="video",prio="low"} 10 1700000000000
# TYPE jobs_done counter
jobs_done 12
# no type
jobs_seen 7
jobs_waiting_total 1000
broken{
# TYPE took histogram
took_bucket{le="0.5"} 3
took_bucket{le="+Inf"} 5
took_sum 2.25
took_count 5
# TYPE wait summary
wait{quantile="0.5"} 0.2
wait_sum 9
wait_count 4
nan_now NaN
endless +Inf
below -1
last 8`

func TestSumOfSamples(t *testing.T) {
	cases := map[string]struct {
		labels map[string]string
		want   float64
		err    string
	}{
		"jobs_waiting": {want: 17.5},
		"jobs_done":    {want: 12}, "jobs_seen": {want: 7}, "jobs_waiting_total": {want: 1000},
		"took_sum": {want: 2.25}, "took_count": {want: 5}, "wait_sum": {want: 9}, "wait_count": {want: 4}, "last": {want: 8},
		"took_bucket": {labels: map[string]string{"le": "0.5"}, want: 3},
		"wait":        {labels: map[string]string{"quantile": "0.5"}, want: 0.2},
		"took":        {err: "no sample of that name"},
		"nothing":     {err: "no sample of that name"},
		"broken":      {err: "not in the format"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := sumOf(strings.NewReader(page), name, c.labels)
			if !says(err, c.err) || got != c.want {
				t.Errorf("%g, %v; want %g, %q", got, err, c.want, c.err)
			}
		})
	}
	for _, c := range []struct {
		labels map[string]string
		want   float64
		err    string
	}{
		{labels: map[string]string{"queue": "mail"}, want: 7.5},
		{labels: map[string]string{"queue": "mail", "prio": "low"}, want: 4.5},
		{labels: map[string]string{"queue": "none"}, err: "with the labels asked for"},
		{labels: map[string]string{"queue": ""}, err: "with the labels asked for"},
		{labels: map[string]string{"tenant": ""}, err: "with the labels asked for"},
	} {
		if got, err := sumOf(strings.NewReader(page), "jobs_waiting", c.labels); !says(err, c.err) || got != c.want {
			t.Errorf("%v: %g, %v; want %g, %q", c.labels, got, err, c.want, c.err)
		}
	}
}

func says(err error, want string) bool {
	if want == "" {
		return err == nil
	}
	return err != nil && strings.Contains(err.Error(), want)
}

// A sum is that of the samples that were written, whatever else is on the page.
func TestSumOfAnyPage(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var b strings.Builder
		want, mine := 0.0, 0
		for range rapid.IntRange(0, 30).Draw(t, "lines") {
			n := rapid.IntRange(0, 1000).Draw(t, "n")
			queue := rapid.SampledFrom([]string{"a", "b", `quo\"te`, "new\\nline"}).Draw(t, "queue")
			switch rapid.IntRange(0, 3).Draw(t, "kind") {
			case 0:
				fmt.Fprintf(&b, "depth{queue=\"%s\",of=\"x\"} %d\n", queue, n)
				if queue == "a" {
					want += float64(n)
					mine++
				}
			case 1:
				fmt.Fprintf(&b, "depth_of_field{queue=\"a\"} %d\n", n)
			case 2:
				fmt.Fprintf(&b, "other{depth=\"a\"} %d\n", n)
			default:
				b.WriteString(strings.Repeat("x", n) + " not a sample\n")
			}
		}
		got, err := sumOf(strings.NewReader(b.String()), "depth", map[string]string{"queue": "a"})
		if (err == nil) != (mine > 0) || got != want {
			t.Fatalf("%g, %v of %d samples; want %g\n%s", got, err, mine, want, b.String())
		}
	})
}

func TestThousandths(t *testing.T) {
	cases := []struct {
		value float64
		want  int64
		err   string
	}{
		{0, 0, ""}, {1.5, 1500, ""}, {1.1, 1100, ""}, {0.0004, 0, ""}, {0.0005, 1, ""}, {1e300, math.MaxInt64, ""},
		{math.MaxInt64, math.MaxInt64, ""}, {-0.001, 0, "negative"}, {math.NaN(), 0, "NaN"}, {math.Inf(1), 0, "infinite"}, {math.Inf(-1), 0, "infinite"},
	}
	for _, c := range cases {
		if got, err := thousandths(c.value); got != c.want || !says(err, c.err) {
			t.Errorf("%g: %d, %v; want %d, %q", c.value, got, err, c.want, c.err)
		}
	}
}

func TestNumber(t *testing.T) {
	cases := map[string]struct {
		want float64
		err  string
	}{
		"42": {want: 42}, " 1.5\r\n": {want: 1.5}, "1e3": {want: 1000}, "1e999": {want: math.Inf(1)},
		"": {err: "empty"}, "\n": {err: "empty"}, "7 jobs": {err: "not a number"}, "1\n2": {err: "not a number"},
		strings.Repeat("1", maxAnswer+1): {err: "too long"}, "token-123": {err: "not a number"},
	}
	for text, c := range cases {
		got, err := number([]byte(text))
		if got != c.want || !says(err, c.err) {
			t.Errorf("%.20q: %g, %v; want %g, %q", text, got, err, c.want, c.err)
		}
		if err != nil && strings.Contains(err.Error(), "token-123") {
			t.Errorf("the answer is told: %v", err)
		}
	}
}

// serve answers requests, and returns a way to it.
func serve(t *testing.T, h http.HandlerFunc) (*httptest.Server, At) {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s, At{Container: "c", Route: health.Route{Way: health.ByAddress, Address: s.Listener.Addr().String()}}
}

func prometheus(metric string) *stack.MetricSource {
	return &stack.MetricSource{Kind: stack.MetricPrometheus, Path: "/metrics?all=1", Metric: metric}
}

func TestPage(t *testing.T) {
	var asked *http.Request
	_, at := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked = r
		_, _ = io.WriteString(w, page)
	})
	var m Meter
	if n, err := m.Value(t.Context(), prometheus("jobs_waiting"), at); err != nil || n != 17500 {
		t.Errorf("%d, %v; want 17500", n, err)
	}
	if asked.URL.RequestURI() != "/metrics?all=1" || asked.Method != http.MethodGet {
		t.Errorf("asked %s %s", asked.Method, asked.URL)
	}
	for metric, want := range map[string]string{"nan_now": "nan_now: the value is NaN", "endless": "infinite", "below": "negative (-1)", "none": "none: its page has no sample"} {
		if _, err := m.Value(t.Context(), prometheus(metric), at); !says(err, want) {
			t.Errorf("%s: %v, want %q", metric, err, want)
		}
	}
}

// A page is reached by a helper where nothing else leads to it.
func TestPageByHelper(t *testing.T) {
	s, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, page) })
	at := At{Container: "c", Route: health.Route{Way: health.ByHelper, Container: "owner", Address: "127.0.0.1:9", Reason: "on its loopback"}}
	var m Meter
	if _, err := m.Value(t.Context(), prometheus("last"), at); !says(err, "on its loopback") {
		t.Errorf("without a helper: %v", err)
	}
	m.Helper = func(ctx context.Context, container, address string) (net.Conn, error) {
		if container != "owner" || address != "127.0.0.1:9" {
			t.Errorf("connects to %s in %s", address, container)
		}
		return (&net.Dialer{}).DialContext(ctx, "tcp", s.Listener.Addr().String())
	}
	if n, err := m.Value(t.Context(), prometheus("last"), at); err != nil || n != 8000 {
		t.Errorf("%d, %v; want 8000", n, err)
	}
	at.Route = health.Route{Reason: "no port is named web"}
	if _, err := m.Value(t.Context(), prometheus("last"), at); !says(err, "no port is named web") {
		t.Errorf("without a way: %v", err)
	}
}

// A page without end is cut off, and is no value.
func TestEndlessPages(t *testing.T) {
	for name, piece := range map[string]string{"lines": strings.Repeat("last 8\n", 1000), "one line": strings.Repeat("x", 7000)} {
		t.Run(name, func(t *testing.T) {
			sent := make(chan int, 1)
			_, at := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				n := 0
				defer func() { sent <- n }()
				for n < 1<<30 {
					m, err := io.WriteString(w, piece)
					if n += m; err != nil {
						return
					}
				}
			})
			var m Meter
			if _, err := m.Value(t.Context(), prometheus("last"), at); !errors.Is(err, errTooLong) {
				t.Errorf("%v, want that it is too long", err)
			}
			if n := <-sent; n > 64<<20 {
				t.Errorf("%d bytes were sent", n)
			}
		})
	}
}

// The longest page there may be is read, and holds the memory of its lines of
// interest only.
func TestLongestPage(t *testing.T) {
	line := "other_metric{a=\"b\"} 1\n"
	text := strings.Repeat(line, (maxPage-7)/len(line)) + "last 8\n"
	text = strings.Repeat("#", maxPage-len(text)-1) + "\n" + text
	if len(text) != maxPage {
		t.Fatalf("%d bytes", len(text))
	}
	lines, err := linesWith(strings.NewReader(text), "last")
	if err != nil || string(lines) != "last 8\n" {
		t.Errorf("%d bytes are kept, %v", len(lines), err)
	}
	if _, err := linesWith(strings.NewReader("#"+text), "last"); !errors.Is(err, errTooLong) {
		t.Errorf("a longer page: %v", err)
	}
}

func TestWebhook(t *testing.T) {
	cases := map[string]struct {
		answer http.HandlerFunc
		want   int64
		err    string
	}{
		"number":   {answer: func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, " 2.5\n") }, want: 2500},
		"text":     {answer: func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "sesame") }, err: "not a number"},
		"too long": {answer: func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(bytes.Repeat([]byte("1"), maxAnswer+1)) }, err: "too long"},
		"failure":  {answer: func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "sesame", http.StatusTeapot) }, err: "418"},
		"elsewhere": {answer: func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://localhost:1/", http.StatusFound)
		}, err: "another host"},
		"in a circle": {answer: func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.String(), http.StatusFound) }, err: "redirects more than"},
		"nearby": {answer: func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/there" {
				http.Redirect(w, r, "/there", http.StatusFound)
				return
			}
			_, _ = io.WriteString(w, "1")
		}, want: 1000},
		"a head without end": {answer: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Long", strings.Repeat("x", 2*maxHead))
			_, _ = io.WriteString(w, "1")
		}, err: "header"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s, _ := serve(t, c.answer)
			src := &stack.MetricSource{Kind: stack.MetricWebhook, URL: s.URL + "/sesame?token=sesame"}
			var m Meter
			n, err := m.Value(t.Context(), src, At{})
			if n != c.want || !says(err, c.err) {
				t.Errorf("%d, %v; want %d, %q", n, err, c.want, c.err)
			}
			if err != nil && strings.Contains(err.Error(), "sesame") {
				t.Errorf("a secret is told: %v", err)
			}
		})
	}
	var m Meter
	for _, address := range []string{"http://sesame.invalid/", "http://127.0.0.1:1/sesame", "::sesame"} {
		if _, err := m.Value(t.Context(), &stack.MetricSource{Kind: stack.MetricWebhook, URL: address}, At{}); err == nil || strings.Contains(err.Error(), "sesame") {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// One that hangs is given up in time, and holds up nobody else.
func TestHangingAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := Meter{Helper: func(_ context.Context, container, _ string) (net.Conn, error) {
			here, there := net.Pipe()
			go func() { // ends with the connection
				head := make([]byte, 4096)
				_, _ = there.Read(head)
				text := "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nlast 8\n"
				if container == "hangs" {
					text = text[:len(text)-3]
				}
				_, _ = io.WriteString(there, text)
				if container == "hangs" {
					_, _ = there.Read(head) // until it is given up
				}
				_ = there.Close()
			}()
			return here, nil
		}}
		at := func(container string) At {
			return At{Container: container, Route: health.Route{Way: health.ByHelper, Container: container, Address: "127.0.0.1:80"}}
		}
		begin := time.Now()
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				if _, err := m.Value(t.Context(), prometheus("last"), at("hangs")); !errors.Is(err, errTooLate) || time.Since(begin) != Limit {
					t.Errorf("after %s: %v", time.Since(begin), err)
				}
			})
		}
		if n, err := m.Value(t.Context(), prometheus("last"), at("well")); err != nil || n != 8000 || time.Since(begin) != 0 {
			t.Errorf("%d, %v after %s", n, err, time.Since(begin))
		}
		all.Wait()
	})
}

// commands answers for commands in containers.
type commands struct {
	code   int
	output string
	err    error
	cmd    []string
	limit  health.Limit
}

func (c *commands) Exec(_ context.Context, _ string, cmd []string, limit health.Limit) (int, []byte, error) {
	c.cmd, c.limit = cmd, limit
	return c.code, []byte(c.output), c.err
}

func TestCommand(t *testing.T) {
	src := &stack.MetricSource{Kind: stack.MetricExec, Command: []string{"depth", "--of", "sesame"}}
	cases := map[string]struct {
		with *commands
		want int64
		err  string
	}{
		"number":  {with: &commands{output: "3\n"}, want: 3000},
		"failed":  {with: &commands{output: "3\n", code: 2}, err: "ended with 2"},
		"text":    {with: &commands{output: "sesame"}, err: "not a number"},
		"nothing": {with: &commands{}, err: "empty"},
		"hangs":   {with: &commands{err: health.ErrTimeout}, err: "did not end within 2s"},
		"engine":  {with: &commands{err: errors.New("no such container")}, err: "no such container"},
		"endless": {with: &commands{output: strings.Repeat("1", maxAnswer+1)}, err: "too long"},
	}
	for name, c := range cases {
		m := Meter{Exec: c.with}
		n, err := m.Value(t.Context(), src, At{Container: "c"})
		if n != c.want || !says(err, c.err) {
			t.Errorf("%s: %d, %v; want %d, %q", name, n, err, c.want, c.err)
		}
		if err != nil && strings.Contains(err.Error(), "sesame") {
			t.Errorf("%s: a secret is told: %v", name, err)
		}
		if c.with.limit != (health.Limit{Time: Limit, Output: maxAnswer + 1}) || len(c.with.cmd) != 3 {
			t.Errorf("%s: ran %v within %+v", name, c.with.cmd, c.with.limit)
		}
	}
	var m Meter
	if _, err := m.Value(t.Context(), src, At{}); !says(err, "no commands can be run") {
		t.Errorf("without an engine: %v", err)
	}
	if _, err := m.Value(t.Context(), &stack.MetricSource{Kind: stack.MetricCPU}, At{}); !says(err, "cpu is not asked for") {
		t.Errorf("cpu: %v", err)
	}
}

// Whatever a page holds, there is a sum or an error.
func FuzzSumOf(f *testing.F) {
	f.Add([]byte(page), "jobs_waiting")
	f.Add([]byte("a_sum 1"), "a_sum")
	f.Add([]byte("# TYPE a histogram\na_bucket{le=\"x\"} 1\n"), "a_bucket")
	f.Add([]byte("{\"a\", b=\"c\"} 1\n"), "a")
	f.Fuzz(func(t *testing.T, page []byte, name string) {
		sum, err := sumOf(bytes.NewReader(page), name, nil)
		if err != nil && sum != 0 {
			t.Errorf("%g and %v", sum, err)
		}
		if n, err := thousandths(sum); err == nil && n < 0 {
			t.Errorf("%d thousandths of %g", n, sum)
		}
	})
}
