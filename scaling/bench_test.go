package scaling_test

import (
	"strings"
	"testing"
	"time"

	"github.com/berth-dev/berth/scaling"
)

// busy is a service of ten replicas in the middle of its life.
func busy() (scaling.Policy, scaling.State, scaling.Input) {
	policy := scaling.Policy{Max: 100, Behavior: &scaling.Behavior{}, Metrics: []scaling.Metric{
		{Source: scaling.FromResource, Name: scaling.CPU, Utilization: 50},
		{Source: scaling.FromExternal, Name: "queue", AverageValue: 1000},
	}}
	in := scaling.Input{
		Current: 10, Replicas: replicas(scaling.CPU, strings.Repeat("900 ", 8)+"- 100u"),
		External: []scaling.External{{Metric: "queue", Value: 9500}},
	}
	var state scaling.State
	for i := range 20 {
		_, state = scaling.Decide(policy, state, in, noon.Add(time.Duration(i-20)*15*time.Second))
	}
	return policy, state, in
}

func BenchmarkDecide(b *testing.B) {
	policy, state, in := busy()
	b.ReportAllocs()
	for b.Loop() {
		scaling.Decide(policy, state, in, noon)
	}
}

// Every service of a large installation is decided on once.
func BenchmarkDecide10000(b *testing.B) {
	policy, state, in := busy()
	states := make([]scaling.State, 10_000)
	for i := range states {
		states[i] = state
	}
	b.ReportAllocs()
	for b.Loop() {
		for i := range states {
			_, states[i] = scaling.Decide(policy, states[i], in, noon)
		}
	}
}

func BenchmarkSentence(b *testing.B) {
	policy, state, in := busy()
	d, _ := scaling.Decide(policy, state, in, noon)
	b.ReportAllocs()
	for b.Loop() {
		_ = d.String()
	}
}
