package health

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Role is what a probe is asked for.
type Role string

// The roles, in the order in which they come into play.
const (
	// Startup gates the other two: until it has passed, they do not run.
	Startup Role = "startup"
	// Readiness moves a replica in and out of traffic, and never restarts it.
	Readiness Role = "readiness"
	// Liveness ends the run of a replica that no longer works.
	Liveness Role = "liveness"
)

// Roles lists every role, in order.
func Roles() []Role { return []Role{Startup, Readiness, Liveness} }

// Ends reports whether a failure of the role may end the container's run.
func (r Role) Ends() bool { return r == Startup || r == Liveness }

// Probes are the probes of each replica of a service. A nil probe: none.
type Probes struct {
	Startup   *Probe `json:"startup,omitempty"`
	Readiness *Probe `json:"readiness,omitempty"`
	Liveness  *Probe `json:"liveness,omitempty"`
}

// Of returns the probe of a role; nil where there is none.
func (p Probes) Of(r Role) *Probe {
	switch r {
	case Startup:
		return p.Startup
	case Readiness:
		return p.Readiness
	case Liveness:
		return p.Liveness
	default:
		return nil
	}
}

// Empty reports whether there is no probe at all.
func (p Probes) Empty() bool { return p.Startup == nil && p.Readiness == nil && p.Liveness == nil }

// Probe is one check and how its results count. Exactly one of the types is
// set. The zero value of a number is its default, which is Kubernetes' own.
type Probe struct {
	Exec   *Exec   `json:"exec,omitempty"`
	HTTP   *HTTP   `json:"http,omitempty"`
	TCP    *TCP    `json:"tcp,omitempty"`
	GRPC   *GRPC   `json:"grpc,omitempty"`
	Docker *Docker `json:"docker,omitempty"`
	Log    *Log    `json:"log,omitempty"`

	InitialDelay     time.Duration `json:"initialDelay,omitempty"`     // from the container's start; default 0
	Period           time.Duration `json:"period,omitempty"`           // from one probe's due time to the next; default 10 s, at least 1 s
	Timeout          time.Duration `json:"timeout,omitempty"`          // from when the probe is sent; default 1 s, at least 1 s
	SuccessThreshold int           `json:"successThreshold,omitempty"` // default 1; 1 only for startup and liveness
	FailureThreshold int           `json:"failureThreshold,omitempty"` // default 3
	// Grace is how long the container has to stop after this probe has failed;
	// at least 1 s, startup and liveness only. 0: the container's own.
	Grace time.Duration `json:"terminationGracePeriod,omitempty"`
	// OnFailure is what a failure leads to; startup and liveness only. Its zero
	// value is a restart there.
	OnFailure Action `json:"onFailure,omitzero"`
}

// The defaults and the bound of Kubernetes.
const (
	DefaultPeriod           = 10 * time.Second
	DefaultTimeout          = time.Second
	DefaultSuccessThreshold = 1
	DefaultFailureThreshold = 3
	// Shortest is the least period, timeout and grace.
	Shortest = time.Second
	// MaxThreshold is the largest threshold.
	MaxThreshold = 1000
	// longest is the largest duration: what Kubernetes' 32 bits of seconds hold.
	longest = (1<<31 - 1) * time.Second
)

// withDefaults returns p with each number set.
func (p Probe) withDefaults() Probe {
	p.Period = cmp.Or(p.Period, DefaultPeriod)
	p.Timeout = cmp.Or(p.Timeout, DefaultTimeout)
	p.SuccessThreshold = cmp.Or(p.SuccessThreshold, DefaultSuccessThreshold)
	p.FailureThreshold = cmp.Or(p.FailureThreshold, DefaultFailureThreshold)
	return p
}

// Exec runs a command in the container; exit code 0 passes. No shell is added.
type Exec struct {
	Command []string `json:"command"`
}

// HTTP sends a GET; 200 ≤ code < 400 passes. Certificates are not verified, and
// no proxy is used.
type HTTP struct {
	Scheme string `json:"scheme,omitempty"` // "http" (default) or "https"
	// Host is where to connect; empty: the container. A loopback name or address
	// is the container's own loopback, any other host is asked from this machine.
	// A virtual host belongs into Headers, as "Host".
	Host    string            `json:"host,omitempty"`
	Path    string            `json:"path,omitempty"` // with its query; default "/"
	Port    Port              `json:"port"`
	Headers map[string]string `json:"headers,omitempty"`
}

