package reconcile

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
)

var t0 = time.Date(2026, 1, 2, 10, 0, 0, 0, time.UTC)

const owner = "owner-1"

// fixture builds a desired state and what the engine holds of it.
type fixture struct {
	d Desired
	o Observed
	m Memory
}

func svc(name string, replicas int, deps ...stack.Dependency) stack.Service {
	return stack.Service{
		Name: name, Replicas: replicas, Revision: "rev-" + name + "-1", DependsOn: deps,
		Spec: runtime.Spec{Image: name + ":1", StopGrace: 10 * time.Second, Networks: []runtime.Attachment{{Network: "shop_default", Aliases: []string{name}}}},
	}
}

func dep(name string, c stack.Condition) stack.Dependency {
	return stack.Dependency{Service: name, Condition: c, Required: true}
}

// shop is a stack of the services, all wanted running, on a network and with
// images that are there.
func shop(services ...stack.Service) *fixture {
	f := &fixture{
		d: Desired{
			Stack: &stack.Stack{Name: "shop", Services: services, Networks: []stack.Network{{
				Key: "default", Revision: "net-1", Spec: runtime.NetworkSpec{Name: "shop_default"},
			}}},
			Owner: owner, Services: map[string]ServiceState{},
		},
		o: Observed{Networks: map[string]runtime.Network{}, Volumes: map[string]runtime.Volume{}, Images: map[string]ImageState{}},
	}
	for _, s := range services {
		f.d.Services[s.Name] = ServiceState{Want: WantRunning}
		f.o.Images[s.Spec.Image] = ImageState{ID: "sha256:" + s.Name}
	}
	f.net("shop_default", "net-1")
	return f
}

func (f *fixture) net(name, revision string) *fixture {
	f.o.Networks[name] = runtime.Network{ID: "id-" + name, Name: name, Labels: runtime.ObjectLabels(owner, "shop", runtime.LabelComposeNetwork, "default", revision, "")}
	return f
}

// has adds a container of a replica in a state; edits change it further.
func (f *fixture) has(service string, slot int, state runtime.State, edits ...func(*runtime.Container)) *fixture {
	s := f.d.Stack.Service(service)
	revision := "rev-gone"
	image := "sha256:gone"
	if s != nil {
		revision, image = s.Revision, f.o.Images[s.Spec.Image].ID
	}
	name := runtime.ContainerName("shop", service, slot)
	c := runtime.Container{
		ID: "id-" + name, Name: name, State: state, ImageID: image, Created: t0.Add(-time.Hour),
		Labels: runtime.Identity{Owner: owner, Stack: "shop", Service: service, Slot: slot, Revision: revision}.Labels(),
	}
	if state != runtime.Created {
		c.Started = t0.Add(-30 * time.Minute)
	}
	if state == runtime.Exited {
		c.Finished = t0.Add(-time.Minute)
	}
	for _, edit := range edits {
		edit(&c)
	}
	f.o.Containers = append(f.o.Containers, c)
	return f
}

func revision(r string) func(*runtime.Container) {
	return func(c *runtime.Container) {
		c.Labels[runtime.LabelRevision] = r
	}
}

func named(suffix string) func(*runtime.Container) {
	return func(c *runtime.Container) { c.Name += suffix; c.ID += suffix }
}

func checked(h runtime.Health) func(*runtime.Container) {
	return func(c *runtime.Container) { c.Health = h }
}

func exit(code int, ago time.Duration) func(*runtime.Container) {
	return func(c *runtime.Container) { c.ExitCode, c.Finished = code, t0.Add(-ago) }
}

func (f *fixture) want(service string, w Want) *fixture {
	st := f.d.Services[service]
	st.Want = w
	f.d.Services[service] = st
	return f
}

func (f *fixture) plan() *Plan { return Decide(&f.d, &f.o, &f.m, t0) }

// squeeze makes a plan's text independent of its columns.
func squeeze(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		if s := strings.Join(strings.Fields(line), " "); s != "" {
			lines = append(lines, s)
		}
	}
	return strings.Join(lines, "\n")
}

