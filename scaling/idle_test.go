package scaling_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/berth-dev/berth/scaling"
)

func TestIdle(t *testing.T) {
	const after = 10 * time.Minute
	ago := func(d time.Duration) time.Time { return noon.Add(-d) }
	tests := []struct {
		name     string
		activity scaling.Activity
		want     scaling.IdleDecision
	}{
		{"unknown", scaling.Activity{}, scaling.IdleDecision{Reason: "nothing is known of its use"}},
		{"open", scaling.Activity{Last: ago(time.Hour), Open: 2}, scaling.IdleDecision{Reason: "in use: 2 open"}},
		{"waiting", scaling.Activity{Last: ago(time.Hour), Waiting: true}, scaling.IdleDecision{Reason: "somebody waits for it"}},
		{"busy", scaling.Activity{Last: ago(time.Hour), Busy: "a rollout is under way"}, scaling.IdleDecision{Idle: time.Hour, Reason: "a rollout is under way"}},
		{"just before", scaling.Activity{Last: ago(after - time.Second)},
			scaling.IdleDecision{Idle: after - time.Second, Next: noon.Add(time.Second), Reason: "not used for 9m59s, rests after 10m0s"}},
		{"on the dot", scaling.Activity{Last: ago(after)}, scaling.IdleDecision{Rest: true, Do: scaling.IdlePause, Idle: after, Reason: "not used for 10m0s"}},
		{"for a part of a second more", scaling.Activity{Last: ago(after + time.Second/3)}, scaling.IdleDecision{Rest: true, Do: scaling.IdlePause, Idle: after + time.Second/3, Reason: "not used for 10m0s"}},
		{"in the future", scaling.Activity{Last: ago(-time.Hour)}, scaling.IdleDecision{Next: noon.Add(after), Reason: "not used for 0s, rests after 10m0s"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := (scaling.Idle{After: after, Do: scaling.IdlePause}).Decide(tt.activity, noon); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestIdleValidate(t *testing.T) {
	tests := []struct {
		idle scaling.Idle
		want string
	}{
		{scaling.Idle{After: 1, Do: scaling.IdleStop}, "[]"},
		{scaling.Idle{Do: scaling.IdleThrottle}, "[after: is 0s: give more than 0]"},
		{scaling.Idle{After: 1, Do: "sleep"}, `[do: is "sleep": give stop, pause or throttle]`},
	}
	for _, tt := range tests {
		if got := fmt.Sprint(tt.idle.Validate()); got != tt.want {
			t.Errorf("got %s, want %s", got, tt.want)
		}
	}
}
