package runtime_test

import (
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/berth-dev/berth/runtime"
)

func full() runtime.Identity {
	return runtime.Identity{
		Owner: "0f3c", Stack: "shop", Service: "web", Slot: 2, Revision: "abc123", Node: "east", OneOff: true,
		WorkingDir: "/srv/shop", ConfigFiles: []string{"compose.yaml", "compose.override.yaml"}, EnvFiles: []string{".env"},
		DependsOn: []string{"db:service_healthy:true", "cache:service_started:false"}, Version: "1.0", ImageID: "sha256:1f",
	}
}

func TestIdentityLabels(t *testing.T) {
	want := map[string]string{
		"io.berth.schema": "1", "io.berth.owner": "0f3c", "io.berth.stack": "shop", "io.berth.service": "web", "io.berth.slot": "2",
		"io.berth.revision": "abc123", "io.berth.node": "east", "io.berth.oneoff": "true",
		"com.docker.compose.project": "shop", "com.docker.compose.service": "web", "com.docker.compose.container-number": "2",
		"com.docker.compose.config-hash": "abc123", "com.docker.compose.oneoff": "True",
		"com.docker.compose.depends_on":          "db:service_healthy:true,cache:service_started:false",
		"com.docker.compose.project.working_dir": "/srv/shop", "com.docker.compose.project.config_files": "compose.yaml,compose.override.yaml",
		"com.docker.compose.project.environment_file": ".env", "com.docker.compose.version": "1.0", "com.docker.compose.image": "sha256:1f",
	}
	if got := full().Labels(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
}

func TestIdentityWithoutTheOptional(t *testing.T) {
	labels := runtime.Identity{Stack: "shop", Service: "web", Slot: 1}.Labels()
	for _, key := range []string{runtime.LabelNode, runtime.LabelOneOff, runtime.LabelComposeEnvFiles} {
		if v, ok := labels[key]; ok {
			t.Errorf("%s=%q is written for nothing", key, v)
		}
	}
	if labels[runtime.LabelComposeOneOff] != "False" {
		t.Errorf("oneoff is %q", labels[runtime.LabelComposeOneOff])
	}
}

func TestParseIdentityRefuses(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(map[string]string)
		says   string
	}{
		{"no schema", func(m map[string]string) { delete(m, runtime.LabelSchema) }, "not created by Berth"},
		{"other schema", func(m map[string]string) { m[runtime.LabelSchema] = "2" }, "knows schema 1"},
		{"no slot", func(m map[string]string) { delete(m, runtime.LabelSlot) }, runtime.LabelSlot},
		{"slot zero", func(m map[string]string) { m[runtime.LabelSlot] = "0" }, `"0" is not a slot number`},
		{"slot of words", func(m map[string]string) { m[runtime.LabelSlot] = "two" }, `"two" is not a slot number`},
		{"no stack", func(m map[string]string) { m[runtime.LabelStack] = "" }, "must not be empty"},
		{"no service", func(m map[string]string) { delete(m, runtime.LabelService) }, "must not be empty"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			labels := full().Labels()
			tt.change(labels)
			i, err := runtime.ParseIdentity(labels)
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %v, want one that says %q", err, tt.says)
			}
			if !reflect.DeepEqual(i, runtime.Identity{}) {
				t.Errorf("half an identity came with the error: %+v", i)
			}
		})
	}
}

