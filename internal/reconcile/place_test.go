package reconcile

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/scheduler"
)

const mib = int64(1) << 20

// node is a virtual node with so many millicores and MiB; labels as "key=value".
func node(name string, cpu, memory int64, labels ...string) Node {
	n := Node{Node: scheduler.Node{Name: name, Capacity: scheduler.Resources{CPU: cpu, Memory: memory * mib}, Labels: map[string]string{}}}
	n.Parent = "/berth/" + name
	for _, l := range labels {
		key, value, _ := strings.Cut(l, "=")
		n.Labels[key] = value
	}
	return n
}

// needs gives every replica of a service a reservation.
func needs(s stack.Service, cpu, memory int64) stack.Service {
	s.Placement.Reservation = scheduler.Resources{CPU: cpu, Memory: memory * mib}
	return s
}

// on is a shop whose services are placed on nodes.
func on(f *fixture, nodes ...Node) *fixture {
	for i := range f.d.Stack.Services {
		s := &f.d.Stack.Services[i]
		s.Placement.Stack, s.Placement.Service = "shop", s.Name
	}
	f.o.Cluster = &Cluster{Nodes: nodes}
	return f
}

// scarce has a node run out of memory.
func scarce(n Node) Node {
	n.Short = "memory"
	return n
}

// shed has a replica's container leave its node.
func (f *fixture) shed(service string, slot int) *fixture {
	for i := range f.o.Containers {
		c := &f.o.Containers[i]
		if id, err := runtime.ParseIdentity(c.Labels); err == nil && id.Service == service && id.Slot == slot {
			f.o.Cluster.Shed = map[Key]Shed{ReplicaKey(service, slot): {Container: c.ID, Node: id.Node, Why: "node edge-1 is short of memory"}}
		}
	}
	return f
}

// at says on which node a container stands.
func at(node string) func(*runtime.Container) {
	return func(c *runtime.Container) { c.Labels[runtime.LabelNode] = node }
}

func since(ago time.Duration) func(*runtime.Container) {
	return func(c *runtime.Container) { c.Started = t0.Add(-ago) }
}

func (f *fixture) predicted() string { return squeeze(Predict(&f.d, &f.o, &f.m, t0).String()) }

func lines(text string) string { return squeeze(text) }

