package reconcile

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
)

// discovered is a service whose name leads to ready replicas.
func discovered(name string, replicas int, deps ...stack.Dependency) stack.Service {
	s := svc(name, replicas, deps...)
	s.Discovery = stack.DiscoverReady
	s.Spec.Networks = []runtime.Attachment{{Network: "shop_default"}}
	s.Names = []runtime.Attachment{{Network: "shop_default", Aliases: []string{name}}}
	s.Spec.Expose = []string{"53/udp", "80/tcp"}
	s.Balance = stack.Balance{Drain: 10 * time.Second}
	return s
}

// relayIs adds a relay of the stack's first service; edits change it further.
func (f *fixture) relayIs(state runtime.State, edits ...func(*runtime.Container)) *fixture {
	return f.relayOf(&f.d.Stack.Services[0], state, edits...)
}

func (f *fixture) relayOf(s *stack.Service, state runtime.State, edits ...func(*runtime.Container)) *fixture {
	_, revision := newView(&f.d, &f.o, &f.m, t0).relaySpec(s)
	f.has(s.Name, 1, state, func(c *runtime.Container) {
		c.Name = "shop-" + s.Name + "-relay"
		c.ID = "id-" + c.Name
		c.Labels = runtime.Identity{Owner: owner, Stack: "shop", Service: s.Name, Slot: 1, Revision: revision, OneOff: true}.Labels()
		c.Labels[runtime.LabelRelay] = s.Name
	})
	for _, edit := range edits {
		edit(&f.o.Containers[len(f.o.Containers)-1])
	}
	return f
}

// says sets what a relay says of itself.
func (f *fixture) says(id string, s RelayState) *fixture {
	if f.o.Relays == nil {
		f.o.Relays = map[string]RelayState{}
	}
	f.o.Relays[id] = s
	return f
}

// carries sets what relays say of a container.
func (f *fixture) carries(id string, b Backend) *fixture {
	if f.o.Carried == nil {
		f.o.Carried = map[string]Backend{}
	}
	f.o.Carried[id] = b
	return f
}

func (f *fixture) edited(edit func(*fixture)) *fixture {
	edit(f)
	return f
}

