package daemon

import (
	"strings"
	"testing"
	"time"

	"github.com/berth-dev/berth/internal/api"
	"github.com/berth-dev/berth/internal/reconcile"
	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime/fake"
)

// TestOthersFailures: a command about some services hears of no others' failures,
// and one about all hears of every one.
func TestOthersFailures(t *testing.T) {
	simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
		s.engine.AddImage("crash", fake.Image{Workload: fake.Workload{Main: func(*fake.Process) int { return 3 }}})
		job := svc("job", 1, policy(stack.RestartPolicy{Condition: "on-failure", MaxAttempts: 1}))
		job.Spec.Image = "crash"
		st := shop(svc("web", 1, after("db", stack.Started)), svc("db", 1), job)

		complains := func(what string, acc api.Accepted, want bool) {
			t.Helper()
			failed := s.settle(acc)
			if got := strings.Contains(strings.Join(failed, "; "), "shop-job-1"); got != want || len(failed) > 1 {
				t.Errorf("%s: complaints %q, of the job: %t", what, failed, want)
			}
		}
		act := func(op string, services ...string) api.Accepted {
			t.Helper()
			acc, err := s.d.act(s.ctx, "shop", &api.ActionRequest{Op: op, Services: services})
			if err != nil {
				t.Fatal(err)
			}
			return acc
		}
		s.settle(s.up(st))
		time.Sleep(time.Minute) // the job is not tried again
		complains("unpause", act("unpause"), true)
		complains("unpause job", act("unpause", "job"), true)
		complains("unpause web", act("unpause", "web"), false)
		complains("stop db", act("stop", "db"), false)
		complains("start web", act("start", "web"), false)
		complains("up web", s.up(st, func(r *api.UpRequest) { r.Services = []string{"web"} }), false)

		_, err := s.d.createOneOff(s.ctx, &api.OneOffRequest{
			Up:     api.UpRequest{Stack: st},
			OneOff: reconcile.OneOff{Service: "web", Spec: st.Service("web").Spec},
		})
		if err != nil {
			t.Errorf("run beside the failed job: %v", err)
		}
	})
}
