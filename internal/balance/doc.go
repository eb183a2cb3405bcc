// Package balance owns the published ports of services that may have more than
// one replica: it listens at them, and carries each connection (TCP) or session
// (UDP) to one of the replicas that are routed.
//
//	b := balance.New(ctx, balance.Config{Waiting: wake, Drained: wake2})
//	b.Route(web, balance.Routing{Backends: backends})      // as often as one looks
//	status := b.Apply(ctx, frontends)                      // as often as one looks
//	…
//	if s, ok := b.Backend(web, id); !ok || s.Open == 0 { … } // drained
//
// [Balancer.Apply] says what is listened at, [Balancer.Route] where to a pool's
// connections go; both are given the whole truth each time, and change only what
// differs. Neither ever ends a connection: a backend that is unrouted, or no
// longer named, keeps the connections it has until they end or [Balancer.Cut]
// ends them, and a listener stays open whatever becomes of the backends.
//
// Invariants:
//   - no new connection to a backend after the Route that unroutes it has returned;
//   - a client sees a failed connect only when every routed backend has failed it;
//   - while no backend is routed, connections wait in the order in which they came;
//   - what a client sends before its backend is known is not read but left to the
//     kernel: nothing is lost or repeated when the backend changes;
//   - an idle connection holds no buffer and no pipe.
//
// What decides ([Policy], shares, what is avoided) is told the time; only what
// listens, connects and copies reads the clock.
package balance
