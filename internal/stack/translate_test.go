package stack_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
)

// TestTranslation looks at the part of a service that each key decides.
func TestTranslation(t *testing.T) {
	no := false
	for name, c := range map[string]struct {
		keys string
		part func(s *stack.Service) any
		want any
	}{
		"port ranges": {"ports: ['8000-8001:80-81', '9000-9010:90/udp', '53:53/udp']", func(s *stack.Service) any { return s.Spec.Ports }, []runtime.Port{
			{Target: 53, Published: "53", Protocol: "udp"},
			{Target: 80, Published: "8000", Protocol: "tcp"}, {Target: 81, Published: "8001", Protocol: "tcp"},
			{Target: 90, Published: "9000-9010", Protocol: "udp"},
		}},
		"container's port":         {"ports: [80]", func(s *stack.Service) any { return s.Spec.Ports }, []runtime.Port{{Target: 80, Protocol: "tcp"}}},
		"range for replicas":       {"scale: 3, ports: ['8000-8002:80']", func(s *stack.Service) any { return s.Spec.Ports }, []runtime.Port{{Target: 80, Published: "8000-8002", Protocol: "tcp"}}},
		"no restart":               {"restart: 'no'", func(s *stack.Service) any { return s.Spec.Restart }, runtime.RestartPolicy{Name: "no"}},
		"restart, counted":         {"restart: on-failure:3", func(s *stack.Service) any { return s.Spec.Restart }, runtime.RestartPolicy{Name: "on-failure", MaxRetries: 3}},
		"restart_policy":           {"deploy: {restart_policy: {}}", func(s *stack.Service) any { return s.Restart }, &stack.RestartPolicy{Condition: "any", Delay: 5 * time.Second}},
		"restart_policy at once":   {"deploy: {restart_policy: {delay: 0s, condition: none}}", func(s *stack.Service) any { return s.Restart }, &stack.RestartPolicy{Condition: "none"}},
		"the engine's is off then": {"restart: always, deploy: {restart_policy: {}}", func(s *stack.Service) any { return s.Spec.Restart }, runtime.RestartPolicy{Name: "no"}},
		"replicas":                 {"deploy: {replicas: 4}", func(s *stack.Service) any { return s.Replicas }, 4},
		"no replicas":              {"scale: 0", func(s *stack.Service) any { return s.Replicas }, 0},
		"replicas as text":         {"deploy: {replicas: '2'}", func(s *stack.Service) any { return s.Replicas }, 2},
		"cleared command":          {"command: []", func(s *stack.Service) any { return s.Spec.Command }, []string{}},
		"the image's command":      {"init: true", func(s *stack.Service) any { return s.Spec.Command }, []string(nil)},
		"command as text":          {`command: sh -c "a b"`, func(s *stack.Service) any { return s.Spec.Command }, []string{"sh", "-c", "a b"}},
		"no health":                {"healthcheck: {test: [NONE]}", func(s *stack.Service) any { return s.Spec.Healthcheck }, &runtime.Healthcheck{Disable: true}},
		"the image's health":       {"healthcheck: {interval: 5s}", func(s *stack.Service) any { return s.Spec.Healthcheck }, &runtime.Healthcheck{Interval: 5 * time.Second}},
		"init off":                 {"init: false", func(s *stack.Service) any { return s.Spec.Init }, &no},
		"legacy limits": {"cpus: 0.1, mem_limit: 64m, mem_reservation: 32m, pids_limit: 10, cpu_quota: 5000", func(s *stack.Service) any { return s.Spec.Limits },
			runtime.Limits{NanoCPUs: 100_000_000, Memory: 64 << 20, MemoryReservation: 32 << 20, Pids: 10, CPUQuota: 5000}},
		"limits": {"deploy: {resources: {limits: {cpus: 1.5, memory: 1G, pids: 5}}}", func(s *stack.Service) any { return s.Spec.Limits },
			runtime.Limits{NanoCPUs: 1_500_000_000, Memory: 1 << 30, Pids: 5}},
		"swap without end":  {"mem_limit: 64m, memswap_limit: -1", func(s *stack.Service) any { return s.Spec.Limits.MemorySwap }, int64(-1)},
		"host's network":    {"network_mode: host", func(s *stack.Service) any { return [2]any{s.Spec.NetworkMode, len(s.Spec.Networks)} }, [2]any{"host", 0}},
		"default network":   {"init: true", func(s *stack.Service) any { return s.Spec.Networks }, []runtime.Attachment{{Network: "shop_default", Aliases: []string{"web"}}}},
		"no alias":          {"networks: {default: {use_service_name_alias: false, aliases: [x]}}", func(s *stack.Service) any { return s.Spec.Networks }, []runtime.Attachment{{Network: "shop_default", Aliases: []string{"x"}}}},
		"bind":              {"volumes: ['/a:/b']", func(s *stack.Service) any { return s.Spec.Mounts }, []runtime.Mount{{Type: runtime.MountBind, Source: "/a", Target: "/b", CreateSource: true}}},
		"bind, not created": {"volumes: [{type: bind, source: /a, target: /b, bind: {create_host_path: false}}]", func(s *stack.Service) any { return s.Spec.Mounts }, []runtime.Mount{{Type: runtime.MountBind, Source: "/a", Target: "/b"}}},
		"one gpu":           {"gpus: [{count: 1}]", func(s *stack.Service) any { return s.Spec.DeviceRequests }, []runtime.DeviceRequest{{Count: 1, Capabilities: []string{"gpu"}}}},
		"refresh":           {"pull_policy: refresh", func(s *stack.Service) any { return s.PullPolicy }, "always"},
		"refresh by age":    {"pull_policy: refresh, pull_refresh_after: 12h", func(s *stack.Service) any { return s.PullPolicy }, "every_12h"},
		"if not present":    {"pull_policy: if_not_present", func(s *stack.Service) any { return s.PullPolicy }, "missing"},
		"build": {"build: {context: /src, dockerfile_inline: FROM a, platforms: [linux/arm64]}", func(s *stack.Service) any { return s.Build },
			&runtime.Build{Context: "/src", DockerfileInline: "FROM a", Args: map[string]string{}, Tags: []string{"a"}, Platform: "linux/arm64"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := project(t, map[string]string{"compose.yaml": service(c.keys)})
			got, err := stack.Load(t.Context(), stack.LoadOptions{WorkingDir: dir})
			if err != nil {
				t.Fatal(err)
			}
			if part := c.part(got.Stack.Service("web")); !reflect.DeepEqual(part, c.want) {
				t.Errorf("got  %+v\nwant %+v", part, c.want)
			}
		})
	}
}
