package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/runtime"
)

// statsOptions are the flags of stats.
type statsOptions struct {
	all      bool
	noStream bool
	noTrunc  bool
	format   string
}

func newStats(a *app) *cobra.Command {
	var o statsOptions
	cmd := &cobra.Command{
		Use:               "stats [OPTIONS] [SERVICE]",
		Short:             "Display a live stream of container(s) resource usage statistics",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.stats(cmd.Context(), args, o)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.all, "all", "a", false, "Show all containers (default shows just running)")
	f.StringVar(&o.format, "format", "", formatHelp)
	f.BoolVar(&o.noStream, "no-stream", false, "Disable streaming stats and only pull the first result")
	f.BoolVar(&o.noTrunc, "no-trunc", false, "Do not truncate output")
	return cmd
}

// statsRow is what stats tells of a container, fields as Docker prints them.
type statsRow struct {
	BlockIO   string
	CPUPerc   string
	Container string
	ID        string
	MemPerc   string
	MemUsage  string
	Name      string
	NetIO     string
	PIDs      string
}

func statsListing() *listing[statsRow] {
	return &listing[statsRow]{
		Columns: []column[statsRow]{
			{"CONTAINER ID", func(r statsRow) string { return r.ID }},
			{"NAME", func(r statsRow) string { return r.Name }},
			{"CPU %", func(r statsRow) string { return r.CPUPerc }},
			{"MEM USAGE / LIMIT", func(r statsRow) string { return r.MemUsage }},
			{"MEM %", func(r statsRow) string { return r.MemPerc }},
			{"NET I/O", func(r statsRow) string { return r.NetIO }},
			{"BLOCK I/O", func(r statsRow) string { return r.BlockIO }},
			{"PIDS", func(r statsRow) string { return r.PIDs }},
		},
		Titles: map[string]string{
			"ID": "CONTAINER ID", "CPUPerc": "CPU %", "MemUsage": "MEM USAGE / LIMIT", "MemPerc": "MEM %", "NetIO": "NET I/O", "BlockIO": "BLOCK I/O",
		},
	}
}

// sampling is what is known of one container's use.
type sampling struct {
	prev, cur runtime.Stats
	samples   int
}

// newStatsRow computes a row from two samples; "--" stands for what they do not tell.
func newStatsRow(c *runtime.Container, s sampling, trunc bool) statsRow {
	r := statsRow{
		BlockIO: "-- / --", CPUPerc: "--", ID: c.ID, MemPerc: "--", MemUsage: "-- / --", Name: c.Name, NetIO: "-- / --", PIDs: "--",
	}
	if trunc {
		r.ID = shortID(c.ID)
	}
	r.Container = r.ID
	if s.samples == 0 || !c.State.Alive() {
		return r
	}
	size := func(n uint64) string { return units.HumanSizeWithPrecision(float64(n), 3) }
	memory := 0.0
	if s.cur.MemoryLimit > 0 {
		memory = float64(s.cur.Memory) / float64(s.cur.MemoryLimit) * 100
	}
	r.CPUPerc = fmt.Sprintf("%.2f%%", runtime.CPUPercent(s.prev, s.cur))
	r.MemUsage = units.BytesSize(float64(s.cur.Memory)) + " / " + units.BytesSize(float64(s.cur.MemoryLimit))
	r.MemPerc = fmt.Sprintf("%.2f%%", memory)
	r.NetIO = size(s.cur.NetRx) + " / " + size(s.cur.NetTx)
	r.BlockIO = size(s.cur.BlkRead) + " / " + size(s.cur.BlkWrite)
	r.PIDs = strconv.FormatUint(s.cur.Pids, 10)
	return r
}

// stats prints the containers' use of the machine, once or again and again.
func (a *app) stats(ctx context.Context, services []string, o statsOptions) error {
	t, err := a.resolve(ctx, services...)
	if err != nil {
		return err
	}
	w := &statsWatch{a: a, t: t, services: services, o: o, use: make(map[string]*sampling), stop: make(map[string]context.CancelFunc)}
	if err := w.look(ctx); err != nil {
		return err
	}
	if o.noStream {
		return w.once(ctx)
	}
	return w.stream(ctx)
}

