package docker

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-dev/berth/runtime"
)

func inspected(id, state string, labels map[string]string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, map[string]any{
			"Id": id, "Name": "/web", "State": map[string]any{"Status": state}, "Config": map[string]any{"Labels": labels},
			"HostConfig": map[string]any{},
		})
	}
}

// A creation whose answer was lost is looked for by name before it is reported.
func TestCreateWithUnknownOutcome(t *testing.T) {
	ours := map[string]string{"io.berth.stack": "shop", "a": "b"}
	for name, lost := range map[string]http.HandlerFunc{
		"connection broken": breaks,
		"internal error":    fails(http.StatusInternalServerError, "something broke"),
		"bad gateway":       fails(http.StatusBadGateway, "bad gateway"),
		"no answer":         hangs,
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, "1.41", map[string]http.HandlerFunc{"POST /containers/create": lost, "GET /containers/web/json": inspected("c1", "created", ours)})
			e := s.open(t, Timeouts{Change: 200 * time.Millisecond, Query: 5 * time.Second})
			id, err := e.Create(t.Context(), "web", ours, &runtime.Spec{Image: "a"}, nil)
			if err != nil || id != "c1" {
				t.Errorf("%q, %v", id, err)
			}
		})
		for foreign, h := range map[string]http.HandlerFunc{
			"foreign labels": inspected("c1", "created", map[string]string{"io.berth.stack": "other"}),
			"running":        inspected("c1", "running", ours),
			"none":           fails(http.StatusNotFound, "No such container: web"),
		} {
			t.Run(name+"/"+foreign, func(t *testing.T) {
				s := serve(t, "1.41", map[string]http.HandlerFunc{"POST /containers/create": lost, "GET /containers/web/json": h})
				e := s.open(t, Timeouts{Change: 200 * time.Millisecond, Query: 5 * time.Second})
				id, err := e.Create(t.Context(), "web", ours, &runtime.Spec{Image: "a"}, nil)
				if id != "" {
					t.Errorf("took %q", id)
				}
				wantKind(t, err, runtime.KindUnavailable, "create web: ")
			})
		}
	}
	// What the engine refuses is not looked for.
	s := serve(t, "1.41", map[string]http.HandlerFunc{"POST /containers/create": fails(http.StatusConflict, "Conflict. The container name is in use")})
	_, err := s.open(t, Timeouts{}).Create(t.Context(), "web", ours, &runtime.Spec{Image: "a"}, nil)
	wantKind(t, err, runtime.KindConflict)
	if got := s.log(); !slices.Equal(got, []string{"GET /info", "POST /containers/create"}) {
		t.Errorf("calls %v", got)
	}
}

// The ordinary case costs one call each. Only a removal with its volumes asks
// first which they are.
func TestCallsOfTheHotPath(t *testing.T) {
	created := func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusCreated, map[string]any{"Id": "c1"})
	}
	done := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }
	s := serve(t, "1.51", map[string]http.HandlerFunc{
		"POST /containers/create": created, "POST /containers/c1/start": done, "POST /containers/c1/stop": done, "DELETE /containers/c1": done,
		"GET /containers/json": func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, []any{}) },
	})
	e := s.open(t, Timeouts{})
	ctx := t.Context()
	spec := &runtime.Spec{Image: "a", Networks: []runtime.Attachment{{Network: "x"}, {Network: "y"}}}
	for range 2 {
		id, err := e.Create(ctx, "web", nil, spec, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, listErr := e.List(ctx, runtime.Filter{Labels: map[string]string{"a": ""}})
		if err := errors.Join(e.Start(ctx, id), e.Stop(ctx, id, "INT", time.Second), e.Remove(ctx, id, false, false), listErr); err != nil {
			t.Fatal(err)
		}
	}
	round := []string{"POST /containers/create", "GET /containers/json", "POST /containers/c1/start", "POST /containers/c1/stop", "DELETE /containers/c1"}
	if got, want := s.log(), append(append([]string{"GET /info"}, round...), round...); !slices.Equal(got, want) {
		t.Errorf("calls %v, want %v", got, want)
	}
}

