package reconcile

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/berth-dev/berth/runtime"
)

// scripted answers every call with one error and records the call's name.
type scripted struct {
	Writer
	err      error
	holder   runtime.Container
	calls    []string
	contents map[string][]byte
}

func (s *scripted) call(name string) error {
	s.calls = append(s.calls, name)
	return s.err
}

func (s *scripted) Create(_ context.Context, _ string, _ map[string]string, _ *runtime.Spec, contents map[string][]byte) (string, error) {
	s.contents = contents
	return "new", s.call("create")
}

func (s *scripted) Inspect(context.Context, string) (runtime.Container, error) {
	if s.holder.ID == "" {
		return runtime.Container{}, notFound("ghost")
	}
	return s.holder, nil
}

func (s *scripted) Stop(context.Context, string, string, time.Duration) error { return s.call("stop") }
func (s *scripted) Kill(context.Context, string, string) error                { return s.call("kill") }
func (s *scripted) Remove(context.Context, string, bool, bool) error          { return s.call("remove") }
func (s *scripted) Start(context.Context, string) error                       { return s.call("start") }
func (s *scripted) RemoveNetwork(context.Context, string) error               { return s.call("remove network") }
func (s *scripted) RemoveVolume(context.Context, string) error                { return s.call("remove volume") }

func conflict(object string) error {
	return &runtime.Error{Kind: runtime.KindConflict, Op: "create", Object: object, Err: errors.New("name in use")}
}

func TestWhatIsDoneAlreadyIsASuccess(t *testing.T) {
	for op, err := range map[Op]error{
		OpStop: notFound("x"), OpKill: conflict("x"), OpRemove: notFound("x"), OpNetRemove: notFound("x"), OpVolRemove: notFound("x"),
	} {
		x := Executor{Engine: &scripted{err: err}}
		if _, got := x.Execute(t.Context(), "shop", Step{Op: op, Container: "x"}); got != nil {
			t.Errorf("%s: %v", op, got)
		}
	}
	x := Executor{Engine: &scripted{err: notFound("x")}}
	if _, err := x.Execute(t.Context(), "shop", Step{Op: OpStart, Container: "x"}); !runtime.IsNotFound(err) {
		t.Errorf("starting what is gone: %v", err)
	}
	if _, err := x.Execute(t.Context(), "shop", Step{Op: "dance"}); !runtime.IsInvalid(err) {
		t.Errorf("an unknown operation: %v", err)
	}
}

func TestCreateAdoptsItsOwn(t *testing.T) {
	id := runtime.Identity{Owner: owner, Stack: "shop", Service: "web", Slot: 1, Revision: "r1"}
	other := id
	other.Owner = "someone-else"
	older := id
	older.Revision = "r0"
	step := Step{Op: OpCreate, Name: "shop-web-1", Labels: id.Labels(), Spec: &runtime.Spec{}}
	cases := []struct {
		name   string
		holder runtime.Container
		kind   runtime.Kind
		says   string
	}{
		{"the same replica", runtime.Container{ID: "have", Labels: id.Labels()}, "", ""},
		{"another revision of ours", runtime.Container{ID: "have", Labels: older.Labels()}, runtime.KindConflict, "name in use"},
		{"another owner's", runtime.Container{ID: "have", Labels: other.Labels()}, runtime.KindInvalid, "did not create"},
		{"a stranger", runtime.Container{ID: "have"}, runtime.KindInvalid, "did not create"},
		{"a ghost", runtime.Container{}, runtime.KindConflict, "name in use"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			x := Executor{Engine: &scripted{err: conflict("shop-web-1"), holder: tc.holder}}
			res, err := x.Execute(t.Context(), "shop", step)
			if runtime.KindOf(err) != tc.kind {
				t.Fatalf("err = %v, want kind %q", err, tc.kind)
			}
			if err == nil && (res.Container != "have" || !res.Adopted) {
				t.Errorf("result = %+v", res)
			}
			if err != nil && !strings.Contains(err.Error(), tc.says) {
				t.Errorf("err = %v, want it to say %q", err, tc.says)
			}
		})
	}
}

func TestContentsReachTheEngineAndOnlyIt(t *testing.T) {
	eng := &scripted{}
	x := Executor{Engine: eng, Contents: func(stack, name string) ([]byte, error) {
		if name == "gone" {
			return nil, errors.New("secret gone: its value is gone; run up again")
		}
		return []byte(stack + "/" + name), nil
	}}
	spec := &runtime.Spec{Files: []runtime.File{{Name: "token", Target: "/run/secrets/token"}}}
	if _, err := x.Execute(t.Context(), "shop", Step{Op: OpCreate, Spec: spec}); err != nil {
		t.Fatal(err)
	}
	if string(eng.contents["token"]) != "shop/token" {
		t.Errorf("contents = %q", eng.contents)
	}
	spec.Files[0].Name = "gone"
	if _, err := x.Execute(t.Context(), "shop", Step{Op: OpCreate, Name: "shop-web-1", Spec: spec}); !runtime.IsUnavailable(err) || len(eng.calls) != 1 {
		t.Errorf("err = %v, calls %v; want no creation without the secret", err, eng.calls)
	}
}
