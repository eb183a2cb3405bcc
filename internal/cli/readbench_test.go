package cli

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/runtime/fake"
)

// BenchmarkPs is ps of 50 replicas without the engine and the process's start.
func BenchmarkPs(b *testing.B) {
	engine := fake.New(fake.Options{})
	b.Cleanup(func() { _ = engine.Close() })
	engine.AddImage("test", fake.TestImage())
	for slot := 1; slot <= 50; slot++ {
		id := runtime.Identity{Stack: "shop", Service: "web", Slot: slot, Revision: "r1"}
		if _, err := engine.Create(b.Context(), runtime.ContainerName("shop", "web", slot), id.Labels(), &runtime.Spec{Image: "test"}, nil); err != nil {
			b.Fatal(err)
		}
	}
	dir := b.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "compose.yaml"), []byte(webAndDB), 0o600); err != nil {
		b.Fatal(err)
	}
	for name, args := range map[string][]string{"file": {"ps", "-a"}, "name": {"-p", "shop", "ps", "-a"}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				a := &app{env: &Env{
					Args: args, WorkingDir: dir, In: strings.NewReader(""), Out: io.Discard, Err: io.Discard,
					Engine: func(context.Context) (Engine, error) { return keepOpen{engine}, nil },
				}}
				if code := a.run(b.Context()); code != 0 {
					b.Fatal("exit code ", code)
				}
			}
		})
	}
}
