package cli

import (
	"context"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/berth-dev/berth/internal/reconcile"
	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/runtime/fake"
)

func failingEngine(err error) func(context.Context) (Engine, error) {
	return func(context.Context) (Engine, error) { return nil, err }
}

const oneService = `
name: shop
services:
  db: {image: app}
  web:
    image: app
    command: [serve]
    restart: always
    ports: ["8080:80"]
    environment: {MODE: file, KEEP: "1"}
    cap_add: [NET_ADMIN]
    volumes: ["data:/data"]
    depends_on: [db]
volumes:
  data: {}
`

func TestRunGivesTheCommandsExitCodeAndCleansUp(t *testing.T) {
	b := newBench(t, oneService)
	b.engine.Script("web", fake.Workload{Output: []string{"result"}, Exits: true, Code: 42})
	if code := b.run("run", "--rm", "web", "migrate", "--all"); code != 42 {
		t.Errorf("exit code %d, want 42: %s", code, b.err.String())
	}
	b.wantOut("result\n")
	if len(b.daemon.removed) != 1 {
		t.Error("the container was not removed")
	}
	if got := b.daemon.ups[0].Services; !reflect.DeepEqual(got, []string{"db"}) {
		t.Errorf("brought up %v first, want db", got)
	}
	if got := b.daemon.ones[0].Up.Services; len(got) != 0 {
		t.Errorf("asked for %v to come up with the command", got)
	}
	one := b.daemon.ones[0].OneOff
	if !reflect.DeepEqual(one.Spec.Command, []string{"migrate", "--all"}) || one.Spec.Restart.Active() || one.Spec.Ports != nil || one.AutoRemove {
		t.Errorf("made %+v", one)
	}
}

func TestRunKeepsTheContainerWithoutRm(t *testing.T) {
	b := newBench(t, oneService)
	b.engine.Script("web", fake.Exit(0, 0))
	if code := b.run("run", "--no-deps", "--name", "mine", "web"); code != 0 {
		t.Errorf("exit code %d: %s", code, b.err.String())
	}
	if len(b.daemon.removed) != 0 || len(b.daemon.ups) != 0 {
		t.Errorf("removed %v, brought up %v", b.daemon.removed, b.daemon.ups)
	}
	if c, err := b.engine.Inspect(t.Context(), "mine"); err != nil || c.State != runtime.Exited {
		t.Errorf("mine is %s, %v", c.State, err)
	}
}

func TestRunDetached(t *testing.T) {
	b := newBench(t, oneService)
	if code := b.run("run", "-d", "--rm", "web"); code != 0 {
		t.Fatalf("exit code %d: %s", code, b.err.String())
	}
	c, err := b.engine.Inspect(t.Context(), strings.TrimSpace(b.out.String()))
	if err != nil || c.State != runtime.Running {
		t.Errorf("printed %q, whose container is %s, %v", b.out.String(), c.State, err)
	}
	if !b.daemon.ones[0].OneOff.AutoRemove {
		t.Error("the daemon was not told to remove it")
	}
}

