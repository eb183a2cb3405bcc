package docker

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"

	"github.com/berth-dev/berth/runtime"
)

func TestErrors(t *testing.T) {
	e := &Engine{endpoint: endpoint{host: "unix:///x.sock"}}
	internal := func(text string) error {
		return fmt.Errorf("Error response from daemon: %s: %w", text, quiet{errdefs.ErrInternal})
	}
	for text, c := range map[string]struct {
		err  error
		kind runtime.Kind
	}{
		"port 0.0.0.0:80 is already allocated to another container": {internal("driver failed programming external connectivity on endpoint web (0123): Bind for 0.0.0.0:80 failed: port is already allocated"), runtime.KindConflict},
		"port 0.0.0.0:80/tcp is already in use on the host":         {internal("driver failed programming external connectivity on endpoint web (0123): Error starting userland proxy: listen tcp4 0.0.0.0:80: bind: address already in use"), runtime.KindConflict},
		"port 0.0.0.0:81/tcp is already in use on the host":         {internal("failed to set up container networking: driver failed programming external connectivity on endpoint a (b): failed to bind host port for 0.0.0.0:81:172.17.0.2:80/tcp: address already in use"), runtime.KindConflict},
		`exec: "nope": executable file not found in $PATH`:          {internal(`failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: "nope": executable file not found in $PATH: unknown`), runtime.KindInvalid},
		"fetch https://xxxxx@host/a.git":                            {internal("fetch https://user:s3cret@host/a.git"), runtime.KindUnavailable},
		"no such thing":                                             {fmt.Errorf("Error response from daemon: no such thing%w", quiet{errdefs.ErrNotFound}), runtime.KindNotFound},
		"in use":                                                    {fmt.Errorf("in use%w", quiet{errdefs.ErrConflict}), runtime.KindConflict},
		"forbidden":                                                 {fmt.Errorf("forbidden%w", quiet{errdefs.ErrPermissionDenied}), runtime.KindConflict},
		"bad":                                                       {fmt.Errorf("bad%w", quiet{errdefs.ErrInvalidArgument}), runtime.KindInvalid},
		"not here":                                                  {fmt.Errorf("not here%w", quiet{errdefs.ErrNotImplemented}), runtime.KindInvalid},
		"later":                                                     {fmt.Errorf("later%w", quiet{errdefs.ErrUnavailable}), runtime.KindUnavailable},
		"oops":                                                      {errors.New("oops"), runtime.KindUnavailable},
		"no space left on device":                                   {internal("write /x: no space left on device"), runtime.KindUnavailable},
		"client version 1.43 is too new":                            {fmt.Errorf("Error response from daemon: client version 1.43 is too new. Maximum supported API version is 1.41%w", quiet{errdefs.ErrInvalidArgument}), runtime.KindUnavailable},
		"fully subnetted":                                           {internal("could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network: all predefined address pools have been fully subnetted"), runtime.KindUnavailable},
		"closed the connection":                                     {io.ErrUnexpectedEOF, runtime.KindUnavailable},
		"cannot reach the Docker engine":                            {syscall.ECONNREFUSED, runtime.KindUnavailable},
		"no answer from the engine at unix:///x.sock in time": {context.DeadlineExceeded, runtime.KindUnavailable},
	} {
		err := e.fail("start", "web", c.err)
		wantKind(t, err, c.kind, "start web: ", text)
		if !errors.Is(err, c.err) {
			t.Errorf("%v lost its cause", err)
		}
	}
	if err := e.fail("start", "web", nil); err != nil {
		t.Error(err)
	}
	if runtime.IsUnavailable(e.fail("start", "web", context.Canceled)) {
		t.Error("a cancelled call is not the engine's fault")
	}
}

// quiet is a kind of error that adds nothing to the text.
type quiet struct{ kind error }

func (quiet) Error() string   { return "" }
func (q quiet) Unwrap() error { return q.kind }

func TestParseStatus(t *testing.T) {
	for status, want := range map[string]struct {
		health runtime.Health
		code   int
	}{
		"Up 2 minutes":                    {},
		"Up 2 minutes (healthy)":          {runtime.HealthHealthy, 0},
		"Up 2 minutes (unhealthy)":        {runtime.HealthUnhealthy, 0},
		"Up 1 second (health: starting)":  {runtime.HealthStarting, 0},
		"Up 3 hours (Paused)":             {},
		"Exited (137) 2 hours ago":        {"", 137},
		"Restarting (3) 1 second ago":     {"", 3},
		"Created":                         {},
		"Up About a minute (unhealthy) x": {runtime.HealthUnhealthy, 0},
	} {
		if health, code := parseStatus(status); health != want.health || code != want.code {
			t.Errorf("%s: %q %d", status, health, code)
		}
	}
}

