package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/runtime"
)

// zoned is a world whose stack stands on virtual nodes.
type zoned struct {
	*world
	args  func(...string) []string // adds the flags that name the project
	owner string                   // the first bytes of the daemon's id, as in the cgroups' names; empty: not known yet
}

func newZoned(t *testing.T) *zoned {
	t.Helper()
	z := &zoned{args: func(args ...string) []string { return args }}
	t.Cleanup(z.removeCgroups) // after the world's own clean-up
	z.world = newWorld(t, "")
	return z
}

// knows learns the owner from what the containers say of themselves.
func (z *zoned) knows() {
	z.t.Helper()
	if z.owner = z.containers()[0].Labels[runtime.LabelOwner][:8]; z.owner == "" {
		z.t.Fatal("the containers name no owner")
	}
}

// cgroupsLeft are the folders that the world's nodes have below the engine's cgroups.
func (z *zoned) cgroupsLeft() []string {
	if z.owner == "" {
		return nil
	}
	var left []string
	for _, pattern := range []string{"*/berth/", "berth/", "*/berth.slice/berth-", "berth.slice/berth-"} {
		found, _ := filepath.Glob("/sys/fs/cgroup/" + pattern + z.owner + "*")
		left = append(left, found...)
	}
	return left
}

// removeCgroups takes away what a failed test has left.
func (z *zoned) removeCgroups() {
	for _, root := range z.cgroupsLeft() {
		var dirs []string
		_ = filepath.WalkDir(root, func(p string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, p)
			}
			return nil
		})
		for _, d := range slices.Backward(dirs) {
			_ = os.Remove(d)
		}
	}
}

// goneForGood takes the stack down and fails when anything of it or of its nodes stays.
func (z *zoned) goneForGood() {
	z.t.Helper()
	z.must(z.args("down", "-v")...)
	z.nothingLeft()
	z.noCgroupsLeft()
}

func (z *zoned) noCgroupsLeft() {
	z.t.Helper()
	z.eventually(10*time.Second, func() error {
		if left := z.cgroupsLeft(); len(left) > 0 {
			return fmt.Errorf("cgroups are left: %v", left)
		}
		return nil
	})
}

// node is what berth node inspect says.
func (z *zoned) node(name string) api.Node {
	z.t.Helper()
	var nodes []api.Node
	r := z.must("node", "inspect", name)
	if err := json.Unmarshal([]byte(r.stdout), &nodes); err != nil || len(nodes) != 1 {
		z.t.Fatalf("%d nodes, %v: %s", len(nodes), err, r)
	}
	return nodes[0]
}

// explained is what berth explain says of one replica.
func (z *zoned) explained(replica string) api.Explanation {
	z.t.Helper()
	var all api.Explained
	r := z.must(z.args("explain", replica, "--format", "json")...)
	if err := json.Unmarshal([]byte(r.stdout), &all); err != nil || len(all.Replicas) != 1 {
		z.t.Fatalf("%d replicas, %v: %s", len(all.Replicas), err, r)
	}
	return all.Replicas[0]
}

// held is nil once explain says all the words of what a replica waits for.
func (z *zoned) held(replica string, words ...string) error {
	z.t.Helper()
	hold := z.explained(replica).Hold
	for _, w := range words {
		if !strings.Contains(hold, w) {
			return fmt.Errorf("%s waits for %q; %q is not in it", replica, hold, w)
		}
	}
	return nil
}

// running replicas of a service, by slot.
func (z *zoned) live(service string) map[string]container.Summary {
	z.t.Helper()
	bySlot := map[string]container.Summary{}
	for _, c := range z.service(service) {
		if c.State == "running" {
			bySlot[c.Labels[runtime.LabelSlot]] = c
		}
	}
	return bySlot
}

// where are the nodes of a service's running containers, sorted.
func (z *zoned) where(service string) []string {
	z.t.Helper()
	var nodes []string
	for _, c := range z.service(service) {
		if c.State == "running" {
			nodes = append(nodes, c.Labels[runtime.LabelNode])
		}
	}
	slices.Sort(nodes)
	return nodes
}

