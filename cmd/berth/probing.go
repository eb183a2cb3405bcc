package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/berth-dev/berth/health"
	"github.com/berth-dev/berth/internal/daemon"
	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/runtime/cgroup"
	"github.com/berth-dev/berth/runtime/docker"
	"github.com/berth-dev/berth/runtime/inside"
)

// newProbing says how probes reach the containers of an engine.
// Its helpers are given their owner later, before anything is probed.
func newProbing(ctx context.Context, engine *docker.Engine) (daemon.Probing, *prober, error) {
	info, err := engine.Info(ctx)
	if err != nil {
		return daemon.Probing{}, nil, err
	}
	place := inside.Find(info)
	p := &prober{engine: engine, place: place}
	p.helpers.Engine = engine
	p.helpers.Image = func(ctx context.Context) (string, error) { return cgroup.Image(ctx, engine, self) }
	return daemon.Probing{
		Checks: &health.Checkers{Exec: p, Inspect: engine, Logs: engine, Helper: p.dial},
		Local:  place.Reachable, EngineHost: engineHost(info.Host), Listeners: p.listeners,
	}, p, nil
}

// engineHost is the machine that an engine's endpoint names; empty: this one.
func engineHost(endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme == "unix" || u.Scheme == "npipe" {
		return ""
	}
	return u.Hostname()
}

// prober does in containers what health asks for.
type prober struct {
	engine *docker.Engine
	place  inside.Place
	pids   sync.Map // the main process (int) of a container (ID), as last seen
	// helpers do what this process may not.
	helpers inside.Helpers
}

// Exec runs a command as [health.Execer] says.
func (p *prober) Exec(ctx context.Context, container string, cmd []string, limit health.Limit) (int, []byte, error) {
	ran, err := p.engine.RunBounded(ctx, container, cmd, docker.Bounds{Time: limit.Time, Output: limit.Output, Kill: p.kill})
	if err == nil && ran.TimedOut {
		err = health.ErrTimeout
	}
	if ran.KillErr != nil {
		err = &health.StillRuns{After: err, Err: ran.KillErr, End: ran.End}
	}
	if err != nil {
		return 0, ran.Output, err
	}
	return ran.Code, ran.Output, nil
}

// kill ends the processes of a command in a container.
func (p *prober) kill(ctx context.Context, container string, pid int, marker string) error {
	if p.place.Enter {
		return inside.Kill(ctx, container, pid, docker.MarkerEnv+"="+marker)
	}
	if err := p.helpers.Kill(ctx, container, docker.MarkerEnv+"="+marker); err != nil {
		return fmt.Errorf("the daemon may not (%s) and a helper container cannot: %w", p.place.Why, err)
	}
	return nil
}

// dial connects from inside a container's network.
func (p *prober) dial(ctx context.Context, container, address string) (net.Conn, error) {
	if !p.place.Enter {
		return p.helpers.Dial(ctx, container, address)
	}
	return p.enter(ctx, container, address)
}

// enter connects from inside the network of a container by its main process,
// which the engine is asked for when it is not known, or gone.
func (p *prober) enter(ctx context.Context, container, address string) (net.Conn, error) {
	if pid, ok := p.pids.Load(container); ok {
		conn, err := inside.Dial(ctx, container, pid.(int), address) //nolint:forcetypeassert // nothing else is stored
		if !errors.Is(err, inside.ErrGone) {
			return conn, err
		}
		p.pids.Delete(container)
	}
	c, err := p.engine.Inspect(ctx, container)
	if err != nil {
		return nil, err
	}
	if c.PID == 0 {
		return nil, &runtime.Error{Kind: runtime.KindConflict, Op: "enter the network of", Object: c.Name, Err: inside.ErrGone}
	}
	conn, err := inside.Dial(ctx, c.ID, c.PID, address)
	if errors.Is(err, inside.ErrGone) {
		return nil, &runtime.Error{Kind: runtime.KindConflict, Op: "enter the network of", Object: c.Name, Err: err}
	}
	p.pids.Store(container, c.PID)
	return conn, err
}

// listeners reads what is listened on in the network namespace of a process of
// the engine's machine; nil: that is not known.
func (p *prober) listeners(pid int) []netip.AddrPort {
	if !p.place.Enter {
		return nil
	}
	var out []netip.AddrPort
	for _, table := range []string{"tcp", "tcp6"} {
		f, err := os.Open(fmt.Sprintf("/proc/%d/net/%s", pid, table))
		if err != nil {
			continue // it has ended, or has no IPv6
		}
		list, err := health.ParseListeners(f)
		_ = f.Close() // it was only read
		if err == nil {
			out = append(out, list...)
		}
	}
	return out
}

// insideHelper is the program in a helper container. It returns the exit code.
func insideHelper(ctx context.Context, args []string, in io.Reader, out, complaints io.Writer) int {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := inside.Serve(ctx, args, in, out); err != nil {
		_, _ = fmt.Fprintln(complaints, "berth:", err) // nobody is left to be told
		return 1
	}
	return 0
}