func TestOwnName(t *testing.T) {
	if got := ownName([]string{"/other/alias", "/web"}); got != "web" {
		t.Error(got)
	}
}

// A paused container says that it runs, too.
func TestPausedComesFirst(t *testing.T) {
	var c runtime.Container
	setState(&c, &container.State{Status: "running", Running: true, Paused: true, Health: &container.Health{Status: "healthy", Log: []*container.HealthcheckResult{{Output: strings.Repeat("x", 5000)}}}})
	if c.State != runtime.Paused || c.Health != runtime.HealthHealthy || len(c.HealthOutput) != healthOutputMax {
		t.Errorf("%+v", c)
	}
}

func TestSample(t *testing.T) {
	read := time.Unix(1000, 0)
	for name, c := range map[string]struct {
		in   string
		want runtime.Stats
	}{
		"cgroup v1": {
			`{"read":"1970-01-01T00:16:40Z","cpu_stats":{"cpu_usage":{"total_usage":5,"percpu_usage":[2,3]},"system_cpu_usage":90},
			"memory_stats":{"usage":1000,"limit":4096,"stats":{"total_inactive_file":300,"inactive_file":200}},"pids_stats":{"current":7},
			"networks":{"eth0":{"rx_bytes":1,"tx_bytes":2},"eth1":{"rx_bytes":10,"tx_bytes":20}},
			"blkio_stats":{"io_service_bytes_recursive":[{"op":"Read","value":3},{"op":"Write","value":4},{"op":"Total","value":7},{"op":"Read","value":5}]}}`,
			runtime.Stats{Time: read, CPUNanos: 5, SystemNanos: 90, OnlineCPUs: 2, Memory: 700, MemoryLimit: 4096, NetRx: 11, NetTx: 22, BlkRead: 8, BlkWrite: 4, Pids: 7},
		},
		"cgroup v2": {
			`{"read":"1970-01-01T00:16:40Z","cpu_stats":{"cpu_usage":{"total_usage":5},"system_cpu_usage":90,"online_cpus":4},
			"memory_stats":{"usage":1000,"limit":4096,"stats":{"inactive_file":200}},"pids_stats":{"current":7},
			"blkio_stats":{"io_service_bytes_recursive":[{"op":"read","value":3},{"op":"write","value":4}]}}`,
			runtime.Stats{Time: read, CPUNanos: 5, SystemNanos: 90, OnlineCPUs: 4, Memory: 800, MemoryLimit: 4096, BlkRead: 3, BlkWrite: 4, Pids: 7},
		},
		"cache above usage": {
			`{"read":"1970-01-01T00:16:40Z","memory_stats":{"usage":100,"stats":{"inactive_file":200}}}`,
			runtime.Stats{Time: read, Memory: 100},
		},
	} {
		var s container.StatsResponse
		if err := json.Unmarshal([]byte(c.in), &s); err != nil {
			t.Fatal(err)
		}
		got := sample(&s)
		got.Time = got.Time.Local()
		if c.want.Time = c.want.Time.Local(); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
	if ran(&container.StatsResponse{}) {
		t.Error("zeroes are no sample")
	}
}

func TestUpdateConfig(t *testing.T) {
	v1, v2 := machine{cpus: 4}, machine{cpus: 4, cgroupV2: true}
	set := container.Resources{
		NanoCPUs: 1e9, CPUShares: 512, CpusetCpus: "0", Memory: 1 << 30, MemorySwap: 2 << 30, MemoryReservation: 1 << 29, BlkioWeight: 300, PidsLimit: ptr(int64(10)),
	}
	lifted := func(shares, reservation int64, blkio uint16) container.Resources {
		return container.Resources{
			NanoCPUs: 4e9 - 1, CPUShares: shares, CpusetCpus: "0-3,0", Memory: noMemory, MemorySwap: noMemory, MemoryReservation: reservation,
			BlkioWeight: blkio, PidsLimit: ptr(int64(0)),
		}
	}
	for name, c := range map[string]struct {
		have container.Resources
		want runtime.Limits
		host machine
		up   container.Resources
	}{
		"nothing":            {container.Resources{}, runtime.Limits{}, v1, container.Resources{}},
		"memory takes swap":  {container.Resources{}, runtime.Limits{Memory: 1 << 20}, v1, container.Resources{Memory: 1 << 20, MemorySwap: 2 << 20}},
		"swap given":         {set, runtime.Limits{NanoCPUs: 1e9, CPUShares: 512, CPUSetCPUs: "0", Memory: 1 << 20, MemorySwap: 3 << 20, MemoryReservation: 1 << 29, BlkioWeight: 300, Pids: 10}, v1, container.Resources{NanoCPUs: 1e9, CPUShares: 512, CpusetCpus: "0", Memory: 1 << 20, MemorySwap: 3 << 20, MemoryReservation: 1 << 29, BlkioWeight: 300}},
		"unlimited swap":     {container.Resources{}, runtime.Limits{Memory: 1 << 20, MemorySwap: -1}, v1, container.Resources{Memory: 1 << 20, MemorySwap: noMemory}},
		"all lifted, v1":     {set, runtime.Limits{}, v1, lifted(noSharesV1, noReservationV1, noBlkioV1)},
		"all lifted, v2":     {set, runtime.Limits{}, v2, lifted(noSharesV2, noReservationV2, noBlkioV2)},
		"lifted stays":       {lifted(noSharesV1, noReservationV1, noBlkioV1), runtime.Limits{}, v1, container.Resources{}},
		"quota lifted":       {container.Resources{CPUQuota: 5000}, runtime.Limits{}, v1, container.Resources{CPUQuota: -1}},
		"unlimited pids":     {set, runtime.Limits{NanoCPUs: 1e9, CPUShares: 512, CPUSetCPUs: "0", Memory: 1 << 30, MemoryReservation: 1 << 29, BlkioWeight: 300, Pids: -1}, v1, container.Resources{NanoCPUs: 1e9, CPUShares: 512, CpusetCpus: "0", Memory: 1 << 30, MemorySwap: 2 << 30, MemoryReservation: 1 << 29, BlkioWeight: 300, PidsLimit: ptr(int64(-1))}},
		"quota after lifted": {lifted(0, 0, 0), runtime.Limits{Memory: 1 << 20}, v1, container.Resources{Memory: 1 << 20, MemorySwap: 2 << 20}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := updateConfig(&container.HostConfig{Resources: c.have}, c.want, runtime.RestartPolicy{}, c.host)
			if err != nil {
				t.Fatal(err)
			}
			if a, b := mustJSON(t, got.Resources), mustJSON(t, c.up); a != b {
				t.Errorf("got  %s\nwant %s", a, b)
			}
			if got.RestartPolicy.Name != "no" {
				t.Errorf("restart policy %+v", got.RestartPolicy)
			}
		})
	}
	for want, c := range map[string]struct {
		have container.HostConfig
		want runtime.Limits
		p    runtime.RestartPolicy
	}{
		"cpuset_mems cannot be lifted":   {container.HostConfig{Resources: container.Resources{CpusetMems: "0"}}, runtime.Limits{}, runtime.RestartPolicy{}},
		"cpu_period cannot be lifted":    {container.HostConfig{Resources: container.Resources{CPUPeriod: 1000}}, runtime.Limits{}, runtime.RestartPolicy{}},
		"between cpus and cpu_quota":     {container.HostConfig{Resources: container.Resources{CPUQuota: 1000}}, runtime.Limits{NanoCPUs: 1e9}, runtime.RestartPolicy{}},
		"cannot have a restart policy":   {container.HostConfig{AutoRemove: true}, runtime.Limits{}, runtime.RestartPolicy{Name: "always"}},
		"cpu_rt_runtime cannot be lifte": {container.HostConfig{Resources: container.Resources{CPURealtimeRuntime: 5}}, runtime.Limits{}, runtime.RestartPolicy{}},
	} {
		if _, err := updateConfig(&c.have, c.want, c.p, v1); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestResolveEndpoint(t *testing.T) {
	dir := t.TempDir()
	sum := sha256.Sum256([]byte("remote"))
	id := hex.EncodeToString(sum[:])
	write(t, filepath.Join(dir, "config.json"), `{"currentContext":"remote"}`)
	write(t, filepath.Join(dir, "contexts/meta", id, "meta.json"), `{"Name":"remote","Endpoints":{"docker":{"Host":"tcp://10.1.2.3:2376","SkipTLSVerify":true}}}`)
	empty := t.TempDir()
	for name, c := range map[string]struct {
		host    string
		env     map[string]string
		want    string
		tls     bool
		version string
		err     string
	}{
		"default":           {env: map[string]string{"DOCKER_CONFIG": empty}, want: "unix:///var/run/docker.sock"},
		"explicit":          {host: "tcp://a:1", env: map[string]string{"DOCKER_HOST": "tcp://b:1", "DOCKER_CONFIG": dir}, want: "tcp://a:1"},
		"DOCKER_HOST":       {env: map[string]string{"DOCKER_HOST": "tcp://b:1", "DOCKER_CONTEXT": "nope", "DOCKER_CONFIG": dir}, want: "tcp://b:1"},
		"current context":   {env: map[string]string{"DOCKER_CONFIG": dir}, want: "tcp://10.1.2.3:2376", tls: true},
		"DOCKER_CONTEXT":    {env: map[string]string{"DOCKER_CONTEXT": "default", "DOCKER_CONFIG": dir}, want: "unix:///var/run/docker.sock"},
		"unknown context":   {env: map[string]string{"DOCKER_CONTEXT": "nope", "DOCKER_CONFIG": dir}, err: `docker context "nope": it does not exist`},
		"version":           {env: map[string]string{"DOCKER_API_VERSION": "v1.44", "DOCKER_CONFIG": empty}, want: "unix:///var/run/docker.sock", version: "1.44"},
		"bad version":       {env: map[string]string{"DOCKER_API_VERSION": "new", "DOCKER_CONFIG": empty}, err: "is not a version"},
		"bad host":          {host: "localhost:2375", env: map[string]string{"DOCKER_CONFIG": empty}, err: "is not of the form"},
		"tls, no check":     {host: "tcp://a:1", env: map[string]string{"DOCKER_TLS": "1", "DOCKER_CERT_PATH": empty}, want: "tcp://a:1", tls: true},
		"tls, no authority": {host: "tcp://a:1", env: map[string]string{"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": empty}, err: "TLS material in " + empty},
		"ssh":               {host: "ssh://user@host", env: map[string]string{"DOCKER_CONFIG": empty}, want: "ssh://user@host"},
	} {
		t.Run(name, func(t *testing.T) {
			ep, err := resolveEndpoint(c.host, func(k string) string { return c.env[k] })
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("%v, want %q", err, c.err)
				}
				return
			}
			if err != nil || ep.host != c.want || (ep.tls != nil) != c.tls || ep.apiVersion != c.version {
				t.Errorf("%+v, %v", ep, err)
			}
			if strings.HasPrefix(c.want, "ssh:") && ep.dial == nil {
				t.Error("ssh is not dialled through its helper")
			}
		})
	}
}

