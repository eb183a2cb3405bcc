package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/client"
	"github.com/berth-dev/berth/internal/dirs"
	"github.com/berth-dev/berth/internal/reconcile"
	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/runtime/fake"
)

// served is a daemon on a socket of its own, in real time.
func served(t *testing.T) (*client.Client, *Daemon, *fake.Engine) {
	t.Helper()
	base, err := os.MkdirTemp("", "bd") // short, since a socket's path is
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(base) })
	folder := dirs.Dirs{State: filepath.Join(base, "s"), Runtime: filepath.Join(base, "r", "k")}
	engine := fake.New(fake.Options{})
	engine.AddImage("app", fake.Image{})
	l, release, err := Listen(folder)
	if err != nil {
		t.Fatal(err)
	}
	d, err := New(Config{Engine: engine, Dirs: folder, Version: "test", Log: zerolog.Nop(), Parallel: 2})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the daemon ended with %v", err)
		}
		if err := errors.Join(release(), engine.Close()); err != nil {
			t.Error(err)
		}
	})
	c := client.New(folder.Socket())
	if _, err := c.Info(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c, d, engine
}

// follow waits for an end as a command does, and returns the steps seen.
func follow(t *testing.T, c *client.Client, acc api.Accepted, until string) (steps []string, end api.Event) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := c.Follow(ctx, acc.Stack, client.FollowOptions{Turn: acc.Turn, Until: until}, func(e api.Event) error {
		if e.Type == api.EventStep && e.Phase == "done" {
			steps = append(steps, fmt.Sprintf("%s %s", e.Step.Op, e.Step.Name))
		}
		if e.Type == api.EventSettled {
			end = e
		}
		return nil
	})
	if err != nil {
		t.Fatalf("follow: %v", err)
	}
	return steps, end
}

