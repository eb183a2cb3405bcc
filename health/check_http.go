package health

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
)

// The bounds of an HTTP probe.
const (
	maxBody      = 10 << 10 // bytes read of a body
	maxHead      = 64 << 10 // bytes read of a status line and headers
	maxRedirects = 10
	userAgent    = "berth-probe"
)

// httpCheck asks by HTTP/1.1 over a connection of its own, which costs a
// fraction of what a general client does and leaves no goroutine.
type httpCheck struct {
	dial    *dialer
	url     *url.URL
	headers http.Header
	host    string // virtual host; empty: the URL's
	first   []byte // the first request as sent
}

func newHTTPCheck(h *HTTP, d *dialer) Check {
	path, err := url.ParseRequestURI("/" + strings.TrimPrefix(h.Path, "/"))
	if err != nil {
		return unknown("the path is no path")
	}
	c := &httpCheck{dial: d, url: path, headers: http.Header{"User-Agent": {userAgent}, "Accept": {"*/*"}}}
	c.url.Scheme, c.url.Host = "http", d.route.Address
	if h.Scheme == "https" {
		c.url.Scheme = "https"
	}
	for _, name := range slices.Sorted(maps.Keys(h.Headers)) {
		if strings.EqualFold(name, "Host") {
			c.host = h.Headers[name]
			continue
		}
		c.headers.Set(name, h.Headers[name])
	}
	c.first = c.request(c.url)
	return c.check
}

// request is a GET as it is sent.
func (c *httpCheck) request(u *url.URL) []byte {
	var b bytes.Buffer
	host := u.Host
	if c.host != "" {
		host = c.host
	}
	fmt.Fprintf(&b, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n", u.RequestURI(), host)
	_ = c.headers.Write(&b) // a buffer takes everything
	b.WriteString("\r\n")
	return b.Bytes()
}

func (c *httpCheck) check(ctx context.Context) (Outcome, string) {
	u, request := c.url, c.first
	for range maxRedirects + 1 {
		code, location, err := c.get(ctx, u, request)
		if err != nil {
			return failed(ctx, err)
		}
		next, text := c.next(u, code, location)
		switch {
		case text != "":
			return Success, text
		case next != nil:
			u, request = next, c.request(next)
		case code >= 200 && code < 400:
			return Success, status(code)
		default:
			return Failure, status(code)
		}
	}
	return Failure, fmt.Sprintf("stopped after %d redirects", maxRedirects)
}

// status is a code as people read it; the body is nobody's business.
func status(code int) string {
	return strings.TrimSpace(fmt.Sprintf("%d %s", code, http.StatusText(code)))
}

// next returns where a response leads: nowhere, to a URL of the same host, or
// elsewhere, which passes with a text that says so.
func (c *httpCheck) next(u *url.URL, code int, location string) (next *url.URL, elsewhere string) {
	switch code {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
	default:
		return nil, ""
	}
	if location == "" {
		return nil, ""
	}
	next, err := u.Parse(location)
	switch {
	case err != nil || next.Scheme != "http" && next.Scheme != "https":
		return nil, status(code) + ", redirects to something that is no web address"
	case next.Hostname() != c.url.Hostname():
		return nil, clean(fmt.Sprintf("%s, redirects to host %s", status(code), next.Hostname()))
	case c.dial.route.Way == Published && address(next) != c.url.Host:
		return nil, status(code) + ", redirects to another port"
	}
	return next, ""
}

// address is a URL's host:port.
func address(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}

var (
	readers = sync.Pool{New: func() any { return bufio.NewReader(nil) }}
	asked   = &http.Request{Method: http.MethodGet} // what every response answers
)

// get sends one request and reads the head and at most [maxBody] of the body.
func (c *httpCheck) get(ctx context.Context, u *url.URL, request []byte) (code int, location string, err error) {
	conn, err := c.dial.dial(ctx, address(u))
	if err != nil {
		return 0, "", err
	}
	defer bound(ctx, conn)()
	if u.Scheme == "https" {
		conn = c.secure(conn, u)
	}
	if _, err := conn.Write(request); err != nil {
		return 0, "", err
	}
	limited := &io.LimitedReader{R: conn, N: maxHead}
	r, _ := readers.Get().(*bufio.Reader)
	r.Reset(limited)
	defer func() { r.Reset(nil); readers.Put(r) }()
	return receive(r, limited)
}

// receive reads the final response; those before it (100, 103) are passed over.
func receive(r *bufio.Reader, limited *io.LimitedReader) (code int, location string, err error) {
	for {
		resp, err := http.ReadResponse(r, asked) //nolint:bodyclose // closing would read the rest; the connection is closed
		if err != nil {
			return 0, "", explain(err, limited)
		}
		if resp.StatusCode < 200 && resp.StatusCode != http.StatusSwitchingProtocols {
			continue
		}
		limited.N = maxHead + maxBody // what is read is bounded below
		_, err = io.CopyN(io.Discard, resp.Body, maxBody)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, "", explain(err, limited)
		}
		return resp.StatusCode, resp.Header.Get("Location"), nil
	}
}

// explain keeps what was received out of an error: a malformed response is
// quoted by the parser.
func explain(err error, limited *io.LimitedReader) error {
	var ne net.Error
	switch {
	case errors.As(err, &ne), errors.As(err, new(tls.RecordHeaderError)), errors.As(err, new(tls.AlertError)):
		return err
	case limited.N <= 0:
		return fmt.Errorf("the head of the response is longer than %d KiB", maxHead>>10)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the connection ended before the response did")
	default:
		return errors.New("the response is not HTTP")
	}
}

func (c *httpCheck) secure(conn net.Conn, u *url.URL) net.Conn {
	name := u.Hostname()
	if c.host != "" {
		name = (&url.URL{Host: c.host}).Hostname()
	}
	return tls.Client(conn, &tls.Config{
		ServerName:         name,
		InsecureSkipVerify: true, //nolint:gosec // a probe asks whether somebody answers, as in Kubernetes; it sends and learns no secret
	})
}
