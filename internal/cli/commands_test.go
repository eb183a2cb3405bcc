package cli

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-dev/berth/internal/reconcile"
	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/runtime/fake"
)

func TestBadCommandLinesSayOneClearThing(t *testing.T) {
	tests := []struct {
		args []string
		want string // the whole of standard error
	}{
		{[]string{"unpuase"}, `berth: unknown command "unpuase"; did you mean unpause?`},
		{[]string{"frobnicate"}, `berth: unknown command "frobnicate"; see berth --help`},
		{[]string{"up", "--detatch"}, "berth: up: unknown flag: --detatch; see berth up --help"},
		{[]string{"--progress", "fancy", "up"}, `berth: --progress "fancy" is unknown; use auto, tty, plain, json or quiet`},
		{[]string{"--progress", "tty", "--ansi", "never", "up"}, "berth: --progress tty draws with ANSI characters, which --ansi never forbids; use --progress plain"},
		{[]string{"--compatibility", "up"}, "berth: --compatibility is not supported: containers are named <project>-<service>-<number>; leave it out (and COMPOSE_COMPATIBILITY unset)"},
		{[]string{"--parallel", "0", "up"}, "berth: --parallel 0 would do nothing; use 1 or more, or -1 for no limit"},
		{[]string{"up", "--watch"}, "berth: up --watch is not supported; run berth up --build -d again after a change"},
		{[]string{"up", "--menu"}, "berth: up --menu is not supported; use berth's verbs in another terminal"},
		{[]string{"up", "-d", "--abort-on-container-exit"}, "berth: --detach and --no-start cannot be combined with --abort-on-container-exit, --abort-on-container-failure, --attach or --attach-dependencies"},
		{[]string{"up", "--force-recreate", "--no-recreate"}, "berth: --force-recreate and --no-recreate are incompatible"},
		{[]string{"up", "--wait-timeout", "3"}, "berth: --wait-timeout needs --wait"},
		{[]string{"up", "-d", "-t", "-1"}, "berth: --timeout -1 is negative; use 0 to kill at once"},
		{[]string{"up", "-d", "nope"}, "berth: no such service: nope (the file has db, web)"},
		{[]string{"up", "-d", "--scale", "web"}, `berth: scale "web": not of the form SERVICE=NUMBER`},
		{[]string{"up", "-d", "--scale", "cat=2"}, `berth: scale "cat=2": no such service: cat; the file has db, web`},
		{[]string{"up", "--pull", "often"}, `berth: --pull "often" is unknown; use always, missing, never or build`},
		{[]string{"up", "--exit-code-from", "cat"}, "berth: --exit-code-from cat: no such service in this up"},
		{[]string{"scale", "web=-1"}, `berth: scale "web=-1": not of the form SERVICE=NUMBER`},
		{[]string{"kill", "-s", "TE RM"}, `berth: signal "TE RM": not a signal's name or number`},
		{[]string{"down", "--rmi", "some"}, `berth: --rmi "some" is unknown; use local or all`},
		{[]string{"-p", "No!", "stop"}, `berth: project name "No!": only a-z, 0-9, - and _ are allowed, and the first must be a letter or digit`},
		{[]string{"run", "-P", "-p", "80:80", "web"}, "berth: --service-ports and --publish are incompatible"},
		{[]string{"run", "-l", "io.berth.stack=x", "web"}, `berth: run: label "io.berth.stack": io.berth. and com.docker.compose. labels are Berth's own; choose another name`},
		{[]string{"wait", "web"}, "berth: wait: no containers of these services in stack shop; berth up -d creates them"},
		{[]string{"serve", "--log-level", "loud"}, `berth: --log-level "loud" is unknown; use debug, info, warn or error`},
		{[]string{"plan", "--format", "yaml"}, `berth: plan: --format "yaml" is unknown; use text or json`},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			b := newBench(t, twoServices)
			if code := b.run(tt.args...); code != 1 {
				t.Errorf("exit code %d, want 1", code)
			}
			if got := strings.TrimSuffix(b.err.String(), "\n"); got != tt.want {
				t.Errorf("standard error:\n%s\nwant:\n%s", got, tt.want)
			}
			if len(b.daemon.ups)+len(b.daemon.acts)+len(b.daemon.downs)+len(b.daemon.ones) > 0 {
				t.Error("the daemon was asked for something")
			}
		})
	}
}

