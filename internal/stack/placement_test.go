package stack_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/scheduler"
)

// load reads a project of one file.
func load(t testing.TB, file string, environ ...string) *stack.Loaded {
	t.Helper()
	got, err := stack.Load(t.Context(), stack.LoadOptions{WorkingDir: project(t, map[string]string{"compose.yaml": file}), Environ: environ})
	if err != nil {
		t.Fatalf("%v\n%s", err, file)
	}
	return got
}

// TestPlacement looks at the part of a service's template that each key decides.
func TestPlacement(t *testing.T) {
	template := func(edit func(*scheduler.Template)) scheduler.Template {
		w := scheduler.Template{Stack: "shop", Service: "web"}
		edit(&w)
		return w
	}
	for name, c := range map[string]struct {
		keys string
		want func(*scheduler.Template)
	}{
		"nothing": {"init: true", func(*scheduler.Template) {}},
		"reservations": {"deploy: {resources: {reservations: {cpus: '0.3', memory: 64M, generic_resources: [{discrete_resource_spec: {kind: gpu, value: 2}}]}}}", func(w *scheduler.Template) {
			w.Reservation = scheduler.Resources{CPU: 300, Memory: 64 << 20, Generic: map[string]int64{"gpu": 2}}
		}},
		"no reservation":   {"deploy: {resources: {reservations: {cpus: '0', memory: '0'}}}", func(*scheduler.Template) {}},
		"old reservation":  {"mem_reservation: 32m", func(w *scheduler.Template) { w.Reservation.Memory = 32 << 20 }},
		"limits are none":  {"mem_limit: 32m, cpus: 2", func(*scheduler.Template) {}},
		"disk and network": {"x-berth: {reservations: {disk: 1G, network: 2.5M}}", func(w *scheduler.Template) { w.Reservation.Disk, w.Reservation.Network = 1<<30, 2_500_000 }},
		"fixed ports": {"ports: ['8080:80', '127.0.0.1:53:53/udp', '9000-9005:90', 443]", func(w *scheduler.Template) {
			w.Ports = []scheduler.HostPort{{IP: "127.0.0.1", Port: 53, Protocol: "udp"}, {Port: 8080}}
		}},
		"the host's network": {"network_mode: host, ports: ['8080:80']", func(*scheduler.Template) {}},
		"platform":           {"platform: linux/arm64/v8", func(w *scheduler.Template) { w.OS, w.Arch = "linux", "arm64" }},
		"architecture":       {"platform: arm64", func(w *scheduler.Template) { w.Arch = "arm64" }},
		"operating system":   {"platform: Linux", func(w *scheduler.Template) { w.OS = "linux" }},
		"constraints": {"deploy: {placement: {constraints: ['node.labels.zone==a', 'node.hostname   !=   Edge-1', 'engine.labels.os == x y']}}", func(w *scheduler.Template) {
			w.Constraints = []scheduler.Constraint{{Key: "node.labels.zone", Value: "a"}, {Key: "node.hostname", Negate: true, Value: "Edge-1"}, {Key: "engine.labels.os", Value: "x y"}}
		}},
		"preferences": {"deploy: {placement: {preferences: [{spread: node.labels.zone}, {spread: Engine.Labels.rack}], max_replicas_per_node: 3}}", func(w *scheduler.Template) {
			w.Preferences, w.MaxPerNode = []string{"zone", "engine.labels.rack"}, 3
		}},
		"no limit per node": {"deploy: {placement: {max_replicas_per_node: 0}}", func(*scheduler.Template) {}},
		"priority":          {"x-berth: {priority: -7}", func(w *scheduler.Template) { w.Priority = -7 }},
		"node selector": {"x-berth: {nodeSelector: {zone: a, ssd: true, size: 1.5}}", func(w *scheduler.Template) {
			for _, l := range [][2]string{{"size", "1.5"}, {"ssd", "true"}, {"zone", "a"}} {
				w.NodeSelector = append(w.NodeSelector, scheduler.Requirement{Key: l[0], Operator: scheduler.In, Values: []string{l[1]}})
			}
		}},
		"node affinity": {"x-berth: {affinity: {nodes: {required: [{labels: {zone: a}, expressions: [{key: x, operator: Exists}]}, {expressions: [{key: size, operator: Gt, values: [3]}]}], preferred: [{labels: {zone: b}, weight: 40}, {labels: {zone: c}}]}}}", func(w *scheduler.Template) {
			in := func(v string) scheduler.Requirement {
				return scheduler.Requirement{Key: "zone", Operator: scheduler.In, Values: []string{v}}
			}
			w.NodeRequired = []scheduler.NodeTerm{
				{Requirements: []scheduler.Requirement{in("a"), {Key: "x", Operator: scheduler.Exists}}},
				{Requirements: []scheduler.Requirement{{Key: "size", Operator: scheduler.Gt, Values: []string{"3"}}}},
			}
			w.NodePrefer = []scheduler.NodeTerm{{Requirements: []scheduler.Requirement{in("b")}, Weight: 40}, {Requirements: []scheduler.Requirement{in("c")}, Weight: 1}}
		}},
		"service affinity": {"x-berth: {affinity: {required: [{services: [db]}], preferred: [{services: [db, web], topologyKey: zone, weight: 3}]}, antiAffinity: {required: [{services: [web], topologyKey: node}], preferred: [{services: [db], topologyKey: node.labels.rack}]}}", func(w *scheduler.Template) {
			w.Affinity = []scheduler.ServiceTerm{{Services: []string{"db"}}}
			w.AffinityLike = []scheduler.ServiceTerm{{Services: []string{"db", "web"}, TopologyKey: "zone", Weight: 3}}
			w.Anti = []scheduler.ServiceTerm{{Services: []string{"web"}}}
			w.AntiLike = []scheduler.ServiceTerm{{Services: []string{"db"}, TopologyKey: "rack", Weight: 1}}
		}},
		"tolerations": {"x-berth: {tolerations: ['dedicated=db:NoSchedule', slow, 'a=b', 'x:NoExecute', '*', {key: k, operator: Exists, effect: PreferNoSchedule}, {key: k, value: v}, {operator: Exists}]}", func(w *scheduler.Template) {
			w.Tolerate = []scheduler.Toleration{
				{Key: "dedicated", Value: "db", Effect: scheduler.NoSchedule}, {Key: "slow", Exists: true}, {Key: "a", Value: "b"},
				{Key: "x", Exists: true, Effect: scheduler.NoExecute}, {}, {Key: "k", Exists: true, Effect: scheduler.PreferNoSchedule}, {Key: "k", Value: "v"}, {Exists: true},
			}
		}},
		"spread": {"x-berth: {spread: [{topologyKey: zone}, {topologyKey: zone, maxSkew: 3, whenUnsatisfiable: schedule}, {topologyKey: node, minDomains: 2, whenUnsatisfiable: hold}]}", func(w *scheduler.Template) {
			w.Spread = []scheduler.SpreadRule{{TopologyKey: "zone", MaxSkew: 1}, {TopologyKey: "zone", MaxSkew: 3, Prefer: true}, {MaxSkew: 1, MinDomains: 2}}
		}},
		"variables": {"x-berth: {priority: '${N}', nodeSelector: {zone: '${Z}'}, reservations: {disk: '${N}M'}, spread: [{topologyKey: '${Z}', maxSkew: '${N}'}]}", func(w *scheduler.Template) {
			w.Priority, w.Reservation.Disk = 4, 4<<20
			w.NodeSelector = []scheduler.Requirement{{Key: "zone", Operator: scheduler.In, Values: []string{"far"}}}
			w.Spread = []scheduler.SpreadRule{{TopologyKey: "far", MaxSkew: 4}}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			got := load(t, service(c.keys)+"  db: {image: db}\n", "N=4", "Z=far").Stack.Service("web").Placement
			if want := template(c.want); !reflect.DeepEqual(got, want) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

// TestModes: what deploy.mode makes of replicas and of the restart keys.
func TestModes(t *testing.T) {
	failure := func(delay time.Duration, most int) *stack.RestartPolicy {
		return &stack.RestartPolicy{Condition: "on-failure", Delay: delay, MaxAttempts: most}
	}
	for name, c := range map[string]struct {
		keys     string
		mode     stack.Mode
		replicas int
		policy   *stack.RestartPolicy
		engine   string
	}{
		"default":               {"restart: always", stack.Replicated, 1, nil, "always"},
		"replicated":            {"restart: always, deploy: {mode: replicated, replicas: 3}", stack.Replicated, 3, nil, "always"},
		"global":                {"restart: always, deploy: {mode: global}", stack.Global, 1, nil, "always"},
		"job":                   {"deploy: {mode: replicated-job, replicas: 3}", stack.ReplicatedJob, 3, failure(5*time.Second, 0), "no"},
		"job on each node":      {"deploy: {mode: global-job}", stack.GlobalJob, 1, failure(5*time.Second, 0), "no"},
		"job, run for ever":     {"restart: always, deploy: {mode: replicated-job}", stack.ReplicatedJob, 1, failure(5*time.Second, 0), "no"},
		"job, counted":          {"restart: on-failure:3, deploy: {mode: replicated-job}", stack.ReplicatedJob, 1, failure(5*time.Second, 3), "no"},
		"job, once":             {"restart: 'no', deploy: {mode: replicated-job}", stack.ReplicatedJob, 1, &stack.RestartPolicy{Condition: "none", Delay: 5 * time.Second}, "no"},
		"job, any":              {"deploy: {mode: replicated-job, restart_policy: {condition: any, delay: 1s}}", stack.ReplicatedJob, 1, failure(time.Second, 0), "no"},
		"job, policy's default": {"deploy: {mode: replicated-job, restart_policy: {max_attempts: 2}}", stack.ReplicatedJob, 1, failure(5*time.Second, 2), "no"},
		"job, policy of none":   {"deploy: {mode: replicated-job, restart_policy: {condition: none}}", stack.ReplicatedJob, 1, &stack.RestartPolicy{Condition: "none", Delay: 5 * time.Second}, "no"},
	} {
		t.Run(name, func(t *testing.T) {
			got := load(t, service(c.keys)).Stack.Service("web")
			if got.Mode != c.mode || got.Replicas != c.replicas || !reflect.DeepEqual(got.Restart, c.policy) || got.Spec.Restart != (runtime.RestartPolicy{Name: c.engine}) {
				t.Errorf("got %q, %d replicas, %+v, engine %+v", got.Mode, got.Replicas, got.Restart, got.Spec.Restart)
			}
			if got.Mode.Job() != strings.Contains(string(c.mode), "job") || got.Mode.PerNode() != strings.HasPrefix(string(c.mode), "global") {
				t.Errorf("%q: job %v, per node %v", got.Mode, got.Mode.Job(), got.Mode.PerNode())
			}
		})
	}
}

// TestStartFirst: the order in which a replica changes its node is no part of
// what a container is made from.
func TestStartFirst(t *testing.T) {
	revisions := map[string]bool{}
	for keys, want := range map[string]bool{
		"deploy: {update_config: {order: start-first}}": true,
		"deploy: {update_config: {order: stop-first}}":  false,
		"deploy: {update_config: {}}":                   false,
		"deploy: {}":                                    false,
	} {
		loaded := load(t, service(keys))
		got := loaded.Stack.Service("web")
		if first := got.Update.Order == stack.StartFirst; first != want || len(loaded.Warnings) > 0 {
			t.Errorf("%s: starts first: %v, warnings %v", keys, first, loaded.Warnings)
		}
		revisions[got.Revision] = true
	}
	if len(revisions) != 1 {
		t.Errorf("the order changes the revision: %v", revisions)
	}
}

const twoNodes = `x-berth:
  nodes:
    - {name: edge-1, cpus: 0.5, memory: 256M, disk: 1G, network: 100M, pids: 50, labels: {zone: a}, resources: {gpu: 1}}
    - name: edge-2
      cpus: 1
      memory: 128M
      disk: 1G
      network: 10M
      pids: 80
      taints: ["dedicated=db:NoSchedule"]
`

// TestNodes: the nodes of a stack keep their order and survive the state file.
func TestNodes(t *testing.T) {
	got := load(t, service("init: true")+twoNodes+"  overcommit: true\n  weights: {mostAllocated: 2, taints: '3'}\n").Stack
	want := []stack.Node{
		{Pids: 50, Node: scheduler.Node{
			Name: "edge-1", Labels: map[string]string{"zone": "a"},
			Capacity: scheduler.Resources{CPU: 500, Memory: 256 << 20, Disk: 1 << 30, Network: 100_000_000, Generic: map[string]int64{"gpu": 1}},
		}},
		{Pids: 80, Node: scheduler.Node{
			Name: "edge-2", Taints: []scheduler.Taint{{Key: "dedicated", Value: "db", Effect: scheduler.NoSchedule}},
			Capacity: scheduler.Resources{CPU: 1000, Memory: 128 << 20, Disk: 1 << 30, Network: 10_000_000},
		}},
	}
	if !reflect.DeepEqual(got.Nodes, want) {
		t.Errorf("got  %+v\nwant %+v", got.Nodes, want)
	}
	if policy := (scheduler.Policy{Weights: map[string]int{"mostAllocated": 2, "taints": 3}, SharedPorts: true}); !got.Overcommit || !reflect.DeepEqual(got.Scheduling, policy) {
		t.Errorf("overcommit %v, policy %+v", got.Overcommit, got.Scheduling)
	}
	data, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	var again stack.Stack
	if err := json.Unmarshal(data, &again); err != nil {
		t.Fatal(err)
	}
	if data2, _ := json.Marshal(&again); string(data2) != string(data) || !reflect.DeepEqual(again.Nodes, got.Nodes) || !reflect.DeepEqual(again.Services[0].Placement, got.Services[0].Placement) {
		t.Errorf("the state file changes the stack:\n%s\n%s", data, data2)
	}
}

// TestNodesOfSeveralFiles: a later file adds nodes and overrides the policy.
func TestNodesOfSeveralFiles(t *testing.T) {
	dir := project(t, map[string]string{
		"compose.yaml":          service("init: true") + "x-berth: {strategy: spread, nodes: [{name: a}]}\n",
		"compose.override.yaml": "x-berth: {strategy: balanced, nodes: [{name: b}]}\n",
	})
	got, err := stack.Load(t.Context(), stack.LoadOptions{WorkingDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if n := got.Stack.Nodes; len(n) != 2 || n[0].Name != "a" || n[1].Name != "b" || got.Stack.Scheduling.Strategy != scheduler.StrategyBalanced {
		t.Errorf("got %+v, %+v", n, got.Stack.Scheduling)
	}
}

// TestBadPlacement wants file, line and one clear line for each wrong use.
func TestBadPlacement(t *testing.T) {
	nodes := func(list string) string {
		return service("init: true") + "x-berth:\n  nodes:\n    - name: good\n    - " + list + "\n"
	}
	berth := func(value string) string {
		return "services:\n  web:\n    image: a\n    x-berth: " + value + "\n  db: {image: a}\n"
	}
	deploy := func(value string) string { return "services:\n  web:\n    image: a\n    deploy: " + value + "\n" }
	for name, c := range map[string]struct{ file, want string }{
		"no name":                     {nodes("{cpus: 1}"), "compose.yaml:6: x-berth.nodes.1: the key name is missing"},
		"name of two words":           {nodes("{name: a b}"), `compose.yaml:6: x-berth.nodes.1.name: "a b" is not a value this key takes`},
		"name of the parent":          {nodes("{name: ..}"), `x-berth.nodes.1.name: ".." is not a value this key takes`},
		"name with a slash":           {nodes("{name: a/b}"), `"a/b" is not a value this key takes`},
		"long name":                   {nodes("{name: " + strings.Repeat("a", 64) + "}"), "x-berth.nodes.1.name: is longer than 63 characters"},
		"name twice":                  {nodes("{name: Good}"), `compose.yaml:6: x-berth.nodes.1.name: the node "Good" is declared twice; the first is nodes.0: rename or drop one`},
		"name of the engine":          {nodes("{name: Local}"), `x-berth.nodes.1.name: "Local" is the engine itself, beside the nodes; choose another name`},
		"no CPUs":                     {nodes("{name: a, cpus: 0}"), "compose.yaml:6: x-berth.nodes.1.cpus: is 0; it must be more than nothing, or left out"},
		"negative CPUs":               {nodes("{name: a, cpus: -1}"), `x-berth.nodes.1.cpus: "-1" is not a number of CPUs such as 0.5`},
		"CPUs without number":         {nodes("{name: a, cpus: .nan}"), `is not a number of CPUs such as 0.5`},
		"endless CPUs":                {nodes("{name: a, cpus: 1e9}"), `is not a number of CPUs such as 0.5`},
		"too little CPU":              {nodes("{name: a, cpus: 0.0001}"), "x-berth.nodes.1.cpus: is 0.0001; CPUs are counted in steps of 0.001"},
		"CPUs in words":               {nodes("{name: a, cpus: half}"), `x-berth.nodes.1.cpus: "half" is not a number of CPUs such as 0.5`},
		"no memory":                   {nodes("{name: a, memory: 0}"), "x-berth.nodes.1.memory: is 0; it must be more than nothing, or left out"},
		"negative memory":             {nodes("{name: a, memory: -1}"), "x-berth.nodes.1.memory: is -1; it must be more than nothing, or left out"},
		"memory without unit":         {nodes("{name: a, memory: 256}"), "x-berth.nodes.1.memory: is 256; a node needs at least 6M, since no container starts with less"},
		"absurd memory":               {nodes("{name: a, memory: 2000T}"), "x-berth.nodes.1.memory: is 2000T, more than the 1P that can be counted"},
		"overflowing memory":          {nodes("{name: a, memory: 99999999999P}"), `x-berth.nodes.1.memory: `},
		"memory in words":             {nodes("{name: a, memory: much}"), `x-berth.nodes.1.memory: "much" is not a size such as 512M or 1.5g`},
		"no disk":                     {nodes("{name: a, disk: 0}"), "x-berth.nodes.1.disk: is 0; it must be more than nothing"},
		"network in bytes":            {nodes("{name: a, network: 100MB}"), `x-berth.nodes.1.network: "100MB" is not a rate in bits per second such as 100M or 2.5G`},
		"no network":                  {nodes("{name: a, network: 0M}"), "x-berth.nodes.1.network: is 0M; it must be more than nothing"},
		"absurd network":              {nodes("{name: a, network: 99999T}"), `"99999T" is not a rate`},
		"no pids":                     {nodes("{name: a, pids: 0}"), "x-berth.nodes.1.pids: 0 is less than 1"},
		"absurd pids":                 {nodes("{name: a, pids: 99999999}"), "x-berth.nodes.1.pids: 99999999 is more than 4194304"},
		"no pieces":                   {nodes("{name: a, resources: {gpu: 0}}"), "x-berth.nodes.1.resources.gpu: 0 is less than 1"},
		"memory as pieces":            {nodes("{name: a, resources: {memory: 5}}"), `x-berth.nodes.1.resources.memory: "memory" is no generic resource; it has a key of its own`},
		"bad label":                   {nodes("{name: a, labels: {'a b': c}}"), `x-berth.nodes.1.labels.a b: the key "a b" holds a space`},
		"taint without effect":        {nodes("{name: a, taints: [dedicated=db]}"), `compose.yaml:6: x-berth.nodes.1.taints.0: taint "dedicated=db" has no effect`},
		"taint of no effect":          {nodes("{name: a, taints: ['dedicated=db:Never']}"), `x-berth.nodes.1.taints.0: taint "dedicated=db:Never": `},
		"taint without key":           {nodes("{name: a, taints: ['=db:NoSchedule']}"), `x-berth.nodes.1.taints.0: taint "=db:NoSchedule": `},
		"taint of two words":          {nodes("{name: a, taints: ['a b=db:NoSchedule']}"), `x-berth.nodes.1.taints.0: the key "a b" holds a space`},
		"taint of control characters": {nodes(`{name: a, taints: ["a\x07:NoSchedule"]}`), `x-berth.nodes.1.taints.0: "a?:NoSchedule" holds a control character`},
		"endless taint":               {nodes("{name: a, taints: ['" + strings.Repeat("a", 600) + ":NoSchedule']}"), "x-berth.nodes.1.taints.0: is longer than 506 bytes"},
		"long label":                  {nodes("{name: a, labels: {a: " + strings.Repeat("a", 254) + "}}"), "x-berth.nodes.1.labels.a: the value is longer than 253 bytes"},
		"fractional pids":             {nodes("{name: a, pids: 1.5}"), "x-berth.nodes.1.pids: is a number; it must be an integer"},
		"taint twice":                 {nodes("{name: a, taints: ['a=b:NoSchedule', 'a=c:NoSchedule']}"), "x-berth.nodes.1.taints.1: a taint a:NoSchedule stands in the list already"},
		"unknown score":               {service("init: true") + "x-berth: {weights: {leastUsed: 1}}\n", `compose.yaml:3: x-berth.weights.leastUsed: unknown key "leastUsed"`},
		"mistyped score":              {service("init: true") + "x-berth: {weights: {leastAlocated: 1}}\n", `did you mean leastAllocated?`},
		"no weight":                   {service("init: true") + "x-berth: {weights: {taints: 0}}\n", "x-berth.weights: no score has a weight above 0"},
		"weights and strategy":        {service("init: true") + "x-berth: {strategy: spread, weights: {taints: 1}}\n", "x-berth.weights: and strategy: exclude each other; keep one"},
		"unknown strategy":            {service("init: true") + "x-berth: {strategy: random}\n", `x-berth.strategy: "random" is not one of spread, binpack, balanced`},
		"variable of wrong type":      {nodes("{name: a, cpus: '${HOME}'}"), `x-berth.nodes.1.cpus: `},
		"variable of no pids":         {nodes("{name: a, pids: '${ZERO:-0}'}"), `compose.yaml:6: x-berth.nodes.1.pids: 0 is less than 1`},
		"override of other kind":      {"x-berth: {strategy: spread}\n" + service("init: true") + "---\nx-berth: {strategy: [a]}\n", `x-berth.strategy: is a list; it must be text`},

		"constraint without operator": {deploy("{placement: {constraints: [node.labels.zone]}}"), `compose.yaml:4: services.web.deploy.placement.constraints.0: constraint "node.labels.zone": it has neither == nor !=; write node.labels.zone == a or node.labels.zone != a`},
		"constraint of one equals":    {deploy("{placement: {constraints: [node.labels.zone=a]}}"), `it has neither == nor !=`},
		"unknown operator":            {deploy("{placement: {constraints: ['node.labels.zone > a']}}"), `it has neither == nor !=`},
		"constraint without value":    {deploy("{placement: {constraints: ['node.labels.zone ==']}}"), `constraint "node.labels.zone ==": `},
		"constraint of bad value":     {deploy("{placement: {constraints: ['node.labels.zone == <a>']}}"), `services.web.deploy.placement.constraints.0: `},
		"empty constraint":            {deploy("{placement: {constraints: ['']}}"), `services.web.deploy.placement.constraints.0: is empty`},
		"preference for a node":       {deploy("{placement: {preferences: [{spread: node.id}]}}"), `services.web.deploy.placement.preferences.0: "node.id" is not a label to spread over; write spread: node.labels.zone`},
		"preference for no label":     {deploy("{placement: {preferences: [{spread: node.labels.}]}}"), `"node.labels." is not a label to spread over`},
		"preference for nothing":      {deploy("{placement: {preferences: [{}]}}"), `services.web.deploy.placement.preferences.0: is empty`},
		"negative replicas per node":  {deploy("{placement: {max_replicas_per_node: -1}}"), `compose.yaml:4: services.web.deploy.placement.max_replicas_per_node: "-1" is not a number of replicas`},
		"absurd replicas per node":    {deploy("{placement: {max_replicas_per_node: 1000000}}"), `services.web.deploy.placement.max_replicas_per_node: 1000000 is not between 0 and 100000`},

		"unknown mode":             {deploy("{mode: daemon}"), `compose.yaml:4: services.web.deploy.mode: "daemon" is not one of replicated, global, replicated-job, global-job`},
		"global with replicas":     {deploy("{mode: global, replicas: 2}"), `compose.yaml:4: services.web.deploy.replicas: cannot be given with mode: global, which runs one replica on each node`},
		"global with one replica":  {deploy("{mode: global, replicas: 1}"), `services.web.deploy.replicas: cannot be given with mode: global`},
		"global job with replicas": {deploy("{mode: global-job, replicas: 2}"), `services.web.deploy.replicas: cannot be given with mode: global-job`},
		"global with scale":        {service("scale: 2, deploy: {mode: global}"), `services.web.scale: cannot be given with mode: global`},
		"global with maximum":      {deploy("{mode: global, placement: {max_replicas_per_node: 1}}"), `services.web.deploy.placement.max_replicas_per_node: cannot be given with mode: global`},
		"job with update":          {deploy("{mode: replicated-job, update_config: {parallelism: 1}}"), `services.web.deploy.update_config: cannot be given with mode: replicated-job`},
		"global with one name":     {service("container_name: one, deploy: {mode: global}") + twoNodes, `services.web.container_name: gives one name, but mode: global runs a replica on each of 2 nodes`},
		"global with a host port":  {service("ports: ['80:80'], deploy: {mode: global}") + twoNodes, `services.web.ports: the host port 80 can be held by one container, but mode: global runs a replica on each of 2 nodes of one engine`},

		"CPU reserved above limit":    {deploy("{resources: {limits: {cpus: '0.5'}, reservations: {cpus: '0.75'}}}"), `compose.yaml:4: services.web.deploy.resources.reservations.cpus: reserves 0.75, more than the service's limit of 0.5; lower it or raise the limit`},
		"negative CPU reserved":       {deploy("{resources: {reservations: {cpus: '${NEGATIVE:--1}'}}}"), `services.web.deploy.resources.reservations.cpus: is less than 0`},
		"CPU reserved above cpus":     {service("cpus: 1, deploy: {resources: {reservations: {cpus: '2'}}}"), `reserves 2, more than the service's limit of 1`},
		"memory reserved above limit": {deploy("{resources: {limits: {memory: 1G}, reservations: {memory: 2G}}}"), `compose.yaml:4: services.web.deploy.resources.reservations.memory: reserves 2G, more than the service's limit of 1G`},
		"negative memory reserved":    {deploy("{resources: {reservations: {memory: '-1'}}}"), `compose.yaml:4: services.web.deploy.resources.reservations.memory: is not between 0 and 1P`},
		"too little CPU reserved":     {deploy("{resources: {reservations: {cpus: '0.0001'}}}"), `services.web.deploy.resources.reservations.cpus: is 0.0001; CPUs are counted in steps of 0.001`},
		"generic without kind":        {deploy("{resources: {reservations: {generic_resources: [{discrete_resource_spec: {value: 1}}]}}}"), `services.web.deploy.resources.reservations.generic_resources.0: the kind: is empty`},
		"generic without pieces":      {deploy("{resources: {reservations: {generic_resources: [{discrete_resource_spec: {kind: gpu, value: 0}}]}}}"), `compose.yaml:4: services.web.deploy.resources.reservations.generic_resources.0: reserves 0 of "gpu"; give a value: from 1 on`},
		"generic twice":               {deploy("{resources: {reservations: {generic_resources: [{discrete_resource_spec: {kind: gpu, value: 1}}, {discrete_resource_spec: {kind: gpu, value: 2}}]}}}"), `generic_resources.1: reserves "gpu" a second time; keep one`},
		"generic of nothing":          {deploy("{resources: {reservations: {generic_resources: [{}]}}}"), `generic_resources.0: says nothing; write discrete_resource_spec: {kind: gpu, value: 1}`},
		"no disk reserved":            {berth("{reservations: {disk: 0}}"), `compose.yaml:4: services.web.x-berth.reservations.disk: is 0; it must be more than nothing, or left out`},

		"larger than every node":          {deploy("{resources: {reservations: {memory: 512M}}}") + twoNodes, `compose.yaml:4: services.web.deploy.resources.reservations.memory: each replica reserves 512M memory, more than any node has: the largest, edge-1, has 256M`},
		"old key, larger than every node": {"services:\n  web:\n    image: a\n    mem_reservation: 512M\n" + twoNodes, `compose.yaml:4: services.web.mem_reservation: each replica reserves 512M memory`},
		"more CPU than every node":        {deploy("{resources: {reservations: {cpus: '1.5'}}}") + twoNodes, `reserves 1.5 cpu, more than any node has: the largest, edge-2, has 1`},
		"more pieces than every node":     {deploy("{resources: {reservations: {generic_resources: [{discrete_resource_spec: {kind: gpu, value: 2}}]}}}") + twoNodes, `services.web.deploy.resources.reservations.generic_resources: each replica reserves 2 gpu, more than any node has: the largest, edge-1, has 1`},
		"pieces that no node has":         {deploy("{resources: {reservations: {generic_resources: [{discrete_resource_spec: {kind: tpu, value: 2}}]}}}") + twoNodes, `each replica reserves 2 tpu, more than any node has: the largest, edge-1, has 0`},
		"faster than every node":          {berth("{reservations: {network: 1G}}") + twoNodes, `services.web.x-berth.reservations.network: each replica reserves 1G network, more than any node has: the largest, edge-1, has 100M`},
		"on no node at once":              {deploy("{resources: {reservations: {cpus: '0.75', memory: 200M}}}") + twoNodes, `services.web.deploy.resources.reservations: no node is large enough for a replica in all resources at once: edge-1 lacks cpu`},
		"limit above every node":          {service("mem_limit: 1G") + twoNodes, `compose.yaml:2: services.web.mem_limit: the limit of 1G memory is more than any node has: the largest, edge-1, has 256M; lower the limit`},
		"CPU limit above every node":      {deploy("{resources: {limits: {cpus: '2'}}}") + twoNodes, `services.web.deploy.resources.limits.cpus: the limit of 2 cpu is more than any node has: the largest, edge-2, has 1`},
		"pids limit above every node":     {service("pids_limit: 100") + twoNodes, `services.web.pids_limit: the limit of 100 pids is more than any node has: the largest, edge-2, has 80`},

		"unknown service":        {berth("{affinity: {required: [{services: [bd]}]}}"), `compose.yaml:4: services.web.x-berth.affinity.required.0.services: the service "bd" is not defined; the file has db, web`},
		"mistyped service":       {service("x-berth: {antiAffinity: {preferred: [{services: [cach]}]}}") + "  cache: {image: a}\n", `services.web.x-berth.antiAffinity.preferred.0.services: the service "cach" is not defined; did you mean cache?`},
		"inactive service":       {service("x-berth: {affinity: {required: [{services: [off]}]}}") + "  off: {image: a, profiles: [x]}\n", `services.web.x-berth.affinity.required.0.services: off is in an inactive profile, so no node has a replica to be near to`},
		"no services":            {berth("{affinity: {required: [{topologyKey: zone}]}}"), `services.web.x-berth.affinity.required.0: the key services is missing`},
		"weight of a must":       {berth("{affinity: {required: [{services: [db], weight: 3}]}}"), `services.web.x-berth.affinity.required.0.weight: unknown key "weight"`},
		"weight out of range":    {berth("{affinity: {preferred: [{services: [db], weight: 101}]}}"), `services.web.x-berth.affinity.preferred.0.weight: 101 is more than 100`},
		"anti-affinity to nodes": {berth("{antiAffinity: {nodes: {required: []}}}"), `services.web.x-berth.antiAffinity.nodes: unknown key "nodes"`},
		"empty topology key":     {berth("{affinity: {required: [{services: [db], topologyKey: ''}]}}"), `topologyKey: is empty; name a node label, or node for the node itself`},
		"both near and far":      {berth("{affinity: {required: [{services: [db], topologyKey: zone}]}, antiAffinity: {required: [{services: [web, db], topologyKey: node.labels.zone}]}}"), `compose.yaml:4: services.web.x-berth.affinity.required.0: and antiAffinity.required both name db by the same topologyKey, zone: no node can satisfy both; drop one`},
		"kept away":              {berth("{affinity: {required: [{services: [cache]}]}}") + "  cache: {image: a, x-berth: {antiAffinity: {required: [{services: [web]}]}}}\n", `services.web.x-berth.affinity.required.0: wants to be near to cache, whose antiAffinity.required keeps web away by the same topologyKey, node`},
		"cycle of two":           {berth("{affinity: {required: [{services: [cache], topologyKey: zone}]}}") + "  cache:\n    image: a\n    x-berth: {affinity: {required: [{services: [web]}]}}\n", `compose.yaml:8: services.cache.x-berth.affinity.required: cycle of required affinity and depends_on: cache → web → cache; each waits for the next to be placed, so none could ever start`},
		"cycle by dependency":    {berth("{affinity: {required: [{services: [cache], topologyKey: zone}]}}") + "  cache: {image: a, depends_on: [web]}\n", `compose.yaml:4: services.web.x-berth.affinity.required: cycle of required affinity and depends_on: web → cache → web`},
		"node term of nothing":   {berth("{affinity: {nodes: {required: [{}]}}}"), `services.web.x-berth.affinity.nodes.required.0: matches no node; give labels: or expressions:`},
		"unknown comparison":     {berth("{affinity: {nodes: {required: [{expressions: [{key: a, operator: Like, values: [b]}]}]}}}"), `expressions.0.operator: "Like" is not one of In, NotIn, Exists, DoesNotExist, Gt, Lt`},
		"In nothing":             {berth("{affinity: {nodes: {required: [{expressions: [{key: a, operator: In}]}]}}}"), `expressions.0: the operator In needs at least one of values:`},
		"Exists with values":     {berth("{affinity: {nodes: {required: [{expressions: [{key: a, operator: Exists, values: [b]}]}]}}}"), `expressions.0.values: the operator Exists takes no values`},
		"Gt of two":              {berth("{affinity: {nodes: {required: [{expressions: [{key: a, operator: Gt, values: [1, 2]}]}]}}}"), `expressions.0: the operator Gt needs one of values:, a whole number`},
		"Lt of text":             {berth("{affinity: {nodes: {required: [{expressions: [{key: a, operator: Lt, values: [many]}]}]}}}"), `expressions.0.values: the operator Lt compares whole numbers; "many" is none`},
		"selector of bad key":    {berth("{nodeSelector: {'a=b': c}}"), `services.web.x-berth.nodeSelector.a=b: the key "a=b" holds a space, control character or '='`},

		"toleration of no effect":   {berth("{tolerations: ['a=b:Never']}"), `compose.yaml:4: services.web.x-berth.tolerations.0: toleration "a=b:Never": `},
		"toleration without key":    {berth("{tolerations: ['=b']}"), `services.web.x-berth.tolerations.0: toleration "=b" has no key`},
		"toleration with seconds":   {berth("{tolerations: [{key: a, seconds: 5}]}"), `services.web.x-berth.tolerations.0.seconds: unknown key "seconds"`},
		"toleration of every value": {berth("{tolerations: [{key: a, operator: Exists, value: b}]}"), `services.web.x-berth.tolerations.0.value: has no meaning with operator: Exists`},
		"toleration of no key":      {berth("{tolerations: [{value: b}]}"), `services.web.x-berth.tolerations.0: has no key:`},
		"unknown effect":            {berth("{tolerations: [{key: a, effect: Never}]}"), `tolerations.0.effect: "Never" is not one of NoSchedule, PreferNoSchedule, NoExecute`},

		"no skew":                {berth("{spread: [{topologyKey: zone, maxSkew: 0}]}"), `services.web.x-berth.spread.0.maxSkew: 0 is less than 1`},
		"spread over nothing":    {berth("{spread: [{maxSkew: 1}]}"), `services.web.x-berth.spread.0: the key topologyKey is missing`},
		"spread twice":           {berth("{spread: [{topologyKey: zone}, {topologyKey: node.labels.zone, maxSkew: 2}]}"), `services.web.x-berth.spread.1: a rule for the same topologyKey stands in the list already; keep one`},
		"domains for a wish":     {berth("{spread: [{topologyKey: zone, minDomains: 2, whenUnsatisfiable: schedule}]}"), `services.web.x-berth.spread.0.minDomains: has no meaning with whenUnsatisfiable: schedule`},
		"Kubernetes's own words": {berth("{spread: [{topologyKey: zone, whenUnsatisfiable: DoNotSchedule}]}"), `"DoNotSchedule" is not one of hold, schedule`},
		"priority beyond all":    {berth("{priority: 2000000000}"), `services.web.x-berth.priority: 2000000000 is more than 1000000000`},
	} {
		t.Run(name, func(t *testing.T) {
			dir := project(t, map[string]string{"compose.yaml": c.file})
			got, err := stack.Load(t.Context(), stack.LoadOptions{WorkingDir: dir, Environ: []string{"HOME=/root"}})
			if err == nil {
				t.Fatalf("loaded: %+v", got.Stack)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("got  %s\nwant %s", err, c.want)
			}
			if strings.ContainsAny(err.Error(), "\n\x00\x1b") || len(err.Error()) > 1000 {
				t.Errorf("not one line for a terminal: %.200q", err)
			}
		})
	}
}

// TestGoodPlacement: what looks like a contradiction and is none.
func TestGoodPlacement(t *testing.T) {
	for name, file := range map[string]string{
		"near to itself":               service("x-berth: {affinity: {required: [{services: [web]}]}}"),
		"near to itself or another":    service("x-berth: {affinity: {required: [{services: [web, db]}]}}") + "  db: {image: a, x-berth: {affinity: {required: [{services: [web]}]}}}\n",
		"a cycle with a way out":       service("x-berth: {affinity: {required: [{services: [db, cache]}]}}") + "  db: {image: a, x-berth: {affinity: {required: [{services: [web]}]}}}\n  cache: {image: a}\n",
		"a cycle of wishes":            service("x-berth: {affinity: {preferred: [{services: [db]}]}}") + "  db: {image: a, x-berth: {affinity: {required: [{services: [web]}]}}}\n",
		"same zone, other node":        service("x-berth: {affinity: {required: [{services: [db], topologyKey: zone}]}, antiAffinity: {required: [{services: [db]}]}}") + "  db: {image: a}\n",
		"far from an inactive service": service("x-berth: {antiAffinity: {required: [{services: [off]}]}}") + "  off: {image: a, profiles: [x]}\n",
		"a node that counts nothing":   service("deploy: {resources: {reservations: {cpus: '64', memory: 100G}}}, mem_limit: 200G") + "x-berth: {nodes: [{name: a, cpus: 1, memory: 64M}, {name: b}]}\n",
		"global, one node":             service("container_name: one, ports: ['80:80'], deploy: {mode: global}") + "x-berth: {nodes: [{name: a}]}\n",
		"global, constrained":          service("ports: ['80:80'], deploy: {mode: global, placement: {constraints: [node.hostname == edge-1]}}") + twoNodes,
		"reservation at the limit":     service("cpus: 0.3, deploy: {resources: {reservations: {cpus: '0.3'}}}"),
		"quoted numbers":               service("x-berth: {priority: '5'}") + "x-berth: {overcommit: 'true', nodes: [{name: a, pids: '9', memory: '6291456', resources: {gpu: '2'}}]}\n",
	} {
		t.Run(name, func(t *testing.T) {
			if got := load(t, file); len(got.Warnings) > 0 {
				t.Errorf("warnings: %v", got.Warnings)
			}
		})
	}
}

// TestPlacementWarnings: what no node declared in the files satisfies.
func TestPlacementWarnings(t *testing.T) {
	got := load(t, `services:
  web:
    image: a
    restart: always
    deploy:
      mode: global-job
      placement:
        constraints:
          - node.colour != red
          - node.labels.zone == z
          - node.labels.zone == A
          - node.platform.arch == arm64
        preferences:
          - spread: node.labels.rack
          - spread: node.labels.zone
    x-berth:
      nodeSelector: {disk: ssd}
      affinity:
        nodes: {required: [{expressions: [{key: gone, operator: Exists}, {key: never, operator: DoesNotExist}]}]}
      antiAffinity:
        preferred: [{services: [web], topologyKey: row}]
      spread: [{topologyKey: room}]
`+twoNodes)
	var lines []string
	for _, w := range got.Warnings {
		lines = append(lines, w.String())
	}
	want := []string{
		`compose.yaml:4: services.web.restart: means on-failure for a job: a replica that exited with 0 is done`,
		`compose.yaml:9: services.web.deploy.placement.constraints.0: "node.colour != red" can never match: no property of a node is called node.colour, so no replica is placed`,
		`compose.yaml:10: services.web.deploy.placement.constraints.1: "node.labels.zone == z" matches none of the nodes declared here`,
		`compose.yaml:14: services.web.deploy.placement.preferences.0: none of the nodes declared here has the label rack`,
		`compose.yaml:17: services.web.x-berth.nodeSelector: none of the nodes declared here has the label disk`,
		`compose.yaml:19: services.web.x-berth.affinity.nodes.required.0: none of the nodes declared here has the label gone`,
		`compose.yaml:21: services.web.x-berth.antiAffinity.preferred.0: none of the nodes declared here has the label row`,
		`compose.yaml:22: services.web.x-berth.spread.0: none of the nodes declared here has the label room`,
	}
	if !slices.Equal(lines, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
}

// TestLoadNodes reads each form of a file of nodes.
func TestLoadNodes(t *testing.T) {
	for name, c := range map[string]struct {
		file       string
		want       string
		overcommit bool
	}{
		"a list":         {"- {name: a, cpus: 0.5}\n- {name: b}\n", "a=500 b=0", false},
		"a mapping":      {"nodes:\n- {name: a, cpus: 2}\novercommit: true\n", "a=2000", true},
		"JSON":           {`{"nodes": [{"name": "a", "cpus": "0.25"}]}`, "a=250", false},
		"a Compose file": {service("init: true") + "x-berth: {overcommit: true, strategy: binpack, nodes: [{name: a, cpus: 1}]}\n", "a=1000", true},
		"an anchor":      {"nodes:\n- &n {name: a, cpus: 1}\n- {<<: *n, name: b}\n", "a=1000 b=1000", false},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(project(t, map[string]string{"nodes.yaml": c.file}), "nodes.yaml")
			nodes, overcommit, err := stack.LoadNodes(path)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, n := range nodes {
				got = append(got, fmt.Sprintf("%s=%d", n.Name, n.Capacity.CPU))
			}
			if text := strings.Join(got, " "); text != c.want || overcommit != c.overcommit {
				t.Errorf("got %s, overcommit %v", text, overcommit)
			}
		})
	}
}

func TestBadNodeFiles(t *testing.T) {
	for name, c := range map[string]struct{ file, want string }{
		"empty":           {"", "nodes.yaml: the file is empty"},
		"text":            {"edge-1\n", "nodes.yaml:1: a file of nodes is a list of nodes or a mapping with nodes:; this is text"},
		"no nodes":        {"nodes: []\n", "nodes.yaml: there are no nodes in it; give nodes: at least one"},
		"other key":       {"node: []\n", `nodes.yaml:1: node: unknown key "node"; did you mean nodes?`},
		"no YAML":         {"- {name: a\n", "not valid YAML"},
		"two documents":   {"- name: a\n---\n- name: b\n", "nodes.yaml:3: a second document begins here"},
		"element of list": {"- name: a\n- b\n", "nodes.yaml:2: 1: is text; it must be a mapping"},
		"size in a list":  {"- name: a\n- name: b\n  memory: 5\n", "nodes.yaml:3: 1.memory: is 5; a node needs at least 6M"},
		"twice":           {"nodes:\n  - name: a\n  - cpus: 1\n    name: a\n", `nodes.yaml:4: nodes.1.name: the node "a" is declared twice`},
		"in Compose":      {"x-berth:\n  nodes:\n    - {name: a,\n       cpus: 0}\n", "nodes.yaml:4: x-berth.nodes.0.cpus: is 0; it must be more than nothing"},
		"a variable":      {"- name: $NODE\n", `nodes.yaml:1: 0.name: "$NODE" is not a value this key takes`},
		"a loop":          {"- &a [*a]\n", "contains itself"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(project(t, map[string]string{"nodes.yaml": c.file}), "nodes.yaml")
			if nodes, _, err := stack.LoadNodes(path); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %+v, %v\nwant %s", nodes, err, c.want)
			}
		})
	}
	if _, _, err := stack.LoadNodes(t.TempDir()); err == nil || !strings.Contains(err.Error(), "is a directory, not a file") {
		t.Errorf("a directory: %v", err)
	}
}

// TestManyNodes: a cluster of ten thousand nodes fits in a file.
func TestManyNodes(t *testing.T) {
	var b strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&b, "- {name: node-%d, cpus: 8, memory: 32G, disk: 1T, network: 10G, pids: 1000, labels: {zone: z%d, rack: r%d}, resources: {gpu: 1}}\n", i, i%3, i%100)
	}
	path := filepath.Join(t.TempDir(), "nodes.yaml")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	nodes, _, err := stack.LoadNodes(path)
	if err != nil || len(nodes) != 10_000 {
		t.Fatalf("%d nodes, %v", len(nodes), err)
	}
	t.Log(time.Since(start))
}

// TestParseNode reads the flags of node add.
func TestParseNode(t *testing.T) {
	got, err := stack.ParseNode(stack.NodeFlags{
		Name: "edge-3", CPUs: "0.5", Memory: "256M", Disk: "1G", Network: "100M", Pids: "64",
		Resources: []string{"gpu=2"}, Labels: []string{"zone=a", "note=x=y", "empty="}, Taints: []string{"k=v:NoSchedule", "slow:PreferNoSchedule"},
	})
	want := stack.Node{Pids: 64, Node: scheduler.Node{
		Name: "edge-3", Labels: map[string]string{"zone": "a", "note": "x=y", "empty": ""},
		Capacity: scheduler.Resources{CPU: 500, Memory: 256 << 20, Disk: 1 << 30, Network: 100_000_000, Generic: map[string]int64{"gpu": 2}},
		Taints:   []scheduler.Taint{{Key: "k", Value: "v", Effect: scheduler.NoSchedule}, {Key: "slow", Effect: scheduler.PreferNoSchedule}},
	}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v, %v\nwant %+v", got, err, want)
	}
	if got, err := stack.ParseNode(stack.NodeFlags{Name: "a"}); err != nil || !reflect.DeepEqual(got, stack.Node{Node: scheduler.Node{Name: "a"}}) {
		t.Errorf("the least: %+v, %v", got, err)
	}
	for want, f := range map[string]stack.NodeFlags{
		`the node's name: "" is not a value this key takes`:                                    {},
		`the node's name: "a b" is not a value this key takes`:                                 {Name: "a b"},
		`the node's name: "local" is the engine itself, beside the nodes; choose another name`: {Name: "local"},
		`--cpus: "many" is not a number of CPUs such as 0.5`:                                   {Name: "a", CPUs: "many"},
		`--cpus: is 0; it must be more than nothing, or left out`:                              {Name: "a", CPUs: "0"},
		`--memory: is 12; a node needs at least 6M, since no container starts with less`:       {Name: "a", Memory: "12"},
		`--network: "fast" is not a rate in bits per second such as 100M or 2.5G`:              {Name: "a", Network: "fast"},
		`--pids: is text; it must be an integer`:                                               {Name: "a", Pids: "some"},
		`--label: "zone" is not key=value`:                                                     {Name: "a", Labels: []string{"zone"}},
		`--label: "zone" is given twice`:                                                       {Name: "a", Labels: []string{"zone=a", "zone=b"}},
		`--label a b: the key "a b" holds a space, control character or '='`:                   {Name: "a", Labels: []string{"a b=c"}},
		`--resource gpu: is text; it must be an integer`:                                       {Name: "a", Resources: []string{"gpu=x"}},
		`--resource cpus: "cpus" is no generic resource; it has a key of its own`:              {Name: "a", Resources: []string{"cpus=1"}},
		`--taint: taint "k=v" has no effect: write key=value:NoSchedule`:                       {Name: "a", Taints: []string{"k=v"}},
	} {
		if got, err := stack.ParseNode(f); err == nil || err.Error() != want {
			t.Errorf("got  %+v, %v\nwant %s", got, err, want)
		}
	}
}

// TestNodesInPlace: nodes that are handed in replace those of the files.
func TestNodesInPlace(t *testing.T) {
	dir := project(t, map[string]string{"compose.yaml": service("mem_limit: 1G") + twoNodes})
	if _, err := stack.Load(t.Context(), stack.LoadOptions{WorkingDir: dir}); err == nil {
		t.Fatal("the file's own nodes are large enough")
	}
	large := []stack.Node{{Node: scheduler.Node{Name: "large", Capacity: scheduler.Resources{Memory: 1 << 30}}}}
	got, err := stack.Load(t.Context(), stack.LoadOptions{WorkingDir: dir, Nodes: large})
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got.Stack.Nodes, large) {
		t.Errorf("got %+v", got.Stack.Nodes)
	}
}
