package cli

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// archiveOf is a tar archive of a local file or folder, under name; with an
// empty name a folder's contents only. Closing it ends the work and reports
// what went wrong with it.
func archiveOf(local, name string, owners bool) io.ReadCloser {
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		t := tar.NewWriter(w)
		err := writeTree(t, local, name, owners)
		if err == nil {
			err = t.Close()
		}
		_ = w.CloseWithError(err) // never fails
		done <- err
	}()
	return &localArchive{PipeReader: r, done: done}
}

type localArchive struct {
	*io.PipeReader
	done chan error
}

func (a *localArchive) Close() error {
	_ = a.PipeReader.Close() // never fails
	if err := <-a.done; !errors.Is(err, io.ErrClosedPipe) {
		return err
	}
	return nil // the engine had read enough
}

// writeTree adds a file or folder and all below it. Symbolic links are added as
// links, sockets are left out.
func writeTree(t *tar.Writer, local, name string, owners bool) error {
	return filepath.WalkDir(local, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(local, file)
		if err != nil {
			return err
		}
		in := path.Join(name, filepath.ToSlash(rel))
		if in == "." {
			return nil // the folder itself, of which only the contents are asked for
		}
		info, err := entry.Info()
		if err != nil || info.Mode()&fs.ModeSocket != 0 {
			return err
		}
		return writeEntry(t, file, in, info, owners)
	})
}

func writeEntry(t *tar.Writer, file, name string, info fs.FileInfo, owners bool) error {
	link := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		var err error
		if link, err = os.Readlink(file); err != nil {
			return err
		}
	}
	h, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return err
	}
	h.Name, h.Uname, h.Gname, h.Format = name, "", "", tar.FormatPAX
	if info.IsDir() {
		h.Name += "/"
	}
	if !owners {
		h.Uid, h.Gid = 0, 0
	}
	if err := t.WriteHeader(h); err != nil || !info.Mode().IsRegular() {
		return err
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if n, err := io.CopyN(t, f, h.Size); err != nil {
		return fmt.Errorf("%s: %d of %d bytes could be read: %w", file, n, h.Size, err)
	}
	return nil
}

func streamOut(w io.Writer, archive io.Reader) error {
	_, err := io.Copy(w, archive)
	return err
}

// extract writes the archive of one file or folder to a place, and never
// outside of it, whatever the archive says. It returns what it left out:
// devices and FIFOs.
func extract(ctx context.Context, archive io.Reader, to place, owners bool) (skipped []string, err error) {
	dir, err := os.OpenRoot(filepath.FromSlash(to.dir))
	if err != nil {
		return nil, bareError(err)
	}
	x := &extraction{ctx: ctx, root: dir, owners: owners, base: to.name, contents: to.name == ""}
	defer func() { err = errors.Join(err, x.root.Close()) }()
	t := tar.NewReader(archive)
	for first := true; ; first = false {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			if first {
				return nil, errors.New("the archive is empty")
			}
			return x.skipped, x.finish()
		}
		if err != nil {
			return x.skipped, fmt.Errorf("read the archive: %w", err)
		}
		if first {
			if err := x.begin(h); err != nil {
				return nil, err
			}
		}
		if err := x.entry(h, t); err != nil {
			return x.skipped, fmt.Errorf("%s: %w", h.Name, bareError(err))
		}
	}
}

// extraction writes an archive below root.
type extraction struct {
	ctx      context.Context // of the one extraction
	root     *os.Root
	base     string // name below root of what is copied; empty: its contents go into root
	top      string // the archive's name of it
	contents bool   // root existed before and stays as it is
	owners   bool
	dirs     []*tar.Header // to be given their mode and time at the end
	skipped  []string
}

