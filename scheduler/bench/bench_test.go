//go:build unix

package main

import (
	"testing"

	"github.com/berth-dev/berth/scheduler"
)

func BenchmarkPlacements(b *testing.B) {
	for _, l := range loads() {
		b.Run(l.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				r := ready(b, l)
				b.StartTimer()
				r.place()
			}
			b.ReportMetric(float64(l.replicas)*float64(b.N)/b.Elapsed().Seconds(), "placements/s")
		})
	}
}

func BenchmarkReplace(b *testing.B) {
	r := ready(b, loads()[1])
	r.fill()
	seed := random(362436069)
	for b.Loop() {
		r.replace(seed.below(len(r.placed)))
	}
}

func ready(tb testing.TB, l load) *run {
	tb.Helper()
	r, err := l.prepare(scheduler.StrategySpread)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}
