package daemon

import (
	"testing"
	"time"

	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/scaling"
	scalesim "github.com/berth-dev/berth/scaling/simulate"
	"github.com/berth-dev/berth/scaling/timetable"
)

// TestMeasuresOnTime: a look that comes a moment too early is on time, so that an
// interval does not become longer by one look; one that is a look too early is not.
func TestMeasuresOnTime(t *testing.T) {
	now := time.Unix(1000, 0)
	svc := &stack.Service{Autoscale: &stack.Autoscale{Policy: scaling.Policy{Interval: 5 * time.Second}}}
	for due, want := range map[time.Duration]bool{
		-time.Second: true, 0: true, time.Millisecond: true, scaleTick / 2: true,
		scaleTick: false, 5 * time.Second: false,
		time.Minute: true, // the clock was set back
	} {
		k := scaleLook{svc: svc, now: now, s: &scaled{due: now.Add(due)}}
		if got := k.measureDue(); got != want {
			t.Errorf("due in %s: measured now is %t, want %t", due, got, want)
		}
	}
}

// TestLeastOfTheMoment: the bounds that are shown are those that hold.
func TestLeastOfTheMoment(t *testing.T) {
	night := []timetable.Schedule{{Name: "1", Cron: "0 0 * * *", Min: new(3)}}
	for name, c := range map[string]struct {
		auto stack.Autoscale
		want int
	}{
		"nothing said":              {stack.Autoscale{Policy: scaling.Policy{Max: 5}}, 1},
		"by the file":               {stack.Autoscale{Policy: scaling.Policy{Min: new(2), Max: 5}}, 2},
		"by a schedule":             {stack.Autoscale{Policy: scaling.Policy{Max: 5}, Schedules: night}, 3},
		"none by concurrency":       {stack.Autoscale{Policy: scaling.Policy{Min: new(1), Max: 5}, Concurrency: &scaling.Concurrency{Min: new(0)}}, 0},
		"concurrency, not said":     {stack.Autoscale{Policy: scaling.Policy{Max: 5}, Concurrency: &scaling.Concurrency{}}, 1},
		"concurrency by a schedule": {stack.Autoscale{Policy: scaling.Policy{Min: new(1), Max: 5}, Concurrency: &scaling.Concurrency{Min: new(0)}, Schedules: night}, 3},
	} {
		policy, firing := policyOf(&c.auto, time.Unix(1_000_000, 0))
		if got := leastOf(&c.auto, &policy, firing); got != c.want {
			t.Errorf("%s: the least is %d, want %d", name, got, c.want)
		}
	}
}

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
