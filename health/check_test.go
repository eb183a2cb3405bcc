package health

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	goruntime "runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/berth-dev/berth/runtime"
)

// checkLeaks fails the test when it leaves goroutines or file descriptors.
func checkLeaks(t *testing.T) {
	t.Helper()
	goroutines, fds := goruntime.NumGoroutine(), openFiles(t)
	t.Cleanup(func() {
		var g, f int
		for range 200 {
			if g, f = goruntime.NumGoroutine(), openFiles(t); g <= goroutines && f <= fds {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		buf := make([]byte, 1<<16)
		t.Errorf("%d goroutines and %d files, before %d and %d\n%s", g, f, goroutines, fds, buf[:goruntime.Stack(buf, true)])
	})
}

// openFiles counts the file descriptors of this process; 0 where that is unknown.
func openFiles(tb testing.TB) int {
	tb.Helper()
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(d)
}

// networkCheck is the check of a network probe with a timeout of 1 s at an address.
func networkCheck(p Probe, address string) Check {
	t := Target{Routes: map[Role]Route{Liveness: {Way: ByAddress, Address: address}}}
	return (&Checkers{}).Make(Liveness, &p, t)
}

// raw serves each connection with a function until the test ends.
func raw(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); serve(c) }()
		}
	}()
	return l.Addr().String()
}

// answers serves the same bytes to whoever asks.
func answers(response string) func(net.Conn) {
	return func(c net.Conn) {
		_, _ = http.ReadRequest(bufio.NewReader(c))
		_, _ = io.WriteString(c, response)
	}
}

// holds serves nothing until its caller goes away.
func holds(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

func TestHTTPCodes(t *testing.T) {
	checkLeaks(t)
	for code, want := range map[int]Outcome{
		200: Success, 204: Success, 299: Success, 304: Success, 399: Success, 300: Success,
		400: Failure, 401: Failure, 404: Failure, 500: Failure, 503: Failure, 599: Failure,
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			if code != 204 && code != 304 {
				_, _ = io.WriteString(w, "the body is a secret")
			}
		}))
		outcome, text := networkCheck(Probe{HTTP: &HTTP{}}, s.Listener.Addr().String())(t.Context())
		s.Close()
		if outcome != want || !strings.HasPrefix(text, fmt.Sprint(code)) || strings.Contains(text, "secret") {
			t.Errorf("%d: %q %q, want %q", code, outcome, text, want)
		}
	}
}

func TestHTTPRequest(t *testing.T) {
	checkLeaks(t)
	got := make(chan *http.Request, 1)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r }))
	defer s.Close()
	address := s.Listener.Addr().String()
	for _, c := range []struct {
		h                      HTTP
		uri, host, agent, more string
	}{
		{HTTP{}, "/", address, "berth-probe", ""},
		{HTTP{Path: "/healthz?deep=1&x=%20"}, "/healthz?deep=1&x=%20", address, "berth-probe", ""},
		{HTTP{Path: "/a", Headers: map[string]string{"host": "shop.test", "user-agent": "mine", "X-More": "1"}}, "/a", "shop.test", "mine", "1"},
	} {
		outcome, text := networkCheck(Probe{HTTP: &c.h}, address)(t.Context())
		if outcome != Success {
			t.Fatalf("%+v: %q %q", c.h, outcome, text)
		}
		r := <-got
		if r.Method != http.MethodGet || r.RequestURI != c.uri || r.Host != c.host || r.UserAgent() != c.agent || r.Header.Get("X-More") != c.more || !r.Close {
			t.Errorf("%+v: asked %s %s of %s, %v", c.h, r.Method, r.RequestURI, r.Host, r.Header)
		}
	}
}

func TestHTTPIgnoresProxies(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	t.Setenv("http_proxy", "http://127.0.0.1:1")
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer s.Close()
	if outcome, text := networkCheck(Probe{HTTP: &HTTP{}}, s.Listener.Addr().String())(t.Context()); outcome != Success {
		t.Errorf("%q %q", outcome, text)
	}
}

