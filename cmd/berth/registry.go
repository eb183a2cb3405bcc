package main

import (
	"crypto/tls"
	"net/http"

	"github.com/berth-dev/berth/internal/daemon"
	"github.com/berth-dev/berth/runtime/docker"
	"github.com/berth-dev/berth/runtime/registry"
)

// newerImages asks registries with the logins of the Docker configuration, and
// trusts those that the engine trusts.
func newerImages(engine *docker.Engine) daemon.NewerImage {
	unverified := &http.Transport{
		Proxy:             http.ProxyFromEnvironment,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // for those only that the engine's configuration calls insecure
		ForceAttemptHTTP2: true,
	}
	c := &registry.Client{Login: engine.Login, Insecure: engine.InsecureRegistry, Unverified: unverified}
	return c.NewerImage
}
