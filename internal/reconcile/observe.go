package reconcile

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/berth-dev/berth/runtime"
)

// Reader is what the observer needs of an engine: the calls that only look.
type Reader interface {
	Inspect(ctx context.Context, id string) (runtime.Container, error)
	List(ctx context.Context, filter runtime.Filter) ([]runtime.Container, error)
	Image(ctx context.Context, ref string) (runtime.Image, error)
	Network(ctx context.Context, name string) (runtime.Network, error)
	ListNetworks(ctx context.Context, filter runtime.Filter) ([]runtime.Network, error)
	Volume(ctx context.Context, name string) (runtime.Volume, error)
	ListVolumes(ctx context.Context, filter runtime.Filter) ([]runtime.Volume, error)
}

// Engine is all that the loop needs of an engine.
type Engine interface {
	Reader
	Writer
}

// inspections is how many containers are looked at side by side.
const inspections = 4

// Observer keeps what an engine holds of one stack, and looks again only at
// what was marked. Its methods may be called from several goroutines; Observe
// from one at a time.
type Observer struct {
	engine Reader
	stack  string

	mu         sync.Mutex // protects the marks
	relist     bool       // list containers, networks and volumes again
	reinspect  bool       // and trust no record of a container
	images     bool       // look up images again
	containers map[string]bool
	removed    map[string]bool // known to be gone without asking

	// Only Observe touches these.
	known  map[string]runtime.Container
	state  Observed
	stuck  map[string]stuck
	cached map[string]ImageState
}

// stuck remembers a container whose inspection failed, and when to try again.
type stuck struct {
	why   string
	tries int
	until time.Time
}

// NewObserver returns an observer that knows nothing yet.
func NewObserver(engine Reader, stack string) *Observer {
	return &Observer{
		engine: engine, stack: stack, relist: true, reinspect: true, images: true,
		containers: map[string]bool{}, removed: map[string]bool{}, known: map[string]runtime.Container{}, stuck: map[string]stuck{},
		cached: map[string]ImageState{},
	}
}

// Mark has one container inspected at the next look.
func (o *Observer) Mark(id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.containers[id] = true
}

// MarkAll has everything listed at the next look, and those containers
// inspected that the list shows to have changed.
func (o *Observer) MarkAll() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.relist, o.images = true, true
}

// Distrust has everything listed and inspected at the next look: events may
// have been lost.
func (o *Observer) Distrust() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.relist, o.reinspect, o.images = true, true, true
}

// quiet are the actions of events that change nothing the planner looks at.
var quiet = []string{"exec_", "attach", "resize", "top", "archive-path", "extract-to-dir", "export", "commit", "copy", "detach", "mount", "unmount"}

