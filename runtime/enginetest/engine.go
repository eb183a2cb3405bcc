// Package enginetest is the contract of an engine: the methods every engine
// has, and a suite of cases that says how they behave. The same cases run
// against the engine in memory and against real Docker; where real Docker
// disagrees, the suite changes first and the engine in memory after it.
package enginetest

import (
	"context"
	"io"
	"time"

	"github.com/berth-dev/berth/runtime"
)

// Engine is the whole of what an engine does. Consumers declare the smaller
// interfaces they need; this one exists for the suite.
//
// Common to all methods: containers are named by ID or name; every error is a
// *runtime.Error with one of the four kinds; every call ends within a deadline
// of the engine's own even when ctx has none, except those that follow (Events,
// Wait, Logs with Follow, Exec, Attach, Stats streams).
type Engine interface {
	Lifecycle
	Observer
	Streamer
	Images
	Networks
	Volumes
}

// Lifecycle moves containers along the transition table. Each call first asks
// the table where the real engine would answer with an internal error, and each
// is idempotent where the table says that the state stays.
type Lifecycle interface {
	// Create makes a container in state created and returns its ID. Contents
	// holds what spec.Files name, by File.Name. A taken name is a Conflict; an
	// image that is not there NotFound. When writing the files fails the
	// container is removed again.
	Create(ctx context.Context, name string, labels map[string]string, spec *runtime.Spec, contents map[string][]byte) (id string, err error)
	Start(ctx context.Context, id string) error
	// Stop sends signal (empty: the container's own), waits grace, then kills.
	Stop(ctx context.Context, id, signal string, grace time.Duration) error
	// Kill sends signal; empty means KILL. A signal the process survives leaves it running.
	Kill(ctx context.Context, id, signal string) error
	Restart(ctx context.Context, id, signal string, grace time.Duration) error
	Pause(ctx context.Context, id string) error
	Unpause(ctx context.Context, id string) error
	// Update changes limits and restart policy in place.
	Update(ctx context.Context, id string, limits runtime.Limits, restart runtime.RestartPolicy) error
	Rename(ctx context.Context, id, name string) error
	// Remove removes a container that does not run. volumes: its anonymous
	// volumes too. Force kills a live one first. It returns once the container is gone.
	Remove(ctx context.Context, id string, volumes, force bool) error
	// Prune removes the stopped containers that match and returns their IDs. A
	// filter without a label is Invalid.
	Prune(ctx context.Context, filter runtime.Filter) ([]string, error)
}

// Observer tells what is.
type Observer interface {
	Info(ctx context.Context) (runtime.EngineInfo, error)
	Ping(ctx context.Context) error
	Inspect(ctx context.Context, id string) (runtime.Container, error)
	// List returns the containers that match, in every state, sorted by name. It
	// is cheap and shallow: of a record it fills what one list call tells (ID,
	// name, labels, image, command, state, created, health, ports, mounts,
	// networks); [Observer.Inspect] fills all.
	List(ctx context.Context, filter runtime.Filter) ([]runtime.Container, error)
	// Events sends what happens to the objects that match, from since on (zero:
	// now), until ctx ends, and reconnects by itself with overlap: an event may
	// come twice, none is invented. The channel is closed at the end. A
	// reconnection sends an Event of type "resync", after which the caller must
	// list again.
	Events(ctx context.Context, since time.Time, filter runtime.Filter) <-chan runtime.Event
	// Wait returns once the container's process has ended, or at once when it
	// does not run.
	Wait(ctx context.Context, id string) (runtime.ExitStatus, error)
	// Stats calls fn with samples until fn returns false, ctx ends or the
	// container stops. Without stream it is called once.
	Stats(ctx context.Context, id string, stream bool, fn func(runtime.Stats) bool) error
	Top(ctx context.Context, id string, psArgs []string) (runtime.Processes, error)
}

// Streamer moves bytes in and out of containers.
type Streamer interface {
	// Logs writes output to the two writers, which may be one. With a TTY all of it is stdout.
	Logs(ctx context.Context, id string, opts runtime.LogOptions, stdout, stderr io.Writer) error
	// Exec runs a command and returns its exit code; 126 or 127 when there is no
	// such command. No command at all is Invalid, a container that does not run a
	// Conflict.
	Exec(ctx context.Context, id string, spec runtime.ExecSpec, streams runtime.Streams) (int, error)
	// Attach connects to the main process until it ends or the user detaches.
	Attach(ctx context.Context, id string, opts runtime.AttachOptions, streams runtime.Streams) error
	// CopyTo extracts a tar archive into directory dir of the container.
	CopyTo(ctx context.Context, id, dir string, archive io.Reader, keepOwner bool) error
	// CopyFrom returns a tar archive of path; the caller closes it.
	CopyFrom(ctx context.Context, id, path string) (io.ReadCloser, runtime.PathStat, error)
	StatPath(ctx context.Context, id, path string) (runtime.PathStat, error)
}

// Images reads, fetches and makes images.
type Images interface {
	Image(ctx context.Context, ref string) (runtime.Image, error)
	Pull(ctx context.Context, ref string, opts runtime.PullOptions) error
	Push(ctx context.Context, ref string, progress func(runtime.Progress)) error
	// Build returns the ID of the built image.
	Build(ctx context.Context, build *runtime.Build, progress func(runtime.Progress)) (string, error)
	Tag(ctx context.Context, source, target string) error
	RemoveImage(ctx context.Context, ref string, force bool) error
}

// Networks makes and removes networks.
type Networks interface {
	// EnsureNetwork creates the network and returns its ID. When one of that
	// name and with the same stack label exists already it is returned as it is;
	// a foreign one is a Conflict.
	EnsureNetwork(ctx context.Context, spec *runtime.NetworkSpec) (string, error)
	// Network finds a network by name or ID.
	Network(ctx context.Context, name string) (runtime.Network, error)
	ListNetworks(ctx context.Context, filter runtime.Filter) ([]runtime.Network, error)
	// RemoveNetwork removes it, waiting a bounded time for endpoints that the
	// engine still lets go of. A live container on it is a Conflict.
	RemoveNetwork(ctx context.Context, id string) error
	// Connect attaches a container; one that is attached is left as it is.
	Connect(ctx context.Context, network, container string, at runtime.Attachment) error
	Disconnect(ctx context.Context, network, container string, force bool) error
}

// Volumes makes and removes volumes.
type Volumes interface {
	// EnsureVolume creates the volume, or returns the one of that name and stack
	// label; a foreign one is a Conflict.
	EnsureVolume(ctx context.Context, spec *runtime.VolumeSpec) (runtime.Volume, error)
	Volume(ctx context.Context, name string) (runtime.Volume, error)
	ListVolumes(ctx context.Context, filter runtime.Filter) ([]runtime.Volume, error)
	// RemoveVolume removes it; one in use is a Conflict.
	RemoveVolume(ctx context.Context, name string) error
}
