package cgroup

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/berth-dev/berth/runtime"
)

// fakeEngine runs helpers that say what the test wants.
type fakeEngine struct {
	images  map[string]runtime.Image
	specs   map[string]*runtime.Spec
	imports int
	removed []string

	say   func(request) (string, int) // of a helper: its output and exit code
	fail  map[string]error            // by call
	there []runtime.Container
}

func (f *fakeEngine) List(context.Context, runtime.Filter) ([]runtime.Container, error) {
	return f.there, f.fail["list"]
}

func (f *fakeEngine) Image(_ context.Context, ref string) (runtime.Image, error) {
	if img, ok := f.images[ref]; ok {
		return img, nil
	}
	return runtime.Image{}, &runtime.Error{Kind: runtime.KindNotFound, Op: "inspect image", Object: ref}
}

func (f *fakeEngine) Import(_ context.Context, tag string, labels map[string]string, archive io.Reader) (string, error) {
	if err := f.fail["import"]; err != nil {
		return "", err
	}
	r := tar.NewReader(archive)
	h, err := r.Next()
	if err != nil || h.Name != "berth" || h.Mode != 0o755 {
		return "", fmt.Errorf("the archive holds %+v, %w", h, err)
	}
	if n, err := io.Copy(io.Discard, r); err != nil || n != h.Size {
		return "", fmt.Errorf("the program has %d bytes of %d: %w", n, h.Size, err)
	}
	f.imports++
	id := fmt.Sprintf("sha256:%d", f.imports)
	if f.images == nil {
		f.images = map[string]runtime.Image{}
	}
	f.images[tag] = runtime.Image{ID: id, Labels: labels}
	return id, nil
}

func (f *fakeEngine) RemoveImage(_ context.Context, ref string, _ bool) error {
	f.removed = append(f.removed, ref)
	return nil
}

func (f *fakeEngine) Create(_ context.Context, name string, labels map[string]string, spec *runtime.Spec, _ map[string][]byte) (string, error) {
	if labels[runtime.LabelHelper] != "true" || labels[runtime.LabelOwner] != testOwner {
		return "", fmt.Errorf("%s is labelled %v", name, labels)
	}
	if f.specs == nil {
		f.specs = map[string]*runtime.Spec{}
	}
	f.specs[name] = spec
	return name, f.fail["create"]
}

func (f *fakeEngine) Start(context.Context, string) error { return f.fail["start"] }

func (f *fakeEngine) Wait(_ context.Context, id string) (runtime.ExitStatus, error) {
	_, code := f.say(f.asked(id))
	return runtime.ExitStatus{Code: code}, f.fail["wait"]
}

func (f *fakeEngine) Logs(_ context.Context, id string, _ runtime.LogOptions, stdout, stderr io.Writer) error {
	text, code := f.say(f.asked(id))
	if code != 0 {
		stdout = stderr
	}
	_, err := io.WriteString(stdout, text)
	return err
}

func (f *fakeEngine) Remove(_ context.Context, id string, _, _ bool) error {
	f.removed = append(f.removed, id)
	delete(f.specs, id)
	return nil
}

func (f *fakeEngine) asked(id string) request {
	var req request
	if err := json.Unmarshal([]byte(f.specs[id].Command[1]), &req); err != nil {
		panic(err)
	}
	return req
}

// remote is an engine whose cgroups are not to be seen here.
func remote(f *fakeEngine, program string) Config {
	return Config{Owner: testOwner, Info: runtime.EngineInfo{CgroupDriver: DriverCgroupfs, Host: "tcp://there:2376"}, Engine: f, Program: program}
}

// emptyProgram is the least file that is taken for a static program.
func emptyProgram(t *testing.T, content string) string {
	t.Helper()
	var header [64]byte
	copy(header[:], "\x7fELF\x02\x01\x01")
	header[16], header[18], header[20], header[52], header[54] = 2, 62, 1, 64, 56
	header[58] = 64 // the size of a section's header, of which there are none
	file := filepath.Join(t.TempDir(), "berth")
	if err := os.WriteFile(file, slices.Concat(header[:], []byte(content)), 0o700); err != nil {
		t.Fatal(err)
	}
	return file
}

