package daemon

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/berth-dev/berth/health"
	"github.com/berth-dev/berth/internal/balance"
	"github.com/berth-dev/berth/internal/reconcile"
	"github.com/berth-dev/berth/runtime"
)

// Balancer carries connections from published ports to containers.
type Balancer interface {
	Apply(ctx context.Context, desired []balance.Frontend) []balance.FrontendStatus
	Seize(ctx context.Context, pool balance.Key) bool
	Route(pool balance.Key, to balance.Routing) error
	Pool(pool balance.Key) (balance.PoolStatus, bool)
}

// Balancing makes the daemon's balancer. waiting is called when a client begins
// to wait for a service, drained when a container has lost its last connection.
type Balancing func(waiting func(balance.Key), drained func(balance.Key, string)) Balancer

// balancing is the daemon's side of its balancer: it gathers what the stacks want
// of it, since it is told everything at once.
type balancing struct {
	b     Balancer // nil: there is none
	wakes chan string

	mu       sync.Mutex // protects all below
	wanted   map[string][]balance.Frontend
	troubles map[string]map[string]string // by stack and service: why it cannot be listened
	bound    map[string][]balance.FrontendStatus
}

// wakesKept bounds the stacks that are waiting to be woken; more are woken by
// their own timers.
const wakesKept = 256

func newBalancing(open Balancing) *balancing {
	b := &balancing{
		wakes: make(chan string, wakesKept), wanted: map[string][]balance.Frontend{}, troubles: map[string]map[string]string{},
		bound: map[string][]balance.FrontendStatus{},
	}
	if open != nil {
		b.b = open(func(k balance.Key) { b.wake(k.Stack) }, func(k balance.Key, _ string) { b.wake(k.Stack) })
	}
	return b
}

// wake has a stack looked at. It never blocks.
func (b *balancing) wake(name string) {
	select {
	case b.wakes <- name:
	default:
	}
}

// passWakes passes the balancer's wakes on until ctx ends.
func (d *Daemon) passWakes(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case name := <-d.balancing.wakes:
			if l := d.loop(name); l != nil {
				l.wakeUp()
			}
		}
	}
}

// restore listens at once at the ports that the daemon before had listened at:
// who connects waits until the first turn tells where to.
func (d *Daemon) restore(ctx context.Context) {
	b := d.balancing
	if b.b == nil {
		return
	}
	for _, l := range d.all() {
		l.mu.Lock()
		if len(l.record.Frontends) > 0 {
			b.wanted[l.name] = l.record.Frontends
		}
		l.mu.Unlock()
	}
	b.apply(ctx)
}

// apply tells the balancer what to listen at.
func (b *balancing) apply(ctx context.Context) {
	b.mu.Lock()
	defer b.mu.Unlock() // so that two stacks do not tell it in the wrong order
	var all []balance.Frontend
	for _, name := range sortedKeys(b.wanted) {
		all = append(all, b.wanted[name]...)
	}
	clear(b.troubles)
	clear(b.bound)
	for _, s := range b.b.Apply(ctx, all) {
		b.bound[s.Stack] = append(b.bound[s.Stack], s)
		if s.Listening() {
			continue
		}
		if b.troubles[s.Stack] == nil {
			b.troubles[s.Stack] = map[string]string{}
		}
		b.troubles[s.Stack][s.Service] = unboundReason(s)
	}
}

func unboundReason(s balance.FrontendStatus) string {
	why := fmt.Sprintf("port %s cannot be listened at: %s", s.Frontend, s.Reason)
	if s.Holder != nil {
		why += fmt.Sprintf("; process %d (%s) holds it", s.Holder.PID, s.Holder.Command)
	}
	return why
}

