package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-connections/nat"
)

// What goes through the balancer.
const (
	answerSize   = 64 << 10 // bytes of the answers by which throughput is measured
	streams      = 8        // connections at once
	streamsLast  = 3 * time.Second
	latencyTries = 3000
	idleConns    = 10_000
	shortConns   = 50_000
	settled      = 30 * time.Second // within which descriptors are given back
)

const balanced = `services:
  web:
    image: berth-bench:latest
    command: ["/page"]
    ports: ["127.0.0.1:%d:7000"]
    deploy:
      replicas: 2
`

// carrier is one way to the same answers.
type carrier struct {
	name string
	to   []string
	pid  int // of the process that carries; 0: none does

	rates []float64       // bytes a second
	costs []float64       // seconds of processor time a GiB
	waits []time.Duration // for small answers
}

// balance measures what the balancer of a daemon costs, beside the same answers
// without it and with others in its place.
func (b *bench) balance(ctx context.Context) error {
	port, err := freePort(ctx)
	if err != nil {
		return err
	}
	dir, err := b.stack(ctx, "bench-balance", fmt.Sprintf(balanced, port))
	if err != nil {
		return err
	}
	if _, err := b.berth(ctx, dir, "up", "-d"); err != nil {
		return err
	}
	direct, err := b.raw.addresses(ctx, "bench-balance", "7000")
	if err != nil {
		return err
	}
	pid, err := b.daemonPID(ctx)
	if err != nil {
		return err
	}
	self := &carrier{name: "balanced", to: []string{loopback(port)}, pid: pid}
	err = b.compareCarriers(ctx, &carrier{name: "direct", to: direct}, self)
	err = errors.Join(err, b.manyConnections(ctx, self))
	_, down := b.berth(ctx, dir, "down", "-t", "0")
	return errors.Join(err, down)
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// compareCarriers measures all in turn, so that what else the machine does meets
// each alike.
func (b *bench) compareCarriers(ctx context.Context, direct, self *carrier) error {
	proxy, end, err := b.dockerProxy(ctx)
	defer func() { err = errors.Join(err, end()) }()
	if err != nil {
		return err
	}
	haproxy, stop, missing := b.haproxy(ctx, direct.to)
	defer stop()
	all := []*carrier{direct, self, proxy}
	if missing == nil {
		all = append(all, haproxy)
	}
	if err := b.repeat(func() error {
		for _, c := range all {
			if err := c.measure(ctx); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
		return nil
	}); err != nil {
		return err
	}
	b.compareRates("64 KiB answers: direct", direct, self, "≥ 0.90")
	b.compareRates("  docker-proxy", proxy, self, "≥ 1.00")
	if missing == nil {
		b.compareRates("  HAProxy, TCP mode", haproxy, self, "≥ 1.00")
	} else {
		b.print(row{name: "  HAProxy, TCP mode", floor: "–", berth: "not measured", ratio: "–", target: "–", runs: missing.Error()})
	}
	for _, c := range all[1:] {
		b.print(row{
			name: "  added to the median latency: " + c.name, floor: micros(median(direct.waits)), berth: "+ " + micros(median(c.waits)-median(direct.waits)),
			ratio: "–", target: map[bool]string{true: "≤ 60 µs", false: "–"}[c == self], runs: fmt.Sprint(len(c.waits)),
		})
	}
	return err
}

func micros(d time.Duration) string { return fmt.Sprintf("%.0f µs", float64(d.Nanoseconds())/1000) }

// compareRates prints throughput, and processor time where both carry.
func (b *bench) compareRates(name string, floor, self *carrier, target string) {
	f, s := medianOf(floor.rates), medianOf(self.rates)
	b.print(row{
		name: name, floor: rate(f), berth: rate(s), ratio: fmt.Sprintf("%.2f", s/f), target: target, runs: fmt.Sprint(len(self.rates)),
	})
	if floor.pid == 0 {
		return
	}
	f, s = medianOf(floor.costs), medianOf(self.costs)
	b.print(row{
		name: "    processor time a GiB", floor: fmt.Sprintf("%.2f s", f), berth: fmt.Sprintf("%.2f s", s),
		ratio: fmt.Sprintf("%.2f", s/f), target: "–", runs: fmt.Sprint(len(self.costs)),
	})
}

func rate(bytesPerSecond float64) string { return fmt.Sprintf("%.0f MB/s", bytesPerSecond/1e6) }

// measure adds one run to each series.
func (c *carrier) measure(ctx context.Context) error {
	before, err := c.used()
	if err != nil {
		return err
	}
	begin := time.Now()
	bytes, err := throughput(ctx, c.to, streams, answerSize, streamsLast)
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

// manyConnections measures what connections cost that do nothing, and that many
// short ones leave nothing behind.
func (b *bench) manyConnections(ctx context.Context, self *carrier) error {
	before, err := descriptors(self.pid)
	if err != nil {
		return err
	}
	n := min(idleConns, b.mostConns())
	open, err := hold(ctx, self.to[0], n)
	defer func() { closeAll(open) }()
	if err != nil {
		return err
	}
	rss, err := residentBytes(self.pid)
	if err != nil {
		return err
	}
	b.figure(fmt.Sprintf("daemon resident, %d idle connections", n), fmt.Sprintf("%.1f MB", float64(rss)/1e6), "≤ 150 MB")
	closeAll(open)
	open = nil
	if _, err := descriptorsBack(ctx, self.pid, before); err != nil {
		return err
	}
	failed, first := shortConnections(ctx, self.to[0], shortConns)
	if failed == 0 && first != nil {
		return first
	}
	after, err := descriptorsBack(ctx, self.pid, before)
	if err != nil {
		return err
	}
	b.figure(fmt.Sprintf("%d short connections: failed", shortConns), fmt.Sprint(failed), "0")
	b.figure("  descriptors before and after", fmt.Sprintf("%d, %d", before, after), "no more")
	if first != nil {
		fmt.Fprintln(b.out, "  the first that failed:", first)
	}
	return nil
}

// mostConns is how many connections this process and a balancer may have.
func (b *bench) mostConns() int { return int(b.descriptors)/2 - 512 } //nolint:gosec // at most 2^20

// descriptors counts a process's.
func descriptors(pid int) (int, error) {
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	return len(list), err
}

// descriptorsBack waits until a process has no more than so many, or has had the
// time for it, and returns how many there are.
func descriptorsBack(ctx context.Context, pid, before int) (int, error) {
	for until := time.Now().Add(settled); ; {
		now, err := descriptors(pid)
		if err != nil || now <= before || time.Now().After(until) {
			return now, err
		}
		if err := sleep(ctx, quiet); err != nil {
			return now, err
		}
	}
}

// addresses are those of a stack's containers, with a port.
func (r *rawEngine) addresses(ctx context.Context, stack, port string) ([]string, error) {
	ids, err := r.containers(ctx, stack)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, id := range ids {
		c, err := r.api.ContainerInspect(ctx, id)
		if err != nil {
			return nil, err
		}
		for _, n := range c.NetworkSettings.Networks {
			all = append(all, net.JoinHostPort(n.IPAddress, port))
		}
	}
	return all, nil
}

// dockerProxy publishes a container's port by the engine. From 127.0.0.1 it is
// reached by way of the engine's docker-proxy alone: the engine's rules leave out
// that network. The processor time of that process shows it.
func (b *bench) dockerProxy(ctx context.Context) (c *carrier, end func() error, err error) {
	end = func() error { return nil }
	port, err := freePort(ctx)
	if err != nil {
		return nil, end, err
	}
	g, err := b.raw.group(ctx, "floor-balance", b.image)
	if err != nil {
		return nil, end, err
	}
	end = func() error { return g.remove(context.WithoutCancel(ctx), 1) }
	g.command = []string{"/page"}
	g.ports = nat.PortMap{"7000/tcp": {{HostIP: "127.0.0.1", HostPort: strconv.Itoa(port)}}}
	if err := g.grow(ctx, 1, 1); err != nil {
		return nil, end, err
	}
	pid, err := processWith("docker-proxy", "-host-port\x00"+strconv.Itoa(port)+"\x00")
	return &carrier{name: "docker-proxy", to: []string{loopback(port)}, pid: pid}, end, err
}

// processWith is the process of a program that has words in its command line.
func processWith(program, words string) (int, error) {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return 0, err
	}
	for _, f := range files {
		line, err := os.ReadFile(f) // #nosec G304 -- of /proc
		if err != nil {
			continue // it has ended
		}
		name, _, _ := strings.Cut(string(line), "\x00")
		if filepath.Base(name) == program && strings.Contains(string(line), words) {
			return strconv.Atoi(filepath.Base(filepath.Dir(f)))
		}
	}
	return 0, fmt.Errorf("there is no process %s for the port: is the engine's userland-proxy turned off?", program)
}
