package stack_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/berth-dev/berth/internal/stack"
)

// image is a file whose one service's image tells what was read.
func image(name string) string { return "services: {web: {image: " + name + "}}\n" }

func TestWhichFiles(t *testing.T) {
	files := map[string]string{
		"compose.yaml":              image("main"),
		"compose.override.yaml":     "services: {web: {hostname: over}}\n",
		"other.yaml":                image("other"),
		"more/extra.yml":            "services: {web: {hostname: extra}}\n",
		"old/docker-compose.yml":    image("old"),
		"both/compose.yml":          image("yml"),
		"both/docker-compose.yaml":  image("legacy"),
		"both/deep/er/nothing.here": "",
		"env/.env":                  "COMPOSE_FILE=a.yaml,b.yaml\nCOMPOSE_PATH_SEPARATOR=,\nCOMPOSE_PROJECT_NAME=fromenv\n",
		"env/a.yaml":                image("a"),
		"env/b.yaml":                image("b"),
	}
	for name, c := range map[string]struct {
		opts            stack.LoadOptions
		image, hostname string
		project         string
		files           []string
	}{
		"found with its override": {image: "main", hostname: "over", project: "shop", files: []string{"compose.yaml", "compose.override.yaml"}},
		"named":                   {opts: stack.LoadOptions{Files: []string{"other.yaml"}}, image: "other", project: "shop", files: []string{"other.yaml"}},
		"several":                 {opts: stack.LoadOptions{Files: []string{"other.yaml", "more/extra.yml"}}, image: "other", hostname: "extra", project: "shop", files: []string{"other.yaml", "more/extra.yml"}},
		"elsewhere":               {opts: stack.LoadOptions{Files: []string{"old/docker-compose.yml"}}, image: "old", project: "old", files: []string{"old/docker-compose.yml"}},
		"legacy name":             {opts: stack.LoadOptions{WorkingDir: "old"}, image: "old", project: "old", files: []string{"old/docker-compose.yml"}},
		"preferred name":          {opts: stack.LoadOptions{WorkingDir: "both"}, image: "yml", project: "both", files: []string{"both/compose.yml"}},
		"upwards":                 {opts: stack.LoadOptions{WorkingDir: "both/deep/er"}, image: "yml", project: "both", files: []string{"both/compose.yml"}},
		"project directory":       {opts: stack.LoadOptions{ProjectDir: "old"}, image: "old", project: "old", files: []string{"old/docker-compose.yml"}},
		"directory and file":      {opts: stack.LoadOptions{ProjectDir: "old", Files: []string{"other.yaml"}}, image: "other", project: "old", files: []string{"other.yaml"}},
		"stdin":                   {opts: stack.LoadOptions{Files: []string{"-"}, Stdin: strings.NewReader(image("piped"))}, image: "piped", project: "shop", files: []string{"-"}},
		"COMPOSE_FILE": {opts: stack.LoadOptions{Environ: []string{"COMPOSE_FILE=other.yaml:more/extra.yml"}},
			image: "other", hostname: "extra", project: "shop", files: []string{"other.yaml", "more/extra.yml"}},
		"COMPOSE_FILE with separator": {opts: stack.LoadOptions{Environ: []string{"COMPOSE_FILE=other.yaml;more/extra.yml", "COMPOSE_PATH_SEPARATOR=;"}},
			image: "other", hostname: "extra", project: "shop", files: []string{"other.yaml", "more/extra.yml"}},
		"-f wins over COMPOSE_FILE":  {opts: stack.LoadOptions{Files: []string{"other.yaml"}, Environ: []string{"COMPOSE_FILE=compose.yaml"}}, image: "other", project: "shop", files: []string{"other.yaml"}},
		"COMPOSE_FILE in .env":       {opts: stack.LoadOptions{WorkingDir: "env"}, image: "b", project: "fromenv", files: []string{"env/a.yaml", "env/b.yaml"}},
		"-p":                         {opts: stack.LoadOptions{ProjectName: "mine", Environ: []string{"COMPOSE_PROJECT_NAME=env"}}, image: "main", hostname: "over", project: "mine", files: []string{"compose.yaml", "compose.override.yaml"}},
		"COMPOSE_PROJECT_NAME":       {opts: stack.LoadOptions{Environ: []string{"COMPOSE_PROJECT_NAME=env"}}, image: "main", hostname: "over", project: "env", files: []string{"compose.yaml", "compose.override.yaml"}},
		"COMPOSE_DISABLE_ENV_FILE":   {opts: stack.LoadOptions{WorkingDir: "env", Files: []string{"env/a.yaml"}, Environ: []string{"COMPOSE_DISABLE_ENV_FILE=1"}}, image: "a", project: "env", files: []string{"env/a.yaml"}},
		"environment wins over .env": {opts: stack.LoadOptions{WorkingDir: "env", Environ: []string{"COMPOSE_PROJECT_NAME=shell"}}, image: "b", project: "shell", files: []string{"env/a.yaml", "env/b.yaml"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := project(t, files)
			c.opts.WorkingDir = filepath.Join(dir, c.opts.WorkingDir)
			for i, f := range c.opts.Files {
				if f != "-" {
					c.opts.Files[i] = filepath.Join(dir, f)
				}
			}
			got, err := stack.Load(t.Context(), c.opts)
			if err != nil {
				t.Fatal(err)
			}
			spec := got.Stack.Service("web").Spec
			if spec.Image != c.image || spec.Hostname != c.hostname || got.Stack.Name != c.project {
				t.Errorf("image %q, hostname %q, project %q; want %q, %q, %q", spec.Image, spec.Hostname, got.Stack.Name, c.image, c.hostname, c.project)
			}
			for i, f := range got.Stack.ConfigFiles {
				if rel, err := filepath.Rel(dir, f); err == nil {
					got.Stack.ConfigFiles[i] = rel
				}
			}
			if !slices.Equal(got.Stack.ConfigFiles, c.files) {
				t.Errorf("files %v, want %v", got.Stack.ConfigFiles, c.files)
			}
		})
	}
}

