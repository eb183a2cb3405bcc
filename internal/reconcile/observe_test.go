package reconcile

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/runtime"
)

// shelf is a reader over a fixed set of objects that records how it was asked.
type shelf struct {
	containers map[string]runtime.Container
	images     map[string]string
	silent     map[string]error // by ID: what inspecting it answers
	down       error

	mu    sync.Mutex // protects asked
	asked []string
}

func (s *shelf) ask(question string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, question)
}

func (s *shelf) Inspect(_ context.Context, id string) (runtime.Container, error) {
	s.ask("inspect " + id)
	if err := cmpOr(s.down, s.silent[id]); err != nil {
		return runtime.Container{}, err
	}
	c, ok := s.containers[id]
	if !ok {
		return c, notFound(id)
	}
	return c, nil
}

func cmpOr(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func notFound(object string) error {
	return &runtime.Error{Kind: runtime.KindNotFound, Op: "inspect", Object: object}
}

func (s *shelf) List(context.Context, runtime.Filter) ([]runtime.Container, error) {
	s.ask("list")
	var list []runtime.Container
	for _, id := range slices.Sorted(maps.Keys(s.containers)) {
		c := s.containers[id]
		c.Limits = runtime.Limits{} // a list is shallow
		list = append(list, c)
	}
	return list, s.down
}

func (s *shelf) Image(_ context.Context, ref string) (runtime.Image, error) {
	s.ask("image " + ref)
	if id, ok := s.images[ref]; ok {
		return runtime.Image{ID: id}, nil
	}
	return runtime.Image{}, notFound(ref)
}

func (s *shelf) Network(_ context.Context, name string) (runtime.Network, error) {
	return runtime.Network{}, notFound(name)
}

func (s *shelf) ListNetworks(context.Context, runtime.Filter) ([]runtime.Network, error) {
	return []runtime.Network{{ID: "n", Name: "shop_default"}}, s.down
}

func (s *shelf) Volume(_ context.Context, name string) (runtime.Volume, error) {
	return runtime.Volume{}, notFound(name)
}

func (s *shelf) ListVolumes(context.Context, runtime.Filter) ([]runtime.Volume, error) {
	return nil, s.down
}

func (s *shelf) put(id string, state runtime.State) {
	s.containers[id] = runtime.Container{
		ID: id, Name: "shop-" + id, State: state, Limits: runtime.Limits{Memory: 1},
		Labels: map[string]string{runtime.LabelComposeProject: "shop"},
	}
}

// questions returns what was asked since the last call.
func (s *shelf) questions() []string {
	q := slices.Sorted(slices.Values(s.asked))
	s.asked = nil
	return q
}

func observing(t *testing.T) (*shelf, func() *Observed, *Observer) {
	t.Helper()
	s := &shelf{containers: map[string]runtime.Container{}, images: map[string]string{"web:1": "sha256:web"}, silent: map[string]error{}}
	s.put("a", runtime.Running)
	s.put("b", runtime.Created)
	o := NewObserver(s, "shop")
	d := shop(svc("web", 1)).d
	now := t0
	look := func() *Observed {
		t.Helper()
		now = now.Add(time.Second)
		got, err := o.Observe(t.Context(), &d, now)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	return s, look, o
}

func states(o *Observed) map[string]runtime.State {
	m := map[string]runtime.State{}
	for _, c := range o.Containers {
		m[c.ID] = c.State
	}
	return m
}

func TestObserveAsksOnlyWhatWasMarked(t *testing.T) {
	s, look, o := observing(t)
	first := look()
	if diff := cmp.Diff(map[string]runtime.State{"a": runtime.Running, "b": runtime.Created}, states(first)); diff != "" {
		t.Fatal(diff)
	}
	if first.Containers[0].Limits.Memory != 1 || first.Images["web:1"].ID != "sha256:web" || first.Networks["shop_default"].ID != "n" {
		t.Errorf("first look = %+v; want inspected containers, the image and the network", first)
	}
	if diff := cmp.Diff([]string{"image web:1", "inspect a", "inspect b", "list"}, s.questions()); diff != "" {
		t.Errorf("first look asked (-want +got):\n%s", diff)
	}
	look()
	if q := s.questions(); len(q) != 0 {
		t.Errorf("an unmarked look asked %v", q)
	}
	s.put("b", runtime.Running)
	o.Mark("b")
	if got := states(look())["b"]; got != runtime.Running {
		t.Errorf("b = %s", got)
	}
	if diff := cmp.Diff([]string{"inspect b"}, s.questions()); diff != "" {
		t.Errorf("a marked look asked (-want +got):\n%s", diff)
	}
	delete(s.containers, "a")
	s.put("c", runtime.Running)
	o.MarkAll()
	if diff := cmp.Diff(map[string]runtime.State{"b": runtime.Running, "c": runtime.Running}, states(look())); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"image web:1", "inspect c", "list"}, s.questions()); diff != "" {
		t.Errorf("a list inspects only what changed (-want +got):\n%s", diff)
	}
}

