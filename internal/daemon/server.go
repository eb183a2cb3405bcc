package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/runtime"
)

// Limits of the API, so that no client can take the daemon's memory or places.
const (
	maxBody       = 64 << 20 // bytes of a request
	maxRequests   = 128      // answered at a time, streams included
	headerTimeout = 5 * time.Second
	bodyTimeout   = time.Minute
)

// serve answers the API until ctx ends.
func (d *Daemon) serve(ctx context.Context, listener net.Listener) error {
	srv := &http.Server{
		Handler:           d.limited(d.routes()),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       bodyTimeout,
		IdleTimeout:       bodyTimeout,
		MaxHeaderBytes:    16 << 10,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnContext:       withPeer,
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(listener) }()
	select {
	case err := <-done:
		return fmt.Errorf("serve the API: %w", err)
	case <-ctx.Done():
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := srv.Shutdown(closing); err != nil {
		_ = srv.Close() // streams that do not end by themselves
	}
	if err := <-done; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// limited refuses foreign users and more requests than the daemon answers at a
// time.
func (d *Daemon) limited(next http.Handler) http.Handler {
	places := make(chan struct{}, maxRequests)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if uid, known := peer(r.Context()); known && uid != os.Getuid() && uid != 0 {
			fail(w, invalid("use", "the daemon", "it belongs to another user"), http.StatusForbidden)
			return
		}
		select {
		case places <- struct{}{}:
			defer func() { <-places }()
		default:
			fail(w, &runtime.Error{Kind: runtime.KindUnavailable, Op: "answer", Object: r.URL.Path, Err: errors.New("too many requests at a time; try again")}, http.StatusTooManyRequests)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		next.ServeHTTP(w, r)
	})
}

func (d *Daemon) routes() http.Handler {
	mux := http.NewServeMux()
	const stack = "/" + api.Version + "/stacks/{stack}"
	mux.HandleFunc("GET /"+api.Version+"/info", d.handleInfo)
	mux.HandleFunc("GET /"+api.Version+"/stacks", d.handleStacks)
	mux.HandleFunc("GET "+stack, answer(func(r *http.Request, _ *struct{}) (any, error) {
		return d.status(r.Context(), r.PathValue("stack"), r.URL.Query().Get("look") != "no")
	}))
	mux.HandleFunc("PUT "+stack, answer(func(r *http.Request, req *api.UpRequest) (any, error) {
		if err := sameName(r, req); err != nil {
			return nil, err
		}
		return d.up(r.Context(), req)
	}))
	mux.HandleFunc("POST "+stack+"/plan", answer(func(r *http.Request, req *api.UpRequest) (any, error) {
		if err := sameName(r, req); err != nil {
			return nil, err
		}
		return d.plan(r.Context(), req)
	}))
	mux.HandleFunc("POST "+stack+"/down", answer(func(r *http.Request, req *api.DownRequest) (any, error) {
		return d.takeDown(r.Context(), r.PathValue("stack"), req)
	}))
	mux.HandleFunc("POST "+stack+"/actions", answer(func(r *http.Request, req *api.ActionRequest) (any, error) {
		return d.act(r.Context(), r.PathValue("stack"), req)
	}))
	mux.HandleFunc("POST "+stack+"/oneoffs", answer(func(r *http.Request, req *api.OneOffRequest) (any, error) {
		if err := sameName(r, &req.Up); err != nil {
			return nil, err
		}
		return d.createOneOff(r.Context(), req)
	}))
	mux.HandleFunc("POST "+stack+"/oneoffs/{name}/start", answer(func(r *http.Request, _ *struct{}) (any, error) {
		return struct{}{}, d.startOneOff(r.Context(), r.PathValue("stack"), r.PathValue("name"))
	}))
	mux.HandleFunc("POST "+stack+"/oneoffs/{name}/remove", answer(func(r *http.Request, req *api.RemoveOneOffRequest) (any, error) {
		return struct{}{}, d.removeOneOff(r.Context(), r.PathValue("stack"), r.PathValue("name"), req.Timeout)
	}))
	mux.HandleFunc("GET "+stack+"/follow", d.handleFollow)
	d.rolloutRoutes(mux, stack)
	d.scalingRoutes(mux, stack)
	d.nodeRoutes(mux)
	return mux
}

// sameName refuses a stack that is not the one the path names.
func sameName(r *http.Request, req *api.UpRequest) error {
	if req.Stack == nil || req.Stack.Name != r.PathValue("stack") {
		return invalid("declare", r.PathValue("stack"), "the request declares another stack")
	}
	return nil
}

// answer decodes a request, calls fn and encodes what it returns.
func answer[T any](fn func(*http.Request, *T) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var req T
		if r.Method != http.MethodGet && r.ContentLength != 0 {
			if err := decode(r, &req); err != nil {
				fail(w, err, statusOf(err))
				return
			}
		}
		res, err := fn(r, &req)
		if err != nil {
			fail(w, err, statusOf(err))
			return
		}
		write(w, http.StatusOK, res)
	}
}

