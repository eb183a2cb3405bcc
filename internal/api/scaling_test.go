package api_test

import (
	"testing"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/scaling"
)

// A decision is told by what made it: the metrics, what is under way at once where
// that asks for more or for none, a schedule where the number is fixed.
func TestWhy(t *testing.T) {
	metrics := func(n int, reasons ...scaling.Reason) *scaling.Decision {
		return &scaling.Decision{Current: 2, Desired: n, Min: 1, Max: 9, Reasons: reasons}
	}
	atOnce := func(n int) *scaling.ConcurrencyDecision {
		return &scaling.ConcurrencyDecision{Current: 2, Desired: n, Ready: 2}
	}
	const windows = "0 at once over the stable window, 0 over the short one, 2 ready"
	for want, s := range map[string]api.Scaling{
		"nothing is measured": {},
		"2 to 4":              {Desired: 4, Decision: metrics(4), Concurrency: atOnce(3)},
		"2 to 5: " + windows:  {Desired: 5, Decision: metrics(4), Concurrency: atOnce(5)},
		"2 to 0: " + windows:  {Desired: 0, Decision: metrics(1), Concurrency: atOnce(0)},
		"2 to 1":              {Desired: 1, Decision: metrics(1), Concurrency: atOnce(0)},
		"2 to 3: the number is fixed by schedule 1 (0 8 * * *)": {Desired: 3, Schedule: "schedule 1 (0 8 * * *)", Decision: metrics(3, scaling.NumberFixed)},
		"2 to 6": {Desired: 6, Schedule: "schedule 1 (0 8 * * *)", Decision: metrics(6)},
		"no node takes web/3: full": {
			Desired: 2, Capped: "no node takes web/3: full", Decision: metrics(3), Concurrency: atOnce(5),
		},
	} {
		if got := s.Why(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
