package timetable_test

import (
	"fmt"
	"time"

	"github.com/berth-dev/berth/scaling"
	"github.com/berth-dev/berth/scaling/timetable"
)

// Whoever looks first after a night asleep finds the day's schedule in force.
func ExampleTable_Active() {
	table, faults := timetable.Parse([]timetable.Schedule{
		{Name: "day", Cron: "0 8 * * mon-fri", TimeZone: "Europe/Berlin", Min: new(5)},
		{Name: "night", Cron: "0 20 * * *", TimeZone: "Europe/Berlin", Replicas: new(0)},
	})
	for _, fault := range faults {
		fmt.Println(fault)
	}
	for _, now := range []string{"2026-03-02T22:00:00+01:00", "2026-03-03T09:30:00+01:00"} {
		at, err := time.Parse(time.RFC3339, now)
		if err != nil {
			fmt.Println(err)
		}
		f, _ := table.Active(at)
		p := f.Apply(scaling.Policy{Min: new(2), Max: 10})
		fmt.Println(f, "- fixed:", p.Fixed != nil, "min:", *p.Min)
	}
	// Output:
	// schedule night (0 20 * * *) since 2026-03-02T20:00:00+01:00: replicas 0 - fixed: true min: 2
	// schedule day (0 8 * * mon-fri) since 2026-03-03T08:00:00+01:00: min 5 - fixed: false min: 5
}
