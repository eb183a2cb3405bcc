package stack

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/berth-dev/berth/health"
)

// health reads what x-berth says of a service's health: its probes, what follows
// from a failing healthcheck, and how it lives on with its dependencies.
func (t *translator) health(s *Service, c types.ServiceConfig, ext setting) error {
	ports := namePorts(c.Ports)
	s.NamedPorts = ports.numbers
	if err := t.probes(s, c, ports, ext.get("probes")); err != nil {
		return err
	}
	if err := t.onUnhealthy(s, c, ext.get("onUnhealthy")); err != nil {
		return err
	}
	return t.dependsOn(s, ext.get("dependsOn"))
}

// portNames are the names that ports: gives to a service's ports.
type portNames struct {
	numbers  map[string]uint16 // those that a probe may use; nil: none
	unusable map[string]string // the others, and why not

	ambiguous map[string]bool // of the others, those that mean two ports
}

// namePorts reads ports.*.name. A name is of no use to a probe when it means a
// port that speaks no TCP, or two ports.
func namePorts(list []types.ServicePortConfig) portNames {
	p := portNames{unusable: map[string]string{}, ambiguous: map[string]bool{}}
	for _, port := range list {
		number := uint16(min(port.Target, math.MaxUint16)) // one that is larger is refused elsewhere
		switch first, known := p.numbers[port.Name]; {
		case port.Name == "" || p.ambiguous[port.Name]:
		case port.Protocol != "" && !strings.EqualFold(port.Protocol, "tcp"):
			if !known {
				p.unusable[port.Name] = "speaks " + strings.ToLower(port.Protocol) + "; probes speak TCP"
			}
		case known && first != number:
			delete(p.numbers, port.Name)
			p.ambiguous[port.Name] = true
			p.unusable[port.Name] = fmt.Sprintf("means both %d and %d; give one of them another name", first, number)
		default:
			if p.numbers == nil {
				p.numbers = map[string]uint16{}
			}
			p.numbers[port.Name] = number
			delete(p.unusable, port.Name)
		}
	}
	return p
}

// probes reads x-berth.probes and holds it against the rules of package health.
func (t *translator) probes(s *Service, c types.ServiceConfig, ports portNames, ext setting) error {
	for _, part := range []struct {
		role  health.Role
		probe **health.Probe
	}{{health.Startup, &s.Probes.Startup}, {health.Readiness, &s.Probes.Readiness}, {health.Liveness, &s.Probes.Liveness}} {
		from := ext.get(string(part.role))
		if !from.given() {
			continue
		}
		probe, err := readProbe(from, ports)
		if err != nil {
			return err
		}
		*part.probe = probe
		if err := t.engineProbe(probe, c, from.get("docker")); err != nil {
			return err
		}
	}
	for _, fault := range s.Probes.Validate(s.NamedPorts) {
		return faultAt(ext, fault).fail("%s", oneLine(fault.Reason))
	}
	return nil
}

// faultAt is the setting that a fault is about. A probe that is written as https
// is one of http to package health.
func faultAt(probes setting, fault *health.Fault) setting {
	at := probes
	for _, key := range strings.SplitN(fault.Key, ".", 4) { // a header's name may have dots
		if next := at.get("https"); key == "http" && next.given() {
			at = next
			continue
		}
		at = at.get(key)
	}
	return at
}

// engineProbe wants a healthcheck behind a probe that takes over its status.
func (t *translator) engineProbe(p *health.Probe, c types.ServiceConfig, at setting) error {
	if p.Docker == nil {
		return nil
	}
	return t.wantsHealthcheck(c, at)
}

// wantsHealthcheck refuses a setting that depends on a healthcheck which the
// file turns off, and warns where the file has none: the image may bring one.
func (t *translator) wantsHealthcheck(c types.ServiceConfig, at setting) error {
	h := healthcheck(c.HealthCheck)
	switch {
	case h != nil && h.Disable:
		return at.fail("depends on the engine's healthcheck, which is turned off (%s); give one, or drop this", t.position("services", c.Name, "healthcheck"))
	case h == nil || len(h.Test) == 0:
		t.warn("depends on the engine's healthcheck: the file has none, so the image must bring one", at.path...)
	}
	return nil
}

// kinds are the types of a probe, as they are written.
var kinds = []string{"exec", "http", "https", "tcp", "grpc", "docker", "log"}

// readProbe reads one probe. What its type and numbers may be is left to
// package health, but for what cannot be told from its spec any more.
func readProbe(s setting, ports portNames) (*health.Probe, error) {
	p := &health.Probe{}
	given := slices.DeleteFunc(slices.Clone(kinds), func(k string) bool {
		kind := s.get(k)
		return !kind.given() || k == "docker" && kind.text() == "false"
	})
	if len(given) > 1 {
		return nil, s.fail("has the types %s; a probe has exactly one", strings.Join(given, " and "))
	}
	if len(given) == 1 {
		if err := readKind(p, s.get(given[0]), ports); err != nil {
			return nil, err
		}
	}
	if err := readTimes(p, s); err != nil {
		return nil, err
	}
	var err error
	if p.SuccessThreshold, err = s.get("successThreshold").integer(0); err != nil {
		return nil, err
	}
	if p.FailureThreshold, err = s.get("failureThreshold").integer(0); err != nil {
		return nil, err
	}
	p.OnFailure, err = readAction(s.get("onFailure"))
	return p, err
}

