package stack

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/scheduler"
)

// placement is what the scheduler must know of a service's replicas.
func (t *translator) placement(c types.ServiceConfig, s *Service) scheduler.Template {
	p := scheduler.Template{
		Stack:       t.project.Name,
		Service:     c.Name,
		Reservation: reservation(c),
		Ports:       heldPorts(&s.Spec),
	}
	p.OS, p.Arch = platform(c.Platform)
	return p
}

// reservation is what each replica must have promised. The older mem_reservation
// counts like deploy.resources.reservations.memory, as both are the engine's soft limit.
func reservation(c types.ServiceConfig) scheduler.Resources {
	r := scheduler.Resources{Memory: limits(c).MemoryReservation}
	if c.Deploy == nil || c.Deploy.Resources.Reservations == nil {
		return r
	}
	r.CPU = nanoCPUs(float32(c.Deploy.Resources.Reservations.NanoCPUs)) / 1_000_000
	return r
}

// heldPorts are the fixed host ports that each replica holds by itself; of a
// range the engine chooses one, so no place is held beforehand.
func heldPorts(spec *runtime.Spec) []scheduler.HostPort {
	if spec.NetworkMode == "host" || spec.NetworkMode == "none" {
		return nil
	}
	var out []scheduler.HostPort
	for _, p := range spec.Ports {
		port, err := strconv.ParseUint(p.Published, 10, 16)
		if err != nil || port == 0 {
			continue
		}
		h := scheduler.HostPort{IP: p.HostIP, Port: uint16(port), Protocol: p.Protocol}
		if h.Protocol == "tcp" {
			h.Protocol = ""
		}
		out = append(out, h)
	}
	slices.SortFunc(out, func(a, b scheduler.HostPort) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.IP, b.IP))
	})
	return out
}

// platform takes "linux/arm64/v8" apart; the variant does not choose a node.
func platform(s string) (os, arch string) {
	os, arch, _ = strings.Cut(s, "/")
	arch, _, _ = strings.Cut(arch, "/")
	return os, arch
}
