package main

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/berth-dev/berth/compose-examples/shop/orders"
)

// shelf is a shop in memory.
type shelf struct {
	list []orders.Order
	err  error
}

func (s *shelf) Ping(context.Context) error { return s.err }

func (s *shelf) Place(_ context.Context, item string, quantity int) (orders.Order, error) {
	o := orders.Order{ID: int64(len(s.list) + 1), Item: item, Quantity: quantity, State: "new"}
	s.list = append(s.list, o)
	return o, s.err
}

func (s *shelf) List(context.Context, time.Duration) ([]orders.Order, bool, error) {
	return s.list, false, s.err
}

func TestWeb(t *testing.T) {
	down := errors.New("no connection")
	for name, tc := range map[string]struct {
		method, path, form string
		err                error
		code               int
		body               string
	}{
		"place":             {"POST", "/orders", "item=tea&quantity=3", nil, 201, `"item":"tea","quantity":3`},
		"no item":           {"POST", "/orders", "quantity=3", nil, 400, "give an item"},
		"no number":         {"POST", "/orders", "item=tea&quantity=x", nil, 400, "give an item"},
		"list":              {"GET", "/orders", "", nil, 200, "biscuits"},
		"page":              {"GET", "/", "", nil, 200, "<td>biscuits<td>2<td>new"},
		"well":              {"GET", "/healthz", "", nil, 200, "ok"},
		"not well":          {"GET", "/healthz", "", down, 503, "does not answer"},
		"list fails":        {"GET", "/orders", "", down, 500, "has a problem"},
		"another page":      {"GET", "/nothing", "", nil, 404, "not found"},
		"script stays text": {"GET", "/", "", nil, 200, "&lt;script&gt;"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &shelf{err: tc.err, list: []orders.Order{{ID: 1, Item: "biscuits", Quantity: 2, State: "new"}, {ID: 2, Item: "<script>", Quantity: 1, State: "new"}}}
			req := httptest.NewRequest(tc.method, tc.path, strings.NewReader(tc.form))
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			rec := httptest.NewRecorder()
			newWeb(s, settings{Title: "Corner & Co"}).ServeHTTP(rec, req)
			if rec.Code != tc.code || !strings.Contains(rec.Body.String(), tc.body) {
				t.Errorf("got %d, want %d with %q:\n%s", rec.Code, tc.code, tc.body, rec.Body)
			}
		})
	}
}

func TestPlaceRefusesAHugeBody(t *testing.T) {
	form := url.Values{"item": {strings.Repeat("x", 1<<20)}, "quantity": {"1"}}
	req := httptest.NewRequest(http.MethodPost, "/orders", strings.NewReader(form.Encode()))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	rec := httptest.NewRecorder()
	s := &shelf{}
	newWeb(s, settings{}).ServeHTTP(rec, req)
	if rec.Code != http.StatusBadRequest || len(s.list) != 0 {
		t.Errorf("got %d with %d orders stored", rec.Code, len(s.list))
	}
}
