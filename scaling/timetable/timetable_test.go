package timetable_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/berth-dev/berth/scaling"
	"github.com/berth-dev/berth/scaling/timetable"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func parse(t *testing.T, schedules ...timetable.Schedule) timetable.Table {
	t.Helper()
	table, errs := timetable.Parse(schedules)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	return table
}

func TestActiveSchedule(t *testing.T) {
	office := parse(t,
		timetable.Schedule{Name: "day", Cron: "0 8 * * mon-fri", TimeZone: "Europe/Berlin", Min: new(5)},
		timetable.Schedule{Name: "night", Cron: "0 20 * * *", TimeZone: "Europe/Berlin", Replicas: new(1)},
		timetable.Schedule{Name: "sale", Cron: "0 8 27 11 *", TimeZone: "Europe/Berlin", Min: new(20)},
	)
	tests := []struct{ at, want, since, next string }{
		{"2026-11-24T07:59:59+01:00", "night", "2026-11-23T20:00:00+01:00", "2026-11-24T08:00:00+01:00"},
		{"2026-11-24T08:00:00+01:00", "day", "2026-11-24T08:00:00+01:00", "2026-11-24T20:00:00+01:00"},
		{"2026-11-24T08:00:00.5+01:00", "day", "2026-11-24T08:00:00+01:00", "2026-11-24T20:00:00+01:00"},
		{"2026-11-24T19:59:00Z", "night", "2026-11-24T20:00:00+01:00", "2026-11-25T08:00:00+01:00"},
		{"2026-11-27T08:00:00+01:00", "sale", "2026-11-27T08:00:00+01:00", "2026-11-27T20:00:00+01:00"}, // the last of those together
		{"2026-11-29T12:00:00+01:00", "night", "2026-11-28T20:00:00+01:00", "2026-11-29T20:00:00+01:00"},
		{"1970-01-01T00:00:00Z", "night", "1969-12-31T20:00:00+01:00", "1970-01-01T08:00:00+01:00"},
	}
	for _, tt := range tests {
		at, _ := time.Parse(time.RFC3339, tt.at)
		f, ok := office.Active(at)
		since, _ := time.Parse(time.RFC3339, tt.since)
		next, _ := time.Parse(time.RFC3339, tt.next)
		if !ok || f.Schedule.Name != tt.want || !f.At.Equal(since) || !f.Next.Equal(next) {
			t.Errorf("%s: got %v next %s, want %s since %s next %s", tt.at, f, f.Next, tt.want, tt.since, tt.next)
		}
	}
	if f, ok := (timetable.Table{}).Active(noon); ok {
		t.Errorf("no schedules, but got %v", f)
	}
}

// Time that does not come has come when the clock is past it; time that comes
// twice counts the first time.
func TestScheduleAcrossSummerTime(t *testing.T) {
	tests := []struct{ cron, zone, after, want string }{
		{"30 2 * * *", "Europe/Berlin", "2026-03-29T00:00:00+01:00", "2026-03-29T03:00:00+02:00"},
		{"0 2 * * *", "Europe/Berlin", "2026-03-29T00:00:00+01:00", "2026-03-29T03:00:00+02:00"},
		{"0 3 * * *", "Europe/Berlin", "2026-03-29T00:00:00+01:00", "2026-03-29T03:00:00+02:00"},
		{"30 2 * * *", "Europe/Berlin", "2026-10-25T00:00:00+02:00", "2026-10-25T02:30:00+02:00"},
		{"30 2 * * *", "Europe/Berlin", "2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"}, // not once more
		{"0 3 * * *", "Europe/Berlin", "2026-10-25T00:00:00+02:00", "2026-10-25T03:00:00+01:00"},
		{"30 2 * * *", "America/New_York", "2026-03-08T00:00:00-05:00", "2026-03-08T03:00:00-04:00"},
		{"30 1 * * *", "America/New_York", "2026-11-01T00:00:00-04:00", "2026-11-01T01:30:00-04:00"},
		{"15 2 * * *", "Australia/Lord_Howe", "2026-10-04T00:00:00+10:30", "2026-10-04T02:30:00+11:00"}, // half an hour
		{"45 1 * * *", "Australia/Lord_Howe", "2026-04-05T00:00:00+11:00", "2026-04-05T01:45:00+11:00"},
		{"0 0 * * *", "America/Santiago", "2026-09-05T12:00:00-04:00", "2026-09-06T01:00:00-03:00"}, // no midnight
		{"0 12 30 12 *", "Pacific/Apia", "2011-12-29T12:00:00-10:00", "2011-12-31T00:00:00+14:00"},  // no such day
	}
	for _, tt := range tests {
		table := parse(t, timetable.Schedule{Name: "x", Cron: tt.cron, TimeZone: tt.zone, Min: new(1)})
		after, _ := time.Parse(time.RFC3339, tt.after)
		want, _ := time.Parse(time.RFC3339, tt.want)
		f, _ := table.Active(after)
		if !f.Next.Equal(want) {
			t.Errorf("%s in %s after %s: got %s, want %s", tt.cron, tt.zone, tt.after, f.Next, tt.want)
		}
		if f, _ = table.Active(want); !f.At.Equal(want) {
			t.Errorf("%s in %s at %s: got %s", tt.cron, tt.zone, tt.want, f.At)
		}
		if f, _ = table.Active(want.Add(-1)); !f.At.Before(want) {
			t.Errorf("%s in %s just before %s: got %s", tt.cron, tt.zone, tt.want, f.At)
		}
	}
}

