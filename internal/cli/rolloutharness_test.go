package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/reconcile"
	"github.com/berth-dev/berth/runtime"
)

// scriptedRollouts is the part of the daemon that knows of rollouts: it records
// what it is asked, and answers with what the test has given it.
type scriptedRollouts struct {
	rolloutMu sync.Mutex         // protects all below
	stages    []*api.Rollouts    // of one look after the other; the last one stays
	revisions []api.Revision     //
	diffs     []api.RevisionDiff // by their numbers
	changes   []string           // "pause [web]", in order
	undone    *reconcile.Plan
}

func (s *scriptedRollouts) Rollouts(context.Context, string) (*api.Rollouts, error) {
	s.rolloutMu.Lock()
	defer s.rolloutMu.Unlock()
	if len(s.stages) == 0 {
		return nil, errNoStack
	}
	now := s.stages[0]
	if len(s.stages) > 1 {
		s.stages = s.stages[1:]
	}
	return now, nil
}

var errNoStack = &runtime.Error{Kind: runtime.KindNotFound, Op: "find", Object: "shop", Err: errors.New("no such stack; berth ls shows those there are")}

func (s *scriptedRollouts) ControlRollouts(_ context.Context, stack string, req api.RolloutRequest) (api.Accepted, error) {
	return s.change(stack, fmt.Sprintf("%s %s", req.Op, strings.Join(req.Services, ",")))
}

func (s *scriptedRollouts) Undo(_ context.Context, stack string, req api.UndoRequest) (api.Accepted, error) {
	if req.To > 5 {
		return api.Accepted{}, &runtime.Error{Kind: runtime.KindNotFound, Op: "find", Object: stack, Err: fmt.Errorf("revision %d is not kept; there are 1 to 5", req.To)}
	}
	return s.change(stack, fmt.Sprintf("undo %d %s", req.To, strings.Join(req.Services, ",")))
}

func (s *scriptedRollouts) change(stack, what string) (api.Accepted, error) {
	s.rolloutMu.Lock()
	defer s.rolloutMu.Unlock()
	s.changes = append(s.changes, what)
	return api.Accepted{Stack: stack, Turn: 7}, nil
}

func (s *scriptedRollouts) PlanUndo(context.Context, string, api.UndoRequest) (*reconcile.Plan, error) {
	return s.undone, nil
}

func (s *scriptedRollouts) Revisions(context.Context, string) ([]api.Revision, error) {
	return s.revisions, nil
}

func (s *scriptedRollouts) RevisionDiff(_ context.Context, _ string, from, to int) (api.RevisionDiff, error) {
	newest := len(s.diffs)
	if from <= 0 {
		from += newest
	}
	if to <= 0 {
		to += newest
	}
	for _, d := range s.diffs {
		if d.From == from && d.To == to {
			return d, nil
		}
	}
	return api.RevisionDiff{}, &runtime.Error{Kind: runtime.KindNotFound, Op: "find", Object: "shop", Err: fmt.Errorf("revision %d is not kept; there are 1 to %d", from, newest)}
}
