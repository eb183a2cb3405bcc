package cli

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/runtime"
)

// balancedWeb is a service in the middle of a rollout, with a port that is
// published and one that another process holds.
func balancedWeb() api.ExplainedService {
	status := manyRollouts().Services[5]
	return api.ExplainedService{
		Rollout: status,
		Published: []api.Published{
			{
				Service: "web", Protocol: "tcp", Port: 8090, Target: 8080, Open: 3,
				Bound: []runtime.BoundPort{{HostIP: "0.0.0.0", HostPort: 8090, Target: 8080, Protocol: "tcp"}, {HostIP: "::", HostPort: 8090, Target: 8080, Protocol: "tcp"}},
			},
			{Service: "web", Protocol: "tcp", Host: "::1", Port: 443, Target: 8443, Reason: "address already in use", Holder: "nginx (process 812)"},
		},
		Traffic: &api.Traffic{
			Policy: "round-robin", Routed: 2, Open: 4, Waiting: 1, Held: 7, Retries: 2, Refused: map[string]uint64{"hold time": 3, "unreachable": 1},
			Flow: api.Flow{Connections: 1200, FailedConnects: 5, BytesIn: 96_000, BytesOut: 12_400_000, ConnectP50: 81 * time.Microsecond, ConnectP99: 4230 * time.Microsecond},
			Backends: []api.Backend{
				{Container: "0123456789abcdef0123", Open: 1, Since: noon()},
				{Container: "shop-web-1", Slot: 1, Routed: true, Open: 3, Flow: api.Flow{Connections: 800, BytesIn: 64_000, BytesOut: 9_000_000, ConnectP50: 80 * time.Microsecond, ConnectP99: 900 * time.Microsecond}},
				{Container: "shop-web-2", Slot: 2, Routed: true, Failures: 3, AvoidedUntil: noon().Add(2 * time.Hour), Flow: api.Flow{FailedConnects: 5}},
			},
		},
	}
}

func TestExplainTellsOfTraffic(t *testing.T) {
	b := rolloutBench(t)
	a := &app{env: &Env{Out: &b.out}}
	web := balancedWeb()
	if err := a.printService(&b.out, &web, noon().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	plain := manyRollouts().Services[1]
	if err := a.printService(&b.out, &api.ExplainedService{Rollout: plain, Traffic: &api.Traffic{Policy: "random"}}, noon()); err != nil {
		t.Fatal(err)
	}
	golden(t, "explain-traffic.txt", b.out.String())
}

func TestExplainJSONHasTheTraffic(t *testing.T) {
	b := explainBench(t)
	all := explainedWeb()
	all.Services = []api.ExplainedService{balancedWeb()}
	b.daemon.explained = map[string]*api.Explained{"shop/web/0": all}
	if code := b.run("explain", "--format", "json", "web"); code != 0 {
		t.Fatalf("exit code %d: %s", code, b.err.String())
	}
	var got api.Explained
	if err := json.Unmarshal([]byte(b.out.String()), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Services) != 1 || got.Services[0].Traffic.Refused["hold time"] != 3 || got.Services[0].Published[1].Holder != "nginx (process 812)" {
		t.Errorf("got %+v", got.Services)
	}
}

// balancedContainers are an old and a new container of a replica, published by
// the balancer.
func balancedStatus() *api.Status {
	return &api.Status{
		Replicas: []api.Replica{{Service: "web", Slot: 1, Container: runtime.Container{ID: "new"}, Probed: true, Reason: "readiness probe failed"}},
		Beside:   []api.Replica{{Service: "web", Slot: 1, Container: runtime.Container{ID: "old"}, Probed: true, Serves: true}},
		Published: []api.Published{
			{Service: "web", Protocol: "tcp", Target: 80, Bound: []runtime.BoundPort{{HostIP: "0.0.0.0", HostPort: 8090, Target: 80, Protocol: "tcp"}}},
			{Service: "web", Protocol: "tcp", Target: 443, Port: 8443, Reason: "address already in use"},
			{Service: "db", Protocol: "tcp", Target: 5432, Bound: []runtime.BoundPort{{HostIP: "0.0.0.0", HostPort: 5432, Target: 5432, Protocol: "tcp"}}},
		},
	}
}

func TestPsTellsOfEveryContainerOfARollout(t *testing.T) {
	known := balancedStatus()
	rows := []psRow{{}, {}}
	rows[0].tell(known, "old", true)
	rows[1].tell(known, "new", true)
	if rows[0].Ready != "yes" || rows[1].Ready != "no" || rows[1].Reason != "readiness probe failed" {
		t.Errorf("got %+v", rows)
	}
}

func TestPortsOfABalancedService(t *testing.T) {
	labels := map[string]string{runtime.LabelComposeService: "web", runtime.LabelPublish: runtime.PublishBalanced}
	own := []runtime.BoundPort{{HostIP: "127.0.0.1", HostPort: 32768, Target: 80, Protocol: "tcp"}, {Target: 9000, Protocol: "tcp"}}
	direct := map[string]string{runtime.LabelComposeService: "web", runtime.LabelPublish: "1a2b3c4d"}
	for _, c := range []struct {
		name  string
		c     runtime.Container
		known *api.Status
		want  string
	}{
		{"by the balancer", runtime.Container{Labels: labels, State: runtime.Running, Ports: own}, balancedStatus(), "9000/tcp, 0.0.0.0:8090->80/tcp"},
		{"without a daemon", runtime.Container{Labels: labels, State: runtime.Running, Ports: own}, nil, "9000/tcp, 127.0.0.1:32768->80/tcp"},
		{"by the engine", runtime.Container{Labels: direct, State: runtime.Running, Ports: own}, balancedStatus(), "9000/tcp, 127.0.0.1:32768->80/tcp"},
		{"of one that has ended", runtime.Container{Labels: labels, State: runtime.Exited}, balancedStatus(), ""},
	} {
		if got := portsText(portsOf(&c.c, c.known)); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestPortOfABalancedService(t *testing.T) {
	for _, c := range []struct {
		port  string
		known *api.Status
		out   string
		err   string
	}{
		{"80", balancedStatus(), "0.0.0.0:8090\n", ""},
		{"81", balancedStatus(), "", "berth: no port 81/tcp for container shop-web-1: it publishes 80/tcp\n"},
		{"443", &api.Status{Published: balancedStatus().Published[1:]}, "", "berth: no port 443/tcp for container shop-web-1: port 8443/tcp is not listened at: address already in use\n"},
		{"80", nil, "", "berth: no port 80/tcp for container shop-web-1: the daemon publishes its ports, and it does not run or does not answer; any berth up -d starts it\n"},
	} {
		b := newBench(t, "name: shop\nservices:\n  web: {image: app}\n")
		id := runtime.Identity{Stack: "shop", Service: "web", Slot: 1, Publish: runtime.PublishBalanced}
		cid, err := b.engine.Create(t.Context(), "shop-web-1", id.Labels(), &runtime.Spec{Image: "app"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.engine.Start(t.Context(), cid); err != nil {
			t.Fatal(err)
		}
		b.daemon.known = c.known
		if code := b.run("port", "web", c.port); (code != 0) != (c.err != "") {
			t.Errorf("port %s: exit code %d", c.port, code)
		}
		b.wantOut(c.out)
		if got := b.err.String(); got != c.err {
			t.Errorf("port %s: standard error %q, want %q", c.port, got, c.err)
		}
	}
}
