package daemon

import (
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

// acting is one action (start, stop, …) being turned into desired state.
type acting struct {
	d        *reconcile.Desired // a copy that may be changed
	obs      *reconcile.Observed
	req      *api.ActionRequest
	services []string
}

// act returns the wish after an action. The old one is not changed.
func act(before *reconcile.Desired, obs *reconcile.Observed, req *api.ActionRequest) (*reconcile.Desired, error) {
	next := *before
	next.Services = maps.Clone(before.Services)
	if next.Services == nil {
		next.Services = map[string]reconcile.ServiceState{}
	}
	next.Requests = slices.Clone(before.Requests)
	if req.OneOff != "" && req.Op != "kill" {
		return nil, invalid(req.Op, req.OneOff, "a container of run only takes signals; remove it with its own request")
	}
	a := &acting{d: &next, obs: obs, req: req}
	if err := a.selectServices(); err != nil {
		return nil, err
	}
	actions := map[string]func() error{
		"start": a.start, "stop": a.stop, "restart": a.restart, "kill": a.kill, "pause": a.pause,
		"unpause": a.unpause, "remove": a.remove, "scale": a.scale,
	}
	do, known := actions[req.Op]
	if !known {
		return nil, invalid("act on", before.Stack.Name, fmt.Sprintf("unknown action %q", req.Op))
	}
	return &next, do()
}

func invalid(op, object, why string) error {
	return &runtime.Error{Kind: runtime.KindInvalid, Op: op, Object: object, Err: errors.New(why)}
}

func notFound(op, object, why string) error {
	return &runtime.Error{Kind: runtime.KindNotFound, Op: op, Object: object, Err: errors.New(why)}
}

// selectServices takes the named services, or all that are part of what runs.
func (a *acting) selectServices() error {
	if a.req.OneOff != "" {
		return nil
	}
	names := a.req.Services
	for name := range a.req.Scale {
		names = append(slices.Clone(names), name)
	}
	slices.Sort(names)
	for _, name := range names {
		if a.d.Stack.Service(name) == nil {
			return notFound(a.req.Op, name, "no such service in stack "+a.d.Stack.Name)
		}
		a.services = append(a.services, name)
	}
	if len(names) > 0 {
		return nil
	}
	for i := range a.d.Stack.Services {
		if name := a.d.Stack.Services[i].Name; a.want(name) != reconcile.WantAbsent {
			a.services = append(a.services, name)
		}
	}
	return nil
}

func (a *acting) want(service string) reconcile.Want {
	if w := a.d.Services[service].Want; w != "" {
		return w
	}
	return reconcile.WantAbsent
}

// set changes what is wanted of a service. Whatever that is, it no longer rests.
func (a *acting) set(service string, want reconcile.Want) {
	st := a.d.Services[service]
	st.Want, st.Rest = want, nil
	if a.req.Timeout != nil {
		st.Grace = a.req.Timeout
	}
	a.d.Services[service] = st
}

// containers are those of the selected services, or the one-off that is named.
func (a *acting) containers() []owned {
	return slices.DeleteFunc(ours(a.obs, a.d), func(c owned) bool {
		if a.req.OneOff != "" {
			return !c.id.OneOff || c.Name != a.req.OneOff
		}
		return c.id.OneOff || !slices.Contains(a.services, c.id.Service)
	})
}

func (a *acting) start() error {
	if !a.req.NoDeps {
		named := map[string]bool{}
		for _, s := range a.services {
			named[s] = true
		}
		for _, dep := range sortedNames(withDependencies(a.d.Stack, named)) {
			if !named[dep] && a.want(dep) != reconcile.WantAbsent {
				a.services = append(a.services, dep)
			}
		}
	}
	jobs := reconcile.Jobs(a.d.Stack)
	for _, s := range a.services {
		if a.want(s) == reconcile.WantAbsent {
			return notFound("start", s, "the service has no container; run up")
		}
		a.set(s, reconcile.WantRunning)
	}
	for _, c := range a.containers() {
		named := len(a.req.Services) == 0 || slices.Contains(a.req.Services, c.id.Service)
		if c.State == runtime.Exited && (named || !jobs[c.id.Service] || c.ExitCode != 0) {
			a.d.Requests = append(a.d.Requests, request(runtime.OpStart, c, "started by command"))
		}
	}
	return nil
}

func (a *acting) stop() error {
	for _, s := range a.services {
		if a.want(s) != reconcile.WantAbsent {
			a.set(s, reconcile.WantStopped)
		}
	}
	return nil
}

func (a *acting) restart() error {
	changed := map[string]bool{}
	for _, s := range a.services {
		if a.want(s) == reconcile.WantAbsent {
			return notFound("restart", s, "the service has no container; run up")
		}
		a.set(s, reconcile.WantRunning)
		changed[s] = true
	}
	for _, c := range a.containers() {
		r := request(runtime.OpRestart, c, "restarted by command")
		r.Signal, r.Grace = a.req.Signal, a.req.Timeout
		a.d.Requests = append(a.d.Requests, r)
	}
	if !a.req.NoDeps {
		a.d.Requests = append(a.d.Requests, restartsWith(a.d, a.obs, changed, nil)...)
	}
	return nil
}

// kill sends a signal. One that no process survives is also the wish that the
// service rests; after any other the restart policy decides, as with any exit.
func (a *acting) kill() error {
	signal := strings.TrimPrefix(strings.ToUpper(a.req.Signal), "SIG")
	deadly := signal == "" || signal == "KILL" || signal == "9"
	for _, c := range a.containers() {
		if !c.State.Alive() {
			continue
		}
		r := request(runtime.OpKill, c, "killed by command")
		r.Signal = a.req.Signal
		a.d.Requests = append(a.d.Requests, r)
		if deadly && a.req.OneOff == "" {
			a.set(c.id.Service, reconcile.WantStopped)
		}
	}
	a.d.RemoveOrphans = a.d.RemoveOrphans || a.req.RemoveOrphans
	return nil
}

func (a *acting) pause() error {
	for _, s := range a.services {
		if a.want(s) == reconcile.WantRunning {
			a.set(s, reconcile.WantPaused)
		}
	}
	return nil
}

func (a *acting) unpause() error {
	for _, s := range a.services {
		if frozen := a.want(s) == reconcile.WantRunning && a.d.Services[s].Rest != nil; frozen || a.want(s) == reconcile.WantPaused {
			a.set(s, reconcile.WantRunning)
		}
	}
	return nil
}

// remove takes services away: those that rest, or with Stop all. A container
// that has ended beside running replicas is made anew, as the file wants it.
func (a *acting) remove() error {
	alive := map[string]bool{}
	for _, c := range a.containers() {
		alive[c.id.Service] = alive[c.id.Service] || c.State.Alive()
	}
	for _, s := range a.services {
		if alive[s] && !a.req.Stop {
			continue
		}
		a.set(s, reconcile.WantAbsent)
		st := a.d.Services[s]
		st.RenewVolumes = a.req.Volumes
		a.d.Services[s] = st
	}
	for _, c := range a.containers() {
		if alive[c.id.Service] && !a.req.Stop && !c.State.Alive() {
			a.d.Requests = append(a.d.Requests, request(runtime.OpRemove, c, "removed by command"))
		}
	}
	return nil
}

func (a *acting) scale() error {
	for _, name := range sortedNames(a.req.Scale) {
		n := a.req.Scale[name]
		svc := a.d.Stack.Service(name)
		switch {
		case n < 0 || n > maxReplicas:
			return invalid("scale", name, fmt.Sprintf("%d replicas are not possible", n))
		case n > 1 && svc.ContainerName != "":
			return invalid("scale", name, "container_name "+svc.ContainerName+" allows one replica only; remove it from the file")
		case n > 1 && a.engineHolds(svc) != "":
			return invalid("scale", name, "only one replica can publish host port "+a.engineHolds(svc)+"; give a range, let the engine choose, or drop publish: direct")
		}
		st := a.d.Services[name]
		st.Scale, st.Rest = &n, nil
		if a.want(name) == reconcile.WantAbsent || a.want(name) == reconcile.WantStopped {
			st.Want = reconcile.WantRunning
		}
		a.d.Services[name] = st
	}
	return nil
}

// engineHolds is a host port of a service that the engine holds however many
// replicas there are, so that only one of them can have it; empty: there is none.
func (a *acting) engineHolds(svc *stack.Service) string {
	if svc.MayBalance() || svc.Publish != stack.PublishDirect && svc.FixedPort() && a.obs.Reach != reconcile.ReachRemote {
		return ""
	}
	return fixedPort(svc.Spec.Ports)
}

// fixedPort is a host port that only one replica can hold; empty: none.
func fixedPort(ports []runtime.Port) string {
	for _, p := range ports {
		if p.Published != "" && p.Published != "0" && !strings.Contains(p.Published, "-") {
			return p.Published
		}
	}
	return ""
}

// goDown returns the wish that a stack, or some of its services, go away.
func goDown(before *reconcile.Desired, req reconcile.Down) (*reconcile.Desired, error) {
	next := *before
	if len(req.Services) == 0 {
		next.Down, next.Lost, next.Requests = &req, false, nil
		next.Down.RemoveOrphans = req.RemoveOrphans || before.Lost
		return &next, nil
	}
	next.Services = maps.Clone(before.Services)
	for _, name := range req.Services {
		if before.Stack.Service(name) == nil {
			return nil, notFound("take down", name, "no such service in stack "+before.Stack.Name)
		}
		st := next.Services[name]
		st.Want, st.Grace, st.RenewVolumes = reconcile.WantAbsent, req.Grace, req.Volumes
		next.Services[name] = st
	}
	return &next, nil
}

// oneOffNumber is the next free number among a service's one-offs, those that
// the engine still holds included.
func oneOffNumber(d *reconcile.Desired, obs *reconcile.Observed, service string) int {
	highest := 0
	for i := range d.OneOffs {
		if d.OneOffs[i].Service == service {
			highest = max(highest, d.OneOffs[i].Number)
		}
	}
	for _, c := range ours(obs, d) {
		if c.id.OneOff && c.id.Service == service && c.Labels[runtime.LabelRelay] == "" {
			highest = max(highest, c.id.Slot)
		}
	}
	return highest + 1
}

// editOneOff returns the wish in which a one-off is edited.
func editOneOff(before *reconcile.Desired, name string, edit func(*reconcile.OneOff)) (*reconcile.Desired, error) {
	next := *before
	next.OneOffs = slices.Clone(before.OneOffs)
	for i := range next.OneOffs {
		if next.OneOffs[i].Name == name {
			edit(&next.OneOffs[i])
			return &next, nil
		}
	}
	return nil, notFound("find", name, "no such one-off container in stack "+before.Stack.Name)
}

// soon is how long a daemon's answer may take that waits for one container.
const soon = 2 * time.Minute
