package stack_test

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/berth-dev/berth/health"
	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/scaling"
	"github.com/berth-dev/berth/scaling/timetable"
	"github.com/berth-dev/berth/scaling/vertical"
)

// reserving is what a service needs so that utilization can be told.
const reserving = "\ndeploy: {resources: {reservations: {cpus: '0.5', memory: 64M}}}\nports: [{target: 80, name: web, published: '80'}]"

// scaled is a service on line 4 that scales, with all that may be needed for it.
func scaled(text string) string { return "x-berth: {autoscale: {" + text + "}}" + reserving }

func TestAutoscaleIsTranslated(t *testing.T) {
	cpu := scaling.Metric{Source: scaling.FromResource, Name: "cpu", Utilization: 80}
	usual := func(change func(*stack.Autoscale)) *stack.Autoscale {
		a := &stack.Autoscale{Policy: scaling.Policy{Max: 4, Metrics: []scaling.Metric{cpu}}, Sources: []stack.MetricSource{{Kind: stack.MetricCPU}}}
		change(a)
		return a
	}
	for text, want := range map[string]*stack.Autoscale{
		"max: 4":                                         usual(func(*stack.Autoscale) {}),
		"max: 4, metrics: []":                            usual(func(*stack.Autoscale) {}),
		"max: 4, min: 2, interval: 30s":                  usual(func(a *stack.Autoscale) { a.Policy.Min, a.Policy.Interval = new(2), 30*time.Second }),
		"max: 4, tolerance: 0.2":                         usual(func(a *stack.Autoscale) { a.Policy.Tolerance = scaling.Tolerance{Up: new(0.2), Down: new(0.2)} }),
		"max: 4, predict: {}":                            usual(func(a *stack.Autoscale) { a.Season = 24 * time.Hour }),
		"max: 4, predict: {enabled: false}":              usual(func(*stack.Autoscale) {}),
		"max: 4, predict: {enabled: true, period: 168h}": usual(func(a *stack.Autoscale) { a.Season = 168 * time.Hour }),
		"max: 4, behavior: {}":                           usual(func(a *stack.Autoscale) { a.Policy.Behavior = &scaling.Behavior{} }),
		"max: 4, tolerance: 0.05, behavior: {scaleUp: {stabilizationWindow: 0s, selectPolicy: Min, tolerance: 0, policies: [{type: Pods, value: 4, period: 15s}, {type: Percent, value: 100, period: 1m}]}, scaleDown: {selectPolicy: Disabled}}": usual(func(a *stack.Autoscale) {
			a.Policy.Tolerance = scaling.Tolerance{Up: new(0.0), Down: new(0.05)}
			a.Policy.Behavior = &scaling.Behavior{
				Up:   scaling.Rules{Window: duration(0), Select: scaling.SelectMin, Limits: []scaling.Limit{{Unit: scaling.Replicas, Value: 4, Period: 15 * time.Second}, {Unit: scaling.Percent, Value: 100, Period: time.Minute}}},
				Down: scaling.Rules{Select: scaling.SelectDisabled},
			}
		}),
		"max: 4, schedules: [{cron: '0 8 * * 1-5', timeZone: Europe/Berlin, min: 3}, {cron: '@daily', replicas: 0}, {cron: '0 20 * * *', max: 2, min: 1}]": usual(func(a *stack.Autoscale) {
			a.Schedules = []timetable.Schedule{{Name: "1", Cron: "0 8 * * 1-5", TimeZone: "Europe/Berlin", Min: new(3)}, {Name: "2", Cron: "@daily", Replicas: new(0)}, {Name: "3", Cron: "0 20 * * *", Min: new(1), Max: new(2)}}
		}),
		"max: 4, idle: {after: 10m}": usual(func(a *stack.Autoscale) { a.Idle = &scaling.Idle{After: 10 * time.Minute, Do: scaling.IdleStop} }),
		"max: 4, min: 1, idle: {after: 1s, action: pause}": usual(func(a *stack.Autoscale) {
			a.Policy.Min, a.Idle = new(1), &scaling.Idle{After: time.Second, Do: scaling.IdlePause}
		}),
		// While it is in use a service has a replica, whatever its use of cpu.
		"max: 4, min: 0, idle: {after: 1s}": usual(func(a *stack.Autoscale) {
			a.Policy.Min, a.Idle = new(1), &scaling.Idle{After: time.Second, Do: scaling.IdleStop}
		}),
		"max: 4, concurrency: {target: 2.5}": {Policy: scaling.Policy{Max: 4}, Concurrency: &scaling.Concurrency{Target: 2.5, Max: 4}},
		"min: 0, max: 4, concurrency: {target: 10, stableWindow: 30s, panicWindow: 3s, panicThreshold: 3}, idle: {after: 1m, grace: 5s}": {
			Policy: scaling.Policy{Min: new(1), Max: 4}, Idle: &scaling.Idle{After: time.Minute, Do: scaling.IdleStop},
			Concurrency: &scaling.Concurrency{Target: 10, Min: new(0), Max: 4, Stable: 30 * time.Second, Panic: 3 * time.Second, PanicFactor: 3, Grace: 5 * time.Second},
		},
		"min: 0, max: 4, concurrency: {target: 10}, idle: {grace: 5s}": {
			Policy: scaling.Policy{Min: new(1), Max: 4}, Concurrency: &scaling.Concurrency{Target: 10, Min: new(0), Max: 4, Grace: 5 * time.Second},
		},
		"max: 1, idle: {after: 1m, action: throttle}": {Policy: scaling.Policy{Max: 1}, Idle: &scaling.Idle{After: time.Minute, Do: scaling.IdleThrottle}},
		"min: 0, max: 3, metrics: [{webhook: {url: 'https://q:8443/len', averageValue: '2.5'}}]": {
			Policy:  scaling.Policy{Min: new(0), Max: 3, Metrics: []scaling.Metric{{Source: scaling.FromExternal, Name: "webhook", AverageValue: 2500}}},
			Sources: []stack.MetricSource{{Kind: stack.MetricWebhook, URL: "https://q:8443/len"}},
		},
	} {
		if got := loaded(t, scaled(text)).Autoscale; !reflect.DeepEqual(got, want) {
			t.Errorf("%s\n got %+v\nwant %+v", text, got, want)
		}
	}
	if a := loaded(t, "labels: {}").Autoscale; a != nil {
		t.Errorf("a service that says nothing is scaled: %+v", a)
	}
	schedules := loaded(t, "x-berth: {autoscale: {max: 4, schedules: [{cron: '@daily', replicas: 3}]}}").Autoscale
	if len(schedules.Policy.Metrics) != 0 {
		t.Errorf("without a reservation, a service with schedules is measured: %+v", schedules)
	}
}

