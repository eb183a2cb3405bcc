package daemon

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/berth-dev/berth/health"
	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/reconcile"
	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/runtime/fake"
)

func TestMasked(t *testing.T) {
	pem := "-----BEGIN KEY-----\nQUJDREVGR0g=\nab\n-----END KEY-----\n"
	for name, c := range map[string]struct {
		text    string
		secrets []string
		want    string
	}{
		"none":               {"exit code 1", nil, "exit code 1"},
		"nothing of it":      {"exit code 1", []string{"hunter2"}, "exit code 1"},
		"alone":              {"hunter2", []string{"hunter2"}, "***"},
		"in the middle":      {"password=hunter2, user=me", []string{"hunter2"}, "password=***, user=me"},
		"twice":              {"hunter2hunter2 hunter2", []string{"hunter2"}, "*** ***"},
		"its line end":       {"hunter2.", []string{"hunter2\r\n"}, "***."},
		"too short":          {"yes or no", []string{"yes"}, "yes or no"},
		"four bytes":         {"pass", []string{"pass"}, "***"},
		"one within another": {"x-hunter2-y", []string{"hunter2", "x-hunter2-y"}, "***"},
		"overlapping":        {"abcdefghi", []string{"abcdef", "defghi"}, "***"},
		"overlaps itself":    {"ababa!", []string{"abab", "baba"}, "***!"},
		"several lines":      {"key: " + pem + "end", []string{pem}, "key: ***\nend"},
		"one of its lines":   {"bad line QUJDREVGR0g= of the key", []string{pem}, "bad line *** of the key"},
		"a short line of it": {"ab", []string{pem}, "ab"},
		"cut off":            {"value 0123456789", []string{"0123456789abcdef"}, "value ***"},
		"cut off early":      {"value 012345", []string{"0123456789abcdef"}, "value 012345"},
		"begins twice":       {"0123456701234567", []string{"01234567012345678"}, "***"},
		"not UTF-8":          {"a\xffsecret\xfe", []string{"\xffsecret"}, "a***\xfe"},
	} {
		t.Run(name, func(t *testing.T) {
			var secrets [][]byte
			for _, s := range c.secrets {
				secrets = append(secrets, []byte(s))
			}
			if got := masked(c.text, secrets); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

// Whatever is printed between, before and after secrets, none of them is shown,
// and what is no part of one stays.
func TestMaskedShowsNoSecret(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		secret := rapid.StringMatching(`[a-c]{4,12}`)
		secrets := rapid.SliceOfN(secret, 1, 4).Draw(t, "secrets")
		var text strings.Builder
		for range rapid.IntRange(0, 6).Draw(t, "pieces") {
			text.WriteString(rapid.OneOf(rapid.SampledFrom(secrets), rapid.StringMatching(`[a-c ]{0,5}`)).Draw(t, "piece"))
		}
		var list [][]byte
		for _, s := range secrets {
			list = append(list, []byte(s))
		}
		got := masked(text.String(), list)
		for _, s := range secrets {
			if strings.Contains(got, s) {
				t.Fatalf("%q still shows %q: %q", text.String(), s, got)
			}
		}
		if n := strings.Count(text.String(), " "); strings.Count(got, " ") != n {
			t.Fatalf("%q has lost what no secret holds: %q", text.String(), got)
		}
	})
}

// Secrets of every source are known: contents given along, of steps before the
// start and one-offs too, and host files; configs are none.
func TestSecretsOfAStack(t *testing.T) {
	mounted := filepath.Join(t.TempDir(), "mounted.txt")
	if err := os.WriteFile(mounted, []byte("from-a-host-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := &Daemon{contents: &contents{dir: t.TempDir()}}
	files := map[string][]byte{
		"secret/a@1": []byte("of-the-service"), "secret/b@1": []byte("of-the-step"), "secret/c@1": []byte("of-the-one-off"), "config/d@1": []byte("of-the-config"),
	}
	if err := d.contents.put("shop", files); err != nil {
		t.Fatal(err)
	}
	spec := func(names ...string) runtime.Spec {
		var s runtime.Spec
		for _, n := range names {
			s.Files = append(s.Files, runtime.File{Name: n})
		}
		return s
	}
	l := &loop{d: d, name: "shop"}
	if got := l.redact("of-the-service"); got != "of-the-service" {
		t.Errorf("of no stack: %q", got)
	}
	l.record.Desired = &reconcile.Desired{
		Stack: &stack.Stack{
			Services: []stack.Service{{
				Name: "web", Spec: spec("secret/a@1", "config/d@1", "secret/gone@1"),
				PreStart: []stack.Init{{Spec: spec("secret/b@1")}},
			}},
			SecretFiles: []string{mounted, filepath.Join(t.TempDir(), "gone.txt"), t.TempDir()},
		},
		OneOffs: []reconcile.OneOff{{Spec: spec("secret/c@1")}},
	}
	got := l.redact("of-the-service of-the-step of-the-one-off from-a-host-file of-the-config")
	if want := "*** *** *** *** of-the-config"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if err := d.contents.keepOnly("shop", fileNames(l.record.Desired)); err != nil {
		t.Fatal(err)
	}
	if _, err := d.contents.get("shop", "secret/b@1"); err != nil {
		t.Errorf("what a step before the start needs is dropped: %v", err)
	}
}

// What probes and healthchecks print is masked before it is kept.
func TestProbeOutputIsMasked(t *testing.T) {
	probing(t, func(t *testing.T, s *sim, c *checks) {
		c.output = "no login with hunter22"
		c.set(health.Readiness, "shop-web-1", true)
		st := shop(svc("web", 1, probe(health.Readiness), func(s *stack.Service) {
			s.Spec.Files = []runtime.File{{Name: "secret/db@1", Target: "/run/secrets/db"}}
		}))
		s.up(st, func(up *api.UpRequest) { up.Contents = map[string][]byte{"secret/db@1": []byte("hunter22\n")} })
		s.rest()
		status, err := s.d.status(s.ctx, "shop", true)
		if err != nil {
			t.Fatal(err)
		}
		told := strings.Join(s.told("shop"), "\n") + "\n" + status.Replicas[0].Reason + "\n" + s.log.String()
		if !strings.Contains(told, "no login with ***") || strings.Contains(told, "hunter22") {
			t.Errorf("told:\n%s", told)
		}
	})
}

// Neither a failing healthcheck, nor a hook, nor the last output of what others
// wait for shows a secret in a plan or the log.
func TestOutputsAreMasked(t *testing.T) {
	say := func(p *fake.Process) int {
		_, _ = io.WriteString(p.Stderr, "no login with hunter22\n") // a buffer takes everything
		return 1
	}
	cases := map[string]struct {
		work fake.Workload
		edit func(*stack.Service)
		want string
	}{
		"healthcheck": {fake.Workload{Exec: say}, checked, "shop-db-1 is unhealthy: no login with ***"},
		"hook": {fake.Workload{Exec: say}, func(s *stack.Service) { s.PostStart = []stack.Hook{{Command: []string{"setup"}}} },
			"setup exited with 1: no login with ***"},
		"last output": {fake.Workload{Main: say}, func(*stack.Service) {}, "its last output: no login with ***"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
				s.engine.Script("shop/db", c.work)
				st := shop(svc("db", 1, c.edit, func(s *stack.Service) {
					s.Spec.Files = []runtime.File{{Name: "secret/db@1", Target: "/run/secrets/db"}}
				}), svc("web", 1, after("db", stack.Healthy)))
				s.up(st, func(up *api.UpRequest) { up.Contents = map[string][]byte{"secret/db@1": []byte("hunter22\n")} })
				s.rest()
				told := s.plan("shop") + "\n" + s.log.String()
				if !strings.Contains(told, c.want) || strings.Contains(told, "hunter22") {
					t.Errorf("no %q in:\n%s", c.want, told)
				}
			})
		})
	}
}
