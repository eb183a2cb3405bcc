package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/client"
)

// exampleWorld runs the example as it is in the repository, under a project
// name and a port of its own.
func exampleWorld(t *testing.T, name, portVariable string, options ...string) (*world, string, func(args ...string) []string) {
	t.Helper()
	w := newWorld(t, "")
	port := strconv.Itoa(freePort(t))
	w.setenv(portVariable, port)
	w.dir = filepath.Join(shared.repo, "compose-examples", name)
	makeExamples(t)
	prefix := append([]string{"-p", w.project}, options...)
	w.prefix = prefix
	return w, "http://127.0.0.1:" + port, func(args ...string) []string { return append(prefix[:len(prefix):len(prefix)], args...) }
}

// makeExamples builds the examples' programs, as `make examples` does.
func makeExamples(t *testing.T) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "make", "--no-print-directory", "example-programs")
	cmd.Dir = shared.repo
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make example-programs: %v\n%s", err, out)
	}
}

// freePort finds a port that nothing listens at. It is below those that the kernel
// gives to outgoing connections, which a load would take meanwhile.
func freePort(t *testing.T) int {
	t.Helper()
	const lowest, ephemeral = 20_000, 32_768
	var last error
	for range 100 {
		port := lowest + rand.IntN(ephemeral-lowest) // #nosec G404 -- a port of a test
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", ":"+strconv.Itoa(port))
		if err == nil {
			_ = l.Close()
			return port
		}
		last = err
	}
	t.Fatalf("no port is free: %v", last)
	return 0
}

// fetch returns a page's body, or an error for anything but 2xx.
func fetch(ctx context.Context, method, url string, form url.Values) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	if resp.StatusCode/100 != 2 {
		return "", fmt.Errorf("%s %s answered %s: %s", method, url, resp.Status, body)
	}
	return string(body), nil
}

