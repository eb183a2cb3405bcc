package runtime

import (
	"context"
	"errors"
	"strings"
)

// Kind sorts an engine's errors by what the caller may do about them.
type Kind string

// The kinds of error.
const (
	// KindNotFound: the object does not exist. Create it, or be content.
	KindNotFound Kind = "not found"
	// KindConflict: the object's state or name forbids the operation. Look again.
	KindConflict Kind = "conflict"
	// KindInvalid: the request can never succeed as it is. Never retried.
	KindInvalid Kind = "invalid"
	// KindUnavailable: the engine did not answer, or answered that it cannot
	// now. The outcome may be unknown: look before retrying, with backoff.
	KindUnavailable Kind = "unavailable"
)

// Error is a failed engine operation: what failed, on which object, and why.
type Error struct {
	Kind   Kind
	Op     string // verb, such as "start" or "pull"
	Object string // name of the container, image, network or volume
	Err    error
}

// Error reads "start shop-web-1: port 8080 is already allocated".
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.Object != "" {
		b.WriteByte(' ')
		b.WriteString(e.Object)
	}
	if e.Err != nil {
		if b.Len() > 0 {
			b.WriteString(": ")
		}
		b.WriteString(e.Err.Error())
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// KindOf returns the kind of err: that of the [Error] it wraps, and
// [KindUnavailable] for every other error, since nothing is known about its
// outcome. It is empty for nil.
func KindOf(err error) Kind {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) && e.Kind != "" {
		return e.Kind
	}
	return KindUnavailable
}

// IsNotFound reports whether err says that the object does not exist.
func IsNotFound(err error) bool { return KindOf(err) == KindNotFound }

// IsConflict reports whether err says that state or name forbids the operation.
func IsConflict(err error) bool { return KindOf(err) == KindConflict }

// IsInvalid reports whether err says that the request can never succeed.
func IsInvalid(err error) bool { return KindOf(err) == KindInvalid }

// IsUnavailable reports whether the engine could not answer; an ended context
// is not counted, since then it was the caller who gave up.
func IsUnavailable(err error) bool {
	return KindOf(err) == KindUnavailable && !errors.Is(err, context.Canceled)
}
