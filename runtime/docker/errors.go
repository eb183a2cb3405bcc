package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"syscall"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/client"

	"github.com/berth-dev/berth/runtime"
)

// fail turns an error of the SDK into one of the four kinds. It is nil for nil.
func (e *Engine) fail(op, object string, err error) error {
	if err == nil {
		return nil
	}
	var ours *runtime.Error
	if errors.As(err, &ours) {
		if ours.Op == "" {
			return &runtime.Error{Kind: ours.Kind, Op: op, Object: object, Err: ours.Err}
		}
		return err
	}
	out := &runtime.Error{Kind: kindOf(err), Op: op, Object: object}
	switch {
	case errors.Is(err, context.Canceled):
		out.Err = err
	case errors.Is(err, context.DeadlineExceeded):
		out.Err = fmt.Errorf("no answer from the engine at %s in time: %w", e.endpoint.host, context.DeadlineExceeded)
	case unreachable(err):
		out.Err = &message{text: unreachableText(e.endpoint.host, err), cause: err}
	default:
		out.Err = &message{text: clean(err.Error()), cause: err}
	}
	return out
}

// message is an error with the SDK's noise taken out; the cause stays reachable.
type message struct {
	text  string
	cause error
}

func (m *message) Error() string { return m.text }
func (m *message) Unwrap() error { return m.cause }

// refuse is an error that Berth itself gives before asking the engine.
func refuse(kind runtime.Kind, op, object, format string, args ...any) error {
	return &runtime.Error{Kind: kind, Op: op, Object: object, Err: fmt.Errorf(format, args...)}
}

// kindOf sorts an error of the SDK. What the engine calls an internal error is
// sorted by its text, since the engine answers 500 to many things that are
// somebody's mistake; what the text does not tell stays Unavailable.
func kindOf(err error) runtime.Kind {
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), unreachable(err):
		return runtime.KindUnavailable
	}
	if k := kindByText(strings.ToLower(err.Error())); k != "" {
		return k
	}
	return kindByStatus(err)
}

// kindByStatus sorts an error by the status code of the engine's answer.
func kindByStatus(err error) runtime.Kind {
	switch {
	case errdefs.IsNotFound(err):
		return runtime.KindNotFound
	case errdefs.IsConflict(err), errdefs.IsAlreadyExists(err), errdefs.IsPermissionDenied(err), errdefs.IsFailedPrecondition(err):
		return runtime.KindConflict // the engine forbids what an object's state does not allow
	case errdefs.IsInvalidArgument(err), errdefs.IsNotImplemented(err), errdefs.IsUnauthorized(err), errdefs.IsOutOfRange(err):
		return runtime.KindInvalid
	default:
		return runtime.KindUnavailable
	}
}

// kindByText knows what the engine reports under a wrong status code.
func kindByText(text string) runtime.Kind {
	has := func(parts ...string) bool {
		for _, p := range parts {
			if strings.Contains(text, p) {
				return true
			}
		}
		return false
	}
	switch {
	case has("is too new. maximum supported api version", "is too old. minimum supported api version"):
		return runtime.KindUnavailable // another engine has taken its place; a ping finds its version
	case has("port is already allocated", "address already in use", "ports are not available"):
		return runtime.KindConflict
	case has("is already in progress", "device or resource busy", "container is marked for removal", "is restarting, wait until",
		"has active endpoints", "already exists in network", "address is already in use by", "is zombie", "cannot join network of a non running container"):
		return runtime.KindConflict
	case has("received 409"): // of a connection to be hijacked only the status is told
		return runtime.KindConflict
	case has("received 404"):
		return runtime.KindNotFound
	case has("received 400"):
		return runtime.KindInvalid
	case has("pool overlaps with other one"):
		return runtime.KindConflict
	case has("fully subnetted", "non-overlapping ipv4 address pool", "no available ipv4 addresses", "no space left on device",
		"resource temporarily unavailable", "cannot allocate memory"):
		return runtime.KindUnavailable
	case has("manifest unknown", "no such image", "pull access denied", "repository does not exist", "no matching manifest"):
		return runtime.KindNotFound
	case has("unauthorized:", "authentication required", "no basic auth credentials", "incorrect username or password", "denied:"):
		return runtime.KindInvalid
	case has("oci runtime create failed", "oci runtime exec failed", "failed to create task", "error mounting", "error while creating mount source path"):
		if has("executable file not found", "no such file or directory", "permission denied", "not a directory", "is a directory",
			"exec format error", "invalid argument", "operation not permitted", "outside of rootfs", "unknown capability", "no such process") {
			return runtime.KindInvalid
		}
	case has("error processing tar file", "container rootfs is marked read-only", "not a directory"):
		return runtime.KindInvalid
	case has("failed to parse", "dockerfile parse error", "returned a non-zero code", "requires buildkit", "unknown instruction", "forbidden path outside the build context"):
		return runtime.KindInvalid
	case has("minimum memory", "range of cpus", "invalid cpu", "should be less than", "conflicting options", "unsupported", "unknown runtime", "unknown log opt", "invalid mount config", "plugin not found", "error looking up logging plugin"):
		return runtime.KindInvalid
	}
	return ""
}