// stand is nil when the service's containers run on these nodes, each as often
// as it is named, and it has no other container.
func (z *zoned) stand(service string, nodes ...string) error {
	z.t.Helper()
	slices.Sort(nodes)
	if got, all := z.where(service), len(z.service(service)); !slices.Equal(got, nodes) || all != len(nodes) {
		return fmt.Errorf("%s: %d containers, running on %v; want %v", service, all, got, nodes)
	}
	return nil
}

func (z *zoned) stands(service string, nodes ...string) {
	z.t.Helper()
	z.eventually(20*time.Second, func() error { return z.stand(service, nodes...) })
}

// slotOn is the slot of the service that stands on a node.
func (z *zoned) slotOn(service, node string) string {
	z.t.Helper()
	for slot, c := range z.live(service) {
		if c.Labels[runtime.LabelNode] == node {
			return slot
		}
	}
	z.t.Fatalf("no replica of %s is on %s", service, node)
	return ""
}

// nodeGroups are the folders of the cgroups just above a container's own, by
// controller; on cgroup v2 there is one, under "".
func (z *zoned) nodeGroups(id string) map[string]string {
	z.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", z.inspect(id).State.Pid))
	if err != nil {
		z.t.Fatal(err)
	}
	_, err = os.Stat("/sys/fs/cgroup/cgroup.controllers")
	v2 := err == nil
	groups := map[string]string{}
	for line := range strings.Lines(string(text)) {
		part := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if v2 != (part[1] == "") || strings.HasPrefix(part[1], "name=") {
			continue
		}
		for _, controller := range strings.Split(part[1], ",") {
			groups[controller] = filepath.Join("/sys/fs/cgroup", controller, path.Dir(part[2]))
		}
	}
	return groups
}

// checkInside fails unless a container's cgroups are just below those of its
// node, whose limits are the node's capacity.
func (z *zoned) checkInside(c container.Summary) {
	z.t.Helper()
	n := z.node(c.Labels[runtime.LabelNode])
	if !n.Boundary.Enforced {
		z.t.Fatalf("node %s is not enforced: %s", n.Name, n.Boundary.Why)
	}
	groups := z.nodeGroups(c.ID)
	for controller, dir := range groups {
		if !strings.HasSuffix(dir, path.Base(n.Boundary.Parent)) {
			z.t.Errorf("%s is in %s of %q, which is not %s", c.Names[0], dir, controller, n.Boundary.Parent)
		}
	}
	for what, want := range map[string]int64{"memory": n.Capacity.Memory, "cpu": n.Capacity.CPU, "pids": n.Pids} {
		got, err := limitOf(groups, what)
		if err != nil || got != want {
			z.t.Errorf("node %s: the cgroup's limit of %s is %d, %v; want %d", n.Name, what, got, err, want)
		}
	}
}

// limitOf reads a limit of a cgroup: bytes, millicores or processes; 0: none.
func limitOf(groups map[string]string, what string) (int64, error) {
	read := func(controller, name string) []string {
		text, err := os.ReadFile(filepath.Join(groups[controller], name))
		if err != nil {
			return []string{err.Error()}
		}
		return strings.Fields(string(text))
	}
	file := map[string]string{"memory": "memory.max", "cpu": "cpu.max", "pids": "pids.max"}[what]
	var words []string
	switch _, v2 := groups[""]; {
	case v2:
		words = read("", file)
	case what == "memory":
		words = read(what, "memory.limit_in_bytes")
	case what == "cpu":
		words = append(read(what, "cpu.cfs_quota_us"), read(what, "cpu.cfs_period_us")...)
	default:
		words = read(what, file)
	}
	if words[0] == "max" || words[0] == "-1" {
		return 0, nil
	}
	n, err := strconv.ParseInt(words[0], 10, 64)
	if err != nil || what != "cpu" {
		return n, err
	}
	period, err := strconv.ParseInt(words[1], 10, 64)
	if err != nil {
		return 0, err
	}
	return n * 1000 / period, nil
}

