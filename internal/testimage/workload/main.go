// Command workload is the program inside the test image. Its first argument
// says how to behave; everything it does is small, quick and observable from
// outside, so that tests wait for facts and never for time.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

func main() {
	args := os.Args[1:]
	if len(args) == 0 {
		args = []string{"help"}
	}
	code, err := run(args[0], args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "workload:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// behaviours maps the first argument to what it does and how it is called.
func behaviours() map[string]func([]string) (int, error) {
	return map[string]func([]string) (int, error){
		"serve":       serve,
		"flood":       flood,
		"relay":       relay,
		"call":        call,
		"sleep":       sleep,
		"exit":        exit,
		"print":       printLines,
		"tick":        tick,
		"cat":         cat,
		"ignoreterm":  ignoreTerm,
		"alloc":       alloc,
		"spawn":       spawn,
		"burn":        burn,
		"env":         env,
		"readfile":    readFile,
		"writefile":   writeFile,
		"rm":          removeFile,
		"stat":        stat,
		"ls":          list,
		"whoami":      whoami,
		"tty":         tty,
		"healthcheck": healthcheck,
		"get":         get,
		"signal":      sendSignal,
	}
}

func run(name string, args []string) (int, error) {
	if f, ok := behaviours()[name]; ok {
		return f(args)
	}
	var names []string
	for n := range behaviours() {
		names = append(names, n)
	}
	sort.Strings(names)
	return 2, fmt.Errorf("unknown behaviour %q; there are %s", name, strings.Join(names, ", "))
}

// terminated returns a context that ends with SIGTERM or SIGINT. A process
// that is PID 1 gets no default action for them, so it must ask.
func terminated() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
}

// serve [port or address]: HTTP until SIGTERM, then exit 0. It answers the health
// check of gRPC as /healthz.
//
//	GET  /          host name, service and slot
//	GET  /healthz   200, or 503 after POST /fail until POST /recover
//	GET  /env       the environment
//	POST /hang      lets /healthz hang until POST /recover
//	POST /exit?code=N   ends the process
//	POST /alloc?bytes=N holds that much more memory
func serve(args []string) (int, error) {
	port := "8080"
	if len(args) > 0 {
		port = args[0]
	}
	var sick, hanging atomic.Bool
	if _, err := os.Stat("/tmp/unhealthy"); err == nil {
		sick.Store(true)
	}
	var held atomic.Pointer[[]byte]
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		host, _ := os.Hostname()
		fmt.Fprintf(w, "host=%s service=%s slot=%s\n", host, os.Getenv("SERVICE"), os.Getenv("SLOT"))
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		if hanging.Load() {
			<-r.Context().Done()
			return
		}
		if sick.Load() {
			http.Error(w, "sick", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /env", func(w http.ResponseWriter, _ *http.Request) { writeEnv(w, nil) })
	mux.HandleFunc("POST /fail", func(http.ResponseWriter, *http.Request) { sick.Store(true) })
	mux.HandleFunc("POST /hang", func(http.ResponseWriter, *http.Request) { hanging.Store(true) })
	mux.HandleFunc("POST /recover", func(http.ResponseWriter, *http.Request) {
		sick.Store(false)
		hanging.Store(false)
	})
	mux.HandleFunc("POST /grpc.health.v1.Health/Check", func(w http.ResponseWriter, _ *http.Request) { grpcHealth(w, !sick.Load()) })
	mux.HandleFunc("POST /exit", func(_ http.ResponseWriter, r *http.Request) {
		code, _ := strconv.Atoi(r.URL.Query().Get("code"))
		os.Exit(code)
	})
	mux.HandleFunc("POST /alloc", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.Atoi(r.URL.Query().Get("bytes"))
		if err != nil || n < 0 {
			http.Error(w, "bytes must be a number", http.StatusBadRequest)
			return
		}
		b := touch(n)
		held.Store(&b)
	})
	return listen(port, mux)
}

// listen serves until SIGTERM, then lets the requests at hand finish.
func listen(port string, handler http.Handler) (int, error) {
	ctx, stop := terminated()
	defer stop()
	if !strings.Contains(port, ":") {
		port = ":" + port
	}
	srv := &http.Server{Addr: port, Handler: handler, ReadHeaderTimeout: 5 * time.Second, Protocols: new(http.Protocols)}
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetUnencryptedHTTP2(true)
	failed := make(chan error, 1)
	go func() { failed <- srv.ListenAndServe() }()
	fmt.Println("listening on", strings.TrimPrefix(port, ":"))
	select {
	case err := <-failed:
		return 1, err
	case <-ctx.Done():
		end, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		fmt.Println("stopping")
		return 0, srv.Shutdown(end)
	}
}

// relay url: HTTP on 8080 until SIGTERM. GET / answers what url does, from the
// first of the name's addresses that takes a connection; a request that fails is
// made once more.
func relay(args []string) (int, error) {
	if len(args) != 1 {
		return 2, errors.New("relay needs a URL")
	}
	c := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: dialAny}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		body, err := fetch(&c, args[0])
		if err != nil {
			fmt.Println("again after", err)
			body, err = fetch(&c, args[0])
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		_, _ = w.Write(body)
	})
	return listen("8080", mux)
}

