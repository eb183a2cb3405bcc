package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/scaling/forecast"
	scalesim "github.com/berth-dev/berth/scaling/simulate"
	"github.com/berth-dev/berth/scaling/timetable"
)

// autoscaleSimulateOptions are the flags of autoscale simulate.
type autoscaleSimulateOptions struct {
	files     []string
	trace     string
	recording string
	delay     time.Duration
	svg       string
	format    string
}

func newAutoscaleSimulate(a *app) *cobra.Command {
	var o autoscaleSimulateOptions
	cmd := &cobra.Command{
		Use:   "simulate {--trace FILE | --recording FILE} [OPTIONS] [SERVICE]",
		Short: "Try a service's policy out on a trace, or make recorded decisions again",
		Long: "Let the policy of a service follow a trace of what it was asked to do, and show how the number of\n" +
			"replicas would have changed, why, what that would have taken, and how long it would have been too few.\n" +
			"The first line of a trace names its columns: time, the policy's metrics over all replicas (cpu in\n" +
			"millicores, memory in bytes), concurrency (what is open at once) where the policy scales by it, and\n" +
			"replicas where they are known. Where the policy has predict, the run without it stands beside it.\n\n" +
			"With --recording the decisions that autoscale record wrote are made again: the exit code is 1 when one\n" +
			"of them comes out differently. Neither an engine nor a daemon is asked.",
		Example:           "  berth autoscale simulate --trace usage.csv -f compose.yaml web\n  berth autoscale simulate --recording run.json --svg run.svg",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			a.global.files = append(a.global.files, o.files...)
			return a.simulateScaling(cmd.Context(), strings.Join(args, ""), &o)
		},
	}
	f := cmd.Flags()
	f.StringArrayVarP(&o.files, "file", "f", nil, "Compose configuration files")
	f.StringVar(&o.trace, "trace", "", "CSV file of what the service was asked to do over time")
	f.StringVar(&o.recording, "recording", "", "File of berth autoscale record, whose decisions are made again")
	f.DurationVar(&o.delay, "delay", 10*time.Second, "How long a new replica takes until it is ready")
	f.StringVar(&o.svg, "svg", "", "Write the course of load and replicas to this file, as a picture")
	f.StringVar(&o.format, "format", "text", "Format of the output (text|json)")
	cmd.MarkFlagsMutuallyExclusive("trace", "recording")
	cmd.MarkFlagsMutuallyExclusive("delay", "recording")
	cmd.MarkFlagsOneRequired("trace", "recording")
	return cmd
}

func (a *app) simulateScaling(ctx context.Context, service string, o *autoscaleSimulateOptions) error {
	if err := checkTextFormat("autoscale simulate", o.format); err != nil {
		return err
	}
	if o.delay < 0 {
		return fmt.Errorf("autoscale simulate: --delay %s is negative; give 0s or more", o.delay)
	}
	if o.recording != "" {
		return a.replayScaling(service, o)
	}
	run, err := a.scalingRun(ctx, service, o)
	if err != nil {
		return err
	}
	if err := a.drawScaling(run, o.svg); err != nil {
		return err
	}
	if o.format == "json" {
		return a.printJSON(run)
	}
	return a.printScalingRun(run)
}

// scalingRun is what a policy makes of a trace.
type scalingRun struct {
	Service string           `json:"service"`
	Summary scalesim.Summary `json:"summary"`
	// Without is the run without predict; nil: there is no predict.
	Without *scalesim.Summary `json:"without,omitempty"`
	// Its decisions by metrics are the steps, those by concurrency the looks.
	scalesim.Recording

	unpredicted scalesim.Recording
	from, to    time.Time
}

