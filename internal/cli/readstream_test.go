package cli

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/runtime/fake"
)

const webAndDB = `
name: shop
services:
  db: {image: test}
  web: {image: test}
`

// readBench is a bench whose engine holds the test image.
func readBench(t *testing.T) *bench {
	t.Helper()
	b := newBench(t, webAndDB)
	b.engine.AddImage("test", fake.TestImage())
	return b
}

// readBubble is readBench in virtual time.
func readBubble(t *testing.T, f func(t *testing.T, b *bench)) {
	t.Helper()
	bubble(t, webAndDB, func(t *testing.T, b *bench) {
		b.engine.AddImage("test", fake.TestImage())
		f(t, b)
	})
}

// make creates a container of the stack that runs a behaviour of the test image.
func (b *bench) make(service string, slot int, command ...string) string {
	b.t.Helper()
	return b.makeWith(service, slot, &runtime.Spec{Image: "test", Command: command})
}

func (b *bench) makeWith(service string, slot int, spec *runtime.Spec) string {
	b.t.Helper()
	id := runtime.Identity{Stack: "shop", Service: service, Slot: slot, Revision: "r1"}
	cid, err := b.engine.Create(b.t.Context(), runtime.ContainerName("shop", service, slot), id.Labels(), spec, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return cid
}

// start makes a container and starts it.
func (b *bench) start(service string, slot int, command ...string) string {
	b.t.Helper()
	id := b.make(service, slot, command...)
	if err := b.engine.Start(b.t.Context(), id); err != nil {
		b.t.Fatal(err)
	}
	return id
}

// finish makes a container, runs it and waits for its end.
func (b *bench) finish(service string, slot int, command ...string) string {
	b.t.Helper()
	id := b.start(service, slot, command...)
	if _, err := b.engine.Wait(b.t.Context(), id); err != nil {
		b.t.Fatal(err)
	}
	return id
}

// reset forgets what was printed.
func (b *bench) reset() {
	b.out.mu.Lock()
	b.out.b.Reset()
	b.out.mu.Unlock()
	b.err.mu.Lock()
	b.err.b.Reset()
	b.err.mu.Unlock()
}

func (b *bench) wantErr(want string) {
	b.t.Helper()
	if got := b.err.String(); got != want {
		b.t.Errorf("standard error:\n%s\nwant:\n%s", got, want)
	}
}

func TestReadCommandsRefuseClearly(t *testing.T) {
	tests := []struct {
		args []string
		want string // the whole of standard error
	}{
		{[]string{"ps", "nope"}, "berth: no such service: nope (the file has db, web)"},
		{[]string{"-p", "shop", "ps", "nope"}, "berth: no such service: nope in stack shop"},
		{[]string{"logs", "--tail", "some"}, `berth: --tail "some" is not a number of lines; use a number or all`},
		{[]string{"logs", "--index", "1"}, "berth: --index requires one service to be selected"},
		{[]string{"logs", "--since", "yesterday"}, `berth: --since "yesterday" is not a moment; use a duration such as 42m, or a date such as 2013-01-02T13:23:37Z`},
		{[]string{"events", "--until", "soon"}, `berth: --until "soon" is not a moment; use a duration such as 42m, or a date such as 2013-01-02T13:23:37Z`},
		{[]string{"exec", "web"}, "berth: requires at least 2 arg(s), only received 1"},
		{[]string{"exec", "-e", "=x", "web", "x"}, `berth: exec: --env "=x": not of the form NAME=value`},
		{[]string{"exec", "web", "x"}, `berth: service "web" is not running in stack shop; berth up -d web starts it`},
		{[]string{"exec", "db", "x"}, `berth: service "db" is not running: container shop-db-1 is exited; berth up -d db starts it`},
		{[]string{"attach", "--detach-keys", "ctrl-", "db"}, `berth: attach: --detach-keys "ctrl-": "ctrl-" is not a key; use letters and ctrl-<letter>, separated by commas`},
		{[]string{"attach", "db"}, `berth: service "db" is not running: container shop-db-1 is exited; berth up -d db starts it`},
		{[]string{"cp", "a", "b"}, "berth: unknown copy direction: one side must be SERVICE:PATH"},
		{[]string{"cp", "web:/a", "db:/b"}, "berth: copying between services is not supported; copy to the machine first"},
		{[]string{"cp", "db:", "b"}, "berth: the path of a copy must not be empty"},
		{[]string{"cp", "web:/a", "b"}, `berth: no container found for service "web" in stack shop; berth up -d web creates it`},
		{[]string{"cp", "db:/nope", "b"}, "berth: copy db:/nope: no such file or directory in container shop-db-1"},
		{[]string{"cp", "nope", "db:/tmp"}, "berth: copy nope: no such file or directory"},
		{[]string{"port", "web", "0"}, `berth: port: "0" is not a port; use a number from 1 to 65535`},
		{[]string{"images", "--format", "yaml"}, `berth: --format "yaml" is unknown; use table or json`},
		{[]string{"pull", "--policy", "never"}, `berth: --policy "never" is unknown; use missing or always`},
		{[]string{"build", "--ssh", "default"}, "berth: build: --ssh is not supported: images are built by the engine's own builder, without BuildKit; copy what the build needs into its context"},
		{[]string{"build", "--sbom"}, "berth: build: --sbom is not supported: images are built by the engine's own builder, without BuildKit"},
		{[]string{"config", "--format", "xml"}, `berth: unsupported format "xml"; use yaml or json`},
		{[]string{"config", "--no-interpolate", "--images"}, "berth: --images needs the values of variables; leave --no-interpolate out"},
		{[]string{"stats", "a", "b"}, "berth: accepts at most 1 arg(s), received 2"},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			b := readBench(t)
			b.finish("db", 1, "exit", "0")
			if code := b.run(tt.args...); code != 1 {
				t.Errorf("exit code %d, want 1", code)
			}
			b.wantErr(tt.want + "\n")
			b.wantOut("")
		})
	}
}

