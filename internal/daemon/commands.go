package daemon

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/reconcile"
	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
)

// errClosed says that a stack went away while it was edited; the edit is tried
// on a new loop.
var errClosed = errors.New("the stack is gone")

// edit stores a new wish and, once that has succeeded, makes it count. fn gets
// the present wish (nil: none) and returns another. declared is remembered as a
// revision when it is not nil, with its cause; any other command has seen what was
// rolled back.
func (l *loop) edit(fn func(*reconcile.Desired) (*reconcile.Desired, error), declared *cause) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return 0, errClosed
	}
	next, err := fn(l.record.Desired)
	if err != nil {
		return 0, err
	}
	r := l.record
	r.Desired = next
	if declared != nil {
		r.declare(next, time.Now(), string(*declared))
	} else {
		r.Desired = seen(next)
	}
	next = r.Desired
	if l.unsaved || !same(l.record.Desired, next) || r.newest() != l.record.newest() {
		if err := l.d.store.save(l.name, &r); err != nil {
			return 0, err
		}
	}
	l.record, l.unsaved = r, false
	l.d.nodes.declare(l.name, next.Stack)
	l.record.Memory.Forgive()
	l.feed.begin(l.turn.Add(1))
	if l.observed == nil || reconcile.Missing(next, l.observed) {
		l.obs.MarkAll() // it names what was not looked at yet
	}
	l.wakeUp()
	return l.turn.Load(), nil
}

// cause is why a stack was declared; empty: by an up.
type cause string

// seen notes that a command has found services rolled back.
func seen(d *reconcile.Desired) *reconcile.Desired {
	next := *d
	for name, st := range d.Services {
		if st.RolledBack == nil || st.RolledBack.Seen {
			continue
		}
		back := *st.RolledBack
		back.Seen = true
		st.RolledBack = &back
		next.Services = maps.Clone(next.Services)
		next.Services[name] = st
	}
	return &next
}

// observe looks at a stack afresh, the images of a stack that is about to be
// declared included.
func (d *Daemon) observe(ctx context.Context, name string, declared *stack.Stack) (*reconcile.Observed, error) {
	l := d.loop(name)
	if l == nil || l.desired() == nil {
		candidate := &reconcile.Desired{Stack: declared, Owner: d.owner}
		return reconcile.NewObserver(d.cfg.Engine, name).Observe(ctx, candidate, time.Now())
	}
	obs, err := l.lookNow(ctx)
	if err != nil || declared == nil {
		return obs, err
	}
	return d.completed(ctx, obs, declared)
}

// completed adds what a new declaration names and the present one does not.
func (d *Daemon) completed(ctx context.Context, obs *reconcile.Observed, declared *stack.Stack) (*reconcile.Observed, error) {
	known := &reconcile.Desired{Stack: declared, Owner: d.owner}
	missing := reconcile.Missing(known, obs)
	if !missing {
		return obs, nil
	}
	return reconcile.NewObserver(d.cfg.Engine, declared.Name).Observe(ctx, known, time.Now())
}

// up declares a stack.
func (d *Daemon) up(ctx context.Context, req *api.UpRequest) (api.Accepted, error) {
	next, obs, err := d.candidate(ctx, req)
	if err != nil {
		return api.Accepted{}, err
	}
	if req.NeedImages {
		if missing := missingImages(req, obs); len(missing) > 0 {
			return api.Accepted{Stack: next.Stack.Name, MissingImages: missing}, nil
		}
	}
	if err := d.preflight(ctx, next, obs); err != nil {
		return api.Accepted{}, err
	}
	acc, err := d.acceptAs(next.Stack, req.Contents, oneLine(req.Cause), func(before *reconcile.Desired) (*reconcile.Desired, error) {
		return d.declaring(before, req, obs).desired(), nil
	})
	d.concern(acc, req.Services, req.NoDeps)
	return acc, err
}

