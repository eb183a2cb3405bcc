package daemon

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/reconcile"
	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/scaling"
	"github.com/berth-dev/berth/scaling/timetable"
)

// scalingRoutes answers what is asked of the scaling of a stack.
func (d *Daemon) scalingRoutes(mux *http.ServeMux, path string) {
	mux.HandleFunc("GET "+path+"/autoscale", answer(func(r *http.Request, _ *struct{}) (any, error) {
		return d.autoscaling(r.Context(), r.PathValue("stack"))
	}))
	mux.HandleFunc("POST "+path+"/autoscale", answer(func(r *http.Request, req *api.AutoscaleRequest) (any, error) {
		return d.controlScaling(r.Context(), r.PathValue("stack"), req)
	}))
}

// autoscaling tells how the services of a stack are scaled.
func (d *Daemon) autoscaling(ctx context.Context, name string) (*api.Autoscaling, error) {
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
	out := &api.Autoscaling{Services: []api.ServiceScaling{}}
	for i := range l.record.Desired.Stack.Services {
		if sc := l.scalingLocked(l.record.Desired.Stack.Services[i].Name, time.Now()); sc != nil {
			out.Services = append(out.Services, *sc)
		}
	}
	return out, nil
}

// isScaled reports whether there is something to tell of a service's scaling.
func isScaled(svc *stack.Service, st reconcile.ServiceState) bool {
	return svc.Autoscale != nil || svc.Vertical != nil || st.Rest != nil
}

// scalingLocked is how a service is scaled; nil: it is not. l.mu is held.
func (l *loop) scalingLocked(service string, now time.Time) *api.ServiceScaling {
	w := l.record.Desired
	svc, st := w.Stack.Service(service), w.Services[service]
	if !isScaled(svc, st) {
		return nil
	}
	s := &api.ServiceScaling{
		Service: svc.Name, Replicas: w.Replicas(svc), Paused: st.AutoHeld, ByHand: st.Scale != nil,
		Rest: st.Rest, Last: l.shown[svc.Name].last, Sizing: l.shown[svc.Name].sizing, Recording: l.shown[svc.Name].recording,
	}
	for _, r := range reconcile.ReadinessOf(w, l.observed, &l.record.Memory) {
		if r.Ready && r.Service == service {
			s.Ready++
		}
	}
	if a := svc.Autoscale; a != nil {
		policy, firing := policyOf(a, now)
		s.Min, s.Max = leastOf(a, &policy, firing), policy.Max
		table, _ := timetable.Parse(a.Schedules) // they were checked when they were loaded
		s.Firing, _ = table.Active(now)
	}
	return s
}

// controlScaling pauses and resumes autoscaling, and puts services to sleep and
// wakes them.
func (d *Daemon) controlScaling(ctx context.Context, name string, req *api.AutoscaleRequest) (api.Accepted, error) {
	l, err := d.known(ctx, name)
	if err != nil {
		return api.Accepted{}, err
	}
	turn, err := l.edit(func(w *reconcile.Desired) (*reconcile.Desired, error) {
		return control(w, l.observed, req, time.Now())
	}, nil)
	return api.Accepted{Stack: name, Turn: turn}, err
}

// control is the wish after an operation on its scaling. The old one is not changed.
func control(w *reconcile.Desired, obs *reconcile.Observed, req *api.AutoscaleRequest, now time.Time) (*reconcile.Desired, error) {
	services, err := scalable(w, req)
	if err != nil {
		return nil, err
	}
	next := *w
	next.Services = maps.Clone(w.Services)
	for _, service := range services {
		st := next.Services[service]
		switch req.Op {
		case api.AutoscalePause:
			st.AutoHeld = true
		case api.AutoscaleResume:
			if st.Scale != nil { // it goes on from there
				st.Auto = st.Scale
			}
			st.AutoHeld, st.Scale = false, nil
		case api.AutoscaleSleep:
			if st.Want == reconcile.WantRunning {
				st.Rest = &reconcile.Rest{Do: cmp.Or(req.Do, scaling.IdlePause), Why: "asleep by command", Since: now}
			}
		case api.AutoscaleWake:
			if st.Rest != nil {
				next.Requests = append(slices.Clone(next.Requests), startsOf(&next, obs, service)...)
			}
			st.Rest = nil
		}
		next.Services[service] = st
	}
	return &next, nil
}

// scalable are the services that an operation is about.
func scalable(w *reconcile.Desired, req *api.AutoscaleRequest) ([]string, error) {
	sleeps := req.Op == api.AutoscaleSleep || req.Op == api.AutoscaleWake
	if !sleeps && req.Op != api.AutoscalePause && req.Op != api.AutoscaleResume {
		return nil, invalid("scale", w.Stack.Name, fmt.Sprintf("unknown operation %q", req.Op))
	}
	if req.Do != "" && req.Do != scaling.IdleStop && req.Do != scaling.IdlePause {
		return nil, invalid(req.Op, w.Stack.Name, fmt.Sprintf("services cannot %q; use stop or pause", req.Do))
	}
	for _, service := range req.Services {
		svc := w.Stack.Service(service)
		if svc == nil {
			return nil, notFound(req.Op, service, "no such service in stack "+w.Stack.Name)
		}
		if !sleeps && svc.Autoscale == nil {
			return nil, invalid(req.Op, service, "it has no x-berth.autoscale")
		}
	}
	if len(req.Services) > 0 {
		return req.Services, nil
	}
	var all []string
	jobs := reconcile.Jobs(w.Stack)
	for i := range w.Stack.Services {
		svc := &w.Stack.Services[i]
		if sleeps && !jobs[svc.Name] || svc.Autoscale != nil {
			all = append(all, svc.Name)
		}
	}
	if len(all) == 0 {
		return nil, invalid(req.Op, w.Stack.Name, "no service has x-berth.autoscale")
	}
	return all, nil
}