func TestObserveEvents(t *testing.T) {
	s, look, o := observing(t)
	look()
	s.questions()
	for _, ev := range []runtime.Event{
		{Type: "container", Action: "exec_start: ls", ID: "a"},
		{Type: "container", Action: "top", ID: "a"},
		{Type: "network", Action: "connect", ID: "n"},
	} {
		if o.Event(ev) {
			t.Errorf("event %v woke the loop", ev)
		}
	}
	delete(s.containers, "b")
	if !o.Event(runtime.Event{Type: "container", Action: "die", ID: "a"}) || !o.Event(runtime.Event{Type: "container", Action: "destroy", ID: "b"}) {
		t.Error("a death did not wake the loop")
	}
	if got := states(look()); len(got) != 1 {
		t.Errorf("states = %v, want b gone", got)
	}
	if diff := cmp.Diff([]string{"inspect a"}, s.questions()); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
	o.Event(runtime.Event{Type: "resync"})
	look()
	if diff := cmp.Diff([]string{"image web:1", "inspect a", "list"}, s.questions()); diff != "" {
		t.Errorf("a resync asks everything (-want +got):\n%s", diff)
	}
}

func TestObserveKeepsGoingAroundAContainerThatDoesNotAnswer(t *testing.T) {
	s, look, o := observing(t)
	look()
	s.silent["a"] = errors.New("timed out")
	o.Mark("a")
	got := look()
	if got.Unknown["a"] != "timed out" || states(got)["a"] != runtime.Running {
		t.Errorf("unknown = %v, states %v; want the last record kept", got.Unknown, states(got))
	}
	if o.NextLook().IsZero() {
		t.Error("nobody looks again")
	}
	s.questions()
	delete(s.silent, "a")
	for range 3 { // a second later at the earliest
		got = look()
	}
	if len(got.Unknown) != 0 || !o.NextLook().IsZero() {
		t.Errorf("still unknown: %v", got.Unknown)
	}
	if diff := cmp.Diff([]string{"inspect a"}, s.questions()); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
}

func TestObserveForgetsNothingWhileTheEngineIsDown(t *testing.T) {
	s, look, o := observing(t)
	look()
	s.questions()
	s.down = errors.New("connection refused")
	o.MarkAll()
	if _, err := o.Observe(t.Context(), &Desired{}, t0); err == nil {
		t.Fatal("an engine that is down was observed")
	}
	s.down = nil
	s.questions()
	if got := states(look()); len(got) != 2 {
		t.Errorf("after the engine came back: %v", got)
	}
	if !slices.Contains(s.questions(), "list") {
		t.Error("what was marked before the failure was forgotten")
	}
}

func TestDoneTakesOverWhatAStepLedTo(t *testing.T) {
	s, look, o := observing(t)
	look()
	s.questions()
	delete(s.containers, "a")
	o.Done(Step{Op: OpRemove}, Result{Container: "a"}, nil)
	o.Done(Step{Op: OpStart}, Result{Container: "b"}, nil)
	if got := states(look()); len(got) != 1 {
		t.Errorf("states = %v", got)
	}
	if diff := cmp.Diff([]string{"inspect b"}, s.questions()); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
	o.Done(Step{Op: OpCreate}, Result{}, errors.New("connection reset"))
	look()
	if !slices.Contains(s.questions(), "list") {
		t.Error("a failed step's outcome was not looked up")
	}
}
