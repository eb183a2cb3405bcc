package cgroup

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/berth-dev/berth/runtime"
)

// scripted answers as it is told.
type scripted struct {
	report report
	err    error
	press  runtime.Pressure
}

func (s *scripted) ensure(context.Context, string, runtime.NodeLimits) (report, error) {
	return s.report, s.err
}
func (s *scripted) remove(context.Context, string) error                       { return s.err }
func (s *scripted) list(context.Context) ([]string, error)                     { return []string{"a"}, s.err }
func (s *scripted) pressure(context.Context, string) (runtime.Pressure, error) { return s.press, s.err }

func on(w way) *Boundaries {
	return &Boundaries{way: w, last: map[string]runtime.NodeLimits{}, seen: map[string][]runtime.ContainerPressure{}}
}

func TestDriftIsWhatOthersDid(t *testing.T) {
	w := &scripted{}
	b := on(w)
	differs := []string{"pids.max was 7 and is 100 again"}
	removed := []string{"the cgroup had been removed and is there again"}
	for _, c := range []struct {
		what   string
		report report
		limits runtime.NodeLimits
		want   []string
	}{
		{"made", report{Made: true, Drift: differs}, someLimits, nil},
		{"in order", report{}, someLimits, nil},
		{"changed by hand", report{Drift: differs}, someLimits, differs},
		{"new limits", report{Drift: differs}, runtime.NodeLimits{Pids: 1}, nil},
		{"new limits changed by hand", report{Drift: differs}, runtime.NodeLimits{Pids: 1}, differs},
		{"removed", report{Made: true, Drift: differs}, runtime.NodeLimits{Pids: 1}, removed},
	} {
		w.report = c.report
		got, err := b.Ensure(t.Context(), "a", c.limits)
		if err != nil || !got.Enforced || !slices.Equal(got.Drift, c.want) {
			t.Errorf("%s: %+v, %v", c.what, got, err)
		}
	}
	// A later daemon finds what was changed while none ran.
	w.report = report{Drift: differs}
	if got, err := on(w).Ensure(t.Context(), "a", someLimits); err != nil || !slices.Equal(got.Drift, differs) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestBoundaryThatLacksALimit(t *testing.T) {
	b := on(&scripted{report: report{Parent: "/p", Missing: []string{"cpus", "pids"}}})
	got, err := b.Ensure(t.Context(), "a", someLimits)
	if err != nil || got.Enforced || got.Parent != "/p" || got.Why != "the engine's machine has no cgroup controller for cpus, pids" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestBoundaryThatFails(t *testing.T) {
	busy := &runtime.Error{Kind: runtime.KindConflict, Op: opEnsure, Object: "a", Err: errors.New("it is busy")}
	got, err := on(&scripted{err: busy}).Ensure(t.Context(), "a", someLimits)
	if !runtime.IsConflict(err) || got.Enforced || got.Why != "it is busy" {
		t.Errorf("%+v, %v", got, err)
	}
}

// A container's kill is known as long as its node is, also where its cgroup, the
// kernel's log and so every trace of it are gone.
func TestKillsAreRemembered(t *testing.T) {
	w := &scripted{press: runtime.Pressure{OOMKills: 1, Containers: []runtime.ContainerPressure{{ID: "c1", Pids: 4, OOMKills: 1}, {ID: "c2", Pids: 1}}}}
	b := on(w)
	if _, err := b.Pressure(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	w.press = runtime.Pressure{Containers: []runtime.ContainerPressure{{ID: "c2", Pids: 1}}}
	for range 2 {
		p, err := b.Pressure(t.Context(), "a")
		if err != nil || p.OOMKills != 1 || len(p.Containers) != 2 || !p.Containers[0].Gone || p.Containers[0].ID != "c1" {
			t.Errorf("%+v, %v", p, err)
		}
	}
	if err := b.Remove(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if p, err := b.Pressure(t.Context(), "a"); err != nil || p.OOMKills != 0 {
		t.Errorf("a new node of the name: %+v, %v", p, err)
	}
}

// An engine that is away when boundaries are opened is no reason to do without.
func TestEngineThatComesBack(t *testing.T) {
	away := &runtime.Error{Kind: runtime.KindUnavailable, Op: "list", Object: "containers", Err: errors.New("no answer")}
	f := &fakeEngine{fail: map[string]error{"list": away}}
	f.say = func(request) (string, int) { return text(t, answer{Report: report{Parent: "/p"}}), 0 }
	b := Open(t.Context(), remote(f, emptyProgram(t, "")))
	for range 2 {
		if got, err := b.Ensure(t.Context(), "a", someLimits); err != nil || got.Enforced || !strings.Contains(got.Why, "no answer") {
			t.Errorf("%+v, %v", got, err)
		}
	}
	delete(f.fail, "list")
	if got, err := b.Ensure(t.Context(), "a", someLimits); err != nil || !got.Enforced || got.Parent != "/p" {
		t.Errorf("the engine is back: %+v, %v", got, err)
	}
}

func TestNothingWorks(t *testing.T) {
	engine := &fakeEngine{}
	for name, c := range map[string]struct {
		cfg  Config
		says []string
	}{
		"no driver": {Config{Owner: testOwner, Info: runtime.EngineInfo{CgroupDriver: "none"}}, []string{`cgroup driver "none"`}},
		"remote and no program": {
			Config{Owner: testOwner, Info: runtime.EngineInfo{CgroupDriver: DriverCgroupfs, Host: "tcp://there:2376"}},
			[]string{"the engine at tcp://there:2376 is on another machine", "there is no program for it"},
		},
		"rootless": {
			Config{Owner: testOwner, Info: runtime.EngineInfo{CgroupDriver: DriverCgroupfs, Host: "tcp://there:2376", Rootless: true}, Program: "/proc/self/exe"},
			[]string{"a rootless engine's containers may not change cgroups"},
		},
		"no tree": {
			Config{Owner: testOwner, Info: runtime.EngineInfo{CgroupDriver: DriverCgroupfs}, Base: t.TempDir()},
			[]string{"no cgroup controller is mounted below"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c.cfg.Engine = engine
			b := Open(t.Context(), c.cfg)
			got, err := b.Ensure(t.Context(), "a", someLimits)
			if err != nil || got.Enforced || got.Parent != "" || !strings.HasSuffix(b.How(), got.Why) {
				t.Errorf("%+v, %v, %s", got, err, b.How())
			}
			for _, text := range c.says {
				if !strings.Contains(got.Why, text) {
					t.Errorf("%q does not say %q", got.Why, text)
				}
			}
			if err := b.Remove(t.Context(), "a"); err != nil {
				t.Error(err)
			}
			if list, err := b.List(t.Context()); err != nil || len(list) > 0 {
				t.Errorf("%v, %v", list, err)
			}
			if _, err := b.Pressure(t.Context(), "a"); !runtime.IsNotFound(err) {
				t.Error(err)
			}
		})
	}
}
