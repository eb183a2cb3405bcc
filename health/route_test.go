package health

import (
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/berth-dev/berth/runtime"
)

func TestChoose(t *testing.T) {
	bridge := runtime.Container{
		ID: "api1", Name: "shop-api-1", State: runtime.Running, NetworkMode: "shop_default",
		Networks: []runtime.Endpoint{{Network: "shop_default", IPv4: "172.18.0.2", IPv6: "fd00::2"}, {Network: "shop_front", IPv4: "172.19.0.2"}},
		Ports: []runtime.BoundPort{
			{Target: 8080, Protocol: "udp", HostPort: 1}, {Target: 8080, Protocol: "tcp", HostIP: "0.0.0.0", HostPort: 32768},
			{Target: 8080, Protocol: "tcp", HostIP: "::", HostPort: 32769}, {Target: 9090, Protocol: "tcp"},
		},
	}
	change := func(f func(*runtime.Container)) runtime.Container {
		c := bridge.Clone()
		f(&c)
		return c
	}
	side := runtime.Container{ID: "side", Name: "shop-side-1", State: runtime.Running, NetworkMode: "container:api1"}
	host := runtime.Container{ID: "h", Name: "shop-h-1", State: runtime.Running, NetworkMode: "host"}
	none := runtime.Container{ID: "n", Name: "shop-n-1", State: runtime.Running, NetworkMode: "none"}
	v6 := change(func(c *runtime.Container) { c.Networks = []runtime.Endpoint{{Network: "six", IPv6: "fd00::2"}} })
	linkLocal := change(func(c *runtime.Container) { c.Networks = []runtime.Endpoint{{Network: "six", IPv6: "fe80::2"}} })
	onHost := change(func(c *runtime.Container) { c.Ports[1].HostIP = "192.0.2.7" })
	loopPort := change(func(c *runtime.Container) { c.Ports[1].HostIP = "127.0.0.1" })
	six := change(func(c *runtime.Container) { c.Ports = c.Ports[2:] })
	paused := bridge.Clone()
	paused.State = runtime.Exited

	for _, c := range []struct {
		name  string
		facts Facts
		host  string
		port  uint16
		want  Route
	}{
		{"its address", Facts{Container: bridge, Local: true}, "", 8080,
			Route{Way: ByAddress, Address: "172.18.0.2:8080", Reason: "address of shop-api-1 on network shop_default"}},
		{"of the network it can reach", Facts{Container: bridge, Local: true, Drivers: map[string]string{"shop_default": "macvlan"}}, "", 8080,
			Route{Way: ByAddress, Address: "172.19.0.2:8080", Reason: "address of shop-api-1 on network shop_front"}},
		{"IPv6 alone", Facts{Container: v6, Local: true}, "", 80,
			Route{Way: ByAddress, Address: "[fd00::2]:80", Reason: "address of shop-api-1 on network six"}},
		{"a link-local address is none", Facts{Container: linkLocal, Local: true}, "", 80,
			Route{Way: ByHelper, Address: "127.0.0.1:80", Container: "api1", Reason: "the container is on no network, and port 80 is not published"}},
		{"published", Facts{Container: bridge}, "", 8080,
			Route{Way: Published, Address: "127.0.0.1:32768", Reason: "published port 32768 leads to port 8080; the engine's networks are not this machine's"}},
		{"published on an address", Facts{Container: onHost}, "", 8080,
			Route{Way: Published, Address: "192.0.2.7:32768", Reason: "published port 32768 leads to port 8080; the engine's networks are not this machine's"}},
		{"published elsewhere", Facts{Container: bridge, EngineHost: "engine.test"}, "", 8080,
			Route{Way: Published, Address: "engine.test:32768", Reason: "published port 32768 leads to port 8080; the engine's networks are not this machine's"}},
		{"published on that loopback", Facts{Container: loopPort, EngineHost: "engine.test"}, "", 8080,
			Route{Way: Published, Address: "engine.test:32768", Reason: "published port 32768 leads to port 8080; the engine's networks are not this machine's"}},
		{"published on IPv6", Facts{Container: six}, "", 8080,
			Route{Way: Published, Address: "[::1]:32769", Reason: "published port 32769 leads to port 8080; the engine's networks are not this machine's"}},
		{"not published", Facts{Container: bridge}, "", 9090,
			Route{Way: ByHelper, Address: "127.0.0.1:9090", Container: "api1", Reason: "the engine's networks are not this machine's, and port 9090 is not published"}},
		{"networks that keep the host out", Facts{Container: bridge, Local: true, Drivers: map[string]string{"shop_default": "overlay", "shop_front": "ipvlan"}}, "", 9090,
			Route{Way: ByHelper, Address: "127.0.0.1:9090", Container: "api1", Reason: "this machine is not part of network shop_front (ipvlan), and port 9090 is not published"}},
		{"no network", Facts{Container: none, Local: true}, "", 80,
			Route{Way: ByHelper, Address: "127.0.0.1:80", Container: "n", Reason: "the container is on no network, and port 80 is not published"}},

		{"own loopback", Facts{Container: bridge, Local: true}, "localhost", 8080,
			Route{Way: ByHelper, Address: "localhost:8080", Container: "api1", Reason: "the probe asks for the container's own loopback"}},
		{"own IPv6 loopback", Facts{Container: bridge, Local: true}, "::1", 8080,
			Route{Way: ByHelper, Address: "[::1]:8080", Container: "api1", Reason: "the probe asks for the container's own loopback"}},
		{"listens on its loopback only", Facts{Container: bridge, Local: true, Listeners: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:8080"), netip.MustParseAddrPort("0.0.0.0:9090")}}, "", 8080,
			Route{Way: ByHelper, Address: "127.0.0.1:8080", Container: "api1", Reason: "port 8080 is listened on by the container's loopback only"}},
		{"listens on its loopback too", Facts{Container: bridge, Local: true, Listeners: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:8080"), netip.MustParseAddrPort("[::]:8080")}}, "", 8080,
			Route{Way: ByAddress, Address: "172.18.0.2:8080", Reason: "address of shop-api-1 on network shop_default"}},
		{"another host", Facts{Container: bridge, Local: true}, "db.test", 5432,
			Route{Way: Direct, Address: "db.test:5432", Reason: "the probe names the host"}},

		{"shared network", Facts{Container: side, Sharer: &bridge, Local: true}, "", 8080,
			Route{Way: ByAddress, Address: "172.18.0.2:8080", Reason: "address of shop-api-1 on network shop_default, whose network shop-side-1 shares"}},
		{"shared network from afar", Facts{Container: side, Sharer: &bridge}, "", 9090,
			Route{Way: ByHelper, Address: "127.0.0.1:9090", Container: "api1", Reason: "the engine's networks are not this machine's, and port 9090 is not published"}},
		{"shared with nobody", Facts{Container: side, Local: true}, "", 80,
			Route{Reason: "it shares the network of container api1, which is not there"}},
		{"shared with one that ended", Facts{Container: side, Sharer: &paused, Local: true}, "", 80,
			Route{Reason: "it shares the network of shop-api-1, which is exited"}},
		{"host network", Facts{Container: host, Local: true}, "", 80,
			Route{Way: ByHost, Address: "127.0.0.1:80", Reason: "the container shares the host's network"}},
		{"host network, IPv6", Facts{Container: host, Local: true}, "::1", 80,
			Route{Way: ByHost, Address: "[::1]:80", Reason: "the container shares the host's network"}},
		{"a distant host's network", Facts{Container: host}, "", 80,
			Route{Way: ByHelper, Address: "127.0.0.1:80", Container: "h", Reason: "the container shares the network of the engine's machine, which is not this one"}},
	} {
		if got := Choose(c.facts, c.host, c.port); got != c.want {
			t.Errorf("%s:\n got %+v\nwant %+v", c.name, got, c.want)
		}
	}
}

func TestWays(t *testing.T) {
	c := runtime.Container{ID: "api1", Name: "api", State: runtime.Running, Networks: []runtime.Endpoint{{Network: "n", IPv4: "172.18.0.2"}}}
	probes := Probes{
		Startup:   &Probe{Exec: &Exec{}},
		Readiness: &Probe{HTTP: &HTTP{Port: Port{Name: "web"}}},
		Liveness:  &Probe{TCP: &TCP{Port: Port{Name: "gone"}}},
	}
	got := Facts{Container: c, Local: true}.Ways(probes, map[string]uint16{"web": 8080})
	want := map[Role]Route{
		Readiness: {Way: ByAddress, Address: "172.18.0.2:8080", Reason: "address of api on network n"},
		Liveness:  {Reason: `no port is named "gone"`},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("ways %+v, want %+v", got, want)
	}
	if got := (Facts{Container: c}).Ways(Probes{}, nil); len(got) != 0 {
		t.Errorf("ways of nothing %+v", got)
	}
}

func TestParseListeners(t *testing.T) {
	table := `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 31337 1
   1: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 31338 1
   2: 020012AC:0050 010012AC:C350 01 00000000:00000000 00:00000000 00000000     0        0 31339 1

   3: 00000000000000000000000001000000:2382 00000000000000000000000000000000:0000 0A 0 0 0
   4: 0000000000000000FFFF00000100007F:2383 00000000000000000000000000000000:0000 0A 0 0 0
`
	got, err := ParseListeners(strings.NewReader(table))
	var want []netip.AddrPort
	for _, s := range []string{"127.0.0.1:8080", "0.0.0.0:80", "[::1]:9090", "[::ffff:127.0.0.1]:9091"} {
		want = append(want, netip.MustParseAddrPort(s))
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("listeners %v (%v), want %v", got, err, want)
	}
	for port, only := range map[uint16]bool{8080: true, 80: false, 9090: true, 9091: true, 1: false} {
		if loopbackOnly(got, port) != only {
			t.Errorf("port %d is loopback only: %v", port, !only)
		}
	}
	for _, bad := range []string{"h\nshort line", "h\n0: zz:0050 0:0 0A", "h\n0: 0100007F:xx 0:0 0A", "h\n0: 01:0050 0:0 0A", "h\n0: 0100007F 0:0 0A"} {
		if _, err := ParseListeners(strings.NewReader(bad)); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func FuzzParseListeners(f *testing.F) {
	f.Add("sl\n 0: 0100007F:1F90 00000000:0000 0A\n")
	f.Add("sl\n 3: 00000000000000000000000001000000:2382 0:0 0A 0 0 0\n")
	f.Fuzz(func(t *testing.T, table string) {
		got, err := ParseListeners(strings.NewReader(table))
		if err != nil && got != nil || len(got) > mostListeners {
			t.Errorf("%d listeners with %v", len(got), err)
		}
		for _, l := range got {
			if !l.IsValid() {
				t.Errorf("%v is no address", l)
			}
		}
	})
}

// The tables of this machine read well.
func TestParseListenersOfThisMachine(t *testing.T) {
	address := netip.MustParseAddrPort(raw(t, holds))
	f, err := openTable()
	if err != nil {
		t.Skip("no table of sockets on this system: ", err)
	}
	defer f.Close()
	got, err := ParseListeners(f)
	if err != nil {
		t.Fatal(err)
	}
	if !loopbackOnly(got, address.Port()) {
		t.Errorf("%v is not among %v", address, got)
	}
}

func openTable() (*os.File, error) { return os.Open("/proc/self/net/tcp") }
