package cli

import (
	"testing"

	"github.com/berth-dev/berth/runtime/fake"
)

// TestStepImages: what pre_start steps run from is pulled with the services' own
// images, by pull and before anything is created.
func TestStepImages(t *testing.T) {
	for _, args := range [][]string{{"pull"}, {"create"}, {"pull", "--policy", "missing", "web"}} {
		b := newBench(t, `
services:
  web:
    image: web:1
    pre_start: [{image: prepare:1, command: prepare}, {command: migrate}, {image: prepare:1, command: check}]
`)
		b.engine.AddRemote("web:1", fake.Image{})
		b.engine.AddRemote("prepare:1", fake.Image{})
		if code := b.run(args...); code != 0 {
			t.Fatalf("%v: exit code %d: %s", args, code, b.err.String())
		}
		if !b.has("web:1") || !b.has("prepare:1") {
			t.Errorf("%v: web %t, prepare %t\n%s", args, b.has("web:1"), b.has("prepare:1"), b.err.String())
		}
	}
}
