package balance

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestHistogram(t *testing.T) {
	var h histogram
	for range 90 {
		h.observe(60 * time.Microsecond) // in 50 to 100 µs
	}
	for range 9 {
		h.observe(time.Millisecond) // in 500 µs to 1 ms, the bound included
	}
	h.observe(time.Minute) // above all
	s := h.snapshot()
	if s.Count() != 100 || s.Sum != 90*60*time.Microsecond+9*time.Millisecond+time.Minute {
		t.Errorf("%d durations, %v in all", s.Count(), s.Sum)
	}
	for q, want := range map[float64]time.Duration{
		0: 50 * time.Microsecond, 0.45: 75 * time.Microsecond, 0.9: 100 * time.Microsecond,
		0.99: time.Millisecond, 1: 5 * time.Second,
	} {
		if got := s.Quantile(q); got != want {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	if got := (Histogram{}).Quantile(0.5); got != 0 {
		t.Errorf("the median of nothing is %v", got)
	}
	h.observe(3 * time.Millisecond)
	if d := h.snapshot().Minus(s); d.Count() != 1 || d.Sum != 3*time.Millisecond || d.Plus(s) != h.snapshot() {
		t.Errorf("what came later: %+v", d)
	}
	if n := len(LatencyBounds()); n != len(s.Counts)-1 {
		t.Errorf("%d bounds for %d buckets", n, len(s.Counts))
	}
}

func TestSnapshotIsCompleteAndReadsAsJSON(t *testing.T) {
	b := newBalancer(t, Config{})
	route(t, b, Routing{Backends: []Backend{serve(t, "a", nil).backend()}})
	conn := dial(t, listen(t, b, TCP))
	if _, err := ask(conn); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the bytes are counted", func() bool { s := poolStatus(t, b); return s.BytesIn == 2 && s.BytesOut == 4 })
	s := b.Snapshot()
	if len(s.Frontends) != 1 || s.Frontends[0].Open != 1 || len(s.Pools) != 1 {
		t.Fatalf("snapshot %+v", s)
	}
	p := s.Pools[0]
	if p.Pool != web || p.Open != 1 || p.Connections != 1 || p.Latency.Count() != 1 || len(p.Backends) != 1 || p.Backends[0].Open != 1 {
		t.Errorf("pool %+v", p)
	}
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"service":"web"`, `"bound":"127.0.0.1:`, `"connections":1`, `"id":"a"`, `"routed":true`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%s is not in %s", want, text)
		}
	}
	if strings.Contains(string(text), "unroutedAt") {
		t.Errorf("a zero time is written: %s", text)
	}
}