func TestUpDetached(t *testing.T) {
	b := newBench(t, twoServices)
	if code := b.run("up", "-d", "--scale", "web=2", "-t", "3", "--remove-orphans", "--adopt", "-V"); code != 0 {
		t.Fatalf("exit code %d: %s", code, b.err.String())
	}
	b.wantOut("")
	req := b.daemon.ups[0]
	if req.Scale["web"] != 2 || req.Timeout == nil || *req.Timeout != 3*time.Second || !req.RemoveOrphans || !req.Adopt || !req.RenewAnonVolumes {
		t.Errorf("the daemon was asked for %+v", req)
	}
	list, err := b.engine.List(t.Context(), runtime.Filter{})
	if err != nil || len(list) != 3 {
		t.Errorf("%d containers (%v), want 3", len(list), err)
	}
	if b.daemon.untils[0] != untilSettled {
		t.Errorf("followed until %q", b.daemon.untils[0])
	}
}

func TestUpNamesOrphans(t *testing.T) {
	b := newBench(t, twoServices)
	b.daemon.orphans = []string{"shop-old-1"}
	b.run("up", "-d")
	b.wantInErr("warning: stack shop: no service of the file explains shop-old-1; --remove-orphans removes")
	b = newBench(t, twoServices)
	b.daemon.orphans = []string{"shop-old-1"}
	b.environ = append(b.environ, "COMPOSE_IGNORE_ORPHANS=true")
	b.run("up", "-d")
	if got := b.err.String(); strings.Contains(got, "shop-old-1") {
		t.Errorf("warned although it was told not to: %s", got)
	}
}

func TestUpWaitFollowsUntilReady(t *testing.T) {
	b := newBench(t, twoServices)
	b.daemon.failed = []string{"web/1: unhealthy: connection refused", "start shop-db-1: no space left on device"}
	if code := b.run("up", "--wait"); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	b.wantInErr("berth: web/1: unhealthy: connection refused\nberth: start shop-db-1: no space left on device\n")
	if b.daemon.untils[0] != untilReady {
		t.Errorf("followed until %q, want ready", b.daemon.untils[0])
	}
}

func TestMissingImageChangesNothing(t *testing.T) {
	b := newBench(t, "name: shop\nservices:\n  web: {image: app}\n  db: {image: nowhere/db}\n")
	b.engine.SetOffline(true)
	if code := b.run("up", "-d"); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	b.wantInErr("nowhere/db")
	if len(b.daemon.ups) != 0 || len(b.engine.Calls()) > 1 {
		t.Errorf("something was changed: %v %v", b.daemon.ups, b.engine.Calls())
	}
}

func TestUpPullsAndBuildsWhatIsMissing(t *testing.T) {
	b := newBench(t, "name: shop\nservices:\n  web: {build: .}\n  db: {image: \"remote:1\"}\n  have: {image: app}\n")
	b.engine.AddRemote("remote:1", fake.Image{})
	if err := os.WriteFile(filepath.Join(b.dir, "Dockerfile"), []byte("FROM scratch\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code := b.run("up", "-d"); code != 0 {
		t.Fatalf("exit code %d: %s", code, b.err.String())
	}
	for _, want := range []string{" Image remote:1  Pulling\n", " Image remote:1  Pulled\n", "Building\n", "Built\n"} {
		b.wantInErr(want)
	}
	for _, call := range b.engine.Calls() {
		if call.Op == "pull" && call.Object != "remote:1" {
			t.Errorf("pulled %s", call.Object)
		}
	}
}

func TestDecideImage(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	tests := []struct {
		name    string
		policy  string
		build   bool
		present bool
		age     time.Duration
		opts    imageOptions
		want    imageAction
		fails   bool
	}{
		{name: "present", present: true, want: imageNone},
		{name: "missing", want: imagePull},
		{name: "missing, can be built", build: true, want: imageBuild},
		{name: "always", policy: "always", present: true, want: imagePull},
		{name: "--pull always", present: true, opts: imageOptions{Pull: "always"}, want: imagePull},
		{name: "--pull policy keeps the file's", policy: "always", present: true, opts: imageOptions{Pull: "policy"}, want: imagePull},
		{name: "--pull missing", policy: "always", present: true, opts: imageOptions{Pull: "missing"}, want: imageNone},
		{name: "never and missing", policy: "never", fails: true},
		{name: "never, can be built", policy: "never", build: true, want: imageBuild},
		{name: "--build", build: true, present: true, opts: imageOptions{Build: true}, want: imageBuild},
		{name: "--build without build", present: true, opts: imageOptions{Build: true}, want: imageNone},
		{name: "policy build", policy: "build", build: true, present: true, want: imageBuild},
		{name: "--no-build and missing", build: true, opts: imageOptions{NoBuild: true}, fails: true},
		{name: "--no-build and present", build: true, present: true, opts: imageOptions{NoBuild: true}, want: imageNone},
		{name: "daily, fresh", policy: "daily", present: true, age: 23 * time.Hour, want: imageNone},
		{name: "daily, old", policy: "daily", present: true, age: 25 * time.Hour, want: imagePull},
		{name: "weekly, fresh", policy: "weekly", present: true, age: 6 * 24 * time.Hour, want: imageNone},
		{name: "every 1h30m, old", policy: "every_1h30m", present: true, age: 91 * time.Minute, want: imagePull},
		{name: "every 2w, fresh", policy: "every_2w", present: true, age: 13 * 24 * time.Hour, want: imageNone},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &stack.Service{Name: "web", PullPolicy: tt.policy, Spec: runtime.Spec{Image: "app"}}
			if tt.build {
				s.Build = &runtime.Build{}
			}
			got, err := decideImage(s, runtime.Image{Created: now.Add(-tt.age)}, tt.present, tt.opts, now)
			if (err != nil) != tt.fails || got != tt.want {
				t.Errorf("got %q, %v; want %q", got, err, tt.want)
			}
		})
	}
}

