// Command peers places equal tasks on equal nodes with swarmkit's scheduler and
// with Berth's, in one run on one machine, and prints the placements per second
// of both and their ratio. It is a module of its own, so that what swarmkit
// needs stays out of Berth's go.mod.
//
//	go run . [-timeout 1m] [-runs 3] [-nodes 0]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"
)

// The size of every node and task: a node has room for a hundred.
const (
	nodeCPU    = 10_000    // millicores
	nodeMemory = 100 << 30 // bytes
	taskCPU    = 100       // millicores
	taskMemory = 1 << 30   // bytes
)

// load is how many equal tasks go to how many equal nodes.
type load struct{ nodes, tasks int }

var loads = []load{{1_000, 10_000}, {10_000, 10_000}, {10_000, 100_000}}

// mostLooks bounds nodes times tasks where swarmkit places tasks one by one: it
// makes about ten million looks a second.
const mostLooks = 200_000_000

func nodeName(i int) string { return fmt.Sprintf("node-%05d", i) }

func taskName(i int) string { return fmt.Sprintf("task-%06d", i) }

func main() {
	timeout := flag.Duration("timeout", time.Minute, "the longest that swarmkit may take over one load")
	runs := flag.Int("runs", 3, "runs of each, but for the slowest way, of which there is one; the fastest counts")
	nodes := flag.Int("nodes", 0, "leave out loads with more nodes; 0: none")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Stdout, *runs, *nodes, *timeout); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, runs, nodes int, timeout time.Duration) error {
	for _, l := range loads {
		if nodes > 0 && l.nodes > nodes {
			continue
		}
		fmt.Fprintf(out, "%d equal tasks on %d equal nodes\n", l.tasks, l.nodes)
		ours, err := fastest(runs, l, func() (time.Duration, map[string]int, error) { return berth(ctx, l) })
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "  %-34s %11.0f placements/s\n", "berth, one by one", ours)
		for _, group := range []bool{true, false} {
			if !group && l.nodes*l.tasks > mostLooks {
				fmt.Fprintf(out, "  %-34s left out: it looks at every node for every task\n", "swarmkit, one by one")
				continue
			}
			err := against(ctx, out, l, group, ours, runs, timeout)
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// against prints how swarmkit does, and how many times faster ours is.
func against(ctx context.Context, out io.Writer, l load, group bool, ours float64, runs int, timeout time.Duration) error {
	name := "swarmkit, one by one"
	if !group {
		runs = 1
	} else {
		name = "swarmkit, all as one service"
	}
	theirs, err := fastest(runs, l, func() (time.Duration, map[string]int, error) {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		return swarmkit(ctx, l, group)
	})
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		bound := float64(l.tasks) / timeout.Seconds()
		fmt.Fprintf(out, "  %-34s under %5.0f placements/s (stopped after %s)  ratio over %.1f\n", name, bound, timeout, ours/bound)
		return nil
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "  %-34s %11.0f placements/s  ratio %.1f\n", name, theirs, ours/theirs)
	return nil
}

// fastest runs f and returns the placements per second of its fastest run. It
// fails when a run did not spread the tasks evenly: then the two schedulers did
// not do the same work.
func fastest(runs int, l load, f func() (time.Duration, map[string]int, error)) (float64, error) {
	var rate float64
	for range max(runs, 1) {
		took, placed, err := f()
		if err != nil {
			return 0, err
		}
		if err := even(l, placed); err != nil {
			return 0, err
		}
		rate = max(rate, float64(l.tasks)/took.Seconds())
	}
	return rate, nil
}

func even(l load, placed map[string]int) error {
	if n := count(placed); n != l.tasks {
		return fmt.Errorf("%d tasks were placed, not %d", n, l.tasks)
	}
	counts := make([]int, 0, l.nodes)
	for i := range l.nodes {
		counts = append(counts, placed[nodeName(i)])
	}
	if lo, hi := slices.Min(counts), slices.Max(counts); hi-lo > 1 {
		return fmt.Errorf("the tasks were not spread evenly: %d to %d a node", lo, hi)
	}
	return nil
}

func count(placed map[string]int) (n int) {
	for _, c := range placed {
		n += c
	}
	return n
}
