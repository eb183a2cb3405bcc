//go:build unix

package usage

import "syscall"

// mostOpen bounds the files that are kept open whatever the process may open.
const mostOpen = 4096

// maxOpen is how many files are kept open by default.
func maxOpen() int {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return -1
	}
	return int(min(uint64(l.Cur)/4, mostOpen)) //nolint:unconvert // bounded; signed on some systems
}
