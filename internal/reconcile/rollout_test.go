package reconcile

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
)

const never = -1

func parallelism(n int) func(*stack.Service) {
	return func(s *stack.Service) { s.Update.Parallelism, s.RollBack.Parallelism = n, n }
}

func startFirst(s *stack.Service) {
	s.Update.Order, s.RollBack.Order = stack.StartFirst, stack.StartFirst
}

func delay(d time.Duration) func(*stack.Service) {
	return func(s *stack.Service) { s.Update.Delay = d }
}

func monitor(d time.Duration) func(*stack.Service) {
	return func(s *stack.Service) { s.Update.Monitor, s.RollBack.Monitor = d, d }
}

func onFailure(a stack.FailureAction) func(*stack.Service) {
	return func(s *stack.Service) { s.Update.Action = a }
}

func ratio(r float64) func(*stack.Service) {
	return func(s *stack.Service) { s.Update.MaxFailureRatio = r }
}

func bounds(surge, unavailable int) func(*stack.Service) {
	return func(s *stack.Service) {
		s.Rollout.Surge = &stack.Share{Percent: surge, IsShare: true}
		s.Rollout.Unavailable = &stack.Share{Percent: unavailable, IsShare: true}
	}
}

func minReady(d time.Duration) func(*stack.Service) {
	return func(s *stack.Service) { s.Rollout.MinReady = &d }
}

func deadline(d time.Duration) func(*stack.Service) {
	return func(s *stack.Service) { s.Rollout.Deadline = d }
}

func canary(hold time.Duration, percent ...int) func(*stack.Service) {
	return func(s *stack.Service) {
		c := &stack.Canary{Hold: hold}
		for _, p := range percent {
			c.Steps = append(c.Steps, stack.Share{Percent: p, IsShare: true})
		}
		s.Rollout.Canary = c
	}
}

func unprobed(s *stack.Service) { s.Probes.Readiness, s.Probes.Liveness = nil, nil }

func published(s *stack.Service) {
	s.Spec.Ports = []runtime.Port{{Target: 80, Published: "8080", Protocol: "tcp"}}
	s.Balance.Drain = 10 * time.Second
}

func direct(s *stack.Service) { s.Publish = stack.PublishDirect }

func volume(s *stack.Service) {
	s.Spec.Mounts = []runtime.Mount{{Type: runtime.MountVolume, Source: "data", Target: "/data"}}
}

func restarts(s *stack.Service) {
	s.Restart = &stack.RestartPolicy{Condition: "any", Delay: 5 * time.Second}
}

func with(edits ...func(*stack.Service)) []func(*stack.Service) { return edits }

// scene is a rollout from revision a to b, and what happens meanwhile.
type scene struct {
	name  string
	n     int
	edits []func(*stack.Service)
	fates map[string]fate
	to    func(s *stack.Service) // what else is changed
	do    func(p *play)
	until time.Duration // default 30 minutes
}

// perform plays a scene and returns what happened.
func (s *scene) perform(t *testing.T) *play {
	p := newPlay(t, s.n, s.edits...)
	for who, f := range s.fates {
		p.fates[who] = f
	}
	if s.do != nil {
		s.do(p)
	}
	if s.to == nil {
		s.to = func(*stack.Service) {}
	}
	p.up("b", s.to)
	until := s.until
	if until == 0 {
		until = 30 * time.Minute
	}
	p.run(until)
	return p
}

const sec, minute = time.Second, time.Minute

