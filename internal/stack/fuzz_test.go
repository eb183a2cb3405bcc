package stack_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-dev/berth/internal/stack"
)

// FuzzLoad feeds any bytes as a Compose file: a load ends, with a stack or
// with one line that names the file.
func FuzzLoad(f *testing.F) {
	for _, seed := range []string{
		plain, service("ports: ['80-90:80-90/udp', 443]"), image("a"),
		"services: {a: {extends: {service: a}}}", "include: [compose.yaml]", "x-berth: {nodes: [{name: a, cpus: 1}]}",
		"a: &a {b: *a}", "services: !reset {}", "services: {a: !override {image: b}}", "services:\n  a:\n    <<: [{image: b}, {image: c}]",
		"services: {a: {image: b, ulimits: {nofile: {soft: 1, hard: x}}}}", "---\nservices: {a: {image: b}}\n---\nnetworks: {c: }",
		"services: {a: {image: b, volumes: [{type: bind}], secrets: [{}], configs: [{}]}}", "services: {a: {image: b, deploy: {replicas: '3'}}}",
	} {
		f.Add([]byte(seed))
	}
	rich, err := os.ReadFile("testdata/rich/compose.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(rich)
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, "compose.yaml"), data, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := stack.Load(t.Context(), stack.LoadOptions{WorkingDir: dir, Environ: []string{"A=b"}})
		if err != nil {
			if msg := err.Error(); strings.ContainsAny(msg, "\n\r\x00\x1b") || msg == "" {
				t.Errorf("not one line: %q", msg)
			}
			return
		}
		again, err := stack.Load(t.Context(), stack.LoadOptions{WorkingDir: dir, Environ: []string{"A=b"}})
		if err != nil {
			t.Fatalf("the second load fails: %v", err)
		}
		for _, s := range got.Stack.Services {
			if o := again.Stack.Service(s.Name); o == nil || o.Revision != s.Revision {
				t.Errorf("service %s has another revision the second time", s.Name)
			}
		}
	})
}
