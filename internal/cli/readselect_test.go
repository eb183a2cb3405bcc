package cli

import (
	"strings"
	"testing"

	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/runtime/fake"
)

// output runs a command that must succeed and returns what it printed.
func (b *bench) output(args ...string) string {
	b.t.Helper()
	b.reset()
	if code := b.run(args...); code != 0 {
		b.t.Fatalf("%s: exit code %d: %s", strings.Join(args, " "), code, b.err.String())
	}
	return b.out.String()
}

func TestPsSelects(t *testing.T) {
	b := readBench(t)
	web := b.start("web", 1, "serve")
	b.start("web", 2, "serve")
	b.start("db", 1, "serve")
	b.make("old", 1, "serve")
	if err := b.engine.Pause(t.Context(), "shop-web-2"); err != nil {
		t.Fatal(err)
	}
	const names = "--format={{.Name}}"
	tests := []struct {
		args []string
		want string
	}{
		{[]string{"ps", names}, "shop-db-1\nshop-web-1\nshop-web-2\n"},
		{[]string{"ps", "-a", names}, "shop-db-1\nshop-old-1\nshop-web-1\nshop-web-2\n"},
		{[]string{"ps", "-a", "--orphans=false", names}, "shop-db-1\nshop-web-1\nshop-web-2\n"},
		{[]string{"ps", names, "web"}, "shop-web-1\nshop-web-2\n"},
		{[]string{"ps", "--status", "created", names}, "shop-old-1\n"},
		{[]string{"ps", "--status", "created", "--filter", "status=paused", names}, "shop-old-1\nshop-web-2\n"},
		{[]string{"ps", "--services"}, "db\nweb\n"},
		{[]string{"ps", "-q", "--status", "running", "web"}, web + "\n"},
		{[]string{"-p", "shop", "ps", names, "old"}, ""},
		{[]string{"-p", "empty", "ps"}, "NAME      IMAGE     COMMAND   SERVICE   CREATED   STATUS    PORTS\n"},
	}
	for _, tt := range tests {
		if got := b.output(tt.args...); got != tt.want {
			t.Errorf("%s:\n%swant:\n%s", strings.Join(tt.args, " "), got, tt.want)
		}
	}
}

func TestPsAsksTheEngineOnce(t *testing.T) {
	b := readBench(t)
	for slot := 1; slot <= 5; slot++ {
		b.finish("web", slot, "exit", "1")
	}
	var calls []string
	defer b.engine.Inject(fake.Fault{Match: func(c fake.Call) bool {
		calls = append(calls, c.Op)
		return false // it only looks on
	}})()
	got := b.output("ps", "-a", "--format", "{{.ExitCode}}")
	if got != "1\n1\n1\n1\n1\n" {
		t.Errorf("exit codes %q", got)
	}
	if strings.Join(calls, " ") != "list" {
		t.Errorf("ps made the calls %v, want one list", calls)
	}
}

func TestListsRefuseWhatMeansNothing(t *testing.T) {
	tests := []struct {
		args []string
		want string // the whole of standard error
	}{
		{[]string{"ps", "--filter", "source=x"}, "berth: ps: unknown filter source; the only one is status=STATE"},
		{[]string{"ps", "--filter", "status"}, "berth: ps: arguments to --filter should be in form KEY=VAL"},
		{[]string{"ps", "--status", "up"}, `berth: ps: unknown status "up"; use paused, restarting, removing, running, dead, created or exited`},
		{[]string{"-p", "shop", "ps", "--orphans=false"}, "berth: ps: --orphans=false needs the Compose file, which says what belongs to the stack; name it with -f"},
		{[]string{"ls", "--filter", "size=3"}, `berth: ls: --filter "size=3" is unknown; the only one is name=PATTERN`},
		{[]string{"ls", "--format", "yaml"}, `berth: --format "yaml" is unknown; use table or json`},
		{[]string{"port", "web", "80"}, "berth: no port 80/tcp for container shop-web-1: it publishes none; add it under ports: in the Compose file"},
		{[]string{"port", "db", "80"}, "berth: no port 80/tcp for container shop-db-1: it is exited, and only a running container publishes ports"},
		{[]string{"port", "--index", "9", "web", "80"}, `berth: service "web" has no container 9 in stack shop`},
	}
	b := readBench(t)
	b.start("web", 1, "serve")
	b.finish("db", 1, "exit", "0")
	for _, tt := range tests {
		b.reset()
		if code := b.run(tt.args...); code != 1 {
			t.Errorf("%s: exit code %d, want 1", strings.Join(tt.args, " "), code)
		}
		b.wantErr(tt.want + "\n")
		b.wantOut("")
	}
}

