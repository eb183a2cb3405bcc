package meter

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/berth-dev/berth/internal/stack"
)

const (
	maxHead      = 64 << 10 // bytes of a response's header
	maxRedirects = 5
)

// page asks a container's page for the sum of some samples.
func (m *Meter) page(ctx context.Context, src *stack.MetricSource, at At) (float64, error) {
	dial, err := m.dial(at)
	if err != nil {
		return 0, err
	}
	where, err := url.ParseRequestURI("/" + strings.TrimPrefix(src.Path, "/"))
	if err != nil {
		return 0, errors.New("the path of its page is no path")
	}
	where.Scheme, where.Host = "http", at.Route.Address
	var sum float64
	err = get(ctx, where.String(), &http.Transport{DialContext: dial}, func(body io.Reader) error {
		sum, err = sumOf(body, src.Metric, src.Labels)
		return err
	})
	return sum, err
}

// address asks an address that answers with a number.
func (m *Meter) address(ctx context.Context, src *stack.MetricSource) (n float64, err error) {
	err = get(ctx, src.URL, &http.Transport{Proxy: http.ProxyFromEnvironment}, func(body io.Reader) error {
		answer, err := io.ReadAll(io.LimitReader(body, maxAnswer+1))
		if err != nil {
			return err
		}
		n, err = number(answer)
		return err
	})
	return n, err
}

// get asks for a page over a connection of its own and has its body read, all
// within [Limit].
func get(ctx context.Context, where string, over *http.Transport, read func(io.Reader) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, Limit, errTooLate)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, where, http.NoBody)
	if err != nil {
		return errors.New("the address is none") // it may hold a secret
	}
	req.Header.Set("User-Agent", "berth-meter")
	req.Header.Set("Accept", "text/plain;version=0.0.4, text/plain;q=0.5, */*;q=0.1")
	over.DisableKeepAlives, over.DisableCompression, over.MaxResponseHeaderBytes = true, true, maxHead
	client := http.Client{Transport: over, CheckRedirect: sameHost}
	resp, err := client.Do(req)
	if err != nil {
		return late(ctx, withoutAddress(err))
	}
	defer func() { _ = resp.Body.Close() }() // it was only read
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("it answered %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	}
	return late(ctx, read(resp.Body))
}

var errTooLate = fmt.Errorf("it did not answer within %s", Limit)

// late is why something failed: its time was up, or err.
func late(ctx context.Context, err error) error {
	if err != nil && errors.Is(context.Cause(ctx), errTooLate) {
		return errTooLate
	}
	return err
}

// sameHost lets a redirect lead to another page of the same host and port, and not
// from a connection that is secure to one that is not.
func sameHost(req *http.Request, via []*http.Request) error {
	from := via[0].URL
	switch {
	case len(via) > maxRedirects:
		return fmt.Errorf("it redirects more than %d times", maxRedirects)
	case req.URL.Host != from.Host:
		return errors.New("it redirects to another host or port, which is not asked")
	case from.Scheme == "https" && req.URL.Scheme != from.Scheme:
		return errors.New("it redirects to a connection that is not secure")
	}
	return nil
}

// withoutAddress is an error of a request without the URL, which may hold a secret.
func withoutAddress(err error) error {
	if e := (*url.Error)(nil); errors.As(err, &e) {
		err = e.Err
	}
	if e := (*net.DNSError)(nil); errors.As(err, &e) {
		return errors.New("its host is not known")
	}
	return err
}

// sumOf is the sum of the samples of a page that have a name and at least some
// labels. The page is an error when it is longer than it may be or has no such
// sample.
func sumOf(page io.Reader, name string, labels map[string]string) (float64, error) {
	lines, err := linesWith(page, family(name))
	if err != nil {
		return 0, err
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(lines))
	if err != nil {
		return 0, errors.New("what its page says of the metric is not in the format of Prometheus")
	}
	found, sum := false, 0.0
	for _, f := range families {
		samples, err := expfmt.ExtractSamples(&expfmt.DecodeOptions{}, f)
		if err != nil {
			return 0, errors.New("what its page says of the metric has a type that is not known")
		}
		for _, s := range samples {
			if has(s.Metric, name, labels) {
				found = true
				sum += float64(s.Value)
			}
		}
	}
	if !found {
		return 0, fmt.Errorf("its page has no sample of that name%s", with(labels))
	}
	return sum, nil
}

func with(labels map[string]string) string {
	if len(labels) == 0 {
		return ""
	}
	return " with the labels asked for"
}

func has(m model.Metric, name string, labels map[string]string) bool {
	if string(m[model.MetricNameLabel]) != name {
		return false
	}
	for key, value := range labels {
		if v, ok := m[model.LabelName(key)]; !ok || string(v) != value {
			return false
		}
	}
	return true
}

// family is the name under which a sample's type is declared, or a part of it: a
// histogram's and a summary's samples have a suffix.
func family(name string) string {
	for _, suffix := range []string{"_bucket", "_count", "_sum"} {
		if base, ok := strings.CutSuffix(name, suffix); ok && base != "" {
			return base
		}
	}
	return name
}

// linesWith are the lines of a page that have a text, so that all the others are
// never held.
func linesWith(page io.Reader, text string) ([]byte, error) {
	limited := &io.LimitedReader{R: page, N: maxPage + 1}
	r := bufio.NewReaderSize(limited, 16<<10)
	var kept, line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if bytes.Contains(line, []byte(text)) {
			kept = append(kept, line...)
		}
		line = line[:0]
		switch {
		case limited.N == 0:
			return nil, fmt.Errorf("%w: its page has more than %d MiB", errTooLong, maxPage>>20)
		case errors.Is(err, io.EOF):
			return endLine(kept), nil
		case err != nil:
			return nil, err
		}
	}
}

// endLine ends the last line, which the format asks for and servers forget.
func endLine(lines []byte) []byte {
	if len(lines) > 0 && lines[len(lines)-1] != '\n' {
		return append(lines, '\n')
	}
	return lines
}
