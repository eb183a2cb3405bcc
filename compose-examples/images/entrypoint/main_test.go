package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSettingFromFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("p w\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ value, file, want, err string }{
		"value":        {"plain", "", "plain", ""},
		"file":         {"", file, "p w", ""},
		"neither":      {"", "", "", ""},
		"both":         {"plain", file, "", "both set"},
		"missing file": {"", file + "x", "", "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("SETTING", tc.value)
			t.Setenv("SETTING_FILE", tc.file)
			got, err := setting("SETTING")
			if got != tc.want || (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

// A container killed while the new cluster is moved in goes on moving it; one
// that holds a cluster already is left alone.
func TestEnsureClusterGoesOnAfterAKill(t *testing.T) {
	data := t.TempDir()
	fresh := filepath.Join(data, ".berth-init")
	for _, dir := range []string{fresh, filepath.Join(fresh, "base"), filepath.Join(data, "global")} { // global is there already
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"PG_VERSION", "pg_hba.conf", "berth-complete"} {
		if err := os.WriteFile(filepath.Join(fresh, file), []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := ensureCluster(data, ""); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"PG_VERSION", "pg_hba.conf", "base", "global"} {
			if _, err := os.Stat(filepath.Join(data, name)); err != nil {
				t.Error(err)
			}
		}
		if _, err := os.Stat(fresh); err == nil {
			t.Error("the folder of the unfinished move is still there")
		}
	}
}

func TestNoPasswordIsAnError(t *testing.T) {
	if err := ensureCluster(t.TempDir(), ""); err == nil || !strings.Contains(err.Error(), "POSTGRES_PASSWORD") {
		t.Errorf("a cluster without a password: %v", err)
	}
}

func TestUnknownCommand(t *testing.T) {
	for _, args := range [][]string{nil, {"no-such-server"}} {
		if err := run(args); err == nil {
			t.Errorf("%q was run", args)
		}
	}
}
