package stack_test

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/scheduler"
)

func percent(n int) *stack.Share { return &stack.Share{Percent: n, IsShare: true} }
func count(n int) *stack.Share   { return &stack.Share{Count: n} }

func duration(d time.Duration) *time.Duration { return &d }

// loaded is the service web of a file that has the keys.
func loaded(t *testing.T, keys string) *stack.Service {
	t.Helper()
	got, err := loadProbing(t, keys)
	if err != nil {
		t.Fatalf("%s\n%v", keys, err)
	}
	return got.Stack.Service("web")
}

// TestRolloutIsTranslated looks at the part of a service that each key decides.
func TestRolloutIsTranslated(t *testing.T) {
	update := func(s *stack.Service) any { return s.Update }
	rollBack := func(s *stack.Service) any { return s.RollBack }
	rollout := func(s *stack.Service) any { return s.Rollout }
	balance := func(s *stack.Service) any { return s.Balance }
	publish := func(s *stack.Service) any { return s.Publish }
	discovery := func(s *stack.Service) any { return s.Discovery }
	of := func(change func(*stack.Update)) stack.Update {
		u := stack.DefaultUpdate()
		change(&u)
		return u
	}
	balanced := func(change func(*stack.Balance)) stack.Balance {
		b := stack.Balance{Hold: stack.DefaultHold, MaxHeld: stack.DefaultMaxHeld, Drain: stack.DefaultDrain, DrainIdle: stack.DefaultIdle}
		change(&b)
		return b
	}
	for keys, c := range map[string]struct {
		part func(s *stack.Service) any
		want any
	}{
		"labels: {}":                  {update, stack.Update{Parallelism: 1, Monitor: 5 * time.Second}},
		"deploy: {}":                  {rollBack, stack.Update{Parallelism: 1, Monitor: 5 * time.Second}},
		"deploy: {update_config: {}}": {update, stack.Update{Parallelism: 1, Monitor: 5 * time.Second}},
		"deploy: {update_config: {delay: 1s}}\nlabels: {}": {update, of(func(u *stack.Update) { u.Delay = time.Second })},
		"deploy: {update_config: {parallelism: 0, delay: 1m30s, monitor: \"${PERIOD}\", max_failure_ratio: 0.3, failure_action: rollback, order: start-first}}": {update,
			stack.Update{Delay: 90 * time.Second, Monitor: 7 * time.Second, MaxFailureRatio: 0.3, Action: stack.RollBackOnFailure, Order: stack.StartFirst}},
		"deploy: {rollback_config: {parallelism: '3', monitor: 0s, max_failure_ratio: '0.25', failure_action: continue, order: stop-first}}": {rollBack,
			stack.Update{Parallelism: 3, Monitor: 5 * time.Second, MaxFailureRatio: 0.25, Action: stack.ContinueOnFailure}},
		"deploy: {update_config: {failure_action: pause, max_failure_ratio: 1}}": {update, of(func(u *stack.Update) { u.MaxFailureRatio = 1 })},
		"deploy: {update_config: {parallelism: 2147483647}}":                     {update, of(func(u *stack.Update) { u.Parallelism = 100_000 })},

		"x-berth: {}": {rollout, stack.Rollout{Deadline: 10 * time.Minute}},
		"x-berth: {rollout: {maxSurge: 1000%, maxUnavailable: 0}}": {rollout, stack.Rollout{Surge: percent(1000), Unavailable: count(0), Deadline: 10 * time.Minute}},
		"x-berth: {rollout: {maxSurge: 3, maxUnavailable: 100%, minReady: 0s, progressDeadline: 1s}}": {rollout,
			stack.Rollout{Surge: count(3), Unavailable: percent(100), MinReady: duration(0), Deadline: time.Second}},
		"x-berth: {rollout: {minReady: \"${PERIOD}\", canary: {steps: [1, '2', 50], hold: 5m}}}": {rollout,
			stack.Rollout{MinReady: duration(7 * time.Second), Deadline: 10 * time.Minute, Canary: &stack.Canary{Steps: []stack.Share{*count(1), *count(2), *count(50)}, Hold: 5 * time.Minute}}},
		"x-berth: {rollout: {canary: {steps: [1%, 100%]}}}": {rollout,
			stack.Rollout{Deadline: 10 * time.Minute, Canary: &stack.Canary{Steps: []stack.Share{*percent(1), *percent(100)}}}},
		// The two bounds take the place of parallelism and order; all else of an update stays.
		"x-berth: {rollout: {maxSurge: 1}}\ndeploy: {update_config: {delay: 1s, monitor: 2s, failure_action: rollback, max_failure_ratio: 0.1}, rollback_config: {failure_action: continue}}": {rollout,
			stack.Rollout{Surge: count(1), Deadline: 10 * time.Minute}},

		"image: a": {balance, balanced(func(*stack.Balance) {})},
		"x-berth: {balance: {policy: round-robin}}\nports: ['80']":             {balance, balanced(func(*stack.Balance) {})},
		"x-berth: {balance: {policy: source-hash}}\nports: ['80']":             {balance, balanced(func(b *stack.Balance) { b.Policy = "source-hash" })},
		"x-berth: {drain: 0s, balance: {hold: 0s, maxHeld: 0, drainIdle: 0s}}": {balance, stack.Balance{}},
		"x-berth: {drain: \"${PERIOD}\", balance: {hold: 2m, maxHeld: 5}}":     {balance, stack.Balance{Hold: 2 * time.Minute, MaxHeld: 5, Drain: 7 * time.Second, DrainIdle: time.Second}},
		"ports: ['80']": {publish, stack.PublishAuto},
		"x-berth: {publish: direct}\nports: ['80']":       {publish, stack.PublishDirect},
		"x-berth: {publish: balanced}\nports: ['80/udp']": {publish, stack.PublishBalanced},

		"expose: ['80']": {discovery, stack.DiscoverAll},
		"deploy: {endpoint_mode: dnsrr}\nexpose: ['80']":                            {discovery, stack.DiscoverAll},
		"deploy: {endpoint_mode: vip}\nexpose: ['80']":                              {discovery, stack.DiscoverReady},
		"deploy: {endpoint_mode: vip}\nports: ['80']":                               {discovery, stack.DiscoverReady},
		"deploy: {endpoint_mode: vip}\nexpose: ['80/sctp']":                         {discovery, stack.DiscoverAll},
		"x-berth: {discovery: ready}\nports: ['80/udp']":                            {discovery, stack.DiscoverReady},
		"x-berth: {discovery: dns}\nexpose: ['80']\ndeploy: {endpoint_mode: dnsrr}": {discovery, stack.DiscoverAll},
		"x-berth: {discovery: ready}\nexpose: ['80']\ndeploy: {endpoint_mode: vip}": {discovery, stack.DiscoverReady},
	} {
		if keys == "image: a" {
			keys = "labels: {}"
		}
		if got := c.part(loaded(t, keys)); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s\n got %+v\nwant %+v", keys, got, c.want)
		}
	}
}

