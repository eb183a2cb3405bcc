package cli

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
)

// drainTime bounds how long the last lines of a container that has ended are waited for.
const drainTime = 2 * time.Second

// quietTime is how long nothing must run before an up is over: a restart asked
// for elsewhere is between an end and a start for a moment.
const quietTime = 300 * time.Millisecond

const gracefully = "Gracefully stopping... (press Ctrl+C again to force)"

// foreground is an up that stays: it shows the output of the stack's
// containers, those that come later included, until all have ended, one ends
// that must not, or the user interrupts. It is one loop over channels; only
// the loop touches the fields below mux.
type foreground struct {
	a      *app
	d      daemon
	engine Engine
	req    *api.UpRequest
	o      *foregroundOptions
	attach []string // services whose output is shown
	began  time.Time
	before map[string]bool // IDs of the containers there were before; true: it ran
	mux    *logMux

	ui      progress
	pumps   map[string]*pump // by container ID
	quiet   <-chan time.Time // when to look whether all is really over
	wg      sync.WaitGroup   // of pumps and followers
	shown   bool             // logs are shown: progress is not any more
	settled bool
	signals int
	stopped chan error // the end of stopping; nil: not stopping
	code    int
	coded   bool // code is decided

	mu    sync.Mutex // protects ended
	ended []exit     // reported by pumps, not yet seen by the loop
	more  chan struct{}
}

// exit is the end of a container's process.
type exit struct {
	id, service, name string
	code              int
	restarting        bool // it is going to run again, or has been replaced
}

func (a *app) upForeground(ctx context.Context, d daemon, req *api.UpRequest, attach []string, o *foregroundOptions) error {
	signals, release := a.interrupts()
	defer release()
	engine, err := a.openEngine(ctx)
	if err != nil {
		return err
	}
	f := &foreground{
		a: a, d: d, engine: engine, req: req, o: o, attach: attach, began: time.Now(),
		mux: newLogMux(a.env.Out, a.env.Err, logMuxOptions{
			Color: a.colored(a.env.Out) && !o.noColor, Prefix: !o.noPrefix,
		}),
		ui: a.progress("Running"), pumps: make(map[string]*pump), before: make(map[string]bool), more: make(chan struct{}, 1),
	}
	f.registerNames()
	list, err := a.containers(ctx, target{Name: req.Stack.Name}, nil, withoutOneOffs)
	if err != nil {
		return err
	}
	for i := range list {
		f.before[list[i].ID] = list[i].State.Alive()
	}
	return f.run(ctx, signals)
}

// registerNames aligns the prefixes for the containers to be expected.
func (f *foreground) registerNames() {
	for i := range f.req.Stack.Services {
		s := &f.req.Stack.Services[i]
		if !slices.Contains(f.attach, s.Name) {
			continue
		}
		n := s.Replicas
		if scaled, ok := f.req.Scale[s.Name]; ok {
			n = scaled
		}
		for slot := 1; slot <= n; slot++ {
			f.mux.Register(expectedName(s, slot))
		}
	}
}

func expectedName(s *stack.Service, slot int) string {
	if s.ContainerName != "" {
		return s.ContainerName
	}
	return s.Name + "-" + strconv.Itoa(slot)
}

func (f *foreground) run(ctx context.Context, signals <-chan os.Signal) error {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		cancel()
		f.wg.Wait()
		f.ui.Stop()
	}()
	events := f.engine.Events(work, f.began, runtime.Filter{Labels: map[string]string{runtime.LabelComposeProject: f.req.Stack.Name}})
	acc, err := f.d.Up(ctx, f.req)
	if err != nil {
		return err
	}
	steps := make(chan api.Event)
	settled := make(chan error, 1)
	f.wg.Go(func() {
		settled <- f.a.followWith(work, f.d, acc, untilSettled, func(e api.Event) error {
			select {
			case steps <- e:
				return nil
			case <-work.Done():
				return work.Err()
			}
		})
	})
	return f.loop(ctx, work, signals, events, steps, settled)
}

