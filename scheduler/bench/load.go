//go:build unix

package main

import (
	"fmt"

	"github.com/berth-dev/berth/scheduler"
)

// load is a set of replicas to be placed, in an order, on a cluster.
type load struct {
	name     string
	nodes    int
	replicas int
	shapes   int
	goal     int64 // placements a second
	template func(i int) scheduler.Template
}

// random is a xorshift generator: the same numbers on every machine.
type random uint64

func (r *random) below(n int) int {
	x := uint64(*r)
	x ^= x << 13
	x ^= x >> 7
	x ^= x << 17
	*r = random(x)
	return int(x % uint64(n)) //nolint:gosec // n is above zero, and the result below it
}

const (
	nodes    = 10_000
	replicas = 100_000
)

func loads() []load {
	return []load{
		{"one shape", nodes, replicas, 1, 3_000_000, plain},
		{"20,000 shapes", nodes, replicas, 20_000, 800_000, plain},
		{"spread over zones", nodes, replicas, 100, 200_000, spread},
		{"apart on nodes", nodes, replicas, 100, 200_000, apart},
		{"apart and spread", nodes, replicas, 100, 200_000, both},
	}
}

// plain asks for 50 to 1,045 millicores and 64 to 2,044 MiB: each pair once.
func plain(i int) scheduler.Template {
	return scheduler.Template{
		Stack: "bench", Service: fmt.Sprintf("svc-%d", i),
		Reservation: scheduler.Resources{
			CPU:    50 + int64(i*37%200)*5,
			Memory: (64 + int64(i/200%100)*20) << 20,
		},
	}
}

func spread(i int) scheduler.Template {
	t := plain(i * 197)
	t.Service = fmt.Sprintf("svc-%d", i)
	t.Spread = []scheduler.SpreadRule{{TopologyKey: "zone", MaxSkew: 1}}
	return t
}

func apart(i int) scheduler.Template {
	t := plain(i * 197)
	t.Service = fmt.Sprintf("svc-%d", i)
	t.Anti = []scheduler.ServiceTerm{{Services: []string{t.Service}}}
	return t
}

func both(i int) scheduler.Template {
	t := apart(i)
	t.Spread = spread(i).Spread
	return t
}

// run is a load that is ready to be placed.
type run struct {
	cluster *scheduler.Cluster
	shapes  []*scheduler.Shape
	order   []int // of shapes, one for each replica
	placed  []scheduler.Placement
}

// prepare makes the cluster: three sizes of nodes in five zones.
func (l load) prepare(strategy scheduler.Strategy) (*run, error) {
	c, err := scheduler.New(scheduler.Policy{Strategy: strategy})
	if err != nil {
		return nil, err
	}
	for i := range l.nodes {
		cores := int64(4) << (i % 3)
		err := c.AddNode(scheduler.Node{
			Name:     fmt.Sprintf("node-%d", i),
			Capacity: scheduler.Resources{CPU: cores * 1000, Memory: cores << 31},
			Labels:   map[string]string{"zone": fmt.Sprintf("zone-%d", i%5)},
		})
		if err != nil {
			return nil, err
		}
	}
	r := &run{cluster: c, order: make([]int, l.replicas), placed: make([]scheduler.Placement, 0, l.replicas)}
	for i := range l.shapes {
		s, err := c.Register(l.template(i))
		if err != nil {
			return nil, err
		}
		r.shapes = append(r.shapes, s)
	}
	seed := random(88172645463325252)
	for i := range r.order {
		at := seed.below(i + 1)
		r.order[i], r.order[at] = r.order[at], i%l.shapes
	}
	c.Choose(r.shapes[0]) // makes the index
	return r, nil
}

// place places every replica and returns how many no node took.
func (r *run) place() (left int) {
	for _, i := range r.order {
		p, ok := r.cluster.Schedule(r.shapes[i], "replica")
		if !ok {
			left++
			continue
		}
		r.placed = append(r.placed, p)
	}
	return left
}

// fill places replicas of all shapes in turn until a round places none.
func (r *run) fill() {
	for placed := true; placed; {
		placed = false
		for _, s := range r.shapes {
			if p, ok := r.cluster.Schedule(s, "replica"); ok {
				r.placed = append(r.placed, p)
				placed = true
			}
		}
	}
}

// replace releases one replica and places another of the same shape.
func (r *run) replace(at int) bool {
	gone, _ := r.cluster.Replica(r.placed[at])
	r.cluster.Release(r.placed[at])
	p, ok := r.cluster.Schedule(gone.Shape, "replica")
	r.placed[at] = p
	return ok
}