func contextNames(t *testing.T, b *runtime.Build) (names []string, dockerfile string) {
	t.Helper()
	src, err := openContext(b)
	if err != nil {
		t.Fatal(err)
	}
	r := src.stream()
	defer r.Close()
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return names, src.dockerfile
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Gid != 0 || h.Uname != "" {
			t.Errorf("%s belongs to %d:%d %s", h.Name, h.Uid, h.Gid, h.Uname)
		}
		names = append(names, h.Name)
	}
}

func TestBuildContext(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ctx")
	for _, f := range []string{"Dockerfile", "a.go", "b.txt", "sub/keep.txt", "sub/drop.txt", "node_modules/x/y.js"} {
		write(t, filepath.Join(dir, f), f)
	}
	if err := os.Symlink("a.go", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	outside := filepath.Join(t.TempDir(), "Outside.Dockerfile")
	write(t, outside, "FROM scratch")
	all := []string{"Dockerfile", "a.go", "b.txt", "link", "node_modules/", "node_modules/x/", "node_modules/x/y.js", "sub/", "sub/drop.txt", "sub/keep.txt"}
	check := func(b *runtime.Build, dockerfile string, want ...string) {
		t.Helper()
		got, file := contextNames(t, b)
		if !slices.Equal(got, want) || file != dockerfile {
			t.Errorf("%q with %v, want %q with %v", file, got, dockerfile, want)
		}
	}
	check(&runtime.Build{Context: dir}, "Dockerfile", all...)
	check(&runtime.Build{Context: dir, Dockerfile: outside}, outsideName, append(slices.Clone(all), outsideName)...)
	check(&runtime.Build{Context: dir, DockerfileInline: "FROM scratch"}, outsideName, append(slices.Clone(all), outsideName)...)
	write(t, filepath.Join(dir, ".dockerignore"), "node_modules\nDockerfile\nsub\n!sub/keep.txt\n*.txt\n")
	check(&runtime.Build{Context: dir}, "Dockerfile", ".dockerignore", "Dockerfile", "a.go", "link", "sub/keep.txt")
	write(t, filepath.Join(dir, "sub/Other"), "FROM scratch")
	write(t, filepath.Join(dir, "sub/Other.dockerignore"), "*\n!a.go\n")
	check(&runtime.Build{Context: dir, Dockerfile: "sub/Other"}, "sub/Other", "a.go", "sub/", "sub/Other")
	for want, b := range map[string]*runtime.Build{
		"cannot both be given": {Context: dir, Dockerfile: "x", DockerfileInline: "y"},
		"not a regular file":   {Context: dir, Dockerfile: "sub"},
		"is not a directory":   {Context: filepath.Join(dir, "a.go")},
	} {
		if _, err := openContext(b); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestRemoteContext(t *testing.T) {
	for s, want := range map[string]bool{
		"https://github.com/a/b.git": true, "git@github.com:a/b.git": true, "github.com/a/b": true, "ssh://git@host/a": true,
		".": false, "/srv/app": false, "./github.com/x": false,
	} {
		if remoteContext(s) != want {
			t.Errorf("%s: %t", s, !want)
		}
	}
}
