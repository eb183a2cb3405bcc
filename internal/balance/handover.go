package balance

import (
	"errors"
	"fmt"
	"net"
	"os"
)

// Handover is a frontend's socket on its way to another process.
type Handover struct {
	Frontend Frontend
	File     *os.File
}

// Export stops accepting, and returns the sockets of all open frontends: what
// clients connect meanwhile waits in the kernel's queue for whoever takes them.
// Open and waiting connections stay here ([Balancer.Drain] waits for them), and
// Route goes on serving these; UDP sessions still carry replies. The caller closes
// the files. It cannot be undone: a balancer that fails to hand the sockets over
// is followed by another that adopts them.
func (b *Balancer) Export() ([]Handover, error) {
	b.applying.Lock()
	defer b.applying.Unlock()
	b.mu.Lock()
	var all []Handover
	var errs []error
	for _, f := range b.open {
		some, err := f.files()
		if err != nil {
			errs = append(errs, fmt.Errorf("export %s: %w", f.status().Frontend, err))
			continue
		}
		all = append(all, some...)
	}
	b.mu.Unlock()
	b.stopAll()
	return all, errors.Join(errs...)
}

// Adopt takes over sockets that another balancer exported, and closes the files.
// Nothing is accepted before an Apply asks for them; those for which the next
// Apply does not ask are closed.
func (b *Balancer) Adopt(all []Handover) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, h := range all {
		b.adopted[h.Frontend.slot()] = append(b.adopted[h.Frontend.slot()], h)
	}
}

func (b *Balancer) dropAdopted() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for slot, all := range b.adopted {
		closeAll(all)
		delete(b.adopted, slot)
	}
}

// inherit opens a frontend with the sockets that were adopted.
func (b *Balancer) inherit(f Frontend, p *pool, all []Handover) (frontend, error) {
	defer closeAll(all) // what is opened has its own descriptors
	if f.Protocol == UDP {
		return b.inheritUDP(f, p, all[0])
	}
	var ls []*net.TCPListener
	for _, h := range all {
		l, err := net.FileListener(h.File)
		if err != nil {
			closeListeners(ls)
			return nil, err
		}
		tcp, ok := l.(*net.TCPListener)
		if !ok {
			closeListeners(ls)
			return nil, errors.Join(fmt.Errorf("adopt %s: it is not a TCP socket", f), l.Close())
		}
		ls = append(ls, tcp)
	}
	return newTCPFrontend(b, f, p, ls...), nil
}

func (b *Balancer) inheritUDP(f Frontend, p *pool, h Handover) (frontend, error) {
	c, err := net.FilePacketConn(h.File)
	if err != nil {
		return nil, err
	}
	udp, ok := c.(*net.UDPConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("adopt %s: it is not a UDP socket", f), c.Close())
	}
	return newUDPFrontend(b, f, p, udp)
}
