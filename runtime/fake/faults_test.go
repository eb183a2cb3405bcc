package fake_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/runtime/fake"
)

func wantKind(t *testing.T, err error, kind runtime.Kind) {
	t.Helper()
	if err == nil || runtime.KindOf(err) != kind {
		t.Fatalf("got %v, want an error of kind %q", err, kind)
	}
}

func TestFaultFailsWithoutEffect(t *testing.T) {
	inBubble(t, fake.Options{}, func(t *testing.T, e *fake.Engine) {
		id := create(t, e, "web-1", runtime.Spec{})
		e.Inject(fake.Fault{Op: "start", Object: "web-1", Skip: 0, Times: 2, Kind: runtime.KindUnavailable, Err: errors.New("500")})
		for range 2 {
			wantKind(t, e.Start(t.Context(), id), runtime.KindUnavailable)
			if c := inspect(t, e, id); c.State != runtime.Created {
				t.Fatalf("it had an effect: %s", c.State)
			}
		}
		if err := e.Start(t.Context(), id); err != nil {
			t.Fatalf("it strikes more often than told: %v", err)
		}
	})
}

func TestFaultSkipsMatchesAndGoes(t *testing.T) {
	inBubble(t, fake.Options{}, func(t *testing.T, e *fake.Engine) {
		remove := e.Inject(fake.Fault{
			Match: func(c fake.Call) bool { return strings.HasPrefix(c.Object, "web-") }, Skip: 1, Kind: runtime.KindConflict,
		})
		create(t, e, "db-1", runtime.Spec{})
		create(t, e, "web-1", runtime.Spec{})
		_, err := e.Create(t.Context(), "web-2", nil, &runtime.Spec{Image: "app"}, nil)
		wantKind(t, err, runtime.KindConflict)
		remove()
		create(t, e, "web-2", runtime.Spec{})
	})
}

func TestFaultLosesAnswer(t *testing.T) {
	inBubble(t, fake.Options{}, func(t *testing.T, e *fake.Engine) {
		e.Inject(fake.Fault{Op: "create", Times: 1, Lost: true})
		id, err := e.Create(t.Context(), "web-1", nil, &runtime.Spec{Image: "app"}, nil)
		wantKind(t, err, runtime.KindUnavailable)
		if id != "" {
			t.Fatalf("the lost answer told the ID %s", id)
		}
		if c := inspect(t, e, "web-1"); c.State != runtime.Created {
			t.Fatalf("it had no effect: %s", c.State)
		}
	})
}

func TestFaultHangs(t *testing.T) {
	for name, f := range map[string]fake.Fault{"before": {Op: "start", Hang: true}, "after": {Op: "start", HangAfter: true}} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, fake.Options{Deadline: time.Minute}, func(t *testing.T, e *fake.Engine) {
				id := create(t, e, "web-1", runtime.Spec{})
				e.Inject(f)
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
				defer cancel()
				begin := time.Now()
				err := e.Start(ctx, id)
				wantKind(t, err, runtime.KindUnavailable)
				if !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != 3*time.Second {
					t.Fatalf("%v after %s", err, time.Since(begin))
				}
				if c := inspect(t, e, id); c.State.Alive() != f.HangAfter {
					t.Fatalf("state %s", c.State)
				}
				begin = time.Now()
				wantKind(t, e.Start(t.Context(), id), runtime.KindUnavailable)
				if time.Since(begin) != time.Minute {
					t.Fatalf("the engine's own deadline came after %s", time.Since(begin))
				}
			})
		})
	}
}

func TestLatencyAndDelay(t *testing.T) {
	opts := fake.Options{Latency: map[string]time.Duration{"start": 250 * time.Millisecond}}
	inBubble(t, opts, func(t *testing.T, e *fake.Engine) {
		e.Inject(fake.Fault{Op: "start", Delay: time.Second})
		id, begin := create(t, e, "web-1", runtime.Spec{}), time.Now()
		if err := e.Start(t.Context(), id); err != nil || time.Since(begin) != 1250*time.Millisecond {
			t.Fatalf("%v after %s", err, time.Since(begin))
		}
	})
}