// loop handles what happens until it is over. ctx ends with the first
// interrupt when main listens for it; work goes on.
func (f *foreground) loop(ctx, work context.Context, signals <-chan os.Signal, events <-chan runtime.Event, steps <-chan api.Event, settled <-chan error) error {
	over := ctx.Done()
	for {
		select {
		case <-over:
			over = nil
			f.stop(work, gracefully)
		case <-signals:
			f.signals++
			f.interrupt(work)
		case e := <-steps:
			showEvent(f.ui, e)
		case err := <-settled:
			settled = nil
			if err != nil && f.stopped == nil {
				f.fail(work, err)
				continue
			}
			f.settle(work)
		case e, ok := <-events:
			if !ok {
				events = nil
				continue
			}
			f.event(work, e)
		case <-f.more:
			f.exited(work)
		case <-f.quiet:
			f.quiet = nil
			if f.idle() && f.over(work) {
				return nil
			}
		case err := <-f.stopped:
			return f.finish(work, err)
		}
		if f.idle() && f.quiet == nil {
			f.quiet = time.After(quietTime)
		}
	}
}

// fail reports what could not be reached and takes the stack down again, as
// leaving a foreground up always does.
func (f *foreground) fail(work context.Context, err error) {
	f.show()
	f.a.complain(err)
	f.decide(1)
	f.stop(work, "")
}

// settle attaches to what runs already, once the stack is as asked.
func (f *foreground) settle(work context.Context) {
	f.settled = true
	f.show()
	list, err := f.a.containers(work, target{Name: f.req.Stack.Name}, nil, withoutOneOffs)
	if err != nil {
		f.a.complain(err)
		return
	}
	for i := range list {
		c := &list[i]
		if f.pumps[c.ID] == nil && c.State.Alive() {
			p := f.pump(work, c.ID, serviceOf(c), shortName(c))
			p.running = true
			p.news <- pumpNews{open: true}
		}
	}
}

// show ends the progress and says whose output follows.
func (f *foreground) show() {
	if f.shown {
		return
	}
	f.shown = true
	f.ui.Stop()
	if f.a.progressMode() == "tty" {
		f.ui = quietProgress{} // the rest would tear the output apart
	}
	if names := f.mux.Names(); len(names) > 0 {
		_, _ = fmt.Fprintln(f.a.env.Out, "Attaching to "+strings.Join(names, ", "))
	}
}

func (f *foreground) event(work context.Context, e runtime.Event) {
	if e.Type != "container" || e.Labels[runtime.LabelComposeOneOff] == "True" || f.req.Stack.Service(e.Labels[runtime.LabelComposeService]) == nil {
		return
	}
	service := e.Labels[runtime.LabelComposeService]
	name := strings.TrimPrefix(e.Name, f.req.Stack.Name+"-")
	switch e.Action {
	case "start":
		if slices.Contains(f.attach, service) {
			f.show()
		}
		p := f.pump(work, e.ID, service, name)
		p.running = true
		p.news <- pumpNews{open: true, started: true}
	case "die":
		p := f.pumps[e.ID]
		if p == nil {
			return // it ran before this up, and is being replaced
		}
		code, err := strconv.Atoi(e.Labels["exitCode"])
		p.news <- pumpNews{die: true, code: code, codeKnown: err == nil, at: e.Time}
	case "destroy":
		if p := f.pumps[e.ID]; p != nil {
			p.running = false
		}
	}
}

// exited decides what the ends of containers mean.
func (f *foreground) exited(work context.Context) {
	f.mu.Lock()
	ended := f.ended
	f.ended = nil
	f.mu.Unlock()
	for _, x := range ended {
		if x.restarting {
			continue
		}
		f.pumps[x.id].running = false
		if f.o.exitCodeFrom == x.service {
			f.decide(x.code)
		}
		if f.o.abortOnExit || f.o.abortOnFailure && x.code != 0 {
			if f.o.exitCodeFrom == "" && f.stopped == nil {
				f.decide(x.code)
			}
			f.stop(work, "Aborting on container exit...")
		}
	}
}

