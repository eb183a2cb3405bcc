package daemon

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/balance"
	"github.com/berth-dev/berth/internal/reconcile"
	"github.com/berth-dev/berth/runtime"
)

// publishedOf are the ports at which the balancer is to listen for a service of
// a stack, or with an empty service for all of them.
func (b *balancing) publishedOf(name, service string) []api.Published {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []api.Published
	for i := range b.bound[name] {
		if s := &b.bound[name][i]; service == "" || s.Service == service {
			list = append(list, publishedAs(s))
		}
	}
	return list
}

func publishedAs(s *balance.FrontendStatus) api.Published {
	p := api.Published{
		Service: s.Service, Protocol: string(s.Protocol), Port: s.Port, Target: s.Target, Bound: boundPorts(s),
		Reason: s.Reason, Open: s.Open, Full: s.Full,
	}
	if s.Host.IsValid() {
		p.Host = s.Host.String()
	}
	if s.Holder != nil {
		p.Holder = fmt.Sprintf("%s (process %d)", s.Holder.Command, s.Holder.PID)
	}
	return p
}

// boundPorts are where a frontend is reached: one that listens for both families
// at once is told once for each, as the engine tells it.
func boundPorts(s *balance.FrontendStatus) []runtime.BoundPort {
	if !s.Listening() {
		return nil
	}
	hosts := []netip.Addr{s.Bound.Addr()}
	if a := hosts[0]; !s.Host.IsValid() && a.Is6() && a.IsUnspecified() {
		hosts = []netip.Addr{netip.IPv4Unspecified(), a}
	}
	list := make([]runtime.BoundPort, len(hosts))
	for i, h := range hosts {
		list[i] = runtime.BoundPort{HostIP: h.String(), HostPort: s.Bound.Port(), Target: s.Target, Protocol: string(s.Protocol)}
	}
	return list
}

// trafficLocked is what the balancer has done for a service, with the containers of
// one of its replicas or, with slot 0, of all; nil: it does nothing for it.
// l.mu is held.
func (l *loop) trafficLocked(service string, slot int) *api.Traffic {
	b := l.d.balancing.b
	if b == nil {
		return nil
	}
	pool, ok := b.Pool(balance.Key{Stack: l.name, Service: service})
	if !ok {
		return nil
	}
	t := &api.Traffic{
		Policy: string(pool.Policy), Open: pool.Open, Waiting: pool.Waiting, Held: pool.Held, Retries: pool.Retries,
		Flow: flowOf(&pool.Counters), Backends: []api.Backend{},
	}
	for why, n := range pool.Refused {
		if t.Refused == nil {
			t.Refused = map[string]uint64{}
		}
		t.Refused[string(why)] = n
	}
	for i := range pool.Backends {
		if pool.Backends[i].Routed {
			t.Routed++
		}
		if be := l.backendLocked(&pool.Backends[i]); slot == 0 || be.Slot == slot {
			t.Backends = append(t.Backends, be)
		}
	}
	slices.SortFunc(t.Backends, func(x, y api.Backend) int {
		return cmp.Or(cmp.Compare(x.Slot, y.Slot), cmp.Compare(x.Container, y.Container))
	})
	return t
}

// backendLocked names the container of a backend; l.mu is held.
func (l *loop) backendLocked(s *balance.BackendStatus) api.Backend {
	be := api.Backend{
		Container: s.ID, Revision: s.Group, Routed: s.Routed, Since: s.UnroutedAt, AvoidedUntil: s.AvoidedUntil,
		Failures: s.Failures, Open: s.Open, Flow: flowOf(&s.Counters),
	}
	if l.observed == nil {
		return be
	}
	for i := range l.observed.Containers {
		if c := &l.observed.Containers[i]; c.ID == s.ID {
			be.Container = c.Name
			if id, err := runtime.ParseIdentity(c.Labels); err == nil {
				be.Slot = id.Slot
			}
		}
	}
	return be
}

func flowOf(c *balance.Counters) api.Flow {
	return api.Flow{
		Connections: c.Connections, FailedConnects: c.FailedConnects, BytesIn: c.BytesIn, BytesOut: c.BytesOut,
		ConnectP50: c.Latency.Quantile(0.5), ConnectP99: c.Latency.Quantile(0.99),
	}
}

// replicasLocked tells how every container of the wanted replicas stands; l.mu
// is held.
func (l *loop) replicasLocked() (replicas, beside []api.Replica) {
	for _, r := range reconcile.ReadinessOf(l.record.Desired, l.observed, &l.record.Memory) {
		rep := api.Replica{Service: r.Service, Slot: r.Slot, Ready: r.Ready, Serves: r.Serves, Probed: r.Probed}
		rep.Reason = cmp.Or(l.reasonLocked(r.Key, besideNames(&r)), r.Why, l.reasonLocked(reconcile.Key("port/"+r.Service), nil))
		if r.Container != nil {
			rep.Container = r.Container.Clone()
			rep.Restarts = r.Container.RestartCount + l.record.Memory.RestartsOf(r.Key)
		}
		replicas = append(replicas, rep)
		for _, s := range r.Beside {
			beside = append(beside, api.Replica{
				Service: r.Service, Slot: r.Slot, Container: s.Container.Clone(), Serves: s.Serves, Probed: r.Probed,
				Restarts: s.Container.RestartCount, Reason: cmp.Or(l.besideReasonLocked(r.Key, s.Container), s.Why),
			})
		}
	}
	return replicas, beside
}

func besideNames(r *reconcile.Readiness) []string {
	names := make([]string, len(r.Beside))
	for i := range r.Beside {
		names[i] = r.Beside[i].Container.Name
	}
	return names
}

// reasonLocked is what the plan says a target waits for, unless that is about
// another container of the replica; l.mu is held.
func (l *loop) reasonLocked(key reconcile.Key, others []string) string {
	why := ""
	for i := range l.plan.Holds {
		if h := &l.plan.Holds[i]; h.Key == key && !slices.Contains(others, h.Name) {
			why = h.Reason
		}
	}
	return why
}

// besideReasonLocked is what a container that is being replaced waits for: its
// replica's hold, where that is about it. l.mu is held.
func (l *loop) besideReasonLocked(key reconcile.Key, c *runtime.Container) string {
	for i := range l.plan.Holds {
		if h := &l.plan.Holds[i]; h.Key == key && h.Name == c.Name {
			return h.Reason
		}
	}
	return ""
}
