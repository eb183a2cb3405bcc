package daemon

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/scaling"
)

// followed has a service follow its connections, two for each replica, down to a
// number of replicas.
func followed(least int) func(*stack.Autoscale) {
	return func(a *stack.Autoscale) {
		one := max(least, 1) // as the file is read
		a.Policy.Min = &one
		a.Concurrency = &scaling.Concurrency{Target: 2, Min: &least, Max: a.Policy.Max, Stable: 20 * time.Second, Panic: 4 * time.Second, Grace: 10 * time.Second}
	}
}

// unmeasured has nothing decide but what is under way at once.
func unmeasured(a *stack.Autoscale) { a.Policy.Metrics, a.Sources = nil, nil }

// A burst is followed within seconds, the number does not fall while it is one, the
// last replica goes its grace after the last connection, and comes back for the
// next one, for as long.
func TestConcurrencyToZeroAndBack(t *testing.T) {
	atOnce := time.Duration(0)
	for name, edit := range map[string]func(*stack.Autoscale){"alone": unmeasured, "beside cpu": func(a *stack.Autoscale) {
		a.Policy.Behavior = &scaling.Behavior{Down: scaling.Rules{Window: &atOnce}}
	}} {
		t.Run(name, func(t *testing.T) {
			metered(t, func(t *testing.T, s *sim, m *fakeMeter, b *calm) {
				m.carry("web", 10)
				s.settled(s.up(shop(svc("web", 1, autoscaled(followed(0), edit)))))
				b.carry("web", 8, 8)
				pass(6 * time.Second)
				s.counts("web", 4, "in a burst")
				b.carry("web", 0, 0)
				pass(5 * time.Second)
				s.counts("web", 4, "in the panic")
				pass(time.Minute)
				s.counts("web", 0, "after the grace")
				if got := s.scaledTo("web"); got.Min != 0 || got.Last.Why() != "keep 0: 0 at once over the stable window, 0 over the short one, 0 ready" {
					t.Errorf("a service without replicas has a minimum of %d and says %q", got.Min, got.Last.Why())
				}
				s.reboot()
				pass(time.Minute)
				s.counts("web", 0, "with another daemon")
				b.wait("web", 1)
				synctest.Wait()
				b.wait("web", 0) // answered before anybody looked
				pass(9 * time.Second)
				s.counts("web", 1, "within the grace after a connection")
				pass(time.Minute)
				s.counts("web", 0, "after it")
				s.oracle()
			})
		})
	}
}

// Another daemon does not know what the one before has measured: it does not take
// replicas away before its windows are full.
func TestAnotherDaemonKeepsTheNumber(t *testing.T) {
	for name, edit := range map[string]func(*stack.Autoscale){
		"by cpu":         func(*stack.Autoscale) {},
		"by concurrency": func(a *stack.Autoscale) { unmeasured(a); followed(0)(a); a.Concurrency.Stable = 5 * time.Minute },
	} {
		t.Run(name, func(t *testing.T) {
			metered(t, func(_ *testing.T, s *sim, m *fakeMeter, b *calm) {
				s.settled(s.up(shop(svc("web", 1, autoscaled(edit)))))
				m.carry("web", 200)
				b.carry("web", 8, 8)
				pass(4 * time.Minute)
				s.counts("web", 4, "with much to do")
				m.carry("web", 10)
				b.carry("web", 0, 0)
				s.reboot()
				pass(4 * time.Minute)
				s.counts("web", 4, "with another daemon")
				pass(7 * time.Minute)
				if n := s.scaledTo("web").Replicas; n > 1 {
					t.Errorf("%d replicas are wanted after the windows", n)
				}
			})
		})
	}
}

// Another daemon does not know when a service was last used, which need not have
// been stored since: it waits for as long as if that was just now.
func TestAnotherDaemonRestsNothingEarly(t *testing.T) {
	metered(t, func(t *testing.T, s *sim, _ *fakeMeter, b *calm) {
		s.settled(s.up(shop(svc("web", 1, autoscaled(idles(scaling.IdleStop))))))
		pass(2 * time.Minute)
		s.control(api.AutoscalePause) // stores what is known
		s.control(api.AutoscaleResume)
		pass(2 * time.Minute)
		b.carry("web", 0, 1)
		pass(30 * time.Second)
		b.forget()
		s.reboot()
		pass(4 * time.Minute)
		if got := s.scaledTo("web"); got.Rest != nil {
			t.Errorf("it rests, four and a half minutes after it was used: %+v", got.Rest)
		}
		pass(2 * time.Minute)
		if got := s.scaledTo("web"); got.Rest == nil {
			t.Error("it does not rest, six minutes after the daemon's start")
		}
	})
}

