package daemon

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/berth-dev/berth/health"
	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/balance"
	"github.com/berth-dev/berth/internal/reconcile"
	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/scaling"
	"github.com/berth-dev/berth/scaling/forecast"
	"github.com/berth-dev/berth/scaling/vertical"
)

// measureTime bounds how long one measurement of a service takes.
const measureTime = 5 * time.Second

// measure fills in what is measured of the service.
func (k *scaleLook) measure(ctx context.Context, in *scaling.Input) {
	ctx, cancel := context.WithTimeout(ctx, measureTime)
	defer cancel()
	usage := k.usage(ctx)
	window := k.now.Sub(k.s.counted)
	for i := range k.facts {
		in.Replicas = append(in.Replicas, k.replica(ctx, &k.facts[i], usage, window))
	}
	for i := range k.svc.Autoscale.Policy.Metrics {
		m := &k.svc.Autoscale.Policy.Metrics[i]
		if m.Source == scaling.FromExternal {
			in.External = append(in.External, k.external(ctx, m, &k.svc.Autoscale.Sources[i], window))
		}
	}
	k.s.counters, k.s.counted = k.s.pool, k.now
}

// usage is what each running container has used since the last measurement.
func (k *scaleLook) usage(ctx context.Context) map[string]scaling.Usage {
	var running []runtime.Container
	for _, f := range k.facts {
		if f.Container != nil && f.Container.State == runtime.Running {
			running = append(running, *f.Container)
		}
	}
	meter := k.l.d.cfg.Meter
	if meter == nil || len(running) == 0 {
		return nil
	}
	now := meter.Stats(ctx, running)
	usage := map[string]scaling.Usage{}
	for id, cur := range now {
		if u, err := scaling.UsageBetween(k.s.stats[id], cur); err == nil && !k.s.stats[id].Time.IsZero() {
			usage[id] = u
		}
	}
	k.s.stats = now
	return usage
}

// replica is one replica as the policy sees it.
func (k *scaleLook) replica(ctx context.Context, f *reconcile.Readiness, usage map[string]scaling.Usage, window time.Duration) scaling.Replica {
	r := scaling.Replica{Name: string(f.Key), Phase: scaling.Pending}
	c := f.Container
	if c == nil {
		return r
	}
	fact := k.s.ready[c.ID]
	r.Ready, r.ReadyChanged, r.WasReady, r.Started = f.Ready, fact.since, fact.was, c.Started
	switch {
	case c.State == runtime.Running:
		r.Phase = scaling.Running
	case f.Failed != "":
		r.Phase = scaling.Failed
	}
	a := k.svc.Autoscale
	for i := range a.Policy.Metrics {
		if m := &a.Policy.Metrics[i]; m.Source != scaling.FromExternal {
			r.Samples = append(r.Samples, k.sample(ctx, m, &a.Sources[i], c, usage, window))
		}
	}
	return r
}

// sample is what one metric says of one replica.
func (k *scaleLook) sample(ctx context.Context, m *scaling.Metric, src *stack.MetricSource, c *runtime.Container, usage map[string]scaling.Usage, window time.Duration) scaling.Sample {
	s := scaling.Sample{Metric: m.Name, At: k.now, Missing: true, Reservation: k.reservation(src.Kind)}
	value := func(n int64) { s.Value, s.Missing = n, false }
	if u, known := usage[c.ID]; known {
		s.At, s.Window = u.At, u.Window
		switch src.Kind {
		case stack.MetricCPU:
			value(u.CPU)
		case stack.MetricMemory:
			value(u.Memory)
		case stack.MetricNetworkIn:
			value(u.NetRx * 1000)
		case stack.MetricNetworkOut:
			value(u.NetTx * 1000)
		case stack.MetricBlockRead:
			value(u.BlkRead * 1000)
		case stack.MetricBlockWrite:
			value(u.BlkWrite * 1000)
		default: // not of the container's counters
		}
	}
	switch {
	case src.Kind.Balanced():
		if n, ok := balanced(src.Kind, k.backend(&k.s.pool, c.ID), k.backend(&k.s.counters, c.ID), window); ok {
			value(n)
		}
	case src.Kind == stack.MetricPrometheus || src.Kind == stack.MetricExec:
		if n, err := k.ask(ctx, src, c); err == nil {
			value(n)
		}
	}
	return s
}

