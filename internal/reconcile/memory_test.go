package reconcile

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/berth-dev/berth/runtime"
)

func TestBackoffDoublesAndIsForgotten(t *testing.T) {
	var m Memory
	s := Step{Op: OpStart, Key: "web/1", Revision: "r1"}
	fails := &runtime.Error{Kind: runtime.KindConflict, Op: "start", Object: "shop-web-1", Err: errors.New("port 80 is taken")}
	now := t0
	var waits []time.Duration
	for range 9 {
		m.Begin(s)
		m.End(s, fails, now)
		h := m.holdback(s, now)
		if h == nil || h.Kind != HoldFailing {
			t.Fatalf("hold = %v", h)
		}
		waits = append(waits, h.Until.Sub(now))
		now = h.Until
		if m.holdback(s, now) != nil {
			t.Fatal("still held when due")
		}
	}
	if waits[0] != 500*time.Millisecond || waits[1] != time.Second || waits[8] != time.Minute {
		t.Errorf("waits = %v, want 0.5 s doubled to a minute", waits)
	}
	if m.holdback(Step{Op: OpStart, Key: "web/1", Revision: "r2"}, t0) != nil {
		t.Error("a new revision is held back by the old one's failure")
	}
	if m.holdback(s, now.Add(-time.Hour)) != nil {
		t.Error("a clock that was set back prolongs the wait")
	}
	m.End(s, nil, now)
	if len(m.Failures) != 0 || len(m.InFlight) != 0 {
		t.Errorf("after a success: %v %v", m.Failures, m.InFlight)
	}
}

func TestPullBacksOffToFiveMinutes(t *testing.T) {
	f := Failure{Op: OpPull, Kind: runtime.KindUnavailable, Count: 20, At: t0}
	if at, never := f.retryAt(); never || at.Sub(t0) != 5*time.Minute {
		t.Errorf("retry after %v, never %v", at.Sub(t0), never)
	}
}

func TestInvalidIsNeverRetried(t *testing.T) {
	var m Memory
	s := Step{Op: OpCreate, Key: "web/1"}
	m.End(s, &runtime.Error{Kind: runtime.KindInvalid}, t0)
	if h := m.holdback(s, t0.Add(24*time.Hour)); h == nil || !h.Until.IsZero() {
		t.Errorf("hold = %v, want one without end", h)
	}
	m.Forgive()
	if m.holdback(s, t0) != nil {
		t.Error("a command did not get another try")
	}
}

func TestRestartsAreRemembered(t *testing.T) {
	var m Memory
	s := Step{Op: OpStart, Key: "web/1", Revision: "r1", Policy: true}
	for i := range maxRestarts + 20 {
		m.End(s, nil, t0.Add(time.Duration(i)*time.Second))
	}
	got := m.Restarts["web/1"]
	if len(got) != maxRestarts || !got[maxRestarts-1].At.Equal(t0.Add((maxRestarts+19)*time.Second)) {
		t.Errorf("%d restarts, last %v", len(got), got[len(got)-1])
	}
}

func TestAPassingTroubleIsWaitedFor(t *testing.T) {
	var m Memory
	s := Step{Op: OpStart, Key: "web/1"}
	var kinds []HoldKind
	for range 3 {
		m.End(s, &runtime.Error{Kind: runtime.KindUnavailable, Op: "start", Err: errors.New("internal error")}, t0)
		kinds = append(kinds, m.holdback(s, t0).Kind)
	}
	if want := []HoldKind{HoldWaiting, HoldWaiting, HoldFailing}; !slices.Equal(kinds, want) {
		t.Errorf("holds = %v, want %v", kinds, want)
	}
}