func TestIdentityRoundTrip(t *testing.T) {
	name := rapid.StringMatching(`[a-z0-9][a-z0-9_-]{0,20}`)
	// A comma cannot be told from the separator, as in Compose.
	item := rapid.StringMatching(`[^,]{1,20}`)
	list := rapid.Custom(func(t *rapid.T) []string {
		if s := rapid.SliceOfN(item, 0, 4).Draw(t, "items"); len(s) > 0 {
			return s
		}
		return nil
	})
	rapid.Check(t, func(t *rapid.T) {
		want := runtime.Identity{
			Owner: rapid.String().Draw(t, "owner"), Stack: name.Draw(t, "stack"), Service: name.Draw(t, "service"),
			Slot: rapid.IntRange(1, 1<<31).Draw(t, "slot"), Revision: rapid.String().Draw(t, "revision"),
			Node: rapid.String().Draw(t, "node"), OneOff: rapid.Bool().Draw(t, "oneoff"), WorkingDir: rapid.String().Draw(t, "dir"),
			ConfigFiles: list.Draw(t, "files"), EnvFiles: list.Draw(t, "env files"), DependsOn: list.Draw(t, "depends"),
			Version: rapid.String().Draw(t, "version"), ImageID: rapid.String().Draw(t, "image"),
		}
		got, err := runtime.ParseIdentity(want.Labels())
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v\nwant %+v", got, want)
		}
		if !got.Same(want) {
			t.Fatal("the identity that was read back is not the same")
		}
	})
}

// FuzzIdentity feeds labels as anybody could have written them: parsing must
// not panic, and what it accepts must survive another round.
func FuzzIdentity(f *testing.F) {
	f.Add("1", "shop", "web", "1", "true", "a,b", "db:service_started:false")
	f.Add("2", "", "web", "x", "True", "", ",")
	f.Add("1", "shop", "web", "+7", "", ",,", "\x00\n")
	f.Fuzz(func(t *testing.T, schema, stack, service, slot, oneOff, files, depends string) {
		first, err := runtime.ParseIdentity(map[string]string{
			runtime.LabelSchema: schema, runtime.LabelStack: stack, runtime.LabelService: service, runtime.LabelSlot: slot,
			runtime.LabelOneOff: oneOff, runtime.LabelComposeFiles: files, runtime.LabelComposeDepends: depends,
		})
		if err != nil {
			return
		}
		if first.Slot < 1 || first.Stack == "" || first.Service == "" {
			t.Fatalf("accepted %+v", first)
		}
		second, err := runtime.ParseIdentity(first.Labels())
		if err != nil {
			t.Fatalf("its own labels are refused: %v", err)
		}
		if !reflect.DeepEqual(first, second) {
			t.Fatalf("first %+v\nthen %+v", first, second)
		}
	})
}

func TestSame(t *testing.T) {
	base := full()
	alike := base
	alike.Node, alike.Version, alike.WorkingDir, alike.ConfigFiles = "west", "2.0", "/elsewhere", nil
	if !base.Same(alike) {
		t.Error("a replica is another one because of where it was declared or runs")
	}
	for name, change := range map[string]func(*runtime.Identity){
		"owner":    func(i *runtime.Identity) { i.Owner = "x" },
		"stack":    func(i *runtime.Identity) { i.Stack = "x" },
		"service":  func(i *runtime.Identity) { i.Service = "x" },
		"slot":     func(i *runtime.Identity) { i.Slot++ },
		"revision": func(i *runtime.Identity) { i.Revision = "x" },
		"one-off":  func(i *runtime.Identity) { i.OneOff = !i.OneOff },
	} {
		other := base
		change(&other)
		if base.Same(other) || other.Same(base) {
			t.Errorf("another %s makes no difference", name)
		}
	}
}

func TestContainerName(t *testing.T) {
	if got := runtime.ContainerName("shop", "web", 12); got != "shop-web-12" {
		t.Error(got)
	}
}

func TestObjectLabels(t *testing.T) {
	got := runtime.ObjectLabels("0f3c", "shop", runtime.LabelComposeVolume, "data", "rev", "1.0")
	want := map[string]string{
		"io.berth.schema": "1", "io.berth.owner": "0f3c", "io.berth.stack": "shop", "io.berth.revision": "rev",
		"com.docker.compose.project": "shop", "com.docker.compose.volume": "data", "com.docker.compose.config-hash": "rev",
		"com.docker.compose.version": "1.0",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
}
