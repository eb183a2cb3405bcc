package client_test

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/client"
	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/scheduler"
)

// recorder is a client of a server that answers as it is told, and what it was
// asked.
func recorder(t *testing.T, answer func(w http.ResponseWriter, r *http.Request)) (*client.Client, func() []string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "bcl") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	var mu sync.Mutex // protects asked
	var asked []string
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, strings.TrimSpace(strings.Join([]string{r.Method, r.URL.RequestURI(), string(body)}, " ")))
		answer(w, r)
	})}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return client.New(filepath.Join(dir, "s")), func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(asked)
	}
}

func TestNodeRequests(t *testing.T) {
	c, asked := recorder(t, func(w http.ResponseWriter, r *http.Request) {
		answer := `{"name":"edge-1","capacity":{"cpu":500},"status":"ready"}`
		if r.URL.Path == "/v1/nodes" && r.Method == http.MethodGet {
			answer = "[" + answer + "]"
		}
		_, _ = io.WriteString(w, answer)
	})
	ctx := t.Context()
	list, err := c.Nodes(ctx)
	if err != nil || len(list) != 1 || list[0].Capacity.CPU != 500 || list[0].Status != "ready" {
		t.Errorf("nodes %+v, %v", list, err)
	}
	n, err := c.Node(ctx, "a/b")
	if err != nil || n.Name != "edge-1" {
		t.Errorf("node %+v, %v", n, err)
	}
	_, add := c.AddNode(ctx, &api.NodeRequest{Node: stack.Node{Pids: 9, Node: scheduler.Node{Name: "edge-1"}}, Overcommit: true})
	_, drain := c.ActOnNode(ctx, "edge-1", "drain", api.NodeAction{Deadline: 30 * time.Second})
	remove := c.RemoveNode(ctx, "edge-1")
	_, balance := c.Rebalance(ctx, api.Rebalance{Goal: "balance", Budget: "20%", Plan: true})
	_, one := c.Explain(ctx, "shop", "web", 2)
	_, all := c.Explain(ctx, "shop", "web", 0)
	for i, err := range []error{add, drain, remove, balance, one, all} {
		if err != nil {
			t.Errorf("request %d: %v", i, err)
		}
	}
	want := []string{
		"GET /v1/nodes", "GET /v1/nodes/a%2Fb",
		`POST /v1/nodes {"node":{"name":"edge-1","capacity":{},"pids":9},"overcommit":true}`,
		`POST /v1/nodes/edge-1/drain {"deadline":30000000000}`,
		"DELETE /v1/nodes/edge-1",
		`POST /v1/rebalance {"goal":"balance","budget":"20%","plan":true}`,
		"GET /v1/stacks/shop/explain/web?slot=2", "GET /v1/stacks/shop/explain/web",
	}
	if got := asked(); !slices.Equal(got, want) {
		t.Errorf("asked\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestNodeErrorsKeepTheirKind(t *testing.T) {
	c, _ := recorder(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusConflict)
		_ = json.NewEncoder(w).Encode(api.Error{Kind: runtime.KindConflict, Message: "remove node edge-1: shop/web/1 is on it; drain it first"})
	})
	err := c.RemoveNode(t.Context(), "edge-1")
	if !runtime.IsConflict(err) || err.Error() != "remove node edge-1: shop/web/1 is on it; drain it first" {
		t.Errorf("got %v", err)
	}
	if _, err := c.Rebalance(t.Context(), api.Rebalance{}); !runtime.IsConflict(err) {
		t.Errorf("got %v", err)
	}
	if _, err := c.Explain(t.Context(), "shop", "web", 0); !runtime.IsConflict(err) {
		t.Errorf("got %v", err)
	}
}