// TestWrongRollout wants file and line for each rule of how a service is
// updated, published and found.
func TestWrongRollout(t *testing.T) {
	const at, line = "compose.yaml:4: services.web.x-berth.", "compose.yaml:4: services.web.deploy."
	update := func(text string) string { return "deploy: {update_config: {" + text + "}}" }
	back := func(text string) string { return "deploy: {rollback_config: {" + text + "}}" }
	rollout := func(text string) string { return "x-berth: {rollout: {" + text + "}}" }
	for keys, want := range map[string]string{
		update("failure_action: stop"):                                              line + `update_config.failure_action: "stop" is not one of pause, continue, rollback`,
		back("failure_action: rollback"):                                            line + "rollback_config.failure_action: a roll-back is never rolled back; write pause or continue",
		back("failure_action: retry"):                                               line + `rollback_config.failure_action: "retry" is not one of pause, continue`,
		update("order: start"):                                                      line + `update_config.order: "start" is not`,
		update("order: \"${TOKEN}\""):                                               line + `update_config.order: "${TOKEN}" is not one of stop-first, start-first`,
		update("delay: soon"):                                                       line + `update_config.delay: "soon" is not a duration`,
		update("monitor: -1s"):                                                      line + `update_config.monitor: "-1s" is not a duration`,
		back("delay: \"-${PERIOD}\""):                                               line + "rollback_config.delay: -7s is less than nothing",
		back("monitor: \"-${PERIOD}\""):                                             line + "rollback_config.monitor: -7s is less than nothing",
		update("max_failure_ratio: 1.1"):                                            line + "update_config.max_failure_ratio: \"1.1\" is not a number between 0 and 1",
		update("max_failure_ratio: -0.1"):                                           line + "update_config.max_failure_ratio: \"-0.1\" is not a number between 0 and 1",
		update("max_failure_ratio: .nan"):                                           line + "update_config.max_failure_ratio: \".nan\" is not a number between 0 and 1",
		back("max_failure_ratio: '2'"):                                              line + "rollback_config.max_failure_ratio: \"2\" is not a number",
		update("max_failure_ratio: \"1${PERIOD}\""):                                 "compose.yaml:4: ",
		update("max_failure_ratio: \"${RATIO:-7}\""):                                line + "update_config.max_failure_ratio: 7 is not between 0 and 1",
		update("parallelism: \"${N:--7}\""):                                         "compose.yaml:4: 'services[web].deploy.update_config.parallelism' cannot parse value as 'uint64'",
		update("max_failure_ratio: some"):                                           line + `update_config.max_failure_ratio: "some" is not a number between 0 and 1`,
		update("parallelism: -1"):                                                   line + `update_config.parallelism: "-1" is not a number of replicas`,
		update("parallelism: many"):                                                 line + `update_config.parallelism: "many" is not a number of replicas`,
		back("parallelism: 1.5"):                                                    line + "rollback_config.parallelism: is a number; it must be an integer or text",
		"deploy: {mode: replicated-job, rollback_config: {delay: 1s}}":              line + "rollback_config: cannot be given with mode: replicated-job: a changed job is run again, not updated; drop it",
		rollout("minReady: 1s") + "\ndeploy: {mode: global-job}":                    at + "rollout: cannot be given with mode: global-job",
		rollout("maxSurge: some"):                                                   at + `rollout.maxSurge: "some" is neither a number of replicas nor a percentage such as 25%`,
		rollout("maxSurge: -1"):                                                     at + `rollout.maxSurge: "-1" is neither a number of replicas`,
		rollout("maxSurge: '+1'"):                                                   at + `rollout.maxSurge: "+1" is neither a number of replicas`,
		rollout("maxSurge: '%'"):                                                    at + `rollout.maxSurge: "%" is neither a number of replicas`,
		rollout("maxSurge: 1.5"):                                                    at + "rollout.maxSurge: is a number; it must be an integer or text",
		rollout("maxSurge: 1001%"):                                                  at + "rollout.maxSurge: 1001% is not between 0% and 1000%",
		rollout("maxUnavailable: 101%"):                                             at + "rollout.maxUnavailable: 101% is not between 0% and 100%",
		rollout("maxUnavailable: 100001"):                                           at + "rollout.maxUnavailable: 100001 is not between 0 and 100000",
		rollout("maxUnavailable: \"${TOKEN}\""):                                     at + `rollout.maxUnavailable: "${TOKEN}" is neither`,
		rollout("minReady: 10m"):                                                    at + "rollout.minReady: 10m0s is not shorter than progressDeadline, which is 10m0s unless it is given",
		rollout("minReady: 5s, progressDeadline: 5s"):                               at + "rollout.progressDeadline: 5s is not longer than minReady, which is 5s",
		rollout("progressDeadline: 0s"):                                             at + "rollout.progressDeadline: 0s is not longer than minReady, which is 0s",
		rollout("minReady: soon"):                                                   at + `rollout.minReady: "soon" is not a duration`,
		rollout("progressDeadline: never"):                                          at + `rollout.progressDeadline: "never" is not a duration`,
		rollout("canary: {}"):                                                       at + "rollout.canary: has no steps; write steps: [10%, 50%]",
		rollout("canary: {hold: 1m}"):                                               at + "rollout.canary: has no steps",
		rollout("canary: {steps: []}"):                                              at + "rollout.canary.steps: has 0 elements; it must have at least 1",
		rollout("canary: {steps: [0]}"):                                             at + "rollout.canary.steps.0: is nothing; a step is at least one replica",
		rollout("canary: {steps: [0%]}"):                                            at + "rollout.canary.steps.0: is nothing",
		rollout("canary: {steps: [101%]}"):                                          at + "rollout.canary.steps.0: 101% is not between 0% and 100%",
		rollout("canary: {steps: [50%, 20%]}"):                                      at + "rollout.canary.steps.1: is 20% after 50%; each step is larger than the last",
		rollout("canary: {steps: [2, 2]}"):                                          at + "rollout.canary.steps.1: is 2 after 2; each step is larger than the last",
		rollout("canary: {steps: [1, 50%]}"):                                        at + "rollout.canary.steps.1: is 50% after 1; give counts or percentages, not both",
		rollout("canary: {steps: [1], hold: long}"):                                 at + `rollout.canary.hold: "long" is not a duration`,
		"x-berth:\n  rollout:\n    canary:\n      steps:\n        - 1\n        - 1": "compose.yaml:9: services.web.x-berth.rollout.canary.steps.1: ",
		rollout("maxSurge: 1") + "\n" + update("parallelism: 2"):                    at + "rollout.maxSurge: and deploy.update_config.parallelism (compose.yaml:5) say the same thing twice; keep one",
		rollout("maxUnavailable: 1") + "\n" + update("order: stop-first"):           at + "rollout.maxUnavailable: and deploy.update_config.order (compose.yaml:5) say the same thing twice; keep one",
		rollout("maxUnavailable: 1") + "\n" + back("parallelism: 0"):                at + "rollout.maxUnavailable: and deploy.rollback_config.parallelism (compose.yaml:5) say",
		rollout("maxSurge: 1") + "\n" + back("order: start-first"):                  at + "rollout.maxSurge: and deploy.rollback_config.order (compose.yaml:5) say",
		"x-berth: {publish: engine}":                                                at + `publish: "engine" is not one of direct, balanced`,
		"x-berth: {publish: balanced}\nports: ['80/sctp', '81']":                    at + "publish: the balancer takes tcp and udp, but the service publishes sctp too (compose.yaml:5)",
		"x-berth: {publish: balanced}\nports: ['80']\nnetwork_mode: host":           at + "publish: the balancer cannot reach a service with network_mode: host; drop one of them",
		"x-berth: {balance: {policy: random}}":                                      at + `balance.policy: "random" is not one of round-robin, least-connections, random-two, source-hash`,
		"x-berth: {balance: {hold: long}}":                                          at + `balance.hold: "long" is not a duration`,
		"x-berth: {balance: {maxHeld: -1}}":                                         at + "balance.maxHeld: -1 is less than 0",
		"x-berth: {drain: -1s}":                                                     at + `drain: "-1s" is not a duration`,
		"deploy: {endpoint_mode: vips}":                                             line + `endpoint_mode: "vips" is not one of vip, dnsrr`,
		"x-berth: {discovery: vip}":                                                 at + `discovery: "vip" is not one of dns, ready`,
		"x-berth: {discovery: ready}\ndeploy: {endpoint_mode: dnsrr}":               at + "discovery: is ready, but deploy.endpoint_mode (compose.yaml:5) is dnsrr; keep one of them",
		"x-berth: {discovery: dns}\ndeploy: {endpoint_mode: vip}":                   at + "discovery: is dns, but deploy.endpoint_mode (compose.yaml:5) is vip; keep one of them",
		"x-berth: {discovery: ready}":                                               at + "discovery: an address that leads to ready replicas needs to know their ports; give expose: or ports: at least one",
		"x-berth: {discovery: ready}\nports: ['80/sctp']":                           at + "discovery: an address that leads to ready replicas needs to know their ports",
		"x-berth: {discovery: ready}\nnetwork_mode: host":                           at + "discovery: leads to ready replicas over the service's networks, but with network_mode: host it has none; drop one of them",
		"x-berth: {discovery: ready}\nexpose: ['80']\nnetwork_mode: none":           at + "discovery: leads to ready replicas over the service's networks, but with network_mode: none it has none",
		"deploy: {endpoint_mode: vip}\nexpose: ['80']\nnetwork_mode: host":          line + "endpoint_mode: leads to ready replicas over the service's networks",
		"x-berth: {publish: direct}\nscale: 3\nports: ['80:80']": "compose.yaml:6: services.web.ports: the host port 80 can be held by one container with publish: direct, but the service \"web\" has 3 replicas: " +
			"drop publish: direct, give a range such as 80-82, leave the host port out, or have one replica",
		"scale: 2\nports: ['65535:80/sctp']": "compose.yaml:5: services.web.ports: the host port 65535 can be held by one container, as the balancer takes no service with sctp ports, but the service \"web\" has 2 replicas: " +
			"leave the host port out, or have one replica",
		"scale: 2\nports: ['80:80', '81/sctp']":                                                         "compose.yaml:5: services.web.ports: the host port 80 can be held by one container, as the balancer takes no service with sctp ports",
		"scale: 2\nports: [{target: 80, published: '80', protocol: TCP}, {target: 81, protocol: SCTP}]": "the balancer takes no service with sctp ports",
		"ports: ['80:80', {target: 81, published: '80', protocol: TCP}]":                                "the host port 80/tcp is published twice",
		"scale: 3\nports: ['80:80', '80:81']":                                                           `compose.yaml:5: services.web.ports: the host port 80/tcp is published twice`,
	} {
		got, err := loadProbing(t, keys)
		switch {
		case err == nil:
			t.Errorf("%s\nloaded: %+v", keys, got.Stack.Services[0])
		case !strings.Contains(err.Error(), want):
			t.Errorf("%s\n got %s\nwant %s", keys, err, want)
		case strings.Contains(err.Error(), "canary-token"):
			t.Errorf("%s: shows a secret: %s", keys, err)
		}
	}
}

