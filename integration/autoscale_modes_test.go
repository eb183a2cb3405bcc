package integration

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/berth-dev/berth/internal/api"
)

// scalingOf is what the daemon says of one scaled service.
func (w *world) scalingOf(service string) (s api.ServiceScaling, err error) {
	w.t.Helper()
	res := w.berth("autoscale", "status", "--format", "json", service)
	var all []api.ServiceScaling
	if err := json.Unmarshal([]byte(res.stdout), &all); err != nil || len(all) != 1 {
		return s, fmt.Errorf("%w: %s", err, res)
	}
	return all[0], nil
}

// scaledTo waits until so many replicas of a service are wanted, ready and there.
func (w *world) scaledTo(service string, n int, limit time.Duration) {
	w.t.Helper()
	w.eventually(limit, func() error {
		s, err := w.scalingOf(service)
		if err != nil || s.Replicas != n || s.Ready != n {
			return fmt.Errorf("of %s %d replicas are wanted and %d ready, want %d (%v)", service, s.Replicas, s.Ready, n, err) //nolint:errorlint // there may be none
		}
		return nil
	})
	w.eventually(limit, func() error { return w.running(map[string]int{service: n}) })
}

// metricsPage is a page of metrics on this machine, which says what a test wants.
type metricsPage struct {
	port    int
	waiting atomic.Value // the value of the metric waiting, or hang
}

func newMetricsPage(t *testing.T) *metricsPage {
	t.Helper()
	p := &metricsPage{}
	p.waiting.Store("0")
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	p.port = l.Addr().(*net.TCPAddr).Port //nolint:forcetypeassert // of a listener on TCP
	server := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		value, _ := p.waiting.Load().(string)
		if value == "hang" {
			<-r.Context().Done()
			return
		}
		_, _ = fmt.Fprintf(rw, "# TYPE waiting gauge\nwaiting %s\n", value)
	})}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return p
}

// connected opens so many connections to a port and keeps them until the returned
// function is called.
func (w *world) connected(port string, n int) (hangUp func()) {
	w.t.Helper()
	var conns []net.Conn
	for range n {
		c, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(w.t.Context(), "tcp", "127.0.0.1:"+port)
		if err != nil {
			w.t.Fatal(err)
		}
		conns = append(conns, c)
	}
	return func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}
}

// nextFiring is the beginning of the minute that it is now, and of one that mostly
// leaves enough time to bring a stack up before.
func nextFiring() (now, next time.Time) {
	now = time.Now().UTC().Truncate(time.Minute)
	next = now.Add(time.Minute)
	if time.Until(next) < 10*time.Second {
		next = next.Add(time.Minute)
	}
	return now, next
}

func daily(at time.Time) string { return fmt.Sprintf("%d %d * * *", at.Minute(), at.Hour()) }