// concern notes that an accepted command is about the named services, and about
// what they depend on unless they are meant alone: whoever follows it hears of no
// others' failures. None named: all.
func (d *Daemon) concern(acc api.Accepted, services []string, alone bool) {
	l := d.loop(acc.Stack)
	if l == nil || len(services) == 0 {
		return
	}
	wish := l.desired()
	if wish == nil {
		return
	}
	about := scope{}
	for _, name := range services {
		about[name] = true
	}
	if !alone {
		about = withDependencies(wish.Stack, about)
	}
	l.feed.concern(acc.Turn, about)
}

// declaring turns an up into desired state: rollouts that have stopped go on.
func (d *Daemon) declaring(before *reconcile.Desired, req *api.UpRequest, obs *reconcile.Observed) *declaring {
	dec := newDeclaring(before, req, obs, d.owner, d.cfg.Version)
	dec.now = time.Now()
	if l := d.loop(req.Stack.Name); l != nil && before != nil {
		dec.stopped = l.stoppedRollouts
	}
	return dec
}

// candidate is what a request would make of a stack, and what it is judged by.
func (d *Daemon) candidate(ctx context.Context, req *api.UpRequest) (*reconcile.Desired, *reconcile.Observed, error) {
	if req.Stack == nil || req.Stack.Name == "" {
		return nil, nil, invalid("declare", "stack", "the request has no stack")
	}
	for _, name := range req.Services {
		if req.Stack.Service(name) == nil {
			return nil, nil, notFound("find", name, "no such service in stack "+req.Stack.Name)
		}
	}
	if err := checkReplicas(req); err != nil {
		return nil, nil, err
	}
	if err := d.newer(req.Stack.Name); err != nil {
		return nil, nil, err
	}
	if err := d.unreadable(req.Stack.Name); err != nil && !req.Adopt {
		return nil, nil, invalid("read the state of", req.Stack.Name, err.Error()+"; run up --adopt to declare it anew, which removes nothing")
	}
	obs, err := d.observe(ctx, req.Stack.Name, req.Stack)
	if err != nil {
		return nil, nil, err
	}
	if err := d.learnEngine(ctx); err != nil {
		return nil, nil, err
	}
	if err := d.nodes.check(req.Stack); err != nil {
		return nil, nil, err
	}
	next := newDeclaring(d.wish(req.Stack.Name), req, obs, d.owner, d.cfg.Version).desired()
	return next, d.withCluster(obs, next.Stack), nil
}

// maxReplicas bounds the replicas of one service: more can only be a mistake,
// and planning them would keep the daemon from everything else.
const maxReplicas = 10_000

func checkReplicas(req *api.UpRequest) error {
	for i := range req.Stack.Services {
		svc := &req.Stack.Services[i]
		n := svc.Replicas
		if scale, ok := req.Scale[svc.Name]; ok {
			n = scale
		}
		if n < 0 || n > maxReplicas {
			return invalid("declare", svc.Name, fmt.Sprintf("%d replicas are not possible; use 0 to %d", n, maxReplicas))
		}
	}
	return nil
}

// wish is a stack's present desired state, or nil.
func (d *Daemon) wish(name string) *reconcile.Desired {
	if l := d.loop(name); l != nil {
		return l.desired()
	}
	return nil
}

// unreadable is why a stack's file could not be read; nil when it could.
func (d *Daemon) unreadable(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.unread[name]
}

// newer refuses a stack whose file a newer Berth wrote: the file must stay.
func (d *Daemon) newer(name string) error {
	if err := d.unreadable(name); errors.Is(err, errNewerSchema) {
		return invalid("read the state of", name, err.Error())
	}
	return nil
}

// accept stores contents and then the new wish.
func (d *Daemon) accept(s *stack.Stack, files map[string][]byte, fn func(*reconcile.Desired) (*reconcile.Desired, error)) (api.Accepted, error) {
	return d.acceptAs(s, files, "", fn)
}

