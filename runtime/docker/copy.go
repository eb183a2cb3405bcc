package docker

import (
	"archive/tar"
	"context"
	"errors"
	"io"

	"github.com/docker/docker/api/types/container"

	"github.com/berth-dev/berth/runtime"
)

// CopyTo extracts a tar archive into directory dir of a container, which need
// not run. With keepOwner files belong to whom the archive says, else to root.
func (e *Engine) CopyTo(ctx context.Context, id, dir string, archive io.Reader, keepOwner bool) error {
	call, cancel := context.WithTimeout(ctx, e.timeouts.Transfer)
	defer cancel()
	if !keepOwner {
		r := ownedByRoot(archive)
		defer r.Close()
		archive = r
	}
	err := e.api().CopyToContainer(call, id, dir, archive, container.CopyToContainerOptions{})
	var bad *packFailure
	if errors.As(err, &bad) {
		return refuse(runtime.KindInvalid, "copy into", id, "%w", bad)
	}
	return e.fail("copy into", id, err)
}

// ownedByRoot rewrites an archive so that root owns everything in it.
func ownedByRoot(archive io.Reader) io.ReadCloser {
	r, w := io.Pipe()
	go func() {
		err := rewriteOwner(archive, w)
		if err != nil && !errors.Is(err, io.ErrClosedPipe) {
			err = &packFailure{err}
		}
		_ = w.CloseWithError(err) // never fails
	}()
	return r
}

func rewriteOwner(from io.Reader, to io.Writer) error {
	in, out := tar.NewReader(from), tar.NewWriter(to)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return out.Close()
		}
		if err != nil {
			return err
		}
		h.Uid, h.Gid, h.Uname, h.Gname = 0, 0, "", ""
		if err := out.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.Copy(out, in); err != nil { //nolint:gosec // the archive is the caller's own
			return err
		}
	}
}

// CopyFrom returns a tar archive of path in a container; the caller closes it.
func (e *Engine) CopyFrom(ctx context.Context, id, path string) (io.ReadCloser, runtime.PathStat, error) {
	call, cancel := context.WithTimeout(ctx, e.timeouts.Transfer)
	body, st, err := e.api().CopyFromContainer(call, id, path)
	if err != nil {
		cancel()
		return nil, runtime.PathStat{}, e.fail("copy from", id, err)
	}
	return &cancelOnClose{body, cancel}, pathStat(st), nil
}

type cancelOnClose struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (c *cancelOnClose) Close() error {
	defer c.cancel()
	return c.ReadCloser.Close()
}

// StatPath tells about a file in a container; NotFound when there is none.
func (e *Engine) StatPath(ctx context.Context, id, path string) (runtime.PathStat, error) {
	call, cancel := e.query(ctx)
	defer cancel()
	st, err := e.api().ContainerStatPath(call, id, path)
	if err != nil {
		return runtime.PathStat{}, e.fail("stat "+path+" in", id, err)
	}
	return pathStat(st), nil
}

func pathStat(st container.PathStat) runtime.PathStat {
	return runtime.PathStat{Name: st.Name, Size: st.Size, Mode: uint32(st.Mode), ModTime: st.Mtime, LinkTarget: st.LinkTarget}
}
