package daemon

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/runtime/fake"
)

// tooOld has every call refused from the first that match is true for, as an
// engine answers that took the place of a newer one. What it returns brings the
// newer one back.
func (s *sim) tooOld(match func(fake.Call) bool) (newer func()) {
	replaced := false
	return s.engine.Inject(fake.Fault{
		Kind: runtime.KindInvalid, Err: errors.New("the engine speaks API 1.38; Berth needs 1.40 (Docker Engine 19.03) or newer"),
		Match: func(c fake.Call) bool {
			replaced = replaced || match(c)
			return replaced
		},
	})
}

// Fault 21: an engine that is too old has taken the place of the present one.
// Nothing is asked of it and nothing is forgotten; a command is told why.
func TestEngineTooOld(t *testing.T) {
	simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
		anew := policy(stack.RestartPolicy{Condition: "any", Delay: time.Second})
		s.settled(s.up(shop(svc("web", 2, anew))))
		stored, err := os.ReadFile(s.d.store.path("shop"))
		s.must(err)
		calls := s.now()
		newer := s.tooOld(func(fake.Call) bool { return true })
		s.must(s.engine.Kill(s.hand(), "shop-web-2", "KILL"))
		pass(10 * time.Minute)
		if s.now() != calls {
			t.Errorf("an engine that is too old was asked for changes:\n%s", strings.Join(s.calls()[calls:], "\n"))
		}
		if err := s.d.health.away(); err == nil || !strings.Contains(err.Error(), "API 1.38") {
			t.Errorf("the daemon takes the engine for %v", err)
		}
		for name, ask := range map[string]func() error{
			"up": func() error {
				_, err := s.d.up(s.ctx, &api.UpRequest{Stack: shop(svc("web", 3))})
				return err
			},
			"plan": func() error {
				_, err := s.d.plan(s.ctx, &api.UpRequest{Stack: shop(svc("web", 3))})
				return err
			},
			"stop": func() error {
				_, err := s.d.act(s.ctx, "shop", &api.ActionRequest{Op: "stop"})
				return err
			},
		} {
			if err := ask(); err == nil || !strings.Contains(err.Error(), "API 1.38") {
				t.Errorf("%s on an engine that is too old: %v, want the reason", name, err)
			}
		}
		if now, err := os.ReadFile(s.d.store.path("shop")); err != nil || !bytes.Equal(now, stored) {
			t.Errorf("the stored state changed (%v):\n%s", err, now)
		}
		newer()
		pass(30 * time.Second)
		if s.now() != calls+1 || s.count(calls, "start", "shop-web-2") != 1 {
			t.Errorf("after the newer engine came back, want web-2 to be started and no more:\n%s", strings.Join(s.calls()[calls:], "\n"))
		}
		s.oracle()
	})
}

// The engine is replaced by one that is too old while a stack comes up: the
// step under way fails, and is taken up again by itself once that is over.
func TestEngineTooOldDuringAnUp(t *testing.T) {
	for _, op := range []string{"ensure-network", "create", "start"} {
		t.Run(op, func(t *testing.T) {
			simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
				newer := s.tooOld(func(c fake.Call) bool { return c.Op == op })
				acc := s.up(shop(svc("db", 1), svc("web", 2)))
				failed := s.settle(acc)
				if text := strings.Join(failed, "; "); !strings.Contains(text, "API 1.38") {
					t.Errorf("up says %q, want why it goes no further", text)
				}
				newer()
				pass(2 * time.Minute)
				if got := s.list(); strings.Count(got, "=running") != 3 {
					t.Errorf("not all runs once the engine is fit again: %s\n%s", got, s.plan("shop"))
				}
				s.oracle()
			})
		})
	}
}

// Fault 21: another engine, which knows nothing of the stack, answers at the
// endpoint. The stack is brought up there, and nothing of the state is lost:
// once the first engine is back its containers are taken over as they are.
func TestEngineReplacedByAnother(t *testing.T) {
	simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
		s.settled(s.up(shop(svc("web", 2, mounts("shop_data")))))
		first, calls := s.engine, s.now()
		defer func() { _ = first.Close() }()
		s.die()
		<-s.gone
		other := fake.New(fake.Options{})
		defer func() { _ = other.Close() }()
		other.AddImage("app", fake.Image{})
		s.engine = other
		s.boot()
		pass(time.Minute)
		if got := s.list(); strings.Count(got, "=running") != 2 {
			t.Errorf("on the other engine: %s\n%s", got, s.plan("shop"))
		}
		s.oracle()
		s.die()
		<-s.gone
		s.engine = first
		s.boot()
		pass(time.Minute)
		if s.now() != calls {
			t.Errorf("the first engine's containers were changed:\n%s", strings.Join(s.calls()[calls:], "\n"))
		}
		s.oracle()
	})
}

// The same while the daemon lives: the engine goes away, and the one that
// answers then has nothing of what there was.
func TestEngineReplacedUnderTheDaemon(t *testing.T) {
	simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
		s.settled(s.up(shop(svc("db", 1), svc("web", 2, mounts("shop_data")))))
		s.engine.Down(true)
		for _, name := range []string{"shop-db-1", "shop-web-1", "shop-web-2"} {
			s.must(s.engine.Remove(s.hand(), name, true, true))
		}
		s.must(s.engine.RemoveNetwork(s.hand(), "shop_default"))
		s.must(s.engine.RemoveVolume(s.hand(), "shop_data"))
		pass(time.Minute)
		calls := s.now()
		s.engine.Up()
		pass(time.Minute)
		if n := s.count(calls, "create", ""); n != 3 || strings.Count(s.list(), "=running") != 3 {
			t.Errorf("%d containers were created, want 3: %s\n%s", n, s.list(), s.plan("shop"))
		}
		s.oracle()
	})
}
