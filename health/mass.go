package health

import (
	"cmp"
	"fmt"
	"iter"
	"time"
)

// Mass says when so many replicas of the machine begin to fail together that
// the cause is taken to be the machine: failures of startup and liveness are then
// held. Readiness is not: it kills nobody. Zero values are defaults.
type Mass struct {
	Share   int           // percent of the replicas that had passed a probe; more than it must fail. Default 50
	AtLeast int           // replicas that must fail. Default 4
	Window  time.Duration // within which of each other they must have begun to. Default 30 s
	Longest time.Duration // for which a failure is held. Default 2 min
}

// The defaults of a [Mass]. Four replicas are the least number of which more
// than half is more than what one bad service of two has; the window is three
// default periods; the longest hold outlasts a busy start of the machine, yet
// a common fault of the applications still ends in restarts.
const (
	DefaultMassShare   = 50
	DefaultMassAtLeast = 4
	DefaultMassWindow  = 30 * time.Second
	DefaultMassLongest = 2 * time.Minute
)

func (m Mass) withDefaults() Mass {
	return Mass{
		Share:   cmp.Or(m.Share, DefaultMassShare),
		AtLeast: cmp.Or(m.AtLeast, DefaultMassAtLeast),
		Window:  cmp.Or(m.Window, DefaultMassWindow),
		Longest: cmp.Or(m.Longest, DefaultMassLongest),
	}
}

// hold returns why the failure of a role of the replica self, whose first one in
// a row was sent at a time, is not acted on; empty: it is. all are the statuses
// of the machine, self among them. A replica that has never passed a probe counts
// neither way: a new one that fails is no news.
func (m Mass) hold(all iter.Seq[*Status], self *Status, r Role, from, now time.Time) string {
	if since := self.track(r).HeldFrom; !since.IsZero() && now.Sub(since) >= m.Longest {
		return ""
	}
	known, failing := 0, 0
	for s := range all {
		passed, fails := s.standing(from, m.Window)
		if passed {
			known++
		}
		if fails || passed && s == self {
			failing++
		}
	}
	if failing < m.AtLeast || failing*100 <= known*m.Share {
		return ""
	}
	return fmt.Sprintf("held: %d of %d replicas of this machine began to fail within %s, so the machine is suspected; for %s at most",
		failing, known, m.Window, m.Longest)
}

// standing reports whether the replica has passed a probe in this run, and
// whether one that had passed began to fail within a window around a time.
func (s *Status) standing(from time.Time, window time.Duration) (passed, fails bool) {
	if s.Phase != Running {
		return false, false
	}
	for _, r := range Roles() {
		t := s.track(r)
		if t.Passed.IsZero() {
			continue
		}
		passed = true
		fails = fails || t.Last == Failure && t.From.Sub(from).Abs() <= window
	}
	return passed, fails
}