func TestHTTPRedirects(t *testing.T) {
	checkLeaks(t)
	var other *httptest.Server
	mux := http.NewServeMux()
	to := func(path, location string, code int) {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", location)
			w.WriteHeader(code)
		})
	}
	mux.HandleFunc("/ok", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/bad", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	mux.HandleFunc("/bare", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusFound) })
	to("/to-ok", "/ok", 301)
	to("/to-bad", "bad", 307)
	to("/loop", "/loop", 302)
	to("/foreign", "http://other.test:1234/path?token=secret", 302)
	to("/strange", "ftp://127.0.0.1/", 302)
	to("/broken", "http://[", 302)
	to("/seeother", "/ok", 303)
	to("/multiple", "/bad", 300)
	for i := range 12 {
		to(fmt.Sprintf("/hop%d", i), fmt.Sprintf("/hop%d", i+1), 308)
	}
	mux.HandleFunc("/hop12", func(http.ResponseWriter, *http.Request) {})
	s := httptest.NewServer(mux)
	defer s.Close()
	other = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }))
	defer other.Close()
	to("/port", other.URL+"/", 302)
	for path, c := range map[string]struct {
		way     Way
		outcome Outcome
		text    string
	}{
		"/to-ok":    {ByAddress, Success, "200 OK"},
		"/seeother": {ByAddress, Success, "200 OK"},
		"/to-bad":   {ByAddress, Failure, "500 Internal Server Error"},
		"/multiple": {ByAddress, Success, "300 Multiple Choices"},
		"/bare":     {ByAddress, Success, "302 Found"},
		"/loop":     {ByAddress, Failure, "stopped after 10 redirects"},
		"/hop2":     {ByAddress, Success, "200 OK"},
		"/hop1":     {ByAddress, Failure, "stopped after 10 redirects"},
		"/foreign":  {ByAddress, Success, "302 Found, redirects to host other.test"},
		"/strange":  {ByAddress, Success, "302 Found, redirects to something that is no web address"},
		"/broken":   {ByAddress, Success, "302 Found, redirects to something that is no web address"},
		"/port":     {ByAddress, Failure, "500 Internal Server Error"},
		"/port?":    {Published, Success, "302 Found, redirects to another port"},
		"/to-bad?":  {Published, Failure, "500 Internal Server Error"},
	} {
		p := Probe{HTTP: &HTTP{Path: path}}
		target := Target{Routes: map[Role]Route{Liveness: {Way: c.way, Address: s.Listener.Addr().String()}}}
		if outcome, text := (&Checkers{}).Make(Liveness, &p, target)(t.Context()); outcome != c.outcome || text != c.text {
			t.Errorf("%s: %q %q, want %q %q", path, outcome, text, c.outcome, c.text)
		}
	}
}

func TestHTTPSIsNotVerified(t *testing.T) {
	checkLeaks(t)
	names := make(chan string, 2)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	s.Config.ErrorLog = nil
	s.TLS = &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		names <- h.ServerName
		return nil, nil
	}}
	s.StartTLS()
	defer s.Close()
	h := &HTTP{Scheme: "https", Headers: map[string]string{"Host": "shop.test:444"}}
	if outcome, text := networkCheck(Probe{HTTP: h}, s.Listener.Addr().String())(t.Context()); outcome != Success {
		t.Errorf("%q %q", outcome, text)
	}
	if name := <-names; name != "shop.test" {
		t.Errorf("asked for the certificate of %q", name)
	}
	plain := raw(t, answers("HTTP/1.1 200 OK\r\n\r\n"))
	if outcome, text := networkCheck(Probe{HTTP: &HTTP{Scheme: "https"}}, plain)(t.Context()); outcome != Failure || !strings.Contains(text, "tls") {
		t.Errorf("TLS with a plain server: %q %q", outcome, text)
	}
}