func TestNoFile(t *testing.T) {
	dir := t.TempDir() // nothing above it holds a Compose file
	if _, err := stack.Load(t.Context(), stack.LoadOptions{WorkingDir: dir}); !errors.Is(err, stack.ErrNoFile) {
		t.Errorf("got %v, want ErrNoFile", err)
	}
	_, err := stack.Load(t.Context(), stack.LoadOptions{WorkingDir: dir, Files: []string{"nowhere.yaml"}})
	if err == nil || !strings.Contains(err.Error(), "nowhere.yaml: no such file or directory") {
		t.Errorf("got %v", err)
	}
	for _, name := range []string{"Shop", "-x", "a b", "a/b"} {
		if _, err := stack.Load(t.Context(), stack.LoadOptions{WorkingDir: project(t, map[string]string{"compose.yaml": image("a")}), ProjectName: name}); err == nil ||
			!strings.Contains(err.Error(), "is not a project name") {
			t.Errorf("-p %q: got %v", name, err)
		}
	}
}

func TestEnvFiles(t *testing.T) {
	files := map[string]string{
		"compose.yaml": image("'${TAG:-none}-${OTHER:-none}'"),
		".env":         "TAG=dotenv\n",
		"one.env":      "TAG=one\nOTHER=1\n",
		"two.env":      "TAG=two\nDERIVED=${TAG}x\n",
	}
	for name, c := range map[string]struct {
		opts stack.LoadOptions
		want string
	}{
		".env":              {want: "dotenv-none"},
		"--env-file":        {opts: stack.LoadOptions{EnvFiles: []string{"one.env"}}, want: "one-1"},
		"two of them":       {opts: stack.LoadOptions{EnvFiles: []string{"one.env", "two.env"}}, want: "two-1"},
		"COMPOSE_ENV_FILES": {opts: stack.LoadOptions{Environ: []string{"COMPOSE_ENV_FILES=one.env,two.env"}}, want: "two-1"},
		"the shell wins":    {opts: stack.LoadOptions{EnvFiles: []string{"one.env"}, Environ: []string{"TAG=shell"}}, want: "shell-1"},
	} {
		t.Run(name, func(t *testing.T) {
			c.opts.WorkingDir = project(t, files)
			got, err := stack.Load(t.Context(), c.opts)
			if err != nil {
				t.Fatal(err)
			}
			if img := got.Stack.Service("web").Spec.Image; img != c.want {
				t.Errorf("image %q, want %q", img, c.want)
			}
		})
	}
	_, err := stack.Load(t.Context(), stack.LoadOptions{WorkingDir: project(t, files), EnvFiles: []string{"nowhere.env"}})
	if err == nil || err.Error() != "nowhere.env: env file: no such file or directory" {
		t.Errorf("got %v", err)
	}
}