func TestDecideRelay(t *testing.T) {
	obeys := RelayState{Obeys: true}
	const relay = "id-shop-web-relay"
	old := func(c *runtime.Container) {
		c.Labels[runtime.LabelRevision] = "other"
		c.Created = t0.Add(-2 * time.Hour)
	}
	scaled := func(f *fixture) { f.d.Stack.Services[0].Replicas = 1 }
	plain := func(f *fixture) {
		s := &f.d.Stack.Services[0]
		s.Discovery, s.Names, s.Revision = stack.DiscoverAll, nil, "rev-web-2"
	}
	for _, c := range []struct {
		name string
		f    *fixture
		want string
	}{
		{
			name: "a relay is created with the replicas, whatever it is made of is on its way",
			f:    shop(discovered("web", 1)),
			want: `create web/relay shop-web-relay (leads to ready replicas)
				create web/1 shop-web-1 (no container)`,
		},
		{
			name: "it waits for its network",
			f:    shop(discovered("web", 1)).edited(func(f *fixture) { clear(f.o.Networks) }),
			want: `create network network/shop_default shop_default (no network)
				hold web/relay shop-web-relay (waits for network shop_default)
				hold web/1 shop-web-1 (waits for network shop_default)`,
		},
		{
			name: "dependants wait for it",
			f: shop(discovered("web", 1), svc("app", 1, dep("web", stack.Started))).relayIs(runtime.Created).
				has("web", 1, runtime.Running).has("app", 1, runtime.Created),
			want: `start web/relay shop-web-relay (is to run)
				hold app/1 shop-app-1 (waits for web: shop-web-relay is being started)`,
		},
		{
			name: "nothing to do",
			f:    shop(discovered("web", 1)).relayIs(runtime.Running).has("web", 1, runtime.Running).says(relay, obeys),
		},
		{
			name: "one that ended is started again",
			f:    shop(discovered("web", 1)).relayIs(runtime.Exited).has("web", 1, runtime.Running),
			want: `start web/relay shop-web-relay (is to run)`,
		},
		{
			name: "one that ends at once rests first",
			f: shop(discovered("web", 1)).has("web", 1, runtime.Running).relayIs(runtime.Exited, func(c *runtime.Container) {
				c.ExitCode, c.Started, c.Finished = 2, t0.Add(-600*time.Millisecond), t0.Add(-500*time.Millisecond)
			}),
			want: `hold web/relay shop-web-relay (exited (2); it is started again)`,
		},
		{
			name: "what it cannot do is told",
			f: shop(discovered("web", 1)).relayIs(runtime.Running).has("web", 1, runtime.Running).
				says(relay, RelayState{Obeys: true, Trouble: "port :80/tcp cannot be listened at: no"}),
			want: `hold web/relay shop-web-relay (port :80/tcp cannot be listened at: no)`,
		},
		{
			name: "the name is held by somebody else",
			f: shop(discovered("web", 1)).has("web", 1, runtime.Running).relayIs(runtime.Running, func(c *runtime.Container) {
				c.Labels = map[string]string{runtime.LabelComposeProject: "shop"}
			}),
			want: `hold web/relay shop-web-relay (the name is held by a container that this Berth did not create; remove or rename it, or run up --adopt)
				orphan shop-web-relay`,
		},
		{
			name: "a changed one is made beside the old one",
			f:    shop(discovered("web", 1)).relayIs(runtime.Running, old).has("web", 1, runtime.Running).says(relay, obeys),
			want: `create web/relay shop-web-relay-REV (its ports, names or networks changed)`,
		},
		{
			name: "which stays until the new one obeys",
			f: shop(discovered("web", 1)).relayIs(runtime.Running, old).relayIs(runtime.Running, named("-REV")).
				has("web", 1, runtime.Running).says(relay, obeys).says(relay+"-REV", RelayState{}),
			want: `hold web/relay shop-web-relay-REV (is to know the ready replicas before shop-web-relay goes)`,
		},
		{
			name: "and goes then",
			f: shop(discovered("web", 1)).relayIs(runtime.Running, old).relayIs(runtime.Running, named("-REV")).
				has("web", 1, runtime.Running).says(relay, obeys).says(relay+"-REV", obeys),
			want: `remove web/relay shop-web-relay (replaced by shop-web-relay-REV)`,
		},
		{
			name: "and leaves its name",
			f: shop(discovered("web", 1)).relayIs(runtime.Running, named("-REV")).
				has("web", 1, runtime.Running).says(relay+"-REV", obeys),
			want: `rename web/relay shop-web-relay-REV -> shop-web-relay (its predecessor is gone)`,
		},
		{
			name: "a network that is made anew takes the old one at once",
			f: shop(discovered("web", 0)).relayIs(runtime.Running, old, func(c *runtime.Container) {
				c.Networks = []runtime.Endpoint{{Network: "shop_default"}}
			}).edited(func(f *fixture) { f.net("shop_default", "net-0") }),
			want: `remove web/relay shop-web-relay (network shop_default changed)
				hold network/shop_default shop_default (changed; is made anew once shop-web-relay has left it)`,
		},
		{
			name: "a stopped service has none that runs",
			f:    shop(discovered("web", 1)).relayIs(runtime.Running).has("web", 1, runtime.Exited).want("web", WantStopped),
			want: `stop web/relay shop-web-relay (stopped by command)`,
		},
		{
			name: "a service that was removed has none",
			f:    shop(discovered("web", 1)).relayIs(runtime.Running).want("web", WantAbsent),
			want: `remove web/relay shop-web-relay (the service has no relay)`,
		},
		{
			name: "one that is scaled to none keeps it",
			f:    shop(discovered("web", 0)).relayIs(runtime.Running),
		},
		{
			name: "the whole stack goes down, dependants first",
			f: shop(discovered("web", 1), svc("app", 1, dep("web", stack.Started))).relayIs(runtime.Running).
				has("app", 1, runtime.Running).edited(func(f *fixture) { f.d.Down = &Down{} }),
			want: `stop app/1 shop-app-1 (stack goes down)
				hold web/relay shop-web-relay (stops after shop-app-1, which depends on it)`,
		},
		{
			name: "networks go after it",
			f:    shop(discovered("web", 1)).relayIs(runtime.Running).edited(func(f *fixture) { f.d.Down = &Down{} }),
			want: `remove web/relay shop-web-relay (stack goes down)`,
		},
		{
			name: "a service that is gone from the file has none",
			f:    shop(discovered("web", 1)).relayIs(runtime.Running).edited(func(f *fixture) { f.d.Stack.Services = nil }),
			want: `remove web/relay shop-web-relay (no service web in the stack)`,
		},
		{
			name: "one of another profile keeps it",
			f: shop(discovered("web", 1)).relayIs(runtime.Running).edited(func(f *fixture) {
				f.d.Stack.Services, f.d.Stack.Inactive = nil, []string{"web"}
			}),
		},
		{
			name: "a service that gives it up keeps it for its old containers",
			f: shop(discovered("web", 2)).relayIs(runtime.Running).has("web", 1, runtime.Running).has("web", 2, runtime.Running).
				says(relay, obeys).edited(plain),
			want: `create web/1 shop-web-1-rev-web- (changed since revision rev-web-)
				create web/2 shop-web-2-rev-web- (changed since revision rev-web-)`,
		},
		{
			name: "and no longer",
			f: shop(discovered("web", 1)).relayIs(runtime.Running).edited(plain).has("web", 1, runtime.Running).
				says(relay, obeys),
			want: `remove web/relay shop-web-relay (the service has no relay)`,
		},
		{
			name: "who links to the service links to it",
			f: shop(discovered("web", 1), svc("app", 1)).has("web", 1, runtime.Running).edited(func(f *fixture) {
				f.d.Stack.Services[1].Spec.Links = []string{"service:web:web"}
			}),
			want: `create web/relay shop-web-relay (leads to ready replicas)
				hold app/1 shop-app-1 (waits for web, which it links to)`,
		},
		{
			name: "a replica leaves it before it stops",
			f: shop(discovered("web", 2)).relayIs(runtime.Running).has("web", 1, runtime.Running).has("web", 2, runtime.Running).
				says(relay, obeys).carries("id-shop-web-2", Backend{Routed: true}).edited(scaled),
			want: `hold web/2 shop-web-2 (is taken out of the relay: scaled to 1)`,
		},
		{
			name: "the relay has not heard of it yet",
			f: shop(discovered("web", 2)).relayIs(runtime.Running).has("web", 1, runtime.Running).has("web", 2, runtime.Running).
				says(relay, RelayState{}).edited(scaled),
			want: `hold web/2 shop-web-2 (the relay is to know of it first: scaled to 1)`,
		},
		{
			name: "and never does",
			f: shop(discovered("web", 2)).relayIs(runtime.Running).has("web", 1, runtime.Running).has("web", 2, runtime.Running).
				says(relay, RelayState{Deaf: true}).edited(scaled),
			want: `stop web/2 shop-web-2 (scaled to 1)`,
		},
		{
			name: "its connections may finish",
			f: shop(discovered("web", 2)).relayIs(runtime.Running).has("web", 1, runtime.Running).has("web", 2, runtime.Running).
				says(relay, obeys).carries("id-shop-web-2", Backend{Since: t0.Add(-time.Second), Open: 3}).edited(scaled),
			want: `hold web/2 shop-web-2 (3 open connections may finish until 10:00:09: scaled to 1)`,
		},
		{
			name: "but not for ever",
			f: shop(discovered("web", 2)).relayIs(runtime.Running).has("web", 1, runtime.Running).has("web", 2, runtime.Running).
				says(relay, obeys).carries("id-shop-web-2", Backend{Since: t0.Add(-10 * time.Second), Open: 3}).edited(scaled),
			want: `stop web/2 shop-web-2 (scaled to 1)`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, revision := newView(&c.f.d, &c.f.o, &c.f.m, t0).relaySpec(firstService(c.f))
			got := strings.ReplaceAll(squeeze(c.f.plan().String()), "-"+short(revision), "-REV")
			if diff := cmp.Diff(squeeze(c.want), got); diff != "" {
				t.Error("plan (-want +got)\n" + diff)
			}
		})
	}
}

