package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/reconcile"
)

// Rollouts tells how the replacement of a stack's replicas stands, service by
// service. An unknown stack is a NotFound error.
func (c *Client) Rollouts(ctx context.Context, stack string) (*api.Rollouts, error) {
	out := &api.Rollouts{}
	if err := c.call(ctx, http.MethodGet, stackPath(stack, "rollouts"), nil, out); err != nil {
		return nil, err
	}
	return out, nil
}

// ControlRollouts pauses or resumes the rollouts of services; none named: of all.
func (c *Client) ControlRollouts(ctx context.Context, stack string, req api.RolloutRequest) (api.Accepted, error) {
	var acc api.Accepted
	return acc, c.call(ctx, http.MethodPost, stackPath(stack, "rollouts"), req, &acc)
}

// Undo declares an earlier revision of a stack, or of some of its services, anew.
// A revision that is not kept is a NotFound error.
func (c *Client) Undo(ctx context.Context, stack string, req api.UndoRequest) (api.Accepted, error) {
	var acc api.Accepted
	return acc, c.call(ctx, http.MethodPost, stackPath(stack, "undo"), req, &acc)
}

// PlanUndo tells what Undo would change.
func (c *Client) PlanUndo(ctx context.Context, stack string, req api.UndoRequest) (*reconcile.Plan, error) {
	plan := &reconcile.Plan{}
	if err := c.call(ctx, http.MethodPost, stackPath(stack, "undo", "plan"), req, plan); err != nil {
		return nil, err
	}
	return plan, nil
}

// Revisions lists the declarations of a stack that are kept, oldest first.
func (c *Client) Revisions(ctx context.Context, stack string) ([]api.Revision, error) {
	var list []api.Revision
	return list, c.call(ctx, http.MethodGet, stackPath(stack, "revisions"), nil, &list)
}

// RevisionDiff compares two kept declarations of a stack: by their numbers, 0 for
// the newest, -1 for the one before it and so on.
func (c *Client) RevisionDiff(ctx context.Context, stack string, from, to int) (api.RevisionDiff, error) {
	q := url.Values{"from": {strconv.Itoa(from)}, "to": {strconv.Itoa(to)}}
	var diff api.RevisionDiff
	return diff, c.call(ctx, http.MethodGet, stackPath(stack, "revisions", "diff")+"?"+q.Encode(), nil, &diff)
}