func TestLogsEscapesAndAligns(t *testing.T) {
	b := readBench(t)
	b.finish("db", 1, "print", "ready", "err:careful")
	b.finish("web", 10, "print", "one", "\x1b[2Jshop-db-1 | forged\r", "three")
	if code := b.run("logs"); code != 0 {
		t.Fatalf("exit code %d: %s", code, b.err.String())
	}
	// Both streams come out of standard output, as Compose has it.
	b.wantOut("db-1    | ready\ndb-1    | careful\n" + `web-10  | one` + "\n" + `web-10  | \x1b[2Jshop-db-1 | forged` + "\nweb-10  | three\n")
	b.wantErr("")
}

func TestLogsOptions(t *testing.T) {
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"tail", []string{"logs", "-n", "1"}, "db-1   | ready\nweb-1  | three\nweb-2  | other\n"},
		{"tail none", []string{"logs", "--tail", "0"}, ""},
		{"service", []string{"logs", "db"}, "db-1  | ready\n"},
		{"index", []string{"logs", "--index", "2", "web"}, "web-2  | other\n"},
		{"no prefix", []string{"logs", "--no-log-prefix", "web"}, "one\ntwo\nthree\nother\n"},
		{"until before", []string{"logs", "--until", "1h"}, ""},
		{"since after", []string{"logs", "--since", "2999-01-01"}, ""},
		{"by name alone", []string{"-p", "shop", "logs", "db"}, "db-1  | ready\n"},
	}
	b := readBench(t)
	b.finish("db", 1, "print", "ready")
	b.finish("web", 1, "print", "one", "two", "three")
	b.finish("web", 2, "print", "other")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b.t = t
			b.reset()
			if code := b.run(tt.args...); code != 0 {
				t.Errorf("exit code %d: %s", code, b.err.String())
			}
			b.wantOut(tt.want)
		})
	}
}

func TestLogsTimestampsStandBehindThePrefix(t *testing.T) {
	readBubble(t, func(t *testing.T, b *bench) {
		b.finish("db", 1, "print", "ready")
		if code := b.run("logs", "-t"); code != 0 {
			t.Fatalf("exit code %d: %s", code, b.err.String())
		}
		b.wantOut("db-1  | 2000-01-01T00:00:00Z ready\n")
	})
}

func TestLogsFollowsWhatComesLater(t *testing.T) {
	readBubble(t, func(t *testing.T, b *bench) {
		first := b.start("web", 1, "print", "old", "sleep:1s", "new", "sleep:5s")
		b.start("db", 1, "print", "not asked for", "sleep:20s")
		done := make(chan int, 1)
		go func() { done <- b.run("logs", "-f", "web") }()
		time.Sleep(2 * time.Second) // virtual: it follows
		b.start("web", 2, "print", "another", "sleep:8s")
		time.Sleep(5 * time.Second) // the first has ended
		if err := b.engine.Start(t.Context(), first); err != nil {
			t.Fatal(err)
		}
		if code := <-done; code != 0 {
			t.Errorf("exit code %d: %s", code, b.err.String())
		}
		wantLines(t, b.linesOf("web-1"),
			"web-1  | old", "web-1  | new", "web-1 exited with code 0",
			"web-1  | old", "web-1  | new", "web-1 exited with code 0")
		wantLines(t, b.linesOf("web-2"), "web-2  | another", "web-2 exited with code 0")
		wantLines(t, b.linesOf("db-1"))
	})
}