// listen has a stack's frontends listened at, and those of no other changed.
func (b *balancing) listen(ctx context.Context, name string, want []balance.Frontend) {
	b.mu.Lock()
	same := slices.Equal(b.wanted[name], want) && len(b.troubles[name]) == 0
	if len(want) > 0 {
		b.wanted[name] = want
	} else {
		delete(b.wanted, name)
	}
	b.mu.Unlock()
	if !same {
		b.apply(ctx)
	}
}

// seize has the balancer take a service's ports the moment that a step makes them
// free, where they are held by the container whose run the step ends. The returned
// function is to be called at the step's end.
func (l *loop) seize(ctx context.Context, s reconcile.Step) (ended func()) {
	b := l.d.balancing
	b.mu.Lock()
	missing := b.troubles[l.name][s.Service] != ""
	b.mu.Unlock()
	if !missing || s.Container == "" || s.Op != reconcile.OpStop && s.Op != reconcile.OpKill && s.Op != reconcile.OpRemove {
		return func() {}
	}
	ctx, stop := context.WithCancel(ctx)
	l.d.running.Go(func() {
		defer stop()
		if b.b.Seize(ctx, balance.Key{Stack: l.name, Service: s.Service}) {
			l.wakeUp()
		}
	})
	return func() { time.AfterFunc(reconcile.PortRelease, stop) }
}

// holds reports whether the balancer listens for a stack at a host port, and, if
// it does so for another one, for which.
func (b *balancing) holds(port uint16, protocol string) (holder string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, list := range b.wanted {
		for _, f := range list {
			if f.Port == port && portKey(port, string(f.Protocol)) == portKey(port, protocol) {
				return name
			}
		}
	}
	return ""
}

// reach is how the balancer gets to the containers.
func (d *Daemon) reach() reconcile.Reach {
	switch {
	case d.balancing.b == nil || !d.cfg.LocalEngine:
		return reconcile.ReachRemote
	case !d.cfg.Probing.Local:
		return reconcile.ReachPublished
	default:
		return reconcile.ReachDirect
	}
}

// balanceLocked adds to what was observed what the balancer says; l.mu is held.
func (l *loop) balanceLocked(obs *reconcile.Observed) {
	b := l.d.balancing
	if obs.Reach = l.d.reach(); obs.Reach == reconcile.ReachRemote {
		return
	}
	b.mu.Lock()
	obs.Unbound = maps.Clone(b.troubles[l.name])
	b.mu.Unlock()
	d := l.record.Desired
	if d == nil || d.Stack == nil {
		return
	}
	obs.Backends = map[string]reconcile.Backend{}
	for i := range d.Stack.Services {
		pool, ok := b.b.Pool(balance.Key{Stack: l.name, Service: d.Stack.Services[i].Name})
		if !ok {
			continue
		}
		for _, be := range pool.Backends {
			obs.Backends[be.ID] = reconcile.Backend{Routed: be.Routed, Since: be.UnroutedAt, Open: be.Open}
		}
	}
}

// route has the balancer carry out a plan's routes.
func (l *loop) route(ctx context.Context, plan *reconcile.Plan, obs *reconcile.Observed) {
	b := l.d.balancing
	if b.b == nil || obs == nil || obs.Reach == reconcile.ReachRemote {
		return
	}
	var want []balance.Frontend
	now := map[string]bool{}
	for _, service := range sortedKeys(plan.Routes) {
		r := plan.Routes[service]
		key := balance.Key{Stack: l.name, Service: service}
		want = append(want, frontends(key, r.Ports)...)
		if err := b.b.Route(key, l.routing(&r, obs)); err != nil {
			l.log.Error().Err(err).Str("service", service).Msg("cannot route")
		}
		now[service] = true
	}
	for service := range l.routed {
		if !now[service] {
			_ = b.b.Route(balance.Key{Stack: l.name, Service: service}, balance.Routing{}) // makes sense
		}
	}
	l.routed = now
	b.listen(ctx, l.name, want)
	l.rememberFrontends(want)
}

