package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
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
const measureTime = 10 * time.Second

// measure fills in what is measured of the service.
func (k *scaleLook) measure(ctx context.Context, in *scaling.Input, out *api.Scaling) {
	ctx, cancel := context.WithTimeout(ctx, measureTime)
	defer cancel()
	m := measured{asked: k.askAll(ctx)}
	if !k.s.counted.IsZero() {
		m.window = k.now.Sub(k.s.counted)
	}
	m.usage, k.s.stats, m.unused = k.usage(ctx, k.s.stats)
	for i := range k.facts {
		in.Replicas = append(in.Replicas, k.replica(i, &m))
	}
	for i := range k.svc.Autoscale.Policy.Metrics {
		metric := &k.svc.Autoscale.Policy.Metrics[i]
		if metric.Source == scaling.FromExternal {
			in.External = append(in.External, k.external(i, metric, &k.svc.Autoscale.Sources[i], &m))
		}
	}
	out.Missing = k.missing(in, &m)
	k.s.counters, k.s.counted = k.s.pool, k.now
}

// measured is what was measured of a service at one look.
type measured struct {
	usage  map[string]scaling.Usage // by container ID
	unused map[string]error         // why a container that runs has no usage, by its ID
	window time.Duration            // since the balancer's counters were last looked at; 0: they were not
	asked  map[question]answered
}

// question is a metric, by its place in the policy, that a replica is asked for, by
// its place among the facts; wholeService: any of them, or an address.
type question struct{ metric, replica int }

const wholeService = -1

type answered struct {
	value int64
	err   error
}

// askedAtOnce bounds how many values of one metric are asked for at a time. One
// that hangs takes the place of one.
const askedAtOnce = 64

// askAll asks for all values that are asked for, side by side.
func (k *scaleLook) askAll(ctx context.Context) map[question]answered {
	answers := map[question]answered{}
	var mu sync.Mutex // protects answers
	var asked sync.WaitGroup
	for i := range k.svc.Autoscale.Sources {
		src, room := &k.svc.Autoscale.Sources[i], make(chan struct{}, askedAtOnce)
		for _, replica := range k.whomToAsk(i, src) {
			asked.Go(func() {
				a := answered{err: context.DeadlineExceeded}
				select {
				case room <- struct{}{}:
					a.value, a.err = k.askOne(ctx, src, replica)
					<-room
				case <-ctx.Done():
				}
				mu.Lock()
				defer mu.Unlock()
				answers[question{i, replica}] = a
			})
		}
	}
	asked.Wait()
	return answers
}

// whomToAsk are the replicas that are asked for a metric.
func (k *scaleLook) whomToAsk(metric int, src *stack.MetricSource) []int {
	switch src.Kind {
	case stack.MetricPrometheus, stack.MetricExec, stack.MetricWebhook:
	default:
		return nil // it is counted
	}
	if k.svc.Autoscale.Policy.Metrics[metric].Source == scaling.FromExternal {
		return []int{wholeService}
	}
	var list []int
	for i := range k.facts {
		if c := k.facts[i].Container; c != nil && c.State == runtime.Running {
			list = append(list, i)
		}
	}
	return list
}

func (k *scaleLook) askOne(ctx context.Context, src *stack.MetricSource, replica int) (int64, error) {
	meter := k.l.d.cfg.Meter
	switch {
	case meter == nil:
		return 0, errNoMeter
	case replica != wholeService:
		return k.ask(ctx, meter, src, k.facts[replica].Container)
	case src.Kind == stack.MetricWebhook:
		return meter.Value(ctx, src, nil)
	default:
		return k.askAny(ctx, meter, src)
	}
}

// How much is told of missing values.
const (
	keptMissing   = 5 // reasons
	namedReplicas = 3 // of one reason
)

// missing tells why replicas that run have no value, each reason once.
func (k *scaleLook) missing(in *scaling.Input, m *measured) []string {
	var list []string
	for j := range k.svc.Autoscale.Policy.Metrics {
		name, whose := k.svc.Autoscale.Policy.Metrics[j].Name, map[string][]string{}
		for i := range in.Replicas {
			if lacks(&in.Replicas[i], name) {
				why := k.whyMissing(question{j, i}, m).Error()
				whose[why] = append(whose[why], in.Replicas[i].Name)
			}
		}
		for _, why := range sortedKeys(whose) {
			list = append(list, fmt.Sprintf("%s of %s: %s", name, someOf(whose[why]), why))
		}
	}
	return list[:min(len(list), keptMissing)]
}

