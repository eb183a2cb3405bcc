package stack

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/berth-dev/berth/health"
	"github.com/berth-dev/berth/scaling"
	"github.com/berth-dev/berth/scaling/timetable"
)

// The names that the fields of package scaling have in the file, after "[0]" has
// become ".0".
var (
	policyKeys = strings.NewReplacer("[", ".", "]", "", "behavior.up.window", "behavior.scaleUp.stabilizationWindow",
		"behavior.down.window", "behavior.scaleDown.stabilizationWindow", "behavior.up", "behavior.scaleUp", "behavior.down", "behavior.scaleDown",
		"limits", "policies", "tolerance.up", "tolerance", "tolerance.down", "tolerance")
	idleKeys        = strings.NewReplacer("after", "idle.after", "do", "idle.action")
	concurrencyKeys = strings.NewReplacer("target", "concurrency.target", "stable", "concurrency.stableWindow", "panicFactor", "concurrency.panicThreshold",
		"panic", "concurrency.panicWindow", "grace", "idle.grace")
)

// scaled reads how many replicas a service has, and how large they are.
func (t *translator) scaled(s *Service, c types.ServiceConfig, ext setting) error {
	if err := t.autoscale(s, c, ext.get("autoscale")); err != nil {
		return err
	}
	if err := t.sizing(s, c, ext.get("resources")); err != nil {
		return err
	}
	return t.warm(s, ext.get("warm"))
}

// autoscale reads x-berth.autoscale.
func (t *translator) autoscale(s *Service, c types.ServiceConfig, ext setting) error {
	if !ext.given() {
		return nil
	}
	if s.Mode != Replicated {
		return ext.fail("cannot be given with mode: %s, whose number of replicas is not free; drop one of them", s.Mode)
	}
	a := &Autoscale{}
	r := autoscaling{translator: t, service: s, config: c, ext: ext, out: a}
	for _, part := range []func() error{r.bounds, r.metrics, r.behavior, r.policy, r.schedules, r.concurrency, r.idle, r.predict, r.zero, r.reach} {
		if err := part(); err != nil {
			return err
		}
	}
	s.Autoscale = a
	r.start()
	if a.Most() > 1 {
		return t.several(s, ext)
	}
	return nil
}

// several refuses what has a service come to more than one container, where all
// of them would need what there is once.
func (t *translator) several(s *Service, at setting) error {
	if s.ContainerName != "" {
		return at.fail("brings several containers, but container_name: gives one name (%s); drop one of them", t.position("services", s.Name, "container_name"))
	}
	sctp := slices.ContainsFunc(s.Spec.Ports, unbalanceable)
	if !ownNetwork(s.Spec.NetworkMode) || s.Publish != PublishDirect && !sctp {
		return nil
	}
	why := "with publish: direct"
	if sctp {
		why = "as the balancer takes no service with sctp ports"
	}
	for _, p := range s.Spec.Ports {
		if port := fixedPort(p.Published); port != 0 {
			return at.fail("brings several containers, but %s the host port %d can be held by one (%s); leave the host port out, or drop one of them",
				why, port, t.position("services", s.Name, "ports"))
		}
	}
	return nil
}

// autoscaling reads one x-berth.autoscale.
type autoscaling struct {
	*translator
	service *Service
	config  types.ServiceConfig
	ext     setting
	out     *Autoscale
}

// faultIn makes an error of package scaling, which begins with the path of a
// field, one about the setting which that is.
func (s setting) faultIn(err error, names *strings.Replacer) error {
	path, reason, _ := strings.Cut(err.Error(), ": ")
	at := s
	for _, key := range strings.Split(names.Replace(path), ".") {
		next := at.get(key)
		if i, err := strconv.Atoi(key); err == nil && i < len(at.list()) {
			next = at.list()[i]
		}
		if !next.given() {
			break
		}
		at = next
	}
	return at.fail("%s", oneLine(reason))
}

