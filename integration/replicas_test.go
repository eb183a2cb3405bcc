package integration

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/testcontainers/testcontainers-go"
)

// Fault 17, removed: it is replaced, once.
func TestRemovedByHandComesBack(t *testing.T) {
	w := newWorld(t, "")
	w.compose(threeReplicas)
	seen := w.watchProject()
	w.must("up", "-d", "--wait")
	victim := w.service("web")[1]
	if err := w.raw.ContainerRemove(t.Context(), victim.ID, forced()); err != nil {
		t.Fatal(err)
	}
	w.eventually(30*time.Second, func() error { return w.running(threeRunning) })
	names := map[string]bool{}
	for _, c := range w.containers() {
		names[c.Names[0]] = true
	}
	if !names[victim.Names[0]] {
		t.Errorf("nothing has the name %s again: %v", victim.Names[0], names)
	}
	if n := seen.saw("create", ""); n != 5 {
		t.Errorf("%d containers were created, want 5", n)
	}
	w.must("down")
	w.nothingLeft()
}

// Fault 17, renamed: it is still ours, by its labels.
func TestRenamedByHandIsStillOurs(t *testing.T) {
	w := newWorld(t, "")
	w.compose(threeReplicas)
	seen := w.watchProject()
	w.must("up", "-d", "--wait")
	api := w.one("api")
	if err := w.raw.ContainerRename(t.Context(), api.ID, w.project+"-elsewhere"); err != nil {
		t.Fatal(err)
	}
	w.must("up", "-d", "--wait")
	if now := w.one("api"); now.ID != api.ID {
		t.Errorf("the renamed container was replaced by %s", now.Names[0])
	}
	if n := seen.saw("create", ""); n != 4 {
		t.Errorf("%d containers were created, want 4", n)
	}
	w.must("down")
	w.nothingLeft()
}