func TestMetricsAreTranslated(t *testing.T) {
	for text, want := range map[string]struct {
		metric scaling.Metric
		source stack.MetricSource
	}{
		"cpu: {utilization: 70}":           {scaling.Metric{Source: scaling.FromResource, Name: "cpu", Utilization: 70}, stack.MetricSource{Kind: stack.MetricCPU}},
		"cpu: {averageValue: 0.25}":        {scaling.Metric{Source: scaling.FromResource, Name: "cpu", AverageValue: 250}, stack.MetricSource{Kind: stack.MetricCPU}},
		"memory: {utilization: 150}":       {scaling.Metric{Source: scaling.FromResource, Name: "memory", Utilization: 150}, stack.MetricSource{Kind: stack.MetricMemory}},
		"memory: {averageValue: 64M}":      {scaling.Metric{Source: scaling.FromResource, Name: "memory", AverageValue: 64 << 20}, stack.MetricSource{Kind: stack.MetricMemory}},
		"networkIn: {averageValue: 8M}":    {scaling.Metric{Source: scaling.FromReplicas, Name: "networkIn", AverageValue: 1_000_000_000}, stack.MetricSource{Kind: stack.MetricNetworkIn}},
		"networkOut: {averageValue: 8}":    {scaling.Metric{Source: scaling.FromReplicas, Name: "networkOut", AverageValue: 1000}, stack.MetricSource{Kind: stack.MetricNetworkOut}},
		"blockRead: {averageValue: 1k}":    {scaling.Metric{Source: scaling.FromReplicas, Name: "blockRead", AverageValue: 1_024_000}, stack.MetricSource{Kind: stack.MetricBlockRead}},
		"blockWrite: {averageValue: 5}":    {scaling.Metric{Source: scaling.FromReplicas, Name: "blockWrite", AverageValue: 5000}, stack.MetricSource{Kind: stack.MetricBlockWrite}},
		"connections: {averageValue: 20}":  {scaling.Metric{Source: scaling.FromReplicas, Name: "connections", AverageValue: 20_000}, stack.MetricSource{Kind: stack.MetricConnections}},
		"connections: {value: 100}":        {scaling.Metric{Source: scaling.FromExternal, Name: "connections", Value: 100_000}, stack.MetricSource{Kind: stack.MetricConnections}},
		"requests: {averageValue: 0.0015}": {scaling.Metric{Source: scaling.FromReplicas, Name: "requests", AverageValue: 2}, stack.MetricSource{Kind: stack.MetricRequests}},
		"connectionRate: {value: '1e3'}":   {scaling.Metric{Source: scaling.FromExternal, Name: "connectionRate", Value: 1_000_000}, stack.MetricSource{Kind: stack.MetricConnectionRate}},
		"latency: {averageValue: 250ms}":   {scaling.Metric{Source: scaling.FromReplicas, Name: "latency", AverageValue: 250}, stack.MetricSource{Kind: stack.MetricLatency}},
		"latency: {value: 0.5}":            {scaling.Metric{Source: scaling.FromExternal, Name: "latency", Value: 500}, stack.MetricSource{Kind: stack.MetricLatency}},
		"prometheus: {metric: queue, port: web, averageValue: 5}": {scaling.Metric{Source: scaling.FromReplicas, Name: "prometheus queue", AverageValue: 5000},
			stack.MetricSource{Kind: stack.MetricPrometheus, Port: health.Port{Name: "web"}, Path: "/metrics", Metric: "queue"}},
		"prometheus: {metric: 'a:b_c', port: 9090, path: '/m?x=1', labels: {a: b, c: 1}, value: '${PERIODS:-3}'}": {scaling.Metric{Source: scaling.FromExternal, Name: "prometheus a:b_c", Value: 3000},
			stack.MetricSource{Kind: stack.MetricPrometheus, Port: health.Port{Number: 9090}, Path: "/m?x=1", Metric: "a:b_c", Labels: map[string]string{"a": "b", "c": "1"}}},
		"exec: {command: [depth, --all], averageValue: 7}": {scaling.Metric{Source: scaling.FromReplicas, Name: "exec", AverageValue: 7000}, stack.MetricSource{Kind: stack.MetricExec, Command: []string{"depth", "--all"}}},
		"webhook: {url: 'http://q/', value: 7}":            {scaling.Metric{Source: scaling.FromExternal, Name: "webhook", Value: 7000}, stack.MetricSource{Kind: stack.MetricWebhook, URL: "http://q/"}},
	} {
		a := loaded(t, scaled("max: 4, metrics: [{"+text+"}]")).Autoscale
		if !reflect.DeepEqual(a.Policy.Metrics, []scaling.Metric{want.metric}) || !reflect.DeepEqual(a.Sources, []stack.MetricSource{want.source}) {
			t.Errorf("%s\n got %+v, %+v\nwant %+v", text, a.Policy.Metrics, a.Sources, want)
		}
	}
	a := loaded(t, scaled("max: 4, metrics: [{exec: {command: [a], value: 1}}, {exec: {command: [b], value: 1}}, {prometheus: {metric: q, port: 1, labels: {a: b}, value: 1}}, {prometheus: {metric: q, port: 1, value: 1}}, {cpu: {utilization: 1}}]")).Autoscale
	var names []string
	for _, m := range a.Policy.Metrics {
		names = append(names, m.Name)
	}
	if want := []string{"exec", "exec #2", "prometheus q", "prometheus q #2", "cpu"}; !slices.Equal(names, want) {
		t.Errorf("names %q, want %q", names, want)
	}
	if len(a.Sources) != len(names) || a.Sources[4].Kind != stack.MetricCPU {
		t.Errorf("sources %+v", a.Sources)
	}
}

