package health

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
)

// grpcCheck asks grpc.health.v1.Health/Check. One unary call is one POST over
// HTTP/2 (gRPC over HTTP2, github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md),
// which the standard library speaks; docs/adr/0011-probes.md has the figures.
type grpcCheck struct {
	dial *dialer
	body []byte
}

func newGRPCCheck(g *GRPC, d *dialer) Check {
	c := &grpcCheck{dial: d, body: frame(healthRequest(g.Service))}
	return c.check
}

// healthRequest encodes HealthCheckRequest{service = 1}.
func healthRequest(service string) []byte {
	if service == "" {
		return nil
	}
	const field1Bytes = 1<<3 | 2
	b := binary.AppendUvarint([]byte{field1Bytes}, uint64(len(service)))
	return append(b, service...)
}

// frame puts gRPC's prefix before a message: not compressed, and its length.
func frame(message []byte) []byte {
	b := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))) //nolint:gosec // a service's name
	return append(b, message...)
}

func (c *grpcCheck) check(ctx context.Context) (Outcome, string) {
	transport := &http.Transport{
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHead,
		Protocols:              new(http.Protocols),
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			return c.dial.dial(ctx, address)
		},
	}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(c.request(ctx))
	if err != nil {
		return failed(ctx, err)
	}
	defer resp.Body.Close()
	message, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return failed(ctx, err)
	}
	return answered(resp, message)
}

func (c *grpcCheck) request(ctx context.Context) *http.Request {
	r := &http.Request{
		Method: http.MethodPost,
		URL:    &url.URL{Scheme: "http", Host: c.dial.route.Address, Path: "/grpc.health.v1.Health/Check"},
		Header: http.Header{
			"Content-Type": {"application/grpc"},
			"Te":           {"trailers"},
			"User-Agent":   {userAgent},
		},
		Body:          io.NopCloser(bytes.NewReader(c.body)),
		ContentLength: int64(len(c.body)),
	}
	return r.WithContext(ctx)
}

// The status codes of gRPC that mean something here.
const (
	grpcOK            = 0
	grpcNotFound      = 5
	grpcUnimplemented = 12
)

// answered judges a response whose body has been read.
func answered(resp *http.Response, message []byte) (Outcome, string) {
	if resp.StatusCode != http.StatusOK {
		return Failure, "no gRPC server: HTTP status " + status(resp.StatusCode)
	}
	text := resp.Trailer.Get("Grpc-Status")
	if text == "" {
		text = resp.Header.Get("Grpc-Status") // nothing but trailers
	}
	switch code, err := strconv.Atoi(text); {
	case err != nil:
		return Failure, "no gRPC server: the answer has no status"
	case code == grpcUnimplemented:
		return Failure, "the server does not implement grpc.health.v1.Health"
	case code == grpcNotFound:
		return Failure, "the server does not know the service"
	case code != grpcOK:
		return Failure, fmt.Sprintf("gRPC status %d", code)
	}
	serving, err := servingStatus(message)
	if err != nil {
		return Failure, err.Error()
	}
	names := []string{"UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"}
	const isServing = 1
	switch {
	case serving == isServing:
		return Success, names[serving]
	case serving < uint64(len(names)):
		return Failure, names[serving]
	default:
		return Failure, fmt.Sprintf("serving status %d", serving)
	}
}

var errMessage = errors.New("the answer is no HealthCheckResponse")

// servingStatus decodes HealthCheckResponse{status = 1} with its prefix. Fields
// that are not known are passed over.
func servingStatus(b []byte) (uint64, error) {
	const prefix = 5
	if len(b) < prefix || !bytes.Equal(b[:prefix], frame(b[prefix:])[:prefix]) {
		return 0, errMessage
	}
	var serving uint64
	for b = b[prefix:]; len(b) > 0; {
		tag, n := binary.Uvarint(b)
		if n <= 0 {
			return 0, errMessage
		}
		value, rest, ok := field(tag&7, b[n:])
		if !ok {
			return 0, errMessage
		}
		if tag == 1<<3 {
			serving = value
		}
		b = rest
	}
	return serving, nil
}

// field reads a protobuf field of a wire type; value is that of a varint.
func field(wire uint64, b []byte) (value uint64, rest []byte, ok bool) {
	var size uint64
	switch wire {
	case 0, 2: // varint, length-delimited
		v, n := binary.Uvarint(b)
		if n <= 0 {
			return 0, nil, false
		}
		b = b[n:]
		if wire == 0 {
			return v, b, true
		}
		size = v
	case 1:
		size = 8
	case 5:
		size = 4
	default:
		return 0, nil, false
	}
	if size > uint64(len(b)) {
		return 0, nil, false
	}
	return 0, b[size:], true
}