// optional is a whole number, or nil where it is not given.
func (s setting) optional() (*int, error) {
	if !s.given() {
		return nil, nil
	}
	n, err := s.integer(0)
	return &n, err
}

// number is a decimal number, or nil where it is not given.
func (s setting) number() (*float64, error) {
	if !s.given() {
		return nil, nil
	}
	f, err := strconv.ParseFloat(s.text(), 64)
	if err != nil {
		return nil, s.fail("%q is not a number", clip(s.text()))
	}
	return &f, nil
}

// optionalDuration is a length of time, or nil where it is not given.
func (s setting) optionalDuration() (*time.Duration, error) {
	if !s.given() {
		return nil, nil
	}
	d, err := s.duration()
	return &d, err
}

// bounds reads how many replicas there may be, and how often that is looked at.
func (r *autoscaling) bounds() error {
	p := &r.out.Policy
	var err error
	if p.Min, err = r.ext.get("min").optional(); err != nil {
		return err
	}
	if p.Max, err = r.ext.get("max").integer(0); err != nil {
		return err
	}
	if p.Min != nil && *p.Min > p.Max {
		return r.ext.get("min").fail("is %d, more than max, which is %d", *p.Min, p.Max)
	}
	interval := r.ext.get("interval")
	if p.Interval, err = interval.duration(); err != nil {
		return err
	}
	if interval.given() && p.Interval < time.Second {
		return interval.fail("%s is too short; the least is 1s", p.Interval)
	}
	return nil
}

// behavior reads how fast the number may change. The tolerance of a direction is
// that of both unless it has its own.
func (r *autoscaling) behavior() error {
	p := &r.out.Policy
	both, err := r.ext.get("tolerance").number()
	if err != nil {
		return err
	}
	p.Tolerance = scaling.Tolerance{Up: both, Down: both}
	from := r.ext.get("behavior")
	if !from.given() {
		return nil
	}
	p.Behavior = &scaling.Behavior{}
	for _, d := range []struct {
		from      setting
		rules     *scaling.Rules
		tolerance **float64
	}{{from.get("scaleUp"), &p.Behavior.Up, &p.Tolerance.Up}, {from.get("scaleDown"), &p.Behavior.Down, &p.Tolerance.Down}} {
		if *d.rules, err = direction(d.from); err != nil {
			return err
		}
		own := d.from.get("tolerance")
		if !own.given() {
			continue
		}
		if *d.tolerance, err = own.number(); err != nil {
			return err
		}
		if f := **d.tolerance; !(f >= 0 && f <= 1) { // also not NaN
			return own.fail("%s is not between 0 and 1", plain(f))
		}
	}
	return nil
}

func direction(s setting) (scaling.Rules, error) {
	var rules scaling.Rules
	var err error
	if rules.Window, err = s.get("stabilizationWindow").optionalDuration(); err != nil {
		return rules, err
	}
	rules.Select = scaling.Select(strings.ToLower(s.get("selectPolicy").text()))
	for _, from := range s.get("policies").list() {
		l := scaling.Limit{Unit: scaling.Replicas}
		if from.get("type").text() == "Percent" {
			l.Unit = scaling.Percent
		}
		if l.Value, err = from.get("value").integer(0); err != nil {
			return rules, err
		}
		if l.Period, err = from.get("period").duration(); err != nil {
			return rules, err
		}
		rules.Limits = append(rules.Limits, l)
	}
	return rules, nil
}

// policy holds what was read against the rules of package scaling. Whether a
// service may have no replicas is not for the metrics alone to say.
func (r *autoscaling) policy() error {
	p := r.out.Policy
	if p.Min != nil && *p.Min == 0 {
		p.Min = nil
	}
	for _, err := range p.Validate() {
		return r.ext.faultIn(err, policyKeys)
	}
	return nil
}

