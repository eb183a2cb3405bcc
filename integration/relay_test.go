package integration

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"

	"github.com/berth-dev/berth/internal/testimage"
	"github.com/berth-dev/berth/runtime"
)

// A client keeps calling a service by its name, which leads to ready replicas.
const discoveredFile = `
services:
  client:
    image: IMAGE
    command: [call, "http://web:8080/", 50ms]
    depends_on: {web: {condition: service_healthy}}
    stop_grace_period: 1s
  web:
    image: IMAGE
    command: [serve]
    expose: ["8080"]
    environment: {REVISION: "1"}
    stop_grace_period: 5s
    deploy: {replicas: 2, endpoint_mode: vip}
    x-berth:
      drain: 5s
      probes: {readiness: {exec: [PROGRAM, healthcheck], period: 1s, failureThreshold: 1}}
`

// discovered is that stack, running.
type discovered struct {
	*world
}

func newDiscovered(t *testing.T) *discovered {
	t.Helper()
	d := &discovered{world: newWorld(t, "")}
	d.compose(discoveredFile)
	d.must("up", "-d", "--wait")
	return d
}

// replicas are the containers of web but for its relay, by slot.
func (d *discovered) replicas() []container.Summary {
	d.t.Helper()
	list := slices.DeleteFunc(d.service("web"), func(c container.Summary) bool { return c.Labels[runtime.LabelRelay] != "" })
	slices.SortFunc(list, func(a, b container.Summary) int {
		return strings.Compare(a.Labels[runtime.LabelSlot], b.Labels[runtime.LabelSlot])
	})
	return list
}

// relay is web's relay.
func (d *discovered) relay() container.InspectResponse {
	d.t.Helper()
	for _, c := range d.service("web") {
		if c.Labels[runtime.LabelRelay] != "" {
			return d.inspect(c.ID)
		}
	}
	d.t.Fatal("web has no relay")
	return container.InspectResponse{}
}

// answered are the lines that the client has written.
func (d *discovered) answered() []string {
	d.t.Helper()
	return strings.Split(strings.TrimSpace(d.must("logs", "--no-log-prefix", "client").stdout), "\n")
}

// answers waits until the last calls were answered by the containers with these
// IDs, by each of them, and by no other.
func (d *discovered) answers(when string, ids ...string) {
	d.t.Helper()
	const calls = 20
	d.eventually(30*time.Second, func() error {
		lines := d.answered()
		if len(lines) < calls {
			return fmt.Errorf("%s the client has called %d times", when, len(lines))
		}
		seen := map[string]bool{}
		for _, line := range lines[len(lines)-calls:] {
			host, _, _ := strings.Cut(strings.TrimPrefix(line, "host="), " ")
			seen[host] = true
		}
		for _, id := range ids {
			if !seen[id[:12]] {
				return fmt.Errorf("%s %s does not answer: %v", when, id[:12], seen)
			}
		}
		if len(seen) != len(ids) {
			return fmt.Errorf("%s more than %v answer: %v", when, ids, seen)
		}
		return nil
	})
}

// sick has a replica's readiness probe fail from now on.
func (d *discovered) sick(slot string) {
	d.t.Helper()
	d.must("exec", "--index", slot, "web", testimage.Program, "writefile", "/tmp/unhealthy", "sick")
}

// TestNameLeadsToReadyReplicas: of two replicas one becomes unready, both are
// replaced, and the daemon and the relay die; no call by the service's name fails
// but those that the relay itself takes with it.
func TestNameLeadsToReadyReplicas(t *testing.T) {
	d := newDiscovered(t)
	both := d.replicas()
	d.answers("at first", both[0].ID, both[1].ID)
	d.named(both)

	d.sick("1")
	d.answers("while web-1 is not ready", both[1].ID)

	d.compose(strings.Replace(discoveredFile, `REVISION: "1"`, `REVISION: "2"`, 1))
	relay := d.relay().ID
	d.must("up", "-d", "--wait")
	renewed := d.replicas()
	d.answers("after the rollout", renewed[0].ID, renewed[1].ID)
	if d.relay().ID != relay {
		t.Error("the rollout has replaced the relay")
	}

	d.killDaemon(syscall.SIGKILL)
	d.answers("without a daemon", renewed[0].ID, renewed[1].ID)
	d.must("exec", "--index", "2", "web", testimage.Program, "writefile", "/tmp/unhealthy", "sick")
	d.must("up", "-d")
	d.answers("with the next daemon", renewed[0].ID)
	for _, line := range d.answered() {
		if !strings.HasPrefix(line, "host=") {
			t.Errorf("a call %s", line)
		}
	}
	d.relayDies(relay, renewed[0].ID)
	d.must("down")
	d.nothingLeft()
}

// named looks at who has the service's name, and who shows the relay.
func (d *discovered) named(both []container.Summary) {
	d.t.Helper()
	for _, c := range both {
		for name, at := range d.inspect(c.ID).NetworkSettings.Networks {
			if slices.Contains(at.Aliases, "web") || slices.Contains(at.DNSNames, "web") {
				d.t.Errorf("%s is called web in %s", c.Names, name)
			}
		}
	}
	relay := d.relay()
	if relay.HostConfig.CapAdd != nil || !relay.HostConfig.ReadonlyRootfs || strings.HasPrefix(relay.Config.User, "0") {
		d.t.Errorf("the relay may more than it needs: %+v", relay.HostConfig)
	}
	name := d.project + "-web-relay"
	if out := d.must("ps", "--format", "json").stdout; strings.Contains(out, name) {
		d.t.Errorf("ps shows the relay:\n%s", out)
	}
	if out := d.must("ps", "-a", "--format", "json").stdout; !strings.Contains(out, name) {
		d.t.Errorf("ps -a does not show the relay:\n%s", out)
	}
}

// relayDies kills the relay: it comes back by itself and knows where to lead.
func (d *discovered) relayDies(relay, replica string) {
	d.t.Helper()
	if err := d.raw.ContainerKill(d.t.Context(), relay, "KILL"); err != nil {
		d.t.Fatal(err)
	}
	d.eventually(20*time.Second, func() error {
		if s := d.inspect(relay).State; !s.Running {
			return errors.New("the relay is " + s.Status)
		}
		return nil
	})
	d.answers("after the relay's death", replica)
}
