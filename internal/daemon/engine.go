package daemon

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/berth-dev/berth/runtime"
)

// engineHealth is what is known of the engine as a whole.
type engineHealth struct {
	mu   sync.Mutex // protects all below
	err  error      // nil: it answers
	seen time.Time  // when it last answered or sent an event
	down time.Time  // when it had last been seen before it was found away
	up   time.Time  // when it was last found back
	// noticed is when it was last found away, which is later than it went.
	noticed time.Time
}

func newEngineHealth() *engineHealth { return &engineHealth{} }

// answered notes that the engine was there at now.
func (h *engineHealth) answered(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seen = now
}

// remember takes over the last absence that a stored stack tells of.
func (h *engineHealth) remember(down, up time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if up.After(h.up) {
		h.down, h.up = down, up
	}
}

// lost notes that the engine does not answer. It reports whether that is news.
// Nobody knows when it went: at the earliest after it last answered.
func (h *engineHealth) lost(err error, now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	news := h.err == nil
	if news {
		h.down = now
		if !h.seen.IsZero() && h.seen.Before(now) {
			h.down = h.seen
		}
	}
	if news {
		h.noticed = now
	}
	h.err = err
	return news
}

// awaySince reports whether the engine is away, or was found so at or after a
// moment.
func (h *engineHealth) awaySince(moment time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err != nil || !h.noticed.IsZero() && !h.noticed.Before(moment)
}

// back notes that it answers again. It reports whether that is news.
func (h *engineHealth) back(now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	news := h.err != nil
	if news {
		h.up = now
	}
	h.err = nil
	return news
}

// away is the error with which the engine does not answer; nil when it does.
func (h *engineHealth) away() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err
}

// window is the last time between which the engine was away.
func (h *engineHealth) window() (down, up time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.down, h.up
}

// pingTimeout bounds the question whether the engine lives at all.
const pingTimeout = 5 * time.Second

// engineLost asks, after a call failed that the engine itself may be the reason
// of, whether it is away, or one that Berth cannot speak to. Every loop holds
// still then, until it is back.
func (d *Daemon) engineLost(ctx context.Context) bool {
	if d.health.away() != nil {
		return true // it is being asked already
	}
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	err := d.cfg.Engine.Ping(ctx)
	if err == nil || ctx.Err() == context.Canceled {
		return false
	}
	if d.health.lost(err, time.Now()) {
		d.cfg.Log.Warn().Err(err).Msg("the engine is down; nothing is done until it is back")
		d.running.Go(func() { d.awaitEngine(d.ctx) })
	}
	return true
}

// awaitEngine asks until the engine answers: every 250 ms at first, every 5 s
// in the end.
func (d *Daemon) awaitEngine(ctx context.Context) {
	wait := 250 * time.Millisecond
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		ask, cancel := context.WithTimeout(ctx, pingTimeout)
		err := d.cfg.Engine.Ping(ask)
		cancel()
		if err == nil {
			break
		}
		d.health.lost(err, time.Now())
		wait = min(2*wait, 5*time.Second)
	}
	if d.health.back(time.Now()) {
		d.cfg.Log.Info().Msg("the engine is back")
		d.nodes.unlearn() // it may be another one
		d.distrust()
	}
}

// distrust has every loop look at everything again, each container included.
func (d *Daemon) distrust() {
	for _, l := range d.all() {
		l.obs.Distrust()
		l.wakeUp()
	}
}

// watch hands the engine's events to the loops they are about. An event only
// marks and wakes.
func (d *Daemon) watch(ctx context.Context) {
	for ev := range d.cfg.Engine.Events(ctx, time.Time{}, runtime.Filter{}) {
		d.dispatch(ev)
	}
}

func (d *Daemon) dispatch(ev runtime.Event) {
	d.health.answered(time.Now())
	d.autoheal.event(ev)
	if lackOfMemory(ev) {
		d.nodes.poke()
	}
	if name := ev.Labels[runtime.LabelComposeProject]; ev.Type == "container" {
		l := d.loop(name)
		if l == nil {
			return
		}
		if ev.Action == "oom" {
			l.noteOOM(ev)
		}
		if l.obs.Event(ev) {
			l.wakeUp()
		}
		return
	}
	for _, l := range d.all() {
		if l.concerns(ev) && l.obs.Event(ev) {
			l.wakeUp()
		}
	}
}

// inspectEvery is how many resyncs go by until one asks about each container by
// itself. A list tells what ends, goes or comes; limits and the like, which only
// an inspection tells, seldom change, and a hundred inspections cost a second.
const inspectEvery = 10

// resync has everything listed again from time to time, so that a lost event
// costs one period at most.
func (d *Daemon) resync(ctx context.Context) {
	for n := 1; ; n++ {
		period := d.cfg.Resync + rand.N(d.cfg.Resync/5+1) // #nosec G404 -- jitter
		select {
		case <-ctx.Done():
			return
		case <-time.After(period):
		}
		if d.health.away() == nil {
			d.findLost(ctx)
			if n%inspectEvery == 0 {
				d.distrust()
			} else {
				d.relist()
			}
		}
	}
}

// relist has every loop list what there is, and inspect what has changed.
func (d *Daemon) relist() {
	for _, l := range d.all() {
		l.obs.MarkAll()
		l.wakeUp()
	}
}