// dialAny connects to the first address of a host that takes the connection at
// once: that of a container that has just ended is silent.
func dialAny(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	addresses, err := net.DefaultResolver.LookupHost(ctx, host)
	d := net.Dialer{Timeout: 300 * time.Millisecond}
	for _, a := range addresses {
		var conn net.Conn
		if conn, err = d.DialContext(ctx, network, net.JoinHostPort(a, port)); err == nil {
			return conn, nil
		}
	}
	return nil, err
}

// fetch is the body of a 2xx.
func fetch(c *http.Client, url string) ([]byte, error) {
	resp, err := c.Get(url)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("status %s", resp.Status)
	}
	return body, err
}

// sleep [duration]: waits, for ever without one; SIGTERM ends it with 0.
func sleep(args []string) (int, error) {
	ctx, stop := terminated()
	defer stop()
	d, err := optionalDuration(args, 0)
	if err != nil {
		return 2, err
	}
	fmt.Println("sleeping")
	if d <= 0 {
		<-ctx.Done()
		return 0, nil
	}
	wait(ctx, d)
	return 0, nil
}

// exit code [after]: ends with that code.
func exit(args []string) (int, error) {
	if len(args) == 0 {
		return 2, errors.New("exit needs a code")
	}
	code, err := strconv.Atoi(args[0])
	if err != nil {
		return 2, err
	}
	d, err := optionalDuration(args, 1)
	if err != nil {
		return 2, err
	}
	ctx, stop := terminated()
	defer stop()
	wait(ctx, d)
	return code, nil
}

// print line...: each to stdout, or to stderr when it begins with "err:";
// "sleep:1s" pauses and "forever" then waits for SIGTERM.
func printLines(args []string) (int, error) {
	ctx, stop := terminated()
	defer stop()
	for _, a := range args {
		switch {
		case strings.HasPrefix(a, "err:"):
			fmt.Fprintln(os.Stderr, strings.TrimPrefix(a, "err:"))
		case strings.HasPrefix(a, "sleep:"):
			d, err := time.ParseDuration(strings.TrimPrefix(a, "sleep:"))
			if err != nil {
				return 2, err
			}
			wait(ctx, d)
		case a == "forever":
			<-ctx.Done()
		default:
			fmt.Println(a)
		}
	}
	return 0, nil
}

// tick interval: a numbered line each interval until SIGTERM.
func tick(args []string) (int, error) {
	d, err := optionalDuration(args, 0)
	if err != nil || d <= 0 {
		return 2, errors.New("tick needs an interval")
	}
	ctx, stop := terminated()
	defer stop()
	for i := 1; ctx.Err() == nil; i++ {
		fmt.Println("tick", i)
		wait(ctx, d)
	}
	return 0, nil
}

