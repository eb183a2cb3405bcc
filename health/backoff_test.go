package health

import (
	"encoding/json"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// §2: "first restart at once, then 10 s doubled to 300 s, measured from the end
// of the last run; 10 minutes without a restart reset it.
// deploy.restart_policy.delay replaces the first step where it is given."
func TestBackoffSteps(t *testing.T) {
	for _, c := range []struct {
		name  string
		delay time.Duration
		runs  time.Duration // how long each run lasts
		want  []float64     // seconds
	}{
		{"crash loop", 0, time.Second, []float64{0, 10, 20, 40, 80, 160, 300, 300, 300}},
		{"with a delay", 5 * time.Second, time.Second, []float64{5, 10, 20, 40}},
		{"with a long delay", 30 * time.Second, time.Second, []float64{30, 30, 30, 40, 80, 160, 300, 300}},
		{"with a very long delay", 400 * time.Second, time.Second, []float64{400, 400, 400}},
		{"runs of just under 10 min", 0, StableAfter - time.Second, []float64{0, 10, 20, 40, 80, 160, 300}},
		{"runs of 10 min", 0, StableAfter, []float64{0, 0, 0, 0}},
		{"a negative delay is none", -time.Second, time.Second, []float64{0, 10}},
	} {
		var b Backoff
		ended := t0
		for i, want := range c.want {
			due := b.Due(ended, ended.Add(time.Millisecond), c.delay)
			if got := due.Sub(ended).Seconds(); got != want {
				t.Errorf("%s: restart %d waits %vs, want %v", c.name, i+1, got, want)
			}
			b = b.Restarted(ended, due)
			ended = due.Add(c.runs)
		}
	}
}

func TestBackoffSurvivesItsKeeper(t *testing.T) {
	b := Backoff{}.Restarted(t0, t0).Restarted(sec(1), sec(11)).Restarted(sec(12), sec(32))
	text, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	var got Backoff
	if err := json.Unmarshal(text, &got); err != nil || got.Restarts != b.Restarts || !got.Last.Equal(b.Last) {
		t.Fatalf("%s read back as %+v (%v)", text, got, err)
	}
	if wait := got.Due(sec(33), sec(34), 0).Sub(sec(33)); wait != 40*time.Second {
		t.Errorf("the fourth restart waits %v after the keeper came back", wait)
	}
}

// Fault 34: a clock that was set back does not make a replica wait for the old time.
func TestBackoffAfterTheClockWasSetBack(t *testing.T) {
	b := Backoff{}.Restarted(t0, t0)
	now := t0.Add(-time.Hour)
	if due := b.Due(sec(5), now, 0); due.Sub(now) != FirstWait {
		t.Errorf("due %v after now, want %v", due.Sub(now), FirstWait)
	}
}

// The wait never shrinks in a loop, and is within its bounds.
func TestBackoffProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var b Backoff
		delay := time.Duration(rapid.Int64Range(0, int64(10*time.Minute)).Draw(t, "delay"))
		ended, last := t0, time.Duration(-1)
		for range rapid.IntRange(1, 40).Draw(t, "restarts") {
			wait := b.Wait(ended, delay)
			if wait < 0 || wait > max(MaxWait, delay) || wait < last {
				t.Fatalf("wait %v after %v with %d restarts", wait, last, b.Restarts)
			}
			at := ended.Add(wait)
			b, last = b.Restarted(ended, at), wait
			ended = at.Add(time.Duration(rapid.Int64Range(0, int64(StableAfter)-1).Draw(t, "run")))
		}
	})
}
