package reconcile

import (
	"testing"

	"github.com/berth-dev/berth/runtime"
)

// Replicas that are kept warm are created, become ready, are paused, and are
// unpaused when more are wanted.
func TestWarm(t *testing.T) {
	warm := func(replicas int) *fixture {
		s := svc("web", replicas)
		s.Warm = 1
		return shop(s)
	}
	cases := []struct {
		name string
		f    *fixture
		want string
	}{
		{"one more is made", warm(1).has("web", 1, runtime.Running), "create web/2 shop-web-2 (1 are kept warm)"},
		{"it starts", warm(1).has("web", 1, runtime.Running).has("web", 2, runtime.Created), "start web/2 shop-web-2 (created, not started)"},
		{"it is paused once it is ready", warm(1).has("web", 1, runtime.Running).has("web", 2, runtime.Running), "pause web/2 shop-web-2 (kept warm)"},
		{"and stays so", warm(1).has("web", 1, runtime.Running).has("web", 2, runtime.Paused), ""},
		{
			"scaled up it is unpaused, and another one made",
			warm(2).has("web", 1, runtime.Running).has("web", 2, runtime.Paused),
			"unpause web/2 shop-web-2 (is to run)\ncreate web/3 shop-web-3 (1 are kept warm)",
		},
		{
			"scaled down the one too many is kept warm, and the spare goes",
			warm(1).has("web", 1, runtime.Running).has("web", 2, runtime.Running).has("web", 3, runtime.Paused),
			"pause web/2 shop-web-2 (kept warm)\nstop web/3 shop-web-3 (scaled to 1)",
		},
		{
			"an outdated one is made anew", warm(1).has("web", 1, runtime.Running).has("web", 2, runtime.Paused, revision("rev-old")),
			"stop web/2 shop-web-2 (changed since revision rev-old)",
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := squeeze(c.f.plan().String()); got != c.want {
				t.Errorf("plan:\n%s\nwant:\n%s", got, c.want)
			}
		})
	}
}