// Looked at every minute over the days around changes of the clock, a schedule
// fires as often as its wall-clock time comes, and what was next comes true.
func TestScheduleMinuteByMinute(t *testing.T) {
	changes := map[string][2][2]int{ // month and day before the clock changes
		"UTC": {{2, 27}, {12, 30}}, "Europe/Berlin": {{3, 28}, {10, 24}}, "America/New_York": {{3, 7}, {10, 31}}, "Australia/Lord_Howe": {{4, 4}, {10, 3}},
	}
	for zone, days := range changes {
		loc, err := time.LoadLocation(zone)
		if err != nil {
			t.Fatal(err)
		}
		for _, expr := range []string{"30 2 * * *", "*/20 * * * *", "0 0 * * *", "45 1-3 * * *", "0 8 * * mon"} {
			table := parse(t, timetable.Schedule{Name: "x", Cron: expr, TimeZone: zone, Min: new(1)})
			for _, md := range days {
				day := time.Date(2026, time.Month(md[0]), md[1], 0, 0, 0, 0, loc)
				shown := map[string]bool{} // wall-clock times that it has fired at
				last, _ := table.Active(day.Add(-time.Minute))
				for now := day; now.Before(day.Add(60 * time.Hour)); now = now.Add(time.Minute) {
					f, _ := table.Active(now)
					fires := now.Equal(last.Next)
					if !f.At.Equal(last.At) != fires || fires && !f.At.Equal(now) {
						t.Fatalf("%s in %s at %s: since %s, but before since %s, next %s", expr, zone, now, f.At, last.At, last.Next)
					}
					if wall := now.Format("02 15:04"); fires && shown[wall] {
						t.Fatalf("%s in %s: %s fired twice", expr, zone, wall)
					} else if fires {
						shown[wall] = true
					}
					last = f
				}
			}
		}
	}
}

// Eight hours asleep are one look at the timetable.
func TestScheduleMissedCountsOnce(t *testing.T) {
	table := parse(t,
		timetable.Schedule{Name: "up", Cron: "0 * * * *", Min: new(3)},
		timetable.Schedule{Name: "down", Cron: "30 * * * *", Replicas: new(0)},
	)
	policy := scaling.Policy{Max: 5}
	var state scaling.State
	current, changes := 5, 0
	for _, now := range []time.Time{noon.Add(35 * time.Minute), noon.Add(8*time.Hour + 10*time.Minute), noon.Add(8*time.Hour + 11*time.Minute)} {
		f, _ := table.Active(now)
		d, next := scaling.Decide(f.Apply(policy), state, scaling.Input{Current: current}, now)
		if d.Desired != current {
			changes++
		}
		current, state = d.Desired, next
	}
	if current != 3 || changes != 2 {
		t.Errorf("%d replicas after %d changes, want 3 after 2", current, changes)
	}
}

