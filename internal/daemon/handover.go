package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/berth-dev/berth/internal/balance"
	"github.com/berth-dev/berth/internal/dirs"
)

// Heritage are the sockets of a daemon that has ended, on their way to the next
// one. While they wait nobody accepts, so the kernel keeps who connects.
type Heritage struct {
	all  []balance.Handover
	sock net.Listener
}

// Bequeath offers the listening sockets of a daemon that has ended to the next
// one. nil: it had none. It is to be called while the daemon's lock is still
// held, so that the next one finds the offer.
func Bequeath(folders dirs.Dirs, b *balance.Balancer) (*Heritage, error) {
	all, err := b.Export()
	if len(all) == 0 {
		return nil, err
	}
	if err := os.Remove(folders.Heritage()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, errors.Join(err, closeFiles(all))
	}
	sock, listenErr := listenPrivate(folders.Heritage())
	if listenErr != nil {
		return nil, errors.Join(err, fmt.Errorf("hand the published ports over: %w", listenErr), closeFiles(all))
	}
	return &Heritage{all: all, sock: sock}, err
}

func closeFiles(all []balance.Handover) error {
	var errs []error
	for _, h := range all {
		errs = append(errs, h.File.Close())
	}
	return errors.Join(errs...)
}

// Pass gives the sockets to the daemon that asks for them, and then lets go of
// them. It waits for one until ctx ends, and reports whether one came.
func (h *Heritage) Pass(ctx context.Context) (bool, error) {
	defer func() { _ = closeFiles(h.all) }() // whoever took them has his own
	stop := context.AfterFunc(ctx, func() { _ = h.sock.Close() })
	defer stop()
	defer func() { _ = h.sock.Close() }()
	conn, err := h.sock.Accept()
	if err != nil {
		if ctx.Err() != nil {
			return false, nil
		}
		return false, fmt.Errorf("hand the published ports over: %w", err)
	}
	defer func() { _ = conn.Close() }()
	if err := balance.SendListeners(conn.(*net.UnixConn), h.all, time.Now().Add(handoverTime)); err != nil {
		return false, fmt.Errorf("hand the published ports over: %w", err)
	}
	return true, nil
}

// handoverTime bounds how long the sockets are on their way.
const handoverTime = 5 * time.Second

// Inherit takes over the listening sockets that the daemon before has left; none
// when it left none.
func Inherit(folders dirs.Dirs) ([]balance.Handover, error) {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: folders.Heritage(), Net: "unix"})
	if err != nil {
		return nil, nil // nobody offers any
	}
	defer func() { _ = conn.Close() }()
	all, err := balance.ReceiveListeners(conn, time.Now().Add(handoverTime))
	if err != nil {
		return nil, fmt.Errorf("take over the published ports of the daemon before: %w", err)
	}
	return all, nil
}
