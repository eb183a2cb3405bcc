package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/berth-dev/berth/runtime"
)

const secret = "hunter2"

// hub is a registry with its token server.
type hub struct {
	*httptest.Server
	asks   string // the WWW-Authenticate field; empty: it serves everybody
	accept string // the Authorization that it wants
	pages  map[string]string
	grant  func(w http.ResponseWriter, r *http.Request)
	seen   []string // requests, in order
}

func serve(t *testing.T, secure bool) *hub {
	t.Helper()
	h := &hub{pages: map[string]string{}}
	mux := http.NewServeMux()
	mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
		h.seen = append(h.seen, r.Method+" /token "+r.Header.Get("Authorization"))
		h.grant(w, r)
	})
	mux.HandleFunc("GET /v2/", func(w http.ResponseWriter, r *http.Request) {
		h.seen = append(h.seen, strings.TrimSpace(r.URL.RequestURI()+" "+r.Header.Get("Authorization")))
		if h.asks != "" && r.Header.Get("Authorization") != h.accept {
			w.Header().Set("WWW-Authenticate", h.asks)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		body, ok := h.pages[r.URL.RequestURI()]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		link, body, _ := strings.Cut(body, "|")
		if link != "" {
			w.Header().Set("Link", link)
		}
		_, _ = w.Write([]byte(body))
	})
	if secure {
		h.Server = httptest.NewTLSServer(mux)
	} else {
		h.Server = httptest.NewServer(mux)
	}
	t.Cleanup(h.Close)
	return h
}

func (h *hub) host() string {
	u, _ := url.Parse(h.URL)
	return u.Host
}

// client asks the registry as one with a login does.
func (h *hub) client(l runtime.Login, insecure bool) *Client {
	return &Client{
		Login:     func(context.Context, string) (runtime.Login, error) { return l, nil },
		Insecure:  func(context.Context, string) (bool, error) { return insecure, nil },
		Transport: h.Client().Transport, Unverified: h.Client().Transport,
	}
}

const first = "/v2/team/app/tags/list?n=1000"

func tagsOf(tags ...string) string {
	b, _ := json.Marshal(map[string]any{"name": "team/app", "tags": tags})
	return string(b)
}

func bearer(h *hub) string {
	return `Bearer realm="` + h.URL + `/token",service="it",scope="repository:team/app:pull"`
}

func TestPagesAreFollowed(t *testing.T) {
	h := serve(t, true)
	h.pages[first] = `</v2/team/app/tags/list?n=2&last=b>; rel="next"|` + tagsOf("a", "b")
	h.pages["/v2/team/app/tags/list?n=2&last=b"] = `<tags/list?last=c>; rel=prev|` + tagsOf("c")
	got, err := h.client(runtime.Login{}, false).Tags(t.Context(), h.host()+"/team/app:1.0.0")
	if want := []string{"a", "b", "c"}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("tags %q, %v; want %q", got, err, want)
	}
}

func TestAnImageIsFollowedByPolicy(t *testing.T) {
	h := serve(t, true)
	h.pages[first] = "|" + tagsOf("1.2.3", "1.2.4", "1.3.0", "2.0.0")
	c := h.client(runtime.Login{}, false)
	for _, k := range []struct{ tag, policy, want string }{
		{":1.2.3", Patch, ":1.2.4"},
		{":1.2.3", Minor, ":1.3.0"},
		{":2.0.0", Minor, ":2.0.0"},
	} {
		name := h.host() + "/team/app"
		if got, err := c.NewerImage(t.Context(), name+k.tag, k.policy); err != nil || got != name+k.want {
			t.Errorf("%s by %s: %q, %v; want %q", k.tag, k.policy, got, err, k.want)
		}
	}
	asked := len(h.seen)
	for _, image := range []string{"/team/app:1.2.3", "/team/app", "/team/app:1.2.3@sha256:" + strings.Repeat("a", 64)} {
		policy := Patch
		if image == "/team/app:1.2.3" {
			policy = Digest
		}
		if got, err := c.NewerImage(t.Context(), h.host()+image, policy); err != nil || got != h.host()+image {
			t.Errorf("%s: %q, %v", image, got, err)
		}
	}
	if len(h.seen) != asked {
		t.Errorf("the registry was asked for nothing: %q", h.seen[asked:])
	}
}

