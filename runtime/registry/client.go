package registry

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"

	"github.com/berth-dev/berth/runtime"
)

// What is taken from a registry at most.
const (
	maxPages = 100     // of one list of tags
	maxBytes = 4 << 20 // of all pages of one list together
	maxToken = 1 << 20 // bytes of a token server's answer
	pageSize = 1000    // tags asked for at a time; a registry may give fewer
)

// requestTime bounds one request with its answer.
const requestTime = 30 * time.Second

const op = "list the tags of"

// Client asks registries. The zero value asks by TLS and without a login.
type Client struct {
	// Login gives the login for a registry's host, as image names have it
	// ("docker.io", "localhost:5000"); nil: there is none.
	Login func(ctx context.Context, host string) (runtime.Login, error)
	// Insecure reports whether a registry may be asked without TLS, or with a
	// certificate that nobody vouches for; nil: none may.
	Insecure func(ctx context.Context, host string) (bool, error)
	// Transport carries the requests, and Unverified those to insecure registries;
	// nil: [http.DefaultTransport].
	Transport, Unverified http.RoundTripper
}

// NewerImage names the image that follows one by a policy, [Digest], [Patch] or
// [Minor]: the same name with the tag that [Newer] finds among those of the
// registry. For Digest, and for an image without a tag, it is the same name and
// nothing is asked.
func (c *Client) NewerImage(ctx context.Context, image, policy string) (string, error) {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return "", &runtime.Error{Kind: runtime.KindInvalid, Op: op, Object: image, Err: err}
	}
	tagged, ok := named.(reference.Tagged)
	if _, pinned := named.(reference.Digested); policy == Digest || !ok || pinned {
		return image, nil
	}
	tags, err := c.Tags(ctx, image)
	if err != nil {
		return "", err
	}
	newer := Newer(tagged.Tag(), policy, tags)
	return strings.TrimSuffix(image, tagged.Tag()) + newer, nil
}

// Tags returns the tags that the repository of an image has, in the registry's
// order. A registry that cannot be reached, or that asks to come again later, is
// an Unavailable; a repository that is not there a NotFound; one that may not be
// read, or that has more tags than are looked at, an Invalid.
func (c *Client) Tags(ctx context.Context, image string) ([]string, error) {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return nil, &runtime.Error{Kind: runtime.KindInvalid, Op: op, Object: image, Err: err}
	}
	host, name := reference.Domain(named), reference.Path(named)
	s := &session{repository: name}
	if c.Insecure != nil {
		if s.insecure, err = c.Insecure(ctx, host); err != nil {
			return nil, fmt.Errorf("%s %s: %w", op, image, err)
		}
	}
	if c.Login != nil {
		if s.login, err = c.Login(ctx, host); err != nil {
			return nil, fmt.Errorf("%s %s: %w", op, image, err)
		}
	}
	transport := c.Transport
	if s.insecure {
		transport = c.Unverified
	}
	s.client = &http.Client{Transport: transport, Timeout: requestTime, CheckRedirect: redirect}
	tags, err := s.tags(ctx, endpoint(host))
	if err != nil {
		return nil, failed(image, err)
	}
	return tags, nil
}

// endpoint is where a registry answers: Docker Hub does it elsewhere.
func endpoint(host string) string {
	if host == "docker.io" {
		return "registry-1.docker.io"
	}
	return host
}

// failed sorts what went wrong by what may be done about it.
func failed(image string, err error) error {
	kind := runtime.KindUnavailable
	var answer *answerError
	switch {
	case errors.As(err, &answer):
		kind = answer.kind()
	case errors.Is(err, errTooMany), errors.Is(err, errElsewhere), errors.Is(err, errPlain):
		kind = runtime.KindInvalid
	}
	return &runtime.Error{Kind: kind, Op: op, Object: image, Err: err}
}

var (
	errTooMany   = fmt.Errorf("it has more tags than are looked at (%d pages, %d MiB); give x-berth.imageUpdate the policy digest", maxPages, maxBytes>>20)
	errElsewhere = errors.New("the registry, or its token server, refers to another server that is not to be trusted with a login")
	errPlain     = errors.New("the registry would have the login sent without TLS")
)

