package reconcile

import (
	"cmp"
	"slices"
	"time"

	"github.com/berth-dev/berth/internal/stack"
)

// slotsOf are the slots of a service that are to have a container: those that
// have one, and the lowest free ones. Where there are too many, those go that are
// missed least.
func (v *view) slotsOf(svc *stack.Service) []int {
	if slots, ok := v.places.slots[svc.Name]; ok {
		return slots
	}
	if slots, ok := v.slots[svc.Name]; ok {
		return slots
	}
	slots := v.chooseSlots(svc, v.d.Replicas(svc))
	v.slots[svc.Name] = slots
	return slots
}

func (v *view) chooseSlots(svc *stack.Service, n int) []int {
	have := sortedKeys(v.replicas[svc.Name])
	if len(have) > n {
		have = v.keepBest(svc, have, n)
	}
	for slot := 1; len(have) < n; slot++ {
		if !slices.Contains(have, slot) {
			have = append(have, slot)
		}
	}
	slices.Sort(have)
	return have
}

// keepBest chooses the n slots that stay when a service is scaled down. Those go
// first that are going already, then those that do not serve, those with the
// fewest open connections, the youngest, and the highest. In the middle of a rollout
// the new revision keeps its share, rounded up.
func (v *view) keepBest(svc *stack.Service, have []int, n int) []int {
	worth := make(map[int]worth, len(have))
	for _, slot := range have {
		worth[slot] = v.worth(svc, slot)
	}
	best := slices.Clone(have)
	slices.SortFunc(best, func(a, b int) int { return worth[b].compare(worth[a], b, a) })
	renewed := slices.DeleteFunc(slices.Clone(best), func(slot int) bool { return !worth[slot].serves || !v.midway(svc, slot) })
	share := (len(renewed)*n + len(have) - 1) / len(have)
	kept := slices.Clone(renewed[:share])
	for _, slot := range best {
		if len(kept) < n && !slices.Contains(kept, slot) {
			kept = append(kept, slot)
		}
	}
	return kept
}

// midway reports whether a replica has the new revision while others of its
// service still have the one before: of such ones the share is kept, rounded up.
func (v *view) midway(svc *stack.Service, slot int) bool {
	if r, known := v.m.Rollouts[svc.Name]; !known || !r.Active() {
		return false
	}
	return slices.ContainsFunc(v.replicas[svc.Name][slot], func(c *member) bool { return c.id.Revision == svc.Revision })
}

// worth is how much a replica is missed.
type worth struct {
	stays, serves bool
	open          int
	created       time.Time
}

func (v *view) worth(svc *stack.Service, slot int) worth {
	w := worth{stays: true}
	for _, c := range v.replicas[svc.Name][slot] {
		if b, known := v.o.Backends[c.ID]; known {
			w.stays = w.stays && (b.Routed || b.Since.IsZero())
			w.open += b.Open
		}
		if s, busy := v.m.InFlight[ReplicaKey(svc.Name, slot)]; busy && s.Container == c.ID && (s.Op == OpStop || s.Op == OpRemove) {
			w.stays = false
		}
		w.serves = w.serves || v.serves(svc, c)
		if w.created.IsZero() || c.Created.Before(w.created) {
			w.created = c.Created
		}
	}
	return w
}

// compare is above 0 where w is missed more than o; the slots break ties.
func (w worth) compare(o worth, slot, other int) int {
	return cmp.Or(compareBool(w.stays, o.stays), compareBool(w.serves, o.serves), cmp.Compare(w.open, o.open),
		o.created.Compare(w.created), cmp.Compare(other, slot))
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	default:
		return -1
	}
}
