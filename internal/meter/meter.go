// Package meter asks for the values that services are scaled by and that no
// counter of the kernel holds: of a page in the format of Prometheus, of a command
// in a container, of an address.
//
// Invariants:
//   - an answer is bounded in time and in size, whoever gives it; a longer one is
//     an error and not cut to a value;
//   - a value is a finite number that is not negative, or an error;
//   - an answer may hold a secret, and so may an address: neither is in an error;
//   - where a request is sent is what the service says: a redirect leads nowhere
//     else.
package meter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"strconv"
	"time"

	"github.com/berth-dev/berth/health"
	"github.com/berth-dev/berth/internal/stack"
)

// The bounds of an answer.
const (
	// Limit is how long one value may take.
	Limit = 2 * time.Second
	// maxPage is how many bytes a page of metrics may have.
	maxPage = 4 << 20
	// maxAnswer is how many bytes a command prints, or an address answers.
	maxAnswer = 64 << 10
)

// At is the container that is asked.
type At struct {
	Container string // its ID
	// Route is the way to its page; see [health.Choose].
	Route health.Route
}

// Meter asks for values. It may be used by several goroutines; a value that takes
// its time delays no other.
type Meter struct {
	// Exec runs commands in containers; nil: none can be run.
	Exec health.Execer
	// Helper connects from inside the network of a container; nil: nothing does.
	Helper health.Dialer
}

// Value asks for one value, in thousandths, rounded to the nearest; at most
// [math.MaxInt64]. at is not looked at for an address.
func (m *Meter) Value(ctx context.Context, src *stack.MetricSource, at At) (int64, error) {
	value, err := m.ask(ctx, src, at)
	if err != nil {
		return 0, fmt.Errorf("ask for %s: %w", what(src), err)
	}
	n, err := thousandths(value)
	if err != nil {
		return 0, fmt.Errorf("ask for %s: %w", what(src), err)
	}
	return n, nil
}

// what names a source without what may be secret of it.
func what(src *stack.MetricSource) string {
	switch src.Kind {
	case stack.MetricPrometheus:
		return src.Metric
	case stack.MetricExec:
		return "what a command prints"
	default:
		return "what a " + string(src.Kind) + " answers"
	}
}

func (m *Meter) ask(ctx context.Context, src *stack.MetricSource, at At) (float64, error) {
	switch src.Kind {
	case stack.MetricPrometheus:
		return m.page(ctx, src, at)
	case stack.MetricExec:
		return m.command(ctx, src, at)
	case stack.MetricWebhook:
		return m.address(ctx, src)
	default:
		return 0, fmt.Errorf("%s is not asked for", src.Kind)
	}
}

// command runs a command that prints a value.
func (m *Meter) command(ctx context.Context, src *stack.MetricSource, at At) (float64, error) {
	if m.Exec == nil {
		return 0, errors.New("no commands can be run in containers of this engine")
	}
	code, output, err := m.Exec.Exec(ctx, at.Container, src.Command, health.Limit{Time: Limit, Output: maxAnswer + 1})
	switch {
	case errors.Is(err, health.ErrTimeout):
		return 0, fmt.Errorf("the command did not end within %s: %w", Limit, err)
	case err != nil:
		return 0, err
	case code != 0:
		return 0, fmt.Errorf("the command ended with %d", code)
	}
	return number(output)
}

// errTooLong is of an answer that is longer than it may be.
var errTooLong = errors.New("the answer is too long")

// number reads an answer that is a number and nothing else.
func number(answer []byte) (float64, error) {
	if len(answer) > maxAnswer {
		return 0, fmt.Errorf("%w: more than %d KiB, where a number is expected", errTooLong, maxAnswer>>10)
	}
	text := bytes.TrimSpace(answer)
	if len(text) == 0 {
		return 0, errors.New("the answer is empty; it must be one number")
	}
	n, err := strconv.ParseFloat(string(text), 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0, fmt.Errorf("the answer of %d bytes is not a number, and nothing else may stand in it", len(text))
	}
	return n, nil
}

// thousandths is a value as policies count it.
func thousandths(value float64) (int64, error) {
	switch {
	case math.IsNaN(value):
		return 0, errors.New("the value is NaN, which is no number")
	case math.IsInf(value, 0):
		return 0, errors.New("the value is infinite")
	case value < 0:
		return 0, fmt.Errorf("the value is negative (%g); services are scaled by values from 0 on", value)
	}
	if n := math.Round(value * 1000); n < math.MaxInt64 {
		return int64(n), nil
	}
	return math.MaxInt64, nil
}

// dial connects to where a page is.
func (m *Meter) dial(at At) (func(ctx context.Context, network, address string) (net.Conn, error), error) {
	switch {
	case at.Route.Way == "":
		return nil, errors.New("no way leads to its page: " + at.Route.Reason)
	case at.Route.Way != health.ByHelper:
		return (&net.Dialer{KeepAlive: -1}).DialContext, nil // it does not live that long
	case m.Helper == nil:
		return nil, errors.New("it takes a helper in the container's network, and there is none: " + at.Route.Reason)
	}
	return func(ctx context.Context, _, address string) (net.Conn, error) {
		return m.Helper(ctx, at.Route.Container, address)
	}, nil
}