// schedules reads what the clock says.
func (r *autoscaling) schedules() error {
	for i, from := range r.ext.get("schedules").list() {
		s := timetable.Schedule{Name: strconv.Itoa(i + 1), Cron: from.get("cron").text(), TimeZone: from.get("timeZone").text()}
		if err := checkCron(from.get("cron")); err != nil {
			return err
		}
		var err error
		if s.Min, err = from.get("min").optional(); err != nil {
			return err
		}
		if s.Max, err = from.get("max").optional(); err != nil {
			return err
		}
		if s.Replicas, err = from.get("replicas").optional(); err != nil {
			return err
		}
		r.out.Schedules = append(r.out.Schedules, s)
	}
	_, errs := timetable.Parse(r.out.Schedules)
	for _, err := range errs {
		return r.ext.faultIn(err, policyKeys)
	}
	return nil
}

// concurrency reads how the number follows what is under way at once.
func (r *autoscaling) concurrency() error {
	from := r.ext.get("concurrency")
	if !from.given() {
		return nil
	}
	c := &scaling.Concurrency{Min: r.out.Policy.Min, Max: r.out.Policy.Max}
	target, err := from.get("target").number()
	if err != nil {
		return err
	}
	c.Target = *target // the schema has it required
	factor, err := from.get("panicThreshold").number()
	if err != nil {
		return err
	}
	if factor != nil {
		c.PanicFactor = *factor
	}
	for _, d := range []struct {
		from setting
		to   *time.Duration
	}{{from.get("stableWindow"), &c.Stable}, {from.get("panicWindow"), &c.Panic}, {r.ext.get("idle").get("grace"), &c.Grace}} {
		if *d.to, err = d.from.duration(); err != nil {
			return err
		}
		if d.from.given() && *d.to == 0 {
			return d.from.fail("0s is too short")
		}
	}
	for _, err := range c.Validate() {
		return r.ext.faultIn(err, concurrencyKeys)
	}
	r.out.Concurrency = c
	return nil
}

// idle reads when a service that nobody uses is put to rest.
func (r *autoscaling) idle() error {
	from := r.ext.get("idle")
	if !from.given() {
		return nil
	}
	after, action, grace := from.get("after"), from.get("action"), from.get("grace")
	switch {
	case grace.given() && r.out.Concurrency == nil:
		return grace.fail("is how long concurrency: keeps the last replica, but there is no concurrency:; drop it, or give a longer after:")
	case after.given():
	case action.given() || !grace.given():
		return from.fail("the key after is missing")
	default:
		return nil // only the last replica's grace was given
	}
	i := scaling.Idle{Do: scaling.IdleAction(cmp.Or(action.text(), string(scaling.IdleStop)))}
	var err error
	if i.After, err = after.duration(); err != nil {
		return err
	}
	for _, err := range i.Validate() {
		return r.ext.faultIn(err, idleKeys)
	}
	r.out.Idle = &i
	return nil
}

// predict reads after which time the load is expected to come again.
func (r *autoscaling) predict() error {
	from := r.ext.get("predict")
	if !from.given() || from.get("enabled").text() == "false" {
		return nil
	}
	period := from.get("period")
	r.out.Season = defaultSeason
	if !period.given() {
		return nil
	}
	var err error
	if r.out.Season, err = period.duration(); err != nil {
		return err
	}
	if d := r.out.Season; d < leastSeason || d > mostSeason || d%seasonSlot != 0 {
		return period.fail("%s is not between %s and %s, in steps of %s", d, leastSeason, mostSeason, seasonSlot)
	}
	return nil
}

// The seasons that can be expected: package forecast keeps a value for each slot.
const (
	seasonSlot    = 15 * time.Minute
	leastSeason   = time.Hour
	defaultSeason = 24 * time.Hour
	mostSeason    = 21 * defaultSeason
)