func scenes() []scene {
	broken := errors.New("no such command")
	slow := map[string]fate{"b": {ready: 3 * sec}}
	return []scene{
		{name: "stop-first, one at a time", n: 3, fates: slow},
		{name: "start-first, one at a time", n: 3, edits: with(startFirst), fates: slow},
		{name: "stop-first, two at a time", n: 5, edits: with(parallelism(2)), fates: slow},
		{name: "start-first, two at a time", n: 5, edits: with(parallelism(2), startFirst), fates: slow},
		{name: "stop-first, all at once", n: 3, edits: with(parallelism(0)), fates: slow},
		{name: "start-first, all at once", n: 3, edits: with(parallelism(0), startFirst), fates: slow},
		{name: "a delay after each", n: 3, edits: with(delay(30 * sec)), fates: slow},
		{name: "a delay after each pair", n: 4, edits: with(parallelism(2), delay(30*sec), startFirst), fates: slow},
		{name: "a long watch", n: 2, edits: with(monitor(minute)), fates: slow},
		{name: "surge and unavailable of a quarter", n: 4, edits: with(bounds(25, 25)), fates: slow},
		{name: "surge and unavailable of nothing", n: 3, edits: with(bounds(0, 0)), fates: slow},
		{name: "surge of a half", n: 4, edits: with(bounds(50, 0)), fates: slow},
		{name: "unavailable of a half", n: 4, edits: with(bounds(0, 50)), fates: slow},
		{name: "blue-green", n: 3, edits: with(bounds(100, 0), published), fates: map[string]fate{"b": {ready: 3 * sec}, "3b": {ready: 20 * sec}, "a": {open: 4 * sec}}},
		{name: "blue-green that fails", n: 3, edits: with(bounds(100, 0), published, onFailure(stack.RollBackOnFailure), minReady(2*sec)), fates: map[string]fate{"3b": {exits: 3 * sec}}},
		{name: "nothing served before", n: 3, fates: map[string]fate{"a": {ready: never}, "b": {ready: 3 * sec}}},
		{name: "one did not serve before", n: 3, fates: map[string]fate{"2a": {ready: never}, "b": {ready: 3 * sec}}},

		{name: "crashes at once, pause", n: 3, fates: map[string]fate{"b": {exits: sec}}},
		{name: "crashes at once, start-first, pause", n: 3, edits: with(startFirst), fates: map[string]fate{"b": {exits: sec}}},
		{name: "crashes at once, roll back", n: 3, edits: with(onFailure(stack.RollBackOnFailure)), fates: map[string]fate{"b": {exits: sec}}},
		{name: "crashes at once, start-first, roll back", n: 3, edits: with(startFirst, onFailure(stack.RollBackOnFailure)), fates: map[string]fate{"b": {exits: sec}}},
		{name: "crashes at once, continue", n: 3, edits: with(onFailure(stack.ContinueOnFailure)), fates: map[string]fate{"b": {exits: sec}}},
		{name: "crashes at once, start-first, continue", n: 3, edits: with(startFirst, onFailure(stack.ContinueOnFailure)), fates: map[string]fate{"b": {exits: sec}}},
		{name: "crashes without probes, start-first", n: 2, edits: with(startFirst, unprobed), fates: map[string]fate{"b": {exits: 500 * time.Millisecond}}},
		{name: "one of four fails, a quarter may", n: 4, edits: with(ratio(0.25)), fates: map[string]fate{"2b": {exits: sec}}},
		{name: "two of four fail, a quarter may", n: 4, edits: with(ratio(0.25)), fates: map[string]fate{"2b": {exits: sec}, "3b": {exits: sec}}},
		{name: "crashes within the watch", n: 3, edits: with(onFailure(stack.RollBackOnFailure)), fates: map[string]fate{"1b": {exits: 4 * sec, runs: 1}, "b": {ready: 3 * sec}}},
		{name: "the last one crashes within the watch", n: 2, edits: with(onFailure(stack.RollBackOnFailure)), fates: map[string]fate{"2b": {exits: 4 * sec}}},
		{name: "crashes after the watch, and is restarted", n: 2, edits: with(delay(minute), restarts), fates: map[string]fate{"1b": {exits: 20 * sec, runs: 1}}},
		{name: "crashes and is restarted", n: 2, edits: with(restarts), fates: map[string]fate{"1b": {exits: sec, runs: 2}}, until: 10 * minute},
		{name: "is killed by its liveness", n: 2, edits: with(), fates: map[string]fate{"1b": {sick: 3 * sec}}, until: 20 * sec},
		{name: "the way back fails too", n: 3, edits: with(onFailure(stack.RollBackOnFailure)), fates: map[string]fate{"b": {exits: 3 * sec}}, do: func(p *play) {
			p.at(2*sec, func() { p.fates["a"] = fate{exits: 2 * time.Hour}; p.fates["1a"] = fate{exits: 2 * sec} })
		}},
		{name: "never ready, pause", n: 3, fates: map[string]fate{"b": {ready: never}}},
		{name: "never ready, start-first, roll back", n: 3, edits: with(startFirst, onFailure(stack.RollBackOnFailure), deadline(minute)), fates: map[string]fate{"b": {ready: never}}},
		{name: "never ready, start-first, continue", n: 2, edits: with(startFirst, onFailure(stack.ContinueOnFailure), deadline(minute)), fates: map[string]fate{"1b": {ready: never}}},
		{name: "cannot be created, pause", n: 2, fates: map[string]fate{"b": {create: &runtime.Error{Kind: runtime.KindInvalid, Op: "create", Object: "it", Err: broken}}}},
		{name: "cannot be created, roll back", n: 2, edits: with(onFailure(stack.RollBackOnFailure)), fates: map[string]fate{"b": {create: &runtime.Error{Kind: runtime.KindInvalid, Op: "create", Object: "it", Err: broken}}}},
		{name: "cannot be started, start-first, roll back", n: 2, edits: with(startFirst, onFailure(stack.RollBackOnFailure)), fates: map[string]fate{"b": {start: &runtime.Error{Kind: runtime.KindInvalid, Op: "start", Object: "it", Err: broken}}}},
		{name: "readiness flaps, and it must be ready for longer", n: 2, edits: with(startFirst, minReady(5*sec)), fates: map[string]fate{"b": {flaps: sec, steady: 20 * sec}}},
		{name: "no image", n: 2, edits: with(deadline(minute), onFailure(stack.RollBackOnFailure)), to: func(s *stack.Service) { s.Spec.Image = "web:none" }, do: func(p *play) { p.pull = broken }},

		{name: "canary by time", n: 10, edits: with(canary(minute, 10, 50), published, startFirst, parallelism(5)), fates: slow},
		{name: "canary by hand", n: 4, edits: with(canary(0, 25), published), fates: slow, do: func(p *play) { p.at(5*minute, p.resume) }},
		{name: "canary that fails", n: 4, edits: with(canary(minute, 25), onFailure(stack.RollBackOnFailure), startFirst), fates: map[string]fate{"b": {exits: 3 * sec}}},
		{name: "canary of which a replica is killed later", n: 4, edits: with(canary(5*minute, 25), restarts), fates: map[string]fate{"1b": {exits: 2 * minute, runs: 1}}},
		{name: "canary that is killed, which is tolerated, and goes on by hand", n: 2, edits: with(canary(0, 25, 50), ratio(0.6), restarts), fates: map[string]fate{"1b": {exits: 3 * sec, runs: 1}}, do: func(p *play) {
			p.at(minute, p.resume)
			p.at(2*minute, p.resume)
		}},
		{name: "canary that is undone", n: 4, edits: with(canary(0, 25, 50)), fates: slow, do: func(p *play) { p.at(minute, func() { p.up("a") }) }},
		{name: "canary that is scaled up, and down", n: 4, edits: with(canary(0, 25)), fates: slow, do: func(p *play) {
			p.at(minute, func() { p.scale(8) })
			p.at(2*minute, func() { p.scale(3) })
			p.at(3*minute, p.resume)
		}},

		{name: "paused and resumed by hand", n: 3, edits: with(deadline(minute)), fates: slow, do: func(p *play) {
			p.at(4*sec, p.hold)
			p.at(20*minute, p.resume)
		}},
		{name: "resumed after a failure", n: 3, fates: map[string]fate{"1b": {exits: sec, runs: 1}}, do: func(p *play) { p.at(minute, p.resume) }},
		{name: "superseded half-way", n: 3, edits: with(parallelism(1)), fates: map[string]fate{"b": {ready: 5 * sec}, "c": {ready: 3 * sec}}, do: func(p *play) { p.at(7*sec, func() { p.up("c") }) }},
		{name: "superseded half-way, start-first", n: 3, edits: with(startFirst), fates: map[string]fate{"b": {ready: 5 * sec}, "c": {ready: 3 * sec}}, do: func(p *play) { p.at(7*sec, func() { p.up("c") }) }},
		{name: "superseded by the base", n: 3, fates: map[string]fate{"b": {ready: 5 * sec}}, do: func(p *play) { p.at(7*sec, func() { p.up("a") }) }},
		{name: "superseded by the base, start-first", n: 3, edits: with(startFirst), fates: map[string]fate{"b": {ready: 5 * sec}}, do: func(p *play) { p.at(7*sec, func() { p.up("a") }) }},
		{name: "superseded while it is paused", n: 3, fates: map[string]fate{"b": {exits: sec}, "c": {ready: 3 * sec}}, do: func(p *play) { p.at(minute, func() { p.up("c") }) }},
		{name: "superseded by the base, blue-green", n: 2, edits: with(bounds(100, 0), published, minReady(5*sec)), fates: map[string]fate{"2b": {ready: 30 * sec}}, do: func(p *play) { p.at(10*sec, func() { p.up("a") }) }},
		{name: "scaled up while it goes on", n: 2, fates: slow, do: func(p *play) { p.at(sec, func() { p.scale(4) }) }},
		{name: "scaled down while it goes on", n: 4, fates: slow, do: func(p *play) { p.at(4*sec, func() { p.scale(2) }) }},
		{name: "scaled up while it is paused", n: 4, edits: with(ratio(0.25)), fates: map[string]fate{"2b": {exits: sec}, "3b": {exits: sec}}, do: func(p *play) { p.at(minute, func() { p.scale(9) }) }},
		{name: "scaled down while it is paused", n: 4, fates: map[string]fate{"1b": {exits: sec}}, do: func(p *play) { p.at(minute, func() { p.scale(1) }) }},
		{name: "a replica is removed by hand while it is paused", n: 4, fates: map[string]fate{"1b": {exits: sec}}, do: func(p *play) {
			p.at(minute, func() { p.o.Containers = p.o.Containers[:3] })
			p.at(2*minute, func() { p.o.Containers = p.o.Containers[1:] })
		}},

		{name: "a fixed port, direct", n: 1, edits: with(startFirst, published, direct), fates: slow, do: func(p *play) { p.obstructed = true }},
		{name: "a lone replica with a volume", n: 1, edits: with(startFirst, volume), fates: slow, do: func(p *play) { p.obstructed = true }},
		{name: "two replicas with a volume", n: 2, edits: with(startFirst, volume), fates: slow},
		{name: "ports go over to the balancer with the second replica", n: 1, edits: with(published), fates: slow, do: func(p *play) { p.at(minute, func() { p.scale(2) }) }},
		{name: "a node is drained while it is paused", n: 4, fates: map[string]fate{"b": {exits: 3 * sec}}, edits: with(startFirst), do: func(p *play) {
			p.nodes("n1", "n2")
			p.at(minute, func() { p.node("n2").Drain = &Drain{Since: p.now} })
		}},
		{name: "a node is drained while it goes on", n: 4, fates: slow, do: func(p *play) {
			p.nodes("n1", "n2")
			p.at(sec, func() { p.node("n2").Drain = &Drain{Since: p.now} })
		}},
		{name: "a node fails while it is drained while it goes on", n: 4, fates: slow, do: func(p *play) {
			p.nodes("n1", "n2", "n3")
			p.at(sec, func() { p.node("n2").Drain = &Drain{Since: p.now} })
			p.at(2*sec, func() { p.node("n2").Down = true })
		}},
		{name: "connections are drained", n: 2, edits: with(published), fates: map[string]fate{"b": {ready: 3 * sec}, "1a": {open: 4 * sec}, "2a": {open: time.Hour}}},
	}
}

