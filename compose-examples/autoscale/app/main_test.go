package main

import (
	"context"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// start serves on a free port until the test ends.
func start(t *testing.T, work time.Duration) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- serve(ctx, l, work) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return "http://" + l.Addr().String() + "/"
}

func TestBurnUsesWhatItIsTold(t *testing.T) {
	for _, work := range []time.Duration{0, 5 * time.Millisecond, 40 * time.Millisecond} {
		used, err := burn(t.Context(), work)
		if err != nil || used < work || used > work+30*time.Millisecond {
			t.Errorf("burning %s has used %s, %v", work, used, err)
		}
	}
}

func TestBurnEndsWithItsRequest(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if used, err := burn(ctx, time.Hour); err != nil || used > time.Second {
		t.Errorf("has used %s, %v", used, err)
	}
}

func TestLoadIsServed(t *testing.T) {
	url := start(t, time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	sum := load(ctx, url, 10*time.Millisecond)
	if len(sum.took) == 0 || sum.failed > 0 || len(sum.by) != 1 {
		t.Errorf("got %s: %s", sum, sum.last)
	}
	if text := sum.String(); !strings.Contains(text, "served, 0 failed, replicas 1, p50 ") {
		t.Errorf("says %q", text)
	}
	if resp, err := http.Get(url + "readyz"); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("readiness: %v, %v", resp, err)
	}
}

func TestLoadTellsOfFailures(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + l.Addr().String() + "/"
	_ = l.Close() // nobody listens there now
	err = run(t.Context(), []string{"load", "--url", url, "--rps", "100", "--for", "50ms"})
	if err == nil || !strings.HasPrefix(err.Error(), "no request was answered: ") {
		t.Errorf("got %v", err)
	}
}

func TestWhatIsWrongWithArguments(t *testing.T) {
	for args, want := range map[string]string{
		"":                             "usage: ",
		"rest":                         "usage: ",
		"load":                         "--url is missing",
		"load --url http://a --rps 0":  "--rps 0 is not between",
		"load --url http://a --for 0s": "--for 0s is not more",
		"serve --burn -1":              "--burn -1 is negative",
	} {
		if err := run(t.Context(), strings.Fields(args)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", args, err, want)
		}
	}
}
