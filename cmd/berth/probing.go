package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"sync"

	"github.com/berth-dev/berth/health"
	"github.com/berth-dev/berth/internal/daemon"
	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/runtime/docker"
	"github.com/berth-dev/berth/runtime/inside"
)

// newProbing says how probes reach the containers of an engine.
func newProbing(ctx context.Context, engine *docker.Engine) (daemon.Probing, error) {
	info, err := engine.Info(ctx)
	if err != nil {
		return daemon.Probing{}, err
	}
	place := inside.Find(info)
	p := &prober{engine: engine, place: place}
	return daemon.Probing{
		Checks: &health.Checkers{Exec: p, Inspect: engine, Logs: engine, Helper: p.dial},
		Local:  place.Reachable, EngineHost: engineHost(info.Host), Listeners: p.listeners,
	}, nil
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
}

// Exec runs a command as [health.Execer] says.
func (p *prober) Exec(ctx context.Context, container string, cmd []string, limit health.Limit) (int, []byte, error) {
	ran, err := p.engine.RunBounded(ctx, container, cmd, docker.Bounds{Time: limit.Time, Output: limit.Output, Kill: p.kill})
	if err != nil {
		return 0, ran.Output, err
	}
	if ran.TimedOut {
		out := ran.Output
		if ran.KillErr != nil {
			out = fmt.Appendf(nil, "it may still run, since it cannot be ended: %v; %s", ran.KillErr, out)
		}
		return 0, out, health.ErrTimeout
	}
	return ran.Code, ran.Output, nil
}

// kill ends the processes of a command in a container.
func (p *prober) kill(ctx context.Context, container string, pid int, marker string) error {
	if p.place.Enter {
		return inside.Kill(ctx, container, pid, docker.MarkerEnv+"="+marker)
	}
	return fmt.Errorf("the daemon may not: %s", p.place.Why)
}

// dial connects from inside a container's network.
func (p *prober) dial(ctx context.Context, container, address string) (net.Conn, error) {
	if !p.place.Enter {
		return nil, &runtime.Error{Kind: runtime.KindUnavailable, Op: "enter the network of", Object: container, Err: fmt.Errorf("the daemon may not: %s", p.place.Why)}
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
