package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/runtime/fake"
)

const imagesFile = `
name: shop
services:
  cache: {image: redis:7}
  copy: {image: redis:7}
  store: {image: registry.test/store:1, depends_on: [cache]}
  web:
    image: registry.test/web:1
    build: {context: ., args: {FROM_FILE: "1"}, tags: [registry.test/web:extra]}
  tool:
    build: .
  kept: {image: kept:1, pull_policy: never}
`

func imagesBench(t *testing.T, onBuild func(*runtime.Build) (fake.Image, error)) *bench {
	t.Helper()
	b := newBench(t, imagesFile)
	_ = b.engine.Close()
	b.engine = fake.New(fake.Options{OnBuild: onBuild})
	b.daemon.engine = b.engine
	t.Cleanup(func() { _ = b.engine.Close() })
	b.write("Dockerfile", "FROM scratch\n")
	return b
}

// has reports whether the engine holds an image.
func (b *bench) has(ref string) bool {
	_, err := b.engine.Image(b.t.Context(), ref)
	return err == nil
}

func TestPull(t *testing.T) {
	b := imagesBench(t, nil)
	b.engine.AddRemote("redis:7", fake.Image{})
	b.engine.AddRemote("registry.test/store:1", fake.Image{})
	b.engine.AddRemote("registry.test/web:1", fake.Image{})
	if code := b.run("pull"); code != 0 {
		t.Fatalf("exit code %d: %s", code, b.err.String())
	}
	for _, want := range []string{
		" Image redis:7  Pulled\n", " Image registry.test/store:1  Pulled\n", " Image registry.test/web:1  Pulled\n",
		" Service copy  Skipped  Image is already being pulled by cache\n", " Service tool  Skipped  No image to be pulled\n",
		" Service kept  Skipped  The pull policy is never\n",
	} {
		b.wantInErr(want)
	}
	b.wantOut("")
	if !b.has("redis:7") || !b.has("registry.test/store:1") || !b.has("registry.test/web:1") || b.has("kept:1") {
		t.Error("the engine holds other images than were pulled")
	}
}

func TestPullChoosesServices(t *testing.T) {
	tests := []struct {
		args  []string
		redis bool
	}{
		{[]string{"pull", "-q", "store"}, false},
		{[]string{"pull", "-q", "--include-deps", "store"}, true},
	}
	for _, tt := range tests {
		b := imagesBench(t, nil)
		b.engine.AddRemote("redis:7", fake.Image{})
		b.engine.AddRemote("registry.test/store:1", fake.Image{})
		if code := b.run(tt.args...); code != 0 {
			t.Fatalf("%v: exit code %d: %s", tt.args, code, b.err.String())
		}
		b.wantErr("")
		if !b.has("registry.test/store:1") || b.has("redis:7") != tt.redis {
			t.Errorf("%v: store %t, redis %t", tt.args, b.has("registry.test/store:1"), b.has("redis:7"))
		}
	}
}

func TestPullPolicyAndFailures(t *testing.T) {
	tests := []struct {
		name    string
		args    []string
		code    int
		wantErr []string
	}{
		{"missing is there", []string{"pull", "--policy", "missing", "cache"}, 0, []string{" Service cache  Skipped  Image is already present locally\n"}},
		{"always", []string{"pull", "--policy", "always", "cache"}, 1, []string{"berth: pull redis:7: "}},
		{"cannot be built", []string{"pull", "store"}, 1, []string{"berth: pull registry.test/store:1: "}},
		{"failures ignored", []string{"pull", "--ignore-pull-failures", "store"}, 0, []string{"warning: pull registry.test/store:1: "}},
		{"can be built", []string{"pull", "web"}, 1, []string{"warning: some service images must be built from source by running: berth build web\n", "berth: pull registry.test/web:1: "}},
		{"buildable ignored", []string{"pull", "--ignore-buildable", "web"}, 0, []string{" Service web  Skipped  Image can be built\n"}},
		{"dry run", []string{"--dry-run", "pull", "store"}, 0, []string{" Image registry.test/store:1  Would be pulled\n"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := imagesBench(t, nil)
			b.engine.AddImage("redis:7", fake.Image{})
			if code := b.run(tt.args...); code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			for _, want := range tt.wantErr {
				b.wantInErr(want)
			}
		})
	}
}

