package enginetest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-dev/berth/runtime"
)

// Label marks everything the suite makes; its value is the case's own.
const Label = "io.berth.enginetest"

// patience is how long a case waits for something that must come.
const patience = 2 * time.Minute

// Harness connects the suite to an engine.
type Harness struct {
	// Case runs one case with an engine: as it is, or in a bubble of virtual time
	// with an engine of its own. It is called once for each case.
	Case func(t *testing.T, run func(t *testing.T, e Engine))
	// Image is the reference of the test image of internal/testimage, which the
	// engine holds, or of one that behaves the same.
	Image string
	// Prefix begins every name the suite gives.
	Prefix string
	// Parallel runs the cases side by side.
	Parallel bool
	// Stage puts a container into a state to which no call leads. Nil: it cannot.
	Stage func(t *testing.T, e Engine, id string, s runtime.State)
	// NotStaged says for each state that cannot be staged here why not.
	NotStaged map[runtime.State]string
}

// Run runs the whole contract.
func Run(t *testing.T, h Harness) {
	t.Helper()
	runTransitions(t, h)
	for _, group := range []map[string]func(*fixture){lifecycleCases(), observeCases(), streamCases(), imageCases(), objectCases()} {
		for _, name := range slices.Sorted(maps.Keys(group)) {
			t.Run(name, func(t *testing.T) { h.run(t, group[name]) })
		}
	}
}

func (h Harness) run(t *testing.T, f func(*fixture)) {
	t.Helper()
	if h.Parallel {
		t.Parallel()
	}
	h.Case(t, func(t *testing.T, e Engine) {
		t.Helper()
		x := &fixture{T: t, h: h, e: e, id: h.Prefix + random()}
		t.Cleanup(x.cleanUp)
		f(x)
	})
}

func random() string {
	b := make([]byte, 4)
	_, _ = rand.Read(b) // never fails: it crashes the program instead
	return hex.EncodeToString(b)
}

// fixture is one case at work.
type fixture struct {
	*testing.T
	h  Harness
	e  Engine
	id string // begins every name of this case and is the value of its label
	n  int
}

// name returns a name nobody else has.
func (x *fixture) name() string {
	x.n++
	return x.id + "-" + "abcdefghijklmnopqrstuvwxyz"[x.n-1:x.n]
}

func (x *fixture) labels() map[string]string { return map[string]string{Label: x.id} }

func (x *fixture) filter() runtime.Filter { return runtime.Filter{Labels: x.labels()} }

// cleanUp removes everything that carries the case's label.
func (x *fixture) cleanUp() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(x.Context()), patience)
	defer cancel()
	containers, err := x.e.List(ctx, x.filter())
	if err != nil {
		x.Errorf("clean up: %v", err)
		return
	}
	if x.Failed() {
		x.describe(ctx, containers)
	}
	var errs []error
	for _, c := range containers {
		errs = append(errs, x.e.Remove(ctx, c.ID, true, true))
	}
	networks, err := x.e.ListNetworks(ctx, x.filter())
	errs = append(errs, err)
	for _, n := range networks {
		errs = append(errs, x.e.RemoveNetwork(ctx, n.ID))
	}
	volumes, err := x.e.ListVolumes(ctx, x.filter())
	errs = append(errs, err)
	for _, v := range volumes {
		errs = append(errs, x.e.RemoveVolume(ctx, v.Name))
	}
	for _, err := range errs {
		if err != nil && !runtime.IsNotFound(err) {
			x.Errorf("clean up: %v", err)
		}
	}
}

// describe leaves behind what a failed case looked like.
func (x *fixture) describe(ctx context.Context, containers []runtime.Container) {
	for _, c := range containers {
		full, err := x.e.Inspect(ctx, c.ID)
		var out bytes.Buffer
		_ = x.e.Logs(ctx, c.ID, runtime.LogOptions{Tail: 50, Stdout: true, Stderr: true}, &out, &out) // best effort
		x.Logf("container %+v\n%v\noutput:\n%s", full, err, out.String())
	}
}

