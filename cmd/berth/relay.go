package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"sync"
	"syscall"

	"github.com/berth-dev/berth/internal/relay"
	"github.com/berth-dev/berth/runtime/cgroup"
	"github.com/berth-dev/berth/runtime/docker"
)

// relayMemory is what a relay's heap may use, below what its container may.
const relayMemory = 96 << 20 // bytes; a soft limit

// relayProgram returns what gives relays their program on an engine. Only one at
// a time looks for the image, so that it is imported once.
func relayProgram(engine *docker.Engine) func(ctx context.Context) (string, []string, error) {
	var mu sync.Mutex
	return func(ctx context.Context) (string, []string, error) {
		mu.Lock()
		defer mu.Unlock()
		image, err := cgroup.Image(ctx, engine, self)
		return image, []string{cgroup.HelperProgram, relay.Command}, err
	}
}

// serveRelay is the program in a relay's container. It returns the exit code.
func serveRelay(ctx context.Context, args []string, in io.Reader, out, complaints io.Writer) int {
	debug.SetMemoryLimit(relayMemory)
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := relay.Serve(ctx, args, in, out); err != nil {
		_, _ = fmt.Fprintln(complaints, "berth:", err) // nobody is left to be told
		return 1
	}
	return 0
}