// TestScenes plays rollouts out and compares them with what happened when
// somebody looked at each line of it.
func TestScenes(t *testing.T) {
	var all strings.Builder
	for _, s := range scenes() {
		t.Run(s.name, func(t *testing.T) {
			p := s.perform(t)
			fmt.Fprintf(&all, "# %s\n%s\n= %s\n\n", s.name, strings.Join(p.trace, "\n"), p.revisions())
		})
	}
	golden(t, "testdata/rollouts.golden", all.String())
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

// TestPolicies plays every combination of an update policy out, with a replica
// that crashes soon, and compares how each ends. No combination may ever have
// fewer replicas ready than it allows, nor more containers.
func TestPolicies(t *testing.T) {
	var all strings.Builder
	for _, order := range []stack.Order{stack.StopFirst, stack.StartFirst} {
		for _, at := range []int{1, 2, 0} {
			for _, wait := range []time.Duration{0, 10 * sec} {
				for _, watch := range []time.Duration{0, 5 * sec} {
					for _, share := range []float64{0, 0.25} {
						for _, action := range []stack.FailureAction{stack.PauseOnFailure, stack.ContinueOnFailure, stack.RollBackOnFailure} {
							u := stack.Update{Order: order, Parallelism: at, Delay: wait, Monitor: watch, MaxFailureRatio: share, Action: action}
							all.WriteString(playPolicy(t, u))
						}
					}
				}
			}
		}
	}
	golden(t, "testdata/policies.golden", all.String())
}

func playPolicy(t *testing.T, u stack.Update) string {
	t.Helper()
	what := fmt.Sprintf("%-11s at %d, delay %v, monitor %v, ratio %v, %s", cmp.Or(u.Order, "stop-first"), u.Parallelism, u.Delay, u.Monitor, u.MaxFailureRatio, cmp.Or(u.Action, "pause"))
	p := newPlay(t, 4, func(s *stack.Service) {
		s.Update, s.RollBack = u, u
		s.RollBack.Action = stack.PauseOnFailure
	})
	p.fates["b"], p.fates["2b"] = fate{ready: sec}, fate{ready: sec, exits: 3 * sec}
	p.up("b")
	p.run(time.Hour)
	ends := strings.Join(p.trace, " ")
	if i := strings.LastIndex(ends, "=> "); i >= 0 {
		ends = ends[i:]
	}
	ends, _, _ = strings.Cut(ends, ",")
	at := cmp.Or(u.Parallelism, 4)
	if extra := p.most - 4; u.Order == stack.StartFirst && extra > at || u.Order == stack.StopFirst && extra > 0 {
		t.Errorf("%s: %d containers more than replicas:\n%s", what, extra, strings.Join(p.trace, "\n"))
	}
	return fmt.Sprintf("%s: %s; %d to %d; %s\n", what, ends, p.least, p.most, p.revisions())
}
