package health

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"strings"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/berth-dev/berth/runtime"
)

// Check sends one probe, and returns its outcome and one line that says more.
// It keeps within the probe's timeout, leaves nothing behind, and ends soon
// after ctx does. It is called by one goroutine at a time.
type Check func(ctx context.Context) (Outcome, string)

// Execer runs commands in containers, with both ends bounded.
type Execer interface {
	// Exec runs cmd in a container and returns its exit code and the beginning of
	// what it wrote to both streams. Once the command has run for limit.Time it is
	// killed with all its children, and the error is [ErrTimeout]; every other
	// error says that the command did not run or that its end is not known, except
	// one of [runtime.KindInvalid]: it can never run. Either is wrapped in a
	// [StillRuns] where the command could not be ended. ctx bounds the whole call.
	Exec(ctx context.Context, container string, cmd []string, limit Limit) (exit int, output []byte, err error)
}

// Limit bounds a command in a container.
type Limit struct {
	Time   time.Duration // from when the command runs, not from when the engine was asked
	Output int           // bytes kept of its output; the rest is read and dropped
}

// ErrTimeout is what an [Execer] returns of a command that ran for too long.
var ErrTimeout = errors.New("ran for too long and was killed")

// StillRuns is the error of a command that was to be ended and may still run.
type StillRuns struct {
	After error // what [Execer.Exec] would return of it had it been ended
	Err   error // why it could not be ended
	// End tries again; nil says that nothing of the command is left.
	End func(ctx context.Context) error
}

func (e *StillRuns) Error() string {
	return fmt.Sprintf("%v; it may still run, since it cannot be ended: %v", e.After, e.Err)
}

func (e *StillRuns) Unwrap() error { return e.After }

// Inspector reads what the engine reports of a container.
type Inspector interface {
	Inspect(ctx context.Context, container string) (runtime.Container, error)
}

// LogReader reads what a container wrote.
type LogReader interface {
	// ReadLines calls line with each line that the container wrote at or after
	// since, by the engine's clock, until line returns false, there are no more, or
	// ctx ends. The text is valid during the call.
	ReadLines(ctx context.Context, container string, since time.Time, line func(at time.Time, text []byte) bool) error
}

// Dialer connects from inside the network namespace of a container.
type Dialer func(ctx context.Context, container, address string) (net.Conn, error)

// Checkers makes the checks of real containers. A field that is missing makes
// the probes that need it [Unknown], with a reason.
type Checkers struct {
	Exec    Execer
	Inspect Inspector
	Logs    LogReader
	Helper  Dialer

	left leftovers
}

// The bounds of a check.
const (
	maxExecOutput = 10 << 10 // bytes
	maxOutput     = 512      // bytes of a result's line
	// engineTime is how long the engine may take beside the probe itself.
	engineTime = 10 * time.Second
)

// Make returns the check of one probe of a target.
func (c *Checkers) Make(r Role, p *Probe, t Target) Check {
	q := p.withDefaults()
	switch {
	case q.Exec != nil:
		return c.exec(r, &q, t)
	case q.Docker != nil:
		return c.docker(r, t)
	case q.Log != nil:
		return c.log(&q, t)
	case q.HTTP != nil || q.TCP != nil || q.GRPC != nil:
		return c.network(&q, t.Routes[r])
	default:
		return unknown("the probe has no type")
	}
}

// unknown is the check of a probe that cannot be sent.
func unknown(reason string) Check {
	return func(context.Context) (Outcome, string) { return Unknown, reason }
}

func (c *Checkers) network(p *Probe, r Route) Check {
	if r.Way == "" {
		if r.Reason == "" {
			r.Reason = "no way to the container is known yet"
		}
		return unknown(r.Reason)
	}
	if r.Way == ByHelper && c.Helper == nil {
		return unknown("it takes a helper in the container's network, and there is none: " + r.Reason)
	}
	d := &dialer{route: r, helper: c.Helper}
	var check Check
	switch {
	case p.HTTP != nil:
		check = newHTTPCheck(p.HTTP, d)
	case p.GRPC != nil:
		check = newGRPCCheck(p.GRPC, d)
	default:
		check = d.check
	}
	return within(p.Timeout, check)
}

// within gives a check its time.
func within(limit time.Duration, check Check) Check {
	return func(ctx context.Context) (Outcome, string) {
		ctx, cancel := context.WithTimeoutCause(ctx, limit, tooLate(limit))
		defer cancel()
		return check(ctx)
	}
}

// tooLate is the cause of a probe's end by its own timeout.
type tooLate time.Duration

func (t tooLate) Error() string { return "timed out after " + time.Duration(t).String() }

func (c *Checkers) exec(r Role, p *Probe, t Target) Check {
	if c.Exec == nil {
		return unknown("commands cannot be run")
	}
	limit := Limit{Time: p.Timeout, Output: maxExecOutput}
	key := leftover{t.Container, r}
	return within(p.Timeout+engineTime, func(ctx context.Context) (Outcome, string) {
		if err := c.left.end(ctx, key, time.Now()); err != nil {
			return Unknown, clean(err.Error())
		}
		code, output, err := c.Exec.Exec(ctx, t.Container, p.Exec.Command, limit)
		c.left.note(key, err, time.Now())
		return t.executed(code, output, err, p.Timeout)
	})
}

