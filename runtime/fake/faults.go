package fake

import (
	"slices"
	"time"

	"github.com/berth-dev/berth/runtime"
)

// Fault is something that goes wrong with calls that match Op, Object and
// Match, each of which matches everything when it is empty.
type Fault struct {
	Op     string // such as "start"; the names are those of [Call]
	Object string // a name
	Match  func(Call) bool
	Skip   int // let this many matching calls pass first
	Times  int // strike this many calls; 0: all that follow

	Delay     time.Duration // the call takes this much longer
	Kind      runtime.Kind  // it fails so, without an effect
	Err       error         // the reason given with Kind
	Hang      bool          // without an effect, no answer until the caller gives up
	Lost      bool          // it has its effect, the answer is Unavailable
	HangAfter bool          // it has its effect, no answer until the caller gives up

	seen int
}

// Inject adds a fault and returns what takes it away. Of several that match
// a call, the first one injected strikes.
func (e *Engine) Inject(f Fault) (remove func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	p := &f
	e.faults = append(e.faults, p)
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.faults = slices.DeleteFunc(e.faults, func(q *Fault) bool { return q == p })
	}
}

// fault returns the fault that strikes the call; the zero one when none does.
func (e *Engine) fault(call Call) Fault {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, f := range e.faults {
		if (f.Op != "" && f.Op != call.Op) || (f.Object != "" && f.Object != call.Object) || (f.Match != nil && !f.Match(call)) {
			continue
		}
		f.seen++
		if f.seen <= f.Skip || (f.Times > 0 && f.seen > f.Skip+f.Times) {
			continue
		}
		return *f
	}
	return Fault{}
}

// Down takes the engine away: calls are Unavailable and event streams are cut
// until [Engine.Up]. With kill the containers' processes die with it (exit code
// 255); otherwise they run on, and what happens to them is told to nobody.
func (e *Engine) Down(kill bool) {
	var dying []*Process
	e.mu.Lock()
	e.down = true
	e.history = nil
	for _, c := range e.sortedContainers() {
		c.cancelRestart()
		if kill && c.proc != nil {
			c.proc.crash(255)
			dying = append(dying, c.proc)
		}
	}
	e.mu.Unlock()
	for _, p := range dying {
		<-p.done
	}
}

// Up brings the engine back. It starts again what its restart policies demand,
// and each event stream goes on with a resync.
func (e *Engine) Up() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.down {
		return
	}
	e.down = false
	for _, c := range e.sortedContainers() {
		again := c.Restart.Name == "always" || (c.Restart.Name == "unless-stopped" && !c.blocked) || c.State == runtime.Restarting ||
			(c.Restart.Name == "on-failure" && !c.blocked && c.ExitCode != 0)
		if again && c.proc == nil && !c.Started.IsZero() && c.State != runtime.Removing && c.State != runtime.Dead {
			_ = e.launchLocked(c) // a failed start is in the record, as on a real engine
		}
	}
	e.publishToAll(runtime.Event{Time: e.nowLocked(), Type: "resync"})
}

// LoseExit has the engine not notice that a container's process has ended: it
// goes on to report it as running. [Engine.ProcessAlive] tells the truth.
func (e *Engine) LoseExit(container string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c := e.lookup(container); c != nil {
		c.loseExit = true
	}
}

// ProcessAlive reports whether the process with that PID exists.
func (e *Engine) ProcessAlive(pid int) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range e.containers {
		if c.proc != nil && c.proc.pid == pid && !c.proc.isDone() {
			return true
		}
	}
	return false
}

// StickRemoval has the next n removals of the container end as Unavailable
// while it stays in state removing; the one after succeeds.
func (e *Engine) StickRemoval(container string, n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c := e.lookup(container); c != nil {
		c.stuckRemovals = n
	}
}

// SetState puts a container that does not run into a state that calls do not
// reach, such as dead or removing.
func (e *Engine) SetState(container string, s runtime.State) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c := e.lookup(container); c != nil && c.proc == nil {
		c.cancelRestart()
		c.State = s
	}
}

// GhostName has a name taken by nothing that can be found.
func (e *Engine) GhostName(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ghosts[name] = true
}

// SetOffline cuts the registry off, or connects it again.
func (e *Engine) SetOffline(offline bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.offline = offline
}

// FaultEvents passes every event through f before it is sent: f may return it,
// nothing, several or altered ones. Nil: all are sent as they are.
func (e *Engine) FaultEvents(f func(runtime.Event) []runtime.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.eventFault = f
}

// DropEvents is for [Engine.FaultEvents]: the stream is silent.
func DropEvents(runtime.Event) []runtime.Event { return nil }

// DuplicateEvents is for [Engine.FaultEvents]: every event comes twice.
func DuplicateEvents(ev runtime.Event) []runtime.Event { return []runtime.Event{ev, ev} }

// SwapEvents is for [Engine.FaultEvents]: of every two events the second comes first.
func SwapEvents() func(runtime.Event) []runtime.Event {
	var held []runtime.Event
	return func(ev runtime.Event) []runtime.Event {
		if held == nil {
			held = []runtime.Event{ev}
			return nil
		}
		out := append([]runtime.Event{ev}, held...)
		held = nil
		return out
	}
}
