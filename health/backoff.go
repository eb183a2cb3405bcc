package health

import "time"

// The steps of the crash-loop backoff, Kubernetes' own: the second restart in a
// row waits FirstWait, each later one twice as long up to MaxWait, and
// StableAfter without a restart forgets them all.
const (
	FirstWait   = 10 * time.Second
	MaxWait     = 300 * time.Second
	StableAfter = 10 * time.Minute
)

// Backoff remembers the restarts of one replica, so that a crash loop slows
// down. It is a value that is kept with the state, so it survives the daemon.
// The zero value has seen no restart.
type Backoff struct {
	Restarts int       `json:"restarts,omitempty"` // in a row
	Last     time.Time `json:"last,omitzero"`      // the last of them
}

// settled returns the backoff with its restarts forgotten where the run that
// ended at a time began long enough before.
func (b Backoff) settled(ended time.Time) Backoff {
	if ended.Sub(b.Last) >= StableAfter {
		return Backoff{}
	}
	return b
}

// Wait is how long after its end the next restart is: nothing for the first,
// then FirstWait doubled up to MaxWait. delay, which
// deploy.restart_policy gives, takes the first one's place and is the least
// for each later one; 0: none is given.
func (b Backoff) Wait(ended time.Time, delay time.Duration) time.Duration {
	b = b.settled(ended)
	delay = max(0, delay)
	if b.Restarts <= 0 {
		return delay
	}
	wait := FirstWait
	for range b.Restarts - 1 {
		if wait *= 2; wait >= MaxWait {
			wait = MaxWait
			break
		}
	}
	return max(wait, delay)
}

// Due returns when the replica whose last run ended at a time is restarted. It
// is never further from now than [Backoff.Wait], whatever the clock did since.
func (b Backoff) Due(ended, now time.Time, delay time.Duration) time.Time {
	if ended.After(now) {
		ended = now
	}
	return ended.Add(b.Wait(ended, delay))
}

// Restarted returns the backoff after a restart now of the run that ended at a
// time. A restart that is nobody's failure, such as after the engine's own
// end, is not told to it.
func (b Backoff) Restarted(ended, now time.Time) Backoff {
	b = b.settled(ended)
	return Backoff{Restarts: b.Restarts + 1, Last: now}
}
