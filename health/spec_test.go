package health

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
)

func probe() *Probe { return &Probe{TCP: &TCP{Port: Port{Number: 80}}} }

func with(change func(*Probe)) *Probe {
	p := probe()
	change(p)
	return p
}

func TestValidate(t *testing.T) {
	named := map[string]uint16{"web": 8080, "admin": 9090}
	bad := func(change func(*Probe)) Probes { return Probes{Liveness: with(change)} }
	web := func(change func(*HTTP)) Probes {
		h := &HTTP{Port: Port{Name: "web"}}
		change(h)
		return Probes{Readiness: &Probe{HTTP: h}}
	}
	for name, c := range map[string]struct {
		probes Probes
		want   []string // each fault as it reads, cut to its length
	}{
		"nothing":  {Probes{}, nil},
		"defaults": {Probes{Startup: probe(), Readiness: probe(), Liveness: probe()}, nil},
		"every type": {Probes{
			Startup:   &Probe{Log: &Log{Pattern: "ready|started"}},
			Readiness: &Probe{HTTP: &HTTP{Scheme: "https", Host: "::1", Path: "/ready?x=1", Port: Port{Name: "web"}, Headers: map[string]string{"Host": "a.b"}}},
			Liveness:  &Probe{Exec: &Exec{Command: []string{"true"}}},
		}, nil},
		"grpc and docker": {Probes{Readiness: &Probe{Docker: &Docker{}}, Liveness: &Probe{GRPC: &GRPC{Port: Port{Name: "admin"}}}}, nil},

		"no type":   {Probes{Startup: &Probe{}}, []string{"startup: has no type; give one of exec"}},
		"two types": {bad(func(p *Probe) { p.Exec = &Exec{Command: []string{"true"}} }), []string{"liveness: has the types exec and tcp; a probe has exactly one"}},

		"negative delay":      {bad(func(p *Probe) { p.InitialDelay = -1 }), []string{"liveness.initialDelay: -1ns is out of range"}},
		"delay of a century":  {bad(func(p *Probe) { p.InitialDelay = longest + 1 }), []string{"liveness.initialDelay: "}},
		"short period":        {bad(func(p *Probe) { p.Period = 999 * time.Millisecond }), []string{"liveness.period: 999ms is too short; the least is 1s"}},
		"negative timeout":    {bad(func(p *Probe) { p.Timeout = -time.Second }), []string{"liveness.timeout: -1s is too short"}},
		"long timeout":        {bad(func(p *Probe) { p.Timeout = longest + 1 }), []string{"liveness.timeout: "}},
		"short grace":         {bad(func(p *Probe) { p.Grace = 1 }), []string{"liveness.terminationGracePeriod: 1ns is too short"}},
		"grace of readiness":  {Probes{Readiness: with(func(p *Probe) { p.Grace = time.Second })}, []string{"readiness.terminationGracePeriod: belongs to startup and liveness"}},
		"thresholds":          {bad(func(p *Probe) { p.FailureThreshold, p.SuccessThreshold = 1001, -1 }), []string{"liveness.successThreshold: -1 is out of range; it is 1 to 1000", "liveness.failureThreshold: 1001 is out of range"}},
		"liveness succeeds 2": {bad(func(p *Probe) { p.SuccessThreshold = 2 }), []string{"liveness.successThreshold: is 2; it must be 1 for liveness"}},
		"startup succeeds 2":  {Probes{Startup: with(func(p *Probe) { p.SuccessThreshold = 2 })}, []string{"startup.successThreshold: is 2; it must be 1 for startup"}},
		"readiness succeeds":  {Probes{Readiness: with(func(p *Probe) { p.SuccessThreshold = 2 })}, nil},

		"action of readiness": {Probes{Readiness: with(func(p *Probe) { p.OnFailure.Do = Restart })}, []string{"readiness.onFailure: belongs to startup and liveness"}},
		"none for readiness":  {Probes{Readiness: with(func(p *Probe) { p.OnFailure.Do = Nothing })}, nil},
		"unknown action":      {bad(func(p *Probe) { p.OnFailure.Do = "reboot" }), []string{`liveness.onFailure: "reboot" is no action; give restart, recreate`}},
		"empty command":       {bad(func(p *Probe) { p.OnFailure.Do = RunExec }), []string{"liveness.onFailure.exec: has no command"}},
		"no URL":              {bad(func(p *Probe) { p.OnFailure = Action{Do: Webhook, URL: "nope"} }), []string{"liveness.onFailure.webhook: is no URL"}},
		"file URL":            {bad(func(p *Probe) { p.OnFailure = Action{Do: Webhook, URL: "file://x/y"} }), []string{`liveness.onFailure.webhook: has the scheme "file"`}},
		"two actions":         {bad(func(p *Probe) { p.OnFailure = Action{Do: Webhook, URL: "http://x/y", Command: []string{"a"}} }), []string{"liveness.onFailure: has more than one action"}},
		"webhook":             {bad(func(p *Probe) { p.OnFailure = Action{Do: Webhook, URL: "https://x/y"} }), nil},

		"no command":  {Probes{Liveness: &Probe{Exec: &Exec{}}}, []string{"liveness.exec: has no command"}},
		"NUL":         {Probes{Liveness: &Probe{Exec: &Exec{Command: []string{"a", "b\x00"}}}}, []string{"liveness.exec: holds a NUL"}},
		"no port":     {Probes{Liveness: &Probe{TCP: &TCP{}}}, []string{"liveness.tcp.port: is missing"}},
		"two ports":   {Probes{Liveness: &Probe{GRPC: &GRPC{Port: Port{Number: 1, Name: "web"}}}}, []string{"liveness.grpc.port: has a number and a name"}},
		"wrong name":  {Probes{Liveness: &Probe{TCP: &TCP{Port: Port{Name: "wbe"}}}}, []string{`liveness.tcp.port: no port is named "wbe"; the service names admin, web`}},
		"wrong host":  {Probes{Liveness: &Probe{TCP: &TCP{Port: Port{Number: 1}, Host: "a/b"}}}, []string{`liveness.tcp.host: "a/b" is no host`}},
		"scheme":      {web(func(h *HTTP) { h.Scheme = "ftp" }), []string{`readiness.http.scheme: "ftp" is unknown; give http or https`}},
		"path":        {web(func(h *HTTP) { h.Path = "healthz" }), []string{`readiness.http.path: "healthz" is no path`}},
		"foreign":     {web(func(h *HTTP) { h.Path = "http://evil/x" }), []string{`readiness.http.path: "http://evil/x" is no path`}},
		"path break":  {web(func(h *HTTP) { h.Path = "/a b\r\nX: y" }), []string{"readiness.http.path: "}},
		"header name": {web(func(h *HTTP) { h.Headers = map[string]string{"X Y": "1"} }), []string{"readiness.http.headers.X Y: is no header's name"}},
		"header":      {web(func(h *HTTP) { h.Headers = map[string]string{"X": "1\r\nY: 2"} }), []string{"readiness.http.headers.X: holds a line break"}},
		"late log":    {Probes{Liveness: &Probe{Log: &Log{Pattern: "x"}}}, []string{"liveness.log: belongs to startup"}},
		"empty log":   {Probes{Startup: &Probe{Log: &Log{}}}, []string{"startup.log.pattern: is empty"}},
		"long log":    {Probes{Startup: &Probe{Log: &Log{Pattern: strings.Repeat("x", longestPattern+1)}}}, []string{"startup.log.pattern: is longer"}},
		"bad log":     {Probes{Startup: &Probe{Log: &Log{Pattern: "("}}}, []string{"startup.log.pattern: error parsing regexp"}},
	} {
		t.Run(name, func(t *testing.T) {
			faults := c.probes.Validate(named)
			if len(faults) != len(c.want) {
				t.Fatalf("faults %v, want %q", faults, c.want)
			}
			for i, f := range faults {
				if !strings.HasPrefix(f.Error(), c.want[i]) {
					t.Errorf("fault %q, want %q", f, c.want[i])
				}
			}
		})
	}
}

