// Package timetable lets the policy of a service follow the clock: more replicas
// in office hours, none at night.
//
// It is a package of its own so that [scaling] needs the standard library only:
// cron expressions are read by a library, which is asked about wall-clock time
// alone. What a change of the clock makes of that is decided here.
package timetable

import (
	"errors"
	"fmt"
	"strings"
	"time"

	cron "github.com/netresearch/go-cron"

	"github.com/berth-dev/berth/scaling"
)

// Schedule changes a policy at certain times. It applies from when it fires until
// any schedule of the same service fires.
type Schedule struct {
	Name string `json:"name"`
	// Cron is minute, hour, day of month, month and day of week, or one of @hourly,
	// @daily, @weekly, @monthly and @yearly. Where both days are restricted, either
	// is enough, as cron has always had it.
	Cron     string `json:"cron"`
	TimeZone string `json:"timeZone,omitempty"` // of the IANA database; UTC
	// At least one of these is set. Replicas stands alone: whatever is measured has
	// no say while it applies.
	Min      *int `json:"min,omitempty"`
	Max      *int `json:"max,omitempty"`
	Replicas *int `json:"replicas,omitempty"`
}

// Table is the schedules of one service, made by [Parse]. The zero
// value has none.
type Table struct {
	lines []line
}

type line struct {
	schedule Schedule
	calendar *cron.SpecSchedule // of wall-clock time, which it is told as if it were UTC
	zone     *time.Location
}

// Parse reads the schedules of a service. It returns everything that is
// wrong with them, each with the path of the field. Time zones are looked up in
// the database of the system.
func Parse(schedules []Schedule) (Table, []error) {
	var t Table
	var errs faults
	for i, s := range schedules {
		path := fmt.Sprintf("schedules[%d]", i)
		calendar, err := parseCron(s.Cron)
		errs.check(err == nil, "%s.cron: %q: %v", path, s.Cron, err)
		zone, err := time.LoadLocation(s.TimeZone)
		errs.check(err == nil && s.TimeZone != "Local", "%s.timeZone: %q is not known: give a name like Europe/Berlin", path, s.TimeZone)
		errs.numbers(path, s)
		t.lines = append(t.lines, line{s, calendar, zone})
	}
	if len(errs) > 0 {
		return Table{}, errs
	}
	return t, nil
}

// faults are what is wrong with some schedules.
type faults []error

func (f *faults) check(ok bool, format string, args ...any) {
	if !ok {
		*f = append(*f, fmt.Errorf(format, args...))
	}
}

// otherwise is what an optional number stands for.
func otherwise(n *int, value int) int {
	if n == nil {
		return value
	}
	return *n
}

func (f *faults) numbers(path string, s Schedule) {
	f.check(s.Min != nil || s.Max != nil || s.Replicas != nil, "%s: changes nothing: give min, max or replicas", path)
	f.check(s.Replicas == nil || s.Min == nil && s.Max == nil, "%s.replicas: stands beside min or max: give one or the other", path)
	least, fixed := otherwise(s.Min, 0), otherwise(s.Replicas, 0)
	f.check(least >= 0 && least <= scaling.MaxReplicas, "%s.min: is %d: give 0 to %d", path, least, scaling.MaxReplicas)
	f.check(fixed >= 0 && fixed <= scaling.MaxReplicas, "%s.replicas: is %d: give 0 to %d", path, fixed, scaling.MaxReplicas)
	most := otherwise(s.Max, scaling.MaxReplicas)
	f.check(most >= 1 && most <= scaling.MaxReplicas, "%s.max: is %d: give 1 to %d", path, most, scaling.MaxReplicas)
	f.check(least <= most, "%s.min: is above max", path)
}

func parseCron(text string) (*cron.SpecSchedule, error) {
	if strings.Contains(text, "=") {
		return nil, errors.New("the time zone has a field of its own")
	}
	parser, err := cron.TryNewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor | cron.DowOrDom)
	if err != nil {
		return nil, err
	}
	parsed, err := parser.Parse(text)
	if err != nil {
		return nil, err
	}
	calendar, ok := parsed.(*cron.SpecSchedule)
	if !ok {
		return nil, errors.New("an interval has no beginning that a restart would keep: give the minutes, as in */10 * * * *")
	}
	calendar.Location = time.UTC
	if calendar.Next(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return nil, errors.New("never comes")
	}
	return calendar, nil
}