// TestWrongScaling wants file and line for each rule of how a service is scaled.
func TestWrongScaling(t *testing.T) {
	const at = "compose.yaml:4: services.web.x-berth.autoscale"
	metric := func(text string) string { return scaled("max: 4, metrics: [{" + text + "}]") }
	bare := func(text string) string { return "x-berth: {autoscale: {" + text + "}}" }
	for keys, want := range map[string]string{
		scaled("max: 0"):                  at + ".max: 0 is less than 1",
		scaled("max: 10001"):              at + ".max: is 10001: give 1 to 10000",
		scaled("max: 3, min: 4"):          at + ".min: is 4, more than max, which is 3",
		scaled("max: 3, min: -1"):         at + ".min: -1 is less than 0",
		scaled("max: \"${TOKEN}\""):       at + ".max: ",
		scaled("max: 3, interval: 0s"):    at + ".interval: 0s is too short; the least is 1s",
		scaled("max: 3, interval: 2h"):    at + ".interval: is 2h0m0s: give up to 1h0m0s",
		scaled("max: 3, tolerance: 2"):    at + ".tolerance: is 2: give 0 to 1",
		scaled("max: 3, tolerance: .nan"): at + ".tolerance: ",
		scaled("max: 3, min: 0"):          at + ".min: is 0, but nothing could start the service again: give idle:, concurrency: or a webhook metric, or at least 1",
		scaled("max: 3, min: 0, metrics: [{connections: {averageValue: 1}}]"):                                                             at + ".min: is 0, but nothing could start the service again",
		scaled("max: 3, min: 0, idle: {after: 1m, action: pause}"):                                                                        at + ".min: is 0, but idle.action: pause keeps the replicas; give at least 1, or action: stop",
		scaled("max: 3, min: 0, concurrency: {target: 1}, idle: {after: 1m, action: throttle}"):                                           at + ".min: is 0, but idle.action: throttle keeps the replicas",
		scaled("max: 3, schedules: [{cron: '@daily', min: 1}, {cron: '@daily', min: 0}]"):                                                 at + ".schedules.1.min: is 0, but nothing could start the service again",
		scaled("max: 3, behavior: {scaleUp: {stabilizationWindow: 2h}}"):                                                                  at + ".behavior.scaleUp.stabilizationWindow: is 2h0m0s: give 0 to 1h0m0s",
		scaled("max: 3, behavior: {scaleDown: {stabilizationWindow: long}}"):                                                              at + `.behavior.scaleDown.stabilizationWindow: "long" is not a duration`,
		scaled("max: 3, behavior: {scaleDown: {tolerance: 1.5}}"):                                                                         at + ".behavior.scaleDown.tolerance: 1.5 is not between 0 and 1",
		scaled("max: 3, behavior: {scaleDown: {selectPolicy: Least}}"):                                                                    at + `.behavior.scaleDown.selectPolicy: "Least" is not one of Max, Min, Disabled`,
		scaled("max: 3, behavior: {scaleUp: {policies: [{type: Pods, value: 1, period: 0s}]}}"):                                           at + ".behavior.scaleUp.policies.0.period: is 0s: give up to 30m0s",
		scaled("max: 3, behavior: {scaleDown: {policies: [{type: Pods, value: 1, period: 1s}, {type: Percent, value: 1, period: 31m}]}}"): at + ".behavior.scaleDown.policies.1.period: is 31m0s: give up to 30m0s",
		scaled("max: 3, behavior: {scaleUp: {policies: [{type: Pods, value: 0, period: 1s}]}}"):                                           at + ".behavior.scaleUp.policies.0.value: 0 is less than 1",
		scaled("max: 3, behavior: {scaleUp: {policies: [{type: Some, value: 1, period: 1s}]}}"):                                           at + `.behavior.scaleUp.policies.0.type: "Some" is not one of Pods, Percent`,

		scaled("max: 3, schedules: [{min: 1}]"):                                               at + ".schedules.0: the key cron is missing",
		scaled("max: 3, schedules: [{cron: '* * *', min: 1}]"):                                at + `.schedules.0.cron: "* * *": `,
		scaled("max: 3, schedules: [{cron: '@daily', min: 1}, {cron: '0 25 * * *', min: 1}]"): at + `.schedules.1.cron: "0 25 * * *": `,
		scaled("max: 3, schedules: [{cron: 'CRON_TZ=UTC 0 0 * * *', min: 1}]"):                at + ".schedules.0.cron: ",
		scaled("max: 3, schedules: [{cron: '@daily', timeZone: Mars/Olympus, min: 1}]"):       at + `.schedules.0.timeZone: "Mars/Olympus" is not known`,
		scaled("max: 3, schedules: [{cron: '@daily', timeZone: Local, min: 1}]"):              at + `.schedules.0.timeZone: "Local" is not known`,
		scaled("max: 3, schedules: [{cron: '@daily'}]"):                                       at + ".schedules.0: changes nothing: give min, max or replicas",
		scaled("max: 3, schedules: [{cron: '@daily', replicas: 1, min: 1}]"):                  at + ".schedules.0.replicas: stands beside min or max",
		scaled("max: 3, schedules: [{cron: '@daily', min: 3, max: 2}]"):                       at + ".schedules.0.min: is above max",
		scaled("max: 3, schedules: [{cron: '@daily', max: 0}]"):                               at + ".schedules.0.max: is 0: give 1 to 10000",

		scaled("max: 3, idle: {after: 0s}"):                                                 at + ".idle.after: is 0s: give more than 0",
		scaled("max: 3, idle: {action: stop}"):                                              at + ".idle: the key after is missing",
		scaled("max: 3, concurrency: {target: 1}, idle: {action: stop, grace: 5s}"):         at + ".idle: the key after is missing",
		scaled("max: 3, idle: {grace: 5s}"):                                                 at + ".idle.grace: is how long concurrency: keeps the last replica, but there is no concurrency:",
		scaled("max: 3, idle: {after: 1m, action: kill}"):                                   at + `.idle.action: "kill" is not one of stop, pause, throttle`,
		scaled("max: 3, idle: {after: 1m, grace: 5s}"):                                      at + ".idle.grace: is how long concurrency: keeps the last replica, but there is no concurrency:",
		scaled("max: 3, concurrency: {target: 0}"):                                          at + ".concurrency.target: is 0: give more than 0",
		scaled("max: 3, concurrency: {target: 1, stableWindow: 0s}"):                        at + ".concurrency.stableWindow: 0s is too short",
		scaled("max: 3, concurrency: {target: 1, stableWindow: 2h}"):                        at + ".concurrency.stableWindow: is 2h0m0s: give 1s to 1h0m0s",
		scaled("max: 3, concurrency: {target: 1, panicWindow: 2m}"):                         at + ".concurrency.panicWindow: is 2m0s: give up to the stable window",
		scaled("max: 3, concurrency: {target: 1, panicThreshold: 11}"):                      at + ".concurrency.panicThreshold: is 11: give 1 to 10",
		scaled("max: 3, concurrency: {target: 1}, idle: {after: 1m, grace: 2h}"):            at + ".idle.grace: is 2h0m0s: give up to 1h0m0s",
		scaled("max: 3, predict: {period: 10m}"):                                            at + ".predict.period: 10m0s is not between 1h0m0s and 504h0m0s, in steps of 15m0s",
		scaled("max: 3, predict: {period: 505h}"):                                           at + ".predict.period: 505h0m0s is not between",
		scaled("max: 3, predict: {period: 61m}"):                                            at + ".predict.period: 1h1m0s is not between",
		bare("max: 3"):                                                                      at + ": goes by the use of cpu in percent of its reservation unless it has metrics:, concurrency: or schedules:; give one of them, or deploy.resources.reservations.cpus",
		bare("max: 3, idle: {after: 1m}") + "\nports: ['80']":                               at + ": goes by the use of cpu in percent of its reservation",
		bare("max: 3, metrics: [{cpu: {utilization: 70}}]"):                                 at + ".metrics.0.cpu.utilization: is in percent of the reservation, but the service reserves no cpu; give deploy.resources.reservations.cpus",
		bare("max: 3, metrics: [{memory: {utilization: 70}}]"):                              at + ".metrics.0.memory.utilization: is in percent of the reservation, but the service reserves no memory; give deploy.resources.reservations.memory",
		bare("max: 3, metrics: [{connections: {averageValue: 1}}]"):                         at + ".metrics.0: counts the connections through the balancer, but the service publishes no ports; give ports:, or discovery: ready for connections from other services",
		bare("max: 1, idle: {after: 1m}"):                                                   at + ".idle: counts the connections through the balancer, but the service publishes no ports",
		bare("max: 1, idle: {after: 1m}") + "\nports: ['80']\nnetwork_mode: host":           at + ".idle: counts the connections through the balancer, but the service has no network of its own (network_mode: host)",
		bare("max: 1, idle: {after: 1m}") + "\nports: ['80', '81/sctp']":                    at + ".idle: counts the connections through the balancer, which takes no service with sctp ports (compose.yaml:5)",
		"x-berth: {publish: direct, autoscale: {max: 1, idle: {after: 1m}}}\nports: ['80']": at + ".idle: counts the connections through the balancer, but with publish: direct the engine holds the ports",
		bare("max: 3, concurrency: {target: 1}"):                                            at + ".concurrency: counts the connections through the balancer",

		metric("cpu: {}"): at + ".metrics.0.cpu: has 0 targets; give one of utilization, averageValue",
		metric(""):        at + ".metrics.0: has 0 kinds; a metric has exactly one, such as cpu",
		metric("cpu: {utilization: 1}, memory: {utilization: 1}"):                  at + ".metrics.0: has 2 kinds",
		metric("cpu: {utilization: 1, averageValue: 1}"):                           at + ".metrics.0.cpu: has 2 targets; give one of utilization, averageValue",
		metric("cpu: {utilization: 0}"):                                            at + ".metrics.0.cpu.utilization: 0 is less than 1",
		metric("cpu: {utilization: 3000000000}"):                                   at + ".metrics.0: is 3000000000: it is in percent",
		metric("cpu: {averageValue: 0}"):                                           at + ".metrics.0.cpu.averageValue: is 0; it must be more than nothing",
		metric("cpu: {value: 1}"):                                                  at + ".metrics.0.cpu.value: is no target for cpu; give utilization or averageValue",
		metric("memory: {averageValue: lots}"):                                     at + `.metrics.0.memory.averageValue: "lots" is not a size`,
		metric("networkIn: {utilization: 1}"):                                      at + ".metrics.0.networkIn.utilization: is no target for networkIn; give averageValue",
		metric("networkIn: {averageValue: 1B}"):                                    at + `.metrics.0.networkIn.averageValue: "1B" is not a rate in bits per second`,
		metric("blockRead: {value: 1}"):                                            at + ".metrics.0.blockRead.value: is no target for blockRead; give averageValue",
		metric("connections: {utilization: 1}"):                                    at + ".metrics.0.connections.utilization: is no target for connections; give averageValue or value",
		metric("connections: {value: 0}"):                                          at + ".metrics.0.connections.value: 0 is no target; give more than 0 and at most 1e12",
		metric("connections: {value: -1}"):                                         at + ".metrics.0.connections.value: -1 is no target",
		metric("connections: {value: 0.0001}"):                                     at + ".metrics.0.connections.value: 0.0001 is too little; targets are counted in steps of 0.001",
		metric("connections: {value: many}"):                                       at + `.metrics.0.connections.value: "many" is not a number`,
		metric("connections: {value: 'Inf'}"):                                      at + ".metrics.0.connections.value: Inf is no target",
		metric("connections: {value: 'NaN'}"):                                      at + ".metrics.0.connections.value: NaN is no target",
		metric("latency: {value: -5ms}"):                                           at + ".metrics.0.latency.value: -0.005 is no target",
		metric("latency: {value: 10us}"):                                           at + ".metrics.0.latency.value: 0.00001 is too little",
		metric("gpu: {utilization: 1}"):                                            at + `.metrics.0.gpu: unknown key "gpu"`,
		metric("prometheus: {metric: q, averageValue: 1}"):                         at + ".metrics.0.prometheus: does not say at which port of the replicas; give port:",
		metric("prometheus: {metric: q, port: http, averageValue: 1}"):             at + `.metrics.0.prometheus.port: no port is named "http"`,
		metric("prometheus: {metric: 'a b', port: 1, averageValue: 1}"):            at + `.metrics.0.prometheus.metric: "a b" is not the name of a metric`,
		metric("prometheus: {metric: q, port: 1, path: metrics, averageValue: 1}"): at + `.metrics.0.prometheus.path: "metrics" is no path`,
		metric("prometheus: {metric: q, port: 1}"):                                 at + ".metrics.0.prometheus: has 0 targets; give one of averageValue, value",
		metric("exec: {command: [''], value: 1}"):                                  at + ".metrics.0.exec.command: is no command; give a program and its arguments",
		metric("exec: {command: [], value: 1}"):                                    at + ".metrics.0.exec.command: has 0 elements",
		metric("exec: {command: [\"a\\0\"], value: 1}"):                            at + ".metrics.0.exec.command: is no command",
		metric("webhook: {url: q, value: 1}"):                                      at + ".metrics.0.webhook.url: is no URL; give one such as http://host:8080/path",
		metric("webhook: {url: 'ftp://q/', value: 1}"):                             at + ".metrics.0.webhook.url: is no URL",
		metric("cpu: {utilization: 1}}, {cpu: {averageValue: 1}"):                  at + ".metrics.1: the metric cpu stands in the list already; keep one",

		"x-berth: {autoscale: {max: 3}}\ndeploy: {mode: global}":       at + ": cannot be given with mode: global, whose number of replicas is not free",
		scaled("max: 3") + "\ncontainer_name: own":                     at + ": brings several containers, but container_name: gives one name (compose.yaml:7); drop one of them",
		"x-berth: {publish: direct, autoscale: {max: 3}}" + reserving:  at + ": brings several containers, but with publish: direct the host port 80 can be held by one (compose.yaml:6)",
		"x-berth: {warm: 1}\nports: ['80:80', '81/sctp']":              "compose.yaml:4: services.web.x-berth.warm: brings several containers, but as the balancer takes no service with sctp ports the host port 80 can be held by one",
		"x-berth: {warm: 1}\ncontainer_name: own":                      "compose.yaml:4: services.web.x-berth.warm: brings several containers, but container_name: gives one name (compose.yaml:5)",
		"x-berth: {warm: 1}\ndeploy: {mode: replicated-job}":           "compose.yaml:4: services.web.x-berth.warm: cannot be given with mode: replicated-job",
		"x-berth: {warm: 10001}":                                       "compose.yaml:4: services.web.x-berth.warm: 10001 is not between 0 and 10000",
		"x-berth: {warm: -1}":                                          "compose.yaml:4: services.web.x-berth.warm: -1 is less than 0",
		"x-berth: {resources: {mode: always}}":                         `services.web.x-berth.resources.mode: "always" is not one of off, recommend, auto`,
		"x-berth: {resources: {mode: auto}}":                           "compose.yaml:4: services.web.x-berth.resources: changes the limits, but the service has none; give deploy.resources.limits, or mode: recommend",
		"x-berth: {resources: {min: {cpus: 2}, max: {cpus: 1}}}":       "services.web.x-berth.resources.min.cpus: is 2, more than max, which is 1",
		"x-berth: {resources: {min: {memory: 2G}, max: {memory: 1G}}}": "services.web.x-berth.resources.min.memory: is 2G, more than max, which is 1G",
		"x-berth: {resources: {max: {memory: 32M}}}" + reserving:       "services.web.x-berth.resources.max.memory: is 32M, less than the 64M that the service reserves (deploy.resources.reservations.memory)",
		"x-berth: {resources: {max: {cpus: 0.1}}}" + reserving:         "services.web.x-berth.resources.max.cpus: is 0.1, less than the 0.5 that the service reserves (deploy.resources.reservations.cpus)",
		"x-berth: {resources: {max: {cpus: 0}}}":                       "services.web.x-berth.resources.max.cpus: is 0; it must be more than nothing",
		"x-berth: {resources: {min: {memory: some}}}":                  `services.web.x-berth.resources.min.memory: "some" is not a size`,
	} {
		got, err := loadProbing(t, keys)
		switch {
		case err == nil:
			t.Errorf("%s\nloaded: %+v", keys, got.Stack.Services[0].Autoscale)
		case !strings.Contains(err.Error(), want):
			t.Errorf("%s\n got %s\nwant %s", keys, err, want)
		case strings.ContainsAny(err.Error(), "\n\x00") || strings.Contains(err.Error(), "canary-token"):
			t.Errorf("%s: not one line for a terminal, or a secret: %q", keys, err)
		}
	}
}