func (d *Daemon) acceptAs(s *stack.Stack, files map[string][]byte, why string, fn func(*reconcile.Desired) (*reconcile.Desired, error)) (api.Accepted, error) {
	if err := d.contents.put(s.Name, files); err != nil {
		return api.Accepted{}, err
	}
	for {
		l := d.ensureLoop(s.Name)
		turn, err := l.edit(fn, (*cause)(&why))
		if errors.Is(err, errClosed) {
			continue
		}
		if err != nil {
			return api.Accepted{}, err
		}
		d.mu.Lock()
		delete(d.unread, s.Name)
		d.mu.Unlock()
		if err := d.contents.keepOnly(s.Name, l.keptFiles()); err != nil {
			l.log.Warn().Err(err).Msg("contents that are no longer used cannot be removed")
		}
		return api.Accepted{Stack: s.Name, Turn: turn}, nil
	}
}

// plan tells what an up would do.
func (d *Daemon) plan(ctx context.Context, req *api.UpRequest) (*reconcile.Plan, error) {
	next, obs, err := d.candidate(ctx, req)
	if err != nil {
		return nil, err
	}
	return reconcile.Predict(next, obs, &reconcile.Memory{}, time.Now()), nil
}

// known returns a stack's loop. A stack that only containers tell of is found too.
func (d *Daemon) known(ctx context.Context, name string) (*loop, error) {
	if err := d.newer(name); err != nil {
		return nil, err
	}
	l := d.loop(name)
	if l == nil || l.desired() == nil {
		d.findLost(ctx)
		l = d.loop(name)
	}
	if l == nil || l.desired() == nil {
		return nil, notFound("find", name, "no such stack; berth ls shows those there are")
	}
	return l, nil
}

// down takes a stack, or some services of it, away.
func (d *Daemon) down(ctx context.Context, name string, req reconcile.Down) (api.Accepted, error) {
	l, err := d.known(ctx, name)
	if err != nil {
		return api.Accepted{}, err
	}
	turn, err := l.edit(func(before *reconcile.Desired) (*reconcile.Desired, error) { return goDown(before, req) }, nil)
	acc := api.Accepted{Stack: name, Turn: turn}
	d.concern(acc, req.Services, true)
	return acc, err
}

// act starts, stops, restarts, kills, pauses, unpauses, removes or scales.
func (d *Daemon) act(ctx context.Context, name string, req *api.ActionRequest) (api.Accepted, error) {
	l, err := d.known(ctx, name)
	if err != nil {
		return api.Accepted{}, err
	}
	if l.desired().Lost {
		return api.Accepted{}, invalid(req.Op, name, "the stack's file was lost; run up to take it over or down to remove it")
	}
	obs, err := l.lookNow(ctx)
	if err != nil {
		return api.Accepted{}, err
	}
	turn, err := l.edit(func(before *reconcile.Desired) (*reconcile.Desired, error) { return act(before, obs, req) }, nil)
	acc := api.Accepted{Stack: name, Turn: turn}
	d.concern(acc, slices.Concat(req.Services, sortedKeys(req.Scale)), req.NoDeps)
	return acc, err
}

