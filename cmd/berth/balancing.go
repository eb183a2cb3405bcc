package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"github.com/berth-dev/berth/internal/balance"
	"github.com/berth-dev/berth/internal/daemon"
	"github.com/berth-dev/berth/internal/dirs"
)

// balancer is the daemon's balancer, from the sockets it inherits to those it
// leaves.
type balancer struct {
	ctx       context.Context // until the process ends, for connects to backends
	stop      context.CancelFunc
	inherited []balance.Handover
	b         *balance.Balancer // nil before start
}

// newBalancer takes over what the daemon before has left.
func newBalancer(ctx context.Context, folders dirs.Dirs) (*balancer, error) {
	b := &balancer{}
	b.ctx, b.stop = context.WithCancel(context.WithoutCancel(ctx)) // connections outlive the daemon
	var err error
	b.inherited, err = daemon.Inherit(folders)
	return b, err
}

// start is a [daemon.Balancing].
func (b *balancer) start(waiting func(balance.Key), drained func(balance.Key, string)) daemon.Balancer {
	b.b = balance.New(b.ctx, balance.Config{Waiting: waiting, Drained: drained})
	b.b.Adopt(b.inherited)
	return b.b
}

// longestDrain bounds how long the connections of a daemon that was replaced may
// go on.
const longestDrain = 10 * time.Minute

// finish leaves the sockets to the next daemon, for which it waits for a while,
// and then lets open connections finish. release gives the daemon's lock up. A
// signal ends both waits.
func (b *balancer) finish(ctx context.Context, folders dirs.Dirs, linger time.Duration, release func() error, log zerolog.Logger) error {
	defer b.stop()
	ctx, stop := signal.NotifyContext(context.WithoutCancel(ctx), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if b.b == nil || linger == 0 {
		stop()
		return errors.Join(release(), b.close(ctx))
	}
	heritage, err := daemon.Bequeath(folders, b.b)
	err = errors.Join(err, release())
	passed := false
	if heritage != nil {
		waiting, cancel := context.WithTimeout(ctx, linger)
		defer cancel()
		var passErr error
		passed, passErr = heritage.Pass(waiting)
		err = errors.Join(err, passErr)
	}
	if !passed {
		stop() // nobody follows: the machine goes down, or Berth is being removed
	} else {
		log.Info().Msg("the published ports were handed over; open connections may finish")
	}
	return errors.Join(err, b.close(ctx))
}

// close lets open connections finish until ctx ends.
func (b *balancer) close(ctx context.Context) error {
	if b.b == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, longestDrain)
	defer cancel()
	err := b.b.Close(ctx)
	if ctx.Err() != nil {
		return nil // they were cut, as a signal or the time asked for
	}
	return err
}
