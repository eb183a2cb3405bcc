package scheduler

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// change is one thing that would make the shape fit.
type change struct {
	kind   changeKind
	amount int64 // how much of it, in ten-thousandths of what there is; less is better
	text   string
}

// changeKind orders changes from the smallest intervention to the largest.
type changeKind int

const (
	bringBack  changeKind = iota // of a node that is out of service
	tolerate                     // of a taint
	resize                       // of a reservation or a capacity
	freePort                     // by what holds it
	raiseLimit                   // of replicas per node or of skew
	relabel                      // of the node, or drop the condition
	startOther                   // of the services that must be near
)

// hint is the smallest change after which a node takes the shape: one thing if
// that is enough somewhere, else as few as possible, all of them of one node. It is
// found by trying what every filter that rejects a node would need.
func (v *survey) hint() string {
	if text := v.tooLarge(); text != "" {
		return text
	}
	var best []*change
	for n := range v.cluster.each() {
		all := v.changesFor(n)
		if all != nil && (best == nil || compareChanges(all, best) < 0) {
			best = all
		}
	}
	texts := make([]string, len(best))
	for i, c := range best {
		texts[i] = c.text
	}
	return strings.Join(texts, " and ")
}

// compareChanges puts fewer changes first, then those whose largest is smaller.
func compareChanges(a, b []*change) int {
	bySize := func(x, y *change) int {
		return cmp.Or(cmp.Compare(x.kind, y.kind), cmp.Compare(x.amount, y.amount))
	}
	return cmp.Or(cmp.Compare(len(a), len(b)), bySize(slices.MaxFunc(a, bySize), slices.MaxFunc(b, bySize)))
}

// tooLarge says so when no node, even empty, has as much of one resource as the shape needs.
func (v *survey) tooLarge() string {
	for i, need := range v.shape.need {
		if need == 0 {
			continue
		}
		if text := v.beyondAll(resourceNames[i], need, func(n *node) (int64, bool) { return n.alloc[i], n.counted[i] }); text != "" {
			return text
		}
	}
	for _, g := range v.shape.generic {
		if text := v.beyondAll(g.name, g.amount, func(n *node) (int64, bool) { return n.genericAlloc(g.name), true }); text != "" {
			return text
		}
	}
	return ""
}

func (n *node) genericAlloc(name string) int64 {
	return n.Capacity.Generic[name] - n.Reserved.Generic[name]
}

func (v *survey) beyondAll(resource string, need int64, size func(*node) (alloc int64, counted bool)) string {
	largest, most := "", int64(-1)
	for n := range v.cluster.each() {
		alloc, counted := size(n)
		if !counted || alloc >= need {
			return ""
		}
		if alloc > most {
			largest, most = n.Name, alloc
		}
	}
	if largest == "" {
		return ""
	}
	return fmt.Sprintf("%s %s is larger than any node: the largest is %s with %s; reserve less or add a larger node",
		resource, FormatAmount(resource, need), largest, FormatAmount(resource, most))
}

// changesFor is what would make the node take the shape, one change for each
// filter that rejects it; nil: one of these has none.
func (v *survey) changesFor(n *node) []*change {
	var all []*change
	failing := map[string]bool{}
	for _, f := range filters {
		if f.pass(v, n) {
			continue
		}
		c := v.changeOf(f.name, n)
		if c == nil {
			return nil
		}
		failing[f.name] = true
		all = append(all, c)
	}
	// How uneven the spread is depends on whether the node counts at all.
	counts := !n.Down && !failing[FilterPlatform] && !failing[FilterConstraints] && !failing[FilterNodeAffinity]
	if failing[FilterSpread] && !counts {
		return nil
	}
	return all
}

// changeOf is the change that satisfies one filter on one node.
func (v *survey) changeOf(filter string, n *node) *change {
	t := &v.shape.template
	switch filter {
	case FilterReady:
		return v.readyChange(n)
	case FilterTaints:
		return v.taintChange(n)
	case FilterResources:
		return v.sizeChange(n)
	case FilterPorts:
		p, by := v.taken(n)
		r := v.cluster.replica(by)
		return &change{kind: freePort, text: fmt.Sprintf("free host port %s, which %s holds on %s", p, r.ID, r.Node)}
	case FilterMaxPerNode:
		own := v.own(n) + 1
		return &change{kind: raiseLimit, amount: int64(own), text: fmt.Sprintf("raise max_replicas_per_node from %d to %d", t.MaxPerNode, own)}
	case FilterSpread:
		return v.skewChange(n)
	case FilterConstraints, FilterNodeAffinity, FilterPlatform:
		return v.labelChange(filter, n)
	case FilterAffinity:
		return v.nearChange(n)
	case FilterAnti:
		return &change{kind: startOther, text: fmt.Sprintf("add a node, or drop the %s", whyAnti(v, n).what)}
	}
	return nil
}

