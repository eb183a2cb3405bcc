package stack_test

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/berth-dev/berth/health"
	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
)

// probing is a file whose service has the keys on lines of their own, from line 4 on.
func probing(keys string) string {
	return "services:\n  web:\n    image: a\n    " + strings.ReplaceAll(keys, "\n", "\n    ") + "\n"
}

func loadProbing(t *testing.T, keys string) (*stack.Loaded, error) {
	t.Helper()
	dir := project(t, map[string]string{"compose.yaml": probing(keys)})
	return stack.Load(t.Context(), stack.LoadOptions{WorkingDir: dir, Environ: []string{"TOKEN=canary-token", "PERIOD=7s"}})
}

// TestWrongHealth wants file and line for each rule of a service's health.
func TestWrongHealth(t *testing.T) {
	const at, svc = "compose.yaml:4: services.web.x-berth.", "services.web.x-berth."
	probe := func(text string) string { return "x-berth: {probes: {" + text + "}}" }
	for keys, want := range map[string]string{
		probe("liveness: {}"):                                                                                   at + "probes.liveness: has no type; give one of exec, http",
		probe("liveness: {docker: false}"):                                                                      at + "probes.liveness: has no type",
		probe("liveness: {tcp: {port: 1}, exec: [a]}"):                                                          at + "probes.liveness: has the types exec and tcp; a probe has exactly one",
		probe("liveness: {http: {port: 1}, https: {port: 1}}"):                                                  at + "probes.liveness: has the types http and https; a probe has exactly one",
		probe("liveness: {tcp: {port: 1}, period: 100ms}"):                                                      at + "probes.liveness.period: 100ms is too short; the least is 1s",
		probe("liveness: {tcp: {port: 1}, period: 0s}"):                                                         at + "probes.liveness.period: 0s is too short",
		probe("liveness: {tcp: {port: 1}, timeout: 0s}"):                                                        at + "probes.liveness.timeout: 0s is too short",
		probe("liveness: {tcp: {port: 1}, terminationGracePeriod: 0s}"):                                         at + "probes.liveness.terminationGracePeriod: 0s is too short",
		probe("liveness: {tcp: {port: 1}, initialDelay: -1s}"):                                                  at + `probes.liveness.initialDelay: "-1s" is not a duration`,
		probe("liveness: {tcp: {port: 1}, initialDelay: 5}"):                                                    at + "probes.liveness.initialDelay: is a number; it must be text",
		probe("liveness: {tcp: {port: 1}, timeout: soon}"):                                                      at + `probes.liveness.timeout: "soon" is not a duration`,
		probe("liveness: {tcp: {port: 1}, successThreshold: 2}"):                                                at + "probes.liveness.successThreshold: is 2; it must be 1 for liveness",
		probe("startup: {tcp: {port: 1}, successThreshold: 3}"):                                                 at + "probes.startup.successThreshold: is 3; it must be 1 for startup",
		probe("readiness: {tcp: {port: 1}, failureThreshold: 0}"):                                               at + "probes.readiness.failureThreshold: 0 is less than 1",
		probe("readiness: {tcp: {port: 1}, failureThreshold: 1001}"):                                            at + "probes.readiness.failureThreshold: 1001 is more than 1000",
		probe("readiness: {tcp: {port: 1}, failureThreshold: 1.5}"):                                             at + "probes.readiness.failureThreshold: is a number; it must be an integer",
		probe("readiness: {tcp: {port: 1}, onFailure: restart}"):                                                at + "probes.readiness.onFailure: belongs to startup and liveness",
		probe("readiness: {tcp: {port: 1}, terminationGracePeriod: 5s}"):                                        at + "probes.readiness.terminationGracePeriod: belongs to startup and liveness",
		probe("readiness: {log: {pattern: x}}"):                                                                 at + "probes.readiness.log: belongs to startup",
		probe("startup: {log: {pattern: '('}}"):                                                                 at + "probes.startup.log.pattern: error parsing regexp",
		probe("startup: {log: {pattern: ''}}"):                                                                  at + "probes.startup.log.pattern: is empty",
		probe("startup: {log: {}}"):                                                                             at + "probes.startup.log: the key pattern is missing",
		probe("liveness: {tcp: {port: 0}}"):                                                                     at + "probes.liveness.tcp.port: 0 is less than 1",
		probe("liveness: {tcp: {port: 65536}}"):                                                                 at + "probes.liveness.tcp.port: 65536 is more than 65535",
		probe("liveness: {tcp: {port: ''}}"):                                                                    at + "probes.liveness.tcp.port: is missing; give 1 to 65535",
		probe("liveness: {tcp: {port: web}}"):                                                                   at + `probes.liveness.tcp.port: no port is named "web": the service names none`,
		probe("liveness: {https: {port: wbe}}") + "\nports: [{target: 80, name: web}]":                          at + `probes.liveness.https.port: no port is named "wbe"; the service names web`,
		probe("liveness: {grpc: {port: dns}}") + "\nports: [{target: 53, name: dns, protocol: udp}]":            at + `probes.liveness.grpc.port: the port "dns" speaks udp; probes speak TCP`,
		probe("liveness: {tcp: {port: w}}") + "\nports: [{target: 80, name: w}, {target: 81, name: w}]":         at + `probes.liveness.tcp.port: the port "w" means both 80 and 81`,
		probe("liveness: {http: {port: 1, path: ready}}"):                                                       at + `probes.liveness.http.path: "ready" is no path`,
		probe("liveness: {https: {port: 1, path: ready}}"):                                                      at + `probes.liveness.https.path: "ready" is no path`,
		probe("liveness: {https: {port: 1, scheme: http}}"):                                                     at + "probes.liveness.https.scheme: is http, but the probe is of the type https",
		probe("liveness: {http: {port: 1, scheme: ftp}}"):                                                       at + `probes.liveness.http.scheme: "ftp" is not one of http, https`,
		probe("liveness: {http: {port: 1, host: 'a b'}}"):                                                       at + `probes.liveness.http.host: "a b" is no host`,
		probe("liveness: {http: {port: 1, headers: {'A B': c}}}"):                                               at + "probes.liveness.http.headers.A B: is no header's name",
		probe(`liveness: {http: {port: 1, headers: {A.B: "c\nd"}}}`):                                            at + "probes.liveness.http.headers.A.B: holds a line break",
		probe("liveness: {tcp: {port: 1, host: '[::1]'}}"):                                                      at + `probes.liveness.tcp.host: "[::1]" is no host`,
		probe("liveness: {exec: ['']}"):                                                                         at + "probes.liveness.exec: has no command",
		probe(`liveness: {exec: {command: ["a\0"]}}`):                                                           at + "probes.liveness.exec: holds a NUL character",
		probe("liveness: {exec: pg_isready}"):                                                                   at + "probes.liveness.exec: is text; it must be a list or a mapping",
		probe("liveness: {exec: [a], onFailure: reboot}"):                                                       at + `probes.liveness.onFailure: "reboot" is not one of restart, recreate, stop, pause, none`,
		probe("liveness: {exec: [a], onFailure: {}}"):                                                           at + "probes.liveness.onFailure: says nothing; give restart",
		probe("liveness: {exec: [a], onFailure: {exec: [b], webhook: 'http://c'}}"):                             at + "probes.liveness.onFailure: has more than one action",
		probe("liveness: {exec: [a], onFailure: {webhook: nowhere}}"):                                           at + "probes.liveness.onFailure.webhook: is no URL",
		probe("liveness: {exec: [a], onFailure: {webhook: 'ftp://c'}}"):                                         at + `probes.liveness.onFailure.webhook: has the scheme "ftp"`,
		probe("liveness: {docker: true}") + "\nhealthcheck: {disable: true}":                                    at + "probes.liveness.docker: depends on the engine's healthcheck, which is turned off (compose.yaml:5)",
		probe("ready: {exec: [a]}"):                                                                             svc + `probes.ready: unknown key "ready"`,
		"x-berth: {onUnhealthy: restart}\nhealthcheck: {test: [NONE]}":                                          at + "onUnhealthy: depends on the engine's healthcheck, which is turned off (compose.yaml:5)",
		"x-berth: {onUnhealthy: restart, probes: {liveness: {docker: true}}}\nhealthcheck: {test: x}":           at + "onUnhealthy: and probes.liveness.docker both act on the engine's healthcheck; keep one",
		"x-berth: {onUnhealthy: exec}":                                                                          at + `onUnhealthy: "exec" is not one of none, restart, recreate, stop, pause`,
		"x-berth: {dependsOn: {whileUnready: restart}}":                                                         at + `dependsOn.whileUnready: "restart" is not one of keep, pause, stop`,
		"x-berth: {dependsOn: {deadline: never}}":                                                               at + `dependsOn.deadline: "never" is not a duration`,
		"x-berth:\n  probes:\n    liveness:\n      tcp: {port: 1}\n      period: 10ms":                          "compose.yaml:8: " + svc + "probes.liveness.period: 10ms is too short",
		"x-berth:\n  probes:\n    liveness:\n      tcp: {port: 1}\n      period: ${PERIOD}00000000000000000000": "compose.yaml:8: " + svc + "probes.liveness.period: ",
		// A value that interpolation brings is never shown.
		probe("liveness: {http: {port: 1, host: '${TOKEN} x'}}"): at + `probes.liveness.http.host: "${TOKEN} x" is no host`,
		probe("startup: {log: {pattern: '${TOKEN}('}}"):          at + "probes.startup.log.pattern: error parsing regexp: missing closing ): `${TOKEN}(`",
	} {
		got, err := loadProbing(t, keys)
		switch {
		case err == nil:
			t.Errorf("%s\nloaded: %+v", keys, got.Stack.Services[0].Probes)
		case !strings.Contains(err.Error(), want):
			t.Errorf("%s\n got %s\nwant %s", keys, err, want)
		case strings.ContainsAny(err.Error(), "\n\x00") || strings.Contains(err.Error(), "canary"):
			t.Errorf("%s: not one line for a terminal, or a secret: %q", keys, err)
		}
	}
}