// zero wants a service that may have no replicas to have something that starts it
// again: a connection, which Idle and Concurrency wait for, or a metric that needs
// no replica. Pausing and throttling keep the replicas.
func (r *autoscaling) zero() error {
	at, is := r.mayBeZero()
	if !is {
		return nil
	}
	i := r.out.Idle
	webhook := slices.ContainsFunc(r.out.Sources, func(s MetricSource) bool { return s.Kind == MetricWebhook })
	switch {
	case i != nil && i.Do != scaling.IdleStop:
		return at.fail("is 0, but idle.action: %s keeps the replicas; give at least 1, or action: stop", i.Do)
	case i == nil && r.out.Concurrency == nil && !webhook:
		return at.fail("is 0, but nothing could start the service again: give idle:, concurrency: or a webhook metric, or at least 1")
	case !webhook && r.out.Policy.Min != nil:
		least := max(*r.out.Policy.Min, 1) // while it is in use
		r.out.Policy.Min = &least
	}
	return nil
}

// mayBeZero returns the minimum that allows no replicas, the policy's or a
// schedule's. One that fixes their number is meant so.
func (r *autoscaling) mayBeZero() (setting, bool) {
	if p := r.out.Policy.Min; p != nil && *p == 0 {
		return r.ext.get("min"), true
	}
	for i, s := range r.out.Schedules {
		if s.Min != nil && *s.Min == 0 {
			return r.ext.get("schedules").list()[i].get("min"), true
		}
	}
	return setting{}, false
}

// reach wants the balancer to see every connection where it is to count them.
func (r *autoscaling) reach() error {
	at, counts := r.counting()
	s := r.service
	switch {
	case !counts:
	case !ownNetwork(s.Spec.NetworkMode):
		return at.fail("counts the connections through the balancer, but the service has no network of its own (network_mode: %s); drop one of them", clip(s.Spec.NetworkMode))
	case s.Publish == PublishDirect && len(s.Spec.Ports) > 0:
		return at.fail("counts the connections through the balancer, but with publish: direct the engine holds the ports; drop one of them")
	case slices.ContainsFunc(s.Spec.Ports, unbalanceable):
		return at.fail("counts the connections through the balancer, which takes no service with sctp ports (%s); drop one of them", r.position("services", s.Name, "ports"))
	case len(s.Spec.Ports) == 0 && s.Discovery != DiscoverReady:
		return at.fail("counts the connections through the balancer, but the service publishes no ports; give ports:, or discovery: ready for connections from other services")
	}
	return nil
}

// counting is a setting that has the balancer count connections.
func (r *autoscaling) counting() (setting, bool) {
	switch {
	case r.out.Idle != nil:
		return r.ext.get("idle"), true
	case r.out.Concurrency != nil:
		return r.ext.get("concurrency"), true
	}
	for i, s := range r.out.Sources {
		if s.Kind.Balanced() {
			return r.ext.get("metrics").list()[i], true
		}
	}
	return setting{}, false
}

// start brings the number of replicas to begin with within the bounds.
func (r *autoscaling) start() {
	p, s := &r.out.Policy, r.service
	least := 1
	if p.Min != nil {
		least = *p.Min
	}
	n := min(max(s.Replicas, least), p.Max)
	if n == s.Replicas {
		return
	}
	path := []string{"scale"}
	if r.config.Scale == nil {
		path = []string{"deploy", "replicas"}
	}
	if r.config.Scale != nil || r.config.Deploy != nil && r.config.Deploy.Replicas != nil {
		r.warn(fmt.Sprintf("is outside of what x-berth.autoscale allows: the service begins with %d", n), append([]string{"services", s.Name}, path...)...)
	}
	s.Replicas = n
}

// metrics reads what is measured.
func (r *autoscaling) metrics() error {
	p, list := &r.out.Policy, r.ext.get("metrics").list()
	if len(list) == 0 {
		return r.usual()
	}
	names := map[string]int{}
	for _, from := range list {
		m, source, err := r.metric(from)
		if err != nil {
			return err
		}
		names[m.Name]++
		if n := names[m.Name]; n > 1 && !source.Kind.asked() {
			return from.fail("the metric %s stands in the list already; keep one", m.Name)
		} else if n > 1 {
			m.Name = fmt.Sprintf("%s #%d", m.Name, n)
		}
		p.Metrics, r.out.Sources = append(p.Metrics, m), append(r.out.Sources, source)
	}
	return nil
}

