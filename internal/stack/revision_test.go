package stack_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/berth-dev/berth/internal/stack"
)

// revisionOf loads a project of one file and returns a service's revision.
func revisionOf(t testing.TB, dir, file, name string, environ ...string) string {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "compose.yaml"), []byte(file), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := stack.Load(t.Context(), stack.LoadOptions{WorkingDir: dir, Environ: environ})
	if err != nil {
		t.Fatalf("%v\n%s", err, file)
	}
	return got.Stack.Service(name).Revision
}

// base is what the changes below are made to.
const base = `
services:
  web:
    image: web:1
    secrets: [filed, named]
    configs: [inline]
    networks: [front]
    volumes: [data:/data]
    %s
  db: {image: db}
networks: {front: {%s}}
volumes: {data: {%s}}
secrets: {filed: {file: secret.txt}, named: {environment: SECRET}}
configs: {inline: {content: "%s"}}
`

// TestRevisionIgnores: what changes in place, is no part of a container, or may
// pass from it to the balancer, keeps the revision.
func TestRevisionIgnores(t *testing.T) {
	dir := project(t, map[string]string{"secret.txt": "a"})
	want := revisionOf(t, dir, fmt.Sprintf(base, "", "", "", "x"), "web", "SECRET=s")
	harmless := []string{
		"scale: %d", "mem_limit: %dG", "cpus: %d", "pids_limit: %d", "cpu_shares: %d", "mem_reservation: %dM", "cpu_quota: %d000",
		"restart: on-failure:%d", "restart: always", "depends_on: [db]", "depends_on: {db: {condition: service_healthy, restart: true}}",
		"pull_policy: always", "ports: ['%d:80']", "ports: ['80', '%d/udp']", "profiles: []", "attach: false", "blkio_config: {weight: %d0}",
		"x-berth: {publish: balanced, drain: %ds, balance: {policy: source-hash}, rollout: {minReady: 1s, progressDeadline: %[1]dm, canary: {steps: [1]}}}",
		"x-berth: {priority: %d, nodeSelector: {a: b}, tolerations: [a=b], spread: [{topologyKey: zone}], reservations: {disk: 1G}}",
	}
	deploy := []string{"replicas: %d", "resources: {limits: {memory: %dM}}", "resources: {limits: {cpus: '%d'}}", "update_config: {parallelism: %d}", "update_config: {order: start-first, delay: %ds}, rollback_config: {monitor: 1s}", "endpoint_mode: dnsrr", "placement: {constraints: [node.labels.a==b]}",
		"placement: {preferences: [{spread: node.labels.a}], max_replicas_per_node: %d}", "mode: global", "mode: replicated-job", "resources: {reservations: {cpus: '%d', generic_resources: [{discrete_resource_spec: {kind: gpu, value: %[1]d}}]}}"}
	rapid.Check(t, func(rt *rapid.T) {
		keys := map[string]string{}
		for _, k := range rapid.SliceOfDistinct(rapid.SampledFrom(harmless), func(s string) string { return s[:strings.Index(s, ":")] }).Draw(rt, "keys") {
			keys[k] = k
		}
		var lines []string
		for _, k := range keys {
			lines = append(lines, fill(rt, k))
		}
		if len(keys) == 0 || !strings.Contains(strings.Join(lines, " "), "mem_") && !strings.Contains(strings.Join(lines, " "), "cpus") && !strings.Contains(strings.Join(lines, " "), "scale") {
			key := fill(rt, rapid.SampledFrom(deploy).Draw(rt, "deploy"))
			if strings.Contains(key, "job") && strings.Contains(strings.Join(lines, " "), "rollout") {
				key = "mode: global" // a job is not rolled out
			}
			lines = append(lines, "deploy: {"+key+"}")
		}
		file := fmt.Sprintf(base, strings.Join(lines, "\n    "), "", "", "x")
		if got := revisionOf(t, dir, file, "web", "SECRET=s"); got != want {
			rt.Errorf("the revision changed with\n%s", file)
		}
	})
}

// fill puts a number where a key wants one.
func fill(rt *rapid.T, s string) string {
	if strings.Contains(s, "%d") {
		return fmt.Sprintf(s, rapid.IntRange(11, 90).Draw(rt, "n"))
	}
	return s
}

