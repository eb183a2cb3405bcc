package main

import (
	"context"
	"fmt"
	"io"

	"github.com/berth-dev/berth/internal/daemon"
	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/runtime/cgroup"
	"github.com/berth-dev/berth/runtime/docker"
)

// self is the program that runs now, whatever has become of its file.
const self = "/proc/self/exe"

// newBoundaries finds out how the boundaries of virtual nodes are made on the
// engine. It never fails; what cannot be enforced says so at each node.
func newBoundaries(ctx context.Context, engine *docker.Engine, info runtime.EngineInfo, owner string) *cgroup.Boundaries {
	return cgroup.Open(ctx, cgroup.Config{Owner: owner, Info: info, Engine: engine, Program: self})
}

// orphans removes the cgroups that installations which are gone have left on this
// machine; nil where the engine's machine is another one.
func orphans(local bool) daemon.Orphans {
	if !local {
		return nil
	}
	return cgroup.RemoveOrphans
}

// boundaryHelper is the program in the helper container: it carries out the one
// request among its arguments. It returns the exit code.
func boundaryHelper(ctx context.Context, args []string, out, complaints io.Writer) int {
	if err := cgroup.Serve(ctx, args, out); err != nil {
		_, _ = fmt.Fprintln(complaints, "berth:", err) // nobody is left to be told
		return 1
	}
	return 0
}
