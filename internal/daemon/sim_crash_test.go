package daemon

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/reconcile"
	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/runtime/fake"
)

var errNoSpace = &fsError{}

// fsError is a full disk, as the file system reports it.
type fsError struct{}

func (*fsError) Error() string { return "write: no space left on device" }
func (*fsError) Unwrap() error { return syscall.ENOSPC }

// story is the life of a stack: each act is a command, repeated until it was
// accepted, and then waited for. A killed daemon is followed by another.
type story []func(s *sim) (api.Accepted, error)

// play runs the story. It reports how many calls changed something.
func (st story) play(s *sim) {
	s.t.Helper()
	for i, act := range st {
		var acc api.Accepted
		s.insist(fmt.Sprint("act ", i, ": "), func() (err error) {
			acc, err = act(s)
			if runtime.IsNotFound(err) {
				return nil // it went down before
			}
			return err
		})
		s.insist(fmt.Sprint("end of act ", i, ": "), func() error {
			failed, err := s.await(api.Accepted{Stack: "shop", Turn: min(acc.Turn, s.turn())}, "settled", 30*time.Minute)
			if len(failed) > 0 {
				return errors.New(strings.Join(failed, "; "))
			}
			return err
		})
	}
}

// turn is the newest edit that the present daemon knows of.
func (s *sim) turn() uint64 {
	l := s.d.loop("shop")
	if l == nil {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.turn.Load()
}

// insist tries something again, on a new daemon where the old one was killed.
func (s *sim) insist(what string, try func() error) {
	s.t.Helper()
	var err error
	for range 10 {
		if err = try(); err == nil {
			return
		}
		if s.ctx.Err() != nil {
			s.reboot()
			continue
		}
		time.Sleep(30 * time.Second)
	}
	s.t.Fatalf("%s%v\nthe plan is\n%s", what, err, s.plan("shop"))
}

// life brings a stack up, changes it in the ways that have steps of their own,
// and takes it down.
func life() story {
	db := svc("db", 1, checked, mounts("shop_data"))
	migrate := svc("migrate", 1, after("db", stack.Healthy))
	first := shop(db, migrate, svc("web", 2, after("migrate", stack.Completed)), svc("old", 1))
	second := shop(svc("db", 1, checked, mounts("shop_data")), svc("migrate", 1, after("db", stack.Healthy)),
		svc("web", 2, after("migrate", stack.Completed), env("VERSION=2")))
	up := func(st *stack.Stack, edits ...func(*api.UpRequest)) func(s *sim) (api.Accepted, error) {
		return func(s *sim) (api.Accepted, error) {
			req := &api.UpRequest{Stack: st}
			for _, edit := range edits {
				edit(req)
			}
			return s.d.up(s.ctx, req)
		}
	}
	act := func(req api.ActionRequest) func(s *sim) (api.Accepted, error) {
		return func(s *sim) (api.Accepted, error) { return s.d.act(s.ctx, "shop", &req) }
	}
	return story{
		up(first),
		up(second, func(r *api.UpRequest) { r.RemoveOrphans = true }),
		act(api.ActionRequest{Op: "scale", Services: []string{"web"}, Scale: map[string]int{"web": 3}}),
		act(api.ActionRequest{Op: "restart", Services: []string{"db"}}),
		act(api.ActionRequest{Op: "stop"}),
		act(api.ActionRequest{Op: "start"}),
		func(s *sim) (api.Accepted, error) { return s.d.down(s.ctx, "shop", reconcile.Down{Volumes: true}) },
	}
}

func workloads(e *fake.Engine) {
	e.Script("shop/migrate", fake.Exit(3*time.Second, 0))
	e.Script("shop/db", fake.Workload{StopTakes: time.Second, Health: fake.HealthyAfter(3 * time.Second)})
}

// lifeCalls is how many calls the undisturbed story makes.
func lifeCalls(t *testing.T) int {
	n := 0
	simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
		workloads(s.engine)
		story := life()
		story[:len(story)-1].play(s)
		s.oracle()
		if t.Failed() {
			return
		}
		story[len(story)-1:].play(s)
		s.nothingLeft()
		n = s.now()
	})
	return n
}

// Faults 1, 2 and 3: the daemon is killed after the effect of every call, and
// before it hears the answer. The next one takes the story to the same end.
func TestKillAfterEveryCall(t *testing.T) {
	total := lifeCalls(t)
	if t.Failed() {
		return
	}
	killAfterEvery(t, total, life, workloads)
}

// killAfterEvery plays a story as often as it makes calls, and kills the daemon
// after each of them in turn. prepare sets the engine up.
func killAfterEvery(t *testing.T, calls int, tell func() story, prepare func(*fake.Engine)) {
	t.Helper()
	for k := 1; k <= calls; k++ {
		t.Run(fmt.Sprint(k), func(t *testing.T) {
			var s *sim
			opts := fake.Options{OnCall: func(n int, _ fake.Call) {
				if n == k {
					s.die()
				}
			}}
			simulate(t, opts, func(t *testing.T, it *sim) {
				s = it
				prepare(s.engine)
				s.insist("boot: ", func() error { return s.ctx.Err() })
				tale := tell()
				tale[:len(tale)-1].play(s)
				if !t.Failed() && s.now() >= k {
					s.oracle()
				}
				if t.Failed() {
					return
				}
				tale[len(tale)-1:].play(s)
				s.awaitGone()
				s.nothingLeft()
			})
		})
	}
}

// awaitGone waits until the stack is gone, whichever daemon takes it away.
func (s *sim) awaitGone() {
	s.t.Helper()
	s.insist("down: ", func() error {
		if s.ctx.Err() != nil {
			return errKilled
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if s.d.loop("shop") != nil {
			return errors.New("the stack is still there")
		}
		return nil
	})
}

// Fault 13 and its neighbours: one call after another fails, or is carried out
// and its answer is lost, or hangs, and the daemon lives on.
func TestEveryCallFailsOnce(t *testing.T) {
	total := lifeCalls(t)
	if t.Failed() {
		return
	}
	changes := []string{
		"create", "start", "stop", "kill", "restart", "rename", "remove", "update",
		"ensure-network", "remove-network", "ensure-volume", "remove-volume",
	}
	kinds := map[string]fake.Fault{
		"error":      {Kind: runtime.KindUnavailable, Err: errors.New("500 internal server error")},
		"conflict":   {Kind: runtime.KindConflict, Err: errors.New("409 conflict")},
		"lost":       {Lost: true},
		"hang":       {Hang: true},
		"hang-after": {HangAfter: true},
	}
	for name, fault := range kinds {
		t.Run(name, func(t *testing.T) {
			for k := range total {
				t.Run(fmt.Sprint(k+1), func(t *testing.T) {
					simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
						workloads(s.engine)
						f := fault
						f.Skip, f.Times = k, 1
						f.Match = func(c fake.Call) bool { return slices.Contains(changes, c.Op) }
						s.engine.Inject(f)
						tale := life()
						tale[:len(tale)-1].play(s)
						if t.Failed() {
							return
						}
						s.oracle()
						tale[len(tale)-1:].play(s)
						s.awaitGone()
						s.nothingLeft()
					})
				})
			}
		})
	}
}