func TestPlanExitCodes(t *testing.T) {
	b := newBench(t, twoServices)
	b.daemon.plan = &reconcile.Plan{Stack: "shop"}
	if code := b.run("plan"); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	b.wantOut("stack shop: nothing to do\n")

	b = newBench(t, twoServices)
	b.daemon.plan = &reconcile.Plan{Stack: "shop", Steps: []reconcile.Step{{Op: reconcile.OpCreate, Key: "web/1", Name: "shop-web-1", Cause: "missing"}}}
	if code := b.run("plan"); code != exitChanges {
		t.Errorf("exit code %d, want %d", code, exitChanges)
	}
	b.wantOut("create         web/1        shop-web-1  (missing)\n")
	if code := b.run("plan", "--format", "json"); code != exitChanges {
		t.Errorf("exit code %d, want %d", code, exitChanges)
	}
	var plan reconcile.Plan
	_, text, _ := strings.Cut(b.out.String(), "\n")
	if err := json.Unmarshal([]byte(text), &plan); err != nil || len(plan.Steps) != 1 {
		t.Errorf("%s is not the plan: %v", text, err)
	}
	if code := b.run("--dry-run", "up", "-d"); code != 0 || len(b.daemon.ups) != 0 {
		t.Errorf("a dry run ended with %d and asked for %v", code, b.daemon.ups)
	}
	if code := b.run("plan", "-d"); code != 1 {
		t.Errorf("exit code %d after an error, want 1", code)
	}
}

func TestPlanListsElevatedWishes(t *testing.T) {
	b := newBench(t, `
name: shop
services:
  agent:
    image: app
    privileged: true
    network_mode: host
    pid: host
    cap_add: [SYS_ADMIN]
    security_opt: ["seccomp=unconfined", "no-new-privileges:true"]
    devices: ["/dev/fuse:/dev/fuse"]
    volumes: ["/var/run/docker.sock:/var/run/docker.sock", "/srv/data:/data", "/:/host:ro"]
    post_start: [{command: greet, privileged: true}]
  web: {image: app, volumes: ["roots:/roots", "data:/data"], pre_start: [{command: prepare, privileged: true}]}
volumes:
  roots: {driver_opts: {type: none, o: bind, device: /}}
  data: {driver_opts: {type: none, o: bind, device: /srv/data}}
`)
	b.daemon.plan = &reconcile.Plan{Stack: "shop"}
	if code := b.run("plan"); code != 0 {
		t.Fatalf("exit code %d: %s", code, b.err.String())
	}
	var asks []string
	for line := range strings.Lines(b.out.String()) {
		if f := strings.Fields(line); f[0] == "elevated" {
			asks = append(asks, strings.Join(f[1:], " "))
		}
	}
	want := []string{
		"agent privileged", "agent network_mode: host", "agent pid: host", "agent cap_add: SYS_ADMIN",
		"agent security_opt: seccomp=unconfined", "agent devices: /dev/fuse",
		"agent mount: /var/run/docker.sock", "agent mount: /", "agent post_start.0: privileged",
		"web mount: /, by the volume roots", "web pre_start.0: privileged",
	}
	if !slices.Equal(asks, want) {
		t.Errorf("listed:\n%s\nwant:\n%s", strings.Join(asks, "\n"), strings.Join(want, "\n"))
	}
	for _, args := range [][]string{{"up", "-d", "--deny-elevated"}, {"create", "--deny-elevated"}, {"run", "--deny-elevated", "web"}} {
		asked := len(b.daemon.ups)
		if code := b.run(args...); code != 1 || !strings.Contains(b.err.String(), "web: mount: /, by the volume roots") {
			t.Errorf("%v ends with %d: %s", args, code, b.err.String())
		}
		if len(b.daemon.ups) != asked {
			t.Errorf("%v asked the daemon for it", args)
		}
	}
	before := len(b.err.String())
	if code := b.run("run", "--deny-elevated", "web"); code != 1 || strings.Contains(b.err.String()[before:], "agent") {
		t.Errorf("a run of web is refused for another's sake: %s", b.err.String()[before:])
	}
}