func TestRunFlagsChangeTheSpec(t *testing.T) {
	tests := []struct {
		flags string
		check func(s *runtime.Spec) bool
	}{
		{"-e MODE=flag", func(s *runtime.Spec) bool { return reflect.DeepEqual(s.Env, []string{"KEEP=1", "MODE=flag"}) }},
		{"-e HOSTED", func(s *runtime.Spec) bool {
			return reflect.DeepEqual(s.Env, []string{"HOSTED=yes", "KEEP=1", "MODE=file"})
		}},
		{"-e ABSENT", func(s *runtime.Spec) bool { return reflect.DeepEqual(s.Env, []string{"ABSENT", "KEEP=1", "MODE=file"}) }},
		{"-u 1000 -w /srv", func(s *runtime.Spec) bool { return s.User == "1000" && s.WorkingDir == "/srv" }},
		{"--entrypoint /bin/sh", func(s *runtime.Spec) bool {
			return reflect.DeepEqual(s.Entrypoint, []string{"/bin/sh"}) && len(s.Command) == 0
		}},
		{"--cap-add SYS_TIME --cap-drop NET_ADMIN", func(s *runtime.Spec) bool {
			return reflect.DeepEqual(s.CapAdd, []string{"SYS_TIME"}) && reflect.DeepEqual(s.CapDrop, []string{"NET_ADMIN"})
		}},
		{"-P", func(s *runtime.Spec) bool { return len(s.Ports) == 1 && s.Ports[0].Published == "8080" }},
		{"-p 9000:80/udp", func(s *runtime.Spec) bool {
			return len(s.Ports) == 1 && s.Ports[0] == runtime.Port{Target: 80, Published: "9000", Protocol: "udp"}
		}},
		{"-l team=a=b", func(s *runtime.Spec) bool { return s.Labels["team"] == "a=b" }},
		{"-v ./x:/y:ro", func(s *runtime.Spec) bool {
			m := s.Mounts[len(s.Mounts)-1]
			return len(s.Mounts) == 2 && m.Type == runtime.MountBind && strings.HasSuffix(m.Source, "/x") && m.ReadOnly && m.Target == "/y"
		}},
		{"-v data:/data:ro", func(s *runtime.Spec) bool {
			return len(s.Mounts) == 1 && s.Mounts[0].Source == "shop_data" && s.Mounts[0].ReadOnly
		}},
		{"-i=false", func(s *runtime.Spec) bool { return !s.StdinOpen && !s.TTY }},
		{"", func(s *runtime.Spec) bool { return s.StdinOpen && len(s.Networks) == 1 && s.Networks[0].Aliases == nil }},
		{"--use-aliases", func(s *runtime.Spec) bool { return len(s.Networks) == 1 && len(s.Networks[0].Aliases) > 0 }},
	}
	for _, tt := range tests {
		t.Run(tt.flags, func(t *testing.T) {
			b := newBench(t, oneService)
			b.environ = append(b.environ, "HOSTED=yes")
			b.engine.Script("web", fake.Exit(0, 0))
			args := append([]string{"run"}, append(strings.Fields(tt.flags), "web")...)
			if code := b.run(args...); code != 0 {
				t.Fatalf("exit code %d: %s", code, b.err.String())
			}
			if s := &b.daemon.ones[0].OneOff.Spec; !tt.check(s) {
				t.Errorf("made %+v", s)
			}
		})
	}
}

func TestRunDryRun(t *testing.T) {
	b := newBench(t, oneService)
	b.daemon.plan = &reconcile.Plan{Stack: "shop"}
	if code := b.run("--dry-run", "run", "web"); code != 0 || len(b.daemon.ones) != 0 {
		t.Errorf("exit code %d, made %v: %s", code, b.daemon.ones, b.err.String())
	}
	b.wantInOut("create         web/run      shop-web-run  (asked for by run)\n")
}

func TestRunPassesInterruptsOn(t *testing.T) {
	bubble(t, oneService, func(t *testing.T, b *bench) {
		b.engine.Script("web", fake.Workload{StopCode: 130})
		code := make(chan int)
		go func() { code <- b.run("run", "--no-deps", "web") }()
		synctest.Wait()
		b.interrupt()
		if got := <-code; got != 130 {
			t.Errorf("exit code %d, want the command's 130: %s", got, b.err.String())
		}
		if len(b.daemon.acts) != 1 || b.daemon.acts[0].Signal != "SIGINT" {
			t.Errorf("asked for %+v, want one SIGINT", b.daemon.acts)
		}

		b.engine.Script("web", fake.Workload{IgnoreTerm: true})
		go func() { code <- b.run("run", "--no-deps", "web") }()
		synctest.Wait()
		for range 3 {
			b.interrupt()
		}
		if got := <-code; got != 137 {
			t.Errorf("exit code %d after a third interrupt, want 137", got)
		}
	})
}
