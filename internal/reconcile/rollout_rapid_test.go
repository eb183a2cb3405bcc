package reconcile

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
)

var refused = &runtime.Error{Kind: runtime.KindInvalid, Op: "do", Object: "it", Err: errors.New("refused")}

// drawFate is what may become of the containers of a replica.
func drawFate(t *rapid.T) fate {
	after := time.Duration(rapid.IntRange(1, 20).Draw(t, "after")) * time.Second
	switch rapid.IntRange(0, 9).Draw(t, "fate") {
	case 0:
		return fate{ready: never}
	case 1:
		return fate{exits: after}
	case 2:
		return fate{ready: time.Second, exits: after, runs: 1}
	case 3:
		return fate{flaps: time.Second, steady: after}
	case 4:
		return fate{ready: time.Second, sick: after}
	case 5:
		return fate{create: refused}
	case 6:
		return fate{start: refused}
	default:
		return fate{ready: after / 4, open: after}
	}
}

// drawPolicy is some way to update a service.
func drawPolicy(t *rapid.T) func(*stack.Service) {
	pick := func(what string, of ...time.Duration) time.Duration { return rapid.SampledFrom(of).Draw(t, what) }
	u := stack.Update{
		Parallelism: rapid.IntRange(0, 3).Draw(t, "parallelism"), Delay: pick("delay", 0, 0, 3*sec), Monitor: pick("monitor", 0, 5*sec, 15*sec),
		MaxFailureRatio: rapid.SampledFrom([]float64{0, 0, 0.3, 0.6}).Draw(t, "ratio"),
		Action:          rapid.SampledFrom([]stack.FailureAction{stack.PauseOnFailure, stack.ContinueOnFailure, stack.RollBackOnFailure}).Draw(t, "action"),
		Order:           rapid.SampledFrom([]stack.Order{stack.StopFirst, stack.StartFirst}).Draw(t, "order"),
	}
	edits := with(func(s *stack.Service) {
		s.Update, s.RollBack = u, u
		if u.Action == stack.RollBackOnFailure {
			s.RollBack.Action = stack.PauseOnFailure
		}
	}, deadline(pick("deadline", 30*sec, 5*minute)))
	options := map[string]func(*stack.Service){
		"published": published, "restarts": restarts, "unprobed": unprobed, "volume": volume, "ready for longer": minReady(2 * sec),
		"bounds":      bounds(rapid.SampledFrom([]int{0, 25, 50, 100}).Draw(t, "surge"), rapid.SampledFrom([]int{0, 25, 50}).Draw(t, "unavailable")),
		"canary":      canary(pick("hold", 0, 10*sec), 25, 50),
		"late canary": canary(10*sec, 75),
	}
	for _, name := range sortedKeys(options) {
		if rapid.IntRange(0, 3).Draw(t, name) == 0 {
			edits = append(edits, options[name])
		}
	}
	return func(s *stack.Service) {
		for _, edit := range edits {
			edit(s)
		}
	}
}

// drawAct is what somebody, or the machine, may do in the middle of a rollout.
func drawAct(t *rapid.T, p *play) (string, func()) {
	n := rapid.IntRange(0, 6).Draw(t, "n")
	victim := func() int { return n % max(1, len(p.o.Containers)) }
	some := func() *Node { return &p.o.Cluster.Nodes[n%len(p.o.Cluster.Nodes)] }
	acts := map[string]func(){
		"up b": func() { p.up("b") }, "up c": func() { p.up("c") }, "up a": func() { p.up("a") },
		"scale": func() { p.scale(n) },
		"hold":  p.hold, "resume": p.resume,
		"drain": func() { some().Drain = &Drain{Since: p.now} }, "undrain": func() { some().Drain = nil },
		"fail": func() { some().Down = true }, "recover": func() { some().Down = false },
		"rm -f": func() {
			if len(p.o.Containers) > 0 {
				p.o.Containers = slices.Delete(p.o.Containers, victim(), victim()+1)
			}
		},
		"kill": func() {
			if len(p.o.Containers) > 0 && p.o.Containers[victim()].State == runtime.Running {
				c := &p.o.Containers[victim()]
				c.State, c.ExitCode, c.Finished = runtime.Exited, 137, p.now
			}
		},
		"new daemon": p.reborn,
	}
	name := rapid.SampledFrom(sortedKeys(acts)).Draw(t, "act")
	return fmt.Sprint(name, " ", n), acts[name]
}