func TestATokenIsGot(t *testing.T) {
	for _, c := range []struct {
		name  string
		login runtime.Login
		field string // the answer's
		want  func(r *http.Request) error
	}{
		{"without a login", runtime.Login{}, "token", func(r *http.Request) error {
			return same(r.Method+" "+r.Header.Get("Authorization")+" "+r.URL.Query().Get("scope")+" "+r.URL.Query().Get("service"), "GET  repository:team/app:pull it")
		}},
		{"with a password", runtime.Login{User: "anna", Password: secret}, "access_token", func(r *http.Request) error {
			user, password, _ := r.BasicAuth()
			return same(r.Method+" "+user+" "+password, "GET anna "+secret)
		}},
		{"with an identity token", runtime.Login{User: "anna", IdentityToken: secret}, "access_token", func(r *http.Request) error {
			return same(r.Method+" "+r.PostFormValue("grant_type")+" "+r.PostFormValue("refresh_token")+" "+r.PostFormValue("service")+" "+r.URL.RawQuery, "POST refresh_token "+secret+" it ")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := serve(t, true)
			h.asks, h.accept = bearer(h), "Bearer granted"
			h.pages[first] = "|" + tagsOf("a")
			h.grant = func(w http.ResponseWriter, r *http.Request) {
				if err := c.want(r); err != nil {
					t.Error(err)
				}
				_, _ = fmt.Fprintf(w, `{%q:"granted"}`, c.field)
			}
			got, err := h.client(c.login, false).Tags(t.Context(), h.host()+"/team/app")
			if err != nil || len(got) != 1 {
				t.Errorf("tags %q, %v", got, err)
			}
		})
	}
}

func same(got, want string) error {
	if got != want {
		return fmt.Errorf("%q, want %q", got, want)
	}
	return nil
}

// A token that ends between two pages is asked for again.
func TestATokenEnds(t *testing.T) {
	h := serve(t, true)
	h.asks, h.accept = bearer(h), "Bearer 1"
	second := "/v2/team/app/tags/list?last=a"
	h.pages[first] = "<" + second + `>; rel="next"|` + tagsOf("a")
	h.pages[second] = "|" + tagsOf("b")
	granted := 0
	h.grant = func(w http.ResponseWriter, _ *http.Request) {
		granted++
		_, _ = fmt.Fprintf(w, `{"token":"%d"}`, granted)
	}
	h.Config.Handler = func(inner http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.RequestURI() == second {
				h.accept = "Bearer 2"
			}
			inner.ServeHTTP(w, r)
		})
	}(h.Config.Handler)
	got, err := h.client(runtime.Login{}, false).Tags(t.Context(), h.host()+"/team/app")
	if err != nil || len(got) != 2 || granted != 2 {
		t.Errorf("tags %q, %v, %d tokens", got, err, granted)
	}
}

func TestAPasswordOrTokenGoesToTheRegistryItself(t *testing.T) {
	for _, l := range []runtime.Login{{User: "anna", Password: secret}, {RegistryToken: secret}} {
		h := serve(t, true)
		h.asks, h.accept = `Basic realm="it"`, basic(l)
		if l.RegistryToken != "" {
			h.accept = "Bearer " + secret
		}
		h.pages[first] = "|" + tagsOf("a")
		if got, err := h.client(l, false).Tags(t.Context(), h.host()+"/team/app"); err != nil || len(got) != 1 {
			t.Errorf("tags %q, %v", got, err)
		}
		if h.seen[0] != first {
			t.Errorf("the login was sent unasked: %q", h.seen[0])
		}
	}
}

// Docker Hub's names and its host differ.
func TestDockerHub(t *testing.T) {
	var hosts, logins []string
	c := &Client{
		Login: func(_ context.Context, host string) (runtime.Login, error) {
			logins = append(logins, host)
			return runtime.Login{}, nil
		},
		Transport: trip(func(r *http.Request) (*http.Response, error) {
			hosts = append(hosts, r.URL.String())
			return nil, errors.New("no network")
		}),
	}
	_, err := c.NewerImage(t.Context(), "nginx:1.2.3", Patch)
	if !runtime.IsUnavailable(err) || !strings.Contains(err.Error(), "no network") {
		t.Error(err)
	}
	if fmt.Sprint(hosts, logins) != "[https://registry-1.docker.io/v2/library/nginx/tags/list?n=1000] [docker.io]" {
		t.Error(hosts, logins)
	}
}

type trip func(*http.Request) (*http.Response, error)

func (t trip) RoundTrip(r *http.Request) (*http.Response, error) { return t(r) }

func TestPlainTextOnlyWhereItIsAllowed(t *testing.T) {
	h := serve(t, false)
	h.pages[first] = "|" + tagsOf("a")
	image := h.host() + "/team/app"
	if got, err := h.client(runtime.Login{}, true).Tags(t.Context(), image); err != nil || len(got) != 1 {
		t.Errorf("insecure: tags %q, %v", got, err)
	}
	h.seen = nil
	if _, err := h.client(runtime.Login{User: "anna", Password: secret}, false).Tags(t.Context(), image); !runtime.IsUnavailable(err) {
		t.Errorf("secure: %v", err)
	}
	if len(h.seen) != 0 {
		t.Errorf("asked in plain text: %q", h.seen)
	}
}

