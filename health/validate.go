package health

import (
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Fault is one thing wrong with a spec: the key below "probes", with dots
// between its parts, and what is wrong with it.
type Fault struct {
	Key    string // "liveness.http.port"
	Reason string
}

// Error reads "liveness.period: 100ms is too short; …".
func (f *Fault) Error() string { return f.Key + ": " + f.Reason }

// Validate returns what is wrong with the probes, in the order of the roles;
// nil when nothing is. named holds the service's named ports.
func (p Probes) Validate(named map[string]uint16) []*Fault {
	var v validator
	for _, r := range Roles() {
		if probe := p.Of(r); probe != nil {
			v.probe(r, probe, named)
		}
	}
	return v.faults
}

// validator gathers faults.
type validator struct{ faults []*Fault }

func (v *validator) add(key, format string, args ...any) {
	v.faults = append(v.faults, &Fault{Key: key, Reason: fmt.Sprintf(format, args...)})
}

func (v *validator) probe(r Role, p *Probe, named map[string]uint16) {
	key := string(r)
	switch kinds := p.kinds(); {
	case len(kinds) == 0:
		v.add(key, "has no type; give one of exec, http, https, tcp, grpc, docker or log")
	case len(kinds) > 1:
		v.add(key, "has the types %s; a probe has exactly one", strings.Join(kinds, " and "))
	}
	v.numbers(key, r, p)
	v.action(key, r, p.OnFailure)
	v.command(key+".exec", p.Exec)
	if h := p.HTTP; h != nil {
		v.http(key+".http", h, named)
	}
	if p.TCP != nil {
		v.host(key+".tcp.host", p.TCP.Host)
		v.port(key+".tcp.port", p.TCP.Port, named)
	}
	if p.GRPC != nil {
		v.port(key+".grpc.port", p.GRPC.Port, named)
	}
	v.log(key+".log", r, p.Log)
}

func (v *validator) numbers(key string, r Role, p *Probe) {
	if p.InitialDelay < 0 || p.InitialDelay > longest {
		v.add(key+".initialDelay", "%s is out of range; it is 0 or more", p.InitialDelay)
	}
	v.atLeast(key+".period", p.Period)
	v.atLeast(key+".timeout", p.Timeout)
	v.atLeast(key+".terminationGracePeriod", p.Grace)
	if p.Grace != 0 && !r.Ends() {
		v.add(key+".terminationGracePeriod", "belongs to startup and liveness: a readiness probe stops nothing")
	}
	v.threshold(key+".successThreshold", p.SuccessThreshold)
	v.threshold(key+".failureThreshold", p.FailureThreshold)
	if p.SuccessThreshold > 1 && r.Ends() {
		v.add(key+".successThreshold", "is %d; it must be 1 for %s", p.SuccessThreshold, r)
	}
}

// atLeast checks a duration whose zero means the default.
func (v *validator) atLeast(key string, d time.Duration) {
	switch {
	case d == 0:
	case d < Shortest:
		v.add(key, "%s is too short; the least is %s", d, Shortest)
	case d > longest:
		v.add(key, "%s is too long", d)
	}
}

func (v *validator) threshold(key string, n int) {
	if n < 0 || n > MaxThreshold {
		v.add(key, "%d is out of range; it is 1 to %d", n, MaxThreshold)
	}
}

func (v *validator) action(key string, r Role, a Action) {
	key += ".onFailure"
	if !r.Ends() && !a.zero() && a.Do != Nothing {
		v.add(key, "belongs to startup and liveness: a readiness probe only takes the replica out of traffic")
		return
	}
	switch a.Do {
	case "", Restart, Recreate, Stop, Pause, Nothing:
	case RunExec:
		v.command(key+".exec", &Exec{Command: a.Command})
	case Webhook:
		v.webhook(key+".webhook", a.URL)
	default:
		v.add(key, "%q is no action; give restart, recreate, stop, pause, none, exec or webhook", a.Do)
	}
	if a.Do != RunExec && len(a.Command) > 0 || a.Do != Webhook && a.URL != "" {
		v.add(key, "has more than one action; give one")
	}
}

func (v *validator) webhook(key, raw string) {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Host == "":
		v.add(key, "is no URL; give one such as http://host:8080/path")
	case u.Scheme != "http" && u.Scheme != "https":
		v.add(key, "has the scheme %q; give http or https", u.Scheme)
	}
}

func (v *validator) command(key string, e *Exec) {
	switch {
	case e == nil:
	case len(e.Command) == 0 || e.Command[0] == "":
		v.add(key, "has no command; give a list such as [cat, /tmp/ready]")
	case strings.ContainsRune(strings.Join(e.Command, ""), 0):
		v.add(key, "holds a NUL character")
	}
}

func (v *validator) http(key string, h *HTTP, named map[string]uint16) {
	if h.Scheme != "" && h.Scheme != "http" && h.Scheme != "https" {
		v.add(key+".scheme", "%q is unknown; give http or https", h.Scheme)
	}
	v.host(key+".host", h.Host)
	v.port(key+".port", h.Port, named)
	if h.Path != "" {
		if _, err := url.ParseRequestURI(h.Path); err != nil || h.Path[0] != '/' {
			v.add(key+".path", "%q is no path; it begins with / and is encoded as in a URL", h.Path)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(h.Headers)) {
		v.header(key+".headers."+name, name, h.Headers[name])
	}
}

// token is a header's name, RFC 9110 section 5.1.
var token = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")

func (v *validator) header(key, name, value string) {
	if !token.MatchString(name) {
		v.add(key, "is no header's name")
	}
	if strings.ContainsAny(value, "\r\n\x00") {
		v.add(key, "holds a line break or a NUL character")
	}
}

// hostname is a name or an address, without port, brackets or zone.
var hostname = regexp.MustCompile(`^[0-9A-Za-z._:-]+$`)

func (v *validator) host(key, host string) {
	if host != "" && !hostname.MatchString(host) {
		v.add(key, "%q is no host; give a name or an address", host)
	}
}

func (v *validator) port(key string, p Port, named map[string]uint16) {
	switch _, known := p.Resolve(named); {
	case p.Number != 0 && p.Name != "":
		v.add(key, "has a number and a name; give one")
	case p.Number == 0 && p.Name == "":
		v.add(key, "is missing; give 1 to 65535, or the name of one of the service's ports")
	case !known && len(named) == 0:
		v.add(key, "no port is named %q: the service names none; give a number, or a name under ports", p.Name)
	case !known:
		v.add(key, "no port is named %q; the service names %s", p.Name, strings.Join(slices.Sorted(maps.Keys(named)), ", "))
	}
}

// longestPattern bounds a log probe's expression, in bytes.
const longestPattern = 4096

func (v *validator) log(key string, r Role, l *Log) {
	if l == nil {
		return
	}
	if r != Startup {
		v.add(key, "belongs to startup: what was once written says nothing of now")
	}
	switch _, err := regexp.Compile(l.Pattern); {
	case l.Pattern == "":
		v.add(key+".pattern", "is empty, and would match anything")
	case len(l.Pattern) > longestPattern:
		v.add(key+".pattern", "is longer than %d bytes", longestPattern)
	case err != nil:
		v.add(key+".pattern", "%s", err)
	}
}