// decode reads one JSON value. Fields this version does not know are passed
// over, so that client and daemon may differ by a version.
func decode(r *http.Request, into any) error {
	if err := json.NewDecoder(r.Body).Decode(into); err != nil {
		return invalid("read", "the request", err.Error())
	}
	return nil
}

func statusOf(err error) int {
	switch runtime.KindOf(err) {
	case runtime.KindNotFound:
		return http.StatusNotFound
	case runtime.KindConflict:
		return http.StatusConflict
	case runtime.KindInvalid:
		return http.StatusBadRequest
	default:
		return http.StatusServiceUnavailable
	}
}

func fail(w http.ResponseWriter, err error, status int) {
	write(w, status, api.Error{Message: err.Error(), Kind: runtime.KindOf(err)})
}

func write(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // a client that is gone needs no answer
}

func (d *Daemon) handleInfo(w http.ResponseWriter, r *http.Request) {
	info := api.DaemonInfo{
		Version: d.cfg.Version, Build: d.cfg.Build, Background: d.cfg.Background, PID: os.Getpid(), Started: d.started, Owner: d.owner, StateDir: d.cfg.Dirs.State,
	}
	if r.URL.Query().Get("engine") != "" {
		engine, err := d.cfg.Engine.Info(r.Context())
		info.Engine = engine
		if err != nil {
			info.EngineError = err.Error()
		}
	}
	if err := d.health.away(); err != nil {
		info.EngineError = err.Error()
	}
	write(w, http.StatusOK, info)
}

func (d *Daemon) handleStacks(w http.ResponseWriter, r *http.Request) {
	d.findLost(r.Context())
	write(w, http.StatusOK, d.stacks())
}

// handleFollow streams a stack's events as lines of JSON.
func (d *Daemon) handleFollow(w http.ResponseWriter, r *http.Request) {
	l, err := d.followed(r.Context(), r.PathValue("stack"))
	if err != nil {
		fail(w, err, statusOf(err))
		return
	}
	turn, err := strconv.ParseUint(r.URL.Query().Get("turn"), 10, 64)
	if err != nil && r.URL.Query().Get("turn") != "" {
		fail(w, invalid("follow", l.name, "turn is not a number"), http.StatusBadRequest)
		return
	}
	until := r.URL.Query().Get("until")
	if until != "" && until != "settled" && until != "ready" {
		fail(w, invalid("follow", l.name, "until is settled, ready or nothing"), http.StatusBadRequest)
		return
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // a stream lasts as long as it lasts
	w.Header().Set("Content-Type", "application/x-ndjson")
	d.follow(r.Context(), w, l, turn, until)
}

func (d *Daemon) follow(ctx context.Context, w http.ResponseWriter, l *loop, turn uint64, until string) {
	enc := json.NewEncoder(w)
	flush := http.NewResponseController(w)
	turn = l.knownTurn(turn)
	at, about := l.feed.position(turn), l.feed.about(turn)
	for {
		events, next, o, more := l.feed.since(at)
		at = next
		for i := range events {
			if enc.Encode(&events[i]) != nil {
				return
			}
		}
		if done, failed := o.reached(turn, until, about); done {
			_ = enc.Encode(api.Event{Time: time.Now(), Type: api.EventSettled, Stack: l.name, Failed: failed, Gone: o.gone, Orphans: o.orphans})
			return
		}
		if flush.Flush() != nil {
			return
		}
		select {
		case <-more:
		case <-ctx.Done():
			return
		}
	}
}
