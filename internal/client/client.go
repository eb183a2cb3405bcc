// Package client is the Go client of the daemon's API.
package client

import (
	"context"
	"time"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/reconcile"
)

// Client speaks to one daemon over its socket.
type Client struct{}

// FollowOptions say from which turn on a stack is followed, and until when.
type FollowOptions struct {
	Turn  uint64
	Until string // "settled", "ready", or empty: until ctx ends
}

// Info tells who the daemon is.
func (c *Client) Info(ctx context.Context) (api.DaemonInfo, error) { panic("unwritten") }

// Up declares a stack.
func (c *Client) Up(ctx context.Context, req *api.UpRequest) (api.Accepted, error) {
	panic("unwritten")
}

// Plan tells what Up would change.
func (c *Client) Plan(ctx context.Context, req *api.UpRequest) (*reconcile.Plan, error) {
	panic("unwritten")
}

// Down takes a stack down. An unknown stack is a NotFound error.
func (c *Client) Down(ctx context.Context, stack string, req api.DownRequest) (api.Accepted, error) {
	panic("unwritten")
}

// Act starts, stops, restarts, kills, pauses, unpauses, removes or scales services.
func (c *Client) Act(ctx context.Context, stack string, req api.ActionRequest) (api.Accepted, error) {
	panic("unwritten")
}

// Stacks lists the stacks the daemon keeps.
func (c *Client) Stacks(ctx context.Context) ([]api.Summary, error) { panic("unwritten") }

// Status tells what is desired of a stack and what the loop makes of it.
func (c *Client) Status(ctx context.Context, stack string) (*api.Status, error) { panic("unwritten") }

// Follow calls fn with a stack's events until it returns an error, the end is
// reached or ctx ends. It returns nil after the EventSettled asked for.
func (c *Client) Follow(ctx context.Context, stack string, opts FollowOptions, fn func(api.Event) error) error {
	panic("unwritten")
}

// CreateOneOff makes the container of a run.
func (c *Client) CreateOneOff(ctx context.Context, stack string, req *api.OneOffRequest) (api.OneOffCreated, error) {
	panic("unwritten")
}

// StartOneOff starts it.
func (c *Client) StartOneOff(ctx context.Context, stack, name string) error { panic("unwritten") }

// RemoveOneOff stops and removes it; timeout nil: the service's own grace.
func (c *Client) RemoveOneOff(ctx context.Context, stack, name string, timeout *time.Duration) error {
	panic("unwritten")
}