// The example comes up as its comments say, within boundaries that are the
// kernel's, and goes without a trace.
func TestZones(t *testing.T) {
	z := newZoned(t)
	makeExamples(t)
	z.dir = filepath.Join(shared.repo, "compose-examples", "zones")
	z.prefix = []string{"-p", z.project}
	z.args = func(args ...string) []string { return append([]string{"-p", z.project}, args...) }
	z.watchExample()

	z.stands("page", "edge-1", "edge-2")
	z.stands("counter", "vault-1")
	z.stands("filler", "edge-1", "edge-2")
	for _, c := range z.containers() {
		z.checkInside(c)
	}
	for _, c := range z.live("page") {
		z.fetched(fmt.Sprintf("http://127.0.0.1:%d", c.Ports[0].PublicPort), "Hello from "+c.Labels[runtime.LabelNode], "Visits so far")
	}
	if r := z.berth(z.args("plan")...); r.code != 0 || !strings.Contains(r.stdout, "nothing to do") {
		t.Errorf("there is something to do right after up: %s", r)
	}
	if e := z.explained("counter/1"); e.Node != "vault-1" || e.Placement.Node != "vault-1" {
		t.Errorf("the counter is on %q and would go to %q", e.Node, e.Placement.Node)
	}

	lost := z.slotOn("page", "edge-1")
	z.must("node", "fail", "edge-1")
	z.stands("page", "edge-2", "edge-2")
	z.stands("filler")
	for _, filler := range []string{"filler/1", "filler/2"} {
		z.eventually(5*time.Second, func() error { return z.held(filler, "1 down", "1 taint dedicated=counter") })
	}
	if e := z.explained("page/" + lost); e.Node != "edge-2" {
		t.Errorf("page/%s is on %s", lost, e.Node)
	}
	z.must("node", "recover", "edge-1")
	z.stands("filler", "edge-1", "edge-1")
	z.stands("page", "edge-2", "edge-2") // nothing moves without being told to
	z.must("node", "fail", "edge-2")
	z.stands("page", "edge-1", "edge-1") // in the place of both fillers
	z.stands("filler")
	z.goneForGood()
}

// watchExample brings the example up.
func (z *zoned) watchExample() {
	z.t.Helper()
	z.watchProject()
	z.must(z.args("build")...)
	if r := z.must(z.args("up", "-d", "--wait")...); strings.Contains(r.stderr, "warning") {
		z.t.Errorf("the example warns: %s", r)
	}
	z.knows()
}

const twoRooms = `
x-berth:
  nodes:
    - {name: edge-1, cpus: 0.5, memory: 96M, pids: 200}
    - {name: edge-2, cpus: 0.5, memory: 96M}
services:
  hungry:
    image: IMAGE
    command: [serve]
    ports: ["8080"]
    restart: "no"
    deploy: {placement: {constraints: [node.hostname == edge-1]}}
  neighbour:
    image: IMAGE
    command: [sleep]
    deploy: {placement: {constraints: [node.hostname == edge-1]}}
  calm:
    image: IMAGE
    command: [alloc, "33554432"]
    deploy: {replicas: 2, placement: {constraints: [node.hostname == edge-2]}}
`

