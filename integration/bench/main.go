// Command bench measures Berth against the floor the Docker engine itself
// sets: the same containers, made by the raw Engine API at its best
// concurrency, in the same run on the same machine. It prints each row as soon
// as it is measured, and ratios, since seconds belong to a machine; the program
// fails only when something does not work, never because it was slow.
//
//	go run ./integration/bench [-only up,ps] [-runs 3] [-budget 2m] [-replicas 50] [-berth bin/berth]
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
	"time"
)

// options are the program's flags.
type options struct {
	runs     int
	budget   time.Duration
	commands int
	replicas int
	idlers   int
	idle     time.Duration
	kills    int
	hangs    int
	berth    string
	only     string
}

func main() {
	var opts options
	flag.IntVar(&opts.runs, "runs", 3, "runs of each measurement; the median counts")
	flag.DurationVar(&opts.budget, "budget", 2*time.Minute, "no further run is begun once a measurement has taken this long")
	flag.IntVar(&opts.commands, "commands", 31, "runs of each command that finds nothing to do")
	flag.IntVar(&opts.replicas, "replicas", 50, "replicas of the large service; at least 2")
	flag.IntVar(&opts.idlers, "idle-replicas", 100, "replicas that the idle daemon keeps")
	flag.DurationVar(&opts.idle, "idle", 30*time.Second, "how long the idle daemon is watched")
	flag.IntVar(&opts.kills, "kills", 10, "replicas that are killed to see them run again")
	flag.IntVar(&opts.hangs, "hangs", 5, "replicas that stop answering to see their liveness probe acted on")
	flag.StringVar(&opts.berth, "berth", "", "berth binary; empty: built for the run")
	flag.StringVar(&opts.only, "only", "", "measure only these, separated by commas: "+strings.Join(allNames(), ", "))
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, opts, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// measurement fills one or more rows of the table.
type measurement struct {
	names []string // as -only has them
	fn    func(*bench, context.Context) error
}

// measurements are all there are, in the table's order.
func measurements() []measurement {
	return []measurement{
		{[]string{"up", "down"}, (*bench).up},
		{[]string{"noop", "ps"}, (*bench).commands},
		{[]string{"scale"}, (*bench).scale},
		{[]string{"chain"}, (*bench).chain},
		{[]string{"heal"}, (*bench).heal},
		{[]string{"liveness"}, (*bench).liveness},
		{[]string{"rollout"}, (*bench).rollout},
		{[]string{"balance"}, (*bench).balance},
		{[]string{"restart"}, (*bench).restart},
		{[]string{"wake"}, (*bench).wake},
		{[]string{"scaleup"}, (*bench).scaleUp},
		{[]string{"idle"}, (*bench).idle},
		{[]string{"meter"}, (*bench).meter},
		{[]string{"plan"}, (*bench).plan},
		{[]string{"rollplan"}, (*bench).rollplan},
	}
}

func allNames() []string {
	var names []string
	for _, m := range measurements() {
		names = append(names, m.names...)
	}
	return names
}

// wanted reads -only; nil: everything.
func wanted(only string) ([]string, error) {
	if only == "" {
		return nil, nil
	}
	names := strings.Split(only, ",")
	for _, n := range names {
		if !slices.Contains(allNames(), n) {
			return nil, fmt.Errorf("-only %s: there is no such measurement; there are %s", n, strings.Join(allNames(), ", "))
		}
	}
	return names, nil
}

// bench is one run of the program.
type bench struct {
	opts  options
	only  []string // empty: every row
	out   io.Writer
	raw   *rawEngine
	dir   string
	image string
	env   []string

	descriptors uint64 // that this process and a daemon it starts may have
}

func run(ctx context.Context, opts options, out io.Writer) (err error) {
	b := &bench{opts: opts, out: out, image: "berth-bench:latest"}
	if b.only, err = wanted(opts.only); err != nil {
		return err
	}
	if opts.runs < 1 || opts.commands < 1 || opts.replicas < 2 || opts.idlers < 1 || opts.kills < 1 || opts.hangs < 1 {
		return errors.New("-runs, -commands, -idle-replicas, -kills and -hangs are at least 1, -replicas at least 2")
	}
	if b.dir, err = os.MkdirTemp("", "berth-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.cleanUp()) }() //nolint:contextcheck // cleans up after an interrupt too
	if err := b.prepare(ctx); err != nil {
		return err
	}
	return b.measure(ctx)
}

func (b *bench) measure(ctx context.Context) error {
	fmt.Fprintf(b.out, "Median of the runs; floor: the raw Engine API, best of %s parallel calls.\n\n", strings.Trim(strings.ReplaceAll(fmt.Sprint(parallels), " ", " and "), "[]"))
	b.print(row{name: "measurement", floor: "floor", berth: "berth", ratio: "ratio", target: "target", runs: "runs"})
	for _, m := range measurements() {
		if !slices.ContainsFunc(m.names, b.wants) {
			continue
		}
		if err := m.fn(b, ctx); err != nil {
			return fmt.Errorf("%s: %w", strings.Join(m.names, ", "), err)
		}
	}
	return nil
}

// wants reports whether a row was asked for.
func (b *bench) wants(name string) bool { return len(b.only) == 0 || slices.Contains(b.only, name) }

// row is one line of the table.
type row struct {
	name, floor, berth, ratio, target, runs string
}

func (b *bench) print(r row) {
	fmt.Fprintf(b.out, "%-40s  %8s  %18s  %5s  %8s  %s\n", r.name, r.floor, r.berth, r.ratio, r.target, r.runs)
}

// compare prints the row of two series of times.
func (b *bench) compare(name string, floor, berth []time.Duration, target float64) {
	f, d := median(floor), median(berth)
	b.print(row{
		name: name, floor: seconds(f), berth: seconds(d), ratio: fmt.Sprintf("%.2f", d.Seconds()/f.Seconds()),
		target: fmt.Sprintf("≤ %.2f", target), runs: fmt.Sprint(len(berth)),
	})
}

// figure prints a row without a ratio.
func (b *bench) figure(name, value, target string) {
	b.print(row{name: name, floor: "–", berth: value, ratio: "–", target: target, runs: "1"})
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

func millis(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }

func median(list []time.Duration) time.Duration {
	s := slices.Clone(list)
	slices.Sort(s)
	return s[len(s)/2]
}

// repeat calls run for each run there is time for, at least once.
func (b *bench) repeat(run func() error) error {
	begin := time.Now()
	for i := range b.opts.runs {
		if i > 0 && time.Since(begin) > b.opts.budget {
			break
		}
		if err := run(); err != nil {
			return err
		}
	}
	return nil
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
	if b.descriptors, err = raiseDescriptors(); err != nil {
		return err
	}
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
	sleeper, page := filepath.Join(b.dir, "sleeper"), filepath.Join(b.dir, "page")
	if err := b.build(ctx, "./integration/bench/sleeper", sleeper); err != nil {
		return err
	}
	if err := b.build(ctx, "./integration/bench/page", page); err != nil {
		return err
	}
	if err := b.raw.importImage(ctx, b.image, sleeper, page); err != nil {
		return err
	}
	_, err = b.berth(ctx, b.dir, "-p", "bench-none", "ls") // reads only; the first pages of the binary are in memory
	return err
}

// descriptorsWanted are for 10,000 connections, of which a balancer has two each.
const descriptorsWanted = 32768

// raiseDescriptors lets this process, and those it starts, have as many open files
// as are wanted, or as they may have.
func raiseDescriptors() (uint64, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, err
	}
	wanted := max(limit.Max, descriptorsWanted)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: wanted, Max: wanted}); err == nil {
		return wanted, nil
	} // not privileged
	limit.Cur = limit.Max
	return limit.Max, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
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
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt is the bench's, which then cleans up with it
	begin := time.Now()
	data, err := cmd.CombinedOutput()
	took := time.Since(begin)
	if err != nil {
		return 0, fmt.Errorf("berth %s: %w\n%s", strings.Join(args, " "), err, data)
	}
	return took, nil
}

