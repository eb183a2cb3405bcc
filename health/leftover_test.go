package health

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-dev/berth/runtime"
)

// stuck is a machine on which no command ends, nor can be ended before a time.
type stuck struct {
	until time.Time
	sent  atomic.Int64
	tried atomic.Int64
	after error
}

func (s *stuck) Exec(ctx context.Context, _ string, _ []string, limit Limit) (int, []byte, error) {
	s.sent.Add(1)
	select {
	case <-time.After(limit.Time):
	case <-ctx.Done():
	}
	return 0, []byte("half"), &StillRuns{After: s.after, Err: errors.New("1 process is left"), End: func(context.Context) error {
		s.tried.Add(1)
		if time.Now().Before(s.until) {
			return errors.New("1 process is still left")
		}
		return nil
	}}
}

// probes has a prober ask by a command each second and returns its status after d.
func (s *stuck) probes(t *testing.T, d time.Duration) Status {
	t.Helper()
	p := New(Config{Checks: &Checkers{Exec: s}})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = p.Run(ctx) }()
	defer func() { cancel(); <-done }()
	p.Set("shop/web/1", Target{Container: "c1", State: runtime.Running, Started: time.Now()}, Probes{
		Liveness: &Probe{Exec: &Exec{Command: []string{"check"}}, Period: time.Second, Timeout: time.Second, FailureThreshold: 3},
	})
	time.Sleep(d)
	synctest.Wait()
	st, _ := p.Status("shop/web/1")
	return st
}

// A probe is held back while its predecessor may still run, and says so; that is
// no failure.
func TestAProbeWaitsForItsPredecessor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stuck{until: time.Now().Add(20500 * time.Millisecond), after: ErrTimeout}
		st := s.probes(t, 10*time.Second)
		if n := s.sent.Load(); n != 1 || st.Liveness.Run != 1 {
			t.Errorf("%d were sent, %d count", n, st.Liveness.Run)
		}
		last := st.Liveness.Results[0].Output
		if want := "timed out after 1s, and may still run, since it cannot be ended (1 process is left): half"; last != want {
			t.Errorf("%q, want %q", last, want)
		}
		until := s.until.Add(-20500*time.Millisecond + time.Second + leftTime).Local().Format(time.TimeOnly)
		if want := fmt.Sprintf("held back until %s at most: the command before may still run, since it cannot be ended: 1 process is still left", until); st.Liveness.Error != want {
			t.Errorf("%q, want %q", st.Liveness.Error, want)
		}
	})
}

func TestAProbeGoesOnOnceItsPredecessorIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stuck{until: time.Now().Add(20500 * time.Millisecond), after: ErrTimeout}
		st := s.probes(t, 21500*time.Millisecond)
		if n := s.sent.Load(); n != 2 || st.Liveness.State != Success {
			t.Errorf("%d were sent, %s", n, st.Liveness.State)
		}
	})
}

// What never ends is waited for once a minute, so that the container is judged.
func TestAProbeWaitsForItsPredecessorInVainOnlySoLong(t *testing.T) {
	for name, after := range map[string]error{"timed out": ErrTimeout, "engine away": errors.New("no answer")} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &stuck{until: time.Now().Add(time.Hour), after: after}
				st := s.probes(t, 3*leftTime)
				if n := s.sent.Load(); n != 3 {
					t.Errorf("%d were sent within three minutes", n)
				}
				if failed := st.Liveness.State == Failure; failed != errors.Is(after, ErrTimeout) {
					t.Errorf("%s after %d failures", st.Liveness.State, st.Liveness.Run)
				}
				if n := s.tried.Load(); n > 3*tries*int64(leftTime/time.Second) {
					t.Errorf("%d attempts to end it", n)
				}
			})
		})
	}
}

// What is known of commands in containers that are gone does not pile up.
func TestLeftoversDoNotPileUp(t *testing.T) {
	var l leftovers
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range 100 {
		l.note(leftover{container: fmt.Sprint(i)}, fmt.Errorf("run: %w", &StillRuns{After: ErrTimeout, Err: errors.New("left")}), at.Add(time.Duration(i)*leftTime))
	}
	if len(l.left) > 2 {
		t.Errorf("%d are remembered", len(l.left))
	}
	l.note(leftover{container: "c"}, errors.New("not one"), at)
	if _, ok := l.left[leftover{container: "c"}]; ok {
		t.Error("an ordinary error is remembered")
	}
	if text := (&StillRuns{After: ErrTimeout, Err: errors.New("left")}).Error(); !strings.Contains(text, ErrTimeout.Error()) || !strings.Contains(text, "left") {
		t.Error(text)
	}
}
