package cgroup

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-dev/berth/runtime"
)

func TestSliceProperties(t *testing.T) {
	const none = "18446744073709551615"
	for _, c := range []struct {
		limits runtime.NodeLimits
		want   string
	}{
		{someLimits, "CPUQuotaPerSecUSec=500000 CPUQuotaPeriodUSec=100000 MemoryLimit=268435456 MemoryMax=268435456 MemorySwapMax=0 TasksMax=100"},
		{runtime.NodeLimits{CPUs: 5}, "CPUQuotaPerSecUSec=5000 CPUQuotaPeriodUSec=1000000 MemoryLimit=" + none + " MemoryMax=" + none + " MemorySwapMax=" + none + " TasksMax=" + none},
		{runtime.NodeLimits{}, "CPUQuotaPerSecUSec=" + none + " CPUQuotaPeriodUSec=100000 MemoryLimit=" + none + " MemoryMax=" + none + " MemorySwapMax=" + none + " TasksMax=" + none},
	} {
		var got []string
		for _, p := range sliceProperties(c.limits) {
			got = append(got, fmt.Sprintf("%s=%v", p.Name, p.Value.Value()))
		}
		if text := strings.Join(got, " "); text != c.want {
			t.Errorf("%+v:\n%s, want\n%s", c.limits, text, c.want)
		}
	}
}

// manager is a slicer that does on a model what systemd does.
type manager struct {
	m       *model
	l       *local
	deaf    bool // it answers, and does nothing
	fails   error
	removed []string
}

func (s *manager) root() string { return "user.slice/own" }

func (s *manager) set(_ context.Context, slice string, l runtime.NodeLimits) error {
	if s.deaf || s.fails != nil {
		return s.fails
	}
	p := filepath.Join(s.root(), "berth.slice/berth-01234567.slice", slice)
	if _, err := s.l.tree.make(p); err != nil {
		return err
	}
	todo, _, _ := changes(s.m.version, s.l.current(p), l)
	todo = slices.DeleteFunc(todo, func(c change) bool { return c.file == memswV1 })
	return s.l.carryOut(p, todo)
}

func (s *manager) remove(_ context.Context, slice string) error {
	s.removed = append(s.removed, slice)
	return s.fails
}

func TestSlicesAreSetByTheirManager(t *testing.T) {
	for name, newTree := range map[string]func(*testing.T) (*model, *tree){"v1": newV1, "v2": newV2} {
		t.Run(name, func(t *testing.T) {
			m, tr := newTree(t)
			s := &manager{m: m}
			l := &local{tree: tr, driver: DriverSystemd, owner: testOwner, slices: s}
			s.l = l
			set := func(limits runtime.NodeLimits) report {
				t.Helper()
				r, err := l.ensure(t.Context(), "a-b", limits)
				if err != nil {
					t.Fatal(err)
				}
				if r.Parent != `berth-01234567-a\x2db.slice` {
					t.Errorf("parent %s", r.Parent)
				}
				return r
			}
			if r := set(someLimits); !r.Made {
				t.Errorf("%+v", r)
			}
			m.writes = nil
			if r := set(someLimits); r.Made || len(r.Drift) > 0 || len(m.writes) > 0 {
				t.Errorf("set once more: %+v, %v", r, m.writes)
			}
			file := "user.slice/own/berth.slice/berth-01234567.slice/berth-01234567-a\\x2db.slice/pids.max"
			if name == "v1" {
				file = "pids/" + file
			}
			m.set(t, file, "7\n")
			if r := set(someLimits); !slices.Equal(r.Drift, []string{"pids.max was 7 and is 100 again"}) {
				t.Errorf("%+v", r)
			}
			// Up, also of the limit on version 1 that the manager does not know, and down.
			set(runtime.NodeLimits{CPUs: 3, Memory: 512 * mib})
			set(runtime.NodeLimits{})
			set(someLimits)
			if got, err := l.list(t.Context()); err != nil || !slices.Equal(got, []string{"a-b"}) {
				t.Errorf("%v, %v", got, err)
			}

			m.set(t, file, "7\n")
			s.deaf = true
			if _, err := l.ensure(t.Context(), "a-b", someLimits); err == nil || !strings.Contains(err.Error(), "pids.max holds 7 instead of 100") {
				t.Errorf("what systemd did not do is taken for done: %v", err)
			}
			s.fails = errors.New("it is busy with itself")
			if _, err := l.ensure(t.Context(), "a-b", someLimits); !runtime.IsUnavailable(err) || !strings.Contains(err.Error(), "it is busy with itself") {
				t.Errorf("got %v", err)
			}
			s.fails = nil
			s.deaf = false
			if _, err := l.ensure(t.Context(), "c", someLimits); err != nil {
				t.Fatal(err)
			}
			for _, n := range []string{"a-b", "c"} {
				if err := l.remove(t.Context(), n); err != nil {
					t.Error(err)
				}
			}
			if want := []string{`berth-01234567-a\x2db.slice`, "berth-01234567-c.slice", "berth-01234567.slice"}; !slices.Equal(s.removed, want) {
				t.Errorf("removed %v, want %v", s.removed, want)
			}
		})
	}
}

// Whoever does not speak systemd's language is named, and not waited for.
func TestSystemdThatIsNone(t *testing.T) {
	dir, err := os.MkdirTemp("", "bsd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &systemdSlices{socket: filepath.Join(dir, "none")}
	if err := s.open(t.Context()); err == nil || !strings.Contains(err.Error(), "talk to systemd at "+s.socket) {
		t.Errorf("got %v", err)
	}
	s.socket = filepath.Join(dir, "s")
	listener, err := net.Listen("unix", s.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	go func() {
		if conn, err := listener.Accept(); err == nil {
			_ = conn.Close()
		}
	}()
	if err := s.open(t.Context()); err == nil || !strings.Contains(err.Error(), "talk to systemd at "+s.socket) {
		t.Errorf("got %v", err)
	}
	// One that takes the call and says nothing costs the caller's patience, no more.
	go func() {
		if conn, err := listener.Accept(); err == nil {
			<-t.Context().Done()
			_ = conn.Close()
		}
	}()
	soon, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := s.open(soon); err == nil || soon.Err() == nil {
		t.Errorf("got %v", err)
	}
	t.Setenv("XDG_RUNTIME_DIR", "")
	if _, err := openSlices(t.Context(), true); err == nil || !strings.Contains(err.Error(), "XDG_RUNTIME_DIR") {
		t.Errorf("got %v", err)
	}
}