func TestValidateSaysThatNoPortHasAName(t *testing.T) {
	faults := Probes{Liveness: &Probe{TCP: &TCP{Port: Port{Name: "web"}}}}.Validate(nil)
	if len(faults) != 1 || !strings.Contains(faults[0].Reason, "the service names none") {
		t.Fatalf("faults %v", faults)
	}
}

func TestDefaultsAreKubernetes(t *testing.T) {
	got := Probe{}.withDefaults()
	want := Probe{Period: 10 * time.Second, Timeout: time.Second, SuccessThreshold: 1, FailureThreshold: 3}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("defaults %+v, want %+v", got, want)
	}
	set := Probe{InitialDelay: 1, Period: 2, Timeout: 3, SuccessThreshold: 4, FailureThreshold: 5}
	if got := set.withDefaults(); !reflect.DeepEqual(got, set) {
		t.Errorf("given values became %+v", got)
	}
}

func TestCloneSharesNothing(t *testing.T) {
	p := Probes{Startup: &Probe{
		Exec: &Exec{Command: []string{"a"}}, HTTP: &HTTP{Headers: map[string]string{"a": "b"}}, TCP: &TCP{}, GRPC: &GRPC{}, Docker: &Docker{},
		Log: &Log{}, OnFailure: Action{Command: []string{"a"}},
	}}
	before, _ := json.Marshal(p)
	q := p.Clone()
	if !reflect.DeepEqual(p, q) {
		t.Fatalf("clone %+v, want %+v", q, p)
	}
	s := q.Startup
	s.Exec.Command[0], s.HTTP.Headers["a"], s.OnFailure.Command[0] = "x", "x", "x"
	s.TCP.Host, s.GRPC.Service, s.Log.Pattern = "x", "x", "x"
	if after, _ := json.Marshal(p); string(after) != string(before) {
		t.Errorf("changing the clone made %s of %s", after, before)
	}
}

