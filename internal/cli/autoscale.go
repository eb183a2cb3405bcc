package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/scaling"
	scalesim "github.com/berth-dev/berth/scaling/simulate"
)

func newAutoscale(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "autoscale COMMAND",
		Short: "Watch, pause, resume and try out the scaling of services",
		Long: "Watch, pause and resume autoscaling: the number of a service's replicas by what is measured, as\n" +
			"x-berth.autoscale says; and try a policy out on a trace, or make recorded decisions again.",
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return fmt.Errorf("autoscale: unknown command %q; see berth autoscale --help", args[0])
		},
	}
	cmd.AddCommand(newAutoscaleStatus(a), newAutoscaleRecord(a), newAutoscaleSimulate(a))
	cmd.AddCommand(autoscaleControls(a)...)
	return cmd
}

// autoscaleControls are what can be said of autoscaling.
func autoscaleControls(a *app) []*cobra.Command {
	return a.controls([]control{
		{
			api.AutoscalePause, "Paused", "Pause autoscaling: the number of replicas stays, and none is put to sleep",
			"Pause autoscaling: decisions are made and shown, but not carried out, until berth autoscale\n" +
				"resume. Without services that of all of them is paused.",
		},
		{
			api.AutoscaleResume, "Resumed", "Have autoscaling go on that was paused, or held by a number given by hand",
			"Have autoscaling go on that was paused by command, or that is held because somebody gave a\n" +
				"number with berth scale.",
		},
	}, a.controlAutoscaling)
}

func (a *app) controlAutoscaling(ctx context.Context, c control, services []string) error {
	t, d, err := a.managed(ctx)
	if err != nil {
		return err
	}
	list, err := scalingNamed(ctx, d, t.Name, services)
	if err != nil {
		return err
	}
	if len(services) == 0 {
		list = slices.DeleteFunc(list, func(s api.ServiceScaling) bool { return s.Max == 0 })
	}
	if a.global.dryRun {
		for i := range list {
			if _, err := fmt.Fprintf(a.env.Out, "%-14s %-12s (it is %s)\n", c.op, sanitize(list[i].Service), scalingState(&list[i])); err != nil {
				return err
			}
		}
		return nil
	}
	if _, err := d.ControlScaling(ctx, t.Name, api.AutoscaleRequest{Op: c.op, Services: services}); err != nil {
		return err
	}
	names := make([]string, len(list))
	for i := range list {
		names[i] = list[i].Service
	}
	a.tellDone(c.done, names)
	return nil
}

// scalingNamed is how these services are scaled, or all that are when none is
// named. One that is not scaled is an error.
func scalingNamed(ctx context.Context, d daemon, stack string, services []string) ([]api.ServiceScaling, error) {
	all, err := d.Autoscaling(ctx, stack)
	switch {
	case err != nil:
		return nil, err
	case len(services) == 0:
		return all.Services, nil
	}
	var list []api.ServiceScaling
	for _, name := range services {
		i := slices.IndexFunc(all.Services, func(s api.ServiceScaling) bool { return s.Service == name })
		if i < 0 {
			return nil, fmt.Errorf("service %s of stack %s is not scaled, sized or at rest (%s)", sanitize(name), stack, scaledServices(all))
		}
		list = append(list, all.Services[i])
	}
	return list, nil
}

// scaledServices names those that there is something to tell of.
func scaledServices(all *api.Autoscaling) string {
	names := make([]string, len(all.Services))
	for i := range all.Services {
		names[i] = all.Services[i].Service
	}
	return cmp.Or(strings.Join(names, ", "), "none is")
}

