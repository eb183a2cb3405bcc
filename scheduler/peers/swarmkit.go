package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/moby/swarmkit/v2/api"
	swarm "github.com/moby/swarmkit/v2/manager/scheduler"
	"github.com/moby/swarmkit/v2/manager/state"
	"github.com/moby/swarmkit/v2/manager/state/store"
)

// swarmkit places the load with swarmkit's scheduler over its in-memory store,
// the way its own benchmark does, and returns the time that took and how many
// tasks each node got. All nodes and tasks are in the store before the
// scheduler starts, so the time holds none of the pauses it makes to gather
// changes; it does hold the commit of every decision to the store, which the
// scheduler cannot do without.
//
// One that takes too long is left behind: it does not stop before it has placed
// all it was given.
//
// With group, the tasks carry one spec version and swarmkit places them as one
// service; without, it places each by itself, as its benchmark has it.
func swarmkit(ctx context.Context, l load, group bool) (time.Duration, map[string]int, error) {
	s := store.NewMemoryStore(nil)
	if s == nil {
		return 0, nil, errors.New("make swarmkit's store: its schema was refused")
	}
	defer func() { _ = s.Close() }()
	if err := fill(s, l, group); err != nil {
		return 0, nil, err
	}
	watch, cancel := state.Watch(s.WatchQueue(), api.EventUpdateTask{})
	defer cancel()

	sched := swarm.New(s)
	done := make(chan error, 1)
	start := time.Now()
	go func() { done <- sched.Run(ctx) }()

	placed := map[string]int{}
	for range l.tasks {
		select {
		case ev := <-watch:
			update, ok := ev.(api.EventUpdateTask)
			if !ok || update.Task.NodeID == "" {
				return 0, nil, fmt.Errorf("swarmkit left a task without a node: %+v", ev)
			}
			placed[update.Task.NodeID]++
		case err := <-done:
			return 0, nil, fmt.Errorf("swarmkit's scheduler ended early: %w", err)
		case <-ctx.Done():
			return 0, nil, fmt.Errorf("swarmkit placed %d of %d tasks: %w", count(placed), l.tasks, ctx.Err())
		}
	}
	took := time.Since(start)
	sched.Stop()
	return took, placed, nil
}

// fill puts the nodes and the pending tasks of the load into the store.
func fill(s *store.MemoryStore, l load, group bool) error {
	return s.Update(func(tx store.Tx) error {
		for i := range l.nodes {
			if err := store.CreateNode(tx, swarmNode(i)); err != nil {
				return fmt.Errorf("create node %d: %w", i, err)
			}
		}
		for i := range l.tasks {
			if err := store.CreateTask(tx, swarmTask(i, group)); err != nil {
				return fmt.Errorf("create task %d: %w", i, err)
			}
		}
		return nil
	})
}

func swarmNode(i int) *api.Node {
	name := nodeName(i)
	return &api.Node{
		ID:     name,
		Spec:   api.NodeSpec{Annotations: api.Annotations{Name: name}},
		Status: api.NodeStatus{State: api.NodeStatus_READY},
		Description: &api.NodeDescription{
			Engine:    &api.EngineDescription{},
			Resources: &api.Resources{NanoCPUs: nodeCPU * 1e6, MemoryBytes: nodeMemory},
		},
	}
}

func swarmTask(i int, group bool) *api.Task {
	t := &api.Task{
		ID:                 taskName(i),
		ServiceID:          "web",
		ServiceAnnotations: api.Annotations{Name: "web"},
		DesiredState:       api.TaskStateRunning,
		Status:             api.TaskStatus{State: api.TaskStatePending},
		Spec: api.TaskSpec{Resources: &api.ResourceRequirements{
			Reservations: &api.Resources{NanoCPUs: taskCPU * 1e6, MemoryBytes: taskMemory},
		}},
	}
	if group {
		t.SpecVersion = &api.Version{Index: 1}
	}
	return t
}