// Faults 24 and 26: a container without a limit of its own outgrows its node and
// is killed inside it. Nobody else notices, and berth says whom it hit and why.
func TestOutgrownNode(t *testing.T) {
	z := newZoned(t)
	z.compose(twoRooms)
	seen := z.watchProject()
	z.must("up", "-d", "--wait")
	z.knows()
	for _, c := range z.containers() {
		z.checkInside(c)
	}
	others := func() string {
		var all []string
		for _, name := range []string{"neighbour", "calm"} {
			for _, c := range z.service(name) {
				s := z.inspect(c.ID).State
				all = append(all, fmt.Sprintf("%s %s pid %d since %s", c.ID[:12], s.Status, s.Pid, s.StartedAt))
			}
		}
		slices.Sort(all)
		return strings.Join(all, "\n")
	}
	before := others()
	hungry := z.one("hungry")
	z.fetched(fmt.Sprintf("http://127.0.0.1:%d", hungry.Ports[0].PublicPort), "host=")
	_, err := fetch(t.Context(), http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d/alloc?bytes=%d", hungry.Ports[0].PublicPort, 300*mib), nil)
	if err == nil {
		t.Fatal("300 MiB were allocated in a node of 96 MiB")
	}
	seen.wait(20*time.Second, "the container dies", func(x *watch) bool { return x.byID[hungry.ID]["die"] > 0 })
	if s := z.inspect(hungry.ID).State; s.ExitCode != 137 {
		t.Errorf("exit code %d, want 137", s.ExitCode)
	}
	name := strings.TrimPrefix(hungry.Names[0], "/")
	z.eventually(5*time.Second, func() error {
		n := z.node("edge-1")
		if n.OOM == nil || n.OOM.Container != name || !n.OOM.ByNode {
			return fmt.Errorf("the node tells of %+v", n.OOM)
		}
		if p := n.Pressure; p == nil || p.OOMKills != 1 || p.NodeOOMs != 1 {
			return fmt.Errorf("the node's pressure is %+v", p)
		}
		return nil
	})
	if e := z.explained("hungry/1"); !strings.Contains(e.Pressure, "node edge-1 ran out of memory (96 MiB)") {
		t.Errorf("explain says of it %q", e.Pressure)
	}
	if n := z.node("edge-2"); n.OOM != nil || n.Pressure == nil || n.Pressure.OOMKills != 0 {
		t.Errorf("the other node tells of %+v, %+v", n.OOM, n.Pressure)
	}
	if after := others(); after != before {
		t.Errorf("others noticed:\n%s\nthen\n%s", before, after)
	}
	z.goneForGood()
}

const crowded = `
x-berth:
  strategy: binpack
  nodes:
    - {name: edge-1, cpus: 0.5, memory: 256M}
    - {name: edge-2, cpus: 0.5, memory: 256M}
services:
  keeper:
    image: IMAGE
    command: [alloc, "125829120"]
    x-berth: {priority: 10}
    deploy: {resources: {reservations: {memory: 64M}, limits: {memory: 160M}}}
  greedy:
    image: IMAGE
    command: [alloc, "125829120"]
    deploy: {resources: {reservations: {memory: 64M}, limits: {memory: 160M}}}
`

// Fault 26: two containers, each within its own limit, use up their node. The less
// important one leaves it before the kernel has to kill anything.
func TestCrowdedNode(t *testing.T) {
	z := newZoned(t)
	z.compose(crowded)
	z.must("up", "-d", "--wait")
	z.knows()
	z.stands("keeper", "edge-1")
	before := z.one("keeper").ID
	z.eventually(90*time.Second, func() error { return z.stand("greedy", "edge-2") })
	n := z.node("edge-1")
	if n.Shortage == nil || len(n.Shortage.Evicted) != 1 || n.Shortage.Evicted[0].Replica != z.project+"/greedy/1" || !strings.Contains(n.Shortage.Evicted[0].Why, "short of memory") {
		t.Errorf("the node tells of %+v", n.Shortage)
	}
	if n.Pressure == nil || n.Pressure.OOMKills != 0 {
		t.Errorf("its pressure is %+v", n.Pressure)
	}
	if r := z.must("node", "ls"); !strings.Contains(r.stdout, "ready (memory pressure)") {
		t.Errorf("node ls does not show it: %s", r)
	}
	if after := z.one("keeper").ID; after != before {
		t.Errorf("the more important one was replaced too: %s, then %s", before, after)
	}
	if other := z.node("edge-2"); other.Shortage != nil {
		t.Errorf("the other node tells of %+v", other.Shortage)
	}
	z.goneForGood()
}

// ready follows how many containers of a service are ready: their healthcheck
// has passed, and nobody has told them to stop.
type ready struct {
	stop func()
	done chan struct{}

	mu      sync.Mutex // protects what follows
	now     map[string]bool
	least   int // since the last call of fewest
	created int
}

func (w *world) watchReady(service string) *ready {
	w.t.Helper()
	ctx, stop := context.WithCancel(context.WithoutCancel(w.t.Context()))
	x := &ready{stop: stop, done: make(chan struct{}), now: map[string]bool{}}
	messages, failed := w.raw.Events(ctx, events.ListOptions{Filters: w.byProject()})
	go func() {
		defer close(x.done)
		for {
			select {
			case m := <-messages:
				if m.Actor.Attributes[runtime.LabelService] == service {
					x.note(string(m.Action), m.Actor.ID)
				}
			case err := <-failed:
				if ctx.Err() == nil {
					w.t.Errorf("the engine's events ended: %v", err)
				}
				return
			}
		}
	}()
	w.t.Cleanup(func() {
		stop()
		<-x.done
	})
	return x
}

func (x *ready) note(action, id string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch action {
	case "create":
		x.created++
	case "health_status: healthy":
		x.now[id] = true
	case "kill", "die", "health_status: unhealthy":
		delete(x.now, id)
	}
	x.least = min(x.least, len(x.now))
}

// begin has fewest count from now on.
func (x *ready) begin() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.least = len(x.now)
}