func TestReplicasArePlaced(t *testing.T) {
	cases := []struct {
		name string
		f    func() *fixture
		want string
	}{
		{
			name: "over the nodes, the emptiest first",
			f: func() *fixture {
				return on(shop(needs(svc("web", 3), 100, 64)), node("edge-1", 500, 256), node("edge-2", 500, 256))
			},
			want: `create web/1 shop-web-1 on edge-1 (no container)
				create web/2 shop-web-2 on edge-2 (no container)
				create web/3 shop-web-3 on edge-1 (no container)`,
		},
		{
			name: "what stands counts, and stays",
			f: func() *fixture {
				return on(shop(needs(svc("web", 2), 100, 64)), node("edge-1", 500, 256), node("edge-2", 500, 256)).
					has("web", 1, runtime.Running, at("edge-1"))
			},
			want: `create web/2 shop-web-2 on edge-2 (no container)`,
		},
		{
			name: "replicas of other stacks hold their room",
			f: func() *fixture {
				f := on(shop(needs(svc("web", 1), 100, 200)), node("edge-1", 500, 256), node("edge-2", 500, 256))
				f.o.Cluster.Others = []Resident{{
					Stack: "other", Service: "db", Slot: 1, Node: "edge-1", Started: t0,
					Template: &scheduler.Template{Stack: "other", Service: "db", Reservation: scheduler.Resources{Memory: 100 * mib}},
				}}
				return f
			},
			want: `create web/1 shop-web-1 on edge-2 (no container)`,
		},
		{
			name: "what no node takes is held, with the reason and what would help",
			f: func() *fixture {
				return on(shop(needs(svc("web", 2), 0, 200)), node("edge-1", 500, 256), node("edge-2", 500, 128))
			},
			want: `create web/1 shop-web-1 on edge-1 (no container)
				hold web/2 shop-web-2 (0/2 nodes: 2 insufficient memory (needs 200M, 128M free on edge-2); reserve 128M of memory instead of 200M, or raise that of edge-2 by 72M)`,
		},
		{
			name: "a node whose boundary is still to be made is waited for",
			f: func() *fixture {
				n := node("edge-1", 500, 256)
				n.Pending = "its boundary is being made"
				return on(shop(needs(svc("web", 1), 100, 64)), n)
			},
			want: `hold web/1 shop-web-1 (waits for node edge-1: its boundary is being made)`,
		},
		{
			name: "a replacement stays on its node",
			f: func() *fixture {
				return on(shop(needs(svc("web", 1), 100, 64)), node("edge-1", 500, 256), node("edge-2", 500, 256)).
					has("web", 1, runtime.Running, at("edge-2"), revision("rev-old"))
			},
			want: `create web/1 shop-web-1-rev-web- on edge-2 (changed since revision rev-old)`,
		},
		{
			name: "what has failed is taken away at once, all of it",
			f: func() *fixture {
				down := node("edge-1", 500, 256)
				down.Down = true
				return on(shop(needs(svc("web", 2), 100, 64)), down, node("edge-2", 500, 256)).
					has("web", 1, runtime.Running, at("edge-1")).has("web", 2, runtime.Running, at("edge-1"))
			},
			want: `remove web/1 shop-web-1 (node edge-1 failed)
				remove web/2 shop-web-2 (node edge-1 failed)`,
		},
		{
			name: "a drained node is left one replica at a time",
			f: func() *fixture {
				drained := node("edge-1", 500, 256)
				drained.Drain = &Drain{Since: t0}
				return on(shop(needs(svc("web", 2), 100, 64)), drained, node("edge-2", 500, 256)).
					has("web", 1, runtime.Running, at("edge-1")).has("web", 2, runtime.Running, at("edge-1"))
			},
			want: `create web/1 shop-web-1-rev-web- on edge-2 (node edge-1 is drained)
				hold web/2 shop-web-2 (node edge-1 is drained; web/1 moves first)`,
		},
		{
			name: "a drain waits while another replica is not ready",
			f: func() *fixture {
				drained := node("edge-1", 500, 256)
				drained.Drain = &Drain{Since: t0}
				return on(shop(needs(svc("web", 2), 100, 64)), drained, node("edge-2", 500, 256)).
					has("web", 1, runtime.Running, at("edge-1")).
					has("web", 2, runtime.Running, at("edge-2"), checked(runtime.HealthStarting))
			},
			want: `hold web/1 shop-web-1 (node edge-1 is drained; waits until web/2 is ready)`,
		},
		{
			name: "a drain does not wait for a replica that crashes again and again, and starts the next one first",
			f: func() *fixture {
				drained := node("edge-1", 500, 256)
				drained.Drain = &Drain{Since: t0}
				f := on(shop(needs(svc("web", 2), 100, 64)), drained, node("edge-2", 500, 256)).
					has("web", 1, runtime.Running, at("edge-1")).has("web", 2, runtime.Exited, at("edge-2"), exit(1, time.Minute)).
					has("web", 1, runtime.Created, at("edge-2"), named("-next"))
				f.d.Stack.Services[0].Restart = &stack.RestartPolicy{Condition: "any", Delay: time.Hour}
				f.d.Stack.Services[0].Update = stack.DefaultUpdate()
				return f
			},
			want: `start web/1 shop-web-1-next (created, not started)
				hold web/2 shop-web-2 (exited (1); restarts at 10:59:00)`,
		},
		{
			name: "a drain waits for a replica that crashes where two cannot be there at once",
			f: func() *fixture {
				drained := node("edge-1", 500, 256)
				drained.Drain = &Drain{Since: t0}
				f := on(shop(needs(svc("web", 2), 100, 64)), drained, node("edge-2", 500, 256)).
					has("web", 1, runtime.Running, at("edge-1")).has("web", 2, runtime.Exited, at("edge-2"), exit(1, time.Minute))
				f.d.Stack.Services[0].Restart = &stack.RestartPolicy{Condition: "any", Delay: time.Hour}
				f.d.Stack.Services[0].Spec.Ports = []runtime.Port{{Target: 80, Published: "8080", Protocol: "tcp"}}
				f.d.Stack.Services[0].Publish = stack.PublishDirect
				f.d.Stack.Services[0].Update = stack.DefaultUpdate()
				published := newView(&f.d, &f.o, &f.m, t0).publishOf(&f.d.Stack.Services[0])
				for i := range f.o.Containers {
					f.o.Containers[i].Labels[runtime.LabelPublish] = published
				}
				return f
			},
			want: `hold web/1 shop-web-1 (node edge-1 is drained; waits until web/2 is ready)
				hold web/2 shop-web-2 (exited (1); restarts at 10:59:00)`,
		},
		{
			name: "a drain waits for a replica that has only just been started",
			f: func() *fixture {
				drained := node("edge-1", 500, 256)
				drained.Drain = &Drain{Since: t0.Add(-time.Second)}
				young := func(c *runtime.Container) { c.Started = t0.Add(-2 * time.Second) }
				return on(shop(needs(svc("web", 2), 100, 64)), drained, node("edge-2", 500, 256)).
					has("web", 1, runtime.Running, at("edge-1")).
					has("web", 2, runtime.Running, at("edge-2"), checked(runtime.HealthUnhealthy), young)
			},
			want: `hold web/1 shop-web-1 (node edge-1 is drained; waits until web/2 is ready)`,
		},
		{
			name: "a drain does not wait for a replica that has not been ready for long",
			f: func() *fixture {
				drained := node("edge-1", 500, 256)
				drained.Drain = &Drain{Since: t0.Add(-time.Second)}
				old := func(c *runtime.Container) { c.Started = t0.Add(-2 * time.Minute) }
				return on(shop(needs(svc("web", 2), 100, 64)), drained, node("edge-2", 500, 256)).
					has("web", 1, runtime.Running, at("edge-1")).
					has("web", 2, runtime.Running, at("edge-2"), checked(runtime.HealthUnhealthy), old)
			},
			want: `create web/1 shop-web-1-rev-web- on edge-2 (node edge-1 is drained)`,
		},
		{
			name: "a drain's deadline ends the regard",
			f: func() *fixture {
				drained := node("edge-1", 500, 256)
				drained.Drain = &Drain{Since: t0.Add(-time.Minute), Deadline: t0}
				return on(shop(needs(svc("web", 2), 100, 64)), drained, node("edge-2", 500, 256)).
					has("web", 1, runtime.Running, at("edge-1")).has("web", 2, runtime.Running, at("edge-1"))
			},
			want: `create web/1 shop-web-1-rev-web- on edge-2 (node edge-1 is drained)
				create web/2 shop-web-2-rev-web- on edge-2 (node edge-1 is drained)`,
		},
		{
			name: "nothing moves where there is no room, and it runs on",
			f: func() *fixture {
				drained := node("edge-1", 500, 256)
				drained.Drain = &Drain{Since: t0}
				return on(shop(needs(svc("web", 1), 100, 200)), drained, node("edge-2", 500, 128)).
					has("web", 1, runtime.Running, at("edge-1"))
			},
			want: `hold web/1 shop-web-1 (0/2 nodes: 1 cordoned, 1 insufficient memory (needs 200M, 128M free on edge-2); uncordon node edge-1)`,
		},
		{
			name: "a taint NoExecute drives out what does not tolerate it",
			f: func() *fixture {
				tainted := node("edge-1", 500, 256)
				tainted.Taints = []scheduler.Taint{{Key: "broken", Effect: scheduler.NoExecute}}
				return on(shop(needs(svc("web", 1), 100, 64)), tainted, node("edge-2", 500, 256)).
					has("web", 1, runtime.Running, at("edge-1"))
			},
			want: `create web/1 shop-web-1-rev-web- on edge-2 (node edge-1 has the taint broken:NoExecute)`,
		},
		{
			name: "a constraint that no longer holds moves the replica",
			f: func() *fixture {
				web := svc("web", 1)
				web.Placement.Constraints = []scheduler.Constraint{{Key: "node.labels.zone", Value: "b"}}
				return on(shop(web), node("edge-1", 500, 256, "zone=a"), node("edge-2", 500, 256, "zone=b")).
					has("web", 1, runtime.Running, at("edge-1"))
			},
			want: `create web/1 shop-web-1-rev-web- on edge-2 (node edge-1 no longer meets node.labels.zone == b)`,
		},
		{
			name: "a node that has become too small is left by the youngest of the least important",
			f: func() *fixture {
				important := needs(svc("db", 1), 0, 100)
				important.Placement.Priority = 10
				return on(shop(important, needs(svc("web", 2), 0, 100)), node("edge-1", 500, 200), node("edge-2", 500, 256)).
					has("db", 1, runtime.Running, at("edge-1"), since(time.Minute)).
					has("web", 1, runtime.Running, at("edge-1"), since(3*time.Minute)).
					has("web", 2, runtime.Running, at("edge-1"), since(2*time.Minute))
			},
			want: `create web/2 shop-web-2-rev-web- on edge-2 (node edge-1 has promised more memory than it has)`,
		},
		{
			name: "a request to move names the node",
			f: func() *fixture {
				f := on(shop(needs(svc("web", 1), 100, 64)), node("edge-1", 500, 256), node("edge-2", 500, 256), node("edge-3", 500, 256)).
					has("web", 1, runtime.Running, at("edge-1"))
				f.d.Requests = []Request{{Op: RequestMove, Container: "id-shop-web-1", Node: "edge-3", Cause: "rebalance: evens out memory"}}
				return f
			},
			want: `create web/1 shop-web-1-rev-web- on edge-3 (rebalance: evens out memory)`,
		},
		{
			name: "a global service has one replica on each node that suits it",
			f: func() *fixture {
				agent := svc("agent", 1)
				agent.Mode = stack.Global
				tainted := node("edge-2", 500, 256)
				tainted.Taints = []scheduler.Taint{{Key: "dedicated", Value: "db", Effect: scheduler.NoSchedule}}
				return on(shop(agent), node("edge-1", 500, 256), tainted, node("edge-3", 500, 256)).
					has("agent", 2, runtime.Running, at("edge-3"))
			},
			want: `create agent/1 shop-agent-1 on edge-1 (no container)`,
		},
		{
			name: "a global service leaves a node that is gone",
			f: func() *fixture {
				agent := svc("agent", 1)
				agent.Mode = stack.Global
				return on(shop(agent), node("edge-1", 500, 256)).
					has("agent", 1, runtime.Running, at("edge-1")).has("agent", 2, runtime.Running, at("edge-2"))
			},
			want: `stop agent/2 shop-agent-2 (node edge-2 is none of the stack's)`,
		},
		{
			name: "a job that is done is not run again when its node is drained or fails",
			f: func() *fixture {
				job := svc("job", 2)
				job.Mode = stack.ReplicatedJob
				drained, down := node("edge-1", 500, 256), node("edge-2", 500, 256)
				drained.Drain, down.Down = &Drain{Since: t0}, true
				return on(shop(job), drained, down, node("edge-3", 500, 256)).
					has("job", 1, runtime.Exited, exit(0, time.Minute), at("edge-1")).
					has("job", 2, runtime.Exited, exit(0, time.Minute), at("edge-2"))
			},
			want: `hold job/1 shop-job-1 (exited (0); the job is done)
				hold job/2 shop-job-2 (exited (0); the job is done)`,
		},
		{
			name: "a job that is done holds no room",
			f: func() *fixture {
				job := needs(svc("job", 1), 0, 200)
				job.Mode = stack.ReplicatedJob
				return on(shop(job, needs(svc("web", 1), 0, 200)), node("edge-1", 500, 256)).
					has("job", 1, runtime.Exited, exit(0, time.Minute), at("edge-1"))
			},
			want: `create web/1 shop-web-1 on edge-1 (no container)
				hold job/1 shop-job-1 (exited (0); the job is done)`,
		},
		{
			name: "without nodes the engine is the one there is",
			f: func() *fixture {
				local := node(LocalNode, 2000, 1024)
				local.Parent = ""
				return on(shop(needs(svc("web", 1), 0, 100), needs(svc("big", 1), 0, 2000)), local)
			},
			want: `create web/1 shop-web-1 (no container)
				hold big/1 shop-big-1 (0/1 node: 1 insufficient memory (needs 1.9G, 924M free on local); memory 1.9G is larger than any node: the largest is local with 1G; reserve less or add a larger node)`,
		},
		{
			name: "less important replicas make room",
			f: func() *fixture {
				db := needs(svc("db", 1), 0, 200)
				db.Placement.Priority = 100
				return on(shop(db, needs(svc("web", 2), 0, 100)), node("edge-1", 500, 256)).
					has("web", 1, runtime.Running, at("edge-1"), since(3*time.Minute)).
					has("web", 2, runtime.Running, at("edge-1"), since(2*time.Minute))
			},
			want: `stop web/1 shop-web-1 (makes room for shop/db/1 (priority 100) on node edge-1)
				stop web/2 shop-web-2 (makes room for shop/db/1 (priority 100) on node edge-1)
				hold db/1 shop-db-1 (waits for the room on node edge-1 that shop/web/1, shop/web/2 of lower priority gives up)`,
		},
		{
			name: "a replica that another stack displaces goes",
			f: func() *fixture {
				f := on(shop(needs(svc("web", 1), 0, 100)), node("edge-1", 500, 256)).has("web", 1, runtime.Running, at("edge-1"))
				f.o.Cluster.Evict = map[Key]string{"web/1": "makes room for other/db/1 (priority 100) on node edge-1"}
				return f
			},
			want: `stop web/1 shop-web-1 (makes room for other/db/1 (priority 100) on node edge-1)`,
		},
		{
			name: "an evicted replica moves, whatever its service's availability",
			f: func() *fixture {
				f := on(shop(needs(svc("web", 2), 0, 100)), scarce(node("edge-1", 500, 256)), node("edge-2", 500, 256)).
					has("web", 1, runtime.Running, at("edge-1")).has("web", 2, runtime.Exited, at("edge-1"))
				return f.shed("web", 1)
			},
			want: `create web/1 shop-web-1-rev-web- on edge-2 (evicted: node edge-1 is short of memory)
				hold web/2 shop-web-2 (exited (0); restart: no)`,
		},
		{
			name: "an evicted replica that no other node takes stops",
			f: func() *fixture {
				f := on(shop(needs(svc("web", 2), 0, 100)), scarce(node("edge-1", 500, 256)), node("edge-2", 500, 64)).
					has("web", 1, runtime.Running, at("edge-1")).has("web", 2, runtime.Running, at("edge-1"))
				return f.shed("web", 2)
			},
			want: `stop web/2 shop-web-2 (evicted: node edge-1 is short of memory)`,
		},
		{
			name: "and waits",
			f: func() *fixture {
				f := on(shop(needs(svc("web", 2), 0, 100)), scarce(node("edge-1", 500, 256)), node("edge-2", 500, 64)).
					has("web", 1, runtime.Running, at("edge-1")).has("web", 2, runtime.Running, at("edge-1"))
				f.shed("web", 2)
				f.o.Containers = f.o.Containers[:1]
				return f
			},
			want: `hold web/2 shop-web-2 (evicted: node edge-1 is short of memory; 0/2 nodes: 1 insufficient memory (needs 100M, 64M free on edge-2), 1 short of memory; reserve 64M of memory instead of 100M, or raise that of edge-2 by 36M)`,
		},
		{
			name: "what is on a node that is short of memory is replaced in its place",
			f: func() *fixture {
				return on(shop(needs(svc("web", 1), 0, 100)), scarce(node("edge-1", 500, 256)), node("edge-2", 500, 256)).
					has("web", 1, runtime.Running, at("edge-1"), revision("old"))
			},
			want: `create web/1 shop-web-1-rev-web- on edge-1 (changed since revision old)`,
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			f := c.f()
			if diff := cmp.Diff(lines(c.want), squeeze(f.plan().String())); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// What a container is created with tells its node.
func TestTheNodeIsPartOfTheContainer(t *testing.T) {
	web := needs(svc("web", 1), 100, 64)
	web.Spec.Env = []string{"ON={{.Node.Hostname}}"}
	s := on(shop(web), node("edge-1", 500, 256)).plan().Steps[0]
	if s.Labels[runtime.LabelNode] != "edge-1" || s.Spec.Fixed.CgroupParent != "/berth/edge-1" || s.Spec.Env[0] != "ON=edge-1" {
		t.Errorf("label %q, parent %q, environment %q", s.Labels[runtime.LabelNode], s.Spec.Fixed.CgroupParent, s.Spec.Env)
	}
	web.Spec.Fixed.CgroupParent = "/mine"
	if s := on(shop(web), node("edge-1", 500, 256)).plan().Steps[0]; s.Spec.Fixed.CgroupParent != "/mine" {
		t.Errorf("cgroup_parent of the file gave way to %q", s.Spec.Fixed.CgroupParent)
	}
}

// The whole of a preemption, and of a drain that starts first, in order.
func TestMovesToTheEnd(t *testing.T) {
	db := needs(svc("db", 1), 0, 200)
	db.Placement.Priority = 100
	f := on(shop(db, needs(svc("web", 1), 0, 100)), node("edge-1", 500, 256)).has("web", 1, runtime.Running, at("edge-1"))
	want := lines(`stop web/1 shop-web-1 (makes room for shop/db/1 (priority 100) on node edge-1)
		remove web/1 shop-web-1 (makes room for shop/db/1 (priority 100) on node edge-1)
		create db/1 shop-db-1 on edge-1 (no container)
		start db/1 shop-db-1 (created, not started)
		hold web/1 shop-web-1 (0/1 node: 1 insufficient memory (needs 100M, 56M free on edge-1); reserve 56M of memory instead of 100M, or raise that of edge-1 by 44M)`)
	if diff := cmp.Diff(want, f.predicted()); diff != "" {
		t.Error(diff)
	}

	web := needs(svc("web", 2), 0, 50)
	web.Update.Order = stack.StartFirst
	drained := node("edge-1", 500, 256)
	drained.Drain = &Drain{Since: t0}
	f = on(shop(web), drained, node("edge-2", 500, 256)).
		has("web", 1, runtime.Running, at("edge-1")).has("web", 2, runtime.Running, at("edge-1"))
	want = lines(`create web/1 shop-web-1-rev-web- on edge-2 (node edge-1 is drained)
		start web/1 shop-web-1-rev-web- (created, not started)
		stop web/1 shop-web-1 (replaced: node edge-1 is drained)
		remove web/1 shop-web-1 (replaced: node edge-1 is drained)
		rename web/1 shop-web-1-rev-web- -> shop-web-1 (its predecessor is gone)
		create web/2 shop-web-2-rev-web- on edge-2 (node edge-1 is drained)
		start web/2 shop-web-2-rev-web- (created, not started)
		stop web/2 shop-web-2 (replaced: node edge-1 is drained)
		remove web/2 shop-web-2 (replaced: node edge-1 is drained)
		rename web/2 shop-web-2-rev-web- -> shop-web-2 (its predecessor is gone)`)
	if diff := cmp.Diff(want, f.predicted()); diff != "" {
		t.Error(diff)
	}
}

// What no other node takes stays on a drained node until its deadline has
// passed, when the stack is looked at again.
func TestDeadlineOfADrain(t *testing.T) {
	drained := node("edge-1", 500, 256)
	drained.Drain = &Drain{Since: t0, Deadline: t0.Add(time.Minute)}
	f := on(shop(needs(svc("web", 1), 0, 200)), drained, node("edge-2", 500, 128)).has("web", 1, runtime.Running, at("edge-1"))
	refused := "0/2 nodes: 1 cordoned, 1 insufficient memory (needs 200M, 128M free on edge-2); uncordon node edge-1"
	p := Decide(&f.d, &f.o, &f.m, t0)
	if diff := cmp.Diff(lines("hold web/1 shop-web-1 ("+refused+")"), squeeze(p.String())); diff != "" {
		t.Error(diff)
	}
	if !p.Wake.Equal(drained.Drain.Deadline) {
		t.Errorf("looked at again at %s", p.Wake)
	}
	p = Decide(&f.d, &f.o, &f.m, drained.Drain.Deadline)
	if diff := cmp.Diff(lines("stop web/1 shop-web-1 (node edge-1 is drained, its deadline has passed)"), squeeze(p.String())); diff != "" || !p.Wake.IsZero() {
		t.Error(diff, p.Wake)
	}
	f.o.Containers[0].State = runtime.Exited
	p = Decide(&f.d, &f.o, &f.m, drained.Drain.Deadline)
	if diff := cmp.Diff(lines("remove web/1 shop-web-1 (node edge-1 is drained, its deadline has passed)"), squeeze(p.String())); diff != "" {
		t.Error(diff)
	}
}

// A job that is done promises nothing to anybody.
func TestDoneJobsAreNotPublished(t *testing.T) {
	job := needs(svc("job", 2), 0, 64)
	job.Mode = stack.ReplicatedJob
	f := on(shop(job), node("edge-1", 500, 256)).
		has("job", 1, runtime.Exited, exit(0, time.Minute), at("edge-1")).has("job", 2, runtime.Running, at("edge-1"))
	if got := f.plan().Placed.Residents; len(got) != 1 || got[0].Slot != 2 {
		t.Errorf("published: %+v", got)
	}
}

// A replica whose new container is just being made still has its old one alone:
// the next one moves after it all the same.
func TestMovesOneAtATimeWhileAStepIsInFlight(t *testing.T) {
	drained := node("edge-1", 500, 256)
	drained.Drain = &Drain{Since: t0}
	f := on(shop(needs(svc("web", 2), 0, 50)), drained, node("edge-2", 500, 256)).
		has("web", 1, runtime.Running, at("edge-1")).has("web", 2, runtime.Running, at("edge-1"))
	first := f.plan().Steps[0]
	f.m.InFlight = map[Key]Step{first.Key: first}
	want := lines(`hold web/1 shop-web-1-rev-web- (create in progress)
		hold web/2 shop-web-2 (node edge-1 is drained; web/1 is being changed)`)
	if diff := cmp.Diff(want, squeeze(f.plan().String())); diff != "" {
		t.Error(diff)
	}
}

// What is published about nodes is all that stands or will stand there.
func TestPlacesArePublished(t *testing.T) {
	f := on(shop(needs(svc("web", 2), 100, 64)), node("edge-1", 500, 256), node("edge-2", 500, 256)).
		has("web", 1, runtime.Running, at("edge-1"))
	var got []string
	for _, r := range f.plan().Placed.Residents {
		got = append(got, r.id()+" on "+r.Node+" "+r.Container)
	}
	want := []string{"shop/web/1 on edge-1 id-shop-web-1", "shop/web/2 on edge-2 "}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// A request to move to a node that no longer takes the replica is dropped.
func TestAMoveThatNoLongerFitsIsDropped(t *testing.T) {
	f := on(shop(needs(svc("web", 1), 100, 200)), node("edge-1", 500, 256), node("edge-2", 500, 128)).
		has("web", 1, runtime.Running, at("edge-1"))
	f.d.Requests = []Request{{Op: RequestMove, Container: "id-shop-web-1", Node: "edge-2", Cause: "rebalance"}}
	if p := f.plan(); len(p.Steps) > 0 || len(p.Satisfied) != 1 {
		t.Errorf("satisfied %v, plan:\n%s", p.Satisfied, p)
	}
}

// A CPU limit beyond the node's is cut to it, at the creation and ever after.
func TestLimitsStayWithinTheNode(t *testing.T) {
	web := needs(svc("web", 1), 100, 64)
	web.Spec.Limits.NanoCPUs = 2e9
	f := on(shop(web), node("edge-1", 500, 256))
	if got := f.plan().Steps[0].Spec.Limits.NanoCPUs; got != 5e8 {
		t.Errorf("created with %d nanocores", got)
	}
	f.has("web", 1, runtime.Running, at("edge-1"), func(c *runtime.Container) { c.Limits.NanoCPUs = 5e8 })
	if p := f.plan(); !p.Empty() {
		t.Errorf("the cut limit is taken for a drift:\n%s", p)
	}
}

// One turn for 1,000 replicas that stand on 100 nodes, as after any event.
func BenchmarkDecideOnNodes(b *testing.B) {
	const nodes, replicas = 100, 1000
	f := shop(needs(svc("web", replicas), 10, 8))
	var list []Node
	for i := range nodes {
		list = append(list, node(fmt.Sprintf("edge-%d", i), 1000, 256))
	}
	on(f, list...)
	for i := range replicas {
		f.has("web", i+1, runtime.Running, at(list[i%nodes].Name))
	}
	for b.Loop() {
		if p := f.plan(); !p.Empty() || len(p.Holds) > 0 {
			b.Fatal(p)
		}
	}
}

// A replica that leaves its node does not stand in its own way: with one replica
// in each zone, the successor of the one in zone a must go to zone a again.
func TestALeavingReplicaDoesNotCountForTheSpread(t *testing.T) {
	web := needs(svc("web", 2), 0, 10)
	web.Placement.Spread = []scheduler.SpreadRule{{TopologyKey: "zone", MaxSkew: 1}}
	drained := node("edge-1", 500, 256, "zone=a")
	drained.Drain = &Drain{Since: t0}
	f := on(shop(web), drained, node("edge-2", 500, 256, "zone=a"), node("edge-3", 500, 256, "zone=b")).
		has("web", 1, runtime.Running, at("edge-1")).has("web", 2, runtime.Running, at("edge-3"))
	if got := squeeze(f.plan().String()); got != "create web/1 shop-web-1-rev-web- on edge-2 (node edge-1 is drained)" {
		t.Error(got)
	}
}
