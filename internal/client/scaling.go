package client

import (
	"context"
	"net/http"

	"github.com/berth-dev/berth/internal/api"
)

// Autoscaling tells how the services of a stack are scaled. An unknown stack is a
// NotFound error.
func (c *Client) Autoscaling(ctx context.Context, stack string) (*api.Autoscaling, error) {
	out := &api.Autoscaling{}
	if err := c.call(ctx, http.MethodGet, stackPath(stack, "autoscale"), nil, out); err != nil {
		return nil, err
	}
	return out, nil
}

// ControlScaling pauses or resumes the autoscaling of services, puts them to sleep
// or wakes them; none named: all that this can be said of.
func (c *Client) ControlScaling(ctx context.Context, stack string, req api.AutoscaleRequest) (api.Accepted, error) {
	var acc api.Accepted
	return acc, c.call(ctx, http.MethodPost, stackPath(stack, "autoscale"), req, &acc)
}
