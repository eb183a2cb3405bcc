package balance

import (
	"fmt"
	"net/netip"
	"os"
	goruntime "runtime"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"
)

// openFiles counts this process's descriptors; 0 where that cannot be told.
func openFiles() int {
	entries, _ := os.ReadDir("/proc/self/fd")
	return len(entries)
}

// No connection leaves a goroutine or a descriptor behind, whichever side ends it.
func TestNothingIsLeftOfConnections(t *testing.T) {
	b := newBalancer(t, Config{})
	route(t, b, Routing{Backends: []Backend{serve(t, "a", nil).backend(), refusing(t, "bad"), serve(t, "b", nil).backend()}})
	addr := listen(t, b, TCP)
	burst := func(n int) {
		var wg sync.WaitGroup
		for w := range 20 {
			wg.Go(func() {
				for i := range n / 20 {
					if err := once(addr, (w+i)%3 == 0); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		eventually(t, "nothing is open", func() bool { return poolStatus(t, b).Open == 0 && b.Status()[0].Open == 0 })
	}
	burst(100) // what is made once
	goroutines, files := goruntime.NumGoroutine(), openFiles()
	burst(2000)
	eventually(t, "goroutines and descriptors are as before", func() bool {
		return goruntime.NumGoroutine() <= goroutines && openFiles() <= files
	})
	if s := poolStatus(t, b); s.Connections != 2100 || len(s.Refused) > 0 {
		t.Errorf("pool %+v", s)
	}
}

// once connects, asks, and ends the connection in one of two ways.
func once(addr netip.AddrPort, reset bool) error {
	conn, err := dialOnce(addr)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if reset {
		_ = conn.SetLinger(0)
	}
	_, err = ask(conn)
	return err
}

// Whatever is routed, added and removed: as long as one routed backend is well, no
// client notices.
func TestNoClientFailsWhileABackendIsWell(t *testing.T) {
	type member struct {
		Backend
		well bool
	}
	var all []member
	for i := range 4 {
		all = append(all, member{serve(t, fmt.Sprint("well", i), nil).backend(), true})
	}
	for i := range 2 {
		all = append(all, member{refusing(t, fmt.Sprint("bad", i)), false})
	}
	rapid.Check(t, func(rt *rapid.T) {
		b := newBalancer(t, Config{})
		policy := rapid.SampledFrom([]Policy{RoundRobin, LeastConnections, RandomTwo, SourceHash}).Draw(rt, "policy")
		set := func(routed, named []bool) {
			r := Routing{Policy: policy}
			for i, m := range all {
				if m.Routed = routed[i]; named[i] || routed[i] {
					r.Backends = append(r.Backends, m.Backend)
				}
			}
			route(t, b, r)
		}
		flags := rapid.SliceOfN(rapid.Bool(), len(all), len(all))
		set([]bool{true, false, false, false, true, false}, make([]bool, len(all)))
		addr := listen(t, b, TCP)

		var stop atomic.Bool
		var failure atomic.Pointer[string]
		var served atomic.Int64
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				for !stop.Load() {
					if err := once(addr, false); err != nil {
						why := err.Error()
						failure.CompareAndSwap(nil, &why)
						return
					}
					served.Add(1)
				}
			})
		}
		for range rapid.IntRange(1, 5).Draw(rt, "changes") {
			routed, named := flags.Draw(rt, "routed"), flags.Draw(rt, "named")
			routed[rapid.IntRange(0, 3).Draw(rt, "well")] = true
			set(routed, named)
			before := served.Load()
			eventually(t, "some are served", func() bool { return served.Load() > before+2 || failure.Load() != nil })
		}
		stop.Store(true)
		wg.Wait()
		if why := failure.Load(); why != nil {
			rt.Fatalf("a client failed: %s; %+v", *why, poolStatus(t, b))
		}
		eventually(t, "nothing is open", func() bool { return poolStatus(t, b).Open == 0 })
		if err := b.Close(t.Context()); err != nil {
			rt.Fatal(err)
		}
	})
}

// 50,000 connections with a request each, none of which may fail.
func BenchmarkShortConnections(b *testing.B) {
	bal := newBalancer(b, Config{})
	route(b, bal, Routing{Backends: []Backend{serve(b, "a", nil).backend(), serve(b, "b", nil).backend()}})
	addr := listen(b, bal, TCP)
	for b.Loop() {
		const n, workers = 50_000, 16
		var wg sync.WaitGroup
		for range workers {
			wg.Go(func() {
				for range n / workers {
					if err := once(addr, false); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
	}
	s := poolStatus(b, bal)
	b.ReportMetric(float64(s.Latency.Quantile(0.5).Nanoseconds())/1000, "connect-p50-µs")
	b.ReportMetric(float64(len(s.Refused)), "refused")
}