func TestHTTPOddServers(t *testing.T) {
	checkLeaks(t)
	head := "HTTP/1.1 200 OK\r\n"
	endless := func(c net.Conn) {
		_, _ = io.WriteString(c, head+"\r\n")
		for chunk := make([]byte, 32<<10); ; {
			if _, err := c.Write(chunk); err != nil {
				return
			}
		}
	}
	endlessHead := func(c net.Conn) {
		_, _ = io.WriteString(c, head)
		for {
			if _, err := io.WriteString(c, "X-Long: "+strings.Repeat("x", 1000)+"\r\n"); err != nil {
				return
			}
		}
	}
	slow := func(c net.Conn) {
		_, _ = io.WriteString(c, head+"Content-Length: 100\r\n\r\n")
		holds(c)
	}
	for name, c := range map[string]struct {
		serve   func(net.Conn)
		outcome Outcome
		text    string
	}{
		"endless body":       {endless, Success, "200 OK"},
		"endless head":       {endlessHead, Failure, "the head of the response is longer than 64 KiB"},
		"slow body":          {slow, Failure, "timed out after 1s"},
		"hanging":            {holds, Failure, "timed out after 1s"},
		"closes":             {answers(""), Failure, "the connection ended before the response did"},
		"closes in a head":   {answers(head), Failure, "the connection ended before the response did"},
		"short body":         {answers(head + "Content-Length: 10\r\n\r\nabc"), Failure, "the connection ended before the response did"},
		"no HTTP":            {answers("SSH-2.0-secret\r\n\r\n"), Failure, "the response is not HTTP"},
		"early hints":        {answers("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + head + "Content-Length: 0\r\n\r\n"), Success, "200 OK"},
		"old HTTP":           {answers("HTTP/1.0 200 OK\r\n\r\nhello"), Success, "200 OK"},
		"chunked":            {answers(head + "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"), Success, "200 OK"},
		"long head and body": {answers(head + strings.Repeat("X: "+strings.Repeat("x", 1000)+"\r\n", 60) + "Content-Length: 10240\r\n\r\n" + strings.Repeat("x", 10240)), Success, "200 OK"},
		"odd code":           {answers("HTTP/1.1 799 Odd\r\nContent-Length: 0\r\n\r\n"), Failure, "799"},
	} {
		t.Run(name, func(t *testing.T) {
			outcome, text := networkCheck(Probe{HTTP: &HTTP{}}, raw(t, c.serve))(t.Context())
			if outcome != c.outcome || text != c.text {
				t.Errorf("%q %q, want %q %q", outcome, text, c.outcome, c.text)
			}
		})
	}
}

func TestTCP(t *testing.T) {
	checkLeaks(t)
	open := raw(t, holds)
	if outcome, text := networkCheck(Probe{TCP: &TCP{}}, open)(t.Context()); outcome != Success || text != "connected to "+open {
		t.Errorf("open: %q %q", outcome, text)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	for _, p := range []Probe{{TCP: &TCP{}}, {HTTP: &HTTP{Path: "/x?token=secret"}}, {HTTP: &HTTP{Scheme: "https"}}, {GRPC: &GRPC{}}} {
		outcome, text := networkCheck(p, l.Addr().String())(t.Context())
		if outcome != Failure || text != "dial tcp "+l.Addr().String()+": connect: connection refused" {
			t.Errorf("closed, %s: %q %q", p.Kind(), outcome, text)
		}
	}
}

// A connection that nobody accepts and nobody refuses ends with the timeout.
func TestTCPTimesOut(t *testing.T) {
	hang := func(ctx context.Context, container, _ string) (net.Conn, error) {
		if container != "c1" {
			t.Errorf("asked to join %q", container)
		}
		<-ctx.Done()
		return nil, ctx.Err()
	}
	c := &Checkers{Helper: hang}
	target := Target{Routes: map[Role]Route{Liveness: {Way: ByHelper, Container: "c1", Address: "127.0.0.1:80"}}}
	check := c.Make(Liveness, &Probe{TCP: &TCP{}, Timeout: time.Second}, target)
	if outcome, text := check(t.Context()); outcome != Failure || text != "timed out after 1s" {
		t.Errorf("%q %q", outcome, text)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if outcome, _ := check(ctx); outcome != Unknown {
		t.Errorf("a caller who gave up: %q", outcome)
	}
}

func TestHTTPThroughAHelper(t *testing.T) {
	checkLeaks(t)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "127.0.0.1:8080" {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	defer s.Close()
	c := &Checkers{Helper: func(ctx context.Context, _, address string) (net.Conn, error) {
		if address != "127.0.0.1:8080" {
			return nil, errors.New("wrong address " + address)
		}
		var d net.Dialer
		return d.DialContext(ctx, "tcp", s.Listener.Addr().String())
	}}
	target := Target{Routes: map[Role]Route{Readiness: {Way: ByHelper, Container: "c1", Address: "127.0.0.1:8080"}}}
	for _, p := range []Probe{{HTTP: &HTTP{}}, {TCP: &TCP{}}} {
		if outcome, text := c.Make(Readiness, &p, target)(t.Context()); outcome != Success {
			t.Errorf("%s: %q %q", p.Kind(), outcome, text)
		}
	}
}

func TestProbesThatCannotBeSent(t *testing.T) {
	for name, c := range map[string]struct {
		probe Probe
		route Route
		text  string
	}{
		"no route":      {Probe{TCP: &TCP{}}, Route{}, "no way to the container is known yet"},
		"no way":        {Probe{TCP: &TCP{}}, Route{Reason: "it shares"}, "it shares"},
		"no helper":     {Probe{HTTP: &HTTP{}}, Route{Way: ByHelper, Reason: "why"}, "it takes a helper in the container's network, and there is none: why"},
		"no execer":     {Probe{Exec: &Exec{}}, Route{}, "commands cannot be run"},
		"no inspector":  {Probe{Docker: &Docker{}}, Route{}, "the engine's healthcheck cannot be read"},
		"no log reader": {Probe{Log: &Log{}}, Route{}, "the container's output cannot be searched"},
		"no type":       {Probe{}, Route{}, "the probe has no type"},
	} {
		target := Target{Routes: map[Role]Route{Startup: c.route}}
		if outcome, text := (&Checkers{}).Make(Startup, &c.probe, target)(t.Context()); outcome != Unknown || text != c.text {
			t.Errorf("%s: %q %q, want %q", name, outcome, text, c.text)
		}
	}
}

// What this machine lacks is not the container's failure.
func TestScarceResourcesAreNoFailure(t *testing.T) {
	for err, want := range map[error]Outcome{
		&net.OpError{Op: "dial", Err: os.NewSyscallError("socket", syscall.EMFILE)}:         Unknown,
		&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EADDRNOTAVAIL)}: Unknown,
		&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}:  Failure,
		&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EHOSTUNREACH)}:  Failure,
		&net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}:       Failure,
	} {
		if outcome, text := failed(t.Context(), err); outcome != want {
			t.Errorf("%v: %q %q", err, outcome, text)
		}
	}
}