func TestVerticalAndWarm(t *testing.T) {
	var none *stack.Vertical
	limited := "\ndeploy: {resources: {limits: {cpus: '1', memory: 1G}}}"
	for keys, want := range map[string]*stack.Vertical{
		"x-berth: {resources: {mode: off}}":       none,
		"labels: {}":                              none,
		"x-berth: {resources: {}}":                {Mode: stack.Recommend},
		"x-berth: {resources: {mode: recommend}}": {Mode: stack.Recommend},
		"x-berth: {resources: {mode: auto, min: {cpus: 0.1, memory: 32M}, max: {cpus: '2', memory: 2G}}}" + limited: {Mode: stack.Resize,
			Bounds: vertical.Bounds{Min: vertical.Amounts{CPU: 100, Memory: 32 << 20}, Max: vertical.Amounts{CPU: 2000, Memory: 2 << 30}}},
	} {
		if got := loaded(t, keys).Vertical; !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, want %+v", keys, got, want)
		}
	}
	got, err := loadProbing(t, "x-berth: {resources: {mode: auto, min: {cpus: 1}, max: {memory: 1G}}}\ndeploy: {resources: {limits: {memory: 1G}}}")
	if err != nil || !slices.ContainsFunc(got.Warnings, func(w stack.Warning) bool {
		return w.String() == "compose.yaml:4: services.web.x-berth.resources.min.cpus: has no effect: the service has no limit of cpu that could be changed"
	}) {
		t.Errorf("a bound of what has no limit: %+v, %v", got, err)
	}
	if s := loaded(t, "x-berth: {warm: 3}\nports: ['80:80']"); s.Warm != 3 || !s.MayBalance() {
		t.Errorf("warm %d, balanced %t", s.Warm, s.MayBalance())
	}
}