func TestPush(t *testing.T) {
	b := imagesBench(t, nil)
	b.engine.AddImage("registry.test/web:1", fake.Image{})
	if code := b.run("push", "web", "cache"); code != 1 {
		t.Errorf("exit code %d, want 1: one of web's tags is missing", code)
	}
	b.wantInErr(" Service cache  Skipped\n")
	b.wantInErr("berth: push registry.test/web:extra: ")
	b.reset()
	if code := b.run("push", "--ignore-push-failures", "web"); code != 0 {
		t.Errorf("exit code %d: %s", code, b.err.String())
	}
	b.wantInErr(" Image registry.test/web:1  Pushed\n")
	b.wantInErr("warning: push registry.test/web:extra: ")
	if _, err := b.engine.ImageDigest(t.Context(), "registry.test/web:1"); err != nil {
		t.Errorf("the registry does not hold it: %v", err)
	}
}

func TestBuildHandsTheFlagsOn(t *testing.T) {
	var got []*runtime.Build
	b := imagesBench(t, func(build *runtime.Build) (fake.Image, error) {
		got = append(got, build)
		return fake.Image{}, nil
	})
	b.environ = append(b.environ, "MINE=from here")
	code := b.run("build", "--build-arg", "FROM_FLAG=2", "--build-arg", "MINE", "--build-arg", "NOT_SET", "--no-cache", "--pull", "-m", "64m", "--push", "web", "cache")
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, b.err.String())
	}
	if len(got) != 1 {
		t.Fatalf("%d builds, want 1", len(got))
	}
	build := got[0]
	if !build.NoCache || !build.Pull || build.MemoryBytes != 64<<20 {
		t.Errorf("%+v", build)
	}
	args := joinLabels(build.Args)
	if want := "FROM_FILE=1,FROM_FLAG=2,MINE=from here"; args != want {
		t.Errorf("arguments %s, want %s", args, want)
	}
	b.wantInErr(" Image registry.test/web:1  Built\n")
	b.wantInErr(" Image registry.test/web:1  Pushed\n")
	b.wantInErr(" Image registry.test/web:extra  Pushed\n")
	b.wantOut("")
}

func TestBuildSaysWhatItWouldDo(t *testing.T) {
	b := imagesBench(t, nil)
	if code := b.run("--dry-run", "build"); code != 0 {
		t.Errorf("exit code %d: %s", code, b.err.String())
	}
	b.wantOut("build tool: shop-tool\nbuild web: registry.test/web:1, registry.test/web:extra\n")
	b.reset()
	if code := b.run("build", "cache"); code != 0 {
		t.Errorf("exit code %d: %s", code, b.err.String())
	}
	b.wantErr("warning: no services to build\n")
	b.reset()
	if code := b.run("build", "-m", "much", "web"); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	b.wantErr(`berth: build: --memory "much" is not a size; use one such as 512m` + "\n")
}

const configFile = `
name: shop
services:
  web:
    image: "web:${TAG:-1}"
    depends_on: [db]
    environment: {PRICE: "$$5"}
    env_file: [web.env]
  db:
    image: db:1
    volumes: ["data:/d"]
  extra: {image: "extra:1", profiles: [more]}
volumes: {data: {}}
`

func configBench(t *testing.T) *bench {
	t.Helper()
	b := newBench(t, configFile)
	b.write("web.env", "FROM_ENV_FILE=yes\n")
	return b
}

func TestConfigLists(t *testing.T) {
	tests := []struct{ args, want string }{
		{"config --services", "db\nweb\n"},
		{"--profile more config --services", "db\nextra\nweb\n"},
		{"config --services --no-interpolate", "db\nextra\nweb\n"}, // profiles need values,
		{"config --images", "db:1\nweb:1\n"},
		{"config --images db", "db:1\n"},
		{"config --volumes", "data\n"},
		{"config --networks", "default\n"},
		{"config --profiles", "more\n"},
		{"config --variables", "NAME      REQUIRED   DEFAULT VALUE   ALTERNATE VALUE\nTAG       false      1               \n"},
		{"config -q", ""},
		{"convert --quiet", ""},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			b := configBench(t)
			if code := b.run(strings.Fields(tt.args)...); code != 0 {
				t.Errorf("exit code %d: %s", code, b.err.String())
			}
			b.wantOut(tt.want)
			b.wantErr("")
		})
	}
}

func TestConfigHash(t *testing.T) {
	b := configBench(t)
	if code := b.run("config", "--hash", "*"); code != 0 {
		t.Errorf("exit code %d: %s", code, b.err.String())
	}
	all := strings.Split(strings.TrimSpace(b.out.String()), "\n")
	if len(all) != 2 || !strings.HasPrefix(all[0], "db ") || !strings.HasPrefix(all[1], "web ") {
		t.Fatalf("%q", all)
	}
	b.reset()
	b.run("config", "--hash", "web")
	b.wantOut(all[1] + "\n")
	b.reset()
	if code := b.run("config", "--hash", "nope"); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	b.wantErr("berth: no such service: nope\n")
}