// begin learns the archive's own name of what is copied. A folder becomes the
// root that nothing leaves.
func (x *extraction) begin(h *tar.Header) error {
	x.top = path.Clean(strings.TrimPrefix(h.Name, "/"))
	if h.Typeflag != tar.TypeDir || x.base == "" {
		return nil
	}
	if err := x.root.Mkdir(x.base, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return bareError(err)
	}
	sub, err := x.root.OpenRoot(x.base)
	if err != nil {
		return bareError(err)
	}
	err = x.root.Close()
	x.root, x.base = sub, ""
	return err
}

// name is where an entry goes below root.
func (x *extraction) name(entry string) (string, error) {
	entry = path.Clean(strings.TrimPrefix(entry, "/"))
	rel := entry
	switch {
	case x.top == ".":
	case entry == x.top:
		rel = "."
	default:
		var ok bool
		if rel, ok = strings.CutPrefix(entry, x.top+"/"); !ok {
			return "", errors.New("not below what was asked for")
		}
	}
	name := path.Join(x.base, rel)
	if name == "" {
		name = "."
	}
	if !filepath.IsLocal(filepath.FromSlash(name)) {
		return "", errors.New("the archive's name leaves the destination")
	}
	return filepath.FromSlash(name), nil
}

func (x *extraction) entry(h *tar.Header, content io.Reader) error {
	if err := x.ctx.Err(); err != nil {
		return err
	}
	name, err := x.name(h.Name)
	if err != nil {
		return err
	}
	if h.Typeflag == tar.TypeDir {
		if err := x.root.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if info, err := x.root.Lstat(name); err != nil || !info.IsDir() {
			return errors.Join(err, errors.New("a file stands where a directory is to be"))
		}
		dir := *h
		dir.Name = name
		x.dirs = append(x.dirs, &dir)
		return nil
	}
	if info, err := x.root.Lstat(name); err == nil {
		if info.IsDir() {
			return errors.New("a directory stands where a file is to be")
		}
		if err := x.root.Remove(name); err != nil {
			return err
		}
	}
	switch h.Typeflag {
	case tar.TypeReg:
		return x.file(h, name, content)
	case tar.TypeSymlink:
		if err := x.root.Symlink(h.Linkname, name); err != nil {
			return err
		}
		return x.own(name, h)
	case tar.TypeLink:
		old, err := x.name(h.Linkname)
		if err != nil {
			return err
		}
		return x.root.Link(old, name)
	default:
		x.skipped = append(x.skipped, h.Name)
		return nil
	}
}

func (x *extraction) file(h *tar.Header, name string, content io.Reader) error {
	f, err := x.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	return x.attributes(name, h)
}

// attributes gives a file or directory its owner, mode and time.
func (x *extraction) attributes(name string, h *tar.Header) error {
	if err := x.own(name, h); err != nil {
		return err
	}
	if err := x.root.Chmod(name, h.FileInfo().Mode().Perm()); err != nil {
		return err
	}
	return x.root.Chtimes(name, h.ModTime, h.ModTime)
}

func (x *extraction) own(name string, h *tar.Header) error {
	if !x.owners {
		return nil
	}
	if err := x.root.Lchown(name, h.Uid, h.Gid); err != nil {
		return fmt.Errorf("--archive keeps the owner %d:%d: %w", h.Uid, h.Gid, bareError(err))
	}
	return nil
}

// finish gives the directories their modes, the innermost first: one may forbid to write into it.
func (x *extraction) finish() error {
	for _, h := range slices.Backward(x.dirs) {
		if h.Name == "." && x.contents {
			continue
		}
		if err := x.attributes(h.Name, h); err != nil {
			return fmt.Errorf("%s: %w", h.Name, bareError(err))
		}
	}
	return nil
}

// bareError drops the operation and path of a file error: the caller names the file.
func bareError(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return fmt.Errorf("%s: %w", pe.Path, pe.Err)
	}
	var le *os.LinkError
	if errors.As(err, &le) {
		return fmt.Errorf("%s: %w", le.New, le.Err)
	}
	return err
}
