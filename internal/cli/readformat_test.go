package cli

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/berth-dev/berth/runtime"
)

// noon is the moment at which the goldens of this file are printed.
func noon() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

func psSample() []runtime.Container {
	label := func(service, number string) map[string]string {
		return map[string]string{
			runtime.LabelComposeProject: "shop", runtime.LabelComposeService: service, runtime.LabelComposeNumber: number,
		}
	}
	return []runtime.Container{
		{
			ID: "0123456789abcdef0123", Name: "shop-web-1", Image: "shop/web:2", Labels: label("web", "1"),
			Command: []string{"/usr/bin/server", "--listen", ":80"}, State: runtime.Running, Health: runtime.HealthHealthy,
			Created: noon().Add(-3 * time.Hour), Started: noon().Add(-2 * time.Minute),
			Ports: []runtime.BoundPort{
				{Target: 80, Protocol: "tcp", HostIP: "0.0.0.0", HostPort: 8080},
				{Target: 80, Protocol: "tcp", HostIP: "::", HostPort: 8080},
				{Target: 9000, Protocol: "udp"},
			},
			Mounts: []runtime.MountPoint{
				{Type: runtime.MountVolume, Name: "shop_data_of_the_web", Target: "/data"}, {Type: runtime.MountBind, Source: "/etc/web", Target: "/conf"},
			},
			Networks: []runtime.Endpoint{{Network: "shop_back"}, {Network: "shop_front"}},
		},
		{
			ID: "fedcba9876543210", Name: "shop-job-1", Image: "shop/job", Labels: label("job", "1"), Command: []string{"job"},
			State: runtime.Exited, ExitCode: 3, Created: noon().Add(-26 * time.Hour), Status: "Exited (3) 25 hours ago",
		},
	}
}

func psText(t *testing.T, format string, trunc bool) string {
	t.Helper()
	var rows []psRow
	for _, c := range psSample() {
		rows = append(rows, newPsRow(&c, trunc, noon()))
	}
	var out bytes.Buffer
	if err := psListing(rows).print(&out, format, rows); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestPsTable(t *testing.T) {
	want := `NAME         IMAGE        COMMAND                  SERVICE   CREATED        STATUS                    PORTS
shop-web-1   shop/web:2   "/usr/bin/server --l…"   web       3 hours ago    Up 2 minutes (healthy)    9000/udp, 0.0.0.0:8080->80/tcp, [::]:8080->80/tcp
shop-job-1   shop/job     "job"                    job       26 hours ago   Exited (3) 25 hours ago   
`
	if got := psText(t, "table", true); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	if got := psText(t, "", false); !strings.Contains(got, `"/usr/bin/server --listen :80"`) {
		t.Errorf("--no-trunc cuts:\n%s", got)
	}
}

func TestPsTemplates(t *testing.T) {
	tests := []struct{ format, want string }{
		{"{{.Name}} {{.State}} {{.Health}} {{.ExitCode}}", "shop-web-1 running healthy 0\nshop-job-1 exited  3\n"},
		{`{{.ID}} {{.Label "com.docker.compose.service"}}`, "0123456789ab web\nfedcba987654 job\n"},
		{`table {{.ID}}\t{{.RunningFor}}`, "CONTAINER ID   CREATED\n0123456789ab   3 hours ago\nfedcba987654   26 hours ago\n"},
		{"{{.Mounts}} {{.LocalVolumes}} {{.Networks}}", "shop_data_of_t…,/etc/web 1 shop_back,shop_front\n 0 \n"},
	}
	for _, tt := range tests {
		if got := psText(t, tt.format, true); got != tt.want {
			t.Errorf("%s:\n%q\nwant:\n%q", tt.format, got, tt.want)
		}
	}
}

func TestPsJSONHasComposesFields(t *testing.T) {
	lines := strings.Split(strings.TrimSuffix(psText(t, "json", true), "\n"), "\n")
	if len(lines) != 2 {
		t.Fatalf("%d lines, want one an object: %q", len(lines), lines)
	}
	want := `{"Command":"\"/usr/bin/server --l…\"","Created":1772355600,"CreatedAt":"2026-03-01 09:00:00 +0000 UTC","ExitCode":0,` +
		`"Health":"healthy","ID":"0123456789ab","Image":"shop/web:2",` +
		`"Labels":"com.docker.compose.container-number=1,com.docker.compose.project=shop,com.docker.compose.service=web",` +
		`"LocalVolumes":"1","Mounts":"shop_data_of_t…,/etc/web","Name":"shop-web-1","Names":"shop-web-1","Networks":"shop_back,shop_front",` +
		`"Node":"local","Ports":"9000/udp, 0.0.0.0:8080->80/tcp, [::]:8080->80/tcp","Project":"shop","Publishers":[` +
		`{"URL":"0.0.0.0","TargetPort":80,"PublishedPort":8080,"Protocol":"tcp"},{"URL":"::","TargetPort":80,"PublishedPort":8080,"Protocol":"tcp"},` +
		`{"URL":"","TargetPort":9000,"PublishedPort":0,"Protocol":"udp"}],"Ready":"","Reason":"","Restarts":0,"RunningFor":"3 hours ago","Service":"web","Size":"0B",` +
		`"State":"running","Status":"Up 2 minutes (healthy)"}`
	if lines[0] != want {
		t.Errorf("got:\n%s\nwant:\n%s", lines[0], want)
	}
	var job struct {
		ExitCode   int
		Publishers []publisher
	}
	if err := json.Unmarshal([]byte(lines[1]), &job); err != nil || job.ExitCode != 3 || job.Publishers == nil {
		t.Errorf("%v: %+v; want code 3 and an empty list of publishers", err, job)
	}
}

func TestStatusText(t *testing.T) {
	at := func(state runtime.State, health runtime.Health) *runtime.Container {
		return &runtime.Container{
			State: state, Health: health, ExitCode: 137, Started: noon().Add(-90 * time.Second), Finished: noon().Add(-50 * time.Minute),
		}
	}
	tests := []struct {
		c    *runtime.Container
		want string
	}{
		{at(runtime.Created, ""), "Created"},
		{at(runtime.Running, ""), "Up About a minute"},
		{at(runtime.Running, runtime.HealthStarting), "Up About a minute (health: starting)"},
		{at(runtime.Running, runtime.HealthUnhealthy), "Up About a minute (unhealthy)"},
		{at(runtime.Paused, runtime.HealthHealthy), "Up About a minute (Paused)"},
		{at(runtime.Restarting, ""), "Restarting (137) 50 minutes ago"},
		{at(runtime.Exited, ""), "Exited (137) 50 minutes ago"},
		{at(runtime.Removing, ""), "Removal In Progress"},
		{at(runtime.Dead, ""), "Dead"},
		{&runtime.Container{State: runtime.Running, Status: "Up 1 second"}, "Up 1 second"},
	}
	for _, tt := range tests {
		if got := statusText(tt.c, noon()); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.c.State, got, tt.want)
		}
	}
}