// TestRolloutWarnings: what has no effect where it stands.
func TestRolloutWarnings(t *testing.T) {
	const at = "compose.yaml:4: services.web.x-berth."
	for keys, want := range map[string][]string{
		"x-berth: {publish: direct}": {at + "publish: has no effect: the service publishes no ports"},
		"x-berth: {drain: 1s}":       {at + "drain: has no effect: the service publishes no ports"},
		"x-berth: {balance: {hold: 1s}, drain: 1s, publish: direct}\nports: ['80']": {
			at + "balance: has no effect: with publish: direct the engine holds the ports", at + "drain: has no effect: with publish: direct the engine holds the ports"},
		"x-berth: {drain: 1s, publish: direct}\nnetwork_mode: host\nports: ['80']": {
			at + "drain: has no effect: with publish: direct the engine holds the ports", "compose.yaml:6: services.web.ports: has no effect with network_mode: host"},
		"x-berth: {drain: 1s}\nnetwork_mode: none":                                      {at + "drain: has no effect: the service has no network of its own"},
		"x-berth: {drain: 1s, publish: direct, discovery: ready}\nports: ['80']":        nil,
		"x-berth: {drain: 1s, balance: {maxHeld: 1}, discovery: ready}\nexpose: ['80']": nil,
		"x-berth: {drain: 1s, balance: {maxHeld: 1}}\nports: ['80:80']":                 nil,
		"x-berth: {rollout: {maxSurge: 1, canary: {steps: [1]}}}":                       nil,
		"deploy: {update_config: {parallelism: 0, delay: 1s, monitor: 1s, max_failure_ratio: 1, order: start-first, failure_action: rollback}, rollback_config: {parallelism: 1}}": nil,
		"deploy: {endpoint_mode: vip}":                 {"compose.yaml:4: services.web.deploy.endpoint_mode: the service's name resolves to all its containers: an address that leads to ready replicas needs to know their ports; give expose: or ports: at least one"},
		"deploy: {endpoint_mode: vip}\nexpose: ['80']": nil,
	} {
		got, err := loadProbing(t, keys)
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

// TestWhoHoldsAPort: a fixed port is the balancer's where two replicas may be
// there at once, and each replica's own otherwise.
func TestWhoHoldsAPort(t *testing.T) {
	held := []scheduler.HostPort{{Port: 80}}
	for keys, c := range map[string]struct {
		balanced bool
		held     []scheduler.HostPort
	}{
		"ports: ['80:80']":                                                       {false, held},
		"scale: 0\nports: ['80:80']":                                             {false, held},
		"scale: 2\nports: ['80:80']":                                             {true, nil},
		"scale: 2\nports: ['80:80/udp', '90']":                                   {true, nil},
		"scale: 2\nports: ['80']":                                                {false, nil},
		"scale: 2\nports: ['80-82:80']":                                          {false, nil},
		"scale: 2\nports: ['80-80:80']":                                          {true, nil},
		"scale: 2\nexpose: ['80']":                                               {false, nil},
		"scale: 2\nports: ['80:80']\nnetwork_mode: host":                         {false, nil},
		"scale: 2\nports: ['80:80']\nnetwork_mode: none":                         {false, nil},
		"scale: 2\nports: ['80:80']\nnetwork_mode: bridge":                       {true, nil},
		"deploy: {mode: global}\nports: ['80:80']":                               {false, held},
		"deploy: {mode: global}\nx-berth: {publish: balanced}\nports: ['80:80']": {true, nil},
		"deploy: {update_config: {order: start-first}}\nports: ['80:80']":        {true, nil},
		"deploy: {update_config: {order: stop-first}}\nports: ['80:80']":         {false, held},
		"deploy: {rollback_config: {order: start-first}}\nports: ['80:80']":      {true, nil},
		"x-berth: {rollout: {maxSurge: 1}}\nports: ['80:80']":                    {true, nil},
		"x-berth: {rollout: {maxUnavailable: 1}}\nports: ['80:80']":              {true, nil}, // the surge is 25 % of one, rounded up
		"x-berth: {rollout: {maxSurge: 0, maxUnavailable: 1}}\nports: ['80:80']": {false, held},
		"x-berth: {rollout: {maxSurge: 0%}}\nports: ['80:80']":                   {false, held},
		"x-berth: {rollout: {minReady: 1s}}\nports: ['80:80']":                   {false, held},
		"x-berth: {rollout: {canary: {steps: [1]}}}\nports: ['80:80']":           {true, nil},
		"x-berth: {publish: balanced}\nports: ['80:80']":                         {true, nil},
		"x-berth: {publish: balanced}\nports: ['80']":                            {true, nil},
		"x-berth: {publish: balanced}":                                           {false, nil},
		"x-berth: {publish: direct, rollout: {maxSurge: 1}}\nports: ['80:80']":   {false, held},
		"x-berth: {rollout: {maxSurge: 1}}\nports: ['80:80', '81:81/sctp']":      {false, []scheduler.HostPort{{Port: 80}, {Port: 81, Protocol: "sctp"}}},
		"x-berth: {rollout: {maxSurge: 1}}\nports: ['80:80', '81/sctp']":         {false, held},
	} {
		s := loaded(t, keys)
		if got := s.MayBalance(); got != c.balanced {
			t.Errorf("%s: balanced: %t, want %t", keys, got, c.balanced)
		}
		if got := s.Placement.Ports; !reflect.DeepEqual(got, c.held) {
			t.Errorf("%s: held: %v, want %v", keys, got, c.held)
		}
	}
}

// TestPortsOfSeveralServices: two services cannot hold one port, whoever holds
// it for them.
func TestPortsOfSeveralServices(t *testing.T) {
	const file = "services:\n  a: {image: a, scale: %d, ports: ['80:80']}\n  b: {image: a, scale: %d, x-berth: {publish: balanced}, ports: ['80:81']}\n"
	for _, n := range [][2]int{{1, 1}, {1, 2}, {2, 1}, {3, 3}} {
		dir := project(t, map[string]string{"compose.yaml": fmt.Sprintf(file, n[0], n[1])})
		_, err := stack.Load(t.Context(), stack.LoadOptions{WorkingDir: dir})
		if err == nil || !strings.Contains(err.Error(), `compose.yaml:3: services.b.ports: the host port 80/tcp is published by service "a" too (compose.yaml:2); change one of them`) {
			t.Errorf("%v: %v", n, err)
		}
	}
}

func TestRevisionsAreKept(t *testing.T) {
	for text, want := range map[string]int{"": 0, "x-berth: {revisions: 1}\n": 1, "x-berth: {revisions: 100}\n": 100} {
		got, err := stack.Load(t.Context(), stack.LoadOptions{WorkingDir: project(t, map[string]string{"compose.yaml": image("a") + text})})
		if err != nil || got.Stack.Revisions != want {
			t.Errorf("%q: %+v, %v, want %d", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"x-berth: {revisions: 0}\n":   "x-berth.revisions: 0 is less than 1",
		"x-berth: {revisions: 101}\n": "x-berth.revisions: 101 is more than 100",
		"x-berth: {revisions: all}\n": "x-berth.revisions: is text; it must be an integer",
	} {
		_, err := stack.Load(t.Context(), stack.LoadOptions{WorkingDir: project(t, map[string]string{"compose.yaml": image("a") + text})})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
}

// TestBounds holds the numbers that a Kubernetes Deployment computes.
func TestBounds(t *testing.T) {
	for _, c := range []struct {
		surge, unavailable *stack.Share
		n                  int
		up, down           int
	}{
		{percent(25), nil, 10, 3, 2}, {nil, percent(25), 10, 3, 2}, {nil, count(2), 10, 3, 2}, {count(0), nil, 10, 0, 2},
		{count(0), count(0), 10, 0, 1}, {percent(0), percent(5), 10, 0, 1}, {count(0), nil, 3, 0, 1},
		{percent(1), percent(0), 10, 1, 0}, {percent(200), percent(100), 3, 6, 3}, {count(5), count(1), 0, 5, 1}, {percent(50), percent(50), 1, 1, 0},
	} {
		r := stack.Rollout{Surge: c.surge, Unavailable: c.unavailable}
		if up, down, ok := r.Bounds(c.n); up != c.up || down != c.down || !ok {
			t.Errorf("surge %v, unavailable %v of %d: %d, %d, %t; want %d, %d", c.surge, c.unavailable, c.n, up, down, ok, c.up, c.down)
		}
	}
	if _, _, ok := (&stack.Rollout{}).Bounds(3); ok {
		t.Error("a rollout without bounds has some")
	}
}

// TestBoundsAlwaysMove: whatever is given, an update can take its next step, and
// a percentage is no more than rounded.
func TestBoundsAlwaysMove(t *testing.T) {
	share := rapid.Custom(func(rt *rapid.T) *stack.Share {
		if rapid.Bool().Draw(rt, "percentage") {
			return percent(rapid.IntRange(0, 1000).Draw(rt, "percent"))
		}
		return count(rapid.IntRange(0, 100_000).Draw(rt, "count"))
	})
	rapid.Check(t, func(rt *rapid.T) {
		r := stack.Rollout{Surge: share.Draw(rt, "surge"), Unavailable: share.Draw(rt, "unavailable")}
		n := rapid.IntRange(0, 100_000).Draw(rt, "n")
		up, down, ok := r.Bounds(n)
		if !ok || up+down < 1 || up < 0 || down < 0 {
			rt.Fatalf("%d, %d, %t", up, down, ok)
		}
		if s := r.Surge; s.IsShare && up != int(math.Ceil(float64(n*s.Percent)/100)) {
			rt.Fatalf("a surge of %v of %d is %d", s, n, up)
		}
	})
}

// TestNamesOfReadyReplicas: what leads to ready replicas only has all names of the
// service, and its containers have none of them.
func TestNamesOfReadyReplicas(t *testing.T) {
	const file = `
services:
  web:
    image: a
    expose: ['80', '9000-9001/udp', '7/sctp']
    ports: ['8080:80', '90:53/udp']
    networks: {front: {aliases: [shop, web]}, back: {priority: 1}}
    %s
networks: {front: {}, back: {}}
`
	plain := load(t, fmt.Sprintf(file, "")).Stack.Service("web")
	if plain.Names != nil || !slices.Equal(plain.Spec.Networks[1].Aliases, []string{"web", "shop"}) {
		t.Errorf("by default the names are %v, and the containers have %v", plain.Names, plain.Spec.Networks)
	}
	ready := load(t, fmt.Sprintf(file, "x-berth: {discovery: ready}")).Stack.Service("web")
	want := []runtime.Attachment{
		{Network: plain.Spec.Networks[0].Network, Aliases: []string{"web"}},
		{Network: plain.Spec.Networks[1].Network, Aliases: []string{"web", "shop"}},
	}
	if diff := cmp.Diff(want, ready.Names); diff != "" {
		t.Error("the names (-want +got)\n" + diff)
	}
	for _, at := range ready.Spec.Networks {
		if at.Aliases != nil {
			t.Errorf("a container has the names %v in %s", at.Aliases, at.Network)
		}
	}
	ports := []runtime.Port{
		{Target: 53, Protocol: "udp"}, {Target: 80, Protocol: "tcp"}, {Target: 9000, Protocol: "udp"}, {Target: 9001, Protocol: "udp"},
	}
	if diff := cmp.Diff(ports, ready.Reachable()); diff != "" {
		t.Error("the ports (-want +got)\n" + diff)
	}
	if plain.Revision == ready.Revision {
		t.Error("containers with and without the service's names have one revision")
	}
}
