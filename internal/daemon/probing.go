package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/berth-dev/berth/health"
	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/reconcile"
	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
)

// Probing says how the daemon's probes reach containers.
type Probing struct {
	Checks health.Maker // nil: probes have no results
	// Local: containers' addresses can be reached from this process.
	Local bool
	// EngineHost is where the engine's published ports are reached; empty: here.
	EngineHost string
	// Listeners reads what is listened on in the network namespace of a process of
	// the engine's machine; nil, or nothing returned: it is not known.
	Listeners func(pid int) []netip.AddrPort
}

// newProber makes the prober of all stacks; nil where there are no checks.
func (d *Daemon) newProber() *health.Prober {
	if d.cfg.Probing.Checks == nil {
		return nil
	}
	return health.New(health.Config{Checks: d.cfg.Probing.Checks, Notify: d.probed})
}

// probed wakes the stack of a container whose probes have changed.
func (d *Daemon) probed(key string) {
	name, _, _ := strings.Cut(key, "/")
	if l := d.loop(name); l != nil {
		l.wakeUp()
	}
}

// probeKey names a container to the prober. A stack's name has no slash.
func (l *loop) probeKey(container string) string { return l.name + "/" + container }

// probeLocked tells the prober what there is to probe, and adds to what was
// observed what it has found; l.mu is held.
func (l *loop) probeLocked(obs *reconcile.Observed) {
	p := l.d.prober
	d := l.record.Desired
	if p == nil || d == nil || d.Stack == nil {
		return
	}
	now := map[string]bool{}
	for i := range obs.Containers {
		c := &obs.Containers[i]
		svc := l.probedServiceLocked(c)
		if svc == nil {
			continue
		}
		key := l.probeKey(c.ID)
		now[key] = true
		p.Set(key, l.target(svc, c, obs), svc.Probes)
		if st, ok := p.Status(key); ok {
			if obs.Probes == nil {
				obs.Probes = map[string]health.Status{}
			}
			obs.Probes[c.ID] = st
			l.tellProbeLocked(svc, c, st)
		}
	}
	for key := range l.probing {
		if !now[key] {
			p.Remove(key)
			delete(l.told, key)
		}
	}
	l.probing = now
}

// tellProbeLocked publishes what probes say of a container, where that is news;
// l.mu is held.
func (l *loop) tellProbeLocked(svc *stack.Service, c *runtime.Container, st health.Status) {
	key := l.probeKey(c.ID)
	now := st.Standing(svc.Probes)
	if now == l.told[key] {
		return
	}
	if l.told == nil {
		l.told = map[string]health.Standing{}
	}
	l.told[key] = now
	id, err := runtime.ParseIdentity(c.Labels)
	if err != nil {
		return
	}
	l.feed.publish(api.Event{Time: time.Now(), Type: api.EventProbe, Stack: l.name, Probe: &api.Probed{
		Key: reconcile.ReplicaKey(id.Service, id.Slot), Service: id.Service, Container: c.Name,
		Ready: now.Ready, Why: st.Why(svc.Probes),
	}})
}

// probedServiceLocked is the service whose probes a container is asked; nil: of
// none. l.mu is held.
func (l *loop) probedServiceLocked(c *runtime.Container) *stack.Service {
	d := l.record.Desired
	id, err := runtime.ParseIdentity(c.Labels)
	if err != nil || id.OneOff || id.Owner != d.Owner && !d.Adopt || d.Lost {
		return nil
	}
	svc := d.Stack.Service(id.Service)
	if svc == nil || svc.Probes.Empty() {
		return nil
	}
	return svc
}

// target is what the prober must know of a container. A way is looked for anew
// until its probes pass: a program may come to listen somewhere else.
func (l *loop) target(svc *stack.Service, c *runtime.Container, obs *reconcile.Observed) health.Target {
	key := l.probeKey(c.ID)
	t := health.Target{Container: c.ID, Started: c.Started, State: c.State, Redact: l.redact}
	for _, s := range l.record.Memory.InFlight {
		t.Leaving = t.Leaving || s.Container == c.ID && endsRun(s.Op)
	}
	st, known := l.d.prober.Status(key)
	settled := known && st.Started.Equal(c.Started) && st.Ready(svc.Probes)
	if old, ok := l.ways[c.ID]; ok && (settled || !c.State.Alive()) {
		t.Routes = old
		return t
	}
	f := l.factsOf(c, obs)
	t.Routes = f.Ways(svc.Probes, svc.NamedPorts)
	if l.ways == nil {
		l.ways = map[string]map[health.Role]health.Route{}
	}
	l.ways[c.ID] = t.Routes
	return t
}