// makeContainers gives the stack shop containers: web 1 runs, web 2 has ended, db 1 is new.
func (b *bench) makeContainers() {
	b.t.Helper()
	ctx := b.t.Context()
	b.engine.Script("shop-web-2", fake.Exit(0, 5))
	for _, c := range []struct {
		service string
		slot    int
		start   bool
	}{{"web", 1, true}, {"web", 2, true}, {"db", 1, false}} {
		name := runtime.ContainerName("shop", c.service, c.slot)
		id := runtime.Identity{Stack: "shop", Service: c.service, Slot: c.slot}
		_, err := b.engine.Create(ctx, name, id.Labels(), &runtime.Spec{Image: "app"}, nil)
		if err == nil && c.start {
			err = b.engine.Start(ctx, name)
		}
		if err != nil {
			b.t.Fatal(err)
		}
	}
	if _, err := b.engine.Wait(ctx, "shop-web-2"); err != nil {
		b.t.Fatal(err)
	}
}

func TestActionsNeedNoFile(t *testing.T) {
	tests := []struct {
		args []string
		want string
	}{
		{[]string{"stop", "-t", "0", "web"}, "stop [web] 0s"},
		{[]string{"start"}, "start []"},
		{[]string{"restart", "--no-deps", "web"}, "restart [web] nodeps"},
		{[]string{"kill", "-s", "TERM"}, "kill [] TERM"},
		{[]string{"kill"}, "kill [] SIGKILL"},
		{[]string{"pause"}, "pause []"},
		{[]string{"unpause", "web"}, "unpause [web]"},
		{[]string{"scale", "web=3"}, "scale [web] 3"},
		{[]string{"rm", "-f", "-s", "-v", "web"}, "remove [web] stop volumes"},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			b := newBench(t, "")
			b.makeContainers()
			if code := b.run(append([]string{"-p", "shop"}, tt.args...)...); code != 0 {
				t.Fatalf("exit code %d: %s", code, b.err.String())
			}
			r := b.daemon.acts[0]
			got := r.Op + " [" + strings.Join(r.Services, " ") + "]"
			if r.Timeout != nil {
				got += " " + r.Timeout.String()
			}
			if r.NoDeps {
				got += " nodeps"
			}
			if r.Signal != "" {
				got += " " + r.Signal
			}
			if n, ok := r.Scale["web"]; ok {
				got += " " + string(rune('0'+n))
			}
			if r.Stop {
				got += " stop"
			}
			if r.Volumes {
				got += " volumes"
			}
			if got != tt.want {
				t.Errorf("asked for %q, want %q", got, tt.want)
			}
		})
	}
}

func TestDryRunOfActionsChangesNothing(t *testing.T) {
	b := newBench(t, "")
	b.makeContainers()
	b.run("-p", "shop", "--dry-run", "stop")
	b.wantOut("stop           web/1        shop-web-1  (asked for; it is running)\n")
	b.run("-p", "shop", "start", "--dry-run")
	b.wantInOut("start          db/1         shop-db-1  (asked for; it is created)\nstart          web/2        shop-web-2  (asked for; it is exited)\n")
	b.run("-p", "shop", "--dry-run", "down")
	b.wantInOut("stop           web/1        shop-web-1  (down)\nremove         web/1        shop-web-1  (down)\n")
	if len(b.daemon.acts)+len(b.daemon.downs) != 0 {
		t.Errorf("the daemon was asked for %v %v", b.daemon.acts, b.daemon.downs)
	}
}

func TestRmAsksFirst(t *testing.T) {
	for answer, want := range map[string]int{"y\n": 1, "yes\n": 1, "n\n": 0, "\n": 0, "": 0} {
		b := newBench(t, "")
		b.makeContainers()
		b.in = answer
		if code := b.run("-p", "shop", "rm"); code != 0 {
			t.Errorf("exit code %d: %s", code, b.err.String())
		}
		b.wantInOut("? Going to remove shop-db-1, shop-web-2 [y/N] ")
		if len(b.daemon.acts) != want {
			t.Errorf("answer %q: asked the daemon %d times, want %d", answer, len(b.daemon.acts), want)
		}
	}
	b := newBench(t, "")
	if code := b.run("-p", "shop", "rm", "-f"); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	b.wantInErr("No stopped containers\n")
}