// unreachable reports whether the request did not get an answer: the engine is
// not there, or the connection broke and the outcome is unknown.
func unreachable(err error) bool {
	var op *net.OpError
	return client.IsErrConnectionFailed(err) || errors.As(err, &op) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNREFUSED)
}

func unreachableText(host string, err error) string {
	text := err.Error()
	switch {
	case errors.Is(err, syscall.EACCES) || strings.Contains(text, "permission denied"):
		return fmt.Sprintf("permission denied on the Docker engine's socket at %s: run as a user of its group", host)
	case strings.Contains(text, "EOF") || strings.Contains(text, "connection reset") || strings.Contains(text, "broken pipe"):
		return fmt.Sprintf("the Docker engine at %s closed the connection without an answer", host)
	case strings.Contains(text, "malformed HTTP response"):
		return fmt.Sprintf("the Docker engine at %s wants TLS: set DOCKER_TLS_VERIFY and DOCKER_CERT_PATH", host)
	case strings.Contains(text, "tls:") || strings.Contains(text, "x509:") || strings.Contains(text, "certificate"):
		return fmt.Sprintf("TLS with the Docker engine at %s failed: %s", host, lastPart(text))
	case strings.Contains(text, "no such host"):
		return fmt.Sprintf("cannot reach the Docker engine at %s: no such host", host)
	default:
		return fmt.Sprintf("cannot reach the Docker engine at %s: is it running?", host)
	}
}

func lastPart(text string) string {
	if i := strings.LastIndex(text, "tls: "); i >= 0 {
		return text[i:]
	}
	if i := strings.LastIndex(text, "x509: "); i >= 0 {
		return text[i:]
	}
	return text
}

var (
	portTaken = regexp.MustCompile(`(?i)bind for (\S+) failed: port is already allocated`)
	portInUse = regexp.MustCompile(`(?i)listen (\w+) (\S+): bind: address already in use`)
	bindFails = regexp.MustCompile(`(?i)failed to bind (?:host )?port (?:for )?(\S+?:\d+)(?::\S+:\d+)?(/\w+)?\b.*address already in use`)
	userInfo  = regexp.MustCompile(`://[^/\s@]+@`)
	noise     = regexp.MustCompile(`(?i)^(error response from daemon|error during connect|failed to create (shim )?task(?: for container)?|oci runtime (create|exec) failed|runc (create|exec) failed|container_linux\.go:\d+|process_linux\.go:\d+|rootfs_linux\.go:\d+|unable to start container process|starting container process caused|error during container init|exec failed|error while creating mount source path|invalid reference format: repository name|unknown|errdefs|rpc error|error processing tar file\(exit status \d+\)): *`)
)

// clean takes wrapping out of an engine's message that says nothing to a
// person, and brings the messages for a taken port into one form.
func clean(text string) string {
	if m := portTaken.FindStringSubmatch(text); m != nil {
		return fmt.Sprintf("port %s is already allocated to another container", m[1])
	}
	if m := portInUse.FindStringSubmatch(text); m != nil {
		return fmt.Sprintf("port %s/%s is already in use on the host", m[2], strings.TrimRight(m[1], "46"))
	}
	if m := bindFails.FindStringSubmatch(text); m != nil {
		return fmt.Sprintf("port %s%s is already in use on the host", m[1], m[2])
	}
	for {
		loc := noise.FindStringIndex(text)
		if loc == nil || loc[1] == len(text) {
			break
		}
		text = text[loc[1]:]
	}
	text = redact(strings.TrimSuffix(strings.TrimSpace(text), ": unknown"))
	return strings.Join(strings.Fields(strings.ReplaceAll(text, "\n", " ")), " ")
}

// redact takes credentials out of addresses.
func redact(text string) string { return userInfo.ReplaceAllString(text, "://xxxxx@") }

// outcomeUnknown reports whether a failed request may have been carried out
// all the same: the connection broke, time ran out, or the engine failed inside.
func outcomeUnknown(err error) bool {
	return !errors.Is(err, context.Canceled) && kindByStatus(err) == runtime.KindUnavailable
}
