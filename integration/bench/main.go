// Command bench measures Berth against the floor the Docker engine itself
// sets: the same containers, made by the raw Engine API at its best
// concurrency, in the same run on the same machine. It prints ratios, since
// seconds belong to a machine; the program fails only when something does not
// work, never because it was slow.
//
//	go run ./integration/bench [-runs 3] [-replicas 50] [-berth bin/berth]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

// options are the program's flags.
type options struct {
	runs     int
	replicas int
	berth    string
	only     string
	idle     time.Duration
}

func main() {
	var opts options
	flag.IntVar(&opts.runs, "runs", 3, "runs of each measurement; the median counts")
	flag.IntVar(&opts.replicas, "replicas", 50, "replicas of the large service")
	flag.StringVar(&opts.berth, "berth", "", "berth binary; empty: built for the run")
	flag.StringVar(&opts.only, "only", "", "run only the measurements whose name contains this")
	flag.DurationVar(&opts.idle, "idle", 30*time.Second, "how long the idle daemon is watched")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, opts, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// row is one line of the table.
type row struct {
	name, floor, berth, ratio, target string
}

// bench is one run of the program.
type bench struct {
	opts  options
	raw   *rawEngine
	dir   string
	image string
	env   []string
	rows  []row
}

func run(ctx context.Context, opts options, out io.Writer) (err error) {
	b := &bench{opts: opts, image: "berth-bench:latest"}
	if b.dir, err = os.MkdirTemp("", "berth-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.cleanUp()) }() //nolint:contextcheck // cleans up after an interrupt too
	if err := b.prepare(ctx); err != nil {
		return err
	}
	for _, m := range []struct {
		name string
		fn   func(context.Context) error
	}{
		{"up", b.up}, {"scale", b.scale}, {"chain", b.chain}, {"idle", b.idle}, {"plan", b.plan},
	} {
		if !strings.Contains(m.name, opts.only) {
			continue
		}
		fmt.Fprintf(os.Stderr, "measuring %s…\n", m.name)
		if err := m.fn(ctx); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	return b.print(out)
}

func (b *bench) print(out io.Writer) error {
	fmt.Fprintf(out, "go run ./integration/bench -runs %d -replicas %d   (median of the runs; floor: raw Engine API, best of 4 and 8 parallel calls)\n\n", b.opts.runs, b.opts.replicas)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "measurement\tfloor\tberth\tratio\ttarget")
	for _, r := range b.rows {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", r.name, r.floor, r.berth, r.ratio, r.target)
	}
	return w.Flush()
}

// compare adds a row for two series of times.
func (b *bench) compare(name string, floor, berth []time.Duration, target float64) {
	f, d := median(floor), median(berth)
	b.rows = append(b.rows, row{
		name: name, floor: seconds(f), berth: seconds(d),
		ratio: fmt.Sprintf("%.2f", d.Seconds()/f.Seconds()), target: fmt.Sprintf("≤ %.2f", target),
	})
}

// figure adds a row without a floor.
func (b *bench) figure(name, value, target string) {
	b.rows = append(b.rows, row{name: name, floor: "–", berth: value, ratio: "–", target: target})
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

func median(list []time.Duration) time.Duration {
	s := slices.Clone(list)
	slices.Sort(s)
	return s[len(s)/2]
}

// prepare builds the binary and the image and isolates the daemon.
func (b *bench) prepare(ctx context.Context) error {
	if b.opts.berth == "" {
		b.opts.berth = filepath.Join(b.dir, "berth")
		if err := b.build(ctx, "./cmd/berth", b.opts.berth); err != nil {
			return err
		}
	}
	var err error
	if b.opts.berth, err = filepath.Abs(b.opts.berth); err != nil {
		return err
	}
	b.env = append(os.Environ(),
		"XDG_STATE_HOME="+filepath.Join(b.dir, "state"), "XDG_RUNTIME_DIR="+filepath.Join(b.dir, "run"))
	if err := os.Mkdir(filepath.Join(b.dir, "run"), 0o700); err != nil {
		return err
	}
	if b.raw, err = openRaw(ctx); err != nil {
		return err
	}
	worker := filepath.Join(b.dir, "sleeper")
	if err := b.build(ctx, "./integration/bench/sleeper", worker); err != nil {
		return err
	}
	return b.raw.importImage(ctx, worker, b.image)
}

func (b *bench) build(ctx context.Context, pkg, out string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, pkg) // #nosec G204 -- fixed arguments
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if data, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", pkg, err, data)
	}
	return nil
}

// berth runs the command line in a stack's folder and returns its wall time.
func (b *bench) berth(ctx context.Context, dir string, args ...string) (time.Duration, error) {
	cmd := exec.CommandContext(ctx, b.opts.berth, args...) // #nosec G204 -- the binary under test
	cmd.Dir, cmd.Env = dir, b.env
	begin := time.Now()
	data, err := cmd.CombinedOutput()
	took := time.Since(begin)
	if err != nil {
		return 0, fmt.Errorf("berth %s: %w\n%s", strings.Join(args, " "), err, data)
	}
	return took, nil
}

// stack writes a compose file into a folder of its own.
func (b *bench) stack(name, compose string) (string, error) {
	dir := filepath.Join(b.dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil { // #nosec G301 -- nothing in it is secret
		return "", err
	}
	return dir, os.WriteFile(filepath.Join(dir, "compose.yaml"), []byte(compose), 0o600)
}

// cleanUp takes away what the run made, whatever happened.
func (b *bench) cleanUp() error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(context.Background()), 5*time.Minute)
	defer cancel()
	var errs []error
	for _, name := range []string{"bench-up", "bench-scale", "bench-chain", "bench-idle"} {
		if _, err := os.Stat(filepath.Join(b.dir, name)); err == nil {
			_, err := b.berth(ctx, filepath.Join(b.dir, name), "down", "-t", "0")
			errs = append(errs, err)
		}
	}
	errs = append(errs, b.stopDaemon(ctx))
	if b.raw != nil {
		errs = append(errs, b.raw.close(ctx, b.image))
	}
	errs = append(errs, os.RemoveAll(b.dir))
	return errors.Join(errs...)
}