// scalingRun reads the policy and the trace, and lets the one follow the other.
func (a *app) scalingRun(ctx context.Context, service string, o *autoscaleSimulateOptions) (*scalingRun, error) {
	svc, err := a.simulatedService(ctx, service)
	if err != nil {
		return nil, err
	}
	trace, err := readTrace(a.inFolder(o.trace))
	if err != nil {
		return nil, err
	}
	model, err := modelOf(svc, o.delay)
	if err != nil {
		return nil, err
	}
	if err := a.leaveOut(svc, &trace, &model); err != nil {
		return nil, err
	}
	run := &scalingRun{Service: svc.Name, from: trace.Rows[0].At, to: trace.Rows[len(trace.Rows)-1].At}
	if season := svc.Autoscale.Season; season > 0 {
		var without scalesim.Summary
		if run.unpredicted, without, err = scalesim.Run(svc.Autoscale.Policy, trace, model); err != nil {
			return nil, fmt.Errorf("autoscale simulate: %w", err)
		}
		run.Without = &without
		model.Series = &forecast.Series{Season: season}
	}
	if run.Recording, run.Summary, err = scalesim.Run(svc.Autoscale.Policy, trace, model); err != nil {
		return nil, fmt.Errorf("autoscale simulate: %w", err)
	}
	return run, nil
}

// simulatedService is the service of the file that is meant: without a name the
// one that is autoscaled.
func (a *app) simulatedService(ctx context.Context, name string) (*stack.Service, error) {
	loaded, err := a.load(ctx)
	if err != nil {
		return nil, err
	}
	a.warn(loaded)
	var scaled []string
	for i := range loaded.Stack.Services {
		if s := &loaded.Stack.Services[i]; s.Autoscale != nil {
			scaled = append(scaled, s.Name)
		}
	}
	switch {
	case name == "" && len(scaled) == 1:
		name = scaled[0]
	case name == "" && len(scaled) > 1:
		return nil, fmt.Errorf("autoscale simulate: name one of the services that are autoscaled: %s", strings.Join(scaled, ", "))
	case len(scaled) == 0:
		return nil, errors.New("autoscale simulate: no service of the file has x-berth.autoscale")
	}
	svc := loaded.Stack.Service(name)
	if svc == nil {
		return nil, fmt.Errorf("no such service: %s (the file has %s)", sanitize(name), strings.Join(serviceList(loaded.Stack), ", "))
	}
	switch auto := svc.Autoscale; {
	case auto == nil:
		return nil, fmt.Errorf("autoscale simulate: service %s has no x-berth.autoscale; those that have are %s", name, strings.Join(scaled, ", "))
	case len(auto.Policy.Metrics) == 0 && auto.Concurrency == nil:
		return nil, fmt.Errorf("autoscale simulate: service %s is scaled by nothing that a trace could have; give x-berth.autoscale.metrics or concurrency", name)
	}
	return svc, nil
}

// leaveOut has a model go without concurrency where the trace does not tell it and
// there are metrics to go by.
func (a *app) leaveOut(svc *stack.Service, trace *scalesim.Trace, model *scalesim.Model) error {
	if model.Concurrency == nil || slices.Contains(trace.Metrics, scalesim.Concurrency) {
		return nil
	}
	if len(svc.Autoscale.Policy.Metrics) == 0 {
		return fmt.Errorf("autoscale simulate: the trace has no column %q, by which alone service %s is scaled: give what is open at once over all replicas", scalesim.Concurrency, svc.Name)
	}
	model.Concurrency = nil
	if a.global.progress != "quiet" {
		_, _ = fmt.Fprintf(a.env.Err, "warning: concurrency of service %s is left out: the trace has no column %q\n", svc.Name, scalesim.Concurrency)
	}
	return nil
}

// modelOf is a service as it is simulated.
func modelOf(svc *stack.Service, delay time.Duration) (scalesim.Model, error) {
	table, errs := timetable.Parse(svc.Autoscale.Schedules)
	reserved := svc.Placement.Reservation
	return scalesim.Model{
		Delay: delay, CPU: reserved.CPU, Memory: reserved.Memory, Schedules: table, Concurrency: svc.Autoscale.Concurrency,
	}, errors.Join(errs...)
}