func newSleep(a *app) *cobra.Command {
	var stop bool
	cmd := &cobra.Command{
		Use:   "sleep [OPTIONS] [SERVICE...]",
		Short: "Put services to sleep until the first connection, or berth wake",
		Long: "Put services to sleep: their processes are frozen or, with --stop, their replicas are stopped. The\n" +
			"first connection to a port that the balancer holds wakes them, as berth wake does. Without services\n" +
			"all of them sleep.",
		ValidArgsFunction: a.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			req := api.AutoscaleRequest{Op: api.AutoscaleSleep, Services: args, Do: scaling.IdlePause}
			if stop {
				req.Do = scaling.IdleStop
			}
			return a.rest(cmd.Context(), req)
		},
	}
	cmd.Flags().BoolVar(&stop, "stop", false, "Stop the replicas rather than freeze them: their memory is given back")
	return cmd
}

func newWake(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "wake [SERVICE...]",
		Short:             "Wake services that sleep",
		Long:              "Wake services that sleep, by command or because nobody used them. Without services all of them wake.",
		ValidArgsFunction: a.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.rest(cmd.Context(), api.AutoscaleRequest{Op: api.AutoscaleWake, Services: args})
		},
	}
}

// rest puts services to sleep or wakes them, and shows how their containers follow.
func (a *app) rest(ctx context.Context, req api.AutoscaleRequest) error {
	t, d, err := a.managed(ctx)
	if err != nil {
		return err
	}
	if err := t.mustDeclare(req.Services); err != nil {
		return err
	}
	if a.global.dryRun {
		names := cmp.Or(strings.Join(req.Services, ", "), "all services")
		_, err := fmt.Fprintf(a.env.Out, "%-14s %s\n", req.Op, sanitize(strings.TrimSpace(names+" "+restWord(req.Do))))
		return err
	}
	acc, err := d.ControlScaling(ctx, t.Name, req)
	if err != nil {
		return err
	}
	return a.follow(ctx, d, acc, untilSettled)
}

// restWord says how something rests: "(paused)".
func restWord(do scaling.IdleAction) string {
	switch do {
	case scaling.IdleStop:
		return "(stopped)"
	case scaling.IdlePause:
		return "(paused)"
	case scaling.IdleThrottle:
		return "(throttled)"
	}
	return ""
}

// runRecording are the last decisions about the services of a stack, as autoscale
// record writes them and autoscale simulate reads them.
type runRecording struct {
	Stack    string             `json:"stack"`
	Services []serviceRecording `json:"services"`
}

type serviceRecording struct {
	Service string `json:"service"`
	scalesim.Recording
}

func newAutoscaleRecord(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "record [SERVICE...]",
		Short: "Write the last decisions with all that they follow from, as JSON",
		Long: "Write the last decisions about the number of replicas, with all that was measured for them, as JSON.\n" +
			"berth autoscale simulate --recording makes them again.",
		Example:           "  berth autoscale record web > run.json\n  berth autoscale simulate --recording run.json",
		ValidArgsFunction: a.completeServices,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.recordAutoscaling(cmd.Context(), args) },
	}
}

func (a *app) recordAutoscaling(ctx context.Context, services []string) error {
	t, d, err := a.managed(ctx)
	if err != nil {
		return err
	}
	list, err := scalingNamed(ctx, d, t.Name, services)
	if err != nil {
		return err
	}
	out := runRecording{Stack: t.Name, Services: []serviceRecording{}}
	for i := range list {
		if !list[i].Recording.Empty() {
			out.Services = append(out.Services, serviceRecording{list[i].Service, list[i].Recording})
		}
	}
	if len(out.Services) == 0 {
		return fmt.Errorf("autoscale record: nothing has been decided by metrics or concurrency in stack %s yet; berth autoscale status says what is decided, and when", t.Name)
	}
	enc := json.NewEncoder(a.env.Out)
	enc.SetEscapeHTML(false)
	return enc.Encode(out)
}

// scaleEventOf sums up a decision about the number of replicas.
func scaleEventOf(s *api.Scaling) (action, id, service string, attributes map[string]string) {
	attributes = map[string]string{"name": s.Service, "from": strconv.Itoa(s.Current), "to": strconv.Itoa(s.Desired), "why": s.Why()}
	if s.Held != "" {
		attributes["held"] = s.Held
	}
	return "scale", "scale/" + s.Service, s.Service, attributes
}
