package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// How throughput is measured: rounds of all carriers in turn, each for a while.
const (
	answerSize  = 64 << 10 // bytes of an answer
	streams     = 8        // connections at once
	streamsLast = time.Second
	rounds      = 5 // a run
)

// shares of what goes without a balancer are asked for of the balancer. Below, the
// processors have time for both ends and for what is in between.
var shares = []float64{0.4, 0.6}

// carrier is one way to the same answers.
type carrier struct {
	name string
	to   []string
	pid  int // of the process that carries; 0: none does

	rates []float64       // bytes a second
	costs []float64       // seconds of processor time a GiB
	waits []time.Duration // for small answers
}

// carriers are all that are compared: the first four lead to two replicas, the
// others to one.
type carriers struct {
	direct, self, bare, haproxy *carrier
	proxy, single               *carrier
	missing                     error // why there is no HAProxy
}

func (c carriers) all() []*carrier {
	all := []*carrier{c.direct, c.self, c.bare, c.single, c.proxy}
	if c.missing == nil {
		all = append(all, c.haproxy)
	}
	return all
}

// compareCarriers starts those that are still missing, measures all, and prints what
// was measured.
func (b *bench) compareCarriers(ctx context.Context, c carriers) (err error) {
	var end func() error
	c.proxy, end, err = b.dockerProxy(ctx)
	defer func() { err = errors.Join(err, end()) }()
	if err != nil {
		return err
	}
	var stop func()
	c.bare, stop, err = b.bareRelay(ctx, c.direct.to)
	defer func() { stop() }()
	if err != nil {
		return err
	}
	var quit func()
	c.haproxy, quit, c.missing = b.haproxy(ctx, c.direct.to)
	defer func() { quit() }()
	if err := b.repeat(func() error { return measureAll(ctx, c.all()) }); err != nil {
		return err
	}
	b.printCarriers(c)
	return b.belowSaturation(ctx, c.direct, c.self)
}

