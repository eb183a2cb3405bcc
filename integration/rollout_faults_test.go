package integration

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"

	"github.com/berth-dev/berth/runtime"
)

// faultyPage is the page of the rollout example in a file of the test's own: two
// replicas behind a port.
const faultyPage = `services:
  web:
    image: ${REF}
    command: ["serve", "--version", "${VERSION:-1}", "--flaw", "${FLAW:-}", "--flap", "${FLAP:-0s}"]
    ports: ["${PORT}:8080"]
    stop_grace_period: 2s
    deploy:
      replicas: 2
      update_config: {parallelism: 1, order: start-first, monitor: 1s}
    x-berth:
      drain: 1s
      rollout: {minReady: "${MINREADY:-0s}"}
      probes:
        readiness: {http: {path: /readyz, port: 8080}, period: 1s, failureThreshold: 1}
`

// newFaulty makes the world of a page that meets faults. Its image has a name of
// the test's own, so that it can be moved and removed; no registry has it.
func newFaulty(t *testing.T, file string) *rolled {
	t.Helper()
	var project string
	t.Cleanup(func() { removeImages(t, project) }) // last of all
	w := newWorld(t, "")
	project = w.project
	makeExamples(t)
	port := strconv.Itoa(freePort(t))
	w.setenv("PORT", port)
	w.setenv("REF", w.tag("1"))
	w.compose(file)
	w.write("build.yaml", "name: "+w.project+"\nservices: {web: {image: '"+w.tag("1")+"', build: '"+filepath.Join(shared.repo, "compose-examples", "rollout")+"'}}\n")
	w.must("-f", "build.yaml", "build")
	return &rolled{world: w, base: "http://127.0.0.1:" + port, args: func(words ...string) []string { return words }}
}

// tag is a reference of the test's own image.
func (w *world) tag(tag string) string { return reference(w.project, tag) }

// reference is that of a project's image, at a registry that is not there.
func reference(project, tag string) string { return "localhost:1/" + project + ":" + tag }

// removeImages removes the images of a project's test once its containers are gone.
func removeImages(t *testing.T, project string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	raw, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		t.Logf("clean up: %v", err)
		return
	}
	defer func() { _ = raw.Close() }()
	made, err := raw.ImageList(ctx, image.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("label", madeFor+"="+project))})
	if err != nil {
		t.Logf("clean up: %v", err)
	}
	ids := []string{reference(project, "1")}
	for i := range made {
		ids = append(ids, made[i].ID)
	}
	for _, id := range ids {
		if _, err := raw.ImageRemove(ctx, id, image.RemoveOptions{Force: true}); err != nil {
			t.Logf("clean up: %v", err)
		}
	}
}

// madeFor is the label of the images that a test makes; its value is the project.
const madeFor = "io.berth.test"

// newImage makes an image that differs from the first one in a label only, gives it
// a tag, and returns its ID.
func (r *rolled) newImage(tag string) string {
	r.t.Helper()
	ctx := r.t.Context()
	c, err := r.raw.ContainerCreate(ctx, &container.Config{Image: r.tag("1")}, nil, nil, nil, "")
	if err != nil {
		r.t.Fatalf("make an image: %v", err)
	}
	defer func() { _ = r.raw.ContainerRemove(ctx, c.ID, forced()) }()
	id, err := r.raw.ContainerCommit(ctx, c.ID, container.CommitOptions{Reference: r.tag(tag), Changes: []string{"LABEL " + madeFor + "=" + r.project + " made=" + c.ID}})
	if err != nil {
		r.t.Fatalf("make an image: %v", err)
	}
	return id.ID
}

// with declares the page with variables of its own.
func (r *rolled) with(variables []string, words ...string) result {
	r.t.Helper()
	before := r.env
	defer func() { r.env = before }()
	r.env = append(slices.Clone(r.env), variables...)
	return r.berth(append([]string{"up", "-d"}, words...)...)
}

// started declares the page without waiting for its end.
func (r *rolled) started(variables ...string) {
	r.t.Helper()
	ctx, cancel := context.WithCancel(r.t.Context())
	cmd := r.command(ctx, "up", "-d")
	cmd.Env = append(slices.Clone(r.env), variables...)
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { cancel(); _ = cmd.Wait() })
}

// says waits until a command's output has the words.
func (r *rolled) says(limit time.Duration, args []string, words ...string) {
	r.t.Helper()
	r.eventually(limit, func() error {
		res := r.berth(args...)
		for _, word := range words {
			if !strings.Contains(res.stdout+res.stderr, word) {
				return fmt.Errorf("no %q: %s", word, res)
			}
		}
		return nil
	})
}