func TestLogsFollowIsInterrupted(t *testing.T) {
	readBubble(t, func(t *testing.T, b *bench) {
		b.start("web", 1, "tick", "1s")
		ctx, cancel := context.WithTimeout(t.Context(), 2500*time.Millisecond)
		defer cancel()
		if code := b.runContext(ctx, "logs", "-f"); code != 130 {
			t.Errorf("exit code %d, want 130", code)
		}
		b.wantOut("web-1  | tick 1\nweb-1  | tick 2\nweb-1  | tick 3\n")
		b.wantErr("")
	})
}

func TestEvents(t *testing.T) {
	readBubble(t, func(t *testing.T, b *bench) {
		b.finish("web", 1, "exit", "4")
		b.finish("db", 1, "exit", "0")
		time.Sleep(time.Minute)
		if code := b.run("events", "--since", "2m", "--until", "0s", "web"); code != 0 {
			t.Errorf("exit code %d: %s", code, b.err.String())
		}
		var actions []string
		for line := range strings.Lines(b.out.String()) {
			f := strings.Fields(line)
			actions = append(actions, strings.Join(f[:4], " "))
		}
		wantLines(t, actions,
			"2000-01-01 00:00:00.000000 container create", "2000-01-01 00:00:00.000000 container start", "2000-01-01 00:00:00.000000 container die")
		b.wantInOut("(exitCode=4, image=test, name=shop-web-1)\n")
	})
}

func TestEventsStreamUntilInterrupted(t *testing.T) {
	readBubble(t, func(t *testing.T, b *bench) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		done := make(chan int, 1)
		go func() { done <- b.runContext(ctx, "-p", "shop", "events", "--json") }()
		time.Sleep(time.Second)
		id := b.finish("web", 1, "exit", "4")
		if code := <-done; code != 130 {
			t.Errorf("exit code %d, want 130", code)
		}
		var last struct {
			Action, ID, Service, Type string
			Attributes                map[string]string
		}
		lines := strings.Split(strings.TrimSpace(b.out.String()), "\n")
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil {
			t.Fatal(err)
		}
		if len(lines) != 3 || last.Action != "die" || last.ID != id || last.Service != "web" || last.Type != "container" || last.Attributes["exitCode"] != "4" {
			t.Errorf("%d lines, the last %+v", len(lines), last)
		}
	})
}

func TestExec(t *testing.T) {
	b := readBench(t)
	b.environ = append(b.environ, "MINE=from here")
	b.start("web", 1, "serve")
	b.start("web", 2, "serve")
	b.in = "typed"
	tests := []struct {
		args []string
		code int
		want string
	}{
		{[]string{"exec", "web", "/workload", "exit", "7"}, 7, ""},
		{[]string{"exec", "-e", "A=b", "-e", "MINE", "-e", "NOT_SET", "web", "/workload", "env", "A", "MINE", "NOT_SET"}, 0, "b\nfrom here\n<unset>\n"},
		{[]string{"exec", "-u", "1000", "-w", "/tmp", "--index", "2", "web", "/workload", "print", "two"}, 0, "two\n"},
		{[]string{"exec", "-T", "web", "/workload", "cat"}, 0, "typed"},
		{[]string{"exec", "web", "/workload", "print", "-d"}, 0, "-d\n"},
		{[]string{"exec", "-T=false", "web", "/workload", "tty"}, 0, "tty=true rows=0 cols=0\n"},
		{[]string{"exec", "--no-TTY", "web", "/workload", "tty"}, 0, "tty=false rows=0 cols=0\n"},
		{[]string{"--dry-run", "exec", "web", "/workload", "exit", "7"}, 0, "exec shop-web-1: /workload exit 7\n"},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			b.t = t
			b.reset()
			if code := b.run(tt.args...); code != tt.code {
				t.Errorf("exit code %d, want %d: %s", code, tt.code, b.err.String())
			}
			b.wantOut(tt.want)
		})
	}
}

func TestExecDetached(t *testing.T) {
	b := readBench(t)
	b.start("web", 1, "serve")
	if code := b.run("exec", "-d", "web", "/workload", "writefile", "/tmp/made", "here"); code != 0 {
		t.Fatalf("exit code %d: %s", code, b.err.String())
	}
	deadline := time.After(10 * time.Second)
	for b.run("exec", "web", "/workload", "readfile", "/tmp/made") != 0 {
		select {
		case <-deadline:
			t.Fatal("the detached command has done nothing")
		default:
		}
	}
	b.wantInOut("here")
}

func TestAttachGivesTheExitCode(t *testing.T) {
	readBubble(t, func(t *testing.T, b *bench) {
		b.start("web", 1, "print", "before", "sleep:1s", "after")
		b.start("db", 1, "exit", "5", "2s")
		synctest.Wait()
		if code := b.run("attach", "--no-stdin", "db"); code != 5 {
			t.Errorf("exit code %d, want 5: %s", code, b.err.String())
		}
	})
}