// A stack's life through client, socket and server.
func TestClientAndServer(t *testing.T) {
	c, d, engine := served(t)
	info, err := c.Info(t.Context())
	if err != nil || info.Version != "test" || info.PID != os.Getpid() || info.Owner != d.owner {
		t.Errorf("info %+v, %v", info, err)
	}
	req := &api.UpRequest{Stack: shop(svc("web", 2), svc("db", 1, mounts("shop_data")))}
	plan, err := c.Plan(t.Context(), req)
	if err != nil || len(plan.Steps) != 8 || len(engine.Calls()) != 0 {
		t.Fatalf("plan: %v, %v; calls %v", plan, err, engine.Calls())
	}
	acc, err := c.Up(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	steps, end := follow(t, c, acc, "ready")
	if len(steps) != 8 || len(end.Failed) > 0 {
		t.Errorf("steps %v, end %+v", steps, end)
	}
	if again, _ := follow(t, c, acc, "ready"); len(again) != 8 {
		t.Errorf("a late follower is told of %v", again)
	}
	if plan, err := c.Plan(t.Context(), req); err != nil || !plan.Empty() {
		t.Errorf("the plan after up is %v, %v", plan, err)
	}
	st, err := c.Status(t.Context(), "shop")
	if err != nil || len(st.Replicas) != 3 || !st.Replicas[0].Ready {
		t.Errorf("status %+v, %v", st, err)
	}
	if list, err := c.Stacks(t.Context()); err != nil || len(list) != 1 || list[0].Status != "running(3)" {
		t.Errorf("stacks %+v, %v", list, err)
	}
	acc, err = c.Act(t.Context(), "shop", api.ActionRequest{Op: "stop", Services: []string{"web"}})
	if err != nil {
		t.Fatal(err)
	}
	if steps, _ := follow(t, c, acc, "settled"); len(steps) != 2 {
		t.Errorf("stop took %v", steps)
	}
	acc, err = c.Down(t.Context(), "shop", api.DownRequest{Down: reconcile.Down{Volumes: true}})
	if err != nil {
		t.Fatal(err)
	}
	if _, end := follow(t, c, acc, "settled"); !end.Gone {
		t.Errorf("down ended with %+v", end)
	}
	if _, end := follow(t, c, acc, "settled"); !end.Gone {
		t.Errorf("who follows after the end is told %+v", end)
	}
	if left := engine.Leftovers(nil); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// Every refusal has its kind and names its object.
func TestRefusals(t *testing.T) {
	c, _, engine := served(t)
	_, err := c.Down(t.Context(), "nope", api.DownRequest{})
	if !runtime.IsNotFound(err) || !strings.Contains(err.Error(), "nope") {
		t.Errorf("down of an unknown stack: %v", err)
	}
	_, err = c.Act(t.Context(), "nope", api.ActionRequest{Op: "stop"})
	if !runtime.IsNotFound(err) {
		t.Errorf("stop of an unknown stack: %v", err)
	}
	if _, err := c.Status(t.Context(), "nope"); !runtime.IsNotFound(err) {
		t.Errorf("status of an unknown stack: %v", err)
	}
	err = c.Follow(t.Context(), "nope", client.FollowOptions{Until: "settled"}, func(api.Event) error { return nil })
	if !runtime.IsNotFound(err) {
		t.Errorf("follow an unknown stack: %v", err)
	}
	_, err = c.Up(t.Context(), &api.UpRequest{Stack: shop(svc("web", 1)), Services: []string{"nope"}})
	if !runtime.IsNotFound(err) || !strings.Contains(err.Error(), "nope") {
		t.Errorf("up of an unknown service: %v", err)
	}
	acc, err := c.Up(t.Context(), &api.UpRequest{Stack: shop(svc("web", 1))})
	if err != nil {
		t.Fatal(err)
	}
	follow(t, c, acc, "settled")
	calls := len(engine.Calls())
	for _, req := range []api.ActionRequest{
		{Op: "explode"}, {Op: "stop", Services: []string{"nope"}}, {Op: "scale", Services: []string{"web"}, Scale: map[string]int{"web": -1}},
		{Op: "scale", Scale: map[string]int{"nope": 1}},
	} {
		if _, err := c.Act(t.Context(), "shop", req); err == nil || runtime.IsUnavailable(err) {
			t.Errorf("%+v: %v", req, err)
		}
	}
	if _, err := c.Down(t.Context(), "shop", api.DownRequest{Down: reconcile.Down{Services: []string{"nope"}}}); !runtime.IsNotFound(err) {
		t.Errorf("down of an unknown service: %v", err)
	}
	if n := len(engine.Calls()); n != calls {
		t.Errorf("refused requests made %d calls", n-calls)
	}
}

// A run: its container is made, started once its client asks, and removed.
func TestOneOffs(t *testing.T) {
	c, _, engine := served(t)
	st := shop(svc("app", 1, after("db", stack.Started)), svc("db", 1))
	one := reconcile.OneOff{Service: "app", Spec: st.Service("app").Spec}
	created, err := c.CreateOneOff(t.Context(), "shop", &api.OneOffRequest{Up: api.UpRequest{Stack: st}, OneOff: one})
	if err != nil {
		t.Fatal(err)
	}
	have, err := engine.Inspect(t.Context(), created.Container)
	if err != nil || have.Name != created.Name || have.State != runtime.Created {
		t.Fatalf("created %+v, which is %+v, %v", created, have, err)
	}
	if err := c.StartOneOff(t.Context(), "shop", created.Name); err != nil {
		t.Fatal(err)
	}
	if have, err := engine.Inspect(t.Context(), created.Name); err != nil || have.State != runtime.Running {
		t.Errorf("started it is %s, %v", have.State, err)
	}
	if db, err := engine.Inspect(t.Context(), "shop-db-1"); err != nil || db.State != runtime.Running {
		t.Errorf("what it depends on is %s, %v", db.State, err)
	}
	if _, err := engine.Inspect(t.Context(), "shop-app-1"); !runtime.IsNotFound(err) {
		t.Errorf("a run has brought up its service: %v", err)
	}
	now := time.Duration(0)
	if err := c.RemoveOneOff(t.Context(), "shop", created.Name, &now); err != nil {
		t.Fatal(err)
	}
	if _, err := engine.Inspect(t.Context(), created.Name); !runtime.IsNotFound(err) {
		t.Errorf("removed it is still there: %v", err)
	}
	if err := c.RemoveOneOff(t.Context(), "shop", created.Name, nil); !runtime.IsNotFound(err) {
		t.Errorf("removed twice: %v", err)
	}
}

// Fault 41: socket and folder are the owner's alone, and a second daemon is refused.
func TestSocketIsPrivate(t *testing.T) {
	_, d, _ := served(t)
	for _, path := range []string{d.cfg.Dirs.Socket(), d.cfg.Dirs.Runtime, d.cfg.Dirs.State} {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v, %v", path, info.Mode(), err)
		}
	}
	if _, _, err := Listen(d.cfg.Dirs); !errors.Is(err, ErrRunning) {
		t.Errorf("a second daemon: %v, want ErrRunning", err)
	}
}

// Fault 41: a connection of another user is refused.
func TestOtherUsersAreRefused(t *testing.T) {
	_, d, _ := served(t)
	h := d.limited(d.routes())
	for uid, want := range map[int]int{os.Getuid(): http.StatusOK, os.Getuid() + 1234: http.StatusForbidden, -1: http.StatusForbidden} {
		req := httptest.NewRequest(http.MethodGet, "/v1/info", nil)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req.WithContext(context.WithValue(req.Context(), peerKey{}, uid)))
		if w.Code != want {
			t.Errorf("user %d gets %d, want %d: %s", uid, w.Code, want, w.Body)
		}
	}
}