// images are the IDs of the images that the page's containers run, each once.
func (r *rolled) images() []string {
	var ids []string
	for _, c := range r.world.service("web") {
		ids = append(ids, c.ImageID)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// The next revision's image is removed once its update was accepted: the old
// containers serve on, the hold names the image, and the update goes on when it is
// there again.
func TestRolloutImageRemoved(t *testing.T) {
	r := newFaulty(t, faultyPage)
	next := r.newImage("2")
	if res := r.with(nil, "--wait"); res.code != 0 {
		t.Fatal(res)
	}
	r.only(1)
	calls := r.call(r.base)
	r.must("rollout", "pause", "web")
	if res := r.with([]string{"REF=" + r.tag("2"), "VERSION=2"}); res.code != 0 || !strings.Contains(res.stderr, "paused by command") {
		t.Errorf("up should say that the update is paused: %s", res)
	}
	saved := r.saveAndRemove("2")
	r.must("rollout", "resume", "web")
	r.says(20*time.Second, []string{"rollout", "status"}, r.tag("2"))
	if err := r.running(map[string]int{"web": 2}); err != nil {
		t.Error(err)
	}
	if got := calls.soFar(); got["version 2"] > 0 {
		t.Errorf("a version without an image answered: %v", got)
	}
	if _, err := r.raw.ImageLoad(t.Context(), strings.NewReader(saved)); err != nil {
		t.Fatal(err)
	}
	if res := r.with([]string{"REF=" + r.tag("2"), "VERSION=2"}, "--wait"); res.code != 0 {
		t.Error(res)
	}
	r.only(2)
	calls.finish(t)
	if got := r.images(); !slices.Equal(got, []string{next}) {
		t.Errorf("images %v run, want %s", got, next)
	}
}

// saveAndRemove removes an image, and returns it as the engine saves it.
func (r *rolled) saveAndRemove(tag string) string {
	r.t.Helper()
	ctx := r.t.Context()
	stream, err := r.raw.ImageSave(ctx, []string{r.tag(tag)})
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = stream.Close() }()
	data, err := io.ReadAll(stream)
	if err == nil {
		_, err = r.raw.ImageRemove(ctx, r.tag(tag), image.RemoveOptions{})
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return string(data)
}

// A tag that moves in the middle of an update: all replicas end on the image that
// it named when the update was accepted.
func TestRolloutTagMoves(t *testing.T) {
	r := newFaulty(t, faultyPage)
	r.setenv("REF", r.tag("moving"))
	r.newImage("moving")
	if res := r.with(nil, "--wait"); res.code != 0 {
		t.Fatal(res)
	}
	r.only(1)
	calls := r.call(r.base)
	pinned := r.newImage("moving")
	r.started("VERSION=2")
	r.eventually(30*time.Second, func() error {
		if got := calls.soFar(); got["version 2"] == 0 {
			return fmt.Errorf("the update has not begun: %v", got)
		}
		return nil
	})
	if moved := r.newImage("moving"); moved == pinned {
		t.Fatal("the tag did not move")
	}
	r.says(30*time.Second, []string{"rollout", "status"}, "completed")
	r.only(2)
	calls.finish(t)
	r.eventually(10*time.Second, func() error { return r.running(map[string]int{"web": 2}) })
	if got := r.images(); !slices.Equal(got, []string{pinned}) {
		t.Errorf("images %v run, want %s alone", got, pinned)
	}
}

// While the daemon is down a process takes the balanced port: the next daemon's hold
// names it, and the port is taken again once it is free.
func TestBalancedPortTakenWhileDown(t *testing.T) {
	r := newFaulty(t, faultyPage)
	if res := r.with(nil, "--wait"); res.code != 0 {
		t.Fatal(res)
	}
	r.only(1)
	r.killDaemon(syscall.SIGKILL)
	var l net.Listener
	r.eventually(10*time.Second, func() (err error) { // its sockets may close after its main thread ends
		l, err = (&net.ListenConfig{}).Listen(t.Context(), "tcp", ":"+portOf(r.base))
		return err
	})
	r.says(20*time.Second, []string{"rollout", "status"}, "port :"+portOf(r.base), fmt.Sprintf("process %d", os.Getpid()))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	r.only(1)
	if err := r.running(map[string]int{"web": 2}); err != nil {
		t.Error(err)
	}
}

// Containers that ignore their stop signal are killed after their grace, not before
// and not much later; no request fails meanwhile.
func TestRolloutIgnoredStopSignal(t *testing.T) {
	const grace = 2 * time.Second
	r := newFaulty(t, strings.Replace(faultyPage, "    stop_grace_period", "    stop_signal: SIGWINCH\n    stop_grace_period", 1))
	if res := r.with(nil, "--wait"); res.code != 0 {
		t.Fatal(res)
	}
	r.only(1)
	var old []string
	for _, c := range r.world.service("web") {
		old = append(old, c.ID)
	}
	seen := r.watchProject()
	calls := r.call(r.base)
	if res := r.with([]string{"VERSION=2"}); res.code != 0 {
		t.Error(res)
	}
	r.only(2)
	calls.finish(t)
	r.eventually(10*time.Second, func() error { return r.running(map[string]int{"web": 2}) })
	for _, id := range old {
		asked, killed := seen.at(id, "kill"), seen.at(id, "die")
		if took := killed.Sub(asked); took < grace || took > grace+time.Second {
			t.Errorf("%.12s was killed %s after it was asked to stop, want %s to %s", id, took, grace, grace+time.Second)
		}
	}
}

// A version whose readiness flaps, for two seconds of three, gets no further until it is ready for
// minReady without a break; the old containers serve on.
func TestRolloutFlappingReadiness(t *testing.T) {
	const flap = 3 * time.Second
	r := newFaulty(t, faultyPage)
	r.setenv("MINREADY", "3s")
	if res := r.with(nil, "--wait"); res.code != 0 {
		t.Fatal(res)
	}
	r.only(1)
	var old []string
	for _, c := range r.world.service("web") {
		old = append(old, c.ID)
	}
	seen := r.watchProject()
	calls := r.call(r.base)
	if res := r.with([]string{"VERSION=2", "FLAP=" + flap.String()}); res.code != 0 {
		t.Error(res)
	}
	r.only(2)
	calls.finish(t)
	r.eventually(10*time.Second, func() error { return r.running(map[string]int{"web": 2}) })
	first := seen.firstOf("start")
	for _, id := range old {
		if stopped := seen.at(id, "kill").Sub(first); stopped < flap+2*time.Second {
			t.Errorf("%.12s was stopped %s after the first of the new ones started, which was not steady before %s", id, stopped, flap)
		}
	}
}

// An atomic up of two services of which one is bad: the good one, which was updated
// already, goes back as well.
func TestAtomicUp(t *testing.T) {
	r := newFaulty(t, faultyPage+`  worker:
    image: ${REF}
    command: ["serve", "--version", "${VERSION:-1}", "--flaw", "${WORKER_FLAW:-}"]
    depends_on: {web: {condition: service_started}}
    deploy: {update_config: {monitor: 3s}}
`)
	if res := r.with(nil, "--wait"); res.code != 0 {
		t.Fatal(res)
	}
	r.only(1)
	calls := r.call(r.base)
	res := r.with([]string{"VERSION=2", "WORKER_FLAW=late"}, "--atomic", "--wait")
	if res.code == 0 || !strings.Contains(res.stderr, "worker") || !strings.Contains(res.stderr, "rolled back") {
		t.Errorf("up should fail and say what of: %s", res)
	}
	r.eventually(30*time.Second, func() error { return r.running(map[string]int{"web": 2, "worker": 1}) })
	r.only(1)
	if got := calls.finish(t); got["version 2"] == 0 {
		t.Errorf("the good service was never updated, so that nothing went back: %v", got)
	}
	if command := r.inspect(r.one("worker").ID).Config.Cmd; !slices.Contains(command, "1") {
		t.Errorf("the bad service runs as %v", command)
	}
}

// A replica that holds its host port itself hands it over when the service is scaled:
// requests fail for no longer than it takes to stop, and then all replicas serve.
func TestScaleHandsThePortOver(t *testing.T) {
	r := newFaulty(t, strings.NewReplacer("replicas: 2", "replicas: 1", "order: start-first", "order: stop-first").Replace(faultyPage))
	if res := r.with(nil, "--wait"); res.code != 0 {
		t.Fatal(res)
	}
	if ports := r.one("web").Ports; len(ports) == 0 {
		t.Error("the engine does not publish the port of a single replica")
	}
	r.must("scale", "web=3")
	hosts := map[string]bool{}
	r.eventually(20*time.Second, func() error {
		body, err := fetch(t.Context(), http.MethodGet, r.base, nil)
		if hosts[body] = err == nil; len(hosts) < 3 {
			return errors.Join(err, fmt.Errorf("only %d replicas answered", len(hosts)))
		}
		return nil
	})
	for _, c := range r.world.service("web") {
		if c.Labels[runtime.LabelPublish] != runtime.PublishBalanced {
			t.Errorf("%s still holds its port", c.Names[0])
		}
	}
	before := r.world.service("web")
	calls := r.call(r.base)
	r.must("scale", "web=1")
	calls.finish(t)
	if one := r.one("web"); !slices.ContainsFunc(before, func(c container.Summary) bool { return c.ID == one.ID }) {
		t.Error("scaled to one, the replica was replaced; its port should stay with the balancer")
	}
}
