package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/berth-dev/berth/runtime"
)

// execOptions are the flags of exec.
type execOptions struct {
	detach      bool
	interactive bool
	tty         bool
	noTTY       bool
	privileged  bool
	user        string
	workdir     string
	env         []string
	index       int
}

func newExec(a *app) *cobra.Command {
	var o execOptions
	cmd := &cobra.Command{
		Use:               "exec [OPTIONS] SERVICE COMMAND [ARGS...]",
		Short:             "Execute a command in a running container",
		Args:              cobra.MinimumNArgs(2),
		ValidArgsFunction: a.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !cmd.Flags().Changed("no-tty") {
				o.noTTY = !isTerminal(a.env.Out) || o.interactive && !isTerminal(a.env.In)
			}
			return a.exec(cmd.Context(), args[0], args[1:], &o)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.detach, "detach", "d", false, "Detached mode: Run command in the background")
	f.StringArrayVarP(&o.env, "env", "e", nil, "Set environment variables")
	f.IntVar(&o.index, "index", 0, "Index of the container if service has multiple replicas")
	f.BoolVar(&o.privileged, "privileged", false, "Give extended privileges to the process")
	f.StringVarP(&o.user, "user", "u", "", "Run the command as this user")
	f.BoolVarP(&o.noTTY, "no-tty", "T", true, "Disable pseudo-TTY allocation (default: auto-detected)")
	f.StringVarP(&o.workdir, "workdir", "w", "", "Path to workdir directory for this command")
	f.BoolVarP(&o.interactive, "interactive", "i", true, "Keep STDIN open even if not attached")
	f.BoolVarP(&o.tty, "tty", "t", true, "Allocate a pseudo-TTY")
	f.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if name == "no-TTY" {
			name = "no-tty"
		}
		return pflag.NormalizedName(name)
	})
	_ = f.MarkHidden("interactive") // the flags exist
	_ = f.MarkHidden("tty")
	f.SetInterspersed(false)
	return cmd
}

// exec runs a command in a running container and gives its exit code.
func (a *app) exec(ctx context.Context, service string, command []string, o *execOptions) error {
	env, err := a.execEnv(o.env)
	if err != nil {
		return err
	}
	t, err := a.resolve(ctx, service)
	if err != nil {
		return err
	}
	c, err := a.runningContainer(ctx, t, service, o.index)
	if err != nil {
		return err
	}
	if a.global.dryRun {
		_, err := fmt.Fprintf(a.env.Out, "exec %s: %s\n", sanitize(c.Name), sanitize(strings.Join(command, " ")))
		return err
	}
	spec := runtime.ExecSpec{
		Command: command, Env: env, User: o.user, WorkingDir: o.workdir, Privileged: o.privileged,
		TTY: o.tty && !o.noTTY && !o.detach, Detach: o.detach,
	}
	if o.detach {
		_, err := a.engine.Exec(ctx, c.ID, spec, runtime.Streams{})
		return err
	}
	s, err := a.openSession(spec.TTY, o.interactive)
	if err != nil {
		return err
	}
	defer s.Close()
	spec.Resize = s.Resize
	code, err := a.engine.Exec(ctx, c.ID, spec, s.Streams)
	s.Close()
	switch {
	case ctx.Err() != nil:
		return &ExitError{Code: 130}
	case err != nil:
		return err
	case code != 0:
		return &ExitError{Code: code}
	}
	return nil
}

// execEnv completes variables that have a name only from the user's environment.
func (a *app) execEnv(vars []string) ([]string, error) {
	env := make([]string, 0, len(vars))
	for _, kv := range vars {
		k, _, given := strings.Cut(kv, "=")
		if k == "" {
			return nil, fmt.Errorf("exec: --env %q: not of the form NAME=value", kv)
		}
		if !given {
			v, ok := a.env.lookup(k)
			if !ok {
				continue
			}
			kv = k + "=" + v
		}
		env = append(env, kv)
	}
	return env, nil
}