// TestLongValuesAreCut: a message about a value of any length is short.
func TestLongValuesAreCut(t *testing.T) {
	for _, keys := range []string{
		"x-berth: {probes: {liveness: {http: {port: 1, path: " + strings.Repeat("x", 1<<17) + "}}}}",
		"x-berth: {probes: {liveness: {tcp: {port: " + strings.Repeat("x", 1<<17) + "}}}}",
	} {
		if _, err := loadProbing(t, keys); err == nil || len(err.Error()) > 1000 {
			t.Errorf("got %.200v…", err)
		}
	}
}

// TestWrongHooks wants file and line for hooks and steps that cannot be run.
func TestWrongHooks(t *testing.T) {
	for keys, want := range map[string]string{
		"post_start: [{user: root}]":                                   "compose.yaml:4: services.web.post_start.0: the key command is missing",
		"post_start: [{command: []}]":                                  "compose.yaml:4: services.web.post_start.0.command: is empty; give a command",
		"pre_stop:\n  - command: a\n  - command: ''":                   "compose.yaml:6: services.web.pre_stop.1.command: is empty",
		"pre_stop: [{command: a, user: 'a b'}]":                        `compose.yaml:4: services.web.pre_stop.0.user: "a b" holds a space`,
		"pre_stop: [{command: a, environment: {'A B': c}}]":            "compose.yaml:4: services.web.pre_stop.0.environment.A B: the name",
		"post_start: [{command: a, when: b}]":                          `compose.yaml:4: services.web.post_start.0.when: unknown key "when"`,
		"pre_start: [{command: a, ports: ['80']}]":                     `compose.yaml:4: services.web.pre_start.0.ports: unknown key "ports"`,
		"pre_start: [{command: a, image: 'A B'}]":                      `compose.yaml:4: services.web.pre_start.0.image: "A B": is not an image reference`,
		"pre_start:\n  - command: a\n    volumes: ['data:/x']":         `compose.yaml:6: services.web.pre_start.0.volumes.0: the volume "data" is not defined`,
		"pre_start:\n  - command: a\n    networks: [bck]":              `compose.yaml:6: services.web.pre_start.0.networks.bck: the network "bck" is not defined`,
		"pre_start: [{command: a, secrets: [pw]}]":                     `compose.yaml:4: services.web.pre_start.0.secrets: the secret "pw" is not defined`,
		"pre_start: [{command: a, network_mode: 'service:web'}]":       "compose.yaml:4: services.web.pre_start.0.network_mode: means the service itself",
		"pre_start: [{command: a, network_mode: 'service:db'}]":        `compose.yaml:4: services.web.pre_start.0.network_mode: uses the service "db", which may not be there yet; add it to depends_on: of "web"`,
		"pre_start: [{command: a, pid: 'service:db'}]":                 `services.web.pre_start.0.pid: uses the service "db"`,
		"pre_start: [{command: a, volumes_from: ['db:ro']}]":           `services.web.pre_start.0.volumes_from: uses the service "db"`,
		"pre_start: [{command: a, volumes_from: [web]}]":               "services.web.pre_start.0.volumes_from: means the service itself",
		"pre_start: [{command: a, network_mode: none, networks: [b]}]": "services.web.pre_start.0.network_mode: and networks: exclude each other",
		"pre_start: [{command: a, mem_limit: 1G, memswap_limit: 1M}]":  "compose.yaml:4: services.web.pre_start.0.memswap_limit: is less than the memory limit",
		"pre_start: [{command: a, env_file: nowhere}]":                 "compose.yaml:4: services.web.pre_start.0.env_file.0: ",
		"pre_start: [{command: a, label_file: nowhere}]":               "compose.yaml:4: services.web.pre_start.0.label_file.0: ",
		"pre_start: [{command: a, security_opt: ['seccomp=nowhere']}]": "compose.yaml:4: services.web.pre_start.0.security_opt: the seccomp profile nowhere",
		"pre_start: [{command: a, use_api_socket: true}]":              "compose.yaml:4: services.web.pre_start.0.use_api_socket: not carried out",
		"pre_start: [{command: a, volumes: ['./x:/x', './y:/x']}]":     `services.web.pre_start.0.volumes.1: "/x" is mounted on already by volumes.0`,
		"pre_start: [{command: a, configs: [{source: c, uid: root}]}]": `services.web.pre_start.0.configs.0.uid: "root" is not a numeric ID`,
	} {
		file := probing(keys) + "  db: {image: b}\nconfigs: {c: {content: x}}\nnetworks: {b: {}}\n"
		if strings.Contains(keys, "bck") {
			file = strings.Replace(file, "networks: {b: {}}\n", "", 1)
		}
		dir := project(t, map[string]string{"compose.yaml": file})
		got, err := stack.Load(t.Context(), stack.LoadOptions{WorkingDir: dir})
		switch {
		case err == nil:
			t.Errorf("%s\nloaded: %+v", keys, got.Stack.Services)
		case !strings.Contains(err.Error(), want):
			t.Errorf("%s\n got %s\nwant %s", keys, err, want)
		}
	}
}