// fewest is the smallest number that was ready at any time since begin.
func (x *ready) fewest() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.least
}

func (x *ready) count() (ready, created int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.now), x.created
}

// caller calls a page every 20 ms, one call after the other, until the test ends.
type caller struct {
	mu     sync.Mutex // protects what follows
	calls  int
	failed []string
	slow   time.Duration // the longest call
}

func (w *world) callOften(url string) *caller {
	w.t.Helper()
	ctx, stop := context.WithCancel(context.WithoutCancel(w.t.Context()))
	c, done := &caller{}, make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			begin := time.Now()
			if _, err := fetch(ctx, http.MethodGet, url, nil); ctx.Err() == nil {
				c.note(time.Since(begin), err)
			}
		}
	}()
	w.t.Cleanup(func() {
		stop()
		<-done
	})
	return c
}

func (c *caller) note(took time.Duration, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls++
	c.slow = max(c.slow, took)
	if err != nil {
		c.failed = append(c.failed, err.Error())
	}
}

// since ends a phase: it fails when more than a number of its calls failed, or
// when there were none.
func (c *caller) since(t *testing.T, phase string, atMost int) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	t.Logf("%s: %d calls, %d failed, the longest took %s", phase, c.calls, len(c.failed), c.slow.Round(time.Millisecond))
	if len(c.failed) > atMost || c.calls == 0 {
		t.Errorf("%s: %d of %d calls failed, at most %d may:\n%s", phase, len(c.failed), c.calls, atMost, strings.Join(c.failed, "\n"))
	}
	c.calls, c.failed, c.slow = 0, nil, 0
}

// A front on a node of its own asks the pages by their service's name. No two
// pages share a node, so whatever moves displaces the filler.
const fullHouse = `
x-berth:
  nodes:
    - {name: door, cpus: 0.6, memory: 64M, labels: {kind: door}, taints: ["kind=door:NoSchedule"]}
    - {name: edge-1, cpus: 0.4, memory: 128M}
    - {name: edge-2, cpus: 0.4, memory: 128M}
    - {name: edge-3, cpus: 0.4, memory: 128M}
services:
  front:
    image: IMAGE
    command: [relay, "http://page:8080/"]
    ports: ["PORT:8080"]
    depends_on: {page: {condition: service_healthy}}
    x-berth: {nodeSelector: {kind: door}, tolerations: ["kind=door:NoSchedule"]}
  page:
    image: IMAGE
    command: [serve]
    stop_grace_period: 5s
    healthcheck:
      test: [CMD, PROGRAM, get, "http://127.0.0.1:8080/healthz"]
      interval: 300ms
      retries: 20
    deploy:
      replicas: PAGES
      update_config: {order: start-first}
      resources: {reservations: {memory: 64M}}
    x-berth:
      priority: 10
      antiAffinity: {required: [{services: [page]}]}
  filler:
    image: IMAGE
    command: [sleep]
    stop_grace_period: 1s
    deploy: {resources: {reservations: {memory: 96M}}}
    x-berth: {priority: -10}
`

// house is fullHouse in a world of its own, with a client that keeps calling.
type house struct {
	*zoned
	pages  *ready
	client *caller
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{zoned: newZoned(t)}
	port := strconv.Itoa(freePort(t))
	h.compose(strings.NewReplacer("PORT", port, "PAGES", "2").Replace(fullHouse))
	h.pages = h.watchReady("page")
	h.must("up", "-d", "--wait")
	h.knows()
	h.stands("front", "door")
	h.stands("page", "edge-1", "edge-2")
	h.stands("filler", "edge-3")
	h.fetched("http://127.0.0.1:"+port, "host=")
	h.client = h.callOften("http://127.0.0.1:" + port)
	return h
}

