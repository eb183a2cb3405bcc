package daemon

import (
	"testing"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/reconcile"
	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/runtime/fake"
)

// A stack that went down is forgotten, but its volumes stay until they are asked
// for, with the file that declares them.
func TestVolumesOfAForgottenStack(t *testing.T) {
	simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
		file := shop(svc("web", 1, mounts("shop_data")))
		s.settled(s.up(file))
		acc, err := s.d.takeDown(s.ctx, "shop", &api.DownRequest{Stack: file})
		s.must(err)
		s.settled(acc)
		if _, err := s.engine.Volume(s.hand(), "shop_data"); err != nil {
			t.Fatalf("down without -v: %v", err)
		}
		if _, err := s.d.takeDown(s.ctx, "shop", &api.DownRequest{Stack: file}); !runtime.IsNotFound(err) {
			t.Errorf("another down without -v: %v, want nothing found", err)
		}
		acc, err = s.d.takeDown(s.ctx, "shop", &api.DownRequest{Stack: file, Down: reconcile.Down{Volumes: true}})
		s.must(err)
		s.settled(acc)
		if _, err := s.engine.Volume(s.hand(), "shop_data"); !runtime.IsNotFound(err) {
			t.Errorf("down -v left the volume: %v", err)
		}
		s.nothingLeft()
		if _, err := s.d.takeDown(s.ctx, "shop", &api.DownRequest{Stack: file, Down: reconcile.Down{Volumes: true}}); !runtime.IsNotFound(err) {
			t.Errorf("a third down: %v, want nothing found", err)
		}
	})
}