// usual reads what is measured where the file does not say: cpu, as far as there
// is something to decide by it.
func (r *autoscaling) usual() error {
	p := &r.out.Policy
	least := 1
	if p.Min != nil {
		least = max(*p.Min, 1)
	}
	switch {
	case p.Max <= least, r.ext.get("concurrency").given():
		return nil
	case r.reserves(MetricCPU):
		p.Metrics = []scaling.Metric{{Source: scaling.FromResource, Name: scaling.CPU, Utilization: scaling.DefaultUtilization}}
		r.out.Sources = []MetricSource{{Kind: MetricCPU}}
		return nil
	case len(r.ext.get("schedules").list()) > 0:
		return nil
	}
	return r.ext.fail("goes by the use of cpu in percent of its reservation unless it has metrics:, concurrency: or schedules:; give one of them, or %s", reservedKeys[scaling.CPU])
}

// metric reads one metric.
func (r *autoscaling) metric(from setting) (m scaling.Metric, source MetricSource, err error) {
	kinds := from.parts()
	if len(kinds) != 1 {
		return m, source, from.fail("has %d kinds; a metric has exactly one, such as cpu", len(kinds))
	}
	at := kinds[0]
	source.Kind, m.Source, m.Name = MetricKind(at.key()), scaling.FromReplicas, at.key()
	switch source.Kind {
	case MetricCPU, MetricMemory:
		m.Source = scaling.FromResource
	case MetricPrometheus:
		err = r.prometheus(&source, at)
		m.Name += " " + source.Metric
	case MetricExec:
		source.Command = at.get("command").texts()
		if len(source.Command) == 0 || source.Command[0] == "" || strings.ContainsRune(strings.Join(source.Command, ""), 0) {
			err = at.get("command").fail("is no command; give a program and its arguments")
		}
	case MetricWebhook:
		m.Source = scaling.FromExternal
		source.URL = at.get("url").text()
		if u, bad := url.Parse(source.URL); bad != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			err = at.get("url").fail("is no URL; give one such as http://host:8080/path")
		}
	case MetricNetworkIn, MetricNetworkOut, MetricBlockRead, MetricBlockWrite, MetricConnections, MetricRequests, MetricConnectionRate, MetricLatency:
	}
	if err == nil {
		err = r.target(&m, source.Kind, at)
	}
	return m, source, err
}

// prometheus reads which sample of a page is the metric.
func (r *autoscaling) prometheus(source *MetricSource, at setting) error {
	var err error
	if source.Port, err = readPort(at.get("port"), namePorts(r.config.Ports)); err != nil {
		return err
	}
	source.Path, source.Metric = cmp.Or(at.get("path").text(), "/metrics"), at.get("metric").text()
	for _, l := range at.get("labels").parts() {
		if source.Labels == nil {
			source.Labels = map[string]string{}
		}
		source.Labels[l.key()] = l.text()
	}
	_, known := source.Port.Resolve(r.service.NamedPorts)
	switch {
	case source.Port == (health.Port{}):
		return at.fail("does not say at which port of the replicas; give port:")
	case !known:
		return at.get("port").fail("no port is named %q; give a number, or a name under ports", clip(source.Port.Name))
	case !matches("^[a-zA-Z_:][a-zA-Z0-9_:]*$", source.Metric):
		return at.get("metric").fail("%q is not the name of a metric, such as http_requests_in_flight", clip(source.Metric))
	}
	if _, err := url.ParseRequestURI(source.Path); err != nil || source.Path[0] != '/' {
		return at.get("path").fail("%q is no path; it begins with / and is encoded as in a URL", clip(source.Path))
	}
	return nil
}

