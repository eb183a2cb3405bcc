package docker

import (
	"context"
	"fmt"

	"github.com/distribution/reference"
	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/types"
	"github.com/docker/docker/api/types/registry"
)

// dockerHub is the key under which the Docker configuration keeps Docker Hub.
const dockerHub = "https://index.docker.io/v1/"

// registryAuth returns the credentials for the registry of ref from the Docker
// configuration, credential helpers included, in the form the engine takes;
// empty when there are none.
func (e *Engine) registryAuth(ctx context.Context, ref string) (string, error) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return "", fmt.Errorf("%q is not the name of an image: %w", ref, err)
	}
	host := reference.Domain(named)
	auth, err := e.credentials(ctx, host)
	if err != nil {
		return "", fmt.Errorf("credentials for %s: %w", host, err)
	}
	if auth.Username == "" && auth.IdentityToken == "" && auth.RegistryToken == "" && auth.Auth == "" {
		return "", nil
	}
	return registry.EncodeAuthConfig(registryAuthOf(auth))
}

// credentials are those of the Docker configuration for a registry's host.
func (e *Engine) credentials(ctx context.Context, host string) (types.AuthConfig, error) {
	key := host
	if host == "docker.io" {
		key = dockerHub
	}
	return bounded(ctx, e, func() (types.AuthConfig, error) {
		conf, err := config.Load(configDir(e.environ))
		if err != nil {
			return types.AuthConfig{}, err
		}
		return conf.GetAuthConfig(key)
	})
}

// allAuth returns every credential of the Docker configuration, for the images
// a build may fetch. What a credential helper does not give is left out: the
// build then says which image it could not fetch.
func (e *Engine) allAuth(ctx context.Context) map[string]registry.AuthConfig {
	all, _ := bounded(ctx, e, func() (map[string]types.AuthConfig, error) {
		conf, err := config.Load(configDir(e.environ))
		if err != nil {
			return nil, err
		}
		return conf.GetAllCredentials()
	})
	out := make(map[string]registry.AuthConfig, len(all))
	for k, v := range all {
		out[k] = registryAuthOf(v)
	}
	return out
}

func registryAuthOf(a types.AuthConfig) registry.AuthConfig {
	return registry.AuthConfig{
		Username: a.Username, Password: a.Password, Auth: a.Auth, ServerAddress: a.ServerAddress,
		IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken,
	}
}

// bounded runs f, which may start a credential helper, within the deadline of a
// query. A helper that hangs is left behind to end by itself.
func bounded[T any](ctx context.Context, e *Engine, f func() (T, error)) (T, error) {
	ctx, cancel := e.query(ctx)
	defer cancel()
	type result struct {
		v   T
		err error
	}
	done := make(chan result, 1)
	go func() {
		v, err := f()
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		return r.v, r.err
	case <-ctx.Done():
		var zero T
		return zero, fmt.Errorf("no answer from the credential helper: %w", ctx.Err())
	}
}
