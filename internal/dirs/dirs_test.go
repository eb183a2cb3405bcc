package dirs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func environ(vars map[string]string) func(string) string {
	return func(k string) string { return vars[k] }
}

func TestForIsPerUserAndEndpoint(t *testing.T) {
	env := environ(map[string]string{"XDG_STATE_HOME": "/s", "XDG_RUNTIME_DIR": "/r"})
	a, err := For(env, "unix:///a.sock")
	if err != nil {
		t.Fatal(err)
	}
	b, err := For(env, "unix:///b.sock")
	if err != nil {
		t.Fatal(err)
	}
	if a == b || !strings.HasPrefix(a.State, "/s/berth/") || !strings.HasPrefix(a.Socket(), "/r/berth/") {
		t.Errorf("folders %+v and %+v", a, b)
	}
	again, err := For(env, "unix:///a.sock")
	if err != nil || again != a {
		t.Errorf("client and daemon do not meet: %+v, %v", again, err)
	}
}

func TestForWithoutAHome(t *testing.T) {
	if _, err := For(environ(nil), "x"); err == nil || !strings.Contains(err.Error(), "HOME") {
		t.Errorf("err = %v, want one that names HOME", err)
	}
	d, err := For(environ(map[string]string{"HOME": "/h", "XDG_STATE_HOME": "relative"}), "x")
	if err != nil || !strings.HasPrefix(d.State, "/h/.local/state/berth/") {
		t.Errorf("%+v, %v", d, err)
	}
}

func TestCreateRefusesWhatAnotherUserCouldHavePrepared(t *testing.T) {
	create := func(t *testing.T, prepare func(runtime string)) error {
		t.Helper()
		base := t.TempDir()
		d := Dirs{State: filepath.Join(base, "state"), Runtime: filepath.Join(base, "run", "key")}
		if err := os.MkdirAll(filepath.Dir(d.Runtime), 0o700); err != nil {
			t.Fatal(err)
		}
		prepare(d.Runtime)
		return d.Create()
	}
	if err := create(t, func(string) {}); err != nil {
		t.Errorf("a fresh folder is refused: %v", err)
	}
	for name, prepare := range map[string]func(string){
		"symbolic link": func(p string) { must(t, os.Symlink(t.TempDir(), p)) },
		"written to by": func(p string) { must(t, os.Mkdir(p, 0o700)); must(t, os.Chmod(p, 0o777)) }, // #nosec G302 -- that is what is refused
		"not a":         func(p string) { must(t, os.WriteFile(p, nil, 0o600)) },
	} {
		if err := create(t, prepare); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: err = %v", name, err)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
