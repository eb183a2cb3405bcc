package main

import (
	"context"
	"net"
	"net/http"
	"testing"
	"time"
)

// start serves on a free port until the test ends.
func start(t *testing.T, startup time.Duration) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- serve(ctx, l, startup) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return "http://" + l.Addr().String()
}

func status(t *testing.T, url string) int {
	t.Helper()
	client := http.Client{Timeout: 300 * time.Millisecond}
	resp, err := client.Get(url)
	if err != nil {
		return 0
	}
	defer func() { _ = resp.Body.Close() }()
	return resp.StatusCode
}

func TestItDoesWhatItIsTold(t *testing.T) {
	base := start(t, 0)
	if got := status(t, base+"/readyz"); got != http.StatusOK {
		t.Fatalf("at first %d", got)
	}
	for _, step := range []struct {
		tell   string
		path   string
		status int
	}{
		{"unready", "/readyz", http.StatusServiceUnavailable},
		{"unready", "/healthz", http.StatusOK},
		{"ready", "/readyz", http.StatusOK},
		{"hang", "/healthz", 0},
	} {
		if err := run(t.Context(), []string{"tell", base, step.tell}); err != nil {
			t.Fatal(err)
		}
		if got := status(t, base+step.path); got != step.status {
			t.Errorf("after %s, %s is %d", step.tell, step.path, got)
		}
	}
	if err := run(t.Context(), []string{"tell", base, "sing"}); err == nil {
		t.Error("it can sing")
	}
	if err := run(t.Context(), []string{"tell", base, "exit", "many"}); err == nil {
		t.Error("a code that is none")
	}
}

func TestItTakesItsTime(t *testing.T) {
	base := start(t, time.Hour)
	if got := status(t, base+"/healthz"); got != http.StatusServiceUnavailable {
		t.Errorf("before it is up: %d", got)
	}
}
