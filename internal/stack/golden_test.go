package stack

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// loadRich loads the file that uses nearly every key.
func loadRich(t *testing.T) (*Loaded, string) {
	t.Helper()
	dir, err := filepath.Abs("testdata/rich")
	if err != nil {
		t.Fatal(err)
	}
	got, err := Load(t.Context(), LoadOptions{WorkingDir: dir, Environ: []string{"FROM_SHELL=shell", "SECRET_VALUE=canary-env"}})
	if err != nil {
		t.Fatal(err)
	}
	return got, dir
}

func TestRichFile(t *testing.T) {
	got, dir := loadRich(t)
	out, err := json.MarshalIndent(map[string]any{"stack": got.Stack, "warnings": got.Warnings}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	out = bytes.ReplaceAll(out, []byte(dir), []byte("/project"))
	// A revision covers the absolute paths of bind mounts, so it differs from one
	// checkout to the next; what it depends on is tested elsewhere.
	out = regexp.MustCompile(`"revision": "[0-9a-f]{16}"`).ReplaceAll(out, []byte(`"revision": "…"`))
	golden(t, "testdata/rich.golden.json", append(out, '\n'))
}

func TestContentsAreApart(t *testing.T) {
	got, _ := loadRich(t)
	want := map[string]string{"config/inline": "tag=1.2\n", "config/plain": "plain\n", "secret/envd": "canary-env"}
	for name, content := range got.Contents {
		prefix, _, _ := strings.Cut(name, "@")
		if want[prefix] != string(content) {
			t.Errorf("content %s = %q, want %q", name, content, want[prefix])
		}
		delete(want, prefix)
	}
	if len(want) > 0 {
		t.Errorf("missing contents: %v", want)
	}
	out, err := json.Marshal([]any{got.Stack, got.Warnings})
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(out, []byte("canary-")) {
		t.Error("a secret stands in the stack or its warnings")
	}
}
