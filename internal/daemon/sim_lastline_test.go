package daemon

import (
	"strings"
	"testing"
	"time"

	"github.com/berth-dev/berth/internal/stack"
	"github.com/berth-dev/berth/runtime"
	"github.com/berth-dev/berth/runtime/fake"
)

// A rollout that fails says what the failed container wrote last, whatever
// follows; an engine that does not tell holds it up for two seconds at most.
func TestFailedRolloutQuotesTheLastLine(t *testing.T) {
	const said = "panic: cannot open /etc/x"
	bad := fake.Exit(400*time.Millisecond, 3)
	bad.Output, bad.Errors = []string{"starting"}, []string{said + "\x1b[0m", "  "}
	for name, c := range map[string]struct {
		edit  func(*stack.Update)
		fault *fake.Fault
		want  string
		alone bool // there is one replica, so that its end is a failure by itself
	}{
		"it goes back":             {edit: rollsBack, want: "exited (3) after 0.4 s: " + said},
		"the only one":             {edit: rollsBack, fault: &fake.Fault{Op: "logs", Hang: true}, want: "exited (3) after 0.4 s", alone: true},
		"it pauses":                {edit: func(*stack.Update) {}, want: "exited (3) after 0.4 s: " + said},
		"the engine hangs":         {edit: rollsBack, fault: &fake.Fault{Op: "logs", Hang: true}, want: "exited (3) after 0.4 s"},
		"the engine does not know": {edit: rollsBack, fault: &fake.Fault{Op: "logs", Kind: runtime.KindNotFound}, want: "exited (3) after 0.4 s"},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, fake.Options{}, func(t *testing.T, s *sim) {
				s.engine.AddImage("app:2", fake.Image{})
				replicas := 3
				if c.alone {
					replicas = 1
				}
				s.settled(s.up(shop(svc("web", replicas, rolls("1", c.edit)))))
				s.engine.Script("app:2", bad)
				if c.fault != nil {
					s.engine.Inject(*c.fault)
				}
				turn := s.up(shop(svc("web", replicas, rolls("2", c.edit), image("app:2"))))
				begun := time.Now()
				all, err := s.await(turn, "ready", time.Minute)
				if err != nil {
					t.Fatal(err)
				}
				failed := strings.Join(all, "; ")
				if took := time.Since(begun); took > 5*time.Second {
					t.Errorf("it took %s to fail", took)
				}
				if !strings.Contains(failed, "paused") && !strings.Contains(failed, "rolled back") {
					t.Errorf("up ended before anything followed: %s", failed)
				}
				pass(time.Second)
				r := s.rolloutOf("web")
				why := ""
				if r.RolledBack != nil {
					why = r.RolledBack.Why
				} else if r.Rollout != nil {
					why = r.Rollout.Why
				}
				for who, text := range map[string]string{"up": failed, "rollout status": why} {
					if !strings.Contains(text, c.want) || strings.Contains(text, "\x1b") {
						t.Errorf("%s says %q, want %q in it", who, text, c.want)
					}
					if c.fault != nil && strings.Contains(text, said) {
						t.Errorf("%s knows what nobody could read: %q", who, text)
					}
				}
			})
		})
	}
}

func TestLastLine(t *testing.T) {
	long := strings.Repeat("ä", 150)
	for in, want := range map[string]string{
		"":                       "",
		"\n \t\n":                "",
		"one\ntwo\n\n":           "two",
		"one\r\ntwo\x1b[31m\r\n": "two [31m",
		long:                     strings.Repeat("ä", 98) + "…",
	} {
		if got := lastLine(in); got != want || len(got) > lastLineMost {
			t.Errorf("lastLine(%q) = %q, want %q", in, got, want)
		}
	}
}
