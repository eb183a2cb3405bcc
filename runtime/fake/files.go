package fake

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/berth-dev/berth/runtime"
)

// file is one entry of a tree. It is replaced, never changed, so trees may share it.
type file struct {
	data     []byte
	mode     fs.FileMode
	uid, gid int
	modTime  time.Time
	link     string
}

// tree is a file system: entries by clean absolute path, "/" included.
type tree struct{ files map[string]*file }

func newTree() *tree {
	return &tree{files: map[string]*file{"/": {mode: fs.ModeDir | 0o755}}}
}

func (t *tree) clone() *tree { return &tree{files: maps.Clone(t.files)} }

func clean(p string) string { return path.Clean("/" + p) }

// mkdirs makes the directory and its parents.
func (t *tree) mkdirs(dir string, now time.Time) {
	for d := clean(dir); t.files[d] == nil; d = path.Dir(d) {
		t.files[d] = &file{mode: fs.ModeDir | 0o755, modTime: now}
	}
}

func (t *tree) put(p string, f *file) {
	p = clean(p)
	t.mkdirs(path.Dir(p), f.modTime)
	t.files[p] = f
}

// under lists the paths of p and all below it, sorted.
func (t *tree) under(p string) []string {
	var out []string
	for q := range t.files {
		if q == p || strings.HasPrefix(q, strings.TrimSuffix(p, "/")+"/") {
			out = append(out, q)
		}
	}
	slices.Sort(out)
	return out
}

// mountedTree is a tree that a container sees at a path.
type mountedTree struct {
	target   string
	tree     *tree
	readOnly bool
}

// resolve finds the tree that holds the container's path, and the path in it.
func (c *container) resolve(p string) (mountedTree, string) {
	p = clean(p)
	best := mountedTree{target: "/", tree: c.root, readOnly: c.spec.ReadOnly}
	for _, m := range c.trees {
		if (p == m.target || strings.HasPrefix(p, m.target+"/")) && len(m.target) > len(best.target) {
			best = m
		}
	}
	return best, clean(strings.TrimPrefix(p, best.target))
}

// find follows symbolic links of the last element.
func (c *container) find(p string) (*file, string) {
	for range 16 {
		m, rel := c.resolve(p)
		f := m.tree.files[rel]
		if f == nil || f.mode&fs.ModeSymlink == 0 {
			return f, clean(p)
		}
		if path.IsAbs(f.link) {
			p = f.link
		} else {
			p = path.Join(path.Dir(clean(p)), f.link)
		}
	}
	return nil, p
}

var errReadOnly = errors.New("the file system is read-only")

func (c *container) write(p string, f *file) error {
	m, rel := c.resolve(p)
	if m.readOnly {
		return fmt.Errorf("write %s: %w", p, errReadOnly)
	}
	m.tree.put(rel, f)
	return nil
}

// archive writes the path and all below it as tar; names begin with its base.
func (c *container) archive(p string) ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	m, rel := c.resolve(p)
	base := path.Base(clean(p))
	for _, q := range m.tree.under(rel) {
		f := m.tree.files[q]
		h, err := tar.FileInfoHeader(info{name: path.Base(q), file: f}, f.link)
		if err != nil {
			return nil, err
		}
		h.Name = path.Join(base, strings.TrimPrefix(q, rel))
		if f.mode.IsDir() {
			h.Name += "/"
		}
		h.Uid, h.Gid = f.uid, f.gid
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

// extract unpacks a tar archive below dir.
func (c *container) extract(dir string, archive []byte, keepOwner bool) error {
	r := tar.NewReader(bytes.NewReader(archive))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("not a tar archive: %w", err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			return fmt.Errorf("read %s: %w", h.Name, err)
		}
		f := &file{data: data, mode: h.FileInfo().Mode(), modTime: h.ModTime, link: h.Linkname}
		if keepOwner {
			f.uid, f.gid = h.Uid, h.Gid
		}
		if err := c.write(path.Join(dir, clean(h.Name)), f); err != nil {
			return err
		}
	}
}

// info is a file as fs.FileInfo.
type info struct {
	name string
	*file
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return int64(len(i.data)) }
func (i info) Mode() fs.FileMode  { return i.mode }
func (i info) ModTime() time.Time { return i.modTime }
func (i info) IsDir() bool        { return i.mode.IsDir() }
func (i info) Sys() any           { return nil }

func (f *file) stat(name string) runtime.PathStat {
	return runtime.PathStat{Name: name, Size: int64(len(f.data)), Mode: uint32(f.mode), ModTime: f.modTime, LinkTarget: f.link}
}

func newFile(data []byte, now time.Time) *file {
	return &file{data: bytes.Clone(data), mode: 0o644, modTime: now}
}