// stack writes a compose file into a folder of its own, and has the daemon
// running that is to bring it up.
func (b *bench) stack(ctx context.Context, name, compose string) (string, error) {
	dir := filepath.Join(b.dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil { // #nosec G301 -- nothing in it is secret
		return "", err
	}
	if err := os.WriteFile(filepath.Join(dir, "compose.yaml"), []byte(compose), 0o600); err != nil {
		return "", err
	}
	_, err := b.berth(ctx, dir, "plan", "--format", "json")
	var code *exec.ExitError
	if errors.As(err, &code) && code.ExitCode() == 2 { // there is something to do
		err = nil
	}
	return dir, err
}

// cleanUp takes away what the run made, whatever happened.
func (b *bench) cleanUp() error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(context.Background()), 5*time.Minute)
	defer cancel()
	var errs []error
	stacks, err := filepath.Glob(filepath.Join(b.dir, "*", "compose.yaml"))
	errs = append(errs, err)
	for _, file := range stacks {
		_, err := b.berth(ctx, filepath.Dir(file), "down", "-t", "0")
		errs = append(errs, err)
	}
	errs = append(errs, b.stopDaemon(ctx))
	if b.raw != nil {
		errs = append(errs, b.raw.close(ctx, b.image))
	}
	errs = append(errs, os.RemoveAll(b.dir))
	return errors.Join(errs...)
}
