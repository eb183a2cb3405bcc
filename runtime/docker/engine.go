package docker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/docker/docker/api"
	"github.com/docker/docker/api/types/versions"
	"github.com/docker/docker/client"

	"github.com/berth-dev/berth/runtime"
)

// MinAPIVersion is the oldest Engine API that Berth speaks (Engine 19.03).
const MinAPIVersion = "1.40"

// Options says which engine to drive and how patiently. The zero value is
// valid: the engine that the docker command would talk to.
type Options struct {
	// Host is the endpoint, such as unix:///var/run/docker.sock, tcp://host:2376
	// or ssh://user@host. Empty: DOCKER_HOST, else the Docker context.
	Host string
	// Environ reads the environment; nil means os.Getenv.
	Environ func(string) string
	// Timeouts bounds each call; zero fields have the defaults.
	Timeouts Timeouts
	// Connections is how many idle connections are kept; 0: 64. It should not be
	// less than the calls made at the same time.
	Connections int
	// Warn is told what the engine says it does not carry out of a container it
	// creates or changes, such as a limit its kernel does not know. Nil: nobody.
	Warn func(text string)
}

// Timeouts bounds the calls to the engine.
type Timeouts struct {
	Query    time.Duration // a call that only reads; default 30 s
	Change   time.Duration // a call that changes a container, network or volume; default 2 min
	Margin   time.Duration // added to a stop's grace period; default 30 s
	Gone     time.Duration // for a removed container or an endpoint to be gone; default 30 s
	Transfer time.Duration // pull, push, build, copy, logs without follow; default 1 h
	Silence  time.Duration // of the event stream before it is checked; default 30 s
}

func (t Timeouts) withDefaults() Timeouts {
	return Timeouts{
		Query:    cmp.Or(t.Query, 30*time.Second),
		Change:   cmp.Or(t.Change, 2*time.Minute),
		Margin:   cmp.Or(t.Margin, 30*time.Second),
		Gone:     cmp.Or(t.Gone, 30*time.Second),
		Transfer: cmp.Or(t.Transfer, time.Hour),
		Silence:  cmp.Or(t.Silence, 30*time.Second),
	}
}

// Engine is one Docker Engine. It is safe for concurrent use.
type Engine struct {
	endpoint    endpoint
	environ     func(string) string
	timeouts    Timeouts
	connections int
	warn        func(text string)

	conn  atomic.Pointer[conn]
	mu    sync.Mutex // protects facts and serializes reconnection
	facts *machine
}

// conn is a client of one negotiated API version.
type conn struct {
	*client.Client
	version string
}

// machine is what a change of limits must know of the engine's machine.
type machine struct {
	cpus     int
	cgroupV2 bool
	systemd  bool // the cgroup driver
}

// Open resolves the endpoint from options, environment and Docker context,
// connects and negotiates the API version. It fails with Unavailable when the
// engine cannot be reached and with Invalid when the endpoint is wrong or the
// engine too old.
func Open(ctx context.Context, opts Options) (*Engine, error) {
	e := &Engine{
		environ:     opts.Environ,
		timeouts:    opts.Timeouts.withDefaults(),
		connections: cmp.Or(opts.Connections, 64),
		warn:        opts.Warn,
	}
	if e.warn == nil {
		e.warn = func(string) {}
	}
	if e.environ == nil {
		e.environ = os.Getenv
	}
	ep, err := resolveEndpoint(opts.Host, e.environ)
	if err != nil {
		return nil, &runtime.Error{Kind: runtime.KindInvalid, Op: "connect to the Docker engine", Err: err}
	}
	e.endpoint = ep
	if err := e.connect(ctx); err != nil {
		return nil, err
	}
	return e, nil
}

// Close drops idle connections. Calls under way go on.
func (e *Engine) Close() error {
	if c := e.conn.Load(); c != nil {
		return c.Close()
	}
	return nil
}

// Host returns the endpoint the engine is reached at.
func (e *Engine) Host() string { return e.endpoint.host }

func (e *Engine) api() *conn { return e.conn.Load() }

// atLeast reports whether the negotiated API version is v or newer.
func (c *conn) atLeast(v string) bool { return versions.GreaterThanOrEqualTo(c.version, v) }

// connect asks the engine for its API version and makes a client for it. It is
// called again when an engine of another version answers at the endpoint.
func (e *Engine) connect(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, e.timeouts.Query)
	defer cancel()
	const op = "connect to the Docker engine"
	probe, err := e.newClient("")
	if err != nil {
		return &runtime.Error{Kind: runtime.KindInvalid, Op: op, Err: err}
	}
	defer probe.Close()
	ping, err := probe.Ping(ctx)
	if err != nil {
		return e.fail(op, "", err)
	}
	version, err := negotiate(ping.APIVersion, e.endpoint.apiVersion)
	if err != nil {
		return &runtime.Error{Kind: runtime.KindInvalid, Op: op, Object: "at " + e.endpoint.host, Err: err}
	}
	c, err := e.newClient(version)
	if err != nil {
		return &runtime.Error{Kind: runtime.KindInvalid, Op: op, Err: err}
	}
	e.facts = nil
	if old := e.conn.Swap(&conn{Client: c, version: version}); old != nil {
		_ = old.Close() // drops idle connections only
	}
	return nil
}

