package daemon

import (
	"context"
	"io"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/berth-dev/berth/internal/balance"
	"github.com/berth-dev/berth/internal/reconcile"
	"github.com/berth-dev/berth/internal/relay"
	"github.com/berth-dev/berth/runtime"
)

// How a relay is spoken to.
const (
	relayPatience   = 3 * time.Second        // after which one that has not done what it was told counts as deaf
	firstRelayRetry = 250 * time.Millisecond // of a connection that broke
	lastRelayRetry  = 5 * time.Second
	goodRelayTime   = 10 * time.Second // a connection that lasted so long was a good one
)

// talk is the daemon's side of one relay: it attaches to its container, tells it
// where to lead, each time all of it, and hears how it stands.
type talk struct {
	container string // ID
	service   string
	wake      func()
	cancel    context.CancelFunc
	changed   chan struct{} // capacity 1: there is another order to send

	mu     sync.Mutex // protects all below
	order  relay.Order
	due    time.Time            // since when the order is not known to be carried out
	report relay.Report         // the last one of this connection
	out    map[string]time.Time // since when containers are given no more connections
}

// newTalk is not started yet. Its orders are numbered from anywhere, so that none
// has the number of one of the daemon before.
func newTalk(container, service string, wake func(), now time.Time) *talk {
	return &talk{
		container: container, service: service, wake: wake, changed: make(chan struct{}, 1), due: now,
		order: relay.Order{ID: rand.Uint64()}, out: map[string]time.Time{}, // #nosec G404 -- no secret
	}
}

// tell has the relay lead where to says from now on. It never blocks.
func (t *talk) tell(to relay.Routing, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if reflect.DeepEqual(t.order.Routing, to) {
		return
	}
	if t.obeysLocked() {
		t.due = now
	}
	t.order = relay.Order{ID: t.order.ID + 1, Routing: to}
	select {
	case t.changed <- struct{}{}:
	default:
	}
}

// obeysLocked reports whether the relay has done what it was told last; t.mu is held.
func (t *talk) obeysLocked() bool { return t.report.ID == t.order.ID }

// run talks to the relay until ctx ends, again and again when the connection breaks.
func (t *talk) run(ctx context.Context, engine Engine) {
	retry := firstRelayRetry
	for ctx.Err() == nil {
		begin := time.Now()
		t.connect(ctx, engine)
		t.disconnected(time.Now())
		if time.Since(begin) >= goodRelayTime {
			retry = firstRelayRetry
		}
		select {
		case <-ctx.Done():
		case <-time.After(retry):
		}
		retry = min(2*retry, lastRelayRetry)
	}
}

// connect talks to the relay as long as the connection lasts. Why it broke does
// not matter: what is wrong with the container is seen where it is observed.
func (t *talk) connect(ctx context.Context, engine Engine) {
	ctx, cancel := context.WithCancel(ctx)
	in, orders := io.Pipe()
	var sending sync.WaitGroup
	sending.Go(func() { t.send(ctx, orders) })
	reports := &relay.Lines{Each: t.hear}
	_ = engine.Attach(ctx, t.container, runtime.AttachOptions{}, runtime.Streams{In: in, Out: reports, Err: io.Discard})
	cancel()
	_ = in.Close() // a pipe never fails
	sending.Wait()
}

// send writes the present order, and each that follows, until ctx ends.
func (t *talk) send(ctx context.Context, orders *io.PipeWriter) {
	defer func() { _ = orders.Close() }() // a pipe never fails
	for {
		t.mu.Lock()
		line, err := relay.Line(t.order)
		t.mu.Unlock()
		if err == nil {
			_, err = orders.Write(line)
		}
		if err != nil {
			return // the connection broke
		}
		select {
		case <-t.changed:
		case <-ctx.Done():
			return
		}
	}
}

// hear takes a report.
func (t *talk) hear(line []byte) {
	report, err := relay.ParseReport(line)
	if err != nil {
		return // the end of one that was meant for the daemon before
	}
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if news(&t.report, &report) {
		defer t.wake() // which never blocks
	}
	t.report = report
	out := map[string]time.Time{}
	for _, c := range report.Backends {
		if c.Routed {
			continue
		}
		if out[c.ID] = t.out[c.ID]; out[c.ID].IsZero() {
			out[c.ID] = now
		}
	}
	t.out = out
}

// news reports whether a plan may depend on the change from a report to the next:
// all but the numbers of connections that go on.
func news(old, now *relay.Report) bool {
	if old.ID != now.ID || old.Trouble != now.Trouble || (old.Waiting > 0) != (now.Waiting > 0) {
		return true
	}
	leaving := func(r *relay.Report) (ids []string) {
		for _, c := range r.Backends {
			if !c.Routed && c.Open > 0 {
				ids = append(ids, c.ID)
			}
		}
		return ids
	}
	return !slices.Equal(leaving(old), leaving(now))
}