// A connection's own timer may fire just before that of the probe.
func TestAnEarlyTimerTellsTheProbesTimeout(t *testing.T) {
	for _, err := range []error{os.ErrDeadlineExceeded, context.DeadlineExceeded} {
		outcome, text := within(20*time.Millisecond, func(ctx context.Context) (Outcome, string) {
			return failed(ctx, fmt.Errorf("dial: %w", err))
		})(t.Context())
		if outcome != Failure || text != "timed out after 20ms" {
			t.Errorf("%v: %q %q", err, outcome, text)
		}
	}
}

// A gRPC probe against servers that are none, and odd ones.
func TestGRPCOddServers(t *testing.T) {
	checkLeaks(t)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "secret") }))
	defer web.Close()
	h2 := func(handle http.HandlerFunc) string {
		s := httptest.NewUnstartedServer(handle)
		s.Config.Protocols = new(http.Protocols)
		s.Config.Protocols.SetUnencryptedHTTP2(true)
		s.Start()
		t.Cleanup(s.Close)
		return s.Listener.Addr().String()
	}
	reply := func(status string, body []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			asked, _ := io.ReadAll(r.Body)
			if r.Proto != "HTTP/2.0" || r.Header.Get("Content-Type") != "application/grpc" || r.Header.Get("Te") != "trailers" || !bytes.Equal(asked, []byte{0, 0, 0, 0, 3, 10, 1, 's'}) {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			w.Header().Set("Trailer", "Grpc-Status")
			_, _ = w.Write(body)
			if status != "" {
				w.Header().Set("Grpc-Status", status)
			}
		}
	}
	for name, c := range map[string]struct {
		address string
		outcome Outcome
		text    string
	}{
		"HTTP/1":           {web.Listener.Addr().String(), Failure, ""},
		"serving":          {h2(reply("0", frame([]byte{8, 1}))), Success, "SERVING"},
		"unknown fields":   {h2(reply("0", frame([]byte{26, 2, 8, 2, 17, 1, 2, 3, 4, 5, 6, 7, 8, 37, 1, 2, 3, 4, 8, 1}))), Success, "SERVING"},
		"default":          {h2(reply("0", frame(nil))), Failure, "UNKNOWN"},
		"service unknown":  {h2(reply("0", frame([]byte{8, 3}))), Failure, "SERVICE_UNKNOWN"},
		"new status":       {h2(reply("0", frame([]byte{8, 9}))), Failure, "serving status 9"},
		"compressed":       {h2(reply("0", append([]byte{1, 0, 0, 0, 2}, 8, 1))), Failure, errMessage.Error()},
		"empty":            {h2(reply("0", nil)), Failure, errMessage.Error()},
		"cut":              {h2(reply("0", frame([]byte{8}))), Failure, errMessage.Error()},
		"no status":        {h2(reply("", frame([]byte{8, 1}))), Failure, "no gRPC server: the answer has no status"},
		"denied":           {h2(reply("16", nil)), Failure, "gRPC status 16"},
		"not found":        {h2(http.NotFound), Failure, "no gRPC server: HTTP status 404 Not Found"},
		"a hanging socket": {raw(t, holds), Failure, "timed out after 1s"},
	} {
		t.Run(name, func(t *testing.T) {
			outcome, text := networkCheck(Probe{GRPC: &GRPC{Service: "s"}}, c.address)(t.Context())
			if outcome != c.outcome || c.text != "" && text != c.text || strings.Contains(text, "secret") {
				t.Errorf("%q %q, want %q %q", outcome, text, c.outcome, c.text)
			}
		})
	}
}

