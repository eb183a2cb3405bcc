package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/stack"
)

// upOptions are the flags of up.
type upOptions struct {
	createOptions
	detach      bool
	noStart     bool
	atomic      bool
	wait        bool
	waitTimeout int
	logs        foregroundOptions
	watch       bool
	menu        bool
}

// foregroundOptions are those that matter while up shows the containers' output.
type foregroundOptions struct {
	abortOnExit    bool
	abortOnFailure bool
	exitCodeFrom   string
	attach         []string
	noAttach       []string
	attachDeps     bool
	noColor        bool
	noPrefix       bool
	timestamps     bool
}

func newUp(a *app) *cobra.Command {
	var o upOptions
	cmd := &cobra.Command{
		Use:   "up [OPTIONS] [SERVICE...]",
		Short: "Create and start containers",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.complete(cmd, a.env); err != nil {
				return err
			}
			return a.up(cmd.Context(), args, &o)
		},
		ValidArgsFunction: a.completeServices,
	}
	o.register(cmd.Flags())
	return cmd
}

func (o *upOptions) register(f *pflag.FlagSet) {
	o.createOptions.register(f)
	f.BoolVarP(&o.detach, "detach", "d", false, "Detached mode: Run containers in the background")
	f.BoolVar(&o.recreateDeps, "always-recreate-deps", false, "Recreate dependent containers. Incompatible with --no-recreate.")
	f.BoolVar(&o.noDeps, "no-deps", false, "Don't start linked services")
	f.BoolVar(&o.noStart, "no-start", false, "Don't start the services after creating them")
	f.BoolVarP(&o.renewVolumes, "renew-anon-volumes", "V", false, "Recreate anonymous volumes instead of retrieving data from the previous containers")
	f.IntVarP(&o.timeout, "timeout", "t", 0, "Use this timeout in seconds for container shutdown when attached or when containers are already running")
	f.BoolVar(&o.atomic, "atomic", false, "Take the whole stack back when a service fails its rollout, whatever its failure_action")
	f.BoolVar(&o.wait, "wait", false, "Wait for services to be running|healthy, and for their rollouts to be completed. Implies detached mode.")
	f.IntVar(&o.waitTimeout, "wait-timeout", 0, "Maximum duration in seconds to wait for the project to be running|healthy")
	f.BoolVar(&o.logs.abortOnExit, "abort-on-container-exit", false, "Stops all containers if any container was stopped. Incompatible with -d")
	f.BoolVar(&o.logs.abortOnFailure, "abort-on-container-failure", false, "Stops all containers if any container exited with failure. Incompatible with -d")
	f.StringVar(&o.logs.exitCodeFrom, "exit-code-from", "", "Return the exit code of the selected service container. Implies --abort-on-container-exit")
	f.StringArrayVar(&o.logs.attach, "attach", nil, "Restrict attaching to the specified services. Incompatible with --attach-dependencies.")
	f.StringArrayVar(&o.logs.noAttach, "no-attach", nil, "Do not attach (stream logs) to the specified services")
	f.BoolVar(&o.logs.attachDeps, "attach-dependencies", false, "Automatically attach to log output of dependent services")
	f.BoolVar(&o.logs.noColor, "no-color", false, "Produce monochrome output")
	f.BoolVar(&o.logs.noPrefix, "no-log-prefix", false, "Don't print prefix in logs")
	f.BoolVar(&o.logs.timestamps, "timestamps", false, "Show timestamps")
	f.BoolVarP(&o.watch, "watch", "w", false, "Watch source code and rebuild/refresh containers when files are updated (not supported)")
	f.BoolVar(&o.menu, "menu", false, "Enable interactive shortcuts when running attached (not supported)")
}