// disconnected notes that the relay is not heard any more.
func (t *talk) disconnected(now time.Time) {
	defer t.wake()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.obeysLocked() {
		t.due = now
	}
	t.report = relay.Report{}
}

// state is how the relay stands, and what it says of containers, added to what
// other relays of the service say.
func (t *talk) state(now time.Time, carried map[string]reconcile.Backend) reconcile.RelayState {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := reconcile.RelayState{Obeys: t.obeysLocked(), Trouble: t.report.Trouble}
	s.Deaf = !s.Obeys && now.Sub(t.due) > relayPatience
	if s.Deaf {
		return s
	}
	for _, c := range t.report.Backends {
		b := carried[c.ID]
		b.Routed, b.Open = b.Routed || c.Routed, b.Open+c.Open
		if out := t.out[c.ID]; out.After(b.Since) {
			b.Since = out
		}
		carried[c.ID] = b
	}
	return s
}

// relayedLocked adds to what was observed what the relays say; l.mu is held.
func (l *loop) relayedLocked(obs *reconcile.Observed, now time.Time) {
	obs.Relays, obs.Carried = map[string]reconcile.RelayState{}, map[string]reconcile.Backend{}
	for id, t := range l.talks.of {
		obs.Relays[id] = t.state(now, obs.Carried)
	}
}

// relay has the relays lead where a plan says.
func (l *loop) relay(ctx context.Context, plan *reconcile.Plan, obs *reconcile.Observed) {
	now := map[string]bool{}
	for _, service := range sortedKeys(plan.Relayed) {
		r := plan.Relayed[service]
		for _, id := range r.Relays {
			now[id] = true
			l.talkTo(ctx, id, service).tell(relayRouting(id, &r.Routing, obs), time.Now())
		}
	}
	l.talks.mu.Lock()
	defer l.talks.mu.Unlock()
	for id, t := range l.talks.of {
		if !now[id] {
			t.cancel()
			delete(l.talks.of, id)
		}
	}
}

// talks are those with the relays of a stack. Its loop alone changes them.
type talks struct {
	mu sync.Mutex       // held while they are changed, and by others than the loop
	of map[string]*talk // by container ID
}

// pooled adds what the relays of a service carry to what the balancer does.
func (t *talks) pooled(service string, pool *balance.PoolStatus) (found bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, one := range t.of {
		if one.service == service {
			one.pooled(pool)
			found = true
		}
	}
	return found
}

func (t *talk) pooled(pool *balance.PoolStatus) {
	t.mu.Lock()
	defer t.mu.Unlock()
	pool.Waiting += t.report.Waiting
	pool.Connections += t.report.Carries
	for _, c := range t.report.Backends {
		pool.Open += c.Open
	}
}

// talkTo returns the talk with a relay, and begins it where there is none.
func (l *loop) talkTo(ctx context.Context, id, service string) *talk {
	if t := l.talks.of[id]; t != nil {
		return t
	}
	t := newTalk(id, service, l.wakeUp, time.Now())
	ctx, t.cancel = context.WithCancel(ctx)
	l.talks.mu.Lock()
	l.talks.of[id] = t
	l.talks.mu.Unlock()
	l.d.running.Go(func() { t.run(ctx, l.d.cfg.Engine) })
	return t
}

// relayRouting is a plan's routing in a relay's words.
func relayRouting(id string, r *reconcile.Routing, obs *reconcile.Observed) relay.Routing {
	to := relay.Routing{Policy: balance.Policy(r.Balance.Policy), HeldMost: r.Balance.MaxHeld, HeldFor: r.Balance.Hold}
	self := container(obs, id)
	for _, at := range r.Backends {
		ip := shared(self, container(obs, at.Container))
		if !ip.IsValid() {
			continue
		}
		to.Backends = append(to.Backends, relay.Backend{ID: at.Container, Group: at.Revision, IP: ip})
		if at.Weight > 0 {
			if to.Shares == nil {
				to.Shares = map[string]int{}
			}
			to.Shares[at.Revision] = at.Weight
		}
	}
	return to
}

// container is what was observed of one; nil: nothing.
func container(obs *reconcile.Observed, id string) *runtime.Container {
	i := slices.IndexFunc(obs.Containers, func(c runtime.Container) bool { return c.ID == id })
	if i < 0 {
		return nil
	}
	return &obs.Containers[i]
}

// shared is the address at which one container reaches another in a network that
// both are in; not valid where there is none.
func shared(from, to *runtime.Container) netip.Addr {
	if from == nil || to == nil {
		return netip.Addr{}
	}
	for _, at := range to.Networks {
		if !slices.ContainsFunc(from.Networks, func(e runtime.Endpoint) bool { return e.Network == at.Network }) {
			continue
		}
		for _, text := range []string{at.IPv4, at.IPv6} {
			if ip, err := netip.ParseAddr(text); err == nil {
				return ip
			}
		}
	}
	return netip.Addr{}
}
