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

	"github.com/docker/docker/api/types/container"
	"github.com/docker/go-connections/nat"
)

// What goes through the balancer.
const (
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

// balancedOne adds a service of a single replica, since the engine publishes a port
// for one.
const balancedOne = `  one:
    image: berth-bench:latest
    command: ["/page"]
    ports: ["127.0.0.1:%d:7000"]
    x-berth:
      publish: balanced
`

// balance measures what the balancer of a daemon costs, beside the same answers
// without it and with others in its place.
func (b *bench) balance(ctx context.Context) error {
	two, err := freePort(ctx)
	if err != nil {
		return err
	}
	one, err := freePort(ctx)
	if err != nil {
		return err
	}
	dir, err := b.stack(ctx, "bench-balance", fmt.Sprintf(balanced+balancedOne, two, one))
	if err != nil {
		return err
	}
	if _, err := b.berth(ctx, dir, "up", "-d"); err != nil {
		return err
	}
	direct, err := b.raw.addresses(ctx, "bench-balance", "web", "7000")
	if err != nil {
		return err
	}
	pid, err := b.daemonPID(ctx)
	if err != nil {
		return err
	}
	self := &carrier{name: "balanced", to: []string{loopback(two)}, pid: pid}
	err = b.compareCarriers(ctx, carriers{
		direct: &carrier{name: "direct", to: direct}, self: self,
		single: &carrier{name: "balanced, one replica", to: []string{loopback(one)}, pid: pid},
	})
	err = errors.Join(err, b.manyConnections(ctx, self))
	_, down := b.berth(ctx, dir, "down", "-t", "0")
	return errors.Join(err, down)
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

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

// addresses are those of a service's containers, with a port.
func (r *rawEngine) addresses(ctx context.Context, stack, service, port string) ([]string, error) {
	of := ofStack(stack)
	of.Add("label", "com.docker.compose.service="+service)
	list, err := r.api.ContainerList(ctx, container.ListOptions{Filters: of})
	if err != nil {
		return nil, err
	}
	var all []string
	for i := range list {
		c, err := r.api.ContainerInspect(ctx, list[i].ID)
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
