// Command app is the self-healing example's whole image: a page that can be told
// to misbehave (serve), and the command that tells it (tell), so that each way
// to fail can be tried from outside.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const usage = `usage: app serve [--listen ADDR] [--startup DURATION]
       app tell URL hang|unready|ready|leak|exit [CODE]`

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
	switch args[0] {
	case "serve":
		flags := flag.NewFlagSet("serve", flag.ContinueOnError)
		listen := flags.String("listen", ":8080", "address to serve on")
		startup := flags.Duration("startup", 0, "how long it takes to be up")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", *listen)
		if err != nil {
			return err
		}
		return serve(ctx, l, *startup)
	case "tell":
		if len(args) < 3 {
			return errors.New(usage)
		}
		return tell(ctx, args[1], args[2:])
	default:
		return fmt.Errorf("unknown command %q\n%s", args[0], usage)
	}
}

// app is a page that can be told to misbehave.
type app struct {
	up      time.Time // from when it is up
	hung    chan struct{}
	hang    sync.Once
	unready atomic.Bool
	exit    chan int

	mu     sync.Mutex // protects leaked
	leaked [][]byte
}

func serve(ctx context.Context, l net.Listener, startup time.Duration) error {
	a := &app{up: time.Now().Add(startup), hung: make(chan struct{}), exit: make(chan int, 1)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", a.healthz)
	mux.HandleFunc("GET /readyz", a.readyz)
	mux.HandleFunc("POST /tell/{what}", a.told)
	mux.HandleFunc("GET /", func(w http.ResponseWriter, _ *http.Request) {
		host, _ := os.Hostname()
		_, _ = fmt.Fprintf(w, "served by %s\n", host)
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	log.Printf("listening on %s", l.Addr())
	select {
	case err := <-failed:
		return fmt.Errorf("serve on %s: %w", l.Addr(), err)
	case code := <-a.exit:
		log.Printf("told to exit with %d", code)
		os.Exit(code)
	case <-ctx.Done():
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	return ignoreDeadline(server.Shutdown(closing))
}

// ignoreDeadline lets requests that hang end with the process.
func ignoreDeadline(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}

// healthz answers while the program works: not before it is up, and never again
// once it hangs.
func (a *app) healthz(w http.ResponseWriter, r *http.Request) {
	select {
	case <-a.hung:
		<-r.Context().Done()
		return
	default:
	}
	if wait := time.Until(a.up); wait > 0 {
		http.Error(w, fmt.Sprintf("up in %s", wait.Round(time.Second)), http.StatusServiceUnavailable)
		return
	}
	_, _ = io.WriteString(w, "ok\n")
}

// readyz answers while it wants requests.
func (a *app) readyz(w http.ResponseWriter, r *http.Request) {
	if a.unready.Load() {
		http.Error(w, "told to be unready", http.StatusServiceUnavailable)
		return
	}
	a.healthz(w, r)
}

// told does what it is told.
func (a *app) told(w http.ResponseWriter, r *http.Request) {
	what := r.PathValue("what")
	log.Printf("told to %s", what)
	switch what {
	case "hang":
		a.hang.Do(func() { close(a.hung) })
	case "unready":
		a.unready.Store(true)
	case "ready":
		a.unready.Store(false)
	case "leak":
		go a.leak()
	case "exit":
		code, err := strconv.Atoi(r.FormValue("code"))
		if err != nil || code < 0 || code > 255 {
			http.Error(w, "code is none", http.StatusBadRequest)
			return
		}
		a.exit <- code
	default:
		http.Error(w, "unknown: "+strconv.Quote(what), http.StatusNotFound)
		return
	}
	_, _ = io.WriteString(w, "done\n")
}

// leakStep is how much memory is taken at a time.
const leakStep = 4 << 20

// leak takes memory until there is none.
func (a *app) leak() {
	for {
		block := make([]byte, leakStep)
		for i := 0; i < len(block); i += 4096 {
			block[i] = 1 // so that the page is really there
		}
		a.mu.Lock()
		a.leaked = append(a.leaked, block)
		a.mu.Unlock()
		time.Sleep(10 * time.Millisecond)
	}
}

// tell tells the page at a URL what to do.
func tell(ctx context.Context, base string, words []string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	target, err := url.JoinPath(base, "tell", words[0])
	if err != nil {
		return err
	}
	if len(words) > 1 {
		target += "?code=" + url.QueryEscape(words[1])
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s", base, resp.Status)
	}
	return nil
}
