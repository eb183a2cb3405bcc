//go:build !linux

package inside

import (
	"context"
	"errors"
	"net"

	"github.com/berth-dev/berth/runtime"
)

const onlyLinux = "this is not the machine that containers run on"

// Find says where this process is, as the containers of an engine see it.
func Find(runtime.EngineInfo) Place { return Place{Why: onlyLinux} }

// Dial connects from within the network namespace of a process of a container.
func Dial(context.Context, string, int, string) (net.Conn, error) { return nil, errors.New(onlyLinux) }

// Kill ends a process of a container with all that came of it.
func Kill(context.Context, string, int, string) error { return errors.New(onlyLinux) }

func killMarked(context.Context, string) error { return errors.New(onlyLinux) }