func TestDown(t *testing.T) {
	b := newBench(t, "")
	b.makeContainers()
	if code := b.run("-p", "shop", "down", "-v", "-t", "1", "--remove-orphans", "--rmi", "all"); code != 0 {
		t.Errorf("exit code %d: %s", code, b.err.String())
	}
	d := b.daemon.downs[0]
	if !d.Volumes || !d.RemoveOrphans || d.Grace == nil || *d.Grace != time.Second {
		t.Errorf("asked for %+v", d)
	}
	b.wantInErr(" Image app  Kept  still in use\n")

	b.daemon.unknown = true
	if code := b.run("-p", "other", "down"); code != 0 {
		t.Errorf("exit code %d for an unknown stack, want 0", code)
	}
	b.wantInErr(`warning: no resource found to remove for stack "other"`)
}

func TestScaleWithAFileDeclaresIt(t *testing.T) {
	b := newBench(t, twoServices)
	if code := b.run("scale", "web=3"); code != 0 {
		t.Fatalf("exit code %d: %s", code, b.err.String())
	}
	if r := b.daemon.ups[0]; r.Scale["web"] != 3 || !r.NoRecreate || !slices.Equal(r.Services, []string{"web"}) || r.Cause != "scale web=3" {
		t.Errorf("asked for %+v", r)
	}
	if code := b.run("create"); code != 0 {
		t.Fatalf("exit code %d: %s", code, b.err.String())
	}
	if r := b.daemon.ups[1]; r.Cause != "create" {
		t.Errorf("create asked for %+v", r)
	}
	if code := b.run("up", "-d"); code != 0 {
		t.Fatalf("exit code %d: %s", code, b.err.String())
	}
	if r := b.daemon.ups[2]; r.Cause != "" {
		t.Errorf("up asked for %+v", r)
	}
}

func TestWaitGivesTheExitCode(t *testing.T) {
	b := newBench(t, "")
	b.makeContainers()
	if err := b.engine.Stop(t.Context(), "shop-web-1", "", 0); err != nil {
		t.Fatal(err)
	}
	c, err := b.engine.Inspect(t.Context(), "shop-web-2")
	if err != nil {
		t.Fatal(err)
	}
	code := b.run("-p", "shop", "wait", "--down-project", "web")
	b.wantInOut(`exited with status code`)
	if strings.Contains(b.out.String(), c.ID) != (code == 5) {
		t.Errorf("exit code %d does not fit %s", code, b.out.String())
	}
	if len(b.daemon.downs) != 1 {
		t.Error("the project was not dropped")
	}
}

func TestVersion(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"version"}, "Berth version v1.2.3\n"},
		{[]string{"version", "--short"}, "1.2.3\n"},
		{[]string{"version", "-f", "json"}, "{\"version\":\"v1.2.3\"}\n"},
		{[]string{"--version"}, "v1.2.3\n"},
	} {
		b := newBench(t, "")
		if code := b.run(tt.args...); code != 0 {
			t.Errorf("%v: exit code %d: %s", tt.args, code, b.err.String())
		}
		b.wantOut(tt.want)
	}
}

func TestMissingFileIsOneClearLine(t *testing.T) {
	b := newBench(t, "")
	if code := b.run("up", "-d"); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	if got := b.err.String(); !strings.HasPrefix(got, "berth: ") || strings.Count(got, "\n") != 1 {
		t.Errorf("standard error is not one line: %q", got)
	}
	b.environ = append(b.environ, "COMPOSE_PROJECT_NAME=shop")
	if code := b.run("stop"); code != 0 || len(b.daemon.acts) != 1 {
		t.Errorf("COMPOSE_PROJECT_NAME is not enough: exit code %d", code)
	}
}

func TestUnreachableEngineIsOneClearLine(t *testing.T) {
	a := &app{env: &Env{
		Args: []string{"-p", "shop", "rm"}, WorkingDir: t.TempDir(), Out: &lockedBuffer{}, In: strings.NewReader(""),
	}}
	var stderr lockedBuffer
	a.env.Err = &stderr
	why := errors.New("cannot reach the Docker engine at unix:///nowhere.sock: no such file; start it, or set DOCKER_HOST")
	a.env.Engine = failingEngine(why)
	if code := a.run(t.Context()); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	if got := stderr.String(); got != "berth: "+why.Error()+"\n" {
		t.Errorf("standard error: %q", got)
	}
}