// target reads the value that a metric should have. One for the whole service
// makes the metric external.
func (r *autoscaling) target(m *scaling.Metric, kind MetricKind, at setting) error {
	given := slices.DeleteFunc([]setting{at.get("utilization"), at.get("averageValue"), at.get("value")}, func(s setting) bool { return !s.given() })
	if len(given) != 1 {
		return at.fail("has %d targets; give one of %s", len(given), strings.Join(targetsOf(kind), ", "))
	}
	from := given[0]
	if !slices.Contains(targetsOf(kind), from.key()) {
		return from.fail("is no target for %s; give %s", kind, strings.Join(targetsOf(kind), " or "))
	}
	if from.key() == "utilization" {
		n, err := from.integer(0)
		if err == nil && !r.reserves(kind) {
			err = from.fail("is in percent of the reservation, but the service reserves no %s; give %s", kind, reservedKeys[string(kind)])
		}
		m.Utilization = int64(n)
		return err
	}
	n, err := quantity(kind, from)
	if err != nil {
		return err
	}
	if from.key() == "value" {
		m.Source, m.Value = scaling.FromExternal, n
		return nil
	}
	m.AverageValue = n
	return nil
}

// targetsOf are the targets that a kind of metric can have.
func targetsOf(kind MetricKind) []string {
	switch kind {
	case MetricCPU, MetricMemory:
		return []string{"utilization", "averageValue"}
	case MetricNetworkIn, MetricNetworkOut, MetricBlockRead, MetricBlockWrite:
		return []string{"averageValue"}
	case MetricConnections, MetricRequests, MetricLatency, MetricConnectionRate, MetricPrometheus, MetricExec, MetricWebhook:
	}
	return []string{"averageValue", "value"}
}

// reserves reports whether each replica has some of a resource promised.
func (r *autoscaling) reserves(kind MetricKind) bool {
	if kind == MetricMemory && limits(r.config).MemoryReservation > 0 {
		return true
	}
	d := r.config.Deploy
	return kind == MetricCPU && d != nil && d.Resources.Reservations != nil && d.Resources.Reservations.NanoCPUs > 0
}

// quantity reads a target in the unit of its metric. Network is written in bits in
// a second as everywhere in x-berth, the rest of the engine's figures in bytes,
// and latency as a duration or in seconds.
func quantity(kind MetricKind, s setting) (int64, error) {
	text := s.text()
	var n int64
	var err error
	switch kind {
	case MetricCPU, MetricMemory:
		n, err = parseAmount(string(kind), text)
	case MetricNetworkIn, MetricNetworkOut:
		if n, err = parseAmount("network", text); err == nil {
			n *= 1000 / 8
		}
	case MetricBlockRead, MetricBlockWrite:
		if n, err = parseAmount("disk", text); err == nil {
			n *= 1000
		}
	case MetricLatency:
		if d, bad := time.ParseDuration(text); bad == nil {
			text = plain(d.Seconds())
		}
		n, err = parseThousandths(text)
	case MetricConnections, MetricRequests, MetricConnectionRate, MetricPrometheus, MetricExec, MetricWebhook:
		n, err = parseThousandths(text)
	}
	if err != nil {
		return 0, s.fail("%w", err)
	}
	return n, nil
}

// mostTarget bounds a target, which is counted in thousandths.
const mostTarget = 1e12

// parseThousandths reads a number above 0 in steps of 0.001.
func parseThousandths(text string) (int64, error) {
	f, err := strconv.ParseFloat(text, 64)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%q is not a number", clip(text))
	case !(f > 0 && f <= mostTarget): // also not NaN
		return 0, fmt.Errorf("%s is no target; give more than 0 and at most 1e12", clip(text))
	}
	n := int64(f*1000 + 0.5)
	if n == 0 {
		return 0, fmt.Errorf("%s is too little; targets are counted in steps of 0.001", clip(text))
	}
	return n, nil
}