// readTimes reads the durations of a probe. Zero stands for the default in a
// probe's spec, so one that is written out is refused where it has no meaning.
func readTimes(p *health.Probe, s setting) error {
	delay := s.get("initialDelay")
	var err error
	if p.InitialDelay, err = delay.duration(); err != nil {
		return err
	}
	period, timeout, grace := s.get("period"), s.get("timeout"), s.get("terminationGracePeriod")
	if p.Period, err = period.duration(); err != nil {
		return err
	}
	if p.Timeout, err = timeout.duration(); err != nil {
		return err
	}
	if p.Grace, err = grace.duration(); err != nil {
		return err
	}
	for _, d := range []struct {
		from setting
		zero bool
	}{{period, p.Period == 0}, {timeout, p.Timeout == 0}, {grace, p.Grace == 0}} {
		if d.from.given() && d.zero {
			return d.from.fail("0s is too short; the least is %s", health.Shortest)
		}
	}
	return nil
}

// readKind reads what a probe does.
func readKind(p *health.Probe, s setting, ports portNames) error {
	port, err := readPort(s.get("port"), ports)
	if err != nil {
		return err
	}
	switch s.key() {
	case "exec":
		p.Exec = &health.Exec{Command: s.texts()}
		if len(p.Exec.Command) == 0 {
			p.Exec.Command = s.get("command").texts()
		}
	case "http", "https":
		p.HTTP, err = readHTTP(s, port)
	case "tcp":
		p.TCP = &health.TCP{Port: port, Host: s.get("host").text()}
	case "grpc":
		p.GRPC = &health.GRPC{Port: port, Service: s.get("service").text()}
	case "docker":
		p.Docker = &health.Docker{}
	case "log":
		p.Log = &health.Log{Pattern: s.get("pattern").text()}
	}
	return err
}

func readHTTP(s setting, port health.Port) (*health.HTTP, error) {
	h := &health.HTTP{Scheme: s.get("scheme").text(), Host: s.get("host").text(), Path: s.get("path").text(), Port: port}
	if s.key() == "https" {
		if h.Scheme != "" && h.Scheme != "https" {
			return nil, s.get("scheme").fail("is %s, but the probe is of the type https; drop one of them", clip(h.Scheme))
		}
		h.Scheme = "https"
	}
	for _, header := range s.get("headers").parts() {
		if h.Headers == nil {
			h.Headers = map[string]string{}
		}
		h.Headers[header.key()] = header.text()
	}
	return h, nil
}

// readPort reads a number or a name; zero where there is none.
func readPort(s setting, ports portNames) (health.Port, error) {
	text := s.text()
	if n, err := strconv.ParseUint(text, 10, 16); err == nil {
		return health.Port{Number: uint16(n)}, nil
	}
	if why := ports.unusable[text]; why != "" {
		return health.Port{}, s.fail("the port %q %s", clip(text), why)
	}
	return health.Port{Name: text}, nil
}

// readAction reads onFailure: a word, or a command or URL.
func readAction(s setting) (health.Action, error) {
	if !s.given() {
		return health.Action{}, nil
	}
	if s.isText() {
		return health.Action{Do: health.Do(s.text())}, nil
	}
	a := health.Action{Command: s.get("exec").texts(), URL: s.get("webhook").text()}
	switch {
	case s.get("exec").given(): // with a webhook besides, package health refuses it
		a.Do = health.RunExec
	case s.get("webhook").given():
		a.Do = health.Webhook
	default:
		return a, s.fail("says nothing; give restart, recreate, stop, pause, none, {exec: [...]} or {webhook: ...}")
	}
	return a, nil
}

// onUnhealthy reads what a failing healthcheck of the engine leads to.
func (t *translator) onUnhealthy(s *Service, c types.ServiceConfig, ext setting) error {
	if !ext.given() || ext.text() == string(health.Nothing) {
		return nil
	}
	if p := s.Probes.Liveness; p != nil && p.Docker != nil {
		return ext.fail("and probes.liveness.docker both act on the engine's healthcheck; keep one")
	}
	s.OnUnhealthy.Do = health.Do(ext.text())
	return t.wantsHealthcheck(c, ext)
}

// dependsOn reads how a service lives on with what it depends on.
func (t *translator) dependsOn(s *Service, ext setting) error {
	resting, deadline := ext.get("whileUnready"), ext.get("deadline")
	if text := resting.text(); text != "keep" {
		s.WhileUnready = WhileUnready(text)
	}
	var err error
	if s.DependencyDeadline, err = deadline.duration(); err != nil {
		return err
	}
	healthy := slices.ContainsFunc(s.DependsOn, func(d Dependency) bool { return d.Condition == Healthy })
	if s.WhileUnready != Keep && !healthy {
		t.warn("has no effect: no dependency has condition: service_healthy", resting.path...)
	}
	if s.DependencyDeadline > 0 && len(s.DependsOn) == 0 {
		t.warn("has no effect: the service depends on nothing", deadline.path...)
	}
	return nil
}
