package usage

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/berth-dev/berth/runtime"
)

// Engine is asked for a sample of what cannot be read here.
type Engine interface {
	Stats(ctx context.Context, id string, stream bool, fn func(runtime.Stats) bool) error
}

// The bounds of a Reader.
const (
	// atOnce is how many samples the engine takes at a time.
	atOnce = 8
	// keepFor is how long the files of a container stay open that nobody asks for.
	keepFor = 2 * time.Minute
)

// Config says how a Reader reads. The zero value reads this machine, and nothing
// else.
type Config struct {
	// Engine is asked for what cannot be read here; nil: nobody is.
	Engine Engine
	// Root is where this machine's /proc and /sys are found; default "/".
	Root string
	// MaxOpen bounds the files that are kept open; default: a quarter of what this
	// process may open, at most 4096; negative: none is. What is beyond is opened
	// for each read.
	MaxOpen int
}

// Reader samples containers. It may be used by several goroutines.
type Reader struct {
	cfg    Config
	asking chan struct{} // holds one for each question to the engine

	mu      sync.Mutex           // protects all below
	mounted map[string]hierarchy // nil: not looked for yet
	memory  uint64               // the machine's, in bytes
	runs    map[string]*run      // by container ID
	open    int                  // files kept open
	sweep   *time.Timer          // nil: nothing is kept
}

// New makes a Reader. It starts nothing.
func New(cfg Config) *Reader {
	if cfg.Root == "" {
		cfg.Root = "/"
	}
	if cfg.MaxOpen == 0 {
		cfg.MaxOpen = maxOpen()
	}
	return &Reader{cfg: cfg, asking: make(chan struct{}, atOnce), runs: map[string]*run{}}
}

// Stats samples containers that run, and returns the samples by container ID.
// Those that cannot be sampled, or not before ctx ends, are missing.
func (r *Reader) Stats(ctx context.Context, containers []runtime.Container) map[string]runtime.Stats {
	found := make(map[string]runtime.Stats, len(containers))
	var rest []string
	l := look{r: r}
	for i := range containers {
		if s, ok := l.sample(&containers[i]); ok {
			found[containers[i].ID] = s
		} else {
			rest = append(rest, containers[i].ID)
		}
	}
	if r.cfg.Engine != nil {
		r.ask(ctx, rest, found)
	}
	return found
}

// ask adds the engine's samples of containers to found.
func (r *Reader) ask(ctx context.Context, ids []string, found map[string]runtime.Stats) {
	var mu sync.Mutex // protects found
	var asked sync.WaitGroup
	defer asked.Wait()
	for _, id := range ids {
		select {
		case <-ctx.Done():
			return
		case r.asking <- struct{}{}:
		}
		asked.Go(func() {
			defer func() { <-r.asking }()
			_ = r.cfg.Engine.Stats(ctx, id, false, func(s runtime.Stats) bool { // what gives no sample is missing
				mu.Lock()
				defer mu.Unlock()
				found[id] = s
				return false
			})
		})
	}
}

// Close lets go of what is kept open. The Reader can be used on.
func (r *Reader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dropLocked(func(*run) bool { return true })
	return nil
}

// dropLocked forgets runs, and what is open of them; r.mu is held.
func (r *Reader) dropLocked(which func(*run) bool) {
	for id, one := range r.runs {
		if which(one) {
			r.open -= one.close()
			delete(r.runs, id)
		}
	}
	if len(r.runs) == 0 && r.sweep != nil {
		r.sweep.Stop()
		r.sweep = nil
	}
}

// sweepLocked sees to it that nothing is kept of containers that nobody asks for;
// r.mu is held.
func (r *Reader) sweepLocked() {
	if r.sweep != nil {
		return
	}
	r.sweep = time.AfterFunc(keepFor, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.sweep = nil
		now := time.Now()
		r.dropLocked(func(one *run) bool { return now.Sub(one.used) >= keepFor })
		if len(r.runs) > 0 {
			r.sweepLocked()
		}
	})
}

// look is one look at some containers.
type look struct {
	r     *Reader
	buf   []byte
	nanos uint64 // CPU time of the machine
	cpus  int    // 0: not read yet
}

// wholeID is the length of a container's whole ID.
const wholeID = 64

// sample samples a container by the kernel's counters; false: they are not to be
// seen here, or it has ended.
func (l *look) sample(c *runtime.Container) (runtime.Stats, bool) {
	if c.PID <= 0 || len(c.ID) != wholeID {
		return runtime.Stats{}, false
	}
	l.r.mu.Lock()
	defer l.r.mu.Unlock()
	one, err := l.run(c)
	if err != nil {
		return runtime.Stats{}, false
	}
	s, err := l.read(one)
	if err != nil {
		l.r.dropLocked(func(other *run) bool { return other == one })
		return runtime.Stats{}, false
	}
	return s, true
}

// run is what is known of a container's present run.
func (l *look) run(c *runtime.Container) (*run, error) {
	r := l.r
	if r.mounted == nil {
		if err := r.learnLocked(); err != nil {
			return nil, err
		}
	}
	if one := r.runs[c.ID]; one != nil {
		if one.pid == c.PID && one.started.Equal(c.Started) {
			return one, nil
		}
		r.dropLocked(func(other *run) bool { return other == one })
	}
	one, err := l.find(c)
	if err != nil {
		return nil, err
	}
	if r.open+len(one.files()) <= r.cfg.MaxOpen {
		for _, f := range one.files() {
			f.keep = true
		}
		r.open += len(one.files())
	}
	r.runs[c.ID] = one
	r.sweepLocked()
	return one, nil
}

// learnLocked looks where hierarchies are mounted, and how much memory there is;
// r.mu is held.
func (r *Reader) learnLocked() error {
	mounts, err := os.ReadFile(r.path("proc/self/mountinfo"))
	if err != nil {
		return err
	}
	info, err := os.ReadFile(r.path("proc/meminfo"))
	if err != nil {
		return err
	}
	r.mounted, r.memory = hierarchies(string(mounts)), memoryTotal(info)
	return nil
}

func (r *Reader) path(name string) string { return filepath.Join(r.cfg.Root, name) }