// session is one look at one repository.
type session struct {
	client        *http.Client
	repository    string
	login         runtime.Login
	insecure      bool
	authorization string // what the registry has accepted; empty: nothing was asked for
}

// redirect follows where no login can get to somebody else: never from TLS to
// plain text, and never with a form, which would carry it on.
func redirect(req *http.Request, via []*http.Request) error {
	last := via[len(via)-1]
	switch {
	case len(via) > 5:
		return errors.New("the registry redirects without end")
	case last.Method != http.MethodGet:
		return errElsewhere
	case last.URL.Scheme == "https" && req.URL.Scheme != "https":
		return errPlain
	}
	return nil
}

// tags reads all pages.
func (s *session) tags(ctx context.Context, host string) ([]string, error) {
	next := &url.URL{Scheme: "https", Host: host, Path: "/v2/" + s.repository + "/tags/list", RawQuery: fmt.Sprintf("n=%d", pageSize)}
	var tags []string
	room := maxBytes
	for page := 0; next != nil; page++ {
		if page == maxPages {
			return nil, errTooMany
		}
		got, err := s.page(ctx, next, room)
		if err != nil && page == 0 && s.insecure && !isAnswer(err) {
			next.Scheme = "http" // as Docker does it: TLS first
			got, err = s.page(ctx, next, room)
		}
		if err != nil {
			return nil, err
		}
		var list struct {
			Tags []string `json:"tags"`
		}
		if err := json.Unmarshal(got.body, &list); err != nil {
			return nil, fmt.Errorf("the answer is no list of tags: %w", err)
		}
		tags, room = append(tags, list.Tags...), room-len(got.body)
		if next, err = following(next, got.header); err != nil {
			return nil, err
		}
	}
	return tags, nil
}

func isAnswer(err error) bool {
	var answer *answerError
	return errors.As(err, &answer)
}

// following is where the next page is (RFC 8288); nil: this is the last one.
func following(at *url.URL, h http.Header) (*url.URL, error) {
	for _, link := range h.Values("Link") {
		target, rest, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(link), "<"), ">")
		if rel := params(strings.TrimLeft(rest, "; "))["rel"]; !ok || rel != "next" {
			continue
		}
		next, err := at.Parse(target)
		if err != nil {
			return nil, fmt.Errorf("the address of more tags cannot be read: %w", err)
		}
		if next.Scheme != at.Scheme || next.Host != at.Host {
			return nil, errElsewhere
		}
		return next, nil
	}
	return nil, nil //nolint:nilnil // no page is an answer
}

// answer is what a server said.
type answer struct {
	header http.Header
	body   []byte
}

// page gets one page of at most room bytes, with what the registry asks for to
// let it be read.
func (s *session) page(ctx context.Context, at *url.URL, room int) (answer, error) {
	got, err := s.get(ctx, at, room)
	var refusal *answerError
	if !errors.As(err, &refusal) || refusal.status != http.StatusUnauthorized {
		return got, err
	}
	if err := s.authorize(ctx, at, challenges(got.header)); err != nil {
		return answer{}, err
	}
	return s.get(ctx, at, room)
}

// get asks with what was accepted before.
func (s *session) get(ctx context.Context, at *url.URL, room int) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Accept", "application/json")
	if s.authorization != "" {
		req.Header.Set("Authorization", s.authorization)
	}
	return s.do(req, room)
}

// do sends a request and reads at most room bytes of the answer. A refusal is an
// error with the header. An error names the server only: an address may hold what
// is nobody's business.
func (s *session) do(req *http.Request, room int) (answer, error) {
	resp, err := s.client.Do(req)
	if wrapped := (*url.Error)(nil); errors.As(err, &wrapped) {
		return answer{}, fmt.Errorf("ask %s: %w", req.URL.Host, wrapped.Err)
	} else if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		_, _ = io.CopyN(io.Discard, resp.Body, 64<<10) // so that the connection can be used again
		return answer{header: resp.Header}, &answerError{status: resp.StatusCode, host: resp.Request.URL.Host}
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, int64(room)+1))
	switch {
	case err != nil:
		return answer{}, fmt.Errorf("read the answer of %s: %w", req.URL.Host, err)
	case len(body) > room:
		return answer{}, errTooMany
	}
	return answer{header: resp.Header, body: body}, nil
}

