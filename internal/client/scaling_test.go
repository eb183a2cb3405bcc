package client_test

import (
	"io"
	"net/http"
	"slices"
	"testing"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/scaling"
)

func TestScalingRequests(t *testing.T) {
	answers := map[string]string{
		"GET /v1/stacks/a%2Fb/autoscale": `{"services":[{"service":"web","replicas":3,"ready":2,"min":1,"max":4,"paused":true}]}`,
		"POST /v1/stacks/shop/autoscale": `{"stack":"shop","turn":4}`,
	}
	c, asked := recorder(t, func(w http.ResponseWriter, r *http.Request) {
		answer := answers[r.Method+" "+r.URL.RequestURI()]
		if answer == "" {
			w.WriteHeader(http.StatusNotFound)
			answer = `{"message":"there is none","kind":"not found"}`
		}
		_, _ = io.WriteString(w, answer)
	})
	ctx := t.Context()
	all, err := c.Autoscaling(ctx, "a/b")
	if err != nil || len(all.Services) != 1 || !all.Services[0].Paused || all.Services[0].Max != 4 {
		t.Errorf("autoscaling %+v, %v", all, err)
	}
	acc, err := c.ControlScaling(ctx, "shop", api.AutoscaleRequest{Op: api.AutoscaleSleep, Services: []string{"web"}, Do: scaling.IdleStop})
	if err != nil || acc.Turn != 4 {
		t.Errorf("sleep %+v, %v", acc, err)
	}
	_, unknown := c.Autoscaling(ctx, "nothing")
	_, uncontrolled := c.ControlScaling(ctx, "nothing", api.AutoscaleRequest{Op: api.AutoscalePause})
	for i, err := range []error{unknown, uncontrolled} {
		if !runtime.IsNotFound(err) {
			t.Errorf("%d: %v is no NotFound error", i, err)
		}
	}
	if want := `POST /v1/stacks/shop/autoscale {"op":"sleep","services":["web"],"do":"stop"}`; !slices.Contains(asked(), want) {
		t.Errorf("nobody asked for %s: %q", want, asked())
	}
}
