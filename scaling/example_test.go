package scaling_test

import (
	"fmt"
	"time"

	"github.com/berth-dev/berth/scaling"
)

// A service gets busy, and then quiet again.
func Example() {
	policy := scaling.Policy{
		Min: new(2), Max: 10,
		Metrics: []scaling.Metric{{Source: scaling.FromResource, Name: scaling.CPU, Utilization: 50}},
		Behavior: &scaling.Behavior{
			Down: scaling.Rules{Window: new(time.Minute)},
		},
	}
	for _, fault := range policy.Validate() {
		fmt.Println(fault)
	}

	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	state, replicas := scaling.State{}, 2
	for i, millicores := range []int64{250, 2600, 6100, 6100, 400, 400, 400, 400, 400} {
		now := start.Add(time.Duration(i) * 15 * time.Second)
		in := scaling.Input{Current: replicas}
		for range replicas {
			in.Replicas = append(in.Replicas, scaling.Replica{
				Phase: scaling.Running, Ready: true, WasReady: true, Started: start.Add(-time.Hour),
				Samples: []scaling.Sample{{Metric: scaling.CPU, Value: millicores / int64(replicas), Reservation: 1000, At: now, Window: 15 * time.Second}},
			})
		}
		var d scaling.Decision
		d, state = scaling.Decide(policy, state, in, now)
		if d.Desired != d.Current || i == 5 {
			fmt.Println(now.Format(time.TimeOnly), d)
		}
		replicas = d.Desired
	}
	// Output:
	// 12:00:15 2 to 6: cpu is at 130 % of the reservation, target 50 %, over 2 measured, asks for 6
	// 12:00:30 6 to 10: cpu is at 101 % of the reservation, target 50 %, over 6 measured, asks for 13; the maximum is 10
	// 12:01:15 keep 10: cpu is at 4 % of the reservation, target 50 %, over 10 measured, asks for 1; more was asked for within the down window, so 10
	// 12:01:45 10 to 2: cpu is at 4 % of the reservation, target 50 %, over 10 measured, asks for 1; the minimum is 2
}
