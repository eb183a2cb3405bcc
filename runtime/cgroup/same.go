package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/runtime/peer"
)

// sameTree says why the engine's cgroups are not those that this process sees, or
// returns nil when they are. An engine may be on another machine, in a virtual
// machine behind a local socket, or in a container. What listens at the socket
// tells; where that is not the engine itself, a container of its that runs does.
func sameTree(ctx context.Context, cfg *Config, t *tree) error {
	socket, ok := strings.CutPrefix(cfg.Info.Host, "unix://")
	if !ok {
		return fmt.Errorf("the engine at %s is on another machine", cfg.Info.Host)
	}
	if kernel := kernelRelease(); cfg.Info.KernelVersion != "" && kernel != cfg.Info.KernelVersion {
		return fmt.Errorf("the engine runs on another kernel (%s) than this one (%s), as in a virtual machine", cfg.Info.KernelVersion, kernel)
	}
	name, err := neighbour(socket)
	if err != nil || name == "dockerd" {
		return err
	}
	found, running, err := findRunning(ctx, cfg.Engine, t)
	switch {
	case err != nil:
		return err
	case found, name == activator && !running:
		return nil
	case running:
		return fmt.Errorf("%s listens at %s, and no cgroup of a running container is to be seen here", name, socket)
	}
	return fmt.Errorf("it is not dockerd that listens at %s, but %s, and no container runs by which its cgroups could be told", socket, name)
}

// activator is the program that listens for an engine that is started when it is
// asked for: init.
const activator = "systemd"

func kernelRelease() string {
	b, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// findRunning looks for the cgroup of a running container of the engine.
func findRunning(ctx context.Context, engine Engine, t *tree) (found, running bool, err error) {
	list, err := engine.List(ctx, runtime.Filter{})
	if err != nil {
		return false, false, err
	}
	ids := map[string]bool{}
	for i := range list {
		if list[i].State == runtime.Running {
			ids[list[i].ID] = true
		}
	}
	if len(ids) == 0 {
		return false, false, nil
	}
	dir, ok := t.of[memory]
	if !ok {
		return false, true, nil
	}
	errFound := errors.New("found")
	err = walkGroups(dir, func(group string) error {
		if ids[containerOf(path.Base(group))] {
			return errFound
		}
		return ctx.Err()
	})
	if errors.Is(err, errFound) {
		return true, true, nil
	}
	return false, true, err
}

// neighbour returns the name of the program that listens at socket, or why it is
// not in this process's cgroup namespace.
func neighbour(socket string) (string, error) {
	pid, err := peer.Listener(socket)
	if err != nil {
		return "", fmt.Errorf("find the engine's process: %w", err)
	}
	if pid == 0 {
		return "", errors.New("the engine's process is not to be seen here: one of both is in a container")
	}
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return "", fmt.Errorf("look at the engine's process: %w", err)
	}
	theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/cgroup", pid))
	if err != nil {
		return "", fmt.Errorf("look at the engine's process: %w", err)
	}
	ours, err := os.Readlink("/proc/self/ns/cgroup")
	if err != nil {
		return "", err
	}
	if ours != theirs {
		return "", errors.New("the engine is in another cgroup namespace, as in a container")
	}
	return strings.TrimSpace(string(name)), nil
}