// Firing is a schedule that applies.
type Firing struct {
	Schedule Schedule  `json:"schedule"`
	At       time.Time `json:"at"`   // when it fired
	Next     time.Time `json:"next"` // when any schedule of the service fires
}

// Active returns the schedule that fired last, at the time given or before; of
// those that fired together the one that stands last. It looks at nothing but the
// time: who was not there when a schedule fired is told the same, and what was
// missed more than once counts once.
//
// Wall-clock time that a change to summer time leaves out has come when the
// change has; time that comes twice counts the first time.
func (t Table) Active(now time.Time) (Firing, bool) {
	var f Firing
	found := false
	for _, l := range t.lines {
		last, next := l.around(now)
		if !last.IsZero() && !last.Before(f.At) {
			f.Schedule, f.At, found = l.schedule, last, true
		}
		if !next.IsZero() && (f.Next.IsZero() || next.Before(f.Next)) {
			f.Next = next
		}
	}
	return f, found
}

// around returns the last firing that is not after now, and the next one; either
// is zero where there is none within five years.
func (l *line) around(now time.Time) (last, next time.Time) {
	local := now.In(l.zone)
	_, offset := local.Zone()
	wall := local.UTC().Add(time.Duration(offset) * time.Second)
	w := wall.Add(repeated(local) + time.Second)
	for {
		// Prev is strictly before; what is shown now has come.
		if w = l.calendar.Prev(w); w.IsZero() {
			return time.Time{}, l.instant(l.calendar.Next(wall))
		}
		if at := l.instant(w); !at.After(now) {
			return at, l.instant(l.calendar.Next(w))
		}
	}
}

// repeated is by how much the clock was set back, while it shows for the second
// time what it has shown before; otherwise 0. What it showed in between is over,
// though it is later on the wall.
func repeated(local time.Time) time.Duration {
	start, _ := local.ZoneBounds()
	if start.IsZero() {
		return 0
	}
	_, offset := local.Zone()
	_, before := start.Add(-1).Zone()
	if by := time.Duration(before-offset) * time.Second; local.Sub(start) < by {
		return by
	}
	return 0
}

// instant is when a wall clock of the zone first shows w, or has passed it.
func (l *line) instant(w time.Time) time.Time {
	if w.IsZero() {
		return w
	}
	t := time.Date(w.Year(), w.Month(), w.Day(), w.Hour(), w.Minute(), 0, 0, l.zone)
	_, offset := t.Zone()
	start, end := t.ZoneBounds()
	shown := t.UTC().Add(time.Duration(offset) * time.Second)
	switch {
	case shown.After(w): // w is left out, and t is after the change
		return start
	case shown.Before(w):
		return end
	case start.IsZero():
		return t
	}
	_, before := start.Add(-1).Zone()
	if first := t.Add(time.Duration(offset-before) * time.Second); first.Before(start) && before > offset {
		return first
	}
	return t
}

// Apply returns the policy as the schedule changes it. A minimum above the
// policy's maximum raises that too, and a maximum below the minimum lowers it.
func (f Firing) Apply(p scaling.Policy) scaling.Policy {
	s := f.Schedule
	if s.Replicas != nil {
		p.Fixed = s.Replicas
		return p
	}
	if s.Max != nil {
		p.Max = *s.Max
		p.Min = new(min(otherwise(p.Min, 1), p.Max))
	}
	if s.Min != nil {
		p.Min = s.Min
		p.Max = max(p.Max, *s.Min)
	}
	return p
}

// String is the schedule in a few words.
func (f Firing) String() string {
	s := f.Schedule
	var what []string
	for _, n := range []struct {
		name  string
		value *int
	}{{"min", s.Min}, {"max", s.Max}, {"replicas", s.Replicas}} {
		if n.value != nil {
			what = append(what, fmt.Sprintf("%s %d", n.name, *n.value))
		}
	}
	return fmt.Sprintf("schedule %s (%s) since %s: %s", s.Name, s.Cron, f.At.Format(time.RFC3339), strings.Join(what, ", "))
}