func TestLs(t *testing.T) {
	b := readBench(t)
	b.start("web", 1, "serve")
	b.make("db", 1, "serve")
	other := runtime.Identity{Stack: "blog", Service: "web", Slot: 1, ConfigFiles: []string{"/blog/compose.yaml"}}
	if _, err := b.engine.Create(t.Context(), "blog-web-1", other.Labels(), &runtime.Spec{Image: "test"}, nil); err != nil {
		t.Fatal(err)
	}
	relay := runtime.Identity{Stack: "shop", Service: "web", Slot: 1, OneOff: true}.Labels()
	relay[runtime.LabelRelay] = "web"
	if _, err := b.engine.Create(t.Context(), "shop-web-relay", relay, &runtime.Spec{Image: "test"}, nil); err != nil {
		t.Fatal(err)
	}
	if err := b.engine.Start(t.Context(), "shop-web-relay"); err != nil {
		t.Fatal(err)
	}
	if got, want := b.output("ls"), "NAME      STATUS       CONFIG FILES\nshop      running(1)   N/A\n"; got != want {
		t.Errorf("ls:\n%s", got)
	}
	if got, want := b.output("ls", "-a", "-q"), "blog\nshop\n"; got != want {
		t.Errorf("ls -a -q: %q", got)
	}
	want := `[{"Name":"blog","Status":"created(1)","ConfigFiles":"/blog/compose.yaml"}]` + "\n"
	if got := b.output("ls", "-a", "--format", "json", "--filter", "name=^bl"); got != want {
		t.Errorf("ls --format json: %q", got)
	}
	if got := b.output("ls", "--filter", "name=blog", "--format", "json"); got != "[]\n" {
		t.Errorf("ls of nothing as JSON: %q", got)
	}
}

func TestPort(t *testing.T) {
	b := readBench(t)
	b.makeWith("web", 1, &runtime.Spec{Image: "test", Ports: []runtime.Port{
		{Target: 80, Published: "18080", HostIP: "127.0.0.1", Protocol: "tcp"},
		{Target: 53, Published: "15353", HostIP: "127.0.0.1", Protocol: "udp"},
	}})
	if err := b.engine.Start(t.Context(), "shop-web-1"); err != nil {
		t.Fatal(err)
	}
	if got := b.output("port", "web", "80"); got != "127.0.0.1:18080\n" {
		t.Errorf("port: %q", got)
	}
	if got := b.output("port", "--protocol", "UDP", "--index", "1", "web", "53"); got != "127.0.0.1:15353\n" {
		t.Errorf("port --protocol udp: %q", got)
	}
	b.reset()
	if code := b.run("port", "web", "53"); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	b.wantErr("berth: no port 53/tcp for container shop-web-1: it publishes 53/udp, 80/tcp\n")
}

func TestTop(t *testing.T) {
	b := readBench(t)
	b.start("web", 1, "serve")
	b.start("db", 1, "serve")
	lines := strings.Split(b.output("top", "web"), "\n")
	if len(lines) != 3 || !strings.HasPrefix(lines[0], "SERVICE  #  ") || !strings.HasPrefix(lines[1], "web      1  ") || !strings.HasSuffix(lines[1], "/workload serve") {
		t.Errorf("top:\n%s", strings.Join(lines, "\n"))
	}
	if got := b.output("-p", "empty", "top"); got != "" {
		t.Errorf("top of nothing: %q", got)
	}
	b.wantErr("warning: top: no running containers in stack empty; berth up -d starts them\n")
}
