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
	failed   []finding       // failing holds
	unready  map[string]bool // services of which a wanted replica is not ready
	notReady []finding       // what will not become ready by itself
	gone     bool
	orphans  []string // containers that no service explains
}

// finding is a complaint as "object: reason".
type finding struct {
	service string // whom it is about; empty: all of the stack
	text    string
}

// scope is the services that a command is about, with all they depend on; nil: all.
type scope map[string]bool

func (s scope) has(service string) bool { return s == nil || service == "" || s[service] }

// within are the complaints that concern a scope.
func within(s scope, all []finding) []string {
	var texts []string
	for _, f := range all {
		if s.has(f.service) {
			texts = append(texts, f.text)
		}
	}
	return texts
}

// reached reports whether the outcome ends the wait of somebody who follows
// from a turn on that is about some services, and with which complaints.
func (o *outcome) reached(turn uint64, until string, about scope) (bool, []string) {
	failed, notReady := within(about, o.failed), within(about, o.notReady)
	switch {
	case o.turn < turn || until == "":
		return false, nil
	case o.gone:
		return true, nil
	case !o.settled:
		return false, nil
	case len(failed) > 0:
		return true, failed
	case until != "ready":
		return true, nil
	case len(notReady) > 0:
		return true, notReady
	}
	for service := range o.unready {
		if about.has(service) {
			return false, nil
		}
	}
	return true, nil
}

// feed is a stack's recent events and its latest outcome, for any number of
// followers, none of whom can hold it up.
type feed struct {
	mu      sync.Mutex // protects all below
	events  []api.Event
	first   uint64 // number of events[0]
	turns   map[uint64]mark
	outcome outcome
	changed chan struct{} // closed and replaced at each change
}

// mark is where a turn begins and whom its command is about.
type mark struct {
	at    uint64 // number of its first event
	about scope
}

func newFeed() *feed {
	return &feed{turns: map[uint64]mark{}, changed: make(chan struct{})}
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
	f.turns[turn] = mark{at: f.first + uint64(len(f.events))}
	for t, m := range f.turns {
		if m.at < f.first && t != turn {
			delete(f.turns, t)
		}
	}
}

// concern notes whom the command of a turn is about.
func (f *feed) concern(turn uint64, about scope) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if m, ok := f.turns[turn]; ok {
		m.about = about
		f.turns[turn] = m
	}
}

// about is whom the command of a turn is about; nil, all, for one that is not known any more.
func (f *feed) about(turn uint64) scope {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.turns[turn].about
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
	if m, ok := f.turns[turn]; ok {
		return m.at
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