func TestPortsText(t *testing.T) {
	exposed := func(p uint16) runtime.BoundPort { return runtime.BoundPort{Target: p, Protocol: "tcp"} }
	at := func(target, host uint16) runtime.BoundPort {
		return runtime.BoundPort{Target: target, Protocol: "tcp", HostIP: "127.0.0.1", HostPort: host}
	}
	tests := []struct {
		name  string
		ports []runtime.BoundPort
		want  string
	}{
		{"none", nil, ""},
		{"exposed", []runtime.BoundPort{exposed(80)}, "80/tcp"},
		{"exposed range", []runtime.BoundPort{exposed(82), exposed(80), exposed(81), exposed(90)}, "80-82/tcp, 90/tcp"},
		{"same numbers", []runtime.BoundPort{at(80, 80), at(81, 81)}, "127.0.0.1:80-81->80-81/tcp"},
		{"other numbers", []runtime.BoundPort{at(81, 8081), at(80, 8080)}, "127.0.0.1:8080->80/tcp, 127.0.0.1:8081->81/tcp"},
		{"both families", []runtime.BoundPort{
			{Target: 80, Protocol: "tcp", HostIP: "::", HostPort: 80}, {Target: 80, Protocol: "tcp", HostIP: "0.0.0.0", HostPort: 80},
			{Target: 81, Protocol: "tcp", HostIP: "::", HostPort: 81}, {Target: 81, Protocol: "tcp", HostIP: "0.0.0.0", HostPort: 81},
		}, "0.0.0.0:80-81->80-81/tcp, [::]:80-81->80-81/tcp"},
		{"protocols apart", []runtime.BoundPort{exposed(53), {Target: 53, Protocol: "udp"}, exposed(54)}, "53-54/tcp, 53/udp"},
	}
	for _, tt := range tests {
		if got := portsText(tt.ports); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestStackRows(t *testing.T) {
	c := func(stack, files string, state runtime.State) runtime.Container {
		return runtime.Container{State: state, Labels: map[string]string{runtime.LabelComposeProject: stack, runtime.LabelComposeFiles: files}}
	}
	var out bytes.Buffer
	for _, r := range stackRows([]runtime.Container{
		c("shop", "/a/compose.yaml,/a/over.yaml", runtime.Running), c("blog", "", runtime.Paused),
		c("shop", "/a/compose.yaml", runtime.Exited), c("shop", "/b/compose.yaml", runtime.Running),
	}, func(*runtime.Container) bool { return false }) {
		out.WriteString(strings.Join([]string{r.Name, r.Status, r.ConfigFiles}, "|") + "\n")
	}
	want := "blog|paused(1)|N/A\nshop|exited(1), running(2)|/a/compose.yaml,/a/over.yaml,/b/compose.yaml\n"
	if out.String() != want {
		t.Errorf("got:\n%swant:\n%s", out.String(), want)
	}
}

func TestPrintTop(t *testing.T) {
	var out bytes.Buffer
	err := printTop(&out, []processes{
		{"web", 2, runtime.Processes{Titles: []string{"UID", "PID", "CMD", "TIME"}, Rows: [][]string{{"root", "12", "server\x1b[2J --x", "00:00"}}}},
		{"db", 1, runtime.Processes{Titles: []string{"PID", "CMD"}, Rows: [][]string{{"7", "postgres"}, {"8", "writer"}}}},
	})
	want := `SERVICE  #   UID   PID  TIME   CMD
web      2   root  12   00:00  server\x1b[2J --x
db       1   -     7    -      postgres
db       1   -     8    -      writer
`
	if err != nil || out.String() != want {
		t.Errorf("%v, got:\n%swant:\n%s", err, out.String(), want)
	}
}

func TestStatsRow(t *testing.T) {
	c := &runtime.Container{ID: "0123456789abcdef", Name: "shop-web-1", State: runtime.Running}
	two := sampling{
		samples: 2,
		prev:    runtime.Stats{CPUNanos: 1e9, SystemNanos: 10e9, OnlineCPUs: 2},
		cur: runtime.Stats{
			CPUNanos: 15e8, SystemNanos: 12e9, OnlineCPUs: 2, Memory: 64 << 20, MemoryLimit: 256 << 20, NetRx: 1500, NetTx: 20,
			BlkRead: 12_345_678, Pids: 5,
		},
	}
	tests := []struct {
		name  string
		s     sampling
		trunc bool
		want  statsRow
	}{
		{"running", two, true, statsRow{
			BlockIO: "12.3MB / 0B", CPUPerc: "50.00%", Container: "0123456789ab", ID: "0123456789ab", MemPerc: "25.00%",
			MemUsage: "64MiB / 256MiB", Name: "shop-web-1", NetIO: "1.5kB / 20B", PIDs: "5",
		}},
		{"not sampled", sampling{}, false, statsRow{
			BlockIO: "-- / --", CPUPerc: "--", Container: "0123456789abcdef", ID: "0123456789abcdef", MemPerc: "--",
			MemUsage: "-- / --", Name: "shop-web-1", NetIO: "-- / --", PIDs: "--",
		}},
	}
	for _, tt := range tests {
		if got := newStatsRow(c, tt.s, tt.trunc); got != tt.want {
			t.Errorf("%s: %+v\nwant %+v", tt.name, got, tt.want)
		}
	}
}

func TestParseMoment(t *testing.T) {
	zone := time.FixedZone("", 3600)
	now := noon().In(zone)
	tests := []struct {
		text string
		want time.Time
	}{
		{"", time.Time{}},
		{"90m", now.Add(-90 * time.Minute)},
		{"2026-02-03T04:05:06Z", time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)},
		{"2026-02-03T04:05:06.25+02:00", time.Date(2026, 2, 3, 2, 5, 6, 25e7, time.UTC)},
		{"2026-02-03T04:05", time.Date(2026, 2, 3, 4, 5, 0, 0, zone)},
		{"2026-02-03", time.Date(2026, 2, 3, 0, 0, 0, 0, zone)},
		{"1700000000", time.Unix(1700000000, 0)},
		{"1700000000.5", time.Unix(1700000000, 5e8)},
	}
	for _, tt := range tests {
		got, err := parseMoment("since", tt.text, now)
		if err != nil || !got.Equal(tt.want) {
			t.Errorf("%q: %v (%v), want %v", tt.text, got, err, tt.want)
		}
	}
	for _, bad := range []string{"yesterday", "12:00", "2026-13-01"} {
		if _, err := parseMoment("since", bad, now); err == nil || !strings.HasPrefix(err.Error(), "--since ") {
			t.Errorf("%q: error %v", bad, err)
		}
	}
}

func TestEventText(t *testing.T) {
	e := &runtime.Event{
		Time: noon().Add(1500 * time.Microsecond), Type: "container", Action: "start", ID: "abc", Labels: map[string]string{
			"name": "shop-web-1", "image": "x\x1b[2J", runtime.LabelComposeService: "web", runtime.LabelSchema: "1",
		},
	}
	text, err := eventText(e, "web", false)
	if want := `2026-03-01 12:00:00.001500 container start abc (image=x\x1b[2J, name=shop-web-1)`; err != nil || text != want {
		t.Errorf("%v\n%s\nwant\n%s", err, text, want)
	}
	text, err = eventText(e, "web", true)
	want := `{"action":"start","attributes":{"image":"x\u001b[2J","name":"shop-web-1"},"id":"abc","service":"web","time":"2026-03-01T12:00:00.0015Z","type":"container"}`
	if err != nil || text != want {
		t.Errorf("%v\n%s\nwant\n%s", err, text, want)
	}
}
