package daemon

import (
	"strings"
	"testing"
	"time"

	"github.com/berth-dev/berth/health"
	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/runtime/fake"
)

// Fault 39: while the readiness of a new container flips each second, it is never
// ready for long enough, so its predecessor stays and no other replica is
// replaced. Once it holds still, the rollout goes on.
func TestFlappingReadinessHoldsARollout(t *testing.T) {
	probingOn(t, overlapping(fake.Options{}), func(t *testing.T, s *sim, c *checks) {
		steady := 5 * time.Second
		version := func(n string) func(*stack.Service) {
			return func(svc *stack.Service) {
				rolls(n, startsFirst)(svc)
				svc.Rollout.MinReady = &steady
				probe(health.Readiness, func(p *health.Probe) { p.FailureThreshold = 1 })(svc)
			}
		}
		s.settled(s.up(shop(svc("web", 2, version("1")))))
		pass(time.Minute)
		s.up(shop(svc("web", 2, version("2"))))
		pass(time.Second)
		next := s.successor("shop-web-1-")
		for second := range 60 {
			c.set(health.Readiness, next, second%2 == 0)
			pass(time.Second)
			for _, old := range []string{"shop-web-1", "shop-web-2"} {
				if got := s.get(old); got.State != runtime.Running || strings.Join(got.Command, " ") != "1" {
					t.Fatalf("after %d s of flapping %s is %s with version %s", second, old, got.State, got.Command)
				}
			}
		}
		if state := s.rolloutOf("web").Rollout; state == nil || len(state.Slots) != 1 {
			t.Errorf("the rollout stands at %+v, want it at its first replica", state)
		}
		c.set(health.Readiness, next, false)
		pass(2 * time.Minute)
		if got := s.commands(); got != "shop-web-1=2 shop-web-2=2" {
			t.Errorf("once it holds still there is %s", got)
		}
		s.oracle()
	})
}

// successor is the name of the container that begins with a prefix.
func (s *sim) successor(prefix string) string {
	s.t.Helper()
	for part := range strings.FieldsSeq(s.list()) {
		if name, _, _ := strings.Cut(part, "="); strings.HasPrefix(name, prefix) {
			return name
		}
	}
	s.t.Fatalf("no container %s… in %s", prefix, s.list())
	return ""
}