// TestHealthWarnings: what can only be known of the image, and what has no effect.
func TestHealthWarnings(t *testing.T) {
	const image = "depends on the engine's healthcheck: the file has none, so the image must bring one"
	for keys, want := range map[string][]string{
		"x-berth: {onUnhealthy: restart}":                                                            {"compose.yaml:4: services.web.x-berth.onUnhealthy: " + image},
		"x-berth: {onUnhealthy: restart}\nhealthcheck: {interval: 5s}":                               {"compose.yaml:4: services.web.x-berth.onUnhealthy: " + image},
		"x-berth: {onUnhealthy: restart}\nhealthcheck: {test: x}":                                    nil,
		"x-berth: {onUnhealthy: none}":                                                               nil,
		"x-berth: {probes: {readiness: {docker: {}}}}":                                               {"compose.yaml:4: services.web.x-berth.probes.readiness.docker: " + image},
		"x-berth: {dependsOn: {whileUnready: stop}}\ndepends_on: [db]":                               {"compose.yaml:4: services.web.x-berth.dependsOn.whileUnready: has no effect: no dependency has condition: service_healthy"},
		"x-berth: {dependsOn: {whileUnready: keep, deadline: 5s}}":                                   {"compose.yaml:4: services.web.x-berth.dependsOn.deadline: has no effect: the service depends on nothing"},
		"x-berth: {dependsOn: {deadline: 5s}}\ndepends_on: [db]":                                     nil,
		"depends_on: {db: {condition: service_healthy}}\nx-berth: {dependsOn: {whileUnready: stop}}": nil,
		"pre_start: [{environment: {A: b}}]":                                                         {"compose.yaml:4: services.web.pre_start.0: runs what the service itself runs, and has to end before the service starts; give it a command:"},
		"umask: 22\npre_start: [{command: a}]":                                                       {"compose.yaml:4: services.web.umask: not carried out: the engine has no such setting; set it in the entrypoint"},
		"pre_start: [{command: a, umask: 22}]":                                                       {"compose.yaml:4: services.web.pre_start.0.umask: not carried out: the engine has no such setting; set it in the entrypoint"},
	} {
		dir := project(t, map[string]string{"compose.yaml": probing(keys) + "  db: {image: b}\n"})
		got, err := stack.Load(t.Context(), stack.LoadOptions{WorkingDir: dir})
		if err != nil {
			t.Errorf("%s: %v", keys, err)
			continue
		}
		var list []string
		for _, w := range got.Warnings {
			list = append(list, w.String())
		}
		if !slices.Equal(list, want) {
			t.Errorf("%s\n got %q\nwant %q", keys, list, want)
		}
	}
}