// decide fixes the command's exit code; the first decision counts.
func (f *foreground) decide(code int) {
	if !f.coded {
		f.code, f.coded = code, true
	}
}

// idle reports whether everything has ended by itself.
func (f *foreground) idle() bool {
	if !f.settled || f.stopped != nil {
		return false
	}
	for _, p := range f.pumps {
		if p.running {
			return false
		}
	}
	return true
}

// over confirms that nothing runs and nothing is about to.
func (f *foreground) over(work context.Context) bool {
	list, err := f.a.containers(work, target{Name: f.req.Stack.Name}, nil, withoutOneOffs)
	if err != nil {
		return true // the engine is gone: there is nothing more to show
	}
	for i := range list {
		if p := f.pumps[list[i].ID]; p != nil && list[i].State.Alive() {
			return false
		}
	}
	st, err := f.d.Status(work, f.req.Stack.Name)
	return err != nil || len(st.InFlight) == 0 && (st.Plan == nil || st.Plan.Settled())
}

// interrupt stops the stack the first time, and kills it the second.
func (f *foreground) interrupt(work context.Context) {
	if f.signals == 1 {
		f.stop(work, gracefully)
		return
	}
	if f.signals > 2 {
		return
	}
	f.code, f.coded = 130, true
	f.wg.Go(func() {
		if _, err := f.d.Act(work, f.req.Stack.Name, stopRequest("kill", f.req)); err != nil && work.Err() == nil {
			f.a.complain(err)
		}
	})
}

// stop asks the daemon to stop the stack, once, and shows how it goes.
func (f *foreground) stop(work context.Context, why string) {
	if f.stopped != nil {
		return
	}
	if why != "" {
		_, _ = fmt.Fprintln(f.a.env.Err, why)
	}
	f.show()
	f.stopped = make(chan error, 1)
	f.wg.Go(func() {
		acc, err := f.d.Act(work, f.req.Stack.Name, stopRequest("stop", f.req))
		if err != nil {
			f.stopped <- err
			return
		}
		ui := f.a.linesOnly()
		f.stopped <- f.a.followWith(work, f.d, acc, untilSettled, func(e api.Event) error {
			showEvent(ui, e)
			return nil
		})
	})
}

// finish waits a moment for the last lines, and gives the exit code.
func (f *foreground) finish(work context.Context, err error) error {
	timeout := time.NewTimer(drainTime)
	defer timeout.Stop()
	for err == nil && f.anyRunning(work) {
		select {
		case <-f.more:
			f.exited(work)
			continue
		case <-timeout.C:
		}
		break
	}
	if err != nil {
		return err
	}
	if f.code != 0 {
		return &ExitError{Code: f.code}
	}
	return nil
}

// anyRunning reports whether a container has yet to be reported as ended.
func (f *foreground) anyRunning(work context.Context) bool {
	for _, p := range f.pumps {
		if !p.running {
			continue
		}
		c, err := f.engine.Inspect(work, p.id)
		if err == nil && !c.State.Alive() {
			p.news <- pumpNews{die: true, code: c.ExitCode, codeKnown: true, at: c.Finished}
			return true
		}
		p.running = false
	}
	return false
}

// pump prints what one container writes, run by run, and reports each end
// after the last line of the run.
type pump struct {
	id, service, name string
	attached          bool
	running           bool // the loop's
	news              chan pumpNews
}

// pumpNews tells a pump what has happened to its container.
type pumpNews struct {
	open      bool // it runs
	started   bool // and that has just begun
	die       bool
	code      int
	codeKnown bool
	at        time.Time
}

// pump returns the container's pump, starting it when there is none.
func (f *foreground) pump(work context.Context, id, service, name string) *pump {
	if p := f.pumps[id]; p != nil {
		return p
	}
	p := &pump{id: id, service: service, name: name, attached: slices.Contains(f.attach, service), news: make(chan pumpNews, 64)}
	f.pumps[id] = p
	f.wg.Go(func() { f.pumping(work, p) })
	return p
}

