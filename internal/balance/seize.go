package balance

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// seizeEvery is how often Seize tries: a bind that fails costs some microseconds.
const seizeEvery = 2 * time.Millisecond

// Seize listens at the frontends of a pool that the last Apply could not listen
// at, within milliseconds of when their ports are let go of: it tries until it
// listens at all of them, or ctx ends, and reports which. It is for ports that
// are about to be free; [Balancer.Apply] says who holds the others.
func (b *Balancer) Seize(ctx context.Context, k Key) bool {
	defer b.release(k)
	t := time.NewTicker(seizeEvery)
	defer t.Stop()
	for {
		if b.seizeAll(ctx, k) {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-t.C:
		}
	}
}

func (b *Balancer) seizeAll(ctx context.Context, k Key) (all bool) {
	b.applying.Lock()
	defer b.applying.Unlock()
	all = true
	for i, s := range b.asked { // written only while b.applying is held
		b.mu.Lock()
		p, have, released := b.pools[k], b.open[s.slot()], b.released
		b.mu.Unlock()
		switch {
		case released || p == nil:
			return false
		case s.Key != k || have != nil || s.check() != nil:
			continue
		}
		opened, err := b.seizeOne(ctx, s.Frontend, p)
		if err != nil {
			all = false
			continue
		}
		status := b.keep(s.Frontend, opened)
		b.mu.Lock()
		b.asked[i] = status
		b.mu.Unlock()
	}
	return all
}

// seizeOne opens a frontend as soon as all of its port is free. What is free of it
// before is taken already: its clients wait in the kernel's queue. b.applying is held.
func (b *Balancer) seizeOne(ctx context.Context, f Frontend, p *pool) (frontend, error) {
	if f.Protocol != TCP || f.Host.IsValid() || f.Port == 0 {
		return b.listen(ctx, f, p)
	}
	part := b.seized[f.slot()]
	if part == nil {
		part = &families{}
		b.seized[f.slot()] = part
	}
	if err := part.take(ctx, f.Port); err != nil {
		return nil, err
	}
	delete(b.seized, f.slot())
	return newTCPFrontend(b, f, p, part.ls...), nil
}

// release gives up what was taken for a pool of ports that did not become free.
func (b *Balancer) release(k Key) {
	b.applying.Lock()
	defer b.applying.Unlock()
	for _, s := range b.asked {
		if part := b.seized[s.slot()]; part != nil && s.Key == k {
			closeListeners(part.ls)
			delete(b.seized, s.slot())
		}
	}
}

// families are listeners at one port of all addresses, one for each family: the
// engine lets go of the families one after the other.
type families struct {
	ls []*net.TCPListener
	no [2]error // why a family cannot be had: this machine may lack one
}

// take listens in the families that it does not listen in yet. An error says that
// one of them is still held, or that there is none.
func (a *families) take(ctx context.Context, port uint16) error {
	var held error
	for i, host := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		if a.no[i] != nil || a.has(host) {
			continue
		}
		lc := net.ListenConfig{KeepAliveConfig: keepAlive}
		l, err := lc.Listen(ctx, networkOf(host), netip.AddrPortFrom(host, port).String())
		switch {
		case err == nil:
			a.ls = append(a.ls, l.(*net.TCPListener))
		case errors.Is(err, syscall.EADDRINUSE) || ctx.Err() != nil:
			held = err
		default:
			a.no[i] = err
		}
	}
	if held == nil && len(a.ls) == 0 {
		held = errors.Join(a.no[:]...)
		a.no = [2]error{} // it may be another one the next time
	}
	return held
}

func (a *families) has(host netip.Addr) bool { return listensIn(a.ls, host) }
