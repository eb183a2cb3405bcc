package reconcile

import (
	"testing"
	"time"

	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
)

// halfway is a balanced service of 1,000 replicas in the middle of a rollout that
// replaces ten at a time, each new container beside the old one.
func halfway() *fixture {
	const replicas, done, abreast = 1000, 500, 10
	web := svc("web", replicas)
	web.Update = stack.Update{Parallelism: abreast, Order: stack.StartFirst}
	web.Spec.Ports = []runtime.Port{{Target: 80, Published: "8080", Protocol: "tcp"}}
	f := shop(web)
	r := Rollout{State: RolloutUpdating, From: "rev-web-0", Began: t0.Add(-time.Minute), Progress: t0, Total: replicas, Slots: map[int]SlotProgress{}}
	balanced := func(c *runtime.Container) { c.Labels[runtime.LabelPublish] = runtime.PublishBalanced }
	recent := func(c *runtime.Container) { c.Started = t0 }
	for slot := 1; slot <= replicas; slot++ {
		switch {
		case slot <= done:
			f.has("web", slot, runtime.Running, balanced)
			r.Slots[slot] = SlotProgress{Began: t0.Add(-time.Minute), First: true, Ready: t0.Add(-time.Minute), Done: t0.Add(-time.Minute)}
		case slot <= done+abreast:
			f.has("web", slot, runtime.Running, revision("rev-web-0"), balanced)
			f.has("web", slot, runtime.Running, named("-next"), recent, balanced)
			r.Slots[slot] = SlotProgress{Began: t0, First: true}
		default:
			f.has("web", slot, runtime.Running, revision("rev-web-0"), balanced)
		}
	}
	v := newView(&f.d, &f.o, &f.m, t0)
	r.Target = v.target(f.d.Stack.Service("web"))
	f.m.Rollouts = map[string]Rollout{"web": r}
	return f
}

// BenchmarkDecideRollout plans one turn of it.
func BenchmarkDecideRollout(b *testing.B) {
	f := halfway()
	for b.Loop() {
		p := f.plan()
		r := p.Rollouts["web"]
		if done, failed := r.Counts(); done != 500 || failed > 0 || r.State != RolloutUpdating || len(p.Steps) > 0 {
			b.Fatal(p)
		}
	}
}