func (w *world) fetched(url string, words ...string) {
	w.t.Helper()
	w.eventually(30*time.Second, func() error {
		body, err := fetch(w.t.Context(), http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		for _, word := range words {
			if !strings.Contains(body, word) {
				return fmt.Errorf("no %q in the page:\n%s", word, body)
			}
		}
		return nil
	})
}

// portFree is nil once nothing listens there.
func portFree(base string) error {
	conn, err := net.DialTimeout("tcp", strings.TrimPrefix(base, "http://"), time.Second)
	if err != nil {
		return nil //nolint:nilerr // that it is refused is what is wanted
	}
	_ = conn.Close()
	return fmt.Errorf("%s is still listened on", base)
}

func TestQuickstart(t *testing.T) {
	w, base, args := exampleWorld(t, "quickstart", "PORT")
	seen := w.watchProject()
	w.must(args("build")...)
	w.must(args("up", "-d", "--wait")...)
	w.fetched(base, "Hello from Berth", "Visits so far: 1")
	if r := w.must(args("ps", "--format", "json")...); strings.Count(r.stdout, `"State":"running"`) != 2 {
		t.Errorf("ps does not show two running replicas: %s", r)
	}
	if r := w.berth(args("plan")...); r.code != 0 {
		t.Errorf("there is something to do right after up: %s", r)
	}

	before := w.one("counter")
	if err := w.raw.ContainerRemove(t.Context(), before.ID, forced()); err != nil {
		t.Fatal(err)
	}
	w.eventually(30*time.Second, func() error { return w.running(map[string]int{"web": 1, "counter": 1}) })
	w.fetched(base, "Visits so far: 2")
	w.must(args("up", "-d", "--wait")...)

	w.setenv("GREETING", "Good day")
	if r := w.berth(args("plan")...); r.code != 2 || !strings.Contains(r.stdout, "web/1") || strings.Contains(r.stdout, "counter/1") {
		t.Errorf("the plan for a changed greeting is not about web alone: %s", r)
	}
	counter := w.one("counter").ID
	w.must(args("up", "-d", "--wait")...)
	w.fetched(base, "Good day")
	if w.one("counter").ID != counter {
		t.Error("the counter was replaced, and nothing of it had changed")
	}

	w.must(args("down", "-v")...)
	w.nothingLeft()
	w.eventually(5*time.Second, func() error { return portFree(base) })
	if n := seen.saw("create", ""); n != 4 {
		t.Errorf("%d containers were created, want 4: two, one after the removal, one for the greeting", n)
	}
}

// shopArgs picks the images: those that make images built, where they are.
func shopOptions(t *testing.T) []string {
	t.Helper()
	c, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := c.ImageInspect(t.Context(), "berth/postgres:15"); err != nil {
		t.Log("berth/postgres:15 is not there (make images): the usual images are pulled")
		return nil
	}
	return []string{"--env-file", "offline.env"}
}

func order(ctx context.Context, base, item string) (int, error) {
	body, err := fetch(ctx, http.MethodPost, base+"/orders", url.Values{"item": {item}, "quantity": {"2"}})
	if err != nil {
		return 0, err
	}
	var made struct{ ID int }
	if err := json.Unmarshal([]byte(body), &made); err != nil {
		return 0, fmt.Errorf("%w in %s", err, body)
	}
	return made.ID, nil
}

// shipped is nil once the order's state says so.
func shipped(ctx context.Context, base string, id int) error {
	body, err := fetch(ctx, http.MethodGet, base+"/orders", nil)
	if err != nil {
		return err
	}
	var list []struct {
		ID    int
		State string
	}
	if err := json.Unmarshal([]byte(body), &list); err != nil {
		return fmt.Errorf("%w in %s", err, body)
	}
	for _, o := range list {
		if o.ID == id {
			if o.State == "shipped" {
				return nil
			}
			return fmt.Errorf("order %d is %s", id, o.State)
		}
	}
	return fmt.Errorf("no order %d in %s", id, body)
}

func (w *world) orderIsShipped(base, item string) int {
	w.t.Helper()
	var id int
	w.eventually(30*time.Second, func() (err error) {
		id, err = order(w.t.Context(), base, item)
		return err
	})
	w.eventually(30*time.Second, func() error { return shipped(w.t.Context(), base, id) })
	return id
}

func TestShop(t *testing.T) {
	w, base, args := exampleWorld(t, "shop", "SHOP_PORT", shopOptions(t)...)
	w.setenv("SHOP_WORKERS", "2")
	w.setenv("SHOP_TITLE", "Corner shop")
	w.watchProject()
	w.must(args("build")...)
	w.must(args("up", "-d", "--wait")...)
	all := map[string]int{"nginx": 1, "app": 1, "worker": 2, "postgres": 1, "redis": 1}
	if err := w.running(all); err != nil {
		t.Error(err)
	}
	if c := w.inspect(w.one("migrate").ID); c.State.Status != "exited" || c.State.ExitCode != 0 {
		t.Errorf("migrate is %s with exit code %d", c.State.Status, c.State.ExitCode)
	}
	w.fetched(base, "Corner shop")
	first := w.orderIsShipped(base, "tea")

	// The profile's job, in a container of its own.
	if r := w.must(args("--profile", "tools", "run", "--rm", "report")...); !strings.Contains(r.stdout, "shipped\t1") {
		t.Errorf("the report does not count the order: %s", r)
	}

	// Every daemon's death and every lost container must leave the shop working.
	for _, victim := range []string{"app", "worker", "redis", "postgres", "nginx"} {
		w.killDaemon(syscall.SIGKILL)
		w.must(args("up", "-d")...) // starts the next daemon
		gone := w.service(victim)[0]
		if err := w.raw.ContainerRemove(t.Context(), gone.ID, forced()); err != nil {
			t.Fatal(err)
		}
		w.eventually(60*time.Second, func() error {
			for _, c := range w.service(victim) {
				if c.ID == gone.ID {
					return errors.New("the removed container is still there")
				}
			}
			return w.running(all)
		})
	}
	w.orderIsShipped(base, "biscuits")
	if err := shipped(t.Context(), base, first); err != nil {
		t.Errorf("the first order did not outlive its servers: %v", err)
	}
	if r := w.must(args("up", "-d")...); w.berth(args("plan")...).code != 0 {
		t.Errorf("there is something to do after %s", r)
	}

	// Down keeps the data, unless it is asked to remove it.
	w.must(args("down")...)
	if left, err := w.leftovers(t.Context(), false); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	w.must(args("up", "-d", "--wait")...)
	w.eventually(30*time.Second, func() error { return shipped(t.Context(), base, first) })
	w.must(args("down", "-v")...)
	w.nothingLeft()
	w.eventually(5*time.Second, func() error { return portFree(base) })
}

// The daemon is killed at moments spread over the way up and the way down; the
// next one carries on from what it finds.
func TestShopSurvivesDaemonKills(t *testing.T) {
	w, base, args := exampleWorld(t, "shop", "SHOP_PORT", shopOptions(t)...)
	seen := w.watchProject()
	w.must(args("build")...)
	for _, moment := range []struct {
		action string
		n      int
	}{{"create", 1}, {"create", 3}, {"start", 1}, {"start", 3}, {"start", 5}} {
		before := seen.saw(moment.action, "")
		w.killDuring(args("up", "-d"), seen, fmt.Sprintf("%s %d", moment.action, moment.n), func(x *watch) bool { return x.count[moment.action] >= before+moment.n })
		w.must(args("up", "-d", "--wait")...)
		w.orderIsShipped(base, "tea")
		dies := seen.saw("die", "")
		w.killDuring(args("down"), seen, "a container stopped", func(x *watch) bool { return x.count["die"] > dies })
		w.must(args("down")...)
		if left, err := w.leftovers(t.Context(), false); err != nil || len(left) > 0 {
			t.Fatalf("left behind after a kill at %s %d: %v %v", moment.action, moment.n, left, err)
		}
	}
	w.must(args("up", "-d")...)
	w.must(args("down", "-v")...)
	w.nothingLeft()
	w.eventually(5*time.Second, func() error { return portFree(base) })
}