// createOneOff declares the service of a run and its dependencies, and makes
// the run's container.
func (d *Daemon) createOneOff(ctx context.Context, req *api.OneOffRequest) (api.OneOffCreated, error) {
	up := req.Up
	svc := up.Stack.Service(req.OneOff.Service)
	if svc == nil {
		return api.OneOffCreated{}, notFound("run", req.OneOff.Service, "no such service in stack "+up.Stack.Name)
	}
	if err := checkReplicas(&up); err != nil {
		return api.OneOffCreated{}, err
	}
	deps := map[string]bool{}
	for _, dep := range svc.DependsOn {
		deps[dep.Service] = true
	}
	if !up.NoDeps {
		up.Services = sortedNames(withDependencies(up.Stack, deps))
	}
	obs, err := d.observe(ctx, up.Stack.Name, up.Stack)
	if err != nil {
		return api.OneOffCreated{}, err
	}
	declare := func(before *reconcile.Desired) *declaring {
		de := newDeclaring(before, &up, obs, d.owner, d.cfg.Version)
		if len(up.Services) == 0 { // of the service itself nothing is started
			de.named, de.selected = map[string]bool{}, map[string]bool{}
		}
		return de
	}
	if err := d.preflight(ctx, declare(d.wish(up.Stack.Name)).desired(), obs); err != nil {
		return api.OneOffCreated{}, err
	}
	name := ""
	acc, err := d.acceptAs(up.Stack, up.Contents, "run "+svc.Name, func(before *reconcile.Desired) (*reconcile.Desired, error) {
		next := declare(before).desired()
		one := req.OneOff
		one.Number = oneOffNumber(next, obs, one.Service)
		if one.Name == "" {
			one.Name = fmt.Sprintf("%s-%s-run-%s", up.Stack.Name, one.Service, token())
		}
		name = one.Name
		next.OneOffs = append(next.OneOffs, one)
		return next, nil
	})
	if err != nil {
		return api.OneOffCreated{}, err
	}
	d.concern(acc, []string{req.OneOff.Service}, up.NoDeps)
	return d.awaitOneOff(ctx, acc, name)
}

// token is a short random word for a name.
func token() string {
	var raw [6]byte
	_, _ = rand.Read(raw[:]) // never fails
	return hex.EncodeToString(raw[:])
}

// awaitOneOff waits until a run's container exists. When it cannot be made the
// run is forgotten again.
func (d *Daemon) awaitOneOff(ctx context.Context, acc api.Accepted, name string) (api.OneOffCreated, error) {
	created := api.OneOffCreated{Name: name}
	err := d.awaitStack(ctx, acc, func(w *reconcile.Desired, failed []string) (bool, error) {
		for i := range w.OneOffs {
			if w.OneOffs[i].Name == name && w.OneOffs[i].Container != "" {
				created.Container = w.OneOffs[i].Container
				return true, nil
			}
		}
		if len(failed) > 0 {
			return true, invalid("run", name, strings.Join(failed, "; "))
		}
		return false, nil
	})
	if err != nil {
		if l := d.loop(acc.Stack); l != nil {
			_, dropErr := l.edit(func(w *reconcile.Desired) (*reconcile.Desired, error) {
				return editOneOff(w, name, func(one *reconcile.OneOff) { one.Remove = true })
			}, nil)
			err = errors.Join(err, dropErr)
		}
	}
	return created, err
}