// moved waits until both pages are ready on these nodes.
func (h *house) moved(nodes ...string) {
	h.t.Helper()
	h.stands("page", nodes...)
	h.eventually(10*time.Second, func() error {
		if n, _ := h.pages.count(); n != 2 {
			return fmt.Errorf("%d pages are ready", n)
		}
		return nil
	})
}

// A drained node's page starts elsewhere before it stops here, also when the
// daemon is killed on the way; a client notices nothing.
func TestDrainWhileCalled(t *testing.T) {
	h := newHouse(t)
	h.pages.begin()
	h.must("node", "drain", "edge-1")
	h.moved("edge-2", "edge-3")
	if n := h.pages.fewest(); n < 2 {
		t.Errorf("at one time %d of 2 pages were ready, though the new one starts first", n)
	}
	h.client.since(t, "drain", 0)
	if n := h.node("edge-1"); n.Status != "drained" || len(n.Replicas) > 0 {
		t.Errorf("the node is %s with %v", n.Status, n.Replicas)
	}
	h.eventually(5*time.Second, func() error { return h.held("filler/1", "1 cordoned", "2 insufficient memory") })
	h.must("node", "uncordon", "edge-1")
	h.stands("filler", "edge-1") // as soon as there is room

	h.pages.begin()
	_, before := h.pages.count()
	h.must("node", "drain", "-d", "edge-2")
	h.eventually(10*time.Second, func() error {
		if _, n := h.pages.count(); n == before {
			return errors.New("no new page was created")
		}
		return nil
	})
	h.killDaemon(syscall.SIGKILL)
	if n := h.where("page"); slices.Equal(n, []string{"edge-1", "edge-3"}) && len(h.service("page")) == 2 {
		t.Error("the drain was over before the daemon was killed")
	}
	h.startDaemon()
	h.moved("edge-1", "edge-3")
	if n := h.pages.fewest(); n < 2 {
		t.Errorf("at one time %d of 2 pages were ready", n)
	}
	if _, n := h.pages.count(); n != before+1 {
		t.Errorf("%d pages were created for one that moves", n-before)
	}
	h.eventually(10*time.Second, func() error {
		if n := h.node("edge-2"); n.Status != "drained" {
			return fmt.Errorf("the node is %s", n.Status)
		}
		return nil
	})
	h.client.since(t, "drain with the daemon killed", 0)

	// What no other node takes stays until the deadline.
	h.must("node", "uncordon", "edge-2")
	h.stands("filler", "edge-2")
	h.fails([]string{"node", "drain", "edge-2"}, "filler/1", "insufficient memory", "uncordon")
	h.stands("filler", "edge-2")
	h.must("node", "drain", "--deadline", "1s", "edge-2")
	h.stands("filler")
	h.client.since(t, "deadline", 0)
	h.goneForGood()
}

// A failed node's containers are killed at once, and what matters displaces what
// does not; a recovered one takes replicas again.
func TestFailWhileCalled(t *testing.T) {
	h := newHouse(t)
	victim := h.live("page")[h.slotOn("page", "edge-1")]
	h.pages.begin()
	begin := time.Now()
	h.must("node", "fail", "edge-1")
	h.eventually(2*time.Second, func() error {
		if slices.ContainsFunc(h.containers(), func(c container.Summary) bool { return c.ID == victim.ID && c.State == "running" }) {
			return errors.New("the failed node's container runs on")
		}
		return nil
	})
	killed := time.Since(begin)
	h.moved("edge-2", "edge-3")
	t.Logf("killed after %s, ready on another node after %s", killed.Round(time.Millisecond), time.Since(begin).Round(time.Millisecond))
	if n := h.pages.fewest(); n < 1 {
		t.Errorf("at one time %d pages were ready, and one node of two had failed", n)
	}
	// A call that is under way when its page is killed is made again by the front.
	h.client.since(t, "fail", 1)
	if n := h.node("edge-1"); n.Status != "not ready" || len(n.Replicas) > 0 {
		t.Errorf("the failed node is %s with %v", n.Status, n.Replicas)
	}
	h.eventually(5*time.Second, func() error { return h.held("filler/1", "1 down", "2 insufficient memory") })
	if e := h.explained("page/" + victim.Labels[runtime.LabelSlot]); e.Node != "edge-3" || e.Hold != "" {
		t.Errorf("the page is on %s and waits for %q", e.Node, e.Hold)
	}

	h.must("node", "recover", "edge-1")
	if n := h.node("edge-1"); n.Status != "ready" {
		t.Errorf("the recovered node is %s", n.Status)
	}
	h.stands("filler", "edge-1")
	h.moved("edge-2", "edge-3")
	h.client.since(t, "recover", 0)

	// The plan tells whom a third page would displace, before it does.
	h.write("compose.yaml", strings.Replace(h.file("compose.yaml"), "replicas: 2", "replicas: 3", 1))
	if r := h.berth("plan"); r.code != 2 || !strings.Contains(r.stdout, fmt.Sprintf("makes room for %s/page/3 (priority 10) on node edge-1", h.project)) {
		t.Errorf("the plan does not say who makes room: %s", r)
	}
	h.stands("filler", "edge-1")
	h.goneForGood()
}

