package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/docker/docker/api/types/container"
)

// What is rolled out.
const (
	rolled   = 10 // replicas
	abreast  = 2  // replaced at a time
	pagePort = "8080"
)

const rolling = `services:
  web:
    image: berth-bench:latest
    command: ["/page"]
    environment: {VERSION: "%d"}
    ports: ["127.0.0.1:%d:8080"]
    deploy:
      replicas: %d
      update_config: {parallelism: %d, order: start-first, monitor: 0s}
    x-berth:
      balance: {drainIdle: 50ms}
      probes: {readiness: {http: {path: /readyz, port: 8080}, period: 1s}}
`

// rollout measures a rolling update under load, and beside it what else there is:
// Swarm's, and the recreation of all replicas. The floor makes the same calls and
// waits for the same answers, under the same load.
func (b *bench) rollout(ctx context.Context) error {
	var floor, berth []time.Duration
	var asked, failed int
	port, err := freePort(ctx)
	if err != nil {
		return err
	}
	dir, err := b.stack(ctx, "bench-rollout", fmt.Sprintf(rolling, 0, port, rolled, abreast))
	if err != nil {
		return err
	}
	if _, err := b.berth(ctx, dir, "up", "-d", "--wait"); err != nil {
		return err
	}
	version := 0
	if err := b.repeat(func() error {
		took, err := b.rollFloor(ctx)
		if err != nil {
			return fmt.Errorf("floor: %w", err)
		}
		floor = append(floor, took)
		version++
		l, took, err := b.roll(ctx, dir, fmt.Sprintf(rolling, version, port, rolled, abreast), port)
		if err != nil {
			return err
		}
		berth = append(berth, took)
		asked, failed = asked+l.asked, failed+l.failed
		return l.example
	}); err != nil {
		return err
	}
	b.compare(fmt.Sprintf("rolling update, %d replicas, %d at a time", rolled, abreast), floor, berth, 1.25)
	b.figure("  failed requests", fmt.Sprintf("%d of %d", failed, asked), "0")
	if _, err := b.berth(ctx, dir, "down", "-t", "0"); err != nil {
		return err
	}
	return errors.Join(b.recreate(ctx), b.swarm(ctx))
}

// roll brings up what a Compose file says, under load, and sees that it did.
func (b *bench) roll(ctx context.Context, dir, compose string, port int) (*load, time.Duration, error) {
	old, err := b.raw.containers(ctx, filepath.Base(dir))
	if err != nil {
		return nil, 0, err
	}
	if err := os.WriteFile(filepath.Join(dir, "compose.yaml"), []byte(compose), 0o600); err != nil {
		return nil, 0, err
	}
	url := fmt.Sprintf("http://127.0.0.1:%d/", port)
	l := ask(ctx, func() string { return url })
	took, err := b.berth(ctx, dir, "up", "-d")
	l.finish()
	if err != nil {
		return nil, 0, err
	}
	// The last old container stays a while longer, until the new revision was watched.
	if _, err := b.berth(ctx, dir, "up", "-d", "--wait"); err != nil {
		return nil, 0, err
	}
	now, err := b.raw.containers(ctx, filepath.Base(dir))
	if err != nil {
		return nil, 0, err
	}
	if len(now) != rolled || len(intersection(old, now)) > 0 {
		return nil, 0, fmt.Errorf("up --wait has left %d containers, %d of them old", len(now), len(intersection(old, now)))
	}
	return l, took, nil
}

func intersection(a, b []string) []string {
	in := map[string]bool{}
	for _, s := range a {
		in[s] = true
	}
	var both []string
	for _, s := range b {
		if in[s] {
			both = append(both, s)
		}
	}
	return both
}

