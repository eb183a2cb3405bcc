package fake

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/berth-dev/berth/runtime"
)

// Overlap is a moment at which more than one container was alive for one slot.
type Overlap struct {
	Time       time.Time
	Stack      string
	Service    string
	Slot       int
	Containers []string // names, sorted
}

func (o Overlap) String() string {
	return fmt.Sprintf("%s: slot %s/%s-%d has %d live containers: %v", o.Time.Format(time.RFC3339Nano), o.Stack, o.Service, o.Slot, len(o.Containers), o.Containers)
}

// Overlaps returns every moment at which a second container of one stack,
// service and slot came alive where [Options.AllowOverlap] does not allow it.
func (e *Engine) Overlaps() []Overlap {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.overlaps)
}

// noteOverlaps looks at the slot of a container that has just come alive.
func (e *Engine) noteOverlaps(c *container) {
	id, err := runtime.ParseIdentity(c.Labels)
	if err != nil || c.Labels[runtime.LabelRelay] != "" || (e.opts.AllowOverlap != nil && e.opts.AllowOverlap(id.Stack, id.Service)) {
		return
	}
	var alive []string
	for _, other := range e.sortedContainers() {
		j, err := runtime.ParseIdentity(other.Labels)
		if err == nil && other.Labels[runtime.LabelRelay] == "" && other.proc != nil && !other.proc.isDone() &&
			j.Stack == id.Stack && j.Service == id.Service && j.Slot == id.Slot && j.OneOff == id.OneOff {
			alive = append(alive, other.Name)
		}
	}
	if len(alive) > 1 {
		e.overlaps = append(e.overlaps, Overlap{Time: e.nowLocked(), Stack: id.Stack, Service: id.Service, Slot: id.Slot, Containers: alive})
	}
}

// Leftovers lists what the engine holds and owned does not claim: containers,
// networks, volumes, and ports held for containers, as "container shop-web-1".
// owned is called with the kind, name and labels of each; nil claims nothing.
func (e *Engine) Leftovers(owned func(kind, name string, labels map[string]string) bool) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var left []string
	note := func(kind, name string, labels map[string]string) {
		if owned == nil || !owned(kind, name, maps.Clone(labels)) {
			left = append(left, kind+" "+name)
		}
	}
	for _, c := range e.sortedContainers() {
		note("container", c.Name, c.Labels)
	}
	for _, n := range slices.SortedFunc(maps.Values(e.networks), func(a, b *network) int { return cmp.Compare(a.Name, b.Name) }) {
		if !n.predefined {
			note("network", n.Name, n.Labels)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(e.volumes)) {
		note("volume", name, e.volumes[name].Labels)
	}
	for key, holder := range e.ports {
		if holder != "a foreign process" {
			note("port", key.String(), nil)
		}
	}
	slices.Sort(left)
	return left
}