// factsOf are what the way to a port of a container depends on.
func (l *loop) factsOf(c *runtime.Container, obs *reconcile.Observed) health.Facts {
	f := health.Facts{
		Container: *c, Sharer: sharer(c, obs), Local: l.d.cfg.Probing.Local, EngineHost: l.d.cfg.Probing.EngineHost,
		Drivers: map[string]string{},
	}
	for name := range obs.Networks {
		f.Drivers[name] = obs.Networks[name].Driver
	}
	if read := l.d.cfg.Probing.Listeners; read != nil && c.PID > 0 && c.State == runtime.Running {
		f.Listeners = read(c.PID)
	}
	return f
}

// endsRun reports whether a step ends or freezes a container's run.
func endsRun(op reconcile.Op) bool {
	switch op {
	case reconcile.OpStop, reconcile.OpKill, reconcile.OpRestart, reconcile.OpRemove, reconcile.OpPause:
		return true
	default:
		return false
	}
}

// sharer is the container whose network another shares; nil: none, or it is not known.
func sharer(c *runtime.Container, obs *reconcile.Observed) *runtime.Container {
	ref, ok := strings.CutPrefix(c.NetworkMode, "container:")
	if !ok {
		return nil
	}
	for i := range obs.Containers {
		if o := &obs.Containers[i]; o.ID == ref || o.Name == ref {
			return o
		}
	}
	return nil
}

// pauseProbes has the prober leave alone what the steps of a plan end.
func (l *loop) pauseProbes(plan *reconcile.Plan) {
	if l.d.prober == nil {
		return
	}
	for _, s := range plan.Steps {
		if s.Container != "" && endsRun(s.Op) {
			l.d.prober.Pause(l.probeKey(s.Container))
		}
	}
}

// unprobe has the prober forget a stack.
func (l *loop) unprobe() {
	if l.d.prober == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for key := range l.probing {
		l.d.prober.Remove(key)
	}
	l.probing = nil
}

// tailLines is how much of a failed container's output its dependants show.
const tailLines = 3

// tailLocked fetches the last output of the containers that others wait for in
// vain, once for each of their runs, and asks for a turn that shows it. l.mu is
// held.
func (l *loop) tailLocked(ctx context.Context, plan *reconcile.Plan, obs *reconcile.Observed) {
	for _, id := range plan.Culprits {
		i := slices.IndexFunc(obs.Containers, func(c runtime.Container) bool { return c.ID == id })
		if i < 0 {
			continue
		}
		run := lastOutput{started: obs.Containers[i].Started, finished: obs.Containers[i].Finished, asked: true}
		old := l.tails[id]
		if run.same(old) {
			continue
		}
		run.known, run.text, run.last = old.known, old.text, old.last // of the run before, until that of this one is read
		if l.tails == nil {
			l.tails = map[string]lastOutput{}
		}
		l.tails[id] = run
		l.d.running.Go(func() { l.fetchTail(ctx, id, run) })
	}
	maps.DeleteFunc(l.tails, func(id string, _ lastOutput) bool {
		return !slices.ContainsFunc(obs.Containers, func(c runtime.Container) bool { return c.ID == id })
	})
}

// lastOutput is the end of what a container wrote in one run.
type lastOutput struct {
	started, finished time.Time
	asked             bool
	known             bool   // it was read, or cannot be
	text              string // the last lines
	last              string // the last of them
}

// same reports whether both are of the same run, as far as it has come.
func (o lastOutput) same(p lastOutput) bool {
	return o.asked == p.asked && o.started.Equal(p.started) && o.finished.Equal(p.finished)
}

// tailTime bounds the reading of a container's last output: for so long the end of
// a rollout may wait for it.
const tailTime = 2 * time.Second

