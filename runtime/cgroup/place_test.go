package cgroup

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/berth-dev/berth/runtime"
)

func TestPlaces(t *testing.T) {
	for _, c := range []struct{ driver, node, parent, rel string }{
		{DriverCgroupfs, "edge-1", "/berth/01234567/edge-1.node", "berth/01234567/edge-1.node"},
		{DriverCgroupfs, "tasks", "/berth/01234567/tasks.node", "berth/01234567/tasks.node"},
		{DriverSystemd, "edge", "berth-01234567-edge.slice", "berth.slice/berth-01234567.slice/berth-01234567-edge.slice"},
		{DriverSystemd, "edge-1.a_b", `berth-01234567-edge\x2d1.a_b.slice`, `berth.slice/berth-01234567.slice/berth-01234567-edge\x2d1.a_b.slice`},
	} {
		p, err := placeOf(c.driver, testOwner, c.node)
		if err != nil || p.parent != c.parent || p.rel != c.rel {
			t.Errorf("%s %s: %+v, %v", c.driver, c.node, p, err)
		}
	}
}

func TestPlacesRefused(t *testing.T) {
	for _, c := range []struct{ driver, owner, node, says string }{
		{DriverCgroupfs, testOwner, "", "the name must be"},
		{DriverCgroupfs, testOwner, "..", "the name must be"},
		{DriverCgroupfs, testOwner, "a/b", "the name must be"},
		{DriverCgroupfs, testOwner, "a\nb", "the name must be"},
		{DriverCgroupfs, testOwner, strings.Repeat("a", 64), "at most 63"},
		{DriverSystemd, testOwner, "a" + strings.Repeat("-", 62), "give the node a shorter name"},
		{DriverCgroupfs, "", "a", "the id must be"},
		{DriverCgroupfs, "../x", "a", "the id must be"},
		{"none", testOwner, "a", `cgroup driver "none"`},
	} {
		if _, err := placeOf(c.driver, c.owner, c.node); !runtime.IsInvalid(err) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// A node is known by its cgroup, no two share one, and each stays where it belongs.
func TestPlacesAreOneToOne(t *testing.T) {
	name := rapid.StringMatching(`[A-Za-z0-9][A-Za-z0-9_.-]{0,20}`)
	rapid.Check(t, func(t *rapid.T) {
		driver := rapid.SampledFrom([]string{DriverCgroupfs, DriverSystemd}).Draw(t, "driver")
		a, b := name.Draw(t, "a"), name.Draw(t, "b")
		pa, err := placeOf(driver, testOwner, a)
		if err != nil {
			t.Fatal(err)
		}
		pb, err := placeOf(driver, testOwner, b)
		if err != nil {
			t.Fatal(err)
		}
		if (a == b) != (pa == pb) {
			t.Fatalf("%q and %q: %+v and %+v", a, b, pa, pb)
		}
		above, err := placeOfOwner(driver, testOwner)
		if err != nil {
			t.Fatal(err)
		}
		base, ok := strings.CutPrefix(pa.rel, above.rel+"/")
		if !ok || strings.Contains(base, "/") {
			t.Fatalf("%s is not right below %s", pa.rel, above.rel)
		}
		if driver == DriverSystemd && strings.Count(base, "-") != 2 {
			t.Fatalf("the slice %s is nested by the node's name", base)
		}
		if got, ok := nodeOf(driver, testOwner, base); !ok || got != a {
			t.Fatalf("%s is said to be of %q", base, got)
		}
	})
}

func TestNodeOfForeignCgroups(t *testing.T) {
	for _, c := range []struct{ driver, base string }{
		{DriverCgroupfs, "edge"}, {DriverCgroupfs, ".node"}, {DriverCgroupfs, "0123456789abcdef"},
		{DriverSystemd, "berth-01234567.slice"}, {DriverSystemd, "berth-fedcba98-edge.slice"}, {DriverSystemd, "berth-01234567-edge.scope"}, {DriverSystemd, "system.slice"},
	} {
		if node, ok := nodeOf(c.driver, testOwner, c.base); ok {
			t.Errorf("%s is taken for the cgroup of node %q", c.base, node)
		}
	}
}

func TestContainerOf(t *testing.T) {
	for base, want := range map[string]string{"0123abcd": "0123abcd", "docker-0123abcd.scope": "0123abcd"} {
		if got := containerOf(base); got != want {
			t.Errorf("%s: %s", base, got)
		}
	}
}