// Fault 17, stopped: the service's own policy decides.
func TestStoppedByHand(t *testing.T) {
	w := newWorld(t, "")
	w.compose(`
services:
  any:
    image: IMAGE
    command: [sleep]
    deploy: {restart_policy: {condition: any, delay: 200ms}}
  never:
    image: IMAGE
    command: [sleep]
    restart: "no"
`)
	w.must("up", "-d", "--wait")
	for _, name := range []string{"any", "never"} {
		if err := w.raw.ContainerStop(t.Context(), w.one(name).ID, container.StopOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	w.eventually(30*time.Second, func() error { return w.running(map[string]int{"any": 1}) })
	if c := w.inspect(w.one("never").ID); c.State.Running {
		t.Error("a service that is never restarted was")
	}
	w.must("down")
	w.nothingLeft()
}

// deploy.restart_policy is Berth's: on-failure restarts a failed one and no
// other, at most max_attempts times.
func TestRestartPolicy(t *testing.T) {
	w := newWorld(t, "")
	w.compose(`
services:
  failing:
    image: IMAGE
    command: [exit, "3"]
    deploy: {restart_policy: {condition: on-failure, delay: 100ms, max_attempts: 2}}
  done:
    image: IMAGE
    command: [exit, "0"]
    deploy: {restart_policy: {condition: on-failure, delay: 100ms}}
  engines:
    image: IMAGE
    command: [exit, "4"]
    restart: on-failure:2
`)
	seen := w.watchProject()
	w.berth("up", "-d") // the jobs end; whether that is a failure is up's own matter
	w.eventually(30*time.Second, func() error {
		for name, want := range map[string]int{"failing": 3, "done": 1} {
			of := w.service(name)
			if len(of) != 1 {
				return fmt.Errorf("%s has %d containers", name, len(of))
			}
			if n := seen.saw("start", of[0].ID); n != want {
				return fmt.Errorf("%s was started %d times, want %d", name, n, want)
			}
		}
		of := w.service("engines")
		if len(of) != 1 {
			return fmt.Errorf("engines has %d containers", len(of))
		}
		if c := w.inspect(of[0].ID); c.RestartCount != 2 || c.State.Status != "exited" {
			return fmt.Errorf("engines was restarted %d times and is %s", c.RestartCount, c.State.Status)
		}
		return nil
	})
	for name, policy := range map[string]string{"failing": "no", "done": "no", "engines": "on-failure"} {
		if got := string(w.inspect(w.one(name).ID).HostConfig.RestartPolicy.Name); got != policy && (policy != "no" || got != "") {
			t.Errorf("%s has the engine's restart policy %q, want %q", name, got, policy)
		}
	}
	w.must("down")
	w.nothingLeft()
}

// The three conditions of depends_on, and the order they make.
func TestDependsOn(t *testing.T) {
	w := newWorld(t, "")
	w.compose(`
services:
  job:
    image: IMAGE
    command: [exit, "0", 1s]
  base:
    image: IMAGE
    command: [serve]
    healthcheck:
      test: [CMD, PROGRAM, healthcheck]
      interval: 500ms
      retries: 20
  top:
    image: IMAGE
    command: [sleep]
    depends_on:
      job: {condition: service_completed_successfully}
      base: {condition: service_healthy}
`)
	w.must("up", "-d", "--wait")
	top, base, job := w.inspect(w.one("top").ID), w.inspect(w.one("base").ID), w.inspect(w.one("job").ID)
	if top.State.StartedAt < job.State.FinishedAt {
		t.Errorf("top was started at %s, before job had ended at %s", top.State.StartedAt, job.State.FinishedAt)
	}
	if base.State.Health == nil || len(base.State.Health.Log) == 0 {
		t.Fatal("base was never checked")
	}
	started, err := time.Parse(time.RFC3339Nano, top.State.StartedAt)
	if err != nil {
		t.Fatal(err)
	}
	healthy := false
	for _, check := range base.State.Health.Log {
		healthy = healthy || check.ExitCode == 0 && check.End.Before(started)
	}
	if !healthy {
		t.Errorf("top was started at %s, before a check of base had passed", started)
	}
	w.must("down")
	w.nothingLeft()
}

// A dependency that fails releases nobody, and the reason is told.
func TestFailedDependencyHoldsItsDependants(t *testing.T) {
	w := newWorld(t, "")
	w.compose(`
services:
  job:
    image: IMAGE
    command: [exit, "7"]
  top:
    image: IMAGE
    command: [sleep]
    depends_on:
      job: {condition: service_completed_successfully}
`)
	w.fails([]string{"up", "-d"}, "job", "7")
	for _, c := range w.service("top") {
		if c.State == "running" {
			t.Error("the dependant was started although its dependency failed")
		}
	}
	w.must("down")
	w.nothingLeft()
}

// Fault 20: a foreign container has the name. It stays as it is, and the error
// names it.
func TestNameHeldByForeignContainer(t *testing.T) {
	w := newWorld(t, "")
	w.compose(`
services:
  web: {image: IMAGE, command: [sleep]}
  other: {image: IMAGE, command: [sleep]}
`)
	name := w.project + "-web-1"
	foreign := w.foreign(testcontainers.ContainerRequest{Name: name, Cmd: []string{"sleep"}})
	before := w.inspect(foreign).State.StartedAt
	w.fails([]string{"up", "-d"}, name)
	if after := w.inspect(foreign); after.State.StartedAt != before || !after.State.Running {
		t.Error("the foreign container was touched")
	}
	w.berth("down")
	if after := w.inspect(foreign); after.State.StartedAt != before || !after.State.Running {
		t.Error("down touched the foreign container")
	}
	w.nothingLeft()
}

// foreign starts a container that is no part of the project and returns its ID.
func (w *world) foreign(req testcontainers.ContainerRequest) string {
	w.t.Helper()
	req.Image = w.image()
	c, err := testcontainers.GenericContainer(w.t.Context(), testcontainers.GenericContainerRequest{ContainerRequest: req, Started: true})
	testcontainers.CleanupContainer(w.t, c)
	if err != nil {
		w.t.Fatalf("start a foreign container: %v", err)
	}
	return c.GetContainerID()
}

// Fault 22: the image is nowhere. The reason is told, what runs stays, and a
// file put right is carried out at once.
func TestMissingImage(t *testing.T) {
	w := newWorld(t, "")
	w.compose(`
services:
  web: {image: IMAGE, command: [sleep]}
`)
	w.must("up", "-d", "--wait")
	before := w.one("web")
	w.write("compose.yaml", strings.ReplaceAll(`
name: PROJECT
services:
  web: {image: "localhost:1/nowhere/PROJECT:1", command: [sleep]}
`, "PROJECT", w.project))
	w.fails([]string{"up", "-d"}, "localhost:1/nowhere/"+w.project+":1")
	if now := w.one("web"); now.ID != before.ID || now.State != "running" {
		t.Errorf("the old revision does not run any more: %s is %s", now.Names[0], now.State)
	}
	w.compose(`
services:
  web: {image: IMAGE, command: [sleep, 1h]}
`)
	w.must("up", "-d", "--wait")
	if now := w.one("web"); now.ID == before.ID || now.State != "running" {
		t.Errorf("the corrected service is not there: %s is %s", now.Names[0], now.State)
	}
	w.must("down")
	w.nothingLeft()
}

// Fault 29: the port belongs to another process. Up says so and changes nothing.
// When it is taken later, the start fails with the reason, is tried again, and
// succeeds by itself once the port is free.
func TestPortTaken(t *testing.T) {
	w := newWorld(t, "")
	take := func(address string) net.Listener {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		return l
	}
	l := take("0.0.0.0:0")
	port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	w.compose(`
services:
  web:
    image: IMAGE
    command: [serve]
    ports: ["` + port + `:8080"]
  other: {image: IMAGE, command: [sleep]}
`)
	w.fails([]string{"up", "-d"}, port)
	w.nothingLeft()

	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	w.must("up", "-d", "--wait")
	w.fetched("http://127.0.0.1:"+port, "host=")

	w.must("stop", "web")
	l = take("0.0.0.0:" + port)
	w.fails([]string{"start", "web"}, port)
	if err := w.running(map[string]int{"other": 1}); err != nil {
		t.Errorf("the other service suffers: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	w.eventually(90*time.Second, func() error { return w.running(map[string]int{"web": 1}) })
	w.fetched("http://127.0.0.1:"+port, "host=")
	w.must("down")
	w.nothingLeft()
}

// Fault 31: a foreign container is on the stack's network. It is not cut off;
// the network goes with it, and down can be said again.
func TestNetworkInUseByForeignContainer(t *testing.T) {
	w := newWorld(t, "")
	w.compose(`
services:
  web: {image: IMAGE, command: [serve]}
volumes:
  kept: {}
`)
	w.must("up", "-d", "--wait")
	foreign := w.foreign(testcontainers.ContainerRequest{Cmd: []string{"sleep"}, Networks: []string{w.project + "_default"}})
	if r := w.berth("down"); !strings.Contains(r.stdout+r.stderr, w.project+"_default") {
		t.Errorf("down does not name the network that is in use: %s", r)
	}
	if c := w.inspect(foreign); !c.State.Running || c.NetworkSettings.Networks[w.project+"_default"] == nil {
		t.Error("the foreign container was stopped or cut off")
	}
	if err := w.raw.ContainerRemove(t.Context(), foreign, forced()); err != nil {
		t.Fatal(err)
	}
	w.berth("down")
	w.eventually(30*time.Second, func() error {
		left, err := w.leftovers(t.Context(), false)
		if err == nil && len(left) > 0 {
			err = fmt.Errorf("still there: %v", left)
		}
		return err
	})
}

// Up and down again and again leaves nothing.
func TestUpDownManyTimes(t *testing.T) {
	w := newWorld(t, "")
	w.compose(`
services:
  web:
    image: IMAGE
    command: [serve]
    stop_grace_period: 1s
    volumes: ["data:/data", "/anonymous"]
    networks: [front, back]
networks: {front: {}, back: {}}
volumes: {data: {}}
`)
	for range 10 {
		w.must("up", "-d")
		w.must("down", "-v")
	}
	w.nothingLeft()
}

// What is not Berth's is neither stopped nor removed, whatever it is called.
func TestForeignContainersAreUntouched(t *testing.T) {
	w := newWorld(t, "")
	w.compose(threeReplicas)
	plain := w.foreign(testcontainers.ContainerRequest{Cmd: []string{"sleep"}})
	// Made by Compose itself, or by whoever writes its labels.
	labelled := w.foreign(testcontainers.ContainerRequest{Name: w.project + "-spoof-1", Cmd: []string{"sleep"}, Labels: map[string]string{
		"com.docker.compose.project": w.project, "com.docker.compose.service": "spoof", "com.docker.compose.container-number": "1",
		"io.berth.schema": "1", "io.berth.stack": w.project, "io.berth.service": "spoof", "io.berth.slot": "1", "io.berth.owner": "somebody-else",
	}})
	before := w.inspect(plain).State.StartedAt + w.inspect(labelled).State.StartedAt
	w.must("up", "-d", "--wait", "--remove-orphans")
	w.must("up", "-d", "--scale", "web=1")
	w.berth("down", "-v", "--remove-orphans")
	for _, id := range []string{plain, labelled} {
		if c := w.inspect(id); !c.State.Running {
			t.Errorf("the foreign container %s is %s", c.Name, c.State.Status)
		}
	}
	if after := w.inspect(plain).State.StartedAt + w.inspect(labelled).State.StartedAt; after != before {
		t.Error("a foreign container was restarted")
	}
	w.eventually(30*time.Second, func() error {
		for _, c := range w.containers() {
			if c.ID != labelled {
				return errors.New("left behind: " + c.Names[0])
			}
		}
		return nil
	})
}

// Limits change in place; anything else makes a new container, and only of the
// service that changed.
func TestWhatAChangeCosts(t *testing.T) {
	w := newWorld(t, "")
	file := `
services:
  web:
    image: IMAGE
    command: [sleep]
    mem_limit: MEMORY
    environment: {MODE: "VALUE"}
    volumes: [/data]
  api: {image: IMAGE, command: [sleep]}
`
	render := func(memory, mode string) string {
		return strings.NewReplacer("MEMORY", memory, "VALUE", mode).Replace(file)
	}
	w.compose(render("64m", "one"))
	w.must("up", "-d", "--wait")
	first, api := w.inspect(w.one("web").ID), w.one("api").ID
	w.compose(render("96m", "one"))
	if r := w.berth("plan"); r.code != 2 || !strings.Contains(r.stdout, "update") {
		t.Errorf("a changed limit is no update: %s", r)
	}
	w.must("up", "-d")
	second := w.inspect(w.one("web").ID)
	if second.ID != first.ID || second.HostConfig.Memory != 96<<20 || second.State.StartedAt != first.State.StartedAt {
		t.Errorf("the limit was not changed in place: %d bytes, same container %v", second.HostConfig.Memory, second.ID == first.ID)
	}
	w.compose(render("96m", "two"))
	w.must("up", "-d")
	third := w.inspect(w.one("web").ID)
	if third.ID == first.ID {
		t.Error("a changed variable made no new container")
	}
	if len(third.Mounts) != 1 || third.Mounts[0].Name != first.Mounts[0].Name {
		t.Errorf("the anonymous volume was not carried over: %v, then %v", first.Mounts, third.Mounts)
	}
	if third.Name != first.Name {
		t.Errorf("the replacement is called %s, not %s", third.Name, first.Name)
	}
	if w.one("api").ID != api {
		t.Error("a service that had not changed was replaced")
	}
	w.must("down", "-v")
	w.nothingLeft()
}
