package daemon

import (
	"fmt"
	"testing"
	"time"

	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime/fake"
)

// Fault 23: the tag moves in the middle of a rollout. All replicas get the image
// that it meant when the rollout began.
func TestTagMovesDuringARollout(t *testing.T) {
	watched(t, fake.Options{}, 2, func(t *testing.T, s *sim, _ *watch) {
		s.settled(s.up(shop(svc("web", 3, rolls("1")))))
		first := s.engine.AddImage("app:2", fake.Image{})
		s.up(shop(svc("web", 3, rolls("2", func(u *stack.Update) { u.Delay = time.Minute }), image("app:2"))))
		pass(30 * time.Second)
		if other := s.engine.AddImage("app:2", fake.Image{WorkingDir: "/other"}); other == first {
			t.Fatal("the tag has not moved")
		}
		pass(10 * time.Minute)
		for slot := 1; slot <= 3; slot++ {
			if c := s.get(fmt.Sprint("shop-web-", slot)); c.ImageID != first {
				t.Errorf("%s runs %s, want %s", c.Name, c.ImageID, first)
			}
		}
		s.oracle()
	})
}
