package daemon

import (
	"sync"

	"github.com/berth-dev/berth/internal/api"
)

// feedSize bounds the events that are kept for those who come late. When it is
// reached the older half goes, so that an event costs the same however many
// came before it.
const feedSize = 2048

// outcome is what a turn of the loop came to.
type outcome struct {
	turn     uint64 // the newest edit that the plan includes
	settled  bool
	failed   []string // failing holds as "object: reason"
	ready    bool     // every wanted replica is ready
	notReady []string // those that will not become ready by themselves, with why
	gone     bool
	orphans  []string // containers that no service explains
}

// reached reports whether the outcome ends the wait of somebody who follows
// from a turn on, and with which complaints.
func (o *outcome) reached(turn uint64, until string) (bool, []string) {
	switch {
	case o.turn < turn || until == "":
		return false, nil
	case o.gone:
		return true, nil
	case !o.settled:
		return false, nil
	case len(o.failed) > 0:
		return true, o.failed
	case until != "ready":
		return true, nil
	case len(o.notReady) > 0:
		return true, o.notReady
	default:
		return o.ready, nil
	}
}

// feed is a stack's recent events and its latest outcome, for any number of
// followers, none of whom can hold it up.
type feed struct {
	mu      sync.Mutex // protects all below
	events  []api.Event
	first   uint64 // number of events[0]
	turns   map[uint64]uint64
	outcome outcome
	changed chan struct{} // closed and replaced at each change
}

func newFeed() *feed {
	return &feed{turns: map[uint64]uint64{}, changed: make(chan struct{})}
}

// publish adds an event.
func (f *feed) publish(e api.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events = append(f.events, e)
	if len(f.events) >= feedSize {
		f.first += feedSize / 2
		f.events = append(make([]api.Event, 0, feedSize), f.events[feedSize/2:]...)
	}
	f.notifyLocked()
}

// begin notes at which event a turn begins.
func (f *feed) begin(turn uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.turns[turn] = f.first + uint64(len(f.events))
	for t, at := range f.turns {
		if at < f.first && t != turn {
			delete(f.turns, t)
		}
	}
}

// conclude publishes what a turn came to.
func (f *feed) conclude(o outcome) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.outcome = o
	f.notifyLocked()
}

func (f *feed) notifyLocked() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// position is where the events of a turn begin; the oldest kept one for a turn
// that is not known any more, and the next one to come for turn 0.
func (f *feed) position(turn uint64) uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if turn == 0 {
		return f.first + uint64(len(f.events))
	}
	if at, ok := f.turns[turn]; ok {
		return at
	}
	return f.first
}

// since returns the events from a position on, the next position, the latest
// outcome, and a channel that is closed when there is more.
func (f *feed) since(at uint64) ([]api.Event, uint64, outcome, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	next := f.first + uint64(len(f.events))
	at = min(max(at, f.first), next)
	return append([]api.Event(nil), f.events[at-f.first:]...), next, f.outcome, f.changed
}