// fetchTail reads what a container has written last. It is only an addition, so
// that one which cannot be read in time is taken for none.
func (l *loop) fetchTail(ctx context.Context, id string, run lastOutput) {
	defer l.wakeUp()
	ctx, cancel := context.WithTimeout(ctx, tailTime)
	defer cancel()
	var out bytes.Buffer
	opts := runtime.LogOptions{Tail: tailLines, Stdout: true, Stderr: true}
	text := ""
	if err := l.d.cfg.Engine.Logs(ctx, id, opts, &out, &out); err == nil {
		text = l.redact(out.String())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now, asked := l.tails[id]
	if !asked {
		return // the container is gone
	}
	// That of an earlier run is better than none, where the container crashes
	// faster than it is read.
	if now.same(run) || !now.known {
		now.known, now.text, now.last = true, oneLine(text), lastLine(text)
		l.tails[id] = now
	}
}

// lastLineMost bounds the last line that a reason quotes, in bytes.
const lastLineMost = 200

// lastLine is the last line of a text that holds anything, without control
// characters.
func lastLine(text string) string {
	last := ""
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(strings.Map(printable, line)); line != "" {
			last = line
		}
	}
	const cut = "…"
	if len(last) > lastLineMost {
		last = strings.ToValidUTF8(last[:lastLineMost-len(cut)], "") + cut
	}
	return last
}

// oneLineMost bounds the output that a reason quotes, in runes.
const oneLineMost = 300

// oneLine puts lines side by side, without control characters.
func oneLine(text string) string {
	var parts []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(strings.Map(printable, line))
		if line != "" {
			parts = append(parts, line)
		}
	}
	r := []rune(strings.Join(parts, " | "))
	if len(r) > oneLineMost {
		r = append(r[:oneLineMost], '…')
	}
	return string(r)
}

func printable(r rune) rune {
	if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
		return ' '
	}
	return r
}

// webhookTime bounds the call of a webhook.
const webhookTime = 10 * time.Second

// callWebhook tells an address that a probe has failed.
func callWebhook(ctx context.Context, name string, s reconcile.Step) error {
	ctx, cancel := context.WithTimeout(ctx, webhookTime)
	defer cancel()
	body, err := json.Marshal(map[string]any{
		"stack": name, "service": s.Service, "slot": s.Slot, "container": s.Name, "reason": s.Cause, "since": s.Since,
	})
	if err != nil {
		return err
	}
	fail := func(kind runtime.Kind, why error) error {
		return &runtime.Error{Kind: kind, Op: "call the webhook of", Object: s.Name, Err: why}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL, bytes.NewReader(body))
	if err != nil {
		return fail(runtime.KindInvalid, errors.New("the address is none")) // which may hold a secret
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fail(runtime.KindUnavailable, withoutURL(err))
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.CopyN(io.Discard, resp.Body, 1<<20)
	if resp.StatusCode/100 != 2 {
		return fail(runtime.KindUnavailable, fmt.Errorf("it answered %s", resp.Status))
	}
	return nil
}

// withoutURL is a client's error without the address, which may hold a secret.
func withoutURL(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}

// tailsLocked are the last outputs that are known, and the last lines of them;
// l.mu is held.
func (l *loop) tailsLocked() (tails, last map[string]string) {
	tails, last = map[string]string{}, map[string]string{}
	for id, t := range l.tails {
		if t.text != "" {
			tails[id] = t.text
		}
		if t.known {
			last[id] = t.last
		}
	}
	return tails, last
}

// probeAll sends the probes of all stacks until ctx ends.
func (d *Daemon) probeAll(ctx context.Context) {
	if err := d.prober.Run(ctx); err != nil && ctx.Err() == nil {
		d.cfg.Log.Error().Err(err).Msg("probing ended")
	}
}

// oomSeen is how often the engine told of a kill for want of memory in a
// container, in its present run.
type oomSeen struct {
	started time.Time
	count   int
}

// noteOOM remembers a kill for want of memory that the engine told of. Its flag
// on the container is not reliable.
func (l *loop) noteOOM(ev runtime.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.observed == nil {
		return
	}
	for i := range l.observed.Containers {
		c := &l.observed.Containers[i]
		if c.ID != ev.ID {
			continue
		}
		if l.ooms == nil {
			l.ooms = map[string]oomSeen{}
		}
		seen := l.ooms[c.ID]
		if !seen.started.Equal(c.Started) {
			seen = oomSeen{started: c.Started}
		}
		seen.count++
		l.ooms[c.ID] = seen
	}
}

// oomsLocked are the kills in the containers' present, or last, runs; l.mu is held.
func (l *loop) oomsLocked() map[string]int {
	if len(l.ooms) == 0 {
		return nil
	}
	out := map[string]int{}
	for i := range l.observed.Containers {
		c := &l.observed.Containers[i]
		if seen, ok := l.ooms[c.ID]; ok && seen.started.Equal(c.Started) {
			out[c.ID] = seen.count
		}
	}
	maps.DeleteFunc(l.ooms, func(id string, _ oomSeen) bool { _, there := out[id]; return !there })
	return out
}
