package cgroup

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// Of the cgroups of installations, only those go that are empty, that nobody
// knows, and that Berth made.
func TestRemoveOrphans(t *testing.T) {
	for name, open := range map[string]func(*testing.T) (*model, *tree){"v1": newV1, "v2": newV2} {
		t.Run(name, func(t *testing.T) {
			m, tr := open(t)
			for _, rel := range []string{
				"berth/0000000a/edge-1.node", "berth/0000000a/edge-2.node", // left behind
				"berth/0000000b",                    // left behind, half removed
				"berth/0000000c/edge-1.node",        // of an installation that is known
				"berth/0000000d/edge-1.node/c0ffee", // with a container
				"berth/0000000e/edge-1.node",        // with a process
				"berth/0000000f/edge-1",             // not Berth's
				"berth/somebody", "other/0000000a",  // neither
			} {
				_, err := tr.make(rel)
				m.must(t, err)
			}
			for _, dir := range tr.limiting() {
				m.must(t, os.WriteFile(filepath.Join(dir, "berth/0000000e/edge-1.node/cgroup.procs"), []byte("42\n"), 0o600))
			}
			gone, err := tr.removeOrphans(func(owner string) bool { return owner == "0000000c" })
			if err != nil || !slices.Equal(gone, []string{"0000000a", "0000000b"}) {
				t.Fatalf("removed %v, %v", gone, err)
			}
			left, err := children(tr.dirs, "berth")
			m.must(t, err)
			if want := []string{"0000000c", "0000000d", "0000000e", "0000000f", "somebody"}; !slices.Equal(left, want) {
				t.Errorf("left are %v, want %v", left, want)
			}
			for _, rel := range []string{"berth/0000000c/edge-1.node", "berth/0000000d/edge-1.node/c0ffee", "berth/0000000e/edge-1.node", "berth/0000000f/edge-1", "other/0000000a"} {
				if !tr.exists(rel) {
					t.Errorf("%s is gone", rel)
				}
			}
			if gone, err := tr.removeOrphans(func(string) bool { return true }); len(gone) > 0 || err != nil {
				t.Errorf("removed %v of those that are known, %v", gone, err)
			}
		})
	}
}

// The folder of all installations goes with the last of them.
func TestRemoveLastOrphan(t *testing.T) {
	m, tr := newV1(t)
	_, err := tr.make("berth/0000000a/edge-1.node")
	m.must(t, err)
	gone, err := tr.removeOrphans(func(string) bool { return false })
	if err != nil || len(gone) != 1 || tr.exists("berth") {
		t.Errorf("removed %v, %v", gone, err)
	}
}