func TestOnCallKillsTheCaller(t *testing.T) {
	var cancel context.CancelFunc
	var seen []string
	opts := fake.Options{OnCall: func(n int, call fake.Call) {
		seen = append(seen, fmt.Sprintf("%d %s", n, call))
		if n == 2 {
			cancel()
		}
	}}
	inBubble(t, opts, func(t *testing.T, e *fake.Engine) {
		var ctx context.Context
		ctx, cancel = context.WithCancel(t.Context())
		id, err := e.Create(ctx, "web-1", nil, &runtime.Spec{Image: "app"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = e.Start(ctx, id)
		wantKind(t, err, runtime.KindUnavailable)
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if c := inspect(t, e, id); c.State != runtime.Running {
			t.Fatalf("the call that the crash followed had no effect: %s", c.State)
		}
		if err := e.Stop(fake.ByHand(t.Context()), id, "", time.Second); err != nil {
			t.Fatal(err)
		}
		if want := []string{"1 create web-1", "2 start web-1"}; !slices.Equal(seen, want) || len(e.Calls()) != 2 {
			t.Fatalf("seen %v, counted %v", seen, e.Calls())
		}
	})
}

func TestCallsTellWhatChanged(t *testing.T) {
	inBubble(t, fake.Options{}, func(t *testing.T, e *fake.Engine) {
		id := start(t, e, "web-1", runtime.Spec{})
		for range 2 {
			if err := e.Start(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}
		wantKind(t, e.Unpause(t.Context(), id), runtime.KindInvalid)
		inspect(t, e, id)
		var log []string
		for _, c := range e.Calls() {
			log = append(log, fmt.Sprintf("%s %t %t", c, c.Changed, c.Err == nil))
		}
		want := []string{"create web-1 true true", "start web-1 true true", "start web-1 false true", "start web-1 false true", "unpause web-1 false false"}
		if !slices.Equal(log, want) {
			t.Fatalf("got %q", log)
		}
	})
}

func TestDownKillsContainers(t *testing.T) {
	inBubble(t, fake.Options{}, func(t *testing.T, e *fake.Engine) {
		plain := start(t, e, "plain", runtime.Spec{})
		always := start(t, e, "always", runtime.Spec{Restart: runtime.RestartPolicy{Name: "always"}})
		stopped := start(t, e, "stopped", runtime.Spec{Restart: runtime.RestartPolicy{Name: "unless-stopped"}})
		if err := e.Stop(t.Context(), stopped, "", time.Second); err != nil {
			t.Fatal(err)
		}
		events := record(t, e)
		e.Down(true)
		wantKind(t, e.Ping(t.Context()), runtime.KindUnavailable)
		_, err := e.List(t.Context(), runtime.Filter{})
		wantKind(t, err, runtime.KindUnavailable)
		time.Sleep(time.Hour)
		e.Up()
		if c := inspect(t, e, plain); c.State != runtime.Exited || c.ExitCode != 255 {
			t.Fatalf("%s with exit code %d", c.State, c.ExitCode)
		}
		if c := inspect(t, e, always); c.State != runtime.Running {
			t.Fatalf("always: %s", c.State)
		}
		if c := inspect(t, e, stopped); c.State != runtime.Exited {
			t.Fatalf("unless-stopped: %s", c.State)
		}
		if got := events(); got != "start, resync" {
			t.Fatalf("events: %s", got)
		}
	})
}

func TestDownKeepsContainers(t *testing.T) {
	inBubble(t, fake.Options{}, func(t *testing.T, e *fake.Engine) {
		e.Script("short", fake.Exit(time.Minute, 3))
		long, short := start(t, e, "long", runtime.Spec{}), start(t, e, "short", runtime.Spec{})
		began := inspect(t, e, long).Started
		events := record(t, e)
		e.Down(false)
		time.Sleep(time.Hour)
		e.Up()
		if c := inspect(t, e, long); c.State != runtime.Running || !c.Started.Equal(began) {
			t.Fatalf("%s since %s", c.State, c.Started)
		}
		if c := inspect(t, e, short); c.State != runtime.Exited || c.ExitCode != 3 {
			t.Fatalf("%s with exit code %d", c.State, c.ExitCode)
		}
		if got := events(); got != "resync" {
			t.Fatalf("what happened meanwhile was told: %s", got)
		}
	})
}

func TestEventFaults(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fault func(runtime.Event) []runtime.Event
		want  string
	}{
		{"dropped", fake.DropEvents, ""},
		{"doubled", fake.DuplicateEvents, "create, create, start, start"},
		{"swapped", fake.SwapEvents(), "start, create"},
		{"only starts", func(ev runtime.Event) []runtime.Event {
			if ev.Action != "start" {
				return nil
			}
			return []runtime.Event{ev}
		}, "start"},
		{"none", nil, "create, start"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, fake.Options{}, func(t *testing.T, e *fake.Engine) {
				start(t, e, "db-1", runtime.Spec{})
				events := record(t, e)
				e.FaultEvents(tt.fault)
				start(t, e, "web-1", runtime.Spec{NetworkMode: "container:db-1"}) // so that no network has a say
				if got := events(); got != tt.want {
					t.Fatalf("got %q, want %q", got, tt.want)
				}
			})
		})
	}
}

