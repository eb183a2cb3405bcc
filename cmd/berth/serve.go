package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/debug"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/term"
	"gopkg.in/natefinch/lumberjack.v2"

	"github.com/berth-dev/berth/internal/cli"
	"github.com/berth-dev/berth/internal/client"
	"github.com/berth-dev/berth/internal/daemon"
	"github.com/berth-dev/berth/internal/dirs"
	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/runtime/docker"
	"github.com/berth-dev/berth/runtime/inside"
)

// The daemon's memory: it holds little and lives long, so it trades CPU for
// space, and returns what a burst has taken.
const (
	gcPercent   = 40
	memoryLimit = 160 << 20 // bytes; a soft limit, beyond what 10,000 open connections take
)

// serve runs the daemon until ctx ends.
func serve(ctx context.Context, opts cli.ServeOptions) error {
	debug.SetGCPercent(gcPercent)
	debug.SetMemoryLimit(memoryLimit)
	folders, local, err := places()
	if err != nil {
		return err
	}
	listener, release, err := listen(ctx, folders, opts.Replace)
	if err != nil {
		return err
	}
	released := false
	defer func() {
		if !released {
			_ = release() // the process ends with it
		}
	}()
	log, err := logger(opts, folders)
	if err != nil {
		return err
	}
	engine, err := openEngine(ctx, log)
	if err != nil {
		return err
	}
	defer func() { _ = engine.Close() }()
	program, err := os.Executable()
	if err != nil {
		return err
	}
	probing, inContainers, err := newProbing(ctx, engine)
	if err != nil {
		return err
	}
	helpers, metering := &inContainers.helpers, newMetering(engine, inContainers)
	defer func() { _ = metering.Close() }() // it only read
	balancer, err := newBalancer(ctx, folders)
	if err != nil {
		log.Warn().Err(err).Msg("the published ports are listened at anew")
	}
	d, err := daemon.New(daemon.Config{
		Probing:   probing,
		Balancing: balancer.start,
		Meter:     metering,
		Relay:     relayProgram(engine),
		Engine:    engine, Dirs: folders, Version: version, Build: build(program), NewerImage: newerImages(engine),
		Background: os.Getenv(client.BackgroundEnv) != "", LocalEngine: local, Log: log,
		Boundaries: func(ctx context.Context, info runtime.EngineInfo, owner string) daemon.Boundaries {
			helpers.SetOwner(owner)
			return newBoundaries(ctx, engine, info, owner)
		},
		Orphans: orphans(local),
	})
	if err != nil {
		return err
	}
	log.Info().Str("version", version).Str("engine", engine.Host()).Str("socket", folders.Socket()).Msg("serving")
	defer log.Info().Msg("ended; containers run on")
	defer removeHelpers(ctx, helpers, log)
	err = d.Run(ctx, listener)
	released = true
	return errors.Join(err, balancer.finish(ctx, folders, opts.Linger, release, log))
}

// listen takes the daemon's place, which only one can have: after the one that
// has it, with replace, and else only where there is none.
func listen(ctx context.Context, folders dirs.Dirs, replace bool) (net.Listener, func() error, error) {
	if replace {
		s := client.Starter{Dirs: folders}
		others, err := s.Supersede(ctx)
		if err != nil {
			return nil, nil, err
		}
		defer others()
	}
	listener, release, err := daemon.Listen(folders)
	if errors.Is(err, daemon.ErrRunning) {
		err = fmt.Errorf("%w; --replace takes its place", err)
	}
	return listener, release, err
}

// removeHelpers removes the containers that served this daemon's probes.
func removeHelpers(ctx context.Context, helpers *inside.Helpers, log zerolog.Logger) {
	const limit = 10 * time.Second
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	if err := helpers.Close(ctx); err != nil {
		log.Warn().Err(err).Msg("helper containers of probes are left; the next daemon removes them")
	}
}

// openEngine connects, and waits for an engine that is still to come up, as
// after a boot.
func openEngine(ctx context.Context, log zerolog.Logger) (*docker.Engine, error) {
	wait := time.Second
	for {
		engine, err := docker.Open(ctx, docker.Options{Warn: func(text string) { log.Warn().Msg(text) }})
		if err == nil || !runtime.IsUnavailable(err) {
			return engine, err
		}
		if os.Getenv(client.BackgroundEnv) != "" {
			return nil, err // whoever started it says so at once
		}
		log.Warn().Err(err).Msg("the engine is not up yet; waiting for it")
		select {
		case <-ctx.Done():
			return nil, errors.Join(errNoEngine, err)
		case <-time.After(wait):
		}
		wait = min(2*wait, 10*time.Second)
	}
}

// logger writes to standard error, or in the background to a file that is
// bounded in size.
func logger(opts cli.ServeOptions, folders dirs.Dirs) (zerolog.Logger, error) {
	level, err := zerolog.ParseLevel(opts.LogLevel)
	if err != nil {
		return zerolog.Nop(), fmt.Errorf("log level %q: %w", opts.LogLevel, err)
	}
	var out io.Writer = os.Stderr
	if os.Getenv(client.BackgroundEnv) != "" {
		out = &lumberjack.Logger{Filename: folders.Log(), MaxSize: 5, MaxBackups: 2}
	}
	if opts.LogFormat == "console" {
		out = zerolog.ConsoleWriter{Out: out, TimeFormat: time.TimeOnly, NoColor: !term.IsTerminal(int(os.Stderr.Fd()))}
	}
	return zerolog.New(out).Level(level).With().Timestamp().Logger(), nil
}
