//go:build !linux

package peer

import "errors"

// Listener fails: only Linux tells who listens at a socket.
func Listener(string) (pid int, err error) {
	return 0, errors.New("this system does not tell who listens at a socket")
}
