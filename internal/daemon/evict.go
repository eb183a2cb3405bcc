package daemon

import (
	"maps"
	"slices"
	"time"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/reconcile"
	"github.com/berth-dev/berth/runtime"
)

// How often nodes are looked at for a lack of memory: often enough for it to be
// noticed in time, and so rarely that the looks, which take a helper container
// where the daemon may not read cgroups, take a small part of the time.
const (
	pressureLook = 2 * time.Second
	lookShare    = 20 // times as long as a look has taken is waited for the next
)

// untilLook is how long after a look that took so long the next one follows.
func (d *Daemon) untilLook(took time.Duration) time.Duration {
	if d.bounds == nil || !d.nodes.limitMemory() {
		return d.cfg.Resync
	}
	return max(pressureLook, lookShare*took)
}

// limitMemory reports whether the memory of some node is limited.
func (n *nodes) limitMemory() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, b := range n.bounds {
		if b.limits.Memory > 0 && b.made.Parent != "" {
			return true
		}
	}
	return false
}

// relieve has a replica leave a node that stays short of memory.
func (d *Daemon) relieve(node string, p *runtime.Pressure, now time.Time) {
	was, is := d.nodes.lack(node, p, now)
	log := d.cfg.Log.With().Str("node", node).Int64("memory", p.Memory).Int64("limit", p.MemoryLimit).Logger()
	switch {
	case was.since.IsZero() && !is.since.IsZero():
		log.Warn().Msg("the node is short of memory; no replica is placed there")
	case !was.since.IsZero() && is.since.IsZero():
		log.Info().Msg("the node is not short of memory any more")
	}
	evicted := d.nodes.shed(node, p, now)
	if evicted != nil {
		log.Warn().Str("stack", evicted.Stack).Str("service", evicted.Service).Int("slot", evicted.Slot).
			Str("cause", evicted.why(p)).Msg("a replica is evicted")
	}
	if evicted != nil || was.since.IsZero() != is.since.IsZero() {
		d.wakeAll()
	}
	if err := d.nodes.storeShortage(d.store.saveNodes, node); err != nil {
		log.Error().Err(err).Msg("the node's lack of memory cannot be stored; it is tried again")
	}
}

// storedShortage is what is stored of a node's lack of memory, so that the next
// daemon neither places replicas there nor evicts any sooner than this one would.
type storedShortage struct {
	Since   time.Time                                   `json:"since"`
	Evicted time.Time                                   `json:"evicted,omitzero"`
	Shed    map[string]map[reconcile.Key]reconcile.Shed `json:"shed,omitempty"` // by stack
}

// bound is what a node's boundary begins with; the zero one has no shortage.
func (s storedShortage) bound() *bound {
	return &bound{short: shortage{since: s.Since, evicted: s.Evicted}, shed: s.Shed}
}

// storeShortage stores a node's lack of memory, where it is not stored as it is.
func (n *nodes) storeShortage(save func(nodeState) error, node string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	b := n.bounds[node]
	if b == nil {
		return nil
	}
	is, was := storedShortage{Since: b.short.since, Evicted: b.short.evicted, Shed: b.shed}, n.state.Short[node]
	if same(is, was) {
		return nil
	}
	next := n.state
	next.Short = maps.Clone(next.Short)
	if next.Short == nil {
		next.Short = map[string]storedShortage{}
	}
	if next.Short[node] = is; is.Since.IsZero() {
		delete(next.Short, node)
	}
	if err := save(next); err != nil {
		return err
	}
	n.state = next
	return nil
}

// lack takes over what a look at a node has told of its memory.
func (n *nodes) lack(node string, p *runtime.Pressure, now time.Time) (was, is shortage) {
	n.mu.Lock()
	defer n.mu.Unlock()
	b := n.bounds[node]
	if b == nil {
		return shortage{}, shortage{}
	}
	limit := p.MemoryLimit
	if b.limits.Memory == 0 {
		limit = 0 // what limits it is none of the node's
	}
	was, is = b.short, b.short.next(p.Memory, limit, now)
	b.short = is
	if is.since.IsZero() {
		b.shed = nil
	}
	return was, is
}

// shed chooses the replica that is to leave a node now; nil: none is, or the last
// one is still about to. One that does not go, since a command holds it, is passed
// over after a while.
func (n *nodes) shed(node string, p *runtime.Pressure, now time.Time) *candidate {
	n.mu.Lock()
	defer n.mu.Unlock()
	b := n.bounds[node]
	if b == nil || !b.short.evicts(now) {
		return nil
	}
	all := candidates(n.residentsLocked(node), p)
	left := slices.DeleteFunc(slices.Clone(all), func(c candidate) bool { return b.sheds(&c.Resident) })
	if len(left) < len(all) && now.Sub(b.short.evicted) < leaves {
		return nil
	}
	c, ok := victim(left)
	if !ok {
		return nil
	}
	b.short.evicted = now
	b.shed = maps.Clone(b.shed) // readers have the old one
	if b.shed == nil {
		b.shed = map[string]map[reconcile.Key]reconcile.Shed{}
	}
	of := maps.Clone(b.shed[c.Stack])
	if of == nil {
		of = map[reconcile.Key]reconcile.Shed{}
	}
	of[reconcile.ReplicaKey(c.Service, c.Slot)] = reconcile.Shed{Container: c.Container, Node: node, Why: c.why(p), At: now}
	b.shed[c.Stack] = of
	return &c
}

// sheds reports whether a replica's container is about to leave the node.
func (b *bound) sheds(r *reconcile.Resident) bool {
	return b.shed[r.Stack][reconcile.ReplicaKey(r.Service, r.Slot)].Container == r.Container
}

// residentsLocked are the replicas on a node; n.mu is held.
func (n *nodes) residentsLocked(node string) []reconcile.Resident {
	var list []reconcile.Resident
	for _, s := range sortedKeys(n.ledger) {
		for _, r := range n.ledger[s].Residents {
			if r.Node == node {
				list = append(list, r)
			}
		}
	}
	return list
}

// shedLocked are the replicas of a stack that were told to leave nodes which are
// short of memory; n.mu is held.
func (n *nodes) shedLocked(stack string) map[reconcile.Key]reconcile.Shed {
	var all map[reconcile.Key]reconcile.Shed
	for _, node := range sortedKeys(n.bounds) {
		for key, s := range n.bounds[node].shed[stack] {
			if all == nil {
				all = map[reconcile.Key]reconcile.Shed{}
			}
			if s.At.After(all[key].At) {
				all[key] = s
			}
		}
	}
	return all
}

// shortage describes a node's lack of memory; nil: it has none.
func (b *bound) shortage() *api.NodeShortage {
	if b.short.since.IsZero() {
		return nil
	}
	out := &api.NodeShortage{Since: b.short.since, Relieved: b.short.below}
	for _, s := range sortedKeys(b.shed) {
		for _, key := range sortedKeys(b.shed[s]) {
			e := b.shed[s][key]
			out.Evicted = append(out.Evicted, api.Evicted{Replica: s + "/" + string(key), At: e.At, Why: e.Why})
		}
	}
	slices.SortStableFunc(out.Evicted, func(x, y api.Evicted) int { return x.At.Compare(y.At) })
	return out
}