// A burst is followed as soon while the metrics of another service hang.
func TestConcurrencyBesideAHangingMetric(t *testing.T) {
	metered(t, func(_ *testing.T, s *sim, m *fakeMeter, b *calm) {
		m.value = func(ctx context.Context, _ *stack.MetricSource, _ *Metered) (int64, error) {
			<-ctx.Done()
			return 0, errors.New("it did not answer in time")
		}
		s.settled(s.up(shop(svc("web", 1, autoscaled(followed(0), unmeasured)), svc("jobs", 1, autoscaled(func(a *stack.Autoscale) {
			a.Policy.Interval = time.Second
			a.Policy.Metrics = []scaling.Metric{{Source: scaling.FromExternal, Name: "queue", AverageValue: 1000}}
			a.Sources = []stack.MetricSource{{Kind: stack.MetricWebhook, URL: "http://queue"}}
		})))))
		pass(3 * time.Second)
		b.carry("web", 8, 8)
		pass(6 * time.Second)
		s.counts("web", 4, "in a burst")
	})
}

// A minimum of one keeps the last replica.
func TestConcurrencyKeepsItsMinimum(t *testing.T) {
	metered(t, func(_ *testing.T, s *sim, _ *fakeMeter, _ *calm) {
		s.settled(s.up(shop(svc("web", 1, autoscaled(followed(1), unmeasured)))))
		pass(10 * time.Minute)
		s.counts("web", 1, "when nobody came")
	})
}

// Connections that come and go between two looks are a use all the same.
func TestBriefConnectionsKeepTheLastReplica(t *testing.T) {
	metered(t, func(t *testing.T, s *sim, _ *fakeMeter, b *calm) {
		s.settled(s.up(shop(svc("web", 1, autoscaled(followed(0), unmeasured)))))
		for range 60 {
			pass(5 * time.Second)
			b.carry("web", 0, 1)
			if n := s.scaledTo("web").Ready; n != 1 {
				t.Fatalf("%d replicas are ready between two connections", n)
			}
		}
		pass(time.Minute)
		s.counts("web", 0, "when no more came")
	})
}

// A rate is not known before it was counted for a while: another daemon does not
// take that for a rate of nothing, and neither is what came before a rest.
func TestRateIsMeasuredFromNowOn(t *testing.T) {
	metered(t, func(t *testing.T, s *sim, _ *fakeMeter, b *calm) {
		carry := func(d time.Duration) {
			for range d / time.Second {
				b.carry("web", 0, 40)
				pass(time.Second)
			}
		}
		s.settled(s.up(shop(svc("web", 4, autoscaled(func(a *stack.Autoscale) {
			a.Policy.Metrics = []scaling.Metric{{Source: scaling.FromExternal, Name: "connectionRate", Value: 40_000}}
			a.Sources = []stack.MetricSource{{Kind: stack.MetricConnectionRate}}
			at := time.Duration(0)
			a.Policy.Behavior = &scaling.Behavior{Down: scaling.Rules{Window: &at}}
		})))))
		carry(time.Minute)
		s.counts("web", 4, "at the rate that fits")
		s.reboot()
		carry(time.Minute)
		s.counts("web", 4, "with another daemon")
		if got := s.scaledTo("web").Last.Decision; got == nil || slices.Contains(got.Reasons, scaling.MetricsInvalid) {
			t.Errorf("after a minute it is still not known: %+v", got)
		}
		pass(time.Minute)
		s.counts("web", 1, "when nobody came")
	})
}

// Of a load that came each hour the next one is expected: replicas are there before
// it, and another daemon knows it too. It never takes one away.
func TestForecastRaisesAndNeverLowers(t *testing.T) {
	metered(t, func(t *testing.T, s *sim, m *fakeMeter, _ *calm) {
		const quiet, busy = 20, 200 // millicores, of which a replica is to do 50
		m.carry("web", quiet)
		s.settled(s.up(shop(svc("web", 1, autoscaled(func(a *stack.Autoscale) { a.Season = time.Hour })))))
		hour := func() { // three quarters of it quiet, but for its last seconds
			m.carry("web", busy)
			pass(15 * time.Minute)
			m.carry("web", quiet)
			pass(44 * time.Minute)
		}
		for range 5 {
			hour()
			pass(time.Minute)
		}
		hour()
		s.counts("web", 1, "a minute before its time")
		s.reboot()
		pass(58 * time.Second)
		if got := s.scaledTo("web"); got.Replicas < 3 || !slices.Contains(got.Last.Decision.Reasons, scaling.RaisedByForecast) {
			t.Errorf("%d replicas are wanted when the load is about to come: %s", got.Replicas, lastWhy(got))
		}
		m.carry("web", 2*busy)
		pass(2 * time.Minute)
		s.counts("web", 6, "with more than was expected")
		s.replays("web")
	})
}
