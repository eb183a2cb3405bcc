package cli

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/berth-dev/berth/internal/api"
)

// scriptedScaling is the part of the daemon that knows of scaling: it records
// what it is asked, and answers with what the test has given it.
type scriptedScaling struct {
	scaleMu sync.Mutex // protects all below
	scaling *api.Autoscaling
	scaled  []string // "pause web", in order
}

func (s *scriptedScaling) Autoscaling(context.Context, string) (*api.Autoscaling, error) {
	s.scaleMu.Lock()
	defer s.scaleMu.Unlock()
	if s.scaling == nil {
		return nil, errNoStack
	}
	return s.scaling, nil
}

func (s *scriptedScaling) ControlScaling(_ context.Context, stack string, req api.AutoscaleRequest) (api.Accepted, error) {
	s.scaleMu.Lock()
	defer s.scaleMu.Unlock()
	s.scaled = append(s.scaled, strings.TrimSpace(fmt.Sprintf("%s %s %s", req.Op, req.Do, strings.Join(req.Services, ","))))
	return api.Accepted{Stack: stack, Turn: 7}, nil
}