// lacks reports whether a replica runs and has no value of a metric that is of
// each replica.
func lacks(r *scaling.Replica, metric string) bool {
	return r.Phase == scaling.Running &&
		slices.ContainsFunc(r.Samples, func(s scaling.Sample) bool { return s.Metric == metric && s.Missing })
}

// someOf names the first few: "web/1, web/2, web/3 and 4 more".
func someOf(names []string) string {
	if more := len(names) - namedReplicas; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:namedReplicas], ", "), more)
	}
	return strings.Join(names, ", ")
}

var (
	errNotCounted = errors.New("what it uses could not be read")
	errFromNowOn  = errors.New("it is measured from now on")
)

// whyMissing is why a replica that runs has no value.
func (k *scaleLook) whyMissing(q question, m *measured) error {
	if a := m.asked[q]; a.err != nil {
		return a.err
	}
	if counted(k.svc.Autoscale.Sources[q.metric].Kind) {
		return cmp.Or(m.unused[k.facts[q.replica].Container.ID], errNotCounted)
	}
	return errFromNowOn
}

// usage is what each running container has used since the samples before, and the
// samples that the next usage begins with: the old one where there is no new one.
// why says it of those that have none.
func (k *scaleLook) usage(ctx context.Context, before map[string]runtime.Stats) (usage map[string]scaling.Usage, next map[string]runtime.Stats, why map[string]error) {
	var running []runtime.Container
	for _, f := range k.facts {
		if f.Container != nil && f.Container.State == runtime.Running {
			running = append(running, *f.Container)
		}
	}
	meter := k.l.d.cfg.Meter
	if meter == nil || len(running) == 0 {
		return nil, nil, nil
	}
	now := meter.Stats(ctx, running)
	usage, next, why = map[string]scaling.Usage{}, map[string]runtime.Stats{}, map[string]error{}
	for i := range running {
		id := running[i].ID
		prev, known := before[id]
		cur, sampled := now[id]
		if known {
			next[id] = prev
		}
		if !sampled {
			why[id] = errNotCounted
			continue
		}
		next[id] = cur
		if !known {
			why[id] = errFromNowOn
		} else if u, err := scaling.UsageBetween(prev, cur); err != nil {
			why[id] = err
		} else {
			usage[id] = u
		}
	}
	return usage, next, why
}

// replica is one replica as the policy sees it.
func (k *scaleLook) replica(i int, m *measured) scaling.Replica {
	f := &k.facts[i]
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
	for j := range k.svc.Autoscale.Policy.Metrics {
		if k.svc.Autoscale.Policy.Metrics[j].Source != scaling.FromExternal {
			r.Samples = append(r.Samples, k.sample(question{j, i}, c, m))
		}
	}
	return r
}

// sample is what one metric says of one replica, by its container.
func (k *scaleLook) sample(q question, c *runtime.Container, m *measured) scaling.Sample {
	src := &k.svc.Autoscale.Sources[q.metric]
	s := scaling.Sample{Metric: k.svc.Autoscale.Policy.Metrics[q.metric].Name, At: k.now, Missing: true, Reservation: k.reservation(src.Kind)}
	value := func(n int64) { s.Value, s.Missing = n, false }
	if u, known := m.usage[c.ID]; known && counted(src.Kind) {
		s.At, s.Window = u.At, u.Window
		value(used(src.Kind, &u))
	}
	if src.Kind.Balanced() {
		if n, ok := balanced(src.Kind, k.backend(&k.s.pool, c.ID), k.backend(&k.s.counters, c.ID), m.window); ok {
			value(n)
		}
	}
	if a, asked := m.asked[q]; asked && a.err == nil {
		value(a.value)
	}
	return s
}

// counted reports whether a metric is of the container's own counters.
func counted(kind stack.MetricKind) bool {
	switch kind {
	case stack.MetricCPU, stack.MetricMemory, stack.MetricNetworkIn, stack.MetricNetworkOut, stack.MetricBlockRead, stack.MetricBlockWrite:
		return true
	default:
		return false
	}
}

// used is a usage as a metric counts it.
func used(kind stack.MetricKind, u *scaling.Usage) int64 {
	switch kind {
	case stack.MetricCPU:
		return u.CPU
	case stack.MetricMemory:
		return u.Memory
	case stack.MetricNetworkIn:
		return inThousandths(u.NetRx)
	case stack.MetricNetworkOut:
		return inThousandths(u.NetTx)
	case stack.MetricBlockRead:
		return inThousandths(u.BlkRead)
	default:
		return inThousandths(u.BlkWrite)
	}
}

