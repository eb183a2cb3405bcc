//go:build unix

package health

import (
	"context"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"os/exec"
	goruntime "runtime"
	"runtime/metrics"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/berth-dev/berth/runtime"
)

// serveEnv makes this test program a server of probes' targets, so that their
// cost is not counted as the prober's.
const serveEnv = "BERTH_HEALTH_SERVE"

// listeners is how many ports the targets share.
const listeners = 100

func TestMain(m *testing.M) {
	switch os.Getenv(serveEnv) {
	case "targets":
		serveTargets()
	case "prober":
		proberProcess()
	default:
		os.Exit(m.Run())
	}
}

// serveTargets prints its addresses and serves them until its input ends.
func serveTargets() {
	for range listeners {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(l.Addr())
		s := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })}
		go func() { _ = s.Serve(l) }()
	}
	fmt.Println("end")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// startTargets runs [serveTargets] in a process of its own.
func startTargets(tb testing.TB) []string {
	tb.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serveEnv+"=targets")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	var addresses []string
	for {
		var line string
		if _, err := fmt.Fscanln(out, &line); err != nil {
			tb.Fatal(err)
		}
		if line == "end" {
			return addresses
		}
		addresses = append(addresses, line)
	}
}

// spy counts how probes ended.
type spy struct {
	*Checkers
	results atomic.Int64
	failed  atomic.Int64
}

func (s *spy) Make(r Role, p *Probe, t Target) Check {
	check := s.Checkers.Make(r, p, t)
	return func(ctx context.Context) (Outcome, string) {
		outcome, text := check(ctx)
		s.results.Add(1)
		if outcome != Success {
			s.failed.Add(1)
		}
		return outcome, text
	}
}

// cpu is the processor time that this process has used.
func cpu(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkProbes sends 1,000 probes a second, one second for each iteration, and
// reports what that takes of one core, how late the probes are sent, whether they
// are sent later in the second half than in the first (drift), and the growth of
// goroutines, file descriptors and live memory from the one to the other.
func BenchmarkProbes(b *testing.B) {
	const replicas = 1000
	for _, kind := range []string{"tcp", "http"} {
		b.Run(kind, func(b *testing.B) {
			addresses := startTargets(b)
			s := &spy{Checkers: &Checkers{}}
			p := New(Config{Checks: s})
			ctx, cancel := context.WithCancel(b.Context())
			done := make(chan struct{})
			go func() { defer close(done); _ = p.Run(ctx) }()
			defer func() { cancel(); <-done }()
			probe := &Probe{TCP: &TCP{}, Period: time.Second}
			if kind == "http" {
				probe = &Probe{HTTP: &HTTP{Path: "/healthz"}, Period: time.Second}
			}
			began := time.Now()
			for i := range replicas {
				p.Set(fmt.Sprintf("bench/api/%d", i+1), Target{
					Container: fmt.Sprint(i), State: runtime.Running, Started: began.Add(-time.Hour),
					Routes: map[Role]Route{Liveness: {Way: ByAddress, Address: addresses[i%len(addresses)]}},
				}, Probes{Liveness: probe})
			}
			time.Sleep(2 * time.Second) // every connection has been made once
			measure(b, p, s)
		})
	}
}

func measure(b *testing.B, p *Prober, s *spy) {
	b.Helper()
	var late delays                     // of all probes
	var medians []time.Duration         // of those of each second
	var goroutines, files, memory []int // one sample a second; bytes
	probes, used, began := s.results.Load(), cpu(b), time.Now()
	last := began
	for b.Loop() {
		time.Sleep(time.Second - time.Since(began)%time.Second)
		goroutines, files = append(goroutines, goruntime.NumGoroutine()), append(files, openFiles(b))
		second := p.lateness(last)
		late.add(second)
		last, medians = time.Now(), append(medians, median(second))
		memory = append(memory, liveHeap())
	}
	wall := time.Since(began)
	if late.n == 0 {
		b.Fatal("no probe was sent")
	}
	b.ReportMetric(100*(cpu(b)-used).Seconds()/wall.Seconds(), "%core")
	b.ReportMetric(float64(s.results.Load()-probes)/wall.Seconds(), "probes/s")
	b.ReportMetric(ms(late.quantile(0.5)), "ms-late-p50")
	b.ReportMetric(ms(late.quantile(0.99)), "ms-late-p99")
	b.ReportMetric(ms(late.quantile(1)), "ms-late-max")
	b.ReportMetric(float64(s.failed.Load()), "failed")
	b.ReportMetric(grown(goroutines), "goroutines-grown")
	b.ReportMetric(grown(files), "files-grown")
	b.ReportMetric(grown(memory)/1024, "KiB-grown")
	half := len(medians) / 2
	b.ReportMetric(ms(median(medians[half:])-median(medians[:half])), "ms-drift")
}

// delays counts durations in steps of [delayStep], so that a long run takes no
// more memory than a short one. The last step holds all longer ones.
type delays struct {
	n     int
	steps [50_000]uint32
}

const delayStep = 100 * time.Microsecond

func (d *delays) add(of []time.Duration) {
	for _, v := range of {
		d.n++
		d.steps[min(int(v/delayStep), len(d.steps)-1)]++
	}
}

// quantile is the end of the step in which the part q of all has come.
func (d *delays) quantile(q float64) time.Duration {
	left := int(math.Ceil(q * float64(d.n)))
	for i, n := range d.steps {
		if left -= int(n); left <= 0 {
			return time.Duration(i+1) * delayStep
		}
	}
	return time.Duration(len(d.steps)) * delayStep
}

// liveHeap is how many bytes the last collection left, in use by objects.
func liveHeap() int {
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(s)
	return int(s[0].Value.Uint64())
}

// median of what may be empty, and stays as it is.
func median(of []time.Duration) time.Duration {
	if len(of) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(of))
	return sorted[len(sorted)/2]
}

// grown compares the least sample of the second half with that of the first:
// what is in flight comes and goes, what leaks stays.
func grown(samples []int) float64 {
	if len(samples) < 2 {
		return 0
	}
	half := len(samples) / 2
	return float64(slices.Min(samples[half:]) - slices.Min(samples[:half]))
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// lateness is how late each probe since a time was sent.
func (p *Prober) lateness(since time.Time) []time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []time.Duration
	for _, r := range p.replicas {
		for _, res := range r.status.Liveness.Results {
			if res.At.After(since) {
				out = append(out, res.Late)
			}
		}
	}
	return out
}