// TestHealthIsTranslated looks at the part of a service that each key decides.
func TestHealthIsTranslated(t *testing.T) {
	probes := func(s *stack.Service) any { return s.Probes }
	for keys, c := range map[string]struct {
		part func(s *stack.Service) any
		want any
	}{
		"x-berth: {probes: {startup: {http: {path: /a, port: 80}, period: 1s, failureThreshold: 30}}}": {probes, health.Probes{
			Startup: &health.Probe{HTTP: &health.HTTP{Path: "/a", Port: health.Port{Number: 80}}, Period: time.Second, FailureThreshold: 30},
		}},
		"x-berth: {probes: {readiness: {https: {port: web, host: h, headers: {A: 1, B: true}}, successThreshold: 2}}}\nports: [{target: 80, name: web}]": {probes, health.Probes{
			Readiness: &health.Probe{HTTP: &health.HTTP{Scheme: "https", Host: "h", Port: health.Port{Name: "web"}, Headers: map[string]string{"A": "1", "B": "true"}}, SuccessThreshold: 2},
		}},
		"x-berth: {probes: {liveness: {exec: [a, b], initialDelay: 1m30s, period: \"${PERIOD}\", timeout: 1500ms, terminationGracePeriod: 2s, onFailure: {exec: [c]}}}}": {probes, health.Probes{
			Liveness: &health.Probe{Exec: &health.Exec{Command: []string{"a", "b"}}, InitialDelay: 90 * time.Second, Period: 7 * time.Second, Timeout: 1500 * time.Millisecond,
				Grace: 2 * time.Second, OnFailure: health.Action{Do: health.RunExec, Command: []string{"c"}}},
		}},
		"x-berth: {probes: {liveness: {exec: {command: [a]}, onFailure: {webhook: 'http://h/p'}}}}": {probes, health.Probes{
			Liveness: &health.Probe{Exec: &health.Exec{Command: []string{"a"}}, OnFailure: health.Action{Do: health.Webhook, URL: "http://h/p"}},
		}},
		"x-berth: {probes: {liveness: {grpc: {port: '50051', service: s}, onFailure: recreate}}}": {probes, health.Probes{
			Liveness: &health.Probe{GRPC: &health.GRPC{Port: health.Port{Number: 50051}, Service: "s"}, OnFailure: health.Action{Do: health.Recreate}},
		}},
		"x-berth: {probes: {startup: {log: {pattern: 'a.b'}}, readiness: {docker: true}, liveness: {tcp: {port: 1, host: localhost}}}}": {probes, health.Probes{
			Startup: &health.Probe{Log: &health.Log{Pattern: "a.b"}}, Readiness: &health.Probe{Docker: &health.Docker{}},
			Liveness: &health.Probe{TCP: &health.TCP{Port: health.Port{Number: 1}, Host: "localhost"}},
		}},
		"ports: [{target: 80, name: a}, {target: 53, name: a, protocol: udp}, {target: 54, name: b, protocol: udp}, {target: 81, name: c}, {target: 82, name: c}, {target: 80, published: '8080', name: a}]": {
			func(s *stack.Service) any { return s.NamedPorts }, map[string]uint16{"a": 80}},
		"x-berth: {onUnhealthy: pause}":                            {func(s *stack.Service) any { return s.OnUnhealthy }, health.Action{Do: health.Pause}},
		"x-berth: {onUnhealthy: none}":                             {func(s *stack.Service) any { return s.OnUnhealthy }, health.Action{}},
		"x-berth: {dependsOn: {whileUnready: keep, deadline: 1m}}": {func(s *stack.Service) any { return []any{s.WhileUnready, s.DependencyDeadline} }, []any{stack.Keep, time.Minute}},
		"x-berth: {dependsOn: {whileUnready: pause}}":              {func(s *stack.Service) any { return s.WhileUnready }, stack.PauseUnready},
		"x-berth: {dependsOn: {whileUnready: stop}}":               {func(s *stack.Service) any { return s.WhileUnready }, stack.StopUnready},
		"deploy: {update_config: {order: start-first}}":            {func(s *stack.Service) any { return s.Update.Order == stack.StartFirst }, true},
		"deploy: {update_config: {order: stop-first}}":             {func(s *stack.Service) any { return s.Update.Order == stack.StartFirst }, false},
		"post_start: [{command: sh -c \"a b\", user: u, privileged: true, working_dir: /w, environment: {B: '1', PERIOD: , GONE: }}]": {
			func(s *stack.Service) any { return s.PostStart },
			[]stack.Hook{{Command: []string{"sh", "-c", "a b"}, User: "u", Privileged: true, WorkingDir: "/w", Env: []string{"B=1", "PERIOD=7s"}}},
		},
		"pre_stop: [{command: [a]}, {command: [b]}]": {func(s *stack.Service) any { return s.PreStop }, []stack.Hook{{Command: []string{"a"}}, {Command: []string{"b"}}}},
	} {
		got, err := loadProbing(t, keys)
		if err != nil {
			t.Errorf("%s: %v", keys, err)
			continue
		}
		if part := c.part(got.Stack.Service("web")); !reflect.DeepEqual(part, c.want) {
			a, _ := json.Marshal(part)
			b, _ := json.Marshal(c.want)
			t.Errorf("%s\n got %s\nwant %s", keys, a, b)
		}
	}
}