func TestProfiles(t *testing.T) {
	const file = `
services:
  web: {image: a}
  debug: {image: a, profiles: [debug]}
  tool: {image: a, profiles: [tools, extra], depends_on: [helper]}
  helper: {image: a, profiles: [tools]}
`
	for name, c := range map[string]struct {
		opts     stack.LoadOptions
		active   []string
		inactive []string
	}{
		"none":             {active: []string{"web"}, inactive: []string{"debug", "helper", "tool"}},
		"--profile":        {opts: stack.LoadOptions{Profiles: []string{"debug"}}, active: []string{"debug", "web"}, inactive: []string{"helper", "tool"}},
		"all":              {opts: stack.LoadOptions{Profiles: []string{"*"}}, active: []string{"debug", "helper", "tool", "web"}},
		"COMPOSE_PROFILES": {opts: stack.LoadOptions{Environ: []string{"COMPOSE_PROFILES=debug, tools"}}, active: []string{"debug", "helper", "tool", "web"}},
		"flag wins":        {opts: stack.LoadOptions{Profiles: []string{"debug"}, Environ: []string{"COMPOSE_PROFILES=tools"}}, active: []string{"debug", "web"}, inactive: []string{"helper", "tool"}},
		"named service":    {opts: stack.LoadOptions{Services: []string{"tool"}}, active: []string{"helper", "tool", "web"}, inactive: []string{"debug"}},
	} {
		t.Run(name, func(t *testing.T) {
			c.opts.WorkingDir = project(t, map[string]string{"compose.yaml": file})
			got, err := stack.Load(t.Context(), c.opts)
			if err != nil {
				t.Fatal(err)
			}
			var active []string
			for _, s := range got.Stack.Services {
				active = append(active, s.Name)
			}
			if !slices.Equal(active, c.active) || !slices.Equal(got.Stack.Inactive, c.inactive) {
				t.Errorf("active %v, inactive %v; want %v, %v", active, got.Stack.Inactive, c.active, c.inactive)
			}
		})
	}
	_, err := stack.Load(t.Context(), stack.LoadOptions{WorkingDir: project(t, map[string]string{"compose.yaml": file}), Services: []string{"nope"}})
	if err == nil || !strings.HasPrefix(err.Error(), "no such service: nope") {
		t.Errorf("got %v", err)
	}
}

