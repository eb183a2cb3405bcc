package stack_test

import (
	"strings"
	"testing"

	"github.com/berth-dev/berth/internal/stack"
)

// TestExtensionsAreKnown: each key of x-berth loads, and none is left aside.
func TestExtensionsAreKnown(t *testing.T) {
	dir := project(t, map[string]string{"compose.yaml": `
x-berth:
  overcommit: true
  weights: {leastAllocated: 1, taints: 3}
  revisions: 10
  nodes:
    - {name: edge-1, cpus: 0.5, memory: 256M, disk: 1G, network: 100M, labels: {zone: a}}
    - {name: edge-2, cpus: "0.5", memory: 268435456, labels: {zone: b}, taints: [dedicated=db:NoSchedule], resources: {gpu: 1}}
services:
  api:
    image: shop/api
    deploy: {resources: {reservations: {cpus: "0.1"}}}
    ports: [{target: 8080, name: web}]
    healthcheck: {test: [CMD, check]}
    depends_on: {db: {condition: service_healthy}}
    x-berth:
      publish: balanced
      priority: 10
      nodeSelector: {zone: a}
      affinity: {preferred: [{services: [db], topologyKey: zone, weight: 50}], nodes: {required: [{expressions: [{key: zone, operator: In, values: [a, b]}]}]}}
      antiAffinity: {required: [{services: [api]}]}
      tolerations: [{key: dedicated, operator: Equal, value: db, effect: NoSchedule}, "dedicated=db:NoExecute"]
      spread: [{topologyKey: zone, maxSkew: 1, minDomains: 2}]
      probes:
        startup: {http: {path: /healthz, port: 8080}, period: 1s, failureThreshold: 30}
        readiness: {http: {path: /readyz, port: web, headers: {A: b}}, period: 2s, initialDelay: 500ms}
        liveness: {tcp: {port: 8080}, period: 5s, timeout: 1s, successThreshold: 1, onFailure: restart, terminationGracePeriod: 5s}
      onUnhealthy: restart
      dependsOn: {whileUnready: pause, deadline: 60s}
      rollout: {maxSurge: 1, maxUnavailable: 25%, minReady: 5s, progressDeadline: 600s, canary: {steps: [10%, 50%], hold: 30s}}
      drain: 10s
      balance: {policy: least-connections}
      discovery: ready
      imageUpdate: {schedule: "0 3 * * *", policy: digest}
      warm: 2
      autoscale:
        min: 1
        max: 8
        interval: 15s
        metrics:
          - {cpu: {utilization: 70}}
          - {connections: {averageValue: 20}}
          - {prometheus: {metric: queue, port: 9090, averageValue: 5}}
        behavior: {scaleDown: {stabilizationWindow: 60s, policies: [{type: Percent, value: 100, period: 15s}], selectPolicy: Max}}
        schedules: [{cron: "0 8 * * 1-5", min: 3}]
        idle: {after: 10m, action: stop}
      resources: {mode: recommend}
  db:
    image: db
    x-berth:
      probes:
        startup: {exec: [pg_isready]}
        readiness: {grpc: {port: 50051, service: db}}
        liveness: {exec: {command: [pg_isready]}}
  cache:
    image: cache
    healthcheck: {test: [CMD, check]}
    x-berth: {probes: {startup: {log: {pattern: ready}}, readiness: {docker: true}}}
`})
	got, err := stack.Load(t.Context(), stack.LoadOptions{WorkingDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Warnings) != 0 {
		t.Errorf("%d warnings: %v", len(got.Warnings), got.Warnings)
	}
}

// TestWrongExtensions wants file and line for a value that x-berth cannot have.
func TestWrongExtensions(t *testing.T) {
	for value, want := range map[string]string{
		"x-berth: {publish: sometimes}":                                   `compose.yaml:4: services.web.x-berth.publish: "sometimes" is not one of direct, balanced`,
		"x-berth: {probes: {liveness: {tcp: {port: 70000}}}}":             `services.web.x-berth.probes.liveness.tcp.port: 70000 is more than 65535`,
		"x-berth: {probes: {liveness: {period: often}}}":                  `services.web.x-berth.probes.liveness.period: "often" is not a duration such as 30s or 1m30s`,
		"x-berth: {probes: {liveness: {http: {path: /}}}}":                `services.web.x-berth.probes.liveness.http: the key port is missing`,
		"x-berth: {probes: {startup: {exec: []}}}":                        `services.web.x-berth.probes.startup.exec: has 0 elements; it must have at least 1`,
		"x-berth: {autoscale: {min: 1}}":                                  `services.web.x-berth.autoscale: the key max is missing`,
		"x-berth: {autoscale: {max: 3, metrics: [{cpu: {percent: 70}}]}}": `services.web.x-berth.autoscale.metrics.0.cpu.percent: unknown key "percent"`,
		"x-berth: {spread: [{maxSkew: 0, topologyKey: zone}]}":            `services.web.x-berth.spread.0.maxSkew: 0 is less than 1`,
		"x-berth: {priority: high}":                                       `services.web.x-berth.priority: is text; it must be an integer`,
		"x-berth: [probes]":                                               `services.web.x-berth: is a list; it must be a mapping`,
	} {
		dir := project(t, map[string]string{"compose.yaml": "services:\n  web:\n    image: a\n    " + value + "\n"})
		_, err := stack.Load(t.Context(), stack.LoadOptions{WorkingDir: dir})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n got %v\nwant %s", value, err, want)
		}
	}
}
