package daemon

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/reconcile"
	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
)

// declaring is one up being turned into desired state: what was wished before,
// what is asked for, and what the engine holds.
type declaring struct {
	before   *reconcile.Desired // nil: a new stack
	req      *api.UpRequest
	observed *reconcile.Observed
	owner    string
	version  string
	selected map[string]bool // services that are declared; others stay as they were
	named    map[string]bool // those named on the command line, without dependencies
	// stopped tells which services' rollouts have stopped, at now; nil: none has.
	stopped func(service string) bool
	now     time.Time
}

// newDeclaring selects the services of an up: those named with what they depend
// on, or all.
func newDeclaring(before *reconcile.Desired, req *api.UpRequest, obs *reconcile.Observed, owner, version string) *declaring {
	d := &declaring{before: before, req: req, observed: obs, owner: owner, version: version, named: map[string]bool{}}
	for _, name := range req.Services {
		d.named[name] = true
	}
	if len(req.Services) == 0 {
		for i := range req.Stack.Services {
			d.named[req.Stack.Services[i].Name] = true
		}
	}
	d.selected = d.named
	if !req.NoDeps {
		d.selected = withDependencies(req.Stack, d.named)
	}
	return d
}

// missingImages are the images of the selected services that the engine lacks,
// sorted.
func missingImages(req *api.UpRequest, obs *reconcile.Observed) []string {
	missing := map[string]bool{}
	for name := range newDeclaring(nil, req, obs, "", "").selected {
		svc := req.Stack.Service(name)
		for _, need := range append(req.Stack.StepImages(svc), svc) {
			if ref := need.Spec.Image; obs.Images[ref].ID == "" {
				missing[ref] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(missing))
}

// withDependencies returns names and all they depend on, directly or not.
func withDependencies(s *stack.Stack, names map[string]bool) map[string]bool {
	all := map[string]bool{}
	var add func(name string)
	add = func(name string) {
		svc := s.Service(name)
		if svc == nil || all[name] {
			return
		}
		all[name] = true
		for _, dep := range svc.DependsOn {
			add(dep.Service)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		add(name)
	}
	return all
}

// desired is the new wish. The old one is not changed.
func (d *declaring) desired() *reconcile.Desired {
	next := &reconcile.Desired{
		Atomic: d.req.Atomic,
		Stack:  d.stack(), Owner: d.owner, Version: d.version, Services: map[string]reconcile.ServiceState{},
		RemoveOrphans: d.req.RemoveOrphans, Adopt: d.req.Adopt,
	}
	if d.before != nil {
		next.Adopt = next.Adopt || d.before.Adopt
		next.OneOffs = slices.Clone(d.before.OneOffs)
		next.Requests = slices.Clone(d.before.Requests)
		for name, st := range d.before.Services {
			if next.Stack.Service(name) != nil {
				next.Services[name] = st
			}
		}
	}
	for name := range d.selected {
		next.Services[name] = d.state(name)
	}
	next.Requests = append(next.Requests, d.requests(next)...)
	return next
}

// stack is the declared stack, in which services that are not selected stay as
// they were declared before.
func (d *declaring) stack() *stack.Stack {
	merged := *d.req.Stack
	merged.Services = slices.Clone(merged.Services)
	if d.before == nil || d.before.Stack == nil {
		return &merged
	}
	for i := range merged.Services {
		old := d.before.Stack.Service(merged.Services[i].Name)
		if old != nil && !d.selected[old.Name] {
			merged.Services[i] = *old
		}
	}
	return &merged
}

// state is what becomes of a selected service.
func (d *declaring) state(name string) reconcile.ServiceState {
	svc := d.req.Stack.Service(name)
	st := reconcile.ServiceState{
		Want: reconcile.WantRunning, Grace: d.req.Timeout, RenewVolumes: d.req.RenewAnonVolumes,
		KeepRevision: d.req.NoRecreate, ImageID: cmp.Or(d.req.Images[name], d.observed.Images[svc.Spec.Image].ID),
	}
	if d.req.NoStart {
		st.Want = reconcile.WantCreated
	}
	if n, ok := d.req.Scale[name]; ok {
		st.Scale = &n
	}
	if d.before == nil || d.before.Stack == nil {
		return st
	}
	old := d.before.Stack.Service(name)
	if old == nil {
		st.Added = d.req.Atomic
		return st
	}
	was := d.before.Services[name]
	st.ChangedFrom, st.Changed, st.Held, st.Resumed = was.ChangedFrom, was.Changed, was.Held, was.Resumed
	if svc.Autoscale != nil {
		st.Auto, st.AutoHeld = was.Auto, was.AutoHeld
		if was.Scale != nil { // the autoscaler goes on from there
			st.Auto = was.Scale
		}
	}
	if svc.Vertical != nil && svc.Vertical.Mode == stack.Resize {
		st.Size = was.Size
	}
	if old.Revision != svc.Revision {
		st.ChangedFrom, st.Changed = old.Revision, reconcile.Changed(old, svc)
	} else if was.ImageID == st.ImageID {
		st.KeepRevision = st.KeepRevision && was.KeepRevision // nothing has changed: an update that is under way goes on
	}
	if d.stopped != nil && d.stopped(name) {
		st.Resumed = d.now
	}
	if was.ImageRef != "" && svc.ImageUpdate != nil && old.Spec.Image == svc.Spec.Image && d.req.Images[name] == "" {
		st.ImageID, st.ImageRef = was.ImageID, was.ImageRef // found since, and newer than what the file names
	}
	st.Base = base(old, was, svc, st.ImageID)
	return st
}

// base is what a service goes back to when what is declared now fails: the last
// revision that was rolled out as a whole. nil: that is the one declared.
func base(old *stack.Service, was reconcile.ServiceState, svc *stack.Service, image string) *reconcile.Base {
	b := was.Base
	if b == nil && was.Want != reconcile.WantAbsent {
		b = &reconcile.Base{Service: *old, ImageID: was.ImageID}
	}
	if b == nil || b.Service.Revision == svc.Revision && (b.ImageID == image || b.ImageID == "" || image == "") {
		return nil
	}
	return b
}

// requests are the one-time operations an up asks for: recreate what is to be
// recreated by force, start what has ended, restart what depends on it.
func (d *declaring) requests(next *reconcile.Desired) []reconcile.Request {
	var list []reconcile.Request
	replaced := map[string]bool{}
	jobs := reconcile.Jobs(next.Stack)
	for _, c := range ours(d.observed, next) {
		svc := next.Stack.Service(c.id.Service)
		if svc == nil || !d.selected[svc.Name] || c.id.OneOff {
			continue
		}
		switch done := jobs[svc.Name] && c.ExitCode == 0 && c.id.Revision == svc.Revision; {
		case d.forced(svc.Name):
			replaced[svc.Name] = true
			list = append(list, request(runtime.OpRemove, c, "recreation asked for"))
		case c.id.Revision != svc.Revision && !d.req.NoRecreate:
			replaced[svc.Name] = true
		case c.State == runtime.Exited && !done && !d.req.NoStart:
			list = append(list, request(runtime.OpStart, c, "is to run"))
		}
	}
	return append(list, restartsWith(next, d.observed, replaced, d.selected)...)
}

// forced reports whether a service's containers are recreated although nothing
// has changed.
func (d *declaring) forced(service string) bool {
	if d.req.ForceRecreate {
		return d.named[service] || len(d.req.Services) == 0 || d.req.RecreateDeps
	}
	return d.req.RecreateDeps && !d.named[service]
}

// owned is one of our containers with its identity.
type owned struct {
	*runtime.Container
	id runtime.Identity
}

// ours returns the containers of a stack that this installation made.
func ours(obs *reconcile.Observed, d *reconcile.Desired) []owned {
	var list []owned
	for i := range obs.Containers {
		c := &obs.Containers[i]
		if id, err := runtime.ParseIdentity(c.Labels); err == nil && (id.Owner == d.Owner || d.Adopt) {
			list = append(list, owned{Container: c, id: id})
		}
	}
	return list
}

func request(op runtime.Op, c owned, cause string) reconcile.Request {
	return reconcile.Request{Op: op, Container: c.ID, Started: c.Started, Finished: c.Finished, Cause: cause}
}

// restartsWith asks for a restart of the running containers of services that
// depend, with restart: true, on one that is replaced or restarted.
func restartsWith(d *reconcile.Desired, obs *reconcile.Observed, changed, already map[string]bool) []reconcile.Request {
	var list []reconcile.Request
	for _, c := range ours(obs, d) {
		svc := d.Stack.Service(c.id.Service)
		if svc == nil || changed[svc.Name] || !c.State.Alive() || c.id.OneOff {
			continue
		}
		if already[svc.Name] && c.id.Revision != svc.Revision {
			continue // it is replaced itself
		}
		for _, dep := range svc.DependsOn {
			if dep.Restart && changed[dep.Service] {
				list = append(list, request(runtime.OpRestart, c, dep.Service+" is restarted or replaced"))
				break
			}
		}
	}
	return list
}

// fileNames are the contents that a stack's services and one-offs name.
func fileNames(d *reconcile.Desired) []string {
	var names []string
	for i := range d.Stack.Services {
		for _, f := range d.Stack.Services[i].Spec.Files {
			names = append(names, f.Name)
		}
		for j := range d.Stack.Services[i].PreStart {
			for _, f := range d.Stack.Services[i].PreStart[j].Spec.Files {
				names = append(names, f.Name)
			}
		}
	}
	for i := range d.OneOffs {
		for _, f := range d.OneOffs[i].Spec.Files {
			names = append(names, f.Name)
		}
	}
	return names
}

func sortedNames[V any](m map[string]V) []string { return sortedKeys(m) }

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

// summary counts a stack's containers by state: "exited(1), running(3)".
func summary(containers []runtime.Container) string {
	counts := map[string]int{}
	for i := range containers {
		if containers[i].Labels[runtime.LabelRelay] != "" {
			continue
		}
		counts[string(containers[i].State)]++
	}
	var parts []string
	for _, state := range sortedNames(counts) {
		parts = append(parts, state+"("+strconv.Itoa(counts[state])+")")
	}
	return strings.Join(parts, ", ")
}
