package daemon

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// contents keeps what configs and secrets hold, as files of mode 0600 in the
// runtime folder, which is memory on Linux systems. They never enter the state.
type contents struct{ dir string }

func (c *contents) folder(stack string) string {
	return filepath.Join(c.dir, "contents", url.PathEscape(stack))
}

// put stores contents of a stack beside those it has.
func (c *contents) put(stack string, files map[string][]byte) error {
	if len(files) == 0 {
		return nil
	}
	dir := c.folder(stack)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("keep contents of configs and secrets: %w", err)
	}
	for name, data := range files {
		if err := writePrivate(filepath.Join(dir, fileKey(name)), data); err != nil {
			return fmt.Errorf("keep content of %s: %w", name, err)
		}
	}
	return nil
}

// writePrivate writes a whole file or none.
func writePrivate(path string, data []byte) error {
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return os.Rename(tmp, path)
}

// get returns one content. After a reboot there is none.
func (c *contents) get(stack, name string) ([]byte, error) {
	data, err := os.ReadFile(filepath.Join(c.folder(stack), fileKey(name))) // #nosec G304 -- a hash below the runtime folder
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the content of %s is no longer kept, as after a reboot; run up again", name)
	}
	return data, err
}

// keepOnly removes the contents of a stack that are no longer named.
func (c *contents) keepOnly(stack string, names []string) error {
	keep := map[string]bool{}
	for _, n := range names {
		keep[fileKey(n)] = true
	}
	entries, err := os.ReadDir(c.folder(stack))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if !keep[strings.TrimSuffix(e.Name(), ".tmp")] {
			errs = append(errs, os.Remove(filepath.Join(c.folder(stack), e.Name())))
		}
	}
	return errors.Join(errs...)
}

// drop removes all contents of a stack.
func (c *contents) drop(stack string) error { return os.RemoveAll(c.folder(stack)) }

// fileKey is the file name of a content: its name may hold any character.
func fileKey(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:16])
}