func TestWarnings(t *testing.T) {
	dir := project(t, map[string]string{
		"compose.yaml": `version: "3"
services:
  web:
    image: a${TAG}${TAG}${OTHER-}
    restart: always
    deploy:
      restart_policy: {}
      update_config: {parallelism: 2}
      placement:
        constraints: [ab == b]
      labels: {a: b}
    ports: [{target: 80, published: "80", mode: host, name: http, app_protocol: http}]
    network_mode: host
  off:
    image: a
    profiles: [off]
    deploy: {endpoint_mode: vip}
include: [sub/more.yaml]
x-berth: {revisions: 3, nodes: [{name: a}]}
x-other: {anything: goes}
`,
		"sub/more.yaml": "x-berth: {nodes: [{name: b}]}\nservices:\n  job:\n    image: a\n    deploy:\n      mode: global\n      endpoint_mode: vip\n",
	})
	got, err := stack.Load(t.Context(), stack.LoadOptions{WorkingDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, w := range got.Warnings {
		lines = append(lines, w.String())
	}
	want := []string{
		"compose.yaml:1: version: not carried out: it has had no meaning since Compose v2; remove it",
		"compose.yaml:4: TAG: the variable TAG is not set; it counts as empty",
		"compose.yaml:5: services.web.restart: deploy.restart_policy is given too and wins; this has no effect",
		`compose.yaml:10: services.web.deploy.placement.constraints.0: "ab == b" can never match: no property of a node is called ab, so no replica is placed`,
		"compose.yaml:12: services.web.ports: has no effect with network_mode: host",
		"sub/more.yaml:1: x-berth: has no effect in an included file; move it to the file that includes this one",
		"sub/more.yaml:7: services.job.deploy.endpoint_mode: the service's name resolves to all its containers: an address that leads to ready replicas needs to know their ports; give expose: or ports: at least one",
	}
	if !slices.Equal(lines, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
	if labels := got.Stack.Service("web").Labels; len(labels) == 0 {
		t.Error("deploy.labels are not kept")
	}
}

// TestSecretsStaySecret looks for a canary in whatever a load says.
func TestSecretsStaySecret(t *testing.T) {
	const canary = "s3cr3t-canary"
	for name, files := range map[string]map[string]string{
		"bad .env":         {"compose.yaml": image("a"), ".env": "A B=" + canary + "\n"},
		"quoted .env":      {"compose.yaml": image("a"), ".env": "A='" + canary + "\n"},
		"odd .env":         {"compose.yaml": image("a"), ".env": canary + "!\n"},
		"bad env_file":     {"compose.yaml": service("env_file: x.env"), "x.env": "A B=" + canary + "\n"},
		"bad label_file":   {"compose.yaml": service("label_file: x.env"), "x.env": canary + "$%\n"},
		"raw env_file":     {"compose.yaml": service("env_file: [{path: x.env, format: nope}]"), "x.env": canary + "\n"},
		"control in value": {"compose.yaml": service("environment: {A: '${PW}'}")},
		"secret in number": {"compose.yaml": service("scale: '${PW}'")},
		"secret in port":   {"compose.yaml": service("ports: ['${PW}']")},
		"secret in size":   {"compose.yaml": service("mem_limit: '${PW}'")},
		"secret in time":   {"compose.yaml": service("stop_grace_period: '${PW}'")},
		"secret in image":  {"compose.yaml": image("'${PW}:::'")},
		"secret in name":   {"compose.yaml": "name: '${PW}'\n" + image("a")},
		"environment":      {"compose.yaml": service("secrets: [{source: s, uid: x}]") + "secrets: {s: {environment: PW}}\n"},
		"good":             {"compose.yaml": service("secrets: [s], deploy: {endpoint_mode: vip}") + "secrets: {s: {environment: PW}}\n"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := stack.Load(t.Context(), stack.LoadOptions{WorkingDir: project(t, files), Environ: []string{"PW=" + canary + "\x01"}})
			if err != nil && strings.Contains(err.Error(), canary) {
				t.Errorf("the error tells: %v", err)
			}
			if err == nil && name != "good" && name != "secret in name" {
				t.Error("loaded")
			}
			if got != nil {
				for _, w := range got.Warnings {
					if strings.Contains(w.String(), canary) {
						t.Errorf("a warning tells: %s", w)
					}
				}
			}
		})
	}
}

func TestUnreadableEnvFile(t *testing.T) {
	if os.Getuid() == 0 {
		t.Log("root reads everything: the permission case cannot be caused here")
		return
	}
	dir := project(t, map[string]string{"compose.yaml": service("env_file: x.env"), "x.env": "A=b\n"})
	if err := os.Chmod(filepath.Join(dir, "x.env"), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := stack.Load(t.Context(), stack.LoadOptions{WorkingDir: dir}); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("got %v", err)
	}
}
