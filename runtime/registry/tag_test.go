package registry

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestNewer(t *testing.T) {
	for _, c := range []struct {
		tag, policy string
		tags        []string
		want        string
	}{
		{"1.2.3", Patch, []string{"1.2.2", "1.2.4", "1.2.10", "1.3.0", "2.0.0", "latest"}, "1.2.10"},
		{"1.2.3", Minor, []string{"1.2.4", "1.10.0", "1.9.9", "2.0.0", "1"}, "1.10.0"},
		{"1.2.3", Digest, []string{"1.2.4"}, "1.2.3"},
		{"1.2.3", "major", []string{"1.2.4"}, "1.2.3"},
		{"1.2.3", Patch, nil, "1.2.3"},
		{"1.2.3", Patch, []string{"1.2.3"}, "1.2.3"},
		// The same precision.
		{"1.4", Minor, []string{"1.5.2", "1.5", "2.0"}, "1.5"},
		{"1.4", Patch, []string{"1.5", "1.4.1"}, "1.4"},
		{"1.2.3.4", Patch, []string{"1.2.3.5", "1.2.4.1", "1.2.9", "1.3.0.0"}, "1.2.4.1"},
		{"22.04", Minor, []string{"22.10", "24.04"}, "22.10"},
		// The same prefix.
		{"v1.2.3", Patch, []string{"1.2.9", "v1.2.4", "V1.2.8"}, "v1.2.4"},
		{"1.2.3", Patch, []string{"v1.2.9"}, "1.2.3"},
		// The same variant.
		{"1.2.3-alpine", Patch, []string{"1.2.9", "1.2.4-alpine", "1.2.8-alpine3.20", "1.2.8-slim"}, "1.2.4-alpine"},
		{"1.2.3-alpine3.20", Minor, []string{"1.3.0-alpine", "1.3.0-alpine3.20", "1.4.0-alpine3.21"}, "1.3.0-alpine3.20"},
		{"1.2.3", Patch, []string{"1.2.4-alpine", "1.2.4_1"}, "1.2.3"},
		// Pre-releases.
		{"1.2.3", Minor, []string{"1.3.0-rc.1", "1.3.0-beta", "1.3.0rc1", "1.3.0-RC2"}, "1.2.3"},
		{"1.2.3-alpine", Minor, []string{"1.3.0-rc.1-alpine"}, "1.2.3-alpine"},
		{"1.3.0-rc.1", Minor, []string{"1.3.0-rc.2", "1.3.0-beta.9"}, "1.3.0-rc.2"},
		{"1.3.0-rc9", Patch, []string{"1.3.0-rc10", "1.3.0-rc2"}, "1.3.0-rc10"},
		{"1.3.0-rc.1", Patch, []string{"1.3.0-rc.2", "1.3.0"}, "1.3.0"},
		{"1.3.0-alpha", Patch, []string{"1.3.0-beta", "1.3.0-alpha.1"}, "1.3.0-beta"},
		{"1.3.0-rc1-alpine", Patch, []string{"1.3.0-rc2-alpine", "1.3.0-rc3", "1.3.1"}, "1.3.0-rc2-alpine"},
		// What does not count.
		{"latest", Patch, []string{"1.2.4"}, "latest"},
		{"1.2.3", Patch, []string{"", "v", "1..2.4", "1.2.99999999999999999999", "1.2.4\n", "1.2.-5"}, "1.2.3"},
		{"1.2.03", Patch, []string{"1.2.3"}, "1.2.03"},
	} {
		if got := Newer(c.tag, c.policy, c.tags); got != c.want {
			t.Errorf("Newer(%q, %s, %q) = %q, want %q", c.tag, c.policy, c.tags, got, c.want)
		}
	}
}

// Whatever a registry lists: what follows is one of its tags or the same one, the
// order of the list does not matter, and nothing follows what follows.
func TestNewerProperties(t *testing.T) {
	tag := rapid.Custom(func(t *rapid.T) string {
		n := func(name string) int { return rapid.IntRange(0, 12).Draw(t, name) }
		pre := rapid.SampledFrom([]string{"", "-rc", "-rc.", "-beta"}).Draw(t, "pre")
		if pre != "" {
			pre += fmt.Sprint(n("pre"))
		}
		variant := rapid.SampledFrom([]string{"", "-alpine"}).Draw(t, "variant")
		return rapid.SampledFrom([]string{"", "v"}).Draw(t, "prefix") + fmt.Sprintf("%d.%d.%d", n("a")%2, n("b"), n("c")) + pre + variant
	})
	rapid.Check(t, func(t *rapid.T) {
		now, tags := tag.Draw(t, "tag"), rapid.SliceOf(tag).Draw(t, "tags")
		policy := rapid.SampledFrom([]string{Patch, Minor}).Draw(t, "policy")
		next := Newer(now, policy, tags)
		if next != now && !slices.Contains(tags, next) {
			t.Fatalf("%q is none of the tags", next)
		}
		if again := Newer(next, policy, tags); again != next {
			t.Fatalf("%q is followed by %q", next, again)
		}
		slices.Reverse(tags)
		if other := Newer(now, policy, tags); other != next {
			t.Fatalf("the other way round it is %q, not %q", other, next)
		}
		from, _ := parse(now)
		to, _ := parse(next)
		if from.compare(to) > 0 || to.compare(from) < 0 {
			t.Fatalf("%q does not come after %q", next, now)
		}
	})
}

func FuzzNewer(f *testing.F) {
	f.Add("1.2.3-rc.1-alpine", "1.2.4-rc10")
	f.Add("v1.2", "v1.3")
	f.Fuzz(func(t *testing.T, tag, other string) {
		if got := Newer(tag, Minor, []string{other}); got != tag && got != other {
			t.Errorf("%q comes from nowhere", got)
		}
		if a, ok := parse(tag); ok && a.compare(a) != 0 {
			t.Errorf("%q is not itself", tag)
		}
	})
}
