package daemon

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/berth-dev/berth/internal/reconcile"
	"github.com/berth-dev/berth/runtime"
)

// When a node is short of memory, as the kubelet has it
// (https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/):
// a soft threshold with a grace period, a minimum to be freed, and a time after
// which the node takes replicas again.
const (
	shortAt    = 95               // percent of the node's memory limit in use
	relievedAt = 90               // percent, below which nothing more is evicted
	shortFor   = 10 * time.Second // how long it has to last
	apart      = 30 * time.Second // from one eviction to the next
	leaves     = 2 * time.Minute  // how long an evicted replica is waited for
	openAfter  = 5 * time.Minute  // below relievedAt, until replicas are placed there again
	blind      = time.Minute      // without a look for so long, what was before is forgotten
)

// shortage is what is known of a node's lack of memory.
type shortage struct {
	since   time.Time // when the node became short; zero: it is not
	above   time.Time // since when it has been at shortAt or more; zero: it is not
	below   time.Time // since when it has been below relievedAt while short; zero: it is not
	looked  time.Time
	evicted time.Time // the last eviction; zero: none
}

// next is the shortage after a look at the node at now: used is the memory in use
// without inactive file cache, limit the node's; both in bytes, limit 0: none.
func (s shortage) next(used, limit int64, now time.Time) shortage {
	if limit <= 0 {
		return shortage{}
	}
	if now.Sub(s.looked) > blind {
		s.above, s.below = time.Time{}, time.Time{}
	}
	s.looked = now
	switch percent := float64(used) / float64(limit) * 100; {
	case percent >= shortAt:
		s.above, s.below = cmp.Or(s.above, now), time.Time{}
		if s.since.IsZero() && now.Sub(s.above) >= shortFor {
			s.since = now
		}
	case percent >= relievedAt:
		s.above, s.below = time.Time{}, time.Time{}
	default:
		s.above, s.below = time.Time{}, cmp.Or(s.below, now)
		if s.since.IsZero() || now.Sub(s.below) >= openAfter {
			return shortage{looked: now}
		}
	}
	return s
}

// evicts reports whether a replica is to leave the node now.
func (s shortage) evicts(now time.Time) bool {
	return !s.since.IsZero() && s.below.IsZero() && (s.evicted.IsZero() || now.Sub(s.evicted) >= apart)
}

// candidate is a replica that may leave a node which is short of memory.
type candidate struct {
	reconcile.Resident
	used int64 // bytes, without inactive file cache
}

// above is by how much the replica exceeds its reservation; negative: it does not.
func (c *candidate) above() int64 { return c.used - c.Template.Reservation.Memory }

// candidates are the residents of a node that use memory there.
func candidates(residents []reconcile.Resident, p *runtime.Pressure) []candidate {
	used := map[string]int64{}
	for i := range p.Containers {
		if c := &p.Containers[i]; !c.Gone {
			used[c.ID] = c.Memory
		}
	}
	var list []candidate
	for _, r := range residents {
		if bytes := used[r.Container]; bytes > 0 && r.Template != nil {
			list = append(list, candidate{Resident: r, used: bytes})
		}
	}
	return list
}

// victim is the replica that leaves a node first, by the kubelet's order: one that
// uses more than its reservation before one that does not, then the lower
// priority, then the one that exceeds its reservation by more; of equals the
// youngest, or of the same age the highest slot. A replica that has the node to itself stays: its going would serve nobody.
func victim(list []candidate) (candidate, bool) {
	if len(list) < 2 {
		return candidate{}, false
	}
	return slices.MinFunc(list, leavesBefore), true
}

func leavesBefore(a, b candidate) int {
	within := func(c *candidate) int {
		if c.above() > 0 {
			return 0
		}
		return 1
	}
	return cmp.Or(
		cmp.Compare(within(&a), within(&b)),
		cmp.Compare(a.Template.Priority, b.Template.Priority),
		cmp.Compare(b.above(), a.above()),
		b.Started.Compare(a.Started),
		cmp.Compare(a.Stack, b.Stack), cmp.Compare(a.Service, b.Service), cmp.Compare(b.Slot, a.Slot),
	)
}

// why says why a replica leaves a node.
func (c *candidate) why(p *runtime.Pressure) string {
	than := "within its reservation"
	if c.above() > 0 {
		than = fmt.Sprintf("%d MiB above its reservation", c.above()>>20)
	}
	return fmt.Sprintf("node %s is short of memory (%d of %d MiB in use; this replica uses %d MiB, %s, with priority %d)",
		c.Node, p.Memory>>20, p.MemoryLimit>>20, c.used>>20, than, c.Template.Priority)
}