func (v *survey) readyChange(n *node) *change {
	if n.Down {
		return &change{kind: bringBack, amount: 1, text: "recover node " + n.Name}
	}
	if !n.Cordoned || n.Short != "" {
		return nil // it passes by itself, or uncordoning is not enough
	}
	return &change{kind: bringBack, text: "uncordon node " + n.Name}
}

// taintChange tolerates a taint, when one is all that repels the shape.
func (v *survey) taintChange(n *node) *change {
	t := n.Taints[v.shape.repelling(n)]
	with := append(slices.Clone(v.shape.template.Tolerate), Toleration{Key: t.Key, Value: t.Value, Effect: t.Effect})
	for _, other := range n.Taints {
		if other.Effect != PreferNoSchedule && !Tolerated(other, with) {
			return nil
		}
	}
	return &change{kind: tolerate, text: fmt.Sprintf("tolerate the taint %s of %s", t, n.Name)}
}

// sizeChange lowers the reservation, or where nothing would be left of it raises
// the node's capacity, of the one resource that is short.
func (v *survey) sizeChange(n *node) *change {
	lacks := v.lacks(n)
	if len(lacks) != 1 {
		return nil
	}
	l := lacks[0]
	short := l.need - l.free
	if l.free > 0 {
		return &change{kind: resize, amount: parts(short, l.need), text: fmt.Sprintf("reserve %s of %s instead of %s, or raise that of %s by %s",
			FormatAmount(l.resource, l.free), l.resource, FormatAmount(l.resource, l.need), n.Name, exact(l.resource, short))}
	}
	short = l.need - v.exactFree(n, l.resource)
	return &change{kind: resize, amount: parts(short, l.need), text: fmt.Sprintf("raise %s of %s by %s", l.resource, n.Name, exact(l.resource, short))}
}

// exactFree is what is free of the named resource, below zero where too much is promised.
func (v *survey) exactFree(n *node, resource string) int64 {
	if i := slices.Index(resourceNames[:], resource); i >= 0 {
		return v.free(n, i)
	}
	return v.freeGeneric(n, resource)
}

// parts is about short/need in ten-thousandths.
func parts(short, need int64) int64 { return short / (need/10_000 + 1) }

// exact writes an amount rounded up where [FormatAmount] cuts off, so that as
// much is enough.
func exact(resource string, v int64) string {
	text := FormatAmount(resource, v)
	if resource != Memory && resource != Disk && resource != Network {
		return text
	}
	base := int64(1024)
	if resource == Network {
		base = 1000
	}
	unit := int64(1)
	for v/unit >= base {
		unit *= base
	}
	if tenth := unit / 10; unit > 1 && v*10%unit != 0 {
		return FormatAmount(resource, v+tenth+1)
	}
	return text
}

func (v *survey) skewChange(n *node) *change {
	r := v.spread[v.skewed(n)]
	d, ok := n.domain(r.rule.TopologyKey)
	if !ok {
		return &change{kind: relabel, text: fmt.Sprintf("give %s the label %s", n.Name, r.rule.TopologyKey)}
	}
	skew := r.domains[d] + 1 - r.least
	return &change{kind: raiseLimit, amount: int64(skew), text: fmt.Sprintf("raise maxSkew over %s from %d to %d", keyName(r.rule.TopologyKey), r.rule.MaxSkew, skew)}
}

func (v *survey) labelChange(by string, n *node) *change {
	i := slices.IndexFunc(filters, func(f filter) bool { return f.name == by })
	return &change{kind: relabel, text: fmt.Sprintf("drop the %s, or add a node that satisfies it", filters[i].why(v, n).what)}
}

func (v *survey) nearChange(n *node) *change {
	term := v.shape.template.Affinity[v.lonely(n)]
	if _, ok := n.domain(term.TopologyKey); !ok {
		return &change{kind: relabel, text: fmt.Sprintf("give %s the label %s", n.Name, term.TopologyKey)}
	}
	return &change{kind: startOther, text: "start " + strings.Join(term.Services, " or ") + " first"}
}
