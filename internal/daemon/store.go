package daemon

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/berth-dev/berth/internal/balance"
	"github.com/berth-dev/berth/internal/reconcile"
	"github.com/berth-dev/berth/internal/stack"
)

// stateSchema is the version of the state files this program writes.
const stateSchema = 1

// keptRevisions is how many declarations of a stack its file remembers.
const keptRevisions = 10

// record is what is stored of one stack.
type record struct {
	Desired   *reconcile.Desired `json:"desired"`
	Memory    reconcile.Memory   `json:"memory"`
	Revisions []declaration      `json:"revisions,omitempty"` // newest last
	// Scaling is what is remembered of the scaling of services.
	Scaling map[string]json.RawMessage `json:"scaling,omitempty"` // a [scaled] each
	// ImageLooks are when the services' images were last looked for.
	ImageLooks map[string]time.Time `json:"imageLooks,omitempty"`
	// Frontends are what the balancer listens at for the stack.
	Frontends []balance.Frontend `json:"frontends,omitempty"`
}

// declaration is one accepted declaration of a stack.
type declaration struct {
	Number int          `json:"number"`
	At     time.Time    `json:"at"`
	Cause  string       `json:"cause,omitempty"` // empty: an up
	Stack  *stack.Stack `json:"stack"`
	// Images are the IDs of the images that its services ran, where known.
	Images map[string]string `json:"images,omitempty"`
}

// declare remembers a declaration, unless it is the same as the last one.
func (r *record) declare(d *reconcile.Desired, now time.Time, cause string) {
	images := map[string]string{}
	for name, st := range d.Services {
		if st.ImageID != "" {
			images[name] = st.ImageID
		}
	}
	if n := len(r.Revisions); n > 0 && same(r.Revisions[n-1].Stack, d.Stack) && maps.Equal(r.Revisions[n-1].Images, images) {
		return
	}
	r.Revisions = append(slices.Clone(r.Revisions), declaration{Number: r.newest() + 1, At: now, Cause: cause, Stack: d.Stack, Images: images})
	r.Revisions = r.Revisions[max(0, len(r.Revisions)-revisionLimit(d.Stack)):]
}

// newest is the number of the last declaration; 0: there is none.
func (r *record) newest() int {
	if n := len(r.Revisions); n > 0 {
		return r.Revisions[n-1].Number
	}
	return 0
}

// same reports whether two values are stored as the same.
func same(a, b any) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// envelope is the form of a state file: the checksum tells a torn or damaged
// file from a whole one.
type envelope struct {
	Schema int             `json:"schema"`
	SHA256 string          `json:"sha256"`
	State  json.RawMessage `json:"state"`
}

// errNewerSchema refuses a file that a newer Berth wrote; it is left untouched.
var errNewerSchema = errors.New("was written by a newer version of Berth; use that version")

// store keeps one file per stack. A file is replaced as a whole (temporary
// file, fsync, rename), and the one before it is kept as <name>.prev.
type store struct {
	dir   string
	write func(path string, data []byte) error // replaces a file atomically; a seam for tests
}

func newStore(dir string) *store { return &store{dir: dir, write: replaceFile} }

// path is a stack's file. A stack's name is checked by the loader, and escaped
// all the same, so that no name leaves the folder.
func (s *store) path(name string) string {
	return filepath.Join(s.dir, "stacks", url.PathEscape(name)+".json")
}

// save writes a stack's record. On failure the last good file stands.
func (s *store) save(name string, r *record) error {
	if err := s.put(s.path(name), r); err != nil {
		return fmt.Errorf("store stack %s: %w; nothing was changed", name, err)
	}
	return nil
}

// put writes one state file.
func (s *store) put(path string, v any) error {
	state, err := json.Marshal(v)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(state)
	data, err := json.Marshal(envelope{Schema: stateSchema, SHA256: hex.EncodeToString(sum[:]), State: state})
	if err != nil {
		return err
	}
	return s.write(path, data)
}

// nodesPath is the file of what commands have made of nodes.
func (s *store) nodesPath() string { return filepath.Join(s.dir, "nodes.json") }

// saveNodes writes what commands have made of nodes.
func (s *store) saveNodes(st nodeState) error {
	if err := s.put(s.nodesPath(), st); err != nil {
		return fmt.Errorf("store nodes: %w; nothing was changed", err)
	}
	return nil
}

// loadNodes reads it back; note says when the file before it had to be taken.
func (s *store) loadNodes() (st nodeState, note string, err error) {
	path := s.nodesPath()
	err = readState(path, &st)
	if err == nil || errors.Is(err, errNewerSchema) {
		return st, "", err
	}
	missing := errors.Is(err, fs.ErrNotExist)
	st = nodeState{}
	prevErr := readState(path+".prev", &st)
	switch {
	case prevErr == nil:
		return st, fmt.Sprintf("%v; the state of the nodes before it was taken", err), nil
	case missing && errors.Is(prevErr, fs.ErrNotExist):
		return nodeState{}, "", nil
	default:
		return nodeState{}, "", fmt.Errorf("read the state of the nodes: %w (and %w)", err, prevErr)
	}
}

