// Package cli is the berth command line: one file per command. A command turns
// flags into options and calls run(ctx, app, opts). Verbs, flags, defaults, exit
// codes and columns are Docker Compose's where Compose has the verb.
//
// Commands that change a stack edit its desired state through the daemon.
// Commands that read, or move bytes in and out of containers (ps, logs, exec,
// cp, …), ask the engine themselves, so that they show real state even while no
// daemon runs. No command changes a container through the engine; attach passes
// the user's signals on to the process, as it does their keys.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/internal/client"
)

// Env is the process's surroundings, handed in by main and by tests.
type Env struct {
	Args       []string // without the program's name
	Environ    []string // KEY=value
	WorkingDir string
	In         io.Reader
	Out        io.Writer
	Err        io.Writer
	Version    string
	// Signals delivers interrupts and terminations until stop is called; nil: those of the process.
	Signals func() (signals <-chan os.Signal, stop func())

	// Engine opens the engine's adapter; called at most once, by the commands that need it.
	Engine func(ctx context.Context) (Engine, error)
	// Daemon connects to the daemon and starts one when none answers.
	Daemon func(ctx context.Context) (*client.Client, error)
	// FindDaemon connects to a daemon that runs already, or returns nil.
	FindDaemon func(ctx context.Context) (*client.Client, error)
	// Serve runs the daemon until ctx ends.
	Serve func(ctx context.Context, opts ServeOptions) error
}

// ServeOptions are the flags of serve.
type ServeOptions struct {
	LogFormat string // "console" or "json"
	LogLevel  string
	// Linger is how long the daemon, once it has ended, waits for the next one to
	// take over its published ports.
	Linger time.Duration
	// Replace ends the daemon that runs, rather than being refused by it.
	Replace bool
}

// app is what a command has at hand.
type app struct {
	env    *Env
	global globals
	engine Engine
	// tellOrphans: a declaration is under way, whose first end names orphans.
	tellOrphans atomic.Bool
	// connect starts a daemon when none answers; find returns nil when none runs.
	connect func(ctx context.Context) (daemon, error)
	find    func(ctx context.Context) (daemon, error)
}

// ExitError ends the program with a code of its own; without Err nothing more is printed.
type ExitError struct {
	Code int
	Err  error
}

func (e *ExitError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit code %d", e.Code)
	}
	return e.Err.Error()
}

func (e *ExitError) Unwrap() error { return e.Err }

// Run executes the command line and returns the exit code. The first interrupt
// ends ctx, so that commands clean up; the second ends the process, unless the
// command has taken that over.
func Run(ctx context.Context, env *Env) int {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	a := &app{env: env, connect: dialer(env.Daemon), find: dialer(env.FindDaemon)}
	return a.run(ctx)
}

func (a *app) run(ctx context.Context) int {
	root := newRoot(a) //nolint:contextcheck // commands get ctx from ExecuteContext
	root.SetArgs(a.env.Args)
	err := root.ExecuteContext(ctx)
	if a.engine != nil {
		_ = a.engine.Close() // the process ends: nothing could be done about it
	}
	if err == nil {
		return 0
	}
	code := 1
	var exit *ExitError
	if errors.As(err, &exit) {
		code, err = exit.Code, exit.Err
	} else if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		code, err = 130, errors.New("interrupted")
	}
	if err != nil {
		a.complain(err)
	}
	return code
}

// complain prints an error, one line each of those it joins.
func (a *app) complain(err error) {
	for _, line := range strings.Split(strings.TrimRight(err.Error(), "\n"), "\n") {
		_, _ = fmt.Fprintln(a.env.Err, "berth:", line)
	}
}

// openEngine opens the engine once.
func (a *app) openEngine(ctx context.Context) (Engine, error) {
	if a.engine != nil {
		return a.engine, nil
	}
	e, err := a.env.Engine(ctx)
	if err != nil {
		return nil, err
	}
	a.engine = e
	return e, nil
}

// newRoot builds the command tree.
func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:                "berth [-f FILE...] [options] COMMAND [ARGS...]",
		Short:              "Run a whole Compose file on one Docker engine, and keep it so",
		SilenceUsage:       true,
		SilenceErrors:      true,
		Version:            a.env.Version,
		CompletionOptions:  cobra.CompletionOptions{HiddenDefaultCmd: false},
		DisableSuggestions: true, // Args names them, on one line
		Args:               cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return unknownCommand(cmd, args[0])
		},
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return a.global.complete(cmd, a.env) },
	}
	root.SetIn(a.env.In)
	root.SetOut(a.env.Out)
	root.SetErr(a.env.Err)
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%s: %w; see %s --help", strings.TrimPrefix(cmd.CommandPath(), "berth "), err, cmd.CommandPath())
	})
	// Flags of a command may mean something else than the global ones of the
	// same letter (run -p, logs -f): global flags stand before the command.
	root.TraverseChildren = true
	a.global.register(root.Flags())
	root.PersistentFlags().BoolVar(&a.global.dryRun, "dry-run", false, "Print what the command would change, and change nothing")
	root.AddCommand(lifecycleCommands(a)...)
	root.AddCommand(readCommands(a)...)
	return root
}

func unknownCommand(root *cobra.Command, name string) error {
	hint := "see berth --help"
	for distance := 1; distance <= 2; distance++ {
		root.SuggestionsMinimumDistance = distance
		if similar := root.SuggestionsFor(name); len(similar) > 0 {
			hint = "did you mean " + strings.Join(similar, " or ") + "?"
			break
		}
	}
	return fmt.Errorf("unknown command %q; %s", name, hint)
}