// TestSteps looks at what a step before the start has of its service, and what not.
func TestSteps(t *testing.T) {
	spec := func(part func(s *runtime.Spec) any) func(s *stack.Stack) any {
		return func(s *stack.Stack) any { return part(&s.Service("web").PreStart[0].Spec) }
	}
	mounts := spec(func(s *runtime.Spec) any {
		out := map[string]string{}
		for _, m := range s.Mounts {
			out[m.Target] = m.Source
		}
		return out
	})
	for keys, c := range map[string]struct {
		part func(s *stack.Stack) any
		want any
	}{
		"user: u\nenvironment: {A: a, B: b}\npre_start: [{command: x, environment: {B: c}}]": {
			spec(func(s *runtime.Spec) any { return []any{s.User, s.Env, s.Command, s.Image} }), []any{"u", []string{"A=a", "B=c"}, []string{"x"}, "a"}},
		"ports: ['80:80']\nexpose: ['81']\nrestart: always\nhealthcheck: {test: y}\ntty: true\npre_start: [{command: x}]": {
			spec(func(s *runtime.Spec) any { return []any{s.Ports, s.Expose, s.Restart, s.Healthcheck, s.TTY} }),
			[]any{[]runtime.Port(nil), []string(nil), runtime.RestartPolicy{}, &runtime.Healthcheck{Disable: true}, false}},
		"volumes: ['data:/data', /anon, 'own:/over']\npre_start: [{command: x, volumes: ['step:/over', 'step:/more', /tmp/x]}]": {
			mounts, map[string]string{"/data": "shop_data", "/over": "shop_step", "/more": "shop_step", "/tmp/x": ""}},
		"volumes: ['data:/data']\npre_start: [{command: x, tmpfs: ['/data:size=1M']}]": {mounts, map[string]string{"/data": ""}},
		"pre_start: [{command: x, volumes: [{type: bind, source: /s, target: /t}, {type: bind, source: /s, target: /u, bind: {create_host_path: false}}]}]": {
			spec(func(s *runtime.Spec) any { return []bool{s.Mounts[0].CreateSource, s.Mounts[1].CreateSource} }), []bool{true, false}},
		"networks: {b: {aliases: [www], ipv4_address: 10.0.0.5, mac_address: 02:42:ac:11:00:02}}\npre_start: [{command: x, networks: {b: {aliases: [acme]}}}]": {
			spec(func(s *runtime.Spec) any { return s.Networks }), []runtime.Attachment{{Network: "shop_b", Aliases: []string{"acme"}}}},
		"pre_start: [{command: x}]":                                    {spec(func(s *runtime.Spec) any { return s.Networks }), []runtime.Attachment{{Network: "shop_default"}}},
		"pre_start: [{command: x, networks: [b]}]":                     {spec(func(s *runtime.Spec) any { return s.Networks }), []runtime.Attachment{{Network: "shop_b"}, {Network: "shop_default"}}},
		"pre_start: [{command: x, network_mode: none}]":                {spec(func(s *runtime.Spec) any { return []any{s.NetworkMode, len(s.Networks)} }), []any{"none", 0}},
		"network_mode: host\npre_start: [{command: x, networks: [b]}]": {spec(func(s *runtime.Spec) any { return []any{s.NetworkMode, len(s.Networks)} }), []any{"", 1}},
		"network_mode: service:db\npre_start: [{command: x}]":          {spec(func(s *runtime.Spec) any { return s.NetworkMode }), "service:db"},
		"volumes_from: [db]\npre_start: [{command: x}]":                {spec(func(s *runtime.Spec) any { return s.VolumesFrom }), []string{"service:db"}},
		"mem_limit: 1G\npre_start: [{command: x, mem_limit: 64M}]":     {spec(func(s *runtime.Spec) any { return s.Limits }), runtime.Limits{Memory: 64 << 20}},
		"deploy: {resources: {limits: {memory: 1G, cpus: '2', pids: 9}, reservations: {memory: 512M}}}\npre_start: [{command: x, mem_limit: 64M}]": {
			spec(func(s *runtime.Spec) any { return s.Limits }), runtime.Limits{Memory: 64 << 20, MemoryReservation: 64 << 20, NanoCPUs: 2e9, Pids: 9}},
		"gpus: [{count: 1}]\npre_start: [{command: x}]":  {spec(func(s *runtime.Spec) any { return s.DeviceRequests }), []runtime.DeviceRequest{{Count: 1, Capabilities: []string{"gpu"}}}},
		"pre_start: [{command: x, gpus: [{driver: d}]}]": {spec(func(s *runtime.Spec) any { return s.DeviceRequests[0].Count }), -1},
		"pre_start: [{command: x, per_replica: \"${EACH}\"}, {command: y, image: t, pull_policy: if_not_present}]": {func(s *stack.Stack) any {
			p := s.Service("web").PreStart
			return []any{p[0].PerReplica, p[1].PerReplica, p[1].Spec.Image, p[1].PullPolicy}
		}, []any{true, false, "t", "missing"}},
		"build: .\npull_policy: build\npre_start: [{command: x}, {command: x, image: t}, {command: x, image: shop-tool}, {command: y, image: t}]": {func(s *stack.Stack) any {
			var out []string
			for _, need := range s.StepImages(s.Service("web")) {
				out = append(out, fmt.Sprint(need.Name, " ", need.Spec.Image, " ", need.PullPolicy, " ", need.Build != nil))
			}
			return out
		}, []string{"web t  false", "tool shop-tool  true"}},
		"pre_start: [{command: x, volumes: ['data:/d'], secrets: [s], configs: [c], networks: [b]}]": {func(s *stack.Stack) any {
			return []any{len(s.Networks), len(s.Volumes), len(s.Service("web").PreStart[0].Spec.Files)}
		}, []any{2, 1, 2}},
	} {
		file := strings.Replace(probing(keys), "    image: a\n    build", "    image: a\n    build", 1) + "  db: {image: b}\n  tool: {build: .}\n" +
			"volumes: {data: {}, own: {}, step: {}}\nnetworks: {b: {ipam: {config: [{subnet: 10.0.0.0/24}]}}}\nsecrets: {s: {environment: EACH}}\nconfigs: {c: {content: x}}\n"
		file = strings.Replace(file, "tool: {build: .}", "tool: {build: ., networks: []}", 1)
		dir := project(t, map[string]string{"compose.yaml": file})
		got, err := stack.Load(t.Context(), stack.LoadOptions{WorkingDir: dir, Environ: []string{"EACH=true"}})
		if err != nil {
			t.Errorf("%s: %v", keys, err)
			continue
		}
		if part := c.part(got.Stack); !reflect.DeepEqual(part, c.want) {
			t.Errorf("%s\n got %+v\nwant %+v", keys, part, c.want)
		}
	}
}

