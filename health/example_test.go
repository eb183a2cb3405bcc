package health_test

import (
	"fmt"
	"time"

	"github.com/berth-dev/berth/health"
)

// A container is started, becomes ready, and then answers no more.
func Example() {
	probes := health.Probes{
		Readiness: &health.Probe{HTTP: &health.HTTP{Path: "/readyz", Port: health.Port{Name: "web"}}, Period: 2 * time.Second},
		Liveness:  &health.Probe{TCP: &health.TCP{Port: health.Port{Number: 8080}}, Period: 5 * time.Second, Grace: time.Second},
	}
	for _, fault := range probes.Validate(map[string]uint16{"http": 8080}) {
		fmt.Println(fault)
	}

	started := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	status := health.Status{}.Next(probes, health.Started(started, 1), started)
	see := func(after time.Duration, r health.Role, o health.Outcome, output string) {
		now := started.Add(after)
		res := health.Result{At: now, Outcome: o, Output: output}
		status = status.Next(probes, health.Checked(r, started, res, ""), now)
		fmt.Printf("%s: ready %v %q\n", after, status.Ready(probes), status.Why(probes))
	}
	see(0, health.Readiness, health.Failure, "503 Service Unavailable")
	see(2*time.Second, health.Readiness, health.Success, "200 OK")
	for i := range 3 {
		see(time.Duration(5+5*i)*time.Second, health.Liveness, health.Failure, "connection refused")
	}
	v := status.Verdict(probes)
	fmt.Printf("%s with a grace of %s: %s\n", v.Action.Do, v.Grace, v.Reason)
	// Output:
	// readiness.http.port: no port is named "web"; the service names http
	// 0s: ready false "readiness probe failed: 503 Service Unavailable"
	// 2s: ready true ""
	// 5s: ready true ""
	// 10s: ready true ""
	// 15s: ready true ""
	// restart with a grace of 1s: liveness probe failed 3 times in a row: connection refused
}
