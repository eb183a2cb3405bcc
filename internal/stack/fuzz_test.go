package stack_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/scheduler"
)

// FuzzLoad feeds any bytes as a Compose file: a load ends, with a stack or
// with one line that names the file.
func FuzzLoad(f *testing.F) {
	for _, seed := range []string{
		plain, service("ports: ['80-90:80-90/udp', 443]"), image("a"),
		"services: {a: {extends: {service: a}}}", "include: [compose.yaml]", "x-berth: {nodes: [{name: a, cpus: 1}]}",
		"a: &a {b: *a}", "services: !reset {}", "services: {a: !override {image: b}}", "services:\n  a:\n    <<: [{image: b}, {image: c}]",
		"services: {a: {image: b, ulimits: {nofile: {soft: 1, hard: x}}}}", "---\nservices: {a: {image: b}}\n---\nnetworks: {c: }",
		"services: {a: {image: b, volumes: [{type: bind}], secrets: [{}], configs: [{}]}}", "services: {a: {image: b, deploy: {replicas: '3'}}}",
		service("x-berth: {affinity: {required: [{services: [web]}], nodes: {required: [{labels: {a: b}, expressions: [{key: c, operator: Gt, values: [1]}]}]}}, antiAffinity: {preferred: [{services: [web], weight: 2}]}}") + twoNodes,
		service("x-berth: {tolerations: ['a=b:NoSchedule', '*', {operator: Exists}], spread: [{topologyKey: node, maxSkew: 2}], reservations: {network: 1.5Gbit, disk: 1k}, priority: ${A}}") + twoNodes,
		service("deploy: {mode: global-job, placement: {constraints: ['node.labels.a != b'], preferences: [{spread: engine.labels.c}]}, resources: {reservations: {cpus: '.5', generic_resources: [{discrete_resource_spec: {kind: d, value: 1}}]}}}"),
		service("ports: [{target: 80, name: a}, {target: 53, protocol: udp, name: b}], x-berth: {probes: {startup: {log: {pattern: 'x+'}}, readiness: {https: {port: a, path: '/${A}', headers: {B: 1}}}, liveness: {tcp: {port: 1}, period: 1m, onFailure: {exec: [c]}}}}"),
		service("healthcheck: {test: [CMD, x]}, depends_on: {db: {condition: service_healthy}}, x-berth: {onUnhealthy: stop, dependsOn: {whileUnready: stop, deadline: 1s}, probes: {liveness: {exec: [a], onFailure: {webhook: 'http://x'}}, readiness: {grpc: {port: 2}}}}") + "  db: {image: a, x-berth: {probes: {readiness: {docker: true}}}}\n",
		service("volumes: ['/a:/b', /c], networks: {default: {aliases: [x]}}, pre_start: [{command: a, volumes: ['/d:/b'], network_mode: none, per_replica: true}, {image: b, networks: [default], env_file: []}], post_start: [{command: a b, environment: [A]}], pre_stop: [{command: [c], user: root}]"),
		service("deploy: {endpoint_mode: vip, replicas: 3, update_config: {parallelism: 0, delay: 1s, monitor: 2s, max_failure_ratio: '.3', failure_action: rollback, order: start-first}, rollback_config: {parallelism: 2, failure_action: continue}}, ports: ['80:80', '81-82:81/udp', '83/sctp']"),
		service("scale: 2, ports: ['80:80'], expose: [81], x-berth: {publish: balanced, rollout: {maxSurge: 150%, maxUnavailable: 0, minReady: 1s, progressDeadline: 2s, canary: {steps: [5%, '${A}'], hold: 1m}}, drain: 1s, balance: {policy: source-hash, hold: 0s, maxHeld: 0}, discovery: ready, imageUpdate: {schedule: '*/5 * * * 1', policy: none}}") + "x-berth: {revisions: 3}\n",
		service("ports: [{target: 80, name: p}], deploy: {resources: {reservations: {cpus: '1', memory: 1M}, limits: {cpus: '2'}}}, x-berth: {warm: 2, resources: {mode: auto, min: {cpus: .1}, max: {memory: 2G}}, autoscale: {min: 1, max: 5, tolerance: 0.1, metrics: [{cpu: {utilization: 70}}, {latency: {averageValue: 5ms}}, {prometheus: {metric: a, port: p, labels: {b: 1}, value: 3}}, {exec: {command: [c], averageValue: 1k}}, {webhook: {url: 'http://d', value: 1e3}}], behavior: {scaleUp: {stabilizationWindow: 1s, selectPolicy: Min, policies: [{type: Percent, value: 50, period: 1m}]}}}}"),
		service("ports: [80], x-berth: {autoscale: {min: 0, max: 2, concurrency: {target: 1.5, stableWindow: 20s, panicWindow: 2s, panicThreshold: 2}, idle: {after: 5m, action: stop, grace: 10s}, schedules: [{cron: '0 8 * * 1-5', timeZone: Europe/Berlin, min: 1}, {cron: '@weekly', replicas: 0}], predict: {enabled: true, period: 24h}}}"),
		"x-berth: {weights: {taints: 3}, nodes: [{name: a, cpus: 1e-3, network: 1t, taints: ['a:NoExecute'], resources: {x: 1}}]}\nservices: {}\n",
	} {
		f.Add([]byte(seed))
	}
	rich, err := os.ReadFile("testdata/rich/compose.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(rich)
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, "compose.yaml"), data, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := stack.Load(t.Context(), stack.LoadOptions{WorkingDir: dir, Environ: []string{"A=b"}})
		if err != nil {
			if msg := err.Error(); strings.ContainsAny(msg, "\n\r\x00\x1b") || msg == "" {
				t.Errorf("not one line: %q", msg)
			}
			return
		}
		again, err := stack.Load(t.Context(), stack.LoadOptions{WorkingDir: dir, Environ: []string{"A=b"}})
		if err != nil {
			t.Fatalf("the second load fails: %v", err)
		}
		placeable(t, got.Stack)
		scalable(t, got.Stack)
		for _, s := range got.Stack.Services {
			if o := again.Stack.Service(s.Name); o == nil || o.Revision != s.Revision {
				t.Errorf("service %s has another revision the second time", s.Name)
			}
		}
	})
}

