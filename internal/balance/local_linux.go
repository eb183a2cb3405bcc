package balance

import (
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// localSpace is room for the control message that tells a datagram's local address:
// a header of at most 16 bytes and at most 20 of content, each padded to 8.
const localSpace = 40

// tellLocal makes a socket that has many addresses tell to which one a datagram
// was sent.
func tellLocal(conn *net.UDPConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		family, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DOMAIN)
		switch {
		case err != nil:
			set = err
		case family == unix.AF_INET6:
			set = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
		default:
			set = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
		}
	})
	if err == nil {
		err = set
	}
	if err != nil {
		return fmt.Errorf("ask the socket for the address of each datagram: %w", err)
	}
	return nil
}

// localOf returns the address that a datagram was sent to, as its control messages
// tell; not valid when they do not. An IPv4 address stays mapped when the socket is
// one of IPv6.
func localOf(oob []byte) netip.Addr {
	for len(oob) > 0 {
		h, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		switch {
		case err != nil:
			return netip.Addr{}
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			return netip.AddrFrom4([4]byte(data[4:8])) // ipi_spec_dst
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			return netip.AddrFrom16([16]byte(data[:16])) // ipi6_addr
		}
		oob = rest
	}
	return netip.Addr{}
}

// fromLocal returns the control message that sends a datagram from an address that
// localOf told; none when it told none.
func fromLocal(a netip.Addr) []byte {
	switch {
	case a.Is4():
		return unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: a.As4()})
	case a.IsValid():
		return unix.PktInfo6(&unix.Inet6Pktinfo{Addr: a.As16()})
	default:
		return nil
	}
}
