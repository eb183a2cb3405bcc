package stack_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
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

// TestLoadNamesOnly: what acts on a stack that runs needs no file or variable
// that only an up reads.
func TestLoadNamesOnly(t *testing.T) {
	dir := project(t, map[string]string{"compose.yaml": `
services:
  web: {image: x, env_file: gone.env, label_file: gone, secrets: [variable, file, {source: file, target: own, mode: 0400}], configs: [conf], pre_stop: [{command: [bye], environment: {WHY: }}]}
secrets: {variable: {environment: GONE}, file: {file: gone.txt}}
configs: {conf: {file: gone.conf}}
`})
	opts := stack.LoadOptions{WorkingDir: dir, Environ: []string{"WHY=tired"}}
	if _, err := stack.Load(t.Context(), opts); err == nil {
		t.Fatal("loaded without the files")
	}
	opts.NamesOnly = true
	got, err := stack.Load(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	web := got.Stack.Service("web")
	if got.Stack.Name != "shop" || web == nil {
		t.Fatalf("loaded %+v", got.Stack)
	}
	if hooks := web.PreStop; len(hooks) != 1 || !slices.Equal(hooks[0].Env, []string{"WHY=tired"}) { // a down runs them
		t.Errorf("the hooks are %+v", hooks)
	}
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
	var names []string
	for _, svc := range got.Stack.Services {
		names = append(names, svc.Name)
	}
	if want := []string{"db", "web"}; !slices.Equal(names, want) {
		t.Errorf("services %v, want %v", names, want)
	}
	web := got.Stack.Service("web")
	if web.Spec.Image != "nginx:1" || !slices.Contains(web.Spec.Env, "C=v") || web.Spec.Limits.Memory != 64<<20 {
		t.Errorf("web is %+v", web.Spec)
	}
	if mounts := got.Stack.Service("db").Spec.Mounts; len(mounts) != 3 {
		t.Errorf("db mounts %+v, want a named volume, an anonymous one and a folder", mounts)
	}
	out, err := json.Marshal(got.Stack)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(out), "canary") {
		t.Error("the secret stands in the stack")
	}
}
