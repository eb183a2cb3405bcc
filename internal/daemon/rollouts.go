package daemon

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/reconcile"
	"github.com/berth-dev/berth/internal/stack"
)

// rollLocked takes over how a plan's rollouts stand: it remembers them, forgets
// what need not be gone back to, and goes back where one has failed. It reports
// whether it went back, so that another turn is due. l.mu is held.
func (l *loop) rollLocked(plan *reconcile.Plan, now time.Time) bool {
	if plan.Gone || l.record.Desired.Down != nil || l.record.Desired.Lost {
		return false
	}
	for _, name := range sortedKeys(plan.Rollouts) {
		r := plan.Rollouts[name]
		if old, known := l.record.Memory.Rollouts[name]; !known || cameFurther(&old, &r) {
			l.tellRollout(name, &r)
		}
	}
	if was := l.record.Memory.Rollouts; len(was)+len(plan.Rollouts) > 0 && !reflect.DeepEqual(was, plan.Rollouts) {
		l.record.Memory.Rollouts, l.unsaved = plan.Rollouts, true
	}
	if next := l.record.Desired.Settle(plan.Settle); next != nil {
		l.record.Desired, l.unsaved = next, true
	}
	if len(plan.RollBack) == 0 {
		return false
	}
	next := l.record.Desired.GoBack(plan.RollBack, now)
	if next == nil {
		return false
	}
	l.record.Desired, l.unsaved = next, true
	l.record.declare(next, now, rollBackCause+reconcile.FirstWhy(plan.RollBack))
	l.d.nodes.declare(l.name, next.Stack)
	l.obs.MarkAll()
	return true
}

// cameFurther reports whether a rollout stands otherwise than it did, as far as
// people are told of it.
func cameFurther(old, r *reconcile.Rollout) bool {
	wasDone, hadFailed := old.Counts()
	done, failed := r.Counts()
	return old.State != r.State || old.Step != r.Step || old.Target != r.Target || old.Total != r.Total || wasDone != done || hadFailed != failed
}

// tellRollout publishes that a rollout has changed.
func (l *loop) tellRollout(service string, r *reconcile.Rollout) {
	done, failed := r.Counts()
	l.log.Info().Str("service", service).Str("state", string(r.State)).Str("cause", r.Why).Int("done", done).Int("failed", failed).Int("total", r.Total).Msg("rollout")
	l.feed.publish(api.Event{Time: time.Now(), Type: api.EventRollout, Stack: l.name, Rollout: &api.RolloutChange{
		Service: service, State: r.State, Why: r.Why, Done: done, Failed: failed, Total: r.Total, Step: r.Step, Back: r.RollBack,
		New: r.From == "",
	}})
}

// stoppedRollouts reports whether a service's rollout has stopped because of
// failures; l.mu is held.
func (l *loop) stoppedRollouts(service string) bool {
	return l.record.Memory.Rollouts[service].State == reconcile.RolloutPaused
}

