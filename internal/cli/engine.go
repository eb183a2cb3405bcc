package cli

import (
	"context"
	"io"
	"time"

	"github.com/berth-dev/berth/runtime"
)

// Engine is what commands ask of the engine directly: to look, to move bytes,
// and to pass signals on. It has no method that changes what is there.
type Engine interface {
	observer
	streamer
	imager
	signaler
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

// signaler passes the user's own signals on to the process they are attached
// to, as it does their keys. Only attach does so.
type signaler interface {
	Kill(ctx context.Context, id, signal string) error
}

type imager interface {
	Image(ctx context.Context, ref string) (runtime.Image, error)
	Pull(ctx context.Context, ref string, opts runtime.PullOptions) error
	Push(ctx context.Context, ref string, progress func(runtime.Progress)) error
	Build(ctx context.Context, build *runtime.Build, progress func(runtime.Progress)) (string, error)
	Tag(ctx context.Context, source, target string) error
	RemoveImage(ctx context.Context, ref string, force bool) error
	// ImageDigest asks the image's registry what its tag stands for now: "sha256:…".
	ImageDigest(ctx context.Context, ref string) (string, error)
}