func TestConfigPrintsWhatLoadsAgain(t *testing.T) {
	b := configBench(t)
	if code := b.run("config", "-o", "out.yaml"); code != 0 {
		t.Fatalf("exit code %d: %s", code, b.err.String())
	}
	b.wantOut("")
	b.run("config", "--hash", "*")
	want := b.out.String()
	b.reset()
	if code := b.run("-f", "out.yaml", "config", "--hash", "*"); code != 0 {
		t.Fatalf("exit code %d: %s", code, b.err.String())
	}
	b.wantOut(want)
	data, err := os.ReadFile(filepath.Join(b.dir, "out.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"PRICE: $$5", "FROM_ENV_FILE: \"yes\"", "image: web:1"} {
		if !strings.Contains(string(data), text) {
			t.Errorf("%q is missing in:\n%s", text, data)
		}
	}
}

func TestConfigForms(t *testing.T) {
	tests := []struct {
		args     string
		has, not []string
	}{
		{"config --format json db", []string{`"image": "db:1"`}, []string{"web:1"}},
		{"config --no-interpolate", []string{"web:${TAG:-1}", "PRICE: $$5"}, nil},
		{"config --no-env-resolution", []string{"env_file:"}, []string{"FROM_ENV_FILE"}},
		{"config", []string{"FROM_ENV_FILE"}, []string{"env_file:"}},
		{"config --environment", []string{"TERM=xterm\n"}, nil},
		{"config --variables --format json", []string{`"name": "TAG"`}, nil},
		{"config --variables --format yaml", []string{"TAG:\n"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			b := configBench(t)
			if code := b.run(strings.Fields(tt.args)...); code != 0 {
				t.Errorf("exit code %d: %s", code, b.err.String())
			}
			for _, text := range tt.has {
				b.wantInOut(text)
			}
			for _, text := range tt.not {
				if strings.Contains(b.out.String(), text) {
					t.Errorf("%q stands in:\n%s", text, b.out.String())
				}
			}
		})
	}
}

func TestConfigPinsImages(t *testing.T) {
	b := configBench(t)
	b.engine.AddRemote("web:1", fake.Image{})
	if code := b.run("config", "--resolve-image-digests"); code != 1 {
		t.Errorf("exit code %d, want 1: db:1 is not known", code)
	}
	b.wantInErr("berth: pin images: look up the digest of db:1: not known to the registry")
	b.engine.AddRemote("db:1", fake.Image{})
	digest, err := b.engine.ImageDigest(t.Context(), "web:1")
	if err != nil {
		t.Fatal(err)
	}
	b.reset()
	if code := b.run("config", "--lock-image-digests"); code != 0 {
		t.Fatalf("exit code %d: %s", code, b.err.String())
	}
	b.wantInOut("web:1@" + digest)
	if strings.Contains(b.out.String(), "depends_on") || strings.Contains(b.out.String(), "volumes") {
		t.Errorf("more than images:\n%s", b.out.String())
	}
}

func TestConfigOutputThatCannotBeWritten(t *testing.T) {
	b := configBench(t)
	if code := b.run("config", "-o", "no/such/folder.yaml"); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	b.wantErr("berth: config: save to no/such/folder.yaml: no such file or directory\n")
}

func TestVolumes(t *testing.T) {
	b := readBench(t)
	for _, key := range []string{"data", "other"} {
		spec := runtime.VolumeSpec{Name: "shop_" + key, Labels: runtime.ObjectLabels("me", "shop", runtime.LabelComposeVolume, key, "r", "v")}
		if _, err := b.engine.EnsureVolume(t.Context(), &spec); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.engine.EnsureVolume(t.Context(), &runtime.VolumeSpec{Name: "foreign"}); err != nil {
		t.Fatal(err)
	}
	b.makeWith("db", 1, &runtime.Spec{Image: "test", Mounts: []runtime.Mount{{Type: runtime.MountVolume, Source: "shop_data", Target: "/d"}}})
	b.make("web", 1)
	tests := []struct{ args, want string }{
		{"volumes -q", "shop_data\nshop_other\n"},
		{"volumes -q db", "shop_data\n"},
		{"volumes -q web", ""},
		{"volumes", "DRIVER    VOLUME NAME\nlocal     shop_data\nlocal     shop_other\n"},
		{"-p shop volumes --format {{.Name}}:{{.Scope}}:{{.Size}}", "shop_data:local:N/A\nshop_other:local:N/A\n"},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			b.t = t
			b.reset()
			if code := b.run(strings.Fields(tt.args)...); code != 0 {
				t.Errorf("exit code %d: %s", code, b.err.String())
			}
			b.wantOut(tt.want)
		})
	}
}
