package docker

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// stub is an HTTP server that answers as a test's engine does, for what a real
// one cannot be made to do: hang, break the connection, lose an answer.
type stub struct {
	*httptest.Server

	mu    sync.Mutex // protects calls
	calls []string   // "METHOD /path" without the version
}

func (s *stub) log() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.calls...)
}

// serve starts a stub. handlers are by "METHOD /path" without the version.
func serve(t *testing.T, api string, handlers map[string]http.HandlerFunc) *stub {
	t.Helper()
	s := &stub{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", api)
		w.Header().Set("Content-Type", "application/json")
		path := r.URL.Path
		if rest, ok := strings.CutPrefix(path, "/v1."); ok {
			_, path, _ = strings.Cut(rest, "/")
			path = "/" + path
		}
		call := r.Method + " " + path
		if path == "/_ping" {
			return
		}
		s.mu.Lock()
		s.calls = append(s.calls, call)
		s.mu.Unlock()
		if h := handlers[call]; h != nil {
			h(w, r)
			return
		}
		if call == "GET /info" {
			reply(w, http.StatusOK, map[string]any{"NCPU": 2, "CgroupVersion": "1", "CgroupDriver": "cgroupfs", "SystemTime": time.Now().Format(time.RFC3339Nano)})
			return
		}
		reply(w, http.StatusNotFound, map[string]string{"message": "no such thing: " + call})
	}))
	t.Cleanup(s.Close)
	t.Cleanup(s.CloseClientConnections) // before Close, which waits for them
	return s
}

func (s *stub) open(t *testing.T, timeouts Timeouts) *Engine {
	t.Helper()
	e, err := Open(t.Context(), Options{Host: "tcp://" + s.Listener.Addr().String(), Environ: noEnv, Timeouts: timeouts})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func noEnv(string) string { return "" }

func reply(w http.ResponseWriter, status int, v any) {
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client may be gone
}

func fails(status int, message string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { reply(w, status, map[string]string{"message": message}) }
}

// breaks closes the connection without an answer.
func breaks(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		_ = conn.Close()
	}
}

// hangs gives no answer until the client goes.
func hangs(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body) // only then is the client's going noticed
	<-r.Context().Done()
}

// inTurn answers each call by the next handler, and the last one from then on.
func inTurn(handlers ...http.HandlerFunc) http.HandlerFunc {
	var mu sync.Mutex
	return func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		h := handlers[0]
		if len(handlers) > 1 {
			handlers = handlers[1:]
		}
		mu.Unlock()
		h(w, r)
	}
}