func TestScheduleApply(t *testing.T) {
	tests := []struct {
		schedule timetable.Schedule
		want     string
	}{
		{timetable.Schedule{Min: new(3)}, "3 to 5"},
		{timetable.Schedule{Min: new(8)}, "8 to 8"},
		{timetable.Schedule{Max: new(9)}, "2 to 9"},
		{timetable.Schedule{Max: new(1)}, "1 to 1"},
		{timetable.Schedule{Min: new(0), Max: new(4)}, "0 to 4"},
		{timetable.Schedule{Replicas: new(7)}, "7"},
	}
	for _, tt := range tests {
		p := timetable.Firing{Schedule: tt.schedule}.Apply(scaling.Policy{Min: new(2), Max: 5})
		got := fmt.Sprintf("%d to %d", *p.Min, p.Max)
		if p.Fixed != nil {
			got = fmt.Sprint(*p.Fixed)
		}
		if got != tt.want {
			t.Errorf("got %s, want %s", got, tt.want)
		}
	}
	f := timetable.Firing{Schedule: timetable.Schedule{Name: "day", Cron: "0 8 * * *", Min: new(1), Max: new(2)}, At: noon}
	if got, want := f.String(), "schedule day (0 8 * * *) since 2026-03-01T12:00:00Z: min 1, max 2"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestParseSchedules(t *testing.T) {
	tests := []struct {
		schedule timetable.Schedule
		want     string
	}{
		{timetable.Schedule{Cron: "61 * * * *", Min: new(1)}, `schedules[0].cron: "61 * * * *": `},
		{timetable.Schedule{Cron: "", Min: new(1)}, `schedules[0].cron: "": `},
		{timetable.Schedule{Cron: "* * * * * *", Min: new(1)}, `schedules[0].cron: "* * * * * *": `},
		{timetable.Schedule{Cron: "TZ=UTC", Min: new(1)}, `schedules[0].cron: "TZ=UTC": the time zone has a field of its own`},
		{timetable.Schedule{Cron: "@every 5m", Min: new(1)}, `schedules[0].cron: "@every 5m": an interval has no beginning`},
		{timetable.Schedule{Cron: "0 0 30 2 *", Min: new(1)}, `schedules[0].cron: "0 0 30 2 *": never comes`},
		{timetable.Schedule{Cron: "@daily", TimeZone: "Mars/Base", Min: new(1)}, `schedules[0].timeZone: "Mars/Base" is not known`},
		{timetable.Schedule{Cron: "@daily", TimeZone: "Local", Min: new(1)}, `schedules[0].timeZone: "Local" is not known`},
		{timetable.Schedule{Cron: "@daily"}, "schedules[0]: changes nothing"},
		{timetable.Schedule{Cron: "@daily", Min: new(1), Replicas: new(1)}, "schedules[0].replicas: stands beside min or max"},
		{timetable.Schedule{Cron: "@daily", Replicas: new(-1)}, "schedules[0].replicas: is -1: give 0 to 10000"},
		{timetable.Schedule{Cron: "@daily", Max: new(0)}, "schedules[0].max: is 0: give 1 to 10000"},
		{timetable.Schedule{Cron: "@daily", Min: new(3), Max: new(2)}, "schedules[0].min: is above max"},
	}
	for _, tt := range tests {
		_, errs := timetable.Parse([]timetable.Schedule{tt.schedule})
		if len(errs) != 1 || !strings.HasPrefix(errs[0].Error(), tt.want) {
			t.Errorf("%+v: got %v, want %s", tt.schedule, errs, tt.want)
		}
	}
}

// No expression panics or hangs, and what is accepted fires in order.
func FuzzSchedule(f *testing.F) {
	for _, s := range []string{"* * * * *", "0 8 * * mon-fri", "0 0 L * *", "0 0 * * fri#3", "59 23 29 2 *", "TZ=", "@yearly", "0 0 1W * *", "*/0 * * * *"} {
		f.Add(s, int64(1_774_746_000))
	}
	f.Fuzz(func(t *testing.T, expr string, unix int64) {
		table, errs := timetable.Parse([]timetable.Schedule{{Cron: expr, TimeZone: "Europe/Berlin", Min: new(1)}})
		if len(errs) > 0 {
			return
		}
		now := time.Unix(unix%(1<<33), 0)
		fired, ok := table.Active(now)
		if ok && (fired.At.After(now) || !fired.Next.IsZero() && !fired.Next.After(now)) {
			t.Fatalf("%q at %s: since %s, next %s", expr, now, fired.At, fired.Next)
		}
	})
}

func BenchmarkActive(b *testing.B) {
	table, _ := timetable.Parse([]timetable.Schedule{
		{Cron: "* * * * *", TimeZone: "Europe/Berlin", Min: new(5)},
		{Cron: "0 8 * * mon-fri", TimeZone: "Europe/Berlin", Min: new(5)},
		{Cron: "0 0 1 1 *", TimeZone: "America/New_York", Replicas: new(0)},
	})
	for b.Loop() {
		table.Active(noon)
	}
}
