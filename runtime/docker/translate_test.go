package docker

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/berth-dev/berth/runtime"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares a value, as JSON, with testdata/name.golden.json.
func golden(t *testing.T, name string, got any) {
	t.Helper()
	b, err := json.MarshalIndent(got, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	b = append(b, '\n')
	path := filepath.Join("testdata", name+".golden.json")
	if *update {
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b, want) {
		t.Errorf("%s differs; run go test ./runtime/docker -run %s -update and look at the difference.\ngot:\n%s", path, t.Name(), b)
	}
}

func ptr[T any](v T) *T { return &v }

// fullSpec sets every field of a spec that does not exclude another.
func fullSpec() *runtime.Spec {
	return &runtime.Spec{
		Image: "shop/web:1", Platform: "linux/arm64/v8", Entrypoint: []string{"/bin/web"}, Command: []string{"--port", "80"},
		Env: []string{"A=1", "UNSET"}, WorkingDir: "/srv", User: "1000:1000", GroupAdd: []string{"audio"},
		Labels: map[string]string{"team": "shop", runtime.LabelStack: "spoofed"}, Annotation: map[string]string{"note": "x"},
		Hostname: "web", Domainname: "shop.local", ExtraHosts: []string{"db:10.0.0.9"},
		DNS: []string{"1.1.1.1"}, DNSOptions: []string{"use-vc"}, DNSSearch: []string{"shop.local"},
		Networks: []runtime.Attachment{
			{
				Network: "shop_front", Aliases: []string{"web", "www"}, IPv4: "172.28.0.5", IPv6: "fd00::5", LinkLocal: []string{"169.254.8.8"},
				MacAddress: "02:42:ac:11:00:05", Interface: "front0", Gateway: 7, DriverOpts: map[string]string{"o": "1"},
			},
			{Network: "shop_back", Aliases: []string{"web"}},
		},
		Ports: []runtime.Port{
			{Target: 80, Published: "8080", HostIP: "127.0.0.1", Protocol: "tcp"},
			{Target: 53, Published: "5300-5310", Protocol: "udp"},
			{Target: 443},
		},
		Expose: []string{"9000", "9100-9102/udp"}, Links: []string{"shop-db-1:db"}, MacAddress: "02:42:ac:11:00:06",
		Mounts: []runtime.Mount{
			{Type: runtime.MountBind, Source: "/srv/data", Target: "/data", ReadOnly: true, Propagation: "rslave", CreateSource: true, Recursive: "readonly", Consistency: "cached"},
			{Type: runtime.MountBind, Source: "/srv/se", Target: "/se", SELinux: "z"},
			{Type: runtime.MountVolume, Source: "shop_db", Target: "/var/lib/db", NoCopy: true, Subpath: "a", Driver: "local", DriverOpts: map[string]string{"type": "nfs"}, Labels: map[string]string{"l": "1"}},
			{Type: runtime.MountVolume, Target: "/anonymous"},
			{Type: runtime.MountTmpfs, Target: "/tmp", TmpfsSize: 1 << 20, TmpfsMode: 0o1777},
			{Type: runtime.MountTmpfs, Target: "/run", TmpfsOptions: "noexec", TmpfsSize: 2048, TmpfsMode: 0o700, ReadOnly: true},
			{Type: runtime.MountImage, Source: "shop/assets:1", Target: "/assets", Subpath: "css"},
			{Type: runtime.MountPipe, Source: `\\.\pipe\a`, Target: `\\.\pipe\b`},
			{Type: runtime.MountCluster, Source: "cluster-volume", Target: "/cluster"},
		},
		VolumesFrom: []string{"shop-db-1:ro"},
		Files:       []runtime.File{{Name: "token", Target: "/run/secrets/token", UID: 1, GID: 2, Mode: 0o400}, {Name: "conf", Target: "/etc/web/web.conf"}},
		Healthcheck: &runtime.Healthcheck{
			Test: []string{"CMD", "/check"}, Interval: time.Second, Timeout: 2 * time.Second, StartPeriod: 3 * time.Second,
			StartInterval: 4 * time.Second, Retries: 5,
		},
		StopSignal: "SIGQUIT", StopGrace: 1500 * time.Millisecond, Restart: runtime.RestartPolicy{Name: "on-failure", MaxRetries: 3},
		Init: ptr(true), TTY: true, StdinOpen: true, StdinOnce: true, Attach: ptr(false),
		Logging:    &runtime.Logging{Driver: "json-file", Options: map[string]string{"max-size": "1m"}},
		Privileged: true, ReadOnly: true, CapAdd: []string{"NET_ADMIN"}, CapDrop: []string{"ALL"},
		SecurityOpt: []string{"no-new-privileges:true", "systempaths=unconfined", `seccomp={"defaultAction":"SCMP_ACT_ALLOW"}`},
		Sysctls:     map[string]string{"net.core.somaxconn": "1024"}, PidMode: "host", IpcMode: "shareable", UTSMode: "host",
		UsernsMode: "host", CgroupNS: "private", Runtime: "runsc", Isolation: "default", OomScoreAdj: -500,
		StorageOpt: map[string]string{"size": "1G"},
		Devices:    []runtime.Device{{Source: "/dev/fuse"}, {Source: "/dev/a", Target: "/dev/b", Permissions: "r"}},
		DeviceRequests: []runtime.DeviceRequest{{
			Driver: "nvidia", Count: -1, IDs: []string{"0"}, Capabilities: []string{"gpu", "utility"}, Options: map[string]string{"o": "1"},
		}},
		CgroupRules: []string{"c 1:3 mr"},
		Limits: runtime.Limits{
			NanoCPUs: 15e8, CPUShares: 512, CPUPeriod: 50_000, CPUQuota: 25_000, CPURTPeriod: 1000, CPURTRuntime: 500,
			CPUSetCPUs: "0-1", CPUSetMems: "0", Memory: 64 << 20, MemoryReservation: 32 << 20, MemorySwap: 128 << 20,
			Pids: 100, BlkioWeight: 300,
		},
		Fixed: runtime.Fixed{
			CgroupParent: "/berth/node-1", ShmSize: 1 << 20, Ulimits: []runtime.Ulimit{{Name: "nofile", Soft: 1024, Hard: 2048}},
			MemorySwappiness: ptr(int64(10)), OomKillDisable: true, CPUCount: 2, CPUPercent: 50,
			BlkioWeightDevice: []runtime.WeightDevice{{Path: "/dev/sda", Weight: 200}},
			BlkioReadBps:      []runtime.ThrottleDevice{{Path: "/dev/sda", Rate: 1}}, BlkioWriteBps: []runtime.ThrottleDevice{{Path: "/dev/sda", Rate: 2}},
			BlkioReadIOps: []runtime.ThrottleDevice{{Path: "/dev/sda", Rate: 3}}, BlkioWriteIOps: []runtime.ThrottleDevice{{Path: "/dev/sda", Rate: 4}},
		},
	}
}

// A field that is added to a spec must be added to the golden file.
func TestFullSpecIsFull(t *testing.T) {
	assertNoZero(t, "Spec", reflect.ValueOf(*fullSpec()), map[string]string{
		"Spec.NetworkMode":         "given apart: excludes networks",
		"Spec.Healthcheck.Disable": "given apart: excludes a check",
	})
}

func assertNoZero(t *testing.T, name string, v reflect.Value, except map[string]string) {
	t.Helper()
	if except[name] != "" {
		return
	}
	switch v.Kind() { //nolint:exhaustive // the others have no parts
	case reflect.Pointer:
		if !v.IsNil() && v.Elem().Kind() == reflect.Struct {
			assertNoZero(t, name, v.Elem(), except)
			return
		}
	case reflect.Struct:
		for i := range v.NumField() {
			assertNoZero(t, name+"."+v.Type().Field(i).Name, v.Field(i), except)
		}
		return
	case reflect.Slice:
		if v.Len() > 0 && v.Type().Elem().Kind() == reflect.Struct {
			for i := range v.Type().Elem().NumField() { // each field in at least one element
				set := false
				for j := range v.Len() {
					set = set || !v.Index(j).Field(i).IsZero()
				}
				if !set {
					t.Errorf("%s[].%s is not covered", name, v.Type().Elem().Field(i).Name)
				}
			}
			return
		}
	}
	if v.IsZero() {
		t.Errorf("%s is not covered", name)
	}
}

func newest() target { return target{api: "1.51"} }

func TestTranslate(t *testing.T) {
	ids := map[string]string{runtime.LabelStack: "shop", runtime.LabelService: "web"}
	old := target{api: "1.41"}
	networks := []runtime.Attachment{{Network: "a", Aliases: []string{"web"}, MacAddress: "02:42:ac:11:00:05"}, {Network: "b", Aliases: []string{"web"}}}
	for name, c := range map[string]struct {
		spec runtime.Spec
		t    target
	}{
		"full":                 {*fullSpec(), newest()},
		"minimal":              {runtime.Spec{Image: "a"}, newest()},
		"minimal-old":          {runtime.Spec{Image: "a"}, old},
		"networks-old":         {runtime.Spec{Image: "a", Networks: networks}, old},
		"networks-mode":        {runtime.Spec{Image: "a", NetworkMode: "host"}, newest()},
		"networks-second-mode": {runtime.Spec{Image: "a", NetworkMode: "b", Networks: networks}, old},
		"mac-old":              {runtime.Spec{Image: "a", MacAddress: "02:42:ac:11:00:06"}, old},
		"mac-new":              {runtime.Spec{Image: "a", MacAddress: "02:42:ac:11:00:06"}, newest()},
		"links-default-bridge": {runtime.Spec{Image: "a", Links: []string{"x:y"}}, newest()},
		"entrypoint-cleared":   {runtime.Spec{Image: "a", Entrypoint: []string{}}, newest()},
		"healthcheck-disabled": {runtime.Spec{Image: "a", Healthcheck: &runtime.Healthcheck{Disable: true, Test: []string{"CMD", "x"}}}, newest()},
		"bind-created-old":     {runtime.Spec{Image: "a", Mounts: []runtime.Mount{{Type: runtime.MountBind, Source: "/s", Target: "/t", ReadOnly: true, CreateSource: true, Propagation: "rshared"}}}, old},
		"bind-recursive":       {runtime.Spec{Image: "a", Mounts: []runtime.Mount{{Type: runtime.MountBind, Source: "/s", Target: "/t", Recursive: "disabled"}, {Type: runtime.MountBind, Source: "/s", Target: "/u", Recursive: "writable"}}}, newest()},
		"cgroup-systemd":       {runtime.Spec{Image: "a", Fixed: runtime.Fixed{CgroupParent: "berth-node1.slice"}, Limits: runtime.Limits{Memory: 1 << 30}}, target{api: "1.51", cgroupV2: true, systemd: true}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := translate(&c.spec, ids, c.t)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, "translate/"+name, got)
		})
	}
}

