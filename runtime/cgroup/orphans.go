package cgroup

import (
	"errors"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
)

// ownerName is what the cgroup of an installation is called: the beginning of its id.
var ownerName = regexp.MustCompile(`^[0-9a-f]{8}$`)

const opOrphans = "remove the cgroups of installations that are gone"

// RemoveOrphans removes from the hierarchies at [DefaultBase] the cgroups of
// installations that are gone: a daemon that was killed leaves them when somebody
// else removes its containers. It returns the names of those it removed, sorted.
// known reports whether the installation of a name may still be there. Whatever it
// says, a cgroup stays in which there is a process or the cgroup of a container, or
// anything that Berth did not make, and the kernel itself removes none that is in
// use. Slices are left to systemd. An error is of kind Unavailable, such as that
// this process may not change cgroups.
func RemoveOrphans(known func(owner string) bool) ([]string, error) {
	mounts, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, refused(opOrphans, "", err)
	}
	defer func() { _ = mounts.Close() }()
	t, err := findTree(DefaultBase, mounts)
	if err != nil {
		return nil, refused(opOrphans, "", err)
	}
	return t.removeOrphans(known)
}

func (t *tree) removeOrphans(known func(owner string) bool) (gone []string, err error) {
	owners, err := children(t.dirs, top)
	if err != nil {
		return nil, refused(opOrphans, "", err)
	}
	var errs []error
	for _, owner := range owners {
		if !ownerName.MatchString(owner) || known(owner) {
			continue
		}
		switch removed, err := t.removeOwner(path.Join(top, owner)); {
		case err != nil:
			errs = append(errs, refused(opOrphans, owner, err))
		case removed:
			gone = append(gone, owner)
		}
	}
	if len(gone) > 0 {
		t.tidy(path.Join(top, gone[0]))
	}
	return gone, errors.Join(errs...)
}

// removeOwner removes the cgroup of an installation with those of its nodes, if
// nothing is in them. It reports whether it did.
func (t *tree) removeOwner(rel string) (bool, error) {
	nodes, err := children(t.dirs, rel)
	if err != nil {
		return false, err
	}
	for _, node := range nodes {
		name, ours := strings.CutSuffix(node, nodeSuffix)
		below, err := children(t.dirs, path.Join(rel, node))
		if err != nil || !ours || !validName.MatchString(name) || len(below) > 0 {
			return false, err
		}
	}
	if in, err := t.occupied(rel); err != nil || len(in) > 0 {
		return false, err
	}
	for _, group := range append(slices.Clone(nodes), "") {
		for _, dir := range t.dirs {
			if used, err := t.removeUnused(filepath.Join(dir, rel, group)); used || err != nil {
				return false, err
			}
		}
	}
	return true, nil
}

// removeUnused removes one cgroup, and reports whether it could not since somebody
// has begun to use it.
func (t *tree) removeUnused(dir string) (used bool, err error) {
	err = t.kernel.rmdir(dir)
	used = errors.Is(err, syscall.EBUSY) || errors.Is(err, syscall.ENOTEMPTY)
	return used, ignoreUsed(err)
}