func (o *upOptions) complete(cmd *cobra.Command, env *Env) error {
	if err := o.createOptions.complete(cmd, env); err != nil {
		return err
	}
	l := &o.logs
	if l.exitCodeFrom != "" && !l.abortOnFailure {
		l.abortOnExit = true
	}
	attached := l.attachDeps || l.abortOnExit || l.abortOnFailure || len(l.attach) > 0
	switch {
	case o.watch:
		return errors.New("up --watch is not supported; run berth up --build -d again after a change")
	case o.menu:
		return errors.New("up --menu is not supported; use berth's verbs in another terminal")
	case l.abortOnExit && l.abortOnFailure:
		return errors.New("--abort-on-container-exit and --abort-on-container-failure are incompatible")
	case o.wait && attached:
		return errors.New("--wait cannot be combined with --abort-on-container-exit, --abort-on-container-failure, --attach or --attach-dependencies")
	case (o.detach || o.noStart) && attached:
		return errors.New("--detach and --no-start cannot be combined with --abort-on-container-exit, --abort-on-container-failure, --attach or --attach-dependencies")
	case o.atomic && o.noStart:
		return errors.New("--atomic and --no-start are incompatible: nothing is rolled out that does not start")
	case len(l.attach) > 0 && l.attachDeps:
		return errors.New("--attach and --attach-dependencies are incompatible")
	case o.waitTimeout < 0:
		return fmt.Errorf("--wait-timeout %d is negative; use 0 for no limit", o.waitTimeout)
	case o.waitTimeout > 0 && !o.wait:
		return errors.New("--wait-timeout needs --wait")
	}
	o.detach = o.detach || o.wait || o.noStart
	return nil
}

func (a *app) up(ctx context.Context, services []string, o *upOptions) error {
	prepare := a.prepare
	if o.detach {
		prepare = a.prepareRequest // the images are seen to by declare
	}
	loaded, req, err := prepare(ctx, services, &o.createOptions)
	if err != nil {
		return err
	}
	req.NoStart, req.Atomic = o.noStart, o.atomic
	var attach []string
	if !o.detach {
		if attach, err = attachSet(loaded.Stack, services, &o.logs); err != nil {
			return err
		}
	}
	if a.global.dryRun {
		return a.dryRun(ctx, req)
	}
	d, err := a.connect(ctx)
	if err != nil {
		return err
	}
	if !o.detach {
		return a.upForeground(ctx, d, req, attach, &o.logs)
	}
	acc, err := a.declare(ctx, d, req, o.images)
	if err != nil {
		return err
	}
	until := untilSettled
	if o.wait {
		until = untilReady
	}
	if o.waitTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(o.waitTimeout)*time.Second)
		defer cancel()
	}
	return a.follow(ctx, d, acc, until)
}

// attachSet is whose output up shows: the services named, all when none is,
// their dependencies when asked for, without those that opt out.
func attachSet(s *stack.Stack, services []string, o *foregroundOptions) ([]string, error) {
	included, err := withDependencies(s, services, false)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(included))
	for i, svc := range included {
		names[i] = svc.Name
	}
	for _, flag := range [][]string{o.attach, o.noAttach} {
		for _, n := range flag {
			if s.Service(n) == nil {
				return nil, fmt.Errorf("no such service: %s; the file has %s", n, strings.Join(serviceList(s), ", "))
			}
		}
	}
	if o.exitCodeFrom != "" && !slices.Contains(names, o.exitCodeFrom) {
		return nil, fmt.Errorf("--exit-code-from %s: no such service in this up", o.exitCodeFrom)
	}
	if len(o.attach) > 0 {
		for _, n := range o.attach {
			if !slices.Contains(names, n) {
				return nil, fmt.Errorf("--attach %s: the service is not part of this up", n)
			}
		}
		names = slices.Clone(o.attach)
	} else {
		names = slices.DeleteFunc(names, func(n string) bool {
			if len(services) > 0 && !o.attachDeps && !slices.Contains(services, n) {
				return true
			}
			own := s.Service(n).Spec.Attach
			return own != nil && !*own
		})
	}
	return slices.DeleteFunc(names, func(n string) bool { return slices.Contains(o.noAttach, n) }), nil
}

// stopRequest asks for the services of an up to be stopped or, with op kill, killed.
func stopRequest(op string, req *api.UpRequest) api.ActionRequest {
	return api.ActionRequest{Op: op, Services: req.Services, Timeout: req.Timeout}
}
