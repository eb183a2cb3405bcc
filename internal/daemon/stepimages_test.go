package daemon

import (
	"slices"
	"testing"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/runtime/fake"
)

// An up that needs its images to be there also misses those of pre_start steps.
func TestNeedImagesOfSteps(t *testing.T) {
	simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
		file := shop(svc("web", 1, func(svc *stack.Service) {
			svc.PreStart = []stack.Init{{Spec: runtime.Spec{Image: "prepare"}}, {Spec: svc.Spec}}
		}))
		acc, err := s.d.up(s.ctx, &api.UpRequest{Stack: file, NeedImages: true})
		s.must(err)
		if !slices.Equal(acc.MissingImages, []string{"prepare"}) {
			t.Errorf("answered %+v, want prepare to be missing", acc)
		}
	})
}
