package docker

import (
	"context"
	"testing"
	"time"
)

// open connects to the real engine; a test here fails where there is none.
func open(tb testing.TB) *Engine {
	tb.Helper()
	e, err := Open(tb.Context(), Options{Warn: func(text string) { tb.Log("engine warns:", text) }})
	if err != nil {
		tb.Fatalf("these tests need a Docker engine: %v", err)
	}
	tb.Cleanup(func() { _ = e.Close() })
	return e
}

// lateContext is for clean-up, which runs after the test's own context ended.
func lateContext(tb testing.TB) (context.Context, context.CancelFunc) {
	tb.Helper()
	return context.WithTimeout(context.WithoutCancel(tb.Context()), time.Minute)
}