func TestDecide(t *testing.T) {
	deployed := func(policy stack.RestartPolicy) stack.Service {
		s := svc("web", 1)
		s.Restart = &policy
		return s
	}
	cases := []struct {
		name string
		f    *fixture
		edit func(*fixture)
		want string
	}{
		{name: "nothing to do", f: shop(svc("web", 1)).has("web", 1, runtime.Running)},
		{
			name: "first up creates the network first",
			f:    shop(svc("web", 2)),
			edit: func(f *fixture) { clear(f.o.Networks) },
			want: `create network network/shop_default shop_default (no network)
				hold web/1 shop-web-1 (waits for network shop_default)
				hold web/2 shop-web-2 (waits for network shop_default)`,
		},
		{
			name: "replicas are created side by side",
			f:    shop(svc("web", 2)),
			want: `create web/1 shop-web-1 (no container)
				create web/2 shop-web-2 (no container)`,
		},
		{
			name: "a dependant is created early and started late",
			f:    shop(svc("db", 1), svc("web", 1, dep("db", stack.Healthy))).has("db", 1, runtime.Running, checked(runtime.HealthStarting)).has("web", 1, runtime.Created),
			want: `hold web/1 shop-web-1 (waits for shop-db-1 to be healthy)`,
		},
		{
			name: "a healthy dependency lets its dependant start",
			f:    shop(svc("db", 1), svc("web", 1, dep("db", stack.Healthy))).has("db", 1, runtime.Running, checked(runtime.HealthHealthy)).has("web", 1, runtime.Created),
			want: `start web/1 shop-web-1 (created, not started)`,
		},
		{
			name: "an unhealthy dependency is named",
			f: shop(svc("db", 1), svc("web", 1, dep("db", stack.Healthy))).
				has("db", 1, runtime.Running, checked(runtime.HealthUnhealthy), func(c *runtime.Container) { c.HealthOutput = "x\nno such table\n" }).
				has("web", 1, runtime.Created),
			want: `hold web/1 shop-web-1 (dependency shop-db-1 is unhealthy: no such table)`,
		},
		{
			name: "a dependency without healthcheck cannot become healthy",
			f:    shop(svc("db", 1), svc("web", 1, dep("db", stack.Healthy))).has("db", 1, runtime.Running).has("web", 1, runtime.Created),
			want: `hold web/1 shop-web-1 (dependency shop-db-1 has no healthcheck; give it one or use condition: service_started)`,
		},
		{
			name: "a job is waited for",
			f:    shop(svc("job", 1), svc("web", 1, dep("job", stack.Completed))).has("job", 1, runtime.Running).has("web", 1, runtime.Created),
			want: `hold web/1 shop-web-1 (waits for shop-job-1 to complete)`,
		},
		{
			name: "a failed job holds its dependant",
			f:    shop(svc("job", 1), svc("web", 1, dep("job", stack.Completed))).has("job", 1, runtime.Exited, exit(3, time.Minute)).has("web", 1, runtime.Created),
			want: `hold job/1 shop-job-1 (exited (3); restart: no)
				hold web/1 shop-web-1 (dependency shop-job-1 didn't complete successfully: exit 3)`,
		},
		{
			name: "an optional dependency that fails only warns",
			f: shop(svc("job", 1), svc("web", 1, stack.Dependency{Service: "job", Condition: stack.Completed})).
				has("job", 1, runtime.Exited, exit(3, time.Minute)).has("web", 1, runtime.Created),
			want: `start web/1 shop-web-1 (created, not started)
				hold job/1 shop-job-1 (exited (3); restart: no)`,
		},
		{
			name: "dependants wait for a start that is still to come",
			f:    shop(svc("db", 1), svc("web", 1, dep("db", stack.Started))).has("db", 1, runtime.Created).has("web", 1, runtime.Created),
			want: `start db/1 shop-db-1 (created, not started)
				hold web/1 shop-web-1 (waits for db: shop-db-1 is being started)`,
		},
		{
			name: "scaling down takes the highest slots",
			f:    shop(svc("web", 1)).has("web", 1, runtime.Running).has("web", 2, runtime.Running).has("web", 3, runtime.Exited),
			want: `stop web/2 shop-web-2 (scaled to 1)
				remove web/3 shop-web-3 (scaled to 1)`,
		},
		{
			name: "a changed spec is created beside the old container",
			f:    shop(svc("web", 1)).has("web", 1, runtime.Running, revision("rev-web-0")),
			edit: func(f *fixture) {
				f.d.Services["web"] = ServiceState{Want: WantRunning, ChangedFrom: "rev-web-0", Changed: []string{"environment.MODE", "image"}}
			},
			want: `create web/1 shop-web-1-rev-web- (changed: environment.MODE, image)`,
		},
		{
			name: "then the old one stops",
			f: shop(svc("web", 1)).has("web", 1, runtime.Running, revision("rev-web-0")).
				has("web", 1, runtime.Created, named("-rev-web-")),
			want: `stop web/1 shop-web-1 (replaced: changed since revision rev-web-)`,
		},
		{
			name: "then the new one starts",
			f: shop(svc("web", 1)).has("web", 1, runtime.Exited, revision("rev-web-0")).
				has("web", 1, runtime.Created, named("-rev-web-")),
			want: `start web/1 shop-web-1-rev-web- (created, not started)`,
		},
		{
			name: "then the old one goes",
			f: shop(svc("web", 1)).has("web", 1, runtime.Exited, revision("rev-web-0")).
				has("web", 1, runtime.Running, named("-rev-web-")),
			want: `remove web/1 shop-web-1 (replaced: changed since revision rev-web-)`,
		},
		{
			name: "and the new one takes the name",
			f:    shop(svc("web", 1)).has("web", 1, runtime.Running, named("-rev-web-")),
			want: `rename web/1 shop-web-1-rev-web- -> shop-web-1 (its predecessor is gone)`,
		},
		{
			name: "a missing image keeps the old revision running",
			f:    shop(svc("web", 1)).has("web", 1, runtime.Running, revision("rev-web-0")),
			edit: func(f *fixture) { clear(f.o.Images) },
			want: `pull image/web:1 web:1 (image missing)
				hold web/1 shop-web-1 (waits for image web:1)`,
		},
		{
			name: "a failed pull is tried again later",
			f:    shop(svc("web", 1)),
			edit: func(f *fixture) {
				clear(f.o.Images)
				f.m.Failures = map[Key]Failure{"image/web:1": {Op: OpPull, Kind: runtime.KindNotFound, Err: "pull web:1: no such host", Count: 2, At: t0.Add(-time.Second)}}
			},
			want: `hold image/web:1 web:1 (pull web:1: no such host; try 3 follows at 10:00:19)
				hold web/1 shop-web-1 (waits for image web:1)`,
		},
		{
			name: "an invalid start is never tried again",
			f:    shop(svc("web", 1)).has("web", 1, runtime.Created),
			edit: func(f *fixture) {
				f.m.Failures = map[Key]Failure{"web/1": {Op: OpStart, Kind: runtime.KindInvalid, Err: "start shop-web-1: no such command", Count: 1, At: t0, Revision: "rev-web-1"}}
			},
			want: `hold web/1 shop-web-1 (start shop-web-1: no such command)`,
		},
		{
			name: "a container the engine cannot start is made anew in the end",
			f:    shop(svc("web", 1)).has("web", 1, runtime.Created),
			edit: func(f *fixture) {
				s := Step{Op: OpStart, Key: "web/1", Container: "id-shop-web-1", Revision: "rev-web-1"}
				for range brokenStarts {
					f.m.End(s, errors.New("task already exists"), t0)
				}
			},
			want: `create web/1 shop-web-1-rev-web- (the engine cannot start it: task already exists)`,
		},
		{
			name: "a step in flight is waited for",
			f:    shop(svc("web", 1)).has("web", 1, runtime.Created),
			edit: func(f *fixture) { f.m.Begin(Step{Op: OpStart, Key: "web/1", Name: "shop-web-1"}) },
			want: `hold web/1 shop-web-1 (start in progress)`,
		},
		{
			name: "limits change in place",
			f:    shop(svc("web", 1)).has("web", 1, runtime.Running),
			edit: func(f *fixture) { f.d.Stack.Services[0].Spec.Limits.Memory = 64 << 20 },
			want: `update web/1 shop-web-1 (changed: memory)`,
		},
		{
			name: "swap that the engine fills in is no difference",
			f: shop(svc("web", 1)).has("web", 1, runtime.Running, func(c *runtime.Container) {
				c.Limits.Memory, c.Limits.MemorySwap = 64<<20, 128<<20
			}),
			edit: func(f *fixture) { f.d.Stack.Services[0].Spec.Limits.Memory = 64 << 20 },
		},
		{
			name: "a restart policy changed from outside is reset",
			f: shop(svc("web", 1)).has("web", 1, runtime.Running, func(c *runtime.Container) {
				c.Restart = runtime.RestartPolicy{Name: "always"}
			}),
			want: `update web/1 shop-web-1 (changed: restart)`,
		},
		{
			name: "the engine's own policy is the engine's business",
			f: shop(svc("web", 1)).has("web", 1, runtime.Exited, exit(0, time.Minute), func(c *runtime.Container) {
				c.Restart = runtime.RestartPolicy{Name: "on-failure"}
			}),
			edit: func(f *fixture) { f.d.Stack.Services[0].Spec.Restart = runtime.RestartPolicy{Name: "on-failure"} },
			want: `hold web/1 shop-web-1 (exited (0); restart: on-failure leaves it so)`,
		},
		{
			name: "deploy.restart_policy waits its delay",
			f:    shop(deployed(stack.RestartPolicy{Condition: "any", Delay: 5 * time.Second})).has("web", 1, runtime.Exited, exit(1, 2*time.Second)),
			want: `hold web/1 shop-web-1 (exited (1); restarts at 10:00:03)`,
		},
		{
			name: "and then restarts",
			f:    shop(deployed(stack.RestartPolicy{Condition: "any", Delay: 5 * time.Second, MaxAttempts: 3})).has("web", 1, runtime.Exited, exit(1, 6*time.Second)),
			want: `start web/1 shop-web-1 (exited (1), restart 1 of 3 by restart_policy)`,
		},
		{
			name: "a clock set back does not prolong the delay",
			f:    shop(deployed(stack.RestartPolicy{Condition: "any", Delay: 5 * time.Second})).has("web", 1, runtime.Exited, exit(1, -time.Hour)),
			want: `start web/1 shop-web-1 (exited (1), restart 1 by restart_policy)`,
		},
		{
			name: "max_attempts within the window ends it",
			f:    shop(deployed(stack.RestartPolicy{Condition: "any", MaxAttempts: 2, Window: time.Minute})).has("web", 1, runtime.Exited, exit(1, time.Second)),
			edit: func(f *fixture) {
				f.m.Restarts = map[Key][]Restart{"web/1": {
					{At: t0.Add(-2 * time.Minute), Revision: "rev-web-1"},
					{At: t0.Add(-40 * time.Second), Revision: "rev-web-1"},
					{At: t0.Add(-20 * time.Second), Revision: "rev-web-1"},
				}}
			},
			want: `hold web/1 shop-web-1 (exited (1); 2 restarts, max_attempts: 2 within 1m0s)`,
		},
		{
			name: "a new revision starts the count anew",
			f:    shop(deployed(stack.RestartPolicy{Condition: "any", MaxAttempts: 1})).has("web", 1, runtime.Exited, exit(1, time.Second)),
			edit: func(f *fixture) {
				f.m.Restarts = map[Key][]Restart{"web/1": {{At: t0.Add(-time.Minute), Revision: "rev-web-0"}}}
			},
			want: `start web/1 shop-web-1 (exited (1), restart 1 of 1 by restart_policy)`,
		},
		{
			name: "on-failure leaves a success alone",
			f:    shop(deployed(stack.RestartPolicy{Condition: "on-failure"})).has("web", 1, runtime.Exited, exit(0, time.Minute)),
			want: `hold web/1 shop-web-1 (exited (0); restart_policy: on-failure)`,
		},
		{
			name: "an exit with the engine is no failure",
			f:    shop(deployed(stack.RestartPolicy{Condition: "on-failure", Delay: time.Hour, MaxAttempts: 1})).has("web", 1, runtime.Exited, exit(255, 10*time.Second)),
			edit: func(f *fixture) { f.m.EngineDown, f.m.EngineUp = t0.Add(-20*time.Second), t0.Add(-5*time.Second) },
			want: `start web/1 shop-web-1 (ended with the engine)`,
		},
		{
			name: "stop takes dependants first",
			f:    shop(svc("db", 1), svc("web", 1, dep("db", stack.Started))).has("db", 1, runtime.Running).has("web", 1, runtime.Running).want("db", WantStopped).want("web", WantStopped),
			want: `stop web/1 shop-web-1 (stopped by command)
				hold db/1 shop-db-1 (stops after shop-web-1, which depends on it)`,
		},
		{
			name: "stopping only a dependency does not wait for its dependants",
			f:    shop(svc("db", 1), svc("web", 1, dep("db", stack.Started))).has("db", 1, runtime.Running).has("web", 1, runtime.Running).want("db", WantStopped),
			want: `stop db/1 shop-db-1 (stopped by command)`,
		},
		{
			name: "pause and unpause",
			f:    shop(svc("a", 1), svc("b", 1)).has("a", 1, runtime.Running).has("b", 1, runtime.Paused).want("a", WantPaused),
			want: `pause a/1 shop-a-1 (paused by command)
				unpause b/1 shop-b-1 (is to run)`,
		},
		{
			name: "a dead container is removed before it is replaced",
			f:    shop(svc("web", 1)).has("web", 1, runtime.Dead),
			want: `remove web/1 shop-web-1 (the container is dead)`,
		},
		{
			name: "an orphan is reported, not removed",
			f:    shop(svc("web", 1)).has("web", 1, runtime.Running).has("old", 1, runtime.Running),
			want: `orphan shop-old-1`,
		},
		{
			name: "an orphan is removed when asked",
			f:    shop(svc("web", 1)).has("web", 1, runtime.Running).has("old", 1, runtime.Running),
			edit: func(f *fixture) { f.d.RemoveOrphans = true },
			want: `stop container/shop-old-1 shop-old-1 (orphan: no service old in the stack)`,
		},
		{
			name: "what another owner made is never touched",
			f: shop(svc("web", 1)).has("web", 1, runtime.Running).has("old", 1, runtime.Running, func(c *runtime.Container) {
				c.Labels[runtime.LabelOwner] = "someone-else"
			}),
			edit: func(f *fixture) { f.d.RemoveOrphans = true },
			want: `orphan shop-old-1`,
		},
		{
			name: "an unknown label schema is an orphan",
			f: shop(svc("web", 1)).has("web", 1, runtime.Running).has("web", 2, runtime.Running, func(c *runtime.Container) {
				c.Labels[runtime.LabelSchema] = "99"
			}),
			edit: func(f *fixture) { f.d.RemoveOrphans, f.d.Adopt = true, true },
			want: `orphan shop-web-2`,
		},
		{
			name: "a name held by a stranger is said, and the stranger left alone",
			f:    shop(svc("web", 1)),
			edit: func(f *fixture) {
				f.o.Containers = append(f.o.Containers, runtime.Container{ID: "x", Name: "shop-web-1", State: runtime.Running, Labels: map[string]string{runtime.LabelComposeProject: "shop"}})
			},
			want: `hold web/1 shop-web-1 (the name is held by a container that this Berth did not create; remove or rename it, or run up --adopt)
				orphan shop-web-1`,
		},
		{
			name: "a changed network is made anew once its containers have left",
			f: shop(svc("web", 1)).net("shop_default", "net-0").has("web", 1, runtime.Running, revision("rev-web-0"), func(c *runtime.Container) {
				c.Networks = []runtime.Endpoint{{Network: "shop_default"}}
			}),
			want: `stop web/1 shop-web-1 (network shop_default changed)
				hold network/shop_default shop_default (changed; is made anew once shop-web-1 has left it)`,
		},
		{
			name: "a changed network without live containers is removed",
			f:    shop(svc("web", 1)).net("shop_default", "net-0").has("web", 1, runtime.Exited, revision("rev-web-0")),
			want: `remove network network/shop_default shop_default (changed since revision net-0)
				hold web/1 shop-web-1 (waits for network shop_default)`,
		},
		{
			name: "down takes dependants first and networks last",
			f:    shop(svc("db", 1), svc("web", 1, dep("db", stack.Started))).has("db", 1, runtime.Running).has("web", 1, runtime.Running),
			edit: func(f *fixture) { f.d.Down = &Down{} },
			want: `stop web/1 shop-web-1 (stack goes down)
				hold db/1 shop-db-1 (stops after shop-web-1, which depends on it)`,
		},
		{
			name: "down without grace is one call a container",
			f:    shop(svc("web", 1)).has("web", 1, runtime.Running),
			edit: func(f *fixture) { f.d.Down = &Down{Grace: new(time.Duration)} },
			want: `remove web/1 shop-web-1 (stack goes down)`,
		},
		{
			name: "the network goes last",
			f:    shop(svc("web", 1)),
			edit: func(f *fixture) { f.d.Down = &Down{} },
			want: `remove network network/shop_default shop_default (stack goes down)`,
		},
		{
			name: "the files of a container that is gone go after it",
			f:    shop(svc("web", 1)).has("web", 1, runtime.Running, func(c *runtime.Container) { c.Mounts = []runtime.MountPoint{{Name: "files-used"}} }),
			edit: func(f *fixture) {
				ours := runtime.FileVolumeLabels(f.o.Containers[0].Labels)
				f.o.Volumes = map[string]runtime.Volume{
					"files-used": {Name: "files-used", Labels: ours}, "files-left": {Name: "files-left", Labels: ours},
					"data": {Name: "data", Labels: map[string]string{runtime.LabelComposeProject: "shop"}},
				}
			},
			want: `remove volume volume/files-left files-left (its container is gone)`,
		},
		{
			name: "and are left alone while a container is being created",
			f:    shop(svc("web", 1)),
			edit: func(f *fixture) {
				labels := runtime.Identity{Owner: owner, Stack: "shop", Service: "web", Slot: 1}.Labels()
				f.o.Volumes["files-new"] = runtime.Volume{Name: "files-new", Labels: runtime.FileVolumeLabels(labels)}
				f.m.Begin(Step{Op: OpCreate, Key: "web/1", Name: "shop-web-1"})
			},
			want: `hold web/1 shop-web-1 (create in progress)`,
		},
		{
			name: "down takes them without being asked for volumes",
			f:    shop(svc("web", 1)),
			edit: func(f *fixture) {
				labels := runtime.Identity{Owner: owner, Stack: "shop", Service: "web", Slot: 1}.Labels()
				f.o.Volumes["files-left"] = runtime.Volume{Name: "files-left", Labels: runtime.FileVolumeLabels(labels)}
				f.d.Down = &Down{}
			},
			want: `remove volume volume/files-left files-left (its container is gone)`,
		},
		{
			name: "a lost stack is only shown",
			f:    shop(svc("web", 1)).has("web", 1, runtime.Running),
			edit: func(f *fixture) { f.d = Desired{Owner: owner, Lost: true} },
			want: `hold container/shop-web-1 shop-web-1 (its stack's file was lost; run up to take it over or down to remove it)`,
		},
		{
			name: "a container the engine does not answer about is left alone",
			f:    shop(svc("web", 1)).has("web", 1, runtime.Created),
			edit: func(f *fixture) { f.o.Unknown = map[string]string{"id-shop-web-1": "inspect: timed out"} },
			want: `hold web/1 shop-web-1 (the engine does not answer about this container: inspect: timed out)`,
		},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			if tc.edit != nil {
				tc.edit(tc.f)
			}
			if diff := cmp.Diff(squeeze(tc.want), squeeze(tc.f.plan().String())); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDownIsGoneAtTheEnd(t *testing.T) {
	f := shop(svc("web", 1))
	clear(f.o.Networks)
	f.d.Down = &Down{}
	if p := f.plan(); !p.Gone || !p.Empty() {
		t.Errorf("plan = %v, gone %v; want nothing left", p, p.Gone)
	}
}

func TestRequestsAreCarriedOutOnce(t *testing.T) {
	f := shop(svc("web", 1)).has("web", 1, runtime.Running)
	c := &f.o.Containers[0]
	f.d.Requests = []Request{{Op: runtime.OpRestart, Container: c.ID, Started: c.Started, Cause: "restarted by command"}}
	if got, want := squeeze(f.plan().String()), "restart web/1 shop-web-1 (restarted by command)"; got != want {
		t.Fatalf("plan = %q, want %q", got, want)
	}
	c.Started = c.Started.Add(time.Minute) // the restart has happened
	p := f.plan()
	if !p.Empty() || len(p.Satisfied) != 1 {
		t.Errorf("after the restart: plan %q, satisfied %v; want nothing and the request done", p, p.Satisfied)
	}
	if !f.d.Forget(p) || len(f.d.Requests) != 0 {
		t.Errorf("requests = %v, want none", f.d.Requests)
	}
}

func TestRestartWaitsForTheDependencysReplacement(t *testing.T) {
	f := shop(svc("db", 1), svc("web", 1, dep("db", stack.Started))).
		has("db", 1, runtime.Running, revision("rev-db-0")).has("web", 1, runtime.Running)
	web := f.o.Containers[1]
	f.d.Requests = []Request{{Op: runtime.OpRestart, Container: web.ID, Started: web.Started, Cause: "db was replaced"}}
	want := squeeze(`create db/1 shop-db-1-rev-db-1 (changed since revision rev-db-0)
		hold web/1 shop-web-1 (restarts after shop-db-1-rev-db-1, which is being created)`)
	if got := squeeze(f.plan().String()); got != want {
		t.Errorf("plan = %s\nwant %s", got, want)
	}
}

func TestAnonymousVolumesAreCarriedOver(t *testing.T) {
	s := svc("web", 1)
	s.Spec.Mounts = []runtime.Mount{{Type: runtime.MountVolume, Target: "/cache"}}
	f := shop(s).has("web", 1, runtime.Running, revision("rev-web-0"), func(c *runtime.Container) {
		c.Mounts = []runtime.MountPoint{
			{Type: runtime.MountVolume, Name: "anon-1", Target: "/cache"},
			{Type: runtime.MountVolume, Name: "anon-2", Target: "/data"},
			{Type: runtime.MountVolume, Name: "anon-3", Target: "/no-longer-declared"},
		}
	})
	f.o.Images["web:1"] = ImageState{ID: "sha256:web", Volumes: []string{"/data"}}
	got := f.plan().Steps[0].Spec.Mounts
	want := []runtime.Mount{
		{Type: runtime.MountVolume, Source: "anon-1", Target: "/cache"},
		{Type: runtime.MountVolume, Source: "anon-2", Target: "/data"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("mounts (-want +got):\n%s", diff)
	}
	st := f.d.Services["web"]
	st.RenewVolumes = true
	f.d.Services["web"] = st
	if got := f.plan().Steps[0].Spec.Mounts; len(got) != 1 || got[0].Source != "" {
		t.Errorf("renewed mounts = %v, want a fresh /cache", got)
	}
}

func TestTemplatesAndReferences(t *testing.T) {
	s := svc("web", 2)
	s.Spec.Env = []string{"ME={{.Service.Name}}-{{ .Task.Slot }}", "N={{.Task.Name}}", "RAW={{.Other}}"}
	s.Spec.Hostname = "web-{{.Task.Slot}}"
	s.Spec.PidMode = "service:db"
	f := shop(svc("db", 1), s).has("db", 1, runtime.Running).has("web", 1, runtime.Running)
	spec := f.plan().Steps[0].Spec
	if diff := cmp.Diff([]string{"ME=web-2", "N=shop-web-2", "RAW={{.Other}}"}, spec.Env); diff != "" {
		t.Errorf("env (-want +got):\n%s", diff)
	}
	if spec.Hostname != "web-2" || spec.PidMode != "container:id-shop-db-1" {
		t.Errorf("hostname %q, pid %q", spec.Hostname, spec.PidMode)
	}
	if diff := cmp.Diff([]string{"web", "shop-web-2"}, spec.Networks[0].Aliases); diff != "" {
		t.Errorf("aliases (-want +got):\n%s", diff)
	}
	if got := f.d.Stack.Services[1].Spec.Env[1]; got != "N={{.Task.Name}}" {
		t.Errorf("the template itself was changed: %q", got)
	}
}

func TestPinnedImage(t *testing.T) {
	f := shop(svc("web", 1)).has("web", 1, runtime.Running)
	f.d.Services["web"] = ServiceState{Want: WantRunning, ImageID: "sha256:web"}
	f.o.Images["web:1"] = ImageState{ID: "sha256:moved"}
	f.o.Images["sha256:web"] = ImageState{ID: "sha256:web"}
	if p := f.plan(); !p.Empty() {
		t.Errorf("a tag that moved replaced a container: %s", p)
	}
	f.o.Containers = nil
	if got := f.plan().Steps[0].Spec.Image; got != "sha256:web" {
		t.Errorf("a lost container came back from image %q, want the pinned one", got)
	}
	f.has("web", 1, runtime.Running, func(c *runtime.Container) { c.ImageID = "sha256:web" })
	f.d.Services["web"] = ServiceState{Want: WantRunning, ImageID: "sha256:moved"}
	if got, want := squeeze(f.plan().String()), "create web/1 shop-web-1-rev-web- (image web:1 changed)"; got != want {
		t.Errorf("plan = %q, want %q", got, want)
	}
}

func TestChangedNamesKeysButNoValues(t *testing.T) {
	a, b := svc("web", 1), svc("web", 1)
	a.Spec.Env = []string{"A=1", "TOKEN=hunter2"}
	b.Spec.Env = []string{"A=1", "TOKEN=hunter3", "NEW=1"}
	b.Spec.Image = "web:2"
	b.Spec.Limits.Memory = 5
	want := []string{"environment.NEW", "environment.TOKEN", "image"}
	if diff := cmp.Diff(want, Changed(&a, &b)); diff != "" {
		t.Errorf("changed (-want +got):\n%s", diff)
	}
}

func TestPlanForm(t *testing.T) {
	p := Plan{
		Steps:   []Step{{Op: OpStart, Key: "web/1", Name: "shop-web-1", Cause: "created, not started"}},
		Holds:   []Hold{{Kind: HoldWaiting, Key: "web/2", Name: "shop-web-2", Reason: "waits for db"}},
		Orphans: []string{"shop-old-1"},
	}
	want := `start          web/1        shop-web-1  (created, not started)
hold           web/2        shop-web-2  (waits for db)
orphan         shop-old-1
`
	if diff := cmp.Diff(want, p.String()); diff != "" {
		t.Errorf("text (-want +got):\n%s", diff)
	}
}
