package docker

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"

	"github.com/berth-dev/berth/runtime"
)

const (
	resync       = "resync"               // type of the event that asks for a new list
	overlap      = 2 * time.Second        // how far back a reconnection asks
	backlogMax   = 4096                   // events that wait for a slow reader
	backoffFirst = 100 * time.Millisecond // before the first reconnection
	backoffMax   = 10 * time.Second
	lateBy       = time.Second // an event may still be on its way
)

var errSilent = errors.New("the event stream has gone silent")

// Events sends what happens to the objects that match, from since on (zero:
// now), until ctx ends; then the channel is closed. When the stream breaks, or
// is silent while the engine has news, it connects again with overlap and sends
// an event of type "resync". A reader that is too slow loses events, and is sent
// a "resync" in their place. The stream stands when Events returns, unless the
// engine could not be reached.
//
// With a label in the filter the engine tells of containers and images only:
// its events of networks and volumes carry no labels.
func (e *Engine) Events(ctx context.Context, since time.Time, filter runtime.Filter) <-chan runtime.Event {
	args := labelFilter(filter)
	for _, t := range []events.Type{events.ContainerEventType, events.NetworkEventType, events.VolumeEventType, events.ImageEventType} {
		args.Add("type", string(t))
	}
	w := &watch{e: e, args: args, last: since, out: make(chan runtime.Event, 64)}
	s := w.open(ctx)
	go w.run(ctx, s)
	return w.out
}

// watch is one follower of the engine's events. Only its goroutine touches it.
type watch struct {
	e       *Engine
	args    filters.Args
	last    time.Time // of the newest event seen, by the engine's clock
	backlog []runtime.Event
	out     chan runtime.Event
}

// stream is one connection.
type stream struct {
	messages <-chan events.Message
	failed   <-chan error
	cancel   context.CancelFunc
}

// open connects, within the deadline of a query. A failure comes out of the
// stream itself.
func (w *watch) open(ctx context.Context) stream {
	ctx, cancel := context.WithCancel(ctx)
	late := time.AfterFunc(w.e.timeouts.Query, cancel)
	defer late.Stop()
	opts := events.ListOptions{Filters: w.args, Since: timestamp(w.last)}
	messages, failed := w.e.api().Events(ctx, opts)
	return stream{messages, failed, cancel}
}

func (w *watch) run(ctx context.Context, s stream) {
	defer close(w.out)
	for backoff := backoffFirst; ; {
		heard := w.follow(ctx, s)
		s.cancel()
		if heard {
			backoff = backoffFirst
		}
		if !w.rest(ctx, jitter(backoff)) {
			return
		}
		backoff = min(2*backoff, backoffMax)
		_ = w.e.Ping(ctx) // another engine may answer now; a failure shows below
		if !w.last.IsZero() {
			w.last = w.last.Add(-overlap)
		}
		s = w.open(ctx)
		w.queue(runtime.Event{Type: resync, Action: resync})
	}
}

// jitter keeps many followers from coming back in the same moment.
func jitter(d time.Duration) time.Duration {
	return d/2 + rand.N(d/2+1) //nolint:gosec // no secret
}

// follow passes events on until the stream fails or ctx ends, and reports
// whether it was of use.
func (w *watch) follow(ctx context.Context, s stream) (heard bool) {
	silence := time.NewTimer(w.e.timeouts.Silence)
	defer silence.Stop()
	for {
		to, next := w.next()
		select {
		case <-ctx.Done():
			return heard
		case err := <-s.failed:
			return heard || errors.Is(err, io.EOF) // closed in order: it did stand
		case to <- next:
			w.backlog = w.backlog[1:]
		case m := <-s.messages:
			heard = true
			w.take(m)
			silence.Reset(w.e.timeouts.Silence)
		case <-silence.C:
			if w.check(ctx, s) != nil {
				return heard
			}
			heard = true
			silence.Reset(w.e.timeouts.Silence)
		}
	}
}

// next is the event to send, with a nil channel when there is none.
func (w *watch) next() (chan<- runtime.Event, runtime.Event) {
	if len(w.backlog) == 0 {
		return nil, runtime.Event{}
	}
	return w.out, w.backlog[0]
}

// rest waits before a reconnection while the reader is still served.
func (w *watch) rest(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		to, next := w.next()
		select {
		case <-ctx.Done():
			return false
		case <-t.C:
			return true
		case to <- next:
			w.backlog = w.backlog[1:]
		}
	}
}

func (w *watch) take(m events.Message) {
	ev := eventOf(m)
	if ev.Time.After(w.last) {
		w.last = ev.Time
	}
	w.queue(ev)
}

// queue keeps an event for the reader; when too many wait, one resync stands
// for all of them.
func (w *watch) queue(ev runtime.Event) {
	if len(w.backlog) >= backlogMax {
		w.backlog = append(w.backlog[:0:0], runtime.Event{Time: ev.Time, Type: resync, Action: resync})
		return
	}
	w.backlog = append(w.backlog, ev)
}

// check asks the engine, after a silence, for what it has logged meanwhile. It
// fails when the engine cannot be asked, or has news that the stream did not bring.
func (w *watch) check(ctx context.Context, s stream) error {
	call, cancel := w.e.query(ctx)
	defer cancel()
	info, err := w.e.api().Info(call)
	if err != nil {
		return err
	}
	now := parseTime(info.SystemTime)
	if w.last.IsZero() || now.IsZero() {
		w.last = now // the first look; from here on nothing may be missed
		return nil
	}
	messages, failed := w.e.api().Events(call, events.ListOptions{
		Filters: w.args, Since: timestamp(w.last.Add(time.Nanosecond)), Until: timestamp(now),
	})
	for {
		select {
		case m := <-messages:
			if !eventOf(m).Time.After(w.last) {
				continue
			}
			return w.await(call, s)
		case err := <-failed:
			if errors.Is(err, io.EOF) { // the end of the answer
				return nil
			}
			return err
		}
	}
}

// await gives the stream a moment to bring what the engine says it has sent.
func (w *watch) await(ctx context.Context, s stream) error {
	t := time.NewTimer(lateBy)
	defer t.Stop()
	select {
	case m := <-s.messages:
		w.take(m)
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return errSilent
	}
}

func eventOf(m events.Message) runtime.Event {
	ev := runtime.Event{
		Type: string(m.Type), Action: string(m.Action), ID: m.Actor.ID, Name: m.Actor.Attributes["name"],
		Labels: m.Actor.Attributes, Time: time.Unix(m.Time, 0).UTC(),
	}
	if m.TimeNano != 0 {
		ev.Time = time.Unix(0, m.TimeNano).UTC()
	}
	return ev
}
