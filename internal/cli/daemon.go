package cli

import (
	"context"
	"time"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/client"
	"github.com/berth-dev/berth/internal/reconcile"
)

// daemon is what the commands that edit desired state ask of the daemon.
type daemon interface {
	Info(ctx context.Context) (api.DaemonInfo, error)
	Up(ctx context.Context, req *api.UpRequest) (api.Accepted, error)
	Plan(ctx context.Context, req *api.UpRequest) (*reconcile.Plan, error)
	Down(ctx context.Context, stack string, req api.DownRequest) (api.Accepted, error)
	Act(ctx context.Context, stack string, req api.ActionRequest) (api.Accepted, error)
	Status(ctx context.Context, stack string) (*api.Status, error)
	Known(ctx context.Context, stack string) (*api.Status, error)
	Follow(ctx context.Context, stack string, opts client.FollowOptions, fn func(api.Event) error) error
	oneOffer
	nodeKeeper
	rolloutKeeper
	scalingKeeper
}

// scalingKeeper knows how services are scaled, and which ones rest.
type scalingKeeper interface {
	Autoscaling(ctx context.Context, stack string) (*api.Autoscaling, error)
	ControlScaling(ctx context.Context, stack string, req api.AutoscaleRequest) (api.Accepted, error)
}

// rolloutKeeper knows how rollouts stand, and the declarations before.
type rolloutKeeper interface {
	Rollouts(ctx context.Context, stack string) (*api.Rollouts, error)
	ControlRollouts(ctx context.Context, stack string, req api.RolloutRequest) (api.Accepted, error)
	Undo(ctx context.Context, stack string, req api.UndoRequest) (api.Accepted, error)
	PlanUndo(ctx context.Context, stack string, req api.UndoRequest) (*reconcile.Plan, error)
	Revisions(ctx context.Context, stack string) ([]api.Revision, error)
	RevisionDiff(ctx context.Context, stack string, from, to int) (api.RevisionDiff, error)
}

// nodeKeeper knows the virtual nodes and what stands on them.
type nodeKeeper interface {
	Nodes(ctx context.Context) ([]api.Node, error)
	Node(ctx context.Context, name string) (api.Node, error)
	AddNode(ctx context.Context, req *api.NodeRequest) (api.Node, error)
	RemoveNode(ctx context.Context, name string) error
	ActOnNode(ctx context.Context, name, action string, req api.NodeAction) (api.Node, error)
	Rebalance(ctx context.Context, req api.Rebalance) (*api.Rebalanced, error)
	Explain(ctx context.Context, stack, service string, slot int) (*api.Explained, error)
}

// oneOffer makes, starts and removes the containers of run.
type oneOffer interface {
	CreateOneOff(ctx context.Context, stack string, req *api.OneOffRequest) (api.OneOffCreated, error)
	StartOneOff(ctx context.Context, stack, name string) error
	RemoveOneOff(ctx context.Context, stack, name string, timeout *time.Duration) error
}

var _ daemon = (*client.Client)(nil)

// dialer hides the client's type, so that tests need no socket.
func dialer(connect func(context.Context) (*client.Client, error)) func(context.Context) (daemon, error) {
	return func(ctx context.Context) (daemon, error) {
		c, err := connect(ctx)
		if c == nil || err != nil {
			return nil, err
		}
		return c, nil
	}
}