// Fault 50: a flood of connections, half of which never say anything, does not
// keep the daemon from answering.
func TestFlood(t *testing.T) {
	c, d, _ := served(t)
	var silent []net.Conn
	defer func() {
		for _, conn := range silent {
			_ = conn.Close()
		}
	}()
	for range 300 {
		conn, err := net.Dial("unix", d.cfg.Dirs.Socket())
		if err != nil {
			break // refused is fine
		}
		silent = append(silent, conn)
	}
	var flood sync.WaitGroup
	for range 50 {
		flood.Go(func() {
			for range 20 {
				_, _ = c.Stacks(t.Context())
			}
		})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := client.New(d.cfg.Dirs.Socket()).Info(ctx); err != nil {
		t.Errorf("during a flood: %v", err)
	}
	flood.Wait()
	if _, err := c.Info(ctx); err != nil {
		t.Errorf("after a flood: %v", err)
	}
}

// A body beyond the limit and one that is no JSON are refused on one line.
func TestBadBodies(t *testing.T) {
	_, d, engine := served(t)
	h := d.limited(d.routes())
	for name, body := range map[string][]byte{
		"not JSON":   []byte("hello"),
		"two values": []byte(`{"op":"stop"} trailing`),
		"cut off":    []byte(`{"op":`),
		"too large":  append([]byte(`{"op":"`), bytes.Repeat([]byte("a"), maxBody+1)...),
		"a list":     []byte(`[]`),
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodPut, "/v1/stacks/shop", bytes.NewReader(body)))
		var e api.Error
		if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || w.Code < 400 || w.Code >= 500 || e.Kind != runtime.KindInvalid || strings.Contains(e.Message, "\n") {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
	if n := len(engine.Calls()); n > 0 {
		t.Errorf("bad bodies made %d calls", n)
	}
}

// Whatever a request holds, the answer is a JSON value and nothing breaks.
func FuzzRequests(f *testing.F) {
	f.Add("actions", []byte(`{"op":"stop","services":["web"],"timeout":-1}`))
	f.Add("down", []byte(`{"volumes":true,"services":["x"]}`))
	f.Add("plan", []byte(`{"stack":{"name":"shop","services":[{"name":"web","replicas":1000000000,"spec":{}}]}}`))
	f.Add("plan", []byte(`{"stack":{"name":"shop","services":[{"name":"a","dependsOn":[{"service":"a"}]}]}}`))
	f.Add("oneoffs", []byte(`{"up":{"stack":{"name":"shop"}},"oneOff":{"service":"web"}}`))
	folder := dirs.Dirs{State: f.TempDir(), Runtime: filepath.Join(f.TempDir(), "r")}
	engine := fake.New(fake.Options{})
	f.Cleanup(func() { _ = engine.Close() })
	d, err := New(Config{Engine: engine, Dirs: folder, Log: zerolog.Nop()})
	if err != nil {
		f.Fatal(err)
	}
	h := d.limited(d.routes())
	f.Fuzz(func(t *testing.T, what string, body []byte) {
		if what != "plan" && what != "down" && what != "actions" {
			what = "plan" // those that wait need loops that run
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/v1/stacks/shop/"+what, bytes.NewReader(body)).WithContext(ctx))
		if !json.Valid(w.Body.Bytes()) {
			t.Errorf("%s %q: %d %s", what, body, w.Code, w.Body)
		}
	})
}
