package cli

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/runtime/fake"
)

const twoServices = `
name: shop
services:
  db: {image: app}
  web: {image: app, depends_on: [db]}
`

// bubble runs a test in virtual time.
func bubble(t *testing.T, compose string, f func(t *testing.T, b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, compose)
		f(t, b)
		_ = b.engine.Close()
	})
}

// lines returns the sorted-by-name lines of the output that carry a prefix.
func (b *bench) linesOf(name string) []string {
	var got []string
	for line := range strings.Lines(b.out.String()) {
		if strings.HasPrefix(line, name) {
			got = append(got, strings.TrimSuffix(line, "\n"))
		}
	}
	return got
}

func wantLines(t *testing.T, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("lines:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestUpShowsOutputUntilAllHaveEnded(t *testing.T) {
	bubble(t, twoServices, func(t *testing.T, b *bench) {
		b.engine.Script("db", fake.Workload{Output: []string{"ready"}, Exits: true, After: time.Second})
		b.engine.Script("web", fake.Workload{Output: []string{"hello", "world"}, Errors: []string{"careful"}, Exits: true, After: 2 * time.Second, Code: 3})
		if code := b.run("up"); code != 0 {
			t.Errorf("exit code %d, want 0: %s", code, b.err.String())
		}
		wantLines(t, b.linesOf("db-1"), "db-1   | ready", "db-1 exited with code 0")
		wantLines(t, b.linesOf("web-1"), "web-1  | hello", "web-1  | world", "web-1 exited with code 3")
		b.wantInErr("web-1  | careful\n")
		b.wantInErr(" Container shop-web-1  Creating\n")
		b.wantInOut("Attaching to db-1, web-1\n")
	})
}

func TestUpExitCodes(t *testing.T) {
	tests := []struct {
		name string
		args []string
		want int
	}{
		{"first to end decides", []string{"up", "--abort-on-container-exit"}, 7},
		{"success does not abort", []string{"up", "--abort-on-container-failure"}, 9},
		{"named service decides", []string{"up", "--exit-code-from", "slow"}, 137},
		{"named service, failures only", []string{"up", "--abort-on-container-failure", "--exit-code-from", "slow"}, 137},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, "name: jobs\nservices:\n  good: {image: app}\n  bad: {image: app}\n  slow: {image: app}\n", func(t *testing.T, b *bench) {
				good := fake.Exit(time.Second, 7)
				if strings.Contains(strings.Join(tt.args, " "), "failure") {
					good.Code = 0
				}
				b.engine.Script("good", good)
				b.engine.Script("bad", fake.Exit(2*time.Second, 9))
				b.engine.Script("slow", fake.Workload{IgnoreTerm: true})
				if code := b.run(tt.args...); code != tt.want {
					t.Errorf("exit code %d, want %d\n%s%s", code, tt.want, b.out.String(), b.err.String())
				}
				b.wantInErr("Aborting on container exit...")
				if n := len(b.daemon.acts); n != 1 || b.daemon.acts[0].Op != actStop {
					t.Errorf("asked for %v, want one stop", b.daemon.acts)
				}
			})
		})
	}
}

func TestFirstInterruptStopsSecondKills(t *testing.T) {
	bubble(t, twoServices, func(t *testing.T, b *bench) {
		b.engine.Script("web", fake.Workload{IgnoreTerm: true})
		code := make(chan int)
		go func() { code <- b.run("up") }()
		synctest.Wait()
		b.interrupt()
		synctest.Wait()
		time.Sleep(time.Second) // virtual: the stop's grace goes by
		b.interrupt()
		if got := <-code; got != 130 {
			t.Errorf("exit code %d, want 130", got)
		}
		b.wantInErr("Gracefully stopping... (press Ctrl+C again to force)\n")
		ops := ""
		for _, act := range b.daemon.acts {
			ops += act.Op + " "
		}
		if ops != "stop kill " {
			t.Errorf("asked for %q, want stop and then kill", ops)
		}
		wantLines(t, b.linesOf("web-1 exited"), "web-1 exited with code 137")
	})
}

func TestOneInterruptEndsGracefully(t *testing.T) {
	bubble(t, twoServices, func(t *testing.T, b *bench) {
		code := make(chan int)
		go func() { code <- b.run("up") }()
		synctest.Wait()
		b.interrupt()
		if got := <-code; got != 0 {
			t.Errorf("exit code %d, want 0: %s", got, b.err.String())
		}
		for _, name := range []string{"shop-db-1", "shop-web-1"} {
			c, err := b.engine.Inspect(t.Context(), name)
			if err != nil || c.State != runtime.Exited {
				t.Errorf("%s is %s (%v), want exited", name, c.State, err)
			}
		}
	})
}