// TestScaledReplicas: a service begins within its bounds.
func TestScaledReplicas(t *testing.T) {
	const outside = "is outside of what x-berth.autoscale allows: the service begins with "
	for keys, c := range map[string]struct {
		want    int
		warning string
	}{
		"x-berth: {autoscale: {min: 3, max: 4, metrics: [{cpu: {averageValue: 1}}]}}":                {3, ""},
		"x-berth: {autoscale: {min: 3, max: 4, metrics: [{cpu: {averageValue: 1}}]}}\nscale: 4":      {4, ""},
		"x-berth: {autoscale: {min: 3, max: 4, metrics: [{cpu: {averageValue: 1}}]}}\nscale: 2":      {3, "compose.yaml:5: services.web.scale: " + outside + "3"},
		"x-berth: {autoscale: {max: 4, metrics: [{cpu: {averageValue: 1}}]}}\ndeploy: {replicas: 9}": {4, "compose.yaml:5: services.web.deploy.replicas: " + outside + "4"},
		"x-berth: {autoscale: {max: 4, metrics: [{cpu: {averageValue: 1}}]}}\nscale: 0":              {1, "compose.yaml:5: services.web.scale: " + outside + "1"},
	} {
		got, err := loadProbing(t, keys)
		if err != nil {
			t.Errorf("%s: %v", keys, err)
			continue
		}
		if n := got.Stack.Services[0].Replicas; n != c.want {
			t.Errorf("%s: begins with %d, want %d", keys, n, c.want)
		}
		var warned string
		for _, w := range got.Warnings {
			if strings.Contains(w.Message, "outside") {
				warned = w.String()
			}
		}
		if warned != c.warning {
			t.Errorf("%s: warns %q, want %q", keys, warned, c.warning)
		}
	}
}