// FuzzLoadNodes feeds any bytes as a file of nodes: there is one line about the
// file, or nodes that a scheduler takes.
func FuzzLoadNodes(f *testing.F) {
	for _, seed := range []string{
		twoNodes, "- {name: a, cpus: 0.5}\n- {name: b, memory: 6M}\n", `{"nodes": [{"name": "a", "pids": "5"}], "overcommit": true}`,
		"nodes: [&a {name: a, labels: {b: 1.0}}, {<<: *a, name: c}]", "- {name: a, taints: ['a=b=c:NoSchedule'], resources: {gpu: 1}, network: 0.5kbit, disk: 1.5t}", "[[]]", "--- 1",
	} {
		f.Add([]byte(seed))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(dir, "nodes.yaml")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		nodes, _, err := stack.LoadNodes(path)
		if err != nil {
			if msg := err.Error(); strings.ContainsAny(msg, "\n\r\x00\x1b") || !strings.Contains(msg, "nodes.yaml") {
				t.Errorf("not one line about the file: %q", msg)
			}
			return
		}
		c, err := scheduler.New(scheduler.Policy{})
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range nodes {
			if err := c.AddNode(n.Node); err != nil {
				t.Errorf("the scheduler refuses %+v: %v", n, err)
			}
		}
	})
}

// placeable wants the scheduler to accept all that a load accepts.
func placeable(t *testing.T, s *stack.Stack) {
	t.Helper()
	c, err := scheduler.New(s.Scheduling)
	if err != nil {
		t.Fatalf("the scheduler refuses the policy %+v: %v", s.Scheduling, err)
	}
	for _, n := range s.Nodes {
		if err := c.AddNode(n.Node); err != nil {
			t.Errorf("the scheduler refuses %+v: %v", n, err)
		}
	}
	for _, svc := range s.Services {
		if _, err := c.Register(svc.Placement); err != nil {
			t.Errorf("the scheduler refuses %+v: %v", svc.Placement, err)
		}
	}
}
