package docker

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// ignoreRules are the patterns of an ignore file. A nil matcher excludes nothing.
type ignoreRules struct {
	matcher *patternmatcher.PatternMatcher
}

// readIgnore reads the first of the files that exists.
func readIgnore(paths ...string) (*ignoreRules, error) {
	for _, p := range paths {
		if p == "" {
			continue
		}
		f, err := os.Open(p)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		patterns, err := ignorefile.ReadAll(f)
		_ = f.Close() // only read
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p, err)
		}
		m, err := patternmatcher.New(patterns)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p, err)
		}
		return &ignoreRules{matcher: m}, nil
	}
	return &ignoreRules{}, nil
}

// stream packs the context while it is read. Closing it ends the packing.
func (c *contextSource) stream() io.ReadCloser {
	r, w := io.Pipe()
	go func() {
		tw := tar.NewWriter(w)
		err := c.pack(tw)
		if err == nil {
			err = tw.Close()
		}
		if err != nil && !errors.Is(err, io.ErrClosedPipe) {
			err = &packFailure{fmt.Errorf("build context: %w", err)}
		}
		_ = w.CloseWithError(err) // never fails
	}()
	return r
}

// pack writes the archive: the directory in the order of its names, owned by
// root, then the files that are not in it.
func (c *contextSource) pack(w *tar.Writer) error {
	p := &packer{src: c, w: w, parents: map[string]patternmatcher.MatchInfo{}}
	if err := filepath.WalkDir(c.dir, p.visit); err != nil {
		return err
	}
	for _, name := range sortedKeys(c.extra) {
		content := c.extra[name]
		h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(content)), Mode: 0o600}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.WriteString(w, content); err != nil {
			return err
		}
	}
	return nil
}

type packer struct {
	src     *contextSource
	w       *tar.Writer
	parents map[string]patternmatcher.MatchInfo // of the directories seen
}

func (p *packer) visit(path string, d fs.DirEntry, err error) error {
	if err != nil {
		return err
	}
	rel, err := filepath.Rel(p.src.dir, path)
	if err != nil || rel == "." {
		return err
	}
	skip, err := p.excluded(rel, d.IsDir())
	switch {
	case err != nil:
		return err
	case skip && d.IsDir() && !p.src.ignore.matcher.Exclusions():
		return filepath.SkipDir
	case skip:
		return nil
	}
	if _, replaced := p.src.extra[filepath.ToSlash(rel)]; replaced {
		return nil
	}
	return p.add(path, filepath.ToSlash(rel), d)
}

// excluded asks the ignore rules. The Dockerfile is always sent: the engine
// reads it from the archive.
func (p *packer) excluded(rel string, dir bool) (bool, error) {
	m := p.src.ignore.matcher
	if m == nil || filepath.ToSlash(rel) == p.src.dockerfile {
		return false, nil
	}
	parent := p.parents[filepath.Dir(rel)]
	skip, info, err := m.MatchesUsingParentResults(filepath.ToSlash(rel), parent)
	if err != nil {
		return false, err
	}
	if dir {
		p.parents[rel] = info
		if skip && strings.HasPrefix(p.src.dockerfile, filepath.ToSlash(rel)+"/") {
			return false, nil
		}
	}
	return skip, nil
}

// add writes one file. Sockets cannot be in an archive and are left out, as
// the docker command does; of devices and pipes only the entry is sent.
func (p *packer) add(path, name string, d fs.DirEntry) error {
	fi, err := d.Info()
	if err != nil {
		return err
	}
	if fi.Mode()&fs.ModeSocket != 0 {
		return nil
	}
	link := ""
	if fi.Mode()&fs.ModeSymlink != 0 {
		if link, err = os.Readlink(path); err != nil {
			return err
		}
	}
	h, err := tar.FileInfoHeader(fi, filepath.ToSlash(link))
	if err != nil {
		return err
	}
	h.Name = name
	if fi.IsDir() {
		h.Name += "/"
	}
	h.Uid, h.Gid, h.Uname, h.Gname = 0, 0, "", ""
	h.Format = tar.FormatPAX
	if !fi.Mode().IsRegular() {
		return p.w.WriteHeader(h)
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := p.w.WriteHeader(h); err != nil {
		return err
	}
	if n, err := io.CopyN(p.w, f, h.Size); err != nil {
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("%s became shorter while it was read (%d of %d bytes)", path, n, h.Size)
		}
		return err
	}
	return nil
}
