package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-dev/berth/internal/api"
)

// Never more than the bound are let in, and urgent ones pass the ordinary.
func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(2)
		var mu sync.Mutex // protects order
		var order []string
		pass := func(name string, urgent bool) {
			go func() {
				if err := g.enter(t.Context(), urgent); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				order = append(order, name)
				mu.Unlock()
				time.Sleep(time.Second)
				g.leave()
			}()
			synctest.Wait()
		}
		pass("a", false)
		time.Sleep(500 * time.Millisecond)
		pass("b", false)
		pass("c", false)
		pass("d", false)
		pass("urgent", true)
		mu.Lock()
		if len(order) != 2 {
			t.Errorf("%v are inside, want 2", order)
		}
		mu.Unlock()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if got := fmt.Sprint(order); got != "[a b urgent c d]" {
			t.Errorf("order %s", got)
		}
		if g.free != 2 {
			t.Errorf("%d places are free in the end", g.free)
		}
	})
}

// Who gives up in the queue takes no place along.
func TestGateGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(1)
		if err := g.enter(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- g.enter(ctx, true) }()
		synctest.Wait()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("err = %v", err)
		}
		g.leave()
		if err := g.enter(t.Context(), false); err != nil {
			t.Error(err)
		}
	})
}

// Fault 5: one lock, whoever asks; a file that is left over is no obstacle.
func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	if err := os.WriteFile(path, []byte("12345"), 0o600); err != nil {
		t.Fatal(err)
	}
	unlock, err := acquire(path)
	if err != nil {
		t.Fatalf("a stale lock file refuses: %v", err)
	}
	if _, err := acquire(path); !errors.Is(err, ErrRunning) {
		t.Errorf("a second lock: %v, want ErrRunning", err)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	again, err := acquire(path)
	if err != nil {
		t.Fatalf("the lock was let go of, yet: %v", err)
	}
	if err := again(); err != nil {
		t.Error(err)
	}
}

// Who follows from a turn on misses nothing of it, however late, and a turn
// that is long gone gives what is still there.
func TestFeedReplays(t *testing.T) {
	f := newFeed()
	f.publish(api.Event{Status: "before"})
	f.begin(1)
	f.publish(api.Event{Status: "one"})
	f.begin(2)
	f.publish(api.Event{Status: "two"})
	for turn, want := range map[uint64]int{1: 2, 2: 1, 0: 0} {
		if events, _, _, _ := f.since(f.position(turn)); len(events) != want {
			t.Errorf("turn %d replays %d events, want %d", turn, len(events), want)
		}
	}
	for range 3 * feedSize {
		f.publish(api.Event{})
	}
	events, next, _, _ := f.since(f.position(1))
	if len(events) > feedSize || len(events) < feedSize/2 || next != uint64(3*feedSize+3) {
		t.Errorf("%d events of %d are kept", len(events), next)
	}
	_, _, _, more := f.since(next)
	f.conclude(outcome{settled: true})
	select {
	case <-more:
	default:
		t.Error("a follower is not woken")
	}
}

func TestOutcomeReached(t *testing.T) {
	for name, c := range map[string]struct {
		o     outcome
		turn  uint64
		until string
		about scope
		done  bool
		says  int
	}{
		"an older turn":           {o: outcome{turn: 1, settled: true}, turn: 2, until: "settled"},
		"still moving":            {o: outcome{turn: 2}, turn: 2, until: "settled"},
		"settled":                 {o: outcome{turn: 2, settled: true}, turn: 2, until: "settled", done: true},
		"settled with failures":   {o: outcome{turn: 2, settled: true, failed: []finding{{"web", "x"}}}, turn: 2, until: "settled", done: true, says: 1},
		"settled, not yet ready":  {o: outcome{turn: 2, settled: true, unready: map[string]bool{"web": true}}, turn: 2, until: "ready"},
		"ready":                   {o: outcome{turn: 2, settled: true}, turn: 2, until: "ready", done: true},
		"never ready":             {o: outcome{turn: 2, settled: true, notReady: []finding{{"web", "x"}}}, turn: 2, until: "ready", done: true, says: 1},
		"gone":                    {o: outcome{turn: 2, gone: true}, turn: 2, until: "settled", done: true},
		"another's failure":       {o: outcome{turn: 2, settled: true, failed: []finding{{"web", "x"}}}, turn: 2, until: "settled", about: scope{"db": true}, done: true},
		"another is not ready":    {o: outcome{turn: 2, settled: true, unready: map[string]bool{"web": true}, notReady: []finding{{"web", "x"}}}, turn: 2, until: "ready", about: scope{"db": true}, done: true},
		"the stack's own failure": {o: outcome{turn: 2, settled: true, failed: []finding{{"", "x"}}}, turn: 2, until: "settled", about: scope{"db": true}, done: true, says: 1},
		"nothing is waited for":   {o: outcome{turn: 2, gone: true, settled: true}, turn: 2},
	} {
		if done, says := c.o.reached(c.turn, c.until, c.about); done != c.done || len(says) != c.says {
			t.Errorf("%s: done %v, says %v", name, done, says)
		}
	}
}