// cat: stdin to stdout until it ends.
func cat([]string) (int, error) {
	_, err := io.Copy(os.Stdout, bufio.NewReader(os.Stdin))
	return 0, err
}

// ignoreterm: never ends but by SIGKILL.
func ignoreTerm([]string) (int, error) {
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	fmt.Println("ignoring signals")
	for {
		time.Sleep(time.Hour)
	}
}

// alloc bytes [duration]: touches that much memory and holds it.
func alloc(args []string) (int, error) {
	if len(args) == 0 {
		return 2, errors.New("alloc needs a number of bytes")
	}
	n, err := strconv.Atoi(args[0])
	if err != nil || n < 0 {
		return 2, fmt.Errorf("%q is not a number of bytes", args[0])
	}
	b := touch(n)
	fmt.Println("allocated", len(b))
	code, err := sleep(args[1:])
	b[0] = 1
	return code, err
}

func touch(n int) []byte {
	b := make([]byte, max(n, 1))
	for i := 0; i < len(b); i += os.Getpagesize() {
		b[i] = 1
	}
	return b
}

// spawn n: that many sleeping children, at most 64, ended with this process.
func spawn(args []string) (int, error) {
	n := 1
	if len(args) > 0 {
		var err error
		if n, err = strconv.Atoi(args[0]); err != nil || n < 0 || n > 64 {
			return 2, fmt.Errorf("%q is not a number of children between 0 and 64", args[0])
		}
	}
	ctx, stop := terminated()
	defer stop()
	self, err := os.Executable()
	if err != nil {
		return 1, err
	}
	children := make([]*exec.Cmd, n)
	for i := range children {
		children[i] = exec.CommandContext(ctx, self, "sleep")
		if err := children[i].Start(); err != nil {
			return 1, err
		}
	}
	fmt.Println("spawned", n)
	<-ctx.Done()
	for _, c := range children {
		_ = c.Wait() // killed with the context
	}
	return 0, nil
}

// burn [duration]: uses one core.
func burn(args []string) (int, error) {
	d, err := optionalDuration(args, 0)
	if err != nil {
		return 2, err
	}
	ctx, stop := terminated()
	defer stop()
	fmt.Println("burning")
	for end := time.Now().Add(d); ctx.Err() == nil && (d == 0 || time.Now().Before(end)); {
		for range 1_000_000 {
		}
	}
	return 0, nil
}

// env [KEY...]: the environment, or the values of some keys.
func env(args []string) (int, error) {
	writeEnv(os.Stdout, args)
	return 0, nil
}

func writeEnv(w io.Writer, keys []string) {
	if len(keys) == 0 {
		all := os.Environ()
		sort.Strings(all)
		for _, e := range all {
			fmt.Fprintln(w, e)
		}
	}
	for _, k := range keys {
		v, ok := os.LookupEnv(k)
		if !ok {
			v = "<unset>"
		}
		fmt.Fprintln(w, v)
	}
}

// readfile path...: their contents.
func readFile(args []string) (int, error) {
	for _, p := range args {
		b, err := os.ReadFile(p)
		if err != nil {
			return 1, err
		}
		if _, err := os.Stdout.Write(b); err != nil {
			return 1, err
		}
	}
	return 0, nil
}

// writefile path text
func writeFile(args []string) (int, error) {
	if len(args) != 2 {
		return 2, errors.New("writefile needs a path and a text")
	}
	if err := os.MkdirAll(filepath.Dir(args[0]), 0o755); err != nil {
		return 1, err
	}
	return 0, os.WriteFile(args[0], []byte(args[1]), 0o644)
}

func removeFile(args []string) (int, error) {
	for _, p := range args {
		if err := os.Remove(p); err != nil {
			return 1, err
		}
	}
	return 0, nil
}

// stat path...: "path mode uid:gid size".
func stat(args []string) (int, error) {
	for _, p := range args {
		fi, err := os.Lstat(p)
		if err != nil {
			return 1, err
		}
		sys, ok := fi.Sys().(*syscall.Stat_t)
		if !ok {
			return 1, fmt.Errorf("%s: no owner", p)
		}
		fmt.Printf("%s %04o %d:%d %d\n", p, fi.Mode().Perm(), sys.Uid, sys.Gid, fi.Size())
	}
	return 0, nil
}