func text(t *testing.T, a answer) string {
	t.Helper()
	b, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestHelperAnswers(t *testing.T) {
	f := &fakeEngine{there: []runtime.Container{{ID: "left-by-a-crash"}}}
	reads := 0
	f.say = func(r request) (string, int) {
		switch r.Op {
		case "ensure":
			return text(t, answer{Report: report{Parent: r.Node + fmt.Sprint(r.Limits.CPUs)}}), 0
		case "list":
			return text(t, answer{Nodes: []string{"a"}}), 0
		case "pressure":
			reads++
			return text(t, answer{Pressure: map[string]runtime.Pressure{"a": {Pids: 3}, "b": {Pids: 4}}}), 0
		case "remove":
			return text(t, answer{Error: failureOf(&runtime.Error{Kind: runtime.KindConflict, Op: opRemove, Object: r.Node, Err: errors.New("it is used")})}), 0
		}
		return "{}", 0
	}
	b := Open(t.Context(), remote(f, emptyProgram(t, "one")))
	if !strings.HasPrefix(b.How(), "written by a helper container, since the daemon may not: the engine at tcp://there:2376") {
		t.Fatal(b.How())
	}
	if !slices.Contains(f.removed, "left-by-a-crash") {
		t.Error("what an earlier daemon left is still there")
	}
	if got, err := b.Ensure(t.Context(), "a", someLimits); err != nil || got.Parent != "a500" || !got.Enforced {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := b.List(t.Context()); err != nil || !slices.Equal(got, []string{"a"}) {
		t.Errorf("%v, %v", got, err)
	}
	// One helper reads for all nodes; each is answered by it once.
	for i, c := range []struct {
		node  string
		pids  int64
		reads int
	}{{"a", 3, 2}, {"b", 4, 2}, {"a", 3, 4}, {"a", 3, 6}, {"b", 4, 6}} {
		if got, err := b.Pressure(t.Context(), c.node); err != nil || got.Pids != c.pids || reads != c.reads { // both Wait and Logs read
			t.Errorf("%d: %+v, %v after %d reads", i, got, err, reads)
		}
	}
	if _, err := b.Pressure(t.Context(), "never"); !runtime.IsNotFound(err) {
		t.Errorf("a node without a cgroup: %v", err)
	}
	if err := b.Remove(t.Context(), "a"); !runtime.IsConflict(err) || err.Error() != "remove the cgroup of node a: it is used" {
		t.Errorf("got %v", err)
	}
	if f.imports != 1 || len(f.specs) != 0 {
		t.Errorf("%d imports, %d helpers left", f.imports, len(f.specs))
	}

	// Another program takes the image's place.
	Open(t.Context(), remote(f, emptyProgram(t, "two")))
	if f.imports != 2 || !slices.Contains(f.removed, "sha256:1") {
		t.Errorf("%d imports, removed %v", f.imports, f.removed)
	}
}

// Whatever fails, no helper stays, and the error says why.
func TestHelperFails(t *testing.T) {
	ok := func(request) (string, int) { return "{}", 0 }
	lost := &runtime.Error{Kind: runtime.KindUnavailable, Op: "x", Object: "y", Err: errors.New("the engine is away")}
	for name, c := range map[string]struct {
		call string
		say  func(request) (string, int)
		says string
	}{
		"list":     {call: "list", say: ok, says: "the engine is away"},
		"import":   {call: "import", say: ok, says: "the engine is away"},
		"create":   {call: "create", say: ok, says: "the engine is away"},
		"start":    {call: "start", say: ok, says: "the engine is away"},
		"wait":     {call: "wait", say: ok, says: "the engine is away"},
		"exit":     {say: func(request) (string, int) { return "berth: no such thing\n", 1 }, says: "the helper ended with exit code 1: berth: no such thing"},
		"answer":   {say: func(request) (string, int) { return "what?", 0 }, says: "read the helper's answer"},
		"too long": {say: func(request) (string, int) { return `{"nodes":["` + strings.Repeat("a", maxAnswer), 0 }, says: "read the helper's answer"},
		"refused": {say: func(request) (string, int) {
			return `{"error":{"kind":"unavailable","text":"read-only file system"}}`, 0
		}, says: "read-only file system"},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fakeEngine{say: c.say, fail: map[string]error{c.call: lost}}
			b := Open(t.Context(), remote(f, emptyProgram(t, name)))
			got, err := b.Ensure(t.Context(), "a", someLimits)
			if err != nil || got.Enforced || !strings.Contains(got.Why, c.says) {
				t.Errorf("%+v, %v", got, err)
			}
			if c.call != "create" && len(f.specs) > 0 {
				t.Errorf("%d helpers are left", len(f.specs))
			}
		})
	}
}

func TestHelperNeedsAStaticProgram(t *testing.T) {
	script := filepath.Join(t.TempDir(), "berth")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	b := Open(t.Context(), remote(&fakeEngine{}, script))
	if !strings.Contains(b.How(), "it is no program for Linux") {
		t.Error(b.How())
	}
}

func TestHelperSpecGolden(t *testing.T) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetIndent("", " ")
	if err := enc.Encode(helperSpec("sha256:1", DriverSystemd, "{}")); err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/helper.golden.json"
	want, err := os.ReadFile(golden)
	if err != nil || out.String() != string(want) {
		t.Errorf("%v; the spec is\n%s", err, &out)
	}
}

// Serve is the other end: a request in, an answer out.
func TestServe(t *testing.T) {
	serve := func(req request) answer {
		t.Helper()
		b, err := json.Marshal(req)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := Serve(t.Context(), []string{string(b)}, &out); err != nil {
			t.Fatal(err)
		}
		var a answer
		if err := json.Unmarshal(out.Bytes(), &a); err != nil {
			t.Fatal(err)
		}
		return a
	}
	if a := serve(request{Op: "check", Driver: DriverCgroupfs, Owner: testOwner, Base: t.TempDir()}); a.Error == nil || !strings.Contains(a.Error.Text, "no cgroup controller is mounted below") {
		t.Errorf("%+v", a.Error)
	}
	for _, args := range [][]string{nil, {"{"}, {"{}", "{}"}} {
		if err := Serve(t.Context(), args, io.Discard); err == nil {
			t.Errorf("%v is no request", args)
		}
	}
}