// firstService is the stack's first, or an empty one.
func firstService(f *fixture) *stack.Service {
	if len(f.d.Stack.Services) == 0 {
		return &stack.Service{}
	}
	return &f.d.Stack.Services[0]
}

// TestRelayLeads: a relay is told of the ready replicas alone, and of shares.
func TestRelayLeads(t *testing.T) {
	f := shop(discovered("web", 4)).relayIs(runtime.Running).
		has("web", 1, runtime.Running).has("web", 2, runtime.Running, checked(runtime.HealthStarting)).
		has("web", 3, runtime.Running, checked(runtime.HealthUnhealthy)).has("web", 4, runtime.Running, checked(runtime.HealthHealthy))
	f.m.InFlight = map[Key]Step{"web/4": {Op: OpStop, Key: "web/4", Container: "id-shop-web-4"}}
	want := map[string]Relayed{"web": {Relays: []string{"id-shop-web-relay"}, Routing: Routing{
		Balance:  stack.Balance{Drain: 10 * time.Second},
		Backends: []Route{{Container: "id-shop-web-1", Name: "shop-web-1", Revision: "rev-web-1"}},
	}}}
	if diff := cmp.Diff(want, f.plan().Relayed); diff != "" {
		t.Error("(-want +got)\n" + diff)
	}
	if p := f.plan(); len(p.Routes) != 0 {
		t.Errorf("the balancer is told of ports that are not published: %v", p.Routes)
	}
}

