package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/runtime"
)

// logsOptions are the flags of logs.
type logsOptions struct {
	follow     bool
	index      int
	since      string
	until      string
	noColor    bool
	noPrefix   bool
	timestamps bool
	tail       string
}

func newLogs(a *app) *cobra.Command {
	var o logsOptions
	cmd := &cobra.Command{
		Use:               "logs [OPTIONS] [SERVICE...]",
		Short:             "View output from containers",
		ValidArgsFunction: a.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.logs(cmd.Context(), args, &o)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.follow, "follow", "f", false, "Follow log output")
	f.IntVar(&o.index, "index", 0, "index of the container if service has multiple replicas")
	f.StringVar(&o.since, "since", "", "Show logs since timestamp (e.g. 2013-01-02T13:23:37Z) or relative (e.g. 42m for 42 minutes)")
	f.StringVar(&o.until, "until", "", "Show logs before a timestamp (e.g. 2013-01-02T13:23:37Z) or relative (e.g. 42m for 42 minutes)")
	f.BoolVar(&o.noColor, "no-color", false, "Produce monochrome output")
	f.BoolVar(&o.noPrefix, "no-log-prefix", false, "Don't print prefix in logs")
	f.BoolVarP(&o.timestamps, "timestamps", "t", false, "Show timestamps")
	f.StringVarP(&o.tail, "tail", "n", "all", "Number of lines to show from the end of the logs for each container")
	return cmd
}

// read turns the flags into what the engine is asked for.
func (o *logsOptions) read(services []string, now time.Time) (runtime.LogOptions, error) {
	opts := runtime.LogOptions{Follow: o.follow, Tail: -1, Timestamps: o.timestamps, Stdout: true, Stderr: true}
	if o.index > 0 && len(services) != 1 {
		return opts, errors.New("--index requires one service to be selected")
	}
	if o.index < 0 {
		return opts, fmt.Errorf("--index %d is negative; containers are numbered from 1", o.index)
	}
	if o.tail != "all" && o.tail != "" {
		n, err := strconv.Atoi(o.tail)
		if err != nil {
			return opts, fmt.Errorf("--tail %q is not a number of lines; use a number or all", o.tail)
		}
		opts.Tail = n
	}
	var err error
	if opts.Since, err = parseMoment("since", o.since, now); err != nil {
		return opts, err
	}
	opts.Until, err = parseMoment("until", o.until, now)
	return opts, err
}

// logs prints what the containers of a stack have written, and with --follow
// what they go on to write.
func (a *app) logs(ctx context.Context, services []string, o *logsOptions) error {
	began := time.Now()
	opts, err := o.read(services, began)
	if err != nil {
		return err
	}
	t, err := a.resolve(ctx, services...)
	if err != nil {
		return err
	}
	l := &logFollower{
		a: a, t: t, services: services, index: o.index, opts: opts,
		mux:  newLogMux(a.env.Out, a.env.Out, logMuxOptions{Color: a.colored(a.env.Out) && !o.noColor, Prefix: !o.noPrefix}),
		runs: make(map[string]*logRun), ended: make(chan logEnd),
	}
	list, err := l.list(ctx)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		a.note(fmt.Sprintf("no container to show in stack %s; berth up -d creates them", t.Name))
	}
	for i := range list {
		l.mux.Register(shortName(&list[i]))
	}
	if o.follow {
		return l.follow(ctx, list, began)
	}
	failed := l.merge(ctx, list)
	if ctx.Err() != nil && len(failed) > 0 {
		return failed[0]
	}
	return errors.Join(failed...)
}

// logFollower shows the output of a stack's containers, those that come later
// included. Only its loop touches runs.
type logFollower struct {
	a        *app
	t        target
	services []string
	index    int // 0: all
	opts     runtime.LogOptions
	mux      *logMux

	runs  map[string]*logRun // by container ID
	ended chan logEnd        // containers whose output has ended
}

// logRun is how far the output of a container has been read.
type logRun struct {
	name   string
	active bool      // it is being read
	alive  bool      // it ran when reading began
	since  time.Time // where to go on when it is started again
}

// logEnd says that a container's output has ended, or could not be read.
type logEnd struct {
	id     string
	failed bool
}

// list are the containers meant.
func (l *logFollower) list(ctx context.Context) ([]runtime.Container, error) {
	list, err := l.a.containers(ctx, l.t, l.services, withoutOneOffs)
	if err != nil || l.index == 0 {
		return list, err
	}
	list = slices.DeleteFunc(list, func(c runtime.Container) bool { return numberOf(&c) != l.index })
	if len(list) == 0 {
		return nil, fmt.Errorf("service %q has no container %d in stack %s", l.services[0], l.index, l.t.Name)
	}
	return list, nil
}

// read prints a container's output. A container that is gone has none.
func (l *logFollower) read(ctx context.Context, id, name string, opts runtime.LogOptions) error {
	out, errw := l.mux.Writers(name)
	err := l.a.engine.Logs(ctx, id, opts, out, errw)
	_, _ = out.Close(), errw.Close() // they never fail
	if runtime.IsNotFound(err) {
		return nil
	}
	return err
}
