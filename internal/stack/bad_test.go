package stack_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/berth-dev/berth/internal/stack"
)

// service is a file with one service whose keys are given in flow style.
func service(keys string) string { return "services:\n  web: {image: a, " + keys + "}\n" }

func TestBadInput(t *testing.T) {
	big := strings.Repeat("x", 1<<20)
	for name, c := range map[string]struct{ file, want string }{
		"unknown key":           {"services:\n  web:\n    image: a\n    imagee: b\n", `compose.yaml:4: services.web.imagee: unknown key "imagee"; did you mean image?`},
		"unknown top-level key": {"services: {web: {image: a}}\nservces: {}\n", `compose.yaml:2: servces: unknown key "servces"; did you mean services?`},
		"unknown nested key":    {"services:\n  web:\n    image: a\n    deploy:\n      replica: 2\n", `compose.yaml:5: services.web.deploy.replica: unknown key "replica"; did you mean replicas?`},
		"unknown x-berth key":   {"services:\n  web:\n    image: a\n    x-berth:\n      probe: {}\n", `compose.yaml:5: services.web.x-berth.probe: unknown key "probe"; did you mean probes?`},
		"unknown x-berth key below": {"services:\n  web:\n    image: a\n    x-berth:\n      probes:\n        liveness: {tcp: {prt: 1}}\n",
			`compose.yaml:6: services.web.x-berth.probes.liveness.tcp.prt: unknown key "prt"; did you mean port?`},
		"unknown top x-berth key": {"services: {web: {image: a}}\nx-berth: {node: []}\n", `compose.yaml:2: x-berth.node: unknown key "node"; did you mean nodes?`},
		"wrong type":              {service("image: [a]"), `compose.yaml:2: the key "image" stands here a second time; the first is on line 2`},
		"list for text":           {"services:\n  web:\n    image: [a]\n", `compose.yaml:3: services.web.image: is a list; it must be text`},
		"text for mapping":        {"services:\n  web: a\n", `compose.yaml:2: services.web: is text; it must be a mapping`},
		"number for list":         {service("ports: 80"), `compose.yaml:2: services.web.ports: is a number; it must be a list`},
		"neither of two types":    {service("environment: 5"), `compose.yaml:2: services.web.environment: is a number; it must be a list or a mapping`},
		"text for number":         {service("healthcheck: {test: x, retries: many}"), `services.web.healthcheck.retries`},
		"root is a list":          {"- a\n", `compose.yaml:1: a Compose file is a mapping of services:, networks: and so on; this is a list`},
		"empty file":              {"", `compose.yaml: the file is empty`},
		"not YAML":                {"services:\n  web: [\n", `compose.yaml:2: not valid YAML: did not find expected node content`},
		"tab":                     {"services:\n\tweb: {}\n", `not valid YAML`},
		"duplicate service":       {"services:\n  web: {image: a}\n  db: {image: b}\n  web: {image: c}\n", `compose.yaml:4: the key "web" stands here a second time; the first is on line 2`},
		"no image":                {"services:\n  web: {}\n", `compose.yaml:2: services.web: has neither image: nor build:; give one of them`},
		"cycle": {"services:\n  a: {image: a, depends_on: [b]}\n  b: {image: a, depends_on: [c]}\n  c: {image: a, depends_on: [a]}\n",
			`compose.yaml:2: services.a.depends_on: dependency cycle: a → b → c → a; none of them could ever start`},
		"depends on itself":      {"services:\n  a: {image: a, depends_on: [a]}\n", `dependency cycle: a → a`},
		"cycle by network":       {"services:\n  a: {image: a, network_mode: 'service:b'}\n  b: {image: a, depends_on: [a]}\n", `dependency cycle: a → b → a`},
		"undefined dependency":   {service("depends_on: [db]"), `compose.yaml:2: services.web.depends_on.db: the service "db" is not defined; the file has web`},
		"inactive dependency":    {"services:\n  web: {image: a, depends_on: [db]}\n  db: {image: a, profiles: [x]}\n", `the service "db" is in the inactive profile x: activate it with --profile, or set required: false`},
		"undefined network":      {service("networks: [bck]") + "networks: {back: {}}\n", `compose.yaml:2: services.web.networks.bck: the network "bck" is not defined under networks:; did you mean back?`},
		"undefined volume":       {service("volumes: ['data:/x']"), `compose.yaml:2: services.web.volumes.0: the volume "data" is not defined under volumes:`},
		"undefined secret":       {service("secrets: [pw]"), `the secret "pw" is not defined under secrets:`},
		"undefined config":       {service("configs: [cf]"), `the config "cf" is not defined under configs:`},
		"required variable":      {"services:\n  web:\n    image: ${TAG:?give a tag}\n", `compose.yaml:3: error while interpolating services.web.image: required variable TAG is missing a value: give a tag`},
		"bad interpolation":      {service("command: 'a ${b'"), `compose.yaml:2: invalid interpolation format for services.web.command`},
		"variable of wrong type": {"services:\n  web: {image: a, scale: '${N:-many}'}\n", `services.web.scale`},
		"container_name twice": {"services:\n  a: {image: a, container_name: xx}\n  b: {image: a, container_name: xx}\n",
			`compose.yaml:3: services.b.container_name: "xx" is the container of service "a" too (compose.yaml:2); names are unique on an engine, so change one`},
		"container_name and replicas": {service("container_name: xx, scale: 2"), `compose.yaml:2: services.web.scale: is 2 but container_name: gives one name`},
		"scale and replicas":          {service("scale: 2, deploy: {replicas: 3}"), `services.web.scale: is 2 but deploy.replicas is 3; keep one of them`},
		"negative scale":              {service("scale: -1"), `services.web.scale: -1 is not between 0 and 100000`},
		"port out of range":           {service("ports: ['70000:80']"), `compose.yaml:2: services.web.ports.0: "70000:80" is not a port`},
		"long port out of range":      {service("ports: [{target: 70000}]"), `services.web.ports: the container's port 70000 is not between 1 and 65535`},
		"published out of range":      {service("ports: [{target: 80, published: '99999'}]"), `the published port "99999" is not a port or range between 1 and 65535`},
		"port as text":                {service("ports: [http]"), `compose.yaml:2: services.web.ports.0: "http" is not a port`},
		"host IP":                     {service("ports: [{target: 80, host_ip: nowhere}]"), `"nowhere" is not an IP address`},
		"same port, two services": {"services:\n  a: {image: a, ports: ['80:80']}\n  b:\n    image: a\n    ports: ['127.0.0.1:80:81']\n",
			`compose.yaml:5: services.b.ports: the host port 80/tcp is published by service "a" too (compose.yaml:2); change one of them`},
		"same port twice": {service("ports: ['80:80', '80:81']"), `the host port 80/tcp is published twice; drop one of the two`},
		"ports with shared network": {"services:\n  a: {image: a, network_mode: 'service:b', ports: ['80:80']}\n  b: {image: a}\n",
			`services.a.ports: cannot be published with network_mode: service:b; publish them on the service whose network it is`},
		"network_mode and networks": {service("network_mode: host, networks: [x]") + "networks: {x: {}}\n", `services.web.network_mode: and networks: exclude each other; keep one`},
		"relative target":           {service("volumes: [{type: bind, source: ., target: x}]"), `the path "x" inside the container is not absolute`},
		"same target twice":         {service("volumes: ['./a:/x'], tmpfs: [/x/]"), `services.web.tmpfs.0: "/x" is mounted on already by volumes.0`},
		"missing env_file":          {service("env_file: nowhere.env"), `compose.yaml:2: services.web.env_file.0: `},
		"missing label_file":        {service("label_file: nowhere"), `compose.yaml:2: services.web.label_file.0: `},
		"missing secret file":       {service("secrets: [pw]") + "secrets: {pw: {file: ./nowhere}}\n", `compose.yaml:3: secrets.pw.file: `},
		"missing secret variable":   {service("secrets: [pw]") + "secrets: {pw: {environment: NOWHERE}}\n", `compose.yaml:3: secrets.pw.environment: the variable NOWHERE, which holds the secret, is not set`},
		"external secret":           {service("secrets: [pw]") + "secrets: {pw: {external: true}}\n", `compose.yaml:3: secrets.pw.external: not carried out: a plain engine keeps no such objects`},
		"external config":           {service("configs: [cf]") + "configs: {cf: {external: true}}\n", `compose.yaml:3: configs.cf.external: not carried out`},
		"secret from nowhere":       {service("secrets: [pw]") + "secrets: {pw: {name: x}}\n", `compose.yaml:3: secrets.pw: says nowhere what it holds; give one of file: or environment:`},
		"secret from two places":    {service("secrets: [pw]") + "secrets: {pw: {file: x, environment: Y}}\n", `compose.yaml:3: secrets.pw: has its content from two places`},
		"missing include":           {"include: [nowhere.yaml]\n", `compose.yaml:1: include.0: nowhere.yaml: no such file or directory`},
		"git include":               {"include: ['https://github.com/x/y.git']\n", `compose.yaml:1: include.0: "https://github.com/x/y.git" is not a local file`},
		"oci include":               {"include: ['oci://registry/x']\n", `is not a local file`},
		"git extends":               {service("extends: {file: 'git@github.com:x/y.git', service: z}"), `services.web.extends.file: "git@github.com:x/y.git" is not a local file`},
		"missing extends file":      {service("extends: {file: nowhere.yaml, service: x}"), `compose.yaml:2: services.web.extends.file: nowhere.yaml: no such file or directory`},
		"missing extended service":  {"services:\n  web: {extends: {service: nope}}\n", `service "nope" not found`},
		"extends cycle":             {"services:\n  a: {extends: {service: b}}\n  b: {extends: {service: a}}\n", `Circular reference`},
		"bad project name":          {"name: '!!!'\nservices: {web: {image: a}}\n", `compose.yaml:1: name: "!!!" is not a project name`},
		"bad service name":          {"services:\n  'a b': {image: a}\n", `compose.yaml:2: services.a b: "a b" is not a name`},
		"bad image":                 {service("labels: {}") + "  db: {image: 'Upper Case'}\n", `compose.yaml:3: services.db.image: "Upper Case": is not an image reference`},
		"image with newline":        {"services:\n  web: {image: \"a\\nb\"}\n", `is not an image reference`},
		"image with NUL":            {"services:\n  web: {image: \"a\\0b\"}\n", `compose.yaml:2`},
		"image with dash":           {"services:\n  web: {image: '-v'}\n", `is not an image reference`},
		"image of 1 MB":             {"services:\n  web: {image: " + big + "}\n", `is longer than an image reference can be`},
		"built image's name":        {"services:\n  Web: {build: .}\n", `the image built would be called "shop-Web"`},
		"label key with newline":    {service(`labels: {"a\nb": c}`), `holds a space, control character or '='`},
		"label with NUL":            {service(`labels: {a: "b\0"}`), `services.web.labels.a: the value holds a control character`},
		"label of 1 MB":             {service("labels: {a: " + big + "}"), `services.web.labels.a: the key or value is longer than`},
		"label with dash":           {service("labels: {-a: b}"), `the key "-a" begins with a dash`},
		"env with NUL":              {service(`environment: {A: "b\0"}`), `services.web.environment.A: the value holds a control character`},
		"env of 1 MB":               {service("environment: {A: " + big + "}"), `services.web.environment.A: is longer than 131071 bytes`},
		"env name with dash":        {service("environment: ['-A=b']"), `the name "-A" begins with a dash`},
		"env name with zero width":  {service(`environment: {"A\u200b": b}`), `holds a space, control character or '='`},
		"hostname with newline":     {service(`hostname: "a\nb"`), `services.web.hostname: "a b" holds a space, line break or control character`},
		"container_name with dash":  {service("container_name: -xx"), `services.web.container_name: "-xx" begins with a dash`},
		"bad duration":              {service("stop_grace_period: soon"), `compose.yaml:2: services.web.stop_grace_period: "soon" is not a duration such as 30s or 1m30s`},
		"bad size":                  {service("mem_limit: lots"), `services.web.mem_limit: "lots" is not a size such as 512M or 1.5g`},
		"bad cpus":                  {service("cpus: many"), `services.web.cpus: "many" is not a number of CPUs such as 0.5`},
		"bad restart":               {service("restart: sometimes"), `"sometimes" is not one of no, always, unless-stopped, on-failure[:n]`},
		"bad restart count":         {service("restart: always:3"), `only on-failure takes a number of tries`},
		"bad healthcheck":           {service("healthcheck: {test: [curl]}"), `services.web.healthcheck.test: a list must begin with CMD, CMD-SHELL or NONE, not "curl"`},
		"bad secret mode":           {service("secrets: [{source: pw, mode: '077777'}]") + "secrets: {pw: {environment: HOME}}\n", `the mode 077777 is not between 0 and 07777`},
		"bad uid":                   {service("configs: [{source: c, uid: root}]") + "configs: {c: {content: x}}\n", `services.web.configs.0.uid: "root" is not a numeric ID`},
		"swap below memory":         {service("deploy: {resources: {limits: {memory: 2G}}}, memswap_limit: 1G"), `services.web.memswap_limit: is less than the memory limit`},
		"old swap below memory":     {service("mem_limit: 2G, memswap_limit: 1G"), `services.web.memswap_limit: is less than the memory limit`},
		"reservation above limit":   {service("mem_limit: 1G, mem_reservation: 2G"), `compose.yaml:2: services.web.mem_reservation: reserves 2G, more than the service's limit of 1G; lower it or raise the limit`},
		"refresh age":               {service("pull_policy: refresh, pull_refresh_after: often"), `services.web.pull_refresh_after: "often" is not an age such as 12h or 1d12h`},
		"pull policy":               {service("pull_policy: sometimes"), `services.web.pull_policy: "sometimes" is not a value this key takes`},
		"restart condition":         {service("deploy: {restart_policy: {condition: always}}"), `services.web.deploy.restart_policy.condition: "always" is not one of any, on-failure, none`},
		"limits that differ":        {service("mem_limit: 1G, deploy: {resources: {limits: {memory: 2G}}}"), `services.web.mem_limit: and deploy.resources.limits.memory differ; keep one`},
		"external volume":           {service("volumes: ['d:/d']") + "volumes: {d: {external: true, driver: x}}\n", `compose.yaml:3: volumes.d: is external`},
		"provider":                  {"services:\n  web: {provider: {type: x}}\n", `services.web.provider: not carried out`},
		"seccomp file":              {service("security_opt: ['seccomp:nowhere.json']"), `services.web.security_opt: the seccomp profile nowhere.json: no such file or directory`},
		"anchor loop":               {"services: &a\n  web: *a\n", `contains itself`},
	} {
		t.Run(name, func(t *testing.T) {
			dir := project(t, map[string]string{"compose.yaml": c.file})
			got, err := stack.Load(t.Context(), stack.LoadOptions{WorkingDir: dir, Environ: []string{"HOME=/root"}})
			if err == nil {
				t.Fatalf("loaded: %+v", got.Stack)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("got  %s\nwant %s", err, c.want)
			}
			if strings.ContainsAny(err.Error(), "\n\x00\x1b") || len(err.Error()) > 1000 {
				t.Errorf("not one line for a terminal: %.200q", err)
			}
		})
	}
}