// authorize gets what a registry asks for.
func (s *session) authorize(ctx context.Context, at *url.URL, asked []challenge) error {
	if s.login.RegistryToken != "" {
		s.authorization = "Bearer " + s.login.RegistryToken
		return nil
	}
	by := func(scheme string) *challenge {
		if i := slices.IndexFunc(asked, func(c challenge) bool { return c.scheme == scheme }); i >= 0 {
			return &asked[i]
		}
		return nil
	}
	if bearer := by("bearer"); bearer != nil {
		token, err := s.token(ctx, bearer)
		s.authorization = "Bearer " + token
		return err
	}
	if by("basic") == nil || s.login.Password == "" {
		return &answerError{status: http.StatusUnauthorized, host: at.Host}
	}
	s.authorization = basic(s.login)
	return nil
}

func basic(l runtime.Login) string {
	var r http.Request
	r.Header = http.Header{}
	r.SetBasicAuth(l.User, l.Password)
	return r.Header.Get("Authorization")
}

// token asks the server that the registry names for access to the repository.
func (s *session) token(ctx context.Context, asked *challenge) (string, error) {
	realm, err := url.Parse(asked.params["realm"])
	if err != nil || realm.Host == "" {
		return "", errors.New("the registry does not say where a token is to be had")
	}
	if realm.Scheme != "https" && (realm.Scheme != "http" || !s.insecure) {
		return "", errPlain
	}
	scope := cmp.Or(asked.params["scope"], "repository:"+s.repository+":pull")
	req, err := s.tokenRequest(ctx, realm, asked.params["service"], scope)
	if err != nil {
		return "", err
	}
	said, err := s.do(req, maxToken)
	if errors.Is(err, errTooMany) {
		return "", fmt.Errorf("the token server's answer is larger than %d KiB", maxToken>>10)
	} else if err != nil {
		return "", fmt.Errorf("get a token: %w", err)
	}
	var got struct {
		Token       string `json:"token"`
		AccessToken string `json:"access_token"`
	}
	if err := json.Unmarshal(said.body, &got); err != nil {
		return "", errors.New("the token server's answer holds no token") // the decoder's error may quote it
	}
	token := cmp.Or(got.Token, got.AccessToken)
	if token == "" {
		return "", errors.New("the token server's answer holds no token")
	}
	return token, nil
}

// tokenRequest asks by a form with an identity token, else by the query, with the
// password where there is one.
func (s *session) tokenRequest(ctx context.Context, realm *url.URL, service, scope string) (*http.Request, error) {
	const client = "berth"
	if s.login.IdentityToken != "" {
		form := url.Values{
			"grant_type": {"refresh_token"}, "refresh_token": {s.login.IdentityToken},
			"service": {service}, "scope": {scope}, "client_id": {client},
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, realm.String(), strings.NewReader(form.Encode()))
		if err == nil {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		return req, err
	}
	at := *realm
	query := at.Query()
	query.Set("scope", scope)
	query.Set("client_id", client)
	if service != "" {
		query.Set("service", service)
	}
	at.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err == nil && s.login.Password != "" {
		req.SetBasicAuth(s.login.User, s.login.Password)
	}
	return req, err
}

// answerError is a server's refusal.
type answerError struct {
	status int
	host   string
}

func (e *answerError) Error() string {
	switch e.status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Sprintf("%s refuses (%d); docker login gives it a login that may read the repository", e.host, e.status)
	case http.StatusNotFound:
		return e.host + " has no such repository, or does not show it without a login"
	default:
		return fmt.Sprintf("%s answered %d %s", e.host, e.status, strings.ToLower(http.StatusText(e.status)))
	}
}

// kind says what may be done about it.
func (e *answerError) kind() runtime.Kind {
	switch {
	case e.status == http.StatusNotFound:
		return runtime.KindNotFound
	case e.status == http.StatusTooManyRequests, e.status == http.StatusRequestTimeout, e.status >= 500:
		return runtime.KindUnavailable
	default:
		return runtime.KindInvalid
	}
}