// TestRelaySpec: the container of a relay has the service's names and ports, and
// no right that it does not need; a rollout of the service keeps it.
func TestRelaySpec(t *testing.T) {
	f := shop(discovered("web", 1))
	plan := f.plan()
	i := slices.IndexFunc(plan.Steps, func(s Step) bool { return s.Key == "web/relay" })
	s := plan.Steps[i]
	if want := []string{"53/udp", "80/tcp"}; !slices.Equal(s.Spec.Command, want) {
		t.Errorf("it relays %q, want %q", s.Spec.Command, want)
	}
	if diff := cmp.Diff(f.d.Stack.Services[0].Names, s.Spec.Networks); diff != "" {
		t.Error("networks (-want +got)\n" + diff)
	}
	if !s.Spec.ReadOnly || !slices.Equal(s.Spec.CapDrop, []string{"ALL"}) || len(s.Spec.CapAdd) > 0 || strings.HasPrefix(s.Spec.User, "0") ||
		s.Spec.Limits.Memory == 0 || !s.Spec.StdinOpen || s.Spec.StdinOnce {
		t.Errorf("its container is %+v", s.Spec)
	}
	id, err := runtime.ParseIdentity(s.Labels)
	if err != nil || !id.OneOff || id.Service != "web" || s.Labels[runtime.LabelRelay] != "web" {
		t.Errorf("its labels are %v (%v)", s.Labels, err)
	}
	for name, edit := range map[string]func(*stack.Service){
		"":         func(s *stack.Service) { s.Revision, s.Replicas, s.Spec.Image = "rev-web-2", 3, "web:2" },
		"ports":    func(s *stack.Service) { s.Spec.Ports = []runtime.Port{{Target: 81}} },
		"names":    func(s *stack.Service) { s.Names[0].Aliases = []string{"web", "www"} },
		"networks": func(s *stack.Service) { s.Names = append(s.Names, runtime.Attachment{Network: "other"}) },
	} {
		f := shop(discovered("web", 1))
		edit(&f.d.Stack.Services[0])
		_, revision := newView(&f.d, &f.o, &f.m, t0).relaySpec(&f.d.Stack.Services[0])
		if same := revision == s.Revision; same != (name == "") {
			t.Errorf("another %q: the same relay: %t", name, same)
		}
	}
	f.d.Stack.Networks[0].Revision = "net-2"
	if _, revision := newView(&f.d, &f.o, &f.m, t0).relaySpec(&f.d.Stack.Services[0]); revision == s.Revision {
		t.Error("a changed network keeps the relay")
	}
}

// created notes what the engine is asked to create.
type created struct {
	Writer
	spec *runtime.Spec
}

func (c *created) Create(_ context.Context, _ string, _ map[string]string, spec *runtime.Spec, _ map[string][]byte) (string, error) {
	c.spec = spec
	return "id", nil
}

// TestRelayProgram: the container of a relay is given Berth's own program; where
// that cannot be had, the creation says why.
func TestRelayProgram(t *testing.T) {
	s := Step{Op: OpCreate, Name: "shop-web-relay", Spec: &runtime.Spec{Command: []string{"80/tcp"}}, Labels: map[string]string{runtime.LabelRelay: "web"}}
	e := &created{}
	x := &Executor{Engine: e, Relay: func(context.Context) (string, []string, error) { return "sha256:b", []string{"/b", "relay"}, nil }}
	if _, err := x.Execute(t.Context(), "shop", s); err != nil {
		t.Fatal(err)
	}
	if e.spec.Image != "sha256:b" || !slices.Equal(e.spec.Entrypoint, []string{"/b", "relay"}) || s.Spec.Image != "" {
		t.Errorf("created %+v of %+v", e.spec, s.Spec)
	}
	x.Relay = func(context.Context) (string, []string, error) { return "", nil, errors.New("no room") }
	if _, err := x.Execute(t.Context(), "shop", s); !runtime.IsUnavailable(err) || !strings.Contains(err.Error(), "create shop-web-relay: the image of the relay: no room") {
		t.Errorf("without an image: %v", err)
	}
	x.Relay = nil
	if _, err := x.Execute(t.Context(), "shop", s); !runtime.IsInvalid(err) || !strings.Contains(err.Error(), "discovery") {
		t.Errorf("without a program: %v", err)
	}
}