// measureAll measures some rounds, in turn from the first and from the last: what
// else the machine does meets each alike.
func measureAll(ctx context.Context, all []*carrier) error {
	all = slices.Clone(all)
	for range rounds {
		for _, c := range all {
			if err := c.measure(ctx); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
		slices.Reverse(all)
	}
	return nil
}

// measure adds one round to each series.
func (c *carrier) measure(ctx context.Context) error {
	before, err := c.used()
	if err != nil {
		return err
	}
	begin := time.Now()
	bytes, err := throughput(ctx, c.to, stream{conns: streams, size: answerSize, lasts: streamsLast})
	if err != nil {
		return err
	}
	carried := bytes * time.Since(begin).Seconds()
	after, err := c.used()
	if err != nil {
		return err
	}
	wait, err := latency(ctx, c.to[0], latencyTries)
	c.rates = append(c.rates, bytes)
	c.costs = append(c.costs, (after-before).Seconds()/carried*(1<<30))
	c.waits = append(c.waits, wait)
	return err
}

// used is the processor time that the carrier has used.
func (c *carrier) used() (time.Duration, error) {
	if c.pid == 0 {
		return 0, nil
	}
	return cpuTime(c.pid)
}

func (b *bench) printCarriers(c carriers) {
	b.compareRates("64 KiB answers: direct", c.direct, c.self, "≥ 0.90")
	b.compareRates("  direct, and the barest relay instead", c.direct, c.bare, "–")
	b.compareRates("  the barest relay", c.bare, c.self, "–")
	b.compareRates("  docker-proxy, one replica", c.proxy, c.single, "≥ 1.00")
	if c.missing == nil {
		b.compareRates("  HAProxy, TCP mode", c.haproxy, c.self, "≥ 1.00")
	} else {
		b.print(row{name: "  HAProxy, TCP mode", floor: "–", berth: "not measured", ratio: "–", target: "≥ 1.00", runs: c.missing.Error()})
	}
	for _, x := range []*carrier{c.self, c.proxy, c.haproxy} {
		if x == nil {
			continue
		}
		b.print(row{
			name: "  added to the median latency: " + x.name, floor: micros(median(c.direct.waits)), berth: "+ " + micros(median(x.waits)-median(c.direct.waits)),
			ratio: "–", target: map[bool]string{true: "≤ 60 µs", false: "–"}[x == c.self], runs: fmt.Sprint(len(x.waits)),
		})
	}
}

func micros(d time.Duration) string { return fmt.Sprintf("%.0f µs", float64(d.Nanoseconds())/1000) }

// compareRates prints throughput, and processor time where both carry.
func (b *bench) compareRates(name string, floor, self *carrier, target string) {
	b.print(row{
		name: name, floor: rate(medianOf(floor.rates)), berth: rate(medianOf(self.rates)), ratio: paired(floor.rates, self.rates),
		target: target, runs: fmt.Sprint(len(self.rates)),
	})
	if floor.pid == 0 {
		return
	}
	b.print(row{
		name: "    processor time a GiB", floor: fmt.Sprintf("%.2f s", medianOf(floor.costs)), berth: fmt.Sprintf("%.2f s", medianOf(self.costs)),
		ratio: paired(floor.costs, self.costs), target: "–", runs: fmt.Sprint(len(self.costs)),
	})
}

// paired is the median of the ratios of each round. It is steadier than the ratio of
// the medians: the two of a round have met the same machine.
func paired(floor, self []float64) string {
	ratios := make([]float64, len(self))
	for i := range self {
		ratios[i] = self[i] / floor[i]
	}
	return fmt.Sprintf("%.2f", medianOf(ratios))
}

func rate(bytesPerSecond float64) string { return fmt.Sprintf("%.0f MB/s", bytesPerSecond/1e6) }

// belowSaturation asks for less than goes without a balancer, of both, and prints
// what comes.
func (b *bench) belowSaturation(ctx context.Context, direct, self *carrier) error {
	for _, share := range shares {
		ask := stream{conns: streams, size: answerSize, lasts: streamsLast, most: share * medianOf(direct.rates)}
		var floor, got []float64
		if err := b.repeat(func() error {
			for range rounds {
				f, err := throughput(ctx, direct.to, ask)
				if err != nil {
					return err
				}
				g, err := throughput(ctx, self.to, ask)
				if err != nil {
					return err
				}
				floor, got = append(floor, f), append(got, g)
			}
			return nil
		}); err != nil {
			return err
		}
		b.print(row{
			name:  fmt.Sprintf("  asked for %.0f %% of what goes directly", 100*share),
			floor: rate(medianOf(floor)), berth: rate(medianOf(got)), ratio: paired(floor, got), target: "–", runs: fmt.Sprint(len(got)),
		})
	}
	return nil
}

// bareRelay runs the least that a relay can do in front of the replicas: no other
// one outside the kernel carries much more.
func (b *bench) bareRelay(ctx context.Context, to []string) (c *carrier, stop func(), err error) {
	stop = func() {}
	program := filepath.Join(b.dir, "bare")
	if err := b.build(ctx, "./integration/bench/bare", program); err != nil {
		return nil, stop, err
	}
	port, err := freePort(ctx)
	if err != nil {
		return nil, stop, err
	}
	cmd := exec.CommandContext(ctx, program, append([]string{loopback(port)}, to...)...) // #nosec G204 -- built a moment ago
	stop, err = startCarrier(ctx, cmd, loopback(port))
	if err != nil {
		return nil, stop, err
	}
	return &carrier{name: "the barest relay", to: []string{loopback(port)}, pid: cmd.Process.Pid}, stop, nil
}

// startCarrier starts a program that listens at an address, and waits until it does.
// It gets a session of its own, as the daemon and the engine have: the kernel shares
// the processors out by sessions first (autogroup of sched(7)).
func startCarrier(ctx context.Context, cmd *exec.Cmd, at string) (stop func(), err error) {
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return func() {}, err
	}
	stop = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	if err := accepts(ctx, at); err != nil {
		stop()
		return func() {}, fmt.Errorf("%s does not serve: %w: %s", filepath.Base(cmd.Path), err, strings.TrimSpace(said.String()))
	}
	return stop, nil
}
