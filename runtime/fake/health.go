package fake

import (
	"bytes"
	"cmp"
	"slices"
	"time"

	"github.com/berth-dev/berth/runtime"
)

// outputKept is how much of a check's output is kept, in bytes.
const outputKept = 4096

// healthMonitor runs one container's healthcheck.
type healthMonitor struct {
	check    runtime.Healthcheck
	stop     chan struct{}
	failures int // in a row
}

// healthcheck is the container's check: the image's, with what the spec
// overrides, and the engine's defaults. Nil: there is none.
func (c *container) healthcheck() *runtime.Healthcheck {
	var h runtime.Healthcheck
	if c.image.Healthcheck != nil {
		h = *c.image.Healthcheck
	}
	if s := c.spec.Healthcheck; s != nil {
		if s.Disable {
			return nil
		}
		if s.Test != nil {
			h.Test = s.Test
		}
		h.Interval, h.Timeout = cmp.Or(s.Interval, h.Interval), cmp.Or(s.Timeout, h.Timeout)
		h.StartPeriod, h.Retries = cmp.Or(s.StartPeriod, h.StartPeriod), cmp.Or(s.Retries, h.Retries)
	}
	if len(h.Test) < 2 || h.Test[0] == "NONE" {
		return nil
	}
	h.Interval, h.Timeout, h.Retries = cmp.Or(h.Interval, 30*time.Second), cmp.Or(h.Timeout, 30*time.Second), cmp.Or(h.Retries, 3)
	return &h
}

// startChecks begins to check a container that has just been started.
func (e *Engine) startChecks(c *container) {
	h := c.healthcheck()
	if h == nil {
		return
	}
	c.Health, c.HealthOutput = runtime.HealthStarting, ""
	e.monitor(c, h)
}

func (e *Engine) monitor(c *container, h *runtime.Healthcheck) {
	m := &healthMonitor{check: *h, stop: make(chan struct{})}
	c.check = m
	p := c.proc
	e.spawnLocked(func() {
		t := time.NewTimer(h.Interval)
		defer t.Stop()
		for {
			select {
			case <-t.C:
			case <-m.stop:
				return
			case <-e.closed:
				return
			}
			ok, out := e.runCheck(c, p, h)
			e.recordCheck(c, m, ok, out)
			t.Reset(h.Interval)
		}
	})
}

// stopChecks ends the checks of a container that stops or is paused. The Docker
// Engine reports it as unhealthy from then on, and sends no event.
func (e *Engine) stopChecks(c *container) {
	if c.check != nil {
		close(c.check.stop)
		c.check, c.Health = nil, runtime.HealthUnhealthy
	}
}

// runCheck is one check of a container.
func (e *Engine) runCheck(c *container, main *Process, h *runtime.Healthcheck) (ok bool, out string) {
	e.mu.Lock()
	work, up := c.work, e.nowLocked().Sub(c.Started)
	if work.Health != nil {
		e.mu.Unlock()
		return work.Health(up), ""
	}
	var buf bytes.Buffer
	p := e.newProcess(c)
	p.Args, p.Env, p.Dir, p.User = h.Test[1:], main.Env, main.Dir, main.User
	if h.Test[0] == "CMD-SHELL" {
		p.Args = slices.Concat([]string{"/bin/sh", "-c"}, p.Args)
	}
	program := work.exec()
	if !work.has(p.Args[0]) {
		program = missingCommand
	}
	p.Stdout, p.Stderr = &buf, &buf
	c.execs = append(c.execs, p)
	e.mu.Unlock()
	late := time.AfterFunc(h.Timeout, p.kill)
	code := p.run(program)
	timedOut := !late.Stop()
	e.endExec(c, p)
	out = buf.String()
	if timedOut {
		return false, "health check exceeded timeout (" + h.Timeout.String() + ")"
	}
	return code == 0, out[:min(len(out), outputKept)]
}

func (e *Engine) endExec(c *container, p *Process) {
	e.mu.Lock()
	defer e.mu.Unlock()
	close(p.done)
	c.execs = slices.DeleteFunc(c.execs, func(x *Process) bool { return x == p })
}

// recordCheck moves the status as the Docker Engine does.
func (e *Engine) recordCheck(c *container, m *healthMonitor, ok bool, out string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c.check != m {
		return // the container has stopped meanwhile
	}
	c.HealthOutput = out
	next := c.Health
	if ok {
		m.failures, next = 0, runtime.HealthHealthy
	} else if c.Health != runtime.HealthStarting || e.nowLocked().Sub(c.Started) >= m.check.StartPeriod {
		m.failures++
		if m.failures >= m.check.Retries {
			next = runtime.HealthUnhealthy
		}
	}
	if next != c.Health {
		c.Health = next
		e.containerEvent(c, "health_status: "+string(next))
	}
}