func inThousandths(n int64) int64 {
	if n > math.MaxInt64/1000 {
		return math.MaxInt64
	}
	return n * 1000
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
func (k *scaleLook) ask(ctx context.Context, meter Meter, src *stack.MetricSource, c *runtime.Container) (int64, error) {
	at := &Metered{Container: c}
	if src.Kind == stack.MetricPrometheus {
		at.Route = k.route(src, c)
	}
	return meter.Value(ctx, src, at)
}

// route is the way to a replica's page of metrics.
func (k *scaleLook) route(src *stack.MetricSource, c *runtime.Container) health.Route {
	port, ok := src.Port.Resolve(k.svc.NamedPorts)
	if !ok {
		return health.Route{Reason: fmt.Sprintf("no port is named %q", src.Port.Name)}
	}
	return health.Choose(k.l.factsOf(c, k.obs), "", port)
}

// external is what a metric of the whole service says.
func (k *scaleLook) external(metric int, m *scaling.Metric, src *stack.MetricSource, all *measured) scaling.External {
	e := scaling.External{Metric: m.Name}
	if src.Kind.Balanced() {
		n, ok := balanced(src.Kind, k.s.pool, k.s.counters, all.window)
		if !ok {
			e.Unavailable = errFromNowOn.Error()
		}
		e.Value = n
		return e
	}
	a := all.asked[question{metric, wholeService}]
	if e.Value = a.value; a.err != nil {
		e.Unavailable = a.err.Error()
	}
	return e
}

// askAny asks any ready replica.
func (k *scaleLook) askAny(ctx context.Context, meter Meter, src *stack.MetricSource) (int64, error) {
	err := invalid("ask", k.svc.Name, "no replica is ready")
	for _, f := range k.facts {
		if !f.Ready || f.Container == nil {
			continue
		}
		var n int64
		if n, err = k.ask(ctx, meter, src, f.Container); err == nil {
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

// sizeFirst is how soon the first look is followed by another: usage is what lies
// between two.
const sizeFirst = 5 * time.Second

// size adds what replicas use to what is known of the service, and sets limits
// that fit better.
func (k *scaleLook) size(ctx context.Context) {
	k.s.sizeDue = k.now.Add(sizeEvery)
	ctx, cancel := context.WithTimeout(ctx, measureTime)
	defer cancel()
	var usage map[string]scaling.Usage
	usage, k.s.sized, _ = k.usage(ctx, k.s.sized) // a policy's own window is another
	if len(usage) == 0 {
		k.s.sizeDue = k.now.Add(sizeFirst)
	}
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
	bounds := k.svc.Vertical.Bounds
	rec, ok := k.s.History.Recommend(vertical.Options{LeastCPU: bounds.Min.CPU, LeastMemory: bounds.Min.Memory})
	if !ok {
		return
	}
	limits, promised := k.limits(), k.promised()
	bounds.Min.CPU, bounds.Min.Memory = max(bounds.Min.CPU, promised.CPU), max(bounds.Min.Memory, promised.Memory)
	change := vertical.Apply(rec, bounds, limits, used)
	k.s.Resized = k.now
	sizing := &api.Sizing{Service: k.svc.Name, At: k.now, Mode: string(k.svc.Vertical.Mode), Recommendation: rec, Limits: limits, Used: used, Change: change}
	k.l.publish(k.svc.Name, k.s, func(now *shown) { now.sizing = sizing })
	if k.svc.Vertical.Mode != stack.Resize || !change.Changes() || k.state().AutoHeld {
		return
	}
	k.apply(fmt.Sprintf("cpu %s; memory %s", change.CPU.Reason, change.Memory.Reason), func(st *reconcile.ServiceState) {
		st.Size = reconcile.Size{NanoCPUs: change.CPU.To * nanosPerMilli, Memory: change.Memory.To}
	})
}

// promised is what each replica is promised, which no limit may be less than: the
// engine refuses such a limit of memory.
func (k *scaleLook) promised() vertical.Amounts {
	r := k.svc.Placement.Reservation
	return vertical.Amounts{CPU: r.CPU, Memory: max(r.Memory, k.svc.Spec.Limits.MemoryReservation)}
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
