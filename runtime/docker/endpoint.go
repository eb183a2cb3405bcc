package docker

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/docker/cli/cli/connhelper"
	"github.com/docker/docker/client"
	"github.com/docker/go-connections/tlsconfig"

	"github.com/berth-dev/berth/runtime"
)

// endpoint is where an engine is and how it is reached.
type endpoint struct {
	host       string // as the user knows it
	dialHost   string // as the SDK is told it
	tls        *tls.Config
	dial       func(ctx context.Context, network, addr string) (net.Conn, error)
	apiVersion string // pinned by DOCKER_API_VERSION
}

// resolveEndpoint finds the endpoint in the order of the docker command: an
// explicit host, DOCKER_HOST, DOCKER_CONTEXT, the configuration's current
// context, the default socket. The TLS variables count unless a context
// brings its own.
func resolveEndpoint(host string, env func(string) string) (endpoint, error) {
	ep := endpoint{apiVersion: strings.TrimPrefix(env("DOCKER_API_VERSION"), "v")}
	if ep.apiVersion != "" && !apiVersionForm.MatchString(ep.apiVersion) {
		return endpoint{}, fmt.Errorf("DOCKER_API_VERSION=%q is not a version such as 1.41", ep.apiVersion)
	}
	ep.host = cmp.Or(host, env("DOCKER_HOST"))
	if ep.host == "" {
		name, err := contextName(env)
		if err != nil {
			return endpoint{}, err
		}
		if name != "" && name != "default" {
			if err := ep.fromContext(configDir(env), name); err != nil {
				return endpoint{}, fmt.Errorf("docker context %q: %w", name, err)
			}
			return ep, ep.complete()
		}
		ep.host = client.DefaultDockerHost
	}
	conf, err := tlsFromEnv(env)
	if err != nil {
		return endpoint{}, err
	}
	if !strings.HasPrefix(ep.host, "unix:") && !strings.HasPrefix(ep.host, "ssh:") {
		ep.tls = conf
	}
	return ep, ep.complete()
}

var apiVersionForm = regexp.MustCompile(`^[0-9]+\.[0-9]+$`)

// complete derives how the host is dialled.
func (ep *endpoint) complete() error {
	if !strings.Contains(ep.host, "://") {
		return fmt.Errorf("docker host %q is not of the form unix:///path, tcp://host:port or ssh://host", ep.host)
	}
	ep.dialHost = ep.host
	if strings.HasPrefix(ep.host, "ssh://") {
		helper, err := connhelper.GetConnectionHelper(ep.host)
		if err != nil {
			return fmt.Errorf("docker host %q: %w", ep.host, err)
		}
		ep.dialHost, ep.dial, ep.tls = helper.Host, helper.Dialer, nil
		return nil
	}
	if _, err := client.ParseHostURL(ep.host); err != nil {
		return fmt.Errorf("docker host %q is not of the form unix:///path, tcp://host:port or ssh://host", ep.host)
	}
	return nil
}

// tlsFromEnv reads DOCKER_TLS_VERIFY, DOCKER_TLS and DOCKER_CERT_PATH; nil
// means plain text.
func tlsFromEnv(env func(string) string) (*tls.Config, error) {
	verify := env("DOCKER_TLS_VERIFY") != ""
	certs := env("DOCKER_CERT_PATH")
	if !verify && env("DOCKER_TLS") == "" {
		return nil, nil //nolint:nilnil // no TLS is an answer
	}
	if certs == "" {
		certs = configDir(env)
	}
	o := tlsconfig.Options{
		CAFile:             filepath.Join(certs, "ca.pem"),
		CertFile:           ifExists(certs, "cert.pem"),
		KeyFile:            ifExists(certs, "key.pem"),
		InsecureSkipVerify: !verify,
		ExclusiveRootPools: true,
	}
	if !verify {
		o.CAFile = ""
	}
	conf, err := tlsconfig.Client(o)
	if err != nil {
		return nil, fmt.Errorf("TLS material in %s: %w", certs, err)
	}
	return conf, nil
}

// configDir is the folder of the Docker configuration.
func configDir(env func(string) string) string {
	if dir := env("DOCKER_CONFIG"); dir != "" {
		return dir
	}
	home := env("HOME")
	if home == "" {
		if u, err := user.Current(); err == nil {
			home = u.HomeDir
		}
	}
	return filepath.Join(home, ".docker")
}

// contextName is DOCKER_CONTEXT, else the configuration's current context.
func contextName(env func(string) string) (string, error) {
	if name := env("DOCKER_CONTEXT"); name != "" {
		return name, nil
	}
	path := filepath.Join(configDir(env), "config.json")
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("docker configuration: %w", err)
	}
	var conf struct {
		CurrentContext string `json:"currentContext"`
	}
	if err := json.Unmarshal(b, &conf); err != nil {
		return "", fmt.Errorf("docker configuration %s: %w", path, err)
	}
	return conf.CurrentContext, nil
}

// fromContext reads a context's endpoint and TLS material from the store: each
// context is a folder named by the hash of its name.
func (ep *endpoint) fromContext(dir, name string) error {
	sum := sha256.Sum256([]byte(name))
	id := hex.EncodeToString(sum[:])
	b, err := os.ReadFile(filepath.Join(dir, "contexts", "meta", id, "meta.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("it does not exist; docker context ls lists what there is")
	}
	if err != nil {
		return err
	}
	var meta struct {
		Endpoints map[string]struct {
			Host          string
			SkipTLSVerify bool
		}
	}
	if err := json.Unmarshal(b, &meta); err != nil {
		return fmt.Errorf("damaged: %w", err)
	}
	docker, ok := meta.Endpoints["docker"]
	if !ok {
		return errors.New("it has no docker endpoint")
	}
	ep.host = cmp.Or(docker.Host, client.DefaultDockerHost)
	ep.tls, err = contextTLS(filepath.Join(dir, "contexts", "tls", id, "docker"), docker.SkipTLSVerify)
	return err
}

func contextTLS(dir string, skipVerify bool) (*tls.Config, error) {
	o := tlsconfig.Options{
		CAFile: ifExists(dir, "ca.pem"), CertFile: ifExists(dir, "cert.pem"), KeyFile: ifExists(dir, "key.pem"),
		InsecureSkipVerify: skipVerify, ExclusiveRootPools: true,
	}
	if o.CAFile == "" && o.CertFile == "" && !skipVerify {
		return nil, nil //nolint:nilnil // no TLS is an answer
	}
	return tlsconfig.Client(o)
}

// Endpoint returns the host of the engine that [Open] would connect to, without
// connecting, and whether that engine publishes ports on this very machine.
func Endpoint(env func(string) string) (host string, local bool, err error) {
	ep, err := resolveEndpoint("", env)
	if err != nil {
		return "", false, &runtime.Error{Kind: runtime.KindInvalid, Op: "find the Docker engine", Err: err}
	}
	return ep.host, strings.HasPrefix(ep.host, "unix://"), nil
}

// ifExists is the path of a file in dir, or empty when there is none.
func ifExists(dir, name string) string {
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}
