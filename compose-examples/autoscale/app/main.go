// Command app is the autoscale example's whole image: a page that takes as much
// cpu as it is told, and a client that asks for it so many times a second.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const usage = `usage: app serve [--listen ADDR] [--burn MILLICORE-SECONDS]
       app load --url URL [--rps N] [--for DURATION]`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "app:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 {
		switch args[0] {
		case "serve":
			return runServe(ctx, args[1:])
		case "load":
			return runLoad(ctx, args[1:])
		}
	}
	return errors.New(usage)
}

func runServe(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	listen := flags.String("listen", ":8080", "address to serve on")
	millis := flags.Int("burn", 20, "millicore-seconds that each request takes")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *millis < 0 {
		return fmt.Errorf("--burn %d is negative\n%s", *millis, usage)
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", *listen)
	if err != nil {
		return err
	}
	// A millicore-second is a thousandth of a second of one core.
	return serve(ctx, l, time.Duration(*millis)*time.Millisecond)
}

// serve burns so much cpu for each page, until ctx ends.
func serve(ctx context.Context, l net.Listener, work time.Duration) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", func(http.ResponseWriter, *http.Request) {})
	host, _ := os.Hostname()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		took, err := burn(r.Context(), work)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		fmt.Fprintln(w, host)
		fmt.Fprintln(w, took)
	})
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return srv.Shutdown(closing)
}