// reborn is the daemon's death and the next one's beginning: what is not stored is lost.
func (p *play) reborn() {
	p.m.Failures, p.m.Made, p.m.Updated = nil, nil, nil
	p.m.Since = p.now
}

// TestRolloutsHoldTheirBudget: whatever fails, no step leaves fewer replicas ready
// than may be, no two containers of one replica and revision live at once, and once
// nothing fails any more each rollout ends and nothing more is done.
func TestRolloutsHoldTheirBudget(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newPlay(t, rapid.IntRange(1, 5).Draw(t, "replicas"), drawPolicy(t))
		p.obstructed = len(p.web().Spec.Mounts) > 0
		p.nodes("n1", "n2", "n3")
		for _, who := range []string{"b", "1b", "2b", "3b", "4b", "c", "1c", "2c", "3c"} {
			if rapid.Bool().Draw(t, "fate of "+who) {
				p.fates[who] = drawFate(t)
			}
		}
		for range rapid.IntRange(0, 5).Draw(t, "acts") {
			name, do := drawAct(t, p)
			p.at(time.Duration(rapid.IntRange(0, 90).Draw(t, "at"))*time.Second, func() {
				p.note("!! %s", name)
				do()
			})
		}
		moody := rapid.Bool().Draw(t, "moody engine")
		p.pick = func(s Step) bool {
			if !moody {
				return true
			}
			if rapid.IntRange(0, 9).Draw(t, "lost") == 0 && s.Container != "" {
				p.lost[s.Container] = true
			}
			return rapid.IntRange(0, 3).Draw(t, "carried out") > 0
		}
		p.up("b")
		p.run(2 * minute)
		p.end(t)
	})
}

// end has nothing fail any more, and fails the test when the rollout does not end.
func (p *play) end(t *rapid.T) {
	p.note("!! nothing fails any more")
	clear(p.fates)
	p.pick = nil
	p.m.Forgive() // what the engine refuses is tried again by a command only
	for i := range p.o.Cluster.Nodes {
		p.o.Cluster.Nodes[i].Drain, p.o.Cluster.Nodes[i].Down = nil, false
	}
	story := func() string { return strings.Join(p.trace, "\n") + "\n" + p.plan.String() }
	for range 4 { // by hand through the steps of a canary, or what is held
		p.run(p.now.Sub(p.begun) + 30*minute)
		if r := p.rollout(); r.State != RolloutUpdating {
			break
		}
		p.resume()
	}
	if p.abandoned() {
		return // what has ended and is not to be restarted is missing for good, and the budget is used up
	}
	r := p.rollout()
	if r.State == RolloutUpdating || r.State == RolloutRolledBack {
		t.Fatalf("the rollout does not end: %+v\n%s", r, story())
	}
	p.turns()
	if !p.plan.Empty() || len(p.plan.RollBack) > 0 {
		t.Fatalf("it goes on for ever:\n%s", story())
	}
	if r.State == RolloutPaused {
		p.resume() // what had failed is well now
		p.run(p.now.Sub(p.begun) + time.Hour)
	}
	if n := p.d.Replicas(p.web()); p.ready() < n && !p.abandoned() {
		t.Fatalf("%d of %d replicas are ready in the end:\n%s", p.ready(), n, story())
	}
	for i := range p.o.Containers {
		id, _ := runtime.ParseIdentity(p.o.Containers[i].Labels)
		tolerated := p.rollout().Slots[id.Slot].Failed != ""
		if name := shortName(&p.o.Containers[i]); p.rollout().State == RolloutCompleted && !tolerated && !strings.HasSuffix(p.web().Revision, name[len(name)-1:]) {
			t.Fatalf("%s is left although all is done:\n%s", name, story())
		}
	}
}

// abandoned reports whether a replica has ended and nothing is to restart it.
func (p *play) abandoned() bool {
	return p.web().Restart == nil && slices.ContainsFunc(p.o.Containers, func(c runtime.Container) bool { return c.State == runtime.Exited })
}
