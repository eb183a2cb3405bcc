package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/runtime"
)

// cpOptions are the flags of cp.
type cpOptions struct {
	archive bool
	follow  bool
	index   int
	all     bool
}

func newCp(a *app) *cobra.Command {
	var o cpOptions
	cmd := &cobra.Command{
		Use: "cp [OPTIONS] SERVICE:SRC_PATH DEST_PATH|-\n" +
			"  berth cp [OPTIONS] SRC_PATH|- SERVICE:DEST_PATH",
		Short: "Copy files/folders between a service container and the local filesystem",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.cp(cmd.Context(), args[0], args[1], o)
		},
	}
	f := cmd.Flags()
	f.IntVar(&o.index, "index", 0, "Index of the container if service has multiple replicas")
	f.BoolVar(&o.all, "all", false, "Include containers created by the run command")
	f.BoolVarP(&o.follow, "follow-link", "L", false, "Always follow symbol link in SRC_PATH")
	f.BoolVarP(&o.archive, "archive", "a", false, "Archive mode (copy all uid/gid information)")
	return cmd
}

// cp copies from the machine into containers, or the other way.
func (a *app) cp(ctx context.Context, from, to string, o cpOptions) error {
	fromService, src := splitCopyArg(from)
	toService, dst := splitCopyArg(to)
	switch {
	case fromService != "" && toService != "":
		return errors.New("copying between services is not supported; copy to the machine first")
	case fromService == "" && toService == "":
		return errors.New("unknown copy direction: one side must be SERVICE:PATH")
	case src == "" || dst == "":
		return errors.New("the path of a copy must not be empty")
	}
	service := fromService + toService
	t, err := a.resolve(ctx, service)
	if err != nil {
		return err
	}
	list, err := a.copyTargets(ctx, t, service, o)
	if err != nil {
		return err
	}
	if fromService != "" {
		list = list[:1]
	}
	if a.global.dryRun {
		return printLines(a.env.Out, list, func(c runtime.Container) string {
			return fmt.Sprintf("copy %s to %s in container %s", sanitize(from), sanitize(to), sanitize(c.Name))
		})
	}
	if fromService != "" {
		return a.copyOut(ctx, &list[0], src, dst, o)
	}
	return a.copyIn(ctx, list, src, dst, o)
}

// splitCopyArg tells SERVICE:PATH from a local path: absolute, or beginning
// with a dot, or without a colon.
func splitCopyArg(arg string) (service, file string) {
	service, file, ok := strings.Cut(arg, ":")
	if !ok || filepath.IsAbs(arg) || strings.HasPrefix(service, ".") {
		return "", arg
	}
	return service, file
}

// copyTargets are the containers of a service, or the one of an index.
func (a *app) copyTargets(ctx context.Context, t target, service string, o cpOptions) ([]runtime.Container, error) {
	if o.index > 0 {
		c, err := a.container(ctx, t, service, o.index)
		return []runtime.Container{c}, err
	}
	one := withoutOneOffs
	if o.all {
		one = withOneOffs
	}
	list, err := a.containers(ctx, t, []string{service}, one)
	if err == nil && len(list) == 0 {
		err = fmt.Errorf("no container found for service %q in stack %s; berth up -d %s creates it", service, t.Name, service)
	}
	return list, err
}

// copyIn copies a local file or folder, or the archive on standard input, into
// each of the containers.
func (a *app) copyIn(ctx context.Context, list []runtime.Container, src, dst string, o cpOptions) error {
	if src == "-" {
		if len(list) > 1 {
			return fmt.Errorf("standard input can be copied into one container only; service %s has %d, choose one with --index", serviceOf(&list[0]), len(list))
		}
		at, err := a.statIn(ctx, list[0].ID, dst)
		if err != nil {
			return err
		}
		if !at.exists || !at.dir {
			return fmt.Errorf("copy to %s:%s: an archive is extracted into a directory, and this is none", list[0].Name, dst)
		}
		return a.engine.CopyTo(ctx, list[0].ID, at.path, a.env.In, o.archive)
	}
	local := a.local(src)
	if o.follow {
		resolved, err := filepath.EvalSymlinks(local)
		if err != nil {
			return plainCopyError(src, err)
		}
		local = resolved
	}
	info, err := os.Lstat(local)
	if err != nil {
		return plainCopyError(src, err)
	}
	if !info.IsDir() && wantsDir(src) {
		return fmt.Errorf("copy %s: not a directory", src)
	}
	ui := a.progress("Copying")
	defer ui.Stop()
	for i := range list {
		if err := a.copyInto(ctx, &list[i], local, info, src, dst, o, ui); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) copyInto(ctx context.Context, c *runtime.Container, local string, info fs.FileInfo, src, dst string, o cpOptions, ui progress) error {
	at, err := a.statIn(ctx, c.ID, dst)
	if err != nil {
		return err
	}
	place, err := at.place(path.Base(filepath.ToSlash(local)), info.IsDir(), contentsOnly(src))
	if err != nil {
		return fmt.Errorf("copy %s to %s:%s: %w", src, c.Name, dst, err)
	}
	shown := progressEvent{ID: "Container " + c.Name, Text: "Copying", Detail: src + " to " + dst}
	ui.Event(shown)
	archive := archiveOf(local, place.name, o.archive)
	err = a.engine.CopyTo(ctx, c.ID, place.dir, archive, o.archive)
	if closed := archive.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("copy %s to %s:%s: %w", src, c.Name, dst, err)
	}
	shown.Text, shown.State = "Copied", progressDone
	ui.Event(shown)
	return nil
}