// TestSpecialFiles wants a clear error, without a hang, for what is not a regular file.
func TestSpecialFiles(t *testing.T) {
	kinds := map[string]func(path string) error{
		"is a directory, not a file":                      func(p string) error { return os.Mkdir(p, 0o755) },
		"is a device, FIFO or socket, not":                func(p string) error { return syscall.Mkfifo(p, 0o644) },
		"is a device, FIFO or socket, not a regular file": func(p string) error { return os.Symlink("/dev/zero", p) },
	}
	uses := map[string]string{
		"env_file":       service("env_file: special"),
		"label_file":     service("label_file: special"),
		"step's env":     service("pre_start: [{command: x, env_file: special}]"),
		"step's labels":  service("pre_start: [{command: x, label_file: special}]"),
		"secret":         service("secrets: [s]") + "secrets: {s: {file: special}}\n",
		"owned secret":   service("secrets: [{source: s, mode: 0400}]") + "secrets: {s: {file: special}}\n",
		"config":         service("configs: [s]") + "configs: {s: {file: special}}\n",
		"include":        "include: [special]\n",
		"include's env":  "include: [{path: other.yaml, env_file: special}]\n",
		"extends":        service("extends: {file: special, service: x}"),
		"seccomp":        service("security_opt: ['seccomp=special']"),
		"file itself":    "",
		"--env-file":     service(""),
		"included .env":  "include: [sub/compose.yaml]\n",
		"project's .env": service(""),
	}
	for kind, create := range kinds {
		for use, file := range uses {
			t.Run(use+" "+kind, func(t *testing.T) {
				dir := project(t, map[string]string{"compose.yaml": file, "other.yaml": service(""), "sub/compose.yaml": service("")})
				special := filepath.Join(dir, "special")
				opts := stack.LoadOptions{WorkingDir: dir}
				switch use {
				case "file itself":
					opts.Files = []string{"special"}
				case "--env-file":
					opts.EnvFiles = []string{"special"}
				case "included .env":
					special = filepath.Join(dir, "sub/.env")
				case "project's .env":
					special = filepath.Join(dir, ".env")
				}
				if err := create(special); err != nil {
					t.Fatal(err)
				}
				_, err := stack.Load(t.Context(), opts)
				if strings.HasSuffix(use, " .env") && kind == "is a directory, not a file" {
					if err != nil {
						t.Errorf("a directory called .env is passed over, as Compose does: %v", err)
					}
					return
				}
				if err == nil || !strings.Contains(err.Error(), kind) {
					t.Errorf("got %v, want %q", err, kind)
				}
			})
		}
	}
}