// A removal that is under way, or fails for the moment, is waited for.
func TestRemoveWaits(t *testing.T) {
	gone := fails(http.StatusNotFound, "No such container: c1")
	done := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }
	progress := fails(http.StatusConflict, "removal of container c1 is already in progress")
	busy := fails(http.StatusInternalServerError, `driver "overlay2" failed to remove root filesystem: unlinkat /var/lib/x: device or resource busy`)
	for name, c := range map[string]struct{ remove, inspect http.HandlerFunc }{
		"in progress": {progress, inTurn(inspected("c1", "removing", nil), gone)},
		"busy":        {inTurn(busy, busy, done), inspected("c1", "dead", nil)},
		"broken off":  {inTurn(fails(http.StatusInternalServerError, "boom"), gone), inspected("c1", "dead", nil)},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, "1.41", map[string]http.HandlerFunc{"DELETE /containers/c1": c.remove, "GET /containers/c1/json": c.inspect})
			if err := s.open(t, Timeouts{}).Remove(t.Context(), "c1", true, false); err != nil {
				t.Error(err)
			}
		})
	}
	s := serve(t, "1.41", map[string]http.HandlerFunc{"DELETE /containers/c1": busy, "GET /containers/c1/json": inspected("c1", "dead", nil)})
	err := s.open(t, Timeouts{Gone: 300 * time.Millisecond}).Remove(t.Context(), "c1", true, false)
	wantKind(t, err, runtime.KindUnavailable, "remove c1: still there after 300ms", "device or resource busy")

	s = serve(t, "1.41", map[string]http.HandlerFunc{"DELETE /containers/c1": fails(http.StatusConflict, "You cannot remove a running container c1. Stop the container before attempting removal or force remove")})
	wantKind(t, s.open(t, Timeouts{}).Remove(t.Context(), "c1", true, false), runtime.KindConflict)
}

// Endpoints of stopped containers of the same stack are let go of; nobody else's.
func TestRemoveNetworkLetsGo(t *testing.T) {
	mine := map[string]string{runtime.LabelOwner: "me", runtime.LabelStack: "shop"}
	held := fails(http.StatusForbidden, "error while removing network: network shop_default id n1 has active endpoints")
	done := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }
	inspect := func(labels map[string]string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			reply(w, http.StatusOK, map[string]any{"Id": "n1", "Name": "shop_default", "Labels": labels, "Containers": map[string]any{"c1": map[string]string{"Name": "web"}}})
		}
	}
	for name, c := range map[string]struct {
		container  http.HandlerFunc
		disconnect bool
		kind       runtime.Kind
	}{
		"stopped, ours":    {inspected("c1", "exited", mine), true, ""},
		"gone":             {fails(http.StatusNotFound, "No such container: c1"), true, ""},
		"running, ours":    {inspected("c1", "running", mine), false, runtime.KindConflict},
		"stopped, foreign": {inspected("c1", "exited", map[string]string{runtime.LabelOwner: "you", runtime.LabelStack: "shop"}), false, runtime.KindConflict},
	} {
		t.Run(name, func(t *testing.T) {
			remove := held
			if c.kind == "" {
				remove = inTurn(held, done)
			}
			s := serve(t, "1.41", map[string]http.HandlerFunc{
				"DELETE /networks/n1": remove, "GET /networks/n1": inspect(mine), "GET /containers/c1/json": c.container,
				"POST /networks/n1/disconnect": done,
			})
			err := s.open(t, Timeouts{Gone: 200 * time.Millisecond}).RemoveNetwork(t.Context(), "n1")
			if c.kind == "" && err != nil {
				t.Error(err)
			} else if c.kind != "" {
				wantKind(t, err, c.kind, "web")
			}
			if got := slices.Contains(s.log(), "POST /networks/n1/disconnect"); got != c.disconnect {
				t.Errorf("disconnected: %t", got)
			}
		})
	}
}

// A call that hangs ends by itself, and says which engine gave no answer.
func TestHangingEngine(t *testing.T) {
	s := serve(t, "1.41", map[string]http.HandlerFunc{
		"GET /containers/c1/json": hangs, "POST /containers/c1/stop": hangs, "POST /containers/c1/start": hangs,
		"GET /containers/c2/json": inspected("c2", "running", nil), "GET /containers/c2/logs": hangs, "GET /containers/c2/stats": hangs,
	})
	e := s.open(t, Timeouts{Query: 50 * time.Millisecond, Change: 50 * time.Millisecond, Margin: 50 * time.Millisecond})
	_, err := e.Inspect(t.Context(), "c1")
	wantKind(t, err, runtime.KindUnavailable, "inspect c1: no answer from the engine at tcp://127.0.0.1")
	if !errors.Is(err, context.DeadlineExceeded) || !runtime.IsUnavailable(err) {
		t.Errorf("%v", err)
	}
	wantKind(t, e.Stop(t.Context(), "c1", "", 0), runtime.KindUnavailable)
	err = e.Logs(t.Context(), "c2", runtime.LogOptions{Follow: true, Stdout: true}, nil, nil)
	wantKind(t, err, runtime.KindUnavailable, "no answer from the engine")
	err = e.Stats(t.Context(), "c2", true, func(runtime.Stats) bool { return true })
	wantKind(t, err, runtime.KindUnavailable, "no answer from the engine")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := e.Start(ctx, "c1"); !errors.Is(err, context.Canceled) || runtime.IsUnavailable(err) {
		t.Errorf("%v", err)
	}
}

