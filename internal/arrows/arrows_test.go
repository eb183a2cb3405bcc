// Package arrows holds no code: its test keeps the arrows between the module's
// packages as ARCHITECTURE.md draws them.
package arrows_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/berth-dev/berth/"

// mayImport lists, for each package of the module (a trailing slash stands for
// everything below), what else of the module it may import. A package that is
// not listed fails the test: draw its arrows first.
var mayImport = []struct {
	pkg  string
	from []string
}{
	{"runtime", nil},
	{"runtime/docker", []string{"runtime"}},
	{"runtime/peer", nil},
	{"runtime/cgroup", []string{"runtime", "runtime/peer"}},
	{"runtime/inside", []string{"runtime", "runtime/peer"}},
	{"runtime/registry", []string{"runtime"}},
	{"runtime/usage", []string{"runtime"}},
	{"runtime/fake", []string{"runtime"}},
	{"runtime/enginetest/", []string{"runtime"}},
	{"internal/dirs", nil},
	{"scheduler", []string{"runtime"}},
	{"scheduler/bench", []string{"scheduler"}},
	{"health", []string{"runtime"}},
	{"scaling", []string{"runtime"}},
	{"scaling/forecast", nil},
	{"scaling/simulate", []string{"scaling", "scaling/forecast", "scaling/timetable"}},
	{"scaling/timetable", []string{"scaling"}},
	{"scaling/vertical", nil},
	{"internal/stack", []string{"runtime", "scheduler", "health", "scaling/"}},
	{"internal/reconcile", []string{"runtime", "scheduler", "health", "scaling/", "internal/stack"}},
	{"internal/api", []string{"runtime", "scheduler", "health", "scaling/", "internal/stack", "internal/reconcile"}},
	{"internal/balance", []string{"runtime"}},
	{"internal/meter", []string{"runtime", "health", "internal/stack"}},
	{"internal/relay", []string{"internal/balance"}},
	{"internal/daemon", []string{"runtime", "scheduler", "health", "scaling/", "internal/stack", "internal/reconcile", "internal/api", "internal/balance", "internal/relay", "internal/dirs"}},
	{"internal/client", []string{"runtime", "internal/stack", "internal/reconcile", "internal/api", "internal/dirs"}},
	{"internal/plot", nil},
	{"internal/cli", []string{"runtime", "scheduler", "health", "scaling/", "internal/stack", "internal/reconcile", "internal/api", "internal/client", "internal/dirs", "internal/plot"}},
	{"cmd/berth", []string{"runtime", "runtime/docker", "runtime/cgroup", "runtime/inside", "runtime/registry", "runtime/usage", "health", "internal/"}},
	{"internal/testimage/", []string{"runtime"}},
	{"integration/", []string{"runtime", "runtime/", "internal/", "integration/"}},
	{"compose-examples", nil},
	{"compose-examples/quickstart/", []string{"compose-examples/quickstart/"}},
	{"compose-examples/selfheal/", []string{"compose-examples/selfheal/"}},
	{"compose-examples/rollout/", []string{"compose-examples/rollout/"}},
	{"compose-examples/autoscale/", []string{"compose-examples/autoscale/"}},
	{"compose-examples/shop/", []string{"compose-examples/shop/"}},
	{"compose-examples/images/", nil},
}

// owners lists the modules that only some packages may import.
var owners = map[string][]string{
	"github.com/docker/docker/":         {"runtime/docker", "integration/"},
	"github.com/docker/go-connections/": {"runtime/docker", "integration/"},
	"github.com/docker/cli/":            {"runtime/docker", "integration/"},
	"github.com/moby/":                  {"runtime/docker", "integration/"},
	"github.com/testcontainers/":        {"integration/"},
	"github.com/compose-spec/":          {"internal/stack"},
	"github.com/netresearch/":           {"scaling/timetable"},
	"github.com/spf13/cobra":            {"internal/cli", "cmd/berth"},
	"github.com/godbus/":                {"runtime/cgroup"},
	"github.com/prometheus/":            {"internal/meter"},
	"charm.land/":                       {"internal/cli"},
	"github.com/jackc/":                 {"compose-examples/shop/"},
	"github.com/redis/":                 {"compose-examples/shop/"},
}

// listed is what `go list -json` says of one package.
type listed struct {
	ImportPath   string
	Imports      []string
	TestImports  []string
	XTestImports []string
	Standard     bool
}

func list(t *testing.T, args ...string) []listed {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list", "-json=ImportPath,Imports,TestImports,XTestImports,Standard"}, args...)...)
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatalf("go list: %v", err)
	}
	var all []listed
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		all = append(all, p)
	}
	if len(all) == 0 {
		t.Fatal("go list named no package")
	}
	return all
}

// matches says whether pkg is what, or is below it where what ends in a slash.
func matches(pkg, what string) bool {
	return pkg == strings.TrimSuffix(what, "/") || strings.HasSuffix(what, "/") && strings.HasPrefix(pkg, what)
}

func anyMatches(pkg string, whats []string) bool {
	return slices.ContainsFunc(whats, func(w string) bool { return matches(pkg, w) })
}

func TestArrowsBetweenPackages(t *testing.T) {
	for _, p := range list(t, "./...") {
		pkg := strings.TrimPrefix(p.ImportPath, module)
		if pkg == "internal/arrows" {
			continue
		}
		i := slices.IndexFunc(mayImport, func(r struct {
			pkg  string
			from []string
		}) bool {
			return matches(pkg, r.pkg)
		})
		if i < 0 {
			t.Errorf("%s has no arrows here: say what it may import", pkg)
			continue
		}
		for _, imported := range p.Imports {
			ours, ok := strings.CutPrefix(imported, module)
			if ok && !anyMatches(ours, mayImport[i].from) {
				t.Errorf("%s imports %s, and may import only %q", pkg, ours, mayImport[i].from)
			}
		}
	}
}

func TestOnlyOwnersImportTheirModule(t *testing.T) {
	for _, p := range list(t, "./...") {
		pkg := strings.TrimPrefix(p.ImportPath, module)
		for _, imported := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
			for prefix, own := range owners {
				if strings.HasPrefix(imported, prefix) && !anyMatches(pkg, own) {
					t.Errorf("%s imports %s, which only %q may", pkg, imported, own)
				}
			}
		}
	}
}

// The whole of what the vocabulary and the pure packages pull in is the standard
// library and, for the latter, the vocabulary.
func TestPurePackagesPullInNothing(t *testing.T) {
	known := list(t, "./...")
	for _, pure := range []string{"runtime", "scheduler", "health", "scaling"} {
		if !slices.ContainsFunc(known, func(p listed) bool { return p.ImportPath == module+pure }) {
			continue // not part of the module yet
		}
		for _, dep := range list(t, "-deps", "./"+pure) {
			if !dep.Standard && dep.ImportPath != module+pure && dep.ImportPath != module+"runtime" {
				t.Errorf("%s pulls in %s", pure, dep.ImportPath)
			}
		}
	}
}

// The binary contains no test double and no test harness.
func TestBinaryHasNoTestCode(t *testing.T) {
	for _, dep := range list(t, "-deps", "./cmd/berth") {
		for _, unwanted := range []string{module + "runtime/fake", module + "runtime/enginetest", "github.com/testcontainers/", "github.com/stretchr/", "testing"} {
			if dep.ImportPath == unwanted || strings.HasSuffix(unwanted, "/") && strings.HasPrefix(dep.ImportPath, unwanted) {
				t.Errorf("cmd/berth pulls in %s", dep.ImportPath)
			}
		}
	}
}
