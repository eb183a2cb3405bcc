package docker

import (
	"maps"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"

	"github.com/berth-dev/berth/runtime"
)

const ifnameOption = "com.docker.network.endpoint.ifname"

// translateNetworks sets network mode and endpoints. An engine before API 1.44
// takes one network at creation; the others are connected before the start.
func translateNetworks(c *creation, s *runtime.Spec, t target) error {
	mode := s.NetworkMode
	if mode == "" && len(s.Networks) > 0 {
		mode = s.Networks[0].Network
	}
	c.Host.NetworkMode = container.NetworkMode(mode)
	if len(s.Networks) == 0 {
		c.Host.Links = s.Links
	}
	many := t.needs("1.44", "several networks") == nil
	if !many {
		c.Config.MacAddress = s.MacAddress //nolint:staticcheck // where the engines before API 1.44 read it
	}
	endpoints := map[string]*network.EndpointSettings{}
	for i, at := range s.Networks {
		e := translateAttachment(at)
		e.Links = s.Links
		if at.Network == mode || i == 0 && s.NetworkMode != "" {
			switch {
			case !many && e.MacAddress != "":
				c.Config.MacAddress = e.MacAddress //nolint:staticcheck // as above
				e.MacAddress = ""
			case many && e.MacAddress == "":
				e.MacAddress = s.MacAddress
			}
		}
		if many || at.Network == mode {
			endpoints[at.Network] = e
			continue
		}
		c.Connect = append(c.Connect, connection{Network: at.Network, Settings: e})
	}
	if many && s.MacAddress != "" && len(s.Networks) == 0 && takesEndpoint(mode) {
		name := mode
		if name == "" {
			name = "bridge"
		}
		endpoints[name] = &network.EndpointSettings{MacAddress: s.MacAddress}
	}
	if len(endpoints) > 0 {
		c.Networking = &network.NetworkingConfig{EndpointsConfig: endpoints}
	}
	return nil
}

func takesEndpoint(mode string) bool {
	return mode != "none" && mode != "host" && !strings.HasPrefix(mode, "container:")
}

func translateAttachment(at runtime.Attachment) *network.EndpointSettings {
	e := &network.EndpointSettings{
		Aliases:    slices.Clone(at.Aliases),
		MacAddress: at.MacAddress,
		GwPriority: at.Gateway,
		DriverOpts: maps.Clone(at.DriverOpts),
	}
	if at.IPv4 != "" || at.IPv6 != "" || len(at.LinkLocal) > 0 {
		e.IPAMConfig = &network.EndpointIPAMConfig{IPv4Address: at.IPv4, IPv6Address: at.IPv6, LinkLocalIPs: at.LinkLocal}
	}
	if at.Interface != "" {
		if e.DriverOpts == nil {
			e.DriverOpts = map[string]string{}
		}
		e.DriverOpts[ifnameOption] = at.Interface
	}
	return e
}

// networkOptions says how a network is created.
func networkOptions(s *runtime.NetworkSpec, t target) (network.CreateOptions, error) {
	o := network.CreateOptions{
		Driver: s.Driver, Options: s.DriverOpts, Internal: s.Internal, Attachable: s.Attachable,
		EnableIPv4: s.EnableIPv4, EnableIPv6: s.EnableIPv6, Labels: s.Labels,
	}
	if s.IPAM != nil {
		o.IPAM = &network.IPAM{Driver: s.IPAM.Driver, Options: s.IPAM.Options}
		for _, p := range s.IPAM.Pools {
			o.IPAM.Config = append(o.IPAM.Config, network.IPAMConfig{
				Subnet: p.Subnet, IPRange: p.IPRange, Gateway: p.Gateway, AuxAddress: p.Aux,
			})
		}
	}
	if s.EnableIPv4 != nil && !*s.EnableIPv4 {
		return o, t.needs("1.48", "enable_ipv4: false")
	}
	if t.needs("1.48", "") != nil {
		o.EnableIPv4 = nil // true is what an older engine does anyway
	}
	return o, nil
}