// TestScaledPorts: what follows the connections is balanced, and so is a fixed
// port of a service that may come to several replicas.
func TestScaledPorts(t *testing.T) {
	for keys, want := range map[string]bool{
		"x-berth: {autoscale: {max: 2, metrics: [{cpu: {averageValue: 1}}]}}\nports: ['80:80']":                     true,
		"x-berth: {autoscale: {max: 2, metrics: [{cpu: {averageValue: 1}}]}}\nports: ['80']":                        false,
		"x-berth: {autoscale: {max: 1}}\nports: ['80:80']":                                                          false,
		"x-berth: {autoscale: {max: 1, schedules: [{cron: '@daily', replicas: 2}]}}\nports: ['80:80']":              true,
		"x-berth: {autoscale: {max: 1, idle: {after: 1m}}}\nports: ['80']":                                          true,
		"x-berth: {autoscale: {max: 1, idle: {after: 1m}}, discovery: ready}\nexpose: ['80']":                       false,
		"x-berth: {autoscale: {max: 2, metrics: [{requests: {averageValue: 1}}]}}\nports: ['80']":                   true,
		"x-berth: {autoscale: {max: 2, concurrency: {target: 1}}}\nports: ['80']":                                   true,
		"x-berth: {publish: direct, autoscale: {max: 2, metrics: [{cpu: {averageValue: 1}}]}}\nports: ['80-90:80']": false,
		"x-berth: {autoscale: {max: 2, metrics: [{cpu: {averageValue: 1}}]}}\nports: ['80:80']\nnetwork_mode: host": false,
	} {
		s := loaded(t, keys)
		if got := s.MayBalance(); got != want {
			t.Errorf("%s: balanced: %t, want %t", keys, got, want)
		}
		if want && len(s.Placement.Ports) > 0 {
			t.Errorf("%s: a replica holds %v", keys, s.Placement.Ports)
		}
	}
}

