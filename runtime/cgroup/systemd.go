package cgroup

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/berth-dev/berth/runtime"
)

// property is one property of a slice, as org.freedesktop.systemd1(5) has it.
type property struct {
	Name  string
	Value dbus.Variant
}

// sliceProperties returns a node's limits as a slice's properties. It is pure.
// Properties of a cgroup version that the machine does not have are without
// effect there: MemoryLimit is version 1's, MemoryMax and MemorySwapMax version 2's.
func sliceProperties(l runtime.NodeLimits) []property {
	u := func(name string, n uint64) property { return property{name, dbus.MakeVariant(n)} }
	const none = uint64(math.MaxUint64)
	cpuTime, mem, swap, tasks := none, none, none, none
	_, period := bandwidth(max(l.CPUs, 10))
	if l.CPUs > 0 {
		_, period = bandwidth(l.CPUs)
		cpuTime = uint64(l.CPUs) * 1000 // microseconds of CPU time in a second
	}
	if l.Memory > 0 {
		mem, swap = uint64(l.Memory), 0
	}
	if l.Pids > 0 {
		tasks = uint64(l.Pids)
	}
	return []property{
		u("CPUQuotaPerSecUSec", cpuTime), u("CPUQuotaPeriodUSec", uint64(period)), //nolint:gosec // one of two positive numbers
		u("MemoryLimit", mem), u("MemoryMax", mem), u("MemorySwapMax", swap), u("TasksMax", tasks),
	}
}

// accounting has systemd turn the controllers on for the slice.
func accounting() []property {
	on := dbus.MakeVariant(true)
	return []property{{"CPUAccounting", on}, {"MemoryAccounting", on}, {"TasksAccounting", on}}
}

const (
	systemdName    = "org.freedesktop.systemd1"
	systemdManager = systemdName + ".Manager"
	systemdTimeout = 20 * time.Second // of one call, and of what it starts
)

// systemdSlices talks to systemd by its own socket, which needs no message bus:
// that of the system, or the user's for a rootless engine.
type systemdSlices struct {
	socket string
	below  string // the manager's own cgroup
}

// openSlices finds the manager of slices, or says why it cannot be talked to.
func openSlices(ctx context.Context, rootless bool) (slicer, error) {
	s := &systemdSlices{socket: systemSocket}
	if rootless {
		dir := os.Getenv("XDG_RUNTIME_DIR")
		if dir == "" {
			return nil, errors.New("XDG_RUNTIME_DIR, where the user's systemd listens, is not set")
		}
		s.socket = filepath.Join(dir, "systemd/private")
	}
	return s, s.open(ctx)
}

const systemSocket = "/run/systemd/private"

// open asks the manager for its own cgroup.
func (s *systemdSlices) open(ctx context.Context) error {
	return s.with(ctx, func(ctx context.Context, m dbus.BusObject) error {
		var at dbus.Variant
		if err := m.CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", 0, systemdManager, "ControlGroup").Store(&at); err != nil {
			return err
		}
		own, ok := at.Value().(string)
		if !ok {
			return fmt.Errorf("it tells no cgroup of its own but %v", at)
		}
		// The system's manager is in init.scope below the root that slices are in.
		s.below = strings.TrimPrefix(strings.TrimSuffix(own, "/init.scope"), "/")
		return nil
	})
}

// with connects, calls fn with the manager, and disconnects.
func (s *systemdSlices) with(ctx context.Context, fn func(context.Context, dbus.BusObject) error) error {
	ctx, cancel := context.WithTimeout(ctx, systemdTimeout)
	defer cancel()
	conn, err := dbus.Dial("unix:path="+s.socket, dbus.WithContext(ctx))
	if err != nil {
		return fmt.Errorf("talk to systemd at %s: %w", s.socket, err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.Auth([]dbus.Auth{dbus.AuthExternal("")}); err != nil {
		return fmt.Errorf("talk to systemd at %s: %w", s.socket, err)
	}
	if err := fn(ctx, conn.Object(systemdName, "/org/freedesktop/systemd1")); err != nil {
		return fmt.Errorf("ask systemd at %s: %w", s.socket, err)
	}
	return nil
}

func (s *systemdSlices) root() string { return s.below }

// set makes a transient slice, which needs no file and is gone when it is
// stopped; one that is there gets new properties, until the next boot.
func (s *systemdSlices) set(ctx context.Context, slice string, l runtime.NodeLimits) error {
	type auxiliary struct {
		Name       string
		Properties []property
	}
	limits := sliceProperties(l)
	return s.with(ctx, func(ctx context.Context, m dbus.BusObject) error {
		all := append(accounting(), limits...)
		all = append(all, property{"Description", dbus.MakeVariant("A virtual node of Berth")})
		var job dbus.ObjectPath
		err := m.CallWithContext(ctx, systemdManager+".StartTransientUnit", 0, slice, "replace", all, []auxiliary{}).Store(&job)
		switch {
		case isDBus(err, systemdName+".UnitExists"):
			err = m.CallWithContext(ctx, systemdManager+".SetUnitProperties", 0, slice, true, append(accounting(), limits...)).Err
		case err == nil:
			err = finished(ctx, m, job)
		}
		return err
	})
}

// remove stops the slice. Its caller has seen that no process is in it.
func (s *systemdSlices) remove(ctx context.Context, slice string) error {
	return s.with(ctx, func(ctx context.Context, m dbus.BusObject) error {
		var job dbus.ObjectPath
		err := m.CallWithContext(ctx, systemdManager+".StopUnit", 0, slice, "replace").Store(&job)
		if isDBus(err, systemdName+".NoSuchUnit") {
			return nil
		}
		if err != nil {
			return err
		}
		return finished(ctx, m, job)
	})
}

// finished waits until a job of systemd's is done: then it is not there any more.
func finished(ctx context.Context, m dbus.BusObject, job dbus.ObjectPath) error {
	id := string(job[strings.LastIndexByte(string(job), '/')+1:])
	var n uint32
	if _, err := fmt.Sscan(id, &n); err != nil {
		return fmt.Errorf("it started the job %q, which is no number", job)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := m.CallWithContext(ctx, systemdManager+".GetJob", 0, n).Err
		if isDBus(err, systemdName+".NoSuchJob") {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("its job %d does not end: %w", n, ctx.Err())
		case <-tick.C:
		}
	}
}

// isDBus reports whether err is the named error of the other side.
func isDBus(err error, name string) bool {
	var e dbus.Error
	return errors.As(err, &e) && e.Name == name
}
