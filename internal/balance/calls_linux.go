package balance

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls that carry bytes are made without Go's scheduler being told. It need not
// be told of calls that never wait, and these do not: all sockets and pipes are
// non-blocking. When it is told, it takes the processor from a call that lasts longer
// than 20 µs, as carrying 64 KiB does, and gives it to a thread that is woken for it;
// a stream costs a fifth more processor time then.

func readOnce(fd int, p []byte) (int, error)  { return transfer(unix.SYS_READ, fd, p) }
func writeOnce(fd int, p []byte) (int, error) { return transfer(unix.SYS_WRITE, fd, p) }

// transfer reads or writes, as the number of the call says.
func transfer(call uintptr, fd int, p []byte) (int, error) {
	for {
		n, _, err := unix.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p))) // #nosec G103 -- p keeps the buffer
		if err != syscall.EINTR {
			return outcome(n, err)
		}
	}
}

// splice moves at most so many bytes; one of the two is a pipe.
func splice(from, to, most int) (int, error) {
	for {
		n, _, err := unix.RawSyscall6(unix.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(most), unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		if err != syscall.EINTR {
			return outcome(n, err)
		}
	}
}

func outcome(n uintptr, err syscall.Errno) (int, error) {
	if err != 0 {
		return 0, err
	}
	return int(n), nil
}
