package stack

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/berth-dev/berth/runtime"
)

// published reads who holds a service's ports, and what the balancer does with
// them.
func (t *translator) published(s *Service, c types.ServiceConfig, ext setting) error {
	if err := t.publish(s, c, ext.get("publish")); err != nil {
		return err
	}
	return t.balance(s, ext)
}

// publishOf reads x-berth.publish ahead of all else of x-berth.
func publishOf(c types.ServiceConfig) Publish {
	return Publish(setting{value: c.Extensions[extensionKey]}.get("publish").text())
}

func (t *translator) publish(s *Service, c types.ServiceConfig, ext setting) error {
	s.Publish = Publish(ext.text())
	if !ext.given() {
		return nil
	}
	if len(s.Spec.Ports) == 0 {
		t.warn("has no effect: the service publishes no ports", ext.path...)
		return nil
	}
	if s.Publish != PublishBalanced {
		return nil
	}
	if !ownNetwork(s.Spec.NetworkMode) {
		return ext.fail("the balancer cannot reach a service with network_mode: %s; drop one of them", clip(c.NetworkMode))
	}
	if slices.ContainsFunc(s.Spec.Ports, unbalanceable) {
		return ext.fail("the balancer takes tcp and udp, but the service publishes sctp too (%s); drop one of them", t.position("services", c.Name, "ports"))
	}
	return nil
}

// balance reads x-berth.balance and x-berth.drain.
func (t *translator) balance(s *Service, ext setting) error {
	from, drain := ext.get("balance"), ext.get("drain")
	b := &s.Balance
	if policy := from.get("policy").text(); policy != "round-robin" {
		b.Policy = policy
	}
	for _, d := range []struct {
		from setting
		to   *time.Duration
	}{{from.get("hold"), &b.Hold}, {from.get("drainIdle"), &b.DrainIdle}, {drain, &b.Drain}} {
		if !d.from.given() {
			continue
		}
		var err error
		if *d.to, err = d.from.duration(); err != nil {
			return err
		}
	}
	var err error
	if b.MaxHeld, err = from.get("maxHeld").integer(b.MaxHeld); err != nil {
		return err
	}
	if why := s.neverBalanced(); why != "" {
		for _, at := range []setting{from, drain} {
			if at.given() {
				t.warn("has no effect: "+why, at.path...)
			}
		}
	}
	return nil
}

// neverBalanced says why no connection of the service can ever pass through the
// balancer, or "".
func (s *Service) neverBalanced() string {
	switch {
	case s.Discovery == DiscoverReady:
		return ""
	case s.Publish == PublishDirect:
		return "with publish: direct the engine holds the ports"
	case !ownNetwork(s.Spec.NetworkMode):
		return "the service has no network of its own"
	case len(s.Spec.Ports) == 0:
		return "the service publishes no ports"
	}
	return ""
}

// discovery reads x-berth.discovery and deploy.endpoint_mode, which say the same
// thing. Where neither is given, names resolve as in Compose, not as in Swarm.
func (t *translator) discovery(s *Service, c types.ServiceConfig, ext setting) error {
	endpoint := ""
	if c.Deploy != nil {
		endpoint = c.Deploy.EndpointMode
	}
	at := []string{"services", c.Name, "deploy", "endpoint_mode"}
	switch said := ext.text(); {
	case !slices.Contains([]string{"", "vip", "dnsrr"}, endpoint):
		return t.fail(fmt.Errorf("%q is not one of vip, dnsrr", clip(endpoint)), at...)
	case said == "dns" && endpoint == "vip", said == string(DiscoverReady) && endpoint == "dnsrr":
		return ext.fail("is %s, but deploy.endpoint_mode (%s) is %s; keep one of them", said, t.position(at...), endpoint)
	case said != string(DiscoverReady) && endpoint != "vip":
		return nil
	}
	why := notDiscoverable(&s.Spec)
	switch {
	case why == nil:
		s.Discovery, s.Names = DiscoverReady, takeNames(&s.Spec)
	case ext.given():
		return ext.fail("%w", why)
	case len(s.Spec.Networks) == 0:
		return t.fail(why, at...)
	default: // Swarm needs no ports for it, so files written for Swarm name none
		t.warn("the service's name resolves to all its containers: "+why.Error(), at...)
	}
	return nil
}

// notDiscoverable says why no address can stand for all replicas of a service.
func notDiscoverable(spec *runtime.Spec) error {
	if len(spec.Networks) == 0 {
		return fmt.Errorf("leads to ready replicas over the service's networks, but with network_mode: %s it has none; drop one of them", clip(spec.NetworkMode))
	}
	exposed := slices.ContainsFunc(spec.Expose, func(e string) bool { return !strings.HasSuffix(e, "/sctp") })
	published := slices.ContainsFunc(spec.Ports, func(p runtime.Port) bool { return !unbalanceable(p) })
	if !exposed && !published {
		return errors.New("an address that leads to ready replicas needs to know their ports; give expose: or ports: at least one")
	}
	return nil
}

// takeNames takes from a service's containers the names that they share, and
// returns the networks with those names.
func takeNames(spec *runtime.Spec) []runtime.Attachment {
	names := make([]runtime.Attachment, 0, len(spec.Networks))
	for i := range spec.Networks {
		at := &spec.Networks[i]
		names = append(names, runtime.Attachment{Network: at.Network, Aliases: at.Aliases})
		at.Aliases = nil
	}
	return names
}

// Reachable are the ports, with their protocols alone, at which the service's
// replicas are reached over its networks: those it publishes and those it
// exposes, but for protocols that the balancer does not speak. They are sorted.
func (s *Service) Reachable() []runtime.Port {
	var list []runtime.Port
	for _, p := range s.Spec.Ports {
		list = append(list, runtime.Port{Target: p.Target, Protocol: cmp.Or(p.Protocol, "tcp")})
	}
	for _, e := range s.Spec.Expose {
		number, protocol, _ := strings.Cut(e, "/")
		if n, err := strconv.ParseUint(number, 10, 16); err == nil && n > 0 {
			list = append(list, runtime.Port{Target: uint16(n), Protocol: cmp.Or(protocol, "tcp")})
		}
	}
	list = slices.DeleteFunc(list, unbalanceable)
	slices.SortFunc(list, func(a, b runtime.Port) int {
		return cmp.Or(cmp.Compare(a.Target, b.Target), cmp.Compare(a.Protocol, b.Protocol))
	})
	return slices.Compact(list)
}

// ownNetwork reports whether the containers of a service have addresses of their
// own, so that ports can be published.
func ownNetwork(mode string) bool {
	switch {
	case mode == "host", mode == "none", strings.HasPrefix(mode, types.ServicePrefix), strings.HasPrefix(mode, types.ContainerPrefix):
		return false
	}
	return true
}

// unbalanceable reports whether the balancer does not speak a port's protocol.
func unbalanceable(p runtime.Port) bool { return p.Protocol == "sctp" }

// fixedPort is the one host port that a published port names; 0 where there is
// none, or a range for the engine to choose from.
func fixedPort(published string) uint16 {
	first, last, err := portRange(published)
	if err != nil || first != last {
		return 0
	}
	return uint16(first) // #nosec G115 -- portRange bounds it
}
