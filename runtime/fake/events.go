package fake

import (
	"context"
	"maps"
	"time"

	"github.com/berth-dev/berth/runtime"
)

// remembered is how many past events an engine keeps for Events with since.
const remembered = 1000

// subscription is one stream of events: an endless queue and a wake-up.
type subscription struct {
	filter runtime.Filter
	queue  []runtime.Event // protected by the engine's mutex
	wake   chan struct{}   // capacity 1
}

// emitLocked records an event and sends it to whoever listens.
func (e *Engine) emitLocked(kind, action, id, name string, labels map[string]string) {
	ev := runtime.Event{Time: e.nowLocked(), Type: kind, Action: action, ID: id, Name: name, Labels: maps.Clone(labels)}
	if e.down || e.ended {
		return // told to nobody
	}
	e.history = append(e.history, ev)
	if len(e.history) > remembered {
		e.history = e.history[len(e.history)-remembered:]
	}
	out := []runtime.Event{ev}
	if e.eventFault != nil {
		out = e.eventFault(ev)
	}
	for _, ev := range out {
		e.publishToAll(ev)
	}
}

func (e *Engine) publishToAll(ev runtime.Event) {
	for s := range e.subs {
		s.offer(ev)
	}
}

// offer queues the event if it matches. It needs the engine's mutex.
func (s *subscription) offer(ev runtime.Event) {
	if ev.Type != "resync" && !matches(s.filter, ev.Labels) {
		return
	}
	s.queue = append(s.queue, ev)
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// containerEvent is an event about c, with the attributes the Docker Engine adds.
func (e *Engine) containerEvent(c *container, action string, attributes ...string) {
	labels := maps.Clone(c.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	labels["image"], labels["name"] = c.Image, c.Name
	for i := 0; i+1 < len(attributes); i += 2 {
		labels[attributes[i]] = attributes[i+1]
	}
	e.emitLocked("container", action, c.ID, c.Name, labels)
}

// Events sends what happens, from since on, until ctx ends or the engine is closed.
func (e *Engine) Events(ctx context.Context, since time.Time, filter runtime.Filter) <-chan runtime.Event {
	out := make(chan runtime.Event)
	s := &subscription{filter: filter, wake: make(chan struct{}, 1)}
	e.mu.Lock()
	defer e.mu.Unlock()
	if !since.IsZero() {
		for _, ev := range e.history {
			if !ev.Time.Before(since) {
				s.offer(ev)
			}
		}
	}
	if e.ended {
		close(out)
		return out
	}
	e.subs[s] = true
	e.spawnLocked(func() { e.pump(ctx, s, out) })
	return out
}

// pump moves events from the queue to the channel.
func (e *Engine) pump(ctx context.Context, s *subscription, out chan<- runtime.Event) {
	defer close(out)
	defer func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.subs, s)
	}()
	for {
		e.mu.Lock()
		queue := s.queue
		s.queue = nil
		e.mu.Unlock()
		for _, ev := range queue {
			select {
			case out <- ev:
			case <-ctx.Done():
				return
			case <-e.closed:
				return
			}
		}
		if len(queue) > 0 {
			continue
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
			return
		case <-e.closed:
			return
		}
	}
}