// What the engine would silently leave out is an error that names it.
func TestTranslateRefuses(t *testing.T) {
	mount := func(m runtime.Mount) runtime.Spec { return runtime.Spec{Mounts: []runtime.Mount{m}} }
	at := func(a runtime.Attachment) runtime.Spec {
		a.Network = "net"
		return runtime.Spec{Networks: []runtime.Attachment{{Network: "first"}, a}}
	}
	v2 := target{api: "1.51", cgroupV2: true, systemd: true}
	for name, c := range map[string]struct {
		spec runtime.Spec
		t    target
		want string
	}{
		"platform":       {runtime.Spec{Platform: "linux/amd64"}, target{api: "1.40"}, "platform needs Engine API 1.41; this engine speaks 1.40"},
		"platform form":  {runtime.Spec{Platform: "linux"}, newest(), `platform "linux" is not of the form`},
		"cgroupns":       {runtime.Spec{CgroupNS: "host"}, target{api: "1.40"}, "cgroup namespace mode needs Engine API 1.41"},
		"annotations":    {runtime.Spec{Annotation: map[string]string{"a": "b"}}, target{api: "1.42"}, "annotations needs Engine API 1.43"},
		"start interval": {runtime.Spec{Healthcheck: &runtime.Healthcheck{StartInterval: 1}}, target{api: "1.43"}, "healthcheck start_interval needs Engine API 1.44"},
		"interface":      {at(runtime.Attachment{Interface: "x"}), target{api: "1.47"}, "interface_name on network net needs Engine API 1.48"},
		"gateway":        {at(runtime.Attachment{Gateway: 1}), target{api: "1.47"}, "gw_priority on network net needs Engine API 1.48"},
		"mac":            {at(runtime.Attachment{MacAddress: "02:42:ac:11:00:05"}), target{api: "1.43"}, "mac_address on network net needs Engine API 1.44"},
		"volume subpath": {mount(runtime.Mount{Type: runtime.MountVolume, Source: "v", Target: "/t", Subpath: "s"}), target{api: "1.44"}, "mount /t: volume.subpath needs Engine API 1.45"},
		"image mount":    {mount(runtime.Mount{Type: runtime.MountImage, Source: "i", Target: "/t"}), target{api: "1.47"}, "mount /t: type image needs Engine API 1.48"},
		"cluster":        {mount(runtime.Mount{Type: runtime.MountCluster, Source: "i", Target: "/t"}), target{api: "1.41"}, "mount /t: type cluster needs Engine API 1.42"},
		"recursive":      {mount(runtime.Mount{Type: runtime.MountBind, Source: "/s", Target: "/t", Recursive: "readonly"}), target{api: "1.43"}, "mount /t: bind.recursive readonly needs Engine API 1.44"},
		"recursive form": {mount(runtime.Mount{Type: runtime.MountBind, Source: "/s", Target: "/t", Recursive: "maybe"}), newest(), `bind.recursive "maybe"`},
		"mount type":     {mount(runtime.Mount{Type: "floppy", Target: "/t"}), newest(), `type "floppy" is not known`},
		"mount target":   {mount(runtime.Mount{Type: runtime.MountVolume, Target: "t"}), newest(), "not an absolute path"},
		"bind source":    {mount(runtime.Mount{Type: runtime.MountBind, Target: "/t"}), newest(), "a bind mount needs a source"},
		"colon":          {mount(runtime.Mount{Type: runtime.MountBind, Source: "/a:b", Target: "/t", SELinux: "z"}), newest(), "colon"},
		"selinux":        {mount(runtime.Mount{Type: runtime.MountBind, Source: "/a", Target: "/t", SELinux: "z", Recursive: "disabled"}), newest(), "bind.recursive cannot be combined"},
		"swappiness":     {runtime.Spec{Fixed: runtime.Fixed{MemorySwappiness: ptr(int64(1))}}, v2, "mem_swappiness does not exist on cgroup v2"},
		"oom":            {runtime.Spec{Fixed: runtime.Fixed{OomKillDisable: true}}, v2, "oom_kill_disable does not exist on cgroup v2"},
		"realtime":       {runtime.Spec{Limits: runtime.Limits{CPURTRuntime: 1}}, v2, "cpu_rt_runtime do not exist on cgroup v2"},
		"slice":          {runtime.Spec{Fixed: runtime.Fixed{CgroupParent: "/berth"}}, v2, "must be the name of a slice"},
		"seccomp":        {runtime.Spec{SecurityOpt: []string{"seccomp=profile.json"}}, newest(), `not the file name "profile.json"`},
		"file target":    {runtime.Spec{Files: []runtime.File{{Name: "s", Target: "x"}}}, newest(), `target "x" of s`},
		"port target":    {runtime.Spec{Ports: []runtime.Port{{Published: "80"}}}, newest(), "no target"},
		"published":      {runtime.Spec{Ports: []runtime.Port{{Target: 80, Published: "eighty"}}}, newest(), `published port "eighty"`},
		"host address":   {runtime.Spec{Ports: []runtime.Port{{Target: 80, HostIP: "localhost"}}}, newest(), `host address "localhost"`},
		"expose":         {runtime.Spec{Expose: []string{"1:2"}}, newest(), `exposed port "1:2"`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := translate(&c.spec, nil, c.t)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestNetworkOptions(t *testing.T) {
	spec := &runtime.NetworkSpec{
		Name: "n", Driver: "bridge", DriverOpts: map[string]string{"o": "1"}, Internal: true, Attachable: true, EnableIPv4: ptr(true), EnableIPv6: ptr(true),
		IPAM:   &runtime.IPAM{Driver: "default", Options: map[string]string{"p": "1"}, Pools: []runtime.IPPool{{Subnet: "10.0.0.0/24", IPRange: "10.0.0.0/25", Gateway: "10.0.0.1", Aux: map[string]string{"x": "10.0.0.2"}}}},
		Labels: map[string]string{"l": "1"},
	}
	for name, api := range map[string]string{"network": "1.51", "network-old": "1.41"} {
		got, err := networkOptions(spec, target{api: api})
		if err != nil {
			t.Fatal(err)
		}
		golden(t, name, got)
	}
	if _, err := networkOptions(&runtime.NetworkSpec{EnableIPv4: ptr(false)}, target{api: "1.47"}); err == nil || !strings.Contains(err.Error(), "enable_ipv4: false needs Engine API 1.48") {
		t.Errorf("%v", err)
	}
}

func TestBuildOptions(t *testing.T) {
	golden(t, "build", buildOptions(&runtime.Build{
		Context: ".", Args: map[string]string{"A": "1", "EMPTY": ""}, UnsetArgs: []string{"A", "NONE"}, Target: "final", Tags: []string{"a:1"},
		Labels: map[string]string{"l": "1"}, CacheFrom: []string{"c"}, NoCache: true, Pull: true, Network: "host", ExtraHosts: []string{"h:1.2.3.4"},
		ShmSize: 5, Ulimits: []runtime.Ulimit{{Name: "nofile", Soft: 1, Hard: 2}}, Isolation: "default", Platform: "linux/amd64", MemoryBytes: 9,
	}))
}
