package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/runtime"
)

func newWait(a *app) *cobra.Command {
	var down bool
	cmd := &cobra.Command{
		Use:               "wait SERVICE [SERVICE...] [OPTIONS]",
		Short:             "Block until containers of all (or specified) services stop.",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.wait(cmd.Context(), args, down)
		},
	}
	cmd.Flags().BoolVar(&down, "down-project", false, "Drops project when the first container stops")
	return cmd
}

// wait blocks until the containers of the services have ended, or with down
// until the first has, and exits with the code of the last it saw end.
func (a *app) wait(ctx context.Context, services []string, down bool) error {
	t, err := a.resolve(ctx, services...)
	if err != nil {
		return err
	}
	list, err := a.containers(ctx, t, services, withoutOneOffs)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return fmt.Errorf("wait: no containers of these services in stack %s; berth up -d creates them", t.Name)
	}
	if a.global.dryRun {
		return errors.New("wait: --dry-run is not supported: waiting changes nothing")
	}
	code, err := a.waitAll(ctx, list, down)
	if err != nil {
		return err
	}
	if down {
		if err := a.down(ctx, nil, &downOptions{}); err != nil {
			return err
		}
	}
	if code != 0 {
		return &ExitError{Code: code}
	}
	return nil
}

// waitAll waits for the containers and prints each exit code; with first only
// until one has ended.
func (a *app) waitAll(ctx context.Context, list []runtime.Container, first bool) (int, error) {
	type result struct {
		id   string
		exit runtime.ExitStatus
		err  error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan result, len(list))
	for i := range list {
		go func() {
			exit, err := a.engine.Wait(ctx, list[i].ID)
			results <- result{list[i].ID, exit, err}
		}()
	}
	code := 0
	for range list {
		r := <-results
		if r.err != nil {
			return 0, r.err
		}
		if _, err := fmt.Fprintf(a.env.Out, "container %q exited with status code %d\n", r.id, r.exit.Code); err != nil {
			return 0, err
		}
		code = r.exit.Code
		if first {
			break
		}
	}
	return code, nil
}