// ls dir...: the names in it.
func list(args []string) (int, error) {
	for _, p := range args {
		entries, err := os.ReadDir(p)
		if err != nil {
			return 1, err
		}
		for _, e := range entries {
			fmt.Println(e.Name())
		}
	}
	return 0, nil
}

// whoami: "uid:gid cwd hostname".
func whoami([]string) (int, error) {
	dir, err := os.Getwd()
	if err != nil {
		return 1, err
	}
	host, err := os.Hostname()
	fmt.Printf("%d:%d %s %s\n", os.Getuid(), os.Getgid(), dir, host)
	return 0, err
}

// tty [watch]: whether stdin is a terminal and how large; with watch each new
// size on a line of its own, until SIGTERM.
func tty(args []string) (int, error) {
	rows, cols, ok := terminalSize()
	fmt.Printf("tty=%t rows=%d cols=%d\n", ok, rows, cols)
	if len(args) == 0 || args[0] != "watch" {
		return 0, nil
	}
	ctx, stop := terminated()
	defer stop()
	sizes := make(chan os.Signal, 8)
	signal.Notify(sizes, syscall.SIGWINCH)
	defer signal.Stop(sizes)
	if r, c, _ := terminalSize(); r != rows || c != cols { // changed before we listened
		fmt.Printf("rows=%d cols=%d\n", r, c)
	}
	for {
		select {
		case <-ctx.Done():
			return 0, nil
		case <-sizes:
			rows, cols, _ = terminalSize()
			fmt.Printf("rows=%d cols=%d\n", rows, cols)
		}
	}
}

func terminalSize() (rows, cols uint16, ok bool) {
	var size struct{ rows, cols, x, y uint16 }
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, os.Stdin.Fd(), syscall.TIOCGWINSZ, uintptr(unsafe.Pointer(&size)))
	return size.rows, size.cols, errno == 0
}

// healthcheck path: 0 while the file does not exist, else its first line and 1.
func healthcheck(args []string) (int, error) {
	path := "/tmp/unhealthy"
	if len(args) > 0 {
		path = args[0]
	}
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		fmt.Println("healthy")
		return 0, nil
	}
	fmt.Println("unhealthy:", strings.TrimSpace(string(b)))
	return 1, nil
}

// signal TERM|INT|HUP|KILL behaviour: to every other process of this program
// that has the behaviour; 1 when there is none.
func sendSignal(args []string) (int, error) {
	signals := map[string]syscall.Signal{"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "HUP": syscall.SIGHUP, "KILL": syscall.SIGKILL}
	if len(args) != 2 || signals[args[0]] == 0 {
		return 2, errors.New("signal needs a signal and a behaviour")
	}
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return 1, err
	}
	code := 1
	for _, f := range files {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(f)))
		if err != nil || pid == os.Getpid() {
			continue
		}
		b, err := os.ReadFile(f)
		if argv := strings.Split(string(b), "\x00"); err != nil || len(argv) < 2 || argv[1] != args[1] {
			continue
		}
		if err := syscall.Kill(pid, signals[args[0]]); err != nil {
			return 1, err
		}
		code = 0
	}
	return code, nil
}

// get url: its body; 1 unless the status is 2xx.
func get(args []string) (int, error) {
	if len(args) != 1 {
		return 2, errors.New("get needs a URL")
	}
	c := http.Client{Timeout: 5 * time.Second}
	resp, err := c.Get(args[0])
	if err != nil {
		return 1, err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(os.Stdout, resp.Body); err != nil {
		return 1, err
	}
	if resp.StatusCode/100 != 2 {
		return 1, fmt.Errorf("status %s", resp.Status)
	}
	return 0, nil
}

func optionalDuration(args []string, i int) (time.Duration, error) {
	if len(args) <= i {
		return 0, nil
	}
	return time.ParseDuration(args[i])
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
