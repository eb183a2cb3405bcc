package cgroup

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-dev/berth/runtime"
)

// The engine's containers tell whose cgroups these are, where it is not the engine
// itself that listens, but this test.
func TestSameTree(t *testing.T) {
	dir, err := os.MkdirTemp("", "bst") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	m, tr := newV1(t)
	m.set(t, "memory/docker/c1/cgroup.procs", "1\n")
	m.set(t, "memory/system.slice/docker-c2.scope/cgroup.procs", "1\n")
	running := func(id string) []runtime.Container {
		return []runtime.Container{{ID: "old", State: runtime.Exited}, {ID: id, State: runtime.Running}}
	}
	here := runtime.EngineInfo{Host: "unix://" + socket, KernelVersion: kernelRelease()}
	for name, c := range map[string]struct {
		info runtime.EngineInfo
		list []runtime.Container
		fail error
		says string // empty: it is the same
	}{
		"cgroupfs":       {info: here, list: running("c1")},
		"systemd":        {info: here, list: running("c2")},
		"not found":      {info: here, list: running("c3"), says: "no cgroup of a running container is to be seen here"},
		"none runs":      {info: here, list: running("c3")[:1], says: "it is not dockerd that listens at"},
		"list fails":     {info: here, fail: errors.New("the engine is away"), says: "the engine is away"},
		"remote":         {info: runtime.EngineInfo{Host: "ssh://me@there"}, says: "the engine at ssh://me@there is on another machine"},
		"other kernel":   {info: runtime.EngineInfo{Host: "unix://" + socket, KernelVersion: "6.6.1-linuxkit"}, says: "the engine runs on another kernel (6.6.1-linuxkit)"},
		"nobody listens": {info: runtime.EngineInfo{Host: "unix://" + socket + "x"}, says: "find the engine's process"},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fakeEngine{there: c.list, fail: map[string]error{"list": c.fail}}
			err := sameTree(t.Context(), &Config{Info: c.info, Engine: f}, tr)
			if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("got %v, want %q", err, c.says)
			}
		})
	}
}
