package docker

import (
	"context"
	"net"
	"net/netip"

	"github.com/docker/docker/api/types/registry"

	"github.com/berth-dev/berth/runtime"
)

// Login gives the login of the Docker configuration, credential helpers included,
// for a registry's host as image names have it; the zero value where there is none.
func (e *Engine) Login(ctx context.Context, host string) (runtime.Login, error) {
	auth, err := e.credentials(ctx, host)
	if err != nil {
		return runtime.Login{}, refuse(runtime.KindInvalid, "log in to", host, "%w", err)
	}
	return runtime.Login{
		User: auth.Username, Password: auth.Password, IdentityToken: auth.IdentityToken, RegistryToken: auth.RegistryToken,
	}, nil
}

// InsecureRegistry reports whether the engine may speak to a registry without
// TLS: one on the engine's own machine, or one of its option insecure-registries.
func (e *Engine) InsecureRegistry(ctx context.Context, host string) (bool, error) {
	call, cancel := e.query(ctx)
	defer cancel()
	info, err := e.api().Info(call)
	if err != nil {
		return false, e.fail("ask the Docker engine about registry", host, err)
	}
	if info.RegistryConfig == nil {
		return false, nil
	}
	name := host
	if bare, _, err := net.SplitHostPort(host); err == nil {
		name = bare
	}
	// As the engine does it: a name that cannot be resolved is in no network.
	addrs, _ := net.DefaultResolver.LookupNetIP(call, "ip", name)
	return insecure(info.RegistryConfig, host, addrs), nil
}

// insecure reports whether an engine's configuration names a registry, or the
// network of one of its addresses, as insecure.
func insecure(conf *registry.ServiceConfig, host string, addrs []netip.Addr) bool {
	if index := conf.IndexConfigs[host]; index != nil {
		return !index.Secure
	}
	for _, network := range conf.InsecureRegistryCIDRs {
		for _, a := range addrs {
			if (*net.IPNet)(network).Contains(net.IP(a.Unmap().AsSlice())) {
				return true
			}
		}
	}
	return false
}
