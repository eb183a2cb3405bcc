// Package health says whether a replica is alive and ready: the spec of its
// probes, the status that their results add up to, the backoff between its
// restarts, and the prober that asks.
//
// The first three are values and pure functions: they take the time as an
// argument, return reasons, and read back from JSON as they were written. The
// rules are those of the Kubernetes kubelet (pkg/kubelet/prober, and
// pkg/kubelet/kuberuntime for the backoff); where this package leaves them it
// says so.
//
//	probes := health.Probes{
//		Startup:  &health.Probe{HTTP: &health.HTTP{Path: "/healthz", Port: health.Port{Number: 8080}}, FailureThreshold: 30},
//		Liveness: &health.Probe{TCP: &health.TCP{Port: health.Port{Name: "web"}}},
//	}
//	if errs := probes.Validate(map[string]uint16{"web": 8080}); len(errs) > 0 {
//		return errs[0] // "liveness.tcp.port: no port is named …"
//	}
//	p := health.New(health.Config{Checks: &health.Checkers{Exec: engine}, Notify: wake})
//	go p.Run(ctx)
//	p.Set("shop/api/1", health.Target{Container: id, Started: started, State: runtime.Running}, probes)
//	…
//	status, _ := p.Status("shop/api/1")
//	if v := status.Verdict(probes); v.Action.Do == health.Restart { … v.Reason … }
//
// How a probe gets to a container is decided by [Choose] from what the engine
// reports of it: its address, a published port, or a helper in its network
// namespace.
//
// Invariants:
//   - an engine or a machine that cannot answer is never a failed probe: such a
//     result is [Unknown] and counts neither way;
//   - at most one probe of a role of a replica is in flight;
//   - a probe's time begins when it is sent, not when it was due;
//   - no result holds a body, a header or the query of a URL;
//   - nothing here changes a container: a [Verdict] is advice to who does.
package health
