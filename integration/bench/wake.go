package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/docker/docker/api/types/container"
)

const sleepy = `services:
  web:
    image: berth-bench:latest
    command: ["/page"]
    ports: ["127.0.0.1:%d:7000"]
    x-berth:
      publish: balanced
      probes: {readiness: {http: {path: /readyz, port: 8080}, period: 1s}}
      autoscale: {max: 1, idle: {after: 2s, action: %s}}
`

// wake measures how long the first client waits of a service that rests: for the
// first byte of its answer, from before it connects. The floor makes the raw calls
// with a container that rests in the same way, until that has answered: it unpauses
// it, or starts it and waits until it is ready.
func (b *bench) wake(ctx context.Context) error {
	port, err := freePort(ctx)
	if err != nil {
		return err
	}
	p, err := b.pages(ctx, "floor-wake", 1)
	if err != nil {
		return err
	}
	var thawed, started []time.Duration
	paused, err := b.wakes(ctx, port, "pause", container.StatePaused, func() error { return p.thawAgain(ctx, &thawed) })
	if err != nil {
		return err
	}
	stopped, err := b.wakes(ctx, port, "stop", container.StateExited, func() error { return p.startAgain(ctx, &started) })
	if err != nil {
		return err
	}
	b.print(row{
		name: "first byte of a paused service", floor: millis(median(thawed)), berth: millis(median(paused)),
		ratio: fmt.Sprintf("%.2f", median(paused).Seconds()/median(thawed).Seconds()), target: "≤ 50 ms", runs: fmt.Sprint(len(paused)),
	})
	b.compare("first byte of a stopped service", started, stopped, 1.30)
	return p.g.remove(ctx, 1)
}

// wakes measures the first client of a service that rests by an action, each time
// after what else is to be measured.
func (b *bench) wakes(ctx context.Context, port int, action string, rests container.ContainerState, before func() error) ([]time.Duration, error) {
	name := "bench-wake-" + action
	dir, err := b.stack(ctx, name, fmt.Sprintf(sleepy, port, action))
	if err != nil {
		return nil, err
	}
	if _, err := b.berth(ctx, dir, "up", "-d", "--wait"); err != nil {
		return nil, err
	}
	var times []time.Duration
	if err := b.repeat(func() error {
		if err := before(); err != nil {
			return err
		}
		if err := b.raw.rests(ctx, name, rests); err != nil {
			return err
		}
		took, err := timed(func() error { return short(ctx, loopback(port), netip.Addr{}) })
		times = append(times, took)
		return err
	}); err != nil {
		return nil, err
	}
	_, err = b.berth(ctx, dir, "down", "-t", "0")
	return times, err
}

// rests waits until the one container of a stack is in a state, and the engine has
// had a moment's rest.
func (r *rawEngine) rests(ctx context.Context, stack string, state container.ContainerState) error {
	ctx, cancel := context.WithTimeout(ctx, longestRevival)
	defer cancel()
	for {
		list, err := r.api.ContainerList(ctx, container.ListOptions{All: true, Filters: ofStack(stack)})
		if err != nil {
			return fmt.Errorf("waiting for stack %s to be %s: %w", stack, state, err)
		}
		if len(list) == 1 && list[0].State == state {
			return sleep(ctx, quiet)
		}
		if err := sleep(ctx, readyLook); err != nil {
			return fmt.Errorf("waiting for stack %s to be %s: %w", stack, state, err)
		}
	}
}

// thawAgain freezes the floor's one page, and measures its first answer from when it
// is unpaused.
func (p *pages) thawAgain(ctx context.Context, series *[]time.Duration) error {
	api, id := p.g.raw.api, p.g.ids[0]
	address, err := p.g.address(ctx, id)
	if err != nil {
		return err
	}
	if err := api.ContainerPause(ctx, id); err != nil {
		return err
	}
	return again(ctx, series, func() error {
		if err := api.ContainerUnpause(ctx, id); err != nil {
			return err
		}
		return short(ctx, net.JoinHostPort(address, "7000"), netip.Addr{})
	})
}

// startAgain stops the floor's one page, and measures its first answer from when it
// is started.
func (p *pages) startAgain(ctx context.Context, series *[]time.Duration) error {
	id := p.g.ids[0]
	if err := p.g.raw.api.ContainerStop(ctx, id, container.StopOptions{}); err != nil {
		return err
	}
	return again(ctx, series, func() error {
		if err := p.g.raw.start(ctx, id); err != nil {
			return err
		}
		if err := p.publish(ctx, 0); err != nil {
			return err
		}
		address, err := p.g.address(ctx, id)
		if err != nil {
			return err
		}
		return short(ctx, net.JoinHostPort(address, "7000"), netip.Addr{})
	})
}

// again measures what is done after a moment's rest.
func again(ctx context.Context, series *[]time.Duration, fn func() error) error {
	if err := sleep(ctx, quiet); err != nil {
		return err
	}
	took, err := timed(fn)
	*series = append(*series, took)
	return err
}
