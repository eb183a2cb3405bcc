package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/berth-dev/berth/runtime"
)

// Orphans removes what installations of Berth that are gone have left in the
// kernel, and returns whose it was. known reports whether an installation may still
// be there, by the beginning of its id.
type Orphans func(known func(owner string) bool) ([]string, error)

// removeOrphans removes what installations that are gone have left. Which these are
// must be certain: where it cannot be told, nothing is removed.
func (d *Daemon) removeOrphans(ctx context.Context) {
	if d.cfg.Orphans == nil || d.health.away() != nil {
		return
	}
	ids, err := d.installations(ctx)
	if err != nil {
		d.cfg.Log.Debug().Err(err).Msg("whose cgroups may be removed cannot be told; none is")
		return
	}
	gone, err := d.cfg.Orphans(func(owner string) bool {
		return slices.ContainsFunc(ids, func(id string) bool { return strings.HasPrefix(id, owner) })
	})
	if err != nil {
		d.cfg.Log.Debug().Err(err).Msg("the cgroups of installations that are gone cannot be removed")
	}
	if len(gone) > 0 {
		d.cfg.Log.Info().Strs("owners", gone).Msg("the empty cgroups of installations that are gone were removed")
	}
}

// installations are the ids of those that may still be there: this one, those
// whose state lies beside this one's, those of which the engine has a container,
// stopped ones too, and those whose daemon runs.
func (d *Daemon) installations(ctx context.Context) ([]string, error) {
	ids := []string{d.owner}
	beside, err := filepath.Glob(filepath.Join(filepath.Dir(d.cfg.Dirs.State), "*", ownerFile))
	if err != nil {
		return nil, err
	}
	for _, path := range beside {
		id, err := readOwner(path)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	all, err := d.cfg.Engine.List(ctx, runtime.Filter{})
	if err != nil {
		return nil, err
	}
	for i := range all {
		if id := all[i].Labels[runtime.LabelOwner]; id != "" {
			ids = append(ids, id)
		}
	}
	running, err := runningOwners(d.proc)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(running, d.owner) {
		return nil, errors.New("the daemons of this machine are not to be seen: not even this one")
	}
	return append(ids, running...), nil
}

func readOwner(path string) (string, error) {
	data, err := os.ReadFile(path) // #nosec G304 -- of a state folder
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(data)), nil
}

// runningOwners are the ids of the installations whose daemons run, by the lock
// that each has open beside its id. It fails where a process cannot be looked into,
// or a daemon's id cannot be read.
func runningOwners(proc string) ([]string, error) {
	fds, err := filepath.Glob(filepath.Join(proc, "[0-9]*", "fd"))
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, dir := range fds {
		entries, err := os.ReadDir(dir)
		if err != nil && !ended(err) {
			return nil, fmt.Errorf("look for daemons: %w", err)
		}
		for _, e := range entries {
			to, err := os.Readlink(filepath.Join(dir, e.Name()))
			if err != nil || !isLock(to) {
				continue // it was closed meanwhile, or is something else
			}
			id, err := readOwner(filepath.Join(filepath.Dir(dir), "root", filepath.Dir(to), ownerFile))
			if err != nil {
				return nil, fmt.Errorf("read whose daemon process %s is: %w", filepath.Base(filepath.Dir(dir)), err)
			}
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// ended reports whether an error says that a process is gone.
func ended(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) }

// isLock reports whether a path is that of a daemon's lock: <state>/berth/<key>/lock,
// also when it was deleted meanwhile.
func isLock(path string) bool {
	dir, name := filepath.Split(strings.TrimSuffix(path, " (deleted)"))
	return name == "lock" && filepath.Base(filepath.Dir(filepath.Clean(dir))) == "berth"
}
