package daemon

import (
	"testing"
	"time"

	"github.com/berth-dev/berth/scaling"
	scalesim "github.com/berth-dev/berth/scaling/simulate"
)

// TestKeptDecisionsCanBeMadeAgain: however many decisions have been dropped, those
// that are kept come out the same, for what they know of the earlier ones is kept
// too.
func TestKeptDecisionsCanBeMadeAgain(t *testing.T) {
	policy := scaling.Policy{Max: 10, Interval: 5 * time.Second, Metrics: []scaling.Metric{{Source: scaling.FromExternal, Name: "queue", AverageValue: 1000}}}
	s := &scaled{}
	n, depend := 1, false
	for i := range 2*keptDecisions + 7 {
		now := time.Unix(int64(1000+5*i), 0).UTC()
		queue := int64(2000)
		if i%70 == 0 {
			queue = 10_000 // asks for the maximum until the down window is over
		}
		in := scaling.Input{Current: n, External: []scaling.External{{Metric: "queue", Value: queue}}}
		before := s.State
		dec, next := scaling.Decide(policy, before, in, now)
		s.State = next
		s.remember(before, scalesim.Step{Policy: policy, Input: in, Decision: dec})
		n = dec.Desired
		if len(s.steps) > keptDecisions || i < keptDecisions && len(s.steps) != i+1 {
			t.Fatalf("of %d decisions %d are kept", i+1, len(s.steps))
		}
		if err := scalesim.Replay(scalesim.Recording{State: s.begun, Steps: s.steps}); err != nil {
			t.Fatalf("after %d decisions: %v", i+1, err)
		}
		depend = depend || scalesim.Replay(scalesim.Recording{Steps: s.steps}) != nil
	}
	if !depend {
		t.Error("the decisions depend on no earlier one, so that this test shows nothing")
	}
}
