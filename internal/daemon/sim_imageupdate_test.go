package daemon

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime/fake"
	"github.com/berth-dev/berth/runtime/registry"
)

// A newer tag is looked for when the schedule says so, pulled and rolled out, and
// what the declaration names is what the next look starts from.
func TestNewerTagsAreRolledOut(t *testing.T) {
	simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
		tags, away := []string{"1.2.3", "1.2.4", "1.3.0"}, errors.New("the registry is away")
		s.newer = func(_ context.Context, image, policy string) (string, error) {
			if away != nil {
				return "", away
			}
			name, tag, _ := strings.Cut(image, ":")
			return name + ":" + registry.Newer(tag, policy, tags), nil
		}
		s.reboot()
		first := s.engine.AddImage("app:1.2.3", fake.Image{})
		for _, tag := range []string{"1.2.4", "1.2.5", "1.3.0"} {
			s.engine.AddRemote("app:"+tag, fake.Image{WorkingDir: "/" + tag})
		}
		s.settled(s.up(shop(svc("web", 2, image("app:1.2.3"), func(svc *stack.Service) {
			svc.ImageUpdate = &stack.ImageUpdate{Schedule: "0 * * * *", Policy: registry.Patch}
		}))))
		run := func(tag string) {
			t.Helper()
			img, err := s.engine.Image(fake.ByHand(t.Context()), "app:"+tag)
			if err != nil {
				t.Errorf("app:%s was not pulled: %v", tag, err)
				return
			}
			for _, name := range []string{"shop-web-1", "shop-web-2"} {
				if got := s.get(name).ImageID; got != img.ID {
					t.Errorf("%s runs %s, want app:%s, %s", name, got, tag, img.ID)
				}
			}
		}
		time.Sleep(70 * time.Minute)
		run("1.2.3")
		if !strings.Contains(s.log.String(), "the registry is away") {
			t.Error("the log does not say that the registry is away")
		}
		away = nil
		time.Sleep(time.Hour)
		run("1.2.4")
		tags = append(tags, "1.2.5")
		time.Sleep(time.Hour)
		run("1.2.5")
		if img, err := s.engine.Image(fake.ByHand(t.Context()), "app:1.2.3"); err != nil || img.ID != first {
			t.Errorf("the declared image is %v, %v; want %s", img.ID, err, first)
		}
		s.oracle()
	})
}
