package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/runtime"
)

// act carries out an action on a stack's services and shows how it goes. The
// stack is found by its name alone where no file is at hand.
func (a *app) act(ctx context.Context, req api.ActionRequest, until string) error {
	t, err := a.resolve(ctx, req.Services...)
	if err != nil {
		return err
	}
	return a.actOn(ctx, t, req, until)
}

func (a *app) actOn(ctx context.Context, t target, req api.ActionRequest, until string) error {
	if a.global.dryRun {
		return a.dryAct(ctx, t, &req)
	}
	d, err := a.connect(ctx)
	if err != nil {
		return err
	}
	acc, err := d.Act(ctx, t.Name, req)
	if err != nil {
		return err
	}
	return a.follow(ctx, d, acc, until)
}

// dryAct prints which containers an action would change, as a plan's lines.
func (a *app) dryAct(ctx context.Context, t target, req *api.ActionRequest) error {
	list, err := a.containers(ctx, t, req.Services, withoutOneOffs)
	if err != nil {
		return err
	}
	list = slices.DeleteFunc(list, func(c runtime.Container) bool { return !touches(req, &c) })
	for i := range list {
		c := &list[i]
		_, err := fmt.Fprintf(a.env.Out, "%-14s %-12s %s  (asked for; it is %s)\n", req.Op, fmt.Sprintf("%s/%d", serviceOf(c), numberOf(c)), c.Name, c.State)
		if err != nil {
			return err
		}
	}
	if len(list) == 0 {
		_, err = fmt.Fprintf(a.env.Out, "stack %s: nothing to do\n", t.Name)
	}
	return err
}

// touches reports whether an action would change a container.
func touches(req *api.ActionRequest, c *runtime.Container) bool {
	switch req.Op {
	case actStart:
		return c.State == runtime.Created || c.State == runtime.Exited
	case actStop:
		return c.State.Alive()
	case actRestart:
		return true
	case actRemove:
		return req.Stop || !c.State.Alive()
	}
	return runtime.Transition(c.State, runtime.Op(req.Op)).OK()
}

// The actions of [api.ActionRequest].
const (
	actStart   = "start"
	actStop    = "stop"
	actRestart = "restart"
	actKill    = "kill"
	actPause   = "pause"
	actUnpause = "unpause"
	actRemove  = "remove"
	actScale   = "scale"
)

func newPause(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "pause [SERVICE...]",
		Short:             "Pause services",
		ValidArgsFunction: a.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.act(cmd.Context(), api.ActionRequest{Op: actPause, Services: args}, untilSettled)
		},
	}
}

func newUnpause(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "unpause [SERVICE...]",
		Short:             "Unpause services",
		ValidArgsFunction: a.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.act(cmd.Context(), api.ActionRequest{Op: actUnpause, Services: args}, untilSettled)
		},
	}
}

// checkSignal refuses a signal that no engine could know, before anything is asked.
func checkSignal(s string) error {
	if s == "" || strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '+' && r != '-'
	}) {
		return fmt.Errorf("signal %q: not a signal's name or number", s)
	}
	return nil
}
