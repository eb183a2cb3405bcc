package cli

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/berth-dev/berth/runtime"
)

// follow shows output until nothing runs any more and nothing is about to, or
// until the user interrupts.
func (l *logFollower) follow(ctx context.Context, list []runtime.Container, began time.Time) error {
	work, cancel := context.WithCancel(ctx)
	var readers sync.WaitGroup
	defer readers.Wait()
	defer cancel()
	events := l.a.engine.Events(work, began, runtime.Filter{Labels: map[string]string{runtime.LabelComposeProject: l.t.Name}})
	for i := range list {
		l.open(work, &readers, &list[i], l.opts)
	}
	for {
		var quiet <-chan time.Time
		if !l.reading() {
			quiet = time.After(quietTime)
		}
		select {
		case <-ctx.Done():
			return &ExitError{Code: 130}
		case e, ok := <-events:
			if !ok {
				events = nil
				continue
			}
			if err := l.event(work, &readers, e); err != nil {
				return err
			}
		case e := <-l.ended:
			l.end(work, &readers, e)
		case <-quiet:
			if l.over(work) {
				return nil
			}
		}
	}
}

func (l *logFollower) reading() bool {
	for _, r := range l.runs {
		if r.active {
			return true
		}
	}
	return false
}

// open begins to read a container's output, unless that is being done.
func (l *logFollower) open(work context.Context, readers *sync.WaitGroup, c *runtime.Container, opts runtime.LogOptions) {
	r := l.runs[c.ID]
	if r == nil {
		r = &logRun{name: shortName(c)}
		l.runs[c.ID] = r
	}
	if r.active {
		return
	}
	if !r.since.IsZero() {
		opts.Since, opts.Tail = r.since, -1
	}
	r.active, r.alive = true, c.State.Alive()
	id, name := c.ID, r.name
	readers.Go(func() {
		err := l.read(work, id, name, opts)
		if err != nil && work.Err() == nil {
			l.mux.Status(name, "output is lost: "+err.Error())
		}
		select {
		case l.ended <- logEnd{id, err != nil}:
		case <-work.Done():
		}
	})
}

// event opens containers that have been started. After a gap in the events all
// containers are looked at.
func (l *logFollower) event(work context.Context, readers *sync.WaitGroup, e runtime.Event) error {
	switch {
	case e.Type == "resync":
		list, err := l.a.containers(work, l.t, nil, withoutOneOffs)
		if err != nil {
			return err
		}
		for i := range list {
			if l.wants(list[i].Labels) && list[i].State.Alive() {
				l.openNew(work, readers, &list[i])
			}
		}
	case e.Type == "container" && e.Action == "start" && l.wants(e.Labels):
		l.openNew(work, readers, &runtime.Container{ID: e.ID, Name: e.Name, Labels: e.Labels, State: runtime.Running})
	}
	return nil
}

// openNew reads all that a container writes which has come or come back meanwhile.
func (l *logFollower) openNew(work context.Context, readers *sync.WaitGroup, c *runtime.Container) {
	opts := l.opts
	opts.Tail = -1
	l.open(work, readers, c, opts)
}

func (l *logFollower) wants(labels map[string]string) bool {
	c := runtime.Container{Labels: labels}
	return !isOneOff(&c) && (len(l.services) == 0 || slices.Contains(l.services, serviceOf(&c))) && (l.index == 0 || numberOf(&c) == l.index)
}

// end says how a container whose output has ended did so, and goes on with one
// that runs again already. One that could not be read is tried again when it
// is started again, not before.
func (l *logFollower) end(work context.Context, readers *sync.WaitGroup, e logEnd) {
	r := l.runs[e.id]
	r.active = false
	if e.failed {
		return
	}
	c, err := l.a.engine.Inspect(work, e.id)
	if err != nil {
		r.since = time.Time{}
		return // it is gone
	}
	ran := r.alive
	if !c.Finished.IsZero() {
		r.since = c.Finished
	}
	if ran && (c.State != runtime.Running || c.Finished.After(c.Started)) {
		text := "exited with code " + strconv.Itoa(c.ExitCode)
		if c.State == runtime.Restarting {
			text += " (restarting)"
		}
		l.mux.Status(r.name, text)
	}
	if c.State == runtime.Running || c.State == runtime.Paused {
		l.open(work, readers, &c, l.opts)
	}
}

// over reports whether nothing runs, and nobody is about to start anything.
func (l *logFollower) over(work context.Context) bool {
	list, err := l.a.containers(work, l.t, nil, withoutOneOffs)
	if err != nil {
		return true // the engine is gone: there is nothing more to show
	}
	for i := range list {
		if l.wants(list[i].Labels) && list[i].State.Alive() {
			return false
		}
	}
	d, err := l.a.find(work)
	if err != nil || d == nil {
		return true
	}
	st, err := d.Status(work, l.t.Name)
	return err != nil || len(st.InFlight) == 0 && (st.Plan == nil || st.Plan.Settled())
}

// attributesOf are an event's attributes without the labels that identify a replica.
func attributesOf(e *runtime.Event) map[string]string {
	m := make(map[string]string, len(e.Labels))
	for k, v := range e.Labels {
		if !strings.HasPrefix(k, "com.docker.compose.") && !strings.HasPrefix(k, "io.berth.") {
			m[k] = v
		}
	}
	return m
}
