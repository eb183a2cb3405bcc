package daemon

import (
	"context"
	"sync"
	"time"

	"github.com/berth-dev/berth/health"
	"github.com/berth-dev/berth/internal/reconcile"
	"github.com/berth-dev/berth/runtime"
)

// LabelAutoheal on any container of the engine, with the value true, has the
// daemon restart it whenever the engine calls it unhealthy, whoever made it.
const LabelAutoheal = "io.berth.autoheal"

// autohealer restarts foreign containers that ask for it.
type autohealer struct {
	d    *Daemon
	exec *reconcile.Executor

	wake    chan struct{}             // capacity 1
	mu      sync.Mutex                // protects all below
	backoff map[string]health.Backoff // by container ID
	busy    map[string]bool           // by container ID
}

func newAutohealer(d *Daemon) *autohealer {
	return &autohealer{
		d: d, exec: &reconcile.Executor{Engine: d.cfg.Engine}, wake: make(chan struct{}, 1),
		backoff: map[string]health.Backoff{}, busy: map[string]bool{},
	}
}

// event wakes it when a container that asks for it is unhealthy.
func (a *autohealer) event(ev runtime.Event) {
	if ev.Type != "container" || ev.Labels[LabelAutoheal] != "true" || ev.Action != "health_status: unhealthy" {
		return
	}
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// run looks for unhealthy containers when an event tells of one, and from time
// to time, until ctx ends.
func (a *autohealer) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.wake:
		case <-timer.C:
		}
		next := a.d.cfg.Resync
		if a.d.health.away() == nil {
			next = min(next, a.look(ctx))
		}
		timer.Reset(next)
	}
}

// look restarts what is unhealthy and due, and returns when to look again.
func (a *autohealer) look(ctx context.Context) time.Duration {
	next := a.d.cfg.Resync
	list, err := a.d.cfg.Engine.List(ctx, runtime.Filter{Labels: map[string]string{LabelAutoheal: "true"}})
	if err != nil {
		return next // asked again later
	}
	a.forget(list)
	now := time.Now()
	for i := range list {
		c := &list[i]
		if c.State != runtime.Running {
			continue
		}
		full, err := a.d.cfg.Engine.Inspect(ctx, c.ID)
		if err != nil || full.Health != runtime.HealthUnhealthy || a.ours(&full) {
			continue
		}
		if wait := a.begin(&full, now); wait > 0 {
			next = min(next, wait)
			continue
		}
		a.d.running.Go(func() { a.restart(ctx, full) })
	}
	return next
}

// ours reports whether a container is a replica of a stack that this daemon
// keeps: x-berth.onUnhealthy says what becomes of that.
func (a *autohealer) ours(c *runtime.Container) bool {
	id, err := runtime.ParseIdentity(c.Labels)
	return err == nil && id.Owner == a.d.owner
}

// begin takes a container up, or returns how long it still has to wait. One that
// is being restarted is left to whoever does it.
func (a *autohealer) begin(c *runtime.Container, now time.Time) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.busy[c.ID] {
		return a.d.cfg.Resync
	}
	// Its run ends when it is restarted, so the wait is counted from its start.
	wait := a.backoff[c.ID].Wait(now, 0)
	if due := c.Started.Add(wait); due.After(now) && c.Started.Before(now) {
		return due.Sub(now)
	}
	a.busy[c.ID] = true
	return 0
}

func (a *autohealer) restart(ctx context.Context, c runtime.Container) {
	cause := "unhealthy, and labelled " + LabelAutoheal
	_, err := a.exec.Execute(ctx, "", reconcile.Step{
		Op: reconcile.OpRestart, Name: c.Name, Container: c.ID, Cause: cause, Grace: runtime.DefaultStopGrace,
	})
	a.d.cfg.Log.Info().Str("op", "restart").Str("container", c.Name).Str("cause", cause).Err(err).Msg("step")
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.busy, c.ID)
	if err == nil {
		now := time.Now()
		a.backoff[c.ID] = a.backoff[c.ID].Restarted(now, now)
	}
}

// forget drops what is known of containers that are gone.
func (a *autohealer) forget(list []runtime.Container) {
	there := map[string]bool{}
	for i := range list {
		there[list[i].ID] = true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for id := range a.backoff {
		if !there[id] {
			delete(a.backoff, id)
		}
	}
}
