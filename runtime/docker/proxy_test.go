package docker

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"

	"github.com/berth-dev/berth/runtime"
)

// The proxies of the Docker configuration reach containers and builds, those of
// the engine's own endpoint before the default ones, and never in the place of
// what a service says itself.
func TestProxies(t *testing.T) {
	conf := t.TempDir()
	var warnings []string
	var created container.Config
	var buildArgs string
	s := serve(t, "1.41", map[string]http.HandlerFunc{
		"GET /info": func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, map[string]any{"NCPU": 1}) },
		"POST /containers/create": func(w http.ResponseWriter, r *http.Request) {
			created = container.Config{}
			if err := json.NewDecoder(r.Body).Decode(&created); err != nil {
				t.Error(err)
			}
			reply(w, http.StatusCreated, container.CreateResponse{ID: "c1"})
		},
		"POST /build": func(w http.ResponseWriter, r *http.Request) {
			buildArgs = r.URL.Query().Get("buildargs")
			reply(w, http.StatusOK, map[string]any{"aux": map[string]string{"ID": "sha256:1"}})
		},
	})
	host := "tcp://" + s.Listener.Addr().String()
	e, err := Open(t.Context(), Options{
		Host: host, Warn: func(text string) { warnings = append(warnings, text) },
		Environ: func(k string) string { return map[string]string{"DOCKER_CONFIG": conf}[k] },
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		config    string
		env, want []string
		args      string
	}{
		"none":    {config: `{}`, env: []string{"A=1"}, want: []string{"A=1"}, args: `{"HTTP_PROXY":"own"}`},
		"default": {config: `{"proxies":{"default":{"httpProxy":"p1"},"tcp://elsewhere:1":{"httpProxy":"p2"}}}`, env: []string{"A=1"}, want: []string{"A=1", "HTTP_PROXY=p1", "http_proxy=p1"}, args: `{"HTTP_PROXY":"own","http_proxy":"p1"}`},
		"engine":  {config: `{"proxies":{"default":{"httpProxy":"p1"},"` + host + `":{"noProxy":"n"}}}`, want: []string{"NO_PROXY=n", "no_proxy=n"}, args: `{"HTTP_PROXY":"own","NO_PROXY":"n","no_proxy":"n"}`},
		"own":     {config: `{"proxies":{"default":{"httpProxy":"p1"}}}`, env: []string{"HTTP_PROXY=", "http_proxy"}, want: []string{"HTTP_PROXY=", "http_proxy"}, args: `{"HTTP_PROXY":"own","http_proxy":"p1"}`},
	} {
		t.Run(name, func(t *testing.T) {
			write(t, filepath.Join(conf, "config.json"), c.config)
			spec := &runtime.Spec{Image: "app", Env: c.env}
			if _, err := e.Create(t.Context(), "web", nil, spec, nil); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(created.Env, c.want) || !slices.Equal(spec.Env, c.env) {
				t.Errorf("the container's environment is %q, want %q; the spec's became %q", created.Env, c.want, spec.Env)
			}
			build := &runtime.Build{Context: "https://example.com/a.git", Args: map[string]string{"HTTP_PROXY": "own"}}
			if _, err := e.Build(t.Context(), build, nil); err != nil {
				t.Fatal(err)
			}
			if buildArgs != c.args {
				t.Errorf("the build's arguments are %s, want %s", buildArgs, c.args)
			}
		})
	}
	write(t, filepath.Join(conf, "config.json"), `{"proxies":`)
	if _, err := e.Create(t.Context(), "web", nil, &runtime.Spec{Image: "app"}, nil); err != nil || len(created.Env) > 0 {
		t.Errorf("with a configuration that cannot be read: %v, environment %q", err, created.Env)
	}
	if !strings.Contains(strings.Join(warnings, "\n"), "no proxies are passed") {
		t.Errorf("warnings %q do not tell of it", warnings)
	}
}