func TestLostExit(t *testing.T) {
	inBubble(t, fake.Options{}, func(t *testing.T, e *fake.Engine) {
		e.Script("web-1", fake.Exit(time.Second, 0))
		id := start(t, e, "web-1", runtime.Spec{Restart: runtime.RestartPolicy{Name: "always"}})
		e.LoseExit("web-1")
		pid := inspect(t, e, id).PID
		if !e.ProcessAlive(pid) {
			t.Fatal("dead at once")
		}
		time.Sleep(time.Minute)
		if c := inspect(t, e, id); c.State != runtime.Running || c.PID != pid || e.ProcessAlive(pid) {
			t.Fatalf("%s, PID %d alive: %t", c.State, c.PID, e.ProcessAlive(pid))
		}
		if err := e.Remove(t.Context(), id, true, true); err != nil {
			t.Fatal(err)
		}
	})
}

func TestStuckRemovalAndGhost(t *testing.T) {
	inBubble(t, fake.Options{}, func(t *testing.T, e *fake.Engine) {
		id := create(t, e, "web-1", runtime.Spec{})
		e.StickRemoval("web-1", 2)
		for range 2 {
			wantKind(t, e.Remove(t.Context(), id, true, false), runtime.KindUnavailable)
			if c := inspect(t, e, id); c.State != runtime.Removing {
				t.Fatalf("state %s", c.State)
			}
		}
		if err := e.Remove(t.Context(), id, true, false); err != nil {
			t.Fatal(err)
		}
		e.GhostName("web-1")
		_, err := e.Create(t.Context(), "web-1", nil, &runtime.Spec{Image: "app"}, nil)
		wantKind(t, err, runtime.KindConflict)
		_, err = e.Inspect(t.Context(), "web-1")
		wantKind(t, err, runtime.KindNotFound)
	})
}

func TestForeignPort(t *testing.T) {
	inBubble(t, fake.Options{}, func(t *testing.T, e *fake.Engine) {
		spec := runtime.Spec{Ports: []runtime.Port{{Target: 80, Published: "8080"}, {Target: 81, Published: "9000-9001", HostIP: "127.0.0.1"}}}
		e.HoldPort(9000, "tcp", true)
		id := start(t, e, "web-1", spec)
		if p := inspect(t, e, id).Ports; len(p) != 2 || p[0].HostPort != 8080 || p[1].HostPort != 9001 {
			t.Fatalf("ports %+v", p)
		}
		spec.Ports = []runtime.Port{{Target: 80, Published: "9000"}}
		other := create(t, e, "web-2", spec)
		wantKind(t, e.Start(t.Context(), other), runtime.KindConflict)
		if left := e.Leftovers(func(kind, _ string, _ map[string]string) bool { return kind == "container" }); len(left) != 2 {
			t.Fatalf("a start that failed holds ports: %v", left)
		}
		e.HoldPort(9000, "tcp", false)
		if err := e.Start(t.Context(), other); err != nil {
			t.Fatal(err)
		}
	})
}

