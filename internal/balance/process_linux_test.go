package balance

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	goruntime "runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// childEnv makes this program be a balancer of its own, in front of the address that it
// holds, the server behind it, or a proxy of the engine: for what is seen of a whole
// process.
const (
	childEnv = "BERTH_BALANCE_TEST_BACKEND"
	asServer = "server"
)

func TestMain(m *testing.M) {
	backend := os.Getenv(childEnv)
	if backend == "" {
		os.Exit(m.Run())
	}
	be := beServer
	switch backend {
	case asServer:
	case asProxy:
		be = beProxy
	default:
		be = func() error { return beBalancer(netip.MustParseAddrPort(backend)) }
	}
	if err := be(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// beServer echoes until its input ends.
func beServer() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() {
		for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
			go func() {
				echo(1, 1)(conn.(*net.TCPConn)) // not io.Copy: it would hold a pipe for each
				_ = conn.Close()
			}()
		}
	}()
	if err := json.NewEncoder(os.Stdout).Encode(report{Addr: unmapped(l.Addr())}); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// report is what a child says of itself.
type report struct {
	Addr       netip.AddrPort
	RSS        int // bytes
	Goroutines int
	Files      int
	Frontend   FrontendStatus
}

// beBalancer answers each line on its input: "limit n" allows n descriptors more
// than are open, anything else only reports.
func beBalancer(backend netip.AddrPort) error {
	b := New(context.Background(), Config{})
	if err := b.Route(web, Routing{Backends: []Backend{backendAt("a", backend)}}); err != nil {
		return err
	}
	s := b.Apply(context.Background(), []Frontend{{Key: web, Protocol: TCP, Host: netip.MustParseAddr("127.0.0.1"), Target: 80}})[0]
	out := json.NewEncoder(os.Stdout)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		if n, ok := strings.CutPrefix(lines.Text(), "limit "); ok {
			if err := limitFiles(n); err != nil {
				return err
			}
		}
		r := report{Addr: s.Bound, Goroutines: goruntime.NumGoroutine(), Files: openFiles(), Frontend: b.Status()[0], RSS: rss()}
		if err := out.Encode(r); err != nil {
			return err
		}
	}
	return nil
}

func limitFiles(more string) error {
	n, err := strconv.Atoi(more)
	if err != nil {
		return err
	}
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	limit.Cur = uint64(len(files) - 1 + n) // but for the one that reads the folder
	return unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
}

func rss() int {
	text, _ := os.ReadFile("/proc/self/statm")
	field := strings.Fields(string(text))
	if len(field) < 2 {
		return 0
	}
	pages, _ := strconv.Atoi(field[1])
	return pages * os.Getpagesize()
}

// child is a balancer in a process of its own.
type child struct {
	in  io.Writer
	out *json.Decoder
}

func startChild(t testing.TB, be string) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+be)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	return &child{in: in, out: json.NewDecoder(out)}
}

func (c *child) tell(t testing.TB, what string) (r report) {
	t.Helper()
	if _, err := io.WriteString(c.in, what+"\n"); err != nil {
		t.Fatal(err)
	}
	if err := c.out.Decode(&r); err != nil {
		t.Fatal(err)
	}
	return r
}

// When the process has no more descriptors, clients wait, and are served as soon as
// it has again. Nothing spins meanwhile.
func TestNoDescriptorsLeft(t *testing.T) {
	c := startChild(t, serve(t, "a", nil).addr().String())
	addr := c.tell(t, "limit 7").Addr // three connections, and one that cannot be connected on
	began := time.Now()
	var open, waiting []*net.TCPConn
	for range 3 {
		conn := dial(t, addr)
		if _, err := ask(conn); err != nil {
			t.Fatal(err)
		}
		open = append(open, conn)
	}
	for range 3 {
		waiting = append(waiting, dial(t, addr))
	}
	var r report
	eventually(t, "it cannot accept", func() bool { r = c.tell(t, "report"); return r.Frontend.AcceptErrors >= 3 })
	// 5, 10, 20 … ms, and then one a second: not many times.
	if most := 9 + uint64(time.Since(began).Seconds()); r.Frontend.AcceptErrors > most {
		t.Errorf("in %v it tried %d times to accept", time.Since(began), r.Frontend.AcceptErrors)
	}
	for _, conn := range open {
		if name, err := ask(conn); name != "a" || err != nil {
			t.Errorf("an open connection broke: %q, %v", name, err)
		}
		_ = conn.Close()
	}
	for _, conn := range waiting {
		if name, err := ask(conn); name != "a" || err != nil {
			t.Errorf("who waited got %q, %v", name, err)
		}
		_ = conn.Close()
	}
	eventually(t, "all is given back", func() bool { return c.tell(t, "report").Frontend.Open == 0 })
}

// A backend that does not answer is given up in time, and another one serves.
func TestSilentBackendIsTriedElsewhere(t *testing.T) {
	silent := silentBackend(t)
	b := newBalancer(t, Config{Connect: 100 * time.Millisecond})
	route(t, b, Routing{Backends: []Backend{silent, serve(t, "b", nil).backend()}})
	addr := listen(t, b, TCP)
	for range 2 {
		if name := askOnce(t, addr); name != "b" {
			t.Errorf("served by %s", name)
		}
	}
	if s, _ := b.Backend(web, "silent"); s.FailedConnects != 1 || s.Failures != 1 {
		t.Errorf("it is to be tried once, and then avoided: %+v", s)
	}
}

// silentBackend returns one whose queue is full: the kernel drops what would connect.
func silentBackend(t *testing.T) Backend {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(sa.(*unix.SockaddrInet4).Port))
	for {
		conn, err := net.DialTimeout("tcp", addr.String(), 200*time.Millisecond)
		if err != nil {
			return backendAt("silent", addr)
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
}

// BenchmarkIdleConnections measures what 10,000 open connections, each of which has
// carried bytes both ways, hold of a process's memory; fewer, where a process may
// not have descriptors enough.
func BenchmarkIdleConnections(b *testing.B) {
	conns := min(10_000, defaultMaxOpen())
	var server report
	if err := startChild(b, asServer).out.Decode(&server); err != nil {
		b.Fatal(err)
	}
	c := startChild(b, server.Addr.String())
	before := c.tell(b, "report")
	line := []byte("x")
	for b.Loop() {
		open := make([]*net.TCPConn, 0, conns)
		for range conns {
			conn, err := dialOnce(before.Addr)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := conn.Write(line); err != nil {
				b.Fatal(err)
			}
			if _, err := io.ReadFull(conn, line); err != nil {
				b.Fatalf("after %d: %v; %+v", len(open), err, c.tell(b, "report"))
			}
			open = append(open, conn)
		}
		r := c.tell(b, "report")
		if r.Frontend.Open != conns {
			b.Fatalf("%d are open", r.Frontend.Open)
		}
		b.ReportMetric(float64(conns), "conns")
		b.ReportMetric(float64(r.RSS)/(1<<20), "RSS-MiB")
		b.ReportMetric(float64(r.RSS-before.RSS)/float64(conns), "B/conn")
		b.ReportMetric(float64(r.Goroutines)/float64(conns), "goroutines/conn")
		for _, conn := range open {
			_ = conn.Close()
		}
		eventually(b, "nothing is open", func() bool { return c.tell(b, "report").Frontend.Open == 0 })
	}
}
