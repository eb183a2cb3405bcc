package main

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// burn computes until it has used so much cpu time, however long a throttled
// container takes for that, or until ctx ends. It returns what it has used.
func burn(ctx context.Context, work time.Duration) (time.Duration, error) {
	runtime.LockOSThread() // the clock is the thread's
	defer runtime.UnlockOSThread()
	begin, err := threadTime()
	if err != nil {
		return 0, err
	}
	x := uint64(1)
	for {
		for range 20_000 {
			x ^= x << 13
			x ^= x >> 7
			x ^= x << 17
		}
		now, err := threadTime()
		if err != nil {
			return 0, err
		}
		if x == 0 { // it never is, which the compiler does not know
			return 0, nil
		}
		if used := now - begin; used >= work || ctx.Err() != nil {
			return used, nil
		}
	}
}

// threadTime is the cpu time that this thread has used.
func threadTime() (time.Duration, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		return 0, fmt.Errorf("read the clock of the thread: %w", err)
	}
	return time.Duration(ts.Nano()), nil
}