func readTrace(path string) (scalesim.Trace, error) {
	f, err := os.Open(path)
	if err != nil {
		return scalesim.Trace{}, fmt.Errorf("autoscale simulate: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	trace, err := scalesim.ParseCSV(f)
	if err != nil {
		return trace, fmt.Errorf("%s: %w", path, err)
	}
	return trace, nil
}

// replayScaling makes recorded decisions again, and says whether they come out
// the same.
func (a *app) replayScaling(service string, o *autoscaleSimulateOptions) error {
	runs, err := a.readRecording(service, o)
	if err != nil {
		return err
	}
	if o.svg != "" && len(runs) > 1 {
		return errors.New("autoscale simulate: --svg draws one service; name it")
	}
	var replays []replay
	var failed []error
	for i := range runs {
		r := replay{Service: runs[i].Service, Decisions: len(runs[i].Steps) + len(runs[i].Looks)}
		if err := scalesim.Replay(runs[i].Recording); err != nil {
			r.Difference = err.Error()
			failed = append(failed, fmt.Errorf("autoscale simulate: service %s: %w", r.Service, err))
		}
		if err := a.drawScaling(recordedRun(&runs[i]), o.svg); err != nil {
			return err
		}
		replays = append(replays, r)
	}
	if o.format == "json" {
		return errors.Join(append([]error{a.printJSON(replays)}, failed...)...)
	}
	return errors.Join(append([]error{a.printReplays(replays, runs)}, failed...)...)
}

// replay is what came of decisions that were made again.
type replay struct {
	Service    string `json:"service"`
	Decisions  int    `json:"decisions"`
	Difference string `json:"difference,omitempty"` // the first; empty: all are the same
}

func (a *app) readRecording(service string, o *autoscaleSimulateOptions) ([]serviceRecording, error) {
	path := a.inFolder(o.recording)
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("autoscale simulate: %w", err)
	}
	var all runRecording
	if err := json.Unmarshal(data, &all); err != nil {
		return nil, fmt.Errorf("%s is not what berth autoscale record writes: %w", path, err)
	}
	var runs []serviceRecording
	for _, r := range all.Services {
		if !r.Empty() && (service == "" || service == r.Service) {
			runs = append(runs, r)
		}
	}
	if len(runs) == 0 {
		return nil, fmt.Errorf("%s has no decisions%s", path, map[bool]string{true: " of service " + sanitize(service)}[service != ""])
	}
	return runs, nil
}

// recordedRun is a recording as a run that can be drawn.
func recordedRun(r *serviceRecording) *scalingRun {
	all := points(&r.Recording)
	run := &scalingRun{Service: r.Service, Recording: r.Recording, from: all[0].at, to: all[len(all)-1].next}
	if !run.to.After(run.from) {
		run.to = run.from.Add(time.Second)
	}
	return run
}

func (a *app) printReplays(replays []replay, runs []serviceRecording) error {
	w := bufio.NewWriter(a.env.Out)
	for i := range replays {
		r := &replays[i]
		if r.Difference != "" {
			continue // it becomes the error
		}
		_, _ = fmt.Fprintf(w, "%s: %s, all the same\n", sanitize(r.Service), decisionsText(r.Decisions)) // Flush reports errors
		if err := a.printCourse(w, recordedRun(&runs[i])); err != nil {
			return err
		}
	}
	return w.Flush()
}

func decisionsText(n int) string {
	if n == 1 {
		return "1 decision"
	}
	return fmt.Sprintf("%d decisions", n)
}

// drawScaling writes a run as a picture, where one is asked for.
func (a *app) drawScaling(run *scalingRun, path string) error {
	if path == "" {
		return nil
	}
	f, err := os.Create(a.inFolder(path))
	if err != nil {
		return fmt.Errorf("autoscale simulate: %w", err)
	}
	chart := run.chart()
	if err := errors.Join(chart.WriteSVG(f), f.Close()); err != nil {
		return fmt.Errorf("autoscale simulate: write %s: %w", path, err)
	}
	return nil
}

func (a *app) printScalingRun(run *scalingRun) error {
	w := bufio.NewWriter(a.env.Out)
	if err := errors.Join(a.printCourse(w, run), a.printGrid(w, run.summaryGrid())); err != nil {
		return err
	}
	return w.Flush()
}

// printCourse prints the changes of a run, and the plot of it.
func (a *app) printCourse(w io.Writer, run *scalingRun) error {
	if err := a.printGrid(w, run.changesGrid()); err != nil {
		return err
	}
	if n := len(run.changed()) - maxChanges; n > 0 {
		_, _ = fmt.Fprintf(w, "and %d more changes; --format json has them all\n", n) // the next write reports errors
	}
	chart := run.chart()
	_, err := fmt.Fprintf(w, "\n%s\n", chart.Text(a.plotWidth(), !a.isUTF8()))
	return err
}