// freePort is a port of the loopback that nobody has.
func freePort(ctx context.Context) (int, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// pages are the floor's pages, and where its load goes: to each in turn that is
// listed.
type pages struct {
	g    *group
	turn atomic.Int64

	mu   sync.Mutex // protects all below
	urls []string   // by index of the container; "": none
}

// pages creates n of them, which are ready.
func (b *bench) pages(ctx context.Context, prefix string, n int) (*pages, error) {
	g, err := b.raw.group(ctx, prefix, b.image)
	if err != nil {
		return nil, err
	}
	g.command = []string{"/page"}
	p := &pages{g: g, urls: make([]string, n)}
	if err := g.grow(ctx, n, parallels[0]); err != nil {
		return nil, err
	}
	return p, each(ctx, n, parallels[0], func(ctx context.Context, i int) error { return p.publish(ctx, i) })
}

// publish waits until a page is ready, and then lists it.
func (p *pages) publish(ctx context.Context, i int) error {
	address, err := p.g.address(ctx, p.g.ids[i])
	if err != nil {
		return err
	}
	url := "http://" + net.JoinHostPort(address, pagePort)
	if err := ready(ctx, url+"/readyz"); err != nil {
		return err
	}
	p.list(i, url)
	return nil
}

func (p *pages) list(i int, url string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.urls[i] = url
}

// next is the next listed page.
func (p *pages) next() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		if url := p.urls[int(p.turn.Add(1))%len(p.urls)]; url != "" {
			return url
		}
	}
}

// readyLook is how often the floor asks whether a page is ready.
const readyLook = 5 * time.Millisecond

// ready waits until a page answers.
func ready(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, longestRevival)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: connectMost}
	for {
		_, err := get(ctx, client, url)
		if err == nil {
			return nil
		}
		if sleep(ctx, readyLook) != nil {
			return fmt.Errorf("it is never ready: %w", err)
		}
	}
}

// replace makes a new page, which takes the place of another in the list, and then
// ends that.
func (p *pages) replace(ctx context.Context, i int, name string) error {
	old := p.g.ids[i]
	if err := p.fresh(ctx, i, name); err != nil {
		return err
	}
	return p.g.end(ctx, old)
}

// fresh creates and starts a page in the place of another, and lists it once it is
// ready.
func (p *pages) fresh(ctx context.Context, i int, name string) error {
	id, err := p.g.createNamed(ctx, name)
	if err != nil {
		return err
	}
	p.g.ids[i] = id
	if err := p.g.raw.start(ctx, id); err != nil {
		return err
	}
	return p.publish(ctx, i)
}

// rollFloor is one rolling update by raw calls.
func (b *bench) rollFloor(ctx context.Context) (time.Duration, error) {
	p, err := b.pages(ctx, "floor-rollout", rolled)
	if err != nil {
		return 0, err
	}
	l := ask(ctx, p.next)
	took, err := timed(func() error {
		return each(ctx, rolled, abreast, func(ctx context.Context, i int) error {
			return p.replace(ctx, i, fmt.Sprintf("%s-next-%d", p.g.prefix, i+1))
		})
	})
	l.finish()
	return took, errors.Join(err, p.g.remove(ctx, parallels[0]))
}

// recreate measures what takes all replicas away before it makes new ones: the
// load goes to where they were.
func (b *bench) recreate(ctx context.Context) error {
	p, err := b.pages(ctx, "floor-recreate", rolled)
	if err != nil {
		return err
	}
	l := ask(ctx, p.next)
	took, err := timed(func() error {
		if err := each(ctx, rolled, parallels[0], func(ctx context.Context, i int) error { return p.g.end(ctx, p.g.ids[i]) }); err != nil {
			return err
		}
		return each(ctx, rolled, parallels[0], func(ctx context.Context, i int) error {
			return p.fresh(ctx, i, fmt.Sprintf("%s-next-%d", p.g.prefix, i+1))
		})
	})
	l.finish()
	if err := errors.Join(err, p.g.remove(ctx, parallels[0])); err != nil {
		return err
	}
	b.print(row{
		name: "  stop all, then start all: failed", floor: seconds(took), berth: fmt.Sprintf("%.0f %%", 100*float64(l.failed)/float64(l.asked)),
		ratio: "–", target: "–", runs: "1",
	})
	return nil
}

// end stops a container as its image says, and removes it.
func (g *group) end(ctx context.Context, id string) error {
	if err := g.raw.api.ContainerStop(ctx, id, container.StopOptions{}); err != nil {
		return err
	}
	return g.raw.api.ContainerRemove(ctx, id, container.RemoveOptions{Force: true})
}

// address is a container's in the group's network.
func (g *group) address(ctx context.Context, id string) (string, error) {
	c, err := g.raw.api.ContainerInspect(ctx, id)
	if err != nil {
		return "", err
	}
	at := c.NetworkSettings.Networks[g.network]
	if at == nil || at.IPAddress == "" {
		return "", fmt.Errorf("container %s has no address in network %s", id[:12], g.network)
	}
	return at.IPAddress, nil
}
