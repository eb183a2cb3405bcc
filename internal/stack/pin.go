package stack

import (
	"fmt"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/distribution/reference"
	godigest "github.com/opencontainers/go-digest"
)

// PinImages returns the project with each image's tag pinned to the digest that
// resolve knows for it, for printing. With onlyImages nothing but the images is
// left: a file that overrides the others.
func (l *Loaded) PinImages(resolve func(ref string) (digest string, err error), onlyImages bool) (*Loaded, error) {
	p, err := l.Project.WithImagesResolved(func(named reference.Named) (godigest.Digest, error) {
		d, err := resolve(reference.FamiliarString(named))
		if err != nil {
			return "", err
		}
		return godigest.Parse(d)
	})
	if err != nil {
		return nil, fmt.Errorf("pin images: %w", err)
	}
	if onlyImages {
		services := types.Services{}
		for name, s := range p.Services {
			var only types.ServiceConfig
			only.Image = s.Image
			services[name] = only
		}
		p = &types.Project{Services: services}
	}
	out := *l
	out.Project = p
	return &out, nil
}
