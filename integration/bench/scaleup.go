package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/berth-dev/berth/internal/api"
)

// The load step that is measured: it takes a service from its one replica to all
// that it may have.
const (
	scalePeriod  = 2 * time.Second // between two decisions
	scaledTo     = 5
	perReplica   = 10 // connections, the target
	scaleTarget  = 1.30
	scaleLook    = 10 * time.Millisecond
	scaleLongest = time.Minute // bounds a step and the way back
)

const scaling = `services:
  web:
    image: berth-bench:latest
    command: ["/page"]
    ports: ["127.0.0.1:%d:7000"]
    x-berth:
      publish: balanced
      probes: {readiness: {http: {path: /readyz, port: 8080}, period: 1s}}
      autoscale:
        max: %d
        interval: %s
        metrics: [{connections: {averageValue: %d}}]
        behavior:
          scaleUp: {policies: [{type: Pods, value: %[2]d, period: 15s}]}
          scaleDown: {stabilizationWindow: 0s, policies: [{type: Pods, value: %[2]d, period: 1s}]}
`

// risen is what one load step took.
type risen struct {
	whole time.Duration // from before the first connection to the last added replica ready
	after time.Duration // of it from the decision on
}

// scaleUp measures a load step that is seen at once: connections that stay open. The
// floor creates and starts as many containers side by side, and waits for each to be
// ready. Up to a period goes by before anybody looks, so the steps come at moments of
// it that lie evenly apart.
func (b *bench) scaleUp(ctx context.Context) error {
	port, err := freePort(ctx)
	if err != nil {
		return err
	}
	dir, err := b.stack(ctx, "bench-scaleup", fmt.Sprintf(scaling, port, scaledTo, scalePeriod, perReplica))
	if err != nil {
		return err
	}
	if _, err := b.berth(ctx, dir, "up", "-d", "--wait"); err != nil {
		return err
	}
	var floor []time.Duration
	var steps []risen
	if err := b.repeat(func() error {
		took, err := b.riseFloor(ctx)
		if err != nil {
			return fmt.Errorf("floor: %w", err)
		}
		floor = append(floor, took)
		phase := scalePeriod * time.Duration(len(steps)) / time.Duration(b.opts.runs)
		step, err := b.rise(ctx, port, phase)
		steps = append(steps, step)
		return err
	}); err != nil {
		return err
	}
	b.printRises(floor, steps)
	_, err = b.berth(ctx, dir, "down", "-t", "0")
	return err
}

// printRises prints the whole with its bound, and what follows a decision with its
// ratio.
func (b *bench) printRises(floor []time.Duration, steps []risen) {
	var wholes, afters []time.Duration
	for _, s := range steps {
		wholes, afters = append(wholes, s.whole), append(afters, s.after)
	}
	f := median(floor)
	bound := scalePeriod + time.Duration(scaleTarget*float64(f))
	b.print(row{
		name: fmt.Sprintf("load step, 1 → %d, decided every %s", scaledTo, scalePeriod), floor: seconds(f), berth: seconds(median(wholes)),
		ratio: "–", target: "≤ " + seconds(bound), runs: fmt.Sprintf("%d (worst %s)", len(wholes), seconds(slices.Max(wholes))),
	})
	b.compare("  of it after the decision", floor, afters, scaleTarget)
}

// riseFloor is the start of as many pages as a load step adds, beside one that runs.
func (b *bench) riseFloor(ctx context.Context) (time.Duration, error) {
	p, err := b.pages(ctx, "floor-scaleup", 1)
	if err != nil {
		return 0, err
	}
	added := scaledTo - 1
	p.g.ids, p.urls = append(p.g.ids, make([]string, added)...), append(p.urls, make([]string, added)...)
	if err := sleep(ctx, quiet); err != nil {
		return 0, err
	}
	took, err := timed(func() error {
		return each(ctx, added, parallels[0], func(ctx context.Context, i int) error {
			return p.fresh(ctx, 1+i, fmt.Sprintf("%s-added-%d", p.g.prefix, 1+i))
		})
	})
	return took, errors.Join(err, p.g.remove(ctx, parallels[0]))
}

// rise puts the service under load, at a moment of the period, until it has all its
// replicas, and then has it shrink again.
func (b *bench) rise(ctx context.Context, port int, phase time.Duration) (risen, error) {
	ctx, cancel := context.WithTimeout(ctx, scaleLongest)
	defer cancel()
	first, err := b.atRest(ctx)
	if err != nil {
		return risen{}, err
	}
	if err := sleep(ctx, time.Until(first.Add(phase))); err != nil {
		return risen{}, err
	}
	begin := time.Now()
	open, err := hold(ctx, loopback(port), perReplica*scaledTo)
	defer closeAll(open)
	if err != nil {
		return risen{}, err
	}
	s, err := b.scaledWhen(ctx, func(s *api.ServiceScaling) bool { return s.Ready == scaledTo })
	if err != nil {
		return risen{}, err
	}
	end := time.Now()
	for _, d := range s.Recording.Steps {
		if d.Decision.Current == 1 && d.Decision.Desired == scaledTo && d.Decision.At.After(begin) {
			return risen{whole: end.Sub(begin), after: end.Sub(d.Decision.At)}, nil
		}
	}
	return risen{}, errors.New("no single decision took it to all its replicas")
}

// atRest waits for one replica that has had a moment's rest, and returns when the
// next decision after that was made.
func (b *bench) atRest(ctx context.Context) (time.Time, error) {
	if _, err := b.scaledWhen(ctx, func(s *api.ServiceScaling) bool { return s.Replicas == 1 && s.Ready == 1 }); err != nil {
		return time.Time{}, err
	}
	if err := b.raw.alone(ctx, "bench-scaleup"); err != nil {
		return time.Time{}, err
	}
	from := time.Now()
	s, err := b.scaledWhen(ctx, func(s *api.ServiceScaling) bool { return s.Last != nil && s.Last.At.After(from) })
	if err != nil {
		return time.Time{}, err
	}
	return s.Last.At, nil
}

// scaledWhen asks the daemon until the service's scaling is as it should be.
func (b *bench) scaledWhen(ctx context.Context, is func(*api.ServiceScaling) bool) (*api.ServiceScaling, error) {
	daemon, err := b.daemon()
	if err != nil {
		return nil, err
	}
	for {
		all, err := daemon.Autoscaling(ctx, "bench-scaleup")
		if err != nil {
			return nil, fmt.Errorf("waiting for the service to be scaled: %w", err)
		}
		if len(all.Services) == 1 && is(&all.Services[0]) {
			return &all.Services[0], nil
		}
		if err := sleep(ctx, scaleLook); err != nil {
			return nil, fmt.Errorf("waiting for the service to be scaled, last %+v: %w", all.Services, err)
		}
	}
}

// alone waits until one container of a stack is left, and the engine has had a
// moment's rest.
func (r *rawEngine) alone(ctx context.Context, stack string) error {
	for {
		ids, err := r.containers(ctx, stack)
		if err != nil {
			return err
		}
		if len(ids) == 1 {
			return sleep(ctx, quiet)
		}
		if err := sleep(ctx, readyLook); err != nil {
			return fmt.Errorf("waiting for one container of stack %s, of %s: %w", stack, strings.Join(ids, " "), err)
		}
	}
}