// rollouts tells how the replacement of a stack's replicas stands.
func (d *Daemon) rollouts(ctx context.Context, name string) (*api.Rollouts, error) {
	l, err := d.known(ctx, name)
	if err != nil {
		return nil, err
	}
	if !l.planned() {
		if _, err := l.lookNow(ctx); err != nil {
			return nil, err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	out := &api.Rollouts{Revision: l.record.newest()}
	for _, svc := range sortedServices(l.record.Desired.Stack) {
		out.Services = append(out.Services, l.rolloutLocked(svc))
	}
	return out, nil
}

func sortedServices(s *stack.Stack) []string {
	names := make([]string, len(s.Services))
	for i := range s.Services {
		names[i] = s.Services[i].Name
	}
	slices.Sort(names)
	return names
}

// rolloutLocked tells how the replacement of a service's replicas stands; l.mu is
// held.
func (l *loop) rolloutLocked(service string) api.RolloutStatus {
	w := l.record.Desired
	svc, st := w.Stack.Service(service), w.Services[service]
	s := api.RolloutStatus{Service: service, Revision: svc.Revision, Replicas: w.Replicas(svc), Held: st.Held, RolledBack: st.RolledBack}
	if c := svc.Rollout.Canary; c != nil {
		s.CanarySteps, s.CanaryHold = len(c.Steps), c.Hold
	}
	if r, known := l.record.Memory.Rollouts[service]; known {
		s.Rollout = &r
	}
	for _, h := range l.plan.Holds {
		if h.Service == service && h.Kind != reconcile.HoldIdle && h.Key != reconcile.Key("rollout/"+service) {
			s.Holds = append(s.Holds, complaint(h))
		}
	}
	return s
}

// controlRollout pauses or resumes the rollouts of services; none named: of all.
func (d *Daemon) controlRollout(ctx context.Context, name string, req *api.RolloutRequest) (api.Accepted, error) {
	l, err := d.known(ctx, name)
	if err != nil {
		return api.Accepted{}, err
	}
	if req.Op != api.RolloutPause && req.Op != api.RolloutResume {
		return api.Accepted{}, invalid("change the rollout of", name, fmt.Sprintf("unknown operation %q", req.Op))
	}
	turn, err := l.edit(func(w *reconcile.Desired) (*reconcile.Desired, error) {
		next := *w
		next.Services = maps.Clone(w.Services)
		services := req.Services
		if len(services) == 0 {
			services = sortedKeys(w.Services)
		}
		for _, service := range services {
			st, known := next.Services[service]
			if !known {
				return nil, notFound(req.Op, service, "no such service in stack "+name)
			}
			st.Held = req.Op == api.RolloutPause
			if !st.Held {
				st.Resumed = time.Now()
			}
			next.Services[service] = st
		}
		return &next, nil
	}, nil)
	return api.Accepted{Stack: name, Turn: turn}, err
}

// history are the kept declarations of a stack, oldest first.
func (d *Daemon) history(ctx context.Context, name string) ([]api.Revision, error) {
	l, err := d.known(ctx, name)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []api.Revision
	var before *stack.Stack
	for _, r := range l.record.Revisions {
		list = append(list, api.Revision{Number: r.Number, At: r.At, Cause: r.Cause, Changes: reconcile.DiffStacks(before, r.Stack)})
		before = r.Stack
	}
	return list, nil
}

// difference compares two kept declarations key by key.
func (d *Daemon) difference(ctx context.Context, name string, from, to int) (api.RevisionDiff, error) {
	l, err := d.known(ctx, name)
	if err != nil {
		return api.RevisionDiff{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	a, err := l.record.revision(name, from)
	if err != nil {
		return api.RevisionDiff{}, err
	}
	b, err := l.record.revision(name, to)
	if err != nil {
		return api.RevisionDiff{}, err
	}
	return api.RevisionDiff{From: a.Number, To: b.Number, Changes: reconcile.DiffStacks(a.Stack, b.Stack)}, nil
}

// revision finds a kept declaration: a number counts from 1, 0 is the newest and
// a negative one counts back from it.
func (r *record) revision(name string, number int) (*declaration, error) {
	if number <= 0 {
		number += len(r.Revisions) - 1
		if number >= 0 && number < len(r.Revisions) {
			return &r.Revisions[number], nil
		}
		return nil, notFound("find", name, "no earlier revision is kept")
	}
	for i := range r.Revisions {
		if r.Revisions[i].Number == number {
			return &r.Revisions[i], nil
		}
	}
	if len(r.Revisions) == 0 {
		return nil, notFound("find", name, "no revision is kept")
	}
	return nil, notFound("find", name, fmt.Sprintf("revision %d is not kept; there are %d to %d", number, r.Revisions[0].Number, r.newest()))
}

// undo declares an earlier revision of a stack, or of some services of it, anew.
func (d *Daemon) undo(ctx context.Context, name string, req *api.UndoRequest) (api.Accepted, error) {
	l, err := d.known(ctx, name)
	if err != nil {
		return api.Accepted{}, err
	}
	up, cause, err := l.undoRequest(req)
	if err != nil {
		return api.Accepted{}, err
	}
	next, obs, err := d.candidate(ctx, up)
	if err != nil {
		return api.Accepted{}, err
	}
	if err := d.preflight(ctx, next, obs); err != nil {
		return api.Accepted{}, err
	}
	acc, err := d.acceptAs(next.Stack, nil, cause, func(before *reconcile.Desired) (*reconcile.Desired, error) {
		next := d.declaring(before, up, obs).desired()
		for _, name := range up.Services {
			st := next.Services[name]
			st.Undone = true
			next.Services[name] = st
		}
		return next, nil
	})
	d.concern(acc, up.Services, up.NoDeps)
	return acc, err
}

// planUndo tells what an undo would change.
func (d *Daemon) planUndo(ctx context.Context, name string, req *api.UndoRequest) (*reconcile.Plan, error) {
	l, err := d.known(ctx, name)
	if err != nil {
		return nil, err
	}
	up, _, err := l.undoRequest(req)
	if err != nil {
		return nil, err
	}
	return d.plan(ctx, up)
}

// undoRequest is the up that an undo comes to.
func (l *loop) undoRequest(req *api.UndoRequest) (*api.UpRequest, string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.record.Desired.Stack == nil {
		return nil, "", notFound("find", l.name, "no such stack")
	}
	for _, s := range req.Services {
		if l.record.Desired.Stack.Service(s) == nil {
			return nil, "", notFound("undo", s, "no such service in stack "+l.name)
		}
	}
	to := req.To
	if to == 0 {
		to = l.record.before(req.Services)
	}
	r, err := l.record.revision(l.name, to)
	if err != nil {
		return nil, "", err
	}
	for _, s := range req.Services {
		if r.Stack.Service(s) == nil {
			return nil, "", notFound("undo", s, fmt.Sprintf("revision %d has no such service", r.Number))
		}
	}
	w := l.record.Desired
	up := &api.UpRequest{Stack: r.Stack, Services: undone(w, r.Stack), NoDeps: true, Images: r.Images, Scale: map[string]int{}}
	if len(req.Services) > 0 { // the other services stay as they are
		merged := *w.Stack
		merged.Services = slices.Clone(merged.Services)
		for i := range merged.Services {
			if s := merged.Services[i].Name; slices.Contains(req.Services, s) {
				merged.Services[i] = *r.Stack.Service(s)
			}
		}
		up.Stack, up.Services = &merged, req.Services
	}
	for _, name := range up.Services { // how many there are is another matter
		if n := w.Services[name].Scale; n != nil {
			up.Scale[name] = *n
		}
	}
	return up, fmt.Sprintf("undo to %d", r.Number), nil
}

// undone are the services that an undo of a whole stack declares: those of the
// earlier revision, without those that are not wanted now.
func undone(now *reconcile.Desired, before *stack.Stack) []string {
	var list []string
	for _, name := range sortedServices(before) {
		if want := now.Services[name].Want; now.Stack.Service(name) == nil || want != "" && want != reconcile.WantAbsent {
			list = append(list, name)
		}
	}
	return list
}

// rollBackCause begins the cause of a revision that was declared because the one
// before it had failed.
const rollBackCause = "roll-back: "

// before is the newest revision in which the services, or any service, differ
// from what they are now. One that was rolled back is passed over. 0: none is kept.
func (r *record) before(services []string) int {
	now := r.Desired.Stack
	for at, old := range slices.Backward(r.Revisions) {
		if at+1 < len(r.Revisions) && strings.HasPrefix(r.Revisions[at+1].Cause, rollBackCause) {
			continue
		}
		for i := range now.Services {
			svc := &now.Services[i]
			if len(services) > 0 && !slices.Contains(services, svc.Name) {
				continue
			}
			was := old.Stack.Service(svc.Name)
			if was == nil || !same(was, svc) || old.Images[svc.Name] != "" && old.Images[svc.Name] != r.Desired.Services[svc.Name].ImageID {
				return old.Number
			}
		}
	}
	return -len(r.Revisions) // there is none
}

// revisionLimit is how many declarations of a stack are kept.
func revisionLimit(s *stack.Stack) int { return cmp.Or(s.Revisions, keptRevisions) }

// keptFiles are the contents that a stack's present wish and its kept revisions name.
func (l *loop) keptFiles() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	names := fileNames(l.record.Desired)
	for i := range l.record.Revisions {
		names = append(names, fileNames(&reconcile.Desired{Stack: l.record.Revisions[i].Stack})...)
	}
	return names
}

// rolloutRoutes answers what is asked of a stack's rollouts and revisions.
func (d *Daemon) rolloutRoutes(mux *http.ServeMux, stack string) {
	mux.HandleFunc("GET "+stack+"/rollouts", answer(func(r *http.Request, _ *struct{}) (any, error) {
		return d.rollouts(r.Context(), r.PathValue("stack"))
	}))
	mux.HandleFunc("POST "+stack+"/rollouts", answer(func(r *http.Request, req *api.RolloutRequest) (any, error) {
		return d.controlRollout(r.Context(), r.PathValue("stack"), req)
	}))
	mux.HandleFunc("POST "+stack+"/undo", answer(func(r *http.Request, req *api.UndoRequest) (any, error) {
		return d.undo(r.Context(), r.PathValue("stack"), req)
	}))
	mux.HandleFunc("POST "+stack+"/undo/plan", answer(func(r *http.Request, req *api.UndoRequest) (any, error) {
		return d.planUndo(r.Context(), r.PathValue("stack"), req)
	}))
	mux.HandleFunc("GET "+stack+"/revisions", answer(func(r *http.Request, _ *struct{}) (any, error) {
		return d.history(r.Context(), r.PathValue("stack"))
	}))
	mux.HandleFunc("GET "+stack+"/revisions/diff", answer(func(r *http.Request, _ *struct{}) (any, error) {
		from, err := number(r, "from")
		if err != nil {
			return nil, err
		}
		to, err := number(r, "to")
		if err != nil {
			return nil, err
		}
		return d.difference(r.Context(), r.PathValue("stack"), from, to)
	}))
}

// number is a number of the query; 0 where it is not given.
func number(r *http.Request, name string) (int, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, invalid("read", name, fmt.Sprintf("%q is not a number", text))
	}
	return n, nil
}