func TestStopDeadlineCoversGrace(t *testing.T) {
	var query string
	s := serve(t, "1.51", map[string]http.HandlerFunc{"POST /containers/c1/stop": func(w http.ResponseWriter, r *http.Request) {
		query = r.URL.RawQuery
		time.Sleep(100 * time.Millisecond)
		w.WriteHeader(http.StatusNoContent)
	}})
	e := s.open(t, Timeouts{Change: time.Millisecond, Margin: time.Millisecond})
	if err := e.Stop(t.Context(), "c1", "QUIT", 1200*time.Millisecond); err != nil {
		t.Error(err)
	}
	if query != "signal=QUIT&t=2" {
		t.Errorf("asked for %s", query)
	}
}

// Another engine may answer at the endpoint later; its API version is spoken then.
func TestAnotherEngine(t *testing.T) {
	s := serve(t, "1.51", map[string]http.HandlerFunc{})
	e := s.open(t, Timeouts{})
	if got := e.api().version; got != "1.51" {
		t.Fatalf("version %s", got)
	}
	addr := s.Listener.Addr().String()
	s.CloseClientConnections()
	s.Close()
	wantKind(t, e.Ping(t.Context()), runtime.KindUnavailable, addr)
	e.endpoint.dialHost = "tcp://" + serve(t, "1.43", nil).Listener.Addr().String()
	if err := e.connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := e.api().version; got != "1.43" {
		t.Errorf("version %s", got)
	}
}

func TestTooOldEngine(t *testing.T) {
	s := serve(t, "1.39", nil)
	_, err := Open(t.Context(), Options{Host: "tcp://" + s.Listener.Addr().String(), Environ: noEnv})
	wantKind(t, err, runtime.KindInvalid, "the engine speaks API 1.39; Berth needs 1.40 (Docker Engine 19.03) or newer")
}

func TestNegotiate(t *testing.T) {
	for _, c := range []struct{ theirs, pinned, want, err string }{
		{"1.41", "", "1.41", ""},
		{"1.99", "", "1.51", ""},
		{"1.47", "1.44", "1.44", ""},
		{"", "", "", "speaks API 1.24"},
		{"1.41", "1.44", "", "DOCKER_API_VERSION=1.44 is newer than 1.41"},
		{"1.41", "1.24", "", "DOCKER_API_VERSION=1.24 is older than 1.40"},
	} {
		got, err := negotiate(c.theirs, c.pinned)
		if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%+v: %q, %v", c, got, err)
		}
	}
}

func TestPull(t *testing.T) {
	body := func(lines ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for _, l := range lines {
				_, _ = w.Write([]byte(l + "\n"))
			}
		}
	}
	for name, c := range map[string]struct {
		h    http.HandlerFunc
		kind runtime.Kind
		text string
	}{
		"done":         {body(`{"status":"Downloading","id":"l1","progressDetail":{"current":1,"total":2}}`, `{"status":"Done"}`), "", ""},
		"unknown tag":  {body(`{"errorDetail":{"message":"manifest unknown: x"},"error":"manifest unknown: x"}`), runtime.KindNotFound, "pull shop/web:1: manifest unknown"},
		"denied":       {fails(http.StatusNotFound, "pull access denied for shop/web, repository does not exist or may require 'docker login'"), runtime.KindNotFound, "docker login"},
		"no network":   {fails(http.StatusInternalServerError, `Get "https://registry-1.docker.io/v2/": dial tcp: lookup registry-1.docker.io: no such host`), runtime.KindUnavailable, "registry-1.docker.io"},
		"unauthorized": {fails(http.StatusInternalServerError, `unauthorized: authentication required`), runtime.KindInvalid, "authentication"},
		"broken off": {func(w http.ResponseWriter, r *http.Request) {
			body(`{"status":"Downloading"}`)(w, r)
			_ = http.NewResponseController(w).Flush()
			breaks(w, r)
		}, runtime.KindUnavailable, "pull shop/web:1"},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, "1.41", map[string]http.HandlerFunc{"POST /images/create": c.h})
			var seen []runtime.Progress
			err := s.open(t, Timeouts{}).Pull(t.Context(), "shop/web:1", runtime.PullOptions{Progress: func(p runtime.Progress) { seen = append(seen, p) }})
			if c.kind == "" {
				if want := []runtime.Progress{{ID: "l1", Status: "Downloading", Current: 1, Total: 2}, {Status: "Done"}}; err != nil || !slices.Equal(seen, want) {
					t.Errorf("%v, %v", seen, err)
				}
				return
			}
			wantKind(t, err, c.kind, c.text)
		})
	}
}