// TestBombs bounds what a hostile file costs.
func TestBombs(t *testing.T) {
	var laughs strings.Builder
	laughs.WriteString("x-0: &l0 [a, a, a, a, a, a, a, a, a]\n")
	for i := 1; i < 40; i++ {
		fmt.Fprintf(&laughs, "x-%d: &l%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*l%d, ", i-1), 9), ", "))
	}
	for name, c := range map[string]struct{ file, want string }{
		"billion laughs":  {laughs.String() + service(""), "values once its anchors are expanded"},
		"deep flow":       {"x-a: " + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + "\n" + service(""), "nested deeper"},
		"deeper flow":     {"x-a: " + strings.Repeat("[", 1_000_000), ""},
		"deep mappings":   {"x-a: " + strings.Repeat("{a: ", 5000) + strings.Repeat("}", 5000) + "\n", "nested deeper"},
		"many keys":       {"x-a:\n" + strings.Repeat("- a\n", 200_000), "values once its anchors are expanded"},
		"too large":       {"x-a: " + strings.Repeat("a", 5<<20) + "\n", "at most 4194304 are read"},
		"merge loop":      {"services:\n  web: &a\n    <<: *a\n    image: a\n", "contains itself"},
		"endless include": {"include: [compose.yaml]\n", "include cycle"},
		"port ranges":     {service("ports: [" + strings.TrimSuffix(strings.Repeat("'1-9000:1-9000', ", 50), ", ") + "]"), "more than 16384 ports"},
		"a port range":    {service("ports: ['1-65535:1-65535']"), "more than 16384 ports"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := project(t, map[string]string{"compose.yaml": c.file})
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			_, err := stack.Load(t.Context(), stack.LoadOptions{WorkingDir: dir})
			took := time.Since(start)
			runtime.ReadMemStats(&after)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if mb := (after.TotalAlloc - before.TotalAlloc) >> 20; mb > 512 {
				t.Errorf("allocated %d MB", mb)
			}
			t.Log(took)
		})
	}
}

// TestSparseFile stands for a file of 100 GB: it is refused by its size alone.
func TestSparseFile(t *testing.T) {
	dir := project(t, map[string]string{"compose.yaml": ""})
	if err := os.Truncate(filepath.Join(dir, "compose.yaml"), 100<<30); err != nil {
		t.Fatal(err)
	}
	_, err := stack.Load(t.Context(), stack.LoadOptions{WorkingDir: dir})
	if err == nil || !strings.Contains(err.Error(), "at most 4194304 are read") {
		t.Errorf("got %v", err)
	}
}
