package cli

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/internal/api"
)

func newRollout(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rollout COMMAND",
		Short: "Watch, pause, resume and undo the replacement of a stack's replicas",
		Long: "Watch, pause, resume and undo rollouts: the replacement of a service's replicas after its\n" +
			"declaration has changed, a few at a time, as deploy.update_config and x-berth.rollout say.",
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return fmt.Errorf("rollout: unknown command %q; see berth rollout --help", args[0])
		},
	}
	cmd.AddCommand(newRolloutStatus(a), newRolloutUndo(a), newRolloutHistory(a), newRolloutDiff(a))
	cmd.AddCommand(rolloutControls(a)...)
	return cmd
}

// control is a command that says something of services to the daemon, and waits for
// nothing.
type control struct{ op, done, short, long string }

// controls makes commands of them, which take services.
func (a *app) controls(list []control, run func(ctx context.Context, c control, services []string) error) []*cobra.Command {
	cmds := make([]*cobra.Command, len(list))
	for i, c := range list {
		cmds[i] = &cobra.Command{
			Use: c.op + " [SERVICE...]", Short: c.short, Long: c.long, ValidArgsFunction: a.completeServices,
			RunE: func(cmd *cobra.Command, args []string) error { return run(cmd.Context(), c, args) },
		}
	}
	return cmds
}

// tellDone says that something was done to services.
func (a *app) tellDone(done string, services []string) {
	ui := a.progress("Running")
	defer ui.Stop()
	for _, name := range services {
		ui.Event(progressEvent{ID: serviceID(name), Text: done, State: progressDone})
	}
}

// rolloutControls are what can be said of rollouts.
func rolloutControls(a *app) []*cobra.Command {
	return a.controls([]control{
		{
			api.RolloutPause, "Paused", "Pause rollouts: no further replica is replaced",
			"Pause rollouts: no further replica is replaced, and a later up replaces none either, until\n" +
				"berth rollout resume. Without services those of all of them are paused.",
		},
		{
			api.RolloutResume, "Resumed", "Have paused or failed rollouts go on, and a canary take its next step",
			"Have rollouts go on that were paused by command or because of failures, and a canary take its\n" +
				"next step at once. berth rollout status --watch shows how they get on.",
		},
	}, a.controlRollouts)
}

func (a *app) controlRollouts(ctx context.Context, c control, services []string) error {
	t, d, err := a.managed(ctx)
	if err != nil {
		return err
	}
	list, err := rolloutsNamed(ctx, d, t.Name, services)
	if err != nil {
		return err
	}
	if a.global.dryRun {
		for i := range list {
			if _, err := fmt.Fprintf(a.env.Out, "%-14s %-12s (its rollout is %s)\n", c.op, sanitize(list[i].Service), rolloutState(&list[i])); err != nil {
				return err
			}
		}
		return nil
	}
	if _, err := d.ControlRollouts(ctx, t.Name, api.RolloutRequest{Op: c.op, Services: services}); err != nil {
		return err
	}
	names := make([]string, len(list))
	for i := range list {
		names[i] = list[i].Service
	}
	a.tellDone(c.done, names)
	return nil
}

// serviceID names a service in progress.
func serviceID(name string) string { return "Service " + name }

// managed finds the stack that is meant, and the daemon, which alone knows of its
// rollouts, its revisions and how it is scaled.
func (a *app) managed(ctx context.Context) (target, daemon, error) {
	t, err := a.resolve(ctx)
	if err != nil {
		return t, nil, err
	}
	d, err := a.connect(ctx)
	return t, d, err
}

// rolloutsNamed returns the rollouts of these services, or of all when none is
// named. A service that the stack does not have is an error.
func rolloutsNamed(ctx context.Context, d daemon, stack string, services []string) ([]api.RolloutStatus, error) {
	all, err := d.Rollouts(ctx, stack)
	switch {
	case err != nil:
		return nil, err
	case len(services) == 0:
		return all.Services, nil
	}
	var list []api.RolloutStatus
	for _, name := range services {
		i := slices.IndexFunc(all.Services, func(s api.RolloutStatus) bool { return s.Service == name })
		if i < 0 {
			return nil, fmt.Errorf("no such service: %s in stack %s (it has %s)", sanitize(name), stack, strings.Join(rolloutServices(all), ", "))
		}
		list = append(list, all.Services[i])
	}
	return list, nil
}

func rolloutServices(all *api.Rollouts) []string {
	names := make([]string, len(all.Services))
	for i := range all.Services {
		names[i] = all.Services[i].Service
	}
	return names
}

// completeRevisions completes the numbers of kept revisions, as far as a daemon
// that runs knows them.
func (a *app) completeRevisions(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	const directive = cobra.ShellCompDirectiveNoFileComp
	t, err := a.resolve(cmd.Context())
	if err != nil {
		return nil, directive
	}
	d, err := a.find(cmd.Context())
	if d == nil || err != nil {
		return nil, directive
	}
	list, err := d.Revisions(cmd.Context(), t.Name)
	if err != nil {
		return nil, directive
	}
	numbers := make([]string, len(list))
	for i := range list {
		numbers[i] = strconv.Itoa(list[i].Number)
	}
	return numbers, directive
}

// parseRevision reads the number of a revision.
func parseRevision(verb, text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%s: %q is not the number of a revision; berth rollout history lists them", verb, text)
	}
	return n, nil
}