func (f *foreground) pumping(work context.Context, p *pump) {
	var r reading
	for {
		select {
		case <-work.Done():
			return
		case n := <-p.news:
			switch {
			case n.open:
				f.open(work, p, n, &r)
			case n.die && !r.reported:
				f.drain(work, r.done)
				r.done, r.since, r.reported = nil, n.at, true
				f.report(work, p, n)
			}
		}
	}
}

// reading is how far a pump is.
type reading struct {
	done     chan struct{} // closed at the end of the run's output; nil: none is read
	started  time.Time     // of the run
	since    time.Time     // the end of the run before
	reported bool          // the run's end
}

// open follows a run's output, unless it does so already.
func (f *foreground) open(work context.Context, p *pump, n pumpNews, r *reading) {
	c, err := f.engine.Inspect(work, p.id)
	if err != nil || c.Started.Equal(r.started) {
		return
	}
	f.drain(work, r.done)
	r.started, r.reported = c.Started, false
	opts := runtime.LogOptions{Follow: true, Tail: -1, Since: r.since, Timestamps: f.o.timestamps, Stdout: true, Stderr: true}
	switch ran, known := f.before[p.id]; {
	case ran && !n.started && r.since.IsZero():
		opts.Tail = 0 // it ran before this up: show what comes from now on
	case known && r.since.IsZero():
		opts.Since = c.Started // an old container started again: not its former output
	}
	r.done = f.read(work, p, opts)
}

// drain waits for a reader's end, but not for long: an engine may fail to end it.
func (f *foreground) drain(work context.Context, reading <-chan struct{}) {
	if reading == nil {
		return
	}
	t := time.NewTimer(drainTime)
	defer t.Stop()
	select {
	case <-reading:
	case <-t.C:
	case <-work.Done():
	}
}

// read follows one run's output; the channel is closed at its end.
func (f *foreground) read(work context.Context, p *pump, opts runtime.LogOptions) chan struct{} {
	done := make(chan struct{})
	if !p.attached {
		close(done)
		return done
	}
	f.wg.Go(func() {
		defer close(done)
		out, errw := f.mux.Writers(p.name)
		err := f.engine.Logs(work, p.id, opts, out, errw)
		_, _ = out.Close(), errw.Close()
		if err != nil && work.Err() == nil && !runtime.IsNotFound(err) {
			f.mux.Status(p.name, "output is lost: "+err.Error())
		}
	})
	return done
}

// report prints the end of a run and tells the loop.
func (f *foreground) report(work context.Context, p *pump, n pumpNews) {
	x := exit{id: p.id, service: p.service, name: p.name, code: n.code}
	c, err := f.engine.Inspect(work, p.id)
	if err == nil && !n.codeKnown {
		x.code = c.ExitCode
	}
	x.restarting = err == nil && (c.State.Alive() || f.restartsByPolicy(work, &c, x.code))
	if p.attached {
		text := "exited with code " + strconv.Itoa(x.code)
		if x.restarting {
			text += " (restarting)"
		}
		f.mux.Status(p.name, text)
	}
	f.mu.Lock()
	f.ended = append(f.ended, x)
	f.mu.Unlock()
	select {
	case f.more <- struct{}{}:
	default: // the loop has yet to look
	}
}

// restartsByPolicy reports whether Berth will run the container again:
// deploy.restart_policy says so and has attempts left.
func (f *foreground) restartsByPolicy(work context.Context, c *runtime.Container, code int) bool {
	svc := f.req.Stack.Service(serviceOf(c))
	if svc == nil || svc.Restart == nil || svc.Restart.Condition == "none" || svc.Restart.Condition == "on-failure" && code == 0 {
		return false
	}
	if svc.Restart.MaxAttempts == 0 {
		return true
	}
	st, err := f.d.Status(work, f.req.Stack.Name)
	if err != nil {
		return false
	}
	for i := range st.Replicas {
		if r := &st.Replicas[i]; r.Service == svc.Name && r.Slot == numberOf(c) {
			return r.Restarts < svc.Restart.MaxAttempts
		}
	}
	return false
}
