package daemon

import (
	"slices"
	"testing"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime/fake"
)

// An up that needs its images to be there changes nothing while the engine
// lacks one, and asks only for those of the services it is about.
func TestNeedImages(t *testing.T) {
	simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
		image := func(ref string) func(*stack.Service) {
			return func(svc *stack.Service) { svc.Spec.Image = ref }
		}
		file := shop(svc("db", 1, image("base")), svc("tool", 1, image("other")), svc("web", 1, after("db", stack.Started)))
		calls := s.now()
		acc, err := s.d.up(s.ctx, &api.UpRequest{Stack: file, Services: []string{"web"}, NeedImages: true})
		s.must(err)
		if !slices.Equal(acc.MissingImages, []string{"base"}) || acc.Turn != 0 {
			t.Errorf("answered %+v, want base to be missing and nothing accepted", acc)
		}
		if n := s.count(calls, "create", ""); n > 0 || s.d.loop("shop") != nil {
			t.Errorf("%d containers were created, loop %v", n, s.d.loop("shop"))
		}
		s.engine.AddImage("base", fake.Image{})
		acc, err = s.d.up(s.ctx, &api.UpRequest{Stack: file, Services: []string{"web"}, NeedImages: true})
		s.must(err)
		if len(acc.MissingImages) > 0 {
			t.Fatalf("%v is said to be missing", acc.MissingImages)
		}
		s.settled(acc)
		s.oracle()
	})
}