// scalable wants package scaling to take all that a load accepts.
func scalable(t *testing.T, s *stack.Stack) {
	t.Helper()
	for _, svc := range s.Services {
		a := svc.Autoscale
		if a == nil {
			continue
		}
		for _, err := range a.Policy.Validate() {
			t.Errorf("%s: the policy %+v: %v", svc.Name, a.Policy, err)
		}
		if _, errs := timetable.Parse(a.Schedules); len(errs) > 0 {
			t.Errorf("%s: the schedules %+v: %v", svc.Name, a.Schedules, errs)
		}
		if a.Idle != nil {
			for _, err := range a.Idle.Validate() {
				t.Errorf("%s: idle %+v: %v", svc.Name, a.Idle, err)
			}
		}
		if a.Concurrency != nil {
			for _, err := range a.Concurrency.Validate() {
				t.Errorf("%s: concurrency %+v: %v", svc.Name, a.Concurrency, err)
			}
		}
		if len(a.Sources) != len(a.Policy.Metrics) {
			t.Errorf("%s: %d metrics have %d sources", svc.Name, len(a.Policy.Metrics), len(a.Sources))
		}
		if svc.Replicas > a.Policy.Max {
			t.Errorf("%s: begins with %d of at most %d", svc.Name, svc.Replicas, a.Policy.Max)
		}
	}
}