func TestAddressPoolsRunOut(t *testing.T) {
	inBubble(t, fake.Options{AddressPools: 3}, func(t *testing.T, e *fake.Engine) {
		ensure := func(name string) error {
			_, err := e.EnsureNetwork(t.Context(), &runtime.NetworkSpec{Name: name})
			return err
		}
		if err := errors.Join(ensure("a"), ensure("b")); err != nil {
			t.Fatal(err)
		}
		wantKind(t, ensure("c"), runtime.KindUnavailable)
		_, err := e.EnsureNetwork(t.Context(), &runtime.NetworkSpec{Name: "own", IPAM: &runtime.IPAM{Pools: []runtime.IPPool{{Subnet: "10.9.0.0/28"}}}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = e.EnsureNetwork(t.Context(), &runtime.NetworkSpec{Name: "twice", IPAM: &runtime.IPAM{Pools: []runtime.IPPool{{Subnet: "10.9.0.0/24"}}}})
		wantKind(t, err, runtime.KindConflict)
		if err := e.RemoveNetwork(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		if err := ensure("c"); err != nil {
			t.Fatal(err)
		}
	})
}

func TestRegistry(t *testing.T) {
	inBubble(t, fake.Options{}, func(t *testing.T, e *fake.Engine) {
		e.AddRemote("redis:7", fake.Image{Labels: map[string]string{"v": "7"}})
		e.SetOffline(true)
		wantKind(t, e.Pull(t.Context(), "redis:7", runtime.PullOptions{}), runtime.KindUnavailable)
		e.SetOffline(false)
		wantKind(t, e.Pull(t.Context(), "redis:9", runtime.PullOptions{}), runtime.KindNotFound)
		if err := e.Pull(t.Context(), "redis:7", runtime.PullOptions{}); err != nil {
			t.Fatal(err)
		}
		old, err := e.Image(t.Context(), "redis:7")
		if err != nil || old.Labels["v"] != "7" {
			t.Fatalf("%+v, %v", old, err)
		}
		moved := e.AddImage("redis:7", fake.Image{Labels: map[string]string{"v": "7.1"}})
		if now, err := e.Image(t.Context(), "redis:7"); err != nil || now.ID != moved || now.ID == old.ID {
			t.Fatalf("%+v, %v", now, err)
		}
		if kept, err := e.Image(t.Context(), old.ID); err != nil || len(kept.Tags) != 0 {
			t.Fatalf("the image the reference left: %+v, %v", kept, err)
		}
	})
}

func TestOverlapsAreSeen(t *testing.T) {
	for name, allowed := range map[string]bool{"forbidden": false, "allowed": true} {
		t.Run(name, func(t *testing.T) {
			opts := fake.Options{AllowOverlap: func(stack, service string) bool { return allowed && stack == "shop" && service == "web" }}
			inBubble(t, opts, func(t *testing.T, e *fake.Engine) {
				begin := time.Now()
				for i, slot := range []int{1, 2, 1} {
					time.Sleep(time.Second)
					id := runtime.Identity{Stack: "shop", Service: "web", Slot: slot, Revision: "r1"}
					c, err := e.Create(t.Context(), fmt.Sprintf("web-%d", i), id.Labels(), &runtime.Spec{Image: "app"}, nil)
					if err != nil {
						t.Fatal(err)
					}
					if err := e.Start(t.Context(), c); err != nil {
						t.Fatal(err)
					}
				}
				got := e.Overlaps()
				switch {
				case allowed && len(got) != 0:
					t.Fatalf("got %v", got)
				case !allowed && (len(got) != 1 || got[0].Slot != 1 || !slices.Equal(got[0].Containers, []string{"web-0", "web-2"}) || got[0].Time.Sub(begin) < 3*time.Second):
					t.Fatalf("got %v", got)
				}
			})
		})
	}
}

func TestLeftovers(t *testing.T) {
	inBubble(t, fake.Options{}, func(t *testing.T, e *fake.Engine) {
		mine := map[string]string{runtime.LabelStack: "shop"}
		if _, err := e.EnsureNetwork(t.Context(), &runtime.NetworkSpec{Name: "net", Labels: mine}); err != nil {
			t.Fatal(err)
		}
		if _, err := e.EnsureVolume(t.Context(), &runtime.VolumeSpec{Name: "vol"}); err != nil {
			t.Fatal(err)
		}
		start(t, e, "web-1", runtime.Spec{Ports: []runtime.Port{{Target: 80, Published: "8080"}}})
		want := []string{"container web-1", "network net", "port 0.0.0.0:8080/tcp", "volume vol"}
		if got := e.Leftovers(nil); !slices.Equal(got, want) {
			t.Fatalf("got %q", got)
		}
		got := e.Leftovers(func(_, _ string, labels map[string]string) bool { return labels[runtime.LabelStack] == "shop" })
		if want := []string{"container web-1", "port 0.0.0.0:8080/tcp", "volume vol"}; !slices.Equal(got, want) {
			t.Fatalf("got %q", got)
		}
	})
}

func TestScripts(t *testing.T) {
	inBubble(t, fake.Options{}, func(t *testing.T, e *fake.Engine) {
		id := runtime.Identity{Stack: "shop", Service: "web", Slot: 1}
		c, err := e.Create(t.Context(), "shop-web-1", id.Labels(), &runtime.Spec{Image: "app"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		e.Script("app", fake.Exit(0, 1))
		e.Script("web", fake.Exit(0, 2))
		e.Script("shop/web", fake.Workload{Starts: []fake.Workload{fake.Exit(0, 3), fake.Exit(0, 4)}})
		for _, want := range []int{3, 4, 4} {
			if err := e.Start(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			if s, err := e.Wait(t.Context(), c); err != nil || s.Code != want {
				t.Fatalf("exit code %d, want %d; %v", s.Code, want, err)
			}
		}
		e.Script("shop-web-1", fake.Workload{OOMAfter: time.Second})
		if err := e.Start(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if r := inspect(t, e, c); r.ExitCode != 137 || !r.OOMKilled {
			t.Fatalf("exit code %d, killed for memory: %t", r.ExitCode, r.OOMKilled)
		}
		e.Script("shop-web-1", fake.Workload{StartError: "exec: no such file"})
		wantKind(t, e.Start(t.Context(), c), runtime.KindInvalid)
	})
}

func TestShiftedClock(t *testing.T) {
	inBubble(t, fake.Options{}, func(t *testing.T, e *fake.Engine) {
		e.ShiftClock(-time.Hour)
		c := inspect(t, e, start(t, e, "web-1", runtime.Spec{}))
		if d := time.Until(c.Started); d.Round(time.Second) != -time.Hour {
			t.Fatalf("started %s from now", d)
		}
	})
}

func TestCloseEndsEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // which fails when a goroutine is left
		e := fake.New(fake.Options{})
		e.AddImage("app", fake.Image{Workload: fake.Workload{IgnoreTerm: true}})
		events := e.Events(t.Context(), time.Time{}, runtime.Filter{})
		id := start(t, e, "web-1", runtime.Spec{Restart: runtime.RestartPolicy{Name: "always"}, Healthcheck: &runtime.Healthcheck{Test: []string{"CMD", "true"}}})
		waited := make(chan error)
		go func() {
			_, err := e.Wait(t.Context(), id)
			waited <- err
		}()
		synctest.Wait()
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-waited; err != nil {
			wantKind(t, err, runtime.KindUnavailable)
		}
		for range events { // closed
		}
		wantKind(t, e.Start(t.Context(), id), runtime.KindUnavailable)
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestFollowsTheTable walks the lifecycle at random and expects what the
// transition table says, each time.
func TestFollowsTheTable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := fake.New(fake.Options{})
		defer e.Close()
		e.AddImage("app", fake.Image{})
		ctx := context.Background()
		state, id := runtime.Removed, "web-1"
		do := map[runtime.Op]func() error{
			runtime.OpCreate: func() error {
				_, err := e.Create(ctx, id, nil, &runtime.Spec{Image: "app"}, nil)
				return err
			},
			runtime.OpStart:   func() error { return e.Start(ctx, id) },
			runtime.OpStop:    func() error { return e.Stop(ctx, id, "", time.Minute) },
			runtime.OpKill:    func() error { return e.Kill(ctx, id, "") },
			runtime.OpRestart: func() error { return e.Restart(ctx, id, "", time.Minute) },
			runtime.OpPause:   func() error { return e.Pause(ctx, id) },
			runtime.OpUnpause: func() error { return e.Unpause(ctx, id) },
			runtime.OpUpdate:  func() error { return e.Update(ctx, id, runtime.Limits{}, runtime.RestartPolicy{}) },
			runtime.OpRemove:  func() error { return e.Remove(ctx, id, true, false) },
		}
		for range rapid.IntRange(1, 30).Draw(t, "length") {
			op := rapid.SampledFrom(runtime.Ops()).Draw(t, "op")
			err, want := do[op](), runtime.Transition(state, op)
			if runtime.KindOf(err) != want.Kind {
				t.Fatalf("%s from %s: got %v, want kind %q", op, state, err, want.Kind)
			}
			if want.OK() {
				state = want.To
			}
			c, err := e.Inspect(ctx, id)
			if runtime.IsNotFound(err) {
				c.State = runtime.Removed
			}
			if c.State != state {
				t.Fatalf("%s led to %s, want %s", op, c.State, state)
			}
		}
	})
}

// TestConcurrentUse is for the race detector.
func TestConcurrentUse(t *testing.T) {
	e := fake.New(fake.Options{})
	defer e.Close()
	e.AddImage(testImage, fake.TestImage())
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			name := fmt.Sprintf("web-%d", i%4)
			for range 20 {
				_, _ = e.Create(t.Context(), name, nil, &runtime.Spec{Image: testImage, Command: []string{"sleep"}}, nil)
				_ = e.Start(t.Context(), name)
				_, _ = e.Exec(t.Context(), name, runtime.ExecSpec{Command: []string{"/workload", "env"}}, runtime.Streams{})
				_, _ = e.List(t.Context(), runtime.Filter{})
				_ = e.Stop(t.Context(), name, "", time.Second)
				_ = e.Remove(t.Context(), name, true, true)
			}
		})
	}
	wg.Wait()
	if left := e.Leftovers(nil); len(left) != 0 {
		t.Fatalf("left: %v", left)
	}
}
