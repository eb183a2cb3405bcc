package cli

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/reconcile"
	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
)

// runOptions are the flags of run.
type runOptions struct {
	createOptions
	detach       bool
	remove       bool
	interactive  bool
	noTTY        bool
	name         string
	user         string
	workdir      string
	entrypoint   string
	entrypointOn bool // --entrypoint was given
	env          []string
	envFiles     []string
	labels       []string
	volumes      []string
	publish      []string
	capAdd       []string
	capDrop      []string
	servicePorts bool
	useAliases   bool
	quiet        bool
}

func newRun(a *app) *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:               "run [OPTIONS] SERVICE [COMMAND] [ARGS...]",
		Short:             "Run a one-off command on a service",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.complete(cmd, a.env); err != nil {
				return err
			}
			if !cmd.Flags().Changed("no-TTY") {
				o.noTTY = !isTerminal(a.env.Out) || o.interactive && !isTerminal(a.env.In)
			}
			return a.runOneOff(cmd.Context(), args[0], args[1:], &o)
		},
	}
	o.register(cmd.Flags())
	cmd.Flags().SetInterspersed(false)
	return cmd
}

func (o *runOptions) register(f *pflag.FlagSet) {
	f.BoolVarP(&o.detach, "detach", "d", false, "Run container in background and print container ID")
	f.BoolVar(&o.remove, "rm", false, "Automatically remove the container when it exits")
	f.BoolVarP(&o.interactive, "interactive", "i", true, "Keep STDIN open even if not attached")
	f.BoolVarP(&o.noTTY, "no-TTY", "T", true, "Disable pseudo-TTY allocation (default: auto-detected)")
	f.StringVar(&o.name, "name", "", "Assign a name to the container")
	f.StringVarP(&o.user, "user", "u", "", "Run as specified username or uid")
	f.StringVarP(&o.workdir, "workdir", "w", "", "Working directory inside the container")
	f.StringVar(&o.entrypoint, "entrypoint", "", "Override the entrypoint of the image")
	f.StringArrayVarP(&o.env, "env", "e", nil, "Set environment variables")
	f.StringArrayVar(&o.envFiles, "env-from-file", nil, "Set environment variables from file")
	f.StringArrayVarP(&o.labels, "label", "l", nil, "Add or override a label")
	f.StringArrayVarP(&o.volumes, "volume", "v", nil, "Bind mount a volume")
	f.StringArrayVarP(&o.publish, "publish", "p", nil, "Publish a container's port(s) to the host")
	f.StringArrayVar(&o.capAdd, "cap-add", nil, "Add Linux capabilities")
	f.StringArrayVar(&o.capDrop, "cap-drop", nil, "Drop Linux capabilities")
	f.BoolVarP(&o.servicePorts, "service-ports", "P", false, "Run command with all service's ports enabled and mapped to the host")
	f.BoolVar(&o.useAliases, "use-aliases", false, "Use the service's network useAliases in the network(s) the container connects to")
	o.registerDeny(f)
	f.BoolVar(&o.noDeps, "no-deps", false, "Don't start linked services")
	f.BoolVar(&o.removeOrphans, "remove-orphans", false, "Remove containers for services not defined in the Compose file")
	f.BoolVar(&o.images.Build, "build", false, "Build image before starting container")
	f.StringVar(&o.images.Pull, "pull", "policy", `Pull image before running ("always"|"missing"|"never")`)
	f.BoolVar(&o.images.QuietPull, "quiet-pull", false, "Pull without printing progress information")
	f.BoolVar(&o.images.QuietBuild, "quiet-build", false, "Suppress progress output from the build process")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "Print nothing but the command's own output")
}

func (o *runOptions) complete(cmd *cobra.Command, env *Env) error {
	if err := o.createOptions.complete(cmd, env); err != nil {
		return err
	}
	o.entrypointOn = cmd.Flags().Changed("entrypoint")
	if len(o.publish) > 0 && o.servicePorts {
		return errors.New("--service-ports and --publish are incompatible")
	}
	return nil
}