// TestWhatLoadsCanBeScaled puts settings together at random: those that load are
// ones that package scaling takes.
func TestWhatLoadsCanBeScaled(t *testing.T) {
	parts := []string{
		"min: 0", "min: 2", "interval: 5s", "tolerance: 0.3", "metrics: [{webhook: {url: 'http://a', value: 3}}, {latency: {value: 1s}}]", "metrics: [{cpu: {utilization: 60}}, {memory: {averageValue: 1M}}]",
		"behavior: {scaleUp: {tolerance: 0.2, policies: [{type: Pods, value: 1, period: 30m}]}, scaleDown: {stabilizationWindow: 1h}}", "schedules: [{cron: '@hourly', min: 0}, {cron: '5 * * * *', replicas: 9}]",
		"idle: {after: 1s, action: stop}", "idle: {after: 1s, action: pause, grace: 1s}", "concurrency: {target: 0.5}", "concurrency: {target: 5, stableWindow: 10s, panicThreshold: 1}", "predict: {period: 12h}",
	}
	dir := project(t, map[string]string{"compose.yaml": ""})
	rapid.Check(t, func(rt *rapid.T) {
		chosen := rapid.SliceOfDistinct(rapid.SampledFrom(parts), func(s string) string { return s[:strings.Index(s, ":")] }).Draw(rt, "parts")
		keys := scaled(strings.Join(append(chosen, "max: 4"), ", "))
		if err := os.WriteFile(filepath.Join(dir, "compose.yaml"), []byte(probing(keys)), 0o600); err != nil {
			rt.Fatal(err)
		}
		got, err := stack.Load(t.Context(), stack.LoadOptions{WorkingDir: dir})
		switch {
		case err == nil:
			scalable(t, got.Stack)
		case !strings.Contains(err.Error(), "compose.yaml:4: services.web.x-berth.autoscale"):
			rt.Fatalf("%s: %v", keys, err)
		}
	})
}
