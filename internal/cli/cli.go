// Package cli is the berth command line: one file per command. A command turns
// flags into options and calls run(ctx, app, opts). Verbs, flags, defaults, exit
// codes and columns are Docker Compose's where Compose has the verb.
//
// Commands that change a stack edit its desired state through the daemon.
// Commands that read, or move bytes in and out of containers (ps, logs, exec,
// cp, …), ask the engine themselves, so that they show real state even while no
// daemon runs. No command changes a container through the engine.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/internal/client"
	"github.com/berth-dev/berth/internal/stack"
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
}

// globals are the flags every command takes, as Compose has them.
type globals struct {
	files       []string
	project     string
	profiles    []string
	envFiles    []string
	projectDir  string
	progress    string // auto, tty, plain, json, quiet
	ansi        string // auto, never, always
	dryRun      bool
	parallel    int
	compat      bool
	allResource bool
}

// app is what a command has at hand.
type app struct {
	env    *Env
	global globals
	engine Engine
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

// Run executes the command line and returns the exit code.
func Run(ctx context.Context, env *Env) int {
	a := &app{env: env}
	root := newRoot(a)
	root.SetArgs(env.Args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	var exit *ExitError
	if errors.As(err, &exit) {
		if exit.Err != nil {
			fmt.Fprintln(env.Err, "berth:", exit.Err)
		}
		return exit.Code
	}
	fmt.Fprintln(env.Err, "berth:", err)
	return 1
}

// load reads the project the global flags name. services are those named on
// the command line: their profiles become active.
func (a *app) load(ctx context.Context, services ...string) (*stack.Loaded, error) {
	return stack.Load(ctx, stack.LoadOptions{
		WorkingDir:  a.env.WorkingDir,
		ProjectDir:  a.global.projectDir,
		Files:       a.global.files,
		ProjectName: a.global.project,
		Profiles:    a.global.profiles,
		EnvFiles:    a.global.envFiles,
		Environ:     a.env.Environ,
		Services:    services,
	})
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
		Use:           "berth",
		Short:         "Run a whole Compose file on one Docker engine, and keep it so",
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       a.env.Version,
	}
	root.SetIn(a.env.In)
	root.SetOut(a.env.Out)
	root.SetErr(a.env.Err)
	f := root.PersistentFlags()
	f.StringArrayVarP(&a.global.files, "file", "f", nil, "Compose configuration files")
	f.StringVarP(&a.global.project, "project-name", "p", "", "Project name")
	f.StringArrayVar(&a.global.profiles, "profile", nil, "Specify a profile to enable")
	f.StringArrayVar(&a.global.envFiles, "env-file", nil, "Specify an alternate environment file")
	f.StringVar(&a.global.projectDir, "project-directory", "", "Specify an alternate working directory (default: the path of the first Compose file)")
	f.StringVar(&a.global.progress, "progress", "auto", "Set type of progress output (auto, tty, plain, json, quiet)")
	f.StringVar(&a.global.ansi, "ansi", "auto", "Control when to print ANSI control characters (never|always|auto)")
	f.BoolVar(&a.global.dryRun, "dry-run", false, "Execute command in dry run mode")
	root.AddCommand(lifecycleCommands(a)...)
	root.AddCommand(readCommands(a)...)
	return root
}
