package integration

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/docker/docker/api/types/events"

	"github.com/berth-dev/berth/runtime"
)

// watch follows the engine's events of the project and holds the promise that
// one slot of one revision never has two live containers.
type watch struct {
	w    *world
	stop func()
	done chan struct{}

	mu      sync.Mutex // protects what follows
	changed chan struct{}
	count   map[string]int                  // by action
	byID    map[string]map[string]int       // by container ID and action
	first   map[string]map[string]time.Time // by container ID and action: when it was first seen
	created []string                        // IDs in order
	live    map[string]map[string]bool      // by service/slot/revision: IDs that run
	broken  []string
}

// watchProject begins to follow; the test fails at its end when the promise
// was broken.
func (w *world) watchProject() *watch {
	w.t.Helper()
	ctx, stop := context.WithCancel(context.WithoutCancel(w.t.Context()))
	x := &watch{w: w, stop: stop, done: make(chan struct{}), changed: make(chan struct{}),
		count: map[string]int{}, byID: map[string]map[string]int{}, first: map[string]map[string]time.Time{}, live: map[string]map[string]bool{}}
	messages, failed := w.raw.Events(ctx, events.ListOptions{Filters: w.byProject()})
	go func() {
		defer close(x.done)
		for {
			select {
			case m := <-messages:
				x.note(m)
			case err := <-failed:
				if ctx.Err() == nil {
					w.t.Logf("the engine's events ended: %v", err)
				}
				return
			}
		}
	}()
	w.t.Cleanup(func() {
		stop()
		<-x.done
		x.mu.Lock()
		defer x.mu.Unlock()
		for _, b := range x.broken {
			w.t.Errorf("two live containers: %s", b)
		}
	})
	return x
}

func (x *watch) note(m events.Message) {
	if m.Type != events.ContainerEventType {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	action, id := string(m.Action), m.Actor.ID
	x.count[action]++
	if x.byID[id] == nil {
		x.byID[id], x.first[id] = map[string]int{}, map[string]time.Time{}
	}
	if x.first[id][action].IsZero() {
		x.first[id][action] = time.Unix(0, m.TimeNano)
	}
	x.byID[id][action]++
	labels := m.Actor.Attributes
	slot := labels[runtime.LabelService] + "/" + labels[runtime.LabelSlot] + "@" + labels[runtime.LabelRevision]
	switch action {
	case "create":
		x.created = append(x.created, id)
	case "start":
		if x.live[slot] == nil {
			x.live[slot] = map[string]bool{}
		}
		x.live[slot][id] = true
		if len(x.live[slot]) > 1 && labels[runtime.LabelOneOff] == "" {
			x.broken = append(x.broken, fmt.Sprintf("%s at %s", slot, time.Unix(0, m.TimeNano).Format(time.RFC3339Nano)))
		}
	case "die":
		delete(x.live[slot], id)
	}
	close(x.changed)
	x.changed = make(chan struct{})
}

// wait blocks until cond holds of what was seen.
func (x *watch) wait(limit time.Duration, what string, cond func(*watch) bool) {
	x.w.t.Helper()
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	for {
		x.mu.Lock()
		ok, changed := cond(x), x.changed
		x.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-deadline.C:
			x.w.t.Fatalf("not within %s: %s", limit, what)
		}
	}
}

// saw returns how often an action was seen, for one container or (id empty) all.
func (x *watch) saw(action, id string) int {
	x.mu.Lock()
	defer x.mu.Unlock()
	if id == "" {
		return x.count[action]
	}
	return x.byID[id][action]
}

// at is when an action of a container was first seen; zero: it was not.
func (x *watch) at(id, action string) time.Time {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.first[id][action]
}

// firstOf is when an action was first seen of any container; zero: it was not.
func (x *watch) firstOf(action string) time.Time {
	x.mu.Lock()
	defer x.mu.Unlock()
	var first time.Time
	for _, at := range x.first {
		if t := at[action]; !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	return first
}