func TestProbesReadBack(t *testing.T) {
	p := Probes{
		Startup:   &Probe{Log: &Log{Pattern: "up"}, Period: time.Second, FailureThreshold: 30, Grace: 3 * time.Second},
		Readiness: &Probe{HTTP: &HTTP{Path: "/x", Port: Port{Number: 1}, Headers: map[string]string{"A": "b"}}, InitialDelay: time.Second},
		Liveness:  &Probe{Docker: &Docker{}, OnFailure: Action{Do: RunExec, Command: []string{"a"}}},
	}
	b, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var q Probes
	if err := json.Unmarshal(b, &q); err != nil || !reflect.DeepEqual(p, q) {
		t.Errorf("%s read back as %+v (%v)", b, q, err)
	}
}

func TestEmpty(t *testing.T) {
	if !(Probes{}).Empty() || (Probes{}).Of("other") != nil {
		t.Error("no probes are some")
	}
	for _, r := range Roles() {
		if p := only(r, probe()); p.Empty() || p.Of(r) == nil {
			t.Errorf("a %s probe is none", r)
		}
	}
}

func TestWhereAndKind(t *testing.T) {
	for _, c := range []struct {
		p    Probe
		kind string
		host string
		port uint16
	}{
		{Probe{HTTP: &HTTP{Host: "a", Port: Port{Number: 1}}}, "http", "a", 1},
		{Probe{TCP: &TCP{Host: "b", Port: Port{Number: 2}}}, "tcp", "b", 2},
		{Probe{GRPC: &GRPC{Port: Port{Number: 3}}}, "grpc", "", 3},
		{Probe{Exec: &Exec{}}, "exec", "", 0},
		{Probe{Docker: &Docker{}}, "docker", "", 0},
		{Probe{Log: &Log{}}, "log", "", 0},
		{Probe{}, "", "", 0},
	} {
		host, port, ok := c.p.Where()
		if c.p.Kind() != c.kind || host != c.host || port.Number != c.port || ok != (c.port != 0) {
			t.Errorf("%+v is %s at %q %v %v", c.p, c.p.Kind(), host, port, ok)
		}
	}
}
