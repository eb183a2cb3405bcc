package daemon

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/berth-dev/berth/internal/reconcile"
	"github.com/berth-dev/berth/runtime"
)

func recordOf(replicas int) *record {
	r := &record{Desired: &reconcile.Desired{
		Stack: shop(svc("web", replicas)), Owner: "me",
		Services: map[string]reconcile.ServiceState{"web": {Want: reconcile.WantRunning}},
	}}
	r.declare(r.Desired, time.Unix(1, 0), "")
	return r
}

func replicasOf(r *record) int { return r.Desired.Stack.Services[0].Replicas }

// Fault 4: at whatever byte a write was cut off, the state before it is read,
// and never an empty one.
func TestEveryTruncationIsNoticed(t *testing.T) {
	s := newStore(t.TempDir())
	for _, n := range []int{2, 3} {
		if err := s.save("shop", recordOf(n)); err != nil {
			t.Fatal(err)
		}
	}
	path := s.path("shop")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for size := range len(whole) {
		if err := os.WriteFile(path, whole[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		r, note, err := s.load("shop")
		if err != nil || note == "" || replicasOf(r) != 2 {
			t.Fatalf("cut at byte %d of %d: %+v, note %q, err %v", size, len(whole), r, note, err)
		}
	}
}

// A changed byte anywhere is noticed, or changes nothing.
func TestEveryDamagedByteIsNoticed(t *testing.T) {
	s := newStore(t.TempDir())
	if err := s.save("shop", recordOf(3)); err != nil {
		t.Fatal(err)
	}
	path := s.path("shop")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want, _ := json.Marshal(recordOf(3))
	for i := range whole {
		damaged := bytes.Clone(whole)
		damaged[i] ^= 1
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		r, _, err := s.load("shop")
		if have, _ := json.Marshal(r); err == nil && !bytes.Equal(have, want) {
			t.Fatalf("byte %d (%q to %q) went unnoticed: %s", i, whole[i], damaged[i], have)
		}
	}
}

// When neither file can be read it is an error, and both stay as they are.
func TestUnreadableStateStays(t *testing.T) {
	s := newStore(t.TempDir())
	path := s.path("shop")
	for _, p := range []string{path, path + ".prev"} {
		if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte("?"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if r, _, err := s.load("shop"); err == nil {
		t.Fatalf("read %+v of damaged files", r)
	}
	if names, err := s.names(); err != nil || len(names) != 1 || names[0] != "shop" {
		t.Errorf("names are %v, %v: a damaged stack is still one", names, err)
	}
	for _, p := range []string{path, path + ".prev"} {
		if data, err := os.ReadFile(p); err != nil || string(data) != "?" {
			t.Errorf("%s was touched: %q %v", p, data, err)
		}
	}
}

// Fault 8: a newer schema is refused, also when an older file lies beside it.
func TestNewerSchemaIsRefused(t *testing.T) {
	s := newStore(t.TempDir())
	for range 2 {
		if err := s.save("shop", recordOf(1)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(s.path("shop"), []byte(`{"schema":2,"sha256":"","state":{}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.load("shop"); !errors.Is(err, errNewerSchema) {
		t.Errorf("err = %v, want errNewerSchema", err)
	}
}

// Fault 27: a write that fails leaves the file as it was and no temporary one.
// A process of its own, in which no file may grow beyond 64 bytes, fails half
// way through the temporary file, as on a full disk.
func TestFailedWriteLeavesTheOldState(t *testing.T) {
	if dir := os.Getenv("BERTH_TEST_SMALL_FILES"); dir != "" {
		saveWithSmallFiles(t, dir)
		return
	}
	s := newStore(t.TempDir())
	if err := s.save("shop", recordOf(2)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestFailedWriteLeavesTheOldState$", "-test.v")
	cmd.Env = append(os.Environ(), "BERTH_TEST_SMALL_FILES="+s.dir)
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("nothing was changed")) {
		t.Fatalf("a write beyond the limit: %v\n%s", err, out)
	}
	if r, note, err := s.load("shop"); err != nil || note != "" || replicasOf(r) != 2 {
		t.Errorf("after a failed write: %+v %q %v", r, note, err)
	}
	entries, err := os.ReadDir(filepath.Dir(s.path("shop")))
	if err != nil || len(entries) != 1 {
		t.Errorf("files left: %v %v", entries, err)
	}
}

func saveWithSmallFiles(t *testing.T, dir string) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	small := limit
	small.Cur = 64
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &small); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit) }() // for the coverage, which is written last
	err := newStore(dir).save("shop", recordOf(3))
	if err == nil {
		t.Fatal("a file grew beyond the limit")
	}
	t.Log(err)
}

func TestSaveKeepsThePreviousFile(t *testing.T) {
	s := newStore(t.TempDir())
	for n := 1; n <= 3; n++ {
		if err := s.save("shop", recordOf(n)); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]int{s.path("shop"): 3, s.path("shop") + ".prev": 2} {
		r, err := readRecord(path)
		if err != nil || replicasOf(r) != want {
			t.Errorf("%s: %+v %v, want %d replicas", path, r, err, want)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v (%v)", path, info.Mode(), err)
		}
	}
	if err := s.remove("shop"); err != nil {
		t.Fatal(err)
	}
	if names, err := s.names(); err != nil || len(names) > 0 {
		t.Errorf("after the removal: %v %v", names, err)
	}
}

// Whatever a stack is called, its file stays below the state folder.
func TestNamesStayInTheFolder(t *testing.T) {
	s := newStore(t.TempDir())
	for _, name := range []string{"../../etc/passwd", "a/b", "..", "%2e%2e"} {
		if err := s.save(name, recordOf(1)); err != nil {
			t.Fatalf("%q: %v", name, err)
		}
		if dir := filepath.Dir(s.path(name)); dir != filepath.Join(s.dir, "stacks") {
			t.Errorf("%q is stored in %s", name, dir)
		}
	}
	names, err := s.names()
	if err != nil || len(names) != 4 {
		t.Errorf("names are %q, %v", names, err)
	}
}

func TestDeclarationsAreKept(t *testing.T) {
	r := &record{}
	for i := range 15 {
		d := &reconcile.Desired{Stack: shop(svc("web", i))}
		r.declare(d, time.Unix(int64(i), 0), "")
		r.declare(d, time.Unix(int64(i), 1), "") // the same again
	}
	if n := len(r.Revisions); n != keptRevisions {
		t.Fatalf("%d declarations are kept, want %d", n, keptRevisions)
	}
	if first, last := r.Revisions[0].Number, r.Revisions[keptRevisions-1].Number; first != 6 || last != 15 {
		t.Errorf("kept are %d to %d, want 6 to 15", first, last)
	}
}

func TestOwnerIsMadeOnce(t *testing.T) {
	dir := t.TempDir()
	a, err := newStore(dir).owner()
	if err != nil {
		t.Fatal(err)
	}
	b, err := newStore(dir).owner()
	if err != nil || a != b || len(a) < 16 {
		t.Errorf("owners %q and %q (%v)", a, b, err)
	}
	if info, err := os.Stat(filepath.Join(dir, "owner")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the owner's file: %v %v", info, err)
	}
}

// When only the owner's file is lost, the stored stacks tell the owner.
func TestOwnerIsRecovered(t *testing.T) {
	s := newStore(t.TempDir())
	if err := s.save("shop", recordOf(1)); err != nil {
		t.Fatal(err)
	}
	if id, err := s.owner(); err != nil || id != "me" {
		t.Errorf("the owner is %q, %v", id, err)
	}
}

// Secrets are files of their owner alone, in the runtime folder, and go with
// what names them.
func TestContents(t *testing.T) {
	c := &contents{dir: t.TempDir()}
	if err := c.put("shop", map[string][]byte{"secret/a": []byte("canary-a"), "../b": []byte("canary-b")}); err != nil {
		t.Fatal(err)
	}
	if data, err := c.get("shop", "../b"); err != nil || string(data) != "canary-b" {
		t.Errorf("../b is %q, %v", data, err)
	}
	err := filepath.WalkDir(c.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == c.dir {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %s", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.keepOnly("shop", []string{"secret/a"}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.get("shop", "../b"); err == nil || !strings.Contains(err.Error(), "up again") || strings.Contains(err.Error(), "canary") {
		t.Errorf("a content that is gone: %v", err)
	}
	if err := c.drop("shop"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.get("shop", "secret/a"); err == nil {
		t.Error("dropped contents are still there")
	}
}

// No secret's content is part of the stored state.
func TestStateHoldsNoContents(t *testing.T) {
	s := newStore(t.TempDir())
	r := recordOf(1)
	r.Desired.Stack.Services[0].Spec.Files = []runtime.File{{Name: "secret/a", Target: "/run/secrets/a"}}
	if err := s.save("shop", r); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(s.path("shop"))
	if err != nil || !bytes.Contains(data, []byte("secret/a")) || bytes.Contains(data, []byte("canary")) {
		t.Errorf("the state is %s (%v)", data, err)
	}
}

func FuzzReadRecord(f *testing.F) {
	good := func() []byte {
		s := newStore(f.TempDir())
		if err := s.save("shop", recordOf(2)); err != nil {
			f.Fatal(err)
		}
		data, err := os.ReadFile(s.path("shop"))
		if err != nil {
			f.Fatal(err)
		}
		return data
	}()
	f.Add(good)
	f.Add([]byte(`{"schema":1,"sha256":"","state":null}`))
	f.Add([]byte{})
	path := filepath.Join(f.TempDir(), "state.json")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if r, err := readRecord(path); err == nil && (r.Desired == nil || r.Desired.Stack == nil) {
			t.Errorf("%q reads as an empty state", data)
		}
	})
}
