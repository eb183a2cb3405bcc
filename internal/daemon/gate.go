package daemon

import (
	"context"
	"sync"

	"github.com/berth-dev/berth/internal/reconcile"
)

// gate lets a bounded number of calls through at a time; urgent ones pass the
// queue of ordinary ones.
type gate struct {
	mu     sync.Mutex // protects free and the queues
	free   int
	urgent []chan struct{}
	others []chan struct{}
}

func newGate(n int) *gate { return &gate{free: n} }

// enter waits for a place. It returns the context's error when that ends first.
func (g *gate) enter(ctx context.Context, urgent bool) error {
	g.mu.Lock()
	if g.free > 0 {
		g.free--
		g.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	if urgent {
		g.urgent = append(g.urgent, turn)
	} else {
		g.others = append(g.others, turn)
	}
	g.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
		g.giveUp(turn)
		return ctx.Err()
	}
}

// giveUp leaves the queue, or gives the place back that came at the last moment.
func (g *gate) giveUp(turn chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, q := range []*[]chan struct{}{&g.urgent, &g.others} {
		for i, t := range *q {
			if t == turn {
				*q = append((*q)[:i:i], (*q)[i+1:]...)
				return
			}
		}
	}
	g.passOnLocked()
}

// leave gives the place to the next in line.
func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.passOnLocked()
}

func (g *gate) passOnLocked() {
	for _, q := range []*[]chan struct{}{&g.urgent, &g.others} {
		if len(*q) > 0 {
			close((*q)[0])
			*q = (*q)[1:]
			return
		}
	}
	g.free++
}

// gates bound the calls toward the engine by what they cost it. Its throughput
// of starts is flat from four side by side on, while each takes longer.
type gates struct{ starts, creates, removes, stops, objects *gate }

func newGates(cpus int) *gates {
	return &gates{
		starts:  newGate(2 * cpus),
		creates: newGate(2 * cpus),
		removes: newGate(4 * cpus),
		stops:   newGate(64), // they mostly wait for the process to end
		objects: newGate(2 * cpus),
	}
}

func (g *gates) of(op reconcile.Op) *gate {
	switch op {
	case reconcile.OpStart, reconcile.OpRestart, reconcile.OpUnpause:
		return g.starts
	case reconcile.OpCreate, reconcile.OpUpdate, reconcile.OpRename:
		return g.creates
	case reconcile.OpRemove:
		return g.removes
	case reconcile.OpStop, reconcile.OpKill, reconcile.OpPause:
		return g.stops
	default:
		return g.objects
	}
}