// awaitStack asks done after every turn from acc on until it says so.
func (d *Daemon) awaitStack(ctx context.Context, acc api.Accepted, done func(w *reconcile.Desired, failed []string) (bool, error)) error {
	l := d.loop(acc.Stack)
	if l == nil {
		return notFound("find", acc.Stack, "the stack is gone")
	}
	ctx, cancel := context.WithTimeout(ctx, soon)
	defer cancel()
	at, about := l.feed.position(acc.Turn), l.feed.about(acc.Turn)
	for {
		_, next, o, more := l.feed.since(at)
		at = next
		var failed []string
		if o.turn >= acc.Turn && o.settled {
			failed = within(about, o.failed)
		}
		if ok, err := done(l.desired(), failed); ok || err != nil {
			return err
		}
		select {
		case <-more:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// startOneOff starts a run's container and waits until it was started.
func (d *Daemon) startOneOff(ctx context.Context, stackName, name string) error {
	l, err := d.known(ctx, stackName)
	if err != nil {
		return err
	}
	turn, err := l.edit(func(w *reconcile.Desired) (*reconcile.Desired, error) {
		return editOneOff(w, name, func(one *reconcile.OneOff) { one.Start = true })
	}, nil)
	if err != nil {
		return err
	}
	return d.awaitStack(ctx, api.Accepted{Stack: stackName, Turn: turn}, func(_ *reconcile.Desired, failed []string) (bool, error) {
		if l.started(name) {
			return true, nil
		}
		if len(failed) > 0 {
			return true, invalid("run", name, strings.Join(failed, "; "))
		}
		return false, nil
	})
}

// started reports whether a container was started, or has come and gone.
func (l *loop) started(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.observed.Containers {
		if c := &l.observed.Containers[i]; c.Name == name {
			return c.State != runtime.Created
		}
	}
	return !slices.ContainsFunc(l.record.Desired.OneOffs, func(one reconcile.OneOff) bool { return one.Name == name })
}

// removeOneOff stops and removes a run's container.
func (d *Daemon) removeOneOff(ctx context.Context, stackName, name string, grace *time.Duration) error {
	l, err := d.known(ctx, stackName)
	if err != nil {
		return err
	}
	turn, err := l.edit(func(w *reconcile.Desired) (*reconcile.Desired, error) {
		return editOneOff(w, name, func(one *reconcile.OneOff) { one.Remove, one.Grace = true, grace })
	}, nil)
	if err != nil {
		return err
	}
	return d.awaitStack(ctx, api.Accepted{Stack: stackName, Turn: turn}, func(w *reconcile.Desired, failed []string) (bool, error) {
		if !slices.ContainsFunc(w.OneOffs, func(one reconcile.OneOff) bool { return one.Name == name }) {
			return true, nil
		}
		if len(failed) > 0 {
			return true, invalid("remove", name, strings.Join(failed, "; "))
		}
		return false, nil
	})
}

// findLost makes a loop for every stack of ours that containers tell of and no
// file does. Such a stack is shown; nothing is done to it until it is declared.
func (d *Daemon) findLost(ctx context.Context) {
	list, err := d.cfg.Engine.List(ctx, runtime.Filter{Labels: map[string]string{runtime.LabelOwner: d.owner}})
	if err != nil {
		return // the engine is away: asked again later
	}
	d.health.answered(time.Now())
	for i := range list {
		id, err := runtime.ParseIdentity(list[i].Labels)
		if err != nil {
			continue
		}
		d.mu.Lock()
		if d.loops[id.Stack] == nil {
			d.cfg.Log.Warn().Str("stack", id.Stack).Msg("the stack's file was lost; its containers are left as they are")
			l := newLoop(d, id.Stack, &record{Desired: &reconcile.Desired{
				Lost: true, Owner: d.owner,
				Stack: &stack.Stack{Name: id.Stack, WorkingDir: id.WorkingDir, ConfigFiles: id.ConfigFiles},
			}})
			d.loops[id.Stack] = l
			d.launchLocked(l)
		}
		d.mu.Unlock()
	}
}

// stacks lists what the daemon keeps.
func (d *Daemon) stacks() []api.Summary {
	var list []api.Summary
	for _, l := range d.all() {
		l.mu.Lock()
		if w := l.record.Desired; w != nil {
			s := api.Summary{Name: l.name, ConfigFiles: w.Stack.ConfigFiles, WorkingDir: w.Stack.WorkingDir, Lost: w.Lost}
			if l.observed != nil {
				s.Status = summary(l.observed.Containers)
			}
			list = append(list, s)
		}
		l.mu.Unlock()
	}
	return list
}

// status tells all that is known of a stack, after a look at the engine or, where
// that was not asked for, as of the last turn.
func (d *Daemon) status(ctx context.Context, name string, look bool) (*api.Status, error) {
	l, err := d.known(ctx, name)
	if err != nil {
		return nil, err
	}
	if look || !l.planned() {
		if _, err := l.lookNow(ctx); err != nil {
			return nil, err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &api.Status{Desired: l.record.Desired, Plan: l.plan}
	for _, key := range sortedKeys(l.record.Memory.InFlight) {
		s.InFlight = append(s.InFlight, l.record.Memory.InFlight[key])
	}
	s.Replicas, s.Beside = l.replicasLocked()
	s.Published = l.d.balancing.publishedOf(name, "")
	return s, nil
}
