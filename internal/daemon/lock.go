package daemon

import (
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/gofrs/flock"
)

// ErrRunning says that another daemon keeps this user's stacks already.
var ErrRunning = errors.New("a daemon is running already")

// acquire takes the lock that only one daemon can hold. The lock goes with its
// process: a file that is left over is no obstacle.
func acquire(path string) (unlock func() error, err error) {
	lock := flock.New(path, flock.SetPermissions(0o600))
	held, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	if !held {
		return nil, fmt.Errorf("%w (lock %s)", ErrRunning, path)
	}
	return lock.Unlock, nil
}

// listenPrivate listens on a socket that only its owner may open. The folder
// is private too, so there is no moment at which others could connect.
func listenPrivate(path string) (net.Listener, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}
