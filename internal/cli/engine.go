package cli

import (
	"context"
	"io"
	"time"

	"github.com/berth-dev/berth/runtime"
)

// Engine is what commands ask of the engine directly: to look, and to move
// bytes. It has no method that changes a container's state.
type Engine interface {
	observer
	streamer
	imager
	Close() error
}

type observer interface {
	Info(ctx context.Context) (runtime.EngineInfo, error)
	Inspect(ctx context.Context, id string) (runtime.Container, error)
	List(ctx context.Context, filter runtime.Filter) ([]runtime.Container, error)
	Events(ctx context.Context, since time.Time, filter runtime.Filter) <-chan runtime.Event
	Wait(ctx context.Context, id string) (runtime.ExitStatus, error)
	Stats(ctx context.Context, id string, stream bool, fn func(runtime.Stats) bool) error
	Top(ctx context.Context, id string, psArgs []string) (runtime.Processes, error)
	ListVolumes(ctx context.Context, filter runtime.Filter) ([]runtime.Volume, error)
	ListNetworks(ctx context.Context, filter runtime.Filter) ([]runtime.Network, error)
}

type streamer interface {
	Logs(ctx context.Context, id string, opts runtime.LogOptions, stdout, stderr io.Writer) error
	Exec(ctx context.Context, id string, spec runtime.ExecSpec, streams runtime.Streams) (int, error)
	Attach(ctx context.Context, id string, opts runtime.AttachOptions, streams runtime.Streams) error
	CopyTo(ctx context.Context, id, dir string, archive io.Reader, keepOwner bool) error
	CopyFrom(ctx context.Context, id, path string) (io.ReadCloser, runtime.PathStat, error)
	StatPath(ctx context.Context, id, path string) (runtime.PathStat, error)
}

type imager interface {
	Image(ctx context.Context, ref string) (runtime.Image, error)
	Pull(ctx context.Context, ref string, opts runtime.PullOptions) error
	Push(ctx context.Context, ref string, progress func(runtime.Progress)) error
	Build(ctx context.Context, build *runtime.Build, progress func(runtime.Progress)) (string, error)
	Tag(ctx context.Context, source, target string) error
	RemoveImage(ctx context.Context, ref string, force bool) error
}