// reservation is what a replica is promised of what a metric measures.
func (k *scaleLook) reservation(kind stack.MetricKind) int64 {
	switch r := k.svc.Placement.Reservation; kind {
	case stack.MetricCPU:
		return r.CPU
	case stack.MetricMemory:
		return r.Memory
	default:
		return 0
	}
}

// backend is what a pool says of a container; the zero value: nothing.
func (k *scaleLook) backend(pool *balance.PoolStatus, id string) balance.PoolStatus {
	for _, be := range pool.Backends {
		if be.ID == id {
			return balance.PoolStatus{Open: be.Open, Counters: be.Counters}
		}
	}
	return balance.PoolStatus{}
}

// balanced is what the balancer says of a pool or a container, in thousandths.
func balanced(kind stack.MetricKind, now, before balance.PoolStatus, window time.Duration) (int64, bool) {
	switch kind {
	case stack.MetricConnections:
		return int64(now.Open) * 1000, true
	case stack.MetricRequests:
		return int64(now.Open+now.Waiting) * 1000, true
	case stack.MetricConnectionRate:
		if window <= 0 || now.Connections < before.Connections {
			return 0, false
		}
		return int64(float64(now.Connections-before.Connections) * 1000 / window.Seconds()), true
	case stack.MetricLatency:
		since := now.Latency.Minus(before.Latency)
		if since.Count() == 0 {
			return 0, true // nobody came
		}
		mean := float64(since.Sum.Milliseconds()) / float64(since.Count())
		return int64(mean), true // thousandths of a second
	default:
		return 0, false
	}
}

// ask asks one replica for a value.
func (k *scaleLook) ask(ctx context.Context, src *stack.MetricSource, c *runtime.Container) (int64, error) {
	meter := k.l.d.cfg.Meter
	if meter == nil {
		return 0, errNoMeter
	}
	at := &Metered{Container: c}
	if src.Kind == stack.MetricPrometheus {
		at.Address = k.address(src, c)
	}
	return meter.Value(ctx, src, at)
}

// address is where a replica's page of metrics is reached; empty: nowhere.
func (k *scaleLook) address(src *stack.MetricSource, c *runtime.Container) string {
	f := health.Facts{Container: *c, Local: k.l.d.cfg.Probing.Local, EngineHost: k.l.d.cfg.Probing.EngineHost, Drivers: map[string]string{}}
	for name := range k.obs.Networks {
		f.Drivers[name] = k.obs.Networks[name].Driver
	}
	port := src.Port.Number
	if src.Port.Name != "" {
		port = k.svc.NamedPorts[src.Port.Name]
	}
	route := health.Choose(f, "", port)
	if _, err := netip.ParseAddrPort(route.Address); err != nil || route.Way == health.ByHelper {
		return ""
	}
	return route.Address
}

// external is what a metric of the whole service says.
func (k *scaleLook) external(ctx context.Context, m *scaling.Metric, src *stack.MetricSource, window time.Duration) scaling.External {
	e := scaling.External{Metric: m.Name}
	if src.Kind.Balanced() {
		n, ok := balanced(src.Kind, k.s.pool, k.s.counters, window)
		if !ok {
			e.Unavailable = "it is measured from now on"
		}
		e.Value = n
		return e
	}
	meter := k.l.d.cfg.Meter
	if meter == nil {
		e.Unavailable = errNoMeter.Error()
		return e
	}
	var err error
	if src.Kind == stack.MetricWebhook {
		e.Value, err = meter.Value(ctx, src, nil)
	} else {
		e.Value, err = k.askAny(ctx, src)
	}
	if err != nil {
		e.Unavailable = err.Error()
	}
	return e
}

// askAny asks any ready replica.
func (k *scaleLook) askAny(ctx context.Context, src *stack.MetricSource) (int64, error) {
	err := invalid("ask", k.svc.Name, "no replica is ready")
	for _, f := range k.facts {
		if !f.Ready || f.Container == nil {
			continue
		}
		var n int64
		if n, err = k.ask(ctx, src, f.Container); err == nil {
			return n, nil
		}
	}
	return 0, err
}

var errNoMeter = invalid("measure", "replicas", "nothing can be measured on this engine")

// expected is how many replicas the service will need when a new one would be
// ready.
func (k *scaleLook) expected() int {
	if k.s.Series == nil {
		return 0
	}
	return k.s.Series.At(k.now.Add(k.interval()), k.now).Replicas()
}

