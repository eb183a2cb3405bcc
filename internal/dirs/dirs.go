// Package dirs says where Berth keeps things for one user and one Docker
// endpoint: the state, which outlives a reboot, and the runtime folder with the
// socket and the contents of secrets, which does not. Both client and daemon
// ask it, so that they meet.
package dirs

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
)

// Dirs are the folders and files of one user and endpoint.
type Dirs struct {
	State   string // one file per stack, the owner's id, the daemon's log
	Runtime string // socket and contents of secrets; mode 0700
}

// For returns the folders for a Docker endpoint, such as
// unix:///var/run/docker.sock. env reads the environment: XDG_STATE_HOME,
// XDG_RUNTIME_DIR and HOME count. Nothing is created.
func For(env func(string) string, endpoint string) (Dirs, error) {
	sum := sha256.Sum256([]byte(endpoint))
	key := hex.EncodeToString(sum[:6])
	state := env("XDG_STATE_HOME")
	if !filepath.IsAbs(state) {
		home := env("HOME")
		if home == "" {
			return Dirs{}, errors.New("neither XDG_STATE_HOME nor HOME is set: there is no place for the state; set one of them")
		}
		state = filepath.Join(home, ".local", "state")
	}
	return Dirs{State: filepath.Join(state, "berth", key), Runtime: filepath.Join(runtimeBase(env), key)}, nil
}

// runtimeBase is the folder below which runtime files go: the one the session
// provides, else one of the user's own in the temporary folder.
func runtimeBase(env func(string) string) string {
	if dir := env("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "berth")
	}
	uid := strconv.Itoa(os.Getuid())
	if dir := filepath.Join("/run/user", uid); private(dir) == nil {
		return filepath.Join(dir, "berth")
	}
	return filepath.Join(os.TempDir(), "berth-"+uid)
}

// Socket is the daemon's socket.
func (d Dirs) Socket() string { return filepath.Join(d.Runtime, "berth.sock") }

// Heritage is the socket at which a daemon that has ended hands its listening
// sockets to the next one.
func (d Dirs) Heritage() string { return filepath.Join(d.Runtime, "next.sock") }

// Lock is the file whose lock the daemon holds while it lives.
func (d Dirs) Lock() string { return filepath.Join(d.State, "lock") }

// Log is the daemon's log.
func (d Dirs) Log() string { return filepath.Join(d.State, "daemon.log") }

// Create makes the folders with mode 0700 where they are missing, and refuses
// to use one that another user could have prepared: a symbolic link, another
// owner, or one that others may write to.
func (d Dirs) Create() error {
	for _, dir := range []string{d.State, filepath.Dir(d.Runtime), d.Runtime} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("create folder: %w", err)
		}
		if err := private(dir); err != nil {
			return err
		}
	}
	return nil
}

// private reports why a folder is not safe to keep a socket or secrets in.
func private(dir string) error {
	info, err := os.Lstat(dir)
	switch {
	case err != nil:
		return err
	case info.Mode()&fs.ModeSymlink != 0:
		return fmt.Errorf("%s is a symbolic link; replace it by a folder of your own", dir)
	case !info.IsDir():
		return fmt.Errorf("%s is not a folder; remove it", dir)
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("%s may be written to by others (mode %04o); run chmod 700 %s", dir, info.Mode().Perm(), dir)
	case !ownedByUser(info):
		return fmt.Errorf("%s belongs to another user; remove it or set XDG_RUNTIME_DIR and XDG_STATE_HOME", dir)
	}
	return nil
}