// load reads a stack's record. When its file is torn or damaged the one before
// it is taken, and note says so; when neither can be read the error says why,
// and the files are left for a person to look at.
func (s *store) load(name string) (r *record, note string, err error) {
	path := s.path(name)
	r, err = readRecord(path)
	if err == nil || errors.Is(err, errNewerSchema) {
		return r, "", err
	}
	prev, prevErr := readRecord(path + ".prev")
	if prevErr != nil {
		return nil, "", fmt.Errorf("read state: %w (and %w)", err, prevErr)
	}
	return prev, fmt.Sprintf("%v; the state before it was taken", err), nil
}

// readState reads one state file into v.
func readState(path string, v any) error {
	data, err := os.ReadFile(path) // #nosec G304 -- below the state folder
	if err != nil {
		return err
	}
	var e envelope
	if err := json.Unmarshal(data, &e); err != nil {
		return fmt.Errorf("%s is damaged: %w", path, err)
	}
	if e.Schema > stateSchema {
		return fmt.Errorf("%s %w", path, errNewerSchema)
	}
	if sum := sha256.Sum256(e.State); hex.EncodeToString(sum[:]) != e.SHA256 {
		return fmt.Errorf("%s is damaged: its checksum does not match", path)
	}
	if err := json.Unmarshal(e.State, v); err != nil {
		return fmt.Errorf("%s is damaged: %w", path, err)
	}
	return nil
}

func readRecord(path string) (*record, error) {
	r := &record{}
	if err := readState(path, r); err != nil {
		return nil, err
	}
	if r.Desired == nil || r.Desired.Stack == nil {
		return nil, fmt.Errorf("%s is damaged: it declares no stack", path)
	}
	return r, nil
}

// names lists the stacks that have a file, or only the file before it.
func (s *store) names() ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(s.dir, "stacks"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read state folder: %w", err)
	}
	seen := map[string]bool{}
	var names []string
	for _, e := range entries {
		base, ok := strings.CutSuffix(strings.TrimSuffix(e.Name(), ".prev"), ".json")
		name, err := url.PathUnescape(base)
		if !ok || err != nil || seen[name] {
			continue
		}
		seen[name] = true
		names = append(names, name)
	}
	return names, nil
}

// remove forgets a stack that is gone.
func (s *store) remove(name string) error {
	var errs []error
	for _, path := range []string{s.path(name), s.path(name) + ".prev"} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// ownerFile holds an installation's id, in its state folder.
const ownerFile = "owner"

// owner returns this installation's id, and makes one at the first call. When
// only its file was lost, the stored stacks still tell it.
func (s *store) owner() (string, error) {
	path := filepath.Join(s.dir, ownerFile)
	data, err := os.ReadFile(path) // #nosec G304 -- below the state folder
	if id := strings.TrimSpace(string(data)); err == nil && id != "" {
		return id, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read owner: %w", err)
	}
	id := s.storedOwner()
	if id == "" {
		var raw [8]byte
		if _, err := rand.Read(raw[:]); err != nil {
			return "", fmt.Errorf("make an owner id: %w", err)
		}
		id = hex.EncodeToString(raw[:])
	}
	if err := s.write(path, []byte(id+"\n")); err != nil {
		return "", fmt.Errorf("store owner: %w", err)
	}
	return id, nil
}

// storedOwner is the owner that the stored stacks were declared by; empty when
// there is none.
func (s *store) storedOwner() string {
	names, err := s.names()
	if err != nil {
		return "" // reading the stacks says so in its turn
	}
	for _, name := range names {
		if r, _, err := s.load(name); err == nil && r.Desired.Owner != "" {
			return r.Desired.Owner
		}
	}
	return ""
}

// replaceFile writes a file beside its place, flushes it to the disk, keeps the
// one it replaces as <path>.prev, and renames it into place.
func replaceFile(path string, data []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, ".tmp-*")
	if err != nil {
		return err
	}
	_, err = tmp.Write(data)
	err = cmp.Or(err, tmp.Sync())
	err = cmp.Or(err, tmp.Close())
	if err == nil {
		err = keepPrevious(path)
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return syncDir(dir)
}

// keepPrevious gives the present file a second name, in one step.
func keepPrevious(path string) error {
	link := path + ".link"
	if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Link(path, link); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	return os.Rename(link, path+".prev")
}

// syncDir makes a rename survive a power failure.
func syncDir(dir string) error {
	d, err := os.Open(dir) // #nosec G304 -- below the state folder
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