// Whatever a server sends, no more than its bounds is read of it, an error quotes
// nothing of it, and a result is a final status.
func FuzzReceive(f *testing.F) {
	for _, seed := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 302 Found\r\nLocation: /marker-marker\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
		"HTTP/1.1 101 Switching Protocols\r\n\r\n", "HTTP/1.0 204\n\n", "marker-marker", "",
	} {
		f.Add([]byte(seed), uint8(2))
	}
	f.Fuzz(func(t *testing.T, response []byte, times uint8) {
		whole := bytes.Repeat(response, int(times)+1)
		from := bytes.NewReader(whole)
		limited := &io.LimitedReader{R: from, N: maxHead}
		code, location, err := receive(bufio.NewReader(limited), limited)
		if read := len(whole) - from.Len(); read > 2*maxHead+maxBody {
			t.Errorf("%d bytes were read", read)
		}
		switch {
		case err != nil && (code != 0 || location != "" || strings.Contains(err.Error(), "marker")):
			t.Errorf("%d %q: %v", code, location, err)
		case err == nil && (code < 200 && code != http.StatusSwitchingProtocols || code > 999):
			t.Errorf("status %d is a result", code)
		}
	})
}

func FuzzServingStatus(f *testing.F) {
	f.Add(frame([]byte{8, 1}))
	f.Add(frame([]byte{26, 2, 8, 2, 8, 1}))
	f.Add(frame([]byte{26, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		serving, err := servingStatus(b)
		if err != nil && (serving != 0 || !errors.Is(err, errMessage)) {
			t.Errorf("%d with %v", serving, err)
		}
		again := frame(binary.AppendUvarint([]byte{8}, serving))
		if got, err := servingStatus(again); got != serving || err != nil {
			t.Errorf("%d read back as %d, %v", serving, got, err)
		}
	})
}

// execer answers like an engine, after a while where told to.
type execer struct {
	code   int
	output string
	err    error
	got    struct {
		container string
		cmd       []string
		limit     Limit
		deadline  time.Duration
	}
}

func (e *execer) Exec(ctx context.Context, container string, cmd []string, limit Limit) (int, []byte, error) {
	d, _ := ctx.Deadline()
	e.got.container, e.got.cmd, e.got.limit, e.got.deadline = container, cmd, limit, time.Until(d)
	return e.code, []byte(e.output), e.err
}

func TestExec(t *testing.T) {
	fault := func(k runtime.Kind, text string) error {
		return &runtime.Error{Kind: k, Op: "exec", Object: "shop-api-1", Err: errors.New(text)}
	}
	for name, c := range map[string]struct {
		e       execer
		outcome Outcome
		text    string
	}{
		"passes":             {execer{}, Success, "exit code 0"},
		"says something":     {execer{output: "fine\n\x1b[31mred\n"}, Success, "exit code 0: fine ?[31mred"},
		"fails":              {execer{code: 3, output: "no db\n"}, Failure, "exit code 3: no db"},
		"secret":             {execer{code: 1, output: "password=hunter2"}, Failure, "exit code 1: password=***"},
		"runs for too long":  {execer{err: fmt.Errorf("exec: %w", ErrTimeout), output: "half"}, Failure, "timed out after 2s: half"},
		"can never run":      {execer{err: fault(runtime.KindInvalid, "no such program")}, Failure, "exec shop-api-1: no such program"},
		"slow engine":        {execer{err: context.DeadlineExceeded}, Unknown, "context deadline exceeded"},
		"engine is away":     {execer{err: fault(runtime.KindUnavailable, "no answer")}, Unknown, "exec shop-api-1: no answer"},
		"container is gone":  {execer{err: fault(runtime.KindNotFound, "no such container")}, Unknown, "exec shop-api-1: no such container"},
		"container is still": {execer{err: fault(runtime.KindConflict, "is paused")}, Unknown, "exec shop-api-1: is paused"},
	} {
		t.Run(name, func(t *testing.T) {
			target := Target{Container: "c1", Redact: func(s string) string { return strings.ReplaceAll(s, "hunter2", "***") }}
			check := (&Checkers{Exec: &c.e}).Make(Liveness, &Probe{Exec: &Exec{Command: []string{"check", "it"}}, Timeout: 2 * time.Second}, target)
			outcome, text := check(t.Context())
			if outcome != c.outcome || text != c.text {
				t.Errorf("%q %q, want %q %q", outcome, text, c.outcome, c.text)
			}
			g := c.e.got
			if g.container != "c1" || strings.Join(g.cmd, " ") != "check it" || g.limit != (Limit{Time: 2 * time.Second, Output: 10 << 10}) {
				t.Errorf("ran %+v", g)
			}
			if g.deadline < 11*time.Second || g.deadline > 12*time.Second {
				t.Errorf("the whole call may take %v", g.deadline)
			}
		})
	}
}

// inspector reports one container.
type inspector struct {
	c   runtime.Container
	err error
}

func (i inspector) Inspect(context.Context, string) (runtime.Container, error) { return i.c, i.err }

func TestDocker(t *testing.T) {
	for name, c := range map[string]struct {
		role    Role
		i       inspector
		outcome Outcome
		text    string
	}{
		"healthy":              {Readiness, inspector{c: runtime.Container{Health: runtime.HealthHealthy, HealthOutput: "ok"}}, Success, "healthy: ok"},
		"unhealthy":            {Liveness, inspector{c: runtime.Container{Health: runtime.HealthUnhealthy, HealthOutput: "no\n"}}, Failure, "unhealthy: no"},
		"starting, not ready":  {Readiness, inspector{c: runtime.Container{Health: runtime.HealthStarting}}, Failure, "starting"},
		"starting, still live": {Liveness, inspector{c: runtime.Container{Health: runtime.HealthStarting}}, Unknown, "the engine's healthcheck is still starting"},
		"none":                 {Readiness, inspector{}, Unknown, "the container has no healthcheck"},
		"engine is away":       {Liveness, inspector{err: errors.New("no answer")}, Unknown, "no answer"},
	} {
		check := (&Checkers{Inspect: c.i}).Make(c.role, &Probe{Docker: &Docker{}}, Target{Container: "c1"})
		if outcome, text := check(t.Context()); outcome != c.outcome || text != c.text {
			t.Errorf("%s: %q %q, want %q %q", name, outcome, text, c.outcome, c.text)
		}
	}
}

// book is a container's output: one line each second from t0 on.
type book struct {
	lines []string
	reads atomic.Int64 // lines handed out
	err   error
}

func (b *book) ReadLines(_ context.Context, _ string, since time.Time, line func(time.Time, []byte) bool) error {
	for i, text := range b.lines {
		if at := sec(float64(i)); !at.Before(since) {
			b.reads.Add(1)
			if !line(at, []byte(text)) {
				return nil
			}
		}
	}
	return b.err
}

func TestLog(t *testing.T) {
	b := &book{lines: []string{"of an earlier run: ready", "starting"}}
	check := (&Checkers{Logs: b}).Make(Startup, &Probe{Log: &Log{Pattern: "^(ready|up) "}}, Target{Started: sec(1)})
	expect := func(outcome Outcome, text string) {
		t.Helper()
		if o, s := check(t.Context()); o != outcome || s != text {
			t.Errorf("%q %q, want %q %q", o, s, outcome, text)
		}
	}
	expect(Failure, "none of 1 lines matches")
	b.lines = append(b.lines, "already up to date", "working")
	expect(Failure, "none of 4 lines matches") // the last line is read again
	b.err = errors.New("no answer")
	expect(Unknown, "no answer")
	b.lines = append(b.lines, "ready at last", strings.Repeat("x", longestLine)+"ready ")
	expect(Success, "line 7 matches")
	if n := b.reads.Load(); n > 8 {
		t.Errorf("%d lines read", n)
	}
	long := &book{lines: []string{strings.Repeat("x", longestLine) + "ready"}}
	check = (&Checkers{Logs: long}).Make(Startup, &Probe{Log: &Log{Pattern: "ready"}}, Target{Started: t0})
	expect(Failure, "none of 1 lines matches")
}

func TestCleanIsOneShortPrintableLine(t *testing.T) {
	for in, want := range map[string]string{
		"":                     "",
		"  a\r\n\tb  ":         "a b",
		"a\x00b\x1b[2J\u202ec": "a?b?[2J?c",
		"\xff\xfe":             "??",
		"grüße ✓":              "grüße ✓",
	} {
		if got := clean(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
	long := clean(strings.Repeat("✓", 1000))
	if len(long) > maxOutput || !strings.HasSuffix(long, "✓…") {
		t.Errorf("%d bytes ending in %q", len(long), long[len(long)-6:])
	}
}

func TestFailuresDoNotNameTheirSource(t *testing.T) {
	target := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80}
	err := &net.OpError{Op: "dial", Net: "tcp", Source: &net.TCPAddr{}, Addr: target, Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	if _, text := failed(t.Context(), err); text != "dial tcp 127.0.0.1:80: connect: connection refused" {
		t.Errorf("%q", text)
	}
}