// TestRevisionSees: what only a new container can change makes a new revision,
// and each change another one.
func TestRevisionSees(t *testing.T) {
	dir := project(t, map[string]string{"secret.txt": "a", "web.env": "A=b\n"})
	file := func(web, network, volume, config string) string {
		return fmt.Sprintf(base, web, network, volume, config)
	}
	seen := map[string]string{}
	check := func(what, revision string) {
		t.Helper()
		if len(revision) != 16 {
			t.Errorf("%s: revision %q", what, revision)
		}
		if other, ok := seen[revision]; ok {
			t.Errorf("%s has the revision of %s", what, other)
		}
		seen[revision] = what
	}
	check("the base", revisionOf(t, dir, file("", "", "", "x"), "web", "SECRET=s"))
	for _, web := range []string{
		"command: x", "entrypoint: x", "entrypoint: []", "environment: {A: b}", "environment: {A: c}", "env_file: web.env,", "labels: {a: b}", "user: a", "working_dir: /x",
		"hostname: x", "expose: ['1']", "expose: ['1']\n    x-berth: {discovery: ready}", "init: true", "tty: true", "privileged: true", "read_only: true", "cap_add: [X]",
		"tmpfs: /x", "healthcheck: {test: x}", "healthcheck: {disable: true}", "stop_signal: SIGINT", "stop_grace_period: 5s", "logging: {driver: none}",
		"container_name: own", "shm_size: 1M", "ulimits: {nproc: 1}", "devices: [/dev/null]", "gpus: all", "sysctls: {a: 1}", "security_opt: [no-new-privileges]",
		"extra_hosts: ['a:1.2.3.4']", "dns: 1.1.1.1", "pid: host", "ipc: host", "platform: linux/arm64", "annotations: {a: b}", "network_mode: host",
	} {
		text := file(strings.TrimSuffix(web, ","), "", "", "x")
		if strings.HasPrefix(web, "network_mode") {
			text = strings.Replace(text, "    networks: [front]\n", "", 1)
		}
		if web == "env_file: web.env," { // the same variables from a file are the same container
			if got := revisionOf(t, dir, text, "web", "SECRET=s"); seen[got] != "environment: {A: b}" {
				t.Errorf("env_file gives another revision than environment")
			}
			continue
		}
		check(web, revisionOf(t, dir, text, "web", "SECRET=s"))
	}
	check("the image", revisionOf(t, dir, strings.Replace(file("", "", "", "x"), "web:1", "web:2", 1), "web", "SECRET=s"))
	check("a network", revisionOf(t, dir, file("", "internal: true", "", "x"), "web", "SECRET=s"))
	check("a network's name", revisionOf(t, dir, file("", "name: other", "", "x"), "web", "SECRET=s"))
	check("a volume", revisionOf(t, dir, file("", "", "driver_opts: {a: b}", "x"), "web", "SECRET=s"))
	check("a volume's name", revisionOf(t, dir, file("", "", "name: other", "x"), "web", "SECRET=s"))
	check("a config", revisionOf(t, dir, file("", "", "", "y"), "web", "SECRET=s"))
	check("a secret's variable", revisionOf(t, dir, file("", "", "", "x"), "web", "SECRET=other"))
	if err := os.WriteFile(filepath.Join(dir, "secret.txt"), []byte("b"), 0o644); err != nil {
		t.Fatal(err)
	}
	check("a secret's file", revisionOf(t, dir, file("", "", "", "x"), "web", "SECRET=s"))
	delete(seen, revisionOf(t, dir, file("", "", "", "x"), "db", "SECRET=s"))
}

// TestRevisionIsStable: the order of keys and a second load change nothing.
func TestRevisionIsStable(t *testing.T) {
	dir := project(t, nil)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	a := revisionOf(t, dir, "services: {web: {image: a, environment: {A: 1, B: 2}, labels: {x: y, z: w}}}\n", "web")
	b := revisionOf(t, dir, "services: {web: {labels: [z=w, x=y], environment: [B=2, A=1], image: a}}\n", "web")
	if a != b {
		t.Errorf("%s and %s differ", a, b)
	}
}
