package balance

import (
	"errors"
	"syscall"
)

// unbound is the status of a frontend that cannot be listened at.
func unbound(f Frontend, err error) FrontendStatus {
	return FrontendStatus{Frontend: f, Reason: unboundReason(err), Holder: HolderOf(f, err)}
}

func unboundReason(err error) string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "another process has the port: end it, or publish another port"
	case errors.Is(err, syscall.EACCES):
		return "it is not permitted: publish a port of 1024 or above, or lower net.ipv4.ip_unprivileged_port_start"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "this machine does not have the address: publish at one that it has"
	default:
		return err.Error()
	}
}