// TestHealthSurvivesJSON: a stack reads back from the state as it was written.
func TestHealthSurvivesJSON(t *testing.T) {
	got, err := stack.Load(t.Context(), stack.LoadOptions{WorkingDir: "testdata/rich", Environ: []string{"SECRET_VALUE=canary-env"}})
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(got.Stack)
	if err != nil {
		t.Fatal(err)
	}
	var again stack.Stack
	if err := json.Unmarshal(data, &again); err != nil {
		t.Fatal(err)
	}
	for i := range got.Stack.Services {
		want := got.Stack.Services[i]
		for _, f := range []struct {
			name      string
			got, want any
		}{
			{"probes", again.Services[i].Probes, want.Probes}, {"named ports", again.Services[i].NamedPorts, want.NamedPorts},
			{"onUnhealthy", again.Services[i].OnUnhealthy, want.OnUnhealthy}, {"whileUnready", again.Services[i].WhileUnready, want.WhileUnready},
			{"deadline", again.Services[i].DependencyDeadline, want.DependencyDeadline}, {"postStart", again.Services[i].PostStart, want.PostStart},
			{"preStop", again.Services[i].PreStop, want.PreStop}, {"number of steps", len(again.Services[i].PreStart), len(want.PreStart)},
		} {
			if !reflect.DeepEqual(f.got, f.want) {
				t.Errorf("%s: %s is %+v, was %+v", want.Name, f.name, f.got, f.want)
			}
		}
	}
	if second, err := json.Marshal(again); err != nil || string(second) != string(data) {
		t.Errorf("the second writing differs (%v)\n%s\n%s", err, data, second)
	}
}

