package health

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// The bounds of holding a probe back for its predecessor.
const (
	// leftTime is how long the next probe waits at most. What holds longer than
	// that must not keep a container from being judged.
	leftTime = time.Minute
	// endTime is how long one attempt to end the predecessor may take.
	endTime = 2 * time.Second
)

// leftovers are commands of probes that could not be ended. A probe is not sent
// while its predecessor runs, or they would pile up in the container.
type leftovers struct {
	mu   sync.Mutex // protects left
	left map[leftover]left
}

// leftover names a probe.
type leftover struct {
	container string
	role      Role
}

// left is a command that may still run.
type left struct {
	*StillRuns
	since time.Time
}

// note remembers a command that may still run.
func (l *leftovers) note(key leftover, err error, now time.Time) {
	var still *StillRuns
	if !errors.As(err, &still) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, old := range l.left {
		if now.Sub(old.since) > leftTime { // of a container that is gone
			delete(l.left, k)
		}
	}
	if l.left == nil {
		l.left = map[leftover]left{}
	}
	l.left[key] = left{still, now}
}

// end has nothing left of a probe's predecessor, or says why the probe has to
// wait. After [leftTime] it waits no longer.
func (l *leftovers) end(ctx context.Context, key leftover, now time.Time) error {
	l.mu.Lock()
	old, ok := l.left[key]
	l.mu.Unlock()
	if !ok {
		return nil
	}
	if waits := old.since.Add(leftTime); now.Before(waits) {
		ctx, cancel := context.WithTimeout(ctx, endTime)
		defer cancel()
		if err := old.End(ctx); err != nil {
			return fmt.Errorf("held back until %s at most: the command before may still run, since it cannot be ended: %w", waits.Local().Format(time.TimeOnly), err)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.left, key)
	return nil
}
