package reconcile

import (
	"fmt"
	"slices"

	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
)

// warmSlots are the slots of a service that are kept paused beyond those that
// run: they have been ready, and are so again as soon as they are unpaused.
func (v *view) warmSlots(svc *stack.Service) []int {
	if svc.Warm == 0 || svc.Mode != stack.Replicated || v.jobs[svc.Name] || v.want(svc.Name) != WantRunning {
		return nil
	}
	active := v.slotsOf(svc)
	spare := slices.DeleteFunc(sortedKeys(v.replicas[svc.Name]), func(slot int) bool { return slices.Contains(active, slot) })
	if len(spare) > svc.Warm {
		spare = v.keepBest(svc, spare, svc.Warm)
	}
	for slot := 1; len(spare) < svc.Warm; slot++ {
		if !slices.Contains(active, slot) && !slices.Contains(spare, slot) {
			spare = append(spare, slot)
		}
	}
	slices.Sort(spare)
	return spare
}

// allSlots are the slots of a service that need a place: those that run and those
// that are kept warm.
func (v *view) allSlots(svc *stack.Service) []int {
	return append(slices.Clone(v.slotsOf(svc)), v.warmSlots(svc)...)
}

// warm looks after a replica that is kept paused. It takes no connections, also
// while it is still to become ready.
func (v *view) warm(svc *stack.Service, slot int, cs []*member) {
	key := ReplicaKey(svc.Name, slot)
	for _, c := range cs {
		v.leaving[c.ID] = true
	}
	if v.busy(key, svc.Name, slot) || v.yields(svc, slot, cs) {
		return
	}
	cur, olds := v.split(svc, cs)
	switch {
	case len(olds) > 0:
		v.takeAway(key, olds[0], v.grace(svc), v.drift(svc, olds[0]), false)
	case cur == nil:
		v.create(svc, slot, nil, fmt.Sprintf("%d are kept warm", svc.Warm))
	case cur.State == runtime.Running && v.isReady(svc, cur):
		v.step(v.replicaStep(OpPause, svc, slot, cur, "kept warm"))
	case cur.State == runtime.Paused:
	default:
		v.keep(svc, slot, cur, WantRunning)
	}
}