// TestHealthAndRevision: a step prepares the container and makes a new revision;
// what only looks at it or runs in it does not.
func TestHealthAndRevision(t *testing.T) {
	dir := project(t, map[string]string{"c.txt": "a"})
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	revision := func(keys string) string {
		return revisionOf(t, dir, probing(keys)+"  db: {image: b}\nvolumes: {v: {}}\nnetworks: {n: {}}\nconfigs: {c: {file: c.txt}, d: {file: c.txt}}\n", "web")
	}
	plainly, stepped := revision("init: true"), revision("init: true\npre_start: [{command: x}]")
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 900).Draw(rt, "n")
		keys := "init: true\n" + fmt.Sprintf(rapid.SampledFrom([]string{
			"x-berth: {probes: {liveness: {tcp: {port: %d}}}}", "x-berth: {probes: {startup: {exec: [a], failureThreshold: %d}}}",
			"x-berth: {probes: {readiness: {docker: true}}, onUnhealthy: restart, dependsOn: {deadline: %ds}}", "x-berth: {dependsOn: {whileUnready: stop, deadline: %ds}}",
			"post_start: [{command: 'a %d'}]", "pre_stop: [{command: 'a %d'}]", "deploy: {update_config: {order: start-first, parallelism: %d}}",
		}).Draw(rt, "keys"), n)
		if got := revision(keys); got != plainly {
			rt.Errorf("a new revision with %s", keys)
		}
		if got := revision(keys + "\npre_start: [{command: x, mem_limit: 1G, pull_policy: always}]"); got != stepped {
			rt.Errorf("another revision of the step with %s", keys)
		}
	})
	seen := map[string]string{plainly: "no step", stepped: "a step"}
	for _, step := range []string{
		"{command: y}", "{command: x}, {command: y}", "{command: y}, {command: x}", "{command: x, per_replica: true}", "{command: x, image: b}", "{command: x, volumes: ['v:/v']}",
		"{command: x, networks: [n]}", "{command: x, environment: {A: b}}", "{command: x, configs: [c]}",
	} {
		got := revision("init: true\npre_start: [" + step + "]")
		if other, ok := seen[got]; ok {
			t.Errorf("%s has the revision of %s", step, other)
		}
		seen[got] = step
	}
	before := revision("init: true\npre_start: [{command: x, configs: [c]}]")
	if err := os.WriteFile(dir+"/c.txt", []byte("b"), 0o644); err != nil {
		t.Fatal(err)
	}
	if revision("init: true\npre_start: [{command: x, configs: [c]}]") == before {
		t.Error("a step's config changed and the revision did not")
	}
}