func TestUpFollowsNewAndRestartedContainers(t *testing.T) {
	bubble(t, "name: shop\nservices:\n  web: {image: app}\n", func(t *testing.T, b *bench) {
		b.engine.Script("shop-web-1", fake.Workload{Starts: []fake.Workload{{Output: []string{"one"}, Exits: true, After: time.Minute}, {Output: []string{"two"}}}})
		b.engine.Script("shop-web-2", fake.Workload{Output: []string{"late"}})
		code := make(chan int)
		go func() { code <- b.run("up") }()
		synctest.Wait()
		id := runtime.Identity{Stack: "shop", Service: "web", Slot: 2}
		if _, err := b.engine.Create(t.Context(), "shop-web-2", id.Labels(), &runtime.Spec{Image: "app"}, nil); err != nil {
			t.Fatal(err)
		}
		if err := b.engine.Start(t.Context(), "shop-web-2"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute) // virtual: the first container ends
		if err := b.engine.Start(t.Context(), "shop-web-1"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		b.interrupt()
		<-code
		wantLines(t, b.linesOf("web-1"), "web-1  | one", "web-1 exited with code 0", "web-1  | two", "web-1 exited with code 0")
		wantLines(t, b.linesOf("web-2"), "web-2  | late", "web-2 exited with code 0")
	})
}

func TestContainerThatRestartsDoesNotEndUp(t *testing.T) {
	bubble(t, "name: shop\nservices:\n  web: {image: app, restart: always}\n", func(t *testing.T, b *bench) {
		b.engine.Script("web", fake.Exit(10*time.Second, 1))
		code := make(chan int, 1)
		go func() { code <- b.run("up", "--abort-on-container-exit") }()
		time.Sleep(35 * time.Second) // virtual
		select {
		case c := <-code:
			t.Fatalf("up ended with %d although the engine restarts the container\n%s", c, b.out.String())
		default:
		}
		b.interrupt()
		<-code
		b.wantInOut("web-1 exited with code 1 (restarting)\n")
	})
}

func TestUpShowsOnlyWhatIsAttached(t *testing.T) {
	tests := []struct {
		args []string
		want string
	}{
		{[]string{"up"}, "cache db web"},
		{[]string{"up", "web"}, "web"},
		{[]string{"up", "--attach-dependencies", "web"}, "db web"},
		{[]string{"up", "--attach", "db"}, "db"},
		{[]string{"up", "--no-attach", "db"}, "cache web"},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			compose := twoServices + "  cache: {image: app}\n  quiet: {image: app, attach: false}\n"
			bubble(t, compose, func(t *testing.T, b *bench) {
				for _, s := range []string{"cache", "db", "web", "quiet"} {
					b.engine.Script(s, fake.Workload{Output: []string{"I am " + s}, Exits: true, After: time.Second})
				}
				if code := b.run(tt.args...); code != 0 {
					t.Fatalf("exit code %d: %s", code, b.err.String())
				}
				var got []string
				for _, s := range []string{"cache", "db", "web", "quiet"} {
					if strings.Contains(b.out.String(), "I am "+s) {
						got = append(got, s)
					}
				}
				if strings.Join(got, " ") != tt.want {
					t.Errorf("showed %v, want %s", got, tt.want)
				}
			})
		})
	}
}

func TestUpThatFailsStopsAgain(t *testing.T) {
	bubble(t, twoServices, func(t *testing.T, b *bench) {
		b.daemon.failed = []string{"start shop-web-1: port 80 is already allocated"}
		if code := b.run("up"); code != 1 {
			t.Errorf("exit code %d, want 1", code)
		}
		b.wantInErr("berth: start shop-web-1: port 80 is already allocated\n")
		if len(b.daemon.acts) != 1 || b.daemon.acts[0].Op != actStop {
			t.Errorf("asked for %v, want a stop", b.daemon.acts)
		}
	})
}

func TestContainerCannotForgeOutput(t *testing.T) {
	bubble(t, twoServices, func(t *testing.T, b *bench) {
		b.engine.Script("web", fake.Workload{Output: []string{"a\rdb-1   | forged", "\x1b[2Jgone", "\x1b[31mred\x1b[0m"}, Exits: true, After: time.Second})
		b.engine.Script("db", fake.Exit(time.Second, 0))
		b.run("up")
		wantLines(t, b.linesOf("web-1  |"), `web-1  | a\rdb-1   | forged`, `web-1  | \x1b[2Jgone`, "web-1  | red")
	})
}
