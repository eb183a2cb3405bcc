package client_test

import (
	"io"
	"net/http"
	"slices"
	"testing"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/runtime"
)

func TestRolloutRequests(t *testing.T) {
	answers := map[string]string{
		"GET /v1/stacks/a%2Fb/rollouts":                   `{"revision":3,"services":[{"service":"web","replicas":2,"held":true}]}`,
		"POST /v1/stacks/shop/rollouts":                   `{"stack":"shop","turn":4}`,
		"POST /v1/stacks/shop/undo":                       `{"stack":"shop","turn":5}`,
		"POST /v1/stacks/shop/undo/plan":                  `{"stack":"shop","steps":[{"op":"create","key":"web/1"}]}`,
		"GET /v1/stacks/shop/revisions":                   `[{"number":2,"cause":"undo to 1"}]`,
		"GET /v1/stacks/shop/revisions/diff?from=-1&to=0": `{"from":1,"to":2,"changes":[{"path":"services.web.image","before":"a","after":"b"}]}`,
		"GET /v1/stacks/shop/revisions/diff?from=7&to=2":  "",
		"GET /v1/stacks/nothing/rollouts":                 "",
		"POST /v1/stacks/nothing/undo/plan":               "",
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
	all, err := c.Rollouts(ctx, "a/b")
	if err != nil || all.Revision != 3 || !all.Services[0].Held {
		t.Errorf("rollouts %+v, %v", all, err)
	}
	acc, err := c.ControlRollouts(ctx, "shop", api.RolloutRequest{Op: api.RolloutPause, Services: []string{"web"}})
	if err != nil || acc.Turn != 4 {
		t.Errorf("pause %+v, %v", acc, err)
	}
	if acc, err = c.Undo(ctx, "shop", api.UndoRequest{To: 2}); err != nil || acc.Turn != 5 {
		t.Errorf("undo %+v, %v", acc, err)
	}
	if plan, err := c.PlanUndo(ctx, "shop", api.UndoRequest{}); err != nil || len(plan.Steps) != 1 {
		t.Errorf("plan of undo %+v, %v", plan, err)
	}
	if list, err := c.Revisions(ctx, "shop"); err != nil || len(list) != 1 || list[0].Cause != "undo to 1" {
		t.Errorf("revisions %+v, %v", list, err)
	}
	if diff, err := c.RevisionDiff(ctx, "shop", -1, 0); err != nil || diff.To != 2 || diff.Changes[0].After != "b" {
		t.Errorf("diff %+v, %v", diff, err)
	}
	_, absent := c.RevisionDiff(ctx, "shop", 7, 2)
	_, unknown := c.Rollouts(ctx, "nothing")
	_, unplanned := c.PlanUndo(ctx, "nothing", api.UndoRequest{})
	for i, err := range []error{absent, unknown, unplanned} {
		if !runtime.IsNotFound(err) {
			t.Errorf("%d: %v is no NotFound error", i, err)
		}
	}
	want := []string{
		`POST /v1/stacks/shop/rollouts {"op":"pause","services":["web"]}`,
		`POST /v1/stacks/shop/undo {"to":2}`,
		`POST /v1/stacks/shop/undo/plan {}`,
	}
	for _, w := range want {
		if !slices.Contains(asked(), w) {
			t.Errorf("nobody asked for %s: %q", w, asked())
		}
	}
}
