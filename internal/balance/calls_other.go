//go:build !linux

package balance

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

func readOnce(fd int, p []byte) (int, error)  { return retry(unix.Read, fd, p) }
func writeOnce(fd int, p []byte) (int, error) { return retry(unix.Write, fd, p) }

// retry calls again as long as a signal interrupts.
func retry(call func(int, []byte) (int, error), fd int, p []byte) (int, error) {
	for {
		n, err := call(fd, p)
		if !errors.Is(err, syscall.EINTR) {
			return max(n, 0), err
		}
	}
}
