// Command app is the quickstart example's whole image: a page (serve), the
// visit counter it asks (count), and the check that both use as their
// healthcheck (check), so that the image needs no shell and no curl.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const usage = `usage: app serve [--listen ADDR] [--counter URL]
       app count [--listen ADDR] [--file PATH]
       app check URL`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "app:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New(usage)
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	switch args[0] {
	case "serve":
		listen := flags.String("listen", ":8080", "address to serve the page on")
		counter := flags.String("counter", "", "URL of the visit counter; empty: none")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		return serve(ctx, *listen, newPage(os.Getenv("GREETING"), *counter))
	case "count":
		listen := flags.String("listen", ":8081", "address to count on")
		file := flags.String("file", "/data/visits", "file that keeps the number")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		counter, err := openCounter(*file)
		if err != nil {
			return err
		}
		return serve(ctx, *listen, counter)
	case "check":
		if len(args) != 2 {
			return errors.New(usage)
		}
		return check(ctx, args[1])
	default:
		return fmt.Errorf("unknown command %q\n%s", args[0], usage)
	}
}

// serve answers until ctx ends, then lets the requests at hand finish.
func serve(ctx context.Context, listen string, handler http.Handler) error {
	mux := http.NewServeMux()
	mux.Handle("GET /healthz", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "ok\n")
	}))
	mux.Handle("/", handler)
	server := &http.Server{Addr: listen, Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	log.Printf("listening on %s", listen)
	select {
	case err := <-failed:
		return fmt.Errorf("serve on %s: %w", listen, err)
	case <-ctx.Done():
	}
	log.Print("asked to stop")
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := server.Shutdown(grace); err != nil {
		return fmt.Errorf("stop serving on %s: %w", listen, err)
	}
	return nil
}

// check is the healthcheck: nil when url answers 200 within two seconds.
func check(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	body, err := get(ctx, http.MethodGet, url)
	if err != nil {
		return err
	}
	fmt.Print(body)
	return nil
}

// get makes one request and returns at most 1 KiB of the body of a 200.
func get(ctx context.Context, method, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", method, url, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1024))
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", method, url, err)
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s %s answered %s", method, url, resp.Status)
	}
	return string(body), nil
}