func (w *world) file(name string) string {
	w.t.Helper()
	text, err := os.ReadFile(filepath.Join(w.dir, name))
	if err != nil {
		w.t.Fatal(err)
	}
	return string(text)
}

// rooms is a stack of so many replicas on the nodes.
func rooms(replicas int, nodes string) string {
	return fmt.Sprintf(`
%s
services:
  web:
    image: IMAGE
    command: [serve]
    stop_grace_period: 1s
    healthcheck:
      test: [CMD, PROGRAM, get, "http://127.0.0.1:8080/healthz"]
      interval: 200ms
      retries: 20
    deploy: {replicas: %d, resources: {reservations: {memory: 64M}}}
`, nodes, replicas)
}

const (
	wideNodes   = "x-berth: {nodes: [{name: edge-1, cpus: 0.5, memory: 256M}, {name: edge-2, cpus: 0.5, memory: 256M}]}"
	narrowNodes = "x-berth: {nodes: [{name: edge-1, cpus: 0.5, memory: 64M}, {name: edge-2, cpus: 0.5, memory: 256M}]}"
)

// Nodes are closed, added, occupied, made smaller and taken away; replicas follow.
func TestNodesChange(t *testing.T) {
	z := newZoned(t)
	z.compose(rooms(2, wideNodes))
	pages := z.watchReady("web")
	z.must("up", "-d", "--wait")
	z.knows()
	z.stands("web", "edge-1", "edge-2")
	first := z.live("web")["1"].ID

	z.must("node", "cordon", "edge-2")
	z.must("scale", "web=4")
	z.stands("web", "edge-1", "edge-1", "edge-1", "edge-2")
	z.must("node", "add", "spare", "--memory", "64M", "--cpus", "0.2", "--pids", "90")
	z.must("node", "cordon", "edge-1")
	z.must("scale", "web=5")
	z.stands("web", "edge-1", "edge-1", "edge-1", "edge-2", "spare")
	z.checkInside(z.live("web")[z.slotOn("web", "spare")])
	z.fails([]string{"node", "rm", "spare"}, "web/5 is on it", "drain")
	z.must("node", "uncordon", "edge-1", "edge-2")
	z.must("node", "drain", "spare")
	z.stands("web", "edge-1", "edge-1", "edge-1", "edge-2", "edge-2")
	z.must("node", "rm", "spare")
	z.fails([]string{"node", "rm", "edge-1"}, "declares it")

	// Less room than is promised: what no longer fits moves, and the plan says so.
	z.must("scale", "web=4")
	z.stands("web", "edge-1", "edge-1", "edge-1", "edge-2")
	z.compose(rooms(4, narrowNodes))
	if r := z.berth("plan"); r.code != 2 || strings.Count(r.stdout, "create  ") != 2 || !strings.Contains(r.stdout, "on edge-2  (node edge-1 has promised more memory than it has") {
		t.Errorf("the plan does not move two replicas: %s", r)
	}
	pages.begin()
	z.must("up", "-d", "--wait")
	z.stands("web", "edge-1", "edge-2", "edge-2", "edge-2")
	if n := pages.fewest(); n < 3 {
		t.Errorf("at one time %d of 4 were ready", n)
	}
	if z.live("web")["1"].ID != first {
		t.Error("the oldest replica, which still fits, was moved")
	}
	z.checkInside(z.live("web")["1"])

	// No nodes any more: all go to the engine itself, one by one.
	z.compose(rooms(4, ""))
	pages.begin()
	z.must("up", "-d", "--wait")
	z.stands("web", "", "", "", "") // the engine as a whole has no name
	if n := z.node("local"); len(n.Replicas) != 4 || n.Promised.Memory != 256*mib {
		t.Errorf("local has %v and has promised %d MiB", n.Replicas, n.Promised.Memory/mib)
	}
	if n := pages.fewest(); n < 3 {
		t.Errorf("at one time %d of 4 were ready", n)
	}
	z.noCgroupsLeft()
	z.goneForGood()
}