// executed judges how a command ended.
func (t *Target) executed(code int, output []byte, err error, limit time.Duration) (Outcome, string) {
	text := ""
	if len(output) > 0 {
		text = ": " + t.redact(string(output[:min(len(output), maxExecOutput)]))
	}
	var still *StillRuns
	switch {
	case errors.Is(err, ErrTimeout):
		late := tooLate(limit).Error()
		if errors.As(err, &still) {
			late += ", and may still run, since it cannot be ended (" + still.Err.Error() + ")"
		}
		return Failure, clean(late + text)
	case runtime.IsInvalid(err):
		return Failure, clean(err.Error())
	case err != nil:
		return Unknown, clean(err.Error())
	case code != 0:
		return Failure, clean(fmt.Sprintf("exit code %d%s", code, text))
	default:
		return Success, clean("exit code 0" + text)
	}
}

func (t *Target) redact(text string) string {
	if t.Redact == nil {
		return text
	}
	return t.Redact(text)
}

// docker takes over the engine's verdict. A check that is still starting says
// nothing of a container that ought to be alive, and has not passed where that
// is what counts.
func (c *Checkers) docker(r Role, t Target) Check {
	if c.Inspect == nil {
		return unknown("the engine's healthcheck cannot be read")
	}
	return within(engineTime, func(ctx context.Context) (Outcome, string) {
		ct, err := c.Inspect.Inspect(ctx, t.Container)
		if err != nil {
			return Unknown, clean(err.Error())
		}
		text := ""
		if ct.HealthOutput != "" {
			text = ": " + t.redact(ct.HealthOutput)
		}
		switch ct.Health {
		case runtime.HealthHealthy:
			return Success, clean("healthy" + text)
		case runtime.HealthUnhealthy:
			return Failure, clean("unhealthy" + text)
		case runtime.HealthStarting:
			if r == Readiness {
				return Failure, clean("starting" + text)
			}
			return Unknown, "the engine's healthcheck is still starting"
		default:
			return Unknown, "the container has no healthcheck"
		}
	})
}

// longestLine is how much of a line of output is searched, in bytes.
const longestLine = 64 << 10

// log reads on from the last line it has seen, whose time is the engine's own.
func (c *Checkers) log(p *Probe, t Target) Check {
	re, err := regexp.Compile(p.Log.Pattern)
	if c.Logs == nil || err != nil {
		return unknown("the container's output cannot be searched")
	}
	from, lines, found := t.Started, 0, false
	return within(p.Timeout+engineTime, func(ctx context.Context) (Outcome, string) {
		err := c.Logs.ReadLines(ctx, t.Container, from, func(at time.Time, text []byte) bool {
			lines++
			if at.After(from) {
				from = at
			}
			found = found || re.Match(text[:min(len(text), longestLine)])
			return !found
		})
		switch {
		case found:
			return Success, fmt.Sprintf("line %d matches", lines)
		case err != nil:
			return Unknown, clean(err.Error())
		default:
			return Failure, fmt.Sprintf("none of %d lines matches", lines)
		}
	})
}

// dialer connects along a route.
type dialer struct {
	route  Route
	helper Dialer
}

// dial connects to an address: the route's own, or another port of its host.
// The connection ends with ctx.
func (d *dialer) dial(ctx context.Context, address string) (net.Conn, error) {
	if d.route.Way == ByHelper {
		return d.helper(ctx, d.route.Container, address)
	}
	nd := net.Dialer{KeepAlive: -1} // it does not live that long
	return nd.DialContext(ctx, "tcp", address)
}

// check passes when it connects.
func (d *dialer) check(ctx context.Context) (Outcome, string) {
	conn, err := d.dial(ctx, d.route.Address)
	if err != nil {
		return failed(ctx, err)
	}
	_ = conn.Close() // it served
	return Success, "connected to " + d.route.Address
}

// bound makes a connection end with ctx. The caller calls what it returns when
// it is done.
func bound(ctx context.Context, conn net.Conn) (done func()) {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	return func() {
		stop()
		_ = conn.Close() // it served
	}
}

// failed sorts a network probe's error. What this machine lacks, such as file
// descriptors or ports, is not the container's fault, and neither is a caller
// who gave up, or the engine that was to tell the way.
func failed(ctx context.Context, err error) (Outcome, string) {
	var engine *runtime.Error
	if errors.As(err, &engine) {
		return Unknown, clean(err.Error())
	}
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		<-ctx.Done() // a dial keeps its own timer of the same time
	}
	cause := context.Cause(ctx)
	switch late := tooLate(0); {
	case errors.As(cause, &late):
		return Failure, late.Error()
	case cause != nil:
		return Unknown, cause.Error()
	case scarce(err):
		return Unknown, clean("this machine is out of resources: " + err.Error())
	default:
		return Failure, clean(withoutSource(err).Error())
	}
}

// withoutSource leaves out of a network's error where it was called from, which
// says nothing, and which some calls name and others do not.
func withoutSource(err error) error {
	var op *net.OpError
	if !errors.As(err, &op) || op.Source == nil {
		return err
	}
	bare := *op
	bare.Source = nil
	return &bare
}

func scarce(err error) bool {
	for _, e := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL, syscall.EAGAIN} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// clean makes one printable line of at most [maxOutput] bytes.
func clean(s string) string {
	var b strings.Builder
	space := false
	for _, r := range s {
		switch {
		case unicode.IsSpace(r):
			space = b.Len() > 0
			continue
		case r == utf8.RuneError || !unicode.IsPrint(r):
			r = '?'
		}
		if space {
			b.WriteByte(' ')
			space = false
		}
		if b.Len()+utf8.RuneLen(r) > maxOutput-len("…") {
			b.WriteString("…")
			break
		}
		b.WriteRune(r)
	}
	return b.String()
}