// Event marks what an engine's event is about, and reports whether the stack
// should be planned again.
func (o *Observer) Event(ev runtime.Event) bool {
	if slices.ContainsFunc(quiet, func(q string) bool { return strings.HasPrefix(ev.Action, q) }) {
		return false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	switch ev.Type {
	case "container":
		if ev.Action == "destroy" {
			o.removed[ev.ID] = true
		} else {
			o.containers[ev.ID] = true
		}
	case "image":
		o.images = true
	case "network", "volume":
		if ev.Action == "connect" || ev.Action == "disconnect" {
			return false // the container's own events tell
		}
		o.relist = true
	default:
		o.relist, o.reinspect, o.images = true, true, true
	}
	return true
}

// Observe looks at what was marked and returns what the engine holds now. The
// result is the caller's to read until the next call. A container about which
// the engine does not answer keeps its last record and is listed in Unknown; an
// engine that does not answer at all is an error.
func (o *Observer) Observe(ctx context.Context, d *Desired, now time.Time) (*Observed, error) {
	o.mu.Lock()
	relist, reinspect, images := o.relist, o.reinspect, o.images
	marked := o.containers
	for id := range o.removed {
		o.forget(id)
		delete(marked, id)
	}
	o.relist, o.reinspect, o.images, o.containers = false, false, false, map[string]bool{}
	clear(o.removed)
	o.mu.Unlock()

	if err := o.look(ctx, d, now, relist, reinspect, images, marked); err != nil {
		o.mu.Lock() // nothing was learned: what was marked still is
		o.relist, o.reinspect, o.images = true, o.reinspect || reinspect, o.images || images
		maps.Copy(o.containers, marked)
		o.mu.Unlock()
		return nil, err
	}
	return o.result(), nil
}

// look asks the engine for what was marked. Lists and images have nothing to do
// with each other and are asked for side by side; containers are inspected once
// the list has told which.
func (o *Observer) look(ctx context.Context, d *Desired, now time.Time, relist, reinspect, images bool, marked map[string]bool) error {
	asks := []func() error{func() error { return o.lookUpImages(ctx, d, images) }}
	var changed map[string]bool
	if relist {
		asks = append(asks,
			func() (err error) { changed, err = o.list(ctx, reinspect); return err },
			func() error { return o.lookUpNetworks(ctx, d) },
			func() error { return o.lookUpVolumes(ctx, d) })
	}
	err := sideBySide(len(asks), len(asks), func(i int) error { return asks[i]() })
	maps.Copy(marked, changed) // whatever became of the others: the list counts as read
	if err != nil {
		return err
	}
	for id, s := range o.stuck {
		if !now.Before(s.until) {
			marked[id] = true
		}
	}
	if err := o.inspect(ctx, marked, now); err != nil || !o.tagMoved(marked) {
		return err
	}
	return o.lookUpImages(ctx, d, true)
}

// tagMoved reports whether a container that was just made runs another image than
// its reference was known to mean: the tag has moved, and no event has told of it
// yet. Whoever went on by the old meaning would make one after the other.
func (o *Observer) tagMoved(ids map[string]bool) bool {
	for id := range ids {
		c, ok := o.known[id]
		means := o.cached[c.Image].ID
		if ok && c.State == runtime.Created && c.Started.IsZero() && means != "" && c.ImageID != "" && c.ImageID != means {
			return true
		}
	}
	return false
}

// list reads all containers of the stack and returns those to be inspected.
func (o *Observer) list(ctx context.Context, all bool) (map[string]bool, error) {
	list, err := o.engine.List(ctx, runtime.Filter{Labels: map[string]string{runtime.LabelComposeProject: o.stack}})
	if err != nil {
		return nil, err
	}
	changed := map[string]bool{}
	present := make(map[string]bool, len(list))
	for i := range list {
		c := &list[i]
		present[c.ID] = true
		old, known := o.known[c.ID]
		if all || !known || old.State != c.State || old.Health != c.Health || old.Name != c.Name {
			changed[c.ID] = true
		}
		if !known {
			o.known[c.ID] = *c
		}
	}
	for id := range o.known {
		if !present[id] {
			o.forget(id)
		}
	}
	return changed, nil
}

func (o *Observer) forget(id string) {
	delete(o.known, id)
	delete(o.stuck, id)
}

// inspect looks at containers one by one, a few side by side.
func (o *Observer) inspect(ctx context.Context, ids map[string]bool, now time.Time) error {
	type answer struct {
		c   runtime.Container
		err error
	}
	order := sortedKeys(ids)
	answers := make([]answer, len(order))
	_ = sideBySide(len(order), inspections, func(i int) error { // the answers carry the errors
		answers[i].c, answers[i].err = o.engine.Inspect(ctx, order[i])
		return nil
	})
	unanswered := 0
	var last error
	for i, id := range order {
		switch a := answers[i]; {
		case a.err == nil && a.c.Labels[runtime.LabelComposeProject] == o.stack:
			o.known[id] = a.c
			delete(o.stuck, id)
		case a.err == nil || runtime.IsNotFound(a.err):
			o.forget(id)
		default:
			unanswered, last = unanswered+1, a.err
			o.stick(id, a.err, now)
		}
	}
	if unanswered > 0 && unanswered == len(order) && (len(order) > 1 || ctx.Err() != nil) {
		return last // not one container: the engine
	}
	return nil
}

// stick keeps a container's last record and sets when to look again: 1 s
// doubled to a minute.
func (o *Observer) stick(id string, err error, now time.Time) {
	s := o.stuck[id]
	s.why = err.Error()
	s.until = now.Add(min(time.Second<<min(s.tries, 6), time.Minute))
	s.tries++
	o.stuck[id] = s
}

// NextLook is when the observer wants to be asked again by itself; zero: only
// when something was marked.
func (o *Observer) NextLook() time.Time {
	var at time.Time
	for _, s := range o.stuck {
		if at.IsZero() || s.until.Before(at) {
			at = s.until
		}
	}
	return at
}

// lookUpNetworks reads the networks with the stack's label, and those the stack names.
func (o *Observer) lookUpNetworks(ctx context.Context, d *Desired) error {
	list, err := o.engine.ListNetworks(ctx, runtime.Filter{Labels: map[string]string{runtime.LabelComposeProject: o.stack}})
	if err != nil {
		return err
	}
	networks := make(map[string]runtime.Network, len(list))
	for i := range list {
		networks[list[i].Name] = list[i]
	}
	if d.Stack != nil {
		for i := range d.Stack.Networks {
			name := d.Stack.Networks[i].Spec.Name
			if _, ok := networks[name]; ok {
				continue
			}
			n, err := o.engine.Network(ctx, name)
			if err == nil && n.Name == name {
				networks[name] = n
			} else if err != nil && !runtime.IsNotFound(err) {
				return err
			}
		}
	}
	o.state.Networks = networks
	return nil
}

// lookUpVolumes reads the volumes with the stack's label, and those the stack names.
func (o *Observer) lookUpVolumes(ctx context.Context, d *Desired) error {
	list, err := o.engine.ListVolumes(ctx, runtime.Filter{Labels: map[string]string{runtime.LabelComposeProject: o.stack}})
	if err != nil {
		return err
	}
	volumes := make(map[string]runtime.Volume, len(list))
	for i := range list {
		volumes[list[i].Name] = list[i]
	}
	if d.Stack != nil {
		for i := range d.Stack.Volumes {
			name := d.Stack.Volumes[i].Spec.Name
			if _, ok := volumes[name]; ok {
				continue
			}
			vol, err := o.engine.Volume(ctx, name)
			if err == nil {
				volumes[name] = vol
			} else if !runtime.IsNotFound(err) {
				return err
			}
		}
	}
	o.state.Volumes = volumes
	return nil
}

// lookUpImages learns what the stack's image references mean.
func (o *Observer) lookUpImages(ctx context.Context, d *Desired, again bool) error {
	if again {
		clear(o.cached)
	}
	refs := slices.DeleteFunc(imageRefs(d), func(ref string) bool {
		_, known := o.cached[ref]
		return known
	})
	found := make([]*ImageState, len(refs))
	err := sideBySide(len(refs), inspections, func(i int) error {
		img, err := o.engine.Image(ctx, refs[i])
		switch {
		case err == nil:
			found[i] = &ImageState{ID: img.ID, Volumes: img.Volumes, HasCheck: img.HasCheck}
		case runtime.IsNotFound(err) || runtime.IsInvalid(err):
			found[i] = &ImageState{}
		default:
			return err
		}
		return nil
	})
	for i, state := range found {
		if state != nil {
			o.cached[refs[i]] = *state
		}
	}
	return err
}

// Missing reports whether a stack names an image, network or volume that was
// not looked at when o was observed.
func Missing(d *Desired, o *Observed) bool {
	for _, ref := range imageRefs(d) {
		if _, ok := o.Images[ref]; !ok {
			return true
		}
	}
	for i := range d.Stack.Networks {
		if _, ok := o.Networks[d.Stack.Networks[i].Spec.Name]; !ok {
			return true
		}
	}
	for i := range d.Stack.Volumes {
		if _, ok := o.Volumes[d.Stack.Volumes[i].Spec.Name]; !ok {
			return true
		}
	}
	return false
}

// imageRefs are the references and pinned IDs of a stack's images, sorted.
func imageRefs(d *Desired) []string {
	refs := map[string]bool{}
	if d.Stack != nil {
		for i := range d.Stack.Services {
			refs[d.Stack.Services[i].Spec.Image] = true
			for j := range d.Stack.Services[i].PreStart {
				refs[d.Stack.Services[i].PreStart[j].Spec.Image] = true
			}
		}
	}
	for _, st := range d.Services {
		if st.ImageID != "" {
			refs[st.ImageID] = true
		}
		if st.Base != nil {
			refs[st.Base.Service.Spec.Image] = true
			if st.Base.ImageID != "" {
				refs[st.Base.ImageID] = true
			}
		}
	}
	return sortedKeys(refs)
}

func (o *Observer) result() *Observed {
	list := make([]runtime.Container, 0, len(o.known))
	for _, c := range o.known {
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b runtime.Container) int { return strings.Compare(a.Name, b.Name) })
	var unknown map[string]string
	for id, s := range o.stuck {
		if unknown == nil {
			unknown = map[string]string{}
		}
		unknown[id] = s.why
	}
	return &Observed{
		Containers: list, Networks: o.state.Networks, Volumes: o.state.Volumes,
		Images: maps.Clone(o.cached), Unknown: unknown,
	}
}