func TestRefusals(t *testing.T) {
	l := runtime.Login{User: "anna", Password: secret, IdentityToken: ""}
	for _, c := range []struct {
		name string
		set  func(h *hub)
		kind runtime.Kind
		want string
	}{
		{"no such repository", func(*hub) {}, runtime.KindNotFound, "no such repository"},
		{"a wrong password", func(h *hub) { h.asks, h.accept = "Basic", "other" }, runtime.KindInvalid, "docker login"},
		{"an unknown challenge", func(h *hub) { h.asks, h.accept = "Negotiate", "other" }, runtime.KindInvalid, "docker login"},
		{"no realm", func(h *hub) { h.asks = "Bearer service=it" }, runtime.KindUnavailable, "where a token"},
		{"a realm in plain text", func(h *hub) { h.asks = `Bearer realm="http://other.example/token"` }, runtime.KindInvalid, "without TLS"},
		{"no token", func(h *hub) { h.grant = say(`{"token":""}`) }, runtime.KindUnavailable, "no token"},
		{"a broken token", func(h *hub) { h.grant = say(`{"token":"` + secret) }, runtime.KindUnavailable, "no token"},
		{"a refused token", func(h *hub) {
			h.grant = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }
		}, runtime.KindInvalid, "docker login"},
		{"a token server that is busy", func(h *hub) {
			h.grant = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) }
		}, runtime.KindUnavailable, "429 too many requests"},
		{"not JSON", func(h *hub) { h.asks, h.pages[first] = "", "|<html>" }, runtime.KindUnavailable, "no list of tags"},
		{"another server", func(h *hub) { h.asks, h.pages[first] = "", `<https://evil.example/v2/>; rel="next"|{}` }, runtime.KindInvalid, "another server"},
		{"endless pages", func(h *hub) { h.asks, h.pages[first] = "", "<"+first+`>; rel="next"|{}` }, runtime.KindInvalid, "more tags"},
		{"a huge page", func(h *hub) { h.asks, h.pages[first] = "", "|"+tagsOf(strings.Repeat("x", maxBytes)) }, runtime.KindInvalid, "more tags"},
		{"a redirect in plain text", func(h *hub) {
			h.grant = func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "http://other.example/", http.StatusFound)
			}
		}, runtime.KindInvalid, "without TLS"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := serve(t, true)
			h.asks, h.accept = bearer(h), "Bearer granted"
			c.set(h)
			if c.name == "no such repository" {
				h.asks = ""
			}
			_, err := h.client(l, false).Tags(t.Context(), h.host()+"/team/app")
			if runtime.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("%v (%s), want %q (%s)", err, runtime.KindOf(err), c.want, c.kind)
			}
			if strings.Contains(err.Error(), secret) || !strings.Contains(err.Error(), "team/app") {
				t.Errorf("%v", err)
			}
		})
	}
	if _, err := (&Client{}).Tags(t.Context(), "Not A Name"); !runtime.IsInvalid(err) {
		t.Errorf("a name that is none: %v", err)
	}
}

func say(text string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(text)) }
}

func TestAFormIsNotCarriedOn(t *testing.T) {
	h := serve(t, true)
	h.asks, h.accept = bearer(h), "Bearer granted"
	h.grant = func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/v2/", http.StatusTemporaryRedirect)
	}
	_, err := h.client(runtime.Login{IdentityToken: secret}, false).Tags(t.Context(), h.host()+"/team/app")
	if !runtime.IsInvalid(err) || len(h.seen) != 2 {
		t.Errorf("%v after %q", err, h.seen)
	}
}

func TestChallenges(t *testing.T) {
	h := http.Header{"Www-Authenticate": {
		`Bearer realm="https://a.example/t?x=1,2",service="a \"b\"", scope=repository:x:pull`, "Basic", `bearer realm="no end`,
	}}
	want := []challenge{
		{"bearer", map[string]string{"realm": "https://a.example/t?x=1,2", "service": `a "b"`, "scope": "repository:x:pull"}},
		{"basic", map[string]string{}},
		{"bearer", map[string]string{}},
	}
	if got := challenges(h); !reflect.DeepEqual(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func FuzzChallenges(f *testing.F) {
	f.Add(`Bearer realm="https://a.example/token",service="a",scope="b"`)
	f.Add(`Basic realm="\"`)
	f.Fuzz(func(t *testing.T, field string) {
		for _, c := range challenges(http.Header{"Www-Authenticate": {field}}) {
			for k, v := range c.params {
				if len(v) > len(field) || k != strings.ToLower(k) {
					t.Errorf("%q=%q was not sent", k, v)
				}
			}
		}
	})
}