// negotiate picks the API version to speak with an engine that offers theirs.
// pinned is the user's DOCKER_API_VERSION.
func negotiate(theirs, pinned string) (string, error) {
	version := cmp.Or(theirs, "1.24") // an engine that does not tell predates 1.25
	if ours := api.DefaultVersion; versions.LessThan(ours, version) {
		version = ours
	}
	if versions.LessThan(version, MinAPIVersion) {
		return "", fmt.Errorf("the engine speaks API %s; Berth needs %s (Docker Engine 19.03) or newer", version, MinAPIVersion)
	}
	if pinned == "" {
		return version, nil
	}
	switch {
	case versions.LessThan(pinned, MinAPIVersion):
		return "", fmt.Errorf("DOCKER_API_VERSION=%s is older than %s, the oldest that Berth speaks", pinned, MinAPIVersion)
	case versions.LessThan(version, pinned):
		return "", fmt.Errorf("DOCKER_API_VERSION=%s is newer than %s, the newest that this engine and Berth both speak", pinned, version)
	}
	return pinned, nil
}

// newClient makes an SDK client with a transport of its own, sized so that
// parallel calls reuse their connections.
func (e *Engine) newClient(version string) (*client.Client, error) {
	tr := &http.Transport{
		MaxIdleConns:        e.connections,
		MaxIdleConnsPerHost: e.connections,
		IdleConnTimeout:     90 * time.Second,
		TLSClientConfig:     e.endpoint.tls.Clone(),
	}
	opts := []client.Opt{
		client.WithHTTPClient(&http.Client{Transport: tr, CheckRedirect: client.CheckRedirect}),
		client.WithHost(e.endpoint.dialHost),
		client.WithUserAgent("berth"),
		client.WithVersion(version),
	}
	if e.endpoint.dial != nil {
		opts = append(opts, client.WithDialContext(e.endpoint.dial))
	}
	return client.NewClientWithOpts(opts...)
}

// Ping asks the engine for a sign of life, and speaks the API version of the
// engine that answers from then on: it may be another one than before.
func (e *Engine) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, e.timeouts.Query)
	defer cancel()
	ping, err := e.api().Ping(ctx)
	if err != nil {
		return e.fail("ping the Docker engine", "", err)
	}
	version, err := negotiate(ping.APIVersion, e.endpoint.apiVersion)
	if err != nil || version != e.api().version {
		return e.connect(ctx)
	}
	return nil
}

// Info tells what the engine says of itself.
func (e *Engine) Info(ctx context.Context) (runtime.EngineInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, e.timeouts.Query)
	defer cancel()
	info, err := e.api().Info(ctx)
	if err != nil {
		return runtime.EngineInfo{}, e.fail("ask the Docker engine about itself", "", err)
	}
	return engineInfo(info, e.endpoint.host, e.api().version), nil
}

// hostFacts returns the machine's facts, asked once per connection.
func (e *Engine) hostFacts(ctx context.Context) (machine, error) {
	e.mu.Lock()
	known := e.facts
	e.mu.Unlock()
	if known != nil {
		return *known, nil
	}
	info, err := e.Info(ctx)
	if err != nil {
		return machine{}, err
	}
	f := machine{cpus: info.CPUs, cgroupV2: info.CgroupVersion == 2, systemd: info.CgroupDriver == "systemd"}
	e.mu.Lock()
	e.facts = &f
	e.mu.Unlock()
	return f, nil
}

// query bounds a call that only reads.
func (e *Engine) query(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, e.timeouts.Query)
}

// change bounds a call that changes something.
func (e *Engine) change(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, e.timeouts.Change)
}

// opening bounds how long a stream may take to begin, not how long it lasts.
// opened is called with the outcome once the engine has answered, and returns
// it; an engine that did not answer in time is an ended deadline.
func (e *Engine) opening(ctx context.Context) (stream context.Context, opened func(error) error, cancel context.CancelFunc) {
	stream, end := context.WithCancelCause(ctx)
	late := time.AfterFunc(e.timeouts.Query, func() { end(context.DeadlineExceeded) })
	opened = func(err error) error {
		if !late.Stop() && err != nil && ctx.Err() == nil {
			return context.DeadlineExceeded
		}
		return err
	}
	return stream, opened, func() { late.Stop(); end(nil) }
}

// cleanup bounds what is tidied up after a failure, whatever became of ctx.
func (e *Engine) cleanup(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), e.timeouts.Change)
}

// pause waits for d, or less when ctx ends; it reports whether ctx goes on.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

var errNoName = errors.New("the name is empty")
