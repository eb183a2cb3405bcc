// Command app is the rollout example's whole image: a page that says which
// version serves it, and that can be made bad in each of the ways in which a new
// version is bad.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	goruntime "runtime"
	"syscall"
	"time"
)

const usage = `usage: app serve [--listen ADDR] [--version NAME] [--ready-after DURATION] [--flaw crash|unready|late|leak] [--flap DURATION] [--work DURATION]`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "app:", err)
		os.Exit(1)
	}
}

// options say how the page behaves.
type options struct {
	listen  string
	version string
	ready   time.Duration // how long it takes to be ready
	flaw    string
	flap    time.Duration // for how long it is ready in every third second only
	work    time.Duration // how long each page takes
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 || args[0] != "serve" {
		return errors.New(usage)
	}
	var o options
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	flags.StringVar(&o.listen, "listen", ":8080", "address to serve on")
	flags.StringVar(&o.version, "version", "1", "what the page says")
	flags.DurationVar(&o.ready, "ready-after", 0, "how long it takes to be ready")
	flags.StringVar(&o.flaw, "flaw", "", "what is wrong with this version")
	flags.DurationVar(&o.flap, "flap", 0, "for how long it is ready in every third second only")
	flags.DurationVar(&o.work, "work", 0, "how long each page takes")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", o.listen)
	if err != nil {
		return err
	}
	return serve(ctx, l, o)
}

// latest is how long a version with the flaw "late" works.
const latest = 2 * time.Second

func serve(ctx context.Context, l net.Listener, o options) error {
	began := time.Now()
	failed := make(chan error, 1)
	switch o.flaw {
	case "", "unready":
	case "crash":
		return errors.New("this version crashes at once")
	case "late":
		time.AfterFunc(latest, func() { failed <- errors.New("this version crashes after a while") })
	case "leak":
		go leak()
	default:
		return fmt.Errorf("unknown flaw %q\n%s", o.flaw, usage)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if age := time.Since(began); o.flaw == "unready" || age < o.ready || age < o.flap && age/time.Second%3 != 0 {
			http.Error(w, "not ready", http.StatusServiceUnavailable)
		}
	})
	host, _ := os.Hostname()
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(o.work):
			fmt.Fprintf(w, "version %s from %s\n", o.version, host)
		case <-r.Context().Done():
		}
	})
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	select {
	case err := <-done:
		return err
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return srv.Shutdown(closing)
}

// leak takes memory until there is none.
func leak() {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for all := make([]byte, 0, 1<<20); ; <-tick.C {
		all = append(all, bytes.Repeat([]byte{1}, 1<<20)...)
		goruntime.KeepAlive(all)
	}
}
