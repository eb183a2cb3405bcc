//go:build !linux

package balance

import (
	"context"
	"errors"
	"net"
)

// share listens at a port beside the engine's proxies; this system does not allow it.
func share(context.Context, Frontend, *pool) ([]*net.TCPListener, error) {
	return nil, errors.ErrUnsupported
}