const modes = `
x-berth:
  nodes:
    - {name: edge-1, cpus: 0.5, memory: 128M, labels: {zone: a}}
    - {name: edge-2, cpus: 0.5, memory: 128M, labels: {zone: b}}
    - {name: vault-1, cpus: 0.2, memory: 64M, labels: {zone: b}, taints: ["kind=vault:NoSchedule"]}
services:
  agent:
    image: IMAGE
    command: [sleep]
    hostname: "agent-{{.Node.Hostname}}"
    stop_grace_period: 1s
    deploy: {mode: global, resources: {reservations: {memory: 32M}}}
    x-berth: {tolerations: ["kind=vault:NoSchedule"]}
  patch:
    image: IMAGE
    command: [print, "{{.Node.Hostname}}"]
    deploy: {mode: global-job, placement: {constraints: [node.labels.zone == b]}}
    x-berth: {tolerations: ["kind=vault:NoSchedule"]}
  batch:
    image: IMAGE
    command: [exit, "0", "300ms"]
    deploy: {mode: replicated-job, replicas: 4, resources: {reservations: {memory: 32M}}}
`

// deploy.mode: one replica on each node, also on one that comes later; jobs that
// run once, give their room back, and are not run again.
func TestModesOnNodes(t *testing.T) {
	z := newZoned(t)
	z.compose(modes)
	seen := z.watchProject()
	z.must("up", "-d", "--wait")
	z.knows()
	z.stands("agent", "edge-1", "edge-2", "vault-1")
	done := func(service string) map[string]int {
		t.Helper()
		on := map[string]int{}
		for _, c := range z.service(service) {
			if s := z.inspect(c.ID).State; s.Status != "exited" || s.ExitCode != 0 {
				t.Errorf("%s is %s (%d)", c.Names[0], s.Status, s.ExitCode)
			}
			on[c.Labels[runtime.LabelNode]]++
		}
		return on
	}
	if on := done("batch"); !maps.Equal(on, map[string]int{"edge-1": 2, "edge-2": 2}) {
		t.Errorf("the job ran on %v", on)
	}
	if on := done("patch"); !maps.Equal(on, map[string]int{"edge-2": 1, "vault-1": 1}) {
		t.Errorf("the job of each node ran on %v", on)
	}
	for _, name := range []string{"edge-1", "edge-2", "vault-1"} {
		if n := z.node(name); n.Promised.Memory != 32*mib {
			t.Errorf("%s has promised %d MiB, want the agent's 32", name, n.Promised.Memory/mib)
		}
	}
	for _, c := range z.live("agent") {
		if host := z.inspect(c.ID).Config.Hostname; host != "agent-"+c.Labels[runtime.LabelNode] {
			t.Errorf("the agent of %s calls itself %s", c.Labels[runtime.LabelNode], host)
		}
	}

	z.must("node", "add", "edge-3", "--memory", "64M", "--cpus", "0.2", "--label", "zone=b")
	z.stands("agent", "edge-1", "edge-2", "edge-3", "vault-1")
	z.eventually(10*time.Second, func() error {
		if n := len(z.service("patch")); n != 3 {
			return fmt.Errorf("%d jobs of nodes, want 3", n)
		}
		return nil
	})
	z.must("node", "drain", "edge-3")
	z.must("node", "rm", "edge-3")
	z.stands("agent", "edge-1", "edge-2", "vault-1")
	started := seen.saw("start", "")
	if r := z.must("up", "-d", "--wait"); seen.saw("start", "") != started {
		t.Errorf("something was run again: %s", r)
	}
	z.goneForGood()
}
