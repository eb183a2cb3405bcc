package stack_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/berth-dev/berth/internal/stack"
)

// updating is a file whose service has an image and an imageUpdate on line 4.
func updating(image, update string) string {
	return fmt.Sprintf("services:\n  web:\n    image: %s\n    x-berth: {imageUpdate: {%s}}\n", image, update)
}

func TestImageUpdate(t *testing.T) {
	const nightly = "schedule: '0 4 * * *'"
	of := func(policy string) *stack.ImageUpdate {
		return &stack.ImageUpdate{Schedule: "0 4 * * *", Policy: policy}
	}
	for _, c := range []struct {
		image, update string
		want          *stack.ImageUpdate
	}{
		{"a", nightly, of("digest")},
		{"a:latest", nightly + ", policy: digest", of("digest")},
		{"a", "schedule: '@daily'", &stack.ImageUpdate{Schedule: "@daily", Policy: "digest"}},
		{"a", "policy: none", nil},
		{"a@sha256:" + strings.Repeat("0", 64), nightly + ", policy: none", nil},
		{"host:5000/a/b:v1.4.2-alpine", nightly + ", policy: patch", of("patch")},
		{"a:1.4.2", nightly + ", policy: minor", of("minor")},
		{"postgres:16.4", nightly + ", policy: minor", of("minor")},
		{"\"a:1.4.${N}\"", nightly + ", policy: patch", of("patch")},
	} {
		dir := project(t, map[string]string{"compose.yaml": updating(c.image, c.update)})
		got, err := stack.Load(t.Context(), stack.LoadOptions{WorkingDir: dir, Environ: []string{"N=7"}})
		if err != nil {
			t.Errorf("%s, %s: %v", c.image, c.update, err)
			continue
		}
		if u := got.Stack.Services[0].ImageUpdate; !reflect.DeepEqual(u, c.want) {
			t.Errorf("%s, %s: %+v, want %+v", c.image, c.update, u, c.want)
		}
	}
}

func TestWrongImageUpdate(t *testing.T) {
	const at, nightly = "compose.yaml:4: services.web.x-berth.imageUpdate", "schedule: '0 4 * * *'"
	for _, c := range []struct{ image, update, want string }{
		{"a", "policy: digest", at + `: does not say when; give a schedule: such as "0 4 * * *", each day at four`},
		{"a", "", at + ": does not say when"},
		{"a", "schedule: daily", at + `.schedule: "daily": `},
		{"a", "schedule: '0 4 * *'", at + `.schedule: "0 4 * *": `},
		{"a", "schedule: '60 4 * * *'", at + `.schedule: "60 4 * * *": `},
		{"a", "schedule: '0 4 30 2 *'", at + `.schedule: "0 4 30 2 *": never comes`},
		{"a", "schedule: '@every 5m'", at + `.schedule: "@every 5m": `},
		{"a", "schedule: '" + strings.Repeat("*", 257) + "'", at + ".schedule: is longer than a cron expression can be"},
		{"a", "schedule: \"0 4\\n* *\"", at + `.schedule: "0 4\n* *": `},
		{"a", "schedule: nonsense, policy: none", at + `.schedule: "nonsense": `},
		{"a", nightly + ", policy: major", at + `.policy: "major" is not one of digest, patch, minor, none`},
		{"a@sha256:" + strings.Repeat("0", 64), nightly, at + ": the image is pinned by its digest (compose.yaml:3), so it never changes; drop one of them"},
		{"sha256:" + strings.Repeat("0", 64), nightly, at + ": the image is pinned by its digest (compose.yaml:3)"},
		{"'" + strings.Repeat("0", 64) + "'", nightly, at + ": the image is pinned by its digest (compose.yaml:3)"},
		{"a", nightly + ", policy: patch", at + `: the policy patch counts up the third number of a tag such as 1.4.2, which "latest" has not`},
		{"a:1.4", nightly + ", policy: patch", at + `: the policy patch counts up the third number of a tag such as 1.4.2, which "1.4" has not`},
		{"a:1", nightly + ", policy: minor", at + `: the policy minor counts up the second number of a tag such as 1.4 or 1.4.2, which "1" has not`},
		{"a\n    pull_policy: never", nightly, "compose.yaml:5: services.web.x-berth.imageUpdate: looks for a newer image, but pull_policy: never (compose.yaml:4) forbids to pull it; drop one of them"},
		{"a\n    build: .", nightly, "compose.yaml:5: services.web.x-berth.imageUpdate: the image is built here (compose.yaml:4), so no registry has a newer one; drop one of them"},
	} {
		dir := project(t, map[string]string{"compose.yaml": updating(c.image, c.update)})
		_, err := stack.Load(t.Context(), stack.LoadOptions{WorkingDir: dir})
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.ContainsAny(err.Error(), "\n") || len(err.Error()) > 1000 {
			t.Errorf("%s, %s\n got %v\nwant %s", c.image, c.update, err, c.want)
		}
	}
}