func TestAttachPassesSignalsOn(t *testing.T) {
	readBubble(t, func(t *testing.T, b *bench) {
		b.start("db", 1, "tick", "1s")
		done := make(chan int, 1)
		time.Sleep(500 * time.Millisecond) // after the first tick, which is not seen
		go func() { done <- b.run("attach", "db") }()
		time.Sleep(time.Second)
		b.interrupt()
		if code := <-done; code != 0 {
			t.Errorf("exit code %d, want that of the process: %s", code, b.err.String())
		}
		c, err := b.engine.Inspect(t.Context(), "shop-db-1")
		if err != nil || c.State != runtime.Exited {
			t.Errorf("the container is %s (%v)", c.State, err)
		}
		b.wantOut("tick 2\n")
	})
}

func TestAttachWithoutProxyLeavesTheProcessAlone(t *testing.T) {
	readBubble(t, func(t *testing.T, b *bench) {
		b.start("db", 1, "tick", "1s")
		done := make(chan int, 1)
		go func() { done <- b.run("attach", "--sig-proxy=false", "db") }()
		time.Sleep(1500 * time.Millisecond)
		b.interrupt()
		if code := <-done; code != 130 {
			t.Errorf("exit code %d, want 130: %s", code, b.err.String())
		}
		c, err := b.engine.Inspect(t.Context(), "shop-db-1")
		if err != nil || c.State != runtime.Running {
			t.Errorf("the container is %s (%v)", c.State, err)
		}
	})
}

func TestStatsOnceTakesTwoSamples(t *testing.T) {
	readBubble(t, func(t *testing.T, b *bench) {
		b.start("web", 1, "burn")
		b.finish("db", 1, "exit", "0")
		if code := b.run("stats", "--no-stream", "--all", "--format", "{{.Name}} {{.CPUPerc}} {{.PIDs}}"); code != 0 {
			t.Errorf("exit code %d: %s", code, b.err.String())
		}
		b.wantOut("shop-db-1 -- --\nshop-web-1 100.00% 1\n")
	})
}

func TestStatsStreamsWhatComesAndGoes(t *testing.T) {
	readBubble(t, func(t *testing.T, b *bench) {
		b.start("web", 1, "sleep", "3500ms")
		ctx, cancel := context.WithTimeout(t.Context(), 6500*time.Millisecond)
		defer cancel()
		go func() {
			time.Sleep(1500 * time.Millisecond)
			b.start("db", 1, "serve")
		}()
		if code := b.runContext(ctx, "stats", "--format", "{{.Name}}"); code != 130 {
			t.Errorf("exit code %d, want 130: %s", code, b.err.String())
		}
		b.wantOut("shop-web-1\n" + strings.Repeat("shop-db-1\nshop-web-1\n", 2) + strings.Repeat("shop-db-1\n", 3))
	})
}

func TestImages(t *testing.T) {
	b := readBench(t)
	b.finish("web", 1, "exit", "0")
	b.make("db", 1)
	img, err := b.engine.Image(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	digits := strings.TrimPrefix(img.ID, "sha256:")
	if code := b.run("images", "-q"); code != 0 {
		t.Errorf("exit code %d: %s", code, b.err.String())
	}
	b.wantOut(digits + "\n")
	b.reset()
	b.run("images")
	b.wantInOut("CONTAINER")
	b.wantInOut("shop-db-1    test         latest    linux/amd64   " + digits[:12])
	b.reset()
	b.run("images", "--format", "json", "db")
	b.wantOut(`[{"ID":"` + img.ID + `","ContainerName":"shop-db-1","Repository":"test","Tag":"latest","Platform":"linux/amd64","Size":0}]` + "\n")
}

func TestSplitReference(t *testing.T) {
	tests := []struct{ ref, repository, tag string }{
		{"redis", "redis", "latest"},
		{"redis:7", "redis", "7"},
		{"docker.io/library/redis:7", "redis", "7"},
		{"localhost:5000/app", "localhost:5000/app", "latest"},
		{"localhost:5000/app:v1", "localhost:5000/app", "v1"},
		{"app:v1@sha256:abc", "app", "v1"},
		{"app@sha256:abc", "app", ""},
		{"", "", ""},
	}
	for _, tt := range tests {
		if r, tag := splitReference(tt.ref); r != tt.repository || tag != tt.tag {
			t.Errorf("%q: %q %q, want %q %q", tt.ref, r, tag, tt.repository, tt.tag)
		}
	}
}

// write makes a file in the bench's folder.
func (b *bench) write(name, content string) {
	b.t.Helper()
	file := filepath.Join(b.dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		b.t.Fatal(err)
	}
}