// place is where something is to be written: as name in dir, or with an empty
// name its contents into dir.
type place struct{ dir, name string }

// destination is what stands at the path a copy goes to.
type destination struct {
	path   string // symbolic links followed
	asked  string // as the user wrote it
	exists bool
	dir    bool
}

// place says where a source goes, as cp does: into a directory that exists, in
// place of a file, or under a new name.
func (d destination) place(base string, srcDir, contents bool) (place, error) {
	switch {
	case d.exists && d.dir && contents:
		return place{dir: d.path}, nil
	case d.exists && d.dir:
		return place{dir: d.path, name: base}, nil
	case d.exists && srcDir:
		return place{}, errors.New("a directory cannot be copied onto a file")
	case wantsDir(d.asked) && (d.exists || !srcDir):
		return place{}, errors.New("no such directory")
	}
	return place{dir: path.Dir(d.path), name: path.Base(d.path)}, nil
}

// statIn looks at a path in a container. A relative one counts from the root, as Docker has it.
func (a *app) statIn(ctx context.Context, id, p string) (destination, error) {
	d := destination{path: path.Clean("/" + p), asked: p}
	for range maxLinks {
		st, err := a.engine.StatPath(ctx, id, d.path)
		if runtime.IsNotFound(err) {
			if _, gone := a.engine.Inspect(ctx, id); gone != nil {
				return d, gone
			}
			return d, nil
		}
		if err != nil {
			return d, err
		}
		if fs.FileMode(st.Mode)&fs.ModeSymlink == 0 || st.LinkTarget == "" {
			d.exists, d.dir = true, fs.FileMode(st.Mode).IsDir()
			return d, nil
		}
		d.path = linkedPath(d.path, st.LinkTarget)
	}
	return d, fmt.Errorf("%s: too many levels of symbolic links", p)
}

// maxLinks is how many symbolic links are followed, as the kernel does.
const maxLinks = 40

func linkedPath(link, to string) string {
	if path.IsAbs(to) {
		return path.Clean(to)
	}
	return path.Join(path.Dir(link), to)
}

// copyOut copies a file or folder of a container to the machine, or as an
// archive to standard output.
func (a *app) copyOut(ctx context.Context, c *runtime.Container, src, dst string, o cpOptions) error {
	from := path.Clean("/" + src)
	st, err := a.statFile(ctx, c, from)
	if err != nil {
		return err
	}
	for range maxLinks {
		if !o.follow && !wantsDir(src) || fs.FileMode(st.Mode)&fs.ModeSymlink == 0 {
			break
		}
		from = linkedPath(from, st.LinkTarget)
		if st, err = a.statFile(ctx, c, from); err != nil {
			return err
		}
	}
	srcDir := fs.FileMode(st.Mode).IsDir()
	if wantsDir(src) && !srcDir {
		return fmt.Errorf("copy %s:%s: not a directory", c.Name, src)
	}
	archive, _, err := a.engine.CopyFrom(ctx, c.ID, from)
	if err != nil {
		return err
	}
	defer archive.Close()
	if dst == "-" {
		return streamOut(a.env.Out, archive)
	}
	to, err := statLocal(a.local(dst), dst)
	if err != nil {
		return err
	}
	where, err := to.place(path.Base(path.Clean("/"+src)), srcDir, contentsOnly(src))
	if err != nil {
		return fmt.Errorf("copy %s:%s to %s: %w", c.Name, src, dst, err)
	}
	ui := a.progress("Copying")
	defer ui.Stop()
	shown := progressEvent{ID: "Container " + c.Name, Text: "Copying", Detail: src + " to " + dst}
	ui.Event(shown)
	skipped, err := extract(ctx, archive, where, o.archive)
	if err != nil {
		return fmt.Errorf("copy %s:%s to %s: %w", c.Name, src, dst, err)
	}
	for _, name := range skipped {
		a.note(fmt.Sprintf("copy %s:%s: %s is a device or FIFO and has been left out", c.Name, src, name))
	}
	shown.Text, shown.State = "Copied", progressDone
	ui.Event(shown)
	return nil
}

// statFile looks at a path in a container that must exist.
func (a *app) statFile(ctx context.Context, c *runtime.Container, p string) (runtime.PathStat, error) {
	st, err := a.engine.StatPath(ctx, c.ID, p)
	if runtime.IsNotFound(err) {
		return st, fmt.Errorf("copy %s:%s: no such file or directory in container %s", serviceOf(c), p, c.Name)
	}
	return st, err
}

// local is a path of the machine, absolute.
func (a *app) local(p string) string {
	if filepath.IsAbs(p) {
		return filepath.Clean(p)
	}
	return filepath.Join(a.env.WorkingDir, p)
}

func statLocal(p, asked string) (destination, error) {
	d := destination{path: p, asked: asked}
	if resolved, err := filepath.EvalSymlinks(p); err == nil {
		d.path = resolved
	}
	info, err := os.Stat(d.path)
	switch {
	case err == nil:
		d.exists, d.dir = true, info.IsDir()
	case !errors.Is(err, fs.ErrNotExist):
		return d, plainCopyError(asked, err)
	}
	return d, nil
}

// contentsOnly reports whether a path ends in "/.": what is in the directory is
// meant, not the directory.
func contentsOnly(p string) bool { return p == "." || strings.HasSuffix(p, "/.") }

// wantsDir reports whether a path can only name a directory.
func wantsDir(p string) bool { return strings.HasSuffix(p, "/") || contentsOnly(p) }

func plainCopyError(file string, err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return fmt.Errorf("copy %s: %w", file, err)
}