// TCP connects; a connection passes.
type TCP struct {
	Port Port   `json:"port"`
	Host string `json:"host,omitempty"` // as in [HTTP]
}

// GRPC asks grpc.health.v1.Health/Check in plain text; SERVING passes.
type GRPC struct {
	Port    Port   `json:"port"`
	Service string `json:"service,omitempty"` // empty: the server as a whole
}

// Docker takes over the status of the engine's own HEALTHCHECK.
type Docker struct{}

// Log passes once a line of the container's output matches; startup only.
type Log struct {
	Pattern string `json:"pattern"` // a regular expression of Go's regexp package
}

// Port is a number, or the name of one of the service's ports.
type Port struct {
	Number uint16 `json:"number,omitempty"`
	Name   string `json:"name,omitempty"`
}

// Do is a kind of action.
type Do string

// The actions. [Restart], [Recreate], [Stop] and [Pause] end or freeze the run,
// so probing holds still until the container is started anew or unpaused; after
// the others it goes on, so that a recovery is seen.
const (
	Restart  Do = "restart"  // stop with grace and start the same container
	Recreate Do = "recreate" // replace the container
	Stop     Do = "stop"
	Pause    Do = "pause"
	RunExec  Do = "exec"    // run a command in the container
	Webhook  Do = "webhook" // POST to a URL
	Nothing  Do = "none"    // report it
)

// Action is what a failed startup or liveness probe leads to.
type Action struct {
	Do      Do       `json:"do,omitempty"`
	Command []string `json:"command,omitempty"` // of [RunExec]
	URL     string   `json:"url,omitempty"`     // of [Webhook]
}

func (a Action) zero() bool { return a.Do == "" && len(a.Command) == 0 && a.URL == "" }

// ends reports whether the action ends or freezes the run.
func (a Action) ends() bool {
	switch a.Do {
	case "", Restart, Recreate, Stop, Pause:
		return true
	default:
		return false
	}
}

// Where returns the host and the port that a network probe asks for. ok is
// false for the other types.
func (p *Probe) Where() (host string, port Port, ok bool) {
	switch {
	case p.HTTP != nil:
		return p.HTTP.Host, p.HTTP.Port, true
	case p.TCP != nil:
		return p.TCP.Host, p.TCP.Port, true
	case p.GRPC != nil:
		return "", p.GRPC.Port, true
	default:
		return "", Port{}, false
	}
}

// Kind names the probe's type as it is written; "" where none is set.
func (p *Probe) Kind() string {
	if kinds := p.kinds(); len(kinds) > 0 {
		return kinds[0]
	}
	return ""
}

// kinds names the types that are set, in a fixed order.
func (p *Probe) kinds() []string {
	var kinds []string
	for _, k := range []struct {
		name string
		set  bool
	}{
		{"exec", p.Exec != nil}, {"http", p.HTTP != nil}, {"tcp", p.TCP != nil},
		{"grpc", p.GRPC != nil}, {"docker", p.Docker != nil}, {"log", p.Log != nil},
	} {
		if k.set {
			kinds = append(kinds, k.name)
		}
	}
	return kinds
}

// Resolve returns the port's number. A name is looked up among the service's
// named ports; ok is false when it is not there.
func (p Port) Resolve(named map[string]uint16) (number uint16, ok bool) {
	if p.Number != 0 {
		return p.Number, true
	}
	number, ok = named[p.Name]
	return number, ok && number != 0
}

// Clone returns a copy that shares no memory with p.
func (p Probes) Clone() Probes {
	return Probes{Startup: p.Startup.clone(), Readiness: p.Readiness.clone(), Liveness: p.Liveness.clone()}
}

func (p *Probe) clone() *Probe {
	if p == nil {
		return nil
	}
	q := *p
	q.Exec, q.HTTP, q.TCP = cloned(p.Exec), cloned(p.HTTP), cloned(p.TCP)
	q.GRPC, q.Docker, q.Log = cloned(p.GRPC), cloned(p.Docker), cloned(p.Log)
	if q.Exec != nil {
		q.Exec.Command = slices.Clone(q.Exec.Command)
	}
	if q.HTTP != nil {
		q.HTTP.Headers = maps.Clone(q.HTTP.Headers)
	}
	q.OnFailure.Command = slices.Clone(q.OnFailure.Command)
	return &q
}

func cloned[T any](p *T) *T {
	if p == nil {
		return nil
	}
	v := *p
	return &v
}