// spec is a container of the test image without a network, which makes it quick to start.
func (x *fixture) spec(args ...string) *runtime.Spec {
	return &runtime.Spec{Image: x.h.Image, Command: args, NetworkMode: "none"}
}

func (x *fixture) create(spec *runtime.Spec) string {
	x.Helper()
	id, err := x.e.Create(x.Context(), x.name(), x.labels(), spec, nil)
	x.ok(err)
	return id
}

func (x *fixture) start(spec *runtime.Spec) string {
	x.Helper()
	id := x.create(spec)
	x.ok(x.e.Start(x.Context(), id))
	return id
}

// run starts a container and waits for its end.
func (x *fixture) runToEnd(spec *runtime.Spec) string {
	x.Helper()
	id := x.start(spec)
	x.wait(id)
	return id
}

func (x *fixture) wait(id string) runtime.ExitStatus {
	x.Helper()
	ctx, cancel := context.WithTimeout(x.Context(), patience)
	defer cancel()
	status, err := x.e.Wait(ctx, id)
	x.ok(err)
	return status
}

func (x *fixture) inspect(id string) runtime.Container {
	x.Helper()
	c, err := x.e.Inspect(x.Context(), id)
	x.ok(err)
	return c
}

func (x *fixture) output(id string) (stdout, stderr string) {
	x.Helper()
	var out, errOut bytes.Buffer
	x.ok(x.e.Logs(x.Context(), id, runtime.LogOptions{Tail: -1, Stdout: true, Stderr: true}, &out, &errOut))
	return out.String(), errOut.String()
}

// exec runs a behaviour of the test image in a running container.
func (x *fixture) exec(id string, args ...string) (code int, stdout, stderr string) {
	x.Helper()
	return x.execWith(id, runtime.ExecSpec{Command: append([]string{"/workload"}, args...)}, "")
}

func (x *fixture) execWith(id string, spec runtime.ExecSpec, stdin string) (code int, stdout, stderr string) {
	x.Helper()
	var out, errOut bytes.Buffer
	streams := runtime.Streams{Out: &out, Err: &errOut}
	if stdin != "" {
		streams.In = strings.NewReader(stdin)
	}
	ctx, cancel := context.WithTimeout(x.Context(), patience)
	defer cancel()
	code, err := x.e.Exec(ctx, id, spec, streams)
	x.ok(err)
	return code, out.String(), errOut.String()
}

func (x *fixture) ok(err error) {
	x.Helper()
	if err != nil {
		x.Fatal(err)
	}
}

// refused checks that err is of that kind and says on which object it failed.
func (x *fixture) refused(err error, kind runtime.Kind) {
	x.Helper()
	var e *runtime.Error
	switch {
	case err == nil:
		x.Fatalf("no error, want one of kind %q", kind)
	case !errors.As(err, &e):
		x.Fatalf("%T is not a *runtime.Error: %v", err, err)
	case e.Kind != kind:
		x.Fatalf("error of kind %q, want %q: %v", e.Kind, kind, err)
	case e.Op == "" || e.Err == nil:
		x.Fatalf("the error does not say what failed and why: %#v", e)
	}
}

func equal[T comparable](x *fixture, what string, got, want T) {
	x.Helper()
	if got != want {
		x.Fatalf("%s: got %v, want %v", what, got, want)
	}
}

func equalList[T comparable](x *fixture, what string, got, want []T) {
	x.Helper()
	if !slices.Equal(got, want) {
		x.Fatalf("%s: got %v, want %v", what, got, want)
	}
}

// eventually waits until cond holds of the container.
func (x *fixture) eventually(id, what string, cond func(runtime.Container) bool) runtime.Container {
	x.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		c := x.inspect(id)
		if cond(c) {
			return c
		}
		if time.Now().After(deadline) {
			x.Fatalf("container did not become %s: %+v", what, c)
		}
	}
}

func (x *fixture) becomes(id string, s runtime.State) runtime.Container {
	x.Helper()
	return x.eventually(id, string(s), func(c runtime.Container) bool { return c.State == s })
}
