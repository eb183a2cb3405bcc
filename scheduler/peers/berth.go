package main

import (
	"context"
	"fmt"
	"time"

	"github.com/berth-dev/berth/scheduler"
)

// berth places the load with Berth's scheduler, one task at a time, and returns
// the time that took and how many tasks each node got. The nodes are there
// before the time starts.
func berth(ctx context.Context, l load) (time.Duration, map[string]int, error) {
	c, shape, err := berthCluster(l)
	if err != nil {
		return 0, nil, err
	}
	start := time.Now()
	for i := range l.tasks {
		if _, ok := c.Schedule(shape, taskName(i)); !ok {
			return 0, nil, fmt.Errorf("berth placed %d of %d tasks: %s", i, l.tasks, c.Why(shape).Reason)
		}
		if i%1000 == 0 && ctx.Err() != nil {
			return 0, nil, fmt.Errorf("berth placed %d of %d tasks: %w", i, l.tasks, ctx.Err())
		}
	}
	took := time.Since(start)
	placed := make(map[string]int, l.nodes)
	for _, n := range c.Nodes() {
		use, _ := c.NodeUsage(n.Name)
		placed[n.Name] = use.Replicas
	}
	return took, placed, nil
}

func berthCluster(l load) (*scheduler.Cluster, *scheduler.Shape, error) {
	c, err := scheduler.New(scheduler.Policy{Strategy: scheduler.StrategySpread})
	if err != nil {
		return nil, nil, err
	}
	for i := range l.nodes {
		n := scheduler.Node{Name: nodeName(i), Capacity: scheduler.Resources{CPU: nodeCPU, Memory: nodeMemory}}
		if err := c.AddNode(n); err != nil {
			return nil, nil, err
		}
	}
	shape, err := c.Register(scheduler.Template{
		Service: "web", Reservation: scheduler.Resources{CPU: taskCPU, Memory: taskMemory},
	})
	return c, shape, err
}
