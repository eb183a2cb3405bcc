package stack

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestPrintedProjectLoadsAgain: what config prints is the same project.
func TestPrintedProjectLoadsAgain(t *testing.T) {
	first, rich := loadRich(t)
	for name, print := range map[string]func() ([]byte, error){"YAML": first.YAML, "JSON": first.JSON} {
		t.Run(name, func(t *testing.T) {
			text, err := print()
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(text, []byte("canary-")) {
				t.Error("a secret's content is printed")
			}
			// The library, and with it Compose, writes these three keys in capitals in JSON.
			text = []byte(strings.NewReplacer(`"Path":`, `"path":`, `"Weight":`, `"weight":`, `"Rate":`, `"rate":`).Replace(string(text)))
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "compose.yaml"), text, 0o600); err != nil {
				t.Fatal(err)
			}
			again, err := Load(t.Context(), LoadOptions{WorkingDir: dir, Files: []string{"compose.yaml"}, ProjectDir: rich, Environ: []string{"SECRET_VALUE=canary-env"}})
			if err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
			for _, s := range first.Stack.Services {
				want, got := s, again.Stack.Service(s.Name)
				if got == nil {
					t.Errorf("%s is gone", s.Name)
					continue
				}
				if s.Name == "web" && len(got.DependsOn) != 2 { // without the inactive one
					t.Errorf("web depends on %v", got.DependsOn)
				}
				want.DependsOn = got.DependsOn
				a, _ := json.Marshal(want)
				b, _ := json.Marshal(got)
				if !bytes.Equal(a, b) {
					t.Errorf("%s is another\nwas %s\nis  %s", s.Name, a, b)
				}
			}
			a, _ := json.Marshal([]any{first.Stack.Nodes, first.Stack.Overcommit, first.Stack.Scheduling})
			b, _ := json.Marshal([]any{again.Stack.Nodes, again.Stack.Overcommit, again.Stack.Scheduling})
			if !bytes.Equal(a, b) {
				t.Errorf("the nodes are others\nwas %s\nis  %s", a, b)
			}
		})
	}
}

func TestLists(t *testing.T) {
	got, _ := loadRich(t)
	for name, c := range map[string]struct{ got, want []string }{
		"services": {got.ServiceNames(), []string{"agent", "backup", "included", "migrate", "db", "web", "worker"}},
		"images":   {got.Images(), []string{"agent", "backup", "included:from-its-own-env", "job:1", "postgres:16", "registry.example.com/web:1.2", "rich-worker", "tools:1"}},
		"volumes":  {got.VolumeNames(), []string{"data", "named"}},
		"networks": {got.NetworkNames(), []string{"back", "default", "front"}},
		"profiles": {got.ProfileNames(), []string{"debug"}},
	} {
		if !slices.Equal(c.got, c.want) {
			t.Errorf("%s: %v, want %v", name, c.got, c.want)
		}
	}
	hashes, err := got.Hashes([]string{"web"})
	if err != nil || len(hashes) != 1 || hashes[0].Revision != got.Stack.Service("web").Revision {
		t.Errorf("hashes %v, %v", hashes, err)
	}
	if _, err := got.Hashes([]string{"nope"}); err == nil {
		t.Error("a service that is not there has a revision")
	}
	if !slices.Contains(got.Environment(), "FROM_SHELL=shell") {
		t.Error("the environment lacks a variable")
	}
	vars := got.Variables()
	if i := slices.IndexFunc(vars, func(v Variable) bool { return v.Name == "TAG" }); i < 0 || vars[i].Default != "1.2" || vars[i].Required {
		t.Errorf("variables %+v", vars)
	}
	part, err := got.Select([]string{"db"})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"included", "migrate", "db"}; !slices.Equal(part.ServiceNames(), want) {
		t.Errorf("db alone is %v, want %v", part.ServiceNames(), want)
	}
}

func TestPrintWithoutInterpolation(t *testing.T) {
	dir, err := filepath.Abs("testdata/rich")
	if err != nil {
		t.Fatal(err)
	}
	got, err := Load(t.Context(), LoadOptions{WorkingDir: dir, NoInterpolate: true, Environ: []string{"SECRET_VALUE=canary-env"}})
	if err != nil {
		t.Fatal(err)
	}
	text, err := got.YAML()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "registry.example.com/web:${TAG:-1.2}") {
		t.Errorf("the variable is gone:\n%s", text)
	}
	if strings.Contains(string(text), "canary-") {
		t.Error("a secret's content is printed")
	}
	if got.Stack != nil {
		t.Error("there is a stack")
	}
}
