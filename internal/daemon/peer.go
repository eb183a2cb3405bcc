package daemon

import (
	"context"
	"net"
)

// peerKey is the context key of the user at the other end of a connection.
type peerKey struct{}

// withPeer notes which user has connected, where the system tells.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	conn, ok := c.(*net.UnixConn)
	if !ok {
		return ctx
	}
	uid, err := peerUID(conn)
	if err != nil {
		return context.WithValue(ctx, peerKey{}, -1) // nobody: refused
	}
	return context.WithValue(ctx, peerKey{}, uid)
}

// peer is the user at the other end; unknown for a connection that has none.
func peer(ctx context.Context) (uid int, known bool) {
	uid, known = ctx.Value(peerKey{}).(int)
	return uid, known
}
