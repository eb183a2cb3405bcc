// Package examples holds no code: its test loads every example as a user's
// command would.
package examples_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/scaling"
)

func load(t *testing.T, dir string, opts stack.LoadOptions) *stack.Loaded {
	t.Helper()
	abs, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	opts.WorkingDir = abs
	loaded, err := stack.Load(t.Context(), opts)
	if err != nil {
		t.Fatalf("load %s: %v", dir, err)
	}
	for _, w := range loaded.Warnings {
		t.Errorf("an example warns: %s", w)
	}
	return loaded
}

func names(s *stack.Stack) []string {
	var all []string
	for _, svc := range s.Services {
		all = append(all, svc.Name)
	}
	return all
}

func TestEveryExampleLoadsWithoutAWarning(t *testing.T) {
	found, err := filepath.Glob("*/compose.yaml")
	if err != nil || len(found) < 3 {
		t.Fatalf("found %v, %v", found, err)
	}
	for _, file := range found {
		dir := filepath.Dir(file)
		t.Run(dir, func(t *testing.T) {
			load(t, dir, stack.LoadOptions{})
			load(t, dir, stack.LoadOptions{Profiles: []string{"*"}})
			if _, err := os.Stat(filepath.Join(dir, "offline.env")); err == nil {
				load(t, dir, stack.LoadOptions{EnvFiles: []string{"offline.env"}})
			}
		})
	}
}

func TestQuickstart(t *testing.T) {
	s := load(t, "quickstart", stack.LoadOptions{Environ: []string{"PORT=9080", "GREETING=Good day"}}).Stack
	if got := names(s); !slices.Equal(got, []string{"counter", "web"}) {
		t.Fatalf("services %v", got)
	}
	web := s.Service("web").Spec
	if len(web.Ports) != 1 || web.Ports[0].Published != "9080" || web.Ports[0].Target != 8080 {
		t.Errorf("ports %+v", web.Ports)
	}
	if !slices.Contains(web.Env, "GREETING=Good day") {
		t.Errorf("environment %v", web.Env)
	}
}

func TestShop(t *testing.T) {
	usual := load(t, "shop", stack.LoadOptions{}).Stack
	if got := names(usual); !slices.Equal(got, []string{"app", "migrate", "nginx", "postgres", "redis", "worker"}) {
		t.Errorf("services %v", got)
	}
	if got := usual.Service("worker").Replicas; got != 1 {
		t.Errorf("the override file asks for 1 worker, and there are %d", got)
	}
	if alone := load(t, "shop", stack.LoadOptions{Files: []string{"compose.yaml"}}).Stack; alone.Service("worker").Replicas != 2 {
		t.Errorf("without the override file there are %d workers, want 2", alone.Service("worker").Replicas)
	}
	all := load(t, "shop", stack.LoadOptions{Profiles: []string{"tools", "debug"}}).Stack
	if got := names(all); !slices.Contains(got, "report") || !slices.Contains(got, "psql") {
		t.Errorf("the profiles bring %v", got)
	}
	offline := load(t, "shop", stack.LoadOptions{EnvFiles: []string{"offline.env"}}).Stack
	for service, usualImage := range map[string]string{"postgres": "postgres:15", "redis": "redis:7", "nginx": "nginx:1.22"} {
		if got := usual.Service(service).Spec.Image; got != usualImage {
			t.Errorf("%s runs %s", service, got)
		}
		if got := offline.Service(service).Spec.Image; !strings.HasPrefix(got, "berth/") {
			t.Errorf("offline, %s runs %s", service, got)
		}
	}
	for _, dep := range usual.Service("app").DependsOn {
		want := stack.Healthy
		if dep.Service == "migrate" {
			want = stack.Completed
		}
		if dep.Condition != want {
			t.Errorf("app waits for %s: %s", dep.Service, dep.Condition)
		}
	}
}

// What the example's comments promise of its nodes and services.
func TestZones(t *testing.T) {
	s := load(t, "zones", stack.LoadOptions{}).Stack
	if got := names(s); !slices.Equal(got, []string{"counter", "filler", "page"}) {
		t.Fatalf("services %v", got)
	}
	zones := map[string]int{}
	for i := range s.Nodes {
		n := &s.Nodes[i]
		zones[n.Labels["zone"]]++
		if n.Capacity.CPU == 0 || n.Capacity.Memory == 0 {
			t.Errorf("node %s has no bounds: %+v", n.Name, n.Capacity)
		}
		if tainted := len(n.Taints) > 0; tainted != (n.Name == "vault-1") {
			t.Errorf("node %s has the taints %v", n.Name, n.Taints)
		}
	}
	if zones["a"] != 1 || zones["b"] != 2 {
		t.Errorf("nodes by zone: %v", zones)
	}
	page, counter, filler := s.Service("page"), s.Service("counter"), s.Service("filler")
	if page.Update.Order != stack.StartFirst || len(page.Placement.Spread) != 1 || len(page.Placement.AntiLike) != 1 {
		t.Errorf("page is placed by %+v, order: %v", page.Placement, page.Update.Order)
	}
	if len(counter.Placement.Tolerate) != 1 || len(counter.Placement.NodeSelector) != 1 {
		t.Errorf("counter is placed by %+v", counter.Placement)
	}
	if counter.Placement.Priority <= page.Placement.Priority || page.Placement.Priority <= filler.Placement.Priority {
		t.Errorf("priorities: counter %d, page %d, filler %d", counter.Placement.Priority, page.Placement.Priority, filler.Placement.Priority)
	}
}

// What the example's comments promise of its bounds, its load and its rest.
func TestAutoscale(t *testing.T) {
	if got := names(load(t, "autoscale", stack.LoadOptions{}).Stack); !slices.Equal(got, []string{"web"}) {
		t.Fatalf("services %v", got)
	}
	s := load(t, "autoscale", stack.LoadOptions{Profiles: []string{"load"}}).Stack
	if got := names(s); !slices.Equal(got, []string{"load", "web"}) {
		t.Fatalf("with the profile there are %v", got)
	}
	web := s.Service("web")
	a := web.Autoscale
	if a == nil || a.Policy.Max != 4 || a.Policy.Interval != 5*time.Second || a.Idle == nil || a.Idle.Do != scaling.IdlePause {
		t.Fatalf("web is scaled by %+v", a)
	}
	const asked = 12 * 20 // millicores
	if share := web.Placement.Reservation.CPU * a.Policy.Metrics[0].Utilization / 100; (asked+share-1)/share != 4 {
		t.Errorf("of a load of %dm each replica takes %dm", asked, share)
	}
	if web.Vertical == nil || web.Vertical.Mode != stack.Resize || !web.MayBalance() {
		t.Errorf("web is sized by %+v, balanced: %t", web.Vertical, web.MayBalance())
	}
}