// observe notes how many replicas the metrics ask for, in parts of one too.
func (k *scaleLook) observe(dec *scaling.Decision) {
	needed, ok := dec.Need()
	if !ok {
		return
	}
	if k.s.Series == nil {
		k.s.Series = &forecast.Series{Season: k.svc.Autoscale.Season}
	}
	k.s.Series.Observe(k.now, needed)
}

// sizeEvery is how often limits are looked at, and usage is added to what is known:
// once a minute, as the Kubernetes recommender does.
const sizeEvery = time.Minute

// size adds what replicas use to what is known of the service, and sets limits
// that fit better.
func (k *scaleLook) size(ctx context.Context) {
	k.s.sizeDue = k.now.Add(sizeEvery)
	ctx, cancel := context.WithTimeout(ctx, measureTime)
	defer cancel()
	usage := k.usageForSize(ctx)
	if k.s.History == nil {
		k.s.History = &vertical.History{}
	}
	var most vertical.Amounts
	for _, f := range k.facts {
		if f.Container == nil {
			continue
		}
		u, known := usage[f.Container.ID]
		if known {
			k.s.History.AddCPU(string(f.Key), u.At.Add(-u.Window), u.CPU, k.svc.Placement.Reservation.CPU)
			k.s.History.AddMemory(string(f.Key), u.At, u.Memory)
			most.CPU, most.Memory = max(most.CPU, u.CPU), max(most.Memory, u.Memory)
		}
		k.noteOOM(&f)
	}
	k.resize(most)
	k.l.keepScaling()
}

// usageForSize is the usage since the last look at sizes. Where a policy measures
// the same containers, its own last figures are taken.
func (k *scaleLook) usageForSize(ctx context.Context) map[string]scaling.Usage {
	if k.svc.Autoscale == nil {
		return k.usage(ctx)
	}
	before := k.s.stats
	defer func() { k.s.stats = before }() // the policy's own window goes on
	return k.usage(ctx)
}

// noteOOM adds that a replica was killed for want of memory.
func (k *scaleLook) noteOOM(f *reconcile.Readiness) {
	k.l.mu.Lock()
	oom := k.l.record.Memory.OOMs[f.Key]
	k.l.mu.Unlock()
	if oom.Last.IsZero() || k.s.ooms[string(f.Key)].Equal(oom.Last) {
		return
	}
	if k.s.ooms == nil {
		k.s.ooms = map[string]time.Time{}
	}
	k.s.ooms[string(f.Key)] = oom.Last
	k.s.History.AddOOM(string(f.Key), oom.Last, f.Container.Limits.Memory)
}

// resize sets the limits that fit better, where the service asks for it.
func (k *scaleLook) resize(used vertical.Amounts) {
	rec, ok := k.s.History.Recommend(vertical.Options{})
	if !ok {
		return
	}
	limits := k.limits()
	change := vertical.Apply(rec, k.svc.Vertical.Bounds, limits, used)
	k.s.Resized = k.now
	sizing := &api.Sizing{Service: k.svc.Name, At: k.now, Mode: string(k.svc.Vertical.Mode), Recommendation: rec, Limits: limits, Used: used, Change: change}
	k.l.publish(k.svc.Name, k.s, func(now *shown) { now.sizing = sizing })
	if k.svc.Vertical.Mode != stack.Resize || !change.Changes() || k.state().AutoHeld {
		return
	}
	k.l.apply(k.svc.Name, fmt.Sprintf("cpu %s; memory %s", change.CPU.Reason, change.Memory.Reason), func(st *reconcile.ServiceState) {
		st.Size = reconcile.Size{NanoCPUs: change.CPU.To * nanosPerMilli, Memory: change.Memory.To}
	})
}

// nanosPerMilli is a millicore in nanocores.
const nanosPerMilli = 1_000_000

// limits are a replica's limits now; 0: none.
func (k *scaleLook) limits() vertical.Amounts {
	l := k.svc.Spec.Limits
	a := vertical.Amounts{CPU: l.NanoCPUs / nanosPerMilli, Memory: l.Memory}
	if l.NanoCPUs == 0 && l.CPUQuota > 0 && l.CPUPeriod > 0 {
		a.CPU = l.CPUQuota * 1000 / l.CPUPeriod
	}
	if size := k.state().Size; size.NanoCPUs > 0 {
		a.CPU = size.NanoCPUs / nanosPerMilli
	}
	if size := k.state().Size; size.Memory > 0 {
		a.Memory = size.Memory
	}
	return a
}

// keepScaling has what is known of use stored with the next state.
func (l *loop) keepScaling() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unsaved = true
}