// A page of metrics, also one that fails and one whose daemon is killed meanwhile,
// connections down to no replica, warm replicas, and the clock.
func TestScalingModes(t *testing.T) {
	w := newWorld(t, "")
	page, burst, warm := newMetricsPage(t), strconv.Itoa(freePort(t)), strconv.Itoa(freePort(t))
	now, next := nextFiring()
	india, err := time.LoadLocation("Asia/Kolkata") // half an hour off of most others
	if err != nil {
		t.Fatal(err)
	}
	w.compose(strings.NewReplacer("PAGE", strconv.Itoa(page.port), "BURST", burst, "WARM", warm, "NOW", daily(now), "NEXT", daily(next.In(india))).Replace(`
services:
  paged:
    image: IMAGE
    command: ["relay", "http://host.docker.internal:PAGE/"]
    extra_hosts: ["host.docker.internal:host-gateway"]
    x-berth:
      autoscale:
        max: 3
        interval: 1s
        metrics: [{prometheus: {port: 8080, path: /, metric: waiting, averageValue: 2}}]
        behavior: {scaleDown: {stabilizationWindow: 0s}}
  burst:
    image: IMAGE
    ports: ["BURST:8080"]
    x-berth:
      autoscale: {min: 0, max: 4, concurrency: {target: 2, stableWindow: 4s, panicWindow: 1s}, idle: {grace: 2s}}
  warmed:
    image: IMAGE
    ports: ["WARM:8080"]
    x-berth:
      warm: 1
      autoscale: {max: 2, interval: 1s, metrics: [{connections: {averageValue: 1}}]}
  timed:
    image: IMAGE
    command: ["sleep"]
    x-berth:
      autoscale: {max: 2, schedules: [{cron: "NOW", min: 1}, {cron: "NEXT", timeZone: Asia/Kolkata, min: 2}]}
`))
	seen := w.watchProject()
	w.must("up", "-d", "--wait")
	if s, err := w.scalingOf("timed"); err != nil || s.Replicas != 1 && time.Now().Before(next) {
		t.Fatalf("%d replicas before the schedule, want 1 (%v)", s.Replicas, err)
	}
	hangUp := w.connected(burst, 8)
	w.scaledTo("burst", 4, 30*time.Second)
	hangUp()
	w.wakesWarm(warm)
	w.outlivesItsDaemon(seen, page)
	w.missesAPage(page)
	w.scaledTo("burst", 0, time.Minute)
	w.fetched("http://127.0.0.1:"+burst, "service=")
	w.eventually(time.Until(next)+30*time.Second, func() error {
		s, err := w.scalingOf("timed")
		if err != nil || s.Ready != 2 || s.Min != 2 || s.Firing.Schedule.Name != "2" {
			return fmt.Errorf("%d replicas are ready of at least %d by schedule %q, want 2 by 2 (%v)", s.Ready, s.Min, s.Firing.Schedule.Name, err) //nolint:errorlint // there may be none
		}
		return nil
	})
}

// wakesWarm has a paused replica take over, in the run that it has been ready in,
// and another one take its place.
func (w *world) wakesWarm(port string) {
	w.t.Helper()
	paused := func() (id string, err error) {
		for _, c := range w.service("warmed") {
			if c.State == "paused" {
				return c.ID, nil
			}
		}
		return "", fmt.Errorf("of %d containers none is paused", len(w.service("warmed")))
	}
	var first string
	w.eventually(20*time.Second, func() (err error) { first, err = paused(); return err })
	started := w.inspect(first).State.StartedAt
	hangUp := w.connected(port, 2)
	defer hangUp()
	w.eventually(20*time.Second, func() error {
		next, err := paused()
		if err != nil || next == first {
			return fmt.Errorf("no other replica is warm than the first one (%v)", err) //nolint:errorlint // there may be none
		}
		return nil
	})
	if c := w.inspect(first); c.State.Status != "running" || c.State.StartedAt != started {
		w.t.Errorf("the warm replica is %s since %s, want running since %s", c.State.Status, c.State.StartedAt, started)
	}
}

// outlivesItsDaemon kills the daemon once the first container of a decision is
// created; the next daemon carries the decision out.
func (w *world) outlivesItsDaemon(seen *watch, page *metricsPage) {
	w.t.Helper()
	before := seen.saw("create", "")
	page.waiting.Store("6")
	seen.wait(30*time.Second, "a container of the decision", func(x *watch) bool { return x.count["create"] > before })
	w.killDaemon(syscall.SIGKILL)
	w.scaledTo("paged", 3, 30*time.Second)
}

// missesAPage has the page hang, then answer nonsense: no replica is taken away,
// and it is said why. Then it has nothing to do any more.
func (w *world) missesAPage(page *metricsPage) {
	w.t.Helper()
	for answer, why := range map[string]string{"hang": "it did not answer within 2s", "NaN": "the value is NaN"} {
		page.waiting.Store(answer)
		w.eventually(30*time.Second, func() error {
			s, err := w.scalingOf("paged")
			if err != nil || s.Last == nil || !s.Last.Blind() || len(s.Last.Missing) != 1 || !strings.Contains(s.Last.Missing[0], why) {
				return fmt.Errorf("it does not say that %s: %+v (%v)", why, s.Last, err) //nolint:errorlint // there may be none
			}
			if s.Replicas != 3 {
				w.t.Fatalf("%d replicas while nothing is known (%s), want 3", s.Replicas, why)
			}
			return nil
		})
		if text := w.must("explain", "paged").stdout; !strings.Contains(text, why) {
			w.t.Errorf("explain does not say that %s:\n%s", why, text)
		}
	}
	page.waiting.Store("0.1")
	w.scaledTo("paged", 1, 30*time.Second)
}
