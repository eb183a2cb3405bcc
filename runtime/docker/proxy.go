package docker

import (
	"maps"
	"slices"
	"strings"

	"github.com/docker/cli/cli/config"
)

// proxies returns the variables that tell a container, or a build, of the
// proxies the Docker configuration has for this engine, or else for all, in
// both spellings; without those that given holds already, as the docker command
// does it. A configuration that cannot be read gives none, and a warning.
func (e *Engine) proxies(given map[string]*string) map[string]*string {
	conf, err := config.Load(configDir(e.environ))
	if err != nil {
		e.warn("no proxies are passed to containers and builds: the Docker configuration cannot be read: " + clean(err.Error()))
		return nil
	}
	all := conf.ParseProxyConfig(e.endpoint.host, maps.Clone(given))
	maps.DeleteFunc(all, func(k string, _ *string) bool {
		_, set := given[k]
		return set
	})
	return all
}

// withProxies adds proxies to a container's environment, whose own variables
// stay as they are.
func (e *Engine) withProxies(env []string) []string {
	given := make(map[string]*string, len(env))
	for _, entry := range env {
		key, _, _ := strings.Cut(entry, "=")
		given[key] = nil
	}
	proxies := e.proxies(given)
	for _, k := range slices.Sorted(maps.Keys(proxies)) {
		env = append(slices.Clip(env), k+"="+*proxies[k])
	}
	return env
}
