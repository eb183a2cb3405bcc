// Command berth runs a whole Compose file on one Docker engine, and keeps it so.
//
// This package is the composition root: the only place where the engine's
// adapter, the daemon and the command line meet.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	_ "time/tzdata" // schedules name time zones, and a small system has no database of them

	"github.com/berth-dev/berth/internal/cli"
	"github.com/berth-dev/berth/internal/client"
	"github.com/berth-dev/berth/internal/dirs"
	"github.com/berth-dev/berth/internal/relay"
	"github.com/berth-dev/berth/runtime/cgroup"
	"github.com/berth-dev/berth/runtime/docker"
	"github.com/berth-dev/berth/runtime/inside"
)

// clientGCPercent lets a command, which lives for a moment, collect seldom.
const clientGCPercent = 400

// version is set by the linker.
var version = "dev"

func main() {
	os.Exit(run())
}

func run() int {
	wd, err := os.Getwd()
	if err != nil {
		fmt.Fprintln(os.Stderr, "berth: the current folder cannot be found:", err)
		return 1
	}
	debug.SetGCPercent(clientGCPercent) // the daemon sets its own
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	if len(os.Args) > 1 && os.Args[1] == cgroup.HelperCommand {
		return boundaryHelper(ctx, os.Args[2:], os.Stdout, os.Stderr)
	}
	if len(os.Args) > 1 && os.Args[1] == inside.HelperCommand {
		return insideHelper(ctx, os.Args[2:], os.Stdin, os.Stdout, os.Stderr)
	}
	if len(os.Args) > 1 && os.Args[1] == relay.Command {
		return serveRelay(ctx, os.Args[2:], os.Stdin, os.Stdout, os.Stderr)
	}
	return cli.Run(ctx, &cli.Env{
		Args: os.Args[1:], Environ: os.Environ(), WorkingDir: wd,
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Version: version,
		Engine:     func(ctx context.Context) (cli.Engine, error) { return docker.Open(ctx, docker.Options{}) },
		Daemon:     func(ctx context.Context) (*client.Client, error) { return connect(ctx, (*client.Starter).Connect) },
		FindDaemon: func(ctx context.Context) (*client.Client, error) { return connect(ctx, (*client.Starter).Find) },
		Serve: func(ctx context.Context, opts cli.ServeOptions) error {
			ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
			defer stop()
			return serve(ctx, opts)
		},
	})
}

// connect finds the daemon's place and goes there.
func connect(ctx context.Context, how func(*client.Starter, context.Context) (*client.Client, error)) (*client.Client, error) {
	folders, _, err := places()
	if err != nil {
		return nil, err
	}
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find the berth program: %w", err)
	}
	return how(&client.Starter{Dirs: folders, Program: program, Environ: os.Environ(), Build: build(program), Ready: engineAnswers}, ctx)
}

// engineAnswers asks the engine for a sign of life: that it gives none is the
// clearest reason why a daemon cannot be started.
func engineAnswers(ctx context.Context) error {
	engine, err := docker.Open(ctx, docker.Options{})
	if err != nil {
		return err
	}
	return engine.Close()
}

// places are the folders of this user and engine, and whether the engine is on
// this machine.
func places() (dirs.Dirs, bool, error) {
	host, local, err := docker.Endpoint(os.Getenv)
	if err != nil {
		return dirs.Dirs{}, false, err
	}
	folders, err := dirs.For(os.Getenv, host)
	return folders, local, err
}

// build identifies a program's file, so that a rebuilt one is told apart from
// the one a daemon still runs.
func build(program string) string {
	info, err := os.Stat(program)
	if err != nil {
		return version
	}
	return strings.Join([]string{version, fmt.Sprint(info.Size()), fmt.Sprint(info.ModTime().UnixNano())}, "-")
}

var errNoEngine = errors.New("the engine did not come up")