// runOneOff makes a container of its own for one command on a service, with
// the service's dependencies up, and gives the command's exit code.
func (a *app) runOneOff(ctx context.Context, service string, command []string, o *runOptions) error {
	if o.quiet {
		a.global.progress = "quiet"
	}
	loaded, req, err := a.prepare(ctx, []string{service}, &o.createOptions)
	if err != nil {
		return err
	}
	svc := loaded.Stack.Service(service)
	spec, err := a.oneOffSpec(loaded.Stack, svc, command, o)
	if err != nil {
		return err
	}
	one := reconcile.OneOff{Service: service, Name: o.name, Spec: *spec, AutoRemove: o.remove && o.detach}
	if a.global.dryRun {
		return a.dryOneOff(ctx, req, svc, o)
	}
	d, err := a.connect(ctx)
	if err != nil {
		return err
	}
	if err := a.upDependencies(ctx, d, req, svc, o.noDeps); err != nil {
		return err
	}
	req.Services = nil // the service itself is not to come up
	created, err := d.CreateOneOff(ctx, loaded.Stack.Name, &api.OneOffRequest{Up: *req, OneOff: one})
	if err != nil {
		return err
	}
	if o.detach {
		if err := d.StartOneOff(ctx, loaded.Stack.Name, created.Name); err != nil {
			return err
		}
		_, err := fmt.Fprintln(a.env.Out, created.Container)
		return err
	}
	return a.attachOneOff(ctx, d, loaded.Stack.Name, created, o, spec.TTY)
}

// upDependencies brings up what the service depends on, and shows how it goes.
func (a *app) upDependencies(ctx context.Context, d daemon, req *api.UpRequest, svc *stack.Service, noDeps bool) error {
	if noDeps || len(svc.DependsOn) == 0 {
		return nil
	}
	deps := *req
	deps.Services = nil
	for _, dep := range svc.DependsOn {
		if req.Stack.Service(dep.Service) != nil {
			deps.Services = append(deps.Services, dep.Service)
		}
	}
	if len(deps.Services) == 0 {
		return nil
	}
	acc, err := d.Up(ctx, &deps)
	if err != nil {
		return err
	}
	return a.follow(ctx, d, acc, untilSettled)
}

// dryOneOff prints what a run would change.
func (a *app) dryOneOff(ctx context.Context, req *api.UpRequest, svc *stack.Service, o *runOptions) error {
	if !o.noDeps {
		deps := *req
		deps.Services = nil
		for _, dep := range svc.DependsOn {
			deps.Services = append(deps.Services, dep.Service)
		}
		if len(deps.Services) > 0 {
			if err := a.dryRun(ctx, &deps); err != nil {
				return err
			}
		}
	}
	name := o.name
	if name == "" {
		name = req.Stack.Name + "-" + svc.Name + "-run"
	}
	_, err := fmt.Fprintf(a.env.Out, "%-14s %-12s %s  (asked for by run)\n", "create", svc.Name+"/run", name)
	return err
}

// attachOneOff connects the user to the container, starts it, waits for its
// end, and with --rm removes it, whatever happened in between.
func (a *app) attachOneOff(ctx context.Context, d daemon, name string, created api.OneOffCreated, o *runOptions, tty bool) (err error) {
	if o.remove {
		defer func() {
			clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
			defer cancel()
			err = errors.Join(err, d.RemoveOneOff(clean, name, created.Name, nil))
		}()
	}
	engine, err := a.openEngine(ctx)
	if err != nil {
		return err
	}
	// Interrupts are the command's own affair: it gets them, and its end is waited for.
	ctx = context.WithoutCancel(ctx)
	defer a.forwardSignals(ctx, d, name, created.Name)()
	s, err := a.openSession(tty, o.interactive)
	if err != nil {
		return err
	}
	defer s.Close()
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- engine.Attach(ctx, created.Container, runtime.AttachOptions{NoStdin: !o.interactive, Resize: s.Resize, Ready: ready}, s.Streams)
	}()
	select {
	case <-ready:
	case err := <-ended:
		return err
	}
	if err := d.StartOneOff(ctx, name, created.Name); err != nil {
		return err
	}
	if err := <-ended; err != nil {
		return err
	}
	exit, err := engine.Wait(ctx, created.Container)
	if err == nil && exit.Error != "" {
		err = errors.New(exit.Error)
	}
	if err != nil {
		return err
	}
	s.Close()
	if exit.Code != 0 {
		return &ExitError{Code: exit.Code}
	}
	return nil
}

// forwardSignals passes the user's interrupts on to the container until stop
// is called; from the third on it is killed.
func (a *app) forwardSignals(ctx context.Context, d daemon, stackName, container string) (stop func()) {
	signals, release := a.interrupts()
	ctx, cancel := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() {
		for n := 1; ; n++ {
			var name string
			select {
			case sig := <-signals:
				name = "SIGINT"
				if sig == syscall.SIGTERM {
					name = "SIGTERM"
				}
			case <-ctx.Done():
				return
			}
			if n > 2 {
				name = "SIGKILL"
			}
			if _, err := d.Act(ctx, stackName, api.ActionRequest{Op: actKill, OneOff: container, Signal: name}); err != nil && ctx.Err() == nil {
				a.complain(err)
			}
		}
	})
	return func() {
		release()
		cancel()
		done.Wait()
	}
}