// statsWatch samples the containers of a stack.
type statsWatch struct {
	a        *app
	t        target
	services []string
	o        statsOptions
	list     []runtime.Container
	stop     map[string]context.CancelFunc // of the samplers, by container ID
	readers  sync.WaitGroup

	mu  sync.Mutex // protects use
	use map[string]*sampling
}

// look lists the containers to show.
func (w *statsWatch) look(ctx context.Context) error {
	list, err := w.a.containers(ctx, w.t, w.services, withOneOffs)
	if err != nil {
		return err
	}
	w.list = slices.DeleteFunc(list, func(c runtime.Container) bool { return !w.o.all && !c.State.Alive() })
	slices.SortFunc(w.list, func(a, b runtime.Container) int { return cmp.Compare(a.Name, b.Name) })
	return nil
}

func (w *statsWatch) note(id string, s runtime.Stats) (samples int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	u := w.use[id]
	if u == nil {
		u = &sampling{}
		w.use[id] = u
	}
	u.prev, u.cur = u.cur, s
	u.samples++
	return u.samples
}

func (w *statsWatch) rows() []statsRow {
	w.mu.Lock()
	defer w.mu.Unlock()
	rows := make([]statsRow, len(w.list))
	for i := range w.list {
		var s sampling
		if u := w.use[w.list[i].ID]; u != nil {
			s = *u
		}
		rows[i] = newStatsRow(&w.list[i], s, !w.o.noTrunc)
	}
	return rows
}

// once takes two samples of each container, all at the same time, and prints them.
func (w *statsWatch) once(ctx context.Context) error {
	var alive []string
	for i := range w.list {
		if s := w.list[i].State; s == runtime.Running || s == runtime.Paused {
			alive = append(alive, w.list[i].ID)
		}
	}
	err := inParallel(ctx, -1, alive, func(ctx context.Context, id string) error {
		return w.sample(ctx, id, 2)
	})
	if err != nil {
		return err
	}
	return statsListing().print(w.a.env.Out, w.o.format, w.rows())
}

// sample takes samples of a container until there are enough, or it ends.
func (w *statsWatch) sample(ctx context.Context, id string, enough int) error {
	err := w.a.engine.Stats(ctx, id, true, func(s runtime.Stats) bool {
		n := w.note(id, s)
		return enough == 0 || n < enough
	})
	if runtime.IsNotFound(err) || runtime.IsConflict(err) {
		return nil // it ended meanwhile
	}
	return err
}

// stream shows a table each second until the user interrupts. Containers that
// come and go do so in the table too.
func (w *statsWatch) stream(ctx context.Context) error {
	work, cancel := context.WithCancel(ctx)
	defer w.readers.Wait()
	defer cancel()
	events := w.a.engine.Events(work, time.Time{}, runtime.Filter{Labels: map[string]string{runtime.LabelComposeProject: w.t.Name}})
	view := w.a.liveTable()
	defer view.Stop()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	stale := true // look once more: something may have changed before the events began
	for {
		if stale {
			stale = false
			if err := w.look(work); err != nil {
				return err
			}
			w.follow(work)
		}
		select {
		case <-ctx.Done():
			return &ExitError{Code: 130}
		case e, ok := <-events:
			if !ok {
				events = nil
				continue
			}
			stale = e.Type == "resync" || e.Type == "container" && slices.Contains([]string{"create", "start", "die", "destroy", "rename", "pause", "unpause"}, e.Action)
		case <-tick.C:
			if err := w.show(view); err != nil {
				return err
			}
		}
	}
}

// follow samples the containers that run, and no others.
func (w *statsWatch) follow(work context.Context) {
	alive := map[string]bool{}
	for i := range w.list {
		id := w.list[i].ID
		if s := w.list[i].State; s != runtime.Running && s != runtime.Paused {
			continue
		}
		alive[id] = true
		if w.stop[id] != nil {
			continue
		}
		ctx, cancel := context.WithCancel(work)
		w.stop[id] = cancel
		w.readers.Go(func() {
			_ = w.sample(ctx, id, 0) // the row shows no numbers then
		})
	}
	for id, stop := range w.stop {
		if !alive[id] {
			stop()
			delete(w.stop, id)
			w.mu.Lock()
			delete(w.use, id)
			w.mu.Unlock()
		}
	}
}

func (w *statsWatch) show(view liveTable) error {
	var b tableText
	if err := statsListing().print(&b, w.o.format, w.rows()); err != nil {
		return err
	}
	return view.Show(b.String())
}
