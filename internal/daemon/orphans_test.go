package daemon

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/berth-dev/berth/internal/dirs"
	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/runtime/fake"
)

// proc is a folder of processes, in which a test says what they have open.
type proc struct {
	t    *testing.T
	base string
}

func (p *proc) opens(pid, path string) {
	p.t.Helper()
	fds := filepath.Join(p.base, pid, "fd")
	p.must(os.MkdirAll(fds, 0o700))
	p.must(os.Symlink(path, filepath.Join(fds, "7")))
	root := filepath.Join(p.base, pid, "root")
	if _, err := os.Lstat(root); err != nil {
		p.must(os.Symlink("/", root))
	}
}

func (p *proc) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// state makes the state folder of an installation, and returns the path of its lock.
func (p *proc) state(owner string) string {
	p.t.Helper()
	dir := filepath.Join(p.t.TempDir(), "berth", "0123456789ab")
	p.must(os.MkdirAll(dir, 0o700))
	p.must(os.WriteFile(filepath.Join(dir, ownerFile), []byte(owner+"\n"), 0o600))
	return filepath.Join(dir, "lock")
}

func TestRunningOwners(t *testing.T) {
	p := &proc{t: t, base: t.TempDir()}
	p.opens("1", "/var/lib/dpkg/lock")
	p.opens("17", "socket:[4711]")
	p.opens("18", p.state("aaaaaaaa11111111"))
	p.opens("19", p.state("bbbbbbbb22222222"))
	ids, err := runningOwners(p.base)
	slices.Sort(ids)
	if err != nil || !slices.Equal(ids, []string{"aaaaaaaa11111111", "bbbbbbbb22222222"}) {
		t.Errorf("%v, %v", ids, err)
	}
	p.opens("20", "/gone/berth/0123456789ab/lock (deleted)")
	if ids, err := runningOwners(p.base); err == nil || !strings.Contains(err.Error(), "process 20") {
		t.Errorf("a daemon without a readable id is overlooked: %v, %v", ids, err)
	}
}

// An installation is known by its state, its containers or its daemon; when not
// even the own daemon is to be seen, nobody can be told to be gone.
func TestInstallations(t *testing.T) {
	base := t.TempDir()
	folders := dirs.Dirs{State: filepath.Join(base, "state", "berth", "k1"), Runtime: filepath.Join(base, "run", "berth", "k1")}
	other := filepath.Join(base, "state", "berth", "k2")
	p := &proc{t: t, base: t.TempDir()}
	p.must(os.MkdirAll(other, 0o700))
	p.must(os.WriteFile(filepath.Join(other, ownerFile), []byte("bbbbbbbb22222222\n"), 0o600))
	engine := fake.New(fake.Options{})
	labels := runtime.Identity{Owner: "cccccccc33333333", Stack: "shop", Service: "web", Slot: 1}
	engine.AddImage("app:1", fake.Image{})
	if _, err := engine.Create(t.Context(), "shop-web-1", labels.Labels(), &runtime.Spec{Image: "app:1"}, nil); err != nil {
		t.Fatal(err)
	}
	var known func(string) bool
	d, err := New(Config{Engine: engine, Dirs: folders, Log: zerolog.Nop(), Orphans: func(k func(string) bool) ([]string, error) {
		known = k
		return nil, nil
	}})
	p.must(err)
	d.proc = p.base
	d.removeOrphans(t.Context())
	if known != nil {
		t.Fatal("something may be removed although this daemon is not to be seen")
	}
	p.opens("8", folders.Lock())
	p.opens("9", p.state("eeeeeeee55555555"))
	d.removeOrphans(t.Context())
	if known == nil {
		t.Fatal("nothing is removed although all daemons are to be seen")
	}
	for owner, want := range map[string]bool{d.owner[:8]: true, "bbbbbbbb": true, "cccccccc": true, "dddddddd": false, "eeeeeeee": true} {
		if known(owner) != want {
			t.Errorf("%s is known: %t, want %t", owner, !want, want)
		}
	}
}
