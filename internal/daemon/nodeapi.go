package daemon

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/reconcile"
	"github.com/berth-dev/berth/runtime"
)

// nodeRoutes are the endpoints about nodes.
func (d *Daemon) nodeRoutes(mux *http.ServeMux) {
	const root = "/" + api.Version
	mux.HandleFunc("GET "+root+"/nodes", answer(func(r *http.Request, _ *struct{}) (any, error) {
		if err := d.settleNodes(r.Context()); err != nil {
			return nil, err
		}
		return d.nodes.list(), nil
	}))
	mux.HandleFunc("GET "+root+"/nodes/{node}", answer(func(r *http.Request, _ *struct{}) (any, error) {
		return d.describeNode(r.Context(), r.PathValue("node"))
	}))
	mux.HandleFunc("POST "+root+"/nodes", answer(func(r *http.Request, req *api.NodeRequest) (any, error) {
		return d.changeNode(r.Context(), req.Node.Name, func() error { return d.nodes.add(d.store.saveNodes, req) })
	}))
	mux.HandleFunc("DELETE "+root+"/nodes/{node}", answer(func(r *http.Request, _ *struct{}) (any, error) {
		return struct{}{}, d.removeNode(r.Context(), r.PathValue("node"))
	}))
	mux.HandleFunc("POST "+root+"/nodes/{node}/{action}", answer(func(r *http.Request, req *api.NodeAction) (any, error) {
		name, action := r.PathValue("node"), r.PathValue("action")
		return d.changeNode(r.Context(), name, func() error { return d.nodes.act(d.store.saveNodes, name, action, req, time.Now()) })
	}))
	mux.HandleFunc("POST "+root+"/rebalance", answer(d.handleRebalance))
	mux.HandleFunc("GET "+root+"/stacks/{stack}/explain/{service}", answer(func(r *http.Request, _ *struct{}) (any, error) {
		slot, err := slotParam(r)
		if err != nil {
			return nil, err
		}
		return d.explain(r.Context(), r.PathValue("stack"), r.PathValue("service"), slot)
	}))
}

// slotParam is the slot that a request asks for; 0: all.
func slotParam(r *http.Request) (int, error) {
	text := r.URL.Query().Get("slot")
	if text == "" {
		return 0, nil
	}
	slot, err := strconv.Atoi(text)
	if err != nil || slot < 1 {
		return 0, invalid("explain", r.PathValue("service"), "slot "+strconv.Quote(text)+" is not a number from 1 on")
	}
	return slot, nil
}

// settleNodes has what stands on the nodes known, as after the daemon's start.
func (d *Daemon) settleNodes(ctx context.Context) error {
	if err := d.learnEngine(ctx); err != nil {
		return err
	}
	for _, l := range d.all() {
		if l.planned() || l.desired() == nil {
			continue
		}
		if _, err := l.lookNow(ctx); err != nil {
			return err
		}
	}
	return nil
}

// planned reports whether the loop has taken a turn.
func (l *loop) planned() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.plan != nil
}

func (d *Daemon) describeNode(ctx context.Context, name string) (api.Node, error) {
	if err := d.settleNodes(ctx); err != nil {
		return api.Node{}, err
	}
	return d.nodes.node(name)
}

// changeNode edits the nodes and tells every stack.
func (d *Daemon) changeNode(ctx context.Context, name string, edit func() error) (api.Node, error) {
	if err := d.settleNodes(ctx); err != nil {
		return api.Node{}, err
	}
	if err := edit(); err != nil {
		return api.Node{}, err
	}
	d.wakeAll()
	return d.nodes.node(name)
}

func (d *Daemon) removeNode(ctx context.Context, name string) error {
	if err := d.settleNodes(ctx); err != nil {
		return err
	}
	// No stack may place a replica on it between the look and the removal.
	d.nodes.placing.Lock()
	err := d.nodes.remove(d.store.saveNodes, name)
	d.nodes.placing.Unlock()
	if err == nil {
		d.wakeAll()
	}
	return err
}

// explain tells why the replicas of a service are where and as they are.
func (d *Daemon) explain(ctx context.Context, stackName, service string, slot int) (*api.Explained, error) {
	l, err := d.known(ctx, stackName)
	if err != nil {
		return nil, err
	}
	if _, err := l.lookNow(ctx); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.observed == nil || l.plan == nil || l.record.Desired.Stack.Service(service) == nil {
		return nil, notFound("explain", service, "no such service in stack "+stackName)
	}
	out := &api.Explained{}
	for _, e := range reconcile.Explain(l.record.Desired, l.observed, &l.record.Memory, time.Now(), service) {
		if slot != 0 && e.Slot != slot {
			continue
		}
		out.Replicas = append(out.Replicas, l.explanationLocked(e))
	}
	if len(out.Replicas) == 0 && slot != 0 { // a service scaled to none has none
		return nil, notFound("explain", string(reconcile.ReplicaKey(service, slot)), "there is no such replica")
	}
	out.Services = []api.ExplainedService{{
		Labels:  l.record.Desired.Stack.Service(service).Labels,
		Rollout: l.rolloutLocked(service), Published: d.balancing.publishedOf(stackName, service), Traffic: l.trafficLocked(service, slot),
		Scaling: l.scalingLocked(service, time.Now()),
	}}
	return out, nil
}

// explanationLocked adds to a replica's place what the loop makes of it; l.mu is held.
func (l *loop) explanationLocked(e reconcile.Explanation) api.Explanation {
	out := api.Explanation{Key: e.Key, Node: e.Node, Placement: e.Decision}
	if c := e.Container; c != nil {
		out.Container, out.State = c.Name, c.State
		if st, ok := l.observed.Probes[c.ID]; ok {
			out.Probes, out.Routes = &st, l.ways[c.ID]
		}
		if c.State == runtime.Exited {
			out.Pressure = l.d.nodes.pressureReason(c, e.Node)
		}
	}
	out.Restarts, out.Backoff = l.record.Memory.RestartsOf(e.Key), l.record.Memory.Backoff[e.Key]
	for i := range l.plan.Holds {
		if l.plan.Holds[i].Key == e.Key {
			out.Hold = l.plan.Holds[i].Reason
		}
	}
	for i := range l.plan.Steps {
		if l.plan.Steps[i].Key == e.Key {
			out.Steps = append(out.Steps, *told(l.plan.Steps[i]))
		}
	}
	return out
}
