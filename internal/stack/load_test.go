package stack_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/berth-dev/berth/internal/stack"
)

// project writes files into a new directory and returns it.
func project(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "shop")
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestLoadOrdinaryFile(t *testing.T) {
	dir := project(t, map[string]string{"compose.yaml": `
services:
  web:
    image: nginx:${TAG:-1}
    ports: ["8080:80"]
    environment: {A: b, C: }
    depends_on: {db: {condition: service_healthy}}
    deploy: {replicas: 1, resources: {limits: {cpus: "0.3", memory: 64M}}}
  db:
    build: .
    volumes: [data:/data, /anon, ./x:/x]
    secrets: [pw]
volumes: {data: {}}
secrets: {pw: {environment: PW}}
`})
	got, err := stack.Load(t.Context(), stack.LoadOptions{WorkingDir: dir, Environ: []string{"PW=canary", "C=v"}})
	if err != nil {
		t.Fatal(err)
	}
	out, err := json.MarshalIndent(got.Stack, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if len(out) == 0 {
		t.Error("empty")
	}
}