// rememberFrontends stores what is listened at, for the next daemon.
func (l *loop) rememberFrontends(want []balance.Frontend) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.Equal(l.record.Frontends, want) {
		l.record.Frontends, l.unsaved = want, true
		l.saveIfDueLocked()
	}
}

// routing is a plan's routing in the balancer's words.
func (l *loop) routing(r *reconcile.Routing, obs *reconcile.Observed) balance.Routing {
	to := balance.Routing{
		Policy: balance.Policy(r.Balance.Policy), DrainIdle: r.Balance.DrainIdle,
		Hold: balance.Hold{Limit: r.Balance.MaxHeld, For: r.Balance.Hold},
	}
	if to.Hold.Limit == 0 || to.Hold.For == 0 {
		to.Hold.Limit = -1 // none waits
	}
	for _, at := range r.Backends {
		be := balance.Backend{ID: at.Container, Group: at.Revision, Routed: true}
		l.locate(&be, r.Ports, obs)
		to.Backends = append(to.Backends, be)
		if at.Weight > 0 {
			if to.Shares == nil {
				to.Shares = map[string]int{}
			}
			to.Shares[at.Revision] = at.Weight
		}
	}
	return to
}

// locate fills in where a container's ports are found.
func (l *loop) locate(be *balance.Backend, ports []runtime.Port, obs *reconcile.Observed) {
	i := slices.IndexFunc(obs.Containers, func(c runtime.Container) bool { return c.ID == be.ID })
	if i < 0 {
		return
	}
	c := &obs.Containers[i]
	if obs.Reach == reconcile.ReachDirect && c.Labels[runtime.LabelPublish] != runtime.PublishBalanced {
		be.Proxied = addresses(c)
	}
	f := health.Facts{Container: *c, Local: l.d.cfg.Probing.Local, EngineHost: l.d.cfg.Probing.EngineHost, Drivers: map[string]string{}}
	for name := range obs.Networks {
		f.Drivers[name] = obs.Networks[name].Driver
	}
	for _, p := range ports {
		route := health.Choose(f, "", p.Target)
		at, err := netip.ParseAddrPort(route.Address)
		if err != nil || route.Way == health.ByHelper {
			continue
		}
		if route.Way == health.ByAddress || route.Way == health.ByHost {
			be.IP = at.Addr()
			continue
		}
		if be.Addrs == nil {
			be.Addrs = map[balance.Port]netip.AddrPort{}
		}
		be.Addrs[balance.Port{Protocol: protocol(p), Number: p.Target}] = at
	}
}

// addresses are those of a container in its networks.
func addresses(c *runtime.Container) []netip.Addr {
	var list []netip.Addr
	for _, at := range c.Networks {
		if a, err := netip.ParseAddr(at.IPv4); err == nil {
			list = append(list, a)
		}
	}
	return list
}

func protocol(p runtime.Port) balance.Protocol {
	if p.Protocol == "udp" {
		return balance.UDP
	}
	return balance.TCP
}

// frontends are where a service's published ports are listened at: of a range,
// at its first port.
func frontends(key balance.Key, ports []runtime.Port) []balance.Frontend {
	var list []balance.Frontend
	for _, p := range ports {
		first, _, _ := strings.Cut(p.Published, "-")
		n, _ := strconv.ParseUint(first, 10, 16) // none: the kernel chooses
		f := balance.Frontend{Key: key, Protocol: protocol(p), Port: uint16(n), Target: p.Target}
		if host, err := netip.ParseAddr(p.HostIP); err == nil && p.HostIP != "0.0.0.0" {
			f.Host = host
		}
		list = append(list, f)
	}
	return list
}

// unbalance has the balancer forget a stack that is gone.
func (l *loop) unbalance(ctx context.Context) {
	b := l.d.balancing
	if b.b == nil {
		return
	}
	for service := range l.routed {
		_ = b.b.Route(balance.Key{Stack: l.name, Service: service}, balance.Routing{}) // makes sense
	}
	b.listen(ctx, l.name, nil)
}