// Done takes over what a step of ours has led to, so that the next plan need
// not wait for the engine to be asked.
func (o *Observer) Done(s Step, res Result, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch s.Op {
	case OpNetCreate, OpNetRemove, OpVolCreate, OpVolRemove:
		o.relist = true
	case OpPull, OpBuild:
		o.images = true
	case OpRemove:
		if err == nil {
			o.removed[res.Container] = true
		} else {
			o.containers[res.Container] = true
		}
	default:
		if res.Container != "" {
			o.containers[res.Container] = true
		}
		if s.Op == OpCreate && s.Spec != nil && s.Spec.ReadOnly && len(s.Spec.Files) > 0 {
			o.relist = true // the engine has made volumes for them
		}
	}
	if err != nil {
		o.relist = true // the outcome may be another than it seems
	}
}

// Done edits the desired state after a step has succeeded: a signal that was
// sent is not sent again, and a one-off remembers that it was created. It
// reports whether anything changed, so that it is stored.
func (d *Desired) Done(s Step, res Result) bool {
	switch s.Op { //nolint:exhaustive // the other steps leave no trace
	case OpKill:
		n := len(d.Requests)
		d.Requests = slices.DeleteFunc(d.Requests, func(r Request) bool {
			return r.Op == runtime.OpKill && r.Container == s.Container
		})
		return len(d.Requests) != n
	case OpCreate:
		for i := range d.OneOffs {
			if one := &d.OneOffs[i]; oneOffKey(one.Service, one.Number) == s.Key && one.Container != res.Container {
				one.Container = res.Container
				return true
			}
		}
	}
	return false
}

// Forget drops the requests and one-offs that a plan found to be done with. It
// reports whether anything changed.
func (d *Desired) Forget(p *Plan) bool {
	d.Requests = deleteIndexes(d.Requests, p.Satisfied)
	d.OneOffs = deleteIndexes(d.OneOffs, p.DoneOneOffs)
	return len(p.Satisfied)+len(p.DoneOneOffs) > 0
}

func deleteIndexes[T any](list []T, indexes []int) []T {
	if len(indexes) == 0 {
		return list
	}
	kept := make([]T, 0, len(list))
	for i := range list {
		if !slices.Contains(indexes, i) {
			kept = append(kept, list[i])
		}
	}
	return kept
}
